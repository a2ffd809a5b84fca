"""Tells whether the installed Twisted and Autobahn are what the fast path was made for.

It looks at what they keep and do, not at their version numbers: a new version that differs in
nothing that matters is as good as a known one.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import frozen
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import tcp
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_push.config import Config
from twisted_push.interfaces import ITransport
from twisted_push.model import ClientRequest
from twisted_push.transports.door import Entry
from twisted_push.transports.echo import EchoReceiver
from twisted_push.transports.fast.transport import DirectTransport
from twisted_push.transports.fast.websocket import LeanFactory, LeanWebSocket
from twisted_push.transports.head import read_head
from twisted_push.transports.websocket import Opening

__all__ = ["AUTOBAHN", "TWISTED", "open_theirs", "why_not", "wired"]

AUTOBAHN = frozenset(
    {
        # It calls these, which are overridden.
        *("onConnect", "onMessage", "onMessageBegin", "onMessageEnd", "onMessageFrameBegin"),
        *("onOpen", "onPing", "onPong"),
        *("dropConnection", "processData", "sendCloseFrame", "sendData"),
        # These are called, or read.
        *("_dataReceived", "_parseExtensionsHeader", "sendClose", "sendPong", "succeedHandshake"),
        *("CONFIG_ATTRS", "SEND_STATE_GROUND", "STATE_CLOSED", "STATE_CONNECTING", "STATE_OPEN"),
        *("_perMessageCompress", "_wskey", "current_frame", "data", "failedByMe"),
        *("inside_message", "maxMessagePayloadSize", "message_data", "message_is_binary", "state"),
        *("utf8validator", "websocket_extensions", "websocket_extensions_in_use"),
        *("is_closed", "is_open"),
    }
)
"""The names in Autobahn's `WebSocketServerProtocol` that the fast path leans on."""

TWISTED = frozenset(
    {
        *("abortConnection", "doRead", "doWrite", "fileno", "startReading", "startWriting"),
        *("write", "writeSequence"),
        *("_addressType", "_tempDataBuffer", "_tempDataLen", "client", "connected", "dataBuffer"),
        *("disconnecting", "offset", "producer", "producerPaused", "protocol", "reactor"),
        *("server", "socket", "streamingProducer"),
    }
)
"""The same in `tcp.Server`."""

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
_CLOSE = b"\x88\x82" + _MASK + b"\x03\xe8"
_FAULT = b"\x83\x80" + _MASK
_ECHO = rb"\x81\x03abc"
_TOLD_OFF = rb"\x88.\x03\xea[ -~]*"


@frozen
class _Conversation:
    """What a client says after a message, what it is answered, and what its receiver hears."""

    said: Sequence[bytes]
    answered: bytes
    heard: Sequence[str]


_CONVERSATIONS = (
    # A message in two frames with a ping and a pong between them, one in two pieces, the end.
    _Conversation(
        (
            b"\x01\x82" + _MASK + b"ab",
            b"\x89\x81" + _MASK + b"?\x8a\x80" + _MASK,
            b"\x80\x81" + _MASK + b"c" + _MESSAGE[:3],
            _MESSAGE[3:],
            _CLOSE,
        ),
        _ECHO + rb"\x8a\x01\?" + 2 * _ECHO + rb"\x88\x02\x03\xe8",
        ("abc", "a frame", "a frame", "a frame", "abc", "abc", "the end"),
    ),
    # A binary message, and two faults at once; the answer to that is waited for.
    _Conversation(
        (b"\x82\x81" + _MASK + b"!" + 2 * _FAULT, _MESSAGE, _CLOSE),
        _ECHO + rb"\x82\x01!" + _TOLD_OFF,
        ("abc", "!", "a refusal", "the end"),
    ),
    # A close frame that is at fault.
    _Conversation((_CLOSE[:-2] + b"\x03\xed",), _ECHO + _TOLD_OFF, ("abc", "a refusal", "the end")),
)

_MOST = 1 << 26
"""Bytes after which a socket that nobody reads is full."""


def why_not() -> str:
    """Say why there can be no fast path; empty if there can. What it raises is a reason, too."""
    checks = (_check_transport, _check_websocket, _check_sending, _check_conversations)
    return next(filter(None, (check() for check in checks)), "")


# --- What they keep --------------------------------------------------------------------------


def _check_transport() -> str:
    """Compare what a transport keeps."""
    if not hasattr(tcp.Port, "transport"):
        return "twisted has no transport of a port"
    with wired(tcp.Server) as (theirs, _), wired(DirectTransport) as (ours, _):
        kept = set(vars(theirs)) - _SHARED
        unknown = (name for name in kept if not hasattr(ours, name))
        return _lacking("twisted", theirs, TWISTED) or _say("twisted keeps", unknown)


