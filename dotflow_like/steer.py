"""Steering a run from outside: by its id, from any thread or process that reaches its storage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Unpack

from dotflow_like.config import Config, Order, RunOptions, open_journal
from dotflow_like.declare.task import Task
from dotflow_like.declare.workflow import Definition
from dotflow_like.errors import ConfigError
from dotflow_like.manager import Workflow
from dotflow_like.model.signals import Cancel, Pause, Skip
from dotflow_like.record.journal import Journal
from dotflow_like.record.steering import check_goes_on, known, steer
from dotflow_like.record.storage.base import Storage
from dotflow_like.run import Run

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

__all__ = ["cancel", "pause", "resume", "skip"]


def pause(
    workflow_id: str | UUID,
    *,
    storage: Storage | str | Path | None = None,
    config: Config | None = None,
    reason: str | None = None,
) -> bool:
    """Have a run end as paused, to be resumed later.

    A run that is executed is asked to, which its process sees within a second: nothing new starts, and what runs has
    the grace to end. One whose process has died is paused at once.

    Args:
        workflow_id: the run.
        storage: where it is recorded, as it was started with.
        config: as it was started with; it may say where instead.
        reason: why; it is recorded.

    Returns:
        True: it is paused, or asked to be.

    Raises:
        IllegalMove: it is paused, or has ended for good; or something else was asked of it before.
        RunInProgress: somebody takes it over at this moment.
        ConfigError: no such run is known there.
        StorageError: the place cannot be read or written.
    """
    return _steer(Pause.word, workflow_id, storage, config, reason)


def cancel(
    workflow_id: str | UUID,
    *,
    storage: Storage | str | Path | None = None,
    config: Config | None = None,
    reason: str | None = None,
) -> bool:
    """Have a run end as cancelled.

    As `pause`, but for how it ends; it takes the place of what was asked before, and a paused run is cancelled at
    once.

    Args:
        workflow_id: the run.
        storage: where it is recorded, as it was started with.
        config: as it was started with; it may say where instead.
        reason: why; it is recorded.

    Returns:
        True: it is cancelled, or asked to be. False: it had ended before, as completed, failed or cancelled; nothing
        is changed.

    Raises:
        RunInProgress: somebody takes it over at this moment.
        ConfigError: no such run is known there.
        StorageError: the place cannot be read or written.
    """
    return _steer(Cancel.word, workflow_id, storage, config, reason)


def skip(
    workflow_id: str | UUID,
    task_id: str | None = None,
    *,
    storage: Storage | str | Path | None = None,
    config: Config | None = None,
    reason: str | None = None,
) -> bool:
    """Have a task skipped: one that waits for its next attempt, or for its run to be resumed; or one that runs.

    A run that is executed is asked to skip it, which its process sees within a second; there it may also be one that
    has not begun, and if there is no such task a warning says so. In a run that is paused, or whose process has died,
    it is skipped at once; the run is paused then.

    Args:
        workflow_id: the run.
        task_id: the task. Default: the one that waits; in a run that is executed, if none does, the one that runs.
        storage: where the run is recorded, as it was started with.
        config: as it was started with; it may say where instead.
        reason: why; it is recorded.

    Returns:
        True: it is skipped, or its run is asked to skip it.

    Raises:
        IllegalMove: the task is done; nothing is recorded of it in a run that nobody executes; it is not clear which
            one waits; the run has ended for good; or something else was asked of it before.
        RunInProgress: somebody takes the run over at this moment.
        ConfigError: no such run is known there.
        StorageError: the place cannot be read or written.
    """
    if task_id is not None and (not isinstance(task_id, str) or not task_id):
        raise ConfigError(f"task_id is {task_id!r}; give the id of a task, or None for the one that waits")
    return _steer(Skip.word, workflow_id, storage, config, reason, task_id)


def resume(
    workflow_id: str | UUID,
    /,
    tasks: Iterable[Task[..., Any] | str] | Workflow,
    **options: Unpack[RunOptions],
) -> Run:
    """Go on with a run that is paused, or whose process has died; it is executed here.

    As `Manager(tasks, workflow_id=workflow_id, resume=True, **options)`, for a run that is known and has not ended for
    good. Its mode and its params are as they were, if the options do not say.

    Args:
        workflow_id: the run.
        tasks: its tasks, or the workflow they are of.
        options: as of `Workflow.run`; `storage=` or `config=` says where it is recorded.

    Returns:
        The run; in background mode at once, else when it has ended.

    Raises:
        IllegalMove: it has ended for good.
        RunInProgress: somebody executes it.
        ConfigError: no such run is known there, or an option that cannot work.
        PlanError: the tasks cannot be made into a plan; and what else `Manager` raises.
    """
    if "workflow_id" in options or options.get("resume", True) is not True:
        raise TypeError("resume() takes the id of the run first, and goes on with it: leave out resume=")
    options["workflow_id"], options["resume"] = workflow_id, True
    order = Order(**options)
    listed = tasks if isinstance(tasks, Workflow) else Workflow(tasks)
    journal = open_journal(order.config, listed)
    row = known(journal, order.workflow_id, _where(order.config))
    check_goes_on(row, "resumed")
    options.setdefault("mode", row.mode)
    if options.get("params") is None:
        whole = journal.run(order.workflow_id)
        assert whole is not None, "it is known"
        options["params"] = whole.params
    if listed is not tasks:  # then it has the name it was started with
        listed = Workflow(listed.tasks, name=row.workflow, version=row.version)
    return listed.run(**options)


def _steer(
    word: str,
    workflow_id: str | UUID,
    storage: Storage | str | Path | None,
    config: Config | None,
    reason: str | None,
    task_id: str | None = None,
) -> bool:
    if reason is not None and not isinstance(reason, str):
        raise ConfigError(f"reason is {reason!r}; give a text, or None")
    order = Order(workflow_id=workflow_id, storage=storage, config=config)
    if order.workflow_id is None:
        raise ConfigError("workflow_id is None; give the id of the run")
    journal = _journal(order)
    where = _where(order.config)
    return steer(journal, order.workflow_id, word, where=where, reason=reason, task_id=task_id)


def _journal(order: Order) -> Journal:
    if not order.config.keeps:
        raise ConfigError("say where the run is recorded: give the storage= it was started with")
    return open_journal(order.config, Definition(()))


def _where(config: Config) -> str:
    return repr(config.storage)
