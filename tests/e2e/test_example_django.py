"""The ticket shop of examples/django_site, with Django's own server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.e2e.examples import Example, Visitor, Window, needs, window
from tests.e2e.raw_client import RawClient
from tests.e2e.server import Dialogue

pytestmark = needs("django")

EVENT = "/events/1/"
CHANNEL = "event:1"
ALICE = "user:1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    example = Example(tmp_path_factory.mktemp("django"), "django_site", needs=["python"])
    with example.serve_django():
        yield example


def seats(site: Example, number: int) -> None:
    """Say how many seats there are."""
    with closing(sqlite3.connect(site.folder / "db.sqlite3")) as database, database:
        database.execute("UPDATE tickets_event SET seats_left = ?", [number])


def log_in(site: Example, name: str) -> Visitor:
    """Log in; the page of the event is open then."""
    visitor = Visitor(site)
    visitor.get("/login/")
    assert visitor.post("/login/", username=name, password=name).status == 200
    assert visitor.get(EVENT).status == 200
    return visitor


@pytest.fixture
def alice(site: Example) -> Visitor:
    return log_in(site, "alice")


@pytest.fixture
def bob(site: Example) -> Visitor:
    return log_in(site, "bob")


def test_who_is_not_logged_in_is_led_to_where_that_is_done(site: Example) -> None:
    visitor = Visitor(site)
    assert 'name="password"' in visitor.get("/").text
    visitor.post(visitor.page.url, username="alice", password="alice")
    assert "An evening with Twisted" in visitor.page.text


def test_a_page_is_let_in_with_the_channels_of_its_user(site: Example, alice: Visitor) -> None:
    with RawClient(site.push, origin=site.url) as client:
        result = client.connect(alice.page.token)

    assert set(result["subs"]) == {"broadcast", CHANNEL, ALICE}
    assert set(alice.page.positions) == {CHANNEL, ALICE}
    # One token for all pages of a session, and not the session's own key.
    assert alice.get(EVENT).token == alice.page.token
    assert alice.page.token not in {cookie.value for cookie in alice.cookies}


def test_a_reservation_is_told_when_it_is_committed(
    site: Example, alice: Visitor, bob: Visitor
) -> None:
    seats(site, 3)
    with alice.listen() as at_alice, bob.listen() as at_bob:
        alice.post("/events/1/reserve/")

        assert at_bob.publication(CHANNEL)["data"] == {"seats_left": 2}
        assert at_alice.publication(ALICE)["data"] == {
            "text": "You have a seat at An evening with Twisted."
        }


def test_what_is_rolled_back_was_never_published(
    site: Example, alice: Visitor, bob: Visitor
) -> None:
    seats(site, 0)
    with alice.listen() as at_alice:
        page = alice.post("/events/1/reserve/")
        assert "There is no seat left." in page.text
        seats(site, 2)
        alice.post("/events/1/reserve/")

        # Each channel goes on with the second attempt.
        first = at_alice.message()["push"]
        second = at_alice.message()["push"]
        assert {first["channel"], second["channel"]} == {CHANNEL, ALICE}
        by_channel = {push["channel"]: push["pub"] for push in (first, second)}
        assert by_channel[CHANNEL]["data"] == {"seats_left": 1}


def test_what_comes_between_rendering_and_connecting_is_not_missed(
    site: Example, alice: Visitor, bob: Visitor
) -> None:
    seats(site, 3)
    alice.get(EVENT)
    bob.post("/events/1/reserve/")

    with RawClient(site.push, origin=site.url) as client:
        joined = client.connect(alice.page.token, subs=alice.page.cursor)["subs"][CHANNEL]

    assert joined["recovered"] is True
    assert [pub["data"] for pub in joined["publications"]] == [{"seats_left": 2}]


def test_the_queue_sends_when_the_view_ends_well_and_only_then(
    site: Example, alice: Visitor, bob: Visitor
) -> None:
    with bob.listen() as at_bob:
        for _ in range(3):
            assert alice.post("/events/1/wave/").status == 200
            assert at_bob.publication(CHANNEL)["data"] == {"wave": "alice"}

        assert alice.post("/events/1/wave/").status == 403
        bob.post("/events/1/wave/")

        assert at_bob.publication(CHANNEL)["data"] == {"wave": "bob"}


def test_a_logout_closes_the_pages_of_the_session(site: Example, alice: Visitor) -> None:
    elsewhere = log_in(site, "alice")
    token = alice.page.token
    with alice.listen() as here, elsewhere.listen() as there:
        alice.post("/logout/")

        assert here.closing() == (3500, "invalid token")
        # The other session of the same user is none of this.
        assert there.command("ping") == {"id": 2, "ping": {}}
    with RawClient(site.push, origin=site.url) as again:
        again.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert again.closing()[0] == 3500
    assert alice.ask("/push/connect/", b'{"token": "%s"}' % token.encode()).text == REFUSED


REFUSED = '{"disconnect": {"code": 3500, "reason": "invalid token"}}'


def test_a_session_that_ended_without_a_logout_is_no_longer_good(
    site: Example, alice: Visitor
) -> None:
    question = b'{"token": "%s"}' % alice.page.token.encode()
    assert '"user": "1"' in alice.ask("/push/connect/", question).text

    with closing(sqlite3.connect(site.folder / "db.sqlite3")) as database, database:
        database.execute("UPDATE auth_user SET is_active = 0 WHERE username = 'alice'")
    try:
        assert alice.ask("/push/connect/", question).text == REFUSED
    finally:
        with closing(sqlite3.connect(site.folder / "db.sqlite3")) as database, database:
            database.execute("UPDATE auth_user SET is_active = 1 WHERE username = 'alice'")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"{}", b"\xff"])
def test_what_is_no_question_is_refused(site: Example, body: bytes) -> None:
    assert Visitor(site).ask("/push/connect/", body).status == 400
    assert Visitor(site).get("/push/connect/").status == 405


@pytest.mark.parametrize("token", [b'"x"', b"7", b"null", b'""', b'"\\u0000"'])
def test_a_token_that_nobody_has_is_refused(site: Example, token: bytes) -> None:
    answer = Visitor(site).ask("/push/connect/", b'{"token": %s}' % token)

    assert (answer.status, answer.text) == (200, REFUSED)


def test_without_a_push_server_the_site_goes_on(site: Example, alice: Visitor) -> None:
    seats(site, 3)
    site.push.stop()
    try:
        assert alice.get(EVENT).positions == {}
        assert alice.post("/events/1/reserve/").status == 200
        assert '<strong id="seats-left" aria-live="polite">2</strong>' in alice.page.text
        assert "were not sent: no answer to batch" in site.log
    finally:
        site.push.start()


@pytest.mark.node
@pytest.mark.browser
def test_open_pages_follow(site: Example, alice: Visitor, clean_browser: Dialogue) -> None:
    seats(site, 3)
    page = _window(clean_browser, site, "bob")
    other = window(clean_browser, site, EVENT, "bob")
    page.shows("Seats left: 3")
    page.mark()

    alice.post("/events/1/reserve/")
    page.shows("Seats left: 2")
    alice.post("/events/1/wave/")
    page.shows("alice waves to you.")
    assert page.is_marked

    # A logout in one window is seen in the other.
    other.submit("header form")
    page.shows("You are logged out.")


def _window(browser: Dialogue, site: Example, name: str) -> Window:
    opened = window(browser, site, f"/login/?next={EVENT}", name)
    opened.submit("main form", username=name, password=name)
    return opened
