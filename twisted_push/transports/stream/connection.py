"""One client of a stream: the transport of its session, until its connection is gone.

Facts of twisted.web that this leans on: a channel passes what its transport tells a producer on
to the producer of the request that is answered; it goes on reading meanwhile, keeps what it reads,
and deals with it as soon as the request is finished. So the request is never finished: the answer
is brought to its end here, and with it the connection, of whose end the request is told.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.server import Request
from zope.interface import implementer

from twisted_push.errors import Disconnect
from twisted_push.interfaces import Buffer, ITransport
from twisted_push.node.node import Node
from twisted_push.session import Session
from twisted_push.transports.door import Door, Entry, Turned
from twisted_push.transports.timers import call_off
from twisted_push.wires import NO_DESCRIPTOR

__all__ = [
    "AcceptStream",
    "Connections",
    "Known",
    "StreamConnection",
    "find",
    "place_of",
    "unknown_session",
]

CLOSE_TIMEOUT = 5.0
"""Seconds that a peer has for reading the end of its stream."""

AcceptStream = Callable[[Node, ITransport], Session]
"""Makes the session of a new connection."""


class Known(Protocol):
    """A connection that clients may send messages for: of a stream, or one that polls."""

    session: Session


Connections = dict[tuple[Node, bytes], Known]
"""Those that are not gone, by the node of their site and the digest of their session's secret."""

_LAST_CHUNK = b"0\r\n\r\n"


def _secret_digest(secret: str) -> bytes:
    """Give what a session's secret is looked up by.

    How long it takes to find that there is none says nothing of those that there are.
    """
    return sha256(secret.encode("utf-8")).digest()


def place_of(entry: Entry, session: Session) -> tuple[Node, bytes]:
    """Give where a connection stands among the others."""
    return entry.node, _secret_digest(session.secret)


def find(connections: Connections, entry: Entry, secret: str, node: str) -> Known | None:
    """Give the connection of the session with this secret, until it is gone.

    ``node`` is the id of the server that the client believes to ask; empty if it does not say.
    """
    if node not in ("", entry.node.context.uid):
        return None
    return connections.get((entry.node, _secret_digest(secret)))


def unknown_session(entry: Entry) -> Turned:
    """Give what is raised for a request for which no connection was found, counted."""
    entry.node.context.stats.refused["unknown session"] += 1
    return Turned(404, "unknown session")


@implementer(ITransport)
class StreamConnection:
    """The answer ``web`` to the request that began the stream.

    It stands in ``connections`` while its connection lasts, by its site's node and the digest of
    its session's secret: whoever knows that secret, sends for this client.
    """

    session: Session
    descriptor = NO_DESCRIPTOR

    def __init__(
        self, web: Request, entry: Entry, *, connections: Connections, door: Door, clock: Any
    ) -> None:
        self.request = entry.request
        self._web: Any = web
        self._entry = entry
        self._connections = connections
        self._door = door
        self._clock: IReactorTime = clock
        self._open = True
        self._gone = False
        self._held: int | None = None
        self._giving_up: IDelayedCall | None = None

    def open(self, accept: AcceptStream, commands: bytes) -> None:
        """Begin the answer, make the session and give it the first commands."""
        self.session = accept(self._entry.node, self)
        self._connections[place_of(self._entry, self.session)] = self
        self._door.enter(self._entry)
        self._web.notifyFinish().addBoth(self._lost)
        self._web.channel.dataReceived = self._drop
        self._web.registerProducer(self, True)
        self._web.write(b"")
        _lighten(self._web)
        self.session.received(commands)

    # --- Outward: `ITransport` ---------------------------------------------------------------

    def send(self, frame: Buffer) -> None:
        if self._open:
            self._web.write(bytes(frame))
            if self._held is not None:
                self._held += len(frame)

    def unsent(self) -> int:
        return self._held or 0

    def close(self, disconnect: Disconnect) -> None:
        if not self._open:
            return
        self._open = False
        if self._web.chunked:
            self._web.channel.write(_LAST_CHUNK)
        self._giving_up = self._clock.callLater(CLOSE_TIMEOUT, self.abort)
        self._web.channel.loseConnection()

    def abort(self) -> None:
        self._open = False
        if not self._gone:
            self._web.transport.abortConnection()

    # --- Inward: what the transport tells ----------------------------------------------------

    def pauseProducing(self) -> None:
        """The socket's buffer is full. Called again and again."""
        self._held = self._held or 0
        if self._open:
            self.session.pause()

    def resumeProducing(self) -> None:
        """The socket's buffer is empty."""
        self._held = None
        if self._open:
            self.session.resume()

    def stopProducing(self) -> None:
        """The connection is going: `_lost` follows."""

    def _drop(self, data: bytes) -> None:
        """Drop what comes behind the request, and count it.

        twisted.web would keep it, for a next request, and stop reading after a while: then nobody
        would take notice of a client that goes.
        """
        self.session.allow_frame()

    def _lost(self, reason: object) -> None:
        """Free everything: the connection is gone."""
        self._open = False
        self._gone = True
        call_off(self._giving_up)
        self._giving_up = None
        del self._web  # It knows its producer.
        del self._connections[place_of(self._entry, self.session)]
        self._door.leave(self._entry)
        self.session.lost()


def _lighten(web: Any) -> None:
    """Let go of what a request no longer needs.

    Above all of its address: that holds a token, and twisted.web would show it in its own errors.
    """
    web.uri = web.path
    web.args = {}
    web.received_cookies = {}
    web.requestHeaders = Headers()
    web.responseHeaders = Headers()
    web.content.seek(0)
    web.content.truncate()
