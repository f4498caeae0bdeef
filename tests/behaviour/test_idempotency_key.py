"""A run with an idempotency key starts once, however often and from wherever it is started."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    Config,
    ConfigError,
    DotflowWarning,
    FingerprintError,
    InputChanged,
    Manager,
    MemoryStorage,
    RunStatus,
    TaskContext,
    UnfilledParameter,
    Workflow,
    task,
)

Until = Callable[..., None]
KEY = "order-42"


@pytest.fixture(params=["memory", "files", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each storage that keeps keys."""
    places = {
        "memory": MemoryStorage(),
        "files": tmp_path / "files",
        "sqlite": f"sqlite:///{tmp_path}/runs.db",
    }
    return places[request.param]


# From many threads


def test_of_threads_that_start_it_at_once_one_runs_it(storage: Any) -> None:
    ran: list[str] = []
    one = task(lambda key: ran.append(key) or len(ran), name="one")
    for number in range(8):
        barrier, found, key = threading.Barrier(8), [], f"order {number}"

        def start(barrier: threading.Barrier = barrier, found: list[Any] = found, key: str = key) -> None:
            barrier.wait(30)
            try:
                found.append(Manager([one.bind(key=key)], idempotency_key=key, storage=storage).wait(30))
            except BaseException as error:
                found.append(error)

        threads = [threading.Thread(target=start) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
        assert ran == [f"order {n}" for n in range(number + 1)]
        assert [each.status for each in found] == ["completed"] * 8
        assert len({each.workflow_id for each in found}) == 1
        assert {each["one"].result for each in found} == {number + 1}


def test_a_body_that_starts_its_own_run_gets_a_view_of_it(storage: Any) -> None:
    seen = []

    def body() -> None:
        seen.append(Manager(tasks, idempotency_key=KEY, storage=storage))

    tasks = [task(body, name="body")]
    run = Manager(tasks, idempotency_key=KEY, storage=storage)
    assert run.status is RunStatus.COMPLETED
    assert [each.workflow_id for each in seen] == [run.workflow_id]
    assert seen[0]["body"].status == "running"
    assert seen[0].wait()["body"].status == "completed"


# What it is a key of


@pytest.fixture
def ran() -> list[int]:
    """What the tasks of `tasks` were called with."""
    return []


@pytest.fixture
def tasks(ran: list[int]) -> list[Any]:
    @task
    def one(n: int = 0, m: int = 0) -> int:
        ran.append(n)
        return n

    return [one, task(lambda x: x + 1, name="two").bind(x=one)]


def test_a_later_start_is_shown_the_run_and_calls_no_callback(
    storage: Any, tasks: list[Any], ran: list[int], way: dict[str, Any]
) -> None:
    called = []
    options: Any = {"idempotency_key": KEY, "storage": storage, "on_success": called.append, **way}
    options["on_success"] = lambda tasks: called.append(tasks)
    if way["mode"] == "parallel" and "executor" not in way:
        options["executor"] = "thread"  # `ran` is this process's
    run = Manager(tasks, **options).wait()
    assert len(called) == len(ran) == 1
    workflow = Workflow(tasks)
    for view in (Manager(tasks, **options), workflow.run(**options), workflow.start(**options)):
        assert view.wait(30).workflow_id == run.workflow_id
        assert dict(view.results) == {"one": 0, "two": 1}
        assert view.thread is None
    assert len(called) == len(ran) == 1


def test_a_failed_run_stays_failed_until_it_is_resumed(storage: Any) -> None:
    healthy: list[int] = []
    one = task(lambda: healthy[0], name="one")
    options: Any = {"idempotency_key": KEY, "storage": storage, "on_failure": lambda tasks: None}
    run = Manager([one], **options)
    healthy.append(1)
    view = Manager([one], **options)
    assert (view.status, view.reason) == (run.status, run.reason) == (RunStatus.FAILED, "failed: one")
    resumed = Manager([one], **options, resume=True)
    assert (resumed.status, resumed.workflow_id) == (RunStatus.COMPLETED, run.workflow_id)
    healthy.clear()
    assert Manager([one], **options, resume=True)["one"].result == 1
    assert Manager([one], **options)["one"].result == 1


def test_resuming_an_unknown_key_starts(storage: Any, tasks: list[Any], ran: list[int]) -> None:
    run = Manager(tasks, idempotency_key=KEY, storage=storage, resume=True)
    assert Manager(tasks, idempotency_key=KEY, storage=storage).workflow_id == run.workflow_id
    assert len(ran) == 1


def test_a_key_is_its_workflows_own(storage: Any, tasks: list[Any], ran: list[int]) -> None:
    found = {
        Manager(tasks, idempotency_key=key, storage=storage, name=name).workflow_id
        for name in ("orders", "returns")
        for key in (KEY, "order-43", KEY)
    }
    assert len(found) == 4
    assert len(ran) == 4


@pytest.mark.parametrize("key", ["a/b", "a%2Fb", "..", "k" * 3000, "\N{SNOWMAN} \n\t'\"", " ", "nul \0"])
def test_any_text_is_a_key(storage: Any, tasks: list[Any], ran: list[int], key: str) -> None:
    found = [Manager(tasks, idempotency_key=each, storage=storage) for each in (key, f"{key}!", key)]
    assert found[0].workflow_id == found[2].workflow_id != found[1].workflow_id
    assert len(ran) == 2


@pytest.mark.parametrize("key", ["", 42, b"order", ["order"]])
def test_what_is_no_key_is_refused(storage: Any, key: Any) -> None:
    with pytest.raises(ConfigError, match=r"idempotency_key is .*; give a text that is not empty"):
        Manager([], idempotency_key=key, storage=storage)


@pytest.mark.parametrize("options", [{}, {"storage": "memory://"}, {"config": Config()}])
def test_a_key_needs_a_storage_that_keeps_it(options: Any) -> None:
    with pytest.raises(ConfigError, match="idempotency_key= needs a storage that outlives the run"):
        Manager([], idempotency_key=KEY, **options)


def test_the_new_run_has_the_id_it_is_given(storage: Any, tasks: list[Any], ran: list[int]) -> None:
    options: Any = {"idempotency_key": KEY, "storage": storage}
    assert Manager(tasks, workflow_id="mine", **options).workflow_id == "mine"
    assert Manager(tasks, workflow_id="mine", **options).workflow_id == "mine"
    assert Manager(tasks, **options).workflow_id == "mine"
    with pytest.raises(
        ConfigError, match="idempotency_key='order-42' was used before, to start run mine of w"
    ):
        Manager(tasks, workflow_id="other", **options)
    for resume in (False, True):
        with pytest.raises(ConfigError, match="run mine was not started with idempotency_key='order-43'"):
            Manager(tasks, workflow_id="mine", idempotency_key="order-43", storage=storage, resume=resume)
    assert len(ran) == 1
    with pytest.warns(DotflowWarning, match="starts over"):  # without the key it is as ever
        Manager(tasks, workflow_id="mine", storage=storage)
    assert len(ran) == 2
    assert Manager(tasks, **options).workflow_id == "mine"


# Other inputs


def test_other_inputs_are_told_and_change_nothing(storage: Any, tasks: list[Any], ran: list[int]) -> None:
    options: Any = {"idempotency_key": KEY, "storage": storage}
    run = Manager(tasks, params={"n": 1}, **options)
    changes: list[tuple[dict[str, Any], str]] = [
        ({"params": {"n": 2}}, r"param 'n', one \(input 'n' changed\); it is shown as it is"),
        ({"params": {"n": 2}, "on_input_change": "reset"}, "param 'n', one"),
        ({}, "param 'n', one"),
        ({"params": {"n": 1, "m": 1}}, "param 'm', one"),
    ]
    for change, words in changes:
        with pytest.warns(DotflowWarning, match=f"run {run.workflow_id}, .*'order-42'.*: {words}") as told:
            view = Manager(tasks, **options, **change)
        assert told[0].filename == __file__
        assert (view.workflow_id, view["two"].result) == (run.workflow_id, 2)
    for params in ({"n": 2}, {"n": 1, "m": 1}):
        with pytest.raises(InputChanged, match=r"input 'm'|input 'n'"):
            Manager(tasks, **options, params=params, on_input_change="raise")
    assert Manager(tasks, **options, params={"n": 1}, on_input_change="raise")["two"].result == 2
    assert ran == [1]


def test_inputs_that_cannot_be_compared_are_no_other_inputs(storage: Any, ran: list[int]) -> None:
    one = task(lambda lock: ran.append(1), name="one").bind(lock=threading.Lock())
    for _ in range(2):
        Manager([one], idempotency_key=KEY, storage=storage)
    assert ran == [1]


def test_other_inputs_of_a_run_that_goes_on_are_told(storage: Any, until: Until) -> None:
    gate = threading.Event()
    waits = task(lambda n: gate.wait(30) and n, name="waits")
    run = Workflow([waits]).start(idempotency_key=KEY, storage=storage, params={"n": 1})
    until(lambda: run["waits"].status == "running", "the task")
    with pytest.warns(DotflowWarning, match="other inputs or code: param 'n'; it is shown"):
        view = Manager([waits], idempotency_key=KEY, storage=storage, params={"n": 2})
    with pytest.raises(InputChanged, match="param 'n'"):
        Manager([waits], idempotency_key=KEY, storage=storage, params={"n": 2}, on_input_change="raise")
    gate.set()
    assert view.wait(30)["waits"].result == run.wait(30)["waits"].result == 1


def test_a_fingerprint_stands_for_all_inputs(storage: Any, tasks: list[Any]) -> None:
    options: Any = {"idempotency_key": KEY, "storage": storage}
    Manager(tasks, params={"n": 1}, fingerprint="same", **options)
    Manager(tasks, params={"n": 2}, fingerprint="same", **options)
    with pytest.warns(DotflowWarning, match="an input|input 'fingerprint'"):
        Manager(tasks, params={"n": 1}, fingerprint="other", **options)


def test_the_plan_of_a_known_key_says_what_is_recorded(storage: Any, tasks: list[Any]) -> None:
    workflow = Workflow(tasks)
    options: Any = {"idempotency_key": KEY, "storage": storage}
    assert "one: run" in workflow.plan(**options).explain()
    workflow.run(**options)
    plan = workflow.plan(**options)
    assert "one: restored" in plan.explain()
    assert plan.warnings == ()


# What is wrong is raised before anything is written


def test_what_cannot_start_leaves_the_key_unused(storage: Any, tasks: list[Any], ran: list[int]) -> None:
    options: Any = {"idempotency_key": KEY, "storage": storage}
    with pytest.raises(UnfilledParameter):
        Manager([task(lambda x: x, name="one")], **options)
    with pytest.raises(FingerprintError):
        Manager([tasks[0].bind(n=threading.Lock())], resume=True, **options)
    assert ran == []
    assert Manager(tasks, **options).status is RunStatus.COMPLETED
    assert ran == [0]


def test_its_tasks_ask_with_one_key_on_every_attempt(storage: Any, way: dict[str, Any]) -> None:
    @task(retry=2)
    def asks(ctx: TaskContext) -> str:
        if ctx.attempt.number < 4:
            raise LookupError(ctx.idempotency_key)
        return ctx.idempotency_key

    if isinstance(storage, MemoryStorage) and way["mode"] == "parallel":
        way["max_workers"] = 1
    options: Any = {"idempotency_key": KEY, "storage": storage, "on_failure": lambda tasks: None, **way}
    failed = Manager([asks], **options).wait()
    resumed = Manager([asks], resume=True, **options).wait()
    asked = {each.message for run in (failed, resumed) for each in run["asks"].errors}
    assert asked == {resumed["asks"].result} == {f"{failed.workflow_id}/asks/g1"}
    assert len(resumed["asks"].attempts) == 4
