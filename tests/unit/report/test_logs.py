"""The library's log: silent until its user configures it, then one record per event."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import DotflowWarning, Manager, TaskContext, task
from dotflow_like.report.logs import logger, warn

Log = pytest.LogCaptureFixture


def quiet(tasks: Any) -> None:
    """Do nothing."""


def lines(caplog: Log) -> list[tuple[str, str]]:
    return [(each.levelname, each.getMessage()) for each in caplog.records if each.name == "dotflow_like"]


def test_one_record_per_event(caplog: Log) -> None:
    caplog.set_level(logging.INFO, "dotflow_like")
    one = task(lambda: 1, name="one")
    bad = task(lambda: 1 / 0, name="bad", retry=2)
    needs = task(lambda x: x, name="needs").bind(x=bad)
    Manager([one, bad, needs], keep_going=True, workflow_id="w", name="load", on_failure=quiet)
    assert lines(caplog) == [
        ("INFO", "run w of load started"),
        ("INFO", "task one started"),
        ("INFO", "task one completed"),
        ("INFO", "task bad started"),
        ("WARNING", "task bad retrying: ZeroDivisionError: division by zero"),
        ("ERROR", "task bad failed: ZeroDivisionError: division by zero"),
        ("INFO", "task needs skipped: it needs the result of 'bad', which is failed"),
        ("ERROR", "run w of load failed: failed: bad"),
    ]


def test_the_records_have_fields(caplog: Log) -> None:
    caplog.set_level(logging.INFO, "dotflow_like")
    run = Manager([task(lambda: 1, name="one")], workflow_id="w", version="3")
    begin, started, ended, end = (each.__dict__ for each in caplog.records)
    assert (begin["workflow_id"], begin["workflow"], begin["version"]) == ("w", "workflow", "3")
    assert (begin["mode"], begin["tasks"], begin["resumed"]) == ("sequential", 1, False)
    assert (started["workflow_id"], started["task_id"], started["attempt"]) == ("w", "one", 1)
    assert started["task_status"] == "running"
    assert ended["task_status"] == "completed"
    assert ended["duration"] == run["one"].duration
    assert (end["status"], end["reason"], end["duration"]) == ("completed", None, run.duration)


@task
def load(ctx: TaskContext) -> None:
    ctx.progress(1, 3)
    ctx.progress(2.5, message="almost")


def test_progress_is_a_record_at_debug_with_its_numbers(caplog: Log) -> None:
    caplog.set_level(logging.DEBUG, "dotflow_like")
    Manager([load], workflow_id="w")
    assert lines(caplog)[2:4] == [
        ("DEBUG", "task load: 1 of 3 done"),
        ("DEBUG", "task load: 2.5 done: almost"),
    ]
    fields = ("workflow_id", "task_id", "attempt", "done", "total", "progress_message")
    assert [[each.__dict__[field] for field in fields] for each in caplog.records[2:4]] == [
        ["w", "load", 1, 1, 3, None],
        ["w", "load", 1, 2.5, None, "almost"],
    ]


def test_at_info_progress_is_silent(caplog: Log) -> None:
    caplog.set_level(logging.INFO, "dotflow_like")
    Manager([load])
    assert [text for _, text in lines(caplog) if "load" in text] == [
        "task load started",
        "task load completed",
    ]


def test_a_restored_task_is_one_record(caplog: Log, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, "dotflow_like")
    again: dict[str, Any] = {"workflow_id": "w", "storage": tmp_path, "resume": True}
    Manager([task(lambda: 1, name="one")], **again)
    caplog.clear()
    Manager([task(lambda: 1, name="one")], **again)
    assert [text for _, text in lines(caplog) if "one" in text] == ["task one restored"]


def test_a_run_that_is_stopped_is_one_record(caplog: Log) -> None:
    caplog.set_level(logging.INFO, "dotflow_like")
    gate = threading.Event()
    run = Manager([task(lambda: gate.wait(30)), task(lambda: 1)], mode="background", workflow_id="w")
    run.cancel()
    gate.set()
    run.wait()
    assert lines(caplog)[-1] == ("INFO", "run w of workflow cancelled: cancelled")


def test_at_the_level_warning_failures_and_retries_are_logged(caplog: Log) -> None:
    caplog.set_level(logging.WARNING, "dotflow_like")
    Manager([task(lambda: 1 / 0, name="bad", retry=2)], workflow_id="w", on_failure=quiet)
    assert lines(caplog) == [
        ("WARNING", "task bad retrying: ZeroDivisionError: division by zero"),
        ("ERROR", "task bad failed: ZeroDivisionError: division by zero"),
        ("ERROR", "run w of workflow failed: failed: bad"),
    ]


def test_text_with_percent_signs_is_logged_as_it_is(caplog: Log) -> None:
    caplog.set_level(logging.INFO, "dotflow_like")

    @task(name="%s %d")
    def bad() -> None:
        raise ValueError("100 % of %s")

    Manager([bad], workflow_id="%(name)s", on_failure=quiet)
    assert ("ERROR", "task %s %d failed: ValueError: 100 % of %s") in lines(caplog)


def test_without_configuration_it_is_silent(tmp_path: Path) -> None:
    program = (
        "from dotflow_like import Manager, task\n"
        "def called(**given): raise ValueError('seen only in the log')\n"
        "Manager([task(lambda: 1 / 0, callback=called)], on_failure=lambda tasks: None)\n"
        "Manager([task(lambda: 1)])\n"
        "import logging\n"
        "assert logging.getLogger().handlers == []\n"
        "assert logging.getLogger('dotflow_like').level == logging.NOTSET\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_with_basic_config_warnings_and_worse_are_seen() -> None:
    program = (
        "import logging; logging.basicConfig()\n"
        "from dotflow_like import Manager, task\n"
        "Manager([task(lambda: 1 / 0, name='bad')], on_failure=lambda tasks: None)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0
    assert "ERROR:dotflow_like:task bad failed: ZeroDivisionError" in ended.stderr


def test_the_logger_has_a_null_handler_only() -> None:
    assert [type(each) for each in logger.handlers] == [logging.NullHandler]
    assert logger.propagate


def test_a_warning_is_a_warning_and_a_record_and_points_at_the_user(caplog: Log) -> None:
    with pytest.warns(DotflowWarning, match="careful") as warned:
        warn("careful", workflow_id="w")
    assert warned[0].filename == __file__
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "careful")
    assert record.__dict__["workflow_id"] == "w"


def test_a_warning_made_an_error_breaks_what_has_not_begun_but_no_run() -> None:
    with pytest.raises(DotflowWarning):
        warn("careful")
    warn("careful", in_run=True)
