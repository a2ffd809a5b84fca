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

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from attrs import frozen
from msgspec import UNSET, Raw, Struct, UnsetType
from zope.interface import implementer

from twisted_push.errors import ProtocolError, Refused
from twisted_push.interfaces import ICodec
from twisted_push.jsontext import JsonError, decoder, encode, one_line
from twisted_push.model import ClientInfo, Publication, StreamPosition

__all__ = [
    "METHODS",
    "CentrifugalCodec",
    "ChannelParams",
    "Command",
    "ConnectParams",
    "ConnectResult",
    "Position",
    "PresenceResult",
    "PresenceStatsResult",
    "PublishParams",
    "RefreshParams",
    "RefreshResult",
    "RpcParams",
    "SubscribeParams",
    "SubscribeResult",
    "error_reply",
    "info_shape",
    "publication_shape",
    "raw",
    "read_commands",
    "reply",
    "subscribe_result",
]

MAX_COMMANDS = 1000
"""Most commands that one message may hold."""


class Position(Struct):
    """A position that a client brings for a channel of the server's choice."""

    recover: bool = False
    epoch: str = ""
    offset: int = 0


class ConnectParams(Struct):
    """``connect``: what the client presents."""

    token: str = ""
    data: Raw | UnsetType = UNSET
    subs: dict[str, Position] = {}
    name: str = ""
    version: str = ""


class SubscribeParams(Struct):
    """``subscribe``: the channel, and where the client left off."""

    channel: str
    token: str = ""
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    recoverable: bool = False


class ChannelParams(Struct):
    """``unsubscribe``, ``presence``, ``presence_stats``, ``history``."""

    channel: str


class PublishParams(Struct):
    """``publish``."""

    channel: str
    data: Raw


class RpcParams(Struct):
    """``rpc``."""

    method: str = ""
    data: Raw | UnsetType = UNSET


class RefreshParams(Struct):
    """``refresh``, and ``sub_refresh`` with a channel."""

    token: str = ""
    channel: str = ""


class _Anything(Struct):
    """A command without fields that matter."""


class InfoShape(Struct, omit_defaults=True):
    """ClientInfo on the wire."""

    user: str
    client: str
    conn_info: Raw | UnsetType = UNSET
    chan_info: Raw | UnsetType = UNSET


class PublicationShape(Struct, omit_defaults=True):
    """Publication on the wire."""

    data: Raw
    offset: int = 0
    info: InfoShape | UnsetType = UNSET
    tags: Mapping[str, str] | UnsetType = UNSET
    time: int = 0


class SubscribeResult(Struct, omit_defaults=True):
    """What a subscription begins with."""

    recoverable: bool = False
    positioned: bool = False
    epoch: str = ""
    offset: int = 0
    publications: list[PublicationShape] = []
    recovered: bool = False
    was_recovering: bool = False
    data: Raw | UnsetType = UNSET
    expires: bool = False
    ttl: int = 0


class ConnectResult(Struct, omit_defaults=True):
    """What a connection begins with; ``ping`` and ``ttl`` in seconds, ``time`` unix ms."""

    client: str
    version: str
    subs: dict[str, SubscribeResult] = {}
    data: Raw | UnsetType = UNSET
    expires: bool = False
    ttl: int = 0
    ping: int = 0
    pong: bool = False
    session: str = ""
    node: str = ""
    time: int = 0


class RefreshResult(Struct, omit_defaults=True):
    """A connection's or subscription's new end, ``ttl`` seconds from now."""

    client: str = ""
    version: str = ""
    expires: bool = False
    ttl: int = 0


class PresenceResult(Struct):
    """Who is in a channel, by client."""

    presence: dict[str, InfoShape]


class PresenceStatsResult(Struct):
    """How many are in a channel."""

    num_clients: int
    num_users: int


