"""The states of runs, tasks and attempts, and the moves between them that are legal."""

from __future__ import annotations

from enum import StrEnum

from dotflow_like.errors import IllegalMove

__all__ = [
    "ATTEMPT_MOVES",
    "RUN_MOVES",
    "AttemptOutcome",
    "AttemptStatus",
    "Mode",
    "OnChange",
    "RunStatus",
    "TaskStatus",
    "check_move",
]


class Mode(StrEnum):
    """In which order, and where, the tasks of a run are executed."""

    SEQUENTIAL = "sequential"
    SEQUENTIAL_GROUP = "sequential_group"
    BACKGROUND = "background"
    PARALLEL = "parallel"


class OnChange(StrEnum):
    """What a resumed run does about a task whose inputs or code are not those it was recorded with.

    `RESET` is for inputs and `RERUN` for code; the two do the same.
    """

    REUSE = "reuse"
    RESET = "reset"
    RERUN = "rerun"
    RAISE = "raise"


class RunStatus(StrEnum):
    """Where a run is."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskStatus(StrEnum):
    """Where a task of a run is."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class AttemptStatus(StrEnum):
    """Where one try of a task is."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class AttemptOutcome(StrEnum):
    """How one try of a task ended."""

    SUCCESS = "success"
    FAILED = "failed"
    RETRIED = "retried"
    TIMED_OUT = "timed_out"
    RECOVERED = "recovered"
    DISCARDED = "discarded"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    PAUSED = "paused"


_ENDS = frozenset(
    {AttemptStatus.COMPLETED, AttemptStatus.FAILED, AttemptStatus.SKIPPED, AttemptStatus.CANCELLED}
)

ATTEMPT_MOVES: dict[AttemptStatus | None, frozenset[AttemptStatus]] = {
    None: frozenset({AttemptStatus.SCHEDULED, AttemptStatus.RUNNING}),
    AttemptStatus.SCHEDULED: frozenset(
        {AttemptStatus.RUNNING, AttemptStatus.FAILED, AttemptStatus.SKIPPED, AttemptStatus.CANCELLED}
    ),
    AttemptStatus.RUNNING: _ENDS,
} | dict.fromkeys(_ENDS, frozenset())
"""From a status (None: no row yet) to those an attempt may go to. A final state stays final."""

_REOPENED = frozenset({RunStatus.RUNNING})

RUN_MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED}),
    RunStatus.RUNNING: frozenset(
        # to itself: taken over from an owner that died
        {
            RunStatus.RUNNING,
            RunStatus.PAUSED,
            RunStatus.COMPLETED,
            RunStatus.FAILED,
            RunStatus.CANCELLED,
        }
    ),
    RunStatus.PAUSED: _REOPENED,
    RunStatus.COMPLETED: _REOPENED,
    RunStatus.FAILED: _REOPENED,
    RunStatus.CANCELLED: _REOPENED,
}
"""From a status to those a run may go to. Only resume reopens a run that has ended."""


def check_move(attempt_id: str, before: AttemptStatus | None, after: AttemptStatus) -> None:
    """Raise `IllegalMove` unless an attempt may go from `before` (None: no row yet) to `after`."""
    if after not in ATTEMPT_MOVES[before]:
        legal = ", ".join(sorted(ATTEMPT_MOVES[before])) or "nothing: it has ended"
        raise IllegalMove(
            f"attempt {attempt_id} is {before or 'not recorded'} and cannot become {after}; "
            f"from there it may become {legal}"
        )
