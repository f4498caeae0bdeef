"""A workflow: named, versioned tasks in their order, as a value."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from dotflow_like import DeclarationError, Manager, PlanError, Workflow, task


@task
def one() -> int:
    return 1


@task
def two() -> int:
    return 2


class TestValue:
    def test_it_keeps_tasks_name_and_version(self) -> None:
        workflow = Workflow([one, two], name="nightly", version="7")
        assert (workflow.tasks, workflow.name, workflow.version) == ((one, two), "nightly", "7")

    def test_defaults(self) -> None:
        workflow = Workflow([one])
        assert (workflow.name, workflow.version) == ("workflow", None)

    def test_the_list_is_copied(self) -> None:
        tasks: list[Any] = [one]
        workflow = Workflow(tasks)
        tasks.append(two)
        assert workflow.tasks == (one,)

    def test_any_iterable_of_tasks(self) -> None:
        assert Workflow(each for each in (one, two)).tasks == Workflow((one, two)).tasks == (one, two)

    @pytest.mark.parametrize("word", ["tasks", "name", "version", "reactions", "cancel_if", "other"])
    def test_it_cannot_be_changed(self, word: str) -> None:
        workflow = Workflow([one])
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
            setattr(workflow, word, None)

    def test_equal_by_what_it_says(self) -> None:
        assert Workflow([one], name="a") == Workflow([one], name="a")
        assert Workflow([one], name="a") != Workflow([one], name="b")
        assert Workflow([one]) != Workflow([two])
        assert Workflow([one], on_exception="skip") == Workflow([one], on_exception="skip") != Workflow([one])
        assert Workflow([one], cancel_if=True) == Workflow([one], cancel_if=True) != Workflow([one])
        assert len({Workflow([one]), Workflow([one]), Workflow([two])}) == 2

    def test_it_can_be_copied(self) -> None:
        workflow = Workflow([one, two], name="nightly", version="7", on_exception="skip", cancel_if=False)
        assert copy.copy(workflow) == copy.deepcopy(workflow) == workflow

    def test_it_runs_any_number_of_times(self) -> None:
        workflow = Workflow([one])
        runs = [workflow.run(), workflow.run(), workflow.start().wait()]
        assert [run["one"].result for run in runs] == [1, 1, 1]
        assert len({run.workflow_id for run in runs}) == 3


class TestName:
    @pytest.mark.parametrize("name", ["a", "load", "load_2", "x9_y_", "a" * 200])
    def test_good(self, name: str) -> None:
        assert Workflow([one], name=name).name == name
        assert Manager([one], name=name)["one"].result == 1

    @pytest.mark.parametrize(
        "name",
        ["", "A", "Load", "2load", "_load", "a__b", "a-b", "a b", "a.b", "a/b", "é", "load\n", "a²", 3, None],
    )
    def test_bad(self, name: Any) -> None:
        with pytest.raises(
            DeclarationError, match=r"^workflow name .* does not do: use small letters"
        ) as refused:
            Workflow([one], name=name)
        assert repr(name) in str(refused.value)
        with pytest.raises(DeclarationError, match="does not do"):
            Manager([one], name=name)

    @pytest.mark.parametrize("version", [1, 1.0, ("1",)])
    def test_a_version_is_a_text(self, version: Any) -> None:
        with pytest.raises(DeclarationError, match=r"^workflow 'w': version is .*; give a text"):
            Workflow([one], name="w", version=version)


class TestTasks:
    @pytest.mark.parametrize("tasks", [one, "json:dumps", 5, None])
    def test_what_is_no_list(self, tasks: Any) -> None:
        with pytest.raises(
            DeclarationError, match=r"^workflow 'workflow': tasks is .*; give a list of tasks"
        ):
            Workflow(tasks)

    @pytest.mark.parametrize("thing", [5, None, [one], {"a": 1}])
    def test_something_that_is_no_task_says_where(self, thing: Any) -> None:
        with pytest.raises(
            DeclarationError,
            match=r"^tasks\[1\] is .*no task; give functions decorated with @task, or strings",
        ):
            Workflow([one, thing])

    def test_a_plain_function_says_how_it_becomes_one(self) -> None:
        def plain() -> None: ...

        with pytest.raises(
            DeclarationError, match=r"^tasks\[0\] is the function 'plain', which is no task; .*task\(plain\)"
        ):
            Workflow([plain])  # type: ignore[list-item]
        with pytest.raises(DeclarationError, match=r"task\(len\)"):
            Manager([len])  # type: ignore[list-item]

    def test_an_empty_list_is_refused_when_it_is_planned(self) -> None:
        workflow = Workflow([], name="nothing")
        for ask in (workflow.plan, workflow.run, workflow.start, lambda: Manager([], name="nothing")):
            with pytest.raises(PlanError, match=r"^workflow 'nothing' has no tasks; give at least one"):
                ask()

    def test_an_unknown_word_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'skip'"):
            Workflow([one], skip=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword argument 'skip'"):
            Workflow([one]).plan(skip=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword argument 'skip'"):
            Manager([one], skip=1)  # type: ignore[call-arg]
