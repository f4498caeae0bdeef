"""Code of a script crosses to the workers and back by value, and keeps its identity."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dotflow_like import Manager, task

Script = Callable[..., "subprocess.CompletedProcess[str]"]

HEAD = """
import collections, enum, os, sys
from dataclasses import dataclass, field
from typing import NamedTuple
from dotflow_like import Config, Manager, task

def run(*tasks, **options):
    options = {"max_workers": 1, "on_failure": lambda tasks: None, **options}
    return Manager(list(tasks), mode="parallel", **options)

def only(body, **bound):
    one = task(body, name="one").bind(**bound)
    return run(one).raise_for_failure()["one"].result

"""


@pytest.fixture
def check(script: Script) -> Callable[[str], None]:
    """A function that runs a program text as a script, which has to end well and in silence."""

    def check(text: str) -> None:
        ended = script(HEAD + text)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == ""

    return check


def test_classes_of_a_script_keep_their_identity_both_ways(check: Callable[[str], None]) -> None:
    check("""
from pydantic import BaseModel

class Plain:
    def __init__(self, x): self.x = x

class Sub(Plain):
    def __init__(self, x): super().__init__(x + 1)

class Slotted:
    __slots__ = ("x",)
    def __init__(self, x): self.x = x

@dataclass
class Point:
    x: int
    more: list = field(default_factory=list)

@dataclass(frozen=True, slots=True)
class Frozen:
    x: int

class Named(NamedTuple):
    x: int

Old = collections.namedtuple("Old", "x")

class Model(BaseModel):
    x: int

CLASSES = [Plain, Sub, Slotted, Point, Frozen, Named, Old, Model]

def make(cls, x):
    return cls(x=x)

for cls in CLASSES:
    made = only(make, cls=cls, x=5)
    assert type(made) is cls, cls
    assert made.x == (6 if cls is Sub else 5)
    assert only(lambda cls: cls, cls=cls) is cls

def look(values):
    return [isinstance(value, cls) and type(value) is cls for value, cls in zip(values, CLASSES, strict=True)]

given = [cls(x=1) for cls in CLASSES]
assert only(look, values=given) == [True] * len(CLASSES)
back = only(lambda values: values, values=given)
assert [type(value) for value in back] == CLASSES
assert isinstance(back[1], Plain)
assert back[3] == Point(1) and back[4] == Frozen(1) and back[5] == (1,) and back[7] == Model(x=1)
""")


def test_members_of_an_enumeration_of_a_script_come_back_the_same(check: Callable[[str], None]) -> None:
    check("""
class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    def other(self): return Colour.GREEN if self is Colour.RED else Colour.RED

class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2

class Flags(enum.Flag):
    A = 1
    B = 2

class Word(enum.StrEnum):
    YES = "yes"

assert only(lambda: Colour.RED) is Colour.RED
assert only(lambda c: c.other(), c=Colour.RED) is Colour.GREEN
assert only(lambda c: c is Colour.RED, c=Colour.RED) is True
assert only(lambda: {Colour.RED: [Level.HIGH, Word.YES]}) == {Colour.RED: [Level.HIGH, Word.YES]}
(key, (level, word)), = only(lambda: {Colour.RED: [Level.HIGH, Word.YES]}).items()
assert key is Colour.RED and level is Level.HIGH and word is Word.YES
both = only(lambda flags: flags | Flags.B, flags=Flags.A)
assert both == Flags.A | Flags.B and type(both) is Flags
""")


def test_exceptions_of_a_script_are_caught_as_what_they_are(check: Callable[[str], None]) -> None:
    check("""
class Odd(Exception):
    def __init__(self, n):
        super().__init__(f"odd: {n}")
        self.n = n

class Odder(Odd): ...

def bad(n, cls):
    try:
        raise KeyError("first")
    except KeyError as error:
        raise cls(n) from error

def guarded(error):
    try:
        raise error
    except Odd as caught:
        return type(caught) is Odder and caught.n

ended = run(task(bad, retry=3, retry_on=Odd).bind(n=7, cls=Odder))
assert ended["bad"].retry_count == 2
assert type(ended["bad"].errors[0].error) is Odder
try:
    ended.raise_for_failure()
