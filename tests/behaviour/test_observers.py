"""Tracer and metrics: what they are told, in what order, and that they change nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dotflow_like import Config, ConfigError, Manager, Metrics, RunStatus, TaskStatus, Tracer, task
from dotflow_like.testing import run_inline

RunIn = Callable[..., Manager]


class Recorder(Tracer, Metrics):
    """Writes down every call, with what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.places: set[tuple[int, Any]] = set()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") or name in ("calls", "places", "names"):
            return super().__getattribute__(name)

        def record(*args: Any, **info: Any) -> None:
            about = [
                each if isinstance(each, str | float) else (each.task_id, str(each.status)) for each in args
            ]
            self.calls.append((name, *about, info) if info else (name, *about))
            self.places.add((os.getpid(), threading.current_thread()))

        return record

    def names(self) -> list[Any]:
        """Return each method with the task and status it was told; of one tried again it may have begun anew."""
        told = [(call[0], *call[1]) if isinstance(call[1], tuple) else call[0] for call in self.calls]
        return [call[:2] if call[0] == "task_retried" else call for call in told]


@task
def good() -> int:
    return 1


def failing(**options: Any) -> Any:
    return task(lambda: 1 / 0, name="bad", **options)


def test_the_order_of_events_to_a_tracer(run_in: RunIn) -> None:
    watch = Recorder()
    one = task(lambda: 1, name="one", group_name="g")
    bad = failing(retry=2, group_name="g")
    rest = task(lambda: 1, name="rest", group_name="g")
    run = run_in([one, bad, rest], config=Config(tracer=watch), on_failure=lambda tasks: None)
    assert watch.names() == [
        "start_workflow",
        ("start_task", "one", "running"),
        ("end_task", "one", "completed"),
        ("start_task", "bad", "running"),
        ("end_task", "bad", "failed"),
        "end_workflow",
    ]
    (start, *_, end) = watch.calls
    assert start[:2] == ("start_workflow", run.workflow_id)
    assert start[2] == {
        "workflow": "workflow",
        "version": None,
        "mode": str(run.mode),
        "tasks": 3,
        "resumed": False,
    }
    assert end[:2] == ("end_workflow", run.workflow_id)
    assert end[2] == {
        "workflow": "workflow",
        "status": RunStatus.FAILED,
        "reason": "failed: bad",
        "duration": run.duration,
    }
    assert {pid for pid, _ in watch.places} == {os.getpid()}
    assert len(watch.places) == 1


def test_the_order_of_events_to_metrics(run_in: RunIn) -> None:
    watch = Recorder()
    one = task(lambda: 1, name="one", group_name="g")
    bad = failing(retry=3, group_name="g")
    run = run_in([one, bad], config=Config(metrics=watch), on_failure=lambda tasks: None)
    assert watch.names() == [
        "workflow_started",
        ("task_completed", "one", "completed"),
        ("task_retried", "bad"),
        ("task_retried", "bad"),
        ("task_failed", "bad", "failed"),
        "workflow_failed",
    ]
    assert watch.calls[-1] == ("workflow_failed", run.workflow_id, run.duration)


def test_a_run_that_completes(run_in: RunIn) -> None:
    watch = Recorder()
    run = run_in(
        [task(lambda: 1, name="one")], config=Config(tracer=watch, metrics=watch), name="load", version="7"
    )
    assert watch.names() == [
        "start_workflow",
        "workflow_started",
        ("start_task", "one", "running"),
        ("end_task", "one", "completed"),
        ("task_completed", "one", "completed"),
        "end_workflow",
        "workflow_completed",
    ]
    assert watch.calls[0][2]["workflow"] == "load"
    assert watch.calls[0][2]["version"] == "7"
    assert watch.calls[-1] == ("workflow_completed", run.workflow_id, run.duration)
    assert isinstance(run.duration, float)


def test_a_skipped_task_is_neither_started_nor_ended() -> None:
    watch = Recorder()
    bad = failing()
    needs = task(lambda x: x, name="needs").bind(x=bad)
    Manager([bad, needs], keep_going=True, config=Config(tracer=watch), on_failure=lambda tasks: None)
    assert not any("needs" in call for call in watch.names())


def test_a_restored_task_is_neither_started_nor_ended(tmp_path: Any) -> None:
    config = {"workflow_id": "w", "resume": True}
    Manager([good], config=Config(storage=tmp_path), **config)  # type: ignore[arg-type]
    watch = Recorder()
    Manager([good], config=Config(storage=tmp_path, tracer=watch, metrics=watch), **config)  # type: ignore[arg-type]
    assert watch.names() == ["start_workflow", "workflow_started", "end_workflow", "workflow_completed"]
    assert watch.calls[0][2]["resumed"] is True


