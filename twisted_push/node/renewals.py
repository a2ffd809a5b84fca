"""Grants with an end are renewed before it, without the client.

The CMS that let a client in until a certain time is asked again some time before, once for a token
however many of its tabs are here. It may let them stay, with other channels than before, or say no.
If it cannot be asked, they stay for ``serve_stale`` seconds after the end. Clients with signed
tokens bring a new one themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from twisted_push.cms.breaker import Circuit
from twisted_push.errors import (
    CmsUnavailable,
    Disconnect,
    EngineUnavailable,
    PushError,
    Refused,
)
from twisted_push.model import ConnectRequest, Grant
from twisted_push.node.channels import Channels
from twisted_push.node.context import Context
from twisted_push.node.online import Online
from twisted_push.session import Session, State
from twisted_push.wheel import Wheel

__all__ = ["RENEW_AGAIN", "RENEW_FROM", "RENEW_OVER", "Renewals", "renewal_time"]

RENEW_FROM = 0.7
RENEW_OVER = 0.2
"""What has an end is renewed after this part of its life, and somewhere within this part more.

So what was made together, or has one end, does not all come back to the CMS at once.
"""

RENEW_AGAIN = 5.0
"""Least seconds between two attempts, where the CMS does not say; at most twice as many."""

LEAST_LIFE = 1.0
"""Least seconds from one answer to the next question, however soon the end is."""

EXPIRY_GRACE = 25.0
"""Seconds that a client has for bringing a new token after its old one expired."""

GRANULARITY = 0.25
"""Seconds by which a renewal may be late; `Renewals.tick` is called as often."""

Key = bytes | str
"""What is renewed together: the digest of a token, or the id of a client that came without one."""

Taken = Callable[[Session, float], set[str]]
"""Tells which channels the CMS took meanwhile: see `Arrivals.renewing`."""

_log = Logger()


def renewal_time(now: float, end: float, jitter: float) -> float:
    """Give the time at which something that ends is renewed; ``jitter`` is from 0 to 1."""
    return now + max(LEAST_LIFE, (end - now) * (RENEW_FROM + RENEW_OVER * jitter))


@define(eq=False)
class _Entry:
    """One grant: the end that its renewal is timed for, and whether that is under way."""

    end: float
    asking: bool = False


class Renewals:
    """The grants of one site that have an end. ``finish`` is the node's.

    At most ``at_once`` are renewed at a time, or a quarter of the questions that the CMS may be
    asked at once; newcomers have the rest. ``jitter`` gives 0 to 1.
    """

    def __init__(
        self,
        context: Context,
        channels: Channels,
        online: Online,
        finish: Callable[[Session, Disconnect, str], None],
        jitter: Callable[[], float] = random,
    ) -> None:
        self._context = context
        self._channels = channels
        self._online = online
        self._finish = finish
        self._jitter = jitter
        self._entries: dict[Key, _Entry] = {}
        self._due: Wheel[Key] = Wheel(GRANULARITY)
        self._ready: dict[Key, None] = {}
        self._asking: set[Deferred[None]] = set()
        self._beginning = False
        callback = context.policy.site.callback
        self._at_once = max(1, callback.max_concurrent // 4) if callback is not None else 1

    def begin(self, session: Session, request: ConnectRequest) -> None:
        """Take notice that a session has a grant, which it was given for what it presented."""
        grant = session.grant
        session.asked = None
        if grant is not None and grant.expires_at is not None and self._context.gate.asks(request):
            session.asked = request
            self.look_at(session)

    def look_at(self, session: Session) -> None:
        """Take notice that the end of a session's grant may have changed."""
        grant = session.grant
        if session.asked is None or grant is None or grant.expires_at is None:
            return
        key = _key(session)
        entry = self._entries.get(key)
        if entry is None:
            self._entries[key] = entry = _Entry(grant.expires_at)
        elif grant.expires_at >= entry.end or entry.asking:
            return  # If the end is put off, that is seen when the renewal is due.
        entry.end = grant.expires_at
        self._schedule(key, entry.end)

    def left(self, session: Session) -> None:
        """Take notice that a session is over; for those who are not here nothing is renewed."""
        if session.asked is not None and not self._sessions(key := _key(session)):
            self._forget(key)

    def end(self, session: Session) -> float | None:
        """Give the time at which a session is closed as expired; None for never."""
        grant = session.grant
        if grant is None or grant.expires_at is None:
            return None
        if grant.client_refresh:
            return grant.expires_at + EXPIRY_GRACE
        # The CMS would have said no before: it could not be asked.
        stale = self._context.gate.serve_stale if session.asked is not None else 0.0
        return grant.expires_at + stale

    def tick(self, now: float) -> None:
        """Begin with what is due."""
        for key in self._due.due(now):
            self._ready[key] = None
        self._ask_some()

    def close(self) -> None:
        """End: nothing is renewed any more."""
        self._ready.clear()
        for asking in tuple(self._asking):
            asking.cancel()

    # --- Asking ------------------------------------------------------------------------------

    def _ask_some(self) -> None:
        """Begin with those that are ready: a loop, no recursion, for some end at once."""
        if self._beginning:
            return
        self._beginning = True
        while self._ready and self._may_ask:
            key = next(iter(self._ready))
            del self._ready[key]
            asking = Deferred.fromCoroutine(self._renew(key, self._entries[key]))
            self._asking.add(asking)
            asking.addCallback(self._asked, asking)
        self._beginning = False

    @property
    def _may_ask(self) -> bool:
        left_alone = self._context.gate.circuit is Circuit.OPEN
        return not left_alone and len(self._asking) < self._at_once

    def _asked(self, _: None, asking: Deferred[None]) -> None:
        self._asking.discard(asking)
        self._ask_some()

    async def _renew(self, key: Key, entry: _Entry) -> None:
        """Ask about the grant of these sessions, and do what the CMS says."""
        known = [each for each in self._sessions(key) if each.asked is not None and each.grant]
        ends = [each.grant.expires_at for each in known if each.grant and each.grant.expires_at]
        if not ends:
            self._forget(key)
            return
        if min(ends) > entry.end:  # The CMS put it off.
            entry.end = min(ends)
            self._schedule(key, entry.end)
            return
        entry.asking = True
        with self._channels.arrivals.renewing(key) as taken:
            answer = await self._answer(known[0])
            entry.asking = False
            if self._entries.get(key) is not entry:
                return  # All are gone, or came anew.
            if isinstance(answer, Grant):
                await self._take(key, entry, answer, taken)
        if isinstance(answer, PushError):
            self._refused(key, answer)

    async def _answer(self, session: Session) -> Grant | PushError | None:
        """Give what the CMS says, or what that raises; None if this is the end of the server."""
        assert session.asked is not None
        assert session.grant is not None
        try:
            return await self._context.gate.renew(session.asked, session.grant)
        except CancelledError:
            return None
        except (CmsUnavailable, Disconnect, EngineUnavailable, Refused) as error:
            return error
        except Exception:
            _log.failure("{site}: a renewal failed", site=self._context.name)
            return CmsUnavailable("a fault of the server")

    def _refused(self, key: Key, error: PushError) -> None:
        """Close those whose grant is over; ask again later where nobody could say."""
        if isinstance(error, Disconnect):
            self._end(key, error)
        elif isinstance(error, Refused) and not error.temporary:
            self._end(key, Disconnect(3005))
        else:
            pause = error.retry_after if isinstance(error, CmsUnavailable) else None
            delay = max(pause or 0.0, RENEW_AGAIN * (1.0 + self._jitter()))
            self._due.add(key, self._context.clock.seconds() + delay)

    def _end(self, key: Key, disconnect: Disconnect) -> None:
        sessions = self._sessions(key)
        self._forget(key)
        for session in sessions:
            self._finish(session, disconnect, "")

    # --- A new grant -------------------------------------------------------------------------

    async def _take(self, key: Key, entry: _Entry, grant: Grant, taken: Taken) -> None:
        """Give the sessions of a grant the one that follows it."""
        if grant.expires_at is None:
            self._forget(key)
        else:
            entry.end = grant.expires_at
            self._schedule(key, entry.end)
        for session in self._sessions(key):
            if not session.closed:
                await self._give(session, grant, taken)

    async def _give(self, session: Session, grant: Grant, taken: Taken) -> None:
        if grant.user != session.user:
            # It is somebody else now: the client comes back, and is let in as that one.
            self._finish(session, Disconnect(3014), "")
            return
        old, session.grant = session.grant or grant, grant
        if grant.info != old.info:
            self._channels.presence.update(session)
        self._online.refreshed(session)
        try:
            but_for = taken(session, grant.issued_at)
            await self._channels.regrant(session, old, grant, but_for)
        except EngineUnavailable as error:
            self._context.engine_failed(error)
            self._finish(session, Disconnect(3004), "")
        if session.state is State.CONNECTED:
            session.owner.look_at(session)

    # --- Who and when ------------------------------------------------------------------------

    def _sessions(self, key: Key) -> Sequence[Session]:
        hub = self._context.hub
        if isinstance(key, bytes):
            return hub.of_token(key)
        return (hub.clients[key],) if key in hub.clients else ()

    def _schedule(self, key: Key, end: float) -> None:
        now = self._context.clock.seconds()
        if end > now:
            self._due.add(key, renewal_time(now, end, self._jitter()))
        else:  # It serves though it is over, because the CMS could not be asked.
            self._due.add(key, now + RENEW_AGAIN * (1.0 + self._jitter()))

    def _forget(self, key: Key) -> None:
        self._entries.pop(key, None)
        self._ready.pop(key, None)
        self._due.discard(key)


def _key(session: Session) -> Key:
    return session.token_digest if session.token_digest is not None else session.client
