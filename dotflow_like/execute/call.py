"""The one place where user code runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from inspect import CO_COROUTINE
from typing import TYPE_CHECKING, Any, NoReturn

from dotflow_like.declare.conditions import asked_by
from dotflow_like.declare.signature import Role, Signature, called, signature_of
from dotflow_like.declare.task import Task
from dotflow_like.errors import NotSerializable
from dotflow_like.execute.control import Control
from dotflow_like.execute.transactions import begin, committed, end
from dotflow_like.model.context import Context, Progress, TaskContext
from dotflow_like.model.metadata import Metadata
from dotflow_like.model.records import Attempt, Reference, TaskError, made
from dotflow_like.model.signals import Cancel, Signal
from dotflow_like.plan.inputs import Input, Need, Source, body_inputs, gathered
from dotflow_like.record.journal import Codec, Encoded

if TYPE_CHECKING:
    from dotflow_like.declare.conditions import Condition
    from dotflow_like.execute.saved import Kept, Store
    from dotflow_like.record.sql_transaction import Transaction

__all__ = ["Call", "Outcome", "is_async", "perform", "perform_async"]

# bound once: a member of an enumeration is looked up through its metaclass
_RESULT, _CONSTANT = Source.RESULT, Source.CONSTANT

_OURS = frozenset((__name__, "dotflow_like.declare.conditions", "dotflow_like.declare.signature"))
"""Modules through which user code is called."""


class Call:
    """One attempt, with all it takes to run it here or elsewhere.

    Attributes:
        task: what to call.
        attempt: the attempt.
        params: the run's params.
        inputs: how its parameters are filled.
        results: what the `Need`s in `inputs` stand for, by task key.
        previous: the previous context, with a `Reference`, or None, for its value.
        codec: encodes the result; None to keep it as it is.
        control: what the run was asked; None in a worker process.
        conditions: looked at right before the body.
        stop_asked: whether this body was asked to end; what it is to become, if that is said.
        signal: what its body has said shall happen next; None for nothing.
        kept: what its task has saved; None until somebody asks.
        abandoned: whether the run has given it up, though its body goes on.
        noted: what a body that runs here notes about its attempt; None if it does not take `ctx`.
        has_transaction: whether its body has asked for one.
        opened: that, of a body that runs here, from its beginning on.
        outcome: how it ended; set once it has.
        worker: which worker ran it; None for the run's own thread.
        elapsed: seconds its body took, if the executor says so: it may have waited for its turn there.
    """

    __slots__ = (
        "__dict__",
        "attempt",
        "codec",
        "conditions",
        "control",
        "elapsed",
        "inputs",
        "noted",
        "outcome",
        "params",
        "previous",
        "results",
        "task",
        "worker",
    )
    outcome: Outcome

    # of nearly all calls: set where it is another
    stop_asked: bool | Signal = False
    signal: Signal | None = None
    kept: Kept | None = None
    abandoned = False
    has_transaction = False
    opened: Transaction | None = None

    def __init__(
        self,
        task: Task[..., Any],
        attempt: Attempt,
        params: Mapping[str, Any],
        inputs: tuple[Input, ...],
        results: Mapping[str, Reference],
        previous: Context | None,
        codec: Codec | None,
        control: Control | None = None,
        conditions: Sequence[Condition] = (),
    ) -> None:
        self.task = task
        self.attempt = attempt
        self.params = params
        self.inputs = inputs
        self.results = results
        self.previous = previous
        self.codec = codec
        self.control = control
        self.conditions = conditions
        self.noted: Metadata | None = None
        self.worker: str | None = None
        self.elapsed: float | None = None

    def asked(self) -> Signal | None:
        """Return what the body is asked to become, by its run or from outside; None for nothing."""
        asked = self.stop_asked
        if isinstance(asked, Signal):
            return asked
        signal = None if self.control is None else self.control.asked()
        return signal or (Cancel("its time is up") if asked else None)

    def send(self, signal: Signal) -> NoReturn:
        """Note what the body says shall happen next, which counts even if it catches this, and raise it."""
        if self.signal is None:
            self.signal = signal
        raise signal

    @property
    def store(self) -> Store:
        """Where what the body saves is kept."""
        assert self.control is not None, "in a worker process it is another kind of call"
        return self.control.store

    def saved(self) -> Kept:
        """Return what its task has saved."""
        return self.kept or self.store.of(self)

    def transaction(self) -> Any:
        """Return the connection whose changes are committed with the task's result."""
        assert self.control is not None, "in a worker process it is another kind of call"
        return begin(self, partial(self.control.transactions.begin, self, self.worker))

    def sleep(self, seconds: float) -> None:
        """Wait, until the body is asked to end."""
        assert self.control is not None, "in a worker process it is another kind of call"
        self.control.sleep(seconds, self.asked)

    def report(self, progress: Progress) -> None:
        """Tell the run how far the body has come: what `ctx.progress` does."""
        if self.control is not None:
            self.control.report(self, progress)

    def take_note(self, metadata: Mapping[str, Any]) -> None:
        """Make this the metadata of the attempt: what its body, which ran elsewhere, has noted at its end."""
        known = self._metadata()
        known.clear()
        known.update(metadata)

    def _metadata(self) -> Metadata:
        """Return the attempt's metadata, to be written to: of an attempt that a run has opened, what its row will say."""
        metadata = self.attempt.metadata
        if type(metadata) is not Metadata:
            metadata = Metadata(metadata)
            self.attempt = made(Attempt, (*self.attempt[:-2], metadata, self.attempt.generation))
        return metadata


