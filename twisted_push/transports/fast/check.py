"""Tells whether the installed Twisted and Autobahn are what the fast path was made for.

It looks at what they keep and do, not at their version numbers: a new version that differs in
nothing that matters is as good as a known one.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_push.config import Config
from twisted_push.model import ClientRequest
from twisted_push.transports.door import Entry
from twisted_push.transports.fast.transport import DirectTransport
from twisted_push.transports.fast.websocket import LeanFactory, LeanWebSocket
from twisted_push.transports.head import read_head
from twisted_push.transports.websocket import EchoReceiver, Opening

__all__ = ["why_not"]

_SHARED = frozenset({"logstr", "repstr", "sessionno", "hostname"})
"""What a `tcp.Server` keeps, and a `DirectTransport` need not."""

_OPENING = frozenset(
    {
        *("http_headers", "http_request_data", "http_request_host", "http_request_params"),
        *("http_request_path", "http_request_uri", "http_status_line", "websocket_origin"),
    }
)
"""What Autobahn keeps of an opening request, which it does not read here."""

_OBSERVERS = frozenset({"_results", "_valid_events"})
"""What it keeps for those who observe a WebSocket: there are none."""

_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: push.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_MASK = b"\x00\x00\x00\x00"
_MESSAGE = b"\x81\x83" + _MASK + b"abc"
_SAID = (
    b"\x01\x82" + _MASK + b"ab",
    b"\x89\x81" + _MASK + b"?",
    b"\x80\x81" + _MASK + b"c" + _MESSAGE[:3],
    _MESSAGE[3:],
    b"\x88\x82" + _MASK + b"\x03\xe8",
)
"""After that message: one in two frames with a ping between them, one in two pieces, the end."""

_ECHO = b"\x81\x03abc"
_ECHOED = _ECHO + b"\x8a\x01?" + 2 * _ECHO + b"\x88\x02\x03\xe8"


_MOST = 1 << 26
"""Bytes after which a socket that nobody reads is full."""


def why_not() -> str:
    """Say why there can be no fast path; empty if there can. What it raises is a reason, too."""
    checks = (_check_transport, _check_websocket, _check_sending, _check_conversation)
    return next(filter(None, (check() for check in checks)), "")


# --- What they keep --------------------------------------------------------------------------


def _check_transport() -> str:
    """Compare what a transport keeps."""
    with _wired(tcp.Server) as (theirs, _), _wired(DirectTransport) as (ours, _):
        kept = set(vars(theirs)) - _SHARED
        return _missing("twisted", (name for name in kept if not hasattr(ours, name)))


def _check_websocket() -> str:
    """Compare what a WebSocket keeps that is open and has received a message."""
    factory = WebSocketServerFactory(reactor=Clock())
    factory.setProtocolOptions(openHandshakeTimeout=0, allowNullOrigin=True)
    theirs = WebSocketServerProtocol()
    theirs.factory = factory
    with _wired(DirectTransport) as (wire, _):
        wire.protocol = theirs
        theirs.makeConnection(wire)
        for data in (_REQUEST, _MESSAGE):
            theirs.dataReceived(data)
    elsewhere = _OPENING | _OBSERVERS | set(theirs.CONFIG_ATTRS)
    kept = {name: value for name, value in vars(theirs).items() if name not in elsewhere}
    unknown = (name for name in kept if not hasattr(LeanWebSocket, name))
    plain = (bool, int, str, type(None))
    changed = (
        name
        for name, value in kept.items()
        if isinstance(value, plain) and _default(name) not in (value, ...)
    )
    return _missing("autobahn", unknown) or _missing("autobahn", changed)


def _default(name: str) -> object:
    """Give what a `LeanWebSocket` has for an attribute; ``...`` if each has its own."""
    found = LeanWebSocket.__dict__.get(name, ...)
    return found if isinstance(found, bool | int | str | None) and name != "peer" else ...


def _missing(whose: str, names: Iterable[str]) -> str:
    found = sorted(names)
    return f"{whose} keeps {', '.join(found)}" if found else ""


# --- What they do ----------------------------------------------------------------------------


def _check_sending() -> str:
    """Fill a connection, and see that all arrives, in order, and that the producer is told."""
    with _wired(DirectTransport) as (wire, peer):
        producer = _Producer()
        wire.registerProducer(producer, True)
        block = b"0123456789abcdef" * 4096
        sent = 0
        while not wire.unsent and sent < _MOST:
            wire.send_now(block)
            sent += len(block)
        wire.send_now(b"end")
        told = list(producer.told)
        got = bytearray()
        while len(got) < sent + 3:
            got += peer.recv(1 << 20)
            if wire.unsent and wire.doWrite() is not None:
                return "twisted loses a connection that is full"
        in_order = got.endswith(b"end") and got[:-3] == block * (sent // len(block))
        if not in_order or set(told) != {"pause"} or producer.told[-1] != "resume":
            return "twisted queues in another way"
        wire.loseConnection()
        wire.connectionLost(Failure(ConnectionDone()))
        return "twisted does not let go of a connection" if wire.fileno() != -1 else ""


def _check_conversation() -> str:
    """Open a WebSocket, have it echo what is read on both ways, and close it."""
    door: Any = _Door()
    clock: Any = Clock()
    node: Any = None
    entry = Entry(node, ClientRequest("websocket", "192.0.2.1"))
    opening = Opening(entry, lambda _, peer: EchoReceiver(peer))
    with _wired(DirectTransport) as (wire, peer):
        found = read_head(_REQUEST, wire.getPeer())
        if found is None:
            return "a request to open a WebSocket is not read"
        head, _ = found
        LeanFactory(door, clock).open(wire, head, _MESSAGE, opening)
        for data in _SAID:
            wire.protocol.dataReceived(data)
        answer, _, echoed = peer.recv(4096).partition(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 101 ") or echoed != _ECHOED:
            return f"autobahn answers {echoed!r}"
        if not wire.disconnecting:
            return "autobahn does not close"
        wire.connectionLost(Failure(ConnectionDone()))
    return "a timer is left over" if clock.getDelayedCalls() else ""


class _Door:
    """Lets everybody in (`twisted_push.transports.door.Door`)."""

    config = Config()

    def enter(self, entry: Entry) -> None:
        """Count nobody."""

    leave = enter


class _Producer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        """The connection is going."""


class _NoReactor:
    """Watches nothing."""

    def addReader(self, reader: object) -> None:
        """Watch nothing."""

    removeReader = addWriter = removeWriter = addReader


@contextmanager
def _wired(kind: type[tcp.Server]) -> Iterator[tuple[Any, socket.socket]]:
    """Give a transport on a socket, and the peer's socket."""
    ours, peer = socket.socketpair()
    client: Any = ("192.0.2.1", 1)
    server: Any = None
    reactor: Any = _NoReactor()
    peer.setblocking(False)
    with ours, peer:
        yield kind(ours, Protocol(), client, server, 0, reactor), peer
