"""What every journal has to do, as tests: the suite an author of one runs."""

# the name of a test is what it promises

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dotflow_like.errors import IllegalMove
from dotflow_like.model.records import RunRecord, TaskError
from dotflow_like.model.status import ATTEMPT_MOVES, AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.journal import Journal
from dotflow_like.testing.journal_at_once import AtOnce
from dotflow_like.testing.journal_bench import (
    AT,
    LARGE,
    LATER,
    ODD_NAMES,
    Bench,
    attempt,
    exactly,
    run_record,
)
from dotflow_like.testing.journal_ownership import Ownership
from dotflow_like.testing.journal_requests import Requests
from dotflow_like.testing.journal_values import Values

__all__ = ["JournalContract"]

SCHEDULED, RUNNING, COMPLETED, FAILED, SKIPPED, CANCELLED = AttemptStatus
ODD_TEXT = "näh \0 \x1b[0m \r\n '\" ; -- 😀 \u2028 \ufeff \ud83d"
"""With half a surrogate pair, as it is in the names of files that are not UTF-8, and so in texts of errors."""

PATHS: list[list[AttemptStatus]] = [
    [],
    [SCHEDULED],
    [RUNNING],
    [SCHEDULED, RUNNING],
    *([RUNNING, end] for end in (COMPLETED, FAILED, SKIPPED, CANCELLED)),
    *([SCHEDULED, end] for end in (FAILED, SKIPPED, CANCELLED)),
]
"""Ways to every status an attempt can have."""


