"""The kernel's word on who has a run, on one machine: a locked file, which a killed process gives back.

A run's file lies in a folder beside what is recorded. Who has locked it has the run; what stands in it says
who that is, to those who come too late, and decides nothing. The run's workers hold copies of the descriptor,
so the lock is free when they are gone, too. So does whatever a body forks: if the owner is killed, such a
child holds the lock until it ends, for it may still be at work. A run that ends gives the lock back for all
of them. Programs that a body starts never have it.

Machines that share a folder keep each other out if its file system passes locks on. If it does not, the fence
in the journal does.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

from dotflow_like import clock
from dotflow_like.errors import RunInProgress, StorageError
from dotflow_like.record.file_lock import holders, make_folder, try_lock, unlock

__all__ = ["Holder", "RunLock", "RunLocks"]

_PATIENCE: Final = 2.0
"""Real seconds, whatever clock the run has: what a dead owner left behind may take so long to end."""
_PAUSE: Final = 0.005
_BINARY: Final = getattr(os, "O_BINARY", 0)
_KILLED: Final = 0x100  # among signals in Linux: SIGKILL is on its way to the process
_EXITING: Final = 0x4  # among its flags: it is being taken down, which may take its time


class Holder(NamedTuple):
    """Who has a run.

    Attributes:
        owner: `host:pid:token`; `unknown` if its file does not say.
        host: the name of its machine.
        pid: its process; 0 if unknown.
        since: when it took the run, in UTC.
        alive: False if it has ended, and what it left behind has the lock. True also if nobody here can tell:
            it is in another container or on another machine.
    """

    owner: str
    host: str
    pid: int
    since: datetime
    alive: bool


class RunLock:
    """A lock that is taken, and given back by `release`, or when nobody has the object any more.

    Attributes:
        descriptor: of the locked file, open until `release`. Copies of it hold the lock, too.
    """

    def __init__(self, descriptor: int, path: str) -> None:
        self._held: list[int] = []
        self.descriptor = descriptor
        self._path = path
        self._file = _identity(os.fstat(descriptor))
        self._pid = os.getpid()
        self._held.append(descriptor)

    def release(self) -> None:
        """Give the lock back, copies or not; in a fork of the owner only its own copy. Once is enough."""
        try:
            descriptor = self._held.pop()
        except IndexError:
            return
        with suppress(OSError):  # the run is over, whatever becomes of the file
            if _identity(os.fstat(descriptor)) != self._file:
                return  # a body has closed it, and the number is another file's by now
            try:
                if self._pid == os.getpid():
                    self._remove(descriptor)
                    unlock(descriptor)  # said outright, because of the copies
            finally:
                os.close(descriptor)

    __del__ = release

    def _is_in_place(self) -> bool:
        """Return whether whoever looks for the run finds this very file."""
        try:
            return _identity(os.stat(self._path)) == self._file
        except FileNotFoundError:
            return False

    def _remove(self, descriptor: int) -> None:
        with suppress(OSError):  # a folder that cannot be written any more; on Windows, an open file
            if self._is_in_place():
                os.unlink(self._path)
            return
        os.ftruncate(descriptor, 0)


class RunLocks:
    """The locks of the runs that are recorded in one place.

    Args:
        folder: where their files lie; made by the first `take`, for the owner alone (0700), with its parents.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = os.path.abspath(folder)

    def take(self, workflow_id: str, owner: str, since: datetime | None = None) -> RunLock:
        """Take the lock of a run.

        Args:
            workflow_id: the run.
            owner: who takes it: `host:pid:token`.
            since: when that is, for others to read. Default now.

        Raises:
            RunInProgress: somebody has it. If that is known to live, and be it this process, at once; else
                after 2 s, within which what a dead owner left behind may end.
            StorageError: the file cannot be made, locked or written.
        """
        path = self._path(workflow_id)
        until = time.monotonic() + _PATIENCE
        try:
            while True:
                with ExitStack() as undo:
                    descriptor = self._open(path)
                    undo.callback(os.close, descriptor)
                    told = lives = None
                    locked = try_lock(descriptor)
                    if locked:
                        undo.pop_all()
                        lock = RunLock(descriptor, path)
                        undo.callback(lock.release)
                        # else it was opened before its holder removed it, and locked after
                        if lock._is_in_place():
                            _write(descriptor, workflow_id, owner, since or clock.current().now())
                            undo.pop_all()
                            return lock
                    else:
                        told = _read(descriptor)
                        lives = None if told is None else told.lives()
                    if lives or time.monotonic() >= until:
                        raise _in_progress(workflow_id, path, told, lives)
                if not locked:
                    time.sleep(_PAUSE)
        except OSError as error:
            raise _failure("lock", path, error) from error

    def holder(self, workflow_id: str) -> Holder | None:
        """Return who has a run at the moment, None if nobody has.

        Raises:
            StorageError: its file cannot be read.
        """
        path = self._path(workflow_id)
        until = time.monotonic() + _PATIENCE
        try:
            while True:
                with ExitStack() as undo:
                    descriptor = os.open(path, os.O_RDONLY | _BINARY)
                    undo.callback(os.close, descriptor)
                    if try_lock(descriptor, shared=True):
                        undo.callback(unlock, descriptor)
                        return None
                    told = _read(descriptor)
                    written = datetime.fromtimestamp(os.fstat(descriptor).st_mtime, UTC)
                if told is not None:
                    return Holder(told.owner, told.host, told.pid, told.since, told.lives() is not False)
                if time.monotonic() >= until:
                    return Holder("unknown", "unknown", 0, written, alive=True)
                time.sleep(_PAUSE)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failure("read", path, error) from error

    def __repr__(self) -> str:
        return f"RunLocks({self._folder!r})"

    def _path(self, workflow_id: str) -> str:
        name = blake2b(workflow_id.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()
        return os.path.join(self._folder, name)

    def _open(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | _BINARY
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            make_folder(self._folder)
            return os.open(path, flags, 0o600)


class _Told(NamedTuple):
    """What stands in the file of a lock. Its writer may be dead by now, and another about to write."""

    run: str
    owner: str
    host: str
    pid: int
    started: int | None
    machine: str
    since: datetime

    def lives(self) -> bool | None:
        """Return whether this process runs, and is not being killed; None if it cannot be seen from here.

        Only Linux tells of one that is being killed, or was and is not waited for; elsewhere that runs.
        """
        here = _this_process(os.getpid())
        if self.machine != here.machine or sys.platform == "win32":
            return None
        process = _process(self.pid)
        if process is not None:
            return not process.ends and self.started in (None, process.started)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # another user's
            return True
        return True

    def __str__(self) -> str:
        return (
            f"{self.owner} (pid {self.pid} on {self.host}, since {self.since.isoformat(timespec='seconds')})"
        )


class _Process(NamedTuple):
    """What Linux tells of a process: whether it is about to end or has ended, and when it started, in ticks."""

    ends: bool
    started: int


class _Here(NamedTuple):
    host: str
    machine: str
    started: int | None


@lru_cache(maxsize=1)
def _this_process(pid: int) -> _Here:
    """Return what others have to know of this process, whose number is `pid`, to look for it."""
    host = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    process = _process(pid)
    try:  # the same in all containers of a machine, but a number is a process in one of them only
        with open("/proc/sys/kernel/random/boot_id") as file:
            machine = f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        machine = host
    return _Here(host, machine, None if process is None else process.started)


def _process(pid: int) -> _Process | None:
    try:
        # in this order: a signal that is pending no more has had its effect
        with open(f"/proc/{pid}/status", "rb") as file:
            pending = [line[7:] for line in file if line.startswith((b"SigPnd:", b"ShdPnd:"))]
        with open(f"/proc/{pid}/stat", "rb") as file:
            # behind the name, which may hold anything: state, six numbers, flags, 12 numbers, start
            fields = file.read().rpartition(b")")[2].split()
        ends = (
            fields[0] in b"ZX"
            or int(fields[6]) & _EXITING
            or any(int(each, 16) & _KILLED for each in pending)
        )
        return _Process(bool(ends), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def _write(descriptor: int, workflow_id: str, owner: str, since: datetime) -> None:
    pid = os.getpid()
    here = _this_process(pid)
    told = _Told(workflow_id, owner, here.host, pid, here.started, here.machine, since)
    fields = told._asdict() | {"since": since.astimezone(UTC).isoformat()}
    if os.fstat(descriptor).st_size:  # of one that was killed; ext4 writes a file that was cut to the disk
        os.ftruncate(descriptor, 0)  # before: who reads meanwhile finds no mixture
    rest = json.dumps(fields).encode("ascii") + b"\n"
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _read(descriptor: int) -> _Told | None:
    """Return what a file says, None if it says nothing that makes sense, or not yet."""
    with open(descriptor, "rb", closefd=False) as file:
        text = file.read()
    if not text.endswith(b"\n"):
        return None
    try:
        fields = json.loads(text)
        told = _Told(**(fields | {"since": datetime.fromisoformat(fields["since"])}))
        texts, numbers = (told.run, told.owner, told.host, told.machine), (told.pid, told.started or 0)
        sound = all(type(each) is str for each in texts) and all(type(each) is int for each in numbers)
        return told if sound and 0 < told.pid < 1 << 31 and told.since.tzinfo is not None else None
    except (ValueError, TypeError, KeyError):
        return None


def _identity(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _in_progress(workflow_id: str, path: str, told: _Told | None, lives: bool | None) -> RunInProgress:
    next_step = "wait until that has ended, or end it, and resume"
    if told is None or lives is False:
        who = f"its owner was {told}, and has ended" if told else f"its owner is not told in {path!r}"
        why = f"is not free: {who}; {holders([path])} holds its lock: {next_step}"
    elif lives is None:
        why = f"is in progress: its owner is {told}, in another container or on another machine; {next_step}"
    else:
        where = " in this process" if told.pid == os.getpid() else ""
        why = f"is in progress{where}: its owner is {told}; {next_step}"
    return RunInProgress(f"run {workflow_id!r} {why}")


def _failure(verb: str, path: str, error: OSError) -> StorageError:
    code = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return StorageError(f"cannot {verb} {path!r}: {error.strerror or error} ({code})")
