"""How the codec writes and reads pandas and polars frames. The packages are loaded only to read one."""

from __future__ import annotations

import sys
import zlib
from io import BytesIO
from typing import Any

from dotflow_like.record.codec_arrays import package
from dotflow_like.record.codec_walk import Decoding, Encoding, Reader, Unstorable, Writer

__all__ = ["READERS", "writer"]


def writer(kind: type) -> Writer | None:
    """Return what writes instances of a class of pandas or polars; None for every other class."""
    module = str(kind.__module__).partition(".")[0]
    if module not in {"pandas", "polars"}:
        return None
    lib = sys.modules[module]
    table: dict[type, Writer]
    if module == "polars":
        table = {lib.DataFrame: _polars, lib.Series: _polars_series}
    else:
        table = {
            lib.DataFrame: _frame,
            lib.Series: _series,
            type(lib.NaT): lambda enc, value: {"$": "pandas.NaT"},
            type(lib.NA): lambda enc, value: {"$": "pandas.NA"},
            lib.Timestamp: _timestamp,
            lib.Timedelta: lambda enc, value: {
                "$": "pandas.Timedelta",
                "v": enc.shape(value.to_timedelta64()),
            },
            **{getattr(lib, name): _index for name in _INDEXES},
        }
    return table.get(kind)


# --- pandas ---

_INDEXES = ("CategoricalIndex", "DatetimeIndex", "Index", "MultiIndex", "RangeIndex", "TimedeltaIndex")
_MASKED = {"IntegerArray": "i", "FloatingArray": "f", "BooleanArray": "b"}


def _frame(enc: Encoding, value: Any) -> Any:
    names = list(value.columns)
    columns = [value.iloc[:, n] for n in range(len(names))]
    stored = {"$": "pandas.DataFrame", **_labels(enc, value)}
    stored["columns"] = enc.inside(value.columns, ".columns")
    stored["v"] = [
        _values(enc, column, f"[{name!r:.60}]") for name, column in zip(names, columns, strict=True)
    ]
    return stored


def _series(enc: Encoding, value: Any) -> Any:
    stored = {"$": "pandas.Series", **_labels(enc, value), "name": enc.inside(value.name, ".name")}
    return {**stored, "v": _values(enc, value, "")}


def _labels(enc: Encoding, value: Any) -> dict[str, Any]:
    if not value.flags.allows_duplicate_labels:
        raise Unstorable("a frame that forbids duplicate labels has no stored form")
    labels = {"index": enc.inside(value.index, ".index")}
    return {**labels, "attrs": enc.inside(value.attrs, ".attrs")} if value.attrs else labels


def _index(enc: Encoding, value: Any) -> Any:
    kind = type(value).__name__
    stored = {"$": "pandas.Index", "kind": kind, "names": enc.inside(list(value.names), ".names")}
    if kind == "RangeIndex":
        stored["v"] = [value.start, value.stop, value.step]
    elif kind == "MultiIndex":
        stored["levels"] = enc.inside(list(value.levels), ".levels")
        stored["v"] = [enc.shape(codes.astype("int64")) for codes in map(_plain_array, value.codes)]
    else:
        stored["v"] = _values(enc, value, "")
        if getattr(value, "freq", None) is not None:
            stored["freq"] = _freq(value.freq)
    return stored


def _freq(freq: Any) -> str:
    name: str = freq.freqstr
    try:
        kept = sys.modules["pandas"].tseries.frequencies.to_offset(name) == freq
    except ValueError:
        kept = False
    if not kept:
        raise Unstorable(f"an index of frequency {freq!r} has no stored form")
    return name


def _plain_array(values: Any) -> Any:
    return sys.modules["numpy"].asarray(values)


def _values(enc: Encoding, column: Any, suffix: str) -> Any:
    """Write what a series or an index holds: an array of numpy's, or an extension of pandas' own."""
    pd = sys.modules["pandas"]
    dtype, array = column.dtype, column.array
    kind = type(array).__name__
    if kind in _MASKED:
        # The public way to the values would take a NaN for a missing one.
        return {"kind": kind, "v": enc.shape(array._data), "mask": enc.shape(array._mask)}
    if isinstance(dtype, pd.StringDtype):
        texts = [text if isinstance(text, str) else None for text in array.astype(object)]
        nan = dtype.na_value is not pd.NA
        return {"kind": "str", "storage": dtype.storage, "nan": nan, "v": enc.inside(texts, suffix)}
    if isinstance(dtype, pd.CategoricalDtype):
        categories = enc.inside(dtype.categories, f"{suffix}.categories")
        codes = enc.shape(_plain_array(array.codes))
        return {"kind": "category", "ordered": bool(dtype.ordered), "of": categories, "v": codes}
    if isinstance(dtype, pd.DatetimeTZDtype):
        utc = _plain_array(array.tz_convert("UTC").tz_localize(None))
        return {"kind": "tz", "tz": enc.inside(dtype.tz, f"{suffix}.tz"), "v": enc.shape(utc)}
    if isinstance(dtype, sys.modules["numpy"].dtype):
        values = column.to_numpy()
        if dtype.kind == "O":
            return {"kind": "object", "v": enc.inside(values.tolist(), suffix)}
        return enc.inside(values, suffix)
    raise Unstorable(f"a column of dtype {dtype} has no stored form")


