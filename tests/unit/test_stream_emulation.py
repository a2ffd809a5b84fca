"""What clients of streams send after their first commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.stream_support import KINDS, PAGE, Reader, StreamServer, servers
from twisted_push.errors import Disconnect

Make = Callable[..., StreamServer]
every_kind = pytest.mark.parametrize("kind", KINDS)
PING = b'{"id":7,"ping":{}}'


@pytest.fixture
def make_server() -> Iterator[Make]:
    yield from servers()


@every_kind
def test_a_command(make_server: Make, kind: str) -> None:
    server = make_server()
    reader = Reader(server, kind).connected()
    asked = reader.send(PING, Origin=PAGE, Content_Type="application/json")
    assert asked.status == 204
    assert asked.body == b""
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert asked.headers["cache-control"] == "no-store"
    assert reader.told() == [{"id": 7, "ping": {}}]
    assert server.stats.commands["ping"] == 1


def test_several_commands(make_server: Make) -> None:
    reader = Reader(make_server()).connected()
    assert reader.send(PING + b"\n{}\n" + PING).status == 204
    assert len(reader.told()) == 2


def test_it_may_come_from_elsewhere(make_server: Make) -> None:
    """A phone that changes over to another network, or a proxy of many addresses."""
    reader = Reader(make_server(limits={"max_connections_per_address": 1})).connected()
    assert reader.send(PING, peer="192.0.2.99").status == 204
    assert len(reader.told()) == 1


def test_without_the_name_of_the_node(make_server: Make) -> None:
    server = make_server()
    reader = Reader(server).connected()
    upload = reader.upload(PING)
    del upload["node"]
    assert server.emulate(upload).status == 204
    assert len(reader.told()) == 1


def test_unknown_sessions(make_server: Make) -> None:
    server = make_server()
    reader = Reader(server).connected()
    for upload in (
        reader.upload(PING, session=""),
        reader.upload(PING, session=reader.reply["session"][:-1]),
        reader.upload(PING, session=reader.reply["session"] + " "),
        reader.upload(PING, session=reader.reply["client"]),
        reader.upload(PING, node="another-node"),
    ):
        assert server.emulate(upload).status == 404
    assert reader.told() == []
    assert server.stats.refused == {"unknown session": 5}
    reader.wire.hang_up()
    assert reader.send(PING).status == 404


def test_sessions_of_another_site(make_server: Make) -> None:
    server = make_server(sites=2)
    reader = Reader(server, Host="site0.test").connected()
    upload = reader.upload(PING, node="")
    assert server.emulate(upload, Host="site1.test").status == 404
    assert reader.send(PING, Host="site0.test").status == 204
    assert reader.send(PING, Host="other.test").status == 421


def test_sessions_of_another_transport(make_server: Make) -> None:
    server = make_server()
    tab = server.world.connected()
    upload = {"session": tab.session.secret, "node": server.world.context.uid, "data": "{}"}
    assert server.emulate(upload).status == 404
    tab.leave()


def test_other_pages(make_server: Make) -> None:
    server = make_server()
    reader = Reader(server).connected()
    refused = reader.send(PING, Origin="http://evil.test")
    assert refused.status == 403
    assert "access-control-allow-origin" not in refused.headers
    assert reader.told() == []
    assert server.stats.refused == {"origin not allowed": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"session":"s","node":"n"}',
        b'{"session":"s","data":{"id":1}}',
        b'{"session":1,"data":""}',
        b'{"session":"\\ud800","data":""}',
        b'{"session":"\xff","data":""}',
        b'{"session":"s","data":' + b"[" * 50_000,
    ],
)
def test_what_is_no_message(make_server: Make, body: bytes) -> None:
    server = make_server()
    assert server.emulate(body).status == 400
    assert server.emulate(body).body == b"not a message of a client\n"


def test_what_is_no_command_ends_the_session(make_server: Make) -> None:
    reader = Reader(make_server()).connected()
    assert reader.send(b"nonsense").status == 204
    [push] = reader.told()
    assert push["push"]["disconnect"]["code"] == 3501
    assert reader.finished


def test_too_large(make_server: Make) -> None:
    server = make_server(
        limits={"max_message_size": 100, "max_commands_per_second": 5}, max_body=1000
    )
    reader = Reader(server).connected()
    fits = PING + b" " * (100 - len(PING))
    assert reader.send(fits).status == 204
    assert len(reader.told()) == 1
    assert reader.send(fits + b" ").status == 413
    assert reader.send(b" " * 2000).status == 413
    # Only that message is refused, but who goes on and on is closed.
    assert not reader.wire.disconnecting
    for _ in range(10):
        reader.send(b" " * 200)
    [push] = reader.told()
    assert push["push"]["disconnect"]["code"] == 3013


def test_a_flood(make_server: Make) -> None:
    reader = Reader(make_server(limits={"max_commands_per_second": 5})).connected()
    for _ in range(11):
        reader.send(b"{}")
    [push] = reader.told()
    assert push["push"]["disconnect"]["code"] == 3013


def test_other_methods(make_server: Make) -> None:
    server = make_server()
    for method in ("GET", "HEAD", "PUT"):
        asked = server.ask(method, "/emulation")
        assert asked.status == 405
        assert asked.headers["allow"] == "POST, OPTIONS"


def test_what_a_client_sends_when_it_is_closed_is_nothing(make_server: Make) -> None:
    server = make_server()
    reader = Reader(server).connected()
    session = server.session
    secret = reader.upload(PING)
    server.world.node.finish(session, Disconnect(3503))
    assert server.emulate(secret).status == 404
    assert [push["push"]["disconnect"]["code"] for push in reader.told()] == [3503]
