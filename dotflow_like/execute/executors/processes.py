"""Calls in worker processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from dotflow_like.errors import CodecError, NotSerializable, StorageError, WorkerDied
from dotflow_like.execute.call import Call, Outcome
from dotflow_like.execute.executors.base import Executor, Started
from dotflow_like.execute.executors.wire import Frames, Pickled, dumps, load_error, loads, receive, send
from dotflow_like.plan.inputs import Source
from dotflow_like.record.journal import Codec, Encoded

__all__ = ["ProcessExecutor"]

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from dotflow_like.execute.executors.worker import main; main(*map(int, sys.argv[1:]))"
)


class ProcessExecutor(Executor):
    """Runs calls in worker processes, each started when it is needed first, with one pipe to each.

    A worker is a fresh interpreter, never a fork: it has none of this process's threads and locks.
    It does not import the main script. It leads a process group of its own, with all that its
    bodies start, and dies with this process.

    Args:
        slots: how many workers there are at most.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._idle: list[_Worker] = []
        self._busy: dict[Call, _Worker] = {}
        self._numbers: dict[int, tuple[int, Frames, Any]] = {}  # by id, which holds while the function does

    def submit(self, calls: Sequence[Call]) -> None:
        for call in calls:
            try:
                number, function = self._function(call)
                payload = self._payload(call)
            except (CodecError, StorageError) as error:  # a result it is given cannot be read
                self._ended(call, Outcome(error=error), None)
                continue
            except Exception as error:
                self._ended(call, Outcome(error=_unsendable(call, error)), None)
                continue
            worker = self._free_worker()
            self._busy[call] = worker
            worker.call = call
            try:
                if number not in worker.functions:
                    worker.functions.add(number)
                    send(worker.connection, [*dumps(("function", number)), *function])
                send(worker.connection, [*dumps(("call", number)), *payload])
            except OSError:
                self._died(worker)

    def ask(self, call: Call) -> None:
        super().ask(call)
        if call in self._busy:
            try:
                send(self._busy[call].connection, dumps(("stop", None)))
            except OSError:
                self._died(self._busy[call])

    def stop(self, call: Call) -> bool:
        worker = self._busy.pop(call, None)
        if worker is not None:
            self.inbox.forget(worker.connection)
            worker.kill()
        return True

    def close(self) -> None:
        for worker in self._busy.values():
            self.inbox.forget(worker.connection)
            worker.kill()
        for worker in self._idle:
            self.inbox.forget(worker.connection)
            worker.connection.close()  # it ends by itself
        for worker in self._idle:
            worker.end(5)
        self._idle.clear()
        self._busy.clear()

    def _function(self, call: Call) -> tuple[int, Frames]:
        body = call.task.fn
        if id(body) not in self._numbers:
            # cloudpickle sorts the names in a class: the order its methods run in goes beside it
            order = [method.name for method in call.task.methods]
            self._numbers[id(body)] = len(self._numbers), dumps((body, order)), body
        number, function, _ = self._numbers[id(body)]
        return number, function

    def _payload(self, call: Call) -> Frames:
        asks = any(each.source is Source.CONTEXT for each in call.inputs)
        announced = call.task.timeout is not None
        params = call.params if asks else {}
        encoded = call.codec is not None
        content = (call.attempt, params, call.inputs, call.results, call.previous, encoded, announced)
        return dumps(content, self.codec)

    def _free_worker(self) -> _Worker:
        while self._idle:
            worker = self._idle[-1]
            if not worker.connection.poll():
                return self._idle.pop()
            self._died(worker)  # an idle worker has nothing to say: what can be read is its end
        return self._start()

    def _start(self) -> _Worker:
        worker = _Worker(self.codec)
        self.inbox.watch(worker.connection, lambda: self._receive(worker))
        return worker

    def _receive(self, worker: _Worker) -> None:
        try:
            header, *frames = receive(worker.connection)
        except (EOFError, OSError):
            self._died(worker)
            return
        call = worker.call
        assert call is not None, "only a worker with a call speaks"
        kind, record = loads([header])
        if kind == "started":
            self.inbox.put(Started(call))
            return
        worker.call = None
        del self._busy[call]
        self._idle.append(worker)
        if kind == "failed":
            if frames:
                record.load_with(lambda: load_error(frames))
            self._ended(call, Outcome(error=record), worker)
        else:
            self._ended(call, Outcome(Encoded(frames[0])) if kind == "encoded" else Pickled(frames), worker)

    def _died(self, worker: _Worker) -> None:
        self.inbox.forget(worker.connection)
        how = worker.end(1)
        if worker.call is None:
            self._idle.remove(worker)
            return
        del self._busy[worker.call]
        problem = WorkerDied(
            f"the worker process ({worker.name}) that ran attempt {worker.call.attempt.id} ended under it: {how}"
        )
        self._ended(worker.call, Outcome(error=problem), worker)

    def _ended(self, call: Call, outcome: Outcome, worker: _Worker | None) -> None:
        call.outcome = outcome
        call.worker = None if worker is None else worker.name
        self.inbox.put(call)


class _Worker:
    """A worker process, as its parent sees it."""

    def __init__(self, codec: Codec | None) -> None:
        ours, theirs = socket.socketpair()
        read_end, self._lifeline = os.pipe()
        self.call: Call | None = None
        self.functions: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno()), str(read_end), json.dumps(sys.path)],
            pass_fds=(theirs.fileno(), read_end),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        theirs.close()
        os.close(read_end)
        self.connection = Connection(ours.detach())
        self.name = f"pid {self._process.pid}"
        send(self.connection, dumps(codec))

    def kill(self) -> str:
        """Kill it with all it started, and return how it ended, in words."""
        # of a group of which nothing is left, macOS says the latter
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self._close()
        return _in_words(code)

    def end(self, patience: float) -> str:
        """Give it `patience` seconds to end by itself, then kill what is left; return how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        return self.kill()

    def _close(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self.connection.close()


def _in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _unsendable(call: Call, error: Exception) -> NotSerializable:
    problem = NotSerializable(
        f"task {call.attempt.task_id!r} cannot go to a worker process: {type(error).__name__}: {error}; "
        "make what it holds inside the body, or run it with executor='thread'"
    )
    problem.__cause__ = error
    return problem
