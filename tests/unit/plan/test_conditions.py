"""Conditions in a plan: how their parameters are filled, and what follows from that."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dotflow_like import (
    Context,
    PlanError,
    Run,
    Task,
    TaskContext,
    TaskStatus,
    UnfilledParameter,
    Workflow,
    task,
)
from dotflow_like.declare.conditions import Condition
from dotflow_like.model.status import OnChange
from dotflow_like.plan.inputs import Input, Source, body_inputs
from dotflow_like.plan.node import Node, Rule
from dotflow_like.testing import run_inline


@task
def one() -> int:
    return 1


class Seen:
    """A condition's function that notes what it is given, and has nothing skipped."""

    def __init__(self) -> None:
        self.all: list[Any] = []

    def __call__(self, **given: Any) -> bool:
        self.all.append(given)
        return False


def node(made: Task[..., Any], *others: Task[..., Any], **options: Any) -> Node:
    return Workflow([*others, made]).plan(**options).graph[made.name]


def filled(found: Node) -> dict[str, tuple[Source, Any]]:
    return {name: (source, payload) for name, source, payload in found.inputs}


def ran(tasks: Any, **options: Any) -> Run:
    return run_inline(tasks, **options).raise_for_failure()


class TestWhoFills:
    def test_all_that_fills_a_tasks_own_parameters(self) -> None:
        seen: list[Any] = []

        def test(
            a: int,
            b: int,
            c: Decimal,
            ctx: Any,
            previous_context: Any,
            initial_context: Any,
            d: int = 4,
            /,
            *,
            e: int = 5,
        ) -> bool:
            seen.append((a, b, c, ctx.task_id, previous_context.storage, initial_context.storage, d, e))
            return False

        made = task(lambda: "ran", skip_if=test, initial_context="i").bind(a=one, b=2)
        run = ran([one, made], params={"c": "3.5", "e": 6})
        assert seen == [(1, 2, Decimal("3.5"), "lambda", 1, "i", 4, 6)]
        assert run["lambda"].result == "ran"

    def test_what_it_shares_with_the_body_it_sees_as_the_body_does(self) -> None:
        seen: list[Any] = []

        def body(x: int, y: int, z: int = 3) -> Any:
            return x, y, z

        def test(z: Any, y: str, x: Any = 9) -> bool:
            seen.append((x, y, z))
            return False

        run = ran([one, task(body, skip_if=test).bind(x=one)], params={"y": "2"})
        assert run["body"].result == (1, 2, 3)
        assert seen == [(1, 2, 3)]

    def test_the_body_is_given_only_its_own(self) -> None:
        made = task(lambda **own: own, skip_if=lambda limit, ctx: limit != 3)
        assert ran([made], params={"limit": 3})["lambda"].result == {}
        assert ran([task(lambda x, /, y=2: (x, y), skip_if=lambda limit, y: False).bind(x=1, limit=3)])[
            "lambda"
        ].result == (1, 2)

    def test_a_body_that_takes_any_name_is_given_whatever_is_bound(self) -> None:
        made = task(lambda **more: more, skip_if=lambda x, limit: False).bind(x=1)
        assert ran([made], params={"limit": 3})["lambda"].result == {"x": 1}
        assert ran(Workflow([made], cancel_if=lambda x: x != 1), params={"limit": 3})["lambda"].result == {
            "x": 1
        }

    def test_a_class_is_given_only_its_own(self) -> None:
        @task
        class Steps:
            def __init__(self, a: int = 1, **more: Any) -> None:
                self.given = a, more

            @task
            def step(self, b: int, **more: Any) -> Any:
                return self.given, b, more

        made = Steps.with_options(run_if=lambda limit, b, a: (limit, b, a) == (3, 2, 1)).bind(b=2)
        assert ran([made], params={"limit": 3})["Steps"].result[0].storage == ((1, {}), 2, {})
        assert ran([made], params={"limit": 4})["Steps"].status is TaskStatus.SKIPPED

    def test_an_async_body_is_given_only_its_own(self) -> None:
        @task(skip_if=lambda limit: limit > 3)
        async def body(x: int = 1) -> int:
            return x

        assert ran([body], params={"limit": 3})["body"].result == 1
        assert ran([body], params={"limit": 4})["body"].status is TaskStatus.SKIPPED

    def test_one_by_one_for_the_items_of_a_map(self) -> None:
        shared = task(lambda x: x, name="shared", skip_if=lambda x: x == 2).map(x=[1, 2, 3])
        own = task(lambda: "ran", name="own", run_if=lambda x: x == 2).map(x=[1, 2])
        over = (
            task(lambda x, y: x + y, name="over", skip_if=lambda y: y == 1).map(x=shared, y=[1, 2, 3]).bind()
        )
        run = ran([shared.with_options(skip_if=False), own, over.with_options(name="over")])
        assert run["shared"].result == [1, 2, 3]
        assert run["own"].result == [None, "ran"]
        assert run["over"].result == [None, 4, 6]

    def test_a_container_with_a_task_in_it(self) -> None:
        made = task(lambda: "ran", skip_if=lambda found: found != [1, 2]).bind(found=[one, 2])
        assert ran([one, made])["lambda"].result == "ran"


