"""The library's log: the standard library's, silent until its user configures it."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

from dotflow_like.errors import DotflowWarning
from dotflow_like.model.status import RunStatus, TaskStatus
from dotflow_like.report.events import (
    Event,
    RunEnded,
    RunStarted,
    TaskEnded,
    TaskProgress,
    TaskRestored,
    TaskRetrying,
    TaskSkipped,
)
from dotflow_like.report.result import TaskRun

__all__ = ["is_read", "log_event", "logger", "warn"]

logger = logging.getLogger("dotflow_like")
logger.addHandler(logging.NullHandler())


def warn(message: str, *, in_run: bool = False, **fields: Any) -> None:
    """Warn as `DotflowWarning`, and in the log.

    Args:
        message: what happened, and what to do about it.
        in_run: the run is under way: a filter that makes warnings errors must not break it.
        fields: attributes of the log record.
    """
    logger.warning(message, extra=fields)
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("dotflow_like."):
        frame, level = frame.f_back, level + 1
    try:
        warnings.warn(message, DotflowWarning, stacklevel=level)  # at the user's own line
    except DotflowWarning:
        if not in_run:
            raise


def is_read() -> bool:
    """Return whether there is a handler for what is logged; nothing need be made for nobody."""
    if not logger.isEnabledFor(logging.ERROR):
        return False
    asked: logging.Logger | None = logger
    while asked is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in asked.handlers):
            return True
        asked = asked.parent if asked.propagate else None
    return False


def log_event(event: Event) -> None:
    """Write one record for an event, with the ids as attributes of the record."""
    if isinstance(event, RunStarted | RunEnded):
        level, text = _about_run(event)
        logger.log(level, text, extra={"workflow_id": event.workflow_id, **event.info})
        return
    task = event.task
    if isinstance(event, TaskProgress):
        _log_progress(task)
        return
    level = logging.ERROR if task.status is TaskStatus.FAILED else logging.INFO
    words = {TaskRestored: "restored", TaskRetrying: "retrying"}
    text = words.get(type(event)) or ("started" if task.status is TaskStatus.RUNNING else str(task.status))
    if isinstance(event, TaskRetrying):
        level = logging.WARNING
    if not logger.isEnabledFor(level):
        return
    cause = (
        f": {task.errors[-1].exception}: {task.errors[-1].message}"
        if level > logging.INFO and task.errors
        else ""
    )
    cause = f": {task.reason}" if isinstance(event, TaskSkipped) else cause
    fields: dict[str, Any] = {
        "workflow_id": task.workflow_id,
        "task_id": task.task_id,
        "task_status": str(task.status),
        "attempt": len(task.attempts),
    }
    if isinstance(event, TaskEnded):
        fields["duration"] = task.duration
    logger.log(level, "task %s %s%s", task.task_id, text, cause, extra=fields)


def _log_progress(task: TaskRun) -> None:
    progress = task.progress
    if progress is None or not logger.isEnabledFor(logging.DEBUG):
        return
    done, total, message = progress
    fields = {
        "workflow_id": task.workflow_id,
        "task_id": task.task_id,
        "attempt": len(task.attempts),
        "done": done,
        "total": total,
        "progress_message": message,  # `message` is a word of the standard library's
    }
    of, what = "" if total is None else f" of {total}", f": {message}" if message else ""
    logger.debug("task %s: %s%s done%s", task.task_id, done, of, what, extra=fields)


def _about_run(event: RunStarted | RunEnded) -> tuple[int, str]:
    name = event.info["workflow"]
    if isinstance(event, RunStarted):
        return logging.INFO, f"run {event.workflow_id} of {name} started"
    status = event.info["status"]
    why = f": {event.info['reason']}" if event.info["reason"] else ""
    level = logging.ERROR if status is RunStatus.FAILED else logging.INFO
    return level, f"run {event.workflow_id} of {name} {status}{why}"
