"""Values to bytes and back, exactly: JSON a person can read, with tags for what JSON has no word for.

None, booleans, numbers, texts, lists and dicts with text keys are stored as that. Everything else is an
object whose key `"$"` says what it is: `{"$":"tuple","v":[1,2]}`; a dict that has such a key itself is
tagged too. The text is ASCII without a newline. Where the value holds large buffers (bytes, arrays), one
newline follows and then the buffers, end to end; in the text stand their offset and length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from json import JSONDecoder, encoder
from typing import TYPE_CHECKING, Any

from dotflow_like.errors import CodecError, CorruptCheckpoint, DotflowError, NotSerializable
from dotflow_like.record import codec_arrays, codec_classes, codec_frames, codec_values
from dotflow_like.record.codec_walk import (
    Decoding,
    Encoding,
    Reader,
    Unstorable,
    Writer,
    has_plain_keys,
    is_plain,
)
from dotflow_like.record.types import TypeRegistry, kind_of, registered

if TYPE_CHECKING:
    from dotflow_like.record import journal

__all__ = ["PICKLED", "JsonCodec"]

PICKLED = b"pickle "
"""What the forms of `codec_pickle` begin with, and no JSON."""

_WAYS_OUT = (
    "Return plain data (numbers, texts, lists, dicts, dataclasses, arrays), or make its class storable: "
    "annotate the task's return type with it, or decorate it with @register; any other object that can be "
    "pickled is stored with Config(codec='pickle')"
)


class JsonCodec:
    """The default codec: exact round trip of plain Python values, dataclasses, models, arrays and frames.

    Two references to one object become two equal objects. It can be shared between threads, and pickled:
    the copy knows all types this one knew.

    Args:
        types: the classes a workflow has annotated. Those of `register` are known anyway.
    """

    name = "json"

    def __init__(self, types: TypeRegistry | None = None) -> None:
        self._registries = (registered,) if types is None else (types, registered)
        self._writers: dict[type, Writer] = dict(_WRITERS)  # grows with the classes met
        self._parse = JSONDecoder(
            object_hook=Decoding(_READERS, self.type_of).restore, parse_constant=_no_constant
        ).raw_decode

    def __reduce__(self) -> tuple[Any, ...]:
        return JsonCodec, (self._all_types(),)

    def encode(self, value: Any) -> bytes:
        """Return the stored form of a value.

        Raises:
            NotSerializable: it has no exact stored form; the message names the path inside it, starting
                at `result`, and the ways out.
        """
        if value is None:  # what most bodies return
            return b"null"
        kind = type(value)
        parts = value if kind is list else value.values() if kind is dict else (value,)
        if is_plain(parts) and (kind is not dict or has_plain_keys(value)):
            return _dump(value).encode("ascii")  # most results: for them all the rest is a detour
        encoding = Encoding(self._writers, self.writer_of)
        try:
            text = _dump(encoding.shape(value))
        except Unstorable as refusal:
            path = "result"
            for prefix, suffix in reversed(refusal.path):
                path = f"{prefix}{path}{suffix}"
            problem, cause = f"`{path}` cannot be stored: {refusal}", refusal.__cause__
        except RecursionError:
            cause = None
            problem = "`result` cannot be stored: it is nested too deep for what is left of the stack"
        else:
            if encoding.buffers:
                return b"".join([text.encode("ascii"), b"\n", *encoding.buffers])
            return text.encode("ascii")
        return self._encode_otherwise(value, problem, cause)

    def decode(self, data: bytes) -> Any:
        """Return the value whose stored form is `data`.

        Raises:
            CodecError: it needs a class or a field that is not known here.
            CorruptCheckpoint: it is not what `encode` wrote.
            MissingExtra: it needs a package that is not installed.
        """
        try:
            cut = data.find(b"\n")
            if cut < 0:
                text = str(data, "ascii")
                value, end = self._parse(text)
            else:
                view = memoryview(data)
                text = str(view[:cut], "ascii")
                decoding = Decoding(_READERS, self.type_of, view[cut + 1 :])
                parser = JSONDecoder(object_hook=decoding.restore, parse_constant=_no_constant)
                value, end = parser.raw_decode(text)
                if not decoding.used or decoding.used != len(decoding.buffers):
                    raise CorruptCheckpoint("the stored value has another length than it says")
            if end != len(text):
                raise CorruptCheckpoint(f"the stored value goes on after its end, at {end}")
        except DotflowError:
            raise
        except RecursionError:
            raise CodecError("the stored value is nested too deep for what is left of the stack") from None
        except Exception as error:  # damaged data can make any of the readers fail in any way
            if not data.startswith(PICKLED):
                raise CorruptCheckpoint(
                    f"the stored value cannot be read: {type(error).__name__}: {error}"
                ) from error
        else:
            return value
        return self._decode_pickled(data)

    def reader_for(self, data: bytes) -> journal.Reader:
        """Return what decodes `data` in another process: it can be pickled there, and knows what this one knows."""
        return self

    def _encode_otherwise(self, value: Any, problem: str, cause: BaseException | None) -> bytes:
        """Return the stored form of a value that JSON has none for, or raise `NotSerializable`."""
        raise NotSerializable(f"{problem}. {_WAYS_OUT}") from cause

    def _decode_pickled(self, data: bytes) -> Any:
        """Return the value of a form that begins with `PICKLED`."""
        raise CodecError("the stored value is a signed pickle, which is read with Config(codec='pickle')")

    def _all_types(self) -> TypeRegistry:
        everything = TypeRegistry()
        for registry in reversed(self._registries):
            everything.update(registry)
        return everything

    def writer_of(self, kind: type) -> Writer:
        """Return what writes the instances of a class, by looking at the class alone.

        Raises:
            Unstorable: nothing does; with the reason.
        """
        write = codec_values.late_writer(kind) or codec_arrays.writer(kind) or codec_frames.writer(kind)
        if write is None:
            form = kind_of(kind)
            if form is None:
                raise Unstorable(codec_classes.why_not(kind))
            names = (registry.name_of(kind) for registry in self._registries)
            name = next((name for name in names if name is not None), None)
            if name is None:
                raise Unstorable(f"the class {kind.__module__}.{kind.__qualname__} is not known to the codec")
            write = codec_classes.writer(kind, form, name)
        self._writers[kind] = write
        return write

    def type_of(self, name: str) -> type:
        """Return the class a stored name means.

        Raises:
            CodecError: no class is known by that name.
        """
        for registry in self._registries:
            cls = registry.type_of(name)
            if cls is not None:
                return cls
        raise CodecError(
            f"the stored value holds a {name!r}, a class that is not known here: import its module and "
            "annotate the task's return type with it, or decorate it with @register"
        )


_WRITERS: dict[type, Writer] = dict(codec_values.WRITERS)
_READERS: dict[str, Reader] = {
    **codec_values.READERS,
    **codec_classes.READERS,
    **codec_arrays.READERS,
    **codec_frames.READERS,
}


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _no_default(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} came through the codec unshaped")


def _dumper() -> Callable[[Any], str]:
    """Return the JSON encoder. Where the C one is there it is kept: `json` builds one for every call."""
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return encoder.JSONEncoder(separators=(",", ":"), check_circular=False, allow_nan=False).encode
    chunks: Callable[[Any, int], Iterable[str]] = make(
        None, _no_default, encoder.encode_basestring_ascii, None, ":", ",", False, False, False
    )
    return lambda value: "".join(chunks(value, 0))


_dump = _dumper()
