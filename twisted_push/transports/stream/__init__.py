"""Streams, where WebSocket does not get through: an answer that does not end, and POSTs up.

Source: the client protocol's specification, section 5. ``endpoint`` has the requests that begin a
stream and ``connection`` is one client's transport; ``emulation`` takes what clients send later,
and ``pages`` says which pages may do so.
"""

from twisted_push.transports.stream.connection import AcceptStream, Connections
from twisted_push.transports.stream.emulation import EmulationEndpoint
from twisted_push.transports.stream.endpoint import HTTP_STREAM, SSE, StreamEndpoint
from twisted_push.transports.stream.frames import event_frame, line_frame

__all__ = [
    "HTTP_STREAM",
    "SSE",
    "AcceptStream",
    "Connections",
    "EmulationEndpoint",
    "StreamEndpoint",
    "event_frame",
    "line_frame",
]
