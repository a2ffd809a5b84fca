"""WebSocket from the bytes of the handshake on, over a transport in memory."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from tests.unit.cms.support import the_reactor
from tests.unit.websocket_support import (
    BINARY,
    CLOSE,
    CONNECT,
    PATHS,
    PING,
    PONG,
    TEXT,
    Browser,
    Make,
    masked,
    read_frames,
    servers,
)
from twisted_push.transports.fast.transport import DirectTransport
from twisted_push.transports.frames import text_frame
from twisted_push.transports.websocket import CLOSE_TIMEOUT, FAILED_TIMEOUT


@pytest.fixture(params=PATHS)
def make_server(request: pytest.FixtureRequest) -> Iterator[Make]:
    yield from servers(PATHS[request.param])


# --- The door --------------------------------------------------------------------------------


def test_a_browser_connects(make_server: Make) -> None:
    server = make_server()
    browser = Browser(server, Origin="http://push.test")
    assert browser.open() == 101
    assert b"Sec-WebSocket-Protocol" not in browser.head
    browser.send(CONNECT)
    [(opcode, reply)] = browser.got()
    assert opcode == TEXT
    assert reply.startswith(b'{"id":1,"connect":{')
    assert server.door.connections == 1
    browser.wire.hang_up()
    assert server.door.connections == 0
    assert server.worlds[0].node.sessions == set()


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        ("http://push.test", (), 101),
        ("http://evil.test", (), 403),
        ("null", (), 403),
        ("http://push.test.evil.test", (), 403),
        ("http://push.test:81", (), 101),
        ("http://evil.test, http://push.test", (), 403),
        ("https://www.test", ("https://www.test",), 101),
        ("https://WWW.test", ("https://www.test",), 101),
        ("http://push.test", ("https://www.test",), 403),
        ("null", ("*",), 101),
        ("", ("https://www.test",), 101),
    ],
)
def test_origins(make_server: Make, origin: str, allowed: tuple[str, ...], status: int) -> None:
    server = make_server(allowed_origins=allowed)
    browser = Browser(server, Origin=origin)
    assert browser.open() == status
    if status == 403:
        assert server.worlds[0].stats.refused == {"origin not allowed": 1}


def test_hosts(make_server: Make) -> None:
    server = make_server(sites=2)
    for host, status in [
        ("site0.test", 101),
        ("SITE1.TEST:8080", 101),
        ("site1.test.", 101),
        ("other.test", 421),
        ("", 400),
    ]:
        assert Browser(server, Host=host).open() == status, host
    assert [len(world.node.sessions) for world in server.worlds] == [1, 2]


@pytest.mark.parametrize(
    "control", ["\x00", "\x01", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x1f", "\x7f", "\x85"]
)
def test_control_characters(make_server: Make, control: str) -> None:
    server = make_server()
    browser = Browser(server, Cookie=f"a{control}Origin: http://push.test")
    assert browser.open() == 400
    assert server.door.connections == 0


def test_headers_that_come_twice(make_server: Make) -> None:
    for name in ("Host", "Origin", "Upgrade"):
        browser = Browser(make_server(), X=f"y\r\n{name}: websocket\r\n{name}: websocket")
        assert browser.open() == 400


def test_what_is_no_upgrade(make_server: Make) -> None:
    server = make_server()
    assert Browser(server, Upgrade="").open() == 426
    assert Browser(server, Upgrade="h2c").open() == 426
    for broken in ("Sec_WebSocket_Key", "Connection", "Sec_WebSocket_Version"):
        browser = Browser(server, **{broken: ""})
        assert browser.open() in (400, 426)
        assert browser.wire.ended
    assert Browser(server, Sec_WebSocket_Version="12").open() in (400, 426)
    assert server.door.connections == 0


@pytest.mark.parametrize("cut", [0, 40])
def test_what_comes_behind_the_request_is_read(make_server: Make, cut: int) -> None:
    """With the request or with its second half, a message and the beginning of the next."""
    browser = Browser(make_server())
    head = browser.asking()
    ping = masked(b'{"id":2,"ping":{}}')
    if cut:
        browser.give(head[:cut])
    browser.give(head[cut:] + masked(CONNECT) + ping[:9])
    browser.give(ping[9:])
    _, _, rest = browser.wire.value().partition(b"\r\n\r\n")
    [first, second] = read_frames(rest)
    assert first[1].startswith(b'{"id":1,"connect":')
    assert second[1].startswith(b'{"id":2')


def test_too_many_connections(make_server: Make) -> None:
    server = make_server(limits={"max_connections": 2})
    first, second = Browser(server), Browser(server)
    assert (first.open(), second.open()) == (101, 101)
    third = Browser(server)
    assert third.open() == 503
    assert b"Retry-After: 5" in third.head
    assert server.worlds[0].stats.refused == {"too many connections": 1}
    first.wire.hang_up()
    assert Browser(server).open() == 101


def test_too_many_connections_from_one_address(make_server: Make) -> None:
    server = make_server(limits={"max_connections_per_address": 1})
    first = Browser(server)
    assert first.open() == 101
    assert Browser(server).open() == 429
    assert Browser(server, "192.0.2.2").open() == 101
    first.wire.hang_up()
    assert Browser(server).open() == 101


def test_addresses_behind_a_proxy(make_server: Make) -> None:
    server = make_server(limits={"max_connections_per_address": 1}, trusted=("10.0.0.0/8",))

    def status(forwarded: str, address: str = "10.0.0.1") -> int:
        return Browser(server, address, X_Forwarded_For=forwarded).open()

    assert status("192.0.2.1") == 101
    assert status("192.0.2.1") == 429
    assert status("192.0.2.99, 192.0.2.1") == 429
    assert status("192.0.2.1, 10.0.0.2") == 429
    assert status("192.0.2.2") == 101
    assert status("192.0.2.1", "192.0.2.3") == 101
    assert status("192.0.2.77", "192.0.2.3") == 429


def test_a_stopping_server(make_server: Make) -> None:
    server = make_server()
    server.door.closed = "the server is stopping"
    assert Browser(server).open() == 503


def test_lost_in_the_middle_of_the_handshake(make_server: Make) -> None:
    server = make_server()
    browser = Browser(server)
    browser.give(b"GET /ws HTTP/1.1\r\nHost: push.test\r\nUpgrade: webso")
    browser.wire.hang_up()
    refused = Browser(server, Sec_WebSocket_Key="short")
    assert refused.open() == 400
    refused.wire.hang_up()
    assert server.door.connections == 0


# --- Messages --------------------------------------------------------------------------------


def test_the_protobuf_subprotocol(make_server: Make) -> None:
    server = make_server()
    browser = Browser(server, Sec_WebSocket_Protocol="centrifuge-protobuf")
    if browser.open() == 101:
        assert browser.closed == (3506, "inappropriate protocol")
    browser.wire.hang_up()
    assert server.door.connections == 0


def test_a_binary_message(make_server: Make) -> None:
    browser = Browser(make_server())
    browser.open()
    browser.send(b"\x01", BINARY)
    assert browser.closed == (3506, "inappropriate protocol")


@pytest.mark.parametrize("split", [False, True])
def test_an_oversized_message(make_server: Make, split: bool) -> None:
    server = make_server(limits={"max_message_size": 1000})
    browser = Browser(server)
    browser.open()
    if split:
        browser.give(masked(b" " * 600, fin=False))
        browser.give(masked(b" " * 600, 0))
    else:
        browser.give(masked(b" " * 1001))
    assert browser.closed[0] == 1009
    server.clock.advance(CLOSE_TIMEOUT)
    assert server.door.connections == 0


def test_a_message_of_just_the_limit(make_server: Make) -> None:
    browser = Browser(make_server(limits={"max_message_size": 1000}))
    browser.open()
    browser.give(masked(CONNECT + b" " * (1000 - len(CONNECT))))
    assert browser.got()[0][0] == TEXT


@pytest.mark.parametrize("payload", [b"\xff", b"\xed\xa0\x80", b'{"id":1,"connect":{"token":"\xc3'])
def test_invalid_utf8(make_server: Make, payload: bytes) -> None:
    browser = Browser(make_server())
    browser.open()
    browser.send(payload)
    assert browser.closed[0] == 1007


def test_unmasked_frames(make_server: Make) -> None:
    browser = Browser(make_server())
    browser.open()
    browser.give(text_frame(CONNECT))
    assert browser.closed[0] == 1002


def test_pings(make_server: Make) -> None:
    browser = Browser(make_server())
    browser.open()
    browser.send(b"hello", PING)
    assert browser.got() == [(PONG, b"hello")]


def test_a_flood_of_pings(make_server: Make) -> None:
    server = make_server(limits={"max_commands_per_second": 10})
    browser = Browser(server)
    browser.open()
    browser.give(masked(b"x", PING) * 1000)
    found = browser.got()
    assert [opcode for opcode, _ in found] == [PONG] * 20 + [CLOSE]
    assert server.worlds[0].stats.closed == {3013: 1}


@pytest.mark.parametrize(
    "frame", [masked(b"x", PONG), masked(b"", 0, fin=False)], ids=["pongs", "fragments"]
)
def test_a_flood_of_frames_that_say_nothing(make_server: Make, frame: bytes) -> None:
    server = make_server(limits={"max_commands_per_second": 10})
    browser = Browser(server)
    browser.open()
    browser.give(masked(b"", fin=False))
    for _ in range(50):
        if not browser.wire.ended:
            browser.give(frame * 100)
    assert browser.closed[0] in (3013, 1008, 1009, 3501)


# --- The end ---------------------------------------------------------------------------------


def test_the_client_closes(make_server: Make) -> None:
    server = make_server()
    browser = Browser(server)
    browser.open()
    browser.send(CONNECT)
    browser.got()
    browser.send(struct.pack("!H", 1000), CLOSE)
    assert server.worlds[0].node.sessions == set()
    assert server.worlds[0].stats.closed == {0: 1}
    assert server.door.connections == 0


def test_the_server_closes(make_server: Make) -> None:
    server = make_server()
    browser = Browser(server)
    browser.open()
    server.clock.advance(10)
    assert browser.closed == (3502, "stale")
    assert server.door.connections == 1
    browser.send(struct.pack("!H", 3502), CLOSE)
    assert server.door.connections == 0
    assert browser.wire.ended


def test_a_peer_that_does_not_answer_the_close(make_server: Make) -> None:
    server = make_server()
    browser = Browser(server)
    browser.open()
    server.clock.advance(10)
    assert browser.closed == (3502, "stale")
    browser.send(CONNECT)
    assert browser.got() == []
    server.clock.advance(CLOSE_TIMEOUT - 0.1)
    assert not browser.wire.ended
    server.clock.advance(0.1)
    assert browser.wire.aborted
    assert server.door.connections == 0


def test_a_peer_that_broke_the_protocol_is_let_go(make_server: Make) -> None:
    """When it answers the close, or in a while."""
    server = make_server()
    answers, silent = Browser(server), Browser(server)
    for browser in (answers, silent):
        browser.open()
        browser.give(b"\x83\x80....")
        assert browser.closed[0] == 1002
        assert not browser.wire.ended
    answers.send(b"what it had sent before")
    assert not answers.wire.ended
    answers.send(struct.pack("!H", 1002), CLOSE)
    assert answers.wire.ended
    assert not answers.wire.aborted
    server.clock.advance(FAILED_TIMEOUT)
    assert silent.wire.aborted


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (struct.pack("!H", 1005), 1002),
        (struct.pack("!H", 0), 1002),
        (struct.pack("!H", 5000), 1002),
        (struct.pack("!H", 1000) + b"\xff", 1007),
    ],
)
def test_a_close_that_breaks_the_protocol(make_server: Make, payload: bytes, code: int) -> None:
    """The peer is told, behind the answer to what it had sent before."""
    browser = Browser(make_server())
    browser.open("/echo")
    browser.give(masked(b"before") + masked(payload, CLOSE))
    [echo, (opcode, told)] = browser.got()
    assert echo == (TEXT, b"before")
    assert (opcode, told[:2]) == (CLOSE, struct.pack("!H", code))
    assert browser.wire.ended
    assert not browser.wire.aborted


def test_both_close_at_once(make_server: Make) -> None:
    server = make_server()
    browser = Browser(server)
    browser.open()
    server.clock.advance(10)
    browser.send(struct.pack("!H", 1000), CLOSE)
    assert browser.closed == (3502, "stale")
    assert browser.wire.ended
    assert not browser.wire.aborted


def test_a_slow_reader(make_server: Make) -> None:
    server = make_server(limits={"max_outbox": 1000})
    browser = Browser(server)
    browser.open()
    browser.send(CONNECT)
    browser.got()
    producer: Any = browser.wire.producer
    producer.pauseProducing()
    world = server.worlds[0]
    for _ in range(3):
        Deferred.fromCoroutine(world.publish("broadcast", "x"))
    assert browser.got() == []
    producer.resumeProducing()
    assert len(browser.got()) == 3
    producer.pauseProducing()
    for _ in range(50):
        Deferred.fromCoroutine(world.publish("broadcast", "x" * 50))
    server.clock.advance(0)
    assert browser.closed == (3008, "slow")


def test_of_pings_of_a_slow_reader_the_last_is_answered(make_server: Make) -> None:
    browser = Browser(make_server())
    browser.open()
    browser.send(b"1", PING)
    producer: Any = browser.wire.producer
    producer.pauseProducing()
    for payload in (b"2", b"3", b"4"):
        browser.send(payload, PING)
    assert browser.got() == [(PONG, b"1")]
    producer.resumeProducing()
    browser.send(b"5", PING)
    assert browser.got() == [(PONG, b"4"), (PONG, b"5")]


def test_what_waits_for_a_slow_reader_is_told(make_server: Make) -> None:
    browser = Browser(server := make_server())
    browser.open()
    [session] = server.worlds[0].node.sessions
    browser.wire.write(b"x")
    browser.wire.protocol.pauseProducing()
    before = session.transport.unsent()
    session.transport.send(b"12345")
    assert session.transport.unsent() == before + 5
    if not server.fast:
        browser.wire.protocol.resumeProducing()
        assert session.transport.unsent() == 0


# --- Autobahn's own client -------------------------------------------------------------------


class Client(WebSocketClientProtocol):
    """Sends texts to the echo, and collects what comes back."""

    factory: Any

    def onOpen(self) -> None:
        for text in self.factory.texts:
            self.sendMessage(text)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.got.append((payload, isBinary))
        if len(self.factory.got) == len(self.factory.texts):
            self.sendClose(1000)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.lost.callback(None)


async def test_frames_of_every_length_are_what_autobahn_reads(make_server: Make) -> None:
    server = make_server(limits={"max_message_size": 70000})
    port: Any = the_reactor().listenTCP(0, server.site, interface="127.0.0.1")
    if server.fast:
        port.transport, port.factory = DirectTransport, server.mux
    factory: Any = WebSocketClientFactory(f"ws://127.0.0.1:{port.getHost().port}/echo")
    factory.protocol = Client
    factory.noisy = False
    factory.texts = [b"x" * length for length in (0, 1, 125, 126, 127, 65535, 65536, 70000)]
    factory.got = []
    factory.lost = Deferred()
    the_reactor().connectTCP("127.0.0.1", port.getHost().port, factory)
    await factory.lost.addTimeout(10, the_reactor())
    await port.stopListening()
    assert factory.got == [(text, False) for text in factory.texts]
