"""The demo in a real browser: two people, each with a page open."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import SERVE, bound, environment, eventually, http

HERE = Path(__file__).parent
URL = re.compile(r"http://127\.0\.0\.1:\d+/?")


class Demo:
    """``twisted-push serve --demo``, without a configuration file."""

    def __init__(self, folder: Path) -> None:
        self.log_path = folder / "demo.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                bound([sys.executable, "-c", SERVE, "serve", "--demo"]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment(),
            )

    def address(self) -> str:
        """Wait until the demo is there; give its address."""

        def printed() -> str:
            assert self.process.poll() is None, self.log
            for found in URL.finditer(self.log):
                address = found[0].rstrip("/")
                if "demo CMS" in http("GET", address + "/")[1]:
                    return address
            return ""

        try:
            return eventually("the demo prints its address", printed)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}") from None

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8", errors="replace")

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(25)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the demo does not end:\n{self.log}") from None


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()


def test_demo_starts_where_its_ports_are_taken(tmp_path: Path) -> None:
    """Both usual ports are busy: it says where it is instead."""
    sockets = []
    for port in (8000, 8080):
        taken = socket.socket()
        sockets.append(taken)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", port))
            taken.listen()
        except OSError:
            pass  # Somebody else's: busy all the same.
    try:
        demo = Demo(tmp_path)
        address = demo.address()
        assert not address.endswith((":8000", ":8080"))
        assert demo.stop() in (0, 143, -15)
        assert "Traceback" not in demo.log
    finally:
        for each in sockets:
            each.close()


def run(script: str, demo: Demo, node: str, chromium: str) -> dict[str, Any]:
    """Run a script of js/ in which people use the demo; give what they saw."""
    finished = subprocess.run(
        bound([node, str(HERE / "js" / script), demo.address(), chromium]),
        cwd=HERE,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr + demo.log
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


@pytest.mark.node
@pytest.mark.browser
def test_two_people_use_the_demo(demo: Demo, node: str, chromium: str) -> None:
    found = run("demo.mjs", demo, node, chromium)

    assert found["channels"] == ["article:1", "broadcast", "chat:lobby", "user:bob"]
    assert found["bobMayEdit"] is False
    # The article changed, on a page that was not loaded again, and as text: nothing is markup.
    assert found["titleBefore"] == "The page that never needs a reload"
    assert found["titleAfter"] == "News <b>of</b> today & tomorrow"
    assert found["documentTitle"].startswith("News <b>of</b> today & tomorrow")
    assert found["paragraphs"] == ["A first paragraph.", "A second one."]
    assert "Alice" in found["announcement"]
    assert found["reloaded"] is False
    # A message to everybody, and one to Alice alone.
    assert found["toasts"] == ["Lunch is <ready>"] * 2
    assert found["privateToBob"] is False
    # The chat: who is typing is told to the others alone, and each line comes once.
    lines = [("Bob", "Is <anybody> here?"), ("Alice", "Yes")]
    whose = {"Alice": ["theirs", "mine"], "Bob": ["mine", "theirs"]}
    at_alice, at_bob = (
        [[side, *line] for side, line in zip(whose[name], lines, strict=True)]
        for name in ("Alice", "Bob")
    )
    assert found["chat"] == [at_alice, at_bob]
    assert found["chatAfterReload"] == at_bob
    assert found["bobIsTypingAtBob"] == ""
    assert found["inputAfterwards"] == ""
    assert found["whileAway"] is False
    assert found["carried"] == ["WebSocket", "Long polling", "WebSocket", "WebSocket"]
    # Keys, and what came while nobody looked.
    assert found["skip"] == "Skip to the content"
    assert found["toastsAfterEscape"] is False
    title = "News <b>of</b> today & tomorrow · twisted_push demo"
    assert found["inOrder"] == ["One", "Two"]
    assert found["titles"] == [f"(2) {title}", title]
    # A new line does not take the reader away, and a notice is not in front of what one writes.
    assert found["reading"] == 0
    assert found["saying"] == found["following"] == 0
    assert found["covered"] == [False] * 4
    # The log of the site.
    assert found["logHas"] == ["saved “News <b>of</b> today & tomorrow”."]
    assert found["pausedLines"] == 1
    assert found["notices"] == 0
    # The kick.
    assert "disconnected by an administrator" in found["banner"]
    assert found["status"] == "Disconnected"
    assert found["stateLater"] == "denied"
    assert found["aliceIsStill"] == "connected"
    # The logout.
    assert len(set(found["clients"])) == 1
    assert found["reloadedAtTheEnd"] is False
    assert found["complaints"] == []
    # The CMS is away for a moment.
    assert found["notTaken"] == "Hello?"

    assert demo.stop() in (0, 143, -15)
    assert "Traceback" not in demo.log


@pytest.mark.node
@pytest.mark.browser
def test_everybody_can_use_the_demo(demo: Demo, node: str, chromium: str) -> None:
    """axe-core finds nothing on any page, in light and dark colors, on a phone and wide.

    Nor is any page wider than its window.
    """
    found = run("demo_axe.mjs", demo, node, chromium)

    assert {page: checked["wrong"] for page, checked in found.items() if checked["wrong"]} == {}
    assert len(found) == 28
    assert all(checked["passed"] > 10 for checked in found.values())
