from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow_like.errors import (
    ClaimLost,
    ConfigError,
    CorruptCheckpoint,
    IllegalMove,
    StorageError,
    TaskCancelled,
)
from dotflow_like.model.records import NO_METADATA, RESULT, Attempt, Checkpoint, RunRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record import sql_transaction
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Claim, Encoded
from dotflow_like.record.memory import MemoryJournal
from dotflow_like.record.sql import SqlJournal
from dotflow_like.record.sql_statements import MIGRATIONS
from dotflow_like.record.sql_transaction import Transaction, granted, settled
from dotflow_like.record.sqlite import Database

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
RUNNING = Attempt(
    "run", "one", 1, AttemptStatus.RUNNING, None, NOW, NOW, None, "host:1:a", 1, None, None, NO_METADATA, 0
)
DONE = RUNNING._replace(
    status=AttemptStatus.COMPLETED,
    outcome=AttemptOutcome.SUCCESS,
    finished_at=NOW + timedelta(seconds=1),
    worker="thread 7",
    metadata={"rows": 3},
)
CODEC = JsonCodec()
VALUE = Encoded(CODEC.encode({"sold": 3}))


class Ledger:
    """A run with one task that runs, and a table of the user's beside it."""

    def __init__(self, folder: Path, durability: Any = "process") -> None:
        self.path = str(folder / "runs.db")
        self.database = Database(self.path, durability, f"{self.path}-locks", MIGRATIONS, patience=5)
        self.journal = SqlJournal(self.database, CODEC)
        assert self.journal.create(
            RunRecord("run", "workflow", None, {}, "sequential", RunStatus.PENDING, NOW)
        )
        self.claim = self.journal.claim("run", "host:1:a", NOW)
        self.journal.commit(self.claim, [RUNNING])
        self.sql("CREATE TABLE ledger (what TEXT PRIMARY KEY, amount INTEGER NOT NULL)")

    def begin(self, journal: SqlJournal | None = None, claim: Claim | None = None) -> Transaction:
        grant = granted(journal or self.journal, claim or self.claim, {"x": "1"}, "code", None)
        return Transaction(grant, CODEC)

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement, parameters).fetchall()

    def rows(self) -> list[Any]:
        return self.sql("SELECT what, amount FROM ledger ORDER BY what")

    def attempt(self) -> Attempt:
        return self.journal.tasks("run", ["one"])["one"].attempts[-1]

    def check_nothing_was_kept(self) -> None:
        assert self.rows() == []
        assert self.attempt() == RUNNING
        assert settled(self.journal, RUNNING) is None
        assert list(self.journal.tasks("run", ["one"])["one"].checkpoints) == []
        assert self.sql("PRAGMA integrity_check") == [("ok",)]

    def check_it_can_be_written(self) -> None:
        """The lock is free, and the run goes on."""
        self.journal.commit(self.claim, [Checkpoint("one", "saved/later", VALUE)])


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.database.close()
    assert not list(sql_transaction._open), "a transaction was left open"


@pytest.fixture
def transaction(ledger: Ledger) -> Iterator[Transaction]:
    transaction = ledger.begin()
    yield transaction
    transaction.roll_back()


INSERT = "INSERT INTO ledger VALUES (?, ?)"


@pytest.mark.parametrize("durability", ["full", "process"])
def test_what_was_written_is_committed_with_the_attempt_and_its_result(
    tmp_path: Path, durability: str
) -> None:
    ledger = Ledger(tmp_path, durability)
    transaction = ledger.begin()
    transaction.connection.execute(INSERT, ("a", 1))
    assert ledger.rows() == []
    assert not transaction.is_over
    transaction.commit(DONE, VALUE)
    assert transaction.is_over
    assert ledger.rows() == [("a", 1)]
    assert ledger.attempt() == DONE
    assert settled(ledger.journal, RUNNING) == DONE
    kept = ledger.journal.tasks("run", ["one"])["one"].checkpoints[RESULT]
    assert (kept.value.load(), kept.inputs, kept.code) == ({"sold": 3}, {"x": "1"}, "code")
    ledger.check_it_can_be_written()


