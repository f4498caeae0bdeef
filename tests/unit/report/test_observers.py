"""How observers are told, and kept from doing harm."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from dotflow_like import ConfigError, Metrics, Tracer
from dotflow_like.report.events import Event, RunEnded, RunStarted
from dotflow_like.report.observers import check_provider, fan_out, guarded, observers_of

STARTED = RunStarted("w", {"workflow": "load"})


def test_everybody_is_told_in_order_whatever_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    def broken(event: Event) -> None:
        raise ValueError("mine")

    tell = fan_out([lambda event: seen.append(("one", event)), broken, lambda event: seen.append("two")])
    tell(STARTED)
    assert seen == [("one", STARTED), "two"]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "mine" in caplog.text


@pytest.mark.parametrize("error", [Exception, SystemExit, GeneratorExit, BaseException])
def test_guarded_swallows_and_logs(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise error("mine")

    guarded("somebody", broken)
    assert "somebody" in caplog.text
    assert "broken" in caplog.text


def test_guarded_lets_ctrl_c_through() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded("somebody", interrupted)


def test_guarded_passes_arguments_and_names_objects(caplog: pytest.LogCaptureFixture) -> None:
    class Callable:
        def __call__(self, *args: Any, **kwargs: Any) -> None:
            raise ValueError(args, kwargs)

    guarded("somebody", Callable(), 1, x=2)
    assert "Callable" in caplog.text
    assert "(1,), {'x': 2}" in caplog.text


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        STARTED.workflow_id = "other"  # type: ignore[misc]


def test_a_pause_counts_as_neither_end() -> None:
    seen: list[str] = []

    class Count(Metrics):
        def workflow_completed(self, workflow_id: str, duration: float) -> None:
            seen.append("completed")

        def workflow_failed(self, workflow_id: str, duration: float) -> None:
            seen.append("failed")

    (observe, *_) = observers_of(None, Count())
    for status in ("paused", "cancelled"):
        observe(RunEnded("w", {"status": status, "duration": 1.0, "reason": None, "workflow": "x"}))
    assert seen == []


def test_with_nobody_to_tell_there_are_no_observers() -> None:
    logger = logging.getLogger("dotflow_like")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        assert observers_of(None, None) == []
        assert len(observers_of(Tracer(), Metrics())) == 2
    finally:
        logger.setLevel(level)


@pytest.mark.parametrize(("kind", "word"), [(Tracer, "tracer"), (Metrics, "metrics")])
def test_a_provider_needs_one_of_the_methods(kind: type, word: str) -> None:
    check_provider(None, kind, word)
    check_provider(kind(), kind, word)
    with pytest.raises(ConfigError, match=f"{word} is .*give an instance"):
        check_provider(object(), kind, word)
    with pytest.raises(ConfigError, match="give an instance"):
        check_provider(kind, kind, word)
