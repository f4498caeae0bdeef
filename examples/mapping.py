"""One call per item: retried, timed out and recorded item by item."""

from dotflow_like import Manager, task


@task
def numbers(count: int) -> list[int]:
    return list(range(count))


@task
def divide(divisor: int, dividend: int) -> float:
    return dividend / divisor


@task
def total(quotients: list[float]) -> float:
    return sum(quotients)


tasks = [
    numbers.bind(count=5),
    divide.bind(dividend=12).map(divisor=numbers),
    total.bind(quotients=divide),
]
run = Manager(tasks, mode="parallel", max_workers=2, keep_going=True, on_failure=lambda tasks: None)

for item in run[divide].items:
    print(f"{item.task_id}: {item.status}, {item.errors[0].message if item.errors else item.result}")
print(f"{run[divide].status}: {run[divide].reason}")

assert [item.status for item in run[divide].items] == ["failed", *["completed"] * 4]
assert run[total].status == "skipped"  # it needs all of them

pairs = Manager(tasks=[divide.map(divisor=[1, 2, 4], dividend=[3, 3, 3])])  # several go together
print(pairs[divide].result)
assert pairs[divide].result == [3.0, 1.5, 0.75]
