"""A run whose process dies again and again in the same place is stopped; one that gets on is not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

MODES = ["sequential", "sequential_group", "background", "parallel"]
STORAGES = ["files", "sqlite"]

SCRIPT = r"""
import json, os, signal, sys, threading, warnings
from dotflow_like import Config, Manager, task

ORDER = json.loads(sys.argv[1])
MAIN = os.getpid()


def body(name, ctx):
    descriptor = os.open(os.path.join(ORDER["folder"], "ledger"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{name} {ctx.attempt.number}\n".encode())
    os.close(descriptor)
    if name in ORDER["deadly"] and (ORDER["always"] or ctx.attempt.number == 1):
        os.kill(MAIN, signal.SIGKILL)
        threading.Event().wait()
    if name in ORDER["raising"]:
        raise ValueError(name)


def made(name, before):
    made = task(lambda ctx: body(name, ctx), name=name, version="1").after(*before)
    if ORDER["mode"] == "sequential_group":
        made = made.with_options(group_name="early" if name in "ab" else "late")
    return made


@task(version="1")
def item(ctx, x):
    body(f"item {x}", ctx)


tasks = []
for name in ORDER["tasks"]:
    tasks.append(made(name, tasks[-1:]))
if ORDER["map"]:
    tasks = [item.map(x=[0, 1, 2])]
if not ORDER["resume"]:
    warnings.simplefilter("ignore")  # that results are discarded
run = Manager(
    tasks,
    workflow_id="job",
    storage=ORDER["storage"],
    resume=ORDER["resume"],
    mode=ORDER["mode"],
    config=Config(max_crashes=ORDER["most"], start_method="fork"),
).wait()
print(json.dumps({"status": run.status, "reason": run.reason}))
"""


class Starts:
    """Starts one run again and again."""

    def __init__(self, nursery: Any, folder: Path, storage: str, mode: str) -> None:
        self._nursery = nursery
        self._folder = folder
        self._script = folder / "script.py"
        self._script.write_text(SCRIPT)
        place = f"file://{folder}/kept" if storage == "files" else f"sqlite:///{folder}/runs.db"
        self._order = {"folder": str(folder), "storage": f"{place}?durability=process", "mode": mode}
        self.errors = ""

    def start(
        self,
        tasks: str = "abc",
        *,
        deadly: str | list[str] = "",
        raising: str = "",
        always: bool = True,
        most: int | None = 3,
        resume: bool = True,
        over_items: bool = False,
    ) -> Any:
        """Return how the run ended; None if it was killed."""
        order = self._order | {
            "tasks": tasks,
            "deadly": deadly,
            "raising": raising,
            "always": always,
            "most": most,
            "resume": resume,
            "map": over_items,
        }
        process = self._nursery.born(str(self._script), [json.dumps(order)], self._folder)
        code = process.wait()
        self.errors = process.errors
        assert code in (0, -signal.SIGKILL), self.errors
        return None if code else json.loads((self._folder / "out").read_text())

    def bodies(self) -> list[str]:
        """Return what has run."""
        return (self._folder / "ledger").read_text().split("\n")[:-1]


@pytest.fixture
def starts(nursery: Any, tmp_path: Path, storage: str, mode: str) -> Starts:
    return Starts(nursery, tmp_path, storage, mode)


pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.parametrize("storage", STORAGES),
]
every_mode = pytest.mark.parametrize("mode", MODES)
two_modes = pytest.mark.parametrize("mode", ["sequential", "parallel"])


@every_mode
def test_a_task_that_kills_its_process_every_time_stops_the_run(starts: Starts) -> None:
    for number in (1, 2, 3):
        assert starts.start(deadly="b") is None
        assert starts.bodies() == ["a 1", *(f"b {at}" for at in range(1, number + 1))]
    for _ in (4, 5):
        stopped = starts.start(deadly="b")
        assert stopped["status"] == "failed"
        assert "died 3 times in a row" in stopped["reason"]
        assert "while these ran: b;" in stopped["reason"]
        assert "Config(max_crashes=4)" in stopped["reason"]
        assert "died 3 times in a row" in starts.errors
        assert len(starts.bodies()) == 4

    assert starts.start(deadly="b", most=4) is None  # once more
    assert starts.bodies()[4:] == ["b 4"]
    assert "died 4 times in a row" in starts.start(deadly="b", most=4)["reason"]
    assert len(starts.bodies()) == 5
    assert starts.start(most=5)["status"] == "completed"
    assert starts.bodies()[5:] == ["b 5", "c 1"]


@two_modes
def test_to_start_over_forgets_crashes(starts: Starts) -> None:
    for _ in range(3):
        assert starts.start(deadly="a") is None
    assert starts.start(deadly="a")["status"] == "failed"
    assert starts.start(deadly="a", resume=False) is None
    assert starts.start(deadly="a") is None
    assert starts.start()["status"] == "completed"


@every_mode
def test_a_run_that_is_killed_in_one_task_after_another_goes_on_to_the_end(starts: Starts) -> None:
    for at in range(1, 7):
        assert starts.start("abcdef", deadly="abcdef", always=False) is None
        assert len(starts.bodies()) == 2 * at - 1
    assert starts.start("abcdef", deadly="abcdef", always=False)["status"] == "completed"
    assert starts.bodies() == [f"{name} {at}" for name in "abcdef" for at in (1, 2)]


@two_modes
def test_a_run_that_fails_has_not_crashed(starts: Starts) -> None:
    for _ in range(5):
        assert "failed: b" in starts.start(raising="b")["reason"]
    assert len(starts.bodies()) == 6


@two_modes
def test_there_may_be_no_limit(starts: Starts) -> None:
    for _ in range(5):
        assert starts.start(deadly="a", most=None) is None
    assert starts.start(most=None)["status"] == "completed"


@two_modes
def test_the_reason_names_the_item_that_kills(starts: Starts) -> None:
    for number in range(8):  # in parallel mode the other items may end in one start or another
        ended = starts.start(deadly=["item 1"], over_items=True)
        if ended is not None:
            assert number >= 3
            assert "item[1]" in ended["reason"].partition("while these ran: ")[2]
            return
    raise AssertionError("the run was not stopped")
