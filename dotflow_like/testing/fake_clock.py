"""Time that tests own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from dotflow_like import clock

__all__ = ["FakeClock"]

_POLL = 0.002


class FakeClock(clock.Clock):
    """A clock that stands still until somebody moves it, or until nothing is left but to wait.

    Runs started inside its `with` block use it. When such a run has nothing under way and waits for a
    time, a retry's delay for instance, the clock jumps there. While a body runs, only `advance` and
    `sleep` move it.

    Args:
        start: the time of day it begins with. Default the first second of the year 2000, in UTC.
    """

    def __init__(self, start: datetime = datetime(2000, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._replaced: clock.Clock | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Move time on by `seconds`."""
        self._elapsed += seconds

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._elapsed)

    def monotonic(self) -> float:
        return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Move time on by `seconds`, without waiting."""
        self.advance(seconds)

    def wait(self, alarm: SimpleQueue[None], seconds: float, at_most: float) -> None:
        """Move time on by `seconds`, without waiting."""
        self.advance(seconds)

    def patience(self, deadline: float | None, *, idle: bool) -> float | None:
        if deadline is None:
            return None
        if idle:
            self._elapsed = max(self._elapsed, deadline)
        return 0.0 if deadline <= self._elapsed else _POLL  # somebody else may advance it meanwhile

    def __enter__(self) -> Self:
        self._replaced = clock.use(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        assert self._replaced is not None
        clock.use(self._replaced)
