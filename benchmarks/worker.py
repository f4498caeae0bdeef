"""One process of `measure.measured`: takes samples of one contestant and prints them as JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from typing import Any

from benchmarks.catalogue import BENCHMARKS
from benchmarks.measure import OURS, samples


def main(name: str, who: str, size: str, repeat: str) -> None:
    answer: dict[str, Any]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a peer may print; the answer is read from stdout
            answer = asdict(samples(BENCHMARKS[name], who, int(size), int(repeat)))
    except ModuleNotFoundError as error:
        if who == OURS:
            raise
        answer = {"note": f"not installed: no module {error.name!r}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
