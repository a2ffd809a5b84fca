"""What a CMS may do wrong, on a real socket: the right error, one line, nothing left behind."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from tests.unit.cms.support import Log, Outcome, RawCms, RawConnection, asked, config, the_reactor
from twisted_push.cms.connect import ConnectDialect
from twisted_push.cms.exchange import Exchange
from twisted_push.model import Grant
from twisted_push.stats import SiteStats

Script = Callable[[RawConnection], None]
Start = Callable[[Script], RawCms]
GOOD = b'{"result": {"user": "42"}}'


def turn(seconds: float = 0.0) -> Deferred[None]:
    done: Deferred[None] = Deferred()
    the_reactor().callLater(seconds, done.callback, None)
    return done


class Asker:
    """An exchange with a real server."""

    def __init__(self, url: str, **changes: Any) -> None:
        self.stats = SiteStats()
        given = {"timeout": 5.0, "max_answer_size": 4096, **changes}
        self.exchange = Exchange(config(url=url, **given), the_reactor(), self.stats)
        self.dialect = ConnectDialect(self.exchange, ("Cookie",))

    def ask(self) -> Deferred[Grant]:
        return Deferred.fromCoroutine(self.dialect.ask(asked(headers={"cookie": "sid=1"})))


@asynccontextmanager
async def asker(url: str, **changes: Any) -> AsyncIterator[Asker]:
    one = Asker(url, **changes)
    try:
        yield one
    finally:
        await one.exchange.close()
        assert one.stats.callbacks_in_flight == 0


async def outcome_of(deferred: Deferred[Any]) -> Outcome:
    outcome = Outcome(deferred)
    await outcome.deferred
    return outcome


def raw(data: bytes, then: str = "") -> Script:
    def script(connection: RawConnection) -> None:
        connection.send(data)
        if then == "hang up":
            connection.hang_up()

    return script


def body(text: bytes, code: int = 200, headers: bytes = b"") -> Script:
    return lambda connection: connection.answer(text, code, headers)


OK_HEAD = b"HTTP/1.1 200 OK\r\n"
FAULTS: dict[str, tuple[Script, str, str]] = {
    "500": (body(b"<h1>Error</h1>", 500), "status", "status: 500"),
    "403 with a good body": (body(GOOD, 403), "status", "status: 403"),
    "404": (body(b'{"error":"Invalid service key."}', 404), "status", "status: 404"),
    "201 with a good body": (body(GOOD, 201), "status", "status: 201"),
    "204": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), "status", "status: 204"),
    "301": (body(b"", 301, b"Location: /elsewhere\r\n"), "redirect", "redirect: 301"),
    "302 with a good body": (
        body(GOOD, 302, b"Location: http://127.0.0.1:1/\r\n"),
        "redirect",
        "redirect: 302",
    ),
    "307": (body(b"", 307, b"Location: /elsewhere\r\n"), "redirect", "redirect: 307"),
    "HTML with 200": (
        body(b"<!DOCTYPE html><title>Down for maintenance</title>"),
        "malformed",
        "malformed: no JSON: JSON is malformed: invalid character (byte 0)",
    ),
    "an empty body": (body(b""), "malformed", "malformed: no JSON: Input data was truncated"),
    "half of a JSON text": (
        body(GOOD[:10]),
        "malformed",
        "malformed: no JSON: Input data was truncated",
    ),
    "not UTF-8": (
        body(b'{"result": {"user": "\xff"}}'),
        "malformed",
        "malformed: no JSON: JSON is malformed: invalid UTF-8 (byte 21)",
    ),
    "a user twice": (
        body(b'{"result": {"user": "alice", "user": "admin"}}'),
        "malformed",
        "malformed: no JSON: JSON has a key twice in one object",
    ),
    "two results": (
        body(b'{"result": {"user": "alice"}, "result": {"user": "admin"}}'),
        "malformed",
        "malformed: no JSON: JSON has a key twice in one object",
    ),
    "a key twice that is written in two ways": (
        body(b'{"result": {"user": "alice", "info": [{"a": 1, "\\u0061": 2}]}}'),
        "malformed",
        "malformed: no JSON: JSON has a key twice in one object",
    ),
    "null": (
        body(b"null"),
        "malformed",
        "malformed: not the answer that was asked for: Expected `object`, got `null`",
    ),
    "a user that is a number": (
        body(b'{"result": {"user": 42}}'),
        "malformed",
        "malformed: not the answer that was asked for: Expected `str`, got `int` - at"
        " `$.result.user`",
    ),
    "a small body in gzip": (
        body(gzip.compress(GOOD), headers=b"Content-Encoding: gzip\r\n"),
        "malformed",
        "malformed: it is compressed, though that was not asked for",
    ),
    "no HTTP": (
        raw(b"SSH-2.0-OpenSSH_9.2\r\n" * 3),
        "malformed",
        "malformed: it is not HTTP (ParseError)",
    ),
    "a status that is no number": (
        raw(b"HTTP/1.1 OK 200\r\n\r\n"),
        "malformed",
        "malformed: it is not HTTP (ParseError)",
    ),
    "two lengths": (
        raw(OK_HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12"),
        "malformed",
        "malformed: it is not HTTP (ValueError)",
    ),
    "an unknown transfer encoding": (
        raw(OK_HEAD + b"Transfer-Encoding: gzip\r\n\r\n12"),
        "malformed",
        "malformed: it is not HTTP (KeyError)",
    ),
    "a chunk length that is none": (
        raw(OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "malformed",
        "malformed: it is not HTTP (_MalformedChunkedDataError)",
    ),
    "closed before the answer": (
        raw(b"", "hang up"),
        "connection",
        "connection: ConnectionDone",
    ),
    "closed in the middle of the head": (
        raw(OK_HEAD + b"Content-Le", "hang up"),
        "connection",
        "connection: ConnectionDone",
    ),
    "closed in the middle of the body": (
        raw(OK_HEAD + b"Content-Length: 100\r\n\r\n" + GOOD, "hang up"),
        "connection",
        "connection: ConnectionDone",
    ),
    "closed in the middle of a chunk": (
        raw(OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n1f\r\n{", "hang up"),
        "connection",
        "connection: ConnectionDone",
    ),
    "a body that says it is too large": (
        raw(OK_HEAD + b"Content-Length: 4097\r\n\r\n"),
        "too_large",
        "too large: more than 4096 bytes",
    ),
    "a body of 10 GB, as it says": (
        raw(OK_HEAD + b"Content-Length: 10737418240\r\n\r\n" + b"{" * 1000),
        "too_large",
        "too large: more than 4096 bytes",
    ),
    "a body that is too large": (
        raw(OK_HEAD + b"Connection: close\r\n\r\n" + b" " * 5000),
        "too_large",
        "too large: more than 4096 bytes",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_is_one_error_and_one_line(fault: str, raw_cms: Start, log: Log) -> None:
    script, outcome, why = FAULTS[fault]
    cms = raw_cms(script)
    async with asker(cms.url) as one:
        result = await outcome_of(one.ask())
        assert result.says == f"CmsUnavailable {why}"
        assert one.stats.callbacks == {outcome: 1}
        assert sum(one.stats.callback_duration.counts) == 1
        where = cms.url.partition("?")[0]
        assert log.lines == [f"no usable answer from the CMS at {where}: {why}"]
        for secret in ("token-of-alice", "of-the-query", "sid=1"):
            assert secret not in log.everything
        assert len(cms.requests) == 1
    await turn()
    assert cms.open == 0


async def test_a_good_answer_has_no_line_and_keeps_the_connection(raw_cms: Start, log: Log) -> None:
    cms = raw_cms(body(GOOD))
    async with asker(cms.url) as one:
        for _ in range(3):
            assert (await one.ask()).user == "42"
        assert one.stats.callbacks == {"ok": 3}
        assert (len(cms.connections), cms.open) == (1, 1)
    await turn()
    assert cms.open == 0
    assert log.lines == []


@pytest.mark.parametrize(
    "answer",
    [
        OK_HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n5\r\n"
        + GOOD[:5]
        + b"\r\n15\r\n"
        + GOOD[5:]
        + b"\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n" + GOOD,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK_HEAD + b"Content-Length: 26\r\n\r\n" + GOOD,
        OK_HEAD + b"Content-Encoding: identity\r\nConnection: close\r\n\r\n" + GOOD,
        OK_HEAD + b"Connection: close\r\n\r\n" + GOOD.ljust(4096),
    ],
    ids=["chunked", "ends by closing", "after an interim answer", "identity", "just fits"],
)
async def test_other_forms_of_a_good_answer(answer: bytes, raw_cms: Start, log: Log) -> None:
    cms = raw_cms(raw(answer, "hang up"))
    async with asker(cms.url) as one:
        assert (await one.ask()).user == "42"
    assert log.lines == []


async def test_connection_refused(raw_cms: Start, log: Log) -> None:
    port = the_reactor().listenTCP(0, RawCms(body(GOOD)))
    number = port.getHost().port
    await port.stopListening()
    async with asker(f"http://127.0.0.1:{number}/") as one:
        result = await outcome_of(one.ask())
        assert result.says == "CmsUnavailable connection: ConnectionRefusedError"
        assert one.stats.callbacks == {"connection": 1}
    assert len(log.lines) == 1


@pytest.mark.parametrize("phase", ["nothing", "head", "body"])
async def test_a_silent_cms_is_left_after_the_timeout(phase: str, raw_cms: Start, log: Log) -> None:
    beginnings = {
        "nothing": b"",
        "head": OK_HEAD + b"X-",
        "body": OK_HEAD + b"Content-Length: 26\r\n\r\n{",
    }
    cms = raw_cms(raw(beginnings[phase]))
    async with asker(cms.url, timeout=0.1) as one:
        result = await outcome_of(one.ask())
        assert result.says == "CmsUnavailable timeout: after 0.1 s"
        assert one.stats.callbacks == {"timeout": 1}
        assert len(log.lines) == 1
        await cms.connections[0].lost  # While the exchange is open: it was cut.


async def test_a_drip_of_bytes_does_not_put_the_timeout_off(raw_cms: Start, log: Log) -> None:
    def drip(connection: RawConnection) -> None:
        connection.send(OK_HEAD + b"Content-Length: 1000\r\n\r\n")
        call = LoopingCall(connection.send, b" ")
        connection.lost.addBoth(lambda _: call.stop())
        call.start(0.01)

    cms = raw_cms(drip)
    async with asker(cms.url, timeout=0.2) as one:
        result = await outcome_of(one.ask())
        assert result.says == "CmsUnavailable timeout: after 0.2 s"
        await cms.connections[0].lost
    assert len(log.lines) == 1


def pour(head: bytes, piece: bytes, times: int) -> Script:
    """Send as fast as the client takes it; ``sent`` counts what the server's socket took."""

    def script(connection: RawConnection) -> None:
        left = iter(range(times))

        class Producer:
            def resumeProducing(self) -> None:
                for _ in left:
                    connection.send(piece)
                    return
                connection.hang_up()

            def stopProducing(self) -> None:
                pass

        assert connection.transport is not None
        connection.send(head)
        connection.transport.registerProducer(Producer(), False)  # type: ignore[attr-defined]

    return script


