"""Where in a body something is saved: in all of it, or in what it does with one item of an iteration.

Steps and iterations of one name are told apart by the order of their calls. What is called for an item is
counted anew for each: the item that a later attempt goes on with is the first it sees, and not the first there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from itertools import count
from weakref import ReferenceType, ref

__all__ = ["Place", "Root", "begin", "within"]


class Place:
    """A part of a body in which names are counted.

    Args:
        root: that of the whole body; None for itself.
        path: what the names of what is saved in it begin with.

    Attributes:
        used: something was counted in it.
    """

    __slots__ = ("__weakref__", "_counts", "_root", "path", "used")

    def __init__(self, root: Root | None = None, path: str = "") -> None:
        self._root: ReferenceType[Place] = ref(self if root is None else root)
        self._counts: dict[str, count[int]] = {}
        self.path = path
        self.used = False

    def numbered(self, name: str) -> str:
        """Return `name` as it is called here for this time, unlike any other in the body."""
        self.used = True
        number = next(
            self._counts.setdefault(name, count(1))
        )  # no lock, in which a signal handler could be stuck
        if "%" in name or "#" in name:
            name = name.replace("%", "%25").replace("#", "%23")  # each part of a path ends with its number
        return f"{self.path}{name}#{number}"


class Root(Place):
    """The whole body of one attempt."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        super().__init__()
        self._open: list[Place] = []  # of iterations, in the middle of an item

    def current(self) -> Place:
        """Return where the code that asks is."""
        for place in reversed(_entered.get()):
            if place._root() is self:
                return place
        # a thread knows nothing of the code that started it, unless it was told: most likely it works for the item
        return self if _is_told.get() or not self._open else self._open[-1]

    def enter(self, path: str) -> Place:
        """Return a new place, in which this code, and what it calls, is from now on."""
        place = Place(self, path)
        self._open.append(place)
        self._be_in(place)
        return place

    def leave(self, place: Place, back: Place) -> None:
        """Go back from a place to where the code was before."""
        if place in self._open:
            self._open.remove(place)
        self._be_in(back)

    def _be_in(self, place: Place) -> None:
        entered = tuple([each for each in _entered.get() if each._root() not in (None, self)])
        _entered.set(entered if place is self else (*entered, place))


def begin() -> None:
    """Note that code of a body follows: it is in all of the body, and so is what it calls, until it is told more."""
    _is_told.set(True)


def within(path: str, names: Iterable[str]) -> list[str]:
    """Return those of the names of checkpoints that were made at a path, or further in."""
    return [name for name in names if name.startswith((f"step/{path}", f"cursor/{path}"))]


_entered: ContextVar[tuple[Place, ...]] = ContextVar("dotflow_like_places", default=())
"""Where this code is, for each body it is in: one may run others."""
_is_told: ContextVar[bool] = ContextVar("dotflow_like_in_body", default=False)
