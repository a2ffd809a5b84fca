"""Who receives what: subscriptions from their making to their end, and the fan-out."""

from __future__ import annotations

from collections.abc import Callable, Collection

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_push.errors import Disconnect, EngineUnavailable, Refused
from twisted_push.interfaces import ICodec
from twisted_push.model import ClientInfo, Publication, Recovered, StreamPosition
from twisted_push.node.context import Context
from twisted_push.session import Session, Subscription

__all__ = ["RECOVERY_LIMIT", "Channels", "Connecting", "Joined"]

RECOVERY_LIMIT = 300
"""Most publications that a client recovers in one answer."""

LINGER = 10.0
"""Seconds for which the engine goes on with a channel that nobody here has any more."""

_log = Logger()


@frozen
class Joined:
    """A subscription that is made but not live: see `Channels.go_live`.

    ``recovered`` is None for a channel without history.
    """

    subscription: Subscription
    recovered: Recovered | None
    was_recovering: bool


@define
class _Interest:
    """How many clients here have a channel, or are about to.

    ``asking`` is held by who asks the engine to announce it, and None once it does.
    """

    clients: int = 0
    asking: DeferredLock | None = field(factory=DeferredLock)


@define
class Connecting:
    """What the CMS changes for a client between its grant and the reply that tells of it.

    ``given`` is told in that reply; ``taken`` is not joined any more.
    """

    given: list[Joined] = field(factory=list)
    taken: set[str] = field(factory=set)


