"""Who lets a client in: a signed token, the CMS, or nobody because everybody may."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent
from zope.interface import implementer

from twisted_push.cms.breaker import Circuit
from twisted_push.cms.connect import ConnectDialect, forwarded_headers
from twisted_push.cms.decisions import Decisions
from twisted_push.cms.entrance import Entrance
from twisted_push.cms.exchange import Exchange
from twisted_push.cms.grants import Dialect, GrantKeeper, token_digest
from twisted_push.cms.hook import PresenceHook
from twisted_push.cms.jwt import SubscriptionToken, TokenVerifier, looks_like_jwt
from twisted_push.cms.messages import Messages
from twisted_push.cms.nodejs import NodejsDialect
from twisted_push.cms.renewal import ConnectRenewal
from twisted_push.cms.reports import OnlineReports, reports_to_drupal
from twisted_push.config import CallbackConfig, SiteConfig
from twisted_push.errors import CmsUnavailable, Disconnect, EngineUnavailable, Refused
from twisted_push.interfaces import IAuthenticator, IEngine
from twisted_push.model import ChannelGrant, ConnectRequest, Grant
from twisted_push.stats import SiteStats

__all__ = ["MAX_TOKEN_LENGTH", "Gate", "make_gate"]

MAX_TOKEN_LENGTH = 8192
"""Longest token, in characters, that anybody is asked about; cookies and headers end there, too."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


@implementer(IAuthenticator)
@frozen
class Gate:
    """Chooses who says who a client is.

    A token that has the form of a JWT is checked against ``tokens`` and never shown to the CMS;
    without ``tokens`` it is a token like any other. A client without a token is asked about only
    if it sent one of the headers that are forwarded; else it is let in if the site says so.

    ``decisions`` are there where the CMS is asked in the dialect ``connect``, ``messages`` and
    ``reports`` in the dialect ``nodejs``; the ``hook``, too, is told who is online. ``renewed_by``
    is the kind of question by which grants are renewed.
    """

    engine: IEngine
    clock: IReactorTime
    anonymous: bool
    tokens: TokenVerifier | None
    keeper: GrantKeeper | None
    exchange: Exchange | None
    forward_headers: tuple[str, ...]
    hook: PresenceHook
    decisions: Decisions | None = None
    messages: Messages | None = None
    reports: OnlineReports | None = None
    renewed_by: str = "connect"

    def authenticate(self, request: ConnectRequest) -> Deferred[Grant]:
        return Deferred.fromCoroutine(self._authenticate(request))

    def verify_subscription(self, token: str) -> SubscriptionToken:
        """Read a token for one channel: see `TokenVerifier.verify_subscription`."""
        if self.tokens is None or not _fit(token):
            raise Refused(103)
        return self.tokens.verify_subscription(token)

    def signs(self, token: str) -> bool:
        """Tell whether a token is taken for one that is signed, good or not."""
        return self.tokens is not None and looks_like_jwt(token)

    def end_of(self, token: str) -> float | None:
        """Give the time from which a signed token is refused by itself; None if it is no such."""
        if self.tokens is None or not _fit(token) or not looks_like_jwt(token):
            return None
        try:
            expires_at = self.tokens.verify_connection(token).expires_at
        except (Refused, Disconnect):
            return None
        return math.inf if expires_at is None else expires_at

    def asks(self, request: ConnectRequest) -> bool:
        """Tell whether it is the CMS that says who this client is."""
        if self.keeper is None or self.signs(request.token):
            return False
        return bool(request.token) or self._recognisable(request)

    async def renew(self, request: ConnectRequest, grant: Grant) -> Grant:
        """Ask the CMS whether a grant still holds: see `GrantKeeper.renew`."""
        if self.keeper is None:
            raise Refused(110)
        return await self.keeper.renew(request, grant)

    @property
    def serve_stale(self) -> float:
        """Seconds for which a grant that is over serves while the CMS cannot be asked."""
        return self.keeper.serve_stale if self.keeper is not None else 0.0

    @property
    def circuit(self) -> Circuit:
        """Whether questions to the CMS go through by which grants are renewed."""
        return (
            Circuit.CLOSED
            if self.exchange is None
            else self.exchange.shield.circuit(self.renewed_by)
        )

    @property
    def entrances(self) -> Mapping[str, Entrance]:
        """Where questions to the CMS go through, by their kind."""
        return {} if self.exchange is None else dict(self.exchange.shield)

    async def change_channel(self, token: str, channel: str, added: ChannelGrant | None) -> None:
        """Change what is kept for a token: see `GrantKeeper.change_channel`."""
        if self.keeper is not None:
            await self.keeper.change_channel(token, channel, added)

    def close(self) -> Deferred[None]:
        """End every question with `CmsUnavailable`; fires when all connections are gone."""
        if self.reports is not None:
            self.reports.close()
        closed = self.hook.close()
        if self.exchange is not None:
            exchange = self.exchange.close()
            closed.addCallback(lambda _: exchange)
        if self.keeper is not None:
            self.keeper.close()
        return closed

    async def _authenticate(self, request: ConnectRequest) -> Grant:
        token = request.token
        if not _fit(token):
            raise Disconnect(3500)
        try:
            if self.tokens is not None and looks_like_jwt(token):
                return await self._signed(self.tokens, token)
            if self.keeper is not None and self.asks(request):
                return await self.keeper.authenticate(request)
        except EngineUnavailable as error:
            # Whether there was a logout cannot be known.
            raise CmsUnavailable(f"the engine: {type(error).__name__}") from None
        if not token and self.anonymous:
            return Grant(user="", issued_at=self.clock.seconds())
        raise Disconnect(3500)

    async def _signed(self, tokens: TokenVerifier, token: str) -> Grant:
        grant = tokens.verify_connection(token)
        if not await self.engine.grant_valid(token_digest(token), grant):
            raise Disconnect(3500)
        return grant

    def _recognisable(self, request: ConnectRequest) -> bool:
        return bool(forwarded_headers(request.request, self.forward_headers))


