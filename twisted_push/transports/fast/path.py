"""The fast path of a server, for all its ports."""

from __future__ import annotations

from twisted.internet.interfaces import IProtocolFactory, IReactorTime
from twisted.internet.tcp import Port

from twisted_push.transports.door import Door
from twisted_push.transports.fast.mux import FindOpening, Mux
from twisted_push.transports.fast.transport import DirectTransport
from twisted_push.transports.fast.websocket import LeanFactory

__all__ = ["FastPath"]


class FastPath:
    """Makes the WebSockets of ports that it was given; ``find`` says who may have one."""

    def __init__(self, door: Door, find: FindOpening, clock: IReactorTime) -> None:
        self._find = find
        self._clock = clock
        self._websockets = LeanFactory(door, clock)

    def apply_limits(self) -> None:
        """Take changed limits."""
        self._websockets.apply_limits()

    def take(self, port: Port, site: IProtocolFactory) -> None:
        """Serve who connects to a port of plain TCP; ``site`` serves what is left."""
        port.transport = DirectTransport
        port.factory = Mux(site, self._find, self._websockets, self._clock)
