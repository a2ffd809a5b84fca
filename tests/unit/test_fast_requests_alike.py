"""Requests to the API, ordinary and odd ones: both paths do and answer the same.

What one server takes for the end of a request and another for its middle is how requests are
smuggled. So it does not matter what is right here, but that there is one answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
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
_GOOD = b'{"channel":"%s","data":1}' % BROADCAST.encode()
_CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_GOOD), _GOOD)
_N = len(_GOOD)
_HEADERS = [
    *(f"Content-Length: {n}" for n in (0, _N - 1, _N + 1, f"00{_N}", f"+{_N}", "-0", f"{_N}_0")),
    *(f"Content-Length: {n}" for n in (f"{_N} ", f"\t{_N}", f"\x0b{_N}", f"{_N}\x0b", "\xb2")),
    *(f"Content-Length: {n}" for n in ("", f"{_N}, {_N}", f"{_N},{_N}", "0x5", "1" * 9, "1" * 10)),
    *(f"{name}: {_N}" for name in ("content-length", "Content-Length ", " Content-Length")),
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
    *("X: a\x00b", "X: a\x0bb", "X: a\x7f", "X: \x85", "X: \xe9", "X:", "X:  ", "X", ": x", " "),
    *("X\x00: a", "X Y: a", "X(: a", "\xe9: a", "X-A : a", "Content-Type: a\r\nContent-Type: b"),
    *(f"X: {'x' * 16000}", f"X: {'x' * 16384}", "X: x\r\n" * 100 + "X: x", "\r\n".join("X" * 501)),
    "\r\n".join(f"X-{n}: x" for n in range(120)),
]
_BODIES = [_GOOD, b"", b"{", b"[]", _CHUNKED, _GOOD[:-1], _GOOD + b"x", b"x" * (LIMIT + 1)]
_BEHIND = [b"x", b"\r\n", b"\r\n\r\n", b"\n"]

_KEYED = f"X-API-Key: {KEY}"
_GOOD_REQUEST = asking(_GOOD, "/api/publish", _KEYED)


_FIRST = "POST /api/publish HTTP/1.1"
_REST = ("Host: push.test", f"Content-Length: {_N}", _KEYED)


def _request(first: str, lines: Sequence[str], body: bytes) -> bytes:
    return "\r\n".join([first, *lines, "", ""]).encode("latin-1") + body


def _with(header: str) -> list[str]:
    """Give the headers of a request with another, which takes the place of one of its name."""
    name = header.partition(":")[0].strip().lower()
    lines = [line for line in _REST if line.partition(":")[0].lower() != name]
    return [header, *lines]


def _with_one_oddity() -> list[bytes]:
    """Give requests that are ordinary ones, but for one thing."""
    found = [_request(line, _REST, _GOOD) for line in _LINES]
    found += [_request(_FIRST, _REST, body) for body in _BODIES]
    found += [_GOOD_REQUEST + behind for behind in _BEHIND]
    for number in range(len(_REST)):
        found.append(_request(_FIRST, [*_REST[:number], *_REST[number + 1 :]], _GOOD))
    for header in _HEADERS:
        found += [_request(_FIRST, [*_REST, header], body) for body in (_GOOD, _CHUNKED)]
        found.append(_request(_FIRST, _with(header), _GOOD))
    for coding in ("Transfer-Encoding: chunked", "transfer-encoding: Chunked"):
        found.append(_request(_FIRST, [_REST[0], coding, _REST[2]], _CHUNKED))
    return found


_ODD = _with_one_oddity()


@st.composite
def _odder(draw: st.DrawFn) -> bytes:
    """Give a request with some oddities."""
    lines = list(draw(st.sampled_from([_REST, _REST, _REST, _REST[1:], _REST[::2], _REST[:2]])))
    for line in draw(st.lists(st.sampled_from(_HEADERS), max_size=2)):
        lines.insert(draw(st.integers(0, len(lines))), line)
    first = draw(st.just(_FIRST) | st.sampled_from(_LINES))
    return _request(first, lines, draw(st.just(_GOOD) | st.sampled_from(_BODIES)))


_REQUESTS = st.lists(
    st.just(_GOOD_REQUEST) | st.sampled_from(_ODD) | _odder(), min_size=1, max_size=4
)


def _converse(fast: bool, pieces: Sequence[bytes], late: bool = False) -> tuple[object, ...]:
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


@pytest.mark.parametrize("odd", _ODD)
def test_one_oddity(odd: bytes) -> None:
    """In a request that comes alone, and in pieces between two others."""
    for pieces in ([odd], [_GOOD_REQUEST, odd[:-1], odd[-1:] + _GOOD_REQUEST]):
        assert _converse(True, pieces) == _converse(False, pieces)


@settings(max_examples=300)
@given(_REQUESTS, st.lists(st.integers(0, 1000), max_size=4), st.booleans())
@example([_GOOD_REQUEST] * 3, [], False)
def test_both_paths_answer_alike(requests: list[bytes], places: list[int], late: bool) -> None:
    """The same requests, in the same pieces: the same answers, in order, and the same is done."""
    pieces = _cut(b"".join(requests), places)
    assert _converse(True, pieces, late) == _converse(False, pieces, late)


@settings(max_examples=100)
@given(_REQUESTS)
def test_however_the_bytes_come(requests: list[bytes]) -> None:
    """One request in each piece, or all in one: it is the same."""
    (answers, _, *done), (others, _, *done_too) = (
        _converse(True, pieces) for pieces in (requests, [b"".join(requests)])
    )
    assert (answers, done) == (others, done_too)
