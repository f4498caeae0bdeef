"""A census of Python's own standard library: how much code, and how much of it is documented.

Lists the modules of the running interpreter, parses them in parallel, merges the counts into a report.
Results are kept in `./census-run`, the report is `./census.json`. Kill it at any moment and start it
again: it goes on where it was. Start it once more: nothing is left to do.

    python stdlib_census.py
    python stdlib_census.py --package json --batches 4 --mode sequential
"""

from __future__ import annotations

import argparse
import ast
import json
import platform
import sysconfig
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dotflow_like import Config, Manager, Mode, RunStatus, TaskRun, Tracer, task


@dataclass
class Module:
    """What one file holds; a file that is no Python (test data, mostly) has an error and no counts."""

    path: str
    lines: int = 0
    functions: int = 0
    classes: int = 0
    documented: int = 0
    error: str | None = None


@task
def list_files(root: str, package: str | None, batches: int) -> list[list[str]]:
    base = Path(root)
    found = (path.relative_to(base) for path in base.rglob("*.py"))
    files = sorted(
        path.as_posix() for path in found if not {"site-packages", "dist-packages"} & {*path.parts}
    )
    if package is not None:
        files = [file for file in files if file.startswith(f"{package}/") or file == f"{package}.py"]
    if not files:
        raise ValueError(f"no module of {package or 'the standard library'} in {root}")
    return [files[start::batches] for start in range(min(batches, len(files)))]


@task
def parse(root: str, files: list[str]) -> list[Module]:
    return [parse_one(Path(root, file), file) for file in files]


def parse_one(path: Path, name: str) -> Module:
    source = path.read_bytes()
    try:
        with warnings.catch_warnings(action="ignore"):  # old code and test data have odd escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        return Module(name, error=type(error).__name__)
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    documented = sum(
        ast.get_docstring(node, clean=False) is not None for node in [tree, *classes, *functions]
    )
    return Module(name, len(source.splitlines()), len(functions), len(classes), documented)


@task
def merge(parts: list[list[Module]], package: str | None) -> dict[str, Any]:
    found = sorted((module for part in parts for module in part), key=lambda module: module.path)
    parsed = [module for module in found if module.error is None]
    report: dict[str, Any] = {"python": platform.python_version(), "package": package, "modules": len(parsed)}
    for count in ("lines", "functions", "classes", "documented"):
        report[count] = sum(getattr(module, count) for module in parsed)
    can_have_docstrings = report["modules"] + report["functions"] + report["classes"]
    report["share_documented"] = round(report["documented"] / max(can_have_docstrings, 1), 4)
    largest = sorted(parsed, key=lambda module: (-module.lines, module.path))[:10]
    report["largest"] = [asdict(module) for module in largest]
    report["not_python"] = {module.path: module.error for module in found if module.error is not None}
    return report


class Progress(Tracer):
    """Prints a plain line whenever a batch is done."""

    def start_task(self, task: TaskRun) -> None:
        if task.items is not None:  # the map as a whole: from here on its items are known
            self.of = len(task.items)
            self.done = sum(item.restored for item in task.items)
            if self.done:
                print(f"parse {self.done}/{self.of} restored", flush=True)

    def end_task(self, task: TaskRun) -> None:
        if task.name == "parse" and task.items is None:
            self.done += 1
            print(f"parse {self.done}/{self.of}", flush=True)


def print_table(report: dict[str, Any]) -> None:
    print(f"\nPython {report['python']}, {report['package'] or 'the whole standard library'}")
    for word in ("modules", "lines", "functions", "classes"):
        print(f"  {word:<24}{report[word]:>10,}")
    print(f"  {'with docstrings':<24}{report['share_documented']:>10.1%}")
    print(f"  {'files that do not parse':<24}{len(report['not_python']):>10,}")
    for path, error in report["not_python"].items():
        print(f"    {path} ({error})")
    print(f"\n  {'the ten largest':<40}{'lines':>9}{'functions':>11}{'classes':>9}")
    for module in report["largest"]:
        print(f"  {module['path']:<40}{module['lines']:>9,}{module['functions']:>11,}{module['classes']:>9,}")


def main() -> None:
    options = argparse.ArgumentParser(description="Count what Python's standard library is made of.")
    options.add_argument("--package", help="only this package or module, such as json; default: all of it")
    options.add_argument("--batches", type=int, default=40, help="how many pieces of work (default: 40)")
    options.add_argument("--workers", type=int, help="worker processes (default: one per core)")
    options.add_argument("--mode", choices=list(Mode), default=Mode.PARALLEL, help="default: parallel")
    given = options.parse_args()
    if given.batches < 1:
        options.error("--batches: give 1 or more")

    run = Manager(
        tasks=[list_files, parse.map(files=list_files), merge.bind(parts=parse)],
        mode=given.mode,
        workflow_id="census",
        resume=True,  # the first time there is nothing to go on with, and it simply starts
        on_input_change="reset",  # another --package is another census
        storage="census-run",
        params={
            "root": sysconfig.get_path("stdlib"),
            "package": given.package,
            "batches": given.batches,
        },
        max_workers=given.workers,
        config=Config(tracer=Progress()),
    )
    run.wait()  # in background mode there is something to wait for
    if run.status is not RunStatus.COMPLETED:
        raise SystemExit(1)  # what failed, and how to go on, is on stderr

    report = run[merge].result
    Path("census.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report)
    if all(task.restored for task in run.tasks):
        print(
            "\nEverything was restored from ./census-run: no module was parsed. The report is ./census.json"
        )
    else:
        parsed = [item for item in run[parse].items or () if not item.restored]
        print(
            f"\n{len(parsed)} of {len(run[parse].items or ())} batches were parsed now. The report is ./census.json"
        )


if __name__ == "__main__":
    main()
