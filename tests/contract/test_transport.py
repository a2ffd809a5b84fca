"""What every transport must do (`ITransport`), for each kind of them.

A new kind is one more entry in `KINDS`: something that opens a connection to a recording receiver
and shows what its peer got.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest
from attrs import define, field
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tests.fakes import FakeTransport
from tests.unit.engineio_support import Client, EngineServer
from tests.unit.node.support import World
from tests.unit.stream_support import Poller, Reader, StreamServer
from tests.unit.websocket_support import CLOSE, TEXT, Browser, Server
from twisted_push.errors import Disconnect
from twisted_push.interfaces import ITransport
from twisted_push.model import ClientRequest
from twisted_push.node.node import Node
from twisted_push.transports.engineio import message_frame
from twisted_push.transports.frames import text_frame
from twisted_push.transports.stream import event_frame, line_frame


@define
class Recorder:
    """A `Receiver` that keeps what it is told: of a session, as much as transports know."""

    client = "the-client"
    secret = "the-secret"
    closed = False
    next_ping = 0.0
    subscriptions: dict[str, object] = field(factory=dict)
    told: list[str] = field(factory=list)
    messages: list[bytes] = field(factory=list)

    def received(self, payload: bytes) -> None:
        self.messages.append(payload)

    def received_binary(self, payload: bytes) -> None:
        self.told.append("binary")

    def allow_frame(self) -> bool:
        return True

    def alive(self) -> None:
        self.told.append("alive")

    def pause(self) -> None:
        self.told.append("pause")

    def closing(self) -> None:
        """Take no notice."""

    def resume(self) -> None:
        self.told.append("resume")

    def lost(self) -> None:
        self.told.append("lost")


class Kind(Protocol):
    """One open connection of a kind of transport."""

    transport: Any
    receiver: Recorder

    def frame(self, text: bytes) -> bytes:
        """Make a frame as the kind's codec does."""

    def got(self) -> list[bytes]:
        """Give the texts that the peer got since the last time."""

    def codes(self) -> list[int]:
        """Give the close codes that the peer got, 0 where it is told none."""

    def code(self, code: int) -> int:
        """Give what the peer is told of a close with this code."""

    def fill(self) -> None:
        """Have the connection's buffer be full."""

    def empty(self) -> None:
        """Have it be empty again."""

    def lose(self) -> None:
        """Lose the connection."""

    def wait(self) -> None:
        """Let the peer be silent for long."""

    @property
    def gone(self) -> bool:
        """Whether the connection is over."""


class WebSocketKind:
    """`twisted_push.transports.websocket`."""

    def __init__(self, *, fast: bool) -> None:
        self.receiver = Recorder()
        self._server = Server(World(), accept=self._accept, fast=fast)
        self._browser = Browser(self._server)
        assert self._browser.open() == 101
        self._browser.got()
        self._codes: list[int] = []

    def _accept(self, node: Node, transport: ITransport) -> Recorder:
        self.transport = transport
        return self.receiver

    def frame(self, text: bytes) -> bytes:
        return text_frame(text)

    def _read(self) -> list[bytes]:
        texts = []
        for opcode, payload in self._browser.got():
            if opcode == CLOSE:
                self._codes.append(int.from_bytes(payload[:2], "big"))
            elif opcode == TEXT:
                texts.append(payload)
        return texts

    def got(self) -> list[bytes]:
        return self._read()

    def codes(self) -> list[int]:
        self._read()
        return self._codes

    def code(self, code: int) -> int:
        return code

    def fill(self) -> None:
        producer: Any = self._browser.wire.producer
        producer.pauseProducing()

    def empty(self) -> None:
        producer: Any = self._browser.wire.producer
        producer.resumeProducing()

    def lose(self) -> None:
        self._browser.wire.hang_up()

    def wait(self) -> None:
        self._server.clock.advance(60)

    @property
    def gone(self) -> bool:
        return bool(self._browser.wire.ended)


class FakeKind:
    """The fake of the other tests, so that they show something."""

    def __init__(self) -> None:
        self.receiver = Recorder()
        receiver: Any = self.receiver
        self.transport = FakeTransport(receiver=receiver)
        self._clock = Clock()
        self._seen = 0

    def frame(self, text: bytes) -> bytes:
        return text

    def got(self) -> list[bytes]:
        found = self.transport.sent[self._seen :]
        self._seen += len(found)
        return found

    def codes(self) -> list[int]:
        closed = self.transport.closed_with
        return [closed.code] if closed else []

    def code(self, code: int) -> int:
        return code

    def fill(self) -> None:
        self.receiver.pause()

    def empty(self) -> None:
        self.receiver.resume()

    def lose(self) -> None:
        self.transport.abort()
        self.receiver.lost()

    def wait(self) -> None:
        self.transport.abort()

    @property
    def gone(self) -> bool:
        return self.transport.aborted


