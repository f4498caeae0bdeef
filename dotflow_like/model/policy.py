"""What to do when an attempt fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from dotflow_like.errors import DeclarationError

__all__ = ["LONGEST_DELAY", "RetryPolicy", "non_negative"]

Then: TypeAlias = Literal["fail", "pause", "cancel", "skip"]

LONGEST_DELAY = 365 * 24 * 3600.0
"""Seconds in a year: no delay is longer, so that a growing one stays a time the calendar has."""


def non_negative(value: object, what: str) -> float:
    """Return `value` if it is a number of seconds from 0, else raise `DeclarationError`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise DeclarationError(f"{what} is {value!r}; give a finite number of seconds, 0 or more")
    return value


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often a failed attempt is followed by another.

    Args:
        max_attempts: attempts in all, the first included; at least 1.
        delay: seconds before the second attempt.
        backoff: factor from each delay to the next; at least 1.
        max_delay: no delay is longer, in seconds. Default: no limit.
        jitter: up to so many seconds, chosen at random, are added to each delay.
        retry_on: the exception class, or tuple of classes, that is tried again.
        worker_deaths: how many deaths of the worker process under this task are tried again, within
            `max_attempts`. Default 0: a body that kills its worker would kill the next one too.
        then: what becomes of a task whose attempts are used up: `fail`; `skip`: the run goes on without its
            result; `pause` or `cancel`: the run ends so.

    Raises:
        DeclarationError: a value that cannot work.
    """

    max_attempts: int = 1
    delay: float = 0
    backoff: float = 1
    max_delay: float | None = None
    jitter: float = 0
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    worker_deaths: int = 0
    then: Then = "fail"

    def __post_init__(self) -> None:
        _at_least("max_attempts", self.max_attempts, 1)
        _at_least("worker_deaths", self.worker_deaths, 0)
        non_negative(self.delay, "delay")
        non_negative(self.jitter, "jitter")
        if self.max_delay is not None:
            non_negative(self.max_delay, "max_delay")
        if non_negative(self.backoff, "backoff") < 1:
            raise DeclarationError(f"backoff is {self.backoff!r}; give a factor of at least 1")
        classes = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        for cls in classes:
            if not (isinstance(cls, type) and issubclass(cls, BaseException)):
                raise DeclarationError(f"retry_on has {cls!r}; give an exception class or a tuple of them")
        if not isinstance(self.then, str) or self.then not in get_args(Then):
            raise DeclarationError(f"then is {self.then!r}; it can be 'fail', 'pause', 'cancel' or 'skip'")

    def pause_after(self, failures: int) -> float:
        """Return the seconds to wait after the failure that is number `failures`, counted from 1."""
        try:
            pause = self.delay * self.backoff ** (failures - 1) if self.delay else 0.0
        except OverflowError:
            pause = float("inf")
        pause = min(pause, LONGEST_DELAY if self.max_delay is None else self.max_delay)
        return min(pause + (_up_to(self.jitter) if self.jitter else 0), LONGEST_DELAY)


def _up_to(seconds: float) -> float:
    import random

    return random.uniform(0, seconds)


def _at_least(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DeclarationError(f"{name} is {value!r}; give a whole number, {least} or more")
