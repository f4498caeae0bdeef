from __future__ import annotations

import gc
import itertools
import pickle
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Config, RunStatus, Workflow, task
from dotflow_like.errors import CodecError, CorruptCheckpoint, DotflowError, StorageError
from dotflow_like.model.records import NO_METADATA, Attempt, Checkpoint, Request, RunRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus
from dotflow_like.record import sqlite
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Claim, Encoded
from dotflow_like.record.sql import SqlJournal
from dotflow_like.record.sql_rows import sum_of
from dotflow_like.record.sql_statements import MIGRATIONS
from dotflow_like.record.sqlite import Database

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


@task
def one() -> dict[str, Any]:
    return {"number": 1, "data": b"\xff\0"}


@task
def two(given: dict[str, Any], factor: int) -> int:
    return int(given["number"]) * factor


@task(retry=2)
def three(given: int) -> int:
    with suppress(FileExistsError):
        Path("tried").touch(exist_ok=False)
        raise ValueError(f"not with {given}")
    return given + 1


@task
def never(given: int) -> int:
    raise KeyError(given)


WORKFLOW = Workflow([one, two.bind(given=one, factor=2), three.bind(given=two)], name="numbers")
FAILING = Workflow([one, two.bind(given=one, factor=2), never.bind(given=two)], name="numbers")


class Store:
    """A database in a folder of its own, into which anybody may write.

    Attributes:
        path: the file.
        url: the storage.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}?durability=process"

    def journal(self) -> SqlJournal:
        """Return a journal with a connection of its own, as another process has."""
        return SqlJournal(Database(str(self.path), "process", f"{self.path}-locks", MIGRATIONS), JsonCodec())

    def run(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement, and return what it finds."""
        with closing(sqlite3.connect(self.path)) as connection:
            found = connection.execute(statement, values).fetchall()
            connection.commit()
        return found

    def damage(self, statement: str, *values: Any) -> None:
        """Run a statement that changes one row."""
        with closing(sqlite3.connect(self.path)) as connection:
            assert connection.execute(statement, values).rowcount == 1
            connection.commit()

    def whole(self) -> bytes:
        """Return the whole file."""
        sqlite._close_all()
        return self.path.read_bytes()

    def put_back(self, whole: bytes) -> None:
        """Make it what it was."""
        sqlite._close_all()
        self.path.write_bytes(whole)

    def resume(self, workflow: Workflow = WORKFLOW, workflow_id: str = "r", **options: Any) -> Any:
        """Resume a run, and return its results."""
        run = workflow.run(storage=self.url, workflow_id=workflow_id, resume=True, **options)
        return {each.task_id: (each.result, each.restored) for each in run.tasks}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "runs.db")


@pytest.fixture
def done(store: Store) -> Store:
    """A store with a run that is done."""
    WORKFLOW.run(storage=store.url, workflow_id="r").raise_for_failure()
    return store


@pytest.fixture
def failed(store: Store) -> Store:
    """A store with a run whose last task failed."""
    run = FAILING.run(storage=store.url, workflow_id="r", on_failure=lambda tasks: None)
    assert run.status is RunStatus.FAILED
    return store


RESTORED = {"one": ({"number": 1, "data": b"\xff\0"}, True), "two": (2, True), "three": (3, True)}


# readable with plain SQL


def test_runs_and_attempts_are_rows(done: Store) -> None:
    (run,) = done.run(
        "SELECT workflow_id, workflow, mode, status, reason, fence, crashes, params FROM workflow_runs"
    )
    assert run == ("r", "numbers", "sequential", "completed", None, 1, 0, "{}")
    attempts = done.run(
        "SELECT task_id, number, status, outcome, fence, error_type, error_message FROM task_attempts"
    )
    assert attempts == [
        ("one", 1, "completed", "success", 1, None, None),
        ("three", 1, "failed", "retried", 1, "ValueError", "not with 2"),
        ("three", 2, "completed", "success", 1, None, None),
        ("two", 1, "completed", "success", 1, None, None),
    ]
    ((traceback,),) = done.run("SELECT error_traceback FROM task_attempts WHERE error_type = 'ValueError'")
    assert "in three" in traceback
    assert done.run("SELECT version FROM schema_version") == [(1,), (2,)]


