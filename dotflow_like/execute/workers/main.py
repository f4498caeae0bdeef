"""The worker's side: what a worker process does from its start to its end."""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from dotflow_like.declare.conditions import Condition
from dotflow_like.declare.task import Task
from dotflow_like.errors import NotSerializable
from dotflow_like.execute.call import perform
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.calls import WorkerCall
from dotflow_like.execute.workers.channel import EMPTY, Channel, Message, Parcel, can_be_read
from dotflow_like.execute.workers.copies import forget_copies, keep_namespaces, share_namespaces
from dotflow_like.execute.workers.link import Link
from dotflow_like.execute.workers.logs import apply_levels, forward_logs
from dotflow_like.execute.workers.pickling import Buffer, dumps, keep_shared, loads
from dotflow_like.execute.workers.protocol import RunSettings, error_parcel, signal_parcel
from dotflow_like.execute.workers.surroundings import (
    NO_CHANGES,
    Surroundings,
    changes,
    surroundings,
    take_on,
    traces,
)
from dotflow_like.execute.workers.tokens import TakenTokens
from dotflow_like.model.metadata import Metadata
from dotflow_like.model.signals import Signal
from dotflow_like.record.journal import Codec, Encoded

__all__ = ["main"]

_IDLE = 60.0
"""Seconds a worker lives without a run."""


def main(channel: int, tokens: int, lifeline: int) -> None:
    """Serve calls until the parent closes the channel; die at once if the parent does.

    Args:
        channel: descriptor of the socket calls come and outcomes go through.
        tokens: descriptor of the pipe of tokens.
        lifeline: descriptor of a pipe whose other end only the parent has.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a Ctrl-C means the parent decides
    _die_with_parent(lifeline)
    _Server(Channel(socket.socket(fileno=channel)), TakenTokens(tokens)).serve()


class _Server:
    def __init__(self, channel: Channel, tokens: TakenTokens) -> None:
        self._link = Link(channel)
        self._tokens = tokens
        self._current: WorkerCall | None = None
        self._started = time.time()
        self._threads = threading.active_count()
        self._initialised = False
        self._own = NO_CHANGES  # of its initialisation
        self._lock = -1
        self._settings: Sequence[Buffer]
        self._is_settled: bool
        self._codec: Codec | None
        self._context: contextvars.Context
        self._functions: dict[int, Sequence[Buffer]]
        self._tasks: dict[int, tuple[Task[..., Any], Sequence[Condition]]]
        share_namespaces()
        self._reset()
        forward_logs(self._send_log)
        self._traces = traces()
        os.register_at_fork(after_in_child=self._leave)

    def serve(self) -> None:
        while (message := self._link.next(None if self._settings else _IDLE)) is not None:
            kind = message.kind
            if message.frames is None:
                return  # too many files are open here: what has not begun is for another worker
            if kind in (protocol.CALL, protocol.TIMED_CALL):
                if self._tokens.take(message.number):
                    self._serve_call(message)
            elif kind == protocol.FUNCTION:
                self._functions[message.number] = message.frames
            elif kind == protocol.HOLD:
                self._lock = message.number
            elif kind == protocol.RUN:
                if _is_older_than_its_code(self._started):
                    return
                self._settings = message.frames
            elif kind == protocol.END:
                self._reset()
                self._link.send(protocol.ENDED, extra=self._is_clean())
            # else the wish to stop a call that has ended meanwhile

    def _leave(self) -> None:
        """Have no say any more, but hold the run's lock: in a child that a body has forked."""
        self._link.leave()
        self._tokens.close()

    def _reset(self) -> None:
        """Forget the run."""
        self._settings = ()
        self._is_settled = False
        self._codec = None
        self._context = contextvars.Context()
        self._functions = {}
        self._tasks = {}
        keep_shared(None)
        forget_copies()
        if self._lock >= 0:
            with contextlib.suppress(OSError):  # a body may have closed all there was
                os.close(self._lock)
            self._lock = -1

    def _serve_call(self, message: Message) -> None:
        number = message.number
        seconds = 0.0
        try:
            self._settle()
            call = self._call(message)
        except BaseException as error:  # code or data that cannot be loaded here
            kind, parcel = _failure(error)
        else:
            if message.kind == protocol.TIMED_CALL:
                self._link.send(protocol.STARTED, number)
            self._current = call
            began = time.perf_counter()
            kind, parcel = self._outcome(call)
            seconds = time.perf_counter() - began
            self._current = None
            call.end()
        self._link.send(kind, number, seconds, parcel)

    def _settle(self) -> None:
        """Take on what the run says, before its first call: what fails then fails that call, and is tried again."""
        if self._is_settled:
            return
        given = Surroundings(*loads(self._settings[0]))
        take_on(given, self._own)  # then what follows finds its modules
        settings: RunSettings
        settings, self._codec = loads(self._settings[1], self._settings[2:])
        keep_shared(self._codec)
        apply_levels(settings.levels)
        self._context = contextvars.Context()
        for variable, value in settings.variables.items():
            self._context.run(variable.set, value)
        if not self._initialised:
            if settings.init is not None:
                settings.init()
                self._own = changes(given, surroundings())
                keep_namespaces()
            self._initialised = True
            self._traces = traces()
        self._is_settled = True

    def _call(self, message: Message) -> WorkerCall:
        number = int(message.extra)
        if number not in self._tasks:
            self._load(number)
        task, conditions = self._tasks[number]
        frames = message.frames
        given = loads(frames[0], frames[1:]) if frames else (None, {}, (), {}, None)
        return WorkerCall(self._link, message.number, task, *given, self._codec, None, conditions)

    def _load(self, number: int) -> None:
        frames = self._functions[number]
        body, order, conditions = loads(frames[0], frames[1:])
        made: Task[..., Any] = Task(body)
        methods = sorted(made.methods, key=lambda method: order.index(method.name))
        self._tasks[number] = made._derive(methods=tuple(methods)), conditions

    def _outcome(self, call: WorkerCall) -> tuple[int, Parcel]:
        outcome = self._context.copy().run(perform, call)
        _flush(sys.stdout)
        _flush(sys.stderr)
        try:
            if call.noted is not None:
                self._send_metadata(call, call.noted)
            if isinstance(outcome.error, Signal):
                return protocol.SIGNAL, signal_parcel(outcome.error)
            if isinstance(outcome.error, BaseException):
                return _failure(outcome.error)
            return _success(outcome.value)
        except BaseException as error:  # too little memory, too few descriptors
            return _failure(error)

    def _send_metadata(self, call: WorkerCall, noted: Metadata) -> None:
        if noted or call.attempt.number > 1:  # which began with some
            parcel = Parcel([[json.dumps(noted.plain()).encode("ascii")]])
            self._link.send(protocol.METADATA, call.number, parcel=parcel)

    def _is_clean(self) -> bool:
        """Return whether no thread and no process of the run's bodies is left, and this one is as it was."""
        if threading.active_count() > self._threads or self._traces != traces():
            return False
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass  # it has ended, and nobody asked how
        except ChildProcessError:
            return True
        return False

    def _send_log(self, record: bytes) -> None:
        current = self._current
        self._link.send_whole(protocol.LOG, 0 if current is None else current.number, Parcel([[record]]))


