"""A logger that says of each record which attempt it is from."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dotflow_like.model.tagged import TaggedLogger, replaced, replacement

FIELDS = {"workflow_id": "w", "task_id": "t", "attempt": 2}


class Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def app() -> Iterator[logging.Logger]:
    """A logger that says nothing to others."""
    log = logging.getLogger("app.of.test_tagged")
    log.propagate = False
    log.setLevel(logging.DEBUG)
    yield log
    for handler in list(log.handlers):
        log.removeHandler(handler)


@pytest.fixture
def records(app: logging.Logger) -> list[Any]:
    """What that logger logs."""
    keep = Keep()
    app.addHandler(keep)
    return keep.records


def tags(record: Any) -> tuple[Any, ...]:
    return record.workflow_id, record.task_id, record.attempt


def test_each_record_has_the_fields_and_its_own_place(app: logging.Logger, records: list[Any]) -> None:
    log = TaggedLogger(app, FIELDS)
    log.info("%d rows", 3)
    (record,) = records
    assert tags(record) == ("w", "t", 2)
    assert (record.getMessage(), record.levelname, record.name) == ("3 rows", "INFO", app.name)
    assert (record.funcName, record.filename) == (
        "test_each_record_has_the_fields_and_its_own_place",
        "test_tagged.py",
    )


def test_the_callers_extra_comes_on_top(app: logging.Logger, records: list[Any]) -> None:
    given = {"file": "a.csv", "task_id": "mine"}
    TaggedLogger(app, FIELDS).info("x", extra=given)
    assert (records[0].file, *tags(records[0])) == ("a.csv", "w", "mine", 2)
    assert given == {"file": "a.csv", "task_id": "mine"}


def test_the_other_words_of_a_call_are_kept(app: logging.Logger, records: list[Any]) -> None:
    log = TaggedLogger(app, FIELDS)
    try:
        raise ValueError("boom")
    except ValueError:
        log.exception("failed", stack_info=True)
    assert records[0].exc_info[0] is ValueError
    assert records[0].stack_info
    assert tags(records[0]) == ("w", "t", 2)


def test_a_level_that_is_off_logs_nothing(app: logging.Logger, records: list[Any]) -> None:
    app.setLevel(logging.WARNING)
    log = TaggedLogger(app, FIELDS)
    log.info("x")
    assert records == []
    assert not log.isEnabledFor(logging.INFO)


def test_an_adapter_keeps_what_it_makes_of_a_record_and_the_fields_stay(
    app: logging.Logger, records: list[Any]
) -> None:
    class Prefixed(logging.LoggerAdapter[Any]):
        def process(self, msg: Any, kwargs: Any) -> Any:
            return f"[app] {msg}", kwargs

    inner = logging.LoggerAdapter(app, {"request": 7, "shared": "inner", "attempt": "theirs"})
    outer = logging.LoggerAdapter(Prefixed(inner, {}), {"user": "u", "shared": "outer"})
    TaggedLogger(outer, FIELDS).info("x", extra={"file": "a.csv"})
    (record,) = records
    assert record.getMessage() == "[app] x"
    assert (record.request, record.user, record.shared, record.file) == (7, "u", "outer", "a.csv")
    assert tags(record) == ("w", "t", 2)
    assert record.funcName == "test_an_adapter_keeps_what_it_makes_of_a_record_and_the_fields_stay"


def test_an_adapter_may_have_no_fields_of_its_own(app: logging.Logger, records: list[Any]) -> None:
    TaggedLogger(logging.LoggerAdapter(app), FIELDS).info("x")
    assert tags(records[0]) == ("w", "t", 2)


def test_another_attempts_logger_takes_the_new_tags(app: logging.Logger, records: list[Any]) -> None:
    TaggedLogger(TaggedLogger(app, FIELDS), FIELDS | {"attempt": 3, "task_id": "u"}).info("x")
    assert tags(records[0]) == ("w", "u", 3)


@pytest.mark.parametrize("bad", [None, "app", logging, 3, print, logging.Handler, logging.LoggerAdapter("x")])
def test_what_is_no_logger_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match=r"^ctx\.use_logger: what is of type \w+ is no logger; give one of "):
        TaggedLogger(bad, FIELDS)


@pytest.fixture
def two(app: logging.Logger) -> tuple[TaggedLogger, TaggedLogger]:
    return TaggedLogger(app, FIELDS), TaggedLogger(app, FIELDS | {"attempt": 3})


def test_a_replacement_is_somebodys_own_and_ends_with_its_block(
    two: tuple[TaggedLogger, TaggedLogger],
) -> None:
    one, other = object(), object()
    assert replacement(one) is None
    with replaced(one, two[0]) as first:
        assert first is replacement(one) is two[0]
        assert replacement(other) is None
        with replaced(other, two[0]), replaced(one, two[1]):
            assert replacement(one) is two[1]
            assert replacement(other) is two[0]
        assert replacement(one) is two[0]
        assert replacement(other) is None
        with pytest.raises(ValueError, match="boom"), replaced(one, two[1]):
            raise ValueError("boom")
        assert replacement(one) is two[0]
    assert replacement(one) is None


def test_threads_do_not_see_each_others(two: tuple[TaggedLogger, TaggedLogger]) -> None:
    whose, both, checked = object(), threading.Barrier(2), threading.Barrier(2)
    seen: dict[int, Any] = {}

    def use(i: int) -> None:
        with replaced(whose, two[i]):
            both.wait(30)
            seen[i] = replacement(whose)
            checked.wait(30)

    threads = [threading.Thread(target=use, args=(i,)) for i in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert seen == {0: two[0], 1: two[1]}
    assert replacement(whose) is None


def test_async_tasks_do_not_see_each_others_but_that_of_the_block_they_start_in(
    two: tuple[TaggedLogger, TaggedLogger],
) -> None:
    whose = object()

    async def use(i: int, turn: asyncio.Event, others: asyncio.Event) -> Any:
        before = replacement(whose)
        with replaced(whose, two[i]):
            turn.set()
            await others.wait()
            return before, replacement(whose), await asyncio.to_thread(replacement, whose)

    async def main() -> Any:
        one, other = asyncio.Event(), asyncio.Event()
        with replaced(whose, two[0]):
            return await asyncio.gather(use(0, one, other), use(1, other, one))

    assert asyncio.run(main()) == [(two[0], two[0], two[0]), (two[0], two[1], two[1])]
    assert replacement(whose) is None


def test_a_block_in_a_generator_may_be_closed_elsewhere(two: tuple[TaggedLogger, TaggedLogger]) -> None:
    whose = object()

    async def rows() -> Any:
        with replaced(whose, two[0]):
            yield replacement(whose)
            yield 2

    async def begin(each: Any) -> Any:
        return await anext(each)

    async def main() -> None:
        each = rows()
        assert await asyncio.create_task(begin(each)) is two[0]  # in a context of its own
        assert replacement(whose) is None
        await each.aclose()
        assert replacement(whose) is None

    asyncio.run(main())
