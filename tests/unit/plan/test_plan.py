"""What `plan(...).explain()` says: task by task, what becomes of it and why."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    CodeChanged,
    Context,
    DotflowWarning,
    FileStorage,
    InputChanged,
    MemoryStorage,
    Task,
    TaskContext,
    Workflow,
    task,
)
from dotflow_like.testing import run_inline


def explained(*tasks: Task[..., Any], **options: Any) -> list[str]:
    return Workflow(tasks).plan(**options).explain().splitlines()


def quiet(tasks: object) -> None:
    """Take a failure as meant."""


@task
def load(n: int = 1) -> list[int]:
    return [n, n + 1]


@task
def double(x: Any = 0) -> Any:
    return x


class TestFresh:
    def test_a_chain(self) -> None:
        assert explained(load, double.bind(x=load)) == [
            "workflow, sequential: 2 tasks",
            "  load: run",
            "  double: run after load",
        ]

    def test_one_task(self) -> None:
        assert Workflow([load], name="nightly").plan(mode="parallel").explain() == (
            "nightly, parallel: 1 task\n  load: run"
        )

    def test_groups(self) -> None:
        grouped = double.with_options(group_name="g", task_id="other")
        assert explained(load, grouped) == [
            "workflow, sequential_group: 2 tasks",
            "  load: run",
            "  other: run after load",
        ]
        assert explained(load, grouped, mode="parallel")[2] == "  other: run"

    def test_several_to_wait_for(self) -> None:
        made = double.bind(x=[load]).after("json:dumps")
        assert explained(load, task("json:dumps").bind(obj=1), double.bind(x=1), mode="parallel")[0].endswith(
            "3 tasks"
        )
        needed = Workflow([load, "json:dumps", made]).tasks
        assert explained(load, needed[1], made, mode="parallel", params={"obj": 1})[3] == (
            "  double: run after load, dumps"
        )

    def test_maps(self) -> None:
        assert explained(load, double.map(x=load), double.map(x=[1, 2]), mode="parallel") == [
            "workflow, parallel: 3 tasks",
            "  load: run",
            "  double: map after load",
            "  double#2: map",
        ]

    def test_asking_runs_and_writes_nothing(self, tmp_path: Path) -> None:
        ran = []
        made = task(lambda: ran.append(1))
        place = tmp_path / "runs"
        for resume in (False, True):
            Workflow([made]).plan(storage=place, workflow_id="w", resume=resume).explain()
        assert ran == []
        assert not place.exists()

    def test_a_plan_is_the_same_however_often_it_is_made(self) -> None:
        workflow = Workflow([load, double.bind(x=load)])
        assert workflow.plan().explain() == workflow.plan().explain()


@pytest.fixture(params=["files", "memory"])
def keep(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Return the options by which a run is recorded and found again."""
    files = FileStorage(tmp_path / "runs", durability="process")
    storage = files if request.param == "files" else MemoryStorage()
    return {"storage": storage, "workflow_id": "w"}


