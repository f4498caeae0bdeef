"""Scripts that end while a run goes on in the background."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(text)
    return subprocess.run(
        [sys.executable, "-W", "error", "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WORK = """
import os, sys, threading, time
from pathlib import Path
from dotflow_like import Manager, Workflow, task

@task
def work():
    while not Path("main-has-ended").exists():
        time.sleep(0.002)
    {work}

def done(tasks):
    os.write(1, b"result %d\\n" % tasks[0].result)  # at once: several runs write here

import atexit, threading
run = {start}
threading._register_atexit(lambda: Path("main-has-ended").touch())  # runs when the script has ended
{end}
"""

POOLS = {
    "nothing": "return 42",
    "thread pool": (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "    with ThreadPoolExecutor(2) as pool: return sum(pool.map(abs, [-40, 2]))"
    ),
    "process pool": (
        "import multiprocessing\n"
        "    from concurrent.futures import ProcessPoolExecutor\n"
        "    context = multiprocessing.get_context('forkserver')\n"
        "    with ProcessPoolExecutor(2, context) as pool: return sum(pool.map(abs, [-40, 2]))"
    ),
    "thread": (
        "found = []\n"
        "    thread = threading.Thread(target=lambda: found.append(42)); thread.start(); thread.join()\n"
        "    return found[0]"
    ),
    "subprocess": (
        "import subprocess\n    return int(subprocess.check_output([sys.executable, '-c', 'print(42)']))"
    ),
    "async": "import asyncio\n    return asyncio.run(asyncio.sleep(0, 42))",
    "another run": "return Manager([task(lambda: 42, name='x')], mode='parallel', max_workers=1)['x'].result",
}


@pytest.mark.parametrize("work", POOLS.values(), ids=POOLS)
def test_work_that_is_under_way_when_the_script_ends_is_finished(tmp_path: Path, work: str) -> None:
    start = "Manager([work], done, mode='background')"
    ended = run(tmp_path, WORK.format(work=work, start=start, end=""))
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "result 42\n")


def test_a_parallel_run_that_is_under_way_is_finished(tmp_path: Path) -> None:
    start = "Workflow([work]).start(mode='parallel', max_workers=1, on_success=done)"
    ended = run(tmp_path, WORK.format(work="return 42", start=start, end=""))
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "result 42\n")


def test_an_error_of_the_script_does_not_end_the_work(tmp_path: Path) -> None:
    start = "Manager([work], done, mode='background')"
    ended = run(tmp_path, WORK.format(work="return 42", start=start, end="raise LookupError('script')"))
    assert ended.returncode == 1
    assert "LookupError: script" in ended.stderr
    assert ended.stdout == "result 42\n"


def test_sys_exit_keeps_its_status(tmp_path: Path) -> None:
    start = "Manager([work], done, mode='background')"
    ended = run(tmp_path, WORK.format(work="return 42", start=start, end="sys.exit(5)"))
    assert (ended.returncode, ended.stdout) == (5, "result 42\n")


def test_several_runs_are_all_waited_for(tmp_path: Path) -> None:
    start = "[Manager([work], done, mode='background') for _ in range(3)]"
    ended = run(tmp_path, WORK.format(work="return 42", start=start, end=""))
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "result 42\n" * 3)


def test_what_a_callback_raises_then_is_seen(tmp_path: Path) -> None:
    text = WORK.replace("os.write(1,", "raise LookupError(")
    ended = run(
        tmp_path, text.format(work="return 42", start="Manager([work], done, mode='background')", end="")
    )
    assert "LookupError" in ended.stderr


def test_a_failing_run_is_reported_then(tmp_path: Path) -> None:
    ended = run(
        tmp_path, WORK.format(work="return 1 / 0", start="Manager([work], mode='background')", end="")
    )
    assert ended.returncode == 0
    assert "ZeroDivisionError" in ended.stderr
    assert "'work'" in ended.stderr


def test_a_run_whose_object_nobody_holds_is_finished(tmp_path: Path) -> None:
    text = WORK.replace("run = {start}", "{start}\nimport gc; gc.collect()")
    ended = run(
        tmp_path, text.format(work="return 42", start="Manager([work], done, mode='background')", end="")
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "result 42\n")
