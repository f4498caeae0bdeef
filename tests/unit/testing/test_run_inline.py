"""A workflow run at once, for a test to look at."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

import pytest

import dotflow_like.testing
from dotflow_like import Mode, RunStatus, TaskContext, Workflow, clock, task
from dotflow_like.testing import run_inline


@pytest.mark.parametrize("mode", list(Mode))
def test_it_runs_any_mode_to_its_end_without_waiting(mode: Mode) -> None:
    calls: list[int] = []

    @task(retry=3, retry_delay=3600)
    def third_time() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise ValueError
        return len(calls)

    run = run_inline([third_time], mode=mode)
    assert run.status is RunStatus.COMPLETED
    assert run[third_time].result == 3
    assert run.duration == 7200
    assert run.mode is mode


@pytest.mark.parametrize("mode", ["sequential", "sequential_group", "parallel"])
def test_bodies_run_in_the_callers_thread(mode: str) -> None:
    here = task(threading.current_thread, name="here")
    assert run_inline([here], mode=mode)[here].result is threading.current_thread()


@pytest.mark.parametrize("mode", list(Mode))
def test_isolated_tasks_stay_in_this_process(mode: Mode) -> None:
    found: list[int] = []

    @task(isolate=True)
    def here() -> None:
        found.append(os.getpid())

    run_inline([here], mode=mode).raise_for_failure()
    assert found == [os.getpid()]


def test_it_takes_a_workflow_and_options() -> None:
    workflow = Workflow([task(lambda x: x, name="one")], name="load", version="2")
    run = run_inline(workflow, params={"x": 5}, workflow_id="w")
    assert (run.workflow_id, run["one"].result) == ("w", 5)


def test_the_real_clock_is_back_afterwards() -> None:
    before = clock.current()
    run_inline([task(lambda: 1)])
    with pytest.raises(LookupError):
        run_inline([task(lambda: 1)], on_success=_raising)
    assert clock.current() is before


def _raising(tasks: object) -> None:
    raise LookupError


def test_its_names_are_there_and_no_others() -> None:
    assert dotflow_like.testing.__all__ == sorted(dotflow_like.testing.__all__)
    for name in dotflow_like.testing.__all__:
        assert getattr(dotflow_like.testing, name)
    with pytest.raises(AttributeError):
        dotflow_like.testing.other  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", list(Mode))
def test_what_a_body_waits_for_by_itself_is_skipped_too(mode: Mode) -> None:
    @task
    def patient(ctx: TaskContext) -> int:
        ctx.sleep(timedelta(days=1))
        if ctx.attempt.number < 3:
            ctx.retry("not yet", after=timedelta(days=1))
        return ctx.attempt.number

    run = run_inline([patient], mode=mode)
    assert run[patient].result == 3
    assert run.duration == 5 * 24 * 3600
