"""The kernel locks of runs: real processes race, are killed, and leave others behind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from dotflow_like.errors import RunInProgress, StorageError
from dotflow_like.record.locks import RunLocks
from dotflow_like.testing import FakeClock

Start = Callable[..., "subprocess.Popen[str]"]
Own = Callable[..., "tuple[subprocess.Popen[str], int]"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc about processes")

SINCE = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
SOON = 1.5  # seconds: shorter than the patience for what a dead owner left behind
PATIENCE = 2.0

# Takes the lock, does what it is told, and says that it has it.
OWNER = """
import os, signal, subprocess, sys, time
from dotflow_like.record.locks import RunLocks
lock = RunLocks(sys.argv[1]).take("run", f"{os.uname().nodename}:{os.getpid()}:abcd")
child = 0
exec(sys.argv[2])
print(child, flush=True)
time.sleep(600)
"""
FORK = """
child = os.fork()
if child == 0:
    os.setsid()
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "locks"


@pytest.fixture
def locks(folder: Path) -> RunLocks:
    return RunLocks(folder)


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts a process with a program text; it is killed with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for each in started:
        each.kill()
        each.communicate()


@pytest.fixture
def own(start: Start, folder: Path) -> Iterator[Own]:
    """A function that starts an owner of `run`; it returns that and the number of the child it has told of."""
    children: list[int] = []

    def begin(then: str = "") -> tuple[subprocess.Popen[str], int]:
        owner = start(OWNER, folder, then)
        assert owner.stdout is not None
        children.append(int(owner.stdout.readline()))
        return owner, children[-1]

    yield begin
    for each in filter(None, children):
        end(each)


def end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def refused(locks: RunLocks, workflow_id: str = "run") -> tuple[str, float]:
    """Return what a taker is told, and the seconds that took."""
    before = time.monotonic()
    with pytest.raises(RunInProgress) as caught:
        locks.take(workflow_id, "me")
    return str(caught.value), time.monotonic() - before


def tell(file: Path, **changes: object) -> None:
    """Change what the file of a lock says."""
    file.write_text(json.dumps(json.loads(file.read_text()) | changes) + "\n")


# One owner at a time


def test_nothing_is_made_before_a_lock_is_taken(locks: RunLocks, folder: Path) -> None:
    assert locks.holder("run") is None
    assert not folder.exists()


def test_folders_and_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        (tmp_path / "there").mkdir(mode=0o755)
        lock = RunLocks(tmp_path / "there" / "a" / "b").take("run", "me")
    finally:
        os.umask(before)
    folders = [tmp_path / "there" / name for name in (".", "a", "a/b")]
    assert [stat.S_IMODE(each.stat().st_mode) for each in folders] == [0o755, 0o700, 0o700]
    assert stat.S_IMODE(only_file(folders[-1]).stat().st_mode) == 0o600
    lock.release()


def test_the_file_tells_who_has_the_run(locks: RunLocks, folder: Path) -> None:
    east = timezone(timedelta(hours=5))
    lock = locks.take("run", "h:1:2", SINCE.astimezone(east))
    told = json.loads(only_file(folder).read_text())
    assert (told["run"], told["owner"], told["pid"]) == ("run", "h:1:2", os.getpid())
    assert told["host"] == os.uname().nodename
    assert told["since"] == "2024-05-06T07:08:09+00:00"
    assert locks.holder("run") == ("h:1:2", os.uname().nodename, os.getpid(), SINCE, True)
    lock.release()


def test_since_when_is_by_the_clock_of_the_run(locks: RunLocks) -> None:
    with FakeClock(SINCE) as clock:
        clock.advance(60)
        lock = locks.take("run", "me")
    holder = locks.holder("run")
    assert holder is not None
    assert holder.since == SINCE + timedelta(seconds=60)
    lock.release()


def test_a_lock_given_back_leaves_no_file_and_can_be_taken_again(locks: RunLocks, folder: Path) -> None:
    for _ in range(3):
        lock = locks.take("run", "me")
        assert only_file(folder).exists()
        lock.release()
        assert list(folder.iterdir()) == []
        assert locks.holder("run") is None


def test_giving_back_twice_does_not_take_it_from_the_next_owner(locks: RunLocks) -> None:
    first = locks.take("run", "first")
    first.release()
    second = locks.take("run", "second")
    first.release()
    assert "second" in refused(locks)[0]
    second.release()


