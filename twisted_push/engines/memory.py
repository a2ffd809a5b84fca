"""The engine of one process: everything in memory, nothing outlives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from twisted_push.history import Stream
from twisted_push.interfaces import IEngine, IEngineEvents
from twisted_push.model import (
    ChannelOverlay,
    ClientInfo,
    Grant,
    Publication,
    Recovered,
    StreamPosition,
)
from twisted_push.presence import PresenceTable

__all__ = ["MemoryEngine"]

_K = TypeVar("_K")

SWEEP_INTERVAL = 30.0
"""Seconds between two looks for what is over its time."""

STREAM_LIFE = 86400.0
"""Seconds that a stream's position outlives its last publication."""

EMPTY_STREAM_LIFE = 60.0
"""Seconds that the position of a stream without any publication outlives its last use."""

REVOCATION_LIFE = 86400.0
"""Seconds for which a kick beats an answer of the CMS that was on its way."""


@define
class _Channel:
    stream: Stream = field(factory=Stream)
    used_at: float = 0.0


@define
class _Cutoff:
    """Grants that were issued up to ``at`` are refused; noted until ``until``."""

    at: float
    until: float


@implementer(IEngine)
class MemoryEngine:
    """Does everything at once: each Deferred that it gives has already fired."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._events: IEngineEvents | None = None
        self._subscribed: set[str] = set()
        self._channels: dict[str, _Channel] = {}
        self._presence = PresenceTable()
        self._grants: dict[bytes, tuple[Grant, float]] = {}
        self._revoked_tokens: dict[bytes, float] = {}
        self._logouts: dict[str, _Cutoff] = {}
        self._kicks: dict[str, _Cutoff] = {}
        self._overlays: dict[str, dict[str, ChannelOverlay]] = {}
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = clock

    def start(self, events: IEngineEvents) -> Deferred[None]:
        self._events = events
        self._sweeping.start(SWEEP_INTERVAL, now=False)
        return succeed(None)

    def stop(self) -> Deferred[None]:
        self._events = None
        if self._sweeping.running:
            self._sweeping.stop()
        return succeed(None)

    # --- Channels ----------------------------------------------------------------------------

    def publish(
        self, publication: Publication, history_size: int, history_ttl: float
    ) -> Deferred[tuple[StreamPosition | None, int]]:
        if history_size:
            now = self._clock.seconds()
            channel = self._channels.setdefault(publication.channel, _Channel())
            channel.used_at = now + history_ttl
            publication = channel.stream.append(publication, history_size, history_ttl, now)
        recipients = 0
        if self._events is not None and publication.channel in self._subscribed:
            recipients = self._events.publication_received(publication)
        return succeed((publication.position, recipients))

    def subscribe(self, channel: str) -> Deferred[None]:
        self._subscribed.add(channel)
        return succeed(None)

    def unsubscribe(self, channel: str) -> Deferred[None]:
        self._subscribed.discard(channel)
        return succeed(None)

    def since(
        self, channel: str, position: StreamPosition | None, limit: int
    ) -> Deferred[Recovered]:
        now = self._clock.seconds()
        known = self._channels.setdefault(channel, _Channel())
        known.used_at = max(known.used_at, now)
        return succeed(known.stream.since(position, limit, now))

    def presence_add(self, channel: str, info: ClientInfo) -> Deferred[None]:
        if self._presence.add(channel, info) and self._events is not None:
            self._events.joined(channel, info)
        return succeed(None)

    def presence_remove(self, channel: str, info: ClientInfo) -> Deferred[None]:
        gone = self._presence.remove(channel, info.client)
        if gone is not None and self._events is not None:
            self._events.left(channel, gone)
        return succeed(None)

    def presence(self, channel: str) -> Deferred[Mapping[str, ClientInfo]]:
        return succeed(self._presence.clients(channel))

    # --- Grants ------------------------------------------------------------------------------

    def grant_put(self, token: bytes | None, grant: Grant, until: float) -> Deferred[bool]:
        if self._is_revoked(token, grant) or _beats(self._kicks.get(grant.user), grant):
            return succeed(False)
        if token is not None:
            self._grants[token] = (grant, until)
        return succeed(True)

    def grant_get(self, token: bytes) -> Deferred[Grant | None]:
        grant, until = self._grants.get(token, (None, 0.0))
        return succeed(grant if self._clock.seconds() < until else None)

    def grant_valid(self, token: bytes, grant: Grant) -> Deferred[bool]:
        return succeed(not self._is_revoked(token, grant))

    def grant_forget(self, user: str) -> Deferred[None]:
        now = self._clock.seconds()
        self._kicks[user] = _Cutoff(now, now + REVOCATION_LIFE)
        for token in self._tokens_of(user):
            del self._grants[token]
        return succeed(None)

    def revoke_token(self, token: bytes, until: float) -> Deferred[None]:
        self._revoked_tokens[token] = max(until, self._revoked_tokens.get(token, 0.0))
        self._grants.pop(token, None)
        return succeed(None)

    def revoke_user(self, user: str, until: float) -> Deferred[None]:
        self._logouts[user] = _Cutoff(self._clock.seconds(), until)
        for token in self._tokens_of(user):
            self.revoke_token(token, until)
        return succeed(None)

    def overlay_set(self, user: str, channel: str, overlay: ChannelOverlay) -> Deferred[None]:
        self._overlays.setdefault(user, {})[channel] = overlay
        return succeed(None)

    def overlays(self, user: str) -> Deferred[Mapping[str, ChannelOverlay]]:
        return succeed(dict(self._overlays.get(user, {})))

    def _is_revoked(self, token: bytes | None, grant: Grant) -> bool:
        if token is not None and self._revoked_tokens.get(token, 0.0) > self._clock.seconds():
            return True
        return _beats(self._logouts.get(grant.user), grant)

    def _tokens_of(self, user: str) -> list[bytes]:
        return [token for token, (grant, _) in self._grants.items() if grant.user == user]

    # --- What is over its time ---------------------------------------------------------------

    def _sweep(self) -> None:
        now = self._clock.seconds()
        _drop(self._grants, [key for key, (_, until) in self._grants.items() if until <= now])
        revoked = self._revoked_tokens
        _drop(revoked, [key for key, until in revoked.items() if until <= now])
        for cutoffs in (self._logouts, self._kicks):
            _drop(cutoffs, [user for user, cutoff in cutoffs.items() if cutoff.until <= now])
        self._sweep_overlays(now)
        for channel in self._channels.values():
            channel.stream.trim(now)
        _drop(self._channels, [n for n, c in self._channels.items() if self._is_over(n, c, now)])

    def _is_over(self, name: str, channel: _Channel, now: float) -> bool:
        """Tell whether nobody can ask for a stream's position any more.

        Clients may make streams by asking for channels that nobody publishes into: those go soon.
        """
        life = STREAM_LIFE if channel.stream.top else EMPTY_STREAM_LIFE
        return name not in self._subscribed and channel.used_at + life <= now

    def _sweep_overlays(self, now: float) -> None:
        for overlays in self._overlays.values():
            _drop(overlays, [name for name, overlay in overlays.items() if overlay.until <= now])
        _drop(self._overlays, [user for user, overlays in self._overlays.items() if not overlays])


def _beats(cutoff: _Cutoff | None, grant: Grant) -> bool:
    return cutoff is not None and grant.issued_at <= cutoff.at


def _drop(table: dict[_K, Any], keys: list[_K]) -> None:
    for key in keys:
        del table[key]
