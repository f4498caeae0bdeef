"""In which order things are done where the order of the plan is not the one."""

from __future__ import annotations

from typing import Any

from dotflow_like import Workflow, task
from dotflow_like.plan.order import downstream_first


@task
def read(given: Any = None) -> Any:
    return given


def test_what_reads_a_result_comes_before_what_made_it() -> None:
    a = read.with_options(name="a")
    b = read.with_options(name="b").bind(given=a)
    c = read.with_options(name="c").map(given=b)
    d = read.with_options(name="d").bind(given=c)
    plan = Workflow([d, c, a, b]).plan(mode="parallel")  # where a task may stand before what it reads
    keys = ["a", "b", "c[0]", "c[1]", "c[10]", "d", "not planned any more"]
    ordered = downstream_first(plan.graph, keys)
    assert ordered == ["d", "c[10]", "c[1]", "c[0]", "b", "a", "not planned any more"]


def test_nothing_has_an_order_too() -> None:
    assert downstream_first(Workflow([read]).plan().graph, []) == []
