"""The workers that wait for their next run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from dotflow_like.execute.workers import pool as module
from dotflow_like.execute.workers import process, protocol
from dotflow_like.execute.workers.channel import Parcel
from dotflow_like.execute.workers.pool import Pool
from dotflow_like.execute.workers.process import Worker

if TYPE_CHECKING:
    from tests.unit.execute.workers.conftest import Talk


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool of its own."""
    made = Pool()
    yield made
    for worker in list(made.lent):
        made.kill(worker)
    made.close()


def is_reaped(worker: Worker) -> bool:
    """Whether a worker is gone and asked how it ended."""
    try:
        os.kill(worker.pid, 0)
    except ProcessLookupError:
        return worker.channel.fileno() == -1
    return False


def test_a_worker_that_was_given_back_is_borrowed_again(pool: Pool, talk: Talk) -> None:
    worker = pool.borrow("spawn", b"")
    assert pool.lent == {worker}
    assert talk.run(worker, os.getpid) == worker.pid
    pool.give_back([worker], 2)
    assert pool.lent == set()
    assert pool.borrow("spawn", b"") is worker
    assert pool.lent == {worker}
    assert talk.run(worker, os.getpid) == worker.pid


def test_a_worker_is_one_runs_at_a_time(pool: Pool) -> None:
    first = pool.borrow("spawn", b"")
    pool.give_back([first], 2)
    assert pool.borrow("spawn", b"") is first
    second = pool.borrow("spawn", b"")
    assert second is not first
    pool.give_back([first, second], 2)
    assert {pool.borrow("spawn", b""), pool.borrow("spawn", b"")} == {first, second}


def test_a_worker_is_of_the_kind_it_was_initialised_as(pool: Pool) -> None:
    plain = pool.borrow("spawn", b"")
    pool.give_back([plain], 2)
    other = pool.borrow("spawn", b"other")
    assert other is not plain
    assert other.kind == b"other"
    pool.give_back([other], 2)
    assert pool.borrow("spawn", b"") is plain
    assert pool.borrow("spawn", b"other") is other


def test_a_fork_is_never_kept(pool: Pool, talk: Talk) -> None:
    fresh = pool.borrow("spawn", b"")
    pool.give_back([fresh], 2)
    fork = pool.borrow("fork", b"")
    assert fork.forked
    assert talk.run(fork, os.getpid) == fork.pid
    pool.give_back([fork], 2)
    assert is_reaped(fork)
    assert pool.borrow("fork", b"") not in (fork, fresh)


def test_no_more_are_kept_than_asked_for_and_those_the_latest(pool: Pool) -> None:
    workers = [pool.borrow("spawn", b"") for _ in range(3)]
    pool.give_back(workers[:2], 3)
    pool.give_back(workers[2:], 2)
    assert [is_reaped(worker) for worker in workers] == [True, False, False]
    assert [pool.borrow("spawn", b"") for _ in range(2)] == [workers[2], workers[1]]
    pool.give_back(workers[1:], 0)
    assert all(map(is_reaped, workers))


def test_a_worker_that_died_while_it_waited_is_replaced(pool: Pool, talk: Talk) -> None:
    dead, alive = pool.borrow("spawn", b""), pool.borrow("spawn", b"")
    pool.give_back([alive, dead], 2)
    os.kill(dead.pid, signal.SIGKILL)
    assert dead.wait(30)
    assert pool.borrow("spawn", b"") is alive
    assert is_reaped(dead)
    fresh = pool.borrow("spawn", b"")
    assert fresh is not dead
    assert talk.run(fresh, os.getpid) == fresh.pid


@pytest.mark.parametrize(
    "leave",
    [
        lambda: threading.Thread(target=threading.Event().wait, daemon=True).start(),
        lambda: subprocess.Popen(["sleep", "60"]),
        lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    ],
    ids=["a thread", "a process", "a signal handler"],
)
def test_a_worker_in_which_something_of_a_run_is_left_is_ended(
    leave: Callable[[], object], pool: Pool, talk: Talk
) -> None:
    def body() -> None:
        leave()

    worker, clean = pool.borrow("spawn", b""), pool.borrow("spawn", b"")
    talk.run(worker, body)
    pool.give_back([worker, clean], 2)
    assert is_reaped(worker)
    assert pool.borrow("spawn", b"") is clean


def test_what_a_body_started_and_saw_to_does_not_matter(pool: Pool, talk: Talk) -> None:
    def body() -> None:
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
        subprocess.run(["true"], check=True)
        if os.fork() == 0:
            os._exit(0)
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # it has ended, and stays unasked

    worker = pool.borrow("spawn", b"")
    talk.run(worker, body)
    pool.give_back([worker], 1)
    assert pool.borrow("spawn", b"") is worker


