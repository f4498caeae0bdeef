"""The clock that tests own."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dotflow_like import DotflowWarning, Manager, RunStatus, clock, task
from dotflow_like.testing import FakeClock

START = datetime(2030, 6, 1, tzinfo=UTC)


def test_it_stands_still_until_it_is_moved() -> None:
    fake = FakeClock(START)
    assert fake.now() == START
    assert fake.elapsed == fake.monotonic() == 0
    fake.advance(90)
    fake.sleep(10)
    assert fake.now() == START + timedelta(seconds=100)
    assert fake.elapsed == fake.monotonic() == 100


def test_it_is_the_current_clock_inside_its_block_only() -> None:
    before = clock.current()
    with FakeClock() as fake:
        assert clock.current() is fake
        with FakeClock() as inner:
            assert clock.current() is inner
        assert clock.current() is fake
    assert clock.current() is before


def test_it_is_taken_away_when_the_block_raises() -> None:
    before = clock.current()
    with pytest.raises(LookupError), FakeClock():
        raise LookupError
    assert clock.current() is before


@pytest.mark.parametrize("options", [{}, {"mode": "background"}, {"mode": "parallel", "executor": "thread"}])
def test_a_run_inside_does_not_wait_for_its_delays(options: dict[str, Any]) -> None:
    calls: list[float] = []

    @task(retry=4, retry_delay=3600, backoff=True)
    def bad() -> None:
        calls.append(fake.elapsed)
        if len(calls) < 4:
            raise ValueError

    began = time.monotonic()
    with FakeClock(START) as fake:
        run = Manager([bad], **options).wait()
    assert time.monotonic() - began < 60
    assert calls == [0, 3600, 3 * 3600, 7 * 3600]
    assert run.started == START
    assert run.finished == START + timedelta(hours=7)
    assert run.duration == 7 * 3600


def test_while_a_body_runs_time_does_not_jump() -> None:
    gate = threading.Event()
    calls: list[int] = []

    @task(retry=2, retry_delay=3600)
    def bad() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        gate.set()

    @task
    def busy() -> bool:
        return gate.wait(0.05)

    with FakeClock() as fake:
        run = Manager([bad, busy], mode="parallel", executor="thread", max_workers=2)
    assert run[busy].result is False
    assert fake.elapsed == 3600


def test_somebody_may_move_it_while_a_body_runs() -> None:
    @task
    def slow() -> None:
        fake.sleep(120)

    with FakeClock() as fake:
        run = Manager([slow])
    assert run[slow].duration == 120
    assert run.duration == 120


def test_a_time_limit_is_reached_when_it_is_moved_there() -> None:
    begun, gate = threading.Event(), threading.Event()

    @task
    def held() -> None:
        begun.set()
        gate.wait(30)

    def move() -> None:
        assert begun.wait(30)
        fake.advance(60)

    mover = threading.Thread(target=move)
    with FakeClock() as fake:
        mover.start()
        with pytest.warns(DotflowWarning, match="cannot be stopped"):
            run = Manager([held], timeout=60, on_failure=lambda tasks: None)
    gate.set()
    mover.join()
    assert (run.status, run.reason) == (RunStatus.FAILED, "timeout")


def test_the_real_clock_tells_the_time() -> None:
    real = clock.Clock()
    assert abs((real.now() - datetime.now(UTC)).total_seconds()) < 60
    assert real.now().tzinfo is UTC
    before = real.monotonic()
    real.sleep(0.001)
    assert real.monotonic() > before
    assert real.patience(None, idle=True) is None
    assert real.patience(before, idle=True) == 0
    left = real.patience(real.monotonic() + 100, idle=False)
    assert left is not None
    assert 90 < left <= 100
