"""A view shows what the run itself shows, though all it has is what is recorded."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    Config,
    CorruptCheckpoint,
    FileStorage,
    IllegalMove,
    Manager,
    MemoryStorage,
    RetryPolicy,
    Run,
    RunFailed,
    RunStatus,
    TaskStatus,
    Workflow,
    task,
)
from dotflow_like.testing import FakeClock

Until = Callable[..., None]
KEY: dict[str, Any] = {"idempotency_key": "order-42", "on_failure": lambda tasks: None}
TIMES = ("started", "duration")
"""Of a run: its row has the time of the claim, which is a moment earlier."""


@pytest.fixture(params=["memory", "files", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each storage that keeps what a view shows."""
    places = {
        "memory": MemoryStorage(),
        "files": tmp_path / "files",
        "sqlite": f"sqlite:///{tmp_path}/runs.db",
    }
    return places[request.param]


def shown(run: Run) -> dict[str, Any]:
    """Return all that a run shows."""
    found = run.to_dict()
    json.dumps(found)
    for each in found["tasks"]:
        for error in each["errors"]:
            if error["attempt"] == 0:  # its items could not be made: the frames are the library's own
                del error["traceback"]
    return {
        **{name: value for name, value in found.items() if name not in TIMES},
        "results": dict(run.results),
        "attempts": [(each.id, each.status, each.outcome) for each in run.attempts],
        "errors": [[each.errors for each in one.items or [one]] for one in run.tasks],
    }


@task
def number() -> int:
    return 3


@task
def numbers() -> list[int]:
    return [1, 0, 2]


@task
def none() -> list[int]:
    return []


@task
def add(x: Any, y: Any = 1) -> Any:
    return x + y


@task
def divide(x: int) -> float:
    return 6 / x


@task
class Steps:
    @task
    def one(self) -> int:
        return 1

    @task
    def two(self) -> str:
        return "two"


def broken() -> None:
    raise LookupError("broken")


fails = task(broken, name="fails")
more = add.map(x=numbers).with_options(name="more")
needs = add.bind(x=fails).with_options(name="needs")
quotients = divide.map(x=numbers)

