"""What a config says about worker processes: how many, how they begin, what they know, when they are replaced."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Config, ConfigError, Manager, Run, WorkerDied, Workflow, task

Meet = Callable[[str, int], None]
Script = Callable[..., subprocess.CompletedProcess[str]]


def parallel(tasks: list[Any], *, workers: int = 1, **config: Any) -> Manager:
    return Manager(tasks, mode="parallel", max_workers=workers, config=Config(**config), on_failure=quiet)


def quiet(tasks: Any) -> None:
    """Say nothing about a failure that is meant."""


def modules_under(folder: Path, patch: pytest.MonkeyPatch, **texts: str) -> list[Any]:
    """Make modules with these texts that workers can import too, and import them."""
    patch.syspath_prepend(folder)
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
        patch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    return [importlib.import_module(name) for name in texts]


# max_workers


def counting(folder: Path, n: int) -> list[Any]:
    """Tasks that each return how many of them run."""

    def body(name: str) -> int:
        (folder / name).touch()
        time.sleep(0.01)
        running = len(list(folder.iterdir()))
        (folder / name).unlink()
        return running

    return [task(body, name=f"t{i}").bind(name=f"t{i}") for i in range(n)]


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_the_config_bounds_how_many_run_at_once(executor: Any, tmp_path: Path) -> None:
    run = Manager(
        counting(tmp_path, 8), mode="parallel", executor=executor, config=Config(max_workers=1)
    ).raise_for_failure()
    assert set(run.results.values()) == {1}


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_what_the_run_says_wins(executor: Any, meet: Meet) -> None:
    tasks = [task(meet, name=name).bind(name=name, size=3) for name in "abc"]
    options: dict[str, Any] = {"mode": "parallel", "executor": executor, "max_workers": 3}
    Manager(tasks, **options, config=Config(max_workers=1)).raise_for_failure()


def test_the_config_alone_allows_more_than_there_are_cores(meet: Meet) -> None:
    n = (os.cpu_count() or 1) + 1
    tasks = [task(meet, name=str(i)).bind(name=str(i), size=n) for i in range(n)]
    Manager(tasks, mode="parallel", config=Config(max_workers=n)).raise_for_failure()


# worker_init


def initialising(folder: Path) -> Callable[[], None]:
    """Return a function for `worker_init` that leaves one letter for each call in a file of its process's."""

    def init() -> None:
        with (folder / f"init-{os.getpid()}").open("a") as file:
            file.write("x")

    return init


def test_each_worker_is_initialised_once_before_its_first_task(tmp_path: Path, meet: Meet) -> None:
    def body(name: str) -> tuple[int, str]:
        meet(name, 2)
        return os.getpid(), (tmp_path / f"init-{os.getpid()}").read_text()

    tasks = [task(body, name=name).bind(name=name) for name in "ab"]
    init = initialising(tmp_path)
    run = parallel([*tasks, *(each.after(*tasks) for each in tasks)], workers=2, worker_init=init)
    found = list(run.raise_for_failure().results.values())
    assert len({pid for pid, _ in found}) == 2
    assert {count for _, count in found} == {"x"}
    assert os.getpid() not in {pid for pid, _ in found}


def test_a_later_run_with_the_same_init_finds_it_done(tmp_path: Path) -> None:
    init = initialising(tmp_path)
    counts = task(lambda: (tmp_path / f"init-{os.getpid()}").read_text(), name="counts")
    for _ in range(3):
        assert parallel([counts], worker_init=init).raise_for_failure()["counts"].result == "x"


def test_a_later_run_without_it_or_with_another_has_other_workers(tmp_path: Path) -> None:
    where = task(os.getpid, name="where")
    pids = {
        parallel([where], **config).raise_for_failure()["where"].result
        for config in (
            {"worker_init": initialising(tmp_path)},
            {},
            {"worker_init": lambda: None},
        )
    }
    assert len(pids) == 3


def test_what_it_sets_up_is_there_for_the_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (model,) = modules_under(
        tmp_path,
        monkeypatch,
        heavy_model="loaded = None\ndef load():\n    global loaded\n    loaded = 'weights'\n",
    )

    @task
    def use() -> str:
        import heavy_model

        return heavy_model.loaded

    assert parallel([use], worker_init=model.load).raise_for_failure()[use].result == "weights"
    assert model.loaded is None


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_workers_of_isolated_tasks_are_initialised_too(mode: str, tmp_path: Path) -> None:
    config = Config(worker_init=initialising(tmp_path))
    isolated = task(lambda: os.getpid(), name="isolated", isolate=True)
    run = Manager([isolated, task(lambda: 1)], mode=mode, config=config).wait().raise_for_failure()
    assert [each.name for each in tmp_path.iterdir()] == [f"init-{run['isolated'].result}"]


