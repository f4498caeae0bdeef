"""What a task is given: the value that travels from task to task, and what running code may ask."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

from dotflow_like import clock
from dotflow_like.model.tagged import NAME, TaggedLogger, replaced, replacement

if TYPE_CHECKING:
    from dotflow_like.model.records import Attempt

__all__ = ["Context", "Progress", "TaskContext"]


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


class Progress(NamedTuple):
    """How far a body has come.

    Attributes:
        done: how much is done, in whatever the body counts.
        total: how much there is to do; None if that is not known.
        message: what it is doing now; None for nothing to say.
    """

    done: float
    total: float | None = None
    message: str | None = None


def _unheard(progress: Progress) -> None:
    pass


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What running code may ask. A parameter named `ctx`, or annotated `TaskContext`, gets one.

    Attributes:
        workflow_id: the run.
        task_id: the task's key in the run.
        attempt: the attempt that is running. What the body writes into `attempt.metadata`, a dict of plain data,
            is kept in its row; that of an attempt after a failed one begins with the `reason` for it.
        params: the run's params.
    """

    workflow_id: str
    task_id: str
    attempt: Attempt
    params: Mapping[str, Any]
    _stop_asked: Callable[[], bool] = field(repr=False)
    _report: Callable[[Progress], None] = field(default=_unheard, repr=False)
    _logger: TaggedLogger | None = field(default=None, init=False, repr=False, compare=False)

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

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """The standard library's logger `dotflow_like.task`, or that of `use_logger`.

        Each of its records has `workflow_id`, `task_id` and `attempt` (the number), beside what a call's `extra=`
        brings. In a worker process too: they are logged in the run's.
        """
        logger = replacement(self)
        if logger is None:
            logger = self._logger
        if logger is None:
            logger = self._tagged(logging.getLogger(NAME))
            object.__setattr__(self, "_logger", logger)  # what it is made of never changes
        return logger

    def use_logger(
        self, logger: logging.Logger | logging.LoggerAdapter[Any]
    ) -> AbstractContextManager[logging.LoggerAdapter[logging.Logger]]:
        """Have `ctx.logger` write to another logger, under the same tags, for the block of a `with`.

        Blocks may be nested. One holds for the code in it, what that calls, and the async tasks that starts: threads
        and async tasks that share a `ctx` do not see each other's. A thread that is started in it sees it only if
        it runs in a copy of the context, as those of `asyncio.to_thread` do.

        Args:
            logger: one of `logging.getLogger`, or a `LoggerAdapter` of one.

        Returns:
            What to enter; it gives the tagged logger.

        Raises:
            TypeError: it is something else.
        """
        return replaced(self, self._tagged(logger))

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell how far the body has come: it is seen at once as `TaskRun.progress`, and in the log.

        Call it as often as you like: the latest counts, and not every one before it need be seen. It never
        changes what becomes of the task.

        Args:
            done: how much is done, in whatever you count; 0 or more.
            total: how much there is to do. Default: not known.
            message: what the body is doing now.

        Raises:
            TypeError: a value that is no number, or a message that is no text.
            ValueError: a number that is negative, infinite or nan.
        """
        if message is not None and not isinstance(message, str):
            raise TypeError(f"ctx.progress: message is {message!r}; give a text")
        self._report(
            Progress(
                _amount("done", done),
                None if total is None else _amount("total", total),
                None if message is None else str(message),
            )
        )

    def _tagged(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> TaggedLogger:
        number = self.attempt.number
        fields = {"workflow_id": self.workflow_id, "task_id": self.task_id, "attempt": number}
        return TaggedLogger(logger, fields)


def _amount(name: str, value: Any) -> float:
    """Return a number as a plain one, which can be sent anywhere."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"ctx.progress: {name} is {value!r}; give a number")
    amount = int(value) if isinstance(value, Integral) else float(value)
    if not 0 <= amount < math.inf:
        raise ValueError(f"ctx.progress: {name} is {value!r}; give a number that is finite, and 0 or more")
    return amount
