"""A site in memory for the tests of the node: a clock, an engine that can be held up, tabs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import jwt
from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.interface import Method

from tests.fakes import FakeTransport, descriptors
from tests.unit.cms.support import NOW, MemoryCms, clock_at
from twisted_push.cms.gate import make_gate
from twisted_push.config import CallbackConfig, KeyConfig, Limits, Namespace, SiteConfig, SiteLimits
from twisted_push.dialects.centrifugal import CentrifugalDialect
from twisted_push.engines.memory import MemoryEngine
from twisted_push.errors import EngineUnavailable
from twisted_push.interfaces import IEngine
from twisted_push.node.context import Context
from twisted_push.node.node import Node
from twisted_push.policy import Policy
from twisted_push.protocols.centrifugal import CentrifugalCodec
from twisted_push.session import Session
from twisted_push.stats import SiteStats
from twisted_push.wheel import Wheel
from twisted_push.wires import Wires

SECRET = "a-secret-of-the-site-with-32-bytes"
KEY = "service-key-0123456789"
BROADCAST = "broadcast"

NAMESPACES = (
    Namespace(prefix="open:", client_subscribe="anyone", client_publish="subscriber"),
    Namespace(
        prefix="news:", client_subscribe="anyone", history_size=10, recover=True, presence=True
    ),
    Namespace(prefix="log:", client_subscribe="anyone", history_size=10),
    Namespace(prefix="token:", client_subscribe="token"),
    Namespace(prefix="wall:", client_publish="anyone"),
    Namespace(
        prefix="room:",
        client_subscribe="anyone",
        presence=True,
        client_presence=True,
        join_leave=True,
    ),
)


@define
class Held:
    """One call that waits: `release` answers it."""

    name: str
    _gate: Deferred[None] = field(factory=Deferred)

    def release(self) -> None:
        self._gate.callback(None)


@implementer(IEngine)
class SlowEngine:
    """The memory engine, whose answers can be held up and whose calls can be made to fail.

    A method in ``hold`` does its work at once and its answer waits; one in ``hold_work`` waits
    before its work. A method in ``broken`` fails.
    """

    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.hold: set[str] = set()
        self.hold_work: set[str] = set()
        self.broken: dict[str, EngineUnavailable] = {}
        self.held: list[Held] = []
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        if not isinstance(IEngine.get(name), Method):
            raise AttributeError(name)

        def call(*given: Any) -> Deferred[Any]:
            return self._call(name, given)

        return call

    def _call(self, name: str, given: tuple[Any, ...]) -> Deferred[Any]:
        self.calls.append((name, *given))
        if name in self.broken:
            return fail(self.broken[name])
        if name in self.hold_work:
            self.held.append(held := Held(name))
            return held._gate.addCallback(lambda _: getattr(self.engine, name)(*given))
        doing: Deferred[Any] = getattr(self.engine, name)(*given)
        if name not in self.hold:
            return doing
        self.held.append(held := Held(name))
        return held._gate.addCallback(lambda _: doing)

    def release(self) -> None:
        """Answer the oldest call that waits."""
        self.held.pop(0).release()

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """Give what a method was called with."""
        return [call[1:] for call in self.calls if call[0] == name]


class Tab:
    """One client: what it sends, and what it was sent, as JSON."""

    def __init__(self, world: World) -> None:
        self.transport = FakeTransport()
        self.session: Session = world.node.accept(self.transport, world.codec, world.dialect)
        self.transport.receiver = self.session
        self._number = 0
        self._seen = 0

    def send(self, method: str, /, **params: Any) -> int:
        """Send a command; give its id."""
        self._number += 1
        self.raw(json.dumps({"id": self._number, method: params}))
        return self._number

    def raw(self, text: str) -> None:
        self.session.received(text.encode())

    def ask(self, method: str, /, **params: Any) -> dict[str, Any]:
        """Send a command and give its reply, the last thing that was sent by now."""
        number = self.send(method, **params)
        [reply] = [each for each in self.everything if each.get("id") == number]
        return reply

    @property
    def everything(self) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in self.transport.sent]

    def new(self) -> list[dict[str, Any]]:
        """Give what was sent since the last time."""
        found = self.everything[self._seen :]
        self._seen += len(found)
        return found

    @property
    def code(self) -> int | None:
        """The close code; None while open."""
        closed = self.transport.closed_with
        return closed.code if closed else None

    def published(self, channel: str = "") -> list[Any]:
        """Give the data of the publications that were pushed, of one channel or all."""
        return [
            push["push"]["pub"]["data"]
            for push in self.everything
            if "pub" in push.get("push", {}) and channel in ("", push["push"]["channel"])
        ]

    def leave(self) -> None:
        self.session.lost()


class World:
    """One site. ``callback`` is whether there is a CMS to ask, or how it is asked."""

    cms_class: type[MemoryCms] = MemoryCms
    make_clock: Callable[[], Clock] = staticmethod(clock_at)
    make_engine: Callable[[Clock], MemoryEngine] = staticmethod(MemoryEngine)

    def __init__(
        self,
        *,
        callback: bool | Mapping[str, Any] = False,
        namespaces: tuple[Namespace, ...] = NAMESPACES,
        limits: Mapping[str, Any] | None = None,
        site_limits: SiteLimits | None = None,
        **site: Any,
    ) -> None:
        self.clock: Clock = self.make_clock()
        self.memory = self.make_engine(self.clock)
        self.engine = SlowEngine(self.memory)
        self.stats = SiteStats()
        self.cms = self.cms_class()
        given: dict[str, Any] = {
            "name": "default",
            "anonymous": not callback,
            "token_secret": SECRET,
            "keys": (KeyConfig(key=KEY),),
            "namespaces": namespaces,
            "limits": site_limits or SiteLimits(),
            **site,
        }
        if callback:
            asking: dict[str, Any] = {
                "url": "http://cms.test/push",
                "dialect": "connect",
                "service_key": KEY,
                **({} if isinstance(callback, bool) else callback),
            }
            given["callback"] = CallbackConfig(**asking)
        self.site = SiteConfig(**given)
        self.limits = Limits(**(limits or {}))
        engine = cast("IEngine", self.engine)
        gate = make_gate(self.site, engine, self.clock, self.stats, self.cms.agent)
        self.context = Context(
            self.site.name,
            Policy(self.site, self.limits),
            engine,
            gate,
            self.clock,
            self.stats,
            wires=Wires(descriptors.write),
        )
        self.node = Node(self.context)
        self.dialect = CentrifugalDialect(self.node)
        self.codec = CentrifugalCodec(bytes)

    async def start(self) -> World:
        await self.node.start()
        return self

    def advance(self, seconds: float) -> None:
        """Let time pass, in steps that no timer is lost in."""
        for _ in range(int(seconds / 0.25)):
            self.clock.advance(0.25)

    def tab(self) -> Tab:
        return Tab(self)

    def connected(self, **params: Any) -> Tab:
        """Give a client that is let in."""
        tab = self.tab()
        reply = tab.ask("connect", **params)
        assert "connect" in reply, reply
        tab.new()
        return tab

    def user(self, user: str, **claims: Any) -> Tab:
        return self.connected(token=sign(sub=user, **claims))

    async def publish(self, channel: str, data: Any, **options: Any) -> Any:
        return await self.node.backend.publish(channel, json.dumps(data).encode(), **options)

    def leftovers(self) -> dict[str, Any]:
        """Give every table that is not empty: none, some seconds after the last client left."""
        owners = {
            "hub": self.context.hub,
            "channels": self.node.channels,
            "interests": self.node.channels.interests,
            "presence": self.node.channels.presence,
            "node": self.node,
            "content": self.node.content,
            "online": self.node.online,
            "arbiter": self.node.arbiter,
            "renewals": self.node.renewals,
        }
        if (line := self.context.gate.hook._line) is not None:
            owners["hook"] = line.reports
        if self.context.gate.reports is not None:
            owners["reports"] = self.context.gate.reports
        return {
            f"{owner}.{name}": value
            for owner, each in owners.items()
            for name, value in vars(each).items()
            if isinstance(value, dict | set | list | Wheel) and value
        }

    async def end(self) -> None:
        """Have everybody leave, and nothing be left."""
        for session in tuple(self.node.sessions):
            session.lost()
        self.advance(11)
        assert self.leftovers() == {}
        self.clock.advance(self.site.content_token_ttl + 0.25)
        assert self.leftovers() == {}
        await self.node.stop()
        assert self.clock.getDelayedCalls() == []


def sign(**claims: Any) -> str:
    return jwt.encode({"iat": NOW, **claims}, SECRET, algorithm="HS256")
