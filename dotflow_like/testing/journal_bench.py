"""What the contract of journals writes: rows as a kernel makes them, and a journal to write them to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, Final, TypeVar

from dotflow_like.model.records import RESULT, Attempt, Checkpoint, Held, RunRecord, TaskRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.journal import Change, Claim, Encoded, Journal

__all__ = [
    "AT",
    "LARGE",
    "LATER",
    "ODD_NAMES",
    "Bench",
    "attempt",
    "exactly",
    "loaded",
    "run_record",
    "together",
]

AT: Final = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
LATER: Final = AT + timedelta(hours=1)
LARGE: Final = "x" * 200_000
ODD_NAMES: Final = (
    *("a/b", "a%2Fb", "a", "b", "a/", "/a", "A", "..", ".", "%", "%%", "%25", " ", "", "a ", "a\n", "\0"),
    *("'", '"', "a'; --", "a_b", "a*b", "[0]", "1", "01", "ünï/çødé 😀", "u\u0308", "ü", "None"),
)

T = TypeVar("T")

_OUTCOMES: Final = {
    AttemptStatus.COMPLETED: AttemptOutcome.SUCCESS,
    AttemptStatus.FAILED: AttemptOutcome.FAILED,
    AttemptStatus.SKIPPED: AttemptOutcome.SKIPPED,
    AttemptStatus.CANCELLED: AttemptOutcome.CANCELLED,
}


class Bench:
    """A journal under test, and the rows that are written to it.

    Args:
        journal: the one under test.
        reopen: returns another instance for the same place; None where an instance is the place.

    Attributes:
        journal: the same.
    """

    def __init__(self, journal: Journal, reopen: Callable[[], Journal | None]) -> None:
        self.journal = journal
        self._reopen = reopen

    def another(self) -> Journal:
        """Return a second instance for the same place; the journal itself where there can be none."""
        return self._reopen() or self.journal

    def several(self, number: int) -> list[Journal]:
        """Return so many instances for the same place, of which the first is the journal."""
        return [self.journal, *(self.another() for _ in range(number - 1))]

    def claimed(self, workflow_id: str = "run", owner: str = "me", **fields: Any) -> Claim:
        """Create a run and claim it."""
        assert self.journal.create(run_record(workflow_id, **fields))
        return self.journal.claim(workflow_id, owner, AT)

    def result(self, value: Any, key: str = "task", name: str = RESULT, **more: Any) -> Checkpoint:
        """Return a checkpoint on its way to the journal."""
        codec = self.journal.codec
        kept = Held(value) if codec is None else Encoded(codec.encode(value))
        return Checkpoint(key, name, kept, **more)

    def ended(
        self, claim: Claim, status: AttemptStatus, key: str = "task", number: int = 1, **changes: Any
    ) -> list[Change]:
        """Return the end of an attempt, with its result if it is completed."""
        made: list[Change] = [attempt(claim, status, key, number, **changes)]
        return [*made, self.result("done", key)] if status is AttemptStatus.COMPLETED else made

    def complete(self, claim: Claim, value: Any, key: str = "task", number: int = 1) -> None:
        """Begin an attempt and complete it with a result."""
        running, completed = AttemptStatus.RUNNING, AttemptStatus.COMPLETED
        self.journal.commit(claim, [attempt(claim, running, key, number)])
        self.journal.commit(claim, [attempt(claim, completed, key, number), self.result(value, key)])

    def row(self, workflow_id: str = "run") -> RunRecord:
        """Return the row of a run, as another instance reads it."""
        run = self.another().run(workflow_id)
        assert run is not None, f"run {workflow_id} is not known"
        return run

    def record(self, key: str = "task", workflow_id: str = "run") -> TaskRecord:
        """Return what is recorded of a task, as another instance reads it."""
        return self.another().tasks(workflow_id, [key])[key]

    def value(self, key: str = "task", name: str = RESULT, workflow_id: str = "run") -> Any:
        """Return the value of a checkpoint, as another instance reads it."""
        return self.record(key, workflow_id).checkpoints[name].value.load()

    def everything(self, workflow_id: str = "run", journal: Journal | None = None) -> Any:
        """Return all that is recorded of a run, to be compared; another instance reads it if none is given."""
        journal = journal or self.another()
        records = journal.tasks(workflow_id, journal.task_keys(workflow_id))
        return journal.run(workflow_id), {
            key: (exactly(record.attempts), record.generation, loaded(record.checkpoints))
            for key, record in records.items()
        }


def run_record(workflow_id: str = "run", **fields: Any) -> RunRecord:
    """Return the row of a run that nobody has claimed yet."""
    usual: dict[str, Any] = {
        "workflow": "census",
        "version": "7",
        "params": {"n": 3},
        "mode": "sequential",
        "status": RunStatus.PENDING,
        "created_at": AT,
    }
    return RunRecord(workflow_id=workflow_id, **(usual | fields))


def attempt(
    claim: Claim, status: AttemptStatus, key: str = "task", number: int = 1, **changes: Any
) -> Attempt:
    """Return the row of an attempt made under a claim, with times and the outcome that befit its status."""
    started = None if status is AttemptStatus.SCHEDULED else AT + timedelta(seconds=1)
    finished = AT + timedelta(seconds=1 + number) if status in _OUTCOMES else None
    made = Attempt(
        claim.workflow_id,
        key,
        number,
        status,
        _OUTCOMES.get(status),
        AT,
        started,
        finished,
        claim.owner,
        claim.fence,
    )
    return made._replace(**changes)


def exactly(attempts: Iterable[Attempt]) -> list[tuple[Any, ...]]:
    """Return all there is to attempts, of which equality compares less."""
    return [
        (
            *each._replace(error=None),
            each.error
            and (
                each.error.attempt,
                each.error.exception,
                each.error.message,
                each.error.traceback,
                each.error.full_types(),
            ),
        )
        for each in attempts
    ]


def loaded(checkpoints: Mapping[str, Checkpoint]) -> dict[str, Any]:
    """Return the values of checkpoints, each with its fingerprints."""
    return {name: (each.value.load(), each.inputs, each.code) for name, each in checkpoints.items()}


def together(*calls: Callable[[], T]) -> Sequence[T]:
    """Call all at once, each in a thread; return what they return, raise what they raise."""
    barrier = Barrier(len(calls))

    def wait_and(call: Callable[[], T]) -> T:
        barrier.wait(60)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        futures: list[Future[T]] = [pool.submit(wait_and, call) for call in calls]
        return [future.result() for future in futures]
