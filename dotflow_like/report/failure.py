"""What a failed or interrupted run tells on stderr when nobody else does."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path

from dotflow_like.model.records import TaskError
from dotflow_like.model.status import RunStatus, TaskStatus
from dotflow_like.report.result import RunView, TaskRun

__all__ = ["report_failure", "report_interrupt"]

_FRAMES = 6
_TASKS = 10
_FRAME = re.compile(r'  File "(?P<file>.+?)", line \d+.*\n(?:    .*\n)*')
_OURS = f"{Path(__file__).parent.parent}{os.sep}"
_NOT_THE_USERS = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    "<frozen ",
)


def report_failure(run: RunView, workflow: str, *, resumable: bool) -> None:
    """Write to stderr which tasks failed, of what, where in the user's code, and how to go on."""
    failed = [
        each for task in run.tasks for each in (task.items or [task]) if each.status is TaskStatus.FAILED
    ] or [task for task in run.tasks if task.status is TaskStatus.FAILED]
    left = sum(task.status in (TaskStatus.PENDING, TaskStatus.SKIPPED) for task in run.tasks)
    lines = [
        f"run {run.workflow_id} of {workflow} failed ({run.reason}); {left} of {len(run.tasks)} tasks did not run"
    ]
    for task in failed[:_TASKS]:
        lines += _about(task)
    if len(failed) > _TASKS:
        lines.append(f"  and {len(failed) - _TASKS} more")
    lines.append(_how_to_resume(run, resumable))
    _write(lines)


def report_interrupt(run: RunView, workflow: str, *, resumable: bool) -> None:
    """Write to stderr that a run was stopped by a signal, and how to go on."""
    done = sum(task.status is TaskStatus.COMPLETED for task in run.tasks)
    state = run.status if run.status is not RunStatus.PAUSED else f"paused ({run.reason})"
    lines = [f"run {run.workflow_id} of {workflow} is {state}; {done} of {len(run.tasks)} tasks are done"]
    if run.status is not RunStatus.COMPLETED:
        lines.append(_how_to_resume(run, resumable))
    _write(lines)


def _about(task: TaskRun) -> list[str]:
    if not task.errors:
        return [f"  task {task.task_id!r}: {task.reason}"]
    last = task.errors[-1]
    attempt = f", attempt {last.attempt}" if last.attempt else ""  # none was made of a map without items
    lines = [f"  task {task.task_id!r}{attempt}: {last.exception}: {last.message}"]
    return lines + [f"  {line}" for frame in _frames(last) for line in frame.splitlines()]


def _frames(error: TaskError) -> list[str]:
    frames = [(match["file"], match[0]) for match in _FRAME.finditer(error.traceback)]
    frames = [(file, text) for file, text in frames if not file.startswith(_OURS)]
    theirs = [text for file, text in frames if not file.startswith(_NOT_THE_USERS)]
    return (theirs or [text for _, text in frames])[-_FRAMES:]


def _how_to_resume(run: RunView, resumable: bool) -> str:
    if resumable:
        return f"  to go on: the same Manager(...) with workflow_id={run.workflow_id!r}, resume=True"
    return "  to be able to go on after a failure: Manager(..., workflow_id='a-name', storage='a-folder')"


def _write(lines: list[str]) -> None:
    """Write to stderr; a stream that is gone, or cannot show every letter, is no reason to fail."""
    text = "\n".join(lines) + "\n"
    if sys.stderr is None:  # a program without a console
        return
    with suppress(OSError, ValueError):  # gone: a broken pipe, a closed file
        try:
            sys.stderr.write(text)
        except UnicodeEncodeError:
            sys.stderr.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        sys.stderr.flush()
