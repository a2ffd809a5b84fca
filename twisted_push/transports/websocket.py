"""WebSocket through Autobahn.

What it needs of Autobahn's protocol is documented: `IWebSocketChannelStreamingApi`. Names beside
that serve refinements, each of which is left out where Autobahn has no such name.

Facts of Autobahn that this leans on: every limit is off by default; ``setProtocolOptions`` is
the one place to set them; a prepared frame may be written as it is once the opening handshake is
done; its timers run on the global reactor, so those that tests could leave behind are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from attrs import frozen
from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.compress import PerMessageDeflateOffer, PerMessageDeflateOfferAccept
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request
from zope.interface import implementer

from twisted_push.errors import Disconnect
from twisted_push.interfaces import Buffer, ITransport, Receiver
from twisted_push.model import ClientRequest
from twisted_push.node.node import Node
from twisted_push.transports.door import Door, Entry, Turned
from twisted_push.transports.head import Head
from twisted_push.transports.offers import taken_offer
from twisted_push.transports.timers import call_off
from twisted_push.web import GuardedChannel, answer, header
from twisted_push.wires import NO_DESCRIPTOR

__all__ = [
    "Accept",
    "Opening",
    "PushWebSocketFactory",
    "WebSocketEndpoint",
    "announces_binary",
]

CLOSE_TIMEOUT = 5.0
"""Seconds that a peer has for answering a close frame."""

FAILED_TIMEOUT = 0.5
"""Seconds that a peer which broke the protocol has for reading why it is closed."""

Accept = Callable[[Node, ITransport], Receiver]
"""Makes the session of a new connection."""

_CLOSE = b"\x88"


@frozen
class Opening:
    """How a request that was let in becomes a WebSocket: ``accept`` makes its receiver.

    ``compress`` is whether it may be one that compresses its messages.
    """

    entry: Entry
    accept: Accept
    compress: bool = False

    def offer(self, extensions: str) -> str:
        """Give the offer of the header with the client's extensions that is taken, if any is."""
        return taken_offer(extensions) if self.compress else ""


def announces_binary(protocols: Iterable[str]) -> bool:
    """Tell whether a client that asks for these subprotocols sends binary messages."""
    return "centrifuge-protobuf" in protocols


