"""Resume with other inputs or other code: keep, compute anew, or refuse."""

import warnings

from dotflow_like import DotflowWarning, InputChanged, MemoryStorage, Workflow, task


@task
def load(table: str) -> str:
    return f"rows of {table}"


@task
def count(rows: str) -> int:
    return len(rows)


workflow = Workflow([load, count.bind(rows=load)])
options = {"workflow_id": "count", "resume": True, "storage": MemoryStorage()}

first = workflow.run(params={"table": "sales"}, **options)
print(f"computed: {first[count].result}")

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    kept = workflow.run(params={"table": "customers"}, on_input_change="reuse", **options)  # the default
print(f"reuse: {kept[count].result}, with a warning: {caught[0].message}")
assert kept[count].restored
assert caught[0].category is DotflowWarning

try:
    workflow.run(params={"table": "customers"}, on_input_change="raise", **options)
except InputChanged as error:
    print(f"raise: {error}")
else:
    raise AssertionError("the change was not seen")

plan = workflow.plan(params={"table": "customers"}, on_input_change="reset", **options)
print(plan.explain())

anew = workflow.run(params={"table": "customers"}, on_input_change="reset", **options)
print(f"reset: {anew[count].result}")
assert anew[count].result == len("rows of customers")
assert not anew[count].restored
