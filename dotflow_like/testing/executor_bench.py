"""What the contract of executors drives them with: calls, bodies that meet and wait, and a stand-in for the kernel."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from dotflow_like.clock import current
from dotflow_like.declare.task import task
from dotflow_like.execute.call import Call
from dotflow_like.execute.control import Control
from dotflow_like.execute.executors.base import Executor, Progressed, Started
from dotflow_like.execute.inbox import Inbox
from dotflow_like.model.context import Progress, TaskContext
from dotflow_like.model.records import Attempt, TaskError
from dotflow_like.model.status import AttemptStatus
from dotflow_like.plan.inputs import Input, Source
from dotflow_like.record.journal import Codec

__all__ = ["LIMIT", "Bench", "body_of", "error_of", "heeds", "meets", "visits", "waits"]

LIMIT = 600.0
"""Seconds: the time limit of calls that are to have one."""
_PATIENCE = 60.0  # seconds until something that has to come is missed

Body = Callable[..., Any]
Steps = Callable[[TaskContext], Iterator[None]]


class Bench:
    """An open executor, used as its kernel would use it. What it says is checked as it is heard.

    Args:
        executor: opened here.
        codec: encodes results; None to keep them as they are.
        lock: descriptor of the run's lock; None if it has none.

    Attributes:
        executor: the same.
        ended: the calls that have come back.
        progress: what bodies have reported, in order.
    """

    def __init__(self, executor: Executor, codec: Codec | None = None, lock: int | None = None) -> None:
        self.executor = executor
        self.ended: set[Call] = set()
        self.progress: list[tuple[Call, Progress]] = []
        self._codec = codec
        self._closed = False
        self._inbox = Inbox()
        self._open: set[Call] = set()  # given, and their slots taken
        self._given_up: set[Call] = set()
        self._begun: set[Call] = set()
        self._control = Control(
            lambda: None, lambda call, progress: self._inbox.put(Progressed(call, progress))
        )
        executor.open(self._inbox, codec, lock)

    def call(self, body: Body, limit: float | None = None, *inputs: Input) -> Call:
        """Return a call of `body`, with a time limit in seconds; a parameter `ctx` is filled."""
        made = task(body, timeout=limit)
        if made.signature.get("ctx") is not None:
            inputs = (*inputs, Input("ctx", Source.CONTEXT))
        now = current().now()
        attempt = Attempt("w", "t", 1, AttemptStatus.RUNNING, None, now, now, None, "me", 1)
        return Call(made, attempt, {"p": 1}, inputs, {}, None, self._codec, self._control)

    def submit(self, *calls: Call) -> None:
        """Give calls to the executor, as many as it has slots for at most."""
        self._open.update(calls)
        assert len(self._open) <= self.executor.slots, "the test gives more than there are slots"
        self.executor.submit(calls)

    def begin(self, body: Body) -> Call:
        """Submit a call of `body`, with a time limit, and wait until the body has begun."""
        call = self.call(body, LIMIT)
        self.submit(call)
        while call not in self._begun:
            self._hear()
        assert call not in self.ended, f"its body ended at once: {call.outcome.error!r}"
        return call

    def run(self, body: Body, limit: float | None = None) -> Call:
        """Submit a call of `body`, and wait until it has come back."""
        call = self.call(body, limit)
        self.submit(call)
        self.until_ended(call)
        return call

    def run_all(self, calls: Iterable[Call]) -> None:
        """Submit calls as slots get free, and wait until all have come back."""
        calls = list(calls)
        todo = deque(calls)
        while todo:
            free = min(self.executor.slots - len(self._open), len(todo))
            if free > 0:
                self.submit(*(todo.popleft() for _ in range(free)))
            else:
                self._hear()
        self.until_ended(*calls)

    def until_ended(self, *calls: Call) -> None:
        """Wait until these calls have come back."""
        for call in calls:
            while call not in self.ended:
                self._hear()

    def stop(self, call: Call) -> bool:
        """Stop a call; its slot is free then."""
        stopped = self.executor.stop(call)
        if call in self._open:
            self._open.discard(call)
            if not stopped:
                self._given_up.add(call)
        return stopped

    def withdraw(self, *, everything: bool) -> list[Call]:
        """Take calls back."""
        calls = self.executor.withdraw(everything=everything)
        assert set(calls) <= self._open, "what has ended, or was never given, cannot be taken back"
        assert len(set(calls)) == len(calls)
        assert not self._begun & set(calls), "a body that has begun is not taken back"
        self._open.difference_update(calls)
        return calls

    def close(self) -> None:
        """Close the executor, and hear what it has still to say."""
        if not self._closed:
            self._closed = True
            self.executor.close()
            while not self._inbox.empty():
                self._take(self._inbox.get(0))
            self._inbox.close()

    def _hear(self) -> None:
        self.executor.submit(())  # as the kernel does in every turn
        try:
            message = self._inbox.get(_PATIENCE)
        except Empty:
            raise AssertionError(f"nothing more came; {len(self._open)} calls are open") from None
        self._take(message)

    def _take(self, message: Any) -> None:
        call = message if isinstance(message, Call) else message.call
        assert call in self._open | self._given_up, "of a call nothing is heard after its end"
        if isinstance(message, Started):
            assert call not in self._begun, "a body begins once"
            assert call.task.timeout is not None, "that is said of calls with a time limit only"
            self._begun.add(call)
        elif isinstance(message, Progressed):
            self.progress.append((call, message.progress))
        else:
            assert message is call
            assert call in self._begun or call.task.timeout is None, "it came back before its body began"
            self._open.discard(call)
            self._given_up.discard(call)
            self.ended.add(call)


def error_of(call: Call) -> TaskError:
    """Return the record of the error a call has ended with."""
    error = call.outcome.error
    assert error is not None, "it ended without an error"
    return error if isinstance(error, TaskError) else TaskError.of(error, call.attempt.number)


# Bodies. They speak through files, and are made here, not defined, so that they travel by value.


def body_of(steps: Steps, kind: str = "sync") -> Body:
    """Return a body that takes these steps, and waits at each: `sync`, `async`, or `stubborn`, which is never cancelled."""

    def body(ctx: TaskContext) -> None:
        for _ in steps(ctx):
            time.sleep(0.002)

    async def async_body(ctx: TaskContext) -> None:
        for _ in steps(ctx):
            await asyncio.sleep(0.002)

    async def stubborn_body(ctx: TaskContext) -> None:
        for _ in steps(ctx):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.002)

    return {"sync": body, "async": async_body, "stubborn": stubborn_body}[kind]


def meets(folder: Path, name: str, size: int) -> Steps:
    """Return the steps of one that goes on only when so many are there at once."""

    def steps(ctx: TaskContext) -> Iterator[None]:
        (folder / f"here-{name}").touch()
        deadline = time.monotonic() + 30
        while sum(each.name.startswith("here-") for each in folder.iterdir()) < size:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} waits alone")
            yield

    return steps


def visits(folder: Path, name: str, limit: int) -> Steps:
    """Return the steps of one that complains if more than `limit` are there at once."""

    def steps(ctx: TaskContext) -> Iterator[None]:
        (folder / f"visit-{name}").touch()
        for _ in range(3):
            yield
        found = sum(each.name.startswith("visit-") for each in folder.iterdir())
        (folder / f"visit-{name}").unlink()
        if found > limit:
            raise RuntimeError(f"{found} are here at once")

    return steps


def waits(folder: Path, name: str = "effect") -> Steps:
    """Return the steps of one that waits for the file `gate`, and then makes its own."""

    def steps(ctx: TaskContext) -> Iterator[None]:
        deadline = time.monotonic() + 60
        while not (folder / "gate").exists() and time.monotonic() < deadline:
            yield
        (folder / name).touch()

    return steps


def heeds(folder: Path, name: str = "heeded") -> Steps:
    """Return the steps of one that waits as well, and makes its file as soon as it is asked to end."""

    def steps(ctx: TaskContext) -> Iterator[None]:
        deadline = time.monotonic() + 60
        while not (folder / "gate").exists() and time.monotonic() < deadline:
            if ctx.cancelled:
                (folder / name).touch()
                return
            yield

    return steps
