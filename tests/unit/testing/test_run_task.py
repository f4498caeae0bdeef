"""One task, run for a test without those it needs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Context, MemoryStorage, TaskContext, TaskStatus, UnfilledParameter, task
from dotflow_like.testing import run_task


@task
def fetch() -> bytes:
    raise AssertionError("nobody is to run this")


@task
def parse(raw: bytes, by: str = ",", at: int = 0) -> list[str]:
    return raw.decode().split(by)[at:]


def test_inputs_are_given_instead_of_what_it_is_bound_to() -> None:
    done = run_task(parse.bind(raw=fetch), raw=b"1,2")
    assert (done.status, done.result) == ("completed", ["1", "2"])


def test_constants_stay_unless_others_are_given_and_params_fill_the_rest() -> None:
    bound = parse.bind(raw=fetch, by=";")
    assert run_task(bound, raw=b"1;2", params={"at": "1"}).result == ["2"]
    assert run_task(bound, raw=b"1 2", by=" ").result == ["1", "2"]


@pytest.mark.parametrize("bound", [[fetch, 1], (fetch,), {"it": fetch}])
def test_a_container_of_tasks_is_given_whole(bound: Any) -> None:
    keep = task(lambda values: values, name="keep").bind(values=bound)
    assert run_task(keep, values=[1, 2]).result == [1, 2]
    with pytest.raises(UnfilledParameter, match=r"'values', bound to task 'fetch'"):
        run_task(keep)


def test_what_is_missing_is_named() -> None:
    both = task(lambda left, right: (left, right), name="both").bind(left=fetch, right=parse)
    with pytest.raises(UnfilledParameter, match=r"'left', bound to task 'fetch' and 'right', bound to task"):
        run_task(both)
    with pytest.raises(UnfilledParameter, match=r"task 'both'.*'right'.*run_task\(\.\.\., right=\.\.\.\)"):
        run_task(both, left=1)
    with pytest.raises(UnfilledParameter, match="nothing fills parameter 'raw'"):
        run_task(parse)


def test_a_default_does_not_stand_for_a_task_that_is_bound() -> None:
    with pytest.raises(UnfilledParameter, match="'by', bound to task 'fetch'"):
        run_task(parse.bind(by=fetch), raw=b"")


def test_an_input_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="no parameter 'row'; it has: raw, by, at"):
        run_task(parse, row=b"")


def test_of_a_map_one_item_runs() -> None:
    mapped = parse.map(raw=[b"1", b"2"])
    assert run_task(mapped, raw=b"3,4").result == ["3", "4"]
    with pytest.raises(UnfilledParameter, match="'raw', of which it takes one item"):
        run_task(mapped)


def test_order_alone_is_no_need() -> None:
    assert run_task(parse.after(fetch), raw=b"1").result == ["1"]


def test_contexts_are_given_by_value() -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    seen: list[Context] = []

    @task(initial_context="declared")
    def look(initial_context: Context, previous_context: Context) -> tuple[Any, Any]:
        seen.append(previous_context)
        return initial_context.value, previous_context.value

    assert run_task(look).result == ("declared", None)
    assert run_task(look, initial_context="given", previous=5).result == ("given", 5)
    grouped = look.with_options(group_name="g")
    assert run_task(grouped, previous=Context([1], time=at, task_id="load")).result == ("declared", [1])
    assert [each.task_id for each in seen] == [None, "before look", "load"]


def test_a_previous_context_of_a_task_of_the_same_name_is_no_conflict() -> None:
    @task
    def again(previous_context: Context) -> Any:
        return previous_context.value

    assert run_task(again, previous=Context(1, task_id="again")).result == 1


def test_it_is_tried_again_without_waiting() -> None:
    @task(retry=3, retry_delay=3600)
    def flaky(ctx: TaskContext) -> int:
        if ctx.attempt.number < 3:
            raise OSError
        return ctx.attempt.number

    done = run_task(flaky)
    assert (done.result, done.retry_count, done.duration) == (3, 2, 7200)


def test_a_failure_is_not_raised(capsys: pytest.CaptureFixture[str]) -> None:
    done = run_task(parse, raw=None)
    assert done.status is TaskStatus.FAILED
    assert done.errors[0].exception == "AttributeError"
    assert "task 'parse'" in capsys.readouterr().err


def test_a_class_an_async_function_and_a_name_run_too() -> None:
    @task
    class Load:
        def __init__(self, start: int) -> None:
            self.at = start

        @task
        def go(self, step: int) -> int:
            return self.at + step

    @task(isolate=True)
    async def later(x: int) -> int:
        return x

    assert run_task(Load, start=1, step=2).result[0].value == 3
    assert run_task(later, x=4).result == 4
    assert run_task("json:loads", s="[1]").result == [1]


def test_parameters_with_the_names_of_its_own_are_bound() -> None:
    @task
    def odd(previous: int, params: int, storage: int, wanted: int) -> list[int]:
        return [previous, params, storage, wanted]

    assert run_task(odd.bind(previous=1, params=2, storage=3), wanted=4).result == [1, 2, 3, 4]


def test_it_may_have_a_storage() -> None:
    storage = MemoryStorage()
    assert run_task(parse, raw=b"1", storage=storage).result == ["1"]
    assert list(storage.keys(""))


def test_conditions_are_looked_at_with_the_inputs() -> None:
    @task(run_if=lambda rows, least: len(rows) >= least)
    def mean(rows: list[int]) -> float:
        return sum(rows) / len(rows)

    bound = mean.bind(rows=fetch, least=2)
    assert run_task(bound, rows=[1, 3]).result == 2
    skipped = run_task(bound, rows=[1, 3], least=3)
    assert (skipped.status, skipped.reason) == ("skipped", "run_if")
    with pytest.raises(UnfilledParameter, match="'least'"):
        run_task(mean, rows=[1])


def test_a_condition_sees_the_previous_context() -> None:
    @task(skip_if=lambda previous_context: previous_context.value == "nothing")
    def work() -> int:
        return 1

    assert run_task(work, previous="nothing").status == "skipped"
    assert run_task(work, previous="much").result == 1


@pytest.mark.parametrize(
    ("word", "status"),
    [("fail", "failed"), ("skip", "skipped"), ("pause", "paused"), ("cancel", "cancelled")],
)
def test_policies_apply(word: Any, status: str) -> None:
    @task(on_exception={KeyError: word})
    def bad() -> None:
        raise KeyError("key")

    assert run_task(bad).status == status


def test_what_a_body_saves_is_there_for_its_next_attempt() -> None:
    given: list[int] = []

    @task(retry=2)
    def load(ctx: TaskContext) -> int:
        for item in ctx.iterate([1, 2, 3]):
            given.append(item)
            if ctx.attempt.number == 1 and item == 2:
                raise OSError
        ctx.checkpoints["sum"] = ctx.step("sum", sum, given)
        return ctx.checkpoints["sum"]

    assert run_task(load).result == 8
    assert given == [1, 2, 2, 3]


def test_signals_are_heeded() -> None:
    @task
    def choose(ctx: TaskContext, word: str) -> None:
        if ctx.attempt.number == 1:
            getattr(ctx, word)("why")

    ends = {
        "skip": "skipped",
        "retry": "completed",
        "pause": "paused",
        "cancel": "cancelled",
        "finish": "completed",
    }
    assert {word: run_task(choose, word=word).status for word in ends} == ends


def test_a_transaction_needs_a_database(tmp_path: Path) -> None:
    @task
    def book(ctx: TaskContext, amount: int) -> int:
        connection = ctx.transaction()
        connection.execute("CREATE TABLE bookings AS SELECT ? AS amount", (amount,))
        return amount

    assert run_task(book, amount=1).errors[0].exception == "ConfigError"
    path = tmp_path / "shop.db"
    assert run_task(book, amount=2, storage=f"sqlite:///{path}").result == 2
    with closing(sqlite3.connect(path)) as shop:
        assert shop.execute("SELECT amount FROM bookings").fetchall() == [(2,)]
