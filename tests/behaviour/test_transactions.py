"""`ctx.transaction()`: what a body wrote is committed with its result, or not at all."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, RetryPolicy, TaskContext, task
from dotflow_like.errors import ConfigError, TaskTimeout
from dotflow_like.record.file_lock import FileLock
from dotflow_like.testing import run_inline

INSERT = "INSERT INTO ledger VALUES (?)"


class Ledger:
    """A database with a table of the user's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.storage = f"sqlite:///{path}?durability=process"
        self._sql("CREATE TABLE ledger (what)")

    def _sql(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    @property
    def rows(self) -> list[Any]:
        return sorted(what for (what,) in self._sql("SELECT what FROM ledger"))

    @property
    def attempts(self) -> list[Any]:
        """The outcomes of all attempts of the only run."""
        return [row[0] for row in self._sql("SELECT outcome FROM task_attempts ORDER BY task_id, number")]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "runs.db")
    yield ledger
    for folder in tmp_path.glob("runs.db-*/"):
        lock = FileLock(str(folder / "writing"))
        lock.acquire(5)  # nobody was left with a transaction open
        lock.close()


@pytest.fixture(params=["isolated", "not isolated"])
def isolate(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "isolated")


@task
def add(ctx: TaskContext, x: Any = 1) -> dict[str, Any]:
    connection = ctx.transaction()
    assert isinstance(connection, sqlite3.Connection)
    connection.execute("INSERT INTO ledger VALUES (?)", (x,))
    ctx.attempt.metadata["rows"] = 1
    return {"added": x}


# In every mode


def test_what_a_body_wrote_is_there_with_its_result(ledger: Ledger, run_in: Callable[..., Manager]) -> None:
    run = run_in([add], storage=ledger.storage)
    assert (run.status, run[add].result, ledger.rows) == ("completed", {"added": 1}, [1])
    (attempt,) = run.attempts
    assert (attempt.status, attempt.outcome, attempt.metadata) == ("completed", "success", {"rows": 1})
    assert attempt.finished_at is not None
    assert attempt.started_at is not None
    assert attempt.scheduled_at <= attempt.started_at <= attempt.finished_at


def test_the_attempt_says_which_worker_ran_it(
    ledger: Ledger, run_in: Callable[..., Manager], way: dict[str, Any]
) -> None:
    @task
    def without() -> None:
        return None

    run = run_in([add, without], storage=ledger.storage)
    kinds = [str(each.worker).split()[0] for each in run.attempts]
    assert kinds[0] == kinds[1]


def test_a_restored_task_does_not_write_again(ledger: Ledger, run_in: Callable[..., Manager]) -> None:
    for _ in range(2):
        run = run_in([add], storage=ledger.storage, workflow_id="w", resume=True)
    assert (run[add].restored, run[add].result, ledger.rows) == (True, {"added": 1}, [1])


def test_items_and_tasks_beside_each_other_have_theirs_one_after_another(
    ledger: Ledger, run_in: Callable[..., Manager]
) -> None:
    @task
    def beside(x: int) -> int:
        return x

    @task
    def total(added: list[Any], ctx: TaskContext) -> int:
        found = ctx.transaction().execute("SELECT sum(what) FROM ledger").fetchone()[0]
        return int(found) - len(added)

    items = add.map(x=list(range(20)))
    run = run_in([items, beside.map(x=list(range(20))), total.bind(added=items)], storage=ledger.storage)
    assert (run.status, run[total].result) == ("completed", sum(range(20)) - 20)
    assert ledger.rows == list(range(20))


def test_what_a_failed_attempt_wrote_is_gone_when_the_next_begins(
    ledger: Ledger, run_in: Callable[..., Manager]
) -> None:
    @task(retry=3)
    def flaky(ctx: TaskContext) -> list[Any]:
        connection = ctx.transaction()
        before = [what for (what,) in connection.execute("SELECT what FROM ledger")]
        connection.execute(INSERT, (ctx.attempt.number,))
        ctx.checkpoints["tried"] = ctx.attempt.number
        if ctx.attempt.number < 3:
            raise ValueError("not yet")
        return before

    run = run_in([flaky], storage=ledger.storage)
    assert (run[flaky].result, ledger.rows) == ([], [3])
    assert [each.outcome for each in run.attempts] == ["retried", "retried", "success"]


