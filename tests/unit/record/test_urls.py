from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dotflow_like.errors import ConfigError
from dotflow_like.record.storage.files import FileStorage
from dotflow_like.record.storage.memory import MemoryStorage
from dotflow_like.record.storage.urls import open_place


def test_an_instance_is_returned_as_it_is() -> None:
    storage = MemoryStorage()
    assert open_place(storage) is storage


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_a_folder_of_files(tmp_path: Path, kind: type[str | Path]) -> None:
    storage = open_place(kind(tmp_path / "runs"))
    assert isinstance(storage, FileStorage)
    assert list(tmp_path.iterdir()) == [], "opening makes nothing"
    storage.put("a", b"1")
    assert (tmp_path / "runs" / "a.value").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["50% of a#b?c=d", "a:b", "c:\\runs", "unknown:x", " ", "~"])
def test_a_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    open_place(name).put("a", b"1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_relative_path_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_place("runs")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    storage.put("a", b"1")
    assert (tmp_path / "runs" / "a.value").exists()


@pytest.mark.parametrize(
    "form", ["file://{}", "FILE://{}", "file://localhost{}", "file://{}?durability=full"]
)
def test_a_file_url(tmp_path: Path, form: str) -> None:
    assert repr(open_place(form.format(tmp_path))) == f"FileStorage({str(tmp_path)!r}, durability='full')"


def test_options_of_a_file_url(tmp_path: Path) -> None:
    storage = open_place(f"file://{tmp_path}?durability=process")
    assert repr(storage) == f"FileStorage({str(tmp_path)!r}, durability='process')"


def test_a_file_url_is_decoded(tmp_path: Path) -> None:
    name = os.fsdecode(b"50% a#b?c \xff")
    open_place(f"file://{tmp_path}/50%25%20a%23b%3fc%20%ff").put("a", b"1")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_memory_is_new_each_time() -> None:
    one, other = open_place("memory://"), open_place("Memory://")
    assert isinstance(one, MemoryStorage)
    one.put("a", b"1")
    assert other.get("a") is None


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("", ["give the path of a folder"]),
        ("a\0b", ["give the path of a folder"]),
        ("file:///a%00b", ["give the path of a folder"]),
        ("file://runs/x?durability=full", ["not absolute", "'file:///work%20here/runs/x'", "'runs/x'"]),
        ("file://./x", ["not absolute", "'file:///work%20here/x'"]),
        ("file://", ["not absolute"]),
        ("file:/runs", ["slashes", "file:///absolute/folder"]),
        ("memory:", ["slashes", "memory://"]),
        ("memory://place", ["no places", "'memory://'"]),
        ("memory://?durability=full", ["'durability'", "none is allowed"]),
        ("file:///a?durabilty=full&mode=x&durability=full", ["'durabilty', 'mode'", "allowed: durability"]),
        ("file:///a?durability=maybe", ["'maybe'", "'full'", "'process'"]),
        ("file:///a?durability", ["''", "'full'", "'process'"]),
        ("file:///a?durability=full&durability=process", ["twice"]),
        ("file:///a#b", ["'%23'"]),
        ("sqlite:runs.db", ["lacks its slashes", "'sqlite:///relative.db'"]),
        ("sqlite://runs.db", ["names no file", "'sqlite:////absolute.db'"]),
        ("sqlite:///", ["names no file"]),
        ("sqlite:///:memory:", ["names no file"]),
        ("sqlite:///runs.db?durability=half", ["durability='half'", "'full' or 'process'"]),
        ("sqlite:///runs.db?timeout=3", ["unknown option 'timeout'", "durability, locks"]),
        (
            "postgresql://host/runs",
            ["'postgresql'", "not available in this version", "file:///absolute/folder", "memory://"],
        ),
        ("S3://bucket/x", ["'s3'", "not available"]),
        ("gs://bucket", ["'gs'", "not available"]),
        ("az://bucket", ["'az'", "not available"]),
        ("postgresql://me:hunter2@host/db", ["'postgresql'", "not available"]),
        (
            "redis://me:hunter2@host",
            ["'redis'", "is not known", "a path", "file:///absolute/folder", "memory://"],
        ),
        (MemoryStorage, ["MemoryStorage itself", "instance"]),
        (b"runs", ["bytes"]),
        (None, ["NoneType"]),
    ],
)
def test_what_does_not_work_says_what_does(
    place: Any, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getcwd", lambda: "/work here")
    with pytest.raises(ConfigError) as caught:
        open_place(place)
    for word in words:
        assert word in str(caught.value)
    assert "hunter2" not in str(caught.value)
