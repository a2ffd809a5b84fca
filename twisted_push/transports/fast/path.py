"""The fast path of a server, for all its ports."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.tcp import Port

from twisted_push.transports.door import Door
from twisted_push.transports.fast.mux import Mux
from twisted_push.transports.fast.transport import DirectTransport
from twisted_push.transports.fast.websocket import LeanFactory
from twisted_push.transports.tree import Tree
from twisted_push.web import GuardedSite

__all__ = ["FastPath"]


class FastPath:
    """Serves what goes without twisted.web, at the ports that it was given."""

    def __init__(self, door: Door, clock: IReactorTime) -> None:
        self._clock = clock
        self._websockets = LeanFactory(door, clock)

    def apply_limits(self) -> None:
        """Take changed limits."""
        self._websockets.apply_limits()

    def take(self, port: Port, site: GuardedSite, tree: Tree) -> None:
        """Serve a port of plain TCP; ``site``, which it served, has ``tree`` for twisted.web."""
        port.transport = DirectTransport
        port.factory = Mux(site, tree, self._websockets, self._clock)
