"""What a task is given: the value that travels from task to task, and what running code may ask."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, overload

from dotflow_like import clock
from dotflow_like.model.places import begin
from dotflow_like.model.policy import LONGEST_DELAY
from dotflow_like.model.progress import Progress
from dotflow_like.model.signals import Cancel, Finish, Pause, Retry, Skip
from dotflow_like.model.tagged import NAME, TaggedLogger, replaced, replacement

if TYPE_CHECKING:
    from sqlite3 import Connection

    from dotflow_like.model.iteration import Iteration
    from dotflow_like.model.records import Attempt
    from dotflow_like.model.running import Running

P = ParamSpec("P")
T = TypeVar("T")

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
    _running: Running = field(repr=False)
    _logger: TaggedLogger | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        begin()

    # What shall happen next

    def skip(self, reason: str | None = None) -> NoReturn:
        """End the task without a result: it is `skipped`, and so is what needs its result; the run goes on.

        Like each of the next four it raises a `BaseException`, so that no `except Exception` stops it, and counts
        even if the body catches that.

        Args:
            reason: why; it is recorded, as that of the next four is.
        """
        self._running.send(Skip(_reason("skip", reason)))

    def retry(self, reason: str | None = None, *, after: float | timedelta = 0) -> NoReturn:
        """End the attempt, and run the task once more: as often as it asks, whatever its `RetryPolicy` says.

        Args:
            reason: why.
            after: how long to wait before, in seconds; a year at most.
        """
        reason = _reason("retry", reason, "; to wait, give after=")
        self._running.send(Retry(reason, min(seconds_of("ctx.retry: after", after), LONGEST_DELAY)))

    def pause(self, reason: str | None = None) -> NoReturn:
        """End the attempt and the run, which is `paused`; resumed, it runs this task from its beginning.

        Args:
            reason: why.
        """
        self._running.send(Pause(_reason("pause", reason)))

    def cancel(self, reason: str | None = None) -> NoReturn:
        """End the task and the run: both are `cancelled`.

        Args:
            reason: why.
        """
        self._running.send(Cancel(_reason("cancel", reason)))

    def finish(self, reason: str | None = None) -> NoReturn:
        """End the task and the run: both are `completed`, the tasks that have not begun `skipped`.

        Args:
            reason: why.
        """
        self._running.send(Finish(_reason("finish", reason, "; the task has no result then")))

    # What is asked of the body

    @property
    def cancelled(self) -> bool:
        """Whether the body is asked to end: its run was stopped, or it is to be skipped. A long body looks at it.

        What it returns then is its result, as ever; what it raises leaves the task to be run again on
        resume.
        """
        return self._running.asked() is not None

    def check(self) -> None:
        """End the body here if it is asked to end: it becomes what was asked for. A long body calls it now and then.

        Raises:
            Signal: it is.
        """
        signal = self._running.asked()
        if signal is not None:
            self._running.send(signal)

    def sleep(self, seconds: float | timedelta) -> None:
        """Wait; end the body if it is asked to end meanwhile, as `check` does.

        It keeps the thread or the worker of the body. In an async body use `await asyncio.sleep(...)`, and `check`.

        Args:
            seconds: how long.

        Raises:
            Signal: the body is asked to end.
        """
        patience = seconds_of("ctx.sleep: seconds", seconds)
        self.check()
        if patience:
            self._running.sleep(patience)
            self.check()

    # What is kept

    @property
    def checkpoints(self) -> MutableMapping[str, Any]:
        """What the attempts of this task have saved, by name: kept over retries and restarts.

        A value is there, exactly, when its assignment returns. What is read is a copy: to change it, assign it again.
        It is gone when the task's result is discarded: by starting over, a reset, a rerun.
        """
        from dotflow_like.model.checkpoints import Checkpoints

        return Checkpoints(self._running.saved)

    @overload
    def step(
        self, name: str, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]: ...

    @overload
    def step(self, name: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    def step(self, name: str, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function, unless an earlier attempt has: then return what it returned then.

        What it returns is kept before this returns. So it is called once, but for a process that dies between the
        function's effect and that. A function that raises is called again by the next attempt.

        Steps of one name are told apart by the order of their calls: those of one item of `iterate` by that in the
        item. Threads of a body give each of theirs a name of its own.

        Args:
            name: what it is kept under.
            fn: the function; of an async one this returns an awaitable.
            args: what it is called with.
            kwargs: the same.

        Raises:
            NotSerializable: what it has returned cannot be kept.
        """
        from dotflow_like.model.checkpoints import checked_name
        from dotflow_like.model.steps import step

        return step(self._running.saved(), checked_name("ctx.step", name), fn, args, kwargs)

    def iterate(
        self,
        items: Iterable[T] | Callable[[Any], Iterable[T]],
        cursor: Callable[[T], Any] | str | None = None,
        name: str = "items",
    ) -> Iteration[T]:
        """Iterate over items so that a later attempt goes on with the next one, after a retry or a kill too.

        An item is done when the loop comes back for the next, not if it is left by `break` or an exception. Before
        each item the body ends if it is asked to, as with `check`. Once the loop has come to its end a later
        attempt iterates over nothing more; `rewind()` of what this returns begins with the first item again.

        So who takes several items before it handles them, as `list`, `zip` or a pool's `map` do, says of all but the
        last that they are done: iterate over batches instead. What is done survives the death of the process at once,
        a power cut a little later.

        Args:
            items: what to iterate over; or a function that is given the last saved cursor, None at first, and returns
                an iterable of what follows.
            cursor: tells items apart: a function of an item, or the name of an attribute or a key, whose values
                ascend; items up to the last saved one are left out. Default: by position; what is given then has to
                be the same in every attempt, but for what is added at its end.
            name: what it is kept under. Iterations of one name are told apart as steps are.

        Returns:
            An iterator, for one thread.
        """
        from dotflow_like.model.checkpoints import checked_name
        from dotflow_like.model.iteration import Iteration

        return Iteration(self._running, self.check, items, cursor, checked_name("ctx.iterate", name))

    def transaction(self) -> Connection:
        """Return a connection to the database of the run: what it writes is committed with the task's result.

        It is in a transaction, which is committed when the body returns, and rolled back when it raises or sends a
        signal other than `finish`; once per attempt. Its end is not for the body, nor are the tables of the library.
        While it is open nobody else can write to that file: ask for it when there is something to write.

        Returns:
            The standard library's `sqlite3.Connection`.

        Raises:
            ConfigError: the run is not recorded in a SQL database: `storage="sqlite:///runs.db"`.
            sqlite3.ProgrammingError: it was called before in this attempt.
            ClaimLost: another process has taken the run over.
            StorageError: somebody else has kept the file for too long, or it cannot be written.
        """
        return self._running.transaction()

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
        self._running.report(
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


def _reason(of: str, reason: Any, hint: str = "") -> str | None:
    if reason is not None and not isinstance(reason, str):
        raise TypeError(f"ctx.{of}: reason is {reason!r}; give a text{hint}")
    return None if reason is None else str(reason)


def seconds_of(what: str, value: Any) -> float:
    """Return a time span as seconds.

    Raises:
        TypeError: it is neither a number nor a timedelta.
        ValueError: it is negative, infinite or nan.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{what} is {value!r}; give a number of seconds, or a timedelta")
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{what} is {value!r}; give a number that is finite, and 0 or more")
    return seconds
