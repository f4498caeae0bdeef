"""Two worker processes: what a task costs there, what the parent costs, and how soon a body begins.

Ours is all of `Manager(tasks=..., mode="parallel", max_workers=2)`, planning and recording included; the tasks
are made before, anew for each sample. Our workers are warm from the sample that is thrown away, as the peers' are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

from benchmarks.bodies import began, nop, spin
from benchmarks.measure import Benchmark, Contestant, Work
from benchmarks.pools import EXECUTOR, POOLS, WORKERS, Pool, executor_spawn


def ours(function: Callable[..., Any]) -> Contestant:
    def contestant(size: int) -> Generator[Work, Any, None]:
        from dotflow_like import Manager, task

        tasks = [task(function, name=f"n{i}") for i in range(size)]

        def work() -> list[Any]:
            run = Manager(tasks=tasks, mode="parallel", max_workers=WORKERS)
            return [each.result for each in run.raise_for_failure().tasks]

        results = yield work
        assert len(results) == size

    return contestant


def peer(pool: Pool, function: Callable[..., Any]) -> Contestant:
    def contestant(size: int) -> Generator[Work, Any, None]:
        calls: list[tuple[Any, ...]] = [()] * size
        results = yield lambda: pool(function, calls)
        assert len(results) == size

    return contestant


def peers(function: Callable[..., Any], pools: Mapping[str, Pool] = POOLS) -> dict[str, Contestant]:
    return {name: peer(pool, function) for name, pool in pools.items()}


def share(contestant: Contestant, size: int) -> float:
    """Return the CPU this process used while the work ran, in percent of one core."""
    steps = contestant(size)
    work = next(steps)
    start, used = time.perf_counter(), time.process_time()
    work()
    return 100 * (time.process_time() - used) / (time.perf_counter() - start)


def until_begun(contestant: Contestant, size: int) -> float:
    """Return the seconds until the body of the one task began; its result says when."""
    work = next(contestant(size))
    start = time.monotonic_ns()
    [begun] = work()
    return (begun - start) / 1e9


_SOON = peers(began, {**POOLS, f"{EXECUTOR}, spawn": executor_spawn})
del _SOON["Pool.map"]  # of one task it is the same as apply_async

TINY = Benchmark(
    "parallel-tiny",
    "1,000 no-op tasks in two warm workers",
    1000,
    "tasks/s",
    2,
    5,
    ours(nop),
    peers(nop),
    to=EXECUTOR,
)

CPU = Benchmark(
    "parallel-cpu",
    "64 tasks of 50 ms of CPU in two warm workers",
    64,
    "tasks/s",
    0.97,
    None,
    ours(spin),
    peers(spin),
    to=EXECUTOR,
    scaled=False,
    rounds=3,
    repeat=3,
)

PARENT = Benchmark(
    "parent-cpu",
    "the CPU of the parent while two workers compute, 64 tasks of 50 ms",
    64,
    "%",
    5,
    None,
    ours(spin),
    peers(spin),
    share,
    scaled=False,
    rounds=3,
    repeat=3,
)

FIRST = Benchmark(
    "first-task",
    "in a new process: until the body of a first parallel task begins",
    1,
    "ms",
    250,
    None,
    ours(began),
    _SOON,
    until_begun,
    rounds=10,
    fresh=True,
)

NEXT = Benchmark(
    "next-task",
    "in the same process: until the body of a task of a later run begins",
    1,
    "ms",
    5,
    None,
    ours(began),
    _SOON,
    until_begun,
    repeat=20,
)