@pytest.mark.parametrize(("durability", "level"), [("full", 2), ("process", 1)])
def test_it_is_as_durable_as_the_database(tmp_path: Path, durability: str, level: int) -> None:
    transaction = Ledger(tmp_path, durability).begin()
    assert transaction.connection.execute("PRAGMA synchronous").fetchone() == (level,)
    transaction.roll_back()


def test_what_is_rolled_back_leaves_nothing(ledger: Ledger) -> None:
    transaction = ledger.begin()
    transaction.connection.execute(INSERT, ("a", 1))
    transaction.connection.execute("CREATE TABLE more (x)")
    transaction.journal.commit(ledger.claim, [Checkpoint("one", "saved/x", VALUE)])
    transaction.roll_back()
    transaction.roll_back()
    ledger.check_nothing_was_kept()
    assert ledger.sql("SELECT name FROM sqlite_master WHERE name = 'more'") == []
    ledger.check_it_can_be_written()
    with pytest.raises(TaskCancelled, match="run/one/1 was rolled back"):
        transaction.commit(DONE, VALUE)


def test_while_it_is_open_others_read_what_was_before_and_wait_to_write(ledger: Ledger) -> None:
    transaction = ledger.begin()
    transaction.connection.execute(INSERT, ("a", 1))
    written = threading.Event()

    def write() -> None:
        ledger.check_it_can_be_written()
        written.set()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert ledger.rows() == []
        assert not written.wait(0.05)
    finally:
        transaction.commit(DONE, VALUE)
        thread.join()
    assert written.is_set()


# What is not for the body


@pytest.mark.parametrize(
    "end",
    [
        lambda connection: connection.commit(),
        lambda connection: connection.rollback(),
        lambda connection: connection.close(),
        lambda connection: connection.executescript("SELECT 1"),
        lambda connection: connection.cursor().executescript("SELECT 1"),
        lambda connection: connection.__enter__(),
        lambda connection: connection.execute("COMMIT"),
        lambda connection: connection.execute("-- done\n  end transaction"),
        lambda connection: connection.execute("ROLLBACK"),
        lambda connection: connection.execute("BEGIN"),
        lambda connection: connection.cursor().execute("COMMIT"),
    ],
)
def test_its_end_is_not_the_bodys(
    ledger: Ledger, transaction: Transaction, end: Callable[[Any], Any]
) -> None:
    connection = transaction.connection
    connection.execute(INSERT, ("a", 1))
    with pytest.raises(sqlite3.ProgrammingError, match=r"is committed when the body returns.* SAVEPOINT"):
        end(connection)
    assert ledger.rows() == []
    assert connection.in_transaction
    transaction.commit(DONE, VALUE)
    assert ledger.rows() == [("a", 1)]


@pytest.mark.parametrize(
    "trick",
    [
        lambda connection: sqlite3.Connection.commit(connection),
        lambda connection: sqlite3.Connection.rollback(connection),
        lambda connection: setattr(connection, "isolation_level", None),
        lambda connection: sqlite3.Cursor(connection).execute("COMMIT"),
        lambda connection: sqlite3.Connection.__exit__(connection, None, None, None),
    ],
)
def test_tricks_do_not_end_it_either(
    ledger: Ledger, transaction: Transaction, trick: Callable[[Any], Any]
) -> None:
    connection = transaction.connection
    connection.execute(INSERT, ("a", 1))
    with pytest.raises(sqlite3.Error, match=r"not authorized|is committed when"):
        trick(connection)
    assert connection.in_transaction
    transaction.commit(DONE, VALUE)
    assert ledger.rows() == [("a", 1)]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO checkpoints VALUES ('run', 'one', 'x', '{}', '', 'json', 'sum', '1')",
        "INSERT OR REPLACE INTO schema_version VALUES (99, 'now')",
        "UPDATE Task_Attempts SET status = 'completed'",
        "UPDATE main.workflow_runs SET fence = 0",
        "DELETE FROM workflow_runs",
        "WITH x AS (SELECT 1) DELETE FROM task_attempts",
        "DROP TABLE checkpoints",
        "ALTER TABLE checkpoints ADD COLUMN more",
        "ALTER TABLE task_attempts RENAME TO theirs",
        "CREATE INDEX theirs ON task_attempts (owner)",
        "CREATE TRIGGER theirs AFTER UPDATE ON task_attempts BEGIN SELECT 1; END",
        "CREATE TEMP TRIGGER theirs AFTER UPDATE ON task_attempts BEGIN SELECT 1; END",
        "CREATE TEMP TABLE task_attempts (x)",
        "CREATE TEMP VIEW workflow_runs AS SELECT 1 AS fence",
    ],
)
def test_the_librarys_own_tables_are_read_only(
    ledger: Ledger, transaction: Transaction, statement: str
) -> None:
    with pytest.raises(sqlite3.ProgrammingError, match="is dotflow_like's own"):
        transaction.connection.execute(statement)
    transaction.commit(DONE, VALUE)
    assert ledger.attempt() == DONE


