"""A resumed run restores what is recorded, runs what is missing, and never loses or changes a result."""

from __future__ import annotations

import gc
import itertools
import json
import os
import shutil
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    ANY,
    AttemptOutcome,
    AttemptStatus,
    ClaimLost,
    Config,
    ConfigError,
    CorruptCheckpoint,
    DotflowWarning,
    FileStorage,
    IllegalMove,
    Manager,
    MemoryStorage,
    Metrics,
    Run,
    RunStatus,
    Storage,
    StorageError,
    TaskContext,
    TaskRun,
    TaskStatus,
    Tracer,
    Workflow,
    task,
)
from dotflow_like.execute.workers.pool import pool
from dotflow_like.testing import FakeClock, run_inline

MODES = ["sequential", "sequential_group", "background", "parallel"]
LARGE = "x" * 70_000


class Log:
    """What bodies have done, in a file, so that it is seen from whatever process they run in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, word: object) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{word}\n".encode())
        os.close(fd)

    def take(self) -> list[str]:
        """Return what was noted since this was asked last."""
        words = self.path.read_text().split("\n")[:-1] if self.path.exists() else []
        self.path.unlink(missing_ok=True)
        return words


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def storage(folder: Path) -> Storage:
    return FileStorage(folder, durability="process")


def execute(tasks: list[Any], **options: Any) -> Run:
    """Run tasks to their end, whatever the mode."""
    if options.get("mode") == "parallel":
        options.setdefault("max_workers", 2)
    options.setdefault("on_failure", lambda tasks: None)
    options.setdefault("workflow_id", "run")
    return Manager(tasks, **options).wait()


def quietly(tasks: list[Any], **options: Any) -> Run:
    """Run tasks and ask that nothing is warned about."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return execute(tasks, **options)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def statuses(run: Run) -> dict[str, str]:
    return {each.task_id: str(each.status) for each in run.tasks}


def numbers(run: TaskRun) -> list[tuple[int, str]]:
    return [(each.number, str(each.outcome)) for each in run.attempts]


def three(log: Log, *, broken: bool = False) -> list[Any]:
    """One task after another, each bound to the one before."""

    @task
    def first() -> list[int]:
        log("first")
        return [1, 2]

    @task
    def second(given: list[int]) -> dict[int, str]:
        log("second")
        if broken:
            raise ValueError("not yet")
        return {each: str(each) for each in given}

    @task
    def third(given: dict[int, str]) -> int:
        log("third")
        return len(given)

    bound = second.bind(given=first)
    return [first, bound, third.bind(given=bound)]


# What is recorded is restored


@pytest.mark.parametrize("mode", MODES)
def test_a_completed_run_restores_everything_and_runs_nothing(log: Log, storage: Storage, mode: str) -> None:
    before = execute(three(log), storage=storage, mode=mode)
    assert log.take() == ["first", "second", "third"]
    after = quietly(three(log), storage=storage, mode=mode, resume=True)
    assert log.take() == []
    assert after.status is RunStatus.COMPLETED
    assert after.results == before.results == {"first": [1, 2], "second": {1: "1", 2: "2"}, "third": 2}
    for old, new in zip(before.tasks, after.tasks, strict=True):
        assert (old.restored, new.restored) == (False, True)
        assert new.attempts == old.attempts
        assert (new.started_at, new.finished_at, new.duration) == (
            old.started_at,
            old.finished_at,
            old.duration,
        )
        assert new.retry_count == 0


def test_resuming_a_completed_run_changes_no_byte(log: Log, storage: Storage, folder: Path) -> None:
    @task
    def large() -> str:
        return LARGE

    @task
    def each(x: int) -> int:
        return x

    tasks = [*three(log), large, each.map(x=[1, 2])]
    execute(tasks, storage=storage)
    before = content(folder)
    run = quietly(tasks, storage=storage, resume=True)
    assert content(folder) == before
    assert run.status is RunStatus.COMPLETED
    assert all(each.restored for each in run.tasks)


def test_a_completed_run_with_a_map_over_a_result_is_claimed_and_computes_nothing(
    log: Log, storage: Storage, folder: Path
) -> None:
    @task
    def numbers() -> list[int]:
        return [1, 2]

    @task
    def each(x: int) -> int:
        log(x)
        return x

    tasks = [numbers, each.map(x=numbers)]
    execute(tasks, storage=storage)
    before, _ = content(folder), log.take()
    quietly(tasks, storage=storage, resume=True)
    after = content(folder)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"run/run.value"}
    # of the run's row: who claimed it, how often it was claimed, and when
    rows = [json.loads(one["run/run.value"].split(b"\n")[1]) for one in (before, after)]
    changed = {name for name in rows[0] if rows[0][name] != rows[1][name]}
    assert changed == {"owner", "fence", "started_at", "finished_at"}
    assert log.take() == []


@pytest.mark.parametrize(
    "value", [None, False, 0, 0.0, "", b"", [], (), {}, set()], ids=lambda each: repr(each)
)
def test_an_empty_result_is_a_result(log: Log, storage: Storage, value: Any) -> None:
    @task
    def empty() -> Any:
        log("ran")
        return value

    @task
    def look(given: Any) -> bool:
        return bool(given == value and type(given) is type(value))

    execute([empty], storage=storage)
    run = quietly([empty, look.bind(given=empty)], storage=storage, resume=True)
    assert log.take() == ["ran"]
    assert run["empty"].restored
    assert run["look"].result is True
    assert type(run["empty"].result) is type(value)


