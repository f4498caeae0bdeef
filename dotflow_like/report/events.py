"""What happens in a run, as one stream of frozen events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dotflow_like.report.result import TaskRun

__all__ = [
    "Event",
    "RunEnded",
    "RunStarted",
    "TaskEnded",
    "TaskProgress",
    "TaskRestored",
    "TaskRetrying",
    "TaskSkipped",
    "TaskStarted",
]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins. `info`: workflow, version, mode, tasks (how many), resumed."""

    workflow_id: str
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskStarted:
    """The first attempt of a task begins."""

    task: TaskRun


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """A task that runs has told how far it has come; its `progress` says how far."""

    task: TaskRun


@dataclass(frozen=True, slots=True)
class TaskRetrying:
    """An attempt failed, and another follows."""

    task: TaskRun


@dataclass(frozen=True, slots=True)
class TaskEnded:
    """A task that was started has ended; its status says how."""

    task: TaskRun


@dataclass(frozen=True, slots=True)
class TaskRestored:
    """A task's result is an earlier process's; it does not run."""

    task: TaskRun


@dataclass(frozen=True, slots=True)
class TaskSkipped:
    """A task will not run; its reason says why."""

    task: TaskRun


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run has ended, or is paused. `info`: workflow, status, reason, duration (seconds)."""

    workflow_id: str
    info: Mapping[str, Any]


Event = (
    RunStarted | TaskStarted | TaskProgress | TaskRetrying | TaskEnded | TaskRestored | TaskSkipped | RunEnded
)
