"""A SQLite database, written one transaction at a time.

    runs.db            the database; `runs.db-wal` and `runs.db-shm` are SQLite's
    runs.db-locks/     `writing`, which a process holds while it writes; a file for each run that is owned

Readers need no lock: the database is always in WAL mode. Writers of all processes take turns by the lock
`writing`, around opening and migrating too, and around each commit with the checkpoint it may make: SQLite
before 3.51.3 can damage a database whose log is reset by one connection while another one writes
(https://sqlite.org/wal.html#walresetbug), and of many that open a new file at once some see it locked.

That lock does not cover programs that are not this library, nor processes with another folder of locks, which
`?locks=` may name. And it need not cover the checkpoint of the last connection to close: SQLite makes that one
only when it has locked everybody else out.
"""

from __future__ import annotations

import atexit
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar
from weakref import WeakSet, WeakValueDictionary

from dotflow_like.errors import ConfigError, StorageError
from dotflow_like.record.file_lock import FileLock
from dotflow_like.record.sqlite_errors import damaged_text, failure
from dotflow_like.record.sqlite_opening import (
    SYNCHRONOUS,
    Durability,
    Migrations,
    is_set_up,
    missing,
    open_only_to_read,
    open_to_write,
    state_of,
)

__all__ = ["Database", "Place", "database_at", "held", "place_of"]

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds to wait for others that write."""
_KEPT: Final = 4
"""Databases that stay open though nobody has them."""
_CLOSING: Final = 2.0
"""Seconds to wait for them only to close, which is safe without the lock, and may happen at any time."""

Place = tuple[int, int]
"""The device and the inode of a file."""

held: Final[set[str]] = set()
"""Locks that this process holds for longer, by path: to wait for one might be to wait for oneself."""


class Database:
    """One writing connection to a file, for all threads of this process; `database_at` gives it.

    Nothing is touched before the first use; what is only read is not made.

    Args:
        path: the file. Its folder is made by the first write, for the owner alone (0700), and so is the
            file (0600).
        durability: `"full"`: what was committed survives a power cut. `"process"`: it survives the death of
            the process, not of the machine.
        locks: the folder of the locks.
        migrations: for each version of the schema, from 1, the statements that make it from the one before.
        patience: seconds to wait for others that write.

    Attributes:
        durability: the same.
        place: the file that is open, or was last.
    """

    def __init__(
        self,
        path: str,
        durability: Durability,
        locks: str,
        migrations: Migrations,
        patience: float = PATIENCE,
    ) -> None:
        self.path = path
        self.locks = locks
        self.place: Place | None = None
        self.durability = durability
        self._migrations = migrations
        self._patience = patience
        self._lock = threading.RLock()
        self._writing = FileLock(os.path.join(locks, "writing"))
        self._connection: sqlite3.Connection | None = None
        self._is_read_only = False
        self._handle = -1  # of the file; it cannot be read or written, and so has no locks to lose
        # what a file looks like that is read as one nobody changes
        self._frozen: tuple[int, ...] | None = None
        with _registering:
            _all.add(self)

    def write(
        self,
        work: Callable[[sqlite3.Cursor], T],
        within: Place | None = None,
        *,
        routine: bool = False,
        lazily: bool = False,
    ) -> T:
        """Return what `work` returns, which runs in a transaction: all of it is written, or nothing.

        Args:
            work: is given a cursor of the connection.
            within: the file that this goes on in; one that has taken its place is left alone. Default: the one
                that is there, or a new one.
            routine: it is one of many, for which a quicker look at the file has to do: it sees that the file is
                gone, not that it was moved, or that the lock's is gone.
            lazily: do not wait for the disk, which the next write that does waits for.

        Raises:
            StorageError: it could not be written; the message names the file and the reason.
        """
        if _forking:
            _wait_for_fork()
        lazily = lazily and self.durability == "full"
        with self._lock:
            try:
                while True:
                    connection = self._connection
                    if connection is None or self._is_read_only:
                        connection = self._open_to_write(make=within is None)
                    if within is not None and not self._writing.is_open and place_of(self.path) != within:
                        raise _moved()  # before its folder is made again for the lock
                    self._writing.acquire(self._patience, look=not routine, sleep=self._sleep)
                    try:
                        if connection is not self._connection:
                            continue  # it was closed while this waited
                        if self._is_in_place(routine=routine) and (within is None or within == self.place):
                            cursor = connection.cursor()  # one for all of it: each takes its time
                            try:
                                if lazily:
                                    cursor.execute("PRAGMA synchronous=NORMAL")
                                cursor.execute("BEGIN IMMEDIATE")
                                result = work(cursor)
                                cursor.execute("COMMIT")
                            except BaseException:
                                cursor.close()  # the error keeps it, and it would keep the file open
                                self._roll_back(connection)
                                raise
                            return result
                    finally:
                        self._writing.release()
                        if lazily and self._connection is not None:
                            self._connection.execute("PRAGMA synchronous=FULL")
                    if within is not None:
                        raise _moved()
                    self._close()
            except (sqlite3.Error, OSError, UnicodeError) as error:
                raise failure("write", self.path, error, self._patience) from error

    def read(
        self, *queries: str, parameters: Sequence[Any] = (), within: Place | None = None
    ) -> list[list[Any]]:
        """Return all rows that each of the queries finds, as of one moment; none, if there is no database.

        Args:
            queries: all with the same parameters.
            parameters: their values.
            within: the file that is meant: if it is still open it is read even though it was deleted. Default:
                the one that is there.

        Raises:
            StorageError: it could not be read.
            CorruptCheckpoint: a text in a row is no text any more.
        """
        if _forking:
            _wait_for_fork()
        with self._lock:
            try:
                while True:
                    connection = self._connection
                    if connection is None or within is None or within != self.place:
                        connection = self._open_to_read(within)
                    if connection is None:
                        return [[] for _ in queries]
                    found = _fetched(connection, queries, parameters)
                    if self._frozen is None or self._frozen == state_of(self.path):
                        return found  # else somebody has changed it meanwhile after all
            except (sqlite3.Error, OSError, UnicodeError) as error:
                found_damage = self._connection and damaged_text(
                    self._connection, self.path, error, queries, parameters
                )
                if found_damage:
                    raise found_damage from error
                raise failure("read", self.path, error, self._patience) from error

    def close(self) -> None:
        """Close the connection; the next use opens another one."""
        with self._lock:
            self._close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.path!r}, durability={self.durability!r})"

    # Opening and closing

    def _sleep(self, seconds: float) -> None:
        """Wait for others that write; for a body of this process that does, so that its other threads may read.

        Nobody else is let in between, who would read all the time, and keep this from its turn.
        """
        if self._writing.path not in held:
            time.sleep(seconds)
            return
        self._lock.release()
        try:
            time.sleep(seconds)
        finally:
            self._lock.acquire()

    def _open_to_write(self, *, make: bool, only_read: bool = False) -> sqlite3.Connection:
        self._close()
        new = missing(os.path.dirname(self.path)) if make else []
        if not make and place_of(self.path) is None:
            raise _moved()
        # else it is set up, and to open it changes nothing
        if not only_read or self._writing.try_acquire() or not is_set_up(self.path, self._migrations):
            self._writing.acquire(self._patience)
        try:
            self._connection = open_to_write(
                self.path, self.durability, self._migrations, self._patience, make=make, new=new
            )
            self.place = place_of(self.path)
            if hasattr(os, "O_PATH"):
                with suppress(OSError):  # too many are open: then the path is looked at each time
                    self._handle = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
            return self._connection
        finally:
            self._writing.release()

    def _open_to_read(self, within: Place | None) -> sqlite3.Connection | None:
        """Return the connection to read from; open one to the file that is there, if the open one is not that."""
        place = place_of(self.path)
        if within not in (None, place):
            raise _moved()
        is_it = self._connection is not None and place == self.place
        if is_it and (self._frozen is None or self._frozen == state_of(self.path)):
            return self._connection
        self._close()
        if place is None:
            return None
        try:
            return self._open_to_write(make=False, only_read=True)
        except (OSError, sqlite3.OperationalError, StorageError) as error:
            found = None
            if getattr(error, "sqlite_errorname", "") != "SQLITE_ERROR":  # else a migration is wrong
                found = open_only_to_read(self.path, self._migrations, self._patience, error)
            if found is None:
                raise
            (self._connection, self._frozen), self._is_read_only = found, True
            self.place = place_of(self.path)
            return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        is_read_only, self._is_read_only, self._frozen = self._is_read_only, False, None
        if connection is None:
            return
        with suppress(StorageError, OSError):
            if not is_read_only and place_of(self.path) == self.place and self._writing.path not in held:
                # so that nobody sees it locked meanwhile
                self._writing.acquire(min(self._patience, _CLOSING))
        connection.close()
        self._close_handle()
        self._writing.close()

    def _is_in_place(self, *, routine: bool) -> bool:
        """Return whether the open file is the one that is there."""
        if routine and self._handle >= 0:
            return os.fstat(self._handle).st_nlink > 0  # the quicker look: one that was moved is seen later
        return place_of(self.path) == self.place

    def _close_handle(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._close()  # which takes it back, too

    # Forks

    def _before_fork(self) -> None:
        """Wait for other threads, and close.

        In SQLite's memory a copy of an open connection would pass for one of the new process, with locks that
        only this process has: what the new one wrote would be lost when this one closes.
        """
        self._lock.acquire()
        if self._connection is None or not self._connection.in_transaction:
            self._close()

    def _after_fork(self, *, in_child: bool) -> None:
        if not in_child:
            self._lock.release()
            return
        self._lock = threading.RLock()
        _left.append(self._connection)  # of a fork in the middle of a transaction: it is the parent's
        self._connection = None
        self._close_handle()
        self._writing.close()


def _fetched(
    connection: sqlite3.Connection, queries: Sequence[str], parameters: Sequence[Any]
) -> list[list[Any]]:
    if len(queries) == 1:
        return [connection.execute(queries[0], parameters).fetchall()]
    connection.execute("BEGIN")
    try:
        return [connection.execute(query, parameters).fetchall() for query in queries]
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def place_of(path: str) -> Place | None:
    """Return which file is at a path; None for none."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def _moved() -> OSError:
    return FileNotFoundError(errno.ENOENT, "the file was deleted or replaced while it was in use")


