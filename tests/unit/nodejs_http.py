"""A server of the nodejs module's routes in memory: requests as bytes, and pages as clients."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, cast

from twisted.internet.defer import Deferred

from tests.unit.node.support import KEY, Tab, World, sign
from tests.unit.request_support import Answer, CmsPort
from twisted_push.backend.api import Api
from twisted_push.backend.keys import Rates
from twisted_push.backend.nodejs import NodejsRoutes
from twisted_push.config import KeyConfig
from twisted_push.interfaces import ICodec
from twisted_push.model import ClientRequest
from twisted_push.protocols.centrifugal import CentrifugalCodec
from twisted_push.protocols.nodejs import NodejsCodec

LIMIT = 10_000
READER = "the-key-of-a-reader-0123"
PUBLISHER = "the-key-of-a-publisher-0"
TOKEN = "2f29f07c3cdabfe464232f244e2ab32b"
DONE = {"status": "success"}
PAGE_1 = {"channel": "page_1", "token": "token-1", "notifyOnDisconnect": True}
MISSING = {"error": "Required parameters are missing."}


class Http(CmsPort):
    """The routes of some sites, mounted at ``/nodejs`` and at a longer path."""

    def __init__(self, *worlds: World, fast: bool = False) -> None:
        nodes, clock = [world.node for world in worlds], worlds[0].clock
        self.routes = NodejsRoutes(nodes, clock, Rates())
        leaves = {
            **dict.fromkeys(("nodejs", "push/drupal"), self.routes),
            "api": Api(nodes, clock, Rates()),
        }
        super().__init__(worlds, leaves, LIMIT, fast=fast)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = KEY,
        typed: bool = True,
        base: str = "/nodejs/",
    ) -> Answer:
        sent = b"" if body is None else body if isinstance(body, bytes) else _json(body)
        lines = [
            f"{method} {base}{path} HTTP/1.1",
            "Host: push.test",
            f"Content-Length: {len(sent)}",
        ]
        if typed:
            lines.append("Content-Type: application/json")
        if key is not None:
            lines.append(f"NodejsServiceKey: {key}")
        return self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + sent)

    def post(self, path: str, body: Any = None, **how: Any) -> Any:
        """Post; give the JSON of an answer with status 200."""
        answer = self.ask("POST", path, body, **how)
        assert answer.status == 200, answer
        assert answer.headers["content-type"] == "application/json"
        return answer.json

    def get(self, path: str, **how: Any) -> Any:
        answer = self.ask("GET", path, **how)
        assert answer.status == 200, answer
        assert answer.headers["content-type"] == "application/json"
        return answer.json


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


class Page(Tab):
    """A client that is told of messages as the module's pages are, and connects as others do."""

    def __init__(self, world: World) -> None:
        native = world.codec
        world.codec = cast("CentrifugalCodec", PAGES)
        super().__init__(world)
        world.codec = native

    @property
    def messages(self) -> list[Any]:
        events = (frame for frame in self.transport.sent if frame.startswith(b"2["))
        return [json.loads(frame[1:])[1] for frame in events]


PAGES: ICodec = NodejsCodec(bytes, None)


def page(world: World, user: str, transport: str = "websocket") -> Page:
    """Give a page of a user that is let in."""
    tab = Page(world)
    tab.transport.request = ClientRequest(transport, "192.0.2.1")
    tab.send("connect", token=sign(sub=user))
    return tab


def token_tab(world: World, token: str, answer: Any = None) -> Tab:
    """Give a client that came with a token that the CMS was asked about."""
    world.cms.answer = answer or {"result": {"user": "3"}}
    tab = world.tab()
    tab.send("connect", token=token)
    world.cms.agent.flush()
    assert "connect" in tab.everything[0], tab.everything
    tab.new()
    return tab


def joined(world: World, tab: Tab, channel: str, token: str, label: str = "") -> None:
    """Let a client into a content channel."""
    joining = Deferred.fromCoroutine(
        world.node.content.join(tab.session, channel, token, label=label)
    )
    joining.addErrback(lambda failure: failure.raiseException())
    assert joining.called


def make_worlds() -> Iterator[Callable[..., World]]:
    """Make sites; of none may anything be left when its clients are gone."""
    made: list[World] = []

    def make(**options: Any) -> World:
        keys = (
            KeyConfig(key=KEY),
            KeyConfig(id="reader", key=READER, scopes=cast("Any", ["read"])),
            KeyConfig(id="publisher", key=PUBLISHER, scopes=cast("Any", ["publish"])),
        )
        given = {"keys": keys, "user_channel": "nodejs_user_{user}", **options}
        made.append(World(**given))
        Deferred.fromCoroutine(made[-1].node.start())
        return made[-1]

    yield make
    for world in made:
        world.engine.broken.clear()
        ended = Deferred.fromCoroutine(world.end())
        ended.addErrback(lambda failure: failure.raiseException())
        assert ended.called


def failed(error: str) -> Any:
    """Give the answer of a route that did nothing."""
    return {"status": "failed", "error": error}
