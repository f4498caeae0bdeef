"""The rows of attempts: what the next one begins with, and what the last one keeps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dotflow_like import Attempt, AttemptOutcome, AttemptStatus, TaskError, TaskRun, task
from dotflow_like.execute.attempts import closed, completed, opened, scheduled
from dotflow_like.model.metadata import Metadata
from dotflow_like.model.records import NO_METADATA
from dotflow_like.plan.node import Node
from dotflow_like.record.journal import Claim

NOW = datetime(2024, 5, 6, tzinfo=UTC)
CLAIM = Claim("w", "me", 1)
FAILED = AttemptStatus.FAILED


def run_after(status: AttemptStatus, outcome: AttemptOutcome | None = None, **fields: Any) -> TaskRun:
    """Return a task whose last attempt is like this."""
    run = TaskRun(Node("t", task(lambda: 1)), "w", None)
    run._last = Attempt("w", "t", 3, status, outcome, NOW, NOW, None, "me", 1)._replace(**fields)
    return run


def begun(run: TaskRun) -> Any:
    """Return what the next attempt begins with, whether it starts at once or later."""
    before, last = run._before, run._last
    assert last is not None
    later = None if last.status is AttemptStatus.SCHEDULED else scheduled(run, NOW, 5).metadata
    run._before, run._last = before, last
    metadata = opened(run, CLAIM, NOW).metadata
    assert later is None or later == metadata
    return metadata


def test_a_first_attempt_begins_with_nothing() -> None:
    run = TaskRun(Node("t", task(lambda: 1)), "w", None)
    assert opened(run, CLAIM, NOW).metadata is NO_METADATA
    assert completed(run, NOW, None, None).metadata is NO_METADATA


@pytest.mark.parametrize("outcome", ["failed", "retried", "timed_out"])
def test_after_a_failure_it_is_the_error(outcome: str) -> None:
    error = TaskError(3, "ValueError", "boom")
    run = run_after(FAILED, AttemptOutcome(outcome), error=error, metadata={"reason": "older", "rows": 5})
    assert begun(run) == {"reason": "ValueError: boom"}


@pytest.mark.parametrize("outcome", ["recovered", "discarded"])
def test_after_a_failure_without_an_error_it_is_its_outcome(outcome: str) -> None:
    assert begun(run_after(FAILED, AttemptOutcome(outcome))) == {"reason": outcome}


def test_an_error_that_cannot_be_shown_is_a_reason_all_the_same() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    error = TaskError.of(Odd(), 3)
    assert begun(run_after(FAILED, error=error)) == {
        "reason": "Odd: <no text: Odd.__str__ raised RuntimeError>"
    }


@pytest.mark.parametrize("length", [0, 288, 289, 10**6])
def test_a_long_reason_is_cut(length: int) -> None:
    reason = begun(run_after(FAILED, error=TaskError(3, "ValueError", "ä" * length)))["reason"]
    whole = f"ValueError: {'ä' * length}"
    assert reason == (whole if len(whole) <= 300 else f"{whole[:299]}…")
    assert len(reason) <= 300


@pytest.mark.parametrize("status", ["scheduled", "cancelled"])
def test_one_that_did_not_come_to_its_end_hands_its_reason_on(status: str) -> None:
    metadata = {"reason": "ValueError: boom", "rows": 5}
    assert begun(run_after(AttemptStatus(status), metadata=metadata)) == {"reason": "ValueError: boom"}
    for without in ({}, {"rows": 5}, {"reason": 5}):
        assert begun(run_after(AttemptStatus(status), metadata=without)) is NO_METADATA


@pytest.mark.parametrize("status", ["failed", "scheduled", "cancelled"])
def test_a_new_generation_begins_with_nothing(status: str) -> None:
    error = TaskError(3, "ValueError", "boom")
    run = run_after(AttemptStatus(status), error=error, metadata={"reason": "ValueError: boom"})
    run._generation = 2
    assert opened(run, CLAIM, NOW).metadata is NO_METADATA


def test_a_closed_row_is_a_copy_of_what_was_noted() -> None:
    for close in (
        lambda run: completed(run, NOW, None, None),
        lambda run: closed(run, NOW, FAILED, AttemptOutcome.FAILED),
    ):
        noted = Metadata(rows=[1], odd=[()])
        row = close(run_after(AttemptStatus.RUNNING, metadata=noted)).metadata
        noted["rows"].append(2)
        noted["late"] = True
        assert row == {"rows": [1]}
        assert type(row) is dict
        assert close(run_after(AttemptStatus.RUNNING, metadata=Metadata())).metadata is NO_METADATA
        kept = {"reason": "ValueError: boom"}  # of a body that does not ask
        assert close(run_after(AttemptStatus.RUNNING, metadata=kept)).metadata is kept
