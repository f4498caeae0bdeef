"""What a body saves under names of its own: `ctx.checkpoints`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from dotflow_like.errors import NotSerializable
from dotflow_like.model.running import SavedValues

__all__ = ["Checkpoints"]

_PREFIX = "saved/"


class Checkpoints(MutableMapping[str, Any]):
    """What the attempts of a task have saved, by name; for whoever comes after them, in this run or when it is resumed.

    A value is kept as it is when it is assigned, and there when that returns. What is read is a copy of it: to
    change it, assign it again. A value that is `None` is there; one that is missing is a `KeyError`.
    """

    def __init__(self, saved: Callable[[], SavedValues]) -> None:
        self._saved = saved

    def __getitem__(self, name: str) -> Any:
        if type(name) is str:
            try:
                return self._saved().load(_PREFIX + name)
            except KeyError:
                pass
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        key = _PREFIX + checked_name("ctx.checkpoints", name)
        try:
            self._saved().save(key, value)
        except NotSerializable as error:
            raise NotSerializable(f"ctx.checkpoints[{name!r}]: {error}") from error

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._saved().drop([_PREFIX + name])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _PREFIX + name in self._saved().names()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def clear(self) -> None:
        """Drop all of them, in one step."""
        self._saved().drop([_PREFIX + name for name in self._names()])

    def __repr__(self) -> str:
        return f"<checkpoints {', '.join(map(repr, self._names()))}>"

    def _names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(
            [name.removeprefix(_PREFIX) for name in self._saved().names() if name.startswith(_PREFIX)]
        )


def checked_name(where: str, name: Any) -> str:
    """Return a name that something can be kept under; raise TypeError or ValueError for any other."""
    if not isinstance(name, str):
        raise TypeError(f"{where}: the name {name!r} is no text")
    if not name:
        raise ValueError(f"{where}: the name is empty")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{where}: the name {name!r} cannot be written, with what is no character in it"
        ) from None
    if "\0" in name:
        raise ValueError(f"{where}: the name {name!r} has a NUL in it")
    return str(name)
