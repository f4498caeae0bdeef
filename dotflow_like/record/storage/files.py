"""Values as files below one folder.

    root/
      run/fetch.value         the value of the key `run/fetch`
      run/fetch/part.value    the value of the key `run/fetch/part`
      run/%%4f1c….keyed       a key too long for a name: its first line is the key, the rest the value
      .temp/                  values being written
      .locks/                 what writers hold, and in `runs` owners of runs; never remove it while one is at work

What a name cannot hold is percent-encoded, as in a URL.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Final, Literal
from zlib import crc32

from dotflow_like.errors import ConfigError, StorageError
from dotflow_like.record.file_lock import lock, unlock
from dotflow_like.record.storage.base import ANY, Any_, Storage

__all__ = ["FileStorage"]

_LEVELS: Final = 8  # folders deep, and
_LONGEST: Final = 100  # characters in a name: together below the 1,024 a path may have on macOS
_STRIPES: Final = 16
_LEFTOVER: Final = 3600.0  # seconds after which a temporary file has lost its writer
_CHUNK: Final = 32 * 1024
_BINARY: Final = getattr(os, "O_BINARY", 0)
_READ: Final = os.O_RDONLY | _BINARY
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY

# Names hold lower case ASCII only, so no file system can take two of them for one. A dot appears only in what
# is added here, so no name is `..`, hidden, or ends like a file. Windows keeps some names for its devices,
# whatever their ending.
_SAFE = r"a-z0-9_\-\[\]#=@+,"
_DEVICE = r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?![^/])"
_SEGMENT = rf"(?!{_DEVICE})[{_SAFE}]{{1,{_LONGEST}}}"
_is_plain = re.compile(rf"(?:{_SEGMENT}/){{0,{_LEVELS - 1}}}{_SEGMENT}").fullmatch
_is_device = re.compile(_DEVICE).match
_unsafe = re.compile(rf"[^{_SAFE}]+")
_escaped = re.compile(r"(?:%[0-9a-f]{2})+")


class FileStorage(Storage):
    """Each value a file: readable with any tool, safe for many processes, whole whatever happens.

    A value is written elsewhere in the folder, then renamed into its place: a reader sees the old one or the
    new one and needs no lock. Writers of one key take turns by a kernel lock, which a killed process gives
    back. Folders are made for the owner alone (0700), and so are files (0600); folders that exist are left as
    they are. A network file system has to support `flock` and atomic renames.

    Args:
        root: the folder; made by the first write, with its parents. A relative one is taken from where the
            process is at this moment.
        durability: `"full"`: what has returned survives a power cut; fsync of the file, and of its folder.
            `"process"`: it survives the death of the process, not of the machine; several times faster.

    Raises:
        ConfigError: an empty `root`, or another `durability`.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, durability: Literal["full", "process"] = "full"
    ) -> None:
        if durability not in ("full", "process"):
            raise ConfigError(f"durability={durability!r} of a FileStorage: use 'full' or 'process'")
        place = os.fspath(root)
        if not place or "\0" in place:
            raise ConfigError(f"root={place!r} of a FileStorage: give the path of a folder")
        self._root = os.path.abspath(place)
        self._base = os.path.join(self._root, "")
        self.lock_folder = f"{self._base}.locks/runs"
        self._durability = durability
        self._full = durability == "full"
        self._swept = False

    def get(self, key: str) -> bytes | None:
        """Return the value of `key`, None when there is none."""
        path, header = self._locate(key)
        try:
            return _read(path, header)
        except OSError as error:
            raise _failure("read", path, error) from error

    def put(self, key: str, data: bytes, *, expected: bytes | Any_ | None = ANY) -> bool:
        """Make `data` the value of `key` if its value is `expected`; see `Storage.put`.

        Should the very last step fail, the fsync of the folder, the new value is there and a power cut may
        undo it.
        """
        path, header = self._locate(key)
        staged = None
        try:
            # Looked at twice: here to spare a hopeless write, and under the lock, held as briefly as can be.
            if expected is not ANY and _read(path, header) != expected:
                return False
            staged = self._stage(header + data if header else data)
            with self._locked(key):
                if expected is not ANY and _read(path, header) != expected:
                    return False
                self._move(staged, path)
            staged = None
            if self._full:
                _sync_folder(os.path.dirname(path))
            return True
        except OSError as error:
            raise _failure("write", path, error) from error
        finally:
            if staged is not None:
                _remove(staged)

    def delete(self, key: str) -> bool:
        """Remove `key`; False when it was not there. Folders left empty go too."""
        path, _ = self._locate(key)
        try:
            os.lstat(path)  # so that no folder is made for a lock when there is nothing to delete
            with self._locked(key):
                os.unlink(path)
            folder = os.path.dirname(path)
            if self._full:
                _sync_folder(folder)
            with suppress(OSError):  # not empty
                while folder != self._root:
                    os.rmdir(folder)
                    folder = os.path.dirname(folder)
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            raise _failure("delete", path, error) from error

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Give the keys that start with `prefix`; only folders that can hold one are looked into."""
        parents = prefix.split("/")[:-1][: _LEVELS - 1]
        start = self._base + "".join(f"{_name(part)}/" for part in parents)
        # Folders, and what the keys in each begin with; None where a name on the way does not tell.
        pending: list[tuple[str, str | None]] = [(start, "".join(f"{part}/" for part in parents))]
        while pending:
            folder, head = pending.pop()
            for name, is_folder in _entries(folder):
                path = folder + name
                if is_folder:
                    text = None if head is None or name.startswith("%%") else _text(name)
                    below = None if head is None or text is None else f"{head}{text}/"
                    if below is None or below.startswith(prefix):
                        pending.append((path + "/", below))
                    continue
                key = None
                if name.endswith(".keyed"):
                    key = _key_inside(path)
                elif name.endswith(".value") and head is not None:
                    text = _text(name[:-6])
                    key = None if text is None else head + text
                # A file that is not where its key belongs is somebody else's.
                if key is not None and key.startswith(prefix) and self._locate(key)[0] == path:
                    yield key

    def __repr__(self) -> str:
        return f"FileStorage({self._root!r}, durability={self._durability!r})"

    def _locate(self, key: str) -> tuple[str, bytes]:
        """Return the file of `key`, and what stands in it before the value."""
        if _is_plain(key):
            return f"{self._base}{key}.value", b""
        names = [_name(part) for part in key.split("/", _LEVELS - 1)]
        path = self._base + "/".join(names)
        if any(name.startswith("%%") for name in names):
            return path + ".keyed", _escape(key).encode() + b"\n"
        return path + ".value", b""

    def _stage(self, content: bytes) -> str:
        """Write `content` to a file of its own and return its path."""
        folder = self._base + ".temp"
        if not self._swept:
            self._swept = True
            _sweep(folder)
        path = f"{folder}/{os.urandom(8).hex()}"
        fd = self._open(path, _CREATE)
        try:
            try:
                rest = memoryview(content)
                while rest:  # one call takes no more than 2 GiB, and less on a disk that is getting full
                    rest = rest[os.write(fd, rest) :]
                if self._full:
                    os.fsync(fd)
            finally:
                os.close(fd)
        except BaseException:
            _remove(path)
            raise
        return path

    def _move(self, staged: str, path: str) -> None:
        """Rename `staged` to `path`, making its folder; again when a `delete` removes that in between."""
        for tries_left in reversed(range(100)):
            try:
                os.replace(staged, path)
                return
            except FileNotFoundError:
                if not tries_left:
                    raise
                with suppress(FileNotFoundError):
                    self._make_folder(os.path.dirname(path))

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Keep other writers of `key` out, in this process and in others."""
        stripe = crc32(key.encode("utf-8", "surrogatepass")) % _STRIPES
        # Opened anew each time: two threads, or a parent and its fork, would share the lock of one open file.
        fd = self._open(f"{self._base}.locks/{stripe}", os.O_RDWR | os.O_CREAT | _BINARY)
        try:
            lock(fd)
            try:
                yield
            finally:  # said outright: a process forked meanwhile has the file open too
                unlock(fd)
        finally:
            os.close(fd)

    def _open(self, path: str, flags: int) -> int:
        """Open a file of our own, making its folder."""
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            self._make_folder(os.path.dirname(path))
            return os.open(path, flags, 0o600)

    def _make_folder(self, folder: str) -> None:
        parent = os.path.dirname(folder)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            return
        except FileNotFoundError:
            self._make_folder(parent)
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        if self._full:
            _sync_folder(parent)


