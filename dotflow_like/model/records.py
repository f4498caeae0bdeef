"""What is recorded: attempts, errors, runs, checkpoints. Each is a row, and a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus

__all__ = [
    "NO_METADATA",
    "RESULT",
    "Attempt",
    "Checkpoint",
    "Discard",
    "Held",
    "Reference",
    "Request",
    "RunRecord",
    "TaskError",
    "TaskRecord",
    "full_name",
    "made",
]

NO_METADATA: MutableMapping[str, Any] = {}

made: Any = tuple.__new__
"""`made(kind, values)` is a named tuple of all its values in order, in half the time of calling its class."""

RESULT = "result"
"""The name of the checkpoint that holds what a task returned."""


class Reference(Protocol):
    """Where a result is; it is read when somebody asks."""

    def load(self) -> Any:
        """Return the value. May read a file, decode, and raise what those raise."""


class Held:
    """A result that lies in this process as it is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def load(self) -> Any:
        """Return the value."""
        return self.value


class TaskError:
    """One failure of a task, as a record that can always be shown.

    Its texts are made, and an exception another process sent is loaded, when somebody asks.

    Args:
        attempt: number of the attempt that failed, from 1.
        exception: name of the exception's type.
        message: the exception's text.
        traceback: the formatted traceback.
        types: full names of that type and of all it derives from.
    """

    __slots__ = ("_error", "_load", "_message", "_traceback", "attempt", "exception", "types")

    def __init__(
        self,
        attempt: int,
        exception: str,
        message: str | None = None,
        traceback: str | None = None,
        types: tuple[str, ...] = (),
    ) -> None:
        self.attempt = attempt
        self.exception = exception
        self.types = types
        self._message = message
        self._traceback = traceback
        self._load: Callable[[], BaseException] | None = None
        self._error: BaseException | None = None

    @classmethod
    def of(cls, error: BaseException, attempt: int) -> TaskError:
        """Return the record of an exception of this process."""
        made = cls(attempt, type(error).__name__)
        made._error = error
        return made

    def load_with(self, load: Callable[[], BaseException]) -> None:
        """Have `error` be what `load` returns when it is asked for first; None if that raises."""
        self._load = load

    @property
    def error(self) -> BaseException | None:
        """The exception itself where it could be kept, else None."""
        if self._load is not None:
            load, self._load = self._load, None
            try:
                self._error = load()
            except Exception:  # the record says all there is to say
                self._error = None
        return self._error

    @property
    def message(self) -> str:
        """The exception's text."""
        if self._message is None:
            self._message = "" if self._error is None else _text_of(self._error)
        return self._message

    @property
    def traceback(self) -> str:
        """The formatted traceback, with causes and notes; it begins in the task's own code."""
        if self._traceback is None:
            self._traceback = "" if self._error is None else _traceback_of(self._error)
        return self._traceback

    def add_note(self, note: str) -> None:
        """Add a line to the exception and its texts."""
        with suppress(Exception):  # an exception may take no notes
            if self.error is not None:
                self.error.add_note(note)
        if self._traceback is not None:
            self._traceback += f"{note}\n"

    def is_a(self, classes: type[BaseException] | tuple[type[BaseException], ...]) -> bool:
        """Return whether the exception is an instance of `classes`; by name if it is another process's."""
        if self._error is not None:
            return isinstance(self._error, classes)
        wanted = classes if isinstance(classes, tuple) else (classes,)
        return any(full_name(cls) in self.types for cls in wanted)

    def full_types(self) -> tuple[str, ...]:
        """Return `types`, made from the exception if it is this process's."""
        if not self.types and self._error is not None:
            self.types = tuple(full_name(cls) for cls in type(self._error).__mro__)
        return self.types

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskError) and self._shown() == other._shown()

    def __hash__(self) -> int:
        return hash(self._shown())

    def _shown(self) -> tuple[int, str, str]:
        return self.attempt, self.exception, self.message

    def __repr__(self) -> str:
        return f"TaskError(attempt={self.attempt}, exception={self.exception!r}, message={self.message!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # without the exception: what a record travels for is that it can always be read
        return TaskError, (self.attempt, self.exception, self.message, self.traceback, self.full_types())


