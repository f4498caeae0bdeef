"""Results of any kind, under `Config(codec="pickle")`: what comes back, where, and what is never loaded."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import dotflow_like
from dotflow_like import (
    CodecError,
    Config,
    ConfigError,
    CorruptCheckpoint,
    FileStorage,
    Manager,
    MemoryStorage,
    NotSerializable,
    Run,
    TamperedCheckpoint,
    Workflow,
    task,
)
from dotflow_like.config import open_journal
from dotflow_like.record.journal import Encoded

RunIn = Callable[..., Manager]

PACKAGE = str(Path(dotflow_like.__file__).parent.parent)
STORES = ["file", "sqlite"]


def quiet(tasks: Any) -> None:
    """Do nothing."""


def at(store: str, folder: Path) -> str:
    return {"file": f"file://{folder}/runs", "sqlite": f"sqlite:///{folder}/runs.db"}[store]


def config(folder: Path, store: str = "file", **options: Any) -> Config:
    return Config(storage=at(store, folder), **({"codec": "pickle", "key_file": folder / "key"} | options))


# In the process that made it


def test_any_object_is_a_result_in_every_mode(run_in: RunIn, tmp_path: Path) -> None:
    @task
    def make() -> Any:
        return {"double": lambda x: 2 * x, "plain": [1, (2,)]}

    @task
    def use(given: Any) -> Any:
        return given["double"](given["plain"][0])

    run = run_in([make, use.bind(given=make)], config=config(tmp_path)).raise_for_failure()
    assert run["use"].result == 2
    assert run["make"].result["double"](4) == 8
    assert run["make"].result["plain"] == [1, (2,)]


def test_what_cannot_be_stored_fails_its_task_in_every_mode(run_in: RunIn, tmp_path: Path) -> None:
    class Odd(Exception):
        def __init__(self, code: int, text: str) -> None:
            super().__init__(text)

    @task
    def lock() -> Any:
        return {"lock": [threading.Lock()]}

    @task
    def odd() -> Any:
        return Odd(1, "x")

    run = run_in([lock, odd], config=config(tmp_path), keep_going=True, on_failure=quiet)
    error = run["lock"].errors[0]
    assert error.exception == "NotSerializable"
    assert (
        "`result['lock'][0]` cannot be stored: a _thread.lock has no stored form; nor can it be"
        in error.message
    )
    assert "cannot pickle '_thread.lock' object" in error.message
    assert isinstance(error.error, NotSerializable)
    assert "nor can it be loaded when it was pickled: TypeError" in run["odd"].errors[0].message


def test_the_default_codec_names_the_other_one(tmp_path: Path) -> None:
    run = Manager([task(lambda: print, name="one")], storage=tmp_path / "runs", on_failure=quiet)
    assert "Config(codec='pickle')" in run["one"].errors[0].message


def test_objects_in_memory_are_what_they_are(tmp_path: Path) -> None:
    value = object()
    options = Config(codec="pickle", key_file=tmp_path / "key")
    assert Manager([task(lambda: value, name="one")], config=options)["one"].result is value
    assert list(tmp_path.iterdir()) == []


# In other processes

SCRIPT = '''
import enum, functools, sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dotflow_like import Config, Manager, register, task


class Plain:
    def __init__(self, x): self.x = x
    def double(self): return 2 * self.x
    def like(self, other): return isinstance(other, Plain)

    class Nested:
        pass


class Slotted(Plain):
    __slots__ = ("y",)
    def __init__(self, x, y):
        super().__init__(x)
        self.y = y


@dataclass
class Unknown:
    """Nobody annotates or registers it."""
    x: int


@dataclass
class Annotated:
    x: Any


@register
@dataclass
class Registered:
    x: Any


class Pair(NamedTuple):
    left: Any
    right: Any


class Colour(enum.Enum):
    RED = 1


def helper(x): return x + OFFSET


OFFSET = 1
here = Path(__file__).parent


def note(word):
    with (here / "ledger").open("a") as file:
        file.write(word + "\\n")


@task
def make() -> dict[str, Annotated | Any]:
    note("make")
    plain = Plain(4)
    plain.me = plain
    return {
        "plain": plain, "slotted": Slotted(1, [2]), "unknown": Unknown(1), "pair": Pair(1, plain),
        "annotated": Annotated(Plain(1)), "registered": Registered(Colour.RED), "colour": Colour.RED,
        "part": functools.partial(helper, 4), "helper": helper, "class": Plain, "bound": plain.double,
        "error": ValueError("x"), "nested": Plain.Nested(),
    }


@task
def small() -> Annotated:
    note("small")
    return Annotated(3)


def check(given):
    plain = given["plain"]
    assert type(plain) is Plain and plain.me is plain and plain.double() == 8 and plain.like(given["slotted"])
    assert type(given["slotted"]) is Slotted and (given["slotted"].x, given["slotted"].y) == (1, [2])
    assert type(given["unknown"]) is Unknown and given["unknown"] == Unknown(1)
    assert type(given["pair"]) is Pair and given["pair"].right is plain
    assert type(given["annotated"]) is Annotated and type(given["annotated"].x) is Plain
    assert given["registered"] == Registered(Colour.RED) and given["colour"] is Colour.RED
    assert given["part"]() == 5 and given["helper"] is helper and given["class"] is Plain
    assert given["bound"].__self__ is plain
    assert type(given["nested"]) is Plain.Nested
    assert type(given["error"]) is ValueError and given["error"].args == ("x",)


@task
def look(given, one):
    note("look")
    check(given)
    assert type(one) is Annotated and one == Annotated(3)
    return "same"


@task
def blind(given):
    """Mentions no class."""
    note("blind")
    plain = given["plain"]
    return [plain.double(), plain.like(plain), type(plain).__name__, given["part"](), given["bound"]()]


@task
def again(given):
    note("again")
    return given


def main(storage, mode, version):
    options = {"max_workers": 2} if mode == "parallel" else {}
    users = [look.bind(given=make, one=small), blind.bind(given=make), again.bind(given=make)]
    users = [each.with_options(version=version) for each in users]
    run = Manager(
        [make, small, *users], mode=mode, workflow_id="run", resume=True, on_code_change="rerun",
        config=Config(storage=storage, codec="pickle", key_file=here / "key"), **options,
    ).wait()
    run.raise_for_failure()
    assert run["look"].result == "same"
    assert run["blind"].result == [8, True, "Plain", 5, 8]
    check(run["make"].result)
    check(run["again"].result)


if __name__ == "__main__":
    main(*sys.argv[1:])
'''


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """A function that runs Python with arguments, and returns what it prints; it has to end well."""

    def run(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", *map(str, arguments)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": f"{PACKAGE}:{tmp_path}",
                "XDG_CONFIG_HOME": f"{tmp_path}/config",
            },
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return run


@pytest.mark.parametrize(
    ("store", "first", "second"),
    [
        ("file", "sequential", "parallel"),
        ("file", "background", "parallel"),
        ("sqlite", "parallel", "sequential"),
        ("sqlite", "parallel", "background"),
    ],
)
def test_classes_of_a_script_are_its_own_wherever_a_result_is_loaded(
    tmp_path: Path, python: Callable[..., str], store: str, first: str, second: str
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    place = at(store, tmp_path)
    python("script.py", place, first, "1")
    python("script.py", place, second, "1")
    python("script.py", place, second, "2")
    ran = (tmp_path / "ledger").read_text().split()
    assert sorted(ran) == sorted(["make", "small", *["look", "blind", "again"] * 2])


def test_a_script_may_be_imported_and_a_module_run_as_a_script(
    tmp_path: Path, python: Callable[..., str]
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    for number, other in enumerate(["parallel", "sequential"]):
        imported = "import sys, script; script.main(*sys.argv[1:])"
        one, two = tmp_path / f"one-{number}", tmp_path / f"two-{number}"
        python("script.py", one, "parallel", "1")
        python("-c", imported, one, other, "2")
        python("-c", imported, two, "parallel", "1")
        python("script.py", two, other, "2")
        python("-m", "script", two, other, "3")
    ran = (tmp_path / "ledger").read_text().split()
    assert ran.count("make") == 4
    assert ran.count("look") == 10


def test_a_restored_object_has_the_code_its_class_has_now(tmp_path: Path, python: Callable[..., str]) -> None:
    script = tmp_path / "script.py"
    for mode in ("sequential", "parallel"):
        script.write_text(SCRIPT)
        python("script.py", tmp_path / mode, mode, "1")
        changed = SCRIPT.replace("2 * self.x", "2 * self.x + 0.5").replace("OFFSET = 1", "OFFSET = 1.5")
        script.write_text(
            changed.replace("== 8", "== 8.5")
            .replace("() == 5", "() == 5.5")
            .replace('[8, True, "Plain", 5, 8]', '[8.5, True, "Plain", 5.5, 8.5]')
        )
        python("script.py", tmp_path / mode, mode, "2")
    assert (tmp_path / "ledger").read_text().split().count("make") == 2


ENDING = """
import sys, time
from dotflow_like import Config, Manager, task

