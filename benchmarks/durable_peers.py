"""The peers of `durable`: the same chain of no-op tasks, each recorded on disk when it is done, in their own ways.

As elsewhere, what they plan by and the files they begin with are made before the clock starts.
"""

from __future__ import annotations

import atexit
import functools
import logging
import sys
import time
from collections.abc import Generator
from typing import Any

from benchmarks.chain import hamilton_module
from benchmarks.graphs import chain_needs, kept_folder, named_functions, one, scratch
from benchmarks.measure import Contestant, Work
from benchmarks.pools import WORKERS
from benchmarks.resume import joblib_answer


def huey(*, sync: bool, immediate: bool = False) -> Contestant:
    """Its queue in SQLite, and a loop that takes from it what its consumer would: four commits per task.

    `immediate` calls at once and leaves the queue out, which its documentation has for debugging: two commits per
    task, and no record of a task that was asked for and did not end.
    """

    def contestant(size: int) -> Generator[Work, Any, None]:
        from huey import SqliteHuey

        with scratch() as folder:
            queue = SqliteHuey(
                filename=str(folder / "huey.db"), fsync=sync, immediate=immediate, immediate_use_memory=False
            )
            call = queue.task()(one)

            def work() -> None:
                for _ in range(size):
                    call()
                    if not immediate:
                        queue.execute(queue.dequeue())

            yield work
            assert queue.storage.result_store_size() == size

    return contestant


def huey_workers(size: int) -> Generator[Work, Any, None]:
    """Its consumer with two worker processes that wait for tasks, not synced; until all results are stored."""
    from huey import SqliteHuey

    with scratch() as folder:
        queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=False, timeout=30)
        call = queue.task()(one)
        consumer = queue.create_consumer(
            workers=WORKERS, worker_type="process", periodic=False, initial_delay=0.001, max_delay=0.01
        )
        consumer.start()
        try:
            call().get(blocking=True)  # a worker is up

            def work() -> None:
                for _ in range(size):
                    call()
                while queue.storage.result_store_size() < size:
                    time.sleep(0.001)

            yield work
        finally:
            consumer.stop(graceful=True)


def dbos(size: int) -> Generator[Work, Any, None]:
    """A workflow that calls a step so many times; its system database in SQLite, opened as it opens it."""
    result = yield functools.partial(dbos_workflow(), size)
    assert result == size


@functools.cache  # there is one per process
def dbos_workflow() -> Any:
    from dbos import DBOS

    folder = kept_folder("dbos", 0)
    url = f"sqlite:///{folder}/dbos.sqlite"
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "run_admin_server": False,
            "log_level": "ERROR",
        }
    )
    step = DBOS.step()(one)

    @DBOS.workflow()
    def chain(size: int) -> int:
        return sum([step() for _ in range(size)])

    DBOS.launch()
    atexit.register(DBOS.destroy)
    return chain


def redun(size: int) -> Generator[Work, Any, None]:
    """Its scheduler on an expression of nested calls, with its database in SQLite and its local executor."""
    from redun import Scheduler, task
    from redun.config import Config

    sys.setrecursionlimit(100_000)  # it walks the expression recursively
    logging.getLogger("redun").setLevel(logging.ERROR)
    step = task(namespace="benchmarks")(plus_one)
    with scratch() as folder:
        scheduler = Scheduler(config=Config({"backend": {"db_uri": f"sqlite:///{folder}/redun.db"}}))
        scheduler.load()
        expression: Any = 0
        for _ in range(size):
            expression = step(expression)
        result = yield lambda: scheduler.run(expression)
        assert result == size


def plus_one(number: int) -> int:
    return number + one()


def hamilton(size: int) -> Generator[Work, Any, None]:
    """Its `Driver.execute` with its cache on disk: it syncs the rows of its SQLite file, not its results' files."""
    from hamilton import driver

    names = [f"n{i}" for i in range(size)]
    with scratch() as folder:
        built = driver.Builder().with_modules(hamilton_module(size)).with_cache(path=str(folder)).build()
        results = yield lambda: built.execute(names)
        assert len(results) == size


def pipefunc(size: int) -> Generator[Work, Any, None]:
    """Its `Pipeline.map`, sequential, with its cache on disk, one file per result."""
    pipeline = pipefunc_pipeline(size)
    pipeline.cache.clear()
    results = yield lambda: pipeline.map({}, parallel=False, storage="dict", show_progress=False)
    assert len(results) == size


@functools.cache  # building takes many seconds
def pipefunc_pipeline(size: int) -> Any:
    from pipefunc import PipeFunc, Pipeline

    sys.setrecursionlimit(100_000)  # it walks the graph recursively
    functions = [
        PipeFunc(each, output_name=each.__name__, cache=True)
        for each in named_functions(chain_needs(size), "one()")
    ]
    cache = {"cache_dir": kept_folder("pipefunc", size), "with_lru_cache": False}
    return Pipeline(functions, validate_type_annotations=False, cache_type="disk", cache_kwargs=cache)


def dotflow(size: int) -> Generator[Work, Any, None]:
    """Its `start()` with file storage, one file per result, logging errors only."""
    from dotflow import Config, DotFlow, action
    from dotflow.providers import LogDefault, StorageFile

    step = action(one)
    with scratch() as folder:
        flow = DotFlow(config=Config(storage=StorageFile(path=str(folder)), log=LogDefault(level="ERROR")))
        for _ in range(size):
            flow.task.add(step=step)
        yield flow.start
        assert len(list((folder / "tasks").iterdir())) == size


def joblib(size: int) -> Generator[Work, Any, None]:
    """Calls of a function whose results its cache does not know yet, two files per result."""
    with scratch() as folder:
        results = yield lambda: joblib_answer(folder, size)
        assert sum(results) == size