def test_a_trigger_of_the_users_does_not_write_them_either(ledger: Ledger, transaction: Transaction) -> None:
    connection = transaction.connection
    connection.execute("CREATE TRIGGER sly AFTER INSERT ON ledger BEGIN DELETE FROM task_attempts; END")
    with pytest.raises(sqlite3.ProgrammingError, match="dotflow_like's own"):
        connection.execute(INSERT, ("a", 1))
    connection.execute("DROP TRIGGER sly")


def test_no_other_table_takes_the_place_of_ours(transaction: Transaction) -> None:
    connection = transaction.connection
    connection.execute("CREATE TEMP TABLE mine (x)")
    with pytest.raises(sqlite3.ProgrammingError, match="temporary table cannot be altered"):
        connection.execute("ALTER TABLE mine RENAME TO task_attempts")


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH ':memory:' AS other",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA synchronous = OFF",
        "PRAGMA wal_checkpoint",
        "PRAGMA writable_schema = ON",
        "PRAGMA foreign_keys = ON",
        "PRAGMA query_only = ON",
        "PRAGMA locking_mode = EXCLUSIVE",
    ],
)
def test_what_would_change_the_database_is_refused(transaction: Transaction, statement: str) -> None:
    with pytest.raises(sqlite3.ProgrammingError, match=r"ctx\.transaction\(\)"):
        transaction.connection.execute(statement)


def test_another_authorizer_or_kind_of_cursor_is_refused(transaction: Transaction) -> None:
    with pytest.raises(sqlite3.NotSupportedError, match="authorizer"):
        transaction.connection.set_authorizer(None)
    with pytest.raises(sqlite3.NotSupportedError, match="row_factory"):
        transaction.connection.cursor(sqlite3.Cursor)


def test_all_the_rest_of_sql_is_the_bodys(ledger: Ledger, transaction: Transaction) -> None:
    connection = transaction.connection
    connection.execute("CREATE TABLE log (x)")
    connection.execute("CREATE INDEX by_x ON log (x)")
    connection.executemany(INSERT, [("a", 1), ("b", 2)])
    connection.execute("SAVEPOINT part")
    connection.execute("DELETE FROM ledger")
    connection.execute("ROLLBACK TO part")
    connection.execute("RELEASE part")
    connection.execute("INSERT INTO log SELECT what FROM ledger")
    connection.execute("CREATE TEMP TABLE seen AS SELECT * FROM ledger")
    connection.execute("PRAGMA table_info(ledger)").fetchall()
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    connection.create_function("twice", 1, lambda x: 2 * x)
    assert connection.execute("UPDATE ledger SET amount = twice(amount) RETURNING amount").fetchall() == [
        (2,),
        (4,),
    ]
    assert connection.execute("SELECT status FROM task_attempts").fetchall() == [("running",)]
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        connection.execute(INSERT, ("a", 1))
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        connection.execute("SELECT * FROM missing")
    transaction.commit(DONE, VALUE)
    assert ledger.rows() == [("a", 2), ("b", 4)]


