"""The requests of Engine.IO: what is answered, what is refused, and with which code.

Source: the Engine.IO protocol; bytes captured between Drupal's pages and the original server.
"""

from __future__ import annotations

from io import BytesIO
from typing import cast

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_push.errors import ProtocolError
from twisted_push.interfaces import ITransport, Receiver
from twisted_push.protocols.engineio import decode_payload, error_body
from twisted_push.transports.door import Door, Entry, Turned
from twisted_push.transports.engineio.connection import (
    POLLING,
    WEBSOCKET,
    AcceptEngineIo,
    Connection,
    Connections,
)
from twisted_push.transports.engineio.sockets import Carrier, Probe
from twisted_push.transports.head import Head
from twisted_push.transports.websocket import Opening, PushWebSocketFactory
from twisted_push.web import GuardedRequest, answer, header

__all__ = ["AcceptEngineIo", "EngineIoEndpoint"]

_VERSIONS = {"3": 3, "4": 4}
_TRANSPORT_UNKNOWN, _SID_UNKNOWN, _BAD_METHOD, _BAD_REQUEST, _FORBIDDEN, _BAD_VERSION = range(6)


@frozen
class _Bad(Exception):
    """A request that is refused with status 400 and this code."""

    code: int


@frozen
class _Asked:
    """What a request asks for in its query."""

    version: int
    websocket: bool
    sid: str


class EngineIoEndpoint(Resource):
    """The address to which Engine.IO clients connect: `/socket.io`.

    The door looks at every request. Only those that begin a connection need room.
    """

    isLeaf = True

    def __init__(self, door: Door, accept: AcceptEngineIo, clock: IReactorTime) -> None:
        super().__init__()
        self._door = door
        self._accept = accept
        self._clock = clock
        self._factory = PushWebSocketFactory(door, clock)
        self._connections: Connections = {}

    def apply_limits(self) -> None:
        """Take changed limits."""
        self._factory.apply_limits()

    def render(self, request: Request) -> bytes | int:
        self._allow_page(request)
        try:
            entry = self._let_in(request)
            if request.method == b"OPTIONS":
                return _preflight(request)
            asked = _read_query(request)
            go_on = self._go_on if asked.sid else self._begin
            return go_on(request, entry, asked)
        except Turned as turned:
            if turned.status in (429, 503):
                request.setHeader(b"Retry-After", b"5")
            code = _FORBIDDEN if turned.status == 403 else _BAD_REQUEST
            return _refused(request, turned.status, code)
        except _Bad as bad:
            return _refused(request, 400, bad.code)

    def opening(self, head: Head) -> Opening | None:
        """Give how a request that asks for a WebSocket is let in; None if it is not."""
        try:
            asked = _read_query(head)
            entry = self._door.look(head, WEBSOCKET, new=not asked.sid)
            return self._opening(entry, asked) if entry is not None else None
        except _Bad:
            return None

    def _allow_page(self, request: Request) -> None:
        """Let the page that asks read the answer, if its origin may connect."""
        request.setHeader(b"Vary", b"Origin")
        origin = self._door.allowed_origin(request)
        if origin is not None:
            request.setHeader(b"Access-Control-Allow-Origin", origin.encode("latin-1"))
            request.setHeader(b"Access-Control-Allow-Credentials", b"true")

    def _let_in(self, request: Request) -> Entry:
        name = WEBSOCKET if _argument(request, b"transport") == "websocket" else POLLING
        if request.method == b"GET" and not _argument(request, b"sid"):
            return self._door.admit(request, name)
        return self._door.readmit(request, name)

    # --- A new connection --------------------------------------------------------------------

    def _begin(self, request: Request, entry: Entry, asked: _Asked) -> bytes | int:
        if request.method != b"GET":
            raise _Bad(_BAD_METHOD)
        if asked.websocket:
            return self._factory.upgrade(request, self._opening(entry, asked))
        self._open(entry, asked.version).poll(request)
        return NOT_DONE_YET

    def _opening(self, entry: Entry, asked: _Asked) -> Opening:
        """Give how a WebSocket begins a connection, or is tried for one. Raises `_Bad`."""
        if not asked.sid:
            return Opening(entry, lambda _, socket: self._begin_on(socket, entry, asked.version))
        connection = self._find(entry, asked)
        if not connection.upgradable:
            raise _Bad(_BAD_REQUEST)
        return Opening(entry, lambda _, socket: Probe(connection, socket, self._clock))

    def _begin_on(self, socket: ITransport, entry: Entry, version: int) -> Receiver:
        return Carrier(self._open(entry, version, socket))

    def _open(self, entry: Entry, version: int, socket: ITransport | None = None) -> Connection:
        connection = Connection(
            entry,
            version,
            connections=self._connections,
            door=self._door,
            clock=self._clock,
            socket=socket,
        )
        connection.open(self._accept)
        return connection

    # --- One that is known -------------------------------------------------------------------

    def _find(self, entry: Entry, asked: _Asked) -> Connection:
        """Give the connection that a request is for. Raises `_Bad`."""
        connection = self._connections.get((entry.node, asked.sid))
        if connection is None:
            raise _Bad(_SID_UNKNOWN)
        if asked.version != connection.version or connection.upgraded:
            raise _Bad(_BAD_REQUEST)
        return connection

    def _go_on(self, request: Request, entry: Entry, asked: _Asked) -> bytes | int:
        if asked.websocket:
            return self._factory.upgrade(request, self._opening(entry, asked))
        connection = self._find(entry, asked)
        if request.method == b"GET":
            return self._poll(request, connection)
        if request.method == b"POST":
            return self._post(request, connection)
        raise _Bad(_BAD_REQUEST)

    def _poll(self, request: Request, connection: Connection) -> int:
        if connection.polled:
            # The client is to come back: what sent the same request twice may have been a proxy.
            connection.refuse("two polls at once", 3011)
            raise _Bad(_BAD_REQUEST)
        connection.poll(request)
        return NOT_DONE_YET

    def _post(self, request: Request, connection: Connection) -> bytes:
        body = cast("BytesIO", request.content).read()
        too_large = cast("GuardedRequest", request).too_large
        if too_large or len(body) > self._door.config.limits.max_message_size:
            connection.refuse("too large a payload")
            return _refused(request, 413, _BAD_REQUEST)
        content_type = (header(request, "Content-Type") or "").partition(";")[0]
        binary = content_type.strip().lower() == "application/octet-stream"
        try:
            packets = decode_payload(body, connection.version, binary=binary)
        except ProtocolError as error:
            connection.refuse(f"bad request: {error}")
            raise _Bad(_BAD_REQUEST) from None
        for packet in packets:
            connection.take(packet)
        return answer(request, 200, b"ok", "text/html")


