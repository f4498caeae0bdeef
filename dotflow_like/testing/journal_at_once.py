"""The part of the contract of journals that is about several at once, and the one about any history."""

# the name of a test is what it promises

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count
from random import Random
from threading import Event
from typing import Any, ClassVar

import pytest

from dotflow_like.errors import ClaimLost, IllegalMove
from dotflow_like.model.records import RESULT, Attempt, Checkpoint, Discard, Held, TaskRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus
from dotflow_like.record.journal import Change, Journal, after
from dotflow_like.testing.journal_bench import (
    LARGE,
    LATER,
    Bench,
    attempt,
    exactly,
    loaded,
    run_record,
    together,
)

__all__ = ["AtOnce"]

SCHEDULED, RUNNING, COMPLETED, FAILED, SKIPPED, CANCELLED = AttemptStatus
PATIENCE = 60.0  # seconds until something that has to come is missed


class AtOnce:
    """Tests with several threads and instances; `JournalContract` derives from them."""

    atomic: ClassVar[bool]

    # creating and claiming

    def test_of_many_that_create_a_run_at_once_one_does(self, bench: Bench) -> None:
        for number in range(10):
            made = together(
                *(
                    partial(journal.create, run_record(f"run {number}", params={"by": at}))
                    for at, journal in enumerate(bench.several(8))
                )
            )
            assert sorted(made) == [False] * 7 + [True]
            assert bench.row(f"run {number}").params == {"by": made.index(True)}

    def test_of_many_that_create_with_one_key_at_once_one_does_and_all_find_it(self, bench: Bench) -> None:
        def create(journal: Journal, name: str, key: str) -> tuple[bool, str | None]:
            return journal.create(run_record(name, idempotency_key=key)), journal.find("census", key)

        journals = bench.several(4)
        for number in range(10):
            key = f"key {number}"
            names = [f"{key}, run {at}" for at in range(8)]
            made = together(*(partial(create, journals[at % 4], name, key) for at, name in enumerate(names)))
            winners = [name for name, (won, _) in zip(names, made, strict=True) if won]
            assert len(winners) == 1
            assert {found for _, found in made} == {*winners}
            assert [name for name in names if bench.another().run(name)] == winners

    def test_each_of_many_claims_at_once_has_its_own_fence(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        bench.complete(claim, 1, "done")
        claims = together(
            *(
                partial(journal.claim, "run", f"owner {at}", LATER)
                for at, journal in enumerate(bench.several(8))
            )
        )
        assert sorted(claim.fence for claim in claims) == list(range(2, 10))
        assert bench.row().owner == max(claims, key=lambda claim: claim.fence).owner
        assert {claim.crashes for claim in claims} == {bench.row().crashes} == {1}, "one owner has died"
        assert [each.outcome for each in bench.record().attempts] == [AttemptOutcome.RECOVERED]
        assert bench.value("done") == 1

    # starting

    @pytest.mark.parametrize("scheduled", [False, True], ids=["new", "scheduled"])
    def test_each_of_fifty_attempts_is_started_by_one_of_eight(self, bench: Bench, scheduled: bool) -> None:
        claim, keys = bench.claimed(), [f"task {number}" for number in range(50)]
        if scheduled:
            bench.journal.commit(claim, [attempt(claim, SCHEDULED, key) for key in keys])
        journals = bench.several(4)

        def start_all(me: int) -> list[str]:
            begun = (attempt(claim, RUNNING, key, metadata={"by": me}) for key in keys)
            return [each.task_id for each in begun if journals[me % 4].start(claim, each)]

        won = together(*(partial(start_all, me) for me in range(8)))
        assert sorted(key for each in won for key in each) == sorted(keys)
        for me, of_me in enumerate(won):
            for key in of_me:
                assert bench.record(key).attempts == (attempt(claim, RUNNING, key, metadata={"by": me}),)

    # a former owner

    def test_what_is_committed_while_somebody_claims_is_recorded_or_refused(self, bench: Bench) -> None:
        former, heir = bench.claimed(), bench.another()
        under_way = Event()
        recorded: list[str] = []

        def work() -> None:
            for number in count():
                key = f"task {number}"
                try:
                    bench.journal.commit(former, [attempt(former, RUNNING, key)])
                    bench.journal.commit(former, bench.ended(former, COMPLETED, key))
                except ClaimLost:
                    return
                recorded.append(key)
                if number == 20:
                    under_way.set()

        def take() -> None:
            assert under_way.wait(PATIENCE)
            heir.claim("run", "heir", LATER)

        together(work, take)
        found = bench.another().tasks("run", bench.another().task_keys("run"))
        done = {key for key, record in found.items() if record.attempts[-1].status is COMPLETED}
        assert done == set(recorded), "what was refused is not to be there, and what was not refused is"
        for key in done:
            assert loaded(found[key].checkpoints) == {RESULT: ("done", None, None)}
        for key in found.keys() - done:
            (left,) = found[key].attempts
            assert dict(found[key].checkpoints) == {}
            if self.atomic:
                assert left.outcome in (AttemptOutcome.RECOVERED, AttemptOutcome.DISCARDED)

    def test_nothing_of_the_owner_is_lost_to_what_comes_late(self, bench: Bench) -> None:
        former, keys = bench.claimed(), [f"task {number}" for number in range(40)]
        bench.journal.commit(former, [attempt(former, RUNNING, key) for key in keys])
        heir = bench.another()
        mine = heir.claim("run", "heir", LATER)

        def work() -> None:
            for key in keys:
                heir.commit(mine, [attempt(mine, RUNNING, key, 2)])
                heir.commit(mine, bench.ended(mine, COMPLETED, key, 2))

        def be_late() -> None:
            for key in keys:
                with pytest.raises(ClaimLost):
                    bench.journal.commit(former, bench.ended(former, COMPLETED, key))

        together(work, be_late)
        for key, record in bench.another().tasks("run", keys).items():
            first, second = record.attempts
            assert first.status is FAILED
            assert first.outcome is AttemptOutcome.DISCARDED or not self.atomic
            assert second == attempt(mine, COMPLETED, key, 2)
            assert loaded(record.checkpoints) == {RESULT: ("done", None, None)}

    # readers

    @pytest.mark.parametrize("value", ["small", LARGE], ids=["small", "large"])
    def test_nobody_sees_an_attempt_completed_without_its_result(self, bench: Bench, value: str) -> None:
        claim, keys = bench.claimed(), [f"task {number}" for number in range(40)]
        done = Event()

        def read(journal: Journal, some: Sequence[str]) -> None:
            is_last = False
            while not is_last:
                is_last = done.is_set()
                run = journal.run("run")
                assert run is not None
                assert run.fence == 1
                for record in journal.tasks("run", some).values():
                    (found,) = record.attempts
                    if found.status is COMPLETED:
                        assert list(record.checkpoints) == [RESULT], f"{found.id} has no result"
                        assert record.checkpoints[RESULT].value.load() == value + record.task_id
                for found in journal.attempts("run"):
                    assert found.status in (RUNNING, COMPLETED)
                    assert (found.finished_at is None) == (found.status is RUNNING)

        def write() -> None:
            try:
                for key in keys:
                    bench.complete(claim, value + key, key)
            finally:
                done.set()

        readers = [
            partial(read, journal, keys if at % 2 else keys[:3])
            for at, journal in enumerate(bench.several(4))
        ]
        together(write, *readers)
        assert sorted(bench.another().task_keys("run")) == sorted(keys)

    def test_what_is_committed_together_is_seen_together(self, bench: Bench) -> None:
        if not self.atomic:
            pytest.skip("it writes task by task")
        claim, keys = bench.claimed(), [f"task {number}" for number in range(30)]
        bench.journal.commit(claim, [attempt(claim, RUNNING, key) for key in keys])
        done = Event()

        def read(journal: Journal, some: list[str]) -> None:
            is_last = False
            while not is_last:
                is_last = done.is_set()
                found = journal.tasks("run", some)
                numbers = {record.attempts[-1].number for record in found.values()}
                assert len(numbers) == 1, f"of one commit some is there, and some is not: {numbers}"

        def write() -> None:
            try:
                for number in range(2, 40):
                    bench.journal.commit(
                        claim,
                        [
                            change
                            for key in keys
                            for change in (
                                attempt(claim, FAILED, key, number - 1),
                                attempt(claim, RUNNING, key, number),
                            )
                        ],
                    )
            finally:
                done.set()

        one, two, three = bench.several(3)
        together(write, lambda: read(one, keys), lambda: read(two, keys), lambda: read(three, keys[:4]))

    # any history

    @pytest.mark.parametrize("seed", range(6))
    def test_any_history_reads_back_as_the_rules_say(self, bench: Bench, seed: int) -> None:
        history = _History(bench, seed, atomic=self.atomic)
        for step in range(120):
            history.step()
            if step % 10 == 9:
                history.check()


class _History:
    """Random commits, legal and not, by owners that follow each other; and what they have to come to."""

    def __init__(self, bench: Bench, seed: int, *, atomic: bool) -> None:
        self.random = Random(seed)
        self.bench = bench
        self.atomic = atomic
        self.journals = bench.several(2)
        self.claim = bench.claimed()
        self.records = {key: TaskRecord(key) for key in ("a", "b/c", "d")}

    def step(self) -> None:
        """Claim, or commit changes of one task or of several."""
        if self.random.random() < 0.06:
            self._claim()
            return
        keys = self.random.sample(sorted(self.records), self.random.choice((1, 1, 2, 3)))
        changes = {key: self._changes(self.records[key]) for key in keys}
        sent: list[Change] = [self._sent(each) for of_task in changes.values() for each in of_task]
        journal = self.random.choice(self.journals)
        try:
            legal = {key: after(self.records[key], of_task) for key, of_task in changes.items()}
        except IllegalMove:
            if not self.atomic and len(keys) > 1:
                return  # two instances write under one claim, and this one may not know it before it has begun
            with pytest.raises(IllegalMove):
                journal.commit(self.claim, sent)
        else:
            journal.commit(self.claim, sent)
            self.records |= legal

    def check(self) -> None:
        """Compare all that is recorded with what it has to be."""
        for journal in self.journals:
            found = journal.tasks("run", self.records)
            for key, record in self.records.items():
                if not record.attempts:
                    assert key not in found
                    continue
                assert self._shown(found[key].attempts) == self._shown(record.attempts)
                assert loaded(found[key].checkpoints) == loaded(record.checkpoints)
                assert found[key].generation == record.generation

    def _claim(self) -> None:
        self.claim = self.random.choice(self.journals).claim("run", f"owner {self.claim.fence + 1}", LATER)
        for key, record in self.records.items():
            attempts = tuple(
                each._replace(status=FAILED, outcome=AttemptOutcome.RECOVERED, finished_at=LATER)
                if each.status is RUNNING
                else each
                for each in record.attempts
            )
            self.records[key] = record._replace(attempts=attempts)

    def _changes(self, record: TaskRecord) -> list[Change]:
        """Return the next changes of a task, as a kernel would make them; now and then one that is illegal."""
        key, random = record.task_id, self.random
        last = record.attempts[-1] if record.attempts else None
        number = last.number if last else 0
        if random.random() < 0.1:
            earlier = random.randint(1, number) if number else 1
            return [self._attempt(record, COMPLETED if earlier > number else SCHEDULED, earlier)]
        if last is None or last.status not in (SCHEDULED, RUNNING):
            begun = [self._attempt(record, random.choice((SCHEDULED, RUNNING)), number + 1)]
            if last is not None and (RESULT in record.checkpoints or random.random() < 0.1):
                begun = [each._replace(generation=record.generation + 1) for each in begun]
                return [Discard(key), *begun[: random.randint(0, 1)]]
            return list(begun)
        if last.status is SCHEDULED:
            if random.random() < 0.1:
                anew = self._attempt(record, RUNNING, number)
                return [Discard(key), anew._replace(generation=record.generation + 1)]
            status = random.choice((RUNNING, RUNNING, RUNNING, FAILED, SKIPPED, CANCELLED))
            changes = {} if status is RUNNING else {"started_at": None}
            return [self._attempt(record, status, number, **changes)]
        if random.random() < 0.3:
            value = self._value() if random.random() < 0.8 else None
            return [Checkpoint(key, random.choice(("model", "x/y")), value)]
        status = random.choice((COMPLETED, COMPLETED, FAILED, SKIPPED, CANCELLED))
        ended = self._attempt(record, status, number)
        if status is COMPLETED:
            return [ended, Checkpoint(key, RESULT, self._value(), {"x": key}, random.choice(("1", None)))]
        return [ended] if random.random() < 0.5 else [ended, self._attempt(record, SCHEDULED, number + 1)]

    def _attempt(self, record: TaskRecord, status: AttemptStatus, number: int, **changes: Any) -> Attempt:
        noted = self.random.choice(({}, {}, {"n": self.random.random()}))
        changes |= {"generation": record.generation, "metadata": noted}
        return attempt(self.claim, status, record.task_id, number, **changes)

    def _value(self) -> Held:
        return Held([self.random.random(), LARGE if self.random.random() < 0.1 else ""])

    def _sent(self, change: Change) -> Change:
        if type(change) is Checkpoint and change.value is not None:
            return self.bench.result(change.value.load(), *change[:2], inputs=change.inputs, code=change.code)
        return change

    @staticmethod
    def _shown(attempts: Sequence[Attempt]) -> list[tuple[Any, ...]]:
        # of one that waits, a journal may note the next claim
        return exactly(
            each._replace(owner="", fence=0) if each.status is SCHEDULED else each for each in attempts
        )
