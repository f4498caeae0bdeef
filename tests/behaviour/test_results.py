"""What a run shows of itself: results, look-ups, plain data, and the errors to raise."""

from __future__ import annotations

import gc
import json
import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, RunFailed, RunStatus, TaskContext, TaskFailure, TaskRun, Workflow, task
from dotflow_like.testing import run_inline

RunIn = Callable[..., Manager]


def quiet(tasks: Any) -> None:
    """Do nothing."""


def failing(name: str, error: BaseException) -> Any:
    def body() -> None:
        raise error

    return task(body, name=name)


# raise_for_failure


def test_a_completed_run_is_returned(run_in: RunIn) -> None:
    run = run_in([task(lambda: 1)])
    assert run.raise_for_failure() is run


def test_the_group_is_flat_and_holds_the_original_errors_in_order() -> None:
    first, second = ValueError("a"), ExceptionGroup("g", [KeyError("b")])
    run = Manager(
        [failing("x", first), task(lambda: 1, name="y"), failing("z", second)],
        keep_going=True,
        on_failure=quiet,
    )
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    assert raised.value.exceptions == (first, second)
    assert isinstance(raised.value, ExceptionGroup)
    assert run.workflow_id in str(raised.value)
    assert "failed: x, z" in str(raised.value)


def test_except_star_takes_it_apart() -> None:
    run = Manager(
        [failing("x", ValueError("a")), failing("y", KeyError("b"))], keep_going=True, on_failure=quiet
    )
    seen: list[Any] = []
    try:
        run.raise_for_failure()
    except* ValueError as group:
        seen += [type(group), *group.exceptions]
    except* KeyError as group:
        seen += group.exceptions
    assert seen[0] is RunFailed
    assert [type(each) for each in seen[1:]] == [ValueError, KeyError]


def test_only_the_last_error_of_a_retried_task_is_raised() -> None:
    calls: list[int] = []

    @task(retry=3)
    def bad() -> None:
        calls.append(1)
        raise ValueError(f"call {len(calls)}")

    with pytest.raises(RunFailed) as raised:
        Manager([bad], on_failure=quiet).raise_for_failure()
    assert [str(each) for each in raised.value.exceptions] == ["call 3"]


@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), BaseException("base")])
def test_a_task_failure_stands_in_for_what_is_no_exception(error: BaseException) -> None:
    with pytest.raises(RunFailed) as raised:
        Manager([failing("bad", error)], on_failure=quiet).raise_for_failure()
    (stand_in,) = raised.value.exceptions
    assert type(stand_in) is TaskFailure
    assert "'bad'" in str(stand_in)
    assert type(error).__name__ in str(stand_in)


def test_errors_survive_being_raised_twice() -> None:
    run = Manager([failing("bad", ValueError("a"))], on_failure=quiet)
    for _ in range(2):
        with pytest.raises(RunFailed):
            run.raise_for_failure()


# look-ups


def test_a_task_run_is_found_by_task_by_its_origin_and_by_id(run_in: RunIn) -> None:
    original = task(lambda x: x, name="one")
    bound = original.bind(x=1)
    run = run_in([bound, task(lambda: 2, name="two")])
    assert run[bound] is run[original] is run["one"] is run.tasks[0]
    assert isinstance(run["two"], TaskRun)


def test_the_exact_task_comes_before_one_made_from_it() -> None:
    original = task(lambda x=0: x, name="one")
    bound = original.bind(x=1)
    run = Manager([original, bound])
    assert run[original].task_id == "one"
    assert run[bound].task_id == "one#2"


def test_an_unknown_id_or_task_is_a_key_error_that_names_what_there_is() -> None:
    run = Manager([task(lambda: 1, name="a"), task(lambda: 1, name="b")])
    with pytest.raises(KeyError, match=r"'c' is in this run not at all.*a, b"):
        run["c"]
    with pytest.raises(KeyError, match=r"'other'.*not at all"):
        run[task(lambda: 1, name="other")]


