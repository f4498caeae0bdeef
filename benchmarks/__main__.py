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

_ROW = "{:<16} {:>8} {:>8} {:>8} {:>7} {:>5}  {:<6} {:>7}  {}"
_HEAD = ("", "steady", "median", "min", "target", "goal", "", "ratio", "")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=BENCHMARKS, help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="two rounds of two samples")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all samples there")
    given = parser.parse_args(arguments)
    chosen = [BENCHMARKS[name] for name in given.only or BENCHMARKS]
    if given.ours:
        chosen = [replace(each, peers={}) for each in chosen]
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
    ours = figures[OURS].steady(fastest) if figures[OURS].samples else None
    for who, of in figures.items():
        if not of.samples:
            lines.append(_ROW.format(who, "-", "-", "-", "", "", "", "-", of.note))
            continue
        target = goal = verdict = ratio = ""
        steady = of.steady(fastest)
        if who == OURS:
            target, goal = f"<= {benchmark.target:g}", f"{benchmark.goal:g}" if benchmark.goal else "-"
            verdict = _verdict(benchmark, steady)
        elif ours:
            ratio = f"{steady / ours:.1f} x"
        note = of.note or ("one process only: slow to set up" if of.slow else "")
        numbers = [f"{each:.1f}" for each in (steady, of.median, of.min)]
        lines.append(_ROW.format(who, *numbers, target, goal, verdict, ratio, note).rstrip())
    return "\n".join(lines)


def _verdict(benchmark: Benchmark, steady: float) -> str:
    if benchmark.goal is not None and steady <= benchmark.goal:
        return "goal"
    return "ok" if steady <= benchmark.target else "over"


def _legend(loops: list[float]) -> str:
    if not loops:
        return "nothing was measured"
    fastest, middle = min(loops), median(loops)
    return (
        f"bare loop calling a no-op: {fastest:.3f} us per call at its fastest, {middle:.3f} in the median; on the\n"
        f"reference machine {BARE_REFERENCE}. By its median this machine is slower by the factor "
        f"{middle / BARE_REFERENCE:.2f}; targets are not scaled by it.\n"
        "steady: the median of the samples, each scaled from the bare loop around it to the fastest of this run.\n"
        "median, min: of the samples as they are. The verdict and the ratio (peer to ours) are of steady."
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
                "contestants": {
                    who: {
                        "steady": of.steady(min(loops)) if of.samples else None,
                        "median": of.median if of.samples else None,
                        "min": of.min if of.samples else None,
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
    for name in ("dotflow-like", "dotflow", "pipefunc", "sf-hamilton", "dask", "doit", "joblib"):
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
