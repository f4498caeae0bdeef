"""Whatever failed, a run that is mended and resumed gives what a fresh one gives, and runs only what was missing."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dotflow_like import DotflowWarning, Manager, MemoryStorage, Run, RunStatus, Task, TaskStatus, task


@dataclass(frozen=True)
class Spec:
    """A task to be made.

    Attributes:
        needs: places of the tasks whose results it is given.
        after: places of the tasks it only runs after.
        base: a constant it is given.
        items: of a map how many items; None for a single task.
        over: of a map over a result, the place of the task that makes the items.
    """

    needs: tuple[int, ...]
    after: tuple[int, ...]
    base: int
    items: int | None
    over: bool


@st.composite
def graphs(draw: st.DrawFn) -> list[Spec]:
    specs = []
    for place in range(draw(st.integers(1, 7))):
        earlier = st.lists(st.integers(0, place - 1), max_size=3, unique=True) if place else st.just([])
        needs, after = tuple(draw(earlier)), tuple(draw(earlier))
        items = draw(st.none() | st.integers(0, 3))
        specs.append(Spec(needs, after, draw(st.integers(0, 3)), items, draw(st.booleans())))
    return specs


class World:
    """Tasks made from a graph, what they did, and which of them fail."""

    def __init__(self, specs: list[Spec]) -> None:
        self.specs = specs
        self.failing: frozenset[str] = frozenset()
        self.ran: list[str] = []
        self.tasks: list[Task[..., Any]] = []
        self._places: list[int] = []
        for place, spec in enumerate(specs):
            self._add(place, spec)

    def _did(self, key: str) -> None:
        self.ran.append(key)
        if key in self.failing:
            raise ValueError(key)

    def _add(self, place: int, spec: Spec) -> None:
        name = f"t{place}"

        def body(given: list[Any], base: int) -> Any:
            self._did(name)
            return name, base, given

        def item(x: int, given: list[Any], base: int) -> Any:
            self._did(f"{name}[{x}]")
            return x, base, given

        def make(count: int) -> list[int]:
            self._did(f"make {name}")
            return list(range(count))

        made = task(body if spec.items is None else item, name=name)
        made = made.bind(given=[self._task(each) for each in spec.needs], base=spec.base)
        made = made.after(*(self._task(each) for each in spec.after))
        if spec.items is not None and spec.over:
            source = task(make, name=f"make {name}").bind(count=spec.items)
            self.tasks.append(source)
            made = made.map(x=source)
        elif spec.items is not None:
            made = made.map(x=range(spec.items))
        self._places.append(len(self.tasks))
        self.tasks.append(made)

    def _task(self, place: int) -> Task[..., Any]:
        return self.tasks[self._places[place]]

    def units(self) -> list[str]:
        """Return the keys of all that can run."""
        found = []
        for place, spec in enumerate(self.specs):
            if spec.items is None:
                found.append(f"t{place}")
            else:
                found += [f"make t{place}"] * spec.over + [f"t{place}[{x}]" for x in range(spec.items)]
        return found

    def run(self, **options: Any) -> Run:
        self.ran.clear()
        if options.get("mode") == "parallel":
            options["executor"] = "inline"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return Manager(self.tasks, on_failure=lambda tasks: None, **options)


def units_of(run: Run) -> Iterable[Any]:
    for each in run.tasks:
        yield from [each] if each.items is None else each.items


MODES = st.sampled_from(["sequential", "parallel"])


@given(graphs(), st.data(), MODES)
def test_a_resumed_run_gives_what_a_fresh_one_gives_and_runs_only_what_was_missing(
    specs: list[Spec], data: st.DataObject, mode: str
) -> None:
    world = World(specs)
    fresh = world.run(mode=mode)
    expected = dict(fresh.results)
    assert sorted(world.ran) == sorted(world.units())
    storage = MemoryStorage()
    done: set[str] = set()
    attempts: dict[str, int] = {}
    for failing in [
        *data.draw(st.lists(st.frozensets(st.sampled_from(world.units() or [""])), max_size=3)),
        set(),
    ]:
        world.failing = frozenset(failing)
        options = {"mode": data.draw(MODES), "keep_going": data.draw(st.booleans())}
        run = world.run(storage=storage, workflow_id="run", resume=True, **options)
        assert not done & set(world.ran)
        assert len(set(world.ran)) == len(world.ran)
        for key in world.ran:
            attempts[key] = attempts.get(key, 0) + 1
        done |= set(world.ran) - world.failing
        for each in units_of(run):
            assert (each.status is TaskStatus.COMPLETED) == (each.task_id in done)
            assert len(each.attempts) == attempts.get(each.task_id, 0)
            assert [attempt.number for attempt in each.attempts] == list(range(1, len(each.attempts) + 1))
            assert each.restored == (each.status is TaskStatus.COMPLETED and each.task_id not in world.ran)
            if each.status is TaskStatus.SKIPPED:
                assert options["keep_going"]
    assert run.status is RunStatus.COMPLETED
    assert dict(run.results) == expected
    assert done == set(world.units())
    again = world.run(storage=storage, workflow_id="run", resume=True)
    assert world.ran == []
    assert dict(again.results) == expected


@given(graphs(), st.data(), MODES)
def test_after_a_reset_a_run_gives_what_a_fresh_one_gives_and_runs_only_what_depends_on_the_change(
    specs: list[Spec], data: st.DataObject, mode: str
) -> None:
    storage = MemoryStorage()
    first = World(specs)
    first.failing = data.draw(st.frozensets(st.sampled_from(first.units() or [""])))
    first.run(storage=storage, workflow_id="run", resume=True, mode=mode)
    done = set(first.ran) - first.failing

    changed = data.draw(st.frozensets(st.integers(0, len(specs) - 1)))
    edited = [
        Spec(each.needs, each.after, each.base + (place in changed), each.items, each.over)
        for place, each in enumerate(specs)
    ]
    world = World(edited)
    expected = dict(world.run(mode=mode).results)
    run = world.run(storage=storage, workflow_id="run", resume=True, on_input_change="reset", mode=mode)
    assert dict(run.results) == expected

    # what is downstream, by need, of what was recorded with another input
    recorded = {place for place in changed if any(_is_of(place, key) for key in done)}
    dirty: set[int] = set()
    for place, spec in enumerate(edited):
        if place in recorded or dirty.intersection(spec.needs):
            dirty.add(place)
    kept = {key for key in done if not any(_is_of(place, key) for place in dirty)}
    assert sorted(world.ran) == sorted(set(world.units()) - kept)

    run = world.run(storage=storage, workflow_id="run", resume=True, on_input_change="raise", mode=mode)
    assert world.ran == []
    assert dict(run.results) == expected


def _is_of(place: int, key: str) -> bool:
    return key == f"t{place}" or key.startswith(f"t{place}[")


@given(graphs(), MODES)
def test_starting_over_runs_everything_in_a_new_generation(specs: list[Spec], mode: str) -> None:
    storage = MemoryStorage()
    world = World(specs)
    expected = dict(world.run(storage=storage, workflow_id="run", mode=mode).results)
    world.ran.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DotflowWarning)
        run = Manager(world.tasks, storage=storage, workflow_id="run", mode="sequential")
    assert sorted(world.ran) == sorted(world.units())
    assert dict(run.results) == expected
    for each in units_of(run):
        assert [(attempt.number, attempt.generation) for attempt in each.attempts] == [(1, 1), (2, 2)]
