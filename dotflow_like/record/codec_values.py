"""How the codec writes and reads the values of the language and of the standard library."""

from __future__ import annotations

import struct
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from itertools import islice
from math import isfinite, isnan
from typing import Any

from dotflow_like.record.codec_walk import (
    Decoding,
    Encoding,
    Reader,
    Unstorable,
    Writer,
    base64_of,
    bytes_of,
    has_plain_keys,
    is_clean,
    is_plain,
)

__all__ = ["READERS", "WRITERS", "late_writer"]

_FACTORIES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)
}
_NAN = "7ff8000000000000"


def late_writer(kind: type) -> Writer | None:
    """Return what writes instances of a standard class that is not loaded until somebody uses it."""
    module = str(kind.__module__).partition(".")[0]  # `pathlib._local` in some versions
    write = _LATE.get((module, kind.__name__))
    return write if write and getattr(sys.modules.get(module), kind.__name__, None) is kind else None


def items_of(owner: object) -> Callable[[int], tuple[str, str]]:
    """Return how to name the n-th item of a sequence."""
    return lambda n: ("", f"[{n}]")


def values_of(owner: Collection[Any]) -> Callable[[int], tuple[str, str]]:
    """Return how to name the n-th value of a mapping."""

    def where(n: int) -> tuple[str, str]:
        key = next(islice(owner, n, None))
        return "", f"[{repr(key)[:60] if is_plain((key,)) else f'<{type(key).__name__}>'}]"

    return where


def members_of(owner: object) -> Callable[[int], tuple[str, str]]:
    """Return how to name the n-th of what can be iterated only: members of a set, keys of a mapping."""
    return lambda n: ("list(", f")[{n}]")


def _no_attributes(value: object) -> None:
    if extra := getattr(value, "__dict__", None):
        raise Unstorable(f"it carries an attribute of its own, {next(iter(extra))!r}")


# --- writing ---


def _text(enc: Encoding, value: str) -> Any:
    if is_clean((value,)):
        return value
    return {"$": "str", "v": base64_of(value.encode("utf-8", "surrogatepass"))}


def _float(enc: Encoding, value: float) -> Any:
    if isfinite(value):
        return value
    if not isnan(value):
        return {"$": "float", "v": repr(value)}
    bits = struct.pack(">d", value).hex()
    return {"$": "float", "v": "nan" if bits == _NAN else bits}


def _listing(enc: Encoding, value: list[Any]) -> Any:
    return enc.each(value, value, items_of(value))


def _items(tag: str) -> Writer:
    return lambda enc, value: {"$": tag, "v": enc.each(value, value, items_of(value))}


def _members(tag: str) -> Writer:
    return lambda enc, value: {"$": tag, "v": list(enc.each(value, value, members_of(value)))}


def _dict(enc: Encoding, value: dict[Any, Any]) -> Any:
    if has_plain_keys(value):
        values = value.values()
        shaped = enc.each(value, values, values_of(value))
        return value if shaped is values else dict(zip(value, shaped, strict=True))
    return _pairs(enc, value, "dict")


def _pairs(enc: Encoding, value: dict[Any, Any], tag: str) -> dict[str, Any]:
    keys = enc.each(value, value.keys(), members_of(value))
    values = enc.each(value, value.values(), values_of(value))
    return {"$": tag, "k": list(keys), "v": list(values)}


def _mapping(tag: str) -> Writer:
    def write(enc: Encoding, value: dict[Any, Any]) -> Any:
        _no_attributes(value)
        return _pairs(enc, value, tag)

    return write


def _defaultdict(enc: Encoding, value: defaultdict[Any, Any]) -> Any:
    factory = value.default_factory
    name = getattr(factory, "__name__", "")
    if factory is not None and _FACTORIES.get(name) is not factory:
        raise Unstorable("its default_factory is no builtin type")
    return {**_pairs(enc, value, "defaultdict"), "factory": None if factory is None else name}


def _deque(enc: Encoding, value: deque[Any]) -> Any:
    _no_attributes(value)
    return {"$": "deque", "v": list(enc.each(value, value, items_of(value))), "max": enc.shape(value.maxlen)}


def _datetime(enc: Encoding, value: datetime) -> Any:
    if value.tzinfo is UTC or value.tzinfo is None:
        stored: dict[str, Any] = {"$": "datetime", "v": value.isoformat()}
    else:
        naive = value.replace(tzinfo=None).isoformat()
        stored = {"$": "datetime", "v": naive, "tz": enc.inside(value.tzinfo, ".tzinfo")}
    return {**stored, "fold": 1} if value.fold else stored


def _time(enc: Encoding, value: time) -> Any:
    stored: dict[str, Any] = {"$": "time", "v": value.replace(tzinfo=None).isoformat()}
    if value.tzinfo is not None:
        stored["tz"] = enc.inside(value.tzinfo, ".tzinfo")
    return {**stored, "fold": 1} if value.fold else stored


def _timezone(enc: Encoding, value: timezone) -> Any:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]  # what its own pickling uses
    return {"$": "timezone", "v": [offset.days, offset.seconds, offset.microseconds, *map(enc.shape, name)]}


def _zone(enc: Encoding, value: Any) -> Any:
    if value.key is None:
        raise Unstorable("a ZoneInfo read from a file has no name")
    return {"$": "ZoneInfo", "v": enc.shape(value.key)}


def _numbers(tag: str, *attributes: str) -> Writer:
    """Write a value that its constructor makes again of these attributes."""
    return lambda enc, value: {"$": tag, "v": [enc.shape(getattr(value, name)) for name in attributes]}


