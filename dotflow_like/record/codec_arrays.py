"""How the codec writes and reads numpy arrays and scalars. numpy is loaded only to read one."""

from __future__ import annotations

import sys
from importlib import import_module
from math import prod
from typing import Any

from dotflow_like.errors import MissingExtra
from dotflow_like.record.codec_walk import Decoding, Encoding, Reader, Unstorable, Writer

__all__ = ["READERS", "package", "writer"]

_KINDS = frozenset("biufcmMSUV")  # not objects, and not texts of any length, which are pointers too


def package(name: str) -> Any:
    """Return an optional package a stored value needs.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(f"the stored value needs {name}: pip install {name}") from error


def writer(kind: type) -> Writer | None:
    """Return what writes instances of a class of numpy's own; None for every other class."""
    np = sys.modules.get("numpy")
    if np is None:
        return None
    if kind is np.ndarray:
        return _array
    if not issubclass(kind, np.generic) or kind.__module__ != "numpy":
        return None
    if kind in {np.str_, np.bytes_}:  # arrays drop their trailing zeros
        return lambda enc, value: {"$": f"numpy.{kind.__name__}", "v": enc.shape(value[:])}
    dtype = np.dtype(kind)
    if dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8):
        return lambda enc, value: {"$": "numpy", "dtype": _dtype(enc, value), "v": enc.shape(value.item())}
    return lambda enc, value: {"$": "numpy.raw", "dtype": _dtype(enc, value), "v": enc.raw(value.tobytes())}


def _array(enc: Encoding, value: Any) -> Any:
    np = sys.modules["numpy"]
    dtype = _dtype(enc, value)
    stored = {"$": "ndarray", "dtype": dtype, "shape": list(value.shape)}
    if not value.flags.c_contiguous and value.flags.f_contiguous:
        stored["order"] = "F"
        value = value.T
    # Dates have no buffer of their own and an array of nothing cannot be seen as bytes.
    plain = np.ascontiguousarray(value).reshape(-1)
    stored["v"] = enc.raw(plain.view(np.uint8).data if plain.nbytes else b"")
    return stored


def _dtype(enc: Encoding, value: Any) -> Any:
    """Return a dtype as text, or as what `numpy.lib.format` makes of one with fields."""
    np, dtype = sys.modules["numpy"], value.dtype
    if dtype.kind == "O":
        raise Unstorable("an array of Python objects has no stored form: use a list or another dtype")
    if dtype.hasobject or dtype.metadata or dtype.kind not in _KINDS or not dtype.itemsize:
        raise Unstorable(f"an array of dtype {dtype} has no stored form")
    stored = dtype.str if dtype.names is None else np.lib.format.dtype_to_descr(dtype)
    if dtype.names is None and np.dtype(stored).char != dtype.char:
        stored = stored[0] + dtype.char  # `longlong` is a type of its own, also where it is as long as `long`
    back = _dtype_of(np, stored)
    if back != dtype or back.type is not dtype.type:
        raise Unstorable(f"an array of dtype {dtype} has no stored form")
    return enc.shape(stored)


def _dtype_of(np: Any, stored: Any) -> Any:
    dtype = np.dtype(stored) if isinstance(stored, str) else np.lib.format.descr_to_dtype(stored)
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise ValueError(f"the dtype {dtype} has no stored form")
    return dtype


def _read_array(dec: Decoding, stored: dict[str, Any]) -> Any:
    np = package("numpy")
    dtype, raw = _dtype_of(np, stored["dtype"]), dec.raw(stored["v"])
    if raw:
        flat = np.frombuffer(raw, np.uint8).copy().view(dtype)
        return flat.reshape(stored["shape"], order=stored.get("order", "C"))
    if prod(stored["shape"]):
        raise ValueError("an array is empty and says it is not")
    return np.empty(stored["shape"], dtype, stored.get("order", "C"))


def _read_scalar(dec: Decoding, stored: dict[str, Any]) -> Any:
    np = package("numpy")
    return np.frombuffer(bytes(dec.raw(stored["v"])), _dtype_of(np, stored["dtype"]), 1)[0]


def _read_number(dec: Decoding, stored: dict[str, Any]) -> Any:
    return _dtype_of(package("numpy"), stored["dtype"]).type(stored["v"])


READERS: dict[str, Reader] = {
    "ndarray": _read_array,
    "numpy": _read_number,
    "numpy.raw": _read_scalar,
    "numpy.str_": lambda dec, stored: package("numpy").str_(stored["v"]),
    "numpy.bytes_": lambda dec, stored: package("numpy").bytes_(stored["v"]),
}
