"""Every error of the library, in one tree.

```text
DotflowError
├── DeclarationError            a bad value in a declaration (a ValueError too)
├── PlanError                   tasks that cannot be made into a plan
│   ├── CycleError              dependencies that go round
│   ├── DuplicateTask           two tasks with one id
│   ├── UnknownDependency       a task that is needed and not listed
│   ├── AmbiguousDependency     a task that is needed and listed more than once
│   ├── UnfilledParameter       a parameter nothing fills
│   └── UnknownMode             a mode that does not exist
├── TaskFailure                 stands in for a task's error that is no exception of the task's own
│   ├── TaskTimeout             stopped at its deadline (a TimeoutError too)
│   ├── WorkerDied              its worker process ended under it
│   └── TaskCancelled           stopped because the run was
├── RunFailed                   what `raise_for_failure` raises (an ExceptionGroup too)
├── RunInProgress               another process owns the run
├── ClaimLost                   this process no longer owns the run
├── IllegalMove                 a change of status that is not allowed
├── InputChanged                resume with other inputs, under `on_input_change="raise"`
├── CodeChanged                 resume with other code, under `on_code_change="raise"`
├── FingerprintError            an input or a function that cannot be compared
├── CodecError                  a value that cannot be written or read
│   ├── NotSerializable         it has no exact stored form
│   ├── CorruptCheckpoint       its stored form is damaged
│   └── TamperedCheckpoint      its signature does not match
├── StorageError                the place where bytes lie failed
└── ConfigError                 a setting that cannot work
    └── MissingExtra            a package that is not installed (an ImportError too)
```
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AmbiguousDependency",
    "ClaimLost",
    "CodeChanged",
    "CodecError",
    "ConfigError",
    "CorruptCheckpoint",
    "CycleError",
    "DeclarationError",
    "DotflowError",
    "DotflowWarning",
    "DuplicateTask",
    "FingerprintError",
    "IllegalMove",
    "InputChanged",
    "MissingExtra",
    "NotSerializable",
    "PlanError",
    "RunFailed",
    "RunInProgress",
    "StorageError",
    "TamperedCheckpoint",
    "TaskCancelled",
    "TaskFailure",
    "TaskTimeout",
    "UnfilledParameter",
    "UnknownDependency",
    "UnknownMode",
    "WorkerDied",
]


class DotflowWarning(UserWarning):
    """Something the library did that its user may not have meant; every one is logged too."""


class DotflowError(Exception):
    """The root of every error this library raises on its own account."""


class DeclarationError(DotflowError, ValueError):
    """A task, policy or workflow was declared with a value that cannot work."""


class PlanError(DotflowError):
    """The tasks, their order and their parameters cannot be made into a plan; nothing has run."""


class CycleError(PlanError):
    """Dependencies go round; the message names the path."""


class DuplicateTask(PlanError):
    """Two tasks of one workflow claim the same id."""


class UnknownDependency(PlanError):
    """A task needs another one that is not in the list."""


class AmbiguousDependency(PlanError):
    """A task needs another one that is in the list more than once."""


class UnfilledParameter(PlanError):
    """A parameter of a task is filled by nothing."""


class UnknownMode(PlanError):
    """The mode is not one of `Mode`."""


class TaskFailure(DotflowError):
    """Stands in for a failure of a task that is no exception of the task's own, or was not kept."""


class TaskTimeout(TaskFailure, TimeoutError):
    """A body was still running at its deadline."""


class WorkerDied(TaskFailure):
    """The worker process that ran the body ended: a signal, an exit, a crash, no memory."""


class TaskCancelled(TaskFailure):
    """A body was stopped because its run was cancelled, paused or shut down."""


class RunFailed(DotflowError, ExceptionGroup[Exception]):
    """A run did not complete; a flat group of the original errors of its tasks."""

    def derive(self, excs: Sequence[Exception], /) -> RunFailed:  # type: ignore[override]  # a group of one kind, not generic
        """Return a group of the same kind with other members, as `split` and `subgroup` need."""
        return RunFailed(self.message, excs)


class RunInProgress(DotflowError):
    """Another process owns this run and lives."""


class ClaimLost(DotflowError):
    """Another process has taken this run over; what this one writes late is refused."""


class IllegalMove(DotflowError):
    """A status may not change this way; the row is untouched."""


class InputChanged(DotflowError):
    """A resumed run was given other inputs than its results were computed from."""


class CodeChanged(DotflowError):
    """A resumed run has other code than its results were computed by."""


class FingerprintError(DotflowError):
    """An input or a function has no stable fingerprint, and resume needs one."""


class CodecError(DotflowError):
    """A value cannot be written to, or read from, its stored form."""


class NotSerializable(CodecError):
    """A value has no exact stored form; the message names the path inside it and the ways out."""


class CorruptCheckpoint(CodecError):
    """Stored bytes do not match their checksum or cannot be read; the message names the key."""


class TamperedCheckpoint(CodecError):
    """Stored bytes do not match their signature; nothing of them was loaded."""


class StorageError(DotflowError):
    """Bytes could not be read or written; the message names the place and the reason."""


class ConfigError(DotflowError):
    """A setting, or a combination of settings, that cannot work."""


class MissingExtra(ConfigError, ImportError):
    """An optional package is needed and not installed; the message is the `pip install`."""
