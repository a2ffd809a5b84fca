"""The directory of a server's journal: one server at a time, and nothing but what it wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cms import StubCms
from tests.e2e.raw_client import RawClient
from tests.e2e.server import KEY, PushServer, make_server


@pytest.fixture
def server(cms: StubCms, tmp_path: Path) -> Iterator[PushServer]:
    """Run a server with a journal, for this test alone."""
    with make_server(tmp_path, callback=cms.url, top={"state_dir": "state"}) as running:
        yield running


def refused(server: PushServer) -> str:
    """Start a server that must not start; give the one line that it says of it."""
    mark = server.log_mark()
    server.launch()
    assert server.wait() == 1
    lines = [line for line in server.log_since(mark) if "cannot start" in line]
    assert len(lines) == 1, server.log
    assert "Traceback" not in server.log
    return lines[0]


def test_a_directory_has_one_server_at_a_time(
    server: PushServer, cms: StubCms, tmp_path: Path
) -> None:
    state = str(tmp_path / "state")
    second = make_server(tmp_path / "second", callback=cms.url, top={"state_dir": state})
    with RawClient(server) as client:
        client.connect()
        line = refused(second)
        assert state in line
        assert "another process uses it" in line
        server.publish("news", "still here")
        assert client.publication("news")["data"] == "still here"
    server.stop()
    with second:
        history = second.api("history", channel="news", limit=1, reverse=True)
        assert history["publications"][0]["data"] == "still here"


@pytest.mark.parametrize("damage", ["garbage", "cut", "newer"])
def test_a_file_that_cannot_be_used_is_refused(
    server: PushServer, tmp_path: Path, damage: str
) -> None:
    for number in range(50):
        server.publish("chat:much", {"n": number, "text": "secret " * 40})
    server.stop()
    file = tmp_path / "state" / "default" / "journal.sqlite"
    whole = file.read_bytes()
    if damage == "newer":
        with sqlite3.connect(file) as database:
            database.execute("PRAGMA user_version = 1000")
        database.close()
        expected = "a newer version of twisted_push wrote it"
    else:
        file.write_bytes(b"\xa5" * 8192 if damage == "garbage" else whole[: len(whole) // 2])
        expected = "journal.sqlite is damaged"
    damaged = file.read_bytes()

    line = refused(server)

    assert str(file.parent) in line
    assert expected in line
    assert "secret" not in line
    # What is there is left to the operator. Where it is whole again, all goes on.
    assert file.read_bytes() == damaged
    file.write_bytes(whole)
    for beside in ("-wal", "-shm"):
        file.with_name(file.name + beside).unlink(missing_ok=True)
    server.start()
    assert server.publish("chat:much", "on")["offset"] == 51


def test_no_secret_is_in_the_directory(server: PushServer, tmp_path: Path) -> None:
    tokens = ("alice-token", "bob-token", "logout-token")
    for token in tokens:
        with RawClient(server) as client:
            client.connect(token)
    server.api("logout", token="logout-token")
    server.stop()
    folder = tmp_path / "state" / "default"
    assert folder.stat().st_mode & 0o777 == 0o700
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
        content = file.read_bytes()
        for secret in (*tokens, KEY):
            assert secret.encode() not in content
    server.start()
