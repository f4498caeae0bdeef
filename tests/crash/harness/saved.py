"""What has to be true of what the bodies of killed processes have saved: steps, items, checkpoints."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import NamedTuple

from crash_harness.rows import Rows

WALK = "walk"
ITEMS = [1, 2, 3]
_STEP, _CURSOR = "step/items#1/draw#1", "cursor/items#1"


class Line(NamedTuple):
    """A line of the ledgers of the task `walk`: the call of an item's step, or an item that was dealt with."""

    generation: int
    attempt: int
    item: int
    token: str


class Saved:
    """Sees that what that task has saved stays, and that nothing of it is done again."""

    def __init__(self) -> None:
        self._drawn: dict[tuple[int, int], str] = {}
        self._done: dict[tuple[int, int], int] = {}

    def look(self, rows: Rows, drawn: list[str], dealt_with: list[str]) -> None:
        """Look at a journal, and at the ledgers: of the calls of steps, and of the items."""
        items = _lines(dealt_with)
        _check_order(items)
        tokens = _tokens(drawn)
        counts = Counter((each.generation, each.item) for each in items)
        saved = rows.saved.get(WALK, {})
        if _STEP in saved:
            item, token = saved[_STEP]
            self._drawn[rows.tasks[WALK].generation, item] = token
        if _CURSOR in saved:
            for item in ITEMS[: saved[_CURSOR][1]]:
                key = rows.tasks[WALK].generation, item
                self._done.setdefault(key, counts[key])
        for key, token in self._drawn.items():
            assert tokens[key] == token, f"the step of item {key[1]} was called again after it was recorded"
        for each in items:  # whoever is given it, it is kept
            token = tokens[each.generation, each.item]
            assert each.token == token, f"the step of item {each.item} was called again after it was recorded"
        for key, count in self._done.items():
            assert counts[key] == count > 0, f"item {key[1]} was lost, or done again after it was recorded"

    def check_the_end(self, rows: Rows, drawn: list[str], dealt_with: list[str], deaths: int) -> None:
        """See that each item is there once, with what its step returned, and was repeated by deaths alone."""
        generation = rows.tasks[WALK].generation
        tokens = _tokens(drawn)
        kept = rows.saved[WALK]["saved/kept"]
        assert kept == [(item, tokens[generation, item]) for item in ITEMS]
        assert rows.saved[WALK].keys() == {_CURSOR, "saved/kept"}, "what was saved for an item outlives it"
        items = [each.item for each in _lines(dealt_with) if each.generation == generation]
        assert set(items) == set(ITEMS)
        assert len(items) <= len(ITEMS) + deaths, "an item was repeated without need"


def _check_order(items: list[Line]) -> None:
    """See that each item is the next one, or the last one once more in another attempt."""
    for first in {each.generation: each for each in reversed(items)}.values():
        assert first.item == ITEMS[0], "the first item was left out"
    for last, each in pairwise(items):
        if last.generation == each.generation and each.item != last.item + 1:
            assert each.item == last.item, f"item {each.item} came after item {last.item}"
            assert each.attempt > last.attempt, "an item was done twice in one attempt"


def _tokens(drawn: list[str]) -> dict[tuple[int, int], str]:
    """Return what each item's step has returned when it was called last."""
    return {(each.generation, each.item): each.token for each in _lines(drawn)}


def _lines(ledger: list[str]) -> list[Line]:
    fields = [line.split(" ") for line in ledger]
    return [
        Line(int(generation), int(attempt), int(item), token) for generation, attempt, item, token in fields
    ]
