"""No-op tasks one after another, in memory: what a task costs beside its body.

Ours is all of `Manager(tasks=...)`, planning and recording included; the tasks are made before, anew for each
sample, so reading their signatures is in it. The peers are given more: what they plan by is built before too,
and only the run is timed.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Generator
from typing import Any

from benchmarks.graphs import chain_needs, doit_run, doit_tasks, named_functions, scratch
from benchmarks.measure import Benchmark, Unmeasured, Work, nop


def ours(size: int) -> Generator[Work, Any, None]:
    from dotflow_like import Manager, task

    tasks = [task(nop, name=f"n{i}") for i in range(size)]
    run = yield lambda: Manager(tasks=tasks)
    assert run.status == "completed"
    assert len(run.tasks) == size


def dotflow(size: int) -> Generator[Work, Any, None]:
    """Its `start()`. At its default level it logs two lines per task; here errors only, the fastest it has."""
    from dotflow import Config, DotFlow, action
    from dotflow.providers import LogDefault

    step = action(nop)
    flow = DotFlow(config=Config(log=LogDefault(level="ERROR")))
    for _ in range(size):
        flow.task.add(step=step)
    yield flow.start
    assert all(task.status == "Completed" for task in flow.task.queue)


def pipefunc(size: int) -> Generator[Work, Any, None]:
    """Its `Pipeline.map`, sequential, results in a dict; at this size that is faster than `Pipeline.run`."""
    pipeline = pipefunc_pipeline(size)
    results = yield lambda: pipeline.map({}, parallel=False, storage="dict", show_progress=False)
    assert len(results) == size


@functools.cache  # building takes many seconds
def pipefunc_pipeline(size: int) -> Any:
    from pipefunc import PipeFunc, Pipeline

    sys.setrecursionlimit(100_000)  # it walks the graph recursively
    functions = [PipeFunc(each, output_name=each.__name__) for each in named_functions(chain_needs(size))]
    return Pipeline(functions, validate_type_annotations=False)


def hamilton(size: int) -> Generator[Work, Any, None]:
    """Its `Driver.execute`, asked for all nodes: ours keeps all results too."""
    driver = hamilton_driver(size)
    names = [f"n{i}" for i in range(size)]
    results = yield lambda: driver.execute(names)
    assert len(results) == size


@functools.cache
def hamilton_driver(size: int) -> Any:
    from hamilton import driver

    return driver.Builder().with_modules(hamilton_module(size)).build()


@functools.cache
def hamilton_module(size: int) -> Any:
    from hamilton import ad_hoc_utils

    sys.setrecursionlimit(100_000)  # it walks the graph recursively
    return ad_hoc_utils.create_temporary_module(*named_functions(chain_needs(size)))


def dask(size: int) -> Generator[Work, Any, None]:
    """Its synchronous scheduler, on a graph written as a dict: faster than `dask.delayed` and than threads."""
    import dask

    graph = {f"n{i}": (_nop_of, *[f"n{each}" for each in needs]) for i, needs in enumerate(chain_needs(size))}
    result = yield lambda: dask.get(graph, f"n{size - 1}")
    assert result is None


def _nop_of(*_: object) -> None:
    pass


def doit(size: int) -> Generator[Work, Any, None]:
    """A whole `doit run`: it has no other. Its records go to a file, written once at the end."""
    with scratch() as folder:
        code = yield doit_run(folder, doit_tasks(chain_needs(size)))
        assert code == 0


_JOBLIB = Unmeasured("a cache of calls, on disk only: see resume")

CHAIN = Benchmark(
    "chain",
    "1,000 no-op tasks one after another, in memory",
    1000,
    "us per task",
    6,
    4,
    ours,
    {
        "dotflow": dotflow,
        "pipefunc": pipefunc,
        "sf-hamilton": hamilton,
        "dask": dask,
        "doit": doit,
        "joblib.Memory": _JOBLIB,
    },
)

LONG_CHAIN = Benchmark(
    "chain-100k",
    "100,000 no-op tasks one after another, in memory",
    100_000,
    "us per task",
    10,
    None,
    ours,
    {
        "dotflow": dotflow,
        "pipefunc": Unmeasured(
            "building the pipeline takes over 10 ms per function at 1,000 and grows with it"
        ),
        "sf-hamilton": hamilton,
        "dask": dask,
        "doit": doit,
        "joblib.Memory": _JOBLIB,
    },
    rounds=3,
    repeat=2,
)