def _read_query(request: Request | Head) -> _Asked:
    """Read what a request asks for. Raises `_Bad`."""
    transport = _argument(request, b"transport")
    if transport not in ("polling", "websocket"):
        raise _Bad(_TRANSPORT_UNKNOWN)
    version = _VERSIONS.get(_argument(request, b"EIO"))
    if version is None:
        raise _Bad(_BAD_VERSION)
    websocket = transport == "websocket"
    upgrade = (header(request, "Upgrade") or "").lower() == "websocket"
    if websocket != upgrade or b"j" in request.args:
        # An answer as a script (JSONP) could be read by pages of every origin.
        raise _Bad(_BAD_REQUEST)
    return _Asked(version, websocket, _argument(request, b"sid"))


def _argument(request: Request | Head, name: bytes) -> str:
    """Give a value of the query, the first of its name; empty if there is none."""
    values: list[bytes] = request.args.get(name, [b""])
    return values[0].decode("latin-1")


def _preflight(request: Request) -> bytes:
    """Say what a page of an allowed origin may send."""
    request.setResponseCode(204)
    request.setHeader(b"Access-Control-Allow-Methods", b"GET, POST")
    request.setHeader(b"Access-Control-Allow-Headers", b"Content-Type")
    request.setHeader(b"Cache-Control", b"no-store")
    return b""


def _refused(request: Request, status: int, code: int) -> bytes:
    return answer(request, status, error_body(code), "application/json")
