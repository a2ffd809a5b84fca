"""WebSocket by Autobahn, opened and read on a short way, and small while it is idle.

Autobahn still answers the opening request, reads everything but whole, unfragmented text frames,
validates, answers pings, and carries out the closing handshake.
"""

from __future__ import annotations

from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.wamp.types import TransportDetails
from autobahn.websocket.protocol import TrafficStats
from autobahn.websocket.utf8validator import Utf8Validator
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from twisted_push.interfaces import Buffer, Receiver
from twisted_push.transports.fast.transport import DirectTransport
from twisted_push.transports.head import Head
from twisted_push.transports.websocket import (
    Opening,
    PushWebSocket,
    PushWebSocketFactory,
    announces_binary,
)

__all__ = ["LeanFactory", "LeanWebSocket"]

_TEXT = 0x81
"""The first byte of a text frame that is a whole message, uncompressed."""

_MASKED = 0x80
_OPEN: int = WebSocketServerProtocol.STATE_OPEN
_CLOSED: int = WebSocketServerProtocol.STATE_CLOSED
_number = int.from_bytes


class _Unheard:
    """Stands for the Deferreds ``is_open`` and ``is_closed``, for which nobody waits here."""

    def callback(self, result: object) -> None:
        """Tell nobody."""


class _Dropped:
    """An attribute that Autobahn sets in the opening handshake and does not read after it."""

    def __init__(self, value: Any = None) -> None:
        self._value = value

    def __get__(self, instance: object, owner: type) -> Any:
        return list(self._value) if isinstance(self._value, list) else self._value

    def __set__(self, instance: object, value: object) -> None:
        """Do not keep it."""


