"""What the parent answers to a body in a worker, which asks for what its task has saved."""

from __future__ import annotations

import json

from dotflow_like.execute.call import Call
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import EMPTY, Message, Parcel
from dotflow_like.execute.workers.pickling import Pickled, dumps
from dotflow_like.execute.workers.protocol import error_parcel, question_from
from dotflow_like.record.journal import Encoded

__all__ = ["answered"]


def answered(call: Call, message: Message) -> tuple[int, Parcel]:
    """Do what a message of the kind `ASK` asks for, and return the kind and the parcel of the answer."""
    try:
        return protocol.ANSWER, _answer(call, message)
    except Exception as error:
        return protocol.REFUSAL, error_parcel(error)


def _answer(call: Call, message: Message) -> Parcel:
    frames = message.frames
    if frames is None:
        raise OSError(f"what {call.task.where} was to save was lost: too many files are open")
    question, value = question_from(frames), frames[1:]
    saved = call.saved()
    if question.what == "names":
        return Parcel([[json.dumps(list(saved.names())).encode("ascii")]])
    if question.what == "load":
        (name,) = question.names
        return Parcel(dumps(saved.reference(name), call.codec).frames)
    if question.what == "save":
        (name,) = question.names
        kept = Pickled(value) if call.codec is None else Encoded(bytes(value[0]))
        saved.put(name, kept, question.dropping, question.lazily)
    else:
        saved.drop(question.names)
    return EMPTY
