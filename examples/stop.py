"""Stop a run from outside: cancel ends it for good, pause leaves it to be resumed."""

import threading

from dotflow_like import MemoryStorage, TaskContext, Workflow, task

begun = threading.Event()


@task
def count_sheep(ctx: TaskContext) -> int:
    begun.set()
    sheep = 0
    while not ctx.cancelled:  # a long body looks now and then
        sheep += 1
    return sheep


@task
def dream() -> str:
    return "of more sheep"


workflow, storage = Workflow([count_sheep, dream]), MemoryStorage()
run = workflow.start(workflow_id="night", storage=storage)
begun.wait()
run.pause()  # or run.cancel()
run.wait()

for each in run.tasks:
    print(f"{each.task_id}: {each.status}")
assert run.status == "paused"
assert run["count_sheep"].status == "completed"  # it was told, and ended by itself
assert run["dream"].status == "pending"

resumed = workflow.run(workflow_id="night", storage=storage, resume=True)
print(f"resumed: {resumed.status}, {resumed['dream'].result}")
assert resumed["count_sheep"].restored
assert resumed.status == "completed"
assert not resumed.cancel()  # it has ended; nothing changes