ENDS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "completed": ([number, add.bind(x=number), Steps], {}),
    "maps": (
        [
            add.map(x=[1, 2]),
            add.map(x=more).with_options(name="still more"),  # listed before what it iterates over
            more,
            numbers,
            add.map(x=none).with_options(name="nothing"),
            none,
        ],
        {"mode": "parallel", "executor": "inline"},
    ),
    "failed": ([number, fails, add.bind(x=number)], {}),
    "a failed map": ([numbers, divide.map(x=numbers), add.bind(x=numbers)], {}),
    "a failed map over constants": ([divide.map(x=[1, 0, 2]), number], {}),
    "goes on": (
        [
            fails,
            needs,
            add.bind(x=needs),
            add.map(x=fails).with_options(name="maps it"),
            number.after(fails),
            numbers,
            quotients,
            add.bind(x=quotients).with_options(name="needs a map"),
        ],
        {"keep_going": True},
    ),
    "a number mapped": ([number, add.map(x=number), none], {}),
    "other lengths": ([numbers, add.map(x=numbers, y=[1, 2]), none], {"keep_going": True}),
    "tried again in vain": ([fails.with_options(retry=3), number], {}),
    "too slow": (
        [number, task(lambda: threading.Event().wait(30), name="slow", isolate=True), numbers],
        {"timeout": 0.3},
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_of_a_run_that_has_ended_it_shows_what_the_run_shows(storage: Any, name: str) -> None:
    tasks, options = ENDS[name]
    run = Manager(tasks, storage=storage, **KEY, **options)
    assert run.status is not RunStatus.RUNNING
    view = Manager(tasks, storage=storage, **KEY, **options)
    assert shown(view) == shown(run)
    assert view._watch is not None
    assert view.thread is None
    assert view.started is not None
    assert view.duration is not None
    assert repr(view) == repr(run)
    assert view.wait() is view
    assert view.cancel() is False
    with pytest.raises(IllegalMove, match=view.status):
        view.pause()
    assert shown(view) == shown(run)
    if run.status is RunStatus.COMPLETED:
        assert view.raise_for_failure() is view
        assert view.results == run.results
    else:
        with pytest.raises(RunFailed) as found:
            view.raise_for_failure()
        with pytest.raises(RunFailed) as expected:
            run.raise_for_failure()
        assert str(found.value) == str(expected.value)
        assert len(found.value.exceptions) == len(expected.value.exceptions)


class Held:
    """A run that waits in the middle, in threads: some of it done, some under way, some to come.

    Attributes:
        run: it.
        opened: lets it go on.
        options: those it was started with.
    """

    def __init__(self, storage: Any, until: Until, **options: Any) -> None:
        self.opened = threading.Event()
        failures = iter([ValueError("once"), ValueError("twice")])

        def waits(x: int = 3) -> int:
            assert self.opened.wait(30)
            return x

        def again() -> int:
            with contextlib.suppress(StopIteration):
                raise next(failures)
            return 4

        def item(x: int) -> int:
            return x if x != 2 else waits(x)

        held = task(waits, name="held")
        later = task(again, name="later", retry=RetryPolicy(3, delay=3600))
        each = task(item, name="each").map(x=numbers)
        late = numbers.after(held).with_options(name="late")
        self.tasks = [
            number,
            numbers,
            held,
            later,
            each,
            add.bind(x=held),
            late,
            add.map(x=late).with_options(name="to come"),
            add.map(x=[1, 2]).after(held).with_options(name="known"),
        ]
        self.options = {
            "storage": storage, "mode": "parallel", "executor": "thread", "max_workers": 4,
            **KEY, "config": None, **options,
        }  # fmt: skip
        self.run = Workflow(self.tasks).start(**self.options)
        until(lambda: self.run["later"].status is TaskStatus.RETRYING, "the first failure")
        until(lambda: [one.status for one in self.run["each"].items or []].count("completed") == 2, "items")
        until(lambda: self.run["held"].status is TaskStatus.RUNNING, "what waits")
        until(lambda: shown(self.view())["attempts"] == shown(self.run)["attempts"], "what was recorded")

    def view(self) -> Manager:
        return Manager(self.tasks, **self.options)


@pytest.fixture
def hold(until: Until) -> Iterator[Callable[..., Held]]:
    """A function that makes such a run, by a clock that stands still."""
    made: list[Held] = []

    def hold(storage: Any, **options: Any) -> Held:
        made.append(Held(storage, until, **options))
        return made[-1]

    with FakeClock():
        yield hold
        for each in made:
            each.opened.set()
            each.run.cancel()
            each.run.wait(30)


def test_of_a_run_that_is_under_way_it_shows_what_the_run_shows(
    storage: Any, hold: Any, until: Until
) -> None:
    held = hold(storage)
    view = held.view()
    assert shown(view) == shown(held.run)
    assert view.status is RunStatus.RUNNING
    assert [each.status for each in view.tasks] == [
        "completed", "completed", "running", "retrying", "running", *["pending"] * 4,
    ]  # fmt: skip
    assert dict(view.results) == {"number": 3, "numbers": [1, 0, 2]}
    assert [each.result for each in view["each"].items or ()] == [1, 0, None]
    assert view["later"].errors[0].message == "once"
    assert view["later"].attempts[-1].status == "scheduled"
    assert view.finished is None

    with pytest.raises(TimeoutError, match=r"is still running after 0\.01 s"):
        view.wait(0.01)
    tasks, items = view.tasks, view["each"].items
    held.opened.set()
    assert view.wait(30) is view
    assert held.run.wait(30).status is RunStatus.COMPLETED
    assert shown(view) == shown(held.run)
    assert view.tasks is tasks, "what its user holds goes on to show what there is"
    assert items is not None
    assert [each.result for each in items] == [1, 0, 2]
    assert view["later"].retry_count == 2
    assert view.cancel() is False
    with pytest.raises(IllegalMove, match=view.status):
        view.pause()


@pytest.mark.parametrize("word", ["cancel", "pause"])
@pytest.mark.parametrize("by", ["run", "view"])
def test_of_a_run_that_was_stopped_it_shows_what_the_run_shows(
    storage: Any, hold: Any, word: str, by: str
) -> None:
    held = hold(storage, config=Config(grace=0))
    view = held.view()
    getattr(view if by == "view" else held.run, word)()
    assert view.wait(30).status == held.run.wait(30).status == ("cancelled" if word == "cancel" else "paused")
    assert view.reason == held.run.reason
    assert shown(view) == shown(held.run) == shown(held.view())


def test_of_a_run_that_was_resumed_it_shows_what_the_resumed_run_shows(storage: Any, hold: Any) -> None:
    held = hold(storage, config=Config(grace=0))
    held.run.pause()
    held.run.wait(30)
    (later,) = (each for each in held.tasks if each.name == "later")
    tasks = [number, numbers, later, Steps, fails]
    resumed = Workflow(tasks).run(**held.options, resume=True)
    assert [each.restored for each in resumed.tasks] == [True, True, False, False, False]
    assert shown(Manager(tasks, **held.options)) == shown(resumed)
    held.opened.set()
    again = Workflow(held.tasks).run(**held.options, resume=True)
    assert again.status is RunStatus.COMPLETED
    assert again["each"].items is not None
    assert [each.restored for each in again["each"].items] == [True, True, False]
    assert shown(Manager(held.tasks, **held.options)) == shown(again)


def test_it_shows_the_tasks_of_today(storage: Any) -> None:
    Manager([number, add.bind(x=number)], storage=storage, **KEY)
    view = Manager([numbers, number, divide.bind(x=numbers)], storage=storage, **KEY, mode="parallel")
    assert view.status is RunStatus.COMPLETED
    assert [each.status for each in view.tasks] == ["pending", "completed", "pending"]
    assert dict(view.results) == {"number": 3}
    assert view.mode == "sequential"


def test_a_damaged_result_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path)
    run = Manager([number, numbers, add.map(x=numbers)], storage=storage, **KEY)
    view = Manager([number, numbers], storage=storage, **KEY)
    for name in ("number", "numbers"):
        key = f"{run.workflow_id}/tasks/{name}"
        kept = storage.get(key)
        assert kept is not None
        storage.put(key, kept[:-1] + b"?")
    with pytest.raises(CorruptCheckpoint, match="tasks/number"):
        view["number"].result
    with pytest.raises(CorruptCheckpoint, match="tasks/number"):
        Manager([number, numbers], storage=storage, **KEY)
