"""Async functions are tasks in every mode, also where an event loop runs already."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    Config,
    Context,
    DotflowWarning,
    Manager,
    TaskContext,
    TaskStatus,
    Workflow,
    task,
)

RunIn = Callable[..., Manager]
THREADS: dict[str, Any] = {"mode": "parallel", "executor": "thread", "max_workers": 4}
SHORT = 0.1  # seconds: a limit that is meant to be passed


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
def test_async_tasks_run_at_once(tmp_path: Path, executor: Any) -> None:
    async def attend(name: str) -> str:
        (tmp_path / name).touch()
        async with asyncio.timeout(60):
            while len(list(tmp_path.iterdir())) < 2:
                await asyncio.sleep(0.002)
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


# In threads: together on one event loop


class Gathering:
    """Async bodies wait in it for each other; they all have to be on one event loop."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._here = self.most = 0
        self._complete = asyncio.Event()

    async def attend(self) -> None:
        self._here += 1
        self.most = max(self.most, self._here)
        if self._here == self._size:
            self._complete.set()
        async with asyncio.timeout(60):
            await self._complete.wait()
        for _ in range(3):  # whoever comes too early, comes now
            await asyncio.sleep(0)
        self._here -= 1


def test_two_hundred_async_tasks_are_open_at_once() -> None:
    gathering = Gathering(200)

    @task
    async def attend(i: int) -> int:
        await gathering.attend()
        return i

    run = Manager([attend.map(i=range(200))], **THREADS | {"max_workers": 200})
    assert run.raise_for_failure().tasks[0].result == list(range(200))


def test_no_more_are_open_than_there_are_workers() -> None:
    gathering = Gathering(4)

    @task
    async def attend(i: int) -> None:
        await gathering.attend()

    Manager([attend.map(i=range(100))], **THREADS).raise_for_failure()
    assert gathering.most == 4


def test_sync_and_async_tasks_share_the_workers() -> None:
    lock, here, most = threading.Lock(), [0], [0]

    def enter() -> None:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])

    def leave() -> None:
        with lock:
            here[0] -= 1

    @task
    def sync(i: int) -> int:
        enter()
        threading.Event().wait(0.002)
        leave()
        return i

    @task
    async def double(x: int) -> int:
        enter()
        await asyncio.sleep(0.002)
        leave()
        return 2 * x

    first = sync.map(i=range(20))
    second = double.map(x=first)
    total = task(sum, name="total").bind(iterable=second)
    run = Manager([first, second, double.with_options(name="alone").map(x=range(20)), total], **THREADS)
    assert run.raise_for_failure()[total].result == 380
    assert most[0] <= 4


def test_the_items_of_a_map_keep_their_order_whichever_ends_first() -> None:
    ended: list[int] = []

    @task
    async def countdown(i: int) -> int:
        async with asyncio.timeout(60):
            while len(ended) < 3 - i:
                await asyncio.sleep(0.001)
        ended.append(i)
        return i

    run = Manager([countdown.map(i=range(4))], **THREADS)
    assert ended == [3, 2, 1, 0]
    assert run.raise_for_failure().tasks[0].result == [0, 1, 2, 3]


def test_each_coroutine_sees_the_context_of_the_run_and_changes_only_its_own() -> None:
    variable: ContextVar[int] = ContextVar("variable", default=0)
    gathering = Gathering(4)

    @task
    async def count(i: int) -> tuple[int, int]:
        before = variable.get()
        variable.set(before + i)
        await gathering.attend()
        return before, variable.get()

    variable.set(7)
    run = Manager([count.map(i=range(4))], **THREADS)
    assert run.raise_for_failure().tasks[0].result == [(7, 7), (7, 8), (7, 9), (7, 10)]
    assert variable.get() == 7


def test_errors_of_coroutines_that_run_at_once_are_each_their_own() -> None:
    gathering = Gathering(4)
    tries: list[int] = []

    @task(retry=3)
    async def fail(i: int) -> int:
        tries.append(i)
        if tries.count(i) == 1:
            await gathering.attend()
            raise LookupError(f"first of {i}")
        await asyncio.sleep(0)
        if i % 2:
            raise SystemExit(f"second of {i}")
        return i

    run = Manager([fail.map(i=range(4))], keep_going=True, on_failure=lambda tasks: None, **THREADS)
    items = run.tasks[0].items
    assert items is not None
    assert [each.status for each in items] == ["completed", "failed"] * 2
    for i, item in enumerate(items):
        told = [f"first of {i}", f"second of {i}"] if i % 2 else [f"first of {i}"]
        assert [each.message for each in item.errors] == told
        assert 'raise LookupError(f"first of {i}")' in item.errors[0].traceback


@pytest.mark.parametrize(
    "way", [THREADS, {"timeout": 600}, {"mode": "background"}], ids=["threads", "beside", "background"]
)
def test_a_timeout_cancels_a_coroutine_and_it_is_tried_again_at_once(
    way: dict[str, Any], recwarn: pytest.WarningsRecorder
) -> None:
    log: list[str] = []

    @task(timeout=SHORT, retry=2)
    async def hang() -> str:
        log.append("begin")
        if len(log) > 1:
            return "done"
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0.001)
            log.append("finally")
        return "late"

    run = Manager([hang], **way).wait()
    assert log == ["begin", "finally", "begin"]
    assert run[hang].result == "done"
    assert [each.outcome for each in run.attempts] == ["timed_out", "success"]
    assert not recwarn.list


