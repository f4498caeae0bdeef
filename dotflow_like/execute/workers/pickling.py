"""Values, functions and errors as bytes for another process, and back.

cloudpickle on protocol 5, large buffers out of band, so that lambdas, closures and the code of a script or
a notebook work without importing it. What was sent by value keeps its identity: a class that comes back is
the class that was sent, and a copy that comes home changes nothing of the original.
"""

from __future__ import annotations

import io
import itertools
import os
import pickle
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextvars import Context, ContextVar
from enum import EnumType
from itertools import pairwise
from operator import attrgetter
from types import FunctionType
from typing import Any, NamedTuple

import cloudpickle

from dotflow_like.declare.task import listed_for
from dotflow_like.execute.call import Outcome
from dotflow_like.model.records import Attempt
from dotflow_like.plan.inputs import Input, Need, Source

__all__ = [
    "LARGE",
    "Buffer",
    "Dumped",
    "Pickled",
    "dump_error",
    "dumps",
    "forget_copies",
    "keep_shared",
    "load_error",
    "loads",
]

LARGE = 64 * 1024
"""Bytes: a buffer of this size or more is not copied into the pickle."""

Buffer = bytes | bytearray | memoryview
"""Anything bytes can be read from."""


class Dumped(NamedTuple):
    """A value as bytes.

    Attributes:
        chunks: the pickle, in pieces that are to be joined.
        buffers: what lies out of band.
        plain: there is nothing in it but data of built-in types, which anybody can load.
    """

    chunks: list[Buffer]
    buffers: list[Buffer]
    plain: bool

    @property
    def frames(self) -> list[Sequence[Buffer]]:
        """The frames to send, each in pieces."""
        return [self.chunks, *([buffer] for buffer in self.buffers)]


def dumps(value: object, shared: object = None) -> Dumped:
    """Return `value` as bytes; raises whatever its pickling raises.

    Args:
        value: what to send.
        shared: an object the other side has too, which travels as its mention; see `keep_shared`.
    """
    try:
        return _dumped(_PlainPickler, value, None)
    except _NotPlainError:
        return _dumped(_Pickler, value, shared)


def loads(pickled: Buffer, buffers: Sequence[Buffer] = ()) -> Any:
    """Return what `dumps` made these of.

    Runs whatever code the value's classes bring: for what a process of ours sent, never for what was stored.
    """
    return pickle.loads(pickled, buffers=buffers)


def dump_error(error: BaseException) -> Dumped:
    """Return an exception with its causes as bytes; what is not picklable raises."""
    chain: list[tuple[BaseException, bool, bool]] = []
    link: BaseException | None = error
    while link is not None and all(link is not known for known, _, _ in chain):
        cause = link.__cause__ is not None
        chain.append((link, cause, link.__suppress_context__))
        link = link.__cause__ if cause else link.__context__
    return dumps(chain)


def load_error(pickled: Buffer, buffers: Sequence[Buffer] = ()) -> BaseException:
    """Return the exception `dump_error` made these of."""
    chain: list[tuple[BaseException, bool, bool]] = loads(pickled, buffers)
    for error, _, _ in chain:
        if not isinstance(error, BaseException):
            raise TypeError(f"an exception came back as {type(error).__name__}")
    for (error, cause, suppress), (origin, _, _) in pairwise(chain):
        if cause:
            error.__cause__ = origin
        else:
            error.__context__ = origin
        error.__suppress_context__ = suppress
    return chain[0][0]


# What both sides have

_shared: object = None


def keep_shared(value: object) -> None:
    """Let `value` be what mentions of a shared object mean here: in a worker, the codec of its run."""
    global _shared
    _shared = value


def _the_shared() -> object:
    return _shared


# Plain data, which is most of what travels, needs no more than the standard pickler


_loading = threading.Lock()


class Pickled(Outcome):
    """A result as a worker made it: loaded when somebody asks, handed on to other workers as it is."""

    __slots__ = ("_frames",)

    def __init__(self, frames: Sequence[Buffer]) -> None:
        super().__init__()
        self._frames = frames

    def load(self) -> Any:
        """Return the result; always the same object."""
        frames = self._frames
        if frames:
            value = loads(frames[0], frames[1:])
            with _loading:  # two threads may come here
                if self._frames:
                    self.value, self._frames = value, ()  # not twice in memory
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        frames = self._frames
        if not frames:
            dumped = dumps(self.value)
            frames = [b"".join(dumped.chunks), *dumped.buffers]
        return Pickled, ([pickle.PickleBuffer(frame) for frame in frames],)


_OURS = (Attempt, Input, Need, Source, Pickled)
"""Types of ours that calls are made of, which the other side has too."""
_KNOWN = frozenset({*map(id, _OURS), id(getattr)})


class _NotPlainError(Exception):
    pass


class _Chunks(list[Buffer]):
    """A file to write a pickle to: long texts and bytes are kept as they are, not copied."""

    write = list.append


