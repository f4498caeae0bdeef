"""Plain typed functions as tasks, and a manager that runs them.

```python
from dotflow_like import Manager, task


@task
def fetch() -> bytes:
    return b"1,2,3"


@task
def parse(raw: bytes) -> list[int]:
    return [int(each) for each in raw.split(b",")]


run = Manager(tasks=[fetch, parse.bind(raw=fetch)])
assert run[parse].result == [1, 2, 3]
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dotflow_like.config import Config
    from dotflow_like.declare.task import Task, task
    from dotflow_like.errors import (
        AmbiguousDependency,
        ClaimLost,
        CodecError,
        CodeChanged,
        ConfigError,
        CorruptCheckpoint,
        CycleError,
        DeclarationError,
        DotflowError,
        DotflowWarning,
        DuplicateTask,
        FingerprintError,
        IllegalMove,
        InputChanged,
        MissingExtra,
        NotSerializable,
        PlanError,
        RunFailed,
        RunInProgress,
        StorageError,
        TamperedCheckpoint,
        TaskCancelled,
        TaskFailure,
        TaskTimeout,
        UnfilledParameter,
        UnknownDependency,
        UnknownMode,
        WorkerDied,
    )
    from dotflow_like.manager import Manager, Workflow
    from dotflow_like.model.context import Context, TaskContext
    from dotflow_like.model.policy import RetryPolicy
    from dotflow_like.model.records import Attempt, TaskError
    from dotflow_like.model.status import AttemptOutcome, AttemptStatus, Mode, OnChange, RunStatus, TaskStatus
    from dotflow_like.record.storage.base import ANY, Storage
    from dotflow_like.record.storage.files import FileStorage
    from dotflow_like.record.storage.memory import MemoryStorage
    from dotflow_like.record.types import register
    from dotflow_like.report.observers import Metrics, Tracer
    from dotflow_like.report.result import TaskRun
    from dotflow_like.run import Run
    from dotflow_like.steer import cancel, pause, resume, skip

__all__ = [
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

_PLACES = {
    "config": ("Config",),
    "declare.task": ("Task", "task"),
    "manager": ("Manager", "Workflow"),
    "model.context": ("Context", "TaskContext"),
    "model.policy": ("RetryPolicy",),
    "model.records": ("Attempt", "TaskError"),
    "model.status": ("AttemptOutcome", "AttemptStatus", "Mode", "OnChange", "RunStatus", "TaskStatus"),
    "record.storage.base": ("ANY", "Storage"),
    "record.storage.files": ("FileStorage",),
    "record.storage.memory": ("MemoryStorage",),
    "record.types": ("register",),
    "report.observers": ("Metrics", "Tracer"),
    "report.result": ("TaskRun",),
    "run": ("Run",),
    "steer": ("cancel", "pause", "resume", "skip"),
}
_PLACE_OF = dict.fromkeys(__all__, "errors") | {
    name: place for place, names in _PLACES.items() for name in names
}


def __getattr__(name: str) -> Any:
    # PEP 562: a name is loaded when it is used first, so that importing the package costs nothing
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
