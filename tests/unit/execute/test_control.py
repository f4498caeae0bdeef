"""How a run is asked to stop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from dotflow_like.execute.control import INTERRUPTED, Control, Stop, Terminated, stopped_by_signals
from dotflow_like.model.status import RunStatus

PAUSE = Stop(RunStatus.PAUSED, "paused")
CANCEL = Stop(RunStatus.CANCELLED, "cancelled")


def made() -> tuple[Control, list[int]]:
    woken: list[int] = []
    return Control(lambda: woken.append(1)), woken


def test_asking_wakes_the_run() -> None:
    control, woken = made()
    assert control.stop is None
    assert control.ask(PAUSE) is True
    assert control.stop == PAUSE
    assert woken == [1]


@pytest.mark.parametrize(
    ("wishes", "counts"),
    [([PAUSE, CANCEL], CANCEL), ([CANCEL, PAUSE], CANCEL), ([PAUSE, PAUSE], PAUSE), ([CANCEL], CANCEL)],
)
def test_cancelling_counts_more_than_pausing(wishes: list[Stop], counts: Stop) -> None:
    control, _ = made()
    for each in wishes:
        assert control.ask(each)
    assert control.close() == counts


def test_a_run_that_has_ended_cannot_be_asked() -> None:
    control, woken = made()
    assert control.close() is None
    assert control.ask(CANCEL) is False
    assert control.stop is None
    assert woken == []


def test_the_first_signal_pauses_and_the_second_ends_the_grace() -> None:
    control, woken = made()
    control.signalled(signal.SIGTERM)
    assert control.stop == Stop(RunStatus.PAUSED, INTERRUPTED)
    assert control.hurry is False
    control.signalled(signal.SIGINT)
    assert control.hurry is True
    assert control.signum == signal.SIGTERM
    assert woken == [1, 1]


def test_a_keyboard_interrupt_of_a_body_counts_as_one_ctrl_c() -> None:
    control, _ = made()
    control.interrupted()
    control.interrupted()
    assert control.signum == signal.SIGINT
    assert control.hurry is False


def test_what_is_raised_in_the_end() -> None:
    control, _ = made()
    control.signalled(signal.SIGINT)
    assert isinstance(control.error(), KeyboardInterrupt)
    control, _ = made()
    control.signalled(signal.SIGTERM)
    error = control.error()
    assert isinstance(error, SystemExit)
    assert error.code == 143


def handlers() -> tuple[object, object]:
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


@pytest.fixture
def defaults() -> object:
    """The default handlers, whatever the test runner has set."""
    before = handlers()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield handlers()
    signal.signal(signal.SIGINT, before[0])  # type: ignore[arg-type]
    signal.signal(signal.SIGTERM, before[1])  # type: ignore[arg-type]


def test_handlers_are_there_in_the_block_and_restored_after_it(defaults: object) -> None:
    control, _ = made()
    with stopped_by_signals(control, 10, lambda: False):
        assert handlers() != defaults
    assert handlers() == defaults


def test_handlers_are_restored_when_the_block_raises(defaults: object) -> None:
    control, _ = made()
    with pytest.raises(LookupError), stopped_by_signals(control, 10, lambda: False):
        raise LookupError
    assert handlers() == defaults


def test_nested_blocks_leave_the_outer_ones_handlers(defaults: object) -> None:
    outer, _ = made()
    inner, _ = made()
    with stopped_by_signals(outer, 10, lambda: False):
        of_outer = handlers()
        with stopped_by_signals(inner, 10, lambda: False):
            assert handlers() == of_outer
        assert handlers() == of_outer


def test_a_handler_of_the_users_own_is_left_alone(defaults: object) -> None:
    control, _ = made()
    seen: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: seen.append(signum))
    with stopped_by_signals(control, 10, lambda: False):
        os.kill(os.getpid(), signal.SIGTERM)
    assert seen == [signal.SIGTERM]
    assert control.stop is None


def test_an_ignored_signal_stays_ignored(defaults: object) -> None:
    control, _ = made()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopped_by_signals(control, 10, lambda: False):
        os.kill(os.getpid(), signal.SIGINT)
    assert control.stop is None


def test_in_another_thread_nothing_is_touched(defaults: object) -> None:
    control, _ = made()
    seen: list[object] = []

    def go() -> None:
        with stopped_by_signals(control, 10, lambda: False):
            seen.append(handlers())

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    assert seen == [defaults]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_outside_a_body_a_signal_only_asks(defaults: object, signum: signal.Signals) -> None:
    control, _ = made()
    with stopped_by_signals(control, 10, lambda: False):
        os.kill(os.getpid(), signum)
    assert control.stop == Stop(RunStatus.PAUSED, INTERRUPTED)
    assert control.signum == signum


def test_inside_a_body_ctrl_c_is_raised_at_once(defaults: object) -> None:
    control, _ = made()
    with stopped_by_signals(control, 10, lambda: True), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert control.signum == signal.SIGINT


def test_inside_a_body_sigterm_is_raised_when_the_grace_is_over(defaults: object) -> None:
    control, _ = made()
    with stopped_by_signals(control, 0.01, lambda: True):
        os.kill(os.getpid(), signal.SIGTERM)
        assert control.stop is not None
        with pytest.raises(Terminated):
            threading.Event().wait(30)


def test_the_grace_ends_with_the_block(defaults: object) -> None:
    control, _ = made()
    with stopped_by_signals(control, 3600, lambda: True):
        os.kill(os.getpid(), signal.SIGTERM)
    assert not any(
        isinstance(each, threading.Timer) and each.is_alive() and not each.finished.is_set()
        for each in threading.enumerate()
    )
