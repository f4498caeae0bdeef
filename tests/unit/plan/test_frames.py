"""Fingerprints of arrays and data frames: exact in content, blind to layout."""

from __future__ import annotations

import datetime as dt
import decimal
import itertools
import timeit
from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pytest

from dotflow_like.errors import FingerprintError
from dotflow_like.plan.fingerprint import of_value


def fp(value: object) -> str:
    return of_value(value, where="task 't', parameter 'p'")


def padded(value: int, rubbish: int) -> object:
    """A structured array whose padding holds whatever was there."""
    dtype = np.dtype([("a", "i1"), ("b", "i8")], align=True)
    raw = np.full(dtype.itemsize, rubbish, "u1")
    made = raw.view(dtype)
    made["a"], made["b"] = value, value
    return made


NUMPY: list[Callable[[], object]] = [
    lambda: np.arange(6),
    lambda: np.arange(6).reshape(2, 3),
    lambda: np.arange(6).reshape(3, 2),
    lambda: np.arange(6, dtype="i4"),
    lambda: np.arange(6, dtype=">i8"),
    lambda: np.arange(6, dtype="f8"),
    lambda: np.arange(6, dtype=object),
    lambda: [0, 1, 2, 3, 4, 5],
    lambda: np.array(1),
    lambda: np.array([1]),
    lambda: np.int64(1),
    lambda: np.int32(1),
    lambda: np.float64(1),
    lambda: 1.0,
    lambda: np.bool_(True),
    lambda: np.str_("a"),
    lambda: np.bytes_(b"a"),
    lambda: "a",
    lambda: np.array(["a", "b"]),
    lambda: np.array(["a", "b"], dtype=np.dtypes.StringDType()),
    lambda: np.array(["a", None, {"b": 1}], dtype=object),
    lambda: np.array([]),
    lambda: np.zeros((0, 3)),
    lambda: np.zeros((3, 0)),
    lambda: np.array([], dtype="i4"),
    lambda: np.array(["2024-01-01"], dtype="M8[D]"),
    lambda: np.array(["2024-01-01"], dtype="M8[ns]"),
    lambda: np.datetime64("NaT"),
    lambda: np.timedelta64(1, "s"),
    lambda: np.array([1 + 2j]),
    lambda: np.array([b"ab"], dtype="V2"),
    lambda: np.zeros(3, dtype=[("a", "i4"), ("b", "i4")]),
    lambda: np.zeros(3, dtype=[("a", "i4"), ("c", "i4")]),
    lambda: np.zeros(3, dtype=[("a", "i4", (2,))]),
    lambda: np.ma.masked_array([1, 2], mask=[False, True]),
    lambda: np.ma.masked_array([1, 2], mask=[True, False]),
    lambda: np.dtype("i4"),
    lambda: np.dtype("i8"),
    lambda: np.int64,
    lambda: np.random.default_rng(0).random(1000),
    lambda: np.random.default_rng(1).random(1000),
]