class LeanWebSocket(PushWebSocket):
    """A `PushWebSocket` on a `DirectTransport`, made by `open` when its request was read.

    What is private in Autobahn, by name in `check.AUTOBAHN`:

    - ``__init__``, ``connectionMade`` and ``_connectionMade``, which are not called, set the
      attributes below and no others: what changes while a connection lives has a slot, the rest
      is an attribute of the class, which the instance overrides when it closes;
    - the options are read from the protocol: ``CONFIG_ATTRS`` names them, and is empty here since
      `LeanFactory` sets them on the class;
    - ``succeedHandshake`` answers the request that ``_wskey`` and ``websocket_*`` describe, and
      calls `onOpen`; `sendData` is all that writes;
    - ``state``, ``current_frame``, ``inside_message`` and ``data`` tell whether it is between two
      messages; ``_dataReceived`` reads on from there;
    - ``_decompressor`` of what reads compressed messages is made anew for each (without context
      takeover), and kept until then: 40 KiB and more;
    - of ``connectionLost`` nothing is needed but the ``state``.
    """

    __slots__ = (
        "_binary",
        "_continued",
        "_entered",
        "_giving_up",
        "_held",
        "_isMessageCompressed",
        "_perMessageCompress",
        "_receiver",
        "_validator",
        "_wskey",
        "accept",
        "control_frame_data",
        "current_frame",
        "current_frame_masker",
        "data",
        "entry",
        "factory",
        "frame_data",
        "frame_length",
        "inside_message",
        "message_data",
        "message_data_total_length",
        "message_is_binary",
        "state",
        "transport",
        "utf8validateIncomingCurrentMessage",
        "utf8validateLast",
    )

    # Autobahn's own types are too narrow for some of these.
    CONFIG_ATTRS: Any = ()
    connected = 1
    peer = "a browser"
    is_open: Any = _Unheard()
    is_closed = is_open
    trackedTimings: Any = None
    trafficStats = TrafficStats()
    """One for all: nobody reads it."""
    send_state = WebSocketServerProtocol.SEND_STATE_GROUND
    send_queue: Any = ()
    triggered = False
    wasMaxFramePayloadSizeExceeded = wasMaxMessagePayloadSizeExceeded = False
    closedByMe = failedByMe = droppedByMe = wasClean = False
    wasNotCleanReason: Any = None
    wasServerConnectionDropTimeout = wasOpenHandshakeTimeout = wasCloseHandshakeTimeout = False
    wasServingFlashSocketPolicyFile = False
    localCloseCode = localCloseReason = remoteCloseCode = remoteCloseReason = None
    openHandshakeTimeoutCall = closeHandshakeTimeoutCall = None
    autoPingTimeoutCall = autoPingPending = autoPingPendingCall = autoPingPendingSent = None
    autoPingPendingSeq = 0
    websocket_version = 13
    websocket_protocols: Any = ()
    websocket_extensions: Any = ()
    _transport_details = TransportDetails(is_secure=False)
    http_response_data: Any = _Dropped()
    websocket_protocol_in_use: Any = _Dropped()
    websocket_extensions_in_use: Any = _Dropped([])

    transport: DirectTransport
    current_frame: Any
    data: bytes
    message_data: Any
    state: int
    _perMessageCompress: Any
    _receiver: Receiver | None
    _validator: Any
    _wskey: str
    maxMessagePayloadSize: int  # `LeanFactory` sets it, with all options, on the class.

    def __init__(self, factory: LeanFactory, transport: DirectTransport, opening: Opening) -> None:
        self.factory = factory
        self.transport = transport
        self.entry = opening.entry
        self.accept = opening.accept
        self.state = WebSocketServerProtocol.STATE_CONNECTING
        self.data = b""
        self.current_frame = self._perMessageCompress = self._validator = None
        self._receiver = self._giving_up = self._held = None
        self.inside_message = self._binary = self._continued = False
        self._entered = False

    @property
    def compresses(self) -> bool:
        return self._perMessageCompress is not None

    def open(self, head: Head, rest: bytes, offer: str) -> None:
        """Answer the opening request, take its ``offer``, if any, and read on with ``rest``."""
        if offer:
            self.websocket_extensions = self._parseExtensionsHeader(offer)
        self._binary = announces_binary(head.protocols)
        self._wskey = head.key
        self.data = rest
        self.succeedHandshake(None)
        self.__dict__.pop("websocket_extensions", None)
        del self._wskey

    # --- Outward -----------------------------------------------------------------------------

    def send(self, frame: Buffer) -> None:
        if self.state == _OPEN:
            self.transport.send_now(frame)

    @property
    def descriptor(self) -> int:  # type: ignore[override]  # Here there is one.
        """That of the socket, to which `DirectTransport.send_now` sends just the same."""
        return self.transport.socket.fileno()

    def unsent(self) -> int:
        return self.transport.unsent

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Write what Autobahn sends: the answer to the opening request, and control frames."""
        self.transport.send_now(data)

    # --- Inward ------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Read text frames that are there as a whole; leave the rest, if any, to Autobahn."""
        while (
            data
            and data[0] == _TEXT
            and self.state == _OPEN
            and self.current_frame is None
            and not (self.data or self.inside_message)
        ):
            end = self._read(data)
            if not end:
                break
            data = data[end:]
        if data:
            self._dataReceived(data)

    def _read(self, data: bytes) -> int:
        """Read one text frame, and give where it ends; 0 if that is not for this way.

        It is masked, of less than 64 KiB and of allowed size; its text is UTF-8 (`bytes.decode` is
        as strict as RFC 3629 wants it).
        """
        size = len(data)
        if size < 7:
            return 0
        length, start = data[1] - _MASKED, 6
        if length == 126:
            length, start = _number(data[2:4]), 8
            if length < 126:
                return 0
        elif not 0 < length < 126:
            return 0
        end = start + length
        if size < end or length > self.maxMessagePayloadSize:
            return 0
        mask = data[start - 4 : start] * ((length + 3) >> 2)
        unmasked = _number(data[start:end], "little") ^ _number(mask[:length], "little")
        payload = unmasked.to_bytes(length, "little")
        try:
            payload.decode()
        except UnicodeDecodeError:
            return 0
        self.onMessage(payload, False)
        return end

    @property
    def utf8validator(self) -> Any:  # type: ignore[override]  # Here it is made when it is read.
        """What Autobahn validates texts with, made for a message that it reads itself."""
        validator = self._validator
        if validator is None:
            validator = self._validator = Utf8Validator()
        return validator

    def onMessageEnd(self) -> None:
        """Take a message that Autobahn read, and forget what it was read with."""
        self._validator = None
        if self._perMessageCompress is not None:
            self._perMessageCompress._decompressor = None
        if not self.failedByMe:
            self.onMessage(b"".join(self.message_data), self.message_is_binary)
        self.message_data = None

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.state = _CLOSED
        self.forget()


class LeanFactory(PushWebSocketFactory):
    """Makes `LeanWebSocket`s, for all addresses."""

    _class: type[LeanWebSocket]

    def apply_limits(self) -> None:
        """Take the limits of the configuration, as attributes of a class of their own."""
        super().apply_limits()
        options: dict[str, Any] = {
            name: getattr(self, name) for name in WebSocketServerProtocol.CONFIG_ATTRS
        }
        accept_compression = "perMessageCompressionAccept"
        options[accept_compression] = staticmethod(options[accept_compression])
        self._class = type("LeanWebSocket", (LeanWebSocket,), {"__slots__": (), **options})

    def open(self, transport: DirectTransport, head: Head, rest: bytes, opening: Opening) -> None:
        """Give a transport over to a WebSocket, and answer the request that opens it."""
        socket = self._class(self, transport, opening)
        transport.protocol = socket
        socket.open(head, rest, opening.offer(head.extensions))
