"""What a result was computed from, and by what code, is recorded; on resume a difference is acted upon."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dotflow_like import (
    CodeChanged,
    ConfigError,
    Context,
    DotflowWarning,
    FingerprintError,
    InputChanged,
    Manager,
    MemoryStorage,
    Run,
    RunStatus,
    TaskContext,
    Workflow,
    task,
)

POLICIES = ["reuse", "reset", "raise"]


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def ran() -> list[str]:
    return []


def take(ran: list[str]) -> list[str]:
    taken = ran[:]
    ran.clear()
    return taken


def execute(tasks: list[Any], storage: Any, **options: Any) -> Run:
    """Run tasks, and ask that nothing is warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = {"workflow_id": "run", "resume": True, "on_failure": lambda tasks: None} | options
        return Manager(tasks, storage=storage, **options).wait()


def stored(storage: MemoryStorage) -> dict[str, bytes]:
    return dict(storage._values)


# Every kind of input


class Kind(NamedTuple):
    """A kind of input: how it is given, its name, and the task key of which it is one."""

    give: Callable[[Any, Any], tuple[list[Any], dict[str, Any]]]
    name: str
    key: str = "work"


@task
def nothing() -> None:
    pass


def _initial(work: Any, value: Any) -> tuple[list[Any], dict[str, Any]]:
    return [work.with_options(initial_context=value)], {}


def _bound(work: Any, value: Any) -> tuple[list[Any], dict[str, Any]]:
    return [work.bind(x=value)], {}


def _inside(work: Any, value: Any) -> tuple[list[Any], dict[str, Any]]:
    return [nothing, work.bind(x=[nothing, value])], {}


def _param(work: Any, value: Any) -> tuple[list[Any], dict[str, Any]]:
    return [work], {"params": {"x": value}}


def _item(work: Any, value: Any) -> tuple[list[Any], dict[str, Any]]:
    return [work.map(x=["same", value])], {}


def _beside_items(work: Any, value: Any) -> tuple[list[Any], dict[str, Any]]:
    return [work.bind(y=value).map(x=["same"])], {}


def _fingerprint(work: Any, value: Any) -> tuple[list[Any], dict[str, Any]]:
    return [work.bind(x=0)], {"fingerprint": str(value)}


KINDS = {
    "initial context": Kind(_initial, "initial_context"),
    "bound constant": Kind(_bound, "x"),
    "constant beside a task": Kind(_inside, "x"),
    "param": Kind(_param, "x"),
    "item of a map": Kind(_item, "x", "work[1]"),
    "constant of a map": Kind(_beside_items, "y", "work[0]"),
    "the caller's own": Kind(_fingerprint, "fingerprint"),
}


