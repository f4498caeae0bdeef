"""What a body writes, in one transaction with the end of its attempt and its result.

SQLite lets one connection write at a time, and before 3.51.3 a log may not be committed to, or copied into the file,
by two at once: so from its beginning to its end a transaction holds the lock that every writer of the database takes,
see `sqlite`. Nobody can take the run over meanwhile: to claim it is to write.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeVar, cast
from weakref import WeakSet

from dotflow_like.errors import ConfigError, TaskCancelled
from dotflow_like.model.records import RESULT, Attempt, Checkpoint
from dotflow_like.model.status import AttemptOutcome
from dotflow_like.record.file_lock import FileLock
from dotflow_like.record.journal import Claim, Codec, Encoded, Journal
from dotflow_like.record.sql import SqlJournal
from dotflow_like.record.sql_connection import TransactionConnection
from dotflow_like.record.sql_statements import MIGRATIONS
from dotflow_like.record.sqlite import PATIENCE, Database, Place, held, place_of
from dotflow_like.record.sqlite_errors import failure
from dotflow_like.record.sqlite_opening import Durability, open_to_write

__all__ = ["Grant", "Transaction", "granted", "settled"]

T = TypeVar("T")

_PART: Final = "dotflow_like_part"


class Grant(NamedTuple):
    """All it takes to begin a transaction, in this process or in another one: plain data.

    Attributes:
        path: the database.
        locks: the folder of its locks.
        durability: `"full"` or `"process"`.
        place: the file that is meant.
        claim: the run's.
        inputs: fingerprints of the inputs of the task.
        code: that of its code.
        worker: which worker runs it; None for the run's own thread.
    """

    path: str
    locks: str
    durability: Durability
    place: Place
    claim: Claim
    inputs: Mapping[str, str] | None
    code: str | None
    worker: str | None = None


def granted(
    journal: Journal,
    claim: Claim,
    inputs: Mapping[str, str] | None,
    code: str | None,
    worker: str | None,
) -> Grant:
    """Return what a body needs for a transaction.

    Raises:
        ConfigError: the run is not recorded in a SQL database.
    """
    if not isinstance(journal, SqlJournal):
        raise ConfigError(
            "ctx.transaction() needs a run that is recorded in a SQL database, which it commits to: "
            "storage='sqlite:///runs.db'"
        )
    database, place = journal.database, journal._place
    assert isinstance(database, Database)
    assert place is not None, "the run was claimed there"
    return Grant(database.path, database.locks, database.durability, place, claim, inputs, code, worker)


def settled(journal: Journal, attempt: Attempt) -> Attempt | None:
    """Return an attempt as its transaction has recorded it, if it has; after whoever had it is gone."""
    assert isinstance(journal, SqlJournal)
    # not before its lock is free: who is killed may be in the middle of its last write
    journal.database.write(lambda cursor: None, journal._place)
    record = journal.tasks(attempt.workflow_id, [attempt.task_id]).get(attempt.task_id)
    for each in () if record is None else record.attempts:
        if each.number == attempt.number and each.outcome is AttemptOutcome.SUCCESS:
            return each
    return None


class Transaction:
    """A transaction of one attempt: what the body writes, and how the attempt ended; or nothing of it.

    Args:
        grant: the right to it.
        codec: makes the bytes of results.

    Attributes:
        connection: for the body.
        journal: what it sees of the journal, and can add to it.
        grant: the same.
        recorded: the attempt as it was committed; None if it was not, or nobody knows.

    Raises:
        ClaimLost: somebody else has claimed the run.
        StorageError: it cannot be begun; the message names the file and the reason.
    """

    connection: TransactionConnection

    def __init__(self, grant: Grant, codec: Codec) -> None:
        self.grant = grant
        self._ending = threading.RLock()
        self.recorded: Attempt | None = None
        self._is_over = False
        self._is_left = False
        self._lock = FileLock(os.path.join(grant.locks, "writing"))
        try:
            self._begin(grant, codec)
        except (sqlite3.Error, OSError) as error:
            raise failure("write", grant.path, error, PATIENCE) from error

    @property
    def is_over(self) -> bool:
        """Whether it has been committed or rolled back."""
        return self._is_over

    def commit(self, attempt: Attempt, value: Encoded) -> None:
        """Record the end of the attempt with its result, and commit all.

        Args:
            attempt: as it is to be: completed.
            value: what its body has returned.

        Raises:
            TaskCancelled: it was rolled back before, since the attempt was given up.
            ClaimLost: somebody else has claimed the run; all is rolled back.
            StorageError: it cannot be written; all is rolled back.
        """
        grant, connection = self.grant, self.connection
        with self._ending:
            if self._is_over:
                raise TaskCancelled(
                    f"ctx.transaction() of attempt {attempt.id} was rolled back: the attempt is over"
                )
            try:
                connection.is_ending = True  # threads of the body may go on
                connection.settle()
                if not connection.in_transaction:
                    raise sqlite3.OperationalError("SQLite has rolled back the transaction")
                if place_of(grant.path) != grant.place:
                    raise _moved()
                checkpoint = Checkpoint(attempt.task_id, RESULT, value, grant.inputs, grant.code)
                self.journal.commit(grant.claim, [attempt, checkpoint])
                with connection.trusted() as cursor:
                    cursor.execute("COMMIT")
                self.recorded = attempt
            except (sqlite3.Error, OSError) as error:
                raise failure("write", grant.path, error, PATIENCE) from error
            finally:
                self._end()

    def roll_back(self) -> None:
        """Take all of it back, if it is not over; when its body has ended."""
        with self._ending:
            if not self._is_over:
                self._end()
            elif not self._is_left:
                self.connection.end()

    def break_off(self) -> None:
        """Take it back while its body goes on in another thread; if that commits just now, wait for it."""
        with self._ending:
            if not self._is_over:
                self._is_over = True
                try:
                    self.connection.break_off()
                finally:
                    self._release()

    def _begin(self, grant: Grant, codec: Codec) -> None:
        if place_of(grant.path) != grant.place:
            raise _moved()  # before its folder is made again for the lock
        self._lock.acquire(PATIENCE)
        held.add(self._lock.path)
        try:
            connection = open_to_write(
                grant.path, grant.durability, MIGRATIONS, PATIENCE, make=False, kind=TransactionConnection
            )
            self.connection = cast("TransactionConnection", connection)
            _open.add(self)
            if place_of(grant.path) != grant.place:
                raise _moved()
            connection.execute("BEGIN IMMEDIATE")
            self.connection.guard()
            self.journal = SqlJournal(_Inside(self.connection, grant), codec)
            self.journal.commit(grant.claim, [])  # so that who has lost it begins nothing
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        self._is_over = True
        connection = getattr(self, "connection", None)
        try:
            if connection is not None:
                connection.end()
        finally:
            self._release()

    def _release(self) -> None:
        _open.discard(self)
        held.discard(self._lock.path)
        self._lock.release()
        self._lock.close()

    def _leave(self) -> None:
        """In a fork of the process that has it: it is not this one's to end."""
        import ctypes

        # for ever: to close it would roll back, in memory that is shared with the one that has it
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.connection))
        self._ending = threading.RLock()
        self._is_over = self._is_left = self.connection.is_over = True
        held.discard(self._lock.path)
        self._lock.close()


