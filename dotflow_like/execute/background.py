"""Runs in a thread, which the interpreter waits for before it ends."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from contextvars import copy_context

__all__ = ["in_background", "settled"]

_waits: dict[threading.Thread, Callable[[], object]] = {}


def in_background(
    go: Callable[[], object], raised: Callable[[BaseException], None], wait: Callable[[], object]
) -> threading.Thread:
    """Start `go` in a thread, in a copy of the context, and return the thread.

    Args:
        go: what to do.
        raised: is given what `go` raises.
        wait: waits for the thread; called when the interpreter is about to end.
    """
    _wait_at_exit()

    def target() -> None:
        try:
            go()
        except BaseException as error:
            raised(error)  # and whoever waits is told, the interpreter at its end if nobody does
        else:
            settled(thread)

    # a daemon, so that a Ctrl-C while the interpreter waits at its end does not wait once more
    thread = threading.Thread(target=copy_context().run, args=(target,), name="dotflow_like-run", daemon=True)
    _waits[thread] = wait
    thread.start()
    return thread


def settled(thread: threading.Thread) -> None:
    """Note that nobody needs to wait for `thread` any more."""
    _waits.pop(thread, None)


_registered = False


def _wait_at_exit() -> None:
    """Have the interpreter wait for all background runs before it shuts anything down.

    `atexit` would be too late: pools refuse work by then. The interpreter calls these hooks last in,
    first out, so the pools, which have theirs too, are imported before.
    """
    global _registered
    if not _registered:
        _registered = True
        import concurrent.futures.process
        import concurrent.futures.thread  # noqa: F401  # imported for its hook

        threading._register_atexit(_wait_for_all)  # type: ignore[attr-defined]  # the one hook that is early enough


def _wait_for_all() -> None:
    for wait in list(_waits.values()):
        try:
            wait()
        except BaseException as error:
            with contextlib.suppress(Exception):
                sys.excepthook(type(error), error, error.__traceback__)
