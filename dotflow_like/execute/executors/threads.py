"""Calls in threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextvars import Context, copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING

from dotflow_like.execute.call import Call, is_async, perform
from dotflow_like.execute.executors.base import Executor, Started

if TYPE_CHECKING:
    from dotflow_like.execute.executors.coroutines import CoroutineExecutor

__all__ = ["ThreadExecutor"]


class ThreadExecutor(Executor):
    """Runs calls in daemon threads, each started when it is needed first; those of async functions on one loop.

    Each call has a copy of the context it is submitted in.

    A thread cannot be stopped. One whose call was given up is replaced, and ends with that call. So is an
    event loop which such a call blocks.

    Args:
        slots: how many calls run at once.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._todo: SimpleQueue[tuple[Call, Context] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting: dict[Call, None] = {}  # in order
        self._running: set[Call] = set()  # those that wait, too
        self._loops: list[CoroutineExecutor] = []  # the last is the one in use

    def submit(self, calls: Sequence[Call]) -> None:
        coroutines = []
        for call in calls:
            if is_async(call.task):
                coroutines.append(call)
            else:
                self._submit(call)
        if coroutines:
            if not self._loops or self._loops[-1].blocked:
                self._loops.append(self._loop())
            self._loops[-1].submit(coroutines)

    def withdraw(self, *, everything: bool) -> list[Call]:
        if not everything:
            return []  # whatever waits is about to begin
        with self._lock:
            calls = list(self._waiting)
            self._waiting.clear()
            self._running.difference_update(calls)
        for loop in self._loops:
            calls += loop.withdraw(everything=True)
        return calls

    def stop(self, call: Call) -> bool:
        for loop in self._loops:
            if call in loop:
                stopped = loop.stop(call)
                if loop.blocked:
                    self.submit(loop.withdraw(everything=True))  # to another
                return stopped
        call.stop_asked = True
        with self._lock:
            if call in self._waiting:
                del self._waiting[call]
                self._running.discard(call)
                return True
            if call in self._running:
                self._running.discard(call)
                self._threads -= 1
        return False

    def close(self) -> None:
        self.withdraw(everything=True)
        for _ in range(self._threads):
            self._todo.put(None)
        for loop in self._loops:
            loop.close()

    def _submit(self, call: Call) -> None:
        with self._lock:
            self._waiting[call] = None
            self._running.add(call)
            needed = len(self._running) > self._threads
            self._threads += needed
        if needed:
            threading.Thread(target=self._work, name="dotflow_like-task", daemon=True).start()
        self._todo.put((call, copy_context()))

    def _work(self) -> None:
        worker = f"thread {threading.get_native_id()}"
        while (given := self._todo.get()) is not None:
            call, context = given
            with self._lock:
                if call not in self._waiting:
                    continue  # it was taken back
                del self._waiting[call]
            if call.task.timeout is not None:
                self.inbox.put(Started(call))
            call.worker = worker
            call.outcome = context.run(perform, call)
            with self._lock:
                given_up = call not in self._running
                self._running.discard(call)
            self.inbox.put(call)
            if given_up:
                return

    def _loop(self) -> CoroutineExecutor:
        from dotflow_like.execute.executors.coroutines import CoroutineExecutor

        loop = CoroutineExecutor(self.slots)
        loop.open(self.inbox, self.codec)
        return loop
