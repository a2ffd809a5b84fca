"""Compressed messages, read by a client of another make, on both paths."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

import pytest
from websockets.sync.client import connect

from twisted_push.bench.server import CHANNEL, Server, running_server

CONNECT = json.dumps({"id": 1, "connect": {"data": "so much of the same " * 50}})


def publish(server: Server, data: object) -> None:
    body = json.dumps({"channel": CHANNEL, "data": data}).encode()
    headers = {"X-API-Key": server.key}
    urlopen(Request(f"http://127.0.0.1:{server.port}/api/publish", body, headers)).close()


@pytest.mark.parametrize("fast", ["true", "false"])
def test_all_get_the_same_compressed_or_not(fast: str) -> None:
    top = f"compression = true\nfast_path = {fast}\n"
    with running_server(top=top) as server:
        url = f"ws://127.0.0.1:{server.port}/connection/websocket"
        with connect(url) as packed, connect(url, compression=None) as plain:
            assert packed.response is not None
            extensions = packed.response.headers["Sec-WebSocket-Extensions"]
            assert extensions == "permessage-deflate; client_no_context_takeover"
            for client in (packed, plain):
                client.send(CONNECT)
                assert "connect" in json.loads(client.recv(timeout=10))
            for number in range(5):
                publish(server, {"number": number, "text": "so much of the same " * 50})
            for number in range(5):
                texts = [client.recv(timeout=10) for client in (packed, plain)]
                assert texts[0] == texts[1]
                assert json.loads(texts[0])["push"]["pub"]["data"]["number"] == number