PANDAS: list[Callable[[], object]] = [
    lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    lambda: pd.DataFrame({"b": ["x", None], "a": [1, 2]}),
    lambda: pd.DataFrame({"a": [1, 2], "c": ["x", None]}),
    lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[1, 2]),
    lambda: pd.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}),
    lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]),
    lambda: pd.DataFrame([[2, 1]], columns=["a", "a"]),
    lambda: pd.DataFrame(),
    lambda: pd.DataFrame(index=[1, 2]),
    lambda: pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "x")], names=["i", "j"])),
    lambda: pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "x")], names=["i", "k"])),
    lambda: pd.Series([1, 2]),
    lambda: pd.Series([1, 2], name="a"),
    lambda: pd.Series([1, 2], dtype="Int64"),
    lambda: pd.Series([1, None], dtype="Int64"),
    lambda: pd.Series([1, None], dtype="Float64"),
    lambda: pd.Series([1, 2], dtype=object),
    lambda: pd.Series([True, None], dtype="boolean"),
    lambda: pd.Series(["x", None], dtype=object),
    lambda: pd.Series(["x", "y"], dtype="category"),
    lambda: pd.Series(["x", "y"], dtype=pd.CategoricalDtype(["x", "y"], ordered=True)),
    lambda: pd.Series(["x", "y"], dtype=pd.CategoricalDtype(["y", "x"])),
    lambda: pd.Series(pd.to_datetime(["2024-01-01", None])),
    lambda: pd.Series(pd.to_datetime(["2024-01-01", None])).dt.tz_localize("UTC"),
    lambda: pd.Series(pd.to_datetime(["2024-01-01", None])).dt.tz_localize("Europe/Berlin"),
    lambda: pd.Series(pd.to_timedelta([1, 2], unit="s")),
    lambda: pd.Series(pd.period_range("2024-01", periods=2, freq="M")),
    lambda: pd.Series(pd.interval_range(0, 2)),
    lambda: pd.Index([1, 2]),
    lambda: pd.Index([1, 2], name="a"),
    lambda: pd.array([1, None], dtype="Int64"),
    lambda: pd.Timestamp("2024-01-01"),
    lambda: pd.Timestamp("2024-01-01 00:00:00.000000001"),
    lambda: pd.Timestamp("2024-01-01", tz="UTC"),
    lambda: pd.Timestamp("2024-01-01", tz="Europe/London"),
    lambda: dt.datetime(2024, 1, 1),
    lambda: pd.Timedelta(1, "ns"),
    lambda: pd.Timedelta(2, "ns"),
    lambda: pd.Period("2024-01", "M"),
    lambda: pd.Period("2024-01-01", "D"),
    lambda: pd.Interval(0, 1),
    lambda: pd.Interval(0, 1, closed="both"),
    lambda: pd.NA,
    lambda: pd.NaT,
]

NS = pl.Datetime("ns")
MOMENT = dt.datetime(2024, 1, 1)

POLARS: list[Callable[[], object]] = [
    lambda: pl.DataFrame({"a": [1, 2], "b": ["x", None]}),
    lambda: pl.DataFrame({"b": ["x", None], "a": [1, 2]}),
    lambda: pl.DataFrame({"a": [1, 2], "c": ["x", None]}),
    lambda: pl.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}),
    lambda: pl.DataFrame(),
    lambda: pl.Series([1, 2]),
    lambda: pl.Series("a", [1, 2]),
    lambda: pl.Series([1, 2], dtype=pl.Int8),
    lambda: pl.Series([1, None]),
    lambda: pl.Series([1, 0]),
    lambda: pl.Series([1, 2], dtype=pl.Int128),
    lambda: pl.Series([1.5, None, float("nan")]),
    lambda: pl.Series([True, None]),
    lambda: pl.Series([True, False]),
    lambda: pl.Series([None, None]),
    lambda: pl.Series([b"x"]),
    lambda: pl.Series(["x"]),
    lambda: pl.Series([decimal.Decimal("1.50")]),
    lambda: pl.Series([decimal.Decimal("1.5")], dtype=pl.Decimal(20, 1)),
    lambda: pl.Series(["x", "y"], dtype=pl.Categorical),
    lambda: pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"])),
    lambda: pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"])),
    lambda: pl.Series([MOMENT]),
    lambda: pl.Series([MOMENT], dtype=NS),
    lambda: pl.Series([MOMENT, None], dtype=NS),
    lambda: pl.Series([1]).cast(NS),
    lambda: pl.Series([2]).cast(NS),
    lambda: pl.Series([[1], [2]]).cast(pl.List(NS)),
    lambda: pl.Series([[1], [3]]).cast(pl.List(NS)),
    lambda: pl.Series([MOMENT.date()]),
    lambda: pl.Series([MOMENT.time()]),
    lambda: pl.Series([dt.timedelta(1)]),
    lambda: pl.Series([[1, 2], [3]]),
    lambda: pl.Series([[1], [2, 3]]),
    lambda: pl.Series([[], None, [1]], dtype=pl.List(pl.Int64)),
    lambda: pl.Series([None, [], [1]], dtype=pl.List(pl.Int64)),
    lambda: pl.Series([[None], [], [1]], dtype=pl.List(pl.Int64)),
    lambda: pl.Series([[[1], []], [[2]]]),
    lambda: pl.Series([["x"], []], dtype=pl.List(pl.Categorical)),
    lambda: pl.Series([[1, 2]], dtype=pl.Array(pl.Int64, 2)),
    lambda: pl.Series([{"a": 1, "b": "x"}]),
    lambda: pl.Series([{"a": 1, "b": None}]),
    lambda: pl.Series([{"a": None}, None], dtype=pl.Struct({"a": pl.Int64})),
    lambda: pl.Series([None, {"a": None}], dtype=pl.Struct({"a": pl.Int64})),
]


