"""After a thousand runs in which a task went wrong nothing is left of them.

`CRASH_SEED=... pytest -m crash tests/crash/test_leaks.py` replays the rounds of a test that failed; its output
names the seed.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dotflow_like import Config, Manager, Task, task

WORKERS = 4


class Holdings(NamedTuple):
    """What this process holds.

    Attributes:
        descriptors: what is open, by kind.
        segments: what shared memory is mapped, open, or has a name.
        descendants: how many processes come from it.
        zombies: which of its children nobody has waited for.
        objects: how many Python looks after.
        memory: bytes of it that are resident.
    """

    descriptors: dict[str, int]
    segments: list[str]
    descendants: int
    zombies: set[int]
    objects: int
    memory: int

    @classmethod
    def now(cls, processes: Any) -> Holdings:
        """Look."""
        gc.collect()
        links = [each for each in map(_link, Path("/proc/self/fd").iterdir()) if each]
        kinds = [each.partition("[")[0] for each in links]  # without the number of a pipe or a socket
        maps = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
        mapped = [fields[5] for fields in maps if len(fields) == 6]
        segments = {each for each in (*links, *mapped) if each.startswith(("/memfd:", "/dev/shm/"))}
        segments |= {str(each) for each in Path("/dev/shm").iterdir()}
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            {kind: kinds.count(kind) for kind in sorted(set(kinds))},
            sorted(segments),
            len(processes.descendants()),
            processes.zombies(),
            len(gc.get_objects()),
            pages * os.sysconf("SC_PAGE_SIZE"),
        )


@pytest.fixture
def rounds(culprits: Any) -> Iterator[Callable[[int], None]]:
    """A function that makes so many runs, in each of which something goes wrong."""
    seed = int(os.environ.get("CRASH_SEED") or random.randrange(2**32))
    print(f"to replay: CRASH_SEED={seed}")
    choices = random.Random(seed)

    def healthy(i: int, data: bytes) -> dict[str, Any]:
        return {"number": i, "data": data[::-1]}

    def run(count: int) -> None:
        for number in range(count):
            name = choices.choice(list(culprits))
            culprit = culprits[name]
            data = choices.randbytes(choices.choice([0, 100, 300_000]))
            tasks: list[Task[..., Any]] = [task(healthy, name=f"t{i}").bind(i=i, data=data) for i in range(4)]
            limit = culprit.timeout and 0.1
            tasks.insert(choices.randrange(5), task(culprit.body, name="culprit", timeout=limit))
            method: Any
            method, workers = choices.choice([*["spawn"] * 4, "fork"]), choices.choice([1, 2, WORKERS])
            where = f"round {number}: {name}, {method}, {workers} workers"
            begun = time.monotonic()
            ended = Manager(
                tasks,
                mode="parallel",
                max_workers=workers,
                keep_going=True,
                config=Config(start_method=method),
                on_failure=lambda tasks: None,
            )
            assert time.monotonic() < begun + 30, where
            errors = [each.exception for each in ended["culprit"].errors]
            assert errors == ([culprit.exception] if culprit.exception else []), where
            expected = [{"number": i, "data": data[::-1]} for i in range(4)]
            assert [ended[f"t{i}"].result for i in range(4)] == expected, where

    logging.disable()  # pytest keeps every record
    yield run
    logging.disable(logging.NOTSET)


@pytest.mark.crash
@pytest.mark.timeout(3600)
def test_nothing_is_left_after_a_thousand_rounds(
    rounds: Any, processes: Any, until: Any, tmp_path: Path
) -> None:
    def meet(here: Path, i: int) -> int:
        (here / str(i)).touch()
        deadline = time.monotonic() + 60
        while len(list(here.iterdir())) < WORKERS and time.monotonic() < deadline:
            time.sleep(0.002)
        return os.getpid()

    def settled(name: str) -> Holdings:  # with as many workers each time
        folder = tmp_path / name
        folder.mkdir()
        meeting = task(meet, name="meet").bind(here=folder).map(i=range(WORKERS))
        run = Manager([meeting], mode="parallel", max_workers=WORKERS).raise_for_failure()
        assert len(set(run["meet"].result)) == WORKERS
        until(lambda: not processes.strays(), "the end of what the culprits started", 10)
        return Holdings.now(processes)

    rounds(300)  # what is allocated once is there then
    before = settled("before")
    rounds(1000)
    after = settled("after")
    print(before, after, sep="\n")
    assert after.zombies == set()
    assert after._replace(objects=0, memory=0) == before._replace(objects=0, memory=0)
    assert after.objects < before.objects + 1000  # one each round would be seen
    assert after.memory <= before.memory + (32 << 20)  # the allocator keeps more and less


def _link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink()).replace(":[", "[")
    except OSError:  # it was open only to list the folder
        return ""
