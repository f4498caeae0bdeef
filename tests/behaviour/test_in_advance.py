"""Tiny tasks are sent to workers in advance: nothing waits behind a long one, and nothing begins after a stop."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import AttemptStatus, Config, FileStorage, Manager, RunStatus, Workflow, task

WORDS = {"cancel": RunStatus.CANCELLED, "pause": RunStatus.PAUSED}


class Watch:
    """A tracer that knows how many tasks are under way, and how many were at most."""

    def __init__(self) -> None:
        self.now = self.most = self.ended = 0

    def start_task(self, task: Any) -> None:
        self.now += task.items is None
        self.most = max(self.most, self.now)

    def end_task(self, task: Any) -> None:
        self.now -= task.items is None
        self.ended += task.items is None


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def noting(ledger: Path) -> Callable[[int], None]:
    """A function that writes a number into the ledger, from any process."""
    path = str(ledger)

    def note(i: int) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b"%7d\n" % i)
        os.close(descriptor)

    return note


def lines(ledger: Path) -> int:
    return ledger.stat().st_size // 8 if ledger.exists() else 0


def check_map(count: int, storage: Any) -> None:
    watch = Watch()
    mapped = task(lambda i: {"number": i}, name="mapped").map(i=range(count))
    run = Manager(
        [mapped], mode="parallel", max_workers=2, storage=storage, config=Config(tracer=watch)
    ).raise_for_failure()
    assert run["mapped"].result == [{"number": i} for i in range(count)]
    assert (watch.ended, watch.now) == (count, 0)
    assert watch.most <= 300


def test_a_map_over_many_items_keeps_order_and_has_few_under_way(tmp_path: Path) -> None:
    check_map(2000, None)
    check_map(1000, FileStorage(tmp_path, durability="process"))


@pytest.mark.crash
@pytest.mark.parametrize("durable", [False, True], ids=["memory", "files"])
def test_a_map_over_ten_thousand_items_does_too(durable: bool, tmp_path: Path) -> None:
    check_map(10_000, FileStorage(tmp_path, durability="process") if durable else None)


def test_of_longer_tasks_no_more_are_under_way_than_workers_can_soon_begin() -> None:
    watch = Watch()
    mapped = task(lambda i: time.sleep(0.05), name="mapped").map(i=range(12))
    Manager([mapped], mode="parallel", max_workers=2, config=Config(tracer=watch)).raise_for_failure()
    assert watch.most <= 6


@pytest.mark.parametrize(("workers", "longs"), [(2, 1), (3, 2), (4, 3)])
def test_nothing_waits_behind_a_long_task_while_a_worker_is_idle(
    workers: int, longs: int, ledger: Path, noting: Callable[[int], None]
) -> None:
    def wait() -> str:  # until all the others have ended
        deadline = time.monotonic() + 30
        while not ledger.exists() or ledger.stat().st_size < 8 * 400:
            assert time.monotonic() < deadline, "others wait behind this one"
            time.sleep(0.002)
        return "last"

    tasks = [task(noting, name=f"t{i}").bind(i=i) for i in range(400)]
    for i in range(longs):
        tasks.insert(200 + 10 * i, task(wait, name=f"long{i}"))
    run = Manager(tasks, mode="parallel", max_workers=workers).raise_for_failure()
    assert [run[f"long{i}"].result for i in range(longs)] == ["last"] * longs
    assert sorted(map(int, ledger.read_text().split())) == list(range(400))


def test_nothing_waits_behind_a_call_that_holds_the_interpreter(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    ours = os.open(gate, os.O_RDWR)
    late = threading.Event()

    def held() -> int:
        theirs = os.open(gate, os.O_RDWR)
        buffer = ctypes.create_string_buffer(1)
        return int(ctypes.PyDLL(None).read(theirs, buffer, 1))

    class Open(Watch):
        def end_task(self, task: Any) -> None:
            super().end_task(task)
            if self.ended == 400:
                os.write(ours, b"x")

    def give_up() -> None:
        late.set()
        os.write(ours, b"x")

    tasks = [task(lambda i=i: i, name=f"t{i}") for i in range(400)]
    tasks.insert(200, task(held, name="held"))
    watchdog = threading.Timer(60, give_up)
    watchdog.start()
    try:
        run = Manager(tasks, mode="parallel", max_workers=2, config=Config(tracer=Open()))
    finally:
        watchdog.cancel()
        os.close(ours)
    assert not late.is_set(), "others wait behind it"
    assert run.raise_for_failure()["held"].result == 1
    assert [run[f"t{i}"].result for i in range(400)] == list(range(400))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_stop_nothing_begins_of_what_was_sent_in_advance(
    word: str,
    workers: int,
    tmp_path: Path,
    ledger: Path,
    noting: Callable[[int], None],
    until: Callable[..., None],
) -> None:
    over, count = tmp_path / "over", 600
    waiting = tmp_path / "waiting"
    waiting.mkdir()

    def body(i: int) -> int:
        noting(i)
        if ledger.stat().st_size >= 8 * 100:
            (waiting / str(i)).touch()
            deadline = time.monotonic() + 60
            while not over.exists() and time.monotonic() < deadline:
                time.sleep(0.002)
        return i

    workflow = Workflow([task(body, name="m").map(i=range(count))])
    options: dict[str, Any] = {"workflow_id": "w", "mode": "parallel", "max_workers": workers}
    options["storage"] = FileStorage(tmp_path / "kept", durability="process")
    run = workflow.start(**options)
    until(lambda: len(list(waiting.iterdir())) == workers, "the bodies that wait")
    noted = lines(ledger)  # 100 at least; the last two bodies may have been noted before either looked
    getattr(run, word)()
    until(lambda: [each.status for each in run["m"].items].count("running") == workers, "the others' end")
    over.touch()
    run.wait()
    assert run.status is WORDS[word]
    begun = set(map(int, ledger.read_text().split()))
    assert len(begun) == lines(ledger) == noted
    for i in range(count):
        item = run[f"m[{i}]"]
        assert (item.status == "completed") == (i in begun), item
        assert item.status in ("completed", "pending", run.status)
        assert all(each.finished_at or each.status is AttemptStatus.SCHEDULED for each in item.attempts)
        assert len(item.attempts) == 1 or i not in begun

    again = workflow.run(**options, resume=True)
    assert again.status is RunStatus.COMPLETED
    assert again["m"].result == list(range(count))
    assert sorted(map(int, ledger.read_text().split())) == list(range(count))
    assert all(again[f"m[{i}]"].restored for i in begun)


def test_a_stop_while_tiny_tasks_rush_leaves_every_task_begun_or_not(
    tmp_path: Path, ledger: Path, noting: Callable[[int], None], until: Callable[..., None]
) -> None:
    count = 1500
    workflow = Workflow([task(noting, name="m").map(i=range(count))])
    options: dict[str, Any] = {"workflow_id": "w", "mode": "parallel", "max_workers": 2}
    options["storage"] = FileStorage(tmp_path / "kept", durability="process")
    completed: set[int] = set()
    stops = 0
    while len(completed) < count:
        run = workflow.start(**options, resume=True)
        wanted = min(count, len(completed) + 200)
        until(lambda wanted=wanted: lines(ledger) >= wanted, "the next tasks")
        stops += run.pause()
        run.wait()
        items = run["m"].items
        assert items is not None
        before, completed = completed, {i for i in range(count) if items[i].status == "completed"}
        assert before < completed
        assert sorted(map(int, ledger.read_text().split())) == sorted(completed)
        assert run.status is (RunStatus.PAUSED if len(completed) < count else RunStatus.COMPLETED)
    assert stops >= 2


# Prints by how many bytes the memory of the parent grew at most.
HEAVY = """
import os, sys
from pathlib import Path
from dotflow_like import FileStorage, Manager, task

place, count = sys.argv[1], int(sys.argv[2])
make = task(lambda i: os.urandom(30_000), name="make")

def peak():
    (line,) = [each for each in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in each]
    return int(line.split()[1]) * 1024

def run(count):
    storage = FileStorage(os.path.join(place, str(count)), durability="process")
    run = Manager([make.map(i=range(count))], mode="parallel", max_workers=2, storage=storage)
    assert run.raise_for_failure()[f"make[{count - 1}]"].result != run["make[0]"].result

run(100)
before = peak()
run(count)
print(peak() - before)
"""


@pytest.mark.crash
def test_results_in_a_durable_storage_are_not_in_memory_too(
    script: Callable[..., Any], tmp_path: Path
) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    ended = script(HEAVY, str(tmp_path / "kept"), "5000")
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 50 << 20  # a third of the results
