"""Several sites in one process: what a key may do where, and what of one is shown on another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from tests.unit.cms.support import Log, clock_at
from tests.unit.node.support import World, sign
from tests.unit.nodejs_http import Http as RoutesHttp
from tests.unit.nodejs_http import Page
from tests.unit.test_api import TRANSPORT
from tests.unit.test_api import Http as ApiHttp
from twisted_push.assembly import link
from twisted_push.backend.methods import Methods
from twisted_push.backend.nodejs import ROUTES
from twisted_push.config import KeyConfig, Mirror, Namespace, SiteLimits
from twisted_push.errors import Overloaded
from twisted_push.node import mirrors as mirrors_module
from twisted_push.node.targets import Target

KEY_A = "the-service-key-of-site-a"
KEY_B = "the-service-key-of-site-b"
KEY_HUB = "the-service-key-of-the-hub"
KEY_OPS = "the-key-of-those-who-run-it"
KEY_SOME = "the-key-of-those-who-watch-a"
TOKEN = sign(sub="42", channels=["news:a", "plain"])


class Sites:
    """Sites whose users, tokens and channels have the same names."""

    def __init__(self, *, hub: dict[str, Any] | None = None, a: dict[str, Any] | None = None):
        clock = clock_at()
        hub_keys = (
            KeyConfig(key=KEY_HUB),
            KeyConfig(id="ops", key=KEY_OPS, sites=("*",)),
            KeyConfig(id="watch", key=KEY_SOME, sites=("a",), scopes=cast("Any", ["read"])),
        )
        self.a = _world(clock, **{"name": "a", "keys": (KeyConfig(key=KEY_A),), **(a or {})})
        self.b = _world(clock, name="b", keys=(KeyConfig(key=KEY_B),))
        self.hub = _world(clock, name="hub", keys=hub_keys, **(hub or {}))
        self.worlds = (self.a, self.b, self.hub)
        for world in self.worlds:
            now(world.node.start())
        link([world.node for world in self.worlds])
        self.api = ApiHttp(*self.worlds)
        self.routes = RoutesHttp(*self.worlds)

    def end(self) -> None:
        for world in self.worlds:
            world.engine.broken.clear()
            for session in tuple(world.node.sessions):
                session.lost()
        self.a.advance(11)
        for world in self.worlds:
            now(world.node.stop())


def _world(clock: Clock, **options: Any) -> World:
    class OneClock(World):
        make_clock = staticmethod(lambda: clock)

    return OneClock(**options)


def now(doing: Any) -> None:
    done = Deferred.fromCoroutine(doing)
    done.addErrback(lambda failure: failure.raiseException())
    assert done.called


@pytest.fixture
def make_sites() -> Iterator[Callable[..., Sites]]:
    made: list[Sites] = []

    def make(**options: Any) -> Sites:
        made.append(Sites(**options))
        return made[-1]

    yield make
    for sites in made:
        sites.end()


@pytest.fixture
def sites(make_sites: Callable[..., Sites]) -> Sites:
    return make_sites()


class Life:
    """A site at work, and all that is to be seen of it from outside and inside."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.tab = world.connected(token=TOKEN)
        self.page = Page(world)
        self.page.ask("connect", token=TOKEN)
        now(world.publish("news:a", "kept"))
        now(world.node.content.register("page_1", "content-token"))
        now(world.node.content.join(self.page.session, "page_1", "content-token"))
        self.began = self.look()

    def look(self) -> Any:
        engine, node = self.world.memory, self.world.node
        others = (engine._contents.table, engine._added.table, engine._streams.answers)
        tables = (*engine._rights.tables, *others)
        return json.dumps(
            [
                [frame.decode() for frame in self.tab.transport.sent],
                [frame.decode() for frame in self.page.transport.sent],
                [self.tab.code, self.page.code],
                sorted(self.tab.session.subscriptions) + sorted(self.page.session.subscriptions),
                [repr(session.grant) for session in (self.tab.session, self.page.session)],
                sorted(node.context.hub.channels),
                [repr(sorted(map(str, table.items()))) for table in tables],
                [
                    [name, channel.stream.top, channel.stream.first]
                    for name, channel in engine._streams.channels.items()
                ],
                repr(node.online._users),
                repr(node.context.gate.hook._line),
            ]
        )

    @property
    def unchanged(self) -> bool:
        return bool(self.look() == self.began)


