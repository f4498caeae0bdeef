"""Tasks that fail at their first attempt and succeed at the second, without a delay between."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from benchmarks.measure import Benchmark, Unmeasured, Work


def fails_once() -> Callable[[], None]:
    """Return a function that fails when it is called first."""
    failed = False

    def flaky() -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise ValueError("the first attempt fails")

    return flaky


def ours(size: int) -> Generator[Work, Any, None]:
    from dotflow_like import Manager, task

    tasks = [task(fails_once(), name=f"n{i}", retry=2) for i in range(size)]
    run = yield lambda: Manager(tasks=tasks)
    assert run.status == "completed"
    assert all(each.retry_count == 1 for each in run.tasks)


def dotflow(size: int) -> Generator[Work, Any, None]:
    """Its `start()`, without delay, logging errors only."""
    from dotflow import Config, DotFlow, action
    from dotflow.providers import LogDefault

    flow = DotFlow(config=Config(log=LogDefault(level="ERROR")))
    for _ in range(size):
        flow.task.add(step=action(retry=2, retry_delay=0)(fails_once()))
    yield flow.start
    assert all(task.status == "Completed" and task.retry_count == 1 for task in flow.task.queue)


_NONE = Unmeasured("has no retry")

RETRY = Benchmark(
    "retry",
    "1,000 tasks that succeed at the second attempt",
    1000,
    "us per task",
    25,
    None,
    ours,
    {
        "dotflow": dotflow,
        "pipefunc": _NONE,
        "sf-hamilton": _NONE,
        "dask": Unmeasured("has no retry without its cluster"),
        "doit": _NONE,
        "joblib.Memory": _NONE,
    },
)