def test_a_lock_that_nobody_has_any_more_is_given_back(locks: RunLocks, folder: Path) -> None:
    """A Ctrl-C may come before its taker has put it anywhere."""
    lock = locks.take("run", "me")
    del lock
    assert locks.holder("run") is None
    assert list(folder.iterdir()) == []


def test_one_process_cannot_take_a_run_twice(locks: RunLocks, folder: Path) -> None:
    lock = locks.take("run", "first")
    said: list[tuple[str, float]] = []
    thread = threading.Thread(target=lambda: said.append(refused(RunLocks(folder))))
    thread.start()
    thread.join()
    for message, seconds in (*said, refused(locks)):
        assert "'run' is in progress in this process: its owner is first" in message
        assert seconds < SOON
    lock.release()


def test_another_process_is_told_at_once_who_has_it_and_since_when(locks: RunLocks, own: Own) -> None:
    owner, _ = own()
    message, seconds = refused(locks)
    assert seconds < SOON
    holder = locks.holder("run")
    assert holder is not None
    assert (holder.host, holder.pid, holder.alive) == (os.uname().nodename, owner.pid, True)
    assert abs(holder.since - datetime.now(UTC)) < timedelta(minutes=5)
    since = holder.since.isoformat(timespec="seconds")
    assert f"its owner is {holder.owner} (pid {owner.pid} on {holder.host}, since {since});" in message
    assert "wait until that has ended" in message


@pytest.mark.parametrize(
    "workflow_id", ["", "../up", "a/b", "a\0b", "\ud800", "ü" * 5000, "CON", "2024-05-06T07:08:09"]
)
def test_any_id_has_a_file_of_its_own(locks: RunLocks, folder: Path, workflow_id: str) -> None:
    held = [locks.take(each, "me") for each in ("run", workflow_id, workflow_id + " ", "RUN")]
    assert len(list(folder.iterdir())) == 4
    message, seconds = refused(locks, workflow_id)
    assert repr(workflow_id) in message
    assert seconds < SOON
    for each in held:
        each.release()


def test_a_folder_is_the_one_that_was_meant_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    locks = RunLocks("locks")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    lock = locks.take("run", "me")
    assert only_file(tmp_path / "locks").exists()
    monkeypatch.chdir(tmp_path)
    lock.release()
    assert list((tmp_path / "locks").iterdir()) == []


# Owners that are killed


def test_the_run_of_a_killed_process_can_be_taken_at_once(locks: RunLocks, folder: Path, own: Own) -> None:
    owner, _ = own()
    kill(owner)
    assert only_file(folder).exists(), "nobody was left to remove it"
    assert locks.holder("run") is None
    before = time.monotonic()
    lock = locks.take("run", "next")
    assert time.monotonic() - before < 0.5
    assert "next" in refused(locks)[0]
    lock.release()


@linux
def test_while_an_orphan_of_a_dead_owner_works_nobody_takes_its_run(locks: RunLocks, own: Own) -> None:
    owner, child = own(FORK)
    kill(owner)
    message, seconds = refused(locks)
    assert seconds >= PATIENCE
    assert f"(pid {owner.pid} on" in message
    assert "has ended" in message
    assert f"; process {child} (" in message
    assert f" ({sys.executable} "[:70] in message, "the beginning of its command line"
    holder = locks.holder("run")
    assert holder is not None
    assert (holder.pid, holder.alive) == (owner.pid, False)


def test_a_taker_waits_for_the_end_of_orphans(locks: RunLocks, own: Own) -> None:
    owner, child = own(FORK)
    kill(owner)
    before = time.monotonic()
    timer = threading.Timer(0.2, end, (child,))
    timer.start()
    lock = locks.take("run", "next")
    assert time.monotonic() - before >= 0.2
    timer.join()
    lock.release()


@linux
def test_an_owner_nobody_has_waited_for_is_dead(locks: RunLocks, own: Own) -> None:
    owner, child = own(FORK)
    owner.kill()
    os.waitid(os.P_PID, owner.pid, os.WEXITED | os.WNOWAIT)
    holder = locks.holder("run")
    assert holder is not None
    assert not holder.alive
    timer = threading.Timer(0.2, end, (child,))
    timer.start()
    locks.take("run", "next").release()
    timer.join()


