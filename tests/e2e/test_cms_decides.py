"""Subscribe, publish and rpc decided by the CMS, with the public clients of the native protocol."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from centrifuge import CentrifugeError

from tests.e2e.cms import PEOPLE, Request, StubCms, hang_up, html, says
from tests.e2e.raw_client import RawClient
from tests.e2e.server import KEY, TOKEN_SECRET, Dialogue, PushServer, eventually, make_server
from tests.e2e.test_centrifuge_python import ChannelEvents, client_of, run

HERE = Path(__file__).parent
TRANSPORTS = ("websocket", "http_stream", "sse")
Start = Callable[..., Dialogue]
NAMESPACES = """
[[sites.default.namespaces]]
prefix = "room:"
client_subscribe = "cms"
client_publish = "cms"
history_size = 100
recover = true
"""
YES: Mapping[str, object] = {"result": {}}
NO = {"error": {"code": 4003, "message": "not for you"}}


def decide(request: Request) -> None:
    """Answer as the name of the channel, the text or the method has it."""
    question = request.question
    about = str(question.get("method") or question.get("data") or "")
    if request.path in ("/subscribe", "/sub_refresh"):
        about = question["channel"]
    if "refused" in about:
        says(NO)(request)
    elif "banned" in about:
        says({"disconnect": {"code": 4501, "reason": "banned"}})(request)
    elif request.path == "/subscribe":
        says({"result": {"info": {"seat": 7}, "data": {"asked": question.get("data")}}})(request)
    elif request.path == "/publish":
        changes = {"change": {"data": {"text": "changed"}}, "swallow": {"skip_publish": True}}
        says({"result": changes.get(about, {})})(request)
    elif request.path == "/rpc":
        user, data = question["user"], question.get("data")
        says({"result": {"data": {"user": user, "echo": data}}})(request)


PATHS = ("subscribe", "sub_refresh", "publish", "rpc")
ANSWERS = {**PEOPLE, **{f"/{path}": decide for path in PATHS}}


@pytest.fixture(scope="module")
def cms() -> Iterator[StubCms]:
    with StubCms(ANSWERS) as stub:
        yield stub


@pytest.fixture(scope="module")
def server(cms: StubCms, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    urls = {f"{path}_url": cms.url.replace("/connect", f"/{path}") for path in PATHS}
    options = {**urls, "timeout": "2s", "serve_stale": "1s"}
    folder = tmp_path_factory.mktemp("server")
    with make_server(
        folder, callback=cms.url, callback_options=options, namespaces=NAMESPACES
    ) as running:
        yield running
    for secret in (KEY, TOKEN_SECRET, *PEOPLE, "a-token-for-the-room"):
        assert secret not in running.log


@pytest.fixture(autouse=True)
def as_before(cms: StubCms) -> Iterator[None]:
    """Have the CMS answer as usual again after each test."""
    yield
    cms.http.answers.update(ANSWERS)


@pytest.fixture
def start(node: str, server: PushServer) -> Iterator[Start]:
    """Give a function that starts a page: a client that is connected."""
    with ExitStack() as stack:

        def start_page(token: str, **options: Any) -> Dialogue:
            arguments = json.dumps({"url": server.url, "token": token, **options})
            command = [node, str(HERE / "js" / "client.mjs"), arguments]
            page = stack.enter_context(Dialogue(command, HERE))
            page.ask("connect")
            page.wait("connected")
            return page

        yield start_page


def asked(cms: StubCms, **fields: object) -> list[dict[str, Any]]:
    """Give the questions that have these fields."""
    return [each for each in cms.questions if fields.items() <= each.items()]


@pytest.mark.node
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_subscribe(start: Start, server: PushServer, cms: StubCms, transport: str) -> None:
    channel = f"room:{transport}"
    page = start("alice-token", transport=transport)

    done = page.ask("subscribe", channel=channel, token="a-token-for-the-room", data={"page": 7})

    assert done["event"] == "done", done
    assert done["result"]["data"] == {"asked": {"page": 7}}
    server.publish(channel, "hello")
    assert page.wait("publication", channel=channel)["data"] == "hello"
    [question] = asked(cms, channel=channel)
    assert question == {
        "client": page.named("connected")[0]["client"],
        "transport": transport,
        "protocol": "json",
        "encoding": "json",
        "user": "alice",
        "channel": channel,
        "token": "a-token-for-the-room",
        "data": {"page": 7},
    }


@pytest.mark.node
def test_subscribe_is_refused(start: Start, cms: StubCms) -> None:
    page = start("alice-token")
    failed = page.ask("subscribe", channel="room:refused")
    assert (failed["event"], failed["code"], failed["message"]) == ("failed", 4003, "not for you")
    assert page.ask("subscribe", channel="elsewhere")["code"] == 103
    assert page.ask("state")["result"] == "connected"
    assert asked(cms, channel="elsewhere") == []


@pytest.mark.node
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("act", ["subscribe", "publish", "rpc"])
def test_who_is_banned_stays_away(start: Start, act: str, transport: str) -> None:
    page = start("alice-token", transport=transport)
    page.tell(do=act, channel=f"room:{act}-banned", data="banned", method="banned")
    gone = page.wait("disconnected")
    assert (gone["code"], gone["reason"]) == (4501, "banned")
    assert page.ask("state")["result"] == "disconnected"


@pytest.mark.node
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_publish(start: Start, server: PushServer, transport: str) -> None:
    channel = f"room:talk-{transport}"
    reader = start("bob-token", transport=transport)
    assert reader.ask("subscribe", channel=channel)["event"] == "done"
    writer = start("alice-token", transport=transport)

    for data in ("one", "change", "swallow", "two"):
        assert writer.ask("publish", channel=channel, data=data)["event"] == "done"
    refused = writer.ask("publish", channel=channel, data="refused")

    assert (refused["code"], refused["message"]) == (4003, "not for you")
    reader.wait("publication", channel=channel, data="two")
    got = [each for each in reader.named("publication") if each["channel"] == channel]
    assert [each["data"] for each in got] == ["one", {"text": "changed"}, "two"]
    assert {each["info"]["user"] for each in got} == {"alice"}
    history = server.api("history", channel=channel, limit=10)["publications"]
    assert [each["data"] for each in history] == ["one", {"text": "changed"}, "two"]


@pytest.mark.node
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_rpc_and_send(start: Start, cms: StubCms, transport: str) -> None:
    page = start("alice-token", transport=transport)

    done = page.ask("rpc", method="vote", data={"for": 1})
    assert done["result"]["data"] == {"user": "alice", "echo": {"for": 1}}
    refused = page.ask("rpc", method="refused", data=None)
    assert (refused["event"], refused["code"]) == ("failed", 4003)

    assert page.ask("send", data={"seen": transport})["event"] == "done"
    [told] = eventually("the CMS is told", lambda: asked(cms, data={"seen": transport}))
    assert told["user"] == "alice"
    assert "method" not in told
    assert page.ask("rpc", method="more", data=[])["event"] == "done"


@pytest.mark.node
@pytest.mark.parametrize("fault", [html(500), html(), hang_up, says({"result": 1})])
def test_a_cms_that_fails_costs_no_connection(
    start: Start, server: PushServer, cms: StubCms, fault: Callable[[Request], None]
) -> None:
    page = start("alice-token")
    channel = f"room:later-{time.monotonic_ns()}"
    for path in PATHS:
        cms.http.answers[f"/{path}"] = fault
    mark = server.log_mark()

    page.tell(do="subscribe", channel=channel)
    error = page.wait("error")
    assert (error["code"], error["temporary"]) == (100, True)
    assert page.ask("publish", channel=channel, data=1)["code"] == 100
    assert page.ask("rpc", method="a", data=1)["code"] == 100
    assert page.ask("rpc", method="a", data=1)["code"] == 100

    cms.http.answers.update(ANSWERS)
    page.wait("subscribed", channel=channel, own=True)
    assert page.ask("state")["result"] == "connected"
    assert len(page.named("connected")) == 1
    lines = [line for line in server.log_since(mark) if "no usable answer" in line]
    assert len(lines) <= 3, lines  # One for each address.


@pytest.mark.node
def test_what_was_missed_is_recovered(start: Start, server: PushServer, cms: StubCms) -> None:
    page = start("alice-token", minReconnectDelay=400)
    assert page.ask("subscribe", channel="room:gap")["event"] == "done"
    server.publish("room:gap", 1)
    page.wait("publication", channel="room:gap", data=1)

    count = len(page.events)
    server.api("disconnect", user="alice", disconnect={"code": 3011, "reason": "force reconnect"})
    page.wait("connecting", after=count)
    for number in (2, 3):
        server.publish("room:gap", number)
    subscribed = page.wait("subscribed", after=count, channel="room:gap", own=True)
    page.wait("publication", channel="room:gap", data=3)

    assert subscribed["recovered"] is True
    assert len(asked(cms, channel="room:gap")) == 2
    got = [each["data"] for each in page.named("publication") if each["channel"] == "room:gap"]
    assert got == [1, 2, 3]


@pytest.mark.node
def test_a_subscription_is_renewed_and_then_ended_by_the_cms(
    start: Start, cms: StubCms, server: PushServer
) -> None:
    end = threading.Event()

    def subscribe(request: Request) -> None:
        says(NO if end.is_set() else {"result": {"expire_at": int(time.time()) + 3}})(request)

    def renew(request: Request) -> None:
        said = {"expired": True} if end.is_set() else {"expire_at": int(time.time()) + 3}
        says({"result": said})(request)

    cms.http.answers.update({"/subscribe": subscribe, "/sub_refresh": renew})
    page = start("alice-token")
    done = page.ask("subscribe", channel="room:renewed")
    assert done["event"] == "done"
    began = time.monotonic()
    eventually("it is renewed twice", lambda: len(asked(cms, channel="room:renewed")) >= 3)
    server.publish("room:renewed", "still there")
    page.wait("publication", channel="room:renewed", data="still there")
    assert len(page.named("subscribing")) == 1
    # Once a second, or less often.
    assert len(asked(cms, channel="room:renewed")) <= 2 + time.monotonic() - began

    end.set()
    # The client asks once more by itself, and is refused.
    gone = page.wait("unsubscribed", channel="room:renewed")
    assert (gone["code"], gone["reason"]) == (4003, "not for you")
    assert len(page.named("connected")) == 1


def test_the_headers_of_the_browser_s_request(server: PushServer, cms: StubCms) -> None:
    with RawClient(server, headers={"Cookie": "sid=of-alice"}) as client:
        client.connect("alice-token")
        assert "rpc" in client.command("rpc", data="with a cookie")
    [question] = asked(cms, data="with a cookie")
    assert cms.http.question_headers[cms.questions.index(question)]["cookie"] == "sid=of-alice"


@pytest.mark.parametrize("how", ["kick", "logout", "unsubscribe"])
def test_an_answer_that_comes_too_late(server: PushServer, cms: StubCms, how: str) -> None:
    channel = f"room:late-{how}"
    go = threading.Event()

    def late(request: Request) -> None:
        go.wait(10)
        says(YES)(request)

    cms.http.answers.update({"/subscribe": late, "/publish": late})
    token = {"kick": "kicked-token", "logout": "logout-token", "unsubscribe": "carol-token"}[how]
    with RawClient(server) as reader, RawClient(server) as client:
        reader.connect("bob-token")
        user = {"kick": "kicked", "logout": "alice", "unsubscribe": "carol"}[how]
        client.connect(token)
        act = "subscribe" if how == "unsubscribe" else "publish"
        client.send(json.dumps({"id": 77, act: {"channel": channel, "data": "late"}}))
        eventually("the CMS is asked", lambda: asked(cms, channel=channel))
        if how == "kick":
            server.api("disconnect", user=user)
        elif how == "logout":
            server.api("logout", token=token)
        else:
            server.api("unsubscribe", user=user, channel=channel)
        go.set()
        if how == "unsubscribe":
            assert client.message()["error"]["code"] == 103
            assert server.publish(channel, "to nobody")["recipients"] == 0
        else:
            assert client.closing()[0] == {"kick": 3503, "logout": 3500}[how]
            time.sleep(0.3)
            assert server.api("history", channel=channel, limit=10)["publications"] == []


def test_the_python_client(server: PushServer) -> None:
    async def dialogue() -> None:
        async with (
            client_of(server, "alice-token") as (alice, _),
            client_of(server, "bob-token") as (bob, _),
        ):
            await asyncio.gather(alice.ready(), bob.ready())
            seen = ChannelEvents()
            subscription = bob.new_subscription("room:py", seen)
            await subscription.subscribe()
            subscribed = await seen.next("subscribed")
            assert subscribed.data == {"asked": None}

            await alice.publish("room:py", "change")
            assert (await seen.next("publication")).pub.data == {"text": "changed"}
            with pytest.raises(CentrifugeError, match="4003"):
                await alice.publish("room:py", "refused")

            answer = await alice.rpc("vote", {"for": 1})
            assert answer.data == {"user": "alice", "echo": {"for": 1}}
            with pytest.raises(CentrifugeError, match="4003"):
                await alice.rpc("refused", None)

    run(dialogue())
