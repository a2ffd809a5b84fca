"""``push.js`` in a real browser, against the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cms import StubCms
from tests.e2e.push_pages import PageOf, Site, Tab, open_tab
from tests.e2e.server import Dialogue, PushServer, make_server

pytestmark = [pytest.mark.node, pytest.mark.browser]

HERE = Path(__file__).parent
Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser(node: str, chromium: str) -> Iterator[Dialogue]:
    """Run a browser, for all tests of the module."""
    with Dialogue([node, str(HERE / "js" / "browser.mjs"), chromium], HERE) as dialogue:
        dialogue.wait("ready")
        yield dialogue


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    cms: StubCms, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PushServer]:
    running = make_server(
        tmp_path_factory.mktemp("push"),
        callback=cms.url,
        limits={"ping_interval": "1s", "pong_timeout": "2s"},
        site={"allowed_origins": [site.origin]},
    )
    with running:
        yield running


@pytest.fixture
def open_page(browser: Dialogue, site: Site, server: PushServer) -> Iterator[Open]:
    """Open pages; whatever a test did, no script failed."""
    start = len(browser.events)

    def open_page(token: str = "alice-token", person: str = "alice", **more: Any) -> Tab:
        page = PageOf(**{"push": server.url, "token": token, **more})
        return open_tab(browser, site.address(page), person)

    yield open_page
    assert browser.ask("clear")["event"] == "done"
    assert [each for each in browser.events[start:] if each["event"] == "pageerror"] == []


def test_one_script_and_three_lines(open_page: Open, server: PushServer) -> None:
    tab = open_page()
    assert tab.state("connected")["transport"] == "websocket"
    server.publish("news", {"title": "<b>"})
    message = tab.heard({"title": "<b>"})
    assert message["channel"] == "news"
    assert message["offset"] == 1


def test_as_a_module(open_page: Open, server: PushServer) -> None:
    tab = open_page(module=True, options={"url": server.url, "token": "bob-token"}, token="")
    tab.state("connected")
    server.publish("news", "to the module")
    tab.heard("to the module")


# --- One connection for all tabs -------------------------------------------------------------


def clients(server: PushServer) -> int:
    found: int = server.api("info")["nodes"][0]["num_clients"]
    return found


def test_twenty_tabs_are_one_connection(open_page: Open, server: PushServer) -> None:
    tabs = [open_page() for _ in range(20)]
    ids = {tab.state("connected")["client"] for tab in tabs}
    assert len(ids) == 1
    assert clients(server) == 1
    # Another login in the same browser does not share.
    other = open_page("bob-token")
    assert other.state("connected")["client"] not in ids
    assert clients(server) == 2
    server.publish("news", "to all")
    for tab in (*tabs, other):
        assert tab.heard("to all")["channel"] == "news"
        assert tab.data("news") == ["to all"]


def test_the_tab_with_the_connection_dies_in_a_burst(open_page: Open, server: PushServer) -> None:
    first = open_page()
    first.state("connected")
    others = [open_page() for _ in range(3)]
    for tab in others:
        tab.state("connected")
    for number in range(30):
        server.publish("news", number)
        if number == 10:
            others[0].heard(10)
            first.browser.tell(do="crash", page=first.name)
    for tab in others:
        tab.heard(29)
        assert tab.data("news") == list(range(30))
    assert clients(server) == 1
