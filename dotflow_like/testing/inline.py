"""A workflow run at once, for a test to look at."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Unpack

from dotflow_like import clock
from dotflow_like.config import Order, RunOptions
from dotflow_like.declare.task import Task
from dotflow_like.launch import launch
from dotflow_like.manager import Workflow
from dotflow_like.run import Run
from dotflow_like.testing.fake_clock import FakeClock

__all__ = ["run_inline"]


def run_inline(tasks: Workflow | Iterable[Task[..., Any] | str], **options: Unpack[RunOptions]) -> Run:
    """Run tasks, or a workflow, in this thread and without waiting, whatever the mode.

    Delays of retries are skipped by a `FakeClock`, the one whose block this is in or a new one; parallel tasks
    run one after another, and isolated ones like others; a run in the background has ended when this returns.

    Args:
        tasks: the tasks, or the workflow.
        options: those of `Workflow.run`.

    Returns:
        The run, ended.
    """
    workflow = tasks if isinstance(tasks, Workflow) else Workflow(tasks)
    if options.get("mode") == "parallel":
        options["executor"] = "inline"
    with nullcontext() if isinstance(clock.current(), FakeClock) else FakeClock():
        run, order = Run(), Order(**options)
        order.isolates = False
        launch(workflow, run, order)
        return run.wait()