except* Odd as group:
    (error,) = group.exceptions
    assert error.n == 7 and type(error) is Odder and isinstance(error.__cause__, KeyError)
else:
    raise AssertionError("it did not raise")
assert only(guarded, error=Odder(8)) == 8
""")


def test_functions_of_a_script_come_back_the_same(check: Callable[[str], None]) -> None:
    check("""
def helper(x): return x + STEP
STEP = 2

def give(): return helper, [helper], Tool.use, Tool

class Tool:
    def use(self): return helper(1)
    @classmethod
    def made(cls): return cls()
    @staticmethod
    def plain(x): return helper(x)

first, (second,), method, cls = only(give)
assert first is helper and second is helper
assert cls is Tool and method is Tool.use
assert only(lambda f: f is helper, f=helper) is True
assert only(Tool.made).use() == 3
assert only(Tool.plain, x=1) == 3
square = lambda x: x * x
assert only(lambda f: f, f=square) is square

def outer(n):
    def inner(x): return x * n
    return inner

closure = outer(10)
assert only(lambda f: (f(2), f), f=closure) == (20, closure)
made = only(outer, n=3)
assert made(4) == 12
again = only(lambda f: (f(5), f), f=made)
assert again == (15, made)
""")


def test_functions_that_call_each_other_cross(check: Callable[[str], None]) -> None:
    check("""
@task
def fact(n): return 1 if n < 2 else n * fact(n - 1)

def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)

@task
def double(n): return 2 * n

@task
def twice(n): return double(double(n))

def count(n):
    def down(n): return 0 if n == 0 else 1 + down(n - 1)
    return down(n)

ended = run(fact.bind(n=5), twice.bind(n=3), task(even).bind(n=10), task(count).bind(n=7)).raise_for_failure()
assert dict(ended.results) == {"fact": 120, "twice": 12, "even": True, "count": 7}
assert only(lambda: double.fn(4)) == 8
assert only(lambda: double).fn is double.fn
""")


def test_a_local_class_stays_itself_and_is_not_changed_by_a_worker(check: Callable[[str], None]) -> None:
    check("""
def make():
    class Local:
        total = 1
        items = []
        def add(self): Local.total += 1; return Local.total
    return Local

Local = make()

class Counter:
    count = 10

def change(cls, value):
    cls.total = 50
    cls.items.append(1)
    cls.new = 1
    Counter.count += 5
    return cls, value, value.add(), Counter.count

cls, value, total, count = only(change, cls=Local, value=Local())
assert cls is Local and type(value) is Local
assert (total, count) == (51, 15)
assert (Local.total, Local.items, hasattr(Local, "new"), Counter.count) == (1, [], False, 10)

class Meta(type):
    def __call__(cls, *args): return super().__call__(*args)

class WithMeta(metaclass=Meta): ...

assert type(only(lambda: WithMeta())) is WithMeta
made = only(make)
assert made.total == 1 and only(lambda cls: cls().add(), cls=made) == 2 and made.total == 1
assert only(lambda cls: cls, cls=made) is made
""")


def test_what_changed_between_two_runs_is_seen_by_warm_workers(check: Callable[[str], None]) -> None:
    check("""
LIMIT = 1
TABLE = {"a": 1}

class Settings:
    depth = 1
    def read(self): return self.depth

def helper(): return "old"

@task
def look(): return LIMIT, dict(TABLE), Settings.depth, Settings().read(), helper(), os.getpid()

*first, worker = run(look)["look"].result
assert first == [1, {"a": 1}, 1, 1, "old"]
LIMIT = 2
TABLE["b"] = 2
Settings.depth = 2
def helper(): return "new"
*second, again = run(look)["look"].result
assert second == [2, {"a": 1, "b": 2}, 2, 2, "new"], second
del TABLE["a"]
Settings.read = lambda self: "patched"
Settings.more = 1
*third, _ = run(look)["look"].result
assert third == [2, {"b": 2}, 2, "patched", "new"], third
del Settings.more
assert only(lambda: hasattr(Settings, "more")) is False
""")


def test_what_a_body_changed_is_not_seen_by_the_next_run(check: Callable[[str], None]) -> None:
    check("""
