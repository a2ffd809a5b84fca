"""Several servers on one port: the kernel spreads the connections over them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.raw_client import RawClient
from tests.e2e.server import PushServer, free_port, make_server

pytestmark = pytest.mark.e2e

CLIENTS = 40


def worker(folder: Path, listen: str) -> PushServer:
    """Make a server of several; its own port is that of its API."""
    backend = free_port()
    server = make_server(
        folder,
        top={
            "listen": [listen],
            "backend_listen": [f"tcp:{backend}:interface=127.0.0.1"],
            "reuse_port": True,
        },
        site={"anonymous": True},
    )
    server.port = backend
    return server


def clients_of(server: PushServer) -> int:
    count: int = server.api("info")["nodes"][0]["num_clients"]
    return count


def test_two_servers_share_a_port(tmp_path: Path) -> None:
    port = free_port()
    one = worker(tmp_path / "one", f"tcp:{port}:interface=127.0.0.1")
    two = worker(tmp_path / "two", f"tcp:{port}:interface=127.0.0.1")
    with one, ExitStack() as stack:
        with two:
            clients = [stack.enter_context(RawClient(one, port=port)) for _ in range(CLIENTS)]
            for client in clients:
                client.connect("")
            shares = clients_of(one), clients_of(two)
            assert sum(shares) == CLIENTS
            assert all(shares)  # It is by chance: 1 of 2 ** 39 runs gives one server all.
        with RawClient(one, port=port) as client:
            client.connect("")  # The one that is left serves alone.
