"""What the tagged JSON codec keeps, what it refuses, and what it stores."""

from __future__ import annotations

import enum
import json
import math
import pickle
import struct
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import cloudpickle
import numpy as np
import pandas as pd
import polars as pl
import pydantic
import pytest

from dotflow_like.errors import CodecError, CorruptCheckpoint, MissingExtra, NotSerializable
from dotflow_like.model.context import Context
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.types import TypeRegistry, default_name

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796  # an alias
    BLUE = (2, 3)


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Mode(enum.Flag):
    R = 1
    W = 2


class Loose(enum.IntFlag, boundary=enum.KEEP):
    A = 1


class Point(NamedTuple):
    x: Any
    y: Any = 0


class Methods(Point):
    pass


@dataclass
class Plain:
    a: Any
    b: Any = None


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any
    shared: ClassVar[int] = 3


@dataclass
class Derived(Plain):
    c: Any = field(init=False, default=7)

    def __post_init__(self) -> None:
        assert self.a != "no init", "restored by a call of __init__"

    @cached_property
    def doubled(self) -> Any:
        return self.a * 2


@dataclass
class Unset:
    a: int
    later: int = field(init=False)


@dataclass
class Made:
    b: list[int] = field(init=False, default_factory=list)


@dataclass
class Box(Generic[T]):
    item: T


@dataclass
class Pair(dict):  # type: ignore[type-arg]
    a: int = 1


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int
    b: list[Plain] = []
    _hidden: int = pydantic.PrivateAttr(default=5)

    @pydantic.field_validator("a")
    @classmethod
    def no_seven(cls, value: int) -> int:
        assert value != 7
        return value


class Small(pydantic.BaseModel):
    n: Any = None


TYPES = TypeRegistry()
for _cls in (
    Colour,
    Level,
    Word,
    Mode,
    Loose,
    Point,
    Methods,
    Plain,
    Frozen,
    Derived,
    Unset,
    Made,
    Box,
    Pair,
    Model,
    Small,
):
    TYPES.add(_cls)
CODEC = JsonCodec(TYPES)


