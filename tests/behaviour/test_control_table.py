"""What follows from what a task does: the table of docs/reference/control.md, in every mode and on every journal."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import (
    Attempt,
    Config,
    IllegalMove,
    Manager,
    MemoryStorage,
    RetryPolicy,
    Run,
    Task,
    Workflow,
    task,
)
from dotflow_like.config import open_journal
from dotflow_like.model.records import RunRecord
from dotflow_like.model.status import AttemptStatus, RunStatus
from dotflow_like.record.journal import Journal

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "control.md"

Ends = tuple[tuple[str, str], ...]
"""Status and outcome of each attempt."""

RETURNS = ("completed", "success")
FAILS = ("failed", "failed")
RETRIES = ("failed", "retried")
SKIPS = ("skipped", "skipped")


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        make: makes the task.
        ends: how its attempts end.
        task: its status then.
        run: the run's.
        later: that of a task after it.
        resumed: how the attempts end that a resume of the run adds, after which all is completed; None where
            it adds none.
        signal: what the row of the last attempt says about it: the word, and the reason.
        error: the error in the row of the last attempt.
        workers: whether it takes a worker process.
        options: of the run.
    """

    make: Callable[[], Task[..., Any]]
    ends: Ends
    task: str = "completed"
    run: str = "completed"
    later: str = "completed"
    resumed: Ends | None = None
    signal: tuple[str, str] | None = None
    error: str | None = None
    workers: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cells(self) -> list[str]:
        """What the documentation says of it."""
        added = "" if self.resumed is None else shown(self.resumed)
        return [
            shown(self.ends),
            str(len(self.ends)),
            f"`{self.task}`",
            f"`{self.run}`",
            f"`{self.later}`",
            added,
        ]


def shown(ends: Ends) -> str:
    grouped = [(status, outcome, len([*same])) for (status, outcome), same in groupby(ends)]
    return ", ".join(
        f"`{status}` / `{outcome}`" + (f" × {times}" if times > 1 else "")
        for status, outcome, times in grouped
    )


def body(does: Callable[[Any], Any], until: int = 1, **options: Any) -> Callable[[], Task[..., Any]]:
    """Return what makes a task that does something in its first attempts, and returns in those that follow."""

    def it(ctx: Any) -> str:
        if ctx.attempt.number <= until:
            does(ctx)
        return "done"

    return lambda: task(it, **options)


def fail(ctx: Any) -> None:
    raise ValueError("why")


def first(ctx: Any) -> bool:
    return bool(ctx.attempt.number == 1)


def first_of_it(ctx: Any) -> bool:
    return ctx.task_id == "it" and first(ctx)


def not_first(ctx: Any) -> bool:
    return bool(ctx.attempt.number > 1)


def broken(ctx: Any) -> bool:
    if ctx.attempt.number == 1:
        raise ValueError("why")
    return False


def nothing(ctx: Any) -> None:
    pass


def made_by(**options: Any) -> tuple[str, str]:
    """Return what is recorded of what this option made of an error."""
    (word,) = options.values()
    return word, "ValueError: why"


TWICE: Any = {then: RetryPolicy(max_attempts=2, then=then) for then in ("skip", "pause", "cancel")}

