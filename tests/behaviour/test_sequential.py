"""Tasks one after another: order, contexts, groups, and what a failure leaves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from dotflow_like import Context, Manager, Mode, RunStatus, TaskStatus, task


def steps_of(names: str, *, log: list[str], **options: Any) -> list[Any]:
    """Return a task for each letter that appends its name to the log."""

    def step(name: str) -> Any:
        def body() -> str:
            log.append(name)
            return name

        return task(body, name=name, **options)

    return [step(name) for name in names]


@pytest.mark.parametrize("mode", ["sequential", "sequential_group", "background"])
def test_tasks_run_in_the_order_they_are_given(mode: str) -> None:
    log: list[str] = []
    run = Manager(steps_of("dacb", log=log), mode=mode).wait()
    assert log == list("dacb")
    assert [each.task_id for each in run.tasks] == list("dacb")
    assert run.status is RunStatus.COMPLETED
    assert run.reason is None


def test_a_long_chain_runs_in_order() -> None:
    log: list[int] = []
    tasks = [task(lambda i=i: log.append(i), name=f"t{i}") for i in range(3000)]
    run = Manager(tasks)
    assert run.status is RunStatus.COMPLETED
    assert log == list(range(3000))


def test_the_previous_context_holds_the_previous_result() -> None:
    @task
    def first() -> int:
        return 4

    @task
    def second(previous_context: Context) -> tuple[Any, ...]:
        return previous_context.storage, previous_context.value, previous_context.task_id

    run = Manager([first, second])
    assert run[second].result == (4, 4, "first")
    assert run[second].previous_context.storage == 4
    assert run[second].previous_context.workflow_id == run.workflow_id
    assert run[first].current_context.storage == 4
    assert isinstance(run[first].current_context.time, datetime)


def test_the_first_task_has_an_empty_previous_context() -> None:
    @task
    def first(previous_context: Context) -> Any:
        return previous_context.storage, previous_context.task_id

    assert Manager([first])[first].result == (None, None)


def test_the_initial_context_holds_the_given_value() -> None:
    @task(initial_context={"rows": 3})
    def load(initial_context: Context) -> Any:
        return initial_context.storage

    run = Manager([load])
    assert run[load].result == {"rows": 3}
    assert run[load].initial_context.storage == {"rows": 3}


def test_an_initial_context_may_be_given_as_a_context() -> None:
    at = datetime(2020, 1, 1, tzinfo=UTC)

    @task(initial_context=Context(5, time=at))
    def load(initial_context: Context) -> Any:
        return initial_context.storage, initial_context.time

    assert Manager([load])[load].result == (5, at)


def test_a_task_without_an_initial_context_gets_an_empty_one() -> None:
    @task
    def load(initial_context: Context) -> Any:
        return initial_context.storage

    assert Manager([load])[load].result is None


def test_a_returned_context_is_unwrapped(run_in: Callable[..., Manager]) -> None:
    @task
    def make() -> Context:
        return Context({"a": 1})

    run = run_in([make])
    assert run[make].result == {"a": 1}
    assert run[make].current_context.storage == {"a": 1}


def test_a_failure_leaves_later_tasks_pending() -> None:
    log: list[str] = []

    @task
    def bad() -> None:
        raise ValueError("no")

    a, b, c = steps_of("abc", log=log)
    run = Manager([a, bad, b, c], on_failure=lambda tasks: None)
    assert log == ["a"]
    assert [each.status for each in run.tasks] == ["completed", "failed", "pending", "pending"]
    assert run.status is RunStatus.FAILED
    assert run.reason == "failed: bad"
    assert not run[b].attempts
    assert run[b].duration is None


def test_with_keep_going_later_tasks_run_after_a_failure() -> None:
    log: list[str] = []

    @task
    def bad() -> None:
        raise ValueError("no")

    @task
    def after(previous_context: Context) -> Any:
        return previous_context.storage, previous_context.task_id

    a, b = steps_of("ab", log=log)
    run = Manager([a, bad, after, b], keep_going=True, on_failure=lambda tasks: None)
    assert log == ["a", "b"]
    assert run[after].result == (None, "bad")
    assert run[after].previous_context.storage is None
    assert [each.status for each in run.tasks] == ["completed", "failed", "completed", "completed"]
    assert run.status is RunStatus.FAILED


@pytest.mark.parametrize("mode", ["sequential", "sequential_group", "background"])
def test_groups_run_in_order_of_first_appearance_each_as_a_chain_of_its_own(mode: str) -> None:
    log: list[tuple[str, Any]] = []

    def step(name: str, group: str | None) -> Any:
        def body(previous_context: Context) -> str:
            log.append((name, previous_context.storage))
            return name

        return task(body, name=name, group_name=group)

    tasks = [step("x1", "x"), step("y1", "y"), step("u1", None), step("x2", "x"), step("u2", None)]
    tasks.append(step("y2", "y"))
    run = Manager(tasks, mode=mode).wait()
    assert log == [("x1", None), ("x2", "x1"), ("y1", None), ("y2", "y1"), ("u1", None), ("u2", "u1")]
    assert [each.task_id for each in run.tasks] == ["x1", "y1", "u1", "x2", "u2", "y2"]
    assert [each.group_name for each in run.tasks] == ["x", "y", None, "x", None, "y"]


def test_sequential_with_more_than_one_group_says_it_is_sequential_group() -> None:
    log: list[str] = []
    (a,) = steps_of("a", log=log, group_name="one")
    (b,) = steps_of("b", log=log)
    assert Manager([a, b]).mode is Mode.SEQUENTIAL_GROUP
    assert Manager([a, a]).mode is Mode.SEQUENTIAL


def test_with_keep_going_a_failed_group_does_not_stop_the_next() -> None:
    log: list[str] = []

    @task(group_name="one")
    def bad() -> None:
        raise ValueError("no")

    (a,) = steps_of("a", log=log, group_name="one")
    (b,) = steps_of("b", log=log, group_name="two")
    Manager([bad, a, b], keep_going=True, on_failure=lambda tasks: None)
    assert log == ["a", "b"]


def test_a_skipped_task_does_not_let_its_follower_overtake_the_chain() -> None:
    log: list[str] = []

    @task
    def bad() -> int:
        raise ValueError("no")

    @task
    def needs(value: int) -> None:
        log.append("needs")

    a, b = steps_of("ab", log=log)
    run = Manager([bad, a, needs.bind(value=bad), b], keep_going=True, on_failure=lambda tasks: None)
    assert log == ["a", "b"]
    assert run["needs"].status is TaskStatus.SKIPPED


def test_the_same_task_twice_is_two_tasks_with_keys_of_their_own() -> None:
    log: list[str] = []
    (a,) = steps_of("a", log=log)
    run = Manager([a, a])
    assert [each.task_id for each in run.tasks] == ["a", "a#2"]
    assert log == ["a", "a"]


def test_bodies_run_in_the_thread_of_the_caller_and_see_its_context_variables() -> None:
    import threading
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="none")

    @task
    def look() -> Any:
        return threading.current_thread(), variable.get()

    variable.set("seen")
    assert Manager([look])[look].result == (threading.current_thread(), "seen")


@pytest.mark.parametrize("options", [{"mode": "background"}, {"mode": "parallel", "executor": "thread"}])
def test_bodies_in_threads_see_the_context_variables_of_the_caller(options: dict[str, Any]) -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="none")

    @task
    def look() -> str:
        return variable.get()

    variable.set("seen")
    assert Manager([look], **options).wait()[look].result == "seen"
