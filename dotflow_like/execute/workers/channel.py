"""What goes through the socket between a process and its worker: messages in order, large data beside.

A message is a head, and frames of bytes. Frames of more than 64 KiB in all do not go through the socket:
they lie in memory that has no name, only a descriptor, and the descriptor goes through. So nobody waits in
the middle of a message for the other side, and whatever dies, the memory is given back.
"""

from __future__ import annotations

import array
import errno
import mmap
import os
import select
import socket
import struct
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from typing import ClassVar, NamedTuple, Self

from dotflow_like.execute.workers.pickling import LARGE, Buffer

__all__ = ["EMPTY", "Channel", "Handle", "Message", "Parcel", "can_be_read"]

_HEAD = struct.Struct("<IBBxxIIQd")  # the mark, kind, what is beside, frames, number, bytes, extra
_MARK = 0xD07F10E5
_LENGTH = struct.Struct("<Q")
_ALIGNED = 64
"""Bytes: frames in memory begin at multiples of this, as arrays like it."""
_ROOM = 64 * 1024
_SEND = getattr(socket, "MSG_NOSIGNAL", 0)  # a signal of that kind would end a program that has its default
_RECEIVE = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_LATER = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS})
_MAPPED = 200
"""How many received parcels may stay in their memory at once; each holds a descriptor."""


_NOTHING, _MEMORY, _HANDLE = range(3)
"""What is beside a message: no descriptor, that of its frames, or one that is sent for itself."""


class Message(NamedTuple):
    """What arrived.

    Attributes:
        kind: what it says; the two sides agree on the numbers.
        number: what it is about; if a `Handle` was sent, its descriptor here, which belongs to the receiver.
        extra: another number.
        frames: its data; None if they were lost, for want of a descriptor.
    """

    kind: int
    number: int
    extra: float
    frames: Sequence[Buffer] | None


class Parcel:
    """Frames, packed to be sent, once or several times.

    Args:
        frames: each in pieces, which are joined on the way.

    Raises:
        OSError: there is no memory, or no descriptor, for large ones.
    """

    __slots__ = ("beside", "count", "data", "descriptor", "size")

    def __init__(self, frames: Sequence[Sequence[Buffer]]) -> None:
        lengths = [sum(len(piece) for piece in frame) for frame in frames]
        table = b"".join(map(_LENGTH.pack, lengths))
        self.count = len(frames)
        self.size = len(table) + sum(lengths)
        self.data: bytes = b""
        self.descriptor = -1
        self.beside = _NOTHING
        if self.size <= LARGE:
            self.data = b"".join([table, *(piece for frame in frames for piece in frame)])
            return
        self.descriptor = _memory()
        self.beside = _MEMORY
        self.size = _write(self.descriptor, 0, [table])
        for frame in frames:
            self.size = _write(self.descriptor, _up(self.size), frame)
        os.ftruncate(self.descriptor, self.size)  # the last may be of no length

    def __del__(self) -> None:
        if getattr(self, "descriptor", -1) >= 0:
            os.close(self.descriptor)


EMPTY = Parcel(())


class Handle:
    """An open file, to be sent itself.

    Args:
        descriptor: of the file; it stays the sender's, and open until it was sent.
    """

    __slots__ = ("descriptor",)
    beside = _HANDLE
    count = size = 0
    data = b""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor


