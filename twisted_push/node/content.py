"""Content channels: a page of the CMS lets its own connection into a channel, by a token.

The CMS registers a token for a channel and puts it into a page; the page's client joins with it.
The engine keeps the tokens; here is who is in a channel by one: their seats. The first holder of a
token keeps it: it comes back with the same token after its connection was lost. A holder is a page,
known by its connection token; one that brings a new one (`Content.refreshed`) stays the holder. A
page that is gone may come back as another of its user: with a new connection token, or by a cookie.

Source of the verbs and of the notice: the specification of Drupal's nodejs module, sections 1
(``content/token*``) and 5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger

from twisted_push.cms.gate import MAX_TOKEN_LENGTH
from twisted_push.cms.grants import token_digest
from twisted_push.errors import EngineUnavailable, OutcomeUnknown, Overloaded, Refused
from twisted_push.jsontext import encode
from twisted_push.model import ContentToken, Published, StreamPosition
from twisted_push.node.channels import Channels, Joined
from twisted_push.node.context import Context
from twisted_push.node.targets import Target
from twisted_push.session import Kind, Session, Subscription
from twisted_push.wheel import Wheel

__all__ = ["Content", "forget_tokens"]

GRANULARITY = 0.25
"""Seconds of one slot of the wheel."""

_log = Logger()

_Person = tuple[str, str | bytes | None]
"""A user and nothing; or "" and what tells one anonymous client from another."""


@define(eq=False)
class _Seat:
    """A session in a channel by a token. ``person`` is who sits here, in however many tabs.

    ``holder`` is what the engine knows it by.
    """

    session: Session
    content: ContentToken
    digest: bytes = field(repr=False)
    label: str = field(repr=False)
    holder: bytes = field(repr=False)
    person: _Person = field(init=False, repr=False)

    @person.default
    def _who(self) -> _Person:
        user = self.session.user
        return user, None if user else (self.label or self.holder)


@define(eq=False)
class _Stay:
    """Somebody in a channel, from the first of the seats to the last.

    ``notify`` is whether the others are to be told of the end: one of the pages was to have that.
    """

    seats: set[_Seat] = field(factory=set)
    notify: bool = False


@define
class _Use:
    """How many sessions here are in by a token or ask to be.

    ``claimed`` is whether the engine may take it for one in use: then it is told of the end.
    """

    sessions: int = 0
    claimed: bool = False


class Content:
    """The content tokens of one site, and who is in a channel by one of them."""

    def __init__(
        self,
        context: Context,
        channels: Channels,
        publish: Callable[..., Awaitable[Published]],
    ) -> None:
        self._context = context
        self._channels = channels
        self._publish = publish
        channels.on_leave = self._left_channel
        self._uses: dict[bytes, _Use] = {}
        self._seats: dict[Session, dict[str, _Seat]] = {}
        self._people: dict[str, dict[_Person, _Stay]] = {}
        self._leaving: Wheel[tuple[str, _Person]] = Wheel(GRANULARITY)
        self._silent = False

    def silence(self) -> None:
        """Tell nobody of who leaves from now on: the server stops, and its clients come back."""
        self._silent = True

    # --- The CMS's side ----------------------------------------------------------------------

    async def register(
        self,
        channel: str,
        token: str,
        *,
        ttl: float | None = None,
        notify_on_leave: bool = False,
        data: bytes | None = None,
    ) -> None:
        """Keep a token for a channel; one that was registered before begins anew.

        ``ttl``: the seconds for which it waits for its page, at most the site's; None: these.
        ``notify_on_leave`` and ``data``: see `ContentToken`. Raises Refused (106, 107) and
        EngineUnavailable.
        """
        policy = self._context.policy
        policy.check_channel(channel)
        digest = _checked(token)
        content = ContentToken(channel, self._until(ttl), notify_on_leave, data)
        limit = policy.limits.max_content_tokens
        try:
            await self._context.engine.content_put(digest, content, limit)
        except Overloaded:
            raise Refused(106, "limit exceeded: too many content tokens") from None
        if digest in self._uses:
            self._uses[digest].claimed = False  # That was of the registration before.

    async def remove(self, token: str) -> None:
        """Forget a token: who is in by it stays in, and does not come back.

        Raises Refused (107) and EngineUnavailable.
        """
        await self._context.engine.content_remove(_checked(token))

    async def exists(self, channel: str) -> bool:
        """Tell whether a token of a channel is kept, or somebody is in by one."""
        return channel in self._people or await self._context.engine.content_known(channel)

    async def count(self) -> int:
        """Give the number of channels that tokens are kept for."""
        return await self._context.engine.content_channels()

    def users(self, channel: str) -> list[tuple[str, str]]:
        """Give the user ("" for anonymous) and the label of everybody who is in by a token.

        A user is there once, in however many tabs; so is an anonymous client, by its label.
        """
        found = (next(iter(stay.seats)) for stay in self._people.get(channel, {}).values())
        return [(seat.session.user, seat.label) for seat in found]

    # --- The client's side -------------------------------------------------------------------

    async def join(
        self, session: Session, channel: str, token: str, *, label: str = ""
    ) -> ContentToken:
        """Let a connected session into a channel, and give what the CMS said of its token.

        The channel is live afterwards, and the client was told where its dialect does so.
        ``label`` tells anonymous clients from each other in `users`. Raises Refused (103 for a
        token that is not good, or for who left meanwhile; 106, 107) and EngineUnavailable.
        """
        admitted = await self.admit(session, channel, token, label=label)
        if admitted is None:
            raise Refused(103)
        content, joined = admitted
        if joined is not None:
            self._channels.tell_subscribed(session, joined)
        return content

    async def admit(
        self,
        session: Session,
        channel: str,
        token: str,
        *,
        label: str = "",
        since: StreamPosition | None = None,
    ) -> tuple[ContentToken, Joined | None] | None:
        """Let a connected session into a channel; None for a token that is not good.

        The caller tells the client of what it joined, then lets that go live in the same turn; it
        is None for a channel that the client had. ``since`` is where it left off. Otherwise as
        `join`.
        """
        policy = self._context.policy
        policy.check_channel(channel)
        digest = _digest(token)
        if digest is None:
            return None
        before = session.subscriptions.get(channel)
        if before is None:
            policy.check_channel_count(len(session.subscriptions))
        holder = _holder(session)
        self._uses.setdefault(digest, _Use()).sessions += 1
        try:
            with self._channels.arrivals.wishing(session, channel) as wish:
                content = await self._claim(digest, channel, holder, session.user)
                if wish.taken:
                    raise Refused(103)
            joined = None
            if content is not None:
                joined = await self._enter(session, content, before, since)
        except BaseException:
            self._used(digest)
            raise
        if content is None:
            self._used(digest)
            return None
        self._sit(_Seat(session, content, digest, label, holder))
        return content, joined

    def refreshed(self, session: Session) -> None:
        """Take notice that a client brought a new token: what it held by the old one it keeps."""
        new = _holder(session)
        for seat in self._seats.get(session, {}).values():
            holder, seat.holder = seat.holder, new
            self._context.watch(self._context.engine.content_hand_over(seat.digest, holder, new))

    async def _claim(
        self, digest: bytes, channel: str, holder: bytes, user: str
    ) -> ContentToken | None:
        """Have the engine give a token to who holds it first; None if it is not good."""
        try:
            content = await self._context.engine.content_claim(digest, channel, holder, user)
        except (CancelledError, OutcomeUnknown):
            self._uses[digest].claimed = True
            raise
        if content is not None:
            self._uses[digest].claimed = True
        return content

    async def _enter(
        self,
        session: Session,
        content: ContentToken,
        before: Subscription | None,
        since: StreamPosition | None,
    ) -> Joined | None:
        """Give a session the channel; None if it has it already.

        ``before`` is how it had it when it asked: if that is over, it was taken away meanwhile.
        Raises Refused(103) for this, and for a session that has ended.
        """
        here = session.subscriptions.get(content.channel)
        if before is not None and here is not before:
            raise Refused(103)
        if here is not None:
            return None
        # What the CMS said is for the others in the channel, and the client may know it, too.
        subscription = Subscription(content.channel, Kind.CONTENT, content.data, content.data)
        return await self._channels.join(session, subscription, since)

    # --- Seats -------------------------------------------------------------------------------

    def _sit(self, seat: _Seat) -> None:
        """Enter a seat; it takes the place of another that the session has in the channel."""
        channel = seat.content.channel
        of_session = self._seats.setdefault(seat.session, {})
        old = of_session.get(channel)
        of_session[channel] = seat
        stay = self._people.setdefault(channel, {}).setdefault(seat.person, _Stay())
        stay.seats.add(seat)
        stay.notify = stay.notify or seat.content.notify_on_leave
        self._leaving.discard((channel, seat.person))
        if old is not None:
            self._vacate(old)

    def _vacate(self, seat: _Seat) -> bool:
        """Take away a seat; tell whether the others are to be told that somebody left."""
        channel, person = seat.content.channel, seat.person
        people = self._people[channel]
        stay = people[person]
        stay.seats.remove(seat)
        if not stay.seats:
            del people[person]
        if not people:
            del self._people[channel]
        self._used(seat.digest)
        return stay.notify and not stay.seats

    def _used(self, digest: bytes) -> None:
        """Take notice that a session is done with a token; after the last, its end is set."""
        use = self._uses[digest]
        use.sessions -= 1
        if use.sessions:
            return
        del self._uses[digest]
        if use.claimed:
            self._context.watch(self._context.engine.content_release(digest, self._until()))

    def _left_channel(self, session: Session, channel: str) -> None:
        """Take notice that a session lost a channel: it was finished, or the CMS took it."""
        of_session = self._seats.get(session, {})
        seat = of_session.pop(channel, None)
        if seat is None:
            return
        if not of_session:
            del self._seats[session]
        if self._vacate(seat) and not self._silent:
            grace = self._context.policy.site.presence.online_grace
            due = self._context.clock.seconds() + grace
            self._leaving.add((channel, seat.person), due)

    # --- Time --------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Tell of those who left and did not come back."""
        for channel, person in self._leaving.due(now):
            Deferred.fromCoroutine(self._tell_left(channel, person[0]))

    async def _tell_left(self, channel: str, user: str) -> None:
        data = encode({"uid": user or 0, "type": "disconnect"})
        extra = {"contentChannelNotification": b"true"}
        try:
            await self._publish(channel, data, extra=extra, skip_history=True)
        except EngineUnavailable as error:
            self._context.engine_failed(error)

    def _until(self, ttl: float | None = None) -> float:
        """Give the time at which a token is over. Raises Refused(107) if the site allows less."""
        longest = self._context.policy.site.content_token_ttl
        if ttl is not None and ttl > longest:
            raise Refused(107, f"bad request: ttl is above content_token_ttl ({longest:g} s)")
        return self._context.clock.seconds() + (longest if ttl is None else ttl)


def forget_tokens(context: Context, target: Target, channel: str) -> Deferred[None]:
    """Have nobody come back by a content token to a channel that is taken from who is meant.

    It is begun at once. One client that is meant by its name may use its token again, as it may
    ask for any channel again; where everybody is meant, no token of the channel is good any more.
    """
    if target.one:
        return succeed(None)
    user = target.user if target.whole_user or target.anonymous else None
    holder = token_digest(target.token) if target.token else None
    return context.engine.content_forget(channel, user, holder)


def _holder(session: Session) -> bytes:
    """Give what a page is known by; one without a connection token by its connection."""
    return session.token_digest or token_digest(session.client)


def _digest(token: str) -> bytes | None:
    """Give what the engine knows a token by; None if it can be no token."""
    if not 0 < len(token) <= MAX_TOKEN_LENGTH:
        return None
    try:
        return token_digest(token)
    except UnicodeEncodeError:  # Half of a surrogate pair.
        return None


def _checked(token: str) -> bytes:
    """Give what the engine knows a token of the CMS by. Raises Refused(107)."""
    digest = _digest(token)
    if digest is None:
        raise Refused(107, "bad request: token is empty, too long or no text")
    return digest
