"""Every journal keeps the contract of `Journal`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow_like.errors import ClaimLost, IllegalMove
from dotflow_like.model.records import RESULT, Attempt, Checkpoint, Discard, Held, RunRecord, TaskError
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Claim, Encoded, Journal, MemoryJournal
from dotflow_like.record.keyvalue import INLINE, KeyValueJournal
from dotflow_like.record.storage.base import Storage
from dotflow_like.record.storage.files import FileStorage
from dotflow_like.record.storage.memory import MemoryStorage

START = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
LARGE = "x" * (INLINE + 1)
SCHEDULED, RUNNING, COMPLETED, FAILED, SKIPPED, CANCELLED = AttemptStatus
ODD_NAMES = [
    "a/b",
    "a%2Fb",
    "a",
    "b",
    "a/",
    "/a",
    "%",
    "%%",
    "%25",
    "..",
    ".",
    " ",
    "",
    "ünï/çødé 😀",
    "A",
    "a\n",
]


class Place(ABC):
    """Where a journal writes, and how to open it as another process would."""

    def __init__(self) -> None:
        self.journal = self.open()

    @abstractmethod
    def open(self) -> Journal:
        """Return a journal of this place."""

    @abstractmethod
    def value(self, value: Any) -> Any:
        """Return `value` on its way to the journal."""

    def claimed(self, workflow_id: str = "run") -> Claim:
        assert self.journal.create(run_record(workflow_id))
        return self.journal.claim(workflow_id, "me", START)

    def everything(self, workflow_id: str = "run", *, as_seen_by: Journal | None = None) -> Any:
        """Return all that is recorded of a run, loaded."""
        journal = as_seen_by or self.open()
        records = journal.tasks(workflow_id, journal.task_keys(workflow_id))
        return journal.run(workflow_id), {
            key: (record.attempts, record.generation, loaded(record.checkpoints))
            for key, record in records.items()
        }


class InMemory(Place):
    def open(self) -> Journal:
        self._only = getattr(self, "_only", None) or MemoryJournal()
        return self._only

    def value(self, value: Any) -> Any:
        return Held(value)


class OverStorage(Place):
    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        super().__init__()

    def open(self) -> Journal:
        return KeyValueJournal(self.storage, JsonCodec())

    def value(self, value: Any) -> Any:
        return Encoded(JsonCodec().encode(value))


@pytest.fixture(params=["memory", "memory storage", "file storage"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "memory":
        return InMemory()
    if request.param == "memory storage":
        return OverStorage(MemoryStorage())
    return OverStorage(FileStorage(tmp_path / "kept", durability="process"))


@pytest.fixture
def journal(place: Place) -> Journal:
    return place.journal


def run_record(workflow_id: str = "run", **changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "workflow_id": workflow_id,
        "workflow": "census",
        "version": "7",
        "params": {"n": 3, "when": (1, 2)},
        "mode": "sequential",
        "status": RunStatus.PENDING,
        "created_at": START,
    }
    return RunRecord(**(fields | changes))


def attempt(
    status: AttemptStatus,
    number: int = 1,
    *,
    key: str = "task",
    claim: Claim | None = None,
    workflow_id: str = "run",
    **changes: Any,
) -> Attempt:
    started = None if status is SCHEDULED else START
    ended = None if status in (SCHEDULED, RUNNING) else START + timedelta(seconds=number)
    outcomes = {COMPLETED: AttemptOutcome.SUCCESS, FAILED: AttemptOutcome.FAILED}
    made = Attempt(
        workflow_id,
        key,
        number,
        status,
        outcomes.get(status),
        START,
        started,
        ended,
        claim.owner if claim else "me",
        claim.fence if claim else 1,
    )
    return made._replace(**changes)


def result(place: Place, value: Any, *, key: str = "task", name: str = RESULT, **more: Any) -> Checkpoint:
    return Checkpoint(key, name, place.value(value), **more)


def loaded(checkpoints: Any) -> dict[str, Any]:
    return {name: (each.value.load(), each.inputs, each.code) for name, each in checkpoints.items()}


def value_of(journal: Journal, key: str = "task", name: str = RESULT, workflow_id: str = "run") -> Any:
    return journal.tasks(workflow_id, [key])[key].checkpoints[name].value.load()


# Runs


def test_a_run_that_nobody_created_is_not_known(journal: Journal) -> None:
    assert journal.run("run") is None


def test_a_created_run_reads_back_as_it_was(place: Place) -> None:
    assert place.journal.create(run_record())
    assert place.open().run("run") == run_record()
    assert place.open().task_keys("run") == []


def test_a_known_id_is_not_created_again_and_stays_as_it_is(place: Place) -> None:
    claim = place.claimed()
    before = place.everything()
    assert not place.journal.create(run_record(workflow="another"))
    assert not place.open().create(run_record(workflow="another"))
    assert place.everything() == before
    place.journal.commit(claim, [attempt(RUNNING)])  # and its owner owns it still


def test_of_many_that_create_a_run_at_once_one_does(place: Place) -> None:
    journals = [place.open() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda each: each.create(run_record()), journals))
    assert sorted(made) == [False] * 7 + [True]


def test_a_claim_raises_the_fence_and_names_the_owner(place: Place) -> None:
    place.journal.create(run_record())
    first = place.journal.claim("run", "one", START)
    later = START + timedelta(hours=1)
    second = place.open().claim("run", "two", later)
    assert (first, second) == (Claim("run", "one", 1), Claim("run", "two", 2))
    run = place.open().run("run")
    assert run is not None
    assert (run.owner, run.fence, run.status, run.started_at) == ("two", 2, RunStatus.RUNNING, later)
    assert (run.workflow, run.version, run.params, run.created_at) == (
        "census",
        "7",
        {"n": 3, "when": (1, 2)},
        START,
    )


def test_a_claim_reopens_a_run_that_has_ended(place: Place) -> None:
    claim = place.claimed()
    run = place.journal.run("run")
    ended = run_record(
        status=RunStatus.FAILED, reason="failed: task", finished_at=START, owner="me", fence=claim.fence
    )
    place.journal.commit(claim, [ended])
    assert place.open().run("run") == ended != run
    place.open().claim("run", "next", START)
    reopened = place.open().run("run")
    assert reopened is not None
    assert (reopened.status, reopened.reason, reopened.finished_at) == (RunStatus.RUNNING, None, None)


def test_every_one_of_many_claims_at_once_has_its_own_fence(place: Place) -> None:
    place.journal.create(run_record())
    journals = [place.open() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda at: journals[at].claim("run", f"owner {at}", START), range(8)))
    assert sorted(claim.fence for claim in claims) == list(range(1, 9))
    run = place.open().run("run")
    assert run is not None
    assert run.owner == max(claims, key=lambda claim: claim.fence).owner


# Attempts


def test_an_attempt_reads_back_as_it_was(place: Place) -> None:
    claim = place.claimed()
    opened = attempt(RUNNING, claim=claim)
    place.journal.commit(claim, [opened])
    assert place.open().attempts("run") == [opened]
    error = TaskError(1, "ValueError", "näh\n", "Traceback: …", ("builtins.ValueError", "builtins.Exception"))
    closed = attempt(
        FAILED, claim=claim, worker="pid 7", error=error, metadata={"rows": 3, "note": None}, generation=1
    )
    place.journal.commit(claim, [closed])
    (found,) = place.open().attempts("run")
    assert found == closed
    assert found.error is not None
    assert found.error.traceback == error.traceback
    assert found.error.full_types() == error.types
    assert (found.id, found.idempotency_key) == ("run/task/1", "run/task/g1")


def test_the_attempts_of_a_task_follow_each_other(place: Place) -> None:
    claim = place.claimed()
    journal = place.journal
    retried = attempt(FAILED, 1, outcome=AttemptOutcome.RETRIED)
    journal.commit(claim, [attempt(RUNNING, 1)])
    journal.commit(claim, [retried, attempt(SCHEDULED, 2)])
    journal.commit(claim, [attempt(RUNNING, 2)])
    journal.commit(claim, [attempt(COMPLETED, 2), result(place, "done")])
    assert place.open().attempts("run") == [retried, attempt(COMPLETED, 2)]
    assert value_of(place.open()) == "done"


def test_a_scheduled_attempt_may_be_called_off(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(SCHEDULED)])
    called_off = attempt(CANCELLED, outcome=AttemptOutcome.CANCELLED, started_at=None)
    place.journal.commit(claim, [called_off])
    assert place.open().attempts("run") == [called_off]


ILLEGAL: list[tuple[list[AttemptStatus], AttemptStatus]] = [
    ([], COMPLETED),
    ([], FAILED),
    ([], SKIPPED),
    ([], CANCELLED),
    ([SCHEDULED], SCHEDULED),
    ([SCHEDULED], COMPLETED),
    ([RUNNING], RUNNING),
    ([RUNNING], SCHEDULED),
    *(([RUNNING, end], again) for end in (COMPLETED, FAILED, SKIPPED, CANCELLED) for again in AttemptStatus),
]


@pytest.mark.parametrize(("path", "wrong"), ILLEGAL, ids=lambda each: str(each))
def test_an_illegal_move_is_refused_and_leaves_all_as_it_was(
    place: Place, path: list[AttemptStatus], wrong: AttemptStatus
) -> None:
    claim = place.claimed()
    for status in path:
        place.journal.commit(claim, [attempt(status)])
    before = place.everything()
    with pytest.raises(IllegalMove, match="run/task/1"):
        place.journal.commit(claim, [attempt(wrong), result(place, "late")])
    assert place.everything() == before
    assert place.everything(as_seen_by=place.journal) == before


def test_an_earlier_attempt_stays_as_it_ended(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING, 1)])
    place.journal.commit(claim, [attempt(FAILED, 1), attempt(RUNNING, 2)])
    before = place.everything()
    for status in AttemptStatus:
        with pytest.raises(IllegalMove):
            place.journal.commit(claim, [attempt(status, 1)])
    assert place.everything() == before


def test_one_illegal_move_keeps_all_of_a_commit_from_being_written(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING, key="one"), attempt(RUNNING, key="two")])
    before = place.everything()
    changes = [
        attempt(COMPLETED, key="one"),
        result(place, 1, key="one"),
        attempt(SCHEDULED, key="two"),
        run_record(status=RunStatus.COMPLETED, owner="me", fence=claim.fence),
    ]
    for order in (changes, changes[::-1]):
        with pytest.raises(IllegalMove, match="run/two/1"):
            place.journal.commit(claim, order)
        assert place.everything() == before


def test_moves_in_one_commit_build_on_each_other(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING), attempt(COMPLETED), result(place, 1)])
    assert place.open().attempts("run") == [attempt(COMPLETED)]
    before = place.everything()
    with pytest.raises(IllegalMove):
        place.journal.commit(claim, [attempt(RUNNING, 2), attempt(COMPLETED, 2), attempt(FAILED, 2)])
    assert place.everything() == before


def test_all_attempts_come_task_by_task_in_the_order_of_their_keys(place: Place) -> None:
    claim = place.claimed()
    for key in ("b", "c", "a"):
        place.journal.commit(claim, [attempt(RUNNING, 1, key=key)])
    for key in ("c", "a"):
        place.journal.commit(claim, [attempt(FAILED, 1, key=key), attempt(RUNNING, 2, key=key)])
    told = [(each.task_id, each.number) for each in place.open().attempts("run")]
    assert told == [("a", 1), ("a", 2), ("b", 1), ("c", 1), ("c", 2)]


# Checkpoints


@pytest.mark.parametrize(
    "value", [None, False, 0, "", [], {}, [1, 2, 3], (1, (2,)), {1: "x"}, b"\0\n$", START, LARGE]
)
def test_a_result_reads_back_equal_and_of_its_type(place: Place, value: Any) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING)])
    place.journal.commit(claim, [attempt(COMPLETED), result(place, value)])
    for journal in (place.journal, place.open()):
        for found in (value_of(journal), journal.reference("run", "task", RESULT).load()):
            assert found == value
            assert type(found) is type(value)


def test_an_attempt_without_a_result_has_no_checkpoint(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING)])
    assert place.open().tasks("run", ["task"])["task"].checkpoints == {}


def test_fingerprints_lie_beside_a_result(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING), attempt(RUNNING, key="bare")])
    kept = result(place, 1, inputs={"b": "2", "a": "1"}, code="c0de")
    bare = result(place, 2, key="bare", inputs=None, code=None)
    place.journal.commit(claim, [attempt(COMPLETED), kept, attempt(COMPLETED, key="bare"), bare])
    found = place.open().tasks("run", ["task", "bare"])
    assert loaded(found["task"].checkpoints) == {RESULT: (1, {"a": "1", "b": "2"}, "c0de")}
    assert loaded(found["bare"].checkpoints) == {RESULT: (2, None, None)}


def test_named_checkpoints_lie_beside_the_result(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING)])
    named = [result(place, f"value of {name}", name=name) for name in ("model", "a/b", "", "ünï%")]
    place.journal.commit(claim, [named[0]])
    assert value_of(place.open(), name="model") == "value of model"  # while the attempt runs
    place.journal.commit(claim, [attempt(COMPLETED), result(place, "done"), *named[1:]])
    record = place.open().tasks("run", ["task"])["task"]
    values = {name: each.value.load() for name, each in record.checkpoints.items()}
    assert values == {RESULT: "done"} | {name: f"value of {name}" for name in ("model", "a/b", "", "ünï%")}


def test_a_checkpoint_may_be_replaced_while_its_attempt_runs(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING)])
    for value in ("small", LARGE, LARGE + "r", "small again"):
        place.journal.commit(claim, [result(place, value, name="model")])
        assert value_of(place.open(), name="model") == value


def test_a_named_checkpoint_outlives_the_attempt_that_saved_it(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING)])
    place.journal.commit(claim, [result(place, LARGE, name="model")])
    place.journal.commit(claim, [attempt(FAILED), attempt(RUNNING, 2)])
    assert value_of(place.open(), name="model") == LARGE
    place.journal.commit(claim, [attempt(COMPLETED, 2), result(place, LARGE[::-1])])
    assert value_of(place.open(), name="model") == LARGE
    assert value_of(place.open()) == LARGE[::-1]


def test_discarding_drops_every_checkpoint_and_begins_a_generation(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING), attempt(RUNNING, key="other")])
    place.journal.commit(
        claim,
        [
            attempt(COMPLETED),
            result(place, 1),
            result(place, LARGE, name="model"),
            attempt(COMPLETED, key="other"),
            result(place, 2, key="other"),
        ],
    )
    place.journal.commit(claim, [Discard("task")])
    record = place.open().tasks("run", ["task"])["task"]
    assert (record.generation, dict(record.checkpoints)) == (2, {})
    assert record.attempts == (attempt(COMPLETED),)
    assert value_of(place.open(), "other") == 2
    again = attempt(RUNNING, 2, generation=2)
    place.journal.commit(claim, [again])
    place.journal.commit(claim, [attempt(COMPLETED, 2, generation=2), result(place, "anew")])
    record = place.open().tasks("run", ["task"])["task"]
    assert [each.generation for each in record.attempts] == [1, 2]
    assert [each.idempotency_key for each in record.attempts] == ["run/task/g1", "run/task/g2"]
    assert value_of(place.open()) == "anew"


def test_discard_and_new_result_may_come_in_one_commit(place: Place) -> None:
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING)])
    place.journal.commit(claim, [attempt(COMPLETED), result(place, LARGE)])
    place.journal.commit(claim, [Discard("task"), attempt(RUNNING, 2, generation=2)])
    place.journal.commit(claim, [attempt(COMPLETED, 2, generation=2), result(place, LARGE + "r")])
    place.journal.commit(claim, [Discard("task"), Discard("task")])
    assert place.open().tasks("run", ["task"])["task"].generation == 4


# Names


def test_odd_names_of_tasks_stay_apart(place: Place) -> None:
    claim = place.claimed()
    for key in ODD_NAMES:
        place.journal.commit(claim, [attempt(RUNNING, key=key)])
        place.journal.commit(
            claim,
            [
                attempt(COMPLETED, key=key),
                result(place, [key], key=key),
                result(place, LARGE + key, key=key, name="large"),
            ],
        )
    other = place.open()
    assert sorted(other.task_keys("run")) == sorted(ODD_NAMES)
    records = other.tasks("run", [*ODD_NAMES, "unknown"])
    assert sorted(records) == sorted(ODD_NAMES)
    for key, record in records.items():
        assert record.task_id == key
        assert record.checkpoints[RESULT].value.load() == [key]
        assert record.checkpoints["large"].value.load() == LARGE + key
    assert [each.task_id for each in other.attempts("run")] == sorted(ODD_NAMES)


def test_odd_names_of_runs_stay_apart(place: Place) -> None:
    names = [name for name in ODD_NAMES if name]  # a run has a name
    for name in names:
        claim = place.claimed(name)
        place.journal.commit(claim, [attempt(RUNNING, workflow_id=name)])
        place.journal.commit(claim, [attempt(COMPLETED, workflow_id=name), result(place, name)])
    for name in names:
        run = place.open().run(name)
        assert run is not None
        assert run.workflow_id == name
        assert place.open().task_keys(name) == ["task"]
        assert value_of(place.open(), workflow_id=name) == name


# Ownership


@pytest.fixture(params=["in the same journal", "from another process"])
def takeover(request: pytest.FixtureRequest, place: Place) -> tuple[Claim, Claim, Journal]:
    """A run taken over, with the task that ran: the former claim, the new one, and its journal."""
    claim = place.claimed()
    place.journal.commit(claim, [attempt(RUNNING, claim=claim)])
    place.journal.commit(claim, [attempt(SCHEDULED, key="waiting", claim=claim)])
    heir = place.journal if request.param == "in the same journal" else place.open()
    mine = heir.claim("run", "heir", START)
    recovered = attempt(FAILED, claim=claim, outcome=AttemptOutcome.RECOVERED)
    heir.commit(
        mine, [recovered, attempt(RUNNING, 2, claim=mine), attempt(RUNNING, key="waiting", claim=mine)]
    )
    return claim, mine, heir


@pytest.mark.parametrize("value", ["small", LARGE], ids=["small", "large"])
def test_a_late_result_of_a_former_owner_is_refused_and_changes_nothing(
    place: Place, takeover: tuple[Claim, Claim, Journal], value: str
) -> None:
    former, mine, heir = takeover
    before = place.everything()
    stored = _stored(place)
    for _ in range(2):
        with pytest.raises(ClaimLost, match="taken over by heir"):
            place.journal.commit(former, [attempt(COMPLETED, claim=former), result(place, value)])
        with pytest.raises(ClaimLost):
            place.journal.commit(former, [attempt(RUNNING, key="waiting", claim=former)])
    assert place.everything() == before
    assert _stored(place) == stored  # nor is anything left lying about
    heir.commit(mine, [attempt(COMPLETED, 2, claim=mine), result(place, "mine")])
    assert value_of(place.open()) == "mine"
    with pytest.raises(ClaimLost):
        place.journal.commit(former, [result(place, value, name="model")])
    with pytest.raises(ClaimLost):
        place.journal.commit(former, [Discard("task")])
    assert value_of(place.open()) == "mine"


def test_a_former_owner_cannot_begin_what_the_next_one_has_done(
    place: Place, takeover: tuple[Claim, Claim, Journal]
) -> None:
    former, mine, heir = takeover
    heir.commit(mine, [attempt(RUNNING, key="new", claim=mine)])
    heir.commit(mine, [attempt(COMPLETED, key="new", claim=mine), result(place, "mine", key="new")])
    before = place.everything()
    for number in (1, 2):
        with pytest.raises(ClaimLost, match="taken over by heir"):
            place.journal.commit(former, [attempt(RUNNING, number, key="new", claim=former)])
    assert place.everything() == before


def test_a_former_owner_cannot_end_the_run(place: Place, takeover: tuple[Claim, Claim, Journal]) -> None:
    former, _, _ = takeover
    before = place.everything()
    ended = run_record(status=RunStatus.COMPLETED, owner=former.owner, fence=former.fence)
    with pytest.raises(ClaimLost, match="taken over by heir"):
        place.journal.commit(former, [ended])
    assert place.everything() == before


def test_the_same_owner_claiming_again_writes_under_the_new_claim_only(place: Place) -> None:
    first = place.claimed()
    second = place.journal.claim("run", first.owner, START)
    place.journal.commit(second, [attempt(RUNNING, claim=second)])
    with pytest.raises(ClaimLost):
        place.journal.commit(first, [attempt(COMPLETED, claim=first), result(place, 1)])
    place.journal.commit(second, [attempt(COMPLETED, claim=second), result(place, 2)])
    assert value_of(place.open()) == 2


def test_claims_of_different_runs_do_not_touch_each_other(place: Place) -> None:
    claims = {name: place.claimed(name) for name in ("one", "two")}
    place.open().claim("two", "heir", START)
    place.journal.commit(claims["one"], [attempt(RUNNING, workflow_id="one")])
    assert len(place.open().attempts("one")) == 1
    assert place.open().attempts("two") == []


def _stored(place: Place) -> dict[str, bytes | None]:
    if not isinstance(place, OverStorage):
        return {}
    return {key: place.storage.get(key) for key in place.storage.keys("")}
