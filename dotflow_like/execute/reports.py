"""What bodies say of their progress, on its way to the kernel."""

from __future__ import annotations

import threading
from collections.abc import Callable

from dotflow_like.execute.call import Call
from dotflow_like.execute.executors.base import Progressed
from dotflow_like.model.context import Progress

__all__ = ["Reports"]


def _unheard(call: Call, progress: Progress) -> None:
    pass


class Reports:
    """Takes reports in any thread: told at once in the kernel's own, else a message to it.

    Of each call one message waits at most, whatever its body reports meanwhile: it may do so a million
    times a second.

    Args:
        put: sends a message to the kernel.
        tell: what the kernel does with a report.
    """

    def __init__(self, put: Callable[[Progressed], None], tell: Callable[[Call, Progress], None]) -> None:
        self._put = put
        self._tell = tell
        self._kernel = 0
        self._lock = threading.Lock()
        self._latest: dict[Call, Progress] = {}

    def begin(self) -> None:
        """Take the thread this is called in for the kernel's."""
        self._kernel = threading.get_ident()

    def add(self, call: Call, progress: Progress) -> None:
        """Take what a body reports."""
        if threading.get_ident() == self._kernel:
            self._tell(call, progress)
            return
        with self._lock:
            waits = call in self._latest
            self._latest[call] = progress
        if not waits:
            self._put(Progressed(call, progress))

    def close(self) -> None:
        """Tell nobody any more."""
        self._tell = _unheard

    def latest(self, message: Progressed) -> Progress:
        """Return what a message says, or what its body has reported since."""
        with self._lock:
            return self._latest.pop(message.call, message.progress)