class Plain:
    pass

@task
def plain():
    while hasattr(sys.modules["__main__"], "__file__"):  # the script goes on
        time.sleep(0.001)
    return [Plain()]

run = Manager([plain], mode="background", workflow_id="run", resume=True, config=Config(storage="runs", codec="pickle"))
if len(sys.argv) > 1:
    run.wait().raise_for_failure()
    assert run["plain"].restored
    assert type(run["plain"].result[0]) is Plain
"""


def test_what_is_stored_when_the_script_has_ended_is_found_by_the_next_one(
    tmp_path: Path, python: Callable[..., str]
) -> None:
    (tmp_path / "script.py").write_text(ENDING)
    python("script.py")
    python("script.py", "check")
    assert (tmp_path / "config" / "dotflow_like" / "key").exists()


# One codec and the other


@pytest.mark.parametrize("store", STORES)
def test_a_run_goes_on_under_the_other_codec_as_far_as_results_are_json(tmp_path: Path, store: str) -> None:
    ran: list[str] = []

    @task
    def plain() -> Any:
        ran.append("plain")
        return {"a": (1, b"x" * 2000)}

    @task
    def odd() -> Any:
        ran.append("odd")
        return [print]

    @task
    def use(given: Any) -> Any:
        return given

    def run(codec: str, *more: Any) -> Run:
        options = {"codec": codec, "key_file": tmp_path / "key" if codec == "pickle" else None}
        return Workflow([plain, odd, *more]).run(
            workflow_id="run", resume=True, config=config(tmp_path, store, **options), on_failure=quiet,
            keep_going=True,
        )  # fmt: skip

    assert run("json")["odd"].errors[0].exception == "NotSerializable"
    second = run("pickle")
    assert (second["plain"].restored, second["odd"].result) == (True, [print])
    third = run("json", use.bind(given=odd))
    assert third["plain"].restored
    assert third["odd"].restored
    assert third["plain"].result == {"a": (1, b"x" * 2000)}
    with pytest.raises(CodecError, match=r"result of task 'odd'.*a signed pickle.*Config\(codec='pickle'\)"):
        third["odd"].result
    assert third["use"].errors[0].exception == "CodecError"
    assert run("pickle", use.bind(given=odd))["use"].result == [print]
    assert ran == ["plain", "odd", "odd"]


# The key


def test_the_key_is_made_when_something_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    options = Config(storage=tmp_path / "runs", codec="pickle")
    workflow = Workflow([task(lambda: 1, name="one")])
    workflow.plan(config=options)
    workflow.run(config=options)
    assert not (tmp_path / "config").exists()
    Workflow([task(lambda: print, name="one")]).run(config=options).raise_for_failure()
    key = tmp_path / "config" / "dotflow_like" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_text()) == 65


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "yaml"}, "codec is 'yaml'; there are 'json' and 'pickle'"),
        ({"codec": None}, "codec is None; there are"),
        ({"codec": ["pickle"]}, r"codec is \['pickle'\]; there are"),
        ({"key_file": "key"}, "key_file= goes with codec='pickle'"),
        ({"key_file": "key", "codec": "json"}, "key_file= goes with codec='pickle'"),
        ({"key_file": "", "codec": "pickle"}, "key_file is ''; give the path of a file"),
        ({"key_file": "a\0b", "codec": "pickle"}, "key_file is 'a.x00b'; give the path of a file"),
        ({"key_file": 3, "codec": "pickle"}, "key_file is 3; give the path of a file"),
        ({"key_file": b"key", "codec": "pickle"}, "key_file is b'key'; give the path of a file"),
    ],
)
def test_words_that_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config(**options)


@pytest.mark.parametrize(
    ("store", "place"),
    [
        ("file", "runs/key"),
        ("file", "runs/a/b/key"),
        ("file", "runs"),
        ("sqlite", "runs.db"),
        ("sqlite", "runs.db-wal"),
        ("sqlite", "runs.db-locks/key"),
    ],
)
def test_a_key_in_the_store_is_refused_before_anything_runs(tmp_path: Path, store: str, place: str) -> None:
    ran: list[int] = []
    workflow = Workflow([task(lambda: ran.append(1), name="one")])
    options = config(tmp_path, store, key_file=tmp_path / place)
    for ask in (workflow.plan, workflow.run, workflow.start):
        with pytest.raises(ConfigError, match="lies in the store"):
            ask(config=options)
    assert ran == []
    assert list(tmp_path.iterdir()) == []


def test_a_default_place_in_the_store_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    with pytest.raises(ConfigError, match="lies in the store"):
        Workflow([task(lambda: 1)]).run(config=Config(storage=FileStorage(tmp_path), codec="pickle"))


@pytest.mark.parametrize("mode", [0o644, 0o660])
def test_a_key_that_others_can_read_is_refused_before_anything_runs(tmp_path: Path, mode: int) -> None:
    (tmp_path / "key").write_text("0f" * 32)
    (tmp_path / "key").chmod(mode)
    ran: list[int] = []
    with pytest.raises(ConfigError, match="open to other users") as refused:
        Workflow([task(lambda: ran.append(1), name="one")]).run(config=config(tmp_path))
    assert ran == []
    assert "0f0f" not in str(refused.value)


@pytest.mark.parametrize("store", STORES)
def test_a_key_that_is_gone_is_asked_for_and_not_replaced(tmp_path: Path, store: str) -> None:
    ran: list[int] = []

    def run() -> Run:
        one = task(lambda: ran.append(1) or print, name="one")
        return Workflow([one]).run(workflow_id="run", resume=True, config=config(tmp_path, store))

    run()
    kept = (tmp_path / "key").read_bytes()
    (tmp_path / "key").unlink()
    with pytest.raises(CodecError, match=r"result of task 'one'.*is not at '.*/key'.*Config\(key_file="):
        run()["one"].result
    assert not (tmp_path / "key").exists()
    (tmp_path / "key").write_bytes(kept)
    (tmp_path / "key").chmod(0o600)
    assert run()["one"].result is print
    assert ran == [1]


def test_without_a_place_for_the_key_only_what_needs_it_fails(run_in: RunIn, tmp_path: Path) -> None:
    (tmp_path / "key").symlink_to(tmp_path / "gone")
    tasks = [task(lambda: [1], name="plain"), task(lambda: [print], name="odd")]
    run = run_in(tasks, config=config(tmp_path), keep_going=True, on_failure=quiet)
    assert run["plain"].result == [1]
    assert run["odd"].errors[0].exception == "ConfigError"
    assert "is a link that leads nowhere" in run["odd"].errors[0].message


def test_the_key_is_shown_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    text = "0f1e2d3c4b5a6978" * 4
    raw = bytes.fromhex(text)
    (tmp_path / "key").write_text(text)
    (tmp_path / "key").chmod(0o600)
    made = config(tmp_path)
    bad = task(threading.Lock, name="bad")
    tasks = [task(lambda: print, name="good"), bad, bad.with_options(name="isolated", isolate=True)]
    run = Manager(tasks, config=made, keep_going=True, workflow_id="run")
    assert [each.status for each in run.tasks] == ["completed", "failed", "failed"]
    (stored,) = (tmp_path / "runs" / "run" / "tasks").glob("good*")
    stored.write_bytes(stored.read_bytes().replace(b"print", b"prinz"))
    with pytest.raises(CorruptCheckpoint) as refused:
        run["good"].result
    shown = [repr(made), repr(run), str(run.to_dict()), caplog.text, *capfd.readouterr(), str(refused.value)]
    shown += [str(error) for each in run.tasks for error in each.errors]
    for each in shown:
        assert text not in each
        assert repr(raw)[2:20] not in each
    for path in (tmp_path / "runs").rglob("*"):
        if path.is_file():
            assert raw not in path.read_bytes()
            assert text.encode() not in path.read_bytes()


# What is planted


class Bomb:
    """Runs code when it is loaded."""

    def __init__(self, effect: Path) -> None:
        self.effect = effect

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.effect),)


LINE = b'{"named":[],"imported":[]}\n'
WAYS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "bare": lambda bomb, kept: bomb,
    "with a made-up signature": lambda bomb, kept: b"pickle 1 " + b"0" * 64 + b"\n" + LINE + bomb,
    "with the signature of the value": lambda bomb, kept: kept[:74] + LINE + bomb,
    "without a signature": lambda bomb, kept: b"pickle 1 \n" + LINE + bomb,
    "of another version": lambda bomb, kept: b"pickle 0 " + kept[9:74] + LINE + bomb,
}


@pytest.mark.parametrize("store", [*STORES, "memory"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("codec", ["pickle", "json"])
def test_a_planted_pickle_is_never_loaded(tmp_path: Path, store: str, way: str, codec: str) -> None:
    effect, memory = tmp_path / "effect", MemoryStorage()
    bomb = pickle.dumps(Bomb(effect))
    pickle.loads(bomb)
    effect.rmdir()  # so it would go off

    @task
    def make() -> Any:
        return [print]

    @task
    def use(given: Any) -> Any:
        return given

    def options(codec: str) -> Config:
        storage = memory if store == "memory" else at(store, tmp_path)
        return Config(storage=storage, codec=codec, key_file=tmp_path / "key" if codec == "pickle" else None)  # type: ignore[arg-type]

    workflow = Workflow([make])
    workflow.run(workflow_id="run", config=options("pickle")).raise_for_failure()
    # one who can write to the store, checksums and all, but has not the key
    journal = open_journal(options("pickle"), workflow)
    record = journal.tasks("run", ["make"])["make"].checkpoints["result"]
    planted = WAYS[way](bomb, record.value._bytes()[1])  # type: ignore[attr-defined]
    claim = journal.claim("run", "somebody", datetime.now(UTC))
    journal.commit(claim, [record._replace(value=Encoded(planted))])

    more = [make, use.bind(given=make), use.bind(given=make).with_options(name="elsewhere", isolate=True)]
    run = Workflow(more).run(
        workflow_id="run", resume=True, config=options(codec), keep_going=True, on_failure=quiet
    )
    assert run["make"].restored
    with pytest.raises(CodecError, match="result of task 'make' of run run") as refused:
        run["make"].result
    assert isinstance(refused.value, TamperedCheckpoint) == (codec == "pickle" and "with" in way.split())
    for name in ("use", "elsewhere"):
        assert run[name].errors[0].exception == type(refused.value).__name__
    assert not effect.exists()
