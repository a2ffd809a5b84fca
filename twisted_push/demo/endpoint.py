"""The adapter between twisted.web and the plain functions that make up the demo CMS.

A view is an ``async`` function from :class:`Incoming` to :class:`Answer` that raises
:class:`HttpError` for whatever it does not like.  This module knows about bytes, limits and
headers, and the views do not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from io import BytesIO
from typing import Any, cast

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITCPTransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import RESPONSES
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

__all__ = ["MAX_BODY", "Answer", "DemoRequest", "HttpError", "Incoming", "Route", "Router"]

MAX_BODY = 64 * 1024
"""Bytes that a request body may have."""

COOKIE_NAME = "twisted_push_demo"
"""The session cookie.  Cookies do not keep ports apart, so the name is one of our own."""

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")

_log = Logger()


class HttpError(Exception):
    """A request that gets an error page (or its JSON form) instead of an answer.

    :ivar status: an HTTP status, 4xx or 5xx.
    :ivar message: one sentence for the person in front of the page.
    """

    def __init__(self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()):
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.headers = headers


@attrs.frozen(kw_only=True)
class Answer:
    """What a view returns."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, value: object, status: int = 200) -> Answer:
        """Answer with a JSON document."""
        body = json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
        return cls(status=status, body=body, content_type="application/json")

    @classmethod
    def see_other(cls, path: str, *, cookie: str | None = None) -> Answer:
        """Send the browser to another page of ours after a form."""
        headers = (("Location", path), *((("Set-Cookie", cookie),) if cookie else ()))
        return cls(status=303, headers=headers)

    def with_headers(self, *headers: tuple[str, str]) -> Answer:
        """Return this answer with more headers."""
        return attrs.evolve(self, headers=(*self.headers, *headers))


@attrs.frozen(kw_only=True)
class Incoming:
    """One request, read completely."""

    method: str
    path: str
    query: str
    headers: Mapping[str, tuple[str, ...]] = attrs.field(repr=False)
    """By lower-case name; all values of each."""

    cookie: str = attrs.field(default="", repr=False)
    """The value of the session cookie, or ``""``."""

    body: bytes = attrs.field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        """Return a header that may be given once.

        :raises HttpError: 400, if it came more than once.
        """
        values = self.headers.get(name.lower(), ())
        if len(values) > 1:
            raise HttpError(400, f"The header {name} was sent more than once.")
        return values[0] if values else None

    @property
    def content_type(self) -> str:
        """The media type of the body, in lower case, without parameters."""
        return (self.header("Content-Type") or "").partition(";")[0].strip().lower()

    @property
    def wants_json(self) -> bool:
        """Whether a script of ours asks, rather than a form or a link."""
        return any("application/json" in value for value in self.headers.get("accept", ()))


View = Callable[[Incoming], Coroutine[Any, Any, Answer]]
ErrorView = Callable[[HttpError, Incoming], Answer]


@attrs.frozen
class Route:
    """What answers at one path."""

    views: Mapping[str, View]
    """By method; ``HEAD`` is answered by ``GET``."""

    any_host: bool = False
    """Whether the Host header may say anything: only where nothing depends on a cookie."""


class DemoRequest(Request):
    """A request that never holds more than :data:`MAX_BODY` of its body.

    What is beyond is thrown away and answered with 413; who goes on sending is cut off.
    """

    _received = 0

    def gotLength(self, length: int | None) -> None:
        self._kept = BytesIO()
        self.content = self._kept

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received <= MAX_BODY:
            self._kept.write(data)
        elif self._received <= 16 * MAX_BODY:
            # One byte too many is enough for the router to see.
            self._kept.seek(0)
            self._kept.truncate()
            self._kept.write(bytes(MAX_BODY + 1))
        else:
            cast("ITCPTransport", self.transport).abortConnection()


class Router(Resource):
    """Finds the route of a request, runs its view, and writes the answer."""

    isLeaf = True

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        on_error: ErrorView,
        common_headers: Callable[[], tuple[tuple[str, str], ...]],
        host_names: tuple[str, ...] = LOOPBACK_NAMES,
    ) -> None:
        super().__init__()
        self._routes = routes
        self._on_error = on_error
        self._common_headers = common_headers
        self._host_names = host_names

    def render(self, request: Request) -> int:
        incoming = _incoming(request)
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        answering = Deferred.fromCoroutine(self._answer(request, incoming))
        answering.addCallback(self._write, request, incoming, gone)
        answering.addErrback(self._broken, request, gone)
        return NOT_DONE_YET

    async def _answer(self, request: Request, incoming: Incoming) -> Answer:
        try:
            content = _body(request)
            route = self._routes.get(incoming.path)
            if route is None:
                raise HttpError(404, "There is no such page.")
            if not route.any_host:
                self._check_host(incoming)
            method = "GET" if incoming.method == "HEAD" else incoming.method
            view = route.views.get(method)
            if view is None:
                allowed = ", ".join(sorted({*route.views, *(["HEAD"] * ("GET" in route.views))}))
                raise HttpError(
                    405, f"This address takes {allowed} only.", headers=(("Allow", allowed),)
                )
            return await view(attrs.evolve(incoming, body=content))
        except HttpError as error:
            return self._on_error(error, incoming).with_headers(*error.headers)

    def _check_host(self, incoming: Incoming) -> None:
        """Refuse a foreign name that was made to resolve to this machine (DNS rebinding)."""
        host = (incoming.header("Host") or "").lower()
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        if name not in self._host_names:
            raise HttpError(421, "This demo answers on names of the local machine only.")

    def _write(
        self, answer: Answer, request: Request, incoming: Incoming, gone: list[Failure]
    ) -> None:
        if gone:
            return
        request.setResponseCode(answer.status, RESPONSES.get(answer.status, b"Refused"))
        own = {name.lower() for name, _ in answer.headers}
        for name, value in self._common_headers():
            if name.lower() not in own:
                request.setHeader(name.encode("ascii"), value.encode("ascii"))
        for name, value in answer.headers:
            request.responseHeaders.addRawHeader(name.encode("ascii"), value.encode("ascii"))
        if answer.status != 304:
            request.setHeader(b"Content-Type", answer.content_type.encode("ascii"))
            request.setHeader(b"Content-Length", b"%d" % len(answer.body))
        if answer.status == 413:
            request.setHeader(b"Connection", b"close")
        request.write(b"" if incoming.method == "HEAD" else answer.body)
        request.finish()

    def _broken(self, failure: Failure, request: Request, gone: list[Failure]) -> None:
        _log.failure("the demo CMS could not answer", failure)
        if not gone and not request.startedWriting:
            request.setResponseCode(500)
            request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
            request.write(b"Something went wrong; the log says what.\n")
            request.finish()


def _incoming(request: Request) -> Incoming:
    headers: dict[str, tuple[str, ...]] = {}
    for name, values in request.requestHeaders.getAllRawHeaders():
        headers[name.decode("latin-1").lower()] = tuple(v.decode("latin-1") for v in values)
    path, _, query = request.uri.decode("latin-1").partition("?")
    return Incoming(
        method=request.method.decode("latin-1"),
        path=path,
        query=query,
        headers=headers,
        cookie=(request.getCookie(COOKIE_NAME.encode("ascii")) or b"").decode("latin-1"),
    )


def _body(request: Request) -> bytes:
    content = request.content
    if content is None:
        return b""
    content.seek(0)
    body: bytes = content.read(MAX_BODY + 1)
    if len(body) > MAX_BODY:
        raise HttpError(413, "That is too long: a request may have 64 KiB.")
    return body
