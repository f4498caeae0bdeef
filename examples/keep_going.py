"""A task fails: stop there, or go on with what does not need its result."""

from dotflow_like import Manager, task


@task
def prices() -> dict[str, float]:
    raise ConnectionError("the price server is away")


@task
def total(prices: dict[str, float]) -> float:
    return sum(prices.values())


@task
def clean_up() -> str:
    return "tidy"


tasks = [prices, total.bind(prices=prices), clean_up]


def report(tasks: list) -> None:
    for each in tasks:
        print(f"  {each.task_id}: {each.status}{f' ({each.reason})' if each.reason else ''}")


print("keep_going=False")
stopped = Manager(tasks=tasks, on_failure=report)
print("keep_going=True")
gone_on = Manager(tasks=tasks, on_failure=report, keep_going=True)

assert [each.status for each in stopped.tasks] == ["failed", "pending", "pending"]
assert [each.status for each in gone_on.tasks] == ["failed", "skipped", "completed"]
assert stopped.status == gone_on.status == "failed"

try:
    gone_on.raise_for_failure()
except* ConnectionError as errors:  # RunFailed is a group of the tasks' own errors
    print(f"raise_for_failure: {errors.exceptions}")
else:
    raise AssertionError("the failure was not raised")
