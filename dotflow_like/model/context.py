"""What a task is given: the value that travels from task to task, and what running code may ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from dotflow_like import clock

if TYPE_CHECKING:
    from dotflow_like.model.records import Attempt

__all__ = ["Context", "TaskContext"]


def _now() -> datetime:
    return clock.current().now()


@dataclass(frozen=True, slots=True)
class Context:
    """A value with where it came from.

    A task that takes `previous_context` or `initial_context` gets one. A task may return one too;
    its value is then the task's result.

    Args:
        storage: the value. `value` is the same.
        time: when the value came to be, in UTC. Default now.
        task_id: the task it came from; None for a value given from outside.
        workflow_id: the run it came from; None for a value given from outside.
    """

    storage: Any = None
    time: datetime = field(default_factory=_now)
    task_id: str | None = None
    workflow_id: str | None = None

    @property
    def value(self) -> Any:
        """The value: another word for `storage`."""
        return self.storage


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What running code may ask. A parameter named `ctx`, or annotated `TaskContext`, gets one.

    Attributes:
        workflow_id: the run.
        task_id: the task's key in the run.
        attempt: the attempt that is running.
        params: the run's params.
    """

    workflow_id: str
    task_id: str
    attempt: Attempt
    params: Mapping[str, Any]
    _stop_asked: Callable[[], bool] = field(repr=False)

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop. A long body looks at it.

        What it returns then is its result, as ever; what it raises leaves the task to be run again on
        resume.
        """
        return self._stop_asked()

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt: hand it to a receiver that de-duplicates by it."""
        return self.attempt.idempotency_key
