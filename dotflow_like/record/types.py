"""Which classes may be stored, and under which name.

Stored data names classes, never imports: what a name means is decided here, by what the program has
annotated or registered. A name nobody gave a meaning is an error, whatever the data says.
"""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import InitVar, is_dataclass
from types import SimpleNamespace
from typing import (
    Annotated,
    Any,
    ForwardRef,
    Literal,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
    overload,
)

from dotflow_like.errors import DeclarationError
from dotflow_like.model.context import Context

__all__ = ["TypeRegistry", "register", "registered"]

MAIN = frozenset({"__main__", "__mp_main__"})
"""What the module of a script is called in its own process; the latter in a child of multiprocessing."""

_T = TypeVar("_T", bound=type)


class TypeRegistry:
    """The classes a codec may write and restore, each with its stored name.

    It holds dataclasses, enums, named tuples and pydantic models. It can be pickled (with cloudpickle
    also when its classes live in a script), so that another process knows the same names.
    """

    def __init__(self) -> None:
        self._types: dict[str, type] = {}
        self._names: dict[type, str] = {}
        self._unread: list[type] = []  # classes whose own annotations have not been resolved yet

    def add(self, cls: type, *, name: str | None = None) -> None:
        """Make a class storable.

        The types its own fields are annotated with are added too, when one of them is first asked for.
        A class of the same module and name takes the place of an earlier one (a notebook's cell run
        again); a class added under two names is written under the later and read under both.

        Args:
            cls: a dataclass, enum, named tuple or pydantic model.
            name: the stored name. Default: the one given to `register`, else `module:qualname`.

        Raises:
            DeclarationError: the class is of no such kind, or another class has the name.
        """
        if not isinstance(cls, type) or kind_of(cls) is None:
            raise DeclarationError(
                f"{cls!r} cannot be registered: what can be stored by name is a dataclass, an Enum, "
                "a NamedTuple or a pydantic model"
            )
        if name is not None and (not isinstance(name, str) or not name):
            raise DeclarationError(f"the stored name of {cls.__qualname__} must be a text, not {name!r}")
        name = name or self._names.get(cls) or registered._names.get(cls) or default_name(cls)
        taken = self._types.get(name)
        if taken is not None and taken is not cls and default_name(taken) != default_name(cls):
            raise DeclarationError(
                f"{cls.__qualname__} cannot be stored as {name!r}: that is the name of "
                f"{default_name(taken)}. Give one of them another `name=`"
            )
        if cls not in self._names:
            self._unread.append(cls)
        self._types[name] = cls
        self._names[cls] = name

    def collect(self, annotation: object) -> None:
        """Add every storable class an annotation mentions, and those their fields mention.

        Args:
            annotation: a type or any form `typing` knows. What cannot be resolved (yet) is passed over.
        """
        todo: list[object] = [annotation]
        seen: dict[int, object] = {}  # the values keep the ids from being used again
        while todo:
            item = todo.pop()
            if id(item) in seen:
                continue
            seen[id(item)] = item
            if not isinstance(item, type):
                todo += _parts(item)
            elif kind_of(item):
                if item not in self._names:
                    self.add(item)
                if item in self._unread:
                    hints, complete = _hints(item)
                    todo += hints
                    if complete:
                        self._unread.remove(item)
            elif is_typeddict(item):
                todo += _hints(item)[0]

    def collect_from(self, function: Callable[..., Any]) -> None:
        """Add every storable class the annotations of a function mention."""
        code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None) or ()
        around: dict[str, Any] = {}
        for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
            with suppress(ValueError):  # not filled yet
                around[name] = cell.cell_contents
        for annotation in getattr(function, "__annotations__", {}).values():
            for hint in _resolve(annotation, getattr(function, "__globals__", {}), around)[0]:
                self.collect(hint)

    def name_of(self, cls: type) -> str | None:
        """Return the name instances of `cls` are stored under; None when it is not known here."""
        if cls not in self._names:
            self._read_on()
        return self._names.get(cls)

    def type_of(self, name: str) -> type | None:
        """Return the class a stored name means; None when it is not known here."""
        if name not in self._types:
            self._read_on()
        return self._types.get(name)

    def update(self, other: TypeRegistry) -> None:
        """Take over all of another registry's classes and names."""
        self._types.update(other._types)
        self._names.update(other._names)
        self._unread += other._unread

    def __iter__(self) -> Iterator[type]:
        """Iterate over the known classes."""
        self._read_on()
        return iter(list(self._names))

    def __contains__(self, cls: object) -> bool:
        return isinstance(cls, type) and self.name_of(cls) is not None

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _read_on(self) -> None:
        """Resolve what is left of the annotations: by now the names they use may be defined."""
        for cls in list(self._unread):
            self.collect(cls)


