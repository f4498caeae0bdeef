"""What every journal does, and the one that lives in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import Any, NamedTuple, Protocol

from dotflow_like.errors import ClaimLost
from dotflow_like.model.records import Attempt, Checkpoint, Discard, Reference, RunRecord, TaskRecord
from dotflow_like.model.status import ATTEMPT_MOVES, AttemptOutcome, AttemptStatus, RunStatus, check_move

__all__ = [
    "Change",
    "Claim",
    "Codec",
    "Encoded",
    "Journal",
    "MemoryJournal",
    "after",
    "claim_lost",
    "claimed",
    "reopening",
]


class Codec(Protocol):
    """Turns values into bytes and back, exactly."""

    name: str

    def encode(self, value: object, /) -> bytes:
        """Return the bytes of `value`; raise `NotSerializable` if it has no exact stored form."""

    def decode(self, data: bytes, /) -> Any:
        """Return the value; raise `CodecError` for bytes `encode` did not make."""


class Encoded(NamedTuple):
    """A result as the bytes its run's codec made, on its way to a journal."""

    data: bytes


class Claim(NamedTuple):
    """The right to write to a run, until somebody claims it anew."""

    workflow_id: str
    owner: str
    fence: int


Change = Attempt | Checkpoint | Discard | RunRecord
"""A row as it is to be, or the order to drop one. A checkpoint's value is `Held` or `Encoded`."""


class Journal(ABC):
    """What runs record: their own row, their tasks' attempts, their checkpoints.

    Attributes:
        codec: makes the bytes of results; None for a journal that keeps objects.
    """

    codec: Codec | None = None

    @abstractmethod
    def create(self, run: RunRecord) -> bool:
        """Record a new run; False, changing nothing, if its id is known."""

    @abstractmethod
    def claim(self, workflow_id: str, owner: str, at: datetime) -> Claim:
        """Take a run over: raise its fence, name the owner, and refuse what earlier owners write from now on."""

    @abstractmethod
    def run(self, workflow_id: str) -> RunRecord | None:
        """Return the row of a run, None if the id is not known."""

    @abstractmethod
    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        """Return what is recorded of those of the tasks of which anything is."""

    @abstractmethod
    def task_keys(self, workflow_id: str) -> list[str]:
        """Return the keys of all tasks of which anything is recorded, those no longer planned too."""

    @abstractmethod
    def commit(self, claim: Claim, changes: Sequence[Change]) -> None:
        """Write all of `changes`, in order, as one transaction.

        A journal over a storage that cannot write several keys at once writes task by task, each
        with all that `changes` has of it: a reader sees an attempt closed with its result or not at all.

        Raises:
            ClaimLost: somebody else has claimed the run; nothing of a task they touched is written.
            IllegalMove: an attempt cannot go to that status; nothing is written.
            StorageError: it could not be written.
        """

    @abstractmethod
    def reference(self, workflow_id: str, key: str, name: str) -> Reference:
        """Return the reference to a checkpoint that was committed."""

    def attempts(self, workflow_id: str) -> list[Attempt]:
        """Return every attempt of a run, task by task in the order of their keys."""
        found = self.tasks(workflow_id, sorted(self.task_keys(workflow_id)))
        return [attempt for record in found.values() for attempt in record.attempts]


def after(record: TaskRecord, changes: Iterable[Change]) -> TaskRecord:
    """Return what a task's record is after `changes`.

    Raises:
        IllegalMove: an attempt cannot go to the status a change says.
    """
    attempts = list(record.attempts)
    checkpoints = dict(record.checkpoints)
    generation = record.generation
    for change in changes:
        if isinstance(change, Attempt):
            known = next(
                (i for i, each in enumerate(attempts) if each.number == change.number), len(attempts)
            )
            check_move(change.id, attempts[known].status if known < len(attempts) else None, change.status)
            attempts[known : known + 1] = [change]
        elif isinstance(change, Checkpoint):
            checkpoints[change.name] = change
        else:
            checkpoints.clear()
            generation += 1
    return TaskRecord(record.task_id, tuple(attempts), checkpoints, generation)


def reopening(record: TaskRecord, at: datetime, *, discard: bool) -> list[Change]:
    """Return the changes with which a run's next owner takes over what is recorded of a task.

    An attempt that was running when its process ended is closed as recovered; with `discard` its
    checkpoints go too.
    """
    changes: list[Change] = []
    last = record.attempts[-1] if record.attempts else None
    if last is not None and last.status is AttemptStatus.RUNNING:
        ended = max(at, last.started_at or at)
        changes.append(
            last._replace(status=AttemptStatus.FAILED, outcome=AttemptOutcome.RECOVERED, finished_at=ended)
        )
    if discard and (record.checkpoints or record.attempts):
        changes.append(Discard(record.task_id))
    return changes


