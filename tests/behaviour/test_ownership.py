"""One run, one owner: others are refused while it or anything of it lives, and not a moment longer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dotflow_like import DotflowWarning, Manager, RunInProgress, RunStatus, Workflow, task

Until = Callable[..., None]

SOON = 1.5  # seconds: less than what is waited for the orphans of a dead owner
PATIENCE = 2.0

# Runs three tasks, of which the second waits for a gate, and tells how that went.
SCRIPT = """
import json, os, sys, time, warnings
from pathlib import Path
from dotflow_like import DotflowWarning, Manager, task
from dotflow_like.errors import DotflowError

warnings.simplefilter("ignore", DotflowWarning)  # that it starts over
place, options = Path(sys.argv[1]), json.loads(sys.argv[2])
forks = options.pop("forks", False)


@task
def first():
    with (place / "effects").open("a") as file:
        file.write("first ")


@task
def waits():
    with (place / "effects").open("a") as file:
        file.write("waits ")
    if forks and os.fork() == 0:
        os.setsid()
        os.close(1)  # else who waits for its end waits for this
        (place / "new").write_text(str(os.getpid()))
        (place / "new").rename(place / "forked")
        time.sleep(600)
        os._exit(0)
    while forks and not (place / "forked").exists():
        time.sleep(0.002)
    (place / "busy").touch()
    while not (place / "gate").exists():
        time.sleep(0.002)
    return time.monotonic()


@task
def last(number):
    return 7


print(flush=True)
sys.stdin.readline()
before = time.monotonic()
try:
    run = Manager([first, waits.after(first), last.bind(number=waits)], workflow_id="run", **options).wait()
    said = {"status": run.status, "last": run["last"].result, "took": run["waits"].result - before}
except DotflowError as error:
    said = {"raised": type(error).__name__, "message": str(error), "took": time.monotonic() - before}
