"""From what a user writes to a storage."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from dotflow_like.errors import ConfigError
from dotflow_like.record.storage.base import Storage
from dotflow_like.record.storage.files import FileStorage
from dotflow_like.record.storage.memory import MemoryStorage

if TYPE_CHECKING:
    from dotflow_like.record.sqlite import Database

__all__ = ["open_place"]


def open_place(place: Storage | str | os.PathLike[str]) -> Storage | Database:
    """Return the storage, or the database, at `place`; nothing is opened or made yet.

    Args:
        place: a storage, which is returned as it is; a path, which becomes a `FileStorage`; or a URL:
            `file:///absolute/folder`, `sqlite:///relative.db`, `sqlite:////absolute.db` (each with
            `?durability=full` or `process`; the latter two also with `locks=/folder`), or `memory://`, a new
            `MemoryStorage`. In a URL, characters such as `%`, `?`, `#` are percent-encoded; a path is taken
            as it is.

    Raises:
        ConfigError: a scheme, an option or a form that does not work; the message says which does.
    """
    if isinstance(place, Storage):
        return place
    if not isinstance(place, str):
        if isinstance(place, os.PathLike):
            return FileStorage(place)
        kind = place.__name__ + " itself" if isinstance(place, type) else type(place).__name__
        raise ConfigError(f"a storage is an instance of Storage, a path or a URL, not {kind}")
    found = _scheme_of(place)
    if found is None:
        return FileStorage(place)
    scheme, slashes = found[1].lower(), found[2]
    if scheme in _OPENERS:
        if not slashes:
            raise ConfigError(f"storage {place!r} lacks its slashes: write {_OPENERS[scheme][0]!r}")
        return _OPENERS[scheme][1](place, place[found.end() :])
    if not slashes and scheme not in _LATER:
        return FileStorage(place)  # a path with a colon, `C:\runs` too
    # What follows the scheme may hold a password, so it stays out of the message.
    problem = "is not available in this version" if scheme in _LATER else "is not known"
    forms = ", ".join(form for form, _ in _OPENERS.values())
    raise ConfigError(f"storage scheme {scheme!r} {problem}; available: a path, {forms}")


def _file(url: str, rest: str) -> FileStorage:
    rest, options = _options(url, rest, allowed=("durability",))
    host, slash, path = rest.partition("/")
    if host not in ("", "localhost") or not slash:
        plain = os.fsdecode(unquote_to_bytes(rest))
        absolute = "file://" + quote(os.fsencode(os.path.abspath(plain)))
        raise ConfigError(
            f"storage {url!r} is not absolute: write {absolute!r}, or the path alone: {plain!r}"
        )
    root = os.fsdecode(unquote_to_bytes(path))
    return FileStorage(root if os.name == "nt" else "/" + root, **options)


def _sqlite(url: str, rest: str) -> Database:
    rest, options = _options(url, rest, allowed=("durability", "locks"))
    host, slash, path = rest.partition("/")
    path = os.fsdecode(unquote_to_bytes(path))
    if host or not slash or path in ("", "/", ":memory:"):
        raise ConfigError(
            f"storage {url!r} names no file: write 'sqlite:///relative.db' or 'sqlite:////absolute.db'"
        )
    from dotflow_like.record.sql_statements import MIGRATIONS
    from dotflow_like.record.sqlite import database_at

    return database_at(path, options.get("durability", "full"), options.get("locks"), MIGRATIONS)


def _memory(url: str, rest: str) -> MemoryStorage:
    rest, _ = _options(url, rest, allowed=())
    if rest:
        raise ConfigError(f"storage {url!r}: memory has no places to name; write 'memory://'")
    return MemoryStorage()


def _options(url: str, rest: str, *, allowed: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Split the options off what follows the scheme, and refuse those that mean nothing."""
    rest, marker, _ = rest.partition("#")
    if marker:
        raise ConfigError(f"storage {url!r}: write '#' as '%23', or give the path alone")
    rest, _, query = rest.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    if unknown := sorted(set(options).difference(allowed)):
        known = f"allowed: {', '.join(allowed)}" if allowed else "none is allowed"
        raise ConfigError(f"storage {url!r}: unknown option {', '.join(map(repr, unknown))}; {known}")
    if len(options) < len(pairs):
        raise ConfigError(f"storage {url!r}: an option is given twice")
    return rest, options


_scheme_of = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?").match

# For each scheme, what to write and what opens it.
_OPENERS: Final[dict[str, tuple[str, Callable[[str, str], Storage | Database]]]] = {
    "file": ("file:///absolute/folder", _file),
    "sqlite": ("sqlite:///relative.db", _sqlite),
    "memory": ("memory://", _memory),
}
_LATER: Final = frozenset({"postgresql", "s3", "gs", "az"})
