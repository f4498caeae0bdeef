"""The contract of journals: a plain journal keeps it, and each of many broken ones is found out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Event, RLock
from typing import Any

import pytest

from dotflow_like.errors import ClaimLost, IllegalMove
from dotflow_like.model.records import (
    Attempt,
    Checkpoint,
    Discard,
    Reference,
    Request,
    RunRecord,
    TaskError,
    TaskRecord,
)
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.journal import (
    OPEN,
    Change,
    Claim,
    Journal,
    after,
    claim_lost,
    claimed,
    crashes_of,
    is_late,
    recovered,
    restated,
)
from dotflow_like.testing import JournalContract
from dotflow_like.testing.journal_bench import AT, Bench, run_record
from dotflow_like.testing.journal_ownership import take_over


class PlainJournal(Journal):
    """Keeps records under one lock. It is made of parts that can be broken one by one."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.runs: dict[str, RunRecord] = {}
        self.records: dict[str, dict[str, TaskRecord]] = {}
        self.requests: dict[str, Request] = {}

    def create(self, run: RunRecord) -> bool:
        with self.lock:
            if run.workflow_id in self.runs or self.is_used(run):
                return False
            self.runs[run.workflow_id] = run
            self.records[run.workflow_id] = {}
            return True

    def claim(self, workflow_id: str, owner: str, at: datetime, *, anew: bool = False) -> Claim:
        with self.lock:
            run, records = self.runs[workflow_id], self.records[workflow_id]
            attempts = [each for record in records.values() for each in record.attempts]
            statuses = {each.status for each in attempts if each.fence == run.fence}
            mine = claimed(run, owner, at, self.crashes(run, statuses, anew))
            self.runs[workflow_id] = self.taken(mine)
            if self.forgets(run):
                self.requests.pop(workflow_id, None)
            for key, record in records.items():
                records[key] = self.recover(record, at)
            return Claim(workflow_id, owner, mine.fence, mine.crashes)

    def run(self, workflow_id: str, *, params: bool = True) -> RunRecord | None:
        found = self.runs.get(workflow_id)
        return found if found is None or params else replace(found, params={})

    def find(self, workflow: str, idempotency_key: str) -> str | None:
        wanted = workflow, idempotency_key
        with self.lock:
            found = [each for each in self.runs.values() if (each.workflow, each.idempotency_key) == wanted]
        return found[0].workflow_id if found else None

    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        with self.lock:
            records = self.records[workflow_id]
            return {key: records[key] for key in keys if key in records}

    def task_keys(self, workflow_id: str) -> list[str]:
        with self.lock:
            return list(self.records[workflow_id])

    def commit(self, claim: Claim, changes: Sequence[Change], *, lazily: bool = False) -> None:
        with self.lock:
            records = self.records[claim.workflow_id]
            by_task: dict[str, list[Change]] = {}
            for change in changes:
                if not isinstance(change, RunRecord):
                    by_task.setdefault(change.task_id, []).append(change)
            if not self.owns(claim):
                for key in by_task.keys() & records.keys():
                    records[key] = self.noted(records[key], by_task[key], claim)
                raise claim_lost(claim, self.runs[claim.workflow_id])
            self.write(claim, records, by_task)
            for change in changes:
                if isinstance(change, RunRecord):
                    self.runs[claim.workflow_id] = self.restated(self.runs[claim.workflow_id], change)

    def end(self, claim: Claim, changes: Sequence[Change], answered: Request | None = None) -> bool:
        with self.lock:
            if self.owns(claim) and not self.may_end(self.requests.get(claim.workflow_id), answered):
                return False
            self.commit(claim, changes)
            self.requests.pop(claim.workflow_id, None)
            return True

    def ask(self, workflow_id: str, request: Request, instead_of: Request | None = None) -> bool:
        with self.lock:
            if self.runs[workflow_id].status not in OPEN or self.requests.get(workflow_id) != instead_of:
                return False
            self.requests[workflow_id] = request
            return True

    def asked(self, workflow_id: str) -> Request | None:
        return self.requests.get(workflow_id)

    def answer(self, claim: Claim, request: Request) -> bool:
        with self.lock:
            if not self.owns(claim):
                raise claim_lost(claim, self.runs[claim.workflow_id])
            if self.requests.get(claim.workflow_id) != request:
                return False
            del self.requests[claim.workflow_id]
            return True

    def reference(self, workflow_id: str, key: str, name: str) -> Reference:
        found: Reference = self.records[workflow_id][key].checkpoints[name].value
        return found

    # parts

    def is_used(self, run: RunRecord) -> bool:
        return run.idempotency_key is not None and self.find(run.workflow, run.idempotency_key) is not None

    def crashes(self, run: RunRecord, statuses: set[AttemptStatus], anew: bool) -> int:
        return crashes_of(run, statuses, anew=anew)

    def taken(self, run: RunRecord) -> RunRecord:
        return run

    def recover(self, record: TaskRecord, at: datetime) -> TaskRecord:
        return _with(record, lambda each: recovered(each, at) if each.status == "running" else each)

    def owns(self, claim: Claim) -> bool:
        return self.runs[claim.workflow_id].fence == claim.fence

    def forgets(self, run: RunRecord) -> bool:
        return run.status not in OPEN

    def may_end(self, waiting: Request | None, answered: Request | None) -> bool:
        return waiting in (None, answered)

    def restated(self, run: RunRecord, change: RunRecord) -> RunRecord:
        return restated(run, change)

    def noted(self, record: TaskRecord, late: list[Change], claim: Claim) -> TaskRecord:
        discarded = AttemptOutcome.DISCARDED
        return _with(
            record,
            lambda each: (
                each._replace(outcome=discarded) if any(is_late(x, each, claim) for x in late) else each
            ),
        )

    def write(self, claim: Claim, records: dict[str, TaskRecord], by_task: dict[str, list[Change]]) -> None:
        made = {
            key: self.made(records.get(key, TaskRecord(key)), of_task) for key, of_task in by_task.items()
        }
        records |= made

    def made(self, record: TaskRecord, changes: list[Change]) -> TaskRecord:
        return after(record, [self.kept(each) if isinstance(each, Attempt) else each for each in changes])

    def kept(self, attempt: Attempt) -> Attempt:
        return attempt