def bodies(life: Life) -> dict[str, dict[str, Any]]:
    """Give a request of every method that means what is on another site."""
    client, secret = life.tab.session.client, life.tab.session.secret
    return {
        "publish": {"channel": "news:a", "data": 1},
        "broadcast": {"channels": ["news:a", "plain", "broadcast"], "data": 1},
        "subscribe": {"channel": "more", "client": client},
        "unsubscribe": {"channel": "plain", "user": "42"},
        "disconnect": {"session": secret},
        "refresh": {"client": client, "expired": True},
        "logout": {"token": TOKEN},
        "history": {"channel": "news:a", "limit": -1},
        "history_remove": {"channel": "news:a"},
        "position": {"channels": ["news:a"]},
        "presence": {"channel": "news:a"},
        "presence_stats": {"channel": "news:a"},
        "channels": {},
        "connections": {},
        "content_token": {"channel": "page_1", "token": "content-token"},
        "content_token_remove": {"token": "content-token"},
        "content_users": {"channel": "page_1"},
        "online": {"users": ["42"]},
        "presence_list": {"user": "42", "users": ["7"]},
        "presence_hook": {"url": "http://127.0.0.1:9/hook"},
        "users": {},
        "info": {},
        "sites": {},
        "batch": {"commands": [{"disconnect": {"user": "42"}}, {"logout": {"user": "42"}}]},
    }


METHODS = Methods([]).names


# --- A key of one site -----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_key_of_one_site_reaches_no_other(sites: Sites, method: str) -> None:
    """Whatever it names: the other site has users, tokens and channels of the same names."""
    life = Life(sites.b)
    body = bodies(life)[method]
    answer = sites.api.post(method, body, KEY_A)
    assert answer.status == 200
    assert life.unchanged
    said = answer.body.decode()
    for secret in (life.tab.session.client, life.tab.session.secret, "kept", '"42"'):
        assert secret not in said or secret in json.dumps(body)
    assert not sites.b.stats.api_requests


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["b", "hub", "no-such-site"])
def test_a_key_of_one_site_may_not_name_another(sites: Sites, method: str, name: str) -> None:
    life = Life(sites.b)
    body = {**bodies(life)[method], "site": name}
    answer = sites.api.post(method, body, KEY_A, **TRANSPORT)
    if method == "batch":
        errors = [reply["error"]["code"] for reply in answer.json["replies"]]
        assert errors == [103, 103]
    elif method == "sites":  # It has no more than one, whatever is named.
        assert list(answer.json["result"]["sites"]) == ["a"]
    else:
        assert answer.status == 403
        message = "permission denied: this key has no rights on that site"
        assert answer.error == {"code": 103, "message": message}
    assert life.unchanged


def test_there_is_a_request_for_every_method(sites: Sites) -> None:
    assert set(bodies(Life(sites.b))) == set(METHODS)


PARAMS = {
    "user/kick": ["42"],
    "user/logout": [TOKEN],
    "user/channel/add": ["more", "42"],
    "user/channel/remove": ["plain", "42"],
    "user/presence-list": ["42", "7"],
    "authtoken/channel/add": ["more", TOKEN],
    "authtoken/channel/remove": ["plain", TOKEN],
    "channel/add": ["more"],
    "channel/check": ["plain"],
    "channel/remove": ["plain"],
}
BODIES: dict[str, Any] = {
    "publish": {"channel": "news:a", "data": 1},
    "content/token": {"channel": "page_1", "token": "content-token"},
    "content/token/message": {"channel": "page_1", "data": 1},
    "content/token/users": {"channel": "page_1"},
    "debug/toggle": {"debug": True},
}


@pytest.mark.parametrize("name", sorted("/".join(parts) for parts in ROUTES))
@pytest.mark.parametrize("key", [KEY_A, KEY_HUB, KEY_OPS])
def test_no_key_reaches_another_site_by_a_route_of_drupal(
    sites: Sites, name: str, key: str
) -> None:
    """Not even one that has rights on all sites: there is no way to name one."""
    life = Life(sites.b)
    body = {**BODIES.get(name, {}), "site": "b"}
    path = "/".join([name, *PARAMS.get(name, [])])
    answer = sites.routes.ask("POST", path, body, key=key)
    assert answer.status == 200
    assert life.unchanged
    assert '"42"' not in answer.body.decode()
    assert not sites.b.stats.api_requests


# --- A key with rights on others -------------------------------------------------------------


def test_a_key_with_rights_on_all_sites_acts_on_the_one_that_is_named(sites: Sites) -> None:
    one, two = Life(sites.a), Life(sites.b)
    body = {"channel": "plain", "data": "maintenance at 10", "site": "b"}
    answer = sites.api.post("publish", body, KEY_OPS)
    assert answer.json["result"]["recipients"] == 2
    assert two.tab.published("plain") == ["maintenance at 10"]
    assert one.unchanged


