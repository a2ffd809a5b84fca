"""Ports that several servers have in common: the kernel spreads the connections over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.internet.tcp import makeBinding

__all__ = ["SharedPorts"]


class SharedPorts:
    """A reactor for the endpoints tcp, tcp6, ssl and tls, that listens with SO_REUSEPORT.

    Twisted has it as an option of the port that a reactor is given (`makeBinding`), and not as one
    of endpoints.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        """Give all else as it is."""
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, *arguments: Any, interface: str = "", **options: Any
    ) -> IListeningPort:
        """Listen on a port that others may listen on, too; raise CannotListenError."""
        listen = self._reactor.listenTCP
        return _listen(listen, port, *arguments, interface=interface, **options)

    def listenSSL(  # noqa: N802 (Twisted's name)
        self, port: int, *arguments: Any, interface: str = "", **options: Any
    ) -> IListeningPort:
        """Do the same with TLS."""
        listen = self._reactor.listenSSL
        return _listen(listen, port, *arguments, interface=interface, **options)


def _listen(
    listen: Callable[..., IListeningPort],
    port: int,
    *arguments: Any,
    interface: str,
    **options: Any,
) -> IListeningPort:
    shared = makeBinding(interface, port, reuseAddress=True, reusePort=True)
    return listen(shared, *arguments, interface=interface, **options)
