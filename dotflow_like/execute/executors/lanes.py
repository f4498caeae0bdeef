"""The workers of a run, and the calls on their way to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dotflow_like.execute.call import Call
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import EMPTY, Handle, Parcel
from dotflow_like.execute.workers.pickling import dumps
from dotflow_like.execute.workers.process import Worker
from dotflow_like.execute.workers.protocol import signal_parcel
from dotflow_like.plan.inputs import Source
from dotflow_like.record.journal import Codec

__all__ = ["Bodies", "Item", "Lane"]

_UNPACKED = Parcel(())


class Bodies:
    """The bodies of a run, each packed once.

    Attributes:
        parcels: by number.
    """

    def __init__(self) -> None:
        self.parcels: list[Parcel] = []
        self._numbers: dict[
            int | tuple[int, ...], tuple[int, Any]
        ] = {}  # by ids, which hold as long as these do

    def number_of(self, call: Call) -> int:
        """Return the number of a call's body, with its conditions; raises what their pickling raises."""
        body, conditions = call.task.fn, call.conditions
        key = (id(body), *map(id, conditions)) if conditions else id(body)
        known = self._numbers.get(key)
        if known is None:
            # cloudpickle sorts the names in a class: the order its methods run in goes beside it
            order = [method.name for method in call.task.methods]
            self.parcels.append(Parcel(dumps((body, order, conditions)).frames))
            known = self._numbers[key] = len(self.parcels) - 1, (body, conditions)
        return known[0]


class Item:
    """A call on its way.

    Attributes:
        call: the call.
        lane: the worker it was sent to; None while it waits for one.
        number: of the call there.
        body: number of its body.
        payload: what it is called with.
        losses: how many workers have ended with it before its body began.
    """

    __slots__ = ("body", "call", "lane", "losses", "number", "payload")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.lane: Lane | None = None
        self.number = 0
        self.body = -1
        self.payload = _UNPACKED
        self.losses = 0

    @property
    def is_packed(self) -> bool:
        """Whether it can be sent."""
        return self.payload is not _UNPACKED

    def pack(self, bodies: Bodies, codec: Codec | None) -> None:
        """Make its bytes; done right before it is sent, so that large ones do not lie about in numbers.

        Raises:
            Exception: what is called, or what it is called with, cannot be read or pickled.
        """
        call = self.call
        self.body = bodies.number_of(call)
        payload = EMPTY
        if call.inputs or call.task.methods:
            asks = any(each.source is Source.CONTEXT for each in call.inputs)
            attempt = call.attempt if asks or call.task.methods else None
            params = call.params if asks else {}
            given = (attempt, params, call.inputs, call.results, call.previous)
            payload = Parcel(dumps(given, codec).frames)
        self.payload = payload


class Lane:
    """A worker of the run, and the calls it was sent.

    Args:
        worker: the worker.
        run: what it is told about the run, first of all.
        lock: what it is to hold until the run is over; None for nothing.

    Attributes:
        worker: the worker.
        calls: those it has not ended, by number, in the order they were sent.
        is_retiring: it gets no more calls.
    """

    def __init__(self, worker: Worker, run: Parcel, lock: Handle | None = None) -> None:
        self.worker = worker
        self.calls: dict[int, Item] = {}
        self.is_retiring = False
        self._bodies: set[int] = set()
        if lock is not None:
            worker.channel.post(protocol.HOLD, parcel=lock)
        worker.channel.post(protocol.RUN, parcel=run)

    @property
    def size(self) -> int:
        """Bytes of the calls it has."""
        return sum(item.payload.size for item in self.calls.values())

    def post(self, items: Sequence[Item], bodies: Bodies) -> None:
        """Give it calls that are packed; flushing its channel sends them."""
        worker = self.worker
        for item in items:
            if item.body not in self._bodies:
                self._bodies.add(item.body)
                worker.channel.post(protocol.FUNCTION, item.body, 0.0, bodies.parcels[item.body])
            worker.sent += 1
            item.lane, item.number = self, worker.sent
            self.calls[item.number] = item
            kind = protocol.CALL if item.call.task.timeout is None else protocol.TIMED_CALL
            worker.channel.post(kind, item.number, item.body, item.payload)
            if item.call.stop_asked:  # while it waited to be sent
                self.ask(item)
        worker.tokens.give(item.number for item in items)  # before the calls are sent

    def ask(self, item: Item) -> None:
        """Ask the body of a call it has to become what that is asked for; flushing its channel sends that."""
        signal = item.call.asked()
        if signal is not None:
            self.worker.channel.post(protocol.STOP, item.number, 0.0, signal_parcel(signal))

    def take_back(self) -> list[Item]:
        """Return the calls it has not begun, in their order; it never will."""
        return [self.calls.pop(number) for number in self.worker.tokens.take_back()]