@overload
def register(cls: _T, *, name: str | None = None) -> _T: ...
@overload
def register(cls: None = None, *, name: str | None = None) -> Callable[[_T], _T]: ...
def register(cls: type | None = None, *, name: str | None = None) -> Any:
    """Make a class storable: a decorator, with or without a name.

    The types its fields are annotated with become storable too. A name of your own lets the class move
    to another module without losing what is stored.

    Args:
        cls: a dataclass, enum, named tuple or pydantic model; write `@register` above `@dataclass`.
        name: the stored name. Default `module:qualname`.

    Returns:
        The class itself.

    Raises:
        DeclarationError: the class is of no such kind, or another class has the name.
    """
    if cls is None:
        return lambda cls: register(cls, name=name)
    registered.add(cls, name=name)
    return cls


def kind_of(cls: type) -> Literal["dataclass", "enum", "namedtuple", "model"] | None:
    """Return which kind of storable class this is; None when it is of no such kind."""
    if issubclass(cls, enum.Enum):
        return "enum"
    if is_dataclass(cls):
        return "dataclass"
    if issubclass(cls, tuple):
        return "namedtuple" if hasattr(cls, "_fields") and hasattr(cls, "_make") else None
    # A model cannot exist before pydantic is loaded, so there is never a reason to load it here.
    pydantic = sys.modules.get("pydantic.main")
    return "model" if pydantic is not None and issubclass(cls, pydantic.BaseModel) else None


def default_name(cls: type) -> str:
    """Return `module:qualname`, where a script has the name an import of it would have."""
    module = script_name() if cls.__module__ in MAIN else cls.__module__
    return f"{module}:{cls.__qualname__}"


def script_name() -> str:
    """Return the name an import of this process's script would have; `__main__` where there is no script."""
    main = sys.modules.get("__main__")
    if spec := getattr(main, "__spec__", None):
        return str(spec.name)
    # when a script has come to its end, and work in the background goes on, it has no `__file__` any more
    file = getattr(main, "__file__", None) or getattr(getattr(main, "__loader__", None), "path", None)
    return os.path.splitext(os.path.basename(file))[0] if file else "__main__"


def _parts(annotation: object) -> list[object]:
    """Return the annotations inside one that is no class."""
    if isinstance(annotation, (list, tuple)):  # the arguments of a Callable
        return list(annotation)
    if isinstance(annotation, TypeVar):
        default = getattr(annotation, "__default__", None)
        return [annotation.__bound__, *annotation.__constraints__, default]
    if isinstance(annotation, InitVar):
        return [annotation.type]
    if isinstance(annotation, ForwardRef):
        module = sys.modules.get(getattr(annotation, "__forward_module__", None) or "")
        return _resolve(annotation, vars(module), {})[0] if module else []
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [type(value) for value in args]
    if origin is Annotated:
        return [args[0]]
    parts: list[object] = [origin, *args]
    for attribute in ("__supertype__", "__value__"):  # of a NewType, of a `type X = ...`
        with suppress(Exception):  # a lazy alias may fail in any way: passed over, like all unresolved
            parts.append(getattr(annotation, attribute))
    return parts


def _hints(cls: type) -> tuple[list[object], bool]:
    """Return the annotations of a class's fields, and whether all of them could be resolved."""
    if issubclass(cls, enum.Enum):
        return [], True  # members are stored by name
    hints = [field.annotation for field in getattr(cls, "__pydantic_fields__", {}).values()]
    try:
        return [*hints, *get_type_hints(cls, include_extras=True).values()], True
    except Exception:  # one unknown name fails them all: take them one by one
        complete = True
    for owner in cls.__mro__[:-1]:
        try:
            raw = getattr(owner, "__annotations__", {})
        except Exception:
            raw, complete = {}, False
        names = vars(sys.modules.get(owner.__module__, SimpleNamespace()))
        for annotation in raw.values():
            found, resolved = _resolve(annotation, names, {**vars(owner), owner.__name__: owner})
            hints += found
            complete = complete and resolved
    return hints, complete


def _resolve(annotation: object, names: dict[str, Any], more: dict[str, Any]) -> tuple[list[object], bool]:
    holder: Any = SimpleNamespace(__annotations__={"hint": annotation})
    try:
        return list(get_type_hints(holder, {**more, **names}, more, include_extras=True).values()), True
    except Exception:
        return [], False


registered = TypeRegistry()
"""What `register` fills; every codec looks here too."""

registered.add(Context, name="Context")