def test_what_cannot_be_stored_takes_back_what_was_written(
    ledger: Ledger, run_in: Callable[..., Manager]
) -> None:
    @task
    def odd(ctx: TaskContext) -> Any:
        ctx.transaction().execute(INSERT, (1,))
        return lambda: None

    run = run_in([odd], storage=ledger.storage, on_failure=lambda tasks: None)
    assert (run.status, run[odd].errors[0].exception, ledger.rows) == ("failed", "NotSerializable", [])


@pytest.mark.parametrize("word", ["skip", "retry", "pause", "cancel"])
def test_a_signal_takes_it_back(ledger: Ledger, run_in: Callable[..., Manager], word: str) -> None:
    @task
    def sends(ctx: TaskContext) -> None:
        if ctx.attempt.number == 1:
            ctx.transaction().execute(INSERT, (1,))
            with suppress(Exception):
                getattr(ctx, word)("why")

    run = run_in([sends], storage=ledger.storage)
    statuses = {"skip": "completed", "retry": "completed", "pause": "paused", "cancel": "cancelled"}
    assert (run.status, ledger.rows) == (statuses[word], [])


def test_finish_commits_it(ledger: Ledger, run_in: Callable[..., Manager]) -> None:
    @task
    def last(ctx: TaskContext) -> None:
        ctx.transaction().execute(INSERT, (1,))
        ctx.finish("enough")

    after = add.after(last)
    for _ in range(2):
        run = run_in([last, after], storage=ledger.storage, workflow_id="w", resume=True)
        assert (run.status, run[last].status, run[after].status) == ("completed", "completed", "skipped")
        assert run[after].reason == "finished"
        assert ledger.rows == [1]
    assert run.attempts[0].metadata == {"signal": "finish", "signal_reason": "enough"}


def test_what_is_saved_in_it_belongs_to_it(ledger: Ledger, run_in: Callable[..., Manager]) -> None:
    @task(retry=2)
    def saves(ctx: TaskContext) -> list[Any]:
        seen = [dict(ctx.checkpoints)]
        if ctx.attempt.number == 1:
            ctx.checkpoints["before"] = 1
        connection = ctx.transaction()
        assert ctx.step("computed", lambda: ctx.attempt.number) == ctx.attempt.number
        ctx.checkpoints["within"] = ctx.attempt.number
        del ctx.checkpoints["before"]
        seen.append(dict(ctx.checkpoints))
        for each in ctx.iterate([1, 2, 3]):
            connection.execute(INSERT, (each,))
        if ctx.attempt.number == 1:
            raise ValueError("not yet")
        return seen

    run = run_in([saves], storage=ledger.storage)
    assert run[saves].result == [{"before": 1}, {"within": 2}]
    assert ledger.rows == [1, 2, 3]


def test_an_iteration_that_began_before_goes_on_in_it(ledger: Ledger, run_in: Callable[..., Manager]) -> None:
    @task
    def late(ctx: TaskContext) -> int:
        for each in ctx.iterate([1, 2, 3, 4]):
            if each == 2:
                connection = ctx.transaction()
            if each >= 2:
                connection.execute(INSERT, (each,))
        return 1

    assert run_in([late], storage=ledger.storage).status == "completed"
    assert ledger.rows == [2, 3, 4]


def test_an_attempt_has_one(ledger: Ledger, run_in: Callable[..., Manager]) -> None:
    @task
    def twice(ctx: TaskContext) -> str:
        connection = ctx.transaction()
        with pytest.raises(sqlite3.ProgrammingError, match="called before in attempt") as raised:
            ctx.transaction()
        connection.execute(INSERT, (1,))
        return str(raised.value)

    assert run_in([twice], storage=ledger.storage).status == "completed"
    assert ledger.rows == [1]


@pytest.mark.parametrize("storage", [None, "folder"])
def test_it_needs_a_database(tmp_path: Path, run_in: Callable[..., Manager], storage: str | None) -> None:
    @task
    def asks(ctx: TaskContext) -> None:
        ctx.transaction()

    place = None if storage is None else str(tmp_path / storage)
    run = run_in([asks], storage=place, on_failure=lambda tasks: None)
    error = run[asks].errors[0].error
    assert isinstance(error, ConfigError)
    assert "storage='sqlite:///" in str(error)


def test_run_inline_says_so_too() -> None:
    assert "SQL database" in run_inline([add], on_failure=lambda tasks: None)[add].errors[0].message


