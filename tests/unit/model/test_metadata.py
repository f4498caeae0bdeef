"""What a body notes about its attempt: plain data, and nothing changed silently."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dotflow_like.model.metadata import Metadata

Word = StrEnum("Word", {"ROWS": "rows"})
Size = IntEnum("Size", {"TWO": 2})

whole = st.integers(-(1 << 1000) + 1, (1 << 1000) - 1)
leaves = st.none() | st.booleans() | whole | st.floats(allow_nan=False, allow_infinity=False) | st.text()
nested = st.recursive(
    leaves,
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    """Return a value in a form that is equal only for the same values of the same types in the same order."""
    if isinstance(value, dict):
        return [(key, exact(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [exact(each) for each in value], "list"
    return type(value), repr(value)


@given(st.dictionaries(st.text(), nested, max_size=4))
def test_plain_data_is_kept_exactly_also_as_json(given: dict[str, Any]) -> None:
    metadata = Metadata()
    metadata.update(given)
    assert metadata == given
    assert exact(json.loads(json.dumps(metadata))) == exact(metadata.plain()) == exact(given)


def test_the_widest_numbers_and_odd_texts_are_plain() -> None:
    metadata = Metadata()
    for value in (1 - (1 << 1000), sys.float_info.max, 5e-324, -0.0, "\ud800", "\0", ""):
        metadata["x"] = value
        assert exact(json.loads(json.dumps(metadata))["x"]) == exact(value)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ((1, 2), "is of type tuple"),
        ({1}, "is of type set"),
        (b"x", "is of type bytes"),
        (1j, "is of type complex"),
        (math.nan, "is nan"),
        (-math.inf, "is -inf"),
        (1 << 1000, "is an int of more than 1000 bits"),
        (datetime(2024, 5, 6, tzinfo=UTC), "is of type datetime"),
        (Fraction(1, 2), "is of type Fraction"),
        (Word.ROWS, "is of type Word"),
        (Size.TWO, "is of type Size"),
        (np.int64(2), "is of type int64"),
        (np.float64(2), "is of type float64"),
        (OrderedDict(a=1), "is of type OrderedDict"),
        (Metadata(), "is of type Metadata"),
        ({1: 2}, "has a key of type int"),
        ({Word.ROWS: 2}, "has a key of type Word"),
        (object(), "is of type object"),
    ],
)
def test_anything_else_is_refused_where_it_is_assigned(value: Any, what: str) -> None:
    metadata = Metadata(rows=1)
    with pytest.raises(TypeError) as raised:
        metadata["rows"] = value
    assert str(raised.value).startswith(f"ctx.attempt.metadata['rows'] {what}; give None, a bool, an int, ")
    assert "`list(...)` makes one of a tuple" in str(raised.value)
    assert metadata == {"rows": 1}
    with pytest.raises(TypeError) as raised:
        metadata["rows"] = {"by": [0, {"day": value}]}
    place = "ctx.attempt.metadata['rows']['by'][1]['day']"
    assert str(raised.value).startswith(f"{place} {what}; ")


@pytest.mark.parametrize("key", [1, None, ("a",), Word.ROWS])
def test_a_key_is_a_text(key: Any) -> None:
    metadata = Metadata()
    with pytest.raises(TypeError, match=r"^ctx\.attempt\.metadata has a key of type .*; give"):
        metadata[key] = 1
    assert metadata == {}


def test_what_is_nested_too_deep_or_contains_itself_is_refused_in_few_words() -> None:
    metadata = Metadata()
    deep: list[Any] = []
    for _ in range(99):
        deep = [deep]
    metadata["deep"] = deep
    endless: list[Any] = []
    endless.append(endless)
    for value in ([deep], endless):
        with pytest.raises(TypeError, match="is nested more than 100 deep") as raised:
            metadata["deep"] = value
        assert len(str(raised.value)) < 600
    assert metadata == {"deep": deep}


def test_every_way_to_assign_is_checked_and_copies() -> None:
    for assign in (
        lambda metadata, value: metadata.update({"a": value}),
        lambda metadata, value: metadata.update([("a", value)]),
        lambda metadata, value: metadata.update(a=value),
        lambda metadata, value: metadata.setdefault("a", value),
        lambda metadata, value: metadata.__ior__({"a": value}),
        lambda metadata, value: metadata.__setitem__("a", value),
    ):
        metadata, rows = Metadata(), [1]
        assign(metadata, {"rows": rows})
        rows.append(2)
        assert metadata == {"a": {"rows": [1]}}
        assert type(metadata) is Metadata
        with pytest.raises(TypeError):
            assign(Metadata(), (1,))


def test_a_default_is_what_is_kept_so_that_it_can_grow() -> None:
    metadata = Metadata()
    metadata.setdefault("rows", []).append(1)
    metadata.setdefault("rows", []).append(2)
    assert metadata == {"rows": [1, 2]}
    assert metadata.setdefault("nothing") is None


def test_it_reads_like_any_dict() -> None:
    metadata = Metadata(a=1, b=[2])
    assert (metadata["a"], metadata.get("c"), list(metadata), "b" in metadata) == (1, None, ["a", "b"], True)
    assert metadata.pop("a") == 1
    del metadata["b"]
    assert not metadata
    assert repr(Metadata(a=1)) == "{'a': 1}"


def test_what_has_become_no_plain_data_since_is_dropped_and_told_once() -> None:
    metadata = Metadata()
    metadata.update(good=[1], bad=[1], worse={"x": [1]})
    metadata["bad"].append({2})
    metadata["worse"]["x"].append(())
    assert metadata.plain() == {"good": [1]}
    assert metadata.keys() == {"good", "bad", "worse"}
    problem = metadata.settle()
    assert problem is not None
    assert problem.startswith("ctx.attempt.metadata['bad'][1] is of type set; ")
    assert metadata == {"good": [1]}
    assert metadata.settle() is None


def test_once_settled_it_shares_nothing_with_the_body() -> None:
    metadata = Metadata()
    metadata["rows"] = [1]
    rows = metadata["rows"]
    kept = metadata.plain()
    metadata.settle()
    rows.append(2)
    assert metadata == kept == {"rows": [1]}
    assert type(kept) is dict


def test_it_can_be_copied_and_sent() -> None:
    metadata = Metadata(a=[1])
    for other in (copy.copy(metadata), copy.deepcopy(metadata), pickle.loads(pickle.dumps(metadata))):
        assert type(other) is Metadata
        assert other == metadata


def test_it_can_be_read_while_a_thread_writes() -> None:
    metadata, over = Metadata(), threading.Event()

    def write() -> None:
        i = 0
        while not over.is_set():
            metadata[f"k{i % 50}"] = i
            metadata.setdefault("rows", []).append(i)
            metadata.pop(f"k{(i + 25) % 50}", None)
            if i % 100 == 0:
                metadata["rows"] = []
            i += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2000):
            assert all(type(value) in (int, list) for value in metadata.plain().values())
    finally:
        over.set()
        writer.join()