class TestResumed:
    def test_an_id_not_known_yet_simply_starts(self, keep: dict[str, Any]) -> None:
        assert explained(load, **keep, resume=True)[1:] == ["  load: run"]

    def test_all_restored(self, keep: dict[str, Any]) -> None:
        tasks = load, double.bind(x=load)
        run_inline(tasks, **keep)
        assert explained(*tasks, **keep, resume=True) == [
            "workflow, sequential: 2 tasks",
            "  load: restored: completed by attempt 1",
            "  double: restored: completed by attempt 1",
        ]

    def test_which_attempt_completed_it(self, keep: dict[str, Any]) -> None:
        tries = iter([OSError("once"), None])

        @task(retry=2)
        def flaky() -> None:
            error = next(tries)
            if error:
                raise error

        run_inline([flaky], **keep)
        assert explained(flaky, **keep, resume=True)[1:] == ["  flaky: restored: completed by attempt 2"]

    def test_failed_and_missing(self, keep: dict[str, Any]) -> None:
        @task
        def fail() -> None:
            raise LookupError("mine")

        tasks = load, fail, double
        run_inline(tasks, on_failure=quiet, **keep)
        added = task(lambda: 1, name="added")
        assert explained(*tasks, added, **keep, resume=True)[1:] == [
            "  load: restored: completed by attempt 1",
            "  fail: run after load: attempt 1 failed: LookupError: mine",
            "  double: run after fail: nothing is recorded of it",
            "  added: run after double: nothing is recorded of it",
        ]

    def test_skipped(self, keep: dict[str, Any]) -> None:
        @task
        def fail() -> None:
            raise LookupError("mine")

        tasks = fail, double.bind(x=fail)
        run_inline(tasks, on_failure=quiet, keep_going=True, **keep)
        line = explained(*tasks, **keep, resume=True)[2]
        assert line.startswith("  double: run after fail: ")

    def test_a_map_says_how_many(self, keep: dict[str, Any]) -> None:
        @task
        def odd(x: int) -> int:
            if x % 2 == 0:
                raise LookupError("even")
            return x

        constant, over_result = odd.map(x=[1, 2, 3]), odd.map(x=load)
        run_inline([constant, load, over_result], on_failure=quiet, keep_going=True, **keep)
        lines = explained(constant, load, over_result, **keep, resume=True)
        assert lines[1] == "  odd: map, 2 of 3 restored"
        assert lines[3].startswith("  odd#2: map")

    def test_without_resume_all_runs_and_a_warning_is_due(self, keep: dict[str, Any]) -> None:
        run_inline([load], **keep)
        plan = Workflow([load]).plan(**keep)
        assert plan.explain().splitlines()[1:] == ["  load: run"]
        assert len(plan.warnings) == 1
        assert plan.warnings[0].startswith("run w is known and starts over")


class TestChangedInputs:
    def changed(self, keep: dict[str, Any], **options: Any) -> list[str]:
        first, second = load.bind(n=1), load.bind(n=2)
        tail = task(lambda x: x, name="tail")
        run_inline([first, tail.bind(x=first)], **keep)
        return explained(second, tail.bind(x=second), **keep, resume=True, **options)[1:]

    @pytest.mark.parametrize("options", [{}, {"on_input_change": "reuse"}])
    def test_reuse_keeps_it(self, keep: dict[str, Any], options: dict[str, Any]) -> None:
        assert self.changed(keep, **options) == [
            "  load: restored: though input 'n' changed",
            "  tail: restored: completed by attempt 1",
        ]

    def test_reset_runs_it_and_what_reads_it(self, keep: dict[str, Any]) -> None:
        assert self.changed(keep, on_input_change="reset") == [
            "  load: run: input 'n' changed",
            "  tail: run after load: it reads what 'load' computes anew",
        ]

    def test_raise_says_which_input(self, keep: dict[str, Any]) -> None:
        with pytest.raises(
            InputChanged, match=r"^task 'load' of run w: input 'n' is not what .*on_input_change='reuse'"
        ):
            self.changed(keep, on_input_change="raise")

    def test_reuse_and_reset_warn_differently(self, keep: dict[str, Any]) -> None:
        run_inline([load.bind(n=1)], **keep)
        workflow = Workflow([load.bind(n=2)])
        kept = workflow.plan(**keep, resume=True).warnings
        assert len(kept) == 1
        assert "load (input 'n' changed)" in kept[0]
        assert workflow.plan(**keep, resume=True, on_input_change="reset").warnings == ()
        with pytest.warns(DotflowWarning, match=r"load \(input 'n' changed\)"):
            assert run_inline(workflow, **keep, resume=True)["load"].result == [1, 2]

    def test_several_inputs(self, keep: dict[str, Any]) -> None:
        both = task(lambda a, b, c: 1, name="both")
        run_inline([both.bind(a=1, b=1, c=1)], **keep)
        lines = explained(both.bind(a=2, b=1, c=2), **keep, resume=True, on_input_change="reset")
        assert lines[1:] == ["  both: run: input 'a' and input 'c' changed"]

    def test_the_initial_context_and_params_are_inputs(self, keep: dict[str, Any]) -> None:
        made = task(lambda initial_context, day: 1, name="made")
        run_inline([made.with_options(initial_context=1)], params={"day": 1}, **keep)
        reset = {**keep, "resume": True, "on_input_change": "reset"}
        assert explained(made.with_options(initial_context=2), params={"day": 2}, **reset)[1:] == [
            "  made: run: input 'day' and input 'initial_context' changed"
        ]

    def test_only_the_items_that_changed(self, keep: dict[str, Any]) -> None:
        run_inline([load.map(n=[1, 2, 3])], **keep)
        lines = explained(load.map(n=[1, 5, 3, 4]), **keep, resume=True, on_input_change="reset")
        assert lines[1:] == ["  load: map, 2 of 4 restored"]

    def test_the_callers_own_fingerprint(self, keep: dict[str, Any]) -> None:
        run_inline([load.bind(n=1)], fingerprint="v1", **keep)
        reset = {**keep, "resume": True, "on_input_change": "reset"}
        assert explained(load.bind(n=2), fingerprint="v1", **reset)[1:] == [
            "  load: restored: completed by attempt 1"
        ]
        assert explained(load.bind(n=1), fingerprint="v2", **reset)[1:] == [
            "  load: run: input 'fingerprint' changed"
        ]

    def test_from_one_kind_of_fingerprint_to_the_other_every_input_changes(
        self, keep: dict[str, Any]
    ) -> None:
        run_inline([load.bind(n=1), double], fingerprint="v1", **keep)
        reset = {**keep, "resume": True, "on_input_change": "reset"}
        lines = explained(load.bind(n=1), double, **reset)[1:]
        assert [line.split(":")[1] for line in lines] == [" run", " run after load"]


