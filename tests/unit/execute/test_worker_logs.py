"""Records of the log on their way from a worker: what is sent, and what the parent makes of it."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dotflow_like.execute.workers.logs import apply_levels, emit, forward_logs, levels

Log = pytest.LogCaptureFixture


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Put back what a test does to loggers, all of which are one for the process."""
    root = logging.getLogger()
    before = {
        each: (each.level, list(each.handlers), each.propagate)
        for each in (root, *root.manager.loggerDict.values())
        if isinstance(each, logging.Logger)
    }
    yield
    for each in (root, *root.manager.loggerDict.values()):
        if isinstance(each, logging.Logger):
            level, handlers, propagate = before.get(each, (logging.NOTSET, [], True))
            each.setLevel(level)
            each.handlers[:] = handlers
            each.propagate = propagate


@pytest.fixture
def sent() -> list[bytes]:
    """What is sent, with the root logger as a worker has it."""
    found: list[bytes] = []
    forward_logs(found.append)
    logging.getLogger().setLevel(logging.DEBUG)
    return found


@pytest.fixture
def received() -> list[logging.LogRecord]:
    """What the parent's handlers get."""
    found: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    log = logging.getLogger("parent")
    log.addHandler(Keep())
    log.setLevel(logging.DEBUG)
    return found


def crossed(sent: list[bytes], log: Callable[[logging.Logger], object], **fields: Any) -> None:
    """Log in what stands for a worker, and emit what it sent in what stands for its parent."""
    del sent[:]
    log(logging.getLogger("parent.child"))
    for each in list(sent):
        emit(each, **fields)


# The whole way


def test_a_record_arrives_as_it_was_made(sent: list[bytes], received: list[logging.LogRecord]) -> None:
    crossed(sent, lambda log: log.warning("%s of %d", "one", 2))
    (local, record) = received  # the first is what the worker's own logger gave the same handler
    assert record.getMessage() == "one of 2"
    same = ("name", "levelno", "levelname", "pathname", "filename", "module", "lineno", "funcName")
    more = ("created", "thread", "threadName", "process")
    assert [getattr(record, name) for name in same + more] == [getattr(local, name) for name in same + more]
    assert (record.exc_info, record.exc_text, record.stack_info) == (None, None, None)
    assert record.worker == f"pid {os.getpid()}"  # type: ignore[attr-defined]
    assert record.relativeCreated == pytest.approx(local.relativeCreated, abs=1)  # milliseconds
    assert record.msecs == pytest.approx(local.msecs, abs=1)


def test_a_percent_sign_stays_one(sent: list[bytes], received: list[logging.LogRecord]) -> None:
    crossed(sent, lambda log: log.warning("100%% of %s", "%d"))
    assert received[-1].getMessage() == "100% of %d"


def test_an_exception_arrives_as_text_with_its_traceback(
    sent: list[bytes], received: list[logging.LogRecord]
) -> None:
    def fail(log: logging.Logger) -> None:
        try:
            raise ValueError("the value")
        except ValueError:
            log.exception("it failed")

    crossed(sent, fail)
    text = logging.Formatter("%(message)s").format(received[-1])
    assert text.startswith("it failed\nTraceback (most recent call last):\n")
    assert text.endswith("ValueError: the value")
    assert "in fail" in text


def test_where_a_record_asked_for_its_stack_it_arrives(
    sent: list[bytes], received: list[logging.LogRecord]
) -> None:
    crossed(sent, lambda log: log.warning("here", stack_info=True))
    assert received[-1].stack_info is not None
    assert __file__ in received[-1].stack_info


def test_the_fields_are_added(sent: list[bytes], received: list[logging.LogRecord]) -> None:
    crossed(sent, lambda log: log.info("x"), workflow_id="w", task_id="load", attempt=2, worker="pid 7")
    assert [vars(received[-1])[name] for name in ("workflow_id", "task_id", "attempt", "worker")] == [
        "w",
        "load",
        2,
        "pid 7",
    ]


def test_plain_extras_arrive_and_win_over_the_fields(
    sent: list[bytes], received: list[logging.LogRecord]
) -> None:
    extra = {
        "text": "é\ud800",
        "n": 3,
        "x": 0.5,
        "yes": True,
        "none": None,
        "thing": object(),
        "task_id": "mine",
    }
    crossed(sent, lambda log: log.info("x", extra=extra), task_id="ours")
    arrived = vars(received[-1])
    del extra["thing"]
    assert {name: arrived[name] for name in extra} == extra
    assert "thing" not in arrived


def test_no_field_replaces_what_a_record_has_itself(
    sent: list[bytes], received: list[logging.LogRecord]
) -> None:
    crossed(sent, lambda log: log.info("x"), levelno=5, message="no", msg="no", taskName="no")
    assert (received[-1].levelno, received[-1].getMessage()) == (logging.INFO, "x")
    assert getattr(received[-1], "message", "x") == "x"


