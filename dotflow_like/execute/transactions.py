"""The transactions of bodies: how they begin, and how they end with their attempts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dotflow_like import clock
from dotflow_like.errors import TaskCancelled
from dotflow_like.execute.gate import Body, Gate
from dotflow_like.model.metadata import Metadata
from dotflow_like.model.signals import Finish, Signal
from dotflow_like.model.status import AttemptOutcome, AttemptStatus

if TYPE_CHECKING:
    from dotflow_like.model.records import Attempt
    from dotflow_like.plan.identity import Identities
    from dotflow_like.record.journal import Claim, Encoded, Journal
    from dotflow_like.record.sql_transaction import Grant, Transaction
    from dotflow_like.report.result import TaskRun

__all__ = ["Transactions", "begin", "committed", "end"]

_beginning = threading.Lock()


class Transactions:
    """The transactions of the bodies of a run, one at a time.

    Args:
        journal: the run's.
        claim: the right to record there; None for a run in which no body runs.
        identities: takes fingerprints.
        running: the calls under way.
        gate: lets one body in at a time, and keeps the kernel from waiting for it.
    """

    def __init__(
        self,
        journal: Journal,
        claim: Claim | None,
        identities: Identities,
        running: Mapping[Any, TaskRun],
        gate: Gate,
    ) -> None:
        self._journal = journal
        self._claim = claim
        self._identities = identities
        self._running = running
        self.gate = gate

    def grant(self, call: Body, worker: str | None) -> Grant:
        """Return what a body needs, once it has the gate.

        Raises:
            ConfigError: the run is not recorded in a SQL database.
            TaskCancelled: the attempt is over.
        """
        from dotflow_like.record.sql_transaction import granted

        run = self._running.get(call)
        assert self._claim is not None, "a body runs"
        if run is None:
            raise TaskCancelled(f"{call.task.where}: attempt {call.attempt.number} is over")
        inputs, code = self._identities.of(run._node)
        return granted(self._journal, self._claim, inputs, code, worker)

    def begin(self, call: Body, worker: str | None) -> Transaction:
        """Begin that of a body of this process."""
        from dotflow_like.record.sql_transaction import Transaction

        grant, codec = self.grant(call, worker), self._journal.codec
        assert codec is not None, "there is one in a database"
        self.gate.enter(call)
        try:
            transaction = Transaction(grant, codec)
        except BaseException:
            self.gate.give_back(call)
            raise
        call.saved().go_on_in(transaction.journal)
        return transaction

    def ended(self, call: Body) -> Attempt | None:
        """Return the attempt of a call as its transaction has recorded it; None if it has not, or if it had none.

        In the thread of the kernel, when the call has ended or was given up.
        """
        if not self.gate.leave(call):
            return None
        if call.opened is not None:
            call.opened.break_off()
            if call.opened.recorded is not None:
                return call.opened.recorded
        from dotflow_like.record.sql_transaction import settled

        return settled(self._journal, call.attempt)

    def close(self) -> None:
        """Let nobody begin any more, and take back what bodies of this process have not ended."""
        self.gate.close()
        for call in list(self._running):
            if call.opened is not None:
                with suppress(Exception):
                    call.opened.break_off()


def begin(call: Body, make: Callable[[], Transaction]) -> Any:
    """Begin the one transaction of an attempt, and return its connection."""
    from sqlite3 import ProgrammingError

    with _beginning:
        if call.has_transaction:
            raise ProgrammingError(
                f"ctx.transaction() was called before in attempt {call.attempt.id}: there is one in an attempt; hand "
                "its connection on"
            )
        call.has_transaction = True
    try:
        transaction = make()
    except BaseException:
        call.has_transaction = False
        raise
    call.opened = transaction
    if call.abandoned:
        transaction.roll_back()  # it was given up while this began
    return transaction.connection


def committed(call: Body, value: Encoded, signal: Signal | None = None) -> None:
    """Commit the transaction of an attempt whose body has returned `value`, with that and its end."""
    from dotflow_like.execute.attempts import noted

    transaction, attempt = call.opened, call.attempt
    assert transaction is not None, "it was begun"
    now = clock.current().now()
    metadata = attempt.metadata.plain() if type(attempt.metadata) is Metadata else attempt.metadata
    transaction.commit(
        attempt._replace(
            status=AttemptStatus.COMPLETED,
            outcome=AttemptOutcome.SUCCESS,
            finished_at=now if attempt.started_at is None else max(now, attempt.started_at),
            worker=transaction.grant.worker,
            metadata=metadata if signal is None else noted(metadata, signal),
        ),
        value,
    )


def end(call: Body, error: BaseException) -> BaseException:
    """End the transaction of an attempt whose body has raised; return what it has ended with."""
    from dotflow_like.record.journal import Encoded

    transaction = call.opened
    assert transaction is not None, "it was begun"
    if isinstance(error, Finish) and not transaction.is_over:
        try:
            assert call.codec is not None, "there is one in a database"
            committed(call, Encoded(call.codec.encode(None)), error)
        except BaseException as problem:
            error = problem
    with suppress(Exception):  # then the connection takes it back when it goes
        transaction.roll_back()
    return error