@implementer(ITransport)
class PushWebSocket(WebSocketServerProtocol):
    """One browser's WebSocket: an adapter without rules."""

    factory: Any  # a `PushWebSocketFactory`
    transport: Any
    accept: Accept
    descriptor = NO_DESCRIPTOR
    _ping: bytes | None = None
    """The last ping that came while nothing could be sent: the one that is answered."""
    _closing = False
    """Whether nothing is to be sent any more."""

    # For an Autobahn that does not set these.
    data: Any = None
    failedByMe = False
    websocket_extensions_in_use: Any = ()

    def __init__(self) -> None:
        super().__init__()
        self.entry: Entry | None = None
        self._receiver: Receiver | None = None
        self._giving_up: IDelayedCall | None = None
        self._binary = False
        self._continued = False
        self._entered = False
        self._held: int | None = None

    @property
    def request(self) -> ClientRequest:
        """The opening request."""
        assert self.entry is not None
        return self.entry.request

    @property
    def compresses(self) -> bool:
        """Whether the peer takes compressed messages."""
        return bool(self.websocket_extensions_in_use)

    # --- Outward: `ITransport` ---------------------------------------------------------------

    def send(self, frame: Buffer) -> None:
        if not self._closing:
            self.transport.write(bytes(frame))
            if self._held is not None:
                self._held += len(frame)

    def unsent(self) -> int:
        return self._held or 0

    def close(self, disconnect: Disconnect) -> None:
        if self._closing:
            self.abort()
            return
        self._begin_to_close(CLOSE_TIMEOUT)
        self.sendClose(disconnect.code, disconnect.text)

    def abort(self) -> None:
        self.transport.abortConnection()

    def _begin_to_close(self, seconds: float) -> None:
        """Send nothing more; drop a peer that takes longer than that to go."""
        if self._giving_up is None:
            self._giving_up = self.factory.clock.callLater(seconds, self.abort)
        self._tell_closing()

    def _tell_closing(self) -> None:
        self._closing = True
        if self._receiver is not None:
            self._receiver.closing()

    # --- Inward: what Autobahn and the transport tell ----------------------------------------

    def onConnect(self, request: Any) -> None:
        """Agree on no subprotocol; notice one that announces binary messages."""
        self._binary = announces_binary(request.protocols)

    def onOpen(self) -> None:
        assert self.entry is not None
        self.factory.door.enter(self.entry)
        self._entered = True
        self.transport.registerProducer(self, True)
        self._receiver = self.accept(self.entry.node, self)
        del self.accept  # It may lead back here.
        if self._binary:
            self._receiver.received_binary(b"")

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        if self._receiver is None:
            return
        if isBinary:
            self._receiver.received_binary(payload)
        else:
            self._receiver.received(payload)

    def onPing(self, payload: bytes) -> None:
        """Answer a ping; of those that come while the socket's buffer is full, the last one."""
        if not self._allow_frame():
            return
        if self._held is None:
            super().onPing(payload)
        else:
            self._ping = payload

    def onPong(self, payload: bytes) -> None:
        self._allow_frame()

    def onMessageBegin(self, isBinary: bool) -> None:
        self._continued = False
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """Count the fragments of a message, which is itself counted when it is whole."""
        if self._continued:
            self._allow_frame()
        self._continued = True
        super().onMessageFrameBegin(length)

    def _allow_frame(self) -> bool:
        return self._receiver is not None and self._receiver.allow_frame()

    def pauseProducing(self) -> None:
        """The socket's buffer is full. Called again and again."""
        self._held = self._held or 0
        if self._receiver is not None:
            self._receiver.pause()

    def resumeProducing(self) -> None:
        """The socket's buffer is empty."""
        self._held = None
        if self._ping is not None:
            ping, self._ping = self._ping, None
            self.sendPong(ping)
        if self._receiver is not None and not self._closing and self._held is None:
            self._receiver.resume()

    def stopProducing(self) -> None:
        """The connection is going: `connectionLost` follows."""
        self._tell_closing()

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Begin to close, whoever wants it; a peer that does not answer is dropped in time."""
        if self.failedByMe and self.entry is not None:
            why = (reasonUtf8 or b"").decode("utf-8", "replace")
            self.entry.node.log_refusal(self.entry.request, code or 0, why)
        self._begin_to_close(FAILED_TIMEOUT if self.failedByMe else CLOSE_TIMEOUT)
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def dropConnection(self, abort: bool = False) -> None:
        """End the connection when all is sent, with our close frame as the last.

        Autobahn would drop what is queued if both sides close, or if the peer's close frame is at
        fault. Whoever reads nothing is dropped in time (`sendCloseFrame`).
        """
        super().dropConnection(abort=False)

    def processData(self) -> bool:
        """Read no more of a peer that broke the protocol, but for what may be its close frame.

        Autobahn would find a second fault in what follows, and drop the connection for it before
        the peer has read ours.
        """
        if self.failedByMe and self.data is not None:
            if _CLOSE in self.data:
                self.transport.unregisterProducer()  # One that is paused would be waited for.
                self.transport.loseConnection()
            self.data = b""
            return False
        going_on: bool = super().processData()
        return going_on

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.is_open = self.is_closed = None  # These lead back here.
        self.forget()
        self.transport.unregisterProducer()  # TLS would keep it, and with it this.

    def forget(self) -> None:
        """Free everything: the connection is gone."""
        self._closing = True
        call_off(self._giving_up)
        self._giving_up = None
        if self._entered and self.entry is not None:
            self._entered = False
            self.factory.door.leave(self.entry)
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost()


class PushWebSocketFactory(WebSocketServerFactory):
    """Makes WebSockets of requests, with limits set."""

    protocol: Any = PushWebSocket
    noisy = False

    def __init__(self, door: Door, clock: IReactorTime) -> None:
        super().__init__(reactor=clock)
        self.door = door
        self.clock = clock
        self.apply_limits()

    def upgrade(self, request: Request, opening: Opening) -> bytes | int:
        """Hand the connection of a request that was let in over to Autobahn."""
        channel = cast("GuardedChannel", request.channel)
        transport: Any = channel.transport
        if transport is not None:
            # twisted.web's channel stays the producer otherwise, and no other can be registered.
            transport.unregisterProducer()
        offer = opening.offer(header(request, "Sec-WebSocket-Extensions") or "")
        request.requestHeaders.setRawHeaders("Sec-WebSocket-Extensions", [offer])
        upgrade = _Upgrade(self, opening)
        result: bytes | int = WebSocketResource(upgrade).render(request)
        channel.heir = upgrade.protocol
        return result

    def apply_limits(self) -> None:
        """Take the limits of the configuration for the connections to come."""
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            utf8validateIncoming=True,
            requireMaskedClientFrames=True,
            maxMessagePayloadSize=self.door.config.limits.max_message_size,
            maxFramePayloadSize=self.door.config.limits.max_message_size,
            autoFragmentSize=0,
            failByDrop=False,
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            autoPingInterval=0,
            tcpNoDelay=True,
            allowNullOrigin=True,
            perMessageCompressionAccept=_agree,
        )


def _agree(offers: Sequence[PerMessageDeflateOffer]) -> PerMessageDeflateOfferAccept:
    """Take the one offer that there is (`taken_offer`).

    Neither side is to remember earlier messages: that takes memory.
    """
    [offer] = offers
    return PerMessageDeflateOfferAccept(
        offer, request_no_context_takeover=True, no_context_takeover=True
    )


class WebSocketEndpoint(Resource):
    """The address to which browsers connect: `/connection/websocket`.

    Origin, Host and headers are read from twisted.web's request, which does not split them
    where Autobahn would.
    """

    isLeaf = True

    def __init__(
        self, door: Door, accept: Accept, clock: IReactorTime, *, compress: bool = False
    ) -> None:
        super().__init__()
        self._door = door
        self._accept = accept
        self._compress = compress
        self._factory = PushWebSocketFactory(door, clock)

    def apply_limits(self) -> None:
        """Take changed limits."""
        self._factory.apply_limits()

    def render(self, request: Request) -> bytes | int:
        upgrade = request.getHeader(b"upgrade") or b""
        if request.method != b"GET" or upgrade.lower() != b"websocket":
            request.setHeader(b"Upgrade", b"websocket")
            return answer(request, 426, b"This address speaks WebSocket only.\n")
        try:
            entry = self._door.admit(request, "websocket")
        except Turned as turned:
            if turned.status in (429, 503):
                request.setHeader(b"Retry-After", b"5")
            return answer(request, turned.status, turned.reason.encode("ascii") + b"\n")
        return self._factory.upgrade(request, Opening(entry, self._accept, self._compress))

    def opening(self, head: Head) -> Opening | None:
        """Give how a request that asks for a WebSocket is let in; None if it is not."""
        entry = self._door.look(head, "websocket")
        return Opening(entry, self._accept, self._compress) if entry is not None else None


class _Upgrade:
    """Stands in for the factory for one request, whose entry its protocol is given."""

    def __init__(self, factory: PushWebSocketFactory, opening: Opening) -> None:
        self.protocol: PushWebSocket | None = None
        self._factory = factory
        self._opening = opening

    def buildProtocol(self, address: IAddress) -> PushWebSocket:
        self.protocol = protocol = cast("PushWebSocket", self._factory.buildProtocol(address))
        protocol.entry = self._opening.entry
        protocol.accept = self._opening.accept
        return protocol
