"""The journal in a SQL database, readable with plain SQL.

| table | a row is |
|---|---|
| `workflow_runs` | a run |
| `task_attempts` | an attempt: audit record, lock and idempotency key in one |
| `checkpoints` | a named value that a task has persisted; `result` is what it returned |
| `schema_version` | a migration that was applied |

Times are texts in UTC (ISO 8601), so they sort as they are. Values are what the run's codec made: text where that is
text, as of JSON without buffers, else bytes.

The fence is checked in the transaction that writes: who has lost a claim writes nothing, but for the word that
what came too late was discarded. Legal moves are conditions of the statements: a row that may not change this
way does not, and then the whole transaction is taken back.
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
from dotflow_like.model.status import ATTEMPT_MOVES, AttemptOutcome, AttemptStatus, RunStatus, check_move
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

__all__ = ["MIGRATIONS", "SqlJournal"]

MIGRATIONS: Final = (
    (
        """CREATE TABLE IF NOT EXISTS schema_version (
            version INTEGER PRIMARY KEY,
            applied_at TEXT NOT NULL
        )""",
        """CREATE TABLE IF NOT EXISTS workflow_runs (
            workflow_id TEXT PRIMARY KEY,
            workflow TEXT NOT NULL,
            version TEXT,
            mode TEXT NOT NULL,
            status TEXT NOT NULL,
            reason TEXT,
            created_at TEXT NOT NULL,
            started_at TEXT,
            finished_at TEXT,
            owner TEXT,
            fence INTEGER NOT NULL,
            crashes INTEGER NOT NULL,
            idempotency_key TEXT,
            params BLOB NOT NULL,
            params_sum TEXT NOT NULL,
            UNIQUE (workflow, idempotency_key)
        ) WITHOUT ROWID""",
        """CREATE TABLE IF NOT EXISTS task_attempts (
            workflow_id TEXT NOT NULL,
            task_id TEXT NOT NULL,
            number INTEGER NOT NULL,
            generation INTEGER NOT NULL,
            status TEXT NOT NULL,
            outcome TEXT,
            scheduled_at TEXT NOT NULL,
            started_at TEXT,
            finished_at TEXT,
            owner TEXT NOT NULL,
            fence INTEGER NOT NULL,
            worker TEXT,
            error_type TEXT,
            error_message TEXT,
            error_traceback TEXT,
            error_types TEXT,
            metadata TEXT,
            discards INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (workflow_id, task_id, number)
        ) WITHOUT ROWID""",
        """CREATE TABLE IF NOT EXISTS checkpoints (
            workflow_id TEXT NOT NULL,
            task_id TEXT NOT NULL,
            name TEXT NOT NULL,
            inputs TEXT,
            code TEXT,
            codec TEXT NOT NULL,
            sum TEXT NOT NULL,
            value BLOB NOT NULL,
            PRIMARY KEY (workflow_id, task_id, name)
        ) WITHOUT ROWID""",
    ),
)
"""For each version of the schema the statements that make it from the one before; each can be repeated."""

_FEW: Final = 20
"""Tasks: so many are read one by one, of more all of the run are."""


_ATTEMPT: Final = (
    "task_id, number, generation, status, outcome, scheduled_at, started_at, finished_at, owner, fence, worker, "
    "error_type, error_message, error_traceback, error_types, metadata"
)
_OPEN: Final = (
    "INSERT INTO task_attempts "
    "(workflow_id, task_id, number, generation, status, scheduled_at, started_at, owner, fence, worker, metadata) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_PLACE: Final = "workflow_id = ? AND task_id = ? AND number = ?"


def _move(status: AttemptStatus, columns: str) -> str:
    """Return the statement that brings an attempt to a status, from those it may come from."""
    origins = ", ".join(f"'{each}'" for each, legal in ATTEMPT_MOVES.items() if each and status in legal)
    return f"UPDATE task_attempts SET status = '{status}', {columns} WHERE {_PLACE} AND status IN ({origins})"


_START: Final = _move(
    AttemptStatus.RUNNING,
    "scheduled_at = ?, started_at = ?, owner = ?, fence = ?, worker = ?, metadata = ?, "
    "discards = discards - (? - generation), generation = ?",
)
_SUCCEED: Final = _move(
    AttemptStatus.COMPLETED, "outcome = 'success', started_at = ?, finished_at = ?, worker = ?, metadata = ?"
)
_END: Final = {
    str(status): _move(
        status,
        "outcome = ?, started_at = ?, finished_at = ?, worker = ?, metadata = ?, owner = ?, fence = ?, "
        "error_type = ?, error_message = ?, error_traceback = ?, error_types = ?",
    )
    for status in AttemptStatus
    if status not in ATTEMPT_MOVES[None]
}
_KEEP: Final = "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_RUN: Final = (
    "workflow_id, workflow, version, mode, status, reason, created_at, started_at, finished_at, owner, fence, "
    "crashes, idempotency_key, params, params_sum"
)
_INSERT_RUN: Final = (
    f"INSERT INTO workflow_runs ({_RUN}) VALUES ({', '.join('?' * 15)}) ON CONFLICT DO NOTHING"
)
_UPDATE_RUN: Final = f"UPDATE workflow_runs SET ({_RUN}) = ({', '.join('?' * 15)}) WHERE workflow_id = ?"
_SELECT_RUN: Final = (
    f"SELECT {_RUN.replace('params,', 'CAST(params AS BLOB),')} FROM workflow_runs WHERE workflow_id = ?"
)
_SELECT_FENCE: Final = "SELECT fence FROM workflow_runs WHERE workflow_id = ?"
_SELECT_ATTEMPT: Final = f"SELECT {_ATTEMPT} FROM task_attempts WHERE {_PLACE}"
_SELECT_VALUE: Final = (
    "SELECT inputs, code, codec, sum, CAST(value AS BLOB) FROM checkpoints "
    "WHERE workflow_id = ? AND task_id = ? AND name = ?"
)
_STATUSES: Final = {str(each): each for each in AttemptStatus}
_OUTCOMES: Final = {str(each): each for each in AttemptOutcome} | {None: None}


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
        return self.database.write(lambda connection: connection.execute(_INSERT_RUN, values).rowcount == 1)

    def claim(self, workflow_id: str, owner: str, at: datetime, *, anew: bool = False) -> Claim:
        def work(connection: Connection) -> Claim:
            run = self._run_from(connection.execute(_SELECT_RUN, (workflow_id,)).fetchone())
            rows = connection.execute(
                "SELECT DISTINCT status FROM task_attempts WHERE workflow_id = ? AND fence = ?",
                (workflow_id, run.fence),
            )
            statuses = {_STATUSES[status] for (status,) in rows}
            mine = claimed(run, owner, at, crashes_of(run, statuses, anew=anew))
            self._write_run(connection, mine)
            left = connection.execute(
                f"SELECT {_ATTEMPT} FROM task_attempts WHERE workflow_id = ? AND status = 'running'",
                (workflow_id,),
            )
            for row in left.fetchall():
                _write_attempt(connection, recovered(_attempt_from(workflow_id, row), at))
            return Claim(workflow_id, owner, mine.fence, mine.crashes)

        return self.database.write(work)

    def run(self, workflow_id: str) -> RunRecord | None:
        (found,) = self.database.read(_SELECT_RUN, parameters=(workflow_id,))
        return self._run_from(found[0]) if found else None

    def find(self, workflow: str, idempotency_key: str) -> str | None:
        query = "SELECT workflow_id FROM workflow_runs WHERE workflow = ? AND idempotency_key = ?"
        (found,) = self.database.read(query, parameters=(workflow, idempotency_key))
        return found[0][0] if found else None

    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        if len(wanted) <= _FEW:
            return self._records(workflow_id, f" AND task_id IN ({', '.join('?' * len(wanted))})", wanted)
        found = self._records(workflow_id)
        return {key: found[key] for key in wanted if key in found}

    def task_keys(self, workflow_id: str) -> list[str]:
        query = "SELECT DISTINCT task_id FROM task_attempts WHERE workflow_id = ? ORDER BY task_id"
        (found,) = self.database.read(query, parameters=(workflow_id,))
        return [key for (key,) in found]

    def commit(self, claim: Claim, changes: Sequence[Change]) -> None:
        def work(connection: Connection) -> bool:
            found = connection.execute(_SELECT_FENCE, (claim.workflow_id,)).fetchone()
            if found is None or found[0] != claim.fence:
                self._discard_late(connection, claim, changes)
                return False
            for change in changes:
                if type(change) is Attempt:
                    _write_attempt(connection, change)
                elif type(change) is Checkpoint:
                    connection.execute(_KEEP, self._checkpoint_values(claim.workflow_id, change))
                elif type(change) is Discard:
                    _discard(connection, claim.workflow_id, change.task_id)
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
            CodecError: another codec has made it.
        """
        (found,) = self.database.read(_SELECT_VALUE, parameters=(workflow_id, key, name))
        what = f"the {name} of task {key!r} of run {workflow_id}"
        if not found:
            raise _corrupt(self.database.path, f"{what} is gone")
        inputs, code, codec, sum_, data = found[0]
        if sum_ != _sum(data, workflow_id, key, name, inputs, code, codec):
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
                datetime.fromisoformat(created), reason and _whole(reason), _time(started), _time(finished), owner, fence, crashes, key,
            )  # fmt: skip
        except (ValueError, TypeError) as error:
            raise _corrupt(self.database.path, f"the row of run {workflow_id} is damaged: {error}") from error

    def _write_run(self, connection: Connection, run: RunRecord) -> None:
        connection.execute(_UPDATE_RUN, (*self._run_values(run), run.workflow_id))

    # Tasks

    def _checkpoint_values(self, workflow_id: str, checkpoint: Checkpoint) -> tuple[Any, ...]:
        key, name, value, given, code = checkpoint
        assert type(value) is Encoded, "a journal that keeps bytes is given bytes"
        inputs = None if given is None else _encode_json(given) if given else "{}"
        codec = self.codec.name
        sum_ = _sum(value.data, workflow_id, key, name, inputs, code, codec)
        return workflow_id, key, name, inputs, code, codec, sum_, _readable(value.data)

    def _records(self, workflow_id: str, where: str = "", keys: Sequence[str] = ()) -> dict[str, TaskRecord]:
        """Return what is recorded of all tasks of a run, or of some."""
        given = (workflow_id, *keys)
        attempt_rows, checkpoint_rows = self.database.read(
            f"SELECT {_ATTEMPT}, discards FROM task_attempts WHERE workflow_id = ?{where} ORDER BY task_id, number",
            f"SELECT task_id, name, inputs, code FROM checkpoints WHERE workflow_id = ?{where}",
            parameters=given,
        )
        attempts: dict[str, list[Attempt]] = {}
        generations: dict[str, int] = {}
        for row in attempt_rows:
            try:
                attempt = _attempt_from(workflow_id, row)
            except (ValueError, TypeError, KeyError) as error:
                what = f"the row of attempt {workflow_id}/{row[0]}/{row[1]} is damaged: {error!r}"
                raise _corrupt(self.database.path, what) from error
            attempts.setdefault(row[0], []).append(attempt)
            generations[row[0]] = attempt.generation + row[16]
        checkpoints: dict[str, dict[str, Checkpoint]] = {key: {} for key in attempts}
        for key, name, inputs, code in checkpoint_rows:
            stored = Stored(self, workflow_id, key, name)
            checkpoint = made(Checkpoint, (key, name, stored, _decode_inputs(inputs), code))
            if key not in checkpoints:
                raise _corrupt(
                    self.database.path, f"the attempts of task {key!r} of run {workflow_id} are gone"
                )
            checkpoints[key][name] = checkpoint
        records = {
            key: TaskRecord(key, tuple(tries), checkpoints[key], generations[key])
            for key, tries in attempts.items()
        }
        for key, record in records.items():
            last = record.attempts[-1]
            is_done = last.outcome is AttemptOutcome.SUCCESS and last.generation == record.generation
            if is_done != (RESULT in record.checkpoints):
                what = f"the result of task {key!r} of run {workflow_id} is gone"
                raise _corrupt(self.database.path, what)
        return records

    def _discard_late(self, connection: Connection, claim: Claim, changes: Iterable[Change]) -> None:
        """Note of attempts that end under a lost claim that what they did is discarded."""
        for change in changes:
            if type(change) is not Attempt:
                continue
            found = connection.execute(_SELECT_ATTEMPT, _place(change)).fetchone()
            if found is not None and is_late(change, _attempt_from(claim.workflow_id, found), claim):
                connection.execute(
                    f"UPDATE task_attempts SET outcome = 'discarded' WHERE {_PLACE}", _place(change)
                )


