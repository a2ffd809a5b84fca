"""The routes that Drupal's nodejs module calls, from the bytes of a request to those of its answer.

``nodejs_requests.txt`` has recorded requests of two generations of the module with the answers of
the server that it was made for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
from attrs import define, evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.support import Log
from tests.unit.node.support import BROADCAST, KEY, World
from tests.unit.nodejs_http import (
    DONE,
    LIMIT,
    MISSING,
    PAGE_1,
    PUBLISHER,
    READER,
    TOKEN,
    Http,
    Page,
    joined,
    make_worlds,
)
from twisted_push.backend.calls import Call, Route, Site
from twisted_push.backend.nodejs import ROUTES
from twisted_push.config import KeyConfig
from twisted_push.errors import EngineRefused, NotConnected, OutcomeUnknown, Overloaded
from twisted_push.policy import Policy

LAB_KEY = "lab-service-key"
RECORD = Path(__file__).with_name("nodejs_requests.txt").read_text(encoding="utf-8")


@pytest.fixture
def worlds() -> Iterator[Callable[..., World]]:
    yield from make_worlds()


@pytest.fixture
def world(worlds: Callable[..., World]) -> World:
    return worlds()


@pytest.fixture
def http(world: World, fast: bool) -> Http:
    return Http(world, fast=fast)


# --- The record ------------------------------------------------------------------------------


@define
class Recorded:
    """One request of the record, and its answer."""

    request: bytes
    line: str
    status: int
    body: bytes


def recorded(module: str) -> list[Recorded]:
    [part] = re.findall(rf"^## {module}\n(.*?)(?=^## |\Z)", RECORD, re.DOTALL | re.MULTILINE)
    found = []
    for block in part.split(">>> ")[1:]:
        asked, _, answered = block.partition("<<< ")
        head, _, body = asked.partition("\n\n")
        request = head.replace("\n", "\r\n") + "\r\n\r\n" + body.removesuffix("\n")
        status, _, answer = answered.partition("\n\n")
        line, code = head.splitlines()[0], int(status.split()[1])
        found.append(Recorded(request.encode(), line, code, answer.strip().encode()))
    return found


@pytest.mark.parametrize(("module", "visitors", "count"), [("D7", 1, 18), ("D9", 0, 17)])
def test_the_record(
    worlds: Callable[..., World], module: str, visitors: int, count: int, fast: bool
) -> None:
    world = worlds(keys=(KeyConfig(key=LAB_KEY),))
    http = Http(world, fast=fast)
    tabs = {user: world.user(user) for user in ("1", "2", "3")}
    for _ in range(visitors):
        world.connected()
    asked = recorded(module)
    assert len(asked) == count
    listings = 0
    for each in asked:
        if "content/token/users" in each.line:
            # Bob comes to the page after Alice, by a token of his own, and leaves again.
            listings += 1
            if listings == 1:
                page_of_bob = {"channel": "pushlab_content", "token": "bob"}
                http.post("content/token", page_of_bob, key=LAB_KEY)
                joined(world, tabs["2"], "pushlab_content", _token_of(asked))
                joined(world, tabs["3"], "pushlab_content", "bob")
            else:
                tabs["3"].leave()
        answer = http.raw(each.request)
        assert (answer.status, answer.headers["content-type"]) == (each.status, "application/json")
        if "health/check" in each.line:
            # Counts of its own, in the same order and of the same types.
            mine, theirs = answer.json, json.loads(each.body)
            assert list(mine) == list(theirs)
            assert [type(v) for v in mine.values()] == [type(v) for v in theirs.values()]
            assert mine["version"] == theirs["version"]
        else:
            assert answer.body == each.body, each.line
        assert int(answer.headers["content-length"]) == len(answer.body)
    assert tabs["2"].code == 3503
    assert tabs["1"].code is None


def _token_of(asked: list[Recorded]) -> str:
    [token] = [
        json.loads(each.request.partition(b"\r\n\r\n")[2])["token"]
        for each in asked
        if each.line.split()[1] == "/nodejs/content/token"
    ]
    return cast("str", token)


# --- Ways to ask -----------------------------------------------------------------------------

WITHOUT_BODY = {
    "user/kick/3": DONE,
    f"user/logout/{TOKEN}": DONE,
    "user/channel/add/chat/3": DONE,
    "user/channel/remove/room_a/3": DONE,
    "channel/add/fresh": DONE,
    "channel/check/room_a": {**DONE, "result": True},
    "channel/remove/room_a": DONE,
    "user/presence-list/3/1,2": DONE,
    "user/presence-list/3": DONE,
    "stats/channels": {
        **DONE,
        "channels": {BROADCAST: {"clients": 1}, "nodejs_user_3": {"clients": 1}},
    },
}


@pytest.mark.parametrize("path", WITHOUT_BODY)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_without_a_body_by_the_methods_of_all_generations(
    world: World, http: Http, method: str, path: str, version: str
) -> None:
    world.user("3")
    http.get("channel/add/room_a")
    lines = [f"{method} /nodejs/{path} HTTP/{version}", f"NodejsServiceKey: {KEY}", "Host: a"]
    if version == "1.1":
        lines.append("Content-Length: 0")
    answer = http.raw("\r\n".join(lines).encode() + b"\r\n\r\n")
    assert (answer.status, answer.json) == (200, WITHOUT_BODY[path])


@pytest.mark.parametrize(
    "path", ["publish", "content/token", "content/token/message", "content/token/users"]
)
def test_what_has_a_body_is_posted(http: Http, path: str) -> None:
    assert http.ask("GET", path).status == 404
    assert http.post(path) == (MISSING if "message" not in path else {"error": "Invalid message"})


@pytest.mark.parametrize(
    "path",
    [
        "channel/check/a/",
        "/channel//check/a",
        "channel/check/%61",
        "channel/check/a?x=1",
    ],
)
def test_slashes_and_escapes(http: Http, path: str) -> None:
    http.get("channel/add/a")
    assert http.get(path) == {**DONE, "result": True}
    assert http.get(path, base="/push/drupal/") == {**DONE, "result": True}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nothing",
        "publish/x",
        "user/kick",
        "user/kick/",
        "user/kick/1/2",
        "user%2Fkick/3",
        "user/channel/add/x/",
        "user/channel/add//3",
        "channel",
        "Publish",
        "restart",
        "%ff/%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD", "OPTIONS", "BREW"])
def test_what_there_is_not(world: World, http: Http, method: str, path: str) -> None:
    world.connected()
    answer = http.ask(method, path)
    assert answer.status == 404
    assert answer.body == (b"" if method == "HEAD" else b"Not Found.")
    assert set(world.stats.api_requests) == {("nodejs/unknown", "refused")}
    assert len(world.node.sessions) == 1


def test_other_methods_of_a_route(http: Http) -> None:
    for method in ("PUT", "DELETE", "HEAD", "OPTIONS"):
        assert http.ask(method, "health/check").status == 404


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "", "x/y"])
def test_a_body_is_read_whatever_it_is_said_to_be(world: World, http: Http, kind: str) -> None:
    tab = world.connected()
    body = b'{"broadcast":true,"data":1}'
    head = f"POST /nodejs/publish HTTP/1.0\r\nNodejsServiceKey: {KEY}\r\nContent-Type: {kind}\r\n"
    answer = http.raw(head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
    assert answer.json == {**DONE, "sent": 1}
    assert tab.published() == [1]


# --- Who may ---------------------------------------------------------------------------------

REFUSED = {"error": "Invalid service key."}


@pytest.mark.parametrize("key", [None, "", "wrong", KEY + "x", KEY[:-1], KEY.upper(), "\xff" * 9])
def test_a_wrong_key(world: World, http: Http, key: str | None) -> None:
    tab = world.connected()
    assert http.post("publish", {"broadcast": True, "data": 1}, key=key) == REFUSED
    assert http.get("health/check", key=key) == REFUSED
    assert tab.published() == []
    assert not world.stats.api_requests


def test_the_key_comes_first(http: Http) -> None:
    """Without a key nothing else is told: no route, no syntax, no limit."""
    for path, body in (("nothing", None), ("publish", b"{"), ("publish", b" " * (LIMIT + 1))):
        assert http.post(path, body, key="wrong") == REFUSED


def test_two_keys_in_one_request(http: Http) -> None:
    line = f"NodejsServiceKey: {KEY}\r\n"
    answer = http.raw(f"GET /nodejs/health/check HTTP/1.1\r\nHost: a\r\n{line}{line}\r\n".encode())
    assert answer.json == REFUSED


def test_a_control_character_in_a_header(http: Http) -> None:
    answer = http.ask("GET", "health/check", key=KEY + "\x85")
    assert (answer.status, list(answer.json)) == (400, ["error"])


def test_scopes(world: World, http: Http) -> None:
    world.user("3")
    may: dict[str, set[str]] = {READER: set(), PUBLISHER: set()}
    for route in ROUTES.values():
        params = ["x", "3"][-max(route.params) :] if max(route.params) else []
        path = "/".join([route.name, *params])
        for key, routes in may.items():
            answer = http.post(path, {"channel": "x"}, key=key)
            if "this key lacks the scope" not in str(answer.get("error")):
                routes.add(route.name)
            else:
                assert set(answer) == {"error"}
    stats = {"stats/server", "stats/channels", "stats/users"}
    assert may[READER] == {"health/check", "channel/check", "content/token/users", *stats}
    assert may[PUBLISHER] == {"health/check", "publish", "content/token/message"}


def test_two_sites(worlds: Callable[..., World], fast: bool) -> None:
    one, two = worlds(), worlds(keys=(KeyConfig(key="the-key-of-the-other-site"),))
    http = Http(one, two, fast=fast)
    tabs = [one.user("3"), two.user("3")]
    assert http.post("publish", {"broadcast": True, "data": 1}) == {**DONE, "sent": 1}
    assert http.get("channel/add/a") == DONE
    other = {"key": "the-key-of-the-other-site"}
    assert http.get("channel/check/a", **other) == {**DONE, "result": False}
    http.get("user/kick/3")
    assert [tab.code for tab in tabs] == [3503, None]
    assert tabs[1].published() == []
    assert http.post("debug/toggle", {"debug": True}) == {**DONE, "debug": True}
    assert [site.debug for site in http.routes._sites.values()] == [True, False]
    assert not two.stats.api_requests["nodejs/publish", "ok"]


def test_a_new_key_by_reload(world: World, http: Http) -> None:
    site = evolve(world.site, keys=(KeyConfig(key="the-new-key-of-the-site"),))
    world.node.reconfigure(Policy(site, world.limits))
    assert http.get("health/check") == REFUSED
    assert http.get("health/check", key="the-new-key-of-the-site")["status"] == "success"


# --- What cannot be --------------------------------------------------------------------------

POSTS = ("publish", "content/token", "content/token/message", "content/token/users", "debug/toggle")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "body",
    [b"{", b"{]", b'{"channel":"a","data":NaN}', b'"\xff"', b"[" * 300, b"null", b"1", b'"x"'],
)
def test_a_body_that_is_no_json_object(http: Http, path: str, body: bytes) -> None:
    answer = http.ask("POST", path, body)
    assert answer.status == 400
    assert list(answer.json) == ["error"]
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", [path for path in POSTS if path != "content/token"])
def test_a_list_is_no_object(http: Http, path: str) -> None:
    assert http.ask("POST", path, b"[]").status == 400


def test_an_oversized_body(http: Http) -> None:
    answer = http.ask("POST", "publish", {"channel": "a", "data": "x" * LIMIT})
    assert answer.status == 413
    assert "error" in answer.json
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "error", [NotConnected(), Overloaded(), OutcomeUnknown(), EngineRefused()], ids=repr
)
def test_an_engine_that_cannot(world: World, http: Http, error: Any) -> None:
    world.user("3")
    calls = {
        "publish": ("publish", {"broadcast": True}),
        "revoke_token": (f"user/logout/{TOKEN}", None),
        "grant_forget": ("user/kick/3", None),
        "overlay_set": ("user/channel/add/a/3", None),
        "grant_get": (f"authtoken/channel/add/a/{TOKEN}", None),
    }
    for name, (path, body) in calls.items():
        world.engine.broken = {name: error}
        answer = http.ask("POST", path, body)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1"), path
        assert list(answer.json) == ["error"]
    assert sum(n for (_, why), n in world.stats.api_requests.items() if why == "unavailable") == 5


def test_a_bug(world: World, http: Http, flush_logged_errors: Any) -> None:
    """No stack trace goes out, as one once did to everybody."""
    world.engine.broken["publish"] = cast("Any", KeyError("secret"))
    answer = http.ask("POST", "publish", {"channel": "a"})
    assert (answer.status, answer.json) == (500, {"error": "internal server error"})
    assert len(flush_logged_errors(KeyError)) == 1
    assert world.stats.api_requests["nodejs/publish", "error"] == 1


def test_who_hangs_up_before_the_answer(world: World, http: Http) -> None:
    world.engine.hold.add("publish")
    with pytest.raises(AssertionError, match="no answer"):
        http.post("publish", {"channel": "a"})
    world.engine.release()
    world.engine.hold.clear()
    assert world.stats.api_requests["nodejs/publish", "ok"] == 1


ANY_SCALAR = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text()
ANY_JSON = st.recursive(
    ANY_SCALAR | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("channel", "token", "broadcast", "data", "clientSocketId", "messages", "debug")
ANY_MESSAGE = st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, ANY_JSON))


@given(
    route=st.sampled_from(list(ROUTES.values())),
    params=st.lists(st.text(max_size=5) | st.sampled_from(["0", "3", "chat"]), max_size=3),
    body=ANY_MESSAGE | ANY_JSON,
    method=st.sampled_from(["GET", "POST"]),
    fast=st.booleans(),
)
def test_whatever_is_asked_has_a_proper_answer(
    route: Route, params: list[str], body: Any, method: str, fast: bool
) -> None:
    """Never 500, never a failure in the log (which fails the test), and always JSON or 404."""
    world = World()
    Deferred.fromCoroutine(world.node.start())
    for user in ("", "3"):
        world.user(user) if user else world.connected()
    path = "/".join([route.name, *(quote(param, safe="") for param in params)])
    sent = json.dumps(body).encode()
    answer = Http(world, fast=fast).ask(method, path, sent)
    if answer.status == 404:
        assert answer.body == b"Not Found."
    else:
        assert answer.status in (200, 400)
        assert {"status", "error", "users"} & set(answer.json)
        assert ("error" in answer.json) or answer.status == 200
    Deferred.fromCoroutine(world.end()).addErrback(lambda failure: failure.raiseException())


# --- Figures ---------------------------------------------------------------------------------


def test_health(world: World, http: Http) -> None:
    world.user("3")
    world.user("3")
    world.connected()
    Page(world)
    assert http.get("health/check") == {
        "authenticatedClients": 3,
        "sockets": 4,
        "onlineUsers": 1,
        "tokenChannels": 0,
        "contentTokens": {},
        "status": "success",
        "version": "1.0.13",
    }


def test_unspent_content_tokens_are_in_no_answer(world: World, http: Http) -> None:
    """All who knew the key were shown the table of them."""
    http.post("content/token", PAGE_1)
    tab = world.user("2")
    joined(world, tab, "page_1", "token-1")
    http.post("content/token", {**PAGE_1, "token": "token-2"})
    health = http.get("health/check")
    assert (health["contentTokens"], health["tokenChannels"]) == ({}, 1)
    answers = [http.get(f"stats/{name}") for name in ("server", "channels", "users")]
    assert "token-" not in json.dumps([health, *answers])


def test_statistics(world: World, http: Http) -> None:
    world.user("3", channels=["chat"])
    world.user("3")
    world.connected()
    Page(world)
    channels = {BROADCAST: 3, "nodejs_user_3": 2, "chat": 1}
    assert http.get("stats/server") == {
        **DONE,
        "channels": channels,
        "totalClientCount": 4,
        "authenticatedClients": 3,
        "users": 1,
    }
    counts = {name: {"clients": count} for name, count in channels.items()}
    assert http.post("stats/channels") == {**DONE, "channels": counts}
    assert http.get("stats/users") == {
        **DONE,
        "users": {
            "3": {"clients": 2, "channels": [BROADCAST, "chat", "nodejs_user_3"]},
            "0": {"clients": 1, "channels": [BROADCAST]},
        },
    }


def test_requests_are_counted(world: World, http: Http) -> None:
    http.post("publish", {"channel": "a"})
    http.post("publish", {})
    http.ask("POST", "publish", b"{")
    http.get("user/kick/3")
    http.get("user/channel/add/a/99")
    assert world.stats.api_requests == {
        ("nodejs/publish", "ok"): 1,
        ("nodejs/publish", "refused"): 1,
        ("nodejs/publish", "bad_request"): 1,
        ("nodejs/user/kick", "ok"): 1,
        ("nodejs/user/channel/add", "refused"): 1,
    }
    assert sum(world.stats.api_duration.counts) == 5


# --- What is logged --------------------------------------------------------------------------


def test_debug_goes_on_and_off(world: World, http: Http, log: Log) -> None:
    """It could not be switched off."""
    http.get("health/check")
    assert log.lines == []
    assert http.post("debug/toggle", {"debug": True}) == {**DONE, "debug": True}
    http.post(f"user/logout/{TOKEN}")
    assert len(log.lines) == 2
    assert log.lines[1] == "default: POST nodejs/user/logout: 200 ok in 0.000 s"
    assert http.post("debug/toggle", {"debug": False}) == {**DONE, "debug": False}
    http.get("health/check")
    assert len(log.lines) == 2


@pytest.mark.parametrize("body", [{}, {"debug": None}, {"debug": "yes"}, {"debug": 1}, {"a": 1}])
def test_debug_without_a_boolean(http: Http, body: Any) -> None:
    assert http.post("debug/toggle", body) == MISSING


def test_no_key_token_or_payload_is_logged(world: World, http: Http, log: Log) -> None:
    """The wrong key and the right one were both logged."""
    http.post("publish", {"channel": "a", "data": "a-payload"}, key="a-wrong-key")
    http.get("health/check", key=None)
    refused, where = "nodejs request refused: ", ", from 192.168.1.1"
    assert log.lines == [
        f"{refused}the key in NodejsServiceKey is not valid{where}",
        f"{refused}there is no key{where}",
    ]
    http.post("debug/toggle", {"debug": True})
    http.post("publish", {"channel": "a", "data": "a-payload"})
    http.post("content/token", {"channel": "a", "token": "a-content-token"})
    http.post(f"user/logout/{TOKEN}")
    world.engine.broken["publish"] = NotConnected()
    http.ask("POST", "publish", {"channel": "a", "data": "a-payload"})
    assert len(log.lines) == 7
    for secret in (KEY, "a-wrong-key", "a-payload", "a-content-token", TOKEN):
        assert secret not in log.everything


def test_a_call_keeps_its_tokens_to_itself(world: World) -> None:
    call = Call(Site(world.node), ("chat", TOKEN), b"a-payload", typed=True)
    assert TOKEN not in repr(call)
    assert "a-payload" not in repr(call)


# --- Empty keys ------------------------------------------------------------------------------


def test_an_empty_key_opens_nothing(worlds: Callable[..., World], fast: bool) -> None:
    """A server without a key took everybody's word, at either API."""
    world = worlds(keys=(KeyConfig(key=""),))
    http = Http(world, fast=fast)
    tab = world.connected()
    for key in (None, ""):
        assert http.post("publish", {"broadcast": True, "data": 1}, key=key) == REFUSED
    body = json.dumps({"channel": BROADCAST, "data": 1}).encode()
    head = b"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: \r\nContent-Length: %d\r\n\r\n"
    assert http.raw(head % len(body) + body).status == 401
    assert tab.published() == []
