"""What a body saves under names of its own is there for the next attempt, exactly, and for no other task."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, MemoryStorage, NotSerializable, RetryPolicy, RunStatus, TaskContext, task

Run = Callable[..., Manager]


@pytest.fixture(params=["memory", "storage", "files", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The options of each place where runs are recorded."""
    return {
        "memory": {},
        "storage": {"storage": MemoryStorage()},
        "files": {"storage": tmp_path / "kept"},
        "sqlite": {"storage": f"sqlite:///{tmp_path}/runs.db"},
    }[request.param]


def test_a_value_survives_the_attempt_that_failed(run_in: Run, kept: dict[str, Any]) -> None:
    @task(retry=3)
    def body(ctx: TaskContext) -> list[Any]:
        seen = [*ctx.checkpoints.get("seen", ()), ctx.attempt.number]
        ctx.checkpoints["seen"] = seen
        if ctx.attempt.number < 3:
            raise ValueError
        return seen

    assert run_in([body], **kept)[body].result == [1, 2, 3]


def test_it_is_a_mapping(run_in: Run, kept: dict[str, Any]) -> None:
    @task
    def body(ctx: TaskContext) -> None:
        saved = ctx.checkpoints
        assert (len(saved), list(saved), "a" in saved, saved.get("a")) == (0, [], False, None)
        with pytest.raises(KeyError, match="'a'"):
            saved["a"]
        with pytest.raises(KeyError, match="'a'"):
            del saved["a"]
        saved["b"], saved["a"] = 2, None
        assert (len(saved), list(saved), "a" in saved, saved["a"]) == (2, ["a", "b"], True, None)
        assert dict(ctx.checkpoints) == {"a": None, "b": 2} == saved
        assert repr(saved) == "<checkpoints 'a', 'b'>"
        assert saved.setdefault("a", 5) is None
        saved.update(c=3)
        assert saved.pop("b") == 2
        assert dict(saved) == {"a": None, "c": 3}
        del saved["a"]
        assert dict(saved) == {"c": 3}
        saved.clear()
        assert dict(saved) == {}

    assert run_in([body], **kept)[body].errors == ()


def test_values_are_exact(run_in: Run, kept: dict[str, Any]) -> None:
    values = [
        (1, [2.5]),
        {"a": {1, 2}},
        datetime(2024, 5, 6, tzinfo=UTC),
        b"\0" * 100_000,
        "\udc80",
        1 << 200,
    ]

    @task(retry=2)
    def body(ctx: TaskContext) -> Any:
        if ctx.attempt.number == 1:
            for at, value in enumerate(values):
                ctx.checkpoints[str(at)] = value
            raise ValueError
        found = [ctx.checkpoints[str(at)] for at in range(len(values))]
        return found == values and [type(each) for each in found] == [type(each) for each in values]

    assert run_in([body], **kept)[body].result is True


def test_what_is_read_is_a_copy_and_what_is_kept_is_as_it_was(run_in: Run, kept: dict[str, Any]) -> None:
    @task(retry=2)
    def body(ctx: TaskContext) -> Any:
        if ctx.attempt.number == 1:
            value = [1]
            ctx.checkpoints["a"] = value
            value.append(2)
            ctx.checkpoints["a"].append(3)
            raise ValueError
        return ctx.checkpoints["a"]

    assert run_in([body], **kept)[body].result == [1]


def test_each_task_and_each_item_of_a_map_has_its_own(run_in: Run, kept: dict[str, Any]) -> None:
    @task
    def first(ctx: TaskContext) -> list[str]:
        ctx.checkpoints["a"] = 1
        return list(ctx.checkpoints)

    @task
    def second(ctx: TaskContext) -> list[str]:
        ctx.checkpoints["b"] = 1
        return list(ctx.checkpoints)

    @task
    def item(ctx: TaskContext, x: int) -> list[str]:
        ctx.checkpoints[str(x)] = x
        return list(ctx.checkpoints)

    items = item.map(x=[1, 2])
    run = run_in([first, second, items], **kept)
    assert [run[each].result for each in (first, second, items)] == [["a"], ["b"], [["1"], ["2"]]]


@pytest.mark.parametrize(
    ("name", "error"),
    [("", ValueError), (1, TypeError), (None, TypeError), ("\udc80", ValueError), ("a\0", ValueError)],
)
def test_a_name_is_a_text_that_can_be_written(name: Any, error: type[Exception]) -> None:
    @task
    def body(ctx: TaskContext) -> None:
        assert name not in ctx.checkpoints
        with pytest.raises(KeyError):
            ctx.checkpoints[name]
        with pytest.raises(error, match=r"^ctx\.checkpoints: the name "):
            ctx.checkpoints[name] = 1

    assert Manager([body])[body].errors == ()