def test_what_it_raises_fails_the_tasks_with_its_own_type_and_text(tmp_path: Path) -> None:
    def init() -> None:
        raise LookupError("no licence for this worker")

    ran = tmp_path / "ran"
    tasks = [task(ran.touch, name=f"t{i}") for i in range(3)]
    run = Manager(
        tasks,
        mode="parallel",
        max_workers=2,
        keep_going=True,
        config=Config(worker_init=init),
        on_failure=quiet,
    )
    for each in run.tasks:
        (error,) = each.errors
        assert isinstance(error.error, LookupError)
        assert error.message == "no licence for this worker"
        assert "in init" in error.traceback
    assert not ran.exists()


def test_what_it_raised_once_is_tried_again_with_the_task(tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    def init() -> None:
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) == 1:
            raise LookupError("not yet")

    run = parallel([task(lambda: "done", name="one", retry=2)], worker_init=init).raise_for_failure()
    assert [each.exception for each in run["one"].errors] == ["LookupError"]
    assert run["one"].result == "done"


def test_one_that_ends_its_process_fails_the_tasks_and_nothing_hangs() -> None:
    tasks = [task(lambda: 1, name=f"t{i}") for i in range(2)]
    run = Manager(
        tasks,
        mode="parallel",
        max_workers=1,
        keep_going=True,
        config=Config(worker_init=lambda: os._exit(7)),
        on_failure=quiet,
    )
    for each in run.tasks:
        assert isinstance(each.errors[0].error, WorkerDied)
        assert "exit code 7" in each.errors[0].message


def test_one_that_cannot_be_sent_is_refused_before_anything_runs(tmp_path: Path) -> None:
    lock = threading.Lock()
    ran = tmp_path / "ran"
    with pytest.raises(ConfigError, match=r"worker_init cannot be sent to worker processes: .*lock"):
        Manager(
            [task(ran.touch, name="touch")],
            mode="parallel",
            storage=tmp_path / "runs",
            config=Config(worker_init=lambda: lock.acquire()),
        )
    assert list(tmp_path.iterdir()) == []


# max_tasks_per_worker


def test_after_so_many_tasks_a_worker_is_replaced() -> None:
    where = task(os.getpid, name="where")
    run = parallel([where] * 6, max_tasks_per_worker=2).raise_for_failure()
    pids = list(run.results.values())
    assert len(set(pids)) == 3
    assert {pids.count(each) for each in pids} == {2}


def test_the_tasks_of_earlier_runs_count() -> None:
    where = task(os.getpid, name="where")
    pids = [
        pid
        for _ in range(3)
        for pid in parallel([where] * 2, max_tasks_per_worker=3).raise_for_failure().results.values()
    ]
    assert all(pids.count(each) <= 3 for each in pids)


def test_a_worker_that_has_served_more_already_is_not_used() -> None:
    where = task(os.getpid, name="where")
    before = set(parallel([where] * 3).raise_for_failure().results.values())
    run = parallel([where], max_tasks_per_worker=2).raise_for_failure()
    assert run["where"].result not in before


