"""What somebody outside of a run makes of it through its journal: paused, cancelled, or a task of it skipped.

A run that is executed is asked, and its process sees to it. One that nobody executes, since it is paused or its
process has died, is claimed and changed here: whoever comes at the same moment, to resume it for instance, finds it
in progress, or we do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import Final, NoReturn

from dotflow_like import clock
from dotflow_like.errors import ConfigError, IllegalMove, RunInProgress
from dotflow_like.model.metadata import SIGNAL, SIGNAL_REASON
from dotflow_like.model.records import RESULT, Attempt, Request, RunRecord, TaskRecord
from dotflow_like.model.signals import Cancel, Pause, Skip
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.journal import OPEN, Change, Claim, Journal

__all__ = ["check_goes_on", "known", "new_owner", "steer"]

_PATIENCE: Final = 2.0
"""Seconds, of real time, to wait for an owner that is about to end its run."""
_PAUSE: Final = 0.01
_MARK: Final = "steering-"
"""The token of an owner begins with it who has claimed a run to change it, not to execute it."""
_DONE: Final = {Pause.word: "paused", Cancel.word: "cancelled", Skip.word: "skipped"}


def new_owner(mark: str = "") -> str:
    """Return a new name for what this process does to a run: `host:pid:token`; the token begins with the mark."""
    return f"{_host_here()}:{os.getpid()}:{mark}{os.urandom(4).hex()}"


def known(journal: Journal, workflow_id: str, where: str) -> RunRecord:
    """Return the row of a run without its params.

    Args:
        journal: where it is recorded.
        workflow_id: the run.
        where: that place, in words.

    Raises:
        ConfigError: it is not known there.
    """
    row = journal.run(workflow_id, params=False)
    if row is None:
        raise ConfigError(f"run {workflow_id!r} is not known in {where}: see its id, and its storage=")
    return row


def check_goes_on(row: RunRecord, done: str) -> None:
    """Raise `IllegalMove` for a run that has ended for good, and so cannot be `done`."""
    if row.status in OPEN or row.status is RunStatus.PAUSED:
        return
    why = f" ({row.reason})" if row.reason else ""
    way_on = (
        "what it has not done, a new run does"
        if row.status is RunStatus.COMPLETED
        else f"Manager(..., workflow_id={row.workflow_id!r}, resume=True) goes on with it"
    )
    raise IllegalMove(
        f"run {row.workflow_id!r} has ended as {row.status}{why} and cannot be {done}; {way_on}"
    )


def steer(
    journal: Journal,
    workflow_id: str,
    word: str,
    *,
    where: str,
    reason: str | None,
    task_id: str | None = None,
) -> bool:
    """Pause or cancel a run, or skip a task of it.

    Args:
        journal: where it is recorded.
        workflow_id: the run.
        word: of the signal.
        where: that place, in words.
        reason: why; None to say nothing.
        task_id: the task to skip; None for the one that waits.

    Returns:
        True when it is done, or is asked of the process that executes the run. False when the run to be cancelled has
        ended already; nothing changes then.

    Raises:
        IllegalMove: the run or the task cannot become that, or something else was asked of it before.
        RunInProgress: somebody takes the run over at this moment.
        ConfigError: no such run is known there.
        StorageError: the place cannot be read or written.
    """
    wish = Request(word, new_owner(_MARK), clock.current().now(), reason, task_id)
    until = time.monotonic() + _PATIENCE
    while True:
        # before the row: an owner gives the run back after it has written how it ended
        is_held = _is_held(journal, workflow_id)
        row = known(journal, workflow_id, where)
        if row.status not in OPEN and row.status is not RunStatus.PAUSED and word == Cancel.word:
            return False
        check_goes_on(row, _DONE[word] if word != Skip.word else "changed any more")
        try:
            if row.status not in OPEN or not (is_held or _may_be_elsewhere(journal, row)):
                done = _change(journal, row, wish)
            elif not _is_steered(row):
                done = _ask(journal, row, wish)
            else:  # somebody else is about to do what we are; where that cannot be seen they may have died
                done = time.monotonic() >= until and not is_held and _change(journal, row, wish)
        except RunInProgress:
            if time.monotonic() >= until:
                raise
            done = False
        if done:
            return True
        if time.monotonic() >= until:
            raise RunInProgress(
                f"run {workflow_id!r} changes hands, or is about to end: {row.owner} has claimed it (claim "
                f"{row.fence}); try again"
            )
        time.sleep(_PAUSE)  # what was found is not so any more: look again


def _is_held(journal: Journal, workflow_id: str) -> bool:
    holder = None if journal.locks is None else journal.locks.holder(workflow_id)
    return holder is not None and holder.alive


def _may_be_elsewhere(journal: Journal, row: RunRecord) -> bool:
    """Return whether it cannot be seen from here if the owner of a run is alive."""
    if journal.locks is None:
        return True
    return row.owner is not None and row.owner.rsplit(":", 2)[0] != _host_here()


def _is_steered(row: RunRecord) -> bool:
    return row.owner is not None and row.owner.rpartition(":")[2].startswith(_MARK)


# A run that is executed


def _ask(journal: Journal, row: RunRecord, wish: Request) -> bool:
    """Ask it; False if it has changed meanwhile."""
    if wish.signal == Skip.word:
        records = _records(journal, row)
        wish = wish._replace(task_id=wish.task_id or _the_one(row, _under_way(records.values())))
        _check_is_open(row, records.get(wish.task_id or ""))
    waiting = journal.asked(row.workflow_id)
    if waiting is not None and wish.signal != Cancel.word:
        if waiting.signal == wish.signal == Pause.word:
            return True
        _asked_before(row, waiting)
    if waiting is not None and waiting.signal == wish.signal:
        return True
    return journal.ask(row.workflow_id, wish._replace(fence=row.fence), waiting)


def _asked_before(row: RunRecord, waiting: Request) -> NoReturn:
    task = "" if waiting.task_id is None else f" of task {waiting.task_id!r}"
    why = f" ({waiting.reason})" if waiting.reason else ""
    raise IllegalMove(
        f"{waiting.signal}{task} was asked of run {row.workflow_id!r} before, by {waiting.by} at "
        f"{waiting.at.isoformat(timespec='seconds')}{why}; only cancel takes its place"
    )


def _under_way(records: Iterable[TaskRecord]) -> list[str]:
    """Return the tasks that wait for their next attempt; if none does, those that run."""
    last = [record.attempts[-1] for record in records]
    for status in (AttemptStatus.SCHEDULED, AttemptStatus.RUNNING):
        found = [each.task_id for each in last if each.status is status]
        if found:
            return found
    return []


# One that nobody executes


def _change(journal: Journal, row: RunRecord, wish: Request) -> bool:
    """Take it over, change it, and end it; False if it is not as it was any more.

    Raises:
        RunInProgress: somebody else has taken it over.
    """
    workflow_id = row.workflow_id
    with ExitStack() as undo:
        if journal.locks is not None:
            undo.callback(journal.locks.take(workflow_id, wish.by).release)
            now = journal.run(workflow_id, params=False)
            if now is None or (now.fence, now.status) != (row.fence, row.status):
                return False
        wish = _checked(journal, row, wish)
        at = clock.current().now()
        claim = journal.claim(workflow_id, wish.by, at, after=row.fence)
        wishes = [wish]
        while True:
            waiting = journal.asked(workflow_id)  # of its dead owner, or of this one just now
            if waiting is not None and waiting not in wishes:
                wishes.append(waiting)
            if journal.end(claim, _ended(journal, row, claim, wishes, at), waiting):
                break
        cancel = _cancel_in(wishes)
        if cancel is not None and wish.signal != Cancel.word:
            _asked_before(row, cancel)
        return True


def _checked(journal: Journal, row: RunRecord, wish: Request) -> Request:
    """Return a wish with the task it means, if it can be met."""
    if wish.signal == Pause.word and row.status is RunStatus.PAUSED:
        why = f" ({row.reason})" if row.reason else ""
        raise IllegalMove(f"run {row.workflow_id!r} is paused already{why}; resume=True goes on with it")
    waiting = journal.asked(row.workflow_id) if row.status in OPEN else None
    if waiting is not None and wish.signal not in (Cancel.word, waiting.signal):
        _asked_before(row, waiting)
    if wish.signal != Skip.word:
        return wish
    records = _records(journal, row)
    waits = [key for key, record in records.items() if _waits(record)]
    wish = wish._replace(task_id=wish.task_id or _the_one(row, waits))
    found = records.get(wish.task_id or "")
    _check_is_open(row, found)
    if found is None or not _waits(found):
        raise IllegalMove(
            f"task {wish.task_id!r} of run {row.workflow_id!r} does not wait: nothing is recorded of it; "
            f"what waits: {_named(waits) or 'nothing'}"
        )
    return wish


def _ended(
    journal: Journal, row: RunRecord, claim: Claim, wishes: Sequence[Request], now: datetime
) -> list[Change]:
    """Return what is written of a run that was claimed: attempts, and its row as it ends."""
    records = _records(journal, row)
    mine = journal.run(row.workflow_id, params=False)
    assert mine is not None, "it was claimed"
    mine = replace(mine, status=RunStatus.PAUSED, started_at=row.started_at, finished_at=now)
    cancel = _cancel_in(wishes)
    if cancel is not None:
        changes: list[Change] = [
            _closed(each, cancel, AttemptStatus.CANCELLED, AttemptOutcome.CANCELLED, claim, now)
            for record in records.values()
            for each in record.attempts
            if each.status is AttemptStatus.SCHEDULED
        ]
        return [*changes, replace(mine, status=RunStatus.CANCELLED, reason=_reason_of(cancel))]
    changes = []
    for wish in wishes:
        record = records.get(wish.task_id or "")
        if wish.signal == Skip.word and record is not None and _waits(record):
            changes += _skipped(record, wish, claim, now)
            records.pop(record.task_id)  # once
    pause = next((each for each in wishes if each.signal == Pause.word), None)
    if pause is not None:
        return [*changes, replace(mine, reason=_reason_of(pause))]
    if row.status is RunStatus.PAUSED:
        return [*changes, replace(mine, reason=row.reason, finished_at=row.finished_at)]
    return [*changes, replace(mine, reason=f"left by {row.owner}, which has ended")]


def _skipped(record: TaskRecord, wish: Request, claim: Claim, now: datetime) -> list[Change]:
    """Return the attempt of a task that waits as it is skipped; one is opened for it if there is none."""
    skipped = AttemptStatus.SKIPPED, AttemptOutcome.SKIPPED, claim, now
    last = record.attempts[-1]
    if last.status is AttemptStatus.SCHEDULED:
        return [_closed(last, wish, *skipped)]
    opened = Attempt(
        claim.workflow_id, record.task_id, last.number + 1, AttemptStatus.SCHEDULED, None, now, None, None,
        claim.owner, claim.fence, generation=record.generation,
    )  # fmt: skip
    return [opened, _closed(opened, wish, *skipped)]


def _closed(
    attempt: Attempt,
    wish: Request,
    status: AttemptStatus,
    outcome: AttemptOutcome,
    claim: Claim,
    now: datetime,
) -> Attempt:
    """Return an attempt that waited as it is closed: by whom, and why."""
    reason = wish.reason or f"asked by {wish.by}"
    return attempt._replace(
        status=status,
        outcome=outcome,
        finished_at=max(now, attempt.scheduled_at),
        owner=claim.owner,
        fence=claim.fence,
        metadata={**attempt.metadata, SIGNAL: wish.signal, SIGNAL_REASON: reason},
    )


# Tasks


def _records(journal: Journal, row: RunRecord) -> dict[str, TaskRecord]:
    return journal.tasks(row.workflow_id, journal.task_keys(row.workflow_id))


def _waits(record: TaskRecord) -> bool:
    """Return whether a task has begun, and is to run again."""
    last = record.attempts[-1]
    is_done = RESULT in record.checkpoints or last.status is AttemptStatus.SKIPPED
    return not is_done and last.generation == record.generation


def _check_is_open(row: RunRecord, record: TaskRecord | None) -> None:
    """Raise `IllegalMove` for a task that is done."""
    if record is None or record.attempts[-1].generation != record.generation:
        return
    done = "completed" if RESULT in record.checkpoints else record.attempts[-1].status
    if done in (AttemptStatus.COMPLETED, AttemptStatus.SKIPPED) and not _waits(record):
        raise IllegalMove(
            f"task {record.task_id!r} of run {row.workflow_id!r} is {done} and cannot be skipped"
        )


def _the_one(row: RunRecord, waiting: Sequence[str]) -> str:
    """Return the one task that waits."""
    if not waiting:
        raise IllegalMove(f"no task of run {row.workflow_id!r} waits, so there is none to skip")
    if len(waiting) > 1:
        raise IllegalMove(
            f"several tasks of run {row.workflow_id!r} can be skipped: {_named(waiting)}; give the task_id of one"
        )
    return waiting[0]


def _named(keys: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(keys)))


def _cancel_in(wishes: Sequence[Request]) -> Request | None:
    return next((each for each in wishes if each.signal == Cancel.word), None)


def _reason_of(wish: Request) -> str:
    return wish.reason or f"{_DONE[wish.signal]} by {wish.by}"


def _host_here() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