def claimed(run: RunRecord, owner: str, at: datetime) -> RunRecord:
    """Return the row of `run` as it is under a new claim of `owner`."""
    return replace(
        run,
        owner=owner,
        fence=run.fence + 1,
        status=RunStatus.RUNNING,
        reason=None,
        started_at=at,
        finished_at=None,
    )


def claim_lost(claim: Claim, run: RunRecord) -> ClaimLost:
    """Return the error for a write under a claim that is no longer the run's."""
    return ClaimLost(
        f"run {claim.workflow_id} was taken over by {run.owner} (claim {run.fence}); this process, "
        f"{claim.owner}, held claim {claim.fence} and can write no more"
    )


class MemoryJournal(Journal):
    """Keeps objects, as they are, for as long as this process lives."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: dict[str, _Rows] = {}

    def create(self, run: RunRecord) -> bool:
        with self._lock:
            if run.workflow_id in self._runs:
                return False
            self._runs[run.workflow_id] = _Rows(run)
            return True

    def claim(self, workflow_id: str, owner: str, at: datetime) -> Claim:
        with self._lock:
            rows = self._runs[workflow_id]
            rows.run = claimed(rows.run, owner, at)
            return Claim(workflow_id, owner, rows.run.fence)

    def run(self, workflow_id: str) -> RunRecord | None:
        rows = self._runs.get(workflow_id)
        return None if rows is None else rows.run

    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        with self._lock:
            rows = self._runs[workflow_id]
            return {key: rows.record(key) for key in keys if key in rows.task_keys}

    def task_keys(self, workflow_id: str) -> list[str]:
        return list(self._runs[workflow_id].task_keys)

    def commit(self, claim: Claim, changes: Sequence[Change]) -> None:
        rows = self._runs[claim.workflow_id]
        with self._lock:
            if rows.run.fence != claim.fence:
                raise claim_lost(claim, rows.run)
            attempts = rows.attempts
            replaced: list[Attempt | None] = []
            for change in changes:
                if type(change) is Attempt:
                    key = (
                        change[1],
                        change[2],
                    )  # task_id, number: by place, the quickest way into a named tuple
                    known = attempts.get(key)
                    if change[3] not in ATTEMPT_MOVES[None if known is None else known[3]]:
                        rows.take_back(changes, replaced)
                        check_move(change.id, None if known is None else known.status, change.status)
                    replaced.append(known)
                    attempts[key] = change
            for change in changes:
                if type(change) is not Attempt:
                    rows.apply(change)

    def reference(self, workflow_id: str, key: str, name: str) -> Reference:
        return self._runs[workflow_id].values[key, name]


class _Rows:
    """The rows of one run."""

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self.attempts: dict[tuple[str, int], Attempt] = {}
        # the parts of checkpoints: most have no fingerprints, and need no object of their own
        self.values: dict[tuple[str, str], Reference] = {}
        self.identities: dict[tuple[str, str], tuple[Mapping[str, str] | None, str | None]] = {}
        self.generations: dict[str, int] = {}

    @property
    def task_keys(self) -> dict[str, None]:
        return dict.fromkeys(key for key, _ in self.attempts)

    def take_back(self, changes: Sequence[Change], replaced: Sequence[Attempt | None]) -> None:
        """Undo the first attempts among `changes`, in whose places `replaced` were."""
        written = [change for change in changes if isinstance(change, Attempt)][: len(replaced)]
        for change, before in reversed(list(zip(written, replaced, strict=True))):
            if before is None:
                del self.attempts[change.task_id, change.number]
            else:
                self.attempts[change.task_id, change.number] = before

    def apply(self, change: Change) -> None:
        if type(change) is Checkpoint:
            key = change[0], change[1]  # task_id and name
            self.values[key] = change.value
            if change.inputs is not None or change.code is not None:
                self.identities[key] = change.inputs, change.code
        elif isinstance(change, RunRecord):
            self.run = change
        else:
            self.generations[change.task_id] = self.generations.get(change.task_id, 1) + 1
            for key in [key for key in self.values if key[0] == change.task_id]:
                del self.values[key]
                self.identities.pop(key, None)

    def record(self, key: str) -> TaskRecord:
        return TaskRecord(
            key,
            tuple(attempt for (task_id, _), attempt in self.attempts.items() if task_id == key),
            {
                name: Checkpoint(key, name, value, *self.identities.get((key, name), (None, None)))
                for (task_id, name), value in self.values.items()
                if task_id == key
            },
            self.generations.get(key, 1),
        )
