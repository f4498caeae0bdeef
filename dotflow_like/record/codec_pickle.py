"""The codec for those who need any object stored: what JSON has no form for is pickled, and signed.

    pickle 1 <64 hexadecimal digits: the HMAC-SHA256 of all that is not the signature>
    {"named": ["script:Model"], "imported": ["collections:deque"]}
    <a pickle on protocol 5>

Nothing of it is looked at, let alone loaded, before the signature was verified. The second line names what the
pickle refers to: `named` are classes the program has annotated or registered and what the script defines, looked
up in what the program has now; `imported` is what other modules have. A class or function that nobody can look up,
as one defined inside a function, is stored by value, code and all; then that line names the bytecode too, for
no other version of Python can run it.
"""

from __future__ import annotations

import hmac
import io
import json
import pickle
import sys
from enum import EnumType
from operator import attrgetter
from traceback import format_exception_only
from types import CodeType, FunctionType
from typing import Any, Final, NamedTuple
from weakref import WeakSet

import cloudpickle

from dotflow_like.declare.task import listed_for
from dotflow_like.errors import (
    CodecError,
    CorruptCheckpoint,
    DotflowError,
    NotSerializable,
    TamperedCheckpoint,
)
from dotflow_like.record.codec import PICKLED, JsonCodec
from dotflow_like.record.codec_key import SIGNATURE, KeyFile, SigningKey
from dotflow_like.record.journal import Reader
from dotflow_like.record.types import MAIN, TypeRegistry, kind_of, script_name

__all__ = ["PickleCodec"]

_MARK: Final = PICKLED + b"1 "
_HEAD: Final = len(_MARK) + SIGNATURE + 1
_WAYS_OUT = "Return plain data, or the path of what stays on disk"


class _Script(NamedTuple):
    """What another process has to know of the script, which it does not run."""

    name: str
    names: frozenset[str]  # the qualified names of its classes and functions