def test_times_are_texts_that_sort_and_that_sql_understands(done: Store) -> None:
    (times,) = done.run("SELECT created_at, started_at, finished_at FROM workflow_runs")
    assert list(times) == sorted(times)
    assert all(datetime.fromisoformat(each).utcoffset() == datetime.now(UTC).utcoffset() for each in times)
    rows = done.run("SELECT julianday(finished_at) - julianday(started_at) FROM task_attempts")
    assert all(0 <= days < 1 for (days,) in rows)


def test_plain_results_are_json_to_sql_and_others_bytes(done: Store) -> None:
    assert done.run("SELECT value, json_extract(value, '$') FROM task_attempts WHERE task_id = 'two'") == [
        ("2", 2)
    ]
    ((value, kind),) = done.run("SELECT value, typeof(value) FROM task_attempts WHERE task_id = 'one'")
    assert kind in ("text", "blob")
    assert JsonCodec().decode(value if kind == "blob" else value.encode()) == one()


# a run keeps to its file


def attempt_of(workflow_id: str, key: str, claim: Claim) -> Attempt:
    return Attempt(
        workflow_id, key, 1, AttemptStatus.RUNNING, None, NOW, NOW, None, claim.owner, claim.fence, None, None,
        NO_METADATA, 1,
    )  # fmt: skip


def make_run(journal: SqlJournal) -> tuple[Claim, Attempt]:
    assert journal.create(RunRecord("r", "numbers", None, {}, "sequential", RunStatus.PENDING, NOW))
    claim = journal.claim("r", "host:1:a", NOW)
    return claim, attempt_of("r", "one", claim)


def success(attempt: Attempt, value: bytes) -> list[Any]:
    closed = attempt._replace(status=AttemptStatus.COMPLETED, outcome=AttemptOutcome.SUCCESS, finished_at=NOW)
    return [closed, Checkpoint(attempt.task_id, "result", Encoded(value), {"x": "1"}, "2")]


def test_a_run_whose_file_was_replaced_writes_nothing_and_reads_its_own(store: Store, tmp_path: Path) -> None:
    journal = store.journal()
    claim, attempt = make_run(journal)
    journal.commit(claim, [attempt])
    journal.commit(claim, success(attempt, b"1"))
    for ending in ("", "-wal", "-shm"):
        Path(f"{store.path}{ending}").unlink()
    other = store.journal()
    other_claim, other_attempt = make_run(other)
    assert other_claim == claim  # as in a copy that was restored
    other.commit(other_claim, [other_attempt])
    with pytest.raises(StorageError, match=r"cannot write '.*runs\.db': the file was deleted or replaced"):
        journal.commit(claim, success(attempt, b"2"))
    assert journal.read("r", "one", "result") == b"1"
    assert journal.tasks("r", ["one"])["one"].attempts[-1].status is AttemptStatus.COMPLETED
    assert other.tasks("r", ["one"])["one"].attempts[-1].status is AttemptStatus.RUNNING
    other.commit(other_claim, success(other_attempt, b"3"))
    assert store.journal().read("r", "one", "result") == b"3"
    journal.database.close()
    other.database.close()


def test_a_run_whose_file_was_deleted_makes_no_other_one(store: Store) -> None:
    journal = store.journal()
    claim, attempt = make_run(journal)
    store.path.unlink()
    with pytest.raises(StorageError, match=r"cannot write '.*runs\.db': the file was deleted or replaced"):
        journal.commit(claim, [attempt])
    journal.database.close()
    with pytest.raises(StorageError, match="deleted or replaced"):
        journal.commit(claim, [attempt])
    assert not store.path.exists()


# rows that were damaged

