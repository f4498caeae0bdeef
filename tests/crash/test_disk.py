"""The place where a run is recorded fails under it: the run ends with an error that says what and where, and never as
success; what was recorded is there, and the run goes on when the place does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dotflow_like

PACKAGE = str(Path(dotflow_like.__file__).parent.parent)
MODES = [
    "sequential",
    *(pytest.param(mode, marks=pytest.mark.crash) for mode in ("sequential_group", "background", "parallel")),
]
STORAGES = ["sqlite", "files"]

RUN = """
import ctypes, json, os, resource, shutil, sys, warnings
from dotflow_like import Manager, task

mode, url, resume, trouble, ledger = sys.argv[1:6]
place = sys.argv[6]
owner = os.getpid()

notes = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(name):
    here = notes if os.getpid() == owner else os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(here, name.encode() + bytes([10]))

def fill(left):  # the disk, but for so many bytes
    with open(place + "/filler", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(max(0, os.fstat(file.fileno()).st_size - left))

def limit(which, number):
    resource.prlimit(owner, which, (number, resource.prlimit(owner, which)[1]))

def hoard(number):
    while os.dup(notes) + 1 < number:
        pass

def happen():
    if trouble == "full":
        fill(0)
    elif trouble == "almost full":
        fill(100_000)
    elif trouble == "limit":
        limit(resource.RLIMIT_FSIZE, 150_000)
    elif trouble == "descriptors":
        # one that all that is open is below, with what was free below that taken
        number = 1 + max(map(int, os.listdir(f"/proc/{owner}/fd")))
        limit(resource.RLIMIT_NOFILE, number)
        if os.getpid() == owner:
            hoard(number)
    elif trouble == "deleted":
        shutil.rmtree(place)
    elif trouble == "replaced":
        for ending in ("", "-wal", "-shm"):
            os.unlink(place + "/runs.db" + ending)
        with open(place + "/runs.db", "wb"):
            pass
    elif trouble == "closed":
        for folder, _, _ in os.walk(place):
            os.chmod(folder, 0o500)

@task
def first() -> str:
    note("first")
    return "one"

@task
def second(given: str) -> str:
    note("second")
    happen()
    return given + "y" * 400_000

@task
def third(given: str) -> int:
    note("third")
    return len(given)

if trouble == "closed" and os.getuid() == 0:  # modes of files bind root only without these powers
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)()) == 0

warnings.simplefilter("error")
run = Manager.__new__(Manager)
told = {"error": None, "status": None, "first": None, "third": None}
try:
    run.__init__(
        [first, second.bind(given=first), third.bind(given=second)], mode=mode, storage=url, workflow_id="r",
        resume=resume == "resume", on_failure=lambda tasks: None, max_workers=1 if mode == "parallel" else None,
    )
    run.wait()
except Exception as error:
    told["error"] = [type(error).__name__, str(error)]
told["status"] = getattr(run, "status", None)
told["errors"] = [str(each.message) for task in getattr(run, "tasks", ()) for each in task.errors]
told["reason"] = getattr(run, "reason", None)
if trouble == "descriptors":
    limit(resource.RLIMIT_NOFILE, 1024)
for name in ("first", "third"):
    try:
        told[name] = run[name].result
    except Exception as error:
        told[name] = type(error).__name__
