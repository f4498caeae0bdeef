"""A workflow run task by task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from dotflow_like.config import RunOptions
from dotflow_like.declare.task import Task
from dotflow_like.manager import Workflow
from dotflow_like.record.memory import MemoryJournal
from dotflow_like.report.result import TaskRun
from dotflow_like.run import Run
from dotflow_like.testing.fake_clock import FakeClock
from dotflow_like.testing.inline import inline_order, launch_inline
from dotflow_like.testing.ran import tried

__all__ = ["Steps"]


class Steps:
    """A workflow that a test runs task by task, to look at the world in between, or to change it.

    A step is one task, or one item of a map, with all its attempts; waits are skipped, as by `run_inline`. Between
    two steps the run is paused, with reason `stepped`, and the next one resumes it.

    Args:
        tasks: the tasks, or the workflow.
        options: those of `Workflow.run`, but for `keep_going` and `resume`: a run that is resumed runs failed tasks
            again. Without a storage the run is kept in memory, its results as they are.

    Attributes:
        run: the run as the last step has left it; None before the first.

    Raises:
        TypeError: `keep_going` or `resume` is among the options.
    """

    def __init__(
        self, tasks: Workflow | Iterable[Task[..., Any] | str], **options: Unpack[RunOptions]
    ) -> None:
        for word in {"keep_going", "resume"} & options.keys():
            raise TypeError(
                f"Steps takes no {word}=: every step resumes the run, and so runs failed tasks again"
            )
        self._workflow = tasks if isinstance(tasks, Workflow) else Workflow(tasks)
        inline_order(options.copy())  # what is wrong with them is raised here
        self._options = options
        self._journal = MemoryJournal()
        self._clock = FakeClock()
        self._workflow_id: str | None = None
        self.run: Run | None = None

    def next(self) -> TaskRun | None:
        """Run the next task, or the next item of a map.

        Returns:
            The task that has run; None when the run has ended: all is done, a task has failed, or has paused or
            cancelled it.
        """
        if self.run is not None and self.run.reason != "stepped":
            return None
        order = inline_order(self._options.copy())
        order.workflow_id, order.resume, order.steps = order.workflow_id or self._workflow_id, True, 1
        if not order.config.keeps:
            order.journal = self._journal
            order.fingerprint = order.fingerprint or "the same in every step"
        run = Run()
        try:
            launch_inline(self._workflow, run, order, self._clock)
        finally:  # a callback may have raised
            self._workflow_id = order.workflow_id
            self.run = run if hasattr(run, "workflow_id") else self.run
        return next(iter(tried(run)), None)
