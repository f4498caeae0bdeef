"""The one place where user code runs: it returns an outcome and never raises."""

from __future__ import annotations

import asyncio
import functools
from datetime import UTC, datetime
from typing import Any

import pytest

from dotflow_like import Context, task
from dotflow_like.execute.call import Call, is_async, perform, perform_async
from dotflow_like.model.records import Attempt, Held
from dotflow_like.model.status import AttemptStatus
from dotflow_like.plan.inputs import Input, Need, Source
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Encoded


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


async def coroutine(x: int = 1, /, y: int = 2) -> Context:
    return Context((await asyncio.sleep(0, x), y))


class Instance:
    async def __call__(self) -> None: ...

    async def method(self) -> None: ...

    def sync(self) -> None: ...


@task
class Decorated:
    @task
    async def step(self) -> None: ...


@pytest.mark.parametrize(
    "body",
    [
        coroutine,
        functools.partial(coroutine, 1),
        Instance(),
        functools.partial(Instance()),
        Instance().method,
    ],
)
def test_what_is_one_coroutine_is_async(body: Any) -> None:
    assert is_async(task(body)) is True


@pytest.mark.parametrize(
    "body",
    [lambda: coroutine(), functools.partial(print), print, len, Instance().sync, functools.partial(Instance)],
)
def test_what_only_returns_an_awaitable_or_nothing_of_it_is_not(body: Any) -> None:
    assert is_async(task(body)) is False


def test_a_class_is_not_async_though_its_methods_are() -> None:
    assert is_async(Decorated) is False


@pytest.mark.parametrize("codec", [None, JsonCodec()], ids=["kept", "encoded"])
def test_on_a_running_loop_a_body_has_the_same_outcome(codec: Any) -> None:
    for inputs in ((), (Input("x", Source.CONSTANT, 3),), (Input("y", Source.RESULT, Need("one")),)):
        call = call_of(coroutine, *inputs, results={"one": Held(5)})
        call.codec = codec
        outcome, same = asyncio.run(perform_async(call)), perform(call)
        assert outcome.error is same.error is None
        assert outcome.value == same.value
        assert isinstance(outcome.value, tuple if codec is None else Encoded)


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, BaseException, asyncio.CancelledError]
)
def test_on_a_running_loop_too_whatever_a_body_raises_is_an_outcome(error: type[BaseException]) -> None:
    made = error("x")

    async def body() -> None:
        raise made

    outcome = asyncio.run(perform_async(call_of(body)))
    assert outcome.error is made
    assert made.__traceback__ is not None
    assert made.__traceback__.tb_frame.f_code is body.__code__


def test_on_a_running_loop_a_cancelled_body_ends_with_an_outcome() -> None:
    async def body() -> None:
        await asyncio.sleep(600)

    async def main() -> Any:
        running = asyncio.create_task(perform_async(call_of(body)))
        await asyncio.sleep(0)
        running.cancel()
        return await running

    assert type(asyncio.run(main()).error) is asyncio.CancelledError
