"""Who is online: told to the users whom the CMS lets see it, and to the CMS.

A user is online from their first client until some seconds after their last one ended
(``presence.online_grace``: a page change is no departure). Who may see it is said by the CMS: in
its grants (``presence_to``), and at any time by `Online.see`. Who is let see a user who is online
is told at once, and who is no longer is told that the user is offline: nobody goes on seeing what
they may not, or what nobody will correct.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from attrs import define, field, frozen

from twisted_push.interfaces import ICodec
from twisted_push.jsontext import encode
from twisted_push.model import Grant, PresenceList
from twisted_push.node.context import Context
from twisted_push.session import Session, State
from twisted_push.wheel import Wheel

__all__ = ["MAX_FIRST", "Online"]

GRANULARITY = 0.25
"""Seconds by which a user may count as online too long; `Online.tick` is called as often."""

MAX_FIRST = 1000
"""Most users that a client is told of when it connects; of the others it is told the number."""

_BY_GRANT = 0
_BY_CMS = 1  # What the CMS says at the moment beats a grant of the same moment.


@frozen
class _Said:
    """Who may see a user, and when the CMS said so, by what."""

    at: tuple[float, int]
    users: frozenset[str]


@define(eq=False)
class _User:
    """A user who is online: their clients, and what the CMS said last of who may see it."""

    sessions: set[Session] = field(factory=set)
    said: _Said = _Said((float("-inf"), _BY_GRANT), frozenset())


class Online:
    """The users of one site who are here. The anonymous user, "", is none of them, and sees none.

    ``_visible`` has the users whom somebody may see, by that one.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._users: dict[str, _User] = {}
        self._visible: dict[str, set[str]] = {}
        self._leaving: Wheel[str] = Wheel(GRANULARITY)
        self._silent = False

    def is_online(self, user: str) -> bool:
        """Tell whether a user is here, or left so lately that it does not count."""
        return user in self._users

    def count(self) -> int:
        """Give the number of users who are online."""
        return len(self._users)

    def silence(self) -> None:
        """Tell nobody anything from now on: the server stops, and its clients come back."""
        self._silent = True

    # --- Who sees whom -----------------------------------------------------------------------

    async def see(self, user: str, seen_by: frozenset[str]) -> None:
        """Let these users, and no others, see a user who is online, now or later.

        A grant that is older than this does not change it. Raises EngineUnavailable.
        """
        context = self._context
        listed = PresenceList(context.clock.seconds(), seen_by, context.until_forgotten())
        noting = context.engine.presence_list_set(user, listed)
        online = self._users.get(user)
        if online is not None:
            self._take(user, online, _in_list(listed))
        await noting

    def tell_first(self, session: Session) -> None:
        """Tell a client that was let in just now whom of those that it may see is here.

        Nothing where nobody is.
        """
        visible = self._visible.get(session.user)
        if not visible or self._silent:
            return
        state: dict[str, object] = {"online": sorted(islice(visible, MAX_FIRST))}
        if len(visible) > MAX_FIRST:
            state["more"] = len(visible) - MAX_FIRST
        session.deliver(session.codec.message(encode({"presenceState": state})))

    def _in_grant(self, grant: Grant | None) -> _Said | None:
        """Give what a grant says of who sees its user; the clock that signed it may be fast."""
        if grant is None or grant.presence_to is None:
            return None
        at = min(grant.issued_at, self._context.clock.seconds())
        return _Said((at, _BY_GRANT), grant.presence_to)

    def _take(self, user: str, online: _User, *said: _Said | None) -> None:
        """Let those see a user of whom the CMS said so last."""
        newest = max((*filter(None, said), online.said), key=lambda each: each.at)
        before, after = online.said.users, newest.users - {user, ""}
        online.said = _Said(newest.at, after)
        self._hide(user, before - after)
        self._show(user, after - before)

    def _show(self, user: str, watchers: frozenset[str]) -> None:
        for watcher in watchers:
            self._visible.setdefault(watcher, set()).add(user)
        self._tell(user, watchers, "online")

    def _hide(self, user: str, watchers: frozenset[str]) -> None:
        for watcher in watchers:
            visible = self._visible[watcher]
            visible.discard(user)
            if not visible:
                del self._visible[watcher]
        self._tell(user, watchers, "offline")

    # --- Coming and going --------------------------------------------------------------------

    async def listed(self, user: str) -> PresenceList | None:
        """Give whom the CMS lets see a user, where it said so. Raises EngineUnavailable."""
        return await self._context.engine.presence_list(user) if user else None

    def arrived(self, session: Session, listed: PresenceList | None) -> None:
        """Take notice that a client was let in; see `listed`."""
        user = session.user
        if not user:
            return
        online = self._users.get(user)
        came = online is None
        if online is None:
            online = self._users[user] = _User()
        self._leaving.discard(user)
        online.sessions.add(session)
        self._take(user, online, self._in_grant(session.grant), _in_list(listed))
        if came:
            self._report(user, True)

    def refreshed(self, session: Session) -> None:
        """Take notice that a client has a new grant of the same user."""
        online = self._users.get(session.user)
        if online is not None:
            self._take(session.user, online, self._in_grant(session.grant))

    def left(self, session: Session) -> None:
        """Take notice that a session was finished."""
        online = self._users.get(session.user)
        if online is None or session not in online.sessions:
            return  # It had not been let in.
        online.sessions.discard(session)
        if not online.sessions:
            grace = self._context.policy.site.presence.online_grace
            self._leaving.add(session.user, self._context.clock.seconds() + grace)

    def tick(self, now: float) -> None:
        """Do what is due: users whose grace is over are offline."""
        gone = {user: self._users.pop(user) for user in self._leaving.due(now)}
        for user, online in gone.items():
            self._hide(user, online.said.users)
            self._report(user, False)
        gate = self._context.gate
        gate.hook.tick(now)
        if gate.reports is not None:
            gate.reports.tick(now)

    # --- Telling -----------------------------------------------------------------------------

    def move_hook(self, url: str) -> None:
        """Have the CMS told at another address; empty for none. See `PresenceHook.move`."""
        self._context.gate.hook.move(url, tuple(self._users))

    def _tell(self, user: str, watchers: Iterable[str], event: str) -> None:
        """Tell every client of the users who may see one that this one came or went."""
        if self._silent:
            return
        data = encode({"presenceNotification": {"uid": user, "event": event}})
        frames: dict[ICodec, bytes] = {}
        for watcher in watchers:
            for session in self._context.hub.of_user(watcher):
                if session.state is not State.CONNECTED:
                    continue  # Its first message is the reply to its connect.
                codec = session.codec
                if codec not in frames:
                    frames[codec] = codec.message(data)
                session.deliver(frames[codec])

    def _report(self, user: str, is_online: bool) -> None:
        """Have the CMS told."""
        if self._silent:
            return
        gate = self._context.gate
        gate.hook.report(user, is_online)
        if gate.reports is not None:
            gate.reports.report(user, is_online)


def _in_list(listed: PresenceList | None) -> _Said | None:
    return None if listed is None else _Said((listed.at, _BY_CMS), listed.users)
