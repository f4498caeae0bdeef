"""A workflow, or one task of it, run at once for a test to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack

from dotflow_like import clock
from dotflow_like.config import Order, RunOptions
from dotflow_like.declare.task import Task, as_task, task
from dotflow_like.errors import UnfilledParameter
from dotflow_like.launch import launch
from dotflow_like.manager import Workflow
from dotflow_like.model.context import Context
from dotflow_like.record.storage.base import Storage
from dotflow_like.report.result import TaskRun
from dotflow_like.run import Run
from dotflow_like.testing.fake_clock import FakeClock

__all__ = ["run_inline", "run_task"]


def run_inline(tasks: Workflow | Iterable[Task[..., Any] | str], **options: Unpack[RunOptions]) -> Run:
    """Run tasks, or a workflow, in this thread and without waiting, whatever the mode.

    Delays of retries, `ctx.retry(after=...)` and `ctx.sleep` are skipped by a `FakeClock`, the one whose block this
    is in or a new one; parallel tasks run one after another, and isolated ones like others; a run in the background
    has ended when this returns.

    Args:
        tasks: the tasks, or the workflow.
        options: those of `Workflow.run`.

    Returns:
        The run, ended.
    """
    workflow = tasks if isinstance(tasks, Workflow) else Workflow(tasks)
    run = Run()
    launch_inline(workflow, run, inline_order(options))
    return run


def run_task(
    wanted: Task[..., Any] | str,
    /,
    *,
    previous: Any = None,
    params: Mapping[str, Any] | None = None,
    storage: Storage | str | Path | None = None,
    **inputs: Any,
) -> TaskRun:
    """Run one task as `run_inline` does, without the tasks it needs: the caller says what they would have returned.

    Its retries, conditions, policies and `ctx` work as in a run, which has no other task. What it is bound to as a
    constant stays, unless `inputs` say otherwise. Of a map one item is run.

    Args:
        wanted: the task.
        previous: what the task before it would have returned, for a parameter `previous_context`.
        params: the run's params.
        storage: where the run is recorded, for bodies that need one. Default: in memory.
        inputs: parameters and their values, also `initial_context`. For a parameter that has one of the names above,
            use `.bind`.

    Returns:
        What became of the task; a failure is not raised.

    Raises:
        UnfilledParameter: a parameter that is bound to a task, or mapped, is not given.
        TypeError: the task has no such parameter.
    """
    alone, tasks = _alone(as_task(wanted, "run_task()"), inputs), []
    if previous is not None:
        tasks.append(_standing_before(alone, previous))
    return run_inline([*tasks, alone], params=params, storage=storage).tasks[-1]


def inline_order(options: RunOptions) -> Order:
    """Return an order whose bodies all run in this process, one after another."""
    if options.get("mode") == "parallel":
        options["executor"] = "inline"
    order = Order(**options)
    order.isolates = False
    return order


def launch_inline(workflow: Workflow, run: Run, order: Order, fake: FakeClock | None = None) -> None:
    """Run an order to its end, without waiting; `fake` is the clock if there is none."""
    with nullcontext() if isinstance(clock.current(), FakeClock) else (fake or FakeClock()):
        launch(workflow, run, order)
        run.wait()


def _alone(wanted: Task[..., Any], inputs: dict[str, Any]) -> Task[..., Any]:
    """Return a task that needs no other."""
    needed = {name: each for name, value in wanted.bound.items() for each in _tasks_in(value)}
    missing = [
        *(f"{name!r}, bound to {each.where}" for name, each in needed.items() if name not in inputs),
        *(f"{name!r}, of which it takes one item" for name in wanted.mapped if name not in inputs),
    ]
    if missing:
        raise UnfilledParameter(
            f"{wanted.where}: nothing fills {' and '.join(missing)}; say what it gets: "
            f"run_task(..., {next(name for name in (*needed, *wanted.mapped) if name not in inputs)}=...)"
        )
    constants = {name: value for name, value in wanted.bound.items() if name not in needed}
    alone = wanted._derive(bound=MappingProxyType(constants), mapped=MappingProxyType({}), earlier=())
    given = dict(inputs)
    if "initial_context" in given and wanted.signature.get("initial_context"):
        alone = alone.with_options(initial_context=given.pop("initial_context"))
    return alone.bind(**given) if given else alone


def _tasks_in(value: Any) -> Iterator[Task[..., Any]]:
    """Yield the first of the tasks that a parameter is bound to."""
    members = value.values() if type(value) is dict else value if type(value) in (list, tuple) else (value,)
    yield from [each for each in members if isinstance(each, Task)][:1]


def _standing_before(alone: Task[..., Any], previous: Any) -> Task[..., Any]:
    """Return a task of the same chain whose context is `previous`."""
    known = previous if isinstance(previous, Context) else Context(previous)
    key = alone.task_id or alone.name
    before = known.task_id if known.task_id not in (None, key) else f"before {key}"
    return task(lambda: known.storage, name="previous", task_id=before, group_name=alone.group_name)
