"""The server with an Autobahn that lacks what its WebSockets lean on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.raw_client import RawClient
from tests.e2e.server import PushServer, eventually, jwt_for, make_server
from tests.unit.autobahn_support import DOCUMENTED, leans_on
from tests.unit.websocket_support import CLOSE, masked
from twisted_push.transports import websocket
from twisted_push.transports.fast.check import AUTOBAHN

OTHER = Path(__file__).with_name("other_autobahn.py")
WHY = "no fast path, because these versions differ: "
REFINED = sorted(AUTOBAHN & leans_on(websocket) - DOCUMENTED)
"""What the plain path can do without."""


def make_other(folder: Path, name: str, *, fast: bool = True) -> PushServer:
    """Make a server with an Autobahn in which ``name`` is named otherwise."""

    def command(config: str) -> list[str]:
        return [sys.executable, str(OTHER), name, "serve", "--config", config]

    environ = {"TWISTED_PUSH_FAST_PATH": str(fast).lower()}
    return make_server(folder, command=command, environ=environ, site={"anonymous": True})


def reasons(server: PushServer) -> list[str]:
    """Give why there is no fast path, as often as the log says so."""
    return [line.partition(WHY)[2] for line in server.log.splitlines() if WHY in line]


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
    with make_other(tmp_path, name, fast=fast) as server:
        with RawClient(server) as client:
            client.send('{"id":1,"connect":{}}')
            assert client.line()
        told = reasons(server)
    assert len(told) == fast
    assert all(name in why for why in told)


FAULTS = {"an unknown opcode": masked(b"", 3), "a bad close code": masked(b"\x03\xed", CLOSE)}


def _served(server: PushServer, user: str) -> RawClient:
    """Give a client that has got a publication."""
    client = RawClient(server)
    client.connect(jwt_for(user))
    client.command("subscribe", channel="open:news")
    server.publish("open:news", user)
    assert client.publication("open:news")["data"] == user
    return client


def _ending(client: RawClient) -> int:
    """Give the close code, or 0 where the connection is just dropped."""
    try:
        return client.closing()[0]
    except AssertionError:
        return 0


@pytest.mark.parametrize("name", REFINED)
def test_the_plain_path_does_without(tmp_path: Path, name: str) -> None:
    """Clients are served and closed as ever. No traceback is logged: `PushServer.stop` looks.

    Where ``dropConnection`` cannot be overridden, Autobahn drops what is queued behind a bad close.
    """
    with make_other(tmp_path, name) as server:
        [why] = reasons(server)
        assert name in why
        for fault, frame in FAULTS.items():
            with _served(server, "eve") as client:
                client.socket.socket.sendall(frame)
                code = _ending(client)
            assert code == 1002 or (name, fault, code) == ("dropConnection", "a bad close code", 0)
        with _served(server, "bob"), _served(server, "alice") as alice:
            server.api("disconnect", user="alice")
            assert _ending(alice) == 3503
        eventually("all are gone", lambda: not server.api("info")["nodes"][0]["num_clients"])
