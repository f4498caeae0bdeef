"""Calls of async functions, together on one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from contextvars import Context, copy_context

from dotflow_like.execute.call import Call, perform_async
from dotflow_like.execute.executors.base import Executor, Started

__all__ = ["CoroutineExecutor"]

_PATIENCE = 0.2  # seconds that a cancelled coroutine has to end
_LEAST_PATIENCE = 0.005  # seconds that are left of it when several did not: whoever stops many waits for each
_CLOSING = 1.0  # seconds that the loop has to end


class CoroutineExecutor(Executor):
    """Runs calls of async functions at once, each as a task on one event loop, in one daemon thread.

    The loop is started when it is needed first. Each call has a copy of the context it is submitted in.

    A coroutine is stopped by cancelling it. One that ignores that goes on, and so does one that blocks the
    loop: then no other makes a step.

    Args:
        slots: how many calls run at once.

    Attributes:
        blocked: a coroutine did not even let the loop cancel it, when it was to be stopped.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.blocked = False
        self._lock = threading.Lock()
        self._waiting: dict[Call, None] = {}  # in order
        self._running: dict[Call, asyncio.Task[None] | None] = {}
        self._stops: dict[Call, _Stop] = {}
        self._given_up: set[Call] = set()
        self._thread: threading.Thread | None = None
        self._worker: str | None = None
        self._closed = False

    def __contains__(self, call: Call) -> bool:
        """Return whether a call is here, and has not ended."""
        with self._lock:
            return call in self._waiting or call in self._running

    def submit(self, calls: Sequence[Call]) -> None:
        with self._lock:
            self._waiting.update(dict.fromkeys(calls))
        if self._thread is None:
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            self._loop = self._runner.get_loop()
            self._thread = threading.Thread(target=self._serve, name="dotflow_like-loop", daemon=True)
            self._thread.start()
        self._loop.call_soon_threadsafe(self._begin, [(call, copy_context()) for call in calls])

    def withdraw(self, *, everything: bool) -> list[Call]:
        if not everything:
            return []  # whatever waits is about to begin
        with self._lock:
            calls = list(self._waiting)
            self._waiting.clear()
        return calls

    def stop(self, call: Call) -> bool:
        call.stop_asked = True
        with self._lock:
            if call in self._waiting:
                del self._waiting[call]
                return True
            task = self._running.get(call)
            if task is None:
                return False  # it has ended meanwhile
            stop = self._stops[call] = _Stop(task)
        self._loop.call_soon_threadsafe(stop.cancel)
        stop.ended.wait(max(_PATIENCE / (1 + len(self._given_up)), _LEAST_PATIENCE))
        with self._lock:
            if self._stops.pop(call, None) is None:
                return True
            self._given_up.add(call)
        self.blocked = not stop.delivered
        return False

    def close(self) -> None:
        self.withdraw(everything=True)
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._end)
            # what ignored being cancelled may do so again: then the thread is left alone
            self._thread.join(_PATIENCE if self._given_up else _CLOSING)

    # What follows runs in the loop's thread

    def _serve(self) -> None:
        self._worker = f"thread {threading.get_native_id()}"
        with self._runner:  # which, at the end, cancels what is left, waits for that, and closes the loop
            while not self._closed:
                # raised by a task that a body made; whoever awaits it has it too, and the others go on
                with suppress(KeyboardInterrupt, SystemExit):
                    self._loop.run_forever()

    def _begin(self, calls: Sequence[tuple[Call, Context]]) -> None:
        for call, context in calls:
            self._loop.create_task(self._run(call), context=context)

    async def _run(self, call: Call) -> None:
        with self._lock:
            if call not in self._waiting:
                return  # it was taken back
            del self._waiting[call]
            self._running[call] = asyncio.current_task()  # and keep it: the loop itself need not
        if call.task.timeout is not None:
            self.inbox.put(Started(call))
        call.worker = self._worker
        call.outcome = await perform_async(call)
        with self._lock:
            del self._running[call]
            self._given_up.discard(call)
            stop = self._stops.pop(call, None)
        if stop is None:
            self.inbox.put(call)
        else:
            stop.ended.set()

    def _end(self) -> None:
        self._closed = True
        self._loop.stop()


class _Stop:
    """The wish that a call ends, nothing being heard of it.

    Attributes:
        delivered: the loop has cancelled it.
        ended: it has ended.
    """

    __slots__ = ("_task", "delivered", "ended")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task
        self.delivered = False
        self.ended = threading.Event()

    def cancel(self) -> None:
        self.delivered = True
        self._task.cancel()
