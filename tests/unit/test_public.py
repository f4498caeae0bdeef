"""The public surface: what it is, that it is told, and where it lies."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest

import dotflow_like
from dotflow_like import errors

NAMES = [
    "ANY",
    "AmbiguousDependency",
    "Attempt",
    "AttemptOutcome",
    "AttemptStatus",
    "ClaimLost",
    "CodeChanged",
    "CodecError",
    "Config",
    "ConfigError",
    "Context",
    "CorruptCheckpoint",
    "CycleError",
    "DeclarationError",
    "DotflowError",
    "DotflowWarning",
    "DuplicateTask",
    "FileStorage",
    "FingerprintError",
    "IllegalMove",
    "InputChanged",
    "Manager",
    "MemoryStorage",
    "Metrics",
    "MissingExtra",
    "Mode",
    "NotSerializable",
    "OnChange",
    "PlanError",
    "RetryPolicy",
    "Run",
    "RunFailed",
    "RunInProgress",
    "RunStatus",
    "Storage",
    "StorageError",
    "TamperedCheckpoint",
    "Task",
    "TaskCancelled",
    "TaskContext",
    "TaskError",
    "TaskFailure",
    "TaskRun",
    "TaskStatus",
    "TaskTimeout",
    "Tracer",
    "UnfilledParameter",
    "UnknownDependency",
    "UnknownMode",
    "WorkerDied",
    "Workflow",
    "cancel",
    "pause",
    "register",
    "resume",
    "skip",
    "task",
]

# Each error with what it derives from.
TREE: dict[str, tuple[type[BaseException] | str, ...]] = {
    "DotflowWarning": (UserWarning,),
    "DotflowError": (Exception,),
    "DeclarationError": ("DotflowError", ValueError),
    "PlanError": ("DotflowError",),
    "CycleError": ("PlanError",),
    "DuplicateTask": ("PlanError",),
    "UnknownDependency": ("PlanError",),
    "AmbiguousDependency": ("PlanError",),
    "UnfilledParameter": ("PlanError",),
    "UnknownMode": ("PlanError",),
    "TaskFailure": ("DotflowError",),
    "TaskTimeout": ("TaskFailure", TimeoutError),
    "WorkerDied": ("TaskFailure",),
    "TaskCancelled": ("TaskFailure",),
    "RunFailed": ("DotflowError", ExceptionGroup),
    "RunInProgress": ("DotflowError",),
    "ClaimLost": ("DotflowError",),
    "IllegalMove": ("DotflowError",),
    "InputChanged": ("DotflowError",),
    "CodeChanged": ("DotflowError",),
    "FingerprintError": ("DotflowError",),
    "CodecError": ("DotflowError",),
    "NotSerializable": ("CodecError",),
    "CorruptCheckpoint": ("CodecError",),
    "TamperedCheckpoint": ("CodecError",),
    "StorageError": ("DotflowError",),
    "ConfigError": ("DotflowError",),
    "MissingExtra": ("ConfigError", ImportError),
}


class TestNames:
    def test_they_are_these_and_sorted(self) -> None:
        assert dotflow_like.__all__ == NAMES == sorted(NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_each_can_be_imported(self, name: str) -> None:
        space: dict[str, Any] = {}
        exec(f"from dotflow_like import {name}", space)
        assert space[name] is getattr(dotflow_like, name)

    def test_all_at_once(self) -> None:
        space: dict[str, Any] = {}
        exec("from dotflow_like import *", space)
        assert sorted(set(space) - {"__builtins__"}) == NAMES

    def test_dir_lists_them(self) -> None:
        assert set(NAMES) <= set(dir(dotflow_like))

    @pytest.mark.parametrize("name", ["anything", "Worker", "_private", "__path"])
    def test_an_unknown_name_is_an_attribute_error(self, name: str) -> None:
        with pytest.raises(AttributeError, match=f"^module 'dotflow_like' has no attribute '{name}'$"):
            getattr(dotflow_like, name)
        with pytest.raises(ImportError):
            exec(f"from dotflow_like import {name}")

    def test_what_a_type_checker_is_told_is_what_is_there(self) -> None:
        source = inspect.getsource(dotflow_like)
        told = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
        imported = re.findall(r"import \(([^)]*)\)|import (.+)", told)
        names = [name.strip() for pair in imported for name in "".join(pair).split(",") if name.strip()]
        assert sorted(names) == NAMES


class TestErrors:
    def test_they_are_these_and_sorted(self) -> None:
        assert errors.__all__ == sorted(TREE)
        assert set(TREE) <= set(NAMES)

    @pytest.mark.parametrize("name", sorted(TREE))
    def test_each_is_one_class_in_both_places(self, name: str) -> None:
        assert getattr(errors, name) is getattr(dotflow_like, name)
        assert getattr(errors, name).__module__ == "dotflow_like.errors"

    @pytest.mark.parametrize("name", sorted(TREE))
    def test_each_has_its_place_in_the_tree(self, name: str) -> None:
        wanted = tuple(getattr(errors, base) if isinstance(base, str) else base for base in TREE[name])
        assert getattr(errors, name).__bases__ == wanted

    def test_the_tree_that_is_drawn_is_the_tree(self) -> None:
        drawn: dict[str, str] = {}
        above: list[str] = []
        for line in inspect.cleandoc(errors.__doc__ or "").splitlines():
            found = re.match(r"([│├└─ ]*)([A-Z]\w+)(?:\s|$)", line)
            if found is None or found[2] not in TREE:
                continue
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else "Exception"
        known = {name: bases[0] for name, bases in TREE.items() if name != "DotflowWarning"}
        assert drawn == {
            name: base if isinstance(base, str) else base.__name__ for name, base in known.items()
        }

    def test_every_error_of_the_module_is_public(self) -> None:
        defined = {
            name
            for name, value in vars(errors).items()
            if isinstance(value, type)
            and issubclass(value, BaseException)
            and value.__module__ == errors.__name__
        }
        assert defined == set(TREE)

    @pytest.mark.parametrize("name", sorted(set(TREE) - {"RunFailed", "DotflowWarning"}))
    def test_each_can_be_raised_with_a_text(self, name: str) -> None:
        with pytest.raises(errors.DotflowError, match=r"^what happened$"):
            raise getattr(errors, name)("what happened")

    def test_a_failed_run_is_a_group_that_can_be_taken_apart(self) -> None:
        group = errors.RunFailed("two", [ValueError("a"), OSError("b")])
        matched, rest = group.split(ValueError)
        assert isinstance(matched, errors.RunFailed)
        assert isinstance(rest, errors.RunFailed)
        assert [str(each) for each in (*matched.exceptions, *rest.exceptions)] == ["a", "b"]
        with pytest.raises(errors.RunFailed):
            raise group


def members() -> Iterator[tuple[str, object]]:
    """Give everything public with its name."""
    for name in NAMES:
        value = getattr(dotflow_like, name)
        yield name, value
        if isinstance(value, type):
            for word, member in vars(value).items():
                if not word.startswith("_") and not isinstance(value, type(Enum)):
                    described = isinstance(
                        member, property | classmethod | staticmethod
                    ) or inspect.isfunction(member)
                    if described:
                        yield f"{name}.{word}", getattr(value, word)


DESCRIBED = dict(members())


class TestDocumentation:
    @pytest.mark.parametrize("name", [name for name in DESCRIBED if name != "ANY"])
    def test_each_has_a_docstring(self, name: str) -> None:
        value = DESCRIBED[name]
        text = inspect.getdoc(value)
        assert text
        first = text.splitlines()[0]
        assert first.rstrip(".:") != name
        assert re.search(r"[.;:]$|[.:;] |$", first)
        if isinstance(value, type) and value.__mro__[1] is not object:
            assert text != inspect.getdoc(value.__mro__[1]), "inherited, so it says nothing of its own"

    def test_the_methods_of_a_run_are_among_them(self) -> None:
        for name in ("Run.wait", "Run.cancel", "Run.pause", "Workflow.plan", "Workflow.run", "Task.bind"):
            assert name in DESCRIBED

    @pytest.mark.parametrize("name", ["task", "Manager", "Workflow", "RetryPolicy", "Config", "Context"])
    def test_every_argument_is_described(self, name: str) -> None:
        value = getattr(dotflow_like, name)
        text = inspect.getdoc(value) or ""
        described = set(re.findall(r"^ +(\w+): ", text.partition("Args:")[2], re.MULTILINE))
        if name == "task":
            from dotflow_like.declare.options import Options

            assert set(Options.__annotations__) <= described
            return
        parameters = set(inspect.signature(value).parameters) - {"self"}
        assert parameters <= described

    def test_the_words_of_a_run_are_those_of_the_manager(self) -> None:
        from dotflow_like.config import Order, RunOptions

        manager = list(inspect.signature(dotflow_like.Manager).parameters)
        of_workflow = set(inspect.signature(dotflow_like.Workflow).parameters)
        assert of_workflow == {"tasks", "name", "version", "on_exception", "cancel_if"} <= set(manager)
        words = [word for word in manager if word not in of_workflow]
        assert words == list(inspect.signature(Order).parameters)
        assert words == list(RunOptions.__annotations__)
        assert manager[:10] == [
            "tasks",
            "on_success",
            "on_failure",
            "mode",
            "keep_going",
            "workflow_id",
            "resume",
            "on_input_change",
            "fingerprint",
            "config",
        ]

    def test_the_options_of_a_task_are_these(self) -> None:
        from dotflow_like.declare.options import Options

        assert set(Options.__annotations__) == {
            "name", "task_id", "group_name", "initial_context", "callback", "retry", "retry_delay", "backoff",
            "timeout", "retry_on", "isolate", "version", "on_exception", "skip_if", "run_if",
        }  # fmt: skip
