"""A worker process, as its parent sees it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.process import Worker, in_words

if TYPE_CHECKING:
    from tests.unit.execute.workers.conftest import Talk

Start = Callable[..., Worker]
Until = Callable[..., None]


def is_gone(pid: int) -> bool:
    """Whether a process has ended; who started it may not have asked how."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return not Path("/proc/self").exists() or is_gone(pid)


# Starting


def test_a_worker_answers(worker: Worker, talk: Talk) -> None:
    assert worker.is_alive()
    assert (worker.name, repr(worker)) == (f"pid {worker.pid}", f"<Worker pid {worker.pid}>")
    assert talk.run(worker, os.getpid) == worker.pid
    assert talk.end(worker)


def test_it_leads_a_session_and_a_group_of_its_own(worker: Worker, talk: Talk) -> None:
    assert talk.run(worker, lambda: (os.getsid(0), os.getpgid(0))) == (worker.pid, worker.pid)


def test_it_has_nothing_to_read_and_no_say_in_ctrl_c(worker: Worker, talk: Talk) -> None:
    assert talk.run(worker, lambda: os.read(0, 10)) == b""
    os.kill(worker.pid, signal.SIGINT)
    assert talk.run(worker, os.getpid) == worker.pid


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_sigterm_ends_it_whatever_its_parent_does_about_that(method: str, start: Start, talk: Talk) -> None:
    former = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        worker = start(method)
        talk.end(worker)
    finally:
        signal.signal(signal.SIGTERM, former)
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(30)
    assert worker.kill() == "signal SIGTERM"


@pytest.mark.parametrize(("method", "mark"), [("spawn", None), ("fork", "here")])
def test_a_spawned_one_is_fresh_and_a_fork_is_a_copy(
    method: str, mark: str | None, start: Start, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "mark_of_this_test", "here", raising=False)
    worker = start(method)
    assert worker.forked == (method == "fork")
    assert talk.run(worker, lambda: getattr(sys, "mark_of_this_test", None)) == mark


