"""Finding finished tasks: a run whose results are all on disk is started again, whole.

The results are small (one number each), the files are in the system's cache, as after a run. Each sample
opens the folder or the database anew, as a new process would, and each checks that nothing was computed again.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from pathlib import Path
from typing import Any

from benchmarks.databases import close_databases
from benchmarks.graphs import (
    doit_run,
    doit_tasks,
    kept_folder,
    lone_needs,
    named_functions,
    nothing_runs,
    one,
    scratch,
)
from benchmarks.measure import Benchmark, Contestant, Unmeasured, Work


def ours(storage: str) -> Contestant:
    """`storage` is a URL without the folder."""

    def contestant(size: int) -> Generator[Work, Any, None]:
        from dotflow_like import Manager

        where = our_finished(size, storage)
        tasks = our_tasks(size)
        close_databases()
        with nothing_runs():
            run = yield lambda: Manager(tasks=tasks, storage=where, workflow_id="finished", resume=True)
        assert run.status == "completed"
        assert all(each.restored for each in run.tasks)
        assert run.tasks[-1].result == 1

    return contestant


@functools.cache
def our_finished(size: int, storage: str) -> str:
    from dotflow_like import Manager

    where = storage.format(kept_folder("dotflow_like", size))
    tasks = our_tasks(size)
    Manager(tasks=tasks, storage=f"{where}?durability=process", workflow_id="finished").raise_for_failure()
    return where


def our_tasks(size: int) -> list[Any]:
    from dotflow_like import task

    return [task(one, name=f"n{i}") for i in range(size)]


def dotflow(size: int) -> Generator[Work, Any, None]:
    """Its `start(resume=True)` with file storage, logging errors only.

    `flow.task.add` gives tasks new ids every time, under which nothing is found; so the tasks are made with
    ids and put into its queue. Resuming writes to its files, so each sample has a folder of its own.
    """
    with scratch() as folder:
        dotflow_flow(folder, size).start(resume=True)
        again = dotflow_flow(folder, size)
        with nothing_runs():
            yield lambda: again.start(resume=True)
        assert all(task.status == "Completed" for task in again.task.queue)


def dotflow_flow(folder: Path, size: int) -> Any:
    from dotflow import Config, DotFlow, Task, action
    from dotflow.providers import LogDefault, StorageFile

    config = Config(storage=StorageFile(path=str(folder)), log=LogDefault(level="ERROR"))
    flow = DotFlow(config=config, workflow_id="00000000-0000-4000-8000-000000000000")
    step = action(one)
    flow.task.queue += [
        Task(task_id=f"n{i}", step=step, config=config, workflow_id=flow.workflow_id) for i in range(size)
    ]
    return flow


def pipefunc(size: int) -> Generator[Work, Any, None]:
    """Its `Pipeline.map(resume=True)`, sequential; one file per result. The pipeline is built before."""
    work = pipefunc_finished(size)
    with nothing_runs():
        results = yield work
    assert len(results) == size


@functools.cache  # building takes many seconds
def pipefunc_finished(size: int) -> Work:
    from pipefunc import PipeFunc, Pipeline

    functions = [
        PipeFunc(each, output_name=each.__name__) for each in named_functions(lone_needs(size), "one()")
    ]
    pipeline = Pipeline(functions, validate_type_annotations=False)
    options = {"run_folder": kept_folder("pipefunc", size), "parallel": False, "show_progress": False}
    pipeline.map({}, resume=False, **options)
    return lambda: pipeline.map({}, resume=True, **options)


def hamilton(size: int) -> Generator[Work, Any, None]:
    """Its `Driver.execute` with its cache on disk; the driver is built before."""
    driver = hamilton_driver(size)
    names = [f"n{i}" for i in range(size)]
    with nothing_runs():
        results = yield lambda: driver.execute(names)
    assert len(results) == size


def hamilton_driver(size: int) -> Any:
    from hamilton import driver

    module = hamilton_finished(size)
    return driver.Builder().with_modules(module).with_cache(path=str(kept_folder("hamilton", size))).build()


@functools.cache
def hamilton_finished(size: int) -> Any:
    from hamilton import ad_hoc_utils, driver

    module = ad_hoc_utils.create_temporary_module(*named_functions(lone_needs(size), "one()"))
    cached = driver.Builder().with_modules(module).with_cache(path=str(kept_folder("hamilton", size))).build()
    cached.execute([f"n{i}" for i in range(size)])
    return module


def doit(size: int) -> Generator[Work, Any, None]:
    """A whole `doit run` where all is done (`run_once`): one file with all records is read once."""
    from doit.tools import run_once

    tasks = doit_tasks(lone_needs(size), uptodate=[run_once])
    for each in tasks:
        each["actions"] = [lambda: one() == 1]
    with scratch() as folder:
        doit_run(folder, tasks)()
        with nothing_runs():
            code = yield doit_run(folder, tasks)
        assert code == 0


def joblib(size: int) -> Generator[Work, Any, None]:
    """Calls of a function whose results are in its cache, one file per result."""
    folder = kept_folder("joblib", size)
    joblib_finished(size)
    with nothing_runs():
        results = yield lambda: joblib_answer(folder, size)
    assert len(results) == size


@functools.cache
def joblib_finished(size: int) -> None:
    joblib_answer(kept_folder("joblib", size), size)


def joblib_answer(folder: Path, size: int) -> list[int]:
    from joblib import Memory

    cached = Memory(folder, verbose=0).cache(one_for)
    return [cached(i) for i in range(size)]


def one_for(i: int) -> int:
    return one()


_SQLITE = "sqlite:///{}/runs.db"
_PEERS = {
    "dotflow": dotflow,
    "pipefunc": pipefunc,
    "sf-hamilton": hamilton,
    "dask": Unmeasured("keeps nothing on disk"),
    "doit": doit,
    "joblib.Memory": joblib,
}

_LONG = Unmeasured("to compute and keep 100,000 results takes it minutes")

RESUME = Benchmark(
    "resume",
    "1,000 finished tasks found on disk",
    1000,
    "us per task",
    15,
    None,
    ours("file://{}"),
    _PEERS,
)

SQLITE = Benchmark(
    "resume-sqlite",
    "1,000 finished tasks found in SQLite",
    1000,
    "us per task",
    10,
    None,
    ours(_SQLITE),
    _PEERS,
)

LONG = Benchmark(
    "resume-100k",
    "100,000 finished tasks found in SQLite",
    100_000,
    "us per task",
    10,
    None,
    ours(_SQLITE),
    {
        **_PEERS,
        "pipefunc": Unmeasured(
            "building the pipeline takes over 10 ms per function at 1,000 and grows with it"
        ),
        "sf-hamilton": _LONG,
        "joblib.Memory": _LONG,
    },
    rounds=3,
    repeat=2,
)
