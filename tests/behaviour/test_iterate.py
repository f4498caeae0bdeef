"""An iteration goes on with exactly the next item, whatever ended the attempt before."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dotflow_like import Manager, NotSerializable, RunStatus, TaskContext, pause, task

Run = Callable[..., Manager]


@pytest.fixture(params=["memory", "files", "sqlite"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The options of each place where runs are recorded."""
    return {
        "memory": {},
        "files": {"storage": tmp_path / "kept"},
        "sqlite": {"storage": f"sqlite:///{tmp_path}/runs.db"},
    }[request.param]


def seen_by(*iterations: Callable[[TaskContext, list[Any]], None], **options: Any) -> list[list[Any]]:
    """Return what each attempt of a task, one after another, has seen: all but the last fail."""

    @task(retry=max(2, len(iterations)))
    def body(ctx: TaskContext) -> Any:
        seen: list[Any] = []
        try:
            iterations[ctx.attempt.number - 1](ctx, seen)
        finally:
            ctx.checkpoints["seen"] = [*ctx.checkpoints.get("seen", ()), seen]
        if ctx.attempt.number < len(iterations):
            raise LookupError("tried again")
        return ctx.checkpoints["seen"]

    run = Manager([body], **options).wait()
    assert run.status is RunStatus.COMPLETED, [error.traceback for error in run[body].errors]
    found: list[list[Any]] = run[body].result
    return found


def over(items: Any, until: Any = None, **named: Any) -> Callable[[TaskContext, list[Any]], None]:
    """Return what iterates over `items`, and raises in the middle of one of them."""

    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        for item in ctx.iterate(items() if named.pop("fresh", False) else items, **named):
            seen.append(item)
            if item == until:
                raise ValueError("in the middle")

    return iterate


def test_a_later_attempt_goes_on_with_the_item_that_was_not_done(
    way: dict[str, Any], kept: dict[str, Any]
) -> None:
    items = ["a", "b", "c", "d"]
    assert seen_by(over(items, "b"), over(items, "c"), over(items), over(items), **way, **kept) == [
        ["a", "b"],
        ["b", "c"],
        ["c", "d"],
        [],
    ]


def test_one_that_was_left_goes_on_with_the_item_it_was_left_in(
    way: dict[str, Any], kept: dict[str, Any]
) -> None:
    def leave(ctx: TaskContext, seen: list[Any]) -> None:
        for item in ctx.iterate(range(4)):
            seen.append(item)
            if item == 2:
                break

    assert seen_by(leave, leave, over(range(4)), **way, **kept) == [[0, 1, 2], [2], [2, 3]]


def test_by_cursor_what_was_done_is_left_out_wherever_it_is_now(
    way: dict[str, Any], kept: dict[str, Any]
) -> None:
    def by_id(ids: Sequence[int], until: int = 0) -> Callable[[TaskContext, list[Any]], None]:
        def iterate(ctx: TaskContext, seen: list[Any]) -> None:
            for row in ctx.iterate([{"id": each} for each in ids], cursor="id"):
                seen.append(row["id"])
                if row["id"] == until:
                    raise ValueError

        return iterate

    assert seen_by(by_id([1, 3, 5], 5), by_id([0, 2, 3, 4, 6]), by_id([7]), **way, **kept) == [
        [1, 3, 5],
        [4, 6],
        [],
    ]


@pytest.mark.parametrize(
    "cursors",
    [
        ["a", "b", "c"],
        [(1, "a"), (1, "b"), (2, "a")],
        [datetime(2024, 5, 6, tzinfo=UTC) + timedelta(days=day) for day in range(3)],
        [-1.5, 0, 1 << 80],
    ],
)
def test_a_cursor_is_anything_that_can_be_compared_and_kept(kept: dict[str, Any], cursors: list[Any]) -> None:
    rows = [SimpleNamespace(at=cursor) for cursor in cursors]
    for cursor in ("at", lambda row: row.at):

        def iterate(ctx: TaskContext, seen: list[Any], cursor: Any = cursor) -> None:
            for row in ctx.iterate(rows, cursor):
                seen.append(row.at)
                if len(seen) == 2 and ctx.attempt.number == 1:
                    raise ValueError

        options = {} if not kept else kept | {"workflow_id": repr(cursor)[:10]}
        assert seen_by(iterate, iterate, **options) == [cursors[:2], cursors[1:]]


