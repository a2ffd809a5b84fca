"""Grants that are kept, and one question per token however many ask.

A page in 200 tabs, or 200 tabs that come back after a restart, present one token: the CMS is
asked once. Its answer is kept in the engine, where a kick or a logout beats it, also while it is
still on its way. It is kept even if nobody waits for it any more: whoever lost patience comes back.
"""

from __future__ import annotations

from collections.abc import Coroutine
from hashlib import sha256
from math import inf
from typing import Any, Protocol

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_push.cms.changes import overlaid, relisted, renewed, shared, with_channels
from twisted_push.cms.renewal import Renewed
from twisted_push.cms.shield import PATIENCE
from twisted_push.errors import CmsUnavailable, Disconnect, Overtaken, PushError, Refused
from twisted_push.interfaces import IAuthenticator, IEngine
from twisted_push.model import ChannelGrant, ConnectRequest, Grant
from twisted_push.stats import SiteStats

__all__ = ["Dialect", "GrantKeeper", "Renewal", "token_digest"]

_log = Logger()


class Dialect(Protocol):
    """A wire format in which the CMS is asked."""

    async def ask(self, request: ConnectRequest, patience: float = PATIENCE) -> Grant:
        """Give what the CMS says. Raises what `IAuthenticator.authenticate` fails with.

        ``patience``: see `Shield.enter`. Cancelled, a question that was not put yet is dropped; the
        answer to one that was is given all the same.
        """


class Renewal(Protocol):
    """A wire format in which the CMS is asked whether a grant still holds."""

    async def ask(self, request: ConnectRequest, grant: Grant) -> Renewed:
        """Give what the CMS says of it: see `Dialect.ask`."""


def token_digest(token: str) -> bytes:
    """Give the name under which an engine knows a token: it never sees the token itself."""
    return sha256(token.encode("utf-8")).digest()


class _LoggedOut(PushError):
    """A logout came while the CMS was being asked."""


@define(eq=False)
class _Flight:
    """One search for a grant, or one question, and everybody who waits for it.

    The first waiter's request is the one that is sent. ``changes`` are channels that the CMS added
    meanwhile, or took out (None).
    """

    changes: dict[str, ChannelGrant | None] = field(init=False, factory=dict)

    _waiters: list[Deferred[Grant]] = field(init=False, factory=list)
    _search: Deferred[Grant] | None = field(init=False, default=None)
    _first: Deferred[Grant] | None = field(init=False, default=None)
    _left_alone: bool = field(init=False, default=False)
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

    @property
    def landed(self) -> bool:
        """Whether everybody was told."""
        return self._landed

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
        if self.abandoned and not self._left_alone:
            # Once: if it goes on, it is a question that is out, whose answer is to be had.
            self._left_alone = True
            self.cancel()

    def _land(self) -> list[Deferred[Grant]]:
        self._landed = True
        waiters, self._waiters = self._waiters, []
        return waiters

    def _found(self, grant: Grant) -> None:
        for waiter in self._land():
            if not waiter.called:  # One told before may have cancelled another.
                waiter.callback(grant if waiter is self._first else shared(grant))

    def _failed(self, failure: Failure) -> None:
        waiters = self._land()
        if not waiters and not failure.check(CancelledError, PushError):
            _log.failure("a search for a grant that nobody waits for failed", failure)
        if failure.check(CancelledError):
            failure = Failure(CmsUnavailable("the server is stopping"))
        for waiter in waiters:
            if not waiter.called:
                waiter.errback(failure)


def _final(error: Refused | Disconnect) -> bool:
    """Tell whether the CMS meant the token, not only the moment."""
    return not (error.temporary if isinstance(error, Refused) else error.reconnect)


