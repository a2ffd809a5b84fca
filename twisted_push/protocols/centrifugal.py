"""The native wire format: Centrifugal JSON, version 2.

Source: the client protocol's specification, sections 1 to 4. One message holds one or more JSON
objects with a line break between them::

    -> {"id": 1, "connect": {"token": "…"}}           a command
    <- {"id": 1, "connect": {"client": "…", …}}       its reply
    <- {"id": 2, "error": {"code": 103, "message": …}}
    <- {"push": {"channel": "…", "pub": {"data": …}}} a push
    <- {}                                             a ping
    -> {}                                             a pong

Fields that are empty, zero or false are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct
from zope.interface import implementer

from twisted_push.errors import Disconnect, ProtocolError, Refused
from twisted_push.interfaces import ICodec
from twisted_push.jsontext import JsonError, decoder, encode, one_line
from twisted_push.model import ClientInfo, Publication, StreamPosition
from twisted_push.protocols.centrifugal_shapes import (
    Anything,
    ChannelParams,
    ConnectParams,
    HistoryParams,
    PublishParams,
    Push,
    Pushed,
    RefreshParams,
    RefreshResult,
    RpcParams,
    SubscribeParams,
    info_shape,
    publication_text,
    subscribe_result,
)

__all__ = [
    "METHODS",
    "CentrifugalCodec",
    "Command",
    "error_reply",
    "read_commands",
    "reply",
]

MAX_COMMANDS = 1000
"""Most commands that one message may hold."""


METHODS: Mapping[str, type[Struct]] = {
    "connect": ConnectParams,
    "subscribe": SubscribeParams,
    "unsubscribe": ChannelParams,
    "publish": PublishParams,
    "presence": ChannelParams,
    "presence_stats": ChannelParams,
    "history": HistoryParams,
    "rpc": RpcParams,
    "send": RpcParams,
    "refresh": RefreshParams,
    "sub_refresh": RefreshParams,
    "ping": Anything,
}
"""The shape of each command's fields. Fields that are not named here are ignored."""

_read_params: Mapping[str, Callable[[bytes], Any]] = {
    method: decoder(shape, part=True) for method, shape in METHODS.items()
}
_read_object: Callable[[bytes], dict[str, Raw]] = decoder(dict[str, Raw])


class Command(Struct, frozen=True):
    """One command: ``params`` is None for a pong, an error where its fields do not fit."""

    id: int
    method: str
    params: Struct | Refused | None


def read_commands(message: bytes) -> list[Command]:
    """Read a client's message.

    Raises `ProtocolError` for what is no command at all. A command whose method is unknown or
    whose fields do not fit comes back with the refusal that answers it.
    """
    lines = message.split(b"\n", MAX_COMMANDS)
    if len(lines) > MAX_COMMANDS:
        raise ProtocolError("too many commands in one message")
    commands = [_read_command(line) for line in lines if line.strip()]
    if not commands:
        raise ProtocolError("an empty message")
    return commands


def _read_command(line: bytes) -> Command:
    try:
        fields = _read_object(line)
    except JsonError as error:
        raise ProtocolError(str(error)) from None
    if not fields:
        return Command(0, "", None)
    number = _read_id(fields)
    if len(fields) != 1:
        raise ProtocolError("a command has exactly one method")
    [(method, params)] = fields.items()
    read = _read_params.get(method)
    if number == 0 and method != "send":
        raise ProtocolError("a command without id")
    if read is None:
        return Command(number, "", Refused(104))
    try:
        return Command(number, method, read(params))
    except JsonError as error:
        return Command(number, method, Refused(107, f"bad request: {error}"))


def _read_id(fields: dict[str, Raw]) -> int:
    """Take out the id: a positive integer of at most 32 bits, 0 for none."""
    raw = bytes(fields.pop("id", b"0"))
    if not raw.isdigit() or len(raw) > 10 or int(raw) >= 2**32:
        raise ProtocolError("id is no positive integer")
    return int(raw)


def reply(command: Command, result: Struct | None = None) -> bytes:
    """Give the reply to a command; without a result an empty object."""
    body = b"{}" if result is None else encode(result)
    return b'{"id":%d,"%s":%s}' % (command.id, command.method.encode("ascii"), body)


def error_reply(command: Command, error: Refused) -> bytes:
    """Give the reply that refuses a command."""
    body: dict[str, Any] = {"code": error.code, "message": error.text}
    if error.temporary:
        body["temporary"] = True
    return b'{"id":%d,"error":%s}' % (command.id, encode(body))


@implementer(ICodec)
class CentrifugalCodec:
    """Encodes pushes for one framing: ``frame`` turns a message into a ready frame.

    ``tells_end`` is for transports that have no close code: a last push has it.
    """

    def __init__(self, frame: Callable[[bytes], bytes], *, tells_end: bool = False) -> None:
        self.frame = frame
        self._tells_end = tells_end
        self._ping = frame(b"{}")

    def _push(self, push: Push) -> bytes:
        return self.frame(msgspec.json.encode(Pushed(push)))

    def publication(self, publication: Publication) -> bytes:
        channel, text = encode(publication.channel), publication_text(publication)
        return self.frame(b'{"push":{"channel":%b,"pub":%b}}' % (channel, text))

    def joined(self, channel: str, info: ClientInfo) -> bytes:
        return self._push(Push(channel, join={"info": info_shape(info)}))

    def left(self, channel: str, info: ClientInfo) -> bytes:
        return self._push(Push(channel, leave={"info": info_shape(info)}))

    def subscribed(
        self,
        channel: str,
        position: StreamPosition | None,
        data: bytes | None,
        recoverable: bool = False,
    ) -> bytes:
        result = subscribe_result(position, data, recoverable)
        return self._push(Push(channel, subscribe=result))

    def unsubscribed(self, channel: str, code: int, reason: str) -> bytes:
        return self._push(Push(channel, unsubscribe={"code": code, "reason": reason}))

    def refreshed(self, ttl: int | None) -> bytes:
        return self._push(Push(refresh=RefreshResult(expires=ttl is not None, ttl=ttl or 0)))

    def message(self, data: bytes) -> bytes:
        return self._push(Push(message={"data": Raw(one_line(data))}))

    def ping(self) -> bytes:
        return self._ping

    def closing(self, disconnect: Disconnect) -> Sequence[bytes]:
        if not self._tells_end:
            return ()
        told = {"code": disconnect.code, "reason": disconnect.text}
        return (self._push(Push(disconnect=told)),)
