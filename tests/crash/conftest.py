"""What the tests that kill share: tasks that go wrong, and a look at what they leave behind."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib.util
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from dotflow_like import Manager, task

MARK = "DOTFLOW_TEST_MARK"
"""A variable that tells the processes of one test, whoever their parent is."""

TIME_LIMIT = 0.5  # seconds, of bodies that never end by themselves


class Culprit(NamedTuple):
    """A body that goes wrong, and how that is to be seen.

    Attributes:
        body: what to run; it is local to a function, so that it travels by value.
        exception: name of the error's type; None for a body that strains the run and succeeds.
        words: what its message says.
        timeout: its time limit in seconds, if it would never end.
        is_right: tells whether its result is right, if it succeeds.
    """

    body: Callable[[], Any]
    exception: str | None
    words: str = ""
    timeout: float | None = None
    is_right: Callable[[Any], bool] | None = None

    @property
    def raises(self) -> bool:
        """Whether the error is one its body raised, with a traceback into it."""
        return self.exception not in (None, "WorkerDied", "NotSerializable", "TaskTimeout")


def _deaths() -> Iterator[tuple[str, Culprit]]:
    def exits() -> None:
        os._exit(3)

    def killed() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def crashes() -> None:
        faulthandler.disable()  # of the tests, which a fork has too
        ctypes.string_at(0)

    def terminated() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    def leaves_a_child() -> None:
        if os.fork() == 0:
            time.sleep(600)
        os._exit(4)

    def writes_everywhere(data: bytes) -> None:  # but into what a fork shares with the tests
        for descriptor in range(3, 64):
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                    os.write(descriptor, data)
        time.sleep(60)

    def noise() -> None:
        writes_everywhere(os.urandom(4096))

    def zeros() -> None:
        writes_everywhere(bytes(4096))

    yield "os._exit", Culprit(exits, "WorkerDied", "exit code 3")
    yield "SIGKILL", Culprit(killed, "WorkerDied", "signal SIGKILL")
    yield "SIGSEGV", Culprit(crashes, "WorkerDied", "signal SIGSEGV")
    yield "SIGTERM", Culprit(terminated, "WorkerDied", "signal SIGTERM")
    yield "leaves a child", Culprit(leaves_a_child, "WorkerDied", "exit code 4")
    yield "noise", Culprit(noise, "WorkerDied")
    yield "zeros", Culprit(zeros, "WorkerDied")


def _errors() -> Iterator[tuple[str, Culprit]]:
    def not_pickled() -> None:
        class Holding(ValueError):
            def __init__(self) -> None:
                super().__init__("held")
                self.lock = threading.Lock()

        raise Holding

    def not_unpickled() -> None:
        class Strict(Exception):
            def __init__(self, *, code: int) -> None:
                super().__init__(f"code {code}")

        raise Strict(code=7)

    def not_reduced() -> None:
        class Odd(Exception):
            def __reduce__(self) -> Any:
                raise RuntimeError("not to be reduced")

        raise Odd("an odd one")

    def mute() -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        raise Mute("never seen")

    def too_deep() -> int:
        def deeper(n: int) -> int:
            return deeper(n + 1) + 1

        return deeper(0)

    def no_memory() -> int:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20), hard))
        return len(bytearray(16 << 30))

    yield "error not pickled", Culprit(not_pickled, "Holding", "held")
    yield "error not unpickled", Culprit(not_unpickled, "Strict", "code 7")
    yield "error not reduced", Culprit(not_reduced, "Odd", "an odd one")
    yield "error without text", Culprit(mute, "Mute")
    yield "RecursionError", Culprit(too_deep, "RecursionError", "maximum recursion depth")
    if sys.platform == "linux":
        yield "MemoryError", Culprit(no_memory, "MemoryError")


def _results() -> Iterator[tuple[str, Culprit]]:
    def lock() -> Any:
        return threading.Lock()

    def nested() -> Any:
        value: list[Any] = []
        for _ in range(100_000):
            value = [value]
        return value

    def generator() -> Any:
        return (x for x in range(3))

    def open_file() -> Any:
        return Path(os.devnull).open()

    def exits_when_loaded() -> Any:
        class Trap:
            def __reduce__(self) -> Any:
                return os._exit, (5,)

        return Trap()

    def crash() -> None:
        faulthandler.disable()
        ctypes.string_at(0)

    def crashes_when_loaded() -> Any:
        class Trap:
            def __reduce__(self) -> Any:
                return crash, ()

        return [1, {"deep inside": Trap()}]

    yield "result not pickled", Culprit(lock, "NotSerializable", "lock")
    yield "result too deep", Culprit(nested, "NotSerializable", "ecursion")
    yield "generator", Culprit(generator, "NotSerializable", "generator")
    yield "open file", Culprit(open_file, "NotSerializable", "open file")
    yield "result exits when loaded", Culprit(exits_when_loaded, "WorkerDied", "exit code 5")
    yield "result crashes when loaded", Culprit(crashes_when_loaded, "WorkerDied", "signal SIGSEGV")


def _hangs() -> Iterator[tuple[str, Culprit]]:
    def never() -> None:
        threading.Event().wait()

    def spins() -> None:
        while True:
            pass

    def holds_the_gil() -> None:
        ctypes.PyDLL(None).sleep(600)

    def waits_for_a_child() -> None:
        subprocess.run(["sleep", "600"])

    def waits_for_grandchildren() -> None:
        start = (
            "import subprocess as s; s.Popen(['sleep', '600'], start_new_session={}); s.run(['sleep', '600'])"
        )
        subprocess.Popen([sys.executable, "-S", "-c", start.format("True")])
        subprocess.run([sys.executable, "-S", "-c", start.format("False")], start_new_session=True)

    def breeds() -> None:
        subprocess.run(["sh", "-c", "while :; do sleep 600 & sleep 0.005; done"])

    def stops() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def runs_another() -> None:
        Manager([task(never)], mode="parallel", max_workers=2)

    def heals() -> None:  # what stops it is caught, and it goes on
        while True:
            try:
                time.sleep(60)
            except BaseException:
                continue

    for body in (
        never,
        spins,
        stops,
        heals,
        holds_the_gil,
        waits_for_a_child,
        waits_for_grandchildren,
        breeds,
        runs_another,
    ):
        yield body.__name__, Culprit(body, "TaskTimeout", f"{TIME_LIMIT:g} s", TIME_LIMIT)


def _strains() -> Iterator[tuple[str, Culprit]]:
    def forks() -> str:  # and both return
        os.fork()
        return "one of two"

    yield "forks", Culprit(forks, None, is_right=lambda result: result == "one of two")


def _large(size: int) -> Culprit:
    def large() -> bytes:
        return bytes(range(256)) * (size // 256)

    return Culprit(large, None, is_right=lambda result: result == large())


CULPRITS = {**dict(_deaths()), **dict(_errors()), **dict(_results()), **dict(_hangs()), **dict(_strains())}
LARGE = {"64 MiB": _large(64 << 20), "1 GiB": _large(1 << 30)}


@pytest.fixture(params=[*CULPRITS, "64 MiB", pytest.param("1 GiB", marks=pytest.mark.crash)])
def culprit(request: pytest.FixtureRequest) -> Culprit:
    """Each body that goes wrong in turn, and results of a size that hurts."""
    return (CULPRITS | LARGE)[request.param]


@pytest.fixture
def culprits() -> dict[str, Culprit]:
    """Every body that goes wrong, by name."""
    return CULPRITS


class Processes:
    """The processes that have the mark of a test in their environment.

    Attributes:
        environment: one that has the mark.
    """

    def __init__(self, mark: str) -> None:
        self._entry = f"{MARK}={mark}".encode()
        self.environment = {**os.environ, MARK: mark}

    def alive(self) -> set[int]:
        """Return those that run; this one is not among them."""
        return {pid for pid in _pids() if pid != os.getpid() and self._is_marked(pid)}

    def strays(self) -> set[int]:
        """Return those that are no workers of this process: somebody's child, or nobody's."""
        return self.alive() - self.children()

    def children(self) -> set[int]:
        """Return the children of this process, those too that have ended and that nobody has waited for."""
        return {pid for pid in _pids() if _stat(pid)[1] == str(os.getpid())}

    def zombies(self) -> set[int]:
        """Return those of them that have ended."""
        return {pid for pid in self.children() if _stat(pid)[0] == "Z"}

    def descendants(self) -> set[int]:
        """Return the children of this process, theirs, and so on."""
        parents = {pid: int(_stat(pid)[1]) for pid in _pids()}
        found, layer = set[int](), {os.getpid()}
        while layer:
            layer = {pid for pid, parent in parents.items() if parent in layer} - found
            found |= layer
        return found

    def _is_marked(self, pid: int) -> bool:
        try:
            return self._entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is not ours
            return False


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    """The processes of this test: it puts a mark of its own into the environment. Strays do not outlive it."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
    mark = os.urandom(8).hex()
    monkeypatch.setenv(MARK, mark)
    found = Processes(mark)
    yield found
    for pid in found.strays():
        os.kill(pid, signal.SIGKILL)