def test_a_timeout_of_one_coroutine_leaves_the_others_alone() -> None:
    begun = asyncio.Event()

    @task(timeout=SHORT)
    async def hang() -> None:
        begun.set()
        await asyncio.sleep(600)

    @task
    async def slow() -> str:
        async with asyncio.timeout(60):
            await begun.wait()
        await asyncio.sleep(2 * SHORT)
        return "done"

    run = Manager([hang, slow], keep_going=True, on_failure=lambda tasks: None, **THREADS)
    assert [each.status for each in run.tasks] == ["failed", "completed"]


def test_a_coroutine_that_ignores_its_timeout_is_discarded_with_a_warning() -> None:
    log: list[str] = []
    retried = threading.Event()

    class Watch:
        def task_retried(self, task: Any) -> None:
            retried.set()

    @task(timeout=SHORT, retry=2)
    async def ignore() -> str:
        log.append("begin")
        if len(log) > 1:
            return "second"
        while not retried.is_set():
            try:
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                log.append("ignored")
        log.append("end")
        return "late"

    with pytest.warns(DotflowWarning, match="'ignore' went on after its time was up") as warned:
        run = Manager([ignore], config=Config(metrics=Watch()), **THREADS)
    assert len(warned) == 1
    assert log == ["begin", "ignored", "end", "begin"]
    assert run[ignore].result == "second"
    assert [each.outcome for each in run.attempts] == ["timed_out", "success"]


def test_a_coroutine_that_blocks_past_its_time_holds_up_nobody_for_long() -> None:
    gate, ended = threading.Event(), threading.Event()

    @task(timeout=SHORT)
    async def block() -> None:
        gate.wait(60)
        ended.set()

    @task
    async def quick() -> str:
        return "done"

    with pytest.warns(DotflowWarning, match="'block' went on after its time was up"):
        run = Manager(
            [block, quick, quick.with_options(name="later").after(block)],
            keep_going=True,
            on_failure=lambda tasks: None,
            **THREADS | {"max_workers": 2},
        )
    assert not ended.is_set()
    gate.set()
    assert [each.status for each in run.tasks] == ["failed", "completed", "completed"]


@pytest.mark.parametrize("word", ["cancel", "pause"])
def test_coroutines_see_that_the_run_is_to_stop_and_nothing_new_starts(word: str) -> None:
    gathering = Gathering(4)
    complete = threading.Event()

    @task
    async def heed(i: int, ctx: TaskContext) -> int:
        await gathering.attend()
        complete.set()
        async with asyncio.timeout(60):
            while not ctx.cancelled:
                await asyncio.sleep(0.001)
        return i

    run = Workflow([heed.map(i=range(10))]).start(**THREADS)
    assert complete.wait(60)
    assert getattr(run, word)() is True
    run.wait(60)
    items = run.tasks[0].items
    assert items is not None
    assert run.status == {"cancel": "cancelled", "pause": "paused"}[word]
    assert [each.status for each in items] == ["completed"] * 4 + ["pending"] * 6


def test_coroutines_that_do_not_heed_are_cancelled_when_the_grace_is_over() -> None:
    gathering = Gathering(4)
    complete = threading.Event()
    ended: list[int] = []

    @task
    async def hang(i: int) -> None:
        await gathering.attend()
        complete.set()
        try:
            await asyncio.sleep(600)
        finally:
            ended.append(i)

    run = Workflow([hang.map(i=range(4))]).start(config=Config(grace=0), **THREADS)
    assert complete.wait(60)
    run.cancel()
    run.wait(60)
    assert sorted(ended) == [0, 1, 2, 3]
    assert [each.status for each in run.tasks[0].items or ()] == [TaskStatus.CANCELLED] * 4


def test_what_only_returns_an_awaitable_has_a_thread_and_a_loop_of_its_own(
    meet: Callable[[str, int], None],
) -> None:
    async def inner(name: str) -> int:
        meet(name, 2)  # blocks the loop
        return id(asyncio.get_running_loop())

    tasks = [task(lambda name=name: inner(name), name=name) for name in "ab"]
    one, two = Manager(tasks, **THREADS).raise_for_failure().results.values()
    assert one != two


def test_a_process_ends_in_silence_though_a_coroutine_ignores_everything(script: Callable[..., Any]) -> None:
    ended = script(
        """
import asyncio, warnings
from dotflow_like import DotflowWarning, Manager, task

warnings.simplefilter("ignore", DotflowWarning)

@task(timeout=0.05)
async def ignore():
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

run = Manager([ignore], mode="parallel", executor="thread", on_failure=lambda tasks: None)
print(run.status)
"""
    )
    assert (ended.stdout, ended.stderr, ended.returncode) == ("failed\n", "", 0)