def test_without_a_name_it_acts_on_its_own_site(sites: Sites) -> None:
    other, own = Life(sites.a), Life(sites.hub)
    for body in ({}, {"site": ""}, {"site": "hub"}):
        answer = sites.api.post("publish", {"channel": "plain", "data": 1, **body}, KEY_OPS)
        assert answer.json["result"]["recipients"] == 2
    assert own.tab.published("plain") == [1, 1, 1]
    assert other.unchanged


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"batch", "sites"}))
def test_it_may_do_everything_there(sites: Sites, method: str) -> None:
    life = Life(sites.b)
    answer = sites.api.post(method, {**bodies(life)[method], "site": "b"}, KEY_OPS)
    assert "result" in answer.json, answer


def test_a_batch_may_name_a_site_for_each_command_and_one_for_the_rest(sites: Sites) -> None:
    commands = [
        {"publish": {"channel": "plain", "data": 1, "site": "a"}},
        {"publish": {"channel": "plain", "data": 2}},
        {"publish": {"channel": "plain", "data": 3, "site": "hub"}},
        {"publish": {"channel": "plain", "data": 4, "site": "none"}},
    ]
    lives = [Life(world) for world in sites.worlds]
    answer = sites.api.post("batch", {"commands": commands, "site": "b"}, KEY_OPS)
    assert [life.tab.published("plain") for life in lives] == [[1], [2], [3]]
    message = "bad request: there is no such site"
    assert answer.json["replies"][3]["error"] == {"code": 107, "message": message}


def test_a_key_with_rights_on_some_sites(sites: Sites) -> None:
    life = Life(sites.b)
    assert sites.api.post("info", {"site": "a"}, KEY_SOME).json["result"]["nodes"]
    for name in ("b", "none"):
        assert sites.api.post("info", {"site": name}, KEY_SOME).error["code"] == 103
    # It may do no more there than at home.
    body = {"channel": "plain", "data": 1, "site": "a"}
    assert "scope" in sites.api.post("publish", body, KEY_SOME).error["message"]
    assert life.unchanged


def test_all_sites_of_a_key_at_a_glance(sites: Sites) -> None:
    Life(sites.b)
    found = sites.api.post("sites", {}, KEY_OPS).json["result"]["sites"]
    assert {name: each["num_clients"] for name, each in found.items()} == {
        "hub": 0,
        "a": 0,
        "b": 2,
    }
    assert list(sites.api.post("sites", {}, KEY_SOME).json["result"]["sites"]) == ["hub", "a"]
    assert list(sites.api.post("sites", {}, KEY_HUB).json["result"]["sites"]) == ["hub"]
    assert sites.api.post("sites", {"x": 1}, KEY_OPS).error["code"] == 107


# --- How often a key may come ----------------------------------------------------------------


def test_a_key_that_comes_too_often_is_told_when_to_come_again(
    make_sites: Callable[..., Sites],
) -> None:
    sites = make_sites(a={"site_limits": SiteLimits(max_requests_per_second=10)})
    for _ in range(20):
        assert sites.api.post("info", {}, KEY_A).status == 200
    answer = sites.api.post("info", {}, KEY_A)
    assert answer.error == {"code": 111, "message": "too many requests"}
    assert answer.headers["retry-after"] == "1"
    assert sites.api.post("info", {}, KEY_A, **TRANSPORT).status == 429
    assert sites.a.stats.api_requests["info", "limited"] == 2
    assert sites.api.post("info", {}, KEY_B).status == 200
    assert "result" in sites.api.post("info", {}, KEY_B).json
    sites.a.clock.advance(0.11)
    assert "result" in sites.api.post("info", {}, KEY_A).json
    assert "error" in sites.api.post("info", {}, KEY_A).json


def test_a_batch_counts_as_what_it_holds(make_sites: Callable[..., Sites]) -> None:
    sites = make_sites(a={"site_limits": SiteLimits(max_requests_per_second=10)})
    commands = [{"publish": {"channel": "plain", "data": 1}}] * 120
    answer = sites.api.post("batch", {"commands": commands}, KEY_A)
    assert len(answer.json["replies"]) == 120
    answer = sites.api.post("info", {}, KEY_A)
    assert answer.error["code"] == 111
    assert answer.headers["retry-after"] == "11"
    sites.a.clock.advance(11)
    assert "result" in sites.api.post("info", {}, KEY_A).json
    body = {"channels": ["x"] * 30, "data": 1}
    sites.a.clock.advance(60)
    assert "result" in sites.api.post("broadcast", body, KEY_A).json
    assert sites.api.post("info", {}, KEY_A).headers["retry-after"] == "2"


