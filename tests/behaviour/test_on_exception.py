"""on_exception: who decides what becomes of an error, in which order, and what of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Config, Manager, MemoryStorage, RetryPolicy, TaskContext, Workflow, task
from dotflow_like.config import open_journal
from dotflow_like.errors import DeclarationError, TaskTimeout, WorkerDied
from dotflow_like.testing import FakeClock, run_inline

QUIET: dict[str, Any] = {"on_failure": lambda tasks: None}


def raises(error: BaseException, until: int = 1, **options: Any) -> Any:
    """Return a task that raises in its first attempts, then returns."""

    def it(ctx: TaskContext) -> str:
        if ctx.attempt.number <= until:
            raise error
        return "done"

    return task(it, **options)


def became(
    on_task: Any = None, on_workflow: Any = None, error: BaseException | None = None, **options: Any
) -> str:
    """Return what becomes of a task that raises."""
    if on_task is not None:
        options["on_exception"] = on_task
    wide = {} if on_workflow is None else {"on_exception": on_workflow}
    run = run_inline(Workflow([raises(error or ValueError("why"), until=1, **options)], **wide), **QUIET)
    return str(run.tasks[0].status)


SKIPPED, PAUSED, CANCELLED, FAILED, COMPLETED = "skipped", "paused", "cancelled", "failed", "completed"


# Whose rule it is


@pytest.mark.parametrize(
    ("on_task", "on_workflow", "status"),
    [
        (None, None, FAILED),
        ("skip", None, SKIPPED),
        (None, "skip", SKIPPED),
        ("pause", "skip", PAUSED),
        ({ValueError: "pause"}, {ValueError: "skip"}, PAUSED),
        ("pause", {ValueError: "skip"}, PAUSED),
        ({KeyError: "pause"}, {ValueError: "skip"}, SKIPPED),
        ({KeyError: "pause"}, "skip", SKIPPED),
        ({KeyError: "pause"}, {KeyError: "skip"}, FAILED),
        (["pause", {KeyError: "skip"}], None, PAUSED),
        (["pause", {ValueError: "skip"}], None, SKIPPED),
        ([{ValueError: "skip"}, "pause"], None, SKIPPED),
        (None, ["pause", {ValueError: "skip"}], SKIPPED),
        (None, [{ValueError: "skip"}, "pause"], SKIPPED),
        (None, ["skip", "pause"], PAUSED),
        (["skip", "pause"], "cancel", PAUSED),
        ("fail", "skip", FAILED),
        ({ValueError: "fail"}, "skip", FAILED),
    ],
)
def test_the_task_comes_before_the_workflow_and_what_is_specific_before_what_is_not(
    on_task: Any, on_workflow: Any, status: str
) -> None:
    assert became(on_task, on_workflow) == status


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ({Exception: "pause", ValueError: "skip"}, SKIPPED),
        ({ValueError: "skip", Exception: "pause"}, PAUSED),
        ([{ValueError: "skip"}, {Exception: "pause"}], PAUSED),
        ([{Exception: "pause"}, {ValueError: "skip"}], SKIPPED),
        ([{ValueError: "skip"}, {KeyError: "pause"}], SKIPPED),
        ([{ValueError: "skip"}, {ValueError: "cancel"}], CANCELLED),
    ],
)
def test_of_those_that_fit_the_newest_counts(rules: Any, status: str) -> None:
    assert became(rules) == status
    assert became(None, rules) == status


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        (ValueError, True),
        (Exception, True),
        (KeyError, False),
        (UnicodeError, False),
        ((KeyError, ValueError), True),
        ((KeyError, OSError), False),
        (lambda error: "why" in str(error), True),
        (lambda error: "not" in str(error), False),
        (lambda error: isinstance(error, ValueError), True),
    ],
)
def test_a_rule_is_for_classes_tuples_and_matchers(key: Any, fits: bool) -> None:
    assert became({key: "skip"}) == (SKIPPED if fits else FAILED)


def test_classes_name_what_derives_from_them_in_worker_processes_too(tmp_path: Path) -> None:
    class Mine(ValueError):
        pass

    def bad(error: type[BaseException]) -> None:
        raise error("why")

    rules: Any = {LookupError: "skip", Mine: "skip", Exception: "fail"}
    ordered: Any = [{Exception: "fail"}, {LookupError: "skip"}, {Mine: "skip"}]
    tasks = [
        task(bad, name="derived", on_exception=ordered).bind(error=KeyError),
        task(bad, name="mine", on_exception=ordered).bind(error=Mine),
        task(bad, name="other", on_exception=ordered).bind(error=OSError),
        task(bad, name="newest", on_exception=rules).bind(error=KeyError),
    ]
    run = Manager(tasks, mode="parallel", max_workers=2, keep_going=True, **QUIET)
    assert [each.status for each in run.tasks] == [SKIPPED, SKIPPED, FAILED, FAILED]


UNLOADABLE = """
class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")
        self.two = two

    def __reduce__(self):
        return Odd, ()
