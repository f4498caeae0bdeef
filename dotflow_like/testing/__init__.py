"""What authors of tasks and storages test with.

* `FakeClock`: time that tests own, so that no test waits for a retry's delay.
* `run_inline`: a workflow run at once in the test's own thread, without waits and without workers.
* `StorageContract`: the tests every storage passes; needs pytest.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from dotflow_like.testing.fake_clock import FakeClock
from dotflow_like.testing.inline import run_inline

if TYPE_CHECKING:
    from dotflow_like.testing.storage_contract import StorageContract

__all__ = ["FakeClock", "StorageContract", "run_inline"]


def __getattr__(name: str) -> Any:
    if name != "StorageContract":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import pytest
    except ImportError as error:
        from dotflow_like.errors import MissingExtra

        raise MissingExtra("StorageContract runs under pytest: pip install pytest") from error
    place = "dotflow_like.testing.storage_contract"
    if place not in sys.modules:
        pytest.register_assert_rewrite(place)
    from dotflow_like.testing.storage_contract import StorageContract

    return StorageContract
