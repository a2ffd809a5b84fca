"""The server with an Autobahn that lacks what the fast path leans on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.raw_client import RawClient
from tests.e2e.server import make_server

OTHER = Path(__file__).with_name("other_autobahn.py")
WHY = "no fast path, because these versions differ: "


@pytest.mark.parametrize(
    ("name", "fast"),
    [
        ("TrafficStats", True),
        ("Utf8Validator", True),
        ("CONFIG_ATTRS", True),
        ("is_secure", True),
        ("is_secure", False),
    ],
)
def test_the_plain_path_serves(tmp_path: Path, name: str, fast: bool) -> None:
    def command(config: str) -> list[str]:
        return [sys.executable, str(OTHER), name, "serve", "--config", config]

    top, site = {"fast_path": fast}, {"anonymous": True}
    with make_server(tmp_path, command=command, top=top, site=site) as server:
        with RawClient(server) as client:
            client.send('{"id":1,"connect":{}}')
            assert client.line()
        told = [line.partition(WHY)[2] for line in server.log.splitlines() if WHY in line]
    assert len(told) == fast
    assert all(name in why for why in told)
