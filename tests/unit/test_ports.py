"""How ports are set up, on real sockets."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    connectProtocol,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.tcp import Server

from tests.unit.cms.support import the_reactor
from twisted_push.config import Config, Limits
from twisted_push.transports.door import Door
from twisted_push.transports.fast.mux import Mux
from twisted_push.transports.fast.path import FastPath
from twisted_push.transports.fast.transport import DirectTransport
from twisted_push.transports.ports import FittedEndpoint
from twisted_push.transports.tree import Tree


class Keeping(Factory):
    """Keeps the first transport."""

    noisy = False

    def __init__(self) -> None:
        self.accepted: Deferred[Any] = Deferred()

    def buildProtocol(self, addr: object) -> Protocol:
        protocol = Protocol()
        protocol.connectionMade = lambda: self.accepted.callback(  # type: ignore[method-assign]
            protocol.transport
        )
        return protocol


class Other(Keeping):
    """Stands before another factory, as TLS does."""


class Wrapping:
    """An endpoint that puts a factory of its own before that which it is given."""

    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint
        self.other = Other()

    def listen(self, factory: object) -> Any:
        return self._endpoint.listen(self.other)


async def accept(endpoint: Any, factory: Keeping, limits: Limits, *, fast: bool = True) -> Any:
    """Listen and connect; give the transport and what ends it all."""
    path = FastPath(Door([], Config()), the_reactor())
    site: Any = factory
    take = partial(path.take, site=site, tree=Tree())
    fitted = FittedEndpoint(endpoint, limits, take if fast else None)
    port: Any = await fitted.listen(factory)
    host = port.getHost()
    client: Any
    if hasattr(host, "name"):
        client = UNIXClientEndpoint(the_reactor(), host.name)
    else:
        client = TCP4ClientEndpoint(the_reactor(), "127.0.0.1", host.port)
    peer = await connectProtocol(client, Protocol())
    peer.transport.write(b"?")  # The fast path waits for what it is.
    serving = getattr(endpoint, "other", factory)
    transport = await serving.accepted.addTimeout(10, the_reactor())

    async def end() -> None:
        gone: Deferred[None] = Deferred()
        transport.protocol.connectionLost = lambda reason: gone.callback(None)
        peer.transport.loseConnection()
        await gone.addTimeout(10, the_reactor())
        await port.stopListening()

    return transport, isinstance(port.factory, Mux), end


def tcp() -> Any:
    return TCP4ServerEndpoint(the_reactor(), 0, interface="127.0.0.1")


@pytest.mark.parametrize("fast", [True, False])
async def test_plain_tcp(fast: bool) -> None:
    limits = Limits(send_buffer=20000, unacknowledged_timeout=7.0)
    transport, muxed, end = await accept(tcp(), Keeping(), limits, fast=fast)
    sock = transport.getHandle()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 40000  # Linux doubles it.
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert muxed is fast
    assert type(transport) is (DirectTransport if fast else Server)
    await end()


async def test_ipv6() -> None:
    endpoint = TCP6ServerEndpoint(the_reactor(), 0, interface="::ffff:127.0.0.1")
    transport, muxed, end = await accept(endpoint, Keeping(), Limits())
    assert muxed
    assert transport.getPeer().host == "::ffff:127.0.0.1"
    await end()


async def test_bounds_that_no_socket_takes() -> None:
    limits = Limits(send_buffer=2**53, unacknowledged_timeout=1e9)
    transport, _, end = await accept(tcp(), Keeping(), limits)
    sock = transport.getHandle()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > 100000
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2**31 - 1
    await end()


async def test_what_stands_before_our_factory_keeps_its_transport() -> None:
    transport, muxed, end = await accept(Wrapping(tcp()), Keeping(), Limits())
    assert not muxed
    assert type(transport) is Server
    await end()


async def test_a_unix_socket(tmp_path: Any) -> None:
    endpoint = UNIXServerEndpoint(the_reactor(), str(tmp_path / "push"))
    transport, muxed, end = await accept(endpoint, Keeping(), Limits())
    assert not muxed
    assert not isinstance(transport, DirectTransport)
    await end()
