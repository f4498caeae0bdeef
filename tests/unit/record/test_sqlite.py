from __future__ import annotations

import gc
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import dotflow_like
from dotflow_like.errors import ConfigError, CorruptCheckpoint, StorageError
from dotflow_like.record import sqlite
from dotflow_like.record.sqlite import Database, database_at

PACKAGE = str(Path(dotflow_like.__file__).parent.parent)
SCHEMA = (
    (
        "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)",
        "CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY, text TEXT)",
        "CREATE TABLE IF NOT EXISTS more (number INTEGER PRIMARY KEY)",
    ),
    (
        "ALTER TABLE notes ADD COLUMN length INTEGER",
        "UPDATE notes SET length = length(text)",
        "CREATE INDEX by_length ON notes (length)",
    ),
    ("ALTER TABLE notes RENAME COLUMN text TO body", "DROP TABLE more"),
)
"""Three versions of a schema; a statement of the later ones cannot be repeated."""
START = f"""
import os, signal, sys, threading, time
from dotflow_like.errors import StorageError
from dotflow_like.record.sqlite import Database
SCHEMA = {SCHEMA!r}
database = Database(sys.argv[1], "process", sys.argv[1] + "-locks", SCHEMA[:1], patience=30)
def note(number, text="x"):
    database.write(lambda connection: connection.execute("INSERT INTO notes (number, text) VALUES (?, ?)", (number, text)))
"""


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that runs code in a Python of its own, with `database` at the first argument."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", START + code, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": PACKAGE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def finish(process: subprocess.Popen[str], say: str | None = None) -> str:
    out, _ = process.communicate(say, timeout=60)
    assert process.returncode == 0
    return out


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def opened(path: Path | str, migrations: Sequence[Any] = SCHEMA[:1], **options: Any) -> Database:
    """Return a `Database` of its own, as another process has."""
    options = {"durability": "process", "locks": f"{path}-locks", "patience": 30} | options
    return Database(str(path), migrations=migrations, **options)


def note(database: Database, number: int, text: object = "x", **options: Any) -> None:
    statement = "INSERT INTO notes (number, text) VALUES (?, ?)"
    database.write(lambda connection: connection.execute(statement, (number, text)), **options)


def numbers(database: Database, **options: Any) -> list[int]:
    (found,) = database.read("SELECT number FROM notes ORDER BY number", **options)
    return [number for (number,) in found]


