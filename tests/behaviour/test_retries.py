"""Retries: how often, when, for what, and what is recorded of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import AttemptOutcome, AttemptStatus, Manager, RetryPolicy, TaskStatus, task
from dotflow_like.testing import FakeClock, run_inline


def failing(times: int, error: type[BaseException] = ValueError, **options: Any) -> Any:
    """Return a task that fails so many times, then returns the number of its calls."""
    calls: list[int] = []

    def body() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise error(f"call {len(calls)}")
        return len(calls)

    return task(body, name="failing", **options)


def gaps_of(run: Any) -> list[float]:
    """Return the seconds between the end of each attempt and the start of the next."""
    return [
        (after.started_at - before.finished_at).total_seconds()
        for before, after in zip(run.attempts, run.attempts[1:], strict=False)
    ]


@pytest.mark.parametrize("retry", [1, 2, 3, 7])
def test_retry_is_the_number_of_attempts_in_all(retry: int) -> None:
    run = run_inline([failing(100, retry=retry)], on_failure=lambda tasks: None)
    (only,) = run.tasks
    assert len(only.attempts) == len(only.errors) == retry
    assert only.retry_count == retry - 1
    assert only.status is TaskStatus.FAILED
    assert [each.number for each in only.attempts] == list(range(1, retry + 1))
    assert [each.outcome for each in only.attempts] == ["retried"] * (retry - 1) + ["failed"]
    assert [each.message for each in only.errors] == [f"call {n}" for n in range(1, retry + 1)]


def test_without_retry_there_is_one_attempt(run_in: Callable[..., Manager]) -> None:
    run = run_in([task(lambda: 1 / 0, name="once")], on_failure=lambda tasks: None)
    assert len(run.attempts) == 1
    assert run["once"].retry_count == 0


def test_it_is_tried_again_until_it_succeeds(run_in: Callable[..., Manager], tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    @task(retry=5)
    def third_time() -> str:
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) < 3:
            raise ValueError("not yet")
        return "done"

    run = run_in([third_time])
    only = run[third_time]
    assert (only.status, only.result, only.retry_count) == (TaskStatus.COMPLETED, "done", 2)
    assert [each.outcome for each in only.attempts] == [
        AttemptOutcome.RETRIED,
        AttemptOutcome.RETRIED,
        AttemptOutcome.SUCCESS,
    ]
    assert [each.status for each in only.attempts] == [
        AttemptStatus.FAILED,
        AttemptStatus.FAILED,
        AttemptStatus.COMPLETED,
    ]
    assert [each.attempt for each in only.errors] == [1, 2]
    assert [each.error is None for each in only.attempts] == [False, False, True]


def test_what_is_recorded_of_each_attempt() -> None:
    run = run_inline([failing(1, retry=2, retry_delay=10)], workflow_id="w")
    first, second = run.attempts
    assert (first.id, second.id) == ("w/failing/1", "w/failing/2")
    assert first.idempotency_key == second.idempotency_key
    assert first.error is not None
    assert (first.error.exception, first.error.message) == ("ValueError", "call 1")
    assert first.finished_at is not None
    assert second.scheduled_at == second.started_at == first.finished_at + timedelta(seconds=10)
    assert first.scheduled_at == first.started_at
    assert first.owner == second.owner != ""
    assert first.fence == second.fence == 1
    assert first.worker is None
    assert run.tasks[0].started_at == first.started_at
    assert run.tasks[0].finished_at == second.finished_at
    assert run.tasks[0].duration == 10


def test_the_delay_is_between_the_attempts_only() -> None:
    with FakeClock() as clock:
        run = Manager([failing(2, retry=3, retry_delay=60), task(lambda: 1)])
    assert run.status == "completed"
    assert gaps_of(run)[:2] == [60, 60]
    assert clock.elapsed == 120


@pytest.mark.parametrize(
    ("backoff", "gaps"),
    [(False, [3, 3, 3]), (True, [3, 6, 12]), (1, [3, 3, 3]), (3, [3, 9, 27]), (1.5, [3, 4.5, 6.75])],
)
def test_backoff_is_the_factor_from_delay_to_delay(backoff: Any, gaps: list[float]) -> None:
    run = run_inline([failing(3, retry=4, retry_delay=3, backoff=backoff)])
    assert gaps_of(run) == gaps


def test_no_delay_is_longer_than_max_delay() -> None:
    policy = RetryPolicy(max_attempts=5, delay=3, backoff=2, max_delay=7)
    assert gaps_of(run_inline([failing(4, retry=policy)])) == [3, 6, 7, 7]


def test_jitter_adds_up_to_so_many_seconds() -> None:
    policy = RetryPolicy(max_attempts=40, delay=2, jitter=5)
    gaps = gaps_of(run_inline([failing(39, retry=policy)]))
    assert all(2 <= gap <= 7 for gap in gaps)
    assert len(set(gaps)) > 10


def test_a_delay_that_grows_without_limit_stays_a_number() -> None:
    policy = RetryPolicy(max_attempts=2000, delay=1, backoff=10)
    assert policy.pause_after(1999) == 365 * 24 * 3600


@pytest.mark.parametrize(
    ("retry_on", "error", "attempts"),
    [
        (ValueError, ValueError, 3),
        (ValueError, UnicodeError, 3),
        (ValueError, KeyError, 1),
        ((KeyError, OSError), ValueError, 1),
        ((KeyError, OSError), FileNotFoundError, 3),
        (Exception, SystemExit, 1),
        (BaseException, SystemExit, 3),
        (SystemExit, SystemExit, 3),
    ],
)
@pytest.mark.parametrize("executor", ["inline", "thread"])
def test_only_what_retry_on_names_is_tried_again(
    executor: Any, retry_on: Any, error: type[BaseException], attempts: int
) -> None:
    run = Manager(
        [failing(100, error, retry=3, retry_on=retry_on)],
        mode="parallel",
        executor=executor,
        on_failure=lambda tasks: None,
    )
    assert len(run.attempts) == attempts


def test_retry_on_holds_for_workers(tmp_path: Path) -> None:
    def bad(error: type[BaseException]) -> None:
        raise error("no")

    tasks = [
        task(bad, name="exact", retry=2, retry_on=ValueError).bind(error=ValueError),
        task(bad, name="derived", retry=2, retry_on=(KeyError, ValueError)).bind(error=UnicodeError),
        task(bad, name="other", retry=2, retry_on=ValueError).bind(error=KeyError),
        task(bad, name="exit", retry=2).bind(error=SystemExit),
        task(bad, name="exit too", retry=2, retry_on=BaseException).bind(error=SystemExit),
    ]
    run = Manager(tasks, mode="parallel", max_workers=2, keep_going=True, on_failure=lambda tasks: None)
    assert [len(each.attempts) for each in run.tasks] == [2, 2, 1, 1, 2]


def test_other_tasks_run_while_one_waits_for_its_next_attempt() -> None:
    log: list[str] = []

    @task(retry=2, retry_delay=1000)
    def waits() -> None:
        log.append("waits")
        if len(log) == 1:
            raise ValueError("again")

    tasks = [waits, *(task(lambda: log.append("other"), name=f"o{i}") for i in range(3))]
    with FakeClock():
        Manager(tasks, mode="parallel", executor="inline").raise_for_failure()
    assert log == ["waits", "other", "other", "other", "waits"]


def test_a_waiting_task_occupies_no_worker(tmp_path: Path) -> None:
    first, other = tmp_path / "first", tmp_path / "other"

    @task(retry=2, retry_delay=0.05)
    def waits() -> bool:
        if not first.exists():
            first.touch()
            raise ValueError("again")
        return other.exists()

    run = Manager([waits, task(other.touch, name="other")], mode="parallel", max_workers=1)
    assert run.raise_for_failure()[waits].result is True


def test_without_keep_going_a_task_is_still_tried_again_after_another_failed() -> None:
    with FakeClock():
        run = Manager(
            [
                failing(1, retry=2, retry_delay=5),
                task(lambda: 1 / 0, name="bad"),
                task(lambda: 1, name="new"),
            ],
            mode="parallel",
            executor="inline",
            on_failure=lambda tasks: None,
        )
    assert [each.status for each in run.tasks] == ["completed", "failed", "pending"]


def test_the_status_is_retrying_between_attempts() -> None:
    seen: list[Any] = []

    class Watch:
        def task_retried(self, task: Any) -> None:
            seen.append((task.status, len(task.attempts), task.errors[-1].message))

    from dotflow_like import Config

    with FakeClock():
        Manager([failing(2, retry=3, retry_delay=1)], config=Config(metrics=Watch()))
    assert [status for status, _, _ in seen] == [TaskStatus.RETRYING] * 2
    assert [message for _, _, message in seen] == ["call 1", "call 2"]


@pytest.mark.parametrize("error", [TimeoutError, AssertionError])
def test_the_users_own_timeout_and_assertion_errors_are_like_any_other(
    run_in: Callable[..., Manager], tmp_path: Path, error: type[Exception]
) -> None:
    tries = tmp_path / "tries"

    @task(retry=2)
    def second_time() -> int:
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) < 2:
            raise error("mine")
        return 2

    @task(retry=2)
    def never() -> None:
        raise error("mine")

    run = run_in([second_time, never], keep_going=True, on_failure=lambda tasks: None)
    assert run[second_time].result == 2
    assert [each.outcome for each in run[never].attempts] == ["retried", "failed"]
    kept = run[never].errors[0].error
    assert type(kept) is error
    assert str(kept) == "mine"


def test_ctx_tells_which_attempt_it_is(run_in: Callable[..., Manager]) -> None:
    @task(retry=3)
    def tell(ctx: Any) -> Any:
        if ctx.attempt.number < 3:
            raise ValueError("again")
        return ctx.attempt.number, ctx.attempt.id, ctx.task_id, ctx.idempotency_key

    run = run_in([tell], workflow_id="w")
    assert run[tell].result == (3, "w/tell/3", "tell", "w/tell/g1")
