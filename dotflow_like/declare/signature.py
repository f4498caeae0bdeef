"""What a function wants to be given, read from its signature once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, NamedTuple

from dotflow_like.model.context import TaskContext

__all__ = ["Parameter", "Role", "Signature", "signature_of", "united"]


class Role(Enum):
    """Who fills a parameter."""

    INITIAL = "initial_context"
    PREVIOUS = "previous_context"
    CONTEXT = "ctx"
    VALUE = "value"


class Parameter(NamedTuple):
    """One parameter: what it is called, who fills it, and whether somebody must."""

    name: str
    role: Role
    required: bool
    positional_only: bool
    annotation: Any


class Signature(NamedTuple):
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

    def takes(self, role: Role) -> bool:
        """Return whether a parameter has this role."""
        return any(parameter.role is role for parameter in self.parameters)

    def names(self) -> list[str]:
        """Return the names a caller may bind."""
        return [parameter.name for parameter in self.parameters if parameter.role is Role.VALUE]


def signature_of(function: Callable[..., Any], *, method: bool = False) -> Signature:
    """Read the signature of `function`; of a `method` without its first parameter."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return Signature((), open_ended=True, inspectable=False)
    if method:
        parameters = parameters[1:]
    fillable = tuple(
        Parameter(
            name=parameter.name,
            role=_role_of(parameter),
            required=parameter.default is parameter.empty,
            positional_only=parameter.kind is parameter.POSITIONAL_ONLY,
            annotation=parameter.annotation,
        )
        for parameter in parameters
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )
    return Signature(fillable, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters))


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


def _role_of(parameter: inspect.Parameter) -> Role:
    if parameter.name in ("initial_context", "previous_context", "ctx"):
        return Role(parameter.name)
    annotation = parameter.annotation
    if annotation is TaskContext or (
        isinstance(annotation, str) and annotation.rpartition(".")[2] == TaskContext.__name__
    ):
        return Role.CONTEXT
    return Role.VALUE