def plain(path: Path | str, query: str) -> list[Any]:
    """Return what SQLite finds without this library."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def mode_of(path: Path | str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


def descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = opened(path)
    yield database
    database.close()


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)


# opening


def test_nothing_is_touched_before_the_first_write(tmp_path: Path) -> None:
    database = opened(tmp_path / "a" / "runs.db")
    assert database.read("SELECT 1", "SELECT 2") == [[], []]
    database.close()
    assert list(tmp_path.iterdir()) == []


def test_the_first_write_makes_the_file_and_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "runs.db"
    database = opened(path)
    note(database, 1)
    assert {each.name for each in path.parent.iterdir()} == {
        "runs.db", "runs.db-wal", "runs.db-shm", "runs.db-locks",
    }  # fmt: skip
    database.close()
    assert {each.name for each in path.parent.iterdir()} == {"runs.db", "runs.db-locks"}
    assert plain(path, "SELECT number FROM notes") == [(1,)]


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_what_is_made_is_for_the_owner_alone(tmp_path: Path, umask: Callable[[int], int], mask: int) -> None:
    umask(mask)
    path = tmp_path / "a" / "b" / "runs.db"
    database = opened(path)
    note(database, 1)
    assert {mode_of(folder) for folder in (tmp_path / "a", path.parent, database.locks)} == {0o700}
    files = [path, f"{path}-wal", f"{path}-shm", f"{database.locks}/writing"]
    assert {mode_of(file) for file in files} == {0o600}
    database.close()


def test_what_exists_is_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    path = folder / "runs.db"
    path.touch()
    path.chmod(0o640)
    locks = folder / "runs.db-locks"
    locks.mkdir()
    locks.chmod(0o770)
    database = opened(path)
    note(database, 1)
    assert (mode_of(folder), mode_of(path), mode_of(locks)) == (0o755, 0o640, 0o770)
    assert mode_of(f"{path}-wal") == 0o640  # whoever may read the one may read the other
    database.close()


def test_tables_of_somebody_else_stay(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
        connection.execute("INSERT INTO mine VALUES (7)")
        connection.commit()
    database = opened(path)
    note(database, 1)
    database.close()
    assert plain(path, "SELECT x FROM mine") == [(7,)]


@pytest.mark.parametrize("durability", ["full", "process"])
def test_the_database_is_set_up_as_its_durability_asks(path: Path, durability: str) -> None:
    database = opened(path, durability=durability)
    note(database, 1)
    pragmas = {name: database.read(f"PRAGMA {name}")[0][0][0] for name in ("synchronous", "journal_mode")}
    assert pragmas == {"synchronous": 2 if durability == "full" else 1, "journal_mode": "wal"}
    database.close()
    assert plain(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_file_whose_mode_somebody_changed_is_in_wal_mode_again(path: Path, database: Database) -> None:
    note(database, 1)
    database.close()
    assert plain(path, "PRAGMA journal_mode=DELETE") == [("delete",)]
    note(database, 2)
    assert database.read("PRAGMA journal_mode") == [[("wal",)]]


@pytest.mark.parametrize(
    "name",
    [
        "%3f",
        "a b.db",
        "späß.db",
        "#1.db",
        "what?.db",
        "a&b=c.db",
        "50%.db",
        "'\";--.db",
        "\udcff\udcfe.db",
        "ü/ä/ö.db",
    ],
)
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    database = opened(tmp_path / name)
    note(database, 1)
    database.close()
    assert (tmp_path / name).exists()
    assert numbers(opened(database.path)) == [1]


def test_a_memory_database_is_no_name_for_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    database = database_at("file::memory:", "process", None, SCHEMA[:1])
    note(database, 1)
    assert (tmp_path / "file::memory:").is_file()


# one database for a file


def test_a_file_has_one_database_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "file").symlink_to("folder/runs.db")  # it is not there yet
    names = [
        "folder/runs.db",
        "./folder/../folder/runs.db",
        "link/runs.db",
        "file",
        f"{tmp_path}/folder/runs.db",
    ]
    databases = [database_at(name, "full", None, SCHEMA) for name in names]
    assert len(set(map(id, databases))) == 1
    assert databases[0].path == f"{tmp_path}/folder/runs.db"
    assert databases[0].locks == f"{tmp_path}/folder/runs.db-locks"


def test_a_relative_path_is_taken_from_where_the_process_is_at_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    database = database_at("runs.db", "full", "locks", SCHEMA[:1])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    note(database, 1)
    database.close()
    assert {each.name for each in tmp_path.iterdir()} == {"elsewhere", "runs.db", "locks"}
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_another_durability_or_folder_of_locks_is_another_database(path: Path) -> None:
    databases = [
        database_at(str(path), "full", None, SCHEMA),
        database_at(str(path), "process", None, SCHEMA),
        database_at(str(path), "full", f"{path}-others", SCHEMA),
    ]
    assert len(set(map(id, databases))) == 3


@pytest.mark.parametrize(("path", "durability"), [("", "full"), ("a\0b", "full"), ("a", "ful"), ("a", "")])
def test_what_cannot_be_a_database_is_refused_at_once(path: str, durability: Any) -> None:
    with pytest.raises(ConfigError):
        database_at(path, durability, None, SCHEMA)


def test_a_database_is_closed_when_nobody_has_it_and_others_were_used_since(
    tmp_path: Path, path: Path
) -> None:
    sqlite._recent.clear()  # of other tests
    gc.collect()
    database = database_at(str(path), "process", None, SCHEMA[:1])
    note(database, 1)
    before = descriptors()
    del database
    gc.collect()
    assert Path(f"{path}-wal").exists()
    others = [database_at(f"{tmp_path}/{i}.db", "process", None, SCHEMA) for i in range(sqlite._KEPT - 1)]
    assert numbers(database_at(str(path), "process", None, SCHEMA[:1])) == [1]  # used again
    others += [database_at(f"{tmp_path}/{i}.db", "process", None, SCHEMA) for i in range(sqlite._KEPT)]
    gc.collect()
    assert not Path(f"{path}-wal").exists()
    # the file, its log, its shared memory, the lock, and what tells whether the file is there
    assert descriptors() == before - (5 if hasattr(os, "O_PATH") else 4)
    assert not [each for each in sqlite._all if each.path == str(path)]


def test_a_closed_database_is_opened_by_the_next_use(database: Database) -> None:
    note(database, 1)
    database.close()
    database.close()
    assert numbers(database) == [1]
    database.close()
    note(database, 2)
    assert numbers(database) == [1, 2]


# transactions


def test_a_write_is_all_or_nothing(database: Database) -> None:
    note(database, 1)

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes (number) VALUES (2)")
        raise KeyError("in the middle")

    with pytest.raises(KeyError):
        database.write(work)
    assert numbers(database) == [1]
    with pytest.raises(StorageError, match=r"cannot write '.*runs\.db': UNIQUE constraint failed"):
        database.write(
            lambda connection: connection.executemany("INSERT INTO notes (number) VALUES (?)", [(3,), (1,)])
        )
    assert numbers(database) == [1]
    note(database, 2)
    assert numbers(opened(database.path)) == [1, 2]


def test_queries_that_are_read_together_see_one_moment(database: Database) -> None:
    note(database, 0)
    other = opened(database.path)
    stop = threading.Event()

    def go_on() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            note(other, number)

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        for _ in range(300):
            first, second = database.read("SELECT max(number) FROM notes", "SELECT max(number) FROM notes")
            assert first == second
    finally:
        stop.set()
        writer.join()
        other.close()


def test_what_a_thread_has_written_other_threads_read(database: Database) -> None:
    errors: list[BaseException] = []

    def work(begin: int) -> None:
        try:
            for number in range(begin, begin + 50):
                note(database, number)
                assert number in numbers(database)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(numbers(database)) == 400


def test_two_durabilities_of_one_file_go_on_side_by_side(path: Path) -> None:
    databases = [opened(path, durability=each) for each in ("full", "process")]

    def work(i: int) -> None:
        for number in range(50):
            note(databases[i % 2], 100 * i + number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    databases[0].close()  # in the middle: SQLite's locks of the other one stay
    for thread in threads:
        thread.join()
    assert (
        numbers(databases[0])
        == numbers(databases[1])
        == [100 * i + number for i in range(4) for number in range(50)]
    )
    for database in databases:
        database.close()
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]


# migrations


def test_a_new_file_gets_every_version_in_order(path: Path) -> None:
    database = opened(path, SCHEMA)
    database.write(lambda connection: connection.execute("INSERT INTO notes VALUES (1, 'abc', 3)"))
    assert database.read("SELECT version FROM schema_version") == [[(1,), (2,), (3,)]]
    assert database.read("SELECT body FROM notes") == [[("abc",)]]
    database.close()


def test_an_older_file_is_brought_to_the_version_of_today_when_it_is_opened(path: Path) -> None:
    database = opened(path)
    note(database, 1, "abc")
    database.close()
    newer = opened(path, SCHEMA)
    assert newer.read("SELECT body, length FROM notes") == [[("abc", 3)]]
    applied = newer.read("SELECT applied_at FROM schema_version")
    newer.close()
    assert newer.read("SELECT applied_at FROM schema_version") == applied  # nothing is done again
    newer.close()


def test_a_newer_file_is_refused(path: Path) -> None:
    newer = opened(path, SCHEMA)
    newer.write(lambda connection: None)
    newer.close()
    before = path.read_bytes()
    older = opened(path, SCHEMA[:2])
    message = r"cannot use '.*runs\.db': its schema is version 3, and this version of dotflow_like knows 2 at most; upgrade"
    with pytest.raises(StorageError, match=message):
        older.read("SELECT 1")
    with pytest.raises(StorageError, match=message):
        older.write(lambda connection: None)
    assert path.read_bytes() == before


def test_a_migration_that_fails_leaves_the_version_before(path: Path) -> None:
    database = opened(path)
    note(database, 1, "abc")
    database.close()
    broken = opened(
        path, (*SCHEMA[:2], ("ALTER TABLE notes RENAME COLUMN text TO body", "DROP TABLE missing"))
    )
    with pytest.raises(StorageError, match=r"cannot read '.*runs\.db': no such table: missing"):
        broken.read("SELECT 1")
    assert plain(path, "SELECT text, length FROM notes") == [("abc", 3)]
    assert plain(path, "SELECT version FROM schema_version") == [(1,), (2,)]
    whole = opened(path, SCHEMA)
    assert whole.read("SELECT body, length FROM notes") == [[("abc", 3)]]
    whole.close()


KILLED = """
class Deadly(tuple):  # a version in the middle of which the process is killed
    def __iter__(self):
        for at, statement in enumerate(super().__iter__()):
            if at == left:
                os.kill(os.getpid(), signal.SIGKILL)
            yield statement
        os.kill(os.getpid(), signal.SIGKILL)

