"""How the codec writes and reads instances of the program's own classes.

Stored is the class's name and its fields by name. Nothing of the class runs when one is restored: no
`__init__`, no validator; only defaults, for fields that are newer than the stored value.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from functools import cached_property, lru_cache
from types import MemberDescriptorType
from typing import Any

from dotflow_like.errors import CodecError
from dotflow_like.record.codec_walk import Decoding, Encoding, Reader, Unstorable, Writer
from dotflow_like.record.types import kind_of

__all__ = ["READERS", "why_not", "writer"]

_UNSET = object()
_MODEL = frozenset(f"__pydantic_{part}__" for part in ("fields_set", "extra", "private"))
_BUILTIN_BASES = (
    *(dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float, complex),
    *(BaseException, type),
)


def writer(cls: type, kind: str, name: str) -> Writer:
    """Return what writes the instances of a class of one of the kinds in `record.types`."""
    return {"dataclass": _dataclass, "enum": _enum, "namedtuple": _namedtuple, "model": _model}[kind](
        cls, name
    )


def why_not(cls: type) -> str:
    """Return why instances of a class of no such kind have no stored form."""
    name = f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    base = next((base for base in _BUILTIN_BASES if issubclass(cls, base)), None)
    if base in {None, type, BaseException}:
        return f"a {name} has no stored form"
    assert base is not None
    return f"it is a {name}, not a plain {base.__name__}, and would come back as one"


# --- writing ---


def _dataclass(cls: type, name: str) -> Writer:
    try:
        object.__new__(cls)
    except TypeError:  # what the builtin holds is in no field
        raise Unstorable(f"the dataclass {cls.__qualname__} is built on a builtin type") from None
    fields, own = _fields(cls), _attributes(cls)

    def write(enc: Encoding, value: Any) -> Any:
        _only(value, own)
        held = {field: getattr(value, field, _UNSET) for field in fields}
        for field in [field for field, item in held.items() if item is _UNSET]:
            info = fields[field]
            if info.init or not (info.default is info.default_factory is dataclasses.MISSING):
                raise Unstorable(f"its field {field!r} is not set")  # and would come back set, or not at all
            del held[field]
        names = list(held)
        items = enc.each(value, list(held.values()), lambda n: ("", f".{names[n]}"))
        return {"$": "dataclass", "t": name, "v": dict(zip(names, items, strict=True))}

    return write


def _enum(cls: type[enum.Enum], name: str) -> Writer:
    def write(enc: Encoding, value: enum.Enum) -> Any:
        member = value._name_
        if member is not None and cls._member_map_.get(member) is value:
            return {"$": "enum", "t": name, "v": enc.shape(member)}
        return {"$": "flag", "t": name, "v": enc.shape(value.value)}  # several flags at once

    return write


def _namedtuple(cls: Any, name: str) -> Writer:
    names: tuple[str, ...] = cls._fields
    allowed = _cached(cls)

    def write(enc: Encoding, value: tuple[Any, ...]) -> Any:
        _only(value, allowed)
        items = enc.each(value, tuple(value), lambda n: ("", f".{names[n]}"))
        return {"$": "namedtuple", "t": name, "v": dict(zip(names, items, strict=True))}

    return write


def _model(cls: Any, name: str) -> Writer:
    allowed = frozenset(cls.__pydantic_fields__) | _cached(cls) | _MODEL

    def write(enc: Encoding, value: Any) -> Any:
        _only(value, allowed)
        names = list(cls.__pydantic_fields__)
        for field in names:
            if field not in value.__dict__:
                raise Unstorable(f"its field {field!r} is not set")
        items = enc.each(value, [value.__dict__[field] for field in names], lambda n: ("", f".{names[n]}"))
        stored = {"$": "model", "t": name, "v": dict(zip(names, items, strict=True))}
        stored["set"] = sorted(value.__pydantic_fields_set__)
        for part in ("extra", "private"):
            attribute = f"__pydantic_{part}__"
            stored[part] = enc.inside(getattr(value, attribute), f".{attribute}")
        return stored

    return write


@lru_cache(maxsize=1024)
def _fields(cls: Any) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(cls)}


def _cached(cls: type) -> frozenset[str]:
    """Return the names under which a `cached_property` keeps what it can compute again."""
    return frozenset(
        name
        for owner in cls.__mro__
        for name, item in vars(owner).items()
        if isinstance(item, cached_property)
    )


def _attributes(cls: type) -> frozenset[str]:
    """Return the attributes a dataclass may have. `Box[int]()` notes its `[int]` on the instance."""
    return frozenset(_fields(cls)) | _cached(cls) | {"__orig_class__"}


@lru_cache(maxsize=1024)
def _slots(cls: Any) -> frozenset[str]:
    return frozenset(
        name
        for owner in cls.__mro__
        for name, item in vars(owner).items()
        if type(item) is MemberDescriptorType
    )


def _only(value: Any, allowed: frozenset[str]) -> None:
    """Refuse a value that carries more than its fields: it would come back without."""
    extra = set(getattr(value, "__dict__", ())) - allowed
    if not extra:
        extra = {name for name in _slots(value.__class__) - allowed if hasattr(value, name)}
    if extra:
        raise Unstorable(f"it carries {min(extra)!r}, an attribute that is none of its fields")


# --- reading ---


def _class(dec: Decoding, stored: dict[str, Any], kind: str) -> Any:
    cls = dec.type_of(stored["t"])
    if kind_of(cls) != kind:
        raise CodecError(f"{stored['t']!r} was stored as a {kind} and is one no more")
    return cls


def _gone(cls: type, names: set[str]) -> CodecError:
    return CodecError(
        f"the stored value has {', '.join(map(repr, sorted(names)))}, which {cls.__qualname__} has no more: "
        "put it back, or discard the stored result"
    )


def _new(cls: type, name: str) -> CodecError:
    return CodecError(
        f"the stored value has no {name!r}, which {cls.__qualname__} has now: give it a default, or discard "
        "the stored result"
    )


def _read_dataclass(dec: Decoding, stored: dict[str, Any]) -> Any:
    cls, values = _class(dec, stored, "dataclass"), stored["v"]
    fields = _fields(cls)
    if gone := values.keys() - fields.keys():
        raise _gone(cls, gone)
    value = object.__new__(cls)
    for name, field in fields.items():
        if name in values:
            object.__setattr__(value, name, values[name])
        elif field.default is not dataclasses.MISSING:
            object.__setattr__(value, name, field.default)
        elif field.default_factory is not dataclasses.MISSING:
            object.__setattr__(value, name, field.default_factory())
        elif field.init:
            raise _new(cls, name)
    return value


def _read_enum(dec: Decoding, stored: dict[str, Any]) -> Any:
    cls = _class(dec, stored, "enum")
    if stored["v"] not in cls.__members__:
        raise _gone(cls, {str(stored["v"])})
    return cls[stored["v"]]


def _read_namedtuple(dec: Decoding, stored: dict[str, Any]) -> Any:
    cls, values = _class(dec, stored, "namedtuple"), stored["v"]
    if gone := values.keys() - set(cls._fields):
        raise _gone(cls, gone)
    values = {**cls._field_defaults, **values}
    for name in cls._fields:
        if name not in values:
            raise _new(cls, name)
    return tuple.__new__(cls, [values[name] for name in cls._fields])


def _read_model(dec: Decoding, stored: dict[str, Any]) -> Any:
    cls, values = _class(dec, stored, "model"), stored["v"]
    fields, private = cls.__pydantic_fields__, stored.get("private")
    gone = values.keys() - fields.keys() | (private or {}).keys() - cls.__private_attributes__.keys()
    if gone:
        raise _gone(cls, gone)
    restored: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in values and field.is_required():
            raise _new(cls, name)
        restored[name] = values[name] if name in values else _default(field, restored)
    undefined = sys.modules["pydantic_core"].PydanticUndefined
    for name, attribute in cls.__private_attributes__.items():
        private = private or {}
        if name not in private and (default := attribute.get_default()) is not undefined:
            private[name] = default
    value = cls.__new__(cls)
    object.__setattr__(value, "__dict__", restored)
    object.__setattr__(value, "__pydantic_fields_set__", set(stored["set"]))
    object.__setattr__(value, "__pydantic_extra__", stored.get("extra"))
    object.__setattr__(value, "__pydantic_private__", private)
    return value


def _default(field: Any, restored: dict[str, Any]) -> Any:
    """Return the default of a model's field; its factory may ask for the fields before it."""
    if field.default_factory is None:
        return field.get_default()
    takes = getattr(field, "default_factory_takes_validated_data", False)
    return field.default_factory(restored) if takes else field.default_factory()


READERS: dict[str, Reader] = {
    "dataclass": _read_dataclass,
    "enum": _read_enum,
    "flag": lambda dec, stored: _class(dec, stored, "enum")(stored["v"]),
    "namedtuple": _read_namedtuple,
    "model": _read_model,
}
