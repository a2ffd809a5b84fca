"""What the tests of streams share: a server in memory, and readers of its streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred

from tests.unit.engineio_support import Asked
from tests.unit.node.support import World
from tests.unit.websocket_support import Port, Wire
from twisted_push.config import Config
from twisted_push.interfaces import ITransport
from twisted_push.node.node import Node
from twisted_push.protocols.centrifugal import CentrifugalCodec
from twisted_push.session import Session
from twisted_push.transports.door import Door
from twisted_push.transports.stream import (
    HTTP_STREAM,
    SSE,
    Connections,
    EmulationEndpoint,
    PollEndpoint,
    StreamEndpoint,
    event_frame,
    line_frame,
)
from twisted_push.transports.stream.connection import StreamConnection
from twisted_push.transports.stream.polls import PollConnection
from twisted_push.transports.tree import Tree
from twisted_push.web import IDLE_TIMEOUT, GuardedSite

CONNECT = b'{"id":1,"connect":{}}'
KINDS = ("sse", "http_stream")
PAGE = "http://push.test:81"


class StuckWire(Wire):
    """A connection whose peer takes nothing: what is not written yet never is."""

    closing = False

    def loseConnection(self) -> None:
        self.closing = True


class StreamServer(Port):
    """The public port of some sites, without a port."""

    def __init__(
        self,
        *,
        sites: int = 1,
        max_body: int = 100_000,
        accept: Callable[..., Any] | None = None,
        **options: Any,
    ) -> None:
        names = [{"hosts": (f"site{n}.test",)} if sites > 1 else {} for n in range(sites)]
        self.worlds = [World(**{**name, **options}) for name in names]
        for world in self.worlds:
            Deferred.fromCoroutine(world.start())
        self.world = self.worlds[0]
        self.clock = self.world.clock
        self.door = Door([world.node for world in self.worlds], Config(limits=self.world.limits))
        self.connections: Connections = {}
        self.sessions: list[Session] = []
        self.tree = Tree()
        for kind, frame in ((SSE, event_frame), (HTTP_STREAM, line_frame)):
            codec = CentrifugalCodec(frame, tells_end=True)
            stream = StreamEndpoint(
                kind, self.door, accept or self.accepting(codec), self.connections, self.clock
            )
            self.tree.mount(f"/connection/{kind.transport}", stream)
        codec = CentrifugalCodec(line_frame, tells_end=True)
        polls = PollEndpoint(
            self.door, accept or self.accepting(codec), self.connections, self.clock
        )
        self.tree.mount("/connection/poll", polls)
        self.tree.mount("/emulation", EmulationEndpoint(self.door, self.connections))
        self.site = GuardedSite(self.tree.root, self.clock, lambda: max_body)

    def accepting(self, codec: CentrifugalCodec) -> Callable[[Node, ITransport], Session]:
        def accept(node: Node, transport: ITransport) -> Session:
            [world] = [world for world in self.worlds if world.node is node]
            self.sessions.append(node.accept(transport, codec, world.dialect))
            return self.sessions[-1]

        return accept

    @property
    def session(self) -> Session:
        """The session that was made last."""
        return self.sessions[-1]

    @property
    def stats(self) -> Any:
        return self.world.stats

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Asked:
        server: Any = self
        return Asked(server, method, target, body, headers)

    def emulate(self, upload: object, **headers: str) -> Asked:
        body = upload if isinstance(upload, bytes) else json.dumps(upload).encode()
        return self.ask("POST", "/emulation", body, **headers)

    def publish(self, channel: str, data: object) -> None:
        Deferred.fromCoroutine(self.world.publish(channel, data))

    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    def timers(self) -> int:
        """Give the number of timers of single clients that run, but for those of HTTP."""
        calls: Any = self.clock.getDelayedCalls()
        owners = (getattr(call.func, "__self__", None) for call in calls)
        return sum(isinstance(owner, StreamConnection | PollConnection) for owner in owners)

    def end(self) -> None:
        """Have everybody leave, and nothing be left."""
        for connection in tuple(self.connections.values()):
            transport: Any = connection
            transport.abort()
        self.clock.advance(IDLE_TIMEOUT)
        assert self.door.connections == 0
        assert not self.door.room._by_address
        assert self.connections == {}
        for world in self.worlds:
            assert world.node.sessions == set()
            ended = Deferred.fromCoroutine(world.end())
            ended.addErrback(lambda failure: failure.raiseException())
            assert ended.called


class Reader:
    """One stream: what its client is told, and what it sends."""

    def __init__(
        self,
        server: StreamServer,
        kind: str = "sse",
        commands: bytes = CONNECT,
        *,
        version: str = "1.1",
        wire: Wire | None = None,
        behind: bytes = b"",
        **headers: str,
    ) -> None:
        self.server = server
        self.kind = kind
        self.version = version
        peer = IPv4Address("TCP", headers.pop("peer", "192.0.2.1"), 1234)
        self.wire: Any = wire or Wire(peerAddress=peer)
        self.wire.protocol = server.site.buildProtocol(peer)
        self.wire.protocol.makeConnection(self.wire)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"Host": "push.test", **given}
        body = b""
        target = f"/connection/{kind}"
        if kind == "sse":
            target += f"?cf_connect={quote(commands)}"
        else:
            body = commands
            given["Content-Length"] = str(len(body))
        method = "GET" if kind == "sse" else "POST"
        lines = [f"{method} {target} HTTP/{version}", *(f"{n}: {v}" for n, v in given.items())]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        self.give(head + body + behind)
        self._seen = 0
        self.reply: dict[str, Any] = {}

    def give(self, data: bytes) -> None:
        self.wire.protocol.dataReceived(data)

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
    def text(self) -> bytes:
        """What came of the body so far."""
        found: bytes = self.wire.value().partition(b"\r\n\r\n")[2]
        return found if self.version == "1.0" else self._unchunked(found)[0]

    @property
    def finished(self) -> bool:
        """Whether the body came to its proper end."""
        if self.version == "1.0":
            return bool(self.wire.ended)
        return self._unchunked(self.wire.value().partition(b"\r\n\r\n")[2])[1]

    @staticmethod
    def _unchunked(data: bytes) -> tuple[bytes, bool]:
        text = b""
        while data:
            size, _, data = data.partition(b"\r\n")
            if int(size, 16) == 0:
                assert data == b"\r\n"
                return text, True
            text += data[: int(size, 16)]
            assert data[int(size, 16) :][:2] == b"\r\n"
            data = data[int(size, 16) + 2 :]
        return text, False

    def messages(self) -> list[bytes]:
        """Give the messages that came since the last time."""
        end, prefix = (b"\n\n", b"data: ") if self.kind == "sse" else (b"\n", b"")
        *found, rest = self.text.split(end)
        assert rest == b""
        assert all(message.startswith(prefix) for message in found)
        new = [message.removeprefix(prefix) for message in found[self._seen :]]
        self._seen = len(found)
        return new

    def told(self) -> list[dict[str, Any]]:
        """Give them as what they say."""
        return [json.loads(message) for message in self.messages()]

    def connected(self) -> Reader:
        """Take the reply to the connect."""
        [reply] = self.told()
        self.reply = reply["connect"]
        return self

    def upload(self, data: bytes, **more: str) -> dict[str, str]:
        return {
            "session": self.reply["session"],
            "node": self.reply["node"],
            "data": data.decode(),
            **more,
        }

    def send(self, data: bytes, **headers: str) -> Asked:
        """Send a message, by a request on another connection."""
        return self.server.emulate(self.upload(data), **headers)


class Poller:
    """A client that polls: what it is told, and its requests."""

    def __init__(self, server: StreamServer, commands: bytes = CONNECT, **headers: str) -> None:
        self.server = server
        self.headers = headers
        self.cursor = 0
        self.reply: dict[str, Any] = {}
        self.asked: Asked | None = self.post(commands)

    def post(self, body: bytes) -> Asked:
        return self.server.ask("POST", "/connection/poll", body, **self.headers)

    def poll(self, **more: object) -> Asked:
        """Begin a poll, whatever was before."""
        upload = {"session": self.reply["session"], "node": self.reply["node"]}
        self.asked = self.post(json.dumps({**upload, "cursor": self.cursor, **more}).encode())
        return self.asked

    def messages(self) -> list[bytes]:
        """Give the messages of the poll that is under way, or of another one."""
        if self.asked is None:
            self.poll()
        assert self.asked is not None
        if not self.asked.answered:
            return []
        asked, self.asked = self.asked, None
        assert asked.status == 200, asked.wire.value()
        self.cursor += 1
        *found, rest = asked.body.split(b"\n")
        assert rest == b""
        return found

    def told(self) -> list[dict[str, Any]]:
        """Give them as what they say."""
        return [json.loads(message) for message in self.messages()]

    def connected(self) -> Poller:
        """Take the reply to the connect."""
        [reply] = self.told()
        self.reply = reply["connect"]
        return self

    def send(self, data: bytes) -> Asked:
        """Send a message, by a request on another connection."""
        upload = {"session": self.reply["session"], "node": self.reply["node"]}
        return self.server.emulate({**upload, "data": data.decode()})


def servers() -> Iterator[Callable[..., StreamServer]]:
    """Make servers; when their clients are gone nothing may be left."""
    made: list[StreamServer] = []

    def make(**options: Any) -> StreamServer:
        made.append(StreamServer(**options))
        return made[-1]

    yield make
    for server in made:
        server.end()