number, left = int(sys.argv[2]), int(sys.argv[3])
SCHEMA = tuple(Deadly(each) if at == number else each for at, each in enumerate(SCHEMA))
Database(sys.argv[1], "process", sys.argv[1] + "-locks", SCHEMA).write(lambda connection: None)
"""


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_process_killed_at_any_statement_of_a_migration_leaves_what_the_next_one_finishes(
    start: Start, tmp_path: Path, version: int
) -> None:
    for left in range(len(SCHEMA[version]) + 1):
        path = tmp_path / f"{left}.db"
        if version:
            database = opened(path)
            note(database, 1, "abc")
            database.close()
        process = start(KILLED, path, version, left)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        database = opened(path, SCHEMA)
        database.write(lambda connection: connection.execute("INSERT INTO notes VALUES (2, 'ab', 2)"))
        expected = [("abc", 3), ("ab", 2)] if version else [("ab", 2)]
        assert database.read("SELECT body, length FROM notes ORDER BY number") == [expected]
        assert database.read("SELECT version FROM schema_version") == [[(1,), (2,), (3,)]]
        database.close()
        assert plain(path, "PRAGMA integrity_check") == [("ok",)]


# others that write


HOLD = """
import sqlite3
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


def test_a_program_that_keeps_the_database_locked_is_named(start: Start, path: Path) -> None:
    database = opened(path, patience=0.3)
    note(database, 1)
    bystander = start("database.read('SELECT 1'); print('there', flush=True); sys.stdin.readline()", path)
    assert line_of(bystander) == "there"
    process = start(HOLD, path)
    assert line_of(process) == "held"
    with pytest.raises(StorageError) as raised:
        note(database, 2)
    message = str(raised.value)
    assert f"cannot write '{path}': database is locked" in message
    assert f"process {process.pid} (" in message
    assert "kept locked for 0.3 s by" in message
    assert f"process {bystander.pid} " not in message  # it has the file open, and no lock that hinders
    assert numbers(database) == [1]  # readers need no lock
    finish(process, "\n")
    finish(bystander, "\n")
    note(database, 2)
    database.close()


