"""Nothing happens on import, and what is heavy is loaded when it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import dotflow_like

HEAVY = [
    "asyncio",
    "cloudpickle",
    "concurrent.futures",
    "multiprocessing",
    "numpy",
    "opentelemetry",
    "pandas",
    "prometheus_client",
    "pydantic",
    "pytest",
    "sqlite3",
    "subprocess",
]


def loaded_by(script: str, folder: Path) -> dict[str, Any]:
    """Run a script in a fresh interpreter, and return what it had loaded and started at its end."""
    script = (
        "import sys, threading\nbefore = set(sys.modules)\n"
        + textwrap.dedent(script)
        + textwrap.dedent("""
        import json
        threads = [thread.name for thread in threading.enumerate()]
        print(json.dumps({"modules": sorted(set(sys.modules) - before - {"json"}), "threads": threads}))
        """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_importing_the_package_loads_none_of_its_modules(tmp_path: Path) -> None:
    found = loaded_by("import dotflow_like", tmp_path)
    assert [name for name in found["modules"] if name.startswith("dotflow_like")] == ["dotflow_like"]


def test_importing_every_name_writes_nothing_and_starts_nothing(tmp_path: Path) -> None:
    found = loaded_by("from dotflow_like import *", tmp_path)
    assert found["threads"] == ["MainThread"]
    assert list(tmp_path.iterdir()) == []
    assert [name for name in HEAVY if name in found["modules"]] == []


def test_every_module_of_the_package_can_be_imported_alone(tmp_path: Path) -> None:
    root = Path(dotflow_like.__file__).parent
    modules = [
        ".".join(path.relative_to(root.parent).with_suffix("").parts)
        for path in root.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py", "storage_contract.py")
    ]
    assert len(modules) > 40
    script = f"""
    import importlib
    for name in {sorted(modules)}:
        importlib.import_module(name)
    """
    found = loaded_by(script, tmp_path)
    assert found["threads"] == ["MainThread"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", ["", ", storage='runs'"])
def test_a_sequential_run_loads_nothing_heavy(tmp_path: Path, options: str) -> None:
    found = loaded_by(
        f"""
        from dotflow_like import Manager, task

        @task(retry=2)
        def load(n: int = 1) -> int:
            return n

        @task
        def double(x: int, previous_context) -> int:
            return 2 * x

        run = Manager([load, double.bind(x=load)]{options})
        assert run.raise_for_failure()[double].result == 2
        """,
        tmp_path,
    )
    assert found["threads"] == ["MainThread"]
    heavy = [name for name in HEAVY if name in found["modules"]]
    assert heavy == []
    assert [path.name for path in tmp_path.iterdir()] == (["runs"] if options else [])


def test_the_package_says_it_is_typed() -> None:
    assert (Path(dotflow_like.__file__).parent / "py.typed").is_file()