class EngineIoWebSocketKind:
    """`twisted_push.transports.engineio` on WebSocket; ``upgraded`` from polling, or at once."""

    def __init__(self, version: int, *, upgraded: bool, fast: bool = False) -> None:
        self.receiver = Recorder()
        self._client = Client(EngineServer(accept=self._accept, fast=fast), version)
        if upgraded:
            self._client.open()
            self._client.change_over()
        else:
            self._client.open_on_websocket()
        assert self._client.socket is not None
        self._wire = self._client.socket.wire
        self.receiver.told.clear()
        self._codes: list[int] = []

    def _accept(self, node: Node, transport: ITransport, version: int) -> Any:
        self.transport = transport
        return self.receiver

    def frame(self, text: bytes) -> bytes:
        return message_frame(text)

    def got(self) -> list[bytes]:
        packets = self._client.got()
        self._codes += [int(packet[1:]) for packet in packets if packet.startswith(b"#")]
        return [packet[1:] for packet in packets if packet.startswith(b"4")]

    def codes(self) -> list[int]:
        self.got()
        return self._codes

    def code(self, code: int) -> int:
        return code

    def fill(self) -> None:
        producer: Any = self._wire.producer
        producer.pauseProducing()

    def empty(self) -> None:
        producer: Any = self._wire.producer
        producer.resumeProducing()

    def lose(self) -> None:
        self._wire.hang_up()

    def wait(self) -> None:
        self._client.server.clock.advance(60)

    @property
    def gone(self) -> bool:
        return bool(self._wire.ended)


class EngineIoPollingKind:
    """`twisted_push.transports.engineio` with a client that polls whenever it looks.

    Of a poll that waits the connection is empty, without one it is full.
    """

    def __init__(self, version: int) -> None:
        self.receiver = Recorder()
        self._client = Client(EngineServer(accept=self._accept), version)
        self._client.open()
        self._codes: list[int] = []

    def _accept(self, node: Node, transport: ITransport, version: int) -> Any:
        self.transport = transport
        return self.receiver

    def frame(self, text: bytes) -> bytes:
        return message_frame(text)

    def _poll(self) -> None:
        if self._client.poll_ is None and not self.gone:
            self._client.park()

    def got(self) -> list[bytes]:
        self._poll()
        packets = (self._client.polled() if self._client.poll_ else None) or []
        self._codes += [0 for packet in packets if packet == b"1"]
        return [packet[1:] for packet in packets if packet.startswith(b"4")]

    def codes(self) -> list[int]:
        self.got()
        return self._codes

    def code(self, code: int) -> int:
        return 0

    def fill(self) -> None:
        """It is: what came last was an answer."""

    def empty(self) -> None:
        self._poll()

    def lose(self) -> None:
        self._poll()
        assert self._client.poll_ is not None
        self.receiver.told.clear()
        self._client.poll_.wire.hang_up()
        self._client.poll_ = None

    def wait(self) -> None:
        self._client.server.clock.advance(60)

    @property
    def gone(self) -> bool:
        return self._client.server.door.connections == 0


class StreamKind:
    """`twisted_push.transports.stream`: the end is told by a push, which is the codec's."""

    def __init__(self, kind: str, version: str) -> None:
        self.receiver = Recorder()
        self._server = StreamServer(accept=self._accept)
        self._reader = Reader(self._server, kind, version=version)
        self._frame = {"sse": event_frame, "http_stream": line_frame}[kind]

    def _accept(self, node: Node, transport: ITransport) -> Any:
        self.transport = transport
        return self.receiver

    def frame(self, text: bytes) -> bytes:
        return self._frame(text)

    def got(self) -> list[bytes]:
        return self._reader.messages()

    def codes(self) -> list[int]:
        return [0] if self._reader.finished else []

    def code(self, code: int) -> int:
        return 0

    def fill(self) -> None:
        producer: Any = self._reader.wire.producer
        producer.pauseProducing()

    def empty(self) -> None:
        producer: Any = self._reader.wire.producer
        producer.resumeProducing()

    def lose(self) -> None:
        self._reader.wire.hang_up()

    def wait(self) -> None:
        self._server.clock.advance(60)

    @property
    def gone(self) -> bool:
        return self._server.door.connections == 0


