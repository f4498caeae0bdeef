"""The inbox: messages from threads and descriptors in one place."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from queue import Empty

import pytest

from dotflow_like.execute.inbox import Inbox


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    made = Inbox()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for each in ends:
        os.close(each)


@pytest.fixture(params=["queue", "selector"])
def either(inbox: Inbox, request: pytest.FixtureRequest, pipe: tuple[int, int]) -> Inbox:
    """An inbox that watches nothing, and one that does."""
    if request.param == "selector":
        inbox.watch(pipe[0], lambda: None)
    return inbox


def test_messages_come_in_the_order_they_were_put(either: Inbox) -> None:
    for each in (1, None, "three"):
        either.put(each)
    assert not either.empty()
    assert [either.get(None) for _ in range(3)] == [1, None, "three"]
    assert either.empty()


@pytest.mark.parametrize("patience", [0, 0.0, 0.01])
def test_without_a_message_it_is_empty_when_patience_ends(either: Inbox, patience: float) -> None:
    with pytest.raises(Empty):
        either.get(patience)


def test_another_thread_wakes_the_reader(either: Inbox) -> None:
    thread = threading.Thread(target=either.put, args=("hello",))
    thread.start()
    assert either.get(None) == "hello"
    thread.join()


def test_a_signal_handler_wakes_the_reader(either: Inbox) -> None:
    former = signal.signal(signal.SIGUSR1, lambda *_: either.put("signalled"))
    try:
        timer = threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
        timer.start()
        assert either.get(None) == "signalled"
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_what_a_descriptor_brings_is_received_in_the_readers_thread(
    inbox: Inbox, pipe: tuple[int, int]
) -> None:
    threads: list[threading.Thread] = []

    def receive() -> None:
        threads.append(threading.current_thread())
        inbox.put(os.read(pipe[0], 10))

    inbox.watch(pipe[0], receive)
    os.write(pipe[1], b"data")
    assert inbox.get(None) == b"data"
    assert threads == [threading.current_thread()]


def test_a_descriptor_that_is_forgotten_is_read_no_more(inbox: Inbox, pipe: tuple[int, int]) -> None:
    inbox.watch(pipe[0], lambda: inbox.put(os.read(pipe[0], 10)))
    inbox.forget(pipe[0])
    os.write(pipe[1], b"data")
    with pytest.raises(Empty):
        inbox.get(0.01)


def test_messages_put_before_something_is_watched_are_kept(inbox: Inbox, pipe: tuple[int, int]) -> None:
    inbox.put("early")
    inbox.watch(pipe[0], lambda: None)
    assert inbox.get(None) == "early"


def test_many_messages_do_not_block_the_writer(inbox: Inbox, pipe: tuple[int, int]) -> None:
    inbox.watch(pipe[0], lambda: None)
    for i in range(20_000):  # more than the bell's buffer holds
        inbox.put(i)
    assert [inbox.get(0) for _ in range(20_000)] == list(range(20_000))


def test_a_late_message_to_a_closed_inbox_does_no_harm(inbox: Inbox, pipe: tuple[int, int]) -> None:
    inbox.watch(pipe[0], lambda: None)
    inbox.close()
    inbox.put("late")
    inbox.close()
