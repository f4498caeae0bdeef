"""Seconds from `dotflow_like.cancel(...)` in another process to the end of a run that waits.

A run looks now and then at what is asked of it, so the cancels of a sample come at all times between two looks.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from benchmarks import bodies
from benchmarks.databases import close_databases
from benchmarks.durable import at_quantile, returned, url
from benchmarks.graphs import scratch
from benchmarks.measure import Benchmark, Contestant, Work

if TYPE_CHECKING:
    from dotflow_like import Run

_SPREAD = 0.5  # seconds: a run looks about so often

_CANCELLER = """
import sys, time
import dotflow_like
print("ready", flush=True)
for line in sys.stdin:
    storage, workflow_id = line.split()
    began = time.monotonic()
    assert dotflow_like.cancel(workflow_id, storage=storage)
    print(began, flush=True)
"""


def cancelled(body: Callable[..., None], quantile: float, **options: Any) -> Contestant:
    """So many runs of a task that waits, one after another, each cancelled from the other process."""

    def contestant(size: int) -> Generator[Work, Any, None]:
        with scratch() as folder, canceller() as (ask, answer):
            storage = url(folder, "full")

            def latency(number: int) -> float:
                run = waits(body, storage, str(number), **options)
                time.sleep(_SPREAD * number / size)
                print(storage, number, file=ask, flush=True)
                run.wait()
                ended = time.monotonic()  # a clock all processes of the machine share
                assert run.status == "cancelled"
                return ended - float(answer.readline())

            yield lambda: at_quantile(quantile, [latency(number) for number in range(size)])
            close_databases()

    return contestant


def waits(body: Callable[..., None], storage: str, workflow_id: str, **options: Any) -> Run:
    """Start a run in a thread, and return it when its task runs, or waits for its next attempt."""
    from dotflow_like import Workflow, task

    waiting = task(body, **options)
    run = Workflow([waiting]).start(workflow_id=workflow_id, storage=storage)
    while run[waiting].status != ("retrying" if options else "running"):
        time.sleep(0.001)
    return run


@contextmanager
def canceller() -> Iterator[tuple[IO[str], IO[str]]]:
    """Start a process, and give where it is asked to cancel and where it says when it began to."""
    command = [sys.executable, "-c", _CANCELLER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.stdin, process.stdout


LATENCY = Benchmark(
    "cancel-latency",
    "from cancel() in another process to the end of a run that waits in a backoff, of 10",
    10,
    "ms",
    None,
    None,
    cancelled(bodies.fails, 0.5, retry=2, retry_delay=60),
    {
        "ours, slowest": cancelled(bodies.fails, 1, retry=2, retry_delay=60),
        "ctx.sleep": cancelled(bodies.sleeps, 0.5),
        "ctx.sleep, slowest": cancelled(bodies.sleeps, 1),
        "ctx.iterate": cancelled(bodies.goes_on, 0.5),
        "ctx.iterate, slowest": cancelled(bodies.goes_on, 1),
    },
    returned,
    scaled=False,
    rounds=3,
    fresh=True,
)