def _name(segment: str) -> str:
    """Return the name of a folder, or of a file without its ending, for one part of a key."""
    name = _escape(segment) or "%"
    if _is_device(name):
        name = f"%{ord(name[0]):02x}{name[1:]}"
    return name if len(name) <= _LONGEST else "%%" + blake2b(name.encode(), digest_size=20).hexdigest()


def _text(name: str) -> str | None:
    """Return the part of a key that `name` stands for; None when it stands for none."""
    if "%" not in name:
        return name
    if name == "%":
        return ""
    try:
        return _escaped.sub(_unescape, name)
    except UnicodeDecodeError:
        return None


def _escape(text: str) -> str:
    return _unsafe.sub(lambda run: "%" + run[0].encode("utf-8", "surrogatepass").hex("%"), text)


def _unescape(run: re.Match[str]) -> str:
    return bytes.fromhex(run[0].replace("%", "")).decode("utf-8", "surrogatepass")


def _read(path: str, header: bytes) -> bytes | None:
    """Return what follows `header` in a file, None when there is no file."""
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        data = os.read(fd, _CHUNK)
        if more := os.read(fd, _CHUNK):  # a short answer is not yet the end, an empty one is
            with open(fd, "rb", closefd=False) as rest:
                data += more + rest.read()
    finally:
        os.close(fd)
    if not header:
        return data
    if not data.startswith(header):
        raise _damaged(path)
    return data[len(header) :]


def _key_inside(path: str) -> str | None:
    """Return the key a `.keyed` file begins with, None when the file has gone."""
    try:
        with open(path, "rb") as file:
            line = file.readline()
        text = _text(line.removesuffix(b"\n").decode()) if line.endswith(b"\n") else None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failure("read", path, error) from error
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise _damaged(path)
    return text


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """Return the names in `folder` and whether each is a folder; nothing stays open."""
    try:
        with os.scandir(folder) as entries:
            # A set: a file replaced meanwhile may be listed twice.
            return iter({(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")})
    except FileNotFoundError:
        return iter(())
    except OSError as error:
        raise _failure("list", folder, error) from error


def _sweep(folder: str) -> None:
    """Remove what killed writers left long ago."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.stat().st_mtime < time.time() - _LEFTOVER:
                    os.unlink(entry.path)


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _sync_folder(folder: str) -> None:
    if sys.platform == "win32":  # cannot open one
        return
    try:
        fd = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # a `delete` has removed it, empty: there is nothing to keep
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _failure(verb: str, path: str, error: OSError) -> StorageError:
    code = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return StorageError(f"cannot {verb} {path!r}: {error.strerror or error} ({code})")


def _damaged(path: str) -> StorageError:
    return StorageError(f"cannot read {path!r}: it does not begin with its key; restore or remove it")
