"""Calls in threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextvars import copy_context
from queue import SimpleQueue

from dotflow_like.execute.call import Call, perform
from dotflow_like.execute.executors.base import Executor, Started

__all__ = ["ThreadExecutor"]


class ThreadExecutor(Executor):
    """Runs calls in daemon threads, each started when it is needed first.

    A thread cannot be stopped. One whose call was given up is replaced, and ends with that call.

    Args:
        slots: how many calls run at once.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._todo: SimpleQueue[Call | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._running: set[Call] = set()

    def submit(self, calls: Sequence[Call]) -> None:
        for call in calls:
            with self._lock:
                self._running.add(call)
                needed = len(self._running) > self._threads
                self._threads += needed
            if needed:
                # in a copy of the context, so that context variables reach the body
                threading.Thread(
                    target=copy_context().run, args=(self._work,), name="dotflow_like-task", daemon=True
                ).start()
            self._todo.put(call)

    def stop(self, call: Call) -> bool:
        call.stop_asked = True
        with self._lock:
            if call in self._running:
                self._running.discard(call)
                self._threads -= 1
        return False

    def close(self) -> None:
        for _ in range(self._threads):
            self._todo.put(None)

    def _work(self) -> None:
        worker = f"thread {threading.get_native_id()}"
        while (call := self._todo.get()) is not None:
            self.inbox.put(Started(call))
            call.outcome = perform(call)
            call.worker = worker
            with self._lock:
                given_up = call not in self._running
                self._running.discard(call)
            self.inbox.put(call)
            if given_up:
                return
