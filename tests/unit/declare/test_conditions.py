"""Conditions: what they take, what they ask for, and what is refused where they are written."""

from __future__ import annotations

import functools
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import cloudpickle
import pytest

from dotflow_like import Context, DeclarationError, Manager, Task, TaskContext, Workflow, task
from dotflow_like.declare.conditions import Condition, asked_by, condition_from, extended
from dotflow_like.declare.signature import Role, Signature, signature_of
from dotflow_like.model.signals import Cancel, Skip

NOTHING = Signature((), open_ended=False)
WORDS = pytest.mark.parametrize("word", ["skip_if", "run_if", "cancel_if"])


def asks(word: str, test: Any, /, **given: Any) -> Any:
    return condition_from(word, test, "here").asks(given)


def is_late(day: int, limit: int = 3) -> bool:
    return day > limit


async def later() -> bool:
    return True


def generated() -> Iterator[bool]:
    yield True


async def both() -> AsyncIterator[bool]:
    yield True


class Later:
    async def __call__(self) -> bool:
        return True


class TestAnswer:
    @pytest.mark.parametrize(
        ("word", "answer", "signal"),
        [
            ("skip_if", True, Skip),
            ("skip_if", False, None),
            ("run_if", True, None),
            ("run_if", False, Skip),
            ("cancel_if", True, Cancel),
            ("cancel_if", False, None),
        ],
    )
    def test_it_asks_for_a_signal_whose_reason_is_its_word(
        self, word: str, answer: bool, signal: type[Any] | None
    ) -> None:
        for test in (answer, lambda: answer, lambda: [answer] if answer else []):
            asked = asks(word, test)
            assert (type(asked), getattr(asked, "reason", None)) == (
                (type(None), None) if signal is None else (signal, word)
            )

    def test_it_is_given_by_name_what_it_takes(self) -> None:
        assert asks("skip_if", is_late, day=4, other=1) is not None
        assert asks("skip_if", is_late, day=4, limit=4) is None

    def test_by_position_only_too(self) -> None:
        def test(a: int = 1, b: int = 2, /, *, c: int) -> bool:
            return (a, b, c) == (1, 5, 6)

        assert asks("skip_if", test, b=5, c=6) is not None
        assert asks("skip_if", test, a=0, b=5, c=6) is None

    def test_stars_stay_empty(self) -> None:
        assert asks("skip_if", lambda *some, **more: some or more, a=1) is None

    def test_methods_partials_and_objects(self) -> None:
        class Late:
            def __init__(self, limit: int) -> None:
                self.limit = limit

            def __call__(self, day: int) -> bool:
                return day > self.limit

            test = __call__

        given = {"day": 4}
        for test in (Late(3), Late(3).test, functools.partial(is_late, limit=3)):
            assert asks("skip_if", test, **given) is not None

    def test_functions_that_do_not_tell_their_parameters_are_given_nothing(self) -> None:
        event, lock = threading.Event(), threading.Lock()
        assert asks("skip_if", event.is_set, self=1) is None
        assert asks("skip_if", lock.locked, blocking=1) is None
        with lock:
            event.set()
            assert asks("skip_if", event.is_set) is not None
            assert asks("skip_if", lock.locked) is not None

    @WORDS
    def test_its_error_says_that_it_was_the_condition(self, word: str) -> None:
        with pytest.raises(ZeroDivisionError) as raised:
            asks(word, lambda: 1 / 0)
        assert raised.value.__notes__ == [f"Raised by {word}, before the body began."]

    def test_an_answer_without_a_truth_is_its_error_too(self) -> None:
        class Neither:
            def __bool__(self) -> bool:
                raise ArithmeticError("neither")

        with pytest.raises(ArithmeticError, match="neither") as raised:
            asks("run_if", lambda: Neither())
        assert "Raised by run_if" in raised.value.__notes__[0]


class TestAwaitable:
    def test_what_it_returns_cannot_be_one(self) -> None:
        with pytest.raises(TypeError, match="returned coroutine, which is to be awaited") as raised:
            asks("skip_if", lambda: later())
        assert "Raised by skip_if" in raised.value.__notes__[0]

    def test_one_that_cannot_be_closed(self) -> None:
        class Wait:
            def __await__(self) -> Iterator[Any]:
                yield

        with pytest.raises(TypeError, match="returned Wait, which is to be awaited"):
            asks("skip_if", lambda: Wait())


