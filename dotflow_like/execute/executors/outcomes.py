"""How a call ended, by the last message a worker sends about it; or that it cannot go to one."""

from __future__ import annotations

from dotflow_like.errors import NotSerializable
from dotflow_like.execute.call import Call, Outcome
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import Message
from dotflow_like.execute.workers.pickling import Pickled
from dotflow_like.execute.workers.protocol import error_from, signal_of
from dotflow_like.record.journal import Encoded

__all__ = ["outcome_of", "unsendable"]

_NONE = Outcome()


def outcome_of(call: Call, message: Message) -> Outcome:
    """Return the outcome that a message says a call has."""
    kind, frames = message.kind, message.frames
    if kind == protocol.NOTHING:
        return _NONE
    if frames is None:
        return Outcome(error=OSError(f"the result of {call.task.where} was lost: too many files are open"))
    if kind == protocol.PICKLED:
        return Pickled(frames)
    if kind == protocol.ENCODED:
        return Outcome(Encoded(bytes(frames[0])))
    if kind == protocol.SIGNAL:
        return Outcome(error=signal_of(frames))
    return Outcome(error=error_from(frames, call.attempt.number))


def unsendable(call: Call, error: Exception) -> NotSerializable:
    """Return the error of a call that could not be packed."""
    problem = NotSerializable(
        f"task {call.attempt.task_id!r} cannot go to a worker process: {type(error).__name__}: {error}; "
        "make what it holds inside the body, or run it in this process: executor='thread', not isolated"
    )
    problem.__cause__ = error
    return problem
