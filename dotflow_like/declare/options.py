"""The options of `@task`: their words, and the check of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypedDict

from dotflow_like.declare.signature import accepts
from dotflow_like.errors import DeclarationError
from dotflow_like.model.policy import RetryPolicy, non_negative

__all__ = ["Options", "checked"]


class Options(TypedDict, total=False):
    """What `task` and `Task.with_options` take."""

    name: str
    task_id: str | None
    group_name: str | None
    initial_context: Any
    callback: Callable[..., Any] | None
    retry: int | RetryPolicy
    retry_delay: float
    backoff: bool | float
    timeout: float | None
    retry_on: type[BaseException] | tuple[type[BaseException], ...]
    isolate: bool
    version: str | None


_WORDS = frozenset(Options.__annotations__)
_TEXTS = ("name", "task_id", "group_name", "version")
_POLICY_WORDS = {
    "retry": "max_attempts",
    "retry_delay": "delay",
    "backoff": "backoff",
    "retry_on": "retry_on",
}


def checked(options: Mapping[str, Any], policy: RetryPolicy, where: str) -> dict[str, Any]:
    """Return the attributes of a task that `options` change, the policy starting from `policy`.

    Raises:
        DeclarationError: a value that cannot work; the message begins with `where`.
        TypeError: an option that does not exist, or two that contradict each other.
    """
    for word in options:
        if word not in _WORDS:
            raise TypeError(f"{where}: there is no option {word!r}; there are: {', '.join(sorted(_WORDS))}")
    changes = {word: value for word, value in options.items() if word not in _POLICY_WORDS}
    for word in _TEXTS:
        value = changes.get(word)
        if (
            word in changes
            and (value is not None or word == "name")
            and not (isinstance(value, str) and value)
        ):
            raise DeclarationError(f"{where}: {word} is {value!r}; give a text that is not empty")
    if not isinstance(changes.get("isolate", False), bool):
        raise DeclarationError(f"{where}: isolate is {changes['isolate']!r}; give True or False")
    if changes.get("timeout") is not None and non_negative(changes["timeout"], f"{where}: timeout") == 0:
        raise DeclarationError(f"{where}: timeout is 0; give more than 0 seconds, or None for no limit")
    callback = changes.get("callback")
    if callback is not None and not (callable(callback) and accepts(callback, "task")):
        raise DeclarationError(f"{where}: callback is {callback!r}; give a function that takes task=")
    if not _POLICY_WORDS.keys().isdisjoint(options):
        changes["policy"] = _policy(
            {word: options[word] for word in _POLICY_WORDS if word in options}, policy, where
        )
    return changes


def _policy(given: dict[str, Any], policy: RetryPolicy, where: str) -> RetryPolicy:
    retry = given.get("retry", 1)
    if isinstance(retry, RetryPolicy):
        if len(given) > 1:
            raise TypeError(
                f"{where}: retry=RetryPolicy(...) says all; leave out {', '.join(given.keys() - {'retry'})}"
            )
        return retry
    if isinstance(retry, bool) or not isinstance(retry, int) or retry < 1:
        raise DeclarationError(f"{where}: retry is {retry!r}; give the attempts in all, 1 or more")
    if isinstance(given.get("backoff"), bool):
        given["backoff"] = 2.0 if given["backoff"] else 1.0
    if "retry_delay" in given:
        non_negative(given["retry_delay"], f"{where}: retry_delay")
    try:
        return replace(policy, **{_POLICY_WORDS[word]: value for word, value in given.items()})
    except DeclarationError as error:
        raise DeclarationError(f"{where}: {error}") from None
