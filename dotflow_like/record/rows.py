"""Attempts, runs and what is asked of them as plain JSON objects, and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dotflow_like.model.records import NO_METADATA, Attempt, Request, RunRecord, TaskError, made
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus

__all__ = ["attempt_from", "attempt_row", "request_from", "request_row", "run_from", "run_row", "run_state"]


_STATUSES = {str(status): status for status in AttemptStatus}
_OUTCOMES = {str(outcome): outcome for outcome in AttemptOutcome}


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """Return an attempt without the names of its run and task, which its place says.

    Nor what is plain: that it began when it was scheduled, that its generation is the first, that it had
    no worker, no error, no metadata. A thousand rows are read before a run is resumed.
    """
    row: dict[str, Any] = {
        "number": attempt.number,
        "status": attempt.status,
        "outcome": attempt.outcome,
        "started_at": _text(attempt.started_at),
        "finished_at": _text(attempt.finished_at),
        "owner": attempt.owner,
        "fence": attempt.fence,
    }
    if attempt.scheduled_at != attempt.started_at:
        row["scheduled_at"] = attempt.scheduled_at.isoformat()
    if attempt.generation != 1:
        row["generation"] = attempt.generation
    if attempt.worker is not None:
        row["worker"] = attempt.worker
    if attempt.error is not None:
        error = attempt.error
        row["error"] = {
            "exception": error.exception,
            "message": error.message,
            "traceback": error.traceback,
            "types": error.full_types(),
        }
    if attempt.metadata:
        row["metadata"] = dict(attempt.metadata)
    return row


def attempt_from(row: Mapping[str, Any], workflow_id: str, task_id: str) -> Attempt:
    """Return the attempt `attempt_row` made `row` of."""
    get = row.get
    number, outcome, error = row["number"], row["outcome"], get("error")
    started = _time(row["started_at"])
    scheduled = started if started and "scheduled_at" not in row else _time(row["scheduled_at"])
    if error is not None:
        error = TaskError(
            number, error["exception"], error["message"], error["traceback"], tuple(error["types"])
        )
    attempt: Attempt = made(Attempt, (
        workflow_id, task_id, number, _STATUSES[row["status"]], None if outcome is None else _OUTCOMES[outcome],
        scheduled, started, _time(row["finished_at"]), row["owner"], row["fence"], get("worker"), error,
        get("metadata", NO_METADATA), get("generation", 1),
    ))  # fmt: skip
    return attempt


def run_row(run: RunRecord) -> dict[str, Any]:
    """Return the row of a run without its params, which its codec writes."""
    return {
        "workflow_id": run.workflow_id,
        "workflow": run.workflow,
        "version": run.version,
        "created_at": run.created_at.isoformat(),
        "idempotency_key": run.idempotency_key,
        **run_state(run),
    }


def run_state(run: RunRecord) -> dict[str, Any]:
    """Return what of the row of a run changes after it was created."""
    return {
        "mode": run.mode,
        "status": run.status,
        "reason": run.reason,
        "started_at": _text(run.started_at),
        "finished_at": _text(run.finished_at),
        "owner": run.owner,
        "fence": run.fence,
        "crashes": run.crashes,
    }


def run_from(row: Mapping[str, Any], params: Mapping[str, Any]) -> RunRecord:
    """Return the run `run_row` made `row` of."""
    return RunRecord(
        workflow_id=row["workflow_id"],
        workflow=row["workflow"],
        version=row["version"],
        params=params,
        mode=row["mode"],
        status=RunStatus(row["status"]),
        reason=row["reason"],
        created_at=datetime.fromisoformat(row["created_at"]),
        started_at=_time(row["started_at"]),
        finished_at=_time(row["finished_at"]),
        owner=row["owner"],
        fence=row["fence"],
        crashes=row["crashes"],
        idempotency_key=row["idempotency_key"],
    )


def request_row(request: Request) -> dict[str, Any]:
    """Return a request, the same for those that are equal."""
    return request._asdict() | {"at": request.at.isoformat()}


def request_from(row: Mapping[str, Any]) -> Request:
    """Return the request `request_row` made `row` of."""
    return Request(**(dict(row) | {"at": datetime.fromisoformat(row["at"])}))


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
