"""Open files that go through the socket to a worker, and what a worker does with the lock of its run."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow_like.execute.call import Call
from dotflow_like.execute.executors.inline import InlineExecutor
from dotflow_like.execute.executors.processes import ProcessExecutor
from dotflow_like.execute.executors.split import SplitExecutor
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import Channel, Handle, Message, Parcel
from dotflow_like.execute.workers.pool import pool
from dotflow_like.execute.workers.process import Worker
from dotflow_like.execute.workers.settings import WorkerSettings
from dotflow_like.testing.executor_bench import Bench

Descriptors = Callable[[], set[int]]
Pair = tuple[Channel, Channel]

BIG = bytes(100_000)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two connected channels, of which the first takes little at once."""
    ends = socket.socketpair()
    ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours, theirs = Channel(ends[0]), Channel(ends[1])
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[Lock]:
    made = Lock(tmp_path / "lock")
    yield made
    made.let_go()


class Lock:
    """A file that is locked, as that of a run.

    Attributes:
        path: its path.
        descriptor: of the file, which is locked.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        fcntl.flock(self.descriptor, fcntl.LOCK_EX)

    def let_go(self) -> None:
        """Close it, as is done to a process that is killed: copies keep the lock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def is_free(self) -> bool:
        with self.path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def copies(self) -> Callable[[], int]:
        """Return a body that counts how often its process has the file open."""
        wanted = self.path.stat()

        def count() -> int:
            found = 0
            for number in range(256):
                with contextlib.suppress(OSError):  # which is not open
                    found += os.path.samestat(wanted, os.fstat(number))
            return found

        return count


def arrived(pair: Pair, count: int) -> list[Message]:
    ours, theirs = pair
    messages: list[Message] = []
    while len(messages) < count:
        ours.flush()
        assert not ours.ended
        messages += theirs.receive(wait=True) or ()
    return messages


# The channel


def test_an_open_file_arrives_as_a_descriptor_of_the_same(pair: Pair, lock: Lock) -> None:
    pair[0].post(9, 77, 0.5, Handle(lock.descriptor))
    pair[0].post(1)
    (kind, descriptor, extra, frames), after = arrived(pair, 2)
    assert (kind, extra, frames) == (9, 0.5, ())
    assert after == (1, 0, 0.0, ())
    assert descriptor != lock.descriptor
    assert not os.get_inheritable(descriptor)
    os.fstat(lock.descriptor)
    lock.let_go()
    assert not lock.is_free()
    os.close(descriptor)
    assert lock.is_free()


def test_open_files_and_large_data_are_not_taken_for_each_other(pair: Pair, tmp_path: Path) -> None:
    chance = random.Random(3)
    sent: list[object] = []
    came: list[object] = []

    def take(messages: list[Message]) -> None:
        for kind, number, _, frames in messages:
            if kind == 2:
                came.append(os.fstat(number).st_ino)
                os.close(number)
            else:
                assert frames is not None
                came.append([bytes(frame) for frame in frames])

    for _ in range(300):
        if chance.random() < 0.4:
            descriptor = os.open(tmp_path / str(chance.randrange(10)), os.O_RDWR | os.O_CREAT)
            sent.append(os.fstat(descriptor).st_ino)
            pair[0].post(2, parcel=Handle(descriptor))
            while not pair[0].flush():
                take(pair[1].receive(wait=True) or [])
            os.close(descriptor)
        else:
            data = chance.randbytes(chance.choice([0, 10, 5000, 70_000]))
            sent.append([data])
            pair[0].post(1, parcel=Parcel([[data]]))
        if chance.random() < 0.3:
            pair[0].flush()
            take(pair[1].receive() or [])
    take(arrived(pair, len(sent) - len(came)))
    assert came == sent


def test_an_open_file_whose_message_comes_byte_by_byte(lock: Lock, descriptors: Descriptors) -> None:
    before = descriptors()
    one, other = socket.socketpair()
    writing, reading = socket.socketpair()
    ours, theirs = Channel(one), Channel(reading)
    with writing, other:
        ours.post(9, parcel=Handle(lock.descriptor))
        ours.flush()
        data, passed, *_ = socket.recv_fds(other, 1000, 4)
        socket.send_fds(writing, [data[:1]], passed)
        os.close(passed[0])
        for byte in data[1:]:
            assert theirs.receive() == []
            writing.send(bytes([byte]))
        came = theirs.receive()
        assert came
        (message,) = came
        assert os.path.sameopenfile(message.number, lock.descriptor)
        os.close(message.number)
        ours.close()
        theirs.close()
    assert descriptors() == before


def test_without_a_free_descriptor_an_open_file_is_lost_and_only_that(script: Callable[..., str]) -> None:
    code = """
import os, resource, socket
from dotflow_like.execute.workers.channel import Channel, Handle, Parcel
one, other = socket.socketpair()
ours, theirs = Channel(one), Channel(other)
free = os.dup(0)
os.close(free)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, 4096))
for number in range(3):
    ours.post(1, number, 0.0, Parcel([[b"small"]]))
    ours.post(2, number, 0.0, Handle(0))
ours.flush()
came = []
while len(came) < 6:
    came += theirs.receive() or ()
print([(m.kind, m.frames and len(m.frames)) for m in came], theirs.ended)
ours.close()
theirs.close()
"""
    assert script(code) == "[(1, 1), (2, None), (1, 1), (2, None), (1, 1), (2, None)] False\n"