def test_a_task_listed_twice_is_a_key_error_that_names_both() -> None:
    one = task(lambda: 1, name="one")
    run = Manager([one, one])
    with pytest.raises(KeyError, match=r"more than once.*one, one#2"):
        run[one]
    origin = task(lambda x: x, name="made")
    run = Manager([origin.bind(x=1), origin.bind(x=2)])
    with pytest.raises(KeyError, match=r"more than once.*made, made#2"):
        run[origin]


def test_results_is_a_mapping_of_what_completed(run_in: RunIn) -> None:
    run = run_in(
        [task(lambda: None, name="none"), failing("bad", ValueError("x")), task(lambda: 2, name="two")],
        keep_going=True,
        on_failure=quiet,
    )
    assert isinstance(run.results, Mapping)
    assert dict(run.results) == {"none": None, "two": 2}
    assert list(run.results) == ["none", "two"]
    assert len(run.results) == 2
    assert "bad" not in run.results
    with pytest.raises(KeyError):
        run.results["bad"]
    assert "none" in repr(run.results)


def test_a_run_tells_about_itself(run_in: RunIn, way: dict[str, Any]) -> None:
    run = run_in([task(lambda: 1, name="a", group_name="g")], workflow_id="w")
    assert run.workflow_id == "w"
    assert run.mode == way["mode"]
    assert run.started is not None
    assert run.finished is not None
    assert run.started <= run.finished
    assert run.started.tzinfo is UTC
    assert run.duration == (run.finished - run.started).total_seconds()
    assert run.config is not None
    assert "w" in repr(run)
    assert "completed" in repr(run)
    assert "'a'" in repr(run["a"])
    only = run["a"]
    assert (only.name, only.group_name, only.workflow_id, only.restored) == ("a", "g", "w", False)


def test_a_run_without_an_id_gets_a_new_uuid_and_a_uuid_is_taken_as_text() -> None:
    from uuid import UUID, uuid4

    run = Manager([task(lambda: 1)])
    assert UUID(run.workflow_id).version == 4
    given = uuid4()
    assert Manager([task(lambda: 1)], workflow_id=given).workflow_id == str(given)


# to_dict


class Strange:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@dataclass
class Point:
    x: int


def recursive() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def doubly_recursive() -> list[Any]:
    made: list[Any] = []
    made += [made, made]
    return made


def diamonds() -> Any:
    made: Any = 0
    for _ in range(49):
        made = [made, made]
    return made


VALUES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "nan": lambda: math.nan,
    "infinity": lambda: [math.inf, -math.inf],
    "text": lambda: "\ud800 lone",
    "bytes": lambda: b"\xff",
    "set": lambda: {1, 2},
    "tuple": lambda: (1, 2),
    "int keys": lambda: {1: 2},
    "mixed keys": lambda: {"a": 1, None: 2},
    "nested": lambda: {"a": [1, {"b": (1,)}]},
    "dataclass": lambda: Point(1),
    "strange": Strange,
    "class": lambda: Strange,
    "function": lambda: len,
    "datetime": lambda: datetime(2020, 1, 1, tzinfo=UTC),
    "huge number": lambda: 10**5000,
    "recursive": recursive,
    "recursive twice": doubly_recursive,
    "diamonds": diamonds,
    "deep": lambda: json.loads("[" * 500 + "]" * 500),
    "generator": lambda: (i for i in range(3)),
}


@pytest.mark.timeout(5)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_to_dict_can_always_be_dumped(value: Callable[[], Any]) -> None:
    given = value()
    shown = Manager([task(lambda: given, name="one")]).to_dict()
    assert json.loads(json.dumps(shown))["tasks"][0]["status"] == "completed"


def test_to_dict_shows_plain_data_as_it_is_and_the_rest_by_its_type() -> None:
    tasks = [
        task(lambda: {"a": [1, 2.5, None, True, "x"]}, name="plain"),
        task(lambda: [Point(1), (1, 2), math.nan], name="other"),
    ]
    plain, other = Manager(tasks).to_dict()["tasks"]
    assert plain["result"] == {"a": [1, 2.5, None, True, "x"]}
    assert other["result"][1] == "<builtins.tuple>"
    assert other["result"][2] == "<builtins.float>"
    assert other["result"][0].endswith(".Point>")


