"""The facade: a workflow that runs, and the run as its user holds it."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from dotflow_like import clock
from dotflow_like.config import Config, Order, RunOptions, open_journal
from dotflow_like.declare.task import Task
from dotflow_like.declare.workflow import Definition
from dotflow_like.errors import ConfigError
from dotflow_like.execute.background import in_background, settled
from dotflow_like.execute.control import Control, Stop, stopped_by_signals
from dotflow_like.execute.executors.base import Executor
from dotflow_like.execute.executors.inline import InlineExecutor
from dotflow_like.execute.executors.threads import ThreadExecutor
from dotflow_like.execute.kernel import Kernel, Settings
from dotflow_like.model.records import RunRecord
from dotflow_like.model.status import Mode, RunStatus
from dotflow_like.plan.identity import Identities
from dotflow_like.plan.plan import Plan, make_plan
from dotflow_like.plan.resume import recorded_keys
from dotflow_like.record.journal import Journal
from dotflow_like.record.storage.base import Storage
from dotflow_like.report.logs import warn
from dotflow_like.report.observers import fan_out, observers_of
from dotflow_like.report.result import RunView

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

__all__ = ["Manager", "Run", "Workflow"]


class Run(RunView):
    """One execution of a workflow; `Workflow.run`, `Workflow.start` and `Manager` make one."""

    _control: Control
    _grace: float
    _raised: BaseException | None = None

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the run has ended and its callbacks have returned.

        Args:
            timeout: seconds; None to wait without limit.

        Returns:
            The run.

        Raises:
            TimeoutError: the time is up; the run goes on.
            KeyboardInterrupt: Ctrl-C while the main thread waited here; the run was stopped.
            SystemExit: likewise, SIGTERM.
            Exception: what a callback of the run raised, or what kept it from being recorded.
        """
        if self.thread is None or self.thread is threading.current_thread():
            return self
        with stopped_by_signals(self._control, self._grace, lambda: False):
            self.thread.join(timeout)
        if self.thread.is_alive():
            raise TimeoutError(
                f"run {self.workflow_id} is still {self.status} after {timeout:g} s; it goes on"
            )
        settled(self.thread)
        if self._raised is not None:
            raise self._raised
        return self

    def _note_raised(self, error: BaseException) -> None:
        self._raised = error

    def cancel(self) -> bool:
        """Ask the run to end as cancelled: nothing new starts, and what runs has the grace to end.

        Returns:
            False when the run has ended already; nothing changes then.
        """
        return self._control.ask(Stop(RunStatus.CANCELLED, "cancelled"))

    def pause(self) -> bool:
        """Ask the run to end as paused, to be resumed later: as `cancel`, but for the name of it.

        Returns:
            False when the run has ended already; nothing changes then.
        """
        return self._control.ask(Stop(RunStatus.PAUSED, "paused"))