def _with(record: TaskRecord, change: Callable[[Attempt], Attempt]) -> TaskRecord:
    return record._replace(attempts=tuple(change(each) for each in record.attempts))


class TestPlainJournal(JournalContract):
    def make_journal(self, tmp_path: Path) -> Journal:
        return PlainJournal()


# Broken ones, each with a test that finds it out


class CreatesTwice(PlainJournal):
    def create(self, run: RunRecord) -> bool:
        self.runs.pop(run.workflow_id, None)
        return super().create(run)


class ForgetsKeys(PlainJournal):
    def is_used(self, run: RunRecord) -> bool:
        return False


class HasOneKeyForAllWorkflows(PlainJournal):
    def is_used(self, run: RunRecord) -> bool:
        return run.idempotency_key is not None and run.idempotency_key in {
            each.idempotency_key for each in self.runs.values()
        }


class LooksBeforeItLocks(PlainJournal):
    """Between the look whether a key is used and the writing of it, others look too."""

    def create(self, run: RunRecord) -> bool:
        if self.is_used(run):
            return False
        time.sleep(0.02)
        self.runs[run.workflow_id] = run
        self.records[run.workflow_id] = {}
        return True


class IgnoresFences(PlainJournal):
    def owns(self, claim: Claim) -> bool:
        return True


class NeverRaisesFences(PlainJournal):
    def taken(self, run: RunRecord) -> RunRecord:
        return super().taken(RunRecord(**{name: getattr(run, name) for name in run.__slots__} | {"fence": 1}))


class LeavesRunning(PlainJournal):
    def recover(self, record: TaskRecord, at: datetime) -> TaskRecord:
        return record