class _Push(Struct, omit_defaults=True):
    channel: str = ""
    pub: PublicationShape | UnsetType = UNSET
    join: dict[str, InfoShape] | UnsetType = UNSET
    leave: dict[str, InfoShape] | UnsetType = UNSET
    subscribe: SubscribeResult | UnsetType = UNSET
    unsubscribe: dict[str, Any] | UnsetType = UNSET
    refresh: RefreshResult | UnsetType = UNSET


class _Pushed(Struct):
    push: _Push


METHODS: Mapping[str, type[Struct]] = {
    "connect": ConnectParams,
    "subscribe": SubscribeParams,
    "unsubscribe": ChannelParams,
    "publish": PublishParams,
    "presence": ChannelParams,
    "presence_stats": ChannelParams,
    "history": ChannelParams,
    "rpc": RpcParams,
    "send": _Anything,
    "refresh": RefreshParams,
    "sub_refresh": RefreshParams,
    "ping": _Anything,
}
"""The shape of each command's fields. Fields that are not named here are ignored."""

_read_params: Mapping[str, Callable[[bytes], Any]] = {
    method: decoder(shape) for method, shape in METHODS.items()
}
_read_object: Callable[[bytes], dict[str, Raw]] = decoder(dict[str, Raw])


@frozen
class Command:
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
        return Command(number, method, read(bytes(params)))
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


def raw(text: bytes | None) -> Raw | UnsetType:
    """Give JSON text as a field that is left out where there is none."""
    return UNSET if text is None else Raw(one_line(text))


def info_shape(info: ClientInfo) -> InfoShape:
    """Give a ClientInfo as it goes over the wire."""
    return InfoShape(info.user, info.client, raw(info.conn_info), raw(info.chan_info))


def publication_shape(publication: Publication) -> PublicationShape:
    """Give a Publication as it goes over the wire; its time only where a stream keeps it."""
    position = publication.position
    return PublicationShape(
        data=Raw(one_line(publication.data)),
        offset=position.offset if position else 0,
        info=info_shape(publication.info) if publication.info else UNSET,
        tags=publication.tags or UNSET,
        time=publication.time if position else 0,
    )


@implementer(ICodec)
class CentrifugalCodec:
    """Encodes pushes for one framing: ``frame`` turns a message into a ready frame."""

    def __init__(self, frame: Callable[[bytes], bytes]) -> None:
        self.frame = frame
        self._ping = frame(b"{}")

    def _push(self, push: _Push) -> bytes:
        return self.frame(msgspec.json.encode(_Pushed(push)))

    def publication(self, publication: Publication) -> bytes:
        return self._push(_Push(publication.channel, pub=publication_shape(publication)))

    def joined(self, channel: str, info: ClientInfo) -> bytes:
        return self._push(_Push(channel, join={"info": info_shape(info)}))

    def left(self, channel: str, info: ClientInfo) -> bytes:
        return self._push(_Push(channel, leave={"info": info_shape(info)}))

    def subscribed(
        self,
        channel: str,
        position: StreamPosition | None,
        data: bytes | None,
        recoverable: bool = False,
    ) -> bytes:
        result = subscribe_result(position, data, recoverable)
        return self._push(_Push(channel, subscribe=result))

    def unsubscribed(self, channel: str, code: int, reason: str) -> bytes:
        return self._push(_Push(channel, unsubscribe={"code": code, "reason": reason}))

    def refreshed(self, ttl: int | None) -> bytes:
        return self._push(_Push(refresh=RefreshResult(expires=ttl is not None, ttl=ttl or 0)))

    def ping(self) -> bytes:
        return self._ping


def subscribe_result(
    position: StreamPosition | None, data: bytes | None, recoverable: bool = False
) -> SubscribeResult:
    """Give the beginning of a subscription that recovers nothing."""
    if position is None:
        return SubscribeResult(data=raw(data))
    return SubscribeResult(
        recoverable=recoverable,
        positioned=True,
        epoch=position.epoch,
        offset=position.offset,
        data=raw(data),
    )
