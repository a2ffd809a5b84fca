"""How ports are set up: what the kernel keeps for a client, and who serves it."""

from __future__ import annotations

import socket
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.tcp import Port
from zope.interface import implementer

from twisted_push.config import Limits

__all__ = ["FittedEndpoint"]

_MOST = 2**31 - 1
"""The largest number that a socket takes."""

Take = Callable[[Port], None]
"""Has a port of plain TCP served on the fast path."""


@implementer(IStreamServerEndpoint)
class FittedEndpoint:
    """An endpoint whose ports are set up before they accept anybody.

    Connections take over what is set for the socket that listens. A port of plain TCP is served
    on the fast path if there is one (``take``); there is none on others: see `fast`.
    """

    def __init__(self, endpoint: IStreamServerEndpoint, limits: Limits, take: Take | None) -> None:
        self._endpoint = endpoint
        self._limits = limits
        self._take = take

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen, and set up the port. Fails as the endpoint does."""
        listening: Deferred[IListeningPort] = self._endpoint.listen(protocolFactory)

        def fit(port: IListeningPort) -> IListeningPort:
            if isinstance(port, Port) and port.addressFamily != socket.AF_UNIX:
                self._fit(port, protocolFactory)
            return port

        return listening.addCallback(fit)

    def _fit(self, port: Port, factory: IProtocolFactory) -> None:
        _set_options(port.socket, self._limits)
        # TLS and HAProxy's protocol put a factory of their own before ours.
        if self._take is not None and type(port) is Port and port.factory is factory:
            self._take(port)


def _set_options(listener: socket.socket, limits: Limits) -> None:
    """Bound what the kernel keeps for a client, and for how long; have it send at once."""
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, min(limits.send_buffer, _MOST))
    if hasattr(socket, "TCP_USER_TIMEOUT") and limits.unacknowledged_timeout:
        milliseconds = min(round(limits.unacknowledged_timeout * 1000), _MOST)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
