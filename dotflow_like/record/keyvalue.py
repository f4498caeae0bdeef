"""The journal over any `Storage`.

Keys, with `%` and `/` in a name written `%25` and `%2F`:

    <run>/run                               the row of the run, and what somebody outside asks of it
    <run>/tasks/<task>                      the row of a task: its attempts and its checkpoints
    <run>/values/<task>/<name>/<number>-<sum>   a checkpoint too large to lie in the row
    %keys/<workflow>/<idempotency key>          the id of the run that was started with that key

A row is one value, so an attempt is closed together with its result. It is three lines: a checksum of
what follows, a JSON object, and the bytes of the checkpoints one after another:

    dotflow_like 1 3f0c...
    {"task": "fetch", "attempts": [...], "checkpoints": {"result": {"from": 0, "to": 12, ...}}, ...}
    ...

The fence is compare-and-set on the rows themselves. A new owner's claim changes the row of the run, and
what it does with a task changes that task's row; a former owner expects the rows it knew, and is refused.

What is asked of a run lies in its row, and so cannot miss its end. An end that is about tasks too first closes
the row to requests, with the number of its claim: whoever dies before it has ended leaves a row that is open again
to the next claim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from threading import Lock
from typing import NamedTuple

from dotflow_like.errors import ClaimLost
from dotflow_like.model.records import Attempt, Checkpoint, Reference, Request, RunRecord, TaskRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.journal import (
    OPEN,
    Change,
    Claim,
    Codec,
    Encoded,
    Journal,
    after,
    check_unclaimed,
    claim_lost,
    claimed,
    crashes_of,
    is_late,
    recovered,
)
from dotflow_like.record.keyvalue_rows import (
    Beside,
    RunRow,
    corrupt,
    new_run,
    pack_task,
    part,
    place_of_key,
    record_of,
    run_key,
    task_prefix,
    unpack_run,
    unpack_task,
    whole,
)
from dotflow_like.record.locks import RunLocks
from dotflow_like.record.storage.base import Storage
from dotflow_like.record.stored import Stored, checksum

__all__ = ["INLINE", "KeyValueJournal"]

INLINE = 64 * 1024
"""Bytes: a larger checkpoint lies under a key of its own, so that reading the row stays cheap."""

_OPEN = (AttemptStatus.SCHEDULED, AttemptStatus.RUNNING)


class _Row(NamedTuple):
    """A task's row as it is written: its record with the bytes of its checkpoints, and the whole as bytes."""

    record: TaskRecord
    data: bytes | None