def test_restored_values_reach_what_follows_however_it_asks(log: Log, storage: Storage) -> None:
    ready = False

    @task
    def source() -> tuple[int, ...]:
        log("source")
        return (1, 2)

    @task
    def chained(previous_context: Any) -> Any:
        log("chained")
        if not ready:
            raise ValueError
        return previous_context.storage, previous_context.task_id, previous_context.workflow_id

    @task
    def gathering(given: dict[str, Any]) -> dict[str, Any]:
        return given

    tasks = [source, chained, gathering.bind(given={"a": source, "b": chained, "c": 3})]
    execute(tasks, storage=storage)
    ready = True
    run = quietly(tasks, storage=storage, resume=True)
    assert log.take() == ["source", "chained", "chained"]
    chain = ((1, 2), "source", "run")
    assert run.results == {"source": (1, 2), "chained": chain, "gathering": {"a": (1, 2), "b": chain, "c": 3}}


class Watcher(Tracer, Metrics):
    """Notes everything it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def start_task(self, task: TaskRun) -> None:
        self.told.append(("start", task.task_id))

    def end_task(self, task: TaskRun) -> None:
        self.told.append(("end", task.task_id))

    def task_completed(self, task: TaskRun) -> None:
        self.told.append(("completed", task.task_id))

    def task_failed(self, task: TaskRun) -> None:
        self.told.append(("failed", task.task_id))

    def workflow_completed(self, workflow_id: str, duration: float) -> None:
        self.told.append(("completed", workflow_id))


def test_nobody_is_told_of_a_restored_task_as_if_it_had_run(storage: Storage) -> None:
    told: list[str] = []
    broken = True

    def callback(task: TaskRun) -> None:
        told.append(task.task_id)

    @task(callback=callback)
    def done() -> int:
        return 1

    @task(callback=callback)
    def mapped(x: int) -> int:
        return x

    @task(callback=callback)
    def late() -> int:
        if broken:
            raise ValueError
        return 3

    tasks = [done, mapped.map(x=[1, 2]), late]
    execute(tasks, storage=storage)
    assert told == ["done", "mapped", "late"]
    told.clear()
    broken = False
    watcher = Watcher()
    endings: list[list[str]] = []
    run = execute(
        tasks,
        config=Config(storage=storage, tracer=watcher, metrics=watcher),
        resume=True,
        on_success=lambda tasks: endings.append([each.task_id for each in tasks]),
    )
    assert run.status is RunStatus.COMPLETED
    assert told == ["late"]
    assert watcher.told == [("start", "late"), ("end", "late"), ("completed", "late"), ("completed", "run")]
    assert endings == [["done", "mapped", "late"]]


# What is not recorded runs


def test_failed_and_missing_tasks_run_and_the_numbers_of_attempts_go_on(log: Log, storage: Storage) -> None:
    for _ in range(2):
        run = execute(three(log, broken=True), storage=storage, resume=True)
        assert statuses(run) == {"first": "completed", "second": "failed", "third": "pending"}
    assert log.take() == ["first", "second", "second"]
    run = quietly(three(log), storage=storage, resume=True)
    assert log.take() == ["second", "third"]
    assert run.results == {"first": [1, 2], "second": {1: "1", 2: "2"}, "third": 2}
    second = run["second"]
    assert numbers(second) == [(1, "failed"), (2, "failed"), (3, "success")]
    assert [each.error and each.error.message for each in second.attempts] == ["not yet", "not yet", None]
    assert not second.errors  # of this run
    assert len({each.id for each in run.attempts}) == len(run.attempts) == 5
    assert [each.restored for each in run.tasks] == [True, False, False]
    assert [each.fence for each in second.attempts] == [1, 2, 3]
    assert {each.idempotency_key for each in second.attempts} == {"run/second/g1"}


def test_a_failed_task_has_all_its_tries_again(log: Log, storage: Storage) -> None:
    @task(retry=2)
    def flaky() -> None:
        log("ran")
        raise ValueError

    execute([flaky], storage=storage)
    run = execute([flaky], storage=storage, resume=True)
    assert numbers(run["flaky"]) == [(1, "retried"), (2, "failed"), (3, "retried"), (4, "failed")]
    assert len(run["flaky"].errors) == 2
    assert [each.attempt for each in run["flaky"].errors] == [3, 4]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_order_holds_through_restored_tasks(log: Log, storage: Storage, mode: str) -> None:
    broken = True

    def made(name: str, *, fails: bool) -> Any:
        def body() -> str:
            log(name)
            if fails and broken:
                raise ValueError
            return name

        return task(body, name=name, group_name="g")

    tasks = [made("a", fails=True), made("b", fails=True), made("c", fails=False), made("d", fails=True)]
    options: dict[str, Any] = {"storage": storage, "mode": mode, "resume": True}
    if mode == "parallel":
        options["executor"] = "inline"
    execute(tasks, keep_going=True, **options)
    assert log.take() == ["a", "b", "c", "d"]
    run = execute(tasks, **options)
    assert log.take() == ["a"]
    assert statuses(run) == {"a": "failed", "b": "pending", "c": "completed", "d": "pending"}
    broken = False
    execute(tasks, **options)
    assert log.take() == ["a", "b", "d"]


def test_tasks_that_were_skipped_run(log: Log, storage: Storage) -> None:
    run = execute(three(log, broken=True), storage=storage, keep_going=True)
    assert statuses(run) == {"first": "completed", "second": "failed", "third": "skipped"}
    run = quietly(three(log), storage=storage, keep_going=True, resume=True)
    assert statuses(run) == dict.fromkeys(("first", "second", "third"), "completed")
    assert numbers(run["third"]) == [(1, "success")]


def test_resuming_an_unknown_id_starts(log: Log, storage: Storage) -> None:
    run = quietly(three(log), storage=storage, resume=True, workflow_id="never seen")
    assert run.status is RunStatus.COMPLETED
    assert log.take() == ["first", "second", "third"]
    assert not any(each.restored for each in run.tasks)


def test_runs_of_other_ids_are_left_alone(log: Log, storage: Storage, folder: Path) -> None:
    for workflow_id in ("a", "a/b", "ab", "A", "../a"):
        run = quietly(three(log), storage=storage, resume=True, workflow_id=workflow_id)
        assert run.status is RunStatus.COMPLETED
        assert log.take() == ["first", "second", "third"]
    assert content(folder.parent).keys() == {f"kept/{name}" for name in content(folder)}


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_run_begun_in_one_mode_goes_on_in_another(log: Log, storage: Storage, mode: str) -> None:
    execute(three(log, broken=True), storage=storage, mode=mode)
    other = {"sequential": "parallel", "background": "sequential", "parallel": "background"}[mode]
    run = quietly(three(log), storage=storage, mode=other, resume=True)
    assert log.take() == ["first", "second", "second", "third"]
    assert run.results == {"first": [1, 2], "second": {1: "1", 2: "2"}, "third": 2}
    quietly(three(log), storage=storage, mode=mode, resume=True)
    assert log.take() == []


# Starting over


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_known_id_without_resume_starts_over_with_a_warning(log: Log, storage: Storage, mode: str) -> None:
    @task
    def key(ctx: TaskContext) -> str:
        log("ran")
        return ctx.idempotency_key

    @task
    def large(given: str) -> str:
        return given + LARGE

    tasks = [key, large.bind(given=key)]
    first = execute(tasks, storage=storage, mode=mode)
    with pytest.warns(DotflowWarning, match="run run is known and starts over"):
        second = execute(tasks, storage=storage, mode=mode)
    assert log.take() == ["ran", "ran"]
    assert (first["key"].result, second["key"].result) == (
        "run/key/g2",
        "run/key/g2",
    )  # read from the storage
    assert numbers(second["key"]) == [(1, "success"), (2, "success")]
    assert [each.generation for each in second["key"].attempts] == [1, 2]
    assert second["key"].retry_count == 0
    assert not second["key"].restored
    assert second["key"].started_at == second["key"].attempts[1].started_at
    third = quietly(tasks, storage=storage, resume=True)
    assert third["large"].result == "run/key/g2" + LARGE
    assert log.take() == []
    assert len([key for key in storage.keys("run/values/")]) == 1  # noqa: C416  # an iterator has no length


def test_starting_over_discards_what_is_no_longer_planned_and_items_too(log: Log, storage: Storage) -> None:
    @task
    def make() -> list[int]:
        return [1, 2, 3]

    @task
    def double(x: int) -> int:
        log(x)
        return 2 * x

    @task
    def gone() -> str:
        log("gone")
        return LARGE

    mapped = double.map(x=make)
    execute([make, mapped, gone], storage=storage)
    with pytest.warns(DotflowWarning, match="starts over"):
        execute([make, mapped], storage=storage)
    assert log.take() == ["1", "2", "3", "gone", "1", "2", "3"]
    run = quietly([make, mapped, gone], storage=storage, resume=True)
    assert log.take() == ["gone"]
    assert [numbers(item) for item in run["double"].items or ()] == [[(1, "success"), (2, "success")]] * 3
    assert [each.idempotency_key for each in run["gone"].attempts] == ["run/gone/g1", "run/gone/g2"]


def test_starting_over_as_an_error_changes_nothing(log: Log, storage: Storage, folder: Path) -> None:
    execute(three(log), storage=storage)
    log.take()
    before = content(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DotflowWarning):
            execute(three(log), storage=storage)
    assert log.take() == []
    assert content(folder) == before


def test_starting_over_and_failing_does_not_bring_old_results_back(log: Log, storage: Storage) -> None:
    execute(three(log), storage=storage)
    with pytest.warns(DotflowWarning):
        execute(three(log, broken=True), storage=storage)
    log.take()
    run = quietly(three(log), storage=storage, resume=True)
    assert log.take() == ["second", "third"]
    assert numbers(run["third"]) == [(1, "success"), (2, "success")]


def test_starting_over_gives_a_task_that_failed_a_new_key_and_resume_does_not(storage: Storage) -> None:
    keys: list[str] = []

    @task
    def failing(ctx: TaskContext) -> None:
        keys.append(ctx.idempotency_key)
        raise ValueError

    execute([failing], storage=storage)
    execute([failing], storage=storage, resume=True)
    with pytest.warns(DotflowWarning):
        execute([failing], storage=storage)
    run = execute([failing], storage=storage, resume=True)
    assert keys == ["run/failing/g1"] * 2 + ["run/failing/g2"] * 2
    assert [each.number for each in run["failing"].attempts] == [1, 2, 3, 4]


# Where resume works


@pytest.mark.parametrize(
    "options",
    [
        {"workflow_id": "run"},
        {"workflow_id": "run", "storage": "memory://"},
        {"workflow_id": "run", "storage": "Memory://"},
        {"workflow_id": "run", "config": Config(storage="memory://")},
        {"storage": "kept"},
        {"workflow_id": None, "storage": "kept"},
        {"workflow_id": "", "storage": "kept"},
    ],
    ids=repr,
)
def test_resume_without_a_name_or_a_place_is_refused(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"resume=True needs|workflow_id is ''"):
        Manager(three(log), resume=True, **options)
    assert log.take() == []
    assert not (tmp_path / "kept").exists()


def test_a_memory_storage_that_was_passed_in_will_do(log: Log) -> None:
    storage = MemoryStorage()
    execute(three(log, broken=True), storage=storage)
    run = execute(three(log), config=Config(storage=storage), resume=True)
    assert run["first"].restored
    assert log.take() == ["first", "second", "second", "third"]


def test_every_way_to_name_a_folder_means_the_same(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "a place" / "kept"
    place.parent.mkdir()
    monkeypatch.chdir(place.parent)
    execute(three(log), storage="kept")
    assert place.is_dir()
    assert log.take() == ["first", "second", "third"]
    url = place.as_uri()
    for form in ("./kept", str(place), place, url, f"{url}?durability=process", FileStorage(place)):
        run = quietly(three(log), storage=form, resume=True)
        assert run["third"].result == 2
    monkeypatch.chdir(tmp_path)
    run = quietly(three(log), config=Config(storage=Path("a place") / "kept"), resume=True)
    assert all(each.restored for each in run.tasks)
    assert log.take() == []


def test_the_working_directory_of_the_moment_of_the_call_counts(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @task
    def wander() -> str:
        os.chdir(tmp_path.parent)  # where a relative storage would be another one
        return "there"

    @task
    def stay() -> str:
        return "here"

    monkeypatch.chdir(tmp_path)
    run = execute([wander, stay], storage="kept")
    assert run.results == {"wander": "there", "stay": "here"}
    assert (tmp_path / "kept" / "run").is_dir()


def test_a_uuid_names_a_run_as_its_text_does(log: Log, storage: Storage) -> None:
    from uuid import UUID

    name = UUID("12345678-1234-5678-1234-567812345678")
    execute(three(log), storage=storage, workflow_id=name)
    run = quietly(three(log), storage=storage, workflow_id=str(name), resume=True)
    assert log.take() == ["first", "second", "third"]
    assert run.workflow_id == str(name)


# Stopped and resumed


@pytest.mark.parametrize("way", ["pause", "cancel"])
@pytest.mark.parametrize("mode", ["background", "parallel"])
def test_a_run_that_was_stopped_goes_on_where_it_was(log: Log, storage: Storage, way: str, mode: str) -> None:
    reached = threading.Event()

    @task
    def before() -> int:
        log("before")
        return 1

    @task
    def stopped(ctx: TaskContext, given: int) -> int:
        log("stopped")
        if given == 1 and ctx.attempt.number == 1:
            reached.set()
            while not ctx.cancelled:
                pass
            raise RuntimeError("asked to stop")
        return given + 1

    @task
    def after(given: int) -> int:
        log("after")
        return given + 1

    bound = stopped.bind(given=before)
    flow = Workflow([before, bound, after.bind(given=bound)])
    options: dict[str, Any] = {"mode": mode, "storage": storage, "workflow_id": "run"}
    if mode == "parallel":
        options["executor"] = "thread"
    run = flow.start(**options)
    assert reached.wait(30)
    assert getattr(run, way)()
    run.wait()
    word = {"pause": "paused", "cancel": "cancelled"}[way]
    assert (run.status, statuses(run)) == (word, {"before": "completed", "stopped": word, "after": "pending"})
    assert numbers(run["stopped"]) == [(1, word)]
    assert not run.cancel()
    with pytest.raises(IllegalMove):
        run.pause()
    again = flow.run(resume=True, **options).wait()
    assert again.results == {"before": 1, "stopped": 2, "after": 3}
    assert log.take() == ["before", "stopped", "stopped", "after"]
    assert numbers(again["stopped"]) == [(1, word), (2, "success")]
    assert again.reason is None


class Retries(Metrics):
    def __init__(self) -> None:
        self.seen = threading.Event()

    def task_retried(self, task: TaskRun) -> None:
        self.seen.set()


def paused_in_a_delay(flaky: Any, storage: Storage) -> Run:
    retries = Retries()
    run = Workflow([flaky]).start(workflow_id="run", config=Config(storage=storage, metrics=retries))
    assert retries.seen.wait(30)
    run.pause()
    return run.wait()


def test_a_retry_that_was_scheduled_when_the_run_was_paused_keeps_its_time_and_number(
    log: Log, storage: Storage
) -> None:
    broken = True

    @task(retry=3, retry_delay=3600)
    def flaky() -> str:
        log("ran")
        if broken:
            raise ValueError("not yet")
        return "done"

    run = paused_in_a_delay(flaky, storage)
    assert (run.status, run["flaky"].status) == (RunStatus.PAUSED, TaskStatus.PAUSED)
    first, scheduled = run["flaky"].attempts
    assert (scheduled.number, scheduled.status, scheduled.started_at) == (2, AttemptStatus.SCHEDULED, None)
    assert first.finished_at is not None
    assert abs(scheduled.scheduled_at - first.finished_at - timedelta(hours=1)) < timedelta(seconds=60)
    broken = False
    with FakeClock(scheduled.scheduled_at - timedelta(minutes=20)) as clock:
        run = quietly([flaky], storage=storage, resume=True)
        assert clock.elapsed == pytest.approx(20 * 60)
    assert log.take() == ["ran", "ran"]
    assert numbers(run["flaky"]) == [(1, "retried"), (2, "success")]
    last = run["flaky"].attempts[1]
    assert last.scheduled_at == scheduled.scheduled_at
    assert last.started_at is not None
    assert last.started_at >= scheduled.scheduled_at


def test_a_retry_whose_time_has_passed_meanwhile_starts_at_once(log: Log, storage: Storage) -> None:
    broken = True

    @task(retry=3, retry_delay=3600)
    def flaky() -> str:
        log("ran")
        if broken:
            raise ValueError("not yet")
        return "done"

    run = paused_in_a_delay(flaky, storage)
    broken = False
    with FakeClock(run["flaky"].attempts[1].scheduled_at + timedelta(days=1)) as clock:
        run = quietly([flaky], storage=storage, resume=True)
        assert clock.elapsed == 0
    assert numbers(run["flaky"]) == [(1, "retried"), (2, "success")]


def test_a_run_that_is_resumed_waits_out_the_retries_of_its_own_failures(log: Log, storage: Storage) -> None:
    @task(retry=2, retry_delay=100)
    def flaky(ctx: TaskContext) -> int:
        if ctx.attempt.number < 4:
            raise ValueError
        return ctx.attempt.number

    first = run_inline([flaky], storage=storage, workflow_id="run", on_failure=lambda tasks: None)
    assert first.status is RunStatus.FAILED
    run = run_inline([flaky], storage=storage, workflow_id="run", resume=True)
    assert run["flaky"].result == 4
    assert [each.number for each in run["flaky"].attempts] == [1, 2, 3, 4]


def test_an_attempt_that_was_running_when_its_process_died_is_recovered(log: Log, storage: Storage) -> None:
    class Died(StorageError):
        """Stands for the end of the process: nothing is written any more."""

    class Mortal(FileStorage):
        dead = False

        def put(self, key: str, data: bytes, *, expected: Any = ANY) -> bool:
            if self.dead:
                raise Died
            return super().put(key, data, expected=expected)

    @task
    def fatal() -> int:
        log("ran")
        mortal.dead = True
        return 1

    mortal = Mortal(storage._root)  # type: ignore[attr-defined]  # the same folder
    with pytest.raises(Died):
        execute([fatal], storage=mortal)
    run = quietly([fatal], storage=storage, resume=True)
    assert numbers(run["fatal"]) == [(1, "recovered"), (2, "success")]
    recovered = run["fatal"].attempts[0]
    assert (recovered.status, recovered.outcome) == (AttemptStatus.FAILED, AttemptOutcome.RECOVERED)
    assert recovered.finished_at is not None
    assert recovered.finished_at >= (recovered.started_at or datetime.max.replace(tzinfo=UTC))
    assert log.take() == ["ran", "ran"]
    assert run["fatal"].attempts[1].idempotency_key == recovered.idempotency_key


# Taken over


def elsewhere(storage: Storage) -> Storage:
    """Return the storage as another machine has it, which sees no locks of this one."""
    storage.lock_folder = None
    return storage


def test_a_run_that_is_taken_over_ends_with_claim_lost_and_writes_no_more(
    log: Log, storage: Storage, folder: Path
) -> None:
    begun, gate = threading.Event(), threading.Event()

    @task
    def slow(ctx: TaskContext) -> str:
        log(f"slow {ctx.attempt.number}")
        if ctx.attempt.number == 1:
            begun.set()
            assert gate.wait(30)
        return f"by attempt {ctx.attempt.number}"

    @task
    def after(given: str) -> str:
        log("after")
        return given

    tasks = [slow, after.bind(given=slow)]
    former = Workflow(tasks).start(storage=storage, workflow_id="run")
    assert begun.wait(30)
    heir = execute(tasks, storage=elsewhere(FileStorage(folder, durability="process")), resume=True)
    before = content(folder)
    gate.set()
    with pytest.raises(ClaimLost, match="taken over"):
        former.wait()
    assert former.status is not RunStatus.COMPLETED
    changed = {name for name, data in content(folder).items() if before.get(name) != data}
    assert changed == {"run/tasks/slow.value"}  # it says now that what came too late was discarded
    again = execute(tasks, storage=FileStorage(folder, durability="process"), resume=True)
    assert numbers(again["slow"]) == [(1, "discarded"), (2, "success")]
    assert again.results == heir.results
    assert heir.results == {"slow": "by attempt 2", "after": "by attempt 2"}
    assert numbers(heir["slow"]) == [(1, "recovered"), (2, "success")]
    assert log.take() == ["slow 1", "slow 2", "after"]


def test_what_the_former_owner_records_before_the_claim_is_restored(
    log: Log, storage: Storage, folder: Path
) -> None:
    begun, gate = threading.Event(), threading.Event()

    @task
    def slow() -> str:
        log("slow")
        begun.set()
        assert gate.wait(30)
        return "the first"

    class Meanwhile(FileStorage):
        """Lets the former owner end its task after the plan was made and before the claim."""

        def put(self, key: str, data: bytes, *, expected: Any = ANY) -> bool:
            if key == "run/run" and expected is not None and not gate.is_set():
                gate.set()
                former.wait()
                return super().put(key, data, expected=self.get(key))
            return super().put(key, data, expected=expected)

    former = Workflow([slow]).start(storage=storage, workflow_id="run")
    assert begun.wait(30)
    run = execute([slow], storage=elsewhere(Meanwhile(folder, durability="process")), resume=True)
    assert log.take() == ["slow"]
    assert run["slow"].restored
    assert run["slow"].result == "the first"


# Maps


def mapped(log: Log, items: Any, *, broken: tuple[int, ...] = ()) -> list[Any]:
    @task
    def square(x: int) -> int:
        log(x)
        if x in broken:
            raise ValueError(x)
        return x * x

    @task
    def total(given: list[int]) -> int:
        log("total")
        return sum(given)

    over = square.map(x=items)
    return [over, total.bind(given=over)]


def over_a_task(log: Log, items: list[int], *, broken: tuple[int, ...] = ()) -> list[Any]:
    @task
    def make(values: list[int]) -> list[int]:
        log("make")
        return values

    made = make.bind(values=items)
    return [made, *mapped(log, made, broken=broken)]


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("over", [mapped, over_a_task])
def test_the_items_of_a_map_are_restored_one_by_one(
    log: Log, storage: Storage, mode: str, over: Callable[..., list[Any]]
) -> None:
    tasks = over(log, [1, 2, 3, 4], broken=(2, 4))
    run = execute(tasks, storage=storage, mode=mode, keep_going=True)
    assert statuses(run)["square"] == "failed"
    log.take()
    run = quietly(over(log, [1, 2, 3, 4]), storage=storage, mode=mode, resume=True)
    assert sorted(log.take()) == ["2", "4", "total"]
    assert run["square"].result == [1, 4, 9, 16]
    assert run["total"].result == 30
    items = run["square"].items or []
    assert [item.restored for item in items] == [True, False, True, False]
    assert not run["square"].restored
    assert [len(item.attempts) for item in items] == [1, 2, 1, 2]
    run = quietly(over(log, [1, 2, 3, 4]), storage=storage, mode=mode, resume=True)
    assert log.take() == []
    assert run["square"].restored
    assert all(item.restored for item in run["square"].items or ())


@pytest.mark.parametrize("policy", ["reuse", "reset"])
def test_an_item_that_was_added_runs_and_so_does_what_is_bound_to_the_map(
    log: Log, storage: Storage, policy: str
) -> None:
    execute(mapped(log, [1, 2]), storage=storage)
    log.take()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = execute(mapped(log, [1, 2, 3]), storage=storage, resume=True, on_input_change=policy)
    assert run["square"].result == [1, 4, 9]
    if policy == "reset":
        assert log.take() == ["3", "total"]
        assert run["total"].result == 14
    else:  # `total` is not what today's inputs would give: that is no secret
        assert log.take() == ["3"]
        assert any(each.category is DotflowWarning for each in caught)


@pytest.mark.parametrize("policy", ["reuse", "reset"])
def test_an_item_that_was_removed_is_left_out(log: Log, storage: Storage, policy: str) -> None:
    execute(mapped(log, [1, 2, 3]), storage=storage)
    log.take()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = execute(mapped(log, [1, 2]), storage=storage, resume=True, on_input_change=policy)
    assert run["square"].result == [1, 4]
    if policy == "reset":
        assert log.take() == ["total"]
        assert run["total"].result == 5
    else:
        assert log.take() == []
        assert any(each.category is DotflowWarning for each in caught)


@pytest.mark.parametrize("items", [[1, 2], [1, 2, 3, 4]], ids=["removed", "added"])
def test_another_number_of_items_is_another_input(log: Log, storage: Storage, items: list[int]) -> None:
    from dotflow_like import InputChanged

    execute(mapped(log, [1, 2, 3]), storage=storage)
    log.take()
    with pytest.raises(InputChanged, match="square"):
        execute(mapped(log, items), storage=storage, resume=True, on_input_change="raise")
    assert log.take() == []


def test_an_item_that_changed_is_reused_or_reset_alone(log: Log, storage: Storage) -> None:
    execute(mapped(log, [1, 2, 3]), storage=storage)
    log.take()
    with pytest.warns(DotflowWarning, match=r"square\[1\] \(input 'x' changed\)"):
        run = execute(mapped(log, [1, 5, 3]), storage=storage, resume=True)
    assert run["total"].result == 14
    assert log.take() == []
    run = quietly(mapped(log, [1, 5, 3]), storage=storage, resume=True, on_input_change="reset")
    assert log.take() == ["5", "total"]
    assert run["square"].result == [1, 25, 9]
    assert run["total"].result == 35
    item = (run["square"].items or [])[1]
    assert [each.idempotency_key for each in item.attempts] == ["run/square[1]/g1", "run/square[1]/g2"]


def test_a_map_over_a_task_follows_what_that_task_makes_anew(log: Log, storage: Storage) -> None:
    execute(over_a_task(log, [1, 2, 3, 4]), storage=storage)
    log.take()
    run = quietly(over_a_task(log, [5, 6]), storage=storage, resume=True, on_input_change="reset")
    assert log.take() == ["make", "5", "6", "total"]
    assert run["total"].result == 61
    run = quietly(over_a_task(log, [5, 6]), storage=storage, resume=True)
    assert log.take() == []
    run = quietly(over_a_task(log, [7, 8, 9, 10]), storage=storage, resume=True, on_input_change="reset")
    assert log.take() == ["make", "7", "8", "9", "10", "total"]
    assert run["total"].result == sum(each**2 for each in (7, 8, 9, 10))


def test_a_map_over_a_map_is_restored_item_by_item(log: Log, storage: Storage) -> None:
    broken = True

    @task
    def outer(x: int) -> int:
        log(f"outer {x}")
        return x * 10

    @task
    def inner(y: int) -> int:
        log(f"inner {y}")
        if broken and y == 20:
            raise ValueError
        return y + 1

    first = outer.map(x=[1, 2, 3])
    tasks = [first, inner.map(y=first)]
    execute(tasks, storage=storage, keep_going=True)
    assert log.take() == ["outer 1", "outer 2", "outer 3", "inner 10", "inner 20", "inner 30"]
    broken = False
    run = quietly(tasks, storage=storage, resume=True)
    assert log.take() == ["inner 20"]
    assert run["inner"].result == [11, 21, 31]


def test_an_empty_map_is_resumed_as_one(log: Log, storage: Storage) -> None:
    for _ in range(2):
        run = quietly(mapped(log, []), storage=storage, resume=True)
        assert run["square"].result == []
        assert run["total"].result == 0
    assert log.take() == ["total"]


# Results on disk


def graph_of(root: object) -> Iterator[object]:
    """Give every object that can be reached from `root` by data: not through code, classes or modules."""
    seen: set[int] = set()
    todo: list[object] = [root]
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(
            each, type | types.ModuleType | types.FunctionType | types.FrameType | threading.Thread
        ):
            continue
        seen.add(id(each))
        yield each
        todo += gc.get_referents(each)


@pytest.mark.parametrize("mode", MODES)
def test_with_a_storage_a_run_holds_no_result_and_reads_it_when_asked(storage: Storage, mode: str) -> None:
    @task
    def make(size: int) -> list[str]:
        return ["a piece of the result"] * size

    @task
    def measure(small: list[str], large: list[str]) -> tuple[int, int]:
        assert small[0] == large[-1] == "a piece of the result"
        return len(small), len(large)

    small, large = make.bind(size=2), make.bind(size=10_000)
    tasks = [small, large, measure.bind(small=small, large=large)]
    for resume in (False, True):
        run = execute(tasks, storage=storage, mode=mode, resume=resume)
        run.raise_for_failure()
        held = [
            each for each in graph_of(run.tasks) if isinstance(each, str | bytes) and b"a piece" in _raw(each)
        ]
        assert held == []
        assert run.tasks[1].result == ["a piece of the result"] * 10_000
        assert run.tasks[1].result is not run.tasks[1].result
        assert run["measure"].result == (2, 10_000)


def _raw(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "`result`"),
        ({"rows": [1, {"at": (0, object())}]}, "`result['rows'][1]['at'][1]`"),
        (lambda: 1, "`result`"),
    ],
    ids=["itself", "deep inside", "a function"],
)
def test_what_cannot_be_stored_fails_its_task_with_the_path_inside_the_value(
    log: Log, storage: Storage, mode: str, value: Any, path: str
) -> None:
    if mode == "parallel" and path != "`result`":
        value = None  # made in the worker: an object() cannot be compared across processes anyway

    @task
    def unstorable() -> Any:
        log("unstorable")
        return {"rows": [1, {"at": (0, object())}]} if value is None else value

    @task
    def after(given: Any) -> Any:
        log("after")

    run = execute([unstorable, after.bind(given=unstorable)], storage=storage, mode=mode)
    assert statuses(run) == {"unstorable": "failed", "after": "pending"}
    (error,) = run["unstorable"].errors
    assert error.exception == "NotSerializable"
    assert f"{path} cannot be stored" in error.message
    assert run["unstorable"].result is None
    assert log.take() == ["unstorable"]

    @task(name="unstorable")
    def mended() -> int:
        log("mended")
        return 1

    run = execute([mended, after.bind(given=mended)], storage=storage, mode=mode, resume=True)
    assert statuses(run) == {"unstorable": "completed", "after": "completed"}
    assert log.take() == ["mended", "after"]


# Damage


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["first", "second", "third"])
@pytest.mark.parametrize("resume", [True, False])
def test_a_damaged_row_is_an_error_that_names_it_and_nothing_runs(
    log: Log, storage: Storage, folder: Path, name: str, resume: bool
) -> None:
    execute(three(log), storage=storage)
    log.take()
    damage(folder / "run" / "tasks" / f"{name}.value")
    before = content(folder)
    for _ in range(2):
        with pytest.raises(CorruptCheckpoint, match=f"'run/tasks/{name}'"):
            execute(three(log), storage=storage, resume=resume)
    assert log.take() == []
    assert content(folder) == before


def test_a_damaged_row_of_the_run_is_an_error_that_names_it(log: Log, storage: Storage, folder: Path) -> None:
    execute(three(log), storage=storage)
    log.take()
    damage(folder / "run" / "run.value")
    before = content(folder)
    with pytest.raises(CorruptCheckpoint, match="'run/run'"):
        execute(three(log), storage=storage, resume=True)
    assert log.take() == []
    assert content(folder) == before


def test_a_row_that_was_deleted_is_made_anew_as_the_message_says(
    log: Log, storage: Storage, folder: Path
) -> None:
    execute(three(log), storage=storage)
    log.take()
    (folder / "run" / "tasks" / "first.value").unlink()
    run = quietly(three(log), storage=storage, resume=True)
    assert log.take() == ["first"]
    assert run["third"].result == 2


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
def test_a_damaged_large_result_fails_who_reads_it_and_is_not_made_anew(
    log: Log, storage: Storage, folder: Path, mode: str
) -> None:
    broken = True

    @task
    def large() -> str:
        log("large")
        return LARGE

    @task
    def reader(given: str) -> int:
        log("reader")
        if broken:
            raise ValueError
        return len(given)

    tasks = [large, reader.bind(given=large)]
    execute(tasks, storage=storage, mode=mode)
    broken = False
    log.take()
    (place,) = (folder / "run" / "values").rglob("*.value")
    whole = place.read_bytes()
    damage(place)
    key = str(place.relative_to(folder).with_suffix("")).replace("%5b", "[").replace("%5d", "]")
    run = execute(tasks, storage=storage, mode=mode, resume=True)
    assert log.take() == []
    assert run.status is RunStatus.FAILED
    (error,) = run["reader"].errors
    assert error.exception == "CorruptCheckpoint"
    assert key in error.message
    with pytest.raises(CorruptCheckpoint, match="does not match its checksum"):
        run["large"].result  # reading it is the point
    place.write_bytes(whole)
    run = execute(tasks, storage=storage, mode=mode, resume=True)
    assert run["reader"].result == len(LARGE)
    assert log.take() == ["reader"]


# Storages that fail


class Failing(FileStorage):
    """Fails at chosen calls, and at all that follow while it is broken."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, durability="process")
        self.puts, self.gets = itertools.count(1), itertools.count(1)
        self.last_put: float = float("inf")
        self.last_get: float = float("inf")

    def get(self, key: str) -> bytes | None:
        if next(self.gets) > self.last_get:
            raise StorageError("the place has gone")
        return super().get(key)

    def put(self, key: str, data: bytes, *, expected: Any = ANY) -> bool:
        if next(self.puts) > self.last_put:
            raise StorageError("the place is full")
        return super().put(key, data, expected=expected)


