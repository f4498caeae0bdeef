"""Filling parameters: by signature, before anything runs."""

from __future__ import annotations

import builtins
import functools
import sys
import textwrap
import types
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import pydantic
import pytest

import dotflow_like as dl
from dotflow_like import Context, PlanError, Task, TaskContext, UnfilledParameter, Workflow, task
from dotflow_like import TaskContext as Asked
from dotflow_like.testing import run_inline

if TYPE_CHECKING:
    from somewhere import OnlyForTypeCheckers  # type: ignore[import-not-found]


def result(made: Task[..., Any], *others: Task[..., Any], **options: Any) -> Any:
    run = run_inline([*others, made], **options).raise_for_failure()
    return run.tasks[-1].result


def filled_with(function: Callable[..., Any], **params: Any) -> Any:
    return result(task(function), params=params)


@task
def one() -> int:
    return 1


@task
def two() -> int:
    return 2


class TestWhoFills:
    def test_every_kind_of_parameter_by_its_name(self) -> None:
        @task
        def body(a: Any, b: Any = "b", /, c: Any = "c", *rest: Any, d: Any, e: Any = "e", **more: Any) -> Any:
            return a, b, c, rest, d, e, more

        assert result(body.bind(a=1, d=4)) == (1, "b", "c", (), 4, "e", {})
        assert result(body.bind(a=1, b=2, c=3, d=4, e=5, f=6)) == (1, 2, 3, (), 4, 5, {"f": 6})
        assert result(body.bind(d=one, a=two), one, two) == (2, "b", "c", (), 1, "e", {})
        assert result(body, params={"a": 1, "d": 4, "e": 5}) == (1, "b", "c", (), 4, 5, {})

    def test_a_default_keeps_its_place_before_what_is_given_by_position_only(self) -> None:
        @task
        def body(a: Any = "a", b: Any = "b", c: Any = "c", /) -> Any:
            return a, b, c

        assert result(body) == ("a", "b", "c")
        assert result(body.bind(b=2)) == ("a", 2, "c")
        assert result(body.bind(c=3)) == ("a", "b", 3)
        assert result(body, params={"b": 2}) == ("a", 2, "c")

    def test_a_name_taken_by_position_may_come_as_another_one_too(self) -> None:
        @task
        def body(a: Any, /, **more: Any) -> Any:
            return a, more

        assert result(body.bind(a=1, b=2)) == (1, {"b": 2})

    def test_what_is_bound_comes_before_params_and_params_before_the_default(self) -> None:
        @task
        def body(a: int = 1, b: int = 1, c: int = 1) -> Any:
            return a, b, c

        other = task(lambda a: a, name="other")
        assert result(body.bind(a=3), other, params={"a": 2, "b": 2}) == (3, 2, 1)

    def test_none_is_a_value(self) -> None:
        assert result(task(lambda a=1: a).bind(a=None)) is None
        assert result(task(lambda a=1: a), params={"a": None}) is None

    def test_a_mapped_parameter_and_a_bound_one(self) -> None:
        made = task(lambda a, b, c: (a, b, c)).map(a=[1, 2]).bind(b=one)
        assert result(made, one, params={"c": 3}) == [(1, 1, 3), (2, 1, 3)]

    def test_a_param_may_fill_several_tasks(self) -> None:
        first, second = task(lambda day: day, name="first"), task(lambda day: -day, name="second")
        run = run_inline([first, second], params={"day": 4})
        assert dict(run.results) == {"first": 4, "second": -4}


