"""Requests to the API, ordinary and odd ones: both paths do and answer the same.

What one server takes for the end of a request and another for its middle is how requests are
smuggled. So it does not matter what is right here, but that there is one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from tests.unit.node.support import BROADCAST, KEY, World
from tests.unit.request_support import asking
from tests.unit.test_api import LIMIT, Http
from twisted_push.web import IDLE_TIMEOUT, REQUEST_DEADLINE

_LINES = [
    *(f"{method} /api/publish HTTP/1.1" for method in ("POST", "GET", "PUT", "HEAD", "post", "")),
    *(
        f"POST /api/publish{end}"
        for end in ("", " HTTP/1.0", " HTTP/2.0", " http/1.1", "\tHTTP/1.1")
    ),
    *(
        f"POST {target} HTTP/1.1"
        for target in (
            *("/api/channels", "/api/", "/api", "/api//publish", "//api/publish", "/api/publish/"),
            *("/api/%70ublish", "/%61pi/publish", "/api/publish?a=%20", "/api/?publish", "/apis/x"),
            *("/api/../api/publish", "/api/publish#x", "/api/pub;x", '/api/"<>\\^`{|}', "/api/é"),
            *("api/publish", "*", "http://push.test/api/publish", "/api/publish publish", "/"),
        )
    ),
]
_HEADERS = [
    *(f"Content-Length: {n}" for n in ("0", "5", "007", "+5", "-0", "5 ", "\t5", "\x0b5", "5\x0b")),
    *(f"Content-Length: {n}" for n in ("", "5, 5", "5,5", "0x5", "5_0", "²", "1" * 9, "1" * 10)),
    *("content-length: 5", "CONTENT-LENGTH: 5", "Content-Length : 5", " Content-Length: 5"),
    *(f"Content-Length: {LIMIT}", f"Content-Length: {LIMIT + 1}", "Content_Length: 5"),
    *("Transfer-Encoding: chunked", "transfer-encoding:\tChunked", "Transfer-Encoding : chunked"),
    *("Transfer-Encoding: identity", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding:"),
    *(f"Connection: {value}" for value in ("close", "Close", "Keep-Alive", "keep-alive, close")),
    *(f"Connection: {value}" for value in ("", "upgrade", "TE, keep-alive", "\x0bclose")),
    *("connection:keep-alive", "Keep-Alive: 5", "Proxy-Connection: close", "TE: trailers"),
    *("Expect: 100-continue", "expect:", "Upgrade: h2c", "Upgrade: websocket", "Trailer: X"),
    *("Host: push.test", "Host: other", "Host:", "host: a/b", "Host: a, b", "Host: [::1]:80"),
    *(f"X-API-Key: {KEY}", "X-API-Key: wrong", "x-api-key:", f"X-Api-Key:\t{KEY}\t"),
    *("X-Centrifugo-Error-Mode: transport", "Origin: null", "Cookie: a=b; c", "Cookie: =;;"),
    *("X: a\r\n folded", "X: a\n folded", "X: a\nContent-Length: 5", "X: a\rY: b", "X: a\r"),
    *("X: a\x00b", "X: a\x0bb", "X: a\x7f", "X: \x85", "X: é", "X:", "X:  ", "X", ": x", " "),
    *("X\x00: a", "X Y: a", "X(: a", "é: a", "X-A : a", "Content-Type: a\r\nContent-Type: b"),
]
_GOOD = b'{"channel":"%s","data":1}' % BROADCAST.encode()
_BODIES = [
    _GOOD,
    _GOOD,
    b"",
    b"{",
    b"[]",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"x" * 30,
    b"x" * (LIMIT + 1),
]
_BEHIND = [b"", b"", b"x", b"\r\n", b"\r\n\r\n", b"\n"]

_KEYED = f"X-API-Key: {KEY}"
_GOOD_REQUEST = asking(_GOOD, "/api/publish", _KEYED)


@st.composite
def _odd(draw: st.DrawFn) -> bytes:
    """Give a request that is an ordinary one, but for a little."""
    body = draw(st.sampled_from(_BODIES))
    behind = draw(st.sampled_from(_BEHIND))
    lines = ["Host: push.test", f"Content-Length: {len(body)}", _KEYED]
    without = draw(st.sampled_from([None, None, *lines]))
    lines = [line for line in lines if line != without]
    for line in draw(st.lists(st.sampled_from(_HEADERS), max_size=2)):
        lines.insert(draw(st.integers(0, len(lines))), line)
    first = draw(st.just("POST /api/publish HTTP/1.1") | st.sampled_from(_LINES))
    head = "\r\n".join([first, *lines, "", ""]).encode("latin-1")
    return head + body + behind


_REQUESTS = st.lists(st.just(_GOOD_REQUEST) | _odd(), min_size=1, max_size=4)


def _converse(fast: bool, pieces: Sequence[bytes], late: bool) -> tuple[object, ...]:
    """Say this; give what was answered and done, and when the connection was over.

    ``late``: the engine answers only when the next piece is there.
    """
    world = World()
    Deferred.fromCoroutine(world.node.start())
    if late:
        world.engine.hold.add("publish")
    tab = world.connected()
    http = Http(world, fast=fast)
    wire = http.connect("192.0.2.9")
    ended: list[bool] = []

    def go_on() -> None:
        held, world.engine.held[:] = list(world.engine.held), []
        for each in held:
            each.release()
        wire.value()
        http.clock.advance(0)
        wire.value()

    with capturedLogs():  # twisted.web tells of those that it cuts off.
        for piece in pieces:
            if wire.ended:
                break
            wire.protocol.dataReceived(piece)
            go_on()
        while world.engine.held:
            go_on()
        for seconds in (0, REQUEST_DEADLINE, IDLE_TIMEOUT - REQUEST_DEADLINE):
            http.clock.advance(seconds)
            wire.value()
            ended.append(wire.ended)
    lines = [line for line in wire.value().split(b"\r\n") if not line.startswith(b"Date: ")]
    wire.hang_up()
    done = tab.published(), dict(world.context.stats.api_requests)
    assert Deferred.fromCoroutine(world.end()).called
    return lines, ended, *done


def _cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(ends)]


@settings(max_examples=1000)
@given(_REQUESTS, st.lists(st.integers(0, 1000), max_size=4), st.booleans())
@example([_GOOD_REQUEST] * 3, [], False)
def test_both_paths_answer_alike(requests: list[bytes], places: list[int], late: bool) -> None:
    """The same requests, in the same pieces: the same answers, in order, and the same is done."""
    pieces = _cut(b"".join(requests), places)
    assert _converse(True, pieces, late) == _converse(False, pieces, late)


@settings(max_examples=300)
@given(_REQUESTS)
def test_however_the_bytes_come(requests: list[bytes]) -> None:
    """One request in each piece, or all in one: it is the same."""
    first: Any = _converse(True, requests, late=False)
    assert first == _converse(True, [b"".join(requests)], late=False)