def test_a_program_that_locks_the_database_for_a_while_is_waited_for(
    start: Start, database: Database
) -> None:
    note(database, 1)
    process = start(HOLD, database.path)
    assert line_of(process) == "held"
    writer = threading.Thread(target=note, args=(database, 2))
    writer.start()
    writer.join(0.2)
    assert writer.is_alive()
    finish(process, "\n")
    writer.join()
    assert numbers(database) == [1, 2]


STOPPED = """
def work(connection):
    connection.execute("INSERT INTO notes (number) VALUES (9)")
    print("in the middle", flush=True)
    sys.stdin.readline()
database.write(work)
"""


def test_a_process_of_ours_that_is_stopped_in_the_middle_of_a_write_is_named(
    start: Start, path: Path
) -> None:
    database = opened(path, patience=0.3)
    note(database, 1)
    process = start(STOPPED, path)
    assert line_of(process) == "in the middle"
    process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(StorageError) as raised:
            note(database, 2)
        assert f"cannot lock '{path}-locks/writing': process {process.pid} (" in str(raised.value)
        assert "has held it for 0.3 s" in str(raised.value)
        assert numbers(database) == [1]
        fresh = opened(path, patience=0.3)
        assert numbers(fresh) == [1]  # also one that was not open yet
        begun = time.monotonic()
        fresh.close()
        database.close()  # does not wait for it for ever
        assert time.monotonic() < begun + 20
    finally:
        process.send_signal(signal.SIGCONT)
    finish(process, "\n")
    note(database, 2)
    assert numbers(database) == [1, 2, 9]
    database.close()


