"""What a resumed run restores and what it runs: the decisions, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    Attempt,
    AttemptOutcome,
    AttemptStatus,
    CodeChanged,
    DotflowWarning,
    FileStorage,
    FingerprintError,
    InputChanged,
    MemoryStorage,
    OnChange,
    Task,
    TaskError,
    TaskStatus,
    Workflow,
    task,
)
from dotflow_like.model.records import RESULT, Checkpoint, Held, TaskRecord
from dotflow_like.plan.plan import Plan
from dotflow_like.plan.resume import OnChanges, decide, warnings_of
from dotflow_like.testing import run_inline

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def record(
    node_of: Plan,
    key: str,
    *,
    value: Any = 1,
    outcome: AttemptOutcome | None = AttemptOutcome.SUCCESS,
    status: AttemptStatus = AttemptStatus.COMPLETED,
    error: TaskError | None = None,
) -> TaskRecord:
    """Return the record of a task as a run of this very plan would have left it."""
    attempt = Attempt("w", key, 1, status, outcome, NOW, NOW, NOW, "host:1:x", 1, error=error)
    if status is not AttemptStatus.COMPLETED:
        return TaskRecord(key, (attempt,))
    nodes = {unit.key: unit for node in node_of.graph.values() for unit in [node, *(node.items or [])]}
    inputs, code = node_of.identities.of(nodes[key])
    return TaskRecord(key, (attempt,), {RESULT: Checkpoint(key, RESULT, Held(value), inputs, code)})


def decided(plan: Plan, *records: TaskRecord, **policies: Any) -> dict[str, tuple[bool, bool]]:
    """Return, by key, whether it is restored and whether what is recorded is discarded."""
    changes = OnChanges(**{word: OnChange(value) for word, value in policies.items()})
    found, _ = decide(plan.graph, {each.task_id: each for each in records}, plan.identities, changes, "w")
    return {key: (decision.restored, decision.discard) for key, decision in found.items()}


@task(version="1")
def load(n: int = 1) -> int:
    return n


@task(version="1")
def double(x: Any = 0) -> Any:
    return x


RESTORED, RUN, ANEW = (True, False), (False, False), (False, True)


class TestDecisions:
    def test_a_checkpoint_is_all_it_takes(self) -> None:
        plan = Workflow([load, double]).plan()
        assert decided(plan, record(plan, "load")) == {"load": RESTORED, "double": RUN}

    @pytest.mark.parametrize("value", [None, False, 0, "", []])
    def test_presence_means_done_whatever_the_value(self, value: Any) -> None:
        plan = Workflow([load]).plan()
        assert decided(plan, record(plan, "load", value=value)) == {"load": RESTORED}

    @pytest.mark.parametrize(
        ("status", "outcome", "error", "reason"),
        [
            (
                AttemptStatus.FAILED,
                AttemptOutcome.FAILED,
                TaskError(1, "OSError", "no disk"),
                "attempt 1 failed: OSError: no disk",
            ),
            (AttemptStatus.RUNNING, None, None, "attempt 1 was under way when its process ended"),
            (AttemptStatus.CANCELLED, AttemptOutcome.PAUSED, None, "attempt 1 ended as paused"),
            (AttemptStatus.SKIPPED, AttemptOutcome.SKIPPED, None, "it was skipped"),
        ],
    )
    def test_without_one_it_runs_and_the_reason_says_what_it_came_to(
        self, status: AttemptStatus, outcome: AttemptOutcome | None, error: TaskError | None, reason: str
    ) -> None:
        plan = Workflow([load]).plan()
        known = record(plan, "load", status=status, outcome=outcome, error=error)
        found, warnings = decide(plan.graph, {"load": known}, plan.identities, OnChanges(), "w")
        assert (found["load"].restored, found["load"].discard, found["load"].reason) == (False, False, reason)
        assert warnings == []

    def test_what_has_nothing_recorded_discards_nothing_when_what_it_reads_changed(self) -> None:
        before = Workflow([load.bind(n=1), double]).plan()
        first = load.bind(n=2)
        plan = Workflow([first, double.bind(x=first)]).plan()
        assert decided(plan, record(before, "load"), inputs="reset") == {"load": ANEW, "double": RUN}

    def test_each_item_of_a_map_is_decided_for_itself(self) -> None:
        before = Workflow([load.map(n=[1, 2, 3])]).plan()
        plan = Workflow([load.map(n=[1, 9, 3, 4])]).plan()
        records = [record(before, f"load[{i}]") for i in range(3)]
        assert decided(plan, *records, inputs="reset") == {
            "load[0]": RESTORED,
            "load[1]": ANEW,
            "load[2]": RESTORED,
            "load[3]": RUN,
        }

    def test_a_moved_task_keeps_its_checkpoint(self) -> None:
        before = Workflow([load, double]).plan()
        plan = Workflow([double, load], name="other").plan(mode="parallel")
        records = [record(before, key) for key in ("load", "double")]
        assert decided(plan, *records, inputs="raise", code="raise") == {"load": RESTORED, "double": RESTORED}

    def test_to_bind_another_task_is_another_input(self) -> None:
        other = load.with_options(task_id="other")
        before = Workflow([load, other, double.bind(x=load)]).plan()
        plan = Workflow([load, other, double.bind(x=other)]).plan()
        records = [record(before, key) for key in ("load", "other", "double")]
        assert decided(plan, *records, inputs="reset")["double"] == ANEW
        gathered = Workflow([load, other, double.bind(x=[other, load])]).plan()
        turned = Workflow([load, other, double.bind(x=[load, other])]).plan()
        records[2] = record(gathered, "double")
        assert decided(gathered, *records, inputs="raise")["double"] == RESTORED
        assert decided(turned, *records, inputs="reset")["double"] == ANEW

    def test_policies_for_inputs_and_code_are_apart(self) -> None:
        before = Workflow([load.bind(n=1)]).plan()
        known = record(before, "load")
        other_input = Workflow([load.bind(n=2)]).plan()
        other_code = Workflow([load.bind(n=1).with_options(version="2")]).plan()
        assert decided(other_input, known, inputs="reset", code="raise") == {"load": ANEW}
        assert decided(other_code, known, inputs="raise", code="rerun") == {"load": ANEW}
        assert decided(other_input, known, code="rerun") == {"load": RESTORED}
        with pytest.raises(InputChanged):
            decided(other_input, known, inputs="raise")
        with pytest.raises(CodeChanged):
            decided(other_code, known, code="raise")

    def test_a_function_without_source_or_version_cannot_be_compared(self) -> None:
        space: dict[str, Any] = {"__name__": "typed_at_a_prompt"}
        exec("def made(): return 1", space)
        plan = Workflow([task(space["made"])]).plan()
        known = record(plan, "made")
        assert decided(plan, known) == {"made": RESTORED}
        for policy in ("rerun", "raise"):
            with pytest.raises(
                FingerprintError, match=r"^task 'made' has no source to compare; give it a version="
            ):
                decided(plan, known, code=policy)

    def test_many_doubtful_results_make_one_short_warning(self) -> None:
        before = Workflow([load.bind(n=1)] * 12).plan()
        plan = Workflow([load.bind(n=2)] * 12).plan()
        records = {key: record(before, key) for key in before.graph}
        found, warnings = decide(plan.graph, records, plan.identities, OnChanges(), "w")
        assert len(warnings) == 1
        assert "load#5 (input 'n' changed) and 7 more" in warnings[0]
        assert "on_input_change='reset'" in warnings[0]
        assert warnings_of(found, "w") == warnings


@pytest.fixture(params=["files", "memory"])
def keep(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return the options by which a run is recorded and found again."""
    files = FileStorage(tmp_path / "runs", durability="process")
    storage = files if request.param == "files" else MemoryStorage()
    return {"storage": storage, "workflow_id": "w"}