Sourced = Callable[[str], Task[..., Any]]


@pytest.fixture
def sourced(tmp_path: Path) -> Sourced:
    """Make the text of a function, `body`, a task that has a source."""
    made = []

    def make(text: str) -> Task[..., Any]:
        made.append(text)
        file = tmp_path / f"source{len(made)}.py"
        file.write_text(textwrap.dedent(text), encoding="utf-8")
        space: dict[str, Any] = {"__name__": "sourced", "__file__": str(file)}
        exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), space)
        return task(space["body"])

    return make


class TestChangedCode:
    @pytest.mark.parametrize("policy", ["reuse", "rerun", "raise"])
    def test_under_each_policy(self, keep: dict[str, Any], sourced: Sourced, policy: str) -> None:
        before, after = sourced("def body(): return 1"), sourced("def body(): return 2")
        run_inline([before, double.bind(x=before)], **keep)
        ask = {**keep, "resume": True, "on_code_change": policy}
        tasks = after, double.bind(x=after)
        if policy == "raise":
            with pytest.raises(
                CodeChanged, match=r"^task 'body' of run w: its code is not .*on_code_change='reuse'"
            ):
                explained(*tasks, **ask)
            return
        assert (
            explained(*tasks, **ask)[1:]
            == {
                "reuse": [
                    "  body: restored: though its code changed",
                    "  double: restored: completed by attempt 1",
                ],
                "rerun": [
                    "  body: run: its code changed",
                    "  double: run after body: it reads what 'body' computes anew",
                ],
            }[policy]
        )

    def test_layout_is_no_change(self, keep: dict[str, Any], sourced: Sourced) -> None:
        before = sourced("def body():\n    return (1)")
        after = sourced('def body():\n  """Say."""\n\n  return (\n    1  # one\n  )\n')
        run_inline([before], **keep)
        assert explained(after, **keep, resume=True, on_code_change="raise")[1:] == [
            "  body: restored: completed by attempt 1"
        ]

    def test_a_version_stands_for_the_source(self, keep: dict[str, Any], sourced: Sourced) -> None:
        before, after = sourced("def body(): return 1"), sourced("def body(): return 2")
        run_inline([before.with_options(version="1")], **keep)
        ask = {**keep, "resume": True, "on_code_change": "rerun"}
        assert explained(after.with_options(version="1"), **ask)[1:] == [
            "  body: restored: completed by attempt 1"
        ]
        assert explained(before.with_options(version="2"), **ask)[1:] == ["  body: run: its code changed"]

    def test_inputs_and_code(self, keep: dict[str, Any]) -> None:
        run_inline([load.bind(n=1).with_options(version="1")], **keep)
        ask = {**keep, "resume": True}
        made = load.bind(n=2).with_options(version="2")
        both = "input 'n' and its code changed"
        assert explained(made, **ask)[1:] == [f"  load: restored: though {both}"]
        assert explained(made, **ask, on_input_change="reset", on_code_change="rerun")[1:] == [
            f"  load: run: {both}"
        ]
        assert explained(made, **ask, on_code_change="rerun")[1:] == ["  load: run: its code changed"]

    def test_policies_are_no_code(self, keep: dict[str, Any]) -> None:
        run_inline([load], **keep)
        made = load.with_options(
            retry=5, timeout=9, callback=lambda task: None, retry_delay=1, group_name="g"
        )
        strict = {"resume": True, "on_input_change": "raise", "on_code_change": "raise"}
        assert explained(made, **keep, **strict, mode="parallel", max_workers=3)[1:] == [
            "  load: restored: completed by attempt 1"
        ]


