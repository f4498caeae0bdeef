"""What every journal does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from dotflow_like.errors import ClaimLost, IllegalMove, RunInProgress
from dotflow_like.model.records import (
    Attempt,
    Checkpoint,
    Discard,
    Reference,
    Request,
    RunRecord,
    TaskRecord,
)
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus, check_move

if TYPE_CHECKING:
    from dotflow_like.record.locks import RunLocks

__all__ = [
    "OPEN",
    "Change",
    "Claim",
    "Codec",
    "Encoded",
    "Journal",
    "Reader",
    "after",
    "check_unclaimed",
    "claim_lost",
    "claimed",
    "crashes_of",
    "is_late",
    "recovered",
    "restated",
]

OPEN: Final = (RunStatus.PENDING, RunStatus.RUNNING)
"""The statuses of a run that has not ended, of which something can be asked."""


class Reader(Protocol):
    """Turns bytes of a codec back into values."""

    def decode(self, data: bytes, /) -> Any:
        """Return the value; raise `CodecError` for bytes the codec did not make."""


class Codec(Reader, Protocol):
    """Turns values into bytes and back, exactly."""

    name: str

    def encode(self, value: object, /) -> bytes:
        """Return the bytes of `value`; raise `NotSerializable` if it has no exact stored form."""

    def reader_for(self, data: bytes, /) -> Reader:
        """Return what decodes `data` in another process."""


class Encoded(NamedTuple):
    """A result as the bytes its run's codec made, on its way to a journal."""

    data: bytes


class Claim(NamedTuple):
    """The right to write to a run, until somebody claims it anew.

    Attributes:
        workflow_id: the run.
        owner: who has it, as `host:pid:token`.
        fence: its number; each claim of a run has a higher one than those before.
        crashes: how many owners in a row have died before, after a body had begun and without a task completed.
    """

    workflow_id: str
    owner: str
    fence: int
    crashes: int = 0


Change = Attempt | Checkpoint | Discard | RunRecord
"""A row as it is to be, or the order to drop one.

A checkpoint's value is `Held` or `Encoded`, or None to drop it. Of a run is written where it is (mode, status,
reason, times, owner, fence, crashes), and not what it was created with.
"""


class Journal(ABC):
    """What runs record: their own row, their tasks' attempts, their checkpoints.

    Attributes:
        codec: makes the bytes of results; None for a journal that keeps objects.
        has_transactions: whether a body can write into the same place together with its result.
        locks: where owners of runs lock them against others of this machine; None if nowhere.
    """

    codec: Codec | None = None
    has_transactions = False
    locks: RunLocks | None = None

    @abstractmethod
    def create(self, run: RunRecord) -> bool:
        """Record a new run; False, changing nothing, if its id is known, or its workflow's idempotency key."""

    @abstractmethod
    def claim(
        self, workflow_id: str, owner: str, at: datetime, *, anew: bool = False, after: int | None = None
    ) -> Claim:
        """Take a run over: raise its fence, name the owner, and refuse what earlier owners write from now on.

        Attempts that were running are closed as recovered, and crashes are counted: see `crashes_of`. What was
        asked of a run that had ended is forgotten; a request to one whose owner has died goes on waiting.

        Args:
            workflow_id: a run that is known.
            owner: who takes it, as `host:pid:token`.
            at: now.
            anew: forget earlier crashes.
            after: number of the claim that was the last as far as the caller knows, 0 for none; None for whatever
                it is.

        Raises:
            RunInProgress: somebody has claimed it since; nothing is changed.
        """

    @abstractmethod
    def run(self, workflow_id: str, *, params: bool = True) -> RunRecord | None:
        """Return the row of a run, None if the id is not known.

        Args:
            workflow_id: the run.
            params: False: leave its params alone, and have none in the row.
        """

    @abstractmethod
    def find(self, workflow: str, idempotency_key: str) -> str | None:
        """Return the id of the workflow's run that was started with this key, None if none was."""

    @abstractmethod
    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        """Return what is recorded of those of the tasks of which anything is."""

    @abstractmethod
    def task_keys(self, workflow_id: str) -> list[str]:
        """Return the keys of all tasks of which anything is recorded, those no longer planned too."""

    @abstractmethod
    def commit(self, claim: Claim, changes: Sequence[Change], *, lazily: bool = False) -> None:
        """Write all of `changes`, in order, as one transaction.

        An attempt that completes keeps what it was opened with: when it was scheduled, owner, fence, generation.

        A journal over a storage that cannot write several keys at once writes task by task, each
        with all that `changes` has of it: a reader sees an attempt closed with its result or not at all.

        Args:
            claim: the run's.
            changes: the rows.
            lazily: it has to survive the death of the process, not that of the machine.

        Raises:
            ClaimLost: somebody else has claimed the run; nothing of a task they touched is written, but for
                an attempt of this claim that comes to its end here: its outcome is now `discarded`.
            IllegalMove: an attempt cannot go to that status; nothing is written.
            StorageError: it could not be written.
        """

    @abstractmethod
    def end(self, claim: Claim, changes: Sequence[Change], answered: Request | None = None) -> bool:
        """Write `changes`, as `commit` does, the last of which is the row of the run as it ends.

        False, writing nothing, if a request waits that is not `answered`: the run has to look at it first. So none
        that was accepted is overlooked: what is asked at the same time comes before the end, or is refused.

        Args:
            claim: the run's.
            changes: the rows; that of the run with a status that is none of `OPEN`.
            answered: the request that led to this end, or no longer matters; it waits no longer.

        Raises:
            ClaimLost: see `commit`, and so on.
        """

    @abstractmethod
    def ask(self, workflow_id: str, request: Request, instead_of: Request | None = None) -> bool:
        """Ask something of a run: a compare-and-set of the one request that it can have.

        Args:
            workflow_id: a run that is known.
            request: what is asked.
            instead_of: the request whose place it takes; None if none waits.

        Returns:
            True when it waits now. False, changing nothing, if what waits is not `instead_of`, or if the run has
            ended.
        """

    @abstractmethod
    def asked(self, workflow_id: str) -> Request | None:
        """Return the request that waits, None if none does, or the id is not known."""

    @abstractmethod
    def answer(self, claim: Claim, request: Request) -> bool:
        """Take a request away; False, changing nothing, if it is not the one that waits.

        Raises:
            ClaimLost: somebody else has claimed the run.
        """

    def start(self, claim: Claim, attempt: Attempt) -> bool:
        """Record that an attempt is running; False, changing nothing, when it was started already.

        Of several that start the same attempt at once, under one claim, one gets True.

        Args:
            claim: the run's.
            attempt: as it is to be: running.

        Raises:
            IllegalMove: it has ended without having been started.
            ClaimLost: somebody else has claimed the run.
            StorageError: it could not be written.
        """
        try:
            self.commit(claim, [attempt])
        except IllegalMove:
            record = self.tasks(attempt.workflow_id, [attempt.task_id])[attempt.task_id]
            if not any(each.number == attempt.number and each.started_at for each in record.attempts):
                raise
            return False
        return True

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
            if change.value is None:
                checkpoints.pop(change.name, None)
            else:
                checkpoints[change.name] = change
        else:
            checkpoints.clear()
            generation += 1
    return TaskRecord(record.task_id, tuple(attempts), checkpoints, generation)


