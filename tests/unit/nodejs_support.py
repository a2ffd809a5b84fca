"""A site whose CMS is Drupal with the nodejs module, and its tabs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qs

import pytest_twisted
from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.web.server import Request

from tests.fakes import FakeTransport
from tests.unit.cms.support import MemoryCms
from tests.unit.node.support import BROADCAST, KEY, World
from twisted_push.dialects.nodejs import NodejsDialect
from twisted_push.protocols.nodejs import NodejsCodec
from twisted_push.session import Session

__all__ = [
    "BROADCAST",
    "KEY",
    "MESSAGES",
    "PASSWORD_HASH",
    "SUCCESS",
    "ConnectWorld",
    "Drupal",
    "NodejsTab",
    "NodejsWorld",
    "Sent",
    "errors",
    "make_world",
    "register",
    "run",
]

MESSAGES = {"client_messages": True}
SUCCESS = {"result": "success"}
PASSWORD_HASH = "$S$DTEcQEJc2P9Tu7J09nUFsFpILSL83rjunpeUFGof8k5RXneSaDi6"
REPORTS = ("userOnline", "userOffline")


class Drupal(MemoryCms):
    """Answers as Drupal 7 with the module does: with the account, the service key, and all.

    ``accounts`` are its answers by token; it knows no other. ``replies`` are its answers to other
    messages by type. While it is ``holding``, it answers when it is told to `release`. ``said``
    is what it was asked; reports of who is online are in ``reports``, and answered at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[str, Mapping[str, Any]] = {}
        self.replies: dict[str, object] = {}
        self.holding = False
        self.said: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self._held: list[dict[str, Any]] = []

    def account(self, uid: str, *channels: str, token: str = "", **fields: Any) -> str:
        """Make an account; give its token."""
        token = token or f"token-of-{uid}"
        self.accounts[token] = {
            "uid": 0 if uid == "0" else uid,
            "pass": PASSWORD_HASH,
            "mail": f"user{uid}@example.com",
            "roles": {"2": "authenticated user"},
            "authToken": token,
            "nodejsValidAuthToken": True,
            "clientId": "another-client",
            "channels": list(channels),
            "presenceUids": [],
            "serviceKey": KEY,
            "contentTokens": [],
            **fields,
        }
        return token

    def render_POST(self, request: Request) -> bytes | int:
        assert request.content is not None
        [message] = parse_qs(request.content.read().decode())["messageJson"]
        request.content.seek(0)
        said = json.loads(message)
        if said["messageType"] in REPORTS:
            self.reports.append(said)
            self.answer: object = {"status": "success"}
        else:
            self.said.append(said)
            self.answer = None if self.holding else self._answer_to(said)
            if self.holding:
                self._held.append(said)
        return super().render_POST(request)

    def _answer_to(self, said: Mapping[str, Any]) -> object:
        if said["messageType"] != "authenticate":
            return self.replies.get(said["messageType"], {"error": "Not implemented"})
        refused = {"uid": 0, "authToken": said["authToken"], "nodejsValidAuthToken": False}
        return self.accounts.get(said["authToken"], refused)

    def release(self) -> None:
        """Answer the oldest question that is held."""
        self.reply(self._answer_to(self._held.pop(0)))


@frozen
class Sent:
    """A packet that the server sent: its type, the id of an acknowledgement, its data."""

    type: int
    id: int | None
    data: Any

    @classmethod
    def of(cls, packet: bytes) -> Sent:
        text = packet.decode()
        kind, rest = int(text[0]), text[1:]
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        rest = rest[len(digits) :]
        return cls(kind, int(digits) if digits else None, json.loads(rest) if rest else None)


