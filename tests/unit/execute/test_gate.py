from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dotflow_like.errors import StorageError, TaskCancelled
from dotflow_like.execute.gate import Gate
from dotflow_like.model.signals import Pause, Signal

Until = Callable[..., None]


class Body:
    """As much of a call as the gate looks at."""

    def __init__(self) -> None:
        self.task: Any = SimpleNamespace(where="task 'one'")
        self.attempt: Any = SimpleNamespace(number=1)
        self.codec = None
        self.abandoned = False
        self.has_transaction = False
        self.opened: Any = None
        self.signal: Signal | None = None

    def asked(self) -> Signal | None:
        return self.signal

    def send(self, signal: Signal) -> Any:
        raise signal

    def saved(self) -> Any:
        return None


class Entering:
    """A body that enters, in a thread of its own, and stays."""

    def __init__(self, gate: Gate, body: Body) -> None:
        self.error: BaseException | None = None
        self.is_in = threading.Event()
        self._gate, self._body = gate, body
        self.thread = threading.Thread(target=self._enter)
        self.thread.start()

    def _enter(self) -> None:
        try:
            self._gate.enter(self._body)
            self.is_in.set()
        except BaseException as error:
            self.error = error


@pytest.fixture
def woken() -> threading.Event:
    return threading.Event()


@pytest.fixture
def gate(woken: threading.Event) -> Gate:
    gate = Gate(woken.set)
    gate.begin()
    return gate


def turn(gate: Gate) -> bool:
    """Take a turn of the kernel; return whether it could write."""
    if not gate.try_enter():
        return False
    gate.exit()
    return True


def waiting(gate: Gate) -> int:
    return len(gate._queue)


def test_a_body_keeps_the_kernel_out_until_its_call_ends(gate: Gate) -> None:
    body = Body()
    assert turn(gate)
    Entering(gate, body).thread.join()
    assert not turn(gate)
    assert gate.leave(body)
    assert turn(gate)
    assert not gate.leave(body)


def test_bodies_come_in_one_by_one_in_order_and_the_kernel_between_them(gate: Gate, until: Until) -> None:
    bodies = [Body() for _ in range(3)]
    entering = []
    for number, body in enumerate(bodies):
        entering.append(Entering(gate, body))
        if number == 0:
            assert entering[0].is_in.wait(30)
        else:
            until(lambda number=number: waiting(gate) == number)
    for number, body in enumerate(bodies):
        assert entering[number].is_in.wait(30)
        assert [each.is_in.is_set() for each in entering] == [True] * (number + 1) + [False] * (2 - number)
        assert not turn(gate)
        gate.leave(body)
        assert not any(each.is_in.is_set() for each in entering[number + 1 :])
        assert turn(gate)
    for each in entering:
        each.thread.join()


def test_a_body_elsewhere_gets_its_turn_in_the_kernels_thread(gate: Gate) -> None:
    here, there, last = Body(), Body(), Body()
    calls: list[str] = []
    Entering(gate, here).thread.join()
    gate.ask(there, lambda: calls.append("there"), stays=True)
    gate.ask(last, lambda: calls.append("last"), stays=True)
    gate.leave(here)
    assert calls == []
    assert turn(gate)
    assert calls == ["there"]
    gate.ask(there, lambda: calls.append("again"), stays=True)
    assert calls == ["there", "again"]
    gate.leave(last)  # killed while it waited
    gate.leave(there)
    assert turn(gate)
    assert turn(gate)
    assert calls == ["there", "again"]


def test_who_saves_waits_for_a_transaction_and_lets_the_next_one_wait(
    gate: Gate, woken: threading.Event, until: Until
) -> None:
    holder, saver, elsewhere = Body(), Body(), Body()
    done: list[str] = []
    Entering(gate, holder).thread.join()
    with gate.writing(holder):
        done.append("the holder itself")

    def save() -> None:
        with gate.writing(saver):
            done.append("here")

    thread = threading.Thread(target=save)
    thread.start()
    until(lambda: waiting(gate) == 1)
    gate.ask(elsewhere, lambda: done.append("elsewhere"), stays=False)
    assert done == ["the holder itself"]
    gate.leave(holder)
    assert turn(gate)
    thread.join()
    turn(gate)
    assert sorted(done[1:]) == ["elsewhere", "here"]
    Entering(gate, Body()).thread.join()
    assert not gate.try_enter()


def test_a_transaction_waits_for_those_who_save(gate: Gate, until: Until) -> None:
    begun, over = threading.Event(), threading.Event()

    def save() -> None:
        with gate.writing(Body()):
            begun.set()
            over.wait(30)

    thread = threading.Thread(target=save)
    thread.start()
    begun.wait(30)
    entering = Entering(gate, Body())
    until(lambda: waiting(gate) == 1)
    assert turn(gate)
    assert not entering.is_in.is_set()
    over.set()
    assert entering.is_in.wait(30)
    thread.join()
    entering.thread.join()


def test_a_body_that_is_asked_to_end_while_it_waits_ends(gate: Gate) -> None:
    holder, body = Body(), Body()
    Entering(gate, holder).thread.join()
    entering = Entering(gate, body)
    body.signal = Pause("enough")
    entering.thread.join(30)
    assert entering.error is body.signal
    assert waiting(gate) == 0


@pytest.mark.parametrize("how", ["given up", "closed"])
def test_a_body_that_is_given_up_while_it_waits_ends(gate: Gate, how: str) -> None:
    holder, body = Body(), Body()
    Entering(gate, holder).thread.join()
    entering = Entering(gate, body)
    if how == "closed":
        gate.close()
    else:
        body.abandoned = True
    entering.thread.join(30)
    assert isinstance(entering.error, TaskCancelled)


def test_two_bodies_of_one_thread_do_not_wait_for_each_other(gate: Gate) -> None:
    first, second = Body(), Body()
    errors: list[BaseException] = []

    def both() -> None:
        gate.enter(first)
        first.opened = SimpleNamespace(is_over=False)
        for attempt in (lambda: gate.enter(second), lambda: gate.writing(second).__enter__()):
            try:
                attempt()
            except StorageError as error:
                errors.append(error)

    thread = threading.Thread(target=both)
    thread.start()
    thread.join(30)
    assert ["isolate=True" in str(error) for error in errors] == [True, True]


def test_many_threads_are_never_in_together(gate: Gate, woken: threading.Event) -> None:
    inside: list[Any] = []
    overlaps: list[Any] = []
    ended: list[Body] = []

    def work(stays: bool) -> None:
        for _ in range(30):
            body = Body()
            if stays:
                gate.enter(body)
                inside.append(body)
                overlaps.extend(each for each in inside if each is not body)
                inside.remove(body)
                ended.append(body)
                woken.set()
            else:
                with gate.writing(body):
                    overlaps.extend(each for each in inside if isinstance(each, Body))

    threads = [threading.Thread(target=work, args=(stays,)) for stays in (True, True, False, False)]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        woken.wait(0.01)
        woken.clear()
        while ended:
            assert gate.leave(ended.pop())
        if gate.try_enter():
            overlaps.extend(inside)
            gate.exit()
    for each in threads:
        each.join()
    assert overlaps == []