ROWS = {
    "it returns": Row(body(nothing), (RETURNS,)),
    "it raises": Row(
        body(fail), (FAILS,), "failed", "failed", "pending", resumed=(RETURNS,), error="ValueError"
    ),
    "it raises, and has tries left": Row(body(fail, retry=2), (RETRIES, RETURNS)),
    "it raises until its `retry=4` tries are used up": Row(
        body(fail, until=4, retry=4), (*[RETRIES] * 3, FAILS),
        "failed", "failed", "pending", resumed=(RETURNS,), error="ValueError",
    ),
    "it raises, `on_exception=\"retry\"`, and has tries left": Row(
        body(fail, retry=2, retry_on=KeyError, on_exception="retry"), (RETRIES, RETURNS)
    ),
    "it raises, `on_exception=\"skip\"`": Row(
        body(fail, on_exception="skip"), (SKIPS,), "skipped", signal=made_by(x="skip"), error="ValueError"
    ),
    "it raises, `on_exception=\"pause\"`": Row(
        body(fail, on_exception="pause"), (FAILS,),
        "paused", "paused", "pending", resumed=(RETURNS,), signal=made_by(x="pause"), error="ValueError",
    ),
    "it raises, `on_exception=\"cancel\"`": Row(
        body(fail, on_exception="cancel"), (FAILS,),
        "cancelled", "cancelled", "pending", resumed=(RETURNS,), signal=made_by(x="cancel"), error="ValueError",
    ),
    "it raises until its two tries are used up, `then=\"skip\"`": Row(
        body(fail, until=2, retry=TWICE["skip"]), (RETRIES, SKIPS),
        "skipped", signal=made_by(x="skip"), error="ValueError",
    ),
    "it raises until its two tries are used up, `then=\"pause\"`": Row(
        body(fail, until=2, retry=TWICE["pause"]), (RETRIES, FAILS),
        "paused", "paused", "pending", resumed=(RETURNS,), signal=made_by(x="pause"), error="ValueError",
    ),
    "it raises until its two tries are used up, `then=\"cancel\"`": Row(
        body(fail, until=2, retry=TWICE["cancel"]), (RETRIES, FAILS),
        "cancelled", "cancelled", "pending", resumed=(RETURNS,), signal=made_by(x="cancel"), error="ValueError",
    ),
    "`ctx.skip()`": Row(
        body(lambda ctx: ctx.skip("why")), (SKIPS,), "skipped", signal=("skip", "why")
    ),
    "`skip_if` holds": Row(
        body(nothing, skip_if=first), (SKIPS,), "skipped", signal=("skip", "skip_if")
    ),
    "`run_if` does not hold": Row(
        body(nothing, run_if=not_first), (SKIPS,), "skipped", signal=("skip", "run_if")
    ),
    "`ctx.retry()`, twice": Row(
        body(lambda ctx: ctx.retry("why"), until=2), (("completed", "retried"), ("completed", "retried"), RETURNS)
    ),
    "`ctx.pause()`": Row(
        body(lambda ctx: ctx.pause("why")), (("cancelled", "paused"),),
        "paused", "paused", "pending", resumed=(RETURNS,), signal=("pause", "why"),
    ),
    "`ctx.cancel()`": Row(
        body(lambda ctx: ctx.cancel("why")), (("cancelled", "cancelled"),),
        "cancelled", "cancelled", "pending", resumed=(RETURNS,), signal=("cancel", "why"),
    ),
    "`cancel_if` holds": Row(
        body(nothing), (("cancelled", "cancelled"),),
        "cancelled", "cancelled", "pending", resumed=(RETURNS,), signal=("cancel", "cancel_if"), options={"cancel_if": first_of_it},
    ),
    "`ctx.finish()`": Row(
        body(lambda ctx: ctx.finish("why")), (RETURNS,), later="skipped", signal=("finish", "why")
    ),
    "a condition raises": Row(
        body(nothing, skip_if=broken), (FAILS,),
        "failed", "failed", "pending", resumed=(RETURNS,), error="ValueError",
    ),
    "its worker process dies": Row(
        body(lambda ctx: os._exit(3)), (FAILS,),
        "failed", "failed", "pending", resumed=(RETURNS,), error="WorkerDied", workers=True,
    ),
    "its time is up": Row(
        body(lambda ctx: time.sleep(60), timeout=0.05), (("failed", "timed_out"),),
        "failed", "failed", "pending", resumed=(RETURNS,), error="TaskTimeout", workers=True,
    ),
    "its time is up, and it has tries left": Row(
        body(lambda ctx: time.sleep(60), timeout=0.05, retry=2), (("failed", "timed_out"), RETURNS), workers=True
    ),
}  # fmt: skip

RECOVERED = "its process dies, and the run is resumed"
ROW_OF_RECOVERED = Row(body(nothing), (("failed", "recovered"), RETURNS))