def test_drupal_is_told_too(make_sites: Callable[..., Sites]) -> None:
    sites = make_sites(a={"site_limits": SiteLimits(max_requests_per_second=1)})
    messages = {"messages": [{"channel": "plain", "data": 1}] * 4}
    assert sites.routes.post("publish", messages, key=KEY_A)["status"] == "success"
    answer = sites.routes.ask("POST", "health/check", key=KEY_A)
    assert (answer.status, answer.json) == (200, {"error": "Too many requests."})
    assert answer.headers["retry-after"] == "3"


def test_a_key_may_have_a_rate_of_its_own(make_sites: Callable[..., Sites]) -> None:
    keys = (KeyConfig(key=KEY_A, max_requests_per_second=1),)
    sites = make_sites(a={"keys": keys, "site_limits": SiteLimits(max_requests_per_second=1000)})
    answers = [sites.api.post("info", {}, KEY_A).json for _ in range(3)]
    assert ["result" in answer for answer in answers] == [True, True, False]


# --- What of one site is shown on another ----------------------------------------------------

HUB_SPACES = (Namespace(prefix="log", history_size=100, recover=True),)
ALL_LOGS = Mirror(sites=("*",), prefix="watchdog", channel="log")


@pytest.fixture
def watching(make_sites: Callable[..., Sites]) -> Sites:
    return make_sites(hub={"mirrors": (ALL_LOGS,), "namespaces": HUB_SPACES})


def test_chosen_publications_of_all_sites_are_shown_on_the_hub(watching: Sites) -> None:
    tab = watching.hub.user("1", channels=["log"])
    for key, world in ((KEY_A, watching.a), (KEY_B, watching.b)):
        data = {"line": f"a user logged in on {world.site.name}"}
        body = {"channel": "watchdog", "data": data, "tags": {"severity": "notice"}}
        assert watching.api.post("publish", body, key).json["result"]["recipients"] == 0
    watching.api.post("publish", {"channel": "private", "data": 1}, KEY_A)
    shown = [each["push"]["pub"] for each in tab.new()]
    assert [each["data"]["line"] for each in shown] == [
        "a user logged in on a",
        "a user logged in on b",
    ]
    assert [each["offset"] for each in shown] == [1, 2]
    assert shown[0]["tags"] == {"severity": "notice", "site": "a", "site_channel": "watchdog"}
    assert watching.a.stats.mirrored == watching.b.stats.mirrored == 1
    assert watching.hub.stats.mirrored == 0


def test_nothing_is_shown_anywhere_by_default(sites: Sites) -> None:
    lives = [Life(sites.b), Life(sites.hub)]
    for channel in ("plain", "watchdog", "broadcast", "log"):
        now(sites.a.publish(channel, 1))
    assert all(life.unchanged for life in lives)


def test_a_channel_for_each_site(make_sites: Callable[..., Sites]) -> None:
    mirrors = (
        Mirror(sites=("a", "b"), prefix="watchdog"),
        Mirror(sites=("b",), prefix="", channel="all of b"),
    )
    sites = make_sites(hub={"mirrors": mirrors})
    channels = ["a:watchdog", "b:watchdog:php", "all of b"]
    tab = sites.hub.user("1", channels=channels)
    now(sites.a.publish("watchdog", 1))
    now(sites.b.publish("watchdog:php", 2))
    now(sites.b.publish("x", 3))
    now(sites.hub.publish("watchdog", 4))
    assert [tab.published(channel) for channel in channels] == [[1], [2], [2, 3]]


def test_where_it_comes_from_cannot_be_feigned(watching: Sites) -> None:
    tab, page = watching.hub.user("1", channels=["log"]), Page(watching.hub)
    page.ask("connect", token=sign(sub="1", channels=["log"]))
    tags = {"site": "b", "site_channel": "x"}
    now(watching.a.publish("watchdog", 1, tags=tags))
    message = {"channel": "watchdog", "data": 2, "site": "b", "site_channel": "x", "callback": "f"}
    assert watching.routes.post("publish", message, key=KEY_A)["status"] == "success"
    true = {"site": "a", "site_channel": "watchdog"}
    assert [each["push"]["pub"]["tags"] for each in tab.new()] == [true, {**true, "callback": "f"}]
    assert page.messages == [
        {"channel": "log", "data": 1, **true},
        {"channel": "log", "data": 2, "callback": "f", **true},
    ]


