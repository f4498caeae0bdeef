"""keep_going: who is skipped after a failure, who runs all the same, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dotflow_like import Manager, RunStatus, TaskStatus, task


@task
def bad() -> int:
    raise ValueError("no")


@task
def good() -> int:
    return 1


@task
def take(value: Any) -> Any:
    return value


def quiet(tasks: Any) -> None:
    """Do nothing: an on_failure that keeps the report off stderr."""


PARALLEL: list[dict[str, Any]] = [
    {"mode": "parallel", "executor": "inline"},
    {"mode": "parallel", "executor": "thread", "max_workers": 2},
    {"mode": "parallel", "max_workers": 1},
]


@pytest.fixture(params=[{"mode": "sequential"}, {"mode": "background"}, *PARALLEL], ids=str)
def run(request: pytest.FixtureRequest) -> Callable[..., Manager]:
    return lambda tasks, **options: Manager(
        # local copies travel by value: a worker need not find this file
        tasks,
        on_failure=quiet,
        **(request.param | {"keep_going": True} | options),
    ).wait()


def made(name: str, fails: bool = False) -> Any:
    def body() -> str:
        if fails:
            raise ValueError(name)
        return name

    return task(body, name=name)


def taking(name: str, **bound: Any) -> Any:
    def body(a: Any = None, b: Any = None) -> Any:
        return name, a, b

    return task(body, name=name).bind(**bound)


def test_a_task_bound_to_a_failed_one_is_skipped_with_the_reason(run: Callable[..., Manager]) -> None:
    failed = made("bad", fails=True)
    bound = taking("bound", a=failed)
    ended = run([failed, bound, made("good")])
    assert [each.status for each in ended.tasks] == ["failed", "skipped", "completed"]
    assert ended[bound].reason == "it needs the result of 'bad', which is failed"
    assert ended[bound].result is None
    assert not ended[bound].attempts
    assert ended[bound].duration is None
    assert (ended.status, ended.reason) == (RunStatus.FAILED, "failed: bad")


def test_skipping_goes_on_downstream_with_a_reason_of_its_own(run: Callable[..., Manager]) -> None:
    failed = made("bad", fails=True)
    one = taking("one", a=failed)
    two = taking("two", a=one)
    three = taking("three", a=two, b=made("x"))
    tasks = [failed, one, two, three.bind(b=1)]
    ended = run(tasks)
    assert [each.status for each in ended.tasks] == ["failed", "skipped", "skipped", "skipped"]
    assert ended["two"].reason == "it needs the result of 'one', which is skipped"
    assert ended["three"].reason == "it needs the result of 'two', which is skipped"


def test_a_bind_inside_a_container_is_a_need_too(run: Callable[..., Manager]) -> None:
    failed, fine = made("bad", fails=True), made("fine")
    tasks = [
        failed,
        fine,
        taking("list", a=[fine, failed]),
        taking("dict", a={"x": failed}),
        taking("tuple", a=(failed,)),
        taking("ok", a=[fine]),
    ]
    ended = run(tasks)
    assert [each.status for each in ended.tasks[2:]] == ["skipped", "skipped", "skipped", "completed"]


def test_order_alone_is_no_need(run: Callable[..., Manager]) -> None:
    failed = made("bad", fails=True)
    after = made("after").after(failed)
    ended = run([failed, after])
    assert [each.status for each in ended.tasks] == ["failed", "completed"]


def test_a_task_after_a_skipped_one_runs(run: Callable[..., Manager]) -> None:
    failed = made("bad", fails=True)
    skipped = taking("skipped", a=failed)
    ended = run([failed, skipped, made("after").after(skipped)])
    assert [each.status for each in ended.tasks] == ["failed", "skipped", "completed"]


def test_every_failure_is_named_in_the_reason(run: Callable[..., Manager]) -> None:
    ended = run([made("a", fails=True), made("b"), made("c", fails=True)])
    assert ended.reason == "failed: a, c"


def test_a_map_over_a_failed_task_is_skipped(run: Callable[..., Manager]) -> None:
    failed = made("bad", fails=True)
    mapped = task(lambda x: x, name="mapped").map(x=failed)
    ended = run([failed, mapped])
    assert ended[mapped].status is TaskStatus.SKIPPED
    assert ended[mapped].reason == "it needs the result of 'bad', which is failed"


def test_what_needs_a_failed_map_is_skipped(run: Callable[..., Manager]) -> None:
    mapped = task(lambda x: 1 / x, name="mapped").map(x=[1, 0, 2])
    needs = taking("needs", a=mapped)
    ended = run([mapped, needs])
    assert [each.status for each in ended.tasks] == ["failed", "skipped"]


def test_a_long_chain_of_needs_is_skipped_to_its_end() -> None:
    tasks = [made("bad", fails=True)]
    for i in range(3000):
        tasks.append(taking(f"t{i}", a=tasks[-1]))
    ended = Manager(tasks, keep_going=True, on_failure=quiet)
    assert {each.status for each in ended.tasks[1:]} == {TaskStatus.SKIPPED}


def test_a_skipped_task_waits_for_nobody_but_is_not_overtaken() -> None:
    log: list[str] = []
    slow = task(lambda: log.append("slow"), name="slow")
    failed = made("bad", fails=True)
    skipped = taking("skipped", a=failed).after(slow)
    late = task(lambda: log.append("late"), name="late").after(skipped)
    Manager(
        [failed, late, skipped, slow], mode="parallel", executor="inline", keep_going=True, on_failure=quiet
    )
    assert log == ["slow", "late"]


def test_without_keep_going_nothing_is_skipped_but_left_pending() -> None:
    failed = made("bad", fails=True)
    ended = Manager([failed, taking("needs", a=failed), made("good")], on_failure=quiet)
    assert [each.status for each in ended.tasks] == ["failed", "pending", "pending"]
    assert ended["needs"].reason is None


def test_in_a_group_of_a_parallel_run_the_chain_goes_on() -> None:
    failed = made("bad", fails=True).with_options(group_name="g")
    after = made("after").with_options(group_name="g")
    ended = Manager([failed, after], mode="parallel", executor="inline", keep_going=True, on_failure=quiet)
    assert [each.status for each in ended.tasks] == ["failed", "completed"]
    assert ended[after].previous_context.storage is None
