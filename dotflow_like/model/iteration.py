"""An iteration that later attempts go on with: what `ctx.iterate` returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import isnan
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar

from dotflow_like.errors import NotSerializable
from dotflow_like.model.places import Place, within
from dotflow_like.model.running import Running

__all__ = ["Iteration"]

T = TypeVar("T")

_NONE: Final[Any] = object()
_POSITION, _CURSOR, _END = "position", "cursor", "end"
"""What a saved cursor says: how many items are done; that of the last one; that all are."""


class Iteration(Iterator[T], Generic[T]):
    """Gives items, and keeps which of them are done. For one thread at a time.

    An item is done when the next one is asked for. Before each the attempt looks at whether it was asked to
    stop, and raises the signal if it was.
    """

    def __init__(
        self,
        running: Running,
        check: Callable[[], None],
        items: Iterable[T] | Callable[[Any], Iterable[T]],
        cursor: Callable[[T], Any] | str | None,
        name: str,
    ) -> None:
        self._given = items
        self._is_called = callable(items) and not isinstance(items, Iterable)
        self._cursor_of = _checked(items, cursor, is_called=self._is_called)
        self._running = running
        self._check = check
        self._saved = saved = running.saved()
        self._back = saved.root.current()  # where the loop is
        self._path = f"{self._back.numbered(name)}/"
        self._key = f"cursor/{self._path[:-1]}"
        self._place: Place | None = None  # in the middle of an item
        self._items: Iterator[T] | None = None
        self._at: Any = _NONE  # how many are done, or the cursor of the last; until the first: not known
        self._next: Any = _NONE  # what `_at` is when the item that was given is done
        self._has_begun = self._is_over = False
        self._is_stale = False  # an earlier attempt has been in the middle of the item that comes next

    def __iter__(self) -> Iteration[T]:
        return self

    def __next__(self) -> T:
        """Return the next item; the one before is done.

        Raises:
            Signal: the attempt was asked to stop.
            ValueError: cursors do not ascend.
        """
        if self._items is None and not self._is_over:
            self._begin()
        else:
            self._end_item()
        self._check()
        if self._items is None:
            raise StopIteration
        try:
            item = next(self._items)
            self._next = self._after(item)
        except StopIteration:
            self._items, self._is_over = None, True
            self._keep([_END, None if self._at is _NONE else self._at])
            raise
        self._place = self._saved.root.enter(self._path)
        return item

    def rewind(self) -> None:
        """Forget what is done, also for later attempts: the next item is the first.

        Raises:
            TypeError: the items come from an iterator that has begun, and gives each of them once.
        """
        if self._has_begun and isinstance(self._given, Iterator):
            raise TypeError(
                f"ctx.iterate: an iterator ({type(self._given).__name__}) gives its items once, and cannot be rewound; "
                "give a list, or a function that returns the items"
            )
        self._leave()
        self._saved.drop([each for each in self._saved.names() if each == self._key or self._is_within(each)])
        self._items, self._at, self._next = None, _NONE, _NONE
        self._has_begun = self._is_over = self._is_stale = False

    def _begin(self) -> None:
        """Find out what is done."""
        saved = self._saved
        try:
            kind, at = saved.load(self._key)
        except KeyError:
            kind, at = None, _NONE
        expected = _POSITION if self._cursor_of is None else _CURSOR
        if kind == _END:
            self._is_over = True
            return
        if kind not in (None, expected):
            raise ValueError(
                f"ctx.iterate: {self._key.removeprefix('cursor/')} was left at a {kind}, and is gone on with by "
                f"{expected}: give cursor= as before, or use rewind() to begin with the first item"
            )
        # what was made for it by code that was another one is not to pass for that of the next item
        self._is_stale = any(map(self._is_within, saved.names()))
        self._at = at
        self._items = self._rest()

    def _rest(self) -> Iterator[T]:
        """Return an iterator over what is not done."""
        given: Any = self._given
        at = self._at
        self._has_begun = True
        if self._is_called:
            given = given(None if at is _NONE else at)
            if not isinstance(given, Iterable):
                raise TypeError(
                    f"ctx.iterate: the function has returned {type(given).__name__}; return an iterable"
                )
        elif self._cursor_of is None and at is not _NONE:
            return _from(given, at) if isinstance(given, Sequence) else islice(given, at, None)
        if self._cursor_of is None or at is _NONE:
            return iter(given)
        return self._later(given, at)

    def _later(self, given: Iterable[T], at: Any) -> Iterator[T]:
        """Leave out the items that are done."""
        cursor_of = self._cursor_of
        assert cursor_of is not None, "positions are not compared"
        items = iter(given)
        for item in items:
            if not cursor_of(item) <= at:
                yield item
                yield from items

    def _after(self, item: T) -> Any:
        """Return what is kept when an item is done."""
        at = self._at
        if self._cursor_of is None:
            return 1 if at is _NONE else at + 1
        cursor = self._cursor_of(item)
        if cursor is None or (isinstance(cursor, float) and isnan(cursor)):
            raise ValueError(f"ctx.iterate: the cursor of an item is {cursor!r}, which cannot be compared")
        if at is not _NONE and not at < cursor:
            raise ValueError(
                f"ctx.iterate: the cursor {cursor!r} comes after {at!r}; cursors have to ascend, each greater than the "
                "one before: sort the items, and make it a tuple with their id if several have the same"
            )
        return cursor

    def _end_item(self) -> None:
        """Note that the item that was given last is done."""
        self._leave()
        if self._next is not _NONE:
            at, self._next = self._next, _NONE
            self._keep([_POSITION if self._cursor_of is None else _CURSOR, at])
            self._at = at

    def _keep(self, cursor: list[Any]) -> None:
        """Save the cursor, and with it forget what was saved for the item that is done."""
        done: list[str] = []
        if self._is_stale:
            done = [each for each in self._saved.names() if self._is_within(each)]
        try:
            self._saved.save(self._key, cursor, dropping=done, lazily=True)
        except NotSerializable as error:
            raise NotSerializable(f"ctx.iterate: the cursor of an item, {cursor[1]!r}: {error}") from error
        self._is_stale = False

    def _leave(self) -> None:
        place, self._place = self._place, None
        if place is not None:
            self._is_stale = self._is_stale or place.used
            self._saved.root.leave(place, self._back)

    def _is_within(self, name: str) -> bool:
        return bool(within(self._path, (name,)))


def _checked(items: Any, cursor: Any, *, is_called: bool) -> Callable[[Any], Any] | None:
    """Return the function that gives the cursor of an item, after a check of both."""
    if not is_called and not isinstance(items, Iterable) and not hasattr(items, "__getitem__"):
        what = "an async iterable; collect it" if hasattr(items, "__aiter__") else type(items).__name__
        raise TypeError(f"ctx.iterate: items is {what}; give an iterable, or a function that returns one")
    if cursor is None:
        if isinstance(items, set | frozenset):
            raise TypeError("ctx.iterate: a set has another order in another process; give sorted(items)")
        return None
    if isinstance(cursor, str):
        return _named(cursor)
    if not callable(cursor):
        raise TypeError(
            f"ctx.iterate: cursor is {cursor!r}; give a function of an item, or the name of an attribute or a key"
        )
    function: Callable[[Any], Any] = cursor
    return function


def _named(name: str) -> Callable[[Any], Any]:
    attribute = attrgetter(name)

    def cursor_of(item: Any) -> Any:
        return item[name] if isinstance(item, Mapping) else attribute(item)

    return cursor_of


def _from(items: Sequence[T], position: int) -> Iterator[T]:
    """Go on with a sequence; it may grow on the way, as under a loop of its own."""
    while position < len(items):
        yield items[position]
        position += 1