def test_a_worker_that_does_not_answer_is_ended(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    silent, dead = pool.borrow("spawn", b""), pool.borrow("spawn", b"")
    silent.freeze()
    os.kill(dead.pid, signal.SIGKILL)
    pool.give_back([silent, dead], 2)
    assert is_reaped(silent)
    assert is_reaped(dead)
    assert pool.lent == set()


def test_a_worker_that_was_sent_more_than_it_has_read_hears_of_the_end(pool: Pool) -> None:
    worker = pool.borrow("spawn", b"")
    worker.freeze()
    parcel = Parcel([[bytes(60_000)]])
    for number in range(1, 20):  # calls that were taken back: it has no token for them
        worker.channel.post(protocol.CALL, number, 0.0, parcel)
    assert not worker.channel.flush()
    worker.go_on()
    pool.give_back([worker], 1)
    assert pool.borrow("spawn", b"") is worker


def test_a_worker_that_is_let_go_ends_by_itself(pool: Pool, until: Callable[..., None]) -> None:
    worker = pool.borrow("spawn", b"")
    pool.let_go(worker)
    assert pool.lent == set()
    assert worker.wait(30)
    pool.give_back([], 2)
    assert is_reaped(worker)
    assert worker.kill() == "exit code 0"


def test_killing_says_how_it_ended(pool: Pool) -> None:
    worker, other = pool.borrow("spawn", b""), pool.borrow("fork", b"")
    assert pool.kill(worker) == "signal SIGKILL"
    assert is_reaped(worker)
    assert pool.lent == {other}


def test_closing_ends_all_that_wait_and_leaves_nothing(
    pool: Pool, talk: Talk, descriptors: Callable[[], set[int]]
) -> None:
    before = descriptors()
    workers = [pool.borrow("spawn", b"") for _ in range(3)]
    for worker in workers[:2]:
        talk.run(worker, os.getpid)
    pool.give_back(workers[:2], 2)
    pool.let_go(workers[2])
    pool.close()
    assert all(map(is_reaped, workers))
    assert [worker.kill() for worker in workers[:2]] == ["exit code 0"] * 2, (
        "they had time to end by themselves"
    )
    assert descriptors() == before
    pool.close()
    pool.give_back([pool.borrow("spawn", b"")], 1)


def test_many_threads_may_use_it(pool: Pool) -> None:
    errors: list[BaseException] = []
    seen: list[Worker] = []
    lock = threading.Lock()

    def use() -> None:
        try:
            for _ in range(5):
                worker = pool.borrow("spawn", b"")
                with lock:
                    assert worker not in seen
                    seen.append(worker)
                with lock:
                    seen.remove(worker)
                pool.give_back([worker], 3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert pool.lent == set()


def test_a_worker_that_cannot_be_started_is_nobodys(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(OSError, match="nowhere"):
        pool.borrow("spawn", b"")
    assert pool.lent == set()


# Forks of this process


def forked(child: Callable[[], bool]) -> int:
    """Fork; the child ends with 0 if what it does is true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads of the tests
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = 0 if child() else 2
    finally:
        os._exit(code)


def test_a_fork_of_this_process_has_no_way_to_its_workers(talk: Talk) -> None:
    pool = module.pool  # the one that is told of forks
    lent, idle = pool.borrow("spawn", b""), pool.borrow("spawn", b"")
    pool.give_back([idle], 1)
    ends = [lent.channel.fileno(), lent.tokens.reading, idle.channel.fileno(), idle.tokens.reading]

    def child() -> bool:
        closed = 0
        for each in ends:
            try:
                os.fstat(each)
            except OSError:
                closed += 1
        own = pool.borrow("spawn", b"")  # which works here, too
        works = talk.run(own, os.getpid) == own.pid
        pool.kill(own)
        pool.close()
        return closed == len(ends) and works and pool.lent == set()

    _, status = os.waitpid(forked(child), 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert talk.run(lent, os.getpid) == lent.pid
    assert pool.borrow("spawn", b"") is idle
    assert talk.run(idle, os.getpid) == idle.pid
    pool.kill(lent)
    pool.kill(idle)


def test_a_fork_of_this_process_does_not_keep_its_workers_alive(talk: Talk) -> None:
    worker = module.pool.borrow("spawn", b"")
    talk.begin(worker, lambda: time.sleep(60))
    reading, writing = os.pipe()
    pid = forked(lambda: os.read(reading, 1) == b"!")
    try:
        worker.forget()  # as if this process had ended
        assert worker.wait(30)
    finally:
        os.write(writing, b"!")
        module.pool.kill(worker)
        _, status = os.waitpid(pid, 0)
        os.close(reading)
        os.close(writing)
    assert os.waitstatus_to_exitcode(status) == 0


# The end of this process, and of a worker nobody needs


def test_at_exit_all_that_wait_end(script: Callable[..., str]) -> None:
    code = """
from dotflow_like.execute.workers.pool import pool
workers = [pool.borrow("spawn", b"") for _ in range(2)]
pool.give_back(workers, 2)
for worker in workers:
    print(worker.pid)
"""
    for pid in map(int, script(code).split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


IMPATIENT = """
import sys, json
sys.path[:] = json.loads(sys.argv.pop())
from dotflow_like.execute.workers import main
main._IDLE = 0.05
main.main(*map(int, sys.argv[1:]))
"""


def test_a_worker_nobody_needs_ends_after_a_while_and_one_with_a_run_does_not(
    start: Callable[..., Worker], talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_START", IMPATIENT)
    worker = start()
    assert worker.wait(30)
    assert worker.kill() == "exit code 0"
    worker = start()
    talk.run(worker, os.getpid)
    assert not worker.wait(0.3), "its run is not over"
    talk.end(worker)
    assert worker.wait(30)
    assert worker.kill() == "exit code 0"
