"""What a body notes about its attempt is in the attempt's row, in every mode and storage."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    Attempt,
    Config,
    Context,
    Manager,
    MemoryStorage,
    NotSerializable,
    RetryPolicy,
    Run,
    RunStatus,
    TaskContext,
    TaskStatus,
    Workflow,
    task,
)
from dotflow_like.testing import FakeClock, run_inline

RunIn = Callable[..., Manager]
Until = Callable[..., None]
HoursPass = Callable[..., AbstractContextManager[FakeClock]]


@pytest.fixture(params=["", "isolated "])
def run_in(way: dict[str, Any], request: pytest.FixtureRequest) -> RunIn:
    """A function that runs tasks in each mode in turn, also each isolated, and returns the run when it has ended."""

    def run(tasks: list[Any], **options: Any) -> Manager:
        tasks = [each.with_options(isolate=bool(request.param)) for each in tasks]
        return Manager(tasks, **(way | {"on_failure": quiet} | options)).wait()

    return run


@pytest.fixture(params=["memory", "files", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each storage a run can be resumed from."""
    places = {
        "memory": MemoryStorage(),
        "files": tmp_path / "files",
        "sqlite": f"sqlite:///{tmp_path}/runs.db",
    }
    return places[request.param]


def quiet(tasks: Any) -> None:
    """Say nothing about a failure that is meant."""


def noted(attempts: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(str(each.outcome), dict(each.metadata)) for each in attempts]


@task
def load(ctx: TaskContext) -> int:
    """Note something of every kind."""
    ctx.attempt.metadata["rows"] = 5
    ctx.attempt.metadata.update(file="ä.csv", share=0.5, late=None, sure=True)
    ctx.attempt.metadata["parts"] = [{"name": "a", "sizes": [1, 2]}]
    ctx.attempt.metadata["parts"][0]["sizes"].append(3)
    return ctx.attempt.metadata["rows"]


NOTED = {
    "rows": 5,
    "file": "ä.csv",
    "share": 0.5,
    "late": None,
    "sure": True,
    "parts": [{"name": "a", "sizes": [1, 2, 3]}],
}


def test_it_is_in_the_row_when_the_attempt_has_ended(run_in: RunIn) -> None:
    run = run_in([load, task(lambda: 1, name="silent")]).raise_for_failure()
    assert run["load"].result == 5
    assert noted(run["load"].attempts) == [("success", NOTED)]
    assert type(run["load"].attempts[0].metadata) is dict
    assert noted(run["silent"].attempts) == [("success", {})]


def test_it_is_recorded_and_read_back_by_whoever_resumes(run_in: RunIn, storage: Any) -> None:
    run_in([load], storage=storage, workflow_id="w").raise_for_failure()
    again = run_in([load], storage=storage, workflow_id="w", resume=True)
    assert again["load"].restored
    assert noted(again.attempts) == [("success", NOTED)]


def test_that_of_an_attempt_that_fails_is_kept_too_and_the_next_begins_with_the_reason(
    run_in: RunIn, storage: Any
) -> None:
    @task(retry=3)
    def flaky(ctx: TaskContext) -> list[Any]:
        begun = dict(ctx.attempt.metadata)
        ctx.attempt.metadata["try"] = ctx.attempt.number
        if ctx.attempt.number < 3:
            raise ValueError(f"boom {ctx.attempt.number}")
        return [begun, ctx.attempt.metadata["reason"]]

    run = run_in([flaky], storage=storage, workflow_id="w").raise_for_failure()
    assert run["flaky"].result == [{"reason": "ValueError: boom 2"}, "ValueError: boom 2"]
    rows = [
        ("retried", {"try": 1}),
        ("retried", {"reason": "ValueError: boom 1", "try": 2}),
        ("success", {"reason": "ValueError: boom 2", "try": 3}),
    ]
    assert noted(run.attempts) == rows
    assert noted(run_in([flaky], storage=storage, workflow_id="w", resume=True).attempts) == rows