def test_a_process_killed_in_the_middle_of_a_write_hinders_nobody(
    start: Start, path: Path, database: Database
) -> None:
    process = start("note(1)" + STOPPED, path)
    assert line_of(process) == "in the middle"
    process.kill()
    process.communicate(timeout=60)
    note(database, 2)
    assert numbers(database) == [1, 2]


def test_the_folder_of_the_locks_may_be_removed_at_any_time(path: Path, database: Database) -> None:
    note(database, 1)
    shutil.rmtree(f"{path}-locks")
    note(database, 2)
    assert Path(f"{path}-locks/writing").exists()
    assert numbers(database) == [1, 2]


# a file that goes away


def test_who_begins_anew_finds_what_is_there_now(path: Path, database: Database) -> None:
    note(database, 1)
    path.unlink()
    assert database.read("SELECT 1") == [[]]
    assert not path.exists()
    note(database, 2)
    assert numbers(database) == [2]


def test_who_goes_on_in_a_file_never_writes_into_the_one_that_took_its_place(
    path: Path, database: Database
) -> None:
    other = opened(f"{path}-other")
    note(other, 7)
    other.close()
    note(database, 1)
    place = database.place
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink()  # they belong to the file
    Path(other.path).replace(path)
    for _ in range(2):
        with pytest.raises(
            StorageError, match=r"cannot write '.*runs\.db': the file was deleted or replaced"
        ):
            note(database, 2, within=place)
    assert numbers(database, within=place) == [1]  # it is open still
    assert numbers(database) == [7]
    with pytest.raises(StorageError, match=r"cannot read '.*runs\.db': the file was deleted or replaced"):
        numbers(database, within=place)
    with pytest.raises(StorageError, match="deleted or replaced"):
        note(database, 2, within=place)
    note(database, 8, within=database.place)
    database.close()
    assert plain(path, "SELECT number FROM notes") == [(7,), (8,)]
    assert plain(path, "PRAGMA integrity_check") == [("ok",)]


def test_to_close_a_file_that_was_replaced_leaves_the_log_of_the_new_one(
    path: Path, database: Database
) -> None:
    note(database, 1)
    for ending in ("", "-wal", "-shm"):
        Path(f"{path}{ending}").unlink()
    other = opened(path)
    note(other, 7)
    assert Path(f"{path}-wal").stat().st_size
    database.close()
    assert Path(f"{path}-wal").stat().st_size
    note(other, 8)
    assert numbers(opened(path)) == [7, 8]
    other.close()


