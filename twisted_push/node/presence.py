"""Who is in a channel, as the engine is told of it.

A client whose connection is lost may be a page that changes: it stays present for some seconds
(``presence.online_grace``), so that its user never vanishes in between. One that was sent away, or
that left the channel, is gone at once.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field

from twisted_push.model import ClientInfo
from twisted_push.node.context import Context
from twisted_push.session import Session
from twisted_push.wheel import Wheel

__all__ = ["Gone", "Presence"]

GRANULARITY = 0.25
"""Seconds by which a client may be present too long; `Presence.tick` is called as often."""


@define(eq=False)
class Gone:
    """A client whose connection is lost: what it was known by, and the channels it is present in.

    The session itself is not kept.
    """

    client: str
    user: str
    secret: str = field(repr=False)
    token_digest: bytes | None = field(repr=False)
    channels: dict[str, ClientInfo] = field(init=False, factory=dict)


class Presence:
    """Enters the clients of one site as present, and takes them out.

    At most ``limits.max_connections`` clients that are gone are present all the same.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._leaving: dict[str, Gone] = {}
        self._due: Wheel[str] = Wheel(GRANULARITY)
        self._silent = False

    def silence(self) -> None:
        """Take out nobody who may come back: the server stops, and its clients do."""
        self._silent = True

    def enter(self, session: Session, channel: str) -> None:
        """Enter a client, where the channel's namespace has presence."""
        namespace = self._context.policy.namespace(channel)
        if namespace.presence or namespace.join_leave:
            session.subscriptions[channel].present = True
            self._add(session, channel)

    def update(self, session: Session) -> None:
        """Tell the engine what is now known of a client."""
        for channel, subscription in session.subscriptions.items():
            if subscription.present:
                self._add(session, channel)

    def _add(self, session: Session, channel: str) -> None:
        adding = self._context.engine.presence_add(channel, session.info(channel))
        self._context.watch(adding)

    def leave(self, session: Session, channel: str, info: ClientInfo, returning: bool) -> None:
        """Take out a client that was entered; one that may be ``returning`` after the grace."""
        grace = self._context.policy.site.presence.online_grace
        gone = self._leaving.get(session.client)
        room = gone or len(self._leaving) < self._context.policy.limits.max_connections
        if not (returning and (self._silent or (grace and room))):
            self._context.watch(self._context.engine.presence_remove(channel, info))
            return
        if gone is None:
            gone = Gone(session.client, session.user, session.secret, session.token_digest)
            self._leaving[session.client] = gone
            self._due.add(session.client, self._context.clock.seconds() + grace)
        gone.channels[channel] = info

    def forget(self, meant: Callable[[Gone], bool], channel: str | None = None) -> None:
        """Take out the clients that are ``meant`` of those that are gone: from one channel or all.

        For the CMS, which took the channel from them or wants them away.
        """
        for gone in [each for each in self._leaving.values() if meant(each)]:
            self._take_out(gone, channel)

    def tick(self, now: float) -> None:
        """Take out those whose grace is over."""
        if self._silent:
            return
        for client in self._due.due(now):
            self._take_out(self._leaving[client])

    def close(self) -> None:
        """Take out everybody who is gone: the server stops."""
        self.forget(lambda gone: True)

    def _take_out(self, gone: Gone, channel: str | None = None) -> None:
        for name in [channel] if channel is not None else list(gone.channels):
            info = gone.channels.pop(name, None)
            if info is not None:
                self._context.watch(self._context.engine.presence_remove(name, info))
        if not gone.channels:
            del self._leaving[gone.client]
            self._due.discard(gone.client)