@implementer(IAuthenticator)
class GrantKeeper:
    """Asks the CMS, and keeps what it answers for a token.

    ``grant_ttl`` and ``serve_stale`` are seconds: how long an answer is good (unless the CMS set
    an earlier end), and how long after that it still serves while the CMS gives no answer.
    Content tokens of an answer belong to the connection that was asked about: they are neither
    kept nor shared. Without ``renewal`` a grant is renewed by the question of the beginning.
    """

    def __init__(
        self,
        dialect: Dialect,
        engine: IEngine,
        clock: IReactorTime,
        grant_ttl: float,
        serve_stale: float,
        *,
        stats: SiteStats,
        renewal: Renewal | None = None,
    ) -> None:
        self._dialect = dialect
        self._engine = engine
        self._clock = clock
        self._grant_ttl = grant_ttl
        self.serve_stale = serve_stale
        self._stats = stats
        self._renewal = renewal
        self._flights: dict[bytes, _Flight] = {}
        self._questions: dict[bytes, _Flight] = {}

    def authenticate(self, request: ConnectRequest) -> Deferred[Grant]:
        if not request.token:
            return Deferred.fromCoroutine(self._search_nobody(request))
        digest = token_digest(request.token)
        flight = self._flights.get(digest)
        if flight is not None and not flight.abandoned:
            self._stats.grants["shared"] += 1
            return flight.join()
        return _start(self._flights, digest, self._search(digest, request))

    async def renew(self, request: ConnectRequest, grant: Grant) -> Grant:
        """Ask the CMS again about a client that it let in by ``grant``; give what holds now.

        Raises as `authenticate`; `Refused` and `Disconnect` say that nothing holds any more, unless
        they are temporary.
        """
        digest = token_digest(request.token) if request.token else None
        if digest is not None and await self._engine.token_revoked(digest):
            raise Disconnect(3500)
        try:
            return await self._ask(digest, request, PATIENCE, grant)
        except (_LoggedOut, Overtaken):
            raise CmsUnavailable("a logout or a kick came meanwhile") from None
        except (Refused, Disconnect) as error:
            # Whoever is closed, with whatever code, is asked about when they come back.
            if digest is not None and (isinstance(error, Disconnect) or _final(error)):
                await self._drop(digest)
            raise

    async def change_channel(self, token: str, channel: str, added: ChannelGrant | None) -> None:
        """Add a channel to what is kept for a token, or take it out (None).

        An answer to what the CMS is asked later overrides it; a logout or a kick stays.
        """
        digest = token_digest(token)
        question = self._questions.get(digest)
        if question is not None:
            question.changes[channel] = added
        kept = await self._engine.grant_get(digest)
        if kept is None:
            return
        until = self._good_until(kept) + self.serve_stale
        await self._engine.grant_put(digest, with_channels(kept, {channel: added}), until)

    def close(self) -> None:
        """End every search; those who wait get `CmsUnavailable`."""
        for flight in (*self._flights.values(), *self._questions.values()):
            flight.cancel()

    # --- Searching ---------------------------------------------------------------------------

    async def _search(self, digest: bytes, request: ConnectRequest) -> Grant:
        kept = await self._engine.grant_get(digest)
        if kept is not None and self._clock.seconds() < self._good_until(kept):
            self._stats.grants["kept"] += 1
            return kept
        if kept is None and await self._engine.token_revoked(digest):
            raise Disconnect(3500)
        patience = inf if request.patient else PATIENCE
        try:
            return await self._ask(digest, request, 0.0 if self._is_stale(kept) else patience)
        except CmsUnavailable:
            # Asked again: a logout may have come while the CMS was silent.
            kept = await self._engine.grant_get(digest)
            if kept is None or not self._is_stale(kept):
                raise
            self._stats.grants["stale"] += 1
            return kept
        except _LoggedOut:
            raise Disconnect(3500) from None
        except (Refused, Disconnect) as error:
            if kept is not None and _final(error):
                await self._drop(digest)
            raise

    async def _search_nobody(self, request: ConnectRequest) -> Grant:
        """Search for one who has no token: there is nothing to find, nor to keep."""
        try:
            return await self._ask(None, request, inf if request.patient else PATIENCE)
        except _LoggedOut:
            raise Disconnect(3500) from None

    async def _drop(self, digest: bytes) -> None:
        """Let go of a grant that the CMS took back: else it would serve while that is down."""
        kept = await self._engine.grant_get(digest)
        if kept is not None:
            await self._engine.grant_put(digest, kept, self._clock.seconds())

    # --- Asking ------------------------------------------------------------------------------

    def _ask(
        self,
        digest: bytes | None,
        request: ConnectRequest,
        patience: float,
        grant: Grant | None = None,
    ) -> Deferred[Grant]:
        """Ask the CMS, or wait for the answer if it is being asked about the token already.

        ``grant`` is the one to be renewed, if that is what is asked.
        """
        question = self._questions.get(digest) if digest is not None else None
        if question is not None and not question.landed:
            return question.join()
        asking = self._question(digest, request, patience, grant)
        return _start(self._questions, digest, asking)

    async def _question(
        self,
        digest: bytes | None,
        request: ConnectRequest,
        patience: float,
        grant: Grant | None,
    ) -> Grant:
        if grant is not None and self._renewal is not None:
            answer = await self._renewed(digest, request, grant, self._renewal)
        else:
            answer = await self._dialect.ask(request, patience)
        self._stats.grants["asked" if grant is None else "renewed"] += 1
        if answer.expires_at is not None and answer.expires_at <= self._clock.seconds():
            raise Refused(109)
        question = self._questions.get(digest) if digest is not None else None
        if question is not None:
            answer = with_channels(answer, question.changes)
        until = self._good_until(answer) + self.serve_stale
        if await self._engine.grant_put(digest, shared(answer), until):
            return answer
        if await self._engine.grant_valid(digest, answer):
            raise Overtaken(answer.user, answer.issued_at)
        raise _LoggedOut

    async def _renewed(
        self, digest: bytes | None, request: ConnectRequest, grant: Grant, renewal: Renewal
    ) -> Grant:
        """Give the grant that follows another one, where the CMS says only what is new."""
        said = await renewal.ask(request, grant)
        known = await self._engine.grant_get(digest) if digest is not None else None
        if known is None or known.issued_at <= grant.issued_at:
            known = grant if known is None else evolve(known, info=grant.info)
        base = await self._as_changed(known)
        if said.user is not None and said.user != base.user:
            base = Grant(said.user, said.asked_at)  # Nothing of one user's is another's.
        return renewed(base, said)

    async def _as_changed(self, grant: Grant) -> Grant:
        """Give a grant as the CMS changed it since: it may last longer than that is noted."""
        channels = overlaid(grant.channels, await self._engine.overlays(grant.user), grant)
        listed = await self._engine.presence_list(grant.user)
        return relisted(evolve(grant, channels=channels), listed)

    def _good_until(self, grant: Grant) -> float:
        """Give the time until which a grant needs no new question."""
        end = grant.issued_at + self._grant_ttl
        return end if grant.expires_at is None else min(end, grant.expires_at)

    def _is_stale(self, kept: Grant | None) -> bool:
        """Tell whether a kept grant may serve while the CMS fails, though it is over."""
        if kept is None:
            return False
        return self._clock.seconds() < self._good_until(kept) + self.serve_stale


def _start(
    flights: dict[bytes, _Flight],
    digest: bytes | None,
    doing: Coroutine[Deferred[Any], Any, Grant],
) -> Deferred[Grant]:
    """Begin a flight for its first waiter, where others find it by the digest, if there is one."""
    flight = _Flight()
    waiter = flight.join()

    def landed(_: None) -> None:
        # One that was abandoned has been replaced if its token was presented again.
        if digest is not None and flights.get(digest) is flight:
            del flights[digest]

    if digest is not None:
        flights[digest] = flight
    flight.start(doing).addCallback(landed)
    return waiter