class Workflow(Definition):
    """Named, versioned tasks in their order, that can be planned and run any number of times.

    Args:
        tasks: the tasks, as `Task` or `"package.module:attr"`.
        name: matches `^[a-z][a-z0-9_]*$`, without `__`. Default `workflow`.
        version: any text; it is recorded with every run. Default none.

    Raises:
        DeclarationError: a name that does not match, or something in the list that is no task.
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
        return _plan(self, order, open_journal(order.config, self))

    def run(self, **options: Unpack[RunOptions]) -> Run:
        """Run the tasks, as `Manager` does; in background mode return at once."""
        run = Run()
        execute(self, run, Order(**options))
        return run

    def start(self, **options: Unpack[RunOptions]) -> Run:
        """Begin to run the tasks in a thread, whatever the mode, and return at once; see `Run.wait`."""
        run = Run()
        execute(self, run, Order(**options), in_thread=True)
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

    Raises:
        PlanError: the tasks cannot be made into a plan; nothing has run.
        DeclarationError: something in the list is no task.
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
    ) -> None:
        order = Order(
            on_success, on_failure, mode, keep_going, workflow_id, resume, on_input_change, fingerprint, config,
            params, storage, executor, max_workers, timeout, on_code_change,
        )  # fmt: skip
        execute(Workflow(tasks, name=name, version=version), self, order)


def execute(definition: Definition, run: Run, order: Order, *, in_thread: bool = False) -> None:
    """Plan, claim and run; what is wrong is raised before anything is written or run."""
    config: Config = order.config
    time = clock.current()
    journal = open_journal(config, definition)
    workflow_id = order.workflow_id or _new_id()
    with _uncollected():
        plan = _plan(definition, order, journal)
    in_thread = in_thread or plan.mode is Mode.BACKGROUND
    executor = _executor(plan, order, in_thread)
    for warning in plan.warnings:
        warn(warning, workflow_id=workflow_id)
    claim = None
    if not plan.is_complete:  # a completed run is only read
        journal.create(
            RunRecord(
                workflow_id,
                plan.workflow,
                plan.version,
                plan.params,
                plan.mode,
                RunStatus.PENDING,
                time.now(),
            )
        )
        claim = journal.claim(workflow_id, _owner(), time.now())
        # a former owner may have written until it lost its claim
        plan = plan.caught_up(journal.tasks(workflow_id, plan.unfinished()), workflow_id)
    with _uncollected():
        run._prepare(plan, workflow_id, config, order.on_success, order.on_failure)
    if len(plan.graph) > _MANY and not gc.get_freeze_count():
        # all of it stays: let it be old at once, not looked at twice on its way there
        gc.freeze()
        gc.unfreeze()
    observers = observers_of(config.tracer, config.metrics)
    observer = fan_out(observers) if observers else None
    settings = Settings(order.keep_going, order.timeout, config.grace)
    kernel = Kernel(plan, run, journal, claim, executor, observer, settings, time)
    run._control, run._grace = kernel.control, config.grace

    def go() -> None:
        with stopped_by_signals(kernel.control, config.grace, lambda: executor.in_body):
            kernel.run()
        _end(run, plan.workflow, kernel.control, resumable=config.keeps)

    if in_thread:
        run.thread = in_background(go, run._note_raised, run.wait)
    else:
        go()


def _plan(definition: Definition, order: Order, journal: Journal) -> Plan:
    identities = Identities(order.fingerprint, strict=order.resume)
    plan = make_plan(definition, order.mode, order.params, identities)
    workflow_id = order.workflow_id
    row = None if workflow_id is None else journal.run(workflow_id)
    if row is None:
        return plan
    if order.resume:
        records = journal.tasks(workflow_id, recorded_keys(plan.graph))
        return plan.going_on(
            records, order.policies, workflow_id, completed=row.status is RunStatus.COMPLETED
        )
    return plan.starting_over(journal.tasks(workflow_id, journal.task_keys(workflow_id)), workflow_id)


_MANY = 10_000
"""Tasks: with fewer, what the garbage collector does about them is not worth a thought."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector out of a block that only makes what stays.

    It would look at all of it again and again: of 100,000 tasks that is a seventh of the whole run.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _end(run: Run, workflow: str, control: Control, *, resumable: bool) -> None:
    """Do what follows when the run is recorded: callbacks, reports, and the signal that stopped it."""
    if run.status is RunStatus.COMPLETED and run.on_success is not None:
        run.on_success(tasks=run.tasks)
    elif run.status is RunStatus.FAILED and run.on_failure is not None:
        run.on_failure(tasks=run.tasks)
    elif run.status is RunStatus.FAILED:
        from dotflow_like.report.failure import report_failure

        report_failure(run, workflow, resumable=resumable)
    if control.signum is not None:
        from dotflow_like.report.failure import report_interrupt

        report_interrupt(run, workflow, resumable=resumable)
        raise control.error()


def _executor(plan: Plan, order: Order, in_thread: bool) -> Executor:
    main: Executor | None = None
    slots = 1
    if plan.mode is Mode.PARALLEL and order.executor != "inline":
        in_threads = order.executor == "thread"
        slots = order.max_workers or order.config.max_workers or (_threads() if in_threads else _cores())
        if in_threads:
            main = ThreadExecutor(slots)
    else:
        main = InlineExecutor(beside=in_thread or order.timeout is not None)
    if main is not None and not (order.isolates and any(node.task.isolate for node in plan.graph.values())):
        return main
    from dotflow_like.execute.executors.processes import ProcessExecutor
    from dotflow_like.execute.executors.split import SplitExecutor

    workers = ProcessExecutor(slots, order.config.workers)
    if order.config.start_method == "fork":
        _check_fork(plan, order, in_thread, beside=main)
    return workers if main is None else SplitExecutor(main, workers)


def _check_fork(plan: Plan, order: Order, in_thread: bool, *, beside: Executor | None) -> None:
    """Refuse to fork where other threads run: a copy of their locks would stay locked for ever.

    Raises:
        ConfigError: they do, or this run will start some.
    """
    others = [each.name for each in threading.enumerate() if each is not threading.current_thread()]
    why = None
    if in_thread:
        why = "this run is in the background, in a thread"
    elif others:
        why = f"other threads run: {', '.join(others)}"
    elif isinstance(beside, ThreadExecutor) or (
        beside is not None
        and (order.timeout is not None or any(_is_timed(node.task) for node in plan.graph.values()))
    ):
        why = "tasks of this run run in threads"
    if why is not None:
        raise ConfigError(f"start_method='fork' is not safe: {why}; use start_method='spawn', the default")


def _is_timed(task: Task[..., Any]) -> bool:
    """Return whether a task runs in a thread beside when it runs inline: see `InlineExecutor`."""
    return task.timeout is not None and not task.isolate


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads() -> int:
    """Return how many threads do well here: they mostly wait. The standard library's pool has as many."""
    return min(32, _cores() + 4)


def _owner() -> str:
    host = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return f"{host}:{os.getpid()}:{os.urandom(4).hex()}"


def _new_id() -> str:
    """Return a random UUID (version 4, RFC 9562), without the 2 ms it takes to import `uuid`."""
    number = int.from_bytes(os.urandom(16), "big") & ~(0xF << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
