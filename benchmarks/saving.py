"""What a body pays for what it saves while it runs: items, steps, and rows of its own in the run's database.

Ours is all of `Manager(tasks=..., storage="sqlite:///...")` with a new file for each sample, as in `durable`. There is no
target: each figure is to be read as a ratio to a bare loop that commits as much, and is synced as much.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import bodies
from benchmarks import durable_peers as peers
from benchmarks.durable import FLOOR, SYNCHRONOUS, completed, floor, url
from benchmarks.graphs import one, scratch
from benchmarks.measure import Benchmark, Contestant, Work

BOTH = "both rows in one commit"


def in_one_task(body: Callable[..., int], durability: str, *, isolate: bool = False) -> Contestant:
    """One task whose body saves so many times; with `isolate` in a worker, warm from the sample before."""

    def contestant(size: int) -> Generator[Work, Any, None]:
        from dotflow_like import Manager, task

        with scratch() as folder:
            whole = task(body, isolate=isolate).bind(size=size)
            run = yield lambda: Manager(tasks=[whole], storage=url(folder, durability))
            assert run[whole].result == size
            assert completed(folder) == 1

    return contestant


def in_transaction(size: int) -> Generator[Work, Any, None]:
    """Tasks that each write a row through `ctx.transaction()`: it is committed with the end of its task."""
    from dotflow_like import Manager, task

    with bookings("runs.db") as (folder, connection):
        tasks = [task(bodies.book, name=f"n{i}") for i in range(size)]
        run = yield lambda: Manager(tasks=tasks, storage=url(folder, "full"))
        assert run.status == "completed"
        assert booked(connection) == completed(folder) == size


def beside(size: int) -> Generator[Work, Any, None]:
    """The same rows through a connection of the task's own, open all the time: two commits per task."""
    from dotflow_like import Manager, task

    with bookings("runs.db") as (folder, connection):

        def book() -> int:
            with connection:
                connection.execute(bodies.BOOKING)
            return 1

        tasks = [task(book, name=f"n{i}") for i in range(size)]
        run = yield lambda: Manager(tasks=tasks, storage=url(folder, "full"))
        assert run.status == "completed"
        assert booked(connection) == completed(folder) == size


def both_rows(size: int) -> Generator[Work, Any, None]:
    with bookings("rows.db") as (_, database):
        database.execute("CREATE TABLE attempts (number INTEGER, name TEXT, status TEXT, result TEXT)")
        execute = database.execute

        def work() -> None:
            for i in range(size):
                execute("BEGIN IMMEDIATE")
                execute(bodies.BOOKING)
                row = (i, f"n{i}", "completed", str(one()))
                execute("INSERT INTO attempts VALUES (?, ?, ?, ?)", row)
                execute("COMMIT")

        yield work
        assert booked(database) == size


@contextmanager
def bookings(name: str) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """Give a folder with a new file of one table, and a connection to it that syncs each commit."""
    with scratch() as folder, closing(sqlite3.connect(folder / name)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS['full']}")
        connection.execute("CREATE TABLE bookings (account TEXT, amount INTEGER)")
        yield folder, connection


def booked(connection: sqlite3.Connection) -> int:
    [count] = connection.execute("SELECT count(*) FROM bookings").fetchone()
    return int(count)


ITERATE = Benchmark(
    "iterate",
    "5,000 items of ctx.iterate in one task, each written and not synced",
    5000,
    "us per item",
    None,
    None,
    in_one_task(bodies.iterate, "full"),
    {
        FLOOR: floor("process"),
        "ours, process": in_one_task(bodies.iterate, "process"),
        "ours, in a worker": in_one_task(bodies.iterate, "full", isolate=True),
        "ours, worker, process": in_one_task(bodies.iterate, "process", isolate=True),
    },
    to=FLOOR,
)

STEP = Benchmark(
    "step",
    "1,000 calls of ctx.step in one task, each synced to disk",
    1000,
    "us per step",
    None,
    None,
    in_one_task(bodies.steps, "full"),
    {
        FLOOR: floor("full"),
        "ours, in a worker": in_one_task(bodies.steps, "full", isolate=True),
        "DBOS": peers.dbos,
    },
    to=FLOOR,
    scaled=False,
)

TRANSACTION = Benchmark(
    "transaction",
    "300 tasks that each write a row, synced with their result",
    300,
    "us per task",
    None,
    None,
    in_transaction,
    {BOTH: both_rows, "ours, two commits": beside},
    to=BOTH,
    scaled=False,
)
