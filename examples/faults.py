"""What goes wrong in one body costs no other: it fails its own task, with its cause."""

import os
import signal
import subprocess
import threading

from dotflow_like import Manager, task


@task
def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out


@task
def exits() -> None:
    os._exit(3)


@task(timeout=0.5)
def hangs() -> None:
    subprocess.run(["sleep", "600"], check=True)  # ended, too, when the time is up


@task
def returns_a_lock() -> object:
    return threading.Lock()


class Refused(Exception):
    """An exception that cannot be unpickled: it has to be made with `code=`."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"refused with code {code}")


@task
def raises() -> None:
    raise Refused(code=7)


@task
def square(x: int) -> int:
    return x * x


squares = square.map(x=range(100))
total = task(sum, name="total").bind(iterable=squares)
tasks = [is_killed, exits, hangs, squares, returns_a_lock, raises, total]
run = Manager(tasks, mode="parallel", max_workers=2, keep_going=True, on_failure=lambda tasks: None)

for each in run.tasks:
    print(f"{each.task_id}: {each.status}")
    for error in each.errors:
        cause = error.message.rpartition("ended under it: ")[2]  # without the number of the process
        print(f"    {error.exception}: {cause.partition(';')[0]}")

causes = {each.task_id: each.errors[0].exception for each in run.tasks if each.status == "failed"}
assert causes == {
    "is_killed": "WorkerDied",
    "exits": "WorkerDied",
    "hangs": "TaskTimeout",
    "returns_a_lock": "NotSerializable",
    "raises": "Refused",
}
assert run[total].result == sum(x * x for x in range(100))

# isolate=True gives one task of any run, here of a sequential one, a process of its own
apart = Manager([square.bind(x=3), exits.with_options(isolate=True)], on_failure=lambda tasks: None)
assert [each.status for each in apart.tasks] == ["completed", "failed"]
print(f"isolated: {', '.join(each.status for each in apart.tasks)}")
