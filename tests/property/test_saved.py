"""Whatever a body is made of, and wherever its attempts fail: each step is done once, in its order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dotflow_like import Manager, MemoryStorage, RunStatus, TaskContext, task

NAMES = st.sampled_from(["a", "b"])
Part = Any
"""A step, `("step", name)`; or a loop, `("loop", name, how, how many items, parts)`."""

PARTS: st.SearchStrategy[list[Part]] = st.recursive(
    st.lists(st.tuples(st.just("step"), NAMES), max_size=3),
    lambda inner: st.lists(
        st.one_of(
            st.tuples(st.just("step"), NAMES),
            st.tuples(
                st.just("loop"), NAMES, st.sampled_from(["position", "cursor"]), st.integers(0, 3), inner
            ),
        ),
        max_size=3,
    ),
    max_leaves=8,
)


def expected(parts: list[Part], path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the steps of a body, in order, by where they are."""
    found = []
    for at, part in enumerate(parts):
        if part[0] == "step":
            found.append((*path, at))
        else:
            for item in range(part[3]):
                found += expected(part[4], (*path, at, item))
    return found


@given(
    PARTS,
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=6),
    st.sampled_from([None, MemoryStorage]),
)
def test_each_step_is_done_once_in_its_order(
    parts: list[Part], failures: list[tuple[int, bool]], storage: type[MemoryStorage] | None
) -> None:
    done: list[tuple[Any, ...]] = []
    again: list[tuple[Any, ...]] = []  # those that failed when they were done

    def follow(
        ctx: TaskContext, parts: list[Part], path: tuple[Any, ...], left: list[int], inside: bool
    ) -> None:
        for at, part in enumerate(parts):
            where = (*path, at)
            if part[0] == "step":

                def effect(where: tuple[Any, ...] = where) -> tuple[Any, ...]:
                    left[0] -= 1
                    if inside and left[0] < 0:
                        again.append(where)
                        raise ValueError
                    done.append(where)
                    return where

                assert ctx.step(part[1], effect) == where
                if not inside and left[0] < 0:
                    raise ValueError
            else:
                _, name, how, count, inner = part
                for item in ctx.iterate(range(count), cursor=int if how == "cursor" else None, name=name):
                    follow(ctx, inner, (*where, item), left, inside)

    @task(retry=len(failures) + 1)
    def body(ctx: TaskContext) -> None:
        number = ctx.attempt.number
        after, inside = failures[number - 1] if number <= len(failures) else (10**6, False)
        follow(ctx, parts, (), [after], inside)

    run = Manager([body], **({} if storage is None else {"storage": storage()}))
    assert run.status is RunStatus.COMPLETED, [error.traceback for error in run[body].errors]
    assert done == expected(parts)
    assert set(again) <= set(done)
