"""Which executor a run gets."""

from __future__ import annotations

import os
import threading

from dotflow_like.errors import ConfigError
from dotflow_like.execute.executors.base import Executor
from dotflow_like.execute.executors.inline import InlineExecutor
from dotflow_like.execute.executors.threads import ThreadExecutor
from dotflow_like.execute.workers.settings import WorkerSettings
from dotflow_like.model.status import Mode
from dotflow_like.plan.plan import Plan

__all__ = ["executor_for"]


def executor_for(
    plan: Plan,
    name: str | None,
    max_workers: int | None,
    workers: WorkerSettings,
    *,
    in_thread: bool,
    has_timeout: bool,
    isolates: bool,
) -> Executor:
    """Return the executor of a run.

    Args:
        plan: what it runs.
        name: in parallel mode `process`, `thread` or `inline`; None for `process`.
        max_workers: how many tasks run at once there; None for as many as do well.
        workers: how worker processes are made and kept.
        in_thread: the run is in a thread.
        has_timeout: the run has a time limit.
        isolates: isolated tasks go to worker processes; False for a test that runs all of them inline.

    Raises:
        ConfigError: workers are to be forked, and other threads run.
    """
    main: Executor | None = None
    slots = 1
    if plan.mode is Mode.PARALLEL and name != "inline":
        slots = max_workers or (_threads() if name == "thread" else _cores())
        if name == "thread":
            main = ThreadExecutor(slots)
    else:
        main = InlineExecutor(beside=in_thread or has_timeout)
    tasks = [node.task for node in plan.graph.values()]
    if main is not None and not (isolates and any(task.isolate for task in tasks)):
        return main
    from dotflow_like.execute.executors.processes import ProcessExecutor
    from dotflow_like.execute.executors.split import SplitExecutor

    if workers.start_method == "fork":
        # a task with a time limit runs in a thread beside when it runs inline: see `InlineExecutor`
        is_timed = has_timeout or any(task.timeout is not None and not task.isolate for task in tasks)
        _check_fork(
            in_thread=in_thread,
            uses_threads=isinstance(main, ThreadExecutor) or (main is not None and is_timed),
        )
    executor = ProcessExecutor(slots, workers)
    return executor if main is None else SplitExecutor(main, executor)


def _check_fork(*, in_thread: bool, uses_threads: bool) -> None:
    """Refuse to fork where other threads run: a copy of their locks would stay locked for ever."""
    others = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
    why = None
    if in_thread:
        why = "this run is in the background, in a thread"
    elif others:
        why = f"other threads run: {', '.join(others)}"
    elif uses_threads:
        why = "tasks of this run run in threads"
    if why is not None:
        raise ConfigError(f"start_method='fork' is not safe: {why}; use start_method='spawn', the default")


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads() -> int:
    """Return how many threads do well here: they mostly wait. The standard library's pool has as many."""
    return min(32, _cores() + 4)
