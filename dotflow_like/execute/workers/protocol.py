"""What a process and its worker say to each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar, copy_context
from hashlib import blake2b
from typing import Any, NamedTuple

from dotflow_like.errors import ConfigError
from dotflow_like.execute.workers.channel import Parcel
from dotflow_like.execute.workers.pickling import Buffer, Dumped, dump_error, dumps, load_error
from dotflow_like.execute.workers.settings import WorkerSettings
from dotflow_like.model.records import TaskError
from dotflow_like.model.signals import Retry, Signal, signal_from

__all__ = [
    "ANSWER",
    "ASK",
    "CALL",
    "ENCODED",
    "END",
    "ENDED",
    "FAILED",
    "FUNCTION",
    "HOLD",
    "LOG",
    "METADATA",
    "NOTHING",
    "PICKLED",
    "PROGRESS",
    "REFUSAL",
    "RUN",
    "SIGNAL",
    "STARTED",
    "STOP",
    "TIMED_CALL",
    "Question",
    "RunSettings",
    "error_from",
    "error_parcel",
    "kind_of",
    "question_from",
    "question_parcel",
    "settings_of",
    "signal_of",
    "signal_parcel",
]

# to the worker; `number` is that of a call, or of a function
RUN = 1  # a run begins: its surroundings; its settings and codec
FUNCTION = 2  # a body, for the calls that follow
CALL = 3  # `extra` is the number of its function; frames: what it is called with, if anything
TIMED_CALL = 4  # the same, and its start is to be said
STOP = 5  # the body of this call is asked to end; see `signal_parcel`
END = 6  # the run is over
HOLD = 7  # the lock of the run that begins, as an open file, to be held until it is over
ANSWER = 8  # to a question of a call; `extra` is that of the question
REFUSAL = 9  # the same: an error; see `error_parcel`

# from the worker
STARTED = 11
NOTHING = 12  # the result is None; of this and the next three, `extra` is the seconds it took
PICKLED = 13
ENCODED = 14
FAILED = 15  # see `error_parcel`
LOG = 16  # a record of the log; `number` is that of the call that was running, 0 for none
PROGRESS = 17  # done, total, message as JSON
METADATA = 18  # what a body that has ended has noted about its attempt, as JSON; before its outcome
ENDED = 19  # `extra` is 1 if nothing of the run's bodies goes on here, else 0
SIGNAL = 20  # the body has sent it, instead of a result; see `signal_parcel`
ASK = 21  # a body waits for an answer; see `question_parcel`; `extra` is the number of the question


class RunSettings(NamedTuple):
    """What a worker is told when a run begins, beside the surroundings and the codec.

    Attributes:
        levels: of the parent's loggers.
        variables: context variables and their values.
        init: called once in each worker before its first task; None for nothing.
    """

    levels: Mapping[str, int]
    variables: Mapping[ContextVar[Any], Any]
    init: Callable[[], object] | None


def settings_of(settings: WorkerSettings) -> tuple[dict[ContextVar[Any], Any], Callable[[], object] | None]:
    """Return the variables and the function that workers are initialised with, of where this is called."""
    here = copy_context()
    return {variable: here[variable] for variable in settings.contextvars if variable in here}, settings.init


def kind_of(settings: WorkerSettings) -> bytes:
    """Return what tells workers apart by how they were initialised, after a check that all of it can be sent.

    Raises:
        ConfigError: some of it cannot.
    """
    values, init = settings_of(settings)
    for variable, value in values.items():
        _check(f"the value of context variable {variable.name!r}", value)
    return b"" if init is None else blake2b(b"".join(_check("worker_init", init).chunks)).digest()


def _check(what: str, value: object) -> Dumped:
    try:
        return dumps(value)
    except Exception as error:
        raise ConfigError(
            f"{what} cannot be sent to worker processes: {type(error).__name__}: {error}; "
            "make what it holds inside worker_init, or run with executor='thread'"
        ) from error


class Question(NamedTuple):
    """What a body asks for that only the parent has: what its task has saved.

    Attributes:
        what: `names`, `load`, `save` or `drop`; or `transaction`, for the right to one.
        names: of what it is about.
        dropping: of what is dropped when something is saved.
        lazily: how it is saved.
    """

    what: str
    names: Collection[str] = ()
    dropping: Collection[str] = ()
    lazily: bool = False


def question_parcel(question: Question, value: Sequence[Sequence[Buffer]] = ()) -> Parcel:
    """Return a question, and behind it the frames of the value that is to be saved."""
    return Parcel([[json.dumps(question).encode("ascii")], *value])


def question_from(frames: Sequence[Buffer]) -> Question:
    """Return the question `question_parcel` made these of; the value is in the other frames."""
    return Question(*json.loads(bytes(frames[0])))


def signal_parcel(signal: Signal) -> Parcel:
    """Return a signal as words."""
    after = signal.after if isinstance(signal, Retry) else 0.0
    return Parcel([[json.dumps([signal.word, signal.reason, after]).encode("ascii")]])


def signal_of(frames: Sequence[Buffer]) -> Signal:
    """Return the signal `signal_parcel` made these of."""
    return signal_from(*json.loads(bytes(frames[0])))


def error_parcel(error: BaseException) -> Parcel:
    """Return an exception as texts, which can always be read, and behind it the exception itself, if it can travel."""
    record = TaskError.of(error, 0)
    texts = [record.exception, record.message, record.traceback, record.full_types()]
    frames: list[Sequence[Buffer]] = [[json.dumps(texts).encode("ascii")]]
    try:
        dumped = dump_error(error)
        load_error(b"".join(dumped.chunks), dumped.buffers)
    except BaseException:  # the texts say all there is to say
        return Parcel(frames)
    return Parcel([*frames, *dumped.frames])


def error_from(frames: Sequence[Buffer], attempt: int) -> TaskError:
    """Return the record `error_parcel` made these of, for this attempt."""
    exception, message, traceback, types = json.loads(bytes(frames[0]))
    record = TaskError(attempt, exception, message, traceback, tuple(types))
    if len(frames) > 1:
        record.load_with(lambda: load_error(frames[1], frames[2:]))
    return record
