"""Definitions hold no state: runs at once, again, and side by side do not see each other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dotflow_like import Context, Manager, RunStatus, Workflow, task


def test_two_managers_at_once_in_threads_do_not_see_each_other() -> None:
    meeting = threading.Barrier(2, timeout=30)
    runs: dict[str, Manager] = {}

    @task
    def first(value: str) -> str:
        meeting.wait()
        return value

    @task
    def second(previous_context: Context, ctx: Any) -> Any:
        meeting.wait()
        return previous_context.storage, ctx.workflow_id

    def go(name: str) -> None:
        runs[name] = Manager([first, second], workflow_id=name, params={"value": name})

    threads = [threading.Thread(target=go, args=(name,)) for name in "ab"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    for name in "ab":
        assert runs[name].status is RunStatus.COMPLETED
        assert runs[name][second].result == (name, name)


def test_many_parallel_managers_at_once_in_threads() -> None:
    runs: list[Manager] = []
    double = task(lambda x: 2 * x, name="double")

    def go(n: int) -> None:
        runs.append(Manager([double.map(x=range(n))], mode="parallel", max_workers=1, workflow_id=str(n)))

    threads = [threading.Thread(target=go, args=(n,)) for n in (2, 3, 4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {run.workflow_id: run.raise_for_failure().tasks[0].result for run in runs} == {
        "2": [0, 2],
        "3": [0, 2, 4],
        "4": [0, 2, 4, 6],
    }


def test_one_task_in_two_workflows() -> None:
    @task
    def tell(ctx: Any, word: str) -> str:
        return f"{ctx.workflow_id} {word}"

    one = Workflow([tell.bind(word="one")], name="one")
    two = Workflow([tell.bind(word="two"), tell.bind(word="three")], name="two")
    first = one.run(workflow_id="a")
    second = two.run(workflow_id="b")
    assert first[tell].result == "a one"
    assert [each.result for each in second.tasks] == ["b two", "b three"]
    assert [each.task_id for each in second.tasks] == ["tell", "tell#2"]


def test_a_workflow_runs_any_number_of_times_each_with_an_id_of_its_own() -> None:
    calls: list[int] = []
    workflow = Workflow([task(lambda: calls.append(1) or len(calls), name="count")])
    runs = [workflow.run() for _ in range(3)]
    assert [run["count"].result for run in runs] == [1, 2, 3]
    assert len({run.workflow_id for run in runs}) == 3
    assert [len(run.attempts) for run in runs] == [1, 1, 1]


def test_a_workflow_may_run_twice_at_once() -> None:
    meeting = threading.Barrier(2, timeout=30)
    workflow = Workflow([task(meeting.wait, name="meet")])
    runs = [workflow.start(), workflow.start()]
    assert sorted(run.wait().raise_for_failure()["meet"].result for run in runs) == [0, 1]


def test_the_same_values_constructed_twice_are_independent() -> None:
    def build() -> Manager:
        first = task(lambda: [], name="first")  # noqa: PIE807  # a new list each time is the point

        def fill(values: list[int]) -> list[int]:
            values.append(1)
            return values

        return Manager([first, task(fill, name="fill").bind(values=first)])

    assert [build()["fill"].result for _ in range(2)] == [[1], [1]]


def test_deriving_a_task_leaves_the_one_it_came_from() -> None:
    @task
    def add(x: int = 1, y: int = 1) -> int:
        return x + y

    derived = add.bind(x=10).with_options(name="other", retry=3)
    run = Manager([add, derived])
    assert [each.result for each in run.tasks] == [2, 11]
    assert (add.bound, add.policy.max_attempts, add.name) == ({}, 1, "add")


def test_a_run_does_not_change_its_tasks() -> None:
    @task(retry=2, initial_context=[1])
    def body(initial_context: Context) -> int:
        return len(initial_context.storage)

    before = dict(vars(body))
    Manager([body])
    after = dict(vars(body))
    for state in (before, after):
        state.pop("_signature", None)
    assert before == after
    with pytest.raises(AttributeError):
        body.retry = 5  # type: ignore[attr-defined]


def test_runs_without_an_id_share_nothing_in_memory() -> None:
    storage_free = [Manager([task(lambda: 1, name="a")], workflow_id="same") for _ in range(2)]
    assert [run.status for run in storage_free] == [RunStatus.COMPLETED] * 2
    assert [len(run.attempts) for run in storage_free] == [1, 1]


def test_a_run_inside_a_body() -> None:
    @task
    def outer() -> int:
        return int(Manager([task(lambda: 20, name="inner")])["inner"].result) + 1

    assert Manager([outer])[outer].result == 21
