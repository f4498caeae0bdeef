"""Where each parameter of a task comes from, decided by signature before anything runs."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from types import SimpleNamespace
from typing import Any, NamedTuple

from dotflow_like.declare.conditions import Condition
from dotflow_like.declare.signature import Parameter, Role, names_of
from dotflow_like.declare.task import Task
from dotflow_like.errors import PlanError, UnfilledParameter
from dotflow_like.model.context import Context
from dotflow_like.model.records import made

__all__ = ["Input", "Need", "Params", "Source", "body_inputs", "gathered", "inputs_of", "needs_of"]


class Source(Enum):
    """What fills a parameter; says what the payload of an `Input` is."""

    INITIAL = "initial"  # the task's initial context
    PREVIOUS = "previous"  # nothing: the result before it in its chain
    CONTEXT = "context"  # nothing: the task context
    CONSTANT = "constant"  # the value
    PARAM = "param"  # the value, coerced
    RESULT = "result"  # a `Need`
    GATHER = "gather"  # a list, tuple or dict with `Need`s in it
    ITEMS = "items"  # a `Need` or a tuple of constants, to iterate over


class Need:
    """Stands for the result of the task with this key until there is one."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key

    def __repr__(self) -> str:
        return f"Need({self.key!r})"


class Input(NamedTuple):
    """How one parameter of one task is filled."""

    name: str
    source: Source
    payload: Any = None


_RESULT = Source.RESULT
_BOUND = frozenset({Source.CONSTANT, Source.RESULT, Source.GATHER, Source.ITEMS})
_BY_ROLE = {Role.INITIAL: Source.INITIAL, Role.PREVIOUS: Source.PREVIOUS, Role.CONTEXT: Source.CONTEXT}


class Params:
    """A run's params: each is coerced to the annotation of the parameter that takes it.

    Coercion is pydantic's, loaded only when a value is not of the annotated type already.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self._used: set[str] = set()
        self._offered: set[str] = set()

    def take(self, parameter: Parameter, where: str, functions: Iterable[Any]) -> Any:
        """Return the value for `parameter`, of the type its annotation says.

        Args:
            parameter: the parameter.
            where: whose it is, for messages.
            functions: an annotation that is text is read where one of them was written.

        Raises:
            PlanError: the value cannot be made into that type.
        """
        self._used.add(parameter.name)
        value = self.values[parameter.name]
        annotation = parameter.annotation
        if isinstance(annotation, str):
            annotation = _resolved(functions, parameter)
        if annotation is inspect.Parameter.empty or annotation is Any or type(value) is annotation:
            return value
        return _coerced(value, annotation, f"{where}: params[{parameter.name!r}]")

    def offer(self, parameter: Parameter) -> None:
        """Note that a task could take this parameter, for the message about a name nobody takes."""
        self._offered.add(parameter.name)

    def check_all_used(self) -> None:
        """Raise `PlanError` if a param was given that no task takes."""
        for name in self.values:
            if name not in self._used:
                from difflib import get_close_matches

                near = get_close_matches(name, self._offered, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                takes = ", ".join(sorted(self._offered)) or "none"
                raise PlanError(f"params[{name!r}] fills nothing{hint} (parameters tasks take: {takes})")


Find = Callable[[Task[..., Any]], Need]
"""Returns what stands for the result of a task that another is bound to, or raises."""


def inputs_of(
    task: Task[..., Any], find: Find, params: Params, cancel_if: Condition | None = None
) -> tuple[Input, ...]:
    """Return how each parameter of `task` and its conditions is filled; those left to their defaults are not in it.

    Args:
        task: the task.
        find: finds the tasks it is bound to.
        params: the run's params.
        cancel_if: the workflow's condition; None for none.

    Raises:
        UnfilledParameter: a parameter is filled by nothing and has no default.
        PlanError: a param is of the wrong type.
    """
    signature, bound, mapped = task.signature, task.bound, task.mapped
    inputs: list[Input] = [
        made(Input, (name, _RESULT, find(value))) if type(value) is Task else _gathering(name, value, find)
        for name, value in bound.items()
    ]
    if mapped:
        inputs += [
            Input(name, Source.ITEMS, find(value) if isinstance(value, Task) else value)
            for name, value in mapped.items()
        ]
    if signature.contexts:
        inputs += [
            Input(parameter.name, _BY_ROLE[parameter.role], _initial(task, parameter.role))
            for parameter in signature.contexts
        ]
    if len(bound) + len(mapped) < len(signature.values) or signature.open_ended:
        inputs += _left_to_params(task, params)
    if cancel_if is not None:
        inputs += _of_workflow(cancel_if, task, params)
    return tuple(inputs)


def body_inputs(task: Task[..., Any], inputs: Iterable[Input]) -> list[Input]:
    """Return those of the inputs that are for the body, and not only for a condition.

    A body that takes any name is given whatever is bound.
    """
    own = task.own_signature
    names = {parameter.name for parameter in own.parameters}
    return [each for each in inputs if each.name in names or (own.open_ended and each.source in _BOUND)]


def _left_to_params(task: Task[..., Any], params: Params) -> Iterator[Input]:
    for parameter in task.signature.values:
        name = parameter.name
        if name in task.bound or name in task.mapped:
            continue
        params.offer(parameter)
        if name in params.values:
            yield Input(name, Source.PARAM, params.take(parameter, task.where, _functions(task, parameter)))
        elif parameter.required:
            whose = _owner(task, parameter)
            of_condition = f" of its {whose.word}" if whose else ""
            raise UnfilledParameter(
                f"{task.where}: nothing fills parameter {name!r}{of_condition}; fill it with a constant or another "
                f"task: .bind({name}=...), with the run's params={{{name!r}: ...}}, or give it a default. "
                "A value from the task before comes as previous_context, one given to the task as initial_context"
            )


def _of_workflow(condition: Condition, task: Task[..., Any], params: Params) -> Iterator[Input]:
    """Yield how the parameters of a workflow's condition are filled that the task does not share."""
    for parameter in condition.signature.parameters:
        name = parameter.name
        if name in task.bound or task.signature.get(name) is not None:
            continue
        if parameter.role is not Role.VALUE:
            yield Input(name, _BY_ROLE[parameter.role], _initial(task, parameter.role))
            continue
        params.offer(parameter)
        if name in params.values:
            where = f"{condition.word} of the workflow"
            yield Input(name, Source.PARAM, params.take(parameter, where, [condition.test]))
        elif parameter.required:
            raise UnfilledParameter(
                f"{condition.word} of the workflow: nothing fills parameter {name!r} before {task.where}; fill it with "
                f"the run's params={{{name!r}: ...}}, or give it a default. It can take ctx, previous_context and "
                "initial_context, and what each task is given by a name"
            )


