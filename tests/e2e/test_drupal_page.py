"""Pages of a Drupal site in a real browser, with this server's script and with Socket.IO's own.

The site is another origin than the push server. What takes its time is tried with all scripts at
once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cms import hang_up
from tests.e2e.drupal import PASSWORD_HASH, Module, StubDrupal, make_drupal_server
from tests.e2e.drupal_page.site import FLAVOURS, Flavour, PageSite
from tests.e2e.drupal_page.world import Tab, World, done
from tests.e2e.server import KEY, Dialogue, PushServer, eventually, free_port
from tests.e2e.silent_proxy import SilentProxy

pytestmark = [pytest.mark.node, pytest.mark.browser]

HERE = Path(__file__).parent
GRACE = "1500ms"
SECRETS = (KEY, PASSWORD_HASH, "serviceKey", "NodejsServiceKey", "rdf_mapping", "@mail.invalid")
"""What Drupal tells the push server, and no browser may see."""

SCRIPTS = FLAVOURS[1:]
"""Each script once."""


@pytest.fixture(scope="module")
def browser(node: str, chromium: str) -> Iterator[Dialogue]:
    """Run a browser, for all tests of the module."""
    script = str(HERE / "js" / "browser.mjs")
    with Dialogue([node, script, chromium], HERE) as dialogue:
        dialogue.wait("ready")
        yield dialogue


@pytest.fixture(scope="module")
def site() -> Iterator[PageSite]:
    with PageSite() as running:
        yield running


@pytest.fixture(scope="module")
def drupal() -> Iterator[StubDrupal]:
    """Run a Drupal that tells the push server everything: generation 7."""
    with StubDrupal({}, generation=7) as running:
        yield running


@pytest.fixture(scope="module")
def push(
    drupal: StubDrupal, site: PageSite, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PushServer]:
    folder = tmp_path_factory.mktemp("push")
    with make_push(folder, drupal, site) as running:
        yield running


def make_push(folder: Path, drupal: StubDrupal, site: PageSite, **config: Any) -> PushServer:
    rules = {"allowed_origins": [site.origin], "presence.online_grace": GRACE}
    return make_drupal_server(folder, drupal, site=rules, **config)


@pytest.fixture
def world(
    browser: Dialogue, site: PageSite, drupal: StubDrupal, push: PushServer
) -> Iterator[World]:
    """Give the world; whatever a test did, no browser saw a secret, and no script failed."""
    start = len(browser.events)
    world = World(browser, site, drupal, push)
    yield world
    found = done(browser.ask("search", texts=list(SECRETS)))["result"]["found"]
    done(browser.ask("clear"))
    assert found == []
    assert [each for each in browser.events[start:] if each["event"] == "pageerror"] == []


# --- Messages --------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FLAVOURS, ids=str)
def test_callbacks(world: World, flavour: Flavour) -> None:
    alice_token, bob_token = world.person("example"), world.person("example")
    alice, bob = world.connected(flavour, alice_token), world.connected(flavour, bob_token)
    module = world.module(flavour)
    own = f"nodejs_user_{world.uid(alice_token)}"
    client = alice.run("Drupal.Nodejs.socket.id")
    # Drupal told its key, the hash of the password and the mail address, too.
    assert alice.authenticated() == {
        "uid": str(world.uid(alice_token)),
        "authToken": alice_token,
        "nodejsValidAuthToken": True,
        "clientId": client,
        "channels": [own, "example"],
        "presenceUids": [],
        "contentTokens": [],
    }
    alice.begin()
    bob.begin()

    # Those that are named, and no others; a name that nobody has is nobody's.
    assert module.send(own, "one", callback="nodejsNotify") == 1
    assert module.send(own, "two", callback=["nodejsNotify", "watchdog"]) == 1
    assert module.send(own, "none", callback="noSuchCallback") == 1
    # Without a name all of them; that one of them fails, stops none.
    assert module.send("example", {"subject": "grüße 🌍", "body": "<b>"}) == 2
    assert module.broadcast("Hello", "everybody") == 2
    # The tab that sent it knows already.
    assert module.send("example", "of alice", client=client) == 1
    assert module.send("example", "the end", callback="nodejsNotify") == 2

    for tab in (alice, bob):
        tab.heard("the end", by="nodejsNotify")
    to_all = [
        {"subject": "grüße 🌍", "body": "<b>"},
        {"subject": "Hello", "body": "everybody"},
    ]
    assert alice.data("nodejsNotify") == ["one", "two", *to_all, "the end"]
    assert alice.data("watchdog") == ["two", *to_all]
    assert bob.data("nodejsNotify") == [*to_all, "of alice", "the end"]
    assert len(alice.events("fault")) == len(to_all)
    broadcast = alice.heard({"subject": "Hello", "body": "everybody"})
    assert broadcast["broadcast"] is True
    assert broadcast["channel"] == "nodejs_notify"


def test_the_search_of_secrets_finds_what_comes(world: World) -> None:
    """See the end of the fixture ``world``."""
    token = world.person("example")
    for flavour in SCRIPTS:
        world.connected(flavour, token)
    texts = ["clientAuthenticated", token, "nodejs_user_", "Drupal.Nodejs"]
    assert world.browser.ask("search", texts=texts)["result"]["found"] == texts


def test_presence(world: World) -> None:
    """Who loads another page within the grace has not been away."""
    watchers = [Watcher(world, flavour) for flavour in SCRIPTS]
    for watcher in watchers:
        watcher.alice.goto(world.address(watcher.flavour, watcher.alice_token, slow=True))
        watcher.alice.authenticated()
        # After alice left, so that her end would be told before this one.
        watcher.carol.close()
    for watcher in watchers:
        watcher.wait_until_offline(watcher.carol_token)
        watcher.alice.close()
    for watcher in watchers:
        watcher.wait_until_offline(watcher.alice_token)


class Watcher:
    """Bob, who may see alice and carol come and go."""

    def __init__(self, world: World, flavour: Flavour) -> None:
        self.world, self.flavour = world, flavour
        bob_token = world.person()
        self.alice_token, self.carol_token = (world.person(seen_by=[bob_token]) for _ in range(2))
        self.bob = world.connected(flavour, bob_token)
        self.alice = world.connected(flavour, self.alice_token)
        self.carol = world.connected(flavour, self.carol_token)
        self.told = [self._event(token, "online") for token in (self.alice_token, self.carol_token)]

    def _event(self, token: str, event: str) -> dict[str, str]:
        return {"uid": str(self.world.uid(token)), "event": event}

    def wait_until_offline(self, token: str) -> None:
        """Wait until bob is told that somebody left, and check that this is all he is told."""
        self.told.append(self._event(token, "offline"))
        eventually("bob is told", lambda: len(self._heard()) >= len(self.told))
        assert self._heard() == self.told
        assert self.bob.data() == []

    def _heard(self) -> list[dict[str, str]]:
        events = self.bob.events("presence")
        return [event["message"]["presenceNotification"] for event in events]


# --- Content channels ------------------------------------------------------------------------


def test_content_channel(world: World) -> None:
    readings = [Reading(world, flavour) for flavour in SCRIPTS]
    for reading in readings:
        reading.check_two_and_a_late_one()
        # Bob goes on to another page, which is not in the channel.
        reading.bob.goto(world.address(reading.flavour, reading.tokens["bob"]))
    for reading in readings:
        reading.check_leave_notice()


class Reading:
    """Alice and bob read the same article, and carol comes later."""

    def __init__(self, world: World, flavour: Flavour) -> None:
        self.world, self.flavour = world, flavour
        self.module = world.module(flavour)
        self.channel = f"article_{world.server.port}_{flavour.generation}_{len(flavour.script)}"
        self.tokens = {name: world.person() for name in ("alice", "bob", "carol")}
        self.alice = self._open("alice", {self.channel: self._token()})
        self.bob = self._open("bob", {self.channel: self._token()})
        self.carol = self._open("carol", None)

    def _open(self, name: str, content_tokens: Mapping[str, str] | None) -> Tab:
        return self.world.connected(self.flavour, self.tokens[name], content_tokens)

    def _token(self) -> str:
        return self.module.content_token(self.channel, notify=True, data={"page": "article"})

    def check_two_and_a_late_one(self) -> None:
        self.module.content_message(self.channel, {"body": "to two"})
        self.alice.heard({"body": "to two"})
        self.bob.heard({"body": "to two"})
        joining = f"Drupal.Nodejs.joinTokenChannel({self.channel!r}, {self._token()!r})"
        self.carol.run(joining)
        for tab in (self.carol, self.alice, self.bob):
            assert tab.told("clientJoinedTokenChannel")["userData"] == {"page": "article"}
        uids = self.module.content_users(self.channel)["uids"]
        assert sorted(uids) == sorted(str(self.world.uid(token)) for token in self.tokens.values())

    def check_leave_notice(self) -> None:
        """Check that the others are told of bob's leaving, and that he hears no more."""
        uid = str(self.world.uid(self.tokens["bob"]))
        for tab in (self.alice, self.carol):
            notice = tab.wait("content")["message"]
            assert notice["channel"] == self.channel
            assert notice["data"] == {"uid": uid, "type": "disconnect"}
        self.module.content_message(self.channel, {"body": "to the rest"})
        self.alice.heard({"body": "to the rest"})
        self.carol.heard({"body": "to the rest"})
        assert self.carol.data() == [{"body": "to the rest"}]
        assert self.bob.data() == []