def full_name(cls: type) -> str:
    """Return a class's name with its module."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except (Exception, SystemExit) as broken:  # a `__str__` of the user's that raises
        return f"<no text: {type(error).__name__}.__str__ raised {type(broken).__name__}>"


def _traceback_of(error: BaseException) -> str:
    import traceback

    try:
        return "".join(traceback.format_exception(error))
    except (Exception, SystemExit) as broken:  # a `__str__` or `__cause__` of the user's that raises
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}{type(error).__name__}: <not formatted: {type(broken).__name__}>\n"


class Attempt(NamedTuple):
    """One try of one task in one run: audit record, lock and idempotency key in one row.

    A named tuple, not a dataclass: two are made for every task, and it takes a third of the time.

    Attributes:
        workflow_id: the run.
        task_id: the task's key in the run.
        number: from 1; goes on over resumes and new generations.
        status: where it is.
        outcome: how it ended; None until then.
        scheduled_at: when it was decided, or may begin, in UTC.
        started_at: when its body began; None before.
        finished_at: when it ended; None before. Never before `started_at`.
        owner: the process that ran it, as `host:pid:token`.
        fence: number of the claim under which it ran.
        worker: which worker ran it; None for the owner itself.
        error: why it failed; None when it did not.
        metadata: what the body noted about it, and why it follows a failed one; only `ctx.attempt.metadata` is
            written to.
        generation: from 1; raised when the task's earlier result was discarded.
    """

    workflow_id: str
    task_id: str
    number: int
    status: AttemptStatus
    outcome: AttemptOutcome | None
    scheduled_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    owner: str
    fence: int
    worker: str | None = None
    error: TaskError | None = None
    metadata: MutableMapping[str, Any] = NO_METADATA
    generation: int = 1

    @property
    def id(self) -> str:
        """The attempt's unique name: run, task and number."""
        return f"{self.workflow_id}/{self.task_id}/{self.number}"

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt until a result is discarded: what a receiver de-duplicates by."""
        return f"{self.workflow_id}/{self.task_id}/g{self.generation}"


class Checkpoint(NamedTuple):
    """A named value a task has persisted.

    Attributes:
        task_id: the task's key in the run.
        name: `RESULT` for what the task returned.
        value: the `Reference` to it; on its way to a journal what the journal is to keep. None: the order to drop
            it, which a result knows only as `Discard`.
        inputs: fingerprint of each input it was computed from, by name; None if not taken.
        code: fingerprint of the code it was computed by; None if there is none.
    """

    task_id: str
    name: str
    value: Any
    inputs: Mapping[str, str] | None = None
    code: str | None = None


NO_CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType({})


class Discard(NamedTuple):
    """The order to drop all checkpoints of a task and begin its next generation."""

    task_id: str


class Request(NamedTuple):
    """What somebody outside asks of a run; it has one at a time.

    Attributes:
        signal: the word of the signal: `pause`, `cancel` or `skip`.
        by: who asks, as `host:pid:token`.
        at: when, in UTC.
        reason: why; None if they do not say.
        task_id: the task that is meant; None for the run.
        fence: number of the claim under which the run was then, 0 before the first.
    """

    signal: str
    by: str
    at: datetime
    reason: str | None = None
    task_id: str | None = None
    fence: int = 0


class TaskRecord(NamedTuple):
    """All that is recorded of one task of a run."""

    task_id: str
    attempts: tuple[Attempt, ...] = ()
    checkpoints: Mapping[str, Checkpoint] = NO_CHECKPOINTS
    generation: int = 1


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The row of a run.

    Attributes:
        workflow_id: names the run.
        workflow: name of the workflow.
        version: version of the workflow, None if it has none.
        params: the run's params.
        mode: the mode it was last started in.
        status: where it is.
        reason: why it is there; None when that is plain.
        created_at: when the row was made, in UTC.
        started_at: when it was last claimed.
        finished_at: when it ended; None before.
        owner: the process that claimed it last.
        fence: number of that claim, from 1; 0 before the first.
        crashes: how many owners in a row had died when it was claimed, after a body had begun and without a
            task completed.
        idempotency_key: the key it was started with; None for none.
    """

    workflow_id: str
    workflow: str
    version: str | None
    params: Mapping[str, Any]
    mode: str
    status: RunStatus
    created_at: datetime
    reason: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    owner: str | None = None
    fence: int = 0
    crashes: int = 0
    idempotency_key: str | None = None