@linux
def test_an_owner_is_dead_from_the_moment_it_is_killed(locks: RunLocks, own: Own) -> None:
    names = [f"run {number}" for number in range(6)]
    owners = [own(f"lock.release(); lock = RunLocks(sys.argv[1]).take({name!r}, 'it')")[0] for name in names]
    for name, owner in zip(names, owners, strict=True):
        owner.kill()
        locks.take(name, "next").release()


@linux
def test_an_owner_that_is_being_taken_down_is_dead(locks: RunLocks, own: Own) -> None:
    """The memory of a process goes before its files: of a large one that takes longer than to look."""
    owner, _ = own("memory = b'x' * (400 << 20)")
    path = Path(f"/proc/{owner.pid}/stat")
    owner.kill()
    while not int(path.read_text().rpartition(")")[2].split()[6]) & 4:
        pass
    locks.take("run", "next").release()


@linux
def test_another_process_with_the_number_of_the_owner_is_not_the_owner(
    locks: RunLocks, folder: Path, own: Own
) -> None:
    own()
    told = json.loads(only_file(folder).read_text())
    tell(only_file(folder), started=told["started"] - 1)
    holder = locks.holder("run")
    assert holder is not None
    assert not holder.alive


def test_those_who_look_do_not_take_each_other_for_owners(locks: RunLocks, folder: Path, own: Own) -> None:
    owner, _ = own()
    kill(owner)
    with only_file(folder).open() as looked_at:
        fcntl.flock(looked_at, fcntl.LOCK_SH)
        assert locks.holder("run") is None


# Files that do not tell, or tell of strangers


def with_(**changes: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes) + "\n"


@pytest.mark.parametrize(
    "damaged",
    [
        *(
            lambda _, other=other: other
            for other in ("", "\n", "[1]\n", "null\n", '{"pid": 1}\n', "\0", "7\n")
        ),
        lambda text: text[:-1],
        lambda text: text[:100],
        lambda text: text[5:],
        with_(pid=0),
        with_(pid=-1),
        with_(pid=10**30),
        with_(pid="1"),
        with_(pid=True),
        with_(started="1"),
        with_(owner=None),
        with_(since="never"),
        with_(since="2024-05-06T07:08:09"),
        with_(since=5),
        with_(more=1),
    ],
)
def test_what_makes_no_sense_is_read_again(
    locks: RunLocks, folder: Path, damaged: Callable[[str], str]
) -> None:
    lock = locks.take("run", "me")
    file = only_file(folder)
    sound = file.read_text()
    file.write_text(damaged(sound))
    timer = threading.Timer(0.05, file.write_text, (sound,))
    timer.start()
    message, seconds = refused(locks)
    assert "its owner is me" in message
    assert 0.04 < seconds < SOON
    timer.join()
    lock.release()


@linux
def test_a_lock_whose_file_tells_nothing_is_not_taken(locks: RunLocks, folder: Path, own: Own) -> None:
    owner, _ = own()
    only_file(folder).write_bytes(b"\xff")
    message, seconds = refused(locks)
    assert seconds >= PATIENCE
    assert f"not told in '{only_file(folder)}'" in message
    assert f"; process {owner.pid} (" in message
    holder = locks.holder("run")
    assert holder is not None
    assert (holder.owner, holder.pid, holder.alive) == ("unknown", 0, True)


@pytest.mark.parametrize("pid", [os.getpid(), 2**31 - 1])
def test_an_owner_in_another_container_or_machine_is_not_judged_by_numbers_of_this_one(
    locks: RunLocks, folder: Path, pid: int
) -> None:
    lock = locks.take("run", "me")
    tell(only_file(folder), machine="another", host="far", pid=pid)
    holder = locks.holder("run")
    assert holder is not None
    assert holder.alive
    message, seconds = refused(locks)
    assert seconds >= PATIENCE
    assert f"is in progress: its owner is me (pid {pid} on far, since" in message
    assert "in another container or on another machine" in message
    lock.release()
    locks.take("run", "next").release()


