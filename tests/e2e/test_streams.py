"""The fallback transports without a library: a stream down, POSTs up (client protocol, 5)."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.raw_client import RawClient, check_untouched
from tests.e2e.server import PushServer
from tests.e2e.server import http as request

ORIGIN = "https://www.example.org"


class Stream:
    """The messages of a stream's answer, one after the other."""

    def __init__(self, answer: http.client.HTTPResponse, *, events: bool) -> None:
        self.answer = answer
        self._prefix = b"data:" if events else b""
        self._waiting: list[dict[str, Any]] = []

    def next(self) -> dict[str, Any]:
        while not self._waiting:
            line = self.answer.readline()
            assert line, "the stream has ended"
            if line.strip() and line.startswith(self._prefix):
                self._waiting.append(json.loads(line.removeprefix(self._prefix)))
                self._waiting = [message for message in self._waiting if message]
        return self._waiting.pop(0)

    def ended(self) -> bool:
        while self.answer.readline():
            pass
        return True


@contextmanager
def stream(server: PushServer, kind: str, token: str) -> Iterator[Stream]:
    commands = json.dumps({"id": 1, "connect": {"token": token}})
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        headers = {"Origin": ORIGIN}
        if kind == "sse":
            path = f"/connection/sse?cf_connect={quote(commands)}"
            connection.request("GET", path, headers={**headers, "Accept": "text/event-stream"})
        else:
            connection.request("POST", "/connection/http_stream", commands, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        if kind == "sse":
            assert answer.headers["Content-Type"].startswith("text/event-stream")
        yield Stream(answer, events=kind == "sse")
    finally:
        connection.close()


def emulate(server: PushServer, session: str, node: str, **command: object) -> int:
    body = json.dumps({"session": session, "node": node, "data": json.dumps(command)})
    return request("POST", f"{server.url}/emulation", body.encode(), {"Origin": ORIGIN})[0]


@pytest.mark.parametrize("kind", ["sse", "http_stream"])
def test_a_dialogue(server: PushServer, kind: str) -> None:
    with stream(server, kind, "alice-token") as down:
        result = down.next()["connect"]
        assert "news" in result["subs"]
        session, node = result["session"], result["node"]
        server.publish("news", {"via": kind})
        assert down.next()["push"]["pub"]["data"] == {"via": kind}

        assert emulate(server, session, node, id=2, subscribe={"channel": "open:s"}) == 204
        assert down.next()["id"] == 2
        server.publish("open:s", 17)
        assert down.next()["push"]["pub"]["data"] == 17
        assert session not in server.log


@pytest.mark.parametrize("kind", ["sse", "http_stream"])
def test_kicked(server: PushServer, kind: str) -> None:
    with stream(server, kind, "kicked-token") as down:
        down.next()
        server.api("disconnect", user="kicked")
        assert down.next()["push"]["disconnect"]["code"] == 3503
        assert down.ended()


@pytest.mark.parametrize("kind", ["sse", "http_stream"])
def test_refused(server: PushServer, kind: str) -> None:
    with stream(server, kind, "nobody-knows-this") as down:
        assert down.next()["push"]["disconnect"]["code"] == 3500
        assert down.ended()


def test_unknown_session(server: PushServer, bystander: RawClient) -> None:
    assert emulate(server, "no-such-session", "no-such-node", id=2, ping={}) == 404
    check_untouched(bystander, server)


def test_foreign_origin(server: PushServer) -> None:
    headers = {"Origin": "https://evil.example.org"}
    for method, path in (
        ("GET", "/connection/sse?cf_connect=%7B%7D"),
        ("POST", "/connection/http_stream"),
        ("POST", "/emulation"),
    ):
        body = b"{}" if method == "POST" else None
        assert request(method, server.url + path, body, headers)[0] == 403
