"""What the tests of Engine.IO share: a server in memory, requests to it, and a client of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred

from tests.unit.node.support import World
from tests.unit.websocket_support import CLOSE, TEXT, Browser, Port, masked
from twisted_push.config import Config
from twisted_push.interfaces import ITransport
from twisted_push.model import ConnectRequest
from twisted_push.node.node import Node
from twisted_push.protocols.nodejs import NodejsCodec
from twisted_push.session import Session
from twisted_push.transports.door import Door
from twisted_push.transports.engineio import PING_FRAME, EngineIoEndpoint, message_frame
from twisted_push.transports.engineio.connection import Connection
from twisted_push.transports.engineio.sockets import Probe
from twisted_push.transports.tree import Tree
from twisted_push.web import IDLE_TIMEOUT, GuardedSite

PAGE = "http://push.test:81"


class Greeter:
    """A dialect that greets as Socket.IO does, and keeps what clients send."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.binaries = 0

    def opened(self, session: Session, version: int) -> None:
        if version == 3:
            session.deliver(message_frame(b"0"))

    def received(self, session: Session, payload: bytes) -> None:
        if session.owner.allow(session):
            self.messages.append(payload)

    def received_binary(self, session: Session) -> None:
        if session.owner.allow(session):
            self.binaries += 1


class EngineServer(Port):
    """The public port of some sites, without a port."""

    def __init__(
        self,
        *,
        sites: int = 1,
        max_body: int = 100_000,
        accept: Callable[..., Any] | None = None,
        fast: bool = False,
        **options: Any,
    ) -> None:
        self.fast = fast
        names = [{"hosts": (f"site{n}.test",)} if sites > 1 else {} for n in range(sites)]
        self.worlds = [World(**{**name, **options}) for name in names]
        for world in self.worlds:
            Deferred.fromCoroutine(world.start())
        self.world = self.worlds[0]
        self.clock = self.world.clock
        self.door = Door([world.node for world in self.worlds], Config(limits=self.world.limits))
        self.codecs = {
            3: NodejsCodec(message_frame, None),
            4: NodejsCodec(message_frame, PING_FRAME),
        }
        self.dialect = Greeter()
        self.sessions: list[Session] = []
        self.endpoint = EngineIoEndpoint(self.door, accept or self.accept, self.clock)
        self.tree = Tree()
        self.tree.mount("/socket.io", self.endpoint)
        self.tree.open_at("/socket.io/", self.endpoint)
        self.site = GuardedSite(self.tree.root, self.clock, lambda: max_body)

    def accept(self, node: Node, transport: ITransport, version: int) -> Session:
        session = node.accept(transport, self.codecs[version], self.dialect)
        self.sessions.append(session)
        self.dialect.opened(session, version)
        return session

    @property
    def session(self) -> Session:
        """The session that was made last."""
        return self.sessions[-1]

    @property
    def stats(self) -> Any:
        return self.world.stats

    def let_in(self, session: Session | None = None) -> None:
        """Have a client be connected."""
        session = session or self.session
        request = ConnectRequest(session.client, "", session.transport.request)
        Deferred.fromCoroutine(self.world.node.connect(session, request, {}))

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Asked:
        return Asked(self, method, target, body, headers)

    def browser(self, **headers: str) -> Browser:
        """Give a browser that is about to open a WebSocket."""
        return Browser(self, **headers)

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds / 0.25)):
            self.clock.advance(0.25)

    def timers(self) -> int:
        """Give the number of timers of single clients that run, but for those of HTTP."""
        calls: Any = self.clock.getDelayedCalls()
        owners = (getattr(call.func, "__self__", None) for call in calls)
        return sum(isinstance(owner, Connection | Probe) for owner in owners)

    def end(self) -> None:
        """Have everybody leave, and nothing be left."""
        for connection in tuple(self.endpoint._connections.values()):
            connection.abort()
        self.advance(11)  # Closing handshakes that are not answered.
        self.clock.advance(IDLE_TIMEOUT)
        assert self.door.connections == 0
        assert not self.door.room._by_address
        assert self.endpoint._connections == {}
        for world in self.worlds:
            assert world.node.sessions == set()
            ended = Deferred.fromCoroutine(world.end())
            ended.addErrback(lambda failure: failure.raiseException())
            assert ended.called