print(json.dumps(said), flush=True)
"""


class Place(NamedTuple):
    """Where runs of the script are recorded.

    Attributes:
        folder: what its tasks make lies here.
        ready: starts the script with options, and returns its process when it is about to run the tasks.
        until: waits for a condition.
    """

    folder: Path
    ready: Callable[..., subprocess.Popen[str]]
    until: Until

    def ask(self, **options: Any) -> dict[str, Any]:
        """Run it, and return what it says in the end."""
        process = self.ready(**options)
        go(process)
        return said(process)

    def effects(self) -> list[str]:
        return (self.folder / "effects").read_text().split()

    def busy(self, **options: Any) -> subprocess.Popen[str]:
        """Start it, and return when its second task waits."""
        process = self.ready(**options)
        go(process)
        self.until((self.folder / "busy").exists, "the second task")
        return process

    def open_gate(self) -> None:
        (self.folder / "gate").touch()


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, until: Until) -> Iterator[Place]:
    """A database, or, if the test says so, a folder of files."""
    in_files = getattr(request, "param", "sqlite") == "files"
    storage = f"{tmp_path}/runs" if in_files else f"sqlite:///{tmp_path}/runs.db"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started: list[subprocess.Popen[str]] = []

    def ready(**options: Any) -> subprocess.Popen[str]:
        given = json.dumps({"resume": True, "storage": storage} | options)
        command = [sys.executable, "-W", "error", str(script), str(tmp_path), given]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        return process

    yield Place(tmp_path, ready, until)
    if (tmp_path / "forked").exists():
        end((tmp_path / "forked").read_text())
    for each in started:
        each.kill()
        each.communicate()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    return found


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def end(pid: str) -> None:
    try:
        os.kill(int(pid), signal.SIGKILL)
    except ProcessLookupError:
        return


WAYS: list[Any] = [
    ("sqlite", {"mode": "sequential"}),
    ("sqlite", {"mode": "background"}),
    ("sqlite", {"mode": "parallel", "max_workers": 2}),
    ("sqlite", {"mode": "parallel", "max_workers": 2, "executor": "thread"}),
    ("files", {"mode": "parallel", "max_workers": 2}),
]
ways = pytest.mark.parametrize(("place", "way"), WAYS, indirect=["place"])
places = pytest.mark.parametrize("place", ["sqlite", "files"], indirect=True)


@ways
def test_a_second_process_is_told_at_once_who_has_the_run(place: Place, way: dict[str, Any]) -> None:
    owner = place.busy(**way)
    for options in (way, {"resume": False}):
        refused = place.ask(**options)
        assert refused["raised"] == "RunInProgress"
        assert refused["took"] < SOON
        assert refused["message"].startswith("run 'run' is in progress: its owner is ")
        assert f"(pid {owner.pid} on {os.uname().nodename}, since 2" in refused["message"]
    place.open_gate()
    assert said(owner)["last"] == 7
    assert place.effects() == ["first", "waits"]


@ways
def test_a_killed_run_is_resumed_at_once(place: Place, way: dict[str, Any]) -> None:
    owner = place.busy(**way)
    kill(owner)
    place.open_gate()
    resumed = place.ask(**way)
    assert (resumed["status"], resumed["last"]) == ("completed", 7)
    assert resumed["took"] < SOON
    assert place.effects() == ["first", "waits", "waits"]


@pytest.mark.parametrize(
    ("place", "mode"), [("files", "sequential"), ("sqlite", "parallel")], indirect=["place"]
)
def test_while_an_orphan_of_a_killed_run_works_nobody_resumes_it(place: Place, mode: str) -> None:
    owner = place.busy(mode=mode, forks=True)
    kill(owner)
    orphan = (place.folder / "forked").read_text()
    place.open_gate()
    refused = place.ask(mode=mode)
    assert refused["raised"] == "RunInProgress"
    assert refused["took"] >= PATIENCE
    assert f"(pid {owner.pid} on " in refused["message"]
    if sys.platform == "linux":
        assert f"process {orphan} (" in refused["message"]
    assert place.effects() == ["first", "waits"]
    end(orphan)
    assert place.ask(mode=mode)["last"] == 7
    assert place.effects() == ["first", "waits", "waits"]


@pytest.mark.parametrize(
    ("place", "mode"), [("sqlite", "sequential"), ("files", "parallel")], indirect=["place"]
)
def test_what_a_body_leaves_running_does_not_keep_a_run_that_has_ended(place: Place, mode: str) -> None:
    place.open_gate()
    first = place.ask(mode=mode, forks=True)
    assert first["last"] == 7
    if mode == "sequential":  # a worker's children end with their run
        os.kill(int((place.folder / "forked").read_text()), 0)
    again = place.ask(mode=mode, resume=False)
    assert again["last"] == 7
    assert again["took"] < SOON
    assert place.effects() == ["first", "waits", "first", "waits"]


@places
def test_of_many_that_start_one_run_at_once_one_runs_it(place: Place) -> None:
    racers = [place.ready(mode="parallel") for _ in range(6)]
    for each in racers:
        go(each)
    place.until(lambda: sum(each.poll() is not None for each in racers) == 5, "the end of the others")
    place.open_gate()
    found = sorted(map(said, racers), key=lambda each: "raised" in each)
    assert found[0]["last"] == 7
    assert {each["raised"] for each in found[1:]} == {"RunInProgress"}
    assert max(each["took"] for each in found[1:]) < SOON
    assert place.effects() == ["first", "waits"]


def test_one_process_runs_a_run_once(tmp_path: Path) -> None:
    gate = threading.Event()
    held = Workflow([task(lambda: gate.wait(30), name="held")])
    options: Any = {"workflow_id": "run", "storage": f"sqlite:///{tmp_path}/runs.db"}
    run = held.start(**options)
    before = time.monotonic()
    for more in ({"resume": True}, {}):
        with pytest.raises(RunInProgress, match="in progress in this process: its owner is"):
            held.run(**options, **more)
    assert time.monotonic() - before < 2 * SOON
    other = Manager([task(lambda: 1)], **(options | {"workflow_id": "other"}))
    assert other.status is RunStatus.COMPLETED
    gate.set()
    assert run.wait().status is RunStatus.COMPLETED
    assert held.run(**options, resume=True).status is RunStatus.COMPLETED


def fails() -> None:
    raise LookupError("of the body")


def complains(**_: object) -> None:
    raise LookupError("of the callback")


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
@pytest.mark.parametrize(
    ("body", "options"),
    [
        (fails, {"on_failure": lambda tasks: None}),
        (fails, {"on_failure": complains}),
        (os.getpid, {"on_success": complains}),
        (threading.Lock, {"on_failure": lambda tasks: None}),
        (lambda: time.sleep(1), {"timeout": 0.05, "on_failure": lambda tasks: None}),
    ],
    ids=["failed", "failed, and its callback", "its callback failed", "cannot be stored", "timeout"],
)
def test_however_a_run_ends_it_can_be_resumed_at_once(
    tmp_path: Path, mode: str, body: Callable[..., Any], options: dict[str, Any]
) -> None:
    place: Any = {"workflow_id": "run", "storage": f"sqlite:///{tmp_path}/runs.db", "mode": mode}
    with contextlib.suppress(LookupError):
        Manager([task(body, name="one")], **place, **options).wait()
    before = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DotflowWarning)  # that its code has changed
        again = Manager(
            [task(lambda: 7, name="one"), task(lambda: 7, name="two")], resume=True, **place
        ).wait()
    assert again.status is RunStatus.COMPLETED
    assert time.monotonic() - before < SOON
    assert [each.name for each in (tmp_path / "runs.db-locks").iterdir()] == ["writing"]