class _PlainPickler(pickle.Pickler):
    shared: object

    def reducer_override(self, obj: Any) -> Any:  # asked for everything that is not of a basic type
        if id(type(obj)) in _KNOWN or id(obj) in _KNOWN:
            return NotImplemented
        raise _NotPlainError


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    shared: object

    def reducer_override(self, obj: Any) -> Any:
        if obj is self.shared:
            return _the_shared, ()
        if isinstance(obj, io.IOBase) and not isinstance(obj, io.BytesIO | io.StringIO):
            # cloudpickle would send an open text file as a copy of its content
            raise TypeError(f"an open file ({type(obj).__name__}) stays in its process; pass its path")
        if isinstance(obj, FunctionType | type):
            # What a module has under the name of a decorated function is the task. By value the function
            # would lose its module's globals, so it goes as what that task has.
            listed = listed_for(obj)
            if listed is not None:
                return attrgetter("fn"), (listed,)
        if type(obj) is ContextVar:
            return _reduced_variable(obj)
        reduced = super().reducer_override(obj)
        if type(reduced) is tuple and len(reduced) == 6:  # a class or a function by value
            make, arguments, state, _, _, settle = reduced
            if isinstance(obj, type):
                arguments = _class_arguments(obj, arguments)
            return _adopted, (_name(obj), make, arguments), (settle, state), None, None, _settled
        return reduced


def _class_arguments(cls: type, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what cloudpickle makes a class of, without the name it has there, and with its slots."""
    *first, _, extra = (
        arguments  # the one before the last; what has the same name is the same class to cloudpickle
    )
    if vars(cls).get("__slots__") and not isinstance(cls, EnumType):
        first[3] = {**first[3], "__slots__": vars(cls)["__slots__"]}
    return (*first, None, extra)


def _dumped(kind: type[_PlainPickler | _Pickler], value: object, shared: object) -> Dumped:
    chunks = _Chunks()
    buffers: list[Buffer] = []

    def in_band(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < LARGE:
            return True
        buffers.append(raw)
        return False

    pickler = kind(chunks, 5, buffer_callback=in_band)
    pickler.shared = shared
    pickler.dump(value)
    return Dumped(chunks, buffers, kind is _PlainPickler)


# Identity of what travels by value. Each process names what it sends first; whoever loads a name it knows
# takes what it has under it.

_token = os.urandom(8).hex()
_count = itertools.count()
_names: dict[int, tuple[weakref.ref[Any], str]] = {}  # by id: some classes have an equality of their own
_objects: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_unsettled: set[str] = set()  # made just now, and still without their state
_variables: dict[
    str, ContextVar[Any]
] = {}  # these cannot be referred to weakly, and live as long as a process
_places: dict[ContextVar[Any], tuple[str, str]] = {}


def forget_copies() -> None:
    """Let what came from elsewhere be made anew when it comes again: what was done to a copy is forgotten with it."""
    for key, (_, name) in list(_names.items()):
        if not name.startswith(_home()):
            _names.pop(key, None)
            _objects.pop(name, None)


def _home() -> str:
    return f"{_token}-{os.getpid()}."  # a fork of this process is another one


def _name(obj: Any) -> str:
    known = _names.get(id(obj))
    return _call(obj, f"{_home()}{next(_count)}") if known is None else known[1]


def _call(obj: Any, name: str) -> str:
    key = id(obj)

    def gone(reference: weakref.ref[Any]) -> None:
        if _names.get(key, (None,))[0] is reference:
            del _names[key]

    _, name = _names.setdefault(key, (weakref.ref(obj, gone), name))
    _objects[name] = obj
    return name


def _adopted(name: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    known = _objects.get(name)
    if known is None:
        known = make(*arguments)
        _call(known, name)
        _unsettled.add(name)
    return known


def _settled(obj: Any, state: tuple[Callable[[Any, Any], object], Any]) -> None:
    name = _name(obj)
    if name in _unsettled or not name.startswith(_home()):  # what is at home here stays as it is
        _unsettled.discard(name)
        settle, of = state
        settle(obj, of)


def _reduced_variable(variable: ContextVar[Any]) -> tuple[Any, ...]:
    place = _place_of(variable)
    if place is not None:
        return getattr, (sys.modules[place[0]], place[1])
    known = next((name for name, each in _variables.items() if each is variable), None)
    if known is None:
        known = f"{_home()}{next(_count)}"
        _variables[known] = variable
    try:
        default = {"default": Context().run(variable.get)}
    except LookupError:
        default = {}
    return _adopted_variable, (known, variable.name, default)


def _place_of(variable: ContextVar[Any]) -> tuple[str, str] | None:
    """Return the module a variable can be imported from, and what it is called there."""
    place = _places.get(variable)
    if place is None or getattr(sys.modules.get(place[0]), place[1], None) is not variable:
        for module_name, module in list(sys.modules.items()):
            for name, value in list(getattr(module, "__dict__", {}).items()):
                if value is variable and module_name != "__main__":
                    place = _places[variable] = module_name, name
                    return place
        return None
    return place


def _adopted_variable(name: str, called: str, default: dict[str, Any]) -> ContextVar[Any]:
    if name not in _variables:
        _variables[name] = ContextVar(called, **default)
    return _variables[name]
