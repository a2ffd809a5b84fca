"""What clients of streams send after their first commands: `/emulation`."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import cast

from msgspec import Struct
from twisted.web.resource import Resource
from twisted.web.server import Request

from twisted_push.jsontext import JsonError, decoder
from twisted_push.transports.door import Door, Entry, Turned
from twisted_push.transports.stream.connection import Connections, Known, find, unknown_session
from twisted_push.transports.stream.pages import no_content, respond
from twisted_push.web import GuardedRequest

__all__ = ["EmulationEndpoint"]


class _Upload(Struct):
    """One message of a client: ``data`` is what would be a frame of a WebSocket."""

    session: str
    data: str
    node: str = ""


_read_upload: Callable[[bytes], _Upload] = decoder(_Upload)


class EmulationEndpoint(Resource):
    """Gives the messages of clients to their sessions.

    They may come on any connection, so the door looks at each. What is answered is sent by the
    stream.
    """

    isLeaf = True

    def __init__(self, door: Door, connections: Connections) -> None:
        super().__init__()
        self._door = door
        self._connections = connections

    def render(self, request: Request) -> bytes | int:
        return respond(request, self._door, b"POST", self._take)

    def _take(self, request: Request) -> bytes:
        entry = self._door.readmit(request, "emulation")
        upload = _read(request)
        session = self._find(entry, upload).session
        payload = upload.data.encode("utf-8")
        if len(payload) > self._door.config.limits.max_message_size:
            session.allow_frame()
            raise Turned(413, "too large a message")
        session.received(payload)
        return no_content(request)

    def _find(self, entry: Entry, upload: _Upload) -> Known:
        """Give the connection that a message is for, until it is gone. Raises `Turned`.

        A client whose stream ends reads in it why: it must not be told before that it is unknown.
        """
        found = find(self._connections, entry, upload.session, upload.node)
        if found is None:
            raise unknown_session(entry)
        return found


def _read(request: Request) -> _Upload:
    if cast("GuardedRequest", request).too_large:
        raise Turned(413, "too large a message")
    try:
        return _read_upload(cast("BytesIO", request.content).read())
    except JsonError:
        raise Turned(400, "not a message of a client") from None
