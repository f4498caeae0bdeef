"""What is asked of a run from outside, through its journal."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from time import monotonic

from dotflow_like.execute.control import LOOK_EVERY, Stop
from dotflow_like.model.records import Request
from dotflow_like.model.signals import Cancel, Skip
from dotflow_like.model.status import RunStatus
from dotflow_like.record.journal import Claim, Journal

__all__ = ["Requests", "skip_for", "stop_for"]


def _unheard(request: Request) -> None:
    pass


class Requests:
    """Looks now and then, in whatever thread has time, and hands on what it finds, once.

    Args:
        journal: where it is asked.
        claim: the run's.
        heard: is given each request, in that thread.
    """

    def __init__(self, journal: Journal, claim: Claim, heard: Callable[[Request], None]) -> None:
        self._journal = journal
        self._claim = claim
        self._heard = heard
        self._lock = Lock()
        self._next = 0.0  # what was asked before the run began is heard at once
        self.last: Request | None = None

    def look(self) -> None:
        """Look, if it is time to."""
        # real seconds, whatever clock there is: others do not have it
        if monotonic() < self._next or not self._lock.acquire(blocking=False):
            return
        try:
            with suppress(Exception):  # the next thing that is recorded tells what is wrong
                request = self._journal.asked(self._claim.workflow_id)
                if request is not None and request != self.last:
                    self.last = request
                    self._heard(request)
            self._next = monotonic() + LOOK_EVERY
        finally:
            self._lock.release()

    def answer(self, request: Request) -> None:
        """Take a request away, which has been seen to."""
        with suppress(Exception):
            self._journal.answer(self._claim, request)

    def close(self) -> None:
        """Hand nothing on any more."""
        self._heard = _unheard


def stop_for(request: Request) -> Stop:
    """Return the wish that a run ends, as a request says it."""
    status = RunStatus.CANCELLED if request.signal == Cancel.word else RunStatus.PAUSED
    return Stop(status, request.reason or f"{status} by {request.by}")


def skip_for(request: Request) -> Skip:
    """Return what a task is asked to become, as a request says it."""
    return Skip(request.reason or f"asked by {request.by}")
