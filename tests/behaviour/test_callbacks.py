"""Callbacks: when they come, where, and that they change nothing."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import FileStorage, Manager, RunStatus, TaskRun, TaskStatus, task

RunIn = Callable[..., Manager]


def test_a_task_callback_comes_after_the_task_has_ended(run_in: RunIn) -> None:
    seen: list[Any] = []

    def told(task: TaskRun) -> None:
        seen.append((task.task_id, task.status, task.result, len(task.errors), task.finished_at is not None))

    good = task(lambda: 5, name="good", callback=told)
    bad = task(lambda: 1 / 0, name="bad", retry=2, callback=told)
    run_in([good, bad], on_failure=lambda tasks: None)
    assert sorted(seen) == [
        ("bad", TaskStatus.FAILED, None, 2, True),
        ("good", TaskStatus.COMPLETED, 5, 0, True),
    ]


def test_a_task_callback_comes_once_and_not_for_pending_or_skipped_tasks() -> None:
    seen: list[str] = []

    def told(task: TaskRun) -> None:
        seen.append(task.task_id)

    bad = task(lambda: 1 / 0, name="bad", retry=3, callback=told)
    needs = task(lambda x: x, name="needs", callback=told).bind(x=bad)
    Manager([bad, needs], keep_going=True, on_failure=lambda tasks: None)
    Manager([bad, task(lambda: 1, name="rest", callback=told)], on_failure=lambda tasks: None)
    assert seen == ["bad", "bad"]


def test_a_task_callback_comes_before_the_next_task_of_its_chain_begins() -> None:
    log: list[str] = []
    first = task(lambda: log.append("first"), name="first", callback=lambda task: log.append("callback"))
    Manager([first, task(lambda: log.append("second"), name="second")])
    assert log == ["first", "callback", "second"]


def test_a_task_callback_comes_not_for_a_restored_task(tmp_path: Path) -> None:
    seen: list[str] = []
    again = {"workflow_id": "w", "resume": True, "storage": tmp_path}
    first = task(lambda: 1, name="first", callback=lambda task: seen.append(task.task_id))
    Manager([first], **again)  # type: ignore[arg-type]
    assert Manager([first], **again).tasks[0].restored  # type: ignore[arg-type]
    assert seen == ["first"]


def test_on_success_comes_once_with_all_tasks_after_the_run_is_recorded(
    run_in: RunIn, tmp_path: Path
) -> None:
    seen: list[Any] = []
    storage = FileStorage(tmp_path / "store")

    def on_success(tasks: list[TaskRun]) -> None:
        row = storage.get("w/run")
        assert row is not None
        seen.append(([each.result for each in tasks], b'"status":"completed"' in row))

    def on_failure(tasks: list[TaskRun]) -> None:
        seen.append("failure")

    run_in(
        [task(lambda: 1, name="a"), task(lambda: 2, name="b")],
        on_success=on_success,
        on_failure=on_failure,
        workflow_id="w",
        storage=storage,
    )
    assert seen == [([1, 2], True)]


def test_on_failure_comes_once_with_all_tasks_after_the_run_is_recorded(
    run_in: RunIn, tmp_path: Path
) -> None:
    seen: list[Any] = []
    storage = FileStorage(tmp_path / "store")

    def on_failure(tasks: list[TaskRun]) -> None:
        row = storage.get("w/run")
        assert row is not None
        seen.append((sorted(each.status for each in tasks), b'"status":"failed"' in row))

    run_in(
        [task(lambda: 1 / 0, name="a"), task(lambda: 1 / 0, name="b"), task(lambda: 2, name="c")],
        on_success=lambda tasks: seen.append("success"),
        on_failure=on_failure,
        keep_going=True,
        workflow_id="w",
        storage=storage,
    )
    assert seen == [(["completed", "failed", "failed"], True)]


@pytest.mark.parametrize("error", [ValueError, SystemExit, AssertionError])
def test_a_raising_task_callback_is_logged_once_and_changes_nothing(
    run_in: RunIn, caplog: pytest.LogCaptureFixture, error: type[BaseException], tmp_path: Path
) -> None:
    calls = tmp_path / "calls"

    def told(task: TaskRun) -> None:
        raise error("from the callback")

    @task(callback=told, retry=3)
    def one() -> int:
        with calls.open("a") as file:
            file.write("x")
        return 1

    ended: list[Any] = []
    run = run_in(
        [one, task(lambda: 2, name="two")], on_success=ended.append and (lambda tasks: ended.append(1))
    )
    assert run.status is RunStatus.COMPLETED
    assert (run[one].status, run[one].result, run[one].errors) == (TaskStatus.COMPLETED, 1, ())
    assert run["two"].result == 2
    assert calls.read_text() == "x"
    assert ended == [1]
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.levelno == logging.ERROR
    assert "'one'" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is error
    assert "from the callback" in caplog.text


def test_a_raising_callback_of_a_failed_task_leaves_its_error() -> None:
    def told(task: TaskRun) -> None:
        raise ValueError("from the callback")

    run = Manager([task(lambda: 1 / 0, name="bad", callback=told)], on_failure=lambda tasks: None)
    assert [each.exception for each in run["bad"].errors] == ["ZeroDivisionError"]


@pytest.mark.parametrize("mode", ["sequential", "parallel", "background"])
@pytest.mark.parametrize(("body", "status"), [(lambda: 1, "completed"), (lambda: 1 / 0, "failed")])
def test_a_raising_workflow_callback_reaches_the_caller_and_leaves_the_state(
    mode: str, body: Callable[[], Any], status: str, tmp_path: Path
) -> None:
    def called(tasks: Any) -> None:
        raise LookupError("from the callback")

    storage = FileStorage(tmp_path / "store")
    with pytest.raises(LookupError, match="from the callback"):
        Manager([task(body, name="only")], called, called, mode, workflow_id="w", storage=storage).wait()
    row = storage.get("w/run")
    assert row is not None
    assert f'"status":"{status}"'.encode() in row


def test_no_body_runs_again_after_a_workflow_callback_raised(tmp_path: Path) -> None:
    calls: list[int] = []
    body = task(lambda: calls.append(1), name="only")

    def called(tasks: Any) -> None:
        raise LookupError

    again = {"workflow_id": "w", "resume": True, "storage": tmp_path}
    with pytest.raises(LookupError):
        Manager([body], called, **again)  # type: ignore[arg-type]
    Manager([body], **again)  # type: ignore[arg-type]
    assert calls == [1]


def test_callbacks_run_in_the_thread_of_the_run() -> None:
    threads: list[Any] = []

    def called(**given: Any) -> None:
        threads.append(threading.current_thread())

    run = Manager([task(lambda: 1, callback=called)], called, mode="background").wait()
    assert threads == [run.thread, run.thread]


def test_a_cancelled_run_calls_neither(until: Callable[..., None]) -> None:
    seen: list[str] = []
    gate = threading.Event()
    run = Manager(
        [task(lambda: gate.wait(30), name="held"), task(lambda: 1, name="rest")],
        lambda tasks: seen.append("success"),
        lambda tasks: seen.append("failure"),
        mode="background",
    )
    run.cancel()
    gate.set()
    run.wait()
    assert run.status is RunStatus.CANCELLED
    assert seen == []


def test_a_callback_may_look_at_the_whole_run() -> None:
    seen: list[Any] = []
    run = Manager(
        [task(lambda: 1, name="a")],
        lambda tasks: seen.append((tasks[0].result, tasks[0].previous_context.storage, tasks[0].to_dict())),
    )
    assert seen[0][0] == 1
    assert seen[0][2]["status"] == "completed"
    assert run.on_success is not None


def test_a_callback_may_start_another_run() -> None:
    inner: list[Any] = []
    Manager([task(lambda: 1)], lambda tasks: inner.append(Manager([task(lambda: 2, name="in")])["in"].result))
    assert inner == [2]
