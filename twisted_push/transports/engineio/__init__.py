"""Engine.IO, protocols 3 and 4: long polling, WebSocket, and the upgrade from one to the other.

``endpoint`` has the rules of its requests, ``connection`` is one client's transport whatever
carries it, ``polls`` and ``sockets`` are what may carry it.
"""

from twisted_push.transports.engineio.endpoint import AcceptEngineIo, EngineIoEndpoint
from twisted_push.transports.engineio.frames import PING_FRAME, message_frame

__all__ = ["PING_FRAME", "AcceptEngineIo", "EngineIoEndpoint", "message_frame"]
