"""What is left of a client when it is gone: nothing, without a look of Python's collector.

With many connected that does not look at what is old (`twisted_push.collector`).
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions, DefaultOpenSSLContextFactory
from twisted.internet.task import Clock
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.test.iosim import FakeTransport, connect
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.certificates import self_signed
from tests.unit import engineio_support, stream_support, websocket_support
from tests.unit.engineio_support import Client, EngineServer
from tests.unit.request_support import Caller, Leaf, asking
from tests.unit.stream_support import Poller, Reader, StreamServer
from tests.unit.websocket_support import CONNECT, Browser, Server
from twisted_push.errors import Disconnect
from twisted_push.web import GuardedChannel, GuardedSite

Begin = Callable[[Callable[..., Any]], Any]
"""Has one client come to a server; gives that, and the client's connection if it has one."""

ENDS = ("the client", "the server", "a timeout")
LONG = 120
"""Seconds after which nobody is there who answers nothing."""


def websocket(make: Callable[..., Server], *, pieces: int = 1) -> Any:
    server = make()
    browser = Browser(server)
    request = browser.asking()
    size = len(request) // pieces + 1
    for start in range(0, len(request), size):
        browser.give(request[start : start + size])
    browser.send(CONNECT)
    return server.worlds[0], browser.wire


def stream(make: Callable[..., StreamServer], kind: str) -> Any:
    server = make()
    reader = Reader(server, kind).connected()
    server.sessions.clear()
    return server.world, reader.wire


def poll(make: Callable[..., StreamServer]) -> Any:
    server = make()
    poller = Poller(server).connected()
    asked = poller.poll()
    server.sessions.clear()
    return server.world, asked.wire


def engine(make: Callable[..., EngineServer], *, upgrade: bool) -> Any:
    server = make()
    client = Client(server)
    client.open()
    server.let_in()
    wire = None
    if upgrade:
        client.change_over()
        assert client.socket is not None
        wire = client.socket.wire
    server.sessions.clear()
    return server.world, wire


def engine_websocket(make: Callable[..., EngineServer]) -> Any:
    server = make()
    client = Client(server, 4)
    client.open_on_websocket()
    server.let_in()
    server.sessions.clear()
    assert client.socket is not None
    return server.world, client.socket.wire


LIVES: dict[str, tuple[Callable[[], Iterator[Any]], Begin]] = {
    "websocket, fast": (partial(websocket_support.servers, True), websocket),
    "websocket, fast, in two pieces": (
        partial(websocket_support.servers, True),
        partial(websocket, pieces=2),
    ),
    "websocket, plain": (partial(websocket_support.servers, False), websocket),
    "sse": (stream_support.servers, partial(stream, kind="sse")),
    "http stream": (stream_support.servers, partial(stream, kind="http_stream")),
    "poll": (stream_support.servers, poll),
    "engine.io, polling": (engineio_support.servers, partial(engine, upgrade=False)),
    "engine.io, upgraded": (engineio_support.servers, partial(engine, upgrade=True)),
    "engine.io, websocket": (engineio_support.servers, engine_websocket),
}


@pytest.fixture
def without_the_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_the_collector")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("life", LIVES)
def test_nothing_is_left_of_a_client(life: str, end: str) -> None:
    servers, begin = LIVES[life]
    making = servers()
    world, wire = begin(next(making))
    [session] = world.node.sessions
    watched = [weakref.ref(session), weakref.ref(session.transport)]
    if end == "the client" and wire is not None:
        wire.hang_up()
    elif end == "the server":
        world.node.finish(session, Disconnect(3503))
    del session, wire
    for _ in range(LONG):
        world.clock.advance(1)
    assert world.node.sessions == set()
    assert [ref() for ref in watched] == [None, None]
    next(making, None)


# --- Requests that make no client ------------------------------------------------------------

POST = b"POST / HTTP/1.1\r\nHost: push.test\r\n"
REQUESTS = {
    "nothing": b"",
    "half a head": POST,
    "half a body": POST + b"Content-Length: 90\r\n\r\nx",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n40\r\nx",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "one that is answered": POST + b"Content-Length: 0\r\n\r\n",
    "one that is parked": b"GET /slow HTTP/1.1\r\nHost: push.test\r\n\r\n",
}


