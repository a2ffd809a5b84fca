"""Long polling from the bytes of the requests on, over transports in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.stream_support import CONNECT, PAGE, Poller, Reader, StreamServer, servers
from twisted_push.errors import Disconnect
from twisted_push.transports.stream.polls import ABSENCE, ANSWER_SIZE, CUT

Make = Callable[..., StreamServer]
PING = b'{"id":7,"ping":{}}'


@pytest.fixture
def make_server() -> Iterator[Make]:
    yield from servers()


def data_of(pushes: list[dict[str, object]]) -> list[object]:
    return [json.loads(json.dumps(push))["push"]["pub"]["data"] for push in pushes]


# --- The beginning ---------------------------------------------------------------------------


def test_a_client_polls(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server, Origin=PAGE).connected()
    assert poller.reply["session"] == server.session.secret
    assert server.door.connections == 1
    assert server.stats.accepted == {"poll": 1}
    assert poller.messages() == []
    server.publish("broadcast", {"text": "a\u2028b\r\n"})
    assert data_of(poller.told()) == [{"text": "a\u2028b\r\n"}]
    # Between two polls nothing is lost, and all of it comes at once.
    for number in range(3):
        server.publish("broadcast", number)
    assert data_of(poller.told()) == [0, 1, 2]
    assert poller.send(PING).status == 204
    assert poller.told() == [{"id": 7, "ping": {}}]


def test_its_headers(make_server: Make) -> None:
    poller = Poller(make_server(), Origin=PAGE)
    assert poller.asked is not None
    headers = poller.asked.headers
    for name in ("server", "date", "content-length"):
        del headers[name]
    # The connection is kept for the next poll.
    assert headers == {
        "access-control-allow-credentials": "true",
        "access-control-allow-origin": PAGE,
        "cache-control": "no-store, no-transform",
        "content-type": "application/x-ndjson",
        "vary": "Origin",
        "x-accel-buffering": "no",
        "x-content-type-options": "nosniff",
    }


def test_several_first_commands_have_one_answer(make_server: Make) -> None:
    subscribe = b'{"id":2,"subscribe":{"channel":"open:1"}}'
    poller = Poller(make_server(), CONNECT + b"\n" + subscribe)
    assert [reply["id"] for reply in poller.told()] == [1, 2]


def test_the_first_poll_waits_for_the_cms(make_server: Make) -> None:
    server = make_server(callback=True)
    poller = Poller(server, b'{"id":1,"connect":{"token":"t"}}')
    assert poller.messages() == []
    assert poller.asked is not None
    poller.asked.wire.hang_up()
    server.advance(CUT)
    assert server.door.connections == 0


@pytest.mark.parametrize(
    ("commands", "code"),
    [(PING, 3501), (b"nonsense", 3501), (b'{"session":1,"cursor":"x"}', 3501)],
)
def test_commands_that_are_not_let_in(make_server: Make, commands: bytes, code: int) -> None:
    server = make_server()
    [push] = Poller(server, commands).told()
    assert push["push"]["disconnect"]["code"] == code
    assert server.door.connections == 0
    assert server.timers() == 0


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [("GET", b"", 405), ("PUT", CONNECT, 405), ("POST", b"", 400), ("POST", b" " * 101, 413)],
)
def test_requests_that_are_turned_away(
    make_server: Make, method: str, body: bytes, status: int
) -> None:
    server = make_server(limits={"max_message_size": 100})
    assert server.ask(method, "/connection/poll", body).status == status
    assert server.sessions == []


def test_pages_of_other_sites_are_turned_away(make_server: Make) -> None:
    server = make_server()
    asked = server.ask("POST", "/connection/poll", CONNECT, Origin="http://evil.test")
    assert asked.status == 403
    poller = Poller(server).connected()
    poller.headers = {"Origin": "http://evil.test"}
    assert poller.poll().status == 403


def test_it_counts_against_the_limits_once(make_server: Make) -> None:
    server = make_server(limits={"max_connections_per_address": 1})
    poller = Poller(server).connected()
    assert server.ask("POST", "/connection/poll", CONNECT).status == 429
    server.publish("broadcast", 1)
    assert data_of(poller.told()) == [1]


def test_a_server_that_stops_lets_polls_in_and_no_clients(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    server.door.closed = "the server is stopping"
    assert server.ask("POST", "/connection/poll", CONNECT).status == 503
    server.world.node.finish(server.session, Disconnect(3001))
    [push] = poller.told()
    assert push["push"]["disconnect"]["code"] == 3001


# --- Sessions --------------------------------------------------------------------------------


def test_unknown_sessions(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    stream = Reader(server, "sse").connected()
    assert poller.poll(session="x").status == 404
    assert poller.poll(session=stream.reply["session"]).status == 404
    assert poller.poll(node="another").status == 404
    assert server.stats.refused == {"unknown session": 3}
    poller.asked = None
    assert poller.messages() == []
    assert server.door.connections == 2


def test_a_session_of_another_site(make_server: Make) -> None:
    server = make_server(sites=2)
    poller = Poller(server, Host="site0.test").connected()
    poller.headers = {"Host": "site1.test"}
    assert poller.poll().status == 404


# --- The cursor ------------------------------------------------------------------------------


def test_an_answer_that_was_lost_is_given_again(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    server.publish("broadcast", "lost on its way")
    assert poller.poll().answered
    server.publish("broadcast", "later")
    # The client did not get that answer, so its cursor is the same.
    for _ in range(3):
        poller.asked = None
        asked = poller.poll()
        assert b"lost on its way" in asked.body
        assert b"later" not in asked.body
    assert data_of(poller.told()) == ["lost on its way"]
    assert data_of(poller.told()) == ["later"]


@pytest.mark.parametrize("step", [-3, -2, 1, 2])
def test_a_cursor_that_cannot_be(make_server: Make, step: int) -> None:
    """It comes back, and recovers: what it missed cannot be known here."""
    server = make_server()
    poller = Poller(server).connected()
    for number in range(3):
        server.publish("broadcast", number)
        poller.told()
    assert poller.poll(cursor=poller.cursor + step).status == 409
    assert server.session.closed
    assert server.stats.closed == {3010: 1}


def test_an_answer_that_came_is_not_given_again(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    server.publish("broadcast", 1)
    poller.told()
    assert poller.messages() == []
    assert poller.poll(cursor=poller.cursor - 1).status == 409


def test_the_newest_poll_is_the_one_that_waits(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    first, second = poller.poll(), poller.poll()
    server.advance(0.25)
    assert first.status == 409
    assert not second.answered
    first.wire.hang_up()
    server.publish("broadcast", 1)
    assert data_of(poller.told()) == [1]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.sampled_from(["publish", "poll", "lose", "cut", "wait"]), max_size=40))
@example(steps=["poll", "cut", "wait", "wait", "wait", "wait", "wait"])
def test_nothing_is_lost_and_nothing_comes_twice(steps: list[str]) -> None:
    """Whatever happens to answers and polls on their way, to a client that is not away too long."""
    server = StreamServer()
    poller, published = Poller(server).connected(), 0
    told: list[object] = []
    away = 0.0
    for step in [*steps, "poll", "poll"]:
        away = 0.0 if step in ("poll", "lose") else away
        if step == "publish":
            server.publish("broadcast", published)
            published += 1
        elif step == "poll":
            told += data_of(poller.told())
        elif step == "lose":
            poller.poll()  # What it is answered is not read.
            poller.asked = None
        elif step == "cut" and poller.asked is not None:
            poller.asked.wire.hang_up()
            poller.asked = None
        elif step == "wait" and away + 1 < CUT:
            server.advance(1)
            away += 1
    assert told == list(range(published))
    server.end()


# --- Life ------------------------------------------------------------------------------------


def test_a_heartbeat_answers_a_poll_and_the_next_poll_answers_it(make_server: Make) -> None:
    server = make_server(limits={"ping_interval": 5.0, "pong_timeout": 2.0})
    poller = Poller(server).connected()
    for _ in range(4):
        assert poller.messages() == []
        server.advance(5)
        assert poller.messages() == [b"{}"]
    assert poller.messages() == []
    server.advance(4)
    assert not server.session.closed


def test_who_does_not_come_back_is_gone(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    server.advance(ABSENCE - 0.25)
    assert not server.session.closed
    server.advance(0.25)
    assert server.session.closed
    assert server.door.connections == 0
    assert server.stats.closed == {0: 1}
    assert poller.poll().status == 404


def test_a_poll_that_is_cut_may_be_followed_by_another(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    poller.poll().wire.hang_up()
    server.publish("broadcast", 1)
    server.advance(CUT - 0.25)
    poller.asked = None
    assert data_of(poller.told()) == [1]
    poller.poll().wire.hang_up()
    server.advance(CUT)
    assert server.session.closed


def test_who_floods_is_closed(make_server: Make) -> None:
    server = make_server(limits={"max_commands_per_second": 5})
    poller = Poller(server).connected()
    for _ in range(20):
        poller.poll()
    assert server.stats.closed == {3013: 1}
    assert server.door.connections == 0


def test_what_waits_is_bounded(make_server: Make) -> None:
    server = make_server(limits={"max_outbox": 1000})
    poller = Poller(server).connected()
    for _ in range(20):
        server.publish("broadcast", "x" * 100)
    server.advance(0.25)
    [push] = poller.told()
    assert push["push"]["disconnect"]["code"] == 3008


def test_an_answer_has_its_measure(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    for number in range(10):
        server.publish("broadcast", [number, "x" * (ANSWER_SIZE // 4)])
    parts = [len(poller.messages()) for _ in range(3)]
    assert parts == [4, 4, 2]


def test_the_end_is_told_with_what_came_before(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    assert poller.messages() == []
    server.world.node.finish(server.session, Disconnect(3503))
    [push] = poller.told()
    assert push["push"]["disconnect"]["code"] == 3503
    assert poller.poll().status == 404
    assert server.door.connections == 0
    assert server.timers() == 0


def test_what_was_kept_is_not_told_after_a_kick(make_server: Make) -> None:
    server = make_server()
    poller = Poller(server).connected()
    server.publish("broadcast", "secret")
    server.world.node.finish(server.session, Disconnect(3503))
    server.publish("broadcast", "more")
    assert [push["push"]["disconnect"]["code"] for push in poller.told()] == [3503]


def test_a_lost_answer_is_not_given_again_once_a_channel_is_taken_away(make_server: Make) -> None:
    server = make_server()
    subscribe = b'{"id":2,"subscribe":{"channel":"open:1"}}'
    poller = Poller(server, CONNECT + b"\n" + subscribe)
    poller.reply = poller.told()[0]["connect"]
    server.publish("open:1", "secret")
    assert b"secret" in poller.poll().body
    server.world.node.channels.take(server.session, "open:1")
    poller.asked = None
    [push] = poller.told()
    assert push["push"]["disconnect"]["code"] == 3010


def test_an_end_that_nobody_fetches(make_server: Make) -> None:
    server = make_server()
    Poller(server).connected()
    server.world.node.finish(server.session, Disconnect(3503))
    server.advance(ABSENCE)
    assert server.door.connections == 0
    assert server.timers() == 0


def test_polls_one_behind_the_other_on_one_connection(make_server: Make) -> None:
    """HTTP/1.1 keeps the connection, and a request may come before the answer is over."""
    server = make_server()
    poller = Poller(server)
    first = poller.asked
    assert first is not None
    poller.connected()
    body = json.dumps({**poller.reply, "cursor": 1}).encode()
    server.publish("broadcast", "on the same connection")
    first.wire.clear()
    first.wire.protocol.dataReceived(
        b"POST /connection/poll HTTP/1.1\r\nHost: push.test\r\nContent-Length: %d\r\n\r\n%s"
        % (len(body), body)
    )
    server.advance(0.25)
    assert b"on the same connection" in first.wire.value()
    assert not first.wire.disconnecting
