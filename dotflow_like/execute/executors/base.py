"""What every executor does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from dotflow_like.execute.call import Call, Outcome
from dotflow_like.execute.inbox import Inbox
from dotflow_like.record.journal import Codec

__all__ = ["Done", "Executor", "Started"]


class Started(NamedTuple):
    """A body has begun: its time counts from here."""

    call: Call


class Done(NamedTuple):
    """A call has ended; `worker` is None where it ran inline."""

    call: Call
    outcome: Outcome
    worker: str | None = None


class Executor(ABC):
    """Runs calls. Used by one run, from the thread its kernel runs in.

    For every call it is given it puts, sooner or later, one `Done` in the inbox, unless `stop`
    returned True for it; and a `Started` before, if the call has a time limit.

    Attributes:
        slots: how many calls it runs at once; it is never given more.
    """

    slots: int

    def open(self, inbox: Inbox, codec: Codec | None) -> None:
        """Begin: messages go to `inbox`; results are encoded by `codec`, the same for all calls."""
        self.inbox = inbox
        self.codec = codec

    @abstractmethod
    def submit(self, calls: Sequence[Call]) -> None:
        """Run these calls."""

    def ask(self, call: Call) -> None:
        """Ask a running body to end: `ctx.cancelled` becomes True in it."""
        call.stop_asked = True

    @abstractmethod
    def stop(self, call: Call) -> bool:
        """Stop a running call for good.

        Returns:
            True when its body runs no more, and nothing will be heard of it. False when it cannot be
            stopped: its slot is free, its body goes on, and its `Done` will come when that ends.
        """

    @abstractmethod
    def close(self) -> None:
        """End: stop what still runs, as far as that can be, and give everything back."""
