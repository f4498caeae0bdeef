"""Background: the run goes on in a thread while the caller does something else."""

import threading

from dotflow_like import Manager, task

opened = threading.Event()


@task
def wait_for_door() -> str:
    opened.wait()
    return "went through"


run = Manager(tasks=[wait_for_door], mode="background")

print(f"the caller has its run at once; it is {run.status}")
assert run.status in {"pending", "running"}
assert run.thread is not None

try:
    run.wait(timeout=0.05)
except TimeoutError as error:
    print(f"waiting for a while: {error}")

opened.set()
run.wait()
print(f"and now it is {run.status}: {run[wait_for_door].result}")
assert run[wait_for_door].result == "went through"

Manager(tasks=[task(lambda: print("a script that ends waits for its runs"))], mode="background")
