"""What a process and its worker say to each other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import Channel, Message, Parcel
from dotflow_like.execute.workers.pickling import dumps, loads
from dotflow_like.execute.workers.protocol import (
    Question,
    RunSettings,
    error_from,
    error_parcel,
    question_from,
    question_parcel,
    signal_of,
    signal_parcel,
)
from dotflow_like.model.records import TaskError
from dotflow_like.model.signals import SIGNALS, Retry, Signal, signal_from

Cross = Callable[[BaseException], TaskError]
Talk = Callable[[Parcel], Message]


@pytest.fixture
def over() -> Iterator[Talk]:
    """A function that sends a parcel from one end of a channel to the other, and returns the message it is there."""
    one, other = socket.socketpair()
    ours, theirs = Channel(one), Channel(other)

    def send(parcel: Parcel) -> Message:
        ours.post(protocol.ASK, 1, 0.0, parcel)
        assert ours.flush()
        (message,) = theirs.receive(wait=True) or ()
        return message

    yield send
    ours.close()
    theirs.close()


@pytest.fixture
def cross() -> Iterator[Cross]:
    """A function that sends an error from one end of a channel to the other, as that of attempt 7."""
    one, other = socket.socketpair()
    ours, theirs = Channel(one), Channel(other)

    def send(error: BaseException) -> TaskError:
        ours.post(protocol.FAILED, 1, 0.0, error_parcel(error))
        assert ours.flush()
        (message,) = theirs.receive(wait=True) or ()
        assert message.frames is not None
        return error_from(message.frames, 7)

    yield send
    ours.close()
    theirs.close()


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def test_each_thing_that_is_said_has_a_number_of_its_own() -> None:
    numbers = [getattr(protocol, name) for name in protocol.__all__ if name.isupper()]
    assert len(set(numbers)) == len(numbers)
    assert all(0 < number < 256 for number in numbers)


def test_settings_cross() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    given = RunSettings({"": 20, "a.b": 10}, {variable: "value"}, lambda: 5)
    dumped = dumps(given)
    back = loads(b"".join(dumped.chunks), dumped.buffers)
    assert back.levels == given.levels
    assert back.variables == {variable: "value"}
    assert back.init() == 5


def test_an_error_arrives_as_texts_and_as_itself(cross: Cross) -> None:
    error = raised(ValueError("bad", 5), KeyError("cause"))
    error.add_note("note")
    record = cross(error)
    assert record.attempt == 7
    assert (record.exception, record.message) == ("ValueError", "('bad', 5)")
    assert "KeyError: 'cause'" in record.traceback
    assert "note" in record.traceback
    assert record.is_a(ValueError)
    assert not record.is_a(KeyError)
    assert repr(record.error) == "ValueError('bad', 5)"
    assert repr(record.error.__cause__) == "KeyError('cause')"  # type: ignore[union-attr]


class NeedsKeyword(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__("text")
        self.code = code


class Unreducible(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("not this one")


class ReducesToText(Exception):
    def __reduce__(self) -> Any:
        return str, ("text",)


class LoadsAsExit(Exception):
    def __reduce__(self) -> Any:
        return exit, (1,)


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it says nothing")

    def __reduce__(self) -> Any:
        raise RuntimeError("nor this")


@pytest.mark.parametrize(
    ("error", "name", "text"),
    [
        (ValueError(threading.Lock()), "ValueError", "lock"),
        (NeedsKeyword(code=5), "NeedsKeyword", "text"),
        (Unreducible("text"), "Unreducible", "text"),
        (ReducesToText("text"), "ReducesToText", "text"),
        (LoadsAsExit("text"), "LoadsAsExit", "text"),
        (Silent(), "Silent", ""),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else "",
)
def test_of_an_error_that_cannot_travel_the_texts_arrive(
    cross: Cross, error: BaseException, name: str, text: str
) -> None:
    record = cross(raised(error))
    assert record.exception == name
    assert text in record.message
    assert "in raised" in record.traceback
    assert record.is_a(type(error))
    assert record.error is None


def test_a_cause_that_cannot_travel_does_not_hide_the_text(cross: Cross) -> None:
    record = cross(raised(ValueError("outer"), Unreducible("inner")))
    assert (record.exception, record.message) == ("ValueError", "outer")
    assert "Unreducible: inner" in record.traceback
    assert record.error is None


def test_any_text_crosses(cross: Cross) -> None:
    record = cross(raised(ValueError("\udcff \0 ünï 🙂")))
    assert record.message == "\udcff \0 ünï 🙂"


@pytest.mark.parametrize("size", [100, 100_000, 1_000_000])
def test_an_error_may_hold_much(cross: Cross, size: int) -> None:
    numpy = pytest.importorskip("numpy")
    record = cross(raised(ValueError(numpy.arange(size), "x" * size)))
    assert record.error is not None
    array, text = record.error.args
    assert array.tolist() == list(range(size))
    assert text == "x" * size


def test_an_error_is_loaded_when_it_is_asked_for(cross: Cross) -> None:
    loaded: list[str] = []

    class Tells(Exception):
        def __setstate__(self, state: dict[str, Any] | None) -> None:
            loaded.append("once more")

    error = Tells()
    error.key = "value"  # type: ignore[attr-defined]
    record = cross(error)
    loaded.clear()  # it was tried where it was raised
    assert record.exception == "Tells"
    assert loaded == []
    assert type(record.error) is Tells
    assert loaded == ["once more"]
    assert record.error is record.error


@pytest.mark.parametrize("word", SIGNALS)
@pytest.mark.parametrize("reason", [None, "", "why\n", "\udc80ü"])
def test_signals_cross(over: Talk, word: str, reason: str | None) -> None:
    message = over(signal_parcel(signal_from(word, reason, 2.5)))
    assert message.frames is not None
    back: Signal = signal_of(message.frames)
    assert (type(back), back.reason, getattr(back, "after", None)) == (
        SIGNALS[word],
        reason,
        2.5 if SIGNALS[word] is Retry else None,
    )


def test_questions_cross_with_what_is_to_be_saved(over: Talk) -> None:
    question, data = Question("save", ["saved/ü"], ["a", "b"], lazily=True), b"x" * 200_000
    message = over(question_parcel(question, [[data[:10], data[10:]], [b""]]))
    assert message.frames is not None
    assert question_from(message.frames) == question
    assert [bytes(each) for each in message.frames[1:]] == [data, b""]
    message = over(question_parcel(Question("names")))
    assert message.frames is not None
    assert question_from(message.frames) == Question("names", [], [], lazily=False)