class Outcome:
    """How a call ended; of one that succeeded in this process, also the `Reference` to its result.

    Attributes:
        value: the result; `Encoded` if there is a codec; None for a failure.
        error: the exception; of another process, its record; None for a success.
        interrupted: the error is Ctrl-C, or a SIGTERM whose grace was over, in a body that ran inline.
    """

    __slots__ = ("error", "interrupted", "value")

    def __init__(self, value: Any = None, error: BaseException | TaskError | None = None) -> None:
        self.value = value
        self.error = error
        self.interrupted = False

    def load(self) -> Any:
        """Return the result."""
        return self.value


_NOTHING = Outcome()
"""One for all bodies that return nothing, as most do."""


def perform(call: Call) -> Outcome:
    """Fill the parameters, look at the conditions, run the body, encode the result. Never raises.

    The error of the outcome is a `Signal` if the body sent one, or a condition asked for one.
    """
    try:
        task = call.task
        value: Any
        if call.conditions:
            value = _run_if_asked_nothing(call, _filled(call))
        elif task.methods:
            value = _run_class(call, _filled(call))
        elif call.inputs:
            filled = _filled(call)
            signature = task.signature
            value = called(task.fn, signature, filled) if signature.positional_only else task.fn(**filled)
        else:
            value = task.fn()
        if value is None:
            if call.codec is None and call.noted is None:
                return _NOTHING
        elif hasattr(value, "__await__"):
            value = _awaited(value)
        return _returned(call, value)
    except BaseException as error:  # what it means, KeyboardInterrupt and SystemExit too, the kernel decides
        return _failed(call, error)


async def perform_async(call: Call) -> Outcome:
    """Do the same on the running event loop, for a task that `is_async`. Never raises."""
    try:
        filled = _filled(call)
        if call.conditions:
            value = _run_if_asked_nothing(call, filled)
        else:
            value = called(call.task.fn, call.task.signature, filled)
        return _returned(call, await value)
    except BaseException as error:  # as above; a CancelledError too
        return _failed(call, error)


def is_async(task: Task[..., Any]) -> bool:
    """Return whether the body of `task` is one coroutine: not so a class, nor what only returns an awaitable."""
    function: Any = task.fn
    while isinstance(function, partial):
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type):
        code = getattr(type(function).__call__, "__code__", None)
    return code is not None and bool(code.co_flags & CO_COROUTINE)


def _run_if_asked_nothing(call: Call, filled: dict[str, Any]) -> Any:
    """Call the body, if no condition asks for something else, with what is its own of what the two are given."""
    task = call.task
    signature = task.own_signature
    signal = asked_by(call.conditions, signature, filled)
    if signal is not None:
        raise signal
    own = {each.name: filled[each.name] for each in body_inputs(task, call.inputs)}
    return _run_class(call, own) if task.methods else called(task.fn, signature, own)


def _returned(call: Call, value: Any) -> Outcome:
    if call.signal is not None:  # the body has caught it
        return _failed(call, call.signal)
    if call.noted:
        problem = call.noted.settle()
        if problem is not None:
            raise NotSerializable(problem)
    if type(value) is Context:
        value = value.storage
    if call.kept is not None:
        call.kept = None  # each would hold the other
    if call.codec is not None:
        encoded = Encoded(call.codec.encode(value))
        if call.opened is None:
            return Outcome(encoded)
        committed(call, encoded)
        return _NOTHING
    return _NOTHING if value is None else Outcome(value)


