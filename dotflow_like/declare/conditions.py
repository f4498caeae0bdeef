"""Conditions: what is looked at right before a body, and may have it not begin."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from dotflow_like.declare.signature import Signature, called, gives_later, signature_of
from dotflow_like.errors import DeclarationError
from dotflow_like.model.signals import Cancel, Signal, Skip

__all__ = ["Condition", "asked_by", "condition_from", "extended"]

_ASKS: Final[Mapping[str, tuple[type[Signal], bool]]] = {
    "cancel_if": (Cancel, True),
    "skip_if": (Skip, True),
    "run_if": (Skip, False),
}
"""By word: what a condition asks for, and the answer at which it does."""

_OWN = __name__.partition(".")[0]


@dataclass(frozen=True, repr=False)
class Condition:
    """A condition of a task, or of each task of a workflow. A value; it can be sent wherever its function can.

    Its function is given by name what the body is given, and what nothing but the condition takes. A `**kwargs` of it
    stays empty.

    Attributes:
        word: `skip_if`, `run_if` or `cancel_if`.
        test: a bool, or a function that returns one.
    """

    word: str
    test: bool | Callable[..., Any]

    @cached_property
    def signature(self) -> Signature:
        """What its function wants to be given; nothing for a bool."""
        return signature_of(self.test) if callable(self.test) else Signature((), open_ended=False)

    def asks(self, given: Mapping[str, Any]) -> Signal | None:
        """Return what is to become of the task instead of running its body; None for nothing.

        Args:
            given: what there is to fill its parameters with, by name; there may be more.

        Raises:
            Exception: what its function raised, with a note that it was the condition.
        """
        signal, at = _ASKS[self.word]
        return signal(self.word) if self._holds(given) is at else None

    def _holds(self, given: Mapping[str, Any]) -> bool:
        if not callable(self.test):
            return self.test
        signature = self.signature
        wanted = {each.name: given[each.name] for each in signature.parameters if each.name in given}
        try:
            answer = called(self.test, signature, wanted)
            if inspect.isawaitable(answer):
                with suppress(AttributeError):
                    answer.close()  # type: ignore[attr-defined]  # else it would be said that nobody awaited it
                raise TypeError(f"it returned {type(answer).__name__}, which is to be awaited, and no answer")
            return bool(answer)
        except Exception as error:
            error.add_note(f"Raised by {self.word}, before the body began.")
            raise

    def __repr__(self) -> str:
        return f"{self.word}={self.test!r}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Condition, (self.word, self.test)


def condition_from(word: str, value: Any, where: str) -> Condition:
    """Return the condition that is declared by `word=value`.

    Raises:
        DeclarationError: it is neither a bool nor a function that returns one; the message begins with `where`.
    """
    way = "give True, False, or a function that returns one of them"
    if type(value).__module__.partition(".")[0] == _OWN:
        raise DeclarationError(
            f"{where}: {word} is {value!r}, and no task is called here; give a function with a parameter, as in "
            f"{word}=lambda found: not found, and fill that with the task's result: .bind(found=...)"
        )
    if not isinstance(value, bool) and (not callable(value) or isinstance(value, type)):
        raise DeclarationError(f"{where}: {word} is {value!r}; {way}")
    if gives_later(value):
        raise DeclarationError(f"{where}: {word} is {value!r}, which is async or a generator; {way}")
    return Condition(word, value)


def asked_by(conditions: Sequence[Condition], body: Signature, filled: Mapping[str, Any]) -> Signal | None:
    """Return what the first condition that asks for something asks for; None if none does.

    Args:
        conditions: in the order in which they are looked at.
        body: what the body itself wants to be given; a condition that shares a parameter gets the body's default.
        filled: what there is, by name.

    Raises:
        Exception: what a condition raises.
    """
    given = {each.name: each.default for each in body.parameters if not each.required} | dict(filled)
    for condition in conditions:
        signal = condition.asks(given)
        if signal is not None:
            return signal
    return None


def extended(body: Signature, conditions: Sequence[Condition]) -> Signature:
    """Return the signature of a body with what only its conditions take; of one name the body's own counts."""
    parameters = {each.name: each for each in body.parameters}
    for condition in conditions:
        for each in condition.signature.parameters:
            parameters.setdefault(each.name, each)
    return Signature(tuple(parameters.values()), body.open_ended, body.inspectable)
