"""``push.js`` in a real browser, against the real server.

What takes its time is waited for together. Pages may do little: see `push_pages.POLICY`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cms import StubCms, says, user
from tests.e2e.push_pages import PageOf, Site, Tab, open_tab
from tests.e2e.server import Dialogue, PushServer, eventually, jwt_for, make_server
from tests.e2e.silent_proxy import SilentProxy

pytestmark = [pytest.mark.node, pytest.mark.browser]

HERE = Path(__file__).parent
Open = Callable[..., Tab]
TRANSPORTS = ("websocket", "http_stream", "sse", "poll")
AGAIN = {"code": 3011, "reason": "force reconnect"}

_people = count()


@pytest.fixture(scope="module")
def browser(node: str, chromium: str) -> Iterator[Dialogue]:
    """Run a browser, for all tests of the module."""
    with Dialogue([node, str(HERE / "js" / "browser.mjs"), chromium], HERE) as dialogue:
        dialogue.wait("ready")
        yield dialogue


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


def make_push(folder: Path, cms: StubCms, site: Site, **top: Any) -> PushServer:
    cms.http.answers["/rpc"] = says({"result": {"data": {"from": "the cms"}}})
    return make_server(
        folder,
        callback=cms.url,
        top=top,
        limits={"ping_interval": "1s", "pong_timeout": "3s", "max_commands_per_second": 1000},
        callback_options={"rpc_url": cms.url.replace("/connect", "/rpc")},
        site={
            "allowed_origins": [site.origin],
            "presence.online_grace": "500ms",
        },
    )


@pytest.fixture(scope="module")
def server(
    cms: StubCms, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PushServer]:
    with make_push(tmp_path_factory.mktemp("push"), cms, site) as running:
        yield running


@pytest.fixture
def open_page(browser: Dialogue, site: Site, server: PushServer) -> Iterator[Open]:
    """Open pages; whatever a test did, no script failed or broke the rules of its page."""
    start = len(browser.events)

    def open_page(token: str, person: str = "somebody", **more: Any) -> Tab:
        page = PageOf(**{"push": server.url, "token": token, **more})
        return open_tab(browser, site.address(page), person)

    yield open_page
    assert browser.ask("clear")["event"] == "done"
    assert [each for each in browser.events[start:] if each["event"] == "pageerror"] == []


@pytest.fixture
def person(cms: StubCms) -> str:
    """Give the token of somebody who was never here: of the user with the same name."""
    token = f"person-{next(_people)}"
    cms.http.answers[token] = user(token, "news", f"chat:{token}")
    return token


def clients(server: PushServer, person: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.api("connections", user=person)["connections"]
    return found


# --- The page --------------------------------------------------------------------------------


def test_one_script_and_three_lines(open_page: Open, server: PushServer, person: str) -> None:
    tab = open_page(person)
    assert tab.state("connected")["transport"] == "websocket"
    data = {"title": "<img src=x onerror=alert(1)>"}
    server.publish("news", data)
    message = tab.heard(data)
    assert message["channel"] == "news"
    assert message["offset"] == 1
    assert tab.run("document.images.length") == 0


def test_as_a_module(open_page: Open, server: PushServer, person: str) -> None:
    tab = open_page("", module=True, options={"url": server.url, "token": person})
    tab.state("connected")
    server.publish("news", "to the module")
    tab.heard("to the module")


def test_a_page_goes_on_from_where_it_was_rendered(
    open_page: Open, server: PushServer, person: str
) -> None:
    channel = f"chat:{person}"
    positions = [server.publish(channel, number) for number in range(4)]
    places = [{name: found[name] for name in ("offset", "epoch")} for found in positions]
    fresh = open_page(person, "fresh", positions={channel: places[1]})
    stale = open_page(person, "stale", positions={channel: {**places[1], "epoch": "another"}})
    fresh.heard(3)
    assert fresh.data(channel) == [2, 3]
    fresh.channel(channel, "recovered")
    stale.channel(channel, "lost")
    assert stale.data(channel) == []


# --- How it gets through ---------------------------------------------------------------------


def test_every_transport(open_page: Open, server: PushServer, person: str) -> None:
    """Each on its own, with all that goes over it: both ways, and back after a loss."""
    channel = f"chat:{person}"
    tabs = []
    for transport in TRANSPORTS:
        tabs.append(open_page(person, transport, options={"transports": [transport]}))
        assert tabs[-1].state("connected")["transport"] == transport
    assert {found["transport"] for found in clients(server, person)} == {*TRANSPORTS}
    for transport, tab in zip(TRANSPORTS, tabs, strict=True):
        tab.run(f"push.publish({channel!r}, 'by {transport}')")
        assert tab.run("push.rpc('hello', {})") == {"from": "the cms"}
        assert len(tab.run(f"push.presence({channel!r})")) == len(TRANSPORTS)
    said = [f"by {transport}" for transport in TRANSPORTS]
    for tab in tabs:
        tab.heard(said[-1])
        tab.begin()
    server.api("disconnect", user=person, disconnect=AGAIN)
    for number in range(3):
        server.publish(channel, number)
    for tab in tabs:
        assert tab.state("recovering")["code"] == AGAIN["code"]
        assert tab.state("connected")["recovered"] is True
        tab.heard(2)
        assert tab.data(channel) == [0, 1, 2]
    # Some pings later they are still there.
    tabs[0].run("new Promise((resolve) => setTimeout(resolve, 4500))")
    for tab in tabs:
        assert len(tab.events("state")) == 2
    *leaving, staying = tabs
    for tab in leaving:
        tab.do("close")
    eventually("they are gone", lambda: len(clients(server, person)) == 1)
    server.api("disconnect", user=person)
    assert staying.state("denied")["code"] == 3503


def test_proxies_that_swallow(open_page: Open, server: PushServer, cms: StubCms) -> None:
    """One swallows WebSockets alone, the other all that is not a whole answer."""
    for name in ("silenced", "held"):
        cms.http.answers[name] = user(name, "news")
    with SilentProxy(server.port) as silent, SilentProxy(server.port, holding=True) as holding:
        held = open_page("held", "held", push=f"http://127.0.0.1:{holding.port}")
        silenced = open_page("silenced", "silenced", push=f"http://127.0.0.1:{silent.port}")
        assert silenced.state("connected")["transport"] == "http_stream"
        assert silent.silenced == 1
        server.publish("news", "through")
        silenced.heard("through")
        # The next page knows the way.
        silenced.do("close")
        again = open_page("silenced", "silenced", push=f"http://127.0.0.1:{silent.port}")
        assert again.state("connected")["transport"] == "http_stream"
        assert silent.silenced == 1
        assert held.state("connected")["transport"] == "poll"
        assert holding.silenced == 1
        assert holding.held >= 2
        server.publish("news", "in whole answers")
        held.heard("in whole answers")


# --- It comes back ---------------------------------------------------------------------------


def test_offline_and_in_the_background(open_page: Open, server: PushServer, person: str) -> None:
    channel = f"chat:{person}"
    moving = open_page(person, "moving")
    resting = open_page(person, "resting", options={"pauseHidden": 0.2})
    for tab in (moving, resting):
        tab.state("connected")
        tab.begin()
    moving.do("offline", person="moving", offline=True)
    resting.do("hide", hidden=True)
    assert moving.state("recovering")["reason"] == "offline"
    assert resting.state("recovering")["reason"] == "hidden"
    eventually("both are gone", lambda: not clients(server, person))
    server.publish(channel, "while away")
    moving.do("offline", person="moving", offline=False)
    resting.do("hide", hidden=False)
    for tab in (moving, resting):
        assert tab.state("connected")["recovered"] is True
        tab.heard("while away")
        assert tab.data(channel) == ["while away"]


def test_the_server_is_killed_and_comes_again(
    open_page: Open, cms: StubCms, site: Site, person: str, tmp_path: Path
) -> None:
    channel = f"chat:{person}"
    with make_push(tmp_path, cms, site, state_dir="state") as server:
        tabs = [open_page(person, push=server.url) for _ in range(2)]
        tabs.append(open_page(person, "polling", push=server.url, options={"transports": ["poll"]}))
        for tab in tabs:
            tab.state("connected")
        server.publish(channel, "before")
        for tab in tabs:
            tab.heard("before")
            tab.begin()
        asked = len(cms.questions)
        server.kill()
        for tab in tabs:
            tab.state("recovering")
        server.start()
        server.publish(channel, "after")
        for tab in tabs:
            assert tab.state("connected")["recovered"] is True
            tab.heard("after")
            assert tab.data(channel) == ["after"]
        assert len(cms.questions) == asked
        assert len(clients(server, person)) == 2


def test_kick_and_logout_are_seen(open_page: Open, server: PushServer, cms: StubCms) -> None:
    cms.http.answers["of-the-kicked"] = user("the-kicked", "news")
    cms.http.answers["of-the-leaving"] = user("the-leaving", "news")
    kicked = [open_page("of-the-kicked") for _ in range(2)]
    leaving = [open_page("of-the-leaving") for _ in range(2)]
    for tab in (*kicked, *leaving):
        tab.state("connected")
    server.api(
        "disconnect", user="the-kicked", disconnect={"code": 4501, "reason": "closed for you"}
    )
    server.api("logout", token="of-the-leaving")
    for tab in kicked:
        denied = tab.state("denied")
        assert (denied["code"], denied["reason"]) == (4501, "closed for you")
    for tab in leaving:
        assert tab.state("denied")["code"] == 3500
    server.publish("news", "not for them")
    for tab in (*kicked, *leaving):
        assert tab.data("news") == []
    kicked[0].begin()
    kicked[0].run("push.reconnect()")
    kicked[0].state("connected")
    leaving[0].begin()
    leaving[0].run("push.reconnect()")
    assert leaving[0].state("denied")["code"] == 3500


def test_tokens_are_renewed(open_page: Open, server: PushServer) -> None:
    """The one of the connection and the one of a channel, each before its end."""
    soon = time.time() + 3
    claims = {"channel": "signed:room"}
    tokens = {
        "connection": [jwt_for("signed", exp=soon), jwt_for("signed")],
        "channel": [jwt_for("signed", exp=soon, **claims), jwt_for("signed", **claims)],
    }
    tab = open_page("")
    tab.run(
        f"""
        const tokens = {json.dumps(tokens)};
        window.told = [];
        const getToken = async () => tokens.connection.shift();
        window.signed = Push.connect({{share: false, getToken}});
        signed.onState((state) => told.push(state));
        signed.onChannel(({{channel, event}}) => told.push(`${{channel}} ${{event}}`));
        signed.subscribe("signed:room", {{token: async () => tokens.channel.shift()}});
        """
    )
    expected = ["broadcast subscribed", "signed:room subscribed", "connected"]
    eventually("it is connected", lambda: tab.run("told") == expected)
    tab.run("new Promise((resolve) => setTimeout(resolve, 4000))")
    # Nobody was sent away, and nobody has a token that is over.
    assert tab.run("told") == expected
    [client] = clients(server, "signed")
    assert client["user"] == "signed"
    metrics = server.get("/metrics")[1]
    for command in ("refresh", "sub_refresh"):
        assert re.search(rf'commands_total{{[^}}]*"{command}"[^}}]*}} 1\.0', metrics), command


# --- One connection for all tabs -------------------------------------------------------------


def test_twenty_tabs_are_one_connection(open_page: Open, server: PushServer, cms: StubCms) -> None:
    for name in ("of-many", "of-another"):
        cms.http.answers[name] = user(name, "news")
    tabs = [open_page("of-many") for _ in range(20)]
    ids = {tab.state("connected")["client"] for tab in tabs}
    assert [found["client"] for found in clients(server, "of-many")] == [*ids]
    # Another login in the same browser does not share.
    other = open_page("of-another")
    assert other.state("connected")["client"] not in ids
    server.publish("news", "to all")
    for tab in (*tabs, other):
        tab.heard("to all")
        assert tab.data("news") == ["to all"]


def test_tabs_do_not_notice_one_that_is_far_behind(
    open_page: Open, server: PushServer, person: str
) -> None:
    """It is helped as far as the history goes; for the others the connection just goes on."""
    channel = f"chat:{person}"
    tabs = [open_page(person) for _ in range(2)]
    clients_of = {tab.state("connected")["client"] for tab in tabs}
    positions = [server.publish(channel, number) for number in range(150)]
    places = [{name: found[name] for name in ("offset", "epoch")} for found in positions]
    for tab in tabs:
        tab.heard(149)
        tab.begin()
    stale = open_page(person, positions={channel: places[60]})
    hopeless = open_page(person, positions={channel: places[0]})
    for tab, outcome in ((stale, "recovered"), (hopeless, "lost")):
        assert tab.state("connected")["client"] in clients_of
        tab.channel(channel, outcome)
    server.publish(channel, "to all")
    for tab in (*tabs, stale, hopeless):
        tab.heard("to all")
    assert stale.data(channel) == [*range(61, 150), "to all"]
    assert hopeless.data(channel) == ["to all"]
    for tab in tabs:
        assert tab.events("state") == []
        assert tab.data(channel) == ["to all"]
    assert len(clients(server, person)) == 1


def test_the_tab_with_the_connection_dies_in_a_burst(
    open_page: Open, server: PushServer, person: str
) -> None:
    channel = f"chat:{person}"
    first = open_page(person)
    first.state("connected")
    others = [open_page(person) for _ in range(3)]
    for tab in others:
        tab.state("connected")
    with Burst(server, channel) as burst:
        others[0].heard(5)
        first.do("crash")
        others[0].channel(channel, "recovered")
        middle = burst.sent
        # The one that waited longest has it now, and is closed by its user.
        others.pop(0).do("close")
        eventually("it goes on", lambda: burst.sent > middle + 5)
    for tab in others:
        tab.heard(burst.sent - 1)
        assert tab.data(channel) == list(range(burst.sent))
    assert len(clients(server, person)) == 1


def test_the_tab_with_the_connection_is_frozen(
    open_page: Open, server: PushServer, person: str
) -> None:
    channel = f"chat:{person}"
    first, second = open_page(person), open_page(person)
    client = second.state("connected")["client"]
    server.publish(channel, "before")
    second.heard("before")
    first.do("freeze")
    second.begin()
    server.publish(channel, "meanwhile")
    # Somebody looks at the other one.
    second.do("hide", hidden=False)
    assert second.state("connected")["client"] != client
    second.heard("meanwhile")
    assert second.data(channel) == ["meanwhile"]
    first.do("thaw")
    server.publish(channel, "after")
    first.heard("after")
    second.heard("after")
    assert first.data(channel) == ["before", "meanwhile", "after"]
    eventually("one connection is left", lambda: len(clients(server, person)) == 1)


class Burst:
    """Publishes numbers one after the other, in a thread; ``sent`` is how many."""

    def __init__(self, server: PushServer, channel: str) -> None:
        self._server = server
        self._channel = channel
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._publish)
        self.sent = 0

    def _publish(self) -> None:
        while not self._over.wait(0.01) and self.sent < 1000:
            self._server.publish(self._channel, self.sent)
            self.sent += 1

    def __enter__(self) -> Burst:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()
        self._thread.join()


def test_content_channels_belong_to_their_tabs(
    open_page: Open, server: PushServer, person: str
) -> None:
    def readers() -> Any:
        return server.api("content_users", channel="reading")["users"]

    for token in ("of-first", "of-second"):
        server.api("content_token", channel="reading", token=f"{person}-{token}")
    first, second, third = (open_page(person) for _ in range(3))
    for tab in (first, second, third):
        tab.state("connected")
    for tab, token in ((second, "of-first"), (third, "of-second")):
        event = tab.run(f"push.subscribe('reading', {{token: '{person}-{token}'}})")
        assert event["event"] == "subscribed"
    forged = "push.subscribe('secret', {token: 'forged'}).catch((error) => error.code)"
    assert first.run(forged) == 103
    assert readers() == [person]
    server.publish("reading", "to readers")
    third.heard("to readers")
    second.do("crash")
    # The tab with the connection goes; its channels of other tabs go on.
    first.do("close")
    third.begin()
    third.state("connected")
    server.publish("reading", "to the one that is left")
    third.heard("to the one that is left")
    assert readers() == [person]
    third.run("push.unsubscribe('reading')")
    eventually("nobody reads", lambda: readers() == [])


def test_who_is_online(open_page: Open, server: PushServer, cms: StubCms) -> None:
    cms.http.answers["of-the-watcher"] = user("the-watcher", presence_to=[])
    cms.http.answers["of-the-watched"] = user("the-watched", presence_to=["the-watcher"])
    watchers = [open_page("of-the-watcher", "watcher") for _ in range(2)]
    for tab in watchers:
        tab.state("connected")
    watched = open_page("of-the-watched", "watched")
    watched.state("connected")
    for tab in watchers:
        tab.wait(
            "presence", lambda event: event["of"] == {"event": "online", "user": "the-watched"}
        )
    assert watchers[1].run("push.online") == ["the-watched"]
    late = open_page("of-the-watcher", "watcher")
    late.state("connected")
    assert late.run("push.online") == ["the-watched"]
    watched.do("close")
    for tab in watchers:
        tab.wait(
            "presence", lambda event: event["of"] == {"event": "offline", "user": "the-watched"}
        )
    assert late.run("push.online") == []
