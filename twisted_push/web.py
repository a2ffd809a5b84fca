"""HTTP with guards, for everything that stands on twisted.web.

Facts (measured on twisted.web): it has no deadline for a request that trickles in, and no limit
on a body; it goes on reading and answering while no answer is taken; and bytes that other parsers
take for line ends may stand in a header's value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any, Protocol, cast

from twisted.internet.interfaces import (
    IAddress,
    IConsumer,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES, HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from twisted_push.deadline import Deadline
from twisted_push.jsontext import encode

__all__ = [
    "IDLE_TIMEOUT",
    "REQUEST_DEADLINE",
    "Asked",
    "Asking",
    "GuardedChannel",
    "GuardedRequest",
    "GuardedSite",
    "address_of",
    "answer",
    "answer_json",
    "answer_later",
    "bad_header",
    "header",
]

IDLE_TIMEOUT = 60.0
"""Seconds for which a connection may be silent between two requests."""

REQUEST_DEADLINE = 10.0
"""Seconds within which a request must be complete, from its first byte."""

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f\x85]")


class GuardedChannel(HTTPChannel):
    """An HTTP/1 connection whose requests must arrive in time, however slowly they trickle.

    And whose answers must be taken: while one is waiting for that, no other request is read.
    ``heir`` is to be set to the protocol that a request has handed the connection over to.
    """

    site: GuardedSite
    timeOut: Any  # Twisted's type knows whole seconds only.
    heir: IProtocol | None = None
    _begun = False
    _answering = False
    _paused = False
    _untaken: Request | None = None
    _deadline: Deadline | None = None
    _host: IAddress | None = None

    def dataReceived(self, data: bytes) -> None:
        begins = not self._begun and not self._answering
        self._begun = self._begun or begins
        super().dataReceived(data)
        if begins and self._begun:  # There is more to come of it.
            self.setTimeout(REQUEST_DEADLINE)
        if self.heir is not None:
            # It has got all; what comes from now on, its transport gives it.
            self.heir = None
            self.requests = []  # They know their channel, and nobody will tell them of the end.
            self._forget_deadline()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._begun = False
        super().connectionLost(reason)
        self._forget_deadline()
        # These lead back here: the reader of a body that did not come whole, and what TLS keeps.
        self._transferDecoder = None
        cast("IConsumer", self.transport).unregisterProducer()

    def getHost(self) -> IAddress:
        """Give our address, which each request asks for, and the kernel is asked once."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    # --- Timeouts (`twisted.protocols.policies.TimeoutMixin`) --------------------------------

    def setTimeout(self, period: float | None) -> float | None:
        """Have the connection time out after so many seconds; None: not any more."""
        before: float | None = self.timeOut
        self.timeOut = period
        if self._deadline is None:
            self._deadline = Deadline(self.site.clock, self.timeoutConnection)
        self._deadline.set(period)
        return before

    def resetTimeout(self) -> None:
        """Begin anew, but for the deadline of a request that has begun."""
        if not self._begun and self._deadline is not None:
            self._deadline.set(self.timeOut)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.forget()

    # --- Requests ----------------------------------------------------------------------------

    def rawDataReceived(self, data: bytes) -> None:
        """Take a body, or hand on what came in one piece with a request that made an heir."""
        if self.heir is None:
            super().rawDataReceived(data)
        else:
            self.heir.dataReceived(data)

    def allContentReceived(self) -> None:
        self._begun = False
        self._answering = True
        self.setTimeout(IDLE_TIMEOUT)
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        if self.persistent and self._paused:
            self._untaken = request
            cast("IPushProducer", self.transport).pauseProducing()
            self.setTimeout(IDLE_TIMEOUT)
        else:
            self._answering = not self.persistent
            super().requestDone(request)

    def pauseProducing(self) -> None:
        self._paused = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        super().resumeProducing()
        request, self._untaken = self._untaken, None
        if request is not None:
            self.requestDone(request)


class GuardedRequest(Request):
    """A request that keeps no more of its body than ``max_body`` bytes of its site.

    One that is longer is rendered with ``too_large`` set, and what is left of its body is of no
    use; one that goes on for long is cut off.
    """

    too_large = False
    gone = False
    _received = 0

    def read(self) -> bytes:
        """Give the body."""
        return self.body.getvalue()

    def connectionLost(self, reason: Failure) -> None:
        self.gone = True
        super().connectionLost(reason)

    def gotLength(self, length: int | None) -> None:
        self.body = BytesIO()
        self.content = self.body
        self.too_large = length is not None and length > self._limit()

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._limit():
            self.too_large = True
        if not self.too_large:
            self.body.write(data)
        elif self._received > 4 * self._limit() and self.transport is not None:
            cast("ITCPTransport", self.transport).abortConnection()

    def _limit(self) -> int:
        return cast("Any", self.channel).site.max_body()  # type: ignore[no-any-return]


