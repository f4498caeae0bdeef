"""Timeouts: of an attempt, in a worker and inline, and of the run."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    Config,
    DotflowWarning,
    Manager,
    RunFailed,
    RunStatus,
    TaskStatus,
    TaskTimeout,
    task,
)
from dotflow_like.testing import FakeClock

HoursPass = Callable[..., AbstractContextManager[FakeClock]]
SHORT = 0.1  # seconds: a limit that is meant to be passed
LONG = 600.0  # seconds: a body that would never end by itself


def gone(pid: int) -> bool:
    """Whether a process runs no more."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/status")
    try:
        return status.exists() and "State:\tZ" in status.read_text()
    except OSError:
        return True


def test_in_a_worker_the_body_and_its_children_are_gone_and_nothing_happens_afterwards(
    tmp_path: Path, until: Callable[..., None], hours_pass: HoursPass
) -> None:
    pids, effect = tmp_path / "pids", tmp_path / "effect"

    @task(timeout=600)
    def hang() -> None:
        import subprocess
        import sys

        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (tmp_path / "new").write_text(f"{os.getpid()} {child.pid}")
        (tmp_path / "new").rename(pids)
        time.sleep(LONG)
        effect.touch()

    with hours_pass(pids.exists, lambda: False):
        run = Manager([hang], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    assert run[hang].status is TaskStatus.FAILED
    (error,) = run[hang].errors
    assert isinstance(error.error, TaskTimeout)
    assert isinstance(error.error, TimeoutError)
    assert "'hang'" in error.message
    assert "600 s" in error.message
    assert [each.outcome for each in run.attempts] == ["timed_out"]
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: gone(pid), f"the end of {pid}")
    assert not effect.exists()


# Appends to a file, and tells its number; given more places, it starts one that does, too.
WRITER = """
import os, subprocess, sys, time
from pathlib import Path
folder, (session, *rest) = Path(sys.argv[1]), sys.argv[2:]
if rest:
    options = {"start_new_session": rest[0] == "own session"}
    subprocess.Popen([sys.executable, "-S", __file__, str(folder), *rest], **options)
(folder / f"pid {os.getpid()}").touch()
with open(folder / "effects", "ab", buffering=0) as file:
    while (folder / "go on").exists():
        file.write(b"x")
        time.sleep(0.0005)
"""


def test_when_the_timeout_is_recorded_grandchildren_have_no_more_effects(
    tmp_path: Path, until: Callable[..., None], hours_pass: HoursPass
) -> None:
    script, folder = tmp_path / "writer.py", tmp_path / "pids"
    script.write_text(WRITER)
    folder.mkdir()
    effects, go_on = folder / "effects", folder / "go on"
    go_on.touch()
    sizes: list[int] = []

    def pids() -> list[int]:
        return [int(each.name.split()[1]) for each in folder.glob("pid *")]

    @task(timeout=600)
    def hang() -> None:
        import subprocess
        import sys

        start = [sys.executable, "-S", str(script), str(folder)]
        subprocess.Popen([*start, "same session", "same session", "own session"])
        subprocess.Popen([*start, "own session", "same session"], start_new_session=True)
        (folder / f"pid {os.getpid()}").touch()
        with effects.open("ab", buffering=0) as file:
            while True:
                file.write(b"x")
                time.sleep(0.0005)

    class Watch:
        def end_task(self, task: Any) -> None:
            sizes.append(effects.stat().st_size)

    with hours_pass(lambda: len(pids()) == 6, lambda: False):
        run = Manager(
            [hang],
            mode="parallel",
            max_workers=1,
            config=Config(tracer=Watch()),
            on_failure=lambda tasks: None,
        )
    assert [each.outcome for each in run.attempts] == ["timed_out"]
    try:
        for pid in pids():
            until(lambda pid=pid: gone(pid), f"the end of {pid}")
    finally:
        go_on.unlink()
    assert sizes == [effects.stat().st_size]


def test_the_slot_of_a_stopped_body_is_free_again() -> None:
    tasks = [task(lambda: time.sleep(LONG), name=f"hang{i}", timeout=SHORT) for i in range(2)]
    tasks += [task(lambda i=i: i, name=f"t{i}") for i in range(3)]
    run = Manager(tasks, mode="parallel", max_workers=1, keep_going=True, on_failure=lambda tasks: None)
    assert [each.status for each in run.tasks] == ["failed", "failed", "completed", "completed", "completed"]


