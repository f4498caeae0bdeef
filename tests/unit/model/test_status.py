"""The states and the moves between them."""

from __future__ import annotations

import itertools
from enum import StrEnum

import pytest

from dotflow_like import AttemptOutcome, AttemptStatus, IllegalMove, Mode, OnChange, RunStatus, TaskStatus
from dotflow_like.model.status import ATTEMPT_MOVES, RUN_MOVES, check_move


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (Mode, "sequential sequential_group background parallel"),
        (OnChange, "reuse reset rerun raise"),
        (RunStatus, "pending running paused completed failed cancelled"),
        (TaskStatus, "pending running retrying paused completed failed skipped cancelled"),
        (AttemptStatus, "scheduled running completed failed skipped cancelled"),
        (
            AttemptOutcome,
            "success failed retried timed_out recovered discarded skipped cancelled paused",
        ),
    ],
)
def test_the_words(words: type[StrEnum], values: str) -> None:
    assert [str(each) for each in words] == values.split()
    assert all(each == str(each) and each.name == each.upper() for each in words)


FINAL = {AttemptStatus.COMPLETED, AttemptStatus.FAILED, AttemptStatus.SKIPPED, AttemptStatus.CANCELLED}


def test_a_final_state_stays_final() -> None:
    for before, after in itertools.product(FINAL, AttemptStatus):
        with pytest.raises(IllegalMove, match=r"attempt w/t/1 is .* cannot become .*nothing: it has ended"):
            check_move("w/t/1", before, after)


def test_every_state_has_its_moves() -> None:
    assert set(ATTEMPT_MOVES) == {None, *AttemptStatus}
    assert set(RUN_MOVES) == set(RunStatus)


def test_every_attempt_can_end_in_every_way_once_it_runs() -> None:
    for after in FINAL:
        check_move("a", AttemptStatus.RUNNING, after)
    check_move("a", None, AttemptStatus.SCHEDULED)
    check_move("a", None, AttemptStatus.RUNNING)
    check_move("a", AttemptStatus.SCHEDULED, AttemptStatus.RUNNING)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (None, AttemptStatus.COMPLETED, "is not recorded and cannot become completed; .*running, scheduled"),
        (AttemptStatus.SCHEDULED, AttemptStatus.COMPLETED, "is scheduled and cannot become completed"),
        (AttemptStatus.RUNNING, AttemptStatus.SCHEDULED, "is running and cannot become scheduled"),
        (AttemptStatus.RUNNING, AttemptStatus.RUNNING, "is running and cannot become running"),
    ],
)
def test_an_illegal_move_says_what_is_legal(
    before: AttemptStatus | None, after: AttemptStatus, message: str
) -> None:
    with pytest.raises(IllegalMove, match=message):
        check_move("w/t/1", before, after)


def test_only_running_reopens_a_run_that_has_ended() -> None:
    ended = {RunStatus.PAUSED, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
    assert {status: set(RUN_MOVES[status]) for status in ended} == {
        status: {RunStatus.RUNNING} for status in ended
    }
    assert ended < RUN_MOVES[RunStatus.RUNNING]
