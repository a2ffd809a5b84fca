"""The page of the quickstart and the lines of the README, in a real browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.push_pages import Tab, open_tab
from tests.e2e.server import ROOT, Dialogue, PushServer, eventually, make_server

pytestmark = [pytest.mark.node, pytest.mark.browser]

HTML = re.compile(r"^```html\n(.*?)^```$", re.MULTILINE | re.DOTALL)


SHOW_THE_CONSOLE = """<!doctype html>
<title>Push</title>
<script>console.log = (...words) => { document.title = words.join(" "); };</script>
"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def origin(folder: Path) -> Iterator[str]:
    """Serve the folder, as ``python -m http.server`` does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def push(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    """Run the server with the settings of the quickstart: everybody is let in."""
    site = {"anonymous": True, "allowed_origins": [origin]}
    with make_server(tmp_path_factory.mktemp("push"), site=site) as running:
        yield running


def page_of(document: str, number: int, push: PushServer) -> str:
    """Give a page of a document, with the port of the test."""
    pages = HTML.findall((ROOT / document).read_text("utf-8"))
    page: str = pages[number]
    assert ":8080/push.js" in page
    return page.replace("127.0.0.1:8080", f"127.0.0.1:{push.port}")


def opened(folder: Path, page: str, origin: str, browser: Dialogue) -> Tab:
    """Open a page, and wait until it is connected."""
    (folder / "index.html").write_text(page, "utf-8")
    tab = open_tab(browser, origin + "/")
    eventually("the page is connected", lambda: tab.run("push.state") == "connected")
    return tab


def test_the_page_of_the_quickstart(
    folder: Path, origin: str, push: PushServer, clean_browser: Dialogue
) -> None:
    tab = opened(folder, page_of("docs/quickstart.md", 0, push), origin, clean_browser)

    push.publish("broadcast", {"subject": "Hello", "body": "It <works>."})

    shown = 'broadcast: {"subject":"Hello","body":"It <works>."}'
    eventually("it is shown", lambda: tab.run("document.querySelector('li')?.textContent") == shown)


def test_the_lines_of_the_readme(
    folder: Path, origin: str, push: PushServer, clean_browser: Dialogue
) -> None:
    page = page_of("README.md", 0, push)
    tab = opened(folder, SHOW_THE_CONSOLE + page, origin, clean_browser)

    push.publish("broadcast", {"subject": "Hello", "body": "It works."})

    eventually("it is shown", lambda: tab.run("document.title") == "Hello It works.")
