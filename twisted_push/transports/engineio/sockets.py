"""WebSockets that carry Engine.IO, or are to carry it: what they receive."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_push.errors import Disconnect, ProtocolError
from twisted_push.interfaces import ITransport
from twisted_push.protocols.engineio import (
    Packet,
    PacketType,
    decode_binary,
    decode_text,
    encode_packet,
)
from twisted_push.transports.engineio.connection import Connection
from twisted_push.transports.engineio.frames import PROBED_FRAME
from twisted_push.transports.timers import call_off

__all__ = ["Carrier", "Probe"]

PROBE_TIMEOUT = 10.0
"""Seconds in which a WebSocket must be probed and taken, from its opening."""

_PROBE = encode_packet(Packet(PacketType.PING, b"probe"))
_UPGRADE = encode_packet(Packet(PacketType.UPGRADE))


class Carrier:
    """Receives (`Receiver`) for a connection that a WebSocket carries."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def received(self, payload: bytes) -> None:
        """Take a packet that is text."""
        try:
            packet = decode_text(payload)
        except ProtocolError as error:
            self._connection.refuse(f"bad request: {error}")
        else:
            self._connection.take(packet)

    def received_binary(self, payload: bytes) -> None:
        """Take one that is binary."""
        try:
            packet = decode_binary(payload, self._connection.version)
        except ProtocolError as error:
            self._connection.refuse(f"bad request: {error}")
        else:
            self._connection.take(packet)

    def allow_frame(self) -> bool:
        return self._connection.session.allow_frame()

    def alive(self) -> None:
        self._connection.session.alive()

    def pause(self) -> None:
        self._connection.session.pause()

    def resume(self) -> None:
        self._connection.session.resume()

    def closing(self) -> None:
        """Take no notice: nothing is written past this connection."""

    def lost(self) -> None:
        self._connection.end()


class Probe:
    """Receives for a WebSocket that is tried while its client polls.

    ``2probe`` is answered, ``5`` makes it the carrier; anything else, or too long a silence,
    closes it, and the client polls on. No other is tried before it is gone: one client has no
    more than one.
    """

    def __init__(self, connection: Connection, socket: ITransport, clock: IReactorTime) -> None:
        self.answered = False
        self._connection = connection
        self._socket = socket
        self._carrier: Carrier | None = None
        self._full = False
        self._closing = False
        self._giving_up: IDelayedCall | None = clock.callLater(PROBE_TIMEOUT, self._fail)
        connection.begin_upgrade(self)

    def received(self, payload: bytes) -> None:
        """Take a message: before the upgrade one of the two, then a packet."""
        if self._carrier is not None:
            self._carrier.received(payload)
        elif self._closing:
            return
        elif payload == _PROBE and not self.answered:
            self.answered = True
            self._socket.send(PROBED_FRAME)
            self._connection.release()
        elif payload == _UPGRADE and self.answered:
            self._stop_timer()
            self._carrier = Carrier(self._connection)
            self._connection.finish_upgrade(self._socket, full=self._full)
        else:
            self._fail()

    def received_binary(self, payload: bytes) -> None:
        """Take a binary message, which is none of the two."""
        if self._carrier is not None:
            self._carrier.received_binary(payload)
        else:
            self._fail()

    def allow_frame(self) -> bool:
        return self._connection.session.allow_frame()

    def alive(self) -> None:
        self._connection.session.alive()

    def pause(self) -> None:
        self._full = True
        if self._carrier is not None:
            self._carrier.pause()

    def resume(self) -> None:
        self._full = False
        if self._carrier is not None:
            self._carrier.resume()

    def closing(self) -> None:
        """Take no notice, either."""

    def lost(self) -> None:
        """The WebSocket is gone; that of a client that still polls is no loss."""
        if self._carrier is not None:
            self._carrier.lost()
            return
        self._stop_timer()
        self._connection.end_upgrade(self)

    def end(self) -> None:
        """Close it: its client is gone."""
        self._close(Disconnect(1000))

    def _fail(self) -> None:
        self._close(Disconnect(3501))

    def _close(self, disconnect: Disconnect) -> None:
        """Close it, once; what it still sends is nothing."""
        if self._closing:
            return
        self._closing = True
        self.answered = False
        self._stop_timer()
        self._socket.close(disconnect)

    def _stop_timer(self) -> None:
        call_off(self._giving_up)
        self._giving_up = None
