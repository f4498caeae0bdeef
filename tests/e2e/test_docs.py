"""What the documentation says is tried: its Python runs, its reference and its lists are complete.

Of each page the blocks marked `python` run in order, as one script, in an empty folder; so do those of each
module's docstrings. A block whose first line is `# not run: <reason>` only has to be Python.
"""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dotflow_like
import dotflow_like.testing

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = sorted((ROOT / "dotflow_like").rglob("*.py"))
NOT_RUN = "# not run: "
WORK, SHORTER = (
    "time.sleep(1)  # stands for work",
    "time.sleep(0.2)",
)  # a reader needs time to kill it, a test less
MANY = 3  # blocks that are not run, in all

Block = tuple[int, list[str]]


def blocks_of(text: str) -> Iterator[Block]:
    """Give each block of Python in a Markdown text: how many lines are above it, and its own lines."""
    lines = text.splitlines()
    inside, indent, start = False, 0, 0
    for number, line in enumerate(lines):
        mark = line.strip()
        if not inside and mark in ("```python", "``` python"):
            inside, indent, start = True, len(line) - len(line.lstrip()), number + 1
        elif inside and mark == "```":
            inside = False
            yield start, [each[indent:] for each in lines[start:number]]


def docstrings_of(path: Path) -> Iterator[Block]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, documented):
            yield from blocks_of(ast.get_docstring(node) or "")


def is_run(block: Block) -> bool:
    return not block[1][0].startswith(NOT_RUN)


def script_of(blocks: list[Block]) -> str:
    """Return the blocks as one script, with the line numbers they have in their page."""
    script: list[str] = []
    for above, lines in filter(is_run, blocks):
        script += [""] * (above - len(script))
        script += lines
    return "\n".join(script).replace(WORK, SHORTER) + "\n"


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


IN_PAGES = {
    named(path): blocks for path in PAGES if (blocks := [*blocks_of(path.read_text(encoding="utf-8"))])
}
IN_DOCSTRINGS = {named(path): blocks for path in MODULES if (blocks := [*docstrings_of(path)])}
BLOCKS = IN_PAGES | IN_DOCSTRINGS


@pytest.mark.parametrize("name", BLOCKS)
def test_the_python_of_a_page_runs(name: str, tmp_path: Path) -> None:
    script = tmp_path / f"{Path(name).stem.replace('-', '_')}.py"
    script.write_text(script_of(BLOCKS[name]), encoding="utf-8")
    folder = tmp_path / "empty"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", BLOCKS)
def test_what_is_not_run_is_python_and_says_why(name: str) -> None:
    for _, lines in BLOCKS[name]:
        compile("\n".join(lines), name, "exec")
        assert lines[0].startswith(NOT_RUN) == ("not run" in lines[0])
        assert lines[0].removeprefix(NOT_RUN)


def test_almost_everything_is_run() -> None:
    assert sum(not is_run(block) for blocks in BLOCKS.values() for block in blocks) <= MANY


def test_the_tutorial_goes_on_after_a_kill(tmp_path: Path) -> None:
    """The last script of the tutorial does what the page says of it."""
    script = tmp_path / "pipeline.py"
    script.write_text(script_of(IN_PAGES["docs/tutorial.md"][-1:]), encoding="utf-8")
    command = [sys.executable, "-W", "error", str(script)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for word in ("the", "quick"):  # when the second body prints, the first one's result is recorded
            assert process.stdout.readline() == f"counted {word}\n"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True)
    assert 1 <= int(re.findall(r"(\d+) of 8 were restored", again.stdout)[0]) < 8
    last = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True)
    assert "counted" not in last.stdout
    assert "8 of 8 were restored" in last.stdout


@pytest.mark.parametrize(
    "package", [dotflow_like, dotflow_like.testing], ids=lambda package: package.__name__
)
def test_the_reference_has_every_public_name(package: object) -> None:
    reference = "\n".join(
        path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "reference").glob("*.md"))
    )
    listed = set(re.findall(r"^::: ([\w.]+)$", reference, re.MULTILINE))
    if "dotflow_like.errors" in listed:
        listed |= {f"dotflow_like.{name}" for name in dotflow_like.errors.__all__}
    wanted = {f"{package.__name__}.{name}" for name in package.__all__}  # type: ignore[attr-defined]
    assert wanted <= listed


def test_every_example_is_named_in_the_documentation() -> None:
    index = (ROOT / "docs" / "how-to" / "index.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in (ROOT / "examples").glob("*.py")) == sorted(
        set(re.findall(r"`(\w+\.py)`", index))
    )


def test_links_from_the_readme_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)#]+)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
