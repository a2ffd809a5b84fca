"""WebSocket on the fast path: what is different from the plain one."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.websocket_support import (
    CLOSE,
    CONNECT,
    PATHS,
    PING,
    PONG,
    TEXT,
    Browser,
    Make,
    Server,
    masked,
    read_frames,
    servers,
)
from twisted_push.config import Namespace
from twisted_push.errors import Disconnect
from twisted_push.node.targets import Target
from twisted_push.transports.fast.websocket import LeanWebSocket
from twisted_push.transports.websocket import CLOSE_TIMEOUT
from twisted_push.web import IDLE_TIMEOUT

NAMESPACES = (Namespace(prefix="", client_subscribe="anyone"),)


@pytest.fixture
def make_server() -> Iterator[Make]:
    yield from servers(fast=True)


def run(coroutine: Any) -> Any:
    found: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(found.append)
    return found[0]


def connected(server: Server, *channels: str) -> Browser:
    browser = Browser(server)
    assert browser.open() == 101
    browser.send(CONNECT)
    for number, channel in enumerate(channels, 2):
        browser.send(b'{"id":%d,"subscribe":{"channel":"%s"}}' % (number, channel.encode()))
    assert len(browser.got()) == 1 + len(channels)
    return browser


def publish(server: Server, channel: str, text: str) -> None:
    run(server.worlds[0].publish(channel, text))


def texts(browser: Browser) -> list[bytes]:
    return [payload for opcode, payload in browser.got() if opcode == TEXT]


# --- Which way -------------------------------------------------------------------------------


def socket_of(server: Server) -> Any:
    [session] = server.worlds[0].node.sessions
    return session.transport


def test_a_browser_is_on_the_fast_path(make_server: Make) -> None:
    server = make_server()
    Browser(server).open()
    assert isinstance(socket_of(server), LeanWebSocket)


def test_a_request_in_pieces_is_not(make_server: Make) -> None:
    server = make_server()
    browser = Browser(server)
    browser.give(b"GET /ws HTTP/1.1\r\n")
    browser.give(b"Host: push.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    browser.give(
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    browser.give(masked(CONNECT))
    assert browser.wire.value().startswith(b"HTTP/1.1 101 ")
    assert b'{"id":1,"connect":' in browser.wire.value()
    assert not isinstance(socket_of(server), LeanWebSocket)


def test_who_says_nothing_is_dropped(make_server: Make) -> None:
    server = make_server()
    silent = Browser(server)
    server.clock.advance(IDLE_TIMEOUT - 0.1)
    assert not silent.wire.ended
    server.clock.advance(0.1)
    assert silent.wire.ended
    gone = Browser(server)
    gone.wire.hang_up()
    assert not [call for call in server.clock.getDelayedCalls() if "abort" in str(call)]


def test_what_comes_behind_the_request_is_read(make_server: Make) -> None:
    server = make_server()
    browser = Browser(server)
    browser.give(browser.asking() + masked(CONNECT) + masked(b'{"id":2,"ping":{}}')[:9])
    browser.give(masked(b'{"id":2,"ping":{}}')[9:])
    assert isinstance(socket_of(server), LeanWebSocket)
    _, _, rest = browser.wire.value().partition(b"\r\n\r\n")
    [first, second] = read_frames(rest)
    assert first[1].startswith(b'{"id":1,"connect":')
    assert second[1].startswith(b'{"id":2')


_NAMES = ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"]
_MORE = [
    *("Origin", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Content-Length"),
    *("Transfer-Encoding", "Cookie", "X-Forwarded-For", "X", " folded", "Bad Name", ""),
]
_VALUES = [
    *("", "websocket", "WebSocket", "h2c, websocket", "Upgrade", "keep-alive, Upgrade", "close"),
    *("13", "8", "13, 8", "dGhlIHNhbXBsZSBub25jZQ==", "short==", "!GhlIHNhbXBsZSBub25jZQ=="),
    *("push.test", "push.test:80", "push.test:x", "a:b:c", "[::1]:80", "http://push.test"),
    *("http://", "null", "file:///x", "a, a", "centrifuge-protobuf", "permessage-deflate"),
    *("permessage-deflate; nonsense=1", "0", "5", "chunked", "a\x0bb", "a\x85b", "\tx\t", "é"),
]
_LINE = st.tuples(st.sampled_from([*_NAMES, *_MORE]), st.sampled_from(_VALUES))
_REQUESTS = ["GET /ws HTTP/1.1", "GET /ws?a=b HTTP/1.1", "GET /ws HTTP/1.0", "GET ws HTTP/1.1"]


@settings(max_examples=300)
@given(
    st.lists(_LINE, max_size=3),
    st.sets(st.sampled_from(_NAMES), max_size=1),
    st.sampled_from(_REQUESTS),
)
def test_both_paths_answer_alike(
    more: list[tuple[str, str]], without: set[str], request_line: str
) -> None:
    """Whatever a request is like: the same status, the same words, and both stay open or none."""
    answers = []
    for fast in PATHS.values():
        with_servers = servers(fast=fast)
        server = next(with_servers)()
        browser = Browser(server)
        lines = [(n, v) for n, v in browser.headers.items() if n not in without] + more
        head = "".join([f"{request_line}\r\n", *(f"{n}: {v}\r\n" for n, v in lines), "\r\n"])
        browser.give(head.encode("latin-1"))
        value = browser.wire.value()
        answer = [line for line in value.split(b"\r\n") if not line.startswith(b"Date:")]
        answers.append((answer, browser.wire.ended, server.door.connections))
        browser.wire.hang_up()
        next(with_servers, None)
    assert answers[0] == answers[1]


# --- Frames ----------------------------------------------------------------------------------


@given(st.data())
def test_messages_are_read_alike_however_they_come(data: st.DataObject) -> None:
    """Frames of all kinds, valid or not, cut anywhere: both paths echo and end alike."""
    payload = st.one_of(
        st.text(max_size=40).map(str.encode),
        st.binary(max_size=8),
        st.sampled_from([b"x" * 125, b"x" * 126, "ä".encode() * 200, b"x" * 70000]),
    )
    opcode = st.sampled_from([TEXT, TEXT, TEXT, 0, 2, 8, 9, 10, 3, 0x41])
    frame = st.tuples(payload, opcode, st.booleans().map(lambda flag: not flag))
    frames = data.draw(st.lists(frame, max_size=6))
    wire = b"".join(masked(text, code, fin=fin) for text, code, fin in frames)
    cuts = sorted(data.draw(st.sets(st.integers(0, max(0, len(wire))), max_size=4)))
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    results = []
    for fast in PATHS.values():
        with_servers = servers(fast=fast)
        server = next(with_servers)(limits={"max_message_size": 66000})
        browser = Browser(server)
        browser.open("/echo")
        for piece in pieces:
            if not browser.wire.ended:
                browser.give(piece)
        results.append((browser.wire.value(), browser.wire.ended))
        browser.wire.hang_up()
        next(with_servers, None)
    assert results[0] == results[1]


def test_it_is_small_whatever_it_received(make_server: Make) -> None:
    server = make_server()
    connected(server)
    browser = Browser(server)
    browser.open()
    browser.give(masked(CONNECT[:5], fin=False) + masked(CONNECT[5:], 0))
    browser.give(masked(b"x", 9))
    for session in server.worlds[0].node.sessions:
        assert vars(session.transport) == {}


def test_nothing_is_left_of_a_connection(make_server: Make) -> None:
    """Closed sockets are freed at once, not by the collector: it may not see them (`gc.freeze`)."""
    server = make_server(namespaces=NAMESPACES)
    gc.disable()
    try:
        for how in ("hang up", "close", "abort"):
            browser = connected(server, "room")
            [session] = server.worlds[0].node.sessions
            socket: Any = session.transport
            watched = [weakref.ref(session), weakref.ref(socket), weakref.ref(socket.transport)]
            if how == "hang up":
                browser.wire.hang_up()
            elif how == "close":
                browser.send(b"\x03\xe8", 8)
            else:
                socket.abort()
            assert browser.wire.ended
            del session, socket, browser
            server.clock.advance(30)
            assert [ref() for ref in watched] == [None, None, None], how
    finally:
        gc.enable()


# --- Slow clients, and what is taken from them -----------------------------------------------


def test_a_client_that_reads_nothing_for_a_while(make_server: Make) -> None:
    server = make_server()
    browser = connected(server)
    browser.wire.kernel.room = 10
    for number in range(5):
        publish(server, "broadcast", f"number {number}")
    assert browser.wire.unsent
    assert len(browser.wire.kernel.sent) == 10
    browser.wire.kernel.room = None
    browser.wire.turns.turn()
    found = texts(browser)
    assert [f"number {n}".encode() in text for n, text in enumerate(found)] == [True] * 5


def test_a_client_that_never_reads_is_dropped(make_server: Make) -> None:
    server = make_server(limits={"max_outbox": 1000})
    browser = connected(server)
    browser.wire.kernel.room = 10
    for _ in range(20):
        publish(server, "broadcast", "x" * 100)
    server.clock.advance(0)
    assert browser.wire.aborted
    assert len(browser.wire.kernel.sent) == 10
    assert server.worlds[0].stats.closed == {3008: 1}


@pytest.mark.parametrize("code", [b"\x03\xe8", b"\x03\xed"])
def test_a_stuck_client_that_closes_is_dropped_in_time(make_server: Make, code: bytes) -> None:
    server = make_server()
    browser = connected(server)
    browser.wire.kernel.room = 0
    browser.send(code, CLOSE)
    assert not browser.wire.ended
    server.clock.advance(CLOSE_TIMEOUT)
    assert browser.wire.aborted
    assert server.door.connections == 0


def test_a_stuck_client_that_broke_the_protocol_is_let_go_when_it_reads(make_server: Make) -> None:
    browser = connected(make_server())
    browser.wire.kernel.room = 0
    browser.give(b"\x83\x80....")
    browser.send(b"\x03\xea", CLOSE)
    assert not browser.wire.ended
    browser.wire.kernel.room = None
    browser.wire.turns.turn()
    assert browser.closed[0] == 1002
    assert browser.wire.ended
    assert not browser.wire.aborted


@pytest.mark.parametrize(("size", "slow"), [(100, False), (300, True)])
def test_what_goes_together_is_bounded_as_well(make_server: Make, size: int, slow: bool) -> None:
    """And those for whom it waits share it: to one it was to be sent as a whole, to others not."""
    server = make_server(namespaces=NAMESPACES, limits={"max_outbox": 1000})
    browsers = crowd_of(server, 3)
    for browser in browsers:
        browser.wire.kernel.room = 10
    with server.worlds[0].node.channels.fan_out.together():
        for _ in range(4):
            publish(server, "c", "x" * size)
    [one, *others] = [browser.wire._tempDataBuffer[0].obj for browser in browsers]
    assert all(each is one for each in others)
    server.clock.advance(0)
    assert [browser.wire.aborted for browser in browsers] == [slow] * 3


def test_pings_of_a_client_that_does_not_read_are_no_pongs_that_wait(make_server: Make) -> None:
    browser = connected(make_server())
    browser.wire.kernel.room = 3
    for number in range(100):
        browser.send(b"%0100d" % number, PING)
    assert browser.wire.unsent < 100
    browser.wire.kernel.room = None
    browser.wire.turns.turn()
    assert browser.got() == [(PONG, b"%0100d" % number) for number in (0, 99)]


def test_an_answer_to_a_ping_that_is_not_taken_either(make_server: Make) -> None:
    """What was kept follows it, in order, when there is room again."""
    server = make_server()
    browser = connected(server)
    for _ in range(3):
        browser.wire.kernel.room = 2
        browser.send(b"first", PING)
        browser.send(b"last", PING)
        publish(server, "broadcast", "kept")
        browser.wire.kernel.room = 8  # What is left of the first, and some of the last.
        browser.wire.turns.turn()
        browser.send(b"after", PING)
        browser.wire.kernel.room = None
        browser.wire.turns.turn()
        *pongs, (_, kept) = browser.got()
        assert pongs == [(PONG, b"first"), (PONG, b"last"), (PONG, b"after")]
        assert b"kept" in kept


@pytest.mark.parametrize("room", [0, 1, 30])
@pytest.mark.parametrize("how", ["kick", "shutdown"])
def test_nothing_follows_the_end_of_a_stuck_client(make_server: Make, how: str, room: int) -> None:
    server = make_server()
    browser = connected(server)
    node = server.worlds[0].node
    browser.wire.kernel.room = room
    publish(server, "broadcast", "secret" * 10)
    publish(server, "broadcast", "more")
    if how == "kick":
        run(node.backend.disconnect(Target(anonymous=True), Disconnect(3503)))
    else:
        run(node.drain(1))
    browser.wire.kernel.room = None
    server.clock.advance(0)
    assert browser.wire.ended
    assert len(browser.wire.value()) == room


def test_a_client_that_is_told_the_end(make_server: Make) -> None:
    """One that is not stuck, or only in the middle of an answer to itself."""
    server = make_server()
    browser = connected(server)
    browser.wire.kernel.room = 3
    browser.send(b'{"id":9,"ping":{}}')
    assert browser.wire.unsent
    everybody = Target(anonymous=True)
    run(server.worlds[0].node.backend.disconnect(everybody, Disconnect(3503)))
    browser.wire.kernel.room = None
    browser.wire.turns.turn()
    assert browser.closed[0] == 3503


def test_a_channel_is_taken_from_a_stuck_client(make_server: Make) -> None:
    server = make_server(namespaces=NAMESPACES)
    browser = connected(server, "a", "b")
    backend = server.worlds[0].node.backend
    browser.wire.kernel.room = 30
    publish(server, "a", "begun" * 10)
    publish(server, "b", "secret")
    publish(server, "a", "kept")
    run(backend.unsubscribe(Target(anonymous=True), "b"))
    assert not browser.wire.ended
    browser.wire.kernel.room = None
    browser.wire.turns.turn()
    got = b"".join(texts(browser))
    assert b"begunbegun" in got
    assert b"kept" in got
    assert b"secret" not in got
    assert b'"unsubscribe"' in got


def test_the_channel_in_whose_middle_it_is_stuck_is_taken(make_server: Make) -> None:
    server = make_server(namespaces=NAMESPACES)
    browser = connected(server, "a")
    browser.wire.kernel.room = 30
    publish(server, "a", "secret" * 10)
    run(server.worlds[0].node.backend.unsubscribe(Target(anonymous=True), "a"))
    browser.wire.kernel.room = None
    server.clock.advance(0)
    assert browser.wire.ended
    assert len(browser.wire.value()) == 30


# --- Past the transport ----------------------------------------------------------------------


def crowd_of(server: Server, count: int) -> list[Browser]:
    return [connected(server, "c") for _ in range(count)]


def test_a_fan_out_is_written_past_the_transport(
    make_server: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_server(namespaces=NAMESPACES)
    browsers = crowd_of(server, 3)
    sent: list[bytes] = []
    send = LeanWebSocket.send

    def noticed(socket: LeanWebSocket, frame: bytes) -> None:
        sent.append(frame)
        send(socket, frame)

    monkeypatch.setattr(LeanWebSocket, "send", noticed)
    publish(server, "c", "hello")
    assert len(sent) == 1  # For the first of them the frame was made.
    assert [len(texts(browser)) for browser in browsers] == [1, 1, 1]


@pytest.mark.parametrize("end", [masked(b"\x03\xe8", CLOSE), b"\x81\x01a"])
def test_nothing_is_written_behind_the_close_frame(make_server: Make, end: bytes) -> None:
    """Of one that closes, and of one that broke the protocol (no mask) and may still close."""
    server = make_server(namespaces=NAMESPACES)
    *others, browser = crowd_of(server, 3)
    browser.give(end)
    publish(server, "c", "hello")
    assert [opcode for opcode, _ in browser.got()] == [CLOSE]
    assert all(len(texts(other)) == 1 for other in others)


def test_nothing_is_written_to_a_descriptor_that_is_closed(make_server: Make) -> None:
    """It is shut before: another connection may have its number at once."""
    server = make_server(namespaces=NAMESPACES)
    *_, browser = crowd_of(server, 3)
    [node] = [world.node for world in server.worlds]
    wires, number = node.wires, browser.wire.kernel.number
    assert wires.numbers[number]
    shut: list[bool] = []
    browser.wire.kernel.close = lambda: shut.append(not wires.numbers[number])
    browser.wire.hang_up()
    publish(server, "c", "hello")
    assert shut == [True]


def _unless_over(browser: Browser, do: Callable[[], object]) -> Callable[[], object]:
    return lambda: None if browser.wire.ended else do()


@settings(deadline=None)
@given(st.lists(st.integers(0, 10), max_size=40), st.integers(0, 300))
def test_each_client_gets_all_in_order_or_is_dropped(doings: list[int], room: int) -> None:
    """Whatever happens to the others, and whoever is slow, or pings, or ends."""
    for make_server in servers(fast=True):
        _play(make_server(namespaces=NAMESPACES), doings, room)


def _play(server: Server, doings: list[int], room: int) -> None:
    slow, other, *fine = browsers = crowd_of(server, 4)
    heard: dict[Browser, bytes] = dict.fromkeys(browsers, b"")
    numbers = count(1)

    def drain(browser: Browser) -> None:
        heard[browser] += browser.wire.value()
        browser.wire.clear()

    def make_room(browser: Browser) -> None:
        browser.wire.kernel.room = None
        drain(browser)

    unsubscribe = b'{"id":9,"unsubscribe":{"channel":"c"}}'
    acts: list[Callable[[], object]] = [
        lambda: setattr(slow.wire.kernel, "room", room),
        lambda: make_room(slow),
        lambda: drain(slow),
        lambda: server.clock.advance(0.01),
        lambda: setattr(other.wire.kernel, "broken", True),
        _unless_over(slow, lambda: slow.send(b"ping", PING)),
        _unless_over(other, lambda: other.send(b"", CLOSE)),
        _unless_over(other, other.wire.hang_up),
        _unless_over(slow, lambda: slow.send(unsubscribe)),
    ]
    for doing in doings:
        if doing < len(acts):
            acts[doing]()
        else:
            publish(server, "c", f"{next(numbers)}")
    for browser in browsers:
        make_room(browser)
    told = {browser: read_frames(heard[browser]) for browser in browsers}
    published = next(numbers) - 1
    for browser, frames in told.items():
        assert CLOSE not in [opcode for opcode, _ in frames[:-1]]
        got = [
            json.loads(payload)["push"]["pub"]["data"]
            for opcode, payload in frames
            if opcode == TEXT and b'"pub"' in payload
        ]
        assert got == [str(each + 1) for each in range(len(got))]
        assert len(got) == published or browser not in fine
