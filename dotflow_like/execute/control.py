"""How a run is asked to stop, from its own process: by a method, or by a signal."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

from dotflow_like.model.status import RunStatus

__all__ = ["INTERRUPTED", "Control", "Stop", "Terminated", "stopped_by_signals"]

INTERRUPTED = "interrupted"
"""The reason of a run that was stopped by a signal."""


class Terminated(SystemExit):
    """Raised in a body that runs inline when the grace after a SIGTERM is over."""


class Stop(NamedTuple):
    """The wish that a run ends with this status and reason."""

    status: RunStatus
    reason: str


def _unasked() -> None:
    pass


def _unheard(call: Any, progress: Any) -> None:
    pass


class Control:
    """How a run and its bodies speak: what it was asked, and by what signal; what they report.

    Any thread, and a signal handler, may ask.

    Args:
        wake: called when the run was asked.
        report: given a call, and the progress its body reports, in the body's own thread.

    Attributes:
        report: the same.
        stop: the wish that counts; cancelling counts more than pausing.
        signum: the first signal that arrived; None for none.
        hurry: a second one arrived: what still runs is to be stopped now.
    """

    def __init__(self, wake: Callable[[], None], report: Callable[[Any, Any], None] = _unheard) -> None:
        self.report = report
        self._wake = wake
        self._lock = threading.RLock()  # a signal handler may come while its own thread holds it
        self._closed = False
        self.stop: Stop | None = None
        self.signum: int | None = None
        self.hurry = False

    def ask(self, stop: Stop) -> bool:
        """Ask the run to stop; False if it has ended."""
        with self._lock:
            if self._closed:
                return False
            if self.stop is None or stop.status is RunStatus.CANCELLED:
                self.stop = stop
        self._wake()
        return True

    def signalled(self, signum: int) -> None:
        """Note a signal: the first asks the run to pause, a second ends the grace."""
        self.hurry = self.signum is not None
        self.signum = self.signum or signum
        self.ask(Stop(RunStatus.PAUSED, INTERRUPTED))

    def interrupted(self) -> None:
        """Note that a body raised KeyboardInterrupt itself: it counts as a Ctrl-C, once."""
        if self.signum is None:
            self.signalled(signal.SIGINT)

    def error(self) -> BaseException:
        """Return what the process that was signalled raises, once the run is recorded."""
        return KeyboardInterrupt() if self.signum == signal.SIGINT else SystemExit(128 + (self.signum or 0))

    def close(self) -> Stop | None:
        """Return the wish that counts; from now on nothing can be asked, and nobody is told anything."""
        with self._lock:
            self._closed = True
            # who is told has the run, which has this: see the end of `Kernel.run`
            self._wake, self.report = _unasked, _unheard
            return self.stop


@contextmanager
def stopped_by_signals(control: Control, grace: float, in_body: Callable[[], bool]) -> Iterator[None]:
    """While the main thread is in this block, let Ctrl-C and SIGTERM stop a run.

    A signal whose handler is not the default one is left alone, and outside the main thread nothing
    is done. At the end the former handlers are back.

    Args:
        control: the run's.
        grace: seconds between a SIGTERM and its being raised in a body that runs inline.
        in_body: whether such a body is running: Ctrl-C is raised in it at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    grace_timers: list[threading.Timer] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        again = control.signum is not None
        desperate = control.hurry
        control.signalled(signum)
        if in_body() or desperate:
            if signum == signal.SIGINT:
                raise KeyboardInterrupt
            if again:
                raise Terminated(128 + signum)
            timer = threading.Timer(grace, os.kill, (os.getpid(), signum))
            timer.daemon = True
            timer.start()
            grace_timers.append(timer)

    defaults = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    replaced = {
        signum: signal.signal(signum, handle)
        for signum, default in defaults.items()
        if signal.getsignal(signum) is default
    }
    try:
        yield
    finally:
        for signum, handler in replaced.items():
            signal.signal(signum, handler)
        for timer in grace_timers:
            timer.cancel()