def same(a: Any, b: Any) -> Any:
    """Equal and of the same types, all the way down; NaN equals the NaN of the same bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float) and not isinstance(a, np.generic):
        return struct.pack(">d", a) == struct.pack(">d", b)
    if isinstance(a, complex) and not isinstance(a, np.generic):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, (list, tuple, deque)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a.items(), b.items(), strict=True))
    if isinstance(a, (set, frozenset)):
        return sorted(map(repr, a)) == sorted(map(repr, b))
    if isinstance(a, Decimal):
        return a.as_tuple() == b.as_tuple()
    if isinstance(a, (datetime, time)):
        return (
            a.replace(tzinfo=None) == b.replace(tzinfo=None) and a.fold == b.fold and same(a.tzinfo, b.tzinfo)
        )
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, n, ...), getattr(b, n, ...)) for n in a.__dataclass_fields__)
    return a == b


def roundtrip(value: Any) -> Any:
    return CODEC.decode(CODEC.encode(value))


NAN_WITH_BITS = struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0]
BERLIN = ZoneInfo("Europe/Berlin")

VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**63,
        -(2**64),
        10**300,
        2**1000,
        -(2**1000),
        1 << 100_000,
        -(1 << 100_000),
    ),
    *(
        0.0,
        -0.0,
        1.5,
        0.1 + 0.2,
        5e-324,
        1.7976931348623157e308,
        math.inf,
        -math.inf,
        math.nan,
        NAN_WITH_BITS,
    ),
    *(1j, complex(-0.0, math.nan), complex(math.inf, -0.0)),
    *("", "a", "ä€😀", '\x00\n\x7f"\\/', "\ud800", "\ud800\udc00", "a\udfff", "$", "\u2028"),
    *(b"", b"\x00\xff", b"x" * 5000, bytearray(b"abc"), bytearray(5000)),
    *(
        [],
        [1, "a", None],
        [[[]]],
        [1.5, math.nan],
        ["\ud800", "\udc00"],
        [True, 1, 1.0],
        [2**5000, 1.5, None],
    ),
    *(
        (),
        (1,),
        (1, (2, [3])),
        set(),
        {1, 2.5, "a", (1, 2)},
        frozenset({True}),
        {frozenset({1})},
        {1.0},
        {True},
    ),
    *({}, {"a": 1}, {"b": 1, "a": 2}, {"$": 1}, {"$": "int", "v": "ff"}, {"a": {"$": None}}, {"": {}}),
    *({1: 2}, {True: 1}, {1.0: 1}, {None: 1}, {(1, 2): [3]}, {"a": 1, 2: "b"}, {b"k": "v"}, {"\ud800": 1}),
    *({frozenset({1}): {}}, {math.inf: 1}, {Colour.RED: Level.LOW}, {Frozen(1): 2}),
    *(OrderedDict([("b", 1), ("a", 2)]), Counter("aab"), Counter({"a": -1, 2: 0}), OrderedDict(), Counter()),
    *(deque([1, 2]), deque([1, 2], maxlen=2), deque(maxlen=0), deque([(1,)], maxlen=5)),
    *(defaultdict(list, a=[1]), defaultdict(None, a=1), defaultdict(int, {1: 2})),
    *(range(3), range(5, 1, -2), range(0), range(5, 5), range(2**70, 2**71)),
    *(datetime(2024, 1, 2), datetime(2024, 1, 2, 3, 4, 5, 6), datetime.min, datetime.max),
    *(datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)),
    *(datetime(2024, 1, 2, fold=1), datetime(2024, 1, 2, tzinfo=UTC, fold=1)),
    *(datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=2))), datetime(2024, 1, 2, tzinfo=BERLIN)),
    datetime(2024, 1, 2, tzinfo=timezone(timedelta(seconds=-3723, microseconds=5), "odd")),
    *(
        datetime(2024, 1, 2, tzinfo=timezone(timedelta(0), "Z")),
        timezone(timedelta(hours=1), "x"),
        UTC,
        BERLIN,
    ),
    *(
        date(2024, 2, 29),
        date.min,
        time(1, 2, 3, 4),
        time(1, tzinfo=UTC),
        time(2, fold=1),
        time(2, tzinfo=BERLIN),
    ),
    *(timedelta(0), timedelta(-1, 2, 3), timedelta.max, timedelta.min),
    *(
        Decimal("1.10"),
        Decimal("-0E+3"),
        Decimal("NaN"),
        Decimal("sNaN123"),
        Decimal("-Infinity"),
        Decimal(10) ** 40,
    ),
    *(Fraction(1, 3), Fraction(-(2**2000), 3), UUID(int=5), UUID("12345678-1234-5678-1234-567812345678")),
    *(
        Path("a/b"),
        Path(),
        Path("/x/\udcff"),
        PurePosixPath("//a"),
        PureWindowsPath("c:\\x"),
        PureWindowsPath("c:"),
    ),
    *(
        Colour.RED,
        Colour.CRIMSON,
        Colour.BLUE,
        Level.LOW,
        Word.YES,
        Mode.R,
        Mode.R | Mode.W,
        Mode(0),
        Loose(9),
    ),
    *(
        Point(1),
        Point([1], {2: 3}),
        Methods(1, 2),
        Plain(1),
        Plain([Plain(2)], {"$": Plain(3)}),
        Frozen((1, 2)),
    ),
    *(Derived([1]), Box(3), Box[int](3), {"x": [Plain(1)] * 3}),
    Context(storage=(1, 2), time=datetime(2024, 1, 1, tzinfo=UTC), task_id="t", workflow_id="w"),
    *([b"a" * 2000, {"x": b"b" * 3000}, bytearray(1024)], [True, 1, {True: 1}, {1: True}], list(range(100))),
    *({i: str(i) for i in range(100)}, {str(i): i for i in range(100)}, [1.5] * 50 + [math.nan], ["ä"] * 50),
    *({"$": 1, **{str(i): i for i in range(50)}}, [None, 2**2000, "x", True] * 20, ["\ud800"] * 50),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_roundtrip_is_exact(value: Any) -> None:
    if isinstance(value, int) and value.bit_length() > 10_000:
        assert roundtrip(value) == value
        return
    data = CODEC.encode(value)
    back = CODEC.decode(data)
    assert same(back, value), back
    text = data.partition(b"\n")[0].decode("ascii")
    json.loads(text, parse_constant=lambda word: pytest.fail(word))
    # Inside of something else it is as exact as alone.
    assert same(roundtrip([value, {"k": (value,)}]), [value, {"k": (value,)}])


def test_huge_integers_do_not_depend_on_the_limit_of_digits() -> None:
    limit = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(640)
        for number in (2**999, 2**1000 - 1, 2**1024, 10**5000, -(10**5000)):
            assert roundtrip(number) == number
            assert roundtrip([number] * 20) == [number] * 20
    finally:
        sys.set_int_max_str_digits(limit)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ([1, "a", None, True, 1.5], b'[1,"a",null,true,1.5]'),
        ({"a": {"b": []}}, b'{"a":{"b":[]}}'),
        ((1, 2), b'{"$":"tuple","v":[1,2]}'),
        ({1: 2}, b'{"$":"dict","k":[1],"v":[2]}'),
        (b"abc", b'{"$":"bytes","v":"YWJj"}'),
        (b"a\n" * 600, b'{"$":"bytes","v":[0,1200]}\n' + b"a\n" * 600),
        (math.nan, b'{"$":"float","v":"nan"}'),
        (datetime(2024, 1, 2, tzinfo=UTC), b'{"$":"datetime","v":"2024-01-02T00:00:00+00:00"}'),
        (Decimal("1.10"), b'{"$":"Decimal","v":"1.10"}'),
    ],
)
def test_the_stored_form_is_readable_and_stays(value: Any, stored: bytes) -> None:
    assert CODEC.encode(value) == stored
    assert same(CODEC.decode(stored), value)


def test_every_nan_stays_a_member_of_its_own() -> None:
    assert len(roundtrip({float("nan"), float("nan")})) == 2


def test_own_objects_are_restored_without_running_their_code() -> None:
    value = Derived("x")
    value.a = "no init"
    assert roundtrip(value).a == "no init"
    model = Model(a=1)
    model.a = 7  # what the validator would refuse
    assert roundtrip(model).a == 7


def test_a_cached_property_is_computed_again() -> None:
    value = Derived(3)
    assert value.doubled == 6
    back = roundtrip(value)
    assert "doubled" not in vars(back)
    assert back.doubled == 6


def test_a_field_never_set_stays_unset() -> None:
    back = roundtrip(Unset(1))
    assert back.a == 1
    assert not hasattr(back, "later")


def test_a_field_may_hold_what_compares_in_its_own_way() -> None:
    for item in (np.arange(3), pd.DataFrame({"a": [1, 2]}), pl.Series([1, 2])):
        back = roundtrip([Plain(item, {"x": Point(item)}), Small(n=item), Context(item)])
        assert all(
            type(held) is type(item) for held in (back[0].a, back[0].b["x"].x, back[1].n, back[2].storage)
        )
        assert (
            (back[0].a == item).all().all() if isinstance(item, pd.DataFrame) else (back[0].a == item).all()
        )


def test_a_model_keeps_all_it_is_made_of() -> None:
    model = Model.model_validate({"a": 1, "b": [Plain((1, 2))], "more": {"$": {1}}})
    model._hidden = 9
    back = roundtrip([model])[0]
    assert back == model
    assert type(back) is Model
    assert back.b[0].a == (1, 2)
    assert back.model_fields_set == model.model_fields_set
    assert back.model_extra == {"more": {"$": {1}}}
    assert back._hidden == 9
    assert roundtrip(Small()).model_fields_set == set()
    assert roundtrip(Small(n=b"x" * 2000)) == Small(n=b"x" * 2000)


# --- what is refused, and how ---


class MyList(list):  # type: ignore[type-arg]
    pass


class MyDict(dict):  # type: ignore[type-arg]
    pass


class MyInt(int):
    pass


class MyStr(str):
    __slots__ = ()


class MyDatetime(datetime):
    pass


class Thing:
    pass


@dataclass
class Unknown:
    a: int


class Zone(tzinfo):
    def utcoffset(self, moment: Any) -> None: ...
    def dst(self, moment: Any) -> None: ...
    def tzname(self, moment: Any) -> None: ...


def with_attribute(value: Any) -> Any:
    value.extra = 1
    return value


def without(value: Any, name: str) -> Any:
    delattr(value, name)
    return value


def cycle() -> Any:
    a: list[Any] = [1]
    a.append({"a": (a,)})
    return a


def nested(depth: int) -> Any:
    value: Any = [None]
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (Thing(), "result", "Thing has no stored form"),
        (lambda: 1, "result", "function has no stored form"),
        ((n for n in [1]), "result", "generator has no stored form"),
        ({"items": [0, 1, 2, {"x": Thing()}]}, "result['items'][3]['x']", "Thing has no stored form"),
        (Plain(1, [Point(Thing())]), "result.b[0].x", "Thing"),
        ({"a": {1: Thing()}}, "result['a'][1]", "Thing"),
        ({(1, 2): 3, Point(1): Thing()}, "result[<Point>]", "Thing"),
        ({"a": {1, MyInt(2)}}, "list(result['a'])", "MyInt, not a plain int"),
        ({MyStr("k"): 1}, "list(result)[0]", "MyStr, not a plain str"),
        ([MyList()], "result[0]", "MyList, not a plain list"),
        (MyDict(), "result", "MyDict, not a plain dict"),
        ([True, MyInt(3)], "result[1]", "MyInt, not a plain int"),
        ([ValueError("x")], "result[0]", "a ValueError has no stored form"),
        ([int], "result[0]", "a type has no stored form"),
        (MyDatetime(2024, 1, 1), "result", "MyDatetime has no stored form"),
        (datetime(2024, 1, 1, tzinfo=Zone()), "result.tzinfo", "Zone has no stored form"),
        (defaultdict(lambda: 1), "result", "default_factory is no builtin"),
        (with_attribute(Counter()), "result", "'extra'"),
        (with_attribute(Plain(1)), "result", "'extra', an attribute that is none of its fields"),
        (with_attribute(Methods(1)), "result", "'extra'"),
        (Pair(), "result", "built on a builtin type"),
        (Unknown(1), "result", "Unknown is not known"),
        (Small(n=Thing()), "result.n", "Thing"),
        (Model.model_construct(), "result", "'a' is not set"),
        (without(Plain(1), "a"), "result", "'a' is not set"),
        (without(Made(), "b"), "result", "'b' is not set"),
        (Model.model_validate({"a": 1, "more": Thing()}), "result.__pydantic_extra__['more']", "Thing"),
        (Context(storage=[Thing()]), "result.storage[0]", "Thing"),
        (cycle(), "result[1]['a'][0]", "contains itself"),
        (sys.stdout, "result", "has no stored form"),
        (np.array([object()]), "result", "Python objects"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "result", "no stored form"),
        (np.ma.masked_array([1]), "result", "no stored form"),
        (np.rec.array([(1,)], dtype=[("a", int)]), "result", "no stored form"),
        (pd.DataFrame({"a": [1], "b": [Thing()]}), "result['b'][0]", "Thing"),
        (pd.DataFrame({"a": pd.period_range("2024", periods=2)}), "result", "period"),
        (pl.DataFrame({"a": [Thing()]}), "result", "polars cannot write it"),
        (pl.LazyFrame({"a": [1]}), "result", "LazyFrame has no stored form"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_exact_form_is_refused_by_path(value: Any, path: str, reason: str) -> None:
    with pytest.raises(NotSerializable) as caught:
        CODEC.encode(value)
    message = str(caught.value)
    assert message.startswith(f"`{path}"), message
    assert reason in message
    assert "annotate the task's return type" in message
    assert "@register" in message


def test_a_refused_value_can_be_stored_once_it_is_mended() -> None:
    value: list[Any] = [1, [Thing()]]
    with pytest.raises(NotSerializable):
        CODEC.encode(value)
    value[1][0] = Plain(1)
    assert roundtrip(value) == value


def test_nesting_has_a_limit_of_its_own() -> None:
    assert roundtrip(nested(199)) == nested(199)
    for depth in (201, 5000, 100_000):
        value = nested(depth)
        with pytest.raises(NotSerializable, match="nested"):
            CODEC.encode(value)
        while value:  # taken apart by hand: an old interpreter frees it recursively
            value = value[0]


def test_the_deepest_dataclasses_come_back() -> None:
    value = Plain(None)
    for _ in range(198):
        value = Plain({1: 2}, value)
    assert roundtrip(value) == value


def test_too_little_stack_is_a_codec_error_both_ways() -> None:
    data = CODEC.encode(nested(190))

    def deep(n: int) -> None:
        if n:
            return deep(n - 1)
        with pytest.raises(NotSerializable, match="the stack"):
            CODEC.encode(nested(190))
        if sys.version_info < (3, 12):  # from there on C code has a stack of its own
            with pytest.raises(CodecError, match="the stack"):
                CODEC.decode(data)
        return None

    deep(sys.getrecursionlimit() - len(list(iter_frames())) - 100)


def iter_frames() -> Any:
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back  # type: ignore[assignment]


# --- numpy ---

STRUCTURED = np.dtype([("a", "<i4"), ("b", ">f8", (2,)), ("c", [("d", "U3")])])
ARRAYS = [
    *(
        np.arange(5),
        np.arange(6, dtype=">i2").reshape(2, 3),
        np.zeros((0, 3)),
        np.array(5.0),
        np.zeros((2, 0, 2)),
    ),
    *(
        np.array([1.5, math.nan, -0.0]),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array([1], np.float16),
    ),
    *(
        np.array(["a", "äß€"]),
        np.array([b"ab"]),
        np.array(["2024-01-01", "NaT"], "M8[D]"),
        np.array([5], "m8[25us]"),
    ),
    *(
        np.array([1], np.longlong),
        np.array([1], np.longdouble),
        np.zeros(3, STRUCTURED),
        np.zeros(300, STRUCTURED),
    ),
    *(np.arange(1000.0), np.arange(10_000).reshape(100, 100)[::2, ::3], np.array([b"x"], "V4")),
    np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}-{array.shape}"[:40])
def test_arrays(array: Any) -> None:
    back = roundtrip({"a": [array]})["a"][0]
    assert same(back, array)
    assert back.dtype.char == array.dtype.char
    assert back.flags.writeable


@pytest.mark.parametrize("shape", [(3, 4), (30, 40), (2, 3, 4), (1, 1), (0, 2)])
def test_the_order_of_an_array_is_kept(shape: tuple[int, ...]) -> None:
    for order in ("C", "F"):
        array = np.asarray(np.arange(np.prod(shape)).reshape(shape), order=order)
        back = roundtrip(array)
        assert np.array_equal(back, array)
        assert back.flags.c_contiguous == array.flags.c_contiguous
        assert back.flags.f_contiguous == array.flags.f_contiguous


SCALARS = [
    *(
        np.float64(1.5),
        np.float64("nan"),
        np.float32(0.1),
        np.float16(2),
        np.longdouble(1) / 3,
        np.complex128(1j),
    ),
    *(np.int8(-1), np.uint64(2**64 - 1), np.longlong(1), np.int64(1), np.bool_(True), np.complex64(1j)),
    *(
        np.str_("a\0"),
        np.str_(""),
        np.bytes_(b"a\0"),
        np.datetime64("2024-01-01T00", "h"),
        np.datetime64("NaT"),
    ),
    *(np.timedelta64(5, "ms"), np.zeros(1, STRUCTURED)[0], np.void(b"abc")),
]


@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_scalars_of_numpy(scalar: Any) -> None:
    back = roundtrip([scalar, {scalar.dtype.str: scalar}])[0]
    assert type(back) is type(scalar)
    assert back.dtype == scalar.dtype
    if scalar.dtype.char != "g":  # the padding of a long double is nobody's
        assert back.tobytes() == scalar.tobytes()
    assert repr(back) == repr(scalar)


# --- pandas ---

STAMPS = pd.date_range("2024-01-01", periods=3, freq="h", tz="Europe/Berlin")
COLUMNS: dict[str, Any] = {
    "int": [1, 2, 3],
    "float": [1.5, math.nan, -0.0],
    "bool": [True, False, True],
    "str": ["a", None, "ä"],
    "python string": pd.array(["a", None, ""], dtype=pd.StringDtype("python", na_value=pd.NA)),
    "object": pd.Series([1, "a", (2, None)], dtype=object),
    "lists": pd.Series([[1, 2], [3, 4], [5, 6]], dtype=object),
    "texts as objects": pd.Series(["a", "b", "c"], dtype=object),
    "naive": pd.to_datetime(["2024-01-01", None, "2024-01-03"]),
    "tz": STAMPS,
    "utc": pd.to_datetime(["2024-01-01", None, "2024-01-03"], utc=True),
    "nanoseconds": pd.to_datetime([1, 2, 3]).as_unit("ns"),
    "delta": pd.to_timedelta([1, None, 3], unit="s"),
    "Int64": pd.array([1, None, 3], dtype="Int64"),
    "UInt8": pd.array([1, None, 3], dtype="UInt8"),
    "Float32": pd.array([1.5, None, 3], dtype="Float32"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "category": pd.Categorical(["b", "a", None], categories=["b", "a", "c"]),
    "ordered": pd.Categorical([2, 1, 2], categories=[2, 1], ordered=True),
}


def assert_same_series(back: Any, value: Any) -> None:
    pd.testing.assert_series_equal(back, value, check_exact=True, check_freq=True, check_index_type="exact")
    assert back.dtype == value.dtype
    assert back.index.dtype == value.index.dtype


@pytest.mark.parametrize("name", COLUMNS)
def test_series(name: str) -> None:
    series = pd.Series(COLUMNS[name], name=name)
    series.attrs = {"unit": (1, 2)}
    back = roundtrip([series])[0]
    assert_same_series(back, series)
    assert back.attrs == series.attrs
    assert_same_series(roundtrip(series.iloc[:0]), series.iloc[:0])
    if name == "object":
        assert same(back.tolist(), series.tolist())


def test_a_frame_of_all_of_them() -> None:
    frame = pd.DataFrame(COLUMNS, index=STAMPS)
    back = roundtrip({"frame": frame})["frame"]
    pd.testing.assert_frame_equal(back, frame, check_exact=True, check_freq=True, check_column_type="exact")
    assert list(back.dtypes) == list(frame.dtypes)
    assert type(back.index) is type(frame.index)
    back.loc[back.index[0], "int"] = 5  # it can be written to


INDEXES = [
    *(
        pd.RangeIndex(3),
        pd.RangeIndex(3, 0, -1, name="r"),
        pd.Index([3, 1, 2], name=("a", 1)),
        pd.Index([1.5] * 3),
    ),
    *(pd.Index(["a", "b", "c"]), pd.Index(["a", 1, None], dtype=object), STAMPS, STAMPS.tz_localize(None)),
    *(pd.Index([("a", 1), ("b", 2), 3], tupleize_cols=False), pd.CategoricalIndex(["a", "b", "a"], name="c")),
    pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["x", None]),
    pd.MultiIndex.from_product([["a", "b", "c"], STAMPS[:1]]),
    *(
        pd.date_range("2024", periods=3, freq="MS"),
        pd.timedelta_range("1h", periods=3),
        pd.Index([1, 2, None], dtype="Int8"),
    ),
    pd.DatetimeIndex(["2024-01-01", "2024-01-02", "2024-01-09"]),
]


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: f"{type(index).__name__}-{index.dtype}"[:50])
def test_indexes(index: Any) -> None:
    back = roundtrip(index)
    pd.testing.assert_index_equal(back, index, exact=True, check_names=True)
    assert type(back) is type(index)
    assert getattr(back, "freq", None) == getattr(index, "freq", None)
    frame = pd.DataFrame([[1, 2, 3]] * 3, index=index, columns=index)
    pd.testing.assert_frame_equal(roundtrip(frame), frame, check_freq=True, check_column_type="exact")


@pytest.mark.parametrize(
    "frame",
    [
        *(
            pd.DataFrame(),
            pd.DataFrame(index=[1, 2]),
            pd.DataFrame(columns=["a", "b"]),
            pd.DataFrame({1: [1], "a": [2]}),
        ),
        *(
            pd.DataFrame([[1, 2.5]], columns=["a", "a"]),
            pd.DataFrame(np.random.default_rng(1).random((500, 40))),
        ),
    ],
    ids=lambda frame: str(frame.shape),
)
def test_frames_of_odd_shapes(frame: Any) -> None:
    back = roundtrip(frame)
    pd.testing.assert_frame_equal(back, frame, check_exact=True, check_column_type="exact")
    assert type(back.columns) is type(frame.columns)


@pytest.mark.parametrize(
    "value",
    [
        *(
            pd.Timestamp("2024-01-01"),
            pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert("Europe/Berlin"),
            pd.Timestamp(1, unit="ns"),
        ),
        *(pd.Timestamp("2024-01-01", tz="UTC"), pd.Timedelta("1h"), pd.Timedelta(1, unit="ns")),
    ],
)
def test_scalars_of_pandas(value: Any) -> None:
    back = roundtrip([value])[0]
    assert back == value
    assert type(back) is type(value)
    assert back.unit == value.unit
    assert str(getattr(back, "tz", None)) == str(getattr(value, "tz", None))


def test_the_missing_values_of_pandas_stay_themselves() -> None:
    assert roundtrip(pd.NaT) is pd.NaT
    assert roundtrip([pd.NA])[0] is pd.NA


def test_a_frame_that_forbids_duplicates_is_refused() -> None:
    frame = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    with pytest.raises(NotSerializable, match="duplicate labels"):
        CODEC.encode(frame)


# --- polars ---

FRAMES = [
    pl.DataFrame(
        {
            "int": [1, None, 3],
            "float": [1.5, math.nan, None],
            "text": ["a", None, "ä"],
            "list": [[1], None, []],
            "struct": [{"a": 1}, {"a": None}, {"a": 3}],
            "date": [date(2024, 1, 1), None, date.max],
            "stamp": pl.Series([datetime(2024, 1, 1), None, None]).dt.replace_time_zone("Europe/Berlin"),
            "decimal": [Decimal("1.10"), None, Decimal("2.00")],
            "category": pl.Series(["a", "b", None], dtype=pl.Categorical),
            "enum": pl.Series(["x", "y", None], dtype=pl.Enum(["x", "y"])),
            "bytes": [b"\x00", None, b""],
            "array": pl.Series([[1, 2], [3, 4], None], dtype=pl.Array(pl.Int8, 2)),
            "null": [None, None, None],
        }
    ),
    *(pl.DataFrame(), pl.DataFrame({"a": []}, schema={"a": pl.Int8}), pl.DataFrame({"a": range(10_000)})),
]


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: str(frame.shape))
def test_polars(frame: Any) -> None:
    back = roundtrip({"f": frame})["f"]
    assert back.equals(frame)
    assert back.schema == frame.schema
    for name in frame.columns:
        column = roundtrip(frame[name])
        assert type(column) is pl.Series
        assert column.name == name
        assert column.dtype == frame[name].dtype
        assert column.equals(frame[name])


def test_a_damaged_polars_frame_never_reaches_polars() -> None:
    data = bytearray(CODEC.encode(FRAMES[-1]))
    data[-3000] ^= 1
    with pytest.raises(CorruptCheckpoint, match="damaged"):
        CODEC.decode(bytes(data))


# --- reading what is damaged, old or foreign ---


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b" ",
            b"{",
            b"[1,]",
            b"nul",
            b"1 2",
            b"[1] ",
            b"NaN",
            b"[Infinity]",
            b"\xff",
            b'"\xc3\xa4"',
            b"1\n",
            b"\n",
        ),
        *(
            b'{"$":"bytes","v":"%"}',
            b'{"$":"bytes","v":[0,5]}\nabc',
            b'{"$":"bytes","v":[0,2]}\nabc',
            b'{"$":"tuple"}',
        ),
        *(
            b'{"$":"bytes","v":[-1,2]}\nab',
            b'{"$":"set","v":[[]]}',
            b'{"$":"dict","k":[1],"v":[]}',
            b'{"$":["x"]}',
        ),
        *(
            b'{"$":"Decimal","v":"x"}',
            b'{"$":"Fraction","v":[1,0]}',
            b'{"$":"range","v":[1,2,0]}',
            b"9" * 5000,
        ),
        *(b'{"$":"float","v":"1"}', b'{"$":"ZoneInfo","v":"../../etc/passwd"}', b'{"$":"datetime","v":"x"}'),
        *(b'{"$":"datetime","v":"2024-01-01","tz":3}', b'{"$":"defaultdict","k":[],"v":[],"factory":"eval"}'),
        *(
            b'{"$":"ndarray","dtype":"|O","shape":[1],"v":"AAAAAAAAAAA="}',
            b'{"$":"numpy.raw","dtype":"O","v":"AAAAAAAAAAA="}',
        ),
        *(
            b'{"$":"ndarray","dtype":"<i8","shape":[999999999999],"v":""}',
            b'{"$":"ndarray","dtype":"<i8","shape":[9],"v":"AAAA"}',
        ),
        b'{"$":"dataclass","t":"Context","v":5}',
    ],
)
def test_what_is_damaged_is_a_corrupt_checkpoint(data: bytes) -> None:
    with pytest.raises(CorruptCheckpoint):
        CODEC.decode(data)


def test_text_nested_without_end_is_a_codec_error() -> None:
    with pytest.raises(CodecError):
        CODEC.decode(b"[" * 200_000)


def test_a_form_of_a_later_version_is_named() -> None:
    with pytest.raises(CodecError, match="'hologram'"):
        CODEC.decode(b'{"$":"hologram","v":1}')


@pytest.mark.parametrize("kind", ["dataclass", "enum", "flag", "namedtuple", "model"])
def test_stored_data_cannot_name_an_import(kind: str) -> None:
    names = set(sys.modules)
    data = json.dumps({"$": kind, "t": "this:Nothing", "v": {}}).encode()
    with pytest.raises(CodecError, match=r"'this:Nothing'.*annotate .*@register"):
        CODEC.decode(data)
    assert set(sys.modules) == names


def versions(before: Any, after: Any, value: Any) -> Any:
    """Store a value with one version of its class and restore it with another."""
    old, new = TypeRegistry(), TypeRegistry()
    old.add(before, name="Thing")
    new.add(after, name="Thing")
    return JsonCodec(new).decode(JsonCodec(old).encode(value))


def test_a_dataclass_that_changed() -> None:
    before = make_dataclass("before", ["a", "b"])
    more = make_dataclass("more", ["b", "a", ("c", int, 3), ("d", list, field(default_factory=list))])
    back = versions(before, more, before(1, 2))
    assert back == more(2, 1, 3, [])
    with pytest.raises(CodecError, match=r"'b'.*fewer has no more"):
        versions(before, make_dataclass("fewer", ["a"]), before(1, 2))
    with pytest.raises(CodecError, match=r"'c'.*needy has now: give it a default"):
        versions(before, make_dataclass("needy", ["a", "b", "c"]), before(1, 2))
    with pytest.raises(CodecError, match="stored as a dataclass"):
        versions(before, Colour, before(1, 2))


def test_a_named_tuple_that_changed() -> None:
    class More(NamedTuple):
        y: int
        x: int
        z: int = 5

    class Needy(NamedTuple):
        x: int
        y: int
        z: int

    class Fewer(NamedTuple):
        x: int

    assert versions(Point, More, Point(1, 2)) == More(2, 1, 5)
    with pytest.raises(CodecError, match="'z'"):
        versions(Point, Needy, Point(1, 2))
    with pytest.raises(CodecError, match="'y'"):
        versions(Point, Fewer, Point(1, 2))


def test_a_model_that_changed() -> None:
    class More(pydantic.BaseModel):
        n: int
        made: list[int] = pydantic.Field(default_factory=list)
        of: int = pydantic.Field(default_factory=lambda data: data["n"] + 1)
        _private: int = pydantic.PrivateAttr(default=4)

    class Needy(pydantic.BaseModel):
        n: int
        m: int

    class Fewer(pydantic.BaseModel):
        m: int = 1

    back = versions(Small, More, Small(n=1))
    assert (back.n, back.made, back.of, back._private) == (1, [], 2, 4)
    with pytest.raises(CodecError, match="'m'"):
        versions(Small, Needy, Small(n=1))
    with pytest.raises(CodecError, match="'n'"):
        versions(Small, Fewer, Small(n=1))


def test_an_enum_that_changed() -> None:
    class Less(enum.Enum):
        GREEN = 1

    with pytest.raises(CodecError, match=r"'RED'.*Less has no more"):
        versions(Colour, Less, Colour.RED)


# --- the codec among others ---


@pytest.mark.parametrize("package", ["numpy", "pandas", "polars"])
def test_a_missing_package_is_named_when_it_is_needed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"numpy": np.arange(3), "pandas": pd.NaT, "polars": pl.DataFrame({"a": [1]})}[package]
    data = CODEC.encode(value)
    monkeypatch.setitem(sys.modules, package, None)  # what `import` takes for missing
    with pytest.raises(MissingExtra, match=f"pip install {package}"):
        CODEC.decode(data)


def test_nothing_optional_or_slow_is_imported() -> None:
    code = (
        "import sys\nfrom dotflow_like.record.codec import JsonCodec\n"
        "c = JsonCodec()\nassert c.decode(c.encode({'a': (1, 2)})) == {'a': (1, 2)}\n"
        "print([m for m in ('numpy', 'pandas', 'polars', 'pydantic', 'decimal', 'fractions', 'uuid', 'zoneinfo',"
        " 'pickle', 'dotflow_like.execute') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_was_stored_is_read_in_a_new_process(tmp_path: Path) -> None:
    data = CODEC.encode(
        {"d": Decimal("1.1"), "p": Path("a"), "u": UUID(int=1), "z": BERLIN, "a": np.arange(3)}
    )
    (tmp_path / "data").write_bytes(data)
    code = (
        "import sys\nfrom dotflow_like.record.codec import JsonCodec\n"
        f"print(JsonCodec().decode(open({str(tmp_path / 'data')!r}, 'rb').read()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("{'d': Decimal('1.1'), 'p': PosixPath('a'), 'u': UUID(")


def test_a_pickled_codec_knows_the_same_types() -> None:
    @dataclass
    class Local:
        a: int

    types = TypeRegistry()
    types.add(Local, name="local")
    codec = JsonCodec(types)
    copy = cloudpickle.loads(cloudpickle.dumps(codec))
    assert copy.decode(codec.encode([Local(1), Context(1)]))[0].a == 1
    assert pickle.loads(pickle.dumps(CODEC)).decode(CODEC.encode(Plain(1))) == Plain(1)


def test_types_collected_later_are_known() -> None:
    types = TypeRegistry()
    codec = JsonCodec(types)
    with pytest.raises(NotSerializable, match="Unknown is not known"):
        codec.encode(Unknown(1))
    types.collect(list[Unknown])
    data = codec.encode(Unknown(1))
    assert default_name(Unknown).encode() in data
    assert codec.decode(data) == Unknown(1)


def test_threads_share_a_codec() -> None:
    wrong: list[Any] = []

    def work(n: int) -> None:
        value = [{"n": n, "t": (n,), "b": bytes([n]) * 3000}] * 20
        wrong.extend(n for _ in range(50) if CODEC.decode(CODEC.encode(value)) != value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_codec_has_a_name() -> None:
    assert JsonCodec.name == JsonCodec().name == "json"
