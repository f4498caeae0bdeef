"""Every executor keeps the contract of `Executor`."""

from __future__ import annotations

from dotflow_like.execute.executors.base import Executor
from dotflow_like.execute.executors.inline import InlineExecutor
from dotflow_like.execute.executors.threads import ThreadExecutor
from dotflow_like.testing.executor_contract import ExecutorContract


class TestInlineExecutor(ExecutorContract):
    concurrent = False

    def make_executor(self, slots: int) -> Executor:
        return InlineExecutor()


class TestInlineExecutorBeside(ExecutorContract):
    concurrent = False

    def make_executor(self, slots: int) -> Executor:
        return InlineExecutor(beside=True)


class TestThreadExecutor(ExecutorContract):
    def make_executor(self, slots: int) -> Executor:
        return ThreadExecutor(slots)


class TestProcessExecutor(ExecutorContract):
    kills = remote = True

    def make_executor(self, slots: int) -> Executor:
        from dotflow_like.execute.executors.processes import ProcessExecutor

        return ProcessExecutor(slots)
