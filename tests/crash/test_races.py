"""Processes race for one run, for one attempt, and for a run whose owner only seems to be dead: one of them wins."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dotflow_like import (
    AttemptOutcome,
    AttemptStatus,
    Config,
    Manager,
    RunStatus,
    TaskContext,
    Workflow,
    task,
)
from dotflow_like.config import open_journal
from dotflow_like.model.records import RunRecord
from dotflow_like.record.journal import Journal

Until = Callable[..., None]
SOON = 1.5
"""Seconds: more than a busy machine takes to say no, less than what is waited for orphans of a dead owner."""

SCRIPT = """
import json, os, sys, time, warnings
from pathlib import Path
from dotflow_like import Config, DotflowWarning, FileStorage, Manager, Workflow, task
from dotflow_like.config import open_journal
from dotflow_like.errors import DotflowError, RunInProgress
from dotflow_like.model.records import Attempt
from dotflow_like.model.status import AttemptStatus
from dotflow_like.record.journal import Claim

place = Path(sys.argv[1])


def note(name, line):
    descriptor = os.open(place / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{line}\\n".encode())
    os.close(descriptor)


@task(version="1")
def first(ctx):
    note("effects", f"first {ctx.attempt.fence} {os.getpid()}")


@task(version="1")
def held(ctx):
    note("effects", f"held {ctx.attempt.fence} {os.getpid()}")
    while not (place / f"{ctx.workflow_id} may end {ctx.attempt.fence}").exists():
        time.sleep(0.001)
    return ctx.attempt.fence


@task
def hangs(ctx):
    note("effects", f"hangs {ctx.attempt.fence} {os.getpid()}")
    time.sleep(600 if ctx.attempt.fence == 1 else 0)


@task
def last(x):
    note("effects", f"last {x} {os.getpid()}")
    return x


def run(order):
    tasks = [first, held.after(first), last.bind(x=held)]
    if order["mode"] == "parallel":
        tasks.append(hangs.after(first))
    if "locks" in order:
        storage = FileStorage(order["storage"])
        storage.lock_folder = order.pop("locks")
        order["storage"] = storage
    before = time.monotonic()
    made = Manager.__new__(Manager)  # to be looked at, even if it raises
    try:
        Manager.__init__(made, tasks, **order)
        made.wait()
        return {"status": made.status, "result": made["last"].result, "tasks": [each.status for each in made.tasks]}
    except DotflowError as error:
        took = time.monotonic() - before
        said = {"raised": type(error).__name__, "message": str(error), "took": took}
        if hasattr(made, "status"):
            said |= {"status": made.status, "reason": made.reason, "tasks": [each.status for each in made.tasks]}
        note("refused", os.getpid())
        return said


def start(order):
    journal = open_journal(Config(storage=order["storage"]), Workflow([]))
    claim = Claim(*order["claim"])
    now = journal.run(claim.workflow_id).created_at
    wins = []
    for number in range(200):
        time.sleep(max(0, order["begin"] + number / 2000 - time.monotonic()))  # all try this one now
        attempt = Attempt(
            claim.workflow_id, f"task {number}", 1, AttemptStatus.RUNNING, None, now, now, None, claim.owner, claim.fence
        )
        if journal.start(claim, attempt):
            wins.append(number)
    return {"wins": wins}


warnings.simplefilter("ignore", DotflowWarning)
Manager([task(lambda: 1, name="warms_up")], workflow_id=f"warm {os.getpid()}", storage=sys.argv[2])
print(flush=True)
for line in sys.stdin:
    order = json.loads(line)
    do = {"run": run, "start": start}[order.pop("do", "run")]
    time.sleep(max(0, order.pop("at", 0) - time.monotonic()))
    print(json.dumps(do(order)), flush=True)
"""


class Place(NamedTuple):
    """Where runs of the script are recorded.

    Attributes:
        kind: `sqlite` or `files`.
        folder: what its tasks make lies here.
        new: starts a process that takes orders.
        until: waits for a condition.
    """

    kind: str
    folder: Path
    new: Callable[[], subprocess.Popen[str]]
    until: Until

    @property
    def storage(self) -> str:
        return f"sqlite:///{self.folder}/runs.db" if self.kind == "sqlite" else f"{self.folder}/runs"

    @property
    def elsewhere(self) -> dict[str, str]:
        """The options of another machine: the same storage, other locks."""
        if self.kind == "sqlite":
            return {"storage": f"{self.storage}?locks={self.folder}/other%20locks"}
        return {"storage": self.storage, "locks": f"{self.folder}/other locks"}

    def journal(self) -> Journal:
        return open_journal(Config(storage=self.storage), Workflow([]))

    def order(self, process: subprocess.Popen[str], **options: Any) -> None:
        given = {"storage": self.storage} | options
        assert process.stdin is not None
        print(json.dumps(given), file=process.stdin, flush=True)

    def busy(self, process: subprocess.Popen[str], **options: Any) -> None:
        """Have it run the run, and return when its second task waits."""
        self.order(process, workflow_id="run", resume=True, **options)
        bodies = ["held", "hangs"] if options["mode"] == "parallel" else ["held"]
        self.until(lambda: {*self.bodies()} >= {*bodies}, "its tasks")

    def let_end(self, fence: int, workflow_id: str = "run") -> None:
        (self.folder / f"{workflow_id} may end {fence}").touch()

    def bodies(self) -> Counter[str]:
        return Counter(line.split()[0] for line in self.lines("effects"))

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
        command = [sys.executable, "-W", "error", str(script), str(tmp_path), place.storage]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    place = Place(request.param, tmp_path, new, until)
    yield place
    for each in started:
        each.kill()
        each.communicate()
    for line in place.lines("effects"):
        end(int(line.split()[2]))


def said(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def ready(process: subprocess.Popen[str]) -> subprocess.Popen[str]:
    """Return a process once it is about to take its first order."""
    assert process.stdout is not None
    assert process.stdout.readline() == "\n"
    return process


def end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


def tell(what: str, seconds: list[float]) -> None:
    """Print what the long tier is asked for."""
    shown = sorted(1000 * each for each in seconds)
    p99 = shown[min(len(shown) - 1, int(len(shown) * 0.99))]
    print(
        f"{what}: p50 {statistics.median(shown):.1f} ms, p99 {p99:.1f} ms, most {shown[-1]:.1f} ms of {len(shown)}"
    )


# For a run


def race(place: Place, sizes: list[int], rounds: int) -> None:
    """Have so many processes start one run at once, so many times."""
    racers = [place.new() for _ in range(max(sizes))]
    for each in racers:
        ready(each)
    effects = 0
    for size in sizes:
        took = []
        for number in range(rounds):
            name = f"{size} {number}"
            told = len(place.lines("refused")) + size - 1
            at = time.monotonic() + 0.02
            for each in racers[:size]:
                place.order(each, workflow_id=name, mode="sequential", at=at)
            place.until(lambda told=told: len(place.lines("refused")) == told, "a no for all the others")
            place.let_end(1, name)
            found = [said(each) for each in racers[:size]]
            refused = [each for each in found if "raised" in each]
            assert [each["status"] for each in found if "raised" not in each] == ["completed"]
            assert {each["raised"] for each in refused} == {"RunInProgress"}
            took += [each["took"] for each in refused]
            effects += 3
            assert len(place.lines("effects")) == effects
        assert max(took) < SOON
        tell(f"{place.kind}, {size} processes, told that a run is in progress", took)


def test_of_processes_that_run_one_run_at_once_one_does(place: Place) -> None:
    race(place, [2, 4, 8], 3)


@pytest.mark.crash
def test_of_processes_that_run_one_run_at_once_one_does_each_time(place: Place) -> None:
    race(place, [2, 4, 8], 200)


# For attempts


def race_to_start(place: Place, rounds: int) -> int:
    """Have four processes start the same 200 attempts at once, under one claim; return how many won some."""
    winners = 0
    journal = place.journal()
    racers = [place.new() for _ in range(4)]
    for each in racers:
        ready(each)
    for number in range(rounds):
        name, now = f"run {number}", datetime.now(UTC)
        journal.create(RunRecord(name, "workflow", None, {}, "sequential", RunStatus.PENDING, now))
        claim = journal.claim(name, "host:1:token", now)
        begin = time.monotonic() + 0.02
        for each in racers:
            place.order(each, do="start", claim=claim, begin=begin)
        wins = [said(each)["wins"] for each in racers]
        counts = Counter(one for each in wins for one in each)
        assert counts == dict.fromkeys(range(200), 1), "each was started, once"
        winners += sum(map(bool, wins))
        attempts = journal.attempts(name)
        assert len(attempts) == 200
        assert {(each.number, each.status) for each in attempts} == {(1, AttemptStatus.RUNNING)}
    return winners


def test_of_processes_that_start_one_attempt_at_once_one_does(place: Place) -> None:
    race_to_start(place, 1)


@pytest.mark.crash
def test_of_processes_that_start_one_attempt_at_once_one_does_each_time(place: Place) -> None:
    assert race_to_start(place, 25) > 25, "it was no race"


# For a run whose owner is stopped

WAYS: list[Any] = [
    {"mode": "sequential"},
    {"mode": "sequential_group"},
    {"mode": "background"},
    {"mode": "parallel", "max_workers": 2},
    {"mode": "parallel", "max_workers": 2, "executor": "thread"},
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.get("executor", way["mode"]))
def test_what_an_owner_writes_after_another_machine_has_taken_its_run_over_is_refused(
    place: Place, way: dict[str, Any]
) -> None:
    owner, heir = place.new(), place.new()
    place.busy(ready(owner), **way)
    bodies = {line.split()[0]: int(line.split()[2]) for line in place.lines("effects")}
    os.kill(owner.pid, signal.SIGSTOP)

    place.order(ready(heir), workflow_id="run", resume=True, **way)  # on the same machine
    refused = said(heir)
    assert refused["raised"] == "RunInProgress"
    assert f"pid {owner.pid} on " in refused["message"]
    assert refused["took"] < SOON

    place.let_end(2)
    place.order(heir, workflow_id="run", resume=True, **way, **place.elsewhere)
    found = said(heir)
    assert (found["status"], found["result"]) == ("completed", 2)
    assert {*found["tasks"]} == {"completed"}

    before = place.journal().run("run")
    place.let_end(1)
    os.kill(owner.pid, signal.SIGCONT)
    late = said(owner)
    assert late["raised"] == "ClaimLost"
    assert late["message"].startswith("run run was taken over by ")
    assert late["status"] == "failed"
    assert late["reason"].startswith("ClaimLost: run run was taken over by ")
    assert late["tasks"][1] == "pending", "what it returned is discarded"

    journal = place.journal()
    assert journal.run("run") == before
    attempts = journal.tasks("run", ["held"])["held"].attempts
    assert [(each.status, each.outcome, each.fence) for each in attempts] == [
        (AttemptStatus.FAILED, AttemptOutcome.DISCARDED, 1),
        (AttemptStatus.COMPLETED, AttemptOutcome.SUCCESS, 2),
    ]
    effects = [line.split()[:2] for line in place.lines("effects")]
    expected = [["first", "1"], ["held", "1"], ["held", "2"], ["last", "2"]]
    expected += [["hangs", "1"], ["hangs", "2"]] if way["mode"] == "parallel" else []
    assert sorted(effects) == sorted(expected)
    if way == WAYS[3]:  # a body that goes on in a worker is stopped
        place.until(lambda: not is_alive(bodies["hangs"]), "the end of its worker")
        assert owner.pid not in bodies.values()

    # the former owner is free for other work, and so is its lock
    place.order(owner, workflow_id="run", resume=True, **way)
    assert said(owner)["result"] == 2


# For a run whose owner was killed


def time_of_heirs(place: Place, mode: str, rounds: int) -> None:
    """Kill a run's owner and measure how soon the run goes on."""
    took = []
    began: list[float] = []

    def held(ctx: TaskContext) -> int:
        began.append(time.monotonic())
        return ctx.attempt.fence

    heirs = [task(held, name="held", version="1")]
    Manager(heirs, workflow_id="warm", storage=place.storage)
    for number in range(rounds):
        owner, name = ready(place.new()), f"run {number}"
        place.order(owner, workflow_id=name, mode=mode, max_workers=1 if mode == "parallel" else None)
        place.until(lambda n=number: place.bodies()["held"] == n + 1, "the second task")
        pids = {int(line.split()[2]) for line in place.lines("effects")} | {owner.pid}
        owner.kill()
        owner.wait()
        place.until(lambda pids=pids: not any(map(is_alive, pids)), "the end of its workers")
        asked = time.monotonic()
        run = Manager(heirs, workflow_id=name, storage=place.storage, resume=True)
        assert run["held"].result == 2
        took.append(began[-1] - asked)
    assert max(took) < SOON
    tell(f"{place.kind}, {mode}, from Manager(resume=True) to the first body", took)


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_killed_run_goes_on_at_once(place: Place, mode: str) -> None:
    time_of_heirs(place, mode, 2)


@pytest.mark.crash
@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_killed_run_goes_on_at_once_each_time(place: Place, mode: str) -> None:
    time_of_heirs(place, mode, 50)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETSIG"), reason="elsewhere a worker has to run to end itself")
def test_a_worker_that_is_stopped_ends_with_its_owner_and_keeps_nobody_from_the_run(place: Place) -> None:
    owner, heir = ready(place.new()), ready(place.new())
    place.busy(owner, mode="parallel", max_workers=2)
    workers = {int(line.split()[2]) for line in place.lines("effects")}
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    owner.kill()
    owner.wait()
    place.let_end(2)
    place.order(heir, workflow_id="run", resume=True, mode="parallel", max_workers=2)
    assert said(heir)["result"] == 2
    assert not any(map(is_alive, workers))
