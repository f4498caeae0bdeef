"""What is to happen later."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from dotflow_like.clock import Clock

__all__ = ["Timers"]


class Timers:
    """Calls to make at their time. A call that is no longer wanted is made all the same, and must see that.

    Attributes:
        waiting: the calls; patience is asked for, and what is due run, only while there are some.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.waiting: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._ticket = count()  # those of one time in the order they were set

    def after(self, seconds: float, act: Callable[[Any], None], about: Any) -> None:
        """Call `act(about)` in `seconds`."""
        heapq.heappush(self.waiting, (self._clock.monotonic() + seconds, next(self._ticket), act, about))

    def patience(self, *, idle: bool) -> float | None:
        """Return how many seconds may pass until `run_due`; `idle`: nothing else can happen before."""
        return self._clock.patience(self.waiting[0][0], idle=idle)

    def run_due(self) -> None:
        """Make the calls whose time has come."""
        now = self._clock.monotonic()
        while self.waiting and self.waiting[0][0] <= now:
            _, _, act, about = heapq.heappop(self.waiting)
            act(about)
