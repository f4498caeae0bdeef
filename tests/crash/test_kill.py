"""Processes are killed at random moments and started again: nothing recorded is lost, changed or done twice.

Each process is killed with its group by SIGKILL. `CRASH_SEED=... pytest tests/crash` replays the moments of a
test that failed; its output names the seed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import dotflow_like
from dotflow_like.model.records import RESULT, TaskRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.keyvalue import KeyValueJournal
from dotflow_like.record.storage.files import FileStorage

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")

PACKAGE = str(Path(dotflow_like.__file__).parent.parent)
SENT = "go\n"

# Twelve tasks and a map. A body's result holds a number, which is always the same, and a token, which never is:
# a result that was computed again shows.
SCRIPT = r"""
import json, os, signal, sys, time
from dotflow_like import FileStorage, Manager, task

place, mode, fatal = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
LARGE = "x" * 70_000


def effect(ctx):
    line = f"{ctx.task_id} {ctx.attempt.number} {ctx.idempotency_key} {os.getpid()}\n"
    fd = os.open(os.path.join(place, "ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)
    time.sleep(0.003)  # the work


def value(number, **more):
    return {"number": number, "token": os.urandom(8).hex(), **more}


def made(name, *needs, large=False):
    def body(ctx, given):
        effect(ctx)
        more = {"pad": LARGE} if large else {}
        return value(1 + sum(each["number"] for each in given), **more)

    return task(body, name=name).bind(given=list(needs))


@task
def parts(ctx):
    effect(ctx)
    return [1, 2, 3, 4, 5]


@task
def square(ctx, x, by):
    effect(ctx)
    return value(x * x * by["number"])


a, b, c = made("a"), made("b", large=True), made("c")
d, e = made("d", a, b), made("e", b, c)
f, g, h = made("f", d), made("g", d, e, large=True), made("h", e)
squares = square.bind(by=f).map(x=parts)
total = made("total", g).with_options(name="i")


@task
def gather(ctx, given, squares):
    effect(ctx)
    return value(given["number"] + sum(each["number"] for each in squares))


j = gather.bind(given=total, squares=squares)
last = made("last", j, h)


class Fatal(FileStorage):
    # kills its process before or after one of its writes
    def put(self, key, data, **more):
        if fatal is None:
            return super().put(key, data, **more)
        fatal[0] -= 1
        if fatal == [0, "before"]:
            os.kill(os.getpid(), signal.SIGKILL)
        done = super().put(key, data, **more)
        if fatal == [0, "after"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return done


print("go", flush=True)
run = Manager(
    [a, b, c, d, e, f, g, h, parts, squares, total, j, last],
    workflow_id="job",
    storage=Fatal(os.path.join(place, "kept"), durability="process"),
    resume=True,
    mode=mode,
    max_workers=2 if mode == "parallel" else None,
).wait()
run.raise_for_failure()
numbers = {
    name: [each["number"] for each in result] if name == "square" else result["number"]
    for name, result in run.results.items()
    if name != "parts"
}
print(json.dumps(numbers), flush=True)  # a few bytes, so that nobody has to read them for the process to end
"""

NUMBERS = {"a": 1, "b": 1, "c": 1, "d": 3, "e": 3, "f": 4, "g": 7, "h": 4, "i": 8, "gather": 228, "last": 233}
KEYS = {*NUMBERS, "parts", *(f"square[{at}]" for at in range(5))}
MODES = ["sequential", "background", "parallel"]


class Effect(NamedTuple):
    """A line of the ledger."""

    key: str
    number: str
    idempotency_key: str
    pid: int


class Moment(NamedTuple):
    """When to kill a process: so many seconds after so many effects; with none, after it began to work."""

    effects: int
    seconds: float

    @classmethod
    def chosen(cls, moments: random.Random) -> Moment:
        effects = moments.choice([0, 1, 1, 2, 2, 3, 5, 8])
        return cls(effects, moments.uniform(0, 0.008 if effects else 0.1))


class Life:
    """One run, from its first start to its end, however often its process is killed."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.mode = mode
        self.kills = 0
        self.recorded: dict[str, bytes] = {}
        self._effects_when_recorded: Counter[str] = Counter()
        folder.mkdir(parents=True)
        (folder / "job.py").write_text(SCRIPT)

    def start(self, moment: Moment | None = None, fatal: tuple[int, str] | None = None) -> bool:
        """Run the script, and kill its group at a moment. Return whether it completed."""
        already = self._ledger_lines()
        process = subprocess.Popen(
            [sys.executable, str(self.folder / "job.py"), str(self.folder), self.mode, json.dumps(fatal)],
            env={**os.environ, "PYTHONPATH": PACKAGE},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == SENT
            if moment is not None:
                while process.poll() is None and self._ledger_lines() < already + moment.effects:
                    time.sleep(0.0005)
                try:
                    process.wait(moment.seconds)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        if process.returncode == -signal.SIGKILL:
            self.kills += 1
            self._look()
            return False
        assert process.returncode == 0, err
        self._look()
        self._check_the_end(json.loads(out))
        return True

    def _ledger_lines(self) -> int:
        ledger = self.folder / "ledger"
        return ledger.read_bytes().count(b"\n") if ledger.exists() else 0

    def effects(self) -> list[Effect]:
        ledger = self.folder / "ledger"
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        fields = [line.rsplit(" ", 3) for line in lines]
        return [Effect(key, number, name, int(pid)) for key, number, name, pid in fields]

    def records(self) -> dict[str, TaskRecord]:
        journal = KeyValueJournal(FileStorage(self.folder / "kept"), JsonCodec())
        return journal.tasks("job", journal.task_keys("job"))

    def _look(self) -> None:
        """See that what was recorded is there still, as it was, and that its effects were not repeated."""
        effects = Counter(each.key for each in self.effects())
        found = self.records()
        results = {
            key: json.dumps(record.checkpoints[RESULT].value.load()).encode()
            for key, record in found.items()
            if RESULT in record.checkpoints
        }
        for key, record in found.items():
            won = [each for each in record.attempts if each.outcome is AttemptOutcome.SUCCESS]
            assert len(won) == (key in results), record
        for key, result in self.recorded.items():
            assert results.get(key) == result, f"the result of {key} was lost or changed"
            assert effects[key] == self._effects_when_recorded[key], f"{key} ran again after it was recorded"
        for key in results.keys() - self.recorded.keys():
            self.recorded[key] = results[key]
            self._effects_when_recorded[key] = effects[key]

    def _check_the_end(self, told: dict[str, Any]) -> None:
        journal = KeyValueJournal(FileStorage(self.folder / "kept"), JsonCodec())
        run = journal.run("job")
        assert run is not None
        assert run.status is RunStatus.COMPLETED
        assert told == NUMBERS | {"square": [4, 16, 36, 64, 100]}
        records = self.records()
        assert records.keys() == KEYS == self.recorded.keys()
        by_key: dict[str, list[Effect]] = {}
        for effect in self.effects():
            by_key.setdefault(effect.key, []).append(effect)
        assert by_key.keys() == KEYS
        for key, record in records.items():
            *earlier, last = record.attempts
            assert (last.status, last.outcome) == (AttemptStatus.COMPLETED, AttemptOutcome.SUCCESS)
            for each in earlier:
                assert (each.status, each.outcome) == (AttemptStatus.FAILED, AttemptOutcome.RECOVERED)
                assert each.finished_at is not None
            assert [each.number for each in record.attempts] == list(range(1, len(record.attempts) + 1))
            assert len(record.attempts) <= 1 + self.kills
            assert record.generation == 1
            effects = by_key[key]
            assert 1 <= len(effects) <= 1 + self.kills
            assert len({each.number for each in effects}) == len(effects), f"an attempt of {key} ran twice"
            assert {each.idempotency_key for each in effects} == {f"job/{key}/g1"}
        self._wait_until_all_are_gone()

    def _wait_until_all_are_gone(self) -> None:
        pids = {each.pid for each in self.effects()}
        deadline = time.monotonic() + 30
        while pids := {pid for pid in pids if _is_alive(pid)}:
            assert time.monotonic() < deadline, f"processes {pids} outlived their run"
            time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone; or its number is somebody else's by now
        return False
    if not Path("/proc/self").exists():
        return True
    try:  # a process that has ended may wait for somebody to take note of it
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def torture(folder: Path, mode: str, kills: int) -> None:
    """Kill runs of a mode `kills` times in all, at random moments; each goes on until it is done."""
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"to replay: CRASH_SEED={seed}")
    moments = random.Random(seed)
    done, lives = 0, 0
    while done < kills:
        life = Life(folder / f"life {lives}", mode)
        lives += 1
        while not life.start(Moment.chosen(moments) if done + life.kills < kills else None):
            pass
        done += life.kills
        assert lives < 5 * kills + 10, "the moments are so late that nothing is killed"


@pytest.mark.parametrize("mode", MODES)
def test_what_is_recorded_survives_a_kill_at_any_moment(tmp_path: Path, mode: str) -> None:
    torture(tmp_path, mode, kills=8)


@pytest.mark.crash
@pytest.mark.parametrize("mode", MODES)
def test_what_is_recorded_survives_many_kills(tmp_path: Path, mode: str) -> None:
    torture(tmp_path, mode, kills=100)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_dies_at_a_write_is_taken_over(tmp_path: Path, moment: str) -> None:
    life = Life(tmp_path / "life", "sequential")
    for put in (1, 2, 3, 4, 9):
        assert not life.start(fatal=(put, moment))
    assert life.start()


@pytest.mark.crash
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("mode", MODES)
def test_a_process_that_dies_at_any_of_its_writes_is_taken_over(
    tmp_path: Path, mode: str, moment: str
) -> None:
    for put in range(1, 100):
        life = Life(tmp_path / str(put), mode)
        if life.start(fatal=(put, moment)):
            assert put > 2 * len(KEYS)  # it has no more writes
            return
        assert life.start()
    raise AssertionError("a run has more writes than it should")
