"""Calls in worker processes."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from math import inf
from typing import Any

from dotflow_like.errors import CodecError, StorageError, WorkerDied
from dotflow_like.execute.call import Call, Outcome
from dotflow_like.execute.executors.answers import answer
from dotflow_like.execute.executors.base import Executor, Progressed, Started
from dotflow_like.execute.executors.lanes import Bodies, Item, Lane
from dotflow_like.execute.executors.outcomes import outcome_of, unsendable
from dotflow_like.execute.inbox import Inbox
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.channel import Handle, Message, Parcel
from dotflow_like.execute.workers.logs import emit, levels
from dotflow_like.execute.workers.pickling import Buffer, dumps
from dotflow_like.execute.workers.pool import pool
from dotflow_like.execute.workers.protocol import RunSettings, kind_of, settings_of
from dotflow_like.execute.workers.settings import DEFAULTS, WorkerSettings
from dotflow_like.execute.workers.surroundings import surroundings
from dotflow_like.model.context import Progress
from dotflow_like.model.records import TaskError
from dotflow_like.record.journal import Codec

__all__ = ["ProcessExecutor"]

_AHEAD = 0.01
"""Seconds of work that a worker is given in advance."""
_MOST_AHEAD = 64
_ROOM = 64 * 1024
"""Bytes of calls a busy worker is sent, so that its socket takes all of them at once."""
_LOSSES = 3
"""How many workers may end with a call before its body begins, until that is taken for the call's own fault."""


