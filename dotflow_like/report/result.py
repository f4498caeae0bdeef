"""A run and its tasks as their user sees them, while they run and when they are done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from threading import Thread
from typing import Any, Self

from dotflow_like.declare.task import Task
from dotflow_like.errors import RunFailed, TaskFailure
from dotflow_like.model.context import Context, Progress
from dotflow_like.model.records import Attempt, Held, Reference, TaskError, full_name
from dotflow_like.model.status import Mode, RunStatus, TaskStatus
from dotflow_like.plan.node import Node
from dotflow_like.plan.plan import Plan

__all__ = ["RunView", "TaskRun"]

_SHOWN = 10_000
"""How many parts of a result `to_dict` shows."""
_COMPLETED = TaskStatus.COMPLETED
_PENDING = TaskStatus.PENDING


class TaskRun:
    """One task of one run: what became of it.

    Attributes:
        workflow_id: the run.
        status: where the task is.
        reason: why it is there, where that is not plain: why it was skipped, what an item failed of.
        restored: whether its result is an earlier process's.
        errors: one record for each attempt of this run that failed.
        items: of a map, one `TaskRun` for each item, in order; None for a task that is no map.
        progress: how far its last attempt said it has come; None if it said nothing.
    """

    __slots__ = (
        "_before",
        "_earlier",
        "_generation",
        "_last",
        "_map",
        "_node",
        "_previous",
        "_value",
        "_waiting",
        "errors",
        "items",
        "progress",
        "reason",
        "restored",
        "status",
        "workflow_id",
    )

    def __init__(self, node: Node, workflow_id: str, previous: TaskRun | None) -> None:
        self._node = node
        self._previous = previous
        self._value: Reference | None = None
        self._map: TaskRun | None = None  # of an item
        self._waiting = 0  # for how many it waits: tasks before it, or items of it
        self._generation = 1
        self._earlier = 0  # how many of its attempts earlier processes made
        self.workflow_id = workflow_id
        self.status = _PENDING
        self.reason: str | None = None
        self.restored = False
        self.errors: tuple[TaskError, ...] = ()
        # most tasks have one attempt, and need no tuple for it
        self._last: Attempt | None = None
        self._before: tuple[Attempt, ...] = ()
        self.items: list[TaskRun] | None = None
        self.progress: Progress | None = None

    @property
    def task_id(self) -> str:
        """The task's key in the run."""
        return self._node.key

    @property
    def name(self) -> str:
        """The task's name."""
        return self._node.task.name

    @property
    def group_name(self) -> str | None:
        """The task's group; None for none."""
        return self._node.task.group_name

    @property
    def result(self) -> Any:
        """What the task returned, read from its storage; None while there is nothing.

        Raises:
            CorruptCheckpoint: the stored result is damaged.
            StorageError: it cannot be read.
        """
        if self.items is not None:
            return [item.result for item in self.items] if self.status is _COMPLETED else None
        return None if self._value is None else self._value.load()

    @property
    def initial_context(self) -> Context:
        """The context an `initial_context` parameter gets."""
        given = self._node.task.initial_context
        return given if isinstance(given, Context) else Context(given)

    @property
    def previous_context(self) -> Context:
        """The context of the task before it in its chain; its value is None at the head, or if that one failed."""
        return Context() if self._previous is None else self._previous.current_context

    @property
    def current_context(self) -> Context:
        """The task's result as a context, as the next one in its chain gets it."""
        at = self.finished_at
        given = {} if at is None else {"time": at}
        return Context(self.result, task_id=self.task_id, workflow_id=self.workflow_id, **given)

    @property
    def retry_count(self) -> int:
        """Attempts after the first; those of discarded results do not count."""
        return max(0, sum(each.generation == self._generation for each in self.attempts) - 1)

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every attempt, the earlier processes' too."""
        return self._before if self._last is None else (*self._before, self._last)

    @property
    def started_at(self) -> datetime | None:
        """When the first attempt in this process began, in UTC; of a restored task, the one that completed it."""
        if self.items is not None:
            return min((item.started_at for item in self.items if item.started_at), default=None)
        own = self.attempts[-1:] if self.restored else self.attempts[self._earlier :]
        return own[0].started_at if own else None

    @property
    def finished_at(self) -> datetime | None:
        """When the last of these attempts ended, in UTC; None before."""
        if self.items is not None:
            ends = [item.finished_at for item in self.items]
            return max((end for end in ends if end), default=None) if all(ends) else None
        own = self.attempts if self.restored else self.attempts[self._earlier :]
        return own[-1].finished_at if own else None

    @property
    def duration(self) -> float | None:
        """Seconds from the start of the first attempt to the end of the last; None before."""
        return _seconds(self.started_at, self.finished_at)

    def to_dict(self) -> dict[str, Any]:
        """Return the task as plain data. A result that is no plain data is shown by its type."""
        shown: dict[str, Any] = {
            "task_id": self.task_id,
            "name": self.name,
            "group_name": self.group_name,
            "status": str(self.status),
            "reason": self.reason,
            "restored": self.restored,
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "duration": self.duration,
            "retry_count": self.retry_count,
            "errors": [
                {name: getattr(each, name) for name in ("attempt", "exception", "message", "traceback")}
                for each in self.errors
            ],
        }
        if self.items is None:
            shown["result"] = _Plain().show(self)
        else:
            shown["items"] = [item.to_dict() for item in self.items]
        return shown

    def _take_over(self, attempts: tuple[Attempt, ...]) -> None:
        """Make `attempts` those there have been so far."""
        self._before, self._last = attempts[:-1], attempts[-1] if attempts else None

    def _reference(self) -> Reference:
        """Return where its result is, to be read where it is needed."""
        if self.items is not None:
            return _Several([item._reference() for item in self.items])
        return _NOTHING if self._value is None else self._value

    def _context_of_reference(self) -> Context:
        """Return `current_context` with a reference, or None, for its value."""
        value = self._reference() if self.status is _COMPLETED else None
        at = {} if self.finished_at is None else {"time": self.finished_at}
        return Context(value, task_id=self.task_id, workflow_id=self.workflow_id, **at)

    def __repr__(self) -> str:
        return f"<TaskRun {self.task_id!r} {self.status}>"


