"""Values, functions and errors as bytes for another process, and back."""

from __future__ import annotations

import gzip
import io
import pickle
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dotflow_like.execute.workers.pickling import (
    LARGE,
    Dumped,
    Pickled,
    dump_error,
    dumps,
    keep_shared,
    load_error,
    loads,
)


def joined(dumped: Dumped) -> tuple[bytes, list[Any]]:
    return b"".join(dumped.chunks), dumped.buffers


def there_and_back(value: object) -> Any:
    return loads(*joined(dumps(value)))


def result_of(value: object) -> Pickled:
    data, buffers = joined(dumps(value))
    return Pickled([data, *buffers])


# Data


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, True),
        (0, True),
        (10**500, True),
        (float("inf"), True),
        ("", True),
        ("\udcff", True),
        (b"", True),
        (bytearray(b"a"), True),
        ([1, [2]], True),
        ({"a": (1,), 2: {3}, (4,): frozenset({5})}, True),
        (1j, True),
        (range(3), True),
        ([date(2020, 1, 2), datetime(2020, 1, 2, tzinfo=UTC), timedelta(1)], True),
        (Path("a"), False),
        (ValueError, False),
        (len, False),
        (NotImplemented, False),
        ([1, 2, {"deep": [Path("a")]}], False),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_data_comes_back_and_what_is_plain_is_known(value: Any, plain: bool) -> None:
    dumped = dumps(value)
    assert dumped.plain == plain
    back = loads(*joined(dumped))
    assert back == value
    assert type(back) is type(value)


def test_plain_data_loads_without_anybodys_code() -> None:
    class NoCode(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            raise AssertionError(f"it asks for {module}.{name}")

    value = [None, True, 1, 2.5, "text", b"bytes", (1,), {2}, frozenset({3}), {"key": bytearray(b"x")}]
    dumped = dumps([*value, pickle.PickleBuffer(bytes(LARGE))])
    assert dumped.plain
    data, buffers = joined(dumped)
    assert NoCode(io.BytesIO(data), buffers=buffers).load() == [*value, bytes(LARGE)]


def test_lambdas_and_closures_come_back() -> None:
    n = 5
    dumped = dumps(lambda x: x + n)
    assert not dumped.plain
    assert loads(*joined(dumped))(1) == 6


@pytest.mark.parametrize("beside", [None, lambda: None], ids=["plain", "with a function"])
def test_long_bytes_are_not_copied(beside: Any) -> None:
    data = bytes(1_000_000)
    dumped = dumps({"data": [data, beside]})
    assert any(chunk is data for chunk in dumped.chunks)
    assert loads(*joined(dumped))["data"][0] == data


@pytest.mark.parametrize("beside", [None, lambda: None], ids=["plain", "with a function"])
@pytest.mark.parametrize("make", [bytes, bytearray])
def test_large_buffers_travel_beside_the_pickle(make: Callable[[int], Any], beside: Any) -> None:
    data = make(LARGE)
    dumped = dumps([pickle.PickleBuffer(data), beside])
    (buffer,) = dumped.buffers
    assert isinstance(buffer, memoryview)
    assert buffer.obj is data
    assert len(b"".join(dumped.chunks)) < 1000
    assert dumped.frames == [dumped.chunks, [buffer]]
    assert bytes(loads(*joined(dumped))[0]) == bytes(data)


def test_small_buffers_travel_in_it() -> None:
    dumped = dumps(pickle.PickleBuffer(bytes(LARGE - 1)))
    assert dumped.buffers == []
    assert dumped.frames == [dumped.chunks]
    assert loads(*joined(dumped)) == bytes(LARGE - 1)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(5),
        np.arange(100_000),
        np.arange(100_000)[::-3],
        np.arange(100_000).reshape(200, 500).T,
        np.float64(1.5),
        np.array(5),
        np.array([]),
        np.array([1, "a", None, [2]], dtype=object),
        np.zeros(30_000, dtype=[("a", "i4"), ("b", "f8")]),
        np.ma.masked_array([1, 2], mask=[True, False]),
    ],
    ids=lambda array: f"{array.dtype.kind}{array.shape}",
)
def test_arrays_come_back(array: Any) -> None:
    back = there_and_back([array, {"again": array}])
    assert type(back[0]) is type(array)
    assert back[0].dtype == array.dtype
    assert back[0].shape == array.shape
    assert back[0].tolist() == array.tolist()
    assert back[1]["again"] is back[0]


def test_large_arrays_are_not_copied() -> None:
    array = np.arange(100_000)
    (buffer,) = dumps(array).buffers
    assert np.shares_memory(np.frombuffer(buffer, array.dtype), array)


def test_a_received_array_can_be_changed_unless_it_could_not_before() -> None:
    array = np.arange(100_000)
    data, buffers = joined(dumps(array))
    back = loads(data, [bytearray(each) for each in buffers])
    back[0] = 5
    assert array[0] == 0
    array.flags.writeable = False
    assert not there_and_back(array).flags.writeable


# What is odd


class RaisingEquality:
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    def __len__(self) -> int:
        raise RuntimeError("nor long")


def test_objects_that_cannot_be_compared_do_no_harm() -> None:
    odd = RaisingEquality()
    back = there_and_back({"odd": odd, "list": [odd, np.arange(3), lambda: None]})
    assert type(back["odd"]) is RaisingEquality
    assert back["list"][0] is back["odd"]


def test_they_do_none_either_beside_a_shared_object() -> None:
    data, buffers = joined(dumps([np.arange(3), RaisingEquality()], np.arange(3)))
    assert loads(data, buffers)[0].tolist() == [0, 1, 2]


