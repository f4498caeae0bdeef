"""How what is under way is stopped: a run that is asked to end, a task at its deadline, calls given in advance."""

from __future__ import annotations

from dotflow_like.errors import TaskCancelled, TaskTimeout
from dotflow_like.execute.call import Call
from dotflow_like.execute.control import Control
from dotflow_like.execute.executors.base import Executor
from dotflow_like.execute.requests import skip_for
from dotflow_like.execute.tasks import FINISHED, Tasks
from dotflow_like.execute.work import Work
from dotflow_like.model.records import Request, TaskError
from dotflow_like.model.signals import Skip
from dotflow_like.model.status import AttemptOutcome, TaskStatus
from dotflow_like.report.logs import warn
from dotflow_like.report.result import TaskRun

__all__ = ["Stopping"]

_WAITING = (TaskStatus.PENDING, TaskStatus.RETRYING)


class Stopping:
    """Stops what is under way.

    Args:
        work: the state of the run.
        tasks: ends attempts.
        executor: where bodies run.
        control: says what the run was asked.
    """

    def __init__(self, work: Work, tasks: Tasks, executor: Executor, control: Control) -> None:
        self._work = work
        self._tasks = tasks
        self._executor = executor
        self._control = control

    def begin(self) -> None:
        """Begin to end the run, as it was asked; asked once more, end it now."""
        work = self._work
        if not work.stopping:
            work.stopping = work.halted = True
            self.withdraw(everything=True)
            for call in work.running:
                self._executor.ask(call)
            for run in work.waiting():
                self._tasks.stop_waiting(run)
            work.timers.after(work.settings.grace, self._grace_over, None)
        if self._control.hurry:
            self._grace_over(None)

    def withdraw(self, *, everything: bool) -> None:
        """Take back what the executor was given in advance, and has not begun; or everything that has not."""
        for call in self._executor.withdraw(everything=everything):
            self.not_started(call)

    def not_started(self, call: Call) -> None:
        """End the attempt of a call whose body will not begin."""
        work = self._work
        run = work.running.pop(call)
        error = TaskError.of(
            TaskCancelled(f"{call.task.where} was not started: its run was to end"), call.attempt.number
        )
        if self._control.stop is not None:
            self._tasks.close_stopped(run, call, error)
        elif work.finished:
            self._tasks.skip(run, Skip(FINISHED))
        else:  # another task failed, or the run's time was up: this one is as if it had not been its turn
            self._tasks.close_cancelled(run, error)
            run.status = TaskStatus.RETRYING if run.errors else TaskStatus.PENDING
            if run.errors:  # what has been tried is tried to its end
                work.again.append(run)

    def deadline(self, call: Call) -> None:
        """Stop a call whose time is up, if it still runs."""
        run = self._work.running.get(call)
        if run is not None:
            self._stop_at_deadline(call, run, f"{call.task.timeout:g} s")

    def run_timed_out(self, _: None) -> None:
        """Stop everything, since the run's time is up."""
        work = self._work
        work.timed_out = work.stopping = work.halted = True
        self.withdraw(everything=True)
        for call, run in list(work.running.items()):
            self._stop_at_deadline(call, run, f"the run's {work.settings.timeout:g} s")
        for run in work.waiting():
            self._tasks.fail_waiting(run)

    def skip(self, request: Request) -> None:
        """Skip a task, as somebody outside asks: one that runs is asked to end, and is skipped unless it completes."""
        work = self._work
        found = work.runs.get(request.task_id or "")
        if request.task_id is None:
            waiting = [*work.delayed, *work.again] or list(work.running.values())
            found = waiting[0] if len(waiting) == 1 else None
        signal = skip_for(request)
        for call, run in work.running.items():
            if run is found:
                call.stop_asked = signal
                self._executor.ask(call)
                self._control.alarm()
                return
        if found is not None and not found._node.is_map and found.status in _WAITING:
            self._tasks.skip_waiting(found, signal)
            return
        if request.task_id is None:
            what = "no one task waits"
        elif found is not None and found._node.is_map:
            what = f"task {request.task_id!r} is a map, of which an item can be skipped, as '{request.task_id}[0]'"
        else:
            what = f"task {request.task_id!r} does not wait"
        warn(
            f"skip, asked by {request.by}, changes nothing: {what} in run {work.view.workflow_id}",
            in_run=True,
            workflow_id=work.view.workflow_id,
        )

    def _grace_over(self, _: None) -> None:
        for call, run in list(self._work.running.items()):
            self._give_up(call)
            if self._tasks.has_ended_itself(run, call):
                continue
            error = TaskCancelled(
                f"{call.task.where} was still running when the grace of the run's stop was over"
            )
            self._tasks.close_stopped(run, call, TaskError.of(error, call.attempt.number))

    def _stop_at_deadline(self, call: Call, run: TaskRun, limit: str) -> None:
        stopped = self._give_up(call)
        if self._tasks.has_ended_itself(run, call):
            return
        error = TaskTimeout(f"{call.task.where}: attempt {call.attempt.number} took longer than {limit}")
        self._tasks.failed(run, call, error, outcome=AttemptOutcome.TIMED_OUT)
        if not stopped:
            warn(
                f"{call.task.where} went on after its time was up, since a body in a thread cannot be stopped: what "
                "it returns is discarded, and it is not tried again before it has ended; a worker process stops it: "
                "@task(isolate=True), or mode='parallel' with executor='process'",
                in_run=True,
                workflow_id=self._work.view.workflow_id,
                task_id=run.task_id,
            )

    def _give_up(self, call: Call) -> bool:
        """Stop a running call; return whether its body is gone."""
        run = self._work.running.pop(call)
        run._last = call.attempt  # with what its body has noted so far
        stopped = self._executor.stop(call)
        if not stopped:
            call.abandoned = True
            self._work.given_up[call] = run
        return stopped
