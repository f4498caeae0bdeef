"""What is recorded of a run, shown as a run that is not this process's to execute."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from dotflow_like.errors import CodecError, FingerprintError, StorageError
from dotflow_like.execute.items import nodes_of, why_failed
from dotflow_like.execute.readiness import Readiness
from dotflow_like.execute.tasks import FINISHED
from dotflow_like.model.metadata import SIGNAL, SIGNAL_REASON
from dotflow_like.model.records import RESULT, Attempt, RunRecord, TaskError, TaskRecord
from dotflow_like.model.signals import Cancel, Finish, Pause
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, Mode, RunStatus, TaskStatus
from dotflow_like.plan.plan import Plan
from dotflow_like.plan.resume import recorded_keys
from dotflow_like.record.journal import Journal
from dotflow_like.record.steering import steer
from dotflow_like.report.result import RunView, TaskRun

__all__ = ["Watch", "differences"]

_PENDING, _RUNNING, _RETRYING = TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.RETRYING
_PAUSED, _CANCELLED = TaskStatus.PAUSED, TaskStatus.CANCELLED
_COMPLETED, _FAILED, _SKIPPED = TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED
_OPEN = (RunStatus.PENDING, RunStatus.RUNNING)
_ENDED_BY_ERROR = (AttemptStatus.FAILED, AttemptStatus.SKIPPED)
_BEGUN = (_RUNNING, _RETRYING)
_LEFT = {RunStatus.PAUSED: _PAUSED, RunStatus.CANCELLED: _CANCELLED, RunStatus.FAILED: _FAILED}
"""What becomes, when its run ends so, of a task that waits for its next attempt."""


class Watch:
    """Looks at what is recorded of a run, and shows it. Nothing is written.

    Args:
        view: shows it; it is prepared for `plan`.
        plan: the tasks as they are declared here; what is recorded of others is not shown.
        journal: where the run is recorded.
        here: who looks, as `host:pid:token`.
        keep_going: whether tasks that need a failed one's result are skipped: nothing is recorded of them.
    """

    def __init__(self, view: RunView, plan: Plan, journal: Journal, here: str, *, keep_going: bool) -> None:
        self._view = view
        self._plan = plan
        self._journal = journal
        self._host = _host(here)
        self._keep_going = keep_going

    def goes_on(self) -> bool:
        """Return whether somebody executes the run, or may do so where that cannot be seen from here."""
        return self._state()[1]

    def ask(self, signal: Cancel | Pause) -> bool:
        """Ask whoever executes the run to end it; see `steer`."""
        return steer(
            self._journal,
            self._view.workflow_id,
            signal.word,
            where="its storage",
            reason=signal.reason,
        )

    def look(self) -> None:
        """Show what is recorded by now."""
        view, graph = self._view, self._plan.graph
        row, goes_on = self._state()
        if row is None:  # who starts it has not come so far
            view.reason = None if goes_on else _why_left(None)
            return
        records = self._journal.tasks(view.workflow_id, recorded_keys(graph))
        for run in view.tasks:
            if not run._node.is_map:
                _show(run, records.get(run.task_id), row)
        shown: set[TaskRun] = set()
        for run in view.tasks:
            if run._node.is_map:
                self._show_map(run, records, row, shown)
        readiness = Readiness(view._by_key)
        for run in view.tasks:
            if run.status is _SKIPPED or (run.status is _FAILED and self._keep_going):
                readiness.skip_needing(run)
        if any(_finished(run) for task in view.tasks for run in (task, *(task.items or ()))):
            for run in view.tasks:
                if run.status is _PENDING:
                    run.status, run.reason = _SKIPPED, FINISHED
        view.mode = Mode(row.mode)
        view.started, view.finished = row.started_at, row.finished_at
        view.status = row.status
        view.reason = row.reason if goes_on or row.status not in _OPEN else _why_left(row)

    def _state(self) -> tuple[RunRecord | None, bool]:
        locks, workflow_id = self._journal.locks, self._view.workflow_id
        # before the row: an owner gives the run back after it has written how it ended
        holder = None if locks is None else locks.holder(workflow_id)
        row = self._journal.run(workflow_id)
        if row is not None and row.status not in _OPEN:
            return row, False
        if holder is not None:
            return row, holder.alive
        elsewhere = row is not None and row.owner is not None and _host(row.owner) != self._host
        return row, locks is None or elsewhere  # then nobody here can tell

    def _show_map(
        self, run: TaskRun, records: Mapping[str, TaskRecord], row: RunRecord, shown: set[TaskRun]
    ) -> None:
        if run in shown:
            return
        shown.add(run)
        runs = self._view._by_key
        for key in run._node.needs:  # which may stand behind it in the list
            if runs[key]._node.is_map:
                self._show_map(runs[key], records, row, shown)
        run.status, run.reason, run.errors = _PENDING, None, ()
        if not all(runs[key].status is _COMPLETED for key in run._node.needs):
            run.items = None
            return
        try:
            nodes = nodes_of(run._node, runs)
        except (CodecError, StorageError):
            raise
        except Exception as error:  # as its run was told
            run.errors = (TaskError.of(error, 0),)
            run.status, run.reason = _FAILED, f"its items could not be made: {error}"
            return
        known = {item.task_id: item for item in run.items or ()}
        items = [known.get(node.key) or TaskRun(node, run.workflow_id, run._previous) for node in nodes]
        if run._node.items is None:
            records = self._journal.tasks(run.workflow_id, [node.key for node in nodes])
        for item in items:
            _show(item, records.get(item.task_id), row)
        self._sum_up(run, items, row)
        # as in its run, there are none before its turn has come
        run.items = items if run.status is not _PENDING or any(item.attempts for item in items) else None

    def _sum_up(self, run: TaskRun, items: list[TaskRun], row: RunRecord) -> None:
        """Give a map the status its items say."""
        statuses = {item.status for item in items}
        ended = row.status not in _OPEN
        run.restored = bool(items) and all(item.restored for item in items)
        if any(item.reason == FINISHED for item in items):
            run.status, run.reason = _SKIPPED, FINISHED
        elif statuses <= {_COMPLETED, _SKIPPED}:
            turn = (self._view._by_key[key].status for key in run._node.edges)
            done = statuses or all(status in (_COMPLETED, _FAILED, _SKIPPED) for status in turn)
            run.status = _COMPLETED if done else _PENDING
        elif _FAILED in statuses and (ended or not statuses - {_COMPLETED, _FAILED, _SKIPPED}):
            run.status, run.reason = _FAILED, why_failed(items)
        elif ended:
            run.status = next((each for each in (_CANCELLED, _PAUSED) if each in statuses), _PENDING)
        else:
            begun = any(item.status is not _PENDING and not item.restored for item in items)
            run.status = _RUNNING if begun else _PENDING


def _finished(run: TaskRun) -> bool:
    """Return whether a task has said that the run is done."""
    last = run._last
    return run.status is _COMPLETED and last is not None and last.metadata.get(SIGNAL) == Finish.word


def differences(plan: Plan, row: RunRecord, *, params: bool) -> list[str]:
    """Return what of a plan differs from the run that is recorded, in words; not what cannot be compared.

    Args:
        plan: made from what is recorded.
        row: the run's.
        params: whether those are compared, too.
    """
    names = sorted(row.params.keys() | plan.params.keys()) if params else ()
    found = [f"param {name!r}" for name in names if _differs(name, row.params, plan.params)]
    doubtful = ((key, each.reason) for key, each in plan.decisions.items() if each.doubtful)
    return found + [f"{key} ({reason})" for key, reason in doubtful if _has_inputs(plan.records.get(key))]


def _has_inputs(record: TaskRecord | None) -> bool:
    result = None if record is None else record.checkpoints.get(RESULT)
    return result is None or result.inputs is not None


def _differs(name: str, before: Mapping[str, Any], today: Mapping[str, Any]) -> bool:
    from dotflow_like.plan.fingerprint import of_value

    if name not in before or name not in today:
        return True
    with suppress(FingerprintError):
        return of_value(before[name], where=name) != of_value(today[name], where=name)
    return False


def _show(run: TaskRun, record: TaskRecord | None, row: RunRecord) -> None:
    """Show a task, or an item of a map, as the process sees it that has, or had, the run last."""
    run.reason = None
    if record is None or not record.attempts:
        run._take_over(())
        run._value, run.errors, run.restored, run.status = None, (), False, _PENDING
        return
    attempts = record.attempts
    own = [each for each in attempts if each.fence == row.fence]
    result = record.checkpoints.get(RESULT)
    run._take_over(attempts)
    run._generation, run._earlier = record.generation, len(attempts) - len(own)
    run.errors = tuple(
        each.error for each in own if each.error is not None and each.status in _ENDED_BY_ERROR
    )
    run.reason = attempts[-1].metadata.get(SIGNAL_REASON)
    run._value = None if result is None else result.value
    run.restored = result is not None and not own
    run.status = _COMPLETED if result is not None else _status(attempts[-1], own, record.generation, row)


def _status(last: Attempt, own: list[Attempt], generation: int, row: RunRecord) -> TaskStatus:
    """Return where a task without a result is, by its last attempt and those of the last owner."""
    status, outcome = last.status, last.outcome
    if last.generation != generation:
        return _PENDING
    if status is AttemptStatus.SKIPPED:
        return _SKIPPED
    if status is AttemptStatus.SCHEDULED:
        return _LEFT.get(row.status, _RETRYING)
    if not own or outcome in (AttemptOutcome.RECOVERED, AttemptOutcome.DISCARDED):
        return _PENDING  # its turn has not come yet since the run was resumed
    if status is AttemptStatus.RUNNING:
        return _RUNNING
    says = last.metadata.get(SIGNAL)
    if outcome is AttemptOutcome.PAUSED or (status is AttemptStatus.FAILED and says == Pause.word):
        return _PAUSED
    if says == Cancel.word:
        return _CANCELLED
    if status is AttemptStatus.COMPLETED:  # its body wants to be run once more
        return _LEFT.get(row.status, _RETRYING)
    if status is AttemptStatus.FAILED:
        return _LEFT.get(row.status, _RETRYING) if outcome is AttemptOutcome.RETRIED else _FAILED
    if row.status is RunStatus.CANCELLED:
        return _CANCELLED
    # taken back: it was about to begin, or to be tried again, when the run was to end
    tried = any(each.status is AttemptStatus.FAILED for each in own)
    return _LEFT.get(row.status, _RETRYING) if tried else _PENDING


def _why_left(row: RunRecord | None) -> str:
    """Return why a run is where it is though nobody executes it."""
    if row is None or row.owner is None:
        return "who was to start it did not come so far; to start it again with its key runs it"
    host, pid, _ = row.owner.rsplit(":", 2)
    return f"left in the middle by its process (pid {pid} on {host}); resume=True goes on with it"


def _host(owner: str) -> str:
    return owner.rsplit(":", 2)[0]
