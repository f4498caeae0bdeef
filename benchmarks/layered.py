"""A graph of 1,000 no-op nodes in layers of ten, each needing two or three results of the layer before.

Ours is `Workflow.run`, planning and recording included; the workflow is made before. What the peers plan by is
made before too.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from typing import Any

from benchmarks.graphs import WIDTH, doit_run, doit_tasks, layered_needs, named_functions, scratch
from benchmarks.measure import Benchmark, Unmeasured, Work, nop


def two(a: object, b: object) -> None:
    pass


def three(a: object, b: object, c: object) -> None:
    pass


def our_workflow(size: int) -> Any:
    from dotflow_like import Workflow, task

    tasks: list[Any] = []
    for i, needs in enumerate(layered_needs(size)):
        function = {0: nop, 2: two, 3: three}[len(needs)]
        bound = dict(zip("abc", (tasks[each] for each in needs), strict=False))
        tasks.append(task(function, name=f"n{i}").bind(**bound))
    return Workflow(tasks)


def parallel(size: int) -> Generator[Work, Any, None]:
    workflow = our_workflow(size)
    run = yield lambda: workflow.run(mode="parallel", executor="inline")
    assert run.status == "completed"
    assert len(run.tasks) == size


def sequential(size: int) -> Generator[Work, Any, None]:
    workflow = our_workflow(size)
    run = yield workflow.run
    assert run.status == "completed"
    assert len(run.tasks) == size


def pipefunc(size: int) -> Generator[Work, Any, None]:
    """Its `Pipeline.map`, sequential, results in a dict; at this size that is faster than `Pipeline.run`."""
    pipeline = pipefunc_pipeline(size)
    results = yield lambda: pipeline.map({}, parallel=False, storage="dict", show_progress=False)
    assert len(results) == size


@functools.cache  # building takes many seconds
def pipefunc_pipeline(size: int) -> Any:
    from pipefunc import PipeFunc, Pipeline

    functions = [PipeFunc(each, output_name=each.__name__) for each in named_functions(layered_needs(size))]
    return Pipeline(functions, validate_type_annotations=False)


def hamilton(size: int) -> Generator[Work, Any, None]:
    """Its `Driver.execute`, asked for all nodes, which is faster than the last layer alone."""
    driver = hamilton_driver(size)
    names = [f"n{i}" for i in range(size)]
    results = yield lambda: driver.execute(names)
    assert len(results) == size


@functools.cache
def hamilton_driver(size: int) -> Any:
    from hamilton import ad_hoc_utils, driver

    module = ad_hoc_utils.create_temporary_module(*named_functions(layered_needs(size)))
    return driver.Builder().with_modules(module).build()


def dask(size: int) -> Generator[Work, Any, None]:
    """Its synchronous scheduler, on a graph written as a dict."""
    import dask

    functions = {0: nop, 2: two, 3: three}
    graph = {
        f"n{i}": (functions[len(needs)], *[f"n{each}" for each in needs])
        for i, needs in enumerate(layered_needs(size))
    }
    results = yield lambda: dask.get(graph, [f"n{i}" for i in range(size - WIDTH, size)])
    assert len(results) == WIDTH


def doit(size: int) -> Generator[Work, Any, None]:
    """A whole `doit run`; the dependencies are order only, no value is passed."""
    with scratch() as folder:
        code = yield doit_run(folder, doit_tasks(layered_needs(size)))
        assert code == 0


LAYERED = Benchmark(
    "layered",
    "1,000 nodes in layers of 10, parallel mode, inline",
    1000,
    "us per task",
    8,
    5,
    parallel,
    {
        "dotflow": Unmeasured("has no dependencies between tasks"),
        "pipefunc": pipefunc,
        "sf-hamilton": hamilton,
        "dask": dask,
        "doit": doit,
        "joblib.Memory": Unmeasured("has no graphs"),
    },
)

LAYERED_SEQUENTIAL = Benchmark(
    "layered-sequential",
    "the same graph, sequential mode (peers: as above)",
    1000,
    "us per task",
    8,
    5,
    sequential,
)