def _timestamp(enc: Encoding, value: Any) -> Any:
    stored = {"$": "pandas.Timestamp", "v": enc.shape(value.to_datetime64())}
    return stored if value.tz is None else {**stored, "tz": enc.inside(value.tz, ".tz")}


def _column(stored: Any) -> Any:
    """Read one column: an array that pandas takes as it is."""
    if not isinstance(stored, dict):
        return stored
    pd, kind, values = package("pandas"), stored["kind"], stored["v"]
    if kind in _MASKED:
        return getattr(pd.arrays, kind)(values, stored["mask"])
    if kind == "str":
        if stored["storage"] == "pyarrow":
            package("pyarrow")
        dtype = pd.StringDtype(stored["storage"], na_value=float("nan") if stored["nan"] else pd.NA)
        return pd.array(values, dtype=dtype)
    if kind == "category":
        dtype = pd.CategoricalDtype(stored["of"], stored["ordered"])
        return pd.Categorical.from_codes(values, dtype=dtype)
    if kind == "tz":
        return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(stored["tz"]).array
    if kind == "object":
        return package("numpy").fromiter(values, object, len(values))
    raise ValueError(f"a column of kind {kind!r} is not known")


def _as_series(stored: Any, index: Any, name: Any = None) -> Any:
    values = _column(stored)
    return package("pandas").Series(values, index, values.dtype, name, copy=False)


def _read_frame(dec: Decoding, stored: dict[str, Any]) -> Any:
    index = stored["index"]
    columns = {n: _as_series(column, index) for n, column in enumerate(stored["v"])}
    frame = package("pandas").DataFrame(columns, index)
    frame.columns = stored["columns"]
    frame.attrs = stored.get("attrs", {})
    return frame


def _read_series(dec: Decoding, stored: dict[str, Any]) -> Any:
    series = _as_series(stored["v"], stored["index"], stored["name"])
    series.attrs = stored.get("attrs", {})
    return series


def _read_index(dec: Decoding, stored: dict[str, Any]) -> Any:
    pd, kind, names = package("pandas"), stored["kind"], stored["names"]
    if kind == "RangeIndex":
        return pd.RangeIndex(*stored["v"], name=names[0])
    if kind == "MultiIndex":
        return pd.MultiIndex(stored["levels"], stored["v"], names=names)
    if kind not in _INDEXES:
        raise ValueError(f"an index of kind {kind!r} is not known")
    values = _column(stored["v"])
    index = pd.Index(values, dtype=values.dtype, name=names[0], tupleize_cols=False)
    if "freq" in stored:
        index.freq = stored["freq"]
    return index


def _read_timestamp(dec: Decoding, stored: dict[str, Any]) -> Any:
    value = package("pandas").Timestamp(stored["v"])
    return value if "tz" not in stored else value.tz_localize("UTC").tz_convert(stored["tz"])


# --- polars ---


def _polars(enc: Encoding, value: Any) -> Any:
    pl, file = sys.modules["polars"], BytesIO()
    try:
        value.write_ipc(file, compression="uncompressed")
        file.seek(0)
        kept = pl.read_ipc_schema(file) == value.schema
    except pl.exceptions.PolarsError as error:
        raise Unstorable(f"polars cannot write it: {error}") from error
    if not kept:
        raise Unstorable("polars would restore it with other dtypes")
    data = file.getbuffer()
    # polars trusts its own files: damaged ones must not get as far as its parser.
    return {"$": "polars.DataFrame", "crc": zlib.crc32(data), "v": enc.raw(data)}


def _polars_series(enc: Encoding, value: Any) -> Any:
    return {"$": "polars.Series", "v": _polars(enc, value.to_frame())}


def _read_polars(dec: Decoding, stored: dict[str, Any]) -> Any:
    data = dec.raw(stored["v"])
    if zlib.crc32(data) != stored["crc"]:
        raise ValueError("a polars frame is damaged")
    return package("polars").read_ipc(BytesIO(data))


READERS: dict[str, Reader] = {
    "pandas.DataFrame": _read_frame,
    "pandas.Series": _read_series,
    "pandas.Index": _read_index,
    "pandas.Timestamp": _read_timestamp,
    "pandas.Timedelta": lambda dec, stored: package("pandas").Timedelta(stored["v"]),
    "pandas.NaT": lambda dec, stored: package("pandas").NaT,
    "pandas.NA": lambda dec, stored: package("pandas").NA,
    "polars.DataFrame": _read_polars,
    "polars.Series": lambda dec, stored: stored["v"].to_series(),
}
