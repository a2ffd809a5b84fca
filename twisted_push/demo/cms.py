"""The demo CMS itself: what each of its addresses does.

A form that was sent by a script of ours is answered with ``{"notice": {"level", "text"}}``; a
plain form is answered with the way back to the page, which then shows the notice.  When the push
server does not answer, the notice says so: what the CMS stores is stored all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qs

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from twisted_push.demo.api import Connection, PushApi, PushError, PushRefused
from twisted_push.demo.endpoint import COOKIE_NAME, Answer, HttpError, Incoming
from twisted_push.demo.forms import read_form, text_field
from twisted_push.demo.pages import Pages, count_by_user, display_name
from twisted_push.demo.state import (
    ARTICLE_CHANNEL,
    BROADCAST_CHANNEL,
    USERS,
    Article,
    Notice,
    Session,
    Sessions,
    is_session_id,
    new_session_id,
    user_channel,
)

__all__ = ["DemoCms"]

MAX_TITLE = 160
MAX_ARTICLE = 20_000
MAX_MESSAGE = 500
"""Characters of what people may write."""

_SIGNED_OUT_UNHEARD = Notice(
    "warning",
    "You are logged out here, but the push server did not answer, so it was not told.",
)

_log = Logger()


@attrs.define(kw_only=True, eq=False)
class DemoCms:
    """The views, and the one article that they are about."""

    api: PushApi
    clock: IReactorTime
    pages: Pages
    sessions: Sessions
    article: Article

    # -- Pages ------------------------------------------------------------------------------

    async def home(self, incoming: Incoming) -> Answer:
        """Show the article, or the login page to whom we do not know."""
        session = self._session(incoming)
        if session is not None:
            csrf = self.sessions.csrf_token(session.id)
            return Answer(body=self.pages.article(session, csrf, self.article))
        unheard = parse_qs(incoming.query).get("logout") == ["unheard"]
        # A form needs a cookie to belong to, also before there is a session.
        known = is_session_id(incoming.cookie)
        visitor = incoming.cookie if known else new_session_id()
        notice = _SIGNED_OUT_UNHEARD if unheard else None
        answer = Answer(body=self.pages.login(self.sessions.csrf_token(visitor), notice))
        return answer if known else answer.with_headers(("Set-Cookie", _cookie(visitor)))

    async def article_json(self, incoming: Incoming) -> Answer:
        """Answer with the article as it is now: what a page asks for after a reconnect."""
        self._require_session(incoming)
        return Answer.json(self.article.as_json())

    async def people(self, incoming: Incoming) -> Answer:
        """Show the administrator who is connected."""
        session = self._require_administrator(incoming)
        connections, trouble = await self._connections()
        csrf = self.sessions.csrf_token(session.id)
        return Answer(body=self.pages.people(session, csrf, connections, trouble))

    async def people_json(self, incoming: Incoming) -> Answer:
        """Answer with who is connected, for a page that is open already."""
        self._require_administrator(incoming)
        connections, trouble = await self._connections()
        if connections is None:
            return Answer.json({"notice": {"level": "bad", "text": trouble}}, status=502)
        users = [
            {"user": user, "name": name, "connections": count}
            for user, name, count in count_by_user(connections)
        ]
        listed = [
            {**attrs.asdict(connection), "name": display_name(connection.user)}
            for connection in connections
        ]
        return Answer.json({"users": users, "connections": listed})

    # -- Sessions ---------------------------------------------------------------------------

    async def login(self, incoming: Incoming) -> Answer:
        """Open a session under a new id, and end the one that the browser had."""
        fields = read_form(incoming, self.sessions)
        user = USERS.get(fields.get("user", ""))
        if user is None:
            raise HttpError(422, "There is no such user.")
        before = self._session(incoming)
        if before is not None:
            await self._end(before)
        session, evicted = self.sessions.open(user)
        if evicted is not None:
            await self._end(evicted)
        _log.info("{user} logged in", user=user.id)
        return Answer.see_other("/", cookie=_cookie(session.id))

    async def logout(self, incoming: Incoming) -> Answer:
        """End the session, and have the push server close its connections."""
        read_form(incoming, self.sessions)
        session = self._session(incoming)
        heard = await self._end(session) if session is not None else True
        return Answer.see_other("/" if heard else "/?logout=unheard", cookie=_cookie("", age=0))

    async def _end(self, session: Session) -> bool:
        """End *session*; tell whether the push server heard of it.

        The session goes first, so that a page that comes back in between is refused.
        """
        self.sessions.close(session)
        _log.info("{user} logged out", user=session.user.id)
        try:
            await self.api.logout(session.token)
        except PushError:
            return False
        return True

    # -- Actions ----------------------------------------------------------------------------

    async def save(self, incoming: Incoming) -> Answer:
        """Store a new version of the article and tell every open page."""
        session = self._require_session(incoming)
        fields = read_form(incoming, self.sessions)
        if not session.user.may_edit:
            raise HttpError(403, "Only an editor may change the article.")
        self.article = Article(
            title=text_field(fields, "title", maximum=MAX_TITLE).replace("\n", " "),
            body=text_field(fields, "body", maximum=MAX_ARTICLE),
            author=session.user.name,
            saved_at=round(self.clock.seconds(), 3),
        )
        trouble = await self._publish(ARTICLE_CHANNEL, self.article.as_json())
        if trouble:
            notice = Notice("warning", f"Saved, but {trouble}. Open pages were not told.")
        else:
            notice = Notice("good", "Saved, and every open page was told.")
        return self._done(incoming, session, notice)

    async def message(self, incoming: Incoming) -> Answer:
        """Send a line to everybody, or to one user."""
        session = self._require_session(incoming)
        fields = read_form(incoming, self.sessions)
        recipient = fields.get("to", "")
        if recipient and recipient not in USERS:
            raise HttpError(422, "There is no such user.")
        text = text_field(fields, "message", maximum=MAX_MESSAGE)
        channel = user_channel(recipient) if recipient else BROADCAST_CHANNEL
        data = {
            "text": text,
            "author": session.user.name,
            "sent_at": round(self.clock.seconds(), 3),
        }
        trouble = await self._publish(channel, data)
        if trouble:
            return self._done(incoming, session, Notice("bad", f"Not sent: {trouble}."), status=502)
        to = display_name(recipient) if recipient else "everybody"
        return self._done(incoming, session, Notice("good", f"Sent to {to}."))

    async def kick(self, incoming: Incoming) -> Answer:
        """Close all connections of a user, until they ask for a new one."""
        session = self._require_administrator(incoming)
        fields = read_form(incoming, self.sessions)
        user = text_field(fields, "user", maximum=200)
        try:
            await self.api.disconnect(user)
        except PushError as error:
            notice = Notice("bad", f"Nobody was disconnected: {_reason(error)}.")
            return self._done(incoming, session, notice, back="/people", status=502)
        _log.info("{user} was kicked by {admin}", user=user, admin=session.user.id)
        notice = Notice("good", f"{display_name(user)} was disconnected.")
        return self._done(incoming, session, notice, back="/people")

    # -- Helpers ----------------------------------------------------------------------------

    def _session(self, incoming: Incoming) -> Session | None:
        return self.sessions.by_id(incoming.cookie) if incoming.cookie else None

    def _require_session(self, incoming: Incoming) -> Session:
        session = self._session(incoming)
        if session is None:
            raise HttpError(403, "Please log in first.")
        return session

    def _require_administrator(self, incoming: Incoming) -> Session:
        session = self._require_session(incoming)
        if not session.user.may_administer:
            raise HttpError(403, "Only an administrator may do that.")
        return session

    async def _publish(self, channel: str, data: Mapping[str, object]) -> str:
        """Publish; return why it did not work, or nothing."""
        try:
            await self.api.publish(channel, data)
        except PushError as error:
            return _reason(error)
        return ""

    async def _connections(self) -> tuple[list[Connection] | None, str]:
        try:
            return await self.api.connections(), ""
        except PushError as error:
            return None, f"Nobody can be listed: {_reason(error)}."

    def _done(
        self,
        incoming: Incoming,
        session: Session,
        notice: Notice,
        *,
        back: str = "/",
        status: int = 200,
    ) -> Answer:
        if incoming.wants_json:
            return Answer.json({"notice": attrs.asdict(notice)}, status=status)
        session.notice = notice
        return Answer.see_other(back)


def _cookie(value: str, *, age: int | None = None) -> str:
    max_age = "" if age is None else f"; Max-Age={age}"
    return f"{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Lax{max_age}"


def _reason(error: PushError) -> str:
    if isinstance(error, PushRefused):
        return f"the push server refused ({error.message}, {error.code})"
    return "the push server did not answer"
