"""Rows are plain JSON objects, and say all there is to say."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow_like.model.records import Attempt, RunRecord, TaskError
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.rows import attempt_from, attempt_row, run_from, run_row

TEXTS = st.text(max_size=8)
TIMES = st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]))
ERRORS = st.builds(TaskError, st.integers(1, 9), TEXTS, TEXTS, TEXTS, st.lists(TEXTS, max_size=3).map(tuple))
ATTEMPTS = st.builds(
    Attempt,
    TEXTS,
    TEXTS,
    st.integers(1, 10**12),
    st.sampled_from(AttemptStatus),
    st.none() | st.sampled_from(AttemptOutcome),
    TIMES,
    st.none() | TIMES,
    st.none() | TIMES,
    TEXTS,
    st.integers(1),
    st.none() | TEXTS,
    st.none() | ERRORS,
    st.dictionaries(TEXTS, st.none() | st.integers() | TEXTS, max_size=3),
    st.integers(1),
)
RUNS = st.builds(
    RunRecord,
    TEXTS,
    TEXTS,
    st.none() | TEXTS,
    st.just({"n": 1}),
    TEXTS,
    st.sampled_from(RunStatus),
    TIMES,
    st.none() | TEXTS,
    st.none() | TIMES,
    st.none() | TIMES,
    st.none() | TEXTS,
    st.integers(0),
)


def through_json(row: dict[str, Any]) -> dict[str, Any]:
    back: dict[str, Any] = json.loads(json.dumps(row, allow_nan=False))
    return back


@given(ATTEMPTS)
def test_an_attempt_comes_back_from_its_row(attempt: Attempt) -> None:
    back = attempt_from(through_json(attempt_row(attempt)), attempt.workflow_id, attempt.task_id)
    # an error is numbered by its attempt, and equal by what it shows
    error = attempt.error
    if error is not None:
        assert back.error is not None
        assert (back.error.exception, back.error.message) == (error.exception, error.message)
        assert (back.error.traceback, back.error.types) == (error.traceback, error.types)
        assert back.error.attempt == attempt.number
    assert back._replace(error=None) == attempt._replace(error=None)
    assert type(back.status) is AttemptStatus


@given(RUNS)
def test_a_run_comes_back_from_its_row(run: RunRecord) -> None:
    back = run_from(through_json(run_row(run)), {"n": 1})
    assert back == run
    assert type(back.status) is RunStatus


def test_a_row_of_a_run_has_everything_but_the_params() -> None:
    run = RunRecord(
        "id", "workflow", None, {}, "parallel", RunStatus.PENDING, datetime(2024, 1, 1, tzinfo=UTC)
    )
    assert set(run_row(run)) == {field.name for field in fields(RunRecord)} - {"params"}


def test_what_an_attempt_does_not_have_is_not_in_its_row() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    attempt = Attempt("run", "task", 1, AttemptStatus.SCHEDULED, None, at, None, None, "me", 1)
    assert set(attempt_row(attempt)) == {
        "number",
        "status",
        "outcome",
        "scheduled_at",
        "started_at",
        "finished_at",
        "owner",
        "fence",
    }
    begun = attempt._replace(status=AttemptStatus.RUNNING, started_at=at)
    assert "scheduled_at" not in attempt_row(begun)  # it began when it was scheduled
    assert attempt_row(begun._replace(generation=2))["generation"] == 2


def test_the_error_of_an_exception_becomes_texts() -> None:
    class Odd(LookupError):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    at = datetime(2024, 1, 1, tzinfo=UTC)
    attempt = Attempt(
        "run",
        "task",
        2,
        AttemptStatus.FAILED,
        AttemptOutcome.FAILED,
        at,
        at,
        at,
        "me",
        1,
        error=TaskError.of(Odd(), 2),
    )
    back = attempt_from(through_json(attempt_row(attempt)), "run", "task")
    assert back.error is not None
    assert back.error.exception == "Odd"
    assert back.error.message == "<no text: Odd.__str__ raised RuntimeError>"
    assert back.error.is_a(LookupError)
    assert not back.error.is_a(ValueError)
    assert back.error.error is None


@pytest.mark.parametrize("missing", ["number", "status", "outcome", "scheduled_at", "owner", "fence"])
def test_a_row_that_lacks_something_is_an_error(missing: str) -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    row = attempt_row(Attempt("run", "task", 1, AttemptStatus.SCHEDULED, None, at, None, None, "me", 1))
    del row[missing]
    with pytest.raises(KeyError):
        attempt_from(row, "run", "task")
