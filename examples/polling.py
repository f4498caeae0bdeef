"""Start a job elsewhere once, and ask until it is done: a wait occupies no worker and survives the process."""

from dotflow_like import Manager, TaskContext, task

STATES = iter(["queued", "running", "done"])  # what the service will answer


def submit(name: str) -> str:
    print(f"submitted {name}")
    return f"job-{name}"


@task
def export(ctx: TaskContext, name: str) -> str:
    job = ctx.step("submit", submit, name)  # once, however often the task is tried again
    state = next(STATES)  # stands for a request
    if state != "done":
        ctx.retry(f"{job} is {state}", after=0.01)  # no error: it uses up no tries
    return f"{job}.csv"


@task
def load(file: str) -> str:
    return f"loaded {file}"


run = Manager(tasks=[export.bind(name="sales"), load.bind(file=export)])

for each in run["export"].attempts:
    print(f"attempt {each.number}: {each.outcome} {each.metadata.get('signal_reason', '')}".rstrip())
print(run[load].result)
assert [each.outcome for each in run["export"].attempts] == ["retried", "retried", "success"]
assert run[load].result == "loaded job-sales.csv"
