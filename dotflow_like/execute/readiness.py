"""Who decides whose turn it is: what waits for what, and what is ready."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from dotflow_like.model.status import TaskStatus
from dotflow_like.plan.node import Rule
from dotflow_like.report.result import TaskRun

__all__ = ["Readiness"]

_PENDING = TaskStatus.PENDING


class Readiness:
    """Follows the edges of a plan as its tasks end.

    Args:
        runs: the tasks of the run, and the items of maps once they are known, by key.

    Attributes:
        ready: those whose turn has come, first come first.
    """

    def __init__(self, runs: Mapping[str, TaskRun]) -> None:
        self._runs = runs
        self.ready: deque[TaskRun] = deque()

    def begin(self, tasks: Iterable[TaskRun]) -> None:
        """Find those that wait for nothing. Some may have ended before: they are restored."""
        first = []
        for run in tasks:
            run._waiting = len(run._node.edges)
            if not run._waiting:
                first.append(run)
        for run in first:
            if run.status is _PENDING:
                self.ready.append(run)
            else:
                self.release(run)

    def release(self, run: TaskRun) -> None:
        """Let those that waited for a task know that it has ended."""
        ended = [run]
        while ended:
            for node in ended.pop()._node.followers:
                follower = self._runs[node.key]
                follower._waiting -= 1
                if not follower._waiting:
                    if follower.status is _PENDING:
                        self.ready.append(follower)
                    else:  # skipped or restored long since; now its turn in the order has come, and is over
                        ended.append(follower)

    def skip_needing(self, run: TaskRun) -> list[TaskRun]:
        """Skip the tasks bound to a result that will not come, and those bound to theirs; return them."""
        skipped = []
        without = [run]
        while without:
            needed = without.pop()
            for node in needed._node.followers:
                follower = self._runs[node.key]
                if node.edges[needed.task_id] == Rule.NEEDS and follower.status is _PENDING:
                    follower.status = TaskStatus.SKIPPED
                    follower.reason = f"it needs the result of {needed.task_id!r}, which is {needed.status}"
                    skipped.append(follower)
                    without.append(follower)
        return skipped

    def begin_items(self, run: TaskRun, items: list[TaskRun]) -> None:
        """Make those of a map's items ready that are to run."""
        run._waiting = len(items)
        self.ready += items

    def item_ended(self, run: TaskRun) -> bool:
        """Note that an item of the map `run` has ended; return whether it was the last."""
        run._waiting -= 1
        return not run._waiting
