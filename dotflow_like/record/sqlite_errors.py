"""What goes wrong with a SQLite database, in words that name the file, the reason, and who is in the way."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final

from dotflow_like.errors import CorruptCheckpoint, StorageError
from dotflow_like.record.file_lock import holders

__all__ = ["damaged_text", "failure"]

_DAMAGED: Final = "the file is damaged; restore it from a copy, or give another one"
_NEEDED: Final = 6
"""Descriptors that a database takes: the file, its log, its shared memory, a folder while it is synced, and one more."""


def failure(verb: str, path: str, error: Exception, patience: float) -> StorageError:
    """Return the error to raise for one of the system's, of SQLite's, or of a text that cannot be stored.

    Args:
        verb: what was tried: `"write"` or `"read"`.
        path: the database.
        error: what happened.
        patience: seconds that were waited for others.
    """
    code, reason = type(error).__name__, str(error)
    if isinstance(error, OSError):
        code = errno.errorcode.get(error.errno or 0, code)
        reason = error.strerror or reason
        if error.filename not in (None, path):
            reason += f": {error.filename!r}"
    elif isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorname", code)
        more = _more(path, code, patience)
        if more:
            reason += f": {more}"
    elif isinstance(error, UnicodeDecodeError):  # the words of SQLite repeat a part of the file
        reason = f"{error.object.decode('utf-8', 'backslashreplace')}: {_DAMAGED}"
    return StorageError(f"cannot {verb} {path!r}: {reason} ({code})")


def damaged_text(
    connection: sqlite3.Connection,
    path: str,
    error: Exception,
    queries: Sequence[str],
    parameters: Sequence[Any],
) -> CorruptCheckpoint | None:
    """Return the error for a text that is not UTF-8 any more, which names its row; None if that is not what happened.

    Args:
        connection: to the database.
        path: of the database.
        error: what the queries raised.
        queries: what was asked.
        parameters: of each.
    """
    if not isinstance(error, sqlite3.OperationalError) or hasattr(error, "sqlite_errorcode"):
        return None  # SQLite itself does not look into texts
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        for query in queries:
            cursor = connection.execute(query, parameters)
            for row in cursor.fetchall():  # all: whoever keeps the error must not keep a cursor open
                for (column, *_), value in zip(cursor.description, row, strict=True):
                    if isinstance(value, str) and not _is_whole(value):
                        return CorruptCheckpoint(
                            f"{path!r}: {column} in the row {row[:3]!r} of {parameters[:1]!r} is no text any more; "
                            "restore the file from a copy, or give another workflow_id"
                        )
        return None
    finally:
        connection.text_factory = str


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _more(path: str, code: str, patience: float) -> str:
    """Return what can be found out beyond the words of SQLite."""
    # never by opening the file: to close it again would drop SQLite's own locks of it
    if code.startswith("SQLITE_BUSY"):
        return f"kept locked for {patience:g} s by {holders([path, f'{path}-shm'])}"
    if code.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return _DAMAGED
    if code.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return _why_not_written(path)
    if code.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
        return _why_not_opened(path) or _why_not_written(path)
    return ""


def _why_not_written(path: str) -> str:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        return f"its folder {folder!r} is gone"
    if hasattr(os, "statvfs"):
        with suppress(OSError):
            if not os.statvfs(folder).f_bavail:
                return "no space is left on its disk"
        import resource

        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY:
            return f"the limit of the size of files is {limit:,} bytes here (ulimit -f)"
    return ""


def _why_not_opened(path: str) -> str:
    if os.path.isdir(path):
        return "it is a folder"
    try:
        with ExitStack() as opened:
            for _ in range(_NEEDED):
                opened.enter_context(open(os.devnull, "rb"))
    except OSError as error:
        return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, '')})"
    folder = os.path.dirname(path)
    if os.path.exists(path) and not os.access(path, os.R_OK | os.W_OK):
        return "this user may not write it"
    if os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK):
        return f"this user may not write its folder {folder!r}"
    return ""
