"""The graphs that are run, and functions with the parameter names some peers take them by."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import linecache
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

WIDTH = 10


def chain_needs(size: int) -> list[list[int]]:
    """Return what each node of a chain needs: the one before."""
    return [[i - 1] if i else [] for i in range(size)]


def layered_needs(size: int) -> list[list[int]]:
    """Return what each node needs, in layers of ten: two or three nodes of the layer before, by turns."""
    return [
        [(i // WIDTH - 1) * WIDTH + (i + step) % WIDTH for step in range(2 + i % 2)] if i >= WIDTH else []
        for i in range(size)
    ]


def lone_needs(size: int) -> list[list[int]]:
    """Return what each node needs where none needs another."""
    return [[] for _ in range(size)]


def named_functions(needs: list[list[int]], value: str = "None") -> list[Callable[..., Any]]:
    """Return functions n0, n1, ... that take what they need as parameters of those names."""
    source = "\n".join(
        f"def n{i}({', '.join(f'n{each}: object' for each in needed)}) -> object:\n    return {value}\n"
        for i, needed in enumerate(needs)
    )
    file = f"<{len(needs)} functions>"
    linecache.cache[file] = (
        len(source),
        None,
        source.splitlines(keepends=True),
        file,
    )  # some read the source
    made: dict[str, Any] = {"__name__": __name__, "one": one}
    exec(compile(source, file, "exec"), made)
    return [made[f"n{i}"] for i in range(len(needs))]


runs = 0


def one() -> int:
    """Return 1, and count the call: what is found on disk must not be computed."""
    global runs
    runs += 1
    return 1


@contextlib.contextmanager
def nothing_runs() -> Iterator[None]:
    """Fail if `one` is called meanwhile."""
    before = runs
    yield
    assert runs == before, f"{runs - before} results were not found but computed"


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@functools.cache
def kept_folder(who: str, size: int) -> Path:
    """Return a folder that is gone when the process ends: for finished work that is found again and again."""
    folder = tempfile.TemporaryDirectory(prefix=f"benchmark-{who}-{size}-", ignore_cleanup_errors=True)
    atexit.register(folder.cleanup)
    return Path(folder.name)


def doit_run(folder: Path, tasks: list[dict[str, Any]]) -> Callable[[], int]:
    """Return a run of doit: `doit run` in this process, without output, its records in one JSON file.

    Of doit's three kinds of record file JSON is the fastest here.
    """
    from doit.cmd_base import ModuleTaskLoader
    from doit.doit_cmd import DoitMain

    def task_n() -> Generator[dict[str, Any], None, None]:
        yield from map(dict, tasks)  # it writes into them

    config = {
        "backend": "json",
        "dep_file": str(folder / "doit.json"),
        "reporter": "zero",
        "outfile": io.StringIO(),
    }
    loader = ModuleTaskLoader({"task_n": task_n, "DOIT_CONFIG": config})
    return lambda: DoitMain(loader).run(["run"])


def doit_tasks(needs: list[list[int]], **options: Any) -> list[dict[str, Any]]:
    """Return doit tasks with no-op actions; what they need is order only, which doit is fastest with."""
    return [
        {"name": str(i), "actions": [_true], "task_dep": [f"n:{each}" for each in needed], **options}
        for i, needed in enumerate(needs)
    ]


def _true() -> bool:
    return True
