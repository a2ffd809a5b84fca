"""The two modules of examples/python: a queue in front of a push server that may misbehave."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from push_api import Publication, PushApi, PushError
from push_queue import MAX_WAITING, PushQueue, enqueue

from tests.e2e.cms import Request, StubCms, hang_up, html, redirect, says
from tests.e2e.server import free_port

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

KEY = "the-key-of-the-site"
TAKEN = {"result": {"replies": [{"publish": {"recipients": 1}}]}}


@pytest.fixture
def stub() -> Iterator[StubCms]:
    """A push server that takes one publication."""
    with StubCms({"/api/batch": says(TAKEN)}) as running:
        yield running


@pytest.fixture
def push(stub: StubCms) -> PushApi:
    return PushApi(stub.url.removesuffix("/connect"), KEY)


def sent(stub: StubCms) -> list[tuple[str, Any]]:
    """What was published, by all requests."""
    commands = [command for question in stub.questions for command in question["commands"]]
    return [(c["publish"]["channel"], c["publish"]["data"]) for c in commands]


Started = list[str]


def serve(application: WSGIApplication, *, parts: int | None = None) -> Started:
    """Serve one request as a WSGI server does; stop after so many parts, as for who hangs up."""
    statuses: Started = []
    environ: dict[str, Any] = {"QUERY_STRING": ""}
    setup_testing_defaults(environ)

    def start(status: str, headers: object, exc_info: object = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda data: None

    answer = validator(application)(environ, start)
    try:
        for number, _ in enumerate(answer, start=1):
            if number == parts:
                break
    finally:
        answer.close()  # type: ignore[attr-defined]
    return statuses


def site(*acts: Callable[[], object], status: str = "200 OK") -> WSGIApplication:
    """Make a site that does things before it answers."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for act in acts:
            act()
        start_response(status, [("Content-Type", "text/plain")])
        return [b"one", b"two"]

    return application


def fail() -> None:
    raise ZeroDivisionError


def say(data: object = 1) -> Callable[[], None]:
    return lambda: enqueue("news", data)


# -- When it is sent ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "303 See Other"])
def test_a_request_that_ends_well_is_one_batch(stub: StubCms, push: PushApi, status: str) -> None:
    def quiet(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        enqueue("news", {"a": 1})
        enqueue("user:7", None)
        start_response(status, [] if status[0:3] == "204" else [("Content-Type", "text/plain")])
        return []

    stub.http.answers["/api/batch"] = says({"result": {"replies": [{}, {}]}})
    assert serve(PushQueue(quiet, push)) == [status]

    assert sent(stub) == [("news", {"a": 1}), ("user:7", None)]
    assert len(stub.questions) == 1
    (headers,) = stub.http.question_headers
    assert headers["x-api-key"] == KEY


def test_a_request_that_published_nothing_asks_nobody(stub: StubCms, push: PushApi) -> None:
    serve(PushQueue(site(), push))

    assert stub.questions == []


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "500 Oh"])
def test_an_error_page_sends_nothing(stub: StubCms, push: PushApi, status: str) -> None:
    assert serve(PushQueue(site(say(), status=status), push)) == [status]

    assert stub.questions == []


def test_a_view_that_raises_sends_nothing(stub: StubCms, push: PushApi) -> None:
    with pytest.raises(ZeroDivisionError):
        serve(PushQueue(site(say(), fail), push))
    with pytest.raises(RuntimeError, match="no request"):
        enqueue("news", 1)

    assert stub.questions == []


def _stream(fault: Callable[[], object]) -> WSGIApplication:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        enqueue("news", 1)
        yield b"one"
        fault()
        yield b"two"

    return application


def test_an_answer_that_breaks_off_sends_nothing(stub: StubCms, push: PushApi) -> None:
    with pytest.raises(ZeroDivisionError):
        serve(PushQueue(_stream(fail), push))

    assert stub.questions == []


def test_what_is_published_while_the_answer_is_made_counts(stub: StubCms, push: PushApi) -> None:
    serve(PushQueue(_stream(lambda: None), push))

    assert sent(stub) == [("news", 1)]


def test_a_visitor_who_hangs_up_is_no_failure(stub: StubCms, push: PushApi) -> None:
    serve(PushQueue(site(say()), push), parts=1)

    assert sent(stub) == [("news", 1)]


