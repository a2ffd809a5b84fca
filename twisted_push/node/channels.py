"""Who receives what: subscriptions from their making to their end, and the fan-out."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import ExitStack

from attrs import evolve, frozen
from twisted.logger import Logger

from twisted_push.cms.changes import overlaid
from twisted_push.errors import Disconnect, Refused
from twisted_push.hub import Crowd
from twisted_push.interfaces import ICodec
from twisted_push.model import (
    ChannelGrant,
    ClientInfo,
    Grant,
    Publication,
    Recovered,
    StreamPosition,
)
from twisted_push.node.arrivals import Arrival, Arrivals, Wish
from twisted_push.node.context import Context
from twisted_push.node.fanout import FanOut
from twisted_push.node.interests import Interests
from twisted_push.node.presence import Presence
from twisted_push.session import Kind, Session, State, Subscription

__all__ = ["Channels", "Joined"]

_log = Logger()


@frozen
class Joined:
    """A subscription that is made but not live: see `Channels.go_live`.

    ``recovered`` is None for a channel without history.
    """

    subscription: Subscription
    recovered: Recovered | None
    was_recovering: bool


class Channels:
    """The subscriptions of one site. ``arrivals`` are the clients and channels on their way.

    ``given`` has what the CMS gives to clients between their grant and the reply that tells of it,
    in which they are told of this, too. ``on_leave`` is called whenever a client has a channel no
    more.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self.on_leave: Callable[[Session, str], None] | None = None
        self.arrivals = Arrivals()
        self.given: dict[Session, list[Joined]] = {}
        self.presence = Presence(context)
        self.interests = Interests(context, self.reset)
        self.fan_out = FanOut(context.share, context.wires)
        self._making: dict[str, list[Subscription]] = {}

    async def join(
        self,
        session: Session,
        subscription: Subscription,
        since: StreamPosition | None = None,
        wish: Wish | None = None,
    ) -> Joined:
        """Make a subscription; what is published meanwhile is collected in its buffer.

        Raises Refused (103 if the CMS took the channel; 105, 106, 107) and EngineUnavailable. The
        caller tells the client, then lets the subscription go live in the same turn: so nothing is
        lost, doubled or early.
        """
        context = self._context
        channel = subscription.channel
        context.policy.check_channel(channel)
        if session.closed or (wish is not None and wish.taken):
            raise Refused(103)
        if channel in session.subscriptions:
            raise Refused(105)
        context.policy.check_channel_count(len(session.subscriptions))
        session.subscriptions[channel] = subscription
        self._making.setdefault(channel, []).append(subscription)
        try:
            await self.interests.care(channel)
            recovered = await self._recover(channel, since)
        except BaseException:
            if session.subscriptions.get(channel) is subscription:
                self.leave(session, channel)
            raise
        if session.subscriptions.get(channel) is not subscription:
            raise Refused(103)  # It was taken away while it was being made.
        if recovered is not None:
            subscription.position = recovered.position
            self.interests.begins(channel, recovered.position)
        return Joined(subscription, recovered, was_recovering=since is not None)

    async def join_granted(
        self, arrival: Arrival, grant: Grant, since: Mapping[str, StreamPosition]
    ) -> tuple[Joined, ...]:
        """Join the channels of a grant, and what the CMS gives meanwhile.

        What it took meanwhile, or what cannot be joined, is left out. Raises EngineUnavailable.
        """
        session = arrival.session
        given = self.given[session] = []
        joined: list[Joined] = []
        left_out: list[tuple[str, Refused]] = []
        try:
            for channel, granted in (await self.granted(grant)).items():
                if channel in session.subscriptions or channel in arrival.taken:
                    continue
                subscription = Subscription.granted(channel, granted)
                try:
                    joined.append(await self.join(session, subscription, since.get(channel)))
                except Refused as error:
                    left_out.append((channel, error))
        finally:
            del self.given[session]
        if left_out:
            self._log_left_out(left_out)
        here = session.subscriptions
        return tuple(
            each
            for each in (*joined, *given)
            if here.get(each.subscription.channel) is each.subscription
        )

    def _log_left_out(self, left_out: Sequence[tuple[str, Refused]]) -> None:
        channel, why = left_out[0]
        _log.warn(
            "{site}: {count} granted channels were left out, the first {channel!r}: {why}",
            site=self._context.name,
            count=len(left_out),
            channel=channel[:80],
            why=why,
        )

    async def granted(self, grant: Grant) -> Mapping[str, ChannelGrant]:
        """Give the channels of a grant as the CMS changed them since it gave it."""
        channels = self._context.policy.granted_channels(grant)
        if grant.user:
            overlays = await self._context.engine.overlays(grant.user)
            channels = overlaid(channels, overlays, grant)
        now = self._context.clock.seconds()
        return {name: each for name, each in channels.items() if not each.over(now)}

    async def regrant(
        self, session: Session, old: Grant, new: Grant, but_for: Container[str] = ()
    ) -> None:
        """Give a client the channels of a new grant; take those that only the old one has.

        Those in ``but_for`` the CMS took since it was asked.

        What it got by other ways stays, and what the CMS takes meanwhile is taken. Raises
        EngineUnavailable.
        """
        if new.channels_said_at == old.channels_said_at:
            return  # It was renewed, and nothing said of them.
        policy = self._context.policy
        before, after = policy.granted_channels(old), policy.granted_channels(new)
        left_out: list[tuple[str, Refused]] = []
        with ExitStack() as wishing:
            wishes = {
                channel: wishing.enter_context(self.arrivals.wishing(session, channel))
                for channel in after
            }
            channels = await self.granted(new)
            for channel in before.keys() - channels.keys():
                self._take_granted(session, channel)
            for channel, wish in wishes.items():
                if session.closed or channel in session.subscriptions or channel not in channels:
                    continue
                if channel in but_for:
                    continue
                subscription = Subscription.granted(channel, channels[channel])
                try:
                    joined = await self.join(session, subscription, wish=wish)
                except Refused as error:
                    left_out.append((channel, error))
                else:
                    self.tell_subscribed(session, joined)
        if left_out and not session.closed:
            self._log_left_out(left_out)

    def _take_granted(self, session: Session, channel: str) -> None:
        """Take a channel that was granted, if the client has it by that, or is about to."""
        had = session.subscriptions.get(channel)
        if session in self.given if had is None else had.kind is Kind.GRANTED:
            self.take(session, channel)

    def take(self, session: Session, channel: str) -> None:
        """Take a channel from a client for the CMS, also one that it is only about to get."""
        self.arrivals.take(session, channel)
        if self.leave(session, channel) is None:
            return
        session.withdraw(channel)
        if session not in self.given:
            session.deliver(session.codec.unsubscribed(channel, 2000, "server unsubscribe"))

    def end(self, session: Session, channel: str) -> None:
        """End a subscription whose time is over; the client may ask for it again."""
        if self.leave(session, channel) is not None:
            session.deliver(session.codec.unsubscribed(channel, 2501, "subscription expired"))

    async def _recover(self, channel: str, since: StreamPosition | None) -> Recovered | None:
        """Find out where a client begins, and what it missed. None without history."""
        engine, policy = self._context.engine, self._context.policy
        namespace = policy.namespace(channel)
        if not namespace.history_size:
            return None
        if since is None:
            return await engine.since(channel, None, 0)
        if not namespace.recover:
            return evolve(await engine.since(channel, None, 0), complete=False)
        if namespace.recovery_mode == "cache":
            found = await engine.history(channel, None, 1, True)
            if found.position.offset:
                return _latest(found, since)
            # Nothing to give: the engine tells whether there never was.
            return evolve(found, complete=(await engine.since(channel, since, 0)).complete)
        limit = policy.limits.recovery_max_publication_limit
        return await engine.since(channel, since, limit)

    def go_live(self, session: Session, subscription: Subscription) -> None:
        """Deliver from now on, first what came while the subscription was being made."""
        channel = subscription.channel
        if session.subscriptions.get(channel) is not subscription:
            return
        buffered, subscription.buffer = subscription.buffer or [], None
        self._made(subscription)
        self._context.hub.join(channel, session)
        self.fan_out.joined(channel)
        top = subscription.position.offset if subscription.position else 0
        for publication in buffered:
            if publication.exclude == session.client:
                continue
            if publication.position is None or publication.position.offset > top:
                session.deliver(session.codec.publication(publication), channel)
        self.presence.enter(session, channel)

    def tell_subscribed(self, session: Session, joined: Joined) -> None:
        """Tell a client of a subscription that it did not ask for, and let it go live.

        A client that is not told yet that it is connected, is told of this with that.
        """
        subscription = joined.subscription
        if session in self.given:
            self.given[session].append(joined)
            return
        recoverable = self._context.policy.namespace(subscription.channel).recover
        missed = joined.recovered.publications if joined.recovered else ()
        frame = session.codec.subscribed(
            subscription.channel,
            _before(missed) or subscription.position,
            subscription.data,
            recoverable,
        )
        session.deliver(frame, subscription.channel)
        for publication in missed:
            session.deliver(session.codec.publication(publication), subscription.channel)
        self.go_live(session, subscription)
        if session.state is State.CONNECTED:
            session.owner.look_at(session)

    def silence(self, session: Session) -> None:
        """Give a client nothing more of any channel, whatever fails while it ends.

        Its descriptor may soon be that of another, who must not get what is meant for it.
        """
        for channel, subscription in session.subscriptions.items():
            self._silence(session, channel, subscription)

    def _silence(self, session: Session, channel: str, subscription: Subscription) -> None:
        if subscription.buffer is None:
            self._context.hub.leave(channel, session)
            self.fan_out.left(channel, session)

    def leave(
        self, session: Session, channel: str, *, returning: bool = False
    ) -> Subscription | None:
        """End a subscription, live or not; nothing of its channel is delivered after this.

        ``returning``: the connection is lost, and the client may come back.
        """
        subscription = session.subscriptions.get(channel)
        if subscription is None:
            return None
        info = session.info(channel)
        del session.subscriptions[channel]
        self._silence(session, channel, subscription)
        session.forget_channel(channel)
        if subscription.renewal is not None:
            subscription.renewal.cancel()
        if subscription.buffer is not None:
            self._made(subscription)
        elif subscription.present:
            self.presence.leave(session, channel, info, returning)
        self.interests.care_less(channel)
        if self.on_leave is not None:
            self.on_leave(session, channel)
        return subscription

    # --- The fan-out -------------------------------------------------------------------------

    def deliver(self, publication: Publication) -> int:
        """Give a publication to every client of its channel; give their number.

        It is encoded once for each codec in use. Nothing is awaited between the engine's
        announcement and the last delivery, which keeps the order of a channel.
        """
        channel = publication.channel
        if publication.position is not None:
            self.interests.announced(channel, publication.position)
        for subscription in self._making.get(channel, ()):
            if subscription.buffer is not None:
                subscription.buffer.append(publication)
        recipients = self._fan_out(
            channel,
            lambda codec: codec.publication(publication),
            publication.exclude,
            len(publication.data),
        )
        stats = self._context.stats
        stats.publications += 1
        stats.deliveries += recipients
        return recipients

    def tell_joined(self, channel: str, info: ClientInfo) -> None:
        """Tell the clients of a channel that one joined, where the namespace has it so."""
        if self._context.policy.namespace(channel).join_leave:
            self._fan_out(channel, lambda codec: codec.joined(channel, info))

    def tell_left(self, channel: str, info: ClientInfo) -> None:
        """Tell the clients of a channel that one left, where the namespace has it so."""
        if self._context.policy.namespace(channel).join_leave:
            self._fan_out(channel, lambda codec: codec.left(channel, info))

    def _fan_out(
        self,
        channel: str,
        encode: Callable[[ICodec], bytes | None],
        exclude: str = "",
        size: int = 0,
    ) -> int:
        """Give every client of a channel its codec's frame, encoded once; give their number.

        The client with the id ``exclude`` is left out.
        """
        hub = self._context.hub
        left_out = hub.clients.get(exclude) if exclude else None
        if left_out is None:
            return self.fan_out.send(channel, lambda: hub.of_channel(channel), encode, size=size)
        others = Crowd(each for each in hub.of_channel(channel) if each is not left_out)
        return self.fan_out.send(channel, lambda: others, encode, whole=False, size=size)

    def reset(self, channel: str) -> None:
        """Send the clients of a channel away to come back and recover: something may be missing."""
        self.interests.begin_anew(channel)
        for session in self._context.hub.of_channel(channel):
            session.end_later(Disconnect(3010))

    def tick(self, now: float) -> None:
        """Do what is due."""
        self.interests.tick(now)
        self.presence.tick(now)

    def _made(self, subscription: Subscription) -> None:
        making = self._making[subscription.channel]
        making.remove(subscription)
        if not making:
            del self._making[subscription.channel]


def _latest(found: Recovered, since: StreamPosition) -> Recovered:
    """Give the answer to a client that wants the latest publication alone, and not again.

    It is complete if that is there, or if the client has it already.
    """
    if found.position == since:
        return evolve(found, publications=())
    return evolve(found, complete=bool(found.publications))


def _before(publications: Sequence[Publication]) -> StreamPosition | None:
    """Give where a client stands before it is given these; None if there are none."""
    first = publications[0].position if publications else None
    return None if first is None else StreamPosition(first.offset - 1, first.epoch)
