"""A CMS that wants to be left alone, and one that changes its mind, as real clients see it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from centrifuge import Client, ClientEventHandler

from tests.e2e.cms import Request, StubCms, in_turn, says, user
from tests.e2e.server import PATIENCE, Dialogue, PushServer, eventually, make_server
from tests.e2e.test_centrifuge_python import run

HERE = Path(__file__).parent
TRANSPORTS = ("websocket", "http_stream", "sse")
Make = Callable[..., tuple[StubCms, PushServer]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Start a CMS and a server that asks it."""
    with ExitStack() as stack:

        def start(answers: dict[str, Any], **options: Any) -> tuple[StubCms, PushServer]:
            cms = stack.enter_context(StubCms(answers))
            if options.pop("refresh", False):
                options["refresh_url"] = cms.url.replace("/connect", "/refresh")
            server = make_server(tmp_path, callback=cms.url, callback_options=options)
            return cms, stack.enter_context(server)

        yield start


def client(node: str, server: PushServer, **options: Any) -> Dialogue:
    arguments = json.dumps({"url": server.url, **options})
    return Dialogue([node, str(HERE / "js" / "client.mjs"), arguments], HERE)


class Busy:
    """Answers 503 with ``Retry-After`` at first, and lets in when that is over."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self.since = 0.0
        self.early = 0

    def __call__(self, request: Request) -> None:
        now = time.monotonic()
        if not self.since:
            self.since = now
        elif now >= self.since + self.seconds - 0.1:
            user("alice", "news")(request)
            return
        else:
            self.early += 1
        request.send_response(503)
        request.send_header("Retry-After", str(self.seconds))
        request.send_header("Content-Length", "0")
        request.end_headers()


@pytest.mark.node
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_retry_after_is_passed_on_to_the_javascript_client(
    make: Make, node: str, transport: str
) -> None:
    busy = Busy(4)
    cms, server = make({"t": busy})
    with client(node, server, token="t", transport=transport) as page:
        began = time.monotonic()
        page.ask("connect")
        error = page.wait("error", type="connect")
        assert (error["code"], error["temporary"]) == (100, True)
        assert error["message"] in {f"try again in {number} s" for number in (4, 5, 6)}
        page.wait("connected")
        page.wait("subscribed", channel="news")
        assert time.monotonic() - began >= 3.9
        assert page.named("disconnected") == []
        # It comes back with its own delays, over the same transport, and is told again.
        assert len(page.named("error")) > 1
        assert {each["type"] for each in page.named("error")} == {"connect"}
    assert (busy.early, len(cms.questions)) == (0, 2)
    assert server.log.count("no usable answer from the CMS") == 1


class Seen(ClientEventHandler):  # type: ignore[misc]
    """What the Python client reports."""

    def __init__(self) -> None:
        self.errors: list[Any] = []
        self.connected = asyncio.Event()

    async def on_error(self, context: Any) -> None:
        self.errors.append(context.error)

    async def on_connected(self, context: Any) -> None:
        self.connected.set()


def test_retry_after_is_passed_on_to_the_python_client(make: Make) -> None:
    busy = Busy(3)
    cms, server = make({"t": busy})
    errors: list[Any] = []

    async def come() -> None:
        seen = Seen()
        page = Client(server.websocket_url, seen, token="t", proxy=None, max_reconnect_delay=0.3)
        await page.connect()
        try:
            await asyncio.wait_for(seen.connected.wait(), PATIENCE)
        finally:
            await page.disconnect()
        errors.extend(seen.errors)

    run(come())
    assert (errors[0].code, errors[0].temporary) == (100, True)
    assert any(f"try again in {number} s" in str(errors[0]) for number in (3, 4, 5))
    assert (busy.early, len(cms.questions)) == (0, 2)


def ends_in(seconds: float, name: str, *channels: str) -> Callable[[Request], None]:
    """Let in until so many seconds from then."""

    def answer(request: Request) -> None:
        user(name, *channels, expire_at=int(time.time() + seconds + 1))(request)

    return answer


@pytest.mark.node
@pytest.mark.parametrize(
    ("transport", "refresh"),
    [("websocket", False), ("websocket", True), ("http_stream", False), ("sse", True)],
)
def test_a_grant_is_renewed_without_the_page(
    make: Make, node: str, transport: str, refresh: bool
) -> None:
    later = ends_in(600, "alice", "both", "new")
    cms, server = make({"t": in_turn(ends_in(2, "alice", "old", "both"), later)}, refresh=refresh)
    cms.http.answers["/refresh"] = later
    with (
        client(node, server, token="t", transport=transport) as page,
        client(node, server, token="t", transport=transport) as other,
    ):
        for each in (page, other):
            each.ask("connect")
        for each in (page, other):
            each.wait("subscribed", channel="old")
        for each in (page, other):
            each.wait("subscribed", channel="new")
            each.wait("unsubscribed", channel="old")
        server.publish("new", {"a": 1})
        server.publish("old", {"a": 2})
        for each in (page, other):
            assert each.wait("publication", channel="new")["data"] == {"a": 1}
        time.sleep(1.5)  # Its first end is over.
        for each in (page, other):
            assert [e["channel"] for e in each.named("publication")] == ["new"]
            assert len(each.named("connecting")) == 1
            assert each.named("disconnected") == []
    renewals = [q for q in cms.questions if ("user" in q) == refresh][0 if refresh else 1 :]
    assert len(renewals) == 1


@pytest.mark.node
def test_a_grant_that_the_cms_takes_back_ends_the_page(make: Make, node: str) -> None:
    out = says({"disconnect": {"code": 3500, "reason": "logged out"}})
    cms, server = make({"t": in_turn(ends_in(2, "alice", "news"), out)}, refresh=True)
    cms.http.answers["/refresh"] = says({"result": {"expired": True}})
    with client(node, server, token="t") as page:
        page.ask("connect")
        page.wait("subscribed", channel="news")
        assert page.wait("connecting", after=2, code=3005)["reason"] == "connection expired"
        assert page.wait("disconnected")["code"] == 3500


@pytest.mark.node
def test_another_user_comes_back_as_that_one(make: Make, node: str) -> None:
    cms, server = make({"t": in_turn(ends_in(2, "alice", "of-alice"), user("bob", "of-bob"))})
    with client(node, server, token="t") as page:
        page.ask("connect")
        page.wait("subscribed", channel="of-alice")
        page.wait("connecting", after=2, code=3014)
        page.wait("subscribed", channel="of-bob")
        eventually(
            "bob is here, and alice is not",
            lambda: {each["user"] for each in server.api("connections")["connections"]} == {"bob"},
        )
    assert len(cms.questions) == 2
