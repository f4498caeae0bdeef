"""What has run in a run, as a test asserts it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from dotflow_like import (
    Config,
    DotflowWarning,
    Manager,
    MemoryStorage,
    Metrics,
    TaskContext,
    TaskRun,
    Workflow,
    task,
)
from dotflow_like.testing import assert_ran, ran, run_inline


@task
def first() -> int:
    return 1


@task
def second(x: int) -> int:
    return x + 1


def bad(x: int = 0) -> int:
    raise ValueError(x)


def test_it_is_in_the_order_they_began() -> None:
    tasks = [second.bind(x=first), first]
    assert ran(run_inline(tasks, mode="parallel")) == ["first", "second"]
    assert ran(Manager(tasks, mode="parallel", executor="thread")) == ["first", "second"]


def test_a_task_of_several_attempts_is_there_once() -> None:
    flaky = task(bad, name="flaky", retry=3)
    assert ran(run_inline([flaky], on_failure=lambda tasks: None)) == ["flaky"]


def test_what_failed_has_run_and_what_did_not_begin_has_not() -> None:
    run = run_inline([first, task(bad, name="bad"), second.bind(x=first)], on_failure=lambda tasks: None)
    assert ran(run) == ["first", "bad"]
    assert_ran(run, first, "bad")


def test_what_was_restored_has_not_run() -> None:
    workflow, storage = Workflow([first, second.bind(x=first)]), MemoryStorage()
    for expected in (["first", "second"], []):
        run = run_inline(workflow, storage=storage, workflow_id="w", resume=True)
        assert ran(run) == expected
    assert_ran(run)


def test_after_starting_over_it_is_what_ran_since(tmp_path: Path) -> None:
    run_inline([first], storage=tmp_path, workflow_id="w")
    with pytest.warns(DotflowWarning, match="starts over"):
        run = run_inline([second.bind(x=1)], storage=tmp_path, workflow_id="w")
    assert ran(run) == ["second"]


def test_a_map_stands_for_its_items() -> None:
    items = second.map(x=[1, 2])
    run = run_inline([first, items])
    assert ran(run) == ["first", "second[0]", "second[1]"]
    assert_ran(run, first, items)
    assert_ran(run, "first", "second")
    assert_ran(run, "first", "second[0]", "second[1]")


def test_the_error_shows_both_lists_and_why_others_did_not_run() -> None:
    storage = MemoryStorage()
    failing = task(bad, name="bad").bind(x=first)
    tasks = [first, failing, second.bind(x=failing)]
    run_inline(tasks[:1], storage=storage, workflow_id="w")
    run = run_inline(
        tasks, storage=storage, workflow_id="w", resume=True, keep_going=True, on_failure=lambda tasks: None
    )
    with pytest.raises(AssertionError) as caught:
        assert_ran(run, first, second)
    assert str(caught.value).splitlines() == [
        "run w is failed (failed: bad)",
        "  expected to run: first, second",
        "  ran:             bad",
        "  first did not run: restored",
        "  second did not run: skipped: it needs the result of 'bad', which is failed",
    ]


def test_what_was_not_reached_is_pending() -> None:
    run = run_inline([task(bad, name="bad"), first], on_failure=lambda tasks: None)
    with pytest.raises(AssertionError, match="first did not run: pending, its turn did not come"):
        assert_ran(run)


def test_another_order_is_told() -> None:
    run = run_inline([first, second.bind(x=first)])
    with pytest.raises(AssertionError, match=r"expected to run: second, first\n +ran: +first, second"):
        assert_ran(run, second, first)
    with pytest.raises(AssertionError, match=r"expected to run: nothing\n"):
        assert_ran(run)


def test_a_task_that_is_not_in_the_run_is_named() -> None:
    with pytest.raises(KeyError, match="not at all"):
        assert_ran(run_inline([first]), "frist")


def test_a_body_that_a_condition_kept_from_running_has_not_run() -> None:
    never = task(lambda: 1, name="never", skip_if=True)
    neither = task(lambda: 1, name="neither", run_if=False)
    run = run_inline([first, never, neither])
    assert_ran(run, first)
    with pytest.raises(AssertionError) as caught:
        assert_ran(run)
    assert str(caught.value).splitlines()[-2:] == [
        "  never did not run: skipped: skip_if",
        "  neither did not run: skipped: run_if",
    ]


def test_a_run_that_a_condition_cancelled_ran_nothing() -> None:
    run = run_inline(Workflow([first], cancel_if=True))
    assert ran(run) == []
    with pytest.raises(AssertionError, match=r"is cancelled \(.*cancel_if.*\)"):
        assert_ran(run, first)


def test_a_body_that_signals_has_run() -> None:
    @task
    def choose(ctx: TaskContext) -> None:
        ctx.skip("nothing to do")

    @task
    def enough(ctx: TaskContext) -> None:
        ctx.finish()

    run = run_inline([choose, enough, first])
    assert_ran(run, choose, enough)
    with pytest.raises(AssertionError, match="first did not run: skipped: finished"):
        assert_ran(run)


def test_a_task_that_was_stopped_has_run_when_its_run_is_resumed() -> None:
    @task
    def ask(ctx: TaskContext) -> None:
        if ctx.attempt.number == 1:
            ctx.pause()

    workflow, storage = Workflow([first, ask, second.bind(x=first)]), MemoryStorage()
    run = run_inline(workflow, workflow_id="w", storage=storage)
    assert_ran(run, first, ask)
    assert_ran(run_inline(workflow, workflow_id="w", storage=storage, resume=True), ask, second)


def test_a_task_that_waits_when_its_run_is_resumed_runs_then() -> None:
    storage, waits = MemoryStorage(), threading.Event()

    class Told(Metrics):
        def task_retried(self, task: TaskRun) -> None:
            waits.set()

    @task(retry=2, retry_delay=3600)
    def flaky(ctx: TaskContext) -> None:
        if ctx.attempt.number == 1:
            raise OSError

    workflow = Workflow([flaky])
    run = workflow.start(workflow_id="w", config=Config(storage=storage, metrics=Told()))
    assert waits.wait(60)
    run.pause()
    assert run.wait().status == "paused"
    assert_ran(run_inline(workflow, workflow_id="w", storage=storage, resume=True), flaky)
