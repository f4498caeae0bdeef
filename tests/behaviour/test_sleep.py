"""`ctx.sleep` waits until it is asked something, `ctx.check` looks; nothing of the body runs after that, but `finally`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    AttemptOutcome,
    Manager,
    Run,
    RunStatus,
    TaskContext,
    TaskStatus,
    Workflow,
    pause,
    skip,
    task,
)
from dotflow_like.testing import FakeClock

LONG = 3600
ENDS = {
    "pause": (RunStatus.PAUSED, TaskStatus.PAUSED, AttemptOutcome.PAUSED),
    "cancel": (RunStatus.CANCELLED, TaskStatus.CANCELLED, AttemptOutcome.CANCELLED),
}


@pytest.fixture
def start(way: dict[str, Any]) -> Callable[..., Run]:
    """A function that starts tasks in each mode in turn, in a thread of its own."""

    def begin(tasks: list[Any], **options: Any) -> Run:
        return Workflow(tasks).start(**(way | options))

    return begin


def sleeper(folder: Path) -> Any:
    """Return a task that sleeps for an hour, and tells what of it runs."""

    @task
    def sleeps(ctx: TaskContext) -> None:
        try:
            (folder / "begun").touch()
            try:
                ctx.sleep(LONG)
            except Exception:
                (folder / "swallowed").touch()
            (folder / "went on").touch()
        finally:
            (folder / "finally").touch()

    return sleeps


@pytest.mark.parametrize("word", ENDS)
def test_a_body_that_sleeps_becomes_what_its_run_is_asked_for_at_once(
    start: Callable[..., Run], word: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    body = sleeper(tmp_path)
    run = start([body])
    until((tmp_path / "begun").exists, "the body")
    began = time.monotonic()
    assert getattr(run, word)() is True
    run.wait()
    assert time.monotonic() - began < 9, "it was not killed when the grace was over"
    (attempt,) = run[body].attempts
    assert (run.status, run[body].status, attempt.outcome) == ENDS[word]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["begun", "finally"]


@pytest.mark.parametrize("mode", ["sequential", "processes", "threads"])
def test_it_wakes_for_what_is_asked_through_the_journal(
    mode: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    way = {
        "sequential": {"mode": "sequential"},
        "processes": {"mode": "parallel", "max_workers": 2},
        "threads": {"mode": "parallel", "executor": "thread", "max_workers": 2},
    }[mode]
    body, storage = sleeper(tmp_path), tmp_path / "kept"
    run = Workflow([body]).start(**way, storage=storage, workflow_id="w", resume=True)
    until((tmp_path / "begun").exists, "the body")
    assert pause("w", storage=storage, reason="lunch") is True
    run.wait()
    assert (run.status, run[body].status) == (RunStatus.PAUSED, TaskStatus.PAUSED)
    (tmp_path / "begun").unlink()
    run = Workflow([body]).start(**way, storage=storage, workflow_id="w", resume=True)
    until((tmp_path / "begun").exists, "the body")
    assert skip("w", storage=storage) is True
    run.wait()
    assert (run.status, run[body].status) == (RunStatus.COMPLETED, TaskStatus.SKIPPED)
    assert not (tmp_path / "went on").exists()


def test_a_body_that_works_becomes_it_where_it_checks(
    start: Callable[..., Run], tmp_path: Path, until: Callable[..., None]
) -> None:
    @task
    def works(ctx: TaskContext) -> None:
        (tmp_path / "begun").touch()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ctx.check()
            time.sleep(0.002)

    run = start([works])
    until((tmp_path / "begun").exists, "the body")
    run.cancel()
    run.wait()
    assert (run.status, run[works].status) == (RunStatus.CANCELLED, TaskStatus.CANCELLED)


def test_an_async_body_checks_between_its_own_sleeps(
    start: Callable[..., Run], tmp_path: Path, until: Callable[..., None]
) -> None:
    @task
    async def works(ctx: TaskContext) -> None:
        (tmp_path / "begun").touch()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ctx.check()
            await asyncio.sleep(0.002)

    run = start([works])
    until((tmp_path / "begun").exists, "the body")
    run.pause()
    run.wait()
    assert (run.status, run[works].status) == (RunStatus.PAUSED, TaskStatus.PAUSED)


def test_a_thread_of_a_body_sleeps_and_wakes_like_it(
    start: Callable[..., Run], tmp_path: Path, until: Callable[..., None]
) -> None:
    @task
    def body(ctx: TaskContext) -> None:
        def sleep(name: str) -> None:
            (tmp_path / name).touch()
            ctx.sleep(LONG)

        threads = [threading.Thread(target=quietly, args=(sleep, name)) for name in "ab"]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert ctx.cancelled

    run = start([body])
    until(lambda: (tmp_path / "a").exists() and (tmp_path / "b").exists(), "both threads")
    run.pause()
    run.wait()
    assert (run.status, run[body].status) == (RunStatus.PAUSED, TaskStatus.PAUSED)


def quietly(call: Callable[[str], None], name: str) -> None:
    try:
        call(name)
    except BaseException:  # the signal has been noted
        return


def test_it_takes_its_time(run_in: Callable[..., Manager]) -> None:
    @task
    def body(ctx: TaskContext) -> float:
        began = time.monotonic()
        ctx.sleep(0.05)
        ctx.sleep(timedelta(milliseconds=50))
        ctx.sleep(0)
        return time.monotonic() - began

    assert run_in([body])[body].result >= 0.1


def test_what_a_worker_is_sent_meanwhile_does_not_wake_it() -> None:
    @task
    def body(ctx: TaskContext, x: int) -> float:
        began = time.monotonic()
        ctx.sleep(0.02)
        return time.monotonic() - began

    bodies = body.map(x=list(range(30)))
    assert min(Manager([bodies], mode="parallel", max_workers=2)[bodies].result) >= 0.02


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_by_a_fake_clock_no_time_passes(mode: str) -> None:
    @task
    def body(ctx: TaskContext) -> None:
        ctx.sleep(LONG)

    began = time.monotonic()
    with FakeClock() as clock:
        assert Manager([body], mode=mode).wait()[body].status is TaskStatus.COMPLETED
        assert clock.elapsed >= LONG
    assert time.monotonic() - began < 60
