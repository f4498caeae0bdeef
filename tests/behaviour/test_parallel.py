"""Parallel: at once, in worker processes, with everything coming back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Context, Manager, RunStatus, TaskRun, TaskStatus, task
from dotflow_like.execute.workers.pool import pool
from dotflow_like.testing import run_inline

Meet = Callable[[str, int], None]


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_ungrouped_tasks_run_at_once(meet: Meet, executor: Any) -> None:
    def attend(name: str) -> str:
        meet(name, 3)
        return name

    tasks = [task(attend, name=name).bind(name=name) for name in "abc"]
    run = Manager(tasks, mode="parallel", executor=executor, max_workers=3)
    assert run.raise_for_failure().results == {"a": "a", "b": "b", "c": "c"}


def test_named_groups_are_chains_that_run_at_once(meet: Meet, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def step(name: str, previous_context: Context) -> str:
        if name[1] == "2":
            meet(name, 2)  # the second of each group is there at once
        with log.open("a") as file:
            file.write(f"{name} after {previous_context.storage}\n")
        return name

    tasks = [task(step, name=name, group_name=name[0]).bind(name=name) for name in ("x1", "y1", "x2", "y2")]
    tasks += [task(step, name=name, group_name=name[0]).bind(name=name) for name in ("x3", "y3")]
    run = Manager(tasks, mode="parallel", max_workers=2).raise_for_failure()
    lines = log.read_text().splitlines()
    for group in "xy":
        assert [line for line in lines if line[0] == group] == [
            f"{group}1 after None",
            f"{group}2 after {group}1",
            f"{group}3 after {group}2",
        ]
    assert run["x2"].previous_context.storage == "x1"


def test_ungrouped_tasks_have_no_previous_context() -> None:
    @task
    def look(previous_context: Context) -> Any:
        return previous_context.storage

    run = Manager([task(lambda: 1, name="one"), look], mode="parallel", executor="thread")
    assert run[look].result is None


@pytest.mark.parametrize("executor", ["process", "thread", "inline"])
def test_dependencies_are_honoured_whatever_the_order_of_the_list(executor: Any) -> None:
    @task
    def load() -> int:
        return 2

    @task
    def double(n: int) -> int:
        return 2 * n

    @task
    def add(numbers: list[int], more: dict[str, int]) -> int:
        return sum(numbers) + sum(more.values())

    doubled = double.bind(n=load)
    added = add.bind(numbers=[load, doubled, 100], more={"x": doubled, "y": 1000})
    run = Manager([added, doubled, load], mode="parallel", executor=executor, max_workers=2)
    assert run.raise_for_failure()[added].result == 1110
    assert [each.task_id for each in run.tasks] == ["add", "double", "load"]


def test_order_alone_is_honoured_too(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def note(name: str) -> None:
        with log.open("a") as file:
            file.write(name)

    a = task(note, name="a").bind(name="a")
    b = task(note, name="b").bind(name="b").after(a)
    c = task(note, name="c").bind(name="c").after(b)
    Manager([c, b, a], mode="parallel", max_workers=2).raise_for_failure()
    assert log.read_text() == "abc"


def test_there_are_at_most_max_workers_processes_and_they_are_reused() -> None:
    def which(i: int) -> tuple[int, int]:
        return os.getpid(), os.getppid()

    run = Manager([task(which).map(i=range(12))], mode="parallel", max_workers=2).raise_for_failure()
    pids = {pid for pid, _ in run.tasks[0].result}
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids
    assert {parent for _, parent in run.tasks[0].result} == {os.getpid()}
    workers = {each.worker for each in run.attempts}
    assert workers == {f"pid {pid}" for pid in pids}


def test_never_more_tasks_run_at_once_than_there_are_workers() -> None:
    lock = threading.Lock()
    now, most = 0, 0

    def body(i: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        if i < 3:
            meeting.wait(30)
        with lock:
            now -= 1

    meeting = threading.Barrier(3)
    Manager(
        [task(body).map(i=range(20))], mode="parallel", executor="thread", max_workers=3
    ).raise_for_failure()
    assert most == 3


def test_no_descriptor_is_left_open() -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("needs /proc")
    pool.close()
    before = sorted(each.name for each in folder.iterdir())
    Manager([task(lambda: 1, name=name) for name in "abc"], mode="parallel", max_workers=2)
    Manager([task(lambda: os._exit(3))], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    pool.close()
    assert sorted(each.name for each in folder.iterdir()) == before


def test_a_result_of_100_mb_comes_back_and_goes_on_to_the_next() -> None:
    size = 100 * 1024 * 1024

    @task
    def make() -> bytes:
        return bytes(size)

    @task
    def measure(data: bytes) -> int:
        return len(data)

    measured = measure.bind(data=make)
    run = Manager([make, measured], mode="parallel", max_workers=1).raise_for_failure()
    assert run[measured].result == size
    assert len(run[make].result) == size


def test_callbacks_run_in_the_parent() -> None:
    pids: list[int] = []
    threads: list[Any] = []

    def called(**given: Any) -> None:
        pids.append(os.getpid())
        threads.append(threading.current_thread())

    Manager([task(lambda: 1, callback=called)], called, mode="parallel", max_workers=1)
    Manager([task(lambda: 1 / 0, callback=called)], on_failure=called, mode="parallel", max_workers=1)
    assert pids == [os.getpid()] * 4
    assert set(threads) == {threading.current_thread()}


def test_statuses_errors_durations_and_retry_counts_arrive(tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    @task(retry=3)
    def second_time() -> int:
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) < 2:
            raise LookupError("not yet")
        return len(tries.read_text())

    @task(retry=2)
    def never() -> None:
        try:
            int("x")
        except ValueError as error:
            raise RuntimeError("never") from error

    run = Manager(
        [second_time, never], mode="parallel", max_workers=2, keep_going=True, on_failure=lambda tasks: None
    )
    good, bad = run.tasks
    assert (good.status, good.result, good.retry_count) == (TaskStatus.COMPLETED, 2, 1)
    assert (bad.status, bad.result, bad.retry_count) == (TaskStatus.FAILED, None, 1)
    assert [each.exception for each in good.errors] == ["LookupError"]
    assert [each.message for each in bad.errors] == ["never", "never"]
    assert [each.attempt for each in bad.errors] == [1, 2]
    assert isinstance(bad.errors[0].error, RuntimeError)
    assert isinstance(bad.errors[0].error.__cause__, ValueError)
    assert "direct cause" in bad.errors[0].traceback
    assert 'int("x")' in bad.errors[0].traceback
    assert "dotflow_like" not in bad.errors[0].traceback
    assert good.duration is not None
    assert good.duration > 0
    assert good.started_at is not None
    assert good.finished_at is not None
    assert run.started is not None
    assert run.started <= good.started_at <= good.finished_at
    for each in good.attempts:
        assert each.worker is not None
        assert each.worker.startswith("pid ")


def test_a_script_without_a_main_guard_works(script: Callable[..., Any]) -> None:
    ended = script(
        "from dotflow_like import Manager, task\n"
        "print('once')\n"
        "@task\n"
        "def one(): return 1\n"
        "@task\n"
        "def two(n): return n + 1\n"
        "run = Manager([one, two.bind(n=one)], mode='parallel', max_workers=2)\n"
        "print(run['two'].result)\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split() == ["once", "2"]


def test_the_code_of_a_script_crosses_both_ways(script: Callable[..., Any]) -> None:
    ended = script(
        "import enum\n"
        "from collections import namedtuple\n"
        "from dataclasses import dataclass\n"
        "from dotflow_like import Manager, task\n"
        "@dataclass(frozen=True)\n"
        "class Point:\n"
        "    x: int\n"
        "    def moved(self): return Point(self.x + STEP)\n"
        "class Colour(enum.Enum): RED = 1\n"
        "class Odd(Exception):\n"
        "    def __init__(self, n): super().__init__(n); self.n = n\n"
        "STEP = 10\n"
        "def move(point): return point.moved()\n"
        "@task\n"
        "def go(point): return move(point)\n"
        "@task\n"
        "def colour(): return Colour.RED\n"
        "@task(retry=2, retry_on=Odd)\n"
        "def odd(): raise Odd(3)\n"
        "going = go.bind(point=Point(1))\n"
        "run = Manager([going, colour, odd], mode='parallel', max_workers=1, keep_going=True,\n"
        "              on_failure=lambda tasks: None)\n"
        "assert run[going].result == Point(11), run[going].result\n"
        "assert type(run[going].result) is Point\n"
        "assert run[colour].result is Colour.RED\n"
        "assert type(run[odd].errors[0].error) is Odd, run[odd].errors\n"
        "assert run[odd].errors[0].error.n == 3\n"
        "assert run[odd].retry_count == 1\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_code_from_standard_input_works(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "from dotflow_like import Manager, task\n"
        "@task\n"
        "def one(): return 1\n"
        "print(Manager([one], mode='parallel', max_workers=1)[one].result)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-"], input=program, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_lambdas_closures_and_local_classes_cross_both_ways() -> None:
    @dataclass
    class Point:
        x: int

    offset = 10

    def shifted(point: Point) -> Point:
        return Point(point.x + offset)

    @task
    def make(point: Point) -> Any:
        return shifted(point), (lambda y: y + offset), Point

    made = make.bind(point=Point(1))
    run = Manager([made], mode="parallel", max_workers=1).raise_for_failure()
    point, function, cls = run[made].result
    assert point == Point(11)
    assert cls is Point
    assert function(5) == 15


def test_builtins_partials_and_bound_methods_can_be_tasks() -> None:
    from functools import partial

    class Adder:
        def __init__(self, n: int) -> None:
            self.n = n

        def add(self, x: int) -> int:
            return x + self.n

        def __call__(self, x: int) -> int:
            return x + self.n

    tasks = [
        task(pow, name="power").bind(base=2, exp=5),
        task(partial(sorted, reverse=True), name="partial").bind(iterable=[1, 3, 2]),
        task(Adder(3).add, name="method").bind(x=1),
        task(Adder(4), name="instance").bind(x=1),
    ]
    run = Manager(tasks, mode="parallel", max_workers=1).raise_for_failure()
    assert [each.result for each in run.tasks] == [32, [3, 2, 1], 4, 5]


def test_a_result_is_loaded_once_and_is_the_same_object_each_time() -> None:
    run = Manager([task(lambda: [1], name="one")], mode="parallel", max_workers=1)
    assert run["one"].result is run["one"].result
    assert run.results["one"] is run["one"].result


def test_a_task_does_not_change_what_the_caller_holds() -> None:
    given = [1]

    @task
    def change(values: list[int]) -> list[int]:
        values.append(2)
        return values

    changed = change.bind(values=given)
    run = Manager([changed], mode="parallel", max_workers=1)
    assert given == [1]
    assert run[changed].result == [1, 2]


def test_a_body_in_a_worker_has_no_standard_input_and_its_own_output(script: Callable[..., Any]) -> None:
    ended = script(
        "import sys\n"
        "from dotflow_like import Manager, task\n"
        "@task\n"
        "def talk():\n"
        "    print('from the worker')\n"
        "    print('to stderr', file=sys.stderr)\n"
        "    return sys.stdin.read()\n"
        "print(repr(Manager([talk], mode='parallel', max_workers=1)[talk].result))\n"
    )
    assert ended.stdout.splitlines() == ["from the worker", "''"]
    assert ended.stderr == "to stderr\n"


def test_the_executor_inline_runs_in_this_thread_and_thread_in_others() -> None:
    here = task(threading.current_thread, name="here")
    run = Manager([here], mode="parallel", executor="inline")
    assert run[here].result is threading.current_thread()
    run = Manager([here], mode="parallel", executor="thread")
    assert run[here].result is not threading.current_thread()
    worker = run[here].attempts[0].worker
    assert worker is not None
    assert worker.startswith("thread ")
    assert run_inline([here], mode="parallel")[here].result is threading.current_thread()


def test_a_failure_without_keep_going_lets_running_tasks_end_and_starts_nothing_new(
    tmp_path: Path,
) -> None:
    failed = tmp_path / "failed"

    @task
    def slow() -> str:
        import time

        while not failed.exists():
            time.sleep(0.002)
        return "ended"

    def told(task: TaskRun) -> None:
        failed.touch()

    bad = task(lambda: 1 / 0, name="bad", callback=told)
    later = task(lambda: 1, name="later")
    run = Manager([slow, bad, later], mode="parallel", max_workers=2, on_failure=lambda tasks: None)
    assert [each.status for each in run.tasks] == ["completed", "failed", "pending"]
    assert run[slow].result == "ended"
    assert run.status is RunStatus.FAILED


def test_the_environment_and_folder_of_the_parent_are_the_workers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLOUR", "red")
    monkeypatch.chdir(tmp_path)

    @task
    def look() -> tuple[str | None, str]:
        return os.environ.get("COLOUR"), str(Path.cwd())

    assert Manager([look], mode="parallel", max_workers=1)[look].result == ("red", str(tmp_path))


def test_a_parallel_run_may_be_started_inside_a_worker() -> None:
    @task
    def outer() -> Any:
        inner = task(os.getpid, name="inner")
        return os.getpid(), Manager([inner], mode="parallel", max_workers=1)[inner].result

    own, inner = Manager([outer], mode="parallel", max_workers=1)[outer].result
    assert len({os.getpid(), own, inner}) == 3
