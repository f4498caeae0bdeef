"""The inbox: messages from threads and descriptors in one place."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
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


def test_the_reader_may_add_messages_itself(either: Inbox) -> None:
    either.add(1)
    either.put(2)
    either.add(None)
    assert not either.empty()
    assert [either.get(0) for _ in range(3)] == [1, 2, None]
    assert either.empty()


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


def test_several_messages_may_come_of_one_descriptor_or_none(inbox: Inbox, pipe: tuple[int, int]) -> None:
    def receive() -> None:
        for each in os.read(pipe[0], 10):
            inbox.add(each)

    def ignore() -> None:
        os.read(other[0], 10)

    other = os.pipe()
    inbox.watch(pipe[0], receive)
    inbox.watch(other[0], ignore)
    os.write(pipe[1], b"abc")
    os.write(other[1], b"x")
    assert [inbox.get(0) for _ in range(3)] == list(b"abc")
    with pytest.raises(Empty):
        inbox.get(0)
    os.write(other[1], b"x")
    with pytest.raises(Empty):
        inbox.get(0)
    with pytest.raises(Empty):
        inbox.get(0.01)
    for each in other:
        os.close(each)


def test_events_that_bring_nothing_do_not_prolong_the_wait(inbox: Inbox, pipe: tuple[int, int]) -> None:
    inbox.watch(pipe[0], lambda: None)
    os.write(pipe[1], b"never read")  # an event in each round, without end
    for patience in (0, 0.02):
        with pytest.raises(Empty):
            inbox.get(patience)
    inbox.put("message")
    assert inbox.get(0) == "message"


def test_what_a_signal_handler_puts_while_events_bring_nothing_is_found(
    inbox: Inbox, pipe: tuple[int, int]
) -> None:
    rounds = 0

    def receive() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 100:
            signal.raise_signal(signal.SIGUSR1)

    former = signal.signal(signal.SIGUSR1, lambda *_: inbox.put("signalled"))
    try:
        inbox.watch(pipe[0], receive)
        os.write(pipe[1], b"never read")
        assert inbox.get(None) == "signalled"
    finally:
        signal.signal(signal.SIGUSR1, former)


# Sending


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    made = socket.socketpair()
    for each in made:
        each.setblocking(False)
    yield made
    for each in made:
        each.close()


def test_a_descriptor_is_written_when_it_takes_more(
    inbox: Inbox, ends: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = ends
    with suppress(BlockingIOError):
        while ours.send(bytes(4096)):
            pass

    def send() -> None:
        inbox.add(ours.send(b"more"))
        inbox.watch(ours, receive)  # no more to send

    def receive() -> None:
        inbox.add(ours.recv(10))

    inbox.watch(ours, receive, send)
    with pytest.raises(Empty):
        inbox.get(0.01)
    with suppress(BlockingIOError):
        while theirs.recv(65536):
            pass
    assert inbox.get(None) == 4
    with pytest.raises(Empty):
        inbox.get(0)
    theirs.send(b"back")
    assert inbox.get(None) == b"back"


def test_a_descriptor_may_be_read_and_written_in_one_round(
    inbox: Inbox, ends: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = ends
    calls: list[str] = []

    def send() -> None:
        calls.append("send")

    def receive() -> None:
        calls.append("receive")
        inbox.add(ours.recv(10))

    inbox.watch(ours, receive, send)
    theirs.send(b"data")
    assert inbox.get(None) == b"data"
    assert calls == ["send", "receive"]


def test_watching_again_changes_who_is_called(inbox: Inbox, pipe: tuple[int, int]) -> None:
    inbox.watch(pipe[0], lambda: inbox.add(("first", os.read(pipe[0], 1))))
    os.write(pipe[1], b"ab")
    assert inbox.get(None) == ("first", b"a")
    inbox.watch(pipe[0], lambda: inbox.add(("second", os.read(pipe[0], 1))))
    assert inbox.get(None) == ("second", b"b")
    inbox.forget(pipe[0])
    os.write(pipe[1], b"c")
    inbox.watch(pipe[0], lambda: inbox.add(("third", os.read(pipe[0], 1))))
    assert inbox.get(None) == ("third", b"c")


def test_one_descriptor_may_be_forgotten_when_another_is_read(inbox: Inbox, pipe: tuple[int, int]) -> None:
    other = os.pipe()
    for ours, theirs in ((pipe, other), (other, pipe)):

        def receive(ours: tuple[int, int] = ours, theirs: tuple[int, int] = theirs) -> None:
            if not forgotten:
                forgotten.append(theirs[0])
                inbox.forget(theirs[0])
            inbox.add(os.read(ours[0], 10))

        inbox.watch(ours[0], receive)
    forgotten: list[int] = []
    os.write(pipe[1], b"1")
    os.write(other[1], b"2")
    came = {inbox.get(None)}
    while not inbox.empty():  # the other may be called once more
        came.add(inbox.get(None))
    assert came <= {b"1", b"2"}
    assert len(forgotten) == 1
    with pytest.raises(Empty):
        inbox.get(0)
    for each in other:
        os.close(each)


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