def test_a_worker_that_is_replaced_is_gone(until: Callable[..., None]) -> None:
    def is_gone(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    run = parallel([task(os.getpid, name="where")] * 3, max_tasks_per_worker=1).raise_for_failure()
    assert len(set(run.results.values())) == 3
    for pid in run.results.values():
        until(lambda pid=pid: is_gone(pid), f"the end of {pid}")


def test_with_several_workers_none_serves_more() -> None:
    where = task(lambda i: os.getpid(), name="where")
    run = parallel([where.map(i=range(40))], workers=2, max_tasks_per_worker=3).raise_for_failure()
    pids = run["where"].result
    assert max(pids.count(each) for each in pids) <= 3


# contextvars

LOCAL: ContextVar[str] = ContextVar("LOCAL", default="default")


def test_context_variables_have_the_values_of_where_the_run_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (names,) = modules_under(
        tmp_path,
        monkeypatch,
        named_variables="from contextvars import ContextVar\n"
        "request = ContextVar('request', default='none')\nother = ContextVar('other', default='none')\n",
    )

    @task
    def read() -> tuple[str, str]:
        import named_variables

        return named_variables.request.get(), named_variables.other.get()

    def start(value: str) -> Any:
        names.request.set(value)
        names.other.set(value)
        return parallel([read], contextvars=[names.request]).raise_for_failure()[read].result

    assert copy_context().run(start, "first") == ("first", "none")
    assert copy_context().run(start, "second") == ("second", "none")
    assert parallel([read], contextvars=[names.request]).raise_for_failure()[read].result == ("none", "none")


def test_a_variable_of_the_tasks_own_module_travels() -> None:
    read = task(lambda: LOCAL.get(), name="read")

    def start() -> Any:
        LOCAL.set("set")
        return [
            parallel([read], contextvars=given).raise_for_failure()["read"].result for given in ([LOCAL], [])
        ]

    assert copy_context().run(start) == ["set", "default"]


def test_what_one_task_sets_the_next_does_not_see() -> None:
    def body() -> str:
        before = LOCAL.get()
        LOCAL.set("changed")
        return before

    def start() -> Any:
        LOCAL.set("set")
        return parallel([task(body, name="body")] * 3, contextvars=[LOCAL]).raise_for_failure()

    assert list(copy_context().run(start).results.values()) == ["set"] * 3


@pytest.mark.parametrize("mode", ["sequential", "background"])
def test_isolated_tasks_have_them_too(mode: str) -> None:
    read = task(lambda: LOCAL.get(), name="read", isolate=True)

    def start() -> Run:
        LOCAL.set(mode)
        return Manager([read], mode=mode, config=Config(contextvars=[LOCAL]))

    assert copy_context().run(start).wait().raise_for_failure()["read"].result == mode


def test_a_value_that_cannot_be_sent_is_refused_before_anything_runs(tmp_path: Path) -> None:
    holder: ContextVar[Any] = ContextVar("holder")

    def start() -> None:
        holder.set(threading.Lock())
        with pytest.raises(ConfigError, match="the value of context variable 'holder' cannot be sent"):
            parallel([task(lambda: 1)], contextvars=[holder], storage=tmp_path / "runs")

    copy_context().run(start)
    assert list(tmp_path.iterdir()) == []


def test_a_variable_without_a_value_has_none_in_the_worker_either() -> None:
    empty: ContextVar[str] = ContextVar("empty")
    read = task(lambda: empty.get("nothing"), name="read")
    assert parallel([read], contextvars=[empty]).raise_for_failure()["read"].result == "nothing"


def test_a_variable_of_a_script_travels(script: Script) -> None:
    ended = script(
        """
from contextvars import ContextVar
from dotflow_like import Config, Manager, task

plain = ContextVar("plain", default="default")
bare = ContextVar("bare")

@task
def read():
    return plain.get(), bare.get("nothing")

plain.set("set")
for given in ([plain, bare], [plain], []):
    run = Manager([read, read], mode="parallel", config=Config(contextvars=given, max_workers=1))
    print(*run.raise_for_failure().results.values())
bare.set("set too")
run = Manager([read, read], mode="parallel", config=Config(contextvars=[bare], max_workers=2))
print(*run.raise_for_failure().results.values())
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "('set', 'nothing') ('set', 'nothing')",
        "('set', 'nothing') ('set', 'nothing')",
        "('default', 'nothing') ('default', 'nothing')",
        "('default', 'set too') ('default', 'set too')",
    ]


# fork; in scripts, since other threads may run here

FORK = """
import os, sys, threading, time
from pathlib import Path
from dotflow_like import Config, ConfigError, Manager, Workflow, task

Path("memory.py").write_text("value = 'as imported'\\ndef read():\\n    return value, __import__('os').getpid()\\n")
sys.path.insert(0, os.getcwd())
import memory
memory.value = "as changed"
forking = Config(start_method="fork", max_workers=2)
ran = Path("ran")

def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False

def refused(run, **options):
    try:
        run([task(ran.touch, isolate=True), *options.pop("more", [])], storage="runs", config=forking, **options)
    except ConfigError as error:
        print(error)
    assert not ran.exists()
    assert not Path("runs").exists(), list(Path("runs").iterdir())
"""
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@forks
def test_a_forked_worker_has_the_parents_memory_and_a_fresh_one_has_not(script: Script) -> None:
    ended = script(
        FORK
        + """
for config in (forking, Config()):
    run = Manager([task(memory.read, name="read")], mode="parallel", config=config).raise_for_failure()
    value, pid = run["read"].result
    print(value, pid != os.getpid())
memory.value = "once more"
run = Manager([task(memory.read, name="read", isolate=True)], config=forking).raise_for_failure()
print(run["read"].result[0])
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["as changed True", "as imported True", "once more"]


@forks
def test_forked_workers_do_all_work_in_order_and_end_with_the_run(script: Script) -> None:
    ended = script(
        FORK
        + """
print("said before", end=" ")
square = task(lambda x: (x * x, os.getpid()), name="square").map(x=range(200))
total = task(lambda pairs: sum(value for value, _ in pairs), name="total").bind(pairs=square)
for _ in range(2):
    run = Manager([square, total], mode="parallel", config=forking).raise_for_failure()
    values, pids = zip(*run["square"].result)
    assert values == tuple(x * x for x in range(200))
    assert run["total"].result == sum(values)
    assert 1 <= len(set(pids)) <= 2
    assert all(gone(pid) for pid in pids)
print("done")
"""
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "said before done\n", "")


@forks
def test_a_forked_worker_that_dies_or_hangs_costs_its_own_task_only(script: Script) -> None:
    ended = script(
        FORK
        + """
def hang():
    Path("pid").write_text(str(os.getpid()))
    time.sleep(600)

tasks = [
    task(lambda: os._exit(3), name="dies"),
    task(hang, name="hangs", timeout=1),
    *(task(lambda i=i: i, name=f"t{i}") for i in range(4)),
]
run = Manager(tasks, mode="parallel", keep_going=True, config=forking, on_failure=lambda tasks: None)
print(*(str(each.status) for each in run.tasks))
print(*(each.errors[0].exception for each in run.tasks if each.errors))
assert gone(int(Path("pid").read_text()))
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "failed failed completed completed completed completed",
        "WorkerDied TaskTimeout",
    ]


@forks
def test_while_another_thread_runs_fork_is_refused_before_anything_is_recorded(script: Script) -> None:
    ended = script(
        FORK
        + """
over = threading.Event()
thread = threading.Thread(target=over.wait, name="my-server")
thread.start()
refused(Manager, mode="parallel")
refused(Manager)
over.set()
thread.join()
Manager([task(lambda: 1)], mode="parallel", config=forking).raise_for_failure()
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == 2 * (
        "start_method='fork' is not safe: other threads run: my-server; use start_method='spawn', the default\n"
    )


@forks
def test_a_run_in_the_background_refuses_to_fork(script: Script) -> None:
    ended = script(
        FORK
        + """
refused(Manager, mode="background")
refused(lambda tasks, **options: Workflow(tasks).start(**options), mode="parallel")
refused(lambda tasks, **options: Workflow(tasks).start(**options))
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == 3 * (
        "start_method='fork' is not safe: this run is in the background, in a thread; use start_method='spawn', the default\n"
    )


@forks
def test_a_run_that_will_have_threads_refuses_to_fork(script: Script) -> None:
    ended = script(
        FORK
        + """
refused(Manager, mode="parallel", executor="thread")
refused(Manager, more=[task(lambda: 1, timeout=5)])
refused(Manager, timeout=5)
"""
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == 3 * (
        "start_method='fork' is not safe: tasks of this run run in threads; use start_method='spawn', the default\n"
    )


@forks
def test_a_run_without_workers_does_not_care_how_they_would_begin() -> None:
    config = Config(start_method="fork")
    for way in ({"mode": "background"}, {"mode": "parallel", "executor": "thread"}, {"timeout": 60}):
        options: dict[str, Any] = way
        assert Workflow([task(lambda: 1, name="one")]).run(**options, config=config).wait()["one"].result == 1


def test_what_worker_init_set_in_its_script_its_tasks_see_in_every_run(script: Script) -> None:
    done = script(
        "import os, sys\n"
        "from dotflow_like import Config, Manager, task\n"
        "MODEL, CACHE, RATE = None, {}, 0\n"
        "def prepare():\n"
        "    global MODEL\n"
        "    MODEL = os.getpid()\n"
        "    CACHE['x'] = os.environ['FROM_INIT'] = 'yes'\n"
        "    sys.path.insert(0, '/from/init')\n"
        "@task\n"
        "def use():\n"
        "    own = MODEL == os.getpid() and CACHE == {'x': 'yes'}\n"
        "    return own, os.environ.get('FROM_INIT'), '/from/init' in sys.path, RATE\n"
        "@task\n"
        "def other():\n"
        "    return use()\n"
        "for RATE in range(3):\n"
        "    run = Manager([use, other], mode='parallel', max_workers=1, config=Config(worker_init=prepare))\n"
        "    expected = (True, 'yes', True, RATE)\n"
        "    assert dict(run.raise_for_failure().results) == {'use': expected, 'other': expected}, dict(run.results)\n"
    )
    assert done.returncode == 0, done.stderr
