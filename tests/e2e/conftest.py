"""What the end-to-end tests share: a server with a stub CMS, and the means to skip by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cms import PEOPLE, StubCms
from tests.e2e.raw_client import RawClient
from tests.e2e.server import KEY, TOKEN_SECRET, Dialogue, PushServer, make_server

HERE = Path(__file__).parent
NODE_PACKAGES = (
    "axe-core",
    "centrifuge",
    "eventsource",
    "playwright-core",
    *(f"socket.io-client-{version}" for version in (1, 2, 3, 4)),
    "ws",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def node() -> str:
    """Give the path of Node.js; skip where it or its packages are missing."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed: no test with Node.js is run")
    for package in NODE_PACKAGES:
        if not (HERE / "node_modules" / package).is_dir():
            pytest.skip(f"{package} is missing: run `npm install` in tests/e2e")
    return found


@pytest.fixture(scope="session")
def chromium() -> str:
    """Give the path of Chromium; skip where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("chromium is not installed: no test with a browser is run")


@pytest.fixture(scope="session")
def shared_browser(node: str, chromium: str) -> Iterator[Dialogue]:
    """Run one browser for all modules that ask for this one. Take it by ``clean_browser``."""
    with Dialogue([node, str(HERE / "js" / "browser.mjs"), chromium], HERE) as dialogue:
        dialogue.wait("ready")
        yield dialogue


@pytest.fixture
def clean_browser(shared_browser: Dialogue) -> Iterator[Dialogue]:
    """Give a browser without pages and cookies; whatever a test does, no script may fail."""
    start = len(shared_browser.events)
    yield shared_browser
    assert shared_browser.ask("clear")["event"] == "done"
    failed = [each for each in shared_browser.events[start:] if each["event"] == "pageerror"]
    assert failed == []


@pytest.fixture(scope="module")
def cms() -> Iterator[StubCms]:
    """Run the stub CMS, for all tests of a module."""
    with StubCms(PEOPLE) as stub:
        yield stub


@pytest.fixture(scope="module")
def server(cms: StubCms, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    """Run the server, for all tests of a module; it must end well after the last of them."""
    folder = tmp_path_factory.mktemp("server")
    with make_server(folder, callback=cms.url, top={"debug_echo": True}) as running:
        yield running
    # What happened in the module's tests has shown no secret to those who read the log.
    for secret in (KEY, TOKEN_SECRET, *cms.http.answers):
        assert secret not in running.log


@pytest.fixture
def bystander(server: PushServer) -> Iterator[RawClient]:
    """Connect a client that has nothing to do with what the test does."""
    with RawClient(server) as client:
        client.connect("bob-token")
        yield client
