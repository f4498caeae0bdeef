"""A process dies at each single step of a run in turn, and the next one goes on with what is recorded.

The steps, all of a process that is at work in tests/crash/harness/job.py:

- each statement of SQL: before it begins, so a transaction is left before, between and after its statements;
- each touch of a file: before it is opened, locked, renamed, ...; with files as storage that is around each write;
- the size of a file: in the middle of the write that makes it larger;
- places in the program: around encodings, bodies, callbacks; in bodies around items, steps, and what they say.

A test that fails has printed the command that starts each process of its last run. `CRASH_SEED=...` replays what is
chosen at random; the output names the seed.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

MODES = ["sequential", "sequential_group", "background", "parallel"]
STORAGES = ["files full", "files process", "sqlite full", "sqlite process"]
BOTH = ["files process", "sqlite process"]
STEPS = {"files": ["touch"], "sqlite": ["statement", "touch"]}
PLACES = [
    "run begins", "body begins", "body ends", "encoding begins", "encoding ends", "callback begins", "callback ends",
    "on_success", "run ends",
]  # fmt: skip
SPOKEN = [  # places in bodies that save something, or say what shall happen next
    "item begins", "step begins", "step ends", "step is kept", "item ends", "signal begins", "request is made",
]  # fmt: skip
STATEMENTS = [
    "PRAGMA", "CREATE", "INSERT schema_version", "BEGIN", "COMMIT", "SELECT", "INSERT workflow_runs",
    "UPDATE workflow_runs", "INSERT task_attempts", "UPDATE task_attempts", "INSERT checkpoints", "DELETE checkpoints",
    "UPDATE workflow_runs request",
]  # fmt: skip
TOUCHES = {
    "files": [
        "fcntl.flock",
        "open",
        "os.fsync",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.scandir",
        "os.write",
    ],
    "sqlite": ["fcntl.flock", "open", "os.mkdir", "os.write", "sqlite3.connect"],
}
MOST = 2000  # steps of a run, and more than it has


def sweep(
    lives: Any, place: str, storage: str, mode: str, every: int = 1, first: int = 1, **options: Any
) -> None:
    """One life for each step: its process dies there, and the next one completes the run."""
    for number in range(first, MOST, every):
        life = lives.new(storage, mode, **options)
        if life.start(place=place, number=number):
            return
        assert life.start()
    raise AssertionError("a run has more steps than it should")


def ascent(lives: Any, place: str, storage: str, mode: str, **options: Any) -> None:
    """One life: its first process dies at its first step, the next one at its second, until one completes."""
    life = lives.new(storage, mode, **options)
    for number in range(1, MOST):
        if life.start(place=place, number=number):
            return
    raise AssertionError("a run has more steps than it should")


def steps(storage: str) -> list[str]:
    return STEPS[storage.partition(" ")[0]]


def seeded() -> random.Random:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"to replay: CRASH_SEED={seed}")
    return random.Random(seed)


@pytest.mark.parametrize("kind", ["files", "sqlite"])
def test_the_run_goes_on_after_a_death_at_each_sort_of_step(lives: Any, kind: str) -> None:
    places = [f"touch: {each}" for each in TOUCHES[kind]]
    if kind == "sqlite":
        places += [f"statement: {each}" for each in STATEMENTS]
    for place in places:
        life = lives.new(f"{kind} full", "sequential", job="speaking")
        assert not life.start(place=place), f"the harness does not reach {place}"
        assert life.start(place=place, number=2) or life.start()
    assert {way for way, _ in lives.deaths()} == set(places)


def test_the_run_goes_on_after_a_death_at_any_statement(lives: Any) -> None:
    sweep(lives, "statement", "sqlite process", "sequential", every=4, job="small")
    sweep(lives, "statement", "sqlite process", "sequential", every=24, job="speaking")


@pytest.mark.parametrize(
    ("storage", "mode"),
    [
        ("files process", "background"),
        ("files process", "parallel"),
        ("sqlite process", "sequential"),
        ("sqlite process", "sequential_group"),
        ("sqlite process", "parallel"),
    ],
)
def test_the_run_goes_on_after_deaths_at_one_step_after_another(lives: Any, storage: str, mode: str) -> None:
    for place in steps(storage):
        ascent(lives, place, storage, mode, job="speaking" if mode == "parallel" else "small")


@pytest.mark.parametrize(
    ("storage", "mode"),
    [
        ("files process", "background"),
        ("files process", "parallel"),
        ("sqlite process", "sequential"),
        ("sqlite process", "parallel"),
    ],
)
def test_the_run_goes_on_after_a_death_at_a_place(lives: Any, storage: str, mode: str) -> None:
    for place in PLACES:
        ascent(lives, place, storage, mode, job="small")
    for place in SPOKEN:
        ascent(lives, place, storage, mode, job="speaking")
    assert {way for way, _ in lives.deaths()} == {*PLACES, *SPOKEN}


@pytest.mark.parametrize("workers", ["fork", "spawn"])
@pytest.mark.parametrize("storage", BOTH)
def test_the_run_goes_on_when_a_worker_alone_dies(lives: Any, storage: str, workers: str) -> None:
    places = ["body begins", "body ends", "encoding begins", "encoding ends", *SPOKEN]
    for place in places[:: 2 if workers == "fork" else 5]:
        life = lives.new(storage, "parallel", workers=workers, job="speaking")
        assert life.start(place=place, who="worker")
        assert life.deaths == [f"{place}, in a worker alone"]


@pytest.mark.parametrize(
    ("storage", "mode"), [("files process", "background"), ("sqlite process", "sequential")]
)
def test_the_run_goes_on_after_a_death_in_the_middle_of_a_write(lives: Any, storage: str, mode: str) -> None:
    interrupted_writes(lives, storage, mode, 6)


def interrupted_writes(lives: Any, storage: str, mode: str, kills: int) -> None:
    chance = seeded()
    while lives.kills < kills:
        life = lives.new(storage, mode)
        while not life.start(size=chance.randrange(chance.choice([500, 5_000, 50_000, 500_000]))):
            if lives.kills % 3 == 0:
                assert life.start()
                break


@pytest.mark.parametrize("storage", BOTH)
def test_a_run_known_by_its_key_goes_on_after_deaths_at_one_step_after_another(
    lives: Any, storage: str
) -> None:
    for place in steps(storage):
        ascent(lives, place, storage, "sequential", job="small", by_key=True)


def fail(lives: Any, storage: str, mode: str, every: int) -> None:
    """Let a run fail, die at a step of that, and go on."""
    for place in [*steps(storage), "on_failure"]:
        for number in range(1, MOST, every):
            life = lives.new(storage, mode, job="small")
            assert not life.start(place=place, number=number, fails=True)
            assert life.start()
            if not life.kills:
                break


@pytest.mark.parametrize("storage", BOTH)
def test_a_run_that_dies_while_it_fails_goes_on(lives: Any, storage: str) -> None:
    fail(lives, storage, "sequential", 9)
    assert "on_failure" in {way for way, _ in lives.deaths()}


def start_over(lives: Any, storage: str, mode: str, every: int, job: str = "small") -> None:
    """Start a completed run over, die at a step, and go on: in a database all of it is new then, or nothing.

    In files what is new is made of what is there, at least: they cannot be changed all at once.
    """
    for place in steps(storage):
        for number in range(1, MOST, every):
            life = lives.new(storage, mode, job=job)
            assert life.start()
            if life.start(place=place, number=number, over=True):
                break
            assert life.start()


@pytest.mark.parametrize("storage", BOTH)
def test_a_run_that_dies_while_it_starts_over_ends_consistent(lives: Any, storage: str) -> None:
    start_over(lives, storage, "sequential", 14)


# All of it takes minutes


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", ["files full", "sqlite full"])
def test_the_run_goes_on_after_a_death_at_every_step(lives: Any, storage: str, mode: str) -> None:
    first = 1 + 3 * MODES.index(mode)  # so that together they die at every third
    for place in steps(storage):
        sweep(lives, place, storage, mode, job="small")
        sweep(lives, place, storage, mode, every=12, first=first, job="speaking")
        sweep(lives, place, storage, mode, every=36, first=3 * first)


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", BOTH)
def test_the_run_goes_on_after_a_death_at_every_place(lives: Any, storage: str, mode: str) -> None:
    for place in PLACES:
        sweep(lives, place, storage, mode, job="small")
    for place in SPOKEN:
        sweep(lives, place, storage, mode, job="speaking")


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", STORAGES)
def test_the_run_goes_on_after_deaths_at_random_steps(lives: Any, storage: str, mode: str) -> None:
    chance = seeded()
    while lives.kills < 40:
        life = lives.new(storage, mode)
        while not life.start(
            place=chance.choice([*steps(storage), *steps(storage), *PLACES, *SPOKEN]),
            number=chance.randrange(1, chance.choice([5, 20, 100])),
        ):
            pass


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["sequential", "background"])
@pytest.mark.parametrize("storage", STORAGES)
def test_the_run_goes_on_after_deaths_in_the_middle_of_writes(lives: Any, storage: str, mode: str) -> None:
    interrupted_writes(lives, storage, mode, 20)


@pytest.mark.crash
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", BOTH)
def test_a_run_that_dies_while_it_fails_or_starts_over_goes_on_in_every_mode(
    lives: Any, storage: str, mode: str
) -> None:
    fail(lives, storage, mode, 9)
    start_over(lives, storage, mode, 9)
    start_over(lives, storage, mode, 36, job="speaking")
