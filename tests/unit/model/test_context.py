"""The value that travels from task to task, and what running code may ask."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import pickle
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
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


def told(*given: Any, **named: Any) -> list[Any]:
    """Return what the run is told when a body calls `ctx.progress` with these."""
    heard: list[Any] = []
    TaskContext("w", "load", attempt(1), {}, lambda: False, heard.append).progress(*given, **named)
    return heard


def test_progress_is_how_much_of_how_much_and_a_word() -> None:
    assert told(3) == [(3, None, None)]
    assert told(0.5, 1, "half") == told(0.5, total=1, message="half") == [(0.5, 1, "half")]
    (progress,) = told(3, 4, "load")
    assert (progress.done, progress.total, progress.message) == (3, 4, "load")


def test_the_total_may_be_a_guess_that_was_too_low_or_nothing() -> None:
    assert told(5, 4) == [(5, 4, None)]
    assert told(0, 0) == [(0, 0, None)]


def test_numbers_and_words_become_plain_ones() -> None:
    size, word = IntEnum("size", {"two": 2}), StrEnum("word", {"load": "load"})
    for given in (np.int64(2), size.two, Fraction(4, 2), np.float32(2)):
        ((done, total, _),) = told(given, given)
        assert done == total == 2
        assert type(done) is type(total)
        assert type(done) in (int, float)
    assert [type(each.message) for each in told(1, message=word.load)] == [str]


@pytest.mark.parametrize("bad", ["1", b"1", None, True, [], 1j, math.sin])
def test_what_is_no_number_is_no_progress(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"^ctx\.progress: done is .*; give a number$"):
        told(bad)
    if bad is not None:
        with pytest.raises(TypeError, match=r"^ctx\.progress: total is .*; give a number$"):
            told(1, bad)


@pytest.mark.parametrize("bad", [-1, -0.5, math.nan, math.inf, -math.inf])
def test_progress_is_finite_and_not_negative(bad: float) -> None:
    with pytest.raises(ValueError, match=r"done is .*; give a number that is finite, and 0 or more"):
        told(bad)
    with pytest.raises(ValueError, match=r"total is .*; give a number that is finite, and 0 or more"):
        told(1, bad)


def test_the_word_is_a_text() -> None:
    with pytest.raises(TypeError, match="message is 3; give a text"):
        told(1, 2, 3)


def test_a_context_made_by_hand_tells_nobody() -> None:
    TaskContext("w", "load", attempt(1), {}, lambda: False).progress(1)


def made_by_hand(number: int = 2) -> TaskContext:
    return TaskContext("w", "load", attempt(number), {}, asked)


def asked() -> bool:
    return False


def test_its_logger_is_that_of_tasks_with_the_ids_as_tags() -> None:
    ctx = made_by_hand()
    assert ctx.logger is ctx.logger
    assert ctx.logger.logger is logging.getLogger("dotflow_like.task")
    assert ctx.logger.extra == {"workflow_id": "w", "task_id": "load", "attempt": 2}


def test_its_logger_can_be_replaced_for_a_block_under_the_same_tags() -> None:
    ctx, other = made_by_hand(), made_by_hand(3)
    usual, app, inner = ctx.logger, logging.getLogger("app.a"), logging.getLogger("app.b")
    with ctx.use_logger(app) as log:
        assert ctx.logger is log
        assert (log.logger, log.extra) == (app, usual.extra)
        with ctx.use_logger(logging.LoggerAdapter(inner, {})):
            assert ctx.logger.logger is inner
        assert ctx.logger is log
        assert other.logger.logger is not app
    assert ctx.logger is usual


def test_what_is_no_logger_is_refused_before_the_block() -> None:
    ctx = made_by_hand()
    with pytest.raises(TypeError, match="no logger; give one of"):
        ctx.use_logger("app")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="no logger; give one of"):
        ctx.use_logger(None)  # type: ignore[arg-type]


def test_the_task_context_is_a_value_whatever_was_logged() -> None:
    ctx, same, other = made_by_hand(), made_by_hand(), made_by_hand(3)
    before = repr(ctx)
    with ctx.use_logger(logging.getLogger("app")):
        ctx.logger.debug("in the block")
    ctx.logger.debug("after it")
    assert ctx == same != other
    assert repr(ctx) == repr(same) == before
    for copied in (pickle.loads(pickle.dumps(ctx)), copy.deepcopy(ctx), copy.copy(ctx)):
        assert copied == ctx
        assert copied.logger.extra == ctx.logger.extra
    assert dataclasses.replace(ctx, attempt=attempt(3)).logger.extra == other.logger.extra
    with pytest.raises(dataclasses.FrozenInstanceError):
        ctx.attempt = attempt(3)  # type: ignore[misc]
