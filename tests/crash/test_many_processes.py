"""Many processes on one database: all succeed, and what each sees is whole."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import dotflow_like

PACKAGE = str(Path(dotflow_like.__file__).parent.parent)

COMMON = """
import json, os, random, sys, threading, time, traceback
from datetime import UTC, datetime

from dotflow_like.model.records import NO_METADATA, Attempt, Checkpoint, RunRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Encoded
from dotflow_like.record.sql import SqlJournal
from dotflow_like.record.sql_statements import MIGRATIONS
from dotflow_like.record.sqlite import Database

path, rest = sys.argv[1], sys.argv[2:]

def journal():
    return SqlJournal(Database(path, "process", path + "-locks", MIGRATIONS), JsonCodec())

def children(number, body):
    # real processes, that are all there before the first begins
    gate, begin = os.pipe()
    pids = []
    for i in range(number):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(begin)
                os.read(gate, 1)
                body(i)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        pids.append(pid)
    os.close(gate)
    os.close(begin)
    return sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in pids)
"""

OPENING = (
    COMMON
    + """
def body(i):
    mine = journal()
    now = datetime.now(UTC)
    assert mine.create(RunRecord(f"r{i}", "workflow", None, {}, "sequential", RunStatus.PENDING, now))
    mine.claim(f"r{i}", f"host:{i}:x", now)
    mine.database.close()

raise SystemExit(children(int(rest[0]), body))
"""
)

MIGRATING = (
    COMMON
    + """
VERSIONS = (
    ("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)",
     "CREATE TABLE notes (number INTEGER PRIMARY KEY)"),
    ("ALTER TABLE notes ADD COLUMN text TEXT", "UPDATE notes SET text = 'old'"),
    ("CREATE TABLE counts (number INTEGER)", "INSERT INTO counts SELECT count(*) FROM notes"),
)
first = Database(path, "process", path + "-locks", VERSIONS[:1])
first.write(lambda connection: connection.execute("INSERT INTO notes VALUES (-1)"))
first.close()

def body(i):
    mine = Database(path, "process", path + "-locks", VERSIONS)
    mine.write(lambda connection: connection.execute("INSERT INTO notes VALUES (?, 'new')", (i,)))
    assert mine.read("SELECT number FROM counts") == [[(1,)]]
    assert mine.read("SELECT text FROM notes WHERE number = -1") == [[("old",)]]
    mine.close()

raise SystemExit(children(int(rest[0]), body))
"""
)

TRAFFIC = (
    COMMON
    + """
writers, readers, threads, seconds = int(rest[0]), int(rest[1]), int(rest[2]), float(rest[3])
RUNNING, COMPLETED, SUCCESS = AttemptStatus.RUNNING, AttemptStatus.COMPLETED, AttemptOutcome.SUCCESS
until = time.monotonic() + seconds

def write(i):
    mine, run, now = journal(), f"r{i}", datetime.now(UTC)
    assert mine.create(RunRecord(run, "workflow", None, {}, "sequential", RunStatus.PENDING, now))
    claim = mine.claim(run, f"host:{i}:x", now)
    def attempt(number):
        return Attempt(run, f"t{number}", 1, RUNNING, None, now, now, None, claim.owner, claim.fence, None, None, NO_METADATA, 1)
    number, last, longest = 0, attempt(0), 0.0
    mine.commit(claim, [last])
    while time.monotonic() < until:
        closed = last._replace(status=COMPLETED, outcome=SUCCESS, finished_at=now)
        value = Encoded(json.dumps([i, number] * (1 + number % 300)).encode())
        last = attempt(number + 1)
        begun = time.monotonic()
        mine.commit(claim, [closed, Checkpoint(f"t{number}", "result", value, {}, "c"), last])
        longest = max(longest, time.monotonic() - begun)
        number += 1
        if number % 100 == 0 and i % 4 == 0:
            mine.database.close()  # with the checkpoint that may make
    mine.database.close()
    os.write(1, json.dumps([run, number, longest]).encode() + b"\\n")  # in one piece

