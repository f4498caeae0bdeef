"""The worker's end of the channel: questions and answers between other messages, from threads and signal handlers."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dotflow_like.errors import StorageError, TaskCancelled
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import Channel, Message, Parcel
from dotflow_like.execute.workers.link import Link
from dotflow_like.execute.workers.protocol import (
    Question,
    error_parcel,
    question_from,
    question_parcel,
    signal_parcel,
)
from dotflow_like.model.signals import Cancel, Pause


class Parent:
    """The other end, which answers a question with the names it is about, unless it is told otherwise."""

    def __init__(self, end: socket.socket) -> None:
        self.channel = Channel(end)
        self.heard: list[Message] = []
        self.answer: Callable[[Message], Parcel | Exception | None] = lambda message: echoed(message)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def post(self, kind: int, number: int, extra: float = 0.0, parcel: Parcel | None = None) -> None:
        self.channel.post(kind, number, extra, *([] if parcel is None else [parcel]))
        assert self.channel.flush(wait=True)

    def _serve(self) -> None:
        while not self.channel.ended:
            for message in self.channel.receive(wait=True) or ():
                self.heard.append(message)
                if message.kind == protocol.ASK:
                    answer = self.answer(message)
                    if isinstance(answer, Parcel):
                        self.post(protocol.ANSWER, message.number, message.extra, answer)
                    elif answer is not None:
                        self.post(protocol.REFUSAL, message.number, message.extra, error_parcel(answer))


def echoed(message: Message) -> Parcel:
    assert message.frames is not None
    (name,) = question_from(message.frames).names
    return Parcel([[name.encode()]])


@pytest.fixture
def ends() -> Iterator[tuple[Link, Parent, Channel]]:
    here, there = socket.socketpair()
    parent, channel = Parent(there), Channel(here)
    yield Link(channel), parent, channel
    channel.close()
    parent._thread.join(30)
    parent.channel.close()


@pytest.fixture
def link(ends: tuple[Link, Parent, Channel]) -> Link:
    return ends[0]


@pytest.fixture
def parent(ends: tuple[Link, Parent, Channel]) -> Parent:
    return ends[1]


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """A function that has a signal handler call a function, in the main thread, in a moment."""
    before = signal.getsignal(signal.SIGUSR1)

    def set_off(handle: Callable[[], Any]) -> None:
        signal.signal(signal.SIGUSR1, lambda *_: handle())
        main = threading.main_thread().ident
        assert main is not None
        threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1)).start()

    yield set_off
    signal.signal(signal.SIGUSR1, before)


def never() -> bool:
    return False


def ask(link: Link, name: str, is_over: Callable[[], bool] = never) -> str:
    (frame,) = link.ask(7, question_parcel(Question("load", [name])), is_over)
    return bytes(frame).decode()


def test_a_question_has_its_answer(link: Link, parent: Parent) -> None:
    assert [ask(link, name) for name in "abc"] == ["a", "b", "c"]
    assert [(each.kind, each.number, each.extra) for each in parent.heard] == [
        (protocol.ASK, 7, 1.0),
        (protocol.ASK, 7, 2.0),
        (protocol.ASK, 7, 3.0),
    ]


def test_a_large_answer_comes_whole(link: Link, parent: Parent) -> None:
    data = bytes(range(256)) * 4096
    parent.answer = lambda message: Parcel([[b"head"], [data]])
    head, body = link.ask(7, question_parcel(Question("load"), [[data]]), never)
    assert (bytes(head), bytes(body)) == (b"head", data)
    (question,) = parent.heard
    assert question.frames is not None
    assert bytes(question.frames[1]) == data


def test_a_refusal_is_raised(link: Link, parent: Parent) -> None:
    parent.answer = lambda message: StorageError("full")
    with pytest.raises(StorageError, match="full"):
        ask(link, "a")
    parent.answer = lambda message: KeyError("a")
    with pytest.raises(KeyError, match="a"):
        ask(link, "a")


def test_what_else_comes_meanwhile_is_for_the_loop(link: Link, parent: Parent) -> None:
    def answer(message: Message) -> Parcel:
        parent.post(protocol.CALL, 8)
        parent.post(protocol.STOP, 7, 0.0, signal_parcel(Pause("lunch")))
        return echoed(message)

    parent.answer = answer
    assert ask(link, "a") == "a"
    asked = link.stop_of(7, never)
    assert (type(asked), asked and asked.reason) == (Pause, "lunch")
    kinds = [message.kind for message in (link.next(None), link.next(None)) if message]
    assert kinds == [protocol.CALL, protocol.STOP]


def test_threads_that_ask_at_once_each_have_their_own_answer(link: Link, parent: Parent) -> None:
    found: dict[str, str] = {}

    def work(name: str) -> None:
        for at in range(50):
            found[f"{name}{at}"] = ask(link, f"{name}{at}")
            link.stop_of(7, never)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert found == {f"{name}{at}": f"{name}{at}" for name in "abcd" for at in range(50)}


def test_a_signal_handler_asks_in_the_middle_of_a_question(
    link: Link, parent: Parent, alarm: Callable[..., None]
) -> None:
    found: list[str] = []
    handled = threading.Event()

    def handle() -> None:
        found.append(ask(link, "handler"))
        handled.set()

    def answer(message: Message) -> Parcel:
        assert message.frames is not None
        if question_from(message.frames).names == ["body"] and not found:
            threading.Thread(target=later, args=(message,)).start()
            return None  # type: ignore[return-value]  # it comes later
        return echoed(message)

    def later(message: Message) -> None:
        handled.wait(30)
        parent.post(protocol.ANSWER, message.number, message.extra, echoed(message))

    parent.answer = answer
    alarm(handle)
    assert ask(link, "body") == "body"
    assert found == ["handler"]


def test_after_a_handler_that_raises_the_next_question_has_its_own_answer(
    link: Link, parent: Parent, alarm: Callable[..., None]
) -> None:
    def handle() -> None:
        raise TimeoutError("the body's own")

    late: list[Message] = []
    parent.answer = lambda message: late.append(message)  # type: ignore[func-returns-value]
    alarm(handle)
    with pytest.raises(TimeoutError, match="the body's own"):
        ask(link, "first")
    parent.answer = echoed
    parent.post(protocol.ANSWER, 7, late[0].extra, echoed(late[0]))
    assert ask(link, "second") == "second"
    assert link.next(0) is None


def test_who_is_over_asks_nothing(link: Link, parent: Parent) -> None:
    with pytest.raises(TaskCancelled, match="nothing is saved any more"):
        ask(link, "a", lambda: True)
    assert parent.heard == []
    parent.post(protocol.STOP, 7, 0.0, signal_parcel(Cancel()))
    assert link.stop_of(7, lambda: True) is None


def test_who_is_over_while_it_waits_is_told(link: Link, parent: Parent) -> None:
    over = threading.Event()
    parent.answer = lambda message: over.set()  # type: ignore[func-returns-value]
    with pytest.raises(TaskCancelled):
        ask(link, "a", over.is_set)


def test_where_the_parent_is_gone_nobody_waits(link: Link, parent: Parent) -> None:
    parent.answer = lambda message: parent.channel._socket.shutdown(socket.SHUT_RDWR)  # type: ignore[func-returns-value]
    with pytest.raises(TaskCancelled):
        ask(link, "a")
    began = time.monotonic()
    link.wait(0.05)
    assert time.monotonic() - began >= 0.05  # and nobody spins


def test_who_left_asks_nothing(link: Link, parent: Parent) -> None:
    link.leave()
    with pytest.raises(TaskCancelled, match="another process"):
        ask(link, "a")


def test_the_latest_wish_counts(link: Link, parent: Parent) -> None:
    assert link.stop_of(7, never) is None
    for wish in (Pause(), Cancel("now")):
        parent.post(protocol.STOP, 7, 0.0, signal_parcel(wish))
    parent.post(protocol.STOP, 8, 0.0, signal_parcel(Pause()))
    link.wait(30)
    asked = None
    deadline = time.monotonic() + 30
    while not isinstance(asked, Cancel) and time.monotonic() < deadline:
        asked = link.stop_of(7, never)
    assert (type(asked), asked and asked.reason) == (Cancel, "now")


def test_a_wait_ends_when_something_comes(link: Link, parent: Parent) -> None:
    threading.Timer(0.01, parent.post, (protocol.STOP, 7, 0.0, signal_parcel(Pause()))).start()
    deadline = time.monotonic() + 30
    while link.stop_of(7, never) is None:
        assert time.monotonic() < deadline
        link.wait(30)