def test_a_function_is_given_the_last_cursor_and_returns_what_follows(
    way: dict[str, Any], kept: dict[str, Any]
) -> None:
    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        def after(last: int | None) -> Iterator[int]:
            seen.append(f"after {last}")
            return iter(range(0 if last is None else last + 1, 4))

        for item in ctx.iterate(after, cursor=int):
            seen.append(item)
            if item == 2 and ctx.attempt.number == 1:
                raise ValueError

    assert seen_by(iterate, iterate, iterate, **way, **kept) == [
        ["after None", 0, 1, 2],
        ["after 1", 2, 3],
        [],
    ]


def test_a_function_may_return_more_than_what_follows_or_count_what_is_done() -> None:
    def whole(ctx: TaskContext, seen: list[Any]) -> None:
        for item in ctx.iterate(lambda last: range(4), cursor=int):
            seen.append(item)
            if item == 2:
                raise ValueError

    def counted(ctx: TaskContext, seen: list[Any]) -> None:
        for item in ctx.iterate(lambda done: "abcd"[done or 0 :]):
            seen.append(item)
            if len(seen) == 2 and ctx.attempt.number < 3:
                raise ValueError

    assert seen_by(whole, over(range(4), cursor=int)) == [[0, 1, 2], [2, 3]]
    assert seen_by(counted, counted, counted) == [["a", "b"], ["b", "c"], ["c", "d"]]


