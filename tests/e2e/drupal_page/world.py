"""A browser with pages of a Drupal site, and what a test wants to do with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from attrs import define, field

from tests.e2e.drupal import Module, Person, StubDrupal
from tests.e2e.drupal_page.site import FLAVOURS, Flavour, PageSite
from tests.e2e.server import Dialogue, PushServer, eventually

_uids = count(100)


@define
class Tab:
    """A page that is open. ``mark`` is where what is waited for begins."""

    browser: Dialogue
    name: str
    mark: int

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Give what the page recorded of a kind, from the mark on."""
        return [
            event
            for event in self.browser.events[self.mark :]
            if event["event"] == kind and event.get("page") == self.name
        ]

    def wait(self, kind: str, fits: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """Wait until the page records something of a kind; give the first that fits."""
        what = f"{kind} in the page {self.name}"
        try:
            return eventually(what, lambda: [*filter(fits, self.events(kind))])[0]
        except AssertionError as error:
            events = "\n".join(map(str, self.browser.events))
            raise AssertionError(f"{error}; there was:\n{events}") from None

    def begin(self) -> None:
        """Let what is waited for begin here."""
        self.mark = len(self.browser.events)

    def authenticated(self) -> dict[str, Any]:
        """Wait until the page is let in; give what it is told then."""
        return self.told("clientAuthenticated")

    def told(self, callback: str) -> dict[str, Any]:
        """Wait until the page is told something by this callback; give its data."""
        found = self.wait("callback", lambda event: event["message"].get("callback") == callback)
        data: dict[str, Any] = found["message"]["data"]
        return data

    def heard(self, data: object, by: str = "watchdog") -> dict[str, Any]:
        """Wait until a callback gets a message with this data; give the message."""
        found = self.wait(
            "callback",
            lambda event: event["name"] == by and event["message"].get("data") == data,
        )
        message: dict[str, Any] = found["message"]
        return message

    def data(self, name: str = "watchdog") -> list[object]:
        """Give the data of all messages that a callback got."""
        events = self.events("callback")
        return [event["message"].get("data") for event in events if event["name"] == name]

    def run(self, script: str) -> Any:
        """Run a script in the page; give its result."""
        return done(self.browser.ask("run", page=self.name, script=script)).get("result")

    def goto(self, url: str) -> None:
        """Load another page in its place."""
        self.begin()
        done(self.browser.ask("goto", page=self.name, url=url))

    def close(self) -> None:
        """Close the page."""
        done(self.browser.ask("close", page=self.name))


def done(event: dict[str, Any]) -> dict[str, Any]:
    """Give the outcome of a command that must not have failed."""
    assert event["event"] == "done", event
    return event


@define
class World:
    """A browser, the site, Drupal behind it, and the push server."""

    browser: Dialogue
    site: PageSite
    drupal: StubDrupal
    server: PushServer
    people: dict[str, Person] = field(factory=dict)
    _names: Iterator[int] = field(factory=count)

    def person(self, *channels: str, seen_by: Sequence[str] = ()) -> str:
        """Give the token of a new user of the site."""
        uid = next(_uids)
        token = f"token-of-{uid}"
        presence = tuple(str(self.people[each].uid) for each in seen_by)
        own = (f"nodejs_user_{uid}", *channels)
        self.people[token] = Person(uid, own, f"user{uid}", presence)
        self.drupal.set_people(self.people)
        return token

    def uid(self, token: str) -> int:
        return self.people[token].uid

    def open(
        self,
        flavour: Flavour,
        token: str,
        content_tokens: Mapping[str, str] | None = None,
        *,
        without: Sequence[str] = (),
        **page: Any,
    ) -> Tab:
        """Open a page in a new tab of a user's browser, and wait for nothing.

        ``without`` are names that the browser does not have; ``page`` is that of `PageSite.page`.
        """
        tab = Tab(self.browser, f"{flavour.name}/{next(self._names)}", len(self.browser.events))
        url = self.address(flavour, token, content_tokens, **page)
        done(self.browser.ask("open", page=tab.name, person=token, url=url, without=list(without)))
        return tab

    def address(
        self,
        flavour: Flavour,
        token: str,
        content_tokens: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        **page: Any,
    ) -> str:
        """Make a page; give its address."""
        return self.site.page(flavour, port or self.server.port, token, content_tokens, **page)

    def connected(self, flavour: Flavour, token: str, *arguments: Any, **options: Any) -> Tab:
        """Open a page, and wait until it is let in."""
        tab = self.open(flavour, token, *arguments, **options)
        tab.authenticated()
        return tab

    def module(self, flavour: Flavour = FLAVOURS[0]) -> Module:
        return Module(self.server.port, "7b" if flavour.generation == 7 else "8")

    def transports(self, token: str) -> list[str]:
        """Give by what a user is connected."""
        user = str(self.uid(token))
        found = self.server.api("connections", user=user)["connections"]
        return [each["transport"] for each in found]

    def reconnect(self, token: str) -> None:
        """Drop the connections of a user, who is to come back."""
        disconnect = {"code": 3011, "reason": "force reconnect"}
        self.server.api("disconnect", user=str(self.uid(token)), disconnect=disconnect)
