"""Import and first use, in a new process: wall time minus that of a script that only says `pass`, in pairs.

The first pair is thrown away, so that bytecode is compiled. Each peer is used for one task, as ours is.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.graphs import kept_folder
from benchmarks.measure import Benchmark

_OURS = "from dotflow_like import Manager, task\nManager([task(lambda: None)])"
_PEERS = {
    "dotflow": """
from dotflow import Config, DotFlow, action
from dotflow.providers import LogDefault
@action
def nop(): pass
flow = DotFlow(config=Config(log=LogDefault(level="ERROR")))
flow.task.add(step=nop)
flow.start()
""",
    "pipefunc": """
from pipefunc import Pipeline, pipefunc
@pipefunc(output_name="n")
def nop(): pass
Pipeline([nop])("n")
""",
    "sf-hamilton": """
from hamilton import ad_hoc_utils, driver
def nop() -> object: return None
flow = ad_hoc_utils.create_temporary_module(nop)
driver.Builder().with_modules(flow).build().execute(["nop"])
""",
    "dask": """
import dask
dask.delayed(lambda: None)().compute(scheduler="sync")
""",
    "doit": """
import os, tempfile
from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain
def task_nop(): return {"actions": [lambda: True]}
with tempfile.TemporaryDirectory() as folder:
    config = {"backend": "json", "dep_file": os.path.join(folder, "doit.json"), "reporter": "zero"}
    assert DoitMain(ModuleTaskLoader({"task_nop": task_nop, "DOIT_CONFIG": config})).run(["run"]) == 0
""",
    "joblib.Memory": """
import tempfile
from joblib import Memory
def nop(): pass
with tempfile.TemporaryDirectory() as folder:
    Memory(folder, verbose=0).cache(nop)()
""",
}


def pair(code: str, size: int) -> float:
    """Return the seconds the code takes above a bare interpreter; its size is always 1."""
    return _seconds(code) - _seconds("pass")


def _seconds(code: str) -> float:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    script = _script(code)
    start = perf_counter()
    done = subprocess.run([sys.executable, script], env=env, capture_output=True, text=True, check=False)
    spent = perf_counter() - start
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        if last.startswith("ModuleNotFoundError"):
            raise ModuleNotFoundError(last, name=last.split("'")[1])
        raise RuntimeError(last)
    return spent


@functools.cache
def _script(code: str) -> Path:
    """Write the code to a file: doit looks at the source of its tasks."""
    script = kept_folder("import", 1) / f"script{hash(code)}.py"
    script.write_text(code)
    return script


IMPORT = Benchmark(
    "import",
    "import and the first task, above bare Python",
    1,
    "ms",
    60,
    35,
    _OURS,
    _PEERS,
    pair,
    repeat=3,
)
