"""Copies of functions, classes and context variables keep their identity from process to process and back."""

from __future__ import annotations

import abc
import builtins
import enum
import gc
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dotflow_like.execute.workers.pickling import dumps, loads
from dotflow_like.execute.workers.process import Worker

if TYPE_CHECKING:
    from tests.unit.execute.workers.conftest import Talk

Abroad = Callable[[Callable[[], Any]], Any]


def joined(value: object) -> tuple[bytes, list[Any]]:
    dumped = dumps(value)
    return b"".join(dumped.chunks), dumped.buffers


def there_and_back(value: object) -> Any:
    return loads(*joined(value))


MODULES = {
    "steps_to_pickle": """
from dotflow_like import task
count = 0
@task
def step():
    global count
    count += 1
    return count
""",
    "variables_to_pickle": """
from contextvars import ContextVar
same = ContextVar("same", default="unset")
named_otherwise = ContextVar("a name", default="unset")
def read():
    return same.get(), named_otherwise.get()
""",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of modules that both sides can import."""
    made = tmp_path_factory.mktemp("modules")
    for name, text in MODULES.items():
        (made / f"{name}.py").write_text(text)
    return made


@pytest.fixture(scope="module")
def process(folder: Path) -> Iterator[Worker]:  # made later than they are, else it would end to see them anew
    worker = Worker()
    yield worker
    worker.kill()
    worker.forget()


@pytest.fixture
def abroad(process: Worker, folder: Path, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Abroad]:
    """A function that calls another one in another process, which stays the same for the test."""
    monkeypatch.syspath_prepend(str(folder))
    yield lambda body: talk.run(process, body)
    talk.end(process)


_level = "home"


def test_a_function_that_comes_home_is_itself(abroad: Abroad) -> None:
    def local() -> None: ...

    unnamed = lambda: None  # noqa: E731
    assert abroad(lambda: local) is local
    assert abroad(lambda: [unnamed, {"key": unnamed}]) == [unnamed, {"key": unnamed}]


def test_what_happens_to_a_function_abroad_changes_nothing_at_home(abroad: Abroad) -> None:
    count = 0

    def step() -> tuple[int, str]:
        nonlocal count
        global _level
        count += 1
        _level += "!"
        step.mark = "abroad"  # type: ignore[attr-defined]
        return count, _level

    def body() -> Any:
        return [step(), step(), step]

    first, second, back = abroad(body)
    assert (first, second) == ((1, "home!"), (2, "home!!"))
    assert back is step
    assert count == 0
    assert _level == "home"
    assert not hasattr(step, "mark")


def test_what_happens_to_a_class_abroad_changes_nothing_at_home(abroad: Abroad) -> None:
    class Thing:
        kind = "home"

        def method(self) -> str:
            return self.kind

    thing = Thing()

    def body() -> Any:
        Thing.kind = "abroad"
        Thing.more = 1  # type: ignore[attr-defined]
        return Thing, thing, thing.method()

    back, one, said = abroad(body)
    assert said == "abroad"
    assert back is Thing
    assert type(one) is Thing
    assert one.method() == Thing.kind == "home"
    assert not hasattr(Thing, "more")


def test_a_copy_abroad_is_one_and_has_the_newest_state(abroad: Abroad) -> None:
    class Thing:
        kind = "old"

    value = "old"

    def read() -> tuple[str, str]:
        return value, Thing.kind

    def kept() -> bool:
        same = getattr(builtins, "kept", (read, Thing)) == (read, Thing)
        builtins.kept = read, Thing  # type: ignore[attr-defined]
        return same

    assert abroad(kept)
    assert abroad(lambda: builtins.kept[0]()) == ("old", "old")  # type: ignore[attr-defined]
    value = Thing.kind = "new"
    assert abroad(kept), "it is the same, for one who kept it"
    assert abroad(lambda: builtins.kept[0]()) == ("new", "new")  # type: ignore[attr-defined]


def test_after_a_run_copies_are_made_anew(abroad: Abroad, process: Worker, talk: Talk) -> None:
    class Thing:
        pass

    def body() -> bool:
        same = getattr(builtins, "last", None) is Thing
        builtins.last = Thing  # type: ignore[attr-defined]
        Thing.mark = 1  # type: ignore[attr-defined]
        return same

    assert not abroad(body)
    assert abroad(body)
    talk.end(process)
    assert not abroad(lambda: hasattr(Thing, "mark"))
    assert not abroad(body)


def test_what_was_made_abroad_stays_the_same_on_its_way_back_and_forth(abroad: Abroad) -> None:
    def make() -> Any:
        class Local:
            pass

        builtins.made = Local, lambda: Local  # type: ignore[attr-defined]
        return builtins.made  # type: ignore[attr-defined]

    cls, function = abroad(make)
    assert function() is cls
    assert abroad(lambda: builtins.made == (cls, function))  # type: ignore[attr-defined]
    assert abroad(lambda: cls) is cls
    assert abroad(lambda: [function, cls()])[0] is function
    assert type(abroad(lambda: cls())) is cls


def test_functions_of_one_namespace_have_one_abroad(abroad: Abroad) -> None:
    space: dict[str, Any] = {"__name__": "__main__", "count": 0}
    code = """
def step():
    global count
    count += 1
def read():
    return count
"""
    exec(code, space)
    step, read = space["step"], space["read"]
    assert abroad(lambda: (step(), step(), read())) == (None, None, 2)
    assert read() == 0


def test_namespaces_that_have_come_and_gone_do_not_mix(abroad: Abroad) -> None:
    """One that is made when another is gone may lie where that one lay."""
    said = []
    for number in range(20):
        space: dict[str, Any] = {"__name__": "generated", "number": number}
        exec("def read(): return number", space)
        read = space.pop("read")
        said.append(abroad(lambda read=read: read()))
        del read
    assert said == list(range(20))


@pytest.mark.parametrize("what", ["function", "class"])
def test_what_was_forgotten_where_it_was_made_is_made_anew_there(what: str) -> None:
    """A task returns a function of its own; the next one gets it in the same process, where the first is gone."""

    def make() -> Any:
        n = 5

        class Local:
            def method(self) -> int:
                return n

        return (lambda: n) if what == "function" else Local

    data, buffers = joined(made := make())
    del made
    gc.collect()
    again = loads(data, buffers)
    assert (again() if what == "function" else again().method()) == 5
    assert loads(data, buffers) is again


def test_a_function_that_could_not_be_loaded_whole_is_loaded_the_next_time(abroad: Abroad) -> None:
    class Fails:
        def __reduce__(self) -> Any:
            return fails, ()

    def fails() -> Any:
        if getattr(builtins, "failing", True):
            raise RuntimeError("not yet")
        return "loaded"

    held = Fails()

    def function() -> Any:
        return held

    data, buffers = joined(function)

    def load() -> Any:
        builtins.failing = True  # type: ignore[attr-defined]
        text = ""
        try:
            loads(data, buffers)
        except RuntimeError as error:
            text = str(error)
        builtins.failing = False  # type: ignore[attr-defined]
        return text, loads(data, buffers)()

    assert abroad(load) == ("not yet", "loaded")


def local_classes() -> dict[str, Any]:
    @dataclass
    class Data:
        x: int
        y: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Slotted:
        x: int
        y: str = "y"

    class Slots:
        __slots__ = ("__hidden", "x")

        def __init__(self) -> None:
            self.x, self.__hidden = 1, 2

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Slots) and (self.x, self.__hidden) == (other.x, other.__hidden)

        __hash__ = None  # type: ignore[assignment]

    class Colour(enum.Enum):
        RED = 1
        GREEN = "g"

        def loud(self) -> str:
            return self.name

    class Flags(enum.IntFlag):
        A = 1
        B = 2

    class Point(NamedTuple):
        x: int
        y: int = 2

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def method(self) -> int: ...

    class Base(Abstract):
        def method(self) -> int:
            return 1

    class Derived(Base):
        def __eq__(self, other: object) -> bool:
            return type(other) is type(self)

        __hash__ = None  # type: ignore[assignment]

        def method(self) -> int:
            return super().method() + 1

        @classmethod
        def named(cls) -> str:
            return cls.__name__

        @property
        def double(self) -> int:
            return self.method() * 2

    class Number(int):
        pass

    made = Derived()
    assert made.double == 4
    return {
        "dataclass": Data(1, [2]),
        "frozen slots": Slotted(1),
        "slots": Slots(),
        "enum": Colour.RED,
        "flags": Flags.A | Flags.B,
        "named tuple": Point(1),
        "derived": made,
        "number": Number(5),
    }


@pytest.mark.parametrize("kind", list(local_classes()))
def test_instances_of_local_classes_come_home_as_what_they_are(abroad: Abroad, kind: str) -> None:
    value = local_classes()[kind]
    cls = type(value)
    back, same = abroad(lambda: (value, type(value) is cls))
    assert same
    assert type(back) is cls
    assert back == value
    if isinstance(value, enum.Enum) and kind == "enum":
        assert back is value


def test_they_work_abroad(abroad: Abroad) -> None:
    values = local_classes()
    derived, slots, colour, data = (values[name] for name in ("derived", "slots", "enum", "dataclass"))

    def body() -> Any:
        slots.x = 5
        refused = False
        try:
            slots.other = 1
        except AttributeError:
            refused = True
        return derived.double, type(derived).named(), refused, colour.loud(), type(data)(3).y

    assert abroad(body) == (4, "Derived", True, "RED", [])
    assert slots.x == 1


def test_classes_that_call_themselves_equal_are_two() -> None:
    class Alike(type):
        def __eq__(cls, other: object) -> bool:
            return isinstance(other, Alike)

        def __hash__(cls) -> int:
            return 1

    class One(metaclass=Alike):
        pass

    class Other(metaclass=Alike):
        pass

    back = there_and_back([One, Other])
    assert back[0] is One
    assert back[1] is Other


def test_a_metaclass_of_ones_own_crosses(abroad: Abroad) -> None:
    class Loud(type):
        def shout(cls) -> str:
            return cls.__name__.upper()

    class Thing(metaclass=Loud):
        pass

    assert abroad(lambda: (Thing.shout(), type(Thing).__name__)) == ("THING", "Loud")
    assert abroad(lambda: Thing) is Thing


def test_a_fork_names_what_it_makes_differently() -> None:
    """Else the second function each side makes after a fork would be taken for one."""
    dumps(lambda: None)
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, b"".join(dumps(lambda: "the child's").chunks))
        finally:
            os._exit(0)
    os.close(writing)
    mine = lambda: "mine"  # noqa: E731
    dumps(mine)
    with os.fdopen(reading, "rb") as file:
        theirs = loads(file.read())
    os.waitpid(pid, 0)
    assert (mine(), theirs()) == ("mine", "the child's")


def test_a_decorated_function_of_a_module_goes_as_what_its_task_has(abroad: Abroad) -> None:
    steps_to_pickle = importlib.import_module("steps_to_pickle")
    function = steps_to_pickle.step.fn
    assert there_and_back(function) is function
    assert abroad(lambda: (function(), function(), steps_to_pickle.count)) == (1, 2, 2), (
        "it has its module's globals"
    )


# Context variables


def test_a_variable_of_a_module_is_the_one_there(abroad: Abroad) -> None:
    module = importlib.import_module("variables_to_pickle")
    variables = [module.same, module.named_otherwise]

    def body() -> Any:
        for number, variable in enumerate(variables):
            variable.set(number)
        return module.read(), variables

    said, back = abroad(body)
    assert said == (0, 1)
    assert back[0] is module.same
    assert back[1] is module.named_otherwise
    assert module.read() == ("unset", "unset")


def test_a_variable_of_nobody_goes_by_value_and_keeps_its_identity(abroad: Abroad) -> None:
    plain: ContextVar[str] = ContextVar("plain")
    other: ContextVar[str] = ContextVar("plain")
    default: ContextVar[int] = ContextVar("default", default=1)

    def body() -> Any:
        try:
            plain.get()
        except LookupError:
            plain.set("abroad")
        known = getattr(builtins, "known", plain) is plain
        builtins.known = plain  # type: ignore[attr-defined]  # a module of the other side has it now
        return known, plain is other, default.get(), plain, other, default

    for _ in range(2):
        known, same, value, *back = abroad(body)
        assert (known, same, value) == (True, False, 1)
        assert [a is b for a, b in zip(back, (plain, other, default), strict=True)] == [True] * 3
    assert Context().run(plain.get, "nothing") == "nothing"


def test_so_does_one_of_the_main_module(abroad: Abroad, monkeypatch: pytest.MonkeyPatch) -> None:
    variable: ContextVar[int] = ContextVar("variable", default=7)
    monkeypatch.setattr(sys.modules["__main__"], "variable", variable, raising=False)
    assert abroad(lambda: (variable.get(), variable)) == (7, variable)


def test_a_variable_made_abroad_is_one_here(abroad: Abroad) -> None:
    def make() -> Any:
        if not hasattr(builtins, "variables_made"):
            builtins.variables_made = [ContextVar("made")]  # type: ignore[attr-defined]
        return builtins.variables_made[0]  # type: ignore[attr-defined]

    first = abroad(make)
    assert first.name == "made"
    assert abroad(make) is first
    assert abroad(lambda: first is builtins.variables_made[0])  # type: ignore[attr-defined]
