"""Processes that start a run with one idempotency key, at once or after each other's death: one run, one start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dotflow_like import DotflowWarning, Manager, RunStatus, task

Until = Callable[..., None]
KEY = "order-42"

SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
from dotflow_like import Config, Manager, task
from dotflow_like.record.keyvalue import KeyValueJournal
from dotflow_like.record.sql import SqlJournal
from dotflow_like.record.storage.files import FileStorage

place = Path(sys.argv[1])


def note(name, line=""):
    with (place / name).open("a") as file:
        file.write(f"{line}\\n")


@task
def quick(ctx):
    note("effects", f"quick {ctx.attempt.number} {ctx.idempotency_key}")
    return 1


@task(retry=3)
def held(ctx, name):
    note("effects", f"held {ctx.attempt.number} {ctx.idempotency_key}")
    if ctx.attempt.number == 1:
        raise LookupError("the first attempt fails")
    note(f"{name} is busy")
    while not (place / f"{name} may end").exists():
        time.sleep(0.001)
    return os.getpid()


@task
def last(x):
    return x + 1


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


class Deadly(FileStorage):
    def put(self, key, data, **more):
        super().put(key, data, **more)
        if key.startswith("%keys"):
            die()
        return True


for line in sys.stdin:
    order = json.loads(line)
    dies, name = order.pop("dies", None), order["idempotency_key"]
    if dies == "claim":
        KeyValueJournal.claim = SqlJournal.claim = die
    elif dies == "row":
        order["storage"] = Deadly(order["storage"])
    time.sleep(max(0, order.pop("at", 0) - time.monotonic()))
    seen = {"seen": None}
    try:
        run = Manager([quick, held.bind(name=name), last.bind(x=held)], **order)
        seen = {"seen": run.status, "id": run.workflow_id, "own": run["held"].result == os.getpid()}
        note(f"{name} was seen")
        run.wait()
        print(json.dumps(seen | {"status": run.status, "reason": run.reason, "result": run["last"].result}), flush=True)
    except Exception as error:
        print(json.dumps(seen | {"raised": type(error).__name__, "message": str(error)}), flush=True)
"""


