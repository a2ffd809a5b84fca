"""Content channels with the public JavaScript client: a page joins with a token of the CMS."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import ApiError, Dialogue, PushServer, eventually, jwt_for

pytestmark = pytest.mark.node

HERE = Path(__file__).parent
AGAIN = {"code": 3011, "reason": "force reconnect"}
LEFT = {"uid": "alice", "type": "disconnect"}
Start = Callable[..., Dialogue]


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


def users(server: PushServer, channel: str) -> Any:
    return server.api("content_users", channel=channel)


def test_a_page_joins_with_its_token(start: Start, server: PushServer) -> None:
    data = {"seat": 7}
    assert server.api("content_token", channel="article:1", token="of-the-page", data=data) == {}
    page = start("alice-token")

    done = page.ask("subscribe", channel="article:1", token="of-the-page")

    assert done["event"] == "done", done
    assert done["result"]["data"] == data
    server.publish("article:1", "hello")
    assert page.wait("publication", channel="article:1")["data"] == "hello"
    assert users(server, "article:1") == {"users": ["alice"], "anonymous": 0}
    page.end()
    eventually("alice is gone", lambda: users(server, "article:1")["users"] == [])


def test_what_is_refused(start: Start, server: PushServer) -> None:
    """A wrong token, none, one of another channel, one that is over, and somebody else's."""
    server.api("content_token", channel="article:2", token="first", ttl=60)
    server.api("content_token", channel="article:3", token="elsewhere")
    server.api("content_token", channel="article:2", token="short", ttl=1)
    page, other = start("alice-token"), start("bob-token")
    for token in ("wrong", "", "elsewhere"):
        fresh = start("carol-token")
        assert fresh.ask("subscribe", channel="article:2", token=token)["code"] == 103
    assert page.ask("subscribe", channel="article:2", token="first")["event"] == "done"
    assert other.ask("subscribe", channel="article:2", token="first")["code"] == 103
    assert users(server, "article:2")["users"] == ["alice"]

    time.sleep(1.1)  # The page of this one comes too late.
    late = start("carol-token")
    assert late.ask("subscribe", channel="article:2", token="short")["code"] == 103


def test_a_signed_token_works_as_before(start: Start, server: PushServer) -> None:
    page = start("alice-token")
    token = jwt_for("alice", channel="signed:1")
    assert page.ask("subscribe", channel="signed:1", token=token)["event"] == "done"
    with pytest.raises(ApiError) as caught:
        server.api("content_token", channel="signed:1", token=token)
    assert caught.value.code == 107


def test_a_page_comes_back_and_misses_nothing(start: Start, server: PushServer) -> None:
    token = server.api("content_token", channel="news:kept")["token"]
    page = start("alice-token", minReconnectDelay=400)
    assert page.ask("subscribe", channel="news:kept", token=token)["event"] == "done"
    server.publish("news:kept", 1)
    page.wait("publication", channel="news:kept", data=1)

    for number in (2, 3):
        count = len(page.events)
        server.api("disconnect", user="alice", disconnect=AGAIN)
        page.wait("connecting", after=count)
        server.publish("news:kept", number)
        found = page.wait("subscribed", after=count, channel="news:kept", own=True)
        assert found["recovered"] is True
        page.wait("publication", after=count, channel="news:kept", data=number)
    assert users(server, "news:kept")["users"] == ["alice"]
    assert start("bob-token").ask("subscribe", channel="news:kept", token=token)["code"] == 103


def test_the_others_are_told_who_left(start: Start, server: PushServer) -> None:
    for token in ("alice-1", "bob-1"):
        server.api("content_token", channel="article:4", token=token, notify_on_leave=True)
    page, other = start("alice-token"), start("bob-token")
    page.ask("subscribe", channel="article:4", token="alice-1")
    other.ask("subscribe", channel="article:4", token="bob-1")

    # Coming back is no departure.
    count = len(page.events)
    server.api("disconnect", user="alice", disconnect=AGAIN)
    page.wait("subscribed", after=count, channel="article:4", own=True)
    page.end()

    told = other.wait("publication", channel="article:4")
    assert told["data"] == LEFT
    assert told["tags"] == {"contentChannelNotification": "true"}
    assert len(other.named("publication")) == 1
