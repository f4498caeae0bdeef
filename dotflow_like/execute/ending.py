"""How a run ends: its row, and what its user sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from dotflow_like.errors import ClaimLost
from dotflow_like.execute.control import Control, Stop
from dotflow_like.execute.requests import Requests, stop_for
from dotflow_like.execute.tasks import Tasks
from dotflow_like.execute.turn import Turn
from dotflow_like.execute.work import Work
from dotflow_like.model.records import Attempt, RunRecord, TaskError
from dotflow_like.model.signals import Cancel
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus, TaskStatus
from dotflow_like.record.journal import Change, Claim, Journal

__all__ = ["Ending"]

_BEGUN = (TaskStatus.RUNNING, TaskStatus.RETRYING)
_SETTLED = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED)


class Ending:
    """Ends a run.

    Args:
        work: the state of the run.
        turn: what is still to be recorded.
        tasks: ends tasks.
        control: says what the run was asked.
        requests: what is asked from outside; None if nobody can.
        journal: where the run is recorded.
        claim: the right to record there; None for a plan that is complete, which changes nothing.
        now: tells the time.
    """

    def __init__(
        self,
        work: Work,
        turn: Turn,
        tasks: Tasks,
        control: Control,
        requests: Requests | None,
        journal: Journal,
        claim: Claim | None,
        now: Callable[[], datetime],
    ) -> None:
        self._work = work
        self._turn = turn
        self._tasks = tasks
        self._control = control
        self._requests = requests
        self._journal = journal
        self._claim = claim
        self._now = now

    def end(self) -> None:
        """Record how the run has ended, and show it."""
        view = self._work.view
        stop = self._control.close()
        for run in view.tasks:
            if run.items is not None and run.status is TaskStatus.RUNNING:
                self._tasks.leave_map(run)
        view.finished = self._now()
        answered = None if self._requests is None else self._requests.last
        while True:
            status, reason = self._how(stop)
            if self._claim is None:
                break
            row = self._row(status, reason)
            if self._journal.end(self._claim, [*self._turn.changes, row], answered):
                self._turn.changes = []
                break
            answered = self._journal.asked(view.workflow_id)  # what was accepted counts, though it came late
            if answered is not None and answered.signal == Cancel.word:
                stop = stop_for(answered)
        self._turn.tell()
        for run in view.tasks:
            for item in run.items or ():
                item._map = None  # else they would hold each other, and their results
        view.status, view.reason = status, reason

    def broke(self, error: BaseException) -> None:
        """End a run that cannot go on, since what happens cannot be recorded; and record that, if it can be."""
        work, view = self._work, self._work.view
        self._control.close()
        view.status, view.reason = RunStatus.FAILED, f"{type(error).__name__}: {error}"
        view.finished = self._now()
        lost = {change.task_id for change in self._turn.changes if isinstance(change, Attempt)}
        lost |= {key for key, run in work.runs.items() if run.status in _BEGUN}
        for key in lost & work.runs.keys():
            # a resumed run runs it again
            work.runs[key].status, work.runs[key]._value = TaskStatus.PENDING, None
        if self._claim is None or isinstance(error, ClaimLost):
            return
        with suppress(Exception):  # the place may be full, or gone; then the next owner finds all this
            # nobody died: the attempts that are left would count as a crash
            changes = self._left_open(lost, error, view.finished)
            self._journal.commit(self._claim, [*changes, self._row(RunStatus.FAILED, view.reason)])

    def _left_open(self, keys: Iterable[str], error: BaseException, at: datetime) -> list[Change]:
        return [
            each._replace(
                status=AttemptStatus.FAILED,
                outcome=AttemptOutcome.FAILED,
                finished_at=max(at, each.started_at or each.scheduled_at),
                error=TaskError.of(error, each.number),
            )
            for record in self._journal.tasks(self._work.view.workflow_id, keys).values()
            for each in record.attempts
            if each.status is AttemptStatus.RUNNING
        ]

    def _how(self, stop: Stop | None) -> tuple[RunStatus, str | None]:
        work = self._work
        tasks = work.view.tasks
        unfinished = any(run.status not in _SETTLED for run in tasks)
        if work.crashed:
            return RunStatus.FAILED, self._why_crashed()
        if work.timed_out:
            return RunStatus.FAILED, "timeout"
        if stop is not None and (unfinished or stop.status is RunStatus.CANCELLED):
            return stop
        if work.failed:
            failed = [run.task_id for run in tasks if run.status is TaskStatus.FAILED]
            return RunStatus.FAILED, f"failed: {', '.join(failed)}"
        if unfinished:
            return RunStatus.PAUSED, "stepped"
        return RunStatus.COMPLETED, None

    def _row(self, status: RunStatus, reason: str | None) -> RunRecord:
        """Return the row of the run as it ends."""
        view = self._work.view
        record = self._journal.run(view.workflow_id, params=False)
        assert record is not None, "it was claimed"
        return replace(record, status=status, reason=reason, finished_at=view.finished)

    def _why_crashed(self) -> str:
        assert self._claim is not None, "a plan that is complete has not crashed"
        crashes = self._claim.crashes
        left = [
            key
            for key, record in self._work.records.items()
            if record.attempts and record.attempts[-1].outcome is AttemptOutcome.RECOVERED
        ]
        return (
            f"its process died {crashes} times in a row, with no task completed in between, while these ran: "
            f"{', '.join(left)}; see why, then resume with Config(max_crashes={crashes + 1}) or more, or start over "
            "with resume=False"
        )