def test_each_attempt_has_the_whole_time(tmp_path: Path, hours_pass: HoursPass) -> None:
    tries = tmp_path / "tries"
    retried: list[Any] = []

    class Watch:
        def task_retried(self, task: Any) -> None:
            retried.append(task)

    @task(timeout=3600, retry=3)
    def third_time() -> str:
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) < 3:
            time.sleep(LONG)
        return "done"

    def body_hangs() -> bool:
        return tries.exists() and len(tries.read_text()) == len(retried) + 1 < 3

    with hours_pass(body_hangs, lambda: False):
        run = Manager([third_time], mode="parallel", max_workers=1, config=Config(metrics=Watch()))
    assert run.raise_for_failure()[third_time].result == "done"
    assert [each.outcome for each in run.attempts] == ["timed_out", "timed_out", "success"]
    for each in run.attempts[:2]:
        assert each.started_at is not None
        assert each.finished_at is not None
        assert (each.finished_at - each.started_at).total_seconds() >= 3600


def test_a_timeout_is_tried_again_only_if_retry_on_says_so() -> None:
    hang = task(lambda: time.sleep(LONG), name="hang", timeout=SHORT, retry=2)
    tasks = [
        hang.with_options(name="value", retry_on=ValueError),
        hang.with_options(name="time", retry_on=TimeoutError),
    ]
    run = Manager(tasks, mode="parallel", max_workers=2, keep_going=True, on_failure=lambda tasks: None)
    assert [len(each.attempts) for each in run.tasks] == [1, 2]
    assert [each.outcome for each in run["time"].attempts] == ["timed_out", "timed_out"]


def test_a_body_within_its_time_is_left_alone(run_in: Callable[..., Manager]) -> None:
    run = run_in(
        [task(lambda: 1, name="one", timeout=60), task(lambda: 1 / 0, name="bad", timeout=60)],
        on_failure=lambda tasks: None,
    )
    assert run["one"].result == 1
    assert run["bad"].errors[0].exception == "ZeroDivisionError"


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "sequential"},
        {"mode": "sequential_group"},
        {"mode": "background"},
        {"mode": "parallel", "executor": "thread", "max_workers": 1},
        {"mode": "parallel", "executor": "inline"},
    ],
    ids=["sequential", "sequential_group", "background", "threads", "inline"],
)
def test_in_a_thread_the_task_fails_at_the_deadline_and_a_late_result_is_discarded(
    options: dict[str, Any], until: Callable[..., None]
) -> None:
    gate, ended = threading.Event(), threading.Event()

    @task(timeout=SHORT)
    def hang() -> str:
        gate.wait(60)
        ended.set()
        return "late"

    after = task(lambda: "after", name="after")
    with pytest.warns(DotflowWarning, match="cannot be stopped") as warned:
        run = Manager([hang, after], keep_going=True, on_failure=lambda tasks: None, **options).wait()
    assert len(warned) == 1
    assert "'hang'" in str(warned[0].message)
    assert run[after].result == "after"
    gate.set()
    assert ended.wait(30)
    assert run[hang].status is TaskStatus.FAILED
    assert run[hang].result is None
    assert isinstance(run[hang].errors[0].error, TaskTimeout)
    assert [each.outcome for each in run[hang].attempts] == ["timed_out"]


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_in_a_thread_it_is_not_tried_again_before_the_old_body_has_ended(
    mode: str, hours_pass: HoursPass
) -> None:
    log: list[str] = []
    retried = threading.Event()

    @task(timeout=600, retry=2)
    def hang() -> str:
        log.append("begin")
        if len(log) > 1:
            return "second"
        assert retried.wait(60)
        time.sleep(0.05)  # long enough for an attempt that is too early
        log.append("end")
        return "first"

    class Watch:
        def task_retried(self, task: Any) -> None:
            retried.set()

    with pytest.warns(DotflowWarning), hours_pass(lambda: bool(log), retried.is_set):
        run = Manager([hang], mode=mode, config=Config(metrics=Watch())).wait()
    assert log == ["begin", "end", "begin"]
    assert run[hang].result == "second"
    assert [each.outcome for each in run.attempts] == ["timed_out", "success"]


def test_the_warning_points_at_the_line_of_the_user() -> None:
    gate = threading.Event()
    with pytest.warns(DotflowWarning) as warned:
        Manager([task(lambda: gate.wait(60), timeout=SHORT)], on_failure=lambda tasks: None)
    gate.set()
    assert warned[0].filename == __file__