SPOILT = "x"
ONE = "WHERE task_id = 'one'"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (f"UPDATE task_attempts SET value = '{{\"number\":2}}' {ONE}", "the result of task 'one' of run r does not match"),
        (f"UPDATE task_attempts SET value = NULL {ONE}", "the result of task 'one' of run r does not match"),
        (f"UPDATE task_attempts SET value = 7 {ONE}", "the result of task 'one' of run r does not match"),
        (f"UPDATE task_attempts SET codec = 'pickle' {ONE}", "the result of task 'one' of run r does not match"),
        (f"UPDATE task_attempts SET codec = NULL {ONE}", "the result of task 'one' of run r does not match"),
        (f"UPDATE task_attempts SET sum = sum || '0' {ONE}", "the result of task 'one' of run r does not match"),
        (f"UPDATE task_attempts SET sum = '0' || sum {ONE}", "attempt r/one/1 is damaged: it does not match its checksum"),
        (f"UPDATE task_attempts SET sum = 0 {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET sum = NULL {ONE}", "attempt r/one/1 is damaged: its result is gone"),
        ("UPDATE task_attempts SET inputs = replace(inputs, 'e', 'f') WHERE task_id = 'two'", "attempt r/two/1 is damaged"),
        (f"UPDATE task_attempts SET inputs = '{{\"x\":' {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET inputs = NULL {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET code = 'other' {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET code = NULL {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET status = 'compleued' {ONE}", "attempt r/one/1 is damaged: 'compleued' means nothing"),
        (f"UPDATE task_attempts SET outcome = 'Success' {ONE}", "attempt r/one/1 is damaged: 'Success' means nothing"),
        (f"UPDATE task_attempts SET scheduled_at = '2026-13-01' {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET started_at = '2026-12-01' {ONE}", "attempt r/one/1 is damaged: '2026-12-01' is no time"),
        (f"UPDATE task_attempts SET finished_at = X'00' {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET generation = 'x' {ONE}", "attempt r/one/1 is damaged: a number in it is none"),
        (f"UPDATE task_attempts SET fence = 1.5 {ONE}", "attempt r/one/1 is damaged: a number in it is none"),
        (f"UPDATE task_attempts SET discards = 'x' {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET metadata = '{{' {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET error_type = 'E' {ONE}", "attempt r/one/1 is damaged"),
        (f"UPDATE task_attempts SET worker = CAST(X'ff' AS TEXT) {ONE}", "worker in the row ('one', 1, 1) of ('r',)"),
        (f"UPDATE task_attempts SET owner = CAST(X'ff' AS TEXT) {ONE}", "owner in the row ('one', 1, 1) of ('r',)"),
        (f"UPDATE task_attempts SET status = CAST(X'ff' AS TEXT) {ONE}", "status in the row ('one', 1, 1) of ('r',)"),
        ("UPDATE workflow_runs SET params = '{\"a\":1}'", "run r is damaged: it does not match its checksum"),
        ("UPDATE workflow_runs SET params_sum = ''", "run r is damaged: it does not match its checksum"),
        ("UPDATE workflow_runs SET workflow = 'others'", "run r is damaged: it does not match its checksum"),
        ("UPDATE workflow_runs SET idempotency_key = 'k'", "run r is damaged: it does not match its checksum"),
        ("UPDATE workflow_runs SET created_at = started_at", "run r is damaged: it does not match its checksum"),
        ("UPDATE workflow_runs SET status = 'done'", "run r is damaged: 'done' is not a valid RunStatus"),
        ("UPDATE workflow_runs SET finished_at = 'x'", "run r is damaged"),
        ("UPDATE workflow_runs SET fence = 'x'", "run r is damaged: a number in it is none"),
        ("UPDATE workflow_runs SET crashes = 'x'", "run r is damaged: a number in it is none"),
        ("UPDATE workflow_runs SET owner = CAST(X'ff' AS TEXT)", "owner in the row ('r', 'numbers', None) of ('r',)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("policy", ["reuse", "reset"])
def test_a_damaged_row_is_named_and_nothing_runs_again(
    done: Store, damage: str, named: str, policy: str
) -> None:
    done.damage(damage)
    with pytest.raises(CorruptCheckpoint) as raised:
        done.resume(on_input_change=policy, on_code_change="reuse" if policy == "reuse" else "rerun")
    assert f"'{done.path}': " in str(raised.value)
    assert named in str(raised.value)
    assert done.run("SELECT count(*) FROM task_attempts") == [(4,)]


@pytest.mark.parametrize("tasks", [3, 30])
def test_a_result_under_another_key_is_missed(store: Store, tasks: int) -> None:
    workflow = Workflow([task(lambda: 1, name=f"t{i}") for i in range(tasks)])
    workflow.run(storage=store.url, workflow_id="r").raise_for_failure()
    store.damage("UPDATE task_attempts SET task_id = 'q' WHERE task_id = 't1'")
    with pytest.raises(CorruptCheckpoint, match=r"attempt r/q/1 is damaged: it does not match its checksum"):
        store.resume(workflow)
    assert store.run("SELECT count(*) FROM task_attempts") == [(tasks,)]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE task_attempts SET workflow_id = 's' WHERE task_id = 'one'",
        "DELETE FROM task_attempts WHERE task_id = 'one'",
        "UPDATE workflow_runs SET attempts = 'x'",
    ],
)
def test_an_attempt_that_is_gone_is_missed(failed: Store, damage: str) -> None:
    assert failed.run("SELECT attempts FROM workflow_runs") == [(3,)]
    failed.damage(damage)
    with pytest.raises(CorruptCheckpoint, match=r"attempts of run r are gone: of (3|'x') there are [23]"):
        failed.resume(FAILING)
    assert failed.run("SELECT max(fence) FROM workflow_runs") == [(1,)]