class _Several:
    """The results of the items of a map."""

    def __init__(self, references: list[Reference]) -> None:
        self._references = references

    def load(self) -> list[Any]:
        return [reference.load() for reference in self._references]


_NOTHING = Held(None)


class RunView:
    """A run, to be read.

    Attributes:
        tasks: one `TaskRun` for each task of the workflow, in its order.
        workflow_id: names the run.
        status: where it is.
        reason: why it is there, where that is not plain.
        started: when this process began it, in UTC; None before.
        finished: when it ended; None before.
        mode: the mode it runs in.
        config: the config it was given.
        on_success: called with `tasks=` when all completed.
        on_failure: called with `tasks=` when the run failed.
        thread: in background mode the thread it runs in, else None.
    """

    tasks: list[TaskRun]
    workflow_id: str
    status: RunStatus
    reason: str | None
    started: datetime | None
    finished: datetime | None
    mode: Mode
    config: Any
    on_success: Callable[..., Any] | None
    on_failure: Callable[..., Any] | None
    thread: Thread | None
    _by_key: dict[str, TaskRun]

    def _prepare(
        self,
        plan: Plan,
        workflow_id: str,
        config: Any,
        on_success: Callable[..., Any] | None,
        on_failure: Callable[..., Any] | None,
    ) -> None:
        """Become the run of `plan` that has not begun."""
        self.workflow_id, self.mode, self.config, self.thread = workflow_id, plan.mode, config, None
        self.status, self.reason, self.started, self.finished = RunStatus.PENDING, None, None, None
        self.on_success, self.on_failure = on_success, on_failure
        by_key: dict[str, TaskRun] = {}
        self._by_key = by_key
        for key, node in plan.graph.items():
            previous = node.previous
            by_key[key] = TaskRun(node, workflow_id, None if previous is None else by_key[previous.key])
        self.tasks = list(by_key.values())

    def __getitem__(self, task: Task[..., Any] | str) -> TaskRun:
        """Return the `TaskRun` of a task, or of a task id.

        Raises:
            KeyError: there is none, or the task is in the list more than once.
        """
        if isinstance(task, str):
            found = [self._by_key[task]] if task in self._by_key else []
        else:
            found = [each for each in self.tasks if each._node.task is task]
            found = found or [each for each in self.tasks if task in each._node.task.origins()]
        if len(found) == 1:
            return found[0]
        ids = ", ".join(each.task_id for each in found or self.tasks)
        raise KeyError(
            f"{task!r} is in this run {'more than once' if found else 'not at all'}; ask by task id, of: {ids}"
        )

    @property
    def duration(self) -> float | None:
        """Seconds from the start to the end; None before."""
        return _seconds(self.started, self.finished)

    @property
    def results(self) -> Mapping[str, Any]:
        """The result of each completed task, by task id, read when it is looked up."""
        return _Results({task.task_id: task for task in self.tasks if task.status is _COMPLETED})

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt of every task, task by task."""
        found: list[Attempt] = []
        for task in self.tasks:
            for each in (task, *(task.items or ())):
                found += each.attempts
        return found

    def raise_for_failure(self) -> Self:
        """Return the run if it completed.

        Raises:
            RunFailed: it did not: a flat group of the errors of its failed tasks. A `TaskFailure`
                stands in for one that was not kept or is no `Exception`, and for a reason of the run itself.
        """
        if self.status is RunStatus.COMPLETED:
            return self
        failed = [
            each for task in self.tasks for each in (task.items or [task]) if each.status is TaskStatus.FAILED
        ]
        errors = [_raisable(each) for each in failed]
        why = f" ({self.reason})" if self.reason else ""
        message = f"run {self.workflow_id} is {self.status}{why}"
        raise RunFailed(message, errors or [TaskFailure(message)])

    def to_dict(self) -> dict[str, Any]:
        """Return the run as plain data, that `json.dumps` takes as it is."""
        return {
            "workflow_id": self.workflow_id,
            "status": str(self.status),
            "reason": self.reason,
            "mode": str(self.mode),
            "started": _iso(self.started),
            "finished": _iso(self.finished),
            "duration": self.duration,
            "tasks": [task.to_dict() for task in self.tasks],
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.workflow_id} {self.status}, {len(self.tasks)} tasks>"


class _Results(Mapping[str, Any]):
    def __init__(self, tasks: Mapping[str, TaskRun]) -> None:
        self._tasks = tasks

    def __getitem__(self, task_id: str) -> Any:
        return self._tasks[task_id].result

    def __iter__(self) -> Iterator[str]:
        return iter(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<results of {', '.join(self._tasks) or 'no task'}>"


def _raisable(task: TaskRun) -> Exception:
    if task.errors:
        last = task.errors[-1]
        if isinstance(last.error, Exception):
            return last.error
        return TaskFailure(f"task {task.task_id!r}, attempt {last.attempt}: {last.exception}: {last.message}")
    return TaskFailure(f"task {task.task_id!r} failed: {task.reason}")


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


class _Plain:
    """Shows a value as plain data: what is none, or too much, by its type."""

    def __init__(self) -> None:
        self._left = _SHOWN

    def show(self, task: TaskRun) -> Any:
        try:
            return self._show(task.result, 0)
        except Exception as error:  # damaged, out of reach, or of a class that cannot be loaded here
            return f"<not readable: {type(error).__name__}>"

    def _show(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._left -= 1
        if value is None or kind in (bool, str) or (kind is float and math.isfinite(value)):
            return value
        if kind is int and value.bit_length() < 10_000:  # json refuses more than 4,300 digits
            return value
        if depth < 50 and self._left > 0:  # deeper is also what contains itself
            if kind is list:
                return [self._show(each, depth + 1) for each in value]
            if kind is dict and all(type(key) is str for key in value):
                return {key: self._show(each, depth + 1) for key, each in value.items()}
        return f"<{full_name(kind)}>"
