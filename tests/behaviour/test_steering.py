"""Runs are steered from other processes: asked while they are executed, changed when nobody executes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import dotflow_like
from dotflow_like import (
    Config,
    Manager,
    MemoryStorage,
    Run,
    RunStatus,
    TaskContext,
    TaskStatus,
    Workflow,
    task,
)
from dotflow_like.config import open_journal
from dotflow_like.declare.workflow import Definition
from dotflow_like.errors import IllegalMove, RunInProgress
from dotflow_like.record.journal import Journal

STEER = """
import json, sys
import dotflow_like

storage, calls = json.loads(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for word, arguments, options in calls:
    try:
        print(getattr(dotflow_like, word)(*arguments, storage=storage, **options), flush=True)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
"""
PATIENCE = 60  # seconds until a process that has to answer is missed

Call = tuple[str, tuple[Any, ...], dict[str, Any]]


class Steerer:
    """Another process that steers a run, once it is told to go."""

    def __init__(self, storage: str, *calls: Call) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", STEER, json.dumps([storage, calls])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answers(self) -> list[str]:
        told, _ = self.process.communicate(timeout=PATIENCE)
        return told.splitlines()


def steer(storage: str, word: str, *arguments: Any, **options: Any) -> str:
    """Return what another process is told that steers a run."""
    steerer = Steerer(storage, (word, arguments, options))
    steerer.go()
    (answer,) = steerer.answers()
    return answer


def at_once(storage: str, calls: Sequence[Call]) -> list[str]:
    """Return what processes are told that make these calls at once, one each."""
    steerers = [Steerer(storage, call) for call in calls]
    for each in steerers:
        each.go()
    return [each.answers()[0] for each in steerers]


@pytest.fixture(params=["files", "sql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that other processes reach."""
    places = {"files": str(tmp_path / "kept"), "sql": f"sqlite:///{tmp_path}/runs.db?durability=process"}
    return places[request.param]


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """A function that starts a run, which is cancelled at the end of the test if it still waits then."""
    runs: list[Run] = []

    def start(tasks: list[Any], **options: Any) -> Run:
        runs.append(Workflow(tasks).start(workflow_id="w", **options))
        return runs[-1]

    yield start
    for run in runs:
        run.cancel()
        run.wait(30)


def journal_of(storage: Any) -> Journal:
    return open_journal(Config(storage=storage), Definition(()))


def status_of(storage: Any) -> RunStatus:
    row = journal_of(storage).run("w")
    assert row is not None
    return row.status


def sleeps(ctx: TaskContext, begun: str) -> str:
    """Wait a minute, the first time; a file says that it has begun."""
    if ctx.attempt.number == 1:
        Path(begun).touch()
        ctx.sleep(60)
        ctx.check()
    return "woken"


def fails() -> None:
    raise ValueError("no luck")


SLEEPS = task(sleeps)
RETRIED = task(fails, name="retried", retry=2, retry_delay=3600)


@task
def last() -> str:
    return "last"


@task(name="it")
def pauses(ctx: TaskContext) -> None:
    ctx.pause("lunch")


@task(name="it")
def anew() -> str:
    return "anew"


# A run that is executed


def test_cancel_from_another_process_is_seen_in_every_mode(
    way: dict[str, Any], tmp_path: Path, start: Callable[..., Run], until: Callable[..., None]
) -> None:
    # the two inline modes look alike at it: so each has another storage
    places = {"sequential_group": f"file://{tmp_path}/runs"}
    storage = places.get(way.get("mode", ""), f"sqlite:///{tmp_path}/runs.db?durability=process")
    begun = tmp_path / "begun"
    run = start([SLEEPS, last.after(SLEEPS)], storage=storage, params={"begun": str(begun)}, **way)
    until(begun.exists, "the body")
    assert steer(storage, "cancel", "w", reason="enough") == "True"
    run.wait(30)  # and not the minute
    assert (run.status, run["sleeps"].status) == ("cancelled", "cancelled")
    assert run.reason is not None
    assert "enough" in run.reason
    assert status_of(storage) == "cancelled"
    (attempt,) = journal_of(storage).attempts("w")
    assert (attempt.status, attempt.outcome) == ("cancelled", "cancelled")
    assert steer(storage, "cancel", "w") == "False"


def test_paused_by_one_process_and_resumed_by_another(
    storage: str, tmp_path: Path, start: Callable[..., Run], until: Callable[..., None]
) -> None:
    begun = tmp_path / "begun"
    tasks: list[Any] = [SLEEPS, last]
    run = start(tasks, storage=storage, params={"begun": str(begun)})
    until(begun.exists, "the body")
    assert steer(storage, "pause", "w") == "True"
    assert run.wait(30).status == "paused"
    assert run.reason is not None
    assert f":{os.getpid()}:" not in run.reason, "it says who asked"
    again = dotflow_like.resume("w", tasks, storage=storage)
    assert again.results == {"sleeps": "woken", "last": "last"}
    assert [each.outcome for each in again["sleeps"].attempts] == ["paused", "success"]


def test_a_retry_that_waits_is_skipped_by_another_process(
    storage: str, start: Callable[..., Run], until: Callable[..., None]
) -> None:
    run = start([RETRIED, last], storage=storage)
    until(lambda: run["retried"].status is TaskStatus.RETRYING, "the wait")
    assert steer(storage, "skip", "w", reason="never mind") == "True"
    assert run.wait(30).status == "completed"
    assert (run["retried"].status, run["retried"].reason, run["last"].result) == (
        "skipped",
        "never mind",
        "last",
    )
    assert journal_of(storage).asked("w") is None, "it was answered"


def test_a_wait_of_an_hour_is_cancelled_by_another_process(
    storage: str, start: Callable[..., Run], until: Callable[..., None]
) -> None:
    run = start([RETRIED], storage=storage)
    until(lambda: run["retried"].status is TaskStatus.RETRYING, "the wait")
    assert steer(storage, "cancel", "w") == "True"
    assert run.wait(30).status == "cancelled"
    attempts = journal_of(storage).attempts("w")
    assert [each.status for each in attempts] == ["failed", "cancelled"]


def test_of_many_processes_that_ask_at_once_one_is_heard_and_cancel_counts_most(
    storage: str, tmp_path: Path, start: Callable[..., Run], until: Callable[..., None]
) -> None:
    begun = tmp_path / "begun"
    run = start([SLEEPS], storage=storage, params={"begun": str(begun)})
    until(begun.exists, "the body")
    calls: list[Call] = [("skip", ("w", "sleeps"), {}), ("cancel", ("w",), {}), ("skip", ("w", "sleeps"), {})]
    told = at_once(storage, calls)
    assert told[1] in ("True", "False")
    run.wait(30)
    if told[1] == "True":
        assert run.status == "cancelled"
    for each in (told[0], told[2]):
        assert each == "True" or each.startswith(("IllegalMove: ", "RunInProgress: "))
    assert status_of(storage) == run.status


def test_what_another_process_is_told_around_the_end_is_what_becomes_of_the_run(
    storage: str, tmp_path: Path
) -> None:
    told = set()
    for number in range(3):
        go = tmp_path / f"go {number}"
        steerer = Steerer(storage, ("cancel", (f"w{number}",), {}))

        def short(go: Path = go, steerer: Steerer = steerer) -> None:
            steerer.go()

        run = Workflow([task(short)]).run(storage=storage, workflow_id=f"w{number}")
        (answer,) = steerer.answers()
        row = journal_of(storage).run(f"w{number}")
        assert row is not None
        assert row.status == run.status
        assert (run.status == "cancelled") is (answer == "True"), answer
        told.add(answer)
    assert told <= {"True", "False"}


# A run that nobody executes


def paused(storage: Any) -> None:
    """Make a run that is paused, with a task that waits."""
    run = Workflow([pauses, last]).run(storage=storage, workflow_id="w")
    assert run.status == "paused"


SKIP: Call = ("skip", ("w", "it"), {})
CANCEL: Call = ("cancel", ("w",), {})


def is_clear(answer: str) -> bool:
    return answer.startswith(("IllegalMove: ", "RunInProgress: ")) and "'w'" in answer


def test_of_many_processes_that_skip_a_waiting_task_at_once_one_does(storage: str) -> None:
    paused(storage)
    told = at_once(storage, [SKIP] * 3)
    assert told.count("True") == 1
    assert all(map(is_clear, set(told) - {"True"}))
    assert [each.status for each in journal_of(storage).attempts("w")] == ["cancelled", "skipped"]
    run = dotflow_like.resume("w", [anew, last], storage=storage)
    assert (run.status, run["it"].status, run["last"].result) == ("completed", "skipped", "last")


def test_of_many_processes_that_cancel_a_paused_run_at_once_one_does(storage: str) -> None:
    paused(storage)
    told = at_once(storage, [CANCEL] * 3)
    assert told.count("True") == 1
    assert all(each == "False" or is_clear(each) for each in set(told) - {"True"})
    assert status_of(storage) == "cancelled"


def test_of_processes_that_steer_and_resume_at_once_each_is_told_what_became_of_it(storage: str) -> None:
    paused(storage)
    steerers = [Steerer(storage, CANCEL), Steerer(storage, SKIP)]
    for each in steerers:
        each.go()
    run, refused = None, ""
    try:
        run = dotflow_like.resume("w", [anew, last], storage=storage)
    except (IllegalMove, RunInProgress) as error:
        refused = str(error)
    told = [each.answers()[0] for each in steerers]
    assert all(each in ("True", "False") or is_clear(each) for each in told)
    if run is None:
        assert "'w'" in refused
        assert "True" in told, "somebody has it"
    else:
        assert run.status == status_of(storage)
    assert status_of(storage) == "cancelled" or told[0] != "True", "who cancelled it is not overruled"


def test_in_memory_threads_steer_one_paused_run() -> None:
    storage = MemoryStorage()
    paused(storage)
    barrier, told = threading.Barrier(4), list[bool]()

    def skip() -> None:
        barrier.wait()
        with suppress(IllegalMove, RunInProgress):
            told.append(dotflow_like.skip("w", "it", storage=storage))

    threads = [threading.Thread(target=skip) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert told == [True]
    assert [each.status for each in journal_of(storage).attempts("w")] == ["cancelled", "skipped"]


# Whoever steers may die, too

DIES = """
import os, sys
import dotflow_like
from dotflow_like import FileStorage


class Dying(FileStorage):
    left = int(sys.argv[2])

    def put(self, *args, **options):
        if Dying.left == 0:
            os._exit(9)
        Dying.left -= 1
        return super().put(*args, **options)


print(dotflow_like.skip("w", "it", storage=Dying(sys.argv[1])))
"""


def test_a_process_that_dies_while_it_skips_leaves_a_run_that_can_be_steered_and_resumed(
    tmp_path: Path,
) -> None:
    tasks = [anew, last]
    for puts in range(8):
        folder = str(tmp_path / f"kept {puts}")
        paused(folder)
        done = subprocess.run(
            [sys.executable, "-c", DIES, folder, str(puts)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        skipped = journal_of(folder).attempts("w")[-1].status == "skipped"
        if done.returncode == 0:
            assert done.stdout == "True\n"
            assert skipped
            break
        assert done.returncode == 9, done.stderr
        if not skipped:
            assert dotflow_like.skip("w", storage=folder) is True
        else:
            with pytest.raises(IllegalMove, match="is skipped"):
                dotflow_like.skip("w", "it", storage=folder)
        row = journal_of(folder).run("w")
        assert row is not None
        assert row.crashes == 0, "no body had begun"
        run = dotflow_like.resume("w", tasks, storage=folder)
        assert (run.status, run["it"].status, run["last"].result) == ("completed", "skipped", "last")
    else:
        pytest.fail("it never came to an end")
    assert puts > 2


LEFT = """
import os, sys
from dotflow_like import Manager, task


@task
def it():
    os._exit(9)


Manager([it, task(lambda: "last", name="last")], storage=sys.argv[1], workflow_id="w")
"""


@pytest.mark.parametrize("word", ["cancel", "pause", "skip"])
def test_a_run_whose_process_has_died_is_steered_by_whoever_comes(
    storage: str, word: str, script: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert script(LEFT, storage).returncode == 9
    assert steer(storage, word, "w", reason="so be it") == "True"
    row = journal_of(storage).run("w")
    assert row is not None
    assert row.status == ("cancelled" if word == "cancel" else "paused")
    assert row.crashes == 1
    outcomes = [each.outcome for each in journal_of(storage).attempts("w")]
    assert outcomes == (["recovered", "skipped"] if word == "skip" else ["recovered"])
    run = Manager([anew, last], storage=storage, workflow_id="w", resume=True)
    assert run.status == "completed"
    assert run["it"].status == ("skipped" if word == "skip" else "completed")
