"""The examples, run as a user runs them: in a process of their own, from an empty folder."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from dotflow_like import Storage
from dotflow_like.testing import StorageContract

EXAMPLES = Path(__file__).parents[2] / "examples"
CENSUS = EXAMPLES / "stdlib_census.py"
SMALL = sorted(path for path in EXAMPLES.glob("*.py") if path != CENSUS)
STRICT = os.environ | {"PYTHONWARNINGS": "error"}


def run(script: Path, folder: Path, *arguments: str) -> str:
    """Run a script to its end and return what it printed; it may not fail, warn or print an error."""
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=STRICT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("script", SMALL, ids=lambda path: path.stem)
def test_an_example_says_what_it_shows_and_leaves_nothing_behind(script: Path, tmp_path: Path) -> None:
    assert run(script, tmp_path).strip()
    assert list(tmp_path.iterdir()) == []


class TestSqliteStorage(StorageContract):
    """The storage of `custom_storage.py` keeps the contract."""

    def make_storage(self, tmp_path: Path) -> Storage:
        self.path = tmp_path / "not" / "yet" / "results.db"
        return self.reopen(None)

    def reopen(self, storage: Storage | None) -> Storage:
        return runpy.run_path(str(EXAMPLES / "custom_storage.py"))["SqliteStorage"](str(self.path))


def test_the_census_counts_a_package(tmp_path: Path) -> None:
    printed = run(CENSUS, tmp_path, "--package", "json", "--batches", "2", "--mode", "sequential")
    report = json.loads((tmp_path / "census.json").read_text(encoding="utf-8"))
    files = sorted(Path(sysconfig.get_path("stdlib"), "json").rglob("*.py"))
    assert report["modules"] == len(files)
    assert report["lines"] == sum(len(file.read_bytes().splitlines()) for file in files)
    assert report["classes"] == 3  # JSONDecodeError, JSONDecoder, JSONEncoder
    assert report["not_python"] == {}
    assert [each["lines"] for each in report["largest"]] == sorted(
        (each["lines"] for each in report["largest"]), reverse=True
    )
    assert "parse 1/2\nparse 2/2\n" in printed
    assert "json/decoder.py" in printed


def test_the_census_finds_everything_done_the_second_time(tmp_path: Path) -> None:
    choice = ("--package", "json", "--batches", "2", "--workers", "1")
    first = run(CENSUS, tmp_path, *choice)
    report = (tmp_path / "census.json").read_bytes()
    assert "no module was parsed" not in first
    (tmp_path / "census.json").unlink()
    second = run(CENSUS, tmp_path, *choice)
    assert "Everything was restored from ./census-run: no module was parsed." in second
    assert "parse 1/2" not in second
    assert (tmp_path / "census.json").read_bytes() == report


def test_the_census_is_the_same_in_every_mode_and_in_any_number_of_batches(tmp_path: Path) -> None:
    reports = set()
    for mode, batches in (("sequential", 1), ("sequential_group", 2), ("background", 3), ("parallel", 40)):
        folder = tmp_path / mode
        folder.mkdir()
        run(CENSUS, folder, "--package", "email", "--mode", mode, "--batches", str(batches), "--workers", "2")
        reports.add((folder / "census.json").read_bytes())
    assert len(reports) == 1


def test_the_census_of_another_package_is_computed_anew(tmp_path: Path) -> None:
    for package in ("json", "email"):
        run(CENSUS, tmp_path, "--package", package, "--mode", "sequential")
        report = json.loads((tmp_path / "census.json").read_text(encoding="utf-8"))
        assert all(each["path"].startswith(f"{package}/") for each in report["largest"])


def test_the_census_names_what_does_not_parse(tmp_path: Path) -> None:
    library = tmp_path / "library"
    library.mkdir()
    (library / "good.py").write_text('"""Documented."""\ndef f(): pass\n', encoding="utf-8")
    (library / "bad.py").write_text("def (:\n", encoding="utf-8")
    (library / "zero.py").write_bytes(b"\0")
    census = runpy.run_path(str(CENSUS))
    batches = census["list_files"](str(library), None, 2)
    report = census["merge"]([census["parse"](str(library), files) for files in batches], None)
    assert (report["modules"], report["share_documented"]) == (1, 0.5)
    assert report["not_python"].keys() == {"bad.py", "zero.py"}


@pytest.mark.crash
@pytest.mark.timeout(600)  # seconds of computing, and a busy machine has few of them to give
def test_the_whole_census_killed_midway_goes_on_and_ends_with_the_same_report(tmp_path: Path) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    killed.mkdir()
    undisturbed.mkdir()
    with subprocess.Popen(
        [sys.executable, str(CENSUS)],
        cwd=killed,
        env=STRICT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("parse 3/40") for line in process.stdout)
        os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (killed / "census.json").exists()

    printed = run(CENSUS, killed)
    restored = int(printed.partition("/40 restored\n")[0].removeprefix("parse "))
    assert 3 <= restored < 40
    assert f"{40 - restored} of 40 batches were parsed now." in printed

    run(CENSUS, undisturbed)
    report = (killed / "census.json").read_bytes()
    assert report == (undisturbed / "census.json").read_bytes()
    assert json.loads(report)["modules"] > 500
