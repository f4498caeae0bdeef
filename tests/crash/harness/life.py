"""Lives of runs whose processes are killed again and again, and what has to be true after each death."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from crash_harness.expected import CAUSES, JOBS, MORE
from crash_harness.processes import Born, Moment, Nursery, wait_until_gone
from crash_harness.rows import Effect, Rows, check_attempts, check_origins
from crash_harness.saved import Saved

from dotflow_like.model.records import RESULT
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Journal
from dotflow_like.record.keyvalue import KeyValueJournal
from dotflow_like.record.sql import SqlJournal
from dotflow_like.record.sqlite import Database
from dotflow_like.record.storage.files import FileStorage
from dotflow_like.record.storage.urls import open_place

JOB = str(Path(__file__).with_name("job.py"))
KILLED = (-signal.SIGKILL, -signal.SIGXFSZ, -signal.SIGTERM, 128 + signal.SIGTERM)
FAILED = 7  # what a job exits with when its run has failed as it was told to


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
        self._lock = threading.Lock()

    def new(self, storage: str, mode: str, **options: Any) -> Life:
        """Return another one; the options are those of `Life`."""
        with self._lock:
            folder = self._folder / f"life {len(self._all)}"
            self._all.append(Life(folder, storage, mode, self._nursery, **options))
            return self._all[-1]

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


def table(deaths: Counter[tuple[str, str]]) -> Iterator[str]:
    """Give the lines of a table of how often something has died."""
    yield "| what died, and where | files | SQLite |"
    yield "|---|---:|---:|"
    for way in sorted({way for way, _ in deaths}):
        yield f"| {way} | {deaths[way, 'files'] or '-'} | {deaths[way, 'sqlite'] or '-'} |"
    files, sqlite = (
        sum(n for (_, kind), n in deaths.items() if kind == each) for each in ("files", "sqlite")
    )
    yield f"| all | {files} | {sqlite} |"


class Life:
    """One run, from its first start to its end, however often its process is killed.

    Attributes:
        kind: where it is recorded: in `files` or in `sqlite`.
        kills: how often its process was killed.
        deaths: how something has died: its process, or a worker alone.
        recorded: the results that were seen in the journal so far; of those discarded only the new ones.

    Args:
        folder: to be made; all of it lies there.
        storage: where it is recorded: `files` or `sqlite`, and `full` or `process`.
        mode: how it runs.
        nursery: where its processes come from.
        workers: how they begin in parallel mode: `fork`, `spawn`; or `thread`.
        job: what it does: the `whole` of it; `small`, four tasks; or `speaking`, those that save and send signals.
        pause: seconds each body works.
        by_key: whether its processes know it by an idempotency key, and leave its id to chance.
        store: a folder of a storage that other runs use at the same time. Default: its own.
        name: its id.
    """

    def __init__(
        self,
        folder: Path,
        storage: str,
        mode: str,
        nursery: Nursery,
        *,
        workers: str = "fork",
        job: str = "whole",
        pause: float = 0,
        by_key: bool = False,
        store: Path | None = None,
        name: str = "job",
    ) -> None:
        self.kills = 0
        self.deaths: list[str] = []
        self.recorded: dict[str, str] = {}
        self._folder = folder
        self.kind, durability = storage.split()
        self._name = name
        self._store = store or folder
        self._is_shared = store is not None
        place = f"file://{self._store}/kept" if self.kind == "files" else f"sqlite:///{self._store}/runs.db"
        self._place = f"{place}?durability={durability}"
        self._order = {
            "folder": str(folder),
            "name": name,
            "storage": self._place,
            "mode": mode,
            "workers": workers,
            "job": job,
            "pause": pause,
            "by_key": by_key,
        }
        self._told = JOBS[job]
        self._speaks = job != "small"
        self._keys = set(self._told) | ({"skips", "ends"} if self._speaks else set())
        if job == "whole":
            self._keys = (self._keys - {"square"}) | {"parts", *(f"square[{at}]" for at in range(5))}
        self._saved = Saved()
        self._nursery = nursery
        self._by_key = by_key
        self._starts: list[str] = []
        self._told_to_fail = 0
        self._workers_killed = 0
        self._dying: Born | None = None
        self._discarded: dict[str, str] = {}
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
        over: bool = False,
        fails: bool = False,
    ) -> bool:
        """Start the run, or go on with it. Return whether it has completed.

        Args:
            moment: when to kill it.
            place: where it dies by itself: `statement`, `statement: BEGIN`, `touch`, `encoding begins`, ...; see
                `job.py`.
            number: at the how many-th time it comes there.
            who: what dies there: the `run`, or a `worker`, of which the run makes another one.
            size: it dies when a file wants to grow larger than so many bytes.
            fresh: begin with a new interpreter.
            over: start the completed run over; its results are discarded.
            fails: let its last task fail.
        """
        more = {"death": place and [place, number, who], "size": size, "over": over, "fails": fails}
        order = json.dumps(self._order | more)
        self._starts.append(f"{sys.executable} {JOB} '{order}'  # {moment}")
        self._told_to_fail += fails
        self._workers_killed += who == "worker"
        if over:
            self._discarded, self.recorded = self.recorded, {}
            self._crashes = None
        already = len(self._lines("ledger"))
        process = Born(None if fresh else self._nursery, JOB, [order], self._folder)
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
        while process.poll() is None and len(self._lines("ledger")) < already + moment.effects:
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
        if moment.politely and process.poll() is None:
            os.kill(process.pid, signal.SIGTERM)
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
        assert code in (0, FAILED, *KILLED), process.errors
        ordered = self._lines("deaths")
        (self._folder / "deaths").unlink(missing_ok=True)
        if code in KILLED:
            self.kills += 1
            ordered = ordered or [process.way]
        self.deaths += ordered
        if hasty:  # the next one is at work
            return False
        rows = self._rows()
        self._look(rows)
        if code == 0:
            self._check_the_end(rows)
        return code == 0

    # What it leaves

    def _lines(self, name: str) -> list[str]:
        path = self._folder / name
        return path.read_text().splitlines() if path.exists() else []

    def _effects(self) -> list[Effect]:
        fields = [line.rsplit(" ", 4) for line in self._lines("ledger")]
        return [Effect(key, int(at), int(fence), name, int(pid)) for key, at, fence, name, pid in fields]

    def _rows(self) -> Rows:
        with self._journal() as journal:
            workflow_id = journal.find("workflow", "key") if self._by_key else self._name
            run = None if workflow_id is None else journal.run(workflow_id)
            if run is None:
                return Rows(None, {}, {}, {}, None)
            tasks = journal.tasks(run.workflow_id, journal.task_keys(run.workflow_id))
            results = {
                key: json.dumps(record.checkpoints[RESULT].value.load())
                for key, record in tasks.items()
                if RESULT in record.checkpoints
            }
            saved = {
                key: {name: each.value.load() for name, each in record.checkpoints.items() if name != RESULT}
                for key, record in tasks.items()
            }
            return Rows(run, tasks, results, saved, journal.asked(run.workflow_id))

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        """Open the journal: of a database a copy, since to open it would tidy up what the next one has to."""
        if self.kind == "files":
            yield KeyValueJournal(FileStorage(self._store / "kept"), JsonCodec())
            return
        database = open_place(self._place if self._is_shared else self._copied())
        assert isinstance(database, Database)
        yield SqlJournal(database, JsonCodec())
        database.close()

    def _copied(self) -> str:
        """Return where a copy of its database is that SQLite calls sound."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("runs.db", "runs.db-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(self._folder / name, copy / name)
        if (copy / "runs.db").exists():
            with closing(sqlite3.connect(copy / "runs.db")) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return f"sqlite:///{copy}/runs.db?durability=process"

    def _look(self, rows: Rows) -> None:
        """See that what was recorded is there still, as it was, and that its effects were not repeated."""
        effects = self._effects()
        counts = Counter(each.key for each in effects)
        for key, result in self.recorded.items():
            assert rows.results.get(key) == result, f"the result of {key} was lost or changed"
            assert counts[key] == self._effects_when_recorded[key], f"{key} ran again after it was recorded"
        for key in rows.results.keys() - self.recorded.keys():
            if rows.results[key] != self._discarded.get(key):
                self.recorded[key] = rows.results[key]
                self._effects_when_recorded[key] = counts[key]
        for key, record in rows.tasks.items():
            check_attempts(record.attempts)
            won = [each for each in record.attempts if each.outcome is AttemptOutcome.SUCCESS]
            valid = [each for each in won if each.generation == record.generation]
            assert len(valid) == (key in rows.results), record
            assert len({each.generation for each in won}) == len(won), record
        self._saved.look(rows, self._lines("drawn"), self._lines("items"))
        self._check_fences(rows)
        fences = [each.fence for each in effects]
        assert fences == sorted(fences), "an orphan was at work when the run was taken over"
        begun = {(each.task_id, each.number) for each in rows.attempts if each.started_at is not None}
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

    def _check_the_end(self, rows: Rows) -> None:
        assert rows.run is not None
        assert rows.run.status is RunStatus.COMPLETED
        assert rows.asked is None, "a request outlives the run"
        assert json.loads((self._folder / "told").read_text()) == self._told
        assert rows.tasks.keys() == self._keys
        assert rows.results.keys() == self._keys - {"skips"}
        check_origins(rows)
        generations = {record.generation for record in rows.tasks.values()}
        assert len(generations) == 1 or self.kind == "files", "a part of the run was started over"
        effects = Counter((each.key, each.idempotency_key) for each in self._effects())
        ran = Counter((each.key, each.number) for each in self._effects())
        assert set(ran.values()) == {1}, "an attempt ran twice"
        for key, record in rows.tasks.items():
            name = f"{rows.run.workflow_id}/{key}/g{record.generation}"
            *earlier, last = [each for each in record.attempts if each.generation == record.generation]
            ended = AttemptOutcome.SKIPPED if key == "skips" else AttemptOutcome.SUCCESS
            assert last.outcome is ended, last
            failures = Counter(
                each.error.exception if each.error is not None else each.outcome for each in earlier
            )
            assert failures.keys() <= CAUSES
            assert failures[AttemptOutcome.RECOVERED] <= self.kills
            assert (
                failures["WorkerDied"] <= 2 * self._workers_killed
            )  # one runs a call, and has one in advance
            failed = (key == "flaky") + (key == "last") * self._told_to_fail
            assert failures["ValueError"] <= failed
            assert failures[AttemptOutcome.RETRIED] <= (key == "again")
            pauses = 3 if self._speaks else 0  # of `pauses` and `asks`, and what `ends` has asked
            # those by SIGTERM too; one that had not begun has an error that says so
            assert failures[AttemptOutcome.PAUSED] + failures["TaskCancelled"] <= pauses + self.kills
            deaths = self.kills + 2 * self._workers_killed + failed
            assert 1 <= effects[key, name] <= 1 + deaths + (key in MORE)
            assert (self._folder / "keyed" / name.replace("/", " ")).exists()
        names = [f"{rows.run.workflow_id} {key} g{number}" for key in self._keys for number in (1, 2)]
        assert {each.name for each in (self._folder / "keyed").iterdir()} <= set(names)
        called = Counter(self._lines("called"))
        assert all(count <= max(generations) for count in called.values()), "a callback was called again"
        if self._speaks:
            deaths = self.kills + 2 * self._workers_killed
            self._saved.check_the_end(rows, self._lines("drawn"), self._lines("items"), deaths)
        wait_until_gone({each.pid for each in self._effects()})
