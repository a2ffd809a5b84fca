"""Packets of Engine.IO as ready frames of WebSocket, which is how codecs make them."""

from __future__ import annotations

from twisted_push.protocols.engineio import Packet, PacketType, encode_packet
from twisted_push.transports.frames import text_frame

__all__ = ["CLOSE", "NOOP", "PING_FRAME", "PONG_FRAME", "PROBED_FRAME", "message_frame"]

CLOSE = encode_packet(Packet(PacketType.CLOSE))
"""Ends a session; the last packet of a payload of polling."""

NOOP = encode_packet(Packet(PacketType.NOOP))
"""Says nothing: it ends a poll."""

PING_FRAME = text_frame(encode_packet(Packet(PacketType.PING)))
"""The heartbeat of version 4, where the server sends them."""

PONG_FRAME = text_frame(encode_packet(Packet(PacketType.PONG)))
"""The answer to a heartbeat of version 3. It repeats no data, as the original server's."""

PROBED_FRAME = text_frame(encode_packet(Packet(PacketType.PONG, b"probe")))
"""The answer to the probe of a WebSocket that is to replace polling."""


def message_frame(packet: bytes) -> bytes:
    """Give the frame of a message: a packet of Socket.IO."""
    return text_frame(encode_packet(Packet(PacketType.MESSAGE, packet)))
