"""Engine.IO: heartbeats, ends of every kind, and what is bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from tests.unit.engineio_support import Client, EngineServer, servers
from tests.unit.websocket_support import BINARY, PING
from twisted_push.errors import Disconnect
from twisted_push.interfaces import ITransport
from twisted_push.node.node import Node
from twisted_push.session import MAX_KEPT, Session
from twisted_push.transports.engineio import PING_FRAME, message_frame
from twisted_push.transports.engineio.connection import GOODBYE_TIMEOUT
from twisted_push.transports.frames import frame_payloads, text_frame
from twisted_push.transports.websocket import CLOSE_TIMEOUT

make_server = pytest.fixture(servers)
Make = Callable[..., EngineServer]
VERSIONS = pytest.mark.parametrize("version", [3, 4])
WAYS = pytest.mark.parametrize("way", ["polling", "websocket", "upgraded"])


def connected(server: EngineServer, version: int, way: str, *, after: float = 0.0) -> Client:
    """Give a client that was let in, ``after`` so many seconds."""
    client = Client(server, version)
    if way == "websocket":
        client.open_on_websocket()
    else:
        client.open()
    if way == "upgraded":
        client.change_over()
    server.advance(after)
    server.let_in()
    return client


def say(client: Client, packet: bytes) -> None:
    if client.socket is None:
        assert client.post(packet).body == b"ok"
    else:
        client.send(packet)


def hear(client: Client) -> list[bytes]:
    """Give what is told to a client that polls, if it does, all the time."""
    if client.socket is not None:
        return client.got()
    found: list[bytes] = []
    while True:
        if client.poll_ is None:
            client.park()
        packets = client.polled()
        if packets is None:
            return found
        found += packets


# --- Frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_what_is_in_a_frame(size: int) -> None:
    frames = text_frame(b"x" * size) + text_frame(b"y") + text_frame(b"z" * size)
    assert list(frame_payloads(frames)) == [b"x" * size, b"y", b"z" * size]


def test_frames_for_codecs() -> None:
    assert message_frame(b'2["a"]') == b"\x81\x074" + b'2["a"]'
    assert PING_FRAME == b"\x81\x012"


# --- Heartbeats ------------------------------------------------------------------------------


@WAYS
def test_a_client_of_version_3_sends_heartbeats(make_server: Make, way: str) -> None:
    server = make_server()
    client = connected(server, 3, way)
    hear(client)
    for _ in range(10):  # As the library does: always a little before the server looks.
        server.advance(24.75)
        say(client, b"2")
        assert hear(client) == [b"3"]
    assert not server.session.closed
    server.advance(25 + 10 + 0.5)
    assert server.stats.closed == {3012: 1}


@WAYS
def test_the_server_sends_heartbeats_in_version_4(make_server: Make, way: str) -> None:
    server = make_server()
    client = connected(server, 4, way)
    hear(client)
    for _ in range(5):
        server.advance(25.5)
        assert hear(client) == [b"2"]
        say(client, b"3")
    assert not server.session.closed
    server.advance(25 + 10 + 0.5)
    assert server.stats.closed == {3012: 1}


@WAYS
def test_the_first_heartbeat_is_due_from_the_handshake_on(make_server: Make, way: str) -> None:
    """A client of version 4 knows nothing of how long it took to let it in."""
    server = make_server()
    client = connected(server, 4, way, after=9.75)
    hear(client)
    server.advance(25 - 9.75)
    assert hear(client) == [b"2"]


def test_a_heartbeat_of_version_3_is_answered_without_its_data(make_server: Make) -> None:
    client = connected(make_server(), 3, "websocket")
    client.send(b"2probe")
    assert client.got() == [b"3"]


@VERSIONS
def test_a_client_that_stops_polling(make_server: Make, version: int) -> None:
    server = make_server()
    client = connected(server, version, "polling")
    server.advance(36)
    assert server.stats.closed == {3012: 1}
    server.advance(GOODBYE_TIMEOUT)
    assert server.door.connections == 0
    assert client.get().error == (400, 1)


# --- The server closes -----------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize(("code", "last"), [(3503, [b"41"]), (3011, [])])
def test_a_parked_poll_is_told_everything_at_once(
    make_server: Make, version: int, code: int, last: list[bytes]
) -> None:
    server = make_server()
    client = connected(server, version, "polling")
    client.park()
    server.world.node.finish(server.session, Disconnect(code))
    packets = client.polled() or [b""]
    assert b"clientDisconnected" in packets[0]
    assert packets[1:] == last
    # The end comes by itself: newer clients would see to it before the rest.
    assert client.poll() == [b"1"]
    assert server.timers() == 0
    assert server.door.connections == 0
    assert client.get().error == (400, 1)


def test_a_client_that_goes_when_it_was_told(make_server: Make) -> None:
    server = make_server()
    client = connected(server, 3, "polling")
    client.park()
    server.world.node.finish(server.session, Disconnect(3503))
    client.polled()
    assert client.post(b"1").body == b"ok"
    assert (server.timers(), server.door.connections) == (0, 0)


def test_the_last_packets_wait_for_the_next_poll(make_server: Make) -> None:
    server = make_server()
    client = connected(server, 3, "polling")
    server.session.deliver(message_frame(b"2[1]"), "secret")
    assert server.timers() == 0
    server.world.node.finish(server.session, Disconnect(3503))
    assert server.timers() == 1
    server.advance(GOODBYE_TIMEOUT - 0.25)
    # What a client posts meanwhile is nothing, and no fault either: it is yet to be told.
    assert client.post(b"2", b"4x").body == b"ok"
    packets = client.last()
    assert b"clientDisconnected" in packets[0]
    assert packets[1:] == [b"41", b"1"]
    assert server.timers() == 0
    assert client.get().error == (400, 1)
    assert server.dialect.messages == []


def test_the_last_packets_wait_no_longer(make_server: Make) -> None:
    server = make_server()
    client = connected(server, 3, "polling")
    server.world.node.finish(server.session, Disconnect(3503))
    server.advance(GOODBYE_TIMEOUT)
    assert server.door.connections == 0
    assert client.get().error == (400, 1)


@pytest.mark.parametrize("way", ["websocket", "upgraded"])
def test_a_websocket_is_closed_with_the_code(make_server: Make, way: str) -> None:
    server = make_server()
    client = connected(server, 3, way)
    server.world.node.finish(server.session, Disconnect(3503))
    told = client.got()
    assert b"clientDisconnected" in told[0]
    assert told[1:] == [b"41", b"#3503"]
    server.clock.advance(CLOSE_TIMEOUT)
    assert server.door.connections == 0
    assert client.get().error == (400, 1)


@WAYS
def test_an_abort(make_server: Make, way: str) -> None:
    server = make_server()
    client = connected(server, 3, way)
    if way == "polling":
        client.park()
    server.session.transport.abort()
    line: Any = client.poll_ or client.socket
    assert line.wire.aborted
    assert server.session.closed
    assert server.door.connections == 0
    assert server.endpoint._connections == {}


@VERSIONS
def test_a_session_that_is_closed_while_it_is_greeted(make_server: Make, version: int) -> None:
    def accept(node: Node, transport: ITransport, version: int) -> Session:
        session = server.accept(node, transport, version)
        node.finish(session, Disconnect(3503))
        return session

    server = make_server(accept=accept)
    client = Client(server, version)
    told = client.open()
    assert b"clientDisconnected" in told[-2]
    assert told[-1] == b"41"
    assert client.poll() == [b"1"]
    assert server.door.connections == 0
    other = Client(server, version)
    assert other.upgrade() == 101
    assert other.got()[-2:] == [b"41", b"#3503"]
    server.clock.advance(CLOSE_TIMEOUT)
    assert server.door.connections == 0


def test_a_greeting_that_fails(make_server: Make, flush_logged_errors: Any) -> None:
    def accept(node: Node, transport: ITransport, version: int) -> Session:
        server.accept(node, transport, version)
        raise ValueError("a fault")

    server = make_server(accept=accept)
    assert server.ask("GET", "/socket.io/?EIO=3&transport=polling").status == 500
    assert len(flush_logged_errors(ValueError)) == 1
    server.advance(10.25)
    assert server.stats.closed == {3502: 1}
    server.advance(GOODBYE_TIMEOUT)
    assert server.timers() == 0
    assert server.door.connections == 0


def test_those_who_never_present_themselves(make_server: Make) -> None:
    server = make_server(limits={"max_connections": 200, "stale_close_delay": 10.0})
    statuses = [
        server.ask("GET", f"/socket.io/?EIO={3 + n % 2}&transport=polling").status
        for n in range(250)
    ]
    assert statuses == [200] * 200 + [503] * 50
    server.advance(10.25)
    assert server.stats.closed == {3502: 200}
    server.advance(GOODBYE_TIMEOUT)
    assert server.door.connections == 0
    assert server.endpoint._connections == {}


# --- The client closes -----------------------------------------------------------------------


@VERSIONS
def test_a_client_that_says_that_it_goes(make_server: Make, version: int) -> None:
    server = make_server()
    client = connected(server, version, "polling")
    client.park()
    assert client.post(b"1", b"4behind").body == b"ok"
    assert client.polled() == [b"6"]
    assert server.stats.closed == {0: 1}
    assert server.dialect.messages == []
    assert server.door.connections == 0
    assert client.get().error == (400, 1)


@pytest.mark.parametrize("way", ["websocket", "upgraded"])
def test_a_client_that_says_so_by_websocket(make_server: Make, way: str) -> None:
    server = make_server()
    client = connected(server, 4, way)
    client.send(b"1")
    assert client.got() == [b"#1000"]
    assert server.stats.closed == {0: 1}
    server.clock.advance(CLOSE_TIMEOUT)
    assert server.door.connections == 0


# --- What a WebSocket may carry --------------------------------------------------------------


@pytest.mark.parametrize("way", ["websocket", "upgraded"])
@pytest.mark.parametrize("packet", [b"", b"7", b"x", b"b4AQI=", b"\xd9\xa4one", b"0", b"5"])
def test_what_is_no_packet(make_server: Make, packet: bytes, way: str) -> None:
    server = make_server()
    client = connected(server, 3, way)
    client.send(packet)
    assert client.got()[-2:] == [b"41", b"#3501"]
    assert server.stats.closed == {3501: 1}


def test_binary_messages(make_server: Make) -> None:
    server = make_server()
    client = connected(server, 3, "websocket")
    client.send(b"\x04\x00\xff", BINARY)
    assert server.dialect.binaries == 1
    client.send(b"\x07", BINARY)
    assert client.got()[-1] == b"#3501"
    client = connected(server, 4, "upgraded")
    client.send(b"\x07", BINARY)
    assert server.dialect.binaries == 2
    assert not server.session.closed


def test_a_binary_message_counts_once(make_server: Make) -> None:
    server = make_server(limits={"max_commands_per_second": 10})
    client = connected(server, 4, "websocket")
    for _ in range(100):
        client.send(b"x", BINARY)
    assert client.got()[-1] == b"#3013"
    assert server.dialect.binaries == 20


def test_heartbeats_of_a_client_that_never_polls(make_server: Make) -> None:
    """What is kept for it takes far more memory than its bytes."""
    server = make_server(limits={"max_commands_per_second": 0})
    client = connected(server, 3, "polling")
    for _ in range(1 + MAX_KEPT // 1000):
        assert client.post(*[b"2"] * 1000).body == b"ok"
    server.clock.advance(0)
    assert server.stats.closed == {3008: 1}


@pytest.mark.parametrize("packet", [b"6", b"2", b"4x"])
def test_a_flood(make_server: Make, packet: bytes) -> None:
    server = make_server(limits={"max_commands_per_second": 10})
    client = connected(server, 3, "websocket")
    for _ in range(100):
        client.send(packet)
    assert client.got()[-1] == b"#3013"
    assert len(server.dialect.messages) == (20 if packet == b"4x" else 0)


@pytest.mark.parametrize("opcode", [BINARY, PING])
def test_a_flood_on_a_websocket_that_is_tried(make_server: Make, opcode: int) -> None:
    server = make_server(limits={"max_commands_per_second": 10})
    client = Client(server)
    client.open()
    client.upgrade()
    for _ in range(100):
        client.send(b"x", opcode)
    assert server.stats.closed == ({3013: 1} if opcode == PING else {})
    server.advance(GOODBYE_TIMEOUT)
    assert client.got() == [b"#1000" if opcode == PING else b"#3501"]


def test_a_slow_reader(make_server: Make) -> None:
    server = make_server()
    client = connected(server, 3, "upgraded")
    assert client.socket is not None
    client.got()
    producer: Any = client.socket.wire.producer
    producer.pauseProducing()
    server.session.deliver(message_frame(b"2[1]"), "gone")
    server.session.deliver(message_frame(b"2[2]"))
    server.session.forget_channel("gone")
    assert client.got() == []
    producer.resumeProducing()
    assert client.got() == [b"42[2]"]


def test_changed_limits(make_server: Make) -> None:
    server = make_server()
    client = connected(server, 3, "polling")
    server.door.config = evolve(
        server.door.config, limits=evolve(server.door.config.limits, max_message_size=10)
    )
    server.endpoint.apply_limits()
    assert client.post(b"4" + b"x" * 20).error == (413, 3)
    other = connected(server, 4, "websocket")
    other.send(b"4" + b"x" * 20)
    assert other.got()[-1] == b"#1009"
