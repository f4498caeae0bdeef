"""From an order to a run: planned, owned by this process, executed and ended; or only looked at."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from dotflow_like import clock
from dotflow_like.config import Config, Order, open_journal
from dotflow_like.declare.workflow import Definition
from dotflow_like.errors import ConfigError, InputChanged, RunInProgress
from dotflow_like.execute.background import in_background
from dotflow_like.execute.control import Control, stopped_by_signals
from dotflow_like.execute.executors.base import Executor
from dotflow_like.execute.executors.choice import executor_for
from dotflow_like.execute.kernel import Kernel
from dotflow_like.execute.work import Settings
from dotflow_like.model.records import RunRecord
from dotflow_like.model.status import AttemptStatus, Mode, OnChange, RunStatus
from dotflow_like.plan.identity import Identities
from dotflow_like.plan.plan import Plan, make_plan
from dotflow_like.plan.resume import OnChanges, recorded_keys
from dotflow_like.record.journal import Claim, Journal
from dotflow_like.record.steering import new_owner
from dotflow_like.report.logs import warn
from dotflow_like.report.observers import fan_out, observers_of
from dotflow_like.run import Run

if TYPE_CHECKING:
    from dotflow_like.record.locks import RunLock

__all__ = ["launch", "plan_for"]

_MANY = 50_000
"""Objects: with fewer the garbage collector is soon done."""


def launch(definition: Definition, run: Run, order: Order, *, in_thread: bool = False) -> None:
    """Make `run` the run of an order; what is wrong is raised before anything is written or run.

    Args:
        definition: the workflow.
        run: not used before.
        order: how to run it.
        in_thread: return at once, and run in a thread, whatever the mode.

    Raises:
        PlanError: the tasks cannot be made into a plan.
        ConfigError: an option that cannot work.
        InputChanged: the inputs differ from the recorded ones, under `raise`.
        CodeChanged: the code does, under `raise`.
        RunInProgress: another process executes the run.
        StorageError: it cannot be recorded.
    """
    config: Config = order.config
    journal = order.journal or open_journal(config, definition)
    with ExitStack() as undo:
        with _uncollected():
            start = _own(definition, order, journal, undo, in_thread=in_thread)
            if start is None:
                undo.close()
                _look_at(run, definition, order, journal)
                return
            plan, executor, claim, lock, unknown = start
            run._prepare(plan, order.workflow_id, config, order.on_success, order.on_failure)
        observers = observers_of(config.tracer, config.metrics)
        observer = fan_out(observers) if observers else None
        settings = Settings(order.keep_going, order.timeout, config.grace, config.max_crashes, order.steps)
        held = None if lock is None else lock.descriptor
        kernel = Kernel(
            plan, run, journal, claim, executor, observer, settings, clock.current(), held, unknown
        )
        run._control, run._grace = kernel.control, config.grace

        def go(release: Callable[[], None]) -> None:
            try:
                with stopped_by_signals(kernel.control, config.grace, lambda: executor.in_body):
                    kernel.run()
            finally:
                release()  # before callbacks are called, which may start the run again
            _end(run, plan.workflow, kernel.control, resumable=config.keeps)

        if not in_thread and plan.mode is not Mode.BACKGROUND:
            go(undo.close)
            return
        release = undo.pop_all().close  # it is the thread's from now on
        try:
            run.thread = in_background(partial(go, release), run._note_raised, run.wait)
        except Exception:  # there are too many threads
            release()
            raise


class _Start(NamedTuple):
    """All it takes to execute a run.

    Attributes:
        plan: what to run, and what is restored.
        executor: where bodies run.
        claim: the right to record; None for a plan that is complete, which changes nothing.
        lock: the run's kernel lock; None where there is none.
        unknown: keys of tasks that wait for an attempt and are not in the plan.
    """

    plan: Plan
    executor: Executor
    claim: Claim | None = None
    lock: RunLock | None = None
    unknown: Sequence[str] = ()


def _own(
    definition: Definition, order: Order, journal: Journal, undo: ExitStack, *, in_thread: bool
) -> _Start | None:
    """Make the run of an order this process's; None if it is to be looked at, since its key was used before.

    Args:
        definition: the workflow.
        order: its `workflow_id` is that of the run from here on.
        journal: where it is recorded.
        undo: gives back what was taken.
        in_thread: the run will be in a thread.
    """
    key, owner, given = order.idempotency_key, new_owner(), order.workflow_id
    while True:
        order.workflow_id = given
        plan, row = plan_for(definition, order, journal)
        order.workflow_id = workflow_id = order.workflow_id or _new_id()
        if _is_only_looked_at(order, row):
            return None
        executor = executor_for(
            plan,
            order.executor,
            order.max_workers or order.config.max_workers,
            order.config.workers,
            in_thread=in_thread or plan.mode is Mode.BACKGROUND,
            has_timeout=order.timeout is not None,
            isolates=order.isolates,
        )
        lock = None
        try:
            if journal.locks is not None and not plan.is_complete:
                lock = journal.locks.take(workflow_id, owner)
                undo.callback(lock.release)
                if _state(journal.run(workflow_id)) != _state(row):  # somebody had it in the meantime
                    undo.close()
                    continue
            for warning in plan.warnings:
                warn(warning, workflow_id=workflow_id)
            if plan.is_complete:  # a completed run is only read
                return _Start(plan, executor)
            now = clock.current().now
            record = RunRecord(
                workflow_id, plan.workflow, plan.version, plan.params, plan.mode, RunStatus.PENDING, now(),
                idempotency_key=key,
            )  # fmt: skip
            made = journal.create(record)
            if not made and key is not None and journal.find(plan.workflow, key) != workflow_id:
                undo.close()  # of several that start it at once another was quicker
                continue
            # without a lock several may come here at once: one of them claims what it has planned on
            claim = journal.claim(
                workflow_id, owner, now(), anew=not plan.resumed, after=0 if row is None else row.fence
            )
        except RunInProgress:
            if key is None:
                raise
            return None
        # without a lock, or on another machine, a former owner may have written until it lost its claim
        plan = plan.caught_up(journal.tasks(workflow_id, plan.unfinished()), workflow_id)
        unknown = _unknown(plan, row, journal) if plan.resumed and row is not None else ()
        return _Start(plan, executor, claim, lock, unknown)


def _unknown(plan: Plan, row: RunRecord, journal: Journal) -> list[str]:
    """Return the keys of tasks that wait for an attempt, and are not in the plan of the run that goes on."""
    if row.status not in (RunStatus.PAUSED, RunStatus.RUNNING):
        return []  # nothing waits in one that has ended
    open_ended = tuple(f"{key}[" for key, node in plan.graph.items() if node.is_map and node.items is None)
    planned = plan.graph.keys() | {item.key for node in plan.graph.values() for item in node.items or ()}
    keys = [
        key
        for key in journal.task_keys(row.workflow_id)
        if key not in planned and not (open_ended and key.startswith(open_ended))
    ]
    found = journal.tasks(row.workflow_id, keys)
    return [key for key in keys if found[key].attempts[-1].status is AttemptStatus.SCHEDULED]


def plan_for(definition: Definition, order: Order, journal: Journal) -> tuple[Plan, RunRecord | None]:
    """Return the plan of an order, and the row it was made from; None if the run is not known.

    Where the order's key is known, its `workflow_id` is that of the run from here on.
    """
    identities = Identities(order.fingerprint, strict=order.resume)
    plan = make_plan(definition, order.mode, order.params, identities)
    key = order.idempotency_key
    if key is not None:
        order.workflow_id = _known_by(key, definition, order, journal)
    workflow_id = order.workflow_id
    row = None if workflow_id is None else journal.run(workflow_id)
    if row is not None and key is not None and row.idempotency_key != key:
        raise ConfigError(
            f"run {workflow_id} was not started with idempotency_key={key!r}; give workflow_id= without the key, "
            "or the key without workflow_id="
        )
    if row is None or not _is_begun(row):
        return plan, row
    if order.resume or key is not None:
        records = journal.tasks(workflow_id, recorded_keys(plan.graph))
        completed = order.resume and row.status is RunStatus.COMPLETED
        policies = order.policies if order.resume else _only_refusing(order.policies)
        return plan.going_on(records, policies, workflow_id, completed=completed), row
    records = journal.tasks(workflow_id, journal.task_keys(workflow_id))
    return plan.starting_over(records, workflow_id), row


def _known_by(key: str, definition: Definition, order: Order, journal: Journal) -> str | None:
    """Return the id of the run that was started with a key, else the one the order says."""
    known = journal.find(definition.name, key)
    if known is not None and order.workflow_id not in (None, known):
        raise ConfigError(
            f"idempotency_key={key!r} was used before, to start run {known} of {definition.name}; give it without "
            f"workflow_id={order.workflow_id!r}, or give another key"
        )
    return known or order.workflow_id


def _only_refusing(policies: OnChanges) -> OnChanges:
    """Return what becomes of changes where nothing runs: they are refused, or told."""
    return OnChanges(*(each if each is OnChange.RAISE else OnChange.REUSE for each in policies))


def _is_begun(row: RunRecord | None) -> bool:
    """Return whether anybody has ever claimed a run; who made its row may have died before."""
    return row is not None and row.fence > 0


def _state(row: RunRecord | None) -> tuple[int, RunStatus] | None:
    """Return what of a run changes with whatever happens to it; its params may have no `==` of use."""
    return None if row is None else (row.fence, row.status)


def _is_only_looked_at(order: Order, row: RunRecord | None) -> bool:
    """Return whether an order starts what was started before."""
    return order.idempotency_key is not None and not order.resume and _is_begun(row)


def _look_at(run: Run, definition: Definition, order: Order, journal: Journal) -> None:
    """Make `run` a view of what is recorded of a run that is not this process's to execute."""
    from dotflow_like.execute.view import Watch, differences

    plan, row = plan_for(definition, order, journal)
    if row is not None:
        other = differences(plan, row, params=order.fingerprint is None)
        if other and order.policies.inputs is OnChange.RAISE:
            raise InputChanged(_other_inputs(order, other))
        if other:
            warn(_other_inputs(order, other), workflow_id=order.workflow_id)
    run._prepare(plan, order.workflow_id, order.config, order.on_success, order.on_failure)
    run._watch = Watch(run, plan, journal, new_owner(), keep_going=order.keep_going)
    run._watch.look()


def _other_inputs(order: Order, other: list[str]) -> str:
    return (
        f"run {order.workflow_id}, started with idempotency_key={order.idempotency_key!r}, had other inputs or code: "
        f"{', '.join(other)}; it is shown as it is, and another key starts another run"
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector out of a block that only makes what stays.

    It would look at all of it again and again: of 100,000 tasks that is a seventh of the whole run. At the
    end what is much is old at once, and not looked at twice on its way there.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # in this order: to count what its user has frozen takes as long as that is much
        if gc.get_count()[0] > _MANY and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
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


def _new_id() -> str:
    """Return a random UUID (version 4, RFC 9562), without the 2 ms it takes to import `uuid`."""
    number = int.from_bytes(os.urandom(16), "big") & ~(0xF << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62
    digits = f"{number:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
