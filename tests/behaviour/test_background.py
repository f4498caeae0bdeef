"""Background: the caller goes on at once, and waits when it wants to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from dotflow_like import Manager, Mode, RunStatus, TaskStatus, Workflow, task


def held(gate: threading.Event, **options: Any) -> Any:
    """Return a task that ends when the gate opens."""

    def body() -> int:
        assert gate.wait(30)
        return 7

    return task(body, name="held", **options)


def test_it_returns_before_the_first_task_ends() -> None:
    gate = threading.Event()
    run = Manager([held(gate)], mode="background")
    assert run.mode is Mode.BACKGROUND
    assert run.thread is not None
    assert run.thread.is_alive()
    assert run.status in (RunStatus.PENDING, RunStatus.RUNNING)
    assert run["held"].result is None
    gate.set()
    assert run.wait() is run
    assert run.status is RunStatus.COMPLETED
    assert run["held"].result == 7
    assert not run.thread.is_alive()


def test_wait_raises_timeout_error_while_the_run_goes_on() -> None:
    gate = threading.Event()
    run = Manager([held(gate)], mode="background", workflow_id="nightly")
    with pytest.raises(TimeoutError, match=r"nightly.*goes on"):
        run.wait(0.01)
    with pytest.raises(TimeoutError):
        run.wait(timeout=0)
    assert run.thread is not None
    assert run.thread.is_alive()
    gate.set()
    assert run.wait(30).status is RunStatus.COMPLETED
    assert run.wait(0).status is RunStatus.COMPLETED


def test_callbacks_come_after_the_end_and_wait_returns_after_them() -> None:
    gate = threading.Event()
    seen: list[Any] = []

    def on_success(tasks: Any) -> None:
        seen.append([each.status for each in tasks])
        seen.append(run.status)

    run = Manager([held(gate, callback=lambda task: seen.append(task.status))], on_success, mode="background")
    assert seen == []
    gate.set()
    run.wait()
    assert seen == [TaskStatus.COMPLETED, [TaskStatus.COMPLETED], RunStatus.COMPLETED]


def test_wait_raises_what_a_callback_raised_every_time_it_is_asked() -> None:
    def on_success(tasks: Any) -> None:
        raise LookupError("from the callback")

    run = Manager([task(lambda: 1)], on_success, mode="background")
    for _ in range(2):
        with pytest.raises(LookupError, match="from the callback"):
            run.wait()
    assert run.status is RunStatus.COMPLETED


def test_wait_raises_what_on_failure_raised() -> None:
    def on_failure(tasks: Any) -> None:
        raise LookupError("from the callback")

    run = Manager([task(lambda: 1 / 0)], None, on_failure, mode="background")
    with pytest.raises(LookupError):
        run.wait()
    assert run.status is RunStatus.FAILED


def test_waiting_inside_a_callback_of_the_run_does_not_hang() -> None:
    waited: list[Any] = []
    gate = threading.Event()

    def on_success(tasks: Any) -> None:
        assert gate.wait(30)
        waited.append(run.wait())

    run = Manager([task(lambda: 1)], on_success, mode="background")
    gate.set()
    run.wait()
    assert waited == [run]


def test_several_threads_may_wait_for_one_run() -> None:
    gate = threading.Event()
    run = Manager([held(gate)], mode="background")
    found: list[Any] = []
    waiters = [threading.Thread(target=lambda: found.append(run.wait().status)) for _ in range(3)]
    for each in waiters:
        each.start()
    gate.set()
    for each in waiters:
        each.join()
    assert found == [RunStatus.COMPLETED] * 3


def test_wait_in_other_modes_returns_at_once() -> None:
    run = Manager([task(lambda: 1)])
    assert run.thread is None
    assert run.wait(0) is run


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_workflow_can_be_started_in_the_background_in_any_mode(mode: str) -> None:
    run = Workflow([task(lambda: 5, name="five")]).start(mode=mode)
    assert run.thread is not None
    assert run.wait()["five"].result == 5
    assert run.mode == mode


def test_the_failure_report_comes_from_the_background_too(capsys: pytest.CaptureFixture[str]) -> None:
    Manager([task(lambda: 1 / 0, name="divide")], mode="background").wait()
    assert "'divide'" in capsys.readouterr().err


def test_a_plan_that_cannot_work_is_refused_before_it_returns() -> None:
    from dotflow_like import UnfilledParameter

    with pytest.raises(UnfilledParameter):
        Manager([task(lambda x: x)], mode="background")


PROGRAM = """
import sys
from pathlib import Path
from dotflow_like import Manager, Workflow, task
{imports}

@task
def first():
    while not Path("main-is-done").exists():
        pass
    return 1

@task
def second(n):
{body}

def done(tasks):
    Path("result").write_text(str(tasks[-1].result))
    print("done", flush=True)

run = Manager([first, second.bind(n=first)], done, mode="background")
print("end of the script", flush=True)
Path("main-is-done").touch()
"""


@pytest.mark.parametrize(
    ("imports", "body"),
    [
        ("", "    return n + 41"),
        (
            "",
            """\
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(lambda x: x + n, [19, 21]))""",
        ),
        (
            "def plus(x):\n    return x + 1\n",
            """\
    from concurrent.futures import ProcessPoolExecutor
    import multiprocessing
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        return sum(pool.map(plus, [19, 21]))""",
        ),
        (
            "from concurrent.futures import ThreadPoolExecutor, ProcessPoolExecutor",
            """\
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(lambda x: x + n, [19, 21]))""",
        ),
    ],
    ids=["plain", "threads", "processes", "imported before"],
)
def test_a_script_that_ends_waits_for_its_background_work(
    script: Callable[..., Any], tmp_path: Any, imports: str, body: str
) -> None:
    ended = script(PROGRAM.format(imports=imports, body=body))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["end of the script", "done"]
    assert (tmp_path / "result").read_text() == "42"
    assert ended.stderr == ""


def test_a_script_that_ends_waits_for_workers_too(script: Callable[..., Any], tmp_path: Any) -> None:
    ended = script(
        "from dotflow_like import Workflow, task\n"
        "def done(tasks): print([each.result for each in tasks], flush=True)\n"
        "Workflow([task(lambda: 1, name='a'), task(lambda: 2, name='b')]).start("
        "mode='parallel', max_workers=2, on_success=done)\n"
        "print('end of the script', flush=True)\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["end of the script", "[1, 2]"]


def test_what_a_callback_raises_when_nobody_waits_is_seen_on_stderr(script: Callable[..., Any]) -> None:
    ended = script(
        "import sys, threading\n"
        "from dotflow_like import Manager, task\n"
        "def done(tasks): raise LookupError('from the callback')\n"
        "run = Manager([task(lambda: 1)], done, mode='background')\n"
        "if sys.argv[1] == 'late':\n"
        "    run.thread.join()\n",
        "late",
    )
    assert "LookupError: from the callback" in ended.stderr
