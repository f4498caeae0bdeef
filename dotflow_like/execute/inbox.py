"""The one place where everything that happens to a run arrives."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import selectors
    import socket

__all__ = ["Inbox"]

_READ, _WRITE = 1, 2  # of `selectors`, which is not imported for a queue


class Inbox:
    """Messages from any thread, any signal handler, and file descriptors.

    Reading is for one thread. As long as nothing is watched it is a queue; the first `watch` adds a
    selector, so that one wait serves both.

    Attributes:
        empty: returns whether no message waits; descriptors are not looked at.
    """

    def __init__(self) -> None:
        # a simple one, since a signal handler may call its put inside its get
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self.empty = self._queue.empty
        self._selector: selectors.BaseSelector | None = None
        self._bell: tuple[socket.socket, socket.socket] | None = None

    def put(self, message: Any) -> None:
        """Add a message, and wake the reader."""
        self._queue.put(message)
        if self._bell is not None:
            with suppress(OSError):  # full: it rings already; closed: nobody reads any more
                self._bell[1].send(b"!")

    def add(self, message: Any) -> None:
        """Add a message in the reader's thread, which need not be woken."""
        self._queue.put(message)

    def get(self, patience: float | None) -> Any:
        """Return the oldest message; wait for one up to `patience` seconds (None: without limit).

        Raises:
            Empty: none came.
        """
        if self._selector is None:
            return self._queue.get(True, patience)
        until = None if patience is None else monotonic() + patience
        left = patience
        while self._queue.empty():
            ready = self._selector.select(left)
            for key, events in ready:
                receive, send = key.data
                if send is not None and events & _WRITE:
                    send()
                if events & _READ:
                    receive()
            if self._queue.empty() and (not ready or left == 0):
                raise Empty
            if until is not None:  # what came need not be a message
                left = max(0.0, until - monotonic())
        return self._queue.get_nowait()

    def watch(
        self, descriptor: Any, receive: Callable[[], None], send: Callable[[], None] | None = None
    ) -> None:
        """Call `receive`, in the reader's thread, whenever `descriptor` can be read; it adds what it finds.

        Args:
            descriptor: what to watch; watched already, it is watched in this way from now on.
            receive: may be called once more when it is watched no longer.
            send: called whenever the descriptor can be written; None if nobody wants to write.
        """
        import selectors

        if self._selector is None:
            import socket

            heard, rung = socket.socketpair()
            rung.setblocking(False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(heard, _READ, (lambda: heard.recv(4096), None))
            self._bell = heard, rung
        events = _READ if send is None else _READ | _WRITE
        change = self._selector.modify if descriptor in self._selector.get_map() else self._selector.register
        change(descriptor, events, (receive, send))

    def forget(self, descriptor: Any) -> None:
        """Stop watching `descriptor`, if it is watched."""
        if self._selector is not None and descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def close(self) -> None:
        """Give back what watching took."""
        if self._selector is not None:
            self._selector.close()
            self._selector = None
        if self._bell is not None:
            for end in self._bell:
                end.close()
