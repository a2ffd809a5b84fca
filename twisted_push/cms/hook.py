"""The hook: an address of the CMS that is told who came online and who went.

One POST of JSON for many users, one at a time (see ``reports`` for the rest: the order, further
attempts, what is forgotten)::

    {
        "site": "default",
        "since": 1800000000000,
        "events": [{"user": "42", "event": "online", "time": 1800000001250}],
    }

Times are unix milliseconds. ``since`` is when the server began: who was reported before and is not
reported again soon after, did not come back. With a secret the request is signed in
``X-Push-Signature``: ``sha256=`` and the HMAC-SHA256 of its body in hexadecimal digits.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import random
from urllib.parse import urlsplit

from attrs import define, evolve
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IAgent

from twisted_push.cms.exchange import Exchange
from twisted_push.cms.reports import Change, OnlineReports, Teller
from twisted_push.config import CallbackConfig, SiteConfig
from twisted_push.errors import CmsUnavailable
from twisted_push.jsontext import encode
from twisted_push.stats import SiteStats

__all__ = ["BATCH", "GATHER", "MAX_HOOK_WAITING", "PresenceHook"]

BATCH = 500
"""Most users in one request."""

GATHER = 0.25
"""Seconds for which the first change waits for others."""

MAX_HOOK_WAITING = 50_000
"""Most users whose state waits to be told; beyond it the oldest is forgotten."""

_SIGNATURE = "X-Push-Signature"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@define(eq=False)
class _Line:
    """What leads to one address: the exchange, and the reports that go through it."""

    url: str
    exchange: Exchange
    reports: OnlineReports


class PresenceHook:
    """The hook of one site. It may have none: then there is nothing to tell.

    There is no timer: `tick` is to be called again and again. ``agent`` replaces the connections
    to the CMS, for tests.
    """

    def __init__(
        self,
        site: SiteConfig,
        reactor: IReactorTime,
        stats: SiteStats,
        agent: IAgent | None = None,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._site = site
        self._reactor = reactor
        self._stats = stats
        self._agent = agent
        self._jitter = jitter
        self._since = round(reactor.seconds() * 1000)
        self._closed = False
        self._closing: set[Deferred[None]] = set()
        self._line: _Line | None = None
        self._open(site.presence.hook_url)

    @property
    def url(self) -> str:
        """Where it is; empty for nowhere."""
        return "" if self._line is None else self._line.url

    @property
    def waiting(self) -> int:
        """How many users the CMS is yet to be told of."""
        if self._line is None:
            return 0
        return self._line.reports.waiting + self._line.reports.sending

    def move(self, url: str, online: Iterable[str]) -> None:
        """Have another address told, of those who are ``online`` first; empty for none.

        What the old one was not told of it does not hear any more.
        """
        if self._closed:
            return
        self._end()
        self._open(url)
        for user in online:
            self.report(user, True)

    def report(self, user: str, online: bool) -> None:
        """Have the CMS told that a user came or went."""
        if self._line is not None:
            self._line.reports.report(user, online)

    def tick(self, now: float) -> None:
        """Do what is due at ``now``."""
        if self._line is not None:
            self._line.reports.tick(now)

    def close(self) -> Deferred[None]:
        """End: nothing more is told. Fires when every connection is gone."""
        self._closed = True
        self._end()
        return DeferredList(tuple(self._closing)).addCallback(lambda _: None)

    def _open(self, url: str) -> None:
        if not url:
            return
        exchange = Exchange(
            _asking(self._site.callback, url),
            self._reactor,
            SiteStats(),  # Its requests are none of the questions that the site's figures count.
            self._agent,
            answered=range(200, 300),
            quiet=True,
        )
        tell = partial(self._tell, exchange)
        teller = Teller(
            tell,
            exchange.where,
            batch=BATCH,
            gather=GATHER,
            max_waiting=MAX_HOOK_WAITING,
            lost=self._lost,
        )
        self._line = _Line(url, exchange, OnlineReports(teller, self._reactor, self._jitter))

    def _end(self) -> None:
        line, self._line = self._line, None
        if line is None:
            return
        line.reports.close()
        closing = line.exchange.close()
        self._closing.add(closing)
        closing.addCallback(lambda _: self._closing.discard(closing))

    def _lost(self) -> None:
        self._stats.hook_lost += 1

    async def _tell(self, exchange: Exchange, changes: Sequence[Change]) -> None:
        """Post what changed. Raises `CmsUnavailable`."""
        body = encode(
            {
                "site": self._site.name,
                "since": self._since,
                "events": [_event(change) for change in changes],
            }
        )
        headers = {"Content-Type": "application/json"}
        secret = self._site.presence.hook_secret
        if secret:
            digest = hmac.new(secret.encode(), body, "sha256").hexdigest()
            headers[_SIGNATURE] = f"sha256={digest}"
        try:
            await exchange.ask(body, headers, lambda answer, _: None, kind="hook")
        except CmsUnavailable:
            self._stats.hook_failures += 1
            raise


def _event(change: Change) -> dict[str, object]:
    event = "online" if change.online else "offline"
    return {"user": change.user, "event": event, "time": round(change.at * 1000)}


def _asking(callback: CallbackConfig | None, url: str) -> CallbackConfig:
    """Give how an address is asked: like the callback, but one request at a time.

    The password of the callback goes to the callback's own server alone.
    """
    own = callback or CallbackConfig()
    known = _server(own.url) == _server(url)
    return evolve(
        own,
        url=url,
        max_concurrent=1,
        max_waiting=1,
        basic_auth=own.basic_auth if known else None,
    )


def _server(url: str) -> tuple[str, str, int]:
    """Give what tells one server from another: scheme, host and port."""
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    return parts.scheme, parts.hostname or "", port