def test_a_run_whose_row_is_gone_does_not_begin_anew(done: Store) -> None:
    done.damage("DELETE FROM workflow_runs")
    for _ in range(2):
        with pytest.raises(CorruptCheckpoint, match="the row of run r is gone"):
            done.resume()
    assert done.run("SELECT count(*) FROM task_attempts") == [(4,)]


def test_the_row_of_a_run_that_goes_while_it_runs_ends_it(store: Store) -> None:
    journal = store.journal()
    claim, attempt = make_run(journal)
    store.damage("DELETE FROM workflow_runs")
    with pytest.raises(CorruptCheckpoint, match="the row of run r is gone"):
        journal.commit(claim, [attempt])
    with pytest.raises(CorruptCheckpoint, match="the row of run r is gone"):
        journal.claim("r", "host:2:b", NOW)
    journal.database.close()


def test_a_damaged_attempt_is_named_by_who_claims_or_writes(store: Store) -> None:
    journal = store.journal()
    claim, attempt = make_run(journal)
    journal.commit(claim, [attempt])
    store.damage("UPDATE task_attempts SET status = 'runnins'")
    with pytest.raises(
        CorruptCheckpoint, match="an attempt of run r is damaged: it has the status 'runnins'"
    ):
        journal.claim("r", "host:2:b", NOW)
    with pytest.raises(CorruptCheckpoint, match=r"r/one/1 is damaged: it has the status 'runnins'"):
        journal.commit(claim, success(attempt, b"1"))
    store.damage("UPDATE task_attempts SET status = 'running', scheduled_at = 'x'")
    with pytest.raises(CorruptCheckpoint, match=r"attempt r/one/1 is damaged"):
        journal.claim("r", "host:2:b", NOW)
    journal.database.close()


def test_values_of_other_rows_are_found_out(store: Store) -> None:
    same = Workflow([task(lambda: 1, name="a"), task(lambda: 2, name="b")])
    for workflow_id in ("r", "s"):
        same.run(storage=store.url, workflow_id=workflow_id).raise_for_failure()
    columns = "inputs = {0}.inputs, code = {0}.code, codec = {0}.codec, sum = {0}.sum, value = {0}.value"
    swap = f"UPDATE task_attempts SET {columns.format('other')} FROM task_attempts AS other WHERE "
    whole = "task_attempts.workflow_id = 'r' AND task_attempts.task_id = 'a' AND other.workflow_id = ? AND other.task_id = ?"
    before = store.run(
        "SELECT inputs, code, codec, sum, value FROM task_attempts WHERE workflow_id = 'r' AND task_id = 'a'"
    )
    for place in (("r", "b"), ("s", "a"), ("s", "b")):
        store.damage(swap + whole, *place)
        with pytest.raises(
            CorruptCheckpoint, match=r"attempt r/a/1 is damaged: it does not match its checksum"
        ):
            store.resume(same)
    store.damage(
        "UPDATE task_attempts SET inputs = ?, code = ?, codec = ?, sum = ?, value = ? "
        "WHERE workflow_id = 'r' AND task_id = 'a'",
        *before[0],
    )
    assert store.resume(same) == {"a": (1, True), "b": (2, True)}