class TestUnfilled:
    def test_it_names_task_parameter_and_ways(self) -> None:
        ran = []
        first = task(lambda: ran.append(1), name="first")

        @task(task_id="load it")
        def load(url: str) -> None: ...

        with pytest.raises(UnfilledParameter) as refused:
            run_inline([first, load])
        message = str(refused.value)
        for part in (
            "task 'load it'", "'url'", ".bind(url=...)", "params={'url': ...}", "a default", "previous_context",
            "initial_context",
        ):  # fmt: skip
            assert part in message
        assert ran == []

    @pytest.mark.parametrize(
        "function", [lambda a: a, lambda a, /: a, lambda *, a: a, lambda b=1, *, a, **c: a, lambda *b, a: a]
    )
    def test_whatever_its_kind(self, function: Callable[..., Any]) -> None:
        with pytest.raises(UnfilledParameter, match="parameter 'a'"):
            Workflow([task(function)]).plan()

    def test_of_a_class_its_constructors_and_its_methods(self) -> None:
        @task
        class Steps:
            def __init__(self, a: int) -> None: ...

            @task
            def step(self, b: int) -> None: ...

        with pytest.raises(UnfilledParameter, match=r"task 'Steps': .*'a'"):
            Workflow([Steps.bind(b=1)]).plan()
        with pytest.raises(UnfilledParameter, match=r"task 'Steps': .*'b'"):
            Workflow([Steps.bind(a=1)]).plan()

    def test_star_arguments_need_nothing(self) -> None:
        assert result(task(lambda *a, **b: (a, b))) == ((), {})


class TestContexts:
    def test_by_name(self) -> None:
        @task(initial_context="given")
        def body(previous_context: Any, initial_context: Any, ctx: Any) -> Any:
            return previous_context, initial_context, ctx.task_id

        previous, initial, task_id = result(body, one, workflow_id="w")
        assert (previous.storage, previous.task_id, previous.workflow_id) == (1, "one", "w")
        assert (type(initial), initial.storage) == (Context, "given")
        assert task_id == "body"

    def test_without_anything_to_give_a_context_is_empty(self) -> None:
        values = result(task(lambda previous_context, initial_context: (previous_context, initial_context)))
        assert [(type(each), each.storage) for each in values] == [(Context, None)] * 2

    def test_a_context_given_as_initial_context_stays_the_one_it_is(self) -> None:
        given = Context("given", task_id="elsewhere")
        assert result(
            task(lambda initial_context: [initial_context]).with_options(initial_context=given)
        ) == [given]

    def test_a_default_does_not_win_over_a_context(self) -> None:
        assert type(result(task(lambda previous_context=None: [previous_context]))[0]) is Context

    def test_by_position_only(self) -> None:
        def body(a: int = 1, ctx: Any = None, previous_context: Any = None, /) -> Any:
            return a, ctx.task_id, previous_context.storage

        assert result(task(body), one) == (1, "body", 1)

    def test_the_task_context_by_annotation(self) -> None:
        def plain(c: TaskContext) -> str:
            return c.task_id

        def dotted(c: dl.TaskContext) -> str:
            return c.task_id

        def renamed(c: Asked) -> str:
            return c.task_id

        def quoted(c: "TaskContext") -> str:  # noqa: UP037  # quoted twice, this file's annotations being texts
            return c.task_id

        for function in (plain, dotted, renamed, quoted):
            assert isinstance(function.__annotations__["c"], str)
            assert filled_with(function) == function.__name__

    def test_the_task_context_by_an_annotation_that_is_no_text(self) -> None:
        def body(c: Any) -> str:
            return c.task_id  # type: ignore[no-any-return]

        body.__annotations__["c"] = TaskContext
        assert filled_with(body) == "body"

    def test_the_task_context_imported_for_the_type_checker_only(self) -> None:
        space: dict[str, Any] = {}
        exec(
            "from __future__ import annotations\n"
            "def body(c: TaskContext): return c.task_id\n"
            "def dotted(c: dotflow_like.TaskContext): return c.task_id",
            space,
        )
        assert filled_with(space["body"]) == "body"
        assert filled_with(space["dotted"]) == "dotted"

    def test_another_class_of_that_name_is_a_value(self) -> None:
        space: dict[str, Any] = {}
        exec(
            "from __future__ import annotations\nclass TaskContext: pass\ndef body(c: TaskContext): return c",
            space,
        )
        with pytest.raises(UnfilledParameter, match="'c'"):
            filled_with(space["body"])
        given = space["TaskContext"]()
        assert result(task(space["body"]).bind(c=given)) is given

    def test_a_param_of_that_name_fills_no_context(self) -> None:
        with pytest.raises(PlanError, match=r"params\['ctx'\] fills nothing"):
            filled_with(lambda ctx: 1, ctx=5)

    def test_the_context_knows_the_params(self) -> None:
        assert filled_with(lambda ctx, day: dict(ctx.params), day=4) == {"day": 4}

    def test_on_bound_methods_partials_and_objects(self) -> None:
        class Place:
            def method(self, c: TaskContext) -> str:
                return c.task_id

            def __call__(self, c: TaskContext) -> str:
                return c.task_id

        assert filled_with(Place().method) == "method"
        assert filled_with(Place()) == "Place"
        assert filled_with(functools.partial(Place.method, Place())) == "method"


