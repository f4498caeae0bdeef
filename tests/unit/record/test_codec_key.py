"""Where the key that signs pickles lies, how it is made, and which files are refused."""

from __future__ import annotations

import hashlib
import hmac
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dotflow_like.errors import ConfigError
from dotflow_like.record.codec_key import KeyFile, SigningKey

KEY = "0f" * 32


def made(path: Path, text: str = f"{KEY}\n", mode: int = 0o600) -> KeyFile:
    path.write_text(text)
    path.chmod(mode)
    return KeyFile(path)


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_key_is_64_digits_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        KeyFile(tmp_path / "a" / "b" / "key").key_or_new()
    finally:
        os.umask(before)
    path = tmp_path / "a" / "b" / "key"
    assert re.fullmatch(r"[0-9a-f]{64}\n", path.read_text())
    assert mode_of(path) == 0o600
    assert mode_of(tmp_path / "a") == mode_of(tmp_path / "a" / "b") == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    KeyFile(tmp_path / "key").key_or_new()
    assert mode_of(tmp_path) == 0o755


def test_each_key_is_another_one(tmp_path: Path) -> None:
    found = {KeyFile(tmp_path / name).key_or_new().sign(b"a") for name in "abc"}
    assert len(found) == 3


def test_it_is_made_once(tmp_path: Path) -> None:
    first = KeyFile(tmp_path / "key").key_or_new().sign(b"a")
    text = (tmp_path / "key").read_text()
    assert KeyFile(tmp_path / "key").key_or_new().sign(b"a") == first
    assert (tmp_path / "key").read_text() == text


def test_nothing_is_made_by_asking_for_it(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "folder" / "key")
    file.check([str(tmp_path / "store")])
    assert file.key() is None
    assert list(tmp_path.iterdir()) == []


def test_signatures_are_hmac_sha256(tmp_path: Path) -> None:
    key = made(tmp_path / "key").key()
    assert key is not None
    wanted = hmac.new(bytes.fromhex(KEY), b"one, two", hashlib.sha256).hexdigest().encode()
    assert key.sign(b"one, two") == key.sign(b"one", memoryview(b", "), b"two") == wanted


MAKER = """
import sys
import time
from pathlib import Path
from dotflow_like.record.codec_key import KeyFile

ready, start = Path(sys.argv[2]), Path(sys.argv[3])
ready.touch()
while not start.exists():
    time.sleep(0.001)
print(KeyFile(sys.argv[1]).key_or_new().sign(b"a").decode())
"""


def test_processes_that_make_it_at_once_agree(tmp_path: Path, until: Callable[..., None]) -> None:
    start = tmp_path / "start"
    readies = [tmp_path / f"ready-{number}" for number in range(6)]
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", MAKER, str(tmp_path / "new" / "key"), str(ready), str(start)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for ready in readies
    ]
    until(lambda: all(ready.exists() for ready in readies), "the start of all processes")
    start.touch()
    told = {maker.communicate(timeout=60)[0] for maker in makers}
    key = KeyFile(tmp_path / "new" / "key").key()
    assert key is not None
    assert told == {f"{key.sign(b'a').decode()}\n"}
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["key"]


