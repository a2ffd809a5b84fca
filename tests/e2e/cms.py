"""A stub of a CMS: it answers the connect callback by the token that the client presented.

Whatever is asked at another path is answered by that path.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Answer = Callable[["Request"], None]

MEGABYTE = b" " * 2**20


class Request(BaseHTTPRequestHandler):
    """One question of the push server."""

    server: CmsServer
    protocol_version = "HTTP/1.1"
    question: Mapping[str, Any]

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        question: dict[str, Any] = json.loads(self.rfile.read(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.question = question
        with self.server.lock:
            self.server.questions.append(question)
            self.server.question_headers.append(headers)
        by_path = self.server.answers.get(self.path)
        answer = by_path or self.server.answers.get(question.get("token", ""), refuse)
        answer(self)

    def do_GET(self) -> None:
        """Count as a redirect that was followed."""
        self.server.followed += 1
        user("redirected")(self)

    def give(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """Send a whole answer."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


class CmsServer(ThreadingHTTPServer):
    """What the questions of all connections share."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers = dict(answers)
        self.lock = threading.Lock()
        self.questions: list[dict[str, Any]] = []
        self.question_headers: list[dict[str, str]] = []
        self.connections: list[socket.socket] = []
        self.followed = 0
        self.stopping = threading.Event()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self.connections.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        """Close every connection, also those that wait for a next question."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a push server that hangs up: some of the answers are meant so."""


class StubCms:
    """The CMS in a thread of its own; use it as a context manager."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.http = CmsServer(answers)
        self.url = f"http://127.0.0.1:{self.http.server_port}/connect"
        self._thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def questions(self) -> list[dict[str, Any]]:
        """What was asked so far."""
        with self.http.lock:
            return list(self.http.questions)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.http.stopping.set()
        self.http.shutdown()
        self.http.server_close()
        self.http.hang_up()
        self._thread.join(5)


# -- Answers ----------------------------------------------------------------------------------


def says(content: object, status: int = 200) -> Answer:
    """Answer with this JSON."""
    body = json.dumps(content).encode()
    return lambda request: request.give(status, body)


def user(name: object, *channels: str, **more: object) -> Answer:
    """Let the client in as this user, into these channels."""
    return says({"result": {"user": name, "channels": list(channels), **more}})


def refuse(request: Request) -> None:
    """Send the client away for good."""
    says({"disconnect": {"code": 3500, "reason": "invalid token"}})(request)


def in_turn(first: Answer, later: Answer) -> Answer:
    """Answer the first question so, and all that come later otherwise."""
    answers = iter([first])

    def answer(request: Request) -> None:
        next(answers, later)(request)

    return answer


def silence(request: Request) -> None:
    """Never answer."""
    request.server.stopping.wait(60)
    request.close_connection = True


def hang_up(request: Request) -> None:
    """Close the connection instead of an answer."""
    request.close_connection = True


def redirect(request: Request) -> None:
    """Send the push server elsewhere, where it would be told a user."""
    request.send_response(302)
    request.send_header("Location", f"http://127.0.0.1:{request.server.server_port}/elsewhere")
    request.send_header("Content-Length", "0")
    request.end_headers()


def html(status: int = 200) -> Answer:
    """Answer with a page, as a CMS does that is being updated."""
    page = b"<!doctype html><title>Maintenance</title><h1>We are back soon</h1>"
    return lambda request: request.give(status, page, "text/html; charset=utf-8")


def invalid_json(request: Request) -> None:
    """Answer with half of something."""
    request.give(200, b'{"result": {"user": "mallory", ')


def endless(request: Request) -> None:
    """Answer with 100 MB, and say so."""
    _pour(request, announced=True)


def endless_unannounced(request: Request) -> None:
    """Answer with 100 MB without saying how much it is."""
    _pour(request, announced=False)


def _pour(request: Request, *, announced: bool) -> None:
    request.close_connection = True
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Connection", "close")
    if announced:
        request.send_header("Content-Length", str(100 * len(MEGABYTE)))
    request.end_headers()
    for _ in range(100):
        request.wfile.write(MEGABYTE)


PEOPLE: Mapping[str, Answer] = {
    "alice-token": user("alice", "news", info={"name": "Alice"}),
    "alice-second-token": user("alice", "news"),
    "bob-token": user("bob", "news"),
    "logout-token": user("alice", "news"),
    "carol-token": user("carol"),
    "kicked-token": user("kicked", "news"),
    "refused-token": says({"error": {"code": 101, "message": "unauthorized"}}),
}
"""Who is let in where nothing else is said."""
