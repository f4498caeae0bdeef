"""What a failed run tells on stderr."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, RunStatus, task

Capture = pytest.CaptureFixture[str]


def helper() -> None:
    import json

    json.loads("{broken")


@task
def bad() -> None:
    helper()


def test_it_names_run_task_attempt_cause_and_the_users_own_frames(capsys: Capture) -> None:
    Manager([bad.with_options(retry=2), task(lambda: 1, name="rest")], workflow_id="night", name="load")
    err = capsys.readouterr().err
    lines = err.splitlines()
    assert lines[0] == "run night of load failed (failed: bad); 1 of 2 tasks did not run"
    assert lines[1].startswith("  task 'bad', attempt 2: JSONDecodeError: Expecting property name")
    frames = [line for line in lines if re.match(r"\s+File ", line)]
    assert len(frames) == 2
    assert all(__file__ in line for line in frames)
    assert "in bad" in frames[0]
    assert "in helper" in frames[1]
    assert 'json.loads("{broken")' in err
    assert "dotflow_like/" not in err
    assert "json/decoder" not in err


def test_it_says_how_to_be_able_to_resume(capsys: Capture) -> None:
    Manager([bad])
    assert capsys.readouterr().err.splitlines()[-1].strip() == (
        "to be able to go on after a failure: Manager(..., workflow_id='a-name', storage='a-folder')"
    )


def test_it_says_how_to_resume_where_that_can_be(capsys: Capture, tmp_path: Path) -> None:
    Manager([bad], workflow_id="night's", storage=tmp_path)
    last = capsys.readouterr().err.splitlines()[-1]
    assert """workflow_id="night's", resume=True""" in last


def test_with_on_failure_it_is_silent(capsys: Capture) -> None:
    Manager([bad], on_failure=lambda tasks: None)
    assert capsys.readouterr() == ("", "")


def test_a_run_that_completes_says_nothing(capsys: Capture) -> None:
    Manager([task(lambda: 1)])
    assert capsys.readouterr() == ("", "")


def test_failed_items_of_a_map_are_named(capsys: Capture) -> None:
    Manager([task(lambda x: 1 / x, name="m").map(x=[1, 0, 0])], keep_going=True)
    err = capsys.readouterr().err
    assert "task 'm[1]', attempt 1: ZeroDivisionError" in err
    assert "task 'm[2]', attempt 1: ZeroDivisionError" in err


def test_a_map_whose_items_could_not_be_made_says_why(capsys: Capture) -> None:
    five = task(lambda: 5, name="five")
    Manager([five, task(lambda x: x, name="m").map(x=five)])
    assert "'int' object is not iterable" in capsys.readouterr().err


def test_of_very_many_failures_ten_are_shown(capsys: Capture) -> None:
    Manager([task(lambda x: 1 / 0, name="m").map(x=range(25))], keep_going=True)
    err = capsys.readouterr().err
    assert err.count("ZeroDivisionError") == 10
    assert "and 15 more" in err


def test_of_a_deep_recursion_the_last_frames_are_shown(capsys: Capture) -> None:
    @task
    def deep() -> None:
        def go(n: int) -> None:
            if n == 0:
                raise ValueError("bottom")
            go(n - 1)

        go(50)

    Manager([deep])
    err = capsys.readouterr().err
    assert 'raise ValueError("bottom")' in err
    assert err.count("  File ") <= 6


def test_a_run_out_of_time_says_so(capsys: Capture) -> None:
    again = task(lambda: 1 / 0, name="again", retry=2, retry_delay=3600)
    Manager([again], timeout=0.05, workflow_id="w")
    assert "run w of workflow failed (timeout)" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["\ud800", "ä", "a\nb"])
def test_a_stream_that_cannot_show_every_letter_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="ascii", errors="strict"))

    @task
    def fails() -> None:
        raise ValueError(text)

    assert Manager([fails]).status is RunStatus.FAILED
    assert b"ValueError" in raw.getvalue()


def _closed() -> Any:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, _closed()], ids=["none", "closed"])
def test_a_stream_that_is_not_there_does_no_harm(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    assert Manager([bad]).status is RunStatus.FAILED


def test_a_function_written_in_c_has_no_frame_to_show(capsys: Capture) -> None:
    Manager([task(divmod, name="divide").bind(x=1, y=0)])
    err = capsys.readouterr().err
    assert "task 'divide', attempt 1: ZeroDivisionError" in err
    assert "  File " not in err