class TestSeveral:
    def test_the_first_that_asks_for_something_counts(self) -> None:
        conditions = [Condition("cancel_if", False), Condition("skip_if", True), Condition("cancel_if", True)]
        asked = asked_by(conditions, NOTHING, {})
        assert type(asked) is Skip
        assert asked_by(conditions[:1], NOTHING, {}) is None

    def test_those_behind_it_are_not_looked_at(self) -> None:
        looked: list[int] = []
        conditions = [Condition("cancel_if", True), Condition("skip_if", lambda: looked.append(1))]
        assert type(asked_by(conditions, NOTHING, {})) is Cancel
        assert looked == []

    def test_of_a_name_they_share_they_see_what_the_body_gets(self) -> None:
        body = signature_of(lambda x=5, y=6: None)
        seen: list[Any] = []

        def test(x: int, y: int, z: int = 7) -> bool:
            seen.append((x, y, z))
            return False

        asked_by([Condition("skip_if", test)], body, {})
        asked_by([Condition("skip_if", test)], body, {"x": 1, "z": 2})
        asked_by([Condition("skip_if", lambda x=0: seen.append(x))], body, {})
        assert seen == [(5, 6, 7), (1, 6, 2), 5]


class TestValue:
    @WORDS
    def test_it_is_one(self, word: str) -> None:
        assert Condition(word, is_late) == Condition(word, is_late) != Condition(word, later)
        assert len({Condition(word, is_late), Condition(word, is_late), Condition(word, True)}) == 2
        with pytest.raises(AttributeError):
            Condition(word, is_late).word = "other"  # type: ignore[misc]
        assert repr(Condition(word, True)) == f"{word}=True"

    def test_it_travels_as_its_function_does(self) -> None:
        bound = 3
        condition = condition_from("skip_if", lambda day, found=later: day > bound, "here")
        assert condition.asks({"day": 4}) is not None  # and what it has read of the signature stays here
        back = pickle.loads(cloudpickle.dumps(condition))
        assert back.asks({"day": 4}) is not None
        assert back.asks({"day": 3}) is None
        assert pickle.loads(pickle.dumps(Condition("run_if", is_late))) == Condition("run_if", is_late)


class TestRefused:
    @WORDS
    @pytest.mark.parametrize("value", [1, 0, "yes", [], {}, bool, int, Exception, object()])
    def test_what_is_neither_a_bool_nor_a_function(self, word: str, value: Any) -> None:
        with pytest.raises(DeclarationError, match=f"^here: {word} is .*; give True, False, or a function"):
            condition_from(word, value, "here")

    @WORDS
    @pytest.mark.parametrize(
        "function", [later, generated, both, Later(), Later().__call__, functools.partial(later)]
    )
    def test_what_is_async_or_a_generator(self, word: str, function: Callable[..., Any]) -> None:
        with pytest.raises(
            DeclarationError, match=f"^here: {word} is .*, which is async or a generator; give"
        ):
            condition_from(word, function, "here")

    @WORDS
    def test_a_task_whose_result_could_be_meant(self, word: str) -> None:
        with pytest.raises(
            DeclarationError,
            match=rf"^here: {word} is <task 'is_late'>, and no task.*lambda found: not found",
        ):
            condition_from(word, task(is_late), "here")


class TestSignature:
    def test_the_bodys_own_parameters_come_first_and_count(self) -> None:
        def body(a: int, ctx: Any, limit: int = 3) -> None: ...

        def test(b: str, limit: str, ctx: TaskContext, a: float = 0) -> bool:
            return True

        found = extended(signature_of(body), [Condition("skip_if", test)])
        assert [(each.name, each.annotation, each.required) for each in found.parameters] == [
            ("a", "int", True),
            ("ctx", "Any", True),
            ("limit", "int", False),
            ("b", "str", True),
        ]

    def test_what_the_body_does_not_tell_it_still_does_not(self) -> None:
        found = extended(signature_of(max), [Condition("skip_if", is_late)])
        assert (found.open_ended, found.inspectable) == (True, signature_of(max).inspectable)
        assert not extended(NOTHING, [Condition("skip_if", lambda **more: True)]).open_ended


def body(x: int = 0) -> int:
    return x


