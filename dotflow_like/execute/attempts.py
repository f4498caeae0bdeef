"""The rows of attempts, from their opening to their end. Each function returns the row as it is to be."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from dotflow_like.model.records import NO_METADATA, Attempt, TaskError
from dotflow_like.model.status import AttemptOutcome, AttemptStatus
from dotflow_like.record.journal import Claim
from dotflow_like.report.result import TaskRun

__all__ = ["closed", "completed", "opened", "scheduled"]

# bound once: an attribute of an enumeration is looked up through its metaclass
_SCHEDULED, _RUNNING, _COMPLETED = AttemptStatus.SCHEDULED, AttemptStatus.RUNNING, AttemptStatus.COMPLETED
_SUCCESS = AttemptOutcome.SUCCESS
# a named tuple of all its values in order, in half the time of calling its class
_made: Any = tuple.__new__


def opened(run: TaskRun, claim: Claim, at: datetime) -> Attempt:
    """Open the next attempt of a task, or the one that is scheduled."""
    attempts, number = run.attempts, 1
    if attempts:
        last = attempts[-1]
        number = last.number + 1
        if last.status is _SCHEDULED:
            number, at, attempts = last.number, max(at, last.scheduled_at), attempts[:-1]
    workflow_id, owner, fence = claim
    attempt: Attempt = _made(Attempt, (
        workflow_id, run._node.key, number, _RUNNING, None, at, at, None,
        owner, fence, None, None, NO_METADATA, run._generation,
    ))  # fmt: skip
    run.attempts = (*attempts, attempt) if attempts else (attempt,)
    return attempt


def completed(run: TaskRun, at: datetime, worker: str | None) -> Attempt:
    """Close the running attempt of a task that succeeded."""
    attempts = run.attempts
    (workflow_id, key, number, _, _, scheduled_at, started, _, owner, fence, _, _, metadata, generation) = (
        attempts[-1]
    )
    if started is not None and started > at:
        at = started  # the clock was set back
    attempt: Attempt = _made(Attempt, (
        workflow_id, key, number, _COMPLETED, _SUCCESS, scheduled_at, started, at,
        owner, fence, worker, None, metadata, generation,
    ))  # fmt: skip
    run.attempts = (attempt,) if len(attempts) == 1 else (*attempts[:-1], attempt)
    return attempt


def closed(
    run: TaskRun,
    at: datetime,
    status: AttemptStatus,
    outcome: AttemptOutcome,
    error: TaskError | None = None,
    worker: str | None = None,
) -> Attempt:
    """Close the last attempt of a task that did not succeed."""
    *earlier, last = run.attempts
    # the clock may have been set back; one that never started ends at the time it was to
    ended = last.scheduled_at if last.started_at is None else max(at, last.started_at)
    attempt = last._replace(status=status, outcome=outcome, finished_at=ended, error=error, worker=worker)
    run.attempts = (*earlier, attempt)
    return attempt


def scheduled(run: TaskRun, at: datetime, delay: float) -> Attempt:
    """Open the next attempt of a task for `delay` seconds after `at`."""
    last = run.attempts[-1]
    attempt = last._replace(
        number=last.number + 1,
        status=_SCHEDULED,
        outcome=None,
        scheduled_at=at + timedelta(seconds=delay),
        started_at=None,
        finished_at=None,
        worker=None,
        error=None,
        metadata=NO_METADATA,
    )
    run.attempts = (*run.attempts, attempt)
    return attempt
