"""The run as its user holds it: to be read, waited for and stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from dotflow_like import clock
from dotflow_like.errors import RunInProgress
from dotflow_like.execute.background import settled
from dotflow_like.execute.control import Control, Stop, stopped_by_signals
from dotflow_like.model.status import RunStatus
from dotflow_like.report.result import RunView

__all__ = ["Run"]

_LOOK_EVERY = 0.05
"""Seconds between two looks at a run that another process executes."""


class Run(RunView):
    """One execution of a workflow; `Workflow.run`, `Workflow.start` and `Manager` make one."""

    _control: Control
    _grace: float
    _raised: BaseException | None = None
    _look: Callable[[], bool] | None = None  # of a view of what somebody else executes

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the run has ended and its callbacks have returned.

        Args:
            timeout: seconds; None to wait without limit.

        Returns:
            The run.

        Of a run that another process executes this is to wait until that has ended, or its process has; see
        `idempotency_key` of `Manager`.

        Raises:
            TimeoutError: the time is up; the run goes on.
            KeyboardInterrupt: Ctrl-C while the main thread waited here; the run was stopped.
            SystemExit: likewise, SIGTERM.
            Exception: what a callback of the run raised, or what kept it from being recorded.
        """
        if self._look is not None:
            return self._followed(self._look, timeout)
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

    def _followed(self, look: Callable[[], bool], timeout: float | None) -> Self:
        time = clock.current()
        until = None if timeout is None else time.monotonic() + timeout
        while look():
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"run {self.workflow_id} is still {self.status} after {timeout:g} s")
            time.sleep(_LOOK_EVERY)
        return self

    def _note_raised(self, error: BaseException) -> None:
        self._raised = error

    def cancel(self) -> bool:
        """Ask the run to end as cancelled: nothing new starts, and what runs has the grace to end.

        Returns:
            False when the run has ended already; nothing changes then.

        Raises:
            RunInProgress: it is a view of a run that another process executes.
        """
        return self._ask(Stop(RunStatus.CANCELLED, "cancelled"))

    def pause(self) -> bool:
        """Ask the run to end as paused, to be resumed later: as `cancel`, but for the name of it.

        Returns:
            False when the run has ended already; nothing changes then.

        Raises:
            RunInProgress: it is a view of a run that another process executes.
        """
        return self._ask(Stop(RunStatus.PAUSED, "paused"))

    def _ask(self, stop: Stop) -> bool:
        if self._look is None:
            return self._control.ask(stop)
        if self._look():
            raise RunInProgress(
                f"run {self.workflow_id} is another process's, and this is a view of it: stop it there"
            )
        return False
