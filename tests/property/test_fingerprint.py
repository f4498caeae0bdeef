"""Fingerprints of random values: injective, and blind to order, sharing and the process."""

from __future__ import annotations

import copy
import pickle
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from dotflow_like.plan.fingerprint import of_value

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.text(st.characters(), max_size=5)  # lone surrogates too
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.timedeltas()
    | st.decimals(allow_nan=False)  # a signalling one has no hash
    | st.fractions()
    | st.uuids()
)
HASHABLE = LEAVES | st.lists(LEAVES, max_size=3).map(tuple) | st.frozensets(LEAVES, max_size=3)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=4)
        | st.sets(HASHABLE, max_size=4)
    ),
    max_leaves=20,
)


def fp(value: object) -> str:
    return of_value(value, where="task 't', parameter 'p'")


def exactly(value: object) -> object:
    """Return something that is equal just where values have the same types and content."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, frozenset((exactly(key), exactly(item)) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return kind, tuple(sorted(map(repr, map(exactly, value))))
    if isinstance(value, list | tuple):
        return kind, tuple(map(exactly, value))
    if isinstance(value, float | complex) and value != value:
        return kind, repr(value).lstrip("-")
    return kind, repr(value), getattr(value, "fold", 0)


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_a_copy_agrees(value: object) -> None:
    first = fp(value)
    assert first == fp(value)
    assert first == fp(copy.deepcopy(value))
    assert first == fp(pickle.loads(pickle.dumps(value)))


@given(VALUES, VALUES)
@settings(max_examples=200, deadline=None)
def test_two_values_agree_only_if_they_are_the_same(a: object, b: object) -> None:
    assert (fp(a) == fp(b)) == (exactly(a) == exactly(b))


@given(st.dictionaries(HASHABLE, VALUES, max_size=8), st.sets(HASHABLE, max_size=8), st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_order_of_dicts_and_sets_does_not_count(
    mapping: dict[object, object], members: set[object], chance: random.Random
) -> None:
    keys = list(mapping)
    chance.shuffle(keys)
    assert fp({key: mapping[key] for key in keys}) == fp(mapping)
    shuffled = list(members)
    chance.shuffle(shuffled)
    assert fp(set(shuffled)) == fp(members)


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_nothing_runs_into_its_neighbour(a: list[str], b: list[str]) -> None:
    assert (fp(a) == fp(b)) == (a == b)
    assert (fp([a, b]) == fp([b, a])) == (a == b)
    assert fp([a, b]) != fp([a + b])
    assert fp([*a, b]) != fp([*a, *b, "end"])


@given(VALUES)
@settings(max_examples=50, deadline=None)
def test_every_wrapping_changes_it(value: object) -> None:
    assert (
        len({fp(value), fp([value]), fp((value,)), fp([[value]]), fp({"a": value}), fp([value, value])}) == 6
    )
