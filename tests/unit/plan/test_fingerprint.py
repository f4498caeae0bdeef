"""Fingerprints of values: what is equal agrees everywhere, what differs differs, the rest is refused."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import functools
import itertools
import json
import math
import operator
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import timeit
import types
import typing
import uuid
import zoneinfo
from dataclasses import dataclass, field

import pydantic
import pytest

import dotflow_like
from dotflow_like.errors import DotflowError, FingerprintError
from dotflow_like.model.context import Context
from dotflow_like.plan.fingerprint import of_value

ROOT = pathlib.Path(dotflow_like.__file__).parent.parent


def fp(value: object) -> str:
    return of_value(value, where="task 't', parameter 'p'")


def refusal(value: object) -> str:
    with pytest.raises(FingerprintError) as caught:
        fp(value)
    return str(caught.value)


class Color(enum.Enum):
    RED = 1
    BLUE = 2
    CRIMSON = 1  # noqa: PIE796  # an alias, on purpose


class Other(enum.Enum):
    RED = 1


class Word(enum.StrEnum):
    A = "a"


class Number(enum.IntEnum):
    ONE = 1


class Perm(enum.Flag):
    R = 4
    W = 2
    X = 1


class Bits(enum.IntFlag, boundary=enum.KEEP):
    A = 1
    B = 2


@dataclass
class Point:
    x: object
    y: object = 0


@dataclass(frozen=True, slots=True)
class Slotted:
    x: object


@dataclass
class Late:
    x: object = field(init=False)


class Labelled(Point):
    """A plain class below a dataclass, with an attribute of its own."""


class Pair(typing.NamedTuple):
    x: object
    y: object


class Url(str):  # noqa: SLOT000  # it shall have attributes
    port: int


class Tagged(list):  # type: ignore[type-arg]
    __slots__ = ("__hidden", "tag")

    def hide(self, value: object) -> None:
        self.__hidden = value


class Model(pydantic.BaseModel):
    a: int
    b: list[str] = []
    _clock: float = pydantic.PrivateAttr(default_factory=timeit.default_timer)


class Open(pydantic.BaseModel, extra="allow"):
    a: int


class Opaque:
    def __repr__(self) -> str:
        raise AssertionError("repr is never asked")


def plain(x: int = 1, *, y: int = 2) -> int:
    return x + y


def closing(value: object) -> typing.Callable[[], object]:
    def inner() -> object:
        return value

    return inner


def recursive() -> typing.Callable[[int], int]:
    def down(n: int) -> int:
        return down(n - 1) if n else 0

    return down


UTC = dt.UTC
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NOON = dt.datetime(2024, 3, 1, 12)

# Each of them differs from every other one, and a copy of each agrees with it.
DISTINCT: list[typing.Callable[[], object]] = [
    # the same one, as every type there is
    lambda: 1,
    lambda: True,
    lambda: 1.0,
    lambda: 1 + 0j,
    lambda: "1",
    lambda: b"1",
    lambda: bytearray(b"1"),
    lambda: memoryview(b"1"),
    lambda: [1],
    lambda: (1,),
    lambda: {1},
    lambda: frozenset({1}),
    lambda: {1: 1},
    lambda: collections.deque([1]),
    lambda: collections.deque([1], maxlen=3),
    lambda: collections.Counter({1: 1}),
    lambda: collections.OrderedDict({1: 1}),
    lambda: collections.defaultdict(int, {1: 1}),
    lambda: collections.defaultdict(bool, {1: 1}),
    lambda: collections.defaultdict(None, {1: 1}),
    lambda: types.MappingProxyType({1: 1}),
    lambda: array.array("i", [1]),
    lambda: array.array("q", [1]),
    lambda: decimal.Decimal(1),
    lambda: decimal.Decimal("1.0"),
    lambda: fractions.Fraction(1),
    lambda: Number.ONE,
    lambda: Context(1),
    lambda: Context(Context(1)),
    # nothing, and empty
    lambda: None,
    lambda: ...,
    lambda: False,
    lambda: 0,
    lambda: "",
    lambda: b"",
    list,
    lambda: (),
    lambda: set(),
    dict,
    lambda: [[]],
    lambda: [None],
    lambda: "None",
    lambda: Context(),
    # numbers
    lambda: -1,
    lambda: 10**5000,
    lambda: 10**5000 + 1,
    lambda: -(10**5000),
    lambda: 0.0,
    lambda: -0.0,
    lambda: math.nan,
    lambda: math.inf,
    lambda: -math.inf,
    lambda: 0.1 + 0.2,
    lambda: 0.3,
    lambda: complex(0, -0.0),
    lambda: complex(0, 0.0),
    lambda: complex(math.nan, 0),
    lambda: decimal.Decimal("NaN"),
    lambda: decimal.Decimal("sNaN"),
    lambda: decimal.Decimal("-Infinity"),
    lambda: fractions.Fraction(1, 3),
    # text
    lambda: "a\0b",
    lambda: "\ud800",
    lambda: "\ud83d\ude00",
    lambda: "\U0001f600",
    lambda: "é",
    lambda: "e\u0301",
    lambda: "x" * 5000,
    lambda: "x" * 5001,
    lambda: b"x" * 5000,
    lambda: Url("a"),
    lambda: Word.A,
    lambda: "a",
    # what would run together without lengths
    lambda: ["ab", "c"],
    lambda: ["a", "bc"],
    lambda: ["abc"],
    lambda: [["a"], "b"],
    lambda: [["a", "b"]],
    lambda: [["a"], ["b"]],
    lambda: ["a", ["b"]],
    lambda: {"a": "b", "c": "d"},
    lambda: {"a": "d", "c": "b"},
    lambda: {"a": {"b": "c"}},
    lambda: {"a": 1},
    lambda: {"a": 1, "b": None},
    lambda: [("a", 1)],
    lambda: {(1, 2): 3},
    lambda: {1: 2, 3: 4},
    lambda: frozenset({frozenset({1}), frozenset({2})}),
    # moments
    lambda: NOON,
    lambda: NOON.replace(tzinfo=UTC),
    lambda: NOON.replace(tzinfo=BERLIN),
    lambda: NOON.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
    lambda: NOON.replace(tzinfo=zoneinfo.ZoneInfo("UTC")),
    lambda: NOON.replace(fold=1),
    lambda: NOON.replace(microsecond=1),
    lambda: NOON.isoformat(),
    lambda: NOON.date(),
    lambda: NOON.time(),
    lambda: dt.time(12, tzinfo=UTC),
    lambda: dt.timedelta(days=1),
    lambda: dt.timedelta(days=-1, seconds=1),
    lambda: UTC,
    lambda: BERLIN,
    # the rest of the standard library
    lambda: uuid.UUID(int=1),
    lambda: pathlib.PurePosixPath("a/b"),
    lambda: pathlib.PurePosixPath("/a/b"),
    lambda: pathlib.PureWindowsPath("a/b"),
    lambda: pathlib.Path("a/b"),
    lambda: range(1),
    lambda: range(0, 1, 2),
    lambda: slice(1),
    lambda: slice(0, 1),
    lambda: re.compile("a"),
    lambda: re.compile("a", re.IGNORECASE),
    lambda: re.compile(b"a"),
    lambda: types.SimpleNamespace(a=1),
    # enums, data classes, named tuples, models
    lambda: Color.RED,
    lambda: Color.BLUE,
    lambda: Other.RED,
    lambda: Perm.R,
    lambda: Perm.R | Perm.W,
    lambda: Perm(0),
    lambda: Bits.A | Bits(8),
    lambda: Bits.A,
    lambda: Point(1),
    lambda: Point(1, 1),
    lambda: Slotted(1),
    lambda: Late(),
    lambda: Labelled(1),
    lambda: Pair(1, 2),
    lambda: (1, 2),
    lambda: Model(a=1),
    lambda: Model(a=2),
    lambda: Open(a=1),
    lambda: Open.model_validate({"a": 1, "z": 2}),
    # types, modules, functions
    lambda: int,
    lambda: Color,
    lambda: Point,
    lambda: typing.NamedTuple,
    lambda: json,
    lambda: len,
    lambda: math.sin,
    lambda: json.dumps,
    lambda: str.upper,
    lambda: "a".upper,
    lambda: dict.fromkeys,
    lambda: plain,
    lambda: closing,
    lambda: closing(1),
    lambda: closing(2),
    lambda: closing("1"),
    lambda: closing(closing(1)),
    lambda: recursive(),
    lambda: Tagged([1]).hide,
    lambda: Tagged([2]).hide,
    lambda: functools.partial(plain, 1),
    lambda: functools.partial(plain, x=1),
    lambda: functools.partial(plain),
    lambda: functools.lru_cache(plain),
    lambda: operator.itemgetter(1),
    lambda: operator.itemgetter(1, 2),
    lambda: operator.attrgetter("a"),
    lambda: operator.methodcaller("a", 1, b=2),
]


def test_what_differs_differs_and_what_is_equal_agrees() -> None:
    first = [fp(make()) for make in DISTINCT]
    assert first == [fp(make()) for make in DISTINCT]
    doubles = [(a, b) for a, b in itertools.combinations(range(len(first)), 2) if first[a] == first[b]]
    assert [(DISTINCT[a](), DISTINCT[b]()) for a, b in doubles] == []
    assert {len(form) for form in first} == {32}


def test_the_form_is_pinned() -> None:
    """A change here discards the recorded inputs of every run there is: mean it."""
    pinned = {
        "None": None,
        "int": 1,
        "float": 1.5,
        "str": "a",
        "list": [1, "a", None],
        "dict": {"a": 1, "b": [2.5, True]},
        "set": {1, 2, 3},
        "long": list(range(1000)),
        "datetime": NOON.replace(tzinfo=UTC),
        "path": pathlib.PurePosixPath("a"),
        "context": Context("a"),
    }
    assert {name: fp(value) for name, value in pinned.items()} == PINNED


def test_order_counts_only_where_the_type_has_one() -> None:
    assert fp({"a": 1, "b": 2}) == fp({"b": 2, "a": 1})
    assert fp({*range(100)}) == fp({*reversed(range(100))})
    assert fp({"a": {1: 2, 3: 4}, "b": 5}) == fp({"b": 5, "a": {3: 4, 1: 2}})
    assert fp(types.SimpleNamespace(a=1, b=2)) == fp(types.SimpleNamespace(b=2, a=1))
    assert fp(collections.Counter("ab")) == fp(collections.Counter("ba"))
    assert fp([1, 2]) != fp([2, 1])
    ordered = collections.OrderedDict
    assert fp(ordered(a=1, b=2)) != fp(ordered(b=2, a=1))


def test_every_nan_is_the_same() -> None:
    assert fp(math.nan) == fp(-math.nan) == fp(math.inf - math.inf)


def test_of_a_context_only_the_value_counts() -> None:
    early = Context([1], time=NOON.replace(tzinfo=UTC), task_id="a", workflow_id="w")
    assert fp(early) == fp(Context([1])) != fp(Context([2]))


def test_an_enum_goes_by_its_name() -> None:
    assert fp(Color.CRIMSON) == fp(Color.RED)
    assert fp(Perm.W | Perm.R) == fp(Perm.R | Perm.W) == fp(Perm(6))


def test_shared_and_copied_parts_agree() -> None:
    part = ["x" * 300]
    assert fp([part, part]) == fp([["x" * 300], ["x" * 300]])


def test_much_shared_structure_is_written_once() -> None:
    value: object = ["x" * 300]
    for _ in range(60):
        value = [value, value]
    assert fp(value) == fp(value)


def test_attributes_of_derived_types_count() -> None:
    a, b, plain_url = Url("a"), Url("a"), Url("a")
    a.port, b.port = 1, 2
    assert len({fp(a), fp(b), fp(plain_url), fp("a")}) == 4
    one, two, three = Tagged([1]), Tagged([1]), Tagged([1])
    one.tag = 1  # type: ignore[attr-defined]
    two.hide(1)
    assert len({fp(one), fp(two), fp(three), fp([1])}) == 4
    first, second = Labelled(1), Labelled(1)
    second.label = "b"  # type: ignore[attr-defined]
    assert fp(first) != fp(second)


def test_caches_of_derived_types_do_not_count() -> None:
    class Cached(Model):
        @functools.cached_property
        def twice(self) -> int:
            return self.a * 2

    @dataclass
    class Computed:
        a: int

        @functools.cached_property
        def twice(self) -> int:
            return self.a * 2

    for make in (Cached, Computed):
        fresh, used = make(a=1), make(a=1)
        assert used.twice == 2
        assert fp(fresh) == fp(used)
    path = pathlib.Path("a/b")
    before = fp(path)
    hash(path), str(path), path.parts, path.exists()
    assert fp(path) == before


def test_private_attributes_of_a_model_do_not_count() -> None:
    assert fp(Model(a=1)) == fp(Model(a=1))


def test_the_order_in_which_fields_are_declared_does_not_count() -> None:
    def declare(first: str, second: str) -> object:
        made: typing.Any = dataclass(type("Made", (), {"__annotations__": {first: int, second: int}}))
        return made(a=1, b=2)

    assert fp(declare("a", "b")) == fp(declare("b", "a"))


def test_a_zone_of_another_package_goes_by_what_it_says() -> None:
    class Fixed(dt.tzinfo):
        def __init__(self, hours: int) -> None:
            self.hours = hours

        def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
            return dt.timedelta(hours=self.hours)

        def tzname(self, when: dt.datetime | None) -> str:
            return "fixed"

        def dst(self, when: dt.datetime | None) -> None:
            return None

    assert fp(NOON.replace(tzinfo=Fixed(1))) == fp(NOON.replace(tzinfo=Fixed(1)))
    assert fp(NOON.replace(tzinfo=Fixed(1))) != fp(NOON.replace(tzinfo=Fixed(2)))
    assert fp(dt.time(1, tzinfo=Fixed(1))) != fp(dt.time(1, tzinfo=Fixed(2)))
    file = pathlib.Path(zoneinfo.TZPATH[0] if zoneinfo.TZPATH else "/nowhere", "Europe/Berlin")
    if file.exists():
        with file.open("rb") as opened:
            keyless = zoneinfo.ZoneInfo.from_file(opened)
        assert fp(NOON.replace(tzinfo=keyless)) != fp(NOON.replace(tzinfo=BERLIN))


def test_functions_go_by_code_name_defaults_and_closure() -> None:
    def make(default: int, *, key: int = 0) -> typing.Callable[..., int]:
        def inner(x: int = default, *, y: int = key) -> int:
            return x + y

        return inner

    assert fp(make(1)) == fp(make(1)) != fp(make(2))
    assert fp(make(1)) != fp(make(1, key=1))
    assert fp(closing([1, 2])) == fp(closing([1, 2])) != fp(closing([2, 1]))
    assert fp(lambda x: x + 1) != fp(lambda x: x + 2)
    assert fp([lambda: 1, lambda: 2]) != fp([lambda: 2, lambda: 1])


def test_a_cell_not_yet_assigned() -> None:
    def outer() -> typing.Callable[[], object]:
        def inner() -> object:
            return later

        made = fp(inner)
        later = 1
        assert made != fp(inner)
        return inner

    outer()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (Opaque(), "the value (test_fingerprint:Opaque) has no stable form"),
        ([1, Opaque()], "[1] ("),
        ({"rows": [0, 1, 2, Point(1, Opaque())]}, "['rows'][3].y ("),
        ({"rows": (Pair(Slotted(Opaque()), 1),)}, "['rows'][0].x.x ("),
        ({1: Opaque()}, "[1] ("),
        ({Opaque(): 1}, "key [<"),
        ({(1, Opaque()): 1}, "key [<builtins:tuple>][1] ("),
        ({10**5000: Opaque()}, "[<builtins:int>] ("),
        ({"k" * 1000: Opaque()}, "['kkk"),
        ({Opaque()}, "{...} ("),
        (Context({"a": Opaque()}), ".storage['a'] ("),
        (Open.model_validate({"a": 1, "z": Opaque()}), ".z ("),
        (closing(Opaque()), ".closure['value'][0] ("),
        (functools.partial(closing, Opaque()), ".args[0] ("),
        ((x for x in "a"), "(builtins:generator)"),
        (threading.Lock(), "(_thread:"),
        (sys.stdin, "the value ("),
        (object(), "(builtins:object)"),
        (iter([]), "(builtins:list_iterator)"),
        (ValueError("x"), "(builtins:ValueError)"),
        (Point.__init__, "(builtins:function) has no source"),
        ([Point(1).__eq__], "[0].function (builtins:function) has no source"),
    ],
)
def test_what_has_no_stable_form_is_refused_with_place_type_and_way_out(value: object, place: str) -> None:
    message = refusal(value)
    assert message.startswith("task 't', parameter 'p': ")
    assert place.replace("test_fingerprint", __name__) in message
    assert "`fingerprint=`" in message
    assert len(message) < 400
    assert issubclass(FingerprintError, DotflowError)


def test_an_open_file_is_refused(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "a").open("w") as opened:
        assert ".x (_io:TextIOWrapper)" in refusal(Point(opened))


def test_an_error_of_the_value_itself_is_named_and_kept() -> None:
    class Broken(list):  # type: ignore[type-arg]
        def __iter__(self) -> typing.Iterator[object]:
            raise OSError("gone")

    with pytest.raises(FingerprintError, match=r"\[0\].*OSError: gone") as caught:
        fp([Broken()])
    assert isinstance(caught.value.__cause__, OSError)


def test_cycles_are_refused() -> None:
    looped: list[object] = [1]
    looped.append({"again": looped})
    assert "[1]['again'] (builtins:list) contains itself" in refusal(looped)
    point = Point(1)
    point.y = [point]
    assert ".y[0]" in refusal(point)


def test_deep_nesting_is_refused_not_a_recursion_error() -> None:
    def nest(depth: int, around: typing.Callable[[object], object]) -> object:
        value: object = 0
        for _ in range(depth):
            value = around(value)
        return value

    for around in (lambda v: [v], lambda v: {"a": v}, Point, lambda v: Tagged([v]), lambda v: Pair(v, v)):
        fp(nest(100, around))
        assert "nested" in refusal(nest(101, around))
        assert "nested" in refusal(nest(50_000, around))


def test_a_caller_that_is_itself_deep_gets_the_same_error() -> None:
    value: object = 0
    for _ in range(90):
        value = Point(value)

    def descend(left: int) -> str:
        return descend(left - 1) if left else fp(value)

    with pytest.raises(FingerprintError, match="nested"):
        descend(sys.getrecursionlimit() - len_of_stack() - 100)


def len_of_stack() -> int:
    frame, count = sys._getframe(), 0
    while frame.f_back is not None:
        frame, count = frame.f_back, count + 1
    return count


def test_small_values_are_fast() -> None:
    """Far above what is measured on an idle machine (1 us, 30 ms), far below what a slip would cost."""
    assert min(timeit.repeat(lambda: fp("https://example.org"), number=1000, repeat=5)) < 0.02
    numbers = list(range(100_000))
    assert min(timeit.repeat(lambda: fp(numbers), number=1, repeat=3)) < 0.3


def test_importing_it_brings_in_neither_parsers_nor_frames() -> None:
    heavy = {
        "ast",
        "tokenize",
        "inspect",
        "numpy",
        "pandas",
        "polars",
        "pydantic",
        "decimal",
        "uuid",
        "pathlib",
        "zoneinfo",
    }
    code = (
        "import sys, linecache, dataclasses, dotflow_like.model.context, hashlib; before = set(sys.modules);"
        "import dotflow_like.plan.fingerprint; print(*(set(sys.modules) - before))"
    )
    brought = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not heavy & set(brought)


# What must agree across processes and Python versions is written once, and run in each.
BATTERY = '''
import collections, datetime as dt, decimal, enum, fractions, functools, json, os, pathlib, re, uuid
from dataclasses import dataclass

class Color(enum.Enum):
    RED = 1

class Perm(enum.Flag):
    R = 4
    W = 2

@dataclass
class Point:
    x: object

    def move(self):
        return f"{self.x!r:>{10}} {'a' 'b'}"

Pair = collections.namedtuple("Pair", "x y")

def shown(x, y=1):
    # a comment
    return f"""{x}
        {y:{x}} {{}} é"""  # another

def outer(value):
    def inner(): return value, f'{value + 1}' rf"\\d{value}"
    return inner

class Url(str): pass

values = [
    None, True, 10**1000, -0.0, "é\\ud800", b"x", 1 + 2j, {str(i) for i in range(50)}, {i: str(i) for i in "abcdef"},
    frozenset("abc"), collections.Counter("aab"), collections.OrderedDict(a=1), collections.defaultdict(list, a=[1]),
    collections.deque("ab", 3), Color.RED, Perm.R | Perm.W, Point({"a", "b"}), Pair(1, 2), Url("u"), range(3), slice(1),
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc), dt.timedelta(1), dt.date(2024, 1, 1), dt.time(1), re.compile("a", re.I),
    decimal.Decimal("1.50"), fractions.Fraction(1, 3), uuid.UUID(int=5), pathlib.PurePosixPath("a"), pathlib.Path("b"),
    pathlib.Path, Point, int, len, os.path.join, json.dumps, shown, outer, outer({"b", "a"}), Point(1).move,
    lambda x: f"{x}", [lambda: 1, lambda y: 2], functools.partial(shown, y=2), str.upper, [1].append, os.getcwd, os,
]
'''

REPORT = """
import json
from dotflow_like.plan.fingerprint import of_code, of_value
def report(values):
    codes = [of_code(value) if callable(value) else "" for value in values]
    return [of_value(value, where="x") for value in values], codes
