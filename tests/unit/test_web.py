"""HTTP with guards: deadlines, bounded bodies, clean headers, believable addresses."""

from __future__ import annotations

import json
from io import BytesIO
from typing import cast

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.test.requesthelper import DummyChannel

from twisted_push.web import (
    IDLE_TIMEOUT,
    REQUEST_DEADLINE,
    GuardedChannel,
    GuardedRequest,
    GuardedSite,
    address_of,
    answer,
    answer_json,
    bad_header,
    header,
)


@define(eq=False)
class Seen:
    """What a resource saw of a request."""

    uri: bytes
    too_large: bool
    body: bytes
    kept: int
    fault: str | None
    request: Request


class Recorder(Resource):
    """Keeps what it is asked, and answers at once or, with ``slow``, when the test does."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []
        self.slow = False

    def render(self, request: Request) -> bytes | int:
        assert isinstance(request, GuardedRequest)
        kept = cast("BytesIO", request.content).read()
        body = b"" if request.too_large else kept
        fault = bad_header(request)
        self.seen.append(Seen(request.uri, request.too_large, body, len(kept), fault, request))
        return NOT_DONE_YET if self.slow else answer(request, 200, b"ok")


class Connection:
    """One connection to a guarded site, in memory."""

    def __init__(self, max_body: int = 100) -> None:
        self.max_body = max_body
        self.clock = Clock()
        self.resource = Recorder()
        self.transport = StringTransport()
        site = GuardedSite(self.resource, self.clock, lambda: self.max_body)
        self.protocol = cast("GuardedChannel", site.buildProtocol(None))
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def get(self, *headers: bytes) -> Seen:
        self.send(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *headers, b"", b""]))
        return self.resource.seen[-1]

    @property
    def cut(self) -> bool:
        return self.transport.disconnecting

    def cut_after(self, limit: float) -> float | None:
        """Let time pass; give the seconds after which the connection was cut."""
        passed = 0.0
        while passed < limit:
            if self.cut:
                return passed
            self.clock.advance(0.5)
            passed += 0.5
        return passed if self.cut else None


# --- Deadlines -------------------------------------------------------------------------------


def test_an_ordinary_request_is_answered() -> None:
    connection = Connection()
    connection.get()
    assert connection.transport.value().startswith(b"HTTP/1.1 200 OK\r\n")
    assert connection.transport.value().endswith(b"\r\n\r\nok")
    assert not connection.cut


def test_a_request_for_the_head_alone_is_answered_and_not_logged() -> None:
    connection = Connection()
    with capturedLogs() as events:
        connection.send(b"HEAD /?sid=secret HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"Content-Length: 2\r\n" in connection.transport.value()
    assert connection.transport.value().endswith(b"\r\n\r\n")
    assert list(events) == []


def test_a_connection_without_any_request_is_cut_when_it_is_idle() -> None:
    assert Connection().cut_after(100.0) == IDLE_TIMEOUT


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"GET / HTT",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
    ],
)
def test_a_request_that_trickles_in_is_cut_at_its_deadline(start: bytes) -> None:
    connection = Connection()
    connection.send(start + b"1")
    passed = 0.0
    while not connection.cut and passed < 60.0:
        connection.clock.advance(0.5)
        passed += 0.5
        if not connection.cut:
            connection.send(b"1")
    assert passed == REQUEST_DEADLINE
    assert connection.resource.seen == []


def test_a_request_that_stops_is_cut_at_its_deadline() -> None:
    connection = Connection()
    connection.send(b"GET / HT")
    assert connection.cut_after(100.0) == REQUEST_DEADLINE


def test_a_slow_request_in_time_is_answered() -> None:
    connection = Connection()
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    for byte in request:
        connection.clock.advance(0.9 * REQUEST_DEADLINE / len(request))
        connection.send(bytes([byte]))
    assert len(connection.resource.seen) == 1
    assert not connection.cut


def test_a_second_request_has_a_deadline_of_its_own() -> None:
    connection = Connection()
    connection.get()
    connection.clock.advance(REQUEST_DEADLINE - 1.0)
    connection.send(b"GET /2 HT")
    connection.clock.advance(REQUEST_DEADLINE - 1.0)
    assert not connection.cut
    connection.send(b"TP/1.1\r\nHost: a\r\n\r\n")
    assert [each.uri for each in connection.resource.seen] == [b"/", b"/2"]
    connection.send(b"GET /3")
    for _ in range(int(REQUEST_DEADLINE)):
        assert not connection.cut
        connection.send(b"x")
        connection.clock.advance(1.0)
    assert connection.cut


def test_between_two_requests_a_connection_may_be_idle_as_long_as_before_the_first() -> None:
    connection = Connection()
    connection.get()
    assert connection.cut_after(100.0) == IDLE_TIMEOUT


@given(st.lists(st.floats(0, IDLE_TIMEOUT - 0.01), max_size=8))
def test_a_connection_in_use_has_one_timer_and_is_idle_from_its_last_request_on(
    pauses: list[float],
) -> None:
    connection = Connection()
    for pause in pauses:
        connection.clock.advance(pause)
        connection.get()
        assert len(connection.clock.getDelayedCalls()) == 1
    connection.clock.advance(IDLE_TIMEOUT - 0.01)
    assert not connection.cut
    connection.clock.advance(0.02)
    assert connection.cut


def test_a_connection_that_is_lost_leaves_no_timer() -> None:
    for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        connection = Connection()
        connection.send(sent)
        connection.protocol.connectionLost()
        assert connection.clock.getDelayedCalls() == []


def test_an_answer_may_take_its_time() -> None:
    connection = Connection()
    connection.resource.slow = True
    seen = connection.get()
    assert connection.cut_after(10 * IDLE_TIMEOUT) is None
    seen.request.write(b"late")
    seen.request.finish()
    assert b"late" in connection.transport.value()


def test_a_request_behind_one_that_is_being_answered_is_not_forgotten() -> None:
    connection = Connection()
    connection.resource.slow = True
    first = connection.get()
    connection.send(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HT")
    assert len(connection.resource.seen) == 1
    first.request.finish()
    assert [each.uri for each in connection.resource.seen] == [b"/", b"/2"]
    connection.resource.seen[1].request.finish()
    connection.send(b"TP/1.1\r\nHost: a\r\n\r\n")
    assert [each.uri for each in connection.resource.seen] == [b"/", b"/2", b"/3"]
    connection.resource.seen[2].request.finish()


def test_a_beginning_behind_an_answered_request_is_cut_as_well() -> None:
    connection = Connection()
    connection.resource.slow = True
    first = connection.get()
    connection.send(b"GET /2 HT")
    first.request.finish()
    passed = 0.0
    while not connection.cut and passed < 200.0:
        connection.send(b"x")
        connection.clock.advance(1.0)
        passed += 1.0
    assert passed <= REQUEST_DEADLINE


def test_a_lost_connection_leaves_no_timer() -> None:
    from twisted.internet.error import ConnectionDone
    from twisted.python.failure import Failure

    for data in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        connection = Connection()
        if data:
            connection.send(data)
        connection.protocol.connectionLost(Failure(ConnectionDone()))
        assert connection.clock.getDelayedCalls() == []


# --- Answers that are not taken --------------------------------------------------------------


def untaken(*lines: bytes) -> Connection:
    """Give a connection on which an answer fills what there is for it."""
    connection = Connection()
    connection.resource.slow = True
    request = connection.get(*lines).request
    request.write(b"long")
    connection.protocol.pauseProducing()
    request.finish()
    connection.resource.slow = False
    return connection


def test_no_request_is_answered_before_the_last_answer_is_taken() -> None:
    connection = untaken()
    assert connection.transport.producerState == "paused"
    connection.send(2 * post(b"next", chunked=False))  # TLS may have it already.
    assert len(connection.resource.seen) == 1
    connection.protocol.resumeProducing()
    assert [seen.body for seen in connection.resource.seen] == [b"", b"next", b"next"]
    assert connection.transport.producerState == "producing"
    assert connection.cut_after(100.0) == IDLE_TIMEOUT


def test_who_does_not_take_an_answer_is_cut_and_leaves_no_timer() -> None:
    assert untaken().cut_after(100.0) == IDLE_TIMEOUT
    connection = untaken()
    connection.protocol.connectionLost()
    assert connection.clock.getDelayedCalls() == []


def test_who_wants_no_other_answer_need_not_take_it_before_the_end() -> None:
    assert untaken(b"Connection: close").cut


def test_what_follows_an_answer_that_was_taken_has_a_deadline() -> None:
    connection = untaken()
    connection.send(b"GET / HT")
    connection.clock.advance(IDLE_TIMEOUT - 1)
    connection.protocol.resumeProducing()
    assert connection.cut_after(100.0) == REQUEST_DEADLINE


# --- Bodies ----------------------------------------------------------------------------------


def post(body: bytes, *, chunked: bool) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: a\r\n"
    if not chunked:
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(chunk), chunk)
        for chunk in (body[at : at + 7] for at in range(0, len(body), 7))
    )
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("length", [0, 1, 100, 101, 400])
def test_a_body_that_is_too_long_is_flagged(length: int, chunked: bool) -> None:
    connection = Connection(max_body=100)
    connection.send(post(b"x" * length, chunked=chunked))
    [seen] = connection.resource.seen
    assert seen.too_large is (length > 100)
    assert seen.body == (b"" if length > 100 else b"x" * length)
    assert not connection.cut


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_goes_on_for_long_is_cut_off(chunked: bool) -> None:
    connection = Connection(max_body=100)
    connection.send(post(b"x" * 3000, chunked=chunked)[:1500])
    assert connection.cut
    assert connection.resource.seen == []


@pytest.mark.parametrize("chunked", [False, True])
def test_of_a_body_that_is_too_long_no_more_than_the_limit_is_kept(chunked: bool) -> None:
    connection = Connection(max_body=100)
    connection.send(post(b"x" * 390, chunked=chunked))
    [seen] = connection.resource.seen
    assert seen.kept <= 100


def test_the_limit_may_change_while_the_site_serves() -> None:
    connection = Connection(max_body=100)
    connection.max_body = 5
    connection.send(post(b"x" * 6, chunked=False))
    assert connection.resource.seen[0].too_large


def test_too_long_a_body_says_nothing_of_the_next_request() -> None:
    connection = Connection(max_body=100)
    connection.send(post(b"x" * 200, chunked=False) + post(b"yes", chunked=False))
    assert [(each.too_large, each.body) for each in connection.resource.seen] == [
        (True, b""),
        (False, b"yes"),
    ]


def test_a_form_is_not_parsed() -> None:
    connection = Connection()
    connection.send(
        b"POST /?a=1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 3\r\n\r\nb=2"
    )
    [seen] = connection.resource.seen
    assert seen.request.args == {b"a": [b"1"]}
    assert seen.body == b"b=2"


# --- Headers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"X-A: plain",
        b"X-A: a\tb",
        b"X-A: caf\xc3\xa9 \xe4",
        b"X-A:",
        b"X-A: one\r\nX-A: two",
        b"Cookie: a=1\r\nCookie: b=2",
        b"X-A: a\r\n folded",
    ],
)
def test_headers_that_are_fine(line: bytes) -> None:
    assert Connection().get(line).fault is None


CONTROLS = (*range(1, 9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F, 0x85)


@pytest.mark.parametrize(
    "byte",
    [bytes([code]) for code in CONTROLS],
)
@pytest.mark.parametrize("place", [b"X-A: a%sOrigin: https://evil.test", b"Origin: %s"])
def test_a_header_with_a_control_character_is_bad_or_never_arrives(
    byte: bytes, place: bytes
) -> None:
    connection = Connection()
    line = place % byte
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
    for seen in connection.resource.seen:
        # twisted.web strips what it takes for space around a value.
        values = seen.request.requestHeaders.getAllRawHeaders()
        clean = not any(byte in value for _, each in values for value in each)
        assert (seen.fault is None) is clean
        assert clean or seen.fault == "a header has a control character"


@pytest.mark.parametrize("name", [b"X\x85Origin", b"X\x0bA", b"X\x1c", b"X\x00", b"X A", b"\x85"])
def test_a_name_with_a_control_character_never_arrives(name: bytes) -> None:
    connection = Connection()
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": b\r\n\r\n")
    assert connection.resource.seen == []
    assert connection.cut


@pytest.mark.parametrize("name", [b"Host", b"ORIGIN", b"origin", b"Upgrade"])
def test_what_may_come_only_once(name: bytes) -> None:
    fault = Connection().get(name + b": b", name + b": b").fault
    assert fault is not None
    assert "twice" in fault
    assert name.decode().lower() in fault.lower()


def test_a_header_as_text() -> None:
    request = Connection().get(b"X-A: one", b"x-a: caf\xe9").request
    assert header(request, "x-A") == "one,caf\u00e9".replace(",", ", ")
    assert header(request, "X-B") is None


# --- Addresses -------------------------------------------------------------------------------

PROXIES = ("127.0.0.1", "10.0.0.0/8", "2001:db8::/32")


def asked_by(peer: str, *forwarded: str) -> Request:
    request = Request(DummyChannel())
    request.client = (IPv6Address if ":" in peer else IPv4Address)("TCP", peer, 1)
    for value in forwarded:
        request.requestHeaders.addRawHeader(b"X-Forwarded-For", value.encode("latin-1"))
    return request


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # No proxy of ours: not believed.
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [" , ,"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),  # The client may lie.
        ("127.0.0.1", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("127.0.0.1", ["198.51.100.7, 10.1.2.3"], "198.51.100.7"),
        ("127.0.0.1", ["198.51.100.7,10.1.2.3 , 10.9.9.9"], "198.51.100.7"),
        ("127.0.0.1", ["10.1.2.3, 10.9.9.9"], "10.1.2.3"),
        ("127.0.0.1", ["198.51.100.7, unknown"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.7, junk, 10.1.2.3"], "10.1.2.3"),
        ("127.0.0.1", ["<script>"], "127.0.0.1"),
        ("127.0.0.1", ["198.51.100.7:8080"], "127.0.0.1"),
        ("127.0.0.1", ["1.2.3"], "127.0.0.1"),
        ("127.0.0.1", ["2130706433"], "127.0.0.1"),
        ("127.0.0.1", ["caf\u00e9"], "127.0.0.1"),
        ("2001:db8::1", ["2606:4700::1"], "2606:4700::1"),
        ("2001:db8::1", ["2606:4700::1, 10.0.0.1"], "2606:4700::1"),
        ("2606:4700::2", ["198.51.100.7"], "2606:4700::2"),
    ],
)
def test_whose_address_it_is(peer: str, forwarded: list[str], address: str) -> None:
    assert address_of(asked_by(peer, *forwarded), PROXIES) == address


def test_without_trusted_proxies_nobody_on_the_network_is_believed() -> None:
    assert address_of(asked_by("127.0.0.1", "198.51.100.7"), ()) == "127.0.0.1"


def test_a_dual_stack_socket_shows_the_same_addresses() -> None:
    request = asked_by("::ffff:127.0.0.1", "::ffff:198.51.100.7")
    assert address_of(request, ("127.0.0.1",)) == "198.51.100.7"
    assert address_of(asked_by("::ffff:198.51.100.7"), ()) == "198.51.100.7"


def test_a_scope_is_no_part_of_an_address() -> None:
    request = asked_by("127.0.0.1", "fe80::1%junk<script>")
    assert address_of(request, ("127.0.0.1",)) == "127.0.0.1"


@pytest.mark.parametrize("trusted", [(), PROXIES])
def test_behind_a_unix_socket_stands_a_proxy(trusted: tuple[str, ...]) -> None:
    request = asked_by("127.0.0.1", "203.0.113.9, 198.51.100.7")
    request.client = UNIXAddress(None)
    assert address_of(request, trusted) == "198.51.100.7"
    request.requestHeaders.removeHeader(b"X-Forwarded-For")
    assert address_of(request, trusted) == "unix"


# --- Answers ---------------------------------------------------------------------------------


def test_an_answer_is_neither_stored_nor_guessed_at() -> None:
    request = Request(DummyChannel())
    assert answer(request, 403, "n\u00f6".encode()) == "n\u00f6".encode()
    assert request.code == 403
    headers = dict(request.responseHeaders.getAllRawHeaders())
    assert headers[b"Content-Length"] == [b"3"]
    assert headers[b"Cache-Control"] == [b"no-store"]
    assert headers[b"X-Content-Type-Options"] == [b"nosniff"]
    assert headers[b"Content-Type"] == [b"text/plain; charset=utf-8"]


def test_an_answer_in_json() -> None:
    request = Request(DummyChannel())
    assert json.loads(answer_json(request, 200, {"a": ["\u2028"]})) == {"a": ["\u2028"]}
    assert request.responseHeaders.getRawHeaders(b"Content-Type") == [b"application/json"]


def test_a_status_without_a_name_of_its_own() -> None:
    request = Request(DummyChannel())
    answer(request, 499, b"")
    assert (request.code, request.code_message) == (499, b"Refused")