def test_the_reason_is_kept_for_bodies_that_do_not_ask(run_in: RunIn, tmp_path: Path) -> None:
    failed = tmp_path / "failed"

    @task(retry=2)
    def flaky() -> None:
        if not failed.exists():
            failed.touch()
            raise ValueError("x" * 1000)

    run = run_in([flaky]).raise_for_failure()
    reason = f"ValueError: {'x' * 287}…"
    assert len(reason) == 300
    assert noted(run.attempts) == [("retried", {}), ("success", {"reason": reason})]


def test_what_a_body_takes_away_is_gone(run_in: RunIn) -> None:
    @task(retry=2)
    def flaky(ctx: TaskContext) -> None:
        if ctx.attempt.number == 1:
            raise ValueError("boom")
        del ctx.attempt.metadata["reason"]

    assert noted(run_in([flaky]).attempts) == [("retried", {}), ("success", {})]


def test_of_a_map_each_item_has_its_own(run_in: RunIn) -> None:
    @task
    def item(x: int, ctx: TaskContext) -> None:
        ctx.attempt.metadata["x"] = x

    run = run_in([item.map(x=range(20))]).raise_for_failure()
    assert [each.metadata for each in run.attempts] == [{"x": x} for x in range(20)]


def test_async_bodies_and_methods_of_a_class_share_that_of_their_attempt(run_in: RunIn) -> None:
    @task
    async def fetch(ctx: TaskContext) -> Context:
        ctx.attempt.metadata["fetched"] = 1
        return Context(2)

    @task
    class Steps:
        @task
        def one(self, ctx: TaskContext) -> None:
            ctx.attempt.metadata["one"] = 1

        @task
        def two(self, ctx: TaskContext) -> None:
            ctx.attempt.metadata["two"] = ctx.attempt.metadata["one"] + 1

    run = run_in([fetch, Steps]).raise_for_failure()
    assert run["fetch"].result == 2
    assert [each.metadata for each in run.attempts] == [{"fetched": 1}, {"one": 1, "two": 2}]


def test_what_is_no_plain_data_fails_the_body_where_it_assigns(run_in: RunIn) -> None:
    @task
    def load(ctx: TaskContext) -> None:
        ctx.attempt.metadata["rows"] = 1
        ctx.attempt.metadata["span"] = {"of": [(1, 2)]}

    run = run_in([load])
    (error,) = run["load"].errors
    assert error.exception == "TypeError"
    assert error.message.startswith("ctx.attempt.metadata['span']['of'][0] is of type tuple; give ")
    assert noted(run.attempts) == [("failed", {"rows": 1})]


def test_what_has_become_no_plain_data_since_fails_the_task_at_its_end(run_in: RunIn) -> None:
    @task
    def load(ctx: TaskContext) -> int:
        ctx.attempt.metadata["rows"] = 1
        ctx.attempt.metadata["sizes"] = []
        ctx.attempt.metadata["sizes"].append({1, 2})
        return 1

    run = run_in([load])
    (error,) = run["load"].errors
    assert isinstance(error.error, NotSerializable)
    assert error.message.startswith("ctx.attempt.metadata['sizes'][0] is of type set; give ")
    assert run["load"].result is None
    assert noted(run.attempts) == [("failed", {"rows": 1})]


def test_the_error_of_a_body_counts_more_and_says_what_was_not_kept(run_in: RunIn) -> None:
    @task
    async def load(ctx: TaskContext) -> None:
        ctx.attempt.metadata["sizes"] = []
        ctx.attempt.metadata["sizes"].append(b"")
        raise LookupError("mine")

    run = run_in([load])
    (error,) = run["load"].errors
    assert (error.exception, error.message) == ("LookupError", "mine")
    assert "Not kept: ctx.attempt.metadata['sizes'][0] is of type bytes; " in error.traceback
    assert noted(run.attempts) == [("failed", {})]


