"""The one loop: it decides what is ready, hands it to an executor, records what happened, and ends.

Whatever the mode, a turn is the same: open attempts for what is ready, commit, tell, submit, wait for a
message, close what ended. What a turn changes is committed at once: the end of one attempt and the start
of the next are one transaction, and a body starts only after the row that says so is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from queue import Empty
from typing import NamedTuple

from dotflow_like.clock import Clock
from dotflow_like.errors import ClaimLost, TaskCancelled, TaskTimeout, WorkerDied
from dotflow_like.execute.attempts import closed, completed, is_scheduled, opened, scheduled
from dotflow_like.execute.call import Call
from dotflow_like.execute.control import Control, Stop
from dotflow_like.execute.executors.base import Executor, Progressed, Started
from dotflow_like.execute.inbox import Inbox
from dotflow_like.execute.items import items_of, why_failed
from dotflow_like.execute.readiness import Readiness
from dotflow_like.execute.reports import Reports
from dotflow_like.execute.timers import Timers
from dotflow_like.model.context import Progress
from dotflow_like.model.records import (
    RESULT,
    Attempt,
    Checkpoint,
    Discard,
    Reference,
    RunRecord,
    TaskError,
    TaskRecord,
    made,
)
from dotflow_like.model.status import AttemptOutcome, AttemptStatus, RunStatus, TaskStatus
from dotflow_like.plan.order import downstream_first
from dotflow_like.plan.plan import Plan
from dotflow_like.plan.resume import Decision
from dotflow_like.record.journal import Change, Claim, Journal, after
from dotflow_like.report.events import (
    RunEnded,
    RunStarted,
    TaskEnded,
    TaskProgress,
    TaskRestored,
    TaskRetrying,
    TaskSkipped,
    TaskStarted,
)
from dotflow_like.report.logs import warn
from dotflow_like.report.observers import Observer, guarded
from dotflow_like.report.result import RunView, TaskRun

__all__ = ["Kernel", "Settings"]

# bound once: an attribute of an enumeration is looked up through its metaclass
_PENDING, _RUNNING, _COMPLETED = TaskStatus.PENDING, TaskStatus.RUNNING, TaskStatus.COMPLETED
_NO_RESULTS: Mapping[str, Reference] = {}
_SETTLED = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED)
_TaskEvent = type[TaskStarted] | type[TaskEnded] | type[TaskRetrying] | type[TaskRestored] | type[TaskSkipped]


class Settings(NamedTuple):
    """How a run behaves.

    Attributes:
        keep_going: whether other tasks still start after one failed.
        timeout: seconds the run may take; None for no limit.
        grace: seconds that running bodies have to end after the run was asked to stop.
        max_crashes: how many owners in a row may have died, with no task completed in between, before the run
            is stopped; None for no limit.
    """

    keep_going: bool = False
    timeout: float | None = None
    grace: float = 10.0
    max_crashes: int | None = 3


class Kernel:
    """Runs one plan, once.

    Args:
        plan: what to run, and what is restored.
        view: the run as its user sees it; the kernel fills it.
        journal: where it is recorded.
        claim: the right to record there; None for a plan that is complete, which changes nothing.
        executor: where bodies run.
        observer: told every event; None when nobody watches.
        settings: how the run behaves.
        clock: time.
        lock: descriptor of the run's kernel lock, which its workers hold too; None if there is none.
    """

    def __init__(
        self,
        plan: Plan,
        view: RunView,
        journal: Journal,
        claim: Claim | None,
        executor: Executor,
        observer: Observer | None,
        settings: Settings,
        clock: Clock,
        lock: int | None = None,
    ) -> None:
        self._plan = plan
        self._params = plan.params
        self._view = view
        self._journal = journal
        self._claim = claim
        self._executor = executor
        self._observer = observer
        self._settings = settings
        self._now = clock.now
        self._lock = lock
        self._at = clock.now()
        self._codec = journal.codec
        self._inbox = Inbox()
        self._reports = Reports(self._inbox.put, self._progressed)
        self.control = Control(lambda: self._inbox.put(None), self._reports.add)
        self._runs = view._by_key
        self._records: dict[str, TaskRecord] = {}
        # what is to do
        self._readiness = Readiness(self._runs)
        self._again: deque[TaskRun] = deque()  # tried again: also when nothing new starts
        self._delayed: set[TaskRun] = set()  # waiting for their next attempt's time
        self._due: set[TaskRun] = set()  # of those, the ones whose time has come while their old body goes on
        self._timers = Timers(clock)
        # what is under way
        self._running: dict[Call, TaskRun] = {}
        self._given_up: dict[Call, TaskRun] = {}  # ended for the run, though their bodies go on
        # how the run stands
        self._failed = False
        self._timed_out = False
        self._crashed = False  # too often
        self._halted = False  # nothing new starts
        self._stopping = False  # nothing starts at all
        # what this turn has brought
        self._changes: list[Change] = []
        self._announcements: list[tuple[_TaskEvent, TaskRun]] = []
        self._calls: list[Call] = []

    def run(self) -> None:
        """Run to the end. What user code raises ends up in the view; what the journal raises is raised."""
        executor = self._executor
        self._reports.begin()
        executor.open(self._inbox, self._journal.codec, self._lock)
        try:
            self._begin()
            if self.control.stop is not None:
                self._asked_to_stop()
            while True:
                self._open_ready()
                self._commit()
                if not self._running and not self._delayed:
                    break
                self._take_messages()
            self._finish()
        except BaseException as error:
            self.control.close()
            self._broke(error)
            raise
        finally:
            executor.close()
            self._inbox.close()
            # these call back: without them the run and its results are gone as soon as nobody has it
            self._reports.close()
            self._timers.waiting.clear()

    # The turn of the loop

    def _begin(self) -> None:
        view, plan = self._view, self._plan
        view.started = self._at = self._now()
        view.status = RunStatus.RUNNING
        if self._settings.timeout is not None:
            self._timers.after(self._settings.timeout, self._run_timed_out, None)
        if self._observer is not None:
            info = {
                "workflow": plan.workflow,
                "version": plan.version,
                "mode": str(plan.mode),
                "tasks": len(plan.graph),
                "resumed": plan.resumed,
            }
            self._observer(RunStarted(view.workflow_id, info))
        self._records = dict(plan.records)
        if self._records:
            # all of a run that is known and starts over
            self._discard(plan.discarded() if plan.resumed else self._records)
            for run in view.tasks:
                self._restored(run, plan.decisions)
        most = self._settings.max_crashes
        if self._claim is not None and most is not None and self._claim.crashes >= most:
            self._crashed = self._halted = True
        self._readiness.begin(view.tasks)

    def _open_ready(self) -> None:
        again, ready = self._again, self._readiness.ready
        running, executor = self._running, self._executor
        while len(running) < executor.slots and (again or (ready and not self._halted)):
            run = again.popleft() if again else ready.popleft()
            if run._node.is_map:
                self._expand(run)
            elif run._last is not None and run.status is _PENDING and is_scheduled(run):
                self._delay(run, run._last.scheduled_at)  # the run was paused while it waited
            else:
                self._open(run)

    def _commit(self) -> None:
        """Record what changed, then tell about it, then start what was opened."""
        self._write()
        if self._announcements:
            announcements, self._announcements = self._announcements, []
            for event, run in announcements:
                self._tell(event, run)
        calls, self._calls = self._calls, []
        if self.control.stop is None:
            self._executor.submit(calls)
        else:  # asked while the row that says it starts was written, by a callback for instance
            for call in calls:
                self._not_started(call)

    def _write(self) -> None:
        if self._changes:
            assert self._claim is not None, "a plan that is complete changes nothing"
            self._journal.commit(self._claim, self._changes)
            self._changes = []

    def _take_messages(self) -> None:
        inbox, timers = self._inbox, self._timers
        try:
            message = inbox.get(timers.patience(idle=not self._running) if timers.waiting else None)
            self._at = self._now()  # one time for all of a turn
            while True:  # what has come together is committed together
                if type(message) is Call:
                    self._done(message)
                elif type(message) is Started:
                    self._began(message.call)
                elif type(message) is Progressed:
                    self._progressed(message.call, self._reports.latest(message))
                    break  # a body may report faster than a turn takes
                else:
                    self._asked_to_stop()
                if inbox.empty():
                    break
                message = inbox.get(0)
        except Empty:
            self._at = self._now()
        if timers.waiting:
            timers.run_due()

    def _began(self, call: Call) -> None:
        timeout = call.task.timeout
        if timeout is not None and call in self._running:
            self._timers.after(timeout, self._deadline, call)

    def _progressed(self, call: Call, progress: Progress) -> None:
        # a body that runs inline reports in the middle of `submit`: nothing but this may change here
        run = self._running.get(call)
        if run is not None:
            run.progress = progress
            if self._observer is not None:
                self._observer(TaskProgress(run))

    def _finish(self) -> None:
        view = self._view
        stop = self.control.close()
        for run in view.tasks:
            if run.items is not None and run.status is _RUNNING:
                self._leave_map(run)
        unfinished = any(run.status not in _SETTLED for run in view.tasks)
        reason: str | None
        if self._crashed:
            status, reason = RunStatus.FAILED, self._why_crashed()
        elif self._timed_out:
            status, reason = RunStatus.FAILED, "timeout"
        elif stop is not None and (unfinished or stop.status is RunStatus.CANCELLED):
            status, reason = stop
        elif self._failed:
            failed = [run.task_id for run in view.tasks if run.status is TaskStatus.FAILED]
            status, reason = RunStatus.FAILED, f"failed: {', '.join(failed)}"
        else:
            status, reason = RunStatus.COMPLETED, None
        view.finished = self._now()
        if self._claim is not None:
            self._changes.append(self._ended(status, reason))
        self._commit()
        for run in view.tasks:
            for item in run.items or ():
                item._map = None  # else they would hold each other, and their results
        view.status, view.reason = status, reason
        if self._observer is not None:
            info = {
                "workflow": self._plan.workflow,
                "status": status,
                "reason": reason,
                "duration": view.duration,
            }
            self._observer(RunEnded(view.workflow_id, info))

    def _broke(self, error: BaseException) -> None:
        """End a run that cannot go on, since what happens cannot be recorded; and record that, if it can be."""
        view = self._view
        view.status, view.reason = RunStatus.FAILED, f"{type(error).__name__}: {error}"
        view.finished = self._now()
        lost = {change.task_id for change in self._changes if isinstance(change, Attempt)}
        lost |= {run.task_id for run in (*self._running.values(), *self._delayed)}
        for key in lost & self._runs.keys():
            self._runs[key].status, self._runs[key]._value = _PENDING, None  # a resumed run runs it again
        if self._claim is None or isinstance(error, ClaimLost):
            return
        with suppress(Exception):  # the place may be full, or gone; then the next owner finds all this
            # nobody died: the attempts that are left would count as a crash
            changes: list[Change] = [
                each._replace(
                    status=AttemptStatus.FAILED,
                    outcome=AttemptOutcome.FAILED,
                    finished_at=max(view.finished, each.started_at or each.scheduled_at),
                    error=TaskError.of(error, each.number),
                )
                for record in self._journal.tasks(view.workflow_id, lost).values()
                for each in record.attempts
                if each.status is AttemptStatus.RUNNING
            ]
            changes.append(self._ended(RunStatus.FAILED, view.reason))
            self._journal.commit(self._claim, changes)

    def _ended(self, status: RunStatus, reason: str | None) -> RunRecord:
        """Return the row of the run as it ends."""
        record = self._journal.run(self._view.workflow_id)
        assert record is not None, "it was claimed"
        return replace(record, status=status, reason=reason, finished_at=self._view.finished)

    def _why_crashed(self) -> str:
        assert self._claim is not None, "a plan that is complete has not crashed"
        crashes = self._claim.crashes
        left = [
            key
            for key, record in self._records.items()
            if record.attempts and record.attempts[-1].outcome is AttemptOutcome.RECOVERED
        ]
        return (
            f"its process died {crashes} times in a row, with no task completed in between, while these ran: "
            f"{', '.join(left)}; see why, then resume with Config(max_crashes={crashes + 1}) or more, or start over "
            "with resume=False"
        )

    # Attempts open

    def _open(self, run: TaskRun) -> None:
        assert self._claim is not None, "a plan that is complete opens nothing"
        node, attempt = run._node, opened(run, self._claim, self._at)
        if self._observer is not None and not run.errors:
            self._announcements.append((TaskStarted, run))
        run.status, run.progress = _RUNNING, None
        results: Mapping[str, Reference] = _NO_RESULTS
        previous = None
        if node.inputs:
            runs = self._runs
            results = {key: runs[key]._value or runs[key]._reference() for key in node.needs}
            if node.takes_previous and run._previous is not None:
                previous = run._previous._context_of_reference()
        call = Call(
            node.task, attempt, self._params, node.inputs, results, previous, self._codec, self.control
        )
        self._changes.append(attempt)
        self._running[call] = run
        self._calls.append(call)

    def _expand(self, run: TaskRun) -> None:
        """Turn a map into its items."""
        self._write()  # what it iterates over may have come in this turn
        try:
            items = items_of(run._node, self._runs, self._plan, self._journal, run.workflow_id)
        except Exception as error:
            run.errors = (TaskError.of(error, 0),)
            run.reason = f"its items could not be made: {error}"
            self._ended_without_value(run, TaskStatus.FAILED)
            return
        self._records |= items.records
        self._discard(items.surplus)
        if items.decisions is not self._plan.decisions:  # else that was done when the run began
            self._discard(key for key, decision in items.decisions.items() if decision.discard)
        run.items = []
        pending = []
        for each in items.nodes:
            item = TaskRun(each, run.workflow_id, run._previous)
            item._map = run
            run.items.append(item)
            self._runs[each.key] = item
            if not self._restored(item, items.decisions):
                pending.append(item)
        if pending or not items.nodes:
            run.status = _RUNNING
            self._announce(TaskStarted, run)
        self._readiness.begin_items(run, pending)
        if not pending:
            run.restored = bool(items.nodes)
            self._end_map(run)

    # Attempts end

    def _done(self, call: Call) -> None:
        run = self._running.pop(call, None)
        if run is None:
            self._old_body_ended(call)
            return
        run._last = call.attempt  # with what its body has noted
        outcome = call.outcome
        if outcome.error is not None:
            self._attempt_failed(run, call, outcome.error, interrupted=outcome.interrupted)
            return
        key, attempt = run._node.key, completed(run, self._at, call.worker, call.elapsed)
        if self._codec is None:
            run._value = outcome
            checkpoint = made(Checkpoint, (key, RESULT, outcome, None, None))
        else:
            run._value = self._journal.reference(run.workflow_id, key, RESULT)
            identity = self._plan.identities.of(run._node)
            checkpoint = made(Checkpoint, (key, RESULT, outcome.value, identity.inputs, identity.code))
        self._changes += (attempt, checkpoint)
        run.status = _COMPLETED
        if self._observer is not None or run._node.task.callback is not None:
            self._announcements.append((TaskEnded, run))
        if run._map is None:
            self._readiness.release(run)
        else:
            self._item_ended(run._map)

    def _attempt_failed(
        self,
        run: TaskRun,
        call: Call,
        error: BaseException | TaskError,
        *,
        outcome: AttemptOutcome = AttemptOutcome.FAILED,
        interrupted: bool = False,
    ) -> None:
        record = error if isinstance(error, TaskError) else TaskError.of(error, call.attempt.number)
        if interrupted:
            self.control.interrupted()
            self._asked_to_stop()
        if interrupted or (call.asked() is not None and outcome is AttemptOutcome.FAILED):
            self._close_stopped(run, call, record)
            return
        run.errors = (*run.errors, record)
        policy = run._node.task.policy
        failures = len(run.errors)
        again = not self._stopping and failures < policy.max_attempts and _is_retried(run, record)
        if again and outcome is AttemptOutcome.FAILED:
            outcome = AttemptOutcome.RETRIED
        self._close(run, AttemptStatus.FAILED, outcome, record, call.worker)
        if again:
            run.status = TaskStatus.RETRYING
            self._announce(TaskRetrying, run)
            pause = policy.pause_after(failures)
            if pause or run in self._given_up.values():
                attempt = scheduled(run, self._at, pause)
                self._changes.append(attempt)
                self._delay(run, attempt.scheduled_at)
            else:
                self._again.append(run)
        else:
            self._ended_without_value(run, TaskStatus.FAILED)

    def _close(
        self,
        run: TaskRun,
        status: AttemptStatus,
        outcome: AttemptOutcome,
        error: TaskError | None = None,
        worker: str | None = None,
    ) -> None:
        self._changes.append(closed(run, self._at, status, outcome, error, worker))

    def _delay(self, run: TaskRun, until: datetime) -> None:
        run.status = TaskStatus.RETRYING
        self._delayed.add(run)
        self._timers.after(max(0.0, (until - self._at).total_seconds()), self._try_again, run)

    def _try_again(self, run: TaskRun) -> None:
        if run not in self._delayed:  # the run was stopped meanwhile
            return
        if run in self._given_up.values():
            self._due.add(run)  # when its old body has ended
            return
        self._delayed.discard(run)
        self._again.append(run)

    def _old_body_ended(self, call: Call) -> None:
        """Note that a body that was given up has ended at last; what it returned is discarded."""
        run = self._given_up.pop(call, None)
        if run is not None and run in self._due:
            self._due.discard(run)
            self._try_again(run)

    # Tasks end

    def _ended_without_value(self, run: TaskRun, status: TaskStatus) -> None:
        run.status = status
        if status is TaskStatus.FAILED:
            self._failed = True
            if not self._settings.keep_going:
                self._halted = True
                self._withdraw(everything=False)
        self._announce(TaskEnded, run)
        if run._map is not None:
            self._item_ended(run._map)
        elif not self._halted:
            for skipped in self._readiness.skip_needing(run):
                self._announce(TaskSkipped, skipped)
            self._readiness.release(run)

    def _item_ended(self, run: TaskRun) -> None:
        if self._readiness.item_ended(run):
            self._end_map(run)

    def _end_map(self, run: TaskRun) -> None:
        assert run.items is not None
        if any(item.status is TaskStatus.FAILED for item in run.items):
            run.reason = why_failed(run.items)
            self._ended_without_value(run, TaskStatus.FAILED)
            return
        run.status = _COMPLETED
        self._announce(TaskRestored if run.restored else TaskEnded, run)
        self._readiness.release(run)

    def _leave_map(self, run: TaskRun) -> None:
        """Give a map that the run ended in the middle of the status its items say."""
        assert run.items is not None
        statuses = {item.status for item in run.items}
        if TaskStatus.FAILED in statuses:
            self._end_map(run)
            return
        left = (status for status in (TaskStatus.CANCELLED, TaskStatus.PAUSED) if status in statuses)
        run.status = next(left, _PENDING)
        self._announce(TaskEnded, run)

    def _discard(self, keys: Iterable[str]) -> None:
        """Drop what is recorded of tasks, but for its history.

        What lies downstream goes first: of several tasks a journal may write each on its own, and whoever is
        killed in between leaves no result that was computed from one that is gone.
        """
        for key in downstream_first(self._plan.graph, keys):
            record = self._records.get(key)
            if record is not None and (record.checkpoints or record.attempts):
                self._changes.append(Discard(key))
                self._records[key] = after(record, self._changes[-1:])

    def _restored(self, run: TaskRun, decisions: Mapping[str, Decision]) -> bool:
        """Take over what is recorded of a task; return whether that is all there is to do."""
        key = run._node.key
        record = self._records.get(key)
        if record is None:
            return False
        decision = decisions.get(key)
        _, attempts, checkpoints, generation = record
        run._take_over(attempts)
        run._earlier = len(attempts)
        run._generation = generation
        if decision is None or not decision.restored:
            return False
        run.status, run.restored = _COMPLETED, True
        run._value = checkpoints[RESULT].value
        self._announce(TaskRestored, run)
        return True

    # The run is to end early

    def _asked_to_stop(self) -> None:
        if not self._stopping:
            self._stopping = self._halted = True
            self._withdraw(everything=True)
            for call in self._running:
                self._executor.ask(call)
            for run in (*self._delayed, *self._again):
                self._stop_waiting(run)
            self._delayed.clear()
            self._again.clear()
            self._timers.after(self._settings.grace, self._grace_over, None)
        if self.control.hurry:
            self._grace_over(None)

    def _stop_waiting(self, run: TaskRun) -> None:
        """Stop a task between two attempts; paused, its next attempt stays scheduled."""
        status, outcome, run.status = _words(self.control.stop)
        if run.errors:  # it was started by this run
            self._announce(TaskEnded, run)
        if outcome is not AttemptOutcome.PAUSED and is_scheduled(run):
            self._close(run, status, outcome)

    def _grace_over(self, _: None) -> None:
        for call, run in list(self._running.items()):
            self._give_up(call)
            error = TaskCancelled(
                f"{call.task.where} was still running when the grace of the run's stop was over"
            )
            self._close_stopped(run, call, TaskError.of(error, call.attempt.number))

    def _withdraw(self, *, everything: bool) -> None:
        """Take back what the executor was given in advance, and has not begun; or everything that has not."""
        for call in self._executor.withdraw(everything=everything):
            self._not_started(call)

    def _not_started(self, call: Call) -> None:
        run = self._running.pop(call)
        error = TaskError.of(
            TaskCancelled(f"{call.task.where} was not started: its run was to end"), call.attempt.number
        )
        if self.control.stop is not None:
            self._close_stopped(run, call, error)
        else:  # another task failed, or the run's time was up: this one is as if it had not been its turn
            self._close(run, AttemptStatus.CANCELLED, AttemptOutcome.CANCELLED, error)
            run.status = TaskStatus.RETRYING if run.errors else _PENDING
            if run.errors:  # what has been tried is tried to its end
                self._again.append(run)

    def _close_stopped(self, run: TaskRun, call: Call, error: TaskError) -> None:
        status, outcome, run.status = _words(self.control.stop)
        self._close(run, status, outcome, error, call.worker)
        self._announce(TaskEnded, run)

    def _deadline(self, call: Call) -> None:
        run = self._running.get(call)
        if run is not None:
            self._stop_at_deadline(call, run, f"{call.task.timeout:g} s")

    def _run_timed_out(self, _: None) -> None:
        self._timed_out = self._stopping = self._halted = True
        self._withdraw(everything=True)
        for call, run in list(self._running.items()):
            self._stop_at_deadline(call, run, f"the run's {self._settings.timeout:g} s")
        for run in (*self._delayed, *self._again):
            if is_scheduled(run):
                self._close(run, AttemptStatus.CANCELLED, AttemptOutcome.CANCELLED)
            self._ended_without_value(run, TaskStatus.FAILED)
        self._delayed.clear()
        self._again.clear()

    def _stop_at_deadline(self, call: Call, run: TaskRun, limit: str) -> None:
        stopped = self._give_up(call)
        error = TaskTimeout(f"{call.task.where}: attempt {call.attempt.number} took longer than {limit}")
        self._attempt_failed(run, call, error, outcome=AttemptOutcome.TIMED_OUT)
        if not stopped:
            warn(
                f"{call.task.where} went on after its time was up, since a body in a thread cannot be stopped: what "
                "it returns is discarded, and it is not tried again before it has ended; a worker process stops it: "
                "@task(isolate=True), or mode='parallel' with executor='process'",
                in_run=True,
                workflow_id=self._view.workflow_id,
                task_id=run.task_id,
            )

    def _give_up(self, call: Call) -> bool:
        """Stop a running call; return whether its body is gone."""
        run = self._running.pop(call)
        run._last = call.attempt  # with what its body has noted so far
        stopped = self._executor.stop(call)
        if not stopped:
            self._given_up[call] = run
        return stopped

    # Telling

    def _announce(self, event: _TaskEvent, run: TaskRun) -> None:
        if self._observer is not None or run._node.task.callback is not None:
            self._announcements.append((event, run))

    def _tell(self, event: _TaskEvent, run: TaskRun) -> None:
        if self._observer is not None:
            self._observer(event(run))
        callback = run._node.task.callback
        if event is TaskEnded and callback is not None and run._map is None:
            guarded(f"the callback of task {run.task_id!r}", callback, task=run)


def _is_retried(run: TaskRun, record: TaskError) -> bool:
    policy = run._node.task.policy
    if record.is_a(WorkerDied):
        deaths = sum(each.is_a(WorkerDied) for each in run.errors)
        return deaths <= policy.worker_deaths
    return record.is_a(policy.retry_on)


def _words(stop: Stop | None) -> tuple[AttemptStatus, AttemptOutcome, TaskStatus]:
    if stop is not None and stop.status is RunStatus.CANCELLED:
        return AttemptStatus.CANCELLED, AttemptOutcome.CANCELLED, TaskStatus.CANCELLED
    return AttemptStatus.CANCELLED, AttemptOutcome.PAUSED, TaskStatus.PAUSED
