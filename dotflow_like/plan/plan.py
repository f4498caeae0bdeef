"""A plan: what will run, in which order, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dotflow_like.declare.reactions import NO_REACTIONS, Reactions
from dotflow_like.declare.workflow import Definition
from dotflow_like.model.records import RESULT, TaskRecord
from dotflow_like.model.status import Mode
from dotflow_like.plan.graph import draw
from dotflow_like.plan.identity import Identities
from dotflow_like.plan.node import Graph
from dotflow_like.plan.resume import Decision, OnChanges, check_identities, decide, is_finished, settled

__all__ = ["Plan", "make_plan"]


_REUSE = OnChanges()


@dataclass(frozen=True, slots=True)
class Plan:
    """The tasks of a workflow as they will run in a mode.

    Attributes:
        workflow: name of the workflow.
        version: its version, None for none.
        mode: the mode that applies.
        graph: the nodes, by key.
        params: the run's params.
        identities: takes the fingerprints of its tasks.
        records: what is recorded of its tasks; of a run that starts over, to be discarded.
        resumed: whether it goes on from what is recorded.
        is_complete: whether it goes on, is recorded as completed, and has nothing to run.
        finished: whether a task whose result is kept has said that the run is done: nothing else begins.
        reactions: what the workflow says of exceptions.
        policies: what to do about changed inputs and code then.
        decisions: of a resumed run, what becomes of each task; empty for others.
        warnings: what its user should know.
    """

    workflow: str
    version: str | None
    mode: Mode
    graph: Graph
    params: Mapping[str, Any]
    identities: Identities
    records: Mapping[str, TaskRecord] = field(default_factory=dict)
    resumed: bool = False
    is_complete: bool = False
    finished: bool = False
    reactions: Reactions = NO_REACTIONS
    policies: OnChanges = _REUSE
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def explain(self) -> str:
        """Return, a line for each task, what becomes of it and why."""
        lines = [f"{self.workflow}, {self.mode}: {len(self.graph)} task{'s' if len(self.graph) > 1 else ''}"]
        for key, node in self.graph.items():
            waits = f" after {', '.join(node.edges)}" if node.edges else ""
            units = [item.key for item in node.items or ()] if node.is_map else [key]
            known = [self.decisions[unit] for unit in units if unit in self.decisions]
            restored = sum(decision.restored for decision in known)
            if node.is_map:
                of = f" of {len(node.items)}" if node.items is not None else ""
                word = f"map, {restored}{of} restored" if restored else "map"
                lines.append(f"  {key}: {word}{waits}")
            elif restored:
                though = "though " if known[0].doubtful else ""
                lines.append(f"  {key}: restored: {though}{known[0].reason}")
            elif known and known[0].skipped:
                lines.append(f"  {key}: skipped: {known[0].reason}")
            elif self.finished:
                lines.append(f"  {key}: skipped: the run is finished")
            else:
                why = f": {known[0].reason}" if known else ""
                lines.append(f"  {key}: run{waits}{why}")
        return "\n".join(lines)

    def going_on(
        self,
        records: Mapping[str, TaskRecord],
        policies: OnChanges,
        workflow_id: str,
        *,
        completed: bool = False,
    ) -> Plan:
        """Return the plan of a run that goes on from `records`, or is completed; raises what `decide` does."""
        decisions, warnings = decide(self.graph, records, self.identities, policies, workflow_id)
        all_restored = all(decision.restored for decision in decisions.values())
        finished = not all_restored and is_finished(decisions, records)
        is_complete = completed and settled(self.graph, decisions, finished=finished)
        return replace(
            self,
            records=records,
            decisions=decisions,
            policies=policies,
            resumed=True,
            is_complete=is_complete,
            finished=finished,
            warnings=tuple(warnings),
        )

    def discarded(self) -> list[str]:
        """Return the keys of which what is recorded is no longer valid."""
        return [key for key, decision in self.decisions.items() if decision.discard]

    def unfinished(self) -> list[str]:
        """Return, of a run that is known, the keys of which no result is recorded."""
        if self.resumed:
            return [key for key, each in self.decisions.items() if not (each.restored or each.skipped)]
        return [key for key, record in self.records.items() if RESULT not in record.checkpoints]

    def caught_up(self, records: Mapping[str, TaskRecord], workflow_id: str) -> Plan:
        """Return the plan with newer `records` of what was unfinished when it was made."""
        before = self.records
        if all(key in before and record.attempts == before[key].attempts for key, record in records.items()):
            return self
        newer = {**self.records, **records}
        if self.resumed:
            return self.going_on(newer, self.policies, workflow_id)
        return replace(self, records=newer)

    def starting_over(self, records: Mapping[str, TaskRecord], workflow_id: str) -> Plan:
        """Return the plan of a run whose id is known, and that discards what is recorded of it."""
        warning = (
            f"run {workflow_id} is known and starts over: its results are discarded, its attempts stay as "
            "history; resume=True goes on where it ended"
        )
        return replace(self, records=records, warnings=(warning,))


def make_plan(definition: Definition, mode: str, params: Mapping[str, Any], identities: Identities) -> Plan:
    """Return the plan of a run that has recorded nothing yet.

    Raises:
        PlanError: one of its kinds.
        FingerprintError: an input has none, and `identities` is strict.
    """
    applied, graph = draw(definition, mode, params)
    if identities.strict:
        check_identities(graph, identities)
    return Plan(
        definition.name,
        definition.version,
        applied,
        graph,
        params,
        identities,
        reactions=definition.reactions,
    )
