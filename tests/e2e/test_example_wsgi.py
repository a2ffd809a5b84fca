"""The guest book of examples/python: plain WSGI, with the queue around it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.examples import Example, Visitor, window
from tests.e2e.server import Dialogue

CHANNEL = "guestbook"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    example = Example(tmp_path_factory.mktemp("wsgi"), "python")
    with example.serve(sys.executable, "wsgi_site.py", "PORT"):
        yield example


def test_an_entry_comes_to_every_open_page(site: Example) -> None:
    with site.listener() as reader:
        reader.command("subscribe", channel=CHANNEL)

        page = Visitor(site).post("/sign", words="Hello <b>all</b>")

        assert page.status == 200
        assert ">Hello &lt;b&gt;all&lt;/b&gt;</li>" in page.text
        data = reader.publication(CHANNEL)["data"]
        assert data["words"] == "Hello <b>all</b>"
        assert f'id="entry-{data["number"]}"' in page.text


def test_a_view_that_refuses_has_published_nothing(site: Example) -> None:
    visitor = Visitor(site)
    with site.listener() as reader:
        reader.command("subscribe", channel=CHANNEL)

        assert visitor.post("/sign", words=" ").status == 422
        visitor.post("/sign", words="after that")

        assert reader.publication(CHANNEL)["data"]["words"] == "after that"


def test_what_comes_between_rendering_and_connecting_is_not_missed(site: Example) -> None:
    page = Visitor(site).get("/")
    Visitor(site).post("/sign", words="in between")

    with site.listener() as reader:
        reply = reader.command(
            "subscribe", channel=CHANNEL, recover=True, **page.positions[CHANNEL]
        )["subscribe"]

    assert reply["recovered"] is True
    assert [pub["data"]["words"] for pub in reply["publications"]] == ["in between"]


def test_without_a_push_server_the_site_goes_on(tmp_path: Path) -> None:
    example = Example(tmp_path, "python")
    with example.serve(sys.executable, "wsgi_site.py", "PORT"):
        example.push.stop()
        page = Visitor(example).post("/sign", words="all alone")
        assert "all alone" in page.text
        assert "1 publications were not sent: no answer to batch" in example.log
        example.push.start()


@pytest.mark.node
@pytest.mark.browser
def test_an_entry_is_seen_where_the_book_is_open(site: Example, clean_browser: Dialogue) -> None:
    reader = window(clean_browser, site)
    writer = window(clean_browser, site, person="another")
    reader.mark()

    writer.submit("form", words="From <the> other window")

    for page in (reader, writer):
        page.shows("From <the> other window")
    assert reader.is_marked
    # The page that was loaded after signing has it once, though the message comes there, too.
    writer.submit("form", words="The last one")
    reader.shows("The last one")
    for page in (reader, writer):
        entries = page.tab.run("[...document.querySelectorAll('li')].map((li) => li.textContent)")
        assert entries[:2] == ["The last one", "From <the> other window"]
