"""Drives the demo CMS in memory: a visitor with a cookie, and a push server that takes notes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlencode

import attrs
import treq
from treq.testing import RequestTraversalAgent
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from twisted_push.demo.site import make_demo_site

ORIGIN = "http://localhost:8090"
NOW = 1_700_000_000.25
KEY = "the-service-key"


POSITIONS = {"article:1": {"offset": 3, "epoch": "xyz"}}


class FakePushServer(Resource):
    """Takes down what it is told, and answers as it is told to.

    What the pages need to be rendered, and the lines of the site's log, stand apart from the other
    calls, which are what somebody did.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, Any]] = []
        self.asked: list[Any] = []
        """The channels whose positions were asked for."""

        self.log: list[Any] = []
        """What was published in the channel of the log."""

        self.headers: list[Headers] = []
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.will_answer("position", {"result": {"positions": POSITIONS}})

    def render(self, request: Request) -> bytes:
        assert request.content is not None
        assert request.method == b"POST"
        path = request.path.decode("ascii")
        assert path.startswith("/api/")
        method = path.removeprefix("/api/")
        body = json.loads(request.content.read())
        if method == "position":
            self.asked.append(body["channels"])
        elif method == "publish" and body["channel"] == "watchdog":
            self.log.append(body["data"])
        else:
            self.calls.append((method, body))
            self.headers.append(request.requestHeaders)
        status, body = self.answers.get(method, (200, b'{"result": {}}'))
        request.setResponseCode(status)
        return body

    def will_answer(self, method: str, document: object, status: int = 200) -> None:
        self.answers[method] = (status, json.dumps(document).encode("utf-8"))


@implementer(IAgent)
class Road:
    """The way from the CMS to the push server; it can be closed or endless."""

    def __init__(self, server: FakePushServer) -> None:
        self._agent = RequestTraversalAgent(server)
        self.state = "open"
        self.waiting = 0
        """Requests that came while it was endless."""

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        if self.state == "closed":
            return fail(ConnectionRefusedError())
        if self.state == "endless":
            self.waiting += 1
            return Deferred()
        return cast("Deferred[IResponse]", self._agent.request(method, uri, headers, bodyProducer))


@attrs.frozen
class Page:
    """What a visitor got."""

    status: int
    headers: Headers
    text: str

    def header(self, name: str) -> str | None:
        values = self.headers.getRawHeaders(name) or []
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        assert self.header("Content-Type") == "application/json"
        return json.loads(self.text)

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', self.text)
        assert found is not None
        return found[1]

    @property
    def token(self) -> str:
        found = re.search(r'data-push-token="([^"]*)"', self.text)
        assert found is not None
        return found[1]

    @property
    def set_cookie(self) -> str:
        cookie = self.header("Set-Cookie")
        assert cookie is not None
        return cookie


@implementer(IBodyProducer)
class Body:
    """A request body that is sent at once."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None: ...
    def resumeProducing(self) -> None: ...
    def stopProducing(self) -> None: ...


class Visitor:
    """A browser with one cookie."""

    def __init__(self, http: RequestTraversalAgent) -> None:
        self.http = http
        self.cookie = ""
        self.csrf = ""

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Page:
        sent = {"Cookie": f"twisted_push_demo={self.cookie}"} if self.cookie else {}
        sent.update(headers or {})
        url = path if path.startswith("http") else ORIGIN + path
        response = await self.http.request(
            method.encode("ascii"),
            url.encode("ascii"),
            Headers({name: [value] for name, value in sent.items()}),
            Body(body) if body else None,
        )
        text = (await treq.content(response)).decode("utf-8")
        page = Page(response.code, response.headers, text)
        if response.headers.hasHeader("Set-Cookie"):
            self.cookie = page.set_cookie.partition(";")[0].partition("=")[2]
        return page

    async def get(self, path: str, **headers: str) -> Page:
        return await self.request("GET", path, headers=headers)

    async def ask_json(self, path: str) -> Page:
        return await self.request("GET", path, headers={"Accept": "application/json"})

    async def post(
        self,
        path: str,
        fields: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
    ) -> Page:
        """Send a form as a page of the CMS would; *headers* and *fields* win over that."""
        form = {"csrf": self.csrf, **fields}
        sent = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": ORIGIN,
            **(headers or {}),
        }
        return await self.request("POST", path, urlencode(form).encode("ascii"), sent)

    async def submit(self, path: str, fields: Mapping[str, str]) -> Page:
        """Send a form as the page's script does."""
        return await self.post(path, fields, {"Accept": "application/json"})

    async def log_in(self, user: str) -> Page:
        """Log in and return the page with the article."""
        self.csrf = (await self.get("/")).csrf
        answer = await self.post("/login", {"user": user})
        assert answer.status == 303, answer.text
        page = await self.get("/")
        self.csrf = page.csrf
        return page


class DemoWorld:
    """A demo CMS, its push server, and as many visitors as wanted."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.push = FakePushServer()
        self.road = Road(self.push)
        self.site: Site = make_demo_site(
            api_url=lambda: "http://push.test:8080/api",
            api_key=KEY,
            push_url=lambda: "http://127.0.0.1:8080",
            agent=self.road,
            clock=self.clock,
        )
        self.http = RequestTraversalAgent(self.site.resource)

    def visitor(self) -> Visitor:
        return Visitor(self.http)

    async def ask_callback(self, question: object, path: str = "/push/connect") -> Page:
        """Ask as the push server does."""
        body = question if isinstance(question, bytes) else json.dumps(question).encode("utf-8")
        return await self.visitor().request(
            "POST", path, body, {"Content-Type": "application/json"}
        )