def _pids() -> set[int]:
    return {int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()}


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["gone", "0"]


@pytest.fixture
def until() -> Callable[..., float]:
    """A function that waits for a condition, for so many seconds at most, and returns how long it took."""

    def wait(condition: Callable[[], object], what: str, seconds: float = 30) -> float:
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() < begun + seconds, f"{what} did not come"
            time.sleep(0.005)
        return time.monotonic() - begun

    return wait


def _harness() -> ModuleType:
    """Import the package in the folder `harness`, which no path leads to."""
    name = "crash_harness"
    if name not in sys.modules:
        file = Path(__file__).parent / "harness" / "__init__.py"
        spec = importlib.util.spec_from_file_location(
            name, file, submodule_search_locations=[str(file.parent)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="module")
def nursery() -> Iterator[Any]:
    """Begins processes that have the package loaded already; see `harness`."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    nursery = _harness().Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def lives(tmp_path: Path, nursery: Any) -> Iterator[Any]:
    """Makes runs that are killed; see `harness`."""
    lives = _harness().Lives(tmp_path, nursery)
    yield lives
    deaths.update(lives.deaths())


deaths: Counter[tuple[str, str]] = Counter()
"""How often something has died in this session, by how it did and by where the run was recorded."""


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table of docs/explanation/crash-tests.md, if that was asked for."""
    if deaths and config.option.markexpr == "crash":
        terminalreporter.section("deaths")
        for line in _harness().table(deaths):
            terminalreporter.write_line(line)