def test_it_finds_modules_as_its_parent_does(
    tmp_path: Path, start: Start, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever lies in the folder it is started in, and whatever else is in the path."""
    (tmp_path / "json.py").write_text("raise RuntimeError('not the one of the standard library')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, b"bytes", str(tmp_path / "end")])
    assert talk.run(start(), lambda: sys.path[-1]) == str(tmp_path / "end")


def test_a_process_with_very_many_files_open_can_have_workers(script: Callable[..., str]) -> None:
    code = """
import os, resource, select, sys
from dotflow_like.execute.workers import protocol
from dotflow_like.execute.workers.process import Worker
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
if hard != resource.RLIM_INFINITY and hard < 1200:
    print("True\\nTrue")
    sys.exit()
resource.setrlimit(resource.RLIMIT_NOFILE, (1200, hard))
for _ in range(1030):
    os.dup(0)
for method in "spawn", "fork":
    worker = Worker(method)
    worker.channel.post(protocol.END)
    worker.channel.flush()
    poll = select.poll()
    poll.register(worker.channel, select.POLLIN)
    poll.poll(30_000)
    print([message.kind for message in worker.channel.receive() or ()] == [protocol.ENDED])
    worker.kill()
    worker.forget()
"""
    assert script(code).split() == ["True", "True"]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_process_without_standard_streams_can_have_workers(
    method: str, tmp_path: Path, script: Callable[..., str]
) -> None:
    """The ways to a worker must not be taken for what a body prints to."""
    code = """
import os, sys
from dotflow_like import Config, Manager, task
for each in 0, 1, 2:
    os.close(each)
body = task(lambda: os.system("echo said; echo said >&2"), name="body")
config = Config(start_method=sys.argv[1])
run = Manager([body], mode="parallel", max_workers=1, config=config, on_failure=lambda tasks: None)
with open(sys.argv[2], "w") as file:
    file.write(repr(run["body"].result))
os._exit(0)
"""
    script(code, method, tmp_path / "said")
    assert (tmp_path / "said").read_text() != "None", "its code: there was nowhere to write to"


def test_what_waits_to_be_written_is_not_written_by_a_fork_too(script: Callable[..., str]) -> None:
    code = """
import sys
from dotflow_like.execute.workers.process import Worker
sys.stdout.write("once")
worker = Worker("fork")
worker.channel.close()
assert worker.wait(30)
worker.forget()
"""
    assert script(code) == "once"


# Ending


def test_kill_ends_it_and_says_how(worker: Worker) -> None:
    """At once, too: a worker that is only about to begin dies as well."""
    assert worker.kill() == "signal SIGKILL"
    assert not worker.is_alive()
    assert worker.kill() == "signal SIGKILL"


def test_without_its_channel_it_ends_by_itself(worker: Worker) -> None:
    worker.channel.close()
    assert worker.wait(30)
    assert worker.kill() == "exit code 0"


def test_it_dies_with_its_lifeline(worker: Worker, talk: Talk) -> None:
    """Even a body that never asks."""
    talk.begin(worker, lambda: time.sleep(60))
    worker.forget()
    assert worker.wait(30)
    assert worker.kill() == "signal SIGKILL"


def test_it_dies_of_its_own_accord_in_its_own_way(worker: Worker, talk: Talk) -> None:
    talk.begin(worker, lambda: os._exit(7))
    assert worker.wait(30)
    assert not worker.is_alive()
    assert worker.kill() == "exit code 7"


@pytest.mark.parametrize("is_told", [True, False], ids=["by a descriptor", "by asking"])
def test_waiting_is_for_its_end_or_for_so_long(
    worker: Worker, is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_told and worker.death is not None:  # as where the system has no such descriptor
        os.close(worker.death)
        worker.death = None
    for patience in (0, 0.01):
        assert not worker.wait(patience)
    os.kill(worker.pid, signal.SIGKILL)
    assert worker.wait(30)
    assert worker.wait(0)


def test_its_death_can_be_waited_for_with_other_things(worker: Worker, until: Until) -> None:
    if worker.death is None:
        pytest.skip("the system has no such descriptor")
    import select

    poll = select.poll()
    poll.register(worker.death, select.POLLIN)
    assert poll.poll(0) == []
    os.kill(worker.pid, signal.SIGKILL)
    assert poll.poll(30_000)
    assert not worker.is_alive()


def test_kill_ends_what_its_bodies_started(worker: Worker, talk: Talk, until: Until) -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("only in its own group can they be found here")

    def body() -> list[int]:
        sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
        nested = f"import subprocess, time; p = subprocess.Popen({sleep!r}, start_new_session=True); print(p.pid, flush=True); time.sleep(60)"
        plain = subprocess.Popen(sleep)
        session = subprocess.Popen(sleep, start_new_session=True)
        outer = subprocess.Popen(
            [sys.executable, "-c", nested], start_new_session=True, stdout=subprocess.PIPE, text=True
        )
        assert outer.stdout is not None
        return [each.pid for each in (plain, session, outer)] + [int(outer.stdout.readline())]

    pids = talk.run(worker, body)
    assert isinstance(pids, list)
    assert not any(map(is_gone, pids))
    assert worker.kill() == "signal SIGKILL"
    until(lambda: all(map(is_gone, pids)), "the end of its descendants")


def test_kill_ends_a_descendant_that_another_thread_started(worker: Worker, talk: Talk, until: Until) -> None:
    def body() -> int:
        started: list[int] = []

        def start() -> None:
            started.append(subprocess.Popen(["sleep", "60"], start_new_session=True).pid)
            ready.set()
            threading.Event().wait()

        ready = threading.Event()
        threading.Thread(target=start, daemon=True).start()
        ready.wait()
        return started[0]

    if not Path("/proc/self/task").exists():
        pytest.skip("only in its own group can they be found here")
    pid = talk.run(worker, body)
    assert isinstance(pid, int)
    worker.kill()
    until(lambda: is_gone(pid), "the end of its descendant")


def test_what_a_dead_worker_left_in_its_group_is_killed(
    worker: Worker, talk: Talk, tmp_path: Path, until: Until
) -> None:
    file = tmp_path / "pid"

    def body() -> None:
        file.write_text(str(subprocess.Popen(["sleep", "60"]).pid))
        os._exit(3)

    talk.begin(worker, body)
    assert worker.wait(30)
    assert worker.kill() == "exit code 3"
    until(lambda: is_gone(int(file.read_text())), "the end of what it started")


def test_a_frozen_worker_goes_on_or_is_killed(worker: Worker, talk: Talk) -> None:
    talk.run(worker, os.getpid)
    worker.freeze()
    worker.channel.post(protocol.END)
    worker.channel.flush()
    assert not worker.wait(0.05)
    assert worker.channel.receive() is None
    worker.go_on()
    assert talk.hear(worker, protocol.ENDED).extra
    worker.freeze()
    assert worker.kill() == "signal SIGKILL"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit code 0"),
        (255, "exit code 255"),
        (-9, "signal SIGKILL"),
        (-11, "signal SIGSEGV"),
        (-62, "signal 62"),
    ],
)
def test_an_end_in_words(code: int, words: str) -> None:
    assert in_words(code) == words


# Nothing leaks


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_nothing_is_left_of_a_worker(method: str, descriptors: Callable[[], set[int]]) -> None:
    before = descriptors()
    worker = Worker(method)
    assert descriptors() > before
    worker.kill()
    worker.forget()
    worker.forget()
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(worker.pid, 0)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_one_that_cannot_be_started_is_an_error_and_leaves_nothing(
    method: str, script: Callable[..., str]
) -> None:
    """However many descriptors are free: one more is tried, until it starts."""
    code = """
import os, resource, sys
from dotflow_like.execute.workers.process import Worker
Worker(sys.argv[1]).kill()  # all is imported
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
def state():
    return {each for each in range(64) if is_open(each)}
def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
before = state()
failures = starts = 0
for limit in range(max(before) + 1, 60):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        worker = Worker(sys.argv[1])
    except OSError as error:
        failures += 1
        assert error.errno == 24, error
    else:
        starts += 1
        worker.kill()
        worker.forget()
    assert state() == before, (limit, state() ^ before)
    try:
        print("left", os.waitpid(-1, os.WNOHANG))
    except ChildProcessError:
        pass
    if starts == 3:
        break
print(failures > 3, starts)
"""
    code = code.replace(
        "Worker(sys.argv[1]).kill()", "first = Worker(sys.argv[1]); first.kill(); first.forget()"
    )
    assert script(code, method) == "True 3\n"


def test_one_whose_death_cannot_be_watched_is_started_all_the_same(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pidfd_open(pid: int) -> int:
        raise PermissionError(1, "not allowed here")

    monkeypatch.setattr(os, "pidfd_open", pidfd_open, raising=False)
    worker = start()
    assert worker.death is None
    assert not worker.wait(0)
    assert worker.kill() == "signal SIGKILL"


def test_a_process_that_waits_for_all_its_children_does_no_harm(worker: Worker) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    os.waitpid(worker.pid, 0)
    assert worker.wait(30)
    assert not worker.is_alive()
    worker.kill()
