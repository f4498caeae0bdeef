"""The executors: what is particular to one of them. What all have in common is in `tests/contract`."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import pytest

from dotflow_like.execute.executors.base import Executor
from dotflow_like.execute.executors.coroutines import CoroutineExecutor
from dotflow_like.execute.executors.inline import InlineExecutor
from dotflow_like.execute.executors.threads import ThreadExecutor
from dotflow_like.testing.executor_bench import LIMIT, Bench

Start = Callable[[Executor], Bench]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that opens an executor; at the end it is closed."""
    benches: list[Bench] = []

    def begin(executor: Executor) -> Bench:
        benches.append(Bench(executor))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.close()


def gone(thread: threading.Thread) -> bool:
    thread.join(30)
    return not thread.is_alive()


class Loop:
    """What async bodies leave behind to be looked at."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.gate = threading.Event()
        self.loops: list[asyncio.AbstractEventLoop] = []
        self.threads: list[threading.Thread] = []

    async def look(self) -> None:
        self.loops.append(asyncio.get_running_loop())
        self.threads.append(threading.current_thread())

    async def hang(self) -> None:
        await self.look()
        try:
            await asyncio.sleep(600)
        finally:
            self.ended.set()

    async def ignore(self) -> None:
        """End only when the gate is open, whoever cancels it."""
        await self.look()
        while not self.gate.is_set():
            try:
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                self.ended.set()

    async def block(self) -> None:
        await self.look()
        self.gate.wait(60)


def test_threads_end_when_their_executor_is_closed(start: Start) -> None:
    bench = start(ThreadExecutor(2))
    threads = [bench.run(threading.current_thread).outcome.load() for _ in range(2)]
    bench.close()
    assert all(map(gone, threads))


def test_a_thread_whose_call_was_given_up_ends_with_it(start: Start) -> None:
    gate, found = threading.Event(), []

    def hang() -> None:
        found.append(threading.current_thread())
        gate.wait(60)

    bench = start(ThreadExecutor(1))
    call = bench.begin(hang)
    assert bench.stop(call) is False
    assert bench.run(threading.current_thread).outcome.load() is not found[0]
    gate.set()
    assert gone(found[0])


def test_each_call_in_a_thread_has_a_copy_of_the_context_it_was_submitted_in(start: Start) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)

    def body() -> int:
        before = variable.get()
        variable.set(before + 1)
        return before

    async def async_body() -> int:
        return body()

    bench = start(ThreadExecutor(1))
    for number in (10, 20):
        variable.set(number)
        assert [bench.run(each).outcome.load() for each in (body, body, async_body, async_body)] == [
            number
        ] * 4
    assert variable.get() == 20


def test_async_calls_share_one_loop_in_one_thread_which_ends_with_the_executor(start: Start) -> None:
    seen = Loop()
    bench = start(ThreadExecutor(2))
    bench.run_all([bench.call(seen.look) for _ in range(4)])
    assert len(set(seen.loops)) == len(set(seen.threads)) == 1
    assert seen.threads[0].daemon
    bench.close()
    assert gone(seen.threads[0])
    assert seen.loops[0].is_closed()


@pytest.mark.parametrize(
    "executor", [ThreadExecutor(1), InlineExecutor(beside=True)], ids=["threads", "beside"]
)
def test_a_stopped_coroutine_is_cancelled_and_ends_with_its_finally(start: Start, executor: Executor) -> None:
    seen = Loop()
    bench = start(executor)
    call = bench.begin(seen.hang)
    assert bench.stop(call) is True
    assert seen.ended.is_set()
    assert bench.run(seen.look).outcome.error is None
    assert len(set(seen.loops)) == 1


def test_a_coroutine_that_ignores_being_cancelled_goes_on_and_so_do_the_others(start: Start) -> None:
    seen = Loop()
    bench = start(ThreadExecutor(2))
    other, call = bench.begin(seen.ignore), bench.begin(seen.ignore)
    assert bench.stop(call) is False
    assert seen.ended.is_set()
    assert bench.run(seen.look).outcome.error is None
    assert len(set(seen.loops)) == 1
    seen.gate.set()
    bench.until_ended(other, call)


def test_stopping_many_that_ignore_it_does_not_take_the_time_of_each(start: Start) -> None:
    seen = Loop()
    bench = start(ThreadExecutor(100))
    calls = [bench.begin(seen.ignore) for _ in range(100)]
    before = time.monotonic()
    assert [bench.stop(call) for call in calls] == [False] * 100
    assert time.monotonic() - before < 8  # not 100 times what one may take
    seen.gate.set()
    bench.until_ended(*calls)


def test_a_loop_that_a_stopped_body_blocks_is_replaced(start: Start) -> None:
    seen = Loop()
    bench = start(ThreadExecutor(2))
    call = bench.begin(seen.block)
    waiting = bench.call(seen.look)
    bench.submit(waiting)
    assert bench.stop(call) is False
    bench.until_ended(waiting)
    assert call not in bench.ended
    assert len(set(seen.loops)) == len(set(seen.threads)) == 2
    seen.gate.set()
    bench.until_ended(call)
    bench.close()
    assert all(map(gone, seen.threads))


def test_what_waits_for_a_blocked_loop_can_be_taken_back_or_stopped(start: Start) -> None:
    seen = Loop()
    bench = start(ThreadExecutor(4))
    call = bench.begin(seen.block)
    first, second, third = waiting = [bench.call(seen.look, LIMIT) for _ in range(3)]
    bench.submit(*waiting)
    assert bench.stop(first) is True
    assert bench.withdraw(everything=False) == []
    assert bench.withdraw(everything=True) == [second, third]
    seen.gate.set()
    bench.until_ended(call)
    assert bench.run(lambda: len(seen.loops)).outcome.load() == 1


def test_a_blocked_loop_does_not_hold_up_sync_calls(start: Start) -> None:
    seen = Loop()
    bench = start(ThreadExecutor(2))
    call = bench.begin(seen.block)
    assert bench.run(lambda: "sync").outcome.load() == "sync"
    seen.gate.set()
    bench.until_ended(call)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_that_a_body_made_cannot_end_the_loop(start: Start, error: type[BaseException]) -> None:
    """asyncio lets these two through, out of whatever runs the loop."""
    seen = Loop()

    async def raises() -> None:
        raise error("inner")

    async def body() -> None:
        await asyncio.create_task(raises())

    bench = start(ThreadExecutor(2))
    other = bench.begin(seen.ignore)
    call = bench.run(body)
    assert type(call.outcome.error) is error
    assert bench.run(seen.look).outcome.error is None
    seen.gate.set()
    bench.until_ended(other)
    assert len(set(seen.loops)) == 1


@pytest.mark.parametrize("name", ["hang", "ignore", "block"])
def test_closing_while_a_coroutine_runs(start: Start, name: str, caplog: pytest.LogCaptureFixture) -> None:
    seen = Loop()
    bench = start(ThreadExecutor(1))
    bench.begin(getattr(seen, name))
    bench.close()
    assert seen.threads[0].is_alive() == (name != "hang")
    assert seen.ended.is_set() == (name != "block")
    seen.gate.set()
    assert gone(seen.threads[0])
    assert seen.loops[0].is_closed()
    gc.collect()
    assert caplog.records == []  # asyncio tells there what was left over


def test_what_a_body_leaves_on_the_loop_ends_with_the_executor(start: Start) -> None:
    seen, left = Loop(), []

    async def leave() -> None:
        left.append(asyncio.create_task(seen.hang()))
        await asyncio.sleep(0)

    bench = start(ThreadExecutor(1))
    assert bench.run(leave).outcome.error is None
    assert not seen.ended.is_set()
    bench.close()
    assert gone(seen.threads[0])
    assert left[0].cancelled()


def test_an_executor_that_gets_no_async_call_makes_no_loop() -> None:
    executor = CoroutineExecutor(1)
    before = threading.active_count()
    bench = Bench(executor)
    assert bench.withdraw(everything=True) == []
    bench.close()
    assert threading.active_count() == before


def test_stopping_a_call_that_has_ended_changes_nothing(start: Start) -> None:
    async def body() -> int:
        return 1

    executor = ThreadExecutor(1)
    bench = start(executor)
    for each in (body, lambda: 1):
        assert executor.stop(bench.run(each)) is False
    assert bench.run(body).outcome.load() == 1
