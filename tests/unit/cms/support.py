"""What the tests of the callback share: a fake engine, a CMS in memory, and one on a socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qs

from attrs import define, field
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from twisted_push.cms.exchange import Exchange
from twisted_push.config import CallbackConfig
from twisted_push.errors import EngineUnavailable
from twisted_push.interfaces import IEngine
from twisted_push.model import ClientRequest, ConnectRequest, Grant
from twisted_push.stats import SiteStats

URL = "http://cms.test/push/who?secret=of-the-query"
SERVICE_KEY = "service-key-0123456789"
NOW = 1_800_000_000.0


def clock_at(now: float = NOW) -> Clock:
    clock = Clock()
    clock.advance(now)
    return clock


def config(**changes: Any) -> CallbackConfig:
    given: dict[str, Any] = {
        "url": URL,
        "dialect": "connect",
        "service_key": SERVICE_KEY,
        **changes,
    }
    return CallbackConfig(**given)


def asked(
    token: str = "token-of-alice",
    client: str = "client-1",
    headers: Mapping[str, str] | None = None,
    **changes: Any,
) -> ConnectRequest:
    return ConnectRequest(
        client=client,
        token=token,
        request=ClientRequest("websocket", "192.0.2.1", "push.test", headers or {}),
        **changes,
    )


class Outcome:
    """What a Deferred came to, if it did."""

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.deferred = deferred
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False
        deferred.addCallbacks(self._succeeded, self._failed)

    @property
    def says(self) -> str:
        """The error as text, such as ``Refused 109 token expired``; empty for none."""
        return "" if self.error is None else f"{type(self.error).__name__} {self.error}"

    def _succeeded(self, value: Any) -> None:
        self.done, self.value = True, value

    def _failed(self, failure: Failure) -> None:
        self.done, self.error = True, failure.value


@define
class FakeEngine:
    """The part of an engine that keeps grants. ``trouble`` makes every call fail."""

    clock: Clock
    kept: dict[bytes, tuple[Grant, float]] = field(factory=dict)
    revoked_tokens: set[bytes] = field(factory=set)
    revoked_users: dict[str, float] = field(factory=dict)
    trouble: EngineUnavailable | None = None
    gets: int = 0
    puts: list[tuple[bytes | None, Grant, float]] = field(factory=list)
    held: list[Deferred[None]] | None = None
    """A list: each `grant_get` waits until its Deferred in the list is fired."""

    @property
    def engine(self) -> IEngine:
        return cast(IEngine, self)

    def _beaten(self, token: bytes | None, grant: Grant) -> bool:
        since = self.revoked_users.get(grant.user)
        return token in self.revoked_tokens or (since is not None and since >= grant.issued_at)

    def grant_put(self, token: bytes | None, grant: Grant, until: float) -> Deferred[bool]:
        if self.trouble:
            return fail(self.trouble)
        self.puts.append((token, grant, until))
        if self._beaten(token, grant):
            return succeed(False)
        if token is not None:
            self.kept[token] = (grant, until)
        return succeed(True)

    def token_revoked(self, token: bytes) -> Deferred[bool]:
        return fail(self.trouble) if self.trouble else succeed(token in self.revoked_tokens)

    def grant_get(self, token: bytes) -> Deferred[Grant | None]:
        self.gets += 1
        if self.trouble:
            return fail(self.trouble)
        if self.held is not None:
            waiting: Deferred[None] = Deferred()
            self.held.append(waiting)
            return waiting.addCallback(lambda _: self._get(token))
        return succeed(self._get(token))

    def _get(self, token: bytes) -> Grant | None:
        grant, until = self.kept.get(token, (None, 0.0))
        if grant is None or until <= self.clock.seconds() or self._beaten(token, grant):
            return None
        return grant

    def grant_valid(self, token: bytes, grant: Grant) -> Deferred[bool]:
        return fail(self.trouble) if self.trouble else succeed(not self._beaten(token, grant))


@define
class Asked:
    """One question as it reached the CMS."""

    request: Request
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.body))

    @property
    def form(self) -> dict[str, str]:
        return {
            name: value
            for name, [value] in parse_qs(self.body.decode(), strict_parsing=True).items()
        }

    def header(self, name: str) -> bytes | None:
        values = self.request.requestHeaders.getRawHeaders(name.encode())
        if values is None:
            return None
        [value] = values
        return value


class MemoryCms(Resource):
    """A CMS behind a `RequestTraversalAgent`.

    It answers with ``answer`` and ``code``; with ``answer`` None it keeps the question open until
    `reply`.
    """

    isLeaf = True

    def __init__(self, answer: object = None) -> None:
        super().__init__()
        self.answer = answer
        self.code = 200
        self.headers: dict[str, str] = {"Content-Type": "application/json"}
        self.asked: list[Asked] = []
        self.hung_up = 0
        self._open: list[Request] = []
        self.agent = RequestTraversalAgent(self)

    def render_POST(self, request: Request) -> bytes | int:
        assert request.content is not None
        self.asked.append(Asked(request, request.content.read()))
        if self.answer is None:
            self._open.append(request)
            request.notifyFinish().addErrback(self._left, request)
            return NOT_DONE_YET
        return self._render(request, self.answer)

    def _render(self, request: Request, answer: object) -> bytes:
        request.setResponseCode(self.code)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    def _left(self, _: Failure, request: Request) -> None:
        self.hung_up += 1
        self._open.remove(request)

    @property
    def open(self) -> int:
        self.agent.flush()
        return len(self._open)

    def reply(self, answer: object) -> None:
        """Answer the oldest open question."""
        request = self._open.pop(0)
        request.write(self._render(request, answer))
        request.finish()
        self.agent.flush()


@implementer(ILogObserver)
class Log:
    """The log lines of the package under test."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []

    def __call__(self, event: LogEvent) -> None:
        if str(event.get("log_namespace", "")).startswith("twisted_push"):
            self.events.append(event)

    @property
    def lines(self) -> list[str]:
        return [formatEvent(event) for event in self.events]

    @property
    def everything(self) -> str:
        """All fields of all events, whether a line shows them or not."""
        return repr([{k: v for k, v in e.items() if k != "log_logger"} for e in self.events])


