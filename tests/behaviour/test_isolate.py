"""isolate=True: one task in a process of its own, in every mode; what happens to it happens to it alone."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dotflow_like import (
    Config,
    Context,
    DeclarationError,
    DotflowWarning,
    Manager,
    NotSerializable,
    RunStatus,
    TaskRun,
    TaskTimeout,
    WorkerDied,
    Workflow,
    task,
)

RunIn = Callable[..., Manager]
Until = Callable[..., None]
Way = dict[str, Any]
HoursPass = Callable[..., contextlib.AbstractContextManager[object]]
LONG = 600.0  # seconds: a body that would never end by itself


def quiet(tasks: Any) -> None:
    """Say nothing about a failure that is meant."""


def gone(pid: int) -> bool:
    """Whether a process runs no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def hangs(tmp_path: Path) -> Any:
    """An isolated task that writes its process into a file `begun`, and long afterwards another file `effect`."""

    def body() -> None:
        (tmp_path / "new").write_text(str(os.getpid()))
        (tmp_path / "new").rename(tmp_path / "begun")
        time.sleep(LONG)
        (tmp_path / "effect").touch()

    return task(body, name="hangs", isolate=True)


@contextlib.contextmanager
def no_warning() -> Iterator[None]:
    """Nothing in the block warns as this library does."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert not [each for each in caught if each.category is DotflowWarning]


def test_its_body_runs_in_another_process_and_those_of_others_do_not(run_in: RunIn, way: Way) -> None:
    away = task(os.getpid, name="away", isolate=True)
    here = task(os.getpid, name="here")
    run = run_in([here, away, here]).raise_for_failure()
    assert run["away"].result != os.getpid()
    if way != {"mode": "parallel", "max_workers": 2}:
        assert run["here"].result == run["here#2"].result == os.getpid()


def test_values_go_there_and_back(run_in: RunIn) -> None:
    make = task(lambda: {"a": [1, 2]}, name="make")
    change = task(lambda given: given["a"].append(3) or given, name="change", isolate=True).bind(given=make)
    read = task(lambda given: given["a"], name="read").bind(given=change)
    run = run_in([make, change, read]).raise_for_failure()
    assert run["read"].result == [1, 2, 3]
    assert run["make"].result == {"a": [1, 2]}


def test_contexts_go_there_and_back(run_in: RunIn) -> None:
    @task(initial_context=5, group_name="g")
    def first(initial_context: Context) -> int:
        return initial_context.storage

    @task(isolate=True, group_name="g")
    def second(previous_context: Context, x: str, ctx: Any) -> tuple[Any, ...]:
        return previous_context.storage + 1, previous_context.task_id, ctx.task_id, x

    @task(group_name="g")
    def third(previous_context: Context) -> Any:
        return previous_context.storage, previous_context.task_id

    run = run_in([first, second, third], params={"x": "param"}).raise_for_failure()
    assert run[third].result == ((6, "first", "second", "param"), "second")


def test_a_process_that_ends_under_it_fails_it_alone(run_in: RunIn) -> None:
    dies = task(lambda: os._exit(3), name="dies", isolate=True, retry=3)
    others = [task(lambda i=i: i, name=f"t{i}") for i in range(3)]
    run = run_in([others[0], dies, *others[1:]], keep_going=True, on_failure=quiet)
    (error,) = run["dies"].errors
    assert isinstance(error.error, WorkerDied)
    assert "exit code 3" in error.message
    assert {each.task_id: each.result for each in run.tasks if each is not run["dies"]} == {
        "t0": 0,
        "t1": 1,
        "t2": 2,
    }


def test_an_error_arrives_as_it_was(run_in: RunIn) -> None:
    @task(isolate=True)
    def fails() -> None:
        raise LookupError("not there")

    run = run_in([fails], on_failure=quiet)
    (error,) = run[fails].errors
    assert isinstance(error.error, LookupError)
    assert error.message == "not there"
    assert "in fails" in error.traceback


def test_at_its_deadline_it_is_stopped_for_good_and_tried_again(
    run_in: RunIn, tmp_path: Path, hangs: Any, hours_pass: HoursPass
) -> None:
    again = tmp_path / "again"

    @task(isolate=True, timeout=36_000, retry=2)
    def second_time(ctx: Any) -> str:
        if ctx.attempt.number == 1:
            hangs()
        again.touch()
        return "done"

    with no_warning(), hours_pass((tmp_path / "begun").exists, again.exists):
        run = run_in([second_time]).raise_for_failure()
    assert run[second_time].result == "done"
    assert [each.outcome for each in run.attempts] == ["timed_out", "success"]
    assert isinstance(run[second_time].errors[0].error, TaskTimeout)
    assert gone(int((tmp_path / "begun").read_text()))
    assert not (tmp_path / "effect").exists()


def test_when_the_runs_time_is_up_it_is_stopped_for_good(
    run_in: RunIn, tmp_path: Path, hangs: Any, hours_pass: HoursPass
) -> None:
    with no_warning(), hours_pass((tmp_path / "begun").exists, lambda: False):
        run = run_in([hangs], timeout=3600, on_failure=quiet)
    assert (run.status, run.reason) == (RunStatus.FAILED, "timeout")
    assert isinstance(run["hangs"].errors[0].error, TaskTimeout)
    assert gone(int((tmp_path / "begun").read_text()))
    assert not (tmp_path / "effect").exists()


def test_a_run_that_is_cancelled_ends_it_after_the_grace(
    way: Way, tmp_path: Path, hangs: Any, until: Until
) -> None:
    run = Workflow([hangs, task(lambda: 1, name="rest").after(hangs)]).start(**way, config=Config(grace=0))
    until((tmp_path / "begun").exists, "the body")
    run.cancel()
    run.wait()
    assert [str(each.status) for each in run.tasks] == ["cancelled", "pending"]
    assert gone(int((tmp_path / "begun").read_text()))


def test_it_sees_that_its_run_was_cancelled(way: Way, tmp_path: Path, until: Until) -> None:
    @task(isolate=True)
    def heeds(ctx: Any) -> str:
        (tmp_path / "begun").touch()
        until(lambda: ctx.cancelled, "the wish to stop")
        return "heeded"

    run = Workflow([heeds]).start(**way)
    until((tmp_path / "begun").exists, "the body")
    run.cancel()
    run.wait()
    assert (run.status, run["heeds"].result) == (RunStatus.CANCELLED, "heeded")


def test_ctrl_c_pauses_the_run_and_ends_it(run_in: RunIn, tmp_path: Path, hangs: Any, until: Until) -> None:
    def interrupt() -> None:
        until((tmp_path / "begun").exists, "the body")
        os.kill(os.getpid(), signal.SIGINT)

    told: list[TaskRun] = []
    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run_in([hangs.with_options(callback=lambda task: told.append(task))], config=Config(grace=0))
    thread.join()
    assert [str(each.status) for each in told] == ["paused"]
    assert gone(int((tmp_path / "begun").read_text()))
    assert not (tmp_path / "effect").exists()


def test_a_class_task_runs_there_and_changes_nothing_here(run_in: RunIn) -> None:
    class Counter:
        made: ClassVar[list[int]] = []

    @task(isolate=True)
    class Steps:
        def __init__(self) -> None:
            Counter.made.append(os.getpid())
            self.seen = [os.getpid()]

        @task
        def one(self) -> int:
            return len(Counter.made)

        @task
        def two(self, previous_context: Context) -> Any:
            return previous_context.storage, self.seen

    run = run_in([Steps]).raise_for_failure()
    one, two = run["Steps"].result
    assert one.storage == 1
    made, (pid,) = two.storage
    assert made == 1
    assert pid != os.getpid()
    assert Counter.made == []


def test_methods_of_a_class_are_not_isolated_one_by_one() -> None:
    with pytest.raises(
        DeclarationError, match=r"method 'one' of class 'Steps' has options of its own \(isolate\)"
    ):

        @task
        class Steps:
            @task(isolate=True)
            def one(self) -> None: ...


def test_an_async_task_runs_there(run_in: RunIn) -> None:
    @task(isolate=True)
    async def where() -> int:
        import asyncio

        await asyncio.sleep(0)
        return os.getpid()

    assert run_in([where]).raise_for_failure()[where].result != os.getpid()


def test_of_a_map_every_item_runs_there(run_in: RunIn) -> None:
    square = task(lambda x: (x * x, os.getpid()), name="square", isolate=True)
    run = run_in([square.map(x=range(6))]).raise_for_failure()
    results = run["square"].result
    assert [value for value, _ in results] == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {pid for _, pid in results}


def test_no_more_bodies_run_at_once_than_without(run_in: RunIn, way: Way, tmp_path: Path) -> None:
    limit = way.get("max_workers", 1)

    def body(name: str) -> int:
        (tmp_path / name).touch()
        time.sleep(0.01)
        running = len(list(tmp_path.iterdir()))
        (tmp_path / name).unlink()
        return running

    tasks = [task(body, name=f"t{i}", isolate=i % 2 == 0).bind(name=f"t{i}") for i in range(8)]
    run = run_in(tasks).raise_for_failure()
    assert max(run.results.values()) <= limit


def test_its_callback_and_its_retries_are_the_parents(run_in: RunIn) -> None:
    told: list[tuple[int, str]] = []

    @task(isolate=True, retry=3, callback=lambda task: told.append((os.getpid(), str(task.status))))
    def third_time(ctx: Any) -> int:
        if ctx.attempt.number < 3:
            raise ValueError("not yet")
        return ctx.attempt.number

    assert run_in([third_time]).raise_for_failure()[third_time].result == 3
    assert told == [(os.getpid(), "completed")]


def test_with_a_storage_its_result_is_restored(run_in: RunIn, tmp_path: Path) -> None:
    effects = tmp_path / "effects"

    @task(isolate=True)
    def once() -> str:
        with effects.open("a") as file:
            file.write("x")
        return "result"

    last = task(lambda given: given, name="last").bind(given=once)
    for _ in range(2):
        run = run_in([once, last], workflow_id="w", storage=tmp_path / "runs", resume=True)
        assert run.raise_for_failure().results == {"once": "result", "last": "result"}
    assert run["once"].restored
    assert effects.read_text() == "x"


def test_what_cannot_cross_fails_it_and_says_so(run_in: RunIn) -> None:
    take = task(lambda lock: None, name="take", isolate=True).bind(lock=threading.Lock())
    run = run_in([take], on_failure=quiet)
    (error,) = run["take"].errors
    assert isinstance(error.error, NotSerializable)
    assert "'take'" in error.message


def test_a_task_derived_from_an_isolated_one_is_isolated_until_it_is_told_otherwise() -> None:
    where = task(os.getpid, name="where", isolate=True)
    run = Manager([where.bind(), where.with_options(isolate=False, name="here")]).raise_for_failure()
    assert run["where"].result != os.getpid()
    assert run["here"].result == os.getpid()
