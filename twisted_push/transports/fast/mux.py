"""One port for WebSocket and HTTP, without a request of twisted.web living on behind each socket.

What a client sends first tells which it is. Everything but a request for a WebSocket at a known
address, there in one piece and beyond doubt, goes to twisted.web as it came: that has the
deadlines, the limits and the words for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocolFactory, IReactorTime
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from twisted_push.transports.fast.transport import DirectTransport
from twisted_push.transports.fast.websocket import LeanFactory
from twisted_push.transports.head import Head, read_head
from twisted_push.transports.timers import call_off
from twisted_push.transports.websocket import Opening
from twisted_push.web import IDLE_TIMEOUT

__all__ = ["FindOpening", "Mux"]

FindOpening = Callable[[Head], Opening | None]
"""Gives how a request is let in as a WebSocket; None: twisted.web must see to it."""


class Mux(Factory):
    """Serves a port whose transports are `DirectTransport`s; ``site`` serves what is left."""

    noisy = False

    def __init__(
        self, site: IProtocolFactory, find: FindOpening, factory: LeanFactory, clock: IReactorTime
    ) -> None:
        self._site = site
        self._find = find
        self._factory = factory
        self.clock = clock

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _FirstWords(self)

    def doStop(self) -> None:
        """End with the port, which was told to serve ``site``."""
        self._site.doStop()

    def serve(self, transport: DirectTransport, data: bytes) -> None:
        """Give a connection over to whom it wants, with the first that it sent."""
        found = read_head(data, transport.getPeer())
        opening = self._find(found[0]) if found is not None else None
        if found is not None and opening is not None:
            head, rest = found
            self._factory.open(transport, head, rest, opening)
            return
        channel: Any = self._site.buildProtocol(transport.getPeer())
        transport.protocol = channel
        channel.makeConnection(transport)
        channel.dataReceived(data)


class _FirstWords(Protocol):
    """A connection that has not said anything yet."""

    __slots__ = ("_giving_up", "_mux", "connected", "transport")

    transport: Any

    def __init__(self, mux: Mux) -> None:
        self._mux = mux
        self._giving_up: IDelayedCall

    def connectionMade(self) -> None:
        abort = self.transport.abortConnection
        self._giving_up = self._mux.clock.callLater(IDLE_TIMEOUT, abort)

    def dataReceived(self, data: bytes) -> None:
        self._giving_up.cancel()
        self._mux.serve(self.transport, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        call_off(self._giving_up)
        del self._giving_up