def test_a_deleted_folder_is_not_made_again_by_who_goes_on_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    database = opened(folder / "runs.db")
    note(database, 1)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(StorageError, match=r"cannot write '.*runs\.db'"):
        note(database, 2, within=database.place)
    assert numbers(database, within=database.place) == [1]
    assert list(tmp_path.iterdir()) == []
    note(database, 3)  # by who begins anew it is
    assert numbers(database) == [3]
    database.close()


# what cannot be written, or read

as_owner = pytest.mark.skipif(os.name == "nt", reason="modes of files mean little on Windows")

WITHOUT_POWERS = """
import ctypes
if os.getuid() == 0:  # to root modes of files are as good as none: then as one who has not these powers
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert libc.capset(header, (ctypes.c_uint32 * 6)()) == 0, ctypes.get_errno()
"""


@pytest.fixture
def powerless(start: Start) -> Callable[..., str]:
    """A function that runs code as `start` does, and as a user whom the modes of files bind."""
    if sys.platform != "linux" and os.getuid() == 0:
        pytest.skip("modes of files do not bind root, and only Linux takes that power from a process")
    return lambda code, *arguments: finish(start(WITHOUT_POWERS + code, *arguments))


ATTEMPT = """
try:
    print(NUMBERS if False else [number for (number,) in database.read("SELECT number FROM notes")[0]])
except StorageError as error:
    print(error)
try:
    note(2)
except StorageError as error:
    print(error)
"""


def test_a_file_that_may_not_be_written_is_read(path: Path, database: Database, powerless: Any) -> None:
    note(database, 1)
    database.close()
    path.chmod(0o400)
    read, written = powerless(ATTEMPT, path).splitlines()
    assert read == "[1]"
    assert written.startswith(f"cannot write '{path}': Permission denied (EACCES)")


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_file_in_a_folder_that_may_not_be_written_is_read(
    path: Path, database: Database, powerless: Any, has_locks: bool
) -> None:
    note(database, 1)
    database.close()
    if not has_locks:
        shutil.rmtree(database.locks)
    path.parent.chmod(0o500)
    try:
        read, written = powerless(ATTEMPT, path).splitlines()
        assert read == "[1]"
        assert written.startswith(f"cannot write '{path}': ")
        assert (
            f"this user may not write its folder '{path.parent}'" in written or "Permission denied" in written
        )
    finally:
        path.parent.chmod(0o700)


def test_a_file_that_cannot_be_written_is_not_read_without_its_log(
    start: Start, path: Path, powerless: Any
) -> None:
    process = start("note(1); os.kill(os.getpid(), signal.SIGKILL)", path)
    process.communicate(timeout=60)
    assert Path(f"{path}-wal").stat().st_size
    Path(f"{path}-shm").unlink()  # as a backup of it may lack
    path.parent.chmod(0o500)
    try:
        read, _ = powerless(ATTEMPT, path).splitlines()
        assert read == "[1]" or read.startswith(f"cannot read '{path}': ")
        assert read != "[]"
    finally:
        path.parent.chmod(0o700)
    assert powerless(ATTEMPT, path).splitlines()[0] == "[1]"


def test_a_file_that_may_not_be_read_says_so(path: Path, database: Database, powerless: Any) -> None:
    note(database, 1)
    database.close()
    path.chmod(0)
    for line in powerless(ATTEMPT, path).splitlines():
        assert f"'{path}': Permission denied (EACCES)" in line


def test_a_folder_that_may_not_be_looked_into_is_not_taken_for_an_empty_one(
    tmp_path: Path, powerless: Any
) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0)
    try:
        for line in powerless(ATTEMPT, folder / "runs.db").splitlines():
            assert f"'{folder}/runs.db': Permission denied" in line
    finally:
        folder.chmod(0o700)


