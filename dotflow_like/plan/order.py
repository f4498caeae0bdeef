"""The order a mode adds to the declared dependencies, and the check that the two agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError as GraphCycle
from graphlib import TopologicalSorter

from dotflow_like.errors import CycleError, PlanError
from dotflow_like.model.status import Mode
from dotflow_like.plan.node import Graph, Node, Rule

__all__ = ["arrange", "downstream_first"]

Groups = Mapping[str | None, Sequence[Node]]


def arrange(graph: Graph, groups: Groups, mode: Mode, *, declared: bool) -> None:
    """Add the edges of `mode`: a chain in each group, and from group to group unless it is parallel.

    Args:
        graph: the nodes, with their declared edges.
        groups: the same nodes by group, in order of first appearance.
        mode: the mode that applies.
        declared: whether there are declared edges at all.

    Raises:
        CycleError: the declared dependencies go round.
        PlanError: they contradict the order of a chain.
    """
    parallel = mode is Mode.PARALLEL
    order = graph.values() if parallel else (node for group in groups.values() for node in group)
    backwards = _first_backwards(order) if declared else None
    if backwards is None:  # whatever is waited for comes before: there can be no cycle
        _chain(groups, parallel)
        return
    would_do = _sorted(graph)
    between = _edges_between(groups) if len(groups) > 1 and not parallel else {}
    _chain(groups, parallel)
    if parallel:
        cycle = _cycle(graph)
        if cycle is None:
            return
        backwards = _chained_pair(cycle, groups)
    early, late = backwards
    problem = f"task {early!r} runs before task {late!r}, which it waits for"
    if between:
        by_group = _by_group(between, groups, would_do)
        if by_group is None:
            raise PlanError(
                f"{problem}, and the groups need each other both ways; use mode='parallel' or other groups"
            )
        would_do = by_group
    raise PlanError(f"{problem}; an order that would do: {', '.join(would_do)}")


def downstream_first(graph: Graph, keys: Iterable[str]) -> list[str]:
    """Return keys in an order in which what reads a task's result comes before that task.

    Args:
        graph: the plan's.
        keys: of tasks and of items of maps; those that are not planned come last.
    """
    keys = list(keys)
    if not keys:
        return []
    ranks = {key: rank for rank, key in enumerate(_sorted(graph))}

    def rank_of(key: str) -> int:
        return ranks.get(key, ranks.get(key.rpartition("[")[0], -1))  # of an item, that of its map

    ordered = sorted(keys, key=rank_of)
    ordered.reverse()
    return ordered


def _first_backwards(order: Iterable[Node]) -> tuple[str, str] | None:
    seen: set[str] = set()
    for node in order:
        for key in node.edges:
            if key not in seen:
                return node.key, key
        seen.add(node.key)
    return None


def _chain(groups: Groups, parallel: bool) -> None:
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


def _sorted(graph: Graph) -> list[str]:
    try:
        return list(TopologicalSorter({key: node.edges for key, node in graph.items()}).static_order())
    except GraphCycle as error:
        path = " -> ".join(repr(key) for key in error.args[1])
        raise CycleError(f"dependencies go round: {path}; take one of them away") from None


def _cycle(graph: Graph) -> list[str] | None:
    try:
        TopologicalSorter({key: node.edges for key, node in graph.items()}).prepare()
    except GraphCycle as error:
        found: list[str] = error.args[1]
        return found
    return None


def _chained_pair(cycle: Sequence[str], groups: Groups) -> tuple[str, str]:
    """Return two tasks of one chain on the cycle, the first of which waits for the last."""
    for name, group in groups.items():
        on_cycle = [node.key for node in group if node.key in cycle] if name is not None else []
        if len(on_cycle) > 1:
            return on_cycle[0], on_cycle[-1]
    raise AssertionError("a cycle that the declared dependencies do not have goes through a chain")


def _edges_between(groups: Groups) -> dict[str | None, set[str | None]]:
    """Return which groups each group waits for."""
    group_of = {node.key: name for name, group in groups.items() for node in group}
    return {
        name: {group_of[key] for node in group for key in node.edges} - {name}
        for name, group in groups.items()
    }


def _by_group(
    between: Mapping[str | None, set[str | None]], groups: Groups, order: Sequence[str]
) -> list[str] | None:
    """Return the tasks with each group in `order`, and the groups so that none waits for a later one."""
    try:
        names = list(TopologicalSorter(between).static_order())
    except GraphCycle:
        return None
    place = {key: i for i, key in enumerate(order)}
    return [
        key for name in names for key in sorted((node.key for node in groups[name]), key=place.__getitem__)
    ]
