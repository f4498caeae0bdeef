"""The worker's side: what a worker process does from its start to its end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from dotflow_like.declare.task import Task
from dotflow_like.errors import NotSerializable
from dotflow_like.execute.call import Call, perform
from dotflow_like.execute.executors.wire import Frames, dump_error, dumps, load_error, loads, receive, send
from dotflow_like.model.records import TaskError
from dotflow_like.record.journal import Encoded

__all__ = ["main"]

_HARMLESS = frozenset({type(None), bool, int, float, str, bytes})
"""Types whose pickles load without running anybody's code, so that no trial is needed."""


def main(pipe: int, lifeline: int) -> None:
    """Serve calls until the parent closes the pipe; die at once if the parent does.

    Args:
        pipe: descriptor of the socket calls come and outcomes go through.
        lifeline: descriptor of a pipe whose other end only the parent has.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a Ctrl-C means the parent decides
    _die_with_parent(lifeline)
    connection = Connection(pipe)
    server = _Server(connection)
    with contextlib.suppress(EOFError, OSError):  # the parent has closed the pipe: no more to do
        while True:
            server.serve(receive(connection))


class _Server:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._codec = loads(receive(connection))
        self._functions: dict[int, Frames] = {}
        self._tasks: dict[int, Task[..., Any]] = {}

    def serve(self, message: Frames) -> None:
        (kind, number), frames = loads(message[:1]), message[1:]
        if kind == "function":
            self._functions[number] = frames
        elif kind == "call":
            send(self._connection, self._outcome(number, frames))
        # else "stop", for a call that has ended meanwhile

    def _outcome(self, number: int, frames: Frames) -> Frames:
        try:
            attempt, params, inputs, results, previous, encoded, announced = loads(frames, self._codec)
            task = self._task(number)
        except BaseException as error:  # code or data that cannot be loaded here
            return _failure(error, 0)
        if announced:
            send(self._connection, dumps(("started", None)))
        call = _WorkerCall(task, attempt, params, inputs, results, previous, self._codec if encoded else None)
        call.connection = self._connection
        outcome = perform(call)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # closed, or replaced, by the body
                stream.flush()
        if isinstance(outcome.error, BaseException):
            return _failure(outcome.error, attempt.number)
        return _success(outcome.value, attempt.number)

    def _task(self, number: int) -> Task[..., Any]:
        if number not in self._tasks:
            body, order = loads(self._functions[number])
            made: Task[..., Any] = Task(body)
            methods = sorted(made.methods, key=lambda method: order.index(method.name))
            self._tasks[number] = made._derive(methods=tuple(methods))
        return self._tasks[number]


class _WorkerCall(Call):
    """A call in a worker: while its body runs, the only message that can come is the wish to stop it."""

    __slots__ = ("connection",)
    connection: Connection

    def asked_to_stop(self) -> bool:
        return self.connection.poll()


def _success(value: Any, attempt: int) -> Frames:
    if isinstance(value, Encoded):
        return [*dumps(("encoded", None)), value.data]
    try:
        frames = dumps(value)
        if type(value) not in _HARMLESS:
            loads(frames)  # what cannot be loaded shall fail here, not in the parent
    except BaseException as error:
        problem = NotSerializable(
            f"the result, {type(value).__name__}, cannot leave the worker process: {type(error).__name__}: {error}; "
            "return plain data, or a path to what stays on disk"
        )
        problem.__cause__ = error
        return _failure(problem, attempt)
    return [*dumps(("pickled", None)), *frames]


def _failure(error: BaseException, attempt: int) -> Frames:
    record = TaskError.of(error, attempt)  # travels as its texts; beside it goes the exception, if it can
    try:
        frames = dump_error(error)
        load_error(frames)
    except BaseException:  # the record says all there is to say
        frames = []
    return [*dumps(("failed", record)), *frames]


def _die_with_parent(lifeline: int) -> None:
    """Have this process, and all it starts, killed when the other end of `lifeline` closes.

    By the kernel where it can (Linux): then code that never returns to Python dies too.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgid(0))
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        if not select.select([lifeline], [], [], 0)[0]:
            return  # else it has closed before
        os.killpg(0, signal.SIGKILL)

    def wait() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="dotflow_like-lifeline", daemon=True).start()