class Asked:
    """One request on a connection of its own, and its answer when there is one."""

    def __init__(
        self, server: EngineServer, method: str, target: str, body: bytes, headers: dict[str, str]
    ) -> None:
        self.wire: Any = server.connect(headers.pop("peer", "192.0.2.1"))
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"Host": "push.test", **given}
        if method == "POST":
            given["Content-Length"] = str(len(body))
        lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in given.items())]
        self.wire.protocol.dataReceived("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    @property
    def answered(self) -> bool:
        return bool(self.wire.value())

    @property
    def status(self) -> int:
        return int(self.wire.value().split()[1])

    @property
    def headers(self) -> dict[str, str]:
        """The headers by small name; one that comes twice is a fault."""
        lines = self.wire.value().partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        pairs = [line.split(": ", 1) for line in lines]
        assert len({name.lower() for name, _ in pairs}) == len(pairs)
        return {name.lower(): value for name, value in pairs}

    @property
    def body(self) -> bytes:
        found: bytes = self.wire.value().partition(b"\r\n\r\n")[2]
        return found

    @property
    def error(self) -> tuple[int, int]:
        """The status, and the code of the body."""
        assert self.headers["content-type"] == "application/json"
        return self.status, json.loads(self.body)["code"]


def read_payload(body: bytes, version: int) -> list[bytes]:
    """Give the packets of an answer: a reader of its own, for the lengths of version 3."""
    text, found = body.decode("utf-8"), []
    if version == 4:
        return body.split(b"\x1e")
    while text:
        length, _, text = text.partition(":")
        units, left = text.encode("utf-16-le"), 2 * int(length)
        found.append(units[:left].decode("utf-16-le").encode("utf-8"))
        text = units[left:].decode("utf-16-le")
    return found


class Client:
    """A client of a server: what it asks, and what it is told."""

    def __init__(self, server: EngineServer, version: int = 3, **headers: str) -> None:
        self.server = server
        self.version = version
        self.headers = headers
        self.sid = ""
        self.poll_: Asked | None = None
        self.socket: Browser | None = None

    def target(self, transport: str = "polling") -> str:
        sid = f"&sid={self.sid}" if self.sid else ""
        return f"/socket.io/?EIO={self.version}&transport={transport}&t=Q89F1sg{sid}"

    def get(self) -> Asked:
        return Asked(self.server, "GET", self.target(), b"", dict(self.headers))

    def open(self) -> list[bytes]:
        """Shake hands by polling; give the packets after the first."""
        packets = self.packets(self.get())
        return self._opened(packets)

    def _opened(self, packets: list[bytes]) -> list[bytes]:
        assert packets[0].startswith(b"0{")
        self.opening = json.loads(packets[0][1:])
        self.sid = self.opening["sid"]
        return packets[1:]

    def packets(self, asked: Asked) -> list[bytes]:
        assert asked.status == 200, asked.wire.value()
        return read_payload(asked.body, self.version)

    def park(self) -> None:
        """Begin a poll; see `polled`."""
        self.poll_ = self.get()

    def polled(self) -> list[bytes] | None:
        """Give what the poll was answered; None while it is parked."""
        assert self.poll_ is not None
        if not self.poll_.answered:
            return None
        answer, self.poll_ = self.poll_, None
        return self.packets(answer)

    def poll(self) -> list[bytes] | None:
        self.park()
        return self.polled()

    def last(self) -> list[bytes]:
        """Give what the poll that waits, or another, and those after it are told to the end."""
        told: list[bytes] = []
        while told[-1:] != [b"1"]:
            if self.poll_ is None:
                self.park()
            packets = self.polled()
            assert packets is not None, told
            told += packets
        return told

    def post(self, *packets: bytes, **headers: str) -> Asked:
        if self.version == 4:
            body = b"\x1e".join(packets)
        else:
            body = b"".join(
                b"%d:%s" % (len(packet.decode().encode("utf-16-le")) // 2, packet)
                for packet in packets
            )
        return self.post_raw(body, **headers)

    def post_raw(self, body: bytes, **headers: str) -> Asked:
        return Asked(self.server, "POST", self.target(), body, {**self.headers, **headers})

    def upgrade(self) -> int:
        """Open a WebSocket: to begin with, or in the place of polling. Give the status."""
        self.socket = self.server.browser(**self.headers)
        return self.socket.open(self.target("websocket"))

    def open_on_websocket(self) -> list[bytes]:
        assert self.upgrade() == 101
        return self._opened(self.got())

    def send(self, packet: bytes, opcode: int = TEXT) -> None:
        assert self.socket is not None
        self.socket.give(masked(packet, opcode))

    def got(self) -> list[bytes]:
        """Give the text messages that came by WebSocket; a close is ``#`` and its code."""
        assert self.socket is not None
        return [
            payload if opcode == TEXT else b"#%d" % int.from_bytes(payload[:2], "big")
            for opcode, payload in self.socket.got()
            if opcode in (TEXT, CLOSE)
        ]

    def change_over(self) -> list[bytes]:
        """Go over to WebSocket; give what came by it so far."""
        assert self.upgrade() == 101
        self.send(b"2probe")
        assert self.got() == [b"3probe"]
        self.send(b"5")
        return self.got()


def servers() -> Iterator[Callable[..., EngineServer]]:
    """Make servers; when their clients are gone nothing may be left."""
    made: list[EngineServer] = []

    def make(**options: Any) -> EngineServer:
        made.append(EngineServer(**options))
        return made[-1]

    yield make
    for server in made:
        server.end()
