"""Whatever keeps a run from starting leaves nothing behind: it is planned, locked, claimed and run, or as it was."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dotflow_like import (
    Config,
    DotflowWarning,
    FileStorage,
    InputChanged,
    Manager,
    MemoryStorage,
    RunInProgress,
    RunStatus,
    Workflow,
    task,
)
from dotflow_like.config import open_journal
from dotflow_like.model.records import RunRecord
from dotflow_like.record.journal import Journal
from dotflow_like.record.memory import MemoryJournal

NOW = datetime(2024, 5, 6, tzinfo=UTC)


@task
def one(n: int = 1) -> int:
    return n


@pytest.fixture(params=["files", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each storage that locks runs."""
    return tmp_path / "files" if request.param == "files" else f"sqlite:///{tmp_path}/runs.db"


@pytest.fixture(params=["memory", "storage", "files", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Journal:
    """Each journal, with a run that nobody has claimed."""
    places = {
        "storage": MemoryStorage(),
        "files": tmp_path / "files",
        "sqlite": f"sqlite:///{tmp_path}/runs.db",
    }
    place = places.get(request.param)
    made = MemoryJournal() if place is None else open_journal(Config(storage=place), Workflow([]))
    made.create(RunRecord("run", "workflow", None, {}, "sequential", RunStatus.PENDING, NOW))
    return made


def test_of_several_that_claim_what_they_planned_on_one_gets_it(journal: Journal) -> None:
    for after in range(3):
        barrier, claims, refused = threading.Barrier(8), [], []

        def claim(
            barrier: threading.Barrier = barrier,
            claims: list[Any] = claims,
            refused: list[Any] = refused,
            after: int = after,
        ) -> None:
            barrier.wait(30)
            try:
                claims.append(journal.claim("run", f"host:{threading.get_ident()}:token", NOW, after=after))
            except RunInProgress as error:
                refused.append(str(error))

        threads = [threading.Thread(target=claim) for _ in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(30)
        assert [each.fence for each in claims] == [after + 1]
        assert len(refused) == 7
        row = journal.run("run")
        assert row is not None
        assert (row.owner, row.fence) == (claims[0].owner, after + 1)
        assert {f"{claims[0].owner} has claimed it" in each for each in refused} == {True}
    assert journal.claim("run", "host:1:token", NOW).fence == 4


def test_a_warning_that_is_made_an_error_leaves_the_run_as_it_was(storage: Any) -> None:
    options: Any = {"workflow_id": "run", "storage": storage}
    Manager([one], **options)
    before = open_journal(Config(storage=storage), Workflow([])).run("run")
    for change in ({}, {"resume": True, "params": {"n": 2}}):
        with pytest.raises(DotflowWarning):  # as all warnings are errors here
            Manager([one, task(lambda: 1, name="more")], **options, **change)
    assert open_journal(Config(storage=storage), Workflow([])).run("run") == before
    with pytest.raises(InputChanged):
        Manager([one], **options, resume=True, params={"n": 2}, on_input_change="raise")
    assert Manager([one], **options, resume=True).status is RunStatus.COMPLETED


class Interrupted(FileStorage):
    """Is interrupted at its n-th operation, or the first after it."""

    left = 10**9

    def get(self, key: str) -> bytes | None:
        self._count()
        return super().get(key)

    def put(self, key: str, data: bytes, **more: Any) -> bool:
        self._count()
        return super().put(key, data, **more)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("key", [None, "order-42"])
def test_a_ctrl_c_at_any_moment_gives_the_run_back(tmp_path: Path, key: str | None) -> None:
    for number in range(60):
        storage = Interrupted(tmp_path / f"{number}")
        storage.left = number
        options: Any = {"workflow_id": "run", "storage": storage, "resume": True, "idempotency_key": key}
        try:
            Manager([one, task(lambda x: x, name="two").bind(x=one)], **options)
        except KeyboardInterrupt:
            storage.left = 10**9
        else:
            assert number > 10, "it was interrupted"
            return
        before = time.monotonic()
        run = Manager([one, task(lambda x: x, name="two").bind(x=one)], **options)
        assert run.status is RunStatus.COMPLETED
        assert run["two"].result == 1
        assert time.monotonic() - before < 1.9, "nothing has to be waited for"
    raise AssertionError("it needs more operations than that")


def test_a_thread_that_cannot_be_started_gives_the_run_back(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    options: Any = {"workflow_id": "run", "storage": storage, "resume": True}
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            Manager([one], mode="background", **options)
    assert Manager([one], **options).status is RunStatus.COMPLETED


def test_a_body_that_starts_its_own_run_is_told_that_it_is_in_progress(storage: Any) -> None:
    options: Any = {"workflow_id": "run", "storage": storage, "on_failure": lambda tasks: None}
    again = task(lambda: Manager([again], **options), name="again")
    run = Manager([again], **options)
    assert run.status is RunStatus.FAILED
    assert isinstance(run[again].errors[0].error, RunInProgress)
    assert "in progress in this process" in run[again].errors[0].message


def test_a_callback_may_start_its_own_run_again(storage: Any) -> None:
    runs: list[Manager] = []
    options: Any = {"workflow_id": "run", "storage": storage, "resume": True}

    def again(tasks: Any) -> None:
        runs.append(Manager([one], **options))

    run = Manager([one], on_success=again, **options)
    assert [each.status for each in (run, *runs)] == ["completed", "completed"]


def test_params_that_cannot_be_compared_do_not_keep_a_run_from_being_resumed(storage: Any) -> None:
    total = task(lambda data: int(data.sum()), name="total")
    options: Any = {"workflow_id": "run", "storage": storage, "params": {"data": np.arange(3)}}
    assert Manager([total], **options)["total"].result == 3
    assert Manager([total, one], **options, resume=True).status is RunStatus.COMPLETED
    assert (
        Manager([total], storage=storage, idempotency_key="k", params={"data": np.arange(3)})["total"].result
        == 3
    )
    assert (
        Manager([total], storage=storage, idempotency_key="k", params={"data": np.arange(3)})["total"].result
        == 3
    )


SCRIPT = """
import os, signal, sys, time
from dotflow_like import Manager, task


def hangs(tasks):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)


try:
    Manager([task(lambda: 1, name="one")], on_success=hangs)
except KeyboardInterrupt:
    print(sorted(name for name in sys.modules if name in ("dotflow_like.execute.view", "dotflow_like.record.locks")))
"""


def test_ctrl_c_stops_a_callback_that_hangs_and_a_run_in_memory_loads_nothing_it_does_not_need() -> None:
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
