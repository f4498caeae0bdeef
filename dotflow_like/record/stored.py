"""Results that lie in a journal as bytes, and are read when somebody asks."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from dotflow_like.errors import CodecError
from dotflow_like.record.journal import Codec, Reader

__all__ = ["Stored", "checksum"]


def checksum(data: bytes) -> str:
    """Return the checksum of stored bytes."""
    return blake2b(data, digest_size=16).hexdigest()


class _Reads(Protocol):
    """A journal that keeps bytes."""

    codec: Codec

    def read(self, workflow_id: str, key: str, name: str) -> bytes:
        """Return the bytes of a checkpoint, verified; raise `CorruptCheckpoint`."""


class Stored(NamedTuple):
    """A checkpoint in a journal's storage: read anew each time, so that it takes no memory."""

    journal: _Reads
    workflow_id: str
    key: str
    name: str

    def load(self) -> Any:
        """Return the value; the errors are those of `TaskRun.result`."""
        return _decoded(*self._bytes())

    def _bytes(self) -> tuple[Codec, bytes, str]:
        data = self.journal.read(self.workflow_id, self.key, self.name)
        return self.journal.codec, data, f"{self.name} of task {self.key!r} of run {self.workflow_id}"

    def __reduce__(self) -> tuple[Any, ...]:
        # another process gets the bytes; it may not reach the storage, and need not
        codec, data, where = self._bytes()
        return _Sent, (codec.reader_for(data), data, where)


class _Sent(NamedTuple):
    """A checkpoint as another process gets it."""

    codec: Reader
    data: bytes
    where: str

    def load(self) -> Any:
        return _decoded(*self)


def _decoded(codec: Reader, data: bytes, where: str) -> Any:
    try:
        return codec.decode(data)
    except CodecError as error:
        raise type(error)(f"{where}: {error}") from error
