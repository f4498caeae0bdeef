"""Processes are killed at random moments and started again: nothing recorded is lost, changed or done twice.

Each process is killed with its group by SIGKILL: while it starts, while it works, while it takes over from one that
has only just been killed; now and then one of its workers before. `CRASH_SEED=... pytest tests/crash` replays the
moments of a test that failed; its output names the seed, and the command that started each process of its last run.
"""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

MODES = ["sequential", "sequential_group", "background", "parallel"]
STORAGES = ["files full", "files process", "sqlite full", "sqlite process"]


def seeded() -> random.Random:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"to replay: CRASH_SEED={seed}")
    return random.Random(seed)


def torture(lives: Any, storage: str, mode: str, kills: int, fresh: float) -> None:
    """Kill runs so many times in all, some of them (`fresh`) as new interpreters; each goes on until it is done."""
    chance = seeded()
    for _ in range(10 * kills):
        workers = chance.choice(["fork", "fork", "spawn", "thread"]) if mode == "parallel" else "fork"
        life = lives.new(storage, mode, workers=workers, pause=0.002)
        while True:
            new = chance.random() < fresh
            moment = lives.moment(chance, fresh=new) if lives.kills < kills else None
            if life.start(moment, fresh=new):
                break
        if lives.kills >= kills:
            return
    raise AssertionError("the moments are so late that nothing is killed")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_recorded_survives_a_kill_at_any_moment(lives: Any, storage: str, mode: str) -> None:
    torture(lives, storage, mode, 6, 0.25)


def beside(lives: Any, storage: str, mode: str, kills: int, store: Path) -> None:
    """Kill one run again and again, while others in the same store have to complete undisturbed."""
    chance = seeded()
    over = threading.Event()

    def quiet(number: int) -> int:
        done = 0
        while not over.is_set():
            life = lives.new(storage, "sequential", store=store, name=f"quiet-{number}-{done}", pause=0.001)
            assert life.start()
            done += 1
        return done

    with ThreadPoolExecutor() as threads:
        others = [threads.submit(quiet, number) for number in range(2)]
        killed = 0
        try:
            while killed < kills:
                life = lives.new(storage, mode, store=store, name=f"killed-{killed}", pause=0.001)
                while not life.start(
                    lives.moment(chance, fresh=False) if killed + life.kills < kills else None
                ):
                    pass
                killed += life.kills
        finally:
            over.set()
        assert all(each.result() for each in others)


@pytest.mark.parametrize("storage", ["files process", "sqlite process"])
def test_runs_beside_one_that_is_killed_notice_nothing(lives: Any, storage: str, tmp_path: Path) -> None:
    beside(lives, storage, "parallel", 8, tmp_path)


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", STORAGES)
def test_runs_beside_one_that_is_killed_many_times_notice_nothing(
    lives: Any, storage: str, mode: str, tmp_path: Path
) -> None:
    beside(lives, storage, mode, 12, tmp_path)


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_recorded_survives_many_kills(lives: Any, storage: str, mode: str) -> None:
    torture(lives, storage, mode, 40, 0.1)


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", ["files process", "sqlite process"])
def test_what_is_recorded_survives_kills_of_processes_that_start(lives: Any, storage: str, mode: str) -> None:
    torture(lives, storage, mode, 20, 1)