def recovered(attempt: Attempt, at: datetime) -> Attempt:
    """Return an attempt that was running when its process ended, as the next owner closes it."""
    return attempt._replace(
        status=AttemptStatus.FAILED,
        outcome=AttemptOutcome.RECOVERED,
        finished_at=max(at, attempt.started_at or at),
    )


def is_late(change: Change, attempt: Attempt, claim: Claim) -> bool:
    """Return whether a change under a lost claim ends an attempt that the next owner has recovered."""
    return (
        type(change) is Attempt
        and change.finished_at is not None
        and (change.task_id, change.number) == (attempt.task_id, attempt.number)
        and attempt.outcome is AttemptOutcome.RECOVERED
        and attempt.fence == claim.fence
    )


def crashes_of(run: RunRecord, statuses: Collection[AttemptStatus], *, anew: bool) -> int:
    """Return how many owners of a run have died in a row, after a body had begun and with no task completed.

    Args:
        run: its row, as its last owner left it.
        statuses: those of the attempts made under its last claim.
        anew: forget them.
    """
    before = 0 if anew or AttemptStatus.COMPLETED in statuses else run.crashes
    died = run.status is RunStatus.RUNNING and AttemptStatus.RUNNING in statuses
    return before + (died and not anew)


def check_unclaimed(run: RunRecord, after: int | None) -> None:
    """Raise `RunInProgress` if a run was claimed after the claim of number `after`."""
    if after not in (None, run.fence):
        raise RunInProgress(
            f"run {run.workflow_id!r} is in progress: {run.owner} has claimed it in this moment (claim {run.fence}); "
            "wait until that has ended, or end it, and resume"
        )


def claimed(run: RunRecord, owner: str, at: datetime, crashes: int) -> RunRecord:
    """Return the row of `run` as it is under a new claim of `owner`."""
    return replace(
        run,
        owner=owner,
        fence=run.fence + 1,
        crashes=crashes,
        status=RunStatus.RUNNING,
        reason=None,
        started_at=at,
        finished_at=None,
    )


def restated(run: RunRecord, change: RunRecord) -> RunRecord:
    """Return the row of `run` with how it stands by `change`: what it was created with stays."""
    return replace(
        run,
        mode=change.mode,
        status=change.status,
        reason=change.reason,
        started_at=change.started_at,
        finished_at=change.finished_at,
        owner=change.owner,
        fence=change.fence,
        crashes=change.crashes,
    )


def claim_lost(claim: Claim, run: RunRecord) -> ClaimLost:
    """Return the error for a write under a claim that is no longer the run's."""
    return ClaimLost(
        f"run {claim.workflow_id} was taken over by {run.owner} (claim {run.fence}); this process, "
        f"{claim.owner}, held claim {claim.fence} and can write no more"
    )
