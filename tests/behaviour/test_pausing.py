"""Pausing and resuming: what goes on where, and no attempt more than it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Config, Manager, MemoryStorage, Run, TaskContext, TaskStatus, Workflow, task
from dotflow_like.config import open_journal
from dotflow_like.record.journal import Journal
from dotflow_like.testing import FakeClock

QUIET: dict[str, Any] = {"on_failure": lambda tasks: None}

PLACES: dict[str, Callable[[Path], Any]] = {
    "MemoryStorage": lambda folder: MemoryStorage(),
    "files": lambda folder: folder / "files",
    "sqlite": lambda folder: f"sqlite:///{folder}/runs.db?durability=process",
}


@pytest.fixture(params=PLACES)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return PLACES[request.param](tmp_path)


def journal_of(storage: Any) -> Journal:
    return open_journal(Config(storage=storage), Workflow([]))


def fails_first(ctx: TaskContext) -> str:
    if ctx.attempt.number == 1:
        raise ValueError("why")
    return "done"


def retries_first(ctx: TaskContext) -> str:
    if ctx.attempt.number == 1:
        ctx.retry("later", after=3600)
    return "done"


WAITING = {
    "after an error": task(fails_first, name="it", retry=2, retry_delay=3600),
    "after ctx.retry": task(retries_first, name="it"),
}
FIRST = {"after an error": ("failed", "retried"), "after ctx.retry": ("completed", "retried")}


def paused_while_it_waits(
    workflow: Workflow, storage: Any, until: Callable[..., None], times: int = 1, **way: Any
) -> Run:
    """Run a workflow until its task 'it' waits, and pause it; so many times; return the last run."""
    for _ in range(times):
        run = workflow.start(storage=storage, workflow_id="w", resume=True, **way)
        until(lambda: run["it"].status is TaskStatus.RETRYING, "the wait")  # noqa: B023 - called at once
        assert run.pause() is True
        run.wait(30)
        assert (run.status, run["it"].status) == ("paused", "paused")
    return run


@pytest.mark.parametrize("kind", WAITING)
def test_three_pauses_before_a_waiting_task_make_no_attempt_more(
    kind: str, storage: Any, until: Callable[..., None]
) -> None:
    workflow = Workflow([WAITING[kind], task(lambda: "later", name="later")])
    runs = [paused_while_it_waits(workflow, storage, until) for _ in range(3)]
    assert runs[0]["it"].attempts == runs[1]["it"].attempts == runs[2]["it"].attempts
    first, second = journal_of(storage).attempts("w")
    assert [first, second] == [*runs[2]["it"].attempts]
    assert (first.status, first.outcome) == FIRST[kind]
    assert (second.number, second.status, second.outcome) == (2, "scheduled", None)
    assert first.finished_at is not None
    assert second.scheduled_at == first.finished_at + timedelta(seconds=3600)

    with FakeClock(second.scheduled_at - timedelta(seconds=600)) as clock:
        run = workflow.run(storage=storage, workflow_id="w", resume=True)
        assert clock.elapsed == 600, "it waits the rest"
    assert run.status == "completed"
    assert [each.status for each in run["it"].attempts] == [FIRST[kind][0], "completed"]
    assert run["it"].attempts[1].scheduled_at == second.scheduled_at
    assert run["later"].result == "later"


@pytest.mark.parametrize("kind", WAITING)
def test_resumed_after_its_time_it_runs_at_once(kind: str, storage: Any, until: Callable[..., None]) -> None:
    workflow = Workflow([WAITING[kind]])
    second = paused_while_it_waits(workflow, storage, until, times=2).attempts[1]
    with FakeClock(second.scheduled_at + timedelta(days=1)) as clock:
        run = workflow.run(storage=storage, workflow_id="w", resume=True)
        assert clock.elapsed == 0
    assert run.status == "completed"
    assert [each.number for each in run.attempts] == [1, 2]
    assert run.attempts[1].started_at == second.scheduled_at + timedelta(days=1)


def test_so_it_is_in_every_mode(way: dict[str, Any], until: Callable[..., None]) -> None:
    storage = MemoryStorage()
    workflow = Workflow([WAITING["after an error"]])
    second = paused_while_it_waits(workflow, storage, until, times=3, **way).attempts[1]
    with FakeClock(second.scheduled_at - timedelta(seconds=60)) as clock:
        run = workflow.run(storage=storage, workflow_id="w", resume=True, **way).wait()
        assert clock.elapsed >= 60
    assert run.status == "completed"
    assert [each.outcome for each in run.attempts] == ["retried", "success"]


def test_an_item_that_waits_is_treated_alike(until: Callable[..., None]) -> None:
    storage, calls = MemoryStorage(), []

    def body(x: int, ctx: TaskContext) -> int:
        calls.append(x)
        if x == 2 and ctx.attempt.number == 1:
            ctx.retry(after=3600)
        return x

    workflow = Workflow([task(body, name="many").map(x=[1, 2, 3])])
    for _ in range(3):
        run = workflow.start(storage=storage, workflow_id="w", resume=True)
        until(lambda: any(each.status == "retrying" for each in run["many"].items or ()), "the wait")  # noqa: B023
        run.pause()
        run.wait(30)
        assert (run.status, run["many"].status) == ("paused", "paused")
    (second,) = [each for each in journal_of(storage).attempts("w") if each.status == "scheduled"]
    assert (second.task_id, second.number) == ("many[1]", 2)
    with FakeClock(second.scheduled_at):
        again = workflow.run(storage=storage, workflow_id="w", resume=True)
    assert again["many"].result == [1, 2, 3]
    assert sorted(calls) == [1, 2, 2, 3]


# A new attempt where one has ended


@pytest.mark.parametrize(
    ("options", "ended"),
    [({"on_exception": "pause"}, "paused"), ({"on_exception": "cancel"}, "cancelled"), ({}, "failed")],
)
def test_resume_after_a_failure_is_a_new_attempt_of_the_same_task(
    options: dict[str, Any], ended: str, storage: Any
) -> None:
    workflow = Workflow([task(fails_first, name="it", **options), task(lambda: 1, name="later")])
    run = workflow.run(storage=storage, workflow_id="w", **QUIET)
    assert run.status == ended
    again = workflow.run(storage=storage, workflow_id="w", resume=True)
    assert again.status == "completed"
    assert again["it"].result == "done"
    assert [(each.number, each.outcome) for each in again["it"].attempts] == [(1, "failed"), (2, "success")]
    assert again["it"].attempts[0] == run["it"].attempts[0]
    assert again["it"].attempts[0].idempotency_key == again["it"].attempts[1].idempotency_key
    assert again["later"].status == "completed"


def test_a_task_that_pauses_each_time_makes_one_attempt_each_time(run_in: Callable[..., Manager]) -> None:
    storage = MemoryStorage()
    pauses = task(lambda ctx: ctx.pause(f"time {ctx.attempt.number}"), name="it")
    for number in range(1, 5):
        run = run_in([pauses], storage=storage, workflow_id="w", resume=True)
        assert (run.status, run["it"].reason) == ("paused", f"time {number}")
        assert [each.outcome for each in run.attempts] == ["paused"] * number


def test_what_was_completed_before_a_pause_is_restored_after_it(storage: Any) -> None:
    calls: list[str] = []

    def note(name: str) -> str:
        calls.append(name)
        return name

    def it(ctx: TaskContext) -> str:
        if ctx.attempt.number == 1:
            ctx.pause()
        return note("it")

    tasks = [
        task(note, name="before").bind(name="before"),
        task(it),
        task(note, name="later").bind(name="later"),
    ]
    Manager(tasks, storage=storage, workflow_id="w")
    run = Manager(tasks, storage=storage, workflow_id="w", resume=True)
    assert calls == ["before", "it", "later"]
    assert [each.restored for each in run.tasks] == [True, False, False]
    assert run.reason is None
    assert [each.reason for each in run.tasks] == [None, None, None]


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("word", ["pause", "cancel"])
def test_a_retry_that_is_said_when_the_run_is_to_end_makes_no_attempt_more(
    word: str, after: float, until: Callable[..., None]
) -> None:
    storage, begun, gate = MemoryStorage(), threading.Event(), threading.Event()

    def it(ctx: TaskContext) -> str:
        if ctx.attempt.number == 1:
            begun.set()
            assert gate.wait(30)
            ctx.retry(after=after)
        return "done"

    workflow = Workflow([task(it)])
    run = workflow.start(storage=storage, workflow_id="w")
    assert begun.wait(30)
    getattr(run, word)()
    gate.set()
    run.wait(30)
    ended = {"pause": "paused", "cancel": "cancelled"}[word]
    assert (run.status, run["it"].status) == (ended, ended)
    recorded = journal_of(storage).attempts("w")
    assert recorded == [*run.attempts]
    assert (recorded[0].status, recorded[0].outcome) == ("completed", "retried")
    assert [each.status for each in recorded[1:]] in ([], ["scheduled" if word == "pause" else "cancelled"])
    with FakeClock(recorded[0].scheduled_at):
        again = workflow.run(storage=storage, workflow_id="w", resume=True)
    assert (again.status, again["it"].result) == ("completed", "done")
    if word == "pause":
        assert [each.outcome for each in again.attempts] == ["retried", "success"]


@pytest.mark.parametrize("asks", ["check", "sleep"])
def test_a_body_that_looks_is_paused_in_its_middle(
    asks: str, way: dict[str, Any], tmp_path: Path, until: Callable[..., None]
) -> None:
    def it(ctx: TaskContext) -> str:
        if ctx.attempt.number > 1:
            return "done"
        (tmp_path / "begun").touch()
        for _ in range(60_000):
            ctx.sleep(3600 if asks == "sleep" else 0.001)
            try:
                ctx.check()
            except Exception:
                return "swallowed"
        return "never asked"

    storage = MemoryStorage()
    workflow = Workflow([task(it)])
    run = workflow.start(storage=storage, workflow_id="w", **way)
    until((tmp_path / "begun").exists, "the body")
    run.pause()
    run.wait(30)
    assert (run.status, run["it"].status) == ("paused", "paused")
    (attempt,) = run.attempts
    assert (attempt.status, attempt.outcome) == ("cancelled", "paused")
    again = workflow.run(storage=storage, workflow_id="w", resume=True, **way).wait()
    assert again["it"].result == "done"
    assert [each.outcome for each in again.attempts] == ["paused", "success"]


# From outside


def test_pause_and_resume_by_workflow_id_from_another_thread(
    way: dict[str, Any], tmp_path: Path, until: Callable[..., None]
) -> None:
    import dotflow_like

    storage = f"sqlite:///{tmp_path}/runs.db?durability=process"

    def it(ctx: TaskContext) -> str:
        if ctx.attempt.number == 1:
            (tmp_path / "begun").touch()
            ctx.sleep(60)
            ctx.check()
        return "done"

    tasks = [task(it), task(lambda: "later", name="later")]
    run = Workflow(tasks).start(storage=storage, workflow_id="w", **way)
    until((tmp_path / "begun").exists, "the body")
    assert dotflow_like.pause("w", storage=storage, reason="lunch") is True
    run.wait(30)
    assert run.status == "paused"
    assert run.reason is not None
    assert "lunch" in run.reason
    assert run["it"].status == "paused"
    again = dotflow_like.resume("w", tasks, storage=storage, **way).wait()
    assert again.status == "completed"
    assert [each.outcome for each in again["it"].attempts] == ["paused", "success"]
    assert again["later"].result == "later"


def test_a_wait_of_an_hour_is_paused_soon(storage: Any, until: Callable[..., None]) -> None:
    import dotflow_like

    run = Workflow([WAITING["after ctx.retry"]]).start(storage=storage, workflow_id="w")
    until(lambda: run["it"].status is TaskStatus.RETRYING, "the wait")
    assert dotflow_like.pause("w", storage=storage) is True
    run.wait(30)
    assert (run.status, run["it"].status) == ("paused", "paused")
    assert [each.status for each in run.attempts] == ["completed", "scheduled"]


@pytest.mark.parametrize("word", ["pause", "skip"])
def test_a_run_that_has_ended_cannot_be_steered(word: str, storage: Any) -> None:
    import dotflow_like
    from dotflow_like.errors import IllegalMove

    run = Manager([task(lambda: 1, name="it")], storage=storage, workflow_id="w")
    with pytest.raises(IllegalMove, match="completed"):
        getattr(dotflow_like, word)("w", storage=storage)
    assert dotflow_like.cancel("w", storage=storage) is False
    record = journal_of(storage).run("w")
    assert record is not None
    assert record.status == "completed"
    assert journal_of(storage).asked("w") is None
    assert journal_of(storage).attempts("w") == run.attempts


# A task that is gone


def test_a_task_that_is_gone_while_its_attempt_waits_pauses_the_run_that_names_it(
    storage: Any, until: Callable[..., None]
) -> None:
    it, other = WAITING["after ctx.retry"], task(lambda: "other", name="other")
    paused_while_it_waits(Workflow([it, other]), storage, until)
    run = Workflow([other]).run(storage=storage, workflow_id="w", resume=True)
    assert run.status == "paused"
    assert run.reason is not None
    assert "'it'" in run.reason
    record = journal_of(storage).run("w")
    assert record is not None
    assert (record.status, record.reason) == ("paused", run.reason)
    waiting = [each for each in journal_of(storage).attempts("w") if each.task_id == "it"]
    assert [each.status for each in waiting] == ["completed", "scheduled"]
    with FakeClock(waiting[1].scheduled_at):
        again = Workflow([it, other]).run(storage=storage, workflow_id="w", resume=True)
    assert again.status == "completed"
    assert again["it"].result == "done"
    assert again["other"].result == "other"


@pytest.mark.filterwarnings("ignore::dotflow_like.DotflowWarning")  # there are fewer items, as is said
def test_an_item_that_is_gone_while_its_attempt_waits_pauses_the_run_too(until: Callable[..., None]) -> None:
    storage = MemoryStorage()

    def body(x: int, ctx: TaskContext) -> int:
        if x == 3 and ctx.attempt.number == 1:
            ctx.retry(after=3600)
        return x

    def many(last: int) -> Workflow:
        return Workflow([task(body, name="many").map(x=range(1, last + 1))])

    run = many(3).start(storage=storage, workflow_id="w")
    until(lambda: any(each.status == "retrying" for each in run["many"].items or ()), "the wait")
    run.pause()
    run.wait(30)
    fewer = many(2).run(storage=storage, workflow_id="w", resume=True)
    assert fewer.status == "paused"
    assert fewer.reason is not None
    assert "'many[2]'" in fewer.reason
    (waiting,) = [each for each in journal_of(storage).attempts("w") if each.status == "scheduled"]
    with FakeClock(waiting.scheduled_at):
        again = many(3).run(storage=storage, workflow_id="w", resume=True)
    assert (again.status, again["many"].result) == ("completed", [1, 2, 3])


@pytest.mark.filterwarnings("ignore::dotflow_like.DotflowWarning")  # it starts over, as is said
@pytest.mark.parametrize("listed", [True, False], ids=["the same tasks", "without the one that waits"])
def test_starting_over_waits_for_nothing(listed: bool, storage: Any, until: Callable[..., None]) -> None:
    it, other = WAITING["after ctx.retry"], task(lambda: "other", name="other")
    paused_while_it_waits(Workflow([it, other]), storage, until)
    with FakeClock() as clock:  # it is early in the century: who waits for a time, waits for years
        run = Workflow([it, other] if listed else [other]).run(storage=storage, workflow_id="w")
        assert clock.elapsed < 3600 * 24
    assert run.status == "completed"
    recorded = journal_of(storage).attempts("w")
    assert not [each for each in recorded if each.status in ("scheduled", "running")]
