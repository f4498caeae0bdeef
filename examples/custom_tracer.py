"""Watch a run: a tracer is told what begins and ends, metrics what to count."""

from collections import Counter
from typing import Any

from dotflow_like import Config, Manager, Metrics, TaskRun, Tracer, task


class Lines(Tracer):
    """Prints a line for everything; methods one does not need can be left out."""

    def start_workflow(self, workflow_id: str, **info: Any) -> None:
        print(f"run {workflow_id}: {info['tasks']} tasks, {info['mode']}")

    def end_task(self, task: TaskRun) -> None:
        print(f"  {task.task_id}: {task.status} after {len(task.attempts)} attempts")

    def end_workflow(self, workflow_id: str, **info: Any) -> None:
        print(f"run {workflow_id}: {info['status']}")


class Counts(Metrics):
    """Counts in a dictionary what a real one would hand to its server."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def task_completed(self, task: TaskRun) -> None:
        self.counts["completed"] += 1

    def task_retried(self, task: TaskRun) -> None:
        self.counts["retried"] += 1


tries: list[int] = []


@task(retry=2)
def second_time_lucky() -> str:
    tries.append(1)
    if len(tries) == 1:
        raise OSError("not yet")
    return "now"


counts = Counts()
Manager(tasks=[second_time_lucky], workflow_id="lucky", config=Config(tracer=Lines(), metrics=counts))

print(dict(counts.counts))
assert counts.counts == {"retried": 1, "completed": 1}
