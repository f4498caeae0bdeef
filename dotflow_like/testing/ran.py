"""What has run in a run."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from dotflow_like.declare.task import Task
from dotflow_like.model.records import Attempt
from dotflow_like.model.status import TaskStatus
from dotflow_like.report.result import RunView, TaskRun

__all__ = ["assert_ran", "ran", "tried"]

_CONDITIONS = ("cancel_if", "run_if", "skip_if")


def ran(run: RunView) -> list[str]:
    """Return the ids of the tasks whose bodies ran in this run, in the order they began.

    Restored tasks are not among them, nor those a condition kept from running. Of a map it is the items:
    `double[0]`, `double[1]`.

    Args:
        run: the run; of one that was resumed it is what ran since.
    """
    return [each.task_id for each in tried(run) if any(map(_has_run, _own(each)))]


def assert_ran(run: RunView, *expected: Task[..., Any] | str) -> None:
    """Assert that exactly these tasks ran in this run, beginning in this order.

    Args:
        run: the run.
        expected: the tasks, or their ids; a map stands for all its items.

    Raises:
        AssertionError: others did, or in another order; it says what ran, and why the others did not.
        KeyError: there is no such task in the run.
    """
    found = ran(run)
    wanted = [key for each in expected for key in _ids(run, each)]
    if found == wanted:
        return
    lines = [
        f"run {run.workflow_id} is {run.status}{f' ({run.reason})' if run.reason else ''}",
        f"  expected to run: {', '.join(wanted) or 'nothing'}",
        f"  ran:             {', '.join(found) or 'nothing'}",
    ]
    seen = set(found)
    lines += [
        f"  {each.task_id} did not run: {_why_not(each)}" for each in _each(run) if each.task_id not in seen
    ]
    raise AssertionError("\n".join(lines))


def tried(run: RunView) -> list[TaskRun]:
    """Return the tasks, and items of maps, that had their turn in this run, in the order it came."""
    found = [(own[0].started_at, each) for each in _each(run) if (own := _own(each))]
    # stable: of what has begun in one turn, or on a clock that stands still, the order is that of the edges
    return [each for _, each in sorted(found, key=itemgetter(0))]


def _each(run: RunView) -> Iterator[TaskRun]:
    """Yield the tasks, and of maps the items, in an order in which they can run."""
    waits = {each.task_id: len(each._node.edges) for each in run.tasks}
    ready = [each for each in run.tasks if not waits[each.task_id]]
    for each in ready:  # it grows
        yield from each.items or [each]
        for node in each._node.followers:
            waits[node.key] -= 1
            if not waits[node.key]:
                ready.append(run[node.key])


def _own(task: TaskRun) -> list[Attempt]:
    """Return the attempts that this run has begun."""
    return [each for each in task.attempts[task._earlier :] if each.started_at is not None]


def _has_run(attempt: Attempt) -> bool:
    """Return whether its body has begun."""
    return attempt.metadata.get("signal_reason") not in _CONDITIONS


def _ids(run: RunView, task: Task[..., Any] | str) -> list[str]:
    found = run[task]
    return [found.task_id] if found.items is None else [item.task_id for item in found.items]


def _why_not(task: TaskRun) -> str:
    if task.restored:
        return "restored"
    why = f": {task.reason}" if task.reason else ""
    if task.status is TaskStatus.PENDING and not why:
        return "pending, its turn did not come"
    return f"{task.status}{why}"
