"""What bodies log in worker processes is logged in the run's process, while they run."""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, TaskTimeout, task

Until = Callable[..., None]
Script = Callable[..., subprocess.CompletedProcess[str]]
Records = list[logging.LogRecord]

WAYS: dict[str, dict[str, Any]] = {
    "parallel": {"mode": "parallel", "max_workers": 2},
    "isolated": {"mode": "sequential"},
    "isolated in the background": {"mode": "background"},
    "isolated beside threads": {"mode": "parallel", "executor": "thread", "max_workers": 2},
}


@pytest.fixture(params=WAYS)
def run_in_workers(request: pytest.FixtureRequest) -> Callable[..., Manager]:
    """A function that runs tasks in worker processes in each way there is."""

    def run(tasks: list[Any], **options: Any) -> Manager:
        isolated = [each.with_options(isolate="isolated" in request.param) for each in tasks]
        return Manager(isolated, **(WAYS[request.param] | options)).wait()

    return run


@pytest.fixture
def hear() -> Iterator[Callable[..., Records]]:
    """A function that has a logger's records kept, from a level, and given to a function as they come."""
    changed: list[tuple[logging.Logger, int, logging.Handler]] = []

    def keep(name: str, level: int, call: Callable[[Any], object] = lambda record: None) -> Records:
        found: Records = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                found.append(record)
                call(record)

        log, handler = logging.getLogger(name), Keep()
        changed.append((log, log.level, handler))
        log.addHandler(handler)
        log.setLevel(level)
        return found

    yield keep
    for log, level, handler in reversed(changed):
        log.setLevel(level)
        log.removeHandler(handler)


def quiet(tasks: Any) -> None:
    """Say nothing about a failure that is meant."""


def test_a_record_is_seen_while_its_body_runs(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records], tmp_path: Path, until: Until
) -> None:
    seen = tmp_path / "seen"
    records = hear("app", logging.INFO, lambda record: seen.touch())

    @task
    def load() -> None:
        logging.getLogger("app.load").info("loading %s", "it")
        until(seen.exists, "the word that it was logged")

    run_in_workers([load]).raise_for_failure()
    assert [each.getMessage() for each in records] == ["loading it"]


def test_a_record_says_where_it_is_from(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records]
) -> None:
    records = hear("app", logging.INFO)

    @task(retry=2)
    def load(ctx: Any) -> None:
        logging.getLogger("app").info("attempt", extra={"n": ctx.attempt.number, "file": "a.csv"})
        if ctx.attempt.number == 1:
            raise ValueError("at first")

    run = run_in_workers([load], workflow_id="nightly").raise_for_failure()
    for record, attempt in zip(records, run.attempts, strict=True):
        said: Any = record
        assert (said.workflow_id, said.task_id, said.attempt) == ("nightly", "load", attempt.number)
        assert (said.worker, f"pid {said.process}") == (attempt.worker, attempt.worker)
        assert (said.n, said.file) == (attempt.number, "a.csv")
        assert (said.name, said.levelname, said.funcName) == ("app", "INFO", "load")
        assert said.filename == "test_worker_logs.py"


def test_of_a_map_each_item_has_its_own_id(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records]
) -> None:
    records = hear("app", logging.INFO)
    log = task(lambda x: logging.getLogger("app").info("item %d", x), name="log")
    run_in_workers([log.map(x=range(5))]).raise_for_failure()
    assert sorted((vars(each)["task_id"], each.getMessage()) for each in records) == [
        (f"log[{i}]", f"item {i}") for i in range(5)
    ]


def test_a_traceback_arrives_as_text(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records]
) -> None:
    records = hear("app", logging.INFO)

    @task
    def load() -> None:
        try:
            raise LookupError("not there")
        except LookupError:
            logging.getLogger("app").exception("it failed")

    run_in_workers([load]).raise_for_failure()
    text = logging.Formatter().format(records[0])
    assert text.startswith("it failed\nTraceback (most recent call last):")
    assert text.endswith("LookupError: not there")


