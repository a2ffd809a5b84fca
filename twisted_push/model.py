"""The values that flow through the server: frozen, without behaviour, without IO.

What each publish makes is a structure of msgspec: it is made in a quarter of the time.

JSON that the server only passes on (``data``, ``info``) is held as ``bytes``: the text as its
author wrote it, checked once at the door (`twisted_push.jsontext`) and never parsed again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen
from msgspec import Struct

_NONE: Mapping[str, Any] = {}
"""One for all values that have none: it is not to be changed, as all that they hold."""

__all__ = [
    "ChannelGrant",
    "ChannelOverlay",
    "ClientInfo",
    "ClientRequest",
    "ConnectRequest",
    "ContentToken",
    "Grant",
    "PresenceList",
    "Publication",
    "PublishOptions",
    "Published",
    "Recovered",
    "ServiceKey",
    "StreamPosition",
]


class StreamPosition(Struct, frozen=True):
    """A place in a channel's stream: ``offset`` counts publications within one ``epoch``."""

    offset: int
    epoch: str


@frozen
class ClientInfo:
    """What others may learn of a client: in presence, join and leave, and published data.

    ``conn_info`` and ``chan_info`` are JSON texts given by the CMS.
    """

    user: str
    client: str
    conn_info: bytes | None = None
    chan_info: bytes | None = None


class Publication(Struct, frozen=True):
    """One message of one channel.

    ``data`` is JSON text, ``time`` unix milliseconds. ``position`` is None where the channel
    keeps no history. ``extra`` holds the other fields of a message of the nodejs dialect, as JSON
    text by name. ``exclude`` is the id of a client that knows already and is not given it.
    """

    channel: str
    data: bytes
    position: StreamPosition | None = None
    info: ClientInfo | None = None
    tags: Mapping[str, str] | None = None
    extra: Mapping[str, bytes] | None = None
    time: int = 0
    exclude: str = ""


@frozen
class ChannelGrant:
    """What the CMS said of one granted channel: ``info`` for presence, ``data`` for the client.

    ``expires_at`` (unix seconds) is when the client loses it again, None for never.
    """

    info: bytes | None = None
    data: bytes | None = None
    expires_at: float | None = None

    def over(self, now: float) -> bool:
        """Tell whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


@frozen
class ChannelOverlay:
    """A channel that the CMS added to a user (``added``) or removed from it (None) at a time.

    It changes every grant of the user that was issued up to ``at`` (unix seconds), and is kept
    until ``until``.
    """

    at: float
    added: ChannelGrant | None
    until: float


@frozen
class PresenceList:
    """The users whom the CMS let see, at a time, that one is online; kept until ``until``.

    It takes the place of what every grant of the user says that is not newer than ``at``.
    """

    at: float
    users: frozenset[str]
    until: float


@frozen
class Grant:
    """What the CMS answered for a token: who this is and which channels it gets.

    ``issued_at`` is the time (unix seconds) at which the CMS was asked, or the token signed:
    a revocation at or after it beats the grant. ``presence_to`` are the users who may see that this
    one is online; None where nothing is said of it. ``expires_at`` (unix seconds) is the end that
    the CMS set, None for none. With ``client_refresh`` the client itself must bring a new token
    before that end. ``raw`` keeps what the CMS may want back (the answer's ``meta``).

    A renewal may leave the channels as they were: ``channels_at`` is the time at which they were
    named then, None if that is ``issued_at``.
    """

    user: str
    issued_at: float
    channels: Mapping[str, ChannelGrant] = _NONE
    presence_to: frozenset[str] | None = None
    info: bytes | None = None
    data: bytes | None = None
    content_tokens: Mapping[str, str] = _NONE
    expires_at: float | None = None
    client_refresh: bool = False
    raw: bytes | None = field(default=None, repr=False)
    channels_at: float | None = None

    @property
    def channels_said_at(self) -> float:
        """The time (unix seconds) at which the CMS named the channels."""
        return self.issued_at if self.channels_at is None else self.channels_at


@frozen
class ContentToken:
    """A token by which the CMS lets one connection into one channel.

    ``data`` is JSON text that others in the channel are given with it. With ``notify_on_leave``
    they are told when its user leaves. ``expires_at`` (unix seconds) is its end while nobody is in
    the channel with it. ``holder`` is what the page that uses it is known by, and ``user`` its
    user ("" for anonymous): it is for this page alone, or for the user's next one when it is gone.
    """

    channel: str
    expires_at: float
    notify_on_leave: bool = False
    data: bytes | None = None
    holder: bytes | None = field(default=None, repr=False)
    user: str = ""


@frozen
class ClientRequest:
    """The browser's opening request as the transport read it.

    ``headers`` has lower-case names and only those that a callback may forward; ``address`` is
    the peer's, or what a trusted proxy said it is.
    """

    transport: str
    address: str
    host: str = ""
    headers: Mapping[str, str] = field(default=_NONE, repr=False)


@frozen
class ConnectRequest:
    """What a client presented to be let in, as an authenticator is asked about it.

    ``data`` is the client's JSON text; ``channels`` are those whose positions it brought.
    ``patient``: the client waits for as long as it takes, and sent away it would be back at once.
    """

    client: str
    token: str = field(repr=False)
    request: ClientRequest
    protocol: str = "json"
    name: str = ""
    version: str = ""
    data: bytes | None = None
    channels: tuple[str, ...] = ()
    patient: bool = False


@frozen
class ServiceKey:
    """A key of the backend API: its id for logs, its SHA-256 digest, and what it may do.

    ``sites`` are the other sites on which it may do that (``*``: all), ``rate`` the requests that
    it may make in a second (0: no limit).
    """

    id: str
    digest: bytes = field(repr=False)
    scopes: frozenset[str]
    sites: frozenset[str] = frozenset()
    rate: int = 0


@frozen
class PublishOptions:
    """How a publication is to be kept, and what makes it one that was published before.

    ``history_size`` is how many the stream keeps (0: this one takes no place in it),
    ``history_ttl`` the seconds for which this one is kept. Within five minutes the same
    ``idempotency_key`` in the same channel is the same publication. ``version`` (0: none) is that
    of what is published, within a ``version_epoch``: one that is not newer than the last one is
    dropped.
    """

    history_size: int = 0
    history_ttl: float = 0.0
    idempotency_key: str = field(default="", repr=False)
    version: int = 0
    version_epoch: str = ""

    @property
    def leaves_trace(self) -> bool:
        """Whether anything of it has to be known later."""
        return bool(self.history_size or self.idempotency_key or self.version)


class Published(Struct, frozen=True):
    """The answer to a publish: where it stands, and how many clients here were given it.

    ``duplicate``: this is the answer that was given before to the same idempotency key.
    ``outdated``: it was dropped, because one of a newer version is there.
    """

    position: StreamPosition | None
    recipients: int
    duplicate: bool = False
    outdated: bool = False


@frozen
class Recovered:
    """What a stream has after a position; ``complete`` only if provably nothing is missing."""

    publications: tuple[Publication, ...]
    position: StreamPosition
    complete: bool
