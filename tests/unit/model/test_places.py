"""Where in a body something is saved: names are counted there, and told apart."""

from __future__ import annotations

import contextvars
import gc
import itertools
import threading
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dotflow_like.model import places
from dotflow_like.model.places import Root, within


def alone(call: Callable[[], Any]) -> Any:
    """Call a function in a context in which nothing was entered."""
    return contextvars.Context().run(call)


def test_names_are_counted() -> None:
    root = Root()
    assert [root.numbered(name) for name in ("a", "b", "a")] == ["a#1", "b#1", "a#2"]


@given(st.lists(st.lists(st.text("ab/#%123", min_size=1, max_size=4), min_size=1, max_size=3), max_size=8))
def test_no_two_places_have_a_name_in_common(paths: list[list[str]]) -> None:
    def name_of(path: list[str]) -> str:
        root = Root()
        name = root.numbered(path[0])
        for part in path[1:]:
            name = root.enter(f"{name}/").numbered(part)
        return name

    names = alone(lambda: {tuple(path): name_of(path) for path in paths})
    for (one, its), (other, theirs) in itertools.combinations(names.items(), 2):
        assert its != theirs, (one, other)
        if len(one) <= len(other) and one != other[: len(one)]:
            assert not within(f"{its}/", [f"step/{theirs}"])


def test_code_is_where_it_has_entered_until_it_leaves() -> None:
    def work() -> None:
        places.begin()
        root = Root()
        assert root.current() is root
        outer = root.enter("a#1/")
        inner = root.enter("a#1/b#1/")
        assert root.current() is inner
        root.leave(inner, outer)
        assert root.current() is outer
        root.leave(outer, root)
        assert root.current() is root

    alone(work)


def test_bodies_in_bodies_do_not_see_each_other() -> None:
    def work() -> None:
        places.begin()
        outer, inner = Root(), Root()
        here = outer.enter("a#1/")
        assert inner.current() is inner
        inner.enter("b#1/")
        assert outer.current() is here

    alone(work)


def test_a_thread_that_was_told_nothing_works_for_the_item_that_is_open() -> None:
    def work() -> None:
        places.begin()
        root = Root()
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(root.current()))
        place = root.enter("a#1/")
        thread.start()
        thread.join()
        assert found == [place]
        told = contextvars.copy_context()
        root.leave(place, root)
        thread = threading.Thread(target=lambda: found.append((root.current(), told.run(root.current))))
        thread.start()
        thread.join()
        assert found[1:] == [(root, place)]

    alone(work)


def test_what_is_left_of_bodies_that_have_ended_is_forgotten() -> None:
    def work() -> int:
        for _ in range(100):
            Root().enter("a#1/")
            gc.collect(0)
        return len(places._entered.get())

    assert alone(work) <= 2