def test_an_error_after_a_refusal_is_told_as_it_is(transaction: Transaction) -> None:
    with pytest.raises(sqlite3.ProgrammingError, match="SAVEPOINT"):
        transaction.connection.execute("COMMIT")
    with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
        transaction.connection.execute(INSERT, ("a", None))


def test_after_sqlite_has_rolled_it_back_nothing_is_written(ledger: Ledger, transaction: Transaction) -> None:
    connection = transaction.connection
    connection.execute(INSERT, ("a", 1))
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute("INSERT OR ROLLBACK INTO ledger VALUES ('a', 2)")
    with pytest.raises(sqlite3.ProgrammingError, match="SQLite has rolled back"):
        connection.execute(INSERT, ("b", 1))
    with pytest.raises(sqlite3.Error):
        sqlite3.Cursor(connection).execute(INSERT, ("b", 1))
    with pytest.raises(StorageError, match="SQLite has rolled back"):
        transaction.commit(DONE, VALUE)
    ledger.check_nothing_was_kept()
    ledger.check_it_can_be_written()


# What the body leaves behind


def test_statements_that_are_not_at_their_end_do_not_hinder_it(ledger: Ledger) -> None:
    transaction = ledger.begin()
    connection = transaction.connection
    connection.executemany(INSERT, [(str(number), number) for number in range(10)])
    connection.execute("SAVEPOINT left")
    reading = connection.execute("SELECT * FROM ledger")
    writing = connection.execute("UPDATE ledger SET amount = amount + 1 RETURNING amount")
    assert reading.fetchone() == ("0", 0)
    assert writing.fetchone() == (1,)
    transaction.commit(DONE, VALUE)
    assert [amount for _, amount in ledger.rows()] == list(range(1, 11))
    for cursor in (reading, writing):
        with pytest.raises(sqlite3.ProgrammingError):
            cursor.fetchone()


def test_an_open_blob_does_not_hinder_it(ledger: Ledger) -> None:
    transaction = ledger.begin()
    connection = transaction.connection
    connection.execute("CREATE TABLE files (data BLOB)")
    connection.execute("INSERT INTO files VALUES (zeroblob(3))")
    blob = connection.blobopen("files", "data", 1)
    blob.write(b"abc")
    with pytest.raises(sqlite3.ProgrammingError, match="own"):
        connection.blobopen("schema_version", "applied_at", 1)
    transaction.commit(DONE, VALUE)
    assert ledger.sql("SELECT data FROM files") == [(b"abc",)]


def test_whatever_the_body_makes_of_the_connection_the_end_is_recorded(ledger: Ledger) -> None:
    transaction = ledger.begin()
    connection = transaction.connection
    connection.row_factory = lambda cursor, row: {"row": row}
    connection.text_factory = bytes
    connection.isolation_level = "DEFERRED"
    connection.set_trace_callback(lambda statement: None)
    transaction.journal.commit(ledger.claim, [Checkpoint("one", "saved/x", VALUE)])
    assert list(transaction.journal.tasks("run", ["one"])["one"].checkpoints) == ["saved/x"]
    assert connection.text_factory is bytes
    connection.set_progress_handler(lambda: 1, 1)
    transaction.commit(DONE, VALUE)
    assert ledger.attempt() == DONE


def test_after_its_end_nothing_can_be_done_in_it(ledger: Ledger) -> None:
    transaction = ledger.begin()
    connection = transaction.connection
    cursor = connection.cursor()
    transaction.commit(DONE, VALUE)
    for late in (connection.execute, cursor.execute):
        with pytest.raises(sqlite3.ProgrammingError):
            late(INSERT, ("late", 1))
    with pytest.raises(StorageError):
        transaction.journal.commit(ledger.claim, [])
    assert ledger.rows() == []


# What it sees of the journal