def test_content_channel_after_the_connection_was_lost(world: World) -> None:
    module = world.module()
    token = world.person()
    tabs = [
        world.connected(flavour, token, {"article_1": module.content_token("article_1")})
        for flavour in SCRIPTS
    ]

    for tab in tabs:
        tab.begin()
    world.reconnect(token)

    for tab in tabs:
        assert list(tab.authenticated()["contentTokens"]) == ["article_1"]
    module.content_message("article_1", "still here")
    for tab in tabs:
        tab.heard("still here")


# --- Connections -----------------------------------------------------------------------------


def test_setup_handlers(world: World) -> None:
    token = world.person()
    tabs = [world.connected(flavour, token) for flavour in FLAVOURS]
    away = free_port()
    failing = [
        world.open(flavour.of_the_site(), token, port=away, connect_timeout=1000)
        for flavour in FLAVOURS
    ]

    world.reconnect(token)

    for tab in tabs:
        check_setup_handlers(tab)
    for tab in failing:
        tab.wait("connectionFailure")
        assert tab.events("connect") == []


def check_setup_handlers(tab: Tab) -> None:
    """Check that a page lost its connection, came back, and that its handlers were called."""
    eventually("it connects again", lambda: len(tab.events("connect")) == 2)
    first, second = (event["id"] for event in tab.events("connect"))
    assert first
    assert second
    assert first != second
    assert len(tab.events("disconnect")) == 1
    assert tab.events("connectionFailure") == []


