"""A class as one task: its decorated methods run in order, on one instance."""

from dotflow_like import Context, Manager, task


class Connected:
    """What several imports have in common."""

    @task
    def connect(self) -> str:
        self.connection = f"a connection to {self.server}"
        return self.connection


@task
class Import(Connected):
    """Methods of the base class come first."""

    def __init__(self, server: str) -> None:
        self.server = server

    @task
    def read(self) -> list[int]:
        return [len(self.connection), 2, 1]

    @task
    def tidy(self, previous_context: Context) -> list[int]:
        return sorted(previous_context.storage)


run = Manager(tasks=[Import.bind(server="example.org")])

for context in run[Import].result:
    print(f"{context.task_id}: {context.storage!r}")

assert [context.task_id for context in run[Import].result] == ["Import.connect", "Import.read", "Import.tidy"]
assert run[Import].result[-1].storage == [1, 2, 27]
