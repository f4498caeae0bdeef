"""A task in a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dotflow_like.declare.conditions import Condition
from dotflow_like.declare.task import Task
from dotflow_like.errors import PlanError
from dotflow_like.plan.inputs import Input, Source, body_inputs, needs_of

__all__ = ["Graph", "Node", "Rule"]

# bound once: a member of an enumeration is looked up through its metaclass
_RESULT, _CONSTANT = Source.RESULT, Source.CONSTANT


class Rule:
    """What an edge asks of the task it comes from.

    Texts and no enumeration: the garbage collector does not look into a dict of texts, and each of
    100,000 tasks has one.
    """

    NEEDS: Final = "needs its value"
    AFTER: Final = "order only"


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
        conditions: what is looked at right before its body: the workflow's `cancel_if`, then the task's own.
    """

    __slots__ = (
        "conditions",
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
        self.edges: dict[str, str] = {}
        self.followers: list[Node] = []
        self.previous: Node | None = None
        self.needs: Sequence[str] = ()
        self.is_map = False
        self.takes_previous = False
        self.items: list[Node] | None = None
        self.conditions: tuple[Condition, ...] = task.conditions

    def fill(self, inputs: tuple[Input, ...]) -> None:
        """Set how its parameters are filled, and what follows from that."""
        self.inputs = inputs
        needs: list[str] = []
        for each in inputs:
            _, source, payload = each
            if source is _RESULT:
                needs.append(payload.key)
            elif source is not _CONSTANT:
                needs += [need.key for need in needs_of(each)]
                self.is_map = self.is_map or source is Source.ITEMS
                self.takes_previous = self.takes_previous or source is Source.PREVIOUS
        self.needs = needs

    @property
    def counted(self) -> Sequence[Input]:
        """The inputs its result is computed from: what only a condition takes is none of them."""
        return body_inputs(self.task, self.inputs) if self.conditions else self.inputs

    @property
    def may_read_all(self) -> bool:
        """Whether its body may read any result before it: what it reads cannot be told from its inputs."""
        told = self.task.signature.inspectable
        return not told or any(each.source is Source.CONTEXT for each in self.counted)

    def item(self, index: int, inputs: tuple[Input, ...]) -> Node:
        """Return the node of an item of this map, counted from 0, whose own inputs are `inputs`."""
        made = Node(f"{self.key}[{index}]", self.task)
        made.fill((*(each for each in self.inputs if each.source is not Source.ITEMS), *inputs))
        made.previous = self.previous
        made.conditions = self.conditions
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
