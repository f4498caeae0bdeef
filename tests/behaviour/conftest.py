"""What the tests of behaviour share: the ways to run, meetings, conditions, scripts."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager
from dotflow_like.testing import FakeClock

WAYS: dict[str, dict[str, Any]] = {
    "sequential": {"mode": "sequential"},
    "sequential_group": {"mode": "sequential_group"},
    "background": {"mode": "background"},
    "processes": {"mode": "parallel", "max_workers": 2},
    "threads": {"mode": "parallel", "executor": "thread", "max_workers": 2},
    "inline": {"mode": "parallel", "executor": "inline"},
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The options of each mode and executor in turn."""
    return dict(WAYS[request.param])


@pytest.fixture
def run_in(way: dict[str, Any]) -> Callable[..., Manager]:
    """A function that runs tasks in each mode in turn, and returns the run when it has ended."""

    def run(tasks: list[Any], **options: Any) -> Manager:
        return Manager(tasks, **(way | options)).wait()

    return run


@pytest.fixture
def meet(tmp_path: Path) -> Callable[[str, int], None]:
    """A function that returns only when so many callers, in whatever processes, are in it at once."""
    folder = tmp_path / "meeting"
    folder.mkdir()

    def meet(name: str, size: int) -> None:
        (folder / name).touch()
        deadline = time.monotonic() + 30
        while sum(1 for _ in folder.iterdir()) < size:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} waits alone")
            time.sleep(0.002)

    return meet


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs a program text as a script of its own, and returns how it ended."""

    def run(text: str, *args: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "script.py"
        path.write_text(text)
        return subprocess.run(
            [sys.executable, "-W", "error", str(path), *args],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )

    return run


@pytest.fixture
def hours_pass() -> Callable[..., AbstractContextManager[FakeClock]]:
    """A function for a `with`: by a fake clock, time stands still until `after`, then flies until `before`."""

    @contextmanager
    def passing(after: Callable[[], bool], before: Callable[[], bool]) -> Iterator[FakeClock]:
        ended = threading.Event()

        def pass_time() -> None:
            while not ended.wait(0.002):
                if after() and not before():
                    clock.advance(60)

        with FakeClock() as clock:
            thread = threading.Thread(target=pass_time)
            thread.start()
            try:
                yield clock
            finally:
                ended.set()
                thread.join()

    return passing
