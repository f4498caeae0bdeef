"""What one turn of the kernel brings: changes to be recorded, and events to be told after that."""

from __future__ import annotations

from dotflow_like.record.journal import Change, Claim, Journal
from dotflow_like.report.events import TaskEnded, TaskRestored, TaskRetrying, TaskSkipped, TaskStarted
from dotflow_like.report.observers import Observer, guarded
from dotflow_like.report.result import TaskRun

__all__ = ["Turn"]

_TaskEvent = type[TaskStarted] | type[TaskEnded] | type[TaskRetrying] | type[TaskRestored] | type[TaskSkipped]


class Turn:
    """Collects what has happened; written at once, and told when it is recorded.

    Args:
        journal: where it is recorded.
        claim: the right to record there; None for a plan that is complete, which changes nothing.
        observer: told every event; None when nobody watches.

    Attributes:
        changes: what is to be recorded.
        observer: the same.
    """

    def __init__(self, journal: Journal, claim: Claim | None, observer: Observer | None) -> None:
        self._journal = journal
        self._claim = claim
        self.observer = observer
        self.changes: list[Change] = []
        self._announcements: list[tuple[_TaskEvent, TaskRun]] = []

    def announce(self, event: _TaskEvent, run: TaskRun) -> None:
        """Have an event of a task told once it is recorded."""
        if self.observer is not None or run._node.task.callback is not None:
            self._announcements.append((event, run))

    def write(self) -> None:
        """Record what has changed."""
        if self.changes:
            assert self._claim is not None, "a plan that is complete changes nothing"
            self._journal.commit(self._claim, self.changes)
            self.changes = []

    def tell(self) -> None:
        """Tell what is recorded by now."""
        if self._announcements:
            announcements, self._announcements = self._announcements, []
            for event, run in announcements:
                self._tell(event, run)

    def _tell(self, event: _TaskEvent, run: TaskRun) -> None:
        if self.observer is not None:
            self.observer(event(run))
        callback = run._node.task.callback
        if event is TaskEnded and callback is not None and run._map is None:
            guarded(f"the callback of task {run.task_id!r}", callback, task=run)
