"""A storage of one's own: four methods, here over one SQLite file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

from dotflow_like import ANY, Manager, Storage, StorageError, task


class SqliteStorage(Storage):
    """Keys and values in one table. Each call is one statement, so it happens entirely or not at all."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as db:
                db.execute(
                    "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, data BLOB) WITHOUT ROWID"
                )
                yield db
        except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
            raise StorageError(f"{self.path}: {error}") from error

    def get(self, key: str) -> bytes | None:
        with self._open() as db:
            found = db.execute("SELECT data FROM entries WHERE key = ?", [key.encode()]).fetchone()
            return None if found is None else found[0]

    def put(self, key: str, data: bytes, *, expected: object = ANY) -> bool:
        data = bytes(data)
        with self._open() as db:
            if expected is ANY:
                done = db.execute("REPLACE INTO entries VALUES (?, ?)", [key.encode(), data])
            elif expected is None:
                done = db.execute("INSERT OR IGNORE INTO entries VALUES (?, ?)", [key.encode(), data])
            else:
                change = "UPDATE entries SET data = ? WHERE key = ? AND data = ?"
                done = db.execute(change, [data, key.encode(), expected])
            return done.rowcount == 1

    def delete(self, key: str) -> bool:
        with self._open() as db:
            return db.execute("DELETE FROM entries WHERE key = ?", [key.encode()]).rowcount == 1

    def keys(self, prefix: str = "") -> Iterator[str]:
        start = prefix.encode()
        with self._open() as db:
            found = db.execute("SELECT key FROM entries WHERE key >= ? ORDER BY key", [start]).fetchall()
        keys = takewhile(lambda row: row[0].startswith(start), found)
        yield from (key.decode() for (key,) in keys)


@task
def answer() -> int:
    return 42


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        storage = SqliteStorage(f"{folder}/results.db")
        Manager(tasks=[answer], workflow_id="question", storage=storage)
        run = Manager(tasks=[answer], workflow_id="question", storage=storage, resume=True)
        print(f"{run[answer].result}, restored from {sorted(storage.keys())}")
        assert run[answer].restored
        assert run[answer].result == 42