# While others run


def test_a_task_that_holds_it_lets_those_that_run_go_on_and_those_that_wait_wait(
    ledger: Ledger, meet: Callable[[str, int], None], isolate: bool
) -> None:
    """The one that holds it waits for what the others do, also for one that saves something meanwhile."""

    @task
    def holds(ctx: TaskContext) -> int:
        connection = ctx.transaction()
        connection.execute("INSERT INTO ledger VALUES (1)")
        meet("holds", 2)
        return 1

    @task
    def beside(ctx: TaskContext) -> int:
        meet("beside", 2)
        ctx.checkpoints["x"] = 1
        return int(ctx.checkpoints["x"])

    @task
    def waits(ctx: TaskContext) -> int:
        meet("waits", 3)
        ctx.transaction().execute("INSERT INTO ledger VALUES (2)")
        return 2

    tasks = [each.with_options(isolate=isolate) for each in (holds, beside, waits)]
    run = Manager(tasks, mode="parallel", executor="thread", max_workers=3, storage=ledger.storage)
    assert (run.status, [each.result for each in run.tasks], ledger.rows) == ("completed", [1, 1, 2], [1, 2])


def test_runs_of_one_process_wait_for_each_other_and_answer_meanwhile(ledger: Ledger) -> None:
    """The body looks at what its run is asked, while the other run waits to write."""
    held, begun = threading.Event(), threading.Event()

    @task
    def holds(ctx: TaskContext) -> int:
        ctx.transaction().execute(INSERT, (1,))
        held.set()
        begun.wait(30)
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            ctx.check()
        return 1

    @task
    def other() -> int:
        return 2

    first = Manager([holds], mode="background", storage=ledger.storage)
    assert held.wait(30)
    threading.Timer(0.2, begun.set).start()
    second = Manager([other], storage=ledger.storage)
    assert first.wait(30).status == second.status == "completed"
    assert ledger.rows == [1]


def test_two_async_tasks_of_one_loop_do_not_block_each_other_for_ever(ledger: Ledger) -> None:
    both = asyncio.Event()

    @task
    async def holds(ctx: TaskContext) -> int:
        ctx.transaction().execute(INSERT, (1,))
        await both.wait()
        return 1

    @task
    async def wants(ctx: TaskContext) -> int:
        await asyncio.sleep(0)
        try:
            ctx.transaction()
        finally:
            both.set()
        return 2

    run = Manager(
        [holds, wants],
        mode="parallel",
        executor="thread",
        storage=ledger.storage,
        keep_going=True,
        on_failure=lambda tasks: None,
    )
    assert [each.status for each in run.tasks] == ["completed", "failed"]
    assert "isolate=True" in run[wants].errors[0].message
    assert ledger.rows == [1]


def test_async_tasks_have_theirs_in_processes(ledger: Ledger, run_in: Callable[..., Manager]) -> None:
    @task(isolate=True)
    async def adds(ctx: TaskContext, x: int) -> int:
        connection = ctx.transaction()
        connection.execute(INSERT, (x,))
        await asyncio.sleep(0.001)
        return x

    assert run_in([adds.map(x=[1, 2, 3])], storage=ledger.storage).status == "completed"
    assert ledger.rows == [1, 2, 3]


# Bodies that are stopped


def test_a_body_whose_time_is_up_leaves_nothing(ledger: Ledger, run_in: Callable[..., Manager]) -> None:
    @task(timeout=0.4)
    def slow(ctx: TaskContext) -> None:
        connection = ctx.transaction()
        connection.execute(INSERT, (1,))
        until = time.monotonic() + 60
        while time.monotonic() < until and not ctx.cancelled:
            time.sleep(0.01)
        connection.execute(INSERT, (2,))

    after = add.with_options(name="after").after(slow)
    run = run_in([slow, after], storage=ledger.storage, keep_going=True, on_failure=lambda tasks: None)
    assert [each.status for each in run.tasks] == ["failed", "completed"]
    assert isinstance(run[slow].errors[0].error, TaskTimeout)
    assert ledger.rows == [1]  # the other's
    assert ledger.attempts == ["success", "timed_out"]