def counting(name: str, ran: list[str]) -> Task[..., Any]:
    def body(x: Any = 0) -> Any:
        ran.append(name)
        return x

    return task(body, name=name, version="1")


Change = Callable[[Task[..., Any]], Task[..., Any]]
INPUT: Change = lambda made: made.bind(x=2)  # noqa: E731  # a pair of words for a change
CODE: Change = lambda made: made.with_options(version="2")  # noqa: E731


class TestRuns:
    """What a resumed run does with the decisions."""

    @pytest.mark.parametrize(
        ("change", "option", "again"),
        [(INPUT, "on_input_change", "reset"), (CODE, "on_code_change", "rerun")],
    )
    def test_each_policy(self, keep: dict[str, Any], change: Change, option: str, again: str) -> None:
        ran: list[str] = []
        first = counting("first", ran)
        tail = counting("tail", ran)
        run_inline([first.bind(x=1), tail.bind(x=first)], **keep)
        ran.clear()
        changed = change(first.bind(x=1))
        tasks = [changed, tail.bind(x=first)]
        resume = {**keep, "resume": True}

        with pytest.warns(DotflowWarning, match="changed"):
            run = run_inline(tasks, **resume, **{option: "reuse"})
        assert ran == []
        assert run["first"].restored
        assert dict(run.results) == {"first": 1, "tail": 1}

        with pytest.raises((InputChanged, CodeChanged)):
            run_inline(tasks, **resume, **{option: "raise"})
        assert ran == []

        run = run_inline(tasks, **resume, **{option: again})  # the stored fingerprint was kept until now
        assert ran == ["first", "tail"]
        assert not run["first"].restored
        assert [attempt.number for attempt in run["first"].attempts] == [1, 2]
        assert [attempt.generation for attempt in run["first"].attempts] == [1, 2]

        ran.clear()
        run = run_inline(tasks, **resume, **{option: "raise"})  # and now it is today's
        assert ran == []
        assert all(each.restored for each in run.tasks)

    def test_failed_and_missing_tasks_run(self, keep: dict[str, Any]) -> None:
        ran: list[str] = []
        good, after = counting("good", ran), counting("after", ran)
        errors = [LookupError("once")]

        @task
        def fails() -> str:
            ran.append("fails")
            if errors:
                raise errors.pop()
            return "done"

        first = run_inline([good, fails, after], on_failure=lambda tasks: None, **keep)
        assert first["after"].status is TaskStatus.PENDING
        assert ran == ["good", "fails"]
        ran.clear()
        run = run_inline([good, fails, after], resume=True, **keep).raise_for_failure()
        assert ran == ["fails", "after"]
        assert [each.restored for each in run.tasks] == [True, False, False]

    def test_a_completed_run_restores_everything_and_changes_nothing(self, keep: dict[str, Any]) -> None:
        ran: list[str] = []
        tasks = [counting("first", ran), counting("second", ran)]
        before = run_inline(tasks, **keep)
        after = run_inline(tasks, resume=True, **keep)
        assert ran == ["first", "second"]
        assert after.attempts == before.attempts

    def test_starting_over_on_a_known_id_warns_and_keeps_the_attempts(self, keep: dict[str, Any]) -> None:
        ran: list[str] = []
        first = counting("first", ran)
        run_inline([first], **keep)
        with pytest.warns(DotflowWarning, match="^run w is known and starts over: .*resume=True goes on"):
            run = run_inline([first], **keep)
        assert ran == ["first", "first"]
        assert [(each.number, each.generation) for each in run["first"].attempts] == [(1, 1), (2, 2)]

    def test_an_input_that_cannot_be_hashed_asks_for_a_fingerprint_where_resume_is_asked_for(
        self, keep: dict[str, Any]
    ) -> None:
        made = load.bind(n=object())
        run = run_inline([made], mode="sequential", workflow_id="x")
        assert run["load"].status is TaskStatus.COMPLETED
        del keep["workflow_id"]
        noted = task(lambda x: 1, name="noted").bind(x=object())
        run_inline([noted], workflow_id="w", **keep).raise_for_failure()
        with pytest.raises(FingerprintError, match=r"task 'noted', parameter 'x'.*fingerprint="):
            Workflow([noted]).plan(workflow_id="w", resume=True, **keep)
        with pytest.raises(FingerprintError, match=r"task 'noted', parameter 'x'.*fingerprint="):
            Workflow([noted]).plan(workflow_id="not known yet", resume=True, **keep)
        run = run_inline([noted], workflow_id="w2", resume=True, fingerprint="mine", **keep)
        assert run["noted"].status is TaskStatus.COMPLETED
