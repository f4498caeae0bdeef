"""The right to run a call that was sent in advance.

For each such call its sender writes a token into a pipe, four bytes with the call's number. The worker reads
it right before the body; the sender may read it back, as long as it is there. Whoever has read the token has
the call: so a call is run once or taken back, also from a worker that is stuck in another, and of a worker
that has died it is known which bodies had begun. All writes and reads are of whole tokens, which a pipe
keeps whole.
"""

from __future__ import annotations

import array
import os
import sys
from collections.abc import Iterable

__all__ = ["TakenTokens", "Tokens"]

_SIZE = 4
_ALL = 16 * 1024 * _SIZE
"""Bytes a pipe holds; far more than there are tokens at once."""


class Tokens:
    """A pipe of tokens, as its sender holds it; the worker has the reading end.

    Attributes:
        reading: descriptor of the reading end.
    """

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()
        os.set_blocking(self.reading, False)  # of both sides: they share it

    def give(self, numbers: Iterable[int]) -> None:
        """Let the worker run the calls of these numbers; said before they are sent."""
        os.write(self._writing, array.array("I", numbers).tobytes())

    def take_back(self) -> list[int]:
        """Return the numbers of the calls that have not begun; they never will."""
        try:
            return array.array("I", os.read(self.reading, _ALL)).tolist()
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self.reading)
        os.close(self._writing)


class TakenTokens:
    """The worker's side.

    Args:
        reading: descriptor of the reading end.
    """

    def __init__(self, reading: int) -> None:
        self._reading = reading
        self._held: int | None = None

    def take(self, number: int) -> bool:
        """Return whether the call of this number is to be run; asked in the order in which calls were sent."""
        if self._held is None:
            try:
                token = os.read(self._reading, _SIZE)
            except BlockingIOError:
                return False
            self._held = int.from_bytes(token, sys.byteorder)
        if self._held != number:  # that of a later one: this one was taken back
            return False
        self._held = None
        return True

    def close(self) -> None:
        """Leave the tokens to others."""
        os.close(self._reading)
