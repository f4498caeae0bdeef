"""The value that travels from task to task, and what running code may ask."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import UTC, datetime, timedelta

import pytest

from dotflow_like import Attempt, AttemptStatus, Context, TaskContext
from dotflow_like.testing import FakeClock

NOW = datetime(2024, 5, 6, tzinfo=UTC)


def test_a_context_is_its_value_with_where_it_came_from() -> None:
    context = Context([1], NOW, "load", "w")
    assert (context.storage, context.value, context.time, context.task_id, context.workflow_id) == (
        [1],
        [1],
        NOW,
        "load",
        "w",
    )


def test_alone_it_is_empty_and_from_nowhere() -> None:
    context = Context()
    assert (context.storage, context.value, context.task_id, context.workflow_id) == (None, None, None, None)


def test_its_time_is_now_in_utc() -> None:
    with FakeClock(NOW) as clock:
        clock.advance(5)
        assert Context(1).time == NOW + timedelta(seconds=5)
    assert Context(1).time.tzinfo is UTC


def test_it_is_a_value() -> None:
    context = Context(1, NOW, "load", "w")
    assert context == Context(1, NOW, "load", "w") != Context(2, NOW, "load", "w")
    assert pickle.loads(pickle.dumps(context)) == copy.deepcopy(context) == context
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.storage = 2  # type: ignore[misc]


def attempt(number: int, generation: int = 1) -> Attempt:
    return Attempt(
        "w", "load", number, AttemptStatus.RUNNING, None, NOW, NOW, None, "host:1:x", 1, generation=generation
    )


def test_the_task_context_tells_who_runs() -> None:
    ctx = TaskContext("w", "load", attempt(2), {"day": 1}, lambda: False)
    assert (ctx.workflow_id, ctx.task_id, ctx.attempt.number, ctx.params) == ("w", "load", 2, {"day": 1})
    assert "lambda" not in repr(ctx)


def test_cancelled_is_asked_each_time() -> None:
    asked = [False, True]
    ctx = TaskContext("w", "load", attempt(1), {}, lambda: asked.pop(0))
    assert [ctx.cancelled, ctx.cancelled] == [False, True]


def test_the_idempotency_key_is_that_of_every_attempt_until_the_result_is_discarded() -> None:
    def keys(*attempts: Attempt) -> set[str]:
        return {TaskContext("w", "load", each, {}, lambda: False).idempotency_key for each in attempts}

    assert len(keys(attempt(1), attempt(2))) == 1
    assert len(keys(attempt(2), attempt(3, generation=2))) == 2
    assert attempt(1).id != attempt(2).id