def test_what_is_shown_is_not_shown_once_more(make_sites: Callable[..., Sites]) -> None:
    everything = Mirror(sites=("*",), channel="seen")
    sites = make_sites(hub={"mirrors": (everything,)}, a={"mirrors": (everything,)})
    tabs = [world.user("1", channels=["seen"]) for world in (sites.a, sites.hub)]
    now(sites.b.publish("x", 1))
    assert [tab.published("seen") for tab in tabs] == [[1], [1]]


def test_a_publication_that_was_not_made_is_not_shown(watching: Sites) -> None:
    tab = watching.hub.user("1", channels=["log"])
    for _ in range(2):
        now(watching.a.publish("watchdog", 1, idempotency_key="one"))
    for version in (2, 1, 2):
        now(watching.a.publish("watchdog", version, version=version))
    watching.a.engine.broken["publish"] = Overloaded("no")
    assert watching.api.post("publish", {"channel": "watchdog", "data": 3}, KEY_A).status == 503
    assert tab.published("log") == [1, 2]


def test_a_hub_that_cannot_take_it_disturbs_nobody(watching: Sites) -> None:
    log = Log()
    globalLogPublisher.addObserver(log)
    try:
        watching.hub.engine.broken["publish"] = Overloaded("the disk is full")
        for _ in range(3):
            body = {"channel": "watchdog", "data": 1}
            assert "result" in watching.api.post("publish", body, KEY_A).json
        watching.hub.engine.broken.clear()
        now(watching.a.publish("watchdog", 2))
    finally:
        globalLogPublisher.removeObserver(log)
    assert watching.a.stats.mirror_failures == 3
    assert log.lines == [
        "a: a publication is not shown on hub: the disk is full",
        "a: is shown on hub again",
    ]


def test_no_more_waits_for_a_slow_hub_than_may(
    watching: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors_module, "MAX_UNDER_WAY", 3)
    tab = watching.hub.user("1", channels=["log"])
    watching.hub.engine.hold_work.add("publish")
    for number in range(5):
        now(watching.a.publish("watchdog", number))
    assert watching.a.stats.mirror_failures == 2
    while watching.hub.engine.held:
        watching.hub.engine.release()
    assert tab.published("log") == [0, 1, 2]
    assert watching.a.stats.mirrored == 3


def test_a_channel_that_cannot_be_is_a_fault_of_the_mirror_alone(
    make_sites: Callable[..., Sites],
) -> None:
    sites = make_sites(hub={"mirrors": (Mirror(sites=("*",), channel="{channel}{channel}"),)})
    now(sites.a.publish("x" * 200, 1))
    assert sites.a.stats.mirror_failures == 1


# --- How many connections --------------------------------------------------------------------


def test_a_user_may_have_so_many_connections(make_sites: Callable[..., Sites]) -> None:
    sites = make_sites(a={"site_limits": SiteLimits(max_connections_per_user=2)})
    tabs = [sites.a.user("42"), sites.a.user("42")]
    third = sites.a.tab()
    third.send("connect", token=sign(sub="42"))
    assert third.code == 3504
    assert all(sites.a.connected().code is None for _ in range(5)), "the anonymous are many"
    assert [tab.code for tab in tabs] == [None, None]
    tabs[0].leave()
    assert sites.a.user("42").code is None
    assert [sites.b.user("42").code for _ in range(5)] == [None] * 5


def test_a_reload_changes_limits_and_rights(sites: Sites) -> None:
    context = sites.a.context
    site = evolve(
        context.policy.site,
        keys=(KeyConfig(key=KEY_A, sites=("b",)),),
        limits=SiteLimits(max_connections_per_user=1),
    )
    sites.a.node.reconfigure(evolve(context.policy, site=site))
    assert "result" in sites.api.post("info", {"site": "b"}, KEY_A).json
    sites.a.user("42")
    second = sites.a.tab()
    second.send("connect", token=sign(sub="42"))
    assert second.code == 3504


def test_a_kick_at_one_site_leaves_the_same_user_of_another(sites: Sites) -> None:
    one, two = Life(sites.a), Life(sites.b)
    now(sites.a.node.backend.logout(user="42"))
    now(sites.a.node.backend.unsubscribe(Target(user="42"), "plain"))
    assert one.tab.code == 3500
    assert two.unchanged
