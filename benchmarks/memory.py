"""How far a process grows while results pass through it on their way to disk.

In parallel 10,000 results of 10 kB each, 100 MB in all, come from two workers and go to files; the pools write each
to a file of its own as it comes, in order, and let go of it. In sequence 200 tasks return a text of 1 MB each.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import resource
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

from benchmarks.bodies import blob, text
from benchmarks.graphs import scratch
from benchmarks.measure import Benchmark, Contestant, Unmeasured, Work
from benchmarks.pools import EXECUTOR, WORKERS, executor, multiprocessing_pool

EACH = 10_000  # bytes
IN_FLIGHT = 1000  # how many items we may have begun, or sent to a worker, and not finished
_STATUS = Path("/proc/self/status")


def ours(size: int) -> Generator[Work, Any, None]:
    """Durable as the peers' files are: against the death of the process."""
    from dotflow_like import FileStorage, Manager, task

    with scratch() as folder:
        tasks = [task(blob).map(number=_numbers(size)).bind(size=EACH)]
        storage = FileStorage(folder, durability="process")
        run = yield lambda: Manager(tasks=tasks, storage=storage, mode="parallel", max_workers=WORKERS)
        items = run.raise_for_failure().tasks[0].items
        assert len(items) == size
        assert items[-1].result == blob((size - 1) % 256, EACH)
        assert most_in_flight([each.attempts[-1] for each in items]) <= IN_FLIGHT


def most_in_flight(attempts: list[Any]) -> int:
    """Return how many attempts were open at once; of two at the same time the end counts first."""
    moments = [(each.scheduled_at, 1) for each in attempts] + [(each.finished_at, -1) for each in attempts]
    return max(itertools.accumulate(step for _, step in sorted(moments)))


def peer(results: Callable[[list[int]], Iterable[bytes]]) -> Contestant:
    def contestant(size: int) -> Generator[Work, Any, None]:
        with scratch() as folder:

            def work() -> None:
                for i, result in enumerate(results(_numbers(size))):
                    (folder / str(i)).write_bytes(result)

            yield work
            assert (folder / str(size - 1)).read_bytes() == blob((size - 1) % 256, EACH)

    return contestant


def _numbers(size: int) -> list[int]:
    return [i % 256 for i in range(size)]


def executor_map(numbers: list[int]) -> Iterable[bytes]:
    return executor().map(functools.partial(blob, size=EACH), numbers)


def pool_imap(numbers: list[int]) -> Iterable[bytes]:
    results: Iterable[bytes] = multiprocessing_pool().imap(functools.partial(blob, size=EACH), numbers)
    return results


def joblib(numbers: list[int]) -> Iterable[bytes]:
    """With `return_as="generator"`; else it returns one list of all."""
    from joblib import Parallel, delayed

    results: Iterable[bytes] = Parallel(n_jobs=WORKERS, return_as="generator")(
        delayed(blob)(each, EACH) for each in numbers
    )
    return results


def ours_in_sequence(size: int) -> Generator[Work, Any, None]:
    from dotflow_like import Manager, task

    with scratch() as folder:
        tasks = [task(text, name=f"n{i}").bind(number=i) for i in range(size)]
        run = yield lambda: Manager(tasks=tasks, storage=f"sqlite:///{folder}/runs.db")
        run.raise_for_failure()
        assert run.tasks[-1].result == text(size - 1)


def dotflow_in_sequence(size: int) -> Generator[Work, Any, None]:
    """Its `start()` with file storage."""
    from dotflow import Config, DotFlow, action
    from dotflow.providers import LogDefault, StorageFile

    with scratch() as folder:
        flow = DotFlow(config=Config(storage=StorageFile(path=str(folder)), log=LogDefault(level="ERROR")))
        for i in range(size):
            flow.task.add(step=action(functools.partial(text, i)))
        yield flow.start
        assert flow.task.queue[-1].current_context.storage == text(size - 1)


def joblib_in_sequence(size: int) -> Generator[Work, Any, None]:
    """Calls of a function with its cache, each result let go of."""
    from joblib import Memory

    with scratch() as folder:
        cached = Memory(folder, verbose=0).cache(text)

        def work() -> None:
            for i in range(size):
                cached(i)

        yield work
        assert cached(size - 1) == text(size - 1)


def growth(contestant: Contestant, size: int) -> float:
    """Return by how much the memory of this process was larger at its peak than before the work, in MB."""
    steps = contestant(size)
    work = next(steps)
    before = _resident()
    result = work()
    grown = _peak() - before
    with contextlib.suppress(StopIteration):
        steps.send(result)
    return grown


def _resident() -> float:
    """Return the memory of this process in MB, and let its peak begin there."""
    if not _STATUS.exists():
        return _peak()
    Path("/proc/self/clear_refs").write_text("5")
    return _of_status("VmRSS")


def _peak() -> float:
    if not _STATUS.exists():  # macOS, in bytes; it never falls, but the process is new
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return _of_status("VmHWM")


def _of_status(name: str) -> float:
    [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024 / 1e6


_STORE = Unmeasured("keeps results in a store of its own, beside the parent")

MEMORY = Benchmark(
    "map-memory",
    "how far the parent grows while 10,000 results of 10 kB go to files",
    10_000,
    "MB",
    40,
    None,
    ours,
    {
        f"{EXECUTOR}.map": peer(executor_map),
        "Pool.imap": peer(pool_imap),
        "joblib": peer(joblib),
        "dask": _STORE,
        "ray": _STORE,
    },
    growth,
    scaled=False,
    rounds=3,
    fresh=True,
)

RESULTS = Benchmark(
    "result-memory",
    "how far the process grows while 200 tasks one after another return 1 MB each",
    200,
    "MB",
    40,
    None,
    ours_in_sequence,
    {"dotflow": dotflow_in_sequence, "joblib.Memory": joblib_in_sequence},
    growth,
    scaled=False,
    rounds=3,
    fresh=True,
)
