"""How attempts end, and what becomes of their tasks: see the table in docs/reference/control.md."""

from __future__ import annotations

from functools import partial

from dotflow_like.execute.attempts import closed, completed, is_scheduled, noted, scheduled, skipped
from dotflow_like.execute.call import Call
from dotflow_like.execute.control import Control, Stop
from dotflow_like.execute.items import why_failed
from dotflow_like.execute.turn import Turn
from dotflow_like.execute.verdict import verdict
from dotflow_like.execute.work import Work
from dotflow_like.model.context import TaskContext
from dotflow_like.model.metadata import SIGNAL, SIGNAL_REASON
from dotflow_like.model.records import RESULT, Checkpoint, TaskError, made
from dotflow_like.model.signals import Cancel, Finish, Pause, Retry, Signal, Skip
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus, TaskStatus
from dotflow_like.record.journal import Encoded, Journal
from dotflow_like.report.events import TaskEnded, TaskRestored, TaskRetrying, TaskSkipped
from dotflow_like.report.result import TaskRun

__all__ = ["FINISHED", "Tasks"]

FINISHED = "finished"
"""The reason of a task that is skipped since another one said that the run is done."""

# bound once: an attribute of an enumeration is looked up through its metaclass
_PENDING, _RUNNING, _COMPLETED = TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.COMPLETED
_FAILED, _SKIPPED = TaskStatus.FAILED, TaskStatus.SKIPPED