def test_what_is_saved_in_it_is_a_part_of_it(ledger: Ledger) -> None:
    ledger.journal.commit(ledger.claim, [Checkpoint("one", "saved/before", VALUE)])
    transaction = ledger.begin()
    journal = transaction.journal
    journal.commit(
        ledger.claim, [Checkpoint("one", "saved/x", VALUE), Checkpoint("one", "saved/before", None)]
    )
    assert list(journal.tasks("run", ["one"])["one"].checkpoints) == ["saved/x"]
    assert journal.reference("run", "one", "saved/x").load() == {"sold": 3}
    assert list(ledger.journal.tasks("run", ["one"])["one"].checkpoints) == ["saved/before"]
    with pytest.raises(CorruptCheckpoint, match="is gone"):
        journal.reference("run", "one", "saved/before").load()
    transaction.commit(DONE, VALUE)
    assert set(ledger.journal.tasks("run", ["one"])["one"].checkpoints) == {"saved/x", RESULT}


def test_what_cannot_be_saved_in_it_leaves_the_rest(ledger: Ledger) -> None:
    transaction = ledger.begin()
    transaction.connection.execute(INSERT, ("a", 1))
    with pytest.raises(IllegalMove):
        transaction.journal.commit(ledger.claim, [Checkpoint("one", "saved/x", VALUE), RUNNING])
    assert list(transaction.journal.tasks("run", ["one"])["one"].checkpoints) == []
    transaction.commit(DONE, VALUE)
    assert ledger.rows() == [("a", 1)]


# Who may have it


def test_who_has_lost_the_claim_begins_nothing(ledger: Ledger) -> None:
    ledger.journal.claim("run", "host:2:b", NOW)
    with pytest.raises(ClaimLost, match="taken over by host:2:b"):
        ledger.begin()
    second = ledger.journal.claim("run", "host:3:c", NOW)
    ledger.journal.commit(second, [])


def test_nobody_claims_the_run_while_it_is_open(ledger: Ledger) -> None:
    """Not even one with another folder of locks, as on another machine."""
    other = Database(ledger.path, "process", f"{ledger.path}-other", MIGRATIONS, patience=0.1)
    transaction = ledger.begin()
    with pytest.raises(StorageError, match="locked"):
        SqlJournal(other, CODEC).claim("run", "host:2:b", NOW)
    transaction.connection.execute(INSERT, ("a", 1))
    transaction.commit(DONE, VALUE)
    SqlJournal(other, CODEC).claim("run", "host:2:b", NOW)
    assert ledger.rows() == [("a", 1)]
    other.close()


def test_an_attempt_that_has_ended_otherwise_does_not_end_again(ledger: Ledger) -> None:
    ledger.journal.commit(
        ledger.claim, [DONE._replace(status=AttemptStatus.FAILED, outcome=AttemptOutcome.FAILED)]
    )
    transaction = ledger.begin()
    transaction.connection.execute(INSERT, ("a", 1))
    with pytest.raises(IllegalMove):
        transaction.commit(DONE, VALUE)
    assert ledger.rows() == []
    assert transaction.is_over


def test_a_run_that_is_not_in_a_database_has_none() -> None:
    with pytest.raises(ConfigError, match=r"ctx\.transaction\(\) needs .*storage='sqlite:///runs.db'"):
        granted(MemoryJournal(), Claim("run", "host:1:a", 1), None, None, None)


# Where it is


def test_a_file_that_was_replaced_is_left_alone(ledger: Ledger) -> None:
    Path(ledger.path).rename(f"{ledger.path}.old")
    shutil.copy(f"{ledger.path}.old", ledger.path)
    with pytest.raises(StorageError, match="deleted or replaced"):
        ledger.begin()


def test_a_file_that_is_replaced_meanwhile_is_left_alone(ledger: Ledger) -> None:
    transaction = ledger.begin()
    transaction.connection.execute(INSERT, ("a", 1))
    Path(ledger.path).rename(f"{ledger.path}.old")
    with pytest.raises(StorageError, match="deleted or replaced"):
        transaction.commit(DONE, VALUE)
    Path(f"{ledger.path}.old").rename(ledger.path)
    ledger.check_nothing_was_kept()


# Threads, forks, deaths


