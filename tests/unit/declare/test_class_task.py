"""A decorated class: one task, its decorated methods its steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dotflow_like import Context, DeclarationError, RetryPolicy, Task, TaskContext, TaskStatus, task
from dotflow_like.testing import run_inline


@task
class Steps:
    """Three steps."""

    def __init__(self, start: int = 10) -> None:
        self.value = start

    @task
    def more(self) -> int:
        self.value += 1
        return self.value

    def helper(self) -> int:
        return -1

    @task
    async def twice(self, previous_context: Context) -> int:
        self.value = previous_context.storage * 2
        return self.value

    @task
    def told(self, previous_context: Context) -> Context:
        return Context(f"{previous_context.value}", task_id="somebody else's")


def values(made: Task[..., Any], *others: Task[..., Any], **options: Any) -> list[Any]:
    run = run_inline([*others, made], **options).raise_for_failure()
    return [context.storage for context in run[made].result]


class TestRunning:
    def test_the_methods_run_in_definition_order_each_seeing_the_one_before(self) -> None:
        assert [method.name for method in Steps.methods] == ["more", "twice", "told"]
        assert values(Steps) == [11, 22, "22"]

    def test_the_result_is_the_list_of_their_contexts(self) -> None:
        run = run_inline([Steps], workflow_id="w")
        result = run[Steps].result
        assert all(type(each) is Context for each in result)
        assert [each.task_id for each in result] == ["Steps.more", "Steps.twice", "Steps.told"]
        assert {each.workflow_id for each in result} == {"w"}
        assert len(run.tasks) == 1

    def test_every_run_has_an_instance_of_its_own(self) -> None:
        assert values(Steps) == values(Steps) == [11, 22, "22"]

    def test_the_constructor_is_filled_like_any_function(self) -> None:
        number = task(lambda: 4, name="number")
        assert values(Steps.bind(start=1)) == [2, 4, "4"]
        assert values(Steps.bind(start=number), number) == [5, 10, "10"]
        assert values(Steps, params={"start": "2"}) == [3, 6, "6"]

    def test_one_instance_for_each_item_of_a_map(self) -> None:
        made = Steps.map(start=[1, 2])
        run = run_inline([made]).raise_for_failure()
        assert [[each.value for each in item] for item in run[made].result] == [[2, 4, "4"], [3, 6, "6"]]

    def test_the_first_method_sees_the_task_before(self) -> None:
        @task
        class Reader:
            @task
            def read(self, previous_context: Context, ctx: TaskContext) -> tuple[Any, str]:
                return previous_context.storage, ctx.task_id

        assert values(Reader, task(lambda: 5, name="five")) == [(5, "Reader")]

    def test_methods_take_values_by_name(self) -> None:
        @task
        class Reader:
            @task
            def one(self, x: int, /, y: int = 2) -> int:
                return x + y

            @task
            def other(self, initial_context: Context, *, x: int) -> Any:
                return (initial_context.storage, x)

        assert values(Reader.bind(x=1).with_options(initial_context="given")) == [3, ("given", 1)]
        assert values(Reader.bind(x=1, y=5)) == [6, (None, 1)]

    def test_only_who_takes_any_name_gets_other_names(self) -> None:
        @task
        class Reader:
            @task
            def some(self, x: int = 0) -> int:
                return x

            @task
            def all(self, **named: int) -> dict[str, int]:
                return named

        assert values(Reader.bind(x=1, z=2)) == [1, {"z": 2}]

    def test_a_constructor_may_take_by_position_only(self) -> None:
        @task
        class Reader:
            def __init__(self, x: int = 1, y: int = 2, /) -> None:
                self.both = (x, y)

            @task
            def read(self) -> tuple[int, int]:
                return self.both

        assert values(Reader.bind(y=5)) == [(1, 5)]

    def test_a_dataclass(self) -> None:
        @task
        @dataclass
        class Reader:
            x: int
            y: int = 2

            @task
            def read(self) -> int:
                return self.x + self.y

        assert values(Reader.bind(x=1)) == [3]

    def test_a_failing_method_fails_the_task(self) -> None:
        calls = []

        @task(retry=2)
        class Failing:
            @task
            def good(self) -> None:
                calls.append("good")

            @task
            def bad(self) -> None:
                calls.append("bad")
                raise LookupError("mine")

            @task
            def never(self) -> None:
                calls.append("never")

        run = run_inline([Failing], on_failure=lambda tasks: None)
        assert run[Failing].status is TaskStatus.FAILED
        assert [error.exception for error in run[Failing].errors] == ["LookupError", "LookupError"]
        assert calls == ["good", "bad"] * 2


class TestInheritance:
    def test_inherited_methods_run_first(self) -> None:
        class Base:
            @task
            def one(self) -> str:
                return "one"

            @task
            def two(self) -> str:
                return "two"

        @task
        class Derived(Base):
            @task
            def three(self) -> str:
                return "three"

            @task
            def one(self) -> str:
                return f"new {super().one()}"

        assert values(Derived) == ["new one", "two", "three"]

    def test_an_override_that_is_no_task_takes_the_step_out(self) -> None:
        class Base:
            @task
            def one(self) -> int:
                return 1

            @task
            def two(self) -> int:
                return 2

        @task
        class Derived(Base):
            def one(self) -> int:  # type: ignore[override]
                return 0

        assert values(Derived) == [2]

    def test_a_decorated_class_can_be_derived_from(self) -> None:
        @task
        class Derived(Steps):  # type: ignore[misc, valid-type]
            @task
            def last(self, previous_context: Context) -> str:
                return previous_context.storage + "!"

        assert isinstance(Derived, Task)
        assert Derived.fn.__mro__[1] is Steps.fn
        assert values(Derived) == [11, 22, "22", "22!"]
        assert values(Steps) == [11, 22, "22"]

    def test_two_bases_in_the_order_python_looks_from_the_far_end(self) -> None:
        class A:
            @task
            def a(self) -> str:
                return "a"

        class B:
            @task
            def b(self) -> str:
                return "b"

        @task
        class Both(A, B):
            @task
            def own(self) -> str:
                return "own"

        assert values(Both) == ["b", "a", "own"]


class TestAsTheClass:
    def test_it_is_called_as_the_class(self) -> None:
        steps = Steps(5)
        assert type(steps) is Steps.fn
        assert steps.more() == 6
        assert Steps.__doc__ == "Three steps."

    def test_options_are_those_of_the_one_task(self) -> None:
        made = Steps.with_options(retry=3, name="s")
        assert (made.policy, made.name, made.methods) == (RetryPolicy(3), "s", Steps.methods)


class TestRefusals:
    def test_a_class_without_tasks(self) -> None:
        with pytest.raises(
            DeclarationError, match=r"^class 'Empty' has no task to run: decorate methods .* @task"
        ):

            @task
            class Empty:
                def method(self) -> None: ...

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            (lambda m: m.with_options(retry=2), "policy"),
            (lambda m: m.with_options(timeout=2), "timeout"),
            (lambda m: m.with_options(task_id="x"), "task_id"),
            (lambda m: m.with_options(group_name="x"), "group_name"),
            (lambda m: m.with_options(initial_context=[1]), "initial_context"),
            (lambda m: m.with_options(callback=print), "callback"),
            (lambda m: m.with_options(version="1"), "version"),
            (lambda m: m.bind(x=1), "bound"),
            (lambda m: m.map(x=[1]), "mapped"),
            (lambda m: m.after(Steps), "earlier"),
            (lambda m: m.with_options(on_exception="skip"), "on_exception"),
            (lambda m: m.with_options(run_if=True), "skip_if or run_if"),
        ],
    )
    def test_options_on_a_method(self, change: Callable[[Task[..., Any]], Task[..., Any]], word: str) -> None:
        @task
        def method(self: object, x: int = 0) -> int:
            return x

        with pytest.raises(
            DeclarationError,
            match=rf"^method 'method' of class 'Steps' has options of its own \({word}\): .*give them to the class",
        ):
            task(type("Steps", (), {"method": change(method)}))

    def test_an_option_on_a_method_that_cannot_be_compared(self) -> None:
        numpy = pytest.importorskip("numpy")

        class Steps:
            @task(initial_context=numpy.zeros(2))
            def method(self) -> None: ...

        with pytest.raises(DeclarationError, match=r"options of its own \(initial_context\)"):
            task(Steps)

    def test_a_method_without_the_instance(self) -> None:
        class Steps:
            @task
            @staticmethod
            def method(x: int = 1) -> int:
                return x

        assert Steps.method() == 1
        with pytest.raises(
            DeclarationError, match=r"^method 'method' of class 'Steps' is a staticmethod: .*give it a self"
        ):
            task(Steps)

    def test_no_parameter_of_that_name_in_any_of_them(self) -> None:
        with pytest.raises(TypeError, match=r"^task 'Steps': .*no parameter 'stop'; it has: start"):
            Steps.bind(stop=1)
