"""Tasks and a mode become a graph: keys, edges, chains, and what cannot be planned."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from dotflow_like import (
    AmbiguousDependency,
    CycleError,
    DuplicateTask,
    Mode,
    PlanError,
    Task,
    UnknownDependency,
    UnknownMode,
    Workflow,
    task,
)
from dotflow_like.plan.graph import Rule
from dotflow_like.plan.plan import Plan

NEEDS, AFTER = Rule.NEEDS, Rule.AFTER


def make(name: str, group: str | None = None) -> Task[..., Any]:
    def body(x: Any = None, y: Any = None) -> Any:
        return x

    return task(body, name=name, group_name=group)


def plan(*tasks: Task[..., Any], mode: str = "sequential") -> Plan:
    return Workflow(tasks).plan(mode=mode)


def keys(*tasks: Task[..., Any]) -> list[str]:
    return list(plan(*tasks).graph)


def edges(*tasks: Task[..., Any], mode: str = "sequential") -> dict[str, dict[str, Rule]]:
    return {key: node.edges for key, node in plan(*tasks, mode=mode).graph.items()}


def previous(*tasks: Task[..., Any], mode: str = "sequential") -> dict[str, str | None]:
    graph = plan(*tasks, mode=mode).graph
    return {key: node.previous and node.previous.key for key, node in graph.items()}


a, b, c, d = (make(name) for name in "abcd")


class TestKeys:
    def test_the_name_and_a_number_from_the_second_use(self) -> None:
        assert keys(a, b, a, a.bind(x=1), b) == ["a", "b", "a#2", "a#3", "b#2"]

    def test_an_explicit_id(self) -> None:
        assert keys(a.with_options(task_id="first of all"), a) == ["first of all", "a"]

    def test_a_key_does_not_depend_on_the_place(self) -> None:
        assert sorted(keys(a, b, c)) == sorted(keys(c, a, b))

    def test_items_of_a_map(self) -> None:
        node = plan(a.map(x=[1, 2, 3])).graph["a"]
        assert node.items is not None
        assert [item.key for item in node.items] == ["a[0]", "a[1]", "a[2]"]

    def test_items_of_a_map_over_a_result_are_not_known_yet(self) -> None:
        assert plan(a, b.map(x=a)).graph["b"].items is None

    @pytest.mark.parametrize(
        "tasks",
        [
            (a.with_options(task_id="x"), b.with_options(task_id="x")),
            (a, b.with_options(task_id="a")),
            (b.with_options(task_id="a"), a),
            (a, a, b.with_options(task_id="a#2")),
            (a.with_options(task_id="x"),) * 2,
        ],
    )
    def test_two_tasks_with_one_id(self, tasks: tuple[Task[..., Any], ...]) -> None:
        with pytest.raises(
            DuplicateTask, match=r"^two tasks have the id '(x|a|a#2)': .*with_options\(task_id=\.\.\.\)"
        ):
            plan(*tasks)

    @pytest.mark.parametrize("order", [1, -1])
    def test_the_id_of_a_maps_item(self, order: int) -> None:
        with pytest.raises(DuplicateTask, match=r"b\[0\]"):
            plan(*[b.map(x=[1, 2]), a.with_options(task_id="b[0]")][::order])

    def test_a_map_over_a_result_takes_all_numbers(self) -> None:
        with pytest.raises(DuplicateTask, match=r"b\[7\]"):
            plan(c, b.map(x=c), a.with_options(task_id="b[7]"))

    def test_lengths_that_differ(self) -> None:
        with pytest.raises(
            PlanError, match=r"^task 'a' maps over .* lengths: x has 2, y has 3; make them equal"
        ):
            plan(a.map(x=[1, 2], y=[1, 2, 3]))


class TestDependencies:
    def test_the_very_object_in_the_list(self) -> None:
        first, second = a.bind(x=1), a.bind(x=2)
        assert edges(first, second, b.bind(x=second), mode="parallel")["b"] == {"a#2": NEEDS}
        assert edges(a, second, b.bind(x=a), mode="parallel")["b"] == {"a": NEEDS}

    def test_else_the_one_made_from_it(self) -> None:
        made = a.bind(x=1).with_options(retry=2).after(c).with_options(task_id="it")
        assert edges(c, made, b.bind(x=a), mode="parallel")["b"] == {"it": NEEDS}

    def test_in_containers_and_maps(self) -> None:
        assert edges(a, b, c, d.bind(x=[a, {"b": 1}], y={"k": b}), mode="parallel")["d"] == {
            "a": NEEDS,
            "b": NEEDS,
        }
        assert edges(a, d.map(x=a), mode="parallel")["d"] == {"a": NEEDS}

    def test_order_only(self) -> None:
        assert edges(a, b, c, d.after(a, c), mode="parallel")["d"] == {"a": AFTER, "c": AFTER}

    def test_needing_a_value_is_more_than_order(self) -> None:
        assert edges(a, b.bind(x=a).after(a), mode="parallel")["b"] == {"a": NEEDS}
        assert edges(a, b.bind(x=a))["b"] == {"a": NEEDS}

    @pytest.mark.parametrize(
        "ask", [lambda: b.bind(x=a), lambda: b.bind(x=[a]), lambda: b.map(x=a), lambda: b.after(a)]
    )
    def test_one_that_is_not_listed(self, ask: Callable[[], Task[..., Any]]) -> None:
        with pytest.raises(
            UnknownDependency, match=r"^task 'b' needs task 'a', which is not in the list; add it"
        ):
            plan(c, ask())

    def test_what_it_was_made_from_does_not_stand_for_it(self) -> None:
        with pytest.raises(UnknownDependency):
            plan(a, b.bind(x=a.bind(x=1)))

    @pytest.mark.parametrize("tasks", [(a.bind(x=1), a.bind(x=2)), (a, a)])
    def test_several_that_could_be_meant(self, tasks: tuple[Task[..., Any], ...]) -> None:
        with pytest.raises(
            AmbiguousDependency,
            match=r"^task 'b' needs task 'a', and several .* \(a, a#2\); keep the one you mean in a variable",
        ):
            plan(*tasks, b.bind(x=a))


MODES = pytest.mark.parametrize("mode", list(Mode))


class TestCycles:
    @MODES
    def test_of_two(self, mode: str) -> None:
        with pytest.raises(
            CycleError, match=r"^dependencies go round: '(a|b)' -> '(a|b)' -> '(a|b)'; take one"
        ):
            plan(a.bind(x=b), b.bind(x=a), mode=mode)

    @MODES
    def test_of_one(self, mode: str) -> None:
        with pytest.raises(CycleError, match=r"^dependencies go round: 'a' -> 'a'; take one of them away"):
            plan(a.bind(x=a), mode=mode)

    @MODES
    def test_the_path_names_those_that_go_round_and_no_others(self, mode: str) -> None:
        with pytest.raises(CycleError) as refused:
            plan(d, a.bind(x=b, y=d), b.after(c), c.map(x=a), mode=mode)
        path = str(refused.value).split(": ")[1].split(";")[0].replace("'", "").split(" -> ")
        assert path[0] == path[-1]
        assert sorted(path[1:]) == ["a", "b", "c"]
        steps = set(itertools.pairwise(path))
        wanted = {("a", "b"), ("b", "c"), ("c", "a")}
        assert steps in (wanted, {(to, origin) for origin, to in wanted})

    def test_across_groups(self) -> None:
        with pytest.raises(CycleError, match="go round"):
            plan(a.with_options(group_name="A").bind(x=b), b.bind(x=a), mode="parallel")


G1, G2, H1, H2 = make("g1", "G"), make("g2", "G"), make("h1", "H"), make("h2", "H")


class TestModes:
    @pytest.mark.parametrize("mode", ["sequential", "background"])
    def test_a_chain_in_the_given_order(self, mode: str) -> None:
        assert edges(a, b, c, mode=mode) == {"a": {}, "b": {"a": AFTER}, "c": {"b": AFTER}}
        assert previous(a, b, c, mode=mode) == {"a": None, "b": "a", "c": "b"}

    def test_a_declared_dependency_stands_beside_the_chain(self) -> None:
        assert edges(a, b, c.bind(x=a))["c"] == {"a": NEEDS, "b": AFTER}

    def test_one_group_is_no_reason_for_groups(self) -> None:
        assert plan(G1, G2).mode is Mode.SEQUENTIAL
        assert plan(a, b).mode is Mode.SEQUENTIAL

    @pytest.mark.parametrize("tasks", [(G1, H1), (a, G1), (G1, a)])
    def test_sequential_with_several_groups_is_sequential_group(
        self, tasks: tuple[Task[..., Any], ...]
    ) -> None:
        assert plan(*tasks).mode is Mode.SEQUENTIAL_GROUP
        assert plan(*tasks, mode="background").mode is Mode.BACKGROUND

    @pytest.mark.parametrize("mode", ["sequential", "sequential_group", "background"])
    def test_groups_one_after_another_in_order_of_first_appearance(self, mode: str) -> None:
        tasks = (H1, a, G1, H2, b, G2)
        assert edges(*tasks, mode=mode) == {
            "h1": {},
            "h2": {"h1": AFTER},
            "a": {"h2": AFTER},
            "b": {"a": AFTER},
            "g1": {"b": AFTER},
            "g2": {"g1": AFTER},
        }
        # as they are listed, which is the order of `Run.tasks`
        assert list(plan(*tasks, mode=mode).graph) == ["h1", "a", "g1", "h2", "b", "g2"]

    @pytest.mark.parametrize("mode", ["sequential", "sequential_group", "background", "parallel"])
    def test_each_group_has_its_own_previous_context(self, mode: str) -> None:
        found = previous(G1, H1, G2, H2, mode=mode)
        assert found == {"g1": None, "h1": None, "g2": "g1", "h2": "h1"}

    def test_sequential_group_of_one_group(self) -> None:
        assert plan(a, b, mode="sequential_group").mode is Mode.SEQUENTIAL_GROUP
        assert edges(a, b, mode="sequential_group") == {"a": {}, "b": {"a": AFTER}}

    def test_parallel_chains_named_groups_only(self) -> None:
        assert edges(a, G1, b, H1, G2, H2, mode="parallel") == {
            "a": {},
            "g1": {},
            "b": {},
            "h1": {},
            "g2": {"g1": AFTER},
            "h2": {"h1": AFTER},
        }
        assert previous(a, b, G1, G2, mode="parallel") == {"a": None, "b": None, "g1": None, "g2": "g1"}

    def test_followers_are_the_edges_from_the_other_side(self) -> None:
        graph = plan(a, b.bind(x=a), c.after(a), mode="parallel").graph
        assert [node.key for node in graph["a"].followers] == ["b", "c"]

    def test_a_mode_may_be_given_as_its_word_or_its_member(self) -> None:
        assert plan(a, mode=Mode.PARALLEL).mode is plan(a, mode="parallel").mode is Mode.PARALLEL

    @pytest.mark.parametrize("mode", ["paralel", "", "PARALLEL", None, 3, ["parallel"]])
    def test_an_unknown_mode(self, mode: Any) -> None:
        with pytest.raises(UnknownMode) as refused:
            plan(a, mode=mode)
        assert str(refused.value) == (
            f"mode {mode!r} does not exist; there are: sequential, sequential_group, background, parallel"
        )

    def test_no_tasks(self) -> None:
        with pytest.raises(PlanError, match="has no tasks; give at least one"):
            plan()


def would_do(refused: pytest.ExceptionInfo[PlanError]) -> list[str]:
    """Return the order a refusal proposes."""
    return str(refused.value).partition("an order that would do: ")[2].split(", ")


def refusal(*tasks: Task[..., Any], mode: str) -> pytest.ExceptionInfo[PlanError]:
    with pytest.raises(PlanError) as refused:
        plan(*tasks, mode=mode)
    assert type(refused.value) is PlanError
    return refused


class TestOrder:
    """A declared dependency that a chain contradicts."""

    @pytest.mark.parametrize("mode", ["sequential", "background", "sequential_group"])
    @pytest.mark.parametrize("declare", [lambda: a.bind(x=c), lambda: a.after(c), lambda: a.map(x=c)])
    def test_in_a_chain(self, mode: str, declare: Callable[[], Task[..., Any]]) -> None:
        needy = declare()
        refused = refusal(needy, b, c, mode=mode)
        assert "task 'a' runs before task 'c', which it waits for" in str(refused.value)
        by_key = {"a": needy, "b": b, "c": c}
        assert plan(*(by_key[key] for key in would_do(refused)), mode=mode)

    def test_in_parallel_the_list_has_no_order(self) -> None:
        assert edges(a.bind(x=c), b, c, mode="parallel") == {"a": {"c": NEEDS}, "b": {}, "c": {}}

    def test_in_a_group_in_parallel(self) -> None:
        tasks = {"g1": G1.bind(x=G2), "g2": G2}
        refused = refusal(*tasks.values(), mode="parallel")
        assert "task 'g1' runs before task 'g2', which it waits for" in str(refused.value)
        assert would_do(refused) == ["g2", "g1"]

    def test_in_parallel_the_pair_that_is_named_is_one_of_a_group(self) -> None:
        tasks = {"c": c.bind(x=d), "d": d, "g1": G1.bind(x=G2), "g2": G2}
        refused = refusal(*tasks.values(), mode="parallel")
        assert "task 'g1' runs before task 'g2', which it waits for" in str(refused.value)
        assert plan(*(tasks[key] for key in would_do(refused)), mode="parallel")

    def test_two_chains_that_cross_in_parallel(self) -> None:
        tasks = {"g1": G1.bind(x=H2), "g2": G2, "h1": H1.bind(x=G2), "h2": H2}
        refused = refusal(*tasks.values(), mode="parallel")
        assert plan(*(tasks[key] for key in would_do(refused)), mode="parallel")

    def test_through_an_ungrouped_task_in_parallel(self) -> None:
        tasks = {"g1": G1.bind(x=a), "a": a.bind(x=G2), "g2": G2}
        refused = refusal(*tasks.values(), mode="parallel")
        assert plan(*(tasks[key] for key in would_do(refused)), mode="parallel")

    @pytest.mark.parametrize("mode", ["sequential", "sequential_group", "background"])
    def test_between_groups_the_order_that_would_do_does(self, mode: str) -> None:
        tasks = {"g1": G1, "g2": G2.bind(x=H1), "h1": H1}
        refused = refusal(*tasks.values(), mode=mode)
        assert "task 'g2' runs before task 'h1', which it waits for" in str(refused.value)
        assert plan(*(tasks[key] for key in would_do(refused)), mode=mode)

    @pytest.mark.parametrize("mode", ["sequential", "sequential_group", "background"])
    def test_between_a_group_and_the_tasks_without_one(self, mode: str) -> None:
        tasks = {"a": a, "g1": G1, "b": b.after(G2), "g2": G2}
        refused = refusal(*tasks.values(), mode=mode)
        assert plan(*(tasks[key] for key in would_do(refused)), mode=mode)

    @pytest.mark.parametrize("mode", ["sequential", "sequential_group", "background"])
    def test_groups_that_need_each_other_have_no_order_that_would_do(self, mode: str) -> None:
        refused = refusal(G1, G2.bind(x=H1), H1.bind(x=G1), mode=mode)
        assert "an order that would do" not in str(refused.value)
        assert "parallel" in str(refused.value)

    def test_a_thousand_tasks_deep(self) -> None:
        tasks = [make("t0")]
        for number in range(1, 1000):
            tasks.append(make(f"t{number}").bind(x=tasks[-1]))
        refused = refusal(*reversed(tasks), mode="sequential")
        assert would_do(refused) == [f"t{number}" for number in range(1000)]
