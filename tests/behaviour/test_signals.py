"""Signals: what a body says shall happen next holds, wherever in it that is said."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    Config,
    Manager,
    MemoryStorage,
    RunFailed,
    Task,
    TaskContext,
    TaskStatus,
    Workflow,
    task,
)
from dotflow_like.config import open_journal
from dotflow_like.model.signals import Signal
from dotflow_like.testing import FakeClock, run_inline

WORDS = ["skip", "retry", "pause", "cancel", "finish"]
STATUSES = {
    "skip": ("skipped", "completed"),
    "retry": ("completed", "completed"),
    "pause": ("paused", "paused"),
    "cancel": ("cancelled", "cancelled"),
    "finish": ("completed", "completed"),
}


@pytest.fixture(params=WORDS)
def word(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Said:
    """Sends a signal in the first attempt only, so that `retry` comes to an end."""

    def __init__(self, word: str) -> None:
        self.word = word

    def __call__(self, ctx: TaskContext) -> None:
        if ctx.attempt.number == 1:
            getattr(ctx, self.word)("why")


def check(run: Any, word: str) -> None:
    """Check that a run of one task ended as the signal says."""
    (only,) = run.tasks
    assert (only.status, run.status) == STATUSES[word], (only, run.reason)
    assert only.attempts[0].metadata["signal"] == word
    assert only.attempts[0].metadata["signal_reason"] == "why"
    assert len(only.attempts) == (2 if word == "retry" else 1)
    assert only.attempts[0].error is None
    assert only.errors == ()


# Ways a body may come to say it


def in_except_exception(say: Said, ctx: Any, log: Path) -> None:
    try:
        say(ctx)
    except Exception:
        log.write_text("swallowed")


def in_suppress(say: Said, ctx: Any, log: Path) -> None:
    with contextlib.suppress(Exception):
        say(ctx)
    if ctx.attempt.number == 1:
        log.write_text("after")


def in_nested_functions(say: Said, ctx: Any, log: Path) -> None:
    def outer() -> None:
        def inner() -> None:
            say(ctx)
            if ctx.attempt.number == 1:
                log.write_text("after")

        try:
            inner()
        except (ValueError, RuntimeError):
            log.write_text("swallowed")
        if ctx.attempt.number == 1:
            log.write_text("after")

    outer()


def in_a_generator(say: Said, ctx: Any, log: Path) -> None:
    def numbers() -> Iterator[int]:
        yield 1
        say(ctx)
        yield 2

    for number in numbers():
        if number == 2 and ctx.attempt.number == 1:
            log.write_text("after")


def in_a_comprehension(say: Said, ctx: Any, log: Path) -> None:
    [say(ctx) for _ in range(3)]  # type: ignore[func-returns-value]


def while_an_error_is_handled(say: Said, ctx: Any, log: Path) -> None:
    try:
        raise ValueError("first")
    except ValueError:
        say(ctx)


def swallowed_by_a_bare_except(say: Said, ctx: Any, log: Path) -> None:
    try:
        say(ctx)
    except:  # noqa: E722 - what is tested
        return


def swallowed_and_an_error_raised(say: Said, ctx: Any, log: Path) -> None:
    try:
        say(ctx)
    except BaseException:
        raise ValueError("instead") from None


def replaced_in_a_finally(say: Said, ctx: Any, log: Path) -> None:
    try:
        say(ctx)
    finally:
        if ctx.attempt.number == 1:
            raise KeyError("instead")


def replaced_by_a_return_in_a_finally(say: Said, ctx: Any, log: Path) -> str:
    try:
        say(ctx)
    finally:
        return "instead"  # noqa: B012 - what is tested


def replaced_by_an_exit(say: Said, ctx: Any, log: Path) -> None:
    try:
        say(ctx)
    except BaseException:
        raise SystemExit(3) from None


def in_a_thread_whose_result_is_asked_for(say: Said, ctx: Any, log: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(say, ctx).result()
        if ctx.attempt.number == 1:
            log.write_text("after")


def in_a_thread_nobody_looks_at(say: Said, ctx: Any, log: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(say, ctx)


def in_a_group_of_errors(say: Said, ctx: Any, log: Path) -> None:
    try:
        say(ctx)
    except BaseException as signal:
        raise BaseExceptionGroup(
            "several", [ValueError("x"), BaseExceptionGroup("nested", [signal])]
        ) from None


async def in_an_async_body(say: Said, ctx: Any, log: Path) -> None:
    await asyncio.sleep(0)
    try:
        say(ctx)
    except Exception:
        log.write_text("swallowed")


async def in_a_task_group(say: Said, ctx: Any, log: Path) -> None:
    async def sends() -> None:
        await asyncio.sleep(0)
        say(ctx)
        if ctx.attempt.number == 1:
            log.write_text("after")

    async def works() -> None:
        if ctx.attempt.number == 1:
            await asyncio.sleep(60)
            log.write_text("went on")

    async with asyncio.TaskGroup() as group:
        group.create_task(sends())
        group.create_task(works())
    if ctx.attempt.number == 1:
        log.write_text("after")


async def in_gather(say: Said, ctx: Any, log: Path) -> None:
    async def sends() -> None:
        await asyncio.sleep(0)
        say(ctx)

    await asyncio.gather(sends(), sends(), return_exceptions=False)
    if ctx.attempt.number == 1:
        log.write_text("after")


async def in_to_thread(say: Said, ctx: Any, log: Path) -> None:
    await asyncio.to_thread(say, ctx)
    if ctx.attempt.number == 1:
        log.write_text("after")


async def beside_one_that_fails(say: Said, ctx: Any, log: Path) -> None:
    async def fails() -> None:
        raise ValueError("beside")

    async def sends() -> None:
        say(ctx)

    async with asyncio.TaskGroup() as group:
        group.create_task(sends())
        if ctx.attempt.number == 1:
            group.create_task(fails())


async def swallowed_by_an_async_body(say: Said, ctx: Any, log: Path) -> None:
    with contextlib.suppress(BaseException):
        say(ctx)


BODIES: list[Callable[..., Any]] = [
    in_except_exception,
    in_suppress,
    in_nested_functions,
    in_a_generator,
    in_a_comprehension,
    while_an_error_is_handled,
    swallowed_by_a_bare_except,
    swallowed_and_an_error_raised,
    replaced_in_a_finally,
    replaced_by_a_return_in_a_finally,
    replaced_by_an_exit,
    in_a_thread_whose_result_is_asked_for,
    in_a_thread_nobody_looks_at,
    in_a_group_of_errors,
    in_an_async_body,
    in_a_task_group,
    in_gather,
    in_to_thread,
    beside_one_that_fails,
    swallowed_by_an_async_body,
]


def told_by(body: Callable[..., Any], word: str, log: Path) -> Task[..., Any]:
    return task(body, name="it").bind(say=Said(word), log=log)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_nothing_in_the_body_runs_after_a_signal_and_it_counts(
    body: Callable[..., Any], word: str, tmp_path: Path
) -> None:
    check(Manager([told_by(body, word, tmp_path / "log")]), word)
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_so_it_is_in_workers_and_threads(body: Callable[..., Any], executor: Any, tmp_path: Path) -> None:
    said = "pause" if executor == "process" else "skip"
    run = Manager([told_by(body, said, tmp_path / "log")], mode="parallel", executor=executor, max_workers=1)
    check(run, said)
    assert not (tmp_path / "log").exists()


def test_finally_and_exit_run(run_in: Callable[..., Manager], word: str, tmp_path: Path) -> None:
    said, log = Said(word), tmp_path / "log"

    def note(line: str) -> None:
        with log.open("a") as file:
            file.write(f"{line} ")

    @contextlib.contextmanager
    def managed() -> Iterator[None]:
        try:
            yield
        finally:
            note("exit")

    @task
    def body(ctx: TaskContext) -> None:
        if ctx.attempt.number > 1:
            return
        try:
            with managed():
                said(ctx)
                note("after")
        except Exception:
            note("swallowed")
        finally:
            note("finally")

    check(run_in([body]), word)
    assert log.read_text().split() == ["exit", "finally"]


def test_a_class_task_ends_with_the_method_that_said_so(word: str, tmp_path: Path) -> None:
    said, log = Said(word), tmp_path / "log"

    @task
    class Steps:
        @task
        def first(self, ctx: TaskContext) -> None:
            said(ctx)

        @task
        def second(self, ctx: TaskContext) -> None:
            if ctx.attempt.number == 1:
                log.write_text("after")

    check(Manager([Steps]), word)
    assert not log.exists()


def test_a_signal_is_no_exception_and_knows_its_reason(word: str) -> None:
    caught: list[Any] = []

    @task
    def body(ctx: TaskContext) -> None:
        try:
            Said(word)(ctx)
        except BaseException as error:
            caught.append(error)
            raise

    Manager([body])
    (signal,) = caught
    assert isinstance(signal, Signal)
    assert not isinstance(signal, Exception)
    assert (signal.word, signal.reason) == (word, "why")


def test_the_first_signal_counts() -> None:
    @task
    def body(ctx: TaskContext) -> None:
        try:
            ctx.skip("first")
        except BaseException:
            ctx.cancel("second")

    run = Manager([body])
    assert (run.status, run[body].status, run[body].reason) == ("completed", "skipped", "first")


def test_without_a_reason_none_is_recorded(word: str) -> None:
    @task
    def body(ctx: TaskContext) -> None:
        if ctx.attempt.number == 1:
            getattr(ctx, word)()

    run = Manager([body])
    assert (run[body].status, run.status) == STATUSES[word]
    first = run[body].attempts[0]
    assert first.metadata["signal"] == word
    assert "signal_reason" not in first.metadata


def test_reasons_are_read_from_task_run_and_row(run_in: Callable[..., Manager], word: str) -> None:
    storage = MemoryStorage()
    said = Said(word)
    run = run_in([task(said.__call__, name="it")], storage=storage, workflow_id="w")
    assert run["it"].attempts[0].metadata["signal_reason"] == "why"
    if word in ("skip", "pause", "cancel"):
        assert run["it"].reason == "why"
    if word in ("pause", "cancel"):
        assert run.reason is not None
        assert "'it'" in run.reason
        assert "why" in run.reason


def test_what_a_body_noted_is_kept_beside_its_signal(run_in: Callable[..., Manager], word: str) -> None:
    @task
    def body(ctx: TaskContext) -> None:
        ctx.attempt.metadata["noted"] = 1
        Said(word)(ctx)

    first = run_in([body])[body].attempts[0]
    assert first.metadata["noted"] == 1
    assert first.metadata["signal"] == word


@pytest.mark.parametrize("reason", [1, b"bytes", ValueError("x")])
def test_a_reason_is_a_text(word: str, reason: Any) -> None:
    @task
    def body(ctx: TaskContext) -> None:
        getattr(ctx, word)(reason)

    run = Manager([body], on_failure=lambda tasks: None)
    assert run.status == "failed"
    assert run[body].errors[0].exception == "TypeError"


# skip


def test_skip_on_the_last_task_completes_the_run(run_in: Callable[..., Manager]) -> None:
    called: list[str] = []
    first = task(lambda: 1, name="first")
    run = run_in(
        [first, task(lambda ctx: ctx.skip(), name="last").after(first)],
        on_success=lambda tasks: called.append("success"),
        on_failure=lambda tasks: called.append("failure"),
    )
    assert run.status == "completed"
    assert run["last"].status == "skipped"
    assert called == ["success"]
    assert "last" not in run.results
    assert run.raise_for_failure() is run


def test_what_needs_a_skipped_result_is_skipped_and_what_comes_after_runs(
    run_in: Callable[..., Manager],
) -> None:
    it = task(lambda ctx: ctx.skip("nothing new"), name="it")
    needs = task(lambda x: x, name="needs").bind(x=it)
    needs_that = task(lambda x: x, name="needs that").bind(x=needs)

    def see(previous_context: Any) -> Any:
        return previous_context.value

    after = task(see, name="after").after(it, needs_that)
    run = run_in([it, needs, needs_that, after])
    assert [each.status for each in run.tasks] == ["skipped", "skipped", "skipped", "completed"]
    assert run.status == "completed"
    assert run["needs"].attempts == run["needs that"].attempts == ()
    assert run["needs"].reason == "it needs the result of 'it', which is skipped"
    assert run["after"].result is None


def test_an_item_that_skips_leaves_none_in_its_place(run_in: Callable[..., Manager]) -> None:
    def body(x: int, ctx: TaskContext) -> int:
        if x == 2:
            ctx.skip("even")
        return x * 10

    many = task(body, name="many").map(x=[1, 2, 3])
    run = run_in([many, task(lambda all: all, name="all").bind(all=many)])
    assert run.status == "completed"
    assert run[many].result == run["all"].result == [10, None, 30]
    assert run[many].status == "completed"
    assert [each.status for each in run[many].items or ()] == ["completed", "skipped", "completed"]


def test_a_map_of_items_that_all_skip_completes() -> None:
    many = task(lambda x, ctx: ctx.skip(), name="many").map(x=[1, 2])
    run = Manager([many])
    assert (run.status, run[many].status, run[many].result) == ("completed", "completed", [None, None])


# retry


@pytest.mark.parametrize("after", [0, 60, 0.5, timedelta(minutes=2)])
def test_retry_runs_it_again_after_that_time(after: Any) -> None:
    seconds = after.total_seconds() if isinstance(after, timedelta) else after
    with FakeClock() as clock:
        run = Manager(
            [task(lambda ctx: ctx.retry(after=after) if ctx.attempt.number < 4 else "done", name="it")]
        )
        assert clock.elapsed == 3 * seconds
    assert run["it"].result == "done"
    assert [each.outcome for each in run["it"].attempts] == ["retried"] * 3 + ["success"]
    assert [each.status for each in run["it"].attempts] == ["completed"] * 4


def test_explicit_retries_do_not_use_up_the_tries_of_errors() -> None:
    def body(ctx: TaskContext) -> str:
        number = ctx.attempt.number
        if number <= 5:
            ctx.retry()
        if number == 6:
            raise ValueError("one of two")
        return "done"

    run = run_inline([task(body, name="it", retry=2)])
    assert run.status == "completed"
    assert [each.outcome for each in run.attempts] == ["retried"] * 6 + ["success"]


def test_errors_before_an_explicit_retry_are_forgotten() -> None:
    def body(ctx: TaskContext) -> str:
        number = ctx.attempt.number
        if number in (1, 3, 5):
            raise ValueError(f"error {number}")
        if number in (2, 4):
            ctx.retry("that much is done")
        return "done"

    run = run_inline([task(body, name="it", retry=2)])
    assert run.status == "completed", run.reason
    assert len(run.attempts) == 6


def test_a_task_that_retries_waits_in_no_worker(tmp_path: Path) -> None:
    def body(ctx: TaskContext) -> bool:
        if ctx.attempt.number == 1:
            ctx.retry(after=0.05)
        return (tmp_path / "other").exists()

    tasks = [task(body, name="it"), task((tmp_path / "other").touch, name="other")]
    assert Manager(tasks, mode="parallel", max_workers=1).raise_for_failure()["it"].result is True


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), "1", True, None])
def test_a_time_that_cannot_be_fails_the_task(after: Any) -> None:
    run = Manager([task(lambda ctx: ctx.retry(after=after), name="it")], on_failure=lambda tasks: None)
    assert run.status == "failed"
    assert len(run.attempts) == 1
    assert run["it"].errors[0].exception in ("TypeError", "ValueError")


@pytest.mark.parametrize("after", [1e10, 1e12, 1e300])
def test_a_retry_after_longer_than_the_calendar_goes_breaks_no_run(after: float) -> None:
    storage = MemoryStorage()
    with FakeClock():
        run = Manager(
            [task(lambda ctx: ctx.retry(after=after) if ctx.attempt.number == 1 else "done", name="it")],
            storage=storage,
            workflow_id="w",
            on_failure=lambda tasks: None,
        )
    assert run.status in ("completed", "failed")
    assert [each.status for each in run.attempts] in (["completed", "completed"], ["failed"])
    recorded = open_journal(Config(storage=storage), Workflow([])).attempts("w")
    assert recorded == run.attempts


# finish


def test_finish_completes_the_run_and_later_tasks_are_skipped(run_in: Callable[..., Manager]) -> None:
    it = task(lambda ctx: ctx.finish("enough"), name="it")
    needs = task(lambda x: x, name="needs").bind(x=it)
    after = task(lambda: 1, name="after").after(it)
    many = task(lambda x: x, name="many").map(x=[1, 2]).after(it)
    called: list[str] = []
    run = run_in(
        [it, needs, after, many],
        on_success=lambda tasks: called.append("success"),
        on_failure=lambda tasks: called.append("failure"),
    )
    assert run.status == "completed"
    assert called == ["success"]
    assert (run[it].status, run[it].result) == (TaskStatus.COMPLETED, None)
    for each in (needs, after, many):
        assert (run[each].status, run[each].reason, run[each].attempts) == ("skipped", "finished", ())
    assert len(run.attempts) == 1


@pytest.mark.parametrize("place", ["memory", "files", "sqlite"])
def test_a_finished_run_stays_so_on_resume_and_runs_no_new_task(place: str, tmp_path: Path) -> None:
    calls: list[str] = []
    storage: Any = {
        "memory": MemoryStorage(),
        "files": tmp_path / "files",
        "sqlite": f"sqlite:///{tmp_path}/runs.db",
    }[place]

    def finish(ctx: TaskContext) -> None:
        calls.append("it")
        ctx.finish()

    tasks = [task(finish, name="it"), task(lambda: calls.append("later"), name="later")]
    Manager(tasks, storage=storage, workflow_id="w")
    for _ in range(2):
        new = task(lambda: calls.append("new"), name="new")
        run = Manager([*tasks, new], storage=storage, workflow_id="w", resume=True)
        assert run.status == "completed"
        assert [each.status for each in run.tasks] == ["completed", "skipped", "skipped"]
        assert [each.reason for each in run.tasks[1:]] == ["finished", "finished"]
        assert len(run.attempts) == 1
    assert calls == ["it"]


def test_bodies_that_run_beside_it_come_to_their_end(tmp_path: Path, until: Callable[..., None]) -> None:
    begun, gate = threading.Event(), threading.Event()

    @task
    def beside() -> str:
        begun.set()
        assert gate.wait(30)
        return "kept"

    @task
    def it(ctx: TaskContext) -> None:
        assert begun.wait(30)
        ctx.finish()

    late = task(lambda: 1, name="late").after(beside)
    run = Workflow([beside, it, late]).start(mode="parallel", executor="thread", max_workers=2)
    until(lambda: run[it].status == "completed", "the finish")
    gate.set()
    run.wait()
    assert run.status == "completed"
    assert (run[beside].status, run[beside].result) == ("completed", "kept")
    assert (run[late].status, run[late].reason) == ("skipped", "finished")


@pytest.mark.parametrize("said", ["fail", "pause"])
def test_what_failed_or_was_paused_beside_it_is_tried_again_on_resume(said: str) -> None:
    storage, finished = MemoryStorage(), threading.Event()

    def stops(ctx: TaskContext) -> str:
        assert finished.wait(30)
        if ctx.attempt.number == 1:
            if said == "pause":
                ctx.pause()
            raise ValueError("why")
        return "done"

    it = task(lambda ctx: ctx.finish(), name="it", callback=lambda task: finished.set())
    workflow = Workflow([task(stops, name="beside"), it, task(lambda: 1, name="later").after(it)])
    options: Any = {"mode": "parallel", "executor": "thread", "storage": storage, "workflow_id": "w"}
    run = workflow.run(**options, on_failure=lambda tasks: None)
    ended = {"fail": "failed", "pause": "paused"}[said]
    assert (run.status, [each.status for each in run.tasks]) == (ended, [ended, "completed", "skipped"])
    again = workflow.run(**options, resume=True)
    assert again.status == "completed"
    assert [each.status for each in again.tasks] == ["completed", "completed", "skipped"]
    assert [each.outcome for each in again["beside"].attempts] == [ended, "success"]
    assert again["later"].attempts == ()


@pytest.mark.parametrize("after", [0, 2])
def test_a_retry_beside_it_is_not_granted_any_more(after: float, until: Callable[..., None]) -> None:
    begun, gate = threading.Event(), threading.Event()

    @task
    def beside(ctx: TaskContext) -> str:
        begun.set()
        assert gate.wait(30)
        if ctx.attempt.number == 1:
            ctx.retry(after=after)
        return "again"

    @task
    def it(ctx: TaskContext) -> None:
        assert begun.wait(30)
        ctx.finish()

    run = Workflow([beside, it]).start(mode="parallel", executor="thread", max_workers=2)
    until(lambda: run[it].status == "completed", "the finish")
    gate.set()
    run.wait(30)
    assert run.status == "completed"
    assert (run[beside].status, run[beside].reason) == ("skipped", "finished")
    assert len([each for each in run[beside].attempts if each.started_at]) == 1


def test_maps_that_were_complete_when_a_task_finished_the_run_are_restored() -> None:
    numbers = task(lambda: [1, 2, 3], name="numbers")
    constants = task(lambda x: x, name="constants").map(x=[4, 5])
    results = task(lambda x, ctx: ctx.skip() if x == 2 else x, name="results").map(x=numbers)
    finishes = task(lambda ctx: ctx.finish("enough"), name="finishes")
    later = task(lambda x: x, name="later").map(x=[6])
    workflow, storage = Workflow([numbers, constants, results, finishes, later]), MemoryStorage()
    first = workflow.run(storage=storage, idempotency_key="k")
    seen = [(each.status, each.reason, each.result) for each in first.tasks]
    assert [status for status, _, _ in seen] == [*["completed"] * 4, "skipped"]
    assert first[results].result == [1, None, 3]
    again = workflow.run(storage=storage, workflow_id=first.workflow_id, resume=True)
    view = workflow.run(storage=storage, idempotency_key="k")
    assert again.status == view.status == "completed"
    for run in (again, view):
        assert [(each.status, each.reason, each.result) for each in run.tasks] == seen
        assert run.attempts == first.attempts


@pytest.mark.parametrize("mapped", [False, True], ids=["task", "map"])
def test_what_is_reset_in_a_finished_run_is_computed_anew_and_nothing_else(mapped: bool) -> None:
    ran: list[str] = []

    def run_with(factor: int, **options: Any) -> Manager:
        def body(x: int, factor: int) -> int:
            ran.append("computes")
            return x * factor

        computes = task(body, name="computes", version="1").bind(factor=factor)
        computes = computes.map(x=[1, 2]) if mapped else computes.bind(x=1)
        before = task(lambda: None, name="before", version="1")  # meanwhile the items have their turn
        finishes = task(lambda ctx: ctx.finish(), name="finishes", version="1").after(before)
        later = task(lambda: ran.append("later"), name="later").after(finishes)
        return Manager(
            [computes, before, finishes, later],
            mode="parallel",
            executor="inline",
            storage=storage,
            workflow_id="w",
            **options,
        )

    storage = MemoryStorage()
    run_with(1)
    ran.clear()
    run = run_with(3, resume=True, on_input_change="reset")
    assert run.status == "completed"
    assert [each.status for each in run.tasks] == [*["completed"] * 3, "skipped"]
    assert run["computes"].result == ([3, 6] if mapped else 3)
    assert ran == (["computes"] * 2 if mapped else ["computes"])


def test_an_item_that_finishes_ends_the_whole_run() -> None:
    def body(x: int, ctx: TaskContext) -> int:
        if x == 2:
            ctx.finish()
        return x

    many = task(body, name="many").map(x=[1, 2, 3, 4])
    run = Manager([many, task(lambda: 1, name="later")])
    assert run.status == "completed"
    assert len(run.attempts) == 2
    assert run["later"].status == "skipped"
    assert all(each.status not in ("running", "pending") for each in run.tasks)
    assert [each.status for each in run[many].items or ()] == ["completed", "completed", "skipped", "skipped"]


def test_a_task_that_waits_for_a_retry_is_skipped_by_a_finish() -> None:
    def waits(ctx: TaskContext) -> None:
        ctx.retry(after=3600)

    tasks = [task(waits, name="waits"), task(lambda ctx: ctx.finish(), name="it")]
    with FakeClock() as clock:
        run = Manager(tasks, mode="parallel", executor="inline")
        assert clock.elapsed == 0
    assert run.status == "completed"
    assert run["waits"].status == "skipped"
    assert run["waits"].attempts[-1].status not in ("scheduled", "running")


# pause and cancel


@pytest.mark.parametrize("said", ["pause", "cancel"])
def test_nothing_new_starts_and_what_runs_beside_is_kept(said: str, until: Callable[..., None]) -> None:
    begun, gate = threading.Event(), threading.Event()

    @task
    def beside() -> str:
        begun.set()
        assert gate.wait(30)
        return "kept"

    @task
    def it(ctx: TaskContext) -> None:
        assert begun.wait(30)
        getattr(ctx, said)("why")

    later = task(lambda: 1, name="later").after(beside)
    run = Workflow([beside, it, later]).start(mode="parallel", executor="thread", max_workers=2)
    until(lambda: run[it].status == STATUSES[said][0], "the signal")
    gate.set()
    run.wait()
    assert run.status == STATUSES[said][1]
    assert run[beside].result == "kept"
    assert run[later].status == "pending"
    assert run[later].attempts == ()


def test_a_cancelled_or_paused_run_raises_for_failure_and_calls_nothing(
    run_in: Callable[..., Manager],
) -> None:
    for said in ("pause", "cancel"):
        called: list[str] = []
        run = run_in(
            [task(Said(said).__call__, name="it")],
            on_success=lambda tasks: called.append("success"),  # noqa: B023 - called before the next turn
            on_failure=lambda tasks: called.append("failure"),  # noqa: B023
        )
        assert called == []
        with pytest.raises(RunFailed, match=STATUSES[said][1]):
            run.raise_for_failure()


def test_an_item_that_pauses_pauses_the_run_and_is_run_again_alone() -> None:
    storage, calls = MemoryStorage(), []

    def body(x: int, ctx: TaskContext) -> int:
        calls.append(x)
        if x == 2 and ctx.attempt.number == 1:
            ctx.pause("the second")
        return x

    many = task(body, name="many").map(x=[1, 2, 3])
    run = Manager([many], storage=storage, workflow_id="w")
    assert (run.status, run[many].status) == ("paused", "paused")
    assert run.reason is not None
    assert "the second" in run.reason
    again = Manager([many], storage=storage, workflow_id="w", resume=True)
    assert again[many].result == [1, 2, 3]
    assert calls == [1, 2, 2, 3]


@pytest.mark.parametrize(
    ("asked", "says", "status", "ended"),
    [
        ("cancel", "skip", "skipped", "cancelled"),
        ("cancel", "pause", "cancelled", "cancelled"),
        ("cancel", "cancel", "cancelled", "cancelled"),
        ("cancel", "finish", "completed", "cancelled"),
        ("pause", "skip", "skipped", "paused"),
        ("pause", "pause", "paused", "paused"),
        ("pause", "cancel", "cancelled", "cancelled"),
        ("pause", "finish", "completed", "completed"),
    ],
)
def test_what_a_body_says_when_its_run_is_to_end(asked: str, says: str, status: str, ended: str) -> None:
    storage, begun, gate = MemoryStorage(), threading.Event(), threading.Event()

    @task
    def it(ctx: TaskContext) -> None:
        begun.set()
        assert gate.wait(30)
        getattr(ctx, says)("why")

    later = task(lambda: 1, name="later")
    run = Workflow([it, later]).start(storage=storage, workflow_id="w")
    assert begun.wait(30)
    assert getattr(run, asked)() is True
    gate.set()
    run.wait(30)
    assert (run[it].status, run.status) == (status, ended)
    assert run[later].status == ("skipped" if says == "finish" else "pending")
    (attempt,) = open_journal(Config(storage=storage), Workflow([])).attempts("w")
    assert attempt.metadata["signal"] == says


# After the body, and beside it


def test_a_signal_that_comes_when_its_body_has_ended_changes_nothing(until: Callable[..., None]) -> None:
    ended, tried = threading.Event(), threading.Event()
    contexts: list[TaskContext] = []
    raised: list[BaseException] = []

    def late() -> None:
        try:
            assert ended.wait(30)
            contexts[0].cancel("too late")
        except BaseException as error:
            raised.append(error)
        tried.set()

    thread = threading.Thread(target=late)

    @task
    def it(ctx: TaskContext) -> str:
        contexts.append(ctx)
        thread.start()
        return "done"

    @task
    def waits() -> None:
        ended.set()
        assert tried.wait(30)

    run = Manager([it, waits])
    thread.join()
    assert run.status == "completed"
    assert run[it].result == "done"
    assert raised


def test_the_callback_of_the_task_is_called_once_with_its_status(
    run_in: Callable[..., Manager], word: str
) -> None:
    seen: list[str] = []
    run_in([task(Said(word).__call__, name="it", callback=lambda task: seen.append(task.status))])
    assert seen == [STATUSES[word][0]]


def test_observers_are_told_of_the_end(word: str) -> None:
    told: list[tuple[str, str]] = []

    class Trace:
        def start_task(self, task: Any) -> None:
            told.append(("start", task.task_id))

        def end_task(self, task: Any) -> None:
            told.append((str(task.status), task.task_id))

        def end_workflow(self, workflow_id: str, **info: Any) -> None:
            told.append(("run", str(info["status"])))

    Manager([task(Said(word).__call__, name="it")], config=Config(tracer=Trace()))
    assert told == [("start", "it"), (STATUSES[word][0], "it"), ("run", STATUSES[word][1])]