class TestPlanned:
    def test_without_any_there_is_nothing(self) -> None:
        assert node(one).conditions == ()
        assert node(one).inputs == ()

    def test_the_workflows_come_first_and_items_have_them_too(self) -> None:
        made = task(lambda x: x, skip_if=False).map(x=[1, 2])
        graph = Workflow([one, made], cancel_if=False).plan().graph
        first, second = Condition("cancel_if", False), Condition("skip_if", False)
        assert graph["one"].conditions == (first,)
        assert graph["lambda"].conditions == (first, second)
        assert [item.conditions for item in graph["lambda"].items or ()] == [(first, second)] * 2

    def test_what_is_bound_to_one_is_a_dependency(self) -> None:
        made = task(lambda: 1, skip_if=lambda found: found).bind(found=one)
        assert node(made, one, mode="parallel").edges == {"one": Rule.NEEDS}

    def test_one_may_be_what_takes_the_previous_context(self) -> None:
        assert node(task(lambda: 1, skip_if=lambda previous_context: False), one).takes_previous

    def test_what_is_the_bodys_can_be_told(self) -> None:
        made = task(lambda x, **more: 1, skip_if=lambda y, z, ctx: False).bind(x=1, y=2)
        found = node(made, params={"z": 3})
        assert filled(found) == {
            "x": (Source.CONSTANT, 1),
            "y": (Source.CONSTANT, 2),
            "z": (Source.PARAM, 3),
            "ctx": (Source.CONTEXT, None),
        }
        assert list(found.counted) == body_inputs(made, found.inputs) == [
            Input("x", Source.CONSTANT, 1), Input("y", Source.CONSTANT, 2)
        ]  # fmt: skip

    def test_ctx_of_a_condition_does_not_let_the_body_read_any_result(self) -> None:
        assert not node(task(lambda: 1, skip_if=lambda ctx: False)).may_read_all
        assert node(task(lambda ctx: 1, skip_if=lambda x=1: False)).may_read_all
        assert not Workflow([one], cancel_if=lambda ctx: False).plan().graph["one"].may_read_all


class TestUnfilled:
    @pytest.mark.parametrize("word", ["skip_if", "run_if"])
    def test_it_names_the_condition(self, word: str) -> None:
        made: Task[..., Any] = task(lambda x: x, **{word: lambda x, limit: False}).bind(x=1)
        with pytest.raises(
            UnfilledParameter,
            match=rf"^task 'lambda': nothing fills parameter 'limit' of its {word}; fill it .*\.bind\(limit=\.\.\.\)",
        ):
            Workflow([made]).plan()

    def test_one_that_the_body_has_too_is_the_bodys(self) -> None:
        with pytest.raises(UnfilledParameter, match="parameter 'x'; fill"):
            Workflow([task(lambda x: x, skip_if=lambda x: False)]).plan()

    def test_a_default_of_the_bodys_is_enough(self) -> None:
        assert ran([task(lambda x=2: x, skip_if=lambda x: x != 2)])["lambda"].result == 2

    def test_the_workflows(self) -> None:
        with pytest.raises(
            UnfilledParameter,
            match=r"^cancel_if of the workflow: nothing fills parameter 'limit' before task 'one'; fill it with the run's "
            r"params=\{'limit': \.\.\.\}, or give it a default",
        ):
            Workflow([one], cancel_if=lambda limit: False).plan()


class TestParams:
    def test_one_that_only_a_condition_takes_is_used(self) -> None:
        ran([task(lambda: 1, skip_if=lambda limit: False)], params={"limit": 3})
        ran(Workflow([one], cancel_if=lambda limit: False), params={"limit": 3})

    def test_a_name_nobody_takes_is_told_with_those_of_conditions(self) -> None:
        made = task(lambda: 1, skip_if=lambda limit: False).bind(limit=1)
        with pytest.raises(PlanError, match=r"params\['limit'\] fills nothing"):
            Workflow([made]).plan(params={"limit": 3})
        with pytest.raises(PlanError, match=r"params\['limt'\] fills nothing; did you mean 'limit'\?"):
            Workflow([one], cancel_if=lambda limit=1: False).plan(params={"limt": 3})

    def test_it_is_coerced_to_the_conditions_annotation(self) -> None:
        def test(limit: Decimal) -> bool:
            return limit == Decimal("1.5")

        made = task(lambda: 1, run_if=test)
        assert ran([made], params={"limit": "1.5"})["lambda"].result == 1
        with pytest.raises(PlanError, match=r"^task 'lambda': params\['limit'\] is 'x', which is no Decimal"):
            Workflow([made]).plan(params={"limit": "x"})

    def test_or_to_the_bodys_if_that_has_the_name(self) -> None:
        def test(limit: Decimal) -> bool:
            return type(limit) is int

        def body(limit: int) -> int:
            return limit

        assert ran([task(body, run_if=test)], params={"limit": "3"})["body"].result == 3

    def test_an_annotation_of_the_workflows_is_read_where_it_was_written(self) -> None:
        def test(limit: Decimal) -> bool:
            return type(limit) is not Decimal

        assert ran(Workflow([one], cancel_if=test), params={"limit": "3"})["one"].result == 1
        with pytest.raises(
            PlanError, match=r"^cancel_if of the workflow: params\['limit'\] is 'x', which is no Decimal"
        ):
            Workflow([one], cancel_if=test).plan(params={"limit": "x"})


