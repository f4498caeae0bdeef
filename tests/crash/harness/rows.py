"""What killed processes leave behind, and what has to be true of it whenever one looks."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, NamedTuple

from dotflow_like.model.records import Attempt, Request, RunRecord, TaskRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus


class Effect(NamedTuple):
    """A line of the ledger: a body that ran."""

    key: str
    number: int
    fence: int
    idempotency_key: str
    pid: int


class Rows(NamedTuple):
    """What the journal holds.

    Attributes:
        run: the run.
        tasks: its tasks, by key.
        results: what they have returned, as JSON.
        saved: what their bodies have saved, by name.
        asked: what is asked of the run from outside.
    """

    run: RunRecord | None
    tasks: dict[str, TaskRecord]
    results: dict[str, str]
    saved: dict[str, dict[str, Any]]
    asked: Request | None

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt."""
        return [each for record in self.tasks.values() for each in record.attempts]


def check_origins(rows: Rows) -> None:
    """See that each result was made of those that are there."""
    values = [value for each in rows.results.values() if isinstance(value := json.loads(each), dict)]
    tokens = {each["token"] for each in values}
    for each in values:
        assert tokens.issuperset(each["of"]), "a result was made of one that is no more"


def check_attempts(attempts: tuple[Attempt, ...]) -> None:
    """See that the rows of a task make sense: what is done, or skipped, does not begin again."""
    assert [each.number for each in attempts] == list(range(1, len(attempts) + 1)), attempts
    for attempt, following in pairwise(attempts):
        is_over = attempt.outcome in (AttemptOutcome.SUCCESS, AttemptOutcome.SKIPPED)
        assert not is_over or attempt.generation < following.generation, attempts
    for attempt in attempts:
        _check_attempt(attempt)


def _check_attempt(attempt: Attempt) -> None:
    closed = attempt.finished_at is not None
    assert closed == (attempt.status not in (AttemptStatus.SCHEDULED, AttemptStatus.RUNNING)), attempt
    assert closed == (attempt.outcome is not None), attempt
    assert (attempt.started_at is None) == (attempt.status is AttemptStatus.SCHEDULED), attempt
    assert attempt.started_at is None or attempt.started_at >= attempt.scheduled_at, attempt
    if attempt.finished_at is not None:
        assert attempt.started_at is not None, attempt
        assert attempt.finished_at >= attempt.started_at, attempt