@linux
def test_another_pid_namespace_is_another_container(start: Start, locks: RunLocks, folder: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("namespaces cannot be made here")
    unshare = [
        "unshare",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        sys.executable,
        "-c",
        OWNER,
        str(folder),
        "",
    ]
    with subprocess.Popen(unshare, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdout is not None
        if not owner.stdout.readline():
            pytest.skip("namespaces cannot be made here")
        try:
            holder = locks.holder("run")
            assert holder is not None
            assert (holder.pid, holder.alive) == (1, True)
            assert refused(locks)[1] >= PATIENCE
        finally:
            owner.kill()


def test_a_file_that_was_removed_by_somebody_does_not_take_that_of_the_next_owner_along(
    locks: RunLocks, folder: Path
) -> None:
    first = locks.take("run", "first")
    only_file(folder).unlink()
    second = locks.take("run", "second")
    first.release()
    assert "second" in refused(locks)[0]
    second.release()


# Forks, and what else gets descriptors


def test_a_copy_in_a_fork_does_not_keep_the_lock_after_the_run(locks: RunLocks, own: Own) -> None:
    own(FORK + "lock.release()")
    locks.take("run", "next").release()


def test_a_fork_that_gives_the_lock_back_gives_only_its_copy(locks: RunLocks, own: Own) -> None:
    owner, _ = own("""
child = os.fork()
if child == 0:
    lock.release()
    os._exit(0)
os.waitpid(child, 0)
child = 0
""")
    assert f"pid {owner.pid} " in refused(locks)[0]


def test_programs_that_are_started_do_not_get_the_lock(locks: RunLocks, own: Own) -> None:
    owner, _ = own("child = subprocess.Popen(['sleep', '600'], close_fds=False, start_new_session=True).pid")
    kill(owner)
    before = time.monotonic()
    locks.take("run", "next").release()
    assert time.monotonic() - before < SOON


def test_a_descriptor_that_a_body_has_closed_is_left_to_its_new_file(
    locks: RunLocks, folder: Path, tmp_path: Path
) -> None:
    lock = locks.take("run", "me")
    os.close(lock.descriptor)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    if other != lock.descriptor:
        os.dup2(other, lock.descriptor)
        os.close(other)
    fcntl.flock(lock.descriptor, fcntl.LOCK_EX)
    lock.release()
    os.fstat(lock.descriptor)
    with (tmp_path / "other").open() as again, pytest.raises(BlockingIOError):
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(lock.descriptor)
    locks.take("run", "next").release()


def test_nothing_stays_open(locks: RunLocks, own: Own) -> None:
    def count() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    before = count()
    lock = locks.take("run", "me")
    for _ in range(20):
        refused(locks)
        locks.holder("run")
    assert count() == before + 1
    lock.release()
    for _ in range(20):
        locks.take("run", "me").release()
        locks.holder("run")
    assert count() == before


# Many at once

RACER = """
import sys, time
from dotflow_like.errors import RunInProgress
from dotflow_like.record.locks import RunLocks
locks = RunLocks(sys.argv[1])
print(flush=True)
for line in sys.stdin:
    before = time.monotonic()
    try:
        lock = locks.take(line, "me")
    except RunInProgress:
        lock = None
    print(lock is not None, time.monotonic() - before, flush=True)
    sys.stdin.readline()
    if lock is not None:
        lock.release()
"""


def test_of_eight_that_race_one_wins_and_the_others_know_at_once(start: Start, folder: Path) -> None:
    racers = [start(RACER, folder) for _ in range(8)]

    def say(text: str) -> None:
        for each in racers:
            assert each.stdin is not None
            each.stdin.write(text + "\n")
            each.stdin.flush()

    def hear() -> list[str]:
        return [each.stdout.readline() for each in racers if each.stdout is not None]

    hear()
    for number in range(40):
        say(f"run {number % 2}")  # a file that is new, and one that was there a moment ago
        said = [each.split() for each in hear()]
        assert sorted(won for won, _ in said) == ["False"] * 7 + ["True"]
        assert max(float(seconds) for _, seconds in said) < 1
        say("end")


STRESS = """
import os, random, sys, time
from dotflow_like.errors import RunInProgress
from dotflow_like.record.locks import RunLocks
folder, rounds = sys.argv[1], int(sys.argv[2])
locks, witness = RunLocks(folder), folder + "-witness"
choices = random.Random(os.getpid())
while rounds:
    if choices.random() < 0.2:
        locks.holder("run")
    try:
        lock = locks.take("run", "me")
    except RunInProgress:
        continue
    os.close(os.open(witness, os.O_CREAT | os.O_EXCL))  # fails if anybody else is here
    if choices.random() < 0.1:
        time.sleep(0)
    os.unlink(witness)
    if choices.random() < 0.05 and os.fork() == 0:
        os._exit(0)  # with a copy
    lock.release()
    rounds -= 1
print("done")
"""


def test_files_that_are_removed_and_made_all_the_time_never_let_two_in(start: Start, folder: Path) -> None:
    takers = [start(STRESS, folder, 300) for _ in range(6)]
    assert [each.communicate(timeout=100)[0] for each in takers] == ["done\n"] * 6
    assert list(folder.iterdir()) == []


def test_threads_of_one_process_never_have_it_together(locks: RunLocks) -> None:
    inside = 0
    most = 0
    taken = 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most, taken
        for _ in range(300):
            try:
                lock = locks.take("run", "me")
            except RunInProgress:
                continue
            with counting:
                inside += 1
                taken += 1
                most = max(most, inside)
            with counting:
                inside -= 1
            lock.release()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert most == 1
    assert taken


# Places that cannot be used


def test_a_place_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        locks = RunLocks(place)
        with pytest.raises(StorageError, match=rf"cannot lock '{place}/\w+': .*\(E(NOTDIR|EXIST)\)"):
            locks.take("run", "me")
        with pytest.raises(StorageError, match=rf"cannot read '{place}/\w+': .*ENOTDIR"):
            locks.holder("run")


def test_a_folder_that_cannot_be_written_is_named(start: Start) -> None:
    code = """
import os, sys
from dotflow_like.errors import StorageError
from dotflow_like.record.locks import RunLocks
if os.getuid() == 0:  # whom no permission binds
    os.setuid(65534)
for folder in (sys.argv[1], sys.argv[1] + "/below"):
    try:
        RunLocks(folder).take("run", "me")
    except StorageError as error:
        print(error)
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o555)
        said = start(code, place).communicate()[0].splitlines()
    assert [f"cannot lock '{place}/" in each and "EACCES" in each for each in said] == [True, True]


def test_a_lock_whose_file_cannot_be_removed_is_given_back_all_the_same(start: Start) -> None:
    code = """
import os, sys, time
from pathlib import Path
from dotflow_like.record.locks import RunLocks
if os.getuid() == 0:
    os.setuid(65534)
locks = RunLocks(sys.argv[1])
lock = locks.take("run", "first")
Path(sys.argv[1]).chmod(0o555)
child = os.fork()
if child == 0:
    time.sleep(600)  # with a copy
lock.release()
print([each.read_text() for each in Path(sys.argv[1]).iterdir()], locks.holder("run"))
lock = locks.take("run", "second")
print(locks.holder("run").owner)
os.kill(child, 9)
os.wait()
"""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o777)
        assert start(code, f"{place}/locks").communicate()[0].splitlines() == ["[''] None", "second"]
        (Path(place) / "locks").chmod(0o755)


LIMITED = """
import os, resource, sys
from dotflow_like.errors import StorageError
from dotflow_like.record.locks import RunLocks
locks = RunLocks(sys.argv[1])
kind, soft = getattr(resource, sys.argv[2]), int(sys.argv[3])
locks.take("other", "me").release()
before = sorted(os.listdir("/dev/fd"))
hard = resource.getrlimit(kind)[1]
resource.setrlimit(kind, (soft, hard))
try:
    locks.take("run", "me")
except StorageError as error:
    print(error)
resource.setrlimit(kind, (hard, hard))
assert sorted(os.listdir("/dev/fd")) == before
assert os.listdir(sys.argv[1]) == []
locks.take("run", "me").release()
print("fine")
"""


@pytest.mark.parametrize(
    ("limit", "most", "code"), [("RLIMIT_NOFILE", 3, "EMFILE"), ("RLIMIT_FSIZE", 50, "EFBIG")]
)
def test_what_the_system_refuses_is_named_and_leaves_nothing(
    start: Start, folder: Path, limit: str, most: int, code: str
) -> None:
    error, after = start(LIMITED, folder, limit, most).communicate()[0].splitlines()
    assert error.startswith(f"cannot lock '{folder}/")
    assert error.endswith(f"({code})")
    assert after == "fine"


def test_a_full_disk_is_named_and_leaves_nothing(start: Start, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(disk)]
    if subprocess.run(mount, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root can make a small disk")
    try:
        locks = RunLocks(disk / "locks")
        locks.take("run", "me").release()
        (disk / "full").write_bytes(bytes(4096))
        with pytest.raises(StorageError, match="ENOSPC"):
            locks.take("run", "me")
        assert list((disk / "locks").iterdir()) == []
        (disk / "full").unlink()
        locks.take("run", "me").release()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
