"""Some calls here, and those of isolated tasks in worker processes."""

from __future__ import annotations

from collections.abc import Sequence

from dotflow_like.execute.call import Call
from dotflow_like.execute.executors.base import Executor
from dotflow_like.execute.inbox import Inbox
from dotflow_like.record.journal import Codec

__all__ = ["SplitExecutor"]


class SplitExecutor(Executor):
    """Gives the calls of isolated tasks to one executor, and the others to another.

    There are as many slots for both together as the latter has: no more bodies run at once than without
    isolated tasks.

    Args:
        main: runs the calls of tasks that are not isolated.
        workers: runs those of isolated ones, each in a process of its own.
    """

    def __init__(self, main: Executor, workers: Executor) -> None:
        self._main = main
        self._workers = workers

    @property
    def slots(self) -> int:  # type: ignore[override]  # it is read only
        return self._main.slots

    @property
    def in_body(self) -> bool:  # type: ignore[override]  # likewise
        return self._main.in_body

    def open(self, inbox: Inbox, codec: Codec | None, lock: int | None = None) -> None:
        super().open(inbox, codec, lock)
        self._main.open(inbox, codec, lock)
        self._workers.open(inbox, codec, lock)

    def submit(self, calls: Sequence[Call]) -> None:
        isolated = [call for call in calls if call.task.isolate]
        self._workers.submit(isolated)  # first: the others may run here and now
        self._main.submit([call for call in calls if not call.task.isolate] if isolated else calls)

    def ask(self, call: Call) -> None:
        self._of(call).ask(call)

    def withdraw(self, *, everything: bool) -> list[Call]:
        return self._main.withdraw(everything=everything) + self._workers.withdraw(everything=everything)

    def stop(self, call: Call) -> bool:
        return self._of(call).stop(call)

    def close(self) -> None:
        try:
            self._main.close()
        finally:
            self._workers.close()

    def _of(self, call: Call) -> Executor:
        return self._workers if call.task.isolate else self._main
