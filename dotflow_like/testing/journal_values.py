"""The part of the contract of journals that is about values: checkpoints, generations, names and sizes."""

# the name of a test is what it promises

from __future__ import annotations

import pickle
from typing import Any

import pytest

from dotflow_like.errors import ClaimLost, IllegalMove
from dotflow_like.model.records import RESULT, Checkpoint, Discard
from dotflow_like.model.status import AttemptOutcome, AttemptStatus
from dotflow_like.testing.journal_bench import AT, LARGE, ODD_NAMES, Bench, attempt, exactly, loaded

__all__ = ["Values"]

SCHEDULED, RUNNING, COMPLETED, FAILED, SKIPPED, CANCELLED = AttemptStatus
ANSWERS = [None, False, 0, "", [], {}, [1, 2, 3], (1, (2,)), {1: "x"}, b"\0\n$", AT, "a\0😀", LARGE]


class Values:
    """Tests of what a journal does with values; `JournalContract` derives from them."""

    # checkpoints

    @pytest.mark.parametrize("value", ANSWERS, ids=lambda value: f"{value!r}"[:12])
    def test_a_result_reads_back_equal_and_of_its_type(self, bench: Bench, value: Any) -> None:
        claim = bench.claimed()
        bench.complete(claim, value)
        for journal in (bench.journal, bench.another()):
            record = journal.tasks("run", ["task"])["task"]
            for reference in (record.checkpoints[RESULT].value, journal.reference("run", "task", RESULT)):
                for _ in range(2):  # as often as one likes
                    found = reference.load()
                    assert found == value
                    assert type(found) is type(value)

    def test_a_result_of_many_megabytes_is_kept(self, bench: Bench) -> None:
        claim = bench.claimed()
        value = {"text": "né" * 4_000_000, "bytes": bytes(range(256)) * 20_000}
        bench.complete(claim, value)
        assert bench.value() == value

    @pytest.mark.parametrize("value", ["small", LARGE], ids=["small", "large"])
    def test_a_reference_to_bytes_takes_them_along_to_another_process(self, bench: Bench, value: str) -> None:
        if bench.journal.codec is None:
            pytest.skip("it keeps objects")
        claim = bench.claimed()
        bench.complete(claim, value)
        sent = pickle.dumps(bench.journal.reference("run", "task", RESULT))
        bench.journal.commit(claim, [Discard("task")])
        assert pickle.loads(sent).load() == value

    def test_an_attempt_without_a_result_has_no_checkpoint(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        assert dict(bench.record().checkpoints) == {}
        bench.journal.commit(claim, [attempt(claim, FAILED)])
        assert dict(bench.record().checkpoints) == {}

    def test_fingerprints_lie_beside_a_result(self, bench: Bench) -> None:
        claim = bench.claimed()
        kinds: dict[str, dict[str, Any]] = {
            "both": {"inputs": {"b": "2", "a": "1", "ü/%": ""}, "code": "c0de"},
            "inputs": {"inputs": {}, "code": None},
            "code": {"inputs": None, "code": ""},
            "none": {},
        }
        for key, kind in kinds.items():
            bench.journal.commit(claim, [attempt(claim, RUNNING, key)])
            bench.journal.commit(claim, [attempt(claim, COMPLETED, key), bench.result(key, key, **kind)])
        found = bench.another().tasks("run", kinds)
        for key, kind in kinds.items():
            told = {RESULT: (key, kind.get("inputs"), kind.get("code"))}
            assert loaded(found[key].checkpoints) == told

    def test_named_checkpoints_lie_beside_the_result(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        values = {name: [name, LARGE if name == "a/b" else ""] for name in ODD_NAMES}
        named = [bench.result(value, name=name) for name, value in values.items()]
        bench.journal.commit(claim, [named[0]])
        assert bench.value(name=ODD_NAMES[0]) == values[ODD_NAMES[0]]  # while the attempt runs
        bench.journal.commit(claim, [*bench.ended(claim, COMPLETED), *named[1:]])
        found = {name: each.value.load() for name, each in bench.record().checkpoints.items()}
        assert found == values | {RESULT: "done"}

    def test_a_task_may_have_many_checkpoints(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        for at in range(0, 300, 50):
            bench.journal.commit(claim, [bench.result(n, name=f"step {n}") for n in range(at, at + 50)])
        values = {name: each.value.load() for name, each in bench.record().checkpoints.items()}
        assert values == {f"step {n}": n for n in range(300)}

    def test_a_checkpoint_may_be_replaced_while_its_attempt_runs(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        for value in ("small", LARGE, LARGE + "r", LARGE, "small again"):
            bench.journal.commit(claim, [bench.result(value, name="model", code=value[-3:])])
            assert loaded(bench.record().checkpoints) == {"model": (value, None, value[-3:])}

    def test_a_named_checkpoint_outlives_the_attempt_that_saved_it(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        bench.journal.commit(claim, [bench.result(LARGE, name="model")])
        bench.journal.commit(claim, [attempt(claim, FAILED), attempt(claim, RUNNING, number=2)])
        assert bench.value(name="model") == LARGE
        bench.journal.commit(claim, [attempt(claim, COMPLETED, number=2), bench.result(LARGE[::-1] + "r")])
        assert bench.value(name="model") == LARGE
        assert bench.value() == LARGE[::-1] + "r"

    def test_a_checkpoint_without_a_value_drops_it(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING), attempt(claim, RUNNING, "other")])
        names = ["small", "large", "none", "a/b", "stays"]
        for key in ("task", "other"):
            values = [bench.result(LARGE if name == "large" else None, key, name) for name in names]
            bench.journal.commit(claim, values)
        for number, name in enumerate(names[:-1]):
            bench.journal.commit(claim, [Checkpoint("task", name, None)])
            for journal in (bench.journal, bench.another()):
                found = journal.tasks("run", ["task"])["task"]
                assert sorted(found.checkpoints) == sorted(names[number + 1 :])
        bench.journal.commit(claim, [Checkpoint("task", "small", None)])  # it is gone already
        bench.journal.commit(claim, [Checkpoint("task", "never there", None)])
        assert loaded(bench.record().checkpoints) == {"stays": (None, None, None)}, "None is a value, too"
        assert sorted(bench.record("other").checkpoints) == sorted(names)
        bench.journal.commit(claim, [*bench.ended(claim, COMPLETED), Checkpoint("task", "stays", None)])
        assert loaded(bench.record().checkpoints) == {RESULT: ("done", None, None)}

    def test_what_was_dropped_can_be_saved_anew(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        for value in ("one", LARGE, LARGE, "two"):
            saved = bench.result(value, name="cursor")
            bench.journal.commit(claim, [saved, Checkpoint("task", "cursor", None), saved])
            assert bench.value(name="cursor") == value
            bench.journal.commit(claim, [saved, Checkpoint("task", "cursor", None)])
            assert dict(bench.record().checkpoints) == {}

    def test_what_is_saved_lazily_is_there_at_once_and_refused_as_anything_else(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING)], lazily=True)
        for number in range(20):
            bench.journal.commit(claim, [bench.result(number, name="cursor")], lazily=True)
            assert bench.value(name="cursor") == number
            bench.journal.commit(claim, [bench.result(number, name="step")])
        with pytest.raises(IllegalMove):
            bench.journal.commit(claim, [attempt(claim, SCHEDULED)], lazily=True)
        bench.another().claim("run", "heir", AT)
        with pytest.raises(ClaimLost):
            bench.journal.commit(claim, [bench.result("late", name="cursor")], lazily=True)
        assert bench.value(name="cursor") == bench.value(name="step") == 19

    # generations

    @pytest.mark.parametrize("value", ["small", LARGE], ids=["small", "large"])
    def test_discarding_drops_every_checkpoint_and_begins_a_generation(
        self, bench: Bench, value: str
    ) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING), bench.result(value, name="model")])
        bench.journal.commit(claim, [attempt(claim, COMPLETED), bench.result(value)])
        bench.complete(claim, "kept", "other")
        bench.journal.commit(claim, [Discard("task")])
        record = bench.record()
        assert (record.generation, dict(record.checkpoints)) == (2, {})
        assert record.attempts == (attempt(claim, COMPLETED),)
        assert (bench.record("other").generation, bench.value("other")) == (1, "kept")

        again = attempt(claim, RUNNING, number=2, generation=2)
        bench.journal.commit(claim, [again])
        assert bench.record().generation == 2
        closed = attempt(claim, COMPLETED, number=2, generation=2)
        bench.journal.commit(claim, [closed, bench.result(value + "anew")])
        record = bench.record()
        assert record.generation == 2
        assert record.attempts == (attempt(claim, COMPLETED), closed)
        assert [each.idempotency_key for each in record.attempts] == ["run/task/g1", "run/task/g2"]
        assert loaded(record.checkpoints) == {RESULT: (value + "anew", None, None)}

    def test_a_task_may_be_discarded_again_and_again(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.complete(claim, 1)
        for generation in (2, 3, 4):
            bench.journal.commit(claim, [Discard("task")])
            assert bench.record().generation == generation
        bench.journal.commit(claim, [Discard("task"), Discard("task")])
        assert bench.record().generation == 6
        bench.journal.commit(claim, [attempt(claim, RUNNING, number=2, generation=6)])
        assert bench.record().generation == 6
        bench.journal.commit(claim, [attempt(claim, FAILED, number=2, generation=6), Discard("task")])
        assert bench.record().generation == 7

    def test_an_attempt_that_waits_may_begin_in_the_next_generation(self, bench: Bench) -> None:
        claim = bench.claimed()
        retried = attempt(claim, FAILED, outcome=AttemptOutcome.RETRIED)
        bench.journal.commit(claim, [attempt(claim, RUNNING)])
        bench.journal.commit(claim, [retried, attempt(claim, SCHEDULED, number=2)])
        bench.journal.commit(claim, [Discard("task")])
        assert bench.record().generation == 2
        begun = attempt(claim, RUNNING, number=2, generation=2)
        bench.journal.commit(claim, [begun])
        assert bench.record().generation == 2
        assert bench.record().attempts == (retried, begun)
        closed = attempt(claim, COMPLETED, number=2, generation=2)
        bench.journal.commit(claim, [closed, bench.result("anew")])
        record = bench.record()
        assert (record.generation, record.attempts) == (2, (retried, closed))
        assert bench.value() == "anew"

    def test_the_changes_of_one_commit_are_made_in_order(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.complete(claim, LARGE)
        begun = attempt(claim, RUNNING, number=2, generation=2)
        bench.journal.commit(claim, [bench.result(1, name="old"), Discard("task"), begun])
        assert bench.record().attempts == (attempt(claim, COMPLETED), begun)
        assert dict(bench.record().checkpoints) == {}
        bench.journal.commit(claim, [bench.result(1, name="model"), bench.result(2, name="model")])
        assert bench.value(name="model") == 2
        bench.journal.commit(claim, [attempt(claim, FAILED, number=2, generation=2)])
        bench.journal.commit(claim, [Discard("task"), bench.result(3, name="model")])
        assert loaded(bench.record().checkpoints) == {"model": (3, None, None)}
        assert bench.record().generation == 3

    # names

    def test_odd_names_of_tasks_stay_apart(self, bench: Bench) -> None:
        claim = bench.claimed()
        for key in ODD_NAMES:
            bench.complete(claim, [key], key)
            bench.journal.commit(claim, [bench.result(LARGE + key, key, "large")])
        other = bench.another()
        assert sorted(other.task_keys("run")) == sorted(ODD_NAMES)
        records = other.tasks("run", [*ODD_NAMES, "unknown"])
        assert sorted(records) == sorted(ODD_NAMES)
        for key, record in records.items():
            assert record.task_id == key
            assert record.checkpoints[RESULT].value.load() == [key]
            assert record.checkpoints["large"].value.load() == LARGE + key
        assert [each.task_id for each in other.attempts("run")] == sorted(ODD_NAMES)
        bench.journal.commit(claim, [Discard("a")])
        kept = {key for key, record in other.tasks("run", ODD_NAMES).items() if record.checkpoints}
        assert kept == {*ODD_NAMES} - {"a"}

    def test_odd_names_of_runs_stay_apart(self, bench: Bench) -> None:
        names = [name for name in ODD_NAMES if name]  # a run has a name
        for name in names:
            bench.complete(bench.claimed(name), name)
        for name in names:
            assert bench.row(name).workflow_id == name
            assert bench.another().task_keys(name) == ["task"]
            assert bench.value(workflow_id=name) == name
            assert bench.record(workflow_id=name).attempts[0].workflow_id == name

    # sizes

    def test_attempts_come_task_by_task_in_the_order_of_their_keys(self, bench: Bench) -> None:
        claim = bench.claimed()
        bench.journal.commit(claim, [attempt(claim, RUNNING, key) for key in ("b", "c", "B", "a")])
        for number in range(2, 13):
            of_all = [
                change
                for key in ("c", "a")
                for change in (
                    attempt(claim, FAILED, key, number - 1),
                    attempt(claim, RUNNING, key, number),
                )
            ]
            bench.journal.commit(claim, of_all)
        found = [(each.task_id, each.number) for each in bench.another().attempts("run")]
        many = range(1, 13)
        assert found == [("B", 1), *(("a", n) for n in many), ("b", 1), *(("c", n) for n in many)]

    def test_two_thousand_tasks_read_at_once_as_they_do_one_by_one(self, bench: Bench) -> None:
        claim = bench.claimed()
        keys = [f"task[{number}]" for number in range(2000)]
        ends = {key: (COMPLETED, FAILED, SKIPPED, RUNNING)[at % 4] for at, key in enumerate(keys)}
        bench.journal.commit(claim, [attempt(claim, RUNNING, key) for key in keys])
        bench.journal.commit(
            claim,
            [
                change
                for key, end in ends.items()
                if end is not RUNNING
                for change in bench.ended(claim, end, key, worker=key)
            ],
        )
        other = bench.another()
        assert sorted(other.task_keys("run")) == sorted(keys)
        found = other.tasks("run", (key for key in [*keys, *(f"unknown {n}" for n in range(2000))]))
        assert sorted(found) == sorted(keys)
        for key in keys:
            (one,) = other.tasks("run", [key]).values()
            assert exactly(one.attempts) == exactly(found[key].attempts)
            assert loaded(one.checkpoints) == loaded(found[key].checkpoints)
            assert (one.task_id, one.attempts[0].status) == (key, ends[key])
        for some in (keys[:5], keys[::-40], keys[:300:3]):
            assert sorted(other.tasks("run", some)) == sorted(some)
        assert [each.task_id for each in other.attempts("run")] == sorted(keys)
