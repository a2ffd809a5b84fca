"""The article of examples/wagtail_site, with Wagtail's admin and Django's own server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.examples import Example, Visitor, Window, needs, window
from tests.e2e.raw_client import RawClient
from tests.e2e.server import Dialogue, eventually

pytestmark = needs("wagtail")

# Wagtail makes its own first page: the article is the one after it.
READING, EDITING = "page:3", "editing:3"
EDIT = "/admin/pages/3/edit/"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    example = Example(tmp_path_factory.mktemp("wagtail"), "wagtail_site", needs=["python"])
    # Tokens that end during the tests: the editor's page fetches new ones.
    views = example.folder / "live" / "views.py"
    text = views.read_text("utf-8")
    assert "TOKEN_SECONDS = 600" in text
    views.write_text(text.replace("TOKEN_SECONDS = 600", "TOKEN_SECONDS = 4"), "utf-8")
    with example.serve_django():
        yield example


def log_in(site: Example, name: str) -> Visitor:
    visitor = Visitor(site)
    visitor.get("/admin/login/")
    visitor.post("/admin/login/", username=name, password=name)
    assert visitor.page.url == site.url + "/admin/"
    return visitor


@pytest.fixture(scope="module")
def alice(site: Example) -> Visitor:
    return log_in(site, "alice")


@pytest.fixture(scope="module")
def bob(site: Example) -> Visitor:
    return log_in(site, "bob")


def reader(site: Example) -> RawClient:
    """Read the article, as anybody; the latest message has come."""
    client = site.listener()
    client.command("subscribe", channel=READING, recover=True)
    return client


def editor(site: Example, visitor: Visitor) -> RawClient:
    """Have the article open in the editor."""
    answer = visitor.get("/admin/live/editing/3/")
    found: dict[str, Any] = json.loads(answer.text)
    assert found["channel"] == EDITING
    client = site.listener(found["connection"])
    reply = client.command("subscribe", channel=EDITING, token=found["subscription"])
    assert "subscribe" in reply, reply
    return client


def save(visitor: Visitor, **fields: str) -> None:
    """Save the article in the editor."""
    assert visitor.get(EDIT).status == 200
    assert visitor.post(EDIT, **fields).status == 200


def lock(visitor: Visitor, act: str) -> None:
    """Lock the article, or unlock it."""
    assert visitor.get(EDIT).status == 200
    assert visitor.post(f"/admin/pages/3/{act}/").status == 200


def stamp(visitor: Visitor) -> int:
    return int(visitor.get("/").attribute("data-live"))


def told(client: RawClient) -> dict[str, Any]:
    """Give what the editors are told next."""
    found: dict[str, Any] = client.publication(EDITING)["data"]
    return found


def test_readers_are_told_of_what_is_published_and_of_nothing_else(
    site: Example, alice: Visitor
) -> None:
    before = stamp(Visitor(site))
    with reader(site) as client:
        save(alice, title="A draft that nobody may see")
        assert "A draft" not in Visitor(site).get("/").text

        save(alice, title="Second <news>", **{"action-publish": "action-publish"})

        changed = client.publication(READING)["data"]
        assert set(changed) == {"changed"}
        assert changed["changed"] == stamp(Visitor(site)) > before
        assert "<h1>Second &lt;news&gt;</h1>" in Visitor(site).get("/").text


def test_a_page_from_a_cache_learns_that_it_is_old(site: Example, alice: Visitor) -> None:
    old = stamp(Visitor(site))
    save(alice, title="News", **{"action-publish": "action-publish"})

    with site.listener() as client:
        reply = client.command("subscribe", channel=READING, recover=True)["subscribe"]

    assert reply["recovered"] is True
    assert reply["publications"][-1]["data"]["changed"] > old


def test_editors_see_who_else_is_editing(site: Example, alice: Visitor, bob: Visitor) -> None:
    with editor(site, alice) as at_alice:
        assert at_alice.message()["push"]["join"]["info"]["conn_info"] == {"name": "alice"}
        with editor(site, bob) as at_bob:
            present = at_bob.command("presence", channel=EDITING)["presence"]["presence"]
            names = sorted(info["conn_info"]["name"] for info in present.values())
            assert names == ["alice", "bob"]
            assert at_alice.message()["push"]["join"]["info"]["conn_info"] == {"name": "bob"}
        assert at_alice.message()["push"]["leave"]["info"]["conn_info"] == {"name": "bob"}


def test_editors_are_told_what_another_one_did(site: Example, alice: Visitor, bob: Visitor) -> None:
    with editor(site, bob) as at_bob:
        save(alice, title="A draft")
        assert told(at_bob) == {
            "action": "wagtail.edit",
            "user": "1",
            "name": "alice",
            "words": "saved a draft of this page",
        }

        lock(alice, "lock")
        assert told(at_bob)["words"] == "locked this page"
        lock(alice, "unlock")
        assert told(at_bob)["words"] == "unlocked this page"


def test_who_may_not_edit_the_page_gets_no_token(site: Example) -> None:
    stranger = Visitor(site)

    assert stranger.get("/admin/live/editing/3/").url.startswith(site.url + "/admin/login/")
    with site.listener() as client:
        reply = client.command("subscribe", channel=EDITING)
    assert reply["error"]["code"] == 103
    with site.listener() as client:
        reply = client.command("presence", channel=EDITING)
    assert reply["error"]["code"] == 103


def test_a_page_that_is_not_there_has_no_editors(alice: Visitor) -> None:
    assert alice.get("/admin/live/editing/99/").status == 404


def test_a_preview_follows_nothing(site: Example, alice: Visitor) -> None:
    assert "/push.js" in Visitor(site).get("/").text

    save(alice, title="Just a look")
    draft = alice.get("/admin/pages/3/view_draft/")

    assert "Just a look" in draft.text
    assert "/push.js" not in draft.text


def test_without_a_push_server_the_site_goes_on(site: Example, alice: Visitor) -> None:
    site.push.stop()
    try:
        save(alice, title="All alone", **{"action-publish": "action-publish"})
        assert "All alone" in Visitor(site).get("/").text
        assert "were not sent: no answer to batch" in site.log
    finally:
        site.push.start()


@pytest.mark.node
@pytest.mark.browser
def test_an_open_page_shows_the_new_version(
    site: Example, alice: Visitor, clean_browser: Dialogue
) -> None:
    page = window(clean_browser, site)
    page.mark()

    save(alice, title="In a <moment>", **{"action-publish": "action-publish"})
    page.shows("In a <moment>")
    assert page.tab.run("document.title") == "In a <moment>"
    # Once more, and without a save in between: the page goes on with its new stamp.
    save(alice, title="In another one", **{"action-publish": "action-publish"})
    page.shows("In another one")
    alice.get("/admin/pages/3/unpublish/")
    alice.post("/admin/pages/3/unpublish/")
    page.shows("This page is not there any more.")
    assert page.is_marked
    save(alice, title="Back again", **{"action-publish": "action-publish"})


@pytest.mark.node
@pytest.mark.browser
def test_the_editor_shows_who_else_is_editing(
    site: Example, alice: Visitor, clean_browser: Dialogue
) -> None:
    mine = _editor(clean_browser, site, "bob")
    with editor(site, alice):
        mine.shows("Also editing: alice")
        lock(alice, "lock")
        mine.shows("alice locked this page.")
        lock(alice, "unlock")
        mine.shows("alice unlocked this page.")
        # It goes on with new tokens, one for the connection and one for the channel.
        asked = tokens_asked(site)
        eventually("new tokens", lambda: tokens_asked(site) >= asked + 2)
        lock(alice, "lock")
        mine.shows("alice locked this page.")
        lock(alice, "unlock")
        # Who comes later finds both of them.
        later = _editor(clean_browser, site, "bob", "another window of bob")
        later.shows("Also editing: alice")
    eventually("alice has left", lambda: "Also editing" not in _bar(mine))


def tokens_asked(site: Example) -> int:
    """Count how often the tokens of an editor were asked for."""
    return site.log.count('"GET /admin/live/editing/3/ HTTP/1.1" 200')


def _bar(page: Window) -> str:
    return str(page.tab.run("document.getElementById('live-editors').innerText"))


def _editor(browser: Dialogue, site: Example, name: str, person: str = "") -> Window:
    opened = window(browser, site, f"/admin/login/?next={EDIT}", person or name)
    opened.submit("main form", username=name, password=name)
    return opened
