"""A step that is done is never done again: not by a retry, a resume, nor after a kill."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, NotSerializable, TaskContext, task

Run = Callable[..., Manager]


class Ledger:
    """Lines in a file, written from any process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, *words: Any) -> None:
        line = " ".join(map(str, words)) + "\n"
        handle = os.open(self.path, os.O_APPEND | os.O_WRONLY)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture(params=["memory", "files", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The options of each place where runs are recorded."""
    return {
        "memory": {},
        "files": {"storage": tmp_path / "kept"},
        "sqlite": {"storage": f"sqlite:///{tmp_path}/runs.db"},
    }[request.param]


def test_a_step_is_done_once_whatever_fails_after_it(
    run_in: Run, kept: dict[str, Any], ledger: Ledger
) -> None:
    def send(what: str, *, times: int = 1) -> tuple[str, int]:
        ledger.add(what)
        return what, times

    @task(retry=3)
    def body(ctx: TaskContext) -> Any:
        one = ctx.step("one", send, "one")
        two = ctx.step("two", send, "two", times=2)
        if ctx.attempt.number < 3:
            raise ValueError
        return one, two

    assert run_in([body], **kept)[body].result == (("one", 1), ("two", 2))
    assert ledger.lines == ["one", "two"]


def test_a_step_that_raises_is_done_again(run_in: Run, kept: dict[str, Any], ledger: Ledger) -> None:
    def send(number: int) -> None:
        ledger.add(number)
        if number < 3:
            raise ValueError

    @task(retry=4)
    def body(ctx: TaskContext) -> Any:
        ctx.step("send", send, ctx.attempt.number)
        if ctx.attempt.number == 3:
            raise LookupError

    assert [each.exception for each in run_in([body], **kept)[body].errors] == ["ValueError"] * 2 + [
        "LookupError"
    ]
    assert ledger.lines == ["1", "2", "3"]


def test_none_is_a_value_like_any(run_in: Run, kept: dict[str, Any], ledger: Ledger) -> None:
    @task(retry=2)
    def body(ctx: TaskContext) -> None:
        assert ctx.step("none", ledger.add, "done") is None
        if ctx.attempt.number == 1:
            raise ValueError

    run_in([body], **kept)
    assert ledger.lines == ["done"]


def test_what_is_returned_first_is_what_is_returned_later(run_in: Run, kept: dict[str, Any]) -> None:
    value = {"a": (1, [2]), "b": {3}, "c": 4.5, "d": b"5"}

    @task(retry=2)
    def body(ctx: TaskContext) -> Any:
        found = ctx.step("value", lambda: value)
        ctx.checkpoints["seen"] = [
            *ctx.checkpoints.get("seen", ()),
            (found, [type(each) for each in found.values()] == [tuple, set, float, bytes]),
        ]
        if ctx.attempt.number == 1:
            raise ValueError
        return ctx.checkpoints["seen"]

    assert run_in([body], **kept)[body].result == [(value, True), (value, True)]


def test_steps_of_one_name_are_told_apart_by_the_order_of_their_calls(
    run_in: Run, kept: dict[str, Any], ledger: Ledger
) -> None:
    def send(at: int) -> int:
        ledger.add(at)
        return at

    @task(retry=2)
    def body(ctx: TaskContext) -> Any:
        found = [ctx.step("send", send, at) for at in range(3)]
        if ctx.attempt.number == 1:
            raise ValueError
        return [*found, ctx.step("send", send, 3)]

    assert run_in([body], **kept)[body].result == [0, 1, 2, 3]
    assert ledger.lines == ["0", "1", "2", "3"]


def test_names_with_signs_in_them_are_told_apart(run_in: Run, kept: dict[str, Any]) -> None:
    names = ["a", "a#1", "a#1/b", "a/b", "a%231", "a%", "items#1/a"]

    @task(retry=2)
    def body(ctx: TaskContext) -> Any:
        found = [ctx.step(name, lambda name=name: (name, ctx.attempt.number)) for name in names]
        if ctx.attempt.number == 1:
            raise ValueError
        return found

    assert run_in([body], **kept)[body].result == [(name, 1) for name in names]


async def fetch(ledger: Ledger, what: str) -> str:
    await asyncio.sleep(0)
    ledger.add(what)
    return what


class Fetch:
    async def __call__(self, ledger: Ledger, what: str) -> str:
        return await fetch(ledger, what)


@task
async def fetch_task(ledger: Ledger, what: str) -> str:
    return await fetch(ledger, what)


@pytest.mark.parametrize("how", [fetch, Fetch(), partial(Fetch()), fetch_task])
def test_of_an_async_function_the_step_is_awaited(run_in: Run, ledger: Ledger, how: Any) -> None:
    @task(retry=2)
    async def body(ctx: TaskContext) -> list[str]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait(ctx.step("fetch", how, ledger, each))) for each in "ab"]
        if ctx.attempt.number == 1:
            raise ValueError
        return [each.result() for each in tasks]

    async def wait(step: Awaitable[str]) -> str:
        return await step

    assert run_in([body])[body].result == ["a", "b"]
    assert sorted(ledger.lines) == ["a", "b"]


def test_what_returns_an_awaitable_and_is_no_async_function_is_refused(ledger: Ledger) -> None:
    @task
    async def body(ctx: TaskContext) -> None:
        with pytest.raises(
            TypeError, match=r"^ctx\.step: 'fetch' has returned an awaitable; give the async function"
        ):
            ctx.step("fetch", lambda: fetch(ledger, "a"))

    assert Manager([body])[body].errors == ()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("", print), "the name is empty"),
        ((print, "a"), "the name .* is no text"),
        (("a", 3), "3 is no function"),
    ],
)
def test_what_is_no_step_is_refused(given: tuple[Any, ...], message: str) -> None:
    @task
    def body(ctx: TaskContext) -> None:
        with pytest.raises((TypeError, ValueError), match=rf"^ctx\.step: {message}"):
            ctx.step(*given)

    assert Manager([body])[body].errors == ()


def test_a_value_that_cannot_be_kept_is_told_with_what_that_means(
    way: dict[str, Any], ledger: Ledger, tmp_path: Path
) -> None:
    def make() -> Any:
        ledger.add("made")
        return threading.Lock()

    @task(retry=2)
    def body(ctx: TaskContext) -> None:
        ctx.step("lock", make)

    run = Manager([body], **way, storage=f"sqlite:///{tmp_path}/runs.db").wait()
    assert all(error.is_a(NotSerializable) for error in run[body].errors)
    assert (
        "ctx.step 'lock': what it has done has happened, and will happen again" in run[body].errors[0].message
    )
    assert ledger.lines == ["made"] * 2


def test_threads_of_a_body_have_steps_of_their_own_names(
    run_in: Run, kept: dict[str, Any], ledger: Ledger
) -> None:
    def send(at: int) -> int:
        ledger.add(at)
        return at

    @task(retry=2)
    def body(ctx: TaskContext) -> Any:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda at: ctx.step(f"send {at}", send, at), range(20)))
        if ctx.attempt.number == 1:
            raise ValueError
        return found

    assert run_in([body], **kept)[body].result == list(range(20))
    assert sorted(map(int, ledger.lines)) == list(range(20))


def test_the_methods_of_a_class_and_the_items_of_a_map_have_their_own(
    run_in: Run, kept: dict[str, Any], ledger: Ledger
) -> None:
    def send(what: str) -> str:
        ledger.add(what)
        return what

    @task(retry=2)
    class Work:
        @task
        def first(self, ctx: TaskContext) -> str:
            return ctx.step("send", send, "first")

        @task
        def second(self, ctx: TaskContext) -> str:
            found = ctx.step("send", send, "second")
            if ctx.attempt.number == 1:
                raise ValueError
            return found

    @task(retry=2)
    def item(ctx: TaskContext, x: str) -> str:
        found = ctx.step("send", send, x)
        if ctx.attempt.number == 1:
            raise ValueError
        return found

    items = item.map(x=["a", "b"])
    run = run_in([Work, items], **kept)
    assert run[items].result == ["a", "b"]
    assert sorted(ledger.lines) == ["a", "b", "first", "second"]


def test_a_resumed_run_does_none_again_and_one_that_starts_over_does_all(
    way: dict[str, Any], ledger: Ledger, tmp_path: Path
) -> None:
    @task
    def body(ctx: TaskContext, good: bool) -> Any:
        ctx.step("send", ledger.add, "sent")
        if not good:
            raise ValueError

    def run(good: bool, resume: bool) -> None:
        options = way | {"params": {"good": good}, "workflow_id": "w", "resume": resume}
        Manager([body], **options, storage=f"sqlite:///{tmp_path}/runs.db", fingerprint="same").wait()

    run(good=False, resume=True)
    run(good=False, resume=True)
    assert ledger.lines == ["sent"]
    with pytest.warns(match="start"):
        run(good=True, resume=False)
    assert ledger.lines == ["sent", "sent"]


KILLED = """
import os, signal, sys
from dotflow_like import Manager, TaskContext, task

mode, storage, ledger, at = sys.argv[1:]

def add(line):
    with open(ledger, "a") as file:
        file.write(f"{line}\\n")

def die():
    if mode == "parallel":
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()

@task
def body(ctx: TaskContext):
    for number in range(5):
        def send():
            add(number)
            if at == f"in {number}":
                die()
            return number
        ctx.step("send", send)
        if at == f"after {number}":
            die()

if __name__ == "__main__":
    assert Manager([body], mode=mode, storage=storage, workflow_id="w", resume=True, max_workers=1).status == "completed"
"""


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("storage", ["{}/kept", "sqlite:///{}/runs.db"])
def test_after_a_kill_the_steps_that_were_done_are_not_done_again(
    script: Callable[..., Any], ledger: Ledger, tmp_path: Path, mode: str, storage: str
) -> None:
    given = mode, storage.format(tmp_path), str(ledger.path)
    assert script(KILLED, *given, "after 1").returncode == -9
    assert ledger.lines == ["0", "1"]
    assert script(KILLED, *given, "in 3").returncode == -9
    assert ledger.lines == ["0", "1", "2", "3"]
    done = script(KILLED, *given, "never")
    assert (done.returncode, done.stderr) == (0, "")
    assert ledger.lines == ["0", "1", "2", "3", "3", "4"]
