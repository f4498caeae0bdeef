"""Groups: chains of their own, one after another or side by side."""

from dotflow_like import Context, Manager, task


@task
def start(initial_context: Context) -> list[str]:
    return [initial_context.storage]


@task
def add_step(previous_context: Context) -> list[str]:
    return [*previous_context.storage, "step"]


def chain(name: str) -> list:
    return [
        start.with_options(group_name=name, task_id=f"{name}.start", initial_context=name),
        add_step.with_options(group_name=name, task_id=f"{name}.add"),
        add_step.with_options(group_name=name, task_id=f"{name}.add_again"),
    ]


tasks = [*chain("left"), *chain("right")]

for mode in ("sequential_group", "parallel"):  # one group after the other; both at once
    run = Manager(tasks=tasks, mode=mode, max_workers=2)
    for each in run.tasks:
        print(f"{mode}: {each.task_id} of group {each.group_name} made {each.result}")
    assert run["left.add_again"].result == ["left", "step", "step"]
    assert run["right.add_again"].result == ["right", "step", "step"]
    assert run["right.start"].previous_context.storage is None  # a group begins anew
