"""The public JavaScript client with its fallback transports, in Node.js and in a browser."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cms import StubCms
from tests.e2e.server import (
    KEY,
    Dialogue,
    PushServer,
    bound,
    environment,
    eventually,
    free_port,
    make_server,
)

pytestmark = pytest.mark.node

HERE = Path(__file__).parent
Start = Callable[..., Dialogue]
PAGES = free_port()


@pytest.fixture(scope="module")
def server(cms: StubCms, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    """Run a server that pings often, and that pages at one port of 127.0.0.1 may use."""
    running = make_server(
        tmp_path_factory.mktemp("server"),
        callback=cms.url,
        limits={"ping_interval": "1s", "pong_timeout": "1s"},
        site={"allowed_origins": [f"http://127.0.0.1:{PAGES}"]},
    )
    with running:
        yield running
    for token in cms.http.answers:
        assert token not in running.log


@pytest.fixture(params=["http_stream", "sse"])
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def start(node: str, server: PushServer, transport: str) -> Iterator[Start]:
    with ExitStack() as stack:

        def start_client(**options: Any) -> Dialogue:
            arguments = json.dumps({"url": server.url, "transport": transport, **options})
            command = [node, str(HERE / "js" / "client.mjs"), arguments]
            return stack.enter_context(Dialogue(command, HERE))

        yield start_client


def connected(client: Dialogue) -> Dialogue:
    client.ask("connect")
    client.wait("connected")
    return client


def test_pings_are_answered(start: Start, server: PushServer) -> None:
    client = connected(start(token="alice-token"))
    time.sleep(4.5)
    assert client.ask("state")["result"] == "connected"
    assert len(client.named("connecting")) == 1
    # And all of that goes by a stream: nobody else is here.
    clients = server.api("connections", user="alice")["connections"]
    assert len(clients) == 1


def test_missed_publications_are_recovered(start: Start, server: PushServer) -> None:
    client = connected(start(token="alice-token", minReconnectDelay=400))
    client.ask("subscribe", channel="chat:gap")
    server.publish("chat:gap", 1)
    client.wait("publication", channel="chat:gap", data=1)

    count = len(client.events)
    server.api("disconnect", user="alice", disconnect={"code": 3011, "reason": "force reconnect"})
    assert client.wait("connecting", after=count)["code"] == 3011
    for number in (2, 3, 4):
        server.publish("chat:gap", number)
    subscribed = client.wait("subscribed", after=count, channel="chat:gap", own=True)
    assert subscribed["recovered"] is True
    client.wait("publication", channel="chat:gap", data=4, after=count)
    got = [event["data"] for event in client.events[count:] if event["event"] == "publication"]
    assert got == [2, 3, 4]


def test_who_is_kicked_stays_away(start: Start, server: PushServer) -> None:
    client = connected(start(token="kicked-token"))
    server.api("disconnect", user="kicked")
    assert client.wait("disconnected")["code"] == 3503
    time.sleep(0.7)
    assert len(client.named("connecting")) == 1


def test_many_publications_keep_their_order(start: Start, server: PushServer) -> None:
    client = connected(start(token="bob-token"))
    for number in range(200):
        server.publish("news", number)
    client.wait("publication", channel="news", data=199)
    assert [each["data"] for each in client.named("publication")] == list(range(200))


def test_many_commands_at_once(start: Start) -> None:
    """Each is a request of its own, and they come as they like."""
    client = connected(start(token="bob-token"))
    for number in range(40):
        client.tell(do="subscribe", channel=f"open:{number}")
    eventually("all are answered", lambda: len(client.named("done")) >= 41)
    assert client.named("failed") == []


def test_return_after_a_restart_of_the_server(start: Start, server: PushServer) -> None:
    client = connected(start(token="alice-token"))
    count = len(client.events)
    server.restart()
    assert client.wait("connecting", after=count)["code"] == 3001
    client.wait("connected", after=count)
    server.publish("news", "after")
    client.wait("publication", channel="news", data="after")


def test_who_leaves_is_gone(start: Start, server: PushServer) -> None:
    client = connected(start(token="carol-token"))
    assert len(server.api("connections", user="carol")["connections"]) == 1
    client.ask("disconnect")
    eventually(
        "carol is gone", lambda: not server.api("connections", user="carol")["connections"], 2.0
    )


@pytest.mark.browser
def test_in_a_browser(server: PushServer, node: str, chromium: str, transport: str) -> None:
    options = {
        "url": server.url,
        "key": KEY,
        "page": PAGES,
        "transport": transport,
        "chromium": chromium,
    }
    finished = subprocess.run(
        bound([node, str(HERE / "js" / "streams.mjs"), json.dumps(options)]),
        cwd=HERE,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=90,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr + server.log
    found = json.loads(finished.stdout)
    assert found == {
        "transport": transport,
        "rpc": found["rpc"],
        "away": 3011,
        "recovered": True,
        "room": [{"by": "the page ✓"}, 1, 2, 3],
        "news": ["by the cms"],
        "connecting": 2,
        "kicked": 3503,
        "stays": "disconnected",
        "refused": 3500,
        "foreign": 0,
    }
    assert found["rpc"] in (104, 108)
    assert "403 origin not allowed" in server.log
