"""Those who only watch: what they raise is logged once and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from dotflow_like.errors import ConfigError
from dotflow_like.model.status import RunStatus, TaskStatus
from dotflow_like.report.events import Event, RunEnded, RunStarted, TaskEnded, TaskRetrying, TaskStarted
from dotflow_like.report.logs import is_read, log_event, logger
from dotflow_like.report.result import TaskRun

__all__ = ["Metrics", "Observer", "Tracer", "fan_out", "guarded", "observers_of"]

Observer = Callable[[Event], None]


class Tracer:
    """Told when a run and its tasks begin and end, in the run's process. All methods are optional.

    A task that is restored or skipped is neither started nor ended.
    """

    def start_workflow(self, workflow_id: str, **info: Any) -> None:
        """A run begins; `info` has workflow, version, mode, tasks and resumed."""

    def end_workflow(self, workflow_id: str, **info: Any) -> None:
        """A run has ended or is paused; `info` has workflow, status, reason and duration in seconds."""

    def start_task(self, task: TaskRun) -> None:
        """The first attempt of a task begins."""

    def end_task(self, task: TaskRun) -> None:
        """A started task has ended, after its last attempt."""


class Metrics:
    """Told what to count, in the run's process. All methods are optional; durations are in seconds."""

    def workflow_started(self, workflow_id: str, **info: Any) -> None:
        """A run begins; `info` has workflow, version, mode, tasks and resumed."""

    def workflow_completed(self, workflow_id: str, duration: float) -> None:
        """A run completed."""

    def workflow_failed(self, workflow_id: str, duration: float) -> None:
        """A run failed."""

    def task_completed(self, task: TaskRun) -> None:
        """A task completed."""

    def task_failed(self, task: TaskRun) -> None:
        """A task failed, after its last attempt."""

    def task_retried(self, task: TaskRun) -> None:
        """An attempt failed and another follows."""


def observers_of(tracer: object | None, metrics: object | None) -> list[Observer]:
    """Return the observers a config asks for, and the log's if anybody reads it."""
    found: list[Observer] = []
    if tracer is not None:
        found.append(_to_tracer(tracer))
    if metrics is not None:
        found.append(_to_metrics(metrics))
    if is_read():
        found.append(log_event)
    return found


def fan_out(observers: Iterable[Observer]) -> Observer:
    """Return one observer that tells all of these, each guarded from the others."""
    watching = list(observers)

    def tell(event: Event) -> None:
        for observer in watching:
            guarded("an observer", observer, event)

    return tell


def guarded(who: str, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
    """Call something of the user's that may not change the run: what it raises is logged."""
    try:
        call(*args, **kwargs)
    except KeyboardInterrupt:  # Ctrl-C is for the run
        raise
    except BaseException:
        name = getattr(call, "__qualname__", None) or type(call).__qualname__
        with suppress(Exception):  # it may be a handler of the log that raises
            logger.exception("%s (%s) raised; the run goes on unchanged", who, name)


def check_provider(given: object | None, kind: type, option: str) -> None:
    """Raise `ConfigError` unless `given` has at least one method of `kind`."""
    methods = [name for name in vars(kind) if not name.startswith("_")]
    if given is not None and (isinstance(given, type) or not any(hasattr(given, name) for name in methods)):
        raise ConfigError(
            f"{option} is {given!r}; give an instance of {kind.__name__}, or of any class with "
            f"one of its methods: {', '.join(methods)}"
        )


def _method(provider: object, name: str) -> Callable[..., Any]:
    return getattr(provider, name, None) or _nothing


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _to_tracer(tracer: object) -> Observer:
    start_workflow, end_workflow = _method(tracer, "start_workflow"), _method(tracer, "end_workflow")
    start_task, end_task = _method(tracer, "start_task"), _method(tracer, "end_task")

    def observe(event: Event) -> None:
        match event:
            case TaskStarted(task):
                start_task(task)
            case TaskEnded(task):
                end_task(task)
            case RunStarted(workflow_id, info):
                start_workflow(workflow_id, **info)
            case RunEnded(workflow_id, info):
                end_workflow(workflow_id, **info)

    return observe


def _to_metrics(metrics: object) -> Observer:
    started = _method(metrics, "workflow_started")
    run_ends: dict[RunStatus, Callable[..., Any]] = {
        RunStatus.COMPLETED: _method(metrics, "workflow_completed"),
        RunStatus.FAILED: _method(metrics, "workflow_failed"),
    }
    task_ends: dict[TaskStatus, Callable[..., Any]] = {
        TaskStatus.COMPLETED: _method(metrics, "task_completed"),
        TaskStatus.FAILED: _method(metrics, "task_failed"),
    }
    retried = _method(metrics, "task_retried")

    def observe(event: Event) -> None:
        match event:
            case TaskEnded(task) if task.status in task_ends:
                task_ends[task.status](task)
            case TaskRetrying(task):
                retried(task)
            case RunStarted(workflow_id, info):
                started(workflow_id, **info)
            case RunEnded(workflow_id, info) if info["status"] in run_ends:
                run_ends[info["status"]](workflow_id, info["duration"])

    return observe
