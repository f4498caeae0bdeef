"""What a run has to do, what is under way, and how it stands."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from dotflow_like.clock import Clock
from dotflow_like.execute.attempts import cancelled
from dotflow_like.execute.call import Call
from dotflow_like.execute.readiness import Readiness
from dotflow_like.execute.timers import Timers
from dotflow_like.model.records import Discard, TaskRecord
from dotflow_like.model.status import AttemptStatus, TaskStatus
from dotflow_like.plan.order import downstream_first
from dotflow_like.plan.plan import Plan
from dotflow_like.record.journal import Change, Claim, after
from dotflow_like.report.result import RunView, TaskRun

__all__ = ["Settings", "Work"]


class Settings(NamedTuple):
    """How a run behaves.

    Attributes:
        keep_going: whether other tasks still start after one failed.
        timeout: seconds the run may take; None for no limit.
        grace: seconds that running bodies have to end after the run was asked to stop.
        max_crashes: how many owners in a row may have died, with no task completed in between, before the run
            is stopped; None for no limit.
        steps: after so many attempts it is left as paused; None for no limit.
    """

    keep_going: bool = False
    timeout: float | None = None
    grace: float = 10.0
    max_crashes: int | None = 3
    steps: int | None = None


class Work:
    """The state of a run that is executed, shared by those who execute it, in one thread.

    Attributes:
        plan: what is run.
        view: the run as its user sees it.
        runs: its tasks, and items of maps once they are known, by key.
        records: what was recorded of them before.
        settings: how the run behaves.
        claim: the right to record; None for a plan that is complete, which changes nothing.
        readiness: whose turn it is.
        again: those that are tried again: also when nothing new starts.
        delayed: those that wait for their next attempt's time.
        timers: what is to happen later.
        running: the calls under way.
        given_up: calls that have ended for the run, though their bodies go on.
        at: the time of this turn.
        failed: a task failed.
        timed_out: the run's time was up.
        crashed: its processes died too often for it to be run.
        finished: a task said that the run is done.
        halted: nothing new starts.
        stopping: nothing starts at all.
        takes_back: what was given to the executor in advance is to be taken back.
    """

    def __init__(
        self, plan: Plan, view: RunView, settings: Settings, clock: Clock, claim: Claim | None
    ) -> None:
        self.plan = plan
        self.view = view
        self.runs: dict[str, TaskRun] = view._by_key
        self.records: dict[str, TaskRecord] = {}
        self.settings = settings
        self.claim = claim
        self.readiness = Readiness(self.runs)
        self.again: deque[TaskRun] = deque()
        self.delayed: set[TaskRun] = set()
        self._due: set[TaskRun] = set()  # of those, the ones whose time has come while their old body goes on
        self.timers = Timers(clock)
        self.running: dict[Call, TaskRun] = {}
        self.given_up: dict[Call, TaskRun] = {}
        self.at: datetime = clock.now()
        self.failed = False
        self.timed_out = False
        self.crashed = False
        self.finished = False
        self.halted = False
        self.stopping = False
        self.takes_back = False

    def delay(self, run: TaskRun, until: datetime) -> None:
        """Have a task wait for its next attempt's time."""
        run.status = TaskStatus.RETRYING
        self.delayed.add(run)
        self.timers.after(max(0.0, (until - self.at).total_seconds()), self._time_has_come, run)

    def finish(self) -> None:
        """Note that a task has said that the run is done."""
        self.finished = self.halted = self.takes_back = True

    def waiting(self) -> list[TaskRun]:
        """Take out the tasks that wait between two attempts, and return them."""
        found = [*self.delayed, *self.again]
        self.delayed.clear()
        self.again.clear()
        return found

    def old_body_ended(self, call: Call) -> None:
        """Note that a body that was given up has ended at last; what it returned is discarded."""
        run = self.given_up.pop(call, None)
        if run is not None and run in self._due:
            self._due.discard(run)
            self._time_has_come(run)

    def discard(self, keys: Iterable[str]) -> list[Change]:
        """Drop what is recorded of tasks, but for its history, and end what waits; return the changes that do so.

        What lies downstream goes first: of several tasks a journal may write each on its own, and whoever is
        killed in between leaves no result that was computed from one that is gone.
        """
        changes: list[Change] = []
        for key in downstream_first(self.plan.graph, keys):
            record = self.records.get(key)
            if record is not None and (record.checkpoints or record.attempts):
                orders: list[Change] = [Discard(key)]
                if record.attempts and record.attempts[-1].status is AttemptStatus.SCHEDULED:
                    orders.insert(0, cancelled(record.attempts[-1]))
                self.records[key] = after(record, orders)
                changes += orders
        return changes

    def _time_has_come(self, run: TaskRun) -> None:
        if run not in self.delayed:  # the run was stopped meanwhile
            return
        if run in self.given_up.values():
            self._due.add(run)  # when its old body has ended
            return
        self.delayed.discard(run)
        self.again.append(run)