PIECE = b"x" * 65_536
ENDLESS: dict[str, tuple[bytes, bytes, str]] = {
    "a body that does not end": (OK_HEAD + b"\r\n", PIECE, "too large: more than 4096 bytes"),
    "chunks without end": (
        OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
        b"10000\r\n" + PIECE + b"\r\n",
        "too large: more than 4096 bytes",
    ),
    "headers without end": (
        OK_HEAD,
        b"X-Header: and another one\r\n" * 2000,
        "too large: endless headers, or much around the body",
    ),
    "interim answers without end": (
        b"",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2000,
        "too large: endless headers, or much around the body",
    ),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_an_endless_answer_is_cut_at_once(what: str, raw_cms: Start, log: Log) -> None:
    head, piece, why = ENDLESS[what]
    cms = raw_cms(pour(head, piece, 160_000))  # 10 GB, if it were read.
    async with asker(cms.url) as one:
        tracemalloc.start()
        result = await outcome_of(one.ask())
        await cms.connections[0].lost
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result.says == f"CmsUnavailable {why}"
        assert one.stats.callbacks == {"too_large": 1}
        assert cms.connections[0].sent < 8_000_000
        assert peak < 4_000_000
    assert len(log.lines) == 1


async def test_a_gzip_bomb_is_not_inflated(raw_cms: Start, log: Log) -> None:
    bomb = gzip.compress(b" " * 100_000_000, 1)
    cms = raw_cms(body(bomb, headers=b"Content-Encoding: gzip\r\n"))
    async with asker(cms.url, max_answer_size=1_000_000) as one:
        tracemalloc.start()
        result = await outcome_of(one.ask())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result.says.startswith("CmsUnavailable malformed: it is compressed")
        assert peak < 2_000_000
    assert b"Accept-Encoding: identity\r\n" in cms.requests[0]
    assert b"gzip" not in cms.requests[0]
    assert len(log.lines) == 1


async def test_a_kept_connection_that_died_is_replaced(raw_cms: Start, log: Log) -> None:
    """As with any server: its timeout for idle connections ends just as the question goes out."""

    def close_at_the_second(connection: RawConnection) -> None:
        if connection.number == 1:
            connection.answer(GOOD)
        else:
            connection.hang_up()

    cms = raw_cms(close_at_the_second)
    async with asker(cms.url) as one:
        for _ in range(3):
            assert (await one.ask()).user == "42"
        assert one.stats.callbacks == {"ok": 3}
        assert [connection.number for connection in cms.connections] == [2, 2, 1]
    assert log.lines == []


async def test_a_new_connection_that_dies_is_not_replaced(raw_cms: Start) -> None:
    cms = raw_cms(raw(b"", "hang up"))
    async with asker(cms.url) as one:
        for _ in range(2):
            result = await outcome_of(one.ask())
            assert result.says == "CmsUnavailable connection: ConnectionDone"
    assert len(cms.requests) == 2


async def test_what_comes_after_an_answer_answers_nobody(raw_cms: Start) -> None:
    """Two answers to one question must not let the second one say who the next client is."""
    other = OK_HEAD + b'Content-Length: 27\r\n\r\n{"result": {"user": "evil"}}'

    def twice(connection: RawConnection) -> None:
        connection.answer(GOOD)
        if len(cms.requests) == 1:
            the_reactor().callLater(0.01, connection.send, other)

    cms = raw_cms(twice)
    async with asker(cms.url) as one:
        assert (await one.ask()).user == "42"
        await cms.connections[0].lost
        assert (await one.ask()).user == "42"


@pytest.mark.parametrize("beginning", [b"", OK_HEAD + b"Content-Length: 26\r\n\r\n{"])
async def test_an_answer_after_the_asker_left(beginning: bytes, raw_cms: Start, log: Log) -> None:
    """The CMS is not interrupted, and its answer is had: whoever lost patience comes back."""
    cms = raw_cms(raw(beginning))
    async with asker(cms.url) as one:
        outcome = Outcome(one.ask())
        await turn(0.05)
        outcome.deferred.cancel()
        await turn()
        assert (one.stats.callbacks_in_flight, cms.open) == (1, 1)
        rest = GOOD[1:] if beginning else OK_HEAD + b"Content-Length: 26\r\n\r\n" + GOOD
        cms.connections[0].send(rest)
        await outcome.deferred
        assert outcome.value.user == "42"
        assert one.stats.callbacks == {"ok": 1}
    assert log.lines == []


async def test_an_asker_who_left_and_a_cms_that_never_answers(raw_cms: Start, log: Log) -> None:
    cms = raw_cms(lambda connection: None)
    async with asker(cms.url, timeout=0.1) as one:
        outcome = Outcome(one.ask())
        outcome.deferred.cancel()
        await outcome.deferred
        assert outcome.says == "CmsUnavailable timeout: after 0.1 s"
        await cms.connections[0].lost
        assert one.stats.callbacks == {"timeout": 1}


async def test_closing_ends_everything(raw_cms: Start, log: Log) -> None:
    cms = raw_cms(lambda connection: None)
    async with asker(cms.url, max_concurrent=2) as one:
        outcomes = [Outcome(one.ask()) for _ in range(5)]
        await turn(0.05)
        assert len(cms.requests) == 2
        await one.exchange.close()
        assert {outcome.says for outcome in outcomes} == {"CmsUnavailable the server is stopping"}
        assert (await outcome_of(one.ask())).says == "CmsUnavailable the server is stopping"
        await turn()
        assert cms.open == 0
    assert log.lines == []


async def test_no_more_than_allowed_are_asked_at_once(raw_cms: Start) -> None:
    waiting: list[RawConnection] = []
    most = 0

    def answer_later(connection: RawConnection) -> None:
        nonlocal most
        waiting.append(connection)
        most = max(most, len(waiting))
        the_reactor().callLater(0.001, lambda: waiting.pop(0).answer(GOOD))

    cms = raw_cms(answer_later)
    async with asker(cms.url, max_concurrent=3, max_waiting=50) as one:
        outcomes = [Outcome(one.ask()) for _ in range(50)]
        for outcome in outcomes:
            await outcome.deferred
        assert {outcome.value.user for outcome in outcomes} == {"42"}
        assert most == 3
        assert len(cms.connections) == 3
