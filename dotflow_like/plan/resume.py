"""What a resumed run restores and what it runs, decided from what is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from dotflow_like.errors import CodeChanged, FingerprintError, InputChanged
from dotflow_like.model.metadata import SIGNAL, SIGNAL_REASON
from dotflow_like.model.records import RESULT, TaskRecord
from dotflow_like.model.signals import Finish
from dotflow_like.model.status import AttemptStatus, OnChange
from dotflow_like.plan.identity import Identities, Identity
from dotflow_like.plan.inputs import Source
from dotflow_like.plan.node import Graph, Node, Rule

__all__ = [
    "beyond",
    "check_identities",
    "Decision",
    "OnChanges",
    "decide",
    "decide_items",
    "is_finished",
    "is_skipped",
    "recorded_keys",
    "settled",
    "units",
    "warnings_of",
]


class Decision(NamedTuple):
    """What becomes of one task.

    Attributes:
        restored: its recorded result is kept, and it does not run.
        discard: what is recorded of it is no longer valid.
        reason: why.
        doubtful: it is restored though its inputs or code changed.
        skipped: it has been skipped, and stays so.
    """

    restored: bool
    discard: bool
    reason: str
    doubtful: bool = False
    skipped: bool = False


class OnChanges(NamedTuple):
    """What to do about changed inputs and changed code."""

    inputs: OnChange = OnChange.REUSE
    code: OnChange = OnChange.REUSE


def recorded_keys(graph: Graph) -> list[str]:
    """Return the keys of which a record is needed before anything runs.

    Of a map over constants also the one after its last item: a record there says that it had more.
    """
    keys = [unit.key for node in graph.values() for unit in units(node)]
    return keys + [beyond(node) for node in graph.values() if node.items is not None]


def beyond(node: Node) -> str:
    """Return the key that the item after the last one of a map would have."""
    return node.item(len(node.items or ()), ()).key


def check_identities(graph: Graph, identities: Identities) -> None:
    """Take the fingerprint of all that is known, so that what has none is refused before anything runs.

    Raises:
        FingerprintError: an input has none, and `identities` is strict.
    """
    for node in graph.values():
        if node.inputs or node.task.initial_context is not None:
            for unit in (node, *(node.items or ())):
                identities.of(unit)


def decide(
    graph: Graph,
    records: Mapping[str, TaskRecord],
    identities: Identities,
    policies: OnChanges,
    workflow_id: str,
) -> tuple[dict[str, Decision], list[str]]:
    """Return a decision for every task and every item known so far, and warnings.

    Args:
        graph: the plan's.
        records: what is recorded, by key.
        identities: today's fingerprints.
        policies: what to do where they differ from the recorded ones.
        workflow_id: the run, for messages.

    Raises:
        InputChanged: an input differs, under `raise`.
        CodeChanged: the code differs, under `raise`.
        FingerprintError: a comparison is asked for and cannot be made.
    """
    decisions: dict[str, Decision] = {}
    find = records.get
    for node in graph.values():
        for unit in units(node) if node.is_map else (node,):
            key = unit.key
            today = node if unit is not node and node.items is None else unit
            decisions[key] = _decide(key, today, find(key), identities, policies, workflow_id)
    for node in graph.values():
        if node.items is not None:
            _decide_number(node, graph, records, decisions, policies.inputs, workflow_id)
    discarded = {key for key, decision in decisions.items() if decision.discard}
    changed = [
        node.key
        for node in (graph.values() if discarded else ())
        if not discarded.isdisjoint(_keys(node, decisions))
    ]
    for key, origin in _downstream(graph, changed).items():
        for unit in units(graph[key]):
            if not decisions[unit.key].discard:
                reason = f"it reads what {origin!r} computes anew"
                decisions[unit.key] = Decision(False, unit.key in records, reason)
    return decisions, warnings_of(decisions, workflow_id)


def decide_items(
    items: Iterable[Node],
    records: Mapping[str, TaskRecord],
    identities: Identities,
    policies: OnChanges,
    workflow_id: str,
) -> dict[str, Decision]:
    """Return the decisions for the items of a map over a result, which are known only now.

    Args:
        items: their nodes.
        records: what is recorded of them, by key.
        identities: today's fingerprints.
        policies: what to do where they differ from the recorded ones.
        workflow_id: the run, for messages.

    Raises:
        InputChanged: an item differs, under `raise`.
    """
    return {
        item.key: _decide(item.key, item, records[item.key], identities, policies, workflow_id)
        for item in items
        if item.key in records
    }


def warnings_of(decisions: Mapping[str, Decision], workflow_id: str) -> list[str]:
    """Return what a user should know of decisions: results that are kept though something changed."""
    reused = [f"{key} ({decision.reason})" for key, decision in decisions.items() if decision.doubtful]
    if not reused:
        return []
    shown = ", ".join(reused[:5]) + (f" and {len(reused) - 5} more" if len(reused) > 5 else "")
    warning = (
        f"run {workflow_id} is resumed with results that today's inputs or code might not give: {shown}; "
        "on_input_change='reset' and on_code_change='rerun' compute them anew"
    )
    return [warning]


def _decide_number(
    node: Node,
    graph: Graph,
    records: Mapping[str, TaskRecord],
    decisions: dict[str, Decision],
    policy: OnChange,
    workflow_id: str,
) -> None:
    """Decide about a map that has more, or fewer, items than the recorded results below it were computed from."""
    assert node.items is not None
    surplus = records.get(beyond(node))
    fewer = surplus is not None and RESULT in surplus.checkpoints
    read = any(
        follower.edges[node.key] == Rule.NEEDS and decisions[unit.key].restored
        for follower in node.followers
        for unit in units(follower)
    )
    more = read and not all(
        decisions[item.key].restored or decisions[item.key].discard for item in node.items
    )
    if not (fewer or more):
        return
    if policy is OnChange.RAISE:
        raise _refusal("the number of its items", node.key, workflow_id)
    again = policy is not OnChange.REUSE
    decisions[beyond(node)] = Decision(
        restored=not again, discard=again, reason="the number of its items changed", doubtful=not again
    )


def _decide(
    key: str,
    today: Node,
    record: TaskRecord | None,
    identities: Identities,
    policies: OnChanges,
    workflow_id: str,
) -> Decision:
    checkpoint = None if record is None else record[2].get(RESULT)  # by place: there may be 100,000 of them
    if record is None or checkpoint is None:
        if record is not None and is_skipped(record):
            return Decision(False, False, _why_skipped(record), skipped=True)
        return Decision(False, False, _why_missing(record))
    _, _, _, inputs, code = checkpoint
    identity = identities.of(today)
    if inputs is not None and code is not None and inputs == identity.inputs and code == identity.code:
        return _completed(record[1][-1][2])
    found = _differences(today, Identity(inputs, code), identities, policies)
    for difference, policy in found:
        if policy is OnChange.RAISE:
            raise _refusal(difference, key, workflow_id)
    again = [difference for difference, policy in found if policy is not OnChange.REUSE]
    if again:
        return Decision(False, True, f"{' and '.join(again)} changed")
    if found:
        return Decision(
            True, False, f"{' and '.join(difference for difference, _ in found)} changed", doubtful=True
        )
    return _completed(record.attempts[-1].number)


@lru_cache
def _completed(number: int) -> Decision:
    """Return the decision about nearly every task of a run that is resumed, made once."""
    return Decision(True, False, f"completed by attempt {number}")


def units(node: Node) -> Iterable[Node]:
    """Return what is recorded for a node: itself; of a map its items, of which the first stands for unknown ones."""
    return (node,) if not node.is_map else node.items if node.items is not None else (node.item(0, ()),)


def _keys(node: Node, decisions: Mapping[str, Decision]) -> list[str]:
    keys = [unit.key for unit in units(node)]
    return [*keys, beyond(node)] if node.items is not None and beyond(node) in decisions else keys


def _differences(
    node: Node, recorded: Identity, identities: Identities, policies: OnChanges
) -> list[tuple[str, OnChange]]:
    today = identities.of(node)
    found: list[tuple[str, OnChange]] = []
    if today.inputs is None or recorded.inputs is None:
        found.append(("an input, which cannot be compared,", policies.inputs))
    elif today.inputs != recorded.inputs:
        # a map of unknown items stands for each of them: what it iterates over is theirs to compare
        items = {each.name for each in node.inputs if each.source is Source.ITEMS}
        names = sorted(
            name
            for name in today.inputs.keys() | recorded.inputs.keys()
            if today.inputs.get(name) != recorded.inputs.get(name) and name not in items
        )
        found += [(f"input {name!r}", policies.inputs) for name in names]
    if today.code != recorded.code:
        found.append(("its code", policies.code))
    elif today.code is None and policies.code is not OnChange.REUSE:
        raise FingerprintError(
            f"{node.task.where} has no source to compare; give it a version=, or on_code_change='reuse'"
        )
    return found


def _downstream(graph: Graph, changed: Iterable[str]) -> dict[str, str]:
    """Return the tasks that read, directly or not, what a changed one computes, each with whom it reads from."""
    dirty = dict.fromkeys(changed, "")
    behind: set[str] = set()
    todo = list(dirty)
    while todo:
        key = todo.pop()
        for follower in graph[key].followers:
            if follower.key in dirty:
                continue
            if follower.may_read_all or (key in dirty and _reads(follower, key)):
                dirty[follower.key] = key
                todo.append(follower.key)
            elif follower.key not in behind:
                behind.add(follower.key)
                todo.append(follower.key)
    return {key: origin for key, origin in dirty.items() if origin}


def _reads(node: Node, key: str) -> bool:
    if node.edges[key] == Rule.NEEDS:
        return True
    return node.takes_previous and node.previous is not None and node.previous.key == key


def is_skipped(record: TaskRecord) -> bool:
    """Return whether a task was skipped, and nothing has been discarded since."""
    last = record.attempts[-1] if record.attempts else None
    return last is not None and last.status is AttemptStatus.SKIPPED and last.generation == record.generation


def is_finished(decisions: Mapping[str, Decision], records: Mapping[str, TaskRecord]) -> bool:
    """Return whether a task whose result is kept has said that the run is done."""
    return any(
        decision.restored and records[key].attempts[-1].metadata.get(SIGNAL) == Finish.word
        for key, decision in decisions.items()
        if key in records
    )


def settled(graph: Graph, decisions: Mapping[str, Decision], *, finished: bool = False) -> bool:
    """Return whether nothing of a run is left to do: all is restored, skipped, or needs what was skipped.

    Of one that is finished: whether nothing is computed anew.
    """
    if finished:
        read_first = any(node.is_map and node.items is None for node in graph.values())
        return not read_first and not any(decision.discard for decision in decisions.values())
    without = {key for key, decision in decisions.items() if decision.skipped and key in graph}
    todo = list(without)
    while todo:
        needed = todo.pop()
        for follower in graph[needed].followers:
            if follower.edges[needed] == Rule.NEEDS and follower.key not in without:
                without.add(follower.key)
                todo.append(follower.key)
    return all(
        node.key in without
        # what a map over a result has to run is known only when that is read
        or (
            not (node.is_map and node.items is None)
            and all(decisions[unit.key].restored or decisions[unit.key].skipped for unit in units(node))
        )
        for node in graph.values()
    )


def _why_skipped(record: TaskRecord) -> str:
    metadata = record.attempts[-1].metadata
    return str(metadata.get(SIGNAL_REASON) or metadata.get(SIGNAL) or "it was skipped")


def _why_missing(record: TaskRecord | None) -> str:
    if record is None or not record.attempts:
        return "nothing is recorded of it"
    last = record.attempts[-1]
    if last.error is not None:
        return f"attempt {last.number} failed: {last.error.exception}: {last.error.message}"
    if last.status is AttemptStatus.RUNNING:
        return f"attempt {last.number} was under way when its process ended"
    return f"attempt {last.number} ended as {last.outcome or last.status}"


def _refusal(difference: str, key: str, workflow_id: str) -> InputChanged | CodeChanged:
    code = difference == "its code"
    option, again = ("on_code_change", "rerun") if code else ("on_input_change", "reset")
    return (CodeChanged if code else InputChanged)(
        f"task {key!r} of run {workflow_id}: {difference} is not what its result was computed "
        f"{'by' if code else 'from'}; give {option}='reuse' to keep the result, {option}={again!r} to compute it "
        "anew, or another workflow_id"
    )
