"""How a run and its bodies speak: what it was asked, from here or from outside, and what they report."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from dotflow_like import clock
from dotflow_like.model.signals import Cancel, Pause, Signal
from dotflow_like.model.status import RunStatus

if TYPE_CHECKING:
    from dotflow_like.execute.saved import Store
    from dotflow_like.execute.transactions import Transactions

__all__ = ["INTERRUPTED", "LOOK_EVERY", "Control", "Stop", "Terminated", "stopped_by_signals"]

INTERRUPTED = "interrupted"
"""The reason of a run that was stopped by a signal."""


class Terminated(SystemExit):
    """Raised in a body that runs inline when the grace after a SIGTERM is over."""


class Stop(NamedTuple):
    """The wish that a run ends with this status and reason."""

    status: RunStatus
    reason: str

    @property
    def signal(self) -> Signal:
        """What a body that runs is asked to become."""
        return (Cancel if self.status is RunStatus.CANCELLED else Pause)(self.reason)


LOOK_EVERY = 0.2
"""Seconds between two looks at what is asked from outside."""


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
        look: looks, now and then, whether something was asked from outside, and asks it here; in any thread.

    Attributes:
        report: the same.
        stop: the wish that counts; cancelling counts more than pausing.
        signum: the first signal that arrived; None for none.
        hurry: a second one arrived: what still runs is to be stopped now.
        store: where bodies of this process keep what they save.
        transactions: those of bodies.
    """

    store: Store
    transactions: Transactions

    def __init__(
        self,
        wake: Callable[[], None],
        report: Callable[[Any, Any], None] = _unheard,
        look: Callable[[], None] = _unasked,
    ) -> None:
        self.report = report
        self._look = look
        self._wake = wake
        self._alarm: SimpleQueue[None] = SimpleQueue()  # which a signal handler may set off in any moment
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
            if self.stop is None or (stop.status, self.stop.status) == (
                RunStatus.CANCELLED,
                RunStatus.PAUSED,
            ):
                self.stop = stop
        self._wake()
        self.alarm()
        return True

    def asked(self) -> Signal | None:
        """Return what bodies are asked to become; None for nothing."""
        self._look()
        return None if self.stop is None else self.stop.signal

    def alarm(self) -> None:
        """Wake bodies that sleep, to see what they are asked."""
        self._alarm.put(None)

    def sleep(self, seconds: float, asked: Callable[[], Signal | None]) -> None:
        """Wait in the thread of a body, until it is asked something."""
        here = clock.current()
        until = here.monotonic() + seconds
        while asked() is None and (left := until - here.monotonic()) > 0:
            try:
                here.wait(self._alarm, left, LOOK_EVERY)
            except Empty:
                continue
            if asked() is not None:
                self._alarm.put(None)  # it was meant for others, too

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
            self._wake, self.report, self._look = _unasked, _unheard, _unasked
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
