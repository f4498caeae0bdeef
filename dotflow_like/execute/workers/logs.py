"""What bodies log in a worker is logged in its parent, as it happens."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

__all__ = ["apply_levels", "emit", "forward_logs", "levels"]

_ROOT = ""
"""What `logging.getLogger` calls the root."""
_SENT = (
    "levelno", "pathname", "lineno", "funcName", "created", "stack_info", "thread", "threadName", "taskName",
    "process",
)  # fmt: skip
_PLAIN = (str, int, float, bool, type(None))
_OWN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime", "taskName"}
"""The names a record of the standard library has itself."""

# The worker's side


def forward_logs(send: Callable[[bytes], object]) -> None:
    """Hand every record that reaches the root logger to `send`, and to no handler this process began with.

    Those a fork has are its parent's, which handles the record itself.
    """
    for logger in _loggers():
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger().addHandler(_Forwarder(send))


class _Forwarder(logging.Handler):
    def __init__(self, send: Callable[[bytes], object]) -> None:
        super().__init__()
        self._send = send
        self._process = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._process:  # a child of a body: the way to the parent is not its own
            last = logging.lastResort
            if last is not None and record.levelno >= last.level:
                last.handle(record)
            return
        try:
            self._send(_dumped(record))
        except Exception:
            self.handleError(record)  # says so on stderr, as handlers do


def _dumped(record: logging.LogRecord) -> bytes:
    exception = record.exc_text
    if record.exc_info and not exception:
        exception = logging.Formatter().formatException(record.exc_info)
    brought = vars(record)
    own = {name: brought.get(name) for name in _SENT}
    own["exc_text"] = exception
    extra = {name: value for name, value in brought.items() if name not in _OWN and isinstance(value, _PLAIN)}
    return json.dumps([record.name, record.getMessage(), own, extra]).encode("ascii")


_applied: set[str] = set()


def apply_levels(levels: Mapping[str, int]) -> None:
    """Give loggers here the levels they have in the parent, so that what it would not log is not sent."""
    for name in _applied - levels.keys():
        logging.getLogger(name).setLevel(logging.NOTSET)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    _applied.clear()
    _applied.update(levels.keys() - {_ROOT})


# The parent's side


def levels() -> dict[str, int]:
    """Return the levels of the root, under `""`, and of all loggers that have one of their own."""
    root, *named = _loggers()
    return {_ROOT: root.level} | {each.name: each.level for each in named if each.level != logging.NOTSET}


def emit(record: bytes, **fields: Any) -> None:
    """Log here what a worker has sent; what a handler raises is written to stderr.

    Args:
        record: what it has sent.
        fields: attributes the record is to have, if it has none of that name; `worker` is one of them
            whether given or not.
    """
    name, message, own, extra = json.loads(record)
    logger = logging.getLogger(name)
    if not logger.isEnabledFor(own["levelno"]):
        return
    made = logging.makeLogRecord(
        {"worker": f"pid {own['process']}"}
        | {name: value for name, value in fields.items() if name not in _OWN}
        | extra
        | {"name": name, "msg": message, "levelname": logging.getLevelName(own["levelno"])}
    )
    made.relativeCreated += (own["created"] - made.created) * 1000
    made.msecs = own["created"] % 1 * 1000
    made.filename, made.module = PurePath(own["pathname"]).name, PurePath(own["pathname"]).stem
    made.processName = "worker"
    vars(made).update(own)
    try:
        logger.handle(made)
    except Exception:
        logging.Handler().handleError(made)


def _loggers() -> list[logging.Logger]:
    named = [
        each for each in logging.root.manager.loggerDict.copy().values() if isinstance(each, logging.Logger)
    ]
    return [logging.getLogger(), *named]
