"""The workers of this process that wait for their next run."""

from __future__ import annotations

import atexit
import os
import selectors
import threading
import time
from collections.abc import Iterable
from math import inf

from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.process import Worker

__all__ = ["Pool", "pool"]

_PATIENCE = 1.0
"""Seconds a worker has to end, or to say that it is done with a run."""


class Pool:
    """Keeps workers warm from run to run. Any thread may use it; a worker is one run's at a time.

    Attributes:
        lent: the workers that runs have at the moment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self.lent: set[Worker] = set()
        self._leaving: list[Worker] = []

    def borrow(self, start_method: str, kind: bytes, most: float = inf) -> Worker:
        """Return a worker: one that waits, if there is one of this kind, else a new one.

        Args:
            start_method: `spawn`, or `fork` for one that is never kept.
            kind: what it was initialised with.
            most: it has ended fewer calls than that.

        Raises:
            OSError: a new one could not be started.
        """
        with self._lock:
            waiting = [each for each in self._idle if each.kind == kind and each.served < most]
            if start_method == "fork":
                waiting = []
            for worker in reversed(waiting):
                self._idle.remove(worker)
                if worker.is_alive():
                    self.lent.add(worker)
                    return worker
                _end(worker)
        worker = Worker(start_method, kind)
        with self._lock:
            self.lent.add(worker)
        return worker

    def give_back(self, workers: Iterable[Worker], kept: int) -> None:
        """Take back workers whose run is over; those in which something of it goes on are ended.

        Args:
            workers: none of them has a call.
            kept: how many may wait at most, those of other runs included.
        """
        done = _done(list(workers))
        with self._lock:
            for worker, clean in done.items():
                self.lent.discard(worker)
                if clean and not worker.forked:
                    self._idle.append(worker)
                else:
                    _end(worker)
            surplus = self._idle[: max(0, len(self._idle) - kept)]
            del self._idle[: len(surplus)]
            self._leaving += surplus
            leaving, self._leaving = self._leaving, []
        _all_end(leaving)

    def let_go(self, worker: Worker) -> None:
        """Let a worker end by itself, which has no call; it is waited for later."""
        worker.channel.close()
        with self._lock:
            self.lent.discard(worker)
            self._leaving.append(worker)

    def kill(self, worker: Worker) -> str:
        """Kill a worker, if it lives, and return how it ended, in words."""
        how = _end(worker)
        with self._lock:
            self.lent.discard(worker)
        return how

    def close(self) -> None:
        """End all that wait."""
        with self._lock:
            leaving = [*self._idle, *self._leaving]
            self._idle.clear()
            self._leaving.clear()
        _all_end(leaving)

    def forget(self) -> None:
        """Close every way to every worker: in a fork of this process, which has copies of them."""
        self._lock = threading.Lock()
        for worker in (*self._idle, *self.lent, *self._leaving):
            worker.disown()
        self._idle, self.lent, self._leaving = [], set(), []


def _done(workers: list[Worker]) -> dict[Worker, bool]:
    """Tell workers that their run is over; return of each whether nothing of it goes on in it."""
    done = dict.fromkeys(workers, False)
    with selectors.PollSelector() as selector:
        for worker in workers:
            worker.channel.post(protocol.END)
            flushed = worker.channel.flush()
            events = selectors.EVENT_READ if flushed else selectors.EVENT_READ | selectors.EVENT_WRITE
            selector.register(worker.channel, events, worker)
        until = time.monotonic() + _PATIENCE
        while selector.get_map() and (left := until - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                channel = key.data.channel
                if channel.flush() and key.events & selectors.EVENT_WRITE:
                    selector.modify(channel, selectors.EVENT_READ, key.data)
                said = [each for each in channel.receive() or () if each.kind == protocol.ENDED]
                if said or channel.ended:
                    done[key.data] = bool(said and said[0].extra)
                    selector.unregister(channel)
    return done


def _all_end(workers: list[Worker]) -> None:
    for worker in workers:
        worker.channel.close()
    until = time.monotonic() + _PATIENCE
    for worker in workers:
        worker.wait(max(0.0, until - time.monotonic()))
        _end(worker)


def _end(worker: Worker) -> str:
    how = worker.kill()
    worker.forget()
    return how


pool = Pool()
"""The one of this process."""

atexit.register(pool.close)
if hasattr(os, "register_at_fork"):
    # else workers would live as long as a child of this process that has copies of their lifelines
    os.register_at_fork(after_in_child=pool.forget)
