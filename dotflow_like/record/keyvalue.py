"""The journal over any `Storage`.

Keys, with `%` and `/` in a name written `%25` and `%2F`:

    <run>/run                               the row of the run
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
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

from dotflow_like.errors import ClaimLost, CorruptCheckpoint
from dotflow_like.model.records import Attempt, Checkpoint, Reference, RunRecord, TaskRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.journal import (
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
from dotflow_like.record.locks import RunLocks
from dotflow_like.record.rows import attempt_from, attempt_row, run_from, run_row
from dotflow_like.record.storage.base import Storage
from dotflow_like.record.stored import Stored, checksum

__all__ = ["INLINE", "KeyValueJournal"]

INLINE = 64 * 1024
"""Bytes: a larger checkpoint lies under a key of its own, so that reading the row stays cheap."""

_HEAD = b"dotflow_like 1 "
_SUM = len(checksum(b""))
_START = len(_HEAD) + _SUM + 1
_OPEN = (AttemptStatus.SCHEDULED, AttemptStatus.RUNNING)
_encode_json = json.JSONEncoder(separators=(",", ":")).encode
_decode_json = json.JSONDecoder().raw_decode


class _Beside(NamedTuple):
    """A checkpoint under a key of its own."""

    key: str
    sum: str


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
        self._runs: dict[str, tuple[RunRecord, bytes]] = {}  # as they were when last looked at

    def create(self, run: RunRecord) -> bool:
        key = run.idempotency_key
        if key is not None:
            if self.storage.get(_run_key(run.workflow_id)) is not None:
                return False
            name = run.workflow_id.encode()
            where = _idempotency_key(run.workflow, key)
            # whoever made this key may have died before the row: then it is made now
            if not self.storage.put(where, name, expected=None) and self.storage.get(where) != name:
                return False
        return self.storage.put(_run_key(run.workflow_id), self._pack_run(run), expected=None)

    def claim(
        self, workflow_id: str, owner: str, at: datetime, *, anew: bool = False, after: int | None = None
    ) -> Claim:
        while True:
            run, data = self._read_run(workflow_id)
            check_unclaimed(run, after)
            attempts: list[Attempt] = []
            if run.status is RunStatus.RUNNING or run.crashes:  # else there is nothing to find
                attempts = self.attempts(workflow_id)
            statuses = {each.status for each in attempts if each.fence == run.fence}
            mine = claimed(run, owner, at, crashes_of(run, statuses, anew=anew))
            written = self._pack_run(mine)
            if self.storage.put(_run_key(workflow_id), written, expected=data):
                break
        claim = Claim(workflow_id, owner, mine.fence, mine.crashes)
        # overtaken by another claim: the rest is for that one to take over
        with self._lock, suppress(ClaimLost):
            self._runs[workflow_id] = mine, written
            for key in dict.fromkeys(each.task_id for each in attempts if each.status in _OPEN):
                # also one that only waits for its time: a former owner expects the row that was
                self._change(claim, key, partial(_taken_over, claim=claim, at=at))
        return claim

    def run(self, workflow_id: str) -> RunRecord | None:
        data = self.storage.get(_run_key(workflow_id))
        return None if data is None else self._unpack_run(workflow_id, data)

    def find(self, workflow: str, idempotency_key: str) -> str | None:
        found = self.storage.get(_idempotency_key(workflow, idempotency_key))
        return None if found is None else found.decode()

    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        found = {}
        prefix = _task_prefix(workflow_id)
        for key in keys:
            where = prefix + _part(key)
            data = self.storage.get(where)
            if data is not None:
                header, _ = _unpack_task(data, where, key)
                references = {name: Stored(self, workflow_id, key, name) for name in header["checkpoints"]}
                found[key] = _record_of(header, workflow_id, references)
        return found

    def task_keys(self, workflow_id: str) -> list[str]:
        prefix = _task_prefix(workflow_id)
        return [_whole(key.removeprefix(prefix)) for key in self.storage.keys(prefix)]

    def commit(self, claim: Claim, changes: Sequence[Change]) -> None:
        by_task: dict[str, list[Change]] = {}
        runs: list[RunRecord] = []
        for change in changes:
            if isinstance(change, RunRecord):
                runs.append(change)
            else:
                by_task.setdefault(change.task_id, []).append(change)
        with self._lock:
            try:
                rows = {key: self._read(claim.workflow_id, key) for key in by_task}
                self._check(claim)  # after they were read: whoever claims from now on changes them
                records = {key: after(rows[key].record, of_task) for key, of_task in by_task.items()}
                for key, record in records.items():
                    if not self._write(claim, record, rows[key]):
                        self._change(claim, key, partial(after, changes=by_task[key]))
                for run in runs:
                    self._write_run(claim, run)
            except ClaimLost:
                self._discard_late(claim, by_task)
                raise

    def reference(self, workflow_id: str, key: str, name: str) -> Reference:
        return Stored(self, workflow_id, key, name)

    def read(self, workflow_id: str, key: str, name: str) -> bytes:
        """Return the bytes of a checkpoint, verified.

        Raises:
            CorruptCheckpoint: it is gone, or does not match its checksum.
        """
        where = _task_prefix(workflow_id) + _part(key)
        found = self._read(workflow_id, key).record.checkpoints.get(name)
        if found is None:
            raise _corrupt(where, f"has lost the {name} of task {key!r}")
        if isinstance(found.value, _Beside):
            where = found.value.key
            data = self.storage.get(where)
            if data is None or checksum(data) != found.value.sum:
                raise _corrupt(where, "is gone" if data is None else "does not match its checksum")
            return data
        data = found.value.data
        assert isinstance(data, bytes)
        return data

    def _read(self, workflow_id: str, key: str) -> _Row:
        where = _task_prefix(workflow_id) + _part(key)
        data = self.storage.get(where)
        if data is None:
            return _Row(TaskRecord(key), None)
        header, body = _unpack_task(data, where, key)
        values = {
            name: _Beside(kept["at"], kept["sum"])
            if "at" in kept
            else Encoded(body[kept["from"] : kept["to"]])
            for name, kept in header["checkpoints"].items()
        }
        return _Row(_record_of(header, workflow_id, values), data)

    def _check(self, claim: Claim) -> None:
        """Raise `ClaimLost` if the run is somebody else's."""
        data = self.storage.get(_run_key(claim.workflow_id))
        known = self._runs.get(claim.workflow_id)
        if known is None or known[1] != data:
            known = self._runs[claim.workflow_id] = self._read_run(claim.workflow_id)
        if known[0].fence != claim.fence:
            raise claim_lost(claim, known[0])

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
                data = _pack_task(row.record._replace(attempts=tuple(attempts)))
                # if the next owner has just changed the row there is no second try: it is theirs
                self.storage.put(_task_prefix(claim.workflow_id) + _part(key), data, expected=row.data)

    def _write(self, claim: Claim, record: TaskRecord, before: _Row) -> bool:
        """Replace the row of a task; False, if it is not `before` any more."""
        where = _task_prefix(claim.workflow_id) + _part(record.task_id)
        checkpoints = {
            name: self._put_beside(claim, record, checkpoint)
            for name, checkpoint in record.checkpoints.items()
        }
        record = record._replace(checkpoints=checkpoints)
        data = _pack_task(record)
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
        place = f"{_part(claim.workflow_id)}/values/{_part(record.task_id)}/{_part(checkpoint.name)}"
        sum_ = checksum(value.data)
        beside = _Beside(f"{place}/{record.attempts[-1].number}-{sum_}", sum_)
        self.storage.put(beside.key, value.data)
        return checkpoint._replace(value=beside)

    def _write_run(self, claim: Claim, run: RunRecord) -> None:
        data = self._pack_run(run)
        while not self.storage.put(
            _run_key(claim.workflow_id), data, expected=self._runs[claim.workflow_id][1]
        ):
            self._check(claim)
        self._runs[claim.workflow_id] = run, data

    def _read_run(self, workflow_id: str) -> tuple[RunRecord, bytes]:
        data = self.storage.get(_run_key(workflow_id))
        if data is None:
            raise _corrupt(_run_key(workflow_id), "is gone")
        return self._unpack_run(workflow_id, data), data

    def _pack_run(self, run: RunRecord) -> bytes:
        return _pack(run_row(run), self.codec.encode(dict(run.params)))

    def _unpack_run(self, workflow_id: str, data: bytes) -> RunRecord:
        header, body = _unpack(data, _run_key(workflow_id))
        if header["workflow_id"] != workflow_id:
            raise _corrupt(_run_key(workflow_id), f"is the row of run {header['workflow_id']!r}")
        return run_from(header, self.codec.decode(body))


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
    return {value.key for value in values if isinstance(value, _Beside)}


