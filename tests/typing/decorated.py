"""A decorated function keeps its signature and its types. Only type-checked, never run.

What must be an error carries an ignore: `make types` warns of one that is not needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, assert_type

from dotflow_like import Context, Manager, RetryPolicy, Run, Task, TaskContext, TaskRun, Workflow, task
from dotflow_like.model.context import Progress
from dotflow_like.model.status import RunStatus, TaskStatus
from dotflow_like.plan.plan import Plan

T = TypeVar("T")


# Bare.


@task
def fetch(url: str, tries: int = 3, *, verbose: bool = False) -> bytes:
    return url.encode() * tries


assert_type(fetch("a"), bytes)
assert_type(fetch("a", 2, verbose=True), bytes)
assert_type(fetch(url="a", tries=2), bytes)
fetch()  # type: ignore[call-arg]
fetch(3)  # type: ignore[arg-type]
fetch("a", "b")  # type: ignore[arg-type]
fetch("a", 2, True)  # type: ignore[call-arg]
fetch("a", other=1)  # type: ignore[call-arg]
text: str = fetch("a")  # type: ignore[assignment]
as_function: Callable[[str], bytes] = fetch
as_other: Callable[[int], bytes] = fetch  # type: ignore[assignment]


# With options, and called without any.


@task(
    retry=3, retry_delay=1.5, backoff=True, timeout=30, retry_on=(OSError, ValueError), isolate=True, name="p"
)
def parse(raw: bytes) -> dict[str, int]:
    return {"size": len(raw)}


@task()
def plain(x: int) -> str:
    return str(x)


assert_type(parse(b""), dict[str, int])
assert_type(plain(1), str)
parse("text")  # type: ignore[arg-type]
plain("1")  # type: ignore[arg-type]
task(retries=3)  # type: ignore[call-overload]
task(retry="3")  # type: ignore[call-overload]
task(fetch.fn, timeout="5")  # type: ignore[call-overload]
task(isolate="yes")  # type: ignore[call-overload]
task(retry=RetryPolicy(3), callback=print, initial_context={"any": "thing"}, group_name=None)


# Conditions, and what becomes of exceptions.


@task(
    skip_if=lambda url, limit: len(url) > limit,
    on_exception={OSError: "retry", KeyError: lambda error: "skip"},
)
def guarded(url: str) -> bytes:
    return url.encode()


def is_late(day: int, ctx: TaskContext) -> bool:
    return day > 3


def choose(error: BaseException, ctx: TaskContext) -> str:
    ctx.retry("later", after=3)


def is_gone(error: BaseException) -> bool:
    return "gone" in str(error)


assert_type(guarded("a"), bytes)
task(run_if=False, on_exception="pause")
task(run_if=is_late, on_exception=choose, skip_if=None)
task(on_exception=[{(OSError, KeyError): "skip", is_gone: choose}, "cancel"])
task(on_exception=None)
task(on_exception="stop")  # type: ignore[arg-type]
task(on_exception={OSError: "stop"})  # type: ignore[dict-item]
task(skip_if="yes")  # type: ignore[call-overload]
task(cancel_if=True)  # type: ignore[call-overload]
assert_type(guarded.with_options(skip_if=None, on_exception="fail")("a"), bytes)
guarded.with_options(run_if=3)  # type: ignore[arg-type]
RetryPolicy(3, then="skip")
RetryPolicy(3, then="retry")  # type: ignore[arg-type]


# The decorator called.


def undecorated(x: int, /, y: str = "") -> list[int]:
    return [x, len(y)]


called = task(undecorated, name="called")
assert_type(called(1), list[int])
called(x=1)  # type: ignore[call-arg]
assert_type(task(lambda: 3)(), int)
assert_type(task("package.module:attr"), Task[..., Any])
task(3)  # type: ignore[call-overload]


# Async: calling it gives the awaitable, as calling the function does.


@task
async def download(url: str) -> bytes:
    return url.encode()


awaitable: Awaitable[bytes] = download("a")
coroutine: Coroutine[Any, Any, bytes] = download("a")
refused = download(1)  # type: ignore[arg-type]


async def awaiting() -> None:
    assert_type(await download("a"), bytes)
    assert_type(await download.fn("a"), bytes)


# Generic: the type variable is still bound by each call.


@task
def first(items: list[T]) -> T:
    return items[0]


assert_type(first([1, 2]), int)
assert_type(first(["a"]), str)
first(3)  # type: ignore[arg-type]


# Methods and classes.


class Place:
    @task
    def read(self, name: str) -> int:
        return len(name)


on_instance: int = Place().read("a")
assert_type(Place.read(Place(), "a"), int)
assert_type(Place.read.policy, RetryPolicy)
Place.read("a")  # type: ignore[call-arg, arg-type]


@task
class Steps:
    def __init__(self, start: int = 0) -> None:
        self.value = start

    @task
    def more(self) -> int:
        return self.value


assert_type(Steps(3).value, int)
more: int = Steps(3).more()
Steps("3")  # type: ignore[arg-type]


# A field of a dataclass that is a task may be used as one.


@dataclass
class Holder:
    step: Task[[str], bytes]


holder = Holder(step=task(lambda url: b""))
held: Task[[str], bytes] = holder.step


# Contexts.


@task
def contexts(initial_context: Context, previous_context: Context, ctx: TaskContext) -> bool:
    assert_type(ctx.params, Mapping[str, Any])
    assert_type(ctx.task_id, str)
    ctx.progress(1, 2.5, "half")
    ctx.progress("1")  # type: ignore[arg-type]
    return ctx.cancelled


# Every word that derives a task gives one of the same type.

assert_type(parse.bind(raw=fetch)(b""), dict[str, int])
assert_type(parse.map(raw=[b"a"])(b""), dict[str, int])
assert_type(parse.after(fetch, "package.module:attr")(b""), dict[str, int])
assert_type(parse.with_options(retry=2, name="q")(b""), dict[str, int])
bound: Task[[bytes], dict[str, int]] = parse.bind(raw=fetch)
other_result: Task[[bytes], str] = parse.bind(raw=fetch)  # type: ignore[assignment]
other_arguments: Task[[str], dict[str, int]] = parse.bind(raw=fetch)  # type: ignore[assignment]
parse.bind(raw=fetch)("text")  # type: ignore[arg-type]
parse.bind(fetch)  # type: ignore[call-arg]
parse.map([b"a"])  # type: ignore[call-arg]
parse.after(3)  # type: ignore[arg-type]
parse.with_options(retries=3)  # type: ignore[call-arg]
parse.with_options(timeout="5")  # type: ignore[arg-type]
parse.name = "other"
assert_type(parse.policy, RetryPolicy)


# Running.


def done(tasks: list[TaskRun]) -> None: ...


run = Manager(tasks=[fetch.bind(url="a"), parse.bind(raw=fetch), "package.module:attr"], on_success=done)
Manager()  # type: ignore[call-arg]
Manager([undecorated])  # type: ignore[list-item]
Manager([fetch], modus="parallel")  # type: ignore[call-arg]
Manager([fetch], keep_going="yes")  # type: ignore[arg-type]
Manager([fetch], executor="dask")  # type: ignore[arg-type]
assert_type(run[parse], TaskRun)
assert_type(run["p"].status, TaskStatus)
assert_type(run["p"].progress, Progress | None)
assert_type(run.status, RunStatus)
assert_type(run.wait(5), Manager)
assert_type(run.raise_for_failure(), Manager)
assert_type(run.results, Mapping[str, Any])

Manager([fetch], on_exception={OSError: "skip"}, cancel_if=is_late)
Manager([fetch], on_exception="stop")  # type: ignore[arg-type]
Manager([fetch], cancel_if="yes")  # type: ignore[arg-type]

workflow = Workflow(
    [fetch, parse], name="w", version="1", on_exception=[choose], cancel_if=lambda limit: limit > 3
)
assert_type(workflow.run(mode="parallel", max_workers=2), Run)
assert_type(workflow.start(params={"url": "a"}), Run)
assert_type(workflow.plan(), Plan)
workflow.run(modus="parallel")  # type: ignore[call-arg]
workflow.run("parallel")  # type: ignore[call-arg, arg-type]
