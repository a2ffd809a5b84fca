"""What the demo CMS knows: its users, their sessions, and one article.  Pure: no IO, no clock.

The four secrets of a session are kept apart on purpose:

- the **session id** lives in an HttpOnly cookie and never appears in a page;
- the **token** is what the page shows to the push server.  It is derived from the id with a key
  that only this process has, so whoever reads the token cannot become the session;
- the **CSRF token** is derived likewise, under another label, and is only good for forms;
- the **mark** is told to the push server alone, which shows it when it asks on behalf of a page:
  so nobody else can ask in a user's name.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from types import MappingProxyType

import attrs

__all__ = [
    "ARTICLE_CHANNEL",
    "BROADCAST_CHANNEL",
    "CHAT_CHANNEL",
    "FIRST_ARTICLE",
    "MAX_SESSIONS",
    "STRANGER",
    "USERS",
    "WATCHDOG_CHANNEL",
    "Article",
    "Notice",
    "Session",
    "Sessions",
    "User",
    "user_channel",
]

ARTICLE_CHANNEL = "article:1"
"""Where a saved article is published."""

CHAT_CHANNEL = "chat:lobby"
"""Where people talk, and are seen typing."""

WATCHDOG_CHANNEL = "watchdog"
"""Where administrators hear what happens on the site."""

BROADCAST_CHANNEL = "broadcast"
"""The channel that everybody of a site is in; the push server adds it to each grant."""

MAX_SESSIONS = 1000
"""Sessions kept at a time; opening one more ends the oldest."""

STRANGER = "Somebody"
"""What the log calls those who are not logged in."""

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{43}\Z")


def user_channel(user_id: str) -> str:
    """Name the private channel of a user."""
    return f"user:{user_id}"


@attrs.frozen(kw_only=True)
class User:
    """Somebody who can log in."""

    id: str
    name: str
    role: str
    """What the login page says about this user."""

    may_edit: bool = False
    may_administer: bool = False

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that the CMS grants to this user."""
        own = (ARTICLE_CHANNEL, CHAT_CHANNEL, user_channel(self.id))
        return (*own, WATCHDOG_CHANNEL) if self.may_administer else own

    @property
    def seen_by(self) -> tuple[str, ...]:
        """Who may see whether this user is online: everybody else."""
        return tuple(user for user in USERS if user != self.id)


USERS: Mapping[str, User] = MappingProxyType(
    {
        "alice": User(
            id="alice",
            name="Alice",
            role="Editor and administrator",
            may_edit=True,
            may_administer=True,
        ),
        "bob": User(id="bob", name="Bob", role="Reader"),
    }
)
"""Everybody with an account, by id."""


@attrs.frozen(kw_only=True)
class Article:
    """The article as it was last saved."""

    title: str
    body: str
    author: str
    """The display name of whoever saved it."""

    saved_at: float
    """Seconds since the epoch."""

    def as_json(self) -> dict[str, object]:
        """Return what is published when the article was saved."""
        return {
            "title": self.title,
            "body": self.body,
            "author": self.author,
            "saved_at": self.saved_at,
        }


FIRST_ARTICLE = Article(
    title="The page that never needs a reload",
    body=(
        "Open this article in a second window and put the two side by side. When Alice saves a "
        "new version in one, the words change in the other at once. Nobody pressed reload, and "
        "nothing was polled.\n\n"
        "A content management system is good at rendering pages and bad at keeping thousands of "
        "connections open. So it hands that job over: each browser holds one connection to the "
        "push server, and the push server asks the CMS a single question about each visitor. Who "
        "is this, and what may they hear?\n\n"
        "From then on the CMS only speaks when there is something to say. One HTTP request goes "
        "in, and every open page gets the news."
    ),
    author="Alice",
    saved_at=0.0,
)
"""What the article says before anybody has edited it."""


@attrs.frozen
class Notice:
    """One sentence for the person in front of the page."""

    level: str
    """``"good"``, ``"warning"`` or ``"bad"``."""

    text: str


@attrs.define(kw_only=True, eq=False)
class Session:
    """One browser that is logged in."""

    id: str = attrs.field(repr=False)
    token: str = attrs.field(repr=False)
    """What the page presents to the push server for this session."""

    mark: str = attrs.field(repr=False)
    """What the push server presents to us for this session."""

    user: User
    typed_at: float = 0.0
    """When the others were last told of typing; seconds since the epoch."""

    notice: Notice | None = None
    """Shown once, on the next page."""

    def take_notice(self) -> Notice | None:
        """Return the waiting notice and forget it."""
        notice, self.notice = self.notice, None
        return notice


@attrs.define
class Sessions:
    """The owner of all sessions of this process.

    Sessions are found by the digest of what the visitor presents, so the time that a look-up
    takes says nothing about the secrets that are stored.
    """

    _secret: bytes = attrs.field(factory=lambda: secrets.token_bytes(32), repr=False)
    _by_id: dict[bytes, Session] = attrs.field(factory=dict, init=False, repr=False)
    _by_token: dict[bytes, Session] = attrs.field(factory=dict, init=False, repr=False)
    _by_mark: dict[bytes, Session] = attrs.field(factory=dict, init=False, repr=False)

    def open(self, user: User) -> tuple[Session, Session | None]:
        """Log *user* in; return the new session and the one that had to make room for it."""
        session_id = new_session_id()
        session = Session(
            id=session_id,
            token=self._derive("token", session_id),
            mark=self._derive("mark", session_id),
            user=user,
        )
        evicted = None
        if len(self._by_id) >= MAX_SESSIONS:
            evicted = next(iter(self._by_id.values()))
            self.close(evicted)
        self._by_id[_digest(session.id)] = session
        self._by_token[_digest(session.token)] = session
        self._by_mark[_digest(session.mark)] = session
        return session, evicted

    def close(self, session: Session) -> None:
        """End *session*; its id and its token are worth nothing from now on."""
        self._by_id.pop(_digest(session.id), None)
        self._by_token.pop(_digest(session.token), None)
        self._by_mark.pop(_digest(session.mark), None)

    def by_id(self, session_id: str) -> Session | None:
        """Find the session of a cookie."""
        return self._by_id.get(_digest(session_id))

    def by_token(self, token: str) -> Session | None:
        """Find the session of a token that a page presented to the push server."""
        return self._by_token.get(_digest(token))

    def by_mark(self, mark: str) -> Session | None:
        """Find the session that the push server asks for."""
        return self._by_mark.get(_digest(mark))

    def csrf_token(self, session_id: str) -> str:
        """Return the form token that goes with a cookie (of a visitor, logged in or not)."""
        return self._derive("csrf", session_id)

    def csrf_matches(self, session_id: str, presented: str) -> bool:
        """Compare a form's token in constant time."""
        expected = self.csrf_token(session_id).encode("ascii")
        return hmac.compare_digest(expected, presented.encode("utf-8"))

    def _derive(self, label: str, session_id: str) -> str:
        message = f"{label}:{session_id}".encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def new_session_id() -> str:
    """Return 256 random bits for a cookie."""
    return secrets.token_urlsafe(32)


def is_session_id(text: str) -> bool:
    """Tell whether *text* has the form of an id from :func:`new_session_id`."""
    return _SESSION_ID.match(text) is not None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()
