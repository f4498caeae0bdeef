"""Locks of files that processes take from each other."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dotflow_like.errors import StorageError
from dotflow_like.record.file_lock import FileLock, holders, make_folder, try_lock, unlock

Start = Callable[..., "subprocess.Popen[str]"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc about processes")

HOLDER = """
import os, sys, time
from dotflow_like.record.file_lock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire(10)
child = os.fork() if "fork" in sys.argv else 0
if child or "fork" not in sys.argv:
    print(child, flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "folder" / "lock")


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts a process with a program text; it is killed with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(code: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]

    yield begin
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)  # what it has forked, too
        each.communicate()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def opened(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT)


def test_a_lock_is_one_descriptors_at_a_time(tmp_path: Path) -> None:
    first, second = opened(f"{tmp_path}/lock"), opened(f"{tmp_path}/lock")
    assert try_lock(first)
    assert not try_lock(second)
    assert not try_lock(second, shared=True)
    unlock(first)
    assert try_lock(second, shared=True)
    assert try_lock(first, shared=True)
    assert not try_lock(first)
    os.close(first)
    os.close(second)


def test_who_gives_a_lock_back_gives_it_back_for_copies(tmp_path: Path) -> None:
    first, second = opened(f"{tmp_path}/lock"), opened(f"{tmp_path}/lock")
    copy = os.dup(first)
    assert try_lock(first)
    os.close(first)
    assert not try_lock(second), "the copy holds it"
    unlock(copy)
    assert try_lock(second)
    os.close(copy)
    os.close(second)


def test_folders_and_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        make_folder(str(tmp_path / "there" / "a" / "b"))
        make_folder(str(tmp_path / "there"))
        lock = FileLock(str(tmp_path / "there" / "c" / "lock"))
        assert not (tmp_path / "there" / "c").exists()
        lock.acquire(1)
        lock.close()
    finally:
        os.umask(before)
    modes = {name: (tmp_path / "there" / name).stat().st_mode for name in (".", "a", "a/b", "c", "c/lock")}
    assert list(map(stat.S_IMODE, modes.values())) == [0o755, 0o700, 0o700, 0o700, 0o600]


@linux
def test_patience_ends_with_the_name_of_who_has_it(path: str, start: Start) -> None:
    holder = start(HOLDER, path)
    hear(holder)
    before = time.monotonic()
    with pytest.raises(StorageError) as caught:
        FileLock(path).acquire(0.1)
    assert time.monotonic() - before >= 0.1
    assert f"cannot lock '{path}': process {holder.pid} (" in str(caught.value)
    assert "has held it for 0.1 s" in str(caught.value)


def test_it_is_free_when_its_holder_is_killed(path: str, start: Start) -> None:
    holder = start(HOLDER, path)
    hear(holder)
    holder.kill()
    lock = FileLock(path)
    lock.acquire(30)
    lock.release()
    lock.acquire(0)
    lock.close()


def test_who_waits_for_a_file_that_is_removed_locks_the_new_one(path: str) -> None:
    first, second = FileLock(path), FileLock(path)
    first.acquire(1)
    first.release()
    Path(path).unlink()
    second.acquire(1)
    with pytest.raises(StorageError):
        first.acquire(0.01)
    second.close()
    first.acquire(0)
    first.close()


def test_a_fork_that_closes_it_does_not_give_it_back(path: str, start: Start) -> None:
    code = """
import os, sys, time
from dotflow_like.record.file_lock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire(10)
if os.fork() == 0:
    lock.close()
    os._exit(0)
print(os.wait()[1], flush=True)
time.sleep(600)
"""
    assert hear(start(code, path)) == "0"
    with pytest.raises(StorageError):
        FileLock(path).acquire(0)


@linux
def test_those_who_hold_a_lock_are_told_and_those_who_look_at_it_are_not(path: str, start: Start) -> None:
    assert holders([path, path + "-not-there"]) == "another process"
    holder = start(HOLDER, path, "fork")
    child = hear(holder)
    with Path(path).open():
        told = holders([path])
    assert sorted(each.split()[1] for each in told.split(" and ")) == sorted([str(holder.pid), child])
    assert told.count(f" ({sys.executable} "[:70]) == 2  # the beginning of their commands, and no more
    holder.kill()
    holder.wait()
    assert holders([path]).startswith(f"process {child} (")


def test_a_lock_one_holds_oneself_is_not_anothers(path: str) -> None:
    lock = FileLock(path)
    lock.acquire(1)
    assert holders([path]) == "another process"
    lock.close()


ADDER = """
import sys
from pathlib import Path
from dotflow_like.record.file_lock import FileLock
lock, count = FileLock(sys.argv[1]), Path(sys.argv[1] + "-count")
for _ in range(200):
    lock.acquire(60)
    count.write_text(str(int(count.read_text()) + 1))
    lock.release()
"""


def test_processes_take_turns(path: str, start: Start) -> None:
    Path(path).parent.mkdir()
    Path(path + "-count").write_text("0")
    adders = [start(ADDER, path) for _ in range(4)]
    assert [each.wait(60) for each in adders] == [0] * 4
    assert Path(path + "-count").read_text() == "800"
