"""Fingerprints of values: equal for equal inputs, in every process, on every machine.

A value is written in a canonical form and the form is hashed. Each form begins with a word for its
type and a length, so that no two values share one and none runs into the next; what is unordered is
sorted by form; a long form enters the one around it as its digest, so that a value used many times is
written once. Types other than the plain ones are taken apart, by a table, into simpler values.
"""

from __future__ import annotations

import struct
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from enum import Enum, Flag
from functools import partial
from hashlib import blake2b
from typing import Any
from weakref import WeakKeyDictionary

from dotflow_like.errors import FingerprintError
from dotflow_like.model.context import Context
from dotflow_like.plan import frames
from dotflow_like.plan.source import is_stdlib, name_of, of_code

__all__ = ["of_code", "of_value"]

_MAX_DEPTH = 100  # containers in each other; a fixed number, so that the caller's stack does not decide


def of_value(value: object, *, where: str) -> str:
    """Return the fingerprint of a value.

    It depends on types and content only: not on `repr`, addresses, the hash seed, the order of dicts
    and sets, the directory or the Python version. Types count (`1`, `1.0` and `True` differ), a
    `Context` only by its value, a function by its code, name, defaults and closure.

    Args:
        value: what a task is given.
        where: how errors call it, such as "task 'fetch', parameter 'url'".

    Returns:
        32 hexadecimal digits.

    Raises:
        FingerprintError: something in the value has no stable form; names it, its place and the way out.
    """
    try:
        leaf = _LEAVES.get(type(value))
        form = leaf(value) if leaf is not None else _nested(value, _Walk())
    except _Refused as refusal:
        place = "".join(refusal.path).strip() or "the value"
        raise FingerprintError(
            f"{where}: {place} ({refusal.kind}) {refusal.reason}, so it cannot be told whether the input has "
            "changed; pass `fingerprint=` to the Manager to say yourself what identifies the inputs"
        ) from refusal.__cause__
    return blake2b(form, digest_size=16).hexdigest()


class _Refused(Exception):
    """Something has no canonical form; `path` grows towards the root while this rises."""

    def __init__(self, value: object, reason: str) -> None:
        self.kind = name_of(type(value))
        self.reason = reason
        self.path: list[str] = []


class _Walk:
    """What one walk through a value has entered and not left, and the long forms it has written."""

    def __init__(self) -> None:
        self.entered: set[int] = set()
        self.written: dict[int, tuple[object, bytes]] = {}  # with the value, so that its id stays its own


_Encode = Callable[[Any, _Walk], bytes]


def _each(values: Iterable[object], walk: _Walk, step: Callable[[int], str]) -> list[bytes]:
    """Return the forms of values; `step` says how to get to the n-th, for the path in an error."""
    forms: list[bytes] = []
    try:
        for value in values:
            leaf = _LEAVES.get(type(value))
            forms.append(leaf(value) if leaf is not None else _nested(value, walk))
    except _Refused as refusal:
        refusal.path.insert(0, step(len(forms)))
        raise
    return forms


def _nested(value: object, walk: _Walk) -> bytes:
    key = id(value)
    if key in walk.written:
        return walk.written[key][1]
    if key in walk.entered:
        raise _Refused(value, "contains itself")
    if len(walk.entered) >= _MAX_DEPTH:
        raise _Refused(value, f"is nested more than {_MAX_DEPTH} deep")
    walk.entered.add(key)
    try:
        form = _encoder(type(value))(value, walk)
    except _Refused:
        raise
    except RecursionError:
        raise _Refused(value, "is nested too deep") from None
    except Exception as error:  # a type's own code has run: properties, iterators, time zones
        raise _Refused(value, f"has no stable form ({type(error).__name__}: {error})") from error
    finally:
        walk.entered.discard(key)
    if len(form) > 256:
        form = b"#" + blake2b(form, digest_size=16).digest()
        walk.written[key] = value, form
    return form


def _pack(word: bytes, forms: list[bytes]) -> bytes:
    return b"%b(%d:" % (word, len(forms)) + b"".join(forms)


def _bytes(word: bytes, content: bytes | bytearray | memoryview) -> bytes:
    if len(content) > 1024:  # bytes; never copied around, and hashed as fast as they can be
        return b"%b#%d:" % (word, len(content)) + blake2b(content, digest_size=16).digest()
    return b"%b(%d:" % (word, len(content)) + content


def _text(text: str) -> bytes:
    return _bytes(b"str", text.encode("utf-8", "surrogatepass"))


def _float(number: float) -> bytes:
    return b"float:nan....." if number != number else b"float:" + struct.pack(">d", number)  # noqa: PLR0124