def noting_processes(log: Log) -> list[Any]:
    @task
    def one() -> str:
        log(f"one {os.getpid()}")
        return LARGE

    @task
    def two(x: int) -> int:
        log(f"two {os.getpid()}")
        return x

    @task
    def three(size: str, given: list[int]) -> int:
        log(f"three {os.getpid()}")
        return len(size) + sum(given)

    over = two.map(x=[1, 2])
    return [one, over, three.bind(size=one, given=over)]


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_storage_that_fails_ends_the_run_with_its_error_and_the_run_can_be_resumed(
    tmp_path: Path, log: Log, mode: str
) -> None:
    whole = Failing(tmp_path / "whole")
    fresh = execute(noting_processes(log), storage=whole, mode=mode)
    needed = next(whole.puts) - 1
    assert needed >= 11
    log.take()

    def unexpected(tasks: list[TaskRun]) -> None:
        raise AssertionError("it has not completed")

    # every put of the sequential run; of the parallel one, which starts processes, some
    for put in range(needed) if mode != "parallel" else (2, 4, needed - 1):
        storage = Failing(tmp_path / f"fails {put}")
        storage.last_put = put
        with pytest.raises(StorageError, match="the place is full"):
            execute(
                noting_processes(log),
                storage=storage,
                mode=mode,
                on_success=unexpected,
            )
        done = log.take()
        assert not pool.lent  # no worker goes on with it
        storage.last_put = float("inf")
        run = quietly(noting_processes(log), storage=storage, mode=mode, resume=True)
        assert run.results == fresh.results
        # at most what was running when the storage failed ran twice
        again = log.take()
        restored = [each for task in run.tasks for each in (task.items or [task]) if each.restored]
        assert len(again) + len(restored) == 4
        assert len(done) - len(restored) in (0, 1, 2)


