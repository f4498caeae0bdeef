"""What a body notes about its attempt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Self

__all__ = ["REASON", "SIGNAL", "SIGNAL_REASON", "Metadata"]

REASON = "reason"
"""The key under which an attempt that follows a failed one has the reason."""

SIGNAL = "signal"
"""The key under which an attempt that ended by a signal has its word: what its body, a policy or somebody outside said."""

SIGNAL_REASON = "signal_reason"
"""The key under which it has the reason, if there is one."""

_DEPTH = 100
"""How deep lists and dicts may be nested: far below what the interpreter's own recursion allows."""
_BITS = 1000
"""Of a whole number: Python limits how many decimal digits it reads."""
_PLACE = 200
"""Characters of a path that are shown."""
_PLAIN = (
    "give None, a bool, an int, a finite float, a str, or a list or a dict with text keys of these; "
    "`list(...)` makes one of a tuple or a set, `str(...)` a text of anything else"
)


class Metadata(dict[str, Any]):
    """What a body notes about its attempt, as `ctx.attempt.metadata`: a dict of plain data.

    Its values are None, bools, ints, finite floats, texts, and lists and dicts with text keys of these. They
    are copied when they are assigned, and anything else is a TypeError then; not so what it is made of.
    """

    __slots__ = ()

    def __setitem__(self, key: str, value: Any) -> None:
        try:
            _check_keys((key,))
            copied = _copied(value, 0)
        except _NotPlainError as refusal:
            raise TypeError(_told(key, refusal)) from None
        super().__setitem__(key, copied)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`; assign it `default` before if it has none."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *given: Any, **named: Any) -> None:
        """Assign all that `dict(*given, **named)` holds."""
        for key, value in dict(*given, **named).items():
            self[key] = value

    def __ior__(self, given: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> Self:  # type: ignore[override,misc]  # a dict's, which takes more
        self.update(given)
        return self

    def settle(self) -> str | None:
        """Keep copies of what is plain data, and drop the rest: a list may have been changed since it was assigned.

        Returns:
            What is wrong with the first that was dropped; None if none was.
        """
        problem = None
        for key, value in dict(self).items():
            try:
                super().__setitem__(key, _copied(value, 0))
            except _NotPlainError as refusal:
                problem = problem or _told(key, refusal)
                self.pop(key, None)
        return problem

    def plain(self) -> dict[str, Any]:
        """Return a copy of what is plain data, as a dict like any."""
        copy = Metadata(self)
        copy.settle()
        return dict(copy)

    def __reduce__(self) -> tuple[Any, ...]:
        return Metadata, (dict(self),)


class _NotPlainError(Exception):
    """A value that is no plain data.

    Attributes:
        path: where it is in what was assigned.
    """

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.path = ""


def _told(key: object, refusal: _NotPlainError) -> str:
    place = f"[{key!r}]{refusal.path}" if type(key) is str else ""
    place = place if len(place) <= _PLACE else f"{place[:_PLACE]}…"
    return f"ctx.attempt.metadata{place} {refusal}; {_PLAIN}"


def _copied(value: Any, depth: int) -> Any:
    """Return a copy of plain data; exact types only, so that what is read back is what was written."""
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if kind is int:
        if value.bit_length() <= _BITS:
            return value
        raise _NotPlainError(f"is an int of more than {_BITS} bits")
    if kind is float:
        if isfinite(value):
            return value
        raise _NotPlainError(f"is {value}")
    if kind is not list and kind is not dict:
        raise _NotPlainError(f"is of type {kind.__name__}")
    if depth == _DEPTH:
        raise _NotPlainError(f"is nested more than {_DEPTH} deep")
    given = value.copy()  # at once: a thread of the body may be changing it
    if kind is dict:
        _check_keys(given)
    copies: list[Any] = []
    at: Any = None
    try:
        for at in range(len(given)) if kind is list else given:
            copies.append(_copied(given[at], depth + 1))
    except _NotPlainError as refusal:
        refusal.path = f"[{at!r}]{refusal.path}"
        raise
    return copies if kind is list else dict(zip(given, copies, strict=True))


def _check_keys(keys: Iterable[object]) -> None:
    for key in keys:
        if type(key) is not str:
            raise _NotPlainError(f"has a key of type {type(key).__name__}")
