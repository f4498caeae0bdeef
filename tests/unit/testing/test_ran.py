"""What has run in a run, as a test asserts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dotflow_like import DotflowWarning, Manager, MemoryStorage, Workflow, task
from dotflow_like.testing import assert_ran, ran, run_inline


@task
def first() -> int:
    return 1


@task
def second(x: int) -> int:
    return x + 1


def bad(x: int = 0) -> int:
    raise ValueError(x)


def test_it_is_in_the_order_they_began() -> None:
    tasks = [second.bind(x=first), first]
    assert ran(run_inline(tasks, mode="parallel")) == ["first", "second"]
    assert ran(Manager(tasks, mode="parallel", executor="thread")) == ["first", "second"]


def test_a_task_of_several_attempts_is_there_once() -> None:
    flaky = task(bad, name="flaky", retry=3)
    assert ran(run_inline([flaky], on_failure=lambda tasks: None)) == ["flaky"]


def test_what_failed_has_run_and_what_did_not_begin_has_not() -> None:
    run = run_inline([first, task(bad, name="bad"), second.bind(x=first)], on_failure=lambda tasks: None)
    assert ran(run) == ["first", "bad"]
    assert_ran(run, first, "bad")


def test_what_was_restored_has_not_run() -> None:
    workflow, storage = Workflow([first, second.bind(x=first)]), MemoryStorage()
    for expected in (["first", "second"], []):
        run = run_inline(workflow, storage=storage, workflow_id="w", resume=True)
        assert ran(run) == expected
    assert_ran(run)


def test_after_starting_over_it_is_what_ran_since(tmp_path: Path) -> None:
    run_inline([first], storage=tmp_path, workflow_id="w")
    with pytest.warns(DotflowWarning, match="starts over"):
        run = run_inline([second.bind(x=1)], storage=tmp_path, workflow_id="w")
    assert ran(run) == ["second"]


def test_a_map_stands_for_its_items() -> None:
    items = second.map(x=[1, 2])
    run = run_inline([first, items])
    assert ran(run) == ["first", "second[0]", "second[1]"]
    assert_ran(run, first, items)
    assert_ran(run, "first", "second")
    assert_ran(run, "first", "second[0]", "second[1]")


def test_the_error_shows_both_lists_and_why_others_did_not_run() -> None:
    storage = MemoryStorage()
    failing = task(bad, name="bad").bind(x=first)
    tasks = [first, failing, second.bind(x=failing)]
    run_inline(tasks[:1], storage=storage, workflow_id="w")
    run = run_inline(
        tasks, storage=storage, workflow_id="w", resume=True, keep_going=True, on_failure=lambda tasks: None
    )
    with pytest.raises(AssertionError) as caught:
        assert_ran(run, first, second)
    assert str(caught.value).splitlines() == [
        "run w is failed (failed: bad)",
        "  expected to run: first, second",
        "  ran:             bad",
        "  first did not run: restored",
        "  second did not run: skipped: it needs the result of 'bad', which is failed",
    ]


def test_what_was_not_reached_is_pending() -> None:
    run = run_inline([task(bad, name="bad"), first], on_failure=lambda tasks: None)
    with pytest.raises(AssertionError, match="first did not run: pending, its turn did not come"):
        assert_ran(run)


def test_another_order_is_told() -> None:
    run = run_inline([first, second.bind(x=first)])
    with pytest.raises(AssertionError, match=r"expected to run: second, first\n +ran: +first, second"):
        assert_ran(run, second, first)
    with pytest.raises(AssertionError, match=r"expected to run: nothing\n"):
        assert_ran(run)


def test_a_task_that_is_not_in_the_run_is_named() -> None:
    with pytest.raises(KeyError, match="not at all"):
        assert_ran(run_inline([first]), "frist")
