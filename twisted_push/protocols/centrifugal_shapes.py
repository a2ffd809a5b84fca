"""What the messages of the native wire format hold, field by field.

Source: the client protocol's specification, sections 1 and 2. Fields that are empty, zero or false
are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from twisted_push.jsontext import encode, one_line
from twisted_push.model import ClientInfo, Publication, StreamPosition
from twisted_push.protocols.nodejs import tags_of

__all__ = [
    "REJECT_UNRECOVERED",
    "Anything",
    "ChannelParams",
    "ConnectParams",
    "ConnectResult",
    "HistoryParams",
    "HistoryResult",
    "InfoShape",
    "Position",
    "PresenceResult",
    "PresenceStatsResult",
    "PublicationShape",
    "PublishParams",
    "Push",
    "Pushed",
    "RefreshParams",
    "RefreshResult",
    "RpcParams",
    "RpcResult",
    "Since",
    "SubscribeParams",
    "SubscribeResult",
    "expiry",
    "info_shape",
    "publication_shape",
    "publication_text",
    "raw",
    "subscribe_result",
    "text_of",
]


REJECT_UNRECOVERED = 2
"""Bit of ``flag``: error 112 instead of a subscription that recovered nothing.

The client then loads the state of its page anew, and subscribes from there.
"""


class Position(Struct):
    """A position that a client brings for a channel of the server's choice."""

    recover: bool = False
    epoch: str = ""
    offset: int = 0


class ConnectParams(Struct):
    """``connect``: what the client presents.

    ``early`` is this server's own: a client that says so is sent a ping at once if the answer must
    wait for the CMS. So it knows that the transport lets something through.
    """

    token: str = ""
    data: Raw | UnsetType = UNSET
    subs: dict[str, Position] = {}
    name: str = ""
    version: str = ""
    early: bool = False


class SubscribeParams(Struct):
    """``subscribe``: the channel, and where the client left off.

    ``flag`` has bits by which newer clients say what they can do, or want (source: npm package
    ``centrifuge`` 5.8): see `REJECT_UNRECOVERED`. The bit 1 offers to take pushes with a number
    instead of the channel's name (compaction), once the server gives it one: this server does not.
    """

    channel: str
    token: str = ""
    data: Raw | UnsetType = UNSET
    recover: bool = False
    epoch: str = ""
    offset: int = 0
    positioned: bool = False
    recoverable: bool = False
    flag: int = 0


class ChannelParams(Struct):
    """``unsubscribe``, ``presence``, ``presence_stats``."""

    channel: str


class Since(Struct):
    """A position that a client asks from."""

    offset: int = 0
    epoch: str = ""


class HistoryParams(Struct):
    """``history``; ``limit`` 0: only the position, -1: all."""

    channel: str
    limit: Annotated[int, Meta(ge=-1)] = 0
    since: Since | None = None
    reverse: bool = False


class PublishParams(Struct):
    """``publish``."""

    channel: str
    data: Raw


class RpcParams(Struct):
    """``rpc``, and ``send`` without a method."""

    method: str = ""
    data: Raw | UnsetType = UNSET


class RefreshParams(Struct):
    """``refresh``, and ``sub_refresh`` with a channel."""

    token: str = ""
    channel: str = ""


class Anything(Struct):
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


class HistoryResult(Struct, omit_defaults=True):
    """What a channel keeps, and where it stands."""

    publications: list[PublicationShape] = []
    epoch: str = ""
    offset: int = 0


class RpcResult(Struct, omit_defaults=True):
    """What the CMS answered to a call."""

    data: Raw | UnsetType = UNSET


class PresenceResult(Struct):
    """Who is in a channel, by client."""

    presence: dict[str, InfoShape]


class PresenceStatsResult(Struct):
    """How many are in a channel."""

    num_clients: int
    num_users: int


class Push(Struct, omit_defaults=True):
    """One push: its channel, and one of the rest."""

    channel: str = ""
    join: dict[str, InfoShape] | UnsetType = UNSET
    leave: dict[str, InfoShape] | UnsetType = UNSET
    subscribe: SubscribeResult | UnsetType = UNSET
    unsubscribe: dict[str, Any] | UnsetType = UNSET
    disconnect: dict[str, Any] | UnsetType = UNSET
    refresh: RefreshResult | UnsetType = UNSET
    message: dict[str, Raw] | UnsetType = UNSET


class Pushed(Struct):
    """A push as it goes over the wire."""

    push: Push


def text_of(data: Raw | UnsetType) -> bytes | None:
    """Give what a client sent as JSON text, if it did."""
    return bytes(data) if isinstance(data, Raw) else None


def expiry(expires_at: float | None, now: float) -> tuple[bool, int]:
    """Give whether there is an end, and in how many seconds."""
    if expires_at is None:
        return False, 0
    return True, max(1, int(expires_at - now))


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
        tags=publication.tags or tags_of(publication.extra) or UNSET,
        time=publication.time if position else 0,
    )


def publication_text(publication: Publication) -> bytes:
    """Give the same as JSON text. Most have data alone, and are written without a shape."""
    if publication.position or publication.info or publication.tags or publication.extra:
        return encode(publication_shape(publication))
    return b'{"data":%b}' % one_line(publication.data)


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
