"""The journal over a storage: where things lie, and that damage is found wherever it is."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from dotflow_like.errors import ClaimLost, CodecError, CorruptCheckpoint, StorageError
from dotflow_like.model.records import RESULT, Attempt, Checkpoint, Discard, Request, RunRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Change, Claim, Encoded
from dotflow_like.record.keyvalue import INLINE, KeyValueJournal
from dotflow_like.record.storage.base import ANY, Any_
from dotflow_like.record.storage.memory import MemoryStorage

AT = datetime(2024, 1, 1, tzinfo=UTC)
LARGE = "x" * (INLINE + 1)


class Counting(MemoryStorage):
    """Notes what it is asked, and fails at a chosen put."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[str] = []
        self.puts: list[str] = []
        self.fail_at: int | None = None

    def get(self, key: str) -> bytes | None:
        self.gets.append(key)
        return super().get(key)

    def put(self, key: str, data: bytes, *, expected: bytes | Any_ | None = ANY) -> bool:
        self.puts.append(key)
        if self.fail_at is not None and len(self.puts) >= self.fail_at:
            raise StorageError(f"no room for {key!r}")
        return super().put(key, data, expected=expected)

    def all(self) -> dict[str, bytes]:
        return dict(self._values)


@pytest.fixture
def storage() -> Counting:
    return Counting()


@pytest.fixture
def journal(storage: Counting) -> KeyValueJournal:
    return KeyValueJournal(storage, JsonCodec())


@pytest.fixture
def claim(journal: KeyValueJournal) -> Claim:
    journal.create(RunRecord("run", "workflow", None, {"n": 1}, "sequential", RunStatus.PENDING, AT))
    return journal.claim("run", "me", AT)


def running(key: str = "task", number: int = 1, **changes: Any) -> Attempt:
    made = Attempt("run", key, number, AttemptStatus.RUNNING, None, AT, AT, None, "me", 1)
    return made._replace(**changes)


def completed(key: str = "task", number: int = 1) -> Attempt:
    return running(
        key, number, status=AttemptStatus.COMPLETED, outcome=AttemptOutcome.SUCCESS, finished_at=AT
    )


def kept(value: Any, key: str = "task", name: str = RESULT) -> Checkpoint:
    return Checkpoint(key, name, Encoded(JsonCodec().encode(value)), {"x": "f00d"}, "c0de")


def complete(journal: KeyValueJournal, claim: Claim, value: Any, key: str = "task") -> None:
    journal.commit(claim, [running(key)])
    journal.commit(claim, [completed(key), kept(value, key)])


def other(journal: KeyValueJournal) -> KeyValueJournal:
    return KeyValueJournal(journal.storage, JsonCodec())


# Where things lie