def test_the_warning_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    with pytest.warns(DotflowWarning):
        Manager([task(lambda: gate.wait(60), name="hang", timeout=SHORT)], on_failure=lambda tasks: None)
    gate.set()
    (record,) = [each for each in caplog.records if "cannot be stopped" in each.getMessage()]
    assert record.levelname == "WARNING"
    assert record.__dict__["task_id"] == "hang"


def test_a_filter_that_makes_warnings_errors_does_not_break_the_run() -> None:
    gate = threading.Event()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = Manager([task(lambda: gate.wait(60), timeout=SHORT)], on_failure=lambda tasks: None)
    gate.set()
    assert run.status is RunStatus.FAILED


def test_an_item_of_a_map_has_a_timeout_of_its_own(tmp_path: Path, hours_pass: HoursPass) -> None:
    begun = tmp_path / "begun"

    @task(timeout=600)
    def maybe(i: int) -> int:
        if i == 2:
            begun.touch()
            time.sleep(LONG)
        return i

    with hours_pass(begun.exists, lambda: False):
        run = Manager(
            [maybe.map(i=range(3))],
            mode="parallel",
            max_workers=1,
            keep_going=True,
            on_failure=lambda tasks: None,
        )
    assert run.tasks[0].items is not None
    assert [each.status for each in run.tasks[0].items] == ["completed", "completed", "failed"]


@pytest.mark.filterwarnings("ignore::dotflow_like.DotflowWarning")
def test_when_the_run_is_out_of_time_running_tasks_fail_and_the_rest_stay_pending(
    run_in: Callable[..., Manager], tmp_path: Path, hours_pass: HoursPass
) -> None:
    begun, over = tmp_path / "begun", tmp_path / "over"

    @task(retry=5)
    def hang() -> None:
        begun.touch()
        deadline = time.monotonic() + 60
        while not over.exists() and time.monotonic() < deadline:
            time.sleep(0.002)

    quick = task(lambda: 1, name="quick")
    rest = task(lambda: 1, name="rest").after(hang)
    with hours_pass(begun.exists, lambda: False):
        run = run_in(
            [quick, hang.after(quick), rest], timeout=3600, keep_going=True, on_failure=lambda tasks: None
        )
    over.touch()
    assert [each.status for each in run.tasks] == ["completed", "failed", "pending"]
    assert (run.status, run.reason) == (RunStatus.FAILED, "timeout")
    (error,) = run[hang].errors
    assert isinstance(error.error, TaskTimeout)
    assert "3600 s" in error.message
    assert [each.outcome for each in run[hang].attempts] == ["timed_out"]
    with pytest.raises(RunFailed, match="timeout"):
        run.raise_for_failure()


def test_a_run_out_of_time_does_not_wait_for_a_retry() -> None:
    bad = task(lambda: 1 / 0, name="bad", retry=2, retry_delay=LONG)
    run = Manager([bad], timeout=SHORT, on_failure=lambda tasks: None)
    assert (run.status, run.reason) == (RunStatus.FAILED, "timeout")
    assert run[bad].status is TaskStatus.FAILED
    assert [each.status for each in run.attempts] == ["failed", "cancelled"]


def test_on_failure_is_called_when_the_time_is_up() -> None:
    seen: list[Any] = []
    bad = task(lambda: 1 / 0, name="bad", retry=2, retry_delay=LONG)
    Manager([bad], on_failure=lambda tasks: seen.append(tasks), timeout=SHORT)
    assert len(seen) == 1


def test_a_run_within_its_time_is_left_alone(run_in: Callable[..., Manager]) -> None:
    run = run_in([task(lambda: 1, name="one"), task(lambda: 2, name="two")], timeout=60)
    assert run.status is RunStatus.COMPLETED
    assert list(run.results.values()) == [1, 2]


def test_raising_for_a_run_that_only_its_own_time_ended_names_the_reason() -> None:
    """The task in its retry's delay is the one that failed; the group is flat and never empty."""
    bad = task(lambda: 1 / 0, name="bad", retry=2, retry_delay=LONG)
    run = Manager([bad], timeout=SHORT, on_failure=lambda tasks: None)
    with pytest.raises(RunFailed, match="timeout") as raised:
        run.raise_for_failure()
    assert any(isinstance(each, ZeroDivisionError) for each in raised.value.exceptions)