def test_odd_names_are_told_apart(run_in: Run, kept: dict[str, Any]) -> None:
    names = ["a/b", "a%2Fb", "a", "A", "a#1", "..", ".", "result", "ü" * 100, "x" * 300, " ", "a\n"]

    @task(retry=2)
    def body(ctx: TaskContext) -> Any:
        if ctx.attempt.number == 1:
            for name in names:
                ctx.checkpoints[name] = name
            raise ValueError
        return [ctx.checkpoints[name] for name in names] == names and len(ctx.checkpoints) == len(names)

    assert run_in([body], **kept)[body].result is True


def test_large_values_are_kept_and_replaced(run_in: Run, kept: dict[str, Any]) -> None:
    @task(retry=2)
    def body(ctx: TaskContext) -> Any:
        if ctx.attempt.number == 1:
            for letter in (b"a", b"b"):
                ctx.checkpoints["x" * 300] = letter * 1_000_000
            ctx.checkpoints["small"] = b"a" * 1_000_000
            ctx.checkpoints["small"] = b"c"
            raise ValueError
        return ctx.checkpoints["x" * 300] == b"b" * 1_000_000, ctx.checkpoints["small"]

    assert run_in([body], **kept)[body].result == (True, b"c")


def test_what_cannot_be_kept_is_an_error_that_says_where(way: dict[str, Any], tmp_path: Path) -> None:
    @task
    def body(ctx: TaskContext) -> bool:
        with pytest.raises(NotSerializable, match=r"^ctx\.checkpoints\['a'\]: .*lock"):
            ctx.checkpoints["a"] = threading.Lock()
        return "a" in ctx.checkpoints

    run = Manager([body], **way, storage=f"sqlite:///{tmp_path}/runs.db").wait()
    assert run[body].result is False


def test_threads_and_coroutines_of_a_body_save_too(run_in: Run, kept: dict[str, Any]) -> None:
    @task
    async def body(ctx: TaskContext) -> Any:
        def save(name: str) -> None:
            for at in range(10):
                ctx.checkpoints[f"{name}{at}"] = ctx.checkpoints.get(f"{name}{at - 1}", 0) + 1

        async def own(name: str) -> None:
            save(name)

        await asyncio.gather(own("a"), asyncio.to_thread(save, "b"), asyncio.to_thread(save, "c"))
        return [ctx.checkpoints[f"{name}9"] for name in "abc"]

    assert run_in([body], **kept)[body].result == [10, 10, 10]


def test_a_resumed_run_goes_on_with_them_and_one_that_starts_over_does_not(
    way: dict[str, Any], tmp_path: Path
) -> None:
    @task
    def body(ctx: TaskContext, good: bool) -> Any:
        ctx.checkpoints["count"] = ctx.checkpoints.get("count", 0) + 1
        if not good:
            raise ValueError
        return ctx.checkpoints["count"]

    def run(good: bool, resume: bool) -> Any:
        options = way | {"params": {"good": good}, "workflow_id": "w", "resume": resume}
        return Manager([body], **options, storage=tmp_path / "kept", fingerprint="same").wait()

    run(good=False, resume=True)
    run(good=False, resume=True)
    assert run(good=True, resume=True)[body].result == 3
    with pytest.warns(match="start"):
        assert run(good=True, resume=False)[body].result == 1


def test_a_body_that_timed_out_saves_nothing_more(until: Callable[..., None]) -> None:
    told: list[str] = []
    go, ended = threading.Event(), threading.Event()

    @task(timeout=0.05, retry=RetryPolicy(max_attempts=2))
    def body(ctx: TaskContext) -> Any:
        if ctx.attempt.number > 1:
            return dict(ctx.checkpoints)
        ctx.checkpoints["in time"] = 1
        go.wait(30)
        try:
            ctx.checkpoints["late"] = 1
        except BaseException as error:
            told.append(type(error).__name__)
        ended.set()
        return None

    def meet_late() -> Manager:
        run = Manager([body], mode="background")
        until(lambda: run[body].errors)
        go.set()
        return run.wait()

    with pytest.warns(match="went on after its time was up"):
        run = meet_late()
    assert ended.is_set()
    assert told == ["TaskCancelled"]
    assert (run.status, run[body].result) == (RunStatus.COMPLETED, {"in time": 1})
