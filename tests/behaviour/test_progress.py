"""What a body tells of its progress: seen at once, in every mode, and never part of the result."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, TaskContext, TaskStatus, TaskTimeout, Workflow, task

RunIn = Callable[..., Manager]
Until = Callable[..., None]


@contextmanager
def heard(hear: Callable[[Any], object]) -> Iterator[None]:
    """Give `hear` each record of the library's log, from DEBUG, as it is written."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            hear(record)

    log, handler = logging.getLogger("dotflow_like"), Handler()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextmanager
def progress_heard(hear: Callable[[Any], object]) -> Iterator[None]:
    """Give `hear` each record about progress."""
    with heard(lambda record: hear(record) if hasattr(record, "done") else None):
        yield


def test_the_last_word_of_a_body_is_kept_and_its_result_is_its_own(run_in: RunIn) -> None:
    @task
    def load(ctx: TaskContext) -> str:
        for i in range(1, 4):
            ctx.progress(i, 3, f"file {i}")
        return "loaded"

    run = run_in([load, task(lambda: 1, name="silent")]).raise_for_failure()
    assert run[load].progress == (3, 3, "file 3")
    assert run[load].result == "loaded"
    assert run["silent"].progress is None


def test_it_is_told_while_the_body_runs(run_in: RunIn, tmp_path: Path, until: Until) -> None:
    told = tmp_path / "told"

    @task
    def load(ctx: TaskContext) -> None:
        ctx.progress(0.5, message="half")
        until(told.exists, "the word that it was told")

    def hear(record: Any) -> None:
        assert (record.task_id, record.attempt) == ("load", 1)
        assert (record.done, record.total, record.progress_message) == (0.5, None, "half")
        told.touch()

    with progress_heard(hear):
        run_in([load]).raise_for_failure()


def test_it_is_told_between_the_start_and_the_end_of_its_task(run_in: RunIn) -> None:
    @task
    def load(ctx: TaskContext) -> None:
        ctx.progress(1, 2)

    texts: list[str] = []
    with heard(lambda record: texts.append(record.getMessage())):
        run_in([load]).raise_for_failure()
    assert texts[1:4] == ["task load started", "task load: 1 of 2 done", "task load completed"]


def test_what_an_earlier_attempt_told_is_gone(run_in: RunIn) -> None:
    @task(retry=2)
    def load(ctx: TaskContext) -> None:
        if ctx.attempt.number == 1:
            ctx.progress(9, 10)
            raise ValueError("at the end")

    run = run_in([load]).raise_for_failure()
    assert (run[load].retry_count, run[load].progress) == (1, None)


def test_a_failed_task_keeps_how_far_it_came(run_in: RunIn) -> None:
    @task
    def load(ctx: TaskContext) -> None:
        ctx.progress(9, 10)
        raise ValueError("at the end")

    run = run_in([load], on_failure=lambda tasks: None)
    assert run[load].progress == (9, 10, None)


def test_of_a_map_each_item_has_its_own(run_in: RunIn) -> None:
    @task
    def load(n: int, ctx: TaskContext) -> int:
        ctx.progress(n, 10)
        return n

    run = run_in([load.map(n=range(5))]).raise_for_failure()
    (mapped,) = run.tasks
    assert mapped.items is not None
    assert [item.progress for item in mapped.items] == [(n, 10, None) for n in range(5)]
    assert mapped.progress is None


def test_async_and_class_tasks_tell_theirs(run_in: RunIn) -> None:
    @task(name="fetch")
    async def fetch(ctx: TaskContext) -> None:
        ctx.progress(1, message="fetched")

    @task(name="steps")
    class Steps:
        @task
        def one(self, ctx: TaskContext) -> None:
            ctx.progress(1, 2)

        @task
        def two(self, ctx: TaskContext) -> None:
            ctx.progress(2, 2)

    run = run_in([fetch, Steps]).raise_for_failure()
    assert run["fetch"].progress == (1, None, "fetched")
    assert run["steps"].progress == (2, 2, None)


def test_a_wrong_value_fails_the_task_with_a_text_that_says_what(run_in: RunIn) -> None:
    bad = {
        "text": lambda ctx: ctx.progress("1"),
        "negative": lambda ctx: ctx.progress(1, -2),
    }
    tasks = [task(body, name=name) for name, body in bad.items()]
    run = run_in(tasks, keep_going=True, on_failure=lambda tasks: None)
    assert [(each.errors[0].exception, each.errors[0].message) for each in run.tasks] == [
        ("TypeError", "ctx.progress: done is '1'; give a number"),
        ("ValueError", "ctx.progress: total is -2; give a number that is finite, and 0 or more"),
    ]


def test_a_body_that_does_nothing_but_tell_is_stopped_at_its_deadline(run_in: RunIn) -> None:
    @task(timeout=0.2)
    def chatters(ctx: TaskContext) -> None:
        while not ctx.cancelled:
            ctx.progress(1)

    with progress_heard(lambda record: None):
        run = run_in([chatters], on_failure=lambda tasks: None)
    assert run[chatters].status is TaskStatus.FAILED
    assert isinstance(run[chatters].errors[0].error, TaskTimeout)


def test_it_does_not_keep_others_from_starting_and_ending(until: Until) -> None:
    ended = threading.Event()

    @task
    def chatters(ctx: TaskContext) -> None:
        while not ended.is_set():
            ctx.progress(1)

    tasks: list[Any] = [chatters, *(task(lambda: 1, name=f"t{i}") for i in range(20))]
    tasks.append(task(ended.set, name="last"))
    with progress_heard(lambda record: None):
        run = Manager(tasks, mode="parallel", executor="thread", max_workers=2)
    assert run.raise_for_failure()[chatters].progress == (1, None, None)


def test_a_body_that_was_given_up_tells_nobody_and_is_not_disturbed() -> None:
    told, done = threading.Event(), threading.Event()
    problems: list[BaseException] = []

    @task(timeout=0.1)
    def late(ctx: TaskContext) -> None:
        ctx.progress(1, 2)
        assert told.wait(30)
        try:
            ctx.progress(2, 2)
        except BaseException as error:
            problems.append(error)
        done.set()

    with pytest.warns(match="a thread cannot be stopped"):
        run = Manager([late], on_failure=lambda tasks: None)
    told.set()
    assert done.wait(30)
    assert not problems
    assert run[late].progress == (1, 2, None)


def test_who_raises_when_told_changes_nothing(run_in: RunIn) -> None:
    @task
    def load(ctx: TaskContext) -> str:
        ctx.progress(1)
        return "loaded"

    def hear(record: Any) -> None:
        raise RuntimeError("not this one")

    with progress_heard(hear):
        run = run_in([load, task(lambda: 1, name="next")])
    assert run.raise_for_failure().results == {"load": "loaded", "next": 1}


def test_a_run_can_be_cancelled_by_who_is_told(run_in: RunIn, way: dict[str, Any], until: Until) -> None:
    runs: list[Any] = []

    @task
    def load(ctx: TaskContext) -> None:
        ctx.progress(1)
        until(lambda: ctx.cancelled, "the wish to stop")

    def hear(record: Any) -> None:
        until(lambda: runs, "the run")
        runs[0].cancel()

    with progress_heard(hear):
        run = Workflow([load, task(lambda: 1, name="next").after(load)]).start(**way)
        runs.append(run)
        run.wait()
    assert [str(each.status) for each in run.tasks] == ["completed", "pending"]
    assert run.status == "cancelled"