def _pack(header: Mapping[str, Any], body: bytes) -> bytes:
    rest = b"%b\n%b" % (_encode_json(header).encode("ascii"), body)
    return b"%b%b\n%b" % (_HEAD, checksum(rest).encode("ascii"), rest)


def _unpack(data: bytes, where: str) -> tuple[dict[str, Any], bytes]:
    rest = data[_START:]
    if not data.startswith(_HEAD) or data[len(_HEAD) : _START - 1] != checksum(rest).encode("ascii"):
        raise _corrupt(where, "does not match its checksum")
    header, _, body = rest.partition(b"\n")
    return _decode_json(header.decode("ascii"))[0], body


def _unpack_task(data: bytes, where: str, key: str) -> tuple[dict[str, Any], bytes]:
    header, body = _unpack(data, where)
    if header["task"] != key:
        raise _corrupt(where, f"is the row of task {header['task']!r}")
    return header, body


def _pack_task(record: TaskRecord) -> bytes:
    bodies: list[bytes] = []
    length = 0
    kept: dict[str, dict[str, Any]] = {}
    for name, checkpoint in record.checkpoints.items():
        if isinstance(checkpoint.value, _Beside):
            place: dict[str, Any] = {"at": checkpoint.value.key, "sum": checkpoint.value.sum}
        else:
            data = checkpoint.value.data
            place = {"from": length, "to": length + len(data)}
            bodies.append(data)
            length += len(data)
        kept[name] = place | {"inputs": checkpoint.inputs, "code": checkpoint.code}
    header = {
        "task": record.task_id,
        "generation": record.generation,
        "attempts": [attempt_row(attempt) for attempt in record.attempts],
        "checkpoints": kept,
    }
    return _pack(header, b"".join(bodies))


def _record_of(header: Mapping[str, Any], workflow_id: str, values: Mapping[str, Any]) -> TaskRecord:
    key = header["task"]
    attempts = tuple([attempt_from(row, workflow_id, key) for row in header["attempts"]])
    checkpoints = {
        name: Checkpoint(key, name, values[name], kept["inputs"], kept["code"])
        for name, kept in header["checkpoints"].items()
    }
    return TaskRecord(key, attempts, checkpoints, header["generation"])


def _corrupt(where: str, what: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"stored value {where!r} {what}; restore it from a copy, or delete it to have it made anew"
    )


def _run_key(workflow_id: str) -> str:
    return f"{_part(workflow_id)}/run"


def _idempotency_key(workflow: str, key: str) -> str:
    # a `%` alone begins no other key: in the names of runs it is written `%25`
    return f"%keys/{_part(workflow)}/{_part(key)}"


def _task_prefix(workflow_id: str) -> str:
    return f"{_part(workflow_id)}/tasks/"


def _part(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F") if "%" in name or "/" in name else name


def _whole(part: str) -> str:
    return part.replace("%2F", "/").replace("%25", "%")
