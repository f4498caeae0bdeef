"""Ctrl-C and SIGTERM, sent to a real script, in each mode."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

MODES = ["sequential", "sequential_group", "background", "parallel"]

HEAD = """
import os, signal, sys, time
from pathlib import Path
from dotflow_like import Config, Manager, task

def mark(name, text=""):
    Path(name + ".new").write_text(text)
    os.rename(name + ".new", name)

@task
def first():
    return 1

@task
def body(n, ctx):
    mark("begun", str(os.getpid()))
    try:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if ctx.cancelled:
                mark("asked")
                if {heeds}:
                    mark("heeded")
                    return "heeded"
            time.sleep(0.005)
        mark("never-stopped")
    finally:
        mark("finally")

@task
def rest(n):
    mark("rest")

taken = body.bind(n=first)
tasks = [first, taken, rest.bind(n=taken)]
options = dict(workflow_id="night", config=Config(storage="store", grace={grace}))
"""

RUN = "Manager(tasks, mode={mode!r}, **options).wait()\n"

RUN_AND_LOOK = """
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
try:
    Manager(tasks, mode={mode!r}, **options).wait()
except BaseException as error:
    mark("raised", repr(error))
after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
mark("handlers", str(before == after))
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a script and returns it when its body has begun; none is left behind."""
    started: list[subprocess.Popen[str]] = []

    def begin(
        text: str, *, wait_for: str = "begun", handled: bool = True, **values: Any
    ) -> subprocess.Popen[str]:
        values = {"grace": 30, "heeds": True} | values
        path = tmp_path / "script.py"
        path.write_text(text.format(**values))
        script = subprocess.Popen(
            [sys.executable, "-W", "error", str(path)], cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        started.append(script)
        until((tmp_path / wait_for).exists, lambda: script.poll() is None, "the body")
        if handled:  # a body in the background may begin before somebody waits for it
            until(lambda: catches(script.pid, signal.SIGTERM), lambda: script.poll() is None, "the handler")
        return script

    yield begin
    for script in started:
        if script.poll() is None:
            script.kill()
        script.communicate()


def until(condition: Callable[[], object], possible: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert possible(), f"{what} can come no more"
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.005)


def ended(script: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a script; return its exit status and what it wrote to stderr."""
    _, err = script.communicate(timeout=60)
    return script.returncode, err


