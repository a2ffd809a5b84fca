"""One site in memory: its CMS answers when it is told to, and its pages keep what they are sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from tests.fakes import FakeTransport, descriptors
from tests.unit.cms.support import NOW
from tests.unit.node.support import World
from twisted_push.config import Namespace
from twisted_push.dialects.nodejs import NodejsDialect
from twisted_push.interfaces import Buffer
from twisted_push.node.fanout import FanOut
from twisted_push.protocols.centrifugal import CentrifugalCodec
from twisted_push.protocols.nodejs import NodejsCodec
from twisted_push.session import Session

__all__ = ["HeldCms", "NativePage", "NodejsPage", "Page", "Question", "Site", "Timeline", "Told"]

NAMESPACES = (
    Namespace(
        prefix="news:",
        history_size=5,
        recover=True,
        presence=True,
        join_leave=True,
        client_subscribe="anyone",
        client_history=True,
        client_presence=True,
    ),
    Namespace(prefix="open:", client_subscribe="anyone"),
    Namespace(prefix="cms:", client_subscribe="cms"),
    Namespace(prefix="token:", client_subscribe="token", history_size=5, recover=True),
)


@define
class Timeline:
    """What happens, happens one after the other: each thing has a number of its own."""

    now: int = 0

    def tick(self) -> int:
        """Give the number of what happens now."""
        self.now += 1
        return self.now


# --- The CMS ---------------------------------------------------------------------------------


@implementer(IResponse)
class _Response:
    """An answer whose body comes at once."""

    version = (b"HTTP", 1, 1)
    phrase = b"OK"
    request = previousResponse = None  # noqa: N815

    def __init__(self, code: int, body: bytes) -> None:
        self.code = code
        self.headers = Headers({b"Content-Type": [b"application/json"]})
        self.length = len(body)
        self._body = body

    def deliverBody(self, protocol: Protocol) -> None:
        protocol.dataReceived(self._body)
        protocol.connectionLost(Failure(ResponseDone()))

    def setPreviousResponse(self, response: IResponse) -> None:  # noqa: N802
        raise AssertionError("it follows no other")


@define(eq=False)
class Question:
    """What the CMS was asked at ``number``, and has not answered."""

    number: int
    path: str
    said: dict[str, Any]
    answered: Deferred[IResponse]

    def answer(self, answer: object, code: int = 200) -> None:
        self.answered.callback(_Response(code, json.dumps(answer).encode()))


@implementer(IConsumer)
class _Body:
    """Collects a request's body."""

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes) -> None:
        self.text += data

    def registerProducer(self, producer: object, streaming: bool) -> None:
        raise AssertionError("bodies are written at once")

    def unregisterProducer(self) -> None:
        raise AssertionError("bodies are written at once")


@implementer(IAgent)
class HeldCms:
    """Holds every question until somebody answers it, in whatever order.

    What it is told of who is online it takes at once.
    """

    def __init__(self) -> None:
        self.agent = self
        self.timeline = Timeline()
        self.open: list[Question] = []

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        body = _Body()
        assert bodyProducer is not None
        bodyProducer.startProducing(body)
        text = body.text.decode()
        said = json.loads(parse_qs(text)["messageJson"][0] if "messageJson=" in text else text)
        if said.get("messageType") in ("userOnline", "userOffline"):
            return succeed(_Response(200, b"{}"))
        answered: Deferred[IResponse] = Deferred(lambda _: self.open.remove(question))
        path = uri.decode().rpartition("/")[2]
        question = Question(self.timeline.tick(), path, said, answered)
        self.open.append(question)
        return answered

    def take(self, index: int) -> Question:
        """Give one of the open questions, which is answered now."""
        return self.open.pop(index)


# --- Pages -----------------------------------------------------------------------------------


@define
class Told:
    """One thing that a page was sent: of which channels, with which numbers of publications.

    ``kind``: ``connect`` and ``refresh`` for the answers, ``ended`` for a channel that was taken,
    ``error``, ``other``, and ``channel`` for all that is of a channel.
    """

    at: int
    kind: str
    channels: set[str] = field(factory=set)
    numbers: list[Any] = field(factory=list)
    what: Any = None


