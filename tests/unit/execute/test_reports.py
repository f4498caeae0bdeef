"""Progress on its way to the kernel: at once in its own thread, one message at a time from others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from dotflow_like.execute.reports import Reports
from dotflow_like.model.context import Progress


def in_thread(body: Callable[[], object]) -> None:
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()


def test_in_the_kernels_own_thread_it_is_told_at_once() -> None:
    told: list[Any] = []
    put: list[Any] = []
    reports = Reports(put.append, lambda call, progress: told.append((call, progress)))
    reports.begin()
    call: Any = object()
    reports.add(call, Progress(1))
    reports.add(call, Progress(2))
    assert told == [(call, (1, None, None)), (call, (2, None, None))]
    assert not put


def test_from_another_thread_one_message_waits_and_brings_the_latest() -> None:
    put: list[Any] = []
    reports = Reports(put.append, lambda call, progress: None)
    reports.begin()
    one: Any = object()
    other: Any = object()
    in_thread(lambda: [reports.add(one, Progress(i)) for i in range(100)])
    in_thread(lambda: reports.add(other, Progress(7)))
    assert [message.call for message in put] == [one, other]
    assert [reports.latest(message) for message in put] == [(99, None, None), (7, None, None)]


def test_after_one_was_taken_the_next_is_sent() -> None:
    put: list[Any] = []
    reports = Reports(put.append, lambda call, progress: None)
    reports.begin()
    call: Any = object()
    in_thread(lambda: reports.add(call, Progress(1)))
    assert reports.latest(put.pop()) == Progress(1)
    in_thread(lambda: reports.add(call, Progress(2)))
    assert reports.latest(put.pop()) == Progress(2)


def test_the_last_word_always_arrives() -> None:
    put: list[Any] = []
    reports = Reports(put.append, lambda call, progress: None)
    reports.begin()
    call: Any = object()
    thread = threading.Thread(target=lambda: [reports.add(call, Progress(i)) for i in range(20_000)])
    thread.start()
    seen = []
    while thread.is_alive() or put:
        if put:
            seen.append(reports.latest(put.pop(0)).done)
    assert seen[-1] == 19_999
    assert seen == sorted(seen)
