"""Streams of clients that take too little, that go without a word, and that are many."""

from __future__ import annotations

import json
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import pytest

from tests.e2e.cms import StubCms
from tests.e2e.raw_client import RawClient, check_untouched
from tests.e2e.server import PushServer, eventually, http, log_is_quiet, make_server

MEBIBYTE = 2**20
every_kind = pytest.mark.parametrize("kind", ["sse", "http_stream"])


class Stream:
    """A stream whose client is a socket."""

    def __init__(
        self, server: PushServer, kind: str, token: str = "alice-token", *, version: str = "1.1"
    ) -> None:
        self._events = kind == "sse"
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        commands = json.dumps({"id": 1, "connect": {"token": token}})
        head = f"Host: 127.0.0.1:{server.port}\r\n"
        if self._events:
            request = (
                f"GET /connection/sse?cf_connect={quote(commands)} HTTP/{version}\r\n{head}\r\n"
            )
        else:
            request = f"POST /connection/http_stream HTTP/{version}\r\n{head}"
            request += f"Content-Length: {len(commands)}\r\n\r\n{commands}"
        self.socket.sendall(request.encode())
        self._file = self.socket.makefile("rb")

    def message(self) -> dict[str, Any]:
        """Give the next message that is no ping, past all that is of HTTP."""
        while line := self._file.readline():
            text = line.removeprefix(b"data: ").strip()
            if text.startswith(b"{") and text != b"{}":
                found: dict[str, Any] = json.loads(text)
                return found
        raise AssertionError("the stream has ended")

    def connect(self) -> dict[str, Any]:
        result: dict[str, Any] = self.message()["connect"]
        return result

    def rest(self) -> bytes:
        """Give what comes up to the end of the connection."""
        return self._file.read()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def here(server: PushServer, user: str) -> int:
    return len(server.api("connections", user=user)["connections"])


def emulate(server: PushServer, result: dict[str, Any], data: str) -> int:
    upload = {"session": result["session"], "node": result["node"], "data": data}
    return http("POST", f"{server.url}/emulation", json.dumps(upload).encode())[0]


@every_kind
def test_a_client_that_does_not_read(server: PushServer, bystander: RawClient, kind: str) -> None:
    """It is closed as slow; what it does not take is not kept, and its connection is dropped."""
    with Stream(server, kind, "carol-token") as slow:
        result = slow.connect()
        subscribe = json.dumps({"id": 2, "subscribe": {"channel": f"open:{kind}"}})
        assert emulate(server, result, subscribe) == 204
        assert slow.message()["id"] == 2
        before = server.memory()
        data = "x" * 200_000
        while server.publish(f"open:{kind}", data)["recipients"]:
            time.sleep(0.05)  # The system takes some megabytes, little by little.
        assert server.memory() - before < 30 * MEBIBYTE
        check_untouched(bystander, server)
        eventually("it is dropped", lambda: emulate(server, result, "{}") == 404)


@every_kind
def test_a_client_that_goes_is_forgotten_at_once(server: PushServer, kind: str) -> None:
    with Stream(server, kind, "carol-token") as stream:
        result = stream.connect()
        assert here(server, "carol") == 1
    eventually("carol is gone", lambda: here(server, "carol") == 0)
    assert emulate(server, result, "{}") == 404


@every_kind
def test_a_client_that_closes_its_half(server: PushServer, kind: str) -> None:
    with Stream(server, kind, "carol-token") as stream:
        stream.connect()
        stream.socket.shutdown(socket.SHUT_WR)
        eventually("carol is gone", lambda: here(server, "carol") == 0)
        stream.rest()


@every_kind
def test_a_client_that_sends_more_and_goes(server: PushServer, kind: str) -> None:
    """What comes behind the request is no reason to read no more."""
    with Stream(server, kind, "carol-token") as stream:
        stream.connect()
        for _ in range(20):
            stream.socket.sendall(b"x" * 5000)
            time.sleep(0.01)
        assert here(server, "carol") == 1
    eventually("carol is gone", lambda: here(server, "carol") == 0)


@every_kind
def test_a_client_that_sends_without_end(
    server: PushServer, bystander: RawClient, kind: str
) -> None:
    with log_is_quiet(server), Stream(server, kind, "carol-token") as stream:
        stream.connect()
        with pytest.raises((ConnectionError, TimeoutError)):
            stream.socket.sendall(b"x" * 100 * MEBIBYTE)
        eventually("carol is gone", lambda: here(server, "carol") == 0)
        check_untouched(bystander, server)


@every_kind
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_versions_of_http(server: PushServer, kind: str, version: str) -> None:
    """The stream ends in good order, and with it the connection."""
    with Stream(server, kind, "kicked-token", version=version) as stream:
        stream.connect()
        server.publish("news", version)
        assert stream.message()["push"]["pub"]["data"] == version
        server.api("disconnect", user="kicked")
        assert stream.message()["push"]["disconnect"]["code"] == 3503
        rest = stream.rest()
        assert (b"0\r\n\r\n" in rest) is (version == "1.1")


def test_the_transport_is_a_label(server: PushServer) -> None:
    with Stream(server, "sse") as one, Stream(server, "http_stream") as other:
        one.connect()
        other.connect()
        metrics = server.get("/metrics")[1]
    name = "twisted_push_connections_accepted_total"
    for kind in ("sse", "http_stream"):
        assert f'{name}{{site="default",transport="{kind}"}}' in metrics


def test_a_crowd(cms: StubCms, tmp_path: Path) -> None:
    """All are served, none costs much, and all are told to come back at the end."""
    count = 200
    with make_server(tmp_path, callback=cms.url) as server, ExitStack() as stack:
        with Stream(server, "sse") as first:  # Whatever is loaded once is loaded.
            first.connect()
        before = server.memory("VmRSS")
        kinds = ("sse", "http_stream")
        streams = [stack.enter_context(Stream(server, kinds[n % 2])) for n in range(count)]
        assert len({stream.connect()["session"] for stream in streams}) == count
        assert (server.memory("VmRSS") - before) / count < 20_000
        assert server.publish("news", 1)["recipients"] == count
        for stream in streams:
            assert stream.message()["push"]["pub"]["data"] == 1
        started = time.monotonic()
        server.stop()
        assert {s.message()["push"]["disconnect"]["code"] for s in streams} == {3001}
        assert time.monotonic() - started < 5
