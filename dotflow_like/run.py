"""The run as its user holds it: to be read, waited for and stopped."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from dotflow_like.errors import IllegalMove
from dotflow_like.execute.background import settled
from dotflow_like.execute.control import Control, Stop, stopped_by_signals
from dotflow_like.model.signals import Cancel, Pause
from dotflow_like.model.status import RunStatus
from dotflow_like.report.result import RunView

if TYPE_CHECKING:
    from dotflow_like.execute.view import Watch

__all__ = ["Run"]

_LOOK_EVERY = 0.05
"""Seconds between two looks at a run that another process executes."""


class Run(RunView):
    """One execution of a workflow; `Workflow.run`, `Workflow.start` and `Manager` make one."""

    _control: Control
    _grace: float
    _raised: BaseException | None = None
    _watch: Watch | None = None  # of a view of what is not this run's to execute

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the run has ended and its callbacks have returned.

        Args:
            timeout: seconds; None to wait without limit.

        Returns:
            The run.

        A view of a run that somebody else executes, see `idempotency_key` of `Manager`, waits until that has ended,
        or its process has, and shows then what is recorded; so it does when the time is up.

        Raises:
            TimeoutError: the time is up; the run goes on.
            KeyboardInterrupt: Ctrl-C while the main thread waited here; the run was stopped.
            SystemExit: likewise, SIGTERM.
            Exception: what a callback of the run raised, or what kept it from being recorded.
        """
        if self._watch is not None:
            return self._followed(self._watch, timeout)
        if self.thread is None or self.thread is threading.current_thread():
            return self
        with stopped_by_signals(self._control, self._grace, lambda: False):
            self.thread.join(timeout)
        if self.thread.is_alive():
            raise TimeoutError(
                f"run {self.workflow_id} is still {self.status} after {timeout:g} s; it goes on"
            )
        settled(self.thread)
        if self._raised is not None:
            raise self._raised
        return self

    def _followed(self, watch: Watch, timeout: float | None) -> Self:
        # real seconds, whatever clock there is: others do not have it
        until = None if timeout is None else time.monotonic() + timeout
        while watch.goes_on():
            left = _LOOK_EVERY if until is None else until - time.monotonic()
            if left <= 0:
                watch.look()
                if not watch.goes_on():
                    break
                raise TimeoutError(f"run {self.workflow_id} is still {self.status} after {timeout:g} s")
            time.sleep(min(left, _LOOK_EVERY))
        watch.look()
        return self

    def _note_raised(self, error: BaseException) -> None:
        self._raised = error

    def cancel(self, reason: str | None = None) -> bool:
        """Ask the run to end as cancelled: nothing new starts, and what runs has the grace to end.

        Args:
            reason: why; it is recorded. Default `cancelled`.

        Returns:
            False when the run has ended already; nothing changes then.
        """
        return self._ask(Cancel(reason))

    def pause(self, reason: str | None = None) -> bool:
        """Ask the run to end as paused, to be resumed later: as `cancel`, but for the name of it.

        Args:
            reason: why; it is recorded. Default `paused`.

        Returns:
            True.

        Raises:
            IllegalMove: the run has ended, or is paused already.
        """
        if not self._ask(Pause(reason)):
            raise IllegalMove(f"run {self.workflow_id} has ended, as {self.status}, and cannot be paused")
        return True

    def _ask(self, signal: Cancel | Pause) -> bool:
        if self._watch is not None:
            return self._watch.ask(signal)
        status = RunStatus.CANCELLED if isinstance(signal, Cancel) else RunStatus.PAUSED
        return self._control.ask(Stop(status, signal.reason or str(status)))
