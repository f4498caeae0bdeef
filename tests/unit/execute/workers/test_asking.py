"""What a body in a worker is asked to become, wherever its call is when it is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow_like.execute.call import Call
from dotflow_like.execute.executors.processes import ProcessExecutor
from dotflow_like.model.signals import Cancel, Pause, Signal, Skip
from dotflow_like.plan.inputs import Input, Source
from dotflow_like.testing.executor_bench import Bench, error_of


@pytest.fixture
def bench() -> Iterator[Bench]:
    """An executor with one worker, which is given calls in advance."""
    made = Bench(ProcessExecutor(1))
    while made.executor.slots < 4:
        made.run_all([made.call(lambda: None) for _ in range(20)])
    yield made
    made.close()


def waiting_for(gate: Path) -> Callable[..., str | None]:
    """Return a body that waits for a file, and says what it was asked by then."""

    def body(ctx: Any, x: bytes = b"") -> str | None:
        deadline = time.monotonic() + 30
        while not gate.exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        asked = ctx._running.asked()
        return None if asked is None else f"{asked}"

    return body


def ask(bench: Bench, call: Call, signal: Signal) -> None:
    call.stop_asked = signal
    bench.executor.ask(call)


@pytest.mark.parametrize("large", [False, True], ids=["sent in advance", "not sent yet"])
def test_a_call_is_asked_while_it_waits_behind_another(bench: Bench, tmp_path: Path, large: bool) -> None:
    body = waiting_for(tmp_path / "gate")
    given = [
        Input("x", Source.CONSTANT, b"x" * (50_000 if large else 1))
    ]  # two of them are not sent together
    calls = [bench.call(body, None, *given) for _ in range(3)]
    bench.submit(*calls)
    ask(bench, calls[1], Skip("not this one"))
    (tmp_path / "gate").touch()
    bench.until_ended(*calls)
    assert [call.outcome.load() for call in calls] == [None, "skip: not this one", None]


def test_the_last_wish_counts(bench: Bench, tmp_path: Path) -> None:
    call = bench.call(waiting_for(tmp_path / "gate"))
    bench.submit(call)
    ask(bench, call, Pause("first"))
    ask(bench, call, Cancel("then"))
    (tmp_path / "gate").touch()
    bench.until_ended(call)
    assert call.outcome.load() == "cancel: then"


@pytest.mark.parametrize("signal", [Skip("why"), Pause(), Cancel("ü")])
def test_what_a_body_becomes_comes_back_as_it_was(bench: Bench, signal: Signal) -> None:
    def body(ctx: Any) -> None:
        while True:
            ctx.sleep(30)

    call = bench.begin(body)
    ask(bench, call, signal)
    bench.until_ended(call)
    error = call.outcome.error
    assert isinstance(error, Signal)
    assert (type(error), error.reason) == (type(signal), signal.reason)


def test_an_error_beside_a_signal_is_an_error(bench: Bench) -> None:
    def body(ctx: Any) -> None:
        assert not ctx.cancelled
        raise LookupError("a key")

    call = bench.run(body)
    assert error_of(call).exception == "LookupError"
