"""What authors of tasks and storages test with.

* `FakeClock`: time that tests own, so that no test waits for a retry's delay.
* `run_inline`: a workflow run at once in the test's own thread, without waits and without workers.
* `StorageContract`: the tests every storage passes; needs pytest.
* `ExecutorContract`: likewise, for what runs the bodies of tasks.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from dotflow_like.testing.fake_clock import FakeClock
from dotflow_like.testing.inline import run_inline

if TYPE_CHECKING:
    from dotflow_like.testing.executor_contract import ExecutorContract
    from dotflow_like.testing.storage_contract import StorageContract

__all__ = ["ExecutorContract", "FakeClock", "StorageContract", "run_inline"]

_CONTRACTS = {
    "ExecutorContract": "dotflow_like.testing.executor_contract",
    "StorageContract": "dotflow_like.testing.storage_contract",
}


def __getattr__(name: str) -> Any:
    place = _CONTRACTS.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest
    except ImportError as error:
        from dotflow_like.errors import MissingExtra

        raise MissingExtra(f"{name} runs under pytest: pip install pytest") from error
    if place not in sys.modules:
        pytest.register_assert_rewrite(place)
    return getattr(importlib.import_module(place), name)
