"""A CMS that fails in every way it can: the client is told, and nobody else is touched."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.cms import (
    PEOPLE,
    Answer,
    StubCms,
    endless,
    endless_unannounced,
    hang_up,
    html,
    invalid_json,
    redirect,
    refuse,
    says,
    silence,
    user,
)
from tests.e2e.raw_client import RawClient, check_untouched
from tests.e2e.server import PushServer, log_is_quiet, make_server

MEBIBYTE = 2**20
FAULTS: Mapping[str, Answer] = {
    "error-500": says({"error": "sorry"}, 500),
    "html-500": html(500),
    "html-200": html(),
    "not-found": html(404),
    "silence": silence,
    "hang-up": hang_up,
    "redirect": redirect,
    "invalid-json": invalid_json,
    "empty-object": says({}),
    "a-list": says([]),
    "user-is-a-number": user(17),
    "user-is-null": user(None),
    "user-is-an-object": user({"id": "mallory"}),
    "channels-are-text": says({"result": {"user": "mallory", "channels": "news"}}),
    "100-mb": endless,
    "100-mb-unannounced": endless_unannounced,
}

LINES = "one\ntwo\r\x1b[31mthree" + "ü" * 200
ODDITIES: Mapping[str, Answer] = {
    "refused": refuse,
    "too-many-channels": user("many", *[f"open:{number}" for number in range(400)]),
    "bad-channels": user("odd", "news", "", "a\nb", "x" * 256),
    "reason-of-three-lines": says({"disconnect": {"code": 4500, "reason": LINES}}),
    "error-of-three-lines": says({"error": {"code": 101, "message": LINES}}),
}


@pytest.fixture(scope="module")
def cms() -> Iterator[StubCms]:
    with StubCms({**PEOPLE, **FAULTS, **ODDITIES}) as stub:
        yield stub


@pytest.fixture(scope="module")
def server(cms: StubCms, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PushServer]:
    folder = tmp_path_factory.mktemp("server")
    with make_server(folder, callback=cms.url, callback_options={"timeout": "1s"}) as running:
        # What the first question needs is in memory before anything is measured.
        with RawClient(running) as client:
            client.connect()
        yield running


@pytest.fixture
def answering(server: PushServer, cms: StubCms) -> None:
    """Have the CMS answer something sensible: after a few faults in a row it is left alone."""
    token = f"fine-{len(cms.questions)}"
    cms.http.answers[token] = user("fine")
    with RawClient(server) as client:
        client.connect(token)


def outcome(client: RawClient, token: str) -> int:
    """Try to connect; give the code of the error or of the close."""
    client.send(json.dumps({"id": 1, "connect": {"token": token}}))
    return client.failure()


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize("fault", FAULTS)
def test_fault(server: PushServer, cms: StubCms, bystander: RawClient, fault: str) -> None:
    before = server.memory()
    with log_is_quiet(server), RawClient(server) as client:
        started = time.monotonic()
        # Something that may be over later: the client comes back by itself.
        assert outcome(client, fault) in (100, 3004)
        assert time.monotonic() - started < 5
        check_untouched(bystander, server)
    assert server.memory() - before < 30 * MEBIBYTE
    assert cms.http.followed == 0


def test_a_failing_question_does_not_stand_in_the_way(
    server: PushServer, bystander: RawClient
) -> None:
    with RawClient(server) as slow, RawClient(server) as quick:
        slow.send('{"id":1,"connect":{"token":"silence"}}')
        started = time.monotonic()
        quick.connect("carol-token")
        assert time.monotonic() - started < 0.8
        assert slow.failure() in (100, 3004)


@pytest.mark.usefixtures("answering")
def test_refused_is_no_fault(server: PushServer, bystander: RawClient) -> None:
    with log_is_quiet(server), RawClient(server) as client:
        assert outcome(client, "refused") == 3500
    with log_is_quiet(server), RawClient(server) as client:
        assert outcome(client, "refused-token") == 101


def test_no_cms_at_all(tmp_path: Path) -> None:
    with ExitStack() as stack:
        with StubCms(PEOPLE) as cms:
            server = stack.enter_context(make_server(tmp_path, callback=cms.url))
            with RawClient(server) as known:
                known.connect("bob-token")
        # The CMS is gone: who is known already is served from what it said.
        bystander = stack.enter_context(RawClient(server))
        bystander.connect("bob-token")
        with log_is_quiet(server), RawClient(server) as client:
            assert outcome(client, "alice-token") in (100, 3004)
        check_untouched(bystander, server)


def test_the_cms_hears_what_it_needs(server: PushServer, cms: StubCms) -> None:
    with RawClient(server, headers={"Cookie": "SESS=1; b=2", "X-Other": "no"}) as client:
        client.connect("alice-second-token", name="js", version="1.2", data={"page": "/"})
    question = cms.questions[-1]
    assert question["token"] == "alice-second-token"
    assert question["transport"] == "websocket"
    assert (question["protocol"], question["encoding"]) == ("json", "json")
    assert (question["name"], question["version"]) == ("js", "1.2")
    assert question["data"] == {"page": "/"}
    assert cms.http.question_headers[-1]["cookie"] == "SESS=1; b=2"
    assert "x-other" not in cms.http.question_headers[-1]


def test_a_grant_of_more_channels_than_a_client_may_have(
    server: PushServer, bystander: RawClient
) -> None:
    """The client gets as many as it may; the log says so once."""
    with log_is_quiet(server), RawClient(server) as client:
        assert len(client.connect("too-many-channels")["subs"]) == 128
        check_untouched(bystander, server)


def test_granted_channels_that_are_none(server: PushServer, bystander: RawClient) -> None:
    with log_is_quiet(server), RawClient(server) as client:
        assert set(client.connect("bad-channels")["subs"]) == {"news", "broadcast"}
        check_untouched(bystander, server)


def test_what_the_cms_says_is_one_line_in_the_log(server: PushServer) -> None:
    with log_is_quiet(server), RawClient(server) as client:
        assert outcome(client, "reason-of-three-lines") == 4500
    with log_is_quiet(server), RawClient(server) as client:
        assert outcome(client, "error-of-three-lines") == 101
    assert "\x1b" not in server.log