class TestDownstream:
    """What is computed anew because something before it is."""

    def runs_anew(self, keep: dict[str, Any], *others: Task[..., Any], mode: str = "sequential") -> set[str]:
        run_inline([load.with_options(version="1"), *others], mode=mode, **keep)
        changed = load.with_options(version="2")
        plan = Workflow([changed, *others]).plan(mode=mode, **keep, resume=True, on_code_change="rerun")
        return {key for key, decision in plan.decisions.items() if not decision.restored}

    def test_by_bind_also_through_others(self, keep: dict[str, Any]) -> None:
        one = double.bind(x=load).with_options(task_id="one")
        two = double.bind(x=[one]).with_options(task_id="two")
        free = double.with_options(task_id="free")
        assert self.runs_anew(keep, one, free, two) == {"load", "one", "two"}

    def test_by_the_previous_context(self, keep: dict[str, Any]) -> None:
        taker = task(lambda previous_context: 1, name="taker")
        far = task(lambda previous_context: 1, name="far")
        last = task(lambda previous_context: 1, name="last")
        assert self.runs_anew(keep, taker, far) == {"load", "taker", "far"}
        keep["workflow_id"] = "other"
        assert self.runs_anew(keep, double, last) == {"load"}

    def test_by_the_task_context(self, keep: dict[str, Any]) -> None:
        def asks(ctx: TaskContext) -> int:
            return 1

        asker = task(asks)
        assert self.runs_anew(keep, double, asker) == {"load", "asks"}

    def test_order_alone_is_no_reason(self, keep: dict[str, Any]) -> None:
        assert self.runs_anew(keep, double, double.after(load)) == {"load"}

    def test_a_previous_context_of_another_group_is_none(self, keep: dict[str, Any]) -> None:
        other = task(lambda previous_context: 1, name="other", group_name="g")
        assert self.runs_anew(keep, other) == {"load"}

    def test_in_parallel(self, keep: dict[str, Any]) -> None:
        asker = task(lambda ctx: 1, name="asker")
        reader = double.bind(x=load)
        assert self.runs_anew(keep, asker, reader, mode="parallel") == {"load", "double"}

    def test_a_map_over_it_and_what_reads_the_map(self, keep: dict[str, Any]) -> None:
        mapped = double.map(x=load).with_options(task_id="mapped")
        reader = double.bind(x=mapped).with_options(task_id="reader")
        assert "reader" in self.runs_anew(keep, mapped, reader)
        changed = load.with_options(version="3")
        lines = explained(changed, mapped, reader, **keep, resume=True, on_code_change="rerun")
        assert lines[1:] == [
            "  load: run: its code changed",
            "  mapped: map after load",
            "  reader: run after mapped: it reads what 'mapped' computes anew",
        ]

    def test_a_class_whose_methods_see_the_one_before(self, keep: dict[str, Any]) -> None:
        @task
        class Steps:
            @task
            def step(self, previous_context: Context) -> int:
                return 1

        assert self.runs_anew(keep, Steps) == {"load", "Steps"}
