"""Values, functions and errors as bytes for another process, and back.

cloudpickle on protocol 5, large buffers out of band, so that lambdas, closures and the code of a script or
a notebook work without importing it.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from datetime import date, datetime, time, timedelta, timezone
from itertools import pairwise
from operator import attrgetter
from types import FunctionType
from typing import Any, NamedTuple

import cloudpickle

from dotflow_like.declare.task import listed_for
from dotflow_like.execute.call import Outcome
from dotflow_like.execute.workers.copies import reduced_by_value, reduced_variable
from dotflow_like.model.records import Attempt
from dotflow_like.model.status import AttemptOutcome, AttemptStatus
from dotflow_like.plan.inputs import Input, Need, Source

if "__mp_main__" in sys.modules:
    # the script, in a process that multiprocessing has started: there too it goes by value
    cloudpickle.register_pickle_by_value(sys.modules["__mp_main__"])

__all__ = [
    "LARGE",
    "Buffer",
    "Dumped",
    "Pickled",
    "dump_error",
    "dumps",
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


_PLAIN = frozenset(
    map(
        id,
        (
            *(complex, date, datetime, getattr, range, time, timedelta, timezone),
            *(Attempt, AttemptOutcome, AttemptStatus, Input, Need, Pickled, Source),
        ),
    )
)
"""Types, by id, that the other side has too, and whose pickles load without anybody's code."""


# Plain data, which is most of what travels, needs no more than the standard pickler


class _NotPlainError(Exception):
    pass


class _Chunks(list[Buffer]):
    """A file to write a pickle to: long texts and bytes are kept as they are, not copied."""

    write = list.append


class _PlainPickler(pickle.Pickler):
    shared: object

    def reducer_override(self, obj: Any) -> Any:  # asked for everything that is not of a basic type
        if id(type(obj)) in _PLAIN or id(obj) in _PLAIN:
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
            return reduced_variable(obj)
        reduced = super().reducer_override(obj)
        if type(reduced) is tuple and len(reduced) == 6:  # a class or a function by value
            return reduced_by_value(obj, reduced)
        return reduced


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
