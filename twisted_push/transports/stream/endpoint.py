"""The requests that begin a stream, with the client's first commands."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import cast

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from twisted_push.transports.door import Door, Entry
from twisted_push.transports.stream.connection import AcceptStream, Connections, StreamConnection
from twisted_push.transports.stream.pages import respond, turn_away
from twisted_push.web import GuardedRequest, header

__all__ = ["HTTP_STREAM", "SSE", "Kind", "StreamEndpoint"]


@frozen
class Kind:
    """A kind of stream. ``transport`` is how `ClientRequest.transport` says it.

    ``read`` gives the first commands, of at most so many bytes; it raises `Turned`.
    """

    transport: str
    method: bytes
    content_type: bytes
    read: Callable[[Request, Entry, int], bytes]


class StreamEndpoint(Resource):
    """The address of one kind of stream: `/connection/sse`, `/connection/http_stream`."""

    isLeaf = True

    def __init__(
        self,
        kind: Kind,
        door: Door,
        accept: AcceptStream,
        connections: Connections,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self._kind = kind
        self._door = door
        self._accept = accept
        self._connections = connections
        self._clock = clock

    def render(self, request: Request) -> bytes | int:
        return respond(request, self._door, self._kind.method, self._begin)

    def _begin(self, request: Request) -> int:
        entry = self._door.admit(request, self._kind.transport)
        _check_page(request, entry)
        commands = self._kind.read(request, entry, self._door.config.limits.max_message_size)
        self._set_headers(request)
        connection = StreamConnection(
            request, entry, connections=self._connections, door=self._door, clock=self._clock
        )
        connection.open(self._accept, commands)
        return NOT_DONE_YET

    def _set_headers(self, request: Request) -> None:
        """Set those of the answer, which no proxy is to keep, to change or to hold back."""
        request.setHeader(b"Content-Type", self._kind.content_type)
        request.setHeader(b"Cache-Control", b"no-cache, no-store, no-transform")
        request.setHeader(b"Connection", b"close")
        request.setHeader(b"X-Accel-Buffering", b"no")
        request.setHeader(b"X-Content-Type-Options", b"nosniff")


def _check_page(request: Request, entry: Entry) -> None:
    """Raise `Turned` for a page of another site that has this address as an image, or the like.

    It could read nothing, but browsers send no Origin for it, and their visitors would seem to be
    here.
    """
    site = header(request, "Sec-Fetch-Site") or "none"
    if header(request, "Origin") is None and site not in ("none", "same-origin"):
        raise turn_away(entry, 403, "origin not allowed")


def _read_query(request: Request, entry: Entry, most: int) -> bytes:
    """Give the first commands of a GET. twisted.web takes no address of more than 16 KiB."""
    found: list[bytes] = request.args.get(b"cf_connect", [])
    if len(found) != 1 or not found[0]:
        raise turn_away(entry, 400, "no first commands")
    if len(found[0]) > most:
        raise turn_away(entry, 414, "too large a message")
    return found[0]


def _read_body(request: Request, entry: Entry, most: int) -> bytes:
    """Give the first commands of a POST."""
    body = cast("BytesIO", request.content).read()
    if cast("GuardedRequest", request).too_large or len(body) > most:
        raise turn_away(entry, 413, "too large a message")
    if not body:
        raise turn_away(entry, 400, "no first commands")
    return body


SSE = Kind("sse", b"GET", b"text/event-stream", _read_query)
"""Server-sent events, which pages read with an EventSource."""

HTTP_STREAM = Kind("http_stream", b"POST", b"application/x-ndjson", _read_body)
"""Lines, which pages read with fetch."""