def _view(view: memoryview) -> bytes:
    flat = view.cast("B") if view.nbytes and view.c_contiguous else view.tobytes()
    return _pack(b"memoryview", [_text(f"{view.format}{view.shape}"), _bytes(b"bytes", flat)])


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"None;",
    type(...): lambda _: b"...;",
    bool: lambda flag: b"True;" if flag else b"False;",
    int: lambda number: b"int:%x;" % number,
    float: _float,
    complex: lambda number: b"complex:" + _float(number.real) + _float(number.imag),
    str: _text,
    bytes: lambda content: _bytes(b"bytes", content),
    bytearray: lambda content: _bytes(b"bytearray", content),
    memoryview: _view,
}


def _dict(value: dict[Any, Any], walk: _Walk) -> bytes:
    keys = list(value)
    forms = _each(keys, walk, lambda at: f" key {_step(keys[at])}")
    pairs = zip(forms, _each(value.values(), walk, lambda at: _step(keys[at])), strict=True)
    return _pack(b"dict", [form for pair in sorted(pairs) for form in pair])


def _step(key: object) -> str:
    short = type(key) is str or (isinstance(key, int) and abs(key) < 10**20)
    return f"[{key!r:.60}]" if short else f"[<{name_of(type(key))}>]"


_CONTAINERS: dict[type, _Encode] = {
    list: lambda value, walk: _pack(b"list", _each(value, walk, "[{}]".format)),
    tuple: lambda value, walk: _pack(b"tuple", _each(value, walk, "[{}]".format)),
    set: lambda value, walk: _pack(b"set", sorted(_each(value, walk, lambda _: "{...}"))),
    frozenset: lambda value, walk: _pack(b"frozenset", sorted(_each(value, walk, lambda _: "{...}"))),
    dict: _dict,
}


def _parted(word: str, parts: Mapping[str, object], walk: _Walk) -> bytes:
    """Return the form of something that is taken apart into named values, whose order does not count."""
    names = sorted(parts)
    forms = _each((parts[name] for name in names), walk, lambda at: f".{names[at]}")
    pairs = zip(map(_text, names), forms, strict=True)
    return _pack(b"object", [_text(word), *(form for pair in pairs for form in pair)])


def _function(fn: types.FunctionType) -> dict[str, object]:
    module = fn.__globals__.get("__name__")
    if is_stdlib(module):
        return {"name": f"{module}:{fn.__code__.co_qualname}"}
    code = of_code(fn)
    if code is None:
        raise _Refused(fn, "has no source to compare")
    cells = zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True)
    return {
        "name": name_of(fn),
        "code": code,
        "defaults": fn.__defaults__,
        "kwdefaults": fn.__kwdefaults__,
        "closure": {name: _cell(cell, fn) for name, cell in cells},
    }


def _cell(cell: types.CellType, fn: types.FunctionType) -> object:
    try:
        return ... if cell.cell_contents is fn else [cell.cell_contents]  # a recursive function names itself
    except ValueError:
        return None  # not yet assigned


def _enum(value: Enum) -> dict[str, object]:
    if not isinstance(value, Flag):
        return {"name": value.name}
    return {"names": {flag.name for flag in value}, "rest": value.value & ~sum(flag.value for flag in value)}


def _moment(value: Any) -> dict[str, object]:
    zone = value.tzinfo
    if zone is not None and (name_of(type(zone)) not in _PARTS or getattr(zone, "key", "") is None):
        zone = (name_of(type(zone)), value.utcoffset(), value.tzname())  # as far as it can be asked
    return {"local": value.replace(tzinfo=None, fold=0).isoformat(), "fold": value.fold, "zone": zone}


def _reduced(value: Any) -> dict[str, object]:
    return {"arguments": value.__reduce__()}


