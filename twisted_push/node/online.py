"""Who is online: told to the users whom the CMS lets see it, and to the CMS.

A user is online from their first client until some seconds after their last one ended
(``presence.online_grace``: a page change is no departure). Who may see it is said by the CMS: in
its grants (``presence_to``), and at any time by `Online.see`.
"""

from __future__ import annotations

from attrs import define, field

from twisted_push.interfaces import ICodec
from twisted_push.jsontext import encode
from twisted_push.model import Grant
from twisted_push.node.context import Context
from twisted_push.session import Session, State
from twisted_push.wheel import Wheel

__all__ = ["Online"]

GRANULARITY = 0.25
"""Seconds by which a user may count as online too long; `Online.tick` is called as often."""

_BY_GRANT = 0
_BY_CMS = 1  # What the CMS says at the moment beats a grant of the same moment.


@define(eq=False)
class _User:
    """A user who is online: their clients, and who may see it, as the CMS said at ``said_at``."""

    sessions: set[Session] = field(factory=set)
    seen_by: frozenset[str] = frozenset()
    said_at: tuple[float, int] = (float("-inf"), _BY_GRANT)

    def take(self, seen_by: frozenset[str], said_at: tuple[float, int]) -> None:
        """Let these users see it, unless the CMS said something else later."""
        if said_at >= self.said_at:
            self.seen_by, self.said_at = seen_by, said_at

    def take_grant(self, grant: Grant | None, now: float) -> None:
        """Let those see it whom a grant names; a token may be signed by a clock that is fast."""
        if grant is not None:
            self.take(grant.presence_to, (min(grant.issued_at, now), _BY_GRANT))


class Online:
    """The users of one site who are here. The anonymous user, "", is not one of them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._users: dict[str, _User] = {}
        self._leaving: Wheel[str] = Wheel(GRANULARITY)
        self._silent = False

    def is_online(self, user: str) -> bool:
        """Tell whether a user is here, or left so lately that it does not count."""
        return user in self._users

    def count(self) -> int:
        """Give the number of users who are online."""
        return len(self._users)

    def see(self, user: str, seen_by: frozenset[str]) -> None:
        """Have these users, and no others, told when a user who is online leaves.

        It is forgotten when the user has left: whoever comes, comes with a grant. A grant that
        is older than this, of another tab, does not change it.
        """
        online = self._users.get(user)
        if online is not None:
            online.take(seen_by, (self._context.clock.seconds(), _BY_CMS))

    def silence(self) -> None:
        """Tell nobody anything from now on: the server stops, and its clients come back."""
        self._silent = True

    def arrived(self, session: Session) -> None:
        """Take notice that a client was let in."""
        user = session.user
        if not user:
            return
        online = self._users.get(user)
        came = online is None
        if online is None:
            online = self._users[user] = _User()
        self._leaving.discard(user)
        online.sessions.add(session)
        online.take_grant(session.grant, self._context.clock.seconds())
        if came:
            self._tell(user, online, True)

    def refreshed(self, session: Session) -> None:
        """Take notice that a client has a new grant of the same user."""
        online = self._users.get(session.user)
        if online is not None:
            online.take_grant(session.grant, self._context.clock.seconds())

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
            self._tell(user, online, False)
        reports = self._context.gate.reports
        if reports is not None:
            reports.tick(now)

    def _tell(self, user: str, online: _User, is_online: bool) -> None:
        if self._silent:
            return
        event = "online" if is_online else "offline"
        data = encode({"presenceNotification": {"uid": user, "event": event}})
        frames: dict[ICodec, bytes] = {}
        for watcher in online.seen_by - {user}:
            for session in self._context.hub.of_user(watcher):
                if session.state is not State.CONNECTED:
                    continue  # Its first message is the reply to its connect.
                codec = session.codec
                if codec not in frames:
                    frames[codec] = codec.message(data)
                session.deliver(frames[codec])
        reports = self._context.gate.reports
        if reports is not None:
            reports.report(user, is_online)