def test_an_open_file_nobody_took_is_closed_with_the_channel(lock: Lock, descriptors: Descriptors) -> None:
    before = descriptors()
    one, other = socket.socketpair()
    ours, theirs = Channel(one), Channel(other)
    ours.post(9, parcel=Handle(lock.descriptor))
    ours.post(9, parcel=Handle(lock.descriptor))
    ours.flush()
    ours.close()
    theirs.close()
    assert descriptors() == before


# A worker


def given(worker: Worker, lock: Lock) -> None:
    worker.channel.post(protocol.HOLD, parcel=Handle(lock.descriptor))


def test_a_worker_holds_the_lock_of_its_run_until_that_is_over(worker: Worker, lock: Lock, talk: Any) -> None:
    given(worker, lock)
    assert talk.run(worker, lock.copies()) == 1
    lock.let_go()
    assert not lock.is_free()
    assert talk.end(worker)
    assert lock.is_free()
    assert talk.run(worker, lock.copies()) == 0


def test_a_worker_that_is_killed_gives_the_lock_back(worker: Worker, lock: Lock, talk: Any) -> None:
    given(worker, lock)
    talk.run(worker, lock.copies())
    lock.let_go()
    worker.kill()
    assert lock.is_free()


def test_a_worker_whose_parent_is_gone_gives_the_lock_back(
    worker: Worker, lock: Lock, talk: Any, until: Any
) -> None:
    given(worker, lock)
    talk.run(worker, lock.copies())
    lock.let_go()
    assert not lock.is_free()
    worker.forget()
    until(lock.is_free, "the end of the worker")


def test_programs_of_a_body_do_not_get_the_lock_and_its_forks_do(
    worker: Worker, lock: Lock, talk: Any, until: Any
) -> None:
    def starts() -> int:
        return subprocess.Popen(["sleep", "600"], close_fds=False, start_new_session=True).pid

    def forks() -> int:
        child = os.fork()
        if child == 0:
            os.setsid()
            time.sleep(600)
            os._exit(0)
        return child

    given(worker, lock)
    program, fork = talk.run(worker, starts), talk.run(worker, forks)
    lock.let_go()
    os.kill(worker.pid, 9)  # not `worker.kill`, which ends what it has started, too
    try:
        assert worker.wait(30)
        assert not lock.is_free()
        os.kill(fork, 9)
        until(lock.is_free, "the end of the fork")
        os.kill(program, 0)
    finally:
        os.kill(program, 9)


# The executor


@pytest.fixture
def opened() -> Iterator[Callable[..., Bench]]:
    """A function that opens an executor for a run with a lock; no worker of before is left."""
    pool.close()
    benches: list[Bench] = []

    def begin(executor: Any, lock: Lock) -> Bench:
        benches.append(Bench(executor, lock=lock.descriptor))
        return benches[-1]

    yield begin
    for bench in benches:
        bench.close()
    pool.close()


def result(call: Call) -> Any:
    assert call.outcome.error is None, call.outcome.error
    return call.outcome.load()


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_the_workers_of_a_run_hold_its_lock_until_it_is_closed(
    opened: Callable[..., Bench], lock: Lock, start_method: Any
) -> None:
    bench = opened(ProcessExecutor(2, WorkerSettings(start_method)), lock)
    calls = [bench.call(lock.copies()) for _ in range(8)]
    bench.run_all(calls)
    assert all(map(result, calls))
    copy = os.dup(lock.descriptor)  # else, closed before the executor, its number could be another file's
    bench.close()
    os.close(copy)
    lock.let_go()
    assert lock.is_free()


def test_a_worker_that_was_kept_holds_nothing_of_the_run_before(
    opened: Callable[..., Bench], lock: Lock, tmp_path: Path
) -> None:
    other = Lock(tmp_path / "other")

    def seen() -> tuple[int, int, int]:
        return os.getpid(), first(), second()

    first, second = lock.copies(), other.copies()
    said = []
    for each in (lock, other, lock):
        bench = opened(ProcessExecutor(1), each)
        said.append(result(bench.run(seen)))
        bench.close()
    assert {pid for pid, *_ in said} == {said[0][0]}
    assert [copies for _, *copies in said] == [[1, 0], [0, 1], [1, 0]]
    other.let_go()


def test_a_worker_that_replaces_another_holds_the_lock_too(opened: Callable[..., Bench], lock: Lock) -> None:
    bench = opened(ProcessExecutor(1), lock)
    assert bench.run(lambda: os._exit(1)).outcome.error is not None
    assert result(bench.run(lock.copies())) == 1
    begun = bench.begin(lambda: time.sleep(600))
    assert bench.stop(begun)
    assert result(bench.run(lock.copies())) == 1


def test_the_workers_of_isolated_tasks_hold_it(opened: Callable[..., Bench], lock: Lock) -> None:
    bench = opened(SplitExecutor(InlineExecutor(), ProcessExecutor(1)), lock)
    call = bench.call(lock.copies())
    call.task = call.task.with_options(isolate=True)
    bench.submit(call)
    bench.until_ended(call)
    assert result(call) == 1


def test_a_run_whose_settings_are_large_hands_the_lock_over_too(
    opened: Callable[..., Bench], lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LARGE", "x" * 100_000)
    bench = opened(ProcessExecutor(1), lock)
    assert result(bench.run(lock.copies())) == 1
    assert result(bench.run(lambda: len(BIG))) == len(BIG)


def test_nothing_is_left_open_after_200_runs(
    opened: Callable[..., Bench], lock: Lock, descriptors: Descriptors
) -> None:
    def held() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    def run() -> int:
        bench = opened(ProcessExecutor(1), lock)
        number: int = result(bench.run(held))
        bench.close()
        return number

    first = run()
    gc.collect()
    before = descriptors()
    assert {run() for _ in range(200)} == {first}
    gc.collect()
    assert descriptors() == before