# By name, so that nothing is imported to compare with.
_PARTS: dict[str, Callable[[Any], Mapping[str, object]]] = {
    name_of(Context): lambda value: {"storage": value.storage},  # when and where it came to be is no input
    "array:array": lambda value: {"typecode": value.typecode, "items": value.tolist()},
    "builtins:builtin_function_or_method": lambda value: {"name": value.__qualname__, "of": value.__self__},
    "builtins:function": _function,
    "builtins:mappingproxy": lambda value: {"items": dict(value)},
    "builtins:method": lambda value: {"function": value.__func__, "of": value.__self__},
    "builtins:method_descriptor": lambda value: {"name": value.__qualname__, "of": value.__objclass__},
    "builtins:range": lambda value: {"start": value.start, "stop": value.stop, "step": value.step},
    "builtins:slice": lambda value: {"start": value.start, "stop": value.stop, "step": value.step},
    "collections:OrderedDict": lambda value: {"items": list(value.items())},
    "collections:defaultdict": lambda value: {"factory": value.default_factory, "items": dict(value)},
    "collections:deque": lambda value: {"items": list(value), "maxlen": value.maxlen},
    "datetime:date": lambda value: {"day": value.isoformat()},
    "datetime:datetime": _moment,
    "datetime:time": _moment,
    "datetime:timedelta": lambda value: {"days": value.days, "s": value.seconds, "us": value.microseconds},
    "datetime:timezone": lambda value: {"offset": value.utcoffset(None)},
    "decimal:Decimal": lambda value: value.as_tuple()._asdict(),
    "fractions:Fraction": lambda value: {"numerator": value.numerator, "denominator": value.denominator},
    "functools:_lru_cache_wrapper": lambda value: {"function": value.__wrapped__},
    "functools:partial": lambda value: {
        "function": value.func,
        "args": value.args,
        "keywords": value.keywords,
    },
    "operator:attrgetter": _reduced,
    "operator:itemgetter": _reduced,
    "operator:methodcaller": _reduced,
    "pathlib:PurePath": lambda value: {"path": value.as_posix()},
    "re:Pattern": lambda value: {"pattern": value.pattern, "flags": int(value.flags)},
    "types:SimpleNamespace": vars,
    "uuid:UUID": lambda value: {"int": value.int},
    "zoneinfo:ZoneInfo": lambda value: {"key": value.key},
}

_encoders: WeakKeyDictionary[type, _Encode] = WeakKeyDictionary()


def _encoder(cls: type) -> _Encode:
    encode = _encoders.get(cls)
    if encode is None:
        encode = _encoders[cls] = _find_encoder(cls)
    return encode


def _find_encoder(cls: type) -> _Encode:
    name = name_of(cls)
    if issubclass(cls, type):
        return lambda value, _: _bytes(b"type", name_of(value).encode("utf-8", "surrogatepass"))
    if issubclass(cls, types.ModuleType):
        return lambda value, _: _bytes(b"module", value.__name__.encode())
    if issubclass(cls, Enum):
        return lambda value, walk: _parted(f"enum {name}", _enum(value), walk)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):  # a named tuple; it has an order too
        names = cls._fields  # not `cls` itself, which the table must not keep alive
        word = f"{name}({','.join(names)})"
        return lambda value, walk: _parted(
            word, dict(zip(names, value, strict=True)) | _state(value, tuple), walk
        )
    for base in cls.__mro__:
        encode = _own_encoder(base)
        if encode is not None:
            return encode if base is cls else partial(_derived, base, encode)
    if hasattr(cls, "__dataclass_fields__"):
        return lambda value, walk: _parted(name, _dataclass(value), walk)
    if "pydantic.main:BaseModel" in map(name_of, cls.__mro__):
        return lambda value, walk: _parted(name, _pydantic(value), walk)
    return _refuse


def _own_encoder(cls: type) -> _Encode | None:
    """Return the encoder the tables have for a type itself."""
    if cls in _LEAVES:
        leaf = _LEAVES[cls]
        return lambda value, _: leaf(value)
    if cls in _CONTAINERS:
        return _CONTAINERS[cls]
    word = name_of(cls)
    if word in _PARTS:
        parts = _PARTS[word]
        return lambda value, walk: _parted(word, parts(value), walk)
    return _frame if cls.__module__.partition(".")[0] in frames.PACKAGES else None


def _derived(base: type, encode: _Encode, value: object, walk: _Walk) -> bytes:
    state = _parted("state", _state(value, base), walk)
    return _pack(b"derived", [_text(name_of(type(value))), encode(value, walk), state])


def _state(value: object, base: type) -> dict[str, object]:
    """Return the attributes that classes derived from `base` have given a value."""
    state = dict(getattr(value, "__dict__", ()))
    mro = type(value).__mro__
    for cls in mro[: mro.index(base)]:
        if not is_stdlib(cls.__module__):  # whose slots are caches
            slots = [
                name for name, member in vars(cls).items() if isinstance(member, types.MemberDescriptorType)
            ]
            state |= {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return state


def _dataclass(value: Any) -> dict[str, object]:
    # Only fields: a cached property is no input. A plain class below a dataclass has not declared its own.
    extra = {} if "__dataclass_fields__" in vars(type(value)) else getattr(value, "__dict__", {})
    return {
        field.name: getattr(value, field.name) for field in fields(value) if hasattr(value, field.name)
    } | extra


def _pydantic(value: Any) -> dict[str, object]:
    # Not private attributes: pydantic keeps clocks and caches there.
    declared = {name: getattr(value, name) for name in type(value).model_fields if hasattr(value, name)}
    return declared | (value.model_extra or {})


def _frame(value: object, walk: _Walk) -> bytes:
    found = frames.parts(value)
    return _parted(*found, walk) if found is not None else _refuse(value, walk)


def _refuse(value: object, _: _Walk) -> bytes:
    raise _Refused(value, "has no stable form")