def catches(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal; waits, and guesses, where there is no /proc."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        time.sleep(0.3)
        return True
    (line,) = [line for line in status.read_text().splitlines() if line.startswith("SigCgt")]
    return bool(int(line.split()[1], 16) >> (signum - 1) & 1)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/status")
    try:
        return status.exists() and "State:\tZ" in status.read_text()
    except OSError:
        return True


def recorded(folder: Path) -> Any:
    """Return the row of the run as its library reads it."""
    from dotflow_like.record.codec import JsonCodec
    from dotflow_like.record.keyvalue import KeyValueJournal
    from dotflow_like.record.storage.files import FileStorage
    from dotflow_like.record.types import TypeRegistry

    return KeyValueJournal(FileStorage(folder / "store"), JsonCodec(TypeRegistry())).run("night")


def assert_stopped(folder: Path, err: str) -> None:
    row = recorded(folder)
    assert (row.status, row.reason) == ("paused", "interrupted")
    assert "run night of workflow is paused (interrupted)" in err
    assert "workflow_id='night', resume=True" in err
    assert not (folder / "rest").exists()
    assert not (folder / "never-stopped").exists()
    pid = int((folder / "begun").read_text())
    until(lambda: is_gone(pid), lambda: True, "the worker's end")


@pytest.mark.parametrize("mode", MODES)
def test_ctrl_c_stops_the_run_and_ends_the_script_as_ctrl_c_does(
    start: Start, tmp_path: Path, mode: str
) -> None:
    script = start(HEAD + RUN, mode=mode)
    script.send_signal(signal.SIGINT)
    status, err = ended(script)
    assert status == -signal.SIGINT
    assert "KeyboardInterrupt" in err
    assert_stopped(tmp_path, err)
    # where the body runs in the main thread it is raised in it; elsewhere the body is asked
    assert (tmp_path / "heeded").exists() == (mode in ("background", "parallel"))
    assert (tmp_path / "finally").exists()


@pytest.mark.parametrize("mode", MODES)
def test_sigterm_stops_the_run_and_ends_the_script_with_143(start: Start, tmp_path: Path, mode: str) -> None:
    script = start(HEAD + RUN, mode=mode)
    script.send_signal(signal.SIGTERM)
    status, err = ended(script)
    assert status == 143
    assert "Traceback" not in err
    assert_stopped(tmp_path, err)
    assert (tmp_path / "heeded").exists()
    assert "2 of 3 tasks are done" in err


@pytest.mark.parametrize("mode", MODES)
def test_after_the_grace_a_body_that_does_not_heed_is_stopped(
    start: Start, tmp_path: Path, mode: str
) -> None:
    script = start(HEAD + RUN, mode=mode, heeds=False, grace=0.05)
    script.send_signal(signal.SIGTERM)
    status, err = ended(script)
    assert status == 143
    assert_stopped(tmp_path, err)
    assert "1 of 3 tasks are done" in err
    if mode.startswith("sequential"):
        assert (tmp_path / "finally").exists()


@pytest.mark.parametrize(
    ("mode", "second"),
    [
        ("sequential", signal.SIGTERM),
        ("sequential", signal.SIGINT),
        ("background", signal.SIGTERM),
        ("parallel", signal.SIGINT),
    ],
)
def test_a_second_signal_ends_the_grace(
    start: Start, tmp_path: Path, mode: str, second: signal.Signals
) -> None:
    script = start(HEAD + RUN, mode=mode, heeds=False, grace=3600)
    script.send_signal(signal.SIGTERM)
    until((tmp_path / "asked").exists, lambda: script.poll() is None, "the first signal's arrival")
    script.send_signal(second)
    status, err = ended(script)
    assert status == 143
    assert_stopped(tmp_path, err)


@pytest.mark.parametrize(
    ("mode", "signum", "error"),
    [
        ("sequential", signal.SIGINT, "KeyboardInterrupt()"),
        ("sequential_group", signal.SIGTERM, "SystemExit(143)"),
        ("background", signal.SIGINT, "KeyboardInterrupt()"),
        ("parallel", signal.SIGTERM, "SystemExit(143)"),
        ("parallel", signal.SIGINT, "KeyboardInterrupt()"),
    ],
)
def test_it_is_raised_to_the_caller_and_the_handlers_are_restored(
    start: Start, tmp_path: Path, mode: str, signum: signal.Signals, error: str
) -> None:
    script = start(HEAD + RUN_AND_LOOK, mode=mode)
    script.send_signal(signum)
    status, err = ended(script)
    assert status == 0, err
    assert (tmp_path / "raised").read_text() == error
    assert (tmp_path / "handlers").read_text() == "True"
    assert_stopped(tmp_path, err)


def test_a_handler_of_the_users_own_is_left_alone(start: Start, tmp_path: Path) -> None:
    own = (
        HEAD
        + """
def mine(signum, frame):
    mark("mine")
signal.signal(signal.SIGTERM, mine)
signal.signal(signal.SIGINT, mine)
from threading import Thread
run = Manager(tasks, mode="parallel", max_workers=1, **options)
"""
    )
    script = start(own)
    script.send_signal(signal.SIGTERM)
    until((tmp_path / "mine").exists, lambda: script.poll() is None, "the handler")
    (tmp_path / "mine").unlink()
    script.send_signal(signal.SIGINT)
    until((tmp_path / "mine").exists, lambda: script.poll() is None, "the handler")
    assert script.poll() is None
    assert not (tmp_path / "heeded").exists()


def test_in_the_background_before_wait_the_default_action_applies(start: Start, tmp_path: Path) -> None:
    script = start(
        HEAD + "run = Manager(tasks, mode='background', **options)\nwhile True: time.sleep(0.01)\n",
        handled=False,
    )
    script.send_signal(signal.SIGTERM)
    status, _ = ended(script)
    assert status == -signal.SIGTERM
    assert recorded(tmp_path).status == "running"


def test_a_background_script_that_waits_at_its_end_can_be_stopped_too(start: Start, tmp_path: Path) -> None:
    script = start(HEAD + "run = Manager(tasks, mode='background', **options)\n")
    script.send_signal(signal.SIGINT)
    _, err = ended(script)
    assert_stopped(tmp_path, err)


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_ctrl_c_ends_a_retrys_delay_at_once(start: Start, tmp_path: Path, mode: str) -> None:
    text = """
import os, time
from dotflow_like import Config, Manager, task
class Watch:
    def task_retried(self, task):
        open("begun", "w").close()
@task(retry=2, retry_delay=3600)
def bad():
    raise ValueError("no")
Manager([bad], mode={mode!r}, workflow_id="night", config=Config(storage="store", metrics=Watch()))
"""
    script = start(text, mode=mode)
    script.send_signal(signal.SIGINT)
    status, _ = ended(script)
    assert status == -signal.SIGINT
    assert (recorded(tmp_path).status, recorded(tmp_path).reason) == ("paused", "interrupted")


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_what_was_stopped_goes_on_where_it_ended(start: Start, tmp_path: Path, mode: str) -> None:
    script = start(HEAD + RUN, mode=mode)
    script.send_signal(signal.SIGTERM)
    ended(script)
    text = (tmp_path / "script.py").read_text().replace(").wait()", ", resume=True).wait()")
    (tmp_path / "script.py").write_text(text)
    again = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (again.returncode, again.stderr) == (0, "")
    assert (tmp_path / "rest").exists()
    assert recorded(tmp_path).status == "completed"


def test_workers_do_not_get_the_terminals_ctrl_c(start: Start, tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to the whole group; only the parent decides what it means."""
    script = start(HEAD + RUN, mode="parallel")
    os.killpg(script.pid, signal.SIGINT)
    status, err = ended(script)
    assert status == -signal.SIGINT
    assert (tmp_path / "heeded").exists()
    assert_stopped(tmp_path, err)
