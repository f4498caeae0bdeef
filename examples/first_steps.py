"""Declare tasks, bind one to the result of another, run them, look at the run."""

from dotflow_like import Manager, task


@task
def fetch(url: str) -> str:
    return f"<h1>Welcome to {url}</h1>"


@task
def title(page: str) -> str:
    return page.removeprefix("<h1>").removesuffix("</h1>")


run = Manager(tasks=[fetch.bind(url="example.org"), title.bind(page=fetch)])

print(f"the run is {run.status}")
for each in run.tasks:
    print(f"  {each.task_id}: {each.status}, {each.result!r}")

assert run.status == "completed"
assert run[title].result == run["title"].result == "Welcome to example.org"
assert title("<h1>plain</h1>") == "plain"  # a task is still the function