class _Inside:
    """What a journal writes and reads, in a transaction that is open."""

    def __init__(self, connection: TransactionConnection, grant: Grant) -> None:
        self.path = grant.path
        self.locks = grant.locks
        self.place: Place | None = grant.place
        self._connection = connection
        self._lock = threading.RLock()

    def write(
        self,
        work: Callable[[sqlite3.Cursor], T],
        within: Place | None = None,
        *,
        routine: bool = False,
        lazily: bool = False,
    ) -> T:
        """Do `work` as a part of the transaction: all of it, or nothing."""
        return self._within(lambda cursor: self._part(cursor, work))

    def read(
        self, *queries: str, parameters: Sequence[Any] = (), within: Place | None = None
    ) -> list[list[Any]]:
        """Return all rows that each of the queries finds."""
        return self._within(
            lambda cursor: [cursor.execute(query, parameters).fetchall() for query in queries]
        )

    def _within(self, work: Callable[[sqlite3.Cursor], T]) -> T:
        connection = self._connection
        try:
            with self._lock, connection.trusted() as cursor:
                if connection.is_over or not connection.in_transaction:
                    raise sqlite3.OperationalError("the transaction is over")
                return work(cursor)
        except sqlite3.Error as error:
            raise failure("use", self.path, error, PATIENCE) from error

    def _part(self, cursor: sqlite3.Cursor, work: Callable[[sqlite3.Cursor], T]) -> T:
        cursor.execute(f"SAVEPOINT {_PART}")
        try:
            return work(cursor)
        except BaseException:
            with suppress(sqlite3.Error):
                cursor.execute(f"ROLLBACK TO {_PART}")
            raise
        finally:
            with suppress(sqlite3.Error):
                cursor.execute(f"RELEASE {_PART}")


def _moved() -> OSError:
    return FileNotFoundError(errno.ENOENT, "the file was deleted or replaced while it was in use")


_open: WeakSet[Transaction] = WeakSet()


def _leave_all() -> None:
    for each in list(_open):
        each._leave()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
