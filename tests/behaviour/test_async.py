"""Async functions are tasks in every mode, also where an event loop runs already."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from dotflow_like import Context, Manager, TaskContext, TaskStatus, task

RunIn = Callable[..., Manager]


def made() -> list[Any]:
    @task
    async def first() -> int:
        await asyncio.sleep(0)
        return 1

    @task
    async def second(n: int, ctx: TaskContext) -> Context:
        one, two = await asyncio.gather(asyncio.sleep(0, n), asyncio.sleep(0, n + 1))
        return Context((one, two, ctx.task_id))

    return [first, second.bind(n=first)]


def test_async_functions_are_awaited(run_in: RunIn) -> None:
    run = run_in(made())
    assert [each.result for each in run.tasks] == [1, (1, 2, "second")]


def test_inside_a_running_event_loop(way: dict[str, Any]) -> None:
    async def main() -> Any:
        here = asyncio.get_running_loop()
        run = Manager(made(), **way).wait()
        assert asyncio.get_running_loop() is here
        return [each.result for each in run.tasks]

    assert asyncio.run(main()) == [1, (1, 2, "second")]


def test_context_variables_reach_the_coroutine_inside_a_running_loop() -> None:
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="none")

    @task
    async def look() -> str:
        return variable.get()

    async def main() -> Any:
        variable.set("seen")
        return Manager([look])[look].result

    assert asyncio.run(main()) == "seen"


def test_an_error_of_a_coroutine_is_kept(run_in: RunIn) -> None:
    @task(retry=2)
    async def bad() -> None:
        await asyncio.sleep(0)
        raise LookupError("async")

    run = run_in([bad], on_failure=lambda tasks: None)
    assert [each.message for each in run[bad].errors] == ["async", "async"]
    assert 'raise LookupError("async")' in run[bad].errors[0].traceback


def test_a_cancelled_coroutine_fails_its_task(run_in: RunIn) -> None:
    @task(retry=3)
    async def bad() -> None:
        raise asyncio.CancelledError("mine")

    run = run_in([bad], on_failure=lambda tasks: None)
    assert run[bad].status is TaskStatus.FAILED
    assert run[bad].errors[0].exception == "CancelledError"


def test_async_items_of_a_map(run_in: RunIn) -> None:
    @task
    async def double(x: int) -> int:
        await asyncio.sleep(0)
        return 2 * x

    assert run_in([double.map(x=[1, 2])]).tasks[0].result == [2, 4]


def test_async_methods_of_a_class(run_in: RunIn) -> None:
    @task
    class Both:
        @task
        async def first(self) -> int:
            await asyncio.sleep(0)
            return 1

        @task
        def second(self, previous_context: Context) -> int:
            return int(previous_context.storage) + 1

    result = run_in([Both]).tasks[0].result
    assert [each.storage for each in result] == [1, 2]


def test_wrapped_async_functions_are_awaited_too(run_in: RunIn) -> None:
    async def add(x: int, y: int) -> int:
        return x + y

    class Adder:
        async def __call__(self) -> int:
            return 5

    partial = task(functools.partial(add, 1), name="partial").bind(y=2)
    run = run_in([partial, task(Adder(), name="instance")])
    assert [each.result for each in run.tasks] == [3, 5]


def test_a_timeout_holds_for_a_coroutine_in_a_worker() -> None:
    @task(timeout=0.1)
    async def hang() -> None:
        await asyncio.sleep(600)

    run = Manager([hang], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    assert run[hang].errors[0].exception == "TaskTimeout"


def test_each_task_has_an_event_loop_of_its_own_that_is_closed() -> None:
    loops: list[Any] = []

    @task
    async def look() -> None:
        loops.append(asyncio.get_running_loop())

    Manager([look, look])
    assert loops[0] is not loops[1]
    assert all(each.is_closed() for each in loops)


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_async_tasks_run_at_once(meet: Callable[[str, int], None], executor: Any) -> None:
    async def attend(name: str) -> str:
        meet(name, 2)
        return name

    tasks = [task(attend, name=name).bind(name=name) for name in "ab"]
    run = Manager(tasks, mode="parallel", executor=executor, max_workers=2).raise_for_failure()
    assert list(run.results.values()) == ["a", "b"]


def test_ctrl_c_ends_a_coroutine_at_once_also_inside_a_running_loop(script: Callable[..., Any]) -> None:
    ended = script(
        """
import asyncio, os, signal
from dotflow_like import Manager, task

@task
async def hang():
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    try:
        await asyncio.sleep(600)
    finally:
        print("finally", flush=True)

async def notebook():
    Manager([hang])

loop = asyncio.new_event_loop()  # as a notebook runs one: without a handler of its own for Ctrl-C
try:
    loop.run_until_complete(notebook())
except KeyboardInterrupt:
    print("interrupted")
loop.close()
"""
    )
    assert ended.stdout.split() == ["finally", "interrupted"], ended.stderr
    assert "paused (interrupted)" in ended.stderr


def test_ctrl_c_ends_a_coroutine_at_once(script: Callable[..., Any]) -> None:
    ended = script(
        """
import asyncio, os, signal
from dotflow_like import Manager, task

@task
async def hang():
    asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    try:
        await asyncio.sleep(600)
    finally:
        print("finally", flush=True)

try:
    Manager([hang])
except KeyboardInterrupt:
    print("interrupted")
"""
    )
    assert ended.stdout.split() == ["finally", "interrupted"], ended.stderr
    assert "paused (interrupted)" in ended.stderr
