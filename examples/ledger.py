"""A transfer between accounts: both bookings and the task's result are committed together, or none of them is."""

import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from dotflow_like import Manager, TaskContext, task

attempts = 0


@task
def open_accounts(ctx: TaskContext) -> None:
    connection = ctx.transaction()
    connection.execute("CREATE TABLE accounts (name TEXT PRIMARY KEY, balance INTEGER NOT NULL)")
    connection.executemany("INSERT INTO accounts VALUES (?, ?)", [("ann", 100), ("bob", 0)])


@task(retry=2)
def transfer(ctx: TaskContext, amount: int) -> int:
    global attempts
    attempts += 1
    connection = ctx.transaction()
    connection.execute("UPDATE accounts SET balance = balance - ? WHERE name = 'ann'", (amount,))
    if ctx.attempt.number == 1:
        raise ConnectionError("the line is dead, and ann has paid")  # which is taken back
    connection.execute("UPDATE accounts SET balance = balance + ? WHERE name = 'bob'", (amount,))
    return amount


def balances(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as database:
        return dict(database.execute("SELECT name, balance FROM accounts"))


with TemporaryDirectory() as folder:
    path = Path(folder) / "bank.db"
    tasks = [open_accounts, transfer.bind(amount=30).after(open_accounts)]
    for turn in ("first", "again"):
        run = Manager(tasks, workflow_id="monday", resume=True, storage=f"sqlite:///{path}")
        print(
            f"{turn}: {run[transfer].status} in attempt {run[transfer].attempts[-1].number}; {balances(path)}"
        )
    assert balances(path) == {"ann": 70, "bob": 30}

assert attempts == 2  # one that failed, one that did it; when resumed, there was nothing to do
