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
from typing import Any, NoReturn

import numpy as np
import pytest

from dotflow_like import Attempt, AttemptStatus, Context, TaskContext
from dotflow_like.model.signals import SIGNALS, Cancel, Pause, Retry, Signal, Skip
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


class Alone:
    """An attempt that runs by itself: what it is asked is given, what it says is kept."""

    def __init__(self, *asked: Signal | None) -> None:
        self.to_ask = list(asked)
        self.heard: list[Any] = []
        self.slept: list[float] = []

    def asked(self) -> Signal | None:
        return self.to_ask.pop(0) if self.to_ask else None

    def report(self, progress: Any) -> None:
        self.heard.append(progress)

    def send(self, signal: Signal) -> NoReturn:
        self.heard.append(signal)
        raise signal

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def saved(self) -> Any:
        raise NotImplementedError

    transaction = saved

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alone)

    __hash__ = None  # type: ignore[assignment]  # nobody needs it


def context(number: int = 2, *asked: Signal | None) -> tuple[TaskContext, Alone]:
    running = Alone(*asked)
    return TaskContext("w", "load", attempt(number), {"day": 1}, running), running


def test_the_task_context_tells_who_runs() -> None:
    ctx, _ = context(2)
    assert (ctx.workflow_id, ctx.task_id, ctx.attempt.number, ctx.params) == ("w", "load", 2, {"day": 1})
    assert "Alone" not in repr(ctx)


def test_cancelled_is_asked_each_time() -> None:
    ctx, _ = context(1, None, Pause())
    assert [ctx.cancelled, ctx.cancelled] == [False, True]


@pytest.mark.parametrize("word", SIGNALS)
@pytest.mark.parametrize("reason", [None, "", "why"])
def test_a_signal_is_sent_and_raised_with_its_reason(word: str, reason: str | None) -> None:
    ctx, running = context()
    with pytest.raises(SIGNALS[word]) as raised:
        getattr(ctx, word)(reason)
    assert running.heard == [raised.value]
    assert (raised.value.word, raised.value.reason) == (word, reason)
    with pytest.raises(SIGNALS[word]) as raised:
        getattr(ctx, word)()
    assert raised.value.reason is None


@pytest.mark.parametrize("word", SIGNALS)
def test_a_reason_is_a_text(word: str) -> None:
    ctx, running = context()
    for bad in (3, b"why", ValueError("why")):
        with pytest.raises(TypeError, match=rf"^ctx\.{word}: reason is .*; give a text"):
            getattr(ctx, word)(bad)
    assert running.heard == []


@pytest.mark.parametrize(
    ("after", "seconds"),
    [
        (0, 0.0),
        (2, 2.0),
        (0.5, 0.5),
        (timedelta(minutes=1), 60.0),
        (Fraction(1, 2), 0.5),
        (1e12, 365 * 86400.0),
    ],
)
def test_a_retry_says_when(after: Any, seconds: float) -> None:
    ctx, _ = context()
    with pytest.raises(Retry) as raised:
        ctx.retry("busy", after=after)
    assert (raised.value.reason, raised.value.after) == ("busy", seconds)
    assert type(raised.value.after) is float


@pytest.mark.parametrize("bad", ["1", True, None, [], 1j])
def test_what_is_no_time_span_is_refused(bad: Any) -> None:
    ctx, running = context()
    with pytest.raises(
        TypeError, match=r"^ctx\.retry: after is .*; give a number of seconds, or a timedelta$"
    ):
        ctx.retry(after=bad)
    with pytest.raises(
        TypeError, match=r"^ctx\.sleep: seconds is .*; give a number of seconds, or a timedelta$"
    ):
        ctx.sleep(bad)
    assert running.heard == running.slept == []


@pytest.mark.parametrize("bad", [-1, -0.5, math.nan, math.inf, timedelta(seconds=-1)])
def test_a_time_span_is_finite_and_not_negative(bad: Any) -> None:
    ctx, running = context()
    with pytest.raises(ValueError, match=r"^ctx\.retry: after is .*finite, and 0 or more$"):
        ctx.retry(after=bad)
    with pytest.raises(ValueError, match=r"^ctx\.sleep: seconds is .*finite, and 0 or more$"):
        ctx.sleep(bad)
    assert running.heard == running.slept == []


def test_a_check_becomes_what_is_asked_for() -> None:
    asked = Skip("from outside")
    ctx, running = context(1, None, asked)
    ctx.check()
    with pytest.raises(Skip) as raised:
        ctx.check()
    assert raised.value is asked
    assert running.heard == [asked]


def test_a_sleep_looks_before_and_after() -> None:
    ctx, running = context(1, None, None, None, Cancel(), Pause())
    ctx.sleep(timedelta(seconds=3))
    assert running.slept == [3.0]
    with pytest.raises(Cancel):
        ctx.sleep(4)  # asked meanwhile
    with pytest.raises(Pause):
        ctx.sleep(5)  # asked before
    assert running.slept == [3.0, 4.0]


def test_a_sleep_of_no_time_looks() -> None:
    ctx, running = context(1, None, Pause())
    ctx.sleep(0)
    with pytest.raises(Pause):
        ctx.sleep(0)
    assert running.slept == []


def test_the_idempotency_key_is_that_of_every_attempt_until_the_result_is_discarded() -> None:
    def keys(*attempts: Attempt) -> set[str]:
        return {TaskContext("w", "load", each, {}, Alone()).idempotency_key for each in attempts}

    assert len(keys(attempt(1), attempt(2))) == 1
    assert len(keys(attempt(2), attempt(3, generation=2))) == 2
    assert attempt(1).id != attempt(2).id


def told(*given: Any, **named: Any) -> list[Any]:
    """Return what the run is told when a body calls `ctx.progress` with these."""
    ctx, running = context()
    ctx.progress(*given, **named)
    return running.heard


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


def made_by_hand(number: int = 2) -> TaskContext:
    return TaskContext("w", "load", attempt(number), {}, Alone())


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