def test_much_of_it_goes_through_too(run_in: RunIn) -> None:
    @task
    def load(ctx: TaskContext) -> int:
        ctx.attempt.metadata["text"] = "x" * 200_000
        return 1

    run = run_in([load]).raise_for_failure()
    assert [len(each.metadata["text"]) for each in run.attempts] == [200_000]


def test_those_of_many_tiny_tasks_are_not_mixed_up(run_in: RunIn) -> None:
    def body(x: int, ctx: TaskContext) -> int:
        if x % 3:
            ctx.attempt.metadata["x"] = x
        return x

    run = run_in([task(body, name=f"t{x}").bind(x=x) for x in range(60)]).raise_for_failure()
    assert [each.metadata for each in run.attempts] == [{"x": x} if x % 3 else {} for x in range(60)]


def test_what_a_thread_of_a_body_writes_afterwards_is_not_in_the_row(until: Until) -> None:
    told, over, late = threading.Event(), threading.Event(), threading.Event()
    kept: list[Any] = []

    @task
    def load(ctx: TaskContext) -> None:
        ctx.attempt.metadata["rows"] = [1]
        kept.append(ctx.attempt.metadata)

        def write() -> None:
            rows = ctx.attempt.metadata["rows"]
            told.set()
            assert over.wait(30)
            rows.append(2)
            ctx.attempt.metadata["late"] = True
            late.set()

        threading.Thread(target=write).start()
        assert told.wait(30)

    run = Manager([load])
    over.set()
    assert late.wait(30)
    assert kept[0]["late"] is True
    assert noted(run.attempts) == [("success", {"rows": [1]})]


# Stopped, given up, killed


@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_that_of_a_body_that_was_asked_to_stop_is_kept(
    way: dict[str, Any], word: str, tmp_path: Path, until: Until
) -> None:
    @task
    def load(ctx: TaskContext) -> None:
        ctx.attempt.metadata["rows"] = 1
        (tmp_path / "begun").touch()
        until(lambda: ctx.cancelled, "the wish to stop")
        ctx.attempt.metadata["rows"] = 2
        raise RuntimeError("asked to stop")

    run = Workflow([load]).start(**way)
    until((tmp_path / "begun").exists, "the body")
    getattr(run, word)()
    run.wait()
    (attempt,) = run.attempts
    assert (attempt.status, attempt.metadata) == ("cancelled", {"rows": 2})


@pytest.mark.parametrize("isolate", [False, True])
def test_at_a_deadline_that_of_a_thread_is_kept_and_that_of_a_worker_is_lost(
    isolate: bool, tmp_path: Path, hours_pass: HoursPass, recwarn: Any
) -> None:
    begun, over = tmp_path / "begun", tmp_path / "over"

    @task(timeout=600, isolate=isolate, retry=2)
    def load(ctx: TaskContext) -> str:
        if ctx.attempt.number == 2:
            return ctx.attempt.metadata["reason"]
        ctx.attempt.metadata["rows"] = 1
        begun.touch()
        while not over.exists():
            threading.Event().wait(0.002)
        ctx.attempt.metadata["rows"] = 2
        return "late"

    class GivenUp:
        def task_retried(self, task: Any) -> None:
            over.touch()

    with hours_pass(begun.exists, over.exists):
        run = Manager([load], config=Config(metrics=GivenUp()), on_failure=quiet)
    first, second = run.attempts
    assert (first.outcome, first.metadata) == ("timed_out", {} if isolate else {"rows": 1})
    assert second.metadata["reason"] == run["load"].result
    assert str(second.metadata["reason"]).startswith("TaskTimeout: task 'load': attempt 1 took longer than")


def test_that_of_a_worker_that_dies_is_lost_and_its_death_is_the_next_ones_reason() -> None:
    @task(retry=RetryPolicy(max_attempts=2, worker_deaths=1))
    def load(ctx: TaskContext) -> str:
        if ctx.attempt.number == 1:
            ctx.attempt.metadata["rows"] = 1
            os._exit(3)
        return ctx.attempt.metadata["reason"]

    run = Manager([load], mode="parallel", max_workers=1).raise_for_failure()
    assert run["load"].result.startswith("WorkerDied: the worker process (pid ")
    assert noted(run.attempts) == [("retried", {}), ("success", {"reason": run["load"].result})]


