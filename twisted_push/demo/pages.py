"""The HTML of the demo CMS: files in ``templates/``, filled in by :class:`string.Template`.

Every value is escaped, unless it is :class:`Html`, which only this module makes.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from string import Template
from types import MappingProxyType
from urllib.parse import urlsplit

import attrs

from twisted_push.demo.api import Connection
from twisted_push.demo.chat import Chat, Entry, Line, Watchdog
from twisted_push.demo.state import USERS, Article, Notice, Session, User
from twisted_push.demo.wording import (
    HEADINGS,
    abilities,
    clock_time,
    count_by_user,
    count_text,
    display_name,
    slug,
)

__all__ = ["Html", "Pages", "PushAddress"]


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def _escaped(value: str) -> Html:
    return value if isinstance(value, Html) else Html(html.escape(value, quote=True))


def _joined(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


NOTHING = Html("")
NO_POSITIONS: Mapping[str, object] = MappingProxyType({})
Positions = Mapping[str, object]
"""Where the channels of a page stood before its content was read, as the push server told it."""

# What scripts fill in.
_NO_LINE = Line(id=0, user="", name="", text="", sent_at=0)
_NO_ENTRY = Entry(id=0, at=0, level="info", kind="", who="", text="")


@attrs.frozen
class PushAddress:
    """The push server's address, as browsers see it."""

    base: str
    """Like ``http://127.0.0.1:8080``; a path in front of the push server's own is kept."""

    @property
    def script(self) -> str:
        """The URL of the push server's client script."""
        return f"{self.base.rstrip('/')}/push.js"

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
                may=abilities(user),
            )
            for user in USERS.values()
        )
        main = self._fill("login", notice=self._notice(notice), cards=cards)
        return self._page("Log in", main, None)

    def article(
        self, session: Session, csrf: str, positions: Positions, article: Article, chat: Chat
    ) -> bytes:
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
            saved_text=clock_time(article.saved_at),
            body=_paragraphs(article.body),
            editor=editor,
            people=people,
            chat=self._chat(user, csrf, chat),
            panel=self._fill("panel"),
            message=self._fill("message", csrf=csrf, choices=_recipients(user)),
        )
        return self._page(article.title, main, session, csrf, positions, current="article")

    def log(self, session: Session, csrf: str, positions: Positions, watchdog: Watchdog) -> bytes:
        """Render what happened on the site, the newest first."""
        main = self._fill(
            "log",
            notice=self._notice(session.take_notice()),
            entries=_joined(self._entry(entry) for entry in reversed(watchdog.entries)),
            template=self._entry(_NO_ENTRY),
        )
        return self._page("What happens on the site", main, session, csrf, positions, current="log")

    def people(
        self,
        session: Session,
        csrf: str,
        positions: Positions,
        connections: list[Connection] | None,
        trouble: str,
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
        return self._page("Who is connected", main, session, csrf, positions, current="people")

    def error(self, status: int, message: str) -> bytes:
        """Render what is shown when something cannot be done."""
        heading = HEADINGS.get(status, "That did not work")
        main = self._fill("error", status=str(status), heading=heading, message=message)
        return self._page(heading, main, None)

    def _page(
        self,
        title: str,
        main: Html,
        session: Session | None,
        csrf: str = "",
        positions: Positions = NO_POSITIONS,
        *,
        current: str = "",
    ) -> bytes:
        if session is None:
            attributes, account, scripts = NOTHING, NOTHING, NOTHING
        else:
            user = session.user
            attributes = self._fill(
                "body_attributes",
                token=session.token,
                positions=json.dumps(positions),
                user=user.id,
                name=user.name,
            )
            account = self._fill(
                "account",
                csrf=csrf,
                name=user.name,
                user=user.id,
                initial=user.name[0],
                links=self._links(user, current),
            )
            scripts = self._fill("scripts", push=self.push_address().script)
        page = self._fill(
            "layout",
            title=title,
            attributes=attributes,
            account=account,
            scripts=scripts,
            main=main,
        )
        return page.encode("utf-8")

    def _links(self, user: User, current: str) -> Html:
        here = dict.fromkeys(("article", "people", "log"), NOTHING)
        here[current] = Html('aria-current="page"')
        article = here.pop("article")
        admin = self._fill("admin_links", **here) if user.may_administer else NOTHING
        return self._fill("links", article=article, admin=admin)

    def _chat(self, user: User, csrf: str, chat: Chat) -> Html:
        return self._fill(
            "chat",
            csrf=csrf,
            people=_joined(self._member(each, user) for each in USERS.values()),
            lines=_joined(self._line(line, user.id) for line in chat.lines),
            template=self._line(_NO_LINE, user.id),
        )

    def _member(self, user: User, viewer: User) -> Html:
        is_self = user.id == viewer.id
        return self._fill(
            "member",
            user=user.id,
            initial=user.name[0],
            name=f"{user.name} (you)" if is_self else user.name,
            state="online" if is_self else "offline",
        )

    def _line(self, line: Line, viewer: str) -> Html:
        return self._fill(
            "line",
            id=str(line.id),
            slug=slug(line.name),
            whose="mine" if line.user == viewer else "theirs",
            name=line.name,
            initial=line.name[:1],
            text=line.text,
            sent_at=str(line.sent_at),
            sent_text=clock_time(line.sent_at),
        )

    def _entry(self, entry: Entry) -> Html:
        return self._fill(
            "log_entry",
            id=str(entry.id),
            at=str(entry.at),
            at_text=clock_time(entry.at),
            level=entry.level,
            kind=entry.kind,
            who=entry.who,
            text=entry.text,
        )

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
            since_text=clock_time(since) if since is not None else "unknown",
        )

    def _notice(self, notice: Notice | None) -> Html:
        if notice is None:
            return NOTHING
        return self._fill("notice", level=notice.level, text=notice.text)

    def _fill(self, template: str, /, **values: str) -> Html:
        escaped = {name: _escaped(value) for name, value in values.items()}
        return Html(self._templates[template].substitute(escaped))


_COLUMNS = ("user", "client", "transport", "channels", "since", "since_text")


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
