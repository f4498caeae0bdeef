"""A long task that is killed in the middle, and goes on with the next item: `ctx.iterate` and `kill -9`."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from dotflow_like import Manager, TaskContext, task

ROWS = [{"id": number, "city": city} for number, city in enumerate(["Lisbon", "Porto", "Faro", "Braga"], 1)]


@task
def load(ctx: TaskContext, folder: str, dies_at: str | None = None) -> int:
    for row in ctx.iterate(ROWS, cursor="id"):
        if row["city"] == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        # the row it dies in is given once more: a file of one name bears that
        Path(folder, f"{row['city']}.json").write_text(f"{row}\n", encoding="utf-8")
        print(f"loaded {row['city']}", flush=True)
    return len(list(Path(folder).glob("*.json")))


def run(folder: str, **params: str) -> Manager:
    return Manager(
        tasks=[load],
        params={"folder": folder, **params},
        workflow_id="cities",
        resume=True,
        storage=f"sqlite:///{folder}/runs.db",
    )


if len(sys.argv) > 1:  # this process was started to be killed
    run(sys.argv[1], dies_at="Faro")

with TemporaryDirectory() as folder:  # a program of yours has a folder that stays
    killed = subprocess.run([sys.executable, __file__, folder], check=False)
    assert killed.returncode == -signal.SIGKILL
    print("killed; the same again, in another process:", flush=True)
    done = run(folder)
    assert done[load].result == len(ROWS)
    assert [each.outcome for each in done[load].attempts] == ["recovered", "success"]
