"""What a body may say shall happen next, instead of returning; and what it may be asked to become."""

from __future__ import annotations

from typing import ClassVar, Final

__all__ = ["SIGNALS", "Cancel", "Finish", "Pause", "Retry", "Signal", "Skip", "signal_from"]


class Signal(BaseException):
    """Control flow that a task has chosen; `ctx.skip()` and the like raise it.

    No `Exception`, so that `except Exception` does not swallow it.

    Args:
        reason: why; it is recorded.

    Attributes:
        word: how it is written and recorded.
    """

    word: ClassVar[str]

    def __init__(self, reason: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.word if self.reason is None else f"{self.word}: {self.reason}"


class Skip(Signal):
    """The task is done without a result."""

    word = "skip"


class Retry(Signal):
    """The task is to run again.

    Args:
        reason: why.
        after: seconds from now.
    """

    word = "retry"

    def __init__(self, reason: str | None = None, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Pause(Signal):
    """The run is to end as paused, and this task to run anew when it is resumed."""

    word = "pause"


class Cancel(Signal):
    """The run is to end as cancelled."""

    word = "cancel"


class Finish(Signal):
    """The run is done: this task has completed, and nothing else begins."""

    word = "finish"


SIGNALS: Final[dict[str, type[Signal]]] = {each.word: each for each in (Skip, Retry, Pause, Cancel, Finish)}
"""The kinds, by word."""


def signal_from(word: str, reason: str | None, after: float = 0.0) -> Signal:
    """Return the signal of these, as it was in another process."""
    return Retry(reason, after) if word == Retry.word else SIGNALS[word](reason)