class TestGathering:
    @pytest.mark.parametrize(
        ("container", "expected"),
        [
            ([one, two], [1, 2]),
            ((one, "constant", two), (1, "constant", 2)),
            ({"a": one, "b": 5, 3: two}, {"a": 1, "b": 5, 3: 2}),
            ([one, one], [1, 1]),
        ],
    )
    def test_tasks_in_a_container_become_their_results(self, container: Any, expected: Any) -> None:
        made = task(lambda x: x).bind(x=container)
        assert result(made, one, two) == expected
        assert set(Workflow([one, two, made]).plan().graph["lambda"].needs) <= {"one", "two"}

    def test_what_is_bound_stays_what_it_is(self) -> None:
        container = [one, two]
        result(task(lambda x: x).bind(x=container), one, two)
        assert container == [one, two]

    @pytest.mark.parametrize("container", [[], (), {}, [1], {"a": [1]}, {1, 2}])
    def test_a_container_without_tasks_is_given_as_it_is(self, container: Any) -> None:
        assert result(task(lambda x: [x]).bind(x=container))[0] is container

    def test_deeper_than_one_level_nothing_is_looked_for(self) -> None:
        deep = [[one]]
        assert result(task(lambda x: [x]).bind(x=deep))[0] is deep


class Colour(pydantic.BaseModel):
    name: str


@dataclass
class Point:
    x: int
    y: int = 0


class Own:
    """A class pydantic knows nothing of."""


def typed(number: int, day: date, amount: Decimal, names: list[str], where: Path | None = None) -> Any:
    return number, day, amount, names, where


