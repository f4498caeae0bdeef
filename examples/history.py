"""A run in SQLite: started once by its key, and its history read with plain SQL."""

import sqlite3
from tempfile import TemporaryDirectory

from dotflow_like import Manager, RetryPolicy, TaskContext, task


@task(retry=RetryPolicy(max_attempts=2))
def charge(ctx: TaskContext, order: str) -> str:
    ctx.attempt.metadata["order"] = order
    if ctx.attempt.number == 1:
        raise ConnectionError("the bank did not answer")
    return f"charged, under the key {ctx.idempotency_key}"  # the same on both attempts


def start(folder: str) -> Manager:
    return Manager(
        tasks=[charge],
        params={"order": "A-42"},
        idempotency_key="order A-42",  # however often this is called, the run is started once
        workflow_id="A-42",
        storage=f"sqlite:///{folder}/runs.db",
    )


with TemporaryDirectory() as folder:  # a program of yours has a folder that stays
    first, second = start(folder), start(folder)
    print(first[charge].result)
    assert second[charge].result == first[charge].result
    assert second.attempts == first.attempts  # the second is a view of the first: nothing ran

    with sqlite3.connect(f"{folder}/runs.db") as database:
        rows = database.execute(
            "SELECT number, outcome, error_type, json_extract(metadata, '$.order') FROM task_attempts "
            "WHERE workflow_id = 'A-42' ORDER BY task_id, number"
        ).fetchall()
    database.close()
    for row in rows:
        print(*row)
    assert rows == [(1, "retried", "ConnectionError", "A-42"), (2, "success", None, "A-42")]