def test_a_body_whose_time_is_up_while_it_waits_for_its_turn_leaves_nothing(
    ledger: Ledger, isolate: bool
) -> None:
    held, over = str(ledger.path.parent / "held"), str(ledger.path.parent / "over")

    @task
    def holds(ctx: TaskContext) -> int:
        ctx.transaction().execute("INSERT INTO ledger VALUES (1)")
        Path(held).touch()
        while not Path(over).exists():
            time.sleep(0.01)
        return 1

    @task(timeout=0.4)
    def waits(ctx: TaskContext) -> None:
        while not Path(held).exists():
            time.sleep(0.005)
        ctx.transaction().execute("INSERT INTO ledger VALUES (2)")

    tasks = [each.with_options(isolate=isolate) for each in (holds, waits)]
    timer = threading.Timer(2, Path(over).touch)
    timer.start()
    run = Manager(
        tasks,
        mode="parallel",
        executor="thread",
        storage=ledger.storage,
        max_workers=2,
        keep_going=True,
        on_failure=lambda tasks: None,
    )
    timer.join()
    assert [each.status for each in run.tasks] == ["completed", "failed"]
    assert ledger.rows == [1]


def test_a_worker_that_dies_in_it_leaves_nothing_and_the_next_attempt_has_its_own(ledger: Ledger) -> None:
    @task(isolate=True, retry=RetryPolicy(2, worker_deaths=1))
    def dies(ctx: TaskContext) -> int:
        ctx.transaction().execute("INSERT INTO ledger VALUES (?)", (ctx.attempt.number,))
        if ctx.attempt.number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return ctx.attempt.number

    run = Manager([dies], storage=ledger.storage)
    assert (run[dies].result, ledger.rows) == (2, [2])
    assert [each.outcome for each in run.attempts] == ["retried", "success"]


def test_a_run_that_is_cancelled_leaves_nothing_of_a_body_that_stops(ledger: Ledger, isolate: bool) -> None:
    begun = ledger.path.parent / "begun"

    @task(isolate=isolate)
    def asks(ctx: TaskContext) -> None:
        ctx.transaction().execute("INSERT INTO ledger VALUES (1)")
        begun.touch()
        while True:
            ctx.check()
            time.sleep(0.005)

    run = Manager([asks], mode="background", storage=ledger.storage)
    while not begun.exists():
        time.sleep(0.005)
    run.cancel()
    assert (run.wait(30).status, ledger.rows) == ("cancelled", [])


def test_a_run_that_another_process_takes_over_meanwhile_is_not_written_to(ledger: Ledger) -> None:
    """Its owner is stopped between two statements; then its locks are another machine's."""
    other = f"sqlite:///{ledger.path}?durability=process&locks={ledger.path}-other"

    @task(version="1")
    def first(ctx: TaskContext) -> None:
        Manager([task(lambda: 1, name="first", version="1")], workflow_id="w", resume=True, storage=other)
        ctx.transaction().execute(INSERT, (1,))

    with pytest.raises(Exception, match="taken over"):
        Manager([first], workflow_id="w", storage=ledger.storage)
    assert ledger.rows == []
    assert Manager([first], workflow_id="w", resume=True, storage=other).status == "completed"


# What a body may do


def test_a_body_starts_processes_while_it_is_open(ledger: Ledger, isolate: bool) -> None:
    @task(isolate=isolate)
    def starts(ctx: TaskContext) -> int:
        connection = ctx.transaction()
        connection.execute("INSERT INTO ledger VALUES (1)")
        subprocess.run(["true"], check=True)
        child = multiprocessing.get_context("fork").Process(target=int)
        child.start()
        child.join()
        connection.execute("INSERT INTO ledger VALUES (2)")
        return child.exitcode or 0

    begun = time.monotonic()
    run = Manager([starts], storage=ledger.storage)
    assert (run.status, run[starts].result, ledger.rows) == ("completed", 0, [1, 2])
    assert time.monotonic() - begun < 20


def test_a_class_has_one_for_all_its_methods(ledger: Ledger, run_in: Callable[..., Manager]) -> None:
    @task
    class Steps:
        def __init__(self, ctx: TaskContext) -> None:
            self.connection = ctx.transaction()

        @task
        def one(self) -> int:
            self.connection.execute("INSERT INTO ledger VALUES (1)")
            return 1

        @task
        def two(self) -> int:
            return int(self.connection.execute("SELECT count(*) FROM ledger").fetchone()[0])

    run = run_in([Steps], storage=ledger.storage)
    assert [each.storage for each in run[Steps].result] == [1, 1]
    assert ledger.rows == [1]