def test_what_to_dict_says(run_in: RunIn) -> None:
    run = run_in(
        [task(lambda: 1, name="a"), failing("bad", ValueError("no"))],
        keep_going=True,
        on_failure=quiet,
        workflow_id="w",
    )
    shown = run.to_dict()
    assert shown["workflow_id"] == "w"
    assert shown["status"] == "failed"
    assert shown["reason"] == "failed: bad"
    assert shown["mode"] == run.mode
    assert datetime.fromisoformat(shown["started"]) == run.started
    assert datetime.fromisoformat(shown["finished"]) == run.finished
    assert shown["duration"] == run.duration
    good, bad = shown["tasks"]
    assert (good["task_id"], good["status"], good["result"], good["errors"]) == ("a", "completed", 1, [])
    assert (bad["task_id"], bad["status"], bad["result"]) == ("bad", "failed", None)
    assert bad["errors"][0]["attempt"] == 1
    assert bad["errors"][0]["exception"] == "ValueError"
    assert bad["errors"][0]["message"] == "no"
    assert bad["errors"][0]["traceback"].startswith("Traceback")
    assert set(good) >= {"name", "group_name", "reason", "restored", "retry_count", "started_at", "duration"}
    assert {type(value) for value in (shown["status"], shown["mode"], good["status"])} == {str}


def test_to_dict_of_a_run_that_is_under_way() -> None:
    import threading

    gate = threading.Event()
    run = Manager([task(lambda: gate.wait(30), name="held"), task(lambda: 1, name="rest")], mode="background")
    shown = json.loads(json.dumps(run.to_dict()))
    gate.set()
    run.wait()
    assert shown["finished"] is None
    assert shown["duration"] is None
    assert shown["tasks"][1]["status"] == "pending"


def test_to_dict_of_a_run_whose_stored_result_is_damaged(tmp_path: Any) -> None:
    run = Manager([task(lambda: 1, name="one")], storage=tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(b"damaged")
    assert json.loads(json.dumps(run.to_dict()))["tasks"][0]["status"] == "completed"


# run_inline and friends give the same


def test_a_workflow_is_run_by_a_manager_in_one_line() -> None:
    tasks = [task(lambda: 1, name="a")]
    for run in (Manager(tasks), Workflow(tasks).run(), Workflow(tasks).start().wait(), run_inline(tasks)):
        assert run.status is RunStatus.COMPLETED
        assert run["a"].result == 1


def test_a_run_and_a_manager_have_the_same_words() -> None:
    run = Workflow([task(lambda: 1)]).run()
    manager = Manager([task(lambda: 1)])
    assert {name for name in dir(run) if name[0] != "_"} == {name for name in dir(manager) if name[0] != "_"}


def test_a_run_and_its_results_are_gone_as_soon_as_nobody_has_it(run_in: Callable[..., Manager]) -> None:
    def run() -> weakref.ref[Manager]:
        first = task(lambda: bytes(100_000), name="first")
        items = task(lambda x: x, name="items").map(x=[1, 2])
        length = task(lambda data: len(data), name="length", timeout=60).bind(data=first)
        made = run_in([first, length, items])
        return weakref.ref(made.raise_for_failure())

    gc.collect()
    gc.disable()
    try:
        assert run()() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("word", ["skip", "retry", "pause"])
@pytest.mark.parametrize("storage", ["memory", "sqlite"])
def test_so_they_are_when_bodies_have_saved_something_and_sent_signals(
    word: str, storage: str, run_in: Callable[..., Manager], tmp_path: Path
) -> None:
    def saves(ctx: TaskContext) -> int:
        for _ in ctx.iterate([1, 2]):
            ctx.step("step", int)
        return 1

    def signals(ctx: TaskContext) -> None:
        for _ in ctx.iterate([1, 2]):
            if ctx.attempt.number == 1:
                getattr(ctx, word)()

    def run() -> weakref.ref[Manager]:
        kept = {} if storage == "memory" else {"storage": f"sqlite:///{tmp_path}/runs.db"}
        return weakref.ref(run_in([task(saves, name="saves"), task(signals, name="says")], **kept))

    gc.collect()
    gc.disable()
    try:
        assert run()() is None
    finally:
        gc.enable()
