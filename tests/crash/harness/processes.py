"""Processes that a test can kill by the thousand."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import dotflow_like

PACKAGE = str(Path(dotflow_like.__file__).parent.parent)
WAIT = 50  # seconds for what takes one or two


class Moment(NamedTuple):
    """When to kill a process.

    Attributes:
        effects: after so many bodies have begun,
        seconds: and so many seconds later.
        worker: whether one of its workers is killed before it.
        hasty: whether the next process is started before this one's end is seen.
        politely: whether it is asked to end before, by SIGTERM.
    """

    effects: int
    seconds: float
    worker: bool = False
    hasty: bool = False
    politely: bool = False

    @classmethod
    def chosen(cls, chance: random.Random, *, fresh: bool) -> Moment:
        """Return one at random; a fresh interpreter takes longer to begin its work."""
        effects = chance.choice([0, 0, 1, 1, 2, 2, 3, 5, 8])
        latest = 0.008 if effects else 0.3 if fresh else 0.06
        likely = (0.2, 0.3, 0.2)
        return cls(effects, chance.uniform(0, latest), *(chance.random() < each for each in likely))


class Nursery:
    """Processes that begin quickly, as `nursery.py` describes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("nursery.py"))],
            env={**os.environ, "PYTHONPATH": PACKAGE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(json.dumps(order), file=self._process.stdin, flush=True)
            return json.loads(self._process.stdout.readline())

    def born(self, script: str, arguments: list[str], folder: Path) -> Born:
        """Return a new process that runs a script, and writes `out` and `errors` in a folder."""
        return Born(self, script, arguments, folder)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(WAIT)
        self._process.stdout.close()


class Born:
    """A process, begun in the nursery or as a fresh interpreter; it leads a session of its own."""

    def __init__(self, nursery: Nursery | None, script: str, arguments: list[str], folder: Path) -> None:
        self.returncode: int | None = None
        self.way = "where it was told to"
        self._folder = folder
        self._nursery = nursery
        self._process: subprocess.Popen[bytes] | None = None
        if nursery is not None:
            self.pid = nursery.ask(script=script, arguments=arguments, folder=str(folder))
            return
        with (folder / "out").open("wb") as out, (folder / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", script, *arguments],
                env={**os.environ, "PYTHONPATH": PACKAGE},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def errors(self) -> str:
        return (self._folder / "errors").read_text()

    def poll(self) -> int | None:
        if self.returncode is None:
            if self._process is not None:
                self.returncode = self._process.poll()
            else:
                assert self._nursery is not None
                self.returncode = self._nursery.ask(wait=self.pid)
        return self.returncode

    def wait(self, seconds: float = WAIT) -> int:
        """Return how it ended.

        Raises:
            TimeoutError: it has not by then.
        """
        until = time.monotonic() + seconds
        while self.poll() is None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"process {self.pid} has not ended after {seconds:g} s")
            _wait_for_end(self.pid, left)
        assert self.returncode is not None
        return self.returncode

    def check_going(self, since: float) -> None:
        """Fail if it has been at work for too long; what it hangs in is shown."""
        if time.monotonic() < since + WAIT or self.poll() is not None:
            return
        os.kill(self.pid, signal.SIGABRT)
        with suppress(TimeoutError):
            self.wait(5)
        raise AssertionError(f"process {self.pid} hangs:\n{self.errors}")

    def kill(self) -> None:
        """Kill its group, if it has not ended."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)

    def workers(self) -> list[int]:
        """Return its children, where the system tells."""
        with suppress(OSError):
            return [
                int(pid)
                for each in Path(f"/proc/{self.pid}/task").iterdir()
                for pid in (each / "children").read_text().split()
            ]
        return []


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone; or its number is somebody else's by now
        return False
    if not Path("/proc/self").exists():
        return True
    try:  # a process that has ended may wait for somebody to take note of it
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: set[int]) -> None:
    """Wait until processes have ended; fail if they do not."""
    deadline = time.monotonic() + WAIT
    while pids := {pid for pid in pids if is_alive(pid)}:
        assert time.monotonic() < deadline, f"processes {pids} outlived their run"
        time.sleep(0.01)


def _wait_for_end(pid: int, seconds: float) -> None:
    """Wait until a process has ended, or for so long; or a little."""
    if not hasattr(os, "pidfd_open"):
        time.sleep(min(seconds, 0.005))
        return
    descriptor = os.pidfd_open(pid)
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)