def open_theirs() -> WebSocketServerProtocol:
    """Make one of Autobahn's WebSockets that is open and has received a message."""
    factory = WebSocketServerFactory(reactor=Clock())
    factory.setProtocolOptions(openHandshakeTimeout=0, allowNullOrigin=True)
    theirs = WebSocketServerProtocol()
    theirs.factory = factory
    with wired(DirectTransport) as (wire, _):
        wire.protocol = theirs
        theirs.makeConnection(wire)
        for data in (_REQUEST, _MESSAGE):
            theirs.dataReceived(data)
    return theirs


def _check_websocket() -> str:
    """Compare what such a WebSocket has and keeps."""
    theirs = open_theirs()
    elsewhere = _OPENING | _OBSERVERS | set(theirs.CONFIG_ATTRS)
    kept = {name: value for name, value in vars(theirs).items() if name not in elsewhere}
    unknown = (name for name in kept if not hasattr(LeanWebSocket, name))
    plain = (bool, int, str, type(None))
    changed = (
        name
        for name, value in kept.items()
        if isinstance(value, plain) and _default(name) not in (value, ...)
    )
    return (
        _lacking("autobahn", theirs, AUTOBAHN)
        or _say("autobahn keeps", unknown)
        or _say("autobahn keeps", changed)
    )


def _default(name: str) -> object:
    """Give what a `LeanWebSocket` has for an attribute; ``...`` if each has its own."""
    found = LeanWebSocket.__dict__.get(name, ...)
    return found if isinstance(found, bool | int | str | None) and name != "peer" else ...


def _lacking(whose: str, theirs: object, names: Iterable[str]) -> str:
    return _say(f"{whose} has no", (name for name in names if not hasattr(theirs, name)))


def _say(what: str, names: Iterable[str]) -> str:
    found = ", ".join(sorted(names))
    return f"{what} {found}" if found else ""


# --- What they do ----------------------------------------------------------------------------


def _check_sending() -> str:
    """Fill a connection, and see that all arrives, in order, and that the producer is told."""
    with wired(DirectTransport) as (wire, peer):
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


def _check_conversations() -> str:
    return next(filter(None, map(_converse, _CONVERSATIONS)), "")


def _converse(conversation: _Conversation) -> str:
    """Open a WebSocket, have it echo what is read on all ways, and close it."""
    door: Any = _Door()
    clock: Any = Clock()
    heard: list[str] = []
    node: Any = _Node(heard)
    entry = Entry(node, ClientRequest("websocket", "192.0.2.1"))
    opening = Opening(entry, lambda _, peer: _Receiver(peer, heard))
    with wired(DirectTransport) as (wire, peer):
        found = read_head(_REQUEST, wire.getPeer())
        if found is None or not found[0].opens:
            return "a request to open a WebSocket is not read"
        head, _ = found
        LeanFactory(door, clock).open(wire, head, _MESSAGE, opening)
        for data in conversation.said:
            if wire.disconnecting:
                return "autobahn closes too soon"
            peer.send(data)
            wire.doRead()
        answer, _, echoed = peer.recv(4096).partition(b"\r\n\r\n")
        expected = re.fullmatch(conversation.answered, echoed, re.DOTALL)
        if not answer.startswith(b"HTTP/1.1 101 ") or expected is None:
            return f"autobahn answers {echoed!r}"
        if tuple(heard) != conversation.heard:
            return f"autobahn tells {', '.join(heard)}"
        if wire.protocol._validator is not None:
            return "autobahn does not tell the end of a message"
        if not wire.disconnecting:
            return "autobahn does not close"
        if not clock.getDelayedCalls():
            return "autobahn waits for ever"
        wire.connectionLost(Failure(ConnectionDone()))
    return "a timer is left over" if clock.getDelayedCalls() else ""


class _Door:
    """Lets everybody in (`twisted_push.transports.door.Door`)."""

    config = Config()

    def enter(self, entry: Entry) -> None:
        """Count nobody."""

    leave = enter


class _Node:
    """Hears of refusals (`twisted_push.node.node.Node`)."""

    def __init__(self, heard: list[str]) -> None:
        self._heard = heard

    def log_refusal(self, request: ClientRequest, code: int, why: str) -> None:
        """Keep that there was one."""
        self._heard.append("a refusal")


class _Receiver(EchoReceiver):
    """Echoes, and keeps what it hears."""

    def __init__(self, transport: ITransport, heard: list[str]) -> None:
        super().__init__(transport)
        self._heard = heard

    def received(self, payload: bytes) -> None:
        self._heard.append(payload.decode())
        super().received(payload)

    def received_binary(self, payload: bytes) -> None:
        self._heard.append(payload.decode())
        super().received_binary(payload)

    def allow_frame(self) -> bool:
        self._heard.append("a frame")
        return True

    def closing(self) -> None:
        self._heard.append("the end")


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
def wired(kind: type[tcp.Server]) -> Iterator[tuple[Any, socket.socket]]:
    """Give a transport on a socket, and the peer's socket."""
    ours, peer = socket.socketpair()
    client: Any = ("192.0.2.1", 1)
    server: Any = None
    reactor: Any = _NoReactor()
    peer.setblocking(False)
    with ours, peer:
        yield kind(ours, Protocol(), client, server, 0, reactor), peer
