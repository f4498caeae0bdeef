"""`bind`, `map`, `after`, `with_options`: each returns a new value, and says what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dotflow_like import Context, DeclarationError, Task, TaskContext, task
from dotflow_like.testing import run_inline


@task
def first() -> list[int]:
    return [1, 2]


@task
def second(x: Any, y: Any = 2, *rest: Any) -> Any:
    return x, y


@task
def wide(x: Any = None, **more: Any) -> Any:
    return x, more


@task
def asking(
    ctx: TaskContext, initial_context: Context, previous_context: Context, other: TaskContext, x: int = 1
) -> int:
    return x


class TestNewValues:
    @pytest.mark.parametrize(
        "derive",
        [
            lambda: second.bind(x=1),
            lambda: second.bind(),
            lambda: second.map(x=[1]),
            lambda: second.after(first),
            lambda: second.after(),
            lambda: second.with_options(retry=2),
            lambda: second.with_options(),
        ],
    )
    def test_each_leaves_the_task_as_it_was(self, derive: Callable[[], Task[..., Any]]) -> None:
        before = dict(vars(second))
        made = derive()
        assert made is not second
        assert made.origin is second
        assert vars(second) == before | {"_signature": second._signature}

    def test_they_add_up_in_any_order(self) -> None:
        one = second.bind(y=3).after(first).with_options(retry=2).map(x=[1])
        other = second.map(x=[1]).with_options(retry=2).after(first).bind(y=3)
        for made in (one, other):
            assert made.bound == {"y": 3}
            assert made.mapped == {"x": (1,)}
            assert made.earlier == (first,)
            assert made.policy.max_attempts == 2


class TestBind:
    def test_a_constant_may_be_anything(self) -> None:
        for value in (None, 0, "text", [1], {"a": object()}, lambda: 1, second.fn):
            assert second.bind(x=value).bound["x"] is value

    def test_binding_again_replaces(self) -> None:
        assert second.bind(x=1).bind(x=2, y=3).bound == {"x": 2, "y": 3}

    def test_any_name_where_the_function_takes_any(self) -> None:
        assert run_inline([wide.bind(a=1, b=2)])[wide].result == (None, {"a": 1, "b": 2})

    def test_a_parameter_called_self(self) -> None:
        assert run_inline([task(lambda self: self).bind(self=4)])["lambda"].result == 4

    @pytest.mark.parametrize("word", ["bind", "map"])
    def test_no_such_parameter(self, word: str) -> None:
        with pytest.raises(
            TypeError, match=rf"^task 'second': {word}\(z=\.\.\.\): no parameter 'z'.*: x, y$"
        ):
            getattr(second, word)(z=[1])
        with pytest.raises(TypeError, match="no parameter 'z'; it has: none to fill"):
            getattr(first, word)(z=[1])

    @pytest.mark.parametrize("word", ["bind", "map"])
    def test_star_args_cannot_be_filled(self, word: str) -> None:
        with pytest.raises(TypeError, match="no parameter 'rest'"):
            getattr(second, word)(rest=[1])

    @pytest.mark.parametrize("word", ["bind", "map"])
    @pytest.mark.parametrize("name", ["ctx", "previous_context", "other", "initial_context"])
    def test_what_the_run_fills_is_not_bound(self, word: str, name: str) -> None:
        with pytest.raises(TypeError, match=f"^task 'asking': .*'{name}' is filled by the run") as refused:
            getattr(asking, word)(**{name: [1]})
        assert ("use the option initial_context=" in str(refused.value)) is (name == "initial_context")

    def test_a_constant_by_position_is_refused(self) -> None:
        with pytest.raises(TypeError, match="positional argument"):
            second.bind(1)  # type: ignore[call-arg]

    @pytest.mark.parametrize(
        "derive",
        [
            lambda: second.map(x=[1]).bind(x=1),
            lambda: second.bind(x=1).map(x=[1]),
            lambda: second.map(x=[1]).map(x=[1]),
        ],
    )
    def test_binding_and_mapping_one_parameter_contradict(self, derive: Callable[[], object]) -> None:
        with pytest.raises(TypeError, match=r"^task 'second': (bind|map)\(x=\.\.\.\): 'x' is filled already"):
            derive()

    def test_an_uninspectable_builtin_takes_any_name(self) -> None:
        assert task(max).bind(default=0).bound == {"default": 0}


class TestMap:
    def test_items_are_taken_at_once(self) -> None:
        items = [1, 2]
        made = second.map(x=items)
        items.append(3)
        assert made.mapped == {"x": (1, 2)}

    def test_a_generator_is_run_through_once(self) -> None:
        def numbers() -> Iterator[int]:
            yield from range(3)

        made = second.map(x=numbers())
        assert [run_inline([made])[made].result for _ in range(2)] == [[(0, 2), (1, 2), (2, 2)]] * 2

    def test_a_task_stands_for_its_items(self) -> None:
        made = second.map(x=first)
        assert made.mapped == {"x": first}
        assert run_inline([first, made])[made].result == [(1, 2), (2, 2)]

    def test_several_go_together(self) -> None:
        made = second.map(x=[1, 2], y=["a", "b"])
        assert run_inline([made])[made].result == [(1, "a"), (2, "b")]
        again = second.map(x=[1, 2]).map(y=["a", "b"])
        assert run_inline([again])[again].result == [(1, "a"), (2, "b")]

    def test_no_items_make_an_empty_result(self) -> None:
        made = second.map(x=[])
        assert run_inline([made]).raise_for_failure()[made].result == []

    def test_a_name_of_any_kind(self) -> None:
        made = wide.map(extra=[1, 2])
        assert run_inline([made])[made].result == [(None, {"extra": 1}), (None, {"extra": 2})]

    def test_nothing_to_map_over(self) -> None:
        with pytest.raises(
            TypeError, match=r"^task 'second': map needs a parameter .* \.map\(x=\[1, 2, 3\]\)"
        ):
            second.map()

    @pytest.mark.parametrize("value", [3, None, "text", b"bytes", second.fn])
    def test_what_has_no_items(self, value: object) -> None:
        with pytest.raises(TypeError, match=r"^task 'second': map\(x=\.\.\.\) got .*; give a list"):
            second.map(x=value)

    def test_tasks_as_items(self) -> None:
        with pytest.raises(
            TypeError, match=r"^task 'second': map\(x=\.\.\.\) got tasks as items; give a task"
        ):
            second.map(x=[first, first.bind()])


class TestAfter:
    def test_several_and_again(self) -> None:
        third = task(lambda: 3, name="third")
        assert second.after(first, wide).after(third).earlier == (first, wide, third)

    def test_a_string_names_a_task(self) -> None:
        made = second.after("json:dumps")
        assert [each.name for each in made.earlier] == ["dumps"]

    @pytest.mark.parametrize("thing", [3, None, [first]])
    def test_what_is_no_task(self, thing: Any) -> None:
        with pytest.raises(
            DeclarationError, match=r"^after\(\) is .*no task; give functions decorated with @task"
        ):
            second.after(thing)

    def test_a_plain_function(self) -> None:
        def plain() -> None: ...

        with pytest.raises(
            DeclarationError, match=r"the function 'plain', which is no task; decorate it .*task\(plain\)"
        ):
            second.after(plain)  # type: ignore[arg-type]
