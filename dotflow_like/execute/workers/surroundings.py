"""What of its parent's state a worker is given at the start of each run."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import NamedTuple

__all__ = ["NO_CHANGES", "Surroundings", "changes", "surroundings", "take_on", "traces"]

_LIMITS = [each for name, each in vars(resource).items() if name.startswith("RLIMIT_")]
_SIGNALS = [int(each) for each in signal.valid_signals()]


class Surroundings(NamedTuple):
    """The state of a process that its children would inherit.

    Attributes:
        folder: the working directory; None if it is gone.
        environ: the environment.
        path: where modules are found.
        argv: the arguments of the command line.
        umask: the permissions new files do not get.
    """

    folder: str | None
    environ: dict[str, str]
    path: list[str]
    argv: list[str]
    umask: int


def surroundings() -> Surroundings:
    """Return those of this process."""
    try:
        folder = str(Path.cwd())
    except OSError:
        folder = None
    return Surroundings(folder, dict(os.environ), list(sys.path), list(sys.argv), _umask())


class Changes(NamedTuple):
    """What a process has added to its environment and its module path."""

    environ: dict[str, str]
    path: tuple[str, ...]


NO_CHANGES = Changes({}, ())


def changes(before: Surroundings, after: Surroundings) -> Changes:
    """Return what was added from one state to the other."""
    environ = {name: value for name, value in after.environ.items() if before.environ.get(name) != value}
    return Changes(environ, tuple(each for each in after.path if each not in before.path))


def take_on(given: Surroundings, own: Changes = NO_CHANGES) -> None:
    """Make this process's state that of another, with changes of its own.

    Raises:
        OSError: the working directory cannot be entered.
    """
    if given.folder is not None:
        os.chdir(given.folder)
    environ = given.environ | own.environ
    if os.environ != environ:
        for name in os.environ.keys() - environ.keys():
            del os.environ[name]
        os.environ.update(environ)
    sys.path[:], sys.argv[:] = (*own.path, *given.path), given.argv
    os.umask(given.umask)


def traces() -> tuple[object, ...]:
    """Return what a body may have changed of its process, and nobody changes back: equal if it is as it was."""
    limits = [resource.getrlimit(each) for each in _LIMITS]
    handlers = [signal.getsignal(each) for each in _SIGNALS]
    streams = [(stream, stream is None or stream.closed) for stream in (sys.stdout, sys.stderr)]
    return limits, handlers, streams, list(logging.getLogger().handlers), sys.getrecursionlimit()


def _umask() -> int:
    try:
        for line in Path("/proc/self/status").read_bytes().splitlines():
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    mask = os.umask(0o077)  # the only way elsewhere: for a moment it is another one
    os.umask(mask)
    return mask
