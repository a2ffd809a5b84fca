"""What a contributor implements: a transport, a codec, an authenticator, an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from twisted_push.errors import Disconnect
from twisted_push.model import (
    ChannelOverlay,
    ClientInfo,
    ClientRequest,
    ConnectRequest,
    ContentToken,
    Grant,
    PresenceList,
    Publication,
    Published,
    PublishOptions,
    Recovered,
    StreamPosition,
)

__all__ = [
    "Buffer",
    "IAuthenticator",
    "ICodec",
    "IEngine",
    "IEngineEvents",
    "ITransport",
    "Receiver",
]


Buffer = bytes | memoryview
"""Frames that many clients share, or a view of what is left of them for one of these."""


class Receiver(Protocol):
    """The end that a transport talks to: the session of its client."""

    def received(self, payload: bytes) -> None:
        """Take one message of the client (UTF-8 text)."""

    def received_binary(self, payload: bytes) -> None:
        """Take one binary message."""

    def allow_frame(self) -> bool:
        """Tell whether a frame that is no message of its own is allowed: not one of a flood.

        Pings, pongs and fragments cost work, too.
        """

    def alive(self) -> None:
        """Take notice of a heartbeat of the transport's own protocol: the client is there."""

    def pause(self) -> None:
        """Send nothing for now: what was sent is not out yet. May be called again and again."""

    def resume(self) -> None:
        """Send again."""

    def closing(self) -> None:
        """The connection is being closed, or is broken: what is sent from now on is lost."""

    def lost(self) -> None:
        """The connection is gone."""


class ITransport(Interface):
    """One client's connection, outward. It does not contain reading: see `Receiver`.

    ``send`` is synchronous and takes a ready frame, the same object for every client of one
    codec, so that a fan-out builds it once. It may be several, one right behind the other, or a
    view of what is left of them behind what went to the ``descriptor``.
    """

    request: ClientRequest = Attribute("The opening request: a `ClientRequest`.")
    descriptor: int = Attribute(
        "To what frames may be written past the transport (`twisted_push.wires`); -1 is nothing."
    )

    def send(frame: Buffer) -> None:
        """Write a frame that the transport's codec made. Ignored once closing."""

    def unsent() -> int:
        """Tell how many bytes are kept of what was sent and has not left for the client yet.

        Nothing need be told before the receiver was told to pause.
        """

    def close(disconnect: Disconnect) -> None:
        """Close in good order with this code; give up on a peer that does not answer."""

    def abort() -> None:
        """Drop the connection now, with whatever was not sent."""


class ICodec(Interface):
    """Encodes what the server tells on its own accord, for one dialect in one framing.

    Shared by all clients of that kind: a fan-out encodes once per codec. None is for what the
    dialect does not tell.
    """

    def publication(publication: Publication) -> bytes:
        """Give the frame of a publication."""

    def joined(channel: str, info: ClientInfo) -> bytes | None:
        """Give the frame that tells that a client joined a channel."""

    def left(channel: str, info: ClientInfo) -> bytes | None:
        """Give the frame that tells that a client left a channel."""

    def subscribed(
        channel: str, position: StreamPosition | None, data: bytes | None, recoverable: bool
    ) -> bytes | None:
        """Give the frame for a subscription that the server added."""

    def unsubscribed(channel: str, code: int, reason: str) -> bytes | None:
        """Give the frame for a subscription that the server ended."""

    def refreshed(ttl: int | None) -> bytes | None:
        """Give the frame for a changed expiry, in seconds from now; None: never."""

    def message(data: bytes) -> bytes:
        """Give the frame of a message (JSON text) to one client, in no channel."""

    def ping() -> bytes | None:
        """Give the frame of a heartbeat; None if it is the client that sends heartbeats."""

    def closing(disconnect: Disconnect) -> Sequence[bytes]:
        """Give the last frames for a client that is closed, if the close code does not do."""


class IAuthenticator(Interface):
    """Finds out who a client is."""

    def authenticate(request: ConnectRequest) -> Deferred[Grant]:
        """Give the grant for what a client presented.

        The Deferred fails with `Disconnect` (not let in), `Refused` (the connect command gets
        this error), `CmsUnavailable` (nobody could say) or `Overtaken` (by a kick).
        """


class IEngineEvents(Interface):
    """What an engine tells the node of its site."""

    def publication_received(publication: Publication) -> int:
        """Deliver a publication of a subscribed channel; give the number of clients here."""

    def reset(channel: str, position: StreamPosition) -> None:
        """Continuity of a subscribed channel cannot be proven any more."""

    def joined(channel: str, info: ClientInfo) -> None:
        """A client joined a subscribed channel, somewhere."""

    def left(channel: str, info: ClientInfo) -> None:
        """A client left a subscribed channel, somewhere."""

    def state(connected: bool, why: str) -> None:
        """The engine came or went."""


