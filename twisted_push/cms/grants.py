"""Grants that are kept, and one question per token however many ask.

A page in 200 tabs, or 200 tabs that come back after a restart, present one token: the CMS is
asked once. Its answer is kept in the engine, where a kick or a logout beats it, also while it is
still on its way.
"""

from __future__ import annotations

from collections.abc import Coroutine
from hashlib import sha256
from typing import Any, Protocol

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_push.errors import CmsUnavailable, Disconnect, PushError, Refused
from twisted_push.interfaces import IAuthenticator, IEngine
from twisted_push.model import ChannelGrant, ConnectRequest, Grant

__all__ = ["Dialect", "GrantKeeper", "token_digest"]

_log = Logger()


class Dialect(Protocol):
    """A wire format in which the CMS is asked."""

    async def ask(self, request: ConnectRequest) -> Grant:
        """Give what the CMS says. Raises what `IAuthenticator.authenticate` fails with."""


def token_digest(token: str) -> bytes:
    """Give the name under which an engine knows a token: it never sees the token itself."""
    return sha256(token.encode("utf-8")).digest()


@define(eq=False)
class _Flight:
    """One search for a grant and everybody who waits for it.

    The first waiter's request is the one that is sent.
    """

    _waiters: list[Deferred[Grant]] = field(init=False, factory=list)
    _search: Deferred[Grant] | None = field(init=False, default=None)
    _first: Deferred[Grant] | None = field(init=False, default=None)
    _landed: bool = field(init=False, default=False)

    def join(self) -> Deferred[Grant]:
        """Give a Deferred with the outcome. Cancelling it ends the search only for the last."""
        waiter: Deferred[Grant] = Deferred(self._left)
        if self._first is None:
            self._first = waiter
        self._waiters.append(waiter)
        return waiter

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits any more."""
        return not self._waiters

    def start(self, search: Coroutine[Deferred[Any], Any, Grant]) -> Deferred[None]:
        """Search; fires when everybody has been told."""
        self._search = Deferred.fromCoroutine(search)
        return self._search.addCallbacks(self._found, self._failed)

    def cancel(self) -> None:
        """End the search; everybody gets its error."""
        if self._search is not None:
            self._search.cancel()

    def _left(self, waiter: Deferred[Grant]) -> None:
        if self._landed:
            return
        self._waiters.remove(waiter)
        if self.abandoned:
            self.cancel()

    def _land(self) -> list[Deferred[Grant]]:
        self._landed = True
        waiters, self._waiters = self._waiters, []
        return waiters

    def _found(self, grant: Grant) -> None:
        for waiter in self._land():
            if not waiter.called:  # One told before may have cancelled another.
                waiter.callback(grant if waiter is self._first else _shared(grant))

    def _failed(self, failure: Failure) -> None:
        waiters = self._land()
        if not waiters and not failure.check(CancelledError, PushError):
            _log.failure("a search for a grant that nobody waits for failed", failure)
        if failure.check(CancelledError):
            failure = Failure(CmsUnavailable("the server is stopping"))
        for waiter in waiters:
            if not waiter.called:
                waiter.errback(failure)


def _shared(grant: Grant) -> Grant:
    """Give what of a grant is the token's, and not only the asking connection's."""
    return evolve(grant, content_tokens={}) if grant.content_tokens else grant


def _final(error: Refused | Disconnect) -> bool:
    """Tell whether the CMS meant the token, not only the moment."""
    return not (error.temporary if isinstance(error, Refused) else error.reconnect)


@implementer(IAuthenticator)
class GrantKeeper:
    """Asks the CMS, and keeps what it answers for a token.

    ``grant_ttl`` and ``serve_stale`` are seconds: how long an answer is good (unless the CMS set
    an earlier end), and how long after that it still serves while the CMS gives no answer.
    Content tokens of an answer belong to the connection that was asked about: they are neither
    kept nor shared.
    """

    def __init__(
        self,
        dialect: Dialect,
        engine: IEngine,
        clock: IReactorTime,
        grant_ttl: float,
        serve_stale: float,
    ) -> None:
        self._dialect = dialect
        self._engine = engine
        self._clock = clock
        self._grant_ttl = grant_ttl
        self._serve_stale = serve_stale
        self._flights: dict[bytes, _Flight] = {}

    def authenticate(self, request: ConnectRequest) -> Deferred[Grant]:
        if not request.token:
            return Deferred.fromCoroutine(self._ask(None, request))
        digest = token_digest(request.token)
        flight = self._flights.get(digest)
        if flight is not None and not flight.abandoned:
            return flight.join()
        self._flights[digest] = flight = _Flight()
        waiter = flight.join()
        flight.start(self._search(digest, request)).addCallback(self._landed, digest, flight)
        return waiter

    async def change_channel(self, token: str, channel: str, added: ChannelGrant | None) -> None:
        """Add a channel to what is kept for a token, or take it out (None).

        An answer that the CMS gives later overrides it; a logout or a kick stays.
        """
        digest = token_digest(token)
        kept = await self._engine.grant_get(digest)
        if kept is None:
            return
        channels = {name: grant for name, grant in kept.channels.items() if name != channel}
        if added is not None:
            channels[channel] = added
        until = self._good_until(kept) + self._serve_stale
        await self._engine.grant_put(digest, evolve(kept, channels=channels), until)

    def close(self) -> None:
        """End every search; those who wait get `CmsUnavailable`."""
        for flight in tuple(self._flights.values()):
            flight.cancel()

    def _landed(self, _: None, digest: bytes, flight: _Flight) -> None:
        # One that was abandoned has been replaced if its token was presented again.
        if self._flights.get(digest) is flight:
            del self._flights[digest]

    async def _search(self, digest: bytes, request: ConnectRequest) -> Grant:
        kept = await self._engine.grant_get(digest)
        if kept is not None and self._clock.seconds() < self._good_until(kept):
            return kept
        if kept is None and await self._engine.token_revoked(digest):
            raise Disconnect(3500)
        try:
            return await self._ask(digest, request)
        except CmsUnavailable:
            # Asked again: a logout may have come while the CMS was silent.
            stale = self._stale(await self._engine.grant_get(digest))
            if stale is None:
                raise
            return stale
        except (Refused, Disconnect) as error:
            if kept is not None and _final(error):
                # Else it would serve again when the CMS is down the next time.
                await self._engine.grant_put(digest, kept, self._clock.seconds())
            raise

    async def _ask(self, digest: bytes | None, request: ConnectRequest) -> Grant:
        grant = await self._dialect.ask(request)
        if grant.expires_at is not None and grant.expires_at <= self._clock.seconds():
            raise Refused(109)
        until = self._good_until(grant) + self._serve_stale
        if not await self._engine.grant_put(digest, _shared(grant), until):
            raise Disconnect(3500)
        return grant

    def _good_until(self, grant: Grant) -> float:
        """Give the time until which a grant needs no new question."""
        end = grant.issued_at + self._grant_ttl
        return end if grant.expires_at is None else min(end, grant.expires_at)

    def _stale(self, kept: Grant | None) -> Grant | None:
        """Give a kept grant that may serve while the CMS fails.

        Where the CMS had set its end, that is put off, or the session would be over at once.
        """
        if kept is None:
            return None
        until = self._good_until(kept) + self._serve_stale
        now = self._clock.seconds()
        if now >= until:
            return None
        if kept.expires_at is not None and kept.expires_at <= now:
            return evolve(kept, expires_at=until)
        return kept
