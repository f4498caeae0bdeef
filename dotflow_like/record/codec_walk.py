"""The walk over one value: what the writers and the readers of all the forms share."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Collection, Mapping
from math import isfinite
from types import NoneType
from typing import Any

from dotflow_like.errors import CodecError, CorruptCheckpoint

__all__ = ["Decoding", "Encoding", "Reader", "Unstorable", "Writer", "is_clean", "is_plain"]

DEPTH = 200
"""How deep containers may be nested: far below what the interpreter's own recursion allows."""

OUT_OF_BAND = 1024
"""From how many bytes on a buffer is stored beside the text instead of in it."""

PLAIN = frozenset({NoneType, bool, int, float, str})
"""The types JSON has words for, apart from a few of their values."""

BIG = 1 << 1000
"""Whole numbers from here on are stored in hexadecimal: Python limits how many decimal digits it reads."""

_FEW = 16  # up to so many values a loop is faster than the sets a big collection is judged by
_NUMBERS = frozenset({bool, int, float})


class Encoding:
    """One value on its way to JSON: what its containers' writers share."""

    __slots__ = ("_open", "_writer_of", "_writers", "buffers", "size")

    def __init__(self, writers: Mapping[type, Writer], writer_of: Callable[[type], Writer]) -> None:
        self._writers = writers
        self._writer_of = writer_of  # finds those that are in no table yet
        self._open: set[int] = set()  # the containers around the current value
        self.buffers: list[bytes | memoryview] = []
        self.size = 0

    def shape(self, value: Any) -> Any:
        """Return what JSON will say for a value: itself, or a tagged object."""
        kind = type(value)
        if kind is str:
            if value.isascii():
                return value
        elif kind is int:
            if -BIG < value < BIG:
                return value
        elif value is None or kind is bool:
            return value
        return (self._writers.get(kind) or self._writer_of(kind))(self, value)

    def each(
        self, owner: object, values: Collection[Any], where: Callable[[int], tuple[str, str]]
    ) -> Collection[Any]:
        """Return what JSON will say for each of the values inside `owner`.

        Args:
            owner: the container; it must not be one of those around it.
            values: what it holds.
            where: gives, for a position in `values`, what to write before and after the owner's path.

        Returns:
            `values` itself if JSON can say them as they are, else a list.
        """
        if is_plain(values):
            return values
        if id(owner) in self._open:
            raise Unstorable("it contains itself")
        if len(self._open) >= DEPTH:
            raise Unstorable(f"it is nested more than {DEPTH} deep")
        self._open.add(id(owner))
        shaped: list[Any] = []
        add, shape = shaped.append, self.shape
        try:
            for value in values:
                add(shape(value))
        except Unstorable as refusal:
            refusal.path.append(where(len(shaped)))
            raise
        finally:
            self._open.discard(id(owner))
        return shaped

    def inside(self, value: object, suffix: str) -> Any:
        """Return what JSON will say for one value that is a part of another, at a path of its own."""
        try:
            return self.shape(value)
        except Unstorable as refusal:
            refusal.path.append(("", suffix))
            raise

    def raw(self, buffer: bytes | bytearray | memoryview) -> str | list[int]:
        """Return what JSON will say for raw bytes: base64 if small, else where they lie."""
        length = memoryview(buffer).nbytes
        if length < OUT_OF_BAND:
            return base64_of(buffer)
        self.buffers.append(buffer if not isinstance(buffer, bytearray) else bytes(buffer))
        self.size += length
        return [self.size - length, length]


class Decoding:
    """One stored value on its way back: what its readers share."""

    __slots__ = ("_readers", "buffers", "type_of", "used")

    def __init__(
        self, readers: Mapping[str, Reader], type_of: Callable[[str], type], buffers: bytes | memoryview = b""
    ) -> None:
        self._readers = readers
        self.type_of = type_of
        self.buffers = memoryview(buffers)
        self.used = 0

    def restore(self, stored: dict[str, Any]) -> Any:
        """Return the value a JSON object stands for."""
        if "$" not in stored:
            return stored
        read = self._readers.get(stored["$"])
        if read is None:
            raise CodecError(f"the stored value has a form this version does not know: {stored['$']!r}")
        return read(self, stored)

    def raw(self, where: str | list[int]) -> bytes | memoryview:
        """Return raw bytes, from their base64 or from where they lie."""
        if isinstance(where, str):
            return bytes_of(where)
        offset, length = where
        if offset < 0 or length < 0 or offset + length > len(self.buffers):
            raise CorruptCheckpoint("the stored value has another length than it says")
        self.used += length
        return self.buffers[offset : offset + length]


Writer = Callable[[Encoding, Any], Any]
"""Turns a value into what JSON will say for it."""

Reader = Callable[[Decoding, dict[str, Any]], Any]
"""Turns a tagged JSON object, its parts already restored, into the value it stands for."""


class Unstorable(Exception):
    """A value has no stored form: the reason, and the path to it, innermost part first."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path: list[tuple[str, str]] = []


def is_clean(texts: Collection[str]) -> bool:
    """Return whether no text holds a surrogate: JSON takes a pair of them for one character."""
    joined = "".join(texts)
    if joined.isascii():
        return True
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain(values: Collection[Any]) -> bool:
    """Return whether JSON can say all of the values as they are, without a loop in Python for most."""
    if len(values) <= _FEW:
        for value in values:
            kind = type(value)
            if kind is str:
                if not (value.isascii() or is_clean((value,))):
                    return False
            elif kind is int:
                if not -BIG < value < BIG:
                    return False
            elif kind is float:
                if not isfinite(value):
                    return False
            elif value is not None and kind is not bool:
                return False
        return True
    kinds = set(map(type, values))
    if not kinds <= PLAIN:
        return False
    if str in kinds and not is_clean(values if len(kinds) == 1 else [v for v in values if type(v) is str]):
        return False
    if int not in kinds and float not in kinds:
        return True
    try:
        return all(map(isfinite, values if kinds <= _NUMBERS else [v for v in values if type(v) in _NUMBERS]))
    except OverflowError:  # a whole number beyond every float
        return False


def has_plain_keys(value: dict[Any, Any]) -> bool:
    """Return whether JSON can say the keys of a dict as they are."""
    if len(value) <= _FEW:
        for key in value:
            if type(key) is not str or key == "$" or not (key.isascii() or is_clean((key,))):
                return False
        return True
    return set(map(type, value)) == {str} and "$" not in value and is_clean(value)


def base64_of(data: bytes | bytearray | memoryview) -> str:
    """Return bytes as base64."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def bytes_of(text: str) -> bytes:
    """Return the bytes of a base64 text."""
    return binascii.a2b_base64(text, strict_mode=True)
