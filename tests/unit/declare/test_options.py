"""The options of a task: their values, their refusals, and where each refusal is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from dotflow_like import DeclarationError, RetryPolicy, Task, task


def body(x: int = 0) -> int:
    return x


def called(**options: Any) -> Task[..., Any]:
    return task(body, **options)


def decorated(**options: Any) -> Task[..., Any]:
    return task(**options)(body)


def derived(**options: Any) -> Task[..., Any]:
    return task(body).with_options(**options)


WAYS = pytest.mark.parametrize("declare", [called, decorated, derived])
Declare = Callable[..., Task[..., Any]]


def noted(task: object) -> None:
    """A callback."""


@WAYS
@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("name", "other"),
        ("task_id", "id"),
        ("task_id", None),
        ("group_name", "group"),
        ("group_name", None),
        ("initial_context", {"a": 1}),
        ("initial_context", None),
        ("callback", noted),
        ("callback", None),
        ("timeout", 0.5),
        ("timeout", 30),
        ("timeout", None),
        ("isolate", True),
        ("isolate", False),
        ("version", "2"),
        ("version", None),
    ],
)
def test_an_option_becomes_an_attribute(declare: Declare, word: str, value: object) -> None:
    assert getattr(declare(**{word: value}), word) == value


@WAYS
@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({}, RetryPolicy()),
        ({"retry": 3}, RetryPolicy(3)),
        ({"retry": 3, "retry_delay": 2}, RetryPolicy(3, delay=2)),
        ({"retry": 3, "retry_delay": 0.5, "backoff": True}, RetryPolicy(3, delay=0.5, backoff=2)),
        ({"backoff": False}, RetryPolicy(backoff=1)),
        ({"backoff": 1.5}, RetryPolicy(backoff=1.5)),
        ({"retry_on": OSError}, RetryPolicy(retry_on=OSError)),
        ({"retry_on": (OSError, ValueError)}, RetryPolicy(retry_on=(OSError, ValueError))),
        ({"retry": RetryPolicy(4, max_delay=9)}, RetryPolicy(4, max_delay=9)),
    ],
)
def test_the_words_of_retrying_make_the_policy(
    declare: Declare, options: dict[str, Any], policy: RetryPolicy
) -> None:
    assert declare(**options).policy == policy


def test_options_not_given_stay() -> None:
    first = task(body, retry=3, retry_delay=2, timeout=5, name="n")
    second = first.with_options(retry=4)
    assert second.policy == RetryPolicy(4, delay=2)
    assert (second.timeout, second.name) == (5, "n")
    assert first.policy == RetryPolicy(3, delay=2)
    assert first.with_options(retry_delay=7).policy == RetryPolicy(3, delay=7)


def test_without_options_there_is_one_attempt_and_no_limit() -> None:
    plain = task(body)
    assert (plain.policy, plain.timeout, plain.task_id, plain.group_name) == (RetryPolicy(), None, None, None)
    assert plain.isolate is False


BAD = [
    ({"retry": 0}, "retry is 0; give the attempts in all, 1 or more"),
    ({"retry": -1}, "retry is -1"),
    ({"retry": True}, "retry is True"),
    ({"retry": 1.5}, r"retry is 1\.5"),
    ({"retry": "3"}, "retry is '3'"),
    ({"retry": None}, "retry is None"),
    ({"retry_delay": -1}, "retry_delay is -1; give a finite number of seconds, 0 or more"),
    ({"retry_delay": math.nan}, "retry_delay is nan"),
    ({"retry_delay": math.inf}, "retry_delay is inf"),
    ({"retry_delay": "1"}, "retry_delay is '1'"),
    ({"retry_delay": True}, "retry_delay is True"),
    ({"backoff": 0.5}, r"backoff is 0\.5; give a factor of at least 1"),
    ({"backoff": -1}, "backoff is -1"),
    ({"backoff": "double"}, "backoff is 'double'"),
    ({"timeout": -1}, "timeout is -1; give a finite number of seconds"),
    ({"timeout": 0}, "timeout is 0; give more than 0 seconds, or None for no limit"),
    ({"timeout": math.nan}, "timeout is nan"),
    ({"timeout": "5"}, "timeout is '5'"),
    ({"retry_on": "OSError"}, "retry_on has 'OSError'; give an exception class or a tuple"),
    ({"retry_on": [OSError]}, "retry_on has .*; give an exception class or a tuple"),
    ({"retry_on": (OSError, int)}, "retry_on has <class 'int'>"),
    ({"retry_on": OSError()}, r"retry_on has OSError\(\)"),
    ({"name": ""}, "name is ''; give a text that is not empty"),
    ({"name": None}, "name is None"),
    ({"name": 3}, "name is 3"),
    ({"task_id": ""}, "task_id is ''"),
    ({"task_id": 5}, "task_id is 5"),
    ({"group_name": ""}, "group_name is ''"),
    ({"version": 2}, "version is 2; give a text"),
    ({"isolate": 1}, "isolate is 1; give True or False"),
    ({"isolate": None}, "isolate is None; give True or False"),
    ({"isolate": "process"}, "isolate is 'process'"),
    ({"callback": "print"}, "callback is 'print'; give a function that takes task="),
]
WRONG = [
    ({"retries": 3}, "there is no option 'retries'; there are: backoff, callback"),
    ({"cancel_if": True}, "there is no option 'cancel_if'"),
    ({"fn": body}, "there is no option 'fn'"),
    (
        {"retry": RetryPolicy(), "retry_delay": 1},
        r"retry=RetryPolicy\(\.\.\.\) says all; leave out retry_delay",
    ),
    ({"retry": RetryPolicy(), "backoff": True}, ".*leave out backoff$"),
    ({"retry": RetryPolicy(), "retry_on": OSError}, ".*leave out retry_on$"),
]


@WAYS
@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(options) for options, _ in BAD])
def test_a_bad_value_is_a_declaration_error(declare: Declare, options: dict[str, Any], message: str) -> None:
    where = "@task" if declare is decorated else "task 'body'"
    with pytest.raises(DeclarationError, match=f"^{where}: {message}"):
        declare(**options)
    with pytest.raises(ValueError, match=message):  # it is one too
        declare(**options)


@WAYS
@pytest.mark.parametrize(("options", "message"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_an_unknown_or_contradictory_word_is_a_type_error(
    declare: Declare, options: dict[str, Any], message: str
) -> None:
    where = "@task" if declare is decorated else "task 'body'"
    with pytest.raises(TypeError, match=f"^{where}: {message}"):
        declare(**options)


@pytest.mark.parametrize(("options", "message"), BAD + WRONG, ids=[str(bad) for bad, _ in BAD + WRONG])
def test_what_is_wrong_in_a_decorator_is_refused_before_it_sees_the_function(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises((DeclarationError, TypeError), match=f"^@task: {message}"):
        task(**options)


def test_a_task_is_named_by_its_id_in_a_refusal() -> None:
    with pytest.raises(DeclarationError, match=r"^task 'load': retry is 0"):
        task(body, task_id="load").with_options(retry=0)


def test_a_policy_that_is_bad_by_itself_is_refused_where_it_is_written() -> None:
    with pytest.raises(DeclarationError, match="max_attempts is 0"):
        task(body, retry=RetryPolicy(max_attempts=0))
