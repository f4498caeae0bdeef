"""Runs scripts in processes that have the package loaded already, so that a test can kill thousands of them.

Each line it reads is an order in JSON, each line it writes the answer:

    {"script": ..., "arguments": [...], "folder": ...}    a process begins, in a session of its own: its number
    {"wait": number}                                      its exit code, if it has ended by now; else null

What the process writes goes to the files `out` and `errors` in that folder. It is a fork of this one, which has a
single thread and has opened nothing.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import CodeType

import dotflow_like.execute.executors.inline
import dotflow_like.execute.executors.processes
import dotflow_like.execute.executors.split
import dotflow_like.execute.executors.threads
import dotflow_like.execute.workers.main
import dotflow_like.manager
import dotflow_like.plan.fingerprint
import dotflow_like.plan.frames
import dotflow_like.plan.source
import dotflow_like.record.codec
import dotflow_like.record.keyvalue
import dotflow_like.record.sql
import dotflow_like.record.storage.files
import dotflow_like.record.storage.urls  # noqa: F401


def order() -> tuple[list[str], CodeType]:
    """Serve; return, in each new process, its arguments and what it is to run."""
    compiled: dict[str, CodeType] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            pid, status = os.waitpid(asked["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            script = asked["script"]
            if script not in compiled:
                compiled[script] = compile(Path(script).read_bytes(), script, "exec")
            begun, ready = os.pipe()
            answer = os.fork()
            if answer == 0:
                _begin(Path(asked["folder"]))
                os.close(begun)
                os.close(ready)
                return [script, *asked["arguments"]], compiled[script]
            os.close(ready)
            os.read(begun, 1)  # until it leads a session of its own
            os.close(begun)
        print(json.dumps(answer), flush=True)
    sys.exit()


def _begin(folder: Path) -> None:
    os.setsid()
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, folder / "out", write),
        (2, folder / "errors", write),
    ):
        descriptor = os.open(path, flags, 0o600)
        os.dup2(descriptor, number)
        os.close(descriptor)


sys.argv, code = order()
__file__ = sys.argv[0]
sys.path[0] = str(Path(__file__).parent)
exec(code)
