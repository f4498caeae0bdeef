"""The journal in a SQL database, readable with plain SQL: see `sql_statements` for its tables.

The fence is checked in the transaction that writes: who has lost a claim writes nothing, but for the word that
what came too late was discarded. If one change of a transaction is not legal, all of it is taken back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from sqlite3 import Cursor, IntegrityError
from typing import Any, Final, Protocol, TypeVar, cast

from dotflow_like.errors import ClaimLost, CodecError, CorruptCheckpoint
from dotflow_like.model.records import (
    RESULT,
    Attempt,
    Checkpoint,
    Discard,
    Reference,
    Request,
    RunRecord,
    TaskRecord,
    made,
)
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus, check_move
from dotflow_like.record import sql_statements as sql
from dotflow_like.record.journal import (
    OPEN,
    Change,
    Claim,
    Codec,
    Encoded,
    Journal,
    check_unclaimed,
    claim_lost,
    claimed,
    crashes_of,
    is_late,
    recovered,
)
from dotflow_like.record.locks import RunLocks
from dotflow_like.record.rows import request_from, request_row
from dotflow_like.record.sql_rows import (
    attempt_from,
    attempts_from,
    bindable,
    check_head,
    corrupt,
    damaged,
    decode_inputs,
    encode_json,
    error_values,
    readable,
    status_of,
    sum_of,
    sum_of_run,
    text_of,
    time_of,
    whole,
)
from dotflow_like.record.sqlite import Place
from dotflow_like.record.stored import Stored

__all__ = ["Rows", "SqlJournal"]

T = TypeVar("T")

_FEW: Final = 20
"""Tasks: so many are read by name; of more, all of the run are."""
_CODECS: Final = ("json", "pickle")
_COMPLETED: Final = AttemptStatus.COMPLETED
_SUCCESS: Final = AttemptOutcome.SUCCESS
_NO_VALUE: Final = (None,) * 5


class Rows(Protocol):
    """Where rows lie: a `Database`, or what a transaction sees of it."""

    path: str
    locks: str
    place: Place | None

    def write(
        self,
        work: Callable[[Cursor], T],
        within: Place | None = None,
        *,
        routine: bool = False,
        lazily: bool = False,
    ) -> T:
        """Do `work` as one step; see `Database.write`."""

    def read(
        self, *queries: str, parameters: Sequence[Any] = (), within: Place | None = None
    ) -> list[list[Any]]:
        """Return all rows that each of the queries finds; see `Database.read`."""


class SqlJournal(Journal):
    """Keeps rows in a database.

    Args:
        database: where they lie.
        codec: makes the bytes of results.
    """

    codec: Codec
    has_transactions = True

    def __init__(self, database: Rows, codec: Codec) -> None:
        self.database = database
        self.codec = codec
        self.locks = RunLocks(database.locks)
        self._place: Place | None = None  # the file in which a run was claimed, and in which it goes on

    def create(self, run: RunRecord) -> bool:
        values = self._run_values(run)
        return self.database.write(lambda cursor: cursor.execute(sql.INSERT_RUN, values).rowcount == 1)

    def claim(
        self, workflow_id: str, owner: str, at: datetime, *, anew: bool = False, after: int | None = None
    ) -> Claim:
        path = self.database.path

        def work(cursor: Cursor) -> Claim:
            row = cursor.execute(sql.SELECT_RUN, (workflow_id,)).fetchone()
            if row is None:
                raise self._gone(workflow_id)
            run = self._run_from(row, params=False)
            check_unclaimed(run, after)
            self._check_attempts(cursor, run)
            found = cursor.execute(sql.SELECT_STATUSES, (workflow_id, run.fence)).fetchall()
            statuses = {status_of(f"an attempt of run {workflow_id}", status) for (status,) in found}
            mine = claimed(run, owner, at, crashes_of(run, statuses, anew=anew))
            _write_run(cursor, mine)
            if run.status not in OPEN:
                cursor.execute(sql.FORGET_REQUEST, (workflow_id,))
            for left in cursor.execute(sql.SELECT_LEFT, (workflow_id,)).fetchall():
                _write_attempt(cursor, recovered(attempt_from(path, workflow_id, left), at))
            self._place = self.database.place
            return Claim(workflow_id, owner, mine.fence, mine.crashes)

        return self.database.write(work)

    def run(self, workflow_id: str, *, params: bool = True) -> RunRecord | None:
        (found,) = self.database.read(sql.SELECT_RUN, parameters=(workflow_id,), within=self._place)
        return self._run_from(found[0], params=params) if found else None

    def find(self, workflow: str, idempotency_key: str) -> str | None:
        (found,) = self.database.read(sql.FIND, parameters=(workflow, idempotency_key))
        return found[0][0] if found else None

    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        if len(wanted) <= _FEW:
            return self._records(workflow_id, wanted)
        found = self._records(workflow_id)
        return {key: found[key] for key in wanted if key in found}

    def task_keys(self, workflow_id: str) -> list[str]:
        (found,) = self.database.read(sql.SELECT_KEYS, parameters=(workflow_id,), within=self._place)
        return [key for (key,) in found]

    def commit(self, claim: Claim, changes: Sequence[Change], *, lazily: bool = False) -> None:
        def work(cursor: Cursor) -> bool:
            found = cursor.execute(sql.SELECT_FENCE, (claim.workflow_id,)).fetchone()
            if found is None or found[0] != claim.fence:
                self._discard_late(cursor, claim, changes)
                return False
            self._write(cursor, claim.workflow_id, changes)
            return True

        # a run does not end unseen in a file that is gone
        routine = not changes or type(changes[-1]) is not RunRecord
        if not self.database.write(work, self._place, routine=routine, lazily=lazily):
            raise self._claim_lost(claim)

    def end(self, claim: Claim, changes: Sequence[Change], answered: Request | None = None) -> bool:
        def work(cursor: Cursor) -> bool | None:
            fence, waiting = self._waiting(cursor, claim.workflow_id)
            if fence != claim.fence:
                self._discard_late(cursor, claim, changes)
                return None
            if waiting is not None and waiting != _request_text(answered):
                return False
            self._write(cursor, claim.workflow_id, changes)
            if waiting is not None:
                cursor.execute(sql.FORGET_REQUEST, (claim.workflow_id,))
            return True

        ended = self.database.write(work, self._place)
        if ended is None:
            raise self._claim_lost(claim)
        return ended

    def ask(self, workflow_id: str, request: Request, instead_of: Request | None = None) -> bool:
        values = _request_text(request), workflow_id, _request_text(instead_of)
        return self.database.write(lambda cursor: cursor.execute(sql.ASK, values).rowcount == 1, self._place)

    def asked(self, workflow_id: str) -> Request | None:
        (found,) = self.database.read(sql.SELECT_REQUEST, parameters=(workflow_id,), within=self._place)
        text = found[0][1] if found else None
        if text is None:
            return None
        try:
            return request_from(json.loads(text))
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(self.database.path, f"what is asked of run {workflow_id}", error) from error

    def answer(self, claim: Claim, request: Request) -> bool:
        def work(cursor: Cursor) -> bool | None:
            fence, waiting = self._waiting(cursor, claim.workflow_id)
            if fence != claim.fence:
                return None
            if waiting != _request_text(request):
                return False
            cursor.execute(sql.FORGET_REQUEST, (claim.workflow_id,))
            return True

        answered = self.database.write(work, self._place)
        if answered is None:
            raise self._claim_lost(claim)
        return answered

    def reference(self, workflow_id: str, key: str, name: str) -> Reference:
        reference: Stored = made(Stored, (self, workflow_id, key, name))
        return reference

    def read(self, workflow_id: str, key: str, name: str) -> bytes:
        """Return the bytes of a checkpoint, verified.

        Raises:
            CorruptCheckpoint: it is gone, or does not match its checksum.
            CodecError: a codec has made it that is not known here.
        """
        task, place = (workflow_id, key), self._place
        if name == RESULT:
            (found,) = self.database.read(sql.SELECT_RESULT, parameters=task, within=place)
        else:
            (found,) = self.database.read(sql.SELECT_VALUE, parameters=(*task, name), within=place)
        what = f"the {name} of task {key!r} of run {workflow_id}"
        if not found:
            raise corrupt(self.database.path, f"{what} is gone")
        inputs, code, codec, sum_, data = found[0]
        if data is None or sum_ != sum_of(data, workflow_id, key, name, inputs, code, codec):
            raise corrupt(self.database.path, f"{what} does not match its checksum")
        if codec not in _CODECS:
            raise CodecError(
                f"{what} was made by the codec {codec!r}, which is not known here: upgrade dotflow_like"
            )
        assert isinstance(data, bytes)
        return data

    # Runs

    def _run_values(self, run: RunRecord) -> tuple[Any, ...]:
        params = self.codec.encode(dict(run.params))
        created = run.created_at.isoformat()
        sum_ = sum_of_run(params, run.workflow_id, run.workflow, run.version, created, run.idempotency_key)
        return (
            run.workflow_id, run.workflow, run.version, created, run.idempotency_key, readable(params), sum_,
            *_state_values(run),
        )  # fmt: skip

    def _run_from(self, row: Sequence[Any], *, params: bool) -> RunRecord:
        (
            workflow_id, workflow, version, created, key, given, sum_,
            mode, status, reason, started, finished, owner, fence, crashes,
        ) = row  # fmt: skip
        try:
            if sum_ != sum_of_run(given, workflow_id, workflow, version, created, key):
                raise ValueError("it does not match its checksum")
            if type(fence) is not int or type(crashes) is not int:
                raise TypeError("a number in it is none")
            return RunRecord(
                workflow_id, workflow, version, self.codec.decode(given) if params else {}, mode, RunStatus(status),
                datetime.fromisoformat(created), None if reason is None else whole(reason), time_of(started),
                time_of(finished), owner, fence, crashes, key,
            )  # fmt: skip
        except (ValueError, TypeError, AttributeError) as error:
            raise damaged(self.database.path, f"run {workflow_id}", error) from error

    def _waiting(self, cursor: Cursor, workflow_id: str) -> tuple[int, str | None]:
        """Return the fence of a run, -1 if its row is gone, and what is asked of it."""
        found = cursor.execute(sql.SELECT_REQUEST, (workflow_id,)).fetchone()
        return (-1, None) if found is None else found

    # Tasks

    def _write(self, cursor: Cursor, workflow_id: str, changes: Sequence[Change]) -> None:
        results = {each[0]: each for each in changes if type(each) is Checkpoint and each[1] == RESULT}
        for change in changes:
            if type(change) is Attempt:
                # a result goes into the row of the attempt that made it, with its end
                result = results.pop(change[1], None) if change[3] is _COMPLETED else None
                value = _NO_VALUE if result is None else self._value(workflow_id, result)
                _write_attempt(cursor, change, value)
            elif type(change) is Checkpoint:
                task = workflow_id, change.task_id
                if change.name != RESULT:
                    if change.value is None:
                        cursor.execute(sql.DROP, (*task, change.name))
                    else:
                        value = self._value(workflow_id, change)
                        cursor.execute(sql.KEEP, (*task, change.name, *value))
                elif change.task_id in results:
                    value = self._value(workflow_id, change)
                    cursor.execute(sql.KEEP_RESULT, (*value, *task, *task))
            elif type(change) is Discard:
                task = workflow_id, change.task_id
                cursor.execute(sql.DROP_CHECKPOINTS, task)
                cursor.execute(sql.DISCARD, task * 2)
            elif type(change) is RunRecord:
                _write_run(cursor, change)

    def _value(self, workflow_id: str, checkpoint: Checkpoint) -> tuple[Any, ...]:
        key, name, value, given, code = checkpoint
        assert type(value) is Encoded, "a journal that keeps bytes is given bytes"
        inputs = None if given is None else encode_json(given) if given else "{}"
        codec = self.codec.name
        sum_ = sum_of(value.data, workflow_id, key, name, inputs, code, codec)
        return inputs, code, codec, sum_, readable(value.data)

    def _records(self, workflow_id: str, keys: Sequence[str] = ()) -> dict[str, TaskRecord]:
        """Return what is recorded of some tasks of a run, or of all."""
        path = self.database.path
        attempt_rows, checkpoint_rows = self.database.read(
            *sql.select_tasks(len(keys)), parameters=(workflow_id, *keys), within=self._place
        )
        records: dict[str, TaskRecord] = {}
        for attempt, (discards, inputs, code, sum_) in attempts_from(path, workflow_id, attempt_rows):
            key = attempt[1]
            try:
                kept = {}
                if sum_ is not None:
                    check_head(sum_, workflow_id, key, RESULT, inputs, code)
                    value = made(Stored, (self, workflow_id, key, RESULT))
                    kept[RESULT] = made(Checkpoint, (key, RESULT, value, decode_inputs(inputs), code))
                elif attempt.outcome is _SUCCESS and not discards:
                    raise ValueError("its result is gone")
                before = records.get(key)
                tries = (attempt,) if before is None else (*before.attempts, attempt)
                records[key] = made(TaskRecord, (key, tries, kept, attempt[13] + discards))
            except (ValueError, TypeError, AttributeError) as error:
                raise damaged(path, f"attempt {attempt.id}", error) from error
        for key, name, inputs, code, sum_ in checkpoint_rows:
            try:
                if key not in records:
                    raise ValueError("the attempts of its task are gone")
                check_head(sum_, workflow_id, key, name, inputs, code)
                kept = cast("dict[str, Checkpoint]", records[key].checkpoints)
                value = self.reference(workflow_id, key, name)
                kept[name] = Checkpoint(key, name, value, decode_inputs(inputs), code)
            except (ValueError, TypeError, AttributeError) as error:
                raise damaged(path, f"checkpoint {workflow_id}/{key}/{name}", error) from error
        return records

    def _discard_late(self, cursor: Cursor, claim: Claim, changes: Iterable[Change]) -> None:
        """Note of attempts that end under a lost claim that what they did is discarded."""
        for change in changes:
            if type(change) is Attempt:
                place = claim.workflow_id, change.task_id, change.number
                found = cursor.execute(sql.SELECT_ATTEMPT, place).fetchone()
                if found is None:
                    continue
                if is_late(change, attempt_from(self.database.path, claim.workflow_id, found), claim):
                    cursor.execute(sql.DISCARD_LATE, place)

    def _check_attempts(self, cursor: Cursor, run: RunRecord) -> None:
        """See that no attempt of a run is missing, and every result where it belongs: else it would run again."""
        path, workflow_id = self.database.path, run.workflow_id
        found = cursor.execute(sql.SELECT_SUMS, (workflow_id,)).fetchall()
        (count,) = cursor.execute(sql.SELECT_COUNT, (workflow_id,)).fetchone()
        if type(count) is not int or len(found) < count:
            raise corrupt(
                path, f"attempts of run {workflow_id} are gone: of {count!r} there are {len(found)}"
            )
        if found and not run.fence:  # a row just made; the one under which they were made is lost
            raise self._gone(workflow_id)
        before: tuple[str, int] | None = None
        for id_, key, number, inputs, code, sum_ in found:
            try:
                if id_ != workflow_id:
                    raise ValueError(f"it says run {id_!r}")
                if sum_ is not None:
                    check_head(sum_, workflow_id, key, RESULT, inputs, code)
                if before is not None and (key, number) <= before:
                    raise ValueError("it is out of order")  # and those beside it are not found
                before = key, number
            except (ValueError, TypeError) as error:
                raise damaged(path, f"attempt {workflow_id}/{key}/{number}", error) from error

    def _claim_lost(self, claim: Claim) -> ClaimLost | CorruptCheckpoint:
        run = self.run(claim.workflow_id, params=False)
        return self._gone(claim.workflow_id) if run is None else claim_lost(claim, run)

    def _gone(self, workflow_id: str) -> CorruptCheckpoint:
        return corrupt(self.database.path, f"the row of run {workflow_id} is gone")


def _request_text(request: Request | None) -> str | None:
    return None if request is None else encode_json(request_row(request))


def _state_values(run: RunRecord) -> tuple[Any, ...]:
    reason = None if run.reason is None else bindable(run.reason)
    return (
        str(run.mode), str(run.status), reason, text_of(run.started_at), text_of(run.finished_at), run.owner,
        run.fence, run.crashes,
    )  # fmt: skip


def _write_run(cursor: Cursor, run: RunRecord) -> None:
    cursor.execute(sql.UPDATE_RUN, (*_state_values(run), run.workflow_id))


def _write_attempt(cursor: Cursor, attempt: Attempt, value: tuple[Any, ...] = _NO_VALUE) -> None:
    (
        workflow_id, key, number, status, outcome, scheduled, started, finished, owner, fence, worker, error,
        metadata, generation,
    ) = attempt  # fmt: skip
    place = workflow_id, key, number
    began = text_of(started)
    noted = encode_json(metadata) if metadata else None
    # texts: an enumeration would take a detour, into the database and through a dict
    to = status._value_
    if to not in sql.END:
        due = text_of(scheduled)
        try:
            cursor.execute(sql.OPEN, (*place, generation, to, due, began, owner, fence, worker, noted))
            return
        except IntegrityError:  # it is there: scheduled, and may be started
            if status is AttemptStatus.RUNNING:
                # discarded while it waited, it begins as the first attempt of the next generation
                values = (due, began, owner, fence, worker, noted, generation, generation, *place)
                if cursor.execute(sql.START, values).rowcount == 1:
                    return
    else:
        ended = text_of(finished)
        if error is None and outcome is _SUCCESS:
            done = cursor.execute(sql.SUCCEED, (began, ended, worker, noted, *value, *place))
        else:
            how = None if outcome is None else outcome._value_
            what = (None,) * 4 if error is None else error_values(error)
            values = (how, began, ended, worker, noted, owner, fence, *what, *place)
            done = cursor.execute(sql.END[to], values)
        if done.rowcount == 1:
            return
    found = cursor.execute(sql.SELECT_ATTEMPT, place).fetchone()
    check_move(attempt.id, None if found is None else status_of(attempt.id, found[3]), status)
