"""Runs in which workers die and bodies hang are stopped at random moments, and go on to the right end.

`CRASH_SEED=... pytest tests/crash/test_stops.py` replays the moments of a test that failed; its output names the
seed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import dotflow_like
from dotflow_like import Config, FileStorage, IllegalMove, RetryPolicy, RunStatus, Workflow, task

ITEMS = 30


def life(folder: Path, choices: random.Random) -> None:
    """Stop one run again and again until it has completed; what was done is done once."""
    folder.mkdir()
    ledger, seed = folder / "ledger", choices.random()

    def body(i: int, ctx: Any) -> Any:
        chance = random.Random(f"{seed} {i} {ctx.attempt.number}")
        mischief = chance.choice(["none"] * 6 + ["exit", "kill", "raise", "hang", "slow"])
        if ctx.attempt.number % 3 == 0 or mischief in ("none", "slow"):
            time.sleep(0.02 if mischief == "slow" else 0)
            data = chance.randbytes(chance.choice([10, 1000, 200_000]))
            with ledger.open("ab", buffering=0) as file:
                file.write(b"%d\n" % i)
            return i, len(data), data
        if mischief == "hang":
            time.sleep(600)
        if mischief == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if mischief == "raise":
            raise ValueError(i)
        os._exit(3)

    one = task(body, name="m", timeout=0.2, retry=RetryPolicy(3, worker_deaths=3)).map(i=range(ITEMS))
    total = task(lambda parts: sum(size for _, size, _ in parts), name="total").bind(parts=one)
    workflow = Workflow([one, total])
    options: dict[str, Any] = {
        "workflow_id": "w",
        "mode": "parallel",
        "max_workers": choices.choice([1, 2, 4]),
        "config": Config(FileStorage(folder / "kept", durability="process"), grace=choices.choice([0, 5])),
        "keep_going": choices.choice([True, False]),
        "on_failure": lambda tasks: None,
        "resume": True,
    }
    completed: dict[str, Any] = {}
    stops = 4
    while True:
        run = workflow.start(**options)
        if stops:
            stops -= 1
            time.sleep(choices.uniform(0, 0.3))
            word = choices.choice(["pause", "cancel"])
            with suppress(IllegalMove):  # it has ended
                if choices.random() < 0.5:
                    getattr(run, word)()
                else:  # through the journal
                    getattr(dotflow_like, word)("w", config=options["config"])
        run.wait(60)
        before = completed
        completed = {each.task_id: each.result for each in run["m"].items or () if each.status == "completed"}
        assert before.items() <= completed.items()
        if run.status is RunStatus.COMPLETED:
            break
    parts = run["m"].result
    assert [i for i, _, _ in parts] == list(range(ITEMS))
    assert all(size == len(data) for _, size, data in parts)
    assert run["total"].result == sum(size for _, size, _ in parts)
    done = sorted(map(int, ledger.read_text().split()))
    if options["config"].grace:
        assert done == list(range(ITEMS))
    else:  # a body may have been killed when it had done its work
        assert sorted(set(done)) == list(range(ITEMS))


def lives(folder: Path, count: int, processes: Any, until: Any) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"to replay: CRASH_SEED={seed}")
    choices = random.Random(seed)
    for number in range(count):
        life(folder / str(number), choices)
        until(lambda: not processes.strays(), "the end of what the bodies started", 10)


def test_what_stops_and_dies_goes_on_to_the_right_end(tmp_path: Path, processes: Any, until: Any) -> None:
    lives(tmp_path, 1, processes, until)


@pytest.mark.crash
def test_what_stops_and_dies_goes_on_to_the_right_end_many_times(
    tmp_path: Path, processes: Any, until: Any
) -> None:
    lives(tmp_path, 50, processes, until)
