"""`@task`: a function and its policies, as a value."""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, MethodType
from typing import Any, Generic, ParamSpec, Self, TypeVar, Unpack, overload

from dotflow_like.declare.classes import methods_of, signature_of_class
from dotflow_like.declare.conditions import Condition, extended
from dotflow_like.declare.options import Options, checked
from dotflow_like.declare.reactions import NO_REACTIONS, Reactions
from dotflow_like.declare.signature import Role, Signature, looks_of, signature_of
from dotflow_like.errors import DeclarationError
from dotflow_like.model.policy import RetryPolicy

__all__ = ["Task", "as_task", "listed_for", "task"]

P = ParamSpec("P")
R = TypeVar("R")

_ONCE = RetryPolicy()
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_DEFAULTS: Mapping[str, Any] = {
    "task_id": None,
    "group_name": None,
    "initial_context": None,
    "callback": None,
    "policy": _ONCE,
    "timeout": None,
    "isolate": False,
    "version": None,
    "bound": _NOTHING,
    "mapped": _NOTHING,
    "earlier": (),
    "reactions": NO_REACTIONS,
    "conditions": (),
}
_SHOWN = {"reactions": "on_exception", "conditions": "skip_if or run_if"}


class Task(Generic[P, R]):
    """A decorated function and its policies: immutable, without the state of any run.

    Made by `task`, never directly. Calling it calls the function. Every method returns a new value.

    Attributes:
        fn: the function, or the class.
        name: what it is called; the function's name unless given.
        task_id: its key in every run, None to derive one from the name.
        group_name: the group it belongs to, None for none.
        initial_context: the value its `initial_context` parameter gets.
        callback: called with `task=` after it ended.
        policy: what to do when an attempt fails.
        timeout: seconds an attempt may take, None for no limit.
        isolate: whether it runs in a worker process in every mode.
        version: stands for the code in the comparison on resume, None to take the source.
        bound: parameters and what fills them: a constant, a task, or a container of tasks.
        mapped: parameters and what they iterate over: an iterable or a task.
        earlier: tasks this one runs after without needing their results.
        reactions: what becomes of it when it raises, by exception: what `on_exception=` says.
        conditions: what is looked at right before its body: what `skip_if=` or `run_if=` says.
        methods: of a decorated class, its tasks in the order they run.
        origin: the task this one was derived from.
    """

    fn: Callable[P, R]
    name: str
    task_id: str | None
    group_name: str | None
    initial_context: Any
    callback: Callable[..., Any] | None
    policy: RetryPolicy
    timeout: float | None
    isolate: bool
    version: str | None
    bound: Mapping[str, Any]
    mapped: Mapping[str, Any]
    earlier: tuple[Task[..., Any], ...]
    reactions: Reactions
    conditions: tuple[Condition, ...]
    methods: tuple[Task[..., Any], ...]
    origin: Task[P, R] | None
    _signature: Signature | None
    _own_signature: Signature | None

    def __init__(self, fn: Callable[P, R]) -> None:
        if not callable(fn):
            raise DeclarationError(f"{fn!r} cannot be a task: it is not callable; give a function or a class")
        name = getattr(fn, "__name__", "") or getattr(getattr(fn, "func", fn), "__name__", type(fn).__name__)
        self.__dict__.update(
            _DEFAULTS,
            fn=fn,
            name="lambda" if name == "<lambda>" else name,
            methods=methods_of(fn, Task) if isinstance(fn, type) else (),
            origin=None,
            _signature=None,
            _own_signature=None,
            **looks_of(fn, name),
        )

    def _derive(self, **changes: Any) -> Self:
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, origin=self, **changes)
        return made

    def _own_options(self) -> list[str]:
        own = {word: getattr(self, word) for word in _DEFAULTS}
        return [
            _SHOWN.get(word, word)
            for word, default in _DEFAULTS.items()
            if own[word] is not default and (default is None or own[word] != default)
        ]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a task is a value and cannot be changed: use .with_options({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a task is a value and cannot be changed; {name} stays")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.fn(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Any: ...
    def __get__(self, instance: object, owner: type | None = None) -> Any:
        # A decorated method stays callable on an instance. Not typed more closely: type checkers take the
        # field of a dataclass that is a task for such a method too.
        return self if instance is None else MethodType(self, instance)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        # a decorated class can be derived from
        return (self.fn,)

    def __repr__(self) -> str:
        return f"<task {self.task_id or self.name!r}>"

    def __copy__(self) -> Self:
        return self  # a value; and dependencies are found by identity

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        listed = listed_for(self.fn)
        if listed is self:
            return _listed, (self.fn.__module__, self.fn.__qualname__)
        state = {word: self.__dict__[word] for word in ("fn", "name", "methods", "origin", *_DEFAULTS)}
        state["bound"], state["mapped"] = dict(self.bound), dict(self.mapped)
        if listed is not None:
            state["fn"], state["methods"] = listed, ()
        return _restore, (state,)

    @property
    def signature(self) -> Signature:
        """What the function wants to be given, and beside that its conditions."""
        if self._signature is None:
            methods = [each.fn for each in self.methods]
            found = signature_of_class(self.fn, methods) if methods else signature_of(self.fn)
            if self.conditions:
                found = extended(found, self.conditions)
            self.__dict__["_signature"] = found  # a cache: the value it is taken from cannot change
            return found
        return self._signature

    @property
    def own_signature(self) -> Signature:
        """What the function wants to be given."""
        if not self.conditions:
            return self.signature
        if self._own_signature is None:
            found = self._derive(conditions=(), _signature=None).signature
            self.__dict__["_own_signature"] = found
            return found
        return self._own_signature

    @property
    def where(self) -> str:
        """How messages call this task."""
        return f"task {self.task_id or self.name!r}"

    def origins(self) -> Iterator[Task[P, R]]:
        """Yield the tasks this one was derived from, the nearest first."""
        origin = self.origin
        while origin is not None:
            yield origin
            origin = origin.origin

    def bind(self, /, **values: Any) -> Self:
        """Fill parameters: with a constant, or with another task's result, which is also a dependency.

        A list, tuple or dict may hold tasks one level deep; it is filled with their results.

        Raises:
            TypeError: the function has no such parameter, or it is filled already.
        """
        self._check_names("bind", values)
        return self._derive(bound=MappingProxyType({**self.bound, **values}))

    def map(self, /, **iterables: Any) -> Self:
        """Call the function once per item; the result is the list of results, in item order.

        Each parameter is given an iterable, or a task whose result is one. Several go together and
        must be of one length. Retry, timeout and checkpoint are each item's own.

        Raises:
            TypeError: the function has no such parameter, it is filled already, or a value is not iterable.
        """
        if not iterables:
            raise TypeError(f"{self.where}: map needs a parameter to iterate over, as in .map(x=[1, 2, 3])")
        self._check_names("map", iterables)
        fixed: dict[str, Any] = {}
        for name, value in iterables.items():
            if isinstance(value, Task):
                fixed[name] = value
            elif isinstance(value, str | bytes) or not isinstance(value, Iterable):
                raise TypeError(
                    f"{self.where}: map({name}=...) got {type(value).__name__}; "
                    "give a list or another iterable of items, or a task that returns one"
                )
            else:
                fixed[name] = tuple(value)
                if any(isinstance(each, Task) for each in fixed[name]):
                    raise TypeError(
                        f"{self.where}: map({name}=...) got tasks as items; give a task whose result is the "
                        f"list, or .bind({name}=[...]) for one call with all their results"
                    )
        return self._derive(mapped=MappingProxyType({**self.mapped, **fixed}))

    def after(self, *tasks: Task[..., Any] | str) -> Self:
        """Run after these tasks, without needing their results."""
        return self._derive(earlier=(*self.earlier, *(as_task(each, "after()") for each in tasks)))

    def with_options(self, **options: Unpack[Options]) -> Self:
        """Return the task with other options; those not given stay. The options are those of `task`.

        Raises:
            DeclarationError: a value that cannot work.
            TypeError: an option that does not exist, or two that contradict each other.
        """
        where = self.where
        changes = checked(options, where, self.policy, self.reactions, self.conditions)
        if "conditions" not in changes:
            return self._derive(**changes)
        made = self._derive(**changes, _signature=None)
        for name in (*self.bound, *self.mapped):
            parameter = made.signature.get(name)
            if not made.signature.open_ended if parameter is None else parameter.role is not Role.VALUE:
                raise TypeError(
                    f"{where}: {name!r} is filled already, and with these conditions nothing takes it"
                )
        return made

    def _check_names(self, word: str, values: Mapping[str, Any]) -> None:
        for name in values:
            parameter = self.signature.get(name)
            if name in self.mapped or (word == "map" and name in self.bound):
                raise TypeError(f"{self.where}: {word}({name}=...): {name!r} is filled already")
            if parameter is None and not self.signature.open_ended:
                has = ", ".join(parameter.name for parameter in self.signature.values) or "none to fill"
                raise TypeError(f"{self.where}: {word}({name}=...): no parameter {name!r}; it has: {has}")
            if parameter is not None and parameter.role is not Role.VALUE:
                how = " (use the option initial_context=)" if parameter.role is Role.INITIAL else ""
                raise TypeError(f"{self.where}: {word}({name}=...): {name!r} is filled by the run{how}")


@overload
def task(fn: Callable[P, R], /, **options: Unpack[Options]) -> Task[P, R]: ...
@overload
def task(fn: str, /, **options: Unpack[Options]) -> Task[..., Any]: ...
@overload
def task(**options: Unpack[Options]) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Any = None, /, **options: Any) -> Any:
    """Declare a function, an async function or a class as a task.

    Bare (`@task`), with options (`@task(retry=3)`) or called (`task(fn, name="x")`); a string
    `"package.module:attr"` names a function elsewhere.

    Args:
        fn: the function, the class, or the string.
        options: those that follow.
        name: what the task is called. Default: the function's name.
        task_id: its key in every run. Default: the name, `name#2` for its second use.
        group_name: tasks of one group run one after another, each seeing the one before.
        initial_context: the value an `initial_context` parameter gets.
        callback: called with `task=` (a `TaskRun`) after the task ended; not when it was restored.
        retry: attempts in all, or a `RetryPolicy`. Default 1.
        retry_delay: seconds before the second attempt. Default 0.
        backoff: False, True (each delay twice the one before), or the factor.
        timeout: seconds an attempt may take. Default: no limit.
        retry_on: exception class, or tuple of classes, that is tried again. Default `Exception`.
        isolate: run it in a worker process whatever the mode, where it can be stopped for good and what
            becomes of its process harms nobody else. Default False.
        version: stands for the code when a resumed run compares it. Default: the source.
        on_exception: what becomes of it when an attempt raises. A word: `fail`; `retry`, within the attempts and by the
            delays of `retry`, whatever `retry_on` says; `skip`, without a result, and the run goes on; `pause` or
            `cancel`: the run ends so. Or a function that is given the exception, and `ctx` if it takes that, and
            returns a word or calls `ctx.retry(after=...)` or another signal. Or a dict of these, by exception
            class, tuple of classes, or function that is given the exception and returns whether it is meant; or a
            list of all that. What a dict says counts before the rest, what is written last before what is written
            first, all of it before what the workflow says. Default: as `retry` says.
        skip_if: a bool, or a function that returns one, looked at right before the body: if it holds, the task is
            skipped. Its parameters are filled by name, like the task's own and with the same values; `.bind`, `.map`
            and the run's params fill those that only it has. Not async.
        run_if: its inverse: the task is skipped unless it holds.

    Raises:
        DeclarationError: a value that cannot work.
        TypeError: an option that does not exist, or two that contradict each other.
    """
    if fn is None:
        checked(options, "@task")  # a wrong word fails on its own line, not on the function's
        return lambda function: task(function, **options)
    made = as_task(fn, "task()") if isinstance(fn, str | Task) else Task(fn)
    return made.with_options(**options) if options else made


def as_task(thing: object, where: str) -> Task[..., Any]:
    """Return the task `thing` is or names (`"package.module:attr"`); `where` is for the message.

    Raises:
        DeclarationError: it is neither, or there is no such module or attribute.
    """
    if isinstance(thing, Task):
        return thing
    if isinstance(thing, str):
        return _named(thing)
    kind = f"the function {thing.__name__!r}" if inspect.isroutine(thing) else repr(thing)
    way = f"decorate it with @task, or wrap it: task({getattr(thing, '__name__', 'fn')})"
    if not callable(thing):
        way = "give functions decorated with @task, or strings like 'package.module:attr'"
    raise DeclarationError(f"{where} is {kind}, which is no task; {way}")


@functools.cache  # one string is one task, so that it can be listed here and named there
def _named(reference: str) -> Task[..., Any]:
    module, _, path = reference.partition(":")
    if not all(module.split(".")) or not all(path.split(".")):
        raise DeclarationError(f"{reference!r} names no task; write it as 'package.module:attr'")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise DeclarationError(f"{reference!r}: there is no module {error.name!r} to import") from error
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise DeclarationError(f"{reference!r}: {module!r} has no {path!r}") from None
    if not callable(found):
        raise DeclarationError(f"{reference!r} is {found!r}, which is neither a task nor a function")
    return found if isinstance(found, Task) else Task(found)


def listed_for(fn: Any) -> Task[..., Any] | None:
    """Return the task that stands in a module under the name of `fn`, so that a pickle cannot name `fn` itself."""
    module = getattr(fn, "__module__", None)
    # a script's own functions, by whatever name it goes, have to go by value, which is cloudpickle's work
    if module is None or sys.modules.get(module) is sys.modules.get("__main__"):
        return None
    found: Any = sys.modules.get(module)
    for name in getattr(fn, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, Task) and found.fn is fn else None


def _listed(module: str, path: str) -> Any:
    return operator.attrgetter(path)(importlib.import_module(module))


def _restore(state: dict[str, Any]) -> Task[..., Any]:
    if isinstance(state["fn"], Task):
        state["fn"], state["methods"] = state["fn"].fn, state["fn"].methods
    state["bound"], state["mapped"] = MappingProxyType(state["bound"]), MappingProxyType(state["mapped"])
    made: Task[..., Any] = object.__new__(Task)
    name = getattr(state["fn"], "__name__", state["name"])
    made.__dict__.update(looks_of(state["fn"], name), **state, _signature=None, _own_signature=None)
    return made