def test_a_paused_run_ends_for_the_tracer_and_counts_neither_way() -> None:
    watch = Recorder()
    gate = threading.Event()
    run = Manager(
        [task(lambda: gate.wait(30), name="held"), task(lambda: 1, name="rest")],
        mode="background",
        config=Config(tracer=watch, metrics=watch),
    )
    run.pause()
    gate.set()
    run.wait()
    assert watch.names()[-1] == "end_workflow"
    assert watch.calls[-1][2]["status"] is RunStatus.PAUSED
    assert not any(name in ("workflow_completed", "workflow_failed") for name in watch.names())


def test_every_task_that_was_started_is_ended_when_the_run_is_cancelled(until: Callable[..., None]) -> None:
    watch = Recorder()
    run = Manager(
        [
            failing(retry=2, retry_delay=600),
            task(lambda x: 1 / x, name="map", retry=2, retry_delay=600).map(x=[1, 0, 0]),
            task(lambda: 1, name="one"),
        ],
        mode="background",
        config=Config(tracer=watch),
    )
    until(lambda: run["bad"].status is TaskStatus.RETRYING, "the delay")
    run.cancel()
    run.wait()
    names = [name for name in watch.names() if isinstance(name, tuple)]
    started = sorted(name[1] for name in names if name[0] == "start_task")
    ended = sorted(name[1] for name in names if name[0] == "end_task")
    assert started == ended != []


def test_every_task_that_was_started_is_ended_when_a_map_is_cancelled_midway() -> None:
    watch = Recorder()
    gate = threading.Event()
    mapped = task(lambda x: gate.wait(30), name="map").map(x=[1, 2, 3])
    run = Manager([mapped], mode="background", config=Config(tracer=watch))
    run.cancel()
    gate.set()
    run.wait()
    names = [name for name in watch.names() if isinstance(name, tuple)]
    started = sorted(name[1] for name in names if name[0] == "start_task")
    ended = sorted(name[1] for name in names if name[0] == "end_task")
    assert started == ended


@pytest.mark.parametrize("error", [ValueError, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_what_they_raise_is_logged_and_changes_nothing(
    run_in: RunIn, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)

            def broken(*args: Any, **info: Any) -> None:
                raise error(f"from {name}")

            return broken

    calls: list[int] = []
    broken = Broken()
    run = run_in(
        [task(lambda: 1, name="one"), failing(retry=2), task(lambda: 3, name="three")],
        config=Config(tracer=broken, metrics=broken),
        keep_going=True,
        on_failure=lambda tasks: calls.append(1),
    )
    assert run.status is RunStatus.FAILED
    assert [each.status for each in run.tasks] == ["completed", "failed", "completed"]
    assert [len(each.attempts) for each in run.tasks] == [1, 2, 1]
    assert calls == [1]
    raised = [each for each in caplog.records if each.exc_info]
    assert raised
    assert all("from " in str(each.exc_info[1]) for each in raised if each.exc_info)


def test_one_that_raises_does_not_keep_the_other_from_being_told() -> None:
    class Broken:
        def start_task(self, task: Any) -> None:
            raise ValueError

    watch = Recorder()
    Manager([good], config=Config(tracer=Broken(), metrics=watch))
    assert "workflow_completed" in watch.names()


def test_all_methods_are_optional() -> None:
    class One:
        def __init__(self) -> None:
            self.seen: list[str] = []

        def end_task(self, task: Any) -> None:
            self.seen.append(task.task_id)

    one = One()
    Manager([good], config=Config(tracer=one))
    assert one.seen == ["good"]
    assert Manager([good], config=Config(tracer=Tracer(), metrics=Metrics())).status is RunStatus.COMPLETED


@pytest.mark.parametrize("given", [object(), Recorder, 5, "tracer"])
def test_something_that_is_neither_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="tracer"):
        Config(tracer=given)
    with pytest.raises(ConfigError, match="metrics"):
        Config(metrics=given)


def test_a_task_seen_in_an_event_is_the_one_of_the_run() -> None:
    seen: list[Any] = []

    class Watch:
        def end_task(self, task: Any) -> None:
            seen.append(task)

    run = run_inline([good], config=Config(tracer=Watch()))
    assert seen == [run.tasks[0]]