class RawConnection(Protocol):
    """A connection to a `RawCms`: collects requests, byte by byte, and runs its script."""

    factory: RawCms

    def __init__(self) -> None:
        self._buffer = b""
        self.lost: Deferred[None] = Deferred()
        self.is_open = True
        self.number = 0
        self.sent = 0

    def connectionMade(self) -> None:
        self.factory.connections.append(self)
        if self.factory.greet is not None:
            self.factory.greet(self)

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, rest = self._buffer.partition(b"\r\n\r\n")
            [length] = [
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            ]
            if len(rest) < length:
                return
            self._buffer = rest[length:]
            self.number += 1
            self.factory.requests.append(head + b"\r\n\r\n" + rest[:length])
            self.factory.script(self)

    def send(self, data: bytes) -> None:
        assert self.transport is not None
        self.sent += len(data)
        self.transport.write(data)

    def answer(self, body: bytes, code: int = 200, headers: bytes = b"") -> None:
        self.send(b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n" % (code, len(body)))
        self.send(headers + b"\r\n" + body)

    def hang_up(self) -> None:
        assert self.transport is not None
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_open = False
        self.lost.callback(None)


def the_reactor() -> Any:
    from twisted.internet import reactor

    return reactor


class RawCms(Factory[RawConnection]):
    """A server that sends what a script tells it."""

    noisy = False
    protocol = RawConnection

    def __init__(self, script: Callable[[RawConnection], None]) -> None:
        self.script = script
        self.greet: Callable[[RawConnection], None] | None = None
        self.connections: list[RawConnection] = []
        self.requests: list[bytes] = []
        self.url = ""

    @property
    def open(self) -> int:
        return sum(connection.is_open for connection in self.connections)


@define
class World:
    """An exchange with a CMS in memory, on a clock."""

    clock: Clock
    stats: SiteStats
    cms: MemoryCms
    exchange: Exchange
    engine: FakeEngine


def world(answer: object = None, **changes: Any) -> World:
    clock, stats, cms = clock_at(), SiteStats(), MemoryCms(answer)
    exchange = Exchange(config(**changes), clock, stats, cms.agent)
    return World(clock, stats, cms, exchange, FakeEngine(clock))