def test_an_error_page_in_the_place_of_a_good_one_sends_nothing(
    stub: StubCms, push: PushApi
) -> None:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        enqueue("news", 1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        try:
            fail()
        except ZeroDivisionError:
            start_response("500 Oh", [("Content-Type", "text/plain")], sys.exc_info())
        return [b"sorry"]

    assert serve(PushQueue(application, push)) == ["200 OK", "500 Oh"]
    assert stub.questions == []


def test_an_answer_that_cannot_be_closed_sends_nothing(stub: StubCms, push: PushApi) -> None:
    class Answer(list[bytes]):
        def close(self) -> None:
            fail()

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        enqueue("news", 1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return Answer([b"one"])

    with pytest.raises(ZeroDivisionError):
        serve(PushQueue(application, push))
    assert stub.questions == []


def test_the_next_request_begins_with_an_empty_queue(stub: StubCms, push: PushApi) -> None:
    with pytest.raises(ZeroDivisionError):
        serve(PushQueue(site(say("lost"), fail), push))
    serve(PushQueue(site(say("kept")), push))

    assert sent(stub) == [("news", "kept")]


# -- What can be sent ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [float("nan"), {"a": {1, 2}}, object()])
def test_what_json_cannot_say_fails_in_the_view(stub: StubCms, push: PushApi, data: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        serve(PushQueue(site(say(), say(data)), push))

    assert stub.questions == []


def test_the_queue_is_bounded(stub: StubCms, push: PushApi) -> None:
    with pytest.raises(RuntimeError, match="more than 1000"):
        serve(PushQueue(site(*[say()] * (MAX_WAITING + 1)), push))

    assert stub.questions == []


# -- When the push server misbehaves ------------------------------------------------------------


def first(answer: Callable[[Request], None]) -> Callable[[Request], None]:
    """Answer so at first, and take the publication then."""
    asked: list[object] = []

    def give(request: Request) -> None:
        asked.append(request)
        (answer if len(asked) == 1 else says(TAKEN))(request)

    return give


@pytest.mark.parametrize("fault", [says({}, 503), hang_up])
def test_a_lost_answer_is_asked_for_again_under_the_same_name(
    stub: StubCms, push: PushApi, fault: Callable[[Request], None]
) -> None:
    stub.http.answers["/api/batch"] = first(fault)

    assert push.send([Publication("news", 1)]) == 1

    one, two = stub.questions
    assert one == two
    assert one["commands"][0]["publish"]["idempotency_key"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (says({}, 503), "no API answers here (status 503)"),
        (hang_up, "no answer to batch"),
        (html(), "no API answers here (status 200)"),
        (redirect, "no API answers here (status 302)"),
        (says({"error": {"code": 101, "message": "unauthorized"}}, 401), "batch: unauthorized"),
    ],
)
def test_what_was_not_sent_is_in_the_log_and_nobody_else_is_bothered(
    stub: StubCms,
    push: PushApi,
    fault: Callable[[Request], None],
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stub.http.answers["/api/batch"] = fault

    assert serve(PushQueue(site(say()), push)) == ["200 OK"]

    assert words in caplog.text
    assert KEY not in caplog.text
    assert stub.http.followed == 0


def test_one_that_is_refused_is_named(
    stub: StubCms, push: PushApi, caplog: pytest.LogCaptureFixture
) -> None:
    refused = {"error": {"code": 107, "message": "bad request"}}
    stub.http.answers["/api/batch"] = says({"result": {"replies": [{"publish": {}}, refused]}})

    with caplog.at_level(logging.ERROR):
        assert push.send([Publication("news", 1), Publication("a\nb", 2)]) == 1

    assert "bad request" in caplog.text


def test_an_error_has_its_code_and_no_key(stub: StubCms, push: PushApi) -> None:
    stub.http.answers["/api/publish"] = says({"error": {"code": 103, "message": "denied"}})

    with pytest.raises(PushError, match="publish: denied") as caught:
        push.publish("news", 1)

    assert caught.value.code == 103
    assert KEY not in repr(push)


def test_without_a_server_there_are_no_positions() -> None:
    push = PushApi(f"http://127.0.0.1:{free_port()}", KEY)

    assert push.positions("news") == {}
    with pytest.raises(PushError, match="no answer to info: ConnectionRefusedError"):
        push.call("info", {})


def test_an_address_may_have_a_path(stub: StubCms, push: PushApi) -> None:
    stub.http.answers["/deep/api/position"] = says({"result": {"positions": {"a": {}}}})

    assert PushApi(push.url + "/deep/", KEY).positions("a") == {"a": {}}
    assert json.dumps(stub.questions) == '[{"channels": ["a"]}]'
