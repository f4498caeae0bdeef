"""The policy of retrying: its values and its pauses."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any, Literal

import pytest

from dotflow_like import DeclarationError, RetryPolicy
from dotflow_like.model.policy import LONGEST_DELAY, non_negative


def test_its_defaults_are_one_attempt() -> None:
    assert dataclasses.asdict(RetryPolicy()) == {
        "max_attempts": 1,
        "delay": 0,
        "backoff": 1,
        "max_delay": None,
        "jitter": 0,
        "retry_on": Exception,
        "worker_deaths": 0,
        "then": "fail",
    }


def test_it_is_a_value() -> None:
    policy = RetryPolicy(3, delay=1.5, retry_on=(OSError, KeyError))
    assert policy == RetryPolicy(3, delay=1.5, retry_on=(OSError, KeyError))
    assert hash(policy) == hash(RetryPolicy(3, delay=1.5, retry_on=(OSError, KeyError)))
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.delay = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_attempts": 0}, "max_attempts is 0; give a whole number, 1 or more"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"max_attempts": 2.0}, r"max_attempts is 2\.0"),
        ({"worker_deaths": -1}, "worker_deaths is -1; give a whole number, 0 or more"),
        ({"worker_deaths": True}, "worker_deaths is True"),
        ({"delay": -0.1}, r"delay is -0\.1; give a finite number of seconds, 0 or more"),
        ({"delay": math.nan}, "delay is nan"),
        ({"delay": None}, "delay is None"),
        ({"jitter": -1}, "jitter is -1"),
        ({"max_delay": -1}, "max_delay is -1"),
        ({"max_delay": math.inf}, "max_delay is inf"),
        ({"backoff": 0.9}, r"backoff is 0\.9; give a factor of at least 1"),
        ({"backoff": True}, "backoff is True"),
        ({"backoff": math.inf}, "backoff is inf"),
        ({"retry_on": Exception("x")}, "retry_on has Exception"),
        ({"retry_on": (int,)}, "retry_on has <class 'int'>"),
        ({"then": "retry"}, "then is 'retry'; it can be 'fail', 'pause', 'cancel' or 'skip'"),
        ({"then": None}, "then is None; it can be"),
        ({"then": ["fail"]}, r"then is \['fail'\]; it can be"),
    ],
)
def test_a_bad_value_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=f"^{message}"):
        RetryPolicy(**options)


def test_an_unknown_word_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'tries'"):
        RetryPolicy(tries=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("then", ["fail", "pause", "cancel", "skip"])
def test_what_becomes_of_it_then(then: Literal["fail", "pause", "cancel", "skip"]) -> None:
    assert RetryPolicy(3, then=then).then == then


def test_any_exception_class_may_be_tried_again() -> None:
    assert RetryPolicy(retry_on=KeyboardInterrupt).retry_on is KeyboardInterrupt
    assert RetryPolicy(retry_on=()).retry_on == ()


class TestPause:
    def test_constant(self) -> None:
        policy = RetryPolicy(9, delay=3)
        assert [policy.pause_after(failures) for failures in (1, 2, 8)] == [3, 3, 3]

    def test_growing(self) -> None:
        policy = RetryPolicy(9, delay=0.5, backoff=3)
        assert [policy.pause_after(failures) for failures in (1, 2, 3)] == [0.5, 1.5, 4.5]

    def test_no_longer_than_the_longest(self) -> None:
        policy = RetryPolicy(9, delay=1, backoff=2, max_delay=5)
        assert [policy.pause_after(failures) for failures in range(1, 6)] == [1, 2, 4, 5, 5]
        assert RetryPolicy(9, delay=7, max_delay=5).pause_after(1) == 5

    def test_it_stays_a_number_however_often(self) -> None:
        assert RetryPolicy(9, delay=1, backoff=2.0).pause_after(10**6) == LONGEST_DELAY
        assert RetryPolicy(9, delay=1, backoff=2.0, max_delay=60).pause_after(10**6) == 60

    def test_without_a_delay_there_is_none_ever(self) -> None:
        assert RetryPolicy(9).pause_after(1) == 0
        assert RetryPolicy(9, backoff=2.0).pause_after(10**6) == 0

    def test_jitter_adds_up_to_so_many_seconds(self) -> None:
        policy = RetryPolicy(9, delay=1, backoff=2, max_delay=3, jitter=0.5)
        pauses = [policy.pause_after(5) for _ in range(200)]
        assert all(3 <= pause <= 3.5 for pause in pauses)
        assert len(set(pauses)) > 100


def test_seconds_are_given_back() -> None:
    assert non_negative(0, "x") == 0
    assert non_negative(2.5, "x") == 2.5
