"""Values in this process, gone with it."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

from dotflow_like.record.storage.base import ANY, Any_, Storage

__all__ = ["MemoryStorage"]


class MemoryStorage(Storage):
    """Bytes in a dict: for tests, and for runs that nothing needs to survive.

    One instance is one place: threads share it, other processes and other instances do not see it.
    """

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}
        self._lock = Lock()

    def get(self, key: str) -> bytes | None:
        """Return the value of `key`, None when there is none."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: str, data: bytes, *, expected: bytes | Any_ | None = ANY) -> bool:
        """Make `data` the value of `key` if its value is `expected`; see `Storage.put`."""
        copy = bytes(data)  # a bytearray its caller goes on changing must not change what is stored
        with self._lock:
            if expected is not ANY and self._values.get(key) != expected:
                return False
            self._values[key] = copy
            return True

    def delete(self, key: str) -> bool:
        """Remove `key`; False when it was not there."""
        with self._lock:
            return self._values.pop(key, None) is not None

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Give the keys that start with `prefix`, as they were at the time of the call."""
        with self._lock:
            found = [key for key in self._values if key.startswith(prefix)]
        return iter(found)

    def __repr__(self) -> str:
        return f"<MemoryStorage of {len(self._values)} keys>"