def _owner(task: Task[..., Any], parameter: Parameter) -> Condition | None:
    """Return the condition that takes a parameter, None if the body itself does."""
    if task.own_signature.get(parameter.name) is not None:
        return None
    return next(each for each in task.conditions if each.signature.get(parameter.name) is not None)


def _functions(task: Task[..., Any], parameter: Parameter) -> list[Any]:
    condition = _owner(task, parameter)
    return [task.fn, *(method.fn for method in task.methods)] if condition is None else [condition.test]


def needs_of(each: Input) -> list[Need]:
    """Return the results an input waits for."""
    if each.source is Source.GATHER:
        members = each.payload.values() if type(each.payload) is dict else each.payload
        return [member for member in members if type(member) is Need]
    return [each.payload] if type(each.payload) is Need else []


def gathered(container: Any, replace: Callable[[Any], Any]) -> Any:
    """Return a copy of a list, tuple or dict with each of its values given to `replace`."""
    if type(container) is dict:
        return {key: replace(value) for key, value in container.items()}
    return type(container)(replace(value) for value in container)


def _initial(task: Task[..., Any], role: Role) -> Context | None:
    given = task.initial_context
    if role is not Role.INITIAL:
        return None
    return given if isinstance(given, Context) else Context(given)


def _gathering(name: str, value: Any, find: Find) -> Input:
    if type(value) in (list, tuple, dict):
        members = value.values() if type(value) is dict else value
        if any(isinstance(member, Task) for member in members):
            needed = gathered(value, lambda each: find(each) if isinstance(each, Task) else each)
            return Input(name, Source.GATHER, needed)
    return Input(name, Source.CONSTANT, value)


def _coerced(value: Any, annotation: Any, where: str) -> Any:
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        adapter = TypeAdapter[Any](annotation)
    except PydanticUserError:  # a class pydantic knows nothing of: an instance will do
        adapter = TypeAdapter[Any](annotation, config=ConfigDict(arbitrary_types_allowed=True))
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        wanted = annotation.__name__ if isinstance(annotation, type) else annotation
        raise PlanError(f"{where} is {value!r}, which is no {wanted}: {problem}") from None


def _resolved(functions: Iterable[Any], parameter: Parameter) -> Any:
    """Return what an annotation that is text stands for; `Any` where that cannot be told."""
    written = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    for function in functions:
        try:
            hints = typing.get_type_hints(written, dict(names_of(function)), include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError):  # names only a type checker sees
            continue
        return hints[parameter.name]
    return Any