def _string(tag: str) -> Writer:
    """Write a value that its constructor makes again of its text."""
    return lambda enc, value: {"$": tag, "v": enc.shape(str(value))}


WRITERS: dict[type, Writer] = {
    str: _text,
    int: lambda enc, value: {"$": "int", "v": hex(value)},
    float: _float,
    complex: _numbers("complex", "real", "imag"),
    bytes: lambda enc, value: {"$": "bytes", "v": enc.raw(value)},
    bytearray: lambda enc, value: {"$": "bytearray", "v": enc.raw(value)},
    list: _listing,
    tuple: _items("tuple"),
    set: _members("set"),
    frozenset: _members("frozenset"),
    dict: _dict,
    OrderedDict: _mapping("OrderedDict"),
    Counter: _mapping("Counter"),
    defaultdict: _defaultdict,
    deque: _deque,
    range: _numbers("range", "start", "stop", "step"),
    datetime: _datetime,
    date: lambda enc, value: {"$": "date", "v": value.isoformat()},
    time: _time,
    timedelta: _numbers("timedelta", "days", "seconds", "microseconds"),
    timezone: _timezone,
}

_LATE: dict[tuple[str, str], Writer] = {
    ("decimal", "Decimal"): _string("Decimal"),
    ("fractions", "Fraction"): _numbers("Fraction", "numerator", "denominator"),
    ("uuid", "UUID"): _string("UUID"),
    ("zoneinfo", "ZoneInfo"): _zone,
    # A concrete path is one of the machine it is restored on: a pipeline may move from Linux to macOS.
    ("pathlib", "PosixPath"): _string("Path"),
    ("pathlib", "WindowsPath"): _string("Path"),
    ("pathlib", "PurePosixPath"): _string("PurePosixPath"),
    ("pathlib", "PureWindowsPath"): _string("PureWindowsPath"),
}


# --- reading ---


def _read_float(dec: Decoding, stored: dict[str, Any]) -> float:
    text = stored["v"]
    if text in {"nan", "inf", "-inf"}:
        return float(text)
    (number,) = struct.unpack(">d", bytes.fromhex(text))
    return float(number)


def _read_pairs(dec: Decoding, stored: dict[str, Any]) -> Any:
    return zip(stored["k"], stored["v"], strict=True)


def _read_counter(dec: Decoding, stored: dict[str, Any]) -> Counter[Any]:
    counter: Counter[Any] = Counter()
    counter.update(dict(_read_pairs(dec, stored)))
    return counter


def _read_datetime(dec: Decoding, stored: dict[str, Any]) -> datetime:
    value = datetime.fromisoformat(stored["v"])
    return _in_zone(value, stored) if len(stored) > 2 else value


def _read_time(dec: Decoding, stored: dict[str, Any]) -> time:
    value: time = _in_zone(time.fromisoformat(stored["v"]), stored)
    return value


def _in_zone(value: Any, stored: dict[str, Any]) -> Any:
    zone = stored.get("tz", value.tzinfo)
    if zone is not None and not isinstance(zone, tzinfo):
        raise ValueError("a time zone is expected")
    return value.replace(tzinfo=zone, fold=stored.get("fold", 0))


def _read_timezone(dec: Decoding, stored: dict[str, Any]) -> timezone:
    days, seconds, microseconds, *name = stored["v"]
    return timezone(timedelta(days, seconds, microseconds), *name)


def _made_by(module: str, name: str, *, spread: bool = False) -> Reader:
    """Read a value by calling a class of the standard library that is loaded on first use."""

    def read(dec: Decoding, stored: dict[str, Any]) -> Any:
        from importlib import import_module

        make = getattr(import_module(module), name)
        return make(*stored["v"]) if spread else make(stored["v"])

    return read


READERS: dict[str, Reader] = {
    "str": lambda dec, stored: bytes_of(stored["v"]).decode("utf-8", "surrogatepass"),
    "int": lambda dec, stored: int(stored["v"], 16),
    "float": _read_float,
    "complex": lambda dec, stored: complex(*stored["v"]),
    "bytes": lambda dec, stored: bytes(dec.raw(stored["v"])),
    "bytearray": lambda dec, stored: bytearray(dec.raw(stored["v"])),
    "tuple": lambda dec, stored: tuple(stored["v"]),
    "set": lambda dec, stored: set(stored["v"]),
    "frozenset": lambda dec, stored: frozenset(stored["v"]),
    "dict": lambda dec, stored: dict(_read_pairs(dec, stored)),
    "OrderedDict": lambda dec, stored: OrderedDict(_read_pairs(dec, stored)),
    "Counter": _read_counter,
    "defaultdict": lambda dec, stored: defaultdict(
        None if stored["factory"] is None else _FACTORIES[stored["factory"]], _read_pairs(dec, stored)
    ),
    "deque": lambda dec, stored: deque(stored["v"], stored["max"]),
    "range": lambda dec, stored: range(*stored["v"]),
    "datetime": _read_datetime,
    "date": lambda dec, stored: date.fromisoformat(stored["v"]),
    "time": _read_time,
    "timedelta": lambda dec, stored: timedelta(*stored["v"]),
    "timezone": _read_timezone,
    "ZoneInfo": _made_by("zoneinfo", "ZoneInfo"),
    "Decimal": _made_by("decimal", "Decimal"),
    "Fraction": _made_by("fractions", "Fraction", spread=True),
    "UUID": _made_by("uuid", "UUID"),
    "Path": _made_by("pathlib", "Path"),
    "PurePosixPath": _made_by("pathlib", "PurePosixPath"),
    "PureWindowsPath": _made_by("pathlib", "PureWindowsPath"),
}
