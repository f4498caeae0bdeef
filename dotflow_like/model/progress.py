"""How far a body has come."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Progress"]


class Progress(NamedTuple):
    """How far a body has come.

    Attributes:
        done: how much is done, in whatever the body counts.
        total: how much there is to do; None if that is not known.
        message: what it is doing now; None for nothing to say.
    """

    done: float
    total: float | None = None
    message: str | None = None