print(json.dumps(told))
"""

LOOK = """
import json, sys
from dotflow_like import Workflow, task
from dotflow_like.config import Config, open_journal
exec(sys.argv[2])
found = open_journal(Config(storage=sys.argv[1]), Workflow([])).tasks("r", ["first", "second", "third"])
print(json.dumps({key: record.checkpoints["result"].value.load() for key, record in found.items() if record.checkpoints}))
"""

Start = Callable[..., Any]


class Disk:
    """A disk of 4 MiB that only processes of its own see.

    Attributes:
        path: where it is mounted, for those processes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        is_root = os.getuid() == 0
        mount = f"mount -t tmpfs -o size=4m none '{path}' && echo ready && exec cat"
        command = ["unshare", *([] if is_root else ["-U", "-r"]), "-m", "sh", "-c", mount]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != "ready\n":
            self.close()
            pytest.skip("no disk can be mounted here")
        enter = ["nsenter", "-t", str(self._keeper.pid), "-m"]
        self.command = enter if is_root else [*enter, "-U", "--preserve-credentials"]

    def remount(self, how: str) -> None:
        subprocess.run(
            [*self.command, "mount", "-o", f"remount,{how}", str(self.path)], check=True, timeout=60
        )

    def close(self) -> None:
        self._keeper.kill()
        self._keeper.communicate()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if sys.platform != "linux" or not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("needs unshare and nsenter, to mount a disk")
    disk = Disk(tmp_path / "disk")
    yield disk
    disk.close()


