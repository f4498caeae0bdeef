"""`on_exception=`: what it takes, what it chooses, and what contradicts it."""

from __future__ import annotations

import functools
import pickle
import types
from collections.abc import Awaitable, Iterator
from typing import Any, NoReturn

import cloudpickle
import pytest

from dotflow_like import DeclarationError, Manager, RetryPolicy, Task, TaskContext, Workflow, task
from dotflow_like.declare.reactions import (
    NO_REACTIONS,
    Reactions,
    chosen,
    exception_of,
    reaction_to,
    reactions_from,
)
from dotflow_like.errors import TaskFailure
from dotflow_like.model.records import TaskError
from dotflow_like.model.signals import Cancel, Finish, Pause, Retry, Signal, Skip

WORDS = pytest.mark.parametrize("word", ["fail", "retry", "skip", "pause", "cancel"])


def body(x: int = 0) -> int:
    return x


def handler(error: BaseException) -> str:
    return "skip"


def handler_with_ctx(error: BaseException, ctx: TaskContext) -> str:
    return "skip"


def mentions_disk(error: BaseException) -> bool:
    return "disk" in str(error)


async def later(error: BaseException) -> str:
    return "skip"


def generated(error: BaseException) -> Iterator[str]:
    yield "skip"


def here(error: BaseException) -> TaskError:
    return TaskError.of(error, 1)


def elsewhere(error: BaseException) -> TaskError:
    """The record of an error that another process had, without the exception."""
    back: TaskError = pickle.loads(pickle.dumps(here(error)))
    assert back.error is None
    return back


RECORDS = pytest.mark.parametrize("record", [here, elsewhere])


def choice(value: Any, record: TaskError, workflow: Any = None) -> Any:
    return reaction_to(record, reactions_from(value, "here"), reactions_from(workflow, "there"))


class TestWritten:
    @pytest.mark.parametrize("value", [None, {}, [], [{}], ()])
    def test_nothing_is_the_one_that_says_nothing(self, value: Any) -> None:
        assert reactions_from(value, "here") is NO_REACTIONS

    @WORDS
    def test_a_word_is_for_every_exception(self, word: str) -> None:
        assert reactions_from(word, "here") == Reactions((), word)  # type: ignore[arg-type]  # it is one

    @pytest.mark.parametrize(
        "function", [handler, handler_with_ctx, functools.partial(handler), lambda *every, **more: "skip"]
    )
    def test_so_is_a_handler(self, function: Any) -> None:
        assert reactions_from(function, "here").blanket is function

    def test_a_dict_is_for_some_and_the_last_written_is_first(self) -> None:
        found = reactions_from(
            {OSError: "retry", (KeyError, ValueError): handler, mentions_disk: "pause"}, "here"
        )
        assert found == Reactions(
            ((mentions_disk, "pause"), ((KeyError, ValueError), handler), ((OSError,), "retry")), None
        )

    def test_other_mappings_will_do(self) -> None:
        given = types.MappingProxyType({OSError: "skip"})
        assert reactions_from(given, "here").specific == (((OSError,), "skip"),)

    def test_a_list_adds_up(self) -> None:
        found = reactions_from(
            ["skip", {OSError: "retry"}, handler, {KeyError: "fail", OSError: "pause"}], "here"
        )
        assert found == Reactions(
            (((OSError,), "pause"), ((KeyError,), "fail"), ((OSError,), "retry")), handler
        )
        assert reactions_from(("skip", "pause"), "here").blanket == "pause"

    def test_it_is_a_value(self) -> None:
        one, other = (reactions_from([handler, {OSError: "skip"}], "here") for _ in range(2))
        assert one == other
        assert hash(one) == hash(other)
        assert pickle.loads(pickle.dumps(one)) == one
        assert pickle.loads(
            cloudpickle.dumps(reactions_from({OSError: lambda error: "skip"}, "here"))
        ).specific

    @pytest.mark.parametrize(
        "value",
        [
            "skp", "", "SKIP", "finish", 3, True, False, object(), lambda: "skip", lambda error, other: "skip",
            lambda *, error: "skip", lambda ctx: "skip", later, generated, functools.partial(later), int, [None], [["skip"]],
            {OSError: None}, {OSError: "finish"}, {OSError: {KeyError: "skip"}}, {OSError: later}, [handler, 3],
        ],
    )  # fmt: skip
    def test_what_is_no_choice(self, value: Any) -> None:
        with pytest.raises(
            DeclarationError,
            match=r"^here: on_exception is .*; give 'fail', 'retry', 'skip', 'pause' or 'cancel', or",
        ):
            reactions_from(value, "here")

    @pytest.mark.parametrize(
        "key", ["OSError", int, (), (OSError, int), OSError(), None, lambda: True, later, (mentions_disk,)]
    )
    def test_what_is_no_exception(self, key: Any) -> None:
        with pytest.raises(
            DeclarationError,
            match=r"^here: on_exception has .*; give an exception class, a tuple of them, or a function",
        ):
            reactions_from({key: "skip"}, "here")

    def test_a_class_alone_says_how_it_is_meant(self) -> None:
        with pytest.raises(DeclarationError, match=r"for this exception only: \{KeyError: 'skip'\}$"):
            reactions_from(KeyError, "here")