class RecoversWhatWaits(PlainJournal):
    def recover(self, record: TaskRecord, at: datetime) -> TaskRecord:
        return _with(record, lambda each: each if each.finished_at else recovered(each, at))


class RecoversBeforeTheStart(PlainJournal):
    def recover(self, record: TaskRecord, at: datetime) -> TaskRecord:
        return _with(
            super().recover(record, at),
            lambda each: each._replace(finished_at=at) if each.outcome == "recovered" else each,
        )


class WritesWhatIsLate(PlainJournal):
    def noted(self, record: TaskRecord, late: list[Change], claim: Claim) -> TaskRecord:
        checkpoints = {each.name: each for each in late if isinstance(each, Checkpoint)}
        return record._replace(checkpoints={**record.checkpoints, **checkpoints})


class NotesNothing(PlainJournal):
    def noted(self, record: TaskRecord, late: list[Change], claim: Claim) -> TaskRecord:
        return record


class DiscardsOnAnyLateWord(PlainJournal):
    def noted(self, record: TaskRecord, late: list[Change], claim: Claim) -> TaskRecord:
        mine = AttemptOutcome.RECOVERED
        return _with(
            record,
            lambda each: each._replace(outcome=AttemptOutcome.DISCARDED) if each.outcome is mine else each,
        )


class CountsEveryClaim(PlainJournal):
    def crashes(self, run: RunRecord, statuses: set[AttemptStatus], anew: bool) -> int:
        return 0 if anew or not run.fence else run.crashes + 1


class NeverForgetsCrashes(PlainJournal):
    def crashes(self, run: RunRecord, statuses: set[AttemptStatus], anew: bool) -> int:
        return crashes_of(run, statuses - {AttemptStatus.COMPLETED}, anew=False)


class ForgetsCrashesInAnOrderlyEnd(PlainJournal):
    def crashes(self, run: RunRecord, statuses: set[AttemptStatus], anew: bool) -> int:
        return 0 if run.status != "running" else super().crashes(run, statuses, anew)


class AlwaysStarts(PlainJournal):
    def start(self, claim: Claim, attempt: Attempt) -> bool:
        super().start(claim, attempt)
        return True


class StartsWhatWasCancelled(PlainJournal):
    def start(self, claim: Claim, attempt: Attempt) -> bool:
        try:
            return super().start(claim, attempt)
        except IllegalMove:
            return False


class StartsInTwoSteps(PlainJournal):
    """Between the look whether an attempt was started and the writing of it, others look too."""

    def start(self, claim: Claim, attempt: Attempt) -> bool:
        found = self.tasks(attempt.workflow_id, [attempt.task_id])
        if found and found[attempt.task_id].attempts[-1].started_at:
            return False
        time.sleep(0.002)
        self.records[attempt.workflow_id][attempt.task_id] = TaskRecord(attempt.task_id, (attempt,))
        return True


class AllowsEveryMove(PlainJournal):
    def made(self, record: TaskRecord, changes: list[Change]) -> TaskRecord:
        for change in changes:
            if isinstance(change, Attempt):
                others = [each for each in record.attempts if each.number != change.number]
                record = record._replace(attempts=(*others, change))
            else:
                record = after(record, [change])
        return record


class LetsWhatHasEndedEndAgain(AllowsEveryMove):
    def made(self, record: TaskRecord, changes: list[Change]) -> TaskRecord:
        if record.attempts and record.attempts[-1].finished_at:
            return super().made(record, changes)
        return PlainJournal.made(self, record, changes)


class WritesUntilAMoveIsIllegal(PlainJournal):
    def write(self, claim: Claim, records: dict[str, TaskRecord], by_task: dict[str, list[Change]]) -> None:
        for key, of_task in by_task.items():
            super().write(claim, records, {key: of_task})


