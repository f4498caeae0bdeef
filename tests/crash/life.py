"""Lives of runs whose processes are killed again and again, and what has to be true after each death."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import dotflow_like
from dotflow_like.model.records import RESULT, Attempt, RunRecord, TaskRecord
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.keyvalue import KeyValueJournal
from dotflow_like.record.sql import SqlJournal
from dotflow_like.record.sql_statements import MIGRATIONS
from dotflow_like.record.sqlite import Database
from dotflow_like.record.storage.files import FileStorage

HERE = Path(__file__).parent
PACKAGE = str(Path(dotflow_like.__file__).parent.parent)
MODES = ["sequential", "sequential_group", "background", "parallel"]
STORAGES = ["files full", "files process", "sqlite full", "sqlite process"]
KILLED = {-signal.SIGKILL, -signal.SIGXFSZ}
WAIT = 50  # seconds for what takes one or two

NUMBERS = {
    "a": 1, "b": 1, "c": 1, "d": 3, "e": 3, "flaky": 2, "f": 4, "g": 7, "h": 4,
    "square": [4, 16, 36, 64, 100], "i": 8, "gather": 228, "last": 233,
}  # fmt: skip
KEYS = {*(NUMBERS.keys() - {"square"}), "parts", *(f"square[{at}]" for at in range(5))}
SMALL = {"a": 1, "b": 1, "flaky": 2, "last": 4}


class Effect(NamedTuple):
    """A line of the ledger: a body that ran."""

    key: str
    number: int
    fence: int
    idempotency_key: str
    pid: int


class Rows(NamedTuple):
    """What the journal holds."""

    run: RunRecord | None
    tasks: dict[str, TaskRecord]

    @property
    def attempts(self) -> list[Attempt]:
        """Every attempt."""
        return [each for record in self.tasks.values() for each in record.attempts]

    def results(self) -> dict[str, str]:
        """Every result that is recorded, as text."""
        found = ((key, record.checkpoints.get(RESULT)) for key, record in self.tasks.items())
        return {key: json.dumps(kept.value.load()) for key, kept in found if kept is not None}


class Moment(NamedTuple):
    """When to kill a process.

    Attributes:
        effects: after so many bodies have begun,
        seconds: and so many seconds later.
        worker: whether one of its workers is killed before it.
        hasty: whether the next process is started before this one's end is seen.
    """

    effects: int
    seconds: float
    worker: bool = False
    hasty: bool = False

    @classmethod
    def chosen(cls, chance: random.Random, *, fresh: bool) -> Moment:
        """Return one at random; a fresh interpreter takes longer to begin its work."""
        effects = chance.choice([0, 0, 1, 1, 2, 2, 3, 5, 8])
        latest = 0.008 if effects else 0.3 if fresh else 0.06
        return cls(effects, chance.uniform(0, latest), chance.random() < 0.2, chance.random() < 0.3)


class Nursery:
    """Processes that begin quickly, as `nursery.py` describes."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(HERE / "nursery.py")],
            env={**os.environ, "PYTHONPATH": PACKAGE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **order: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def born(self, script: str, arguments: list[str], folder: Path) -> Born:
        """Return a new process that runs a script, and writes `out` and `errors` in a folder."""
        return Born(self, script, arguments, folder)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(WAIT)
        self._process.stdout.close()


class Born:
    """A process, begun in the nursery or as a fresh interpreter; it leads a session of its own."""

    def __init__(self, nursery: Nursery | None, script: str, arguments: list[str], folder: Path) -> None:
        self.returncode: int | None = None
        self.way = "where it was told to"
        self._folder = folder
        self._nursery = nursery
        self._process: subprocess.Popen[bytes] | None = None
        if nursery is not None:
            self.pid = nursery.ask(script=script, arguments=arguments, folder=str(folder))
            return
        with (folder / "out").open("wb") as out, (folder / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", script, *arguments],
                env={**os.environ, "PYTHONPATH": PACKAGE},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def errors(self) -> str:
        return (self._folder / "errors").read_text()

    def poll(self) -> int | None:
        if self.returncode is None:
            if self._process is not None:
                self.returncode = self._process.poll()
            else:
                assert self._nursery is not None
                self.returncode = self._nursery.ask(wait=self.pid)
        return self.returncode

    def wait(self, seconds: float = WAIT) -> int:
        """Return how it ended.

        Raises:
            TimeoutError: it has not by then.
        """
        until = time.monotonic() + seconds
        while self.poll() is None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"process {self.pid} has not ended after {seconds:g} s")
            _wait_for_end(self.pid, left)
        assert self.returncode is not None
        return self.returncode

    def check_going(self, since: float) -> None:
        """Fail if it has been at work for too long; what it hangs in is shown."""
        if time.monotonic() < since + WAIT or self.poll() is not None:
            return
        os.kill(self.pid, signal.SIGABRT)
        with suppress(TimeoutError):
            self.wait(5)
        raise AssertionError(f"process {self.pid} hangs:\n{self.errors}")

    def kill(self) -> None:
        """Kill its group, if it has not ended."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)

    def workers(self) -> list[int]:
        """Return its children, where the system tells."""
        with suppress(OSError):
            return [
                int(pid)
                for each in Path(f"/proc/{self.pid}/task").iterdir()
                for pid in (each / "children").read_text().split()
            ]
        return []


class Lives:
    """Makes lives, and counts how they are ended.

    Args:
        folder: where they lie.
        nursery: where their processes come from.
    """

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self._folder = folder
        self._nursery = nursery
        self._all: list[Life] = []

    def new(self, storage: str, mode: str, **options: Any) -> Life:
        """Return another one; the options are those of `Life`."""
        life = Life(self._folder / f"life {len(self._all)}", storage, mode, self._nursery, **options)
        self._all.append(life)
        return life

    def moment(self, chance: random.Random, *, fresh: bool) -> Moment:
        """Return a random moment to kill a process at."""
        return Moment.chosen(chance, fresh=fresh)

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(each.kills for each in self._all)

    def deaths(self) -> Counter[tuple[str, str]]:
        """Return how often something has died, by how it did and by where it was recorded."""
        return Counter((way, each.kind) for each in self._all for way in each.deaths)


class Life:
    """One run, from its first start to its end, however often its process is killed.

    Attributes:
        kind: where it is recorded: in `files` or in `sqlite`.
        kills: how often its process was killed.
        deaths: how something has died: its process, or a worker alone.
        recorded: the results that were seen in the journal so far.

    Args:
        folder: to be made; all of it lies there.
        storage: where it is recorded; one of `STORAGES`.
        mode: how it runs.
        nursery: where its processes come from.
        workers: how they begin in parallel mode: `fork`, `spawn`; or `thread`.
        small: whether it has four tasks instead of fourteen.
        pause: seconds each body works.
    """

    def __init__(
        self,
        folder: Path,
        storage: str,
        mode: str,
        nursery: Nursery,
        *,
        workers: str = "fork",
        small: bool = False,
        pause: float = 0,
    ) -> None:
        self.kills = 0
        self.deaths: list[str] = []
        self.recorded: dict[str, str] = {}
        self._folder = folder
        self.kind, durability = storage.split()
        place = f"file://{folder}/kept" if self.kind == "files" else f"sqlite:///{folder}/runs.db"
        self._order = {
            "folder": str(folder),
            "storage": f"{place}?durability={durability}",
            "mode": mode,
            "workers": workers,
            "small": small,
            "pause": pause,
        }
        self._keys = set(SMALL) if small else KEYS
        self._told = SMALL if small else NUMBERS
        self._nursery = nursery
        self._starts: list[str] = []
        self._workers_killed = 0
        self._dying: Born | None = None
        self._effects_when_recorded: Counter[str] = Counter()
        self._crashes: tuple[int, int] | None = None
        folder.mkdir(parents=True)

    def start(
        self,
        moment: Moment | None = None,
        *,
        place: str | None = None,
        number: int = 1,
        who: str = "run",
        size: int | None = None,
        fresh: bool = False,
    ) -> bool:
        """Start the run, or go on with it. Return whether it has completed.

        Args:
            moment: when to kill it.
            place: where it dies by itself: `statement`, `touch`, `encoding begins`, ...; see `job.py`.
            number: at the how many-th time it comes there.
            who: what dies there: the `run`, or a `worker`, of which the run makes another one.
            size: it dies when a file wants to grow larger than so many bytes.
            fresh: begin with a new interpreter.
        """
        order = json.dumps(self._order | {"death": place and [place, number, who], "size": size})
        self._starts.append(f"{sys.executable} {HERE / 'job.py'} '{order}'  # {moment}")
        self._workers_killed += who == "worker"
        already = self._ledger_lines()
        process = Born(None if fresh else self._nursery, str(HERE / "job.py"), [order], self._folder)
        if moment is not None:
            process.way = "at a random moment" + ", of a new interpreter" * fresh
        if size is not None:
            process.way = "in the middle of a write"
        try:
            if self._dying is not None:
                self._bury(self._dying)
            if moment is not None:
                self._kill(process, moment, already)
                if moment.hasty:
                    self._dying = process
                    return False
            return self._bury(process)
        except BaseException:
            process.kill()
            print("the processes of this run:", *self._starts, sep="\n")
            raise

    def _kill(self, process: Born, moment: Moment, already: int) -> None:
        begun = time.monotonic()
        while process.poll() is None and self._ledger_lines() < already + moment.effects:
            process.check_going(begun)
            time.sleep(0.0003)
        with suppress(TimeoutError):
            process.wait(moment.seconds)
        if moment.worker:
            for pid in process.workers()[:1]:
                self._workers_killed += 1
                self.deaths.append("at a random moment, a worker alone")
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with suppress(TimeoutError):
                process.wait(moment.seconds)
        process.kill()

    def _bury(self, process: Born) -> bool:
        """See how a process has ended, and what it leaves behind."""
        hasty, self._dying = self._dying is process, None
        begun = time.monotonic()
        try:
            code = process.wait()
        except TimeoutError:
            process.check_going(begun)
            raise
        assert code == 0 or code in KILLED, process.errors
        ordered = self._lines("deaths")
        (self._folder / "deaths").unlink(missing_ok=True)
        if code != 0:
            self.kills += 1
            ordered = ordered or [process.way]
        self.deaths += ordered
        if not hasty:  # else the next one is at work
            self._look()
        if code == 0 and not hasty:
            self._check_the_end()
        return code == 0

    # What it leaves

    def _ledger_lines(self) -> int:
        return len(self._lines("ledger"))

    def _lines(self, name: str) -> list[str]:
        path = self._folder / name
        return path.read_text().splitlines() if path.exists() else []

    def effects(self) -> list[Effect]:
        fields = [line.rsplit(" ", 4) for line in self._lines("ledger")]
        return [Effect(key, int(at), int(fence), name, int(pid)) for key, at, fence, name, pid in fields]

    def rows(self) -> Rows:
        """Read the journal. A database is read from a copy: to open it would tidy up what the next one has to."""
        with self._journal() as journal:
            run = journal.run("job")
            return Rows(run, {} if run is None else journal.tasks("job", journal.task_keys("job")))

    @contextmanager
    def _journal(self) -> Iterator[Any]:
        if self.kind == "files":
            yield KeyValueJournal(FileStorage(self._folder / "kept"), JsonCodec())
            return
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("runs.db", "runs.db-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(self._folder / name, copy / name)
        if (copy / "runs.db").exists():
            with closing(sqlite3.connect(copy / "runs.db")) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database = Database(str(copy / "runs.db"), "process", str(copy / "locks"), MIGRATIONS)
        try:
            yield SqlJournal(database, JsonCodec())
        finally:
            database.close()

    def _look(self) -> None:
        """See that what was recorded is there still, as it was, and that its effects were not repeated."""
        effects = self.effects()
        counts = Counter(each.key for each in effects)
        with self._journal() as journal:
            run = journal.run("job")
            rows = Rows(run, {} if run is None else journal.tasks("job", journal.task_keys("job")))
            results = rows.results()
        for key, result in self.recorded.items():
            assert results.get(key) == result, f"the result of {key} was lost or changed"
            assert counts[key] == self._effects_when_recorded[key], f"{key} ran again after it was recorded"
        for key in results.keys() - self.recorded.keys():
            self.recorded[key] = results[key]
            self._effects_when_recorded[key] = counts[key]
        for key, record in rows.tasks.items():
            won = [each for each in record.attempts if each.outcome is AttemptOutcome.SUCCESS]
            assert len(won) == (key in results), record
            assert [each.number for each in record.attempts] == list(range(1, len(record.attempts) + 1))
        for attempt in rows.attempts:
            check_attempt(attempt)
        self._check_fences(rows)
        # bodies of an owner never run after those of the next one have begun
        fences = [each.fence for each in effects]
        assert fences == sorted(fences), "an orphan was at work when the run was taken over"
        # a row stands for every body that ran
        begun = {(each.task_id, each.number): each for each in rows.attempts if each.started_at is not None}
        for effect in effects:
            assert (effect.key, effect.number) in begun, f"{effect} ran before its row was written"

    def _check_fences(self, rows: Rows) -> None:
        """See that a former owner's attempts are closed, and that crashes are counted."""
        run = rows.run
        if run is None:
            return
        own = [each for each in rows.attempts if each.fence == run.fence]
        left = [each for each in rows.attempts if each.status is AttemptStatus.RUNNING]
        # files are taken over one by one: who died in the middle of it has begun nothing
        in_the_middle = self.kind == "files" and not own
        assert in_the_middle or all(each.fence == run.fence for each in left), left
        if self._crashes is not None and run.fence == self._crashes[0] + 1:
            assert run.crashes == self._crashes[1]
        statuses = {each.status for each in own}
        died = run.status is RunStatus.RUNNING and AttemptStatus.RUNNING in statuses
        before = 0 if AttemptStatus.COMPLETED in statuses else run.crashes
        self._crashes = run.fence, before + died

    def _check_the_end(self) -> None:
        rows = self.rows()
        assert rows.run is not None
        assert rows.run.status is RunStatus.COMPLETED
        assert json.loads((self._folder / "told").read_text()) == self._told
        assert rows.tasks.keys() == self._keys == self.recorded.keys()
        by_key: dict[str, list[Effect]] = {}
        for effect in self.effects():
            by_key.setdefault(effect.key, []).append(effect)
        assert by_key.keys() == self._keys
        for key, record in rows.tasks.items():
            *earlier, last = record.attempts
            assert (last.status, last.outcome) == (AttemptStatus.COMPLETED, AttemptOutcome.SUCCESS)
            failures = Counter(
                each.error.exception if each.error is not None else each.outcome for each in earlier
            )
            assert failures[AttemptOutcome.RECOVERED] <= self.kills
            assert failures["WorkerDied"] <= 2 * self._workers_killed  # one runs a call, and has one in advance
            assert failures["ValueError"] <= (key == "flaky")
            assert failures.keys() <= {AttemptOutcome.RECOVERED, "WorkerDied", "ValueError"}
            assert record.generation == 1
            effects = by_key[key]
            deaths = self.kills + 2 * self._workers_killed + (key == "flaky")
            assert 1 <= len(effects) <= 1 + deaths
            assert len({each.number for each in effects}) == len(effects), f"an attempt of {key} ran twice"
            assert {each.idempotency_key for each in effects} == {f"job/{key}/g1"}
        made = {each.name: each.read_text() for each in (self._folder / "keyed").iterdir()}
        assert made.keys() == {f"job {key} g1" for key in self._keys}
        called = Counter(self._lines("called"))
        assert set(called.values()) <= {1}, "a callback was called again"
        self._wait_until_all_are_gone()

    def _wait_until_all_are_gone(self) -> None:
        pids = {each.pid for each in self.effects()}
        deadline = time.monotonic() + 30
        while pids := {pid for pid in pids if _is_alive(pid)}:
            assert time.monotonic() < deadline, f"processes {pids} outlived their run"
            time.sleep(0.01)


def check_attempt(attempt: Attempt) -> None:
    """See that the row of an attempt makes sense in itself."""
    closed = attempt.finished_at is not None
    assert closed == (attempt.status not in (AttemptStatus.SCHEDULED, AttemptStatus.RUNNING)), attempt
    assert closed == (attempt.outcome is not None), attempt
    assert (attempt.started_at is None) == (attempt.status is AttemptStatus.SCHEDULED), attempt
    assert attempt.started_at is None or attempt.started_at >= attempt.scheduled_at, attempt
    if attempt.finished_at is not None:
        assert attempt.started_at is not None, attempt
        assert attempt.finished_at >= attempt.started_at, attempt


def _wait_for_end(pid: int, seconds: float) -> None:
    """Wait until a process has ended, or for so long; or a little."""
    if not hasattr(os, "pidfd_open"):
        time.sleep(min(seconds, 0.005))
        return
    descriptor = os.pidfd_open(pid)
    try:
        select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):  # gone; or its number is somebody else's by now
        return False
    if not Path("/proc/self").exists():
        return True
    try:  # a process that has ended may wait for somebody to take note of it
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
