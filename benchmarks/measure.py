"""How a figure is taken.

A contestant is a generator function of a size: it sets up, yields the work, is sent what the work returned
and checks it. Only the work is timed. Each contestant runs in processes of its own, in turns with the others
(A B C, A B C, ...), so that a slow minute of the machine hits all alike. The garbage collector stays on, as a
user has it; it is run before each sample, so that nobody pays for the garbage of the sample before.

A shared machine halves its speed for seconds at a time. So a bare loop is timed right before and after each
sample, and the sample is also given as it would be at the speed of the fastest bare loop of the whole run;
but for what does not go by the speed of one core.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OURS = "dotflow_like"
BARE_REFERENCE = 0.15  # us per call of a no-op in a bare loop, on the machine the targets come from
BUDGET = 6.0  # seconds of samples per process; one sample is always taken
PATIENCE = 300.0  # seconds until a process is given up
SLOW = 12.0  # seconds: a peer that takes longer is given one process, not one per round

Work = Callable[[], Any]
Contestant = Callable[[int], Generator[Work, Any, None]]


@dataclass(frozen=True)
class Unmeasured:
    """A peer that has nothing to measure here, and why."""

    reason: str


def timed(contestant: Contestant, size: int) -> float:
    """Return the seconds one run of the work took."""
    steps = contestant(size)
    work = next(steps)
    gc.collect()
    start = perf_counter()
    result = work()
    spent = perf_counter() - start
    with contextlib.suppress(StopIteration):
        steps.send(result)
    return spent


@dataclass(frozen=True)
class Benchmark:
    """One figure: what is measured, of whom, and what it should be.

    Attributes:
        name: how it is asked for.
        what: what is measured, in a line.
        size: how many tasks, or MB, or 1.
        unit: `us per task`, or per something else; `tasks/s` or `MB/s`, of which more is better; `ms`; `%` and `MB`, which are samples
            as they are.
        target: what our figure may be at most; where more is better, at least. None if there is none.
        goal: what it should become; None if there is none.
        ours: measures this library.
        peers: measure the others.
        sample: makes one sample of a contestant and a size, in seconds if the unit is of time.
        to: a peer; then target and goal say how many times better than this peer's our figure must be. Without a
            target it is the one our figure is to be read beside.
        scaled: whether samples go by the speed of the bare loop.
        rounds: how many processes each contestant gets.
        repeat: how many samples each process takes, if they fit in its budget.
        fresh: the sample is the first of its process; the process that is thrown away compiles bytecode.
    """

    name: str
    what: str
    size: int
    unit: str
    target: float | None
    goal: float | None
    ours: Any
    peers: Mapping[str, Any] = field(default_factory=dict)
    sample: Callable[[Any, int], float] = timed
    to: str | None = None
    scaled: bool = True
    rounds: int = 5
    repeat: int = 5
    fresh: bool = False

    @property
    def contestants(self) -> dict[str, Any]:
        return {OURS: self.ours, **self.peers}

    def figure(self, sample: float, size: int) -> float:
        if self.unit.startswith("us per "):
            return sample / size * 1e6
        match self.unit:
            case "ms":
                return sample * 1e3
            case "tasks/s" | "MB/s":
                return size / sample
        return sample

    def steady(self, of: Figures, fastest: float) -> float:
        """Return the median of what the samples would be at the speed of this bare loop."""
        if not self.scaled:
            return of.median
        power = -1 if self.more_is_better else 1
        return median(
            sample * (fastest / bare) ** power for sample, bare in zip(of.samples, of.bare, strict=True)
        )

    def times_better(self, ours: float, other: float) -> float:
        return ours / other if self.more_is_better else other / ours

    def best(self, of: Figures) -> float:
        return max(of.samples) if self.more_is_better else min(of.samples)

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")

    @property
    def demand(self) -> str:
        """Return the target as it is printed."""
        if self.target is None:
            return "-"
        if self.to:
            return f"{self.target:.3g} x"
        return f"{'>=' if self.more_is_better else '<='} {self.target:g}"


@dataclass
class Figures:
    """What was measured of one contestant.

    Attributes:
        samples: in the benchmark's unit.
        bare: microseconds per call of the bare loop around each sample.
        note: why there is nothing, or no more.
        slow: it got one process only.
    """

    samples: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    note: str = ""
    slow: bool = False

    @property
    def median(self) -> float:
        return median(self.samples)


def nop() -> None:
    pass


def bare_loop(calls: int = 100_000) -> float:
    """Return the microseconds a bare loop takes to call a no-op function."""
    start = perf_counter()
    for _ in range(calls):
        nop()
    return (perf_counter() - start) / calls * 1e6


def samples(benchmark: Benchmark, who: str, size: int, repeat: int) -> Figures:
    """Take up to `repeat` samples of a contestant, here, after one that is thrown away; or its first alone."""
    contestant = benchmark.contestants[who]
    if benchmark.fresh:
        repeat = 1
    else:
        benchmark.sample(contestant, min(size, 1000))
    taken = Figures()
    end = perf_counter() + BUDGET
    while len(taken.samples) < repeat and not (taken.samples and perf_counter() > end):
        before = bare_loop()
        taken.samples.append(benchmark.figure(benchmark.sample(contestant, size), size))
        taken.bare.append((before + bare_loop()) / 2)
    return taken


def measured(benchmark: Benchmark, told: Callable[[str], None] = lambda _: None) -> dict[str, Figures]:
    """Measure all contestants in turns, each in fresh processes."""
    figures = {who: Figures() for who in benchmark.contestants}
    for number in range(1 - benchmark.fresh, benchmark.rounds + 1):
        for who, contestant in benchmark.contestants.items():
            of = figures[who]
            if isinstance(contestant, Unmeasured):
                of.note = contestant.reason
            elif not of.note and not of.slow:
                told(f"{benchmark.name}, round {number} of {benchmark.rounds}: {who}")
                start = perf_counter()
                answer = _in_process(benchmark, who)
                if not number and "samples" in answer:
                    continue
                of.slow = who not in (OURS, benchmark.to) and perf_counter() - start > SLOW
                of.note = answer.get("note", "")
                of.samples += answer.get("samples", [])
                of.bare += answer.get("bare", [])
    return figures


def _in_process(benchmark: Benchmark, who: str) -> dict[str, Any]:
    task = [benchmark.name, who, str(benchmark.size), str(benchmark.repeat)]
    command = [sys.executable, "-m", "benchmarks.worker", *task]
    # Hamilton and Ray report to their makers over the network unless they are told not to.
    env = {**os.environ, "HAMILTON_TELEMETRY_ENABLED": "false", "RAY_USAGE_STATS_ENABLED": "0"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # or new worker processes compile all they import
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return {"note": f"not done in {PATIENCE:g} s"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return {"note": f"does not run: {last[:200]}"}
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
