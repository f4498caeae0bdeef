"""What is recorded of a run, shown as a run that somebody else executes."""

from __future__ import annotations

from dotflow_like.execute.items import items_of
from dotflow_like.model.records import RESULT, RunRecord, TaskRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus, TaskStatus
from dotflow_like.plan.plan import Plan
from dotflow_like.record.journal import Journal
from dotflow_like.report.result import RunView, TaskRun

__all__ = ["show"]

_STATUSES = {
    AttemptStatus.SCHEDULED: TaskStatus.RETRYING,
    AttemptStatus.RUNNING: TaskStatus.RUNNING,
    AttemptStatus.FAILED: TaskStatus.FAILED,
    AttemptStatus.SKIPPED: TaskStatus.SKIPPED,
    AttemptStatus.CANCELLED: TaskStatus.CANCELLED,
}
_LATER = {AttemptOutcome.RETRIED: TaskStatus.RETRYING, AttemptOutcome.PAUSED: TaskStatus.PAUSED}
_NOT_DONE = (AttemptOutcome.RECOVERED, AttemptOutcome.DISCARDED)


def show(view: RunView, row: RunRecord, plan: Plan, journal: Journal) -> None:
    """Fill `view`, which is prepared for `plan`, with what is recorded. Nothing is written.

    Args:
        view: the run.
        row: its row.
        plan: made from what is recorded of its tasks.
        journal: where that is.
    """
    view.status, view.reason = row.status, row.reason
    view.started, view.finished = row.started_at, row.finished_at
    for run in view.tasks:
        if run._node.is_map:
            _show_items(run, view, plan, journal)
        else:
            _show_task(run, plan.records.get(run.task_id))


def _show_task(run: TaskRun, record: TaskRecord | None) -> None:
    if record is None or not record.attempts:
        return
    run._take_over(record.attempts)
    run._generation = record.generation
    run.errors = tuple(each.error for each in record.attempts if each.error is not None)
    if RESULT in record.checkpoints:
        run.status, run._value = TaskStatus.COMPLETED, record.checkpoints[RESULT].value
        return
    last = record.attempts[-1]
    if last.generation == record.generation and last.outcome not in _NOT_DONE:
        run.status = (last.outcome and _LATER.get(last.outcome)) or _STATUSES.get(last.status, run.status)


def _show_items(run: TaskRun, view: RunView, plan: Plan, journal: Journal) -> None:
    """Show a map, once all it iterates over is there."""
    if not all(view._by_key[key].status is TaskStatus.COMPLETED for key in run._node.needs):
        return
    items = items_of(run._node, view._by_key, plan, journal, view.workflow_id)
    records = {**plan.records, **items.records}
    run.items = [TaskRun(node, view.workflow_id, run._previous) for node in items.nodes]
    for item in run.items:
        _show_task(item, records.get(item.task_id))
    statuses = {item.status for item in run.items}
    if statuses <= {TaskStatus.COMPLETED}:
        run.status = TaskStatus.COMPLETED if statuses or view.status is RunStatus.COMPLETED else run.status
    elif view.status is RunStatus.RUNNING and statuses != {TaskStatus.PENDING}:
        run.status = TaskStatus.RUNNING
    else:
        left = (TaskStatus.FAILED, TaskStatus.CANCELLED, TaskStatus.PAUSED)
        run.status = next((each for each in left if each in statuses), run.status)
