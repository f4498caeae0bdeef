"""The facade: a workflow that runs, and the run that is made by constructing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Unpack

from dotflow_like.config import Config, Order, RunOptions, open_journal
from dotflow_like.declare.reactions import OnException
from dotflow_like.declare.task import Task
from dotflow_like.declare.workflow import Definition
from dotflow_like.launch import launch, plan_for
from dotflow_like.plan.plan import Plan
from dotflow_like.record.storage.base import Storage
from dotflow_like.run import Run

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

__all__ = ["Manager", "Workflow"]


class Workflow(Definition):
    """Named, versioned tasks in their order, that can be planned and run any number of times.

    Args:
        tasks: the tasks, as `Task` or `"package.module:attr"`.
        name: matches `^[a-z][a-z0-9_]*$`, without `__`. Default `workflow`.
        version: any text; it is recorded with every run. Default none.
        on_exception: what becomes of a task that raises, where the task's own `on_exception=` does not say; see `task`.
        cancel_if: a bool, or a function that returns one, looked at right before each body: if it holds, the run is
            cancelled. Its parameters are filled by name with what that task is given, and from the run's params.

    Raises:
        DeclarationError: a name that does not match, something in the list that is no task, or another bad value.
    """

    __slots__ = ()

    def plan(self, **options: Unpack[RunOptions]) -> Plan:
        """Return what `run` with these options would do; `.explain()` puts it in words. Nothing is written.

        Raises:
            PlanError: the tasks cannot be made into a plan.
            ConfigError: an option that cannot work.
            InputChanged: the inputs differ from the recorded ones, under `raise`.
            CodeChanged: the code does, under `raise`.
        """
        order = Order(**options)
        return plan_for(self, order, open_journal(order.config, self))[0]

    def run(self, **options: Unpack[RunOptions]) -> Run:
        """Run the tasks, as `Manager` does; in background mode return at once."""
        run = Run()
        launch(self, run, Order(**options))
        return run

    def start(self, **options: Unpack[RunOptions]) -> Run:
        """Begin to run the tasks in a thread, whatever the mode, and return at once; see `Run.wait`."""
        run = Run()
        launch(self, run, Order(**options), in_thread=True)
        return run


class Manager(Run):
    """Runs tasks: constructing it runs them, and it is the `Run`.

    Args:
        tasks: the tasks, as `Task` or `"package.module:attr"`.
        on_success: called with `tasks=` (the `TaskRun`s) once all have completed.
        on_failure: called with `tasks=` when the run failed. Without one a report goes to stderr.
        mode: `sequential`, `sequential_group`, `background` or `parallel`.
        keep_going: whether other tasks still start after one failed.
        workflow_id: names the run: any text, or a UUID. Default a new UUID.
        resume: go on with the run of that id; one not yet known starts.
        on_input_change: what becomes of results whose inputs changed since: `reuse`, `reset` or `raise`.
        fingerprint: stands for all inputs in that comparison.
        config: storage, tracer, metrics and the rest.
        name: the workflow's name.
        version: the workflow's version.
        params: fill, by name and coerced to the annotation, parameters nothing else fills.
        storage: short for a config with that storage.
        executor: in parallel mode: `process` (default), `thread` or `inline`.
        max_workers: how many tasks run at once in parallel mode. Default: what the config says, else as many as
            there are cores, and with `executor="thread"` four more, 32 at most.
        timeout: seconds the run may take; then it fails with reason `timeout`. Default no limit.
        on_code_change: what becomes of results whose code changed since: `reuse`, `rerun` or `raise`.
        idempotency_key: starts the run once: if the storage knows a run of this workflow that was started with
            this key, that one is returned as it is, to be read; `wait` waits for one that another process
            executes. With `resume=True` it goes on if nobody executes it. Callbacks are not called for a run that
            is only read.
        on_exception: the workflow's: what becomes of a task that raises, where its own does not say; see `task`.
        cancel_if: the workflow's: a bool, or a function that returns one, looked at right before each body; if it
            holds, the run is cancelled. See `Workflow`.

    Raises:
        RunInProgress: another process, or another thread, executes the run.
        PlanError: the tasks cannot be made into a plan; nothing has run.
        DeclarationError: something in the list is no task, or a value cannot work.
        ConfigError: an option that cannot work.
        InputChanged: the inputs of a resumed run differ, under `raise`.
        CodeChanged: the code of a resumed run differs, under `raise`.
        StorageError: the run cannot be recorded.
        KeyboardInterrupt: Ctrl-C: the run was stopped, and is paused.
        SystemExit: SIGTERM: likewise.
        Exception: what `on_success` or `on_failure` raised. A failure of a task is not raised here:
            see `raise_for_failure`.
    """

    def __init__(
        self,
        tasks: Iterable[Task[..., Any] | str],
        on_success: Callable[..., Any] | None = None,
        on_failure: Callable[..., Any] | None = None,
        mode: str = "sequential",
        keep_going: bool = False,
        workflow_id: str | UUID | None = None,
        resume: bool = False,
        on_input_change: str = "reuse",
        fingerprint: str | None = None,
        config: Config | None = None,
        *,
        name: str = "workflow",
        version: str | None = None,
        params: Mapping[str, Any] | None = None,
        storage: Storage | str | Path | None = None,
        executor: Literal["process", "thread", "inline"] | None = None,
        max_workers: int | None = None,
        timeout: float | None = None,
        on_code_change: str = "reuse",
        idempotency_key: str | None = None,
        on_exception: OnException = None,
        cancel_if: bool | Callable[..., Any] | None = None,
    ) -> None:
        order = Order(
            on_success, on_failure, mode, keep_going, workflow_id, resume, on_input_change, fingerprint, config,
            params, storage, executor, max_workers, timeout, on_code_change, idempotency_key,
        )  # fmt: skip
        workflow = Workflow(tasks, name=name, version=version, on_exception=on_exception, cancel_if=cancel_if)
        launch(workflow, self, order)