class Place:
    """Where runs are recorded.

    Attributes:
        path: the folder.
        url: the storage.
        name: of its file or folder, as errors say it.
        ledger: notes which bodies ran; it is elsewhere.
    """

    def __init__(self, path: Path, storage: str, ledger: Path, command: list[str]) -> None:
        self.path = path
        self.ledger = ledger
        self.name = f"{path}/{'runs.db' if storage == 'sqlite' else 'files'}"
        self.url = f"sqlite:///{self.name}" if storage == "sqlite" else f"file://{self.name}"
        self._command = command

    def run(self, mode: str, resume: str = "", trouble: str = "") -> dict[str, Any]:
        return self._python(RUN, mode, self.url, resume, trouble, str(self.ledger), str(self.path))

    def look(self, setup: str = "") -> dict[str, Any]:
        """Return the results that are recorded, as another process finds them."""
        return self._python(LOOK, self.url, setup)

    def shell(self, command: str) -> None:
        subprocess.run([*self._command, "sh", "-c", command], check=True, timeout=60)

    def ran(self) -> list[str]:
        return self.ledger.read_text().split() if self.ledger.exists() else []

    def _python(self, code: str, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [*self._command, sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": PACKAGE},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found


@pytest.fixture(params=STORAGES)
def on_disk(request: pytest.FixtureRequest, disk: Disk, tmp_path: Path) -> Place:
    """A place on a small disk of its own."""
    return Place(disk.path, request.param, tmp_path / "ledger", disk.command)


@pytest.fixture(params=STORAGES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place in a folder."""
    (tmp_path / "place").mkdir()
    return Place(tmp_path / "place", request.param, tmp_path / "ledger", [])


def check_failed(place: Place, told: dict[str, Any], *words: str) -> None:
    kind, message = told["error"]
    assert kind == "StorageError"
    assert place.name in message
    assert any(word in message for word in words), message
    assert told["status"] == "failed"
    assert told["reason"] == f"StorageError: {message}"
    assert told["third"] is None
    assert place.ran() == ["first", "second"]


def check_resumed(place: Place, mode: str) -> None:
    done = place.run(mode, "resume")
    assert (done["error"], done["status"], done["first"], done["third"]) == (
        None,
        "completed",
        "one",
        400_003,
    )
    assert place.ran().count("first") == 1
    assert place.ran()[-2:] == ["second", "third"]
    assert place.look()["third"] == 400_003


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("trouble", ["full", "almost full"])
def test_a_disk_that_is_full(on_disk: Place, mode: str, trouble: str) -> None:
    check_failed(on_disk, on_disk.run(mode, trouble=trouble), "no space is left", "No space left on device")
    assert on_disk.look() == {"first": "one"}
    for _ in range(4):  # nobody died: so often one may try
        told = on_disk.run(mode, "resume")
        assert told["error"][0] == "StorageError"
        assert told["status"] != "completed"
        if trouble == "full":
            break
    on_disk.shell(f"rm {on_disk.path}/filler")
    check_resumed(on_disk, mode)


def test_a_disk_that_is_full_from_the_beginning(on_disk: Place) -> None:
    on_disk.shell(f"dd if=/dev/zero of={on_disk.path}/filler 2>/dev/null || true")
    told = on_disk.run("sequential")
    assert told["error"][0] == "StorageError"
    assert on_disk.name in told["error"][1]
    assert on_disk.ran() == []
    on_disk.shell(f"rm {on_disk.path}/filler")
    assert on_disk.run("sequential")["third"] == 400_003


@pytest.mark.parametrize("mode", MODES)
def test_a_medium_that_is_only_to_be_read(on_disk: Place, disk: Disk, mode: str) -> None:
    assert on_disk.run(mode)["status"] == "completed"
    disk.remount("ro")
    ran = on_disk.ran()
    again = on_disk.run(mode, "resume")
    assert (again["error"], again["status"], again["third"]) == (None, "completed", 400_003)
    assert on_disk.ran() == ran
    assert on_disk.look()["third"] == 400_003
    over = on_disk.run(mode)
    assert over["error"][0] in ("StorageError", "DotflowWarning")
    assert on_disk.ran() == ran
    disk.remount("rw")
    assert on_disk.run(mode, "resume")["status"] == "completed"


@pytest.mark.parametrize("mode", MODES)
def test_a_limit_of_the_size_of_files(place: Place, mode: str) -> None:
    told = place.run(mode, trouble="limit")
    check_failed(
        place, told, "the limit of the size of files is 150,000 bytes here", "File too large (EFBIG)"
    )
    assert told["first"] == "one"
    assert place.look() == {"first": "one"}
    check_resumed(place, mode)


@pytest.mark.parametrize("mode", MODES)
def test_no_descriptor_is_left(place: Place, mode: str) -> None:
    told = place.run(mode, trouble="descriptors")
    if told["status"] == "completed":  # what it needs was open before
        assert (told["error"], told["third"]) == (None, 400_003)
        return
    if told["error"] is None:  # what the worker sent could not be taken
        assert mode == "parallel"
        assert told["errors"]
        assert told["third"] is None
    else:
        check_failed(place, told, "Too many open files")
    assert place.look() == {"first": "one"}
    check_resumed(place, mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_that_is_deleted(place: Place, mode: str) -> None:
    told = place.run(mode, trouble="deleted")
    if told["error"] is None:  # files are put into a new folder, but what came before is gone
        assert place.name.endswith("files")
        assert told["status"] != "completed" or place.look()["third"] == 400_003
        return
    kind, message = told["error"]
    assert kind in ("StorageError", "CorruptCheckpoint")
    assert told["status"] == "failed"
    if place.name.endswith("runs.db"):
        assert f"cannot write '{place.name}': " in message
        assert told["first"] == "one"  # it is open still
        assert not place.path.exists()
    assert place.run(mode, "resume")["third"] == 400_003


@pytest.mark.parametrize("mode", MODES)
def test_a_database_that_is_replaced(tmp_path: Path, mode: str) -> None:
    (tmp_path / "place").mkdir()
    place = Place(tmp_path / "place", "sqlite", tmp_path / "ledger", [])
    check_failed(
        place, place.run(mode, trouble="replaced"), "the file was deleted or replaced while it was in use"
    )
    assert Path(place.name).read_bytes() == b""
    assert place.run(mode, "resume")["third"] == 400_003


@pytest.mark.parametrize("mode", MODES)
def test_a_folder_that_may_not_be_written_any_more(place: Place, mode: str) -> None:
    told = place.run(mode, trouble="closed")
    try:
        if told["error"] is None:  # a database that is open is not hindered
            assert (told["status"], told["third"]) == ("completed", 400_003)
            assert place.look()["third"] == 400_003
            return
        check_failed(place, told, "Permission denied (EACCES)")
        assert place.look() == {"first": "one"}
    finally:
        for folder, _, _ in os.walk(place.path):
            Path(folder).chmod(0o700)
    check_resumed(place, mode)
