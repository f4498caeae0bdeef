"""What bodies save while they run: checkpoints, steps, cursors."""

from __future__ import annotations

import threading
from collections.abc import Collection
from contextlib import nullcontext
from copy import deepcopy
from typing import TYPE_CHECKING, Any, Protocol

from dotflow_like.declare.task import Task
from dotflow_like.errors import TaskCancelled
from dotflow_like.model.places import Root
from dotflow_like.model.records import RESULT, Attempt, Checkpoint, Held, Reference
from dotflow_like.record.journal import Change, Claim, Encoded, Journal

if TYPE_CHECKING:
    from dotflow_like.execute.gate import Gate

__all__ = ["Kept", "Store"]

_ATOMIC = frozenset((type(None), bool, int, float, str, bytes))

_making = threading.RLock()


class _Call(Protocol):
    """What is needed of a call."""

    task: Task[..., Any]
    attempt: Attempt
    abandoned: bool
    kept: Kept | None


class Store:
    """Keeps what the bodies of a run save, in its journal; from any thread.

    Args:
        journal: the run's.
        claim: the right to record there; None for a run in which no body runs.
        gate: keeps bodies from saving while another one has a transaction open; None where none can.
    """

    def __init__(self, journal: Journal, claim: Claim | None, gate: Gate | None = None) -> None:
        self._journal = journal
        self._claim = claim
        self._gate = gate

    def of(self, call: _Call) -> Kept:
        """Return what the attempts of a call's task have saved; always the same object for a call."""
        with _making:
            if call.kept is None:
                assert self._claim is not None, "no body runs"
                call.kept = Kept(self._journal, self._claim, call, self._gate)
            return call.kept


class Kept:
    """What the attempts of one task have saved, as one of them sees it; see `SavedValues`.

    Args:
        journal: where it is.
        claim: the run's.
        call: the attempt that runs; once it is over, or given up, it can save no more.
        gate: keeps it from saving while another body has a transaction open; None where none can.
        names: what is there, as far as is known already.

    Attributes:
        root: where its steps and iterations are counted.
    """

    __slots__ = ("_call", "_claim", "_gate", "_journal", "_names", "root")

    def __init__(
        self,
        journal: Journal,
        claim: Claim,
        call: _Call,
        gate: Gate | None = None,
        names: dict[str, None] | None = None,
    ) -> None:
        self.root = Root()
        self._journal = journal
        self._claim = claim
        self._call = call
        self._gate = gate
        # nobody but attempts saves anything
        self._names = {} if names is None and call.attempt.number == 1 else names

    def names(self) -> Collection[str]:
        if self._names is None:
            workflow_id, key = self._call.attempt[:2]
            found = self._journal.tasks(workflow_id, [key])
            kept = found[key].checkpoints if key in found else ()
            # as a whole, and at once: another thread may do the same
            self._names = {name: None for name in kept if name != RESULT} | (self._names or {})
        return self._names.copy()

    def load(self, name: str) -> Any:
        return self.reference(name).load()

    def reference(self, name: str) -> Reference:
        """Return where a value is; raise `KeyError` if there is none."""
        if name not in self._known():
            raise KeyError(name)
        workflow_id, key = self._call.attempt[:2]
        return self._journal.reference(workflow_id, key, name)

    def save(self, name: str, value: Any, *, dropping: Collection[str] = (), lazily: bool = False) -> None:
        codec = self._journal.codec
        self.put(name, _Copied(value) if codec is None else Encoded(codec.encode(value)), dropping, lazily)

    def put(
        self, name: str, value: Encoded | Reference, dropping: Collection[str] = (), lazily: bool = False
    ) -> None:
        """Save a value as the journal keeps it; else as `save`."""
        key = self._call.attempt.task_id
        changes: list[Change] = [Checkpoint(key, name, value)]
        if dropping:
            changes += [Checkpoint(key, each, None) for each in dropping]
        self._commit(changes, lazily)
        known = self._known()
        known[name] = None
        for each in dropping:
            known.pop(each, None)

    def drop(self, names: Collection[str]) -> None:
        known = self._known()
        there = [name for name in names if name in known]
        if there:
            key = self._call.attempt.task_id
            self._commit([Checkpoint(key, name, None) for name in there])
            for name in there:
                known.pop(name, None)

    def go_on_in(self, journal: Journal) -> None:
        """Read and save in what the attempt's transaction sees of the journal."""
        self._journal = journal

    def _known(self) -> dict[str, None]:
        if self._names is None:
            self.names()
            assert self._names is not None, "it has just been read"
        return self._names

    def _commit(self, changes: list[Change], lazily: bool = False) -> None:
        call = self._call
        if call.abandoned or hasattr(call, "outcome"):
            raise TaskCancelled(
                f"{call.task.where}: attempt {call.attempt.number} is over, and saves nothing any more"
            )
        with nullcontext() if self._gate is None else self._gate.writing(call):
            self._journal.commit(self._claim, changes, lazily=lazily)


class _Copied(Held):
    """A value in this process, as it was when it was saved, whatever bodies do with it before and after."""

    __slots__ = ()

    def __init__(self, value: Any) -> None:
        super().__init__(_copy(value))

    def load(self) -> Any:
        return _copy(self.value)


def _copy(value: Any) -> Any:
    kind = type(value)
    if kind in _ATOMIC:
        return value
    if kind is list and all(type(part) in _ATOMIC for part in value):
        return value.copy()
    try:
        return deepcopy(value)
    except Exception:  # a lock, a connection: there is only the one
        return value