def test_without_the_script_the_page_stays_whole(world: World) -> None:
    """Nobody is there to give the script: `connect` says so, and the page works without."""
    tab = world.open(FLAVOURS[0], world.person(), port=free_port())
    assert tab.run("typeof io") == "undefined"
    assert tab.run("Drupal.Nodejs.connect()") is False


def test_logout_in_every_tab_at_once(world: World) -> None:
    token, other_token = world.person("example"), world.person("example")
    tabs = [world.connected(flavour, token) for flavour in (*SCRIPTS, *SCRIPTS)]
    other = world.connected(SCRIPTS[0], other_token)
    for tab in tabs:
        tab.begin()

    world.module().logout(token)
    assert world.module().send("example", "private") == 1
    other.heard("private")
    for tab in tabs:
        assert tab.wait("reason")["reason"] == "io server disconnect"
        assert tab.data() == []

    # Another page with the same token stays out, whatever Drupal says.
    for flavour in SCRIPTS:
        again = world.open(flavour, token)
        assert again.wait("reason")["reason"] == "io server disconnect"
        assert [event["name"] for event in again.events("callback")] == ["clientDisconnected"]


def test_kick(world: World) -> None:
    """Who is kicked stays away, while others that lose their connection come back."""
    token, other_token = world.person("example"), world.person("example")
    tabs = [world.connected(flavour, token) for flavour in SCRIPTS]
    others = [world.connected(flavour, other_token) for flavour in SCRIPTS]
    module = world.module()
    for tab in tabs:
        tab.begin()

    module.kick(world.uid(token))

    for tab in tabs:
        assert tab.wait("reason")["reason"] == "io server disconnect"
        assert tab.told("clientDisconnected")["reconnect"] is False
        tab.begin()
    for other in others:
        other.begin()
    world.reconnect(other_token)
    for other in others:
        other.authenticated()
    assert module.send("example", "to those who are here") == len(others)
    for tab in tabs:
        assert tab.events("request") == []
        assert tab.events("callback") == []
        assert tab.run("Drupal.Nodejs.socket.connected") is False


