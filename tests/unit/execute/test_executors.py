"""The executors: what each puts in the inbox, and what stopping means to it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from queue import Empty
from typing import Any

import pytest

from dotflow_like import task
from dotflow_like.execute.call import Call
from dotflow_like.execute.executors.base import Executor, Started
from dotflow_like.execute.executors.inline import InlineExecutor
from dotflow_like.execute.executors.processes import ProcessExecutor
from dotflow_like.execute.executors.threads import ThreadExecutor
from dotflow_like.execute.inbox import Inbox
from dotflow_like.model.records import Attempt
from dotflow_like.model.status import AttemptStatus
from dotflow_like.plan.inputs import Input, Source

MAKERS: dict[str, Callable[[], Executor]] = {
    "inline": InlineExecutor,
    "beside": lambda: InlineExecutor(beside=True),
    "threads": lambda: ThreadExecutor(2),
    "processes": lambda: ProcessExecutor(2),
}


def call_of(body: Callable[..., Any], **options: Any) -> Call:
    now = datetime.now(UTC)
    attempt = Attempt("w", "t", 1, AttemptStatus.RUNNING, None, now, now, None, "me", 1)
    return Call(task(body, **options), attempt, {}, (), {}, None, None)


@contextmanager
def opened(executor: Executor) -> Iterator[tuple[Executor, Inbox]]:
    inbox = Inbox()
    executor.open(inbox, None)
    try:
        yield executor, inbox
    finally:
        executor.close()
        inbox.close()


@pytest.fixture(params=MAKERS)
def running(request: pytest.FixtureRequest) -> Iterator[tuple[Executor, Inbox]]:
    with opened(MAKERS[request.param]()) as both:
        yield both


def next_call(inbox: Inbox) -> Call:
    """Return the next call that has ended."""
    while True:
        message = inbox.get(30)
        if isinstance(message, Call):
            return message


def test_a_call_comes_back_with_its_outcome(running: tuple[Executor, Inbox]) -> None:
    executor, inbox = running
    call = call_of(lambda: 41 + 1)
    executor.submit([call])
    assert next_call(inbox) is call
    assert call.outcome.error is None
    assert call.outcome.load() == 42


def test_a_failure_comes_back_as_an_outcome(running: tuple[Executor, Inbox]) -> None:
    executor, inbox = running
    executor.submit([call_of(lambda: 1 / 0)])
    error = next_call(inbox).outcome.error
    assert error is not None
    assert "ZeroDivisionError" in (type(error).__name__, getattr(error, "exception", None))


def test_a_batch_comes_back_whole(running: tuple[Executor, Inbox]) -> None:
    executor, inbox = running
    calls = [call_of(lambda i=i: i) for i in range(executor.slots)]
    executor.submit(calls)
    assert {next_call(inbox) for _ in calls} == set(calls)
    assert [each.outcome.load() for each in calls] == list(range(executor.slots))


def test_a_call_with_a_time_limit_says_when_it_has_started(running: tuple[Executor, Inbox]) -> None:
    executor, inbox = running
    call = call_of(lambda: 1, timeout=60)
    executor.submit([call])
    assert inbox.get(30) == Started(call)
    assert inbox.get(30) is call


def test_one_executor_serves_one_call_after_another(running: tuple[Executor, Inbox]) -> None:
    executor, inbox = running
    for i in range(5):
        executor.submit([call_of(lambda i=i: i)])
        assert next_call(inbox).outcome.load() == i


def test_a_stopped_call_of_a_worker_is_never_heard_of_again() -> None:
    with opened(ProcessExecutor(1)) as (executor, inbox):
        call = call_of(lambda: time.sleep(600), timeout=60)
        executor.submit([call])
        assert inbox.get(30) == Started(call)
        assert executor.stop(call) is True
        other = call_of(lambda: "other")
        executor.submit([other])
        assert next_call(inbox) is other
        with pytest.raises(Empty):
            inbox.get(0)


def test_a_stopped_call_of_a_thread_frees_its_slot_and_ends_later() -> None:
    gate = threading.Event()
    with opened(ThreadExecutor(1)) as (executor, inbox):
        call = call_of(lambda: gate.wait(60), timeout=60)
        executor.submit([call])
        assert inbox.get(30) == Started(call)
        assert executor.stop(call) is False
        other = call_of(lambda: "other")
        executor.submit([other])
        assert next_call(inbox) is other
        gate.set()
        assert next_call(inbox) is call


def test_a_call_that_is_asked_to_end_sees_it(running: tuple[Executor, Inbox]) -> None:
    executor, inbox = running

    def body(ctx: Any) -> str:
        deadline = time.monotonic() + 30
        while not ctx.cancelled:
            if time.monotonic() > deadline:
                return "never asked"
            time.sleep(0.002)
        return "asked"

    call = call_of(body, timeout=60)
    call.inputs = (Input("ctx", Source.CONTEXT),)
    executor.submit([call])
    assert inbox.get(30) == Started(call)
    executor.ask(call)
    assert next_call(inbox).outcome.load() == "asked"


def test_closing_ends_the_workers() -> None:
    with opened(ProcessExecutor(2)) as (executor, inbox):
        executor.submit([call_of(os.getpid), call_of(os.getpid)])
        pids = {next_call(inbox).outcome.load() for _ in range(2)}
        busy = call_of(lambda: time.sleep(600), timeout=60)
        executor.submit([busy])
        assert inbox.get(30) == Started(busy)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_closing_what_was_never_used_does_nothing(running: tuple[Executor, Inbox]) -> None:
    del running


def test_threads_end_when_their_executor_is_closed() -> None:
    with opened(ThreadExecutor(2)) as (executor, inbox):
        found: list[threading.Thread] = []
        for _ in range(2):
            executor.submit([call_of(lambda: found.append(threading.current_thread()))])
            next_call(inbox)
    for each in found:
        each.join(30)
        assert not each.is_alive()
