"""What a `TaskContext` needs of the attempt that runs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

if TYPE_CHECKING:
    from sqlite3 import Connection

    from dotflow_like.model.places import Root
    from dotflow_like.model.progress import Progress
    from dotflow_like.model.signals import Signal

__all__ = ["Running", "SavedValues"]


class SavedValues(Protocol):
    """What the attempts of one task have saved, as one of them sees it. Any thread of its body may use it.

    Attributes:
        root: where the attempt's steps and iterations are counted.
    """

    root: Root

    def names(self) -> Collection[str]:
        """Return the names of what is there."""

    def load(self, name: str) -> Any:
        """Return a value; raise `KeyError` if there is none."""

    def save(self, name: str, value: Any, *, dropping: Collection[str] = (), lazily: bool = False) -> None:
        """Keep a value, and drop others, in one step: it is there when this returns.

        Args:
            name: of the value.
            value: what to keep, as it is now.
            dropping: names of what is dropped.
            lazily: it has to survive the death of the process, not that of the machine.

        Raises:
            NotSerializable: it cannot be kept; nothing is changed.
            TaskCancelled: the attempt is over, or was given up.
        """

    def drop(self, names: Collection[str]) -> None:
        """Drop values, those of `names` that are there."""


class Running(Protocol):
    """An attempt that runs."""

    def asked(self) -> Signal | None:
        """Return what the body is asked to become: paused, cancelled or skipped; None for nothing."""

    def report(self, progress: Progress) -> None:
        """Tell the run how far the body has come."""

    def send(self, signal: Signal) -> NoReturn:
        """Note what the body says shall happen next, which counts even if it catches this, and raise it."""

    def sleep(self, seconds: float) -> None:
        """Wait, until the body is asked to end."""

    def saved(self) -> SavedValues:
        """Return what the task has saved; always the same object."""

    def transaction(self) -> Connection:
        """Return the connection whose changes are committed with the task's result."""
