"""Streams from the bytes of the request on, over a transport in memory: how they begin and end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address

from tests.unit.stream_support import (
    CONNECT,
    KINDS,
    PAGE,
    Reader,
    StreamServer,
    StuckWire,
    servers,
)
from tests.unit.websocket_support import Wire
from twisted_push.errors import Disconnect
from twisted_push.jsontext import one_line
from twisted_push.transports.stream import event_frame, line_frame
from twisted_push.transports.stream.connection import CLOSE_TIMEOUT
from twisted_push.web import REQUEST_DEADLINE

Make = Callable[..., StreamServer]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def make_server() -> Iterator[Make]:
    yield from servers()


# --- Frames ----------------------------------------------------------------------------------


def read_events(stream: str) -> list[str]:
    """Give the data of events as browsers read them (HTML standard, section 9.2.6)."""
    found, data = [], []
    for line in stream.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
        elif not line and data:
            found.append("\n".join(data))
            data = []
    return found


JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values=st.lists(JSON, max_size=4), indent=st.sampled_from([None, 1]))
def test_each_message_is_one_event_and_one_line(values: list[Any], indent: int | None) -> None:
    texts = [json.dumps(value, ensure_ascii=False, indent=indent) for value in values]
    try:
        payloads = [one_line(text.encode()) for text in texts]
    except UnicodeEncodeError:
        return  # A lone surrogate, which is no JSON.
    events = read_events(b"".join(map(event_frame, payloads)).decode())
    assert [json.loads(event) for event in events] == values
    lines = b"".join(map(line_frame, payloads)).decode().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == values


# --- The beginning ---------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream(make_server: Make, kind: str, version: str) -> None:
    server = make_server()
    reader = Reader(server, kind, version=version, Origin=PAGE)
    assert reader.status == 200
    [reply] = reader.told()
    assert reply["id"] == 1
    assert reply["connect"]["session"] == server.session.secret
    assert reply["connect"]["pong"] is True
    assert server.door.connections == 1
    assert server.stats.accepted == {kind: 1}
    assert server.session.transport.request.transport == kind
    server.publish("broadcast", {"text": "a\u2028b\r\n"})
    [push] = reader.told()
    assert push["push"]["pub"]["data"] == {"text": "a\u2028b\r\n"}
    reader.wire.hang_up()
    assert server.door.connections == 0
    assert server.world.node.sessions == set()
    assert server.stats.closed == {0: 1}


@every_kind
def test_its_headers(make_server: Make, kind: str) -> None:
    headers = Reader(make_server(), kind, Origin=PAGE).headers
    del headers["server"], headers["date"]
    types = {"sse": "text/event-stream", "http_stream": "application/x-ndjson"}
    assert headers == {
        "access-control-allow-credentials": "true",
        "access-control-allow-origin": PAGE,
        "cache-control": "no-cache, no-store, no-transform",
        "connection": "close",
        "content-type": types[kind],
        "transfer-encoding": "chunked",
        "vary": "Origin",
        "x-accel-buffering": "no",
        "x-content-type-options": "nosniff",
    }


def test_the_headers_do_not_wait_for_the_answer_of_the_cms(make_server: Make) -> None:
    server = make_server(callback=True)
    reader = Reader(server, commands=b'{"id":1,"connect":{"token":"t"}}')
    assert reader.status == 200
    assert reader.messages() == []
    reader.wire.hang_up()


def test_who_waits_for_the_cms_sees_that_the_transport_works(make_server: Make) -> None:
    commands = b'{"id":1,"connect":{"token":"t","early":true}}'
    reader = Reader(make_server(callback=True), commands=commands)
    assert reader.messages() == [b"{}"]
    reader.wire.hang_up()
    # Who does not wait needs no sign.
    commands = b'{"id":1,"connect":{"early":true}}'
    assert len(Reader(make_server(), commands=commands).told()) == 1


@every_kind
def test_several_first_commands(make_server: Make, kind: str) -> None:
    subscribe = b'{"id":2,"subscribe":{"channel":"open:1"}}'
    reader = Reader(make_server(), kind, CONNECT + b"\n" + subscribe)
    assert [reply["id"] for reply in reader.told()] == [1, 2]


@every_kind
@pytest.mark.parametrize(
    ("commands", "code"),
    [
        (b'{"id":1,"ping":{}}', 3501),
        (b"nonsense", 3501),
        (b"[" * 500, 3501),
        (b'{"id":1,"connect":{"token":"forged"}}', 3500),
    ],
)
def test_commands_that_are_not_let_in(
    make_server: Make, kind: str, commands: bytes, code: int
) -> None:
    server = make_server(anonymous=False)
    reader = Reader(server, kind, commands)
    assert reader.status == 200
    [push] = reader.told()
    assert push["push"]["disconnect"]["code"] == code
    assert reader.finished
    assert reader.wire.ended
    assert server.door.connections == 0


@pytest.mark.parametrize("query", ["", "?cf_connect=", "?cf_connect={}&cf_connect={}", "?other=1"])
def test_no_query(make_server: Make, query: str) -> None:
    server = make_server()
    assert server.ask("GET", "/connection/sse" + query).status == 400
    assert server.stats.refused == {"no first commands": 1}


def test_no_body(make_server: Make) -> None:
    server = make_server()
    assert server.ask("POST", "/connection/http_stream").status == 400
    assert server.door.connections == 0


def test_too_much_to_begin_with(make_server: Make) -> None:
    server = make_server(limits={"max_message_size": 100}, max_body=200)
    fits = CONNECT + b" " * (100 - len(CONNECT))
    for kind, status in (("sse", 414), ("http_stream", 413)):
        assert Reader(server, kind, fits).status == 200
        assert Reader(server, kind, fits + b" ").status == status
    assert Reader(server, "http_stream", fits + b" " * 300).status == 413
    assert server.stats.refused == {"too large a message": 3}
    # Of a longer address twisted.web itself cuts the connection.
    assert Reader(server, "sse", b" " * 20_000).wire.ended
    assert len(server.sessions) == 2


def test_a_body_that_does_not_come(make_server: Make) -> None:
    server = make_server()
    wire: Any = Wire(peerAddress=IPv4Address("TCP", "192.0.2.1", 1))
    wire.protocol = server.site.buildProtocol(None)
    wire.protocol.makeConnection(wire)
    wire.protocol.dataReceived(
        b"POST /connection/http_stream HTTP/1.1\r\nHost: push.test\r\nContent-Length: 50\r\n\r\n{"
    )
    assert not wire.ended
    server.advance(REQUEST_DEADLINE)
    assert wire.ended
    assert server.sessions == []


@every_kind
@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "BREW"])
def test_other_methods(make_server: Make, kind: str, method: str) -> None:
    server = make_server()
    asked = server.ask(method, f"/connection/{kind}?cf_connect={{}}")
    assert asked.status == 405
    assert asked.headers["allow"] == {"sse": "GET, OPTIONS", "http_stream": "POST, OPTIONS"}[kind]
    assert bool(asked.body) is (method != "HEAD")
    other = "POST" if kind == "sse" else "GET"
    assert server.ask(other, f"/connection/{kind}").status == 405


# --- The door --------------------------------------------------------------------------------


@every_kind
def test_origins(make_server: Make, kind: str) -> None:
    server = make_server(allowed_origins=("https://www.test",))
    assert Reader(server, kind, Origin="https://www.test").status == 200
    refused = Reader(server, kind, Origin="http://evil.test")
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers
    assert refused.headers["vary"] == "Origin"
    assert server.stats.refused == {"origin not allowed": 1}
    assert Reader(server, kind).status == 200


@every_kind
def test_a_page_that_is_told_nothing_of(make_server: Make, kind: str) -> None:
    """An image of another site: browsers send no Origin for it, but say where it stands."""
    server = make_server()
    for site, status in (
        ("same-origin", 200),
        ("none", 200),
        ("same-site", 403),
        ("cross-site", 403),
    ):
        reader = Reader(server, kind, Sec_Fetch_Site=site)
        assert reader.status == status, site
    assert Reader(server, kind, Sec_Fetch_Site="cross-site", Origin=PAGE).status == 200
    assert server.door.connections == 3
    assert server.stats.refused == {"origin not allowed": 2}


@every_kind
def test_preflights(make_server: Make, kind: str) -> None:
    server = make_server()
    for path, method in (
        (f"/connection/{kind}", {"sse": "GET", "http_stream": "POST"}[kind]),
        ("/emulation", "POST"),
    ):
        asked = server.ask("OPTIONS", path, Origin=PAGE, Access_Control_Request_Method=method)
        assert asked.status == 204
        assert asked.body == b""
        assert asked.headers["access-control-allow-origin"] == PAGE
        assert asked.headers["access-control-allow-credentials"] == "true"
        assert asked.headers["access-control-allow-methods"] == method
        assert asked.headers["access-control-allow-headers"] == "Content-Type"
        assert asked.headers["access-control-max-age"] == "600"
        assert asked.headers["vary"] == "Origin"
        refused = server.ask("OPTIONS", path, Origin="http://evil.test")
        assert refused.status == 403
        assert not [name for name in refused.headers if name.startswith("access-control")]


@every_kind
def test_there_is_room_for_so_many(make_server: Make, kind: str) -> None:
    server = make_server(limits={"max_connections": 2, "max_connections_per_address": 1})
    first = Reader(server, kind)
    assert first.status == 200
    assert Reader(server, kind).status == 429
    assert Reader(server, kind, peer="192.0.2.2").status == 200
    full = Reader(server, kind, peer="192.0.2.3")
    assert full.status == 503
    assert full.headers["retry-after"] == "5"
    first.wire.hang_up()
    assert Reader(server, kind).status == 200


@every_kind
def test_a_stopping_server(make_server: Make, kind: str) -> None:
    server = make_server()
    reader = Reader(server, kind).connected()
    server.door.closed = "the server is stopping"
    assert Reader(server, kind).status == 503
    assert reader.send(b"{}").status == 204


@every_kind
def test_hosts(make_server: Make, kind: str) -> None:
    server = make_server(sites=2)
    assert Reader(server, kind, Host="site1.test").status == 200
    assert Reader(server, kind, Host="other.test").status == 421
    assert [len(world.node.sessions) for world in server.worlds] == [0, 1]


# --- The end ---------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_end_is_told(make_server: Make, kind: str, version: str) -> None:
    server = make_server()
    reader = Reader(server, kind, version=version).connected()
    server.world.node.finish(server.session, Disconnect(4500, "closing time"))
    [push] = reader.told()
    assert push == {"push": {"disconnect": {"code": 4500, "reason": "closing time"}}}
    assert reader.finished
    assert reader.wire.ended
    assert not reader.wire.aborted
    assert server.door.connections == 0
    assert server.timers() == 0


def test_a_connection_that_is_gone_is_left_alone(make_server: Make) -> None:
    """TLS of Twisted cannot be asked to end one twice."""
    server = make_server()
    reader = Reader(server).connected()
    transport = server.session.transport
    reader.wire.hang_up()
    transport.abort()
    assert not reader.wire.aborted


@every_kind
def test_no_connect_in_time(make_server: Make, kind: str) -> None:
    server = make_server(limits={"stale_close_delay": 10.0})
    reader = Reader(server, kind, b"{}")
    server.advance(10.25)
    [push] = reader.told()
    assert push["push"]["disconnect"]["code"] == 3502


@every_kind
def test_pings_are_to_be_answered(make_server: Make, kind: str) -> None:
    server = make_server(limits={"ping_interval": 25.0, "pong_timeout": 10.0})
    reader = Reader(server, kind).connected()
    server.advance(25.25)
    assert reader.messages() == [b"{}"]
    assert reader.send(b"{}").status == 204
    server.advance(25.25)
    assert reader.messages() == [b"{}"]
    server.advance(10.25)
    [push] = reader.told()
    assert push["push"]["disconnect"]["code"] == 3012


@every_kind
def test_a_peer_that_does_not_take_the_end(make_server: Make, kind: str) -> None:
    server = make_server()
    wire = StuckWire(peerAddress=IPv4Address("TCP", "192.0.2.1", 1234))
    reader = Reader(server, kind, wire=wire).connected()
    server.world.node.finish(server.session, Disconnect(3503))
    assert wire.closing
    assert reader.finished
    assert server.timers() == 1
    server.publish("broadcast", "late")
    assert len(reader.messages()) == 1
    # It is counted until its connection is gone, and what it sends is nothing.
    assert server.door.connections == 1
    assert reader.send(b"{}").status == 204
    server.clock.advance(CLOSE_TIMEOUT)
    assert wire.aborted
    assert server.door.connections == 0
    assert reader.send(b"{}").status == 404


@every_kind
def test_what_a_slow_client_does_not_take_is_bounded(make_server: Make, kind: str) -> None:
    server = make_server(limits={"max_outbox": 1000})
    wire = StuckWire(peerAddress=IPv4Address("TCP", "192.0.2.1", 1234))
    reader = Reader(server, kind, wire=wire).connected()
    producer: Any = wire.producer
    producer.pauseProducing()
    server.publish("broadcast", 1)
    assert reader.messages() == []
    producer.resumeProducing()
    assert len(reader.messages()) == 1
    producer.pauseProducing()
    for _ in range(5):
        server.publish("broadcast", "x" * 400)
    server.clock.advance(0)
    [push] = reader.told()
    assert push["push"]["disconnect"]["code"] == 3008
    server.clock.advance(CLOSE_TIMEOUT)
    assert wire.aborted
    assert server.door.connections == 0


# --- What comes behind the request -----------------------------------------------------------


@every_kind
def test_what_comes_behind_the_request_is_dropped(make_server: Make, kind: str) -> None:
    server = make_server()
    request = b"GET /connection/sse?cf_connect={} HTTP/1.1\r\nHost: push.test\r\n\r\n"
    reader = Reader(server, kind, behind=request).connected()
    for _ in range(20):
        reader.give(request * 20)
    assert len(server.sessions) == 1
    assert reader.wire.producerState == "producing"
    kept: Any = reader.wire.protocol
    assert sum(map(len, kept._dataBuffer)) <= len(request)
    server.world.node.finish(server.session, Disconnect(3000))
    assert len(reader.told()) == 1
    assert len(server.sessions) == 1


@every_kind
def test_without_end_it_is_a_flood(make_server: Make, kind: str) -> None:
    server = make_server(limits={"max_commands_per_second": 10})
    reader = Reader(server, kind).connected()
    for _ in range(25):
        if not reader.wire.ended:
            reader.give(b"x" * 1000)
    [push] = reader.told()
    assert push["push"]["disconnect"]["code"] == 3013


# --- What is kept ----------------------------------------------------------------------------


@every_kind
def test_the_request_is_let_go(make_server: Make, kind: str) -> None:
    """What twisted.web logs of a request in its own errors may hold no token."""
    server = make_server(callback=True)
    reader = Reader(server, kind, b'{"id":1,"connect":{"token":"a-secret"}}', Cookie="a=a-secret")
    [web] = reader.wire.protocol.requests
    assert "a-secret" not in repr(web)
    assert "a-secret" not in repr(vars(web))
    assert "a-secret" not in repr(list(web.requestHeaders.getAllRawHeaders()))
    assert web.content.getvalue() == b""
    # The callback may still be told of the cookie.
    assert server.session.transport.request.headers["cookie"] == "a=a-secret"


# --- Whatever happens ------------------------------------------------------------------------

STEPS = st.lists(
    st.sampled_from(["publish", "pause", "resume", "send", "behind", "turn"]), max_size=30
)
ENDS = st.sampled_from(["finish", "abort", "hang up", "slow", "flood"])


class _Life:
    """One stream, to which things happen."""

    def __init__(self, kind: str) -> None:
        self.server = StreamServer(limits={"max_commands_per_second": 100, "max_outbox": 100_000})
        self.reader = Reader(self.server, kind).connected()
        self.published = 0

    @property
    def producer(self) -> Any:
        return self.reader.wire.producer

    def step(self, step: str) -> None:
        if step == "publish":
            self.server.publish("broadcast", self.published)
            self.published += 1
        elif step == "pause":
            self.producer.pauseProducing()
        elif step == "resume":
            self.producer.resumeProducing()
        elif step == "send":
            assert self.reader.send(b"{}").status == 204
        elif step == "behind":
            self.reader.give(b"x")
        else:
            self.server.clock.advance(0.25)

    def end(self, end: str) -> int | None:
        """Bring it to its end; give the code that its client is told."""
        if end == "finish":
            self.server.world.node.finish(self.server.session, Disconnect(3011))
            return 3011
        if end == "abort":
            self.server.session.transport.abort()
            return None
        if end == "hang up":
            self.reader.wire.hang_up()
            return None
        if end == "slow":
            self.producer.pauseProducing()
            self.server.publish("broadcast", "x" * 100_000)
            self.server.clock.advance(0)
            return 3008
        for _ in range(250):
            if not self.reader.wire.ended:
                self.reader.give(b"x")
        return 3013


@settings(max_examples=80, deadline=None)
@given(kind=st.sampled_from(KINDS), steps=STEPS, end=ENDS)
def test_whatever_happens(kind: str, steps: list[str], end: str) -> None:
    """All comes once and in order, up to the end, which is told; then nothing is left."""
    life = _Life(kind)
    for step in steps:
        life.step(step)
    taken = not steps or life.server.session._outbox is None
    code = life.end(end)
    told = life.reader.told()
    if code is not None:
        assert told.pop()["push"]["disconnect"]["code"] == code
    assert life.reader.finished is (code is not None)
    numbers = [push["push"]["pub"]["data"] for push in told]
    assert numbers == list(range(len(numbers)))
    if taken:
        assert len(numbers) == life.published
    assert life.reader.wire.ended
    life.server.end()