class TestOnATask:
    def test_without_one_there_is_nothing(self) -> None:
        plain = task(body)
        assert plain.conditions == ()
        assert plain.own_signature is plain.signature

    @pytest.mark.parametrize("word", ["skip_if", "run_if"])
    @pytest.mark.parametrize("test", [True, False, is_late])
    def test_each_way_to_write_it(self, word: str, test: Any) -> None:
        made: list[Task[..., Any]] = [
            task(body, **{word: test}),
            task(**{word: test})(body),
            task(body).with_options(**{word: test}),
        ]
        assert [each.conditions for each in made] == [(Condition(word, test),)] * 3

    def test_what_it_takes_can_be_bound_and_mapped_though_the_body_does_not_take_it(self) -> None:
        made = task(body, skip_if=is_late)
        assert [each.name for each in made.signature.parameters] == ["x", "day", "limit"]
        assert [each.name for each in made.own_signature.parameters] == ["x"]
        assert made.bind(day=1, limit=2).bound == {"day": 1, "limit": 2}
        assert made.map(day=[1, 2]).mapped == {"day": (1, 2)}
        with pytest.raises(TypeError, match="no parameter 'z'; it has: x, day, limit"):
            made.bind(z=1)

    def test_contexts_are_the_runs_to_fill(self) -> None:
        def test(previous_context: Context, asked: TaskContext) -> bool:
            return True

        made = task(body, run_if=test)
        assert [each.role for each in made.signature.contexts] == [Role.PREVIOUS, Role.CONTEXT]
        with pytest.raises(TypeError, match="'asked' is filled by the run"):
            made.bind(asked=1)

    def test_of_a_class(self) -> None:
        class Steps:
            def __init__(self, start: int) -> None: ...

            @task
            def step(self, y: int) -> None: ...

        made = task(Steps, skip_if=is_late)
        assert [each.name for each in made.signature.parameters] == ["start", "y", "day", "limit"]
        assert [each.name for each in made.own_signature.parameters] == ["start", "y"]

    def test_a_method_of_a_class_has_none_of_its_own(self) -> None:
        class Steps:
            @task(skip_if=True)
            def step(self) -> None: ...

        with pytest.raises(DeclarationError, match=r"options of its own \(skip_if or run_if\)"):
            task(Steps)

    def test_calling_the_task_does_not_look_at_it(self) -> None:
        assert task(body, skip_if=True)(4) == 4

    def test_it_travels_with_its_task(self) -> None:
        made = task(lambda x: x, skip_if=lambda x, limit: x > limit).bind(limit=3)
        back = pickle.loads(cloudpickle.dumps(made))
        assert back.conditions[0].asks({"x": 4, "limit": 3}) is not None
        assert [each.name for each in back.signature.parameters] == ["x", "limit"]
        assert [each.name for each in back.own_signature.parameters] == ["x"]


class TestChanged:
    def test_options_not_given_stay(self) -> None:
        made = task(body, skip_if=is_late)
        assert made.with_options(retry=3).bind(day=3).conditions == (Condition("skip_if", is_late),)

    def test_one_replaces_another_of_its_word(self) -> None:
        made = task(body, skip_if=is_late).with_options(skip_if=False)
        assert made.conditions == (Condition("skip_if", False),)
        assert [each.name for each in made.signature.parameters] == ["x"]

    def test_none_takes_it_away(self) -> None:
        made = task(body, skip_if=is_late)
        assert made.signature is not made.own_signature
        bare = made.with_options(skip_if=None)
        assert bare.conditions == ()
        assert bare.signature is bare.own_signature is signature_of(body)
        assert made.with_options(run_if=None).conditions == made.conditions

    def test_both_contradict_each_other(self) -> None:
        for test in (True, False, is_late):
            with pytest.raises(
                TypeError, match=r"^@task: skip_if= and run_if= contradict each other; give one"
            ):
                task(skip_if=test, run_if=is_late)

    @pytest.mark.parametrize(("has", "given"), [("skip_if", "run_if"), ("run_if", "skip_if")])
    def test_the_other_one_has_to_be_taken_away_in_the_same_breath(self, has: str, given: str) -> None:
        made: Task[..., Any] = task(body, **{has: True})
        with pytest.raises(
            TypeError,
            match=f"^task 'body': .* the task has {has}= already: pass {has}=None, too, to replace it",
        ):
            made.with_options(**{given: is_late})
        assert made.with_options(**{has: None, given: is_late}).conditions == (Condition(given, is_late),)

    @pytest.mark.parametrize("word", ["bind", "map"])
    def test_what_is_filled_has_to_be_taken_by_somebody(self, word: str) -> None:
        made = getattr(task(body, skip_if=is_late), word)(day=[1])
        with pytest.raises(
            TypeError, match=r"^task 'body': 'day' is filled already, and with these conditions nothing"
        ):
            made.with_options(skip_if=None)
        assert made.with_options(skip_if=lambda day: not day).bound == made.bound

    def test_what_is_bound_by_any_name_cannot_become_the_runs_to_fill(self) -> None:
        made = task(lambda **more: more).bind(asked=1)

        def test(asked: TaskContext) -> bool:
            return True

        with pytest.raises(TypeError, match="'asked' is filled already"):
            made.with_options(skip_if=test)


class TestOnAWorkflow:
    def test_it_is_kept(self) -> None:
        assert Workflow([task(body)]).cancel_if is None
        assert Workflow([task(body)], cancel_if=is_late).cancel_if == Condition("cancel_if", is_late)
        assert Workflow([task(body)], cancel_if=False).cancel_if == Condition("cancel_if", False)

    @pytest.mark.parametrize("make", [Workflow, Manager])
    @pytest.mark.parametrize("value", ["yes", later, task(body)])
    def test_what_is_wrong_is_refused_where_it_is_written(self, make: Any, value: Any) -> None:
        with pytest.raises(DeclarationError, match=r"^workflow 'w': cancel_if is "):
            make([task(body)], name="w", cancel_if=value)

    def test_a_task_does_not_have_it(self) -> None:
        with pytest.raises(TypeError, match="no option 'cancel_if'"):
            task(body, cancel_if=True)  # type: ignore[call-overload]
