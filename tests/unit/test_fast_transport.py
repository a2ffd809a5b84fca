"""`DirectTransport`: what the kernel takes, does not take, and takes in part."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from tests.unit.websocket_support import DirectWire, Kernel, Turns
from twisted_push.transports.fast.transport import DirectTransport

PEER = IPv4Address("TCP", "192.0.2.1", 1234)


@define
class Recorder:
    """A protocol and a producer that keeps what it is told."""

    told: list[Any] = field(factory=list)

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")

    def connectionLost(self, reason: Failure) -> None:
        self.told.append(reason.type)


def wired() -> tuple[DirectWire, Kernel, Recorder]:
    wire, recorder = DirectWire(PEER), Recorder()
    protocol: Any = recorder
    wire.protocol = protocol
    wire.registerProducer(recorder, True)
    return wire, wire.kernel, recorder


def test_what_is_sent_leaves_at_once() -> None:
    wire, kernel, recorder = wired()
    wire.send_now(b"one")
    assert (bytes(kernel.sent), kernel.sends) == (b"one", 1)
    assert not wire.unsent
    assert not wire.turns.writers
    assert recorder.told == []


@pytest.mark.parametrize("room", [0, 1, 2])
def test_what_the_kernel_does_not_take_follows(room: int) -> None:
    wire, kernel, recorder = wired()
    kernel.room = room
    wire.send_now(b"one")
    assert wire.unsent
    assert recorder.told == ["pause"]
    wire.send_now(b"two")
    assert bytes(kernel.sent) == b"one"[:room]
    kernel.room = None
    wire.turns.turn()
    assert bytes(kernel.sent) == b"onetwo"
    assert recorder.told[-1] == "resume"
    assert not wire.unsent
    assert not wire.turns.writers
    wire.send_now(b"three")
    assert bytes(kernel.sent) == b"onetwothree"


def test_a_connection_that_breaks_is_lost_in_a_later_turn() -> None:
    wire, kernel, recorder = wired()
    kernel.broken = True
    wire.send_now(b"one")
    assert recorder.told == ["pause"]
    wire.turns.turn()
    assert recorder.told == ["pause", "stop", ConnectionLost]
    wire.send_now(b"two")
    wire.abortConnection()
    assert recorder.told == ["pause", "stop", ConnectionLost]
    assert kernel.sent == b""


def test_a_connection_that_breaks_in_the_middle() -> None:
    wire, kernel, recorder = wired()
    kernel.room = 2
    wire.send_now(b"one")
    kernel.broken = True
    wire.turns.turn()
    assert recorder.told == ["pause", "stop", ConnectionLost]


def test_all_is_sent_before_a_close() -> None:
    wire, kernel, recorder = wired()
    kernel.room = 2
    wire.send_now(b"one")
    wire.send_now(b"two")
    wire.unregisterProducer()
    wire.loseConnection()
    assert recorder.told == ["pause"]
    kernel.room = None
    wire.turns.turn()
    assert bytes(kernel.sent) == b"onetwo"
    assert recorder.told == ["pause", ConnectionDone]


def test_nothing_is_sent_after_an_abort() -> None:
    wire, kernel, _ = wired()
    kernel.room = 2
    wire.send_now(b"one")
    kernel.room = None
    DirectTransport.abortConnection(wire)
    wire.send_now(b"two")
    wire.write(b"three")
    wire.turns.turn()
    assert bytes(kernel.sent) == b"on"
    assert not wire.turns.writers
    assert not wire.turns.readers


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send_now"), st.binary(max_size=40)),
            st.tuples(st.just("write"), st.binary(max_size=40)),
            st.tuples(st.just("writeSequence"), st.lists(st.binary(max_size=20), max_size=3)),
            st.tuples(st.just("room"), st.integers(0, 60)),
            st.tuples(st.just("turn"), st.none()),
        )
    )
)
def test_the_order_holds_whatever_the_kernel_takes(steps: list[tuple[str, Any]]) -> None:
    wire, kernel, recorder = wired()
    kernel.room = 10
    written = b""
    for step, value in steps:
        if step == "room":
            kernel.room = value
        elif step == "turn":
            wire.turns.turn()
        else:
            getattr(wire, step)(value)
            written += value if isinstance(value, bytes) else b"".join(value)
        assert written.startswith(kernel.sent)
    kernel.room = None
    wire.turns.turn()
    assert bytes(kernel.sent) == written
    assert not wire.unsent
    assert recorder.told[-1:] in ([], ["resume"])


def test_addresses() -> None:
    wire = DirectWire(PEER)
    assert wire.getPeer() == PEER
    assert wire.getHost() == IPv4Address("TCP", "127.0.0.1", 80)
    sock: Any = Kernel()
    protocol: Any = Protocol()
    server: Any = None
    other = DirectTransport(sock, protocol, ("2001:db8::1", 1, 0, 0), server, 0, Turns())
    assert other.getPeer() == IPv6Address("TCP", "2001:db8::1", 1)


def test_it_keeps_what_it_keeps_in_slots() -> None:
    wire, kernel, _ = wired()
    sock: Any = kernel
    direct = DirectTransport(sock, wire.protocol, ("192.0.2.1", 1), wire.server, 0, Turns())
    direct.send_now(b"one")
    kernel.room = 1
    direct.send_now(b"two")
    direct.doWrite()
    kernel.room = None
    direct.doWrite()
    assert vars(direct) == {}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, peer = socket.socketpair()
    peer.setblocking(False)
    with ours, peer:
        yield ours, peer


def test_a_descriptor_that_is_used_again(pair: tuple[socket.socket, socket.socket]) -> None:
    """What is sent to a connection that is gone does not go to one that has its number now."""
    ours, _ = pair
    number = ours.fileno()
    server: Any = None
    gone = DirectTransport(ours, Protocol(), ("192.0.2.1", 1), server, 0, Turns())
    gone.connectionLost(Failure(ConnectionDone()))
    with socket.socket() as other, socket.socket() as listener:
        listener.listen()
        other.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            numbers = {other.fileno(), listener.fileno(), accepted.fileno()}
            assert number in numbers, "this test shows nothing: the number was not used again"
            gone.send_now(b"late")
            gone.write(b"late")
            gone.abortConnection()
            for sock in (other, accepted):
                sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    sock.recv(1)
            assert gone.fileno() == -1


# --- What is written while something is read -------------------------------------------------


class Answering(Recorder):
    """Answers each thing that it reads in two pieces, and then does what a test wants."""

    def __init__(self, wire: DirectWire) -> None:
        super().__init__()
        self.wire = wire
        self.then: Callable[[], object] = lambda: None

    def dataReceived(self, data: bytes) -> None:
        self.wire.write(b"head ")
        self.wire.writeSequence([b"body ", data])
        assert not self.wire.kernel.sent
        self.then()


def answering(said: bytes = b"1") -> tuple[DirectWire, Kernel, Answering]:
    wire = DirectWire(PEER)
    protocol: Any = Answering(wire)
    wire.protocol = protocol
    wire.registerProducer(protocol, True)
    wire.kernel.said = [said]
    return wire, wire.kernel, protocol


def test_an_answer_leaves_when_all_was_read_in_one_piece() -> None:
    wire, kernel, _ = answering()
    assert wire.doRead() is None
    assert (bytes(kernel.sent), kernel.sends) == (b"head body 1", 1)
    assert not (wire.unsent)
    assert not (wire.turns.writers)


def test_what_does_not_leave_at_once_leaves_later() -> None:
    wire, kernel, _ = answering()
    kernel.room = 3
    assert wire.doRead() is None
    assert wire.turns.writers == {wire}
    kernel.room = None
    wire.turns.turn()
    assert bytes(kernel.sent) == b"head body 1"
    assert not (wire.unsent)
    assert not (wire.turns.writers)


def test_an_answer_after_which_the_connection_ends() -> None:
    wire, kernel, protocol = answering()
    protocol.then = wire.loseConnection
    wire.doRead()
    wire.turns.turn()
    assert bytes(kernel.sent) == b"head body 1"
    assert protocol.told == ["stop", ConnectionDone]


def test_an_answer_to_a_peer_that_is_gone() -> None:
    wire, kernel, _ = answering()
    kernel.broken = True
    assert isinstance(wire.doRead(), ConnectionLost)


def test_nothing_is_sent_to_a_connection_that_was_dropped_meanwhile() -> None:
    wire, kernel, protocol = answering()
    protocol.then = wire.abortConnection
    wire.doRead()
    wire.turns.turn()
    assert not kernel.sent


def test_what_is_written_for_another_connection_leaves_in_its_own_time() -> None:
    wire, kernel, protocol = answering()
    other, other_kernel, _ = wired()
    protocol.then = lambda: other.write(b"for another")
    wire.doRead()
    assert bytes(kernel.sent) == b"head body 1"
    assert other.turns.writers == {other}
    assert other.value() == b"for another"
    assert other_kernel.sends == 1


def test_a_fault_while_reading_does_not_hold_back_what_comes_later() -> None:
    wire, kernel, protocol = answering()

    def fail() -> None:
        raise RuntimeError("as a fault of ours would")

    protocol.then = fail
    with pytest.raises(RuntimeError):
        wire.doRead()
    wire.write(b" more")
    assert wire.turns.writers == {wire}
    assert wire.value() == b"head body 1 more"
    assert kernel.sends == 1
