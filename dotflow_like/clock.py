"""Time, in one place, so that tests can own it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from queue import SimpleQueue

__all__ = ["Clock", "current", "use"]


class Clock:
    """The machine's clocks. `dotflow_like.testing.FakeClock` replaces it in tests."""

    def now(self) -> datetime:
        """Return the time of day, in UTC: what is recorded."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds from an arbitrary point that never go back: what deadlines are made of."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait `seconds`."""
        time.sleep(seconds)

    def wait(self, alarm: SimpleQueue[None], seconds: float, at_most: float) -> None:
        """Wait `seconds`, but no longer than `at_most`, or until something is in `alarm`, which is taken out.

        Raises:
            Empty: nothing came.
        """
        alarm.get(timeout=min(seconds, at_most))

    def patience(self, deadline: float | None, *, idle: bool) -> float | None:
        """Return how many real seconds a loop may wait for a message before it looks at its timers.

        Args:
            deadline: the next timer, on the `monotonic` scale; None when there is none.
            idle: nothing is running whose message could come.

        Returns:
            Seconds from 0; None to wait without limit.
        """
        del idle  # only a clock that can jump cares
        # at most an hour: the waiting calls of the standard library do not take any number
        return None if deadline is None else min(max(0.0, deadline - time.monotonic()), 3600.0)


_current = Clock()


def current() -> Clock:
    """Return the clock new runs take."""
    return _current


def use(clock: Clock) -> Clock:
    """Make `clock` the one new runs take, and return the one it replaces."""
    global _current
    replaced, _current = _current, clock
    return replaced
