"""How a SQLite database is opened: made where it is missing, set up, and brought to the schema of today."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from dotflow_like.errors import StorageError
from dotflow_like.record.file_lock import make_folder

__all__ = [
    "SYNCHRONOUS",
    "Durability",
    "Migrations",
    "is_set_up",
    "missing",
    "open_only_to_read",
    "open_to_write",
    "state_of",
]

Durability = Literal["full", "process"]
Migrations = Sequence[Sequence[str]]
"""For each version of the schema, from 1, the statements that make it from the one before."""

SYNCHRONOUS: Final = {"full": "FULL", "process": "NORMAL"}
_PAGES: Final = {"full": 500, "process": 8000}
"""The log may grow by so many pages between two checkpoints.

A checkpoint waits for the disk, and copies each page once, however often it was changed: the rarer the better. But
while the log grows, a commit that waits for the disk takes three times as long as one into a log that begins anew.
"""


def open_to_write(
    path: str,
    durability: Durability,
    migrations: Migrations,
    patience: float,
    *,
    make: bool,
    new: Sequence[str] = (),
    kind: type[sqlite3.Connection] | None = None,
) -> sqlite3.Connection:
    """Open a database; the caller keeps others out.

    Args:
        path: the file.
        durability: `"full"` or `"process"`.
        migrations: what its schema is made of.
        patience: seconds to wait for other programs that have locked it.
        make: whether it is made if it is not there, with its folder.
        new: folders that were not there before, from the file's upwards.
        kind: of connection. Default: the usual one.

    Raises:
        StorageError: it is of a newer version, or in a place that will not do.
        sqlite3.Error: it cannot be opened.
        OSError: it cannot be made.
    """
    if make:
        _make_file(path, new if durability == "full" else None)
    _check_writable(path)
    connection = _connect(path, "rw", patience, **({} if kind is None else {"factory": kind}))
    try:
        _set_up(connection, path, durability)
        _migrate(connection, path, migrations)
        connection.execute(f"PRAGMA synchronous={SYNCHRONOUS[durability]}")
    except BaseException:
        connection.close()
        raise
    return connection


def open_only_to_read(
    path: str, migrations: Migrations, patience: float, why: Exception
) -> tuple[sqlite3.Connection, tuple[int, ...] | None] | None:
    """Open a file that cannot be written, which `why` tells.

    Returns:
        The connection; and if it reads the file as one that nobody changes, what that looked like. None if it
        cannot even be read.

    Raises:
        StorageError: it is of another version.
    """
    state = state_of(path)
    log = state[-1]
    # without a log nobody has it open, and to read it as one nobody changes leaves nothing behind; without what
    # is in its log the file is what it was some time ago
    for mode in ["ro"] if log > 0 else ["ro&immutable=1"] if log < 0 else ["ro", "ro&immutable=1"]:
        try:
            connection = _connect(path, mode, patience)
        except sqlite3.OperationalError:
            continue
        try:
            connection.execute("PRAGMA cell_size_check=ON")
            version = _version_of(connection)
            _check_not_newer(path, version, migrations)
            if version < len(migrations):
                raise StorageError(
                    f"cannot use {path!r}: its schema is version {version}, not {len(migrations)}, and it cannot be "
                    f"written ({why}); let one who may write to it open it first"
                )
        except sqlite3.OperationalError:
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            return connection, None if mode == "ro" else state
    return None


def is_set_up(path: str, migrations: Migrations) -> bool:
    """Return whether a file is in WAL mode, with the schema of today: to open it changes nothing then."""
    try:
        connection = _connect(path, "ro", 0.1)
    except sqlite3.Error:
        return False
    try:
        mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        return mode == "wal" and _version_of(connection) == len(migrations)
    except sqlite3.Error:
        return False
    finally:
        connection.close()


def state_of(path: str) -> tuple[int, ...]:
    """Return numbers that change with a file; the last one is the size of its log, -1 if it has none."""
    found = os.stat(path)
    try:
        log = os.stat(f"{path}-wal").st_size
    except FileNotFoundError:
        log = -1
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, log


def missing(folder: str) -> list[str]:
    """Return which of a folder and its parents are not there."""
    found = []
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        found.append(folder)
        folder = os.path.dirname(folder)
    return found


def _make_file(path: str, new: Sequence[str] | None) -> bool:
    """Make an empty file with its folder, if it is not there; return whether it was made.

    The disk is to keep their names, unless `new` is None.
    """
    folder = os.path.dirname(path)
    make_folder(folder)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    if new is not None and sys.platform != "win32":
        for each in (folder, *map(os.path.dirname, new)):
            descriptor = os.open(each, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    return True


def _check_writable(path: str) -> None:
    """Raise an error for a file that SQLite, silently, would open only to read."""
    # by asking, not by opening: to close it again would drop SQLite's locks of other connections
    if not os.access(path, os.W_OK):
        is_medium = hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY
        code = errno.EROFS if is_medium else errno.EACCES
        raise OSError(code, os.strerror(code), path)


def _connect(path: str, mode: str, patience: float, **more: Any) -> sqlite3.Connection:
    from urllib.parse import quote

    connection: sqlite3.Connection = sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?mode={mode}",
        uri=True,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,
        **more,
    )
    return connection


def _set_up(connection: sqlite3.Connection, path: str, durability: Durability) -> None:
    if durability == "full" and sys.platform == "darwin":  # where fsync alone does not reach the disk
        connection.execute("PRAGMA fullfsync=ON")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute(f"PRAGMA wal_autocheckpoint={_PAGES[durability]}")
    connection.execute("PRAGMA journal_size_limit=67108864")
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(
            f"cannot use {path!r}: its file system has no shared memory, which SQLite's WAL mode needs; put it on "
            "a local disk"
        )


def _migrate(connection: sqlite3.Connection, path: str, migrations: Migrations) -> None:
    version = _version_of(connection)
    _check_not_newer(path, version, migrations)
    for number in range(version + 1, len(migrations) + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # somebody with another folder of locks may have been here in the meantime
            if number > _version_of(connection):
                for statement in migrations[number - 1]:
                    connection.execute(statement)
                now = datetime.now(UTC).isoformat()
                connection.execute("INSERT INTO schema_version VALUES (?, ?)", (number, now))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _version_of(connection: sqlite3.Connection) -> int:
    tables = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchall()
    if not tables:
        return 0
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()[0])


def _check_not_newer(path: str, version: int, migrations: Migrations) -> None:
    if version > len(migrations):
        raise StorageError(
            f"cannot use {path!r}: its schema is version {version}, and this version of dotflow_like knows "
            f"{len(migrations)} at most; upgrade dotflow_like, or give another file"
        )
