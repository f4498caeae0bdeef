"""The part of the contract of journals that is about what is asked of a run, and about its end."""

# the name of a test is what it promises

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta, timezone
from functools import partial
from itertools import count
from threading import Event
from typing import Any

import pytest

from dotflow_like.errors import ClaimLost, IllegalMove
from dotflow_like.model.records import Request
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.journal import OPEN, Claim, Journal
from dotflow_like.testing.journal_bench import AT, LATER, Bench, attempt, run_record, together

__all__ = ["Requests"]

SCHEDULED, RUNNING, COMPLETED, FAILED, SKIPPED, CANCELLED = AttemptStatus
ENDED = [each for each in RunStatus if each not in OPEN]
ROUNDS = 25
"""How often a race is run."""


def pause(**fields: Any) -> Request:
    usual: dict[str, Any] = {"signal": "pause", "by": "host:7:token", "at": AT}
    return Request(**(usual | fields))


def cancel(**fields: Any) -> Request:
    return pause(**({"signal": "cancel"} | fields))


class Requests:
    """Tests of requests and of the end of a run; `JournalContract` derives from them."""

    # one request

    def test_a_run_has_one_request_at_a_time(self, bench: Bench) -> None:
        bench.claimed()
        one, two = bench.several(2)
        assert one.asked("run") is two.asked("run") is None
        assert one.ask("run", pause()) is True
        assert one.asked("run") == two.asked("run") == pause()
        for request in (pause(), cancel(), pause(task_id="task")):
            assert two.ask("run", request) is False
        assert one.asked("run") == two.asked("run") == pause()

    def test_what_nobody_created_was_asked_nothing(self, bench: Bench) -> None:
        assert bench.journal.asked("run") is None
        bench.claimed()
        assert bench.another().asked("another") is None

    def test_runs_are_asked_one_by_one(self, bench: Bench) -> None:
        for name in ("run", "run/1", "run%2F1"):
            bench.claimed(name)
        assert bench.journal.ask("run/1", pause()) is True
        assert [bench.another().asked(name) for name in ("run", "run/1", "run%2F1")] == [None, pause(), None]

    @pytest.mark.parametrize(
        "request_",
        [
            pause(),
            pause(reason="näh \0 \r\n '\" ; -- 😀 \ud83d", task_id="a/b[0] %", fence=7, by="häst:1:/%"),
            cancel(reason="", at=AT.replace(microsecond=0)),
            cancel(at=AT.astimezone(timezone(timedelta(hours=-3, minutes=-30)))),
            Request("skip", "", AT, None, ""),
        ],
        ids=["bare", "full", "cancel", "elsewhere", "empty"],
    )
    def test_a_request_reads_back_exactly(self, bench: Bench, request_: Request) -> None:
        claim = bench.claimed()
        assert bench.journal.ask("run", request_) is True
        for journal in (bench.journal, bench.another()):
            found = journal.asked("run")
            assert found == request_
            assert found is not None
            assert found.at.utcoffset() == request_.at.utcoffset()
        assert bench.another().ask("run", cancel(reason="instead"), request_) is True
        assert bench.journal.ask("run", request_, cancel(reason="instead")) is True
        assert bench.another().answer(claim, request_) is True
        assert bench.journal.asked("run") is None

    def test_a_request_takes_the_place_of_the_one_it_names_and_of_no_other(self, bench: Bench) -> None:
        bench.claimed()
        assert bench.journal.ask("run", cancel(), pause()) is False, "nothing waits"
        assert bench.journal.asked("run") is None
        assert bench.journal.ask("run", pause()) is True
        others: list[dict[str, Any]] = [
            {"signal": "skip"},
            {"by": "another"},
            {"at": LATER},
            {"reason": ""},
            {"task_id": ""},
            {"fence": 1},
        ]
        for other in others:
            assert bench.another().ask("run", cancel(), pause(**other)) is False, other
        assert bench.another().ask("run", cancel(), pause()) is True
        assert bench.journal.asked("run") == cancel()

    def test_a_request_changes_nothing_else(self, bench: Bench) -> None:
        claim = bench.claimed(params={"n": 1}, idempotency_key="key")
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        before = bench.everything()
        assert bench.another().ask("run", pause()) is True
        assert bench.everything() == bench.everything(journal=bench.journal) == before
        assert bench.journal.find("census", "key") == "run"
        bench.journal.commit(claim, bench.ended(claim, COMPLETED))
        bench.journal.commit(claim, [replace(bench.row(), reason="so")])
        assert bench.another().asked("run") == pause(), "its owner goes on, and answers it in its time"

    # when

    @pytest.mark.parametrize("status", RunStatus)
    @pytest.mark.parametrize("by", ["commit", "end"])
    def test_only_a_run_that_has_not_ended_is_asked(self, bench: Bench, status: RunStatus, by: str) -> None:
        if status in OPEN and by == "end":
            pytest.skip("that is no end")
        claim = bench.claimed()
        row = replace(bench.row(), status=status)
        if by == "commit":
            bench.journal.commit(claim, [row])
        else:
            assert bench.journal.end(claim, [row]) is True
        before = bench.everything()
        for journal in bench.several(2):
            asked = journal.asked("run")
            assert journal.ask("run", pause(), asked) is (status in OPEN)
        assert bench.another().asked("run") == (pause() if status in OPEN else None)
        assert bench.everything() == before
        heir = bench.another().claim("run", "heir", LATER)
        waiting = bench.journal.asked("run")
        assert bench.journal.ask("run", cancel(), waiting) is True, (
            "it has been claimed, and can be asked again"
        )
        assert bench.another().answer(heir, cancel()) is True

    def test_a_run_is_asked_before_anybody_has_claimed_it(self, bench: Bench) -> None:
        assert bench.journal.create(run_record())
        assert bench.another().ask("run", cancel()) is True
        claim = bench.journal.claim("run", "me", AT)
        assert bench.journal.asked("run") == cancel()
        assert bench.journal.end(claim, [replace(bench.row(), status=RunStatus.CANCELLED)]) is False

    def test_what_was_asked_of_a_dead_owner_waits_for_the_next_one(self, bench: Bench) -> None:
        bench.claimed()
        assert bench.journal.ask("run", cancel(fence=1)) is True
        bench.another().claim("run", "heir", LATER)
        assert bench.another().asked("run") == cancel(fence=1)
        mine = bench.another().claim("run", "another heir", LATER)
        assert bench.another().asked("run") == cancel(fence=1)
        assert bench.journal.answer(mine, cancel(fence=1)) is True

    @pytest.mark.parametrize("status", ENDED)
    def test_what_was_asked_of_a_run_that_has_ended_is_forgotten_when_it_is_claimed(
        self, bench: Bench, status: RunStatus
    ) -> None:
        claim = bench.claimed()
        assert bench.journal.ask("run", cancel()) is True
        bench.journal.commit(claim, [replace(bench.row(), status=status)])
        bench.another().claim("run", "heir", LATER)
        assert bench.journal.asked("run") is None

    # answers

    def test_an_answer_takes_away_the_request_it_is_to_and_no_other(self, bench: Bench) -> None:
        claim = bench.claimed()
        assert bench.journal.answer(claim, pause()) is False, "nothing waits"
        assert bench.journal.ask("run", pause()) is True
        assert bench.journal.answer(claim, pause(reason="")) is False
        assert bench.another().asked("run") == pause()
        assert bench.journal.answer(claim, pause()) is True
        assert bench.another().asked("run") is None
        assert bench.journal.answer(claim, pause()) is False
        assert bench.another().ask("run", cancel()) is True

    def test_a_former_owner_answers_nothing(self, bench: Bench) -> None:
        former = bench.claimed()
        assert bench.journal.ask("run", pause()) is True
        bench.another().claim("run", "heir", LATER)
        with pytest.raises(ClaimLost, match="taken over by heir"):
            bench.journal.answer(former, pause())
        assert bench.journal.asked("run") == pause()

    # the end

    @pytest.mark.parametrize("status", ENDED)
    def test_the_end_of_a_run_is_written_with_all_that_belongs_to_it(
        self, bench: Bench, status: RunStatus
    ) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING), attempt(claim, RUNNING, "other")])
        row = replace(bench.row(), status=status, reason="so", finished_at=LATER)
        changes = [*bench.ended(claim, COMPLETED), *bench.ended(claim, CANCELLED, "other"), row]
        assert bench.journal.end(claim, changes) is True
        assert bench.row() == bench.journal.run("run") == row
        assert bench.record().attempts == (attempt(claim, COMPLETED),)
        assert bench.record("other").attempts == (attempt(claim, CANCELLED, "other"),)
        assert bench.value() == "done"

    @pytest.mark.parametrize(
        "answered", [None, cancel(), pause(reason="")], ids=["none", "cancel", "like it"]
    )
    def test_a_run_does_not_end_before_it_has_seen_what_is_asked(
        self, bench: Bench, answered: Request | None
    ) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        assert bench.another().ask("run", pause()) is True
        before = bench.everything()
        row = replace(bench.row(), status=RunStatus.COMPLETED, finished_at=LATER)
        for changes in ([row], [*bench.ended(claim, COMPLETED), row]):
            assert bench.journal.end(claim, changes, answered) is False
            assert bench.everything() == bench.everything(journal=bench.journal) == before
            assert bench.another().asked("run") == pause()
        assert bench.another().ask("run", cancel(), pause()) is True, "it goes on, and can be asked"
        assert bench.journal.end(claim, [*bench.ended(claim, COMPLETED), row], cancel()) is True

    @pytest.mark.parametrize("alone", [True, False], ids=["alone", "with a task"])
    def test_the_end_answers_what_led_to_it(self, bench: Bench, alone: bool) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        assert bench.another().ask("run", pause()) is True
        row = replace(bench.row(), status=RunStatus.PAUSED, finished_at=LATER)
        changes = [row] if alone else [*bench.ended(claim, CANCELLED), row]
        assert bench.journal.end(claim, changes, pause()) is True
        for journal in bench.several(2):
            assert journal.asked("run") is None
            assert journal.ask("run", pause()) is False
            assert journal.run("run") == row
        bench.another().claim("run", "heir", LATER)
        assert bench.journal.asked("run") is None

    def test_what_was_answered_before_need_not_wait_any_more(self, bench: Bench) -> None:
        claim = bench.claimed()
        row = replace(bench.row(), status=RunStatus.CANCELLED)
        assert bench.journal.end(claim, [row], cancel()) is True
        assert bench.row() == row

    @pytest.mark.parametrize("waits", [True, False], ids=["something waits", "nothing waits"])
    def test_a_former_owner_ends_nothing(self, bench: Bench, waits: bool) -> None:
        former = bench.claimed()
        bench.journal.commit(former, [attempt(former, RUNNING)])
        if waits:
            assert bench.journal.ask("run", pause()) is True
        mine = bench.another().claim("run", "heir", LATER)
        row = bench.row()
        ended = replace(row, status=RunStatus.COMPLETED, finished_at=LATER, owner="me", fence=1)
        for answered in (None, pause()):
            for changes in ([ended], [*bench.ended(former, COMPLETED), ended]):
                with pytest.raises(ClaimLost, match="taken over by heir"):
                    bench.journal.end(former, changes, answered)
                assert bench.row() == row
                assert bench.another().asked("run") == (pause() if waits else None)
        (late,) = bench.record().attempts
        assert late.outcome is AttemptOutcome.DISCARDED
        assert bench.journal.ask("run", cancel(), pause() if waits else None) is True
        assert bench.another().answer(mine, cancel()) is True

    def test_an_end_that_is_not_legal_changes_nothing(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.complete(claim, 1)
        before = bench.everything()
        row = replace(bench.row(), status=RunStatus.COMPLETED)
        with pytest.raises(IllegalMove):
            bench.journal.end(claim, [attempt(claim, FAILED), row])
        assert bench.everything() == before
        assert bench.another().ask("run", pause()) is True, "it has not ended"
        assert bench.journal.end(claim, [attempt(claim, RUNNING, "more"), row], pause()) is True

    # at once

    def test_of_many_that_ask_at_once_one_is_heard(self, bench: Bench) -> None:
        journals = bench.several(4)
        for number in range(ROUNDS):
            run = f"run {number}"
            bench.claimed(run)
            requests = [pause(by=f"asker {at}") for at in range(8)]
            asks = (partial(journals[at % 4].ask, run, request) for at, request in enumerate(requests))
            won = together(*asks)
            assert sorted(won) == [False] * 7 + [True]
            assert bench.another().asked(run) == requests[won.index(True)]

    def test_of_many_that_take_its_place_at_once_one_does(self, bench: Bench) -> None:
        journals = bench.several(4)
        for number in range(ROUNDS):
            run = f"run {number}"
            bench.claimed(run)
            assert bench.journal.ask(run, pause()) is True
            requests = [cancel(by=f"asker {at}") for at in range(8)]
            asks = (
                partial(journals[at % 4].ask, run, request, pause()) for at, request in enumerate(requests)
            )
            won = together(*asks)
            assert sorted(won) == [False] * 7 + [True]
            assert bench.another().asked(run) == requests[won.index(True)]

    @pytest.mark.parametrize("alone", [True, False], ids=["alone", "with a task"])
    def test_what_is_asked_while_the_run_ends_is_seen_or_refused(self, bench: Bench, alone: bool) -> None:
        askers = bench.several(4)[1:]
        for number in range(ROUNDS):
            run = f"run {number}"
            claim = bench.claimed(run)
            bench.journal.commit(claim, [attempt(claim, RUNNING)])
            row = replace(bench.row(run), status=RunStatus.COMPLETED, finished_at=LATER)
            changes = [row] if alone else [*bench.ended(claim, COMPLETED), row]
            calls = [partial(journal.ask, run, pause(by=f"asker {at}")) for at, journal in enumerate(askers)]
            calls.insert(number % 4, partial(bench.journal.end, claim, changes))  # the last one goes first
            heard = list(together(*calls))
            ended = heard.pop(number % 4)
            assert [ended, *heard].count(True) == 1, "it ends, or is asked; never both, and never neither"
            waiting = bench.another().asked(run)
            if ended:
                assert waiting is None
                assert bench.row(run) == row
                continue
            assert waiting == pause(by=f"asker {heard.index(True)}")
            assert bench.row(run).status is RunStatus.RUNNING
            assert bench.journal.end(claim, changes, waiting) is True

    def test_nobody_is_in_the_way_of_an_owner_at_work(self, bench: Bench) -> None:
        claim, done = bench.claimed(), Event()

        def work() -> None:
            try:
                for number in range(60):
                    key = f"task {number}"
                    bench.journal.commit(claim, [attempt(claim, RUNNING, key)])
                    waiting = bench.journal.asked("run")
                    if waiting is not None:
                        bench.journal.answer(claim, waiting)
                    bench.journal.commit(claim, bench.ended(claim, COMPLETED, key))
            finally:
                done.set()

        heard: list[Request] = []

        def ask(journal: Journal, me: int) -> None:
            for number in count():
                if done.is_set():
                    return
                request = pause(by=f"asker {me}", reason=str(number))
                if journal.ask("run", request):
                    heard.append(request)

        journals = bench.several(3)[1:]
        together(work, *(partial(ask, journal, me) for me, journal in enumerate(journals)))
        assert len(bench.another().task_keys("run")) == 60
        assert bench.row().fence == 1
        waiting = bench.another().asked("run")
        assert waiting is None or waiting in heard

    def test_a_request_survives_every_claim_that_is_made_at_the_same_time(self, bench: Bench) -> None:
        for number in range(ROUNDS):
            run = f"run {number}"
            bench.claimed(run)

            def claim(journal: Journal, run: str = run) -> bool | Claim:
                return journal.claim(run, "heir", LATER)

            def ask(journal: Journal, run: str = run) -> bool | Claim:
                return journal.ask(run, cancel())

            one, two, three = bench.several(3)
            made: Sequence[bool | Claim] = together(
                partial(claim, one), partial(ask, two), partial(claim, three)
            )
            assert made[1] is True
            assert bench.another().asked(run) == cancel()
            assert bench.row(run).fence == 3
