"""Any value made of plain data and objects comes back the same under the pickle codec, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dotflow_like.errors import CodecError
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.codec_key import KeyFile
from dotflow_like.record.codec_pickle import PickleCodec


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Listing(list[Any]):
    pass


class Text(str):
    __slots__ = ()


ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
    )


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        containers(inner),
        inner.map(Plain),
        inner.map(Slotted),
        st.lists(inner, max_size=3).map(Listing),
        st.text(max_size=3).map(Text),
    )


JSON = st.recursive(ATOMS, containers, max_leaves=15)
VALUES = st.recursive(ATOMS, objects, max_leaves=15)


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> PickleCodec:
    folder: Path = tmp_path_factory.mktemp("key")
    return PickleCodec(key_file=KeyFile(folder / "key"))


def told(value: Any) -> Any:
    """Say all of a value: its types and its parts."""
    kind = type(value)
    if isinstance(value, Plain | Slotted):
        return kind, told(value.value)
    if isinstance(value, list | tuple):
        return kind, [told(each) for each in value]
    if isinstance(value, dict):
        return kind, [(told(key), told(each)) for key, each in value.items()]
    return kind, repr(value)


@given(JSON)
def test_what_json_stores_has_the_very_same_form(codec: PickleCodec, value: Any) -> None:
    assert codec.encode(value) == JsonCodec().encode(value)


@settings(max_examples=200)
@given(VALUES)
def test_every_value_comes_back_the_same(codec: PickleCodec, value: Any) -> None:
    data = codec.encode(value)
    assert told(codec.decode(data)) == told(value)
    assert codec.reader_for(data) is codec  # it needs nothing of a script


@settings(max_examples=200)
@given(VALUES, st.data())
def test_whatever_is_done_to_a_pickle_it_is_refused(
    codec: PickleCodec, value: Any, data: st.DataObject
) -> None:
    whole = codec.encode([Plain(value)])
    start = data.draw(st.integers(1, len(whole)))  # without its first letter it may be JSON
    end = data.draw(st.integers(start, len(whole)))
    changed = whole[:start] + data.draw(st.binary(max_size=8)) + whole[end:]
    if changed == whole:
        return
    with pytest.raises(CodecError):
        codec.decode(changed)
