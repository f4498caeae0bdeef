"""Callbacks: after a task, after a run that completed, after one that failed."""

from dotflow_like import Manager, TaskRun, task

seen: list[str] = []


def after_task(task: TaskRun) -> None:
    seen.append(f"{task.task_id} is {task.status}")


def after_success(tasks: list[TaskRun]) -> None:
    seen.append(f"all {len(tasks)} tasks completed")


def after_failure(tasks: list[TaskRun]) -> None:
    failed = [each for each in tasks if each.status == "failed"]
    seen.append(f"failed: {failed[0].task_id}, of {failed[0].errors[-1].message!r}")


@task(callback=after_task)
def load(amount: int) -> int:
    if amount < 0:
        raise ValueError(f"{amount} is below zero")
    return amount


Manager(tasks=[load.bind(amount=5)], on_success=after_success, on_failure=after_failure)
Manager(tasks=[load.bind(amount=-5)], on_success=after_success, on_failure=after_failure)

print("\n".join(seen))
assert seen == [
    "load is completed",
    "all 1 tasks completed",
    "load is failed",
    "failed: load, of '-5 is below zero'",
]