class WritesResultsAfterAttempts(PlainJournal):
    """Others look between the end of an attempt and its result, as long as there are any."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Event()
        self.windows = 100

    def commit(self, claim: Claim, changes: Sequence[Change], *, lazily: bool = False) -> None:
        super().commit(claim, [each for each in changes if not isinstance(each, Checkpoint)])
        self.let_others_look()
        super().commit(claim, [each for each in changes if isinstance(each, Checkpoint)])

    def let_others_look(self) -> None:
        self.windows -= 1
        if self.windows > 0:
            self.window = Event()
            self.window.wait(0.02)

    def tasks(self, workflow_id: str, keys: Iterable[str]) -> dict[str, TaskRecord]:
        window = self.window
        found = super().tasks(workflow_id, keys)
        window.set()
        return found


class WritesTaskByTask(WritesResultsAfterAttempts):
    def commit(self, claim: Claim, changes: Sequence[Change], *, lazily: bool = False) -> None:
        for change in changes:
            PlainJournal.commit(self, claim, [change])
            self.let_others_look()


class LetsAFormerOwnerFinish(PlainJournal):
    """A commit that has begun is written although the run is claimed meanwhile."""

    def commit(self, claim: Claim, changes: Sequence[Change], *, lazily: bool = False) -> None:
        owned = self.owns(claim)
        time.sleep(0.002)
        with self.lock:
            super().commit(
                claim._replace(fence=self.runs[claim.workflow_id].fence) if owned else claim, changes
            )
            if not self.owns(claim):
                raise claim_lost(claim, self.runs[claim.workflow_id])


class KeepsNoMicroseconds(PlainJournal):
    def kept(self, attempt: Attempt) -> Attempt:
        return attempt._replace(scheduled_at=attempt.scheduled_at.replace(microsecond=0))


class KeepsNoTracebacks(PlainJournal):
    def kept(self, attempt: Attempt) -> Attempt:
        error = attempt.error
        return attempt._replace(
            error=error and TaskError(error.attempt, error.exception, error.message, "", error.types)
        )


class KeepsNoMetadata(PlainJournal):
    def kept(self, attempt: Attempt) -> Attempt:
        return attempt._replace(metadata={})


class KeepsOneGeneration(PlainJournal):
    def made(self, record: TaskRecord, changes: list[Change]) -> TaskRecord:
        return super().made(record, changes)._replace(generation=1)


class DiscardsResultsAlone(PlainJournal):
    def made(self, record: TaskRecord, changes: list[Change]) -> TaskRecord:
        made = super().made(record, changes)
        if any(isinstance(each, Discard) for each in changes):
            kept = {name: each for name, each in record.checkpoints.items() if name != "result"}
            made = made._replace(checkpoints=kept)
        return made


class DropsNothing(PlainJournal):
    def made(self, record: TaskRecord, changes: list[Change]) -> TaskRecord:
        return super().made(record, [each for each in changes if not _is_drop(each)])


def _is_drop(change: Change) -> bool:
    return isinstance(change, Checkpoint) and change.value is None


class WritesTheWholeRow(PlainJournal):
    def restated(self, run: RunRecord, change: RunRecord) -> RunRecord:
        return change


class AsksOverOthers(PlainJournal):
    def ask(self, workflow_id: str, request: Request, instead_of: Request | None = None) -> bool:
        return super().ask(workflow_id, request, self.requests.get(workflow_id))


class AsksWhatHasEnded(PlainJournal):
    def ask(self, workflow_id: str, request: Request, instead_of: Request | None = None) -> bool:
        with self.lock:
            if self.requests.get(workflow_id) != instead_of:
                return False
            self.requests[workflow_id] = request
            return True


class AsksInTwoSteps(PlainJournal):
    """Between the look at what waits and the writing of it, others look too."""

    def ask(self, workflow_id: str, request: Request, instead_of: Request | None = None) -> bool:
        if self.requests.get(workflow_id) != instead_of:
            return False
        time.sleep(0.002)
        self.requests[workflow_id] = request
        return True


class EndsWhateverWaits(PlainJournal):
    def may_end(self, waiting: Request | None, answered: Request | None) -> bool:
        return True


class EndsInTwoSteps(PlainJournal):
    """Between the look at what waits and the end, somebody asks."""

    def end(self, claim: Claim, changes: Sequence[Change], answered: Request | None = None) -> bool:
        if self.owns(claim) and not self.may_end(self.requests.get(claim.workflow_id), answered):
            return False
        time.sleep(0.002)
        self.commit(claim, changes)
        return True


class EndsTasksFirst(PlainJournal):
    def end(self, claim: Claim, changes: Sequence[Change], answered: Request | None = None) -> bool:
        self.commit(claim, changes[:-1])
        return super().end(claim, changes[-1:], answered)


class EndsAndKeepsTheRequest(PlainJournal):
    def end(self, claim: Claim, changes: Sequence[Change], answered: Request | None = None) -> bool:
        waiting = self.requests.get(claim.workflow_id)
        ended = super().end(claim, changes, answered)
        if ended and waiting is not None:
            self.requests[claim.workflow_id] = waiting
        return ended


class AnswersAnything(PlainJournal):
    def answer(self, claim: Claim, request: Request) -> bool:
        return self.requests.pop(claim.workflow_id, None) is not None


class ForgetsWhatADeadOwnerWasAsked(PlainJournal):
    def forgets(self, run: RunRecord) -> bool:
        return True


class NeverForgetsRequests(PlainJournal):
    def forgets(self, run: RunRecord) -> bool:
        return False


class SortsNothing(PlainJournal):
    def attempts(self, workflow_id: str) -> list[Attempt]:
        return [each for record in self.records[workflow_id].values() for each in record.attempts]


FOUND_OUT_BY: dict[type[PlainJournal], tuple[str, dict[str, Any]]] = {
    CreatesTwice: ("a_known_id_is_not_created_again_and_stays_as_it_is", {}),
    ForgetsKeys: ("a_workflow_uses_a_key_once", {}),
    HasOneKeyForAllWorkflows: ("a_workflow_uses_a_key_once", {}),
    LooksBeforeItLocks: ("of_many_that_create_with_one_key_at_once_one_does_and_all_find_it", {}),
    IgnoresFences: ("nothing_else_of_a_former_owner_changes_anything", {"value": "small"}),
    NeverRaisesFences: ("a_claim_raises_the_fence_and_names_the_owner", {}),
    LeavesRunning: ("a_claim_closes_what_was_running_as_recovered", {"passed": 3600}),
    RecoversWhatWaits: ("a_claim_closes_what_was_running_as_recovered", {"passed": 3600}),
    RecoversBeforeTheStart: ("a_claim_closes_what_was_running_as_recovered", {"passed": -3600}),
    WritesWhatIsLate: (
        "the_late_end_of_an_attempt_is_refused_and_noted_as_discarded",
        {"end": AttemptStatus.COMPLETED},
    ),
    NotesNothing: (
        "the_late_end_of_an_attempt_is_refused_and_noted_as_discarded",
        {"end": AttemptStatus.FAILED},
    ),
    DiscardsOnAnyLateWord: ("nothing_else_of_a_former_owner_changes_anything", {"value": "small"}),
    CountsEveryClaim: ("an_owner_that_dies_before_a_body_has_begun_is_not_counted", {}),
    NeverForgetsCrashes: ("a_task_completed_in_between_makes_crashes_forgotten", {}),
    ForgetsCrashesInAnOrderlyEnd: (
        "an_orderly_end_is_no_crash_and_makes_none_forgotten",
        {"status": "failed"},
    ),
    AlwaysStarts: ("starting_is_true_once", {}),
    StartsWhatWasCancelled: (
        "what_has_ended_without_a_start_cannot_be_started",
        {"end": AttemptStatus.CANCELLED},
    ),
    StartsInTwoSteps: ("each_of_fifty_attempts_is_started_by_one_of_eight", {"scheduled": False}),
    AllowsEveryMove: ("an_attempt_moves_as_the_table_says_and_not_otherwise", {"path": []}),
    LetsWhatHasEndedEndAgain: ("any_history_reads_back_as_the_rules_say", {"seed": 1}),
    WritesUntilAMoveIsIllegal: ("an_attempt_moves_as_the_table_says_and_not_otherwise", {"path": []}),
    WritesResultsAfterAttempts: (
        "nobody_sees_an_attempt_completed_without_its_result",
        {"value": "small"},
    ),
    WritesTaskByTask: ("what_is_committed_together_is_seen_together", {}),
    LetsAFormerOwnerFinish: ("what_is_committed_while_somebody_claims_is_recorded_or_refused", {}),
    KeepsNoMicroseconds: ("times_read_back_to_the_microsecond", {"at": AT}),
    KeepsNoTracebacks: (
        "an_attempt_reads_back_exactly_as_it_was_written",
        {"status": AttemptStatus.FAILED},
    ),
    KeepsNoMetadata: (
        "an_attempt_reads_back_exactly_as_it_was_written",
        {"status": AttemptStatus.COMPLETED},
    ),
    KeepsOneGeneration: ("discarding_drops_every_checkpoint_and_begins_a_generation", {"value": "small"}),
    DiscardsResultsAlone: ("discarding_drops_every_checkpoint_and_begins_a_generation", {"value": "small"}),
    DropsNothing: ("a_checkpoint_without_a_value_drops_it", {}),
    WritesTheWholeRow: ("what_a_run_was_created_with_never_changes", {}),
    AsksOverOthers: ("a_run_has_one_request_at_a_time", {}),
    AsksWhatHasEnded: (
        "only_a_run_that_has_not_ended_is_asked",
        {"status": RunStatus.PAUSED, "by": "end"},
    ),
    AsksInTwoSteps: ("of_many_that_ask_at_once_one_is_heard", {}),
    EndsWhateverWaits: ("a_run_does_not_end_before_it_has_seen_what_is_asked", {"answered": None}),
    EndsInTwoSteps: ("what_is_asked_while_the_run_ends_is_seen_or_refused", {"alone": True}),
    EndsTasksFirst: ("a_run_does_not_end_before_it_has_seen_what_is_asked", {"answered": None}),
    EndsAndKeepsTheRequest: ("the_end_answers_what_led_to_it", {"alone": True}),
    AnswersAnything: ("an_answer_takes_away_the_request_it_is_to_and_no_other", {}),
    ForgetsWhatADeadOwnerWasAsked: ("what_was_asked_of_a_dead_owner_waits_for_the_next_one", {}),
    NeverForgetsRequests: (
        "what_was_asked_of_a_run_that_has_ended_is_forgotten_when_it_is_claimed",
        {"status": RunStatus.FAILED},
    ),
    SortsNothing: ("attempts_come_task_by_task_in_the_order_of_their_keys", {}),
}


@pytest.mark.parametrize("broken", FOUND_OUT_BY, ids=lambda broken: broken.__name__)
def test_a_broken_journal_is_found_out(broken: type[PlainJournal]) -> None:
    name, arguments = FOUND_OUT_BY[broken]
    test = getattr(JournalContract(), f"test_{name}")
    bench = Bench(broken(), lambda: None)
    if "takeover" in test.__code__.co_varnames:
        arguments = arguments | {"takeover": take_over(bench, bench.journal)}
    with pytest.raises((AssertionError, pytest.fail.Exception, ClaimLost, IllegalMove)):
        test(bench, **arguments)


def test_a_suite_without_a_journal_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError, match="override make_journal"):
        JournalContract().make_journal(tmp_path)


def test_where_an_instance_is_the_place_others_are_the_same(tmp_path: Path) -> None:
    journal = TestPlainJournal().make_journal(tmp_path)
    bench = Bench(journal, lambda: TestPlainJournal().reopen(journal))
    assert bench.another() is journal
    assert bench.several(3) == [journal] * 3
    assert bench.journal.create(run_record())
    assert bench.row() == run_record()
