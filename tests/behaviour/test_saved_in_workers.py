"""Bodies in workers save through their parent: whatever else they do, and whatever becomes of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, RetryPolicy, RunStatus, TaskContext, Workflow, task

PARALLEL: dict[str, Any] = {"mode": "parallel", "max_workers": 2}


@pytest.fixture(params=["memory", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The options of places where runs are recorded."""
    return PARALLEL | ({"storage": f"sqlite:///{tmp_path}/runs.db"} if request.param == "sqlite" else {})


def test_many_bodies_save_at_once(kept: dict[str, Any]) -> None:
    @task(retry=2)
    def body(ctx: TaskContext, x: int) -> Any:
        seen = list(ctx.iterate(range(5)))
        ctx.checkpoints["x"] = ctx.checkpoints.get("x", 0) + x
        if x % 10 == 0 and ctx.attempt.number == 1:
            raise ValueError
        return seen, ctx.checkpoints["x"]

    bodies = body.map(x=list(range(100)))
    expected = [([0, 1, 2, 3, 4], x) if x % 10 else ([], 2 * x) for x in range(100)]
    assert Manager([bodies], **kept)[bodies].result == expected


def test_a_child_of_a_body_saves_nothing_and_the_body_does(kept: dict[str, Any]) -> None:
    @task
    def body(ctx: TaskContext) -> Any:
        child = os.fork()
        if not child:
            code = 1
            try:
                ctx.checkpoints["child"] = 1
            except Exception as error:
                code = 0 if type(error).__name__ == "TaskCancelled" else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        ctx.checkpoints["body"] = 1
        return status, dict(ctx.checkpoints)

    assert Manager([body], **kept)[body].result == (0, {"body": 1})


def test_a_thread_that_outlives_its_body_saves_nothing_more(kept: dict[str, Any], tmp_path: Path) -> None:
    told = tmp_path / "told"

    @task
    def first(ctx: TaskContext) -> None:
        def later() -> None:
            while True:
                try:
                    ctx.checkpoints["late"] = 1
                except Exception as error:
                    told.write_text(type(error).__name__)
                    return

        threading.Thread(target=later).start()

    @task
    def second(ctx: TaskContext) -> Any:
        deadline = time.monotonic() + 30
        while not told.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        ctx.checkpoints["own"] = 1
        return dict(ctx.checkpoints)

    run = Manager([first, second.after(first)], **kept | {"max_workers": 1})
    assert run.tasks[1].result == {"own": 1}
    assert told.read_text() == "TaskCancelled"


def test_a_worker_that_dies_has_saved_what_it_has_said(kept: dict[str, Any]) -> None:
    @task(retry=RetryPolicy(max_attempts=3, worker_deaths=3))
    def body(ctx: TaskContext) -> Any:
        seen = []
        for item in ctx.iterate(range(4)):
            seen.append(item)
            if item == ctx.attempt.number and item < 3:
                os.kill(os.getpid(), signal.SIGKILL)
        return seen

    run = Manager([body], **kept)
    assert [error.exception for error in run[body].errors] == ["WorkerDied"] * 2
    assert run[body].result == [2, 3]


def test_a_body_in_the_middle_of_a_timeout_is_killed_and_the_next_attempt_goes_on(
    kept: dict[str, Any],
) -> None:
    @task(retry=2, timeout=0.5)
    def body(ctx: TaskContext) -> Any:
        seen = []
        for item in ctx.iterate(range(4)):
            seen.append(item)
            if item == 2 and ctx.attempt.number == 1:
                time.sleep(60)
        return seen

    assert Manager([body], **kept)[body].result == [2, 3]


def test_a_body_whose_run_was_asked_to_stop_still_saves(
    kept: dict[str, Any], tmp_path: Path, until: Callable[..., None]
) -> None:
    @task
    def body(ctx: TaskContext) -> Any:
        (tmp_path / "begun").touch()
        deadline = time.monotonic() + 30
        while not ctx.cancelled and time.monotonic() < deadline:
            time.sleep(0.002)
        for at in range(10):
            ctx.checkpoints[str(at)] = at
        return len(ctx.checkpoints)

    run = Workflow([body]).start(**kept)
    until((tmp_path / "begun").exists, "the body")
    run.pause()
    run.wait()
    assert (run.status, run[body].result) == (RunStatus.COMPLETED, 10)


def test_saving_leaves_calls_alone_that_were_sent_in_advance() -> None:
    @task
    def body(ctx: TaskContext, x: int) -> int:
        if x % 7 == 0:
            ctx.checkpoints["x"] = x
            return int(ctx.checkpoints["x"])
        return x

    bodies = body.map(x=list(range(1000)))
    assert Manager([bodies], **PARALLEL)[bodies].result == list(range(1000))


def test_an_isolated_body_saves_in_any_mode() -> None:
    @task(isolate=True, retry=2)
    def body(ctx: TaskContext) -> Any:
        seen = []
        for item in ctx.iterate("abc"):
            seen.append(ctx.step("send", str, item))
            if item == "b" and ctx.attempt.number == 1:
                raise ValueError
        return seen, os.getpid() != here

    here = os.getpid()
    for mode in ("sequential", "sequential_group", "background"):
        assert Manager([body], mode=mode).wait()[body].result == (["b", "c"], True)
