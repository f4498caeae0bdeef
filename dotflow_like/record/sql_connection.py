"""The connection a body is given: all of SQL, but for the end of its transaction and the library's own tables."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn, TypeVar
from weakref import WeakSet

__all__ = ["TransactionConnection"]

T = TypeVar("T")

_OWN: Final = frozenset({"workflow_runs", "task_attempts", "checkpoints", "schema_version"})
_WRITES: Final = {
    sqlite3.SQLITE_INSERT: 0,
    sqlite3.SQLITE_UPDATE: 0,
    sqlite3.SQLITE_DELETE: 0,
    sqlite3.SQLITE_DROP_TABLE: 0,
    sqlite3.SQLITE_ALTER_TABLE: 1,
    sqlite3.SQLITE_CREATE_INDEX: 1,
    sqlite3.SQLITE_DROP_INDEX: 1,
    sqlite3.SQLITE_CREATE_TRIGGER: 1,
    sqlite3.SQLITE_CREATE_TEMP_TRIGGER: 1,
    sqlite3.SQLITE_DROP_TRIGGER: 1,
    # such a one would be found in place of ours
    sqlite3.SQLITE_CREATE_TEMP_TABLE: 0,
    sqlite3.SQLITE_CREATE_TEMP_VIEW: 0,
}
"""What writes to a table, and which argument of the authorizer names it."""
_PRAGMAS: Final = frozenset(
    {
        "application_id", "collation_list", "compile_options", "database_list", "defer_foreign_keys",
        "foreign_key_check", "foreign_key_list", "freelist_count", "function_list", "index_info", "index_list",
        "index_xinfo", "integrity_check", "module_list", "page_count", "pragma_list", "quick_check", "table_info",
        "table_list", "table_xinfo", "user_version",
    }
)  # fmt: skip
"""Those that change nothing, or only what belongs to the transaction."""
_READ: Final = frozenset(
    {"data_version", "encoding", "foreign_keys", "journal_mode", "page_size", "synchronous"}
)
"""Those that may be read."""
_PATIENCE: Final = 1.0
"""Seconds to wait for a statement of another thread, which is interrupted."""
_ENDS: Final = (
    "ctx.transaction() is committed when the body returns, and rolled back when it raises: {what} is not for the body; "
    "for a part that may be taken back there is SAVEPOINT"
)
_OVER: Final = "the attempt of this ctx.transaction() is over: nothing more can be done in it"
_ROLLED_BACK: Final = (
    "SQLite has rolled back this ctx.transaction(), as after a conflict under OR ROLLBACK: nothing of it is kept, and "
    "nothing more can be done in it; let the attempt fail"
)


class TransactionConnection(sqlite3.Connection):
    """A connection in a transaction that somebody else ends.

    Its cursors say clearly what is refused; SQLite itself refuses it, however it is tried.
    """

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.refused: str | None = None
        self.is_over = False
        self._is_guarded = False
        self._trusted: int | None = None
        self._left: WeakSet[Any] = WeakSet()
        self._turn = threading.RLock()
        self._threads: set[int] = set()  # that have used it
        self.is_ending = False

    # What its owner does

    def guard(self) -> None:
        """Refuse from now on what is not for the body."""
        # not None: then Python begins a transaction where there is none, which is refused, too
        self.isolation_level = "IMMEDIATE"
        super().set_authorizer(self._may)
        self._is_guarded = True

    @contextmanager
    def trusted(self) -> Iterator[sqlite3.Cursor]:
        """Give a cursor for which nothing is refused, whatever the body has made of the connection."""
        with self._turn, self._trusting() as cursor:
            yield cursor

    def settle(self) -> None:
        """End what the body has left open: a statement that is not at its end cannot be committed."""
        with self._turn:
            with suppress(sqlite3.Error):
                self.set_progress_handler(None, 0)
            for each in (
                list(self._left) if len(self._threads) < 2 else ()
            ):  # else another may be reading from it
                with suppress(sqlite3.Error):
                    each.close()

    def end(self) -> None:
        """Roll back what is not committed, and close."""
        self.is_over = True
        if not self._turn.acquire(timeout=_PATIENCE):
            self._take_back()  # and leave it open: to close it under a statement would crash
            return
        try:
            self.settle()
            self._take_back()
            if len(self._threads) < 2:  # else one may be reading: to close it then would crash
                super().close()
        finally:
            self._turn.release()

    def break_off(self) -> None:
        """Roll back while another thread may be in a statement, which is interrupted; `end` has to follow."""
        self.is_over = True
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            self.interrupt()
            if self._turn.acquire(timeout=0.005):
                try:
                    self._take_back()
                finally:
                    self._turn.release()
                return
        self._take_back()  # it is not in SQLite, but in code of the body that gives rows to it

    def _take_back(self) -> None:
        """Roll back what is not committed."""
        with suppress(sqlite3.Error), self._trusting() as cursor:
            # first of all: a statement of another thread must not write when there is no transaction any more
            cursor.execute("PRAGMA query_only=ON")
            if self.in_transaction:
                cursor.execute("ROLLBACK")

    @contextmanager
    def _trusting(self) -> Iterator[sqlite3.Cursor]:
        before, text_factory = self._trusted, self.text_factory
        self._trusted = threading.get_ident()
        self.text_factory = str
        cursor = sqlite3.Cursor(self)
        cursor.row_factory = None
        try:
            yield cursor
        finally:
            with suppress(sqlite3.Error):  # it is closed
                cursor.close()
            self.text_factory = text_factory
            self._trusted = before

    def run(self, statement: Callable[..., T], *given: Any) -> T:
        """Run a statement of the body; one at a time, since Python's module may stand still if two ask the authorizer."""
        if not self._is_guarded:
            return statement(*given)
        if self.is_over or self.is_ending:
            raise sqlite3.ProgrammingError(_OVER)
        self._threads.add(threading.get_ident())
        with self._turn:
            if self.is_over or self.is_ending:
                raise sqlite3.ProgrammingError(_OVER)
            if not self.in_transaction:
                raise sqlite3.ProgrammingError(_ROLLED_BACK)
            self.refused = None
            try:
                return statement(*given)
            except sqlite3.DatabaseError as error:
                if self.is_over:
                    raise sqlite3.ProgrammingError(_OVER) from error
                if self.refused is None:
                    raise
                raise sqlite3.ProgrammingError(self.refused) from None

    # What a body does

    def cursor(self, factory: Any = None) -> Any:
        """Return a cursor."""
        if factory is None:
            factory = _Cursor
        elif not (isinstance(factory, type) and issubclass(factory, _Cursor)):
            raise sqlite3.NotSupportedError(
                "ctx.transaction() makes its own cursors: call cursor() without a factory, and set its row_factory"
            )
        cursor = super().cursor(factory)
        self._left.add(cursor)
        return cursor

    def execute(self, *given: Any) -> Any:
        """Run a statement on a new cursor."""
        return self.cursor().execute(*given)

    def executemany(self, *given: Any) -> Any:
        """Run a statement, once for each row of parameters, on a new cursor."""
        return self.cursor().executemany(*given)

    def executescript(self, *given: Any) -> NoReturn:
        """Refuse, since it commits first."""
        raise _refusal("executescript(), which commits,")

    def blobopen(self, table: str, *given: Any, **more: Any) -> Any:
        """Open a value as a file."""
        if self._is_guarded and str(table).lower() in _OWN:
            raise sqlite3.ProgrammingError(_own(table))
        blob = self.run(lambda: super(TransactionConnection, self).blobopen(table, *given, **more))
        self._left.add(blob)
        return blob

    def commit(self) -> None:
        """Refuse."""
        raise _refusal("commit()")

    def rollback(self) -> None:
        """Refuse."""
        raise _refusal("rollback()")

    def close(self) -> None:
        """Refuse, unless it has never been a body's."""
        if self._is_guarded:
            raise _refusal("close()")
        super().close()

    def __enter__(self) -> NoReturn:
        raise _refusal("`with connection:`")

    def set_authorizer(self, *given: Any, **more: Any) -> None:
        """Refuse, since there is one."""
        raise sqlite3.NotSupportedError("ctx.transaction() has an authorizer of its own")

    def _may(
        self, action: int, first: str | None, second: str | None, database: str | None, within: str | None
    ) -> int:
        if self._trusted == threading.get_ident():
            return sqlite3.SQLITE_OK
        refusal = _OVER if self.is_over else _refused(action, first, second)
        if refusal is None:
            return sqlite3.SQLITE_OK
        self.refused = refusal
        return sqlite3.SQLITE_DENY


