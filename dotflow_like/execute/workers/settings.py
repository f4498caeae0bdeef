"""What the workers of a run are to be like."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

__all__ = ["DEFAULTS", "WorkerSettings"]


class WorkerSettings(NamedTuple):
    """What a run asks of its workers; `Config` describes each.

    Attributes:
        start_method: how they begin: fresh, or as copies of this process.
        init: called once in each before its first task; None for nothing.
        max_tasks: how many tasks one runs before it is replaced; None for any number.
        contextvars: the variables that have in them the values they have where the run is started.
    """

    start_method: Literal["spawn", "fork"] = "spawn"
    init: Callable[[], object] | None = None
    max_tasks: int | None = None
    contextvars: tuple[ContextVar[Any], ...] = ()


DEFAULTS = WorkerSettings()