_databases: WeakValueDictionary[tuple[str, str, str], Database] = WeakValueDictionary()
_all: WeakSet[Database] = WeakSet()
_registering = threading.RLock()  # held to change or to walk through these
_recent: list[Database] = []  # open from one run to the next: to open one takes milliseconds
_forking: list[Database] = []
_left: list[object] = []


def database_at(path: str, durability: Durability, locks: str | None, migrations: Migrations) -> Database:
    """Return this process's `Database` for a file; see there for what is asked.

    Raises:
        ConfigError: a path that cannot be one, or another `durability`.
    """
    if durability not in SYNCHRONOUS:
        raise ConfigError(f"durability={durability!r} of a database: use 'full' or 'process'")
    if not path or "\0" in path:
        raise ConfigError(f"{path!r} is no path of a database: give that of a file")
    real = os.path.realpath(path)
    folder = os.path.realpath(locks) if locks else f"{real}-locks"
    with _registering:
        key = real, durability, folder
        found = _databases.get(key)
        if found is None:
            found = _databases[key] = Database(real, durability, folder, migrations)
        else:
            with suppress(ValueError):
                _recent.remove(found)
        _recent.append(found)
        longest_unused = _recent.pop(0) if len(_recent) > _KEPT else None
    del longest_unused  # which closes it, if nobody has it
    return found


def _close_all() -> None:
    with _registering:
        databases = list(_all)
    for database in databases:
        database.close()


def _before_fork() -> None:
    _registering.acquire()
    _forking.extend(_all)
    for database in _forking:
        database._before_fork()


def _wait_for_fork() -> None:
    """Wait for another thread's, which would not get its turn beside one that writes all the time."""
    with _registering:
        pass


def _after_fork(*, in_child: bool = False) -> None:
    global _registering
    for database in _forking:
        database._after_fork(in_child=in_child)
    _forking.clear()
    if in_child:
        _registering = threading.RLock()
    else:
        _registering.release()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=lambda: _after_fork(in_child=True),
    )