class TestOrder:
    """The task's own before the workflow's; the specific before the blanket; the newest before the older."""

    @RECORDS
    def test_each_is_asked_in_its_turn(self, record: Any) -> None:
        error = record(FileNotFoundError("no disk"))
        everything = [{OSError: "retry"}, "pause"], [{OSError: "skip"}, "cancel"]
        assert choice(*(everything[0], error), workflow=everything[1]) == "retry"
        assert choice([{KeyError: "retry"}, "pause"], error, workflow=everything[1]) == "pause"
        assert choice({KeyError: "retry"}, error, workflow=everything[1]) == "skip"
        assert choice(None, error, workflow=[{KeyError: "skip"}, "cancel"]) == "cancel"
        assert choice({KeyError: "retry"}, error, workflow={KeyError: "skip"}) is None
        assert choice(None, error) is None

    @RECORDS
    def test_the_newest_that_is_meant(self, record: Any) -> None:
        error = record(FileNotFoundError("x"))
        assert choice({FileNotFoundError: "skip", OSError: "pause"}, error) == "pause"
        assert choice({OSError: "pause", FileNotFoundError: "skip"}, error) == "skip"
        assert choice([{OSError: "pause"}, {OSError: "cancel"}, {KeyError: "skip"}], error) == "cancel"

    @RECORDS
    def test_a_tuple_of_classes_a_matcher_and_fail(self, record: Any) -> None:
        assert choice({(KeyError, OSError): "skip"}, record(FileNotFoundError())) == "skip"
        assert choice([{OSError: "fail"}, "skip"], record(OSError())) == "fail"
        assert choice({mentions_disk: "skip"}, record(OSError("no disk left"))) == "skip"
        assert choice({mentions_disk: "skip"}, record(OSError("no net"))) is None

    @RECORDS
    def test_a_base_class_means_all_below_it(self, record: Any) -> None:
        assert choice({BaseException: "skip"}, record(SystemExit(1))) == "skip"
        assert choice({Exception: "skip"}, record(SystemExit(1))) is None

    def test_a_handler_is_returned_and_not_called(self) -> None:
        assert choice({OSError: handler}, here(OSError())) is handler

    def test_matchers_are_not_asked_before_their_turn(self) -> None:
        def never(error: BaseException) -> NoReturn:
            raise AssertionError("it was asked")

        assert choice([{never: "pause"}, {OSError: "skip"}], here(OSError())) == "skip"
        with pytest.raises(AssertionError, match="it was asked"):
            choice({never: "pause"}, here(OSError()))

    def test_a_matcher_sees_the_exception_itself_or_a_failure_with_its_text(self) -> None:
        seen: list[BaseException] = []
        error = KeyError("x")
        for record in (here(error), elsewhere(error)):
            choice({lambda each: seen.append(each): "skip"}, record)
        assert seen[0] is error
        assert (type(seen[1]), str(seen[1])) == (TaskFailure, "KeyError: 'x'")

    def test_the_exception_of_a_record_that_cannot_be_loaded(self) -> None:
        record = elsewhere(OSError("gone"))
        record.load_with(lambda: pickle.loads(b"nothing"))
        assert str(exception_of(record)) == "OSError: gone"


