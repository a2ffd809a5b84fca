"""One client: its state, its subscriptions and its bounded outbox.

States::

    NEW ──connect──▶ CONNECTING ──grant──▶ CONNECTED
     │                   │                     │
     └───────────────────┴──── finish ─────────┴──▶ CLOSED

The session never sees a socket, and knows no wire format: a dialect reads for it, a codec writes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from math import inf
from typing import Protocol, Self

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_push.errors import Disconnect
from twisted_push.interfaces import Buffer, ICodec, ITransport
from twisted_push.model import (
    ChannelGrant,
    ClientInfo,
    ClientRequest,
    ConnectRequest,
    Grant,
    Publication,
    StreamPosition,
)
from twisted_push.wires import NO_DESCRIPTOR, Wires

__all__ = ["MAX_KEPT", "Dialect", "Kind", "Owner", "Session", "State", "Subscription"]

MAX_KEPT = 10_000
"""Most frames that wait for one client, however small: each takes memory besides its bytes."""


class State(Enum):
    """Where a session stands."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    CLOSED = "closed"


class Kind(Enum):
    """Who wanted a subscription."""

    GRANTED = "granted"
    CLIENT = "client"
    CMS = "cms"
    """The client, and the CMS was asked: it is asked again before the end."""
    CONTENT = "content"


@define(eq=False)
class Subscription:
    """One channel of one session.

    ``buffer`` collects what is published while the subscription is being made, and is None once
    it is live. ``position`` is where it began; ``expires_at`` unix seconds; ``present`` whether the
    client was entered as present. ``renew_at`` is when the CMS is asked whether the client may keep
    it, ``renewal`` while it is.
    """

    channel: str
    kind: Kind
    info: bytes | None = None
    data: bytes | None = None
    expires_at: float | None = None
    position: StreamPosition | None = None
    buffer: list[Publication] | None = field(factory=list)
    present: bool = False
    renew_at: float | None = None
    renewal: Deferred[None] | None = None

    @classmethod
    def granted(cls, channel: str, grant: ChannelGrant) -> Self:
        """Make one that the CMS gave."""
        return cls(channel, Kind.GRANTED, grant.info, grant.data, grant.expires_at)


_Kept = tuple[Buffer, str | frozenset[str] | None, bytes | None]
"""A frame in the outbox, the channel or channels it is of, and what is sent without that one."""


def _size_of(outbox: Iterable[_Kept]) -> int:
    return sum(len(frame) for frame, _, _ in outbox)


class Dialect(Protocol):
    """Reads what clients of one family of wire formats send. Shared by all of them."""

    def received(self, session: Session, payload: bytes) -> None:
        """Take one message of a client."""

    def received_binary(self, session: Session) -> None:
        """Take notice of a binary message."""


class Owner(Protocol):
    """Whoever keeps the sessions: the node."""

    @property
    def max_outbox(self) -> int:
        """Bytes that may wait for one client."""

    @property
    def wires(self) -> Wires:
        """Where a fan-out finds what it may write to at once."""

    def finish(self, session: Session, disconnect: Disconnect | None, why: str = "") -> None:
        """End a session, once: None when the client left by itself; ``why`` is for the log."""

    def finish_later(self, session: Session, disconnect: Disconnect, why: str = "") -> None:
        """End it in a later turn: for those who walk over sessions."""

    def allow(self, session: Session) -> bool:
        """Tell whether a client may send one more; one that floods is closed."""

    def look_at(self, session: Session) -> None:
        """Take notice that a deadline of a connected session changed."""


