"""What every storage has to do, as tests: the suite an author of one runs."""

# the name of a test is what it promises

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import ClassVar, TypeVar

import pytest

from dotflow_like.errors import StorageError
from dotflow_like.record.storage.base import ANY, Storage

__all__ = ["StorageContract"]

_T = TypeVar("_T")


class StorageContract:
    """Tests of the promises in `Storage`; subclass it in a test module and say how a storage is made.

        from dotflow_like.testing import StorageContract

        class TestRedisStorage(StorageContract):
            def make_storage(self, tmp_path):
                return RedisStorage("redis://localhost/15", folder=str(tmp_path))

            def reopen(self, storage):
                return RedisStorage(storage.url, folder=storage.folder)

    The name of the subclass starts with `Test`, so that pytest finds it. What these tests cannot see from
    within one process, an author tests too: writers in several processes, and one killed while it writes.
    """

    awkward_keys: ClassVar[tuple[str, ...]] = (
        *("", "/", "//", "a", "a/", "/a", "a//", "a//b", "a/b", "a/b/c", "ab", "A", "A/b", "a/B"),
        *(
            ".",
            "..",
            "../..",
            "../a",
            "a/../b",
            "./a",
            "a/.",
            ".a",
            "a.",
            "/etc/passwd",
            "C:\\a",
            "a\\b",
            "~",
        ),
        *(
            " ",
            "a ",
            " a",
            "\n",
            "a\nb",
            "\0",
            "a\0",
            "\0a",
            "\t",
            "%",
            "%%",
            "%61",
            "%2f",
            "a%2Fb",
            "*",
            "?",
            "'",
        ),
        *(
            "é",
            "e\u0301",
            "É",
            "ß",
            "ss",
            "SS",
            "ı",
            "i",
            "I",
            "İ",
            "日本",
            "😀",
            "\u200b",
            "\ufeff",
            "\U0010ffff",
        ),
        *("con", "nul", "a.value", "a.value/b", "a.json", "x" * 3000, "x" * 3001, "X" * 3000, "é" * 300),
        *(
            "y" * 300 + "/a",
            "y" * 300 + "/a/b",
            "y" * 299 + "z/a",
            "d/" * 600 + "a",
            "d/" * 600 + "b",
            "d/" * 599,
        ),
        *(
            "0f8fad5b-d9cb-469f-a165-70867728950e/checkpoints/fetch[0]",
            "run/task#2",
            "run/1.5",
            "{}",
            "key=1&b=2",
        ),
    )
    """Keys that have been trouble somewhere; all of them have to work, side by side."""

    def make_storage(self, tmp_path: Path) -> Storage:
        """Return a new, empty storage; `tmp_path` is a folder of this test alone."""
        raise NotImplementedError("say how your storage is made: override make_storage(self, tmp_path)")

    def reopen(self, storage: Storage) -> Storage | None:
        """Return another instance for the same place; None where an instance is the place."""
        del storage
        return None

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        """The storage under test."""
        return self.make_storage(tmp_path)

    @pytest.fixture
    def other(self, storage: Storage) -> Storage:
        """A second instance for the same place."""
        reopened = self.reopen(storage)
        if reopened is None:
            pytest.skip("reopen() is not overridden: an instance is the place")
        return reopened

    # values

    def test_what_is_not_there_is_none(self, storage: Storage) -> None:
        assert storage.get("a") is None
        assert storage.get("a/b") is None
        assert storage.delete("a") is False
        assert list(storage.keys()) == []
        storage.clear("")

    @pytest.mark.parametrize(
        "data",
        [b"", b"\0", b"a\r\nb\n", bytes(range(256)), b"x" * 3_000_001],
        ids=lambda data: f"{len(data)}B",
    )
    def test_a_value_comes_back_as_it_was(self, storage: Storage, data: bytes) -> None:
        for key in ("a", "long" * 500):
            assert storage.put(key, data) is True
            found = storage.get(key)
            assert found == data
            assert type(found) is bytes

    def test_put_replaces(self, storage: Storage) -> None:
        for data in (b"first, and longer", b"second", b""):
            assert storage.put("a", data) is True
            assert storage.get("a") == data
        assert list(storage.keys()) == ["a"]

    def test_what_is_stored_is_what_was_given(self, storage: Storage) -> None:
        data = bytearray(b"before")
        storage.put("a", data)  # type: ignore[arg-type, unused-ignore]  # bytes, to the type checkers of today
        data[:] = b"later!"
        assert storage.get("a") == b"before"

    def test_delete_removes_once(self, storage: Storage) -> None:
        storage.put("a", b"")
        assert storage.delete("a") is True
        assert storage.get("a") is None
        assert list(storage.keys()) == []
        assert storage.delete("a") is False
        assert storage.put("a", b"again", expected=None) is True

    # compare-and-set

    def test_expecting_nothing(self, storage: Storage) -> None:
        assert storage.put("a", b"1", expected=None) is True
        assert storage.put("a", b"2", expected=None) is False
        assert storage.get("a") == b"1"

    def test_expecting_a_value(self, storage: Storage) -> None:
        assert storage.put("a", b"1", expected=b"0") is False
        assert storage.get("a") is None, "a refused put must not leave anything"
        storage.put("a", b"0")
        assert storage.put("a", b"1", expected=b"0") is True
        assert storage.put("a", b"2", expected=b"0") is False
        assert storage.put("a", b"2", expected=b"1 ") is False
        assert storage.get("a") == b"1"
        assert storage.put("a", b"1", expected=b"1") is True

    def test_the_empty_value_is_a_value(self, storage: Storage) -> None:
        assert storage.put("a", b"1", expected=b"") is False
        assert storage.put("a", b"", expected=None) is True
        assert storage.put("a", b"1", expected=None) is False
        assert storage.put("a", b"1", expected=b"") is True

    def test_expecting_anything(self, storage: Storage) -> None:
        assert storage.put("a", b"1", expected=ANY) is True
        assert storage.put("a", b"2", expected=ANY) is True
        assert storage.get("a") == b"2"

    # keys

    def test_distinct_keys_are_distinct(self, storage: Storage) -> None:
        for number, key in enumerate(self.awkward_keys):
            assert storage.put(key, b"%d" % number, expected=None) is True, (
                f"{key[:50]!r} is taken for another key"
            )
        for number, key in enumerate(self.awkward_keys):
            assert storage.get(key) == b"%d" % number
        self._same(storage.keys(), self.awkward_keys)
        for prefix in (
            *self.awkward_keys,
            "x" * 200,
            "y" * 250,
            "y" * 300 + "/",
            "d/d/d/",
            "d/" * 9,
            "e",
            "no",
        ):
            self._same(storage.keys(prefix), [key for key in self.awkward_keys if key.startswith(prefix)])
        for key in self.awkward_keys[::2]:
            assert storage.delete(key) is True
        self._same(storage.keys(), self.awkward_keys[1::2])

    def test_a_lone_surrogate_works_or_is_refused(self, storage: Storage) -> None:
        storage.put("?", b"other")
        for key in ("\ud83d", "\ude00", "a\ud83d\ude00", "\ud800/b"):
            try:
                storage.put(key, b"value")
            except StorageError:
                continue
            assert storage.get(key) == b"value"
            assert key in list(storage.keys())
        assert storage.get("?") == b"other"

    def test_keys_allow_changes_meanwhile(self, storage: Storage) -> None:
        names = {f"run/{number}" for number in range(50)}
        for name in names:
            storage.put(name, b"1")
        seen = []
        for key in storage.keys("run/"):
            seen.append(key)
            storage.put(key, b"2")
            storage.put("other/" + key, b"")
            assert storage.delete(key) is True
        self._same(seen, names)
        assert list(storage.keys("run/")) == []

    def test_clear_removes_what_starts_with_the_prefix(self, storage: Storage) -> None:
        for key in ("a", "a/b", "ab", "b/a", "A", "a/b/c"):
            storage.put(key, b"")
        storage.clear("a/")
        self._same(storage.keys(), ["a", "ab", "b/a", "A"])
        storage.clear("a")
        self._same(storage.keys(), ["b/a", "A"])
        storage.clear("")
        assert list(storage.keys()) == []

    # several at once

    def test_one_of_many_creates(self, storage: Storage) -> None:
        for number in range(20):
            barrier = Barrier(4)

            def create(me: int, key: str = f"run/{number}", barrier: Barrier = barrier) -> bool:
                barrier.wait(10)
                return storage.put(key, b"%d" % me, expected=None)

            won = self._together(*[lambda me=me: create(me) for me in range(4)])
            assert won.count(True) == 1
            assert storage.get(f"run/{number}") == b"%d" % won.index(True)

    def test_no_increment_is_lost(self, storage: Storage) -> None:
        storage.put("n", b"0")

        def count() -> None:
            for _ in range(25):
                while True:
                    before = storage.get("n")
                    assert before is not None
                    if storage.put("n", b"%d" % (int(before) + 1), expected=before):
                        break

        self._together(count, count, count, count)
        assert storage.get("n") == b"100"

    def test_no_plain_put_is_lost_to_a_compare_and_set(self, storage: Storage) -> None:
        storage.put("a", b"start")
        done = Event()

        def append() -> None:
            while not done.is_set():
                before = storage.get("a")
                storage.put("a", (before or b"") + b".", expected=before)

        def overwrite() -> None:
            try:
                for number in range(100):
                    storage.put("a", b"%d" % number)
                    found = storage.get("a")
                    assert found is not None
                    assert found.rstrip(b".") == b"%d" % number
                    storage.delete("a")
                    assert (storage.get("a") or b"").strip(b".") == b"", "a deleted value came back"
            finally:
                done.set()

        self._together(append, overwrite)

    def test_a_value_is_seen_whole(self, storage: Storage) -> None:
        values = [bytes([65 + number]) * (1 + 150_000 * number) for number in range(3)]
        storage.put("a", values[0])
        done = Event()

        def read() -> None:
            while not done.is_set():
                assert storage.get("a") in values

        def write() -> None:
            try:
                for number in range(60):
                    storage.put("a", values[number % 3])
            finally:
                done.set()

        self._together(read, read, write)

    def test_neighbours_come_and_go(self, storage: Storage) -> None:
        def work(me: int) -> None:
            for number in range(40):
                key = f"run/{me % 2}/{me}/{number % 3}"
                assert storage.put(key, b"%d" % number, expected=None) is True
                assert list(storage.keys(key)) == [key]
                assert storage.delete(key) is True

        self._together(*[lambda me=me: work(me) for me in range(4)])
        assert list(storage.keys()) == []

    # the same place again

    def test_another_instance_sees_the_same(self, storage: Storage, other: Storage) -> None:
        for key in self.awkward_keys:
            storage.put(key, key.encode())
        self._same(other.keys(), self.awkward_keys)
        for key in self.awkward_keys:
            assert other.get(key) == key.encode()
        assert other.put("a", b"mine", expected=b"a") is True
        assert storage.put("a", b"late", expected=b"a") is False
        assert storage.delete("A") is True
        assert other.get("A") is None

    def test_instances_share_compare_and_set(self, storage: Storage, other: Storage) -> None:
        def count(mine: Storage) -> None:
            for _ in range(40):
                while True:
                    before = mine.get("n")
                    if mine.put("n", b"%d" % (int(before or b"0") + 1), expected=before):
                        break

        self._together(lambda: count(storage), lambda: count(other))
        assert storage.get("n") == other.get("n") == b"80"

    # how they are written

    @staticmethod
    def _same(found: object, wanted: object) -> None:
        """Compare keys, each once, in any order."""
        assert isinstance(wanted, list | tuple | set)
        assert sorted(found) == sorted(wanted)  # type: ignore[call-overload]

    @staticmethod
    def _together(*calls: Callable[[], _T]) -> list[_T]:
        """Call all at once, each in a thread; return what they return, raise what they raise."""
        with ThreadPoolExecutor(len(calls)) as pool:
            futures: list[Future[_T]] = [pool.submit(call) for call in calls]
            return [future.result() for future in futures]
