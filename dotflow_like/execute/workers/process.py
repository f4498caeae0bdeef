"""A worker process, as its parent sees it: how it starts, how it is spoken to, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from dotflow_like.execute.workers.channel import Channel, can_be_read
from dotflow_like.execute.workers.tokens import Tokens

__all__ = ["Worker", "in_words"]

_START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv.pop()); "
    "from dotflow_like.execute.workers.main import main; main(*map(int, sys.argv[1:]))"
)


class Worker:
    """A worker process and the three ways to it.

    The channel carries calls and results; the tokens say which calls it may run; the lifeline, a pipe whose
    other end only this process has, kills it when this process ends. It leads a session and a process
    group of its own, with all that its bodies start.

    Args:
        start_method: `spawn` for a fresh interpreter, which has none of this process's threads and locks
            and does not import the main script; `fork` for a copy of this process.
        kind: what it is to be initialised with.

    Attributes:
        kind: the same.
        forked: whether it is a copy of this process, as that was when it started.
        sent: how many calls it was sent; the number of the last.
        served: how many it has ended.
        name: what records call it.
        channel: what goes to it and comes from it.
        tokens: the rights to run what it was sent.
        death: a descriptor that can be read once it has died; None where the system has none.

    Raises:
        OSError: it could not be started: there are too many processes, or descriptors, or too little memory.
    """

    def __init__(self, start_method: str = "spawn", kind: bytes = b"") -> None:
        self.kind = kind
        self.forked = start_method == "fork"
        self.sent = 0
        self.served = 0
        self.death: int | None = None
        self._how: str | None = None  # it ended
        _occupy_the_first_three()
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(theirs.close)
            failed = undo.enter_context(contextlib.ExitStack())
            self.channel = Channel(ours)
            failed.callback(self.channel.close)
            self.tokens = Tokens()
            failed.callback(self.tokens.close)
            end, self._lifeline = os.pipe()
            undo.callback(os.close, end)
            failed.callback(os.close, self._lifeline)
            start = _forked if self.forked else _spawned
            self.pid = start(self, theirs.fileno(), end)
            failed.pop_all()
        self.name = f"pid {self.pid}"
        self.death = _death_of(self.pid)

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return not self.wait(0)

    def wait(self, patience: float) -> bool:
        """Give it `patience` seconds to end; return whether it has."""
        if self._how is not None:
            return True
        if self.death is not None:
            # its exit status is not fetched here: until it is, the number of its group is nobody else's
            return can_be_read(self.death, patience)
        until = time.monotonic() + patience
        while not self._fetch(os.WNOHANG):
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)
        _kill(os.killpg, self.pid)
        return True

    def kill(self) -> str:
        """Kill it with all it started, if it lives, wait until it is gone, and return how it ended, in words."""
        if self._how is None:
            found = _stopped_descendants(self.pid)
            _kill(os.killpg, self.pid)
            for each in found:
                _kill(os.kill, each)
            self._fetch(0)
        assert self._how is not None, "it has been waited for"
        return self._how

    def _fetch(self, options: int) -> bool:
        """Fetch its exit status; return whether it has ended."""
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:
            self._how = "nobody knows how, since something else in this program has waited for it"
            return True
        if pid:
            self._how = in_words(os.waitstatus_to_exitcode(status))
        return bool(pid)

    def freeze(self) -> None:
        """Stop it, until it is killed or goes on: then all it has said can be heard."""
        _kill(os.killpg, self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `freeze`."""
        _kill(os.killpg, self.pid, signal.SIGCONT)

    def forget(self) -> None:
        """Close every way to it: it dies if it has not."""
        self.channel.close()
        if self._lifeline >= 0:
            self.tokens.close()
            os.close(self._lifeline)
            self._lifeline = -1
        if self.death is not None:
            os.close(self.death)
            self.death = None

    def disown(self) -> None:
        """Close every way to it in a fork of its parent, whose child it is not."""
        self.forget()
        self._how = "it is another process's"

    def __repr__(self) -> str:
        return f"<Worker {self.name}>"


def in_words(code: int) -> str:
    """Return how a process ended: its exit code, or the name of the signal."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _occupy_the_first_three() -> None:
    """Open what is closed of the standard descriptors: else a way to a worker gets the number of its output."""
    while (null := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(null)


def _spawned(worker: Worker, channel: int, lifeline: int) -> int:
    given = (channel, worker.tokens.reading, lifeline)
    path = [each for each in sys.path if isinstance(each, str)]  # others find nothing
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # -O, -W and the like
    process = subprocess.Popen(
        [sys.executable, *flags, "-P", "-c", _START, *map(str, given), json.dumps(path)],
        pass_fds=given,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    process.returncode = 0  # it is waited for here, as a fork is, not by this object
    return process.pid


def _forked(worker: Worker, channel: int, lifeline: int) -> int:
    # here, once: the child may have no descriptor left to read a module with
    from dotflow_like.execute.workers.main import main

    for stream in (sys.stdout, sys.stderr):  # else the child would write what waits in them once more
        with contextlib.suppress(Exception):
            stream.flush()
    with warnings.catch_warnings():  # of threads that are not Python's: it was asked for
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        worker.channel.close()  # it makes room for the next
        reading = os.dup(worker.tokens.reading)
        worker.forget()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        main(channel, reading, lifeline)
        code = 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(code)


def _death_of(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # an old kernel, a strict sandbox, too many files open: the end of its channel tells, too
        return None


def _kill(kill: Callable[[int, int], None], pid: int, signum: int = signal.SIGKILL) -> None:
    # of a group of which nothing is left, macOS says the latter
    with contextlib.suppress(ProcessLookupError, PermissionError):
        kill(pid, signum)


def _stopped_descendants(pid: int) -> list[int]:
    """Stop a worker and all it has started, so that nobody starts more, and return them, where that can be told.

    Those that lead a session of their own are not in the worker's group, so each is stopped by itself.
    """
    found = [pid]
    for each in found:  # which grows on the way
        _kill(os.kill, each, signal.SIGSTOP)
        with contextlib.suppress(OSError):
            for thread in list(Path(f"/proc/{each}/task").iterdir()):
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    found += map(int, (thread / "children").read_text().split())
    return found
