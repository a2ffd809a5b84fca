"""A server with a journal goes on after a restart and after ``kill -9``, as if nothing had been."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.cms import PEOPLE, StubCms, user
from tests.e2e.raw_client import RawClient
from tests.e2e.server import KEY, Dialogue, PushServer, http, jwt_for, make_server

HERE = Path(__file__).parent
CROWD = 60
CHANNELS = ("news", "chat:warm")
"""The first is granted by the CMS, the client asks for the other."""

Restart = Callable[[PushServer], None]
Place = dict[str, Any]


def planned(server: PushServer) -> None:
    server.restart()


def killed(server: PushServer) -> None:
    server.kill()
    server.start()


both_ways = pytest.mark.parametrize("restart", [planned, killed])


@pytest.fixture
def cms() -> Iterator[StubCms]:
    crowd = {f"crowd-{number}": user(f"user-{number}", "news") for number in range(CROWD)}
    with StubCms({**PEOPLE, **crowd}) as stub:
        yield stub


@pytest.fixture
def server(cms: StubCms, tmp_path: Path) -> Iterator[PushServer]:
    """Run a server with a journal, for this test alone."""
    with make_server(tmp_path, callback=cms.url, top={"state_dir": "state"}) as running:
        yield running


class Page:
    """A page in a browser: it comes back to where it was."""

    def __init__(self, server: PushServer, token: str) -> None:
        self._server = server
        self._token = token
        self._client: RawClient | None = None
        self.places: dict[str, Place] = {}
        self.seen: dict[str, list[tuple[int, Any]]] = {channel: [] for channel in CHANNELS}
        self.answers: dict[str, dict[str, Any]] = {}

    def connect(self) -> None:
        """Connect, with the places of the last time."""
        self._client = client = RawClient(self._server)
        recover = {name: {"recover": True, **place} for name, place in self.places.items()}
        granted, asked = CHANNELS
        subs = {granted: recover[granted]} if granted in recover else {}
        result = client.connect(self._token, subs=subs)
        self._subscribed(granted, result["subs"][granted])
        reply = client.command("subscribe", channel=asked, **recover.get(asked, {}))
        self._subscribed(asked, reply["subscribe"])

    def _subscribed(self, channel: str, answer: dict[str, Any]) -> None:
        self.answers[channel] = answer
        self._saw(channel, answer.get("publications", []))
        self.places[channel] = {"epoch": answer["epoch"], "offset": answer.get("offset", 0)}

    def _saw(self, channel: str, publications: list[dict[str, Any]]) -> None:
        for each in publications:
            self.seen[channel].append((each["offset"], each["data"]))
            self.places[channel]["offset"] = each["offset"]

    def read(self, count: int) -> None:
        """Read so many publications."""
        assert self._client is not None
        while count:
            push = self._client.message()["push"]
            if "pub" in push:
                self._saw(push["channel"], [push["pub"]])
                count -= 1

    def read_to_the_end(self) -> None:
        """Read what comes before the connection is lost."""
        with suppress(ConnectionClosed):
            while True:
                self.read(1)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def publish(server: PushServer, data: object) -> None:
    for channel in CHANNELS:
        server.publish(channel, data)


# --- Clients ---------------------------------------------------------------------------------


@both_ways
def test_all_come_back_and_nothing_is_missing(
    server: PushServer, cms: StubCms, restart: Restart
) -> None:
    publish(server, "before anybody came")
    with ExitStack() as stack:
        pages = [Page(server, f"crowd-{number}") for number in range(CROWD)]
        for page in pages:
            stack.callback(page.close)
            page.connect()
        publish(server, "for all")
        for page in pages:
            page.read(len(CHANNELS))
        asked = len(cms.questions)
        assert asked == CROWD
        # A third of them misses it, the others have it before they are cut off.
        for page in pages[::3]:
            page.close()
        publish(server, "right before")

        restart(server)
        publish(server, "right after")
        for number, page in enumerate(pages):
            if number % 3:
                page.read_to_the_end()
            page.connect()

        publish(server, "later")
        for page in pages:
            page.read(len(CHANNELS))
    assert len(cms.questions) == asked
    expected = list(enumerate(["for all", "right before", "right after", "later"], 2))
    for page in pages:
        for channel in CHANNELS:
            answer = page.answers[channel]
            assert (answer["was_recovering"], answer["recovered"]) == (True, True)
            assert page.seen[channel] == expected


def test_without_a_journal_they_are_told(cms: StubCms, tmp_path: Path) -> None:
    with make_server(tmp_path, callback=cms.url) as server, ExitStack() as stack:
        page = Page(server, "alice-token")
        stack.callback(page.close)
        page.connect()
        publish(server, "seen")
        page.read(len(CHANNELS))
        before = dict(page.places)
        killed(server)
        publish(server, "at the same offset")
        page.connect()
        for channel in CHANNELS:
            answer = page.answers[channel]
            assert answer["was_recovering"] is True
            assert "recovered" not in answer
            assert "publications" not in answer
            assert answer["offset"] == before[channel]["offset"] == 1
            assert answer["epoch"] != before[channel]["epoch"]


def test_what_may_be_lost_is_told(cms: StubCms, tmp_path: Path) -> None:
    """With the durability ``none``, after a crash; after a planned restart nothing is missing."""
    top = {"state_dir": "state", "durability": "none"}
    with (
        make_server(tmp_path, callback=cms.url, top=top) as server,
        ExitStack() as stack,
    ):
        page = Page(server, "alice-token")
        stack.callback(page.close)
        page.connect()
        for restart in (planned, killed, planned):
            publish(server, restart.__name__)
            page.read(len(CHANNELS))
            restart(server)
            page.connect()
            for channel in CHANNELS:
                assert page.answers[channel]["was_recovering"] is True
                assert page.answers[channel].get("recovered", False) is (restart is planned)
    assert [data for _, data in page.seen["news"]] == ["planned", "killed", "planned"]


# --- Tokens ----------------------------------------------------------------------------------


@both_ways
def test_who_was_logged_out_stays_out(server: PushServer, cms: StubCms, restart: Restart) -> None:
    signed = jwt_for("dora", channels=["news"])
    tokens = ("logout-token", "bob-token", signed)
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server)) for _ in tokens]
        for client, token in zip(clients, tokens, strict=True):
            client.connect(token)
        server.api("logout", token="logout-token")
        server.api("logout", user="bob")
        server.api("logout", user="dora")
        assert [client.closing()[0] for client in clients] == [3500, 3500, 3500]
    asked = len(cms.questions)

    restart(server)

    for token in tokens:
        with RawClient(server) as client:
            client.send(json.dumps({"id": 1, "connect": {"token": token}}))
            assert client.closing()[0] == 3500
    assert len(cms.questions) == asked


@both_ways
def test_what_was_changed_of_a_users_channels_holds(
    server: PushServer, cms: StubCms, restart: Restart
) -> None:
    with RawClient(server) as client:
        assert "news" in client.connect("alice-token")["subs"]
        server.api("subscribe", user="alice", channel="chat:added")
        server.api("unsubscribe", user="alice", channel="news")
    asked = len(cms.questions)

    restart(server)

    with RawClient(server) as client:
        assert set(client.connect("alice-token")["subs"]) == {"broadcast", "chat:added"}
    # Another user has the channel still; the CMS is asked for the first time.
    with RawClient(server) as client:
        assert "news" in client.connect("bob-token")["subs"]
    assert [each["token"] for each in cms.questions[asked:]] == ["bob-token"]


# --- Channels --------------------------------------------------------------------------------


def nodejs(server: PushServer, route: str, **body: object) -> Any:
    """Ask a route of the nodejs module."""
    headers = {"NodejsServiceKey": KEY, "Content-Type": "application/json"}
    url = f"{server.url}/nodejs/{route}"
    return json.loads(http("POST", url, json.dumps(body).encode(), headers)[1])


@both_ways
def test_a_content_channel_is_there_before_its_page_comes(
    server: PushServer, restart: Restart
) -> None:
    done = {"status": "success"}
    assert nodejs(server, "content/token", channel="chat:page", token="of-the-page") == done

    restart(server)

    assert nodejs(server, "content/token/message", channel="chat:page", data=1) == done
    assert "error" in nodejs(server, "content/token/message", channel="chat:other", data=1)
    with RawClient(server) as client:
        client.connect("alice-token")
        reply = client.command("subscribe", channel="chat:page", token="of-the-page")
        assert reply["subscribe"]["offset"] == 1


@both_ways
def test_a_channel_that_the_cms_made_known_is_known(server: PushServer, restart: Restart) -> None:
    for name in ("room7", "room8"):
        assert nodejs(server, f"channel/add/{name}")["status"] == "success"
    assert nodejs(server, "channel/remove/room8")["status"] == "success"

    restart(server)

    found = [nodejs(server, f"channel/check/{name}")["result"] for name in ("room7", "room8")]
    assert found == [True, False]


# --- Publishing ------------------------------------------------------------------------------


@both_ways
def test_a_publish_that_is_tried_again_is_published_once(
    server: PushServer, restart: Restart
) -> None:
    wanted = {"channel": "chat:once", "data": "once", "idempotency_key": "k1"}
    first = server.api("publish", **wanted)

    restart(server)

    again = server.api("publish", **wanted)
    assert again["duplicate"] is True
    assert (again["offset"], again["epoch"]) == (first["offset"], first["epoch"])
    other = server.api("publish", **{**wanted, "idempotency_key": "k2"})
    assert other["offset"] == first["offset"] + 1
    elsewhere = server.api("publish", **{**wanted, "channel": "chat:elsewhere"})
    assert "duplicate" not in elsewhere


@both_ways
def test_an_old_version_stays_old(server: PushServer, restart: Restart) -> None:
    def price(version: int, epoch: str = "") -> None:
        server.api(
            "publish", channel="chat:price", data=version, version=version, version_epoch=epoch
        )

    price(7)
    price(8, "x")
    restart(server)
    price(8, "x")
    price(7, "x")
    price(9, "x")
    found = server.api("history", channel="chat:price", limit=-1)["publications"]
    assert [each["data"] for each in found] == [7, 8, 9]


@both_ways
def test_a_history_is_as_it_was(server: PushServer, restart: Restart) -> None:
    for number in range(15):  # "news" keeps ten of them.
        publish(server, {"n": number, "text": "grüße 🌍"})
    server.publish("chat:empty", "gone")
    server.api("history_remove", channel="chat:empty")
    names = (*CHANNELS, "chat:empty")

    def histories() -> list[Any]:
        return [server.api("history", channel=name, limit=-1) for name in names]

    before = histories()
    restart(server)
    assert histories() == before
    assert [len(each.get("publications", ())) for each in before] == [10, 15, 0]
    assert server.publish("chat:empty", "next")["offset"] == 2


@both_ways
def test_a_position_in_a_page_holds(server: PushServer, restart: Restart) -> None:
    server.publish("chat:page", "in the page")
    rendered = ["chat:page", "chat:quiet"]
    positions = server.api("position", channels=rendered)["positions"]
    server.publish("chat:page", "before")

    restart(server)

    server.publish("chat:page", "after")
    server.publish("chat:quiet", "the first")
    with RawClient(server) as client:
        client.connect()
        for channel, expected in zip(rendered, [["before", "after"], ["the first"]], strict=True):
            reply = client.command("subscribe", channel=channel, recover=True, **positions[channel])
            answer = reply["subscribe"]
            assert answer["recovered"] is True
            assert [each["data"] for each in answer["publications"]] == expected


# --- The public JavaScript client ------------------------------------------------------------


@pytest.mark.node
@pytest.mark.parametrize("transport", ["websocket", "http_stream", "sse"])
@both_ways
def test_the_javascript_client_misses_nothing(
    server: PushServer, cms: StubCms, node: str, restart: Restart, transport: str
) -> None:
    options = {
        "url": server.url,
        "token": "alice-token",
        "transport": transport,
        "minReconnectDelay": 300,
    }
    script = [node, str(HERE / "js" / "client.mjs"), json.dumps(options)]
    with Dialogue(script, HERE) as client:
        client.ask("connect")
        client.wait("connected")
        client.ask("subscribe", channel="chat:warm")
        publish(server, 1)
        for channel in CHANNELS:
            client.wait("publication", channel=channel, data=1)
        asked, count = len(cms.questions), len(client.events)

        publish(server, 2)
        restart(server)
        publish(server, 3)

        for channel in CHANNELS:
            back = client.wait("subscribed", after=count, channel=channel)
            assert (back["wasRecovering"], back["recovered"]) == (True, True)
        publish(server, 4)
        for channel in CHANNELS:
            client.wait("publication", channel=channel, data=4, after=count)
            got = [
                (each["offset"], each["data"])
                for each in client.named("publication")
                if each["channel"] == channel
            ]
            assert got == [(1, 1), (2, 2), (3, 3), (4, 4)]
        assert len(cms.questions) == asked
        assert client.named("disconnected") == []


@pytest.mark.node
def test_the_javascript_client_is_told_without_a_journal(
    cms: StubCms, node: str, tmp_path: Path
) -> None:
    with make_server(tmp_path, callback=cms.url) as server:
        options = {"url": server.url, "token": "alice-token", "minReconnectDelay": 300}
        script = [node, str(HERE / "js" / "client.mjs"), json.dumps(options)]
        with Dialogue(script, HERE) as client:
            client.ask("connect")
            client.ask("subscribe", channel="chat:warm")
            publish(server, 1)
            client.wait("publication", channel="chat:warm", data=1)
            count = len(client.events)
            killed(server)
            publish(server, 2)
            for channel in CHANNELS:
                back = client.wait("subscribed", after=count, channel=channel)
                assert (back["wasRecovering"], back["recovered"]) == (True, False)