class Channel:
    """One end of the socket. Sending and receiving never wait, unless they are told to.

    Args:
        end: the socket; it belongs to the channel from now on.

    Attributes:
        ended: the other side is gone: nothing more will come, and nothing that is sent arrives.
        garbled: something else was written into the socket, by a body for instance; it has ended therefore.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._outgoing: deque[tuple[bytearray, Parcel | Handle | None]] = deque()
        self._incoming = bytearray()
        self._descriptors: deque[int] = deque()
        self.ended = False
        self.garbled = False

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def post(self, kind: int, number: int = 0, extra: float = 0.0, parcel: Parcel | Handle = EMPTY) -> None:
        """Take up a message; `flush` sends it."""
        beside = parcel.beside
        head = _HEAD.pack(_MARK, kind, beside, parcel.count, number, parcel.size, extra)
        if beside or not self._outgoing:
            self._outgoing.append((bytearray(head), parcel if beside else None))
        else:
            self._outgoing[-1][0].extend(head)
        self._outgoing[-1][0].extend(parcel.data)

    def flush(self, *, wait: bool = False) -> bool:
        """Send what was taken up; return whether all of it is on its way.

        Args:
            wait: until it is.
        """
        flags = _SEND if wait else _SEND | socket.MSG_DONTWAIT
        outgoing = self._outgoing
        while outgoing and not self.ended:
            # taken out first: a signal handler or a finalizer may post more in the middle of this
            data, parcel = outgoing.popleft()
            try:
                if parcel is None:
                    sent = self._socket.send(data, flags)
                else:
                    descriptors = array.array("i", [parcel.descriptor])
                    beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
                    sent = self._socket.sendmsg([data], beside, flags)
            except OSError as error:
                if error.errno in _LATER:
                    outgoing.appendleft((data, parcel))
                    if not wait:
                        return False
                    time.sleep(0.005)
                    continue
                self.ended = True
                if error.errno is None:  # not the socket's: a signal handler's, a TimeoutError for instance
                    raise
                break
            except BaseException:  # of a signal handler: nobody knows how much was sent
                self.ended = True
                raise
            if sent < len(data):
                outgoing.appendleft((data[sent:], None))
        return True

    def receive(self, *, wait: bool = False) -> list[Message] | None:
        """Return the messages that have arrived whole; None if nothing has arrived.

        Args:
            wait: for something to come, if nothing has; it may be less than a message.
        """
        flags = _RECEIVE if wait else _RECEIVE | socket.MSG_DONTWAIT
        try:
            data, beside, came, _ = self._socket.recvmsg(_ROOM, socket.CMSG_SPACE(64), flags)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno is None:  # not the socket's, but a signal handler's
                raise
            data, beside, came = b"", [], 0
        if not data:
            self.ended = True
            return None
        for level, kind, content in beside:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._descriptors.extend(array.array("i", content[: len(content) - len(content) % 4]))
        if came & socket.MSG_CTRUNC and not beside:
            self._descriptors.append(-1)
        self._incoming += data
        return self._whole()

    def close(self) -> None:
        """Give everything back; nothing can be sent or received any more."""
        self.ended = True
        self._socket.close()
        self._outgoing.clear()
        while self._descriptors:
            _close(self._descriptors.popleft())

    def _whole(self) -> list[Message]:
        incoming, at, messages = self._incoming, 0, []
        while len(incoming) - at >= _HEAD.size:
            mark, kind, beside, count, number, size, extra = _HEAD.unpack_from(incoming, at)
            body = at + _HEAD.size
            frames: Sequence[Buffer] | None = ()
            if mark != _MARK or (beside and not self._descriptors) or (size > LARGE and not beside):
                self.ended = self.garbled = True
                break
            if beside == _MEMORY:
                frames = _mapped(self._descriptors.popleft(), size, count)
            elif beside:
                number = self._descriptors.popleft()
                if number < 0:
                    frames = None
                else:  # already so, where the system can be told on receiving
                    os.set_inheritable(number, False)
            elif size:
                if len(incoming) - body < size:
                    break
                frames = _inline(bytes(incoming[body : body + size]), count)
                body += size
            messages.append(Message(kind, number, extra, frames))
            at = body
        del incoming[:at]
        return messages


def can_be_read(descriptor: int, patience: float) -> bool:
    """Wait so many seconds for something to come; not by `select`, which knows no descriptor above 1023."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(patience * 1000))


def _memory() -> int:
    """Return the descriptor of a new piece of memory; where there is none without a name, of a file without one."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dotflow_like")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write(descriptor: int, at: int, pieces: Sequence[Buffer]) -> int:
    """Write pieces one after another; return where they end."""
    os.lseek(descriptor, at, os.SEEK_SET)
    for piece in pieces:
        rest = memoryview(piece).cast("B") if len(piece) else memoryview(b"")
        while rest:  # a write is never of more than 2 GiB
            rest = rest[os.write(descriptor, rest) :]
        at += len(piece)
    return at


def _up(at: int) -> int:
    return -(-at // _ALIGNED) * _ALIGNED


class _Memory(mmap.mmap):
    """A received parcel, for as long as somebody looks at it."""

    # by id: adding and discarding need no lock, and may be done in a finalizer
    living: ClassVar[set[int]] = set()

    def __new__(cls, descriptor: int, size: int) -> Self:
        made = super().__new__(cls, descriptor, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        cls.living.add(id(made))
        return made

    def __del__(self) -> None:
        self.living.discard(id(self))


def _mapped(descriptor: int, size: int, count: int) -> list[Buffer] | None:
    if descriptor < 0:
        return None
    try:
        memory: Buffer = memoryview(_Memory(descriptor, size))
    except OSError:
        return None
    finally:
        _close(descriptor)
    if len(_Memory.living) > _MAPPED:
        memory = memoryview(bytearray(memory))
    frames: list[Buffer] = []
    at = count * _LENGTH.size
    for (length,) in _LENGTH.iter_unpack(memory[:at]):
        at = _up(at)
        frames.append(memory[at : at + length])
        at += length
    return frames


def _inline(data: bytes, count: int) -> list[Buffer]:
    if count == 1:
        return [data[_LENGTH.size :]]
    frames: list[Buffer] = []
    at = count * _LENGTH.size
    for (length,) in _LENGTH.iter_unpack(data[:at]):
        frames.append(data[at : at + length])
        at += length
    return frames


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
