"""The known defects of the original server, each shown to be absent on the wire.

The list: the specification of Drupal's module and its server, section 11, "Live, security" (1 to 6)
and "Live, reliability" (7 to 11). Each test has the number of its defect in its name.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.cms import Answer, Request, hang_up, html, invalid_json, says, silence
from tests.e2e.drupal import (
    PASSWORD_HASH,
    PEOPLE,
    Module,
    Person,
    StubDrupal,
    forbidden,
    make_drupal_server,
    moved,
)
from tests.e2e.raw_client import RawClient
from tests.e2e.raw_socketio import RawSocketIo
from tests.e2e.server import KEY, PATIENCE, PushServer, eventually, http

ORIGIN = "http://www.example.org"
WRONG_KEY = "a-wrong-key-that-nobody-may-see"
COOKIE = "SESSdrupal=the-session-of-a-visitor"

Open = Callable[..., RawSocketIo]


@pytest.fixture(scope="module")
def drupal() -> Iterator[StubDrupal]:
    with StubDrupal() as running:
        yield running


@pytest.fixture(scope="module")
def server(drupal: StubDrupal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    folder = tmp_path_factory.mktemp("push")
    options: dict[str, Any] = {
        "site": {"allowed_origins": [ORIGIN]},
        "callback_options": {"timeout": "1s", "serve_stale": "0s"},
        "limits": {"max_message_size": 4096, "max_body_size": 16384},
    }
    with make_drupal_server(folder, drupal, **options) as running:
        yield running
    for secret in (KEY, WRONG_KEY, PASSWORD_HASH, *PEOPLE, COOKIE):
        assert secret not in running.log


@pytest.fixture(autouse=True)
def everybody(drupal: StubDrupal) -> None:
    """Let in those who are known, whatever the test before has changed."""
    drupal.set_people(PEOPLE)


@pytest.fixture
def connect(server: PushServer) -> Iterator[Open]:
    """Give a function that connects a page to the server, or to the one given."""
    with ExitStack() as stack:

        def connect_page(to: PushServer = server, **options: Any) -> RawSocketIo:
            return stack.enter_context(RawSocketIo(to.port, **options))

        yield connect_page


@pytest.fixture
def bystander(connect: Open) -> RawSocketIo:
    """Let in a page that has nothing to do with what the test does."""
    page = connect()
    page.authenticate("bob-token")
    return page


@pytest.fixture
def module(server: PushServer) -> Module:
    return Module(server.port, "7b")


def check_served(bystander: RawSocketIo, module: Module) -> None:
    """Check that the server lives, and serves the others as before."""
    mark = {"mark": len(bystander.packets)}
    module.send("nodejs_user_3", mark)
    assert bystander.message_of(data=mark)


# --- Security --------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["alice-token", "anonymous-token"])
@pytest.mark.parametrize("version", [3, 4])
def test_1_the_service_key_is_published(connect: Open, token: str, version: int) -> None:
    """Drupal answers with its key and the whole account; the page gets what it needs."""
    page = connect(version=version)
    assert page.ask("authenticate", {"authToken": token}) == {"result": "success"}
    told = json.loads(page.packets[-2].removeprefix("42"))[1]["data"]
    assert set(told) == {
        "uid",
        "authToken",
        "nodejsValidAuthToken",
        "clientId",
        "channels",
        "presenceUids",
        "contentTokens",
    }
    for secret in (KEY, PASSWORD_HASH, "@mail.invalid", "serviceKey", '"pass"', "rdf_mapping"):
        assert secret not in page.text


@pytest.mark.parametrize(
    "packet",
    [
        '42["authenticate"]',
        '42["authenticate",null]',
        '42["authenticate",{"authToken":"__proto__"}]',
        '42["authenticate",{"authToken":"constructor"}]',
        '42["authenticate",{"authToken":"unknown"}]42["authenticate",{"authToken":"unknown"}]',
    ],
)
@pytest.mark.parametrize("version", [3, 4])
def test_2_one_frame_kills_the_server(
    connect: Open, bystander: RawSocketIo, module: Module, version: int, packet: str
) -> None:
    page = connect(version=version)
    with suppress(ConnectionClosed):  # It may be closed before the second of them.
        for each in packet.replace("]42[", "]\n42[").split("\n"):
            page.send(each)
    assert page.stays_away()
    check_served(bystander, module)


@pytest.mark.parametrize(
    "argument",
    [None, {"channel": "__proto__", "contentToken": "__proto__"}, {"channel": None}, [], "text"],
)
def test_2_one_frame_of_a_visitor_kills_the_server(
    bystander: RawSocketIo, module: Module, argument: object
) -> None:
    assert bystander.ask("join-token-channel", argument)["result"] == "error"
    check_served(bystander, module)


def test_2_a_refused_visitor_who_has_left_kills_the_server(
    connect: Open, drupal: StubDrupal, bystander: RawSocketIo, module: Module
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def late(request: Request) -> None:
        asked.set()
        answer.wait(PATIENCE)
        says({"nodejsValidAuthToken": False, "uid": 0})(request)

    drupal.set_people({**PEOPLE, "late-token": late})
    page = connect()
    page.emit("authenticate", {"authToken": "late-token"})
    assert asked.wait(PATIENCE)
    sockets = module.health()["sockets"]
    page.close()
    eventually("it is gone", lambda: module.health()["sockets"] == sockets - 1)
    answer.set()
    check_served(bystander, module)


def test_3_logout_does_nothing(
    connect: Open, drupal: StubDrupal, bystander: RawSocketIo, module: Module
) -> None:
    drupal.set_people({**PEOPLE, "leaving-token": Person(7, ("nodejs_user_7",), "grace")})
    tabs = [connect(), connect(version=4)]
    for tab in tabs:
        tab.authenticate("leaving-token")

    module.logout("leaving-token")
    assert module.send("nodejs_user_7", "private") == 0
    for tab in tabs:
        assert tab.stays_away()
        assert "private" not in tab.text

    # The token is dead on new sockets, though this Drupal would still let it in.
    again = connect()
    again.emit("authenticate", {"authToken": "leaving-token"})
    assert again.stays_away()
    assert "clientAuthenticated" not in again.text
    check_served(bystander, module)


def test_4_kick_leaves_the_connection_open_and_mute(
    connect: Open, bystander: RawSocketIo, module: Module
) -> None:
    token, other_token = module.content_token("article"), module.content_token("article")
    page = connect()
    page.authenticate("alice-token", contentTokens={"article": token})
    bystander.ask("join-token-channel", {"channel": "article", "contentToken": other_token})
    assert sorted(module.content_users("article")["uids"]) == ["2", "3"]

    module.kick(2)

    assert page.stays_away()
    assert module.content_users("article") == {"uids": ["3"], "authTokens": []}
    check_served(bystander, module)


@pytest.mark.parametrize("headers", [{}, {"NodejsServiceKey": ""}, {"NodejsServiceKey": "x"}])
def test_5_an_open_api(
    server: PushServer, bystander: RawSocketIo, module: Module, headers: Mapping[str, str]
) -> None:
    body = json.dumps({"broadcast": True, "channel": "", "data": "forged"}).encode()
    for route in ("publish", "user/kick/3", "content/token", "debug/toggle"):
        status, text = http("POST", f"{server.url}/nodejs/{route}", body, headers)
        assert (status, json.loads(text)) == (200, {"error": "Invalid service key."})
    check_served(bystander, module)
    assert "forged" not in bystander.text


def test_5_an_empty_key_opens_the_api(drupal: StubDrupal, tmp_path: Path) -> None:
    server = make_drupal_server(tmp_path, drupal, site={"key": ""})
    server.launch()
    assert server.wait() != 0
    assert "key" in server.log
    assert "Traceback" not in server.log


def test_5_every_origin_is_reflected(server: PushServer, connect: Open) -> None:
    url = f"{server.url}/socket.io/?EIO=3&transport=polling"
    for origin in ("http://evil.example", "http://www.example.org.evil.example", "null"):
        status, text = http("GET", url, headers={"Origin": origin})
        assert status == 403
        assert origin not in text
        with pytest.raises(InvalidStatus) as refused:
            connect(origin=origin)
        assert refused.value.response.status_code == 403
        for name in ("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"):
            assert name not in refused.value.response.headers
    connect(origin=ORIGIN).authenticate("alice-token")


def test_5_stack_traces_for_strangers(server: PushServer) -> None:
    url = f"{server.url}/nodejs/publish"
    stranger = {"Content-Type": "application/json"}
    assert http("POST", url, b"{", stranger) == (200, '{"error":"Invalid service key."}')
    status, text = http("POST", url, b"{", {**stranger, "NodejsServiceKey": KEY})
    assert status == 400
    assert list(json.loads(text)) == ["error"]
    for trace in ("Traceback", "File ", ".py", "<"):
        assert trace not in text


def test_5_health_check_prints_unspent_content_tokens(module: Module) -> None:
    token = module.content_token("unspent")
    health = module.health()
    assert token not in json.dumps(health)
    assert health["contentTokens"] == {}


def test_5_the_session_of_the_browser_travels(
    server: PushServer, connect: Open, drupal: StubDrupal
) -> None:
    """A browser sends the cookies of the host to every port. They go nowhere from here."""
    drupal.set_people({"cookie-token": Person(8, (), "heidi")})
    page = connect(headers={"Cookie": COOKIE})
    page.authenticate("cookie-token")
    assert len(drupal.asked_of("authenticate", authToken="cookie-token")) == 1
    assert not any("cookie" in headers for headers in drupal.http.question_headers)
    assert COOKIE not in json.dumps(drupal.asked)
    assert COOKIE not in page.text
    response = page.socket.response
    assert response is not None
    assert "Set-Cookie" not in response.headers


def test_6_keys_are_logged(server: PushServer, module: Module) -> None:
    """Neither the wrong key nor the right one; see also the end of the fixture ``server``."""
    mark = server.log_mark()
    wrong = Module(server.port, "8", key=WRONG_KEY)
    assert wrong.request("GET", "health/check") == {"error": "Invalid service key."}
    lines = eventually("it is logged", lambda: server.log_since(mark))
    assert "refused" in lines[0]
    for key in (WRONG_KEY, KEY):
        assert key not in server.log


@pytest.mark.parametrize("name", ["__proto__", "constructor", "hasOwnProperty", "toString"])
def test_6_names_that_plain_maps_know(
    connect: Open, bystander: RawSocketIo, module: Module, name: str
) -> None:
    assert module.request("GET", f"channel/check/{name}")["result"] is False
    assert module.send(name, 1) == 0
    assert module.content_users(name) == {"uids": [], "authTokens": []}
    assert module.content_message(name, 1) == {"error": "Invalid message"}
    assert module.request("POST", f"user/kick/{name}")["status"] == "success"
    token = module.content_token(name)
    page = connect()
    told = page.authenticate("alice-token", contentTokens={name: token})
    assert told["contentTokens"] == {name: token}
    assert module.content_users(name) == {"uids": ["2"], "authTokens": []}
    check_served(bystander, module)


def test_6_no_limit_of_size(
    server: PushServer, connect: Open, bystander: RawSocketIo, module: Module
) -> None:
    headers = {"NodejsServiceKey": KEY, "Content-Type": "application/json"}
    body = json.dumps({"channel": "example", "data": "x" * 20000}).encode()
    assert http("POST", f"{server.url}/nodejs/publish", body, headers)[0] == 413
    page = connect()
    page.emit("authenticate", {"authToken": "x" * 5000})
    page.closing()
    url = f"{server.url}/socket.io/?EIO=3&transport=polling"
    opened = http("GET", url)[1]
    sid = json.loads(opened[opened.index("{") : opened.index("}") + 1])["sid"]
    assert http("POST", f"{url}&sid={sid}", b"4999:4" + b"x" * 4998)[0] == 413
    check_served(bystander, module)


def test_6_no_limit_of_rate(connect: Open, bystander: RawSocketIo, module: Module) -> None:
    page = connect()
    page.authenticate("alice-token")
    for _ in range(2000):
        try:
            page.emit("join-token-channel", {"channel": "a", "contentToken": "b"})
        except ConnectionClosed:
            break
    page.closing()
    check_served(bystander, module)


def test_6_no_limit_of_connections_and_channels(drupal: StubDrupal, tmp_path: Path) -> None:
    limits = {"max_connections": 3, "max_channels_per_client": 5}
    with ExitStack() as stack:
        server = stack.enter_context(make_drupal_server(tmp_path, drupal, limits=limits))
        module = Module(server.port, "7b")
        pages = [stack.enter_context(RawSocketIo(server.port)) for _ in range(3)]
        with pytest.raises(InvalidStatus) as refused:
            RawSocketIo(server.port)
        assert refused.value.response.status_code == 503
        tokens = {f"c{number}": module.content_token(f"c{number}") for number in range(10)}
        told = pages[0].authenticate("alice-token", contentTokens=tokens)
        assert len(told["channels"]) + len(told["contentTokens"]) <= 5
        pages[0].close()
        eventually("there is room again", lambda: module.health()["sockets"] == 2)
        stack.enter_context(RawSocketIo(server.port)).authenticate("alice-token")


def test_6_uids_are_numbers_only(connect: Open, drupal: StubDrupal, module: Module) -> None:
    account = {"uid": "grace", "nodejsValidAuthToken": True, "channels": [], "presenceUids": []}
    drupal.set_people({"named-token": says(account)})
    page = connect()
    assert page.authenticate("named-token")["uid"] == "grace"
    assert module.request("POST", "user/channel/add/late/grace")["status"] == "success"
    assert module.send("late", "for grace") == 1
    page.message_of(data="for grace")
    assert module.request("POST", "user/kick/grace")["status"] == "success"
    assert page.stays_away()


def test_6_channels_are_not_checked(module: Module) -> None:
    for channel in ("", "\n", "x" * 300):
        message: dict[str, object] = {"channel": channel, "broadcast": False, "data": 1}
        answer = module.request("POST", "publish", message)
        assert "error" in answer
        assert "sent" not in answer


# --- Reliability -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4])
def test_7_content_tokens_are_single_use(connect: Open, module: Module, version: int) -> None:
    channel = f"reading_{version}"
    tokens = {channel: module.content_token(channel)}
    for turn in range(3):
        page = connect(version=version)
        assert page.authenticate("alice-token", contentTokens=tokens)["contentTokens"] == tokens
        module.content_message(channel, turn)
        page.message_of(data=turn)
        page.close()


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(html(500), id="500"),
        pytest.param(forbidden, id="403"),
        pytest.param(says({}, 404), id="404"),
        pytest.param(moved, id="301"),
        pytest.param(html(), id="html"),
        pytest.param(invalid_json, id="invalid"),
        pytest.param(hang_up, id="hang-up"),
        pytest.param(silence, id="silence"),
    ],
)
def test_8_drupal_is_down(
    connect: Open, drupal: StubDrupal, trouble: Answer, request: pytest.FixtureRequest
) -> None:
    """A page is closed so that it comes back by itself, and then gets in. None waits for ever."""
    token = f"token-of-{request.node.name}"
    drupal.set_people({token: Person(9, ("example",), "ivan")})
    with drupal.trouble(trouble):
        page = connect()
        page.emit("authenticate", {"authToken": token})
        assert not page.stays_away()
        assert '"reconnect":true' in page.text
    assert connect().authenticate(token)["uid"] == "9"
    assert drupal.http.followed == 0


def test_9_each_tab_with_a_cold_token_asks(connect: Open, drupal: StubDrupal) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(request: Request) -> None:
        asked.set()
        answer.wait(0.5)
        account = {"uid": "10", "nodejsValidAuthToken": True, "channels": [], "presenceUids": []}
        says(account)(request)

    drupal.set_people({"cold-token": slow})
    tabs = [connect(version=3 + number % 2) for number in range(20)]
    for tab in tabs:
        tab.emit("authenticate", {"authToken": "cold-token"})
    assert asked.wait(PATIENCE)
    for tab in tabs:
        assert tab.message_of(callback="clientAuthenticated")["data"]["uid"] == "10"
    connect().authenticate("cold-token")
    assert len(drupal.asked_of("authenticate", authToken="cold-token")) == 1


def test_9_a_restart_makes_everybody_ask_at_once(drupal: StubDrupal, tmp_path: Path) -> None:
    lock = threading.Lock()
    now: list[int] = [0]
    most: list[int] = [0]

    def counted(request: Request) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        # As long as it takes until another question comes, should there be one.
        threading.Event().wait(0.02)
        with lock:
            now[0] -= 1
        says({"uid": "11", "nodejsValidAuthToken": True, "channels": [], "presenceUids": []})(
            request
        )

    tokens = [f"crowd-{number}" for number in range(40)]
    drupal.set_people(dict.fromkeys(tokens, counted))
    options = {"max_concurrent": 4}
    with ExitStack() as stack:
        server = stack.enter_context(make_drupal_server(tmp_path, drupal, callback_options=options))
        pages = [stack.enter_context(RawSocketIo(server.port)) for _ in tokens]
        for page, token in zip(pages, tokens, strict=True):
            page.emit("authenticate", {"authToken": token})
        for page in pages:
            page.message_of(callback="clientAuthenticated")
        assert 1 < most[0] <= 4
        for page in pages:
            page.close()


def test_10_routes_that_answer_500(connect: Open, module: Module, server: PushServer) -> None:
    page = connect()
    page.authenticate("alice-token")
    ask = module.request
    assert ask("GET", "user/presence-list/2/3,4")["status"] == "success"
    assert ask("POST", "user/presence-list/2/3,4")["status"] == "success"
    assert ask("POST", "authtoken/channel/remove/extra/unknown-token")["status"] == "failed"
    assert ask("POST", "authtoken/channel/add/extra/alice-token") == {"status": "success"}
    assert module.send("extra", "for the token") == 1
    page.message_of(data="for the token")
    assert ask("POST", "authtoken/channel/remove/extra/alice-token") == {"status": "success"}
    assert module.send("extra", "for nobody") == 0


def test_10_debug_cannot_be_turned_off(module: Module, server: PushServer) -> None:
    def lines() -> int:
        mark = server.log_mark()
        module.send("nobody", 1)
        module.health()
        return len(server.log_since(mark))

    debug = lambda on: module.request("POST", "debug/toggle", {"debug": on})  # noqa: E731
    assert debug(True) == {"status": "success", "debug": True}
    eventually("requests are logged", lines)
    assert debug(False) == {"status": "success", "debug": False}
    module.health()
    mark = server.log_mark()
    assert lines() == 0
    assert server.log_since(mark) == []


def test_11_permissions_are_kept_for_ever(drupal: StubDrupal, tmp_path: Path) -> None:
    """After ``grant_ttl`` Drupal is asked again; what it took away is gone."""
    drupal.set_people({"t": Person(12, ("secret", "example"), "judy")})
    options = {"grant_ttl": "100ms", "serve_stale": "0s"}
    with make_drupal_server(tmp_path, drupal, callback_options=options) as server:
        with RawSocketIo(server.port) as page:
            assert page.authenticate("t")["channels"] == ["secret", "example"]
        drupal.set_people({"t": Person(12, ("example",), "judy")})

        def channels() -> object:
            with RawSocketIo(server.port) as again:
                return again.authenticate("t")["channels"]

        eventually("the channel is gone", lambda: channels() == ["example"])
        assert Module(server.port).send("secret", 1) == 0


def test_11_there_is_no_history(drupal: StubDrupal, tmp_path: Path) -> None:
    """Clients of the native protocol get what was sent while they were away, if the site wants it.

    Pages of the module have no way to say where they were: what they miss is lost, as before.
    """
    rules = '[[sites.default.namespaces]]\nprefix = "example"\nhistory_size = 10\nrecover = true\n'
    with make_drupal_server(tmp_path, drupal, namespaces=rules) as server:
        with RawClient(server) as client:
            here = client.connect("alice-token")["subs"]["example"]
        for number in range(3):
            Module(server.port, "7b").send("example", number)
        position = {"recover": True, "epoch": here["epoch"], "offset": here.get("offset", 0)}
        with RawClient(server) as client:
            back = client.connect("alice-token", subs={"example": position})["subs"]["example"]
        assert back["recovered"] is True
        assert [each["data"] for each in back["publications"]] == [0, 1, 2]
