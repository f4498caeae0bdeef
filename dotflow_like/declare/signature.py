"""What a function wants to be given, read from its signature once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import WRAPPER_ASSIGNMENTS, cached_property, partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from dotflow_like.model.context import TaskContext

__all__ = [
    "Parameter",
    "Role",
    "Signature",
    "accepts",
    "called",
    "gives_later",
    "looks_of",
    "names_of",
    "signature_of",
    "takes_first",
    "united",
]


class Role(Enum):
    """Who fills a parameter."""

    INITIAL = "initial_context"
    PREVIOUS = "previous_context"
    CONTEXT = "ctx"
    VALUE = "value"


class Parameter(NamedTuple):
    """One parameter: what it is called, who fills it, whether somebody must, and how it is given."""

    name: str
    role: Role
    required: bool
    positional_only: bool
    annotation: Any
    default: Any = None


@dataclass(frozen=True)
class Signature:
    """The parameters of a function that can be filled.

    Attributes:
        parameters: in order; `*args` and `**kwargs` are not among them.
        open_ended: whether any other name is taken too (`**kwargs`).
        inspectable: False for callables, written in C, that do not tell their parameters.
    """

    parameters: tuple[Parameter, ...]
    open_ended: bool
    inspectable: bool = True

    def get(self, name: str) -> Parameter | None:
        """Return the parameter of that name, None when there is none."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    @cached_property
    def values(self) -> tuple[Parameter, ...]:
        """The parameters a caller may bind."""
        return tuple(parameter for parameter in self.parameters if parameter.role is Role.VALUE)

    @cached_property
    def contexts(self) -> tuple[Parameter, ...]:
        """The parameters the run fills."""
        return tuple(parameter for parameter in self.parameters if parameter.role is not Role.VALUE)

    @cached_property
    def positional_only(self) -> tuple[Parameter, ...]:
        """The parameters that cannot be given by name."""
        return tuple(parameter for parameter in self.parameters if parameter.positional_only)


_read: WeakKeyDictionary[FunctionType, Signature] = WeakKeyDictionary()


def signature_of(function: Callable[..., Any], *, method: bool = False) -> Signature:
    """Read the signature of `function`, once; of a `method` without its first parameter."""
    if method or not isinstance(function, FunctionType):
        return _signature_of(function, method)
    found = _read.get(function)
    if found is None:
        found = _read[function] = _signature_of(function, method)
    return found


def _signature_of(function: Callable[..., Any], method: bool) -> Signature:
    try:
        parameters = list(_inspected(function).parameters.values())
    except (ValueError, TypeError):
        return Signature((), open_ended=True, inspectable=False)
    if method:
        parameters = parameters[1:]
    fillable = tuple(
        Parameter(
            name=parameter.name,
            role=_role_of(parameter, function),
            required=parameter.default is parameter.empty,
            positional_only=parameter.kind is parameter.POSITIONAL_ONLY,
            annotation=_annotation_of(parameter),
            default=parameter.default,
        )
        for parameter in parameters
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )
    return Signature(fillable, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters))


def looks_of(fn: Any, name: str) -> dict[str, Any]:
    """Return the attributes by which a wrapper looks like a function, as `functools.wraps` gives them."""
    looks = {word: getattr(fn, word) for word in WRAPPER_ASSIGNMENTS if hasattr(fn, word)}
    if "__annotations__" in WRAPPER_ASSIGNMENTS:  # before 3.14 the class's own would show through
        looks.setdefault("__annotations__", {})
    return {"__qualname__": name, "__module__": None} | looks | {"__name__": name, "__wrapped__": fn}


def united(signatures: Iterable[Signature]) -> Signature:
    """Return the signature of a thing that calls all of these, each with what it asks for by name."""
    parameters: dict[str, Parameter] = {}
    open_ended = False
    for signature in signatures:
        open_ended = open_ended or signature.open_ended
        for parameter in signature.parameters:
            known = parameters.get(parameter.name)
            if known is None or (parameter.required and not known.required):
                parameters[parameter.name] = parameter
    return Signature(tuple(parameters.values()), open_ended)


def accepts(function: Callable[..., Any], *words: str) -> bool:
    """Return whether `function` can be called with these by name, and no more; True if it is not written in Python."""
    try:
        signature = _inspected(function)
    except (ValueError, TypeError):
        return True
    if isinstance(function, BuiltinFunctionType):
        return True  # their signatures are not always told as they are
    try:
        signature.bind(**dict.fromkeys(words))
    except TypeError:
        return False
    return True


def takes_first(function: Callable[..., Any], *words: str) -> bool:
    """Return whether `function` can be called with one thing by position and these by name, and no more."""
    try:
        signature = _inspected(function)
    except (ValueError, TypeError):
        return True
    try:
        signature.bind(None, **dict.fromkeys(words))
    except TypeError:
        return False
    return True


def called(function: Callable[..., Any], signature: Signature, filled: Mapping[str, Any], *first: Any) -> Any:
    """Call a function by name, but for what is taken by position only; a default keeps the place of what is not filled.

    Args:
        function: the function.
        signature: its signature.
        filled: its arguments, by name.
        first: what it is given before them.
    """
    if not signature.positional_only:
        return function(*first, **filled)
    leading = list(signature.positional_only)
    while leading and leading[-1].name not in filled:
        leading.pop()
    named = dict(filled)
    positional = [named.pop(parameter.name, parameter.default) for parameter in leading]
    return function(*first, *positional, **named)


def gives_later(function: Any) -> bool:
    """Return whether calling `function` begins what it does, and no more: it is async, or a generator."""
    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    return any(is_one(each) for is_one in kinds for each in (function, getattr(function, "__call__", None)))  # noqa: B004  # to look into it


def names_of(function: Any) -> Mapping[str, Any]:
    """Return the global names the annotations of `function` are written in."""
    while not hasattr(function, "__globals__"):
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, type):
            function = function.__init__  # type: ignore[misc]  # only looked at
        else:
            function = type(function).__call__
            if not hasattr(function, "__globals__"):
                return {}
    return function.__globals__  # type: ignore[no-any-return]  # a function's are a dict


def _inspected(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # which evaluates annotations only now, and may find names missing
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _annotation_of(parameter: inspect.Parameter) -> Any:
    annotation = parameter.annotation
    return getattr(annotation, "__forward_arg__", annotation)


def _role_of(parameter: inspect.Parameter, function: Callable[..., Any]) -> Role:
    if parameter.name in ("initial_context", "previous_context", "ctx"):
        return Role(parameter.name)
    annotation = _annotation_of(parameter)
    if isinstance(annotation, str):
        annotation = _named(annotation.strip("'\""), names_of(function))
    return Role.CONTEXT if annotation is TaskContext else Role.VALUE


def _named(annotation: str, names: Mapping[str, Any]) -> Any:
    """Return what a plain or dotted name stands for; one imported for a type checker only is known by its end."""
    head, *path = annotation.split(".")
    if head not in names:
        return TaskContext if (path or [head])[-1] == TaskContext.__name__ else None
    found = names[head]
    for name in path:
        found = getattr(found, name, None)
    return found