def _fit(token: str) -> bool:
    return len(token) <= MAX_TOKEN_LENGTH and not _UNFIT.search(token)


def make_gate(
    site: SiteConfig,
    engine: IEngine,
    reactor: IReactorTime,
    stats: SiteStats,
    agent: IAgent | None = None,
) -> Gate:
    """Build the gate of a site; ``agent`` replaces the connections to the CMS, for tests."""
    callback = site.callback
    exchange = keeper = decisions = messages = reports = None
    forward_headers: tuple[str, ...] = ()
    if callback is not None:
        exchange = Exchange(callback, reactor, stats, agent)
        if callback.url:
            keeper = _keeper(callback, exchange, engine, reactor, stats)
        if callback.dialect == "connect":
            forward_headers = callback.forward_headers
            decisions = Decisions(exchange, callback, reactor)
        else:
            messages = Messages(exchange, callback.service_key)
            reports = reports_to_drupal(messages, reactor, callback.max_concurrent)
    return Gate(
        engine=engine,
        clock=reactor,
        anonymous=site.anonymous,
        tokens=TokenVerifier(site.token_secret, reactor) if site.token_secret else None,
        keeper=keeper,
        exchange=exchange,
        forward_headers=forward_headers,
        hook=PresenceHook(site, reactor, stats, agent),
        decisions=decisions,
        messages=messages,
        reports=reports,
        renewed_by="refresh" if callback is not None and callback.refresh_url else "connect",
    )


def _keeper(
    callback: CallbackConfig,
    exchange: Exchange,
    engine: IEngine,
    reactor: IReactorTime,
    stats: SiteStats,
) -> GrantKeeper:
    return GrantKeeper(
        _dialect(callback, exchange),
        engine,
        reactor,
        callback.grant_ttl,
        callback.serve_stale,
        stats=stats,
        renewal=_renewal(callback, exchange),
    )


def _dialect(callback: CallbackConfig, exchange: Exchange) -> Dialect:
    if callback.dialect == "connect":
        return ConnectDialect(exchange, callback.forward_headers)
    return NodejsDialect(exchange, callback.service_key)


def _renewal(callback: CallbackConfig, exchange: Exchange) -> ConnectRenewal | None:
    if not callback.refresh_url:
        return None
    return ConnectRenewal(exchange, callback.refresh_url, callback.forward_headers)
