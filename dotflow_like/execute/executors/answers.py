"""What the parent answers to a body in a worker, which asks for what its task has saved."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial

from dotflow_like.execute.call import Call
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import EMPTY, Message, Parcel
from dotflow_like.execute.workers.pickling import Buffer, Pickled, dumps
from dotflow_like.execute.workers.protocol import error_parcel, question_from
from dotflow_like.record.journal import Encoded

__all__ = ["answer"]


def answer(call: Call, message: Message, worker: str, reply: Callable[[int, Parcel], None]) -> None:
    """Do what a message of the kind `ASK` asks for, and reply; later, if another body has a transaction open.

    Args:
        call: whose body asks.
        message: the question.
        worker: which worker asks.
        reply: sends the kind and the parcel of the answer.
    """
    frames = message.frames
    try:
        if frames is None:
            raise OSError(f"what {call.task.where} was to save was lost: too many files are open")
        assert call.control is not None, "it is a run's"
        what, transactions = question_from(frames).what, call.control.transactions
        if what == "transaction":
            parcel = Parcel(dumps(transactions.grant(call, worker)).frames)
            transactions.gate.ask(call, partial(reply, protocol.ANSWER, parcel), stays=True)
        elif what in ("save", "drop"):
            transactions.gate.ask(call, lambda: reply(*_answered(call, frames)), stays=False)
        else:
            reply(*_answered(call, frames))
    except Exception as error:
        reply(protocol.REFUSAL, error_parcel(error))


def _answered(call: Call, frames: Sequence[Buffer]) -> tuple[int, Parcel]:
    try:
        return protocol.ANSWER, _answer(call, frames)
    except Exception as error:
        return protocol.REFUSAL, error_parcel(error)


def _answer(call: Call, frames: Sequence[Buffer]) -> Parcel:
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