def _success(value: Any) -> tuple[int, Parcel]:
    if value is None:
        return protocol.NOTHING, EMPTY
    if isinstance(value, Encoded):
        return protocol.ENCODED, Parcel([[value.data]])
    try:
        dumped = dumps(value)
        if not dumped.plain:
            loads(b"".join(dumped.chunks), dumped.buffers)  # or fail here, not in the parent
    except MemoryError:
        raise
    except BaseException as error:
        problem = NotSerializable(
            f"the result, {type(value).__name__}, cannot leave the worker process: {type(error).__name__}: {error}; "
            "return plain data, or a path to what stays on disk"
        )
        problem.__cause__ = error
        return _failure(problem)
    return protocol.PICKLED, Parcel(dumped.frames)


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except Exception:  # closed, or replaced, by the body
        return


def _failure(error: BaseException) -> tuple[int, Parcel]:
    return protocol.FAILED, error_parcel(error)


def _is_older_than_its_code(started: float) -> bool:
    """Return whether a module of the user's was changed on disk after this process might have imported it."""
    for name, module in list(sys.modules.items()):
        file = None if name.startswith("dotflow_like.") else getattr(module, "__file__", None)
        if isinstance(file, str) and not file.startswith((sys.prefix, sys.base_prefix)):
            with contextlib.suppress(OSError):
                # the clock of a file system is that coarse
                if os.stat(file).st_mtime > started - 0.01:  # noqa: PTH116  # a path object takes longer
                    return True
    return False


def _die_with_parent(lifeline: int) -> None:
    """Have this process, and all it starts, killed when the other end of `lifeline` closes.

    By the kernel where it can (Linux): then code that never returns to Python dies too. Not by the signal
    a parent's death can be made to send: that is tied to the thread that started this process.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgid(0))
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        if not can_be_read(lifeline, 0):
            return  # else it has closed before
        os.killpg(0, signal.SIGKILL)

    def wait() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, name="dotflow_like-lifeline", daemon=True).start()
