"""The seam behind which bytes lie: four methods to write, and their contract."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import Enum
from typing import Final

__all__ = ["ANY", "Any_", "Storage"]


class Any_(Enum):  # noqa: N801  # reads as what it is, the type of ANY, beside `Any`
    """The type of `ANY`, for annotations: `expected: bytes | Any_ | None = ANY`."""

    ANY = "ANY"

    def __repr__(self) -> str:
        return "ANY"

    __str__ = __repr__


ANY: Final = Any_.ANY
"""For `Storage.put`: whatever is there now, and also when nothing is."""


class Storage(ABC):
    r"""A map from keys to bytes that several threads, and where it is shared several processes, use at once.

    Write `get`, `put`, `delete` and `keys`; the rest is provided on top. Subclass
    `dotflow_like.testing.StorageContract` to check them.

    What holds for every method:

    * A **key** is any `str`: empty, with empty parts (`"a//b"`, `"/"`), with `.`, `..`, `\`, NUL, spaces and
      any Unicode, thousands of characters long. Two keys are the same only if they are equal as `str`:
      neither case nor Unicode normalisation nor a trailing `/` makes them one. `/` has no meaning beyond
      that: `"a"` and `"a/b"` both hold a value. Only a key with lone surrogates may be refused, by a
      `StorageError`.
    * A **value** is any `bytes`, the empty one too, which is not the same as no value.
    * **Atomic**: `put` and `delete` happen at one moment between call and return, entirely or not at all,
      even if the process is killed within. No reader ever sees a part of a value or a mixture of two.
    * **Visible at once**: what has returned is seen by whatever starts afterwards, in every thread and every
      process that uses the same place.
    * **Errors**: a place that cannot be read or written raises `StorageError`, naming the place and the
      reason, from the original exception. A call that fails leaves the old value as it was. "Not there" is
      an answer, no error.
    * **Inert**: constructing a storage touches nothing; what it needs is made by the first write.

    Attributes:
        lock_folder: a folder of this machine where all processes that use the same place lock their runs
            against each other. None (default) if there is none: then only the fence keeps two owners apart.
    """

    lock_folder: str | None = None

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """Return the value of `key`, None when there is none.

        Raises:
            StorageError: the place cannot be read.
        """

    @abstractmethod
    def put(self, key: str, data: bytes, *, expected: bytes | Any_ | None = ANY) -> bool:
        """Make `data` the value of `key` if its value is `expected`: compare-and-set.

        Comparing and setting are one step: of several writers that expect the same, in whatever thread or
        process, one gets True. Nothing comes between the two, nor does a `delete` or a `put` of `ANY`.

        Args:
            key: any text.
            data: any bytes; they are stored as they are at the time of the call.
            expected: None: there must be no value. Bytes: the value must equal them. `ANY`: no condition.

        Returns:
            True when the value is now `data` (as durably as the storage promises), False when it was not
            `expected`; then nothing has changed. Always True for `ANY`.

        Raises:
            StorageError: the place cannot be written; the old value is as it was.
        """

    @abstractmethod
    def delete(self, key: str) -> bool:
        """Remove `key` and its value.

        Returns:
            True when this call removed it, False when it was not there. Of several at once, one gets True.

        Raises:
            StorageError: the place cannot be written.
        """

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """Give the keys that start with `prefix`, in no particular order, each once.

        `prefix` is compared as text: `"a"` finds `"a"`, `"ab"` and `"a/b"`, and `""` finds all. Callers may
        put and delete while they iterate. A key that is there from the call to the end of the iteration is
        given; one that comes or goes meanwhile may be.

        Raises:
            StorageError: the place cannot be read; at the call or while iterating.
        """

    def clear(self, prefix: str) -> None:
        """Delete every key that starts with `prefix`, one by one; `""` deletes all.

        Not atomic: a key put meanwhile may stay, and an error leaves the keys not yet reached.

        Raises:
            StorageError: the place cannot be read or written.
        """
        for key in self.keys(prefix):
            self.delete(key)
