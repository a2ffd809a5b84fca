"""The HTTP API, from the bytes of a request to those of its answer, without a socket."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred

from tests.unit.node.support import BROADCAST, KEY, World, sign
from tests.unit.request_support import Answer, CmsPort
from twisted_push.backend.api import Api
from twisted_push.backend.groups import TOGETHER
from twisted_push.backend.keys import Rates
from twisted_push.backend.methods import MAX_POSITIONS, Methods
from twisted_push.config import KeyConfig, Namespace
from twisted_push.errors import EngineRefused, NotConnected, OutcomeUnknown, Overloaded
from twisted_push.model import ServiceKey
from twisted_push.policy import Policy

LIMIT = 8000
ANY = ServiceKey("any", b"", frozenset({"publish", "read", "manage"}))
READER = "the-key-of-a-reader-0123"

TRANSPORT = {"X_Centrifugo_Error_Mode": "transport"}
"""Asks for errors as HTTP statuses."""


class Http(CmsPort):
    """The API of some sites."""

    def __init__(self, *worlds: World, fast: bool = False) -> None:
        nodes = [world.node for world in worlds]
        leaves = {"api": Api(nodes, worlds[0].clock, Rates())}
        super().__init__(worlds, leaves, LIMIT, fast=fast)

    def post(self, method: str, body: Any = None, key: str | None = KEY, **headers: str) -> Answer:
        sent = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        lines = [f"POST /api/{method} HTTP/1.1", "Host: push.test", f"Content-Length: {len(sent)}"]
        if key is not None:
            lines.append(f"X-API-Key: {key}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + sent)

    def result(self, method: str, body: Any = None, **headers: str) -> Any:
        answer = self.post(method, body, **headers)
        assert answer.status == 200, answer
        assert set(answer.json) == {"result"}, answer
        return answer.json["result"]


@pytest.fixture
def world() -> Any:
    """A site with a key for everything and one that only reads."""
    world = World(
        keys=(
            KeyConfig(key=KEY),
            KeyConfig(id="reader", key=READER, scopes=cast("Any", ["read"])),
        )
    )
    Deferred.fromCoroutine(world.node.start())
    yield world
    world.engine.broken.clear()
    ended = Deferred.fromCoroutine(world.end())
    ended.addErrback(lambda failure: failure.raiseException())
    assert ended.called


@pytest.fixture
def http(world: World, fast: bool) -> Http:
    return Http(world, fast=fast)


# --- Every method ----------------------------------------------------------------------------


def test_publish(world: World, http: Http) -> None:
    tab = world.connected()
    tab.ask("subscribe", channel="news:1")
    body = {"channel": "news:1", "data": {"a": 1}, "tags": {"x": "y"}}
    result = http.result("publish", body)
    assert result["offset"] == 1
    assert result["recipients"] == 1
    assert isinstance(result["epoch"], str)
    [push] = [each["push"]["pub"] for each in tab.everything if "push" in each]
    assert push["data"] == {"a": 1}
    assert push["tags"] == {"x": "y"}
    assert "offset" not in http.result("publish", {**body, "skip_history": True})


@pytest.mark.parametrize(
    "data",
    [
        b'{"b":1.10,"a":1e2,"b":2}',
        b"12345678901234567890123456789012345678901234567890",
        b'"\\u00e9\\/\xc3\xa9"',
        b"null",
        b'"line\\nbreak"',
        b'"\xe2\x80\xa8"',
        b"[ 1 , 2 ]",
    ],
)
def test_data_byte_for_byte(world: World, http: Http, data: bytes) -> None:
    tab = world.connected()
    http.result("publish", b'{"channel":"%s","data":%s}' % (BROADCAST.encode(), data))
    assert b'"data":' + data in tab.transport.sent[-1]


def test_data_over_several_lines_is_one_line(world: World, http: Http) -> None:
    tab = world.connected()
    http.result("publish", b'{"channel":"broadcast","data":{\r\n"a":\n1}}')
    assert b"\n" not in tab.transport.sent[-1]
    assert b"\r" not in tab.transport.sent[-1]
    assert tab.published() == [{"a": 1}]


def test_broadcast(world: World, http: Http) -> None:
    tab = world.connected()
    tab.ask("subscribe", channel="news:1")
    body = {"channels": [BROADCAST, "", "news:1", "x" * 256], "data": 1}
    one, two, three, four = http.result("broadcast", body)["responses"]
    assert one == {"result": {"recipients": 1}}
    assert two["error"]["code"] == 107
    assert three["result"]["offset"] == 1
    assert four["error"]["code"] == 107
    assert tab.published() == [1, 1]


def test_an_idempotency_key(world: World, http: Http) -> None:
    tab = world.connected()
    tab.ask("subscribe", channel="news:1")
    body = {"channel": "news:1", "data": 1, "idempotency_key": "k" * 255}
    first = http.result("publish", body)
    assert "duplicate" not in first
    assert http.result("publish", body) == {**first, "duplicate": True}
    assert http.result("publish", {**body, "channel": "news:2"})["offset"] == 1
    assert http.result("publish", {**body, "idempotency_key": None})["offset"] == 2
    several = {"channels": ["news:1", "news:3"], "data": 1, "idempotency_key": "k" * 255}
    one, two = http.result("broadcast", several)["responses"]
    assert one["result"]["duplicate"] is True
    assert "duplicate" not in two["result"]
    assert tab.published() == [1, 1]
    world.advance(301)
    assert "duplicate" not in http.result("publish", body)


def test_versions(world: World, http: Http) -> None:
    tab = world.connected()
    tab.ask("subscribe", channel="news:1")
    body = {"channel": "news:1", "version_epoch": "e"}
    top = 2**63 - 1
    answers = [
        http.result("publish", {**body, "data": version, "version": version})
        for version in (1, top, top - 1, top)
    ]
    assert [(each["offset"], each["recipients"]) for each in answers] == [
        (1, 1),
        (2, 1),
        (2, 0),
        (2, 0),
    ]
    assert tab.published() == [1, top]
    http.result("publish", {**body, "data": "other", "version": 1, "version_epoch": None})
    assert tab.published() == [1, top, "other"]


def test_history(world: World, http: Http) -> None:
    for number in range(1, 4):
        http.result("publish", {"channel": "log:1", "data": number, "tags": {"n": "x"}})
    [top] = http.result("position", {"channels": ["log:1"]})["positions"].values()
    assert top["offset"] == 3
    assert http.result("history", {"channel": "log:1"}) == {"publications": [], **top}
    found = http.result("history", {"channel": "log:1", "limit": -1})
    assert [each["offset"] for each in found["publications"]] == [1, 2, 3]
    time = int(world.clock.seconds() * 1000)
    first = {"data": 1, "offset": 1, "tags": {"n": "x"}, "time": time}
    assert found["publications"][0] == first
    since = {"offset": 1, "epoch": top["epoch"]}
    query = {"channel": "log:1", "limit": 1, "since": since}
    assert [each["data"] for each in http.result("history", query)["publications"]] == [2]
    back = http.result("history", {"channel": "log:1", "limit": 2, "reverse": True})
    assert [each["data"] for each in back["publications"]] == [3, 2]
    for wrong in ({**since, "epoch": "other"}, {**since, "offset": 4}, {}):
        assert http.post("history", {**query, "since": wrong}).error["code"] == 112
    assert http.post("history", {"channel": "open:1"}).error["code"] == 108
    assert http.post("history", {"channel": "log:1", "limit": -2}).error["code"] == 107


def test_history_of_a_client_has_its_info(world: World, http: Http) -> None:
    space = Namespace(
        prefix="a", history_size=1, client_publish="anyone", client_subscribe="anyone"
    )
    world.node.reconfigure(Policy(evolve(world.site, namespaces=(space,)), world.limits))
    tab = world.user("alice", info={"name": "A"})
    tab.ask("publish", channel="a", data=b'{"x":1}'.decode())
    [found] = http.result("history", {"channel": "a", "limit": -1})["publications"]
    who = {"user": "alice", "client": tab.session.client, "conn_info": {"name": "A"}}
    assert found["info"] == who


def test_history_remove(world: World, http: Http) -> None:
    published = http.result("publish", {"channel": "news:1", "data": 1})
    assert http.result("history_remove", {"channel": "news:1"}) == {}
    found = http.result("history", {"channel": "news:1", "limit": -1})
    assert found == {"publications": [], "offset": 1, "epoch": published["epoch"]}
    assert http.post("history_remove", {"channel": "open:1"}).error["code"] == 108


def test_position(world: World, http: Http) -> None:
    published = http.result("publish", {"channel": "news:1", "data": 1})
    channels = ["news:1", "open:1", "news:2"]
    positions = http.result("position", {"channels": channels})["positions"]
    assert list(positions) == ["news:1", "news:2"]
    assert positions["news:1"] == {"offset": 1, "epoch": published["epoch"]}
    assert positions["news:2"]["offset"] == 0
    assert http.result("position", {"channels": []}) == {"positions": {}}
    many = [str(number) for number in range(MAX_POSITIONS)]
    assert http.post("position", {"channels": [*many, "x"]}).error["code"] == 106
    assert http.post("position", {"channels": ["news:1", ""]}).error["code"] == 107
    assert http.post("position", {}).error["code"] == 107


def test_subscribe_unsubscribe(world: World, http: Http) -> None:
    tab = world.user("alice")
    body = {"user": "alice", "channel": "x", "info": {"a": 1}, "data": None}
    assert http.result("subscribe", body) == {}
    http.result("publish", {"channel": "x", "data": 1})
    assert http.result("unsubscribe", {"user": "alice", "channel": "x"}) == {}
    http.result("publish", {"channel": "x", "data": 2})
    assert tab.published() == [1]
    assert http.post("subscribe", {"channel": "x"}).error["code"] == 107


def test_disconnect(world: World, http: Http) -> None:
    one, two, three = world.user("alice"), world.user("alice"), world.user("bob")
    spared = {"user": "alice", "whitelist": [two.session.client]}
    assert http.result("disconnect", spared) == {}
    assert (one.code, two.code, three.code) == (3503, None, None)
    code = {"code": 4501, "reason": "banned"}
    assert http.result("disconnect", {"client": two.session.client, "disconnect": code}) == {}
    assert two.code == 4501
    assert http.post("disconnect", {}).error["code"] == 107
    for wrong in (999, 1000, 2999, 5000):
        body = {"user": "bob", "disconnect": {"code": wrong, "reason": ""}}
        assert http.post("disconnect", body).error["code"] == 107
    assert three.code is None


def test_refresh(world: World, http: Http) -> None:
    tab = world.user("alice", exp=world.clock.seconds() + 100)
    expire_at = int(world.clock.seconds()) + 50
    assert http.result("refresh", {"user": "alice", "expire_at": expire_at}) == {}
    assert tab.new() == [{"push": {"refresh": {"expires": True, "ttl": 50}}}]
    assert http.result("refresh", {"user": "alice", "expired": True}) == {}
    assert tab.code == 3005


def test_logout(world: World, http: Http) -> None:
    token = sign(sub="alice")
    one, two = world.connected(token=token), world.user("alice", jti="2")
    assert http.result("logout", {"token": token}) == {}
    assert (one.code, two.code) == (3500, None)
    assert http.result("logout", {"user": "alice"}) == {}
    assert two.code == 3500
    assert http.post("logout", {}).error["code"] == 107
    assert http.post("logout", {"user": "a", "token": "b"}).error["code"] == 107


def test_presence(world: World, http: Http) -> None:
    tab = world.user("alice", info={"n": 1.10})
    tab.ask("subscribe", channel="room:1")
    client = tab.session.client
    who = {"user": "alice", "client": client, "conn_info": {"n": 1.1}}
    assert http.result("presence", {"channel": "room:1"}) == {"presence": {client: who}}
    stats = http.result("presence_stats", {"channel": "room:1"})
    assert stats == {"num_clients": 1, "num_users": 1}
    assert http.post("presence", {"channel": "open:1"}).error["code"] == 108


def test_channels_connections_users_info(world: World, http: Http) -> None:
    tab = world.user("alice")
    world.connected()
    tab.ask("subscribe", channel="open:1")
    channels = {"open:1": {"num_clients": 1}, BROADCAST: {"num_clients": 2}}
    assert http.result("channels") == {"channels": channels}
    assert list(http.result("channels", {"pattern": "open:*"})["channels"]) == ["open:1"]
    assert len(http.result("connections")["connections"]) == 2
    [found] = http.result("connections", {"user": "alice"})["connections"]
    assert found["client"] == tab.session.client
    assert found["channels"] == [BROADCAST, "open:1"]
    assert len(http.result("connections", {"channel": BROADCAST})["connections"]) == 2
    assert len(http.result("connections", {"user": ""})["connections"]) == 1
    assert http.result("connections", {"user": "nobody"}) == {"connections": []}
    assert http.result("users") == {"users": {"alice": {"num_clients": 1}, "": {"num_clients": 1}}}
    [node] = http.result("info")["nodes"]
    assert (node["num_clients"], node["num_users"], node["num_channels"]) == (2, 2, 2)


def test_batch(world: World, http: Http) -> None:
    tab = world.connected()
    commands = [
        {"publish": {"channel": BROADCAST, "data": 1}},
        {"publish": {"channel": ""}},
        {"publish": {"channel": "", "data": 1}},
        {"magic": {}},
        {"batch": {"commands": []}},
        {},
        {"publish": {"channel": BROADCAST, "data": 2}, "info": {}},
        {"publish": {"channel": BROADCAST, "data": 3}},
    ]
    answer = http.post("batch", {"commands": commands, "parallel": True})
    replies = answer.json["result"]["replies"]
    codes = [reply.get("error", {}).get("code") for reply in replies]
    assert codes == [None, 107, 107, 104, 107, 107, 107, None]
    assert tab.published() == [1, 3]
    assert "recipients" in replies[0]["publish"]


def test_publishes_of_a_batch_are_begun_together(world: World, http: Http) -> None:
    """An engine that writes them down has them in one go; what comes after waits for them."""
    world.engine.hold.add("publish")
    publishes = [{"publish": {"channel": f"x{n}", "data": n}} for n in range(TOGETHER + 1)]
    commands = [*publishes, {"history_remove": {"channel": "news:1"}}, publishes[0]]
    body = json.dumps({"commands": commands}).encode()
    answer: list[Any] = []
    running = Deferred.fromCoroutine(Methods([world.node]).run(world.node, ANY, "batch", body))
    running.addCallback(answer.append)
    assert len(world.engine.held) == TOGETHER
    for _ in range(TOGETHER):
        world.engine.release()
    assert len(world.engine.held) == 1
    assert world.engine.named("history_remove") == []
    world.engine.hold.clear()
    world.engine.release()
    assert [next(iter(reply)) for reply in answer[0]["replies"]] == [
        *["publish"] * (TOGETHER + 1),
        "history_remove",
        "publish",
    ]


def test_a_batch_whose_engine_fails_in_between(world: World, http: Http) -> None:
    publish = {"publish": {"channel": BROADCAST, "data": 1}}
    world.engine.broken["history_remove"] = Overloaded()
    commands = [publish, {"history_remove": {"channel": "news:1"}}, publish]
    replies = http.post("batch", {"commands": commands}).json["result"]["replies"]
    assert [reply.get("error", {}).get("code") for reply in replies] == [None, 100, None]


@pytest.mark.parametrize(
    ("error", "executed"),
    [(Overloaded(), "no"), (NotConnected(), "no"), (OutcomeUnknown(), "unknown")],
)
def test_an_item_says_the_same_as_a_request_that_may_be_tried_again(
    world: World, http: Http, error: Any, executed: str
) -> None:
    world.engine.broken["publish"] = error
    one = {"channel": BROADCAST, "data": 1}
    alone = http.post("publish", one)
    assert (alone.status, alone.json["executed"]) == (503, executed)
    wrong = {"channel": BROADCAST}
    batch = http.post("batch", {"commands": [{"publish": one}, {"publish": wrong}]})
    [reply, other] = batch.json["result"]["replies"]
    assert (batch.status, reply) == (200, alone.json)
    assert other["error"]["code"] == 107
    assert "executed" not in other
    broadcast = http.post("broadcast", {"channels": [BROADCAST, BROADCAST], "data": 1})
    assert broadcast.json["result"]["responses"] == [alone.json] * 2


def test_the_channels_of_a_broadcast_are_begun_together(world: World, http: Http) -> None:
    world.engine.hold.add("publish")
    channels = [str(number) for number in range(TOGETHER + 2)]
    body = json.dumps({"channels": channels, "data": 1}).encode()
    answer: list[Any] = []
    running = Deferred.fromCoroutine(Methods([world.node]).run(world.node, ANY, "broadcast", body))
    running.addCallback(answer.append)
    assert len(world.engine.held) == TOGETHER
    while world.engine.held:
        world.engine.release()
    assert len(answer[0]["responses"]) == TOGETHER + 2
    assert [call[0].channel for call in world.engine.named("publish")] == channels


@pytest.mark.parametrize("key", [KEY, READER])
@pytest.mark.parametrize("site", ["", "main", "nowhere"])
def test_a_batch_of_publishes_alone_is_answered_as_with_others(
    world: World, http: Http, key: str, site: str
) -> None:
    tab = world.connected()
    wanted: list[dict[str, Any]] = [
        {"channel": BROADCAST, "data": {"n": 1}, "tags": {"a": "b"}},
        {"channel": BROADCAST, "data": [2], "idempotency_key": "2", "skip_history": True},
        {"channel": BROADCAST, "data": [2], "idempotency_key": "2"},
        {"channel": "", "data": 3},
        {"channel": "a\nb", "data": 4},
        {"channel": BROADCAST, "data": 5, "delta": True},
        {"channel": BROADCAST, "data": 6, "version_epoch": "e"},
        {"channel": BROADCAST, "data": 7, "site": "nowhere"},
        {"channel": BROADCAST, "data": 8},
    ]
    commands = [{"publish": each} for each in wanted]

    def replies(*more: Any) -> Any:
        for each in wanted:
            if "idempotency_key" in each:  # Both times it is new.
                each["idempotency_key"] += "x"
        body = {"commands": [*commands, *more], "site": site}
        tab.transport.sent.clear()
        answer = http.post("batch", body, key=key)
        return answer.json["result"]["replies"], b"".join(tab.transport.sent)

    alone, pushed = replies()
    mixed, pushed_again = replies({"info": {}})
    assert alone == mixed[:-1]
    assert pushed == pushed_again
    assert len(alone) == len(wanted)


def test_a_batch_needs_the_scopes_of_its_commands(world: World, http: Http) -> None:
    body = json.dumps(
        {"commands": [{"users": {}}, {"publish": {"channel": BROADCAST, "data": 1}}]}
    ).encode()
    first, second = http.post("batch", body, key=READER).json["result"]["replies"]
    assert first == {"users": {"users": {}}}
    assert second["error"]["code"] == 103


# --- Who may ---------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "", "wrong", KEY + "x", KEY[:-1], KEY.upper(), "\xff" * 9])
def test_a_wrong_key(world: World, http: Http, key: str | None) -> None:
    answer = http.post("publish", {"channel": BROADCAST, "data": 1}, key=key)
    assert answer.status == 401
    assert answer.error["code"] == 101
    assert ("missing" in answer.error["message"]) == (key is None)
    assert KEY not in answer.body.decode()


def test_the_key_comes_first(world: World, http: Http) -> None:
    """Without a key nothing else is told: no method, no syntax, no limit."""
    assert http.post("nothing", b"{", key="wrong").status == 401
    assert http.post("publish", b" " * (LIMIT + 1), key="wrong").status == 401
    assert http.raw(b"GET /api/info HTTP/1.1\r\nHost: a\r\n\r\n").status == 401


def test_two_keys_in_one_request(world: World, http: Http) -> None:
    request = f"POST /api/info HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\nX-API-Key: {KEY}\r\n"
    assert http.raw(request.encode() + b"Content-Length: 0\r\n\r\n").status in (400, 401)


def test_scopes(world: World, http: Http) -> None:
    assert http.post("info", key=READER).status == 200
    assert "result" in http.post("position", {"channels": []}, key=READER).json
    assert "result" in http.post("history", {"channel": "log:1"}, key=READER).json
    for method in ("publish", "broadcast", "subscribe", "disconnect", "logout", "history_remove"):
        answer = http.post(method, key=READER)
        assert answer.status == 200
        assert http.post(method, key=READER, **TRANSPORT).status == 403
        assert answer.error["code"] == 103


async def test_two_sites(fast: bool) -> None:
    one, two = World(), World(keys=(KeyConfig(key=READER),))
    await one.start()
    await two.start()
    http = Http(one, two, fast=fast)
    tabs = [one.user("alice"), two.user("alice")]
    assert http.result("publish", {"channel": BROADCAST, "data": 1})["recipients"] == 1
    http.result("disconnect", {"client": tabs[1].session.client})
    http.result("disconnect", {"session": tabs[1].session.secret})
    http.result("disconnect", {"user": "alice"})
    assert [tab.code for tab in tabs] == [3503, None]
    assert http.result("users") == {"users": {}}
    other = http.post("users", key=READER).json["result"]["users"]
    assert other == {"alice": {"num_clients": 1}}
    assert len(tabs[1].everything) == 1
    await one.end()
    await two.end()


def test_a_new_key_by_reload(world: World, http: Http) -> None:
    site = evolve(world.site, keys=(KeyConfig(key="the-new-key-of-the-site"),))
    world.node.reconfigure(Policy(site, world.limits))
    assert http.post("info").status == 401
    assert http.post("info", key="the-new-key-of-the-site").status == 200


# --- What is asked ---------------------------------------------------------------------------


def test_other_http_methods(world: World, http: Http) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"):
        request = f"{method} /api/info HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\n\r\n"
        answer = http.raw(request.encode())
        assert answer.status == 405
        assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("name", ["nothing", "", "publish/", "publish/x", "__init__", "Publish"])
def test_unknown_methods(world: World, http: Http, name: str) -> None:
    answer = http.post(name)
    assert answer.status == 404
    assert answer.error["code"] == 104
    assert set(world.stats.api_requests) == {("unknown", "refused")}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"channel": "a", "data": }', "byte"),
        (b'{"channel": "a", "data": NaN}', "byte"),
        (b'{"channel": "a", "data": Infinity}', "byte"),
        (b'{"channel": "a", "data": "\xff"}', "UTF-8"),
        (b'{"channel": "a", "data": "\\ud800"}', ""),
        (b'{"channel": "a", "data": 1} x', "byte"),
        (b"[" * 1000, "nested"),
        (b'{"channel": "a", "data": ' + b"[" * 200 + b"]" * 200 + b"}", "nested"),
    ],
)
def test_what_is_no_json(world: World, http: Http, body: bytes, says: str) -> None:
    answer = http.post("publish", body)
    assert answer.status == 400
    assert answer.error["code"] == 107
    assert says in answer.error["message"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"channel": "a", "data": 1, "colour": 1}', "colour"),
        (b'{"channel": 5, "data": 1}', "channel"),
        (b'{"channel": null, "data": 1}', "channel"),
        (b'{"channel": "a"}', "data"),
        (b'{"channel": "a", "data": 1, "tags": {"x": 1}}', "tags"),
        (b"", "channel"),
        (b"[]", "object"),
        (b"null", "object"),
    ],
)
def test_what_is_no_request(world: World, http: Http, body: bytes, says: str) -> None:
    answer = http.post("publish", body)
    assert answer.status == 200
    assert answer.error["code"] == 107
    assert says in answer.error["message"]


def test_what_would_not_be_kept_is_not_promised(world: World, http: Http) -> None:
    for method, where in (("publish", {"channel": "x"}), ("broadcast", {"channels": ["x"]})):
        body = {**where, "data": 1}
        assert http.post(method, {**body, "delta": True}).error["code"] == 108
        assert http.post(method, {**body, "version_epoch": "e"}).error["code"] == 107


@pytest.mark.parametrize(
    "wrong",
    [
        {"idempotency_key": "k" * 256},
        {"idempotency_key": 1},
        {"version": -1},
        {"version": 2**63},
        {"version": 1.5},
        {"version": "1"},
        {"version": 1, "version_epoch": "e" * 256},
    ],
)
def test_publish_options_that_are_none(world: World, http: Http, wrong: dict[str, object]) -> None:
    answer = http.post("publish", {"channel": "news:1", "data": 1, **wrong})
    assert answer.error["code"] == 107
    assert answer.error["message"].split("`$.")[1].startswith(list(wrong)[-1])


def test_an_oversized_body(world: World, http: Http) -> None:
    whole = {"channel": BROADCAST, "data": "x" * LIMIT}
    assert http.post("publish", whole).status == 413
    chunk = b"%x\r\n" % (LIMIT + 1) + b" " * (LIMIT + 1) + b"\r\n0\r\n\r\n"
    head = f"POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {KEY}\r\n"
    answer = http.raw(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + chunk)
    assert answer.status == 413
    assert answer.headers["connection"] == "close"


def test_a_body_of_just_the_limit(world: World, http: Http) -> None:
    body = b'{"channel":"broadcast","data":1}'
    assert http.post("publish", body + b" " * (LIMIT - len(body))).status == 200


def test_error_mode_transport(world: World, http: Http) -> None:
    def status(method: str, body: Any, **headers: str) -> int:
        return http.post(method, body, **headers).status

    assert status("publish", {"channel": "", "data": 1}) == 200
    assert status("publish", {"channel": "", "data": 1}, **TRANSPORT) == 400
    assert status("presence", {"channel": "open:1"}) == 200
    assert status("presence", {"channel": "open:1"}, **TRANSPORT) == 501


@pytest.mark.parametrize(
    ("error", "retry", "executed"),
    [
        (NotConnected(), "1", "no"),
        (Overloaded(), "1", "no"),
        (OutcomeUnknown(), "1", "unknown"),
        (EngineRefused(), None, "no"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_engine_that_cannot(
    world: World, http: Http, error: Any, retry: str | None, executed: str
) -> None:
    tab = world.connected()
    world.engine.broken["publish"] = error
    answer = http.post("publish", {"channel": BROADCAST, "data": 1})
    assert answer.status == 503
    assert answer.headers.get("retry-after") == retry
    assert answer.json["executed"] == executed
    assert tab.published() == []


def test_a_client_that_hangs_up_before_the_answer(world: World, http: Http) -> None:
    world.engine.hold.add("publish")
    with pytest.raises(AssertionError, match="no answer"):
        http.post("publish", {"channel": BROADCAST, "data": 1})
    world.engine.release()
    world.engine.hold.clear()
    assert world.stats.api_requests["publish", "ok"] == 1


def test_control_characters_in_a_header(world: World, http: Http) -> None:
    assert http.post("info", X_Other="a\x85b").status == 400


def test_answers_are_not_kept_by_caches(world: World, http: Http) -> None:
    answer = http.post("info")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"].startswith("application/json")