def test_an_older_file_that_cannot_be_written_says_so(path: Path, database: Database, powerless: Any) -> None:
    note(database, 1)
    database.close()
    path.chmod(0o400)
    (line,) = powerless(
        "database = Database(sys.argv[1], 'process', sys.argv[1] + '-locks', SCHEMA)\n"
        "try: database.read('SELECT 1')\n"
        "except StorageError as error: print(error)",
        path,
    ).splitlines()
    assert line.startswith(f"cannot use '{path}': its schema is version 1, not 3, and it cannot be written (")
    assert line.endswith("let one who may write to it open it first")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_who_could_only_read_writes_as_soon_as_that_is_possible(
    path: Path, database: Database, powerless: Any, what: str
) -> None:
    note(database, 1)
    database.close()
    closed = path if what == "file" else path.parent
    closed.chmod(0o500)
    assert powerless(ATTEMPT + "os.chmod(sys.argv[2], 0o700)\nnote(3)", path, closed).startswith("[1]")
    assert numbers(database) == [1, 3]


def test_a_file_read_as_one_that_nobody_changes_is_looked_at_again_when_somebody_did(
    path: Path, database: Database, powerless: Any, start: Start
) -> None:
    note(database, 1)
    database.close()
    shutil.rmtree(database.locks)
    path.parent.chmod(0o500)
    code = """
def numbers():
    return [number for (number,) in database.read("SELECT number FROM notes ORDER BY number")[0]]
print(numbers(), database._frozen is not None, flush=True)
sys.stdin.readline()
print(numbers(), flush=True)
"""
    try:
        process = start(WITHOUT_POWERS + code, path)
        assert line_of(process) == "[1] True"
        path.parent.chmod(0o700)
        note(database, 2)
        database.close()
        shutil.rmtree(database.locks)
        path.parent.chmod(0o500)
        assert finish(process, "\n") == "[1, 2]\n"
    finally:
        path.parent.chmod(0o700)