def test_a_codec_that_is_not_known_is_named(done: Store) -> None:
    ((inputs, code),) = done.run(f"SELECT inputs, code FROM task_attempts {ONE}")
    sum_ = sum_of(b"1", "r", "one", "result", inputs, code, "yaml")
    done.damage(f"UPDATE task_attempts SET value = '1', codec = 'yaml', sum = ? {ONE}", sum_)
    with pytest.raises(
        CodecError, match=r"the result of task 'one' of run r was made by the codec 'yaml', which"
    ):
        done.resume()


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return eval, (f"open({str(self.path)!r}, 'w').close()",)


def columns_of(store: Store, table: str) -> list[str]:
    return [name for _, name, *_ in store.run(f"PRAGMA table_info({table})")]


@pytest.mark.parametrize("codec", ["json", "pickle"])
@pytest.mark.parametrize("form", ["bytes", "text", "where the codec looks"])
def test_a_pickle_in_any_column_is_never_loaded(failed: Store, tmp_path: Path, codec: Any, form: str) -> None:
    sprung = tmp_path / "sprung"
    config = Config(storage=failed.url, codec=codec, key_file=tmp_path / "key" if codec == "pickle" else None)
    planted: list[Any] = []
    for protocol in (0,) if form == "text" else (5,):
        data = pickle.dumps(Bomb(sprung), protocol=protocol)
        if form == "text":
            with suppress(UnicodeDecodeError):
                planted.append(data.decode())
        else:
            planted.append(data if form == "bytes" else b"\x80" + data)
    tables = {"workflow_runs": "workflow_id = 'r'", "task_attempts": "task_id = 'one'"}
    pickle.loads(pickle.dumps(Bomb(sprung)))
    assert sprung.exists(), "the trap works"
    sprung.unlink()
    whole = failed.whole()
    for table, where in tables.items():
        for column, data in itertools.product(columns_of(failed, table), planted):
            failed.put_back(whole)
            failed.damage(f"UPDATE {table} SET {column} = ? WHERE {where}", data)
            with suppress(DotflowError):
                FAILING.run(config=config, workflow_id="r", resume=True, on_failure=lambda tasks: None)
            with suppress(DotflowError):
                FAILING.plan(config=config, workflow_id="r", resume=True).explain()
            assert not sprung.exists(), (table, column)


def test_a_value_with_a_right_checksum_is_decoded_as_what_it_is_and_not_loaded(
    done: Store, tmp_path: Path
) -> None:
    sprung = tmp_path / "sprung"
    ((inputs, code),) = done.run(f"SELECT inputs, code FROM task_attempts {ONE}")
    for codec in ("json", "pickle"):
        data = pickle.dumps(Bomb(sprung))
        sum_ = sum_of(data, "r", "one", "result", inputs, code, codec)
        done.damage(f"UPDATE task_attempts SET value = ?, codec = ?, sum = ? {ONE}", data, codec, sum_)
        with pytest.raises(CodecError):
            done.resume()
        assert not sprung.exists()


def test_whole_rows_are_restored_without_a_body_run(done: Store) -> None:
    assert done.resume() == RESTORED
    assert done.resume(mode="parallel", executor="inline") == RESTORED
    assert done.run("SELECT count(*), max(fence) FROM task_attempts") == [(4, 1)]


