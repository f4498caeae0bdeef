"""`on_exception=`: what becomes of a task that raises, by exception, for a task or for a whole workflow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from dotflow_like.declare.signature import Role, gives_later, signature_of, takes_first
from dotflow_like.errors import DeclarationError, TaskFailure
from dotflow_like.model.context import TaskContext
from dotflow_like.model.records import TaskError
from dotflow_like.model.signals import Finish, Signal

__all__ = [
    "NO_REACTIONS",
    "Choice",
    "OnException",
    "Reactions",
    "Word",
    "chosen",
    "reaction_to",
    "reactions_from",
]

Word: TypeAlias = Literal["fail", "retry", "skip", "pause", "cancel"]
"""What a task that raised can become."""

Handler: TypeAlias = Callable[..., Any]
"""Given the exception, and `ctx` if it takes that, it returns a `Word`."""

Choice: TypeAlias = Word | Handler

OnException: TypeAlias = Choice | Mapping[Any, Choice] | Sequence[Choice | Mapping[Any, Choice]] | None
"""What `on_exception=` takes; the keys are exception classes, tuples of them, or matchers."""

_WORDS: Final = frozenset(get_args(Word))
_TOLD: Final = "'fail', 'retry', 'skip', 'pause' or 'cancel'"

Match: TypeAlias = tuple[type[BaseException], ...] | Callable[[BaseException], Any]


@dataclass(frozen=True, slots=True)
class Reactions:
    """What becomes of a task that raises. A value.

    Attributes:
        specific: exception classes, or a matcher, each with what is chosen for it; the newest first.
        blanket: what is chosen for every other exception; None for nothing.
    """

    specific: tuple[tuple[Match, Choice], ...] = ()
    blanket: Choice | None = None


NO_REACTIONS: Final = Reactions()
"""Those of a task, or a workflow, that says nothing."""


def reactions_from(value: Any, where: str) -> Reactions:
    """Return the reactions that `on_exception=value` declares.

    Raises:
        DeclarationError: a value that cannot work; the message begins with `where`.
    """
    specific: list[tuple[Match, Choice]] = []
    blanket: Choice | None = None
    for each in value if isinstance(value, list | tuple) else [value]:
        if isinstance(each, Mapping):
            specific += [(_match(key, where), _choice(chosen, where)) for key, chosen in each.items()]
        elif each is not None or value is not None:
            blanket = _choice(each, where)
    return Reactions(tuple(reversed(specific)), blanket) if specific or blanket is not None else NO_REACTIONS


def reaction_to(record: TaskError, task: Reactions, workflow: Reactions) -> Choice | None:
    """Return what is chosen for an error: a word, a handler that chooses, or None where nothing is declared.

    The task's own come before the workflow's, in each the specific before the blanket one, and of the specific
    the newest first.

    Args:
        record: the error. Of another process it is matched by the names of its classes.
        task: the task's reactions.
        workflow: the workflow's.

    Raises:
        Exception: what a matcher raises.
    """
    for reactions in (task, workflow):
        for match, choice in reactions.specific:
            if record.is_a(match) if isinstance(match, tuple) else match(exception_of(record)):
                return choice
        if reactions.blanket is not None:
            return reactions.blanket
    return None


def exception_of(record: TaskError) -> BaseException:
    """Return the exception of a record; a `TaskFailure` with its text where that could not be kept."""
    error = record.error
    return TaskFailure(f"{record.exception}: {record.message}") if error is None else error


def chosen(handler: Handler, error: BaseException, ctx: TaskContext | None) -> Signal | Word:
    """Return what a handler chooses: a word, or the signal it raised through `ctx`.

    Args:
        handler: the handler.
        error: the exception it chooses for.
        ctx: that of the attempt that raised it.

    Raises:
        DeclarationError: it chose what cannot be chosen.
        Exception: what the handler raises.
    """
    contexts = [each.name for each in signature_of(handler).parameters if each.role is Role.CONTEXT]
    told = f"on_exception handler {_name_of(handler)}"
    try:
        answer = handler(error, **dict.fromkeys(contexts, ctx))
    except Finish as signal:
        raise DeclarationError(
            f"{told} called ctx.finish(), but its task has failed; it can return {_TOLD}"
        ) from signal
    except Signal as signal:
        return signal.with_traceback(None)  # whose frames hold the call that has noted it
    if isinstance(answer, str) and answer in _WORDS:
        return answer  # type: ignore[return-value]  # it is one of them
    if inspect.isawaitable(answer):
        with suppress(AttributeError):
            answer.close()  # type: ignore[attr-defined]  # else it would be said that nobody has awaited it
        raise DeclarationError(
            f"{told} returned {type(answer).__name__}, which is to be awaited; it can return {_TOLD}"
        )
    raise DeclarationError(f"{told} returned {_shown(answer)}; it can return {_TOLD}")


def _match(key: Any, where: str) -> Match:
    classes = key if isinstance(key, tuple) else (key,)
    if all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in classes) and classes:
        return classes
    if isinstance(key, type | tuple) or not callable(key) or gives_later(key) or not takes_first(key):
        raise DeclarationError(
            f"{where}: on_exception has {key!r}; give an exception class, a tuple of them, or a function that is given "
            "the exception and returns True or False"
        )
    return key  # type: ignore[no-any-return]  # it is callable


def _choice(value: Any, where: str) -> Choice:
    if isinstance(value, str) and value in _WORDS:
        return value  # type: ignore[return-value]  # it is one of them
    hint = ""
    if isinstance(value, type) and issubclass(value, BaseException):
        hint = f"; for this exception only: {{{value.__name__}: 'skip'}}"
    elif callable(value) and not isinstance(value, type):
        contexts = [each.name for each in signature_of(value).parameters if each.role is Role.CONTEXT]
        if not gives_later(value) and takes_first(value, *contexts):
            return value  # type: ignore[no-any-return]  # it is callable
        hint = "; not an async one, and no generator" if gives_later(value) else ", and may take ctx"
    raise DeclarationError(
        f"{where}: on_exception is {value!r}; give {_TOLD}, or a function that is given the exception and returns one "
        f"of these{hint}"
    )


def _name_of(function: Any) -> str:
    return repr(getattr(function, "__qualname__", type(function).__name__))


def _shown(value: object) -> str:
    plain = value is None or isinstance(value, str | int | float)
    return f"{value!r:.80}" if plain else f"a value of type {type(value).__name__}"