"""


def interpreters() -> list[str]:
    """Return every Python on the path this library supports that starts."""
    found = {sys.version_info[:2]: sys.executable}
    for minor in range(11, 20):
        python = shutil.which(f"python3.{minor}")
        if python and subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            found.setdefault((3, minor), python)
    return list(found.values())


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: pathlib.Path(path).name)
def test_processes_directories_hash_seeds_and_versions_agree(python: str, tmp_path: pathlib.Path) -> None:
    """As a module, as a script and with -m, too."""
    (tmp_path / "battery.py").write_text(
        BATTERY + REPORT + "if __name__ == '__main__': print(json.dumps(report(values)))\n", encoding="utf-8"
    )
    (tmp_path / "elsewhere").mkdir()
    as_module = "import json, battery; print(json.dumps(battery.report(battery.values)))"
    ways = {
        ("0", "elsewhere"): ["-c", as_module],
        ("1", "."): ["battery.py"],
        ("2", "elsewhere"): ["-m", "battery"],
        ("3", "elsewhere"): ["../battery.py"],
    }

    def run(program: str, arguments: list[str], seed: str, folder: str) -> subprocess.Popen[str]:
        path = os.pathsep.join([str(ROOT), str(tmp_path)])
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONHASHSEED": seed,
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.Popen(
            [program, *arguments], cwd=tmp_path / folder, env=environment, stdout=subprocess.PIPE, text=True
        )

    started = [run(python, arguments, *where) for where, arguments in ways.items()]
    started.append(run(sys.executable, ["-c", as_module], "4", "."))
    reports = [process.communicate()[0] for process in started]
    values, codes = json.loads(reports[0])
    assert len(set(values)) == len(values)
    assert None not in codes
    assert [json.loads(report) for report in reports] == [[values, codes]] * len(reports)


PINNED = {
    "None": "3bf6ded28f1dd5ecbf9f715d990931f4",
    "int": "5a3cc6c2235f6a17071c64b28afa5ceb",
    "float": "3a861e11c3b7821b2631dfc98f7a76d9",
    "str": "e8ba05c522741eb3c95269da7780957a",
    "list": "1261f12d32008676af3e208e9d461a0f",
    "dict": "5ee99e9d28f374753e7a679b4a31dea3",
    "set": "a6bdd1abd64cd87a0c148772dbe29229",
    "long": "85ffda25112474909f8b5d7716f8a921",
    "datetime": "5a139f7b471f5a02a2c5ec3406bc79c1",
    "path": "804271b12c318da05245fa215fa3785b",
    "context": "36095d6f03a66b515757496043fa01bc",
}
