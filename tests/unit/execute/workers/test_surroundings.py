"""What a worker takes on of its parent's state."""

from __future__ import annotations

import io
import logging
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dotflow_like.execute.workers.pickling import dumps, loads
from dotflow_like.execute.workers.surroundings import Surroundings, surroundings, take_on, traces

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def state_as_it_was(tmp_path: Path) -> Iterator[Path]:
    """Put back all that can be taken on."""
    folder, mask = Path.cwd(), os.umask(0o022)
    environ, path, argv = dict(os.environ), sys.path[:], sys.argv[:]
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:], sys.argv[:] = path, argv
    os.umask(mask)


def test_they_are_those_of_this_process(tmp_path: Path) -> None:
    os.environ["COLOUR"] = "red"
    sys.path.insert(0, "/first")
    sys.argv.append("--last")
    os.umask(0o027)
    here = surroundings()
    assert here.folder == str(tmp_path)
    assert here.environ == os.environ
    assert here.path == sys.path
    assert here.argv == sys.argv
    assert here.umask == 0o027
    assert os.umask(0o022) == 0o027, "looking at it changes nothing"


def test_all_of_them_are_taken_on(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    given = Surroundings(
        folder=str(tmp_path / "other"),
        environ={**os.environ, "COLOUR": "red"},
        path=["/only", *sys.path],
        argv=["script.py", "--last"],
        umask=0o077,
    )
    path = sys.path
    take_on(given)
    assert Path.cwd() == tmp_path / "other"
    assert os.environ["COLOUR"] == "red"
    assert sys.path is path
    assert path[0] == "/only"
    assert sys.argv == ["script.py", "--last"]
    (tmp_path / "file").touch()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert surroundings() == given


def test_taking_on_copies() -> None:
    given = surroundings()
    take_on(given)
    os.environ["COLOUR"] = "red"
    sys.path.append("/later")
    assert "COLOUR" not in given.environ
    assert "/later" not in given.path


def test_variables_the_parent_has_no_more_are_removed_for_children_too() -> None:
    os.environ["STAYS"], given = "1", surroundings()
    given.environ["STAYS"] = "2"
    os.environ["GOES"] = "1"
    take_on(given)
    assert "GOES" not in os.environ
    told = subprocess.run(["/usr/bin/env"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert "STAYS=2" in told
    assert not [line for line in told if line.startswith("GOES=")]


def test_values_that_are_no_text_cross() -> None:
    os.environb[b"ODD"] = b"\xff\xfe"
    os.environ["EMPTY"] = ""
    dumped = dumps(surroundings())
    del os.environb[b"ODD"], os.environ["EMPTY"]
    take_on(loads(b"".join(dumped.chunks), dumped.buffers))
    assert os.environb[b"ODD"] == b"\xff\xfe"
    assert os.environ["EMPTY"] == ""


def test_a_folder_that_is_gone_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    os.environ["COLOUR"] = "red"
    given = surroundings()
    assert given.folder is None
    os.chdir(tmp_path)
    del os.environ["COLOUR"]
    take_on(given)
    assert Path.cwd() == tmp_path, "it stays where it is"
    assert os.environ["COLOUR"] == "red"


def test_a_folder_that_cannot_be_entered_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        take_on(surroundings()._replace(folder=str(tmp_path / "nowhere")))


def test_where_nothing_tells_the_umask_it_is_the_same_after_looking(monkeypatch: Patch) -> None:
    def read_bytes(path: Path) -> bytes:
        raise FileNotFoundError(path)

    os.umask(0o031)
    monkeypatch.setattr(Path, "read_bytes", read_bytes)  # as where there is no /proc
    assert surroundings().umask == 0o031
    assert os.umask(0o022) == 0o031


# What a body leaves behind


def test_without_a_change_there_are_the_same_traces() -> None:
    assert traces() == traces()


def lower_a_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))


@pytest.mark.parametrize(
    "change",
    [
        lower_a_limit,
        lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
        lambda: signal.signal(signal.SIGTERM, lambda *_: None),
        lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1),
        lambda: logging.getLogger().addHandler(logging.NullHandler()),
        lambda: sys.stdout.close(),
        lambda: setattr(sys, "stderr", io.StringIO()),
        lambda: setattr(sys, "stdout", None),
    ],
    ids=["limit", "ignored", "handler", "recursion", "logging", "closed", "replaced", "none"],
)
def test_what_a_body_changes_leaves_traces(change: Callable[[], object], monkeypatch: Patch) -> None:
    limit, recursion = resource.getrlimit(resource.RLIMIT_NOFILE), sys.getrecursionlimit()
    handlers = {each: signal.getsignal(each) for each in (signal.SIGUSR1, signal.SIGTERM)}
    root = logging.getLogger().handlers[:]
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    before = traces()
    try:
        change()
        assert traces() != before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        sys.setrecursionlimit(recursion)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logging.getLogger().handlers[:] = root
