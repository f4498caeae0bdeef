"""Skipping a task from outside, by the id of its run, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dotflow_like
from dotflow_like import Config, MemoryStorage, Run, TaskContext, TaskStatus, Workflow, task
from dotflow_like.config import open_journal
from dotflow_like.record.journal import Journal


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/runs.db?durability=process"


def journal_of(storage: Any) -> Journal:
    return open_journal(Config(storage=storage), Workflow([]))


def fails() -> None:
    raise ValueError("why")


WAITS = task(fails, name="it", retry=2, retry_delay=3600)


def waiting(workflow: Workflow, storage: Any, until: Callable[..., None], **options: Any) -> Run:
    """Start a workflow; return when its task 'it' waits for its second attempt."""
    run = workflow.start(storage=storage, workflow_id="w", **options)
    until(lambda: run["it"].status is TaskStatus.RETRYING, "the wait")
    return run


def test_a_task_that_waits_is_skipped_and_the_run_goes_on(
    storage: str, way: dict[str, Any], until: Callable[..., None]
) -> None:
    needs = task(lambda x: x, name="needs").bind(x=WAITS)
    workflow = Workflow([WAITS, needs, task(lambda: "later", name="later")])
    run = waiting(workflow, storage, until, **way)
    assert dotflow_like.skip("w", "it", storage=storage, reason="not today") is True
    run.wait(30)
    assert run.status == "completed"
    assert [each.status for each in run.tasks] == ["skipped", "skipped", "completed"]
    assert run["it"].reason == "not today"
    first, second = (each for each in journal_of(storage).attempts("w") if each.task_id == "it")
    assert (first.status, first.outcome) == ("failed", "retried")
    assert (second.status, second.outcome) == ("skipped", "skipped")
    assert (second.metadata["signal"], second.metadata["signal_reason"]) == ("skip", "not today")
    again = workflow.run(storage=storage, workflow_id="w", resume=True)
    assert [each.status for each in again.tasks] == ["skipped", "skipped", "completed"]
    assert again.attempts == run.attempts


def test_without_a_task_the_one_that_waits_is_meant(storage: str, until: Callable[..., None]) -> None:
    run = waiting(Workflow([WAITS, task(lambda: 1, name="later")]), storage, until)
    assert dotflow_like.skip("w", storage=storage) is True
    run.wait(30)
    assert (run.status, run["it"].status, run["later"].status) == ("completed", "skipped", "completed")


def test_a_task_whose_turn_has_not_come_is_skipped(storage: str, until: Callable[..., None]) -> None:
    ran: list[str] = []
    later = task(lambda: ran.append("later"), name="later")
    last = task(lambda: ran.append("last"), name="last")
    run = waiting(Workflow([WAITS, later, last]), storage, until)
    assert dotflow_like.skip("w", "later", storage=storage, reason="no need") is True
    until(lambda: run["later"].status is TaskStatus.SKIPPED, "the skip")
    assert dotflow_like.skip("w", "it", storage=storage) is True
    run.wait(30)
    assert run.status == "completed"
    assert [each.status for each in run.tasks] == ["skipped", "skipped", "completed"]
    assert run["later"].reason == "no need"
    assert ran == ["last"]


def test_what_comes_after_a_task_that_was_skipped_before_its_turn_waits_for_all_before_it(
    storage: str, until: Callable[..., None]
) -> None:
    def first() -> None:
        assert dotflow_like.skip("w", "second", storage=storage) is True
        journal = journal_of(storage)
        until(lambda: any(each.status == "skipped" for each in journal.attempts("w")), "the skip")

    before, beside = task(first), task(lambda: None, name="beside")
    second = task(lambda: None, name="second").after(before)
    last = task(lambda: None, name="last").after(second, beside)
    way = {"mode": "parallel", "executor": "thread"}
    run = Workflow([before, beside, second, last]).run(storage=storage, workflow_id="w", **way)
    assert [each.status for each in run.tasks] == ["completed", "completed", "skipped", "completed"]
    assert run[last].started_at >= run[before].finished_at


def test_a_body_that_looks_is_skipped_in_its_middle(
    storage: str, way: dict[str, Any], tmp_path: Path, until: Callable[..., None]
) -> None:
    def it(ctx: TaskContext) -> str:
        (tmp_path / "begun").touch()
        for _ in range(3600):
            ctx.sleep(10)
            ctx.check()
        return "never asked"

    run = Workflow([task(it), task(lambda: "later", name="later")]).start(
        storage=storage, workflow_id="w", **way
    )
    until((tmp_path / "begun").exists, "the body")
    assert dotflow_like.skip("w", "it", storage=storage, reason="enough") is True
    run.wait(60)
    assert (run.status, run["it"].status, run["later"].status) == ("completed", "skipped", "completed")
    (attempt,) = run["it"].attempts
    assert (attempt.status, attempt.outcome) == ("skipped", "skipped")
    assert run["it"].reason == "enough"


def test_what_a_body_returns_that_does_not_look_is_its_result(
    storage: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    def it() -> str:
        (tmp_path / "begun").touch()
        until((tmp_path / "over").exists, "the end")
        return "done"

    run = Workflow([task(it)]).start(storage=storage, workflow_id="w")
    until((tmp_path / "begun").exists, "the body")
    dotflow_like.skip("w", "it", storage=storage)
    (tmp_path / "over").touch()
    run.wait(30)
    assert (run.status, run["it"].status, run["it"].result) == ("completed", "completed", "done")


def test_a_body_that_does_not_look_and_wants_another_attempt_is_skipped(
    storage: str, way: dict[str, Any], tmp_path: Path, until: Callable[..., None]
) -> None:
    def it(ctx: TaskContext, begun: str, asked: str) -> None:
        Path(begun).touch()
        until(Path(asked).exists, "the request")
        ctx.retry()

    begun, asked = tmp_path / "begun", tmp_path / "asked"
    tasks = [task(it).bind(begun=str(begun), asked=str(asked)), task(lambda: 1, name="later")]
    run = Workflow(tasks).start(storage=storage, workflow_id="w", **way)
    until(begun.exists, "the body")
    assert dotflow_like.skip("w", "it", storage=storage, reason="no more") is True
    until(lambda: journal_of(storage).asked("w") is None, "the answer")
    asked.touch()
    run.wait(30)
    assert (run.status, run["it"].status, run["it"].reason) == ("completed", "skipped", "no more")
    assert len(run["it"].attempts) == 1


def test_one_item_of_a_map_is_skipped(storage: str, until: Callable[..., None]) -> None:
    def body(x: int, ctx: TaskContext) -> int:
        if x == 2:
            ctx.retry(after=3600)
        return x

    run = Workflow([task(body, name="many").map(x=[1, 2, 3])]).start(storage=storage, workflow_id="w")
    until(lambda: any(each.status == "retrying" for each in run["many"].items or ()), "the wait")
    assert dotflow_like.skip("w", "many[1]", storage=storage) is True
    run.wait(30)
    assert (run.status, run["many"].result) == ("completed", [1, None, 3])


def test_a_task_of_a_paused_run_is_skipped_when_it_is_resumed(
    storage: str, until: Callable[..., None]
) -> None:
    workflow = Workflow([WAITS, task(lambda: "later", name="later")])
    run = waiting(workflow, storage, until)
    run.pause()
    run.wait(30)
    assert dotflow_like.skip("w", "it", storage=storage, reason="while it was paused") is True
    again = workflow.start(storage=storage, workflow_id="w", resume=True).wait(30)
    assert (again.status, again["it"].status) == ("completed", "skipped")
    assert again["it"].reason == "while it was paused"
    assert journal_of(storage).asked("w") is None


def test_in_memory_it_is_the_storage_that_is_named(until: Callable[..., None]) -> None:
    storage = MemoryStorage()
    run = waiting(Workflow([WAITS]), storage, until)
    assert dotflow_like.skip("w", "it", storage=storage) is True
    run.wait(30)
    assert (run.status, run["it"].status) == ("completed", "skipped")
