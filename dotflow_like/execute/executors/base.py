"""What every executor does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from dotflow_like.execute.call import Call
from dotflow_like.execute.inbox import Inbox
from dotflow_like.model.context import Progress
from dotflow_like.record.journal import Codec

__all__ = ["Executor", "Progressed", "Started"]


class Started(NamedTuple):
    """A body has begun: its time counts from here."""

    call: Call


class Progressed(NamedTuple):
    """A body that runs has told how far it has come."""

    call: Call
    progress: Progress


class Executor(ABC):
    """Runs calls. Used by one run, from the thread its kernel runs in.

    Every call it is given it puts, sooner or later, in the inbox, with its outcome, unless `stop`
    returned True for it or `withdraw` took it back; and a `Started` before, if its task has a time limit.

    Attributes:
        slots: how many calls it may have at once; it is never given more. It may change while a run goes on:
            an executor that takes calls in advance has more slots than bodies it runs at once.
        in_body: whether a body runs in the run's own thread just now.
    """

    slots: int
    in_body = False

    def open(self, inbox: Inbox, codec: Codec | None, lock: int | None = None) -> None:
        """Begin.

        Args:
            inbox: messages go there.
            codec: encodes results, the same for all calls.
            lock: descriptor of the run's lock, open until `close` has returned; processes that run its calls
                hold it, too, for as long. None if there is none.
        """
        self.inbox = inbox
        self.codec = codec

    @abstractmethod
    def submit(self, calls: Sequence[Call]) -> None:
        """Run these calls. Done in every turn of the run, if only with none: there may be something to rearrange."""

    def ask(self, call: Call) -> None:
        """Ask a running body to become what `call.asked()` says, which `ctx.check` and the like raise in it."""
        call.stop_asked = call.stop_asked or True  # a signal says more

    def withdraw(self, *, everything: bool) -> list[Call]:
        """Take back calls whose bodies have not begun; they never will, and nothing is heard of them.

        Args:
            everything: also those that wait for nothing, and are about to begin.
        """
        return []

    @abstractmethod
    def stop(self, call: Call) -> bool:
        """Stop a running call for good.

        Returns:
            True when its body runs no more, and nothing will be heard of it. False when it cannot be
            stopped: its slot is free, its body goes on, and the call will come when that ends.
        """

    @abstractmethod
    def close(self) -> None:
        """End: stop what still runs, as far as that can be, and give everything back."""
