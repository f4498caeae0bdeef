"""Each benchmark of ours runs, at a tiny size, and gives a number; what cannot be measured is reported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import bodies, durable, saving, steering
from benchmarks.__main__ import table
from benchmarks.catalogue import BENCHMARKS
from benchmarks.durable import FLOOR
from benchmarks.measure import OURS, Figures, Unmeasured, measured, samples, timed

CHAIN = BENCHMARKS["chain"]


TINY = BENCHMARKS["parallel-tiny"]


# those of seconds in the tier that takes long
_LONG = {"parallel-cpu", "parent-cpu", "large-bytes", "large-numpy", "map-memory", "cancel-latency"}


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.soak if each in _LONG else ()) for each in BENCHMARKS]
)
def test_ours_gives_a_number(name):
    few = 1 if name == "cancel-latency" else 10
    taken = samples(BENCHMARKS[name], OURS, min(BENCHMARKS[name].size, few), repeat=1)
    assert isinstance(taken.median, float)
    assert len(taken.samples) == len(taken.bare) == 1


def test_a_peer_that_a_target_is_of_is_measured():
    assert all(each.to in each.peers for each in BENCHMARKS.values() if each.to)


@pytest.mark.parametrize("name", ["parallel-tiny", "next-task", "map-memory"])
def test_a_process_pool_gives_a_number(name):
    tiny = replace(BENCHMARKS[name], size=min(BENCHMARKS[name].size, 8), rounds=1, repeat=1)
    [who] = [who for who in tiny.peers if who in ("ProcessPoolExecutor", "ProcessPoolExecutor.map")]
    figures = measured(replace(tiny, peers={who: tiny.peers[who]}))
    assert [len(of.samples) for of in figures.values()] == [1, 1], figures


def test_a_fresh_benchmark_takes_the_first_sample_of_each_process_but_one():
    first = replace(BENCHMARKS["first-task"], rounds=2, repeat=5, peers={})
    assert len(measured(first)[OURS].samples) == 2


def test_samples_that_go_by_the_speed_of_a_core_are_scaled_to_the_fastest_loop():
    assert CHAIN.steady(Figures([8.0], [0.2]), 0.1) == 4.0
    assert TINY.steady(Figures([8.0], [0.2]), 0.1) == 16.0
    assert BENCHMARKS["large-bytes"].steady(Figures([8.0], [0.2]), 0.1) == 8.0


def test_a_peer_that_is_not_measured_says_why():
    reasons = [
        peer.reason
        for each in BENCHMARKS.values()
        for peer in each.peers.values()
        if isinstance(peer, Unmeasured)
    ]
    assert reasons
    assert all(reasons)


def test_a_process_gives_samples_and_the_bare_loop_around_each():
    tiny = replace(CHAIN, size=20, rounds=1, repeat=2, peers={"idle": Unmeasured("has nothing to do")})
    figures = measured(tiny)
    assert len(figures[OURS].samples) == len(figures[OURS].bare) == 2
    assert figures["idle"] == Figures(note="has nothing to do")


def test_a_peer_that_does_not_run_is_reported():
    absent = replace(CHAIN, size=20, rounds=1, repeat=1, peers={"absent": None})
    figures = measured(absent)
    assert figures["absent"].note == "does not run: KeyError: 'absent'"
    assert table(absent, figures, 1.0).endswith("does not run: KeyError: 'absent'")


@pytest.mark.parametrize(("steady", "verdict"), [(3.0, "goal"), (5.0, "ok"), (7.0, "over")])
def test_the_table_says_how_we_stand(steady, verdict):
    # measured while the bare loop took twice its fastest
    figures = {OURS: Figures([2 * steady], [0.2]), "peer": Figures([4 * steady], [0.2])}
    ours, peer = table(CHAIN, figures, 0.1).splitlines()[-2:]
    assert ours.split()[1:3] == [str(steady), str(2 * steady)]
    assert ours.split()[-1] == verdict
    assert peer.endswith("2.00 x")


@pytest.mark.parametrize(("steady", "verdict"), [(50.0, "goal"), (20.0, "ok"), (19.0, "under")])
def test_the_table_says_how_we_stand_to_the_peer_the_target_is_of(steady, verdict):
    figures = {OURS: Figures([steady], [0.1]), TINY.to: Figures([10.0], [0.1])}
    ours, peer = table(TINY, figures, 0.1).splitlines()[-2:]
    assert ours.split()[1] == str(steady)
    assert ours.split()[-1] == verdict
    assert f" {steady / 10:.2f} x" in peer


@pytest.mark.parametrize(("steady", "verdict"), [(12_000.0, "ok"), (11_999.0, "under")])
def test_a_target_of_which_more_is_better_is_the_least(steady, verdict):
    absolute = replace(TINY, target=12_000, goal=None, to=None)
    ours = table(absolute, {OURS: Figures([steady], [0.1])}, 0.1).splitlines()[1]
    assert ">= 12000 " in ours
    assert ours.split()[-1] == verdict


@pytest.mark.parametrize(("steady", "verdict"), [(15.0, "ok"), (15.1, "under")])
def test_a_target_of_so_many_times_the_floor_is_met_by_the_ratio(steady, verdict):
    figures = {OURS: Figures([steady], [0.1]), FLOOR: Figures([10.0], [0.1])}
    ours = table(durable.FULL, figures, 0.1).splitlines()[1]
    assert " 0.667 x " in ours
    assert ours.split()[-1] == verdict


@pytest.mark.parametrize("floor", [durable.floor("full"), durable.floor("process"), durable.executor_rows])
def test_a_floor_of_durable_tasks_commits_a_row_per_task(floor):
    assert timed(floor, 5) > 0


@pytest.mark.parametrize(
    "contestant",
    [
        saving.both_rows,
        saving.beside,
        saving.in_one_task(bodies.iterate, "full", isolate=True),
        saving.in_one_task(bodies.steps, "full", isolate=True),
    ],
)
def test_what_saving_is_measured_beside_does_the_same(contestant):
    assert timed(contestant, 5) > 0


@pytest.mark.parametrize("body", [bodies.sleeps, bodies.goes_on])
def test_a_run_whose_body_waits_is_cancelled_long_before_it_would_end(body):
    assert 0 < durable.returned(steering.cancelled(body, 1), 1) < 30


def test_without_a_target_there_is_no_verdict():
    figures = {OURS: Figures([3.0], [0.1]), FLOOR: Figures([1.5], [0.1])}
    _, ours, floor = table(BENCHMARKS["iterate"], figures, 0.1).splitlines()
    assert ours.split() == [OURS, "3.0", "3.0", "3.0", "-", "-"]
    assert floor.endswith("0.500 x")


@pytest.mark.parametrize(("quantile", "expected"), [(0.5, 50), (0.99, 99), (1, 100)])
def test_a_quantile_is_the_least_that_so_many_take_no_longer_than(quantile, expected):
    assert durable.at_quantile(quantile, range(100, 0, -1)) == expected


def test_the_commits_of_the_floor_are_each_timed():
    median, slowest = (durable.returned(durable.floor_commits(quantile), 20) for quantile in (0.5, 1))
    assert median > 0
    assert slowest > 0


def test_a_target_of_a_peer_that_does_not_run_is_open():
    figures = {OURS: Figures([1.0], [0.1]), TINY.to: Figures(note="does not run")}
    assert table(TINY, figures, 0.1).splitlines()[1].endswith("?")
