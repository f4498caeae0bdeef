"""What is to happen later."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from dotflow_like.clock import Clock

__all__ = ["Timers"]


class Timers:
    """Calls to make at their time. A call that is no longer wanted is made all the same, and must see that."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._ticket = count()  # those of one time in the order they were set

    def after(self, seconds: float, act: Callable[[Any], None], about: Any) -> None:
        """Call `act(about)` in `seconds`."""
        heapq.heappush(self._heap, (self._clock.monotonic() + seconds, next(self._ticket), act, about))

    def __len__(self) -> int:
        return len(self._heap)

    def patience(self, *, idle: bool) -> float | None:
        """Return how many seconds may pass until `run_due`; `idle`: nothing else can happen before."""
        return self._clock.patience(self._heap[0][0], idle=idle)

    def run_due(self) -> None:
        """Make the calls whose time has come."""
        now = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now:
            _, _, act, about = heapq.heappop(self._heap)
            act(about)
