"""Who may be let in: kept grants, what ends them, and changed channels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from twisted_push.engines.facts import Kind, Notes, Table
from twisted_push.model import ChannelOverlay, Grant, PresenceList

__all__ = ["REVOCATION_LIFE", "Rights"]

REVOCATION_LIFE = 86400.0
"""Seconds for which a kick beats an answer of the CMS that was on its way."""


class Rights:
    """Grants by token, and what changes them: logouts, kicks, overlays and presence lists."""

    def __init__(self, notes: Notes | None) -> None:
        self._grants: Table[bytes, Grant] = Table(Kind.GRANT, notes)
        self._revoked: Table[bytes, bool] = Table(Kind.REVOKED_TOKEN, notes)
        self._logouts: Table[str, float] = Table(Kind.LOGOUT, notes)
        self._kicks: Table[str, float] = Table(Kind.KICK, notes)
        self._overlays: Table[tuple[str, str], ChannelOverlay] = Table(Kind.OVERLAY, notes)
        self._overlaid: dict[str, dict[str, None]] = {}
        self._lists: Table[str, PresenceList] = Table(Kind.PRESENCE_LIST, notes)

    @property
    def tables(self) -> Sequence[Table[Any, Any]]:
        """All tables, to be filled again after a restart: see `restored`."""
        return (*self._by_one_key, self._overlays)

    @property
    def _by_one_key(self) -> Sequence[Table[Any, Any]]:
        return self._grants, self._revoked, self._logouts, self._kicks, self._lists

    def restored(self) -> None:
        """Take notice that the tables were filled."""
        self._overlaid = {}
        for (user, channel), _ in self._overlays.items():
            self._overlaid.setdefault(user, {})[channel] = None

    # --- Grants ------------------------------------------------------------------------------

    def revoked(self, token: bytes, now: float) -> bool:
        """Tell whether a token was logged out."""
        return self._revoked.get(token, now) is not None

    def allows(self, token: bytes | None, grant: Grant, now: float) -> bool:
        """Tell whether no logout of the token or of its user beats a grant."""
        if token is not None and self.revoked(token, now):
            return False
        return not _beats(self._logouts, grant, now)

    def keep(self, token: bytes | None, grant: Grant, until: float, now: float) -> bool:
        """Keep a grant; False if a logout or a kick beats it."""
        if not self.allows(token, grant, now) or _beats(self._kicks, grant, now):
            return False
        if token is not None:
            self._grants.put(token, grant, until)
        return True

    def grant(self, token: bytes, now: float) -> Grant | None:
        """Give the grant of a token."""
        return self._grants.get(token, now)

    def forget(self, user: str, now: float) -> None:
        """Kick: forget the grants of a user, those on their way included."""
        self._kicks.put(user, now, now + REVOCATION_LIFE)
        for token in self._tokens_of(user):
            self._grants.drop(token)

    def revoke_token(self, token: bytes, until: float) -> None:
        """Refuse a token; an end that is later already stays."""
        self._revoked.put(token, True, max(until, self._revoked.until(token)))
        self._grants.drop(token)

    def revoke_user(self, user: str, until: float, now: float) -> None:
        """Refuse every token of a user that is known or was issued up to now."""
        self._logouts.put(user, now, max(until, self._logouts.until(user)))
        for token in self._tokens_of(user):
            self.revoke_token(token, until)

    def _tokens_of(self, user: str) -> list[bytes]:
        return [token for token, grant in self._grants.items() if grant.user == user]

    # --- Overlays ----------------------------------------------------------------------------

    def overlay(self, user: str, channel: str, overlay: ChannelOverlay) -> None:
        """Note what the CMS did with a channel of a user."""
        self._overlays.put((user, channel), overlay, overlay.until)
        self._overlaid.setdefault(user, {})[channel] = None

    def overlays(self, user: str, now: float) -> Mapping[str, ChannelOverlay]:
        """Give what was noted for a user, by channel."""
        found = {name: self._overlays.get((user, name), now) for name in self._channels_of(user)}
        return {name: overlay for name, overlay in found.items() if overlay is not None}

    def _channels_of(self, user: str) -> Iterable[str]:
        return self._overlaid.get(user, ())

    # --- Presence lists ----------------------------------------------------------------------

    def list_presence(self, user: str, listed: PresenceList) -> None:
        """Note whom the CMS lets see a user."""
        self._lists.put(user, listed, listed.until)

    def presence_list(self, user: str, now: float) -> PresenceList | None:
        """Give what was noted last for a user."""
        return self._lists.get(user, now)

    # --- Time --------------------------------------------------------------------------------

    def expire(self, now: float) -> None:
        """Let go of what is over its time."""
        for table in self._by_one_key:
            table.expire(now)
        for user, channel in self._overlays.expire(now):
            del self._overlaid[user][channel]
            if not self._overlaid[user]:
                del self._overlaid[user]


def _beats(cutoffs: Table[str, float], grant: Grant, now: float) -> bool:
    cutoff = cutoffs.get(grant.user, now)
    return cutoff is not None and grant.issued_at <= cutoff
