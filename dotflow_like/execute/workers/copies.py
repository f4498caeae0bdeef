"""Copies of functions, classes and context variables, and what they are copies of.

Each process names what it sends by value; whoever loads a name it knows takes what it has under it. So a class
that comes back is the class that was sent, and what comes home changes nothing of the original. In a worker the
functions of one script or notebook have one namespace, as they have at home.
"""

from __future__ import annotations

import itertools
import os
import sys
import weakref
from collections.abc import Callable
from contextvars import Context, ContextVar
from enum import EnumType
from types import FunctionType
from typing import Any

__all__ = ["forget_copies", "keep_namespaces", "reduced_by_value", "reduced_variable", "share_namespaces"]

_home = ""
"""What the names that this process gives begin with."""
_count = itertools.count()
_names: dict[int, tuple[weakref.ref[Any], str]] = {}  # by id: some classes have an equality of their own
_objects: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_unsettled: set[str] = set()  # made just now, and still without their state
_variables: dict[str, ContextVar[Any]] = {}  # no weak references to these; they live as long as a process
_places: dict[ContextVar[Any], tuple[str, str]] = {}
_namespaces: dict[str, dict[str, Any]] | None = None  # in a worker: of functions, by the name of their module
_kept: dict[str, dict[str, Any]] = {}


def reduced_by_value(obj: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a function or a class is pickled as, made of what cloudpickle would."""
    make, arguments, state, _, _, settle = reduced
    if isinstance(obj, type):
        # the one before the last is a name too: what has the same there is the same class to cloudpickle
        *first, _, extra = arguments
        if not isinstance(obj, EnumType):
            first[3] = {**first[3], "__qualname__": obj.__qualname__}
            if vars(obj).get("__slots__"):
                first[3]["__slots__"] = vars(obj)["__slots__"]
        arguments = (*first, None, extra)
    else:
        code, namespace, *rest = arguments
        module = obj.__globals__.get("__name__")
        if getattr(sys.modules.get(module), "__dict__", None) is obj.__globals__:  # it stays what it is
            arguments = (code, _Namespace(module, namespace), *rest)
    return _adopted, (_name_of(obj), make, arguments), (settle, state), None, None, _settled


def reduced_variable(variable: ContextVar[Any]) -> tuple[Any, ...]:
    """Return what a context variable is pickled as: where it can be imported from, else by value, with its default."""
    known = next((name for name, each in _variables.items() if each is variable), None)
    place = _place_of(variable) if known is None else None
    if place is not None:
        return getattr, (sys.modules[place[0]], place[1])
    if known is None:
        known = _new_name()
        _variables[known] = variable
    try:
        default = {"default": Context().run(variable.get)}
    except LookupError:
        default = {}
    return _adopted_variable, (known, variable.name, default)


def forget_copies() -> None:
    """Let what came from elsewhere be made anew when it comes again: what was done to a copy is forgotten with it."""
    for key, (_, name) in list(_names.items()):
        if not name.startswith(_home):
            _names.pop(key, None)
            _objects.pop(name, None)
    if _namespaces is not None:
        _namespaces.clear()


def share_namespaces() -> None:
    """Let functions that have the same globals at home have the same here: in a worker."""
    global _namespaces
    _namespaces = {}


def keep_namespaces() -> None:
    """Keep what the namespaces hold now, whatever is forgotten: what a worker was initialised with."""
    _kept.update({name: dict(namespace) for name, namespace in (_namespaces or {}).items()})


class _Namespace:
    """The globals of a module's function on their way; what it uses of them follows as its state."""

    def __init__(self, name: str, namespace: dict[str, Any]) -> None:
        self._arguments = name, namespace

    def __reduce__(self) -> tuple[Any, ...]:
        return _namespace, self._arguments


def _namespace(name: str, namespace: dict[str, Any]) -> dict[str, Any]:
    if _namespaces is None:
        return namespace
    return _namespaces.setdefault(name, namespace | _kept.get(name, {}))


def _move() -> None:
    global _home
    _home = f"{os.urandom(8).hex()}."


_move()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_move)  # a fork is another process, and names things itself


def _new_name() -> str:
    return f"{_home}{next(_count)}"


def _name_of(obj: Any) -> str:
    known = _names.get(id(obj))
    return known[1] if known is not None and known[0]() is obj else _named(obj, _new_name())


def _named(obj: Any, name: str) -> str:
    key = id(obj)

    def gone(reference: weakref.ref[Any]) -> None:
        if _names.get(key, (None,))[0] is reference:
            del _names[key]

    _names[key] = weakref.ref(obj, gone), name
    _objects[name] = obj
    return name


def _adopted(name: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    known = _objects.get(name)
    if known is None:
        known = make(*arguments)
        _named(known, name)
        _unsettled.add(name)
    return known


def _settled(obj: Any, state: tuple[Callable[[Any, Any], object], Any]) -> None:
    name = _name_of(obj)
    if name in _unsettled or not name.startswith(_home):  # what is at home here stays as it is
        _unsettled.discard(name)
        settle, of = state
        if isinstance(obj, FunctionType) and any(
            obj.__globals__ is each for each in (_namespaces or {}).values()
        ):
            known = obj.__globals__  # what is there is as new, or is what this process has made of it
            of[1]["__globals__"] = {
                key: each for key, each in of[1]["__globals__"].items() if key not in known
            }
        settle(obj, of)


def _place_of(variable: ContextVar[Any]) -> tuple[str, str] | None:
    """Return the module a variable can be imported from, and what it is called there."""
    place = _places.get(variable)
    if place is not None and getattr(sys.modules.get(place[0]), place[1], None) is variable:
        return place
    for module_name, module in list(sys.modules.items()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable and module is not sys.modules.get("__main__"):
                _places[variable] = module_name, name
                return module_name, name
    return None


def _adopted_variable(name: str, called: str, default: dict[str, Any]) -> ContextVar[Any]:
    if name not in _variables:
        _variables[name] = ContextVar(called, **default)
    return _variables[name]
