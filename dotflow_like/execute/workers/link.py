"""The worker's end of the channel, which the threads and the signal handlers of a body use too."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from _signal import pthread_sigmask  # type: ignore[import-not-found]  # that of `signal` makes 64 enumeration members
from collections import deque
from collections.abc import Callable, Sequence

from dotflow_like.errors import TaskCancelled
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import EMPTY, Channel, Message, Parcel, can_be_read
from dotflow_like.execute.workers.pickling import Buffer
from dotflow_like.execute.workers.protocol import error_from
from dotflow_like.model.signals import Signal

__all__ = ["Link"]

_SIGNALS = tuple(map(int, signal.valid_signals()))
_LOOK_EVERY = 0.05
"""Seconds: whoever waits for a message looks that often whether somebody else has received it."""


class Link:
    """Sends from any thread. Receives for the loop of the worker, and while a body runs for what it waits for.

    Args:
        channel: the worker's.

    Attributes:
        messages: those that have been received, and are for the loop.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.messages: deque[Message] = deque()
        self._serials = itertools.count(1)
        self._begin()

    def _begin(self) -> None:
        self._is_sending = self._is_receiving = False
        self._sending = threading.RLock()
        self._receiving = threading.RLock()
        self._asking = threading.RLock()  # one asks at a time; and in the middle of that a signal handler
        self._awaited: set[int] = set()
        self._answers: dict[int, Message] = {}

    def send(self, kind: int, number: int = 0, extra: float = 0.0, parcel: Parcel = EMPTY) -> None:
        """Send a message, from any thread, also out of a finalizer in the middle of another."""
        with self._sending:
            self._channel.post(kind, number, extra, parcel)
            if not self._is_sending:
                self._is_sending = True
                try:
                    self._channel.flush(wait=True)
                finally:
                    self._is_sending = False

    def send_whole(self, kind: int, number: int, parcel: Parcel, extra: float = 0.0) -> None:
        """Send a message in the middle of a body, whose signal handlers shall not interrupt that."""
        before = pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self.send(kind, number, extra, parcel)
        finally:
            pthread_sigmask(signal.SIG_SETMASK, before)

    def next(self, patience: float | None) -> Message | None:
        """Return the next message; None if none comes in that many seconds, or ever.

        Args:
            patience: seconds; None for as long as it takes.
        """
        while not self.messages:
            if patience is not None and not can_be_read(self._channel.fileno(), patience):
                return None
            self.messages.extend(self._channel.receive(wait=True) or ())
            if self._channel.ended:
                return None
        return self.messages.popleft()

    def stop_of(self, number: int, is_over: Callable[[], bool]) -> Signal | None:
        """Return what a call has been asked to become, the latest; None if nothing, or if it is over."""
        with self._receiving:
            if is_over():
                return None
            if not self._awaited:  # else whoever waits receives
                self._receive()
            for each in reversed(self.messages):
                if each.kind == protocol.STOP and each.number == number and each.frames:
                    return protocol.signal_of(each.frames)
            return None

    def wait(self, seconds: float) -> None:
        """Wait that long, but for no longer than until something has come."""
        if self._channel.ended or self._awaited:
            time.sleep(min(seconds, 0.001 if self._awaited else 1.0))
        else:
            can_be_read(self._channel.fileno(), min(seconds, _LOOK_EVERY))

    def ask(self, number: int, question: Parcel, is_over: Callable[[], bool]) -> Sequence[Buffer]:
        """Return what the parent answers to a question of a call.

        Raises:
            Exception: what it was refused with.
            TaskCancelled: the call is over.
        """
        with self._asking:
            serial = next(self._serials)
            self._awaited.add(serial)
            try:
                # not once it is over: then the loop of the worker receives, too
                if not is_over():
                    self.send_whole(protocol.ASK, number, question, serial)
                while serial not in self._answers:
                    if not self._channel.ended:
                        can_be_read(self._channel.fileno(), _LOOK_EVERY)
                    with self._receiving:
                        if self._channel.ended or is_over():
                            raise TaskCancelled(
                                "the attempt is over, or this is another process: nothing is saved any more"
                            )
                        self._receive()
                answer = self._answers[serial]
            finally:
                self._awaited.discard(serial)
                self._answers.pop(serial, None)
        if answer.frames is None:
            raise OSError("what was saved cannot be read: too many files are open in the worker process")
        if answer.kind == protocol.REFUSAL:
            record = error_from(answer.frames, 0)
            raise record.error or OSError(f"{record.exception}: {record.message}")
        return answer.frames

    def over(self, end: Callable[[], None]) -> None:
        """Call a function while nobody but the loop of the worker receives, nor does from then on."""
        with self._receiving:
            end()

    def leave(self) -> None:
        """Have no say any more: in a child that a body has forked."""
        self._channel.close()
        self.messages.clear()
        self._begin()  # the locks may have been another thread's

    def _receive(self) -> None:
        """Take in what has come, without waiting; done with `_receiving`."""
        if self._is_receiving:
            return  # this is a signal handler, in the middle of that
        self._is_receiving = True
        try:
            for message in self._channel.receive() or ():
                if message.kind not in (protocol.ANSWER, protocol.REFUSAL):
                    self.messages.append(message)
                elif message.extra in self._awaited:  # else who has asked was interrupted
                    self._answers[int(message.extra)] = message
        finally:
            self._is_receiving = False