def test_a_body_that_goes_on_in_another_thread_can_be_broken_off(
    ledger: Ledger, until: Callable[..., None]
) -> None:
    transaction = ledger.begin()
    connection = transaction.connection
    errors: list[BaseException] = []
    busy = threading.Event()

    def rows() -> Iterator[tuple[str, int]]:
        for number in range(10_000_000):
            if number == 100:
                busy.set()
            yield str(number), number

    def write() -> None:
        try:
            connection.executemany(INSERT, rows())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    busy.wait()
    transaction.break_off()
    thread.join(30)
    assert [type(error) for error in errors] == [sqlite3.ProgrammingError]
    ledger.check_nothing_was_kept()
    ledger.check_it_can_be_written()


def test_a_long_statement_in_another_thread_is_interrupted(ledger: Ledger) -> None:
    transaction = ledger.begin()
    connection = transaction.connection
    begun = threading.Event()
    connection.create_function("told", 0, lambda: begun.set() or 1)
    errors: list[BaseException] = []

    def compute() -> None:
        try:
            connection.execute(
                "WITH RECURSIVE n (i) AS (SELECT told() UNION ALL SELECT i + 1 FROM n) "
                "INSERT INTO ledger SELECT 'x', max(i) FROM n"
            )
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=compute)
    thread.start()
    begun.wait()
    transaction.break_off()
    thread.join(30)
    assert [type(error) for error in errors] == [sqlite3.ProgrammingError]
    ledger.check_nothing_was_kept()


def test_a_fork_of_its_process_cannot_end_it(ledger: Ledger) -> None:
    transaction = ledger.begin()
    connection = transaction.connection
    connection.executemany(INSERT, [(str(number) * 5000, 1) for number in range(1000)])  # more than a cache
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            try:
                transaction.connection.execute(INSERT, ("b", 1))
            except sqlite3.ProgrammingError:
                transaction.commit(DONE, VALUE)
        except TaskCancelled:
            transaction.roll_back()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert connection.execute("SELECT count(*), sum(amount) FROM ledger").fetchone() == (1000, 1000)
    transaction.commit(DONE, VALUE)
    assert len(ledger.rows()) == 1000
    assert ledger.sql("PRAGMA integrity_check") == [("ok",)]


def test_a_fork_that_lives_on_does_not_hold_its_lock(ledger: Ledger) -> None:
    transaction = ledger.begin()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    transaction.roll_back()
    ledger.check_it_can_be_written()
    os.close(writing)
    os.waitpid(pid, 0)


CHILD = """
import os, sys, signal
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Claim
from dotflow_like.record.sql_transaction import Grant, Transaction

grant = Grant({path!r}, {locks!r}, "process", {place!r}, Claim(*{claim!r}), None, None)
transaction = Transaction(grant, JsonCodec())
transaction.connection.executemany("INSERT INTO ledger VALUES (?, ?)", [(str(n), n) for n in range({rows})])
print("open", flush=True)
sys.stdin.readline()
"""


def child(ledger: Ledger, rows: int) -> str:
    """Return the text of a process that begins a transaction of the run, says so, and waits."""
    return textwrap.dedent(CHILD).format(
        path=ledger.path,
        locks=ledger.database.locks,
        place=ledger.database.place,
        claim=tuple(ledger.claim),
        rows=rows,
    )


@pytest.mark.parametrize("rows", [1, 200_000], ids=["few", "more than a cache"])
def test_of_a_process_that_is_killed_in_it_nothing_is_kept(ledger: Ledger, rows: int) -> None:
    text = child(ledger, rows)
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    ledger.check_nothing_was_kept()
    ledger.check_it_can_be_written()


def test_the_second_of_two_processes_waits_for_the_first(ledger: Ledger) -> None:
    text = child(ledger, 1)
    transaction = ledger.begin()
    with subprocess.Popen(
        [sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        opened = threading.Event()
        told = process.stdout
        thread = threading.Thread(target=lambda: told.readline() == "open\n" and opened.set())
        thread.start()
        assert not opened.wait(0.3)
        transaction.connection.execute(INSERT, ("first", 1))
        transaction.commit(DONE, VALUE)
        assert opened.wait(30)
        thread.join()
        process.communicate("\n")
    assert process.returncode == 0
    assert ledger.rows() == [("first", 1)]
