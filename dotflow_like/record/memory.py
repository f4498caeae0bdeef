"""The journal in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock

from dotflow_like.model.records import Attempt, Checkpoint, Reference, Request, RunRecord, TaskRecord
from dotflow_like.model.status import ATTEMPT_MOVES, AttemptOutcome, AttemptStatus, check_move
from dotflow_like.record.journal import (
    OPEN,
    Change,
    Claim,
    Journal,
    check_unclaimed,
    claim_lost,
    claimed,
    crashes_of,
    is_late,
    recovered,
    restated,
)

__all__ = ["MemoryJournal"]


class MemoryJournal(Journal):
    """Keeps objects, as they are, for as long as this process lives."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: dict[str, _Rows] = {}

    def create(self, run: RunRecord) -> bool:
        with self._lock:
            key = run.idempotency_key
            if run.workflow_id in self._runs or (key is not None and self.find(run.workflow, key)):
                return False
            self._runs[run.workflow_id] = _Rows(run)
            return True

    def claim(
        self, workflow_id: str, owner: str, at: datetime, *, anew: bool = False, after: int | None = None
    ) -> Claim:
        with self._lock:
            rows = self._runs[workflow_id]
            run = rows.run
            check_unclaimed(run, after)
            statuses = {each.status for each in rows.attempts.values() if each.fence == run.fence}
            rows.run = claimed(run, owner, at, crashes_of(run, statuses, anew=anew))
            if run.status not in OPEN:
                rows.request = None
            for key, attempt in rows.attempts.items():
                if attempt.status is AttemptStatus.RUNNING:
                    rows.attempts[key] = recovered(attempt, at)
            return Claim(workflow_id, owner, rows.run.fence, rows.run.crashes)

    def run(self, workflow_id: str, *, params: bool = True) -> RunRecord | None:
        rows = self._runs.get(workflow_id)
        return None if rows is None else rows.run if params else replace(rows.run, params={})

    def find(self, workflow: str, idempotency_key: str) -> str | None:
        runs = (rows.run for rows in list(self._runs.values()))
        wanted = workflow, idempotency_key
        return next((run.workflow_id for run in runs if (run.workflow, run.idempotency_key) == wanted), None)

    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        with self._lock:
            return self._runs[workflow_id].records(keys)

    def task_keys(self, workflow_id: str) -> list[str]:
        with self._lock:
            return list(dict.fromkeys(key for key, _ in self._runs[workflow_id].attempts))

    def commit(self, claim: Claim, changes: Sequence[Change], *, lazily: bool = False) -> None:
        rows = self._runs[claim.workflow_id]
        with self._lock:
            if rows.run.fence != claim.fence:
                rows.discard_late(changes, claim)
                raise claim_lost(claim, rows.run)
            rows.write(changes)

    def end(self, claim: Claim, changes: Sequence[Change], answered: Request | None = None) -> bool:
        rows = self._runs[claim.workflow_id]
        with self._lock:
            if rows.run.fence != claim.fence:
                rows.discard_late(changes, claim)
                raise claim_lost(claim, rows.run)
            if rows.request not in (None, answered):
                return False
            rows.write(changes)
            rows.request = None
            return True

    def ask(self, workflow_id: str, request: Request, instead_of: Request | None = None) -> bool:
        rows = self._runs[workflow_id]
        with self._lock:
            if rows.run.status not in OPEN or rows.request != instead_of:
                return False
            rows.request = request
            return True

    def asked(self, workflow_id: str) -> Request | None:
        rows = self._runs.get(workflow_id)
        return None if rows is None else rows.request

    def answer(self, claim: Claim, request: Request) -> bool:
        rows = self._runs[claim.workflow_id]
        with self._lock:
            if rows.run.fence != claim.fence:
                raise claim_lost(claim, rows.run)
            if rows.request != request:
                return False
            rows.request = None
            return True

    def reference(self, workflow_id: str, key: str, name: str) -> Reference:
        return self._runs[workflow_id].values[key, name]


class _Rows:
    """The rows of one run."""

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self.request: Request | None = None
        self.attempts: dict[tuple[str, int], Attempt] = {}
        # the parts of checkpoints: most have no fingerprints, and need no object of their own
        self.values: dict[tuple[str, str], Reference] = {}
        self.identities: dict[tuple[str, str], tuple[Mapping[str, str] | None, str | None]] = {}
        self.generations: dict[str, int] = {}

    def write(self, changes: Sequence[Change]) -> None:
        attempts = self.attempts
        replaced: list[Attempt | None] = []
        for change in changes:
            if type(change) is Attempt:
                key = change[1], change[2]  # task_id, number: by place, the quickest way into a named tuple
                known = attempts.get(key)
                if change[3] not in ATTEMPT_MOVES[None if known is None else known[3]]:
                    self.take_back(changes, replaced)
                    check_move(change.id, None if known is None else known.status, change.status)
                replaced.append(known)
                attempts[key] = change
        for change in changes:
            if type(change) is not Attempt:
                self.apply(change)

    def discard_late(self, changes: Sequence[Change], claim: Claim) -> None:
        """Note of attempts that end under a lost claim that what they did is discarded."""
        for change in changes:
            known = self.attempts.get((change.task_id, change.number)) if type(change) is Attempt else None
            if known is not None and is_late(change, known, claim):
                discarded = known._replace(outcome=AttemptOutcome.DISCARDED)
                self.attempts[known.task_id, known.number] = discarded

    def take_back(self, changes: Sequence[Change], replaced: Sequence[Attempt | None]) -> None:
        """Undo the first attempts among `changes`, in whose places `replaced` were."""
        written = [change for change in changes if isinstance(change, Attempt)][: len(replaced)]
        for change, before in reversed(list(zip(written, replaced, strict=True))):
            if before is None:
                del self.attempts[change.task_id, change.number]
            else:
                self.attempts[change.task_id, change.number] = before

    def apply(self, change: Change) -> None:
        if type(change) is Checkpoint:
            key = change[0], change[1]  # task_id and name
            if change.value is None:
                self.values.pop(key, None)
                self.identities.pop(key, None)
                return
            self.values[key] = change.value
            if change.inputs is not None or change.code is not None:
                self.identities[key] = change.inputs, change.code
        elif isinstance(change, RunRecord):
            self.run = restated(self.run, change)
        else:
            self.generations[change.task_id] = self.generations.get(change.task_id, 1) + 1
            for key in [key for key in self.values if key[0] == change.task_id]:
                del self.values[key]
                self.identities.pop(key, None)

    def records(self, keys: Iterable[str]) -> dict[str, TaskRecord]:
        """Return what is recorded of those of the tasks of which anything is."""
        attempts: dict[str, list[Attempt]] = {key: [] for key in keys}
        checkpoints: dict[str, dict[str, Checkpoint]] = {key: {} for key in attempts}
        for (key, _), attempt in self.attempts.items():
            if key in attempts:
                attempts[key].append(attempt)
        for (key, name), value in self.values.items():
            if key in checkpoints:
                inputs, code = self.identities.get((key, name), (None, None))
                checkpoints[key][name] = Checkpoint(key, name, value, inputs, code)
        return {
            key: TaskRecord(key, tuple(found), checkpoints[key], self.generations.get(key, 1))
            for key, found in attempts.items()
            if found
        }
