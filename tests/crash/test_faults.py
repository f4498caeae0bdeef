"""One task goes wrong in every way there is: it alone fails, with its cause, and the others are intact."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Config, Manager, RunFailed, RunStatus, Task, TaskStatus, task

START_METHODS = ["spawn", "fork"]
PLACES = {"first": 0, "middle": 3, "last": 6}
HEALTHY = 6  # tasks beside the culprit
SLOWEST = 0.2  # seconds, of one of them
NOISE = 10.0  # seconds a busy machine may take longer, and far fewer than anything that hangs

usual: dict[tuple[str, int], float] = {}
"""Seconds the healthy tasks take alone, by start method and number of workers."""


@pytest.mark.parametrize("place", ["middle"])
@pytest.mark.parametrize("workers", [2])
@pytest.mark.parametrize("start_method", ["spawn"])
def test_a_culprit_alone_fails_with_its_cause(
    culprit: Any, start_method: str, workers: int, place: str, processes: Any, until: Any, tmp_path: Path
) -> None:
    check(culprit, start_method, workers, place, processes, until, tmp_path)


@pytest.mark.parametrize(
    ("name", "start_method", "workers", "place"),
    [
        ("os._exit", "fork", 1, "first"),
        ("SIGTERM", "fork", 2, "middle"),
        ("holds_the_gil", "fork", 2, "last"),
        ("SIGKILL", "spawn", 1, "first"),
        ("never", "spawn", 1, "first"),
        ("result exits when loaded", "spawn", 1, "last"),
    ],
)
def test_a_culprit_alone_fails_forked_or_with_one_worker_too(
    culprits: Any, name: str, start_method: str, workers: int, place: str, processes: Any, until: Any, tmp_path: Path
) -> None:  # fmt: skip
    check(culprits[name], start_method, workers, place, processes, until, tmp_path)


@pytest.mark.crash
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("start_method", START_METHODS)
def test_a_culprit_alone_fails_wherever_it_stands(
    culprit: Any, start_method: str, workers: int, place: str, processes: Any, until: Any, tmp_path: Path
) -> None:
    check(culprit, start_method, workers, place, processes, until, tmp_path)


def check(
    culprit: Any, start_method: str, workers: int, place: str, processes: Any, until: Any, tmp_path: Path
) -> None:
    """Run a culprit among healthy tasks, and see that nothing but itself is harmed."""
    options: Any = {"start_method": start_method, "workers": workers}
    if (start_method, workers) not in usual:
        ledger = tmp_path / "first"
        begun = time.monotonic()
        check_healthy(run(healthy(ledger), **options), ledger)
        usual[start_method, workers] = time.monotonic() - begun
    ledger = tmp_path / "ledger"
    tasks = healthy(ledger)
    tasks.insert(PLACES[place], task(culprit.body, name="culprit", timeout=culprit.timeout))
    begun = time.monotonic()
    ended = run(tasks, **options)
    took = time.monotonic() - begun
    noise = NOISE if culprit.exception else 4 * NOISE  # a result of 1 GiB is work
    assert took <= usual[start_method, workers] + (culprit.timeout or 0) + 1 + noise
    check_culprit(ended, culprit)
    check_healthy(ended, ledger)

    until(lambda: not processes.strays(), "the end of what the culprit started", NOISE)
    ledger = tmp_path / "next"
    needs_memory = task(lambda: len(bytes(512 << 20)), name="needs memory")
    after = run([*healthy(ledger, slowest=0), needs_memory], **options)
    assert after.raise_for_failure()[needs_memory].result == 512 << 20
    check_healthy(after, ledger)


def run(tasks: list[Task[..., Any]], *, start_method: Any, workers: int) -> Manager:
    return Manager(
        tasks,
        mode="parallel",
        max_workers=workers,
        keep_going=True,
        config=Config(start_method=start_method),
        on_failure=lambda tasks: None,
    )


def healthy(ledger: Path, slowest: float = SLOWEST) -> list[Task[..., Any]]:
    """Return tasks that note in a file that they run; one of them is slow."""
    path = str(ledger)

    def body(i: int, pause: float) -> dict[str, Any]:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{i}\n".encode())
        os.close(descriptor)
        time.sleep(pause)
        return {"number": i, "text": "x" * i, "data": bytes(100_000 * i)}

    return [
        task(body, name=f"healthy{i}").bind(i=i, pause=slowest if i == HEALTHY - 2 else 0)
        for i in range(HEALTHY)
    ]


def check_healthy(run: Manager, ledger: Path) -> None:
    """See that the healthy tasks ran once each, and that their results are right."""
    assert sorted(map(int, ledger.read_text().split())) == list(range(HEALTHY))
    for i in range(HEALTHY):
        each = run[f"healthy{i}"]
        assert (each.status, each.reason, len(each.attempts)) == (TaskStatus.COMPLETED, None, 1)
        assert each.result == {"number": i, "text": "x" * i, "data": bytes(100_000 * i)}


def check_culprit(run: Manager, culprit: Any) -> None:
    """See that the culprit failed of what it is, in words everybody can read."""
    one = run["culprit"]
    if culprit.exception is None:
        assert run.status is RunStatus.COMPLETED
        assert culprit.is_right(one.result)
        return
    assert (run.status, run.reason) == (RunStatus.FAILED, "failed: culprit")
    assert one.status is TaskStatus.FAILED
    assert one.result is None
    (attempt,) = one.attempts
    assert attempt.outcome == ("timed_out" if culprit.timeout else "failed")
    (error,) = one.errors
    assert error.exception == culprit.exception
    assert culprit.words in error.message
    if culprit.raises:
        assert culprit.body.__name__ in error.traceback
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    assert len(raised.value.exceptions) == 1
    assert culprit.exception in f"{type(raised.value.exceptions[0]).__name__} {raised.value.exceptions[0]!r}"
    json.dumps(run.to_dict())