def test_the_name_of_a_level_is_the_parents(sent: list[bytes], received: list[logging.LogRecord]) -> None:
    crossed(sent, lambda log: log.log(17, "x"))
    assert (received[-1].levelno, received[-1].levelname) == (17, "Level 17")


@pytest.mark.parametrize("name", ["root", "__main__", "a.b.c"])
def test_any_logger_has_its_twin_in_the_parent(sent: list[bytes], name: str) -> None:
    logging.getLogger(name).warning("x")
    found: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: found.append(record.name)  # type: ignore[method-assign]
    logging.getLogger().handlers[:] = [handler]
    emit(sent[0])
    assert found == [name]


# The worker's side


def test_handlers_a_fork_has_from_its_parent_are_not_used() -> None:
    used: list[Any] = []
    handler = logging.Handler()
    handler.emit = used.append  # type: ignore[method-assign]
    named = logging.getLogger("forked.with.handlers")
    for each in (logging.getLogger(), named):
        each.addHandler(handler)
    named.propagate = False
    found: list[bytes] = []
    forward_logs(found.append)
    named.warning("x")
    assert len(found) == 1
    assert not used


def test_a_child_of_the_worker_sends_nothing_and_warns_on_stderr(
    sent: list[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("some")
    assert threading.active_count() == 1
    pid = os.fork()
    if pid == 0:
        log.info("an info of the child")
        log.warning("a warning of the child")
        os._exit(len(sent))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not sent
    said = capfd.readouterr().err
    assert "a warning of the child" in said
    assert "an info of the child" not in said


def test_a_record_that_cannot_be_made_into_text_is_told_on_stderr_and_raises_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sent: list[bytes] = []
    forward_logs(sent.append)
    logging.getLogger("some").warning("%d", "no number")
    assert not sent
    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_way_that_is_closed_raises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    def send(data: bytes) -> None:
        raise OSError("closed")

    forward_logs(send)
    logging.getLogger("some").warning("x")
    assert "OSError: closed" in capsys.readouterr().err


def test_what_is_sent_is_plain_data(sent: list[bytes]) -> None:
    logging.getLogger("some").warning("x", extra={"thing": object()})
    assert json.loads(sent[0])[:2] == ["some", "x"]


# Levels


def test_levels_are_those_that_were_set() -> None:
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("some.loud").setLevel(logging.DEBUG)
    logging.getLogger("some.plain")
    found = levels()
    assert found[""] == logging.ERROR
    assert found["some.loud"] == logging.DEBUG
    assert "some.plain" not in found
    assert json.loads(json.dumps(found)) == found


def test_the_roots_level_is_told_also_when_it_lets_all_through() -> None:
    logging.getLogger().setLevel(logging.NOTSET)
    assert levels()[""] == logging.NOTSET


def test_levels_are_applied_and_those_of_the_run_before_are_gone() -> None:
    root, loud, silent = (logging.getLogger(name) for name in ("", "some.loud", "some.silent"))
    apply_levels({"": logging.ERROR, "some.loud": logging.DEBUG})
    assert (root.level, loud.level) == (logging.ERROR, logging.DEBUG)
    apply_levels({"": logging.INFO, "some.silent": logging.CRITICAL})
    assert (root.level, loud.level, silent.level) == (logging.INFO, logging.NOTSET, logging.CRITICAL)
    apply_levels({"": logging.WARNING})
    assert silent.level == logging.NOTSET


def test_what_the_parent_would_not_log_is_not_sent(sent: list[bytes]) -> None:
    apply_levels({"": logging.WARNING, "some.loud": logging.DEBUG})
    logging.getLogger("some").info("silent")
    logging.getLogger("some.loud.child").debug("loud")
    assert [json.loads(each)[1] for each in sent] == ["loud"]


# The parent's side


def test_a_level_the_parent_has_raised_meanwhile_counts(
    sent: list[bytes], received: list[logging.LogRecord]
) -> None:
    logging.getLogger("parent.child").info("x")
    del received[:]
    logging.getLogger("parent").setLevel(logging.WARNING)
    emit(sent[0])
    assert not received


def test_a_filter_of_the_parent_counts(sent: list[bytes], received: list[logging.LogRecord]) -> None:
    logging.getLogger("parent.child").info("x")
    del received[:]
    log = logging.getLogger("parent.child")
    refuse = lambda record: False  # noqa: E731  # to be taken off again
    log.addFilter(refuse)
    try:
        emit(sent[0])
    finally:
        log.removeFilter(refuse)
    assert not received


def test_a_handler_that_raises_is_told_on_stderr_and_raises_nothing(
    sent: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("some").warning("x")

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("broken")

    logging.getLogger().handlers[:] = [Broken()]
    emit(sent[0])
    assert "RuntimeError: broken" in capsys.readouterr().err


def test_without_any_handler_a_warning_is_on_stderr_once(
    sent: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("some").warning("x")
    logging.getLogger().handlers.clear()
    emit(sent[0])
    assert capsys.readouterr().err == "x\n"
