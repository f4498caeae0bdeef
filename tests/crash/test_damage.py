"""Bits of a database flip: what is read is what was written, or an error that says where; nothing runs again.

`CRASH_SEED=... pytest -m crash tests/crash/test_damage.py` replays the bits of a test that failed; its output names
the seed.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dotflow_like import Workflow, task
from dotflow_like.errors import CodecError, DotflowError, IllegalMove, StorageError
from dotflow_like.record import sqlite

FEW, MANY = 100, 5_000
"""Bits in each of two tests."""
RAN: list[str] = []
"""The bodies that ran."""
TABLES = {
    "workflow_runs": ("workflow_id",),
    "task_attempts": ("workflow_id", "task_id", "number"),
}


def body_of(name: str, value: Any) -> Any:
    def body() -> Any:
        RAN.append(name)
        return value

    return task(body, name=name)


VALUES: dict[str, Any] = {
    "none": None,
    "number": 12345678901234567890,
    "float": 0.1,
    "text": "grüße " * 20,
    "bytes": bytes(range(256)),
    "list": [[1, 2.5, None], {"a": (1, 2)}, {3, 4}],
    "large": {"data": bytes(range(251)) * 400, "rest": list(range(100))},
    "text too": "x" * 5000,
}


@task
def total(given: list[Any], number: int) -> int:
    RAN.append("total")
    return len(given) + number


BODIES = {name: body_of(name, value) for name, value in VALUES.items()}
WORKFLOW = Workflow([*BODIES.values(), total.bind(given=BODIES["list"], number=3)], name="values")
RIGHT = {**VALUES, "total": 6}


@task
def fails() -> None:
    RAN.append("fails")
    raise ValueError("as ever")


UNFINISHED = Workflow([*BODIES.values(), fails, total.bind(given=BODIES["list"], number=3)], name="values")


class Outcome(NamedTuple):
    """What became of a run that was resumed over damage.

    Attributes:
        error: what was raised, if anything was.
        wrong: the tasks whose results are not what was recorded.
        again: the tasks whose bodies ran once more, of those that were done.
    """

    error: DotflowError | None
    wrong: list[str]
    again: list[str]


class Store:
    """A database with runs in it, one done and one not, that can be damaged and made whole again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}?durability=process"
        for workflow, workflow_id in ((WORKFLOW, "done"), (UNFINISHED, "unfinished"), (WORKFLOW, "other")):
            workflow.run(
                storage=self.url, workflow_id=workflow_id, keep_going=True, on_failure=lambda tasks: None
            )
        sqlite._close_all()
        self.whole = path.read_bytes()
        with closing(sqlite3.connect(path)) as connection:
            self.columns = {
                table: [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
                for table in TABLES
            }
            self.rows = {
                table: connection.execute(f"SELECT {', '.join(key)} FROM {table}").fetchall()
                for table, key in TABLES.items()
            }

    def make_whole(self) -> None:
        sqlite._close_all()
        for ending in ("-wal", "-shm"):
            Path(f"{self.path}{ending}").unlink(missing_ok=True)
        self.path.write_bytes(self.whole)

    def resume(self, workflow_id: str, **options: Any) -> Outcome:
        """Resume a run, and look at everything."""
        workflow = UNFINISHED if workflow_id == "unfinished" else WORKFLOW
        RAN.clear()
        results: dict[str, Any] = {}
        error = None
        try:
            run = workflow.run(
                storage=self.url,
                workflow_id=workflow_id,
                resume=True,
                keep_going=True,
                on_failure=lambda tasks: None,
                **options,
            )
            for each in run.tasks:
                if each.task_id != "fails":
                    results[each.task_id] = each.result
        except DotflowError as raised:
            error = raised
        wrong = [name for name, value in results.items() if not is_same(value, RIGHT[name])]
        if error is None and results.keys() != RIGHT.keys():
            wrong.append("some are missing")
        return Outcome(error, wrong, [name for name in RAN if name != "fails"])


def is_same(value: Any, right: Any) -> bool:
    return type(value) is type(right) and value == right and repr(value) == repr(right)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    logging.disable()  # pytest keeps every record
    yield Store(tmp_path / "runs.db")
    logging.disable(logging.NOTSET)
    sqlite._close_all()


@pytest.fixture
def choices() -> random.Random:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"to replay: CRASH_SEED={seed}")
    return random.Random(seed)


