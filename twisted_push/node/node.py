"""The life of one site's clients: accepted, let in, kept alive, finished."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from secrets import token_urlsafe
from uuid import uuid4

from attrs import frozen
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from twisted_push.cms.grants import token_digest
from twisted_push.errors import CLOSE_REASONS, Disconnect, EngineUnavailable, Overtaken, Refused
from twisted_push.interfaces import ICodec, IEngineEvents, ITransport
from twisted_push.model import (
    ClientInfo,
    ClientRequest,
    ConnectRequest,
    Grant,
    PresenceList,
    Publication,
    StreamPosition,
)
from twisted_push.node.arbiter import Arbiter
from twisted_push.node.arrivals import Arrival
from twisted_push.node.backend import Backend
from twisted_push.node.channels import Channels, Joined
from twisted_push.node.content import Content
from twisted_push.node.context import Context
from twisted_push.node.online import Online
from twisted_push.node.renewals import EXPIRY_GRACE, Renewals
from twisted_push.policy import Policy
from twisted_push.session import Dialect, Kind, Session, State, Subscription
from twisted_push.wheel import Wheel
from twisted_push.wires import Wires

__all__ = ["Connected", "Node"]

TICK = 0.25
"""Seconds between two looks at the wheel of deadlines."""

DRAIN_TICK = 0.1
"""Seconds between two groups of clients that are told to come back."""

DRAIN_GROUP = 20
"""Smallest group of clients to be told at once: few clients are not made to wait."""

CHECKS = 32
"""Sessions that are looked at in one step: many may have come at once, and be due at once."""

_CODES = range(100, 600)
"""Codes of errors, and HTTP statuses."""

_log = Logger()


@frozen
class Connected:
    """The answer to a connect: the grant, and subscriptions that go live after the reply.

    ``taken`` are the channels that the CMS took from the client while it connected.
    """

    grant: Grant
    joined: tuple[Joined, ...]
    taken: frozenset[str]


@implementer(IEngineEvents)
class Node:
    """One site: its clients, its channels, and what its CMS may ask (``backend``).

    ``engine_fault`` says why the engine does not work, if it does not.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.channels = Channels(context)
        self.backend = Backend(context, self.channels, self.finish)
        self.arbiter = Arbiter(context, self.channels, self.backend.publish, self.finish)
        self.content = Content(context, self.channels, self.backend.publish)
        self.online = Online(context)
        self.renewals = Renewals(context, self.channels, self.online, self.finish)
        self.sessions: set[Session] = set()
        self.sockets: dict[str, Session] = {}
        self.engine_fault = "the engine is not running"
        self._wheel: Wheel[Session] = Wheel(TICK)
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = context.clock

    async def start(self) -> None:
        """Begin. Raises EngineUnavailable."""
        await self.context.engine.start(self)
        self.engine_fault = ""
        self._ticking.start(TICK, now=False)

    async def stop(self) -> None:
        """End, after `drain`."""
        self._silence()
        for session in tuple(self.sessions):
            self.finish(session, Disconnect(3001))
        self.channels.presence.close()
        self.channels.fan_out.close()
        self.context.share.close()
        if self._ticking.running:
            self._ticking.stop()
        self.renewals.close()
        self.context.book.close()
        await self.context.gate.close()
        await self.context.engine.stop()

    async def drain(self, seconds: float) -> None:
        """Tell every client to come back, a group at a time, spread over up to ``seconds``."""
        self._silence()
        rounds = max(1, int(seconds / DRAIN_TICK))
        group = max(DRAIN_GROUP, -(-len(self.sessions) // rounds))
        while self.sessions:
            for session in tuple(self.sessions)[:group]:
                self.finish(session, Disconnect(3001))
            if self.sessions:
                await deferLater(self.context.clock, DRAIN_TICK)

    def _silence(self) -> None:
        """Tell nobody of who leaves from now on: all are sent away, and come back."""
        self.content.silence()
        self.online.silence()
        self.channels.presence.silence()

    def of_socket(self, name: str) -> Session | None:
        """Give the session that its client knows by this id.

        It is the client id, but for the clients in ``sockets``: their library takes the secret.
        """
        return self.sockets.get(name) or self.context.hub.clients.get(name)

    def reconfigure(self, policy: Policy) -> None:
        """Take a new policy: keys, origins, namespaces, limits."""
        self.context.policy = policy

    @property
    def max_outbox(self) -> int:
        """Bytes that may wait for one client."""
        return self.context.policy.limits.max_outbox

    @property
    def wires(self) -> Wires:
        """Where a fan-out finds what it may write to at once."""
        return self.context.wires

    # --- Sessions ----------------------------------------------------------------------------

    def accept(self, transport: ITransport, codec: ICodec, dialect: Dialect) -> Session:
        """Take in a connection; it must present itself within ``stale_close_delay``."""
        now = self.context.clock.seconds()
        limits = self.context.policy.limits
        session = Session(
            client=str(uuid4()),
            secret=token_urlsafe(18),
            transport=transport,
            codec=codec,
            dialect=dialect,
            owner=self,
            opened_at=now,
        )
        # From here on, not from the connect: the peers of some transports count it from here.
        session.next_ping = now + limits.ping_interval
        self.sessions.add(session)
        self.channels.arrivals.came(session)
        self.context.stats.accepted[transport.request.transport] += 1
        self._wheel.add(session, now + limits.stale_close_delay)
        return session

    def finish(self, session: Session, disconnect: Disconnect | None, why: str = "") -> None:
        """End a session, whatever the cause; a second time does nothing.

        ``why`` says in the log what the client did wrong, or why it was not let in; an end that
        is part of normal work has none and is only counted.
        """
        if session.closed:
            return
        if disconnect is not None and why:
            self.log_refusal(session.transport.request, disconnect.code, why)
        session.state = State.CLOSED
        self.channels.silence(session)
        self.sessions.discard(session)
        self.sockets.pop(session.secret, None)
        self.channels.arrivals.left(session)
        self._wheel.discard(session)
        self.context.hub.remove(session)
        self.renewals.left(session)
        returning = disconnect is None or disconnect.reconnect
        for channel in tuple(session.subscriptions):
            self.channels.leave(session, channel, returning=returning)
        self.online.left(session)
        session.waiting = None
        self.context.stats.closed[disconnect.code if disconnect else 0] += 1
        if disconnect is not None:
            session.close_transport(disconnect)
        if session.work is not None:
            session.work.cancel()

    def finish_later(self, session: Session, disconnect: Disconnect, why: str = "") -> None:
        self.context.clock.callLater(0, self.finish, session, disconnect, why)

    def log_refusal(self, request: ClientRequest, code: int, why: str) -> None:
        """Say why a client was refused or closed, without its secrets."""
        known = code if code in _CODES or code in CLOSE_REASONS else "another code"
        self.context.book.tell(
            _log,
            "info",
            f"{self.context.name}: client refused: {known}",
            "{site}: client refused: {code} {why}, from {address}",
            site=self.context.name,
            code=code,
            why=why,
            address=request.address,
        )

    def allow(self, session: Session) -> bool:
        rate = self.context.policy.limits.max_commands_per_second
        if session.allow(self.context.clock.seconds(), rate):
            return True
        self.finish(session, Disconnect(3013), "too many commands")
        return False

    async def connect(
        self, session: Session, request: ConnectRequest, since: Mapping[str, StreamPosition]
    ) -> Connected:
        """Let a client in and give it the channels of its grant.

        Raises what `IAuthenticator.authenticate` fails with; where the engine fails after the
        grant, Disconnect(3004): the client comes back.
        """
        if session.state is not State.NEW:
            raise Disconnect(3501, "a second connect")
        session.state = State.CONNECTING
        with self.channels.arrivals.arriving(session, request.token) as arrival:
            try:
                grant = await self._identify(arrival, request)
            except Refused:
                session.state = State.NEW  # It may try again before it is stale.
                raise
            self.context.policy.check_user(grant.user)
            # In the turn of the answer: from here on a kick or a logout finds this session.
            self._admit(arrival, grant, request)
            try:
                joined = await self.channels.join_granted(arrival, grant, since)
                listed = await self.online.listed(grant.user)
            except EngineUnavailable as error:
                self.context.engine_failed(error)
                raise Disconnect(3004) from None
        self._connected(session, listed)
        return Connected(grant, joined, frozenset(arrival.taken))

    async def refresh(self, session: Session, request: ConnectRequest) -> Grant:
        """Take a new token of a connected client. Raises as `connect`."""
        with self.channels.arrivals.arriving(session, request.token) as arrival:
            grant = await self._identify(arrival, request)
            if grant.user != session.user:
                raise Disconnect(3500, "a token of another user")
            self.context.hub.remove(session)
            self.renewals.left(session)
            self._admit(arrival, grant, request)
        self.online.refreshed(session)
        self.content.refreshed(session)
        self.look_at(session)
        return grant

    async def _identify(self, arrival: Arrival, request: ConnectRequest) -> Grant:
        """Find out who a client is. Raises what `IAuthenticator.authenticate` fails with.

        Whom a kick meant that came meanwhile is sent away by it; the CMS is asked once more about
        others whose answer it beat: whom it spared, and who came after it to an older question.
        """
        try:
            return await self.context.gate.authenticate(request)
        except Overtaken as kick:
            digest = token_digest(request.token) if request.token else None
            self.channels.arrivals.check_kick(arrival, kick, digest)
        try:
            return await self.context.gate.authenticate(request)
        except Overtaken:
            raise Disconnect(3004) from None

    def _admit(self, arrival: Arrival, grant: Grant, request: ConnectRequest) -> None:
        """Take in who a client is. Raises Disconnect if it was sent away meanwhile."""
        session = arrival.session
        session.grant = grant
        session.user = grant.user
        session.token_digest = token_digest(request.token) if request.token else None
        self.context.hub.add(session)
        self.renewals.begin(session, request)
        self.channels.arrivals.admit(arrival, grant.issued_at)
        self.context.policy.check_connections(grant.user, len(self.context.hub.users[grant.user]))

    def _connected(self, session: Session, listed: PresenceList | None) -> None:
        session.state = State.CONNECTED
        session.connected_at = self.context.clock.seconds()
        self.context.stats.connects += 1
        self.online.arrived(session, listed)
        self.look_at(session)

    # --- Deadlines ---------------------------------------------------------------------------

    def look_at(self, session: Session) -> None:
        """Put a connected session on the wheel for its next deadline."""
        dues = [session.next_ping]
        if session.pong_due is not None:
            dues.append(session.pong_due)
        self.renewals.look_at(session)
        end = self.renewals.end(session)
        if end is not None:
            dues.append(end)
        dues += [due for _, due in _deadlines(session)]
        self._wheel.add(session, min(dues))

    def _tick(self) -> None:
        now = self.context.clock.seconds()
        self.channels.tick(now)
        self.content.tick(now)
        self.online.tick(now)
        self.renewals.tick(now)
        due = self._wheel.due(now)
        if due and self._check_some(due):
            self.context.share.add(partial(self._check_some, due))

    def _check_some(self, due: set[Session]) -> bool:
        """Look at some of the sessions that are due; tell whether there are more."""
        now = self.context.clock.seconds()
        for _ in range(min(len(due), CHECKS)):
            session = due.pop()
            if not session.closed:
                self._check(session, now)
        return bool(due)

    def _check(self, session: Session, now: float) -> None:
        limits = self.context.policy.limits
        if session.state is State.NEW and now >= session.opened_at + limits.stale_close_delay:
            self.finish(session, Disconnect(3502), "no connect in time")
        elif session.state is not State.CONNECTED:
            self._wheel.add(session, now + limits.stale_close_delay)
        elif session.pong_due is not None and now >= session.pong_due:
            self.finish(session, Disconnect(3012))
        elif (end := self.renewals.end(session)) is not None and now >= end:
            self.finish(session, Disconnect(3005))
        else:
            self._keep_up(session, now)

    def _keep_up(self, session: Session, now: float) -> None:
        limits = self.context.policy.limits
        for subscription, due in _deadlines(session):
            if now >= due and due == subscription.renew_at:
                self.arbiter.renew(session, subscription)
            elif now >= due:
                self.channels.end(session, subscription.channel)
            if session.closed:
                return  # The CMS answered in the same turn, and said so.
        if now >= session.next_ping:
            session.next_ping = now + limits.ping_interval
            if session.pong_due is None:
                session.pong_due = now + limits.pong_timeout
            session.deliver(session.codec.ping())
        self.look_at(session)

    # --- What the engine tells (`IEngineEvents`) ---------------------------------------------

    def publication_received(self, publication: Publication) -> int:
        return self.channels.deliver(publication)

    def reset(self, channel: str, position: StreamPosition) -> None:
        self.channels.reset(channel)

    def joined(self, channel: str, info: ClientInfo) -> None:
        self.channels.tell_joined(channel, info)

    def left(self, channel: str, info: ClientInfo) -> None:
        self.channels.tell_left(channel, info)

    def state(self, connected: bool, why: str) -> None:
        self.engine_fault = "" if connected else why
        _log.warn("{site}: engine: {why}", site=self.context.name, why=why)


def _grace(subscription: Subscription) -> float:
    """Give the seconds for which a subscription outlives its end: only a client can renew its."""
    return EXPIRY_GRACE if subscription.kind is Kind.CLIENT else 0.0


def _deadlines(session: Session) -> list[tuple[Subscription, float]]:
    """Give the subscriptions that end, with the time at which they are renewed or ended."""
    found = []
    for subscription in session.subscriptions.values():
        if subscription.expires_at is not None:
            end = subscription.expires_at + _grace(subscription)
            renew_at = subscription.renew_at
            found.append((subscription, end if renew_at is None else min(end, renew_at)))
    return found