class KeyValueJournal(Journal):
    """Keeps bytes in a storage.

    Args:
        storage: where they lie.
        codec: makes them of results.
    """

    codec: Codec

    def __init__(self, storage: Storage, codec: Codec) -> None:
        self.storage = storage
        self.codec = codec
        self.locks = None if storage.lock_folder is None else RunLocks(storage.lock_folder)
        self._lock = Lock()
        self._runs: dict[str, RunRow] = {}

    def create(self, run: RunRecord) -> bool:
        key = run.idempotency_key
        if key is not None:
            if self.storage.get(run_key(run.workflow_id)) is not None:
                return False
            name = run.workflow_id.encode()
            where = place_of_key(run.workflow, key)
            # whoever made this key may have died before the row: then it is made now
            if not self.storage.put(where, name, expected=None) and self.storage.get(where) != name:
                return False
        data = new_run(run, self.codec.encode(dict(run.params)))
        return self.storage.put(run_key(run.workflow_id), data, expected=None)

    def claim(
        self, workflow_id: str, owner: str, at: datetime, *, anew: bool = False, after: int | None = None
    ) -> Claim:
        while True:
            row = self._read_run(workflow_id)
            run = row.run
            check_unclaimed(run, after)
            attempts: list[Attempt] = []
            if run.status is RunStatus.RUNNING or run.crashes:  # else there is nothing to find
                attempts = self.attempts(workflow_id)
            statuses = {each.status for each in attempts if each.fence == run.fence}
            mine = claimed(run, owner, at, crashes_of(run, statuses, anew=anew))
            if run.status not in OPEN:
                row = row.without_request()
            written = row.with_state(mine)
            if self.storage.put(run_key(workflow_id), written, expected=row.data):
                break
        claim = Claim(workflow_id, owner, mine.fence, mine.crashes)
        # overtaken by another claim: the rest is for that one to take over
        with self._lock, suppress(ClaimLost):
            self._runs[workflow_id] = unpack_run(workflow_id, written)
            for key in dict.fromkeys(each.task_id for each in attempts if each.status in _OPEN):
                # also one that only waits for its time: a former owner expects the row that was
                self._change(claim, key, partial(_taken_over, claim=claim, at=at))
        return claim

    def run(self, workflow_id: str, *, params: bool = True) -> RunRecord | None:
        data = self.storage.get(run_key(workflow_id))
        if data is None:
            return None
        row = unpack_run(workflow_id, data)
        return replace(row.run, params=self.codec.decode(row.params)) if params else row.run

    def find(self, workflow: str, idempotency_key: str) -> str | None:
        found = self.storage.get(place_of_key(workflow, idempotency_key))
        return None if found is None else found.decode()

    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        found = {}
        prefix = task_prefix(workflow_id)
        for key in keys:
            where = prefix + part(key)
            data = self.storage.get(where)
            if data is not None:
                header, _ = unpack_task(data, where, key)
                references = {name: Stored(self, workflow_id, key, name) for name in header["checkpoints"]}
                found[key] = record_of(header, workflow_id, references)
        return found

    def task_keys(self, workflow_id: str) -> list[str]:
        prefix = task_prefix(workflow_id)
        return [whole(key.removeprefix(prefix)) for key in self.storage.keys(prefix)]

    def commit(self, claim: Claim, changes: Sequence[Change], *, lazily: bool = False) -> None:
        by_task, runs = _sorted(changes)
        with self._lock:
            try:
                write_tasks = self._checked(claim, by_task)
                write_tasks()
                for run in runs:
                    self._write_run(claim, partial(RunRow.with_state, run=run))
            except ClaimLost:
                self._discard_late(claim, by_task)
                raise

    def end(self, claim: Claim, changes: Sequence[Change], answered: Request | None = None) -> bool:
        by_task, runs = _sorted(changes)

        def closed(row: RunRow) -> bytes | None:
            return row.closed() if row.request in (None, answered) else None

        def ended(row: RunRow) -> bytes | None:
            return row.without_request().with_state(runs[-1]) if row.request in (None, answered) else None

        with self._lock:
            try:
                write_tasks = self._checked(claim, by_task)
                if by_task:
                    if not self._write_run(claim, closed):
                        return False
                    write_tasks()
                return self._write_run(claim, ended)
            except ClaimLost:
                self._discard_late(claim, by_task)
                raise

    def ask(self, workflow_id: str, request: Request, instead_of: Request | None = None) -> bool:
        while True:
            row = self._read_run(workflow_id)
            if row.run.status not in OPEN or row.is_closed or row.request != instead_of:
                return False
            if self.storage.put(run_key(workflow_id), row.with_request(request), expected=row.data):
                return True

    def asked(self, workflow_id: str) -> Request | None:
        data = self.storage.get(run_key(workflow_id))
        return None if data is None else unpack_run(workflow_id, data).request

    def answer(self, claim: Claim, request: Request) -> bool:
        with self._lock:
            self._check(claim)
            return self._write_run(
                claim, lambda row: row.with_request(None) if row.request == request else None
            )

    def reference(self, workflow_id: str, key: str, name: str) -> Reference:
        return Stored(self, workflow_id, key, name)

    def read(self, workflow_id: str, key: str, name: str) -> bytes:
        """Return the bytes of a checkpoint, verified.

        Raises:
            CorruptCheckpoint: it is gone, or does not match its checksum.
        """
        where = task_prefix(workflow_id) + part(key)
        found = self._read(workflow_id, key).record.checkpoints.get(name)
        if found is None:
            raise corrupt(where, f"has lost the {name} of task {key!r}")
        if isinstance(found.value, Beside):
            where = found.value.key
            data = self.storage.get(where)
            if data is None or checksum(data) != found.value.sum:
                raise corrupt(where, "is gone" if data is None else "does not match its checksum")
            return data
        data = found.value.data
        assert isinstance(data, bytes)
        return data

    def _read(self, workflow_id: str, key: str) -> _Row:
        where = task_prefix(workflow_id) + part(key)
        data = self.storage.get(where)
        if data is None:
            return _Row(TaskRecord(key), None)
        header, body = unpack_task(data, where, key)
        values = {
            name: Beside(kept["at"], kept["sum"])
            if "at" in kept
            else Encoded(body[kept["from"] : kept["to"]])
            for name, kept in header["checkpoints"].items()
        }
        return _Row(record_of(header, workflow_id, values), data)

    def _check(self, claim: Claim) -> RunRow:
        """Return the row of the run; raise `ClaimLost` if it is somebody else's."""
        data = self.storage.get(run_key(claim.workflow_id))
        known = self._runs.get(claim.workflow_id)
        if known is None or known.data != data:
            known = self._runs[claim.workflow_id] = self._read_run(claim.workflow_id)
        if known.run.fence != claim.fence:
            raise claim_lost(claim, known.run)
        return known

    def _checked(self, claim: Claim, by_task: Mapping[str, Sequence[Change]]) -> Callable[[], None]:
        """Return what writes the changes of tasks, once it is known that they may be written."""
        rows = {key: self._read(claim.workflow_id, key) for key in by_task}
        self._check(claim)  # after they were read: whoever claims from now on changes them
        records = {key: after(rows[key].record, of_task) for key, of_task in by_task.items()}

        def write() -> None:
            for key, record in records.items():
                if not self._write(claim, record, rows[key]):
                    self._change(claim, key, partial(after, changes=by_task[key]))

        return write

    def _change(self, claim: Claim, key: str, change: Callable[[TaskRecord], TaskRecord]) -> None:
        """Change the row of a task that somebody else has written, under this claim or before it."""
        while True:
            row = self._read(claim.workflow_id, key)
            self._check(claim)
            if self._write(claim, change(row.record), row):
                return

    def _discard_late(self, claim: Claim, changes: Mapping[str, Sequence[Change]]) -> None:
        """Note of attempts that end under a lost claim that what they did is discarded."""
        for key, of_task in changes.items():
            row = self._read(claim.workflow_id, key)
            attempts = [
                each._replace(outcome=AttemptOutcome.DISCARDED)
                if any(is_late(change, each, claim) for change in of_task)
                else each
                for each in row.record.attempts
            ]
            if attempts != list(row.record.attempts):
                data = pack_task(row.record._replace(attempts=tuple(attempts)))
                # if the next owner has just changed the row there is no second try: it is theirs
                self.storage.put(task_prefix(claim.workflow_id) + part(key), data, expected=row.data)

    def _write(self, claim: Claim, record: TaskRecord, before: _Row) -> bool:
        """Replace the row of a task; False, if it is not `before` any more."""
        where = task_prefix(claim.workflow_id) + part(record.task_id)
        checkpoints = {
            name: self._put_beside(claim, record, checkpoint)
            for name, checkpoint in record.checkpoints.items()
        }
        record = record._replace(checkpoints=checkpoints)
        data = pack_task(record)
        written = self.storage.put(where, data, expected=before.data)
        kept, dropped = _beside(before.record), _beside(record)
        if written:
            kept, dropped = dropped, kept
        for key in dropped - kept:  # values no row mentions
            self.storage.delete(key)
        return written

    def _put_beside(self, claim: Claim, record: TaskRecord, checkpoint: Checkpoint) -> Checkpoint:
        """Put a large value under a key of its own, before the row that mentions it."""
        value = checkpoint.value
        if not isinstance(value, Encoded) or len(value.data) <= INLINE:
            return checkpoint
        place = f"{part(claim.workflow_id)}/values/{part(record.task_id)}/{part(checkpoint.name)}"
        sum_ = checksum(value.data)
        beside = Beside(f"{place}/{record.attempts[-1].number}-{sum_}", sum_)
        self.storage.put(beside.key, value.data)
        return checkpoint._replace(value=beside)

    def _write_run(self, claim: Claim, change: Callable[[RunRow], bytes | None]) -> bool:
        """Replace the row of the run by what `change` makes of it; False, if that is None."""
        where, row = run_key(claim.workflow_id), self._runs[claim.workflow_id]
        while True:
            data = change(row)
            if data is None:
                return False
            if self.storage.put(where, data, expected=row.data):
                self._runs[claim.workflow_id] = unpack_run(claim.workflow_id, data)
                return True
            row = self._check(claim)

    def _read_run(self, workflow_id: str) -> RunRow:
        data = self.storage.get(run_key(workflow_id))
        if data is None:
            raise corrupt(run_key(workflow_id), "is gone")
        return unpack_run(workflow_id, data)


def _sorted(changes: Sequence[Change]) -> tuple[dict[str, list[Change]], list[RunRecord]]:
    """Return changes by task, and those of the run."""
    by_task: dict[str, list[Change]] = {}
    runs: list[RunRecord] = []
    for change in changes:
        if isinstance(change, RunRecord):
            runs.append(change)
        else:
            by_task.setdefault(change.task_id, []).append(change)
    return by_task, runs


def _taken_over(record: TaskRecord, claim: Claim, at: datetime) -> TaskRecord:
    """Return a task's record as the next owner takes it over: nothing of it is the former owner's any more."""
    last = record.attempts[-1]
    if last.status is AttemptStatus.RUNNING:
        last = recovered(last, at)
    elif last.status is AttemptStatus.SCHEDULED:
        last = last._replace(owner=claim.owner, fence=claim.fence)
    return record._replace(attempts=(*record.attempts[:-1], last))


def _beside(record: TaskRecord) -> set[str]:
    """Return the keys of the values that do not lie in the row."""
    values = (checkpoint.value for checkpoint in record.checkpoints.values())
    return {value.key for value in values if isinstance(value, Beside)}