def test_runs_leave_nothing_open(store: Store) -> None:
    def held() -> tuple[int, int]:
        gc.collect()
        open_files = [link for link in map(_link, Path("/dev/fd").iterdir()) if link]
        return len(open_files), len([each for each in sqlite._all if each._connection is not None])

    def runs(names: Iterable[int]) -> None:
        for name in names:
            WORKFLOW.run(storage=store.url, workflow_id=f"r{name}").raise_for_failure()
            WORKFLOW.run(storage=store.url, workflow_id=f"r{name}", resume=True).raise_for_failure()

    runs(range(5))
    before = held()
    runs(range(5, 80))
    assert held() == before


def _link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # it was open only to list the folder
        return ""


def test_threads_share_a_journal(store: Store) -> None:
    journal = store.journal()
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            record = RunRecord(f"r{i}", "numbers", None, {}, "sequential", RunStatus.PENDING, NOW)
            assert journal.create(record)
            claim = journal.claim(f"r{i}", f"host:1:{i}", NOW)
            for number in range(20):
                attempt = attempt_of(f"r{i}", f"t{number}", claim)
                journal.commit(claim, [attempt])
                journal.commit(claim, success(attempt, b"%d" % number))
                assert journal.read(f"r{i}", f"t{number}", "result") == b"%d" % number
            assert len(journal.attempts(f"r{i}")) == 20
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.run("SELECT count(*) FROM task_attempts WHERE status = 'completed'") == [(160,)]
    journal.database.close()


def test_a_saved_value_that_is_damaged_is_named(store: Store) -> None:
    journal = store.journal()
    claim, attempt = make_run(journal)
    part = Checkpoint("one", "part", Encoded(b"[1]"), None, None)
    journal.commit(claim, [attempt, part])
    assert journal.read("r", "one", "part") == b"[1]"
    for column in ("task_id", "name", "inputs", "code", "sum"):
        ((before,),) = store.run(f"SELECT {column} FROM checkpoints")
        store.damage(f"UPDATE checkpoints SET {column} = 'x'")
        with pytest.raises(CorruptCheckpoint, match=r"checkpoint r/(one|x)/(part|x) is damaged"):
            journal.tasks("r", ["one", "x"])
        store.damage(f"UPDATE checkpoints SET {column} = ?", before)
    store.damage("UPDATE checkpoints SET value = '[2]'")
    with pytest.raises(
        CorruptCheckpoint, match="the part of task 'one' of run r does not match its checksum"
    ):
        journal.read("r", "one", "part")
    journal.database.close()


# Requests


def test_a_request_is_readable_with_plain_sql(done: Store) -> None:
    journal = done.journal()
    claim = journal.claim("r", "host:1:a", NOW)
    assert done.run("SELECT request FROM workflow_runs") == [(None,)]
    assert journal.ask("r", Request("skip", "host:2:b", NOW, "no \u00fc \ud83d", "two", claim.fence))
    columns = ", ".join(
        f"json_extract(request, '$.{name}')" for name in (*Request._fields[:3], "task_id", "fence")
    )
    assert done.run(f"SELECT {columns} FROM workflow_runs") == [
        ("skip", "host:2:b", NOW.isoformat(), "two", claim.fence)
    ]
    assert journal.end(claim, [replace(row_of(journal), status=RunStatus.CANCELLED)], journal.asked("r"))
    assert done.run("SELECT request, status FROM workflow_runs") == [(None, "cancelled")]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"signal": "pause"}', '{"at": 7}', b"\xff"])
def test_a_damaged_request_is_named(done: Store, text: str | bytes) -> None:
    done.run("UPDATE workflow_runs SET request = ?", text)
    with pytest.raises(
        CorruptCheckpoint, match=r"runs\.db'.* what is asked of run r is damaged|is no text any more"
    ):
        done.journal().asked("r")


