"""What the pickle codec stores that JSON cannot, what it refuses, and that it loads nothing it has not signed."""

from __future__ import annotations

import collections
import enum
import functools
import io
import json
import logging
import operator
import os
import pickle
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from dotflow_like import task
from dotflow_like.errors import (
    CodecError,
    ConfigError,
    CorruptCheckpoint,
    NotSerializable,
    TamperedCheckpoint,
)
from dotflow_like.record import codec_pickle
from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.codec_key import KeyFile
from dotflow_like.record.codec_pickle import PickleCodec
from dotflow_like.record.types import TypeRegistry, default_name

HEAD = len("pickle 1 ") + 64 + 1


class Plain:
    """Of no kind that JSON knows."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def twice(self) -> Any:
        return self.value * 2


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


class Listing(list[Any]):
    """A list with something more."""


class Outer:
    class Inner(Plain):
        pass


@dataclass
class Unknown:
    """A dataclass that no codec was told of."""

    a: Any


class Colour(enum.Enum):
    RED = 1


class Odd(Exception):
    """Can be pickled, but not loaded."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Bomb:
    """Runs code when it is loaded."""

    def __init__(self, effect: Path) -> None:
        self.effect = effect

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.effect),)


def helper(x: int) -> int:
    return x + 1


@task
def listed(x: int) -> int:
    return helper(x)


@pytest.fixture
def key_file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys" / "key")


@pytest.fixture
def codec(key_file: KeyFile) -> PickleCodec:
    return PickleCodec(TypeRegistry(), key_file)


def back(codec: PickleCodec, value: Any) -> Any:
    data = codec.encode(value)
    assert data.startswith(b"pickle 1 ")
    return codec.decode(data)