@pytest.mark.parametrize("what", ["a folder", "below a file", "no database", "half a database"])
def test_what_is_no_database_says_so(tmp_path: Path, what: str) -> None:
    path = tmp_path / "runs.db"
    if what == "a folder":
        path.mkdir()
        words = "it is a folder"
    elif what == "below a file":
        path.write_text("hello")
        path /= "runs.db"
        words = "Not a directory"
    elif what == "no database":
        path.write_text("hello " * 1000)
        words = "file is not a database: the file is damaged; restore it from a copy, or give another one"
    else:
        database = opened(path)
        for number in range(500):
            note(database, number, "x" * 100)
        database.close()
        os.truncate(path, path.stat().st_size // 2)
        words = "database disk image is malformed: the file is damaged; restore it"
    database = opened(path)
    if what == "below a file":
        assert numbers(database) == []
    for action in (lambda: note(database, 1000), lambda: numbers(database))[
        : 1 if what == "below a file" else 2
    ]:
        with pytest.raises(StorageError) as raised:
            action()
        assert f"'{path}'" in str(raised.value)
        assert words in str(raised.value)


def test_without_a_free_descriptor_the_reason_is_told(path: Path, start: Start) -> None:
    code = """
import resource
hoard = []
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
try:
    while True:
        hoard.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
told = set()
for number in range(9):
    try:
        note(number)
        break
    except StorageError as error:
        told.add(str(error))
    os.close(hoard.pop())
else:
    raise SystemExit("never")
print(number, len(database.read("SELECT 1 FROM notes")[0]))
print(*told, sep="\\n")
"""
    first, *told = finish(start(code, path)).splitlines()
    assert int(first.split()[0]) >= 3  # the lock, the file, its log, its shared memory
    assert int(first.split()[1]) == 1
    for each in told:
        assert each.startswith(f"cannot write '{path}': ")
        assert "Too many open files" in each


def test_a_limit_of_the_size_of_files_is_told(path: Path, start: Start) -> None:
    code = """
import resource
note(1)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
for text in ("x" * 200_000, "small"):
    try:
        note(2, text)
    except StorageError as error:
        print(error)
print([number for (number,) in database.read("SELECT number FROM notes")[0]])
"""
    told, left = finish(start(code, path)).splitlines()
    assert told.startswith(
        f"cannot write '{path}': disk I/O error: the limit of the size of files is 100,000 bytes"
    )
    assert left == "[1, 2]"


# texts that are none any more


@pytest.mark.parametrize("together", [False, True])
def test_a_text_that_is_no_text_is_named_with_its_row(database: Database, together: bool) -> None:
    for number in range(3):
        note(database, number)
    database.write(
        lambda connection: connection.execute(
            "UPDATE notes SET text = CAST(X'61ff62' AS TEXT) WHERE number = 1"
        )
    )
    queries = ["SELECT number, text FROM notes WHERE ? = 'r'"] * (2 if together else 1)
    with pytest.raises(CorruptCheckpoint) as raised:
        database.read(*queries, parameters=("r",))
    assert f"'{database.path}': text in the row (1, 'a\\udcffb') of ('r',) is no text any more" in str(
        raised.value
    )
    assert database.read("SELECT text FROM notes WHERE number = ?", parameters=(2,)) == [[("x",)]]
    note(database, 5)


# forks

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def forked(body: Callable[[], object]) -> int:
    """Return the number of a child process that runs `body`; it ends with 0 if that returned."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        body()
        status = 0
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_fork_has_a_connection_of_its_own(database: Database) -> None:
    note(database, 1)
    to_child, to_parent = os.pipe(), os.pipe()

    def body() -> None:
        note(database, 2)
        os.write(to_parent[1], b"x")
        os.read(to_child[0], 1)
        note(database, 3)  # after the parent has closed
        database.close()

    pid = forked(body)
    os.read(to_parent[0], 1)
    note(database, 4)
    database.close()
    os.write(to_child[1], b"x")
    assert ended(pid) == 0
    assert numbers(database) == [1, 2, 3, 4]
    assert database.read("PRAGMA integrity_check") == [[("ok",)]]
    for each in (*to_child, *to_parent):
        os.close(each)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("durability", ["full", "process"])
def test_forks_while_other_threads_write_harm_nobody(path: Path, durability: str) -> None:
    databases = [opened(path, durability=durability) for _ in range(2)]
    stop = threading.Event()
    written: list[int] = []
    errors: list[BaseException] = []

    def write(database: Database, begin: int) -> None:
        number = begin
        try:
            while not stop.is_set():
                note(database, number)
                written.append(number)
                number += 1
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=write, args=(database, begin))
        for database, begin in ((databases[0], 0), (databases[0], 10**6), (databases[1], 2 * 10**6))
    ]
    for thread in threads:
        thread.start()
    try:
        for child in range(6):
            number = 10**7 + child

            def body(number: int = number) -> None:
                note(databases[0], number)
                assert number in numbers(databases[0])
                if number % 2:
                    databases[0].close()

            assert ended(forked(body)) == 0
            written.append(number)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert numbers(databases[1]) == sorted(written)
    assert databases[0].read("PRAGMA integrity_check") == [[("ok",)]]
    for database in databases:
        database.close()


@needs_fork
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_transaction_leaves_that_to_its_parent(database: Database) -> None:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO notes (number) VALUES (1)")
        return forked(database.close)

    assert ended(database.write(work)) == 0
    note(database, 2)
    assert numbers(database) == [1, 2]


def test_what_a_process_has_at_its_end_is_closed(path: Path, start: Start) -> None:
    finish(start("import threading\nnote(1)\nthreading.Thread(target=note, args=(2,)).start()", path))
    assert not Path(f"{path}-wal").exists()
    assert plain(path, "SELECT number FROM notes") == [(1,), (2,)]


@needs_fork
def test_a_fork_that_ends_as_python_does_closes_nothing_of_its_parent(path: Path, start: Start) -> None:
    code = """
note(1)
if os.fork() == 0:
    note(2)
    sys.exit()
os.wait()
note(3)
if os.fork() == 0:
    sys.exit()  # without a use of it
os.wait()
note(4)
"""
    finish(start(code, path))
    assert plain(path, "SELECT number FROM notes") == [(1,), (2,), (3,), (4,)]
