"""Steer a run by its id, from another thread or process: pause, go on, skip what waits, cancel."""

from tempfile import TemporaryDirectory

import dotflow_like
from dotflow_like import Run, TaskContext, Workflow, task


@task
def wait_for_file(ctx: TaskContext, day: str) -> str:
    ctx.retry(f"nothing for {day} yet", after=3600)


@task
def report() -> str:
    return "sent"


workflow = Workflow([wait_for_file.bind(day="monday"), report])


def show(run: Run) -> None:
    told = ", ".join(f"{each.task_id} {each.status}" for each in run.tasks)
    print(f"{run.status} ({run.reason}): {told}")


with TemporaryDirectory() as folder:
    storage = f"sqlite:///{folder}/runs.db"

    run = workflow.start(workflow_id="daily", storage=storage)
    dotflow_like.pause("daily", storage=storage, reason="the server is moved")
    show(run.wait())
    assert run.status == "paused"

    run = workflow.start(workflow_id="daily", storage=storage, resume=True)
    dotflow_like.skip("daily", "wait_for_file", storage=storage, reason="no file on holidays")
    show(run.wait())
    assert (run.status, run["wait_for_file"].status, run[report].result) == ("completed", "skipped", "sent")

    assert not dotflow_like.cancel("daily", storage=storage)  # it has ended: nothing changes
