"""Tasks and a mode become a plan: keys, edges, and the check that they can run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from graphlib import CycleError as GraphCycle
from graphlib import TopologicalSorter
from typing import Any

from dotflow_like.declare.task import Task
from dotflow_like.declare.workflow import Definition
from dotflow_like.errors import (
    AmbiguousDependency,
    CycleError,
    DuplicateTask,
    PlanError,
    UnknownDependency,
    UnknownMode,
)
from dotflow_like.model.status import Mode
from dotflow_like.plan.inputs import Input, Need, Params, Source, inputs_of, needs_of

__all__ = ["Graph", "Node", "Rule", "draw"]


class Rule(Enum):
    """What an edge asks of the task it comes from."""

    NEEDS = "needs its value"
    AFTER = "order only"


class Node:
    """A task in a plan.

    Attributes:
        key: its task key, unique in the run.
        task: the declaration.
        inputs: how its parameters are filled.
        edges: keys of the tasks it waits for, each with its rule.
        followers: the nodes that wait for it.
        previous: the node whose result is its previous context, None at the head of a chain.
        needs: keys of the results its inputs stand for.
        is_map: whether its function is called once per item.
        takes_previous: whether a parameter gets the previous context.
        items: of a map over constants, a node for each; None before they are known, and of no map.
    """

    __slots__ = (
        "edges",
        "followers",
        "inputs",
        "is_map",
        "items",
        "key",
        "needs",
        "previous",
        "takes_previous",
        "task",
    )

    def __init__(self, key: str, task: Task[..., Any]) -> None:
        self.key = key
        self.task = task
        self.inputs: tuple[Input, ...] = ()
        self.edges: dict[str, Rule] = {}
        self.followers: list[Node] = []
        self.previous: Node | None = None
        self.needs: Sequence[str] = ()
        self.is_map = False
        self.takes_previous = False
        self.items: list[Node] | None = None

    def fill(self, inputs: tuple[Input, ...]) -> None:
        """Set how its parameters are filled, and what follows from that."""
        self.inputs = inputs
        self.needs = [need.key for each in inputs for need in needs_of(each)]
        self.is_map = any(each.source is Source.ITEMS for each in inputs)
        self.takes_previous = any(each.source is Source.PREVIOUS for each in inputs) or bool(
            self.task.methods
        )

    @property
    def may_read_all(self) -> bool:
        """Whether it may read any result before it: what it reads cannot be told from its inputs."""
        told = self.task.signature.inspectable
        return not told or any(each.source is Source.CONTEXT for each in self.inputs)

    def item(self, index: int, inputs: tuple[Input, ...]) -> Node:
        """Return the node of an item of this map, counted from 0, whose own inputs are `inputs`."""
        made = Node(f"{self.key}[{index}]", self.task)
        made.fill((*(each for each in self.inputs if each.source is not Source.ITEMS), *inputs))
        made.previous = self.previous
        return made

    def items_over(self, iterated: Mapping[str, Sequence[Input]]) -> list[Node]:
        """Return the nodes of this map's items.

        Args:
            iterated: for each parameter it iterates over, how each item fills it.

        Raises:
            PlanError: they are not of one length.
        """
        lengths = {name: len(values) for name, values in iterated.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise PlanError(
                f"task {self.key!r} maps over parameters of different lengths: {told}; make them equal"
            )
        return [self.item(i, inputs) for i, inputs in enumerate(zip(*iterated.values(), strict=True))]

    def __repr__(self) -> str:
        return f"<node {self.key!r}>"


Graph = dict[str, Node]
"""Nodes by key, in the order the tasks are listed."""


def draw(definition: Definition, mode: str, params: Mapping[str, Any]) -> tuple[Mode, Graph]:
    """Return the mode that applies and the graph of `definition` in it.

    Raises:
        PlanError: one of its kinds; the message names the task and the way out.
    """
    chosen = _mode(mode)
    if not definition.tasks:
        raise PlanError(f"workflow {definition.name!r} has no tasks; give at least one")
    graph = _keyed(definition.tasks)
    declared = _connect(graph, Params(params))
    groups: dict[str | None, list[Node]] = {}
    for node in graph.values():
        groups.setdefault(node.task.group_name, []).append(node)
    if chosen is Mode.SEQUENTIAL and len(groups) > 1:
        chosen = Mode.SEQUENTIAL_GROUP
    parallel = chosen is Mode.PARALLEL
    order = list(graph.values()) if parallel else [node for group in groups.values() for node in group]
    backwards = _first_backwards(order) if declared else None
    would_do = _sorted(graph) if backwards else []
    _chain(groups, parallel)
    if backwards and not (parallel and _is_acyclic(graph)):
        raise PlanError(
            f"task {backwards[0]!r} runs before task {backwards[1]!r}, which it waits for; "
            f"an order that would do: {', '.join(would_do)}"
        )
    for node in graph.values():
        for key in node.edges:
            graph[key].followers.append(node)
    return chosen, graph


def _mode(mode: str) -> Mode:
    try:
        return Mode(mode)
    except ValueError:
        raise UnknownMode(f"mode {mode!r} does not exist; there are: {', '.join(Mode)}") from None


def _keyed(tasks: Sequence[Task[..., Any]]) -> Graph:
    graph: Graph = {}
    uses: dict[str, int] = {}
    for task in tasks:
        key = task.task_id
        if key is None:
            key = task.name
            used = uses[key] = uses.get(key, 0) + 1
            if used > 1:
                key = f"{key}#{used}"
        if key in graph:
            raise DuplicateTask(
                f"two tasks have the id {key!r}: give one of them another, with_options(task_id=...) or name=..."
            )
        graph[key] = Node(key, task)
    return graph


def _connect(graph: Graph, params: Params) -> bool:
    """Fill the inputs, draw the declared edges, and return whether there are any."""
    listed = _Listed(graph)
    declared = False
    for node in graph.values():
        task = node.task
        if task.bound or task.mapped or task.earlier or task.signature.parameters:
            node.fill(inputs_of(task, partial(listed.find, node=node), params))
            node.edges = dict.fromkeys(node.needs, Rule.NEEDS)
            for earlier in task.earlier:
                node.edges.setdefault(listed.find(earlier, node), Rule.AFTER)
            declared = declared or bool(node.edges)
            if node.is_map:
                node.items = _constant_items(node)
    params.check_all_used()
    return declared


def _constant_items(node: Node) -> list[Node] | None:
    iterated = {each.name: each.payload for each in node.inputs if each.source is Source.ITEMS}
    if any(type(values) is Need for values in iterated.values()):
        return None
    return node.items_over(
        {name: [Input(name, Source.CONSTANT, value) for value in values] for name, values in iterated.items()}
    )


class _Listed:
    """Finds the listed task that a declaration means."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._exact: dict[Task[..., Any], list[str]] = {}
        self._made_from: dict[Task[..., Any], list[str]] = {}

    def find(self, wanted: Task[..., Any], node: Node) -> str:
        """Return the key of `wanted` itself, else of the one listed task made from it."""
        if not self._exact:
            for key, each in self._graph.items():
                self._exact.setdefault(each.task, []).append(key)
        found = self._exact.get(wanted) or self._derived(wanted)
        if len(found) == 1:
            return found[0]
        if not found:
            raise UnknownDependency(
                f"{node.task.where} needs {wanted.where}, which is not in the list; add it to the tasks"
            )
        raise AmbiguousDependency(
            f"{node.task.where} needs {wanted.where}, and several in the list could be meant ({', '.join(found)}); "
            "keep the one you mean in a variable, list it, and name it here"
        )

    def _derived(self, wanted: Task[..., Any]) -> list[str]:
        if not self._made_from:
            for key, each in self._graph.items():
                origin = each.task.origin
                while origin is not None:
                    self._made_from.setdefault(origin, []).append(key)
                    origin = origin.origin
        return self._made_from.get(wanted, [])


def _first_backwards(order: Sequence[Node]) -> tuple[str, str] | None:
    seen: set[str] = set()
    for node in order:
        for key in node.edges:
            if key not in seen:
                return node.key, key
        seen.add(node.key)
    return None


def _sorted(graph: Graph) -> list[str]:
    try:
        return list(TopologicalSorter({key: node.edges for key, node in graph.items()}).static_order())
    except GraphCycle as error:
        path = " -> ".join(repr(key) for key in error.args[1])
        raise CycleError(f"dependencies go round: {path}; take one of them away") from None


def _is_acyclic(graph: Graph) -> bool:
    try:
        _sorted(graph)
    except CycleError:
        return False
    return True


def _chain(groups: Mapping[str | None, Iterable[Node]], parallel: bool) -> None:
    """Add the edges of the mode: a chain in each group, and from group to group unless parallel."""
    last: Node | None = None
    for name, group in groups.items():
        if parallel and name is None:
            continue
        before: Node | None = None
        for node in group:
            node.previous = before
            waits_for = before if before is not None or parallel else last
            if waits_for is not None:
                node.edges.setdefault(waits_for.key, Rule.AFTER)
            before = node
        last = before
