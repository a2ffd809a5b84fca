"""What a configuration holds: frozen classes whose fields carry their parsers.

`setting` is one key with its parser and default, `secret` one that may also stand in a file of
its own (``<name>_file``), `tables` a list of tables; a table is a field with the metadata
``table``. A field without any of these is no key of the file: it is filled in from others.
Sizes are in bytes, durations in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Attribute, field, frozen

from twisted_push.config import names
from twisted_push.config.endpoints import endpoint
from twisted_push.config.values import (
    Parser,
    boolean,
    choice,
    duration,
    integer,
    list_of,
    size,
    text,
)

__all__ = [
    "SHORT_KEY",
    "CallbackConfig",
    "Config",
    "KeyConfig",
    "Limits",
    "Mirror",
    "Namespace",
    "PresenceConfig",
    "SiteConfig",
    "SiteLimits",
    "keys_of",
]

SCOPES = ("publish", "read", "manage")
SHORT_KEY = 16
"""A key of fewer characters may be guessed."""
_file_name = text("the name of a file")


def setting(parser: Parser[Any], default: object) -> Any:
    """Make a field for one key; ``default`` is written as it would be in the file."""
    return field(default=parser.read(default), metadata={"parser": parser})


def secret(parser: Parser[Any], default: object, *, inline: bool = True) -> Any:
    """Make a field for a secret: in the key, or (with ``inline`` False: only) in a file."""
    metadata = {"parser": parser, "file": _file_name, "inline": inline}
    return field(default=default, repr=False, metadata=metadata)


def tables(cls: type) -> Any:
    """Make a field for a list of tables; none by default."""
    return field(default=(), metadata={"tables": cls})


def keys_of(attribute: Attribute[Any]) -> tuple[str, ...]:
    """Give the keys of the file that fill a field: none, one, or also ``<name>_file``."""
    name = attribute.name
    if "file" in attribute.metadata:
        return (name, f"{name}_file") if attribute.metadata["inline"] else (f"{name}_file",)
    known = {"parser", "table", "tables"} & set(attribute.metadata)
    return (name,) if known else ()


@frozen(kw_only=True)
class Limits:
    """The bounds of the whole process. Where 0 is allowed it means no limit."""

    max_connections: int = setting(integer(), 19000)
    max_connections_per_address: int = setting(integer(0), 0)
    max_message_size: int = setting(size(), "64KiB")
    max_body_size: int = setting(size(), "1MiB")
    max_outbox: int = setting(size(), "1MiB")
    stale_close_delay: float = setting(duration(), "10s")
    ping_interval: float = setting(duration(least=1.0), "25s")
    pong_timeout: float = setting(duration(), "10s")
    shutdown_timeout: float = setting(duration(zero=True), "20s")
    send_buffer: int = setting(size(), "64KiB")
    """What the kernel keeps of what is sent to one client; it doubles that for its own use."""
    unacknowledged_timeout: float = setting(duration(zero=True), "30s")
    """How long a client may acknowledge nothing of what the kernel sent it."""
    max_commands_per_second: int = setting(integer(0), 100)
    """Per client, with bursts of twice as many."""
    max_channels_per_client: int = setting(integer(), 128)
    max_pending_commands: int = setting(integer(), 256)
    max_content_tokens: int = setting(integer(), 100000)
    """Per site: content tokens that wait for their page, or whose page is there."""
    recovery_max_publication_limit: int = setting(integer(), 300)
    """Most publications that a client recovers, or is given of a channel's history, at once."""


@frozen(kw_only=True)
class KeyConfig:
    """A key of the backend API; ``scopes`` of publish, read, manage say what it may do."""

    id: str = setting(names.key_id(), "default")
    key: str = secret(names.service_key(), "")
    scopes: frozenset[str] = field(
        default=frozenset(SCOPES),
        metadata={"parser": list_of(choice(*SCOPES))},
        converter=frozenset,
    )
    sites: tuple[str, ...] = setting(list_of(names.site()), [])
    """Other sites on which it may do the same; ``*`` for all of them."""
    max_requests_per_second: int = setting(integer(0), 0)
    """0: as the site's limits have it."""

    @property
    def short(self) -> bool:
        """Whether the key may be guessed: the operator is warned."""
        return len(self.key) < SHORT_KEY


@frozen(kw_only=True)
class CallbackConfig:
    """How the CMS is asked who a client is, and what it may do."""

    url: str = setting(names.callback_url(), "")
    refresh_url: str = setting(names.callback_url(), "")
    subscribe_url: str = setting(names.callback_url(), "")
    sub_refresh_url: str = setting(names.callback_url(), "")
    publish_url: str = setting(names.callback_url(), "")
    rpc_url: str = setting(names.callback_url(), "")
    dialect: str = setting(choice("nodejs", "connect"), "nodejs")
    forward_headers: tuple[str, ...] = setting(list_of(names.header_name()), ["Cookie"])
    timeout: float = setting(duration(), "5s")
    max_concurrent: int = setting(integer(), 20)
    max_waiting: int = setting(integer(0), 10000)
    grant_ttl: float = setting(duration(), "1h")
    serve_stale: float = setting(duration(zero=True), "10m")
    basic_auth: tuple[str, str] | None = secret(names.basic_auth(), None, inline=False)
    """User and password."""
    verify_tls: bool = setting(boolean(), True)
    max_answer_size: int = setting(size(), "256KiB")
    client_messages: bool = setting(boolean(), False)
    """Whether clients may send messages to the CMS (dialect nodejs)."""
    client_messages_per_minute: int = setting(integer(), 30)
    """Of one client, in bursts of as many."""
    service_key: str = field(default="", repr=False)
    """The site's first key, which the nodejs dialect sends along."""

    @property
    def decides(self) -> bool:
        """Whether the CMS is asked what a client may do."""
        return any((self.subscribe_url, self.sub_refresh_url, self.publish_url, self.rpc_url))