class Place(NamedTuple):
    """Where runs of the script are recorded.

    Attributes:
        folder: what its tasks make lies here.
        storage: where its runs are recorded.
        new: starts a process that waits for orders.
        until: waits for a condition.
    """

    folder: Path
    storage: str
    new: Callable[[], subprocess.Popen[str]]
    until: Until

    def order(self, process: subprocess.Popen[str], **options: Any) -> None:
        """Have a process start the run."""
        given = {"idempotency_key": KEY, "storage": self.storage} | options
        assert process.stdin is not None
        print(json.dumps(given), file=process.stdin, flush=True)

    def busy(self, process: subprocess.Popen[str], **options: Any) -> None:
        """Have it start the run, and return when its second task waits."""
        self.order(process, **options)
        self.until((self.folder / f"{KEY} is busy").exists, "the second task")
        (self.folder / f"{KEY} is busy").unlink()

    def let_end(self, key: str = KEY) -> None:
        (self.folder / f"{key} may end").touch()

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(params=["sqlite", "files"])
def place(request: pytest.FixtureRequest, tmp_path: Path, until: Until) -> Iterator[Place]:
    """A place of each kind in turn."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started: list[subprocess.Popen[str]] = []

    def new() -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "error", str(script), str(tmp_path)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    storage = f"sqlite:///{tmp_path}/runs.db" if request.param == "sqlite" else f"{tmp_path}/runs"
    yield Place(tmp_path, storage, new, until)
    for each in started:
        each.kill()
        each.communicate()


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def race(place: Place, rounds: int, **options: Any) -> None:
    """Have eight processes start a run at once, so many times."""
    racers = [place.new() for _ in range(8)]
    for number in range(rounds):
        key = f"order {number}"
        at = time.monotonic() + (0.5 if number == 0 else 0.02)
        for each in racers:
            place.order(each, idempotency_key=key, at=at, **options)
        place.until(lambda key=key: len(place.lines(f"{key} was seen")) == 7, "a view for all the others")
        place.let_end(key)
        found = [said(each) for each in racers]
        assert [each for each in found if "raised" in each] == []
        assert len({each["id"] for each in found}) == 1
        assert sorted(each["seen"] == "completed" for each in found) == [False] * 7 + [True]
        assert [each["own"] for each in found].count(True) == 1
        assert {(each["status"], each["result"]) for each in found} == {("completed", found[0]["result"])}
        assert len(place.lines("effects")) == 3 * (number + 1)


def test_of_eight_processes_that_start_it_at_once_one_runs_it_and_all_get_its_results(place: Place) -> None:
    race(place, 6)


@pytest.mark.crash
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_of_eight_processes_one_runs_it_each_time(place: Place, mode: str) -> None:
    race(place, 100, mode=mode, executor="thread" if mode == "parallel" else None)


def test_a_view_shows_what_is_there_and_waits_for_the_end(place: Place) -> None:
    owner, other = place.new(), place.new()
    place.busy(owner)
    tasks = [task(lambda ctx: 0, name=name) for name in ("quick", "held", "last")]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", DotflowWarning)
        view = Manager(tasks, idempotency_key=KEY, storage=place.storage)
    assert "(its code changed)" in str(told[0].message)
    assert view.status is RunStatus.RUNNING
    assert [each.status for each in view.tasks] == ["completed", "running", "pending"]
    assert dict(view.results) == {"quick": 1}
    assert [each.message for each in view["held"].errors] == ["the first attempt fails"]
    assert [each.status for each in view["held"].attempts] == ["failed", "running"]
    with pytest.raises(TimeoutError, match="still running"):
        view.wait(0.05)
    place.order(other, resume=True)
    place.until(lambda: len(place.lines(f"{KEY} was seen")) == 1, "a view for who would go on")
    place.let_end()
    assert view.wait(30).status is RunStatus.COMPLETED
    assert view["last"].result == owner.pid + 1
    assert said(owner)["result"] == owner.pid + 1
    assert said(other) == {
        "seen": "running", "own": False, "id": view.workflow_id,
        "status": "completed", "reason": None, "result": owner.pid + 1,
    }  # fmt: skip
    assert len(place.lines("effects")) == 3


def test_who_waits_for_a_run_whose_process_is_killed_is_told_how_to_go_on(place: Place) -> None:
    owner, other, heir = place.new(), place.new(), place.new()
    place.busy(owner)
    place.order(other)
    place.until(lambda: place.lines(f"{KEY} was seen"), "the view")
    kill(owner)
    told = said(other)
    assert (told["status"], told["result"]) == ("running", None)
    where = f"pid {owner.pid} on {os.uname().nodename}"
    assert told["reason"] == f"left in the middle by its process ({where}); resume=True goes on with it"

    place.order(other)  # once more: it is no new start
    assert said(other)["reason"] == told["reason"]
    assert len(place.lines("effects")) == 3

    place.let_end()
    place.order(heir, resume=True)
    assert said(heir)["result"] == heir.pid + 1
    place.order(other)
    assert said(other) == told | {
        "seen": "completed", "status": "completed", "reason": None, "result": heir.pid + 1
    }  # fmt: skip
    effects = [line.split() for line in place.lines("effects")]
    assert [each[:2] for each in effects] == [["quick", "1"], ["held", "1"], ["held", "2"], ["held", "3"]]
    keys = {each[2] for each in effects if each[0] == "held"}
    assert keys == {f"{told['id']}/held/g1"}, "the same on every attempt, in every process"


def test_who_dies_while_it_starts_a_run_leaves_it_to_the_next_start(place: Place) -> None:
    second = place.new()
    deaths = (
        ["claim"] if place.storage.startswith("sqlite") else ["claim", "row"]
    )  # key and row are two files
    for dies in deaths:
        place.let_end(dies)
        first = place.new()
        place.order(first, idempotency_key=dies, dies=dies)
        assert first.wait(30) == -signal.SIGKILL
        place.order(second, idempotency_key=dies)
        found = said(second)
        assert (found["status"], found["result"]) == ("completed", second.pid + 1)
        assert found["own"]
    assert len(place.lines("effects")) == 3 * len(deaths)
