"""`ctx.logger` says of each record which attempt it is from, in every mode; `ctx.use_logger` replaces it for a block."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

from dotflow_like import Manager, TaskContext, task
from dotflow_like.testing import run_inline

RunIn = Callable[..., Manager]
Hear = Callable[..., list[Any]]


@pytest.fixture(params=["", "isolated "])
def run_in(way: dict[str, Any], request: pytest.FixtureRequest) -> RunIn:
    """A function that runs tasks in each mode in turn, also each isolated, and returns the run when it has ended."""

    def run(tasks: list[Any], **options: Any) -> Manager:
        tasks = [each.with_options(isolate=bool(request.param)) for each in tasks]
        return Manager(tasks, **(way | {"workflow_id": "w"} | options)).wait().raise_for_failure()

    return run


@pytest.fixture
def hear() -> Iterator[Hear]:
    """A function that has the records kept that reach a logger, from a level."""
    changed: list[tuple[logging.Logger, int, logging.Handler]] = []

    def keep(name: str = "dotflow_like.task", level: int = logging.INFO) -> list[Any]:
        found: list[Any] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                found.append(record)

        log, handler = logging.getLogger(name), Keep()
        changed.append((log, log.level, handler))
        log.addHandler(handler)
        log.setLevel(level)
        return found

    yield keep
    for log, level, handler in reversed(changed):
        log.setLevel(level)
        log.removeHandler(handler)


def told(records: list[Any]) -> list[tuple[Any, ...]]:
    return [(each.workflow_id, each.task_id, each.attempt, each.getMessage()) for each in records]


def test_each_record_says_run_task_and_attempt(run_in: RunIn, hear: Hear) -> None:
    records = hear()

    @task(retry=2)
    def load(ctx: TaskContext) -> None:
        ctx.logger.info("%d rows", 3)
        if ctx.attempt.number == 1:
            raise ValueError("at first")

    run_in([load])
    assert told(records) == [("w", "load", 1, "3 rows"), ("w", "load", 2, "3 rows")]
    for record in records:
        assert (record.name, record.levelname) == ("dotflow_like.task", "INFO")
        assert (record.funcName, record.filename) == ("load", "test_task_logger.py")


def test_what_a_call_brings_itself_is_there_too(run_in: RunIn, hear: Hear) -> None:
    records = hear()

    @task
    def load(ctx: TaskContext) -> None:
        ctx.logger.info("loaded", extra={"file": "a.csv", "rows": 3, "worker": "mine"})
        try:
            raise LookupError("gone")
        except LookupError:
            ctx.logger.exception("failed")

    run_in([load])
    loaded, failed = records
    assert told(records) == [("w", "load", 1, "loaded"), ("w", "load", 1, "failed")]
    assert (loaded.file, loaded.rows, loaded.worker) == ("a.csv", 3, "mine")
    assert not hasattr(failed, "file")
    assert failed.levelname == "ERROR"
    text = failed.exc_text or logging.Formatter().formatException(failed.exc_info)
    assert text.endswith("LookupError: gone")


def test_of_a_map_each_item_has_its_own_tags(run_in: RunIn, hear: Hear) -> None:
    records = hear()
    log = task(lambda x, ctx: ctx.logger.info("item %d", x), name="log")
    run_in([log.map(x=range(8))])
    assert sorted(told(records)) == [("w", f"log[{x}]", 1, f"item {x}") for x in range(8)]


def test_async_bodies_that_run_together_keep_their_own_tags(run_in: RunIn, hear: Hear) -> None:
    records = hear()

    async def body(x: int, ctx: TaskContext) -> None:
        for i in range(5):
            ctx.logger.info("step %d of %d", i, x)
            await asyncio.sleep(0)

    run_in([task(body, name="t").map(x=range(4))])
    assert sorted(told(records)) == [
        ("w", f"t[{x}]", 1, f"step {i} of {x}") for x in range(4) for i in range(5)
    ]


def test_methods_of_a_class_log_as_their_task(run_in: RunIn, hear: Hear) -> None:
    records = hear()

    @task
    class Steps:
        def __init__(self, ctx: TaskContext) -> None:
            self.log = ctx.logger

        @task
        def one(self, ctx: TaskContext) -> None:
            ctx.logger.info("one")

        @task
        def two(self) -> None:
            self.log.info("two")

    run_in([Steps])
    assert told(records) == [("w", "Steps", 1, "one"), ("w", "Steps", 1, "two")]
    assert [each.funcName for each in records] == ["one", "two"]


def test_threads_of_a_body_have_its_tags(run_in: RunIn, hear: Hear) -> None:
    records = hear()

    @task
    def load(ctx: TaskContext) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda x: ctx.logger.info("part %d", x), range(4)))

    run_in([load])
    assert sorted(told(records)) == [("w", "load", 1, f"part {x}") for x in range(4)]


def test_a_level_that_is_off_at_home_logs_nothing_anywhere(run_in: RunIn, hear: Hear) -> None:
    records = hear("dotflow_like", logging.ERROR)

    @task
    def load(ctx: TaskContext) -> list[bool]:
        ctx.logger.warning("not heard")
        ctx.logger.error("heard")
        return [ctx.logger.isEnabledFor(each) for each in (logging.WARNING, logging.ERROR)]

    assert run_in([load])["load"].result == [False, True]
    assert told(records) == [("w", "load", 1, "heard")]


# Another logger for a block


def test_in_a_block_another_logger_has_the_same_tags(run_in: RunIn, hear: Hear) -> None:
    usual, app, inner = hear(), hear("app.outer"), hear("app.inner")

    @task
    def load(ctx: TaskContext) -> None:
        ctx.logger.info("before")
        with ctx.use_logger(logging.getLogger("app.outer")) as log:
            log.info("given")
            ctx.logger.info("asked for", extra={"file": "a.csv"})
            adapter = logging.LoggerAdapter(logging.getLogger("app.inner"), {"request": 7})
            with ctx.use_logger(adapter):
                ctx.logger.info("nested")
            ctx.logger.info("restored")
        ctx.logger.info("after")

    run_in([load])
    assert told(usual) == [("w", "load", 1, "before"), ("w", "load", 1, "after")]
    assert told(app) == [("w", "load", 1, word) for word in ("given", "asked for", "restored")]
    assert app[1].file == "a.csv"
    assert told(inner) == [("w", "load", 1, "nested")]
    assert inner[0].request == 7
    assert inner[0].funcName == "load"


def test_a_block_ends_with_an_error_too(run_in: RunIn, hear: Hear) -> None:
    usual, app = hear(), hear("app")

    @task
    def load(ctx: TaskContext) -> None:
        try:
            with ctx.use_logger(logging.getLogger("app")):
                raise LookupError
        except LookupError:
            ctx.logger.info("after")

    run_in([load])
    assert told(usual) == [("w", "load", 1, "after")]
    assert app == []


def test_async_tasks_of_a_body_do_not_see_each_others_blocks(run_in: RunIn, hear: Hear) -> None:
    usual, parts = hear(), [hear(f"app.part{i}") for i in range(3)]

    @task
    async def load(ctx: TaskContext) -> None:
        met = asyncio.Barrier(3)

        async def part(i: int) -> None:
            with ctx.use_logger(logging.getLogger(f"app.part{i}")):
                await met.wait()
                ctx.logger.info("part %d", i)
                await asyncio.to_thread(ctx.logger.info, "in a thread")
                await met.wait()
            ctx.logger.info("done")

        await asyncio.gather(*(part(i) for i in range(3)))

    run_in([load])
    for i, records in enumerate(parts):
        assert told(records) == [("w", "load", 1, f"part {i}"), ("w", "load", 1, "in a thread")]
    assert told(usual) == [("w", "load", 1, "done")] * 3


def test_a_thread_sees_the_block_in_a_copy_of_the_context_only(run_in: RunIn, hear: Hear) -> None:
    usual, app = hear(), hear("app")

    @task
    def load(ctx: TaskContext) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: None).result()  # where threads inherit a context, it is that of now
            with ctx.use_logger(logging.getLogger("app")):
                pool.submit(lambda: ctx.logger.info("plain")).result()
                pool.submit(copy_context().run, lambda: ctx.logger.info("copied")).result()

    run_in([load])
    assert told(usual) == [("w", "load", 1, "plain")]
    assert told(app) == [("w", "load", 1, "copied")]


def test_a_run_inside_a_block_has_loggers_of_its_own(hear: Hear) -> None:
    usual, app = hear(), hear("app")
    inner = task(lambda ctx: ctx.logger.info("inner"), name="inner")

    @task
    def outer(ctx: TaskContext) -> None:
        with ctx.use_logger(logging.getLogger("app")):
            Manager([inner], workflow_id="v").raise_for_failure()
            ctx.logger.info("outer")

    Manager([outer], workflow_id="w").raise_for_failure()
    assert told(usual) == [("v", "inner", 1, "inner")]
    assert told(app) == [("w", "outer", 1, "outer")]


def test_what_is_no_logger_fails_the_body(way: dict[str, Any]) -> None:
    def body(ctx: Any) -> None:
        with ctx.use_logger("app"):
            pass

    run = Manager([task(body, name="t")], on_failure=lambda tasks: None, **way).wait()
    (error,) = run["t"].errors
    assert error.exception == "TypeError"
    assert error.message.startswith("ctx.use_logger: what is of type str is no logger; give one of ")


def test_a_run_for_a_test_logs_too(way: dict[str, Any], hear: Hear) -> None:
    records = hear()

    @task(retry=2, retry_delay=3600)
    def load(ctx: TaskContext) -> None:
        ctx.logger.info("loading")
        if ctx.attempt.number == 1:
            raise ValueError

    run_inline([load], mode=way["mode"], workflow_id="w").raise_for_failure()
    assert told(records) == [("w", "load", 1, "loading"), ("w", "load", 2, "loading")]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_it_is_silent_until_somebody_listens(
    mode: str, script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = script(
        f"""
import logging
from dotflow_like import Manager, TaskContext, task

@task
def load(ctx: TaskContext) -> None:
    ctx.logger.error("lost")
    with ctx.use_logger(logging.getLogger("app")):
        ctx.logger.error("of an app")

if __name__ == "__main__":
    Manager([load], mode={mode!r}).raise_for_failure()
    logging.basicConfig(format="%(workflow_id)s %(task_id)s %(attempt)s %(message)s")
    Manager([load], mode={mode!r}, workflow_id="w").raise_for_failure()
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["of an app", "w load 1 lost", "w load 1 of an app"]
    assert done.stdout == ""