def _failed(call: Call, error: BaseException) -> Outcome:
    if call.noted:
        problem = call.noted.settle()
        if problem is not None:
            with suppress(Exception):  # an error may take no notes
                error.add_note(f"Not kept: {problem}")
    call.kept = None  # as above
    signal = call.signal or _signal_in(error)
    # of a signal nobody looks at the traceback, whose frames would hold the call that has noted it
    error = _from_body(error) if signal is None else signal.with_traceback(None)
    return Outcome(error=error if call.opened is None else end(call, error))


def _signal_in(error: BaseException) -> Signal | None:
    """Return the signal that an error is, or that is in a group, which task groups make of what is raised in them."""
    if isinstance(error, Signal):
        return error
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_signal_in, error.exceptions)), None)
    return None


def _filled(call: Call) -> dict[str, Any]:
    results = call.results
    filled = {}
    for name, source, payload in call.inputs:
        if source is _RESULT:
            filled[name] = results[payload.key].load()
        elif source is _CONSTANT or source is Source.PARAM or source is Source.INITIAL:
            filled[name] = payload
        elif source is Source.GATHER:
            filled[name] = gathered(
                payload, lambda each: results[each.key].load() if type(each) is Need else each
            )
        elif source is Source.PREVIOUS:
            filled[name] = _previous(call)
        else:
            call.noted = call._metadata()
            attempt = call.attempt
            filled[name] = TaskContext(attempt.workflow_id, attempt.task_id, attempt, call.params, call)
    return filled


def _previous(call: Call) -> Context:
    given = call.previous
    if given is None:
        return Context()
    return given if given.storage is None else replace(given, storage=given.storage.load())


def _run_class(call: Call, filled: dict[str, Any]) -> list[Context]:
    """Run the methods of a class one after another on one instance."""
    cls = call.task.fn
    made_by = signature_of(cls)
    others = {name: value for name, value in filled.items() if call.task.own_signature.get(name) is None}
    instance = called(cls, made_by, _wanted(made_by, filled, others, None))
    previous = _previous(call)
    contexts = []
    for method in call.task.methods:
        signature = signature_of(method.fn, method=True)
        value = called(method.fn, signature, _wanted(signature, filled, others, previous), instance)
        if hasattr(value, "__await__"):
            value = _awaited(value)
        previous = Context(
            value.storage if type(value) is Context else value,
            task_id=f"{call.attempt.task_id}.{method.name}",
            workflow_id=call.attempt.workflow_id,
        )
        contexts.append(previous)
    return contexts


def _wanted(
    signature: Signature, filled: Mapping[str, Any], others: Mapping[str, Any], previous: Context | None
) -> dict[str, Any]:
    wanted = dict(others) if signature.open_ended else {}
    wanted |= {
        parameter.name: filled[parameter.name]
        for parameter in signature.parameters
        if parameter.name in filled
    }
    if previous is not None:
        for parameter in signature.contexts:
            if parameter.role is Role.PREVIOUS:
                wanted[parameter.name] = previous
    return wanted


def _awaited(awaitable: Any) -> Any:
    """Run an awaitable to its end on an event loop of its own."""
    import asyncio

    async def wait() -> Any:
        return await awaitable

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    # this thread runs a loop already, a notebook's for instance, and cannot run another
    from concurrent.futures import ThreadPoolExecutor

    beside: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []

    async def wait_beside() -> Any:
        beside.append((asyncio.get_running_loop(), asyncio.current_task()))
        return await awaitable

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(copy_context().run, asyncio.run, wait_beside())
        try:
            return future.result()
        except BaseException:
            if not future.done() and beside:  # Ctrl-C, which only this thread gets
                loop, waiting = beside[0]
                assert waiting is not None, "it was taken inside a task"
                with suppress(RuntimeError):  # it has closed meanwhile
                    loop.call_soon_threadsafe(waiting.cancel)
            raise


def _from_body(error: BaseException) -> BaseException:
    """Take the library's frames off the head of the traceback, so that it begins in the user's code."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_globals.get("__name__") in _OURS:
        frames = frames.tb_next
    return error.with_traceback(frames or error.__traceback__)