class _Socket:
    """Takes what is written past the transport."""

    def __init__(self, sent: Callable[[bytes], None]) -> None:
        self._sent = sent

    def send(self, frame: bytes) -> int:
        self._sent(frame)
        return len(frame)


class _Wire(FakeTransport):
    """Hands each frame on as it goes out.

    With ``polled`` the session stops after each one; else, with ``direct``, frames may go past it.
    """

    def __init__(self, sent: Callable[[bytes], None], polled: bool, direct: bool) -> None:
        super().__init__()
        self._sent = sent
        self._polled = polled
        if direct and not polled:
            self._socket = _Socket(sent)
            self.descriptor = descriptors.new(self._socket)

    def send(self, frame: Buffer) -> None:
        if self.closed_with is None and not self.aborted:
            self._sent(bytes(frame))
        if self._polled and self.receiver is not None:
            self.receiver.pause()


class Page:
    """A client. ``told`` is what it was sent; ``asked`` what it sent, by number."""

    def __init__(
        self,
        site: Site,
        codec: Any,
        dialect: Any,
        token: str,
        *,
        polled: bool,
        direct: bool = False,
    ) -> None:
        self.site = site
        self.token = token
        self.tokens = {token}
        self.told: list[Told] = []
        self.gone = False
        self.refreshing = 0
        self.transport = _Wire(self._take, polled, direct)
        self.session: Session = site.node.accept(self.transport, codec, dialect)
        self.transport.receiver = self.session

    @property
    def open(self) -> bool:
        wire = self.transport
        return not (self.gone or wire.aborted) and wire.closed_with is None

    @property
    def connect_reply(self) -> Told | None:
        return next((told for told in self.told if told.kind == "connect"), None)

    def connect(self, since: dict[str, Any]) -> None:
        raise NotImplementedError

    def subscribe(self, channel: str, token: str) -> None:
        raise NotImplementedError

    def leave(self) -> None:
        self.gone = True
        self.session.lost()

    def _take(self, frame: bytes) -> None:
        at = self.site.timeline.tick()
        for line in frame.decode().splitlines():
            told = self._read(at, line)
            self.told.append(told)
            self.site.sent(self, told)

    def _read(self, at: int, line: str) -> Told:
        raise NotImplementedError


class NativePage(Page):
    def __init__(self, site: Site, token: str, polled: bool = False, direct: bool = False) -> None:
        super().__init__(site, site.native_codec, site.dialect, token, polled=polled, direct=direct)
        self.asked: dict[int, tuple[str, dict[str, Any]]] = {}

    def send(self, method: str, /, **params: Any) -> int:
        number = len(self.asked) + 1
        self.asked[number] = (method, params)
        self.session.received(json.dumps({"id": number, method: params}).encode())
        return number

    def connect(self, since: dict[str, Any]) -> None:
        self.send("connect", token=self.token, subs=since)

    def subscribe(self, channel: str, token: str) -> None:
        self.send("subscribe", channel=channel, token=token)

    def _read(self, at: int, line: str) -> Told:
        message = json.loads(line)
        if "push" in message:
            return self._read_push(at, message["push"])
        if "id" not in message:
            return Told(at, "other")
        method, params = self.asked[message["id"]]
        if "error" in message:
            return Told(at, "error", {params.get("channel", "")}, what=(method, message["id"]))
        result = message[method]
        if method == "connect":
            subs = result.get("subs", {})
            with_data = {name for name, sub in subs.items() if sub.get("publications")}
            numbers = _numbers(
                each for sub in subs.values() for each in sub.get("publications", [])
            )
            return Told(at, "connect", with_data, numbers, set(subs))
        if method in ("subscribe", "history", "presence", "presence_stats"):
            numbers = _numbers(result.get("publications", []))
            return Told(at, "channel", {params["channel"]}, numbers, what=method)
        if method == "unsubscribe":
            return Told(at, "ended", {params["channel"]})
        return Told(at, "refresh" if method == "refresh" else "other", what=params)

    def _read_push(self, at: int, push: dict[str, Any]) -> Told:
        channel = {push["channel"]} if "channel" in push else set()
        if "unsubscribe" in push:
            return Told(at, "ended", channel)
        numbers = _numbers([push["pub"]] if "pub" in push else [])
        what = next(kind for kind in push if kind != "channel")
        return Told(at, "channel" if channel else "other", channel, numbers, what)