LIMIT = 1
TABLE = {"a": 1}

class Settings:
    depth = 1

def change():
    global LIMIT
    LIMIT += 1
    TABLE["b"] = 1
    Settings.depth += 1
    Settings.new = 1
    return LIMIT, len(TABLE), Settings.depth, hasattr(Settings, "new")

def look():
    return LIMIT, len(TABLE), Settings.depth, hasattr(Settings, "new")

assert only(change) == (2, 2, 2, True)
assert only(look) == (1, 1, 1, False)
assert only(change) == (2, 2, 2, True)
""")


def test_a_module_that_was_reloaded_is_seen_by_warm_workers(
    check: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / "tools.py").write_text("LIMIT = 1\ndef tool(): return LIMIT\nclass Kind: value = 1\n")
    check("""
import importlib, tools
from pathlib import Path

@task
def look(): return tools.tool(), tools.LIMIT, tools.Kind().value

assert run(look)["look"].result == (1, 1, 1)
assert only(tools.tool) == 1
Path("tools.py").write_text("LIMIT = 200\\ndef tool(): return LIMIT + 1\\nclass Kind: value = 3\\n")
importlib.invalidate_caches()
importlib.reload(tools)
assert run(look)["look"].result == (201, 200, 3), run(look)["look"].result
assert only(tools.tool) == 201
assert type(only(lambda: tools.Kind())) is tools.Kind
""")


def test_code_of_a_notebook_crosses(check: Callable[[str], None]) -> None:
    check('''
cells = {"__name__": "__main__", "run": run, "task": task, "enum": enum, "dataclass": dataclass}

def cell(text):
    exec(compile(text, "<cell>", "exec"), cells)

cell("""
@dataclass
class Point:
    x: int

class Colour(enum.Enum):
    RED = 1
""")
cell("""
def move(point): return Point(point.x + STEP)

@task
def go(point): return move(point), Colour.RED, Point
""")
cell("STEP = 1")
cell("point, colour, cls = run(go.bind(point=Point(1)))['go'].result")
assert type(cells["point"]) is cells["Point"] is cells["cls"]
assert cells["point"].x == 2 and cells["colour"] is cells["Colour"].RED
cell("STEP = 10")
cell("point, colour, cls = run(go.bind(point=Point(1)))['go'].result")
assert cells["point"].x == 11
cell("""
@dataclass
class Point:
    x: int
    y: int = 7
""")
cell("point, colour, cls = run(go.bind(point=Point(1)))['go'].result")
assert type(cells["point"]) is cells["Point"] is cells["cls"]
assert cells["point"].y == 7
''')


def test_identity_holds_over_workers_and_tasks_of_one_run(check: Callable[[str], None]) -> None:
    check("""
class Node:
    def __init__(self, value): self.value = value

def make(i): return Node(i)
def look(nodes, node): return [type(each) is Node for each in nodes], type(node) is type(nodes[0]), nodes

made = task(make).map(i=range(4))
one = task(make, name="one").bind(i=9)
looked = task(look).bind(nodes=made, node=one)
ended = run(made, one, looked, max_workers=2).raise_for_failure()
same, alike, nodes = ended["look"].result
assert same == [True] * 4 and alike
assert {type(each) for each in (*nodes, *ended["make"].result, ended["one"].result)} == {Node}

def local():  # a class that only exists in a worker, and travels on from there
    class Made:
        def __init__(self, x): self.x = x
        def __eq__(self, other): return type(self) is type(other) and self.x == other.x
        __hash__ = None
    return Made