def test_a_small_result_lies_in_its_row_and_a_large_one_beside_it(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    complete(journal, claim, "small", "a/b%")
    complete(journal, claim, LARGE, "large")
    keys = sorted(storage.all())
    assert keys[:-1] == ["run/run", "run/tasks/a%2Fb%25", "run/tasks/large"]
    assert keys[-1].startswith("run/values/large/result/1")
    assert len(storage.all()["run/tasks/large"]) < 2000


@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_is_that_of_the_stored_bytes(
    journal: KeyValueJournal, storage: Counting, claim: Claim, extra: int
) -> None:
    complete(journal, claim, "x" * (INLINE - 2 + extra))  # two for the quotes
    assert (len(storage.all()) == 3) is bool(extra)
    reference = other(journal).reference("run", "task", RESULT)
    assert reference.load() == "x" * (INLINE - 2 + extra)


def test_a_row_can_be_read_without_the_library(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    complete(journal, claim, ["a", 1])
    head, told, body = storage.all()["run/tasks/task"].split(b"\n", 2)
    row = json.loads(told)
    assert head.startswith(b"dotflow_like 1 ")
    assert row["task"] == "task"
    assert [attempt["status"] for attempt in row["attempts"]] == ["completed"]
    place = row["checkpoints"]["result"]
    assert json.loads(body[place["from"] : place["to"]]) == ["a", 1]


def test_closing_an_attempt_and_writing_its_result_is_one_put(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    journal.commit(claim, [running()])
    storage.puts.clear()
    storage.gets.clear()
    journal.commit(claim, [completed(), kept(1), kept(2, name="model")])
    assert storage.puts == ["run/tasks/task"]
    assert sorted(storage.gets) == ["run/run", "run/tasks/task"]


def test_a_large_value_is_there_before_the_row_that_mentions_it(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    journal.commit(claim, [running()])
    storage.puts.clear()
    journal.commit(claim, [completed(), kept(LARGE)])
    assert [key.split("/")[1] for key in storage.puts] == ["values", "tasks"]


def test_finding_a_task_takes_one_read_whatever_its_result(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    for at, value in enumerate([1, LARGE]):
        complete(journal, claim, value, f"task {at}")
    storage.gets.clear()
    found = other(journal).tasks("run", ["task 0", "task 1", "none"])
    assert list(found) == ["task 0", "task 1"]
    assert storage.gets == ["run/tasks/task 0", "run/tasks/task 1", "run/tasks/none"]


@pytest.mark.parametrize("value", ["small", LARGE], ids=["small", "large"])
def test_a_reference_reads_anew_each_time_and_keeps_nothing(
    journal: KeyValueJournal, storage: Counting, claim: Claim, value: str
) -> None:
    complete(journal, claim, [value])
    reference = journal.reference("run", "task", RESULT)
    storage.gets.clear()
    assert reference.load() == [value]
    assert reference.load() is not reference.load()
    assert storage.gets.count("run/tasks/task") == 3


@pytest.mark.parametrize("value", ["small", LARGE], ids=["small", "large"])
def test_a_reference_that_travels_needs_no_storage(
    journal: KeyValueJournal, storage: Counting, claim: Claim, value: str
) -> None:
    complete(journal, claim, value)
    sent = pickle.dumps(journal.reference("run", "task", RESULT))
    storage.clear("")
    assert pickle.loads(sent).load() == value


# Large values come and go


def test_discarding_removes_large_values(journal: KeyValueJournal, storage: Counting, claim: Claim) -> None:
    complete(journal, claim, "small", "other")
    before = set(storage.all())
    complete(journal, claim, LARGE)
    journal.commit(claim, [running(number=2)])
    journal.commit(claim, [kept(LARGE, name="model"), kept(LARGE, name="a/b")])
    assert len(storage.all()) == len(before) + 4
    journal.commit(claim, [Discard("task")])
    assert set(storage.all()) - {"run/tasks/task"} == before


@pytest.mark.parametrize("again", ["small", LARGE, LARGE + "r"], ids=["small", "same", "large"])
def test_a_replaced_large_value_leaves_nothing_behind(
    journal: KeyValueJournal, storage: Counting, claim: Claim, again: str
) -> None:
    journal.commit(claim, [running()])
    journal.commit(claim, [kept(LARGE, name="model")])
    journal.commit(claim, [kept(again, name="model")])
    assert other(journal).reference("run", "task", "model").load() == again
    assert len(storage.all()) == 2 + (len(again) > INLINE)


@pytest.mark.parametrize("value", ["small", LARGE + "r"], ids=["small", "large"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_put_that_fails_leaves_what_was_recorded(
    journal: KeyValueJournal, storage: Counting, claim: Claim, value: str, at: int
) -> None:
    journal.commit(claim, [running()])
    journal.commit(claim, [kept(LARGE, name="model")])
    storage.fail_at = len(storage.puts) + at
    if at == 2 and value == "small":
        journal.commit(claim, [kept(value, name="model")])  # one put does it
        return
    with pytest.raises(StorageError, match="no room"):
        journal.commit(claim, [kept(value, name="model")])
    storage.fail_at = None
    for each in (journal, other(journal)):
        assert each.reference("run", "task", "model").load() == LARGE
    journal.commit(claim, [kept(value, name="model")])
    assert other(journal).reference("run", "task", "model").load() == value


def test_tasks_are_written_one_by_one_when_a_put_fails(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    keys = ["a", "b", "c"]
    journal.commit(claim, [running(key) for key in keys])
    storage.fail_at = len(storage.puts) + 2
    changes = [change for key in keys for change in (completed(key), kept(key, key))]
    with pytest.raises(StorageError):
        journal.commit(claim, changes)
    storage.fail_at = None
    found = other(journal).tasks("run", keys)
    told = {key: (record.attempts[-1].status, list(record.checkpoints)) for key, record in found.items()}
    assert told == {
        "a": (AttemptStatus.COMPLETED, [RESULT]),
        "b": (AttemptStatus.RUNNING, []),
        "c": (AttemptStatus.RUNNING, []),
    }


# Damage


def damages(data: bytes) -> Iterator[bytes]:
    """Give damaged forms of `data`: shortened, lengthened, and changed at many places."""
    yield b""
    yield data + b"\n"
    yield data + data
    for at in range(0, len(data), max(1, len(data) // 60)):
        yield data[:at]
        yield data[:at] + data[at + 1 :]
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        yield data[:at] + b"\0" + data[at:]
    yield data[:-1] + bytes([data[-1] ^ 0x80])


def test_damage_anywhere_in_the_row_of_a_task_is_found_and_named(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    complete(journal, claim, {"deep": [1, "two", None]})
    reference = journal.reference("run", "task", RESULT)
    whole = storage.all()["run/tasks/task"]
    for damaged in damages(whole):
        storage.put("run/tasks/task", damaged)
        fresh = other(journal)
        for look in (
            lambda fresh=fresh: fresh.tasks("run", ["task"]),
            lambda fresh=fresh: fresh.attempts("run"),
            lambda: journal.commit(claim, [Discard("task")]),
            reference.load,
        ):
            with pytest.raises(CorruptCheckpoint, match="'run/tasks/task'"):
                look()
        assert storage.get("run/tasks/task") == damaged
    storage.put("run/tasks/task", whole)
    assert reference.load() == {"deep": [1, "two", None]}


def test_damage_anywhere_in_the_row_of_a_run_is_found_and_named(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    whole = storage.all()["run/run"]
    for damaged in damages(whole):
        storage.put("run/run", damaged)
        fresh = other(journal)
        with pytest.raises(CorruptCheckpoint, match="'run/run'"):
            fresh.run("run")
        with pytest.raises(CorruptCheckpoint, match="'run/run'"):
            fresh.claim("run", "heir", AT)
        assert storage.get("run/run") == damaged


def test_damage_anywhere_in_a_large_value_is_found_and_named(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    complete(journal, claim, LARGE)
    (place,) = [key for key in storage.all() if "/values/" in key]
    whole = storage.all()[place]
    reference = other(journal).reference("run", "task", RESULT)
    for damaged in damages(whole):
        storage.put(place, damaged)
        with pytest.raises(CorruptCheckpoint, match=f"{place!r} does not match its checksum"):
            reference.load()
    storage.delete(place)
    with pytest.raises(CorruptCheckpoint, match=f"{place!r} is gone"):
        reference.load()


def test_a_row_that_has_gone_is_named_by_those_who_knew_it(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    complete(journal, claim, 1)
    reference = journal.reference("run", "task", RESULT)
    storage.delete("run/tasks/task")
    with pytest.raises(CorruptCheckpoint, match=r"'run/tasks/task'.*result of task 'task'"):
        reference.load()


def test_the_row_of_another_task_is_no_row_of_this_one(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    complete(journal, claim, 1, "one")
    storage.put("run/tasks/two", storage.all()["run/tasks/one"])
    with pytest.raises(CorruptCheckpoint, match="'run/tasks/two'"):
        other(journal).tasks("run", ["two"])


def test_what_no_codec_can_read_names_the_checkpoint(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    journal.commit(claim, [running()])
    unknown = Encoded(b'{"$":"dataclass","t":"nowhere:Point","v":{}}')
    journal.commit(claim, [completed(), Checkpoint("task", RESULT, unknown)])
    with pytest.raises(CodecError, match="result of task 'task' of run run"):
        journal.reference("run", "task", RESULT).load()


# Ownership


@pytest.mark.parametrize("value", ["small", LARGE], ids=["small", "large"])
def test_a_late_result_leaves_nothing_but_the_word_that_it_was_discarded(
    journal: KeyValueJournal, storage: Counting, claim: Claim, value: str
) -> None:
    journal.commit(claim, [running(), running("other")])
    other(journal).claim("run", "heir", AT)
    before = storage.all()
    with pytest.raises(ClaimLost, match=r"taken over by heir \(claim 2\)"):
        journal.commit(claim, [completed(), kept(value), kept(value, name="model")])
    found = storage.all()
    assert b'"outcome":"discarded"' in found.pop("run/tasks/task")
    assert b'"outcome":"recovered"' in before.pop("run/tasks/task")
    assert found == before


def test_a_claim_of_a_run_that_has_ended_reads_none_of_its_tasks(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    complete(journal, claim, 1)
    run = journal.run("run")
    assert run is not None
    journal.commit(claim, [replace(run, status=RunStatus.FAILED)])
    storage.gets.clear()
    other(journal).claim("run", "heir", AT)
    assert storage.gets == ["run/run"]


class Interrupting(MemoryStorage):
    """Lets somebody else do something right before a chosen one of the things it is asked."""

    left = -1
    act: Callable[[], object]

    def get(self, key: str) -> bytes | None:
        self._count()
        return super().get(key)

    def put(self, key: str, data: bytes, *, expected: bytes | Any_ | None = ANY) -> bool:
        self._count()
        return super().put(key, data, expected=expected)

    def keys(self, prefix: str = "") -> Iterator[str]:
        self._count()
        return super().keys(prefix)

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.act()


class Race:
    """A run that a former owner and its heir write to: one does something in the middle of what the other does."""

    def __init__(self) -> None:
        self.storage = Interrupting()
        self.former, self.heir = (KeyValueJournal(self.storage, JsonCodec()) for _ in range(2))
        self.former.create(RunRecord("run", "workflow", None, {}, "sequential", RunStatus.PENDING, AT))
        self.claim = self.former.claim("run", "me", AT)
        self.former.commit(self.claim, [running(), running("waits", status=AttemptStatus.SCHEDULED)])
        self.refused = self.was_interrupted = False
        self.mine: Claim | None = None

    def commit(self, changes: list[Change]) -> None:
        """Let the former owner commit, and note whether that was refused."""
        try:
            self.former.commit(self.claim, changes)
        except ClaimLost:
            self.refused = True

    def take_over(self) -> None:
        """Let the heir claim the run."""
        self.mine = self.heir.claim("run", "heir", AT)

    def interrupt(self, at: int, done: Callable[[], object], by: Callable[[], object]) -> None:
        """Do one thing right before the storage is asked for the `at`th time in the middle of the other."""

        def act() -> None:
            self.was_interrupted = True
            by()

        self.storage.left, self.storage.act = at, act
        done()
        self.storage.left = -1


LATE: dict[str, list[Change]] = {
    "an end": [completed(), kept("mine")],
    "an end with a large result": [completed(), kept(LARGE)],
    "a failure": [completed()._replace(status=AttemptStatus.FAILED, outcome=AttemptOutcome.FAILED)],
    "the start of what waits": [running("waits")],
    "the end of what waits": [
        completed("waits")._replace(status=AttemptStatus.CANCELLED, outcome=AttemptOutcome.CANCELLED)
    ],
}


@pytest.mark.parametrize("what", LATE)
@pytest.mark.parametrize("claim_in_commit", [True, False], ids=["claim in commit", "commit in claim"])
def test_a_commit_in_the_middle_of_a_claim_is_recorded_or_refused(what: str, claim_in_commit: bool) -> None:
    changes = LATE[what]
    change = changes[0]
    assert isinstance(change, Attempt)
    for at in range(1, 100):
        race = Race()
        commit = partial(race.commit, changes)
        race.interrupt(at, *((commit, race.take_over) if claim_in_commit else (race.take_over, commit)))
        if not race.was_interrupted:
            assert at > 3
            break
        (found,) = race.heir.tasks("run", [change.task_id])[change.task_id].attempts
        was_recovered = found.outcome in (AttemptOutcome.RECOVERED, AttemptOutcome.DISCARDED)
        if race.refused:
            assert was_recovered or found.status is AttemptStatus.SCHEDULED, f"refused, and written ({at})"
        elif change.status is AttemptStatus.RUNNING:
            assert was_recovered, f"begun by one who does not own the run any more ({at})"
        else:
            assert found == change, f"neither refused nor written ({at})"
        results = [key for key in list(race.storage.keys("")) if "/values/" in key]
        assert len(results) == (what == "an end with a large result" and not race.refused)
        assert race.mine is not None
        race.heir.commit(race.mine, [running("new", fence=2)])  # the heir goes on
    else:
        pytest.fail("it never came to an end")


# Requests, and the end of a run

PAUSE = Request("pause", "somebody", AT, "lunch")
CANCEL = Request("cancel", "another", AT)
ENDS: dict[str, list[Change]] = {"alone": [], "with a task": [completed(), kept(LARGE)]}


def end(journal: KeyValueJournal, claim: Claim, changes: list[Change], answered: Request | None) -> bool:
    row = journal.run("run", params=False)
    assert row is not None
    return journal.end(claim, [*changes, replace(row, status=RunStatus.PAUSED, finished_at=AT)], answered)


def test_a_request_lies_in_the_row_of_its_run_and_leaves_nothing_there(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    before = storage.all()["run/run"]
    assert journal.ask("run", PAUSE)
    assert list(storage.all()) == ["run/run"]
    header = json.loads(storage.all()["run/run"].splitlines()[1])
    assert header["request"] == {**PAUSE._asdict(), "at": AT.isoformat()}
    assert journal.answer(claim, PAUSE)
    assert journal.run("run") == KeyValueJournal(storage, JsonCodec()).run("run")
    assert end(journal, claim, [], None)
    header = json.loads(storage.all()["run/run"].splitlines()[1])
    assert header.keys() == json.loads(before.splitlines()[1]).keys()


def test_an_end_alone_is_one_put(journal: KeyValueJournal, storage: Counting, claim: Claim) -> None:
    puts = len(storage.puts)
    assert end(journal, claim, [], None)
    assert storage.puts[puts:] == ["run/run"]


def test_neither_a_claim_nor_an_end_reads_the_params(storage: Counting) -> None:
    class NoJson(JsonCodec):
        def encode(self, value: Any) -> bytes:
            return b"not to be read"

        def decode(self, data: bytes) -> Any:
            raise AssertionError(data)

    journal = KeyValueJournal(storage, NoJson())
    journal.create(RunRecord("run", "workflow", None, {"n": 1}, "sequential", RunStatus.PENDING, AT))
    claim = journal.claim("run", "me", AT)
    assert journal.ask("run", PAUSE)
    assert end(journal, claim, [], PAUSE)
    assert storage.all()["run/run"].endswith(b"\nnot to be read")


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("first", [None, PAUSE], ids=["nothing waits", "what led to it waits"])
def test_what_is_asked_in_the_middle_of_an_end_is_seen_or_refused(what: str, first: Request | None) -> None:
    changes = ENDS[what]
    for at in range(1, 100):
        race, heard, ended = Race(), list[bool](), list[bool]()
        if first is not None:
            assert race.heir.ask("run", first)

        def ask(race: Race = race, heard: list[bool] = heard) -> None:
            heard.append(race.heir.ask("run", CANCEL, first))

        def finish(race: Race = race, ended: list[bool] = ended) -> None:
            ended.append(end(race.former, race.claim, changes, first))

        race.interrupt(at, finish, ask)
        if not race.was_interrupted:
            assert at > 3
            break
        assert [*heard, *ended].count(True) == 1, f"both or neither ({at})"
        (found,) = race.heir.tasks("run", ["task"])["task"].attempts
        if ended == [False]:
            assert found.status is AttemptStatus.RUNNING, f"something was written ({at})"
            assert race.heir.asked("run") == CANCEL
            assert end(race.former, race.claim, changes, CANCEL)
        assert race.heir.asked("run") is None
    else:
        pytest.fail("it never came to an end")


@pytest.mark.parametrize("what", ENDS)
def test_a_claim_in_the_middle_of_an_end_loses_no_request(what: str) -> None:
    for at in range(1, 100):
        race, refused = Race(), list[bool]()
        assert race.heir.ask("run", PAUSE)

        def finish(race: Race = race, refused: list[bool] = refused) -> None:
            try:
                assert end(race.former, race.claim, ENDS[what], PAUSE)
            except ClaimLost:
                refused.append(True)

        race.interrupt(at, finish, race.take_over)
        if not race.was_interrupted:
            assert at > 3
            break
        assert refused, f"somebody else has claimed it ({at})"
        row = race.heir.run("run")
        assert row is not None
        assert (row.status, row.fence) == (RunStatus.RUNNING, 2)
        assert race.heir.asked("run") == PAUSE, f"it was not answered by this end ({at})"
        assert race.former.ask("run", CANCEL, PAUSE), f"the heir can be asked ({at})"
    else:
        pytest.fail("it never came to an end")


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("waits", [None, PAUSE], ids=["nothing waits", "something waits"])
def test_whoever_dies_in_the_middle_of_an_end_leaves_a_run_that_can_be_asked_and_claimed(
    what: str, waits: Request | None
) -> None:
    for puts in range(1, 10):
        storage = Counting()
        journal = KeyValueJournal(storage, JsonCodec())
        journal.create(RunRecord("run", "workflow", None, {"n": 1}, "sequential", RunStatus.PENDING, AT))
        claim = journal.claim("run", "me", AT)
        journal.commit(claim, [running()])
        if waits is not None:
            assert journal.ask("run", waits)
        storage.fail_at = len(storage.puts) + puts
        try:
            ended = end(journal, claim, ENDS[what], waits)
        except StorageError:
            ended = False
        storage.fail_at = None
        heir = other(journal)
        row = heir.run("run")
        assert row is not None
        assert (row.status is RunStatus.PAUSED) is ended
        if ended:
            break
        assert heir.asked("run") == waits, "it has not ended, and nothing was answered"
        # once its owner has begun to end it, it is asked nothing before it is claimed
        assert heir.ask("run", CANCEL, waits) is (puts == 1)
        waiting = heir.asked("run")
        mine = heir.claim("run", "heir", AT)
        assert heir.asked("run") == waiting
        assert heir.ask("run", PAUSE, waiting)
        assert end(heir, mine, [], PAUSE)
        assert heir.run("run", params=True) is not None
    else:
        pytest.fail("it never came to an end")
    assert puts == (2 if what == "alone" else 5)


def test_an_owner_that_could_not_write_its_end_can_try_again(
    journal: KeyValueJournal, storage: Counting, claim: Claim
) -> None:
    journal.commit(claim, [running()])
    storage.fail_at = len(storage.puts) + 2
    with pytest.raises(StorageError):
        end(journal, claim, ENDS["with a task"], None)
    storage.fail_at = None
    assert not other(journal).ask("run", PAUSE), "it is about to end"
    assert end(journal, claim, ENDS["with a task"], None)
    assert other(journal).tasks("run", ["task"])["task"].attempts == (completed(),)


# Idempotency keys


def test_the_key_of_a_run_lies_where_no_run_can(journal: KeyValueJournal, storage: Counting) -> None:
    run = RunRecord("%keys", "a/b", None, {}, "sequential", RunStatus.PENDING, AT, idempotency_key="c/%")
    assert journal.create(run)
    assert sorted(storage.all()) == ["%25keys/run", "%keys/a%2Fb/c%2F%25"]
    assert storage.all()["%keys/a%2Fb/c%2F%25"] == b"%keys"


def test_a_run_whose_making_was_broken_off_after_its_key_can_be_made(
    journal: KeyValueJournal, storage: Counting
) -> None:
    run = RunRecord("one", "workflow", None, {}, "sequential", RunStatus.PENDING, AT, idempotency_key="key")
    storage.fail_at = len(storage.puts) + 2
    with pytest.raises(StorageError):
        journal.create(run)
    storage.fail_at = None
    assert journal.run("one") is None
    assert journal.find("workflow", "key") == "one"
    assert not journal.create(replace(run, workflow_id="two"))
    assert other(journal).create(run)
    assert journal.run("one") == run
