"""Every storage keeps the contract of `Storage`."""

from __future__ import annotations

from pathlib import Path

from dotflow_like.record.storage.base import Storage
from dotflow_like.record.storage.files import FileStorage
from dotflow_like.record.storage.memory import MemoryStorage
from dotflow_like.testing.storage_contract import StorageContract


class TestMemoryStorage(StorageContract):
    def make_storage(self, tmp_path: Path) -> Storage:
        return MemoryStorage()


class TestFileStorage(StorageContract):
    def make_storage(self, tmp_path: Path) -> Storage:
        self.root = tmp_path / "not" / "yet"
        return FileStorage(self.root, durability="process")

    def reopen(self, storage: Storage) -> Storage:
        return FileStorage(self.root, durability="process")
