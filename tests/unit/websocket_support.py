"""WebSocket in memory: the bytes of a browser, the public port of some sites, on both paths."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from errno import EAGAIN, ECONNRESET
from functools import cached_property
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tests.fakes import descriptors
from tests.unit.node.support import World
from twisted_push.config import Config
from twisted_push.interfaces import ITransport
from twisted_push.node.node import Node
from twisted_push.protocols.centrifugal import CentrifugalCodec
from twisted_push.transports.door import Door
from twisted_push.transports.echo import EchoReceiver
from twisted_push.transports.fast.mux import Mux
from twisted_push.transports.fast.transport import DirectTransport
from twisted_push.transports.fast.websocket import LeanFactory
from twisted_push.transports.frames import text_frame
from twisted_push.transports.tree import Tree
from twisted_push.transports.websocket import CLOSE_TIMEOUT, WebSocketEndpoint
from twisted_push.web import IDLE_TIMEOUT, GuardedSite

CONNECT = b'{"id":1,"connect":{}}'
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Wire(StringTransport):
    """A connection in memory whose end can be told in both directions."""

    aborted = False
    protocol: Any = None

    @property
    def ended(self) -> bool:
        """Whether the connection is over."""
        return bool(self.disconnecting)

    def put_back(self, data: bytes) -> None:
        """Take back what was read of `value`."""
        self.clear()
        self.write(data)

    def unregisterProducer(self) -> None:
        """Forget the producer, if there is one: sockets do not complain either."""
        if self.producer is not None:
            super().unregisterProducer()

    def abortConnection(self) -> None:
        self.aborted = True
        self._end(ConnectionLost())

    def loseConnection(self) -> None:
        self._end(ConnectionDone())

    def hang_up(self) -> None:
        """End it as the peer."""
        self._end(ConnectionLost())

    def _end(self, why: Exception) -> None:
        if not self.disconnecting:
            self.disconnecting = True
            self.disconnected = True
            # Then it knows nobody any more, as the transport of a socket.
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stopProducing()
            protocol, self.protocol = self.protocol, None
            protocol.connectionLost(Failure(why))


class Kernel:
    """A socket that takes ``room`` bytes more (None: all), or is ``broken`` or ``closed``.

    ``said`` is what its peer said, one read each.
    """

    def __init__(self) -> None:
        self.number = descriptors.new(self)
        self.closed = False
        self.said: list[bytes] = []
        self.sent = bytearray()
        self.room: int | None = None
        self.broken = False
        self.sends = 0

    def send(self, data: bytes) -> int:
        assert not self.closed, "the descriptor may be another's"
        self.sends += 1
        if self.broken:
            raise ConnectionResetError(ECONNRESET, "reset by peer")
        taken = len(data) if self.room is None else min(self.room, len(data))
        if data and not taken:
            raise BlockingIOError(EAGAIN, "try again")
        self.sent += data[:taken]
        if self.room is not None:
            self.room -= taken
        return taken

    def recv(self, most: int) -> bytes:
        return self.said.pop(0)

    def fileno(self) -> int:
        return self.number

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 80

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def setsockopt(self, *option: object) -> None:
        """Take it."""

    def shutdown(self, how: int) -> None:
        """Take it."""

    def close(self) -> None:
        self.closed = True


class Turns:
    """The part of a reactor that a transport needs; `turn` is one turn of it."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()
        self.writers: set[Any] = set()
        self.calls: list[Callable[[], object]] = []
        self.addReader, self.removeReader = self.readers.add, self.readers.discard
        self.addWriter, self.removeWriter = self.writers.add, self.writers.discard

    def callLater(self, delay: float, call: Callable[..., object], *args: Any) -> None:
        assert delay == 0
        self.calls.append(lambda: call(*args))

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()
        for transport in tuple(self.writers):
            result = transport.doWrite()
            if result is not None:
                transport.connectionLost(Failure(result))


class DirectWire(DirectTransport):
    """A `DirectTransport` on a `Kernel`: the same as `Wire`, for the fast path."""

    def __init__(self, peer: IPv4Address) -> None:
        self.kernel = Kernel()
        self.turns = Turns()
        socket: Any = self.kernel
        protocol: Any = None
        client = (peer.host, peer.port)
        super().__init__(socket, protocol, client, None, 0, self.turns)

    @property
    def ended(self) -> bool:
        """Whether the connection is over."""
        return bool(self.disconnected)

    @property
    def aborted(self) -> bool:
        return bool(self._aborting)

    def value(self) -> bytes:
        """Give what the kernel took, after a turn."""
        self.turns.turn()
        return bytes(self.kernel.sent)

    def clear(self) -> None:
        self.kernel.sent.clear()

    def put_back(self, data: bytes) -> None:
        """Take back what was read of `value`."""
        self.kernel.sent[:] = data

    def loseConnection(self) -> None:
        super().loseConnection()
        self.turns.turn()

    def abortConnection(self) -> None:
        super().abortConnection()
        self.turns.turn()

    def hang_up(self) -> None:
        """End it as the peer."""
        if not self.disconnected:
            self.connectionLost(Failure(ConnectionLost()))


def masked(payload: bytes, opcode: int = TEXT, *, fin: bool = True) -> bytes:
    """Give a frame as a client sends it."""
    first = bytes(((0x80 if fin else 0) | opcode,))
    if len(payload) < 126:
        head = first + bytes((0x80 | len(payload),))
    elif len(payload) < 65536:
        head = first + b"\xfe" + struct.pack("!H", len(payload))
    else:
        head = first + b"\xff" + struct.pack("!Q", len(payload))
    return head + b"\0\0\0\0" + payload