def test_the_parents_levels_count(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records]
) -> None:
    plain, loud = hear("app", logging.WARNING), hear("app.loud", logging.DEBUG)

    @task
    def load() -> list[bool]:
        for name in ("app", "app.child", "app.loud", "app.loud.child"):
            log = logging.getLogger(name)
            log.debug("debug of %s", name)
            log.warning("warning of %s", name)
        return [
            logging.getLogger(name).isEnabledFor(logging.DEBUG) for name in ("app.child", "app.loud.child")
        ]

    run = run_in_workers([load]).raise_for_failure()
    assert run["load"].result == [False, True]  # what nobody wants to hear is not even made
    assert [each.getMessage() for each in loud] == [
        "debug of app.loud",
        "warning of app.loud",
        "debug of app.loud.child",
        "warning of app.loud.child",
    ]
    assert {each.getMessage() for each in plain} - {each.getMessage() for each in loud} == {
        "warning of app",
        "warning of app.child",
    }


def test_a_warm_worker_has_the_levels_of_each_run(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records]
) -> None:
    records = hear("app", logging.INFO)
    load = task(lambda: logging.getLogger("app.load").debug("debug"), name="load")
    for level in (logging.DEBUG, logging.NOTSET, logging.DEBUG):
        logging.getLogger("app.load").setLevel(level)
        run_in_workers([load]).raise_for_failure()
    logging.getLogger("app.load").setLevel(logging.NOTSET)
    assert len(records) == 2


def test_threads_of_a_body_are_heard_too(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records]
) -> None:
    records = hear("app", logging.INFO)

    @task
    def load() -> None:
        thread = threading.Thread(target=lambda: logging.getLogger("app").info("beside"), name="mine")
        thread.start()
        thread.join()

    run_in_workers([load]).raise_for_failure()
    assert [(each.threadName, vars(each)["task_id"]) for each in records] == [("mine", "load")]


def test_all_records_arrive_in_their_order_before_the_end_of_their_task(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records]
) -> None:
    texts: list[str] = []
    hear("app", logging.INFO, lambda record: texts.append(record.getMessage()))
    hear("dotflow_like", logging.INFO, lambda record: texts.append(record.getMessage()))

    @task
    def load() -> None:
        for i in range(2000):
            logging.getLogger("app").info("%d %s", i, "x" * 100)

    run_in_workers([load]).raise_for_failure()
    begin, end = texts.index("task load started"), texts.index("task load completed")
    assert [int(text.split()[0]) for text in texts[begin + 1 : end]] == list(range(2000))


def test_a_handler_that_raises_costs_nothing(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(record: Any) -> None:
        raise RuntimeError("this handler is broken")

    hear("app", logging.INFO, fail)

    @task
    def load() -> str:
        logging.getLogger("app").info("x")
        return "loaded"

    assert run_in_workers([load]).raise_for_failure()["load"].result == "loaded"
    assert "this handler is broken" in capsys.readouterr().err


def test_a_body_that_does_nothing_but_log_is_stopped_at_its_deadline(
    run_in_workers: Callable[..., Manager], hear: Callable[..., Records]
) -> None:
    hear("app", logging.INFO)

    @task(timeout=0.3)
    def chatters() -> None:
        while True:
            logging.getLogger("app").info("x")

    run = run_in_workers([chatters], on_failure=quiet)
    assert isinstance(run["chatters"].errors[0].error, TaskTimeout)


SCRIPT = """
import logging, sys
from dotflow_like import Config, Manager, task

log = logging.getLogger(__name__)

@task
def load():
    log.info("an info")
    log.warning("a warning")

def run(**options):
    options = {{"mode": "parallel", "max_workers": 1}} | options
    Manager([load], **options).raise_for_failure()

{configure}
run({options})
"""


def test_without_any_handler_a_warning_is_on_stderr_once(script: Script) -> None:
    ended = script(SCRIPT.format(configure="", options=""))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "a warning\n")


FORMAT = 'logging.basicConfig(stream=sys.stdout, level="INFO", format="%(name)s %(levelname)s %(message)s")'


@pytest.mark.parametrize(
    "options",
    ["", "config=Config(start_method='fork')", "mode='sequential'"],
    ids=["spawn", "fork", "inline"],
)
def test_what_is_configured_in_a_script_is_used_once(script: Script, options: str) -> None:
    ended = script(SCRIPT.format(configure=FORMAT, options=options))
    assert (ended.returncode, ended.stderr) == (0, "")
    own = [line for line in ended.stdout.splitlines() if not line.startswith("dotflow_like ")]
    assert own == ["__main__ INFO an info", "__main__ WARNING a warning"]
