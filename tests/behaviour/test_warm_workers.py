"""Workers wait for the next run: it finds them as its parent is, and nothing of the run before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, task

Until = Callable[..., None]
Script = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def meeting(tmp_path: Path) -> Callable[..., list[int]]:
    """A function that makes so many workers meet in a run, and returns their numbers."""
    count = 0

    def meet(size: int = 2) -> list[int]:
        nonlocal count
        count += 1
        folder = tmp_path / f"meeting {count}"
        folder.mkdir()

        def come(i: int) -> int:
            (folder / f"{i}").touch()
            deadline = time.monotonic() + 30
            while len(list(folder.iterdir())) < size:
                assert time.monotonic() < deadline, "the others did not come"
                time.sleep(0.002)
            return os.getpid()

        run = Manager([task(come, name="come").map(i=range(size))], mode="parallel", max_workers=size)
        return sorted(run.raise_for_failure()["come"].result)

    return meet


def only(body: Callable[..., Any], **bound: Any) -> Any:
    """Return what a body returns in the one worker of a run."""
    one = task(body, name="one").bind(**bound)
    return Manager([one], mode="parallel", max_workers=1).raise_for_failure()["one"].result


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


def test_a_second_run_uses_the_same_workers(meeting: Callable[..., list[int]]) -> None:
    first = meeting()
    assert len(set(first)) == 2
    assert meeting() == first
    assert only(os.getpid) in first


def test_workers_are_used_again_after_a_failure_and_a_death(meeting: Callable[..., list[int]]) -> None:
    first = meeting()
    bad = task(lambda: 1 / 0, name="bad")
    Manager([bad], mode="parallel", max_workers=2, on_failure=lambda tasks: None)
    assert meeting() == first
    dies = task(lambda: os._exit(1), name="dies")
    Manager([dies], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    second = meeting()
    assert len(set(first) & set(second)) == 1


def test_each_run_has_the_surroundings_of_its_parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def look() -> tuple[Any, ...]:
        mask = os.umask(0)
        os.umask(mask)
        colours = {name: value for name, value in os.environ.items() if name.startswith("COLOUR")}
        return str(Path.cwd()), colours, sys.path[0], mask, os.getpid()

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    monkeypatch.setenv("COLOUR", "red")
    monkeypatch.setenv("COLOUR_OF_THE_SEA", "blue")
    monkeypatch.setattr(sys, "path", ["/first", *sys.path])
    mask = os.umask(0o027)
    try:
        *first, worker = only(look)
        assert first == [
            str(tmp_path / "a"),
            {"COLOUR": "red", "COLOUR_OF_THE_SEA": "blue"},
            "/first",
            0o027,
        ]
        monkeypatch.chdir(tmp_path / "b")
        monkeypatch.setenv("COLOUR", "green")
        monkeypatch.delenv("COLOUR_OF_THE_SEA")
        monkeypatch.setattr(sys, "path", ["/second", *sys.path[1:]])
        os.umask(0o077)
        *second, same = only(look)
        assert second == [str(tmp_path / "b"), {"COLOUR": "green"}, "/second", 0o077]
        assert same == worker
    finally:
        os.umask(mask)


def test_a_module_that_was_written_since_can_be_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fetch() -> int:
        import a_module_that_comes_late

        return int(a_module_that_comes_late.VALUE)

    only(os.getpid)
    (tmp_path / "a_module_that_comes_late.py").write_text("VALUE = 5\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert only(fetch) == 5


def test_what_a_body_did_to_its_process_does_not_reach_the_next_run(tmp_path: Path) -> None:
    def change() -> int:
        os.chdir(tmp_path)
        os.environ["COLOUR"] = "red"
        del os.environ["PATH"]
        sys.path.insert(0, "/first")
        os.umask(0o077)
        return os.getpid()

    def look() -> tuple[Any, ...]:
        mask = os.umask(0)
        os.umask(mask)
        return str(Path.cwd()), dict(os.environ), list(sys.path), mask

    def own() -> tuple[Any, ...]:
        return look()

    expected = own()
    worker = only(change)
    assert only(look) == expected
    assert only(os.getpid) == worker


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_limit_a_body_set_does_not_reach_the_next_run() -> None:
    def limit() -> None:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, hard))

    def look() -> int:
        return len(bytes(2 << 30))

    only(limit)
    assert only(look) == 2 << 30


def test_children_of_a_body_are_gone_when_the_run_has_returned(until: Until) -> None:
    def leave() -> tuple[int, int]:
        one = subprocess.Popen(["sleep", "600"])
        other = subprocess.Popen(["sleep", "600"], start_new_session=True)
        return one.pid, other.pid

    for pid in only(leave):
        until(lambda pid=pid: gone(pid), f"the end of {pid}")


def test_a_child_of_a_body_that_has_ended_is_no_reason_to_end_the_worker() -> None:
    def leave() -> int:
        subprocess.Popen(["true"])
        return os.getpid()

    worker = only(leave)
    deadline = time.monotonic() + 30
    while only(os.getpid) != worker:  # the child may have been there still when the run ended
        worker = only(leave)
        assert time.monotonic() < deadline


def test_threads_of_a_body_are_not_there_in_the_next_run(tmp_path: Path, until: Until) -> None:
    effects = tmp_path / "effects"

    def leave() -> int:
        def go_on() -> None:
            while True:
                with effects.open("a") as file:
                    file.write("x")
                time.sleep(0.001)

        threading.Thread(target=go_on, name="left behind", daemon=True).start()
        return os.getpid()

    def look() -> list[str]:
        return [each.name for each in threading.enumerate()]

    worker = only(leave)
    assert "left behind" not in only(look)
    until(lambda: gone(worker), "the end of the worker")


def test_handlers_a_body_set_do_not_reach_the_next_run() -> None:
    def change() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    only(change)
    run = Manager([task(end, name="end")], mode="parallel", max_workers=1, on_failure=lambda tasks: None)
    assert run["end"].status == "failed"
    assert "signal SIGTERM" in run["end"].errors[0].message


def test_what_a_body_wrote_to_its_output_does_not_come_in_the_next_run(script: Script) -> None:
    ended = script(
        "import sys\n"
        "from dotflow_like import Manager, task\n"
        "def talk(): sys.stdout.write('one '); print('two', end=' ')\n"
        "def close(): sys.stdout = None\n"
        "for body in (talk, close, talk):\n"
        "    Manager([task(body, name='t')], mode='parallel', max_workers=1, on_failure=lambda tasks: None)\n"
        "    print('|', end=' ', flush=True)\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "one two | | one two | "


def test_runs_at_once_do_not_share_workers(tmp_path: Path) -> None:
    def come(name: str, i: int) -> int:
        (tmp_path / f"{name} {i}").touch()
        deadline = time.monotonic() + 30
        while len(list(tmp_path.iterdir())) < 4:
            assert time.monotonic() < deadline, "the others did not come"
            time.sleep(0.002)
        return os.getpid()

    found: dict[str, list[int]] = {}

    def run(name: str) -> None:
        tasks = [task(come, name="come").bind(name=name).map(i=range(2))]
        found[name] = Manager(tasks, mode="parallel", max_workers=2).raise_for_failure()["come"].result

    threads = [threading.Thread(target=run, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*found["a"], *found["b"]}) == 4


def test_workers_outlive_the_thread_that_started_them(script: Script) -> None:
    """They end with their parent; some systems tie that to the thread that started them."""
    ended = script(
        "import os, threading, time\n"
        "from dotflow_like import Manager, task\n"
        "one = task(os.getpid, name='one')\n"
        "found = []\n"
        "def run(): found.append(Manager([one], mode='parallel', max_workers=1)['one'].result)\n"
        "thread = threading.Thread(target=run)\n"
        "thread.start()\n"
        "thread.join()\n"
        "time.sleep(0.1)  # long enough for a signal that must not come\n"
        "run()\n"
        "print(found[0] == found[1])\n"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n", "")


def test_a_run_goes_on_when_the_thread_that_started_its_workers_has_ended() -> None:
    from dotflow_like import Workflow

    runs = []
    slow = task(lambda: time.sleep(0.2) or 5, name="slow")
    begin = threading.Thread(
        target=lambda: runs.append(Workflow([slow]).start(mode="parallel", max_workers=1))
    )
    begin.start()
    begin.join()
    assert runs[0].wait().raise_for_failure()["slow"].result == 5


@pytest.mark.parametrize("opened", [0, 300], ids=["closed", "taken"])
def test_a_body_that_closes_its_descriptors_fails_alone(opened: int, tmp_path: Path) -> None:
    def close() -> int:
        os.closerange(3, 256)
        (tmp_path / "files").mkdir()
        files = [(tmp_path / "files" / str(i)).open("w+b", buffering=0) for i in range(opened)]
        return len(files)

    tasks = [task(lambda i=i: i, name=f"t{i}") for i in range(4)]
    tasks.insert(2, task(close, name="close"))
    run = Manager(
        tasks, mode="parallel", max_workers=2, keep_going=True, on_failure=lambda tasks: None, timeout=60
    )
    assert run["close"].status == "failed"
    assert run["close"].errors[0].exception == "WorkerDied"
    assert [run[f"t{i}"].result for i in range(4)] == [0, 1, 2, 3]
    if opened:  # nothing of ours went to a file of theirs
        assert {each.stat().st_size for each in (tmp_path / "files").iterdir()} <= {0}
    assert only(lambda: 7) == 7


def test_a_body_that_fills_its_descriptors_costs_no_other_task() -> None:
    def fill() -> int:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            while True:
                os.dup(0)
        except OSError:
            return os.getpid()

    filling = task(fill, name="fill")
    big = task(lambda data: data[::-1], name="big").bind(data=bytes(range(250)) * 10_000).after(filling)
    run = Manager(
        [filling, big], mode="parallel", max_workers=1, keep_going=True, on_failure=lambda tasks: None
    )
    assert run["big"].result == bytes(range(250))[::-1] * 10_000, run["big"].errors
    assert only(lambda data: len(data), data=bytes(300_000)) == 300_000


def test_at_the_end_of_the_interpreter_workers_are_gone_and_it_is_quick(script: Script) -> None:
    ended = script(
        "import os, time\n"
        "from dotflow_like import Manager, task\n"
        "def pid(i):\n"
        "    time.sleep(0.05)\n"
        "    return os.getpid()\n"
        "run = Manager([task(pid).map(i=range(6))], mode='parallel', max_workers=3)\n"
        "print(*sorted(set(run['pid'].result)))\n"
        "print(time.time(), flush=True)\n"
    )
    now = time.time()
    pids, at = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert all(gone(int(pid)) for pid in pids.split())
    assert now - float(at) < 5


def test_a_fork_of_the_parent_has_workers_of_its_own(script: Script) -> None:
    ended = script(
        "import os, sys\n"
        "from dotflow_like import Manager, task\n"
        "def one(): return os.getpid(), os.getppid()\n"
        "def run():\n"
        "    worker, parent = Manager([task(one)], mode='parallel', max_workers=1)['one'].result\n"
        "    assert parent == os.getpid(), (parent, os.getpid())\n"
        "    return worker\n"
        "first = run()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    own = run()\n"
        "    assert own != first\n"
        "    assert run() == own\n"
        "    sys.exit(7)\n"
        "assert run() == first\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7\n"
        "assert run() == first\n"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
