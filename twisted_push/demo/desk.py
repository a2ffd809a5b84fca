"""What the views share: who is asking, how the push server is told, and how a form is answered.

A form that was sent by a script of ours is answered with ``{"notice": {"level", "text"}}``; a
plain form is answered with the way back to the page, which then shows the notice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from twisted_push.demo.api import PushApi, PushError, PushRefused
from twisted_push.demo.chat import Watchdog
from twisted_push.demo.endpoint import Answer, HttpError, Incoming
from twisted_push.demo.state import (
    BROADCAST_CHANNEL,
    WATCHDOG_CHANNEL,
    Notice,
    Session,
    Sessions,
)

__all__ = ["Desk", "reason"]

MAX_TELLING = 20
"""Entries of the log that may be on their way to the push server at a time. Beyond that an open
log page does not hear of them, but has them when it is loaded anew."""


@attrs.define(kw_only=True, eq=False)
class Desk:
    """What every view needs."""

    api: PushApi
    clock: IReactorTime
    sessions: Sessions
    watchdog: Watchdog = attrs.field(factory=Watchdog)
    _telling: int = attrs.field(default=0, init=False)

    # -- Who is asking ------------------------------------------------------------------------

    def session(self, incoming: Incoming) -> Session | None:
        """Find the session of a request."""
        return self.sessions.by_id(incoming.cookie) if incoming.cookie else None

    def require_session(self, incoming: Incoming) -> Session:
        """Find the session of a request; raise HttpError (403) for strangers."""
        session = self.session(incoming)
        if session is None:
            raise HttpError(403, "Please log in first.")
        return session

    def require_administrator(self, incoming: Incoming) -> Session:
        """Find the session of an administrator; raise HttpError (403) for others."""
        session = self.require_session(incoming)
        if not session.user.may_administer:
            raise HttpError(403, "Only an administrator may do that.")
        return session

    # -- The push server ----------------------------------------------------------------------

    def now(self) -> float:
        """Tell the time as it is stored: seconds since the epoch, to the millisecond."""
        return round(self.clock.seconds(), 3)

    async def publish(self, channel: str, data: Mapping[str, object], *, keep: bool = True) -> str:
        """Publish; return why it did not work, or nothing."""
        try:
            await self.api.publish(channel, data, keep=keep)
        except PushError as error:
            self.note(
                "error", "push", "The CMS", f"could not publish to {channel}: {reason(error)}."
            )
            return reason(error)
        return ""

    async def positions(self, session: Session) -> dict[str, Any]:
        """Tell where the channels of a session stand; nothing if the push server is away.

        To be asked before the content is read: what comes in between comes rather twice.
        """
        try:
            return await self.api.positions((*session.user.channels, BROADCAST_CHANNEL))
        except PushError:
            return {}

    def note(self, level: str, kind: str, who: str, text: str) -> None:
        """Write a line into the site's log, and show it where that is open."""
        entry = self.watchdog.note(level=level, kind=kind, who=who, text=text, now=self.now())
        if self._telling < MAX_TELLING:
            self._telling += 1
            Deferred.fromCoroutine(self._tell(entry.as_json()))

    async def _tell(self, entry: Mapping[str, object]) -> None:
        try:
            await self.api.publish(WATCHDOG_CHANNEL, entry)
        except PushError:
            pass  # Whoever loads the page anew sees it.
        finally:
            self._telling -= 1

    # -- Answers ------------------------------------------------------------------------------

    def done(
        self,
        incoming: Incoming,
        session: Session,
        notice: Notice,
        *,
        back: str = "/",
        status: int = 200,
    ) -> Answer:
        """Answer a form."""
        if incoming.wants_json:
            return Answer.json({"notice": attrs.asdict(notice)}, status=status)
        session.notice = notice
        return Answer.see_other(back)


def reason(error: PushError) -> str:
    """Say to a person why the push server did not do it."""
    if isinstance(error, PushRefused):
        return f"the push server refused ({error.message}, {error.code})"
    return "the push server did not answer"