# The reason, over the end of a run


@task(retry=2, retry_delay=3600)
def flaky(ctx: TaskContext) -> str | None:
    """Fail at first, and then tell why it is tried again."""
    if ctx.attempt.number == 1:
        raise ValueError("boom")
    return ctx.attempt.metadata.get("reason")


def paused_in_the_delay(storage: Any, until: Until) -> Run:
    run = Workflow([flaky]).start(storage=storage, workflow_id="w")
    until(lambda: run["flaky"].status is TaskStatus.RETRYING, "the delay")
    run.pause()
    return run.wait()


def test_it_is_in_the_row_that_waits_for_its_time(storage: Any, until: Until) -> None:
    run = paused_in_the_delay(storage, until)
    assert [(str(each.status), each.metadata) for each in run.attempts] == [
        ("failed", {}),
        ("scheduled", {"reason": "ValueError: boom"}),
    ]


def test_it_is_there_after_a_pause_and_a_restart(storage: Any, until: Until) -> None:
    paused_in_the_delay(storage, until)
    again = run_inline([flaky], storage=storage, workflow_id="w", resume=True)
    assert again["flaky"].result == "ValueError: boom"
    assert noted(again.attempts) == [("retried", {}), ("success", {"reason": "ValueError: boom"})]


def test_a_task_that_is_started_over_has_none(storage: Any, until: Until, recwarn: Any) -> None:
    paused_in_the_delay(storage, until)
    again = run_inline([flaky], storage=storage, workflow_id="w")
    assert again["flaky"].result is None
    assert again["flaky"].attempts[-1].metadata == {}


def test_a_failed_run_that_is_resumed_knows_why(run_in: RunIn, storage: Any) -> None:
    @task
    def once(ctx: TaskContext) -> str:
        if ctx.attempt.number == 1:
            raise LookupError("gone")
        return ctx.attempt.metadata["reason"]

    run_in([once], storage=storage, workflow_id="w")
    again = run_in([once], storage=storage, workflow_id="w", resume=True)
    assert again["once"].result == "LookupError: gone"


def test_it_outlives_an_attempt_that_was_stopped(storage: Any, until: Until) -> None:
    begun = threading.Event()

    @task(retry=2)
    def held(ctx: TaskContext) -> str:
        if ctx.attempt.number == 1:
            raise ValueError("boom")
        if ctx.attempt.number == 2:
            begun.set()
            until(lambda: ctx.cancelled, "the wish to stop")
            raise RuntimeError("asked to stop")
        return ctx.attempt.metadata["reason"]

    run = Workflow([held]).start(storage=storage, workflow_id="w")
    assert begun.wait(30)
    run.pause()
    assert run.wait().status is RunStatus.PAUSED
    again = Manager([held], storage=storage, workflow_id="w", resume=True)
    assert again["held"].result == "ValueError: boom"


def test_a_run_for_a_test_has_it_in_every_mode(way: dict[str, Any]) -> None:
    mode = way["mode"]
    with FakeClock() as clock:
        run = run_inline([load, flaky], mode=mode)
    assert clock.elapsed == 3600
    assert noted(run.attempts) == [
        ("success", NOTED),
        ("retried", {}),
        ("success", {"reason": "ValueError: boom"}),
    ]


def test_an_attempt_stays_a_plain_row(run_in: RunIn) -> None:
    def body(ctx: TaskContext) -> tuple[Any, ...]:
        assert isinstance(ctx.attempt, Attempt)
        return ctx.attempt.id, ctx.attempt.number, ctx.idempotency_key

    run = run_in([task(body, name="t")], workflow_id="w").raise_for_failure()
    assert run["t"].result == ("w/t/1", 1, "w/t/g1")