"""


def odd(word: str = "raise") -> None:
    """Raise an error that no other process can load."""
    space: dict[str, Any] = {"__name__": "nowhere"}
    exec(UNLOADABLE, space)
    raise space["Odd"]("this", "that")


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ("skip", SKIPPED),
        ({Exception: "skip"}, SKIPPED),
        ({ValueError: "skip"}, FAILED),
        (lambda error: "skip" if "this and that" in str(error) else "fail", SKIPPED),
        ({(lambda error: "this and that" in str(error)): "skip"}, SKIPPED),
        (lambda error: "skip" if isinstance(error, Exception) else "fail", SKIPPED),
    ],
)
def test_an_error_that_cannot_be_loaded_here_is_decided_about_as_well(rules: Any, status: str) -> None:
    run = Manager([task(odd, on_exception=rules)], mode="parallel", max_workers=1, **QUIET)
    assert run["odd"].status == status
    assert run.attempts[0].error is not None
    assert run.attempts[0].error.exception == "Odd"


# Words


def test_each_word(run_in: Callable[..., Manager]) -> None:
    expected = {
        "skip": (SKIPPED, COMPLETED),
        "pause": (PAUSED, PAUSED),
        "cancel": (CANCELLED, CANCELLED),
        "fail": (FAILED, FAILED),
    }
    for word, (status, ended) in expected.items():
        called: list[str] = []
        run = run_in(
            [raises(ValueError("why"), name="it", on_exception=word)],
            on_success=lambda tasks: called.append("success"),  # noqa: B023 - called before the next turn
            on_failure=lambda tasks: called.append("failure"),  # noqa: B023
        )
        assert (run["it"].status, run.status) == (status, ended), word
        (attempt,) = run.attempts
        assert attempt.error is not None
        assert (attempt.error.exception, attempt.error.message) == ("ValueError", "why")
        assert called == {COMPLETED: ["success"], FAILED: ["failure"]}.get(ended, [])
        if word != "fail":
            assert run["it"].reason == "ValueError: why"
        if ended in (PAUSED, CANCELLED):
            assert run.reason is not None
            assert "'it'" in run.reason
            assert "ValueError: why" in run.reason


def test_what_comes_after_a_skip_by_a_policy_runs_and_what_needs_it_does_not() -> None:
    it = raises(ValueError("why"), name="it", on_exception="skip")
    run = Manager([it, task(lambda x: x, name="needs").bind(x=it), task(lambda: 1, name="after")])
    assert [each.status for each in run.tasks] == [SKIPPED, SKIPPED, COMPLETED]


def test_a_policy_of_an_item_is_the_items(run_in: Callable[..., Manager]) -> None:
    def body(x: int) -> int:
        if x == 2:
            raise ValueError("two")
        return x

    many = task(body, name="many", on_exception="skip").map(x=[1, 2, 3])
    run = run_in([many])
    assert (run.status, run[many].result) == (COMPLETED, [1, None, 3])


def test_retry_means_within_the_policy_whatever_retry_on_says() -> None:
    policy = RetryPolicy(max_attempts=3, delay=7, retry_on=KeyError, then="skip")
    with FakeClock() as clock:
        run = Manager(
            [raises(ValueError("why"), until=9, name="it", retry=policy, on_exception={ValueError: "retry"})]
        )
        assert clock.elapsed == 14
    assert [each.outcome for each in run.attempts] == ["retried", "retried", "skipped"]
    assert run["it"].status == SKIPPED


def test_a_retry_of_the_workflow_is_within_each_tasks_policy() -> None:
    one = raises(ValueError("why"), until=9, name="one")
    three = raises(ValueError("why"), until=9, name="three", retry=3, retry_on=KeyError)
    run = run_inline(Workflow([one, three], on_exception="retry"), keep_going=True, **QUIET)
    assert [len(each.attempts) for each in run.tasks] == [1, 3]
    assert [each.status for each in run.tasks] == [FAILED, FAILED]


@pytest.mark.parametrize(
    ("then", "status"), [("fail", FAILED), ("skip", SKIPPED), ("pause", PAUSED), ("cancel", CANCELLED)]
)
def test_then_is_what_becomes_of_it_when_its_tries_are_used_up(then: Any, status: str) -> None:
    run = run_inline(
        [raises(ValueError("why"), until=9, name="it", retry=RetryPolicy(max_attempts=4, then=then))], **QUIET
    )
    assert run["it"].status == status
    assert len(run.attempts) == 4
    assert run.attempts[-1].error is not None
    assert [each.attempt for each in run["it"].errors] == [1, 2, 3, 4]


def test_an_error_that_is_not_to_be_tried_again_fails_whatever_then_says() -> None:
    policy = RetryPolicy(max_attempts=4, retry_on=KeyError, then="skip")
    run = run_inline([raises(ValueError("why"), name="it", retry=policy)], **QUIET)
    assert (run["it"].status, len(run.attempts)) == (FAILED, 1)


# Handlers


@pytest.mark.parametrize(
    ("word", "status"), [("skip", SKIPPED), ("pause", PAUSED), ("cancel", CANCELLED), ("fail", FAILED)]
)
def test_a_handler_is_given_the_error_and_chooses(
    run_in: Callable[..., Manager], word: str, status: str
) -> None:
    given: list[BaseException] = []

    def choose(error: BaseException) -> str:
        given.append(error)
        return word

    run = run_in([raises(ValueError("why"), name="it", on_exception=choose)], **QUIET)
    assert run["it"].status == status
    assert [(type(each), str(each)) for each in given] == [(ValueError, "why")]


def test_a_handler_may_take_ctx(run_in: Callable[..., Manager]) -> None:
    seen: list[Any] = []

    def choose(error: BaseException, ctx: TaskContext) -> str:
        seen.append((ctx.task_id, ctx.workflow_id, ctx.attempt.number, ctx.params["p"]))
        return "skip"

    def it(p: int) -> None:
        raise ValueError("why")

    run = run_in([task(it, on_exception=choose)], workflow_id="w", params={"p": 7})
    assert run["it"].status == SKIPPED
    assert seen == [("it", "w", 1, 7)]


def test_a_handler_may_send_a_signal_with_a_reason(run_in: Callable[..., Manager]) -> None:
    for word, status in (("skip", SKIPPED), ("pause", PAUSED), ("cancel", CANCELLED)):

        def choose(error: BaseException, ctx: TaskContext) -> None:
            getattr(ctx, word)(f"because of {error}")  # noqa: B023 - called before the next turn

        run = run_in([raises(ValueError("why"), name="it", on_exception=choose)])
        assert (run["it"].status, run["it"].reason) == (status, "because of why")
        assert run.attempts[0].metadata["signal"] == word
        assert run.attempts[0].metadata["signal_reason"] == "because of why"


def test_a_handler_cannot_finish_the_run_since_its_task_has_failed() -> None:
    def choose(error: BaseException, ctx: TaskContext) -> None:
        ctx.finish("enough")

    run = Manager([raises(ValueError("why"), name="it", on_exception=choose)], **QUIET)
    assert (run.status, run["it"].status) == (FAILED, FAILED)
    error = run["it"].errors[0].error
    assert isinstance(error, ValueError)
    assert "ctx.finish" in "".join(error.__notes__)


@pytest.mark.parametrize("after", [30, timedelta(seconds=30)])
def test_a_handler_chooses_when_it_is_tried_again(after: Any) -> None:
    def choose(error: BaseException, ctx: TaskContext) -> None:
        ctx.retry(after=after)

    with FakeClock() as clock:
        run = Manager(
            [raises(ValueError("why"), until=2, name="it", retry=3, on_exception={ValueError: choose})]
        )
        assert clock.elapsed == 60
    assert run.status == COMPLETED
    assert [each.outcome for each in run.attempts] == ["retried", "retried", "success"]


def test_a_handler_that_asks_for_ever_more_tries_gets_those_of_the_policy() -> None:
    run = run_inline(
        [
            raises(
                ValueError("why"),
                until=99,
                name="it",
                retry=4,
                on_exception={ValueError: lambda e, ctx: ctx.retry(after=1)},
            )
        ],
        **QUIET,
    )
    assert (run["it"].status, len(run.attempts)) == (FAILED, 4)


def explodes(error: BaseException) -> str:
    raise RuntimeError("the handler's own")


@pytest.mark.parametrize(
    "rules",
    [
        explodes,
        {ValueError: explodes},
        {explodes: "skip"},
        lambda error: "nonsense",
        lambda error: None,
        lambda error: 7,
        lambda error: ["skip"],
        lambda error: ValueError("returned"),
        lambda: "skip",
        lambda error, more: "skip",
        {ValueError: lambda error: object()},
    ],
)
@pytest.mark.parametrize("wide", [False, True], ids=["task", "workflow"])
def test_one_that_raises_or_returns_rubbish_leaves_the_task_failed_with_its_own_error(
    rules: Any, wide: bool, caplog: pytest.LogCaptureFixture
) -> None:
    storage = MemoryStorage()
    try:
        it = raises(
            ValueError("why"),
            name="it",
            retry=RetryPolicy(max_attempts=1),
            **({} if wide else {"on_exception": rules}),
        )
        workflow = Workflow([it, task(lambda: 1, name="later")], **({"on_exception": rules} if wide else {}))
    except (DeclarationError, TypeError):
        return  # refused where it is written: better still
    with caplog.at_level(logging.ERROR, "dotflow_like"):
        run = workflow.run(storage=storage, workflow_id="w", **QUIET)
    assert (run.status, run["it"].status) == (FAILED, FAILED)
    (attempt,) = run.attempts
    assert (attempt.status, attempt.outcome) == ("failed", "failed")
    assert attempt.error is not None
    assert attempt.error.exception == "ValueError"
    assert isinstance(attempt.error.error, ValueError)
    assert "on_exception" in "".join(getattr(attempt.error.error, "__notes__", []))
    assert any("on_exception" in each.getMessage() for each in caplog.records)
    recorded = open_journal(Config(storage=storage), Workflow([])).attempts("w")
    assert [each.status for each in recorded] == ["failed"]


@pytest.mark.parametrize("problem", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_one_that_raises_what_is_no_exception_leaves_no_attempt_running(problem: BaseException) -> None:
    storage = MemoryStorage()

    def choose(error: BaseException) -> str:
        raise problem

    with suppress(type(problem)):
        Manager(
            [raises(ValueError("why"), name="it", on_exception=choose)],
            storage=storage,
            workflow_id="w",
            **QUIET,
        )
    journal = open_journal(Config(storage=storage), Workflow([]))
    record = journal.run("w")
    assert record is not None
    assert record.status not in ("running", "pending")
    assert [each.status for each in journal.attempts("w")] != ["running"]


def test_a_handler_runs_where_the_run_is(tmp_path: Path) -> None:
    import os

    seen: list[int] = []

    def choose(error: BaseException) -> str:
        seen.append(os.getpid())
        return "skip"

    Manager([raises(ValueError("why"), name="it", on_exception=choose)], mode="parallel", max_workers=1)
    assert seen == [os.getpid()]


# What uses up tries


def test_errors_are_counted_anew_after_a_success_of_the_attempt_before() -> None:
    """Errors, a completed attempt, errors: those before it are forgotten."""

    def it(ctx: TaskContext) -> str:
        if ctx.attempt.number == 4:
            ctx.retry("a part is done")
        if ctx.attempt.number <= 7:
            raise ValueError(f"error {ctx.attempt.number}")
        return "done"

    run = run_inline([task(it, retry=4)])
    assert run.status == COMPLETED
    assert [each.outcome for each in run.attempts] == ["retried"] * 7 + ["success"]
    run = run_inline([task(it, retry=3)], **QUIET)
    assert (run.status, len(run.attempts)) == (FAILED, 3)


def test_delays_grow_from_the_beginning_after_a_success() -> None:
    def it(ctx: TaskContext) -> str:
        number = ctx.attempt.number
        if number == 3:
            ctx.retry()
        if number < 6:
            raise ValueError("why")
        return "done"

    with FakeClock() as clock:
        Manager([task(it, retry=RetryPolicy(max_attempts=3, delay=1, backoff=10))]).raise_for_failure()
        assert clock.elapsed == 1 + 10 + 1 + 10


def test_a_resumed_run_counts_anew(tmp_path: Path) -> None:
    storage = MemoryStorage()
    it = raises(ValueError("why"), until=5, name="it", retry=3)
    first = run_inline([it], storage=storage, workflow_id="w", **QUIET)
    assert len(first.attempts) == 3
    again = run_inline([it], storage=storage, workflow_id="w", resume=True, **QUIET)
    assert again.status == COMPLETED
    assert [each.number for each in again.attempts] == [1, 2, 3, 4, 5, 6]


def test_errors_of_conditions_use_up_tries() -> None:
    calls: list[int] = []

    def condition(ctx: TaskContext) -> bool:
        calls.append(ctx.attempt.number)
        raise KeyError("condition")

    run = run_inline([task(lambda: 1, name="it", retry=3, skip_if=condition)], **QUIET)
    assert (run.status, calls) == (FAILED, [1, 2, 3])
    assert [each.exception for each in run["it"].errors] == ["KeyError"] * 3


# Deaths and timeouts


def dies(ctx: TaskContext) -> str:
    import os

    if ctx.attempt.number == 1:
        os._exit(3)
    return "done"


def hangs(ctx: TaskContext) -> str:
    if ctx.attempt.number == 1:
        time.sleep(60)
    return "done"


@pytest.mark.parametrize(
    ("body", "error", "outcome"),
    [(dies, WorkerDied, "failed"), (hangs, TaskTimeout, "timed_out")],
    ids=["death", "timeout"],
)
def test_deaths_of_workers_and_timeouts_are_errors_like_others(
    body: Callable[..., Any], error: type[BaseException], outcome: str
) -> None:
    def policed(name: str, **options: Any) -> Any:
        return task(body, name=name, isolate=True, timeout=None if body is dies else 0.05, **options)

    def run_of(each: Any) -> tuple[str, list[str]]:
        run = Manager([each], **QUIET)
        return str(run.tasks[0].status), [str(attempt.outcome) for attempt in run.attempts]

    retry = RetryPolicy(max_attempts=2, worker_deaths=1)
    assert run_of(policed("skip", on_exception={error: "skip"})) == (SKIPPED, ["skipped"])
    assert run_of(policed("pause", on_exception=lambda e: "pause" if isinstance(e, error) else "fail")) == (
        PAUSED,
        [outcome],
    )
    assert run_of(policed("other", on_exception={KeyError: "skip"})) == (FAILED, [outcome])
    again = "retried" if body is dies else "timed_out"
    assert run_of(policed("retry", retry=retry)) == (COMPLETED, [again, "success"])
    assert run_of(policed("retry too", retry=2, on_exception={error: "retry"})) == (
        COMPLETED,
        [again, "success"],
    )


def test_then_holds_for_deaths_and_timeouts() -> None:
    policy = RetryPolicy(then="skip")
    tasks = [
        task(dies, isolate=True, retry=policy),
        task(hangs, isolate=True, timeout=0.05, retry=policy),
    ]
    run = Manager(tasks)
    assert [each.status for each in run.tasks] == [SKIPPED, SKIPPED]
    assert run.status == COMPLETED


# Refused where it is written


@pytest.mark.parametrize(
    "options",
    [
        {"retry": 2, "on_exception": "skip"},
        {"retry": 2, "on_exception": "fail"},
        {"retry": RetryPolicy(max_attempts=2), "on_exception": "pause"},
        {"retry": RetryPolicy(then="skip"), "on_exception": "pause"},
        {"on_exception": "retry"},
        {"skip_if": True, "run_if": True},
        {"skip_if": False, "run_if": lambda: True},
    ],
)
def test_what_contradicts_itself_is_refused_where_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        task(lambda: 1, name="it", **options)


def test_contradictions_are_refused_on_the_way_too() -> None:
    with pytest.raises(TypeError):
        task(lambda: 1, name="it", retry=2).with_options(on_exception="skip")
    with pytest.raises(TypeError):
        task(lambda: 1, name="it", on_exception="skip").with_options(retry=2)
    with pytest.raises(TypeError):
        task(lambda: 1, name="it", skip_if=True).with_options(run_if=True)


@pytest.mark.parametrize(
    "rules",
    [
        "nonsense",
        "finish",
        7,
        {ValueError: "nonsense"},
        {"ValueError": "skip"},
        {7: "skip"},
        {(ValueError, 7): "skip"},
        [7],
        {ValueError: None},
    ],
)
def test_what_is_no_policy_is_refused_where_it_is_written(rules: Any) -> None:
    with pytest.raises((DeclarationError, TypeError)):
        task(lambda: 1, name="it", on_exception=rules)
    with pytest.raises((DeclarationError, TypeError)):
        Workflow([task(lambda: 1, name="it")], on_exception=rules)


@pytest.mark.parametrize("then", ["retry", "finish", "", None, 1])
def test_then_is_one_of_four_words(then: Any) -> None:
    with pytest.raises(DeclarationError):
        RetryPolicy(then=then)


def test_what_goes_together_is_accepted() -> None:
    task(lambda: 1, name="it", retry=2, on_exception="retry")
    task(lambda: 1, name="it", retry=2, on_exception={KeyError: "skip"})
    task(
        lambda: 1,
        name="it",
        retry=RetryPolicy(max_attempts=3, then="pause"),
        on_exception={KeyError: "retry"},
    )
    Workflow([task(lambda: 1, name="it", retry=2)], on_exception="skip")


def test_the_managers_on_exception_is_the_workflows() -> None:
    run = Manager([raises(ValueError("why"), name="it")], on_exception={ValueError: "skip"})
    assert run["it"].status == SKIPPED


def test_a_task_is_still_called_like_its_function() -> None:
    it = raises(ValueError("why"), on_exception="skip")

    class Stub:
        class attempt:
            number = 1

    with pytest.raises(ValueError, match="why"):
        it(Stub)


@pytest.mark.parametrize(
    "problem", [ValueError("hook"), SystemExit(3), GeneratorExit()], ids=lambda each: type(each).__name__
)
@pytest.mark.parametrize(
    "where", ["callback", "start_task", "end_task", "start_workflow", "task_retried", "end_workflow"]
)
@pytest.mark.parametrize("word", ["skip", "pause", "cancel", "fail", "retry"])
def test_no_callback_and_no_watcher_that_raises_leaves_an_attempt_running(
    where: str, word: str, problem: BaseException
) -> None:
    raised: list[str] = []

    def explode(*args: Any, **info: Any) -> None:
        raised.append(where)
        raise problem

    class Watch:
        pass

    watch: Any = Watch()
    watch.end_workflow = watch.workflow_failed = lambda *args, **info: None
    if where != "callback":
        setattr(watch, where, explode)
    options: dict[str, Any] = {"callback": explode} if where == "callback" else {}
    options |= {"retry": 2, "on_exception": "retry"} if word == "retry" else {"on_exception": word}
    storage = MemoryStorage()
    config = Config(storage=storage, tracer=watch, metrics=watch)
    it = raises(ValueError("why"), name="it", **options)
    run = Manager([it, task(lambda: 1, name="later")], config=config, workflow_id="w", **QUIET)
    expected = {"skip": COMPLETED, "pause": PAUSED, "cancel": CANCELLED, "fail": FAILED, "retry": COMPLETED}
    assert run.status == expected[word]
    journal = open_journal(Config(storage=storage), Workflow([]))
    record = journal.run("w")
    assert record is not None
    assert record.status == run.status
    assert journal.attempts("w") == run.attempts
    assert not [each for each in run.attempts if each.status in ("running", "scheduled")]
    assert raised or (where, word) != ("task_retried", "retry")