class ProcessExecutor(Executor):
    """Runs calls in worker processes, each started when it is needed first, or kept from an earlier run.

    While bodies are tiny, workers are given calls in advance. Such a call waits behind another in its
    worker, and is taken back when another worker has nothing to do.

    Args:
        slots: how many workers there are at most.
        settings: how they are made and kept.

    Raises:
        ConfigError: what workers are to be initialised with cannot be sent to them.
    """

    def __init__(self, slots: int, settings: WorkerSettings = DEFAULTS) -> None:
        self.slots = slots
        self._limit = slots
        self._options = settings
        self._kind = kind_of(settings)
        self._lanes: list[Lane] = []
        self._blocked: set[Lane] = set()  # whose sockets do not take what they were posted
        self._waiting: deque[Item] = deque()
        self._items: dict[Call, Item] = {}
        self._bodies = Bodies()
        self._lock: Handle | None = None
        self._unsendable: Exception | None = None
        self._ahead = 0
        self._mean: float | None = None  # seconds of a body, of late

    def open(self, inbox: Inbox, codec: Codec | None, lock: int | None = None) -> None:
        super().open(inbox, codec, lock)
        self._lock = None if lock is None else Handle(lock)
        settings = RunSettings(levels(), *settings_of(self._options))
        try:
            self._run = Parcel([dumps(tuple(surroundings())).chunks, *dumps((settings, codec)).frames])
        except Exception as error:  # of a class that results may be of, which no worker can have
            self._unsendable = error

    def submit(self, calls: Sequence[Call]) -> None:
        for call in calls:
            item = self._items[call] = Item(call)
            self._waiting.append(item)
        self._send_waiting()

    def ask(self, call: Call) -> None:
        super().ask(call)
        item = self._items.get(call)
        if item is not None and item.lane is not None:
            item.lane.ask(item)
            self._flush(item.lane)

    def withdraw(self, *, everything: bool) -> list[Call]:
        about_to_begin: list[tuple[Lane, Item]] = []
        for lane in self._lanes:
            items = self._take_back(lane)
            if items and not lane.calls and not everything:
                about_to_begin.append((lane, items[0]))
                self._waiting.remove(items[0])
        withdrawn = [item.call for item in self._waiting]
        self._waiting.clear()
        for call in withdrawn:
            del self._items[call]
        for lane, item in about_to_begin:
            self._waiting.append(item)
            self._send(lane, 1)
        return withdrawn

    def stop(self, call: Call) -> bool:
        item = self._items.pop(call, None)
        if item is None:  # it has ended, and says so in a message that has not been read
            return True
        lane = item.lane
        if lane is not None:
            # Once nothing else can begin there, and what was said is heard, the one that is left is running.
            self._take_back(lane)
            lane.worker.freeze()
            self._hear_all(lane)
            if item.number in lane.calls:
                self._leave(lane)
                pool.kill(lane.worker)
                del lane.calls[item.number]
                self._give_again(lane.calls.values())
            else:
                lane.worker.go_on()
        if item in self._waiting:
            self._waiting.remove(item)
        return True

    def close(self) -> None:
        for lane in self._lanes:
            self._forget(lane)
            if lane.calls:
                pool.kill(lane.worker)
        pool.give_back(
            [lane.worker for lane in self._lanes if not lane.calls], max(self._limit, os.cpu_count() or 1)
        )
        self._lanes.clear()
        self._items.clear()
        self._waiting.clear()

    # What is sent

    def _pack(self, item: Item) -> bool:
        """Make the bytes of a call; if that cannot be done, the call has failed."""
        try:
            if self._unsendable is not None:
                raise self._unsendable
            item.pack(self._bodies, self.codec)
        except (CodecError, StorageError) as error:  # a result it is given cannot be read
            self._finish(item, Outcome(error=error))
        except Exception as error:
            self._finish(item, Outcome(error=unsendable(item.call, error)))
        else:
            return True
        return False

    def _send_waiting(self) -> None:
        waiting = self._waiting
        for lane in [each for each in self._lanes if each.is_retiring and not each.calls]:
            self._leave(lane)
            pool.let_go(lane.worker)
        if not waiting:
            self._take_from_the_busiest()
        if not waiting:
            return
        self._add_workers(len(waiting))
        most = self._ahead + 1
        lanes = sorted(
            (lane for lane in self._lanes if len(lane.calls) <= self._ahead // 2 and not lane.is_retiring),
            key=lambda lane: len(lane.calls),
        )
        for at, lane in enumerate(lanes):
            share = -(-len(waiting) // (len(lanes) - at))
            room = min(most, self._tasks_left(lane)) - len(lane.calls)
            self._send(lane, min(share, room))

    def _send(self, lane: Lane, count: int) -> None:
        items: list[Item] = []
        size = lane.size
        while self._waiting and len(items) < count:
            item = self._waiting[0]
            if not item.is_packed and not self._pack(item):
                self._waiting.popleft()
                continue
            if size and size + item.payload.size > _ROOM:
                break
            size += item.payload.size
            items.append(self._waiting.popleft())
        if items:
            lane.post(items, self._bodies)
            self._flush(lane)

    def _flush(self, lane: Lane) -> None:
        """Send what a worker was posted; what its socket does not take now, when it does."""
        if lane not in self._lanes:
            return
        done = lane.worker.channel.flush()
        if done == (lane in self._blocked):
            self._blocked ^= {lane}
            again = None if done else partial(self._flush, lane)
            self.inbox.watch(lane.worker.channel, partial(self._receive, lane), again)

    def _take_back(self, lane: Lane) -> list[Item]:
        """Have calls that a worker has not begun wait for another one; return them in their order."""
        items = lane.take_back()
        self._give_again(items)
        return items

    def _give_again(self, items: Iterable[Item]) -> None:
        for item in reversed(list(items)):
            item.lane = None
            self._waiting.appendleft(item)

    def _take_from_the_busiest(self) -> None:
        """If a worker has nothing to do, have calls wait for it that another has not begun."""
        if all(lane.calls for lane in self._lanes) and len(self._lanes) == self._limit:
            return
        for lane in sorted(self._lanes, key=lambda lane: -len(lane.calls)):
            if len(lane.calls) > 1 or (lane.calls and not lane.worker.served):  # it may be about to start
                self._take_back(lane)
                if self._waiting:
                    return

    # Workers

    def _add_workers(self, calls: int) -> None:
        options = self._options
        idle = sum(not lane.calls for lane in self._lanes)
        for _ in range(min(calls - idle, self._limit - len(self._lanes))):
            try:
                worker = pool.borrow(options.start_method, self._kind, options.max_tasks or inf)
            except OSError as error:
                self._not_started(error)
                return
            lane = Lane(worker, self._run, self._lock)
            try:
                self._watch(lane)
            except OSError as error:
                self._forget(lane)
                pool.kill(worker)
                self._not_started(error)
                return
            self._lanes.append(lane)
            self._flush(lane)

    def _watch(self, lane: Lane) -> None:
        self.inbox.watch(lane.worker.channel, partial(self._receive, lane))
        if lane.worker.death is not None:
            self.inbox.watch(lane.worker.death, partial(self._receive, lane, dead=True))

    def _forget(self, lane: Lane) -> None:
        self.inbox.forget(lane.worker.channel)
        if lane.worker.death is not None:
            self.inbox.forget(lane.worker.death)

    def _not_started(self, error: OSError) -> None:
        """Go on with the workers there are; if there are none, one call cannot be run."""
        if not self._lanes:
            item = self._waiting.popleft()
            problem = WorkerDied(
                f"no worker process could be started: {error}; make room for one, or run with executor='thread'"
            )
            problem.__cause__ = error
            self._finish(item, Outcome(error=problem))

    def _receive(self, lane: Lane, *, dead: bool = False) -> None:
        """Take in what a worker says, or that it has died, and see to what follows."""
        if lane not in self._lanes:
            return
        self._hear(lane)
        if dead or lane.worker.channel.ended:
            self._died(lane)
            self._send_waiting()

    def _hear(self, lane: Lane) -> bool:
        messages = lane.worker.channel.receive()
        for message in messages or ():
            self._heard(lane, message)
        return messages is not None

    def _hear_all(self, lane: Lane) -> None:
        """Take in all that a worker has said, which says no more."""
        while self._hear(lane):
            pass

    def _heard(self, lane: Lane, message: Message) -> None:
        kind, number = message.kind, message.number
        if kind == protocol.LOG:
            self._log(lane, message)
            return
        item = lane.calls.get(number)
        if item is None:  # of a call that was stopped
            return
        call = item.call
        if kind == protocol.STARTED:
            self.inbox.add(Started(call))
            return
        if kind == protocol.ASK:
            answer(call, message, lane.worker.name, partial(self._reply, lane, number, message.extra))
            return
        if kind == protocol.PROGRESS:
            self.inbox.add(Progressed(call, Progress(*json.loads(bytes(_kept(message)[0])))))
            return
        if kind == protocol.METADATA:
            if message.frames is not None:  # else it was large, and too many files are open here
                call.take_note(json.loads(bytes(message.frames[0])))
            return
        del lane.calls[number]
        lane.worker.served += 1
        if not self._tasks_left(lane):
            lane.is_retiring = True
        self._learn(message.extra)
        call.elapsed = message.extra
        outcome = outcome_of(call, message)
        if isinstance(outcome.error, TaskError) and outcome.error.is_a(MemoryError):
            lane.is_retiring = True  # nobody knows what state that has left the worker in
            self._take_back(lane)
        self._finish(item, outcome)

    def _reply(self, lane: Lane, number: int, question: float, kind: int, parcel: Parcel) -> None:
        """Answer a question of a call, unless that has ended meanwhile."""
        if number in lane.calls:
            lane.worker.channel.post(kind, number, question, parcel)
            self._flush(lane)

    def _log(self, lane: Lane, message: Message) -> None:
        item = lane.calls.get(message.number)
        fields: dict[str, Any] = {"worker": lane.worker.name}
        if item is not None:
            attempt = item.call.attempt
            fields |= {
                "workflow_id": attempt.workflow_id,
                "task_id": attempt.task_id,
                "attempt": attempt.number,
            }
        emit(bytes(_kept(message)[0]), **fields)

    def _learn(self, seconds: float) -> None:
        """Adapt how much is sent in advance to how long bodies take."""
        mean = self._mean = seconds if self._mean is None else self._mean + (seconds - self._mean) / 8
        self._ahead = min(_MOST_AHEAD, int(_AHEAD / max(mean, 1e-6)))
        self.slots = self._limit * (1 + self._ahead)

    def _tasks_left(self, lane: Lane) -> int:
        most = self._options.max_tasks
        return _MOST_AHEAD + 1 if most is None else most - lane.worker.served

    def _died(self, lane: Lane) -> None:
        """See to the end of a worker: the body that was running failed, the calls it had not begun are another's."""
        lane.worker.wait(0.2)  # it is about to end; if not, it has lost its way to here, and is of no use
        self._leave(lane)
        lane.worker.kill()
        self._hear_all(lane)
        unbegun = set(lane.worker.tokens.take_back())
        how = pool.kill(lane.worker)
        if lane.worker.channel.garbled:
            how = "it was killed, since something wrote into its connection to this process"
        begun = [item for number, item in lane.calls.items() if number not in unbegun]
        again = [item for number, item in lane.calls.items() if number in unbegun] + begun[1:]
        if not begun:  # else it is known what it died of
            for item in again:
                item.losses += 1
        lost = [item for item in again if item.losses >= _LOSSES]
        lane.calls.clear()
        self._give_again(item for item in again if item.losses < _LOSSES)
        for item in (*begun[:1], *lost):
            when = "under it" if item in begun else "before its body began, as did others before it"
            problem = WorkerDied(
                f"the worker process ({lane.worker.name}) that ran attempt {item.call.attempt.id} ended {when}: {how}"
            )
            self._finish(item, Outcome(error=problem))

    def _leave(self, lane: Lane) -> None:
        self._lanes.remove(lane)
        self._forget(lane)

    def _finish(self, item: Item, outcome: Outcome) -> None:
        if self._items.pop(item.call, None) is not None:  # else it was stopped
            item.call.worker = None if item.lane is None else item.lane.worker.name
            self._ended(item.call, outcome)

    def _ended(self, call: Call, outcome: Outcome) -> None:
        call.outcome = outcome
        self.inbox.add(call)


def _kept(message: Message) -> Sequence[Buffer]:
    assert message.frames is not None, "it is small, and not lost"
    return message.frames