def test_neither_a_claim_nor_an_end_reads_the_params(tmp_path: Path) -> None:
    class NoJson(JsonCodec):
        def encode(self, value: Any) -> bytes:
            return b"not to be read"

        def decode(self, data: bytes) -> Any:
            raise AssertionError(data)

    store = Store(tmp_path / "runs.db")
    journal = SqlJournal(store.journal().database, NoJson())
    journal.create(RunRecord("r", "numbers", None, {"n": 1}, "sequential", RunStatus.PENDING, NOW))
    claim = journal.claim("r", "host:1:a", NOW)
    assert journal.ask("r", Request("pause", "host:2:b", NOW))
    row = row_of(journal)
    assert row.params == {}
    assert journal.end(claim, [replace(row, status=RunStatus.PAUSED)], journal.asked("r"))
    assert store.run("SELECT params, status FROM workflow_runs") == [("not to be read", "paused")]


def test_a_file_of_the_first_version_is_brought_to_that_of_today(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs.db")
    before = SqlJournal(
        Database(str(store.path), "process", f"{store.path}-locks", MIGRATIONS[:1]), JsonCodec()
    )
    before.create(RunRecord("r", "numbers", "1", {"n": [1]}, "sequential", RunStatus.PENDING, NOW))
    claim = before.claim("r", "host:1:a", NOW)
    begun = Attempt("r", "one", 1, AttemptStatus.RUNNING, None, NOW, NOW, None, "host:1:a", 1)
    before.commit(claim, [begun])
    before.commit(
        claim,
        [
            begun._replace(status=AttemptStatus.COMPLETED, outcome=AttemptOutcome.SUCCESS, finished_at=NOW),
            Checkpoint("one", "result", Encoded(b"1")),
        ],
    )
    before.database.close()
    assert store.run("SELECT version FROM schema_version") == [(1,)]
    with pytest.raises(sqlite3.OperationalError, match="no such column: request"):
        store.run("SELECT request FROM workflow_runs")

    after = store.journal()
    assert row_of(after).fence == 1
    assert after.asked("r") is None
    assert store.run("SELECT version FROM schema_version") == [(1,), (2,)]
    found = after.run("r")
    assert found is not None
    assert found.params == {"n": [1]}
    assert after.tasks("r", ["one"])["one"].checkpoints["result"].value.load() == 1
    asked = Request("cancel", "host:2:b", NOW)
    assert after.ask("r", asked)
    assert store.journal().asked("r") == asked
    assert after.end(claim, [replace(row_of(after), status=RunStatus.CANCELLED)], asked), (
        "its owner is the same"
    )
    with pytest.raises(
        StorageError, match="its schema is version 2, and this version of dotflow_like knows 1"
    ):
        before.run("r")


def row_of(journal: SqlJournal) -> RunRecord:
    row = journal.run("r", params=False)
    assert row is not None
    return row


# Waiting for the disk


@pytest.mark.parametrize(("durability", "usual"), [("full", 2), ("process", 1)])
def test_only_what_is_not_lazy_waits_for_the_disk(tmp_path: Path, durability: Any, usual: int) -> None:
    path = str(tmp_path / "runs.db")
    database = Database(path, durability, f"{path}-locks", MIGRATIONS)

    def synchronous(cursor: sqlite3.Cursor) -> int:
        (found,) = cursor.execute("PRAGMA synchronous").fetchone()
        return int(found)

    def fail(cursor: sqlite3.Cursor) -> None:
        raise ValueError("in the middle")

    for _ in range(2):
        assert database.write(synchronous) == usual
        assert database.write(synchronous, lazily=True) == 1
        with pytest.raises(ValueError, match="in the middle"):
            database.write(fail, lazily=True)
    assert database.write(synchronous) == usual
    journal = SqlJournal(database, JsonCodec())
    journal.create(RunRecord("r", "numbers", None, {}, "sequential", RunStatus.PENDING, NOW))
    claim = journal.claim("r", "host:1:a", NOW)
    seen: list[str] = []
    assert database._connection is not None
    database._connection.set_trace_callback(seen.append)
    journal.commit(claim, [], lazily=True)
    lazy, seen[:] = list(seen), []
    journal.commit(claim, [])
    assert ("PRAGMA synchronous=NORMAL" in lazy) is (usual == 2)
    assert not any("synchronous" in each for each in seen)
    assert database.write(synchronous) == usual
    database.close()
