"""What authors of tasks and storages test with.

* `FakeClock`: time that tests own, so that no test waits for a retry's delay.
* `run_inline`: a workflow run at once in the test's own thread, without waits and without workers.
* `run_task`: likewise one task, without those it needs.
* `Steps`: likewise a workflow, task by task.
* `ran`, `assert_ran`: what has run in a run.
* `StorageContract`: the tests every storage passes; needs pytest.
* `ExecutorContract`: likewise, for what runs the bodies of tasks.
* `JournalContract`: likewise, for what keeps the rows of runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from dotflow_like.testing.fake_clock import FakeClock
from dotflow_like.testing.inline import run_inline, run_task
from dotflow_like.testing.ran import assert_ran, ran
from dotflow_like.testing.steps import Steps

if TYPE_CHECKING:
    from dotflow_like.testing.executor_contract import ExecutorContract
    from dotflow_like.testing.journal_contract import JournalContract
    from dotflow_like.testing.storage_contract import StorageContract

__all__ = [
    "ExecutorContract",
    "FakeClock",
    "JournalContract",
    "Steps",
    "StorageContract",
    "assert_ran",
    "ran",
    "run_inline",
    "run_task",
]

_CONTRACTS = {
    "ExecutorContract": ("executor_contract", "executor_bench"),
    "JournalContract": (
        "journal_contract",
        "journal_bench",
        "journal_values",
        "journal_ownership",
        "journal_requests",
        "journal_at_once",
    ),
    "StorageContract": ("storage_contract",),
}
"""The module of each, and those it is made of; pytest is to explain what fails in them."""


def __getattr__(name: str) -> Any:
    places = [f"{__name__}.{place}" for place in _CONTRACTS.get(name, ())]
    if not places:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest
    except ImportError as error:
        from dotflow_like.errors import MissingExtra

        raise MissingExtra(f"{name} runs under pytest: pip install pytest") from error
    pytest.register_assert_rewrite(*(place for place in places if place not in sys.modules))
    return getattr(importlib.import_module(places[0]), name)
