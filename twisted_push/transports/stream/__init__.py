"""Where WebSocket does not get through: an answer that does not end, or polls; and POSTs up.

Source: the client protocol's specification, section 5. ``endpoint`` has the requests that begin a
stream and ``connection`` is one client's transport; ``polls`` has both for clients that poll, which
is no part of that protocol. ``emulation`` takes what clients send later, and ``pages`` says which
pages may do so.
"""

from twisted_push.transports.stream.connection import AcceptStream, Connections
from twisted_push.transports.stream.emulation import EmulationEndpoint
from twisted_push.transports.stream.endpoint import HTTP_STREAM, SSE, StreamEndpoint
from twisted_push.transports.stream.frames import event_frame, line_frame
from twisted_push.transports.stream.polls import POLL, PollEndpoint

__all__ = [
    "HTTP_STREAM",
    "POLL",
    "SSE",
    "AcceptStream",
    "Connections",
    "EmulationEndpoint",
    "PollEndpoint",
    "StreamEndpoint",
    "event_frame",
    "line_frame",
]
