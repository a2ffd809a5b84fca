"""Who is online, with the public JavaScript client and a CMS that keeps a table by the hook."""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cms import StubCms, user
from tests.e2e.raw_client import RawClient
from tests.e2e.server import Dialogue, PushServer, eventually, http, make_server

pytestmark = pytest.mark.node

HERE = Path(__file__).parent
SECRET = "a-secret-of-the-hook-of-the-e2e-tests"
GRACE = 1.0
PEOPLE = {
    "alice-1": user("alice", presence_to=["bob", "carol"]),
    "alice-2": user("alice", presence_to=["bob", "carol"]),
    "bob-1": user("bob", presence_to=["alice"]),
    "bob-2": user("bob", presence_to=["alice"]),
    "carol-1": user("carol"),
    "dave-1": user("dave", presence_to=["bob"]),
}
Start = Callable[..., Dialogue]
Event = tuple[str, str]


class Hook(ThreadingHTTPServer):
    """The CMS's end of the hook. The next ``failing`` requests are answered with 503, and none
    is before ``answers`` is set."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.url = f"http://127.0.0.1:{self.server_port}/online"
        self.lock = threading.Lock()
        self.posts: list[tuple[float, int, dict[str, Any]]] = []
        self.faults: list[str] = []
        self.failing = 0
        self.open = 0
        self.answers = threading.Event()
        self.answers.set()

    def told(self, status: int = 204) -> list[Event]:
        """Give the events of the requests that were answered so."""
        with self.lock:
            posts = [body for _, answer, body in self.posts if answer == status]
        return [(each["user"], each["event"]) for body in posts for each in body["events"]]

    def forget(self) -> None:
        with self.lock:
            self.posts.clear()


class _Post(BaseHTTPRequestHandler):
    server: Hook
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.answers.wait(10)
        signature = hmac.new(SECRET.encode(), body, "sha256").hexdigest()
        hook = self.server
        with hook.lock:
            hook.open += 1
            if hook.open > 1:
                hook.faults.append("two requests at once")
            if self.headers["X-Push-Signature"] != f"sha256={signature}":
                hook.faults.append("a wrong signature")
            status = 503 if hook.failing else 204
            hook.failing -= bool(hook.failing)
            hook.posts.append((time.monotonic(), status, json.loads(body)))
            hook.open -= 1
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join(5)
    assert running.faults == []


@pytest.fixture
def server(hook: Hook, tmp_path: Path) -> Iterator[PushServer]:
    with StubCms(PEOPLE) as cms:
        site = {
            "presence.online_grace": f"{GRACE}s",
            "presence.hook_url": hook.url,
            "presence.hook_secret": SECRET,
        }
        with make_server(tmp_path, callback=cms.url, site=site) as running:
            yield running
        for secret in (SECRET, *PEOPLE):
            assert secret not in running.log


@pytest.fixture
def start(node: str, server: PushServer) -> Iterator[Start]:
    """Give a function that opens a page."""
    with ExitStack() as stack:

        def start_page(token: str) -> Dialogue:
            arguments = json.dumps({"url": server.url, "token": token})
            command = [node, str(HERE / "js" / "client.mjs"), arguments]
            page = stack.enter_context(Dialogue(command, HERE))
            page.ask("connect")
            page.wait("connected")
            return page

        yield start_page


def told(page: Dialogue) -> list[Event]:
    """Give the notifications that a page got."""
    data = [each["data"] for each in page.named("message")]
    found = [each["presenceNotification"] for each in data if "presenceNotification" in each]
    return [(each["uid"], each["event"]) for each in found]


def first(page: Dialogue) -> list[list[str]]:
    """Give whom a page was told of each time that it connected."""
    data = [each["data"] for each in page.named("message")]
    return [each["presenceState"]["online"] for each in data if "presenceState" in each]


def online(server: PushServer, *users: str) -> Any:
    return server.api("online", users=list(users))["online"]


def test_two_tabs_and_a_page_change(start: Start, server: PushServer, hook: Hook) -> None:
    bob, dave = start("bob-1"), start("dave-1")
    alice = start("alice-1")
    eventually("bob is told", lambda: told(bob) == [("dave", "online"), ("alice", "online")])
    assert told(dave) == []

    # Another tab, and one page after the other: no news.
    second = start("alice-2")
    alice.end()
    third = start("alice-1")
    second.end()
    time.sleep(GRACE + 0.5)
    assert online(server, "alice", "bob", "nobody") == ["alice", "bob"]
    assert len(told(bob)) == 2

    third.end()
    eventually("bob is told of her end", lambda: told(bob)[2:] == [("alice", "offline")])
    assert online(server, "alice", "bob") == ["bob"]
    eventually("the CMS knows, too", lambda: ("alice", "offline") in hook.told())
    assert sorted(hook.told()) == [
        ("alice", "offline"),
        ("alice", "online"),
        ("bob", "online"),
        ("dave", "online"),
    ]


def test_a_page_is_first_told_who_is_here(start: Start, server: PushServer) -> None:
    for token in ("alice-1", "dave-1", "carol-1"):
        start(token)
    bob = start("bob-1")
    eventually("bob is told", lambda: first(bob) == [["alice", "dave"]])
    names = [each["event"] for each in bob.events]
    assert names.index("connected") < names.index("message")
    assert told(bob) == []

    count = len(bob.events)
    server.api("disconnect", user="dave")
    server.api("disconnect", user="bob", disconnect={"code": 3011, "reason": "force reconnect"})
    bob.wait("connected", after=count)
    eventually("bob is told again", lambda: len(first(bob)) == 2)


def test_the_cms_changes_who_sees_whom(start: Start, server: PushServer) -> None:
    alice, bob, carol, dave = (start(f"{name}-1") for name in ("alice", "bob", "carol", "dave"))
    eventually("they see her", lambda: first(bob) and first(carol))

    server.api("presence_list", user="alice", users=["carol", "dave"])

    eventually("bob sees her no more", lambda: ("alice", "offline") in told(bob))
    eventually("dave sees her", lambda: told(dave) == [("alice", "online")])
    alice.end()
    eventually("dave is told", lambda: told(dave)[1:] == [("alice", "offline")])
    assert told(carol)[-1] == ("alice", "offline")
    assert told(bob).count(("alice", "offline")) == 1


def test_a_cms_that_fails_twice(start: Start, server: PushServer, hook: Hook) -> None:
    bob = start("bob-1")
    eventually("the CMS knows bob", lambda: hook.told() == [("bob", "online")])
    hook.failing = 2
    pages = [start(f"{name}-1") for name in ("alice", "carol", "dave")]
    eventually("it fails", lambda: hook.told(503))
    pages[1].end()
    bob.end()
    eventually("the CMS knows all", lambda: len(hook.told()) >= 5, timeout=30)
    last = dict(hook.told())
    assert last == {
        "alice": "online",
        "bob": "offline",
        "carol": "offline",
        "dave": "online",
    }
    assert hook.failing == 0
    assert 'twisted_push_hook_failures_total{site="default"} 2.0' in server.get("/metrics")[1]
    assert 'twisted_push_hook_waiting{site="default"} 0.0' in server.get("/metrics")[1]


def test_those_who_come_together_are_told_together(server: PushServer, hook: Hook) -> None:
    """A planned end is no departure, and the address can be changed at run time."""
    assert server.api("presence_hook", url="") == {}
    assert server.api("presence_hook", url=hook.url) == {}
    with ExitStack() as stack:
        clients = [stack.enter_context(RawClient(server)) for _ in range(4)]
        hook.answers.clear()
        for client, name in zip(clients, ("alice", "bob", "carol", "dave"), strict=True):
            client.connect(f"{name}-1")
        hook.answers.set()
        eventually("the CMS knows all", lambda: len(hook.told()) == 4)
        assert len(hook.posts) <= 2
        hook.forget()
        server.api("presence_hook", url=hook.url)
        eventually("it is told anew", lambda: len(hook.told()) == 4)
        assert len(hook.posts) == 1
        since = hook.posts[0][2]["since"]
        assert abs(since / 1000 - time.time()) < 60
        server.restart()
    time.sleep(GRACE + 0.5)
    assert {event for _, event in hook.told()} == {"online"}
    assert http("GET", server.url + "/ready")[0] == 200
