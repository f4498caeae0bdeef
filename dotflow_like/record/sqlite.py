"""A SQLite database: opened, migrated, written one transaction at a time, and its errors in words.

    runs.db            the database; `runs.db-wal` and `runs.db-shm` are SQLite's
    runs.db-locks/     `writing`, which a process holds while it writes; a file for each run that is owned

Readers need no lock: the database is always in WAL mode. Writers of all processes take turns by the lock
`writing`, around opening and migrating too, and around each commit with the checkpoint it may make: SQLite
before 3.51.3 can damage a database whose log is reset by one connection while another one writes
(https://sqlite.org/wal.html#walresetbug), and of many that open a new file at once some see it locked.
"""

from __future__ import annotations

import atexit
import errno
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar
from weakref import WeakSet, WeakValueDictionary

from dotflow_like.errors import ConfigError, StorageError
from dotflow_like.record.file_lock import FileLock, holders, make_folder

__all__ = ["Database", "database_at"]

T = TypeVar("T")

Durability = Literal["full", "process"]

PATIENCE: Final = 30.0
"""Seconds to wait for others that write."""
_SYNCHRONOUS: Final = {"full": "FULL", "process": "NORMAL"}


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
    """

    def __init__(
        self, path: str, durability: Durability, locks: str, migrations: Sequence[Sequence[str]]
    ) -> None:
        self.path = path
        self.locks = locks
        self._durability = durability
        self._migrations = migrations
        self._lock = threading.RLock()
        self._writing = FileLock(os.path.join(locks, "writing"))
        self._connection: sqlite3.Connection | None = None
        self._place: tuple[int, int] | None = None  # device and inode of the open file
        self._pid = 0
        _open.add(self)

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns, which runs in a transaction: all of it is written, or nothing.

        Raises:
            StorageError: it could not be written; the message names the file and the reason.
        """
        with self._lock:
            try:
                connection = self._connection or self._opened()
                self._writing.acquire(PATIENCE)
                try:
                    self._check_place()
                    connection.execute("BEGIN IMMEDIATE")
                    result = work(connection)
                    connection.execute("COMMIT")
                    return result
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    self._writing.release()
            except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
                raise self._failure("write", error) from error

    def read(self, *queries: str, parameters: Sequence[Any] = ()) -> list[list[Any]]:
        """Return all rows that each of the queries finds, as of one moment; none, if there is no database.

        Args:
            queries: all with the same parameters.
            parameters: their values.

        Raises:
            StorageError: it could not be read.
        """
        with self._lock:
            try:
                connection = self._connection or self._opened(only_existing=True)
                if connection is None:
                    return [[] for _ in queries]
                if len(queries) == 1:
                    return [connection.execute(queries[0], parameters).fetchall()]
                connection.execute("BEGIN")
                try:
                    return [connection.execute(query, parameters).fetchall() for query in queries]
                finally:
                    connection.execute("COMMIT")
            except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
                raise self._failure("read", error) from error

    def close(self) -> None:
        """Close the connection; the next use opens another one."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is None or self._pid != os.getpid():
                return
            with suppress(StorageError, OSError):
                self._writing.acquire(PATIENCE)  # the last one to close makes a checkpoint
            connection.close()
            self._writing.close()

    def forget(self) -> None:
        """Leave the connection to the process this one is a fork of: to use or close it here would harm it."""
        _left.append(self._connection)
        self._connection = None
        self._writing.close()
        self._lock = threading.RLock()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Database({self.path!r}, durability={self._durability!r})"

    # Opening

    def _opened(self, *, only_existing: bool = False) -> Any:
        """Open the file, and make and migrate it where that is needed; None if it is not there and not made."""
        if only_existing and not os.path.exists(self.path):
            return None
        try:
            connection = self._opened_to_write(make=not only_existing)
        except (OSError, sqlite3.OperationalError):
            if not only_existing:
                raise
            connection = self._opened_to_read()
        self._connection, self._pid = connection, os.getpid()
        self._place = _place_of(self.path)
        return connection

    def _opened_to_write(self, *, make: bool) -> sqlite3.Connection:
        self._writing.acquire(PATIENCE)
        try:
            if make:
                self._make_file()
            connection = self._connect("rw")
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
            return connection
        finally:
            self._writing.release()

    def _connect(self, mode: str) -> sqlite3.Connection:
        from urllib.parse import quote

        return sqlite3.connect(
            f"file:{quote(self.path)}?mode={mode}",
            uri=True,
            timeout=PATIENCE,
            isolation_level=None,
            check_same_thread=False,
        )

    def _make_file(self) -> None:
        folder = os.path.dirname(self.path)
        make_folder(folder)
        try:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return
        if self._durability == "full" and sys.platform != "win32":
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS[self._durability]}")
        if (
            self._durability == "full" and sys.platform == "darwin"
        ):  # where fsync alone does not reach the disk
            connection.execute("PRAGMA fullfsync=ON")
        connection.execute("PRAGMA cell_size_check=ON")
        # a checkpoint waits for the disk twice, and copies each page once, however often it was changed
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        connection.execute("PRAGMA journal_size_limit=67108864")
        mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StorageError(
                f"cannot use {self.path!r}: its file system has no shared memory, which SQLite's WAL mode "
                "needs; put it on a local disk"
            )
        self._migrate(connection)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version = _version_of(connection)
        latest = len(self._migrations)
        if version > latest:
            raise StorageError(
                f"cannot use {self.path!r}: its schema is version {version}, and this version of dotflow_like "
                f"knows {latest} at most; upgrade dotflow_like, or give another file"
            )
        for number in range(version + 1, latest + 1):
            connection.execute("BEGIN IMMEDIATE")
            try:
                # somebody with another lock folder may have been here in the meantime
                if number > _version_of(connection):
                    for statement in self._migrations[number - 1]:
                        connection.execute(statement)
                    now = datetime.now(UTC).isoformat()
                    connection.execute("INSERT INTO schema_version VALUES (?, ?)", (number, now))
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def _opened_to_read(self) -> sqlite3.Connection:
        """Open a file that cannot be written: with its log if that is there, else as one nobody changes."""
        for mode in ("ro", "ro&immutable=1"):
            connection = self._connect(mode)
            try:
                version = _version_of(connection)
            except sqlite3.OperationalError:
                connection.close()
                continue
            if version == len(self._migrations):
                return connection
            connection.close()
            raise StorageError(
                f"cannot use {self.path!r}: its schema is version {version}, not {len(self._migrations)}, and it "
                "cannot be written; let one who may write to it open it first"
            )
        raise StorageError(f"cannot read {self.path!r}: it cannot be opened, not even to be read")

    # Errors

    def _check_place(self) -> None:
        if _place_of(self.path) != self._place:
            raise OSError(errno.ENOENT, "the file was deleted or replaced while it was in use")

    def _failure(self, verb: str, error: Exception) -> StorageError:
        reason = str(error)
        if isinstance(error, OSError):
            code = errno.errorcode.get(error.errno or 0, type(error).__name__)
            reason = error.strerror or reason
        else:
            code = getattr(error, "sqlite_errorname", type(error).__name__)
            reason += _more(self.path, code)
        return StorageError(f"cannot {verb} {self.path!r}: {reason} ({code})")


def _more(path: str, code: str) -> str:
    """Return what is known beyond the words of SQLite."""
    if code.startswith("SQLITE_BUSY"):
        return f": {holders([path, path + '-wal', path + '-shm'])} has locked it for {PATIENCE:g} s"
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return ": the file is damaged; restore it from a copy, or give another one"
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        # not by opening the file: to close it again would drop SQLite's locks of it
        free = os.statvfs(os.path.dirname(path)).f_bavail if hasattr(os, "statvfs") else 1
        return "" if free else ": no space is left on its disk"
    return ""


def _version_of(connection: sqlite3.Connection) -> int:
    tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchall()
    if not tables:
        return 0
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()[0])


def _place_of(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


_databases: WeakValueDictionary[tuple[str, str, str], Database] = WeakValueDictionary()
_open: WeakSet[Database] = WeakSet()
_left: list[object] = []
_opening = threading.Lock()


def database_at(
    path: str, durability: Durability, locks: str | None, migrations: Sequence[Sequence[str]]
) -> Database:
    """Return this process's `Database` for a file; see there for what is asked.

    Raises:
        ConfigError: a path that cannot be one, or another `durability`.
    """
    if durability not in _SYNCHRONOUS:
        raise ConfigError(f"durability={durability!r} of a database: use 'full' or 'process'")
    if not path or "\0" in path:
        raise ConfigError(f"{path!r} is no path of a database: give that of a file")
    real = os.path.realpath(path)
    folder = os.path.realpath(locks) if locks else f"{real}-locks"
    with _opening:
        key = real, durability, folder
        found = _databases.get(key)
        if found is None:
            found = _databases[key] = Database(real, durability, folder, migrations)
        return found


def _close_all() -> None:
    for database in list(_open):
        database.close()


def _forget_all() -> None:
    global _opening
    _opening = threading.Lock()
    for database in list(_open):
        database.forget()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
