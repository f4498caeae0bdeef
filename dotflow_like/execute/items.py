"""The items of a map, when its turn has come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from dotflow_like.model.records import TaskRecord
from dotflow_like.model.status import TaskStatus
from dotflow_like.plan.inputs import Input, Need, Source
from dotflow_like.plan.node import Node
from dotflow_like.plan.plan import Plan
from dotflow_like.plan.resume import Decision, beyond, decide_items, warnings_of
from dotflow_like.record.journal import Journal
from dotflow_like.report.logs import warn
from dotflow_like.report.result import TaskRun

__all__ = ["Items", "items_of", "nodes_of", "why_failed"]


class Items(NamedTuple):
    """The items of a map, and what becomes of them.

    Attributes:
        nodes: one for each, in order.
        records: what is recorded of them, where that was not read before; of surplus ones too.
        decisions: what becomes of those of which something is recorded.
        surplus: keys of recorded items that are to be discarded first.
    """

    nodes: list[Node]
    records: Mapping[str, TaskRecord]
    decisions: Mapping[str, Decision]
    surplus: Collection[str]


def items_of(
    node: Node, runs: Mapping[str, TaskRun], plan: Plan, journal: Journal, workflow_id: str
) -> Items:
    """Return the items of a map whose dependencies are done.

    Raises:
        Exception: what it iterates over cannot be read or iterated, lengths differ, an item has no
            fingerprint and resume needs one, or is not what is recorded, under `raise`.
    """
    nodes = nodes_of(node, runs)
    if not plan.resumed:
        return Items(nodes, {}, plan.decisions, ())
    if node.items is not None:
        number = plan.decisions.get(beyond(node))
        if number is None or not number.discard:
            return Items(nodes, {}, plan.decisions, ())
        surplus = _recorded_items(node, journal, workflow_id) - {item.key for item in nodes}
        return Items(nodes, journal.tasks(workflow_id, surplus), plan.decisions, surplus)
    for item in nodes:
        plan.identities.of(item)  # raises now what would be raised once it has run
    if plan.decisions[node.item(0, ()).key].discard:
        surplus = _recorded_items(node, journal, workflow_id)
        return Items(nodes, journal.tasks(workflow_id, surplus), {}, surplus)
    records = journal.tasks(workflow_id, [item.key for item in nodes])
    decisions = decide_items(nodes, records, plan.identities, plan.policies, workflow_id)
    for warning in warnings_of(decisions, workflow_id):
        warn(warning, in_run=True, workflow_id=workflow_id)
    return Items(nodes, records, decisions, ())


def nodes_of(node: Node, runs: Mapping[str, TaskRun]) -> list[Node]:
    """Return the nodes of the items of a map whose dependencies are done.

    Raises:
        Exception: what it iterates over cannot be read or iterated, or lengths differ.
    """
    return node.items if node.items is not None else node.items_over(_inputs_by_name(node, runs))


def why_failed(items: Collection[TaskRun]) -> str:
    """Return the reason of a map of which items failed."""
    failed = [item.task_id for item in items if item.status is TaskStatus.FAILED]
    shown = ", ".join(failed[:5]) + (", …" if len(failed) > 5 else "")
    return f"{len(failed)} of {len(items)} items failed: {shown}"


def _inputs_by_name(node: Node, runs: Mapping[str, TaskRun]) -> dict[str, list[Input]]:
    return {each.name: _inputs_over(each, runs) for each in node.inputs if each.source is Source.ITEMS}


def _inputs_over(each: Input, runs: Mapping[str, TaskRun]) -> list[Input]:
    if type(each.payload) is not Need:
        return [Input(each.name, Source.CONSTANT, value) for value in each.payload]
    over = runs[each.payload.key]
    if over.items is not None:  # item by item, without loading anything
        return [Input(each.name, Source.RESULT, Need(item.task_id)) for item in over.items]
    return [Input(each.name, Source.CONSTANT, value) for value in over.result]


def _recorded_items(node: Node, journal: Journal, workflow_id: str) -> set[str]:
    return {key for key in journal.task_keys(workflow_id) if key.startswith(f"{node.key}[")}
