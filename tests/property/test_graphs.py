"""Random graphs with random failures: what holds of every run, in every mode."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dotflow_like import Manager, RunStatus, TaskStatus, task
from dotflow_like.testing import run_inline


class Spec(NamedTuple):
    """A task to make: the earlier tasks it needs, those it comes after, and how often it fails."""

    needs: frozenset[int]
    after: frozenset[int]
    attempts: int
    failures: int

    @property
    def fails(self) -> bool:
        return self.failures >= self.attempts


@st.composite
def graphs(draw: st.DrawFn, most: int = 12) -> list[Spec]:
    """Return specs in an order that respects their dependencies."""
    specs = []
    for i in range(draw(st.integers(1, most))):
        earlier = st.frozensets(st.integers(0, i - 1), max_size=3) if i else st.just(frozenset[int]())
        attempts = draw(st.integers(1, 3))
        failures = draw(st.sampled_from([0, 0, 0, 1, 3]))
        specs.append(Spec(draw(earlier), draw(earlier), attempts, failures))
    return specs


class Journal:
    """Makes tasks of specs, and writes down when each body began and ended."""

    def __init__(self, specs: list[Spec]) -> None:
        self.events: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        self._calls = [0] * len(specs)
        self.tasks: list[Any] = []
        for i, spec in enumerate(specs):
            made = task(self._body(i, spec), name=f"t{i}", retry=spec.attempts)
            made = made.bind(values=[self.tasks[each] for each in sorted(spec.needs)])
            self.tasks.append(made.after(*(self.tasks[each] for each in sorted(spec.after))))

    def note(self, what: str, i: int) -> None:
        with self._lock:
            self.events.append((what, i))

    def _body(self, i: int, spec: Spec) -> Any:
        def body(values: list[int]) -> int:
            self.note("begin", i)
            self._calls[i] += 1
            call = self._calls[i]
            self.note("end", i)
            if call <= spec.failures:
                raise ValueError(f"call {call}")
            return i + sum(values)

        return body

    def bodies_of(self, i: int) -> list[int]:
        return [at for at, event in enumerate(self.events) if event[1] == i]


def fates(specs: list[Spec]) -> list[TaskStatus]:
    """Return what becomes of each task with keep_going: said once more, in the words of the promise."""
    found: list[TaskStatus] = []
    for spec in specs:
        if any(found[each] is not TaskStatus.COMPLETED for each in spec.needs):
            found.append(TaskStatus.SKIPPED)
        else:
            found.append(TaskStatus.FAILED if spec.fails else TaskStatus.COMPLETED)
    return found


def values(specs: list[Spec]) -> list[int | None]:
    found: list[int | None] = []
    for i, (spec, fate) in enumerate(zip(specs, fates(specs), strict=True)):
        completed = fate is TaskStatus.COMPLETED
        found.append(i + sum(found[each] or 0 for each in spec.needs) if completed else None)
    return found


WAYS: list[dict[str, Any]] = [
    {"mode": "sequential"},
    {"mode": "sequential_group"},
    {"mode": "background"},
    {"mode": "parallel", "executor": "inline"},
    {"mode": "parallel", "executor": "thread", "max_workers": 3},
]


def quiet(tasks: Any) -> None:
    """Do nothing."""


def ancestors(specs: list[Spec], i: int) -> set[int]:
    found: set[int] = set()
    todo = [i]
    while todo:
        spec = specs[todo.pop()]
        new = (spec.needs | spec.after) - found
        found |= new
        todo += new
    return found


@given(graphs(), st.permutations(range(12)))
@settings(max_examples=60)
def test_with_keep_going_every_mode_comes_to_the_same_end(specs: list[Spec], order: list[int]) -> None:
    expected = fates(specs)
    for way in WAYS:
        made = Journal(specs)
        listed = (
            [i for i in order if i < len(specs)] if way["mode"] == "parallel" else list(range(len(specs)))
        )
        run = Manager([made.tasks[i] for i in listed], keep_going=True, on_failure=quiet, **way).wait()

        assert [run[f"t{i}"].status for i in range(len(specs))] == expected
        assert [run[f"t{i}"].result for i in range(len(specs))] == values(specs)
        failed = TaskStatus.FAILED in expected
        assert run.status is (RunStatus.FAILED if failed else RunStatus.COMPLETED)
        for i, spec in enumerate(specs):
            ran = [at for at in made.bodies_of(i) if made.events[at][0] == "begin"]
            if expected[i] is TaskStatus.SKIPPED:
                assert ran == []
                assert not run[f"t{i}"].attempts
                assert run[f"t{i}"].reason
                continue
            assert len(ran) == min(spec.attempts, spec.failures + 1) == len(run[f"t{i}"].attempts)
            for each in ancestors(specs, i):
                before = made.bodies_of(each)
                assert not before or before[-1] < ran[0], f"t{i} began before t{each} had ended"


@given(graphs())
@settings(max_examples=60)
def test_without_keep_going_nothing_new_starts_after_the_first_failure(specs: list[Spec]) -> None:
    made = Journal(specs)
    run = run_inline(made.tasks, on_failure=quiet)
    first = next((i for i, spec in enumerate(specs) if spec.fails), len(specs))
    assert [each.status for each in run.tasks] == [
        TaskStatus.COMPLETED if i < first else TaskStatus.FAILED if i == first else TaskStatus.PENDING
        for i in range(len(specs))
    ]
    assert all(i <= first for _, i in made.events)


@given(graphs())
@settings(max_examples=40)
def test_in_parallel_without_keep_going_every_task_is_done_failed_or_untouched(specs: list[Spec]) -> None:
    made = Journal(specs)
    way = {"mode": "parallel", "executor": "thread", "max_workers": 2}
    run = Manager(made.tasks, on_failure=quiet, **way)  # type: ignore[arg-type]
    failed = [each for each in run.tasks if each.status is TaskStatus.FAILED]
    assert bool(failed) == (run.status is RunStatus.FAILED)
    for i, each in enumerate(run.tasks):
        assert each.status in (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.PENDING)
        if each.status is TaskStatus.COMPLETED:
            assert all(run.tasks[earlier].status is TaskStatus.COMPLETED for earlier in ancestors(specs, i))
        if each.status is TaskStatus.PENDING:
            assert failed
            assert not each.attempts


@given(graphs(most=6))
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
def test_worker_processes_come_to_the_same_end(specs: list[Spec]) -> None:
    # each body is told how often to fail by the attempt it is: nothing of this process reaches it
    def body(i: int, failures: int, values: list[int], ctx: Any) -> int:
        if ctx.attempt.number <= failures:
            raise ValueError("again")
        return i + sum(values)

    tasks: list[Any] = []
    for i, spec in enumerate(specs):
        made = task(body, name=f"t{i}", retry=spec.attempts).bind(i=i, failures=spec.failures)
        made = made.bind(values=[tasks[each] for each in sorted(spec.needs)])
        tasks.append(made.after(*(tasks[each] for each in sorted(spec.after))))
    run = Manager(tasks, mode="parallel", max_workers=2, keep_going=True, on_failure=quiet)
    assert [each.status for each in run.tasks] == fates(specs)
    assert [each.result for each in run.tasks] == values(specs)


@given(graphs(), st.integers(0, 11))
@settings(max_examples=40)
def test_a_run_that_goes_on_after_its_failures_equals_a_fresh_one(specs: list[Spec], fixed: int) -> None:
    from dotflow_like import MemoryStorage

    storage = MemoryStorage()
    options: dict[str, Any] = {"workflow_id": "w", "storage": storage, "resume": True, "keep_going": True}
    first = Journal(specs)
    run_inline(first.tasks, on_failure=quiet, **options)
    healed = [spec._replace(failures=0) for spec in specs]
    second = Journal(healed)
    run = run_inline(second.tasks, on_code_change="reuse", **options)
    assert [each.status for each in run.tasks] == [TaskStatus.COMPLETED] * len(specs)
    assert [each.result for each in run.tasks] == values(healed)
    was = fates(specs)
    for i, each in enumerate(run.tasks):
        assert each.restored == (was[i] is TaskStatus.COMPLETED)
        assert bool(second.bodies_of(i)) != each.restored