class GuardedSite(Site):
    """A site with the guards of this module and without an access log."""

    noisy = False
    # The generic channel that this replaces only adds HTTP/2.
    protocol: Any = GuardedChannel

    def __init__(self, resource: IResource, clock: IReactorTime, max_body: Callable[[], int]):
        super().__init__(
            resource,
            requestFactory=GuardedRequest,
            parsePOSTFormSubmission=False,
            reactor=clock,
            timeout=IDLE_TIMEOUT,
        )
        self.clock = clock
        self.max_body = max_body

    def log(self, request: Any) -> None:
        """Write nothing: what an operator must know is logged where it happens."""


class Headers(Protocol):
    """What is asked of `twisted.web.http_headers.Headers`."""

    def getRawHeaders(self, name: bytes) -> Sequence[bytes] | None:
        """Give the values of a header, None if it is not there."""

    def getAllRawHeaders(self) -> Iterator[tuple[bytes, Sequence[bytes]]]:
        """Give all headers with their values."""


class Asking(Protocol):
    """What the door reads of a request: one of twisted.web, or one that is read before it."""

    @property
    def requestHeaders(self) -> Headers:
        """The headers."""

    def getClientAddress(self) -> IAddress:
        """Give the address of the peer."""


class Answering(Protocol):
    """A request as those know it who set the status and headers of its answer."""

    method: bytes

    def setResponseCode(self, code: int, message: bytes | None = None) -> None:
        """Set the status."""

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Set a header."""


class Asked(Asking, Answering, Protocol):
    """A request as the API knows it: one of twisted.web, or one that is read before it.

    ``postpath`` are the parts of the path behind the resource. ``too_large``: the body was not
    kept. ``gone``: the peer is, and there is nobody to answer.
    """

    postpath: list[bytes] | None
    too_large: bool
    gone: bool

    def read(self) -> bytes:
        """Give the body."""

    def write(self, data: bytes) -> None:
        """Give some of its body."""

    def finish(self) -> None:
        """Take notice that this was all."""


def header(request: Asking, name: str) -> str | None:
    """Give a header as text (ISO-8859-1); several of one name are joined by commas."""
    values = request.requestHeaders.getRawHeaders(name.encode("ascii"))
    return None if values is None else b", ".join(values).decode("latin-1")


def bad_header(request: Asking) -> str | None:
    """Say what is wrong with the headers of a request, None if nothing is.

    Control characters split headers in parsers further on; two of a name that may come only once
    are a sign of smuggling.
    """
    for name, values in request.requestHeaders.getAllRawHeaders():
        if _CONTROL.search(b"\t".join(values)):  # A tab is none.
            return "a header has a control character"
        if len(values) > 1 and name.lower() in (b"host", b"origin", b"upgrade"):
            return f"the header {name.decode('latin-1')} came twice"
    return None


def address_of(request: Asking, trusted: Iterable[str]) -> str:
    """Give the address of a client; X-Forwarded-For is believed from ``trusted`` networks only.

    A Unix socket is always a proxy's: whoever may connect to it was let in by its permissions.
    The last address in the header that is not itself trusted is the client's.
    """
    peer: str | None = getattr(request.getClientAddress(), "host", None)
    address = _address(peer or "")
    networks = [ipaddress.ip_network(network, strict=False) for network in trusted]
    if peer and not _within(address, networks):
        text = str(address or peer)
        return peer if text == peer else text  # The same text is not kept twice.
    forwarded = (header(request, "X-Forwarded-For") or "").split(",")
    for hop in reversed([part.strip() for part in forwarded if part.strip()]):
        found = _address(hop)
        if found is None:
            break
        address = found
        if not _within(found, networks):
            break
    return str(address or "unix")


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> _Address | None:
    """Read an address; one of IPv4 that a dual-stack socket wraps in IPv6 is taken out."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        # A scope id is any text, and means nothing on another host.
        return None if address.scope_id else address.ipv4_mapped or address
    return address


def _within(
    address: _Address | None, networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network]
) -> bool:
    return address is not None and any(address in network for network in networks)


def answer(
    request: Answering,
    status: int,
    body: bytes,
    content_type: str = "text/plain; charset=utf-8",
) -> bytes:
    """Set status and headers of an answer and give its body, which is none for HEAD.

    Else twisted.web would log the request with its address, and that may hold a secret.
    """
    request.setResponseCode(status, RESPONSES.get(status, b"Refused"))
    request.setHeader(b"Content-Type", content_type.encode("ascii"))
    request.setHeader(b"Content-Length", b"%d" % len(body))
    request.setHeader(b"Cache-Control", b"no-store")
    request.setHeader(b"X-Content-Type-Options", b"nosniff")
    return b"" if request.method == b"HEAD" else body


def answer_json(request: Answering, status: int, value: object) -> bytes:
    """Set status and headers of a JSON answer and give its body."""
    return answer(request, status, encode(value), "application/json")


def answer_later(request: Request, body: bytes, clock: IReactorTime) -> None:
    """Write all of an answer now, to a request that was parked; it is over in a later turn.

    Then twisted.web deals with the request that came right behind it, which is not to happen in the
    midst of whatever this is an answer to.
    """
    request.write(body)
    finishing = clock.callLater(0, request.finish)
    request.notifyFinish().addErrback(lambda _: finishing.cancel())