class TestParams:
    def test_they_are_coerced_to_the_annotation(self) -> None:
        given = {"number": "3", "day": "2024-02-29", "amount": "1.50", "names": ("a", "b"), "where": "/tmp"}
        assert filled_with(typed, **given) == (
            3,
            date(2024, 2, 29),
            Decimal("1.50"),
            ["a", "b"],
            Path("/tmp"),
        )

    def test_what_has_the_type_already_is_given_as_it_is(self) -> None:
        value = [1]
        assert filled_with(lambda x: [x], x=value)[0] is value

    @pytest.mark.parametrize(
        ("annotation", "value", "expected"),
        [
            (int, "3", 3),
            (int, 3.0, 3),
            (float, 3, 3.0),
            (bool, "true", True),
            (Optional[int], None, None),  # noqa: UP045  # another object than `int | None`
            (Optional[int], "4", 4),  # noqa: UP045
            (int | None, "4", 4),
            (list[int], ["1", 2], [1, 2]),
            (dict[str, float], {"a": 1}, {"a": 1.0}),
            (tuple[int, str], ["1", "a"], (1, "a")),
            (Literal["a", "b"], "b", "b"),
            (Annotated[int, pydantic.Field(gt=0)], "5", 5),
            (Colour, {"name": "red"}, Colour(name="red")),
            (Point, {"x": "1"}, Point(1, 0)),
            (Any, "3", "3"),
            (object, "3", "3"),
        ],
    )
    def test_whatever_the_annotation(self, annotation: Any, value: Any, expected: Any) -> None:
        def body(x: Any) -> Any:
            return x

        body.__annotations__["x"] = annotation
        found = filled_with(body, x=value)
        assert found == expected
        assert type(found) is type(expected)

    def test_an_instance_of_any_class_will_do(self) -> None:
        def body(x: Own, y: Own | None = None) -> Any:
            return x, y

        own = Own()
        assert filled_with(body, x=own) == (own, None)
        assert filled_with(body, x=own, y=own) == (own, own)
        with pytest.raises(PlanError, match=r"^task 'body': params\['x'\] is 3, which is no Own: "):
            filled_with(body, x=3)

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            (
                {"number": "many"},
                r"params\['number'\] is 'many', which is no int: Input should be a valid integer",
            ),
            ({"number": 1.5}, r"params\['number'\] is 1\.5, which is no int: .*fractional"),
            ({"day": "yesterday"}, r"params\['day'\] is 'yesterday', which is no date"),
            (
                {"names": [1]},
                r"params\['names'\] is \[1\], which is no list\[str\]: Input should be a valid string",
            ),
            ({"where": 3}, r"params\['where'\] is 3, which is no .*Path | None"),
        ],
    )
    def test_what_cannot_be_coerced_is_refused(self, params: dict[str, Any], message: str) -> None:
        good = {"number": 1, "day": "2024-01-01", "amount": 1, "names": []}
        with pytest.raises(PlanError, match=f"^task 'typed': {message}"):
            filled_with(typed, **good | params)

    def test_constants_are_not_coerced(self) -> None:
        assert result(task(typed).bind(number="3", day=1, amount=2, names=3)) == ("3", 1, 2, 3, None)

    def test_a_name_nobody_takes(self) -> None:
        made = task(lambda url, retries=3: url).with_options(name="load")
        with pytest.raises(
            PlanError, match=r"^params\['ulr'\] fills nothing; did you mean 'url'\?.*retries, url"
        ):
            result(made, params={"url": 1, "ulr": 2})
        with pytest.raises(
            PlanError, match=r"^params\['zzz'\] fills nothing \(parameters tasks take: retries, url"
        ):
            result(made, params={"url": 1, "zzz": 2})
        with pytest.raises(PlanError, match=r"tasks take: none\)$"):
            result(one, params={"zzz": 2})

    def test_a_name_that_is_bound_is_not_for_params(self) -> None:
        with pytest.raises(PlanError, match=r"params\['url'\] fills nothing"):
            result(task(lambda url: url).bind(url=1), params={"url": 2})

    def test_a_function_that_takes_any_name_takes_no_param_by_it(self) -> None:
        with pytest.raises(PlanError, match=r"params\['extra'\] fills nothing"):
            result(task(lambda **more: more), params={"extra": 2})

    def test_one_annotation_nobody_can_read_leaves_the_others(self) -> None:
        def body(number: int, other: OnlyForTypeCheckers = None) -> Any:
            return number, other

        assert filled_with(body, number="3") == (3, None)
        assert filled_with(body, number="3", other="as it is") == (3, "as it is")

    def test_an_annotation_of_a_wrapped_function_is_read_where_it_was_written(self, tmp_path: Path) -> None:
        space = types.ModuleType("made_for_a_test")
        exec(
            textwrap.dedent("""
            from __future__ import annotations
            import decimal as d, functools

            def twice(function):
                @functools.wraps(function)
                def wrapper(*args, **kwargs):
                    return function(*args, **kwargs) * 2
                return wrapper

            @twice
            def body(x: d.Decimal):
                return x
            """),
            space.__dict__,
        )
        assert filled_with(space.body, x="1.5") == Decimal("3.0")

    def test_of_partials_methods_objects_and_classes(self) -> None:
        class Place:
            def method(self, x: int) -> int:
                return x

            def __call__(self, x: int) -> int:
                return x

        @task
        class Steps:
            def __init__(self, x: int) -> None:
                self.x = x

            @task
            def step(self, y: Decimal) -> Any:
                return self.x, y

        assert filled_with(functools.partial(typed, "3", names=[]), day="2024-01-01", amount=1)[1] == date(
            2024, 1, 1
        )
        assert filled_with(Place().method, x="3") == 3
        assert filled_with(Place(), x="3") == 3
        assert result(Steps, params={"x": "3", "y": "4"})[0].storage == (3, Decimal(4))

    def test_pydantic_is_loaded_for_coercion_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = builtins.__import__

        def guard(name: str, *rest: Any, **more: Any) -> Any:
            assert not name.startswith("pydantic")
            return real(name, *rest, **more)

        def body(x: int, y: list) -> Any:  # type: ignore[type-arg]
            return x, y

        monkeypatch.setattr(sys.modules["builtins"], "__import__", guard)
        assert filled_with(body, x=3, y=[1]) == (3, [1])
