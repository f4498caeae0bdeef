"""Values in a context: one given to the task from outside, one from the task before it."""

from dotflow_like import Context, Manager, task


@task(initial_context={"city": "Lisbon"})
def locate(initial_context: Context) -> tuple[float, float]:
    return {"Lisbon": (38.7, -9.1)}[initial_context.storage["city"]]


@task
def describe(previous_context: Context) -> str:
    north, east = previous_context.storage
    return f"{north} north, {east} east, says task {previous_context.task_id!r}"


@task
def look_back(previous_context: Context) -> Context:
    return Context(previous_context.value.upper())  # returned, a context counts as its value


run = Manager(tasks=[locate, describe, look_back])

for each in run.tasks:
    print(f"{each.name}: got {each.previous_context.storage!r}, made {each.current_context.storage!r}")

assert run[locate].initial_context.storage == {"city": "Lisbon"}
assert run[describe].previous_context.storage == (38.7, -9.1)
assert run[look_back].result == "38.7 NORTH, -9.1 EAST, SAYS TASK 'LOCATE'"
