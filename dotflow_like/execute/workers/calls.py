"""A call as it runs in a worker: what its body asks, and says, goes to the parent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from dotflow_like.errors import NotSerializable, TaskCancelled
from dotflow_like.execute.call import Call
from dotflow_like.execute.transactions import begin
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import Parcel
from dotflow_like.execute.workers.pickling import Buffer, dumps, loads
from dotflow_like.execute.workers.protocol import Question, question_parcel
from dotflow_like.model.places import Root
from dotflow_like.record.journal import Codec

if TYPE_CHECKING:
    from dotflow_like.execute.saved import Kept
    from dotflow_like.execute.workers.link import Link
    from dotflow_like.model.context import Progress
    from dotflow_like.model.signals import Signal
    from dotflow_like.record.journal import Claim, Journal
    from dotflow_like.record.sql_transaction import Transaction

__all__ = ["WorkerCall"]

_EVERY = 0.05
"""Seconds: progress is told no more often."""
_NEVER = float("-inf")
_LONG = 3600.0
"""Seconds: so long at once one can sleep anywhere."""
_making = threading.RLock()


class WorkerCall(Call):
    """A call in a worker.

    Attributes:
        link: the way to the parent; None once the body has ended.
        number: the call's, there.
    """

    __slots__ = ("_asking", "_told", "_untold", "link", "number")

    def __init__(self, link: Link, number: int, *given: Any) -> None:
        super().__init__(*given)
        self.link: Link | None = link
        self.number = number
        self._asking: Asking | None = None
        self._told = _NEVER
        self._untold: Progress | None = None

    def asked(self) -> Signal | None:
        link = self.link
        if link is not None:
            self.stop_asked = link.stop_of(self.number, self.is_over) or self.stop_asked
        return self.stop_asked or None  # type: ignore[return-value]  # it is a signal, or False

    def sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.asked() is None and (left := until - time.monotonic()) > 0:
            link = self.link
            if link is None:
                time.sleep(min(left, _LONG))
            else:
                link.wait(left)

    def saved(self) -> Asking:  # type: ignore[override]  # what is kept the parent has
        with _making:
            if self._asking is None:
                self._asking = Asking(self)
            return self._asking

    def transaction(self) -> Any:
        return begin(self, self._begin)

    def _begin(self) -> Transaction:
        from dotflow_like.record.sql_transaction import Grant, Transaction

        if self.link is None:
            raise TaskCancelled(f"{self.task.where}: attempt {self.attempt.number} is over")
        frames = self.link.ask(self.number, question_parcel(Question("transaction")), self.is_over)
        grant: Grant = loads(frames[0], frames[1:])
        assert self.codec is not None, "there is one in a database"
        transaction = Transaction(grant, self.codec)
        self.saved().go_on_in(transaction.journal, grant.claim)
        return transaction

    def report(self, progress: Progress) -> None:
        now = time.monotonic()
        if now < self._told + _EVERY:
            self._untold = progress
        else:
            self._told = now
            self._tell(progress)

    def is_over(self) -> bool:
        """Return whether the body has ended; a thread of it may go on."""
        return self.link is None

    def end(self) -> None:
        """Note that the body has ended: what a thread of it asks later is answered without looking."""
        if self._untold is not None:
            self._tell(self._untold)
        if self.link is not None:
            self.link.over(self._leave)

    def _leave(self) -> None:
        self.link = None

    def _tell(self, progress: Progress) -> None:
        link, self._untold = self.link, None
        if link is not None:
            link.send_whole(protocol.PROGRESS, self.number, Parcel([[json.dumps(progress).encode()]]))


class Asking:
    """What the attempts of one task have saved: asked of the parent; see `SavedValues`.

    Args:
        call: the attempt that runs.

    Attributes:
        root: where its steps and iterations are counted.
    """

    __slots__ = ("_call", "_inside", "_names", "root")

    def __init__(self, call: WorkerCall) -> None:
        self.root = Root()
        self._call = call
        self._inside: Kept | None = None  # the attempt's transaction
        # nobody but attempts saves anything
        self._names: dict[str, None] | None = {} if call.attempt.number == 1 else None

    def go_on_in(self, journal: Journal, claim: Claim) -> None:
        """Read and save in what the attempt's transaction sees of the journal."""
        from dotflow_like.execute.saved import Kept

        self._inside = Kept(journal, claim, self._call, names=self._names)

    def names(self) -> Collection[str]:
        if self._inside is not None:
            return self._inside.names()
        if self._names is None:
            (names,) = self._ask(Question("names"))
            self._names = dict.fromkeys(json.loads(bytes(names))) | (self._names or {})
        return self._names.copy()

    def load(self, name: str) -> Any:
        if self._inside is not None:
            return self._inside.load(name)
        if name not in self._known():
            raise KeyError(name)
        frames = self._ask(Question("load", [name]))
        return loads(frames[0], frames[1:]).load()

    def save(self, name: str, value: Any, *, dropping: Collection[str] = (), lazily: bool = False) -> None:
        if self._inside is not None:
            self._inside.save(name, value, dropping=dropping, lazily=lazily)
            return
        question = Question("save", [name], list(dropping), lazily)
        self._ask(question, _frames_of(value, self._call.codec))
        known = self._known()
        known[name] = None
        for each in dropping:
            known.pop(each, None)

    def drop(self, names: Collection[str]) -> None:
        if self._inside is not None:
            self._inside.drop(names)
            return
        known = self._known()
        there = [name for name in names if name in known]
        if there:
            self._ask(Question("drop", there))
            for name in there:
                known.pop(name, None)

    def _known(self) -> dict[str, None]:
        if self._names is None:
            self.names()
            assert self._names is not None, "it has just been asked for"
        return self._names

    def _ask(self, question: Question, value: Sequence[Sequence[Buffer]] = ()) -> Sequence[Buffer]:
        call = self._call
        link = call.link
        if link is None:
            raise TaskCancelled(
                f"{call.task.where}: attempt {call.attempt.number} is over, and saves nothing any more"
            )
        return link.ask(call.number, question_parcel(question, value), call.is_over)


def _frames_of(value: Any, codec: Codec | None) -> Sequence[Sequence[Buffer]]:
    if codec is not None:
        return [[codec.encode(value)]]
    try:
        dumped = dumps(value)
        if not dumped.plain:
            loads(b"".join(dumped.chunks), dumped.buffers)  # or fail here, not where it is needed
    except Exception as error:
        raise NotSerializable(
            f"{type(value).__name__} cannot leave the worker process: {type(error).__name__}: {error}; "
            "save plain data, or a path to what stays on disk"
        ) from error
    return dumped.frames
