"""A process dies at every single step of a run in turn, and the next one goes on with what is recorded."""

from __future__ import annotations

from typing import Any

import pytest

MODES = ["sequential", "sequential_group", "background", "parallel"]
STORAGES = ["files full", "files process", "sqlite full", "sqlite process"]
STEPS = {"files": "touch", "sqlite": "statement"}
MOST = 2000  # steps of a run, and more than it has


def sweep(lives: Any, storage: str, mode: str, place: str, **options: Any) -> None:
    """One life for each time a run comes to a place: it dies there, and the next process completes it."""
    for number in range(1, MOST):
        life = lives.new(storage, mode, **options)
        if life.start(place=place, number=number):
            return
        assert life.start()
    raise AssertionError("a run has more steps than it should")


def ascent(lives: Any, storage: str, mode: str, place: str, **options: Any) -> None:
    """One life: its first process dies at its first step, the second one at its second, until one completes."""
    life = lives.new(storage, mode, **options)
    for number in range(1, MOST):
        if life.start(place=place, number=number):
            return
    raise AssertionError("a run has more steps than it should")

@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", ["files process", "sqlite process"])
def test_a(lives: Any, storage: str, mode: str) -> None:
    ascent(lives, storage, mode, STEPS[storage.split()[0]], small=True)
    print(lives.kills, lives.deaths())

@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("storage", ["files process", "sqlite process"])
def test_b(lives: Any, storage: str, mode: str) -> None:
    sweep(lives, storage, mode, STEPS[storage.split()[0]], small=True)
    print(lives.kills, lives.deaths())
