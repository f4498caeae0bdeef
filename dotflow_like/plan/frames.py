"""The parts of arrays and data frames that make them what they are, for fingerprints."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["PACKAGES", "parts"]

PACKAGES = frozenset({"numpy", "pandas", "polars"})


def parts(value: Any) -> tuple[str, dict[str, object]] | None:
    """Return what a numpy, pandas or polars object is, as a word and simpler values by name.

    Nothing is imported: an object of these packages exists only where they are loaded. Neither
    memory layout nor chunks count.

    Args:
        value: an instance of a type from one of `PACKAGES`, or of one derived from it.

    Returns:
        None for an object with no fixed content, such as a random generator.

    Raises:
        TypeError: there is content, but it has no exact form.
    """
    homes = (cls.__module__.partition(".")[0] for cls in type(value).__mro__)
    package = next(home for home in homes if home in PACKAGES)
    return {"numpy": _numpy, "pandas": _pandas, "polars": _polars}[package](value, sys.modules[package])


def _numpy(value: Any, np: Any) -> tuple[str, dict[str, object]] | None:
    if isinstance(value, np.generic):
        return "numpy:generic", _array(np.asarray(value), np)
    if isinstance(value, np.dtype):
        return "numpy:dtype", _array(np.empty(0, value), np)
    if not isinstance(value, np.ndarray):
        return None
    ma = sys.modules.get("numpy.ma")
    if ma is not None and isinstance(value, ma.MaskedArray):
        masked: dict[str, object] = {"data": value.data, "mask": ma.getmaskarray(value)}
        return "numpy:MaskedArray", masked | {"fill": value.fill_value}
    return f"numpy:{type(value).__name__}", _array(np.asarray(value), np)


def _array(array: Any, np: Any) -> dict[str, object]:
    dtype = array.dtype
    shaped: dict[str, object] = {"dtype": dtype.str, "shape": array.shape}
    if dtype.names:  # field by field: what pads between them is whatever was in memory
        return {"fields": [(name, array[name]) for name in dtype.names], "shape": array.shape}
    if dtype.hasobject:
        return shaped | {"items": array.reshape(-1).tolist()}
    if dtype.char in "gG":
        raise TypeError("extended precision holds undefined bytes; convert it to float64")
    if dtype.kind == "V":  # a type of another package may hide behind raw bytes
        shaped["dtype"] = f"{dtype.str} {dtype.name}"
    if not array.nbytes:
        return shaped
    return shaped | {"data": memoryview(np.ascontiguousarray(array).reshape(-1).view("u1"))}


def _pandas(value: Any, pd: Any) -> tuple[str, dict[str, object]] | None:
    if value is pd.NA or value is pd.NaT:
        return f"pandas:{type(value).__name__}", {}
    if isinstance(value, pd.Timestamp):
        return "pandas:Timestamp", {"instant": value.asm8, "zone": str(value.tz), "fold": value.fold}
    if isinstance(value, pd.Timedelta):
        return "pandas:Timedelta", {"duration": value.asm8}
    if isinstance(value, pd.Period):
        return "pandas:Period", {"ordinal": value.ordinal, "frequency": value.freqstr}
    if isinstance(value, pd.Interval):
        return "pandas:Interval", {"left": value.left, "right": value.right, "closed": value.closed}
    if isinstance(value, pd.MultiIndex):
        levels = [value.get_level_values(level) for level in range(value.nlevels)]
        return "pandas:MultiIndex", {"levels": levels}
    if isinstance(value, pd.Index):  # a range and the same numbers written out are equal
        return "pandas:Index", {"name": value.name, **_column(value, pd)}
    if isinstance(value, pd.Series):
        return "pandas:Series", {"name": value.name, "index": value.index, **_column(value, pd)}
    if isinstance(value, pd.DataFrame):
        columns = [_column(value.iloc[:, at], pd) for at in range(value.shape[1])]
        return "pandas:DataFrame", {"names": value.columns, "index": value.index, "columns": columns}
    if isinstance(value, pd.api.extensions.ExtensionArray):
        return "pandas:ExtensionArray", _column(pd.Series(value), pd)
    return None


def _column(values: Any, pd: Any) -> dict[str, object]:
    dtype, array = values.dtype, values.array
    if isinstance(dtype, pd.CategoricalDtype):
        kinds: dict[str, object] = {"categories": dtype.categories, "ordered": dtype.ordered}
        return kinds | {"codes": array.codes}
    if isinstance(dtype, pd.DatetimeTZDtype):
        return {"dtype": str(dtype), "data": array.asi8}
    if isinstance(dtype, pd.api.extensions.ExtensionDtype):
        return {"dtype": str(dtype), "data": list(array.astype(object))}
    return {"data": values.to_numpy()}


def _polars(value: Any, pl: Any) -> tuple[str, dict[str, object]] | None:
    if isinstance(value, pl.DataFrame):
        return "polars:DataFrame", {"height": value.height, "columns": value.get_columns()}
    if isinstance(value, pl.Series):
        return "polars:Series", {"name": value.name, "dtype": str(value.dtype), **_series(value, pl)}
    return None


def _series(values: Any, pl: Any) -> dict[str, object]:
    dtype = values.dtype
    if dtype == pl.Struct:
        fields = [values.struct.field(field.name) for field in dtype.fields]
        return {"null": values.is_null(), "fields": fields}
    if dtype == pl.Array:
        values, dtype = values.arr.to_list(), pl.List
    if dtype == pl.List:  # lengths and what they hold; versions differ in what an empty one explodes to
        lengths = values.list.len()
        return {"lengths": lengths, "items": values.filter(lengths > 0).explode()}
    if dtype in {pl.Categorical, pl.Enum}:
        return {"data": values.cast(pl.String).to_list()}
    if dtype.is_temporal():
        values = values.to_physical()  # Python's own types would lose the nanoseconds
    if str(values.dtype) not in _NUMBERS:
        return {"data": values.to_list()}
    missing = values.is_null().to_numpy() if values.null_count() else None
    return {"null": missing, "data": values.fill_null(0).to_numpy()}


# What numpy has too, and is hashed as it lies in memory.
_NUMBERS = {f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64)} | {"Float32", "Float64"}
