"""Run the benchmarks and print one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.catalogue import BENCHMARKS
from benchmarks.measure import BARE_REFERENCE, OURS, Benchmark, Figures, measured

_ROW = "{:<26} {:>11} {:>11} {:>11} {:>8} {:>5}  {:<6} {:>7}  {}"
_HEAD = ("", "steady", "median", "best", "target", "goal", "", "ratio", "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=BENCHMARKS, help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="two rounds of two samples")
    parser.add_argument("--ours", action="store_true", help="leave the peers out that no target is of")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all samples there")
    given = parser.parse_args(arguments)
    chosen = [BENCHMARKS[name] for name in given.only or BENCHMARKS]
    if given.ours:
        chosen = [
            replace(each, peers={who: peer for who, peer in each.peers.items() if who == each.to})
            for each in chosen
        ]
    if given.quick:
        chosen = [replace(each, rounds=2, repeat=min(each.repeat, 2)) for each in chosen]

    answers = {benchmark.name: measured(benchmark, _tell) for benchmark in chosen}
    _tell("")
    loops = [loop for each in answers.values() for of in each.values() for loop in of.bare]
    fastest = min(loops, default=0.0)

    print(f"{_machine()}\n{_versions()}\n\n{_ROW.format(*_HEAD).rstrip()}")
    for benchmark in chosen:
        print(f"\n{table(benchmark, answers[benchmark.name], fastest)}")
    print(f"\n{_legend(loops)}")
    if given.json:
        given.json.write_text(json.dumps(_as_json(chosen, answers, loops), indent=1) + "\n")
    return 0 if all(each[OURS].samples for each in answers.values()) else 1


def table(benchmark: Benchmark, figures: dict[str, Figures], fastest: float) -> str:
    """Return the part of the table that is about one benchmark; `fastest` is the run's fastest bare loop."""
    lines = [f"{benchmark.name}: {benchmark.what} ({benchmark.unit})"]
    steady = {who: benchmark.steady(of, fastest) for who, of in figures.items() if of.samples}
    for who, of in figures.items():
        if who not in steady:
            lines.append(_ROW.format(who, "-", "-", "-", "", "", "", "-", of.note))
            continue
        target = goal = verdict = ratio = ""
        if who == OURS:
            target = benchmark.demand
            goal = f"{benchmark.goal:g}" if benchmark.goal else "-"
            verdict = _verdict(benchmark, steady)
        elif OURS in steady:
            times = benchmark.times_better(steady[OURS], steady[who])
            ratio = f"{times:.1f} x" if times >= 10 else f"{times:#.3g} x"
        note = of.note or ("one process only: slow to set up" if of.slow else "")
        if who == benchmark.to and benchmark.target is not None:
            note = f"the target is of this{note and '; '}{note}"
        numbers = [f"{each:,.1f}" for each in (steady[who], of.median, benchmark.best(of))]
        lines.append(_ROW.format(who, *numbers, target, goal, verdict, ratio, note).rstrip())
    return "\n".join(lines)


def _verdict(benchmark: Benchmark, steady: dict[str, float]) -> str:
    """Return how we stand: to the target itself, or to a peer's figure."""
    ours, target, goal = steady[OURS], benchmark.target, benchmark.goal
    if target is None:
        return ""
    if benchmark.to is None and not benchmark.more_is_better:
        return "goal" if goal is not None and ours <= goal else "ok" if ours <= target else "over"
    if benchmark.to is not None:
        if benchmark.to not in steady:
            return "?"
        ours = benchmark.times_better(ours, steady[benchmark.to])
    return "goal" if goal is not None and ours >= goal else "ok" if ours >= target else "under"


def _legend(loops: list[float]) -> str:
    if not loops:
        return "nothing was measured"
    fastest, middle = min(loops), median(loops)
    return (
        f"bare loop calling a no-op: {fastest:.3f} us per call at its fastest, {middle:.3f} in the median; on the\n"
        f"reference machine {BARE_REFERENCE}. By its median this machine is slower by the factor "
        f"{middle / BARE_REFERENCE:.2f}; targets are not scaled by it.\n"
        "steady: the median of the samples, each scaled from the bare loop around it to the fastest of this run.\n"
        "Of pools, large results, memory and CPU shares it is the plain median. median, best: of the samples as they are.\n"
        "The verdict and the ratio are of steady; the ratio says how many times better ours is than the peer. A target of\n"
        "so many x is met when the ratio to the peer it is of is as large."
    )


def _as_json(
    chosen: list[Benchmark], answers: dict[str, dict[str, Figures]], loops: list[float]
) -> dict[str, Any]:
    return {
        "machine": _machine(),
        "versions": _versions(),
        "bare_loop_us": {"min": min(loops), "median": median(loops)} if loops else None,
        "factor": median(loops) / BARE_REFERENCE if loops else None,
        "benchmarks": [
            {
                "name": each.name,
                "what": each.what,
                "unit": each.unit,
                "size": each.size,
                "target": each.target,
                "goal": each.goal,
                "to": each.to,
                "contestants": {
                    who: {
                        "steady": each.steady(of, min(loops)) if of.samples else None,
                        "median": of.median if of.samples else None,
                        "best": each.best(of) if of.samples else None,
                        "samples": of.samples,
                        "bare": of.bare,
                        "note": of.note,
                    }
                    for who, of in answers[each.name].items()
                },
            }
            for each in chosen
        ],
    }


def _machine() -> str:
    return f"{platform.python_implementation()} {platform.python_version()}, {platform.system()}, {os.cpu_count()} cores"


def _versions() -> str:
    found = []
    for name in (
        "dotflow-like",
        "dotflow",
        "pipefunc",
        "sf-hamilton",
        "dask",
        "distributed",
        "doit",
        "joblib",
        "ray",
        "huey",
        "dbos",
        "redun",
    ):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return ", ".join(found)


def _tell(what: str) -> None:
    """Say on a terminal what is going on, on one line that is written over."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
