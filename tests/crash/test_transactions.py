"""Processes are killed before, inside and after the commit of `ctx.transaction()`: what a body wrote and its result
are both there, or both not.

Killed are whole groups of processes, and workers alone: at each statement of SQL in turn, in the middle of a write to
the file, around the commit, and at random moments. `CRASH_SEED=... pytest tests/crash/test_transactions.py` replays
what is chosen at random; the output names the seed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

KILLED = (-signal.SIGKILL, -signal.SIGXFSZ)
MODES = ["sequential", "background", "thread", "process", "isolate"]
IN_WORKERS = ["process", "isolate"]
PLACES = ["body", "ends", "committed"]
TASKS = {"make", "large", *(f"write[{each}]" for each in range(4))}
MOST = 1000  # statements of a run, and more than it has
WAIT = 50

JOB = """
import json, os, signal, sqlite3, sys
from pathlib import Path

from dotflow_like import Config, Manager, RetryPolicy, TaskContext, task
from dotflow_like.record.sql_transaction import Transaction

ORDER = json.loads(sys.argv[1])
FOLDER, MODE, DEATH = Path(ORDER["folder"]), ORDER["mode"], ORDER["death"]
MAIN = os.getpid()


def at(place):
    if DEATH is None or DEATH[0] != place or (DEATH[2] == "worker" and os.getpid() == MAIN):
        return
    DEATH[1] -= 1
    if DEATH[1] > 0:
        return
    if DEATH[2] == "run":
        os.killpg(MAIN, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        (FOLDER / f"{MAIN} lost a worker").open("x").close()
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def noted(ctx, rows):
    token = os.urandom(8).hex()
    connection = ctx.transaction()
    connection.executemany("INSERT INTO ledger VALUES (?, ?, ?)", [(ctx.task_id, token, pad) for pad in rows])
    ctx.checkpoints["token"] = token
    (FOLDER / "begun").open("a").write("x")
    at("body")
    return token


@task
def make(ctx: TaskContext):
    ctx.transaction().execute("CREATE TABLE ledger (task TEXT, token TEXT, pad BLOB)")
    return "made"



@task
def write(ctx: TaskContext, x):
    return noted(ctx, [b""])


@task
def large(ctx: TaskContext):
    return noted(ctx, [b"x" * 20_000] * 150)  # more than SQLite keeps in memory


def watched_connect(*given, **more):
    connection = connect(*given, **more)
    place = "statement" if "factory" in more else "other statement"
    connection.set_trace_callback(lambda statement: at(place))
    return connection


def watched_commit(self, attempt, value):
    at("ends")
    commit(self, attempt, value)
    at("committed")


connect, sqlite3.connect = sqlite3.connect, watched_connect
commit, Transaction.commit = Transaction.commit, watched_commit
if ORDER["size"] is not None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ORDER["size"], ORDER["size"]))
more = {
    "sequential": {},
    "background": {"mode": "background"},
    "thread": {"mode": "parallel", "executor": "thread", "max_workers": 3},
    "process": {"mode": "parallel", "max_workers": 2},
    "isolate": {},
    "spawn": {"mode": "parallel", "max_workers": 2},
}[MODE]
policy = RetryPolicy(1000, worker_deaths=1000, retry_on=())
tasks = [make, write.map(x=[1, 2, 3, 4]).after(make), large.after(make)]
tasks = [each.with_options(retry=policy, version="1", isolate=MODE == "isolate") for each in tasks]
Manager(
    tasks,
    workflow_id="run",
    resume=True,
    storage=ORDER["storage"],
    config=Config(start_method="fork" if MODE in ("process", "isolate") else "spawn", max_crashes=None),
    **more,
).wait().raise_for_failure()
"""


class Book:
    """One run, from its first start to its end, however often its process is killed.

    Attributes:
        kills: how often something was killed.
        seen: how often there was how many of its tasks' effects when it was.
    """

    def __init__(self, folder: Path, nursery: Any, mode: str, durability: str) -> None:
        self._folder = folder
        self._nursery = nursery
        self._mode = mode
        self._storage = f"sqlite:///{folder}/runs.db?durability={durability}"
        self.kills = 0
        self.seen: Counter[int] = Counter()
        folder.mkdir()
        (folder / "job.py").write_text(JOB)

    def start(
        self,
        place: str | None = None,
        number: int = 1,
        who: str = "run",
        size: int | None = None,
        after: Any = None,
    ) -> bool:
        """Start it, or go on with it; return whether it has completed.

        Args:
            place: where it dies by itself.
            number: at the how many-th time it comes there.
            who: what dies there: the `run`, or a `worker`.
            size: it dies when a file wants to grow larger than so many bytes.
            after: so many bodies, and then so many seconds later, it is killed.
        """
        death = place and [place, number, who]
        order = {
            "folder": str(self._folder),
            "mode": self._mode,
            "storage": self._storage,
            "death": death,
            "size": size,
        }
        begun = len(self._begun())
        process = self._nursery.born(str(self._folder / "job.py"), [json.dumps(order)], self._folder)
        try:
            if after is not None:
                until = time.monotonic() + WAIT
                while process.poll() is None and len(self._begun()) < begun + after[0]:
                    assert time.monotonic() < until, "it does not begin"
                    time.sleep(0.0003)
                with suppress(TimeoutError):
                    process.wait(after[1])
                process.kill()
            code = process.wait()
        finally:
            process.kill()
        assert code in (0, *KILLED), process.errors
        lost = list(self._folder.glob("* lost a worker"))
        for each in lost:
            each.unlink()
        self.kills += (code in KILLED) + len(lost)
        self._check(done=code == 0)
        return code == 0

    def _begun(self) -> str:
        path = self._folder / "begun"
        return path.read_text() if path.exists() else ""

    def _check(self, *, done: bool) -> None:
        """See that of each task the effect, the result and what was saved are there, or all are not.

        In a copy: to open the file would tidy up what the next process has to.
        """
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("runs.db", "runs.db-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(self._folder / name, copy / name)
        with closing(sqlite3.connect(copy / "runs.db")) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
            if "task_attempts" not in tables:
                return
            completed = "SELECT task_id, value FROM task_attempts WHERE status = 'completed'"
            recorded = [(key, json.loads(value)) for key, value in database.execute(completed)]
            results = dict(recorded)
            assert len(recorded) == len(results), "a task has succeeded twice"
            assert ("ledger" in tables) == ("make" in results)
            found = (
                "SELECT task, token, count(*) FROM ledger GROUP BY task, token"
                if "ledger" in tables
                else "SELECT 1 LIMIT 0"
            )
            effects = database.execute(found).fetchall()
            saved = "SELECT task_id, value FROM checkpoints WHERE name = 'saved/token'"
            tokens = {key: json.loads(value) for key, value in database.execute(saved)}
            results.pop("make", None)
            self.seen[len(results)] += 1
            assert {(key, token, 150 if key == "large" else 1) for key, token in results.items()} == set(
                effects
            )
            assert len(effects) == len(results), "an effect is there twice"
            assert tokens == results
            if done:
                assert results.keys() == TASKS - {"make"}


class Shelf:
    """Makes books, and counts kills."""

    def __init__(self, folder: Path, nursery: Any) -> None:
        self._folder = folder
        self._nursery = nursery
        self._all: list[Book] = []
        seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
        print(f"to replay: CRASH_SEED={seed}")
        self.chance = random.Random(seed)

    def new(self, mode: str, durability: str = "process") -> Book:
        self._all.append(Book(self._folder / f"book {len(self._all)}", self._nursery, mode, durability))
        return self._all[-1]

    @property
    def kills(self) -> int:
        return sum(each.kills for each in self._all)


@pytest.fixture
def shelf(tmp_path: Path, nursery: Any) -> Shelf:
    return Shelf(tmp_path, nursery)


def sweep(shelf: Shelf, mode: str, durability: str, every: int = 1) -> None:
    """Each process of one run dies at a later statement of its transactions, until one completes it."""
    book = shelf.new(mode, durability)
    for number in range(1, MOST, every):
        if book.start("statement", number):
            return
    raise AssertionError("a run has more statements than it should")


@pytest.mark.parametrize("mode", MODES)
def test_effect_and_result_are_both_there_or_both_not_after_a_death_at_any_statement(
    shelf: Shelf, mode: str
) -> None:
    sweep(shelf, mode, "process", 8 if mode == "sequential" else 18)
    assert shelf.kills


@pytest.mark.parametrize("mode", MODES)
def test_effect_and_result_are_both_there_or_both_not_after_a_death_around_the_commit(
    shelf: Shelf, mode: str
) -> None:
    book = shelf.new(mode)
    assert not book.start("committed", 2)
    assert not book.start("body")
    assert not book.start("ends")
    assert book.start()


@pytest.mark.parametrize("mode", IN_WORKERS)
@pytest.mark.parametrize("place", PLACES)
def test_a_worker_that_dies_alone_leaves_both_or_neither_and_its_run_goes_on(
    shelf: Shelf, mode: str, place: str
) -> None:
    book = shelf.new(mode)
    assert book.start(place, 2, "worker")
    assert book.kills == 1


def interrupted_writes(shelf: Shelf, mode: str, durability: str, kills: int) -> None:
    until = shelf.kills + kills
    while shelf.kills < until:
        book = shelf.new(mode, durability)
        while not book.start(size=shelf.chance.randrange(20_000, shelf.chance.choice([200_000, 4_000_000]))):
            if book.kills > 5:
                assert book.start()
                break


def test_a_death_in_the_middle_of_a_write_leaves_both_or_neither(shelf: Shelf) -> None:
    interrupted_writes(shelf, "sequential", "process", 5)


def random_moments(shelf: Shelf, mode: str, durability: str, kills: int) -> None:
    until = shelf.kills + kills
    while shelf.kills < until:
        book = shelf.new(mode, durability)
        while not book.start(after=(shelf.chance.choice([0, 1, 1, 2]), shelf.chance.uniform(0, 0.012))):
            pass


@pytest.mark.parametrize("mode", ["thread", "spawn"])
def test_a_death_at_a_random_moment_leaves_both_or_neither(shelf: Shelf, mode: str) -> None:
    random_moments(shelf, mode, "process", 5)


# All of it takes minutes. Together they kill 550 times and more, on a machine of any speed


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", MODES)
def test_effect_and_result_are_both_there_or_both_not_after_deaths_at_every_statement(
    shelf: Shelf, mode: str
) -> None:
    sweep(shelf, mode, "full")
    for place in PLACES:
        for number in range(1, 7):
            book = shelf.new(mode, "full")
            assert book.start(place, number) or book.start()
    random_moments(shelf, mode, "full", max(40, 60 - shelf.kills))
    assert shelf.kills >= 60


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", IN_WORKERS)
def test_workers_that_die_alone_leave_both_or_neither_every_time(shelf: Shelf, mode: str) -> None:
    for place in ["statement", *PLACES]:
        for number in range(1, 13):
            book = shelf.new(mode)
            assert book.start(place, number, "worker")
    while shelf.kills < 15:
        assert shelf.new(mode).start("body", 1, "worker")  # the first body is always there


@pytest.mark.crash
@pytest.mark.timeout(1800)
def test_deaths_of_processes_with_spawned_workers_leave_both_or_neither(shelf: Shelf) -> None:
    random_moments(shelf, "spawn", "process", 60)


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("durability", ["full", "process"])
@pytest.mark.parametrize("mode", ["sequential", "thread"])
def test_deaths_in_the_middle_of_writes_leave_both_or_neither(
    shelf: Shelf, mode: str, durability: str
) -> None:
    interrupted_writes(shelf, mode, durability, 40)
