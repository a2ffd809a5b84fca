"""Tokens by which the CMS lets one connection into one channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from typing import Any, Generic, TypeVar

from attrs import evolve

from twisted_push.engines.facts import Kind, Notes, Table
from twisted_push.errors import Overloaded
from twisted_push.model import ContentToken

__all__ = ["RESTART_CONTENT_LIFE", "ContentTokens"]

RESTART_CONTENT_LIFE = 3600.0
"""Seconds for which a content token that was in use outlives a restart."""

_NOTHING: Set[bytes] = frozenset()

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
        return self._tokens.get(key, _NOTHING)


class ContentTokens:
    """The tokens of one site, by their digests; which are for a channel, and who holds which."""

    def __init__(self, notes: Notes | None) -> None:
        self.table: Table[bytes, ContentToken] = Table(Kind.CONTENT_TOKEN, notes)
        self._channels: _Groups[str] = _Groups()
        self._users: _Groups[str] = _Groups()
        self._holders: _Groups[bytes] = _Groups()

    # --- Tokens ------------------------------------------------------------------------------

    def put(self, token: bytes, content: ContentToken, limit: int, now: float) -> None:
        """Keep a token. Raises Overloaded if ``limit`` others are kept already."""
        if token not in self.table and len(self.table) >= limit:
            self.expire(now)
            if len(self.table) >= limit:
                raise Overloaded("too many content tokens")
        self._keep(token, content)

    def claim(
        self, token: bytes, channel: str, holder: bytes, user: str, now: float
    ) -> ContentToken | None:
        """Give a token to its holder, without an end for now; None if it is not good."""
        content = self.table.get(token, now)
        if content is None or content.channel != channel or not _is_for(content, holder, user):
            return None
        held = evolve(content, holder=holder, user=user, expires_at=math.inf)
        self._keep(token, held)
        return held

    def hand_over(self, token: bytes, holder: bytes, new: bytes, now: float) -> None:
        """Know the holder of a token by something new, if it is still this one."""
        content = self.table.get(token, now)
        if content is not None and content.holder == holder:
            self._keep(token, evolve(content, holder=new))

    def release(self, token: bytes, expires_at: float, now: float) -> None:
        """Set the end of a token whose connection is gone."""
        content = self.table.get(token, now)
        if content is not None:
            self._keep(token, evolve(content, expires_at=expires_at))

    def drop(self, token: bytes) -> None:
        """Let go of a token, if it is there."""
        content = self.table.get(token, -math.inf)  # Be it over its time.
        if content is not None:
            self._leave(token, content)
            self.table.drop(token)

    def _keep(self, token: bytes, content: ContentToken) -> None:
        """Keep a token, in the place of what it was. Raises ValueError if it cannot be noted."""
        old = self.table.get(token, -math.inf)
        self.table.put(token, content, content.expires_at)
        if old is not None:
            self._leave(token, old)
        self._enter(token, content)

    # --- What they have in common ------------------------------------------------------------

    def known(self, channel: str, now: float) -> bool:
        """Tell whether a token of a channel is within its time."""
        return any(self.table.get(token, now) is not None for token in self._channels.of(channel))

    def channels(self) -> int:
        """Give the number of channels with tokens, those over their time included."""
        return len(self._channels)

    def forget(
        self, *, channel: str | None = None, user: str | None = None, holder: bytes | None = None
    ) -> None:
        """Let go of the tokens of a channel, of a user who holds them, or of a holder.

        Where more than one is given: of those of which all is true.
        """
        given: tuple[tuple[_Groups[Any], str | bytes | None], ...] = (
            (self._channels, channel),
            (self._users, user),
            (self._holders, holder),
        )
        found = [group.of(key) for group, key in given if key is not None]
        fewest = min(found, key=len)
        for token in [each for each in fewest if all(each in tokens for tokens in found)]:
            self.drop(token)

    def _enter(self, token: bytes, content: ContentToken) -> None:
        for group, key in self._groups_of(content):
            group.add(key, token)

    def _leave(self, token: bytes, content: ContentToken) -> None:
        for group, key in self._groups_of(content):
            group.remove(key, token)

    def _groups_of(self, content: ContentToken) -> Iterator[tuple[_Groups[Any], str | bytes]]:
        yield self._channels, content.channel
        if content.holder is not None:
            yield self._users, content.user
            yield self._holders, content.holder

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


def _is_for(content: ContentToken, holder: bytes, user: str) -> bool:
    """Tell whether a token is nobody's, or is that of who asks for it.

    A user may come back as another holder, once nobody is in by the token any more.
    """
    if content.holder is None:
        return True
    if content.user != user:
        return False
    return content.holder == holder or (user != "" and content.expires_at != math.inf)
