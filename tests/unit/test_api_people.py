"""Methods of the HTTP API on content channels, and on who is online and who may know it."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred

from tests.unit import test_api
from tests.unit.node.support import KEY, Tab, World, sign
from tests.unit.test_api import Http
from twisted_push.backend.people import MAX_USERS
from twisted_push.config import KeyConfig, Limits, PresenceConfig
from twisted_push.policy import Policy

READER = "the-key-of-a-reader-0123"
MANAGER = "the-key-of-a-manager-0123"
TTL = 3600.0


@pytest.fixture
def world() -> Any:
    """A site with a key for everything, one that only reads and one that only manages."""
    keys = (
        KeyConfig(key=KEY),
        KeyConfig(id="reader", key=READER, scopes=cast("Any", ["read"])),
        KeyConfig(id="manager", key=MANAGER, scopes=cast("Any", ["manage"])),
    )
    world = World(keys=keys, presence=PresenceConfig(online_grace=1.0))
    Deferred.fromCoroutine(world.node.start())
    yield world
    ended = Deferred.fromCoroutine(world.end())
    ended.addErrback(lambda failure: failure.raiseException())
    assert ended.called


@pytest.fixture
def http(world: World, fast: bool, monkeypatch: pytest.MonkeyPatch) -> Http:
    monkeypatch.setattr(test_api, "LIMIT", 2**20)  # For long lists.
    return Http(world, fast=fast)


def join(tab: Tab, channel: str, token: str) -> bool:
    return "subscribe" in tab.ask("subscribe", channel=channel, token=token)


def notifications(tab: Tab) -> list[tuple[str, str]]:
    messages = [each["push"].get("message", {}).get("data", {}) for each in pushes(tab)]
    found = [each["presenceNotification"] for each in messages if "presenceNotification" in each]
    return [(each["uid"], each["event"]) for each in found]


def pushes(tab: Tab) -> list[dict[str, Any]]:
    return [each for each in tab.everything if "push" in each]


# --- Content channels ------------------------------------------------------------------------


def test_a_token_of_the_cms(world: World, http: Http) -> None:
    body = {"channel": "page", "token": "t", "ttl": 60, "notify_on_leave": True, "data": {"a": 1}}
    assert http.result("content_token", body) == {}
    assert http.result("content_users", {"channel": "page"}) == {"users": [], "anonymous": 0}
    assert join(world.user("alice"), "page", "t")
    assert http.result("content_users", {"channel": "page"}) == {
        "users": ["alice"],
        "anonymous": 0,
    }


def test_a_token_that_the_server_makes(world: World, http: Http) -> None:
    tokens = {http.result("content_token", {"channel": "page"})["token"] for _ in range(5)}
    assert len(tokens) == 5
    assert all(len(token) == 32 for token in tokens)
    for token in tokens:
        assert join(world.connected(), "page", token)
    assert join(
        world.user("alice"), "page", http.result("content_token", {"channel": "page"})["token"]
    )
    found = http.result("content_users", {"channel": "page"})
    assert found == {"users": ["alice"], "anonymous": 5}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"channel": ""}, 107),
        ({"channel": "a\nb"}, 107),
        ({"token": "t"}, 107),
        ({"channel": "page", "ttl": 0}, 107),
        ({"channel": "page", "ttl": 1.5}, 107),
        ({"channel": "page", "ttl": TTL + 1}, 107),
        ({"channel": "page", "ttl": 10**30}, 107),
        ({"channel": "page", "token": "x" * 8193}, 107),
        ({"channel": "page", "token": 5}, 107),
        ({"channel": "page", "notify": True}, 107),
        ({"channel": "page", "token": sign(sub="alice", channel="page")}, 107),
    ],
)
def test_what_is_no_content_token(http: Http, body: dict[str, Any], code: int) -> None:
    answer = http.post("content_token", body)
    assert answer.error["code"] == code
    assert sign(sub="alice", channel="page") not in answer.body.decode()


def test_too_many_content_tokens(world: World, http: Http) -> None:
    world.context.policy = Policy(world.site, Limits(max_content_tokens=2))
    for token in ("a", "b"):
        assert http.result("content_token", {"channel": "page", "token": token}) == {}
    assert http.post("content_token", {"channel": "page", "token": "c"}).error["code"] == 106


def test_a_token_that_the_cms_takes_back(world: World, http: Http) -> None:
    for token in ("t", "u", "v"):
        assert http.result("content_token", {"channel": "page", "token": token}) == {}
    alice, bob = world.user("alice"), world.user("bob")
    assert join(alice, "page", "t")
    for token in ("t", "u", "unknown"):
        assert http.result("content_token_remove", {"token": token}) == {}
    assert not join(bob, "page", "u")
    assert join(bob, "page", "v")
    # Who is in stays in, and does not come back.
    assert http.result("content_users", {"channel": "page"})["users"] == ["alice", "bob"]
    alice.leave()
    assert not join(world.user("alice"), "page", "t")


@pytest.mark.parametrize("body", [{}, {"token": ""}, {"token": "x" * 8193}, {"channel": "page"}])
def test_what_is_no_content_token_to_take_back(http: Http, body: dict[str, Any]) -> None:
    assert http.post("content_token_remove", body).error["code"] == 107


def test_several_at_once(world: World, http: Http) -> None:
    commands = [
        {"content_token": {"channel": "page", "token": "t"}},
        {"content_token": {"channel": ""}},
        {"content_users": {"channel": "page"}},
        {"online": {"users": ["alice"]}},
        {"presence_list": {"user": "alice", "users": []}},
    ]
    world.user("alice")
    answer = http.post("batch", {"commands": commands}).json["result"]["replies"]
    assert answer[0] == {"content_token": {}}
    assert answer[1]["error"]["code"] == 107
    assert answer[2:] == [
        {"content_users": {"users": [], "anonymous": 0}},
        {"online": {"online": ["alice"]}},
        {"presence_list": {}},
    ]


@pytest.mark.parametrize(
    ("method", "body", "scope"),
    [
        ("content_token", {"channel": "page"}, "manage"),
        ("content_token_remove", {"token": "t"}, "manage"),
        ("content_users", {"channel": "page"}, "read"),
        ("online", {"users": []}, "read"),
        ("presence_list", {"user": "1", "users": []}, "manage"),
        ("presence_hook", {"url": ""}, "manage"),
    ],
)
def test_the_scope_that_a_key_needs(
    http: Http, method: str, body: dict[str, Any], scope: str
) -> None:
    for key, has in ((READER, "read"), (MANAGER, "manage")):
        answer = http.post(method, body, key=key)
        assert ("result" in answer.json) == (has == scope), answer
        if has != scope:
            assert answer.error["code"] == 103


# --- Online ----------------------------------------------------------------------------------


def test_who_is_online(world: World, http: Http) -> None:
    asked = {"users": ["bob", "alice", "nobody", "alice", ""]}
    assert http.result("online", asked) == {"online": []}
    tabs = [world.user("alice"), world.user("bob"), world.connected()]
    assert http.result("online", asked) == {"online": ["bob", "alice"]}
    tabs[1].leave()
    world.advance(0.75)
    assert http.result("online", asked) == {"online": ["bob", "alice"]}
    world.advance(0.25)
    assert http.result("online", asked) == {"online": ["alice"]}


@pytest.mark.parametrize("method", ["online", "presence_list"])
def test_too_many_users(world: World, http: Http, method: str) -> None:
    world.user("1")
    body: dict[str, Any] = {"users": [str(number) for number in range(MAX_USERS)]}
    if method == "presence_list":
        body["user"] = "1"
    assert "result" in http.post(method, body).json
    body["users"].append("1")
    assert http.post(method, body).error["code"] == 106
    http.result("presence_list", {"user": "1", "users": []})


def test_the_cms_says_who_sees_whom(world: World, http: Http) -> None:
    old, new = world.user("old"), world.user("new")
    tab = world.user("alice")
    http.result("presence_list", {"user": "alice", "users": ["old"]})
    assert notifications(old) == [("alice", "online")]
    http.result("presence_list", {"user": "alice", "users": ["new"]})
    assert notifications(old) == [("alice", "online"), ("alice", "offline")]
    assert notifications(new) == [("alice", "online")]
    tab.leave()
    world.advance(1)
    assert notifications(new) == [("alice", "online"), ("alice", "offline")]
    assert len(notifications(old)) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"user": "", "users": ["1"]},
        {"user": "1", "users": [""]},
        {"user": "1\n", "users": []},
        {"user": "1", "users": ["x" * 256]},
        {"user": "1"},
        {"user": 1, "users": []},
    ],
)
def test_what_is_no_presence_list(http: Http, body: dict[str, Any]) -> None:
    assert http.post("presence_list", body).error["code"] == 107


# --- The hook --------------------------------------------------------------------------------


def test_the_hook_is_moved(world: World, http: Http) -> None:
    world.cms.answer = {}
    world.user("alice")
    world.user("bob").leave()
    assert http.result("presence_hook", {"url": "http://cms.test/hook"}) == {}
    assert world.context.gate.hook.url == "http://cms.test/hook"
    world.advance(0.25)
    world.cms.agent.flush()
    [asked] = world.cms.asked
    assert asked.json["site"] == "default"
    assert [event["user"] for event in asked.json["events"]] == ["alice", "bob"]
    world.advance(1)
    world.cms.agent.flush()
    assert [(e["user"], e["event"]) for e in world.cms.asked[1].json["events"]] == [
        ("bob", "offline")
    ]
    assert http.result("presence_hook", {"url": ""}) == {}
    world.user("carol")
    world.advance(1)
    assert len(world.cms.asked) == 2


@pytest.mark.parametrize(
    "url", ["ftp://a/", "a", "http://", "http://u:p@a/", "http://a/ b", "file:///etc/passwd"]
)
def test_what_is_no_address_of_a_hook(world: World, http: Http, url: str) -> None:
    answer = http.post("presence_hook", {"url": url})
    assert answer.error["code"] == 107
    assert "u:p" not in json.dumps(answer.json)
    assert world.context.gate.hook.url == ""
