"""Reading the file, the environment of the process, and secrets from files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twisted_push.configfile import read_config
from twisted_push.errors import ConfigErrors

KEY = "a-key-that-is-long-enough"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("TWISTED_PUSH_") or name == "CREDENTIALS_DIRECTORY":
            monkeypatch.delenv(name)


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_relative_secret_is_beside_the_file(tmp_path: Path) -> None:
    written(tmp_path / "site-key", KEY + "\n")
    path = written(tmp_path / "push.toml", '[sites.default]\nkey_file = "site-key"')
    assert read_config(path).sites["default"].keys[0].key == KEY


def test_a_credential_of_systemd_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    written(tmp_path / "site-key", "this is not the one that counts")
    written(credentials / "site-key", KEY)
    path = written(tmp_path / "push.toml", '[sites.default]\nkey_file = "site-key"')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert read_config(path).sites["default"].keys[0].key == KEY


def test_a_relative_state_directory_is_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f'state_dir = "state"\n[sites.default]\nkey = "{KEY}"'
    written(tmp_path / "push.toml", text)
    monkeypatch.chdir(tmp_path)
    for path in ("push.toml", str(tmp_path / "push.toml")):
        assert read_config(path).state_dir == str(tmp_path / "state")
    path = written(tmp_path / "other.toml", text.replace('"state"', '"/var/lib/push"'))
    assert read_config(path).state_dir == "/var/lib/push"


def test_without_a_file_the_environment_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWISTED_PUSH_SITES__DEFAULT__KEY", KEY)
    assert read_config(None).sites["default"].keys[0].key == KEY


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"\xff", "not UTF-8")])
def test_a_file_that_cannot_be_read_is_told(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "push.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigErrors) as caught:
        read_config(str(path))
    assert str(caught.value).startswith(f"{path}: cannot be read: ")
    assert why in str(caught.value)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "push.toml"
    path.write_bytes(b"\xef\xbb\xbf" + f'[sites.default]\nkey = "{KEY}"'.encode())
    assert read_config(str(path)).sites["default"].keys[0].key == KEY
