"""One request to a CMS, and what may be read of its answer.

The CMS may be faulty or hostile: what it sends is looked at before anything is made of it, and is
cut off where it is too much.
"""

from __future__ import annotations

from collections.abc import Container

from attrs import frozen
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from twisted_push.cms.connections import Overrun, causes

__all__ = ["Attempt", "Fault", "fault_from"]

_TOO_MUCH_TO_DO = (429, 502, 503, 504)
"""Statuses of a CMS, or of a proxy before it, that cannot cope."""

_LATER = (429, 503)
"""Statuses that may say when: elsewhere ``Retry-After`` is the slip of a page."""

_NOT_NOW = (408, 425, 429)
"""Statuses 4xx that are about the moment, and not about the question."""


@frozen
class Fault(Exception):
    """Why there is no answer: the ``outcome`` counted, and ``detail`` (no secret, no payload).

    ``later`` is the header ``Retry-After``; ``overload`` whether the CMS has too much to do,
    ``final`` whether it will never take this question.
    """

    outcome: str
    detail: str = ""
    later: str | None = None
    overload: bool = False
    final: bool = False

    @property
    def alive(self) -> bool:
        """Whether the CMS is there and answers, if with nonsense."""
        return self.outcome not in ("connection", "timeout") and not self.overload

    @property
    def why(self) -> str:
        """The outcome and the detail, for the log."""
        words = self.outcome.replace("_", " ")
        return f"{words}: {self.detail}" if self.detail else words


class _Reader(Protocol):
    """Collects a body up to ``limit`` bytes; cuts the connection beyond it, or when cancelled."""

    def __init__(self, response: IResponse, limit: int) -> None:
        self._response = response
        self._limit = limit
        self._size = 0
        self._chunks: list[bytes] = []
        self.done: Deferred[bytes] = Deferred(lambda _: self._cut())

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._size += len(data)
        if self._size > self._limit:
            self._chunks.clear()
            self.done.errback(Fault("too_large", f"more than {self._limit} bytes"))
            self._cut()
        else:
            self._chunks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(b"".join(self._chunks))
        elif getattr(self._response, "overrun", False):
            self.done.errback(Overrun())
        else:
            self.done.errback(reason)

    def _cut(self) -> None:
        abort = getattr(self._response, "abort", None)
        if abort is not None:
            abort()
        elif self.transport is not None:  # An agent that is not ours.
            self.transport.loseConnection()


@implementer(IAgent)
class Attempt:
    """Stands between treq and the agent for one request: what gets past it may be read."""

    def __init__(self, agent: IAgent, limit: int, answered: Container[int]) -> None:
        self._agent = agent
        self._limit = limit
        self._answered = answered
        self._response: IResponse | None = None

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        headers = Headers() if headers is None else headers.copy()
        headers.setRawHeaders(b"Accept-Encoding", [b"identity"])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(self._received)

    def _received(self, response: IResponse) -> IResponse:
        self._response = response
        fault = self._fault_of(response)
        if fault is not None:
            reader = self._deliver()
            reader.done.addErrback(lambda _: None)
            reader.done.cancel()
            raise fault
        # They would not be kept, but read: thousands of them stop the reactor for 50 ms.
        response.headers.removeHeader(b"Set-Cookie")
        return response

    def _fault_of(self, response: IResponse) -> Fault | None:
        if 300 <= response.code < 400:
            return Fault("redirect", f"{response.code}")
        if response.code not in self._answered:
            later = None
            if response.code in _LATER:
                later = (response.headers.getRawHeaders("Retry-After") or [None])[-1]
            overload = response.code in _TOO_MUCH_TO_DO
            final = 400 <= response.code < 500 and response.code not in _NOT_NOW
            return Fault("status", f"{response.code}", later, overload, final)
        encodings = b",".join(response.headers.getRawHeaders(b"Content-Encoding", []))
        if encodings.strip().lower() not in (b"", b"identity"):
            return Fault("malformed", "it is compressed, though that was not asked for")
        if isinstance(response.length, int) and response.length > self._limit:
            return Fault("too_large", f"more than {self._limit} bytes")
        return None

    def _deliver(self) -> _Reader:
        assert self._response is not None
        reader = _Reader(self._response, self._limit)
        self._response.deliverBody(reader)
        return reader

    def read(self) -> Deferred[bytes]:
        """Give the body as it was sent. Fails with `Fault`, `Overrun` or twisted.web's errors."""
        return self._deliver().done


def fault_from(failure: Failure) -> Fault:
    """Say what an error of twisted.web's client goes back to; library names and texts only."""
    found = causes(failure)
    for cause in found:
        if isinstance(cause, Overrun):
            return Fault("too_large", "endless headers, or much around the body")
    plain = [cause for cause in found if not hasattr(cause, "reasons")]
    cause = plain[0] if plain else found[0]
    kind = type(cause)
    if isinstance(cause, SSL.Error):
        texts = [entry[-1] for entry in cause.args[0]] if cause.args else []
        return Fault("connection", f"TLS: {', '.join(texts) or 'failed'}")
    if kind.__module__.startswith("service_identity"):
        return Fault("connection", "TLS: the certificate is not for this host")
    if isinstance(cause, (ValueError, LookupError)) or kind.__module__.startswith("twisted.web."):
        return Fault("malformed", f"it is not HTTP ({kind.__name__})")
    return Fault("connection", kind.__name__)