class Slow(Resource):
    """Answers nobody."""

    isLeaf = True

    def render(self, request: Request) -> int:
        return NOT_DONE_YET


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(self_signed(tmp_path_factory.mktemp("tls") / "both.pem"))


@pytest.mark.usefixtures("without_the_collector")
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("request_", REQUESTS)
def test_nothing_is_left_of_a_request(request_: str, tls: bool, certificate: str) -> None:
    root = Resource()
    root.putChild(b"slow", Slow())
    clock = Clock()
    site: Any = GuardedSite(root, clock, lambda: 100)
    client: Any = Factory.forProtocol(Protocol)
    if tls:
        context: Any = DefaultOpenSSLContextFactory(certificate, certificate)
        site = TLSMemoryBIOFactory(context, False, site, clock)
        client = TLSMemoryBIOFactory(CertificateOptions(), True, client, clock)
    server_end, client_end = site.buildProtocol(None), client.buildProtocol(None)
    server_wire, client_wire = FakeTransport(server_end, True), FakeTransport(client_end, False)
    pump = connect(server_end, server_wire, client_end, client_wire, greet=False)
    channel = weakref.ref(server_end.wrappedProtocol if tls else server_end)
    assert isinstance(channel(), GuardedChannel)
    pump.flush()
    client_end.write(REQUESTS[request_]) if tls else client_wire.write(REQUESTS[request_])
    clock.advance(0.1)
    pump.flush()
    server_wire.abortConnection()
    pump.flush()
    server_wire.protocol = None  # As a socket's transport does.
    del server_end, pump
    clock.advance(LONG)
    assert channel() is None


# --- Requests that are read before twisted.web -----------------------------------------------

ASK = asking(b"one")
CALLS: dict[str, tuple[bytes, ...]] = {
    "nothing": (),
    "one that is answered": (ASK,),
    "half a body": (ASK, asking(b"half")[:-2]),
    "one that is being answered": (ASK, asking(b"late", "/api/late")),
    "one behind that": (asking(b"late", "/api/late"), ASK),
    "one that is answered late": (asking(b"late", "/api/late"), ASK, b"answer"),
    "one for twisted.web": (ASK, b"GET / HTTP/1.1\r\nHost: push.test\r\n\r\n"),
    "an answer that is not taken": (b"full", ASK),
    "what is pushed": (b"full", ASK, *[ASK] * 100),
}


class Late(Leaf):
    """Answers at once, but for one path."""

    def render(self, request: Any) -> bytes | int:
        self.later = request.postpath == [b"late"]
        return super().render(request)


@pytest.mark.usefixtures("without_the_collector")
@pytest.mark.parametrize("end", ["the client", "a timeout"])
@pytest.mark.parametrize("call", CALLS)
def test_nothing_is_left_of_a_connection_of_the_cms(call: str, end: str) -> None:
    making = websocket_support.servers(True)
    server = next(making)()
    leaf = Late()
    leaf.size = 1000
    server.tree.mount_leaf("api", leaf)
    caller = Caller(server)
    watched = [weakref.ref(caller.wire), weakref.ref(caller.wire.protocol)]
    for data in CALLS[call]:
        if data == b"full":
            caller.wire.kernel.room = 10
        elif data == b"answer":
            leaf.finish(0)
            server.clock.advance(0)
        elif caller.is_read:
            caller.give(data)
    watched += [weakref.ref(caller.wire.protocol), *map(weakref.ref, leaf.asked)]
    if end == "the client":
        caller.wire.hang_up()
    elif not isinstance(caller.wire.protocol, GuardedChannel):
        # That logs that it is idle, and without an observer such lines are kept, with itself.
        caller.ended_after(LONG)
    if not caller.wire.ended:  # An answer may take as long as it does.
        caller.wire.abortConnection()
    assert caller.wire.ended
    leaf.asked.clear()
    del caller
    server.clock.advance(0)
    assert [ref() for ref in watched] == [None] * len(watched)
    next(making, None)