class NodejsPage(Page):
    def __init__(self, site: Site, token: str, revision: int, polled: bool = False) -> None:
        dialect = site.pages[revision]
        super().__init__(site, site.nodejs_codec, dialect, token, polled=polled)
        dialect.opened(self.session)
        self._content: dict[str, str] = {}
        if revision == 5:
            self.session.received(b"0")

    def emit(self, event: str, **fields: Any) -> None:
        self.session.received(f"2{json.dumps([event, fields])}".encode())

    def connect(self, since: dict[str, Any]) -> None:
        self.emit("authenticate", authToken=self.token, contentTokens=self._content)

    def subscribe(self, channel: str, token: str) -> None:
        self.emit("join-token-channel", channel=channel, contentToken=token)

    def with_content(self, tokens: dict[str, str]) -> None:
        """Have it bring content tokens when it connects."""
        self._content = tokens

    def _read(self, at: int, line: str) -> Told:
        if not line.startswith("2"):
            return Told(at, "other")
        message = json.loads(line[1:])[1]
        if message.get("callback") == "clientAuthenticated":
            data = message["data"]
            channels = {*data["channels"], *data.get("contentTokens", {})}
            return Told(at, "connect", set(), what=channels)
        if message.get("callback") == "clientJoinedTokenChannel":
            return Told(at, "channel", {message["data"]["channel"]}, [], "join")
        if "channel" in message:
            return Told(at, "channel", {message["channel"]}, _numbers([message]), "pub")
        return Told(at, "other")


def _numbers(publications: Iterable[dict[str, Any]]) -> list[int]:
    """Give the numbers of the test's own publications: others are notices of content channels."""
    return [each["data"] for each in publications if isinstance(each.get("data"), int)]


# --- The site --------------------------------------------------------------------------------


class _PassingTime(Clock):
    """Time passes whenever somebody looks: so work that is done in slices is, here too."""

    def seconds(self) -> float:
        self.rightNow += 0.0002
        return self.rightNow


def _make_clock() -> Clock:
    clock = _PassingTime()
    clock.advance(NOW)
    return clock


class Site(World):
    """A node whose CMS is a `HeldCms`, asked in either dialect; for pages of both dialects.

    ``renewal``: where it is asked whether a grant still holds, if not by the question of the
    beginning.
    Its fan-out never serves more than one client at a time.
    """

    cms: Any
    make_clock = staticmethod(_make_clock)

    def __init__(self, dialect: str, sent: Callable[[Page, Told], None], renewal: str = "") -> None:
        self.cms_class = HeldCms  # type: ignore[assignment]
        urls = {"subscribe_url": "http://cms.test/subscribe"} if dialect == "connect" else {}
        if urls and renewal:
            urls["refresh_url"] = f"http://cms.test/{renewal}"
        super().__init__(
            callback={
                "url": "http://cms.test/connect",
                "dialect": dialect,
                "serve_stale": 0.0,
                **urls,
            },
            namespaces=NAMESPACES,
            limits={"ping_interval": 1e9, "max_commands_per_second": 0},
            user_channel="user:{user}",
        )
        self.callback_dialect = dialect
        self.sent = sent
        self.timeline: Timeline = self.cms.timeline
        self.native_codec = CentrifugalCodec(_line)
        self.nodejs_codec = NodejsCodec(_line, None)
        self.node.channels.fan_out = FanOut(
            self.context.share, self.context.wires, at_once=0, step=1
        )
        self.pages = {revision: NodejsDialect(self.node, revision) for revision in (4, 5)}


def _line(message: bytes) -> bytes:
    return message + b"\n"
