"""Conditions: whether a task's turn is skipped, or ends its run, decided right before its body."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Config, Context, Manager, MemoryStorage, TaskContext, Workflow, task
from dotflow_like.config import open_journal
from dotflow_like.errors import DeclarationError, UnfilledParameter
from dotflow_like.testing import FakeClock, run_inline

QUIET: dict[str, Any] = {"on_failure": lambda tasks: None}


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"skip_if": True}, "skipped"),
        ({"skip_if": False}, "completed"),
        ({"run_if": True}, "completed"),
        ({"run_if": False}, "skipped"),
        ({"skip_if": lambda: True}, "skipped"),
        ({"skip_if": lambda: False}, "completed"),
        ({"run_if": lambda: True}, "completed"),
        ({"run_if": lambda: False}, "skipped"),
        ({"skip_if": lambda: [1]}, "skipped"),
        ({"run_if": lambda: ""}, "skipped"),
        ({"run_if": lambda: None}, "skipped"),
    ],
)
def test_skip_if_and_its_inverse(
    run_in: Callable[..., Manager], options: dict[str, Any], status: str
) -> None:
    run = run_in([task(lambda: "done", name="it", **options), task(lambda: 1, name="later")])
    assert (run["it"].status, run.status, run["later"].status) == (status, "completed", "completed")
    assert run["it"].result == ("done" if status == "completed" else None)
    (attempt,) = run["it"].attempts
    if status == "skipped":
        (word,) = options
        assert (attempt.status, attempt.outcome) == ("skipped", "skipped")
        assert (attempt.metadata["signal"], attempt.metadata["signal_reason"]) == ("skip", word)
        assert run["it"].reason == word


def test_a_condition_is_filled_like_its_task(run_in: Callable[..., Manager]) -> None:
    """With a constant, a result, a param by its annotation, the contexts, ctx, a default."""

    def condition(
        rows: dict[str, int],
        limit: int,
        p: int,
        previous_context: Context,
        initial_context: Context,
        ctx: TaskContext,
        unset: str = "default",
    ) -> bool:
        got = (rows, limit, p, previous_context.value, initial_context.value, ctx.task_id, unset)
        return got == ({"rows": 3}, 10, 7, {"rows": 3}, "given", "it", "default")

    first = task(lambda: {"rows": 3}, name="first", group_name="g")
    it = task(lambda rows, limit: 1, name="it", group_name="g", initial_context="given", skip_if=condition)
    run = run_in([first, it.bind(rows=first, limit=10)], params={"p": "7"})
    assert run["it"].status == "skipped"


def test_bind_may_fill_what_only_the_condition_takes(run_in: Callable[..., Manager]) -> None:
    count = task(lambda: 3, name="count")
    few = task(lambda: "few", name="few", skip_if=lambda count, limit: count > limit).bind(
        count=count, limit=2
    )
    many = task(lambda: "many", name="many", run_if=lambda count, limit: count > limit).bind(
        count=count, limit=2
    )
    run = run_in([count, few, many])
    assert [each.status for each in run.tasks] == ["completed", "skipped", "completed"]
    assert run["many"].result == "many"


def test_what_a_condition_needs_is_a_dependency() -> None:
    order: list[str] = []

    def body(name: str) -> int:
        order.append(name)
        return 0

    count = task(body, name="count").bind(name="count")
    first = task(body, name="first", skip_if=lambda found: found).bind(name="first", found=count)
    Manager([first, count], mode="parallel", executor="inline").raise_for_failure()
    assert order == ["count", "first"]


def test_a_task_whose_condition_needs_a_skipped_result_is_skipped() -> None:
    none = task(lambda ctx: ctx.skip(), name="none")
    it = task(lambda: 1, name="it", skip_if=lambda found: found).bind(found=none)
    run = Manager([none, it])
    assert run["it"].status == "skipped"
    assert run["it"].attempts == ()


def test_a_condition_sees_what_holds_right_before_the_body() -> None:
    state = {"ready": False}

    def make_ready() -> None:
        state["ready"] = True

    tasks = [
        task(lambda: "early", name="early", run_if=lambda: state["ready"]),
        task(make_ready, name="make ready"),
        task(lambda: "late", name="late", run_if=lambda: state["ready"]),
    ]
    run = Manager(tasks)
    assert [each.status for each in run.tasks] == ["skipped", "completed", "completed"]


def test_a_condition_is_looked_at_before_each_attempt() -> None:
    looked: list[int] = []

    def condition(ctx: TaskContext) -> bool:
        looked.append(ctx.attempt.number)
        return ctx.attempt.number == 3

    def body() -> None:
        raise ValueError("why")

    run = run_inline([task(body, name="it", retry=5, retry_delay=60, skip_if=condition)])
    assert looked == [1, 2, 3]
    assert (run.status, run["it"].status) == ("completed", "skipped")
    assert [each.outcome for each in run.attempts] == ["retried", "retried", "skipped"]


def test_a_condition_runs_where_the_body_runs(tmp_path: Path) -> None:
    here = os.getpid()

    def elsewhere() -> bool:
        return os.getpid() != here

    run = Manager([task(lambda: 1, name="it", skip_if=elsewhere)], mode="parallel", max_workers=1)
    assert run["it"].status == "skipped"
    assert run.attempts[0].worker is not None


def test_each_item_of_a_map_has_its_own_turn(run_in: Callable[..., Manager]) -> None:
    many = (
        task(lambda x: x * 10, name="many", skip_if=lambda x, least: x < least).map(x=[1, 2, 3]).bind(least=2)
    )
    run = run_in([many])
    assert run[many].result == [None, 20, 30]
    assert [each.status for each in run[many].items or ()] == ["skipped", "completed", "completed"]


def test_map_may_fill_what_only_the_condition_takes(run_in: Callable[..., Manager]) -> None:
    many = task(lambda x: x, name="many", run_if=lambda wanted: wanted).map(
        x=[1, 2, 3], wanted=[True, False, True]
    )
    assert run_in([many])[many].result == [1, None, 3]


def test_a_class_task_has_conditions() -> None:
    @task(skip_if=lambda limit: limit > 3)
    class Steps:
        @task
        def first(self) -> int:
            return 1

    assert Manager([Steps.bind(limit=4)]).tasks[0].status == "skipped"
    assert Manager([Steps.bind(limit=2)]).tasks[0].status == "completed"


def test_async_tasks_have_conditions(run_in: Callable[..., Manager]) -> None:
    async def body(x: int) -> int:
        return x

    tasks = [
        task(body, name="skipped", skip_if=lambda x: x == 1).bind(x=1),
        task(body, name="run", skip_if=lambda x: x == 1).bind(x=2),
    ]
    run = run_in(tasks)
    assert [each.status for each in run.tasks] == ["skipped", "completed"]
    assert run["run"].result == 2


# What is wrong


def broken() -> bool:
    raise KeyError("condition")


@pytest.mark.parametrize("word", ["skip_if", "run_if"])
def test_one_that_raises_fails_its_attempt(run_in: Callable[..., Manager], word: str) -> None:
    storage = MemoryStorage()
    options: Any = {word: broken}
    run = run_in([task(lambda: 1, name="it", **options)], storage=storage, workflow_id="w", **QUIET)
    assert (run.status, run["it"].status) == ("failed", "failed")
    (attempt,) = open_journal(Config(storage=storage), Workflow([])).attempts("w")
    assert (attempt.status, attempt.outcome) == ("failed", "failed")
    assert attempt.error is not None
    assert attempt.error.exception == "KeyError"


def test_one_that_raises_is_policed_like_the_body() -> None:
    run = Manager([task(lambda: 1, name="it", skip_if=broken, on_exception={KeyError: "skip"})])
    assert run["it"].status == "skipped"
    assert run.attempts[0].error is not None


@pytest.mark.parametrize("problem", [SystemExit(1), GeneratorExit()])
def test_one_that_raises_what_is_no_exception_leaves_no_attempt_running(
    problem: BaseException, run_in: Callable[..., Manager]
) -> None:
    storage = MemoryStorage()

    def bad() -> bool:
        raise problem

    run = run_in([task(lambda: 1, name="it", skip_if=bad)], storage=storage, workflow_id="w", **QUIET)
    assert run.status == "failed"
    assert [each.status for each in open_journal(Config(storage=storage), Workflow([])).attempts("w")] == [
        "failed"
    ]


def test_a_condition_that_answers_with_what_has_no_truth_fails_its_attempt() -> None:
    class Neither:
        def __bool__(self) -> bool:
            raise TypeError("neither true nor false")

    run = Manager([task(lambda: 1, name="it", skip_if=lambda: Neither())], **QUIET)
    assert [each.status for each in run.attempts] == ["failed"]
    assert run["it"].errors[0].message == "neither true nor false"


@pytest.mark.parametrize("word", ["skip", "retry", "pause", "cancel", "finish"])
def test_a_condition_may_send_a_signal_itself(run_in: Callable[..., Manager], word: str) -> None:
    def condition(ctx: TaskContext) -> bool:
        if ctx.attempt.number == 1:
            getattr(ctx, word)("by the condition")
        return False

    run = run_in([task(lambda: "done", name="it", skip_if=condition)])
    expected = {
        "skip": "skipped",
        "retry": "completed",
        "pause": "paused",
        "cancel": "cancelled",
        "finish": "completed",
    }
    assert run["it"].status == expected[word]
    assert run.attempts[0].metadata["signal_reason"] == "by the condition"


def test_what_nothing_fills_is_said_before_anything_runs() -> None:
    ran: list[int] = []
    with pytest.raises(UnfilledParameter, match="'nowhere'") as raised:
        Manager([task(lambda: ran.append(1), name="it", skip_if=lambda nowhere: nowhere)])
    assert "'it'" in str(raised.value)
    assert "skip_if" in str(raised.value)
    assert ran == []


async def waits() -> bool:
    return True


@pytest.mark.parametrize("word", ["skip_if", "run_if", "cancel_if"])
@pytest.mark.parametrize("value", [waits, 1, "yes", int], ids=["async", "number", "text", "class"])
def test_what_is_no_condition_is_refused_where_it_is_written(word: str, value: Any) -> None:
    options: Any = {word: value}
    declare: Any = Workflow if word == "cancel_if" else task
    given: Any = [task(lambda: 1, name="it")] if word == "cancel_if" else lambda: 1
    with pytest.raises((DeclarationError, TypeError)):
        declare(given, name="it", **options)


# cancel_if


def test_cancel_if_ends_the_run_before_a_body(run_in: Callable[..., Manager]) -> None:
    run = run_in([task(lambda: 1, name="it")], cancel_if=lambda: True)
    assert (run.status, run["it"].status) == ("cancelled", "cancelled")
    (attempt,) = run.attempts
    assert (attempt.status, attempt.outcome) == ("cancelled", "cancelled")
    assert (attempt.metadata["signal"], attempt.metadata["signal_reason"]) == ("cancel", "cancel_if")
    assert run.reason is not None
    assert "'it'" in run.reason
    assert "cancel_if" in run.reason


def test_cancel_if_is_looked_at_before_each_body_with_what_holds_then() -> None:
    stop = threading.Event()
    ran: list[str] = []
    tasks = [
        task(lambda: ran.append("first"), name="first"),
        task(lambda: (ran.append("second"), stop.set()), name="second"),
        task(lambda: ran.append("third"), name="third"),
        task(lambda: ran.append("fourth"), name="fourth"),
    ]
    run = Manager(tasks, cancel_if=stop.is_set)
    assert run.status == "cancelled"
    assert ran == ["first", "second"]
    assert [each.status for each in run.tasks] == ["completed", "completed", "cancelled", "pending"]


def test_cancel_if_comes_before_skip_if() -> None:
    run = Manager([task(lambda: 1, name="it", skip_if=True)], cancel_if=True)
    assert (run.status, run["it"].status) == ("cancelled", "cancelled")


def test_cancel_if_is_filled_like_each_task() -> None:
    def stop(ctx: TaskContext, p: int) -> bool:
        return ctx.task_id == "second" and p == 7

    run = Manager(
        [task(lambda: 1, name="first"), task(lambda: 1, name="second")], cancel_if=stop, params={"p": 7}
    )
    assert [each.status for each in run.tasks] == ["completed", "cancelled"]


def test_a_cancel_if_that_raises_fails_the_attempt() -> None:
    run = Manager([task(lambda: 1, name="it")], cancel_if=broken, **QUIET)
    assert run.status == "failed"
    assert [each.status for each in run.attempts] == ["failed"]


def test_a_run_that_cancel_if_ended_goes_on_when_it_does_not_hold_any_more() -> None:
    storage, stop = MemoryStorage(), threading.Event()
    stop.set()
    workflow = Workflow([task(lambda: 1, name="it")], cancel_if=stop.is_set)
    assert workflow.run(storage=storage, workflow_id="w").status == "cancelled"
    stop.clear()
    again = workflow.run(storage=storage, workflow_id="w", resume=True)
    assert (again.status, again["it"].result) == ("completed", 1)
    assert [each.outcome for each in again.attempts] == ["cancelled", "success"]


# On resume


def test_a_task_that_was_skipped_is_not_looked_at_again() -> None:
    storage, looked = MemoryStorage(), []

    def condition() -> bool:
        looked.append(1)
        return True

    tasks = [task(lambda: 1, name="it", skip_if=condition), task(lambda ctx: ctx.pause(), name="pauses")]
    Manager(tasks, storage=storage, workflow_id="w")
    run = Manager(tasks, storage=storage, workflow_id="w", resume=True)
    assert (run.status, run["it"].status, run["it"].reason) == ("paused", "skipped", "skip_if")
    assert looked == [1]


def test_by_a_fake_clock_conditions_can_wait() -> None:
    with FakeClock() as clock:

        def condition(ctx: TaskContext) -> bool:
            if clock.elapsed < 100:
                ctx.retry(after=60)
            return False

        run = Manager([task(lambda: "done", name="it", skip_if=condition)])
        assert clock.elapsed == 120
    assert run["it"].result == "done"
    assert len(run.attempts) == 3