WAYS: dict[str, dict[str, Any]] = {
    "sequential": {},
    "sequential_group": {"mode": "sequential_group"},
    "background": {"mode": "background"},
    "threads": {"mode": "parallel", "executor": "thread", "max_workers": 2},
    "inline": {"mode": "parallel", "executor": "inline"},
    "processes": {"mode": "parallel", "max_workers": 2},
    "isolated": {},
}
IN_WORKERS = ("processes", "isolated")

PLACES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda folder: None,
    "MemoryStorage": lambda folder: MemoryStorage(),
    "files": lambda folder: folder / "files",
    "sqlite": lambda folder: f"sqlite:///{folder}/runs.db?durability=process",
}


def cases(places_of: Callable[[int], list[str]]) -> list[Any]:
    """Return row, way and place of each case, given the places of the case of a number."""
    pairs = [
        (what, way) for what, row in ROWS.items() for way in WAYS if not row.workers or way in IN_WORKERS
    ]
    return [
        pytest.param(what, way, place, id=f"{re.sub('[^a-z0-9=]+', ' ', what).strip()}-{way}-{place}")
        for number, (what, way) in enumerate(pairs)
        for place in places_of(number)
    ]


ALL = [*PLACES]
EACH_MODE = cases(lambda number: [ALL[(number + number // len(ALL)) % len(ALL)]])
EVERYWHERE = cases(lambda number: ALL)


def tasks_of(row: Row, way: str) -> list[Task[..., Any]]:
    """Return a task before the one of a row, the one, and one after it."""
    options: Any = {"isolate": True} if way == "isolated" else {}
    it = row.make().with_options(name="it", **options)
    before = task(lambda: "before", name="before", **options)
    later = task(lambda: "later", name="later", **options)
    return [before, it.after(before), later.after(it)]


def journal_of(storage: Any) -> Journal:
    """Return the journal there, as another process would open it."""
    return open_journal(Config(storage=storage), Workflow([]))


def ends_of(attempts: list[Attempt]) -> Ends:
    return tuple((each.status.value, str(each.outcome)) for each in attempts)


def attempts_of(run: Run, storage: Any, key: str = "it") -> list[Attempt]:
    """Return the attempts of a task as they are recorded, which is as the run shows them."""
    shown = [*run[key].attempts]
    if storage is not None:
        recorded = [each for each in journal_of(storage).attempts("run") if each.task_id == key]
        assert recorded == shown
        assert [each.error for each in recorded] == [each.error for each in shown]
    assert [each.number for each in shown] == [*range(1, len(shown) + 1)]
    return shown


def row_of(run: Run, storage: Any) -> tuple[str, str | None]:
    """Return status and reason of a run as they are recorded, which is as the run shows them."""
    found = (str(run.status), run.reason)
    if storage is not None:
        record = journal_of(storage).run("run")
        assert record is not None
        assert (str(record.status), record.reason) == found
        assert record.finished_at is not None
    return found


def check(row: Row, way: str, storage: Any) -> None:
    tasks = tasks_of(row, way)
    options = (
        WAYS[way]
        | dict(row.options)
        | {"workflow_id": "run", "storage": storage, "on_failure": lambda tasks: None}
    )
    run = Manager(tasks, **options).wait()

    attempts = attempts_of(run, storage)
    assert ends_of(attempts) == row.ends
    assert run["it"].status == row.task
    assert run["it"].retry_count == len(row.ends) - 1
    assert row_of(run, storage)[0] == row.run
    assert run["later"].status == row.later
    assert run["it"].result == ("done" if row.ends[-1] == RETURNS and row.signal is None else None)
    last = attempts[-1]
    word, reason = row.signal or (None, None)
    assert (last.metadata.get("signal"), last.metadata.get("signal_reason")) == (word, reason)
    assert (None if last.error is None else last.error.exception) == row.error
    if row.run in ("paused", "cancelled"):
        assert run.reason is not None
        assert "'it'" in run.reason
        assert reason in run.reason
    if row.later != "completed":
        assert attempts_of(run, storage, "later") == []
    if row.later == "skipped":
        assert run["later"].reason == "finished"
    assert run.cancel() is False
    with pytest.raises(IllegalMove):
        run.pause()
    if storage is None:
        return

    again = Manager(tasks, resume=True, **options).wait()
    attempts = attempts_of(again, storage)
    assert ends_of(attempts) == row.ends + (row.resumed or ())
    assert attempts[: len(row.ends)] == [*run["it"].attempts]
    assert row_of(again, storage)[0] == "completed"
    assert again["it"].status == ("completed" if row.resumed else row.task)
    assert again["later"].status == ("completed" if row.resumed else row.later)
    assert again["later"].reason == (None if row.resumed else run["later"].reason)
    assert len(attempts_of(again, storage, "later")) == (again["later"].status == "completed")
    assert len(attempts_of(again, storage, "before")) == 1


@pytest.mark.parametrize(("what", "way", "place"), EACH_MODE)
def test_each_row_holds_in_every_mode(what: str, way: str, place: str, tmp_path: Path) -> None:
    check(ROWS[what], way, PLACES[place](tmp_path))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("what", [what for what, row in ROWS.items() if not row.workers])
def test_each_row_holds_on_every_journal(what: str, place: str, tmp_path: Path) -> None:
    check(ROWS[what], "sequential", PLACES[place](tmp_path))


@pytest.mark.crash
@pytest.mark.parametrize(("what", "way", "place"), EVERYWHERE)
def test_each_row_holds_in_every_mode_on_every_journal(
    what: str, way: str, place: str, tmp_path: Path
) -> None:
    check(ROWS[what], way, PLACES[place](tmp_path))


def test_every_mode_meets_every_journal() -> None:
    met = {tuple(case.values[1:]) for case in EACH_MODE}
    assert met == {(way, place) for way in WAYS for place in PLACES}


@pytest.mark.parametrize("place", [place for place in PLACES if place != "memory"])
@pytest.mark.parametrize("way", WAYS)
def test_after_the_death_of_its_process_it_is_tried_once_more(way: str, place: str, tmp_path: Path) -> None:
    storage = PLACES[place](tmp_path)
    journal, now = journal_of(storage), datetime.now(UTC)
    journal.create(RunRecord("run", "workflow", None, {}, "sequential", RunStatus.PENDING, now))
    claim = journal.claim("run", "here:1:dead", now)
    opened = Attempt("run", "it", 1, AttemptStatus.RUNNING, None, now, now, None, claim.owner, claim.fence)
    journal.commit(claim, [opened])
    row = ROW_OF_RECOVERED
    tasks = tasks_of(row, way)
    run = Manager(tasks, **(WAYS[way] | {"workflow_id": "run", "storage": storage, "resume": True})).wait()
    assert ends_of(attempts_of(run, storage)) == row.ends
    assert (run["it"].status, run.status, run["later"].status) == (row.task, row.run, row.later)


@pytest.mark.parametrize("what", [what for what, row in ROWS.items() if not row.workers])
def test_whoever_looks_at_the_run_sees_the_same(what: str, tmp_path: Path) -> None:
    row, storage = ROWS[what], PLACES["sqlite"](tmp_path)
    tasks = tasks_of(row, "sequential")
    options: dict[str, Any] = {"storage": storage, "idempotency_key": "k", "on_failure": lambda tasks: None}
    options |= row.options
    run = Manager(tasks, **options)
    view = Manager(tasks, **options)
    assert view.attempts == run.attempts
    assert (view.status, view.reason) == (run.status, run.reason)
    assert [each.status for each in view.tasks] == [each.status for each in run.tasks]
    assert [each.reason for each in view.tasks] == [each.reason for each in run.tasks]
    assert dict(view.results) == dict(run.results)


def test_the_table_of_the_documentation_has_exactly_these_rows() -> None:
    paragraphs = DOCS.read_text(encoding="utf-8").split("\n\n")
    head, _, *lines = next(each for each in paragraphs if each.startswith("| what happens")).splitlines()
    assert head.count("|") == 8
    table = {
        what: cells for what, *cells in ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
    }
    rows = {what: row.cells for what, row in ROWS.items()} | {RECOVERED: ROW_OF_RECOVERED.cells}
    assert table == rows
