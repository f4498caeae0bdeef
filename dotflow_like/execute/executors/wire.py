"""How calls and results cross from process to process: as bytes made by us.

cloudpickle on protocol 5, large buffers out of band, so that lambdas, closures and the code of a script
or a notebook work without importing it.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing.connection import Connection
from operator import attrgetter
from types import FunctionType
from typing import Any

import cloudpickle

from dotflow_like.declare.task import listed_for
from dotflow_like.execute.call import Outcome

__all__ = ["Frames", "Pickled", "dump_error", "dumps", "load_error", "loads", "receive", "send"]

Frames = list[bytes]
"""A pickle, then its buffers."""


def dumps(value: object, shared: object = None) -> Frames:
    """Return `value` as bytes; `shared` is an object both sides have, and travels as its mention."""
    buffers: list[pickle.PickleBuffer] = []
    with io.BytesIO() as file:
        _Pickler(file, buffers, shared).dump(value)
        return [file.getvalue(), *(buffer.raw() for buffer in buffers)]  # type: ignore[list-item]  # as good as bytes


def loads(frames: Sequence[bytes], shared: object = None) -> Any:
    """Return what `dumps` made `frames` of.

    Runs whatever code the value's classes bring: for what a process of ours sent, never for what was stored.
    """
    return _Unpickler(frames, shared).load()


def send(connection: Connection, frames: Frames) -> None:
    """Send frames; waits until the other side has taken them up."""
    connection.send_bytes(len(frames).to_bytes(4, "little"))
    for frame in frames:
        connection.send_bytes(frame)


def receive(connection: Connection) -> Frames:
    """Return the next frames; EOFError or OSError when the other side is gone."""
    count = int.from_bytes(connection.recv_bytes(), "little")
    return [connection.recv_bytes() for _ in range(count)]


def dump_error(error: BaseException) -> Frames:
    """Return an exception with its causes as bytes; what is not picklable raises."""
    chain: list[tuple[BaseException, bool, bool]] = []
    link: BaseException | None = error
    while link is not None and all(link is not known for known, _, _ in chain):
        cause = link.__cause__ is not None
        chain.append((link, cause, link.__suppress_context__))
        link = link.__cause__ if cause else link.__context__
    return dumps(chain)


def load_error(frames: Frames) -> BaseException:
    """Return the exception `dump_error` made `frames` of."""
    chain: list[tuple[BaseException, bool, bool]] = loads(frames)
    for (error, cause, suppress), (origin, _, _) in pairwise(chain):
        if cause:
            error.__cause__ = origin
        else:
            error.__context__ = origin
        error.__suppress_context__ = suppress
    return chain[0][0]


class Pickled(Outcome):
    """A result as a worker made it: loaded when somebody asks, handed on to other workers as it is."""

    __slots__ = ("_frames",)

    def __init__(self, frames: Frames) -> None:
        super().__init__()
        self._frames = frames

    def load(self) -> Any:
        """Return the result; always the same object."""
        if self._frames:
            self.value = loads(self._frames)
            self._frames = []  # not twice in memory
        return self.value

    def __reduce__(self) -> tuple[Any, ...]:
        frames = self._frames or dumps(self.load())
        return Pickled, ([pickle.PickleBuffer(frame) for frame in frames],)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(self, file: io.BytesIO, buffers: list[pickle.PickleBuffer], shared: object) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffers.append)
        self._shared = shared

    def persistent_id(self, obj: object) -> str | None:
        return "shared" if obj is self._shared and obj is not None else None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, io.IOBase) and not isinstance(obj, io.BytesIO | io.StringIO):
            # cloudpickle would send an open text file as a copy of its content
            raise TypeError(f"an open file ({type(obj).__name__}) stays in its process; pass its path")
        if isinstance(obj, FunctionType | type):
            # What a module has under the name of a decorated function is the task. By value the function
            # would lose its module's globals, so it goes as what that task has.
            listed = listed_for(obj)
            if listed is not None:
                return attrgetter("fn"), (listed,)
        return super().reducer_override(obj)


class _Unpickler(pickle.Unpickler):
    def __init__(self, frames: Sequence[bytes], shared: object) -> None:
        super().__init__(io.BytesIO(frames[0]), buffers=frames[1:])
        self._shared = shared

    def persistent_load(self, pid: Any) -> Any:
        return self._shared
