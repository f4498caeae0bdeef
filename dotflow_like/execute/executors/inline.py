"""Calls one after another, in the thread the run is in."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from dotflow_like.execute.call import Call, Outcome, perform
from dotflow_like.execute.control import Terminated
from dotflow_like.execute.executors.base import Executor
from dotflow_like.execute.executors.threads import ThreadExecutor
from dotflow_like.execute.inbox import Inbox
from dotflow_like.record.journal import Codec

__all__ = ["InlineExecutor"]


class InlineExecutor(Executor):
    """Runs each call at once; one that may have to be given up in a thread beside.

    Args:
        beside: every call may: the run has a time limit, or is in the background. Else it is those
            whose task has a time limit.
    """

    slots = 1

    def __init__(self, *, beside: bool = False) -> None:
        self._all_beside = beside
        self._beside = ThreadExecutor(1)
        self._interruptible = threading.current_thread() is threading.main_thread()

    def open(self, inbox: Inbox, codec: Codec | None, lock: int | None = None) -> None:
        super().open(inbox, codec, lock)
        self._beside.open(inbox, codec, lock)

    def submit(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if self._all_beside or call.task.timeout is not None:
                self._beside.submit((call,))
            else:
                try:
                    self.in_body = True
                    call.outcome = perform(call)
                except BaseException as error:  # a signal between the body's end and this function's
                    call.outcome = Outcome(error=error)
                finally:
                    self.in_body = False
                if call.outcome.error is not None:
                    interrupt = isinstance(call.outcome.error, KeyboardInterrupt | Terminated)
                    call.outcome.interrupted = self._interruptible and interrupt
                self.inbox.put(call)

    def withdraw(self, *, everything: bool) -> list[Call]:
        return self._beside.withdraw(everything=everything)

    def stop(self, call: Call) -> bool:
        return self._beside.stop(call)

    def close(self) -> None:
        self._beside.close()
