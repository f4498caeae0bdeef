"""Which classes may be stored, and under which name."""

from __future__ import annotations

import enum
import subprocess
import sys
import types as python_types
import typing
from dataclasses import InitVar, dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar

import cloudpickle
import pydantic
import pytest

from dotflow_like.errors import DeclarationError
from dotflow_like.model.context import Context
from dotflow_like.record.types import TypeRegistry, default_name, register, registered

T = TypeVar("T")


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    colour: Colour


@dataclass
class Leaf:
    n: int


@dataclass
class Tree:
    leaves: list[Leaf]
    parent: Tree | None = None
    forest: Forest | None = None


@dataclass
class Forest:
    trees: dict[str, Tree]
    corner: Point


@dataclass
class Box(Generic[T]):
    item: T


class Model(pydantic.BaseModel):
    leaf: Leaf
    colours: list[Colour] = []


class Row(TypedDict):
    leaf: Leaf


LeafId = NewType("LeafId", Leaf)
Bound = TypeVar("Bound", bound=Leaf)
Constrained = TypeVar("Constrained", Leaf, Point)


def collected(annotation: object) -> set[type]:
    types = TypeRegistry()
    types.collect(annotation)
    return set(types)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (None, set()),
        (int, set()),
        (Any, set()),
        (..., set()),
        ("Leaf", set()),
        (typing.ForwardRef("Nowhere"), set()),
        (typing.ForwardRef("Leaf", module=__name__), {Leaf}),
        (Leaf, {Leaf}),
        (Leaf | None, {Leaf}),
        (Optional[Leaf], {Leaf}),  # noqa: UP045
        (typing.Union[Leaf, Colour], {Leaf, Colour}),  # noqa: UP007
        (list[Leaf], {Leaf}),
        (python_types.GenericAlias(list, (typing.ForwardRef("Leaf", module=__name__),)), {Leaf}),
        (dict[Point, list[Leaf]], {Point, Colour, Leaf}),
        (tuple[Leaf, ...], {Leaf}),
        (Annotated[Leaf, Colour], {Leaf}),
        (Literal[Colour.RED, 3], {Colour}),
        (LeafId, {Leaf}),
        (python_types.GenericAlias(list, (Bound,)), {Leaf}),
        (Constrained, {Leaf, Point, Colour}),
        (typing.Callable[[Leaf], Colour], {Leaf, Colour}),
        (typing.Final[Leaf], {Leaf}),
        (InitVar[Leaf], {Leaf}),
        (Box[Leaf], {Box, Leaf}),
        (list[Box[Leaf]], {Box, Leaf}),
        (Row, {Leaf}),
        (Model, {Model, Leaf, Colour}),
        (Tree, {Tree, Forest, Leaf, Point, Colour}),
    ],
)
def test_collect_walks_an_annotation(annotation: object, expected: set[type]) -> None:
    assert collected(annotation) == expected


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` statements came with 3.12")
def test_collect_walks_a_type_alias() -> None:
    names: dict[str, Any] = {"Leaf": Leaf}
    exec("type Leaves = list[Leaf] | list[Leaves]\ntype Broken = Missing", names)
    assert collected(names["Leaves"]) == {Leaf}
    assert collected(names["Broken"]) == set()


def test_one_unresolvable_field_does_not_hide_the_others() -> None:
    @dataclass
    class Partly:
        bad: Missing  # type: ignore[name-defined]  # noqa: F821
        good: Leaf
        own: list[Partly]

    assert collected(Partly) == {Partly, Leaf}


def test_a_name_defined_later_is_found_when_it_is_asked_for() -> None:
    module: dict[str, Any] = {"dataclass": dataclass, "__name__": "late_names"}
    sys.modules["late_names"] = type(sys)("late_names")
    vars(sys.modules["late_names"]).update(module)
    module = vars(sys.modules["late_names"])
    try:
        exec("@dataclass\nclass Early:\n    late: 'Late'", module)
        types = TypeRegistry()
        types.collect(module["Early"])
        assert set(types) == {module["Early"]}
        exec("@dataclass\nclass Late:\n    n: int", module)
        assert types.name_of(module["Late"]) == "late_names:Late"
        assert types.type_of("late_names:Late") is module["Late"]
    finally:
        del sys.modules["late_names"]


def test_names_default_to_module_and_qualname() -> None:
    types = TypeRegistry()
    types.add(Leaf)
    assert types.name_of(Leaf) == f"{__name__}:Leaf"
    assert types.type_of(f"{__name__}:Leaf") is Leaf
    assert types.name_of(Point) is None
    assert types.type_of("os:system") is None
    assert Leaf in types
    assert Point not in types
    assert len(types) == 1


def test_a_class_under_two_names_is_written_under_the_later_and_read_under_both() -> None:
    types = TypeRegistry()
    types.add(Leaf, name="old")
    types.add(Leaf, name="new")
    types.add(Leaf)
    assert types.name_of(Leaf) == "new"
    assert types.type_of("old") is types.type_of("new") is Leaf
    assert list(types) == [Leaf]


def test_a_class_defined_again_takes_the_place_of_the_earlier() -> None:
    def define() -> type:
        @dataclass
        class Cell:
            n: int

        return Cell

    first, second = define(), define()
    types = TypeRegistry()
    types.add(first)
    types.add(second)
    assert types.type_of(default_name(first)) is second
    assert types.name_of(first) == types.name_of(second)


def test_another_class_cannot_have_a_taken_name() -> None:
    types = TypeRegistry()
    types.add(Leaf, name="thing")
    with pytest.raises(DeclarationError, match=r"'thing'.*Leaf"):
        types.add(Point, name="thing")


def test_the_name_given_to_register_wins_over_what_an_annotation_would_give() -> None:
    @register(name="test_types.named")
    @dataclass
    class Named:
        n: int

    types = TypeRegistry()
    types.collect(list[Named])
    assert types.name_of(Named) == "test_types.named"


def test_register_returns_the_class_and_makes_its_fields_storable() -> None:
    @dataclass
    class Inner:
        n: int

    @register
    @dataclass
    class Outer:
        inner: Inner

    assert registered.type_of(default_name(Outer)) is Outer
    # A local name cannot be resolved from text; one of the module can.
    register(Forest)
    assert {Tree, Leaf, Point, Colour} <= set(registered)


@pytest.mark.parametrize("thing", [int, object, list, type("Plain", (), {}), Leaf(1), len, Row])
def test_register_refuses_what_has_no_stored_form(thing: Any) -> None:
    with pytest.raises(DeclarationError, match="dataclass, an Enum"):
        register(thing)


@pytest.mark.parametrize("name", ["", 3])
def test_a_stored_name_is_a_text(name: Any) -> None:
    with pytest.raises(DeclarationError, match="must be a text"):
        TypeRegistry().add(Leaf, name=name)


def test_context_is_always_known() -> None:
    assert registered.name_of(Context) == "Context"


def test_a_registry_survives_cloudpickle_with_local_classes() -> None:
    @dataclass
    class Local:
        n: int

    types = TypeRegistry()
    types.add(Local, name="local")
    types.collect(Tree)
    copy = cloudpickle.loads(cloudpickle.dumps(types))
    assert [default_name(cls) for cls in copy] == [default_name(cls) for cls in types]
    assert copy.type_of("local").__qualname__ == Local.__qualname__


def test_update_takes_over_names_and_aliases() -> None:
    types, other = TypeRegistry(), TypeRegistry()
    other.add(Leaf, name="old")
    other.add(Leaf, name="new")
    types.update(other)
    assert types.name_of(Leaf) == "new"
    assert types.type_of("old") is Leaf


def test_a_script_and_an_import_of_it_agree_on_names(tmp_path: Any) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").touch()
    code = (
        "import enum\nfrom dotflow_like.record.types import default_name\n"
        "class Kind(enum.Enum):\n    A = 1\nprint(default_name(Kind))\n"
    )
    for path in ("script.py", "pack/inner.py"):
        (tmp_path / path).write_text(code)

    def output(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        environment = {"PYTHONPATH": ":".join([str(tmp_path), *filter(None, sys.path)])}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert output("script.py") == output("-c", "import script") == "script:Kind"
    assert output("-m", "pack.inner") == output("-c", "import pack.inner") == "pack.inner:Kind"
    assert output("-c", code) == "__main__:Kind"
