"""A lock that processes take by a file, and that the kernel takes back when they die."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from dotflow_like.errors import StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["FileLock", "holders", "lock", "make_folder", "try_lock", "unlock"]

_CLOEXEC = getattr(os, "O_CLOEXEC", 0)


class FileLock:
    """Held by one process at a time; its threads take turns by a lock of their own.

    The file is made when it is held first, for the owner alone (0600), and so is its folder (0700).

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1

    @property
    def is_open(self) -> bool:
        """Whether its file is open, held or not."""
        return self._descriptor >= 0

    def acquire(
        self, patience: float, *, look: bool = True, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Take it; wait so many seconds for whoever holds it.

        Args:
            patience: those seconds.
            look: whether the file is still there; who takes it all the time need not look each time.
            sleep: waits so many seconds, between two tries.

        Raises:
            StorageError: it is held still; the message names who holds it.
            OSError: the file cannot be made.
        """
        if self._descriptor < 0:
            self._open()
        if not try_lock(self._descriptor):
            self._wait(patience, sleep)
        while look and not os.fstat(self._descriptor).st_nlink:
            self.close()  # somebody has removed the file, and others would lock another one
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(self.path), 0o700)  # it alone: if all is gone, that was meant
            self._open()
            self._wait(patience, sleep)

    def try_acquire(self) -> bool:
        """Take it, if nobody has it; return whether it was taken.

        Raises:
            OSError: the file cannot be made.
        """
        if self._descriptor < 0:
            self._open()
        return try_lock(self._descriptor)

    def release(self) -> None:
        """Give it back."""
        if self._descriptor >= 0:
            unlock(self._descriptor)

    def close(self) -> None:
        """Close the file; in a fork of the process that holds it, that one goes on holding it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _wait(self, patience: float, sleep: Callable[[float], None]) -> None:
        pause = 0.0002
        until = time.monotonic() + patience
        while not try_lock(self._descriptor):
            if time.monotonic() >= until:
                raise StorageError(
                    f"cannot lock {self.path!r}: {holders([self.path])} has held it for {patience:g} s; "
                    "let it go on, or end it"
                )
            sleep(pause)
            if self._descriptor < 0:  # another thread has closed it meanwhile
                self._open()
            pause = min(2 * pause, 0.005)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | _CLOEXEC
        try:
            self._descriptor = os.open(self.path, flags, 0o600)
        except FileNotFoundError:
            make_folder(os.path.dirname(self.path))
            self._descriptor = os.open(self.path, flags, 0o600)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file, if nobody has it; return whether it was taken.

    Args:
        descriptor: of the file.
        shared: with others that do the same, just to see whether anybody has it for good.
    """
    try:
        if sys.platform == "win32":
            _lock_byte(descriptor, msvcrt.LK_NBLCK)
        else:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def lock(descriptor: int) -> None:
    """Take the lock of an open file; wait for whoever has it."""
    if sys.platform == "win32":
        _lock_byte(descriptor, msvcrt.LK_LOCK)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def unlock(descriptor: int) -> None:
    """Give the lock of an open file back, for copies of the descriptor too."""
    if sys.platform == "win32":
        _lock_byte(descriptor, msvcrt.LK_UNLCK)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def make_folder(folder: str) -> None:
    """Make a folder with its parents, for the owner alone (0700); one that is there is left as it is."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folder(os.path.dirname(folder))
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def holders(paths: Iterable[str]) -> str:
    """Return in words which other processes hold locks of files, or copies of them, as far as the system tells."""
    files = {}
    for path in paths:
        with suppress(OSError):
            found = os.stat(path)
            files[found.st_dev, found.st_ino] = os.path.basename(path)
    pids = _pids_with_copies(files) or _pids_that_locked(files)
    pids.discard(os.getpid())
    return " and ".join(f"process {pid}{_command(pid)}" for pid in sorted(pids)) or "another process"


def _pids_with_copies(files: dict[tuple[int, int], str]) -> set[int]:
    """Look through what processes have open: who has a copy of a lock need not be who took it."""
    pids = set()
    for pid in filter(str.isdigit, _names("/proc")):
        for number in _names(f"/proc/{pid}/fd"):
            with suppress(OSError):  # it has closed it, or has ended
                link = f"/proc/{pid}/fd/{number}"
                open_file = os.readlink(link)
                if any(name in open_file for name in files.values()):
                    found = os.stat(link)
                    told = Path(f"/proc/{pid}/fdinfo/{number}").read_text()
                    if (found.st_dev, found.st_ino) in files and _locks_out(told):
                        pids.add(int(pid))
    return pids


def _pids_that_locked(files: dict[tuple[int, int], str]) -> set[int]:
    """Look through the list of all locks, which tells of other users' processes, too."""
    wanted = {f"{os.major(device):02x}:{os.minor(device):02x}:{inode}" for device, inode in files}
    pids = set()
    with suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()  # those that wait for a lock have an arrow in front
            if fields[5] in wanted and fields[3] == "WRITE" and os.path.exists(f"/proc/{fields[4]}"):
                pids.add(int(fields[4]))
    return pids


def _locks_out(told: str) -> bool:
    """Return whether an open file has a lock that keeps others out; readers of a database have locks that do not."""
    return any(line.startswith("lock:") and " WRITE " in line for line in told.splitlines())


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        command = " ".join(b" ".join(words).decode("utf-8", "replace").split())
        return f" ({command[:80]})" if command else ""
    return ""


if sys.platform == "win32":

    def _lock_byte(descriptor: int, how: int) -> None:
        """Lock a byte far behind the content, since what is locked nobody else can read."""
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, how, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