made = task(local)
first = task(lambda cls: cls(1), name="first").bind(cls=made)
second = task(lambda cls: cls(1), name="second").bind(cls=made)
both = task(lambda a, b: (a == b, type(a)), name="both").bind(a=first, b=second)
ended = run(made, first, second, both, max_workers=2).raise_for_failure()
equal, cls = ended["both"].result
assert equal
assert cls is ended["local"].result is type(ended["first"].result) is type(ended["second"].result)
""")


def test_a_task_imported_by_the_script_travels_by_name(check: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(
        "from dotflow_like import task\n"
        "CALLS = []\n"
        "class Kind: ...\n"
        "@task\n"
        "def job(kind):\n"
        "    CALLS.append(1)\n"
        "    return type(kind) is Kind, len(CALLS), Kind, job\n"
    )
    check("""
import jobs
same, calls, kind, job = run(jobs.job.bind(kind=jobs.Kind()))["job"].result
assert (same, calls) == (True, 1) and kind is jobs.Kind and job is jobs.job
assert jobs.CALLS == []
""")


def test_a_parallel_run_works_inside_a_running_event_loop() -> None:
    async def main() -> Any:
        async def inside() -> int:
            await asyncio.sleep(0)
            return os.getpid()

        tasks = [task(inside, name="async"), task(lambda: 1, name="plain")]
        return Manager(tasks, mode="parallel", max_workers=2).raise_for_failure().results

    results = asyncio.run(main())
    assert results["plain"] == 1
    assert results["async"] != os.getpid()


def test_parallel_runs_work_inside_bodies_of_parallel_runs() -> None:
    def outer(i: int) -> Any:
        inner = task(lambda x: (x, os.getpid()), name="inner").map(x=[i, i + 1])
        return os.getpid(), Manager([inner], mode="parallel", max_workers=2)["inner"].result

    outers = task(outer, name="outer").map(i=[0, 10])
    results = Manager([outers], mode="parallel", max_workers=2).raise_for_failure()["outer"].result
    assert [[x for x, _ in inner] for _, inner in results] == [[0, 1], [10, 11]]
    for own, inner in results:
        assert own not in {os.getpid(), *(pid for _, pid in inner)}


def test_a_script_given_as_text_works(tmp_path: Path) -> None:
    program = (
        "from dotflow_like import Manager, task\n"
        "class Kind: ...\n"
        "one = task(lambda: Kind(), name='one')\n"
        "assert type(Manager([one], mode='parallel', max_workers=1)['one'].result) is Kind\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_name_that_is_gone_is_gone_in_warm_workers_too(check: Callable[[str], None]) -> None:
    check("""
LIMIT = 1

def look():
    try:
        return LIMIT
    except NameError:
        return "gone"

assert only(look) == 1
del LIMIT
assert only(look) == "gone"
LIMIT = 3
assert only(look) == 3

def set_one():
    global MADE
    MADE = 1

def see():
    return "MADE" in globals()

assert only(set_one) is None
assert only(see) is False
""")


def test_namespaces_do_not_mix(check: Callable[[str], None]) -> None:
    check("""
one, two = {"__name__": "__main__"}, {"__name__": "__main__"}
TEXT = "def helper(): return VALUE\\ndef body(): return helper(), VALUE"
for number, cells in enumerate((one, two)):
    cells["VALUE"] = number
    exec(TEXT, cells)

bodies = [task(cells["body"], name=name) for name, cells in (("a", one), ("b", two), ("c", one))]
assert dict(run(*bodies).results) == {"a": (0, 0), "b": (1, 1), "c": (0, 0)}
one["VALUE"] = 5
assert dict(run(*bodies).results) == {"a": (5, 5), "b": (1, 1), "c": (5, 5)}
""")


def test_a_run_in_a_process_that_multiprocessing_has_started(script: Callable[..., Any]) -> None:
    ended = script(
        "import multiprocessing\n"
        "from dotflow_like import Manager, task\n"
        "class Point:\n"
        "    pass\n"
        "@task\n"
        "def make():\n"
        "    return Point()\n"
        "def child():\n"
        "    run = Manager([make], mode='parallel', max_workers=1).raise_for_failure()\n"
        "    assert type(run[make].result) is Point\n"
        "if __name__ == '__main__':\n"
        "    process = multiprocessing.get_context('spawn').Process(target=child)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    assert process.exitcode == 0\n"
    )
    assert ended.returncode == 0, ended.stderr
