"""A logger that says of each record which attempt it is from."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["NAME", "TaggedLogger", "replaced", "replacement"]

NAME = "dotflow_like.task"
"""Of the logger that bodies have, unless they replace it."""

Replaced = tuple[object, "TaggedLogger"]
_replaced: ContextVar[tuple[Replaced, ...]] = ContextVar("dotflow_like_loggers", default=())
"""What is in the place of whose logger, in the blocks this code is in, the innermost last."""


class TaggedLogger(logging.LoggerAdapter[logging.Logger]):
    """Gives each record fields of its own. Those of a call's `extra=` come on top.

    Args:
        logger: where records go. Of an adapter, what its `process` makes of a record is kept, with its fields
            below these.
        fields: attributes of each record.

    Raises:
        TypeError: it is no logger.
    """

    def __init__(
        self, logger: logging.Logger | logging.LoggerAdapter[Any], fields: Mapping[str, object]
    ) -> None:
        target: Any = logger
        through: list[logging.LoggerAdapter[Any]] = []
        while isinstance(target, logging.LoggerAdapter):
            through.append(target)
            target = target.logger
        if not isinstance(target, logging.Logger):
            raise TypeError(
                f"ctx.use_logger: what is of type {type(target).__name__} is no logger; "
                "give one of `logging.getLogger`, or a LoggerAdapter of one"
            )
        super().__init__(target, fields)
        self._through = through

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Return the message, and the call's words with the fields in `extra`."""
        own = kwargs.get("extra") or {}
        below: dict[str, object] = {}
        for adapter in self._through:  # an adapter's own `process` may drop what others have brought
            msg, kwargs = adapter.process(msg, kwargs)
            below = {**(kwargs.get("extra") or {}), **below}
        kwargs["extra"] = {**below, **(self.extra or {}), **own}
        return msg, kwargs


@contextmanager
def replaced(whose: object, logger: TaggedLogger) -> Iterator[TaggedLogger]:
    """Have `logger` be the `replacement` of somebody's logger while code of this context is in the block."""
    entry = (whose, logger)
    _replaced.set((*_replaced.get(), entry))
    try:
        yield logger
    finally:  # not by a token: a generator may be closed in another context than it has begun in
        _replaced.set(tuple(each for each in _replaced.get() if each is not entry))


def replacement(whose: object) -> TaggedLogger | None:
    """Return what is in the place of somebody's logger just now; None if nothing is."""
    for owner, logger in reversed(_replaced.get()):
        if owner is whose:
            return logger
    return None