def read_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Give the frames of a server, with their opcodes."""
    found = []
    while data:
        opcode, length, data = data[0] & 15, data[1], data[2:]
        if length == 126:
            [length], data = struct.unpack("!H", data[:2]), data[2:]
        elif length == 127:
            [length], data = struct.unpack("!Q", data[:8]), data[8:]
        found.append((opcode, data[:length]))
        data = data[length:]
    return found


class Port:
    """What is common to servers in memory: connections to their ``site``, on one of the paths.

    ``tree`` has what it serves.
    """

    site: GuardedSite
    tree: Tree
    door: Door
    clock: Clock
    fast = False

    @cached_property
    def mux(self) -> Mux:
        lean = LeanFactory(self.door, self.clock)
        return Mux(self.site, self.tree, lean, self.clock)

    def connect(self, address: str) -> Any:
        """Give the wire of a new connection."""
        peer = IPv4Address("TCP", address, 1234)
        wire: Any = DirectWire(peer) if self.fast else Wire(peerAddress=peer)
        factory: Any = self.mux if self.fast else self.site
        protocol = factory.buildProtocol(peer)
        wire.protocol = protocol
        protocol.makeConnection(wire)
        return wire


class Server(Port):
    """The public port of some sites, without a port."""

    def __init__(
        self,
        *worlds: World,
        accept: Callable[..., Any] | None = None,
        fast: bool = False,
        compress: bool = False,
        **options: Any,
    ) -> None:
        self.worlds = worlds
        self.fast = fast
        limits = worlds[0].limits
        self.door = Door([world.node for world in worlds], Config(limits=limits, **options))
        self.clock = worlds[0].clock
        self.codec = CentrifugalCodec(text_frame)
        self.endpoint = WebSocketEndpoint(
            self.door, accept or self.accept, self.clock, compress=compress
        )
        self.echoing = WebSocketEndpoint(self.door, self.echo, self.clock)
        self.tree = Tree()
        for path, endpoint in (("/ws", self.endpoint), ("/echo", self.echoing)):
            self.tree.mount(path, endpoint)
            self.tree.open_at(path, endpoint)
        self.site = GuardedSite(self.tree.root, self.clock, lambda: 1000)

    def accept(self, node: Node, transport: ITransport) -> Any:
        [world] = [world for world in self.worlds if world.node is node]
        return node.accept(transport, self.codec, world.dialect)

    def echo(self, node: Node, transport: ITransport) -> Any:
        return EchoReceiver(transport)


class Browser:
    """One connection to a `Server`."""

    def __init__(self, server: Port, address: str = "192.0.2.1", **headers: str) -> None:
        self.server = server
        self.wire = server.connect(address)
        self.headers = {
            "Host": "push.test",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }

    def asking(self, path: str = "/ws") -> bytes:
        """Give the request for the upgrade."""
        lines = [f"GET {path} HTTP/1.1", *(f"{n}: {v}" for n, v in self.headers.items() if v)]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def open(self, path: str = "/ws") -> int:
        """Ask for the upgrade; give the status of the answer."""
        self.give(self.asking(path))
        head, _, rest = self.wire.value().partition(b"\r\n\r\n")
        self.head = head
        self.wire.put_back(rest)
        return int(head.split()[1])

    def give(self, data: bytes) -> None:
        self.wire.protocol.dataReceived(data)

    def send(self, payload: bytes, opcode: int = TEXT) -> None:
        self.give(masked(payload, opcode))

    def got(self) -> list[tuple[int, bytes]]:
        found = read_frames(self.wire.value())
        self.wire.clear()
        return found

    @property
    def closed(self) -> tuple[int, str]:
        """The close frame that was sent."""
        [code] = [payload for opcode, payload in self.got() if opcode == CLOSE]
        return struct.unpack("!H", code[:2])[0], code[2:].decode()


Make = Callable[..., Server]

PATHS = {"plain": False, "fast": True}
"""Whether a server has the fast path."""


def servers(fast: bool) -> Iterator[Make]:
    """Make servers; when their clients are gone nothing may be left."""
    made: list[Server] = []

    def make(
        *, sites: int = 1, trusted: tuple[str, ...] = (), compress: bool = False, **options: Any
    ) -> Server:
        worlds = []
        for number in range(sites):
            name = {"hosts": (f"site{number}.test",)} if sites > 1 else {}
            world = World(**{**name, **options})
            Deferred.fromCoroutine(world.start())
            worlds.append(world)
        made.append(Server(*worlds, fast=fast, compress=compress, trusted_proxies=trusted))
        return made[-1]

    yield make
    for server in made:
        for world in server.worlds:
            for session in tuple(world.node.sessions):
                transport: Any = session.transport
                transport.transport.hang_up()
        server.clock.advance(CLOSE_TIMEOUT)  # Those that do not answer a close.
        server.clock.advance(IDLE_TIMEOUT)  # Those that were refused, and ask nothing more.
        assert server.door.connections == 0
        assert not server.door.room._by_address
        for world in server.worlds:
            ended = Deferred.fromCoroutine(world.end())
            ended.addErrback(lambda failure: failure.raiseException())
            assert ended.called