def test_what_cannot_be_pickled_raises_and_the_next_can_be() -> None:
    class Unhashable(type):
        def __eq__(cls, other: object) -> bool:
            return cls is other

    class Odd(metaclass=Unhashable):
        pass

    class Raises:
        def __reduce__(self) -> Any:
            raise ZeroDivisionError("while it is pickled")

    with pytest.raises(TypeError, match="lock"):
        dumps(threading.Lock())
    with pytest.raises(TypeError, match="unhashable"):
        dumps(Odd)
    with pytest.raises(ZeroDivisionError):
        dumps([lambda: None, Raises()])
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        dumps(deep)
    while deep:  # not all at once, which would be a recursion as well
        deep = deep.pop()
    assert there_and_back([1]) == [1]


@pytest.mark.parametrize("mode", ["r", "rb", "w", "wb", "r+b"])
def test_an_open_file_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "file"
    path.touch()
    with path.open(mode) as file, pytest.raises(TypeError, match=r"open file.*pass its path"):
        dumps([file])


@pytest.mark.parametrize(
    "opened",
    [
        lambda path: gzip.GzipFile(path, "wb"),
        lambda path: tempfile.NamedTemporaryFile(dir=path.parent),  # noqa: SIM115  # the test closes it
        lambda path: tempfile.TemporaryFile("w", dir=path.parent),  # noqa: SIM115  # the test closes it
        lambda path: io.FileIO(path, "w"),
    ],
    ids=["gzip", "named", "temporary", "raw"],
)
def test_so_are_others_also_inside_of_a_closure(tmp_path: Path, opened: Callable[[Path], Any]) -> None:
    with opened(tmp_path / "file") as file, pytest.raises(TypeError, match=r"open file.*pass its path"):
        dumps(lambda: file)


def test_files_in_memory_cross() -> None:
    assert there_and_back(io.BytesIO(b"x")).read() == b"x"
    assert there_and_back(io.StringIO("x")).read() == "x"


def test_a_shared_object_travels_as_its_mention() -> None:
    shared = io.BytesIO(bytes(100_000))
    data, buffers = joined(dumps({"it": shared, "plain": 1}, shared))
    assert len(data) < 1000
    other = object()
    keep_shared(other)
    try:
        assert loads(data, buffers)["it"] is other
    finally:
        keep_shared(None)


# Errors


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
        back = load_error(*joined(dump_error(error)))
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
    back = load_error(*joined(dump_error(error)))
    assert repr(back.__context__) == "KeyError('first')"
    assert back.__suppress_context__ is True


def test_causes_that_go_round_come_to_an_end() -> None:
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    back = load_error(*joined(dump_error(one)))
    assert str(back) == "one"
    assert str(back.__cause__) == "two"
    assert back.__cause__ is not None
    assert back.__cause__.__cause__ is None


def test_a_long_chain_of_causes_comes_back() -> None:
    error = first = ValueError(0)
    for number in range(1, 2000):
        error.__cause__ = error = ValueError(number)
    back: BaseException | None = load_error(*joined(dump_error(first)))
    for number in range(2000):
        assert back is not None
        assert back.args == (number,)
        back = back.__cause__


def test_groups_and_errors_of_local_classes_come_back() -> None:
    class OwnError(Exception):
        pass

    back = load_error(*joined(dump_error(ExceptionGroup("both", [OwnError("one"), KeyError("two")]))))
    assert isinstance(back, ExceptionGroup)
    assert [type(each) for each in back.exceptions] == [OwnError, KeyError]


def test_an_error_with_a_cause_that_cannot_be_pickled_raises() -> None:
    error = ValueError("outer")
    error.__cause__ = ValueError(threading.Lock())
    with pytest.raises(TypeError, match="lock"):
        dump_error(error)


def test_an_error_that_comes_back_as_something_else_raises() -> None:
    class Odd(Exception):
        def __reduce__(self) -> Any:
            return str, ("text",)

    with pytest.raises(TypeError, match="came back as str"):
        load_error(*joined(dump_error(Odd())))


# Results


def test_a_result_is_loaded_once() -> None:
    result = result_of([1])
    assert result.load() == [1]
    assert result.load() is result.load()


def test_a_result_that_is_asked_for_in_several_threads_is_one() -> None:
    class Slow:
        def __setstate__(self, state: Any) -> None:
            with suppress(threading.BrokenBarrierError):
                meeting.wait(1)  # else the second thread would come when the first is done

    slow = Slow()
    slow.key = 1  # type: ignore[attr-defined]
    meeting = threading.Barrier(2)
    keep_shared(meeting)
    try:
        data, _ = joined(dumps(slow, meeting))
        result = Pickled([data])
        seen: list[Any] = []
        threads = [threading.Thread(target=lambda: seen.append(result.load())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        keep_shared(None)
    assert len(seen) == 2
    assert seen[0] is seen[1] is result.load()


@pytest.mark.parametrize("value", [[1], [bytes(200_000)]], ids=["small", "large"])
def test_a_result_can_be_handed_on_loaded_or_not(value: list[Any]) -> None:
    result = result_of(value)
    assert dumps({"results": result}).plain
    assert there_and_back(result).load() == value
    assert result.load() == value
    assert there_and_back(result).load() == value


def test_a_large_result_is_handed_on_as_it_came() -> None:
    array = np.arange(100_000)
    result = result_of(array)
    (buffer,) = dumps(result).buffers
    assert np.shares_memory(np.frombuffer(buffer, array.dtype), array)


def test_a_change_of_a_loaded_result_is_handed_on() -> None:
    result = result_of([1])
    result.load().append(2)
    assert there_and_back(result).load() == [1, 2]
