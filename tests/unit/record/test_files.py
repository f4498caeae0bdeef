from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dotflow_like
from dotflow_like.errors import ConfigError, StorageError
from dotflow_like.record.storage.files import FileStorage

PACKAGE = str(Path(dotflow_like.__file__).parent.parent)
START = """
import os, resource, sys
from dotflow_like.errors import StorageError
from dotflow_like.record.storage.files import FileStorage
storage = FileStorage(sys.argv[1], durability="process")
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Run `code` in a Python of its own, with `storage` at the first argument."""
    return subprocess.Popen(
        [sys.executable, "-c", START + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": PACKAGE},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], say: str | None = None) -> str:
    out, _ = process.communicate(say, timeout=30)
    assert process.returncode == 0
    return out


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "root"


@pytest.fixture
def storage(root: Path) -> FileStorage:
    return FileStorage(root, durability="process")


def files(root: Path) -> set[str]:
    """The files below `root` that are no locks."""
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith(".locks/")}


# from keys to files and back

texts = st.text(st.characters(exclude_categories=())) | st.text("aA/.%é\0\ud800", max_size=12)
parts = texts | st.sampled_from(
    ["", ".", "..", "con", "CON", "a.value", "%", "%%", "x" * 101, "X" * 50, "é" * 40]
)
keys = texts | st.lists(parts, max_size=12).map("/".join)


def file_of(key: str, root: str = "/root") -> str:
    return FileStorage(root)._locate(key)[0]


@given(keys)
def test_a_key_stays_inside_its_root(key: str) -> None:
    path = file_of(key)
    assert os.path.normpath(path) == path
    assert path.startswith("/root/")
    assert path.isascii()
    assert path.isprintable()
    assert path.lower() == path
    names = path.removeprefix("/root/").split("/")
    assert len(path) < 900
    for name in names:
        assert 0 < len(name) <= 106
        assert not name.startswith(".")
        assert not set(name) & set('\\:*?"<>| ')
        assert name.split(".")[0] not in ("con", "nul", "prn", "aux", "com1", "lpt9")
    # A folder is never named like a file, so `a` and `a/b` do not meet.
    assert names[-1].endswith((".value", ".keyed"))
    assert not any("." in name for name in names[:-1])


@given(keys, keys)
def test_distinct_keys_have_distinct_files(one: str, other: str) -> None:
    assert (file_of(one) == file_of(other)) is (one == other)


@given(st.sets(keys, max_size=8), keys)
def test_keys_gives_back_what_was_put(stored: set[str], prefix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        storage = FileStorage(folder, durability="process")
        for key in stored:
            storage.put(key, key.encode("utf-8", "surrogatepass"))
        assert sorted(storage.keys()) == sorted(stored)
        for start in {prefix, *(key[: len(key) // 2] for key in stored), *stored}:
            assert sorted(storage.keys(start)) == sorted(key for key in stored if key.startswith(start))
        for key in stored:
            assert storage.get(key) == key.encode("utf-8", "surrogatepass")
            assert storage.delete(key)
        assert files(Path(folder)) == set()
        left = {path.name for path in Path(folder).iterdir()}
        assert left <= {".locks", ".temp"}, "empty folders go too"


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("run/fetch", "run/fetch.value"),
        ("0f8fad5b-d9cb/checkpoints/fetch[0]", "0f8fad5b-d9cb/checkpoints/fetch[0].value"),
        ("run/task#2", "run/task#2.value"),
        ("Run 1/été.csv", "%52un%201/%c3%a9t%c3%a9%2ecsv.value"),
        ("/etc/passwd", "%/etc/passwd.value"),
        ("../a", "%2e%2e/a.value"),
        ("", "%.value"),
        ("a//", "a/%/%.value"),
        ("nul/con", "%6eul/%63on.value"),
        ("1/2/3/4/5/6/7/8/9", "1/2/3/4/5/6/7/8%2f9.value"),
    ],
)
def test_a_person_finds_the_way(storage: FileStorage, root: Path, key: str, path: str) -> None:
    storage.put(key, b"the value, as it is")
    assert files(root) == {path}
    assert (root / path).read_bytes() == b"the value, as it is"


def test_a_file_with_a_long_key_says_whose_it_is(storage: FileStorage, root: Path) -> None:
    storage.put("run/" + "Long\n" * 50, b"value")
    (name,) = files(root)
    assert name.startswith("run/%%")
    assert name.endswith(".keyed")
    assert (root / name).read_bytes() == b"run%2f" + b"%4cong%0a" * 50 + b"\nvalue"
    (root / name).write_bytes(b"")
    with pytest.raises(StorageError, match="does not begin with its key"):
        storage.get("run/" + "Long\n" * 50)
    with pytest.raises(StorageError, match="does not begin with its key"):
        list(storage.keys())


def test_what_others_put_there_is_no_key(storage: FileStorage, root: Path) -> None:
    storage.put("run/a", b"1")
    for name in (
        ".DS_Store",
        "README",
        "Name.value",
        "run/%ff.value",
        "run/%zz.value",
        "run/a.value.bak",
        "a%2fb.value",
    ):
        (root / name).write_bytes(b"?")
    (root / "%ff" / "%41b").mkdir(parents=True)
    (root / "Folder").mkdir()
    (root / "Folder" / "x.value").write_bytes(b"?")
    (root / "run" / "copy.keyed").write_bytes(b"x\nvalue")
    assert list(storage.keys()) == ["run/a"]
    storage.clear("")
    assert (root / "README").exists()


def test_keys_looks_only_where_it_must(
    storage: FileStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (
        "run1/a",
        "run1/deep/b",
        "run1/den/c/d",
        "run2/c",
        "Run 3/" + "l" * 200 + "/d",
        "1/2/3/4/5/6/7/8/9",
    ):
        storage.put(key, b"")
    looked: set[str] = set()
    real = os.scandir

    def scandir(folder: str) -> Any:
        looked.add(Path(folder).relative_to(root).as_posix())
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    for prefix, folders in {
        "run1/a": {"run1"},
        "run1/deep": {"run1", "run1/deep"},
        "run1/de": {"run1", "run1/deep", "run1/den", "run1/den/c"},
        "run1/deep/": {"run1/deep"},
        "run2/": {"run2"},
        "run3/": {"run3"},
        "Run 3/" + "l" * 200 + "/": {"%52un%203/" + file_of("l" * 200 + "/d").split("/")[2]},
        "1/2/3/4/5/6/7/8/9/10/": {"1/2/3/4/5/6/7"},
    }.items():
        looked.clear()
        list(storage.keys(prefix))
        assert looked == folders


# what it does to the disk


def test_constructing_and_reading_touch_nothing(storage: FileStorage, root: Path) -> None:
    assert storage.get("a") is None
    assert list(storage.keys()) == []
    assert storage.delete("a") is False
    assert storage.put("a", b"1", expected=b"0") is False
    storage.clear("")
    assert not root.parent.exists()


def test_only_the_owner_may_look(tmp_path: Path, root: Path, storage: FileStorage) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        storage.put("a/b", b"1")
        storage.put("a/" + "b" * 1000, b"1")
    finally:
        os.umask(before)
    for path in [root.parent, root, *root.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755, "what exists is left alone"


def test_it_is_made_again_when_it_was_removed(root: Path, storage: FileStorage) -> None:
    storage.put("a/b", b"1")
    subprocess.run(["rm", "-r", root], check=True)
    assert storage.get("a/b") is None
    storage.put("a/b", b"2", expected=None)
    assert storage.get("a/b") == b"2"


def test_leftovers_of_killed_writers(root: Path, storage: FileStorage) -> None:
    storage.put("a", b"1")
    old, young = root / ".temp" / "0123456789abcdef", root / ".temp" / "fedcba9876543210"
    for path in (old, young):
        path.write_bytes(b"half a val")
    os.utime(old, times=(time.time() - 3700,) * 2)
    fresh = FileStorage(root)
    assert list(fresh.keys()) == ["a"]
    fresh.put("b", b"2")
    assert files(root) == {"a.value", "b.value", ".temp/fedcba9876543210"}


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_full_durability_syncs_before_and_after_the_rename(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noted(name: str, path_of: Callable[[Any], str]) -> None:
        real = getattr(os, name)

        def call(*arguments: Any) -> Any:
            steps.append(f"{name} {Path(path_of(arguments[-1])).relative_to(root.parent.parent).as_posix()}")
            return real(*arguments)

        monkeypatch.setattr(os, name, call)

    FileStorage(root).put("other", b"")
    noted("fsync", lambda fd: str(Path(f"/proc/self/fd/{fd}").readlink()))
    noted("replace", str)
    noted("unlink", str)
    storage = FileStorage(root)
    assert storage.put("run/a", b"1", expected=None)
    assert steps[0].startswith("fsync parent/root/.temp/")
    assert "fsync parent/root" in steps, "the folder `run` is new in it"
    assert steps[-2:] == ["replace parent/root/run/a.value", "fsync parent/root/run"]
    steps.clear()
    assert storage.delete("run/a")
    assert steps == ["unlink parent/root/run/a.value", "fsync parent/root/run"]
    steps.clear()
    FileStorage(root, durability="process").put("run/a", b"1")
    assert not any(step.startswith("fsync") for step in steps)


def test_it_goes_to_another_process(root: Path, storage: FileStorage) -> None:
    storage.put("a", b"1")
    assert pickle.loads(pickle.dumps(storage)).get("a") == b"1"


def test_wrong_words() -> None:
    with pytest.raises(ConfigError, match=r"'maybe'.*'full' or 'process'"):
        FileStorage("x", durability="maybe")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="path of a folder"):
        FileStorage("")


# several processes


def test_processes_share_compare_and_set(root: Path) -> None:
    code = """
input()
for _ in range(250):
    while True:
        before = storage.get("n")
        if storage.put("n", b"%d" % (int(before or b"0") + 1), expected=before):
            break
"""
    processes = [start(code, root) for _ in range(4)]
    for process in processes:
        finish(process, "go\n")
    assert FileStorage(root).get("n") == b"1000"
    assert files(root) == {"n.value"}


def test_a_fork_does_not_share_its_parents_lock(root: Path) -> None:
    code = """
storage.put("n", b"0")
child = os.fork()
for _ in range(250):
    while True:
        before = storage.get("n")
        if storage.put("n", b"%d" % (int(before) + 1), expected=before):
            break
if child:
    assert os.waitpid(child, 0)[1] == 0
    print(storage.get("n").decode())
"""
    assert finish(start(code, root)) == "500\n"


def test_a_fork_does_not_keep_its_parents_lock(root: Path) -> None:
    code = """
import signal, time
with storage._locked("n"):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
signal.alarm(5)
storage.put("n", b"1")
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""
    finish(start(code, root))


WRITES: dict[str, Callable[[FileStorage], object]] = {
    "put": lambda storage: storage.put("a", b"2"),
    "compare": lambda storage: storage.put("a", b"2", expected=b"1"),
    "delete": lambda storage: storage.delete("a"),
}


@pytest.mark.parametrize("write", WRITES)
def test_writers_wait_for_one_another_and_readers_do_not(
    root: Path, storage: FileStorage, write: str
) -> None:
    storage.put("a", b"1")
    code = """
with storage._locked("a"):
    print("locked", flush=True)
    sys.stdin.read()
"""
    holder = start(code, root)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(WRITES[write], storage)
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        assert storage.get("a") == b"1"
        assert list(storage.keys()) == ["a"]
        if write == "delete":
            holder.kill()
            holder.communicate()
        else:
            finish(holder)
        assert waiting.result(10) is True


def test_a_delete_right_after_the_rename(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, other = FileStorage(root), FileStorage(root)
    real = FileStorage._locked

    @contextmanager
    def locked(key: str) -> Iterator[None]:
        with real(storage, key):
            yield
        assert other.delete(key)

    monkeypatch.setattr(storage, "_locked", locked)
    assert storage.put("run/a", b"1") is True
    assert not (root / "run").exists()


def test_a_killed_writer_leaves_whole_values(root: Path, storage: FileStorage) -> None:
    code = """
print("ready", flush=True)
for number in range(10**9):
    for key in ("a", "deep/b"):
        storage.put(key, bytes([number % 256]) * (1 + 100_000 * (number % 7)))
    storage.delete("deep/b")
"""
    for round_ in range(5):
        process = start(code, root)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05 + 0.013 * round_)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = set(storage.keys())
        assert found <= {"a", "deep/b"}
        for key in found:
            value = storage.get(key)
            assert value is not None
            assert value == value[:1] * len(value)
            assert len(value) in range(1, 600_002, 100_000)
        assert storage.put("a", b"the lock is free", expected=storage.get("a")) is True


# errors


def reason(caught: pytest.ExceptionInfo[StorageError]) -> int | None:
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert errno.errorcode[cause.errno or 0] in str(caught.value)
    return cause.errno


CALLS: dict[str, Callable[[FileStorage], object]] = {
    "get": lambda storage: storage.get("a/b"),
    "put": lambda storage: storage.put("a/b", b"2"),
    "compare": lambda storage: storage.put("a/b", b"2", expected=b"1"),
    "delete": lambda storage: storage.delete("a/b"),
    "keys": lambda storage: list(storage.keys("a/")),
    "clear": lambda storage: storage.clear(""),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_file_where_the_root_should_be(root: Path, storage: FileStorage, call: str) -> None:
    root.parent.mkdir()
    root.write_bytes(b"important")
    with pytest.raises(StorageError, match="root") as caught:
        CALLS[call](storage)
    assert reason(caught) == errno.ENOTDIR
    assert root.read_bytes() == b"important"


@pytest.mark.parametrize("call", CALLS)
def test_a_file_where_a_folder_should_be(root: Path, storage: FileStorage, call: str) -> None:
    storage.put("other", b"1")
    (root / "a").write_bytes(b"important")
    if call == "clear":  # finds no folder to look into
        return
    with pytest.raises(StorageError, match="root/a") as caught:
        CALLS[call](storage)
    assert reason(caught) == errno.ENOTDIR
    assert files(root) == {"a", "other.value"}


@pytest.mark.parametrize("call", ["get", "put", "compare", "delete"])
def test_a_folder_where_a_file_should_be(root: Path, storage: FileStorage, call: str) -> None:
    (root / "a" / "b.value").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"root/a/b\.value") as caught:
        CALLS[call](storage)
    assert reason(caught) in (errno.EISDIR, errno.EPERM)
    assert files(root) == set()


@pytest.mark.parametrize("call", CALLS)
def test_a_link_that_goes_round(root: Path, storage: FileStorage, call: str) -> None:
    root.parent.mkdir()
    root.symlink_to(root)
    with pytest.raises(StorageError, match="root") as caught:
        CALLS[call](storage)
    assert reason(caught) == errno.ELOOP


def test_a_folder_that_cannot_be_made() -> None:
    with pytest.raises(StorageError, match=r"/dev/null/root/a\.value"):
        FileStorage("/dev/null/root").put("a", b"")
    with pytest.raises(StorageError, match="/proc/root"):
        FileStorage("/proc/root").put("a", b"")


def test_a_full_disk_leaves_the_old_value(root: Path, storage: FileStorage) -> None:
    storage.put("a", b"old")
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for expected in ({}, {"expected": b"old"}):
    try:
        storage.put("a", b"x" * 100_000, **expected)
    except StorageError as error:
        print(error)
storage.put("b", b"x" * 50_000)
"""
    out = finish(start(code, root)).splitlines()
    assert len(out) == 2
    for line in out:
        assert f"{root}/a.value" in line
        assert "File too large (EFBIG)" in line
    assert storage.get("a") == b"old"
    assert files(root) == {"a.value", "b.value"}


def test_too_many_open_files(root: Path, storage: FileStorage) -> None:
    storage.put("a", b"old")
    code = """
resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for free in range(2):  # none, then one: enough to write the value, not to rename it under a lock as well
    for call in ('get("a")', 'put("a", b"new")', 'delete("a")', 'keys()'):
        try:
            answer = eval("storage." + call)
            print(list(answer) if call == "keys()" else answer)
        except StorageError as error:
            print(error)
    os.close(taken.pop())
"""
    out = finish(start(code, root))
    assert out.count("(EMFILE)") == 4
    assert out.splitlines()[4:] == ["b'old'", "True", "True", "[]"]


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that a user without rights can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_folder_one_may_not_write(open_to_all: Path) -> None:
    storage = FileStorage(open_to_all / "root", durability="process")
    storage.put("run/a", b"old")
    for path in open_to_all.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = """
import json
if os.getuid() == 0:  # whom no permission binds
    os.setuid(65534)
said = []
for call in ('put("run/a", b"new")', 'delete("run/a")', 'put("b", b"")'):
    try:
        said.append(str(eval("storage." + call)))
    except StorageError as error:
        said.append(str(error))
print(json.dumps([storage.get("run/a").decode(), list(storage.keys()), said]))
"""
    value, found, said = json.loads(finish(start(code, open_to_all / "root")))
    assert (value, found) == ("old", ["run/a"])
    for line in said:
        assert "Permission denied (EACCES)" in line
        assert str(open_to_all) in line
    assert storage.get("run/a") == b"old"
    for path in open_to_all.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
