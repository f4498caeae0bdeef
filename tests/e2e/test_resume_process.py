"""What one process has recorded another one restores: equal, of the same types, wherever and however it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import dotflow_like

PACKAGE = str(Path(dotflow_like.__file__).parent.parent)

SCRIPT = '''
import datetime as dt
import sys
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from uuid import UUID

from dotflow_like import Context, Manager, register, task


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Pair(NamedTuple):
    left: object
    right: object


@dataclass
class Point:
    x: int
    y: float
    colour: Colour = Colour.RED
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Shape:
    name: str
    corners: tuple[Point, ...]
    inner: "Shape | None" = None


@register
@dataclass(frozen=True)
class Label:
    text: str


ZONE = dt.timezone(dt.timedelta(hours=5, minutes=30))
VALUES = {
    "None": None,
    "False": False,
    "True": True,
    "0": 0,
    "0.0": 0.0,
    "-0.0": -0.0,
    "inf": float("inf"),
    "large": 10**400,
    "complex": complex(1, -0.0),
    "empty text": "",
    "text": "näh \\U0001f600 \\x00 \\ud800",
    "[]": [],
    "list": [1, 2, 3],
    "()": (),
    "tuple": (1, (2.0, "3"), [None]),
    "set": {"a", "b", 3, (4,)},
    "frozenset": frozenset({frozenset({1}), 2}),
    "bytes": b"\\x00\\xff\\n$",
    "large bytes": bytes(range(256)) * 1000,
    "bytearray": bytearray(b"ab"),
    "{}": {},
    "int keys": {1: "a", -2: {"b": {3: None}}},
    "odd keys": {None: 1, (1, "x"): 2, 2.5: 3, b"k": 4, True: 5, "$": 6, dt.date(2024, 2, 29): 7},
    "order": {"z": 1, "a": 2, "m": 3},
    "datetime": dt.datetime(2024, 2, 29, 23, 59, 59, 123456),
    "datetime utc": dt.datetime(2024, 2, 29, tzinfo=dt.UTC),
    "datetime zone": dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZONE, fold=1),
    "date": dt.date(1, 1, 1),
    "time": dt.time(1, 2, 3, 4),
    "timedelta": dt.timedelta(days=-1, microseconds=7),
    "decimal": [Decimal("1.10"), Decimal("-0"), Decimal("1E+400"), Decimal("Infinity")],
    "fraction": Fraction(-7, 3),
    "uuid": UUID(int=7),
    "path": [Path("a") / "b", PurePosixPath("/c")],
    "range": range(10, 0, -3),
    "enum": [Colour.BLUE, Colour.RED],
    "pair": Pair(Pair(1, 2), {3}),
    "registered": [Label("a"), {"deep": (Label("b"),)}],
}
SHAPE = Shape("s", (Point(1, 2.5), Point(-1, 0.0, Colour.BLUE, ["t"])), Shape("inner", ()))

ran = []


def maker(name):
    def body():
        ran.append(name)
        return VALUES[name]

    return task(body, name=name)


@task
def shape() -> Shape:
    ran.append("shape")
    return SHAPE


@task
def shapes() -> dict[str, list[Shape | None]]:
    ran.append("shapes")
    return {"a": [SHAPE, None]}


@task
def colours() -> list[Colour | Pair]:
    ran.append("colours")
    return [Colour.RED, Pair(Colour.BLUE, 1)]


@task
def context():
    ran.append("context")
    return Context((1, 2))


EXPECTED = {**VALUES, "shape": SHAPE, "shapes": {"a": [SHAPE, None]}, "colours": [Colour.RED, Pair(Colour.BLUE, 1)], "context": (1, 2)}


@task
def check(given, name):
    """Runs in every process: what reaches a task is what was returned, in this process's own classes."""
    return told(given) == told(EXPECTED[name])