class Lazy(Sequence[int]):
    """A sequence that knows which of its items were asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, at: Any) -> Any:
        self.asked.append(at)
        return at


def test_a_sequence_is_not_walked_to_get_to_the_position() -> None:
    items = Lazy()
    assert seen_by(over(items, 2), over(items, 3), over(range(6))) == [[0, 1, 2], [2, 3], [3, 4, 5]]
    assert items.asked == [0, 1, 2, 2, 3]


def test_other_iterables_are_walked() -> None:
    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        for item in ctx.iterate(each for each in "abc"):
            seen.append(item)
            if item == "b" and ctx.attempt.number == 1:
                raise ValueError

    assert seen_by(iterate, iterate, over({"a": 1, "b": 2, "c": 3, "d": 4})) == [["a", "b"], ["b", "c"], []]


def test_items_may_be_added_at_the_end_while_it_goes_on() -> None:
    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        items = [0, 1, 2]
        for item in ctx.iterate(items):
            seen.append(item)
            if ctx.attempt.number == 1 and item == 1:
                raise ValueError
            if item < 6:
                items.append(item + 3)

    assert seen_by(iterate, iterate) == [[0, 1], [1, 2, 4, 5, 7, 8]]
    assert seen_by(over([1, 2], 2), over([1])) == [[1, 2], []]


def test_several_are_told_apart_by_name_and_by_the_order_of_their_calls(
    way: dict[str, Any], kept: dict[str, Any]
) -> None:
    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        for name in ("items", "others", "items"):
            for item in ctx.iterate(range(3), name=name):
                seen.append((name, item))
                if len(seen) == 4:
                    raise ValueError

    assert seen_by(iterate, iterate, iterate, **way, **kept) == [
        [("items", 0), ("items", 1), ("items", 2), ("others", 0)],
        [("others", 0), ("others", 1), ("others", 2), ("items", 0)],
        [("items", 0), ("items", 1), ("items", 2)],
    ]


def test_what_is_called_for_an_item_belongs_to_that_item(way: dict[str, Any], kept: dict[str, Any]) -> None:
    """Else a step of the third item would pass, in the next attempt, for one of the first."""

    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        seen.append(ctx.step("send", lambda: ("before", ctx.attempt.number)))
        for item in ctx.iterate("abc"):
            seen.append(ctx.step("send", lambda item=item: (item, ctx.attempt.number)))
            for part in ctx.iterate(range(2)):
                seen.append(ctx.step("send", lambda item=item, part=part: (item, part, ctx.attempt.number)))
                if (item, part) == ("b", 1) and ctx.attempt.number < 3:
                    raise ValueError
        seen.append(ctx.step("send", lambda: ("after", ctx.attempt.number)))

    assert seen_by(iterate, iterate, iterate, iterate, **way, **kept) == [
        [("before", 1), ("a", 1), ("a", 0, 1), ("a", 1, 1), ("b", 1), ("b", 0, 1), ("b", 1, 1)],
        [("before", 1), ("b", 1), ("b", 1, 1)],
        [("before", 1), ("b", 1), ("b", 1, 1), ("c", 3), ("c", 0, 3), ("c", 1, 3), ("after", 3)],
        [("before", 1), ("after", 3)],
    ]


def test_what_was_kept_for_an_item_is_forgotten_with_it(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/runs.db"

    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        for item in ctx.iterate(range(100)):
            ctx.step("send", int, item)
            for part in ctx.iterate(range(2), name="parts"):
                ctx.step("send", int, part)
            seen.append(len(ctx._running.saved().names()))

    (counts,) = seen_by(iterate, storage=storage)
    assert max(counts) < 6


def test_code_that_makes_other_steps_of_an_item_does_not_leave_those_to_the_next() -> None:
    def old(ctx: TaskContext, seen: list[Any]) -> None:
        for item in ctx.iterate("ab"):
            seen.append(ctx.step("send", str, item))
            raise ValueError

    def new(ctx: TaskContext, seen: list[Any]) -> None:
        for item in ctx.iterate("ab"):
            seen += [ctx.step("send", str, item)] if item == "b" else []

    assert seen_by(old, new) == [["a"], ["b"]]


def test_coroutines_and_threads_have_places_of_their_own(kept: dict[str, Any]) -> None:
    @task(retry=2)
    async def body(ctx: TaskContext) -> Any:
        async def one(name: str) -> list[Any]:
            seen = []
            for item in ctx.iterate(range(4), name=name):
                await asyncio.sleep(0)
                seen.append(ctx.step("send", tuple, (name, item, ctx.attempt.number)))
                await asyncio.sleep(0)
                if item == 2 and ctx.attempt.number == 1:
                    await asyncio.sleep(0)
                    break
            return seen

        def other() -> list[Any]:
            return asyncio.run(one("thread"))

        found = await asyncio.gather(one("a"), one("b"), asyncio.to_thread(other))
        if ctx.attempt.number == 1:
            raise ValueError
        return found

    found = Manager([body], **kept)[body].result
    assert found == [[(name, 2, 1), (name, 3, 2)] for name in ("a", "b", "thread")]


def test_threads_of_an_item_work_for_it(kept: dict[str, Any]) -> None:
    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        for batch in ctx.iterate(["ab", "cd", "ef"]):
            with ThreadPoolExecutor(2) as pool:
                for place, letter in enumerate(batch):
                    seen.append(pool.submit(ctx.step, f"send {place}", str, letter).result())
            if batch == "cd" and ctx.attempt.number == 1:
                raise ValueError

    assert seen_by(iterate, iterate, **kept) == [list("abcd"), list("cdef")]


def test_a_body_that_runs_another_workflow_stays_where_it_is() -> None:
    @task
    def inner(ctx: TaskContext) -> Any:
        for item in ctx.iterate(range(3)):
            ctx.step("send", int, item)
            if item == 1:
                break
        return sorted(ctx._running.saved().names())

    @task
    def outer(ctx: TaskContext) -> Any:
        for _ in ctx.iterate(range(2)):
            found = Manager([inner])[inner].result
            ctx.step("send", int)
        return found, sorted(ctx._running.saved().names())

    run = Manager([outer])
    assert run[outer].result == (["cursor/items#1", "step/items#1/send#1"], ["cursor/items#1"])
    assert Manager([inner])[inner].result == ["cursor/items#1", "step/items#1/send#1"]


def test_rewound_it_begins_with_the_first_item(way: dict[str, Any], kept: dict[str, Any]) -> None:
    def again(ctx: TaskContext, seen: list[Any]) -> None:
        rounds = 0
        items = ctx.iterate("abc")
        for item in items:
            seen.append(ctx.step("send", lambda item=item, rounds=rounds: f"{item}{rounds}"))
            if item == "b" and not rounds:
                rounds = 1
                items.rewind()

    def at_the_end(ctx: TaskContext, seen: list[Any]) -> None:
        items = ctx.iterate("abc")
        seen += items
        items.rewind()
        for item in items:
            seen.append(item)
            if item == "b":
                raise ValueError

    assert seen_by(again, at_the_end, over("abc"), **way, **kept) == [
        ["a0", "b0", "a1", "b1", "c1"],
        ["a", "b"],
        ["b", "c"],
    ]


def test_what_was_rewound_is_rewound_for_later_attempts(way: dict[str, Any], kept: dict[str, Any]) -> None:
    def rewind(ctx: TaskContext, seen: list[Any]) -> None:
        items = ctx.iterate(range(5))
        items.rewind()

    assert seen_by(over(range(5), 3), rewind, over(range(2)), **way, **kept) == [[0, 1, 2, 3], [], [0, 1]]


def test_an_iterator_that_has_begun_cannot_be_rewound() -> None:
    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        items = ctx.iterate(iter("ab"))
        items.rewind()
        for item in items:
            seen.append(item)
            with pytest.raises(TypeError, match="gives its items once, and cannot be rewound"):
                items.rewind()
        with pytest.raises(TypeError, match="cannot be rewound"):
            items.rewind()
        assert list(items) == []
        functional = ctx.iterate(lambda _: iter("cd"))
        seen.append(next(functional))
        functional.rewind()
        seen += functional

    assert seen_by(iterate) == [["a", "b", "c", "c", "d"]]


def test_nothing_is_written_where_nothing_changes(tmp_path: Path) -> None:
    storage = tmp_path / "kept"

    def state() -> dict[str, bytes]:
        return {str(each): each.read_bytes() for each in storage.rglob("*") if each.is_file()}

    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        if ctx.attempt.number == 1:
            list(ctx.iterate(range(3)))
            return
        before = state()
        assert list(ctx.iterate(range(3))) == []
        items = ctx.iterate("ab", name="others")
        items.rewind()
        next(items)
        items.rewind()
        assert state() == before

    seen_by(iterate, iterate, storage=storage)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((3,), TypeError, "items is int; give an iterable, or a function that returns one"),
        ((None,), TypeError, "items is NoneType"),
        (({1, 2},), TypeError, r"a set has another order in another process; give sorted\(items\)"),
        (
            ([1], 3),
            TypeError,
            "cursor is 3; give a function of an item, or the name of an attribute or a key",
        ),
        (([1], None, ""), ValueError, "the name is empty"),
        (([1], None, 3), TypeError, "the name 3 is no text"),
    ],
)
def test_what_cannot_be_iterated_over_is_refused_at_once(
    given: Any, error: type[Exception], message: str
) -> None:
    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        with pytest.raises(error, match=rf"^ctx\.iterate: {message}"):
            ctx.iterate(*given)

    seen_by(iterate)


def test_an_async_iterable_is_refused_with_the_way_out() -> None:
    async def rows() -> Any:
        yield 1

    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        with pytest.raises(TypeError, match=r"^ctx\.iterate: items is an async iterable; collect it"):
            ctx.iterate(rows())  # type: ignore[arg-type]

    seen_by(iterate)


@pytest.mark.parametrize(
    "cursors", [[1, 3, 2], [1, 1], [2, 2, 3], [1.0, float("nan")], [float("nan")], [None]]
)
def test_cursors_that_do_not_ascend_are_an_error_before_the_item(cursors: list[Any]) -> None:
    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        def take_all() -> None:
            seen.extend(item.at for item in ctx.iterate(rows, cursor="at"))

        rows = [SimpleNamespace(at=each) for each in cursors]
        with pytest.raises(
            ValueError, match=r"^ctx\.iterate: the cursor .*(have to ascend|cannot be compared)"
        ):
            take_all()

    (seen,) = seen_by(iterate)
    assert seen == sorted(set(seen))


def test_a_cursor_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    def iterate(ctx: TaskContext, seen: list[Any]) -> None:
        with pytest.raises(NotSerializable, match=r"^ctx\.iterate: the cursor of an item"):
            seen.extend(ctx.iterate([1, 2], cursor=Odd))

    assert seen_by(iterate, storage=f"sqlite:///{tmp_path}/runs.db") == [[1]]


class Odd:
    def __init__(self, at: int) -> None:
        self.at = at

    def __lt__(self, other: Odd) -> bool:
        return self.at < other.at


def test_a_cursor_that_was_a_position_before_is_an_error_until_it_is_rewound() -> None:
    def by_cursor(ctx: TaskContext, seen: list[Any]) -> None:
        items = ctx.iterate(range(3), cursor=int)
        with pytest.raises(ValueError, match="was left at a position, and is gone on with by cursor"):
            next(items)
        items.rewind()
        seen += items

    assert seen_by(over(range(3), 1), by_cursor) == [[0, 1], [0, 1, 2]]


def test_a_pause_is_heeded_between_two_items_and_the_resumed_run_goes_on(
    way: dict[str, Any], tmp_path: Path, until: Callable[..., None]
) -> None:
    ledger, go = tmp_path / "ledger", tmp_path / "go"
    ledger.touch()

    @task
    def body(ctx: TaskContext) -> None:
        for item in ctx.iterate(range(5)):
            with ledger.open("a") as file:
                file.write(f"{item}\n")
            while item == 2 and not go.exists() and not ctx.cancelled:
                threading.Event().wait(0.002)

    def run() -> None:
        ended.append(
            Manager([body], **way, storage=tmp_path / "kept", workflow_id="w", resume=True).wait().status
        )

    ended: list[RunStatus] = []
    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: ledger.read_text().endswith("2\n"))
    assert pause("w", storage=tmp_path / "kept")
    thread.join(60)
    assert ended == [RunStatus.PAUSED]
    assert ledger.read_text().split() == ["0", "1", "2"]
    go.touch()
    run()
    assert ended == [RunStatus.PAUSED, RunStatus.COMPLETED]
    assert ledger.read_text().split() == ["0", "1", "2", "3", "4"]


KILLED = """
import os, signal, sys
from dotflow_like import Config, Manager, TaskContext, task

