"""Parts of a body that are done once: what `ctx.step` does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from dotflow_like.errors import NotSerializable
from dotflow_like.model.running import SavedValues

__all__ = ["step"]


def step(
    saved: SavedValues, name: str, fn: Callable[..., Any], args: tuple[Any, ...], named: dict[str, Any]
) -> Any:
    """Return what `fn` has returned, when it was called for this step in an earlier attempt, or now.

    Raises:
        NotSerializable: what it has returned cannot be kept.
        TypeError: it is no function, or has returned an awaitable and is no async function.
    """
    if not callable(fn):
        raise TypeError(f"ctx.step: {fn!r} is no function; give one, and behind it what it is called with")
    key = f"step/{saved.root.current().numbered(name)}"
    if _is_async(fn):
        return _awaited(saved, key, name, partial(fn, *args, **named))
    try:
        return saved.load(key)
    except KeyError:
        pass
    value = fn(*args, **named)
    if hasattr(value, "__await__"):
        if hasattr(value, "close"):
            value.close()  # a coroutine, which nobody will await
        raise TypeError(
            f"ctx.step: {name!r} has returned an awaitable; give the async function itself, and behind it what it is "
            "called with, and await the step"
        )
    return _kept(saved, key, name, value)


async def _awaited(saved: SavedValues, key: str, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return saved.load(key)
    except KeyError:
        pass
    return _kept(saved, key, name, await call())


def _kept(saved: SavedValues, key: str, name: str, value: Any) -> Any:
    try:
        saved.save(key, value)
    except NotSerializable as error:
        raise NotSerializable(
            f"ctx.step {name!r}: what it has done has happened, and will happen again when the task is tried again, "
            f"since its value cannot be kept: {error}"
        ) from error
    return value


def _is_async(fn: Any) -> bool:
    while isinstance(fn, partial):
        fn = fn.func
    fn = getattr(fn, "fn", fn)  # of a task
    return iscoroutinefunction(fn) or iscoroutinefunction(type(fn).__call__)