class TestOfAWorkflow:
    def test_it_is_given_what_each_task_is_given_by_that_name(self) -> None:
        seen: list[Any] = []

        def test(c: TaskContext, previous_context: Context, x: Any = "none", *, limit: int) -> bool:
            seen.append((c.task_id, previous_context.storage, x, limit))
            return False

        first = task(lambda x: x, name="first").bind(x=1)
        second = task(lambda x=2: x, name="second")
        third = task(lambda x: x, name="third").map(x=[3, 4])
        last = task(lambda limit: limit, name="last").bind(limit=8)
        ran(Workflow([one, first, second, third, last], cancel_if=test), params={"limit": 7})
        assert seen == [
            ("one", None, "none", 7),
            ("first", 1, 1, 7),
            ("second", 1, 2, 7),
            ("third[0]", 2, 3, 7),
            ("third[1]", 2, 4, 7),
            ("last", [3, 4], "none", 8),
        ]

    def test_a_body_that_does_not_tell_its_parameters_is_given_nothing_of_it(self) -> None:
        made = task(max, name="made")
        assert not made.signature.inspectable
        found = Workflow([made], cancel_if=lambda ctx, limit: False).plan(params={"limit": 7}).graph["made"]
        assert [each.name for each in found.inputs] == ["ctx", "limit"]
        assert found.counted == []

    def test_it_is_looked_at_before_the_tasks_own(self) -> None:
        made = task(lambda: 1, skip_if=lambda: 1 / 0)
        run = run_inline(Workflow([made], cancel_if=True))
        assert (run["lambda"].status, run["lambda"].reason) == (TaskStatus.CANCELLED, "cancel_if")


class TestFingerprints:
    """What only a condition takes does not change what a body returns."""

    def recorded(self, workflow: Workflow, **params: Any) -> dict[str, Any]:
        plan = workflow.plan(params=params)
        return {key: plan.identities.of(each) for key, each in plan.graph.items()}

    def test_what_only_a_condition_takes_does_not_count(self) -> None:
        def body(x: int) -> int:
            return x

        plain, made = task(body).bind(x=1), task(body, skip_if=lambda limit, ctx: limit > 3).bind(x=1)
        asked = Workflow([made], cancel_if=lambda budget=1: False)
        known = self.recorded(Workflow([plain]))
        assert self.recorded(asked, limit=1, budget=2) == self.recorded(asked, limit=2, budget=3) == known
        assert self.recorded(Workflow([made.bind(limit=object())])) == known

    def test_what_the_body_takes_counts_as_ever(self) -> None:
        def body(x: int) -> int:
            return x

        made = task(body, skip_if=lambda x: x > 3)
        assert self.recorded(Workflow([made]), x=1) != self.recorded(Workflow([made]), x=2)
        assert self.recorded(Workflow([made]), x=1) == self.recorded(Workflow([task(body)]), x=1)

    def test_the_code_of_a_condition_does_not_count(self) -> None:
        def body() -> None: ...

        first, second = task(body, skip_if=lambda: False), task(body, run_if=lambda: True)
        assert self.recorded(Workflow([first])) == self.recorded(Workflow([second]))

    def test_so_a_run_goes_on_with_its_results_under_another_limit(self, tmp_path: Any) -> None:
        made = task(lambda: 1, skip_if=lambda limit: limit > 3)
        options: dict[str, Any] = {"storage": tmp_path, "workflow_id": "w", "resume": True}
        ran([made], params={"limit": 1}, **options)
        run = ran(
            [made],
            params={"limit": 9},
            on_input_change=OnChange.RAISE,
            on_code_change=OnChange.RAISE,
            **options,
        )
        assert (run["lambda"].restored, run["lambda"].result) == (True, 1)


def test_seen_by_stars_is_nothing() -> None:
    seen = Seen()
    ran([task(lambda x: x, skip_if=seen).bind(x=1)])
    assert seen.all == [{}]
