"""What the tests of workers share: descriptors counted, a process beside, a worker that is spoken to by hand."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import Message, Parcel
from dotflow_like.execute.workers.pickling import dumps, loads
from dotflow_like.execute.workers.process import Worker
from dotflow_like.execute.workers.protocol import RunSettings
from dotflow_like.execute.workers.surroundings import surroundings


@pytest.fixture
def descriptors() -> Callable[[], set[int]]:
    """A function that returns the descriptors this process has open."""

    def is_open(descriptor: int) -> bool:
        try:
            os.fstat(descriptor)
        except OSError:
            return False
        return True

    return lambda: set(filter(is_open, range(1024)))


@pytest.fixture
def script() -> Callable[..., str]:
    """A function that runs code in a process of its own, in which warnings are errors, and returns what it prints."""

    def run(code: str, *arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    return run


class Talk(NamedTuple):
    """Speaks to workers by hand.

    Attributes:
        begin: has a body run, and returns when it has begun.
        hear: waits until a worker says something of a kind.
        run: has a body run to its end and returns its result.
        end: tells a worker that its run is over; returns whether nothing goes on in it.
    """

    begin: Callable[[Worker, Callable[[], object]], None]
    hear: Callable[..., Message]
    run: Callable[[Worker, Callable[[], object]], object]
    end: Callable[[Worker], bool]


@pytest.fixture
def talk() -> Talk:
    heard: defaultdict[Worker, list[Message]] = defaultdict(list)

    def hear(worker: Worker, *kinds: int) -> Message:
        poll = select.poll()
        poll.register(worker.channel, select.POLLIN)
        said = heard[worker]
        while True:
            for message in said:
                if message.kind in kinds:
                    said.remove(message)
                    return message
            assert not worker.channel.ended, "it has ended"
            assert poll.poll(30_000), "it says nothing"
            said += worker.channel.receive() or ()

    def begin(worker: Worker, body: Callable[[], object]) -> None:
        settings = dumps((RunSettings({}, {}, None), None)).frames
        worker.sent += 1
        worker.tokens.give([worker.sent])
        worker.channel.post(protocol.RUN, parcel=Parcel([dumps(tuple(surroundings())).chunks, *settings]))
        worker.channel.post(protocol.FUNCTION, worker.sent, 0.0, Parcel(dumps((body, [], ())).frames))
        worker.channel.post(protocol.TIMED_CALL, worker.sent, worker.sent)
        assert worker.channel.flush()
        message = hear(worker, protocol.STARTED, protocol.FAILED)
        if message.kind == protocol.FAILED:  # before it began: it could not be loaded
            heard[worker].append(message)

    def run(worker: Worker, body: Callable[[], object]) -> object:
        begin(worker, body)
        message = hear(worker, protocol.NOTHING, protocol.PICKLED, protocol.FAILED)
        assert message.frames is not None
        if message.kind == protocol.FAILED:
            raise AssertionError(bytes(message.frames[0]).decode())
        return loads(message.frames[0], message.frames[1:]) if message.frames else None

    def end(worker: Worker) -> bool:
        worker.channel.post(protocol.END)
        assert worker.channel.flush()
        return bool(hear(worker, protocol.ENDED).extra)

    return Talk(begin, hear, run, end)


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    """A function that starts a worker, which is ended with the test."""
    started: list[Worker] = []

    def start(*given: Any) -> Worker:
        started.append(Worker(*given))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.forget()


@pytest.fixture(params=["spawn", "fork"])
def worker(request: pytest.FixtureRequest, start: Callable[..., Worker]) -> Worker:
    """A worker, of each kind in turn."""
    return start(request.param)