def test_drupal_is_down_at_first(world: World) -> None:
    token = world.person("example")
    with world.drupal.trouble(hang_up):
        tabs = [world.open(flavour, token) for flavour in FLAVOURS]
        for tab in tabs:
            assert tab.wait("reason")["reason"] != "io server disconnect"
            assert tab.data("clientAuthenticated") == []

    for tab in tabs:
        tab.authenticated()
    assert world.module().send("example", "back") == len(tabs)
    for tab in tabs:
        tab.heard("back")


def test_server_is_killed_and_started_again(world: World) -> None:
    token = world.person("example")
    tabs = [world.connected(flavour, token) for flavour in FLAVOURS]
    for tab in tabs:
        tab.begin()

    world.server.kill()
    for tab in tabs:
        tab.wait("disconnect")
    world.server.start()

    for tab in tabs:
        tab.authenticated()
    assert world.module().send("example", "back") == len(tabs)
    for tab in tabs:
        tab.heard("back")


def test_content_channel_after_a_restart(world: World, tmp_path: Path) -> None:
    """With a place for its state, a server knows the content tokens of before."""
    state = tmp_path / "state"
    server = make_push(tmp_path, world.drupal, world.site, top={"state_dir": str(state)})
    token = world.person()
    with server:
        module = Module(server.port, "7b")
        tabs = [
            world.connected(
                flavour,
                token,
                {"article_2": module.content_token("article_2")},
                port=server.port,
            )
            for flavour in FLAVOURS
        ]
        for tab in tabs:
            tab.begin()
        server.kill()
        server.start()
        for tab in tabs:
            assert list(tab.authenticated()["contentTokens"]) == ["article_2"]
        module.content_message("article_2", "still here")
        for tab in tabs:
            tab.heard("still here")


# --- Ways that are cut -----------------------------------------------------------------------


def test_browser_without_websocket(world: World) -> None:
    token = world.person("example")
    tabs = [world.connected(flavour, token, without=["WebSocket"]) for flavour in FLAVOURS]
    assert world.transports(token) == ["socketio_polling"] * len(tabs)
    for tab in tabs:
        assert tab.run("typeof WebSocket") == "undefined"

    module = world.module()
    for number in range(30):
        assert module.send("example", number) == len(tabs)
    for tab in tabs:
        tab.heard(29)
        assert tab.data() == list(range(30))
    tabs[0].close()
    eventually("it is gone", lambda: len(world.transports(token)) == len(tabs) - 1)


def test_websocket_that_is_accepted_and_then_silent(world: World) -> None:
    """Socket.IO's own clients go on polling when the upgrade comes to nothing; ours begins to."""
    token = world.person("example")
    with SilentProxy(world.server.port) as proxy:
        tabs = [
            world.open(flavour, token, port=proxy.port, connect_timeout=2000)
            for flavour in FLAVOURS
        ]
        for tab in tabs:
            tab.authenticated()
        eventually("all have tried a WebSocket", lambda: proxy.silenced >= len(tabs))

        assert world.module().send("example", "by polling") == len(tabs)
        for tab in tabs:
            tab.heard("by polling")
        assert world.transports(token) == ["socketio_polling"] * len(tabs)