class Channels:
    """The subscriptions of one site. ``connecting`` has the clients whose reply is not out."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.connecting: dict[Session, Connecting] = {}
        self._interest: dict[str, _Interest] = {}
        self._lingering: dict[str, float] = {}
        self._making: dict[str, list[Subscription]] = {}

    async def join(
        self, session: Session, subscription: Subscription, since: StreamPosition | None = None
    ) -> Joined:
        """Make a subscription; what is published meanwhile is collected in its buffer.

        Raises Refused (105, 106, 107) and EngineUnavailable. The caller tells the client, then
        lets the subscription go live in the same turn: so nothing is lost, doubled or early.
        """
        context = self._context
        channel = subscription.channel
        context.policy.check_channel(channel)
        if session.closed or channel in self.taken_from(session):
            raise Refused(103)
        if channel in session.subscriptions:
            raise Refused(105)
        context.policy.check_channel_count(len(session.subscriptions))
        session.subscriptions[channel] = subscription
        self._making.setdefault(channel, []).append(subscription)
        try:
            await self._care(channel)
            recovered = await self._recover(channel, since)
        except BaseException:
            self.leave(session, channel)
            raise
        if session.subscriptions.get(channel) is not subscription:
            raise Refused(103)  # It was taken away while it was being made.
        if recovered is not None:
            subscription.position = recovered.position
        return Joined(subscription, recovered, was_recovering=since is not None)

    def taken_from(self, session: Session) -> Collection[str]:
        """Give the channels that the CMS took from a client while it connects."""
        connecting = self.connecting.get(session)
        return connecting.taken if connecting is not None else ()

    async def _recover(self, channel: str, since: StreamPosition | None) -> Recovered | None:
        namespace = self._context.policy.namespace(channel)
        if not namespace.history_size:
            return None
        if since is None or namespace.recover:
            return await self._context.engine.since(channel, since, RECOVERY_LIMIT)
        recovered = await self._context.engine.since(channel, None, RECOVERY_LIMIT)
        return evolve(recovered, complete=False)

    def go_live(self, session: Session, subscription: Subscription) -> None:
        """Deliver from now on, first what came while the subscription was being made."""
        channel = subscription.channel
        if session.subscriptions.get(channel) is not subscription:
            return
        buffered, subscription.buffer = subscription.buffer or [], None
        self._made(subscription)
        self._context.hub.join(channel, session)
        top = subscription.position.offset if subscription.position else 0
        for publication in buffered:
            if publication.position is None or publication.position.offset > top:
                session.deliver(session.codec.publication(publication), channel)
        if self._has_presence(channel):
            subscription.present = True
            self._watch(self._context.engine.presence_add(channel, session.info(channel)))

    def leave(self, session: Session, channel: str) -> Subscription | None:
        """End a subscription, live or not; nothing of its channel is delivered after this."""
        subscription = session.subscriptions.get(channel)
        if subscription is None:
            return None
        info = session.info(channel)
        del session.subscriptions[channel]
        session.forget_channel(channel)
        if subscription.buffer is not None:
            self._made(subscription)
        else:
            self._context.hub.leave(channel, session)
            if subscription.present:
                self._watch(self._context.engine.presence_remove(channel, info))
        self._care_less(channel)
        return subscription

    def update_presence(self, session: Session) -> None:
        """Tell the engine what is now known of a client."""
        for channel, subscription in session.subscriptions.items():
            if subscription.present:
                self._watch(self._context.engine.presence_add(channel, session.info(channel)))

    # --- The fan-out -------------------------------------------------------------------------

    def deliver(self, publication: Publication) -> int:
        """Give a publication to every client of its channel; give their number.

        It is encoded once for each codec in use. Nothing is awaited between the engine's
        announcement and the last delivery, which keeps the order of a channel.
        """
        channel = publication.channel
        for subscription in self._making.get(channel, ()):
            if subscription.buffer is not None:
                subscription.buffer.append(publication)
        recipients = self._fan_out(channel, lambda codec: codec.publication(publication))
        self._context.stats.publications += 1
        self._context.stats.deliveries += recipients
        return recipients

    def tell_joined(self, channel: str, info: ClientInfo) -> None:
        """Tell the clients of a channel that one joined, where the namespace has it so."""
        if self._context.policy.namespace(channel).join_leave:
            self._fan_out(channel, lambda codec: codec.joined(channel, info))

    def tell_left(self, channel: str, info: ClientInfo) -> None:
        """Tell the clients of a channel that one left, where the namespace has it so."""
        if self._context.policy.namespace(channel).join_leave:
            self._fan_out(channel, lambda codec: codec.left(channel, info))

    def _fan_out(self, channel: str, encode: Callable[[ICodec], bytes]) -> int:
        """Give every client of a channel its codec's frame, encoded once; give their number."""
        frames: dict[ICodec, bytes] = {}
        sessions = tuple(self._context.hub.of_channel(channel))
        for session in sessions:
            codec = session.codec
            frame = frames.get(codec)
            if frame is None:
                frame = frames[codec] = encode(codec)
            session.deliver(frame, channel)
        return len(sessions)

    def reset(self, channel: str) -> None:
        """Send the clients of a channel away to come back and recover: something may be missing."""
        for session in tuple(self._context.hub.of_channel(channel)):
            session.end_later(Disconnect(3010))

    # --- The engine's side -------------------------------------------------------------------

    async def _care(self, channel: str) -> None:
        """Return when the engine announces a channel here, for whichever client that was asked."""
        interest = self._interest.setdefault(channel, _Interest())
        interest.clients += 1
        if self._lingering.pop(channel, None) is not None:
            interest.asking = None
        asking = interest.asking
        if asking is None:
            return
        await asking.acquire()
        try:
            if interest.asking is not None:
                await self._context.engine.subscribe(channel)
                interest.asking = None
        finally:
            asking.release()

    def _care_less(self, channel: str) -> None:
        interest = self._interest[channel]
        interest.clients -= 1
        if interest.clients:
            return
        del self._interest[channel]
        if interest.asking is None:  # Else the engine was never heard to announce it.
            self._lingering[channel] = self._context.clock.seconds() + LINGER

    def drop_lingering(self, now: float) -> None:
        """Have the engine forget the channels that nobody came back to."""
        for channel in [name for name, until in self._lingering.items() if until <= now]:
            del self._lingering[channel]
            self._watch(self._context.engine.unsubscribe(channel))

    def _made(self, subscription: Subscription) -> None:
        making = self._making[subscription.channel]
        making.remove(subscription)
        if not making:
            del self._making[subscription.channel]

    def _has_presence(self, channel: str) -> bool:
        namespace = self._context.policy.namespace(channel)
        return namespace.presence or namespace.join_leave

    def _watch(self, doing: Deferred[None]) -> None:
        doing.addErrback(self._engine_failed)

    def _engine_failed(self, failure: Failure) -> None:
        failure.trap(EngineUnavailable)
        _log.warn("{site}: the engine failed: {why}", site=self._context.name, why=failure.value)
