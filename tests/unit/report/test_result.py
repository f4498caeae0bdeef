"""A run and its tasks as their user sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dotflow_like import (
    Attempt,
    AttemptOutcome,
    AttemptStatus,
    RunFailed,
    RunStatus,
    TaskStatus,
    Workflow,
    task,
)
from dotflow_like.model.records import Held, TaskError
from dotflow_like.report.result import RunView, TaskRun

START = datetime(2030, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def attempt(number: int, begin: float, end: float | None, **changes: Any) -> Attempt:
    made = Attempt(
        "w",
        "one",
        number,
        AttemptStatus.COMPLETED,
        AttemptOutcome.SUCCESS,
        after(begin),
        after(begin),
        None if end is None else after(end),
        "me",
        1,
    )
    return made._replace(**changes)


@pytest.fixture
def run() -> RunView:
    """A run of two tasks that has not begun."""
    plan = Workflow([task(lambda: 1, name="one", initial_context=5), task(lambda: 2, name="two")]).plan()
    view = RunView()
    view.workflow_id, view.status, view.reason = "w", RunStatus.PENDING, None
    view.started = view.finished = None
    view.mode = plan.mode
    first = TaskRun(plan.graph["one"], "w", None)
    second = TaskRun(plan.graph["two"], "w", first)
    view._by_key = {"one": first, "two": second}
    view.tasks = [first, second]
    return view


def test_before_it_begins(run: RunView) -> None:
    one = run["one"]
    assert one.status is TaskStatus.PENDING
    assert (one.result, one.reason, one.items, one.restored) == (None, None, None, False)
    assert (one.started_at, one.finished_at, one.duration) == (None, None, None)
    assert one.retry_count == 0
    assert not one.attempts
    assert not one.errors
    assert one.initial_context.storage == 5
    assert run["two"].initial_context.storage is None
    assert one.current_context.storage is None
    assert one.previous_context.storage is None
    assert dict(run.results) == {}
    assert run.duration is None
    assert run.attempts == []


def test_a_duration_goes_from_the_first_start_to_the_last_end(run: RunView) -> None:
    one = run["one"]
    one._take_over((attempt(1, 0, 1), attempt(2, 5, 8)))
    assert (one.started_at, one.finished_at, one.duration) == (after(0), after(8), 8)
    assert one.retry_count == 1


def test_while_it_runs_there_is_no_end(run: RunView) -> None:
    one = run["one"]
    one._take_over((attempt(1, 0, 1), attempt(2, 5, None)))
    assert (one.started_at, one.finished_at, one.duration) == (after(0), None, None)


def test_attempts_of_earlier_processes_count_in_the_number_not_in_the_time(run: RunView) -> None:
    one = run["one"]
    one._earlier = 1
    one._take_over((attempt(1, 0, 1), attempt(2, 50, 53)))
    assert one.duration == 3
    assert one.retry_count == 1


def test_a_restored_task_tells_of_the_attempt_that_completed_it(run: RunView) -> None:
    one = run["one"]
    one.restored, one._earlier = True, 2
    one._take_over((attempt(1, 0, 1), attempt(2, 5, 7)))
    assert (one.started_at, one.duration) == (after(5), 2)


def test_attempts_of_a_discarded_result_are_no_retries(run: RunView) -> None:
    one = run["one"]
    one._generation = 2
    one._take_over((attempt(1, 0, 1), attempt(2, 2, 3), attempt(3, 5, 6, generation=2)))
    assert one.retry_count == 0


def test_a_result_is_read_when_it_is_asked_for(run: RunView) -> None:
    reads: list[int] = []

    class Counted:
        def load(self) -> int:
            reads.append(1)
            return 7

    one = run["one"]
    one._value, one.status = Counted(), TaskStatus.COMPLETED
    results = run.results
    assert list(results) == ["one"]
    assert reads == []
    assert (one.result, results["one"]) == (7, 7)
    assert len(reads) == 2


def test_contexts_say_where_a_value_comes_from(run: RunView) -> None:
    one, two = run.tasks
    one._value, one.status = Held(7), TaskStatus.COMPLETED
    one._take_over((attempt(1, 0, 1),))
    context = two.previous_context
    assert (context.storage, context.task_id, context.workflow_id, context.time) == (7, "one", "w", after(1))


def test_raising_falls_back_to_the_reason_of_the_run(run: RunView) -> None:
    run.status, run.reason = RunStatus.FAILED, "timeout"
    with pytest.raises(RunFailed, match=r"w is failed \(timeout\)") as raised:
        run.raise_for_failure()
    assert [str(each) for each in raised.value.exceptions] == ["run w is failed (timeout)"]


def test_raising_falls_back_to_the_reason_of_a_task(run: RunView) -> None:
    run.status = RunStatus.FAILED
    run["one"].status, run["one"].reason = TaskStatus.FAILED, "because"
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    assert [str(each) for each in raised.value.exceptions] == ["task 'one' failed: because"]


def test_raising_tells_what_was_not_kept(run: RunView) -> None:
    run.status = RunStatus.FAILED
    run["one"].status = TaskStatus.FAILED
    run["one"].errors = (TaskError(2, "Odd", "text", "Traceback"),)
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    assert [str(each) for each in raised.value.exceptions] == ["task 'one', attempt 2: Odd: text"]


@pytest.mark.parametrize("status", [each for each in RunStatus if each is not RunStatus.COMPLETED])
def test_only_a_completed_run_is_returned(run: RunView, status: RunStatus) -> None:
    run.status = status
    with pytest.raises(RunFailed, match=str(status)):
        run.raise_for_failure()
    run.status = RunStatus.COMPLETED
    assert run.raise_for_failure() is run


def test_it_is_shown_in_a_line(run: RunView) -> None:
    assert repr(run) == "<RunView w pending, 2 tasks>"
    assert repr(run["one"]) == "<TaskRun 'one' pending>"
    assert repr(run.results) == "<results of no task>"