mode, storage, ledger, how, at = sys.argv[1:]

def add(line):
    with open(ledger, "a") as file:
        file.write(f"{line}\\n")

def die():
    if mode == "parallel":
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()

def numbers(start=0):
    for number in range(start, 6):
        if at == f"before {number}":
            die()
        yield number

@task
def body(ctx: TaskContext):
    if how == "position":
        items = ctx.iterate(numbers())
    elif how == "cursor":
        items = ctx.iterate(numbers(), cursor=int)
    else:
        items = ctx.iterate(lambda last: numbers(0 if last is None else last + 1), cursor=int)
    for number in items:
        add(number)
        if at == f"in {number}":
            die()

if __name__ == "__main__":
    assert Manager([body], mode=mode, workflow_id="w", resume=True, max_workers=1, config=Config(max_crashes=9, storage=storage)).status == "completed"
"""


@pytest.mark.parametrize(
    ("how", "mode", "storage"),
    [
        ("position", "sequential", "{}/kept"),
        ("position", "parallel", "sqlite:///{}/runs.db"),
        ("cursor", "sequential", "sqlite:///{}/runs.db"),
        ("cursor", "parallel", "{}/kept"),
        ("function", "sequential", "sqlite:///{}/runs.db"),
    ],
)
def test_after_a_kill_it_goes_on_with_exactly_the_next_item(
    script: Callable[..., Any], tmp_path: Path, how: str, mode: str, storage: str
) -> None:
    ledger = tmp_path / "ledger"
    given = mode, storage.format(tmp_path), str(ledger), how
    seen = ""
    for at, more in (("in 1", "01"), ("before 3", "12"), ("in 5", "345"), ("never", "5"), ("never", "")):
        ended = script(KILLED, *given, at)
        assert ended.returncode == (0 if at == "never" else -9), ended.stderr
        seen += more
        assert ledger.read_text().replace("\n", "") == seen
