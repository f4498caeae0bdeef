"""Values for a whole run: params fill parameters by name, as the type the annotation says."""

from datetime import date

from dotflow_like import PlanError, TaskContext, Workflow, task


@task
def select(day: date, limit: int = 10) -> str:
    return f"the first {limit} of {day:%d %B %Y}"


@task
def label(day: date, ctx: TaskContext) -> str:
    return f"{ctx.workflow_id}, task {ctx.task_id}, day {day.isoformat()}, params {sorted(ctx.params)}"


workflow = Workflow([select, label], name="daily")

run = workflow.run(params={"day": "2024-02-29"}, workflow_id="leap-day")
print(run[select].result)
print(run[label].result)
assert run[select].result == "the first 10 of 29 February 2024"

try:
    workflow.run(params={"day": "2024-02-30"})
except PlanError as error:
    print(f"refused before anything ran: {error}")
else:
    raise AssertionError("30 February was taken for a date")

try:
    workflow.run(params={"day": "2024-02-29", "limits": 3})
except PlanError as error:
    print(f"refused as well: {error}")
else:
    raise AssertionError("a parameter nobody takes was accepted")