class IEngine(Interface):
    """Streams, presence, grants and revocations of one site.

    Every method may fail with an `EngineUnavailable`. ``now`` and all times are unix seconds of
    the clock that the engine was given.
    """

    def start(events: IEngineEvents) -> Deferred[None]:
        """Begin; tell events from now on."""

    def stop() -> Deferred[None]:
        """End."""

    def publish(publication: Publication, options: PublishOptions) -> Deferred[Published]:
        """Append to the channel's stream (if it is to be kept) and announce, atomically.

        An idempotency key that is known gives the first answer again, and a version that is not
        newer the channel's position and no recipients; in both cases nothing is announced.
        """

    def subscribe(channel: str) -> Deferred[None]:
        """Announce this channel's publications here from now on (for the process)."""

    def unsubscribe(channel: str) -> Deferred[None]:
        """No longer."""

    def since(channel: str, position: StreamPosition | None, limit: int) -> Deferred[Recovered]:
        """Give what came after ``position`` (None: only where the stream stands)."""

    def history(
        channel: str, since: StreamPosition | None, limit: int, reverse: bool
    ) -> Deferred[Recovered]:
        """Give up to ``limit`` publications (-1: all, 0: only where the stream stands).

        The oldest first, from after ``since``; with ``reverse`` the newest first, from before it.
        Not complete, and without publications, if ``since`` is of another epoch or of the future,
        or if something after it is gone.
        """

    def history_remove(channel: str) -> Deferred[None]:
        """Let go of a stream's publications; where it stands stays."""

    def presence_add(channel: str, info: ClientInfo) -> Deferred[None]:
        """Enter a client as present."""

    def presence_remove(channel: str, info: ClientInfo) -> Deferred[None]:
        """Take it out."""

    def presence(channel: str) -> Deferred[Mapping[str, ClientInfo]]:
        """Give who is in the channel, by client id."""

    def grant_put(token: bytes | None, grant: Grant, until: float) -> Deferred[bool]:
        """Keep a grant that the CMS answered, by its token's digest (None: nothing to keep).

        False, and nothing kept, if a logout or a kick came after ``grant.issued_at``.
        """

    def grant_get(token: bytes) -> Deferred[Grant | None]:
        """Give the grant that is kept, until its time is over."""

    def grant_valid(token: bytes | None, grant: Grant) -> Deferred[bool]:
        """Tell whether no logout beats a grant, of its token (None: it has none) or its user."""

    def grant_forget(user: str) -> Deferred[None]:
        """Forget the grants of a user, answers on their way included: the CMS is asked anew."""

    def revoke_token(token: bytes, until: float) -> Deferred[None]:
        """Refuse a token from now on (logout), and forget the content tokens that it holds."""

    def token_revoked(token: bytes) -> Deferred[bool]:
        """Tell whether a token was logged out by itself: nobody need be asked about it."""

    def revoke_user(user: str, until: float) -> Deferred[None]:
        """Refuse every token of a user that is known or was issued up to now (logout).

        The content tokens that the user holds are forgotten.
        """

    def overlay_set(user: str, channel: str, overlay: ChannelOverlay) -> Deferred[None]:
        """Note a channel that the CMS added to or took from a user; later grants override it."""

    def overlays(user: str) -> Deferred[Mapping[str, ChannelOverlay]]:
        """Give what was noted for a user, by channel."""

    def presence_list_set(user: str, listed: PresenceList) -> Deferred[None]:
        """Note whom the CMS lets see that a user is online; later grants override it."""

    def presence_list(user: str) -> Deferred[PresenceList | None]:
        """Give what was noted last, until its time is over."""

    def content_put(token: bytes, content: ContentToken, limit: int) -> Deferred[None]:
        """Keep a content token, by its digest, in the place of one of the same digest.

        Fails with `Overloaded` if ``limit`` others are kept already.
        """

    def content_claim(
        token: bytes, channel: str, holder: bytes, user: str
    ) -> Deferred[ContentToken | None]:
        """Use a content token for a channel; give it, held by ``holder`` from now on.

        ``user`` is whose page that is, "" for anonymous. None if it is not known, is over its
        time, is of another channel, or somebody else holds it: another user, or, while it is in
        use or for an anonymous one, another holder. One that is in use has no end: see
        `content_release`.
        """

    def content_hand_over(token: bytes, holder: bytes, new: bytes) -> Deferred[None]:
        """Have a content token be held by ``new``, if it is still held by ``holder``."""

    def content_release(token: bytes, expires_at: float) -> Deferred[None]:
        """Set the end of a content token whose connection is gone."""

    def content_remove(token: bytes) -> Deferred[None]:
        """Forget a content token, whether or not anybody uses it."""

    def content_forget(channel: str, user: str | None, holder: bytes | None) -> Deferred[None]:
        """Forget the content tokens of a channel that are held by a user, or by a holder.

        Where neither is given: all of the channel, those that nobody used yet included.
        """

    def content_known(channel: str) -> Deferred[bool]:
        """Tell whether a content token of a channel is kept that is within its time."""

    def content_channels() -> Deferred[int]:
        """Give the number of channels that content tokens are kept for."""

    def channel_add(channel: str, limit: int) -> Deferred[None]:
        """Note the name of a channel that the CMS added, in the place of the oldest of ``limit``.

        One that was noted before is the latest again.
        """

    def channel_added(channel: str) -> Deferred[bool]:
        """Tell whether the name of a channel was noted."""

    def channel_remove(channel: str) -> Deferred[None]:
        """Forget the name of a channel."""