@define(eq=False)
class Session:
    """The server's object for one client.

    ``secret`` names it to the emulation endpoint; ``token_digest`` is what its token is known by.
    ``next_ping`` and ``pong_due`` are times of the node's clock. ``work`` is the command that is
    being carried out, ``waiting`` are those behind it, ``notes`` is what the dialect remembers.
    ``ending`` is set while it is finished in a later turn. ``asked`` is what the CMS was asked when
    it gave a grant with an end. ``descriptor`` is the transport's as long as it is connected; it is
    open in the owner's ``wires`` while nothing is kept and more may be sent.
    """

    client: str
    secret: str = field(repr=False)
    transport: ITransport = field(repr=False)
    codec: ICodec = field(repr=False)
    dialect: Dialect = field(repr=False)
    owner: Owner = field(repr=False)
    opened_at: float
    state: State = field(init=False, default=State.NEW)
    user: str = field(init=False, default="")
    token_digest: bytes | None = field(init=False, default=None, repr=False)
    grant: Grant | None = field(init=False, default=None, repr=False)
    asked: ConnectRequest | None = field(init=False, default=None, repr=False)
    subscriptions: dict[str, Subscription] = field(init=False, factory=dict, repr=False)
    connected_at: float = field(init=False, default=0.0)
    allowance: float = field(init=False, default=inf)
    next_ping: float = field(init=False, default=0.0)
    pong_due: float | None = field(init=False, default=None)
    allowed_at: float = field(init=False)
    ending: bool = field(init=False, default=False)
    work: Deferred[None] | None = field(init=False, default=None, repr=False)
    waiting: deque[object] | None = field(init=False, default=None, repr=False)
    notes: object | None = field(init=False, default=None, repr=False)
    _outbox: deque[_Kept] | None = field(init=False, default=None, repr=False)
    _outbox_bytes: int = field(init=False, default=0)
    """Of what is kept here, and of what the transport kept when it said stop."""
    descriptor: int = field(init=False, repr=False)
    _begun: str | None = field(init=False, default=None, repr=False)
    """The channel of which something is on its way since the transport said stop."""

    @allowed_at.default
    def _allowed_from_the_start(self) -> float:
        return self.opened_at

    @descriptor.default
    def _of_the_transport(self) -> int:
        return self.transport.descriptor

    def __attrs_post_init__(self) -> None:
        if self.descriptor == NO_DESCRIPTOR:
            return
        if self.transport.unsent():
            self.owner.wires.shut(self.descriptor)  # The table has to reach so far.
        else:
            self.owner.wires.open(self.descriptor, self.codec)

    @property
    def closed(self) -> bool:
        """Whether nothing more is to be done for it."""
        return self.state is State.CLOSED

    def info(self, channel: str | None = None) -> ClientInfo:
        """Give what others may learn of this client, in a channel or at large."""
        subscription = self.subscriptions.get(channel) if channel is not None else None
        return ClientInfo(
            self.user,
            self.client,
            self.grant.info if self.grant else None,
            subscription.info if subscription else None,
        )

    def allow(self, now: float, rate: int) -> bool:
        """Take one from the client's allowance of ``rate`` a second, bursts of twice that.

        False when it is used up. A rate of 0 is no limit.
        """
        if not rate:
            return True
        burst = 2.0 * rate
        self.allowance = min(burst, self.allowance + max(0.0, now - self.allowed_at) * rate)
        self.allowed_at = now
        if self.allowance < 1.0:
            return False
        self.allowance -= 1.0
        return True

    # --- Outward -----------------------------------------------------------------------------

    def deliver(
        self,
        frame: Buffer | None,
        channel: str | frozenset[str] | None = None,
        otherwise: bytes | None = None,
    ) -> None:
        """Send a frame, or keep it until the transport can take it; None is nothing to send.

        A frame that is kept goes with its ``channel``: if that is taken away meanwhile,
        ``otherwise`` is sent in its place, or nothing. One that is of several channels cannot go
        without one of them: the client is closed, and comes back.

        A client for which too much is kept, here and in the transport, is closed as slow, in a
        later turn. It is sent nothing until then: what follows a gap would hide the gap. Not for
        one answer alone, however much it recovers: the client would come back for the same.
        """
        if self.ending or frame is None:
            return
        if self._outbox is None:
            self.transport.send(frame)
            if self._outbox is not None:
                self._begun = channel
                if isinstance(channel, str) and otherwise is None:  # What was published.
                    self._outbox_bytes = self.transport.unsent()
                    self._end_if_slow(self._outbox)
            return
        if self.closed:
            return
        self._outbox.append((frame, channel, otherwise))
        self._outbox_bytes += len(frame)
        self._end_if_slow(self._outbox)

    def _end_if_slow(self, outbox: deque[_Kept]) -> None:
        if self._outbox_bytes > self.owner.max_outbox or len(outbox) > MAX_KEPT:
            outbox.clear()
            self.end_later(Disconnect(3008), "it reads too slowly")

    def end_later(self, disconnect: Disconnect, why: str = "") -> None:
        """End this session in a later turn; until then nothing more is delivered to it."""
        if not (self.ending or self.closed):
            self._end()
            self.owner.finish_later(self, disconnect, why)

    def forget_channel(self, channel: str) -> None:
        """Drop what is kept of a channel that the client no longer has."""
        if not self._outbox:
            return
        left: deque[_Kept] = deque()
        for kept in self._outbox:
            _, of, otherwise = kept
            if isinstance(of, frozenset) and channel in of:
                self._outbox.clear()
                self.end_later(Disconnect(3011))
                return
            if of != channel:
                left.append(kept)
            elif otherwise is not None:
                left.append((otherwise, None, None))
        self._outbox_bytes += _size_of(left) - _size_of(self._outbox)
        self._outbox = left

    def withdraw(self, channel: str) -> None:
        """Drop the connection if something is on its way of a channel that was taken away."""
        if self._begun == channel and self.transport.unsent():
            self._end()
            self.transport.abort()

    def _end(self) -> None:
        self.ending = True
        self.owner.wires.shut(self.descriptor)

    def close_transport(self, disconnect: Disconnect) -> None:
        """Say goodbye; nothing that is kept is sent any more, and nothing that is on its way."""
        self.owner.wires.shut(self.descriptor)
        self._outbox = None
        self._outbox_bytes = 0
        if self._begun is not None and self.transport.unsent():
            self.transport.abort()
            return
        for frame in self.codec.closing(disconnect):
            self.transport.send(frame)
        self.transport.close(disconnect)

    def update_info(self, info: bytes) -> None:
        """Change what others may learn of this client."""
        if self.grant is not None:
            self.grant = evolve(self.grant, info=info)

    # --- Inward: what the transport tells (`twisted_push.interfaces.Receiver`) ---------------

    def received(self, payload: bytes) -> None:
        """Take one message of the client (UTF-8 text)."""
        if not self.closed:
            self.dialect.received(self, payload)

    def received_binary(self, payload: bytes) -> None:
        """Take notice of a binary message, which no dialect here has."""
        if not self.closed:
            self.dialect.received_binary(self)

    def allow_frame(self) -> bool:
        """Tell whether a frame that is no message of its own is allowed."""
        return not self.closed and self.owner.allow(self)

    def alive(self) -> None:
        """Take notice of a heartbeat of the transport's own protocol."""
        self.pong_due = None

    def pause(self) -> None:
        """Keep what is sent from now on. Called for every write of a slow client."""
        if self._outbox is None:
            self.owner.wires.shut(self.descriptor)
            self._outbox = deque()

    def resume(self) -> None:
        """Send what was kept, until the transport says stop again."""
        if self.ending:
            return
        kept, self._outbox, self._outbox_bytes = self._outbox, None, 0
        self._begun = None
        while kept and self._outbox is None:
            frame, channel, _ = kept.popleft()
            self.transport.send(frame)
            if self._outbox is not None:
                self._begun = channel
        if self._outbox is None:
            self.owner.wires.open(self.descriptor, self.codec)
        elif kept is not None:
            self._outbox = kept
            self._outbox_bytes = _size_of(kept) + self.transport.unsent()

    def closing(self) -> None:
        """Let nothing more be written past the transport: it is closing, whoever wanted it."""
        self.owner.wires.shut(self.descriptor)

    def lost(self) -> None:
        """The connection is gone."""
        self.closing()
        self.descriptor = NO_DESCRIPTOR  # Another connection may have it at once.
        self.owner.finish(self, None)
        # The transport knows its session: neither would be freed before the collector looks.
        self.transport = _Gone(self.transport.request)


@implementer(ITransport)
@frozen
class _Gone:
    """Stands for a transport whose connection is gone: what is known of it is its request."""

    request: ClientRequest
    descriptor: int = NO_DESCRIPTOR

    def send(self, frame: Buffer) -> None:
        """Nobody reads it."""

    def unsent(self) -> int:
        return 0

    def close(self, disconnect: Disconnect) -> None:
        """It is closed."""

    def abort(self) -> None:
        """It is dropped."""
