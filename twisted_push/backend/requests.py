"""The requests of the HTTP API: what each method takes. A field that is not here is refused.

Source: the client protocol's specification, section 6; ``position``, ``connections``, ``users``,
``logout``, ``content_token``, ``content_token_remove``, ``content_users``, ``online``,
``presence_list`` and ``presence_hook`` are ours. ``data`` and ``info`` are JSON that is passed on
as it is, empty where not given.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

__all__ = [
    "Batch",
    "Broadcast",
    "ChannelRequest",
    "Channels",
    "Connections",
    "ContentToken",
    "ContentTokenRemove",
    "Disconnect",
    "DisconnectCode",
    "History",
    "Logout",
    "Nothing",
    "Online",
    "Positions",
    "PresenceHook",
    "PresenceList",
    "Publish",
    "PublishCommand",
    "PublishOptions",
    "Publishes",
    "Refresh",
    "Request",
    "Since",
    "Subscribe",
    "UnixTime",
    "Unsubscribe",
]

UnixTime = Annotated[int, Meta(ge=0, le=2**53)]
"""Unix seconds."""

Name = Annotated[str, Meta(max_length=255)]
"""What a publisher names something by."""

Version = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A whole number that grows, such as a time in nanoseconds; 0 for none."""


class Request(Struct, kw_only=True):
    """``site``: where it is done; empty for the site of the key."""

    site: Name = ""


class PublishOptions(Request, kw_only=True):
    """What may be said of a publication, whatever it goes into."""

    skip_history: bool = False
    tags: dict[str, str] | None = None
    delta: bool = False
    idempotency_key: Name | None = None
    version: Version | None = None
    version_epoch: Name | None = None


class Publish(PublishOptions, forbid_unknown_fields=True):
    """``publish``."""

    channel: str
    data: Raw


class Broadcast(PublishOptions, forbid_unknown_fields=True):
    """``broadcast``: one publication into several channels."""

    channels: list[str]
    data: Raw


class Since(Struct, forbid_unknown_fields=True):
    """A position."""

    offset: int = 0
    epoch: str = ""


class Subscribe(Request, forbid_unknown_fields=True):
    """``subscribe``; ``expire_at`` unix seconds."""

    channel: str
    user: str = ""
    client: str = ""
    session: str = ""
    info: Raw = Raw(b"")
    data: Raw = Raw(b"")
    recover_since: Since | None = None
    expire_at: UnixTime | None = None


class Unsubscribe(Request, forbid_unknown_fields=True):
    """``unsubscribe``."""

    channel: str
    user: str = ""
    client: str = ""
    session: str = ""


class DisconnectCode(Struct, forbid_unknown_fields=True):
    """The close code that a client gets."""

    code: int
    reason: str = ""


class Disconnect(Request, forbid_unknown_fields=True):
    """``disconnect``."""

    user: str = ""
    client: str = ""
    session: str = ""
    whitelist: list[str] | None = None
    disconnect: DisconnectCode | None = None


class Refresh(Request, forbid_unknown_fields=True):
    """``refresh``; ``expire_at`` unix seconds, 0: never."""

    user: str = ""
    client: str = ""
    session: str = ""
    expired: bool = False
    expire_at: UnixTime | None = None
    info: Raw = Raw(b"")


class ChannelRequest(Request, forbid_unknown_fields=True):
    """``presence``, ``presence_stats``, ``history_remove`` and ``content_users``."""

    channel: str


class History(Request, forbid_unknown_fields=True):
    """``history``; ``limit`` 0: only the position, -1: all."""

    channel: str
    limit: Annotated[int, Meta(ge=-1)] = 0
    since: Since | None = None
    reverse: bool = False


class Positions(Request, forbid_unknown_fields=True):
    """``position``."""

    channels: list[str]


class Channels(Request, forbid_unknown_fields=True):
    """``channels``: a glob, empty for all."""

    pattern: str = ""


class Connections(Request, forbid_unknown_fields=True):
    """``connections``: of a user ("" for anonymous), of a channel, or all."""

    user: str | None = None
    channel: str | None = None


class Logout(Request, forbid_unknown_fields=True):
    """``logout``: one token, or all of a user."""

    token: str = ""
    user: str = ""


class ContentToken(Request, forbid_unknown_fields=True):
    """``content_token``; ``ttl`` in seconds. Without a ``token`` the server makes one."""

    channel: str
    token: str = ""
    ttl: Annotated[int, Meta(ge=1, le=2**53)] | None = None
    notify_on_leave: bool = False
    data: Raw = Raw(b"")


class ContentTokenRemove(Request, forbid_unknown_fields=True):
    """``content_token_remove``."""

    token: str


class Online(Request, forbid_unknown_fields=True):
    """``online``: which of these users are."""

    users: list[str]


class PresenceList(Request, forbid_unknown_fields=True):
    """``presence_list``: who may see that ``user`` is online."""

    user: str
    users: list[str]


class PresenceHook(Request, forbid_unknown_fields=True):
    """``presence_hook``: where the CMS is told who is online; empty for nowhere."""

    url: str


class Nothing(Request, forbid_unknown_fields=True):
    """``info`` and ``users`` take nothing."""


class Batch(Request, forbid_unknown_fields=True):
    """``batch``: each command an object of one method with its request.

    ``site`` is that of the commands that name none themselves. ``parallel`` is accepted: the
    replies keep the order of the commands either way.
    """

    commands: list[dict[str, Raw]]
    parallel: bool = False


class PublishCommand(Struct, forbid_unknown_fields=True):
    """A command of a batch that publishes."""

    publish: Publish


class Publishes(Batch):
    """A batch that does nothing else."""

    commands: list[PublishCommand]  # type: ignore[assignment]
