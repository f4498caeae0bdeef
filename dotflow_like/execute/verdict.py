"""What follows from an error: the one place where that is decided."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from dotflow_like.declare.reactions import Reactions, Word, chosen, exception_of, reaction_to
from dotflow_like.errors import WorkerDied
from dotflow_like.model.context import TaskContext
from dotflow_like.model.policy import RetryPolicy
from dotflow_like.model.records import TaskError
from dotflow_like.model.signals import Retry, Signal, signal_from
from dotflow_like.model.status import AttemptStatus
from dotflow_like.report.logs import logger
from dotflow_like.report.result import TaskRun

__all__ = ["verdict"]


def verdict(
    run: TaskRun, record: TaskError, workflow: Reactions, context: Callable[[], TaskContext]
) -> Signal | None:
    """Return what becomes of a task whose attempt has just failed; None if the task fails.

    What the task declares counts first, then what the workflow does, then its `RetryPolicy`. Whatever asks for
    another attempt gets one only while the policy has some left.

    Args:
        run: the task; its last error is the attempt's.
        record: that error.
        workflow: what the workflow declares.
        context: makes the context that a handler may ask for.
    """
    task = run._node.task
    policy = task.policy
    try:
        declared = reaction_to(record, task.reactions, workflow)
        choice = chosen(declared, exception_of(record), context()) if callable(declared) else declared
    except BaseException as problem:  # a matcher or a handler of the user's
        _note(run, record, problem)
        return None
    if choice is None:
        choice = "retry" if _is_retried(run, record, policy) else _without_retry(record, policy)
    reason = f"{record.exception}: {record.message}" if record.message else record.exception
    if choice == Retry.word or isinstance(choice, Retry):
        failures = _failures(run)
        if failures < policy.max_attempts:
            return choice if isinstance(choice, Retry) else Retry(after=policy.pause_after(failures))
        choice = policy.then
    if isinstance(choice, Signal):
        return choice
    return None if choice == "fail" else signal_from(choice, reason)


def _failures(run: TaskRun) -> int:
    """Return how many attempts have failed in this run since the last that did not."""
    done = max((each.number for each in run.attempts if each.status is AttemptStatus.COMPLETED), default=0)
    return sum(error.attempt > done for error in run.errors)


def _is_retried(run: TaskRun, record: TaskError, policy: RetryPolicy) -> bool:
    if record.is_a(WorkerDied):
        return sum(each.is_a(WorkerDied) for each in run.errors) <= policy.worker_deaths
    return record.is_a(policy.retry_on)


def _without_retry(record: TaskError, policy: RetryPolicy) -> Word:
    """Return what becomes of a task whose error is not tried again: what is not meant to be, fails."""
    return policy.then if record.is_a((WorkerDied, *_classes(policy))) else "fail"


def _classes(policy: RetryPolicy) -> tuple[type[BaseException], ...]:
    return policy.retry_on if isinstance(policy.retry_on, tuple) else (policy.retry_on,)


def _note(run: TaskRun, record: TaskError, problem: BaseException) -> None:
    told = f"on_exception raised {type(problem).__name__}: {problem}"
    with suppress(Exception):  # it may be a handler of the log that raises
        logger.error("task %s: %s; the task fails with its own error", run.task_id, told, exc_info=problem)
    record.add_note(told)
