"""The notice board of examples/php_site, with PHP's own server."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.examples import Example, Visitor, window
from tests.e2e.raw_client import RawClient
from tests.e2e.server import Dialogue

pytestmark = pytest.mark.php

BOARD = "board"
REFUSED = {"disconnect": {"code": 3500, "reason": "invalid token"}}


@pytest.fixture(scope="module")
def php() -> str:
    """Give the path of PHP; skip where it or its curl extension is missing."""
    found = shutil.which("php")
    if found is None:
        pytest.skip("php is not installed: no test with PHP is run")
    modules = subprocess.run([found, "-m"], capture_output=True, encoding="utf-8", check=True)
    if "curl" not in modules.stdout.split():
        pytest.skip("php has no curl extension: no test with PHP is run")
    return found


def serve(example: Example, php: str) -> Iterator[Example]:
    with example.serve(php, "-S", "127.0.0.1:PORT", "index.php"):
        yield example
    for fault in ("PHP Warning", "PHP Notice", "PHP Deprecated", "PHP Fatal"):
        assert fault not in example.log, example.log


@pytest.fixture(scope="module")
def site(php: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    yield from serve(Example(tmp_path_factory.mktemp("php"), "php_site"), php)


def log_in(site: Example, name: str) -> Visitor:
    visitor = Visitor(site)
    visitor.get("/")
    assert f"{name} <button>Log out" in visitor.post("/login", name=name).text
    return visitor


@pytest.fixture
def alice(site: Example) -> Visitor:
    return log_in(site, "alice")


@pytest.fixture
def bob(site: Example) -> Visitor:
    return log_in(site, "bob")


def test_a_page_is_let_in_with_the_channels_of_its_user(site: Example, alice: Visitor) -> None:
    with RawClient(site.push, origin=site.url) as client:
        result = client.connect(alice.page.token)

    assert set(result["subs"]) == {"broadcast", BOARD, "user:alice"}
    # One token for all pages of a session, and not the session's own id.
    assert alice.get("/").token == alice.page.token
    assert alice.page.token not in {cookie.value for cookie in alice.cookies}


def test_a_notice_comes_to_every_open_page(site: Example, alice: Visitor, bob: Visitor) -> None:
    with bob.listen() as at_bob:
        page = alice.post("/say", text="Lunch is <ready>, “hot” & 漢字")

        assert "<b>alice</b>: Lunch is &lt;ready&gt;, “hot” &amp; 漢字</li>" in page.text
        data = at_bob.publication(BOARD)["data"]
        assert (data["by"], data["text"]) == ("alice", "Lunch is <ready>, “hot” & 漢字")
        assert f'id="notice-{data["id"]}"' in page.text


@pytest.mark.parametrize("text", [" ", "x" * 501, "\udcff"])
def test_what_is_not_stored_is_not_published(
    site: Example, alice: Visitor, bob: Visitor, text: str
) -> None:
    with bob.listen() as at_bob:
        assert alice.post("/say", text=text).status == 422
        alice.post("/say", text="after that")

        assert at_bob.publication(BOARD)["data"]["text"] == "after that"


def test_what_comes_between_rendering_and_connecting_is_not_missed(
    site: Example, alice: Visitor, bob: Visitor
) -> None:
    bob.post("/say", text="in between")

    with RawClient(site.push, origin=site.url) as client:
        joined = client.connect(alice.page.token, subs=alice.page.cursor)["subs"][BOARD]

    assert joined["recovered"] is True
    assert [pub["data"]["text"] for pub in joined["publications"]] == ["in between"]


def test_a_logout_closes_the_pages_of_the_session(site: Example, alice: Visitor) -> None:
    elsewhere = log_in(site, "alice")
    token = alice.page.token
    with alice.listen() as here, elsewhere.listen() as there:
        assert "Your name" in alice.post("/logout").text

        assert here.closing() == (3500, "invalid token")
        assert "ping" in there.command("ping")
    question = json.dumps({"token": token}).encode()
    assert json.loads(alice.ask("/push/connect", question).text) == REFUSED


@pytest.mark.parametrize(
    "question", [b"", b"{", b"[]", b"7", b"{}", b"\xff", b'{"token": 7}', b'{"token": ""}',
                 b'{"token": "x"}', b'{"token": "../../index.php"}', b'{"token": ["a"]}']
)  # fmt: skip
def test_a_token_that_nobody_has_is_refused(site: Example, question: bytes) -> None:
    answer = Visitor(site).ask("/push/connect", question)

    assert (answer.status, json.loads(answer.text)) == (200, REFUSED)


def test_forms_of_others_are_refused(site: Example, alice: Visitor) -> None:
    assert alice.post("/say", text="forged", csrf="0" * 32).status == 403
    assert Visitor(site).post("/say", text="forged").status == 403


def test_without_a_push_server_the_site_goes_on(php: str, tmp_path: Path) -> None:
    for example in serve(Example(tmp_path, "php_site"), php):
        visitor = log_in(example, "alice")
        example.push.stop()
        page = visitor.post("/say", text="all alone")
        assert "all alone" in page.text
        assert page.positions == {}
        assert "not published to board: publish: Failed to connect" in example.log
        visitor.post("/logout")
        assert "the push server was not told of a logout" in example.log
        example.push.start()


@pytest.mark.node
@pytest.mark.browser
def test_a_notice_is_seen_where_the_board_is_open(
    site: Example, bob: Visitor, clean_browser: Dialogue
) -> None:
    page = window(clean_browser, site)
    page.submit("form", name="carol")
    page.shows("carol")
    page.mark()

    bob.post("/say", text="Has <anybody> seen my keys?")

    page.shows("bob: Has <anybody> seen my keys?")
    assert page.is_marked
