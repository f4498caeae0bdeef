"""Every journal keeps the contract of `Journal`."""

from __future__ import annotations

from pathlib import Path

from dotflow_like.record.codec import JsonCodec
from dotflow_like.record.journal import Journal
from dotflow_like.record.keyvalue import KeyValueJournal
from dotflow_like.record.memory import MemoryJournal
from dotflow_like.record.sql import SqlJournal
from dotflow_like.record.sql_statements import MIGRATIONS
from dotflow_like.record.sqlite import Database
from dotflow_like.record.storage.files import FileStorage
from dotflow_like.record.storage.memory import MemoryStorage
from dotflow_like.testing import JournalContract


class TestMemoryJournal(JournalContract):
    def make_journal(self, tmp_path: Path) -> Journal:
        return MemoryJournal()


class TestKeyValueJournalInMemory(JournalContract):
    atomic = False

    def make_journal(self, tmp_path: Path) -> Journal:
        self.storage = MemoryStorage()
        return self.reopen()

    def reopen(self, journal: Journal | None = None) -> Journal:
        return KeyValueJournal(self.storage, JsonCodec())


class TestKeyValueJournalInFiles(JournalContract):
    atomic = False

    def make_journal(self, tmp_path: Path) -> Journal:
        self.root = tmp_path / "kept"
        return self.reopen()

    def reopen(self, journal: Journal | None = None) -> Journal:
        return KeyValueJournal(FileStorage(self.root, durability="process"), JsonCodec())


class TestSqlJournal(JournalContract):
    def make_journal(self, tmp_path: Path) -> Journal:
        self.path = str(tmp_path / "not" / "yet" / "runs.db")
        return self.reopen()

    def reopen(self, journal: Journal | None = None) -> Journal:
        # not `database_at`, which has one for all of this process
        return SqlJournal(Database(self.path, "process", f"{self.path}-locks", MIGRATIONS), JsonCodec())
