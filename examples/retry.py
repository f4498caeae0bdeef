"""Try again: how often, after which errors, and with what pauses."""

from dotflow_like import Manager, RetryPolicy, TaskContext, task


@task(retry=3, retry_delay=0.01, backoff=True)  # pauses of 0.01 and 0.02 seconds
def flaky(ctx: TaskContext) -> str:
    if ctx.attempt.number < 3:
        raise ConnectionError(f"attempt {ctx.attempt.number} found nobody")
    return f"attempt {ctx.attempt.number} did it"


@task(retry=RetryPolicy(max_attempts=5, delay=0.01, max_delay=1, jitter=0.01, retry_on=ConnectionError))
def hopeless() -> None:
    raise ValueError("trying again would not help")


run = Manager(tasks=[flaky, hopeless], on_failure=lambda tasks: None)

for each in run.attempts:
    print(f"{each.task_id}, attempt {each.number}: {each.status}, {each.outcome}")

assert run[flaky].result == "attempt 3 did it"
assert run[flaky].retry_count == 2
assert [each.outcome for each in run[flaky].attempts] == ["retried", "retried", "success"]
assert run[hopeless].retry_count == 0  # a ValueError is not in retry_on