class PollKind:
    """`twisted_push.transports.stream.polls`, with a client that polls whenever it looks.

    Of a poll that waits the connection is empty, without one it is full.
    """

    def __init__(self) -> None:
        self.receiver = Recorder()
        self._server = StreamServer(accept=self._accept)
        self._poller = Poller(self._server)
        self.transport.send(line_frame(b"first"))
        assert self._poller.messages() == [b"first"]
        self._poller.reply = {"session": self.receiver.secret, "node": ""}

    def _accept(self, node: Node, transport: ITransport) -> Any:
        self.transport = transport
        return self.receiver

    def frame(self, text: bytes) -> bytes:
        return line_frame(text)

    def got(self) -> list[bytes]:
        """Poll until there is nothing more."""
        found: list[bytes] = []
        while not self.gone and (messages := self._poller.messages()):
            found += messages
        return found

    def codes(self) -> list[int]:
        self.got()
        return [0] if self.gone else []

    def code(self, code: int) -> int:
        return 0

    def fill(self) -> None:
        """It is: what came last was an answer."""

    def empty(self) -> None:
        self._poller.poll()

    def lose(self) -> None:
        self._poller.poll().wire.hang_up()
        self.receiver.told.clear()
        self.wait()

    def wait(self) -> None:
        self._server.clock.advance(60)

    @property
    def gone(self) -> bool:
        return self._server.door.connections == 0


KINDS: dict[str, Callable[[], Kind]] = {
    "websocket": lambda: WebSocketKind(fast=False),
    "websocket-fast": lambda: WebSocketKind(fast=True),
    "engineio-polling-3": lambda: EngineIoPollingKind(3),
    "engineio-polling-4": lambda: EngineIoPollingKind(4),
    "engineio-websocket-3": lambda: EngineIoWebSocketKind(3, upgraded=False),
    "engineio-websocket-4": lambda: EngineIoWebSocketKind(4, upgraded=False),
    "engineio-upgraded-3": lambda: EngineIoWebSocketKind(3, upgraded=True),
    "engineio-upgraded-4": lambda: EngineIoWebSocketKind(4, upgraded=True),
    "engineio-fast-3": lambda: EngineIoWebSocketKind(3, upgraded=False, fast=True),
    "engineio-upgraded-fast-4": lambda: EngineIoWebSocketKind(4, upgraded=True, fast=True),
    "sse": lambda: StreamKind("sse", "1.1"),
    "sse-http-1.0": lambda: StreamKind("sse", "1.0"),
    "http-stream": lambda: StreamKind("http_stream", "1.1"),
    "http-stream-http-1.0": lambda: StreamKind("http_stream", "1.0"),
    "poll": PollKind,
    "fake": FakeKind,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]()


def test_the_interface(kind: Kind) -> None:
    assert verifyObject(ITransport, kind.transport)
    assert isinstance(kind.transport.request, ClientRequest)


def test_frames_arrive_in_order(kind: Kind) -> None:
    for number in range(5):
        kind.transport.send(kind.frame(b"%d" % number))
    assert kind.got() == [b"0", b"1", b"2", b"3", b"4"]


def test_one_frame_serves_many_times(kind: Kind) -> None:
    frame = kind.frame(b"again")
    kind.transport.send(frame)
    kind.transport.send(frame)
    assert kind.got() == [b"again", b"again"]


def test_a_view_of_frames_is_sent_as_well(kind: Kind) -> None:
    frame = kind.frame(b"one")
    kind.transport.send(memoryview(frame + kind.frame(b"two"))[len(frame) :])
    assert kind.got() == [b"two"]


def test_what_is_sent_after_a_close_is_ignored(kind: Kind) -> None:
    kind.transport.close(Disconnect(3503))
    kind.transport.send(kind.frame(b"late"))
    assert kind.got() == []
    assert kind.codes() == [kind.code(3503)]


def test_the_first_close_counts(kind: Kind) -> None:
    kind.transport.close(Disconnect(3503))
    assert kind.codes() == [kind.code(3503)]
    kind.transport.close(Disconnect(3503))
    assert kind.codes() == [kind.code(3503)]


def test_a_close_is_given_up(kind: Kind) -> None:
    kind.transport.close(Disconnect(4001, "x" * 500))
    kind.wait()
    assert kind.gone


def test_an_abort_is_at_once_and_for_ever(kind: Kind) -> None:
    kind.transport.abort()
    assert kind.gone
    kind.transport.abort()
    kind.transport.close(Disconnect(3000))
    kind.transport.send(kind.frame(b"late"))
    assert kind.got() == []


def test_a_full_buffer_is_told_and_an_empty_one(kind: Kind) -> None:
    kind.fill()
    kind.fill()
    assert set(kind.receiver.told) == {"pause"}
    kind.empty()
    assert kind.receiver.told[-1] == "resume"
    assert kind.transport.unsent() == 0


def test_a_lost_connection_is_told_once(kind: Kind) -> None:
    kind.lose()
    assert kind.receiver.told == ["lost"]
    kind.transport.send(kind.frame(b"late"))
    kind.transport.close(Disconnect(3000))
    kind.transport.abort()
    assert kind.receiver.told == ["lost"]
    assert kind.got() == []