class TestHandler:
    @WORDS
    def test_it_returns_a_word(self, word: str) -> None:
        assert chosen(lambda error: word, OSError(), None) == word

    def test_it_is_given_the_exception_and_ctx_if_it_takes_that(self) -> None:
        error, ctx = OSError(), object()
        seen: list[Any] = []

        def annotated(problem: BaseException, asked: TaskContext) -> str:
            seen.append((problem, asked))
            return "skip"

        def optional(problem: BaseException, limit: int = 3, *, ctx: object = None) -> str:
            seen.append((problem, ctx))
            return "skip"

        for function in (lambda each, ctx: seen.append((each, ctx)) or "skip", annotated, optional):
            assert chosen(function, error, ctx) == "skip"  # type: ignore[arg-type]  # it only hands it on
        assert seen == [(error, ctx)] * 3

    @pytest.mark.parametrize("signal", [Skip("why"), Retry("why", 30), Pause("why"), Cancel()])
    def test_a_signal_it_raises_is_what_it_chooses(self, signal: Signal) -> None:
        def raising(error: BaseException) -> NoReturn:
            raise signal

        assert chosen(raising, OSError(), None) is signal

    def test_finish_is_no_choice(self) -> None:
        def raising(error: BaseException) -> NoReturn:
            raise Finish

        with pytest.raises(
            DeclarationError, match=r"raising' called ctx\.finish\(\), but its task has failed; it can"
        ):
            chosen(raising, OSError(), None)

    @pytest.mark.parametrize("answer", [None, True, 3, "", "finish", "Skip", b"skip", ["skip"], object()])
    def test_what_else_it_returns_is_an_error(self, answer: object) -> None:
        with pytest.raises(
            DeclarationError, match=r"^on_exception handler '.*' returned .*; it can return 'fail', 'retry'"
        ):
            chosen(lambda error: answer, OSError(), None)

    def test_of_an_answer_that_cannot_be_shown_only_the_type_is(self) -> None:
        class Odd:
            def __repr__(self) -> str:
                raise ArithmeticError

        with pytest.raises(DeclarationError, match="returned a value of type Odd;"):
            chosen(lambda error: Odd(), OSError(), None)

    def test_an_answer_that_is_to_be_awaited(self) -> None:
        def asked(error: BaseException) -> Awaitable[str]:
            return later(error)

        with pytest.raises(DeclarationError, match="asked' returned coroutine, which is to be awaited"):
            chosen(asked, OSError(), None)

    def test_what_it_raises_is_raised(self) -> None:
        with pytest.raises(ZeroDivisionError):
            chosen(lambda error: 1 / 0, OSError(), None)


class TestOnATask:
    def test_without_it_there_is_nothing(self) -> None:
        assert task(body).reactions is NO_REACTIONS
        assert Workflow([task(body)]).reactions is NO_REACTIONS

    def test_each_way_to_write_it(self) -> None:
        made: list[Task[..., Any]] = [
            task(body, on_exception="skip"),
            task(on_exception="skip")(body),
            task(body).with_options(on_exception="skip"),
        ]
        assert [each.reactions for each in made] == [Reactions((), "skip")] * 3

    def test_it_stays_is_replaced_and_taken_away(self) -> None:
        made = task(body, on_exception={OSError: "skip"})
        assert made.with_options(retry=3).bind(x=1).reactions == made.reactions
        assert made.with_options(on_exception="pause").reactions == Reactions((), "pause")
        assert made.with_options(on_exception=None).reactions is NO_REACTIONS

    def test_it_travels_with_its_task(self) -> None:
        made = task(lambda: None, on_exception={OSError: "skip"})
        assert pickle.loads(cloudpickle.dumps(made)).reactions == made.reactions

    @pytest.mark.parametrize("make", [Workflow, Manager])
    def test_what_is_wrong_is_refused_where_it_is_written(self, make: Any) -> None:
        with pytest.raises(DeclarationError, match=r"^task 'body': on_exception is 'no'"):
            task(body).with_options(on_exception="no")  # type: ignore[arg-type]
        with pytest.raises(DeclarationError, match=r"^@task: on_exception is 'no'"):
            task(on_exception="no")  # type: ignore[call-overload]
        with pytest.raises(DeclarationError, match=r"^workflow 'w': on_exception is 'no'"):
            make([task(body)], name="w", on_exception="no")


