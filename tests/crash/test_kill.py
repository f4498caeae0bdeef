"""Processes are killed at random moments and started again: nothing recorded is lost, changed or done twice.

Each process is killed with its group by SIGKILL: while it starts, while it works, while it takes over from one that
has only just been killed; now and then one of its workers before. `CRASH_SEED=... pytest tests/crash` replays the
moments of a test that failed; its output names the seed, and the command that started each process of its last run.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

MODES = ["sequential", "sequential_group", "background", "parallel"]
STORAGES = ["files full", "files process", "sqlite full", "sqlite process"]


def torture(lives: Any, storage: str, mode: str, kills: int, fresh: float) -> None:
    """Kill runs so many times in all, some of them (`fresh`) as new interpreters; each goes on until it is done."""
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"to replay: CRASH_SEED={seed}")
    chance = random.Random(seed)
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


@pytest.mark.crash
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", STORAGES)
def test_what_is_recorded_survives_many_kills(lives: Any, storage: str, mode: str) -> None:
    torture(lives, storage, mode, 60, 0.1)


@pytest.mark.crash
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", ["files process", "sqlite process"])
def test_what_is_recorded_survives_kills_of_processes_that_start(lives: Any, storage: str, mode: str) -> None:
    torture(lives, storage, mode, 30, 1)
