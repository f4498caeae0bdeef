"""Runs are steered through their rows: asked if somebody executes them, changed if nobody does."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import dotflow_like
from dotflow_like import Config, MemoryStorage, Workflow, task
from dotflow_like.config import open_journal
from dotflow_like.declare.workflow import Definition
from dotflow_like.errors import ConfigError, IllegalMove, RunInProgress
from dotflow_like.model.records import RESULT, Attempt, Checkpoint, Request, RunRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record import steering
from dotflow_like.record.journal import Claim, Encoded, Journal
from dotflow_like.record.steering import new_owner
from dotflow_like.testing.journal_bench import together

AT = datetime(2024, 2, 29, 12, tzinfo=UTC)
FINAL = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)
LAST = {  # how the last attempt of a task that waits may have ended
    "paused": (AttemptStatus.CANCELLED, AttemptOutcome.PAUSED),
    "failed": (AttemptStatus.FAILED, AttemptOutcome.FAILED),
    "recovered": (AttemptStatus.FAILED, AttemptOutcome.RECOVERED),
    "retried": (AttemptStatus.FAILED, AttemptOutcome.RETRIED),
    "retried by itself": (AttemptStatus.COMPLETED, AttemptOutcome.RETRIED),
    "timed out": (AttemptStatus.FAILED, AttemptOutcome.TIMED_OUT),
}


class Bench:
    """A place, and runs that are made there row by row."""

    def __init__(self, storage: Any) -> None:
        self.storage = storage
        self.journal: Journal = open_journal(Config(storage=storage), Definition(()))
        self.owner = new_owner()

    def made(self, status: RunStatus = RunStatus.PAUSED, reason: str | None = "one: wait") -> Claim:
        """Make a run, claimed by this process, which does not hold its lock."""
        params = {"n": 3}
        row = RunRecord("run", "nightly", "7", params, "sequential", RunStatus.PENDING, AT)
        assert self.journal.create(row)
        if status is RunStatus.PENDING:
            return Claim("run", self.owner, 0)
        claim = self.journal.claim("run", self.owner, AT)
        if status is not RunStatus.RUNNING:
            ended = replace(self.row(), status=status, reason=reason, finished_at=AT)
            assert self.journal.end(claim, [ended])
        return claim

    def attempt(self, claim: Claim, key: str, last: str | AttemptStatus) -> Attempt:
        """Record an attempt of a task; its run goes on."""
        status, outcome = (last, None) if isinstance(last, AttemptStatus) else LAST[last]
        begun = Attempt(
            "run", key, 1, AttemptStatus.SCHEDULED, None, AT, None, None, claim.owner, claim.fence
        )
        if status is AttemptStatus.SCHEDULED:
            begun = begun._replace(scheduled_at=AT + timedelta(days=10_000))
        else:
            begun = begun._replace(status=AttemptStatus.RUNNING, started_at=AT)
        self.journal.commit(claim, [begun])
        if status in (AttemptStatus.SCHEDULED, AttemptStatus.RUNNING):
            return begun
        if outcome is None:
            outcome = AttemptOutcome.SUCCESS if status is AttemptStatus.COMPLETED else AttemptOutcome.SKIPPED
        ended = begun._replace(status=status, outcome=outcome, finished_at=AT)
        result = Checkpoint(key, RESULT, Encoded(b"1"))
        is_done = outcome is AttemptOutcome.SUCCESS
        self.journal.commit(claim, [ended, result] if is_done else [ended])
        return ended

    def paused(self, *tasks: tuple[str, str | AttemptStatus]) -> Claim:
        """Make a run that is paused, with the last attempts of its tasks."""
        claim = self.made(RunStatus.RUNNING)
        for key, last in tasks:
            self.attempt(claim, key, last)
        ended = replace(self.row(), status=RunStatus.PAUSED, reason="one: wait", finished_at=AT)
        assert self.journal.end(claim, [ended])
        return claim

    def row(self) -> RunRecord:
        row = self.journal.run("run")
        assert row is not None
        return row

    def last(self, key: str) -> Attempt:
        return self.journal.tasks("run", [key])[key].attempts[-1]

    def everything(self) -> Any:
        return self.row(), self.journal.attempts("run"), self.journal.asked("run")


@pytest.fixture(params=["memory", "files", "sql"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    places: dict[str, Callable[[], Any]] = {
        "memory": MemoryStorage,
        "files": lambda: str(tmp_path / "kept"),
        "sql": lambda: f"sqlite:///{tmp_path}/runs.db?durability=process",
    }
    return Bench(places[request.param]())


# What is not there


@pytest.mark.parametrize("word", ["pause", "cancel", "skip"])
def test_an_unknown_run_is_named_with_the_place_and_nothing_is_made(tmp_path: Path, word: str) -> None:
    for place in (f"sqlite:///{tmp_path}/runs.db", str(tmp_path / "kept")):
        with pytest.raises(ConfigError, match=r"run 'nobody' is not known in '.*'") as raised:
            getattr(dotflow_like, word)("nobody", storage=place)
        assert place in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_resuming_an_unknown_run_is_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="run 'nobody' is not known in"):
        dotflow_like.resume("nobody", [one], storage=bench.storage)
    assert bench.journal.run("nobody") is None


@pytest.mark.parametrize("storage", [None, "memory://"])
def test_where_the_run_is_recorded_has_to_be_said(storage: str | None) -> None:
    for word in ("pause", "cancel", "skip"):
        with pytest.raises(ConfigError, match="storage="):
            getattr(dotflow_like, word)("run", storage=storage)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"reason": 7}, "reason is 7"), ({"config": "x"}, "config is 'x'")],
)
def test_a_bad_option_is_refused(bench: Bench, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        dotflow_like.pause("run", **({"storage": bench.storage} | options))


@pytest.mark.parametrize("workflow_id", [None, "", 7])
def test_a_bad_id_is_refused(bench: Bench, workflow_id: Any) -> None:
    for word in ("pause", "cancel", "skip"):
        with pytest.raises(ConfigError, match="workflow_id is"):
            getattr(dotflow_like, word)(workflow_id, storage=bench.storage)


@pytest.mark.parametrize("task_id", ["", 7])
def test_a_bad_task_id_is_refused(bench: Bench, task_id: Any) -> None:
    with pytest.raises(ConfigError, match="task_id is"):
        dotflow_like.skip("run", task_id, storage=bench.storage)


def test_an_id_may_be_a_uuid_and_a_config_may_say_where(bench: Bench) -> None:
    id_ = UUID(int=7)
    row = RunRecord(str(id_), "nightly", None, {}, "sequential", RunStatus.PENDING, AT)
    assert bench.journal.create(row)
    claim = bench.journal.claim(str(id_), bench.owner, AT)
    assert bench.journal.end(claim, [replace(row, status=RunStatus.PAUSED, owner=claim.owner, fence=1)])
    assert dotflow_like.cancel(id_, config=Config(storage=bench.storage)) is True
    found = bench.journal.run(str(id_))
    assert found is not None
    assert found.status is RunStatus.CANCELLED


# A run that has ended


@pytest.mark.parametrize("status", FINAL)
def test_to_cancel_a_run_that_has_ended_is_false_and_changes_nothing(bench: Bench, status: RunStatus) -> None:
    bench.made(status, reason="so")
    before = bench.everything()
    assert dotflow_like.cancel("run", storage=bench.storage, reason="late") is False
    assert bench.everything() == before


@pytest.mark.parametrize("status", FINAL)
@pytest.mark.parametrize("word", ["pause", "skip", "resume"])
def test_nothing_else_can_be_made_of_it(bench: Bench, status: RunStatus, word: str) -> None:
    bench.made(status, reason="so")
    before = bench.everything()
    arguments = {"resume": ([one],)}.get(word, ())
    with pytest.raises(IllegalMove, match=rf"'run' has ended as {status} \(so\)") as raised:
        getattr(dotflow_like, word)("run", *arguments, storage=bench.storage)
    assert bench.everything() == before
    assert ("resume=True" in str(raised.value)) is (status is not RunStatus.COMPLETED)


# A run that somebody executes


@pytest.fixture
def executed(bench: Bench) -> Claim:
    """A run that is under way, held by this process; one task runs, one waits for its next attempt, one is done."""
    claim = bench.made(RunStatus.RUNNING)
    bench.attempt(claim, "done", AttemptStatus.COMPLETED)
    bench.attempt(claim, "running", AttemptStatus.RUNNING)
    if bench.journal.locks is not None:
        bench.lock = bench.journal.locks.take("run", claim.owner)  # type: ignore[attr-defined]
    return claim


@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_a_run_under_way_is_asked_with_who_when_and_why(bench: Bench, executed: Claim, word: str) -> None:
    before = bench.row()
    began = datetime.now(UTC)
    assert getattr(dotflow_like, word)("run", storage=bench.storage, reason="because") is True
    asked = bench.journal.asked("run")
    assert asked is not None
    assert (asked.signal, asked.reason, asked.task_id, asked.fence) == (word, "because", None, executed.fence)
    assert asked.by.split(":")[:2] == executed.owner.split(":")[:2]
    assert began <= asked.at <= datetime.now(UTC)
    assert bench.row() == before, "the rest is its owner's to do"


@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_to_ask_the_same_again_is_true_and_the_first_stays(bench: Bench, executed: Claim, word: str) -> None:
    ask = getattr(dotflow_like, word)
    assert ask("run", storage=bench.storage, reason="first") is True
    first = bench.journal.asked("run")
    assert ask("run", storage=bench.storage, reason="second") is True
    assert bench.journal.asked("run") == first


@pytest.mark.parametrize("first", ["pause", "skip"])
def test_cancel_takes_the_place_of_anything_else(bench: Bench, executed: Claim, first: str) -> None:
    getattr(dotflow_like, first)("run", storage=bench.storage)
    assert dotflow_like.cancel("run", storage=bench.storage, reason="enough") is True
    asked = bench.journal.asked("run")
    assert asked is not None
    assert (asked.signal, asked.reason) == ("cancel", "enough")


@pytest.mark.parametrize(
    ("first", "second"),
    [("cancel", "pause"), ("cancel", "skip"), ("pause", "skip"), ("skip", "pause"), ("skip", "skip")],
)
def test_anything_else_waits_until_the_first_is_answered(
    bench: Bench, executed: Claim, first: str, second: str
) -> None:
    getattr(dotflow_like, first)("run", storage=bench.storage, reason="so")
    asked = bench.journal.asked("run")
    assert asked is not None
    with pytest.raises(IllegalMove, match=rf"{first}.* was asked of run 'run' before") as raised:
        getattr(dotflow_like, second)("run", storage=bench.storage)
    assert all(part in str(raised.value) for part in (asked.by, asked.at.isoformat(timespec="seconds"), "so"))
    assert bench.journal.asked("run") == asked


def test_the_task_to_skip_is_the_one_that_waits_else_the_one_that_runs(bench: Bench, executed: Claim) -> None:
    assert dotflow_like.skip("run", storage=bench.storage, reason="so") is True
    asked = bench.journal.asked("run")
    assert asked is not None
    assert (asked.signal, asked.task_id, asked.reason) == ("skip", "running", "so")
    assert bench.journal.answer(executed, asked)
    bench.attempt(executed, "waiting", AttemptStatus.SCHEDULED)
    dotflow_like.skip("run", storage=bench.storage)
    asked = bench.journal.asked("run")
    assert asked is not None
    assert asked.task_id == "waiting"


def test_which_task_to_skip_has_to_be_clear(bench: Bench, executed: Claim) -> None:
    bench.attempt(executed, "another", AttemptStatus.RUNNING)
    with pytest.raises(IllegalMove, match="several tasks of run 'run' can be skipped: 'another', 'running'"):
        dotflow_like.skip("run", storage=bench.storage)
    assert bench.journal.asked("run") is None
    assert dotflow_like.skip("run", "another", storage=bench.storage) is True


@pytest.mark.parametrize("last", [AttemptStatus.COMPLETED, AttemptStatus.SKIPPED])
def test_a_task_that_is_done_is_not_skipped(bench: Bench, executed: Claim, last: AttemptStatus) -> None:
    bench.attempt(executed, "over", last)
    with pytest.raises(IllegalMove, match=f"task 'over' of run 'run' is {last}"):
        dotflow_like.skip("run", "over", storage=bench.storage)
    assert bench.journal.asked("run") is None


def test_a_run_that_is_executed_is_not_resumed(bench: Bench, executed: Claim) -> None:
    if bench.journal.locks is None:
        pytest.skip("without a lock nobody can tell: whoever resumes it takes it over")
    with pytest.raises(RunInProgress, match="'run' is in progress"):
        dotflow_like.resume("run", [one], storage=bench.storage)


# A run that nobody executes


def test_a_paused_run_is_cancelled_at_once_with_what_waits_in_it(bench: Bench) -> None:
    bench.paused(("done", AttemptStatus.COMPLETED), ("one", "paused"), ("two", AttemptStatus.SCHEDULED))
    before = {key: bench.last(key) for key in ("done", "one")}
    row = bench.row()
    assert dotflow_like.cancel("run", storage=bench.storage, reason="enough") is True
    after = bench.row()
    assert (after.status, after.reason, after.started_at) == (RunStatus.CANCELLED, "enough", row.started_at)
    assert after.finished_at is not None
    assert after.finished_at > AT
    assert after.owner != row.owner, "it says who did it"
    assert {key: bench.last(key) for key in before} == before
    closed = bench.last("two")
    assert (closed.status, closed.outcome) == (AttemptStatus.CANCELLED, AttemptOutcome.CANCELLED)
    assert (closed.owner, closed.fence) == (after.owner, after.fence)
    assert closed.finished_at is not None
    assert closed.finished_at >= closed.scheduled_at
    assert dict(closed.metadata) == {"signal": "cancel", "signal_reason": "enough"}
    assert dotflow_like.cancel("run", storage=bench.storage) is False


def test_without_a_reason_it_says_by_whom(bench: Bench) -> None:
    bench.paused(("one", AttemptStatus.SCHEDULED))
    assert dotflow_like.cancel("run", storage=bench.storage) is True
    row = bench.row()
    assert row.reason == f"cancelled by {row.owner}"
    assert bench.last("one").metadata["signal_reason"] == f"asked by {row.owner}"


def test_a_paused_run_is_not_paused_again(bench: Bench) -> None:
    bench.paused(("one", "paused"))
    before = bench.everything()
    with pytest.raises(IllegalMove, match=r"'run' is paused already \(one: wait\)"):
        dotflow_like.pause("run", storage=bench.storage)
    assert bench.everything() == before


@pytest.mark.parametrize("last", LAST)
@pytest.mark.parametrize("named", [True, False], ids=["by its id", "as the one that waits"])
def test_a_task_that_is_to_run_again_is_skipped_by_an_attempt_of_its_own(
    bench: Bench, last: str, named: bool
) -> None:
    bench.paused(("done", AttemptStatus.COMPLETED), ("one", last))
    before, row = bench.last("one"), bench.row()
    assert dotflow_like.skip("run", "one" if named else None, storage=bench.storage, reason="no need") is True
    first, skipped = bench.journal.tasks("run", ["one"])["one"].attempts
    assert first == before
    assert (skipped.number, skipped.status, skipped.outcome) == (
        2,
        AttemptStatus.SKIPPED,
        AttemptOutcome.SKIPPED,
    )
    assert skipped.started_at is None
    assert dict(skipped.metadata) == {"signal": "skip", "signal_reason": "no need"}
    after = bench.row()
    assert after == replace(row, owner=skipped.owner, fence=row.fence + 1)
    with pytest.raises(IllegalMove, match="task 'one' of run 'run' is skipped"):
        dotflow_like.skip("run", "one", storage=bench.storage)


def test_an_attempt_that_waits_for_its_time_is_itself_skipped(bench: Bench) -> None:
    bench.paused(("one", AttemptStatus.SCHEDULED))
    assert dotflow_like.skip("run", storage=bench.storage) is True
    (skipped,) = bench.journal.attempts("run")
    assert (skipped.number, skipped.status) == (1, AttemptStatus.SKIPPED)
    assert skipped.finished_at is not None
    assert skipped.finished_at >= skipped.scheduled_at


def test_a_discarded_task_waits_for_nothing(bench: Bench) -> None:
    from dotflow_like.model.records import Discard

    claim = bench.made(RunStatus.RUNNING)
    bench.attempt(claim, "one", "failed")
    bench.journal.commit(claim, [Discard("one")])
    assert bench.journal.end(claim, [replace(bench.row(), status=RunStatus.PAUSED)])
    with pytest.raises(IllegalMove, match="does not wait"):
        dotflow_like.skip("run", "one", storage=bench.storage)


@pytest.mark.parametrize(
    ("tasks", "task_id", "match"),
    [
        ((), None, "no task of run 'run' waits"),
        ((("done", AttemptStatus.COMPLETED),), None, "no task of run 'run' waits"),
        ((("a", "paused"), ("b", "failed")), None, "can be skipped: 'a', 'b'; give the task_id of one"),
        (
            (("a", "paused"),),
            "c",
            "'c' of run 'run' does not wait: nothing is recorded of it; what waits: 'a'",
        ),
        ((("a", AttemptStatus.COMPLETED),), "a", "'a' of run 'run' is completed"),
        ((("a", AttemptStatus.SKIPPED),), "a", "'a' of run 'run' is skipped"),
    ],
    ids=["nothing", "all done", "two", "unknown", "completed", "skipped"],
)
def test_what_cannot_be_skipped_is_named_and_nothing_changes(
    bench: Bench, tasks: Any, task_id: str | None, match: str
) -> None:
    bench.paused(*tasks)
    before = bench.everything()
    with pytest.raises(IllegalMove, match=match):
        dotflow_like.skip("run", task_id, storage=bench.storage)
    assert bench.everything() == before


# One whose process has died


@pytest.fixture
def left(bench: Bench) -> Claim:
    """A run whose process has died while a task ran and another one waited."""
    if bench.journal.locks is None:
        pytest.skip("without a lock nobody can tell")
    claim = bench.made(RunStatus.RUNNING)
    bench.attempt(claim, "one", AttemptStatus.RUNNING)
    bench.attempt(claim, "two", AttemptStatus.SCHEDULED)
    return claim


def test_a_run_that_was_left_is_cancelled_at_once(bench: Bench, left: Claim) -> None:
    assert dotflow_like.cancel("run", storage=bench.storage, reason="enough") is True
    assert (bench.row().status, bench.row().reason, bench.row().crashes) == (RunStatus.CANCELLED, "enough", 1)
    assert bench.last("one").outcome is AttemptOutcome.RECOVERED
    assert bench.last("two").outcome is AttemptOutcome.CANCELLED


def test_a_run_that_was_left_is_paused_at_once(bench: Bench, left: Claim) -> None:
    assert dotflow_like.pause("run", storage=bench.storage) is True
    row = bench.row()
    assert (row.status, row.reason, row.crashes) == (RunStatus.PAUSED, f"paused by {row.owner}", 1)
    assert bench.last("one").outcome is AttemptOutcome.RECOVERED
    assert bench.last("two").status is AttemptStatus.SCHEDULED


def test_a_task_of_a_run_that_was_left_is_skipped_and_the_run_is_paused(bench: Bench, left: Claim) -> None:
    assert dotflow_like.skip("run", "one", storage=bench.storage) is True
    row = bench.row()
    assert (row.status, row.crashes) == (RunStatus.PAUSED, 1)
    assert row.reason is not None
    assert left.owner in row.reason
    first, skipped = bench.journal.tasks("run", ["one"])["one"].attempts
    assert (first.outcome, skipped.outcome) == (AttemptOutcome.RECOVERED, AttemptOutcome.SKIPPED)
    assert dotflow_like.skip("run", storage=bench.storage) is True
    assert bench.last("two").status is AttemptStatus.SKIPPED
    assert bench.row().reason == row.reason


def test_what_was_asked_of_its_dead_process_counts(bench: Bench, left: Claim) -> None:
    asked = Request("cancel", "somebody", AT, "enough", None, left.fence)
    assert bench.journal.ask("run", asked)
    for word, arguments in (("pause", ()), ("skip", ("one",))):
        with pytest.raises(
            IllegalMove, match=r"cancel was asked of run 'run' before, by somebody at .*enough"
        ):
            getattr(dotflow_like, word)("run", *arguments, storage=bench.storage)
    assert bench.journal.asked("run") == asked
    assert dotflow_like.cancel("run", storage=bench.storage) is True
    assert bench.row().status is RunStatus.CANCELLED
    assert bench.journal.asked("run") is None


def test_a_pause_that_its_dead_process_was_asked_for_is_made(bench: Bench, left: Claim) -> None:
    assert bench.journal.ask("run", Request("pause", "somebody", AT, "lunch", None, left.fence))
    assert dotflow_like.pause("run", storage=bench.storage) is True
    assert bench.row().status is RunStatus.PAUSED
    assert bench.journal.asked("run") is None


def test_a_run_nobody_has_begun_is_cancelled_at_once(bench: Bench) -> None:
    if bench.journal.locks is None:
        pytest.skip("without a lock nobody can tell")
    bench.made(RunStatus.PENDING)
    assert dotflow_like.cancel("run", storage=bench.storage) is True
    assert bench.row().status is RunStatus.CANCELLED


def test_a_run_of_another_machine_is_asked(bench: Bench) -> None:
    bench.owner = "elsewhere:7:token"
    bench.made(RunStatus.RUNNING)
    assert dotflow_like.pause("run", storage=bench.storage) is True
    assert bench.row().status is RunStatus.RUNNING
    asked = bench.journal.asked("run")
    assert asked is not None
    assert asked.signal == "pause"


def test_whoever_has_a_run_that_is_paused_is_waited_for_and_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bench.journal.locks is None:
        pytest.skip("without a lock nobody can tell")
    monkeypatch.setattr(steering, "_PATIENCE", 0.1)
    bench.paused(("one", "paused"))
    lock = bench.journal.locks.take("run", "host:1:resuming")
    try:
        for word in ("cancel", "skip"):
            with pytest.raises(RunInProgress, match="host:1:resuming"):
                getattr(dotflow_like, word)("run", storage=bench.storage)
    finally:
        lock.release()
    assert dotflow_like.skip("run", storage=bench.storage) is True


def test_a_run_that_is_resumed_meanwhile_is_asked(bench: Bench) -> None:
    locks = bench.journal.locks
    if locks is None:
        pytest.skip("without a lock nobody can tell")
    bench.paused(("one", "paused"))
    lock = locks.take("run", "host:1:resuming")
    told: list[bool] = []
    asker = threading.Thread(target=lambda: told.append(dotflow_like.cancel("run", storage=bench.storage)))
    asker.start()
    try:
        claim = bench.journal.claim("run", bench.owner, AT)
        asker.join(30)
        asked = bench.journal.asked("run")
        assert asked is not None
        assert (told, asked.signal, asked.fence) == ([True], "cancel", claim.fence)
    finally:
        lock.release()
        asker.join(30)


def test_steering_neither_counts_nor_forgets_crashes(bench: Bench) -> None:
    if bench.journal.locks is None:
        pytest.skip("without a lock nobody can tell")
    claim = bench.made(RunStatus.RUNNING)
    bench.attempt(claim, "one", AttemptStatus.RUNNING)
    claim = bench.journal.claim("run", bench.owner, AT)
    again = replace(bench.row(), status=RunStatus.PAUSED)
    bench.attempt(claim, "two", AttemptStatus.SCHEDULED)
    assert bench.journal.end(claim, [again])
    assert bench.row().crashes == 1
    assert dotflow_like.skip("run", "one", storage=bench.storage) is True
    assert bench.row().crashes == 1
    assert dotflow_like.skip("run", "two", storage=bench.storage) is True
    assert bench.row().crashes == 1
    assert bench.journal.claim("run", bench.owner, AT).crashes == 1


def test_a_run_that_is_just_being_steered_is_not_asked_but_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "_PATIENCE", 0.1)
    claim = bench.paused(("one", "paused"))
    bench.owner = new_owner("steering-")
    locks = bench.journal.locks
    lock = None if locks is None else locks.take("run", bench.owner)
    claim = bench.journal.claim("run", bench.owner, AT)
    if lock is not None:
        with pytest.raises(RunInProgress, match=f"{bench.owner} has claimed it"):
            dotflow_like.skip("run", "one", storage=bench.storage)
        assert bench.journal.asked("run") is None
        assert bench.row().fence == claim.fence
        lock.release()
    # it has died: without a lock that shows when it does not come to its end
    assert dotflow_like.skip("run", "one", storage=bench.storage) is True
    assert (bench.row().status, bench.row().crashes) == (RunStatus.PAUSED, 0)
    assert bench.last("one").status is AttemptStatus.SKIPPED


# Several at once


def test_of_many_that_skip_the_same_at_once_one_does(bench: Bench) -> None:
    bench.paused(("one", "paused"))

    def skip() -> bool:
        with suppress(IllegalMove, RunInProgress):
            return dotflow_like.skip("run", "one", storage=bench.storage)
        return False

    assert sorted(together(*[skip] * 4)) == [False, False, False, True]
    assert [each.status for each in bench.journal.attempts("run")][1:] == [AttemptStatus.SKIPPED]
    assert bench.row().status is RunStatus.PAUSED


def test_of_many_that_cancel_at_once_one_does(bench: Bench) -> None:
    bench.paused(("one", AttemptStatus.SCHEDULED))

    def cancel() -> bool:
        with suppress(RunInProgress):
            return dotflow_like.cancel("run", storage=bench.storage)
        return False

    assert sorted(together(*[cancel] * 4)) == [False, False, False, True]
    assert bench.row().status is RunStatus.CANCELLED


# Going on


@task
def one(n: int) -> int:
    return n


@task
def pid() -> int:
    return os.getpid()


def test_resume_runs_what_is_missing_with_the_name_the_mode_and_the_params_it_had(bench: Bench) -> None:
    bench.paused(("one", "paused"))
    run = dotflow_like.resume("run", [one, pid], storage=bench.storage)
    assert (run.status, run.workflow_id, run.mode) == (RunStatus.COMPLETED, "run", "sequential")
    assert run.results == {"one": 3, "pid": os.getpid()}
    assert bench.row().workflow == "nightly"
    assert [each.number for each in bench.journal.attempts("run")] == [1, 2, 1]


def test_resume_takes_a_workflow_and_other_options(bench: Bench) -> None:
    bench.paused(("one", "paused"))
    workflow = Workflow([one, pid], name="nightly")
    run = dotflow_like.resume("run", workflow, storage=bench.storage, mode="background", params={"n": 4})
    assert run.wait().mode == "background"
    assert run["one"].result == 4


def test_resume_always_resumes(bench: Bench) -> None:
    bench.paused(("one", "paused"))
    for options in ({"resume": False}, {"workflow_id": "run"}):
        with pytest.raises(TypeError, match="resume"):
            dotflow_like.resume("run", [one], storage=bench.storage, **options)
    assert dotflow_like.resume("run", [one], storage=bench.storage, resume=True).status == "completed"


def test_a_skipped_task_stays_skipped_when_the_run_goes_on(bench: Bench) -> None:
    bench.paused(("one", "paused"))
    assert dotflow_like.skip("run", storage=bench.storage) is True
    run = dotflow_like.resume("run", [one, pid], storage=bench.storage)
    assert (run.status, run["one"].status, run["pid"].status) == ("completed", "skipped", "completed")
    assert len(bench.journal.attempts("run")) == 3
