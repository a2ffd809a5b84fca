"""Tokens by which the CMS lets one connection into one channel."""

from __future__ import annotations

import math
from collections.abc import Set
from typing import Generic, TypeVar

from attrs import evolve

from twisted_push.engines.facts import Kind, Notes, Table
from twisted_push.errors import Overloaded
from twisted_push.model import ContentToken

__all__ = ["RESTART_CONTENT_LIFE", "ContentTokens"]

RESTART_CONTENT_LIFE = 3600.0
"""Seconds for which a content token that was in use outlives a restart."""

_K = TypeVar("_K")


class _Groups(Generic[_K]):
    """Tokens by something that they have in common."""

    def __init__(self) -> None:
        self._tokens: dict[_K, set[bytes]] = {}

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, key: _K, token: bytes) -> None:
        self._tokens.setdefault(key, set()).add(token)

    def remove(self, key: _K, token: bytes) -> None:
        tokens = self._tokens[key]
        tokens.remove(token)
        if not tokens:
            del self._tokens[key]

    def of(self, key: _K) -> Set[bytes]:
        return self._tokens.get(key, frozenset())


class ContentTokens:
    """The tokens of one site, by their digests; and which of them are for a channel."""

    def __init__(self, notes: Notes | None) -> None:
        self.table: Table[bytes, ContentToken] = Table(Kind.CONTENT_TOKEN, notes)
        self._channels: _Groups[str] = _Groups()

    # --- Tokens ------------------------------------------------------------------------------

    def put(self, token: bytes, content: ContentToken, limit: int, now: float) -> None:
        """Keep a token. Raises Overloaded if ``limit`` others are kept already."""
        if token not in self.table and len(self.table) >= limit:
            self.expire(now)
            if len(self.table) >= limit:
                raise Overloaded("too many content tokens")
        self._keep(token, content)

    def claim(self, token: bytes, channel: str, holder: bytes, now: float) -> ContentToken | None:
        """Give a token to its holder, without an end for now; None if it is not good."""
        content = self.table.get(token, now)
        if content is None or content.channel != channel or content.holder not in (None, holder):
            return None
        held = evolve(content, holder=holder, expires_at=math.inf)
        self._keep(token, held)
        return held

    def release(self, token: bytes, expires_at: float, now: float) -> None:
        """Set the end of a token whose connection is gone."""
        content = self.table.get(token, now)
        if content is not None:
            self._keep(token, evolve(content, expires_at=expires_at))

    def _keep(self, token: bytes, content: ContentToken) -> None:
        """Keep a token, in the place of what it was."""
        old = self.table.get(token, -math.inf)  # Be it over its time.
        if old is not None:
            self._leave(token, old)
        self._enter(token, content)
        self.table.put(token, content, content.expires_at)

    # --- What they have in common ------------------------------------------------------------

    def known(self, channel: str, now: float) -> bool:
        """Tell whether a token of a channel is within its time."""
        return any(self.table.get(token, now) is not None for token in self._channels.of(channel))

    def channels(self) -> int:
        """Give the number of channels with tokens, those over their time included."""
        return len(self._channels)

    def _enter(self, token: bytes, content: ContentToken) -> None:
        self._channels.add(content.channel, token)

    def _leave(self, token: bytes, content: ContentToken) -> None:
        self._channels.remove(content.channel, token)

    # --- Time --------------------------------------------------------------------------------

    def restored(self, now: float) -> None:
        """Take notice that the table was filled.

        What was in use before the restart is given an end: nobody will release it.
        """
        end = now + RESTART_CONTENT_LIFE
        for token, content in tuple(self.table.items()):
            self._enter(token, content)
            if content.expires_at == math.inf:
                self._keep(token, evolve(content, expires_at=end))

    def expire(self, now: float) -> None:
        """Let go of what is over its time."""
        for token, content in self.table.items():
            if content.expires_at <= now:
                self._leave(token, content)
        self.table.expire(now)
