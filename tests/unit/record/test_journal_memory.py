"""The journal in memory keeps the very objects it is given, and tells threads apart."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from dotflow_like.errors import ClaimLost
from dotflow_like.model.records import RESULT, Attempt, Checkpoint, Discard, Held, RunRecord
from dotflow_like.model.status import AttemptStatus, RunStatus
from dotflow_like.record.journal import Claim
from dotflow_like.record.memory import MemoryJournal

AT = datetime(2024, 1, 1, tzinfo=UTC)


class Thing:
    """Something no codec would take."""


@pytest.fixture
def journal() -> MemoryJournal:
    made = MemoryJournal()
    made.create(RunRecord("run", "workflow", None, {}, "sequential", RunStatus.PENDING, AT))
    return made


def running(key: str, number: int = 1) -> Attempt:
    return Attempt("run", key, number, AttemptStatus.RUNNING, None, AT, AT, None, "me", 1)


def test_it_has_no_codec_and_keeps_objects_as_they_are(journal: MemoryJournal) -> None:
    claim = journal.claim("run", "me", AT)
    thing, reference = Thing(), Held(Thing())
    journal.commit(claim, [running("task"), Checkpoint("task", RESULT, reference)])
    assert journal.codec is None
    assert journal.reference("run", "task", RESULT) is reference
    assert journal.tasks("run", ["task"])["task"].checkpoints[RESULT].value is reference
    reference.value = thing
    assert journal.reference("run", "task", RESULT).load() is thing


def test_a_discarded_object_is_let_go(journal: MemoryJournal) -> None:
    claim = journal.claim("run", "me", AT)
    thing = Thing()
    seen = weakref.ref(thing)
    journal.commit(claim, [running("task"), Checkpoint("task", RESULT, Held(thing))])
    del thing
    gc.collect()
    assert seen() is not None
    journal.commit(claim, [Discard("task")])
    gc.collect()
    assert seen() is None


def test_two_journals_share_nothing(journal: MemoryJournal) -> None:
    assert MemoryJournal().run("run") is None
    assert journal.run("run") is not None


def test_what_threads_commit_at_once_is_all_there(journal: MemoryJournal) -> None:
    claim = journal.claim("run", "me", AT)

    def write(at: int) -> None:
        for number in range(1, 21):
            attempt = running(f"task {at}", number)
            journal.commit(claim, [attempt])
            journal.commit(claim, [attempt._replace(status=AttemptStatus.FAILED, finished_at=AT)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert sorted(journal.task_keys("run")) == [f"task {at}" for at in range(8)]
    found = [(each.task_id, each.number) for each in journal.attempts("run")]
    assert found == [(f"task {at}", number) for at in range(8) for number in range(1, 21)]


def test_a_claim_of_another_owner_ends_the_one_before(journal: MemoryJournal) -> None:
    first = journal.claim("run", "me", AT)
    second = journal.claim("run", "heir", AT)
    assert (first, second) == (Claim("run", "me", 1), Claim("run", "heir", 2))
    with pytest.raises(ClaimLost, match=r"taken over by heir \(claim 2\); this process, me, held claim 1"):
        journal.commit(first, [])
    journal.commit(second, [running("task")])
