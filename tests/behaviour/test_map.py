"""Maps: one call per item, one TaskRun with items, a list for a result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Config, Context, Manager, PlanError, RunFailed, RunStatus, TaskStatus, task
from dotflow_like.testing import FakeClock

RunIn = Callable[..., Manager]


def quiet(tasks: Any) -> None:
    """Do nothing."""


def test_a_map_over_a_list_calls_once_per_item(run_in: RunIn) -> None:
    @task
    def double(x: int) -> int:
        return 2 * x

    mapped = double.map(x=[3, 1, 2])
    run = run_in([mapped])
    only = run[mapped]
    assert only.result == [6, 2, 4]
    assert only.items is not None
    assert [each.task_id for each in only.items] == ["double[0]", "double[1]", "double[2]"]
    assert [each.result for each in only.items] == [6, 2, 4]
    assert [each.status for each in only.items] == ["completed"] * 3
    assert run["double[1]"].result == 2
    assert run.results == {"double": [6, 2, 4]}
    assert len(run.tasks) == 1
    assert [each.task_id for each in run.attempts] == ["double[0]", "double[1]", "double[2]"]
    assert only.duration is not None
    assert only.started_at is not None
    assert only.finished_at is not None


def test_a_map_over_a_task_a_map_over_a_map_and_a_task_over_a_map(run_in: RunIn) -> None:
    numbers = task(lambda: (1, 2, 3), name="numbers")
    squared = task(lambda x: x * x, name="squared").map(x=numbers)
    plus = task(lambda x, y: x + y, name="plus").bind(y=10).map(x=squared)
    total = task(lambda values: (type(values).__name__, sum(values)), name="total").bind(values=plus)
    run = run_in([numbers, squared, plus, total])
    assert run[squared].result == [1, 4, 9]
    assert run[plus].result == [11, 14, 19]
    assert run[total].result == ("list", 44)


def test_several_names_go_together(run_in: RunIn) -> None:
    letters = task(lambda: ["a", "b"], name="letters")
    pair = task(lambda x, y, z: (x, y, z), name="pair").map(x=[1, 2], y=letters).bind(z=0)
    assert run_in([letters, pair])[pair].result == [(1, "a", 0), (2, "b", 0)]


def test_lengths_that_differ_are_refused_before_anything_runs() -> None:
    calls: list[int] = []
    pair = task(lambda x, y: calls.append(1), name="pair").map(x=[1, 2, 3], y=[1, 2])
    with pytest.raises(PlanError, match=r"x has 3, y has 2"):
        Manager([pair])
    assert calls == []


def test_lengths_that_turn_out_to_differ_fail_the_map(run_in: RunIn) -> None:
    letters = task(lambda: ["a", "b"], name="letters")
    pair = task(lambda x, y: (x, y), name="pair").map(x=[1, 2, 3], y=letters)
    run = run_in([letters, pair], on_failure=quiet)
    assert run[pair].status is TaskStatus.FAILED
    assert "x has 3, y has 2" in (run[pair].reason or "")
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    assert "x has 3" in str(raised.value.exceptions[0])


def test_a_map_over_nothing_completes_with_an_empty_list(run_in: RunIn) -> None:
    called: list[Any] = []

    @task
    def nothing() -> list[Any]:
        return []

    over_constant = task(lambda x: x, name="constant", callback=lambda task: called.append(task.result)).map(
        x=[]
    )
    over_task = task(lambda x: x, name="mapped").map(x=nothing)
    after = task(lambda a, b: (a, b), name="after").bind(a=over_constant, b=over_task)
    run = run_in([nothing, over_constant, over_task, after])
    assert run.status is RunStatus.COMPLETED
    assert run[after].result == ([], [])
    assert run[over_constant].items == []
    assert run[over_constant].status is TaskStatus.COMPLETED
    assert run[over_constant].duration is None
    assert called == [[]]


@pytest.mark.parametrize("given", [5, None])
def test_a_result_that_cannot_be_iterated_fails_the_map(run_in: RunIn, given: Any) -> None:
    number = task(lambda: given, name="number")
    mapped = task(lambda x: x, name="mapped").map(x=number)
    run = run_in([number, mapped], on_failure=quiet)
    assert [each.status for each in run.tasks] == ["completed", "failed"]
    assert "not iterable" in (run[mapped].reason or "")
    assert run[mapped].errors[0].exception == "TypeError"
    assert run.status is RunStatus.FAILED


def test_any_iterable_result_will_do(run_in: RunIn) -> None:
    source = task(lambda: {"a": 1, "b": 2}, name="source")
    mapped = task(lambda x: x.upper(), name="mapped").map(x=source)
    assert run_in([source, mapped])[mapped].result == ["A", "B"]


def test_a_generator_given_to_map_is_read_once_and_kept() -> None:
    mapped = task(lambda x: x + 1, name="mapped").map(x=(i for i in range(3)))
    for _ in range(2):
        assert Manager([mapped])[mapped].result == [1, 2, 3]


def test_a_failing_item_without_keep_going_leaves_later_items_pending() -> None:
    mapped = task(lambda x: 1 / x, name="mapped").map(x=[1, 0, 2])
    after = task(lambda: 1, name="after")
    run = Manager([mapped, after], on_failure=quiet)
    only = run[mapped]
    assert only.items is not None
    assert [each.status for each in only.items] == ["completed", "failed", "pending"]
    assert [each.status for each in run.tasks] == ["failed", "pending"]
    assert only.result is None
    assert only.reason is not None
    assert "mapped[1]" in only.reason
    assert run.reason == "failed: mapped"


def test_a_failing_item_with_keep_going_lets_the_others_run(run_in: RunIn) -> None:
    mapped = task(lambda x: 1 / x, name="mapped").map(x=[1, 0, 2, 0])
    after = task(lambda: 1, name="after")
    run = run_in([mapped, after], keep_going=True, on_failure=quiet)
    only = run[mapped]
    assert only.items is not None
    assert [each.status for each in only.items] == ["completed", "failed", "completed", "failed"]
    assert [each.result for each in only.items] == [1, None, 0.5, None]
    assert only.result is None
    assert only.status is TaskStatus.FAILED
    assert only.reason == "2 of 4 items failed: mapped[1], mapped[3]"
    assert run[after].result == 1
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    assert [type(each) for each in raised.value.exceptions] == [ZeroDivisionError] * 2


def test_retries_are_each_items_own(run_in: RunIn, tmp_path: Path) -> None:
    @task(retry=3)
    def sometimes(x: int) -> int:
        tries = tmp_path / str(x)
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) <= x:
            raise ValueError("again")
        return x

    mapped = sometimes.map(x=[0, 1, 2, 3])
    run = run_in([mapped], keep_going=True, on_failure=quiet)
    items = run[mapped].items
    assert items is not None
    assert [each.status for each in items] == ["completed"] * 3 + ["failed"]
    assert [each.retry_count for each in items] == [0, 1, 2, 2]
    assert [each.attempt for each in items[2].errors] == [1, 2]


def test_an_item_knows_who_it_is(run_in: RunIn) -> None:
    @task
    def who(x: int, ctx: Any) -> str:
        return str(ctx.task_id)

    assert run_in([who.map(x=[7, 8])]).tasks[0].result == ["who[0]", "who[1]"]


def test_every_item_gets_the_previous_and_the_initial_context() -> None:
    @task
    def first() -> str:
        return "before"

    @task(initial_context="initial")
    def look(x: int, previous_context: Context, initial_context: Context) -> Any:
        return x, previous_context.storage, initial_context.storage

    run = Manager([first, look.map(x=[1, 2])])
    assert run["look"].result == [(1, "before", "initial"), (2, "before", "initial")]


def test_the_task_after_a_map_has_its_list_as_previous_context(run_in: RunIn, way: dict[str, Any]) -> None:
    mapped = task(lambda x: x, name="mapped", group_name="g").map(x=[1, 2])

    @task(group_name="g")
    def look(previous_context: Context) -> Any:
        return previous_context.storage, previous_context.task_id

    run = run_in([mapped, look])
    assert run[look].result == ([1, 2], "mapped")
    assert run[look].previous_context.storage == [1, 2]


def test_items_run_at_once_in_parallel(meet: Callable[[str, int], None]) -> None:
    def attend(x: int) -> int:
        meet(str(x), 2)
        return x

    run = Manager([task(attend).map(x=[0, 1])], mode="parallel", max_workers=2)
    assert run.raise_for_failure().tasks[0].result == [0, 1]


def test_a_map_has_one_callback_and_one_start_and_end() -> None:
    told: list[Any] = []

    class Watch:
        def start_task(self, task: Any) -> None:
            told.append(("start", task.task_id))

        def end_task(self, task: Any) -> None:
            told.append(("end", task.task_id))

    called: list[str] = []
    mapped = task(lambda x: x, name="m", callback=lambda task: called.append(task.task_id)).map(x=[1, 2])
    Manager([mapped], config=Config(tracer=Watch()))
    assert called == ["m"]
    assert told == [
        ("start", "m"),
        ("start", "m[0]"),
        ("end", "m[0]"),
        ("start", "m[1]"),
        ("end", "m[1]"),
        ("end", "m"),
    ]


def test_a_delay_of_one_item_does_not_hold_up_the_others() -> None:
    log: list[Any] = []

    @task(retry=2, retry_delay=100)
    def body(x: int) -> int:
        log.append(x)
        if log.count(0) == 1 and x == 0:
            raise ValueError("again")
        return x

    with FakeClock():
        run = Manager([body.map(x=[0, 1, 2])], mode="parallel", executor="inline").raise_for_failure()
    assert log == [0, 1, 2, 0]
    assert run.tasks[0].result == [0, 1, 2]


def test_to_dict_shows_the_items() -> None:
    shown = Manager([task(lambda x: x, name="m").map(x=[1, 2])]).to_dict()["tasks"][0]
    assert [each["task_id"] for each in shown["items"]] == ["m[0]", "m[1]"]
    assert [each["result"] for each in shown["items"]] == [1, 2]


def test_ten_thousand_items() -> None:
    run = Manager([task(lambda x: x, name="m").map(x=range(10_000))], mode="parallel", executor="inline")
    assert run["m"].result == list(range(10_000))