class TestContradictions:
    @pytest.mark.parametrize("word", ["fail", "skip", "pause", "cancel"])
    @pytest.mark.parametrize("retry", [2, RetryPolicy(5)])
    def test_several_attempts_and_a_word_for_the_first_exception(self, word: str, retry: Any) -> None:
        told = f"on_exception={word!r} is for the first exception of any kind, and contradicts {2 if retry == 2 else 5} "
        with pytest.raises(TypeError, match=f"^@task: {told}attempts; give one of the two"):
            task(retry=retry, on_exception=word)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=f"^task 'body': {told}"):
            task(body, on_exception=word).with_options(retry=retry)  # type: ignore[call-overload]
        with pytest.raises(TypeError, match=f"^task 'body': {told}"):
            task(body, retry=retry).with_options(on_exception=word)  # type: ignore[arg-type]

    def test_the_message_says_what_to_write_instead(self) -> None:
        with pytest.raises(TypeError) as refused:
            task(retry=3, on_exception="skip")
        assert "on_exception={ValueError: 'skip'}" in str(refused.value)
        assert "retry=RetryPolicy(..., then='skip')" in str(refused.value)
        task(retry=3, on_exception={ValueError: "skip"})
        task(retry=RetryPolicy(3, then="skip"))

    def test_a_word_for_every_exception_and_one_for_when_tries_are_used_up(self) -> None:
        for word in ("skip", "fail"):
            with pytest.raises(
                TypeError, match=r"contradicts RetryPolicy\(then='pause'\); give one of the two"
            ):
                task(retry=RetryPolicy(then="pause"), on_exception=word)  # type: ignore[call-overload]

    def test_retry_with_one_attempt_in_all(self) -> None:
        told = "on_exception='retry' with one attempt in all; say how many there are, as in retry=3$"
        with pytest.raises(TypeError, match=f"^@task: {told}"):
            task(on_exception="retry")
        made = task(body, on_exception="retry", retry=3)
        with pytest.raises(TypeError, match=f"^task 'body': {told}"):
            made.with_options(retry=1)
        with pytest.raises(TypeError, match=told):
            task(on_exception="retry", retry=RetryPolicy(then="skip"))
        assert made.with_options(retry=RetryPolicy(4, then="pause")).reactions == Reactions((), "retry")

    @pytest.mark.parametrize("value", [{OSError: "skip"}, handler, [handler, {OSError: "retry"}], None])
    @pytest.mark.parametrize("retry", [1, 3, RetryPolicy(3, then="pause")])
    def test_others_go_together(self, value: Any, retry: Any) -> None:
        made = task(body, retry=retry, on_exception=value)
        assert made.reactions == reactions_from(value, "here")

    def test_what_is_taken_away_contradicts_nothing(self) -> None:
        made = task(body, on_exception="skip").with_options(on_exception=None, retry=3)
        assert (made.policy.max_attempts, made.reactions) == (3, NO_REACTIONS)
        made = task(body, retry=3).with_options(on_exception="skip", retry=1)
        assert (made.policy.max_attempts, made.reactions) == (1, Reactions((), "skip"))

    def test_a_workflow_may_say_anything_of_tasks_that_say_otherwise(self) -> None:
        assert Workflow([task(body, retry=3)], on_exception="skip").reactions == Reactions((), "skip")
        assert Workflow([task(body)], on_exception="retry").reactions == Reactions((), "retry")