def flip(data: bytes, at: int) -> bytes:
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def flipped_cell(store: Store, choices: random.Random) -> str:
    """Flip a bit of one column of one row, and say where; as SQL, so that nothing else is harmed."""
    with closing(sqlite3.connect(store.path)) as connection:
        while True:
            table = choices.choice(["task_attempts"] * 4 + ["workflow_runs"])
            column, key = choices.choice(store.columns[table]), choices.choice(store.rows[table])
            where = " AND ".join(f"{name} = ?" for name in TABLES[table])
            query = f"SELECT typeof({column}), CAST({column} AS BLOB), {column} FROM {table} WHERE {where}"
            ((kind, data, value),) = connection.execute(query, key)
            if kind == "integer":
                new: Any = value ^ 1 << choices.randrange(16)
            elif data:
                new = flip(data, choices.randrange(8 * len(data)))
            else:
                continue
            as_it_is = "CAST(? AS TEXT)" if kind == "text" else "?"
            connection.execute(f"UPDATE {table} SET {column} = {as_it_is} WHERE {where}", (new, *key))
            connection.commit()
            return f"{table}.{column} of {key}"


def check(store: Store, outcome: Outcome, what: str, counts: Counter[str]) -> None:
    assert outcome.wrong == [], what
    assert outcome.again == [], what
    if outcome.error is None:
        counts["harmless"] += 1
        return
    counts[type(outcome.error).__name__] += 1
    assert isinstance(outcome.error, StorageError | CodecError | IllegalMove), (what, outcome.error)
    text = str(outcome.error)
    named = ("done", "unfinished", str(store.path))
    assert any(each in text for each in named), (what, text)


def flip_cells(store: Store, choices: random.Random, number: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for _ in range(number):
        what = flipped_cell(store, choices)
        policy = choices.choice(["reuse", "reset"])
        for workflow_id in ("done", "unfinished"):
            outcome = store.resume(
                workflow_id, on_input_change=policy, on_code_change="rerun" if policy == "reset" else "reuse"
            )
            check(store, outcome, what, counts)
        store.make_whole()
    return counts


def test_bits_of_rows(store: Store, choices: random.Random) -> None:
    print(flip_cells(store, choices, FEW))


@pytest.mark.crash
@pytest.mark.timeout(3600)
def test_many_bits_of_rows(store: Store, choices: random.Random) -> None:
    print(flip_cells(store, choices, MANY))


def flip_pages(store: Store, choices: random.Random, number: int) -> Counter[str]:
    counts: Counter[str] = Counter()
    for _ in range(number):
        at = choices.randrange(8 * len(store.whole))
        store.path.write_bytes(flip(store.whole, at))
        for workflow_id in ("done", "unfinished"):
            outcome = store.resume(workflow_id)
            # a row may be lost where a bit misleads the search for it, and then its body runs again
            counts["ran again"] += bool(outcome.again)
            check(store, outcome._replace(again=[]), f"bit {at}", counts)
        store.make_whole()
    assert counts["ran again"] <= max(1, number // 200)
    return counts


def test_bits_of_the_file(store: Store, choices: random.Random) -> None:
    print(flip_pages(store, choices, FEW))


@pytest.mark.crash
@pytest.mark.timeout(3600)
def test_many_bits_of_the_file(store: Store, choices: random.Random) -> None:
    print(flip_pages(store, choices, MANY))


def test_bits_of_a_log_that_was_left_behind(store: Store, choices: random.Random) -> None:
    """SQLite ends where a log is damaged: what comes after is as if it had never been written, and nothing is wrong."""
    code = "import os, sys, test_damage; test_damage.leave_a_log(sys.argv[1])"
    path = store.path.with_name("left.db")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=60, env=environment)
    left = Store.__new__(Store)
    left.path, left.url = path, f"sqlite:///{path}?durability=process"
    whole, log = path.read_bytes(), Path(f"{path}-wal").read_bytes()
    assert log
    for _ in range(20):
        sqlite._close_all()
        path.write_bytes(whole)
        Path(f"{path}-shm").unlink(missing_ok=True)
        Path(f"{path}-wal").write_bytes(flip(log, choices.randrange(8 * len(log))))
        outcome = left.resume("done")
        assert outcome.wrong == []


def leave_a_log(path: str) -> None:
    """Run to the end, and be gone without closing anything."""
    WORKFLOW.run(storage=f"sqlite:///{path}?durability=process", workflow_id="done")
    os._exit(0)


def test_whole_it_is_whole(store: Store) -> None:
    for workflow_id in ("done", "unfinished", "done"):
        assert store.resume(workflow_id) == Outcome(None, [], [])
