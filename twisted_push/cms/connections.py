"""Connections to a CMS that can be cut, and that do not take more than they should.

twisted.web's client gives a response no way to drop its connection: ``loseConnection`` waits for
unsent bytes and, with TLS, for the peer's farewell, while the rest of the answer keeps coming.
And it limits neither the number of headers nor of interim (1xx) responses. So each connection is
wrapped (`_Wire`): what arrives for one request is counted, and it can be aborted.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from OpenSSL import SSL
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.ssl import CertificateOptions
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseNeverReceived,
)
from twisted.web.iweb import IAgent, IPolicyForHTTPS, IResponse
from zope.interface import implementer

__all__ = [
    "HEADER_ALLOWANCE",
    "IDLE_TIMEOUT",
    "Connections",
    "Overrun",
    "StaleConnection",
    "causes",
    "make_agent",
]

HEADER_ALLOWANCE = 65536
"""Bytes that an answer may have besides its body: status line, headers, chunk lengths."""

IDLE_TIMEOUT = 4
"""Seconds that an idle connection is kept: a little less than Apache's KeepAliveTimeout of 5."""


class Overrun(Exception):
    """An answer was larger than its connection lets through; the connection was cut."""


class StaleConnection(Exception):
    """A kept connection turned out to be dead before any byte of an answer: ask again."""


def causes(failure: Failure) -> list[BaseException]:
    """Give what a failure of twisted.web's client goes back to, outermost first."""
    found = [failure.value]
    for reason in getattr(failure.value, "reasons", ()):
        found += causes(reason)
    return [value for value in found if value is not None]


class _Wire(ProtocolWrapper):
    """One connection: counts what arrives for a request, and can be aborted."""

    allowance = 0
    requests = 0
    overrun = False

    def dataReceived(self, data: bytes) -> None:
        self.allowance -= len(data)
        if self.allowance < 0:
            self.overrun = True
            self.abort()
        else:
            super().dataReceived(data)

    def abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


class _WireFactory(WrappingFactory[_Wire]):
    """Wraps each connection in a `_Wire` and enters it in the list of its owner."""

    protocol = _Wire
    noisy = False

    def __init__(self, factory: IProtocolFactory, owner: Connections) -> None:
        super().__init__(factory)
        self._owner = owner

    def registerProtocol(self, p: _Wire) -> None:  # noqa: N802
        self._owner.wires.add(p)

    def unregisterProtocol(self, p: _Wire) -> None:  # noqa: N802
        self._owner.gone(p)


@implementer(IStreamClientEndpoint)
class _Wired:
    """An endpoint whose connections are wrapped."""

    def __init__(self, endpoint: IStreamClientEndpoint, owner: Connections) -> None:
        self._endpoint = endpoint
        self._owner = owner

    def __repr__(self) -> str:
        return repr(self._endpoint)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        def unwrap(wire: Any) -> IProtocol:
            wrapped: IProtocol = wire.wrappedProtocol
            return wrapped

        return self._endpoint.connect(_WireFactory(protocolFactory, self._owner)).addCallback(
            unwrap
        )


class _Answer(proxyForInterface(IResponse)):  # type: ignore[misc]
    """A response that can drop its connection."""

    def __init__(self, response: IResponse, protocol: Any, request: Any) -> None:
        super().__init__(response)
        self._protocol = protocol
        self._request = request
        self._wire: _Wire = protocol.transport

    def abort(self) -> None:
        """Cut the connection, unless the response is complete and the connection kept."""
        if self._protocol.state != "QUIESCENT":
            # What of the response has arrived already is still parsed: at its end the connection
            # must not go back to the pool.
            self._request.persistent = False
            self._wire.abort()

    @property
    def overrun(self) -> bool:
        """Whether the connection was cut because too much came."""
        return self._wire.overrun