@frozen(kw_only=True)
class PresenceConfig:
    """When a user counts as gone, and where the CMS is told of it."""

    online_grace: float = setting(duration(zero=True), "2s")
    hook_url: str = setting(names.callback_url(), "")
    hook_secret: str | None = secret(names.token_secret(), None)
    """What requests to the hook are signed with; None: they are not."""


@frozen(kw_only=True)
class Namespace:
    """The rules of the channels whose names begin with ``prefix``.

    Without arguments: the rules of a channel that no namespace fits.
    """

    prefix: str = setting(names.prefix(), "")
    history_size: int = setting(integer(0), 0)
    history_ttl: float = setting(duration(), "10m")
    recover: bool = setting(boolean(), False)
    recovery_mode: str = setting(choice("stream", "cache"), "stream")
    """What is recovered: all that was missed, or the latest publication alone."""
    presence: bool = setting(boolean(), False)
    join_leave: bool = setting(boolean(), False)
    client_subscribe: str = setting(choice("deny", "token", "cms", "anyone"), "deny")
    client_publish: str = setting(choice("deny", "cms", "subscriber", "anyone"), "deny")
    client_history: bool = setting(boolean(), False)
    client_presence: bool = setting(boolean(), False)


@frozen(kw_only=True)
class SiteLimits:
    """The bounds of one site, besides those of the process. 0 means no limit."""

    max_connections: int = setting(integer(0), 0)
    max_connections_per_user: int = setting(integer(0), 0)
    max_requests_per_second: int = setting(integer(0), 0)
    """Of each of its keys, with bursts of twice as many; what a batch holds is counted."""


@frozen(kw_only=True)
class Mirror:
    """What a site is given of the publications of others.

    Those in channels that begin with ``prefix`` go into ``channel``, in which ``{site}`` and
    ``{channel}`` stand for where they come from.
    """

    sites: tuple[str, ...] = setting(list_of(names.site()), [])
    """``*`` for all others."""
    prefix: str = setting(names.prefix(), "")
    channel: str = setting(names.mirror_channel(), "{site}:{channel}")


@frozen(kw_only=True)
class SiteConfig:
    """One CMS. The file gives its keys as ``key``, ``key_file`` or ``keys``."""

    name: str = ""
    hosts: tuple[str, ...] = setting(list_of(names.host_name()), [])
    keys: tuple[KeyConfig, ...] = tables(KeyConfig)
    allowed_origins: tuple[str, ...] = setting(list_of(names.origin()), [])
    broadcast_channel: str = setting(names.channel_name(), "broadcast")
    user_channel: str = setting(names.user_channel(), "")
    anonymous: bool = setting(boolean(), False)
    token_secret: str | None = secret(names.token_secret(), None)
    content_token_ttl: float = setting(duration(), "1h")
    """How long a content token waits for its page, and for the page to come back."""
    callback: CallbackConfig | None = field(default=None, metadata={"table": CallbackConfig})
    """None without any address."""
    presence: PresenceConfig = field(factory=PresenceConfig, metadata={"table": PresenceConfig})
    limits: SiteLimits = field(factory=SiteLimits, metadata={"table": SiteLimits})
    namespaces: tuple[Namespace, ...] = tables(Namespace)
    """In the order of the file: the first whose prefix fits rules."""
    mirrors: tuple[Mirror, ...] = tables(Mirror)


@frozen(kw_only=True)
class Config:
    """The whole configuration. ``sites`` has at least one, by name; it is not to be changed."""

    listen: tuple[str, ...] = setting(list_of(endpoint()), ["tcp:8080:interface=127.0.0.1"])
    backend_listen: tuple[str, ...] = setting(list_of(endpoint()), [])
    reuse_port: bool = setting(boolean(), False)
    """Whether other servers may listen where ``listen`` says (SO_REUSEPORT)."""
    engine: str = setting(choice("memory", "redis"), "memory")
    state_dir: str = setting(names.directory(), "")
    """Where each site has its journal; empty: nothing outlives a restart."""
    durability: str = setting(choice("commit", "write", "none"), "commit")
    """When a publish is answered: on the disk, with the operating system, or before both."""
    trusted_proxies: tuple[str, ...] = setting(list_of(names.network()), [])
    log_level: str = setting(choice("debug", "info", "warn", "error", "critical"), "info")
    log_format: str = setting(choice("text", "json"), "text")
    debug_echo: bool = setting(boolean(), False)
    fast_path: bool = setting(boolean(), True)
    """Whether WebSockets on plain TCP go past Twisted's and Autobahn's slow parts."""
    compression: bool = setting(boolean(), False)
    """Whether messages to WebSocket clients of the native protocol are compressed."""
    nodejs_path: str = setting(names.url_path(), "/nodejs/")
    """Where Drupal's nodejs module posts; empty: nowhere."""
    socketio_path: str = setting(names.url_path(), "/socket.io")
    """Where Socket.IO clients connect; empty: nowhere."""
    limits: Limits = field(factory=Limits, metadata={"table": Limits})
    sites: Mapping[str, SiteConfig] = field(factory=dict)
