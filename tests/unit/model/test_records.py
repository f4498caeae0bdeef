"""An error as a record that can always be shown."""

from __future__ import annotations

import pickle

import pytest

from dotflow_like import TaskError
from dotflow_like.model.records import Held


class Odd(LookupError):
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


def caught(error: BaseException, cause: BaseException | None = None) -> TaskError:
    try:
        raise error from cause
    except BaseException as raised:
        return TaskError.of(raised, 2)


def test_it_says_what_happened() -> None:
    record = caught(ValueError("mine"), OSError("why"))
    assert (record.attempt, record.exception, record.message) == (2, "ValueError", "mine")
    assert isinstance(record.error, ValueError)
    assert "OSError: why" in record.traceback
    assert record.traceback.rstrip().endswith("ValueError: mine")
    assert repr(record) == "TaskError(attempt=2, exception='ValueError', message='mine')"


def test_notes_are_in_its_traceback() -> None:
    error = ValueError("mine")
    error.add_note("look at line 7")
    assert "look at line 7" in caught(error).traceback


def test_an_exception_without_a_text_is_shown_all_the_same() -> None:
    record = caught(Odd())
    assert record.message == "<no text: Odd.__str__ raised RuntimeError>"
    assert "Odd" in record.traceback


def test_it_is_known_by_its_types() -> None:
    record = caught(Odd())
    for shown in (record, pickle.loads(pickle.dumps(record))):
        assert shown.is_a(LookupError)
        assert shown.is_a((OSError, Odd))
        assert not shown.is_a(OSError)


def test_it_travels_without_the_exception() -> None:
    record = caught(Odd())
    back = pickle.loads(pickle.dumps(record))
    assert back == record
    assert hash(back) == hash(record)
    assert back.error is None
    assert (back.traceback, back.full_types()) == (record.traceback, record.full_types())


def test_what_is_sent_is_loaded_when_it_is_asked_for() -> None:
    record = TaskError(1, "ValueError", "mine", "text", ("builtins.ValueError",))
    loads = []

    def load() -> BaseException:
        loads.append(1)
        return ValueError("mine")

    record.load_with(load)
    assert loads == []
    assert isinstance(record.error, ValueError)
    assert record.error is record.error
    assert loads == [1]


def test_what_cannot_be_loaded_leaves_the_record() -> None:
    record = TaskError(1, "ValueError", "mine", "text", ("builtins.ValueError",))

    def load() -> BaseException:
        raise ImportError("gone")

    record.load_with(load)
    assert record.error is None
    assert (record.message, record.is_a(ValueError)) == ("mine", True)


@pytest.mark.parametrize("value", [None, 0, [1]])
def test_a_held_value_is_the_value(value: object) -> None:
    assert Held(value).load() is value