class PickleCodec(JsonCodec):
    """Stores what JSON stores as JSON, and any other object that can be pickled as a signed pickle.

    What it pickles it loads once before it gives it out, so that what cannot be loaded is not stored; but for
    what holds built-in types only. Pickled, it takes its key and the names of the script's classes along.

    Args:
        types: the classes a workflow has annotated. Those of `register` are known anyway.
        key_file: where the key lies that signs. Default: where `KeyFile` has it.
        script: in a process that does not run it.
    """

    name = "pickle"

    def __init__(
        self,
        types: TypeRegistry | None = None,
        key_file: KeyFile | None = None,
        script: _Script | None = None,
    ) -> None:
        super().__init__(types)
        self._key_file = key_file or KeyFile()
        self._script = script

    def __reduce__(self) -> tuple[Any, ...]:
        return PickleCodec, (self._all_types(), self._key_file, self._script or _script_here())

    def reader_for(self, data: bytes) -> Reader:
        """Return this codec, with those of the script's classes that `data` refers to."""
        if not data.startswith(PICKLED):
            return self
        try:
            head, _ = self._verified(data)
        except DotflowError:  # whoever decodes it will say so
            return self
        known = {name: self._defined(name) for name in head["named"] if self._registered(name) is None}
        for name in head["imported"]:
            module, _, path = name.partition(":")
            if self._runs(module) and module not in sys.modules:
                known[name] = _looked_up("__main__", path)
        known = {name: found for name, found in known.items() if found is not None}
        return _Informed(self, known) if known else self

    def _encode_otherwise(self, value: Any, problem: str, cause: BaseException | None) -> bytes:
        file = io.BytesIO()
        pickler = _Pickler(file, self)
        doing = "pickled"
        try:
            pickler.dump(value)
            if pickler.named or pickler.imported:
                doing = "loaded when it was pickled"
                file.seek(0)
                _Unpickler(file, self, pickler.named | pickler.imported).load()
        except MemoryError:
            raise
        except Exception as error:
            what = "".join(format_exception_only(error)).strip()
            raise NotSerializable(f"{problem}; nor can it be {doing}: {what}. {_WAYS_OUT}") from error
        head: dict[str, Any] = {"named": [*pickler.named], "imported": [*pickler.imported]}
        if pickler.has_code:
            head["code"] = _BYTECODE
        line = json.dumps(head, separators=(",", ":")).encode("ascii")
        with file.getbuffer() as pickled:
            signature = self._key_file.key_or_new().sign(_MARK, line, b"\n", pickled)
            return b"".join([_MARK, signature, b"\n", line, b"\n", pickled])

    def _decode_pickled(self, data: bytes, known: dict[str, Any] | None = None) -> Any:
        head, start = self._verified(data)
        if head.get("code", _BYTECODE) != _BYTECODE:
            raise CodecError(
                f"the stored value holds code for {head['code']}, and this is {_BYTECODE}: read it there, or discard "
                "it; classes and functions at the top level of a module or script are stored without their code"
            )
        file = io.BytesIO(data)
        file.seek(start)
        try:
            return _Unpickler(file, self, known or {}).load()
        except (DotflowError, MemoryError):
            raise
        except Exception as error:  # its code is the program's, and may have changed
            what = "".join(format_exception_only(error)).strip()
            raise CodecError(f"the stored value cannot be loaded: {what}") from error

    def _verified(self, data: bytes) -> tuple[dict[str, Any], int]:
        """Return the second line of a stored form, and where its pickle begins, if its signature is right."""
        if not data.startswith(_MARK):
            raise CodecError("the stored value is a signed pickle of a later version: upgrade dotflow_like")
        if data[_HEAD - 1 : _HEAD] != b"\n":
            raise CorruptCheckpoint("the stored value is cut off, or its beginning is damaged")
        key = self._key_file.key()
        if key is None:
            raise CodecError(
                f"the stored value is a signed pickle, and the key that signed it is not at {self._key_file.path!r}: "
                "put the file there, or give Config(key_file=...)"
            )
        view = memoryview(data)
        if not hmac.compare_digest(key.sign(_MARK, view[_HEAD:]), data[len(_MARK) : _HEAD - 1]):
            raise TamperedCheckpoint(
                "the stored value does not match its signature, and nothing of it was loaded: it was changed, or "
                f"signed with another key than that at {self._key_file.path!r}"
            )
        end = data.index(b"\n", _HEAD)
        head: dict[str, Any] = json.loads(data[_HEAD:end])
        return head, end + 1

    # What names mean

    def _registered(self, name: str) -> type | None:
        return next((cls for each in self._registries if (cls := each.type_of(name)) is not None), None)

    def _runs(self, module: str) -> bool:
        """Return whether this process has a module as its script."""
        return self._script is None and module == script_name()

    def _defined(self, name: str) -> Any:
        """Return what the script, or a module that is loaded, has under a name; None if nothing."""
        module, _, path = name.partition(":")
        found = _looked_up("__main__", path) if self._runs(module) else None
        return _looked_up(module, path) if found is None and module not in MAIN else found

    def _name_of(self, obj: Any) -> str | None:
        """Return the name for a class or function that is not to be imported, None for any other."""
        module, path = obj.__module__, obj.__qualname__
        if isinstance(obj, type) and kind_of(obj) is not None:
            for registry in self._registries:
                name = registry.name_of(obj)
                if name is not None and (name != f"{module}:{path}" or _looked_up(module, path) is not obj):
                    return name
        if module not in MAIN:
            return None
        if self._script is None:
            return f"{script_name()}:{path}" if _looked_up("__main__", path) is obj else None
        return f"{self._script.name}:{path}" if path in self._script.names else None