def _write_attempt(connection: Connection, attempt: Attempt) -> None:
    (
        workflow_id, key, number, status, outcome, scheduled, started, finished, owner, fence, worker, error,
        metadata, generation,
    ) = attempt  # fmt: skip
    place = workflow_id, key, number
    # texts: an enumeration would take a detour, into the database and through a dict
    to, how = status._value_, None if outcome is None else outcome._value_
    began = None if started is None else started.isoformat()
    noted = _encode_json(metadata) if metadata else None
    if to not in _END:
        due = began if scheduled is started else scheduled.isoformat()
        try:
            connection.execute(_OPEN, (*place, generation, to, due, began, owner, fence, worker, noted))
            return
        except IntegrityError:  # it is there: scheduled, and may be started
            if status is AttemptStatus.RUNNING:
                # discarded while it waited, it begins as the first attempt of the next generation
                values = (due, began, owner, fence, worker, noted, generation, generation, *place)
                done = connection.execute(_START, values)
                if done.rowcount == 1:
                    return
    else:
        ended = _text(finished)
        if error is None and how == "success":
            done = connection.execute(_SUCCEED, (began, ended, worker, noted, *place))
        else:
            what = (None,) * 4 if error is None else _error_values(error)
            done = connection.execute(
                _END[to], (how, began, ended, worker, noted, owner, fence, *what, *place)
            )
        if done.rowcount == 1:
            return
    found = connection.execute(_SELECT_ATTEMPT, place).fetchone()
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
        error = TaskError(
            number, _whole(exception), _whole(message), _whole(traceback), tuple(json.loads(types))
        )
    attempt: Attempt = made(Attempt, (
        workflow_id, key, number, _STATUSES[status], _OUTCOMES[outcome], datetime.fromisoformat(scheduled),
        _time(started), _time(finished), owner, fence, worker, error,
        json.loads(metadata) if metadata else NO_METADATA, generation,
    ))  # fmt: skip
    return attempt


def _discard(connection: Connection, workflow_id: str, key: str) -> None:
    """Drop the checkpoints of a task; its last attempt's row says how often that was done since."""
    place = workflow_id, key
    connection.execute("DELETE FROM checkpoints WHERE workflow_id = ? AND task_id = ?", place)
    connection.execute(
        "UPDATE task_attempts SET discards = discards + 1 WHERE workflow_id = ? AND task_id = ? "
        "AND number = (SELECT max(number) FROM task_attempts WHERE workflow_id = ? AND task_id = ?)",
        place * 2,
    )


def _place(attempt: Attempt) -> tuple[str, str, int]:
    return attempt.workflow_id, attempt.task_id, attempt.number


def _sum(data: bytes, *belongs: str | None) -> str:
    """Return the checksum of bytes with the row they belong to, so that they mean nothing in another one."""
    sum_ = blake2b(data, digest_size=16)
    sum_.update(repr(belongs).encode("utf-8", "surrogatepass"))
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


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _corrupt(path: str, what: str) -> CorruptCheckpoint:
    return CorruptCheckpoint(
        f"{path!r}: {what}; restore the file from a copy, or start the run over (resume=False)"
    )
