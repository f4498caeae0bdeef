"""Whose turn it is to write to the journal of a run: its kernel's and bodies' that save, or one body's transaction."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from dotflow_like.errors import StorageError, TaskCancelled

if TYPE_CHECKING:
    from dotflow_like.declare.task import Task
    from dotflow_like.model.records import Attempt
    from dotflow_like.model.signals import Signal
    from dotflow_like.record.journal import Codec
    from dotflow_like.record.sql_transaction import Transaction

__all__ = ["Body", "Gate"]

_LOOK_EVERY = 0.05
"""Seconds: a body that waits looks that often whether it is to end."""


class Body(Protocol):
    """What is needed of a call."""

    task: Task[..., Any]
    attempt: Attempt
    codec: Codec | None
    abandoned: bool
    has_transaction: bool
    opened: Transaction | None

    def asked(self) -> Signal | None:
        """Return what the body is asked to become."""

    def send(self, signal: Signal) -> NoReturn:
        """Raise a signal."""

    def saved(self) -> Any:
        """Return what its task has saved."""


class _Waiting(NamedTuple):
    """Somebody who waits.

    Attributes:
        call: whose body it is.
        stays: whether it wants the gate for itself until the call ends, or to write once.
        go: called when its turn has come.
        elsewhere: its body is in another process: then `go` is called in the kernel's thread.
    """

    call: Body
    stays: bool
    go: Callable[[], None]
    elsewhere: bool


class Gate:
    """Lets many write one after another, or one body alone until its call ends.

    A database has one writer at a time, and who has a transaction open is one: the kernel that waited for it in the
    journal would wait for a body that may wait for the kernel.

    Args:
        wake: has the kernel take a turn; from any thread.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._kernel = 0
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._calls: set[Body] = set()  # that want it, or have it, until they end
        self._holder: Body | None = None
        self._thread = 0  # of the holder, if its body is in this process
        self._writers = 0
        self._is_kernels_turn = False  # before the next body has it
        self._is_closed = False

    # In the thread of the kernel

    def begin(self) -> None:
        """Take the thread this is called in for the kernel's."""
        self._kernel = threading.get_ident()

    def try_enter(self) -> bool:
        """Begin to write, which `exit` ends; False if a body has the gate."""
        with self._lock:
            if self._holder is not None:
                return False
            self._writers += 1
            return True

    def exit(self) -> None:
        """End that, and let those in who wait."""
        with self._lock:
            self._writers -= 1
            self._is_kernels_turn = False
            waits = bool(self._queue)
        if waits:
            self._let_in()

    def ask(self, call: Body, go: Callable[[], None], *, stays: bool) -> None:
        """Have a body in another process wait for its turn.

        Args:
            call: its call.
            go: called in this thread when its turn has come, which may be at once.
            stays: it is to have the gate until its call ends, not to write once.
        """
        with self._lock:
            if stays:
                call.has_transaction = True
                self._calls.add(call)
            if self._holder is not call:
                self._queue.append(_Waiting(call, stays, go, elsewhere=True))
                go = self._nothing
        go()
        self._let_in()

    def leave(self, call: Body) -> bool:
        """Note that a call has ended; return whether it had the gate, or was about to."""
        if call not in self._calls:
            return False
        with self._lock:
            self._calls.discard(call)
            self._queue = deque(each for each in self._queue if each.call is not call)
            if self._holder is call:
                self._holder = None
                self._is_kernels_turn = True
        return True

    def close(self) -> None:
        """Let nobody in any more; who waits here is told."""
        with self._lock:
            self._is_closed = True
            self._queue.clear()
        self._wake = self._nothing

    # In the threads of bodies

    def enter(self, call: Body) -> None:
        """Have the gate until the call ends; wait for it.

        Raises:
            TaskCancelled: the call was given up.
            Signal: its body was asked to end.
            StorageError: to wait would block the event loop that whoever has it runs on.
        """
        with self._lock:
            self._calls.add(call)
        self._wait(call, stays=True)

    def give_back(self, call: Body) -> None:
        """Leave before the call ends, with nothing done."""
        self.leave(call)
        self._wake()

    @contextmanager
    def writing(self, call: Any) -> Iterator[None]:
        """Write in a `with`; wait for whoever has the gate. It raises what `enter` does, but for signals."""
        if self._holder is call:
            yield
            return
        self._wait(call, stays=False)
        try:
            yield
        finally:
            with self._lock:
                self._writers -= 1
            self._let_in()

    def _wait(self, call: Body, *, stays: bool) -> None:
        with self._lock:
            self._check(call)
            if self._is_free(stays=stays):
                self._take(call, stays=stays, thread=threading.get_ident())
                return
            mine = threading.Event()
            waiting = _Waiting(call, stays, mine.set, elsewhere=False)
            self._queue.append(waiting)
        while not mine.wait(_LOOK_EVERY):
            signal = call.asked() if stays else None
            with self._lock:
                if mine.is_set():
                    break
                if not (call.abandoned or self._is_closed) and signal is None:
                    self._check(call, waiting)
                    continue
                self._forget(waiting)
            if call.abandoned or self._is_closed or signal is None:
                raise _over(call)
            call.send(signal)
        with self._lock:
            if self._holder is call:
                self._thread = threading.get_ident()

    def _check(self, call: Body, waiting: _Waiting | None = None) -> None:
        if self._is_closed or call.abandoned:
            raise _over(call)
        holder = self._holder
        if holder is None or holder is call or self._thread != threading.get_ident():
            return
        if holder.opened is not None and not holder.opened.is_over:
            if waiting is not None:
                self._forget(waiting)
            raise StorageError(
                f"{holder.task.where} has a ctx.transaction() open in the same thread, an event loop, which would "
                "stand still if this one waited for its end; give the one that has it a process of its own: "
                "@task(isolate=True)"
            )

    def _is_free(self, *, stays: bool) -> bool:
        if self._holder is not None:
            return False
        if threading.get_ident() == self._kernel:
            return True  # whose turn it is
        if stays:
            return not (self._writers or self._queue or self._is_kernels_turn)
        return not any(each.stays for each in self._queue)

    def _take(self, call: Body, *, stays: bool, thread: int = 0) -> None:
        if stays:
            self._holder, self._thread = call, thread
        else:
            self._writers += 1

    def _forget(self, waiting: _Waiting) -> None:
        self._queue = deque(each for each in self._queue if each is not waiting)

    def _let_in(self) -> None:
        """Let in those in front, as far as that is possible here and now."""
        while True:
            with self._lock:
                if not self._queue or self._holder is not None or self._is_kernels_turn:
                    return
                first = self._queue[0]
                if first.stays and self._writers:
                    return
                if first.elsewhere and threading.get_ident() != self._kernel:
                    self._wake()
                    return
                self._queue.popleft()
                self._take(first.call, stays=first.stays)
                if not first.elsewhere:
                    first.go()
                    continue
            try:
                first.go()
            finally:
                if not first.stays:
                    with self._lock:
                        self._writers -= 1

    def _nothing(self) -> None:
        pass


def _over(call: Body) -> TaskCancelled:
    return TaskCancelled(
        f"{call.task.where}: attempt {call.attempt.number} is over, and writes nothing any more"
    )
