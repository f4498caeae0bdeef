"""What a process and its worker say to each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple

from dotflow_like.execute.workers.channel import Parcel
from dotflow_like.execute.workers.pickling import Buffer, dump_error, load_error
from dotflow_like.model.records import TaskError

__all__ = [
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
    "RUN",
    "STARTED",
    "STOP",
    "TIMED_CALL",
    "RunSettings",
    "error_from",
    "error_parcel",
]

# to the worker; `number` is that of a call, or of a function
RUN = 1  # a run begins: its surroundings; its settings and codec
FUNCTION = 2  # a body, for the calls that follow
CALL = 3  # `extra` is the number of its function; frames: what it is called with, if anything
TIMED_CALL = 4  # the same, and its start is to be said
STOP = 5  # the body of this call is asked to end
END = 6  # the run is over
HOLD = 7  # the lock of the run that begins, as an open file, to be held until it is over

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
