"""The one loop: it decides what is ready, hands it to an executor, records what happened, and ends.

Whatever the mode, a turn is the same: open attempts for what is ready, commit, tell, submit, wait for a
message, close what ended. What a turn changes is committed at once: the end of one attempt and the start
of the next are one transaction, and a body starts only after the row that says so is there.

The state lies in `Work`, what a turn brings in `Turn`; `Opening` begins attempts, `Tasks` ends them and their tasks,
`Stopping` stops what is under way, `Ending` ends the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from queue import Empty

from dotflow_like.clock import Clock
from dotflow_like.execute.call import Call
from dotflow_like.execute.control import LOOK_EVERY, Control, Stop
from dotflow_like.execute.ending import Ending
from dotflow_like.execute.executors.base import Executor, Progressed, Started
from dotflow_like.execute.gate import Gate
from dotflow_like.execute.inbox import Inbox
from dotflow_like.execute.opening import Opening
from dotflow_like.execute.reports import Reports
from dotflow_like.execute.requests import Requests, skip_for, stop_for
from dotflow_like.execute.saved import Store
from dotflow_like.execute.stopping import Stopping
from dotflow_like.execute.tasks import Tasks
from dotflow_like.execute.transactions import Transactions
from dotflow_like.execute.turn import Turn
from dotflow_like.execute.work import Settings, Work
from dotflow_like.model.context import Progress
from dotflow_like.model.records import Request
from dotflow_like.model.signals import Pause, Skip
from dotflow_like.model.status import RunStatus
from dotflow_like.plan.plan import Plan
from dotflow_like.record.journal import Claim, Journal
from dotflow_like.report.events import RunEnded, RunStarted, TaskProgress
from dotflow_like.report.observers import Observer
from dotflow_like.report.result import RunView

__all__ = ["Kernel"]


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
        unknown: keys of tasks that wait for an attempt and are not in the plan.
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
        unknown: Sequence[str] = (),
    ) -> None:
        self._plan = plan
        self._view = view
        self._claim = claim
        self._executor = executor
        self._observer = observer
        self._settings = settings
        self._now = clock.now
        self._lock = lock
        self._unknown = unknown
        self._codec = journal.codec
        self._has_transactions = journal.has_transactions
        self._inbox = Inbox()
        self._reports = Reports(self._inbox.put, self._progressed)
        self._requests: Requests | None = None
        if claim is not None and journal.codec is not None:  # one that keeps objects is this process's own
            self._requests = Requests(journal, claim, self._requested)
        look = {} if self._requests is None else {"look": self._requests.look}
        self.control = Control(lambda: self._inbox.put(None), self._reports.add, **look)
        self._work = work = Work(plan, view, settings, clock, claim)
        self._gate = Gate(lambda: self._inbox.put(None))
        self.control.store = Store(journal, claim, self._gate)
        self.control.transactions = Transactions(journal, claim, plan.identities, work.running, self._gate)
        self._turn = Turn(journal, claim, observer)
        self._tasks = Tasks(work, self._turn, journal, self.control)
        self._opening = Opening(work, self._turn, self._tasks, journal, self.control)
        self._stopping = Stopping(work, self._tasks, executor, self.control)
        self._ending = Ending(
            work, self._turn, self._tasks, self.control, self._requests, journal, claim, clock.now
        )
        self._running = work.running
        self._done = self._tasks.done
        self._heard: list[Request] = []  # what was asked from outside, and has been seen to

    def run(self) -> None:
        """Run to the end. What user code raises ends up in the view; what the journal raises is raised."""
        executor, work, opening = self._executor, self._work, self._opening
        gate = self._gate if self._has_transactions else None
        self._reports.begin()
        self._gate.begin()
        executor.open(self._inbox, self._codec, self._lock)
        try:
            self._begin()
            while True:
                if self.control.stop is not None:
                    self._stopping.begin()
                elif work.takes_back:
                    work.takes_back = False
                    self._stopping.withdraw(everything=False)
                if gate is None or gate.try_enter():
                    try:
                        opening.open_ready(executor.slots)
                        self._turn.write()
                        if self._heard:
                            self._answer()
                    finally:
                        if gate is not None:
                            gate.exit()
                    self._start()
                # else a body has a transaction open: it may wait for what waits for it then
                if not self._running and not work.delayed:
                    break
                self._take_messages()
            self._ending.end()
        except BaseException as error:
            self.control.transactions.close()
            self._ending.broke(error)
            raise
        finally:
            executor.close()
            self._gate.close()
            self._inbox.close()
            # these call back: without them the run and its results are gone as soon as nobody has it
            self._reports.close()
            if self._requests is not None:
                self._requests.close()
            work.timers.waiting.clear()
        if self._observer is not None:
            view = self._view
            info = {
                "workflow": self._plan.workflow,
                "status": view.status,
                "reason": view.reason,
                "duration": view.duration,
            }
            self._observer(RunEnded(view.workflow_id, info))

    # The turn of the loop

    def _begin(self) -> None:
        view, plan, work = self._view, self._plan, self._work
        view.started = work.at = self._now()
        view.status = RunStatus.RUNNING
        if self._settings.timeout is not None:
            work.timers.after(self._settings.timeout, self._stopping.run_timed_out, None)
        if self._observer is not None:
            info = {
                "workflow": plan.workflow,
                "version": plan.version,
                "mode": str(plan.mode),
                "tasks": len(plan.graph),
                "resumed": plan.resumed,
            }
            self._observer(RunStarted(view.workflow_id, info))
        self._opening.begin()
        if self._unknown:
            self.control.ask(Stop(RunStatus.PAUSED, _why_unknown(self._unknown, view.workflow_id)))
        if self._requests is not None:
            self._requests.look()

    def _start(self) -> None:
        """Tell what is recorded, then start what was opened."""
        self._turn.tell()
        calls, self._opening.calls = self._opening.calls, []
        if self.control.stop is None:
            self._executor.submit(calls)
        else:  # asked while the row that says it starts was written, by a callback for instance
            for call in calls:
                self._stopping.not_started(call)

    def _take_messages(self) -> None:
        inbox, work = self._inbox, self._work
        timers = work.timers
        patience = timers.patience(idle=not self._running) if timers.waiting else None
        if self._requests is not None:
            self._requests.look()
            patience = LOOK_EVERY if patience is None else min(patience, LOOK_EVERY)
        try:
            message = inbox.get(patience)
            work.at = self._now()  # one time for all of a turn
            while True:  # what has come together is committed together
                if type(message) is Call:
                    self._done(message)
                elif type(message) is Started:
                    self._began(message.call)
                elif type(message) is Progressed:
                    self._progressed(message.call, self._reports.latest(message))
                    break  # a body may report faster than a turn takes
                elif type(message) is Request:
                    if message.signal == Skip.word:
                        self._stopping.skip(message)
                    self._heard.append(message)
                # else the run is asked to stop: see `run`
                if inbox.empty():
                    break
                message = inbox.get(0)
        except Empty:
            work.at = self._now()
        if timers.waiting:
            timers.run_due()

    def _began(self, call: Call) -> None:
        timeout = call.task.timeout
        if timeout is not None and call in self._running:
            self._work.timers.after(timeout, self._stopping.deadline, call)

    def _progressed(self, call: Call, progress: Progress) -> None:
        # a body that runs inline reports in the middle of `submit`: nothing but this may change here
        run = self._running.get(call)
        if run is not None:
            run.progress = progress
            if self._observer is not None:
                self._observer(TaskProgress(run))

    # What is asked from outside

    def _requested(self, request: Request) -> None:
        """Take a request, in any thread."""
        assert self._claim is not None, "only those who have one look"
        if request.signal == Skip.word:
            for call in list(self._running):
                if call.attempt.task_id == request.task_id:
                    call.stop_asked = skip_for(request)
                    self.control.alarm()
            self._inbox.put(request)
        elif request.signal == Pause.word and request.fence < self._claim.fence:
            self._inbox.put(request)  # it was asked of an earlier owner, and the run has been resumed since
        else:
            self.control.ask(stop_for(request))

    def _answer(self) -> None:
        """Take away what has been seen to."""
        while self._heard and self._requests is not None:  # else it came from this process
            self._requests.answer(self._heard.pop())


def _why_unknown(keys: Sequence[str], workflow_id: str) -> str:
    named = ", ".join(map(repr, keys))
    return (
        f"task {named} waits for an attempt and is not in the workflow any more; put it back and resume, or skip it: "
        f"dotflow_like.skip({workflow_id!r}, {keys[0]!r}, storage=...)"
    )
