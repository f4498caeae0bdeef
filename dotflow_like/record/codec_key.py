"""The key that signs pickles: a file of this user's, outside of every store.

Whoever can write to a store can put bytes there; only who has the key can make such that are loaded. The key is
never shown: not in a `repr`, a message or a log.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from dotflow_like.errors import ConfigError
from dotflow_like.record.file_lock import make_folder

__all__ = ["SIGNATURE", "KeyFile", "SigningKey"]

SIGNATURE: Final = 64
"""Characters of a signature."""

_OPTIONAL: Final = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _OPTIONAL  # a pipe is refused, not waited for
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPTIONAL
_OTHERS: Final = 0o077
_key_in = re.compile(rb"([0-9a-fA-F]{64})\s*").fullmatch


class SigningKey:
    """32 random bytes that sign others with HMAC-SHA256 (RFC 2104)."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, *parts: bytes | memoryview) -> bytes:
        """Return the signature of bytes, given in parts, as hexadecimal digits."""
        signing = hmac.new(self._secret, digestmod="sha256")
        for part in parts:
            signing.update(part)
        return signing.hexdigest().encode("ascii")

    def __repr__(self) -> str:
        return "SigningKey(...)"


class KeyFile:
    """The file a key lies in: 64 hexadecimal digits, for its owner alone (0600).

    It is read once, and made at first need; of several processes that make it at once one does, for all. What
    is pickled of it, for the worker processes of a run, has the key.

    Args:
        path: the file. Default: `dotflow_like/key` in the user's folder for configuration.

    Raises:
        ConfigError: there is no such folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = os.path.abspath(_default() if path is None else os.fspath(path))
        self._key: SigningKey | None = None

    def check(self, store: Iterable[str] = ()) -> None:
        """Read the file if it is there, and refuse a place among what it is to protect.

        Args:
            store: the files and folders of the store.

        Raises:
            ConfigError: it lies in the store, can be read by others, or holds no key.
        """
        here = os.path.realpath(self.path)
        for place in map(os.path.realpath, store):
            if here == place or here.startswith(os.path.join(place, "")):
                raise ConfigError(
                    f"the key file {self.path!r} lies in the store, at {place!r}, and whoever can write there could "
                    "sign: give another place, Config(key_file=...)"
                )
        self.key()

    def key(self) -> SigningKey | None:
        """Return the key, None if there is no file.

        Raises:
            ConfigError: the file can be read by others, or holds no key.
        """
        if self._key is None:
            self._key = self._read()
        return self._key

    def key_or_new(self) -> SigningKey:
        """Return the key; make one if there is no file.

        Raises:
            ConfigError: the file can be read by others, holds no key, or cannot be made.
        """
        if self.key() is None:
            try:
                self._make()
            except OSError as error:
                reason = error.strerror or error
                raise self._problem(
                    f"cannot be made: {reason}; give another place, Config(key_file=...)"
                ) from error
            if self.key() is None:
                raise self._problem("is a link that leads nowhere")
        assert self._key is not None
        return self._key

    def __reduce__(self) -> tuple[Any, ...]:
        with suppress(ConfigError):  # who needs the key will be told
            self.key_or_new()
        return _restored, (self.path, None if self._key is None else self._key._secret)

    def __repr__(self) -> str:
        return f"KeyFile({self.path!r})"

    def _read(self) -> SigningKey | None:
        try:
            descriptor = os.open(self.path, _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._problem(f"cannot be read: {error.strerror or error}") from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise self._problem("is no plain file")
            if os.name != "nt" and found.st_mode & _OTHERS:
                raise self._problem(
                    f"is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): if none of them has read or "
                    "changed it, `chmod 600` it"
                )
            match = _key_in(os.read(descriptor, 1024))
        finally:
            os.close(descriptor)
        if match is None:
            raise self._problem("holds no key, which is 64 hexadecimal digits")
        return SigningKey(bytes.fromhex(match[1].decode("ascii")))

    def _make(self) -> None:
        """Make the file whole, or not at all; one that another process makes meanwhile is left as it is."""
        folder = os.path.dirname(self.path)
        new = [folder]  # and those above it that have to be made
        while not os.path.isdir(new[-1]):
            new.append(os.path.dirname(new[-1]))
        make_folder(folder)
        made = f"{self.path}.{os.getpid()}-{os.urandom(4).hex()}"
        descriptor = os.open(made, _CREATE, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(f"{os.urandom(32).hex()}\n".encode("ascii"))
                file.flush()
                os.fsync(descriptor)
            with suppress(FileExistsError):
                os.link(made, self.path)  # unlike a renaming it takes nobody's place
        finally:
            os.unlink(made)
        if os.name != "nt":
            for each in new:  # what it signs may outlive a power cut, so it has to as well
                descriptor = os.open(each, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    def _problem(self, what: str) -> ConfigError:
        return ConfigError(f"the key file {self.path!r} {what}")


def _restored(path: str, secret: bytes | None) -> KeyFile:
    file = KeyFile(path)
    file._key = None if secret is None else SigningKey(secret)
    return file


def _default() -> str:
    """Return where the key lies if nobody says (XDG Base Directory Specification)."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):  # which that specification has us ignore
        folder = os.path.join(os.path.expanduser("~"), ".config")
    if not os.path.isabs(folder):
        raise ConfigError("there is no home folder for the key that signs pickles: give Config(key_file=...)")
    return os.path.join(folder, "dotflow_like", "key")