class NodejsTab:
    """One page: what it sends, and what it was sent."""

    def __init__(self, world: NodejsWorld, revision: int) -> None:
        dialect = world.pages[revision]
        self.transport = FakeTransport()
        self.session: Session = world.node.accept(self.transport, world.frames, dialect)
        self.transport.receiver = self.session
        self._seen = 0
        # What the client library gives as the id of its socket.
        self.socket_id = self.session.secret if revision == 4 else self.session.client
        dialect.opened(self.session)

    def raw(self, packet: str) -> None:
        self.session.received(packet.encode())

    def emit(self, event: str, *args: Any, ack: int | None = None) -> None:
        self.raw(f"2{'' if ack is None else ack}{json.dumps([event, *args])}")

    def authenticate(self, token: str, ack: int | None = None, **fields: Any) -> None:
        self.emit("authenticate", {"authToken": token, **fields}, ack=ack)

    def join(self, channel: str, token: str, ack: int | None = None) -> None:
        self.emit("join-token-channel", {"channel": channel, "contentToken": token}, ack=ack)

    @property
    def packets(self) -> list[str]:
        return [packet.decode() for packet in self.transport.sent]

    @property
    def everything(self) -> list[Sent]:
        return [Sent.of(packet) for packet in self.transport.sent]

    def new(self) -> list[Sent]:
        """Give what was sent since the last time."""
        found = self.everything[self._seen :]
        self._seen += len(found)
        return found

    @property
    def messages(self) -> list[Any]:
        """The objects of all events ``message``."""
        return [sent.data[1] for sent in self.everything if sent.type == 2]

    @property
    def acks(self) -> dict[int, Any]:
        """What was acknowledged, by id."""
        return {sent.id: sent.data[0] for sent in self.everything if sent.type == 3 and sent.id}

    def received(self, channel: str) -> list[Any]:
        """Give the data of the messages of a channel."""
        return [m.get("data") for m in self.messages if m.get("channel") == channel]

    @property
    def authenticated(self) -> Any:
        """What the page was told when it was let in."""
        told = [m for m in self.messages if m.get("callback") == "clientAuthenticated"]
        return told[0]["data"] if told else None

    @property
    def code(self) -> int | None:
        """The close code; None while open."""
        closed = self.transport.closed_with
        return closed.code if closed else None

    @property
    def stays_away(self) -> bool:
        """Whether it was sent a DISCONNECT packet: the client library does not come back."""
        return "1" in self.packets

    def leave(self) -> None:
        self.session.lost()


class NodejsWorld(World):
    """One site with Drupal."""

    cms_class: type[MemoryCms] = Drupal

    def __init__(self, *, callback: Mapping[str, Any] | None = None, **options: Any) -> None:
        super().__init__(callback={"dialect": "nodejs", **(callback or {})}, **options)
        self.pages = {revision: NodejsDialect(self.node, revision) for revision in (4, 5)}
        self.frames = NodejsCodec(bytes, None)

    @property
    def drupal(self) -> Drupal:
        return cast("Drupal", self.cms)

    def page(self, revision: int = 4) -> NodejsTab:
        """Give a page that is connected, but not let in."""
        tab = NodejsTab(self, revision)
        if revision == 5:
            tab.raw("0")
        return tab

    def page_of(self, token: str, **fields: Any) -> NodejsTab:
        """Give a page that is let in."""
        tab = self.page()
        tab.authenticate(token, **fields)
        assert tab.authenticated is not None, tab.packets
        tab.new()
        return tab

    def visitor(self, uid: str, *channels: str, **fields: Any) -> NodejsTab:
        """Give a page of a user who gets these channels."""
        return self.page_of(self.drupal.account(uid, *channels, **fields))


class ConnectWorld(NodejsWorld):
    """A site whose CMS is asked in the dialect ``connect``, which has more answers."""

    cms_class = MemoryCms

    def __init__(self, **options: Any) -> None:
        super().__init__(callback={"dialect": "connect", **MESSAGES}, **options)


@pytest_twisted.async_yield_fixture
async def make_world() -> Any:
    """Make sites; of none may anything be left when its clients are gone."""
    made: list[NodejsWorld] = []

    async def make(kind: type[NodejsWorld] = NodejsWorld, **options: Any) -> NodejsWorld:
        world = kind(**options)
        await world.start()
        made.append(world)
        return world

    yield make
    for world in made:
        world.engine.hold.clear()
        world.engine.hold_work.clear()
        world.engine.broken.clear()
        await world.end()


async def register(world: NodejsWorld, channel: str, token: str, **options: Any) -> str:
    """Register a content token; give it."""
    await world.node.content.register(channel, token, **options)
    return token


def errors(tab: NodejsTab) -> dict[int, str]:
    """What was acknowledged with an error."""
    return {id: ack["error"] for id, ack in tab.acks.items() if ack["result"] == "error"}


def run(doing: Any) -> Any:
    """Give the result of what is done at once."""
    result: list[Any] = []
    failed: list[Any] = []
    Deferred.fromCoroutine(doing).addCallbacks(result.append, failed.append)
    for failure in failed:
        failure.raiseException()
    [value] = result
    return value