class JournalContract(Values, Ownership, Requests, AtOnce):
    """Tests of the promises in `Journal`; subclass it in a test module and say how a journal is made.

        from dotflow_like.testing import JournalContract

        class TestRedisJournal(JournalContract):
            def make_journal(self, tmp_path):
                return RedisJournal("redis://localhost/15", folder=str(tmp_path))

            def reopen(self, journal):
                return RedisJournal(journal.url, folder=journal.folder)

    The name of the subclass starts with `Test`, so that pytest finds it. What these tests cannot see from within
    one process, an author tests too: several processes at one place, and one killed while it writes.

    Attributes:
        atomic: a commit is one transaction for readers and other owners also where it is about several tasks.
    """

    atomic: ClassVar[bool] = True

    def make_journal(self, tmp_path: Path) -> Journal:
        """Return a new, empty journal; `tmp_path` is a folder of this test alone."""
        raise NotImplementedError("say how your journal is made: override make_journal(self, tmp_path)")

    def reopen(self, journal: Journal) -> Journal | None:
        """Return another instance for the same place, as another process has it; None if an instance is the place."""
        del journal
        return None

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        """The journal under test, with what writes to it."""
        journal = self.make_journal(tmp_path)
        return Bench(journal, lambda: self.reopen(journal))

    # runs

    def test_what_nobody_created_is_not_known(self, bench: Bench) -> None:
        assert bench.journal.run("run") is None
        assert bench.journal.find("census", "key") is None
        bench.claimed()
        assert bench.journal.run("another") is None
        assert bench.journal.find("census", "key") is None

    @pytest.mark.parametrize(
        "run",
        [
            run_record(version=None, params={}),
            run_record(
                "run/1 %",
                workflow="a_b",
                version=ODD_TEXT[:-1],
                params={"when": (AT, {1: b"\0"}), "none": None, "x": 0.1, "": [True, LARGE]},
                mode="parallel",
                idempotency_key="k",
            ),
        ],
        ids=["bare", "full"],
    )
    def test_a_run_reads_back_exactly_as_it_was_created(self, bench: Bench, run: RunRecord) -> None:
        assert bench.journal.create(run) is True
        for journal in (bench.journal, bench.another()):
            assert journal.run(run.workflow_id) == run
            assert journal.task_keys(run.workflow_id) == []
            assert journal.tasks(run.workflow_id, ["task"]) == {}
            assert journal.attempts(run.workflow_id) == []

    @pytest.mark.parametrize("status", RunStatus)
    def test_where_a_run_is_reads_back_exactly_as_its_owner_wrote_it(
        self, bench: Bench, status: RunStatus
    ) -> None:
        claim = bench.claimed(idempotency_key="key")
        run = replace(
            bench.row(),
            mode="parallel",
            status=status,
            reason=ODD_TEXT,
            finished_at=LATER,
            crashes=2,
        )
        bench.journal.commit(claim, [run])
        assert bench.journal.run("run") == bench.row() == run
        bench.journal.commit(claim, [replace(run, reason=None, finished_at=None)])
        assert bench.row() == replace(run, reason=None, finished_at=None)
        assert bench.another().find("census", "key") == "run"

    def test_what_a_run_was_created_with_never_changes(self, bench: Bench) -> None:
        claim = bench.claimed(idempotency_key="key", params={"n": (1, [AT])})
        before = bench.row()
        assert before.params == {"n": (1, [AT])}
        changes: dict[str, Any] = {"workflow": "other", "version": "8", "params": {}, "created_at": LATER}
        changes["idempotency_key"] = "another"
        bench.journal.commit(claim, [replace(before, reason="a change", **changes)])
        assert bench.row() == replace(before, reason="a change")
        assert bench.journal.end(
            claim, [replace(before, status=RunStatus.FAILED, finished_at=LATER, **changes)]
        )
        assert bench.row() == replace(before, status=RunStatus.FAILED, finished_at=LATER)
        assert bench.another().claim("run", "heir", LATER).fence == 2
        assert bench.row().params == {"n": (1, [AT])}
        assert bench.another().find("census", "key") == "run"

    def test_a_run_is_read_with_its_params_or_without(self, bench: Bench) -> None:
        bench.claimed(params={"n": 1})
        for journal in bench.several(2):
            assert journal.run("run", params=False) == replace(bench.row(), params={})
            assert journal.run("run", params=True) == journal.run("run") == bench.row()
            assert journal.run("another", params=False) is None

    def test_a_known_id_is_not_created_again_and_stays_as_it_is(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.complete(claim, 1)
        before = bench.everything()
        for journal in bench.several(2):
            assert journal.create(run_record(workflow="another", idempotency_key="key")) is False
            assert journal.create(run_record(idempotency_key="key")) is False
        assert bench.everything() == before
        assert bench.another().find("census", "key") is None, "nothing is to be changed"
        bench.journal.commit(claim, [attempt(claim, RUNNING, "more")])  # its owner owns it still

    # idempotency keys

    def test_a_workflow_uses_a_key_once(self, bench: Bench) -> None:
        assert bench.journal.create(run_record("one", idempotency_key="key")) is True
        for journal in bench.several(2):
            assert journal.create(run_record("two", idempotency_key="key")) is False
            assert journal.run("two") is None
            assert journal.find("census", "key") == "one"
            assert journal.find("census", "another") is None
        for name, fields in {
            "of another": {"workflow": "other", "idempotency_key": "key"},
            "another": {"idempotency_key": "another"},
            "none": {},
            "none again": {},
        }.items():
            assert bench.journal.create(run_record(name, **fields)) is True, name
        assert bench.another().find("other", "key") == "of another"
        assert bench.another().find("census", "another") == "another"
        assert bench.another().find("census", "key") == "one"

    def test_a_key_is_found_whatever_becomes_of_its_run(self, bench: Bench) -> None:
        claim = bench.claimed(idempotency_key="key")
        bench.complete(claim, 1)
        for status in (RunStatus.FAILED, RunStatus.COMPLETED):
            bench.journal.commit(claim, [replace(bench.row(), status=status, finished_at=LATER)])
            assert bench.another().find("census", "key") == "run"
            claim = bench.another().claim("run", "heir", LATER)
            assert bench.row().idempotency_key == "key"
            assert bench.another().create(run_record("two", idempotency_key="key")) is False

    def test_odd_keys_stay_apart(self, bench: Bench) -> None:
        for workflow in ("census", "a"):
            for number, key in enumerate(ODD_NAMES):
                run = run_record(f"{workflow} {number}", workflow=workflow, idempotency_key=key)
                assert bench.journal.create(run) is True, f"{key!r} is taken for another key"
        other = bench.another()
        for workflow in ("census", "a"):
            for number, key in enumerate(ODD_NAMES):
                assert other.find(workflow, key) == f"{workflow} {number}"
                assert other.run(f"{workflow} {number}") is not None

    # attempts

    @pytest.mark.parametrize(
        "at",
        [
            AT,
            AT.replace(microsecond=0),
            AT.replace(microsecond=1),
            datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
            datetime(2999, 12, 31, 23, 59, 59, 999999, UTC),
            AT.astimezone(timezone(timedelta(hours=-3, minutes=-30))),
        ],
        ids=str,
    )
    def test_times_read_back_to_the_microsecond(self, bench: Bench, at: datetime) -> None:
        claim = bench.claimed(created_at=at)
        tick = timedelta(microseconds=1)
        times: dict[str, Any] = {"scheduled_at": at, "started_at": at + tick, "finished_at": at + 2 * tick}
        bench.journal.commit(claim, [attempt(claim, RUNNING, **(times | {"finished_at": None}))])
        bench.journal.commit(claim, bench.ended(claim, FAILED, **times))
        (found,) = bench.another().attempts("run")
        assert (found.scheduled_at, found.started_at, found.finished_at) == tuple(times.values())
        assert found.scheduled_at.utcoffset() is not None
        assert bench.another().claim("run", "heir", at).fence == 2
        assert (bench.row().created_at, bench.row().started_at) == (at, at)

    @pytest.mark.parametrize("status", [COMPLETED, FAILED, SKIPPED, CANCELLED])
    def test_an_attempt_reads_back_exactly_as_it_was_written(
        self, bench: Bench, status: AttemptStatus
    ) -> None:
        claim = bench.claimed(owner="häst:7:a/b%")
        noted = {"rows": 3, "": {"deep": [1, -2.5e-300, None, True, {"ü": "😀\0"}, 2**70]}, "text": LARGE}
        later: dict[str, Any] = {"metadata": noted, "scheduled_at": AT - timedelta(microseconds=1)}
        error = TaskError(1, "Wörse", ODD_TEXT, f"Traceback: {ODD_TEXT}", ("a.b:Wörse", "builtins.Exception"))
        failed = None if status is COMPLETED else error
        versions = [
            attempt(claim, SCHEDULED, metadata={"planned": [1]}),
            attempt(claim, RUNNING, worker="worker 1", **(later | {"metadata": {}})),
            attempt(claim, status, worker=f"{ODD_TEXT[:-1]} 2", error=failed, **later),
        ]
        for version in versions:
            bench.journal.commit(
                claim, [version, bench.result(1)] if version.status is COMPLETED else [version]
            )
            for journal in (bench.journal, bench.another()):
                for found in (
                    journal.attempts("run"),
                    list(journal.tasks("run", ["task"])["task"].attempts),
                ):
                    assert exactly(found) == exactly([version])
                    assert repr(found[0].metadata) == repr(version.metadata)  # True is not 1
        (found_last,) = bench.another().attempts("run")
        assert (found_last.id, found_last.idempotency_key) == ("run/task/1", "run/task/g1")
        assert isinstance(found_last.status, AttemptStatus)
        assert isinstance(found_last.outcome, AttemptOutcome)

    @pytest.mark.parametrize("outcome", AttemptOutcome)
    def test_every_outcome_is_kept(self, bench: Bench, outcome: AttemptOutcome) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        status = COMPLETED if outcome is AttemptOutcome.SUCCESS else FAILED
        bench.journal.commit(claim, bench.ended(claim, status, outcome=outcome))
        assert [each.outcome for each in bench.another().attempts("run")] == [outcome]

    @pytest.mark.parametrize("path", PATHS, ids=lambda path: "-".join(path) or "none")
    def test_an_attempt_moves_as_the_table_says_and_not_otherwise(
        self, bench: Bench, path: list[AttemptStatus]
    ) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING, key) for key in ("first", "second", "last")])
        for wanted in AttemptStatus:
            key = str(wanted)
            for at, status in enumerate(path):
                begun: dict[str, Any] = {} if RUNNING in path[: at + 1] else {"started_at": None}
                bench.journal.commit(claim, bench.ended(claim, status, key, **begun))
            before = bench.everything()
            move = bench.ended(claim, wanted, key)
            if wanted in ATTEMPT_MOVES[path[-1] if path else None]:
                bench.journal.commit(claim, move)
                assert bench.record(key).attempts[-1] == move[0]
                assert bench.everything(journal=bench.journal) == bench.everything()
                continue
            of_others = [
                *bench.ended(claim, COMPLETED, "first"),
                *bench.ended(claim, FAILED, "second"),
                *move,
                *bench.ended(claim, COMPLETED, "last"),
                attempt(claim, RUNNING, "new"),
                replace(bench.row(), status=RunStatus.FAILED),
            ]
            for changes in (move, move[::-1], of_others, of_others[::-1]):
                with pytest.raises(IllegalMove, match=f"run/{key}/1"):
                    bench.journal.commit(claim, changes)
                assert bench.everything() == before
                assert bench.everything(journal=bench.journal) == before

    def test_an_earlier_attempt_stays_as_it_ended(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        bench.journal.commit(claim, [attempt(claim, FAILED), attempt(claim, RUNNING, number=2)])
        before = bench.everything()
        for status in AttemptStatus:
            with pytest.raises(IllegalMove):
                bench.journal.commit(claim, bench.ended(claim, status))
        assert bench.everything() == before

    def test_the_moves_of_one_commit_build_on_each_other(self, bench: Bench) -> None:
        claim = bench.claimed()
        moves = [attempt(claim, status) for status in (SCHEDULED, RUNNING, FAILED)]
        again = attempt(claim, RUNNING, number=2)
        bench.journal.commit(claim, [*moves, again])
        assert bench.another().attempts("run") == [moves[-1], again]
        before = bench.everything()
        with pytest.raises(IllegalMove):
            bench.journal.commit(
                claim, [*bench.ended(claim, SKIPPED, number=2), *bench.ended(claim, FAILED, number=2)]
            )
        assert bench.everything() == before == bench.everything(journal=bench.journal)

    def test_an_empty_commit_writes_nothing(self, bench: Bench) -> None:
        claim = bench.claimed()
        before = bench.everything()
        bench.journal.commit(claim, [])
        assert bench.everything() == before