class Tasks:
    """Ends attempts and tasks.

    Args:
        work: the state of the run.
        turn: what is to be recorded and told.
        journal: where results are.
        control: asked to stop the run where a task says so.
    """

    def __init__(self, work: Work, turn: Turn, journal: Journal, control: Control) -> None:
        self._work = work
        self._turn = turn
        self._journal = journal
        self._control = control
        self._codec = journal.codec
        self._plan = work.plan
        # of what no other process can resume nobody compares anything
        self._identifies = journal.codec is not None or work.plan.identities.strict

    # Attempts

    def done(self, call: Call) -> None:
        """End the attempt of a call that has come back."""
        run = self._work.running.pop(call, None)
        if run is None:
            self._work.old_body_ended(call)
            return
        run._last = call.attempt  # with what its body has noted
        error = call.outcome.error
        if call.has_transaction and self.has_ended_itself(run, call):
            if call.outcome.interrupted:
                self._control.interrupted()
        elif error is None:
            self._succeed(run, call)
        elif isinstance(error, Signal):
            self._signalled(run, call, error)
        else:
            self.failed(run, call, error, interrupted=call.outcome.interrupted)

    def has_ended_itself(self, run: TaskRun, call: Call) -> bool:
        """See to a call whose transaction has recorded its end, whatever has become of it since; False for any other."""
        attempt = self._control.transactions.ended(call) if call.has_transaction else None
        if attempt is None:
            return False
        run._last = attempt
        run._value = self._journal.reference(run.workflow_id, run._node.key, RESULT)
        is_last = attempt.metadata.get(SIGNAL) == Finish.word
        if is_last:
            run.reason = attempt.metadata.get(SIGNAL_REASON)
            self._work.finish()
        self._completed(run)
        if is_last:
            self.skip_the_rest()
        return True

    def _succeed(self, run: TaskRun, call: Call) -> None:
        turn, outcome = self._turn, call.outcome
        key, attempt = run._node.key, completed(run, self._work.at, call.worker, call.elapsed)
        inputs, code = self._plan.identities.of(run._node) if self._identifies else (None, None)
        if self._codec is None:
            run._value = value = outcome
        else:
            run._value, value = self._journal.reference(run.workflow_id, key, RESULT), outcome.value
        checkpoint = made(Checkpoint, (key, RESULT, value, inputs, code))
        turn.changes += (attempt, checkpoint)
        self._completed(run)

    def _completed(self, run: TaskRun) -> None:
        turn = self._turn
        run.status = _COMPLETED
        if turn.observer is not None or run._node.task.callback is not None:
            turn.announce(TaskEnded, run)
        if run._map is None:
            self._work.readiness.release(run)
        else:
            self._item_ended(run._map)

    def _signalled(self, run: TaskRun, call: Call, signal: Signal) -> None:
        if isinstance(signal, Retry) and isinstance(call.stop_asked, Skip):
            signal = call.stop_asked  # somebody outside wants no other attempt
        if isinstance(signal, Skip):
            self.skip(run, signal, worker=call.worker)
        elif isinstance(signal, Retry):
            self._close(
                run, AttemptStatus.COMPLETED, AttemptOutcome.RETRIED, worker=call.worker, signal=signal
            )
            self._again(run, signal.after)
        elif isinstance(signal, Finish):
            self._finish(run, call, signal)
        else:
            self._ask(run, signal)
            self.close_stopped(run, call, signal=signal)

    def failed(
        self,
        run: TaskRun,
        call: Call,
        error: BaseException | TaskError,
        *,
        outcome: AttemptOutcome = AttemptOutcome.FAILED,
        interrupted: bool = False,
    ) -> None:
        """End an attempt that failed, and do what its task and its workflow say of that.

        Args:
            run: the task.
            call: the call of the attempt.
            error: why it failed.
            outcome: how, if it is not tried again.
            interrupted: it is a Ctrl-C.
        """
        record = error if isinstance(error, TaskError) else TaskError.of(error, call.attempt.number)
        if interrupted:
            self._control.interrupted()
        asked = call.asked() if outcome is AttemptOutcome.FAILED else None
        if interrupted or (asked is not None and not isinstance(asked, Skip)):
            self.close_stopped(run, call, record)
            return
        run.errors = (*run.errors, record)
        if asked is not None:
            self.skip(run, asked, record, call.worker)
            return
        signal = verdict(run, record, self._plan.reactions, partial(self._context, call))
        if isinstance(signal, Skip):
            self.skip(run, signal, record, call.worker)
            return
        again = isinstance(signal, Retry) and not (self._work.stopping or self._work.finished)
        if again and outcome is AttemptOutcome.FAILED:
            outcome = AttemptOutcome.RETRIED
        stops = signal if isinstance(signal, Pause | Cancel) else None
        # a handler that asks for another attempt may say why
        told = signal if again and signal is not None and signal.reason is not None else stops
        self._close(run, AttemptStatus.FAILED, outcome, record, call.worker, told)
        if again and isinstance(signal, Retry):
            self._again(run, signal.after)
        elif stops is not None:
            self._ask(run, stops)
            self._end(run, _stopped(self._control.stop)[2], stops.reason)
        else:
            self.fail(run)

    def close_stopped(
        self, run: TaskRun, call: Call, error: TaskError | None = None, signal: Signal | None = None
    ) -> None:
        """End an attempt because its run stops."""
        status, outcome, ended = _stopped(self._control.stop)
        self._close(run, status, outcome, error, call.worker, signal)
        self._end(run, ended, None if signal is None else signal.reason)

    def skip(
        self, run: TaskRun, signal: Signal, error: TaskError | None = None, worker: str | None = None
    ) -> None:
        """End an attempt, and its task, as skipped."""
        self._close(run, AttemptStatus.SKIPPED, AttemptOutcome.SKIPPED, error, worker, signal)
        self._end_skipped(run, signal.reason or signal.word, TaskEnded)

    def close_cancelled(self, run: TaskRun, error: TaskError | None = None) -> None:
        """End an attempt that is as if it had not been."""
        self._close(run, AttemptStatus.CANCELLED, AttemptOutcome.CANCELLED, error)

    def _close(
        self,
        run: TaskRun,
        status: AttemptStatus,
        outcome: AttemptOutcome,
        error: TaskError | None = None,
        worker: str | None = None,
        signal: Signal | None = None,
    ) -> None:
        self._turn.changes.append(closed(run, self._work.at, status, outcome, error, worker, signal))

    def _again(self, run: TaskRun, after: float) -> None:
        """Have a task whose attempt has ended run again in `after` seconds, unless the run is to end."""
        work = self._work
        if work.finished:
            self._end_skipped(run, FINISHED, TaskEnded)
            return
        if work.stopping:
            if after and self._control.stop is not None and self._control.stop.status is RunStatus.PAUSED:
                self._turn.changes.append(scheduled(run, work.at, after))
            self._end(run, _stopped(self._control.stop)[2], None)
            return
        run.status = TaskStatus.RETRYING
        self._turn.announce(TaskRetrying, run)
        if after or run in work.given_up.values():
            attempt = scheduled(run, work.at, after)
            self._turn.changes.append(attempt)
            work.delay(run, attempt.scheduled_at)
        else:
            work.again.append(run)

    def _context(self, call: Call) -> TaskContext:
        attempt = call.attempt
        return TaskContext(attempt.workflow_id, attempt.task_id, attempt, self._plan.params, call)

    # Tasks

    def fail(self, run: TaskRun) -> None:
        """End a task as failed, and see to those that need it."""
        work = self._work
        run.status = _FAILED
        work.failed = True
        if not work.settings.keep_going:
            work.halted = work.takes_back = True
        self._turn.announce(TaskEnded, run)
        if run._map is not None:
            self._item_ended(run._map)
        elif not work.halted:
            self._do_without(run)

    def stop_waiting(self, run: TaskRun) -> None:
        """Stop a task between two attempts; paused, its next attempt stays scheduled."""
        status, outcome, ended = _stopped(self._control.stop)
        if outcome is not AttemptOutcome.PAUSED and is_scheduled(run):
            self._close(run, status, outcome)
        if self._has_begun(run):
            self._end(run, ended, None)
        run.status = ended

    def fail_waiting(self, run: TaskRun) -> None:
        """Fail a task between two attempts."""
        if is_scheduled(run):
            self.close_cancelled(run)
        self.fail(run)

    def skip_waiting(self, run: TaskRun, signal: Skip) -> None:
        """Skip a task, or an item of a map, whose body is not running."""
        work = self._work
        began = self._has_begun(run)
        run.status = _PENDING
        if run in work.readiness.ready:
            work.readiness.ready.remove(run)
        work.delayed.discard(run)
        if run in work.again:
            work.again.remove(run)
        if is_scheduled(run):
            self._close(run, AttemptStatus.SKIPPED, AttemptOutcome.SKIPPED, signal=signal)
        else:
            assert work.claim is not None, "a plan that is complete skips nothing"
            self._turn.changes += skipped(run, work.claim, work.at, signal)
        self._end_skipped(run, signal.reason or signal.word, TaskEnded if began else TaskSkipped)

    def _end_skipped(self, run: TaskRun, reason: str, event: type[TaskEnded | TaskSkipped]) -> None:
        run.status, run.reason = _SKIPPED, reason
        self._turn.announce(event, run)
        if run._map is not None:
            self._item_ended(run._map)
        else:
            self._do_without(run)

    def _do_without(self, run: TaskRun) -> None:
        """Skip those that need a result which will not come, and let the others have their turn."""
        self.skip_needing(run)
        if not run._waiting:  # else it is skipped before its turn, and passed over when that comes
            self._work.readiness.release(run)

    def skip_needing(self, run: TaskRun) -> None:
        """Skip those that need a result which will not come."""
        for each in self._work.readiness.skip_needing(run):
            self._turn.announce(TaskSkipped, each)

    def _finish(self, run: TaskRun, call: Call, signal: Finish) -> None:
        call.outcome.error = None
        if self._codec is not None:
            call.outcome.value = Encoded(self._codec.encode(None))
        assert run._last is not None, "it was opened"
        run._last = run._last._replace(metadata=noted(run._last.metadata, signal))
        run.reason = signal.reason
        self._work.finish()
        self._succeed(run, call)
        self.skip_the_rest()

    def skip_the_rest(self) -> None:
        """Skip what has not begun, since the run is done; what runs may end."""
        for run in self._work.waiting():
            if is_scheduled(run):
                self._close(run, AttemptStatus.SKIPPED, AttemptOutcome.SKIPPED, signal=Skip(FINISHED))
            run.status, run.reason = _SKIPPED, FINISHED
            self._turn.announce(TaskEnded if self._has_begun(run) else TaskSkipped, run)
            if run._map is not None:
                self._item_ended(run._map)
        self._work.readiness.ready.clear()
        for task in self._work.view.tasks:
            for run in (*(task.items or ()), task):
                if run.status is _PENDING:
                    self.skip_unbegun(run)
                    if run._map is not None:
                        self._item_ended(run._map)

    def skip_unbegun(self, run: TaskRun) -> None:
        """Skip a task, or an item, whose turn does not come, since the run is done."""
        run.status, run.reason = _SKIPPED, FINISHED
        self._turn.announce(TaskSkipped, run)

    def _end(self, run: TaskRun, status: TaskStatus, reason: str | None) -> None:
        """End a task with its run, which stops."""
        run.status, run.reason = status, reason
        self._turn.announce(TaskEnded, run)

    def _ask(self, run: TaskRun, signal: Signal) -> None:
        """Ask the run to stop, as a task says."""
        if isinstance(signal, Cancel):
            status, word = RunStatus.CANCELLED, "cancelled"
        else:
            status, word = RunStatus.PAUSED, "paused"
        why = f": {signal.reason}" if signal.reason else ""
        self._control.ask(Stop(status, f"{word} by task {run.task_id!r}{why}"))

    def _has_begun(self, run: TaskRun) -> bool:
        """Return whether an attempt of a task, which waits, was made in this process."""
        return len(run.attempts) - is_scheduled(run) > run._earlier

    # Maps

    def leave_map(self, run: TaskRun) -> None:
        """Give a map that the run ended in the middle of the status its items say."""
        assert run.items is not None
        statuses = {item.status for item in run.items}
        if _FAILED in statuses:
            self.end_map(run)
            return
        left = (status for status in (TaskStatus.CANCELLED, TaskStatus.PAUSED) if status in statuses)
        run.status = next(left, _PENDING)
        self._turn.announce(TaskEnded, run)

    def _item_ended(self, run: TaskRun) -> None:
        if self._work.readiness.item_ended(run):
            self.end_map(run)

    def end_map(self, run: TaskRun) -> None:
        """End a map whose items have ended."""
        assert run.items is not None
        if any(item.status is _FAILED for item in run.items):
            run.reason = why_failed(run.items)
            self.fail(run)
            return
        if any(item.reason == FINISHED for item in run.items):
            run.status, run.reason = _SKIPPED, FINISHED
            self._turn.announce(TaskEnded, run)
        else:
            run.status = _COMPLETED
            self._turn.announce(TaskRestored if run.restored else TaskEnded, run)
        self._work.readiness.release(run)


def _stopped(stop: Stop | None) -> tuple[AttemptStatus, AttemptOutcome, TaskStatus]:
    """Return the words for an attempt, and its task, that a stop of the run ends."""
    if stop is not None and stop.status is RunStatus.CANCELLED:
        return AttemptStatus.CANCELLED, AttemptOutcome.CANCELLED, TaskStatus.CANCELLED
    return AttemptStatus.CANCELLED, AttemptOutcome.PAUSED, TaskStatus.PAUSED
