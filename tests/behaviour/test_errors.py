"""What a body raises is kept as it is, whatever it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dotflow_like import Manager, RunFailed, RunStatus, TaskFailure, TaskStatus, task

TEXTS = {
    "empty": "",
    "space": "   ",
    "lines": "first\nsecond\r\n\n  third\n",
    "unicode": "Grüße, 世界 🌍",
    "surrogate": "\ud800 alone",
    "null": "a\x00b",
    "percent": "100 % of %s and {braces}",
    "looks like ours": "task 'x' timed out; WorkerDied; cancelled",
    "long": "x" * 100_000,
}


@pytest.mark.parametrize("executor", ["inline", "process"])
def test_the_text_of_an_error_is_kept_as_it_is(executor: Any) -> None:
    @task
    def bad(text: str) -> None:
        raise ValueError(text)

    tasks = [bad.bind(text=text) for text in TEXTS.values()]
    run = Manager(
        tasks,
        mode="parallel",
        executor=executor,
        max_workers=1,
        keep_going=True,
        on_failure=lambda tasks: None,
    )
    shown = json.loads(json.dumps(run.to_dict()))["tasks"]
    for each, plain, text in zip(run.tasks, shown, TEXTS.values(), strict=True):
        (error,) = each.errors
        assert (error.exception, error.message, error.attempt) == ("ValueError", text, 1)
        assert isinstance(error.error, ValueError)
        assert error.error.args == (text,)
        assert "raise ValueError(text)" in error.traceback
        assert plain["errors"][0]["message"] == text


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_failure_report_can_show_any_text(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    @task
    def bad() -> None:
        raise ValueError(text)

    Manager([bad])
    assert "ValueError" in capsys.readouterr().err


def test_an_error_without_arguments_has_an_empty_text(run_in: Callable[..., Manager]) -> None:
    @task
    def bad() -> None:
        raise ValueError

    assert run_in([bad], on_failure=lambda tasks: None)[bad].errors[0].message == ""


@pytest.mark.parametrize("raised", [ValueError, SystemExit])
def test_an_error_whose_text_cannot_be_made_is_kept(
    run_in: Callable[..., Manager], raised: type[BaseException]
) -> None:
    @task
    def bad() -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise raised("no text")

        raise Mute

    run = run_in([bad], on_failure=None)
    (error,) = run[bad].errors
    assert error.exception == "Mute"
    assert "no text" in error.message
    assert "raise Mute" in error.traceback
    json.dumps(run.to_dict())
    with pytest.raises(RunFailed):
        run.raise_for_failure()


def test_an_error_whose_attributes_misbehave_is_kept(run_in: Callable[..., Manager]) -> None:
    @task
    def bad() -> None:
        class Strange(Exception):
            def __reduce__(self) -> Any:
                raise RuntimeError("no pickle")

            def __eq__(self, other: object) -> bool:
                raise RuntimeError("no comparison")

            __hash__ = None  # type: ignore[assignment]

            def __bool__(self) -> bool:
                raise RuntimeError("no truth")

        raise Strange("text")

    run = run_in([bad], on_failure=lambda tasks: None)
    assert run[bad].errors[0].message == "text"
    assert run.status is RunStatus.FAILED


@pytest.mark.parametrize("code", [0, "a text"])
def test_sys_exit_in_a_body_fails_the_task(run_in: Callable[..., Manager], code: Any) -> None:
    import sys

    bad = task(lambda: sys.exit(code), name="bad", retry=3)
    after = task(lambda: 1, name="after")
    run = run_in([bad, after], keep_going=True, on_failure=lambda tasks: None)
    assert run[bad].status is TaskStatus.FAILED
    assert [each.exception for each in run[bad].errors] == ["SystemExit"]
    assert run[after].result == 1
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    (stand_in,) = raised.value.exceptions
    assert isinstance(stand_in, TaskFailure)
    assert "SystemExit" in str(stand_in)


@pytest.mark.parametrize("error", [GeneratorExit, BaseException])
def test_other_errors_beyond_exception_fail_the_task(
    run_in: Callable[..., Manager], error: type[BaseException]
) -> None:
    @task
    def bad() -> None:
        raise error("no")

    run = run_in([bad], on_failure=lambda tasks: None)
    assert run[bad].errors[0].exception == error.__name__
    assert run[bad].status is TaskStatus.FAILED


def test_a_keyboard_interrupt_of_the_body_fails_the_task_in_a_worker() -> None:
    @task(retry=3)
    def bad() -> None:
        raise KeyboardInterrupt("mine")

    run = Manager(
        [bad, task(lambda: 1, name="after")],
        mode="parallel",
        max_workers=1,
        keep_going=True,
        on_failure=lambda tasks: None,
    )
    assert [each.exception for each in run[bad].errors] == ["KeyboardInterrupt"]
    assert run["after"].result == 1
    assert run.status is RunStatus.FAILED


@pytest.mark.parametrize(
    "options",
    [{"mode": "sequential"}, {"mode": "parallel", "executor": "inline"}],
    ids=["sequential", "inline"],
)
def test_a_keyboard_interrupt_of_the_body_is_ctrl_c_in_the_main_thread(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    from dotflow_like import Workflow

    called: list[Any] = []
    runs: list[Any] = []

    @task(retry=3)
    def bad() -> None:
        raise KeyboardInterrupt

    @task(callback=lambda task: runs.append(task))
    def first() -> None: ...

    workflow = Workflow([first, bad, task(lambda: 1, name="after").after(bad)])
    with pytest.raises(KeyboardInterrupt):
        workflow.run(on_failure=lambda tasks: called.append(1), on_success=called.append, **options)
    assert called == []
    err = capsys.readouterr().err
    assert "paused (interrupted)" in err
    assert "1 of 3 tasks are done" in err


def test_a_keyboard_interrupt_of_the_body_fails_the_task_in_a_background_run() -> None:
    @task
    def bad() -> None:
        raise KeyboardInterrupt

    run = Manager([bad], mode="background", on_failure=lambda tasks: None).wait()
    assert run.status is RunStatus.FAILED
    assert run[bad].errors[0].exception == "KeyboardInterrupt"


def test_the_traceback_begins_in_the_users_code(run_in: Callable[..., Manager]) -> None:
    def inner() -> None:
        raise ValueError("deep")

    @task
    def bad() -> None:
        inner()

    run = run_in([bad], on_failure=lambda tasks: None)
    text = run[bad].errors[0].traceback
    assert "dotflow_like/" not in text.replace(__file__, "")
    assert text.index("inner()") < text.index('raise ValueError("deep")')
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith("ValueError: deep\n")


def test_exception_groups_are_kept(run_in: Callable[..., Manager]) -> None:
    @task
    def bad() -> None:
        raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])

    run = run_in([bad], on_failure=lambda tasks: None)
    error = run[bad].errors[0].error
    assert isinstance(error, ExceptionGroup)
    assert [type(each) for each in error.exceptions] == [ValueError, KeyError]
    with pytest.raises(RunFailed) as raised:
        run.raise_for_failure()
    assert raised.value.exceptions == (error,)


def test_the_error_is_the_same_object_where_nothing_crossed() -> None:
    error = ValueError("this one")

    @task
    def bad() -> None:
        raise error

    run = Manager([bad], on_failure=lambda tasks: None)
    assert run[bad].errors[0].error is error
    assert run[bad].attempts[0].error is run[bad].errors[0]


def test_a_stop_iteration_of_a_body_is_an_error_like_any_other(run_in: Callable[..., Manager]) -> None:
    run = run_in([task(lambda: next(iter(())), name="bad")], on_failure=lambda tasks: None)
    assert run["bad"].errors[0].exception == "StopIteration"