PLAIN = [
    *(None, True, 0, 2**3000, 1.5, float("nan"), "text", "pickle 1 ", [], {}, {"$": 1}, {1: [2, (3, {4})]}),
    *(b"pickle 1 ", b"x" * 5000, np.arange(500), {"a": [1, 2.5, None, "x"]}, range(3), frozenset({1})),
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_what_json_stores_is_stored_as_json_and_needs_no_key(codec: PickleCodec, value: Any) -> None:
    data = codec.encode(value)
    assert data == JsonCodec(TypeRegistry()).encode(value)
    assert codec.encode(codec.decode(data)) == data
    assert not Path(codec._key_file.path).exists()


def test_the_form_says_what_is_in_it(codec: PickleCodec, key_file: KeyFile) -> None:
    data = codec.encode([Plain(1), collections.deque([Listing([2])])])
    first, second, pickled = data.split(b"\n", 2)
    assert first == b"pickle 1 " + key_file.key_or_new().sign(b"pickle 1 ", second + b"\n" + pickled)
    assert json.loads(second) == {
        "named": [],
        "imported": [f"{__name__}:Plain", "collections:deque", f"{__name__}:Listing"],
    }
    assert pickled[:2] == b"\x80\x05"


class TestComesBack:
    def test_an_object(self, codec: PickleCodec) -> None:
        value = Plain({"deep": [Slotted(1, {2}), Outer.Inner(Listing([3]))]})
        value.me = value  # type: ignore[attr-defined]
        found = back(codec, value)
        assert type(found) is Plain
        assert found.me is found
        slotted, inner = found.value["deep"]
        assert (type(slotted), slotted.a, slotted.b) == (Slotted, 1, {2})
        assert (type(inner), type(inner.value), inner.value) == (Outer.Inner, Listing, [3])

    @pytest.mark.parametrize(
        "value",
        [
            Listing([1]),
            collections.Counter,
            helper,
            len,
            functools.partial(helper, 3),
            operator.itemgetter(1),
            Colour,
            Colour.RED,
            Unknown(1),
            ValueError,
            logging.getLogger("a.b"),
            io,
        ],
        ids=repr,
    )
    def test_what_is_equal_or_the_very_same(self, codec: PickleCodec, value: Any) -> None:
        found = back(codec, value)
        assert type(found) is type(value)
        if isinstance(value, functools.partial):
            assert (found.func, found.args) == (helper, (3,))
        elif isinstance(value, operator.itemgetter):
            assert found("ab") == "b"
        elif isinstance(value, Listing | Unknown):
            assert found == value
        else:
            assert found is value

    def test_what_contains_itself_or_is_nested_deep(self, codec: PickleCodec) -> None:
        loop: list[Any] = [1]
        loop.append(loop)
        found = back(codec, loop)
        assert found[0] == 1
        assert found[1] is found
        deep: Any = None
        for _ in range(300):
            deep = [deep]
        assert back(codec, deep) == deep

    def test_two_references_to_one_object(self, codec: PickleCodec) -> None:
        one = Plain(1)
        first, second = back(codec, [one, one])
        assert first is second

    def test_an_exception(self, codec: PickleCodec) -> None:
        found = back(codec, KeyError("x"))
        assert type(found) is KeyError
        assert found.args == ("x",)

    def test_a_bound_method_with_its_object(self, codec: PickleCodec) -> None:
        assert back(codec, Plain(4).twice)() == 8

    def test_the_function_of_a_task(self, codec: PickleCodec) -> None:
        assert back(codec, listed) is listed
        assert back(codec, [listed.fn])[0] is listed.fn

    def test_a_lambda_and_a_closure_with_what_they_use(self, codec: PickleCodec) -> None:
        step = 3

        def count(n: int) -> int:
            return helper(n) + step if n < 10 else count(n - 1)

        assert back(codec, lambda x: helper(x) * 2)(4) == 10
        assert back(codec, count)(12) == 13

    def test_a_standard_stream_is_that_of_the_process(
        self, codec: PickleCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with (tmp_path / "file").open("w") as file:
            monkeypatch.setattr(sys, "stderr", file)
            assert back(codec, Plain(sys.stderr)).value is file
            monkeypatch.undo()


class TestLocalClasses:
    def test_are_stored_by_value(self, codec: PickleCodec) -> None:
        class Local:
            kind = "local"

            def __init__(self, x: int) -> None:
                self.x = x

            def more(self) -> int:
                return helper(self.x)

        data = codec.encode([Local(3), Local(4)])
        assert json.loads(data[HEAD:].partition(b"\n")[0])["code"] == sys.implementation.cache_tag
        # what another process finds: nothing of this class
        codec_pickle.cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.clear()
        first, second = codec.decode(data)
        assert type(first) is type(second) is not Local
        assert (first.more(), second.x, first.kind) == (4, 4, "local")
        assert type(first).__qualname__ == Local.__qualname__
        third, _ = codec.decode(data)
        assert type(third) is type(first)

    def test_are_in_their_own_process_themselves_and_unchanged(self, codec: PickleCodec) -> None:
        class Local:
            count = 0

            def more(self) -> int:
                type(self).count += 1
                return type(self).count

        before, more = dict(vars(Local)), Local.more
        data = codec.encode(Local())
        assert {name: each for name, each in vars(Local).items() if name in before} == before
        Local.count = 5
        found = codec.decode(data)
        assert type(found) is Local
        assert Local.more is more
        assert found.more() == Local.count == 6

    def test_keep_their_slots(self, codec: PickleCodec) -> None:
        class Local:
            __slots__ = ("a",)

        value = Local()
        value.a = 1
        data = codec.encode(value)
        codec_pickle.cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.clear()
        found = codec.decode(data)
        assert type(found) is not Local
        assert found.a == 1
        assert not hasattr(found, "__dict__")

    def test_may_be_enumerations_and_dataclasses(self, codec: PickleCodec) -> None:
        class Level(enum.IntEnum):
            LOW = 1

        @dataclass
        class Box:
            a: int = 3

        data = codec.encode([Level.LOW, Box()])
        codec_pickle.cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID.clear()
        level, box = codec.decode(data)
        assert (level.name, level.value, isinstance(level, int)) == ("LOW", 1, True)
        assert (box.a, box) == (3, type(box)(3))

    def test_with_code_are_for_one_version_of_python(
        self, codec: PickleCodec, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with_code, without = codec.encode(lambda: 1), codec.encode(Plain(1))
        monkeypatch.setattr(codec_pickle, "_BYTECODE", "cpython-399")
        assert codec.decode(without).value == 1
        with pytest.raises(CodecError, match=r"holds code for \S+, and this is cpython-399.*top level"):
            codec.decode(with_code)

    def test_that_an_annotation_names_are_the_classes_of_the_program(self, key_file: KeyFile) -> None:
        @dataclass
        class Local:
            a: Any

        types = TypeRegistry()
        types.add(Local)
        codec = PickleCodec(types, key_file)
        data = codec.encode([Local(Plain(1)), Plain(Local(2))])
        head = json.loads(data[HEAD:].partition(b"\n")[0])
        assert head["named"] == [default_name(Local)]
        assert "code" not in head
        found = codec.decode(data)
        assert type(found[0]) is type(found[1].value) is Local


class TestRegisteredClasses:
    def test_are_stored_under_their_name_and_may_move(self, key_file: KeyFile) -> None:
        @dataclass
        class Before:
            a: Any

        @dataclass
        class After:
            a: Any

        old, new = TypeRegistry(), TypeRegistry()
        old.add(Before, name="box")
        new.add(After, name="box")
        data = PickleCodec(old, key_file).encode([Before(Plain(1)), Before])
        assert json.loads(data[HEAD:].partition(b"\n")[0])["named"] == ["box"]
        value, cls = PickleCodec(new, key_file).decode(data)
        assert type(value) is cls is After
        with pytest.raises(CodecError, match="holds a 'box', a class or function that is not known here"):
            PickleCodec(TypeRegistry(), key_file).decode(data)

    def test_of_a_module_are_imported_where_nobody_has_registered_them(self, key_file: KeyFile) -> None:
        types = TypeRegistry()
        types.add(Unknown)
        data = PickleCodec(types, key_file).encode([Unknown(Plain(1))])
        (found,) = PickleCodec(TypeRegistry(), key_file).decode(data)
        assert type(found) is Unknown


class TestRefused:
    @pytest.mark.parametrize(
        ("value", "json_says", "pickle_says"),
        [
            (
                (x for x in ()),
                "a generator has no stored form",
                "TypeError: cannot pickle 'generator' object",
            ),
            (threading.Lock(), "a _thread.lock has no", "cannot pickle '_thread.lock' object"),
            (memoryview(b"a"), "a memoryview has no", "a memoryview would come back as bytes"),
            (weakref.ref(Plain), "has no stored form", "cannot pickle 'weakref"),
        ],
    )
    def test_what_cannot_be_pickled_either(
        self, codec: PickleCodec, value: Any, json_says: str, pickle_says: str
    ) -> None:
        with pytest.raises(NotSerializable) as refused:
            codec.encode({"a": [1, value]})
        message = str(refused.value)
        assert message.startswith("`result['a'][1]` cannot be stored: ")
        assert json_says in message
        assert "; nor can it be pickled: TypeError: " in message
        assert pickle_says in message
        assert message.endswith(". Return plain data, or the path of what stays on disk")

    def test_an_open_file_is_not_taken_for_its_content(self, codec: PickleCodec, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("content")
        with (tmp_path / "file").open() as file:
            for value in (file, Plain([file])):
                with pytest.raises(NotSerializable, match="an open file would come back as a copy"):
                    codec.encode(value)

    def test_what_cannot_be_loaded_again(self, codec: PickleCodec) -> None:
        with pytest.raises(
            NotSerializable, match=r"nor can it be loaded when it was pickled: TypeError: .*'text'"
        ):
            codec.encode([Odd(1, "x")])

    def test_what_fails_with_an_error_whose_text_fails(self, codec: PickleCodec) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        class Failing:
            def __reduce__(self) -> Any:
                raise Mute

        with pytest.raises(NotSerializable, match="Mute"):
            codec.encode(Failing())

    def test_the_codec_and_its_key(self, codec: PickleCodec, key_file: KeyFile) -> None:
        key = key_file.key_or_new()
        for value in (codec, key_file, key, Plain([codec]), lambda: key, codec.encode):
            with pytest.raises(NotSerializable, match="stays in its process"):
                codec.encode(value)

    def test_too_deep_is_no_crash(self, codec: PickleCodec) -> None:
        deep: Any = None
        for _ in range(100_000):
            deep = [deep]
        with pytest.raises(NotSerializable, match=r"nor can it be pickled: .*recursion"):
            codec.encode(deep)

    def test_without_a_place_for_the_key(self, tmp_path: Path) -> None:
        (tmp_path / "key").symlink_to(tmp_path / "gone")
        codec = PickleCodec(TypeRegistry(), KeyFile(tmp_path / "key"))
        assert codec.decode(codec.encode([1])) == [1]
        with pytest.raises(ConfigError, match="leads nowhere"):
            codec.encode(Plain(1))


class TestNotLoaded:
    @pytest.fixture
    def effect(self, tmp_path: Path) -> Iterator[Path]:
        """What a bomb makes; it is seen to go off when it is loaded, and not to have gone off by the test."""
        path = tmp_path / "effect"
        pickle.loads(pickle.dumps(Bomb(path)))
        path.rmdir()
        yield path
        assert not path.exists()

    @pytest.fixture
    def planted(self, codec: PickleCodec, effect: Path) -> list[bytes]:
        """Ways to plant a pickle, without the key."""
        bomb = pickle.dumps(Bomb(effect))
        line = b'{"named":[],"imported":[]}\n'
        signed = codec.encode(Plain(1))
        other = KeyFile(effect.parent / "other").key_or_new()
        return [
            bomb,
            b"pickle 1 " + b"0" * 64 + b"\n" + line + bomb,
            b"pickle 1 \n" + line + bomb,
            b"pickle 1 " + line + bomb,
            b"pickle 1" + bomb,
            b"pickle " + bomb,
            b"pickle 0 " + signed[9:HEAD] + line + bomb,
            signed[:HEAD] + line + bomb,
            signed + bomb,
            signed[: signed.index(b"\n", HEAD) + 1] + bomb,
            b"pickle 1 " + other.sign(b"pickle 1 ", line, bomb) + b"\n" + line + bomb,
            signed[: HEAD - 1],
            signed[: HEAD - 20],
        ]

    def test_what_is_planted(self, codec: PickleCodec, planted: list[bytes]) -> None:
        for data in planted:
            assert codec.reader_for(data) is codec
            with pytest.raises(CodecError):
                codec.decode(data)

    def test_nor_by_the_json_codec(self, planted: list[bytes]) -> None:
        for data in planted:
            with pytest.raises(CodecError):
                JsonCodec().decode(data)

    def test_what_another_key_has_signed(self, codec: PickleCodec, tmp_path: Path, effect: Path) -> None:
        other = PickleCodec(TypeRegistry(), KeyFile(tmp_path / "other"))
        data = other.encode(Plain(1))
        codec._key_file.key_or_new()
        with pytest.raises(
            TamperedCheckpoint, match=r"signed with another key than that at .*key'"
        ) as refused:
            codec.decode(data)
        assert "nothing of it was loaded" in str(refused.value)

    def test_where_the_key_is_gone(self, codec: PickleCodec, key_file: KeyFile) -> None:
        data = codec.encode(Plain(1))
        Path(key_file.path).unlink()
        with pytest.raises(CodecError, match=r"not at '.*/keys/key'.*Config\(key_file=") as refused:
            PickleCodec(TypeRegistry(), KeyFile(key_file.path)).decode(data)
        assert type(refused.value) is CodecError
        assert not Path(key_file.path).exists()

    def test_the_json_codec_says_what_it_is(self, codec: PickleCodec) -> None:
        with pytest.raises(CodecError, match=r"is a signed pickle.*Config\(codec='pickle'\)") as refused:
            JsonCodec().decode(codec.encode(Plain(1)))
        assert type(refused.value) is CodecError

    def test_a_later_version(self, codec: PickleCodec) -> None:
        with pytest.raises(CodecError, match="later version"):
            codec.decode(b"pickle 2 " + codec.encode(Plain(1))[9:])

    def test_what_is_cut_off(self, codec: PickleCodec) -> None:
        data = codec.encode(Plain(1))
        for length in range(len(data)):
            with pytest.raises(CodecError) as refused:
                codec.decode(data[:length])
            assert type(refused.value) in (CorruptCheckpoint, TamperedCheckpoint, CodecError)
        with pytest.raises(CorruptCheckpoint):
            codec.decode(data[:40])
        with pytest.raises(TamperedCheckpoint):
            codec.decode(data[:-1])


def test_of_10000_flipped_bits_none_gives_a_value(codec: PickleCodec) -> None:
    samples = [
        codec.encode(value)
        for value in (Plain([1, 2.5, "x"]), lambda: 0, [Colour.RED, Listing([1])], Slotted(b"a" * 50, None))
    ]
    chance = random.Random(4)
    for _ in range(10_000):
        damaged = bytearray(chance.choice(samples))
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        with pytest.raises(CodecError):
            codec.decode(bytes(damaged))


class TestElsewhere:
    """A codec in a process that does not run the script; the whole of it is tested with real ones, as behaviour."""

    @pytest.fixture
    def main(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
        def make(text: str) -> ModuleType:
            module = ModuleType("__main__")
            module.__file__ = "/somewhere/script.py"
            exec(text, vars(module))
            monkeypatch.setitem(sys.modules, "__main__", module)
            return module

        return make

    TEXT = (
        "class Plain:\n    def __init__(self, x): self.x = x\n    class Inner: pass\n"
        "def double(x): return 2 * x\n"
        "def wrapped(function):\n"
        "    import functools\n"
        "    return functools.wraps(function)(lambda x: function(x))\n"
        "@wrapped\ndef triple(x): return 3 * x\n"
    )

    def test_what_the_script_has_now_is_what_comes_back(
        self, codec: PickleCodec, main: Callable[[str], ModuleType]
    ) -> None:
        first = main(self.TEXT)
        data = codec.encode([first.Plain(first.Plain.Inner()), first.Plain, first.double, first.triple])
        head = json.loads(data[HEAD:].partition(b"\n")[0])
        assert head["named"] == [f"script:{name}" for name in ("Plain", "Plain.Inner", "double", "triple")]
        assert "code" not in head
        second = main(self.TEXT)
        value, cls, double, triple = codec.decode(data)
        assert type(value) is cls is second.Plain
        assert type(value.x) is second.Plain.Inner
        assert double is second.double
        assert triple is second.triple

    def test_a_class_that_was_replaced_is_stored_by_value(
        self, codec: PickleCodec, main: Callable[[str], ModuleType]
    ) -> None:
        module = main(self.TEXT)
        old = module.Plain(3)
        exec(self.TEXT, vars(module))
        found = codec.decode(codec.encode(old))
        assert type(found) is type(old) is not module.Plain

    def test_the_script_is_not_run_once_more_as_a_module(
        self, codec: PickleCodec, main: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = ModuleType("script")
        exec(self.TEXT, vars(module))
        monkeypatch.setitem(sys.modules, "script", module)
        data = codec.encode([module.Plain(1), module.double])
        monkeypatch.delitem(sys.modules, "script")
        found = main(self.TEXT)
        value, double = codec.decode(data)
        assert type(value) is found.Plain
        assert double is found.double

    def test_another_program_is_told_what_is_missing(
        self, codec: PickleCodec, main: Callable[[str], ModuleType]
    ) -> None:
        data = codec.encode(main(self.TEXT).Plain(1))
        main("")
        with pytest.raises(CodecError, match=r"holds a 'script:Plain', .* run the script that defines it"):
            codec.decode(data)

    def test_a_copy_names_what_the_script_has(
        self, codec: PickleCodec, main: Callable[[str], ModuleType]
    ) -> None:
        module = main(self.TEXT)
        copy = pickle.loads(pickle.dumps(codec))
        main("def main(): pass")  # of a worker process
        data = copy.encode([module.Plain(1), module.Plain.Inner, module.double])
        assert json.loads(data[HEAD:].partition(b"\n")[0])["named"] == [
            f"script:{name}" for name in ("Plain", "Plain.Inner", "double")
        ]
        assert json.loads(copy.encode(module.triple)[HEAD:].partition(b"\n")[0])["code"]
        with pytest.raises(CodecError, match="not known here"):
            copy.decode(data)

    def test_a_reader_has_what_a_value_refers_to(
        self, codec: PickleCodec, main: Callable[[str], ModuleType]
    ) -> None:
        module = main(self.TEXT)
        data = codec.encode([module.Plain(1), Plain(2)])
        reader: Any = codec.reader_for(data)
        assert reader.known == {"script:Plain": module.Plain}
        copy = pickle.loads(pickle.dumps(codec))
        main("")
        first, second = reader._replace(codec=copy).decode(data)
        assert type(first) is module.Plain
        assert type(second) is Plain

    @pytest.mark.parametrize("value", [[1], Plain(1)])
    def test_a_value_that_needs_nothing_of_the_script_has_the_codec_as_its_reader(
        self, codec: PickleCodec, value: Any
    ) -> None:
        assert codec.reader_for(codec.encode(value)) is codec
        assert JsonCodec().reader_for(b"[1]").decode(b"[1]") == [1]