def read(seed):
    mine, choices, seen, reads = journal(), random.Random(seed), {}, 0
    while time.monotonic() < until:
        i = choices.randrange(writers)
        run = f"r{i}"
        if mine.run(run) is None:
            assert run not in seen
            continue
        number = seen.get(run, 0)
        keys = [f"t{n}" for n in range(max(0, number - 1), number + 10)]
        found = mine.tasks(run, keys)
        for key, record in found.items():
            at = int(key[1:])
            last = record.attempts[-1]
            assert (last.status is COMPLETED) == ("result" in record.checkpoints), "torn"
            if last.status is RUNNING:
                assert f"t{at + 1}" not in found, "the next one began in the commit that ended this one"
                continue
            assert f"t{at + 1}" in found or key == keys[-1], "the end of one came without the begin of the next"
            assert record.checkpoints["result"].value.load() == [i, at] * (1 + at % 300)
            number = max(number, at + 1)
        assert number >= seen.get(run, 0)
        assert not seen.get(run) or f"t{seen[run] - 1}" in found, "what was there is gone"
        seen[run] = number
        reads += 1
    mine.database.close()
    assert reads

def body(i):
    if i < writers:
        return write(i)
    errors = []
    def guarded(seed):
        try:
            read(seed)
        except BaseException:
            errors.append(traceback.format_exc())
    group = [threading.Thread(target=guarded, args=(f"{i}/{n}",)) for n in range(threads)]
    for thread in group:
        thread.start()
    for thread in group:
        thread.join()
    if errors:
        raise AssertionError(errors[0])

raise SystemExit(children(writers + readers // threads, body))
"""
)


def run(code: str, path: Path, *arguments: object, seconds: float = 100) -> list[Any]:
    """Run a program, and return the JSON it prints."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            code,
            str(path),
            *map(str, arguments),
        ],
        env={**os.environ, "PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def plain(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def open_at_once(folder: Path, rounds: int) -> None:
    for i in range(rounds):
        path = folder / str(i) / "deep" / "runs.db"
        run(OPENING, path, 32)
        assert plain(path, "SELECT count(*), min(fence), max(fence) FROM workflow_runs") == [(32, 1, 1)]
        assert plain(path, "PRAGMA journal_mode") == [("wal",)]
        assert plain(path, "PRAGMA integrity_check") == [("ok",)]


def test_all_of_32_that_open_a_new_file_at_once_succeed(tmp_path: Path) -> None:
    open_at_once(tmp_path, 3)


@pytest.mark.crash
@pytest.mark.timeout(1200)
def test_all_of_32_that_open_a_new_file_at_once_succeed_200_times(tmp_path: Path) -> None:
    open_at_once(tmp_path, 200)


@pytest.mark.parametrize("number", [2, 8])
def test_processes_that_migrate_at_once_migrate_once(tmp_path: Path, number: int) -> None:
    path = tmp_path / "runs.db"
    run(MIGRATING, path, number)
    assert plain(path, "SELECT count(*) FROM notes WHERE text = 'new'") == [(number,)]
    assert plain(path, "SELECT version FROM schema_version") == [(1,), (2,), (3,)]
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]


def check_traffic(path: Path, seconds: float) -> None:
    told = run(TRAFFIC, path, 16, 64, 8, seconds, seconds=seconds + 90)
    assert len(told) == 16
    for name, number, _ in told:
        assert number
        query = f"SELECT count(*) FROM task_attempts WHERE workflow_id = '{name}' AND status = 'completed'"
        assert plain(path, query) == [(number,)]
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]
    print(
        f"{sum(number for _, number, _ in told)} commits, the longest {max(longest for *_, longest in told):.3f} s"
    )


def test_16_writers_and_64_readers_get_on(tmp_path: Path) -> None:
    check_traffic(tmp_path / "runs.db", 2)


@pytest.mark.crash
@pytest.mark.timeout(300)
def test_16_writers_and_64_readers_get_on_for_20_seconds(tmp_path: Path) -> None:
    check_traffic(tmp_path / "runs.db", 20)
