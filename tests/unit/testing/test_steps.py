"""A workflow, run task by task."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from dotflow_like import ConfigError, Manager, Mode, TaskContext, Workflow, clock, task
from dotflow_like.testing import FakeClock, Steps, ran, run_inline


@task
def first() -> int:
    return 1


@task
def second(x: int) -> int:
    return x + 1


@task
def third(x: int) -> int:
    return x + 1


def nothing() -> list[int]:
    return []


CHAIN = Workflow([first, second.bind(x=first), third.bind(x=second)])


@pytest.mark.parametrize("mode", list(Mode))
def test_it_runs_the_next_task_and_no_more(mode: Mode) -> None:
    steps = Steps(CHAIN, mode=mode)
    assert steps.run is None
    for number, name in enumerate(["first", "second", "third"], 1):
        done = steps.next()
        assert done is not None
        assert (done.task_id, done.status, done.result) == (name, "completed", number)
        assert steps.run is not None
        assert ran(steps.run) == [name]
        assert [each.status for each in steps.run.tasks] == ["completed"] * number + ["pending"] * (
            3 - number
        )
        assert steps.run.reason == (None if name == "third" else "stepped")
    assert steps.run is not None
    assert steps.run.status == "completed"
    assert [steps.next(), steps.next()] == [None, None]
    assert [each.number for each in steps.run.attempts] == [1, 1, 1]


def test_between_steps_the_run_is_paused_and_ends_only_once() -> None:
    ended: list[str] = []
    steps = Steps([first, second.bind(x=first)], on_success=lambda tasks: ended.append("success"))
    steps.next()
    assert steps.run is not None
    assert (steps.run.status, ended) == ("paused", [])
    steps.next()
    steps.next()
    assert ended == ["success"]


def test_a_step_is_a_task_with_all_its_attempts() -> None:
    calls: list[int] = []

    @task(retry=3, retry_delay=3600)
    def flaky() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise OSError
        return len(calls)

    steps = Steps([flaky, second.bind(x=flaky)])
    done = steps.next()
    assert done is not None
    assert (done.result, done.retry_count, done.duration) == (3, 2, 7200)


def test_time_goes_on_from_step_to_step() -> None:
    @task(retry=2, retry_delay=60)
    def flaky(ctx: TaskContext) -> None:
        if ctx.attempt.number == 1:
            raise OSError

    steps = Steps([flaky, first])
    one, two = steps.next(), steps.next()
    assert one is not None
    assert two is not None
    assert two.started_at == one.finished_at
    with FakeClock() as fake:
        steps = Steps([flaky, first])
        steps.next()
        assert fake.elapsed == 60
    assert not isinstance(clock.current(), FakeClock)


def test_of_a_map_each_item_is_a_step() -> None:
    items = second.map(x=[1, 2])
    total = task(sum, name="total").bind(iterable=items)
    steps = Steps([items, total])
    done = []
    while (each := steps.next()) is not None:
        done.append((each.task_id, each.result))
    assert done == [("second[0]", 2), ("second[1]", 3), ("total", 5)]


def test_a_map_over_a_result_and_one_of_nothing() -> None:
    some = task(lambda: [4, 5], name="some")
    none = task(nothing, name="none")
    steps = Steps([none, second.map(x=none), some, third.map(x=some)])
    done = []
    while (each := steps.next()) is not None:
        done.append(each.task_id)
    assert done == ["none", "some", "third[0]", "third[1]"]
    assert steps.run is not None
    assert steps.run["second"].result == []
    assert steps.run["third"].result == [5, 6]


def test_a_last_map_of_nothing_ends_the_run_without_a_step() -> None:
    none = task(nothing, name="none")
    steps = Steps([none, second.map(x=none)])
    assert steps.next() is not None
    assert steps.next() is None
    assert steps.run is not None
    assert steps.run.status == "completed"


def test_a_failed_task_ends_the_run() -> None:
    calls: list[int] = []

    @task(retry=2)
    def bad() -> None:
        calls.append(1)
        raise ValueError

    steps = Steps([first, bad, second.bind(x=first)], on_failure=lambda tasks: None)
    steps.next()
    failed = steps.next()
    assert failed is not None
    assert (failed.task_id, failed.status) == ("bad", "failed")
    assert steps.next() is None
    assert steps.run is not None
    assert (steps.run.status, steps.run["second"].status) == ("failed", "pending")
    assert len(calls) == 2


def test_results_are_kept_as_they_are() -> None:
    thing = object()
    make = task(lambda: thing, name="make")
    look = task(lambda it: it is thing, name="look").bind(
        it=make,
    )
    steps = Steps([make, look])
    steps.next()
    done = steps.next()
    assert done is not None
    assert done.result is True


def test_inputs_need_not_be_comparable() -> None:
    gate = object()
    steps = Steps([task(lambda gate: 1, name="hold").bind(gate=gate), first])
    assert steps.next() is not None
    assert steps.next() is not None


def test_with_a_storage_the_run_can_be_resumed_otherwise(tmp_path: Path) -> None:
    steps = Steps(CHAIN, storage=tmp_path, workflow_id="w")
    steps.next()
    run = run_inline(CHAIN, storage=tmp_path, workflow_id="w", resume=True)
    assert ran(run) == ["second", "third"]
    assert steps.next() is None


def test_it_goes_on_with_a_run_that_is_known(tmp_path: Path) -> None:
    Manager([first], storage=tmp_path, workflow_id="w", name="chain")
    steps = Steps([first, second.bind(x=first)], storage=tmp_path, workflow_id="w")
    done = steps.next()
    assert done is not None
    assert done.task_id == "second"


def test_the_run_has_one_id_whoever_gives_it() -> None:
    given = UUID(int=5)
    for options in ({}, {"workflow_id": given}, {"workflow_id": "w"}):
        steps, ids = Steps(CHAIN, **options), set()
        while steps.next() is not None:
            assert steps.run is not None
            ids.add(steps.run.workflow_id)
        assert len(ids) == 1
        assert not options or ids == {str(options["workflow_id"])}


@pytest.mark.parametrize("options", [{"keep_going": True}, {"resume": True}])
def test_options_that_contradict_steps_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"Steps takes no {next(iter(options))}="):
        Steps(CHAIN, **options)


def test_other_wrong_options_are_refused_before_the_first_step() -> None:
    with pytest.raises(TypeError, match="keep_goin"):
        Steps(CHAIN, keep_goin=True)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="executor"):
        Steps(CHAIN, executor="thread")


def test_the_run_is_there_when_a_callback_raises() -> None:
    def raising(tasks: object) -> None:
        raise LookupError

    steps = Steps([first], on_success=raising)
    with pytest.raises(LookupError):
        steps.next()
    assert steps.run is not None
    assert steps.run.status == "completed"
    assert steps.next() is None


def test_a_task_that_skips_retries_or_finishes_is_one_step() -> None:
    @task
    def leave(ctx: TaskContext) -> None:
        ctx.skip("nothing")

    @task
    def ask(ctx: TaskContext) -> int:
        if ctx.attempt.number < 3:
            ctx.retry(after=3600)
        return ctx.attempt.number

    @task
    def done(ctx: TaskContext) -> None:
        ctx.finish("enough")

    steps = Steps([leave, ask, done, first])
    told = []
    while (each := steps.next()) is not None:
        told.append((each.task_id, each.status, each.result))
    assert told == [("leave", "skipped", None), ("ask", "completed", 3), ("done", "completed", None)]
    assert steps.run is not None
    assert (steps.run.status, steps.run["first"].reason) == ("completed", "finished")


def test_a_condition_that_skips_is_a_step_and_sees_what_was_changed_before() -> None:
    wanted = False
    steps = Steps(
        [
            task(lambda: 1, name="never", run_if=lambda: wanted),
            task(lambda: 2, name="now", run_if=lambda: wanted),
        ]
    )
    one = steps.next()
    wanted = True
    two = steps.next()
    assert one is not None
    assert two is not None
    assert (one.status, two.status) == ("skipped", "completed")


def test_a_task_that_pauses_ends_the_run() -> None:
    @task
    def ask(ctx: TaskContext) -> None:
        ctx.pause("asks")

    steps = Steps([ask, first])
    paused = steps.next()
    assert paused is not None
    assert (paused.task_id, paused.status) == ("ask", "paused")
    assert steps.next() is None
