"""Every attempt that is recorded as ended was scheduled, started and finished in this order, whatever the clock does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dotflow_like import AttemptStatus, Manager, MemoryStorage, clock, task
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.keyvalue import KeyValueJournal


class Unsteady(clock.Clock):
    """A time of day that jumps to and fro with every look."""

    def __init__(self, hours: int) -> None:
        self._random = Random(1)
        self._hours = hours

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(hours=self._random.uniform(-self._hours, self._hours))


@pytest.fixture(params=[0, 24], ids=["steady", "unsteady"])
def time_of_day(request: pytest.FixtureRequest) -> Iterator[None]:
    replaced = clock.use(Unsteady(request.param))
    yield
    clock.use(replaced)


def all_kinds(folder: Path) -> list[Any]:
    """Return tasks that end in different ways."""

    def third_time(name: str) -> int:
        tries = folder / name
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) < 3:
            raise ValueError("not yet")
        return 3

    def fail() -> None:
        raise ValueError("always")

    failing = task(fail, retry=2, retry_delay=0.001, name="failing")
    return [
        task(lambda: 1, name="fine"),
        task(third_time, retry=3, name="at once").bind(name="one"),
        task(third_time, retry=3, retry_delay=0.001, backoff=True, name="later").bind(name="two"),
        failing,
        task(lambda x: x, name="skipped").bind(x=failing),
        task(lambda x: x, name="many").map(x=range(5)),
        task(lambda: time.sleep(60), timeout=0.05, isolate=True, name="slow"),
    ]


def test_no_attempt_starts_before_it_is_scheduled_or_ends_before_it_starts(
    run_in: Callable[..., Manager], tmp_path: Path, time_of_day: None
) -> None:
    storage = MemoryStorage()
    run = run_in(
        all_kinds(tmp_path),
        keep_going=True,
        storage=storage,
        workflow_id="run",
        on_failure=lambda tasks: None,
    )
    recorded = KeyValueJournal(storage, JsonCodec()).attempts("run")
    assert sorted(recorded) == sorted(run.attempts)
    ended = {each.outcome for each in recorded}
    assert ended == {"success", "retried", "failed", "timed_out"}
    for each in recorded:
        assert each.status not in (AttemptStatus.SCHEDULED, AttemptStatus.RUNNING)
        assert each.started_at is not None
        assert each.finished_at is not None
        assert each.scheduled_at <= each.started_at <= each.finished_at, each
