"""The rows of attempts, from their opening to their end. Each function returns the row as it is to be."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from datetime import datetime, timedelta
from typing import Any

from dotflow_like.model.metadata import REASON, SIGNAL, SIGNAL_REASON, Metadata
from dotflow_like.model.policy import LONGEST_DELAY
from dotflow_like.model.records import NO_METADATA, Attempt, TaskError, made
from dotflow_like.model.signals import Signal
from dotflow_like.model.status import AttemptOutcome, AttemptStatus
from dotflow_like.record.journal import Claim
from dotflow_like.report.result import TaskRun

__all__ = ["cancelled", "closed", "completed", "is_scheduled", "noted", "opened", "scheduled", "skipped"]

# bound once: an attribute of an enumeration is looked up through its metaclass
_SCHEDULED, _RUNNING, _COMPLETED = AttemptStatus.SCHEDULED, AttemptStatus.RUNNING, AttemptStatus.COMPLETED
_SUCCESS = AttemptOutcome.SUCCESS

_LENGTH = 300
"""Characters of a reason that are kept."""


def opened(run: TaskRun, claim: Claim, at: datetime) -> Attempt:
    """Open the next attempt of a task, or the one that is scheduled."""
    last, number, metadata = run._last, 1, NO_METADATA
    if last is not None:
        metadata = _first_metadata(run, last)
        if last.status is _SCHEDULED:
            number, at = last.number, max(at, last.scheduled_at)
        else:
            number = last.number + 1
            run._before += (last,)
    workflow_id, owner, fence, _ = claim
    attempt: Attempt = made(Attempt, (
        workflow_id, run._node.key, number, _RUNNING, None, at, at, None,
        owner, fence, None, None, metadata, run._generation,
    ))  # fmt: skip
    run._last = attempt
    return attempt


def completed(run: TaskRun, at: datetime, worker: str | None, elapsed: float | None) -> Attempt:
    """Close the running attempt of a task that succeeded; its body took `elapsed` seconds, if that is known."""
    last = run._last
    assert last is not None, "it was opened"
    (workflow_id, key, number, _, _, scheduled_at, started, _, owner, fence, _, _, metadata, generation) = (
        last
    )
    if started is not None:
        if started > at:
            at = started  # the clock was set back
        elif elapsed is not None:
            started = max(started, at - timedelta(seconds=elapsed))  # its body waited for its turn
    if metadata is not NO_METADATA:
        metadata = _recorded(metadata)
    attempt: Attempt = made(Attempt, (
        workflow_id, key, number, _COMPLETED, _SUCCESS, scheduled_at, started, at,
        owner, fence, worker, None, metadata, generation,
    ))  # fmt: skip
    run._last = attempt
    return attempt


def closed(
    run: TaskRun,
    at: datetime,
    status: AttemptStatus,
    outcome: AttemptOutcome,
    error: TaskError | None = None,
    worker: str | None = None,
    signal: Signal | None = None,
) -> Attempt:
    """Close the last attempt of a task that did not succeed; `signal` is what its body, or a policy, said."""
    last = run._last
    assert last is not None, "it was opened"
    metadata = _recorded(last.metadata)
    # the clock may have been set back; one that never started ends at the time it was to
    ended = last.scheduled_at if last.started_at is None else max(at, last.started_at)
    attempt = last._replace(
        status=status,
        outcome=outcome,
        finished_at=ended,
        error=error,
        worker=worker,
        metadata=metadata if signal is None else noted(metadata, signal),
    )
    run._last = attempt
    return attempt


def scheduled(run: TaskRun, at: datetime, delay: float) -> Attempt:
    """Open the next attempt of a task for `delay` seconds after `at`."""
    last = run._last
    assert last is not None, "it follows one that failed"
    attempt = last._replace(
        number=last.number + 1,
        status=_SCHEDULED,
        outcome=None,
        scheduled_at=at + timedelta(seconds=min(delay, LONGEST_DELAY)),
        started_at=None,
        finished_at=None,
        worker=None,
        error=None,
        metadata=_first_metadata(run, last),
    )
    run._before += (last,)
    run._last = attempt
    return attempt


def skipped(run: TaskRun, claim: Claim, at: datetime, signal: Signal) -> tuple[Attempt, Attempt]:
    """Open the next attempt of a task, as one that waits, and close it as skipped; return both rows."""
    opening = opened(run, claim, at)._replace(status=_SCHEDULED, started_at=None)
    run._last = opening
    return opening, closed(run, at, AttemptStatus.SKIPPED, AttemptOutcome.SKIPPED, signal=signal)


def noted(metadata: Mapping[str, Any], signal: Signal) -> dict[str, Any]:
    """Return metadata with a signal, and its reason."""
    found = {**metadata, SIGNAL: signal.word}
    if signal.reason is not None:
        found[SIGNAL_REASON] = signal.reason
    return found


def cancelled(attempt: Attempt) -> Attempt:
    """Close an attempt that waits, and that nobody wants any more."""
    return attempt._replace(
        status=AttemptStatus.CANCELLED,
        outcome=AttemptOutcome.CANCELLED,
        finished_at=attempt.scheduled_at,
    )


def is_scheduled(run: TaskRun) -> bool:
    """Return whether the last attempt of a task waits for its time."""
    return run._last is not None and run._last.status is _SCHEDULED


def _first_metadata(run: TaskRun, last: Attempt) -> MutableMapping[str, Any]:
    """Return what the attempt after `last` begins with: why there is one, if it or one before it failed."""
    if last.generation != run._generation:
        return NO_METADATA  # the task begins anew
    reason: Any
    if last.outcome is AttemptOutcome.RETRIED and SIGNAL in last.metadata:  # its body, or a handler, said so
        told = last.metadata.get(SIGNAL_REASON)
        reason = last.metadata[SIGNAL] if told is None else told
    elif last.status is not AttemptStatus.FAILED:  # but scheduled, or stopped before it came to its end
        reason = last.metadata.get(REASON)
    elif last.error is not None:
        reason = f"{last.error.exception}: {last.error.message}"
    else:
        reason = str(last.outcome)
    if not isinstance(reason, str):
        return NO_METADATA
    return {REASON: reason if len(reason) <= _LENGTH else f"{reason[: _LENGTH - 1]}…"}


def _recorded(metadata: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return metadata as a row keeps it: a body that was given up may go on writing into its own."""
    if not metadata:
        return NO_METADATA
    return metadata.plain() if type(metadata) is Metadata else metadata
