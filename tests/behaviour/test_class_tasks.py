"""A decorated class is one task: its methods in order, on one instance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dotflow_like import Context, Manager, TaskContext, TaskStatus, task

RunIn = Callable[..., Manager]


def test_methods_run_in_order_on_one_instance_each_seeing_the_one_before(run_in: RunIn) -> None:
    @task
    class Steps:
        def __init__(self) -> None:
            self.seen: list[str] = []

        @task
        def first(self, previous_context: Context) -> Any:
            self.seen.append("first")
            return previous_context.storage

        def helper(self) -> None:
            self.seen.append("helper")

        @task
        def second(self, previous_context: Context) -> Any:
            self.helper()
            self.seen.append("second")
            return previous_context.task_id, previous_context.storage, list(self.seen)

    run = run_in([Steps])
    assert run.raise_for_failure().tasks[0].task_id == "Steps"
    contexts = run.tasks[0].result
    assert [type(each) for each in contexts] == [Context, Context]
    assert contexts[0].storage is None
    assert contexts[1].storage == ("Steps.first", None, ["first", "helper", "second"])
    assert [each.task_id for each in contexts] == ["Steps.first", "Steps.second"]
    assert {each.workflow_id for each in contexts} == {run.workflow_id}


def test_inherited_methods_run_first(run_in: RunIn) -> None:
    class Base:
        def __init__(self) -> None:
            self.log: list[str] = []

        @task
        def one(self) -> None:
            self.log.append("one")

        @task
        def two(self) -> None:
            self.log.append("base two")

    @task
    class Derived(Base):
        @task
        def three(self) -> None:
            self.log.append("three")

        @task
        def two(self) -> None:
            self.log.append("two")

        @task
        def four(self) -> list[str]:
            self.log.append("four")
            return self.log

    assert run_in([Derived]).raise_for_failure().tasks[0].result[-1].storage == [
        "one",
        "two",
        "three",
        "four",
    ]


def test_a_decorated_class_can_be_derived_from() -> None:
    @task
    class Base:
        @task
        def one(self) -> int:
            return 1

    @task
    class Derived(Base):
        @task
        def two(self) -> int:
            return 2

    run = Manager([Base, Derived])
    assert [[each.storage for each in one.result] for one in run.tasks] == [[1], [1, 2]]


def test_parameters_of_constructor_and_methods_are_filled_by_name(run_in: RunIn) -> None:
    numbers = task(lambda: [1, 2], name="numbers")

    @task(initial_context="given")
    class Sum:
        def __init__(self, factor: int, initial_context: Context) -> None:
            self.factor = factor
            self.given = initial_context.storage

        @task
        def add(self, values: list[int], factor: int) -> int:
            assert factor == self.factor
            return sum(values) * self.factor

        @task
        def tell(self, ctx: TaskContext, extra: str = "default") -> Any:
            return ctx.task_id, self.given, extra

    bound = Sum.bind(values=numbers, factor=10)
    contexts = run_in([numbers, bound]).raise_for_failure()[bound].result
    assert [each.storage for each in contexts] == [30, ("Sum", "given", "default")]


def test_the_first_method_sees_the_task_before_and_the_next_task_the_list_of_contexts() -> None:
    before = task(lambda: "before", name="before")

    @task
    class Middle:
        @task
        def look(self, previous_context: Context) -> Any:
            return previous_context.storage

    @task
    def after(previous_context: Context) -> Any:
        return [each.storage for each in previous_context.storage]

    assert Manager([before, Middle, after])["after"].result == ["before"]


def test_a_failing_method_fails_the_task_and_a_retry_begins_anew(run_in: RunIn, tmp_path: Path) -> None:
    log = tmp_path / "log"

    @task(retry=2)
    class Steps:
        @task
        def first(self) -> None:
            with log.open("a") as file:
                file.write("1")

        @task
        def second(self) -> None:
            with log.open("a") as file:
                file.write("2")
            raise ValueError("no")

        @task
        def third(self) -> None:
            with log.open("a") as file:
                file.write("3")

    run = run_in([Steps], on_failure=lambda tasks: None)
    assert run.tasks[0].status is TaskStatus.FAILED
    assert log.read_text() == "1212"
    assert run.tasks[0].retry_count == 1


def test_each_run_and_each_attempt_has_an_instance_of_its_own() -> None:
    instances: list[Any] = []

    @task
    class Counter:
        def __init__(self) -> None:
            self.n = 0

        @task
        def count(self) -> int:
            instances.append(self)
            self.n += 1
            return self.n

    for _ in range(2):
        assert Manager([Counter]).tasks[0].result[0].storage == 1
    assert instances[0] is not instances[1]


def test_a_method_may_return_a_context() -> None:
    @task
    class One:
        @task
        def give(self) -> Context:
            return Context(5, task_id="other")

    (context,) = Manager([One]).tasks[0].result
    assert (context.storage, context.task_id) == (5, "One.give")


def test_a_decorated_class_and_its_methods_stay_callable() -> None:
    @task
    class Plus:
        def __init__(self, n: int) -> None:
            self.n = n

        @task
        def add(self, x: int) -> int:
            return self.n + x

    assert Plus(3).add(4) == 7


def test_a_map_over_a_class(run_in: RunIn) -> None:
    @task
    class Square:
        def __init__(self, n: int) -> None:
            self.n = n

        @task
        def root(self) -> int:
            return self.n

        @task
        def square(self, previous_context: Context) -> int:
            return int(previous_context.storage) ** 2

    result = run_in([Square.map(n=[2, 3])]).tasks[0].result
    assert [[each.storage for each in contexts] for contexts in result] == [[2, 4], [3, 9]]
