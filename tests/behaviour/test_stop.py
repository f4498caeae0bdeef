"""cancel() and pause(): from any thread, in every mode."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    AttemptOutcome,
    AttemptStatus,
    Config,
    IllegalMove,
    Manager,
    Run,
    RunFailed,
    RunStatus,
    TaskCancelled,
    TaskRun,
    TaskStatus,
    Workflow,
    task,
)

WORDS = {"cancel": (RunStatus.CANCELLED, "cancelled"), "pause": (RunStatus.PAUSED, "paused")}


@pytest.fixture(params=WORDS)
def word(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def start(way: dict[str, Any]) -> Callable[..., Run]:
    """A function that starts tasks in each mode in turn, in a thread of its own."""

    def begin(tasks: list[Any], **options: Any) -> Run:
        return Workflow(tasks).start(**(way | options))

    return begin


def waits(folder: Path, *, heeds: bool) -> Any:
    """Return a task that tells when it has begun, and ends when it is asked to, or else very late."""

    def body(ctx: Any) -> str:
        (folder / "begun").touch()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if heeds and ctx.cancelled:
                return "heeded"
            if (folder / "over").exists():
                return "late"
            time.sleep(0.002)
        return "never asked"

    return task(body, name="waits")


def test_a_running_body_sees_it_and_nothing_new_starts(
    start: Callable[..., Run], word: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    first = waits(tmp_path, heeds=True)
    rest = task(lambda: 1, name="rest").after(first)
    run = start([first, rest])
    until((tmp_path / "begun").exists, "the body")
    assert getattr(run, word)() is True
    run.wait()
    assert (run.status, run.reason) == WORDS[word]
    assert (run[first].status, run[first].result) == (TaskStatus.COMPLETED, "heeded")
    assert run[rest].status is TaskStatus.PENDING
    assert run.cancel() is False
    with pytest.raises(IllegalMove):
        run.pause()
    assert run.status is WORDS[word][0]


def test_a_body_that_does_not_heed_is_given_up_after_the_grace(
    start: Callable[..., Run], word: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    first = waits(tmp_path, heeds=False)
    run = start([first, task(lambda: 1, name="rest").after(first)], config=Config(grace=0.01))
    until((tmp_path / "begun").exists, "the body")
    getattr(run, word)()
    run.wait()
    (tmp_path / "over").touch()
    assert run.status is WORDS[word][0]
    assert run[first].status == WORDS[word][1]
    assert run[first].result is None
    (attempt,) = run[first].attempts
    assert attempt.status is AttemptStatus.CANCELLED
    assert attempt.outcome == WORDS[word][1]
    assert attempt.error is not None
    assert isinstance(attempt.error.error, TaskCancelled)
    assert "'waits'" in attempt.error.message


def test_a_body_killed_after_the_grace_is_gone(tmp_path: Path, until: Callable[..., None]) -> None:
    import os

    @task
    def hang() -> None:
        (tmp_path / "new").write_text(str(os.getpid()))
        (tmp_path / "new").rename(tmp_path / "pid")
        time.sleep(600)

    run = Workflow([hang]).start(mode="parallel", max_workers=1, config=Config(grace=0))
    until((tmp_path / "pid").exists, "the body")
    run.cancel()
    run.wait()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_a_body_raises_when_it_is_asked_to_stop_is_no_failure(
    start: Callable[..., Run], word: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    @task(retry=5)
    def heeds(ctx: Any) -> None:
        (tmp_path / "begun").touch()
        deadline = time.monotonic() + 60
        while not ctx.cancelled and time.monotonic() < deadline:
            time.sleep(0.002)
        raise RuntimeError("asked to stop")

    called: list[Any] = []
    run = start([heeds], on_failure=called.append)
    until((tmp_path / "begun").exists, "the body")
    getattr(run, word)()
    run.wait()
    assert run[heeds].status == WORDS[word][1]
    assert [each.outcome for each in run.attempts] == [WORDS[word][1]]
    assert called == []


def test_a_retrys_delay_ends_at_once(word: str, way: dict[str, Any], until: Callable[..., None]) -> None:
    bad = task(lambda: 1 / 0, name="bad", retry=2, retry_delay=3600)
    run = Workflow([bad]).start(**way)
    until(lambda: run[bad].status is TaskStatus.RETRYING, "the delay")
    assert getattr(run, word)() is True
    run.wait(30)
    assert run.status is WORDS[word][0]
    assert run[bad].status == WORDS[word][1]
    first, second = run.attempts
    assert first.outcome is AttemptOutcome.RETRIED
    # paused, the next attempt stays as it was scheduled
    assert second.status == ("cancelled" if word == "cancel" else "scheduled")


def test_before_the_first_task_nothing_runs_at_all() -> None:
    gate = threading.Event()
    calls: list[int] = []

    class Hold:
        def start_workflow(self, workflow_id: str, **info: Any) -> None:
            gate.wait(30)

    run = Manager([task(lambda: calls.append(1))], mode="background", config=Config(tracer=Hold()))
    assert run.cancel() is True
    gate.set()
    run.wait()
    assert run.status is RunStatus.CANCELLED
    assert calls == []
    assert [each.status for each in run.tasks] == [TaskStatus.PENDING]


def test_from_another_thread_while_the_caller_blocks(word: str, until: Callable[..., None]) -> None:
    begun, gate = threading.Event(), threading.Event()
    runs: list[Any] = []

    class Catch(Manager):
        def __init__(self, *args: Any, **options: Any) -> None:
            runs.append(self)
            super().__init__(*args, **options)

    @task
    def held(ctx: Any) -> str:
        begun.set()
        gate.wait(30)
        return "stopped" if ctx.cancelled else "not asked"

    def ask() -> None:
        assert begun.wait(30)
        getattr(runs[0], word)()
        gate.set()

    asker = threading.Thread(target=ask)
    asker.start()
    run = Catch([held, task(lambda: 1, name="rest")])
    asker.join()
    assert run.status is WORDS[word][0]
    assert run[held].result == "stopped"
    assert run["rest"].status is TaskStatus.PENDING


def test_from_a_callback_of_a_task(word: str) -> None:
    runs: list[Any] = []
    ready = threading.Event()

    def told(task: TaskRun) -> None:
        assert ready.wait(30)
        getattr(runs[0], word)()

    tasks = [task(lambda: 1, name=f"t{i}") for i in range(3)]
    runs.append(Manager([tasks[0].with_options(callback=told), *tasks[1:]], mode="background"))
    ready.set()
    run = runs[0].wait()
    assert run.status is WORDS[word][0]
    assert run["t0"].status is TaskStatus.COMPLETED
    assert run["t2"].status is TaskStatus.PENDING


def test_cancelling_counts_more_than_pausing() -> None:
    gate = threading.Event()
    run = Manager([task(lambda: gate.wait(30)), task(lambda: 1)], mode="background")
    assert run.pause() is True
    assert run.cancel() is True
    assert run.pause() is True
    gate.set()
    assert run.wait().status is RunStatus.CANCELLED


def test_a_run_that_has_ended_cannot_be_stopped() -> None:
    run = Manager([task(lambda: 1)])
    assert run.cancel() is False
    with pytest.raises(IllegalMove):
        run.pause()
    assert (run.status, run.reason) == (RunStatus.COMPLETED, None)


def test_a_pause_that_comes_when_all_is_done_leaves_a_completed_run(tmp_path: Path) -> None:
    begun, gate = threading.Event(), threading.Event()

    def body() -> None:
        begun.set()
        gate.wait(30)

    run = Manager([task(body)], mode="background")
    assert begun.wait(30)
    run.pause()
    gate.set()
    assert run.wait().status is RunStatus.COMPLETED


def test_raising_for_a_cancelled_run_gives_one_failure_that_says_so() -> None:
    gate = threading.Event()
    run = Manager([task(lambda: gate.wait(30)), task(lambda: 1)], mode="background")
    run.cancel()
    gate.set()
    with pytest.raises(RunFailed, match="cancelled") as raised:
        run.wait().raise_for_failure()
    assert len(raised.value.exceptions) == 1


def test_items_of_a_map_that_have_not_begun_stay_pending(tmp_path: Path, until: Callable[..., None]) -> None:
    def body(x: int, ctx: Any) -> int:
        (tmp_path / "begun").touch()
        deadline = time.monotonic() + 60
        while not ctx.cancelled and time.monotonic() < deadline:
            time.sleep(0.002)
        return x

    run = Workflow([task(body, name="m").map(x=[1, 2, 3])]).start()
    until((tmp_path / "begun").exists, "the first item")
    run.cancel()
    run.wait()
    items = run["m"].items
    assert items is not None
    assert [each.status for each in items] == ["completed", "pending", "pending"]
    assert run["m"].status is not TaskStatus.COMPLETED
    assert run["m"].result is None


def test_ctx_cancelled_is_false_while_nobody_asked(way: dict[str, Any]) -> None:
    @task
    def look(ctx: Any) -> bool:
        return bool(ctx.cancelled)

    assert Manager([look], **way).wait()[look].result is False


def test_a_run_that_was_stopped_starts_again_elsewhere_where_it_ended(
    word: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    gate = threading.Event()
    calls: list[str] = []

    def held() -> str:
        calls.append("held")
        gate.wait(30)
        return "held"

    tasks = [task(held, name="held"), task(lambda: calls.append("rest"), name="rest")]
    workflow = Workflow(tasks)
    run = workflow.start(workflow_id="w", storage=tmp_path)
    until(lambda: calls, "the body")
    getattr(run, word)()
    gate.set()
    run.wait()
    again = workflow.run(workflow_id="w", storage=tmp_path, resume=True)
    assert again.status is RunStatus.COMPLETED
    assert calls == ["held", "rest"]
    assert again["held"].restored
