"""What bodies save while they run: what is there, what is kept of it, who may save."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import ClaimLost, NotSerializable, TaskCancelled, task
from dotflow_like.execute.call import Call, Outcome
from dotflow_like.execute.saved import Kept, Store
from dotflow_like.model.records import RESULT, Attempt, Checkpoint, Discard, RunRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Encoded, Journal
from dotflow_like.record.keyvalue import KeyValueJournal
from dotflow_like.record.memory import MemoryJournal
from dotflow_like.record.sql import SqlJournal
from dotflow_like.record.sql_statements import MIGRATIONS
from dotflow_like.record.sqlite import Database
from dotflow_like.record.storage.memory import MemoryStorage

NOW = datetime(2024, 5, 6, tzinfo=UTC)


@pytest.fixture(params=["memory", "keyvalue", "sql"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    if request.param == "memory":
        yield MemoryJournal()
    elif request.param == "keyvalue":
        yield KeyValueJournal(MemoryStorage(), JsonCodec())
    else:
        with closing(Database(f"{tmp_path}/runs.db", "process", f"{tmp_path}/locks", MIGRATIONS)) as database:
            yield SqlJournal(database, JsonCodec())


@task
def load() -> None: ...


class Life:
    """A run with one task, attempt by attempt."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        journal.create(RunRecord("w", "workflow", None, {}, "sequential", RunStatus.PENDING, NOW))
        self.claim = journal.claim("w", "me", NOW)
        self.number = 0
        self.generation = 1

    def attempt(self) -> tuple[Call, Kept]:
        self.number += 1
        attempt = Attempt(
            "w", "load", self.number, AttemptStatus.RUNNING, None, NOW, NOW, None, "me", self.claim.fence,
            generation=self.generation,
        )  # fmt: skip
        self.journal.commit(self.claim, [attempt])
        call = Call(load, attempt, {}, (), {}, None, self.journal.codec)
        return call, Store(self.journal, self.claim).of(call)

    def fail(self, call: Call) -> None:
        call.outcome = Outcome(error=ValueError())
        self.journal.commit(
            self.claim,
            [
                call.attempt._replace(
                    status=AttemptStatus.FAILED, outcome=AttemptOutcome.RETRIED, finished_at=NOW
                )
            ],
        )


@pytest.fixture
def life(journal: Journal) -> Life:
    return Life(journal)


def test_a_value_is_there_for_this_attempt_and_the_next(life: Life) -> None:
    call, kept = life.attempt()
    assert list(kept.names()) == []
    kept.save("saved/a", (1, [2]))
    kept.save("saved/none", None)
    assert (set(kept.names()), kept.load("saved/a")) == ({"saved/a", "saved/none"}, (1, [2]))
    life.fail(call)
    _, kept = life.attempt()
    assert (set(kept.names()), kept.load("saved/a"), kept.load("saved/none")) == (
        {"saved/a", "saved/none"},
        (1, [2]),
        None,
    )


def test_what_is_missing_is_a_key_error_without_a_look(life: Life) -> None:
    _, kept = life.attempt()
    for name in ("saved/a", RESULT):
        with pytest.raises(KeyError):
            kept.load(name)


def test_a_value_is_kept_as_it_was_and_read_as_a_copy(life: Life) -> None:
    _, kept = life.attempt()
    value = {"a": [1]}
    kept.save("saved/a", value)
    value["a"].append(2)
    assert kept.load("saved/a") == {"a": [1]}
    kept.load("saved/a")["a"].append(3)
    assert kept.load("saved/a") == {"a": [1]}


def test_what_cannot_be_copied_is_kept_itself_in_memory() -> None:
    _, kept = Life(MemoryJournal()).attempt()
    lock = threading.Lock()
    kept.save("saved/a", [lock])
    assert kept.load("saved/a")[0] is lock


@pytest.mark.parametrize("journal", ["keyvalue", "sql"], indirect=True)  # the other keeps objects
def test_what_cannot_be_stored_changes_nothing(journal: Journal) -> None:
    _, kept = Life(journal).attempt()
    kept.save("saved/a", 1)
    with pytest.raises(NotSerializable):
        kept.save("saved/a", threading.Lock(), dropping=["saved/a"])
    assert (list(kept.names()), kept.load("saved/a")) == (["saved/a"], 1)


def test_saving_and_dropping_are_one_step(life: Life) -> None:
    call, kept = life.attempt()
    for name in "abc":
        kept.save(name, name)
    kept.save("d", 1, dropping=["a", "b"], lazily=True)
    kept.drop(["c", "unknown"])
    assert list(kept.names()) == ["d"]
    with pytest.raises(KeyError):
        kept.load("a")
    life.fail(call)
    assert list(life.attempt()[1].names()) == ["d"]


def test_to_drop_nothing_writes_nothing(life: Life, journal: Journal) -> None:
    _, kept = life.attempt()
    journal.claim("w", "another", NOW)
    kept.drop(["unknown"])
    with pytest.raises(ClaimLost):
        kept.save("a", 1)


def test_what_is_lost_to_another_owner_is_not_there(life: Life, journal: Journal) -> None:
    _, kept = life.attempt()
    kept.save("a", 1)
    journal.claim("w", "another", NOW)
    with pytest.raises(ClaimLost):
        kept.save("b", 1)
    assert list(kept.names()) == ["a"]
    assert set(journal.tasks("w", ["load"])["load"].checkpoints) == {"a"}


def test_the_result_of_an_earlier_attempt_is_no_saved_value(life: Life, journal: Journal) -> None:
    call, kept = life.attempt()
    kept.save("a", 1)
    done = call.attempt._replace(
        status=AttemptStatus.COMPLETED, outcome=AttemptOutcome.SUCCESS, finished_at=NOW
    )
    value: Any = Outcome(1) if journal.codec is None else Encoded(journal.codec.encode(1))
    journal.commit(life.claim, [done, Checkpoint("load", RESULT, value)])
    assert list(life.attempt()[1].names()) == ["a"]


def test_a_new_generation_begins_with_nothing(life: Life, journal: Journal) -> None:
    call, kept = life.attempt()
    kept.save("a", 1)
    life.fail(call)
    journal.commit(life.claim, [Discard("load")])
    life.generation = 2
    assert list(life.attempt()[1].names()) == []


@pytest.mark.parametrize("how", ["ended", "given up"])
def test_who_is_over_saves_nothing_more(life: Life, how: str) -> None:
    call, kept = life.attempt()
    kept.save("a", 1)
    if how == "ended":
        call.outcome = Outcome()
    else:
        call.abandoned = True
    for late in (lambda: kept.save("a", 2), lambda: kept.drop(["a"])):
        with pytest.raises(TaskCancelled, match=r"attempt 1 is over, and saves nothing"):
            late()
    assert kept.load("a") == 1


def test_all_that_belongs_to_a_call_is_one_object(life: Life, journal: Journal) -> None:
    call, kept = life.attempt()
    found: list[Any] = []
    call.kept = None
    barrier = threading.Barrier(8)

    def look() -> None:
        barrier.wait()
        found.append(Store(journal, life.claim).of(call))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(set(map(id, found))) == 1
    assert found[0] is not kept


def test_threads_of_a_body_save_at_once(life: Life) -> None:
    _, kept = life.attempt()

    def save(number: int) -> None:
        for at in range(20):
            kept.save(f"{number}/{at}", [number, at])

    threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {name: kept.load(name) for name in kept.names()} == {
        f"{number}/{at}": [number, at] for number in range(4) for at in range(20)
    }
