"""A tiny client of the push server's HTTP API: all that a CMS needs of it.

``POST <url>/<method>`` with the header ``X-API-Key`` and a JSON body; the answer is
``{"result": {...}}`` or ``{"error": {"code", "message"}}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

__all__ = ["Connection", "PushApi", "PushError", "PushRefused", "PushUnavailable"]

MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of an answer that are read before the rest is given up."""

TIMEOUT = 5.0
"""Seconds that a request may take from its first byte to the last of the answer."""

PAGE_TIMEOUT = 1.0
"""The same for a request that a page waits for which could do without."""

_FAR_FUTURE = 1e11

_log = Logger()


class PushError(Exception):
    """The push server did not do what it was asked; never raised itself."""


class PushUnavailable(PushError):
    """The push server gave no answer, or none that can be understood."""


class PushRefused(PushError):
    """The push server answered with an error.

    :ivar code: its error code, or the HTTP status if there was none.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


@attrs.frozen(kw_only=True)
class Connection:
    """One open page, as the push server reports it.  Whatever it left out is empty."""

    client: str
    user: str
    channels: tuple[str, ...]
    transport: str
    connected_since: float | None
    """Seconds since the epoch."""

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Connection:
        """Read one entry of the answer to ``connections``."""
        channels = value.get("channels")
        return cls(
            client=_text(value.get("client")),
            user=_text(value.get("user")),
            channels=tuple(str(c) for c in channels) if isinstance(channels, (list, dict)) else (),
            transport=_text(value.get("transport")),
            connected_since=_moment(value.get("connected_since")),
        )


@attrs.define(kw_only=True)
class PushApi:
    """The push server, as seen from the CMS.

    Every method raises :class:`PushUnavailable` or :class:`PushRefused`.
    """

    agent: IAgent
    clock: IReactorTime
    url: Callable[[], str]
    """Returns the address of the API, like ``http://127.0.0.1:8080/api``."""

    key: str = attrs.field(repr=False)

    async def publish(self, channel: str, data: Mapping[str, object], *, keep: bool = True) -> None:
        """Send *data* to everybody in *channel*; those who come later get it if it is kept."""
        body: dict[str, object] = {"channel": channel, "data": dict(data)}
        await self.call("publish", body if keep else {**body, "skip_history": True})

    async def positions(self, channels: Sequence[str]) -> dict[str, Any]:
        """Tell where the channels stand: from there a page goes on that is rendered now."""
        result = await self.call("position", {"channels": list(channels)}, timeout=PAGE_TIMEOUT)
        positions = result.get("positions")
        return positions if isinstance(positions, dict) else {}

    async def disconnect(self, user: str) -> None:
        """Close every connection of *user*, and tell the pages to stay away."""
        await self.call("disconnect", {"user": user})

    async def logout(self, token: str) -> None:
        """End *token*: close the connections that presented it, and refuse it from now on."""
        await self.call("logout", {"token": token})

    async def connections(self) -> list[Connection]:
        """List everybody who is connected."""
        result = await self.call("connections", {})
        entries = result.get("connections")
        if not isinstance(entries, list):
            return []
        return [Connection.from_json(entry) for entry in entries if isinstance(entry, dict)]

    async def call(
        self, method: str, body: Mapping[str, object], *, timeout: float = TIMEOUT
    ) -> dict[str, Any]:
        """Make one request and return its result."""
        request = Deferred.fromCoroutine(self._post(method, body))
        request.addTimeout(timeout, self.clock)
        try:
            status, answer = await request
        except (CancelledError, ConnectingCancelledError, TimeoutError):
            _log.warn("push API {method}: no answer in {seconds} s", method=method, seconds=timeout)
            raise PushUnavailable("no answer in time") from None
        except PushError:
            raise
        except Exception as error:
            _log.warn("push API {method}: {error}", method=method, error=type(error).__name__)
            raise PushUnavailable(type(error).__name__) from error
        return _result(method, status, answer)

    async def _post(self, method: str, body: Mapping[str, object]) -> tuple[int, bytes]:
        headers = Headers(
            {
                b"X-API-Key": [self.key.encode("utf-8")],
                b"Content-Type": [b"application/json"],
                b"User-Agent": [b"twisted_push demo CMS"],
            }
        )
        payload = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
        url = f"{self.url().rstrip('/')}/{method}".encode("ascii")
        response = await self.agent.request(b"POST", url, headers, _Payload(payload))
        return response.code, await _read(response)


def _result(method: str, status: int, answer: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        document = None
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, dict) and isinstance(error.get("code"), int):
        code, message = error["code"], _text(error.get("message"))[:200] or "error"
        _log.warn("push API {method}: refused with code {code}", method=method, code=code)
        raise PushRefused(code, message)
    if 400 <= status < 500:
        _log.warn("push API {method}: HTTP status {status}", method=method, status=status)
        raise PushRefused(status, "HTTP status")
    result = document.get("result") if isinstance(document, dict) else None
    if status != 200 or not isinstance(result, dict):
        _log.warn("push API {method}: not an answer, status {status}", method=method, status=status)
        raise PushUnavailable(f"HTTP status {status}")
    return result


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _moment(value: object) -> float | None:
    """Return seconds since the epoch, if that is what *value* can be."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < _FAR_FUTURE else None


@implementer(IBodyProducer)
class _Payload:
    """A request body that is in memory already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class _Collector(Protocol):
    """Gathers an answer up to :data:`MAX_ANSWER`; cancelling its Deferred hangs up."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = 0
        self.done: Deferred[bytes] = Deferred(lambda _: self._hang_up())

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_ANSWER:
            self._fail(Failure(PushUnavailable("the answer is too large")))
        else:
            self._chunks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._chunks))
        else:
            self.done.errback(reason)

    def _fail(self, reason: Failure) -> None:
        if not self.done.called:
            self.done.errback(reason)
            self._hang_up()

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _read(response: IResponse) -> Deferred[bytes]:
    collector = _Collector()
    response.deliverBody(collector)
    return collector.done
