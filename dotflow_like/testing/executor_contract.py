"""What every executor has to do, as tests: the suite an author of one runs."""

# the name of a test is what it promises

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dotflow_like.errors import NotSerializable, WorkerDied
from dotflow_like.execute.executors.base import Executor
from dotflow_like.model.context import Context, Progress
from dotflow_like.model.records import Held
from dotflow_like.plan.inputs import Input, Need, Source
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Codec, Encoded
from dotflow_like.testing.executor_bench import LIMIT, Bench, body_of, error_of, heeds, meets, visits, waits

__all__ = ["ExecutorContract"]

_MOMENT = 0.05  # seconds in which a body that looks every 2 ms would have done what it must not do
_SOON = 30.0  # seconds, on a machine that is busy with other things

Start = Callable[..., Bench]
limits = pytest.mark.parametrize("limit", [None, LIMIT], ids=["unlimited", "limited"])
kinds = pytest.mark.parametrize("kind", ["sync", "async", "stubborn"])


def _lock() -> object:
    return threading.Lock()  # since 3.13 that is a class, and would be taken for a class task


class ExecutorContract:
    """Tests of the promises in `Executor`; subclass it in a test module and say how an executor is made.

        from dotflow_like.testing import ExecutorContract

        class TestClusterExecutor(ExecutorContract):
            kills = remote = True

            def make_executor(self, slots):
                return ClusterExecutor("tcp://localhost:8786", slots)

    The name of the subclass starts with `Test`, so that pytest finds it. Bodies and tests speak through files in
    `tmp_path`, so wherever bodies run that has to be the same folder.

    Attributes:
        concurrent: it runs several bodies at once, if it is made for several.
        kills: `stop` and `close` end any body for good.
        remote: bodies do not share the memory of this process.
    """

    concurrent: ClassVar[bool] = True
    kills: ClassVar[bool] = False
    remote: ClassVar[bool] = False

    def make_executor(self, slots: int) -> Executor:
        """Return a new executor that runs up to `slots` bodies at once; fewer only if it never can run several."""
        raise NotImplementedError("say how your executor is made: override make_executor(self, slots)")

    @pytest.fixture
    def start(self, tmp_path: Path) -> Iterator[Start]:
        """A function that makes an executor and opens it: `start(slots, codec=None)`."""
        benches: list[Bench] = []

        def begin(slots: int, codec: Codec | None = None) -> Bench:
            benches.append(Bench(self.make_executor(slots), codec))
            return benches[-1]

        yield begin
        for bench in benches:
            bench.close()
        (tmp_path / "gate").touch()  # what still waits in a thread shall not do so for long

    # calls come back

    @limits
    @pytest.mark.parametrize(
        "result",
        [None, False, 0, "", [], (1, {"a": [b"b"]}), b"x" * 5_000_000],
        ids=lambda result: f"{result!r}"[:12],
    )
    def test_a_call_comes_back_with_its_result(
        self, start: Start, result: object, limit: float | None
    ) -> None:
        call = start(1).run(lambda: result, limit)
        assert call.outcome.error is None
        found = call.outcome.load()
        assert found == result
        assert type(found) is type(result)
        assert call.outcome.load() is found
        assert call.elapsed is None or call.elapsed >= 0

    @limits
    def test_an_async_body_is_awaited(self, start: Start, limit: float | None) -> None:
        async def body(ctx: Any) -> Any:
            return ctx.task_id, await asyncio.gather(asyncio.sleep(0.001, 1), asyncio.sleep(0, 2))

        assert start(1).run(body, limit).outcome.load() == ("t", [1, 2])

    def test_a_body_is_given_what_fills_its_parameters(self, start: Start) -> None:
        def body(a: Any, b: Any, c: Any, previous_context: Context, ctx: Any) -> Any:
            return a, b, c, previous_context.storage, previous_context.task_id, ctx.params, ctx.attempt.number

        bench = start(1)
        call = bench.call(
            body,
            None,
            Input("a", Source.CONSTANT, [1]),
            Input("b", Source.RESULT, Need("one")),
            Input("c", Source.GATHER, (Need("two"), 4)),
            Input("previous_context", Source.PREVIOUS),
        )
        call.results = {"one": Held({2: b"2"}), "two": Held(None)}
        call.previous = Context(Held("before"), task_id="b")
        bench.run_all([call])
        assert call.outcome.error is None
        assert call.outcome.load() == ([1], {2: b"2"}, (None, 4), "before", "b", {"p": 1}, 1)

    @pytest.mark.parametrize("codec", [None, JsonCodec()], ids=["kept", "encoded"])
    def test_a_result_goes_to_the_next_call(self, start: Start, codec: Codec | None) -> None:
        bench = start(1, codec)
        first = bench.run(lambda: {"n": [1, 2]})
        value = first.outcome.value
        if codec is not None:
            assert type(value) is Encoded
            assert value.data == codec.encode({"n": [1, 2]})
        second = bench.call(lambda x: x["n"], None, Input("x", Source.RESULT, Need("t")))
        second.results = {"t": first.outcome if codec is None else Held(codec.decode(value.data))}
        bench.run_all([second])
        assert second.outcome.error is None
        assert second.outcome.load() == ([1, 2] if codec is None else Encoded(codec.encode([1, 2])))

    def test_batches_come_back_whole(self, start: Start) -> None:
        bench = start(3)
        for size in (bench.executor.slots, 1, bench.executor.slots):
            calls = [bench.call(lambda i=i: i) for i in range(size)]
            bench.submit(*calls)
            bench.until_ended(*calls)
            assert [each.outcome.load() for each in calls] == list(range(size))

    @limits
    def test_many_calls_go_through_few_slots(self, start: Start, limit: float | None) -> None:
        def body(i: int) -> Callable[[], Any]:
            async def later() -> int:
                return await asyncio.sleep(0, i)

            return later if i % 3 == 0 else lambda: i

        bench = start(2)
        calls = [bench.call(body(i), limit) for i in range(500)]
        bench.run_all(calls)
        assert [each.outcome.load() for each in calls] == list(range(500))

    def test_two_executors_keep_to_themselves(self, start: Start) -> None:
        one, two = start(1), start(2)
        for i in range(10):
            mine, other = one.call(lambda i=i: i), two.call(lambda i=i: -i)
            one.submit(mine)
            two.submit(other)
            one.until_ended(mine)  # which fails if it hears of the other
            two.until_ended(other)
            assert (mine.outcome.load(), other.outcome.load()) == (i, -i)

    def test_it_works_inside_a_running_event_loop(self, start: Start) -> None:
        async def body() -> int:
            return await asyncio.sleep(0.001, 1)

        async def main() -> list[int]:
            bench = start(2)
            calls = [bench.call(each, limit) for each in (body, lambda: 2) for limit in (None, LIMIT)]
            bench.run_all(calls)
            return [each.outcome.load() for each in calls]

        assert asyncio.run(main()) == [1, 1, 2, 2]

    def test_bodies_share_memory_unless_it_is_remote(self, start: Start) -> None:
        seen: list[int] = []
        assert start(1).run(lambda: (seen.append(1), len(seen))[1]).outcome.load() == 1  # type: ignore[func-returns-value]  # called for what it does
        assert len(seen) == (0 if self.remote else 1)

    @limits
    def test_the_worker_is_named_unless_it_is_the_runs_own_thread(
        self, start: Start, limit: float | None
    ) -> None:
        call = start(1).run(lambda: (os.getpid(), threading.get_ident()), limit)
        assert (call.worker is None) == (call.outcome.load() == (os.getpid(), threading.get_ident()))

    @limits
    def test_it_tells_whether_a_body_is_in_the_runs_own_thread(
        self, start: Start, limit: float | None
    ) -> None:
        bench, here = start(1), threading.get_ident()
        executor = bench.executor
        assert executor.in_body is False
        if not self.remote:
            call = bench.run(lambda: executor.in_body == (threading.get_ident() == here), limit)
            assert call.outcome.load() is True
        assert executor.in_body is False

    def test_what_a_body_reports_is_heard(self, start: Start) -> None:
        def body(ctx: Any) -> None:
            ctx.progress(1, 3, "half")

        bench = start(1)
        call = bench.run(body)
        assert call.outcome.error is None
        assert bench.progress == [(call, Progress(1, 3, "half"))]

    # how many at once

    def test_no_more_run_at_once_than_it_was_made_for(self, start: Start, tmp_path: Path) -> None:
        bench = start(3)
        steps = [visits(tmp_path, str(i), 3) for i in range(24)]
        calls = [bench.call(body_of(each, "async" if i % 2 else "sync")) for i, each in enumerate(steps)]
        bench.run_all(calls)
        assert [each.outcome.error for each in calls] == [None] * 24

    @pytest.mark.parametrize("kind", ["sync", "async", "mixed"])
    def test_as_many_run_at_once(self, start: Start, tmp_path: Path, kind: str) -> None:
        bench = start(3)
        size = 3 if self.concurrent else 1
        of = [kind] * 3 if kind != "mixed" else ["async", "sync", "async"]
        calls = [bench.call(body_of(meets(tmp_path, str(i), size), of[i]), LIMIT) for i in range(3)]
        bench.run_all(calls)
        assert [each.outcome.error for each in calls] == [None] * 3

    def test_nothing_waits_for_a_long_body_beside_a_free_slot(self, start: Start, tmp_path: Path) -> None:
        if not self.concurrent:
            pytest.skip("it runs one body at a time")
        bench = start(2)
        bench.run_all([bench.call(lambda: None) for _ in range(50)])
        long = bench.begin(body_of(waits(tmp_path)))
        bench.run_all([bench.call(lambda: None) for _ in range(50)])
        assert long not in bench.ended
        (tmp_path / "gate").touch()
        bench.until_ended(long)

    # failures

    @pytest.mark.parametrize("kind", ["sync", "async"])
    @pytest.mark.parametrize(
        "error", [LookupError, SystemExit, KeyboardInterrupt, BaseException, asyncio.CancelledError]
    )
    def test_what_a_body_raises_is_its_outcome(
        self, start: Start, error: type[BaseException], kind: str
    ) -> None:
        def misbehave() -> None:
            raise error("a reason") from ValueError("the cause")

        async def misbehave_async() -> None:
            misbehave()

        bench = start(1)
        call = bench.run(misbehave if kind == "sync" else misbehave_async)
        record = error_of(call)
        assert (record.exception, record.message) == (error.__name__, "a reason")
        for text in ("in misbehave", "ValueError: the cause", f"{error.__name__}: a reason"):
            assert text in record.traceback
        assert bench.run(lambda: "next").outcome.load() == "next"

    def test_an_error_that_is_hard_to_send_is_told_all_the_same(self, start: Start) -> None:
        class Awkward(Exception):
            def __init__(self, *, code: int) -> None:
                self.code = code

            def __str__(self) -> str:
                raise ValueError("no text")

            def __reduce__(self) -> Any:
                raise ValueError("no pickle")

        def body() -> None:
            raise Awkward(code=3)

        bench = start(1)
        record = error_of(bench.run(body))
        assert record.exception == "Awkward"
        assert "raise Awkward(code=3)" in record.traceback
        assert bench.run(lambda: "next").outcome.load() == "next"

    def test_a_result_that_cannot_be_kept_fails_its_call(self, start: Start) -> None:
        bench = start(1, JsonCodec())
        assert error_of(bench.run(_lock)).is_a(NotSerializable)
        assert bench.run(lambda: 1).outcome.value == Encoded(b"1")

    def test_what_cannot_travel_fails_its_call(self, start: Start) -> None:
        bench, lock = start(1), threading.Lock()
        for call in (bench.run(_lock), bench.run(lambda: lock)):
            if self.remote:
                assert error_of(call).is_a(NotSerializable)
            else:
                assert isinstance(call.outcome.load(), type(lock))
        assert bench.run(lambda: "next").outcome.load() == "next"

    def test_a_body_that_ends_its_process_fails_alone(self, start: Start) -> None:
        if not self.remote:
            pytest.skip("its bodies share the process of the tests")
        bench = start(2)
        calls = [bench.call((lambda: os._exit(7)) if i == 10 else lambda i=i: i) for i in range(20)]
        bench.run_all(calls)
        assert error_of(calls.pop(10)).is_a(WorkerDied)
        assert [each.outcome.load() for each in calls] == [i for i in range(20) if i != 10]

    # asked to end, taken back, stopped

    @pytest.mark.parametrize("kind", ["sync", "async"])
    def test_a_body_sees_that_it_is_asked_to_end(self, start: Start, tmp_path: Path, kind: str) -> None:
        bench = start(2)
        other = bench.begin(body_of(heeds(tmp_path, "other"), kind)) if self.concurrent else None
        call = bench.begin(body_of(heeds(tmp_path, "asked"), kind))
        bench.executor.ask(call)
        bench.until_ended(call)
        assert (tmp_path / "asked").exists()
        (tmp_path / "gate").touch()
        if other is not None:
            bench.until_ended(other)
        assert not (tmp_path / "other").exists()

    @pytest.mark.parametrize("everything", [True, False], ids=["everything", "in-advance"])
    def test_what_is_taken_back_never_begins_and_the_rest_comes(
        self, start: Start, tmp_path: Path, everything: bool
    ) -> None:
        bench = start(1)
        bench.run_all([bench.call(lambda: None) for _ in range(100)])  # it may take calls in advance now
        first = bench.begin(body_of(waits(tmp_path, "first")))
        names = [f"effect-{i}" for i in range(bench.executor.slots - 1)]
        others = [bench.call(body_of(waits(tmp_path, name))) for name in names]
        bench.submit(*others)
        taken = bench.withdraw(everything=everything)
        assert first not in taken
        assert bench.withdraw(everything=everything) == []
        (tmp_path / "gate").touch()
        bench.until_ended(first, *(call for call in others if call not in taken))
        assert bench.run(lambda: "next").outcome.load() == "next"
        assert {name for name in names if (tmp_path / name).exists()} == {
            name for name, call in zip(names, others, strict=True) if call not in taken
        }

    @kinds
    def test_what_is_stopped_is_gone_or_comes_later(self, start: Start, tmp_path: Path, kind: str) -> None:
        bench = start(1)
        call = bench.begin(body_of(waits(tmp_path), kind))
        stopped = bench.stop(call)
        assert stopped or not self.kills
        for limit in (None, LIMIT):  # its slot is free
            assert bench.run(lambda: "next", limit).outcome.load() == "next"
        assert call not in bench.ended
        (tmp_path / "gate").touch()
        if stopped:
            time.sleep(_MOMENT)
            assert not (tmp_path / "effect").exists()
        else:
            bench.until_ended(call)
            assert (tmp_path / "effect").exists()

    def test_what_is_stopped_takes_nothing_with_it(self, start: Start, tmp_path: Path) -> None:
        if not self.concurrent:
            pytest.skip("it runs one body at a time")
        bench = start(3)
        kept = [bench.begin(body_of(waits(tmp_path, f"kept-{kind}"), kind)) for kind in ("sync", "async")]
        bench.stop(bench.begin(body_of(waits(tmp_path), "async")))
        (tmp_path / "gate").touch()
        bench.until_ended(*kept)
        assert [each.outcome.error for each in kept] == [None, None]

    # the end

    @pytest.mark.parametrize("size", [0, 4])
    def test_closing_gives_everything_back(self, start: Start, size: int) -> None:
        async def body() -> None:
            await asyncio.sleep(0)

        bench = start(2)
        bench.run_all([bench.call(body if i % 2 else lambda: None) for i in range(size)])
        bench.close()
        gc.collect()  # what is left open says so now

    @kinds
    def test_closing_while_bodies_run(self, start: Start, tmp_path: Path, kind: str) -> None:
        bench = start(2)
        for i in range(1 + self.concurrent):
            bench.begin(body_of(waits(tmp_path, f"effect-{i}"), kind))
        before = time.monotonic()
        bench.close()
        assert time.monotonic() - before < _SOON
        if self.kills:
            (tmp_path / "gate").touch()
            time.sleep(_MOMENT)
            assert not list(tmp_path.glob("effect-*"))
        gc.collect()
