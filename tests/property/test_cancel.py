"""However and whenever a run is cancelled or paused: its status, its rows, what was answered and who was called agree."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dotflow_like
from dotflow_like import (
    AttemptStatus,
    Config,
    MemoryStorage,
    RetryPolicy,
    Run,
    RunStatus,
    TaskContext,
    Workflow,
    task,
)
from dotflow_like.config import open_journal
from dotflow_like.errors import IllegalMove
from dotflow_like.testing import FakeClock

WORDS = {"cancel": RunStatus.CANCELLED, "pause": RunStatus.PAUSED}
ENDS = frozenset({RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.PAUSED, RunStatus.FAILED})

# Every event of the run below, in the order in which they come in a sequential one.
EVENTS = [
    "run starts",
    *(
        f"{event} of {name}"
        for name in "abcde"
        for event in (
            *("start", "condition", "body"),
            *(("retry", "condition again", "body again") if name == "c" else ()),
            *("end", "callback"),
        )
    ),
    "run ended",
    "on_success",
]

WAYS: dict[str, dict[str, Any]] = {
    "sequential": {},
    "background": {"mode": "background"},
    "inline": {"mode": "parallel", "executor": "inline"},
    "threads": {"mode": "parallel", "executor": "thread", "max_workers": 2},
}


Ask = Callable[[Run, TaskContext | None], bool | None]
"""Stops a run: returns what was answered, None for nothing."""


def asked(run: Run, word: str) -> bool:
    """Ask a run to stop; return whether it had not ended."""
    try:
        return bool(getattr(run, word)())
    except IllegalMove:
        assert word == "pause"
        return False


class World:
    """Five tasks, of which one fails once and one is a map, and who stops their run at one event.

    Args:
        at: the event.
        ask: stops the run; given the run, and `ctx` where the event has one; returns what was answered.
    """

    def __init__(self, at: str, ask: Ask) -> None:
        self.at = at
        self.ask = ask
        self.run = Run()
        self.storage = MemoryStorage()
        self.happened: list[str] = []
        self.answers: list[bool | None] = []
        self.called: list[str] = []
        self.began_after_the_end: list[str] = []

    def event(self, name: str, ctx: TaskContext | None = None) -> None:
        self.happened.append(name)
        if name == self.at and not self.answers:
            self.answers.append(None)  # also if it raises
            self.answers[0] = self.ask(self.run, ctx)

    def start_workflow(self, workflow_id: str, **info: Any) -> None:
        self.event("run starts")

    def end_workflow(self, workflow_id: str, **info: Any) -> None:
        self.event("run ended")

    def start_task(self, task: Any) -> None:
        self.event(f"start of {task.name}")

    def end_task(self, task: Any) -> None:
        self.event(f"end of {task.name}")

    def task_retried(self, task: Any) -> None:
        self.event(f"retry of {task.name}")

    def tasks(self) -> list[Any]:
        def again(ctx: TaskContext) -> str:
            return " again" if ctx.attempt.number > 1 else ""

        def body(name: str, ctx: TaskContext) -> str:
            if self.run.status in ENDS:
                self.began_after_the_end.append(name)
            self.event(f"body{again(ctx)} of {name}", ctx)
            if name == "c" and ctx.attempt.number == 1:
                raise ValueError("once")
            return name

        def condition(name: str, ctx: TaskContext) -> bool:
            self.event(f"condition{again(ctx)} of {name}", ctx)
            return False

        made: list[Any] = []
        for name in ("a", "b", "c", "d", "e"):
            each = task(
                body,
                name=name,
                skip_if=condition,
                retry=RetryPolicy(max_attempts=2, delay=60) if name == "c" else 1,
                callback=lambda task: self.event(f"callback of {task.name}"),
            ).bind(name=name)
            made.append(each.after(*made[-1:]))
        return made

    def go(self, way: dict[str, Any]) -> Run:
        """Run it to the end, in the hands of the run that those who ask have."""
        from dotflow_like.config import Order
        from dotflow_like.launch import launch

        order = Order(
            config=Config(storage=self.storage, tracer=self, metrics=self),
            workflow_id="w",
            on_success=lambda tasks: (self.called.append("success"), self.event("on_success")),
            on_failure=lambda tasks: self.called.append("failure"),
            **way,
        )
        with FakeClock():
            launch(Workflow(self.tasks()), self.run, order)
            return self.run.wait(60)

    def check(self, word: str, *, late: bool = False) -> None:
        """Check that all there is to see of the run agrees.

        Args:
            word: what it was asked.
            late: it may have heard that some time later.
        """
        run, journal = self.run, open_journal(Config(storage=self.storage), Workflow([]))
        record, attempts = journal.run("w"), journal.attempts("w")
        assert record is not None
        assert (record.status, record.reason) == (run.status, run.reason)
        assert record.finished_at == run.finished is not None
        assert run.status in (WORDS[word], RunStatus.COMPLETED)
        # the answer is what became of the run
        (answer,) = self.answers
        if run.status is RunStatus.COMPLETED:
            # a pause that comes when nothing is left to begin leaves a completed run
            last = ("condition of e", "body of e", "end of e", "callback of e") if word == "pause" else ()
            last = (
                (*last, *EVENTS[1:]) if word == "pause" and late else last
            )  # which it heard when it was done
            assert self.at in (*last, "run ended", "on_success")
            assert answer is False or self.at in last
        else:
            assert answer is not False
            assert run.reason
        # what is recorded is what is shown, and nothing is left open
        assert attempts == sorted(run.attempts)
        assert not [each for each in attempts if each.status is AttemptStatus.RUNNING]
        scheduled = [each for each in attempts if each.status is AttemptStatus.SCHEDULED]
        assert not scheduled or word == "pause"
        for each in attempts:
            if each.finished_at is not None:
                assert each.started_at is None or each.started_at <= each.finished_at <= record.finished_at
        # bodies: one for each attempt, none after the end
        assert self.began_after_the_end == []
        bodies = [each for each in self.happened if each.startswith("body")]
        assert len(bodies) <= len(attempts)
        # those who are called
        assert self.called == (["success"] if run.status is RunStatus.COMPLETED else [])
        for each in run.tasks:
            begun = any(attempt.started_at for attempt in each.attempts)
            told = [event for event in self.happened if event.endswith(f" of {each.name}")]
            ended = [event for event in told if event.startswith("end of")]
            if each.status in ("completed", "failed", "cancelled", "paused"):
                assert len(ended) == begun, told
                assert len([event for event in told if event.startswith("callback of")]) == begun
            else:
                assert each.status == "pending"
                assert not begun or [attempt.status for attempt in each.attempts] == ["cancelled"]
        # a body that has ended has its result, whatever became of the run
        for each in run.tasks:
            assert each.result == (each.name if each.status == "completed" else None)
        before = [each.status for each in run.tasks]
        assert before == sorted(before, key=["completed", "cancelled", "paused", "pending"].index)
        # afterwards nothing changes, and nothing is left to do
        assert journal.asked("w") is None
        assert run.cancel() is False
        with pytest.raises(IllegalMove):
            run.pause()
        again = journal.run("w")
        assert again == record
        assert journal.attempts("w") == attempts


def by_run(word: str) -> Ask:
    return lambda run, ctx: asked(run, word)


def by_a_thread(word: str) -> Ask:
    def ask(run: Run, ctx: TaskContext | None) -> bool | None:
        answers: list[bool] = []
        thread = threading.Thread(target=lambda: answers.append(asked(run, word)))
        thread.start()
        thread.join(30)
        return answers[0]

    return ask


def by_the_journal(word: str) -> Ask:
    def ask(run: Run, ctx: TaskContext | None) -> bool | None:
        try:
            return bool(getattr(dotflow_like, word)("w", storage=run.config.storage, reason="why"))
        except IllegalMove:
            return False

    return ask


def by_ctx(word: str) -> Ask:
    def ask(run: Run, ctx: TaskContext | None) -> bool | None:
        assert ctx is not None
        getattr(ctx, word)("by ctx")
        return None

    return ask


WHO = {"run": by_run, "thread": by_a_thread, "journal": by_the_journal, "ctx": by_ctx}


def cases() -> Iterator[Any]:
    """Every event, word and one who asks, each in one of the modes; the modes take turns."""
    number = 0
    for word in WORDS:
        for name, asks in WHO.items():
            for at in EVENTS:
                if name == "ctx" and not at.startswith(("body", "condition")):
                    continue
                way = [*WAYS][number % len(WAYS)]
                number += 1
                yield pytest.param(word, asks, at, way, id=f"{word} by {name} at {at} in {way}")


@pytest.mark.parametrize(("word", "asks", "at", "way"), [*cases()])
def test_stopped_at_any_event_all_agree(word: str, asks: Callable[[str], Ask], at: str, way: str) -> None:
    world = World(at, asks(word))
    world.go(WAYS[way])
    assert world.answers, f"{at} did not happen: {world.happened}"
    world.check(word, late=asks is by_the_journal)


def test_these_are_all_events_there_are() -> None:
    world = World("nothing", by_run("cancel"))
    world.go({})
    assert world.happened == EVENTS


@settings(max_examples=30)
@given(
    word=st.sampled_from([*WORDS]),
    wait=st.floats(0, 0.02),
    way=st.sampled_from([*WAYS]),
    delay=st.sampled_from([0, 60]),
)
def test_stopped_at_any_time_all_agree(word: str, wait: float, way: str, delay: float) -> None:
    """By a thread that does not know where the run is."""
    world = World("nothing", by_run(word))
    begun = threading.Event()
    world.start_workflow = lambda workflow_id, **info: begun.set()  # type: ignore[method-assign]

    def stop() -> None:
        assert begun.wait(30)
        time.sleep(wait)
        world.answers.append(asked(world.run, word))

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        world.go(WAYS[way])
    finally:
        thread.join()
    if world.run.status is RunStatus.COMPLETED:
        world.at = (
            "run ended" if world.answers == [False] else "end of e"
        )  # a pause may come when all is done
    world.check(word)


# Through the journal, in real time

ASKED = [*(("run", way) for way in WAYS), ("journal", "sequential"), ("journal", "threads")]


def slow_tasks(folder: Path) -> list[Any]:
    """Return five tasks that take turns, each of which waits until it is let go, or is asked to end."""

    def body(name: str, ctx: TaskContext) -> str:
        (folder / f"{name} begun").touch()
        deadline = time.monotonic() + 60
        while not (folder / f"{name} over").exists() and time.monotonic() < deadline:
            ctx.check()
            time.sleep(0.002)
        return name

    made: list[Any] = []
    for name in ("a", "b", "c", "d", "e"):
        each = task(body, name=name).bind(name=name)
        made.append(each.after(*made[-1:]))
    return made


@pytest.mark.parametrize("during", ["a", "c", "e"])
@pytest.mark.parametrize("word", WORDS)
def test_asked_through_the_journal_during_a_body(
    word: str, during: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    storage = f"sqlite:///{tmp_path}/runs.db?durability=process"
    called: list[str] = []
    for name in "abcde"[: "abcde".index(during)]:
        (tmp_path / f"{name} over").touch()
    run = Workflow(slow_tasks(tmp_path)).start(
        storage=storage,
        workflow_id="w",
        on_success=lambda tasks: called.append("success"),
        on_failure=lambda tasks: called.append("failure"),
    )
    until((tmp_path / f"{during} begun").exists, "the body")
    assert getattr(dotflow_like, word)("w", storage=storage, reason="why") is True
    run.wait(30)
    assert run.status is WORDS[word]
    assert run.reason is not None
    assert "why" in run.reason
    journal = open_journal(Config(storage=storage), Workflow([]))
    record = journal.run("w")
    assert record is not None
    assert (record.status, record.reason) == (run.status, run.reason)
    assert sorted(run.attempts) == journal.attempts("w")
    assert {each.status for each in run.attempts} <= {"completed", "cancelled"}
    assert run[during].status == WORDS[word]
    assert called == []
    assert journal.asked("w") is None


@pytest.mark.parametrize(("ask", "way"), ASKED)
def test_cancelled_while_it_waits_a_minute_it_ends_soon(
    ask: str, way: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    storage = f"sqlite:///{tmp_path}/runs.db?durability=process"

    def fails() -> None:
        raise ValueError("why")

    run = Workflow([task(fails, name="it", retry=2, retry_delay=60)]).start(
        storage=storage, workflow_id="w", **WAYS[way]
    )
    until(lambda: run["it"].status == "retrying", "the wait")
    begun = time.monotonic()
    assert (run.cancel() if ask == "run" else dotflow_like.cancel("w", storage=storage)) is True
    run.wait(30)
    assert time.monotonic() - begun < 10, "a second, on a machine that is not busy"
    assert (run.status, run["it"].status) == (RunStatus.CANCELLED, "cancelled")
    assert [each.status for each in run.attempts] == ["failed", "cancelled"]
    record = open_journal(Config(storage=storage), Workflow([])).run("w")
    assert record is not None
    assert record.status is RunStatus.CANCELLED


@pytest.mark.parametrize("place", ["memory", "files", "sqlite"])
def test_cancel_after_completion_returns_false_and_changes_nothing(place: str, tmp_path: Path) -> None:
    storage: Any = {
        "memory": MemoryStorage(),
        "files": tmp_path / "files",
        "sqlite": f"sqlite:///{tmp_path}/runs.db",
    }[place]
    run = Workflow([task(lambda: 1, name="it")]).run(storage=storage, workflow_id="w")
    journal = open_journal(Config(storage=storage), Workflow([]))
    before = (journal.run("w"), journal.attempts("w"), journal.asked("w"))
    assert run.cancel() is False
    assert dotflow_like.cancel("w", storage=storage) is False
    with pytest.raises(IllegalMove):
        dotflow_like.pause("w", storage=storage)
    assert (journal.run("w"), journal.attempts("w"), journal.asked("w")) == before
    assert run.status is RunStatus.COMPLETED


@pytest.mark.parametrize(("ask", "way"), ASKED)
def test_cancel_during_the_last_task_is_not_overwritten(
    ask: str, way: str, tmp_path: Path, until: Callable[..., None]
) -> None:
    storage = f"sqlite:///{tmp_path}/runs.db?durability=process"
    begun, gate = threading.Event(), threading.Event()
    called: list[str] = []

    def last() -> str:
        begun.set()
        assert gate.wait(30)
        return "kept"

    run = Workflow([task(lambda: 1, name="first"), task(last)]).start(
        storage=storage,
        workflow_id="w",
        on_success=lambda tasks: called.append("success"),
        **WAYS[way],
    )
    assert begun.wait(30)
    assert (run.cancel() if ask == "run" else dotflow_like.cancel("w", storage=storage)) is True
    gate.set()
    run.wait(30)
    assert run.status is RunStatus.CANCELLED
    assert (run["last"].status, run["last"].result) == ("completed", "kept")
    record = open_journal(Config(storage=storage), Workflow([])).run("w")
    assert record is not None
    assert record.status is RunStatus.CANCELLED
    assert called == []


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("place", ["files", "sqlite"])
def test_asked_around_the_end_the_answer_is_what_became_of_it(word: str, place: str, tmp_path: Path) -> None:
    """Of many short runs, each asked a little later than the one before, none ends otherwise than was answered."""
    workflow = Workflow([task(lambda: 1, name=each) for each in "abc"])
    took = 0.0
    for number in range(40):
        folder = (
            tmp_path if place == "sqlite" else tmp_path / f"{number}"
        )  # of files, with fewer each is quicker
        storage: Any = folder if place == "files" else f"sqlite:///{folder}/runs.db?durability=process"
        begun = time.monotonic()
        run = workflow.start(storage=storage, workflow_id=f"run {number}")
        time.sleep(took * number / 25)
        answer = False
        with suppress(IllegalMove):
            answer = getattr(dotflow_like, word)(f"run {number}", storage=storage)
        run.wait(30)
        if not number % 10:
            took = min(time.monotonic() - begun, 0.02)
        record = open_journal(Config(storage=storage), Workflow([])).run(f"run {number}")
        assert record is not None
        assert (record.status, record.reason) == (run.status, run.reason)
        if word == "cancel":
            assert answer is (run.status is RunStatus.CANCELLED), number
        else:  # a pause that comes when all is done leaves a completed run
            assert answer or run.status is RunStatus.COMPLETED, number
