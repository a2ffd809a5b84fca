"""Who may do what on a site. All rules are here; whoever acts asks first.

A policy is a view of one configuration; a reload makes a new one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest

from attrs import field, frozen

from twisted_push.config import Limits, Namespace, SiteConfig
from twisted_push.errors import Disconnect, Refused
from twisted_push.model import ChannelGrant, Grant, ServiceKey

__all__ = ["MAX_CHANNEL_LENGTH", "MAX_USER_LENGTH", "Policy", "host_name", "key_digest"]

MAX_CHANNEL_LENGTH = 255
"""Longest channel name, in bytes of UTF-8."""

MAX_USER_LENGTH = 255
"""Longest id of a user, in bytes of UTF-8."""

_UNNAMED = Namespace()
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def key_digest(key: str) -> bytes:
    """Give what a service key is known by."""
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


@frozen
class Policy:
    """The rules of one site and the limits of the process."""

    site: SiteConfig
    limits: Limits
    _keys: tuple[ServiceKey, ...] = field(init=False, repr=False)

    @_keys.default
    def _hash_keys(self) -> tuple[ServiceKey, ...]:
        return tuple(
            ServiceKey(
                key.id,
                key_digest(key.key),
                key.scopes,
                frozenset(key.sites),
                key.max_requests_per_second or self.site.limits.max_requests_per_second,
            )
            for key in self.site.keys
        )

    # --- The backend -------------------------------------------------------------------------

    def service_key(self, digest: bytes) -> ServiceKey | None:
        """Give the key of this `key_digest`, if it is one of the site's.

        Every key is compared, in constant time.
        """
        found = None
        for key in self._keys:
            if compare_digest(key.digest, digest):
                found = key
        return found

    def check_scope(self, key: ServiceKey, scope: str) -> None:
        """Raise Refused(103) unless the key has the scope."""
        if scope not in key.scopes:
            raise Refused(103, f"permission denied: this key lacks the scope {scope!r}")

    def check_site(self, key: ServiceKey, site: str) -> None:
        """Raise Refused(103) unless the key has rights on another site.

        Whether there is such a site is not told.
        """
        if site not in key.sites and "*" not in key.sites:
            raise Refused(103, "permission denied: this key has no rights on that site")

    # --- The door ----------------------------------------------------------------------------

    def allows_origin(self, origin: str | None, host: str) -> bool:
        """Tell whether a page of this Origin may connect. None: no browser, or the same site.

        Without ``allowed_origins`` a page of the same host may, of whatever port: a CMS at port
        80 has its push server at another, and cookies do not tell ports apart either.
        """
        allowed = self.site.allowed_origins
        if origin is None or "*" in allowed:
            return True
        origin = origin.lower()
        if origin in allowed:
            return True
        scheme, _, place = origin.partition("://")
        if allowed or scheme not in ("http", "https"):
            return False
        return bool(host_name(place)) and host_name(place) == host_name(host)

    def check_user(self, user: str) -> None:
        """Raise Disconnect(3500) if this can be no user's id, whoever says it is."""
        if _CONTROL.search(user) or len(user.encode("utf-8")) > MAX_USER_LENGTH:
            raise Disconnect(3500, "the user's id has control characters or is too long")

    def check_connections(self, user: str, count: int) -> None:
        """Raise Disconnect(3504) for a user with too many connections, this one included."""
        most = self.site.limits.max_connections_per_user
        if user and 0 < most < count:
            raise Disconnect(3504)

    # --- Channels ----------------------------------------------------------------------------

    def namespace(self, channel: str) -> Namespace:
        """Give the rules of a channel: the first namespace whose prefix fits."""
        for namespace in self.site.namespaces:
            if channel.startswith(namespace.prefix):
                return namespace
        return _UNNAMED

    def check_channel(self, channel: str) -> None:
        """Raise Refused(107) if this can be no channel's name."""
        if not channel:
            raise Refused(107, "bad request: channel is empty")
        if _CONTROL.search(channel):
            raise Refused(107, "bad request: channel has a control character")
        if len(channel.encode("utf-8")) > MAX_CHANNEL_LENGTH:
            raise Refused(107, f"bad request: channel is longer than {MAX_CHANNEL_LENGTH} bytes")

    def check_channel_count(self, count: int) -> None:
        """Raise Refused(106) if a client with ``count`` channels may not have one more."""
        if count >= self.limits.max_channels_per_client:
            raise Refused(106)

    def granted_channels(self, grant: Grant) -> Mapping[str, ChannelGrant]:
        """Give every channel that a client of this grant gets, unasked."""
        channels = {self.site.broadcast_channel: ChannelGrant()}
        if self.site.user_channel and grant.user:
            channels[self.site.user_channel.replace("{user}", grant.user)] = ChannelGrant()
        return {**channels, **grant.channels}

    def subscribes_by(self, channel: str) -> str:
        """Give how a client gets a channel that it asks for: by ``anyone``, ``token`` or ``cms``.

        Raises Refused(103) if it does not.
        """
        how = self.namespace(channel).client_subscribe
        if how not in ("anyone", "token", "cms"):
            raise Refused(103)
        return how

    def publishes_by(self, channel: str, *, subscribed: bool) -> str:
        """Give why a client may publish into a channel: by ``anyone``, ``subscriber`` or ``cms``.

        ``cms``: it may if the CMS says so. Raises Refused(103) if it may not.
        """
        how = self.namespace(channel).client_publish
        if how in ("anyone", "cms") or (how == "subscriber" and subscribed):
            return how
        raise Refused(103)

    def check_history(self, channel: str) -> None:
        """Raise Refused(108) for a channel that keeps no history."""
        if not self.namespace(channel).history_size:
            raise Refused(108)

    def check_client_history(self, channel: str, *, subscribed: bool) -> None:
        """Raise Refused unless a client may ask for a channel's history."""
        self.check_history(channel)
        if not (self.namespace(channel).client_history and subscribed):
            raise Refused(103)

    def check_client_presence(self, channel: str, *, subscribed: bool) -> None:
        """Raise Refused unless a client may see who is in a channel."""
        namespace = self.namespace(channel)
        if not namespace.presence:
            raise Refused(108)
        if not (namespace.client_presence and subscribed):
            raise Refused(103)


def host_name(host: str) -> str:
    """Give a Host header without its port and the dot of a full name, in small letters."""
    head, colon, port = host.lower().rpartition(":")
    name = head if colon and port.isascii() and port.isdigit() else host.lower()
    return name.rstrip(".")
