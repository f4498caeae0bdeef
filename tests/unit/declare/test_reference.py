"""`"package.module:attr"`: a task by its name."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import DeclarationError, Manager, Task, Workflow, task
from dotflow_like.testing import run_inline

_numbers = itertools.count()


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a package with tasks in it."""
    package = tmp_path / f"steps_for_test_{next(_numbers)}"  # modules stay loaded, so each test has its own
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "broken.py").write_text("raise LookupError('mine')\n")
    (package / "needy.py").write_text("import a_package_nobody_has\n")
    (package / "good.py").write_text(
        "from dotflow_like import task\n"
        "@task\ndef load():\n    return [1, 2]\n"
        "@task(retry=3)\ndef total(numbers):\n    return sum(numbers)\n"
        "def plain():\n    return 7\n"
        "class Place:\n    @staticmethod\n    def inside():\n        return 8\n"
        "number = 5\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return package.name


def test_it_stands_for_the_task(steps: str) -> None:
    workflow = Workflow([f"{steps}.good:load"])
    assert workflow.tasks[0].name == "load"
    assert run_inline(workflow)["load"].result == [1, 2]


def test_it_is_the_very_task_of_the_module(steps: str) -> None:
    found = task(f"{steps}.good:total")
    module = __import__(f"{steps}.good", fromlist=["_"])
    assert found is module.total
    assert found.policy.max_attempts == 3


def test_a_plain_function_becomes_a_task(steps: str) -> None:
    assert run_inline([f"{steps}.good:plain"])["plain"].result == 7


def test_one_string_is_one_task_also_of_a_plain_function(steps: str) -> None:
    name = f"{steps}.good:plain"
    assert task(name) is task(name)
    after = task(lambda: 1, name="after").after(name)
    assert list(Workflow([name, after]).plan().graph["after"].edges) == ["plain"]


def test_an_attribute_of_an_attribute(steps: str) -> None:
    assert run_inline([f"{steps}.good:Place.inside"])["inside"].result == 8


def test_options_and_binding_go_on_from_it(steps: str) -> None:
    load, total = task(f"{steps}.good:load"), task(f"{steps}.good:total", name="sum")
    assert isinstance(total, Task)
    assert run_inline([load, total.bind(numbers=load)])["sum"].result == 3


def test_a_manager_takes_it(steps: str) -> None:
    assert Manager(tasks=[f"{steps}.good:load"])["load"].result == [1, 2]


@pytest.mark.parametrize(
    "text",
    ["load", "", ":", ":load", "json:", "json.dumps", ".json:dumps", "json..x:y", "json.:x", "json:a..b"],
)
def test_a_text_of_another_form(text: str) -> None:
    with pytest.raises(DeclarationError, match=f"^'{text}' names no task; write it as 'package.module:attr'"):
        Workflow([text])
    with pytest.raises(DeclarationError, match="write it as"):
        task(text)


def test_no_such_module() -> None:
    name = "a_package_nobody_has.module:attr"
    with pytest.raises(DeclarationError, match=f"^'{name}': there is no module 'a_package_nobody_has'"):
        Workflow([name])


def test_a_module_that_lacks_another_one_says_which(steps: str) -> None:
    with pytest.raises(DeclarationError, match=r"needy:x': there is no module 'a_package_nobody_has'"):
        Workflow([f"{steps}.needy:x"])


def test_an_error_of_the_module_itself_is_its_own(steps: str) -> None:
    with pytest.raises(LookupError, match="mine"):
        Workflow([f"{steps}.broken:x"])


def test_no_such_attribute(steps: str) -> None:
    with pytest.raises(DeclarationError, match=r"good:missing': 'steps_for_test_\d+\.good' has no 'missing'"):
        Workflow([f"{steps}.good:missing"])


def test_something_that_is_no_function(steps: str) -> None:
    with pytest.raises(DeclarationError, match="good:number' is 5, which is neither a task nor a function"):
        Workflow([f"{steps}.good:number"])


def test_it_is_looked_up_once_more_after_a_failure(steps: str, tmp_path: Path) -> None:
    name = f"{steps}.later:late"
    with pytest.raises(DeclarationError, match="no module"):
        task(name)
    (tmp_path / steps / "later.py").write_text("def late(): return 1\n")
    importlib.invalidate_caches()
    found: Task[..., Any] = task(name)
    assert found() == 1
