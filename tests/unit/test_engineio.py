"""Engine.IO: the requests of polling, their answers and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.unit.engineio_support import PAGE, Client, EngineServer, servers
from twisted_push.errors import Disconnect
from twisted_push.transports.engineio import message_frame
from twisted_push.transports.engineio.polls import ANSWER_SIZE

make_server = pytest.fixture(servers)
Make = Callable[..., EngineServer]

OPEN_3 = "/socket.io/?EIO=3&transport=polling&t=Q89F1sg"
VERSIONS = pytest.mark.parametrize("version", [3, 4])


# --- As captured -----------------------------------------------------------------------------


def test_the_captured_dialogue(make_server: Make) -> None:
    server = make_server()
    opened = server.ask(
        "GET", OPEN_3, Origin=PAGE, Cookie="SESS2db=RVAN", Referer="http://push.test:81/"
    )
    sid = server.session.secret
    packet = f'0{{"sid":"{sid}","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":10000}}'
    assert opened.status == 200
    assert opened.body.decode() == f"{len(packet)}:{packet}2:40"
    assert opened.headers["content-type"] == "text/plain; charset=UTF-8"
    assert opened.headers["content-length"] == str(len(opened.body))
    assert opened.headers["access-control-allow-credentials"] == "true"
    assert opened.headers["access-control-allow-origin"] == PAGE
    assert opened.headers["vary"] == "Origin"
    assert opened.headers["cache-control"] == "no-store"
    assert "set-cookie" not in opened.headers

    posted = server.ask(
        "POST",
        f"{OPEN_3}&sid={sid}",
        b'67:42["authenticate",{"authToken":"55ca107a635c229ed940c49c502c9b31"}]',
        Origin=PAGE,
        Content_type="text/plain;charset=UTF-8",
    )
    assert (posted.status, posted.body) == (200, b"ok")
    assert posted.headers["content-type"] == "text/html"
    assert posted.headers["access-control-allow-origin"] == PAGE
    assert "set-cookie" not in posted.headers
    assert server.dialect.messages == [
        b'2["authenticate",{"authToken":"55ca107a635c229ed940c49c502c9b31"}]'
    ]

    polled = server.ask("GET", f"{OPEN_3}&sid={sid}", Origin=PAGE)
    assert not polled.answered
    server.session.deliver(message_frame(b'2["message",{"callback":"clientAuthenticated"}]'))
    assert polled.body == b'48:42["message",{"callback":"clientAuthenticated"}]'
    assert polled.headers["content-type"] == "text/plain; charset=UTF-8"


def test_the_opening_of_version_4(make_server: Make) -> None:
    server = make_server(limits={"ping_interval": 20.0, "pong_timeout": 5.0})
    opened = server.ask("GET", "/socket.io/?EIO=4&transport=polling")
    assert json.loads(opened.body[1:]) == {
        "sid": server.session.secret,
        "upgrades": ["websocket"],
        "pingInterval": 20000,
        "pingTimeout": 5000,
        "maxPayload": 65536,
    }


@pytest.mark.parametrize(("version", "greeting"), [(3, [b"40"]), (4, [])])
def test_websocket_from_the_start(make_server: Make, version: int, greeting: list[bytes]) -> None:
    server = make_server()
    client = Client(server, version)
    assert client.open_on_websocket() == greeting
    assert client.opening["upgrades"] == []
    assert server.session.transport.request.transport == "socketio_websocket"
    assert server.stats.accepted == {"socketio_websocket": 1}
    assert server.door.connections == 1
    client.send(b'42["one"]')
    assert server.dialect.messages == [b'2["one"]']
    server.session.deliver(message_frame(b'2["two"]'))
    assert client.got() == [b'42["two"]']
    assert client.get().error == (400, 3)
    assert client.upgrade() == 400


def test_the_client_id_that_others_may_learn_is_no_sid(make_server: Make) -> None:
    server = make_server()
    for version in (3, 4):
        client = Client(server, version)
        client.open()
        session = server.session
        assert client.sid == session.secret
        client.sid = session.client
        assert client.get().error == (400, 1)


# --- What is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "query", "status", "code"),
    [
        ("GET", "", 400, 0),
        ("GET", "EIO=3", 400, 0),
        ("GET", "EIO=3&transport=", 400, 0),
        ("GET", "EIO=3&transport=flashsocket", 400, 0),
        ("GET", "EIO=3&transport=constructor", 400, 0),
        ("GET", "transport=polling", 400, 5),
        ("GET", "EIO=2&transport=polling", 400, 5),
        ("GET", "EIO=5&transport=polling", 400, 5),
        ("GET", "EIO=%D9%A3&transport=polling", 400, 5),
        ("GET", "EIO=3&transport=polling&sid=unknown", 400, 1),
        ("GET", "EIO=4&transport=polling&sid=%ff%00", 400, 1),
        ("POST", "EIO=4&transport=polling&sid=unknown", 400, 1),
        ("POST", "EIO=3&transport=polling", 400, 2),
        ("PUT", "EIO=3&transport=polling", 400, 2),
        ("POST", "EIO=3&transport=websocket", 400, 3),
        ("GET", "EIO=3&transport=websocket", 400, 3),
        ("GET", "EIO=3&transport=polling&j=0", 400, 3),
        ("GET", "EIO=3&transport=polling&j=", 400, 3),
    ],
)
def test_bad_requests(make_server: Make, method: str, query: str, status: int, code: int) -> None:
    server = make_server()
    asked = server.ask(method, f"/socket.io/?{query}", Origin=PAGE)
    assert asked.error == (status, code)
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert asked.headers["cache-control"] == "no-store"
    assert server.sessions == []


@VERSIONS
def test_bad_requests_of_a_client_leave_it_alone(make_server: Make, version: int) -> None:
    server = make_server()
    client = Client(server, version)
    client.open()
    known = client.target()
    for method, target, code in [
        ("GET", f"{known}&j=1", 3),
        ("POST", f"{known}&j=1", 3),
        ("DELETE", known, 3),
        ("GET", known.replace(f"EIO={version}", f"EIO={7 - version}"), 3),
        ("GET", known.replace("polling", "websocket"), 3),
        ("GET", known.replace(f"EIO={version}", "EIO=1"), 5),
        ("GET", known.replace("polling", "jsonp"), 0),
    ]:
        assert server.ask(method, target).error == (400, code), (method, target)
    assert server.browser().open(known) == 400
    assert client.poll() is None
    assert not server.session.closed


def test_an_empty_sid_is_none(make_server: Make) -> None:
    server = make_server()
    assert server.ask("GET", f"{OPEN_3}&sid=").status == 200


def test_another_origin(make_server: Make) -> None:
    server = make_server()
    client = Client(server, Origin=PAGE)
    client.open()
    for method in ("GET", "POST", "OPTIONS"):
        for target in (client.target(), OPEN_3):
            asked = server.ask(method, target, b"2:2x", Origin="http://evil.test")
            assert asked.error == (403, 4)
            assert "access-control-allow-origin" not in asked.headers
            assert asked.headers["vary"] == "Origin"
    client.headers["Origin"] = "http://evil.test"
    assert client.upgrade() == 403
    assert len(server.sessions) == 1
    assert server.dialect.messages == []


def test_a_request_that_is_no_pages(make_server: Make) -> None:
    asked = make_server().ask("GET", OPEN_3)
    assert asked.status == 200
    assert "access-control-allow-origin" not in asked.headers
    assert asked.headers["vary"] == "Origin"


def test_a_preflight(make_server: Make) -> None:
    server = make_server()
    asked = server.ask(
        "OPTIONS",
        OPEN_3,
        Origin=PAGE,
        Access_Control_Request_Method="POST",
        Access_Control_Request_Headers="content-type",
    )
    assert (asked.status, asked.body) == (204, b"")
    assert asked.headers["access-control-allow-methods"] == "GET, POST"
    assert asked.headers["access-control-allow-headers"] == "Content-Type"
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert server.sessions == []


def test_another_host(make_server: Make) -> None:
    server = make_server(sites=2)
    client = Client(server, Host="site0.test")
    client.open()
    for host, status, code in [("site1.test", 400, 1), ("other.test", 421, 3)]:
        client.headers["Host"] = host
        assert client.get().error == (status, code)
        assert client.post(b"4x").error == (status, code)
        assert client.upgrade() == status
    assert server.dialect.messages == []


def test_headers_that_come_twice_or_hold_controls(make_server: Make) -> None:
    server = make_server()
    twice = server.ask("GET", OPEN_3, Origin=f"{PAGE}\r\nOrigin: {PAGE}")
    assert twice.error == (400, 3)
    assert "access-control-allow-origin" not in twice.headers
    assert server.ask("GET", OPEN_3, Cookie="a\x0bb").error == (400, 3)


def test_too_many_connections(make_server: Make) -> None:
    server = make_server(limits={"max_connections": 2})
    first, second = Client(server), Client(server, 4)
    first.open()
    second.open_on_websocket()
    third = server.ask("GET", OPEN_3, Origin=PAGE)
    assert third.error == (503, 3)
    assert third.headers["retry-after"] == "5"
    assert third.headers["access-control-allow-origin"] == PAGE
    assert Client(server).upgrade() == 503
    assert server.stats.refused == {"too many connections": 2}
    # Those who are in are as free as before.
    assert first.post(b"4x").status == 200
    assert first.change_over() == []
    assert server.door.connections == 2


def test_too_many_connections_from_one_address(make_server: Make) -> None:
    server = make_server(limits={"max_connections_per_address": 1})
    client = Client(server)
    client.open()
    assert server.ask("GET", OPEN_3).error == (429, 3)
    assert server.ask("GET", OPEN_3, peer="192.0.2.2").status == 200
    client.post(b"1")
    assert server.ask("GET", OPEN_3).status == 200


def test_a_stopping_server_refuses_the_new_and_tells_the_others(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    server.door.closed = "the server is stopping"
    assert server.ask("GET", OPEN_3).error == (503, 3)
    server.world.node.finish(server.session, Disconnect(3001))
    packets = client.last()
    assert b"clientDisconnected" in packets[0]
    assert packets[-1] == b"1"


# --- Polls -----------------------------------------------------------------------------------


@VERSIONS
def test_what_is_sent_between_polls_comes_with_the_next(make_server: Make, version: int) -> None:
    server = make_server()
    client = Client(server, version)
    client.open()
    for text in (b"2[1]", b'2["\xf0\x9f\x98\x80 caf\xc3\xa9"]', b"2[3]"):
        server.session.deliver(message_frame(text))
    assert client.poll() == [b"42[1]", b'42["\xf0\x9f\x98\x80 caf\xc3\xa9"]', b"42[3]"]
    assert client.poll() is None


def test_a_parked_poll_is_answered_in_the_turn_of_the_frame(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    client.park()
    server.session.deliver(message_frame(b"2[1]"))
    server.session.deliver(message_frame(b"2[2]"))
    assert client.polled() == [b"42[1]"]
    assert client.poll() == [b"42[2]"]


def test_what_is_kept_of_a_channel_that_is_taken_away_is_not_sent(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    server.session.deliver(message_frame(b"2[1]"), "kept")
    server.session.deliver(message_frame(b"2[2]"), "taken")
    server.session.forget_channel("taken")
    assert client.poll() == [b"42[1]"]


def test_an_answer_is_bounded(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    large = message_frame(b"x" * (ANSWER_SIZE // 2))
    for _ in range(5):
        server.session.deliver(large)
    counts = [len(client.poll() or ()) for _ in range(3)]
    assert counts == [2, 2, 1]


def test_a_client_that_does_not_poll_is_slow(make_server: Make) -> None:
    server = make_server(limits={"max_outbox": 1000})
    client = Client(server)
    client.open()
    for _ in range(20):
        server.session.deliver(message_frame(b"x" * 100))
    server.clock.advance(0)
    assert server.stats.closed == {3008: 1}
    packets = client.last()
    assert b'"code":3008' in packets[0]
    assert packets[1:] == [b"1"]


def test_two_polls_at_once(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    client.park()
    assert client.get().error == (400, 3)
    packets = client.last()
    # Both ends are over, and the client comes back.
    assert b'"reconnect":true' in packets[0]
    assert packets[1:] == [b"1"]
    assert server.session.closed
    assert client.get().error == (400, 1)


def test_two_polls_on_one_connection_are_one_after_the_other(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    client.park()
    assert client.poll_ is not None
    again = f"GET {client.target()} HTTP/1.1\r\nHost: push.test\r\n\r\n".encode()
    client.poll_.wire.protocol.dataReceived(again)
    server.session.deliver(message_frame(b"2[1]"))
    server.session.deliver(message_frame(b"2[2]"))
    server.clock.advance(0)
    _, _, rest = client.poll_.wire.value().partition(b"\r\n\r\n")
    assert rest.startswith(b"5:42[1]HTTP/1.1 200 OK")
    assert rest.endswith(b"5:42[2]")


def test_what_came_right_behind_a_poll_is_not_taken_in_the_midst_of_a_delivery(
    make_server: Make,
) -> None:
    """It would come before what is being delivered, for all who are yet to be given that."""
    server = make_server()
    client = Client(server, 4)
    client.open()
    client.park()
    assert client.poll_ is not None
    post = f"POST {client.target()} HTTP/1.1\r\nHost: push.test\r\nContent-Length: 2\r\n\r\n4x"
    client.poll_.wire.protocol.dataReceived(post.encode())
    server.session.deliver(message_frame(b"2[1]"))
    assert client.poll_.body == b"42[1]"
    assert server.dialect.messages == []
    server.clock.advance(0)
    assert client.poll_.body.endswith(b"ok")
    assert server.dialect.messages == [b"x"]


def test_a_poll_whose_connection_is_lost(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    client.park()
    assert client.poll_ is not None
    client.poll_.wire.hang_up()
    assert server.session.closed
    assert server.stats.closed == {0: 1}
    assert server.door.connections == 0
    assert client.get().error == (400, 1)


def test_an_answered_poll_whose_connection_is_lost_is_none(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    asked = client.get()
    client.open()
    asked.wire.hang_up()
    server.clock.advance(0)
    assert server.stats.closed == {}


# --- Posts -----------------------------------------------------------------------------------


@VERSIONS
def test_packets_of_one_post(make_server: Make, version: int) -> None:
    server = make_server()
    client = Client(server, version)
    client.open()
    assert client.post(b"4one", "4zw\u00f6lf \U0001f600".encode(), b"6", b"4").body == b"ok"
    assert server.dialect.messages == [b"one", "zw\u00f6lf \U0001f600".encode(), b""]
    element = b"b4AQI=" if version == 3 else b"bAQI="
    assert client.post(element).status == 200
    assert server.dialect.binaries == 1


def test_the_binary_payload_of_version_3(make_server: Make) -> None:
    server = make_server()
    client = Client(server, 3)
    client.open()
    body = b"\x00\x04\xff4one\x01\x02\xff\x04\x01"
    octets = "application/octet-stream"
    assert client.post_raw(body, Content_Type=octets).status == 200
    assert (server.dialect.messages, server.dialect.binaries) == ([b"one"], 1)
    other = Client(server, 4)
    other.open()
    assert other.post_raw(b"4one", Content_Type=octets).error == (400, 3)


@pytest.mark.parametrize(
    ("version", "body"),
    [
        (3, b""),
        (3, b"4:4one3:4"),
        (3, b"9999:4one"),
        (3, b"4:4one4:7two"),
        (3, b"4:4one4:\xff\xff\xff\xff"),
        (3, b"d=4%3A4one"),
        (4, b""),
        (4, b"4one\x1e"),
        (4, b"4one\x1e9"),
        (4, b"4one\x1eb!!"),
    ],
)
def test_a_malformed_payload_delivers_nothing(make_server: Make, version: int, body: bytes) -> None:
    server = make_server()
    client = Client(server, version)
    client.open()
    client.park()
    assert client.post_raw(body).error == (400, 3)
    assert server.dialect.messages == []
    assert server.stats.closed == {3501: 1}
    packets = client.last()
    assert packets[-2:] == [b"41", b"1"]


@pytest.mark.parametrize(("size", "status"), [(1000, 200), (1001, 413), (3000, 413)])
def test_the_size_of_a_payload(make_server: Make, size: int, status: int) -> None:
    server = make_server(limits={"max_message_size": 1000}, max_body=2000)
    client = Client(server, 4)
    client.open()
    asked = client.post_raw(b"4" + b"x" * (size - 1))
    assert asked.status == status
    assert server.session.closed is (status == 413)
    assert len(server.dialect.messages) == (status == 200)
    if status == 413:
        assert asked.error == (413, 3)


@pytest.mark.parametrize(
    ("version", "packet"),
    [(3, b"0"), (3, b"3"), (3, b"5"), (4, b"0{}"), (4, b"2"), (4, b"2probe"), (4, b"5")],
)
def test_packets_that_no_client_sends(make_server: Make, version: int, packet: bytes) -> None:
    server = make_server()
    client = Client(server, version)
    client.open()
    assert client.post(b"4before", packet, b"4behind").body == b"ok"
    assert server.dialect.messages == [b"before"]
    assert server.stats.closed == {3501: 1}


def test_a_flood_of_packets(make_server: Make) -> None:
    server = make_server(limits={"max_commands_per_second": 10})
    client = Client(server)
    client.open()
    client.park()
    assert client.post(*[b"6"] * 15, *[b"4x"] * 15).body == b"ok"
    assert server.dialect.messages == [b"x"] * 5
    assert server.stats.closed == {3013: 1}
    packets = client.last()
    assert packets[-1] == b"1"