@pytest.mark.parametrize("made", [NUMPY, PANDAS, POLARS], ids=["numpy", "pandas", "polars"])
def test_what_differs_differs_and_what_is_equal_agrees(made: list[Callable[[], object]]) -> None:
    first = [fp(make()) for make in made]
    assert first == [fp(make()) for make in made]
    doubles = [(a, b) for a, b in itertools.combinations(range(len(made)), 2) if first[a] == first[b]]
    assert [(made[a](), made[b]()) for a, b in doubles] == []


def test_memory_layout_does_not_count() -> None:
    grid = np.arange(12).reshape(3, 4)
    assert fp(grid) == fp(np.asfortranarray(grid)) == fp(np.repeat(grid, 2, axis=0)[::2])
    assert fp(padded(1, 0)) == fp(padded(1, 255)) != fp(padded(2, 0))
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    consolidated = pd.DataFrame(np.array([[1, 3], [2, 4]]), columns=["a", "b"])
    assert fp(frame) == fp(consolidated)
    assert fp(pd.Index([0, 1])) == fp(pd.RangeIndex(2))
    whole = pl.DataFrame({"a": [1, 2, 3], "b": [["x"], None, []]})
    chunks = pl.concat([whole[:1], whole[1:]], rechunk=False)
    assert chunks.n_chunks() == 2
    assert fp(whole) == fp(chunks)


def test_inside_other_values_the_path_leads_to_the_cell() -> None:
    with pytest.raises(FingerprintError, match=r"\['a'\]\.items\[1\] \(builtins:object\)"):
        fp({"a": np.array([1, object()], dtype=object)})
    with pytest.raises(FingerprintError, match=r"\.columns\[1\]\['data'\]\.items\[0\] \(builtins:object\)"):
        fp(pd.DataFrame({"a": [1], "b": [object()]}))


@pytest.mark.parametrize(
    "value",
    [np.random.default_rng(0), np.sin, np.longdouble(1), pl.LazyFrame({"a": [1]}), pl.col("a")],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_fixed_content_is_refused(value: object) -> None:
    with pytest.raises(FingerprintError):
        fp([value])


def test_derived_arrays_and_frames_count_by_type_and_attributes() -> None:
    class Measured(np.ndarray):
        unit: str

    one, two = np.arange(3).view(Measured), np.arange(3).view(Measured)
    two.unit = "m"
    assert len({fp(one), fp(two), fp(np.arange(3))}) == 3


def test_a_memory_map_is_its_content(tmp_path: object) -> None:
    for name in ("a", "b"):
        np.arange(3000).tofile(f"{tmp_path}/{name}")
    a, b = (np.memmap(f"{tmp_path}/{name}", dtype="i8", mode="r") for name in ("a", "b"))
    assert fp(a) == fp(b) != fp(a[:-1])


def test_arrays_go_at_the_speed_of_the_hash() -> None:
    """16 MB: 20 ms on an idle machine; element by element it would be half a second."""
    large = np.zeros(2_000_000)
    assert min(timeit.repeat(lambda: fp([large]), number=1, repeat=3)) < 0.2
