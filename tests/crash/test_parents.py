"""The parent is killed while its workers are busy or begin: none outlives it, and nothing happens afterwards.

`CRASH_SEED=... pytest -m crash tests/crash/test_parents.py` replays the moments of a test that failed; its output
names the seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import dotflow_like

PACKAGE = str(Path(dotflow_like.__file__).parent.parent)
SOON = 5.0  # seconds; one is what is promised, the rest is for a busy machine
GRACE = 0.5  # seconds

# All workers are busy: in Python, in C with the interpreter's lock held, and with a process of its own.
SCRIPT = """
import ctypes, os, subprocess, sys, time
from pathlib import Path
from dotflow_like import Config, Manager, task

place, start_method, forks = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "forks"


def fork(task):  # a child of the parent that lives on, with copies of all it had open
    if os.fork() == 0:
        (place / "new").write_text(str(os.getpid()))
        (place / "new").rename(place / "forked")
        time.sleep(600)
        os._exit(0)


@task(callback=fork if forks else None)
def quick():
    while forks and len(list(place.glob("busy *"))) < 3:
        time.sleep(0.005)


@task
def writes():
    with open(place / "effects", "ab", buffering=0) as file:
        (place / "busy writes").touch()
        while True:
            file.write(b"x")
            time.sleep(0.0005)


@task
def holds_the_lock():
    (place / "busy holds").touch()
    ctypes.PyDLL(None).sleep(600)


@task
def waits_for_a_child():
    child = subprocess.Popen(["sleep", "600"])
    (place / "busy waits").touch()
    child.wait()


config = Config(grace=GRACE, start_method=start_method)
Manager([writes, holds_the_lock, waits_for_a_child, quick], mode="parallel", max_workers=4, config=config)
""".replace("GRACE", str(GRACE))


class Parent:
    """A process with a parallel run, that is going to be killed."""

    def __init__(self, place: Path, processes: Any, start_method: str, *, forks: bool = False) -> None:
        place.mkdir(exist_ok=True)
        (place / "script.py").write_text(SCRIPT)
        self.place = place
        self.processes = processes
        self.forks = forks
        with (place / "errors").open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "script.py", str(place), start_method, "forks" if forks else ""],
                env={**processes.environment, "PYTHONPATH": PACKAGE},
                cwd=place,
                stdout=errors,
                stderr=errors,
            )

    @property
    def is_busy(self) -> bool:
        """Whether all workers are, and the child that lives on is there."""
        self._assert_running()
        names = {each.name for each in self.place.iterdir()}
        return {"busy writes", "busy holds", "busy waits"} <= names and ("forked" in names) >= self.forks

    @property
    def has_workers(self) -> bool:
        """Whether the first of its workers is there, or what becomes one."""
        self._assert_running()
        return len(self.processes.alive()) > 1

    def _assert_running(self) -> None:
        assert self.process.poll() is None, (self.place / "errors").read_text()

    def check_end(self, signum: int, until: Any) -> float:
        """Kill it, see that all ends with it, and return how many seconds after it that was."""
        self.process.send_signal(signum)
        code = self.process.wait(GRACE + 2 * SOON)
        # a SIGTERM that finds no run yet ends the process as it always does
        assert code in ([-signal.SIGKILL] if signum == signal.SIGKILL else [128 + signum, -signum])
        forked = {int((self.place / "forked").read_text())} if self.forks else set()
        took = until(lambda: self.processes.alive() == forked, "the end of the workers", SOON)
        effects = self.place / "effects"
        size = effects.stat().st_size if effects.exists() else 0
        time.sleep(0.05)
        assert (effects.stat().st_size if effects.exists() else 0) == size
        return float(took)

    def close(self) -> None:
        """Leave nothing of it, whatever became of the test."""
        self.process.kill()
        self.process.wait()
        for pid in self.processes.alive():
            os.kill(pid, signal.SIGKILL)


def check(
    place: Path, processes: Any, until: Any, signum: int, start_method: str, moment: str, later: float
) -> float:
    parent = Parent(place, processes, start_method, forks=moment == "with a fork that lives on")
    try:
        if moment == "at the start":
            until(lambda: parent.has_workers, "the first worker")
        else:
            until(lambda: parent.is_busy, "the bodies")
        time.sleep(later)
        return parent.check_end(signum, until)
    finally:
        parent.close()


SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
MOMENTS = ["at the start", "when all are busy", "with a fork that lives on"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("signum", SIGNALS.values(), ids=SIGNALS)
def test_workers_end_with_their_parent(
    tmp_path: Path, processes: Any, until: Any, signum: int, moment: str
) -> None:
    check(tmp_path, processes, until, signum, "spawn", moment, 0.01)


def test_forked_workers_end_with_their_parent(tmp_path: Path, processes: Any, until: Any) -> None:
    check(tmp_path, processes, until, signal.SIGKILL, "fork", "when all are busy", 0)


@pytest.mark.crash
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("signum", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_workers_end_with_their_parent_at_any_moment(
    tmp_path: Path, processes: Any, until: Any, start_method: str, signum: int, moment: str
) -> None:
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"to replay: CRASH_SEED={seed}")
    moments = random.Random(seed)
    took = []
    for number in range(40):
        later = moments.uniform(0, 0.4 if moment == "at the start" else 0.05)
        took.append(check(tmp_path / str(number), processes, until, signum, start_method, moment, later))
    print(f"the last worker ended {max(took):.3f} s after its parent at most")
