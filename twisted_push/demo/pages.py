"""The HTML of the demo CMS: files in ``templates/``, filled in by :class:`string.Template`.

Every value is escaped, unless it is :class:`Html`, which only this module makes.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from importlib.resources import files
from string import Template
from urllib.parse import urlsplit

import attrs

from twisted_push.demo.api import Connection
from twisted_push.demo.state import USERS, Article, Notice, Session, User

__all__ = ["Html", "Pages", "PushAddress"]

WEBSOCKET_PATH = "/connection/websocket"
"""Where the push server takes WebSockets."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def _escaped(value: str) -> Html:
    return value if isinstance(value, Html) else Html(html.escape(value, quote=True))


def _joined(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


NOTHING = Html("")


@attrs.frozen
class PushAddress:
    """The push server's address, as browsers see it."""

    base: str
    """Like ``http://127.0.0.1:8080``; a path in front of the push server's own is kept."""

    @property
    def websocket(self) -> str:
        """The URL that a page opens."""
        parts = urlsplit(self.base)
        scheme = "wss" if parts.scheme in ("https", "wss") else "ws"
        return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{WEBSOCKET_PATH}"

    @property
    def origins(self) -> tuple[str, ...]:
        """What a page's policy must let it connect to."""
        parts = urlsplit(self.base)
        secure = parts.scheme in ("https", "wss")
        schemes = ("wss", "https") if secure else ("ws", "http")
        return tuple(f"{scheme}://{parts.netloc}" for scheme in schemes)


@attrs.define
class Pages:
    """Renders whole pages.  Reads the templates once."""

    push_address: Callable[[], PushAddress]
    _templates: Mapping[str, Template] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        folder = files("twisted_push.demo") / "templates"
        self._templates = {
            entry.name.removesuffix(".html"): Template(entry.read_text("utf-8"))
            for entry in folder.iterdir()
            if entry.name.endswith(".html")
        }

    def login(self, csrf: str, notice: Notice | None) -> bytes:
        """Render the page with the user cards."""
        cards = _joined(
            self._fill(
                "user_card",
                csrf=csrf,
                user=user.id,
                name=user.name,
                initial=user.name[0],
                role=user.role,
                may=_abilities(user),
            )
            for user in USERS.values()
        )
        main = self._fill("login", notice=self._notice(notice), cards=cards)
        return self._page("Log in", main, session=None)

    def article(self, session: Session, csrf: str, article: Article) -> bytes:
        """Render the article with everything around it."""
        user = session.user
        if user.may_edit:
            editor = self._fill("editor", csrf=csrf, title=article.title, body=article.body)
        else:
            editor = self._fill("reader", name=user.name)
        people = self._people_panel(csrf) if user.may_administer else NOTHING
        main = self._fill(
            "article",
            notice=self._notice(session.take_notice()),
            title=article.title,
            author=article.author,
            initial=article.author[:1],
            slug=slug(article.author),
            saved_at=str(article.saved_at),
            saved_text=_clock_time(article.saved_at),
            body=_paragraphs(article.body),
            editor=editor,
            people=people,
            message=self._fill("message", csrf=csrf, choices=_recipients(user)),
        )
        links = self._links("article") if user.may_administer else NOTHING
        return self._page(article.title, main, session=session, csrf=csrf, links=links)

    def people(
        self, session: Session, csrf: str, connections: list[Connection] | None, trouble: str
    ) -> bytes:
        """Render who is connected; *connections* is None when the push server did not say."""
        rows = [self._person(row, csrf) for row in count_by_user(connections or [])]
        main = self._fill(
            "people",
            csrf=csrf,
            notice=self._notice(session.take_notice()),
            trouble=trouble,
            trouble_hidden=Html("" if trouble else "hidden"),
            data_hidden=Html("hidden" if trouble else ""),
            people=_joined(rows),
            template=self._person(("", "", 0), csrf),
            rows=_joined(self._connection(c) for c in connections or []),
            connection_template=self._fill("connection_row", **dict.fromkeys(_COLUMNS, "")),
        )
        links = self._links("people")
        return self._page("Who is connected", main, session=session, csrf=csrf, links=links)

    def error(self, status: int, message: str) -> bytes:
        """Render what is shown when something cannot be done."""
        heading = _HEADINGS.get(status, "That did not work")
        main = self._fill("error", status=str(status), heading=heading, message=message)
        return self._page(heading, main, session=None)

    def _page(
        self,
        title: str,
        main: Html,
        *,
        session: Session | None,
        csrf: str = "",
        links: Html = NOTHING,
    ) -> bytes:
        if session is None:
            attributes, account, scripts = NOTHING, NOTHING, NOTHING
        else:
            user = session.user
            attributes = self._fill(
                "body_attributes",
                url=self.push_address().websocket,
                token=session.token,
                user=user.id,
                name=user.name,
            )
            account = self._fill(
                "account",
                csrf=csrf,
                name=user.name,
                user=user.id,
                initial=user.name[0],
                links=links,
            )
            scripts = self._fill("scripts")
        page = self._fill(
            "layout",
            title=title,
            attributes=attributes,
            account=account,
            scripts=scripts,
            main=main,
        )
        return page.encode("utf-8")

    def _links(self, current: str) -> Html:
        here = dict.fromkeys(("article", "people"), NOTHING)
        return self._fill("admin_links", **{**here, current: Html('aria-current="page"')})

    def _people_panel(self, csrf: str) -> Html:
        template = self._person(("", "", 0), csrf)
        return self._fill("people_panel", csrf=csrf, template=template)

    def _person(self, row: tuple[str, str, int], csrf: str) -> Html:
        user, name, count = row
        return self._fill(
            "person",
            csrf=csrf,
            user=user,
            name=name,
            initial=name[:1],
            slug=slug(name),
            count=count_text(count),
            state="here" if count else "away",
            disabled=Html("" if count and user else "disabled"),
        )

    def _connection(self, connection: Connection) -> Html:
        since = connection.connected_since
        return self._fill(
            "connection_row",
            user=display_name(connection.user),
            client=connection.client or "unknown",
            transport=connection.transport or "unknown",
            channels=", ".join(connection.channels) or "none",
            since=str(since) if since is not None else "",
            since_text=_clock_time(since) if since is not None else "unknown",
        )

    def _notice(self, notice: Notice | None) -> Html:
        if notice is None:
            return NOTHING
        return self._fill("notice", level=notice.level, text=notice.text)

    def _fill(self, template: str, /, **values: str) -> Html:
        escaped = {name: _escaped(value) for name, value in values.items()}
        return Html(self._templates[template].substitute(escaped))


def count_by_user(connections: list[Connection]) -> list[tuple[str, str, int]]:
    """Count the connections of each user: (id, display name, count), known users first."""
    counts = dict.fromkeys(USERS, 0)
    for connection in connections:
        counts[connection.user] = counts.get(connection.user, 0) + 1
    return [(user, display_name(user), count) for user, count in counts.items()]


def display_name(user: str) -> str:
    """Return what a user id is shown as."""
    known = USERS.get(user)
    return known.name if known else (user or "Anonymous")


def slug(name: str) -> str:
    """Return the part of a class name that gives somebody with an account their color."""
    return name.lower() if name.lower() in USERS else "other"


def count_text(count: int) -> str:
    """Say how many pages somebody has open."""
    return {0: "not here", 1: "1 connection"}.get(count, f"{count} connections")


_COLUMNS = ("user", "client", "transport", "channels", "since", "since_text")
_HEADINGS = {
    403: "That is not allowed",
    404: "There is no such page",
    413: "That is too long",
    422: "Something is missing",
}


def _abilities(user: User) -> str:
    if user.may_administer:
        return "Edits the article, writes to everybody, sees who is connected"
    return "Reads along live, writes to everybody"


def _recipients(sender: User) -> Html:
    others = (user for user in USERS.values() if user.id != sender.id)
    options = [("", "Everybody"), *((user.id, f"Only {user.name}") for user in others)]
    return _joined(
        Html(f'<option value="{_escaped(value)}">{_escaped(text)}</option>')
        for value, text in options
    )


def _paragraphs(text: str) -> Html:
    parts = (part.strip() for part in text.split("\n\n"))
    return _joined(Html(f"<p>{_escaped(part)}</p>\n") for part in parts if part)


def _clock_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