class _Informed(NamedTuple):
    """A codec in another process, with what it cannot look up there."""

    codec: PickleCodec
    known: dict[str, Any]

    def decode(self, data: bytes, /) -> Any:
        return self.codec._decode_pickled(data, self.known)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def __init__(self, file: io.BytesIO, codec: PickleCodec) -> None:
        super().__init__(file, 5)
        self._codec = codec
        self.named: dict[str, Any] = {}
        self.imported: dict[str, Any] = {}
        self.has_code = False

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType or issubclass(kind, type):
            return self._reduced(obj)
        if kind is CodeType:
            self.has_code = True
        elif kind is io.TextIOWrapper and obj not in (sys.stdout, sys.stderr):
            raise TypeError("an open file would come back as a copy of its content")
        elif kind is memoryview:
            raise TypeError("a memoryview would come back as bytes")
        elif issubclass(kind, PickleCodec | KeyFile | SigningKey):
            raise TypeError(f"a {kind.__name__} stays in its process")  # it has the key
        return super().reducer_override(obj)

    def _reduced(self, obj: Any) -> Any:
        name = self._codec._name_of(obj)
        if name is not None:
            self.named[name] = obj
            return _named, (name,)
        listed = listed_for(obj)
        if listed is not None:  # the module has the task under the function's name
            return attrgetter("fn"), (listed,)
        reduced = super().reducer_override(obj)
        if reduced is NotImplemented:
            if obj.__module__ != __name__:
                self.imported[f"{obj.__module__}:{obj.__qualname__}"] = obj
        elif isinstance(obj, type) and len(reduced) == 6:
            make, arguments, state, *none, settle = reduced
            if not isinstance(obj, EnumType):  # what cloudpickle adds too late, or not at all
                more = {"__qualname__": obj.__qualname__}
                if "__slots__" in vars(obj):
                    more["__slots__"] = vars(obj)["__slots__"]
                arguments = (*arguments[:3], {**arguments[3], **more}, *arguments[4:])
            _whole.add(obj)
            return make, arguments, (settle, state), *none, _settle
        return reduced


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, codec: PickleCodec, known: dict[str, Any]) -> None:
        super().__init__(file)
        self._codec = codec
        self._known = known

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name == _named.__name__:
            return self._named
        found = self._known.get(f"{module}:{name}")
        if found is None and self._codec._runs(module) and module not in sys.modules:
            found = _looked_up("__main__", name)  # the script is not to run once more, as a module
        return super().find_class(module, name) if found is None else found

    def _named(self, name: str) -> Any:
        for where in (self._known.get, self._codec._registered, self._codec._defined):
            if (found := where(name)) is not None:
                return found
        raise CodecError(
            f"the stored value holds a {name!r}, a class or function that is not known here: run the script "
            "that defines it, or import its module first"
        )


def _named(name: str) -> Any:
    raise CodecError(f"{name!r} is a name for a codec to look up")  # which is what `_Unpickler` makes of it


_whole: WeakSet[type] = WeakSet()
"""Classes by value that are complete in this process."""


def _settle(cls: type, state: tuple[Any, Any]) -> None:
    settle, rest = state
    if cls not in _whole:  # else it would get copies of its own methods
        settle(cls, rest)
        _whole.add(cls)


def _script_here() -> _Script:
    """Return what there is to know of this process's script."""
    found = set()
    todo = [("", vars(sys.modules["__main__"]))]
    while todo:
        prefix, namespace = todo.pop()
        for name, each in list(namespace.items()):
            path = prefix + name
            if not isinstance(each, FunctionType | type) or each.__module__ not in MAIN:
                continue
            if each.__qualname__ != path:
                continue
            if isinstance(each, type):
                todo.append((f"{path}.", dict(vars(each))))
            elif each.__code__.co_qualname != path:  # a decorator's, that goes by the name of what it wraps
                continue
            found.add(path)
    return _Script(script_name(), frozenset(found))


def _looked_up(module: str, path: str) -> Any:
    """Return what a loaded module has under a qualified name, None if nothing; without running any code of it."""
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, "__dict__", {}).get(name)
    return found


_BYTECODE = sys.implementation.cache_tag
