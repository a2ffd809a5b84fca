"""Socket.IO, protocol revisions 4 and 5: the packets within Engine.IO's messages.

Source: the Socket.IO protocol. Revision 4 goes with Engine.IO 3 (clients 1.x and 2.x), revision 5
with Engine.IO 4 (clients 3.x and 4.x). A packet is one piece of text::

    type [attachments "-"] ["/" namespace ","] [ack id] [JSON]

    2["message",{"a":1}]          an event
    20["authenticate",{…}]        an event that asks for an acknowledgement
    30[{"result":"success"}]      that acknowledgement
    0/admin?token=1,              connect to a namespace; clients 1.x leave out a last comma
    51-["f",{"_placeholder":true,"num":0}]     an event with one binary attachment

Arguments stay the JSON text that they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum

from attrs import frozen
from msgspec import UNSET, Raw, Struct, UnsetType, defstruct
from msgspec.structs import astuple

from twisted_push.errors import ProtocolError
from twisted_push.jsontext import JsonError, decoder, encode

__all__ = [
    "MAX_ARGUMENTS",
    "MAX_ATTACHMENTS",
    "MAX_ID_DIGITS",
    "MAX_NAMESPACE",
    "Event",
    "Packet",
    "PacketType",
    "ack",
    "connect",
    "connect_error",
    "decode",
    "disconnect",
    "event",
    "read_event",
]

MAX_ATTACHMENTS = 10
"""Most binary attachments that a packet may announce."""

MAX_NAMESPACE = 1024
"""Longest namespace with its query, in bytes."""

MAX_ID_DIGITS = 10
"""Most digits of an ack id."""

MAX_ARGUMENTS = 32
"""Most arguments of one event."""


class PacketType(IntEnum):
    """What a packet is for. ERROR is called CONNECT_ERROR in revision 5."""

    CONNECT = 0
    DISCONNECT = 1
    EVENT = 2
    ACK = 3
    ERROR = 4
    BINARY_EVENT = 5
    BINARY_ACK = 6


@frozen
class Packet:
    """One packet: ``data`` is JSON text of any shape, ``namespace`` is without its query."""

    type: PacketType
    namespace: str = "/"
    id: int | None = None
    data: bytes | None = None
    attachments: int = 0


@frozen
class Event:
    """A named event. Each of ``args`` is JSON text, byte for byte as it was sent."""

    name: str
    args: tuple[bytes, ...]


_HEAD = re.compile(
    rb"(?:(?P<plain>[0-4])|(?P<binary>[56])(?P<attachments>[0-9]{1,2})-)"
    rb"(?:(?P<namespace>/[^,]*),?)?(?P<id>[0-9]*)"
)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_check_json: Callable[[bytes], Raw] = decoder(Raw)
# A structure and no list: reading stops at the first argument too many.
_read_array: Callable[[bytes], Struct] = decoder(
    defstruct(
        "_Array",
        [
            ("name", str),
            *((f"arg{number}", Raw | UnsetType, UNSET) for number in range(MAX_ARGUMENTS)),
        ],
        array_like=True,
        forbid_unknown_fields=True,
    )
)


# --- From the client -------------------------------------------------------------------------


def decode(message: bytes) -> Packet:
    """Read the content of an Engine.IO message.

    The data is checked to be JSON; its shape is for who reads it. Raises `ProtocolError`.
    """
    head = _HEAD.match(message)
    if head is None:
        raise ProtocolError("no Socket.IO packet")
    attachments = int(head["attachments"] or 0)
    if attachments > MAX_ATTACHMENTS:
        raise ProtocolError("too many attachments")
    return Packet(
        PacketType(int(head["plain"] or head["binary"])),
        _read_namespace(head["namespace"] or b"/"),
        _read_id(head["id"]),
        _read_data(message[head.end() :]),
        attachments,
    )


def _read_namespace(text: bytes) -> str:
    if len(text) > MAX_NAMESPACE:
        raise ProtocolError("a namespace that is too long")
    if _CONTROL.search(text):
        raise ProtocolError("a namespace with control characters")
    try:
        return text.partition(b"?")[0].decode("utf-8")
    except UnicodeDecodeError:
        raise ProtocolError("a namespace that is not UTF-8") from None


def _read_id(digits: bytes) -> int | None:
    if len(digits) > MAX_ID_DIGITS:
        raise ProtocolError("an ack id that is too long")
    return int(digits) if digits else None


def _read_data(text: bytes) -> bytes | None:
    if not text:
        return None
    try:
        _check_json(text)
    except JsonError as error:
        raise ProtocolError(str(error)) from None
    return text


def read_event(packet: Packet) -> Event:
    """Read the event in a packet of type EVENT: an array that begins with the event's name.

    Raises `ProtocolError`, also for a packet of another type.
    """
    if packet.type is not PacketType.EVENT or packet.data is None:
        raise ProtocolError("no event")
    try:
        name, *args = astuple(_read_array(packet.data))
    except JsonError as error:
        raise ProtocolError(str(error)) from None
    return Event(name, tuple(bytes(arg) for arg in args if arg is not UNSET))


# --- To the client ---------------------------------------------------------------------------


def event(name: str, *args: bytes) -> bytes:
    """Give an event of the main namespace; each argument is JSON text."""
    return b"2" + _array(encode(name), *args)


def ack(id: int, *args: bytes) -> bytes:
    """Give the acknowledgement of the event with this id; each argument is JSON text."""
    return b"3%d%s" % (id, _array(*args))


def connect(revision: int, sid: str) -> bytes:
    """Tell that the main namespace is connected; only revision 5 says the socket's id."""
    return b"0" if revision == 4 else b"0" + encode({"sid": sid})


def connect_error(namespace: str, message: str, revision: int) -> bytes:
    """Refuse a namespace: with a text in revision 4, with an object in revision 5."""
    start = b"4" if namespace == "/" else b"4%s," % namespace.encode("utf-8")
    return start + encode(message if revision == 4 else {"message": message})


def disconnect() -> bytes:
    """Tell that the main namespace is disconnected, for good."""
    return b"1"


def _array(*elements: bytes) -> bytes:
    return b"[%s]" % b",".join(elements)
