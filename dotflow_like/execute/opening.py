"""What begins: what is restored at once, the attempts of what is ready, and the items of maps."""

from __future__ import annotations

from collections.abc import Mapping

from dotflow_like.execute.attempts import is_scheduled, opened
from dotflow_like.execute.call import Call
from dotflow_like.execute.control import Control
from dotflow_like.execute.items import items_of
from dotflow_like.execute.tasks import Tasks
from dotflow_like.execute.turn import Turn
from dotflow_like.execute.work import Work
from dotflow_like.model.metadata import SIGNAL_REASON
from dotflow_like.model.records import RESULT, Reference, TaskError
from dotflow_like.model.status import AttemptOutcome, TaskStatus
from dotflow_like.plan.resume import Decision, units
from dotflow_like.record.journal import Journal
from dotflow_like.report.events import TaskRestored, TaskSkipped, TaskStarted
from dotflow_like.report.result import TaskRun

__all__ = ["Opening"]

# bound once: an attribute of an enumeration is looked up through its metaclass
_PENDING, _RUNNING = TaskStatus.PENDING, TaskStatus.RUNNING
_LEFT = (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT, AttemptOutcome.PAUSED, AttemptOutcome.RECOVERED)
_NO_RESULTS: Mapping[str, Reference] = {}


class Opening:
    """Opens attempts.

    Args:
        work: the state of the run.
        turn: what is to be recorded and told.
        tasks: ends tasks.
        journal: where results are.
        control: given to calls.

    Attributes:
        calls: those that were opened, and are to be started.
    """

    def __init__(self, work: Work, turn: Turn, tasks: Tasks, journal: Journal, control: Control) -> None:
        self._work = work
        self._turn = turn
        self._tasks = tasks
        self._journal = journal
        self._control = control
        self._codec = journal.codec
        self._params = work.plan.params
        self._steps = work.settings.steps
        self.calls: list[Call] = []

    def begin(self) -> None:
        """Take over what is recorded of the run, and find what is ready first."""
        work, plan, tasks = self._work, self._work.plan, self._work.view.tasks
        work.records = dict(plan.records)
        done: list[TaskRun] = []
        if work.records:
            # all of a run that is known and starts over
            self._turn.changes += work.discard(plan.discarded() if plan.resumed else work.records)
            done = [run for run in tasks if self._restored(run, plan.decisions)]
        claim, most = work.claim, work.settings.max_crashes
        if claim is not None and most is not None and claim.crashes >= most:
            work.crashed = work.halted = True
        for run in done:
            if run.status is TaskStatus.SKIPPED:
                self._tasks.skip_needing(run)
        if plan.finished:
            for run in tasks:
                if run.status is _PENDING and not self._goes_on(run):
                    self._tasks.skip_unbegun(run)
        work.readiness.begin(tasks)

    def open_ready(self, slots: int) -> None:
        """Open the next attempts of what is ready, up to so many calls under way."""
        work = self._work
        again, ready, running = work.again, work.readiness.ready, work.running
        while len(running) < slots and (again or (ready and not work.halted and self._steps != 0)):
            if again:
                run = again.popleft()
            else:
                run = ready.popleft()
                if self._steps is not None and not run._node.is_map:
                    self._steps -= 1
            if run._node.is_map:
                self._expand(run)
            elif run._last is not None and run.status is _PENDING and is_scheduled(run):
                work.delay(run, run._last.scheduled_at)  # the run was paused while it waited
            else:
                self._open(run)

    def _open(self, run: TaskRun) -> None:
        work, turn = self._work, self._turn
        assert work.claim is not None, "a plan that is complete opens nothing"
        node, attempt = run._node, opened(run, work.claim, work.at)
        if turn.observer is not None and len(run._before) <= run._earlier:  # the first in this process
            turn.announce(TaskStarted, run)
        run.status, run.progress = _RUNNING, None
        results: Mapping[str, Reference] = _NO_RESULTS
        previous = None
        if node.inputs:
            runs = work.runs
            results = {key: runs[key]._value or runs[key]._reference() for key in node.needs}
            if node.takes_previous and run._previous is not None:
                previous = run._previous._context_of_reference()
        call = Call(
            node.task,
            attempt,
            self._params,
            node.inputs,
            results,
            previous,
            self._codec,
            self._control,
            node.conditions,
        )
        turn.changes.append(attempt)
        work.running[call] = run
        self.calls.append(call)

    def _expand(self, run: TaskRun) -> None:
        """Turn a map into its items."""
        work, turn, plan = self._work, self._turn, self._work.plan
        turn.write()  # what it iterates over may have come in this turn
        try:
            items = items_of(run._node, work.runs, plan, self._journal, run.workflow_id)
        except Exception as error:
            run.errors = (TaskError.of(error, 0),)
            run.reason = f"its items could not be made: {error}"
            self._tasks.fail(run)
            return
        work.records |= items.records
        turn.changes += work.discard(items.surplus)
        if items.decisions is not plan.decisions:  # else that was done when the run began
            turn.changes += work.discard(key for key, decision in items.decisions.items() if decision.discard)
        run.items = []
        pending = []
        for each in items.nodes:
            item = TaskRun(each, run.workflow_id, run._previous)
            item._map = run
            run.items.append(item)
            work.runs[each.key] = item
            if self._restored(item, items.decisions):
                continue
            if plan.finished and not self._goes_on(item):
                self._tasks.skip_unbegun(item)
            else:
                pending.append(item)
        if pending or not items.nodes:
            run.status = _RUNNING
            turn.announce(TaskStarted, run)
        work.readiness.begin_items(run, pending)
        if not pending:
            run.restored = bool(items.nodes)
            self._tasks.end_map(run)

    def _goes_on(self, run: TaskRun) -> bool:
        """Return whether a task of a run that is finished is seen to: it was left in its middle, or is discarded."""
        if run._node.is_map:  # its items say
            return any(unit.key in self._work.records for unit in units(run._node))
        last = run._last
        return last is not None and (last.outcome in _LEFT or last.generation != run._generation)

    def _restored(self, run: TaskRun, decisions: Mapping[str, Decision]) -> bool:
        """Take over what is recorded of a task; return whether that is all there is to do."""
        key = run._node.key
        record = self._work.records.get(key)
        if record is None:
            return False
        decision = decisions.get(key)
        _, attempts, checkpoints, generation = record
        run._take_over(attempts)
        run._earlier = len(attempts) - is_scheduled(run)
        run._generation = generation
        if decision is None or not (decision.restored or decision.skipped):
            return False
        run.restored = True
        if decision.skipped:
            run.status, run.reason = TaskStatus.SKIPPED, decision.reason
            self._turn.announce(TaskSkipped, run)
        else:
            run.status, run._value = TaskStatus.COMPLETED, checkpoints[RESULT].value
            run.reason = attempts[-1].metadata.get(SIGNAL_REASON)  # of one that has finished the run
            self._turn.announce(TaskRestored, run)
        return True
