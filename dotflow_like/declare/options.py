"""The options of `@task`: their words, and the check of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypedDict

from dotflow_like.declare.conditions import Condition, condition_from
from dotflow_like.declare.reactions import NO_REACTIONS, OnException, Reactions, reactions_from
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
    on_exception: OnException
    skip_if: bool | Callable[..., Any] | None
    run_if: bool | Callable[..., Any] | None


_WORDS = frozenset(Options.__annotations__)
_TEXTS = ("name", "task_id", "group_name", "version")
_POLICY_WORDS = {
    "retry": "max_attempts",
    "retry_delay": "delay",
    "backoff": "backoff",
    "retry_on": "retry_on",
}
_MERGED = frozenset({*_POLICY_WORDS, "on_exception", "skip_if", "run_if"})
_CONDITIONS = ("skip_if", "run_if")
_ONCE = RetryPolicy()


def checked(
    options: Mapping[str, Any],
    where: str,
    policy: RetryPolicy = _ONCE,
    reactions: Reactions = NO_REACTIONS,
    conditions: tuple[Condition, ...] = (),
) -> dict[str, Any]:
    """Return the attributes of a task that `options` change.

    Args:
        options: what was written.
        where: how messages begin.
        policy: what it has so far.
        reactions: likewise.
        conditions: likewise.

    Raises:
        DeclarationError: a value that cannot work; the message begins with `where`.
        TypeError: an option that does not exist, or two that contradict each other.
    """
    for word in options:
        if word not in _WORDS:
            raise TypeError(f"{where}: there is no option {word!r}; there are: {', '.join(sorted(_WORDS))}")
    changes = {word: value for word, value in options.items() if word not in _MERGED}
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
        policy = changes["policy"] = _policy(
            {word: options[word] for word in _POLICY_WORDS if word in options}, policy, where
        )
    if "on_exception" in options:
        reactions = changes["reactions"] = reactions_from(options["on_exception"], where)
    if isinstance(reactions.blanket, str) and not changes.keys().isdisjoint(("policy", "reactions")):
        _check_agreement(policy, reactions.blanket, where)
    if not options.keys().isdisjoint(_CONDITIONS):
        changes["conditions"] = _conditions(options, conditions, where)
    return changes


def _check_agreement(policy: RetryPolicy, blanket: str, where: str) -> None:
    """Refuse a policy of retrying that a word for every exception makes meaningless, and the other way round."""
    told = f"{where}: on_exception={blanket!r} "
    if blanket == "retry":
        if policy.max_attempts == 1:
            raise TypeError(f"{told}with one attempt in all; say how many there are, as in retry=3")
        return
    instead = f"on_exception={{ValueError: {blanket!r}}} for some exceptions only"
    if blanket != "fail":
        instead += (
            f", or retry=RetryPolicy(..., then={blanket!r}) without on_exception= for when tries are used up"
        )
    if policy.max_attempts > 1:
        raise TypeError(
            f"{told}is for the first exception of any kind, and contradicts {policy.max_attempts} attempts; give one "
            f"of the two, or {instead}"
        )
    if policy.then != "fail":
        raise TypeError(
            f"{told}contradicts RetryPolicy(then={policy.then!r}); give one of the two, or {instead}"
        )


def _conditions(
    options: Mapping[str, Any], known: tuple[Condition, ...], where: str
) -> tuple[Condition, ...]:
    """Return the conditions of a task that has `known` ones, of which those not in `options` stay."""
    tests = {each.word: each.test for each in known} | {
        word: options[word] for word in _CONDITIONS if word in options
    }
    made = tuple(condition_from(word, test, where) for word, test in tests.items() if test is not None)
    if len(made) > 1:
        older = next((each.word for each in known if each.word not in options), None)
        way = (
            f"the task has {older}= already: pass {older}=None, too, to replace it"
            if older
            else "give one of them"
        )
        raise TypeError(f"{where}: skip_if= and run_if= contradict each other; {way}")
    return made


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
