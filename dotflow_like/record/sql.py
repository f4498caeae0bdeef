"""The journal in a SQL database, readable with plain SQL: see `sql_statements` for its tables.

The fence is checked in the transaction that writes: who has lost a claim writes nothing, but for the word that
what came too late was discarded. If one change of a transaction is not legal, all of it is taken back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from sqlite3 import Connection, IntegrityError
from typing import Any, Final

from dotflow_like.errors import CorruptCheckpoint
from dotflow_like.model.records import (
    NO_METADATA,
    RESULT,
    Attempt,
    Checkpoint,
    Discard,
    Reference,
    RunRecord,
    TaskError,
    TaskRecord,
    made,
)
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus, check_move
from dotflow_like.record import sql_statements as sql
from dotflow_like.record.journal import (
    Change,
    Claim,
    Codec,
    Encoded,
    Journal,
    claim_lost,
    claimed,
    crashes_of,
    is_late,
    recovered,
)
from dotflow_like.record.locks import RunLocks
from dotflow_like.record.sqlite import Database
from dotflow_like.record.stored import Stored

__all__ = ["SqlJournal"]

_FEW: Final = 20
"""Tasks: so many are read by name; of more, all of the run are."""
_STATUSES: Final = {str(each): each for each in AttemptStatus}
_OUTCOMES: Final = {str(each): each for each in AttemptOutcome} | {None: None}
_COMPLETED: Final = AttemptStatus.COMPLETED
_NO_VALUE: Final = (None,) * 5


class SqlJournal(Journal):
    """Keeps rows in a database.

    Args:
        database: where they lie.
        codec: makes the bytes of results.
    """

    codec: Codec

    def __init__(self, database: Database, codec: Codec) -> None:
        self.database = database
        self.codec = codec
        self.locks = RunLocks(database.locks)

    def create(self, run: RunRecord) -> bool:
        values = self._run_values(run)
        return self.database.write(
            lambda connection: connection.execute(sql.INSERT_RUN, values).rowcount == 1
        )

    def claim(self, workflow_id: str, owner: str, at: datetime, *, anew: bool = False) -> Claim:
        def work(connection: Connection) -> Claim:
            run = self._run_from(connection.execute(sql.SELECT_RUN, (workflow_id,)).fetchone())
            found = connection.execute(sql.SELECT_STATUSES, (workflow_id, run.fence))
            statuses = {_STATUSES[status] for (status,) in found}
            mine = claimed(run, owner, at, crashes_of(run, statuses, anew=anew))
            self._write_run(connection, mine)
            for row in connection.execute(sql.SELECT_LEFT, (workflow_id,)).fetchall():
                _write_attempt(connection, recovered(_attempt_from(workflow_id, row), at))
            return Claim(workflow_id, owner, mine.fence, mine.crashes)

        return self.database.write(work)

    def run(self, workflow_id: str) -> RunRecord | None:
        (found,) = self.database.read(sql.SELECT_RUN, parameters=(workflow_id,))
        return self._run_from(found[0]) if found else None

    def find(self, workflow: str, idempotency_key: str) -> str | None:
        (found,) = self.database.read(sql.FIND, parameters=(workflow, idempotency_key))
        return found[0][0] if found else None

    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        wanted = list(dict.fromkeys(keys))
        if len(wanted) <= _FEW:
            return self._records(workflow_id, wanted) if wanted else {}
        found = self._records(workflow_id)
        return {key: found[key] for key in wanted if key in found}

    def task_keys(self, workflow_id: str) -> list[str]:
        (found,) = self.database.read(sql.SELECT_KEYS, parameters=(workflow_id,))
        return [key for (key,) in found]

    def commit(self, claim: Claim, changes: Sequence[Change]) -> None:
        def work(connection: Connection) -> bool:
            found = connection.execute(sql.SELECT_FENCE, (claim.workflow_id,)).fetchone()
            if found is None or found[0] != claim.fence:
                self._discard_late(connection, claim, changes)
                return False
            results = {each[0]: each for each in changes if type(each) is Checkpoint and each[1] == RESULT}
            for change in changes:
                if type(change) is Attempt:
                    # a result goes into the row of the attempt that made it, with its end
                    result = results.pop(change[1], None) if change[3] is _COMPLETED else None
                    value = _NO_VALUE if result is None else self._value(claim.workflow_id, result)
                    _write_attempt(connection, change, value)
                elif type(change) is Checkpoint:
                    task = claim.workflow_id, change.task_id
                    if change.name != RESULT:
                        value = self._value(claim.workflow_id, change)
                        connection.execute(sql.KEEP, (*task, change.name, *value))
                    elif change.task_id in results:
                        value = self._value(claim.workflow_id, change)
                        connection.execute(sql.KEEP_RESULT, (*value, *task, *task))
                elif type(change) is Discard:
                    task = claim.workflow_id, change.task_id
                    connection.execute(sql.DROP_CHECKPOINTS, task)
                    connection.execute(sql.DISCARD, task * 2)
                elif type(change) is RunRecord:
                    self._write_run(connection, change)
            return True

        if not self.database.write(work):
            run = self.run(claim.workflow_id)
            if run is None:
                raise _corrupt(self.database.path, f"the row of run {claim.workflow_id} is gone")
            raise claim_lost(claim, run)

    def reference(self, workflow_id: str, key: str, name: str) -> Reference:
        return Stored(self, workflow_id, key, name)

    def read(self, workflow_id: str, key: str, name: str) -> bytes:
        """Return the bytes of a checkpoint, verified.

        Raises:
            CorruptCheckpoint: it is gone, or does not match its checksum.
        """
        if name == RESULT:
            (found,) = self.database.read(sql.SELECT_RESULT, parameters=(workflow_id, key))
        else:
            (found,) = self.database.read(sql.SELECT_VALUE, parameters=(workflow_id, key, name))
        what = f"the {name} of task {key!r} of run {workflow_id}"
        if not found:
            raise _corrupt(self.database.path, f"{what} is gone")
        inputs, code, codec, sum_, data = found[0]
        if data is None or sum_ != _sum(data, workflow_id, key, name, inputs, code, codec):
            raise _corrupt(self.database.path, f"{what} does not match its checksum")
        assert isinstance(data, bytes)
        return data

    # Runs

    def _run_values(self, run: RunRecord) -> tuple[Any, ...]:
        params = self.codec.encode(dict(run.params))
        reason = None if run.reason is None else _bindable(run.reason)
        return (
            run.workflow_id, run.workflow, run.version, str(run.mode), str(run.status), reason,
            _text(run.created_at), _text(run.started_at), _text(run.finished_at), run.owner, run.fence,
            run.crashes, run.idempotency_key, _readable(params), _sum(params, run.workflow_id),
        )  # fmt: skip

    def _run_from(self, row: Sequence[Any]) -> RunRecord:
        (
            workflow_id, workflow, version, mode, status, reason, created, started, finished, owner, fence,
            crashes, key, params, sum_,
        ) = row  # fmt: skip
        if sum_ != _sum(params, workflow_id):
            raise _corrupt(self.database.path, f"the params of run {workflow_id} do not match their checksum")
        try:
            return RunRecord(
                workflow_id, workflow, version, self.codec.decode(params), mode, RunStatus(status),
                datetime.fromisoformat(created), None if reason is None else _whole(reason), _time(started),
                _time(finished), owner, fence, crashes, key,
            )  # fmt: skip
        except (ValueError, TypeError) as error:
            raise _corrupt(self.database.path, f"the row of run {workflow_id} is damaged: {error}") from error

    def _write_run(self, connection: Connection, run: RunRecord) -> None:
        connection.execute(sql.UPDATE_RUN, (*self._run_values(run), run.workflow_id))

    # Tasks

    def _value(self, workflow_id: str, checkpoint: Checkpoint) -> tuple[Any, ...]:
        key, name, value, given, code = checkpoint
        assert type(value) is Encoded, "a journal that keeps bytes is given bytes"
        inputs = None if given is None else _encode_json(given) if given else "{}"
        codec = self.codec.name
        sum_ = _sum(value.data, workflow_id, key, name, inputs, code, codec)
        return inputs, code, codec, sum_, _readable(value.data)

    def _records(self, workflow_id: str, keys: Sequence[str] = ()) -> dict[str, TaskRecord]:
        """Return what is recorded of some tasks of a run, or of all."""
        attempt_rows, checkpoint_rows = self.database.read(
            *sql.select_tasks(len(keys)), parameters=(workflow_id, *keys)
        )
        attempts: dict[str, list[Attempt]] = {}
        checkpoints: dict[str, dict[str, Checkpoint]] = {}
        generations: dict[str, int] = {}
        for row in attempt_rows:
            key = row[0]
            try:
                attempt = _attempt_from(workflow_id, row)
            except (ValueError, TypeError, KeyError) as error:
                what = f"the row of attempt {workflow_id}/{key}/{row[1]} is damaged: {error!r}"
                raise _corrupt(self.database.path, what) from error
            if key not in attempts:
                attempts[key], checkpoints[key] = [], {}
            attempts[key].append(attempt)
            discards, inputs, code, codec = row[16:]
            generations[key] = attempt.generation + discards
            if codec is not None:
                checkpoints[key][RESULT] = self._checkpoint(workflow_id, key, RESULT, inputs, code)
            elif attempt.outcome is AttemptOutcome.SUCCESS and not discards:
                raise _corrupt(self.database.path, f"the result of task {key!r} of run {workflow_id} is gone")
        for key, name, inputs, code in checkpoint_rows:
            if key not in attempts:
                raise _corrupt(
                    self.database.path, f"the attempts of task {key!r} of run {workflow_id} are gone"
                )
            checkpoints[key][name] = self._checkpoint(workflow_id, key, name, inputs, code)
        return {
            key: made(TaskRecord, (key, tuple(tries), checkpoints[key], generations[key]))
            for key, tries in attempts.items()
        }

    def _checkpoint(
        self, workflow_id: str, key: str, name: str, inputs: str | None, code: str | None
    ) -> Checkpoint:
        value = made(Stored, (self, workflow_id, key, name))
        checkpoint: Checkpoint = made(Checkpoint, (key, name, value, _decode_inputs(inputs), code))
        return checkpoint

    def _discard_late(self, connection: Connection, claim: Claim, changes: Iterable[Change]) -> None:
        """Note of attempts that end under a lost claim that what they did is discarded."""
        for change in changes:
            if type(change) is Attempt:
                place = claim.workflow_id, change.task_id, change.number
                found = connection.execute(sql.SELECT_ATTEMPT, place).fetchone()
                if found is not None and is_late(change, _attempt_from(claim.workflow_id, found), claim):
                    connection.execute(sql.DISCARD_LATE, place)


def _write_attempt(connection: Connection, attempt: Attempt, value: tuple[Any, ...] = _NO_VALUE) -> None:
    (
        workflow_id, key, number, status, outcome, scheduled, started, finished, owner, fence, worker, error,
        metadata, generation,
    ) = attempt  # fmt: skip
    place = workflow_id, key, number
    # texts: an enumeration would take a detour, into the database and through a dict
    to, how = status._value_, None if outcome is None else outcome._value_
    began = _text(started)
    noted = _encode_json(metadata) if metadata else None
    if to not in sql.END:
        due = _text(scheduled)
        try:
            connection.execute(sql.OPEN, (*place, generation, to, due, began, owner, fence, worker, noted))
            return
        except IntegrityError:  # it is there: scheduled, and may be started
            if status is AttemptStatus.RUNNING:
                # discarded while it waited, it begins as the first attempt of the next generation
                values = (due, began, owner, fence, worker, noted, generation, generation, *place)
                if connection.execute(sql.START, values).rowcount == 1:
                    return
    else:
        ended = _text(finished)
        if error is None and how == "success":
            done = connection.execute(sql.SUCCEED, (began, ended, worker, noted, *value, *place))
        else:
            what = (None,) * 4 if error is None else _error_values(error)
            values = (how, began, ended, worker, noted, owner, fence, *what, *place)
            done = connection.execute(sql.END[to], values)
        if done.rowcount == 1:
            return
    found = connection.execute(sql.SELECT_ATTEMPT, place).fetchone()
    check_move(attempt.id, None if found is None else _STATUSES[found[3]], status)


def _error_values(error: TaskError) -> tuple[str | bytes, ...]:
    texts = map(_bindable, (error.exception, error.message, error.traceback))
    return *texts, _encode_json(error.full_types())


def _attempt_from(workflow_id: str, row: Sequence[Any]) -> Attempt:
    (
        key, number, generation, status, outcome, scheduled, started, finished, owner, fence, worker, exception,
        message, traceback, types, metadata,
    ) = row[:16]  # fmt: skip
    error = None
    if exception is not None:
        texts = _whole(exception), _whole(message), _whole(traceback)
        error = TaskError(number, *texts, tuple(json.loads(types)))
    due = datetime.fromisoformat(scheduled)
    attempt: Attempt = made(Attempt, (
        workflow_id, key, number, _STATUSES[status], _OUTCOMES[outcome], due,
        due if started == scheduled else _time(started), _time(finished), owner, fence, worker, error,
        json.loads(metadata) if metadata else NO_METADATA, generation,
    ))  # fmt: skip
    return attempt


def _sum(data: bytes, *belongs: str | None) -> str:
    """Return the checksum of bytes with the row they belong to, so that they mean nothing in another one."""
    sum_ = blake2b(repr(belongs).encode("utf-8", "surrogatepass"), digest_size=12)
    sum_.update(data)
    return sum_.hexdigest()


def _readable(data: bytes) -> str | bytes:
    """Return bytes that are plain text as text, which SQL can show and search."""
    return data.decode("ascii") if data.isascii() and b"\0" not in data else data


def _bindable(text: str) -> str | bytes:
    """Return a text as the database takes it: with half a character in it, as bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _whole(kept: str | bytes) -> str:
    """Return the text `_bindable` was given."""
    return kept if isinstance(kept, str) else kept.decode("utf-8", "surrogatepass")


_encode_json = json.JSONEncoder(separators=(",", ":")).encode


@lru_cache(1024)
def _decode_inputs(text: str | None) -> Mapping[str, str] | None:
    return None if text is None else json.loads(text)


_last: tuple[datetime | None, str | None] = (None, None)


def _text(at: datetime | None) -> str | None:
    """Return a time as text; that of the last one is kept, since a turn of the kernel has one for all it writes."""
    global _last
    known, text = _last
    if at is not known:
        text = None if at is None else at.isoformat()
        _last = at, text
    return text


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _corrupt(path: str, what: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"{path!r}: {what}; restore the file from a copy, or start the run over (resume=False)"
    )
