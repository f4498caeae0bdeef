"""Eight large results, made in two warm workers and read in the parent; the size is that of all, in MB."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from benchmarks.bodies import array, blob
from benchmarks.measure import Benchmark, Contestant, Work
from benchmarks.pools import EXECUTOR, POOLS, WORKERS, Pool

RESULTS = 8

Read = Callable[[Any, int, int], None]


def ours(body: Callable[..., Any], read: Read) -> Contestant:
    def contestant(size: int) -> Generator[Work, Any, None]:
        from dotflow_like import Manager, task

        calls = _calls(size)
        tasks = [task(body, name=f"n{number}").bind(number=number, size=each) for number, each in calls]

        def work() -> list[Any]:
            run = Manager(tasks=tasks, mode="parallel", max_workers=WORKERS)
            return _all_read([each.result for each in run.raise_for_failure().tasks], calls, read)

        yield work

    return contestant


def peer(pool: Pool, body: Callable[..., Any], read: Read) -> Contestant:
    def contestant(size: int) -> Generator[Work, Any, None]:
        calls = _calls(size)
        yield lambda: _all_read(pool(body, calls), calls, read)

    return contestant


def _calls(size: int) -> list[tuple[int, int]]:
    return [(number, size * 1_000_000 // RESULTS) for number in range(RESULTS)]


def _all_read(results: list[Any], calls: list[tuple[int, int]], read: Read) -> list[Any]:
    for result, call in zip(results, calls, strict=True):
        read(result, *call)
    return results  # letting go of them is not timed


def read_blob(result: bytes, number: int, size: int) -> None:
    assert len(result) == size
    assert result[0] == result[-1] == number


def read_array(result: Any, number: int, size: int) -> None:
    """Look into every page: what was only mapped has to come now."""
    assert result.nbytes == size // 8 * 8
    some = result[::512]
    assert some.sum() == number * len(some)


def _peers(body: Callable[..., Any], read: Read) -> dict[str, Contestant]:
    pools = {name: pool for name, pool in POOLS.items() if name != "Pool.apply_async"}  # the same as map here
    return {name: peer(pool, body, read) for name, pool in pools.items()}


BYTES = Benchmark(
    "large-bytes",
    "eight results of 50 MB, bytes",
    400,
    "MB/s",
    1.6,
    2.2,
    ours(blob, read_blob),
    _peers(blob, read_blob),
    to=EXECUTOR,
    scaled=False,
    repeat=3,
)

ARRAYS = Benchmark(
    "large-numpy",
    "eight results of 50 MB, numpy arrays",
    400,
    "MB/s",
    1,
    None,
    ours(array, read_array),
    _peers(array, read_array),
    to="ray",
    scaled=False,
    repeat=3,
)
