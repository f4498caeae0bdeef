"""Each benchmark of ours runs, at a tiny size, and gives a number; what cannot be measured is reported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.__main__ import table
from benchmarks.catalogue import BENCHMARKS
from benchmarks.measure import OURS, Figures, Unmeasured, measured, samples

CHAIN = BENCHMARKS["chain"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_ours_gives_a_number(name):
    taken = samples(BENCHMARKS[name], OURS, min(BENCHMARKS[name].size, 30), repeat=1)
    assert isinstance(taken.median, float)
    assert len(taken.samples) == len(taken.bare) == 1


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
    assert peer.endswith("2.0 x")