class _Line:
    """A connection as the pool hands it out, for one request."""

    def __init__(self, protocol: Any, allowance: int) -> None:
        self._protocol = protocol
        self._wire: _Wire = protocol.transport
        self._allowance = allowance

    def request(self, request: Any) -> Deferred[IResponse]:
        wire = self._wire
        wire.requests += 1
        wire.allowance = self._allowance
        asked: Deferred[IResponse] = self._protocol.request(request)
        return asked.addCallbacks(self._answered, self._failed, callbackArgs=(request,))

    def _answered(self, response: IResponse, request: Any) -> IResponse:
        answer: IResponse = _Answer(response, self._protocol, request)
        return answer

    def _failed(self, failure: Failure) -> Failure:
        if self._wire.overrun:
            raise Overrun
        if (
            self._wire.requests > 1
            and failure.check(ResponseNeverReceived, RequestTransmissionFailed)
            and not any(isinstance(cause, CancelledError) for cause in causes(failure))
        ):
            raise StaleConnection
        return failure


class Connections(HTTPConnectionPool):
    """A site's connections to its CMS: kept open for a while, counted, cut on `close`.

    ``kept`` is how many may stay open idle (0: none, each serves one request), ``max_answer_size``
    the bytes of an answer's body.
    """

    def __init__(self, reactor: IReactorTime, kept: int, max_answer_size: int) -> None:
        super().__init__(reactor, persistent=kept > 0)
        self.maxPersistentPerHost = kept
        self.cachedConnectionTimeout = IDLE_TIMEOUT
        # It would not retry a POST; see `StaleConnection`.
        self.retryAutomatically = False
        self.wires: set[_Wire] = set()
        self._allowance = max_answer_size + HEADER_ALLOWANCE
        self._all_gone: Deferred[None] | None = None

    def getConnection(  # noqa: N802
        self, key: Hashable, endpoint: IStreamClientEndpoint
    ) -> Deferred[Any]:
        connecting: Deferred[Any] = super().getConnection(key, _Wired(endpoint, self))
        return connecting.addCallback(_Line, self._allowance)

    def gone(self, wire: _Wire) -> None:
        """Take notice of a connection that was lost."""
        self.wires.discard(wire)
        if self._all_gone is not None and not self.wires:
            all_gone, self._all_gone = self._all_gone, None
            all_gone.callback(None)

    def close(self) -> Deferred[None]:
        """Cut every connection; fires when all are gone."""
        self.closeCachedConnections()
        if not self.wires:
            return succeed(None)
        all_gone: Deferred[None] = Deferred()
        self._all_gone = all_gone
        for wire in tuple(self.wires):
            wire.abort()
        return all_gone


@implementer(IOpenSSLClientConnectionCreator)
class _Unverified:
    """TLS to a server whose certificate may be anything (``verify_tls = false``)."""

    def __init__(self, hostname: str) -> None:
        self._hostname = hostname
        self._context = CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(  # noqa: N802
        self,
        tlsProtocol: TLSMemoryBIOProtocol,  # noqa: N803
    ) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if not isIPAddress(self._hostname) and not isIPv6Address(self._hostname):
            connection.set_tlsext_host_name(self._hostname.encode("ascii"))
        return connection


@implementer(IPolicyForHTTPS)
class _UnverifiedPolicy:
    """Chooses `_Unverified` for every host."""

    def creatorForNetloc(  # noqa: N802
        self, hostname: bytes, port: int
    ) -> IOpenSSLClientConnectionCreator:
        return _Unverified(hostname.decode("ascii"))


def make_agent(reactor: Any, connections: Connections, verify_tls: bool) -> IAgent:
    """Make an agent that follows nothing, decodes nothing and keeps no cookies."""
    policy = BrowserLikePolicyForHTTPS() if verify_tls else _UnverifiedPolicy()
    # Without the cache every request would load the system's certificates, even on a connection
    # that is open already.
    return Agent(reactor, HostnameCachingHTTPSPolicy(policy), pool=connections)