class TestDefault:
    def test_in_the_folder_for_configuration(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        assert KeyFile().path == str(tmp_path / ".config" / "dotflow_like" / "key")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "x"))
        assert KeyFile().path == str(tmp_path / "x" / "dotflow_like" / "key")

    @pytest.mark.parametrize("folder", ["", "relative"])
    def test_that_has_to_be_absolute(
        self, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("XDG_CONFIG_HOME", folder)
        assert KeyFile().path == str(tmp_path / ".config" / "dotflow_like" / "key")

    def test_without_a_home_a_place_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", "nowhere")
        monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
        with pytest.raises(ConfigError, match=r"no home folder .* Config\(key_file="):
            KeyFile()

    def test_a_relative_place_is_taken_from_here(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert KeyFile("key").path == str(tmp_path / "key")


class TestRefused:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644])
    def test_what_others_may_touch(self, tmp_path: Path, mode: int) -> None:
        file = made(tmp_path / "key", mode=mode)
        with pytest.raises(ConfigError, match=rf"key' is open to other users \(mode {mode:04o}\).*chmod 600"):
            file.check()

    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_what_only_its_owner_may(self, tmp_path: Path, mode: int) -> None:
        assert made(tmp_path / "key", mode=mode).key() is not None

    @pytest.mark.parametrize(
        "text", ["", "\n", KEY[:-1], f"{KEY}0", f"{KEY}\n{KEY}\n", f"x{KEY}", "g" * 64, f"{KEY} and more"]
    )
    def test_what_holds_no_key(self, tmp_path: Path, text: str) -> None:
        file = made(tmp_path / "key", text)
        for ask in (file.check, file.key, file.key_or_new):
            with pytest.raises(ConfigError, match="holds no key, which is 64 hexadecimal digits") as refused:
                ask()
            assert not text.strip() or text.strip() not in str(refused.value)
        assert (tmp_path / "key").read_text() == text

    @pytest.mark.parametrize("text", [KEY, KEY.upper(), f"{KEY}\r\n"])
    def test_how_one_may_be_written_too(self, tmp_path: Path, text: str) -> None:
        file, usual = made(tmp_path / "key", text), made(tmp_path / "usual")
        assert file.key_or_new().sign(b"a") == usual.key_or_new().sign(b"a")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is no plain file"):
            KeyFile(tmp_path).check()

    def test_a_pipe_without_waiting_for_it(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "key", 0o600)
        with pytest.raises(ConfigError, match="is no plain file"):
            KeyFile(tmp_path / "key").check()

    def test_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
            KeyFile(tmp_path / "file" / "key").check()

    def test_a_link_that_leads_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "key").symlink_to(tmp_path / "gone")
        file = KeyFile(tmp_path / "key")
        file.check()
        with pytest.raises(ConfigError, match="is a link that leads nowhere"):
            file.key_or_new()
        assert [each.name for each in tmp_path.iterdir()] == ["key"]

    def test_where_none_can_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", fail)
        with pytest.raises(ConfigError, match=r"cannot be made: Operation not permitted; .*key_file="):
            KeyFile(tmp_path / "key").key_or_new()
        assert list(tmp_path.iterdir()) == []

    def test_in_the_store(self, tmp_path: Path) -> None:
        store = tmp_path / "store"
        store.mkdir()
        (tmp_path / "link").symlink_to(store)
        for path in (store / "key", store / "a" / "key", tmp_path / "link" / "key", store):
            for root in (store, tmp_path / "link"):
                with pytest.raises(ConfigError, match=r"lies in the store, at .*store'.*another place"):
                    KeyFile(path).check([str(tmp_path / "other"), str(root)])
        outside = made(tmp_path / "outside")
        (store / "key").symlink_to(tmp_path / "outside")
        outside.check([str(store)])
        (tmp_path / "inward").symlink_to(store / "real")
        with pytest.raises(ConfigError, match="lies in the store"):
            KeyFile(tmp_path / "inward").check([str(store)])

    def test_not_beside_one_whose_name_is_a_beginning_of_its_own(self, tmp_path: Path) -> None:
        made(tmp_path / "runs.key").check([str(tmp_path / "runs")])


class TestSecrecy:
    def test_the_key_is_not_shown(self, tmp_path: Path) -> None:
        file = made(tmp_path / "key")
        key = file.key()
        assert key is not None
        raw = bytes.fromhex(KEY)
        for shown in (repr(file), str(file), repr(key), str(key), f"{key}", repr(vars(file))):
            assert KEY not in shown
            assert repr(raw)[2:-1] not in shown

    def test_what_travels_has_the_key(self, tmp_path: Path) -> None:
        file = made(tmp_path / "key")
        data = pickle.dumps(file)
        (tmp_path / "key").unlink()
        found = pickle.loads(data)
        assert found.path == str(tmp_path / "key")
        assert found.key().sign(b"a") == SigningKey(bytes.fromhex(KEY)).sign(b"a")

    def test_it_is_made_before_it_travels(self, tmp_path: Path) -> None:
        found = pickle.loads(pickle.dumps(KeyFile(tmp_path / "key")))
        assert found.key().sign(b"a") == KeyFile(tmp_path / "key").key_or_new().sign(b"a")

    def test_one_that_cannot_be_made_travels_without(self, tmp_path: Path) -> None:
        (tmp_path / "key").symlink_to(tmp_path / "gone" / "key")
        found = pickle.loads(pickle.dumps(KeyFile(tmp_path / "key")))
        assert found.key() is None
        with pytest.raises(ConfigError, match="a link that leads nowhere"):
            found.key_or_new()
