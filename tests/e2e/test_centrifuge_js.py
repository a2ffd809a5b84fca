"""The public JavaScript client of the native protocol (npm ``centrifuge``), in Node.js."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.raw_client import RawClient
from tests.e2e.server import Dialogue, PushServer, eventually, jwt_for

pytestmark = pytest.mark.node

HERE = Path(__file__).parent
Start = Callable[..., Dialogue]
TRANSPORTS = ("websocket", "http_stream", "sse")


@pytest.fixture
def start(node: str, server: PushServer) -> Iterator[Start]:
    """Give a function that starts a client in a process of its own."""
    with ExitStack() as stack:

        def start_client(**options: Any) -> Dialogue:
            arguments = json.dumps({"url": server.url, **options})
            command = [node, str(HERE / "js" / "client.mjs"), arguments]
            return stack.enter_context(Dialogue(command, HERE))

        yield start_client


def connected(client: Dialogue) -> Dialogue:
    client.ask("connect")
    client.wait("connected")
    return client


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_callback_token_and_server_side_publication(
    start: Start, server: PushServer, transport: str
) -> None:
    client = connected(start(token="alice-token", transport=transport))
    client.wait("subscribed", channel="news")
    client.wait("subscribed", channel="broadcast")
    assert client.named("connected")[0]["transport"] == transport

    data = {"text": "grüße 🌍", "n": [1, 2.5, None]}
    result = server.publish("news", data)

    got = client.wait("publication", channel="news")
    assert got["data"] == data
    assert got["offset"] == result["offset"]
    assert result["recipients"] == 1

    server.publish("broadcast", "to all")
    assert client.wait("publication", channel="broadcast")["data"] == "to all"


def test_signed_token(start: Start, server: PushServer) -> None:
    token = jwt_for("dora", channels=["news"], info={"name": "Dora"})
    client = connected(start(token=token))
    client.wait("subscribed", channel="news")

    server.publish("news", 17)

    assert client.wait("publication", channel="news")["data"] == 17
    assert "dora" in {each["user"] for each in server.api("connections")["connections"]}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_subscribe_and_publish(start: Start, server: PushServer, transport: str) -> None:
    channel = f"chat:js-{transport}"
    reader = connected(start(token="bob-token", transport=transport))
    writer = connected(start(token="alice-token", transport=transport))
    assert reader.ask("subscribe", channel=channel)["event"] == "done"

    # Only a subscriber may publish.
    assert writer.ask("publish", channel=channel, data="too early")["code"] == 103
    assert writer.ask("subscribe", channel=channel)["event"] == "done"
    assert writer.ask("publish", channel=channel, data={"say": "hi"})["event"] == "done"

    got = reader.wait("publication", channel=channel)
    assert got["data"] == {"say": "hi"}
    assert got["info"]["user"] == "alice"
    assert got["info"]["connInfo"] == {"name": "Alice"}
    assert writer.wait("publication", channel=channel)["data"] == {"say": "hi"}
    history = reader.ask("history", channel=channel, limit=10)["result"]
    assert [each["data"] for each in history["publications"]] == [{"say": "hi"}]
    assert history["offset"] == got["offset"]
    since = {"offset": 0, "epoch": "of another life"}
    assert reader.ask("history", channel=channel, limit=1, since=since)["code"] == 112

    assert reader.ask("unsubscribe", channel=channel)["event"] == "done"
    reader.wait("unsubscribed", channel=channel, own=True)
    eventually(
        "one client is left in the channel",
        lambda: server.api("channels", pattern=channel)["channels"][channel]["num_clients"] == 1,
    )


def test_presence(start: Start, server: PushServer) -> None:
    alice = connected(start(token="alice-token"))
    bob = connected(start(token="bob-token"))
    ids = {client.named("connected")[0]["client"]: client for client in (alice, bob)}
    alice.ask("subscribe", channel="chat:present")
    bob.ask("subscribe", channel="chat:present")

    found = alice.ask("presence", channel="chat:present")["result"]["clients"]
    stats = alice.ask("presenceStats", channel="chat:present")["result"]

    assert set(found) == set(ids)
    assert {each["user"] for each in found.values()} == {"alice", "bob"}
    assert stats == {"numClients": 2, "numUsers": 2}

    # Where presence is not for clients, the answer is an error.
    assert alice.ask("presence", channel="news")["code"] in (103, 108)


def test_join_and_leave(start: Start) -> None:
    watcher = connected(start(token="alice-token"))
    watcher.ask("subscribe", channel="chat:door", joinLeave=True)

    visitor = connected(start(token="bob-token"))
    visitor.ask("subscribe", channel="chat:door")
    client = visitor.named("connected")[0]["client"]

    def told(kind: str) -> list[dict[str, Any]]:
        return [each for each in watcher.named(kind) if each["info"]["client"] == client]

    joined = eventually("bob joins", lambda: told("join"))
    assert (joined[0]["channel"], joined[0]["info"]["user"]) == ("chat:door", "bob")
    assert told("leave") == []
    visitor.end()
    left = eventually("bob leaves", lambda: told("leave"))
    assert (left[0]["channel"], left[0]["info"]["user"]) == ("chat:door", "bob")


def test_what_is_refused_is_an_error(start: Start) -> None:
    client = connected(start(token="alice-token"))

    rpc = client.ask("rpc", method="whatever", data={})
    assert rpc["event"] == "failed"
    assert rpc["code"] in (104, 108)
    closed = client.ask("subscribe", channel="closed:1")
    assert closed["event"] == "failed"
    assert closed["code"] in (102, 103)
    assert client.ask("publish", channel="news", data=1)["code"] == 103
    assert client.ask("state")["result"] == "connected"


def test_return_after_a_restart_of_the_server(start: Start, server: PushServer) -> None:
    client = connected(start(token="alice-token"))
    client.ask("subscribe", channel="chat:back")
    server.publish("news", "before")
    client.wait("publication", channel="news", data="before")

    count = len(client.events)
    server.restart()
    lost = client.wait("connecting", after=count)
    client.wait("connected", after=count)
    client.wait("subscribed", after=count, channel="chat:back", own=True)

    server.publish("news", "after")
    client.wait("publication", channel="news", data="after")
    server.publish("chat:back", "after, too")
    client.wait("publication", channel="chat:back", data="after, too")
    assert lost["code"] == 3001


def test_missed_publications_are_recovered(start: Start, server: PushServer) -> None:
    """A connection that is cut, not a server that restarts: nothing may be missing."""
    client = connected(start(token="alice-token", minReconnectDelay=400))
    client.ask("subscribe", channel="chat:gap")
    server.publish("chat:gap", 1)
    client.wait("publication", channel="chat:gap", data=1)

    count = len(client.events)
    server.api("disconnect", user="alice", disconnect={"code": 3011, "reason": "force reconnect"})
    client.wait("connecting", after=count)
    for number in (2, 3, 4):
        server.publish("chat:gap", number)
        server.publish("news", number)
    subscribed = client.wait("subscribed", after=count, channel="chat:gap", own=True)
    for channel in ("chat:gap", "news"):
        client.wait("publication", channel=channel, data=4, after=count)
        got = [
            event["data"]
            for event in client.events[count:]
            if event["event"] == "publication" and event["channel"] == channel
        ]
        assert got == [2, 3, 4]
    assert subscribed["recovered"] is True


def publications(client: Dialogue, channel: str) -> list[Any]:
    return [each["data"] for each in client.named("publication") if each["channel"] == channel]


def test_nothing_is_missed_from_the_page_on(start: Start, server: PushServer) -> None:
    """The CMS puts a position into its page; the client subscribes from there on."""
    server.publish("chat:page", "in the page")
    since = server.api("position", channels=["chat:page"])["positions"]["chat:page"]
    server.publish("chat:page", "meanwhile")
    client = connected(start(token="alice-token"))

    client.ask("subscribe", channel="chat:page", since=since)

    subscribed = client.wait("subscribed", channel="chat:page", own=True)
    assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, True)
    server.publish("chat:page", "live")
    client.wait("publication", channel="chat:page", data="live")
    assert publications(client, "chat:page") == ["meanwhile", "live"]


def test_a_page_that_is_too_old_is_told_so_once(start: Start, server: PushServer) -> None:
    since = server.publish("chat:old", "in the page")
    for number in range(101):
        server.publish("chat:old", number)
    client = connected(start(token="alice-token", minReconnectDelay=400))
    place = {"offset": since["offset"], "epoch": since["epoch"]}
    client.ask("subscribe", channel="chat:old", since=place)
    subscribed = client.wait("subscribed", channel="chat:old", own=True)
    assert (subscribed["wasRecovering"], subscribed["recovered"]) == (True, False)

    count = len(client.events)
    server.api("disconnect", user="alice", disconnect={"code": 3011, "reason": "force reconnect"})
    client.wait("connecting", after=count)
    server.publish("chat:old", "missed")
    subscribed = client.wait("subscribed", after=count, channel="chat:old", own=True)
    assert subscribed["recovered"] is True
    client.wait("publication", channel="chat:old", data="missed")
    assert publications(client, "chat:old") == ["missed"]


def test_only_the_latest_is_recovered(start: Start, server: PushServer) -> None:
    for number in range(5):
        server.publish("latest:js", number)
    client = connected(start(token="alice-token", minReconnectDelay=400))
    client.ask("subscribe", channel="latest:js", since={"offset": 0, "epoch": ""})
    assert client.wait("publication", channel="latest:js")["data"] == 4

    count = len(client.events)
    server.api("disconnect", user="alice", disconnect={"code": 3011, "reason": "force reconnect"})
    client.wait("connecting", after=count)
    for number in (5, 6, 7):
        server.publish("latest:js", number)
    subscribed = client.wait("subscribed", after=count, channel="latest:js", own=True)
    assert subscribed["recovered"] is True
    client.wait("publication", channel="latest:js", data=7)
    assert publications(client, "latest:js") == [4, 7]


def test_a_page_change_is_no_departure(start: Start) -> None:
    watcher = connected(start(token="bob-token"))
    watcher.ask("subscribe", channel="chat:pages", joinLeave=True)
    page = connected(start(token="alice-token"))
    page.ask("subscribe", channel="chat:pages")
    next_page = connected(start(token="alice-token"))
    page.end()
    next_page.ask("subscribe", channel="chat:pages")
    watcher.wait("leave")
    told = [
        (each["event"], each["info"]["client"])
        for each in watcher.events
        if each["event"] in ("join", "leave") and each["info"]["user"] == "alice"
    ]
    first, second = (each.named("connected")[0]["client"] for each in (page, next_page))
    assert told == [("join", first), ("join", second), ("leave", first)]


def test_who_is_kicked_stays_away(start: Start, server: PushServer) -> None:
    client = connected(start(token="kicked-token"))

    server.api("disconnect", user="kicked")

    gone = client.wait("disconnected")
    assert gone["code"] == 3503
    time.sleep(0.7)
    assert len(client.named("connecting")) == 1
    assert client.ask("state")["result"] == "disconnected"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_refused_token(start: Start, transport: str) -> None:
    client = start(token="nobody-knows-this", transport=transport)
    client.ask("connect")

    assert client.wait("disconnected")["code"] == 3500
    assert client.named("connected") == []


def test_expired_signed_token(start: Start) -> None:
    client = start(token=jwt_for("dora", exp=int(time.time()) - 60))
    client.ask("connect")

    # The client has no way to get a new one, and says so.
    assert client.wait("disconnected")["code"] in (1, 3500)
    assert client.named("connected") == []


def test_many_publications_keep_their_order(start: Start, server: PushServer) -> None:
    client = connected(start(token="alice-token"))
    client.wait("subscribed", channel="news")
    for number in range(200):
        server.publish("news", number)

    client.wait("publication", channel="news", data=199)
    got = [each["data"] for each in client.named("publication")]
    offsets = [each["offset"] for each in client.named("publication")]
    assert got == list(range(200))
    assert offsets == list(range(offsets[0], offsets[0] + 200))


def test_a_raw_client_hears_what_this_client_publishes(start: Start, bystander: RawClient) -> None:
    assert "subscribe" in bystander.command("subscribe", channel="open:room")
    client = connected(start(token="alice-token"))

    assert client.ask("publish", channel="open:room", data={"a": 1})["event"] == "done"

    assert bystander.publication("open:room")["data"] == {"a": 1}