class _Cursor(sqlite3.Cursor):
    """A cursor that says clearly why something is refused."""

    connection: TransactionConnection

    def execute(self, *given: Any) -> Any:
        return self.connection.run(super().execute, *given)

    def executemany(self, *given: Any) -> Any:
        return self.connection.run(super().executemany, *given)

    def executescript(self, *given: Any) -> NoReturn:
        raise _refusal("executescript(), which commits,")


def _refused(action: int, first: str | None, second: str | None) -> str | None:
    """Return why an action is refused; None if it is not."""
    if action in _WRITES:
        table = (first, second)[_WRITES[action]] or ""
        if table.lower() in _OWN:
            return _own(table)
        if action == sqlite3.SQLITE_ALTER_TABLE and first == "temp":
            return "ctx.transaction(): a temporary table cannot be altered; drop it, and make another one"
    elif action == sqlite3.SQLITE_TRANSACTION:
        return _ENDS.format(what=first)
    elif action in (sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH):
        return (
            "ctx.transaction(): ATTACH and DETACH are not possible: two files are not committed as one; "
            "open another connection to read from another database"
        )
    elif action == sqlite3.SQLITE_PRAGMA:
        name = (first or "").lower()
        if name not in _PRAGMAS and (name not in _READ or second is not None):
            return f"ctx.transaction(): PRAGMA {name} is not possible in it"
    return None


def _own(table: str) -> str:
    return f"ctx.transaction(): the table {table!r} is dotflow_like's own; it can be read, and only the library writes it"


def _refusal(what: str) -> sqlite3.ProgrammingError:
    return sqlite3.ProgrammingError(_ENDS.format(what=what))
