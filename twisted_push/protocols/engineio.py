r"""Engine.IO, protocol versions 3 and 4: packets, and the payloads of its polling.

Source: the Engine.IO protocol; bytes captured between Drupal's pages and the original server.
A packet is a digit for its type and the data::

    4hello                        a text packet: a WebSocket text message
    \x04\x01\x02                  a binary one in version 3: a WebSocket binary message
    \x01\x02                      a binary one in version 4: always a message

A payload is what one request or answer of polling carries::

    6:4hello2:40                  version 3: lengths in UTF-16 code units
    b4AQI=                        ... with a binary packet as an element in base64
    \x00\x06\xff4hello             ... or all in bytes: 0 text, 1 binary; decimal digits; 0xff
    4hello\x1e40\x1ebAQI=         version 4: separated by 0x1e

A payload with one fault is refused as a whole. Versions are 3 or 4; whoever calls has checked
that. Clients of Socket.IO 1.x encode text to UTF-8 twice when they poll; that is not undone.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from itertools import islice
from typing import Any

from attrs import frozen

from twisted_push.errors import ProtocolError
from twisted_push.jsontext import encode

__all__ = [
    "ERROR_MESSAGES",
    "MAX_LENGTH_DIGITS",
    "MAX_PACKETS",
    "Packet",
    "PacketType",
    "decode_binary",
    "decode_payload",
    "decode_text",
    "encode_packet",
    "encode_payload",
    "error_body",
    "open_packet",
]

MAX_PACKETS = 1000
"""Most packets that one payload may hold."""

MAX_LENGTH_DIGITS = 9
"""Most digits of a length in a payload of version 3. The first of them is never a zero."""

ERROR_MESSAGES = {
    0: "Transport unknown",
    1: "Session ID unknown",
    2: "Bad handshake method",
    3: "Bad request",
    4: "Forbidden",
    5: "Unsupported protocol version",
}
"""Why a request was refused, by the code that its answer gives."""


class PacketType(IntEnum):
    """What a packet is for."""

    OPEN = 0
    CLOSE = 1
    PING = 2
    PONG = 3
    MESSAGE = 4
    UPGRADE = 5
    NOOP = 6


_DIGITS = {b"%d" % number: number for number in PacketType}
_BYTES = {bytes([number]): number for number in PacketType}
_SEPARATOR = b"\x1e"
_MORE_DIGITS = b"{0,%d}" % (MAX_LENGTH_DIGITS - 1)
# In UTF-16, little-endian: each unit is two bytes.
_LENGTH = re.compile(rb"([1-9]\x00(?:[0-9]\x00)" + _MORE_DIGITS + rb"):\x00")
_BINARY_LENGTH = re.compile(rb"([\x00\x01])([\x01-\x09][\x00-\x09]" + _MORE_DIGITS + rb")\xff")
_TO_ASCII_DIGITS = bytes.maketrans(bytes(range(10)), b"0123456789")


@frozen
class Packet:
    """One packet. ``data`` of a text packet is UTF-8."""

    type: PacketType
    data: bytes = b""
    binary: bool = False


# --- Packets ---------------------------------------------------------------------------------


def encode_packet(packet: Packet) -> bytes:
    """Give a text packet as the text of both versions. The server sends no binary ones."""
    return b"%d%s" % (packet.type, packet.data)


def decode_text(message: bytes) -> Packet:
    """Read a WebSocket text message.

    Raises `ProtocolError`, also for base64 (``b…``): WebSocket has binary messages for that.
    """
    kind = _type_in(_DIGITS, message)
    try:
        message.decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("a text packet that is not UTF-8") from None
    return Packet(kind, message[1:])


def decode_binary(message: bytes, version: int) -> Packet:
    """Read a WebSocket binary message. Raises `ProtocolError`."""
    if version == 3:
        return Packet(_type_in(_BYTES, message), message[1:], binary=True)
    return Packet(PacketType.MESSAGE, message, binary=True)


def _type_in(types: Mapping[bytes, PacketType], packet: bytes) -> PacketType:
    kind = types.get(packet[:1])
    if kind is None:
        raise ProtocolError("a packet without a known type")
    return kind


# --- Payloads --------------------------------------------------------------------------------


def encode_payload(packets: Sequence[bytes], version: int) -> bytes:
    """Give encoded text packets, at least one, as the body of a polling answer.

    In version 4 no packet may hold the separator 0x1e; JSON text never does.
    """
    if version == 3:
        return b"".join(b"%d:%s" % (_utf16_length(packet), packet) for packet in packets)
    return _SEPARATOR.join(packets)


def decode_payload(body: bytes, version: int, *, binary: bool) -> list[Packet]:
    """Read the body of a polling request; ``binary`` for ``application/octet-stream``.

    Raises `ProtocolError`. The work and the memory are linear in the size of the body.
    """
    if version != 3 and binary:
        raise ProtocolError("only version 3 has binary payloads")
    if not body:
        raise ProtocolError("an empty payload")
    if version != 3:
        packets = _read_separated(body)
    elif binary:
        packets = _read_binary(body)
    else:
        packets = _read_text(body)
    result = list(islice(packets, MAX_PACKETS + 1))
    if len(result) > MAX_PACKETS:
        raise ProtocolError("too many packets in one payload")
    return result


def _utf16_length(text: bytes) -> int:
    """Count the UTF-16 code units of UTF-8 text: two for what lies beyond the basic plane."""
    return len(text) if text.isascii() else len(text.decode("utf-8").encode("utf-16-le")) // 2


def _read_text(body: bytes) -> Iterator[Packet]:
    """Read ``<length>:<packet>`` of version 3, as UTF-16 so that lengths are offsets."""
    try:
        units = body.decode("utf-8").encode("utf-16-le")
        start = 0
        while start < len(units):
            length = _LENGTH.match(units, start)
            if length is None:
                raise ProtocolError("a payload without a proper length")
            end = length.end() + 2 * int(length[1][::2])
            if end > len(units):
                raise ProtocolError("a payload shorter than its length")
            element = units[length.end() : end].decode("utf-16-le").encode("utf-8")
            yield _element(element, version=3)
            start = end
    except UnicodeDecodeError:
        # Either not UTF-8, or a length that ends within a surrogate pair.
        raise ProtocolError("a payload that is no text, or cut within a character") from None


def _read_binary(body: bytes) -> Iterator[Packet]:
    """Read the bytes of version 3; lengths count bytes."""
    start = 0
    while start < len(body):
        length = _BINARY_LENGTH.match(body, start)
        if length is None:
            raise ProtocolError("a payload without a proper length")
        end = length.end() + int(length[2].translate(_TO_ASCII_DIGITS))
        if end > len(body):
            raise ProtocolError("a payload shorter than its length")
        element = body[length.end() : end]
        yield decode_binary(element, 3) if length[1] == b"\x01" else _element(element, version=3)
        start = end


def _read_separated(body: bytes) -> Iterator[Packet]:
    """Read packets of version 4; what is beyond the limit stays in one piece."""
    return (_element(element, version=4) for element in body.split(_SEPARATOR, MAX_PACKETS))


def _element(element: bytes, version: int) -> Packet:
    """Read a packet out of a payload: text, or ``b`` and base64."""
    if not element.startswith(b"b"):
        return decode_text(element)
    if version == 3:
        return Packet(_type_in(_DIGITS, element[1:]), _base64(element[2:]), binary=True)
    return Packet(PacketType.MESSAGE, _base64(element[1:]), binary=True)


def _base64(text: bytes) -> bytes:
    """Decode base64 that is written in the one proper way, padding included."""
    try:
        data = binascii.a2b_base64(text)
    except binascii.Error:
        raise ProtocolError("a packet in bad base64") from None
    # The decoder passes over what is not of its alphabet, and over bits that do not count.
    if binascii.b2a_base64(data, newline=False) != text:
        raise ProtocolError("a packet in bad base64")
    return data


# --- What the server says --------------------------------------------------------------------


def open_packet(
    sid: str,
    *,
    upgrades: Sequence[str],
    ping_interval: float,
    ping_timeout: float,
    max_payload: int,
    version: int,
) -> bytes:
    """Give the packet that opens a session: times in seconds, ``max_payload`` in bytes.

    On the wire are milliseconds, and ``maxPayload`` in version 4 alone.
    """
    fields: dict[str, Any] = {
        "sid": sid,
        "upgrades": list(upgrades),
        "pingInterval": round(ping_interval * 1000),
        "pingTimeout": round(ping_timeout * 1000),
    }
    if version != 3:
        fields["maxPayload"] = max_payload
    return encode_packet(Packet(PacketType.OPEN, encode(fields)))


def error_body(code: int) -> bytes:
    """Give the body that refuses a request, with a code of `ERROR_MESSAGES`."""
    return encode({"code": code, "message": ERROR_MESSAGES[code]})
