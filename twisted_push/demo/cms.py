"""The demo CMS itself: what each of its addresses does.

When the push server does not answer, the notice says so: what the CMS stores is stored all the
same.
"""

from __future__ import annotations

from urllib.parse import parse_qs

import attrs
from twisted.logger import Logger

from twisted_push.demo.api import Connection, PushError
from twisted_push.demo.chat import Chat
from twisted_push.demo.desk import Desk, reason
from twisted_push.demo.endpoint import COOKIE_NAME, Answer, HttpError, Incoming
from twisted_push.demo.forms import read_form, text_field
from twisted_push.demo.pages import Pages
from twisted_push.demo.state import (
    ARTICLE_CHANNEL,
    BROADCAST_CHANNEL,
    CHAT_CHANNEL,
    USERS,
    Article,
    Notice,
    Session,
    is_session_id,
    new_session_id,
    user_channel,
)
from twisted_push.demo.wording import count_by_user, display_name

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
    """The views, and what they are about: one article, and a chat."""

    desk: Desk
    pages: Pages
    article: Article
    chat: Chat = attrs.field(factory=Chat)

    # -- Pages ------------------------------------------------------------------------------

    async def home(self, incoming: Incoming) -> Answer:
        """Show the article and the chat, or the login page to whom we do not know."""
        session = self.desk.session(incoming)
        if session is not None:
            positions = await self.desk.positions(session)
            csrf = self.desk.sessions.csrf_token(session.id)
            page = self.pages.article(session, csrf, positions, self.article, self.chat)
            return Answer(body=page)
        unheard = parse_qs(incoming.query).get("logout") == ["unheard"]
        # A form needs a cookie to belong to, also before there is a session.
        known = is_session_id(incoming.cookie)
        visitor = incoming.cookie if known else new_session_id()
        notice = _SIGNED_OUT_UNHEARD if unheard else None
        answer = Answer(body=self.pages.login(self.desk.sessions.csrf_token(visitor), notice))
        return answer if known else answer.with_headers(("Set-Cookie", _cookie(visitor)))

    async def article_json(self, incoming: Incoming) -> Answer:
        """Answer with the article as it is now: what a page asks for after a reconnect."""
        self.desk.require_session(incoming)
        return Answer.json(self.article.as_json())

    async def chat_json(self, incoming: Incoming) -> Answer:
        """Answer with what was said, for a page that may have missed something."""
        self.desk.require_session(incoming)
        return Answer.json({"lines": [line.as_json() for line in self.chat.lines]})

    async def log(self, incoming: Incoming) -> Answer:
        """Show the administrator what happened on the site."""
        session = self.desk.require_administrator(incoming)
        positions = await self.desk.positions(session)
        csrf = self.desk.sessions.csrf_token(session.id)
        page = self.pages.log(session, csrf, positions, self.desk.watchdog)
        return Answer(body=page)

    async def log_json(self, incoming: Incoming) -> Answer:
        """Answer with what happened, for a page that may have missed something."""
        self.desk.require_administrator(incoming)
        return Answer.json({"entries": [e.as_json() for e in self.desk.watchdog.entries]})

    async def people(self, incoming: Incoming) -> Answer:
        """Show the administrator who is connected."""
        session = self.desk.require_administrator(incoming)
        positions = await self.desk.positions(session)
        connections, trouble = await self._connections()
        csrf = self.desk.sessions.csrf_token(session.id)
        page = self.pages.people(session, csrf, positions, connections, trouble)
        return Answer(body=page)

    async def people_json(self, incoming: Incoming) -> Answer:
        """Answer with who is connected, for a page that is open already."""
        self.desk.require_administrator(incoming)
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
        fields = read_form(incoming, self.desk.sessions)
        user = USERS.get(fields.get("user", ""))
        if user is None:
            raise HttpError(422, "There is no such user.")
        before = self.desk.session(incoming)
        if before is not None:
            await self._end(before)
        session, evicted = self.desk.sessions.open(user)
        if evicted is not None:
            await self._end(evicted)
        _log.info("{user} logged in", user=user.id)
        self.desk.note("info", "access", user.name, "logged in.")
        return Answer.see_other("/", cookie=_cookie(session.id))

    async def logout(self, incoming: Incoming) -> Answer:
        """End the session, and have the push server close its connections."""
        read_form(incoming, self.desk.sessions)
        session = self.desk.session(incoming)
        heard = await self._end(session) if session is not None else True
        return Answer.see_other("/" if heard else "/?logout=unheard", cookie=_cookie("", age=0))

    async def _end(self, session: Session) -> bool:
        """End *session*; tell whether the push server heard of it.

        The session goes first, so that a page that comes back in between is refused.
        """
        self.desk.sessions.close(session)
        _log.info("{user} logged out", user=session.user.id)
        self.desk.note("info", "access", session.user.name, "logged out.")
        try:
            await self.desk.api.logout(session.token)
        except PushError:
            return False
        return True

    # -- Actions ----------------------------------------------------------------------------

    async def save(self, incoming: Incoming) -> Answer:
        """Store a new version of the article and tell every open page."""
        session = self.desk.require_session(incoming)
        fields = read_form(incoming, self.desk.sessions)
        if not session.user.may_edit:
            raise HttpError(403, "Only an editor may change the article.")
        self.article = Article(
            title=text_field(fields, "title", maximum=MAX_TITLE).replace("\n", " "),
            body=text_field(fields, "body", maximum=MAX_ARTICLE),
            author=session.user.name,
            saved_at=self.desk.now(),
        )
        self.desk.note("info", "content", session.user.name, f"saved “{self.article.title}”.")
        trouble = await self.desk.publish(ARTICLE_CHANNEL, self.article.as_json())
        if trouble:
            notice = Notice("warning", f"Saved, but {trouble}. Open pages were not told.")
        else:
            notice = Notice("good", "Saved, and every open page was told.")
        return self.desk.done(incoming, session, notice)

    async def say(self, incoming: Incoming) -> Answer:
        """Say something in the chat."""
        session = self.desk.require_session(incoming)
        fields = read_form(incoming, self.desk.sessions)
        user = session.user
        line = self.chat.say(
            user=user.id,
            name=user.name,
            text=text_field(fields, "text", maximum=MAX_MESSAGE),
            now=self.desk.now(),
        )
        session.typed_at = 0.0  # What is typed from now on is another line.
        self.desk.note("info", "message", user.name, "said something in the chat.")
        trouble = await self.desk.publish(CHAT_CHANNEL, line.as_json())
        if trouble:
            notice = Notice("warning", f"Kept, but {trouble}. The others were not told.")
        else:
            notice = Notice("good", "Said.")
        return self.desk.done(incoming, session, notice, back="/#chat")

    async def message(self, incoming: Incoming) -> Answer:
        """Send a line to everybody, or to one user."""
        session = self.desk.require_session(incoming)
        fields = read_form(incoming, self.desk.sessions)
        recipient = fields.get("to", "")
        if recipient and recipient not in USERS:
            raise HttpError(422, "There is no such user.")
        text = text_field(fields, "message", maximum=MAX_MESSAGE)
        channel = user_channel(recipient) if recipient else BROADCAST_CHANNEL
        data = {
            "text": text,
            "author": session.user.name,
            "sent_at": self.desk.now(),
        }
        trouble = await self.desk.publish(channel, data)
        if trouble:
            return self.desk.done(
                incoming, session, Notice("bad", f"Not sent: {trouble}."), status=502
            )
        to = display_name(recipient) if recipient else "everybody"
        self.desk.note("info", "message", session.user.name, f"sent a notice to {to}.")
        return self.desk.done(incoming, session, Notice("good", f"Sent to {to}."))

    async def kick(self, incoming: Incoming) -> Answer:
        """Close all connections of a user, until they ask for a new one."""
        session = self.desk.require_administrator(incoming)
        fields = read_form(incoming, self.desk.sessions)
        user = text_field(fields, "user", maximum=200)
        try:
            await self.desk.api.disconnect(user)
        except PushError as error:
            notice = Notice("bad", f"Nobody was disconnected: {reason(error)}.")
            return self.desk.done(incoming, session, notice, back="/people", status=502)
        _log.info("{user} was kicked by {admin}", user=user, admin=session.user.id)
        self.desk.note("notice", "access", session.user.name, f"kicked {display_name(user)}.")
        notice = Notice("good", f"{display_name(user)} was disconnected.")
        return self.desk.done(incoming, session, notice, back="/people")

    # -- Helpers ----------------------------------------------------------------------------

    async def _connections(self) -> tuple[list[Connection] | None, str]:
        try:
            return await self.desk.api.connections(), ""
        except PushError as error:
            return None, f"Nobody can be listed: {reason(error)}."


def _cookie(value: str, *, age: int | None = None) -> str:
    max_age = "" if age is None else f"; Max-Age={age}"
    return f"{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Lax{max_age}"
