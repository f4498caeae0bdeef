"""Calls of isolated tasks go to one executor, the others to another."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from dotflow_like import task
from dotflow_like.execute.call import Call
from dotflow_like.execute.executors.base import Executor, Started
from dotflow_like.execute.executors.inline import InlineExecutor
from dotflow_like.execute.executors.processes import ProcessExecutor
from dotflow_like.execute.executors.split import SplitExecutor
from dotflow_like.execute.executors.threads import ThreadExecutor
from dotflow_like.execute.inbox import Inbox
from dotflow_like.model.records import Attempt
from dotflow_like.model.status import AttemptStatus
from dotflow_like.plan.inputs import Input, Source


def call_of(body: Callable[..., Any], **options: Any) -> Call:
    now = datetime.now(UTC)
    attempt = Attempt("w", "t", 1, AttemptStatus.RUNNING, None, now, now, None, "me", 1)
    return Call(task(body, **options), attempt, {}, (), {}, None, None)


@pytest.fixture(params=[InlineExecutor, lambda: ThreadExecutor(3)], ids=["inline", "threads"])
def main(request: pytest.FixtureRequest) -> Executor:
    made: Executor = request.param()
    return made


@pytest.fixture
def split(main: Executor) -> Iterator[tuple[SplitExecutor, Inbox]]:
    inbox = Inbox()
    executor = SplitExecutor(main, ProcessExecutor(main.slots))
    executor.open(inbox, None)
    try:
        yield executor, inbox
    finally:
        executor.close()
        inbox.close()


def test_each_call_is_run_where_it_belongs(split: tuple[SplitExecutor, Inbox]) -> None:
    executor, inbox = split
    calls = [call_of(os.getpid, isolate=i % 2 == 0) for i in range(4)]
    for call in calls:
        executor.submit([call])
        assert inbox.get(30) is call
    assert [call.outcome.load() == os.getpid() for call in calls] == [False, True, False, True]
    assert [call.worker == f"pid {call.outcome.load()}" for call in calls] == [True, False, True, False]


def test_a_batch_of_both_kinds_comes_back_whole() -> None:
    inbox = Inbox()
    executor = SplitExecutor(ThreadExecutor(4), ProcessExecutor(4))
    executor.open(inbox, None)
    try:
        calls = [call_of(os.getpid, isolate=i % 2 == 0) for i in range(4)]
        executor.submit(calls)
        assert {inbox.get(30) for _ in calls} == set(calls)
        assert [call.outcome.load() == os.getpid() for call in calls] == [False, True, False, True]
    finally:
        executor.close()
        inbox.close()


def test_its_slots_are_those_of_the_one_for_tasks_that_are_not_isolated(
    split: tuple[SplitExecutor, Inbox], main: Executor
) -> None:
    executor, inbox = split
    for _ in range(3):  # tiny bodies, of which workers alone would be given more
        executor.submit([call_of(lambda: None, isolate=True)])
        inbox.get(30)
    assert executor.slots == main.slots


def test_what_runs_in_this_thread_is_in_a_body_and_nothing_else_is(
    split: tuple[SplitExecutor, Inbox], main: Executor
) -> None:
    executor, inbox = split
    found: list[bool] = []
    executor.submit([call_of(lambda: found.append(executor.in_body))])
    inbox.get(30)
    assert found == [isinstance(main, InlineExecutor)]
    executor.submit([call_of(lambda: None, isolate=True)])
    assert executor.in_body is False
    inbox.get(30)


def test_an_isolated_call_is_asked_to_end(split: tuple[SplitExecutor, Inbox]) -> None:
    executor, inbox = split

    def body(ctx: Any) -> str:
        pause = threading.Event()
        while not ctx.cancelled:
            pause.wait(0.002)
        return "asked"

    call = call_of(body, isolate=True, timeout=60)
    call.inputs = (Input("ctx", Source.CONTEXT),)
    executor.submit([call])
    assert inbox.get(30) == Started(call)
    executor.ask(call)
    assert inbox.get(30) is call
    assert call.outcome.load() == "asked"


def test_an_isolated_call_is_stopped_for_good(split: tuple[SplitExecutor, Inbox]) -> None:
    executor, inbox = split
    call = call_of(lambda: threading.Event().wait(600), isolate=True, timeout=60)
    executor.submit([call])
    assert inbox.get(30) == Started(call)
    assert executor.stop(call) is True
    other = call_of(lambda: "other", isolate=True)
    executor.submit([other])
    assert inbox.get(30) is other


def test_isolated_calls_that_have_not_begun_are_taken_back() -> None:
    inbox = Inbox()
    executor = SplitExecutor(ThreadExecutor(3), ProcessExecutor(1))
    executor.open(inbox, None)
    try:
        calls = [call_of(lambda: threading.Event().wait(600), isolate=True, timeout=60) for _ in range(3)]
        executor.submit(calls)
        assert inbox.get(30) == Started(calls[0])
        assert executor.withdraw(everything=True) == calls[1:]
    finally:
        executor.close()
        inbox.close()
