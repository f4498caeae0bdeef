"""Whatever is stored comes back equal and of the same types; whatever is damaged is an error and no crash."""

from __future__ import annotations

import datetime as dt
import enum
import json
import math
import struct
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dotflow_like.errors import CodecError
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.types import TypeRegistry


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Leaf:
    a: Any
    b: Any = None


TYPES = TypeRegistry()
for _cls in (Colour, Point, Leaf):
    TYPES.add(_cls)
CODEC = JsonCodec(TYPES)

ZONES = st.sampled_from([None, dt.UTC, ZoneInfo("Europe/Berlin"), dt.timezone(dt.timedelta(minutes=-90))])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(990, 1100).map(lambda bits: -(2**bits)),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(), max_size=8),
    st.text("\ud83d\ude00a", max_size=5),
    st.binary(max_size=20),
    st.integers(1000, 1100).map(bytes),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.times(timezones=ZONES),
    st.datetimes(timezones=ZONES),
    st.timedeltas(),
    st.sampled_from([*Colour, PurePosixPath("a/b"), range(3)]),
)
HASHABLE = st.recursive(
    SCALARS.filter(lambda value: not (type(value) is Decimal and value.is_snan())),  # which has no hash
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Point, inner, inner),
        st.builds(Leaf, inner, inner),
    ),
    max_leaves=4,
)
NAMES = st.one_of(st.text(max_size=4), st.sampled_from(["$", "v", "k", "t"]))
VALUES = st.recursive(
    st.one_of(SCALARS, SCALARS.map(lambda value: [value] * 20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=20).map(tuple),
        st.dictionaries(NAMES, inner, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=3).map(OrderedDict),
        st.sets(HASHABLE, max_size=3),
        st.builds(deque, st.lists(inner, max_size=3), st.sampled_from([None, 2, 5])),
        st.dictionaries(HASHABLE, st.integers(), max_size=3).map(Counter),
        st.builds(Leaf, inner, inner),
        st.builds(Point, inner, inner),
    ),
    max_leaves=12,
)


def canonical(value: Any) -> Any:
    """Return a form that is equal exactly for values that are the same down to types and bits."""
    kind = type(value)
    if kind is float:
        return kind, struct.pack(">d", value)
    if kind is complex:
        return kind, canonical(value.real), canonical(value.imag)
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind in {dt.datetime, dt.time}:
        return kind, value.replace(tzinfo=None, fold=0), value.fold, repr(value.tzinfo)
    if kind in {list, tuple, Point}:
        return kind, [canonical(item) for item in value]
    if kind is deque:
        return kind, value.maxlen, [canonical(item) for item in value]
    if kind in {set, frozenset}:
        return kind, sorted(repr(canonical(item)) for item in value)
    if kind in {dict, OrderedDict, Counter}:
        return kind, [(canonical(k), canonical(v)) for k, v in value.items()]
    if kind is Leaf:
        return kind, canonical(value.a), canonical(value.b)
    assert kind in {type(None), bool, int, str, bytes, Fraction, Colour, range} or kind.__module__ in {
        *("uuid", "datetime", "pathlib"),
    }, kind
    return kind, value


@settings(max_examples=250)
@given(VALUES)
@example([True, 1, 1.0, {True: 1, 2: False}, {1: True}])
@example({"$": {"$": {"$": "int"}}})
@example([math.nan, -0.0, 0.0])
def test_every_value_comes_back_the_same(value: Any) -> None:
    data = CODEC.encode(value)
    assert canonical(CODEC.decode(data)) == canonical(value)
    data.partition(b"\n")[0].decode("ascii")


@given(st.lists(st.one_of(st.integers(), st.floats(), st.none(), st.booleans()), min_size=17, max_size=40))
def test_long_flat_lists_take_another_path_to_the_same_result(value: list[Any]) -> None:
    assert canonical(CODEC.decode(CODEC.encode(value))) == canonical(value)


@given(st.lists(st.text(), min_size=17, max_size=40))
def test_long_lists_of_texts(value: list[str]) -> None:
    assert CODEC.decode(CODEC.encode(value)) == value
    named = dict.fromkeys(value, 1)
    assert list(CODEC.decode(CODEC.encode(named))) == list(named)


SAMPLES = [
    CODEC.encode(value)
    for value in (
        {"a": [1, (2, 3.5), {4: b"abc"}], "$": None},
        [Leaf(1, Point(Colour.RED, 2)), {frozenset({1, 2}), 3}, deque([1], 3), OrderedDict(a=1)],
        [
            Decimal("1.5"),
            Fraction(1, 3),
            dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
            2**2000,
            math.nan,
        ],
        [b"x" * 1100, bytearray(1100), np.arange(200.0), np.array([(1, "a")], dtype="i4,U2"), np.float32(1)],
        pd.DataFrame(
            {
                "a": [1, 2],
                "b": ["x", None],
                "c": pd.Categorical(["u", "v"]),
                "d": pd.array([1, None], dtype="Int64"),
            },
            index=pd.date_range("2024", periods=2, tz="UTC"),
        ),
        pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]}),
    )
]


@settings(max_examples=300)
@given(st.data())
def test_damaged_bytes_raise_a_codec_error_or_give_something(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SAMPLES)))
    for _ in range(data.draw(st.integers(1, 3))):
        # Most of what matters is in the text at the front.
        position = data.draw(st.integers(0, min(len(damaged), 600) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    decode_or_refuse(bytes(damaged))


@settings(max_examples=100)
@given(st.sampled_from(SAMPLES), st.data())
def test_a_cut_or_lengthened_value_is_refused(sample: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(sample) - 1))
    for damaged in (sample[:position], sample + b"0"):
        try:
            CODEC.decode(damaged)
        except CodecError:
            continue
        raise AssertionError("a value of another length was read")


FORMS = st.sampled_from(
    [
        *(
            "str",
            "int",
            "float",
            "complex",
            "bytes",
            "tuple",
            "set",
            "dict",
            "Counter",
            "defaultdict",
            "deque",
            "range",
        ),
        *(
            "datetime",
            "time",
            "date",
            "timedelta",
            "timezone",
            "ZoneInfo",
            "Decimal",
            "Fraction",
            "UUID",
            "Path",
        ),
        *("dataclass", "enum", "flag", "namedtuple", "ndarray", "numpy", "numpy.raw", "numpy.str_"),
        *(
            "pandas.DataFrame",
            "pandas.Series",
            "pandas.Index",
            "pandas.Timestamp",
            "polars.DataFrame",
            "polars.Series",
        ),
    ]
)
WORDS = st.sampled_from(
    ["Context", f"{__name__}:Leaf", f"{__name__}:Colour", "<i8", "O", "F", "RangeIndex", "int", "os"]
)
PARTS = st.recursive(
    st.one_of(st.none(), st.integers(-3, 10**12), st.floats(), st.text(max_size=4), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.fixed_dictionaries(
            {"$": FORMS, "v": inner},
            optional=dict.fromkeys(
                [
                    "k",
                    "t",
                    "tz",
                    "max",
                    "factory",
                    "dtype",
                    "shape",
                    "order",
                    "index",
                    "columns",
                    "kind",
                    "names",
                    "crc",
                ],
                inner,
            ),
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(PARTS)
def test_made_up_forms_raise_a_codec_error_or_give_something(parts: Any) -> None:
    decode_or_refuse(json.dumps(parts).encode())


def decode_or_refuse(data: bytes) -> None:
    with suppress(CodecError):
        CODEC.decode(data)