def told(value):
    """Say all of a value: its types, its parts, and their order where there is one."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}".replace("__main__", "script").replace("pathlib._local", "pathlib")
    if isinstance(value, (set, frozenset)):
        return kind, sorted(map(repr, map(told, value)))
    if isinstance(value, dict):
        return kind, [(told(key), told(each)) for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        return kind, [told(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):
        return kind, [(name, told(getattr(value, name))) for name in value.__dataclass_fields__]
    return kind, repr(value), getattr(value, "fold", None)


def main(storage, mode, expected_to_run):
    makers = [*map(maker, VALUES), shape, shapes, colours, context]
    # annotated so that the codec knows the classes that are neither annotated elsewhere nor registered
    checks = [check.bind(given=each, name=each.name).with_options(name=f"check {each.name}") for each in makers]
    options = {"mode": mode, "max_workers": 2 if mode == "parallel" else None}
    run = Manager([*makers, *checks], workflow_id="all/values", storage=storage, resume=True,
                  on_input_change="raise", on_code_change="raise", **options).wait()
    run.raise_for_failure()
    wrong = [each for each in EXPECTED if told(run[each].result) != told(EXPECTED[each])]
    wrong += [each.task_id for each in run.tasks if each.task_id.startswith("check ") and each.result is not True]
    assert not wrong, wrong
    assert type(run["shape"].result) is Shape and run["shape"].result == SHAPE
    restored = sum(each.restored for each in run.tasks)
    if expected_to_run == "all":
        assert restored == 0, restored
    else:
        assert restored == len(run.tasks), [each.task_id for each in run.tasks if not each.restored]
        assert ran == [], ran


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "scripts" / "script.py"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return path


def python(
    *arguments: object,
    cwd: Path,
    seed: int = 0,
    executable: str = sys.executable,
    env: dict[str, str] | None = None,
) -> str:
    done = subprocess.run(
        [executable, "-W", "error", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": PACKAGE, **(env or {})},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere"
    path.mkdir()
    return path


@pytest.mark.parametrize(("first", "second"), [("sequential", "parallel"), ("parallel", "background")])
def test_every_value_comes_back_in_a_new_process_from_another_directory_and_hash_seed(
    script: Path, tmp_path: Path, elsewhere: Path, first: str, second: str
) -> None:
    kept = tmp_path / "kept"
    python(script, kept, first, "all", cwd=tmp_path, seed=1)
    python(script, kept, second, "none", cwd=elsewhere, seed=4242)
    # as a module, whose classes and functions are those of the script
    call = f"import script; script.main({str(kept)!r}, 'sequential', 'none')"
    python("-c", call, cwd=elsewhere, seed=7, env={"PYTHONPATH": f"{PACKAGE}:{script.parent}"})
    python("-m", "script", kept, "sequential", "none", cwd=script.parent, seed=8)
    # optimised, and without compiled files beside the source
    python(
        "-B", "-OO", "-X", "no_debug_ranges", "-m", "script", kept, "sequential", "none", cwd=script.parent
    )


def _others() -> list[str]:
    """Return other interpreters, from 3.11 on, on the path or of pyenv, that start and can load cloudpickle."""
    places = [shutil.which(f"python3.{minor}") for minor in range(11, 16)]
    if shutil.which("pyenv"):
        installed = subprocess.run(
            ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=True
        )
        for version in installed.stdout.split():
            prefix = subprocess.run(["pyenv", "prefix", version], capture_output=True, text=True, check=True)
            places.append(f"{prefix.stdout.strip()}/bin/python")
    found: dict[str, str] = {}
    for place in filter(None, places):
        asked = subprocess.run(
            [place, "-c", "import sys, cloudpickle; print(*sys.version_info[:2])"],
            env={**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        version = tuple(map(int, asked.stdout.split()))
        if version >= (3, 11) and version != sys.version_info[:2]:
            found.setdefault(asked.stdout, place)
    return list(found.values())


def test_every_value_comes_back_in_another_minor_version_of_python(
    script: Path, tmp_path: Path, elsewhere: Path
) -> None:
    others = _others()
    if not others:
        pytest.skip("no other interpreter is installed here")
    path = os.pathsep.join([PACKAGE, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    kept = tmp_path / "kept"
    python(script, kept, "sequential", "all", cwd=tmp_path)
    for number, other in enumerate(others):
        python(
            script,
            kept,
            "parallel",
            "none",
            cwd=elsewhere,
            seed=3,
            executable=other,
            env={"PYTHONPATH": path},
        )
        back = tmp_path / f"kept by {number}"
        python(script, back, "parallel", "all", cwd=elsewhere, executable=other, env={"PYTHONPATH": path})
        python(script, back, "sequential", "none", cwd=tmp_path)


INPUTS = """
import sys
from dotflow_like import Manager, register, task

ran = []


class Key:
    def __init__(self, word):
        self.word = word


@task
def work(initial_context, words, table, when, helper):
    ran.append("work")
    return sorted(words)


@task
def each(x, y):
    ran.append("each")
    return str(sorted(x))


@task
def total(given):
    ran.append("total")
    return len(given)


def helper(x, _seen={"b", "a", "c"}):
    return x in _seen


words = {"one", "two", "three", "four", "five"}
table = {word: {word[::-1], word.upper()} for word in words}
mapped = each.bind(y={"k": frozenset(words)}).map(x=[{"a", "b", "c"}, {"d", "e", "f"}])
run = Manager(
    [
        work.bind(words=words, table=table, helper=helper).with_options(initial_context=[frozenset(words), table]),
        mapped,
        total.bind(given=mapped),
    ],
    params={"when": {"sets": {"x", "y", "z"}}},
    workflow_id="run", storage="kept", resume=True, on_input_change="raise", on_code_change="raise",
)
run.raise_for_failure()
assert run["total"].result == 2
print(len(ran))
"""


def test_inputs_have_the_same_fingerprints_under_every_hash_seed(tmp_path: Path) -> None:
    (tmp_path / "inputs.py").write_text(INPUTS)
    told = [python("inputs.py", cwd=tmp_path, seed=seed).strip() for seed in (0, 1, 99, 123456)]
    assert told == ["4", "0", "0", "0"]


STEPS = """
import sys
from pathlib import Path
from dotflow_like import Manager, task

here = Path(__file__).parent


@task(retry=2)
def first() -> set[str]:
    with (here / "ledger").open("a") as file:
        file.write("first\\n")
    return {"a", "b"}


@task
def second(given: set[str]) -> dict[int, str]:
    with (here / "ledger").open("a") as file:
        file.write("second\\n")
    if not (here / "ready").exists():
        raise FileNotFoundError("not ready")
    return dict(enumerate(sorted(given)))


run = Manager(
    [first, second.bind(given=first)], workflow_id="steps", storage=here / "kept", resume=True, mode=sys.argv[1]
)
run.wait()
first_result, second_result = run["first"].result, run["second"].result
print(run.status, type(first_result).__name__, sorted(first_result), second_result)
"""


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_a_failed_script_is_mended_and_started_again(tmp_path: Path, elsewhere: Path, mode: str) -> None:
    script = tmp_path / "steps.py"
    script.write_text(STEPS)
    assert python(script, mode, cwd=tmp_path).startswith("failed")
    (tmp_path / "ready").touch()
    for seed in (5, 6):
        told = python(script, mode, cwd=elsewhere, seed=seed)
        assert told == "completed set ['a', 'b'] {0: 'a', 1: 'b'}\n"
    ledger = (tmp_path / "ledger").read_text().split()
    assert ledger == ["first", "second", "second"]
