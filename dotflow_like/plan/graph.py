"""Tasks and a mode become a plan: keys, edges, and the check that they can run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dotflow_like.declare.conditions import Condition
from dotflow_like.declare.task import Task
from dotflow_like.declare.workflow import Definition
from dotflow_like.errors import (
    AmbiguousDependency,
    DuplicateTask,
    PlanError,
    UnknownDependency,
    UnknownMode,
)
from dotflow_like.model.status import Mode
from dotflow_like.plan.inputs import Input, Need, Params, Source, inputs_of
from dotflow_like.plan.node import Graph, Node, Rule
from dotflow_like.plan.order import arrange

__all__ = ["draw"]


def draw(definition: Definition, mode: str, params: Mapping[str, Any]) -> tuple[Mode, Graph]:
    """Return the mode that applies and the graph of `definition` in it.

    Raises:
        PlanError: one of its kinds; the message names the task and the way out.
    """
    chosen = _mode(mode)
    if not definition.tasks:
        raise PlanError(f"workflow {definition.name!r} has no tasks; give at least one")
    graph = _keyed(definition.tasks)
    declared = _connect(graph, Params(params), definition.cancel_if)
    groups: dict[str | None, list[Node]] = {}
    for node in graph.values():
        name = node.task.group_name
        if name in groups:
            groups[name].append(node)
        else:
            groups[name] = [node]
    if chosen is Mode.SEQUENTIAL and len(groups) > 1:
        chosen = Mode.SEQUENTIAL_GROUP
    arrange(graph, groups, chosen, declared=declared)
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


def _connect(graph: Graph, params: Params, cancel_if: Condition | None) -> bool:
    """Fill the inputs, draw the declared edges, and return whether there are any."""
    listed = _Listed(graph)
    find = listed.__getitem__
    declared = False
    if cancel_if is not None:
        for node in graph.values():
            node.conditions = (cancel_if, *node.conditions)
    for node in graph.values():
        task = listed.asking = node.task
        if task.bound or task.mapped or task.earlier or task.signature.parameters or cancel_if is not None:
            node.fill(inputs_of(task, find, params, cancel_if))
            node.edges = dict.fromkeys(node.needs, Rule.NEEDS)
            for earlier in task.earlier:
                node.edges.setdefault(find(earlier).key, Rule.AFTER)
            declared = declared or bool(node.edges)
            if node.is_map:
                node.items = _constant_items(node)
    params.check_all_used()
    _check_item_keys(graph)
    return declared


def _check_item_keys(graph: Graph) -> None:
    """Refuse a task id that an item of a map would have."""
    maps = [re.escape(node.key) for node in graph.values() if node.is_map]
    taken = re.compile(rf"({'|'.join(maps)})\[\d+\]") if maps else None
    for key in graph if taken else ():
        if taken and taken.fullmatch(key):
            raise DuplicateTask(f"the id {key!r} is that of an item of a map; give the task another task_id=")


def _constant_items(node: Node) -> list[Node] | None:
    iterated = {each.name: each.payload for each in node.inputs if each.source is Source.ITEMS}
    if any(type(values) is Need for values in iterated.values()):
        return None
    return node.items_over(
        {name: [Input(name, Source.CONSTANT, value) for value in values] for name, values in iterated.items()}
    )


class _Listed(dict[Task[..., Any], Need]):
    """What stands for the result of each task that others are bound to; filled when asked for first."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._several: dict[Task[..., Any], list[str]] = {}
        self._made_from: dict[Task[..., Any], list[str]] = {}
        self._filled = False
        self.asking: Task[..., Any] | None = None

    def __missing__(self, wanted: Task[..., Any]) -> Need:
        """Find `wanted` itself, else the one listed task made from it."""
        if not self._filled:
            self._fill()
            return self[wanted]
        found = self._several.get(wanted) or self._derived(wanted)
        if len(found) == 1:
            need = self[wanted] = Need(found[0])
            return need
        assert self.asking is not None, "somebody needs it"
        if not found:
            raise UnknownDependency(
                f"{self.asking.where} needs {wanted.where}, which is not in the list; add it to the tasks"
            )
        raise AmbiguousDependency(
            f"{self.asking.where} needs {wanted.where}, and several in the list could be meant "
            f"({', '.join(found)}); keep the one you mean in a variable, list it, and name it here"
        )

    def _fill(self) -> None:
        self._filled = True
        for key, node in self._graph.items():
            if node.task in self:
                self._several.setdefault(node.task, [self[node.task].key]).append(key)
            else:
                self[node.task] = Need(key)
        for task in self._several:
            del self[task]

    def _derived(self, wanted: Task[..., Any]) -> list[str]:
        if not self._made_from:
            for key, node in self._graph.items():
                for origin in node.task.origins():
                    self._made_from.setdefault(origin, []).append(key)
        return self._made_from.get(wanted, [])
