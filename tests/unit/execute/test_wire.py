"""What crosses from process to process."""

from __future__ import annotations

import io
import pickle
import threading
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from dotflow_like.execute.executors.wire import (
    Pickled,
    dump_error,
    dumps,
    load_error,
    loads,
    receive,
    send,
)


@pytest.mark.parametrize("value", [None, 0, "", b"", [1, [2]], {"a": (1,)}, {1, 2}, range(3)])
def test_data_comes_back(value: Any) -> None:
    assert loads(dumps(value)) == value


def test_lambdas_and_closures_come_back() -> None:
    n = 5
    assert loads(dumps(lambda x: x + n))(1) == 6


def test_large_buffers_travel_beside_the_pickle() -> None:
    data = bytearray(1_000_000)
    frames = dumps(pickle.PickleBuffer(data))
    assert len(frames) == 2
    assert len(frames[0]) < 1000
    assert bytes(loads([frames[0], bytes(frames[1])])) == bytes(data)


def test_a_shared_object_travels_as_its_mention() -> None:
    shared = [bytes(100_000)]
    frames = dumps({"it": shared}, shared)
    assert len(frames[0]) < 1000
    other = ["the other side's"]
    assert loads(frames, other)["it"] is other


@pytest.mark.parametrize("mode", ["r", "rb", "w", "wb"])
def test_an_open_file_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open(mode) as file, pytest.raises(TypeError, match=r"open file.*pass its path"):
        dumps([file])


def test_files_in_memory_cross() -> None:
    assert loads(dumps(io.BytesIO(b"x"))).read() == b"x"
    assert loads(dumps(io.StringIO("x"))).read() == "x"


def test_what_cannot_be_pickled_raises() -> None:
    with pytest.raises(TypeError, match="lock"):
        dumps(threading.Lock())


def test_frames_go_through_a_connection() -> None:
    ours, theirs = Pipe()
    send(ours, [b"a", b"", b"c" * 10])
    assert receive(theirs) == [b"a", b"", b"c" * 10]
    ours.close()
    with pytest.raises((EOFError, OSError)):
        receive(theirs)
    theirs.close()


def test_an_error_comes_back_with_causes_contexts_and_notes() -> None:
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("second") from error
        except ValueError:
            made = TypeError("third")
            made.add_note("note")
            raise made  # noqa: B904  # the context is the point
    except TypeError as error:
        back = load_error(dump_error(error))
    assert repr(back) == "TypeError('third')"
    assert back.__notes__ == ["note"]
    assert back.__cause__ is None
    assert repr(back.__context__) == "ValueError('second')"
    assert back.__context__ is not None
    assert repr(back.__context__.__cause__) == "KeyError('first')"
    assert back.__context__.__suppress_context__ is True


def test_from_none_stays_from_none() -> None:
    error = ValueError("second")
    error.__context__, error.__suppress_context__ = KeyError("first"), True
    back = load_error(dump_error(error))
    assert repr(back.__context__) == "KeyError('first')"
    assert back.__suppress_context__ is True


def test_causes_that_go_round_come_to_an_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert str(load_error(dump_error(one))) == "one"


def test_a_result_is_loaded_once() -> None:
    result = Pickled(dumps([1]))
    assert result.load() is result.load()


def test_a_result_can_be_handed_on_loaded_or_not() -> None:
    result = Pickled(dumps([1]))
    assert loads(dumps(result)).load() == [1]
    assert result.load() == [1]
    assert loads(dumps(result)).load() == [1]
