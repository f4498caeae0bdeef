"""No-op tasks whose every step is a committed row in SQLite: what a durable task costs beside its body.

Ours is all of `Manager(tasks=..., storage="sqlite:///...")` with a new file for each sample: opening it, making the
tables, claiming the run, and for each task its start, its end and its result. The floor is a bare loop that
commits one row per task to a file that is open, with its table made.

`full` survives the death of the machine, `process` that of the process: a commit waits for the disk or does not.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks import durable_peers as peers
from benchmarks.bodies import nop
from benchmarks.databases import close_databases
from benchmarks.graphs import one, scratch
from benchmarks.measure import Benchmark, Contestant, Unmeasured, Work
from benchmarks.pools import EXECUTOR, WORKERS, executor

FLOOR = "a row per task"
SYNCHRONOUS = {"full": "FULL", "process": "NORMAL"}


def url(folder: Path, durability: str) -> str:
    return f"sqlite:///{folder}/runs.db?durability={durability}"


def ours(durability: str) -> Contestant:
    def contestant(size: int) -> Generator[Work, Any, None]:
        from dotflow_like import Manager, task

        with scratch() as folder:
            tasks = [task(one, name=f"n{i}") for i in range(size)]
            run = yield lambda: Manager(tasks=tasks, storage=url(folder, durability))
            assert run.status == "completed"
            assert completed(folder) == size

    return contestant


def completed(folder: Path) -> int:
    """Return how many attempts another reader of the file sees as completed, once it is closed."""
    close_databases()
    with closing(sqlite3.connect(folder / "runs.db")) as reader:
        [count] = reader.execute("SELECT count(*) FROM task_attempts WHERE status = 'completed'").fetchone()
    return int(count)


def floor(durability: str) -> Contestant:
    def contestant(size: int) -> Generator[Work, Any, None]:
        with rows(durability) as (database, commit):

            def work() -> None:
                for i in range(size):
                    commit(i, one())

            yield work
            assert database.execute("SELECT count(*) FROM attempts").fetchone() == (size,)

    return contestant


@contextmanager
def rows(durability: str) -> Iterator[tuple[sqlite3.Connection, Callable[[int, object], None]]]:
    """Give a new file of one table, and what commits one row to it."""
    with scratch() as folder, closing(sqlite3.connect(folder / "rows.db", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {SYNCHRONOUS[durability]}")
        database.execute(
            "CREATE TABLE attempts (number INTEGER, name TEXT, status TEXT, at REAL, result TEXT)"
        )
        execute = database.execute

        def commit(number: int, result: object) -> None:
            row = (number, f"n{number}", "completed", time.time(), str(result))
            execute("BEGIN IMMEDIATE")
            execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?)", row)
            execute("COMMIT")

        yield database, commit


def parallel(size: int) -> Generator[Work, Any, None]:
    """`Manager(tasks=..., mode="parallel", max_workers=2)`; the workers are warm from the sample before."""
    from dotflow_like import Manager, task

    with scratch() as folder:
        tasks = [task(nop, name=f"n{i}") for i in range(size)]
        storage = url(folder, "process")
        run = yield lambda: Manager(tasks=tasks, storage=storage, mode="parallel", max_workers=WORKERS)
        assert run.status == "completed"
        assert completed(folder) == size


def executor_rows(size: int) -> Generator[Work, Any, None]:
    """`ProcessPoolExecutor.submit`, one by one; each result is committed as it comes, in order."""
    pool = executor()
    with rows("process") as (database, commit):

        def work() -> None:
            for i, future in enumerate([pool.submit(nop) for _ in range(size)]):
                commit(i, future.result())

        yield work
        assert database.execute("SELECT count(*) FROM attempts").fetchone() == (size,)


def our_commits(quantile: float) -> Contestant:
    """The seconds of the calls of the journal's `commit`, what they wait for included."""

    def contestant(size: int) -> Generator[Work, Any, None]:
        from dotflow_like import Manager, task
        from dotflow_like.record.sql import SqlJournal

        with scratch() as folder:
            tasks = [task(one, name=f"n{i}") for i in range(size)]
            spent: list[float] = []
            commit = SqlJournal.commit
            SqlJournal.commit = stopwatch(commit, spent)

            def work() -> float:
                try:
                    Manager(tasks=tasks, storage=url(folder, "full")).raise_for_failure()
                finally:
                    SqlJournal.commit = commit
                return at_quantile(quantile, spent)

            yield work
            assert completed(folder) == size
            assert len(spent) >= size

    return contestant


def floor_commits(quantile: float) -> Contestant:
    def contestant(size: int) -> Generator[Work, Any, None]:
        with rows("full") as (_, commit):
            spent: list[float] = []
            timed_commit = stopwatch(commit, spent)

            def work() -> float:
                for i in range(size):
                    timed_commit(i, one())
                return at_quantile(quantile, spent)

            yield work
            assert len(spent) == size

    return contestant


def stopwatch(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    """Return the function, which also adds the seconds of each of its calls to `spent`."""

    def watched(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **named)
        finally:
            spent.append(time.perf_counter() - start)

    return watched


def at_quantile(quantile: float, spent: Iterable[float]) -> float:
    ordered = sorted(spent)
    return ordered[math.ceil(quantile * len(ordered)) - 1]


def returned(contestant: Contestant, size: int) -> float:
    """Return what the work itself has measured, in seconds."""
    steps = contestant(size)
    seconds: float = next(steps)()
    with suppress(StopIteration):
        steps.send(seconds)
    return seconds


FULL = Benchmark(
    "durable-full",
    "1,000 no-op tasks one after another, each synced to disk",
    1000,
    "us per task",
    1 / 1.5,
    None,
    ours("full"),
    {
        FLOOR: floor("full"),
        "huey": peers.huey(sync=True),
        "huey, immediate": peers.huey(sync=True, immediate=True),
        "DBOS": peers.dbos,
        "redun": peers.redun,
        "sf-hamilton": peers.hamilton,
    },
    to=FLOOR,
    scaled=False,
)

PROCESS = Benchmark(
    "durable-process",
    "1,000 no-op tasks one after another, each written and not synced",
    1000,
    "us per task",
    1 / 2.5,
    None,
    ours("process"),
    {
        FLOOR: floor("process"),
        "huey": peers.huey(sync=False),
        "huey, immediate": peers.huey(sync=False, immediate=True),
        "pipefunc": peers.pipefunc,
        "dotflow": peers.dotflow,
        "joblib.Memory": peers.joblib,
    },
    to=FLOOR,
)

PARALLEL = Benchmark(
    "durable-parallel",
    "1,000 no-op tasks in two warm workers, each written and not synced",
    1000,
    "tasks/s",
    12_000,
    None,
    parallel,
    {
        FLOOR: floor("process"),
        f"{EXECUTOR}, a row": executor_rows,
        "huey": peers.huey_workers,
        "dask": Unmeasured("keeps nothing on disk"),
        "ray": Unmeasured("keeps nothing on disk"),
    },
)

COMMIT = Benchmark(
    "commit-p99",
    "99 of 100 commits of 3,000 synced no-op tasks take no longer",
    3000,
    "ms",
    5,
    None,
    our_commits(0.99),
    {
        "ours, median": our_commits(0.5),
        "ours, slowest": our_commits(1),
        FLOOR: floor_commits(0.99),
        f"{FLOOR}, median": floor_commits(0.5),
        f"{FLOOR}, slowest": floor_commits(1),
    },
    returned,
    scaled=False,
    rounds=3,
)
