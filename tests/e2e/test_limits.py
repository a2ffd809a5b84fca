"""Clients that take too much or too little, broken frames and broken HTTP, crowds, and sites."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.cms import PEOPLE, StubCms
from tests.e2e.raw_client import RawClient, check_untouched
from tests.e2e.server import (
    KEY,
    NAMESPACES,
    PushServer,
    eventually,
    http,
    log_is_quiet,
    make_server,
)

MEBIBYTE = 2**20


def test_a_client_that_does_not_read(server: PushServer, bystander: RawClient) -> None:
    """It is closed as slow; what it does not take is not kept for long."""
    with RawClient(server) as slow:
        slow.connect("carol-token")
        assert "subscribe" in slow.command("subscribe", channel="open:flood")
        before = server.memory()
        data = "x" * 200_000
        for number in range(200):
            server.publish("open:flood", [number, data])
        eventually(
            "nobody receives the flood any more",
            lambda: server.publish("open:flood", "late")["recipients"] == 0,
        )
        assert server.memory() - before < 30 * MEBIBYTE
        check_untouched(bystander, server)


def test_a_client_that_commands_without_end(server: PushServer, bystander: RawClient) -> None:
    with log_is_quiet(server), RawClient(server) as client:
        client.connect()
        commands = [json.dumps({"id": number, "ping": {}}) for number in range(2, 1000)]
        client.send("\n".join(commands))
        assert client.closing()[0] == 3013
        check_untouched(bystander, server)


def test_a_client_that_pings_without_end(server: PushServer, bystander: RawClient) -> None:
    with log_is_quiet(server), RawClient(server) as client:
        client.connect()
        ping = b"\x89\x80\x00\x00\x00\x00"
        client.socket.socket.sendall(ping * 5000)
        assert client.closing()[0] == 3013
        check_untouched(bystander, server)


def test_too_many_channels(cms: StubCms, tmp_path: Path) -> None:
    server = make_server(tmp_path, callback=cms.url, limits={"max_channels_per_client": 5})
    with server, RawClient(server) as client:
        client.connect()  # Which gives two.
        for number in range(3):
            assert "subscribe" in client.command("subscribe", channel=f"open:{number}")
        with log_is_quiet(server):
            client.send('{"id":99,"subscribe":{"channel":"open:too-many"}}')
            assert client.failure() in (106, 3505)


def test_too_many_connections_from_one_address(cms: StubCms, tmp_path: Path) -> None:
    limits = {"max_connections_per_address": 3}
    with make_server(tmp_path, callback=cms.url, limits=limits) as server:
        for _ in range(2):  # Who goes makes room.
            with ExitStack() as stack:
                for _ in range(3):
                    stack.enter_context(RawClient(server)).connect()
                url = f"{server.url}/connection/websocket"
                upgrade = {
                    "Connection": "Upgrade",
                    "Upgrade": "websocket",
                    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                    "Sec-WebSocket-Version": "13",
                }
                assert http("GET", url, headers=upgrade)[0] == 429
            eventually(
                "all are gone", lambda: server.api("info")["nodes"][0].get("num_clients", 0) == 0
            )


FRAMES = {
    "unmasked": b"\x81\x02{}",
    "reserved bit": b"\xc1\x80\x00\x00\x00\x00",
    "unknown opcode": b"\x83\x80\x00\x00\x00\x00",
    "fragmented ping": b"\x09\x80\x00\x00\x00\x00",
    "long ping": b"\x89\xfe\x00\x80\x00\x00\x00\x00" + b"x" * 128,
    "continuation of nothing": b"\x80\x80\x00\x00\x00\x00",
    "close code 1": b"\x88\x82\x00\x00\x00\x00\x00\x01",
    "close of one byte": b"\x88\x81\x00\x00\x00\x00\x03",
    "huge length": b"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
    "negative length": b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
}


@pytest.mark.parametrize(
    ("frame", "connected"),
    [*((frame, False) for frame in FRAMES), ("unmasked", True), ("huge length", True)],
)
def test_broken_frames(
    server: PushServer, bystander: RawClient, frame: str, connected: bool
) -> None:
    with log_is_quiet(server), RawClient(server) as client:
        if connected:
            client.connect()
        client.socket.socket.sendall(FRAMES[frame])
        assert _ending(client) in (1002, 1007, 1009, 0)
        check_untouched(bystander, server)


def _ending(client: RawClient) -> int:
    """Give the close code, or 0 where the connection is just dropped."""
    try:
        return client.closing(timeout=5)[0]
    except AssertionError:
        return 0


HTTP_BYTES = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "nonsense": b"nonsense\r\n\r\n",
    "half a request": b"GET /health HTTP/1.1\r\nHost: x",
    "zero bytes": b"\x00" * 100,
    "long line": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "bad length": b"POST /api/info HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"POST /api/info HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": b"POST /api/info HTTP/1.1\r\nHost: x\r\n"
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk": b"POST /api/info HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "no host": b"GET /connection/websocket HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    "upgrade without key": b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "old websocket": b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: eHh4\r\n\r\n",
    "control in a header": b"GET /connection/websocket HTTP/1.1\r\nHost: x\r\n"
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nX: a\x0bX-Forwarded-For: 6.6.6.6\r\n\r\n",
}


@pytest.mark.parametrize("content", HTTP_BYTES)
def test_broken_http(server: PushServer, bystander: RawClient, content: str) -> None:
    with log_is_quiet(server):
        with socket.create_connection(("127.0.0.1", server.port), timeout=2) as connection:
            answer = b""
            try:
                connection.sendall(HTTP_BYTES[content])
                connection.shutdown(socket.SHUT_WR)
                while received := connection.recv(65536):
                    answer += received
            except OSError:
                pass  # Hung up on.
        assert not answer or answer.startswith(b"HTTP/1.1 4"), answer
        assert b"Traceback" not in answer
        check_untouched(bystander, server)


def test_a_chunked_api_request_that_is_too_large(server: PushServer, bystander: RawClient) -> None:
    head = f"POST /api/publish HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (2**18, b" " * 2**18)
    before = server.memory()
    with log_is_quiet(server):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            try:
                connection.sendall(head.encode())
                for _ in range(200):
                    connection.sendall(chunk)
                raise AssertionError("50 MB were taken")
            except OSError:
                pass  # Hung up on.
        check_untouched(bystander, server)
    assert server.memory() - before < 10 * MEBIBYTE


def test_a_crowd_costs_the_cms_one_question_each(tmp_path: Path) -> None:
    """Any number of tabs, one question; and all are told to come back at the end."""
    with (
        StubCms(PEOPLE) as cms,
        make_server(tmp_path, callback=cms.url) as server,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(RawClient(server)) for _ in range(100)]
        for number, client in enumerate(clients):
            token = "alice-token" if number % 2 else "bob-token"
            client.send(json.dumps({"id": 1, "connect": {"token": token}}))
        ids = {client.message()["connect"]["client"] for client in clients}
        assert len(ids) == 100
        assert sorted(question["token"] for question in cms.questions) == [
            "alice-token",
            "bob-token",
        ]
        assert server.publish("news", 1)["recipients"] == 100
        for client in clients:
            assert client.publication("news")["data"] == 1
        started = time.monotonic()
        server.stop()
        assert {client.closing()[0] for client in clients} == {3001}
        assert time.monotonic() - started < 5


def test_sites_do_not_touch_each_other(tmp_path: Path) -> None:
    other_key = "the-key-of-the-other-site"
    other = f"""
[sites.other]
hosts = ["other.example.org"]
key = "{other_key}"
anonymous = true
"""
    server = make_server(
        tmp_path,
        site={"hosts": ["127.0.0.1", "localhost"], "anonymous": True},
        namespaces=NAMESPACES + other,
    )
    with server, RawClient(server) as here:
        here.connect("")
        # By the key of one site, nothing of another is reached.
        answer = server.call("publish", {"channel": "broadcast", "data": 1}, key=other_key)
        assert answer[0] == 401 or answer[1]["result"]["recipients"] == 0
        headers = {"X-API-Key": other_key, "Host": "other.example.org"}
        body = json.dumps({"channel": "broadcast", "data": 2}).encode()
        status, text = http("POST", f"{server.url}/api/publish", body, headers)
        assert status == 200
        assert json.loads(text)["result"]["recipients"] == 0
        server.publish("broadcast", "here")
        assert here.publication("broadcast")["data"] == "here"
        # And a browser of neither site reaches none.
        status, _ = http(
            "GET",
            f"{server.url}/connection/websocket",
            headers={"Upgrade": "websocket", "Connection": "Upgrade", "Host": "evil.example.org"},
        )
        assert 400 <= status < 500