def test_in_the_background_the_error_of_the_storage_reaches_who_waits(storage: Storage, folder: Path) -> None:
    failing = Failing(folder)
    failing.last_put = 3

    @task
    def one() -> int:
        return 1

    run = Manager([one], mode="background", storage=failing, workflow_id="run")
    for _ in range(2):
        with pytest.raises(StorageError, match="the place is full"):
            run.wait()
    assert run.status is RunStatus.FAILED
    with pytest.raises(Exception, match="run run is failed"):
        run.raise_for_failure()


@pytest.mark.parametrize("get", range(12))
def test_a_storage_that_cannot_be_read_never_ends_in_a_wrong_result(
    tmp_path: Path, log: Log, get: int
) -> None:
    storage = Failing(tmp_path / "kept")
    storage.last_get = get
    try:
        run = execute(noting_processes(log), storage=storage)
    except StorageError:
        pass
    else:
        if run.status is not RunStatus.COMPLETED:
            errors = [error for each in run.tasks for error in each.errors]
            assert [error.exception for error in errors] == ["StorageError"]
    storage.last_get = float("inf")
    run = quietly(noting_processes(log), storage=storage, resume=True)
    assert run["three"].result == len(LARGE) + 3


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_folder_that_becomes_a_file_ends_the_run_and_comes_back_with_all_it_had(
    tmp_path: Path, log: Log, folder: Path, mode: str
) -> None:
    aside = tmp_path / "aside"

    @task
    def early() -> str:
        log("early")
        return LARGE

    @task
    def vandal(given: str) -> int:
        log(f"vandal {os.getpid()}")
        if not aside.exists():
            folder.rename(aside)
            folder.write_text("a file")
        return len(given)

    @task
    def late(given: int) -> int:
        log("late")
        return given

    bound = vandal.bind(given=early)
    tasks = [early, bound, late.bind(given=bound)]
    with pytest.raises(StorageError, match=r"ENOTDIR|EEXIST"):
        execute(tasks, storage=folder, mode=mode)
    words = log.take()
    assert [word.split()[0] for word in words] == ["early", "vandal"]
    assert not pool.lent  # no worker goes on with it
    with pytest.raises(StorageError):  # still a file
        execute(tasks, storage=folder, mode=mode, resume=True)
    assert log.take() == []
    folder.unlink()
    aside.rename(folder)
    aside.mkdir()
    run = quietly(tasks, storage=folder, mode=mode, resume=True)
    assert [word.split()[0] for word in log.take()] == ["vandal", "late"]
    assert run["late"].result == len(LARGE)
    assert numbers(run["vandal"]) == [(1, "recovered"), (2, "success")]


def test_a_place_that_was_never_one_is_an_error_before_anything_runs(log: Log, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for resume in (True, False):
        with pytest.raises(StorageError):
            execute(three(log), storage=tmp_path / "file" / "kept", resume=resume)
    assert log.take() == []


def test_a_folder_may_move(log: Log, storage: Storage, folder: Path, tmp_path: Path) -> None:
    execute(three(log, broken=True), storage=storage)
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder)
    run = quietly(three(log), storage=tmp_path / "copy", resume=True)
    assert log.take() == ["first", "second", "second", "third"]
    assert run["first"].restored