def order(ran: list[str], kind: Kind, value: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return tasks of which one takes `value` in a kind of way, and the options to run them."""
    if kind.name == "initial_context":

        @task
        def work(initial_context: Context) -> Any:
            ran.append("work")
            return initial_context.storage

    else:

        @task
        def work(x: Any, y: Any = None) -> Any:
            ran.append("work")
            return str((x, y))

    @task
    def beside(z: int = 3) -> int:
        ran.append("beside")
        return z

    tasks, options = kind.give(work, value)

    @task
    def after(given: Any) -> Any:
        ran.append("after")
        return given

    return [*tasks, beside, after.bind(given=tasks[-1])], options


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_equal_inputs_are_no_change(ran: list[str], storage: MemoryStorage, kind: Kind) -> None:
    for value in ({"b": 2, "a": {3, 1}}, {"a": {1, 3}, "b": 2}):
        value = value if kind.name != "fingerprint" else "same"
        tasks, options = order(ran, kind, value)
        execute(tasks, storage, on_input_change="raise", on_code_change="raise", **options)
    assert ran.count("beside") == ran.count("after") == 1


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_reuse_keeps_the_result_and_the_stored_fingerprint(
    ran: list[str], storage: MemoryStorage, kind: Kind
) -> None:
    tasks, options = order(ran, kind, "old")
    first = dict(execute(tasks, storage, **options).results)  # now: a result is read when it is asked for
    ran.clear()
    before = {key: value for key, value in stored(storage).items() if key != "run/run"}
    for _ in range(2):  # it warns again, since what is stored stays
        tasks, options = order(ran, kind, "new")
        with pytest.warns(DotflowWarning) as caught:
            run = Manager(tasks, storage=storage, workflow_id="run", resume=True, **options)
        (warning,) = caught
        assert f"{kind.key} (input {kind.name!r} changed)" in str(warning.message)
        assert "on_input_change='reset'" in str(warning.message)
        assert Path(warning.filename) == Path(__file__)
        assert run.results == first
        assert all(each.restored for each in run.tasks)
    assert ran == []
    assert {key: value for key, value in stored(storage).items() if key != "run/run"} == before
    tasks, options = order(ran, kind, "old")
    execute(tasks, storage, **options)  # and with the old input there is nothing to warn about


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_reset_computes_what_changed_anew_and_stores_the_new_fingerprint(
    ran: list[str], storage: MemoryStorage, kind: Kind
) -> None:
    tasks, options = order(ran, kind, "old")
    first = dict(execute(tasks, storage, **options).results)  # now: a result is read when it is asked for
    ran.clear()
    tasks, options = order(ran, kind, "new")
    run = execute(tasks, storage, on_input_change="reset", **options)
    # with a fingerprint for the whole run all has changed
    beside = ["beside"] if kind.name == "fingerprint" else []
    assert take(ran) == ["work", *beside, "after"]
    assert (run["after"].result != first["after"]) is (kind.name != "fingerprint")
    assert run["after"].attempts[-1].idempotency_key == "run/after/g2"
    tasks, options = order(ran, kind, "new")
    execute(tasks, storage, on_input_change="raise", **options)
    assert take(ran) == []
    tasks, options = order(ran, kind, "old")
    with pytest.raises(InputChanged):
        execute(tasks, storage, on_input_change="raise", **options)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_raise_says_which_input_and_changes_nothing(
    ran: list[str], storage: MemoryStorage, kind: Kind
) -> None:
    tasks, options = order(ran, kind, "old")
    execute(tasks, storage, **options)
    ran.clear()
    before = stored(storage)
    tasks, options = order(ran, kind, "new")
    with pytest.raises(InputChanged, match="of run run: input") as caught:
        execute(tasks, storage, on_input_change="raise", **options)
    told = str(caught.value)
    assert f"task {kind.key!r} of run run: input {kind.name!r} is not what" in told
    assert "on_input_change='reuse'" in told
    assert "on_input_change='reset'" in told
    assert ran == []
    assert stored(storage) == before


# Which inputs count


def one_task(x: Any = "default", y: Any = "default") -> Any:
    return x, y


def test_every_changed_input_is_named(storage: MemoryStorage) -> None:
    base = task(one_task)
    execute([base.bind(x=1, y=1)], storage)
    with pytest.warns(DotflowWarning, match=r"one_task \(input 'x' and input 'y' changed\)"):
        Manager([base.bind(x=2, y=2)], storage=storage, workflow_id="run", resume=True)
    with pytest.raises(InputChanged, match="input 'x'"):
        execute([base.bind(x=2, y=1)], storage, on_input_change="raise")


def test_an_input_that_is_given_or_left_out_is_a_change(storage: MemoryStorage) -> None:
    base = task(one_task)
    execute([base.bind(x=1)], storage)
    with pytest.raises(InputChanged, match="input 'y'"):
        execute([base.bind(x=1, y=1)], storage, on_input_change="raise")
    with pytest.raises(InputChanged, match="input 'x'"):
        execute([base], storage, on_input_change="raise")


def test_types_count(storage: MemoryStorage) -> None:
    base = task(one_task)
    execute([base.bind(x=1)], storage)
    for other in (True, 1.0, "1", [1], None):
        with pytest.raises(InputChanged, match="input 'x'"):
            execute([base.bind(x=other)], storage, on_input_change="raise")


def test_a_param_counts_as_it_is_coerced_and_only_for_who_takes_it(
    ran: list[str], storage: MemoryStorage
) -> None:
    @task
    def takes(n: int) -> int:
        ran.append("takes")
        return n

    @task
    def takes_not() -> int:
        ran.append("takes not")
        return 0

    execute([takes, takes_not], storage, params={"n": "3"})
    execute([takes, takes_not], storage, params={"n": 3}, on_input_change="raise")
    assert take(ran) == ["takes", "takes not"]
    run = execute([takes, takes_not], storage, params={"n": 4}, on_input_change="reset")
    assert take(ran) == ["takes"]
    assert run["takes"].result == 4


def test_being_bound_to_another_task_is_a_change_but_not_what_that_task_returned(
    ran: list[str], storage: MemoryStorage
) -> None:
    value = 1

    @task
    def one() -> int:
        return value

    @task
    def two() -> int:
        return value

    @task
    def user(x: int) -> int:
        ran.append("user")
        return x

    execute([one, two, user.bind(x=one)], storage)
    value = 5
    execute([one, two, user.bind(x=one)], storage, on_input_change="raise")
    with pytest.raises(InputChanged, match="task 'user' of run run: input 'x'"):
        execute([one, two, user.bind(x=two)], storage, on_input_change="raise")
    with pytest.raises(InputChanged, match="input 'x'"):
        execute([one, two, user.bind(x=1)], storage, on_input_change="raise")
    assert take(ran) == ["user"]


def test_of_a_context_only_the_value_counts(storage: MemoryStorage) -> None:
    @task
    def work(initial_context: Context) -> Any:
        return initial_context.storage

    given = [
        Context("value", task_id="a"),
        Context("value", time=datetime(1999, 1, 1, tzinfo=UTC)),
        Context(Context("value").storage),
    ]
    for each in given:
        execute([work.with_options(initial_context=each)], storage, on_input_change="raise")


def test_adding_removing_and_moving_tasks_is_no_change(ran: list[str], storage: MemoryStorage) -> None:
    def made(name: str) -> Any:
        return task(lambda x: ran.append(name), name=name).bind(x=1)

    a, b, c, d = map(made, "abcd")
    strict = {"on_input_change": "raise", "on_code_change": "raise"}
    execute([a, b, c], storage, **strict)
    execute([d, c, a, b], storage, **strict)
    execute([b], storage, **strict)
    run = execute([a, b, c, d], storage, **strict)
    assert ran == ["a", "b", "c", "d"]
    assert all(each.restored for each in run.tasks)


def test_how_a_run_is_run_is_no_part_of_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    told: list[str] = []

    @task
    def work(x: int) -> int:
        with log.open("a") as file:
            file.write(f"{x}\n")
        return x

    @task
    def more(given: int) -> int:
        return given + 1

    ways: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({"retry": 3, "retry_delay": 1, "backoff": True}, {"mode": "parallel", "max_workers": 1}),
        ({"timeout": 9}, {"mode": "background", "keep_going": True}),
        ({"callback": lambda task: told.append("task")}, {"mode": "parallel", "executor": "thread"}),
        ({"group_name": "a"}, {"timeout": 30, "version": "2"}),
        (
            {"retry_on": KeyError},
            {"mode": "sequential_group", "on_success": lambda tasks: told.append("run")},
        ),
    ]
    for options, more_options in ways:
        bound = work.with_options(**options).bind(x=1)
        run = execute(
            [bound, more.bind(given=bound).after(bound)],
            tmp_path / "kept",
            on_input_change="raise",
            on_code_change="raise",
            **more_options,
        )
        assert run["more"].result == 2
    assert log.read_text() == "1\n"
    assert told == ["run"]


# What lies downstream


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_reset_discards_what_may_have_read_the_changed_task_and_nothing_else(
    storage: MemoryStorage, mode: str, ran: list[str]
) -> None:
    @task(group_name="g")
    def changed(x: int) -> int:
        ran.append("changed")
        return x

    @task(group_name="g")
    def by_previous(previous_context: Context) -> Any:
        ran.append("by previous")
        return previous_context.storage

    @task(group_name="g")
    def not_reading() -> int:
        ran.append("not reading")
        return 0

    @task(group_name="g")
    def by_ctx(ctx: TaskContext) -> str:
        ran.append("by ctx")
        return ctx.idempotency_key

    @task(group_name="g")
    def by_container(given: dict[str, Any]) -> Any:
        ran.append("by container")
        return given

    @task(group_name="g")
    def second_hand(given: Any) -> Any:
        ran.append("second hand")
        return given

    @task(group_name="g")
    def only_after() -> int:
        ran.append("only after")
        return 1

    @task(group_name="h")
    def apart(y: int = 3) -> int:
        ran.append("apart")
        return y

    def tasks(x: int) -> list[Any]:
        first = changed.bind(x=x)
        container = by_container.bind(given={"a": first, "b": 1})
        return [
            first,
            by_previous,
            not_reading,
            by_ctx,
            container,
            second_hand.bind(given=container),
            only_after.after(first),
            apart,
        ]

    options: dict[str, Any] = {"mode": mode}
    if mode == "parallel":
        options |= {"executor": "inline"}
    execute(tasks(1), storage, **options)
    assert len(take(ran)) == 8
    run = execute(tasks(2), storage, on_input_change="reset", **options)
    assert take(ran) == ["changed", "by previous", "by ctx", "by container", "second hand"]
    assert run["second_hand"].result == {"a": 2, "b": 1}
    assert run["by_previous"].result == 2
    assert run["by_ctx"].result == "run/by_ctx/g2"
    assert [each.task_id for each in run.tasks if each.restored] == ["not_reading", "only_after", "apart"]


def test_a_class_task_reads_what_is_before_it(ran: list[str], storage: MemoryStorage) -> None:
    @task
    class Work:
        @task
        def look(self, previous_context: Context) -> Any:
            ran.append("look")
            return previous_context.storage

    @task
    def first(x: int) -> int:
        ran.append("first")
        return x

    execute([first.bind(x=1), Work], storage)
    ran.clear()
    run = execute([first.bind(x=2), Work], storage, on_input_change="reset")
    assert take(ran) == ["first", "look"]
    assert run["Work"].result[0].storage == 2


def test_what_is_downstream_and_was_never_recorded_simply_runs(
    ran: list[str], storage: MemoryStorage
) -> None:
    broken = True

    @task
    def first(x: int) -> int:
        ran.append("first")
        return x

    @task
    def second(given: int) -> int:
        ran.append("second")
        if broken:
            raise ValueError
        return given

    def tasks(x: int) -> list[Any]:
        bound = first.bind(x=x)
        return [bound, second.bind(given=bound)]

    execute(tasks(1), storage)
    broken = False
    run = execute(tasks(2), storage, on_input_change="reset")
    assert take(ran) == ["first", "second", "first", "second"]
    assert run["second"].result == 2


def test_a_reset_that_is_interrupted_goes_on_as_a_reset(ran: list[str], storage: MemoryStorage) -> None:
    broken = False

    @task
    def first(x: int) -> int:
        ran.append("first")
        if broken:
            raise ValueError
        return x

    @task
    def second(given: int) -> int:
        ran.append("second")
        return given

    def tasks(x: int) -> list[Any]:
        bound = first.bind(x=x)
        return [bound, second.bind(given=bound)]

    execute(tasks(1), storage)
    broken = True
    run = execute(tasks(2), storage, on_input_change="reset")
    assert run.status is RunStatus.FAILED
    broken = False
    run = execute(tasks(2), storage)  # by default nothing would be reset any more
    assert run["second"].result == 2
    assert take(ran) == ["first", "second", "first", "first", "second"]


# The caller's own fingerprint


def test_the_callers_fingerprint_stands_in_for_all_inputs(ran: list[str], storage: MemoryStorage) -> None:
    @task
    def work(x: Any) -> int:
        ran.append("work")
        return 1

    def tasks(x: Any) -> list[Any]:
        return [work.bind(x=x), nothing]

    execute(tasks(1), storage, fingerprint="v1")
    execute(tasks(object()), storage, fingerprint="v1", on_input_change="raise")
    with pytest.raises(InputChanged, match="task 'work' of run run: input 'fingerprint'"):
        execute(tasks(1), storage, fingerprint="v2", on_input_change="raise")
    with pytest.warns(DotflowWarning, match=r"work \(input 'fingerprint' changed\), nothing \(input"):
        Manager(tasks(1), storage=storage, workflow_id="run", resume=True, fingerprint="v2")
    assert take(ran) == ["work"]
    run = execute(tasks(1), storage, fingerprint="v2", on_input_change="reset")
    assert take(ran) == ["work"]
    assert not any(each.restored for each in run.tasks)


@pytest.mark.parametrize("first", ["v1", None])
def test_going_from_one_kind_of_fingerprint_to_the_other_changes_every_input(
    ran: list[str], storage: MemoryStorage, first: str | None
) -> None:
    @task
    def work(x: int) -> int:
        ran.append("work")
        return 1

    second = "v1" if first is None else None
    tasks = [work.bind(x=1), nothing]
    execute(tasks, storage, fingerprint=first)
    with pytest.raises(InputChanged):
        execute(tasks, storage, fingerprint=second, on_input_change="raise")
    with pytest.warns(DotflowWarning, match="nothing"):
        Manager(tasks, storage=storage, workflow_id="run", resume=True, fingerprint=second)
    assert take(ran) == ["work"]
    run = execute(tasks, storage, fingerprint=second, on_input_change="reset")
    assert take(ran) == ["work"]
    assert not any(each.restored for each in run.tasks)
    execute(tasks, storage, fingerprint=second, on_input_change="raise")


@pytest.mark.parametrize("fingerprint", [1, b"v1", 1.5, ["v1"]])
def test_a_fingerprint_that_is_no_text_is_refused(fingerprint: Any, storage: MemoryStorage) -> None:
    with pytest.raises(ConfigError, match="fingerprint is"):
        execute([nothing], storage, fingerprint=fingerprint)


@pytest.mark.parametrize("word", ["on_input_change", "on_code_change"])
def test_an_unknown_policy_is_refused(word: str, storage: MemoryStorage) -> None:
    other = {"on_input_change": "rerun", "on_code_change": "reset"}[word]
    for policy in ("", "REUSE", other, None):
        with pytest.raises(ConfigError, match=f"{word} is {policy!r}"):
            execute([nothing], storage, **{word: policy})


# What cannot be compared


class Handle:
    """Something without a stable form."""


GIVE_UNHASHABLE: dict[str, Callable[[Any], tuple[list[Any], dict[str, Any]]]] = {
    "bound": lambda work: ([work.bind(x={"deep": [Handle()]})], {}),
    "initial context": lambda work: ([work.bind(x=1).with_options(initial_context=Handle())], {}),
    "item": lambda work: ([work.map(x=[1, Handle()])], {}),
    "beside a task": lambda work: ([nothing, work.bind(x=[nothing, Handle()])], {}),
}


@pytest.mark.parametrize("give", GIVE_UNHASHABLE.values(), ids=GIVE_UNHASHABLE)
def test_an_unhashable_input_is_refused_where_resume_is_asked_for_before_anything_runs(
    ran: list[str], storage: MemoryStorage, give: Callable[[Any], tuple[list[Any], dict[str, Any]]]
) -> None:
    @task
    def before() -> None:
        ran.append("before")

    @task
    def work(x: Any) -> None:
        ran.append("work")

    tasks, _ = give(work)
    tasks = [before, *tasks]
    for known in (False, True):
        with pytest.raises(FingerprintError, match=r"task 'work(\[1\])?', .*fingerprint=") as caught:
            execute(tasks, storage)
        assert "Handle" in str(caught.value)
        assert take(ran) == []
        if not known:
            run = execute(tasks, storage, resume=False)  # otherwise it is welcome
            assert run.status is RunStatus.COMPLETED
            ran.clear()
    with pytest.raises(FingerprintError):
        execute(tasks, storage, on_input_change="reset")
    with pytest.warns(DotflowWarning, match="changed"):
        Manager(tasks, storage=storage, workflow_id="run", resume=True, fingerprint="mine")
    assert take(ran) == []


def test_an_unhashable_item_of_a_result_is_refused_before_it_runs(
    ran: list[str], storage: MemoryStorage
) -> None:
    @task
    def make() -> list[Any]:
        return ["a", "b"]

    @task
    def work(x: Any, y: Any) -> None:
        ran.append("work")

    with pytest.raises(FingerprintError, match=r"'y'.*fingerprint="):
        execute([make, work.bind(y=Handle()).map(x=make)], storage)
    assert ran == []


def test_an_unhashable_input_of_a_run_that_was_started_without_resume_counts_as_changed(
    ran: list[str], storage: MemoryStorage
) -> None:
    @task
    def work(x: Any) -> int:
        ran.append("work")
        return 1

    execute([work.bind(x=Handle())], storage, resume=False)
    with pytest.raises(InputChanged, match="an input"):
        execute([work.bind(x=1)], storage, on_input_change="raise")
    with pytest.warns(DotflowWarning, match="an input.* changed"):
        Manager([work.bind(x=1)], storage=storage, workflow_id="run", resume=True)
    assert take(ran) == ["work"]
    execute([work.bind(x=1)], storage, on_input_change="reset")
    assert take(ran) == ["work"]
    execute([work.bind(x=1)], storage, on_input_change="raise")


def test_code_without_a_source_asks_for_a_version_where_it_is_compared(storage: MemoryStorage) -> None:
    scope: dict[str, Any] = {"__name__": "made_up"}
    exec("def made():\n    return 1\n", scope)
    made = task(scope["made"])
    execute([made], storage)
    execute([made], storage)
    for policy in ("rerun", "raise"):
        with pytest.raises(FingerprintError, match=r"task 'made' has no source.*version="):
            execute([made], storage, on_code_change=policy)
    with pytest.raises(CodeChanged):
        execute([made.with_options(version="1")], storage, on_code_change="raise")
    execute([made.with_options(version="1")], storage, on_code_change="rerun")
    execute([made.with_options(version="1")], storage, on_code_change="raise")


# Plans tell beforehand


def test_a_plan_says_what_is_restored_and_what_runs_and_why(ran: list[str], storage: MemoryStorage) -> None:
    @task
    def one(x: int) -> int:
        return x

    @task
    def two(given: int) -> int:
        raise ValueError("no luck")

    @task
    def three() -> int:
        return 3

    def flow(x: int) -> Workflow:
        bound = one.bind(x=x)
        return Workflow([bound, two.bind(given=bound), three])

    flow(1).run(storage=storage, workflow_id="run", keep_going=True, on_failure=lambda tasks: None)
    before = stored(storage)
    options: dict[str, Any] = {"storage": storage, "workflow_id": "run", "resume": True}
    told = flow(1).plan(**options).explain()
    assert "one: restored: completed by attempt 1" in told
    assert "attempt 1 failed: ValueError: no luck" in told
    assert "three: restored" in told
    told = flow(2).plan(on_input_change="reset", **options).explain()
    assert "input 'x' changed" in told
    told = flow(2).plan(**options).explain()
    assert "one: restored: though input 'x' changed" in told
    with pytest.raises(InputChanged):
        flow(2).plan(on_input_change="raise", **options)
    assert stored(storage) == before


# Code, in real scripts


HEAD = """
import json, sys
from dotflow_like import DotflowError, Manager, task

ran = []
"""
BODY = """
@task
def work():
    ran.append("work")
    return [1, 2]


@task
def after(given):
    ran.append("after")
    return sum(given)


@task
def beside():
    ran.append("beside")
    return 7


tasks = [work, after.bind(given=work), beside]
"""
TAIL = """
problem = None
try:
    run = Manager(tasks, storage=sys.argv[1], workflow_id="run", resume=True, on_code_change=sys.argv[2])
except DotflowError as error:
    problem = [type(error).__name__, str(error)]
results = None if problem else {each.task_id: each.result for each in run.tasks}
print(json.dumps({"ran": ran, "problem": problem, "results": results}, default=lambda each: each.storage))
"""


class Told(NamedTuple):
    ran: list[str]
    problem: list[str] | None
    results: dict[str, Any]
    stderr: str


class Script:
    """A script that is edited between its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, body: str, policy: str = "raise") -> Told:
        path = self.folder / "script.py"
        path.write_text(HEAD + textwrap.dedent(body) + TAIL)
        done = subprocess.run(
            [sys.executable, str(path), str(self.folder / "kept"), policy],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return Told(**json.loads(done.stdout), stderr=done.stderr)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    made = Script(tmp_path)
    assert made(BODY).ran == ["work", "after", "beside"]
    return made


def edited(*pairs: str) -> str:
    body = BODY
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        assert old in body
        body = body.replace(old, new)
    return body


UNCHANGED = edited(
    '    ran.append("work")\n    return [1, 2]',
    '    """It has documentation now."""  # and a comment\n\n    ran.append(\n        "work"\n    )\n\n    return [1, 2]  # both',
    "@task\ndef after",
    "import os\n\n\n@task(retry=3, retry_delay=0.5,\n      timeout=30)  # policy\ndef after",
    "    return sum(given)",
    "        return sum(given)",
    '    ran.append("after")',
    '        ran.append("after")',
)


def test_comments_layout_documentation_and_options_are_no_change_of_code(script: Script) -> None:
    # and neither is where in the file a function stands
    moved = UNCHANGED.replace("tasks = [", "def helper():\n    return 1\n\n\ntasks = [")
    for body in (UNCHANGED, "\n\n# a new first line\n" + moved, BODY):
        told = script(body)
        assert (told.ran, told.problem) == ([], None)


CHANGED = edited("    return [1, 2]", "    return [1, 2, 3]")


def test_changed_code_is_kept_with_a_warning_under_reuse(script: Script) -> None:
    for _ in range(2):
        told = script(CHANGED, "reuse")
        assert (told.ran, told.results) == ([], {"work": [1, 2], "after": 3, "beside": 7})
        assert "DotflowWarning: run run is resumed with results" in told.stderr
        assert "work (its code changed)" in told.stderr
        assert "on_code_change='rerun'" in told.stderr
    told = script(BODY, "raise")
    assert told.problem is None


def test_changed_code_runs_again_with_what_is_bound_to_it_under_rerun(script: Script) -> None:
    told = script(CHANGED, "rerun")
    assert told.ran == ["work", "after"]
    assert told.results == {"work": [1, 2, 3], "after": 6, "beside": 7}
    assert told.stderr == ""
    assert script(CHANGED, "raise").problem is None
    told = script(BODY, "raise")
    assert told.problem is not None
    assert told.problem[0] == "CodeChanged"


def test_changed_code_is_refused_under_raise(script: Script) -> None:
    told = script(CHANGED, "raise")
    assert told.ran == []
    assert told.problem is not None
    name, message = told.problem
    assert name == "CodeChanged"
    assert "task 'work' of run run: its code is not what its result was computed by" in message
    assert "on_code_change='rerun'" in message


def test_a_version_stands_in_for_the_source(script: Script) -> None:
    versioned = edited("@task\ndef work", '@task(version="1")\ndef work')
    told = script(versioned)
    assert told.problem is not None  # from a source to a version is a change
    assert script(versioned, "rerun").ran == ["work", "after"]
    told = script(versioned.replace("[1, 2]", "[1, 2, 3]"))
    assert (told.ran, told.problem) == ([], None)
    told = script(versioned.replace('version="1"', 'version="2"'))
    assert told.problem is not None
    assert told.problem[0] == "CodeChanged"


def test_only_the_tasks_own_source_counts(script: Script, tmp_path: Path) -> None:
    added = BODY.replace(
        "tasks = [work,", "@task\ndef new():\n    ran.append('new')\n\n\ntasks = [new, work,"
    )
    assert script(added).ran == ["new"]
    removed = BODY.replace("tasks = [work, after.bind(given=work), beside]", "tasks = [beside]")
    told = script(removed)
    assert (told.ran, told.problem) == ([], None)
    told = script(BODY)
    assert (told.ran, told.problem) == ([], None)


CLASSES = """
@task
class Pipeline:
    @task
    def load(self):
        ran.append("load")
        return 1

    @task
    def double(self, previous_context):
        return 2 * previous_context.storage


def outer(factor):
    return task(lambda x: ran.append("lambda") or x * factor, name="scaled").bind(x=2)


tasks = [task(lambda: ran.append("lone") or 5, name="lone"), outer(3)]
"""


def test_lambdas_and_closures_have_code_of_their_own(tmp_path: Path) -> None:
    script = Script(tmp_path)
    assert script(CLASSES).ran == ["lone", "lambda"]
    assert script("\n" + CLASSES).problem is None
    told = script(CLASSES.replace("or 5", "or 6"))
    assert told.problem is not None
    assert "task 'lone'" in told.problem[1]
    told = script(CLASSES.replace("x * factor", "x + factor"), "rerun")
    assert told.ran == ["lambda"]
    assert told.results == {"lone": 5, "scaled": 5}


def test_a_class_changes_with_its_methods(tmp_path: Path) -> None:
    script = Script(tmp_path)
    body = CLASSES[: CLASSES.index("def outer")] + "tasks = [Pipeline]\n"
    assert script(body)[:3] == (["load"], None, {"Pipeline": [1, 2]})
    assert (
        script(body.replace("    @task\n    def load", "    @task()  # as before\n    def load")).problem
        is None
    )
    other = body.replace("2 * previous", "3 * previous")
    told = script(other)
    assert told.problem is not None
    assert told.problem[0] == "CodeChanged"
    assert script(other, "rerun")[:3] == (["load"], None, {"Pipeline": [1, 3]})
