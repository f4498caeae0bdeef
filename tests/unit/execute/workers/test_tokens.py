"""The right to run a call that was sent in advance."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from dotflow_like.execute.workers.tokens import TakenTokens, Tokens

Ends = tuple[Tokens, TakenTokens]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """The sender's and the worker's end."""
    tokens = Tokens()
    yield tokens, TakenTokens(tokens.reading)
    tokens.close()


def test_calls_that_were_given_are_run_in_their_order(ends: Ends) -> None:
    tokens, taken = ends
    tokens.give([1, 2])
    tokens.give([3])
    assert [taken.take(number) for number in (1, 2, 3)] == [True, True, True]


def test_a_call_without_a_token_is_not_run(ends: Ends) -> None:
    tokens, taken = ends
    assert not taken.take(1)
    tokens.give([])
    assert not taken.take(1)
    assert tokens.take_back() == []


def test_what_is_taken_back_is_not_run_and_comes_in_its_order(ends: Ends) -> None:
    tokens, taken = ends
    tokens.give(range(1, 5))
    assert taken.take(1)
    assert tokens.take_back() == [2, 3, 4]
    assert tokens.take_back() == []
    assert [taken.take(number) for number in (2, 3, 4)] == [False, False, False]


def test_calls_given_after_others_were_taken_back_are_run(ends: Ends) -> None:
    tokens, taken = ends
    tokens.give([1, 2])
    assert tokens.take_back() == [1, 2]
    tokens.give([3, 4])
    assert [taken.take(number) for number in (1, 2, 3, 4)] == [False, False, True, True]


def test_a_token_that_was_read_early_stays_the_workers(ends: Ends) -> None:
    """Looking for the token of a call that was taken back, the worker reads the next one: it has that call."""
    tokens, taken = ends
    tokens.give([1])
    tokens.take_back()
    tokens.give([2, 3])
    assert not taken.take(1)
    assert tokens.take_back() == [3]
    assert taken.take(2)
    assert not taken.take(3)
    tokens.give([4])
    assert taken.take(4)


def test_a_call_is_run_once(ends: Ends) -> None:
    tokens, taken = ends
    tokens.give([1, 2])
    assert taken.take(1)
    assert not taken.take(1)
    assert taken.take(2)


def test_numbers_may_be_large(ends: Ends) -> None:
    tokens, taken = ends
    tokens.give([2**32 - 2, 2**32 - 1])
    assert taken.take(2**32 - 2)
    assert tokens.take_back() == [2**32 - 1]


def test_a_pipe_holds_far_more_than_are_sent_in_advance(ends: Ends) -> None:
    tokens, taken = ends
    for start in range(1, 4001, 100):
        tokens.give(range(start, start + 100))
    assert taken.take(1)
    assert tokens.take_back() == list(range(2, 4001))


def test_nothing_is_left_of_a_closed_pipe(descriptors: Callable[[], set[int]]) -> None:
    before = descriptors()
    tokens = Tokens()
    tokens.give([1])
    tokens.close()
    assert descriptors() == before


WORKER = """
import array, os, sys
from dotflow_like.execute.workers.tokens import TakenTokens
taken = TakenTokens(int(sys.argv[1]))
run = array.array("I")
print("ready", flush=True)
while data := os.read(0, 4096):
    for number in array.array("I", data):
        if taken.take(number):
            run.append(number)
sys.stdout.buffer.write(run.tobytes())
"""


def test_each_call_is_run_once_or_taken_back_however_the_two_race() -> None:
    tokens = Tokens()
    chance = random.Random(3)
    back: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tokens.reading)],
        pass_fds=[tokens.reading],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        number = 1
        for _ in range(8000):
            given = range(number, number + chance.randrange(1, 9))
            number = given.stop
            tokens.give(given)
            os.write(worker.stdin.fileno(), b"".join(each.to_bytes(4, sys.byteorder) for each in given))
            for _ in range(chance.randrange(200)):  # the worker has some time, or none
                pass
            if chance.random() < 0.7:
                some = tokens.take_back()
                assert some == sorted(some)
                back += some
        worker.stdin.close()
        data = worker.stdout.read()
    run = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4)]
    back += tokens.take_back()
    tokens.close()
    assert worker.returncode == 0
    assert run == sorted(run)
    assert sorted(run + back) == list(range(1, number))
    assert len(run) > 100
    assert len(back) > 100, "else there was no race"
