"""The one place where user code runs: it returns an outcome and never raises."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dotflow_like import Context, task
from dotflow_like.execute.call import Call, perform
from dotflow_like.model.records import Attempt, Held
from dotflow_like.model.status import AttemptStatus
from dotflow_like.plan.inputs import Input, Need, Source


def call_of(body: Any, *inputs: Input, results: Any = None, previous: Any = None) -> Call:
    now = datetime.now(UTC)
    attempt = Attempt("w", "t", 1, AttemptStatus.RUNNING, None, now, now, None, "me", 1)
    return Call(task(body), attempt, {"p": 1}, inputs, results or {}, previous, None)


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, BaseException, RecursionError]
)
def test_whatever_a_body_raises_is_an_outcome(error: type[BaseException]) -> None:
    made = error("x")

    def body() -> None:
        raise made

    assert perform(call_of(body)).error is made


def test_an_error_of_filling_is_an_outcome_too() -> None:
    class Broken:
        def load(self) -> Any:
            raise LookupError("gone")

    outcome = perform(call_of(lambda x: x, Input("x", Source.RESULT, Need("a")), results={"a": Broken()}))
    assert isinstance(outcome.error, LookupError)


def test_parameters_are_filled_from_each_source() -> None:
    def body(a: Any, b: Any, c: Any, d: Any, previous_context: Context, ctx: Any) -> Any:
        return a, b, c, d, previous_context.storage, ctx.params, ctx.task_id

    outcome = perform(
        call_of(
            body,
            Input("a", Source.CONSTANT, 1),
            Input("b", Source.PARAM, 2),
            Input("c", Source.RESULT, Need("one")),
            Input("d", Source.GATHER, [Need("one"), 4, Need("two")]),
            Input("previous_context", Source.PREVIOUS),
            Input("ctx", Source.CONTEXT),
            results={"one": Held(3), "two": Held(5)},
            previous=Context(Held("before"), task_id="b"),
        )
    )
    assert outcome.error is None
    assert outcome.load() == (1, 2, 3, [3, 4, 5], "before", {"p": 1}, "t")


def test_parameters_by_position_only_are_given_by_position() -> None:
    def body(a: int, b: int = 10, /, *, c: int = 0) -> Any:
        return a, b, c

    assert perform(call_of(body, Input("a", Source.CONSTANT, 1), Input("c", Source.CONSTANT, 3))).load() == (
        1,
        10,
        3,
    )


def test_a_context_is_unwrapped_once() -> None:
    inner = Context(1)
    assert perform(call_of(lambda: Context(inner))).load() is inner


def test_the_traceback_begins_in_the_body() -> None:
    def body() -> None:
        raise ValueError

    error = perform(call_of(body)).error
    assert isinstance(error, ValueError)
    assert error.__traceback__ is not None
    assert error.__traceback__.tb_frame.f_code is body.__code__


def test_the_traceback_of_an_async_body_ends_in_the_body() -> None:
    async def body() -> None:
        raise ValueError

    error = perform(call_of(body)).error
    assert isinstance(error, ValueError)
    last = error.__traceback__
    assert last is not None
    while last.tb_next is not None:
        last = last.tb_next
    assert last.tb_frame.f_code is body.__code__
