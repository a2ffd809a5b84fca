"""Engine.IO: from polling to WebSocket without a loss, and what may come between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.engineio_support import Client, EngineServer, servers
from tests.unit.websocket_support import BINARY
from twisted_push.errors import Disconnect
from twisted_push.transports.engineio import message_frame
from twisted_push.transports.engineio.polls import ANSWER_SIZE
from twisted_push.transports.engineio.sockets import PROBE_TIMEOUT

make_server = pytest.fixture(servers)
Make = Callable[..., EngineServer]
VERSIONS = pytest.mark.parametrize("version", [3, 4])


def probing(server: EngineServer, version: int = 3) -> Client:
    """Give a client whose WebSocket is open and not probed yet."""
    client = Client(server, version)
    client.open()
    assert client.upgrade() == 101
    return client


@VERSIONS
def test_an_upgrade_as_captured(make_server: Make, version: int) -> None:
    server = make_server()
    client = Client(server, version)
    client.open()
    client.park()
    assert client.upgrade() == 101
    assert client.polled() is None
    client.send(b"2probe")
    assert client.got() == [b"3probe"]
    assert client.polled() == [b"6"]
    assert server.door.connections == 2
    assert server.session.transport.request.transport == "socketio_polling"
    client.send(b"5")
    assert client.got() == []
    assert server.session.transport.request.transport == "socketio_websocket"
    assert server.door.connections == 1
    assert server.timers() == 0
    server.session.deliver(message_frame(b"2[1]"))
    assert client.got() == [b"42[1]"]
    client.send(b"42[2]")
    assert server.dialect.messages == [b"2[2]"]
    assert server.stats.accepted == {"socketio_polling": 1}


@VERSIONS
def test_nothing_is_on_polling_after_the_upgrade(make_server: Make, version: int) -> None:
    server = make_server()
    client = Client(server, version)
    client.open()
    client.change_over()
    server.session.deliver(message_frame(b"2[1]"))
    assert client.get().error == (400, 3)
    assert client.post(b"4x").error == (400, 3)
    assert Client.upgrade(client) == 400
    assert server.dialect.messages == []
    assert not server.session.closed


def test_what_waits_comes_first_on_the_websocket(make_server: Make) -> None:
    server = make_server()
    client = probing(server)
    server.session.deliver(message_frame(b"2[1]"))
    client.send(b"2probe")
    server.session.deliver(message_frame(b"2[2]"))
    assert client.got() == [b"3probe"]
    client.send(b"5")
    server.session.deliver(message_frame(b"2[3]"))
    assert client.got() == [b"42[1]", b"42[2]", b"42[3]"]


def test_polls_while_probing(make_server: Make) -> None:
    server = make_server()
    client = probing(server)
    client.send(b"2probe")
    assert client.got() == [b"3probe"]
    assert client.poll() == [b"6"]
    server.session.deliver(message_frame(b"2[1]"))
    assert client.poll() == [b"42[1]"]
    assert client.post(b"42[2]").body == b"ok"
    assert server.dialect.messages == [b"2[2]"]
    client.send(b"5")
    server.session.deliver(message_frame(b"2[3]"))
    assert client.got() == [b"42[3]"]


def test_a_channel_that_is_taken_away_while_probing(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    client.park()
    client.upgrade()
    client.send(b"2probe")
    assert client.polled() == [b"6"]
    server.session.deliver(message_frame(b"2[1]"), "taken")
    server.session.deliver(message_frame(b"2[2]"))
    server.session.forget_channel("taken")
    client.send(b"5")
    assert client.got() == [b"3probe", b"42[2]"]


def test_a_second_websocket_is_refused(make_server: Make) -> None:
    server = make_server()
    client = probing(server)
    first = client.socket
    assert client.upgrade() == 400
    client.socket = first
    client.send(b"2probe")
    client.send(b"5")
    assert client.got() == [b"3probe"]
    assert server.session.transport.request.transport == "socketio_websocket"


@pytest.mark.parametrize("sent", [b"5", b"2", b"2prob", b"4x", b"", b"1", b"\xc3\xa9"])
@pytest.mark.parametrize("probed", [False, True])
def test_what_is_no_upgrade(make_server: Make, sent: bytes, probed: bool) -> None:
    if probed and sent == b"5":
        sent = b"2probe"  # Once is enough.
    server = make_server()
    client = probing(server)
    if probed:
        client.send(b"2probe")
        client.got()
    client.send(sent)
    assert client.got() == [b"#3501"]
    client.send(b"2probe")
    client.send(b"5")
    assert client.got() == []
    # Polling goes on as if nothing had been, and may try again when that WebSocket is gone.
    assert client.poll() is None
    server.session.deliver(message_frame(b"2[1]"))
    assert client.polled() == [b"42[1]"]
    assert server.dialect.messages == []
    failed = client.socket
    assert client.upgrade() == 400
    assert failed is not None
    failed.wire.hang_up()
    assert client.change_over() == []


def test_no_client_has_more_than_one_websocket(make_server: Make) -> None:
    """Else one that is let in could have any number, past the limits of the door."""
    server = make_server(limits={"max_connections_per_address": 2})
    client = Client(server)
    client.open()
    for _ in range(10):
        if client.upgrade() == 101:
            client.send(b"x")
    assert server.door.connections == 2


def test_a_binary_message_is_no_upgrade(make_server: Make) -> None:
    server = make_server()
    client = probing(server)
    client.send(b"2probe", BINARY)
    assert client.got() == [b"#3501"]
    assert not server.session.closed


@pytest.mark.parametrize("probed", [False, True])
def test_an_upgrade_that_is_not_finished(make_server: Make, probed: bool) -> None:
    server = make_server()
    client = probing(server)
    server.let_in()
    if probed:
        client.send(b"2probe")
        client.got()
    server.advance(PROBE_TIMEOUT - 0.25)
    assert client.got() == []
    server.advance(0.25)
    assert client.got() == [b"#3501"]
    client.send(b"5")
    assert client.poll() is None
    assert not server.session.closed


def test_a_websocket_that_is_lost_before_the_upgrade(make_server: Make) -> None:
    server = make_server()
    client = probing(server)
    client.send(b"2probe")
    assert client.socket is not None
    client.socket.wire.hang_up()
    assert server.door.connections == 1
    assert server.timers() == 0
    assert client.poll() is None
    assert not server.session.closed
    assert client.upgrade() == 101


def test_a_websocket_that_is_lost_after_the_upgrade(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    client.change_over()
    assert client.socket is not None
    client.socket.wire.hang_up()
    assert server.stats.closed == {0: 1}
    assert server.door.connections == 0
    assert client.get().error == (400, 1)


def test_a_client_that_is_lost_in_the_middle(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    client.park()
    client.upgrade()
    assert client.poll_ is not None
    client.poll_.wire.hang_up()
    assert client.got() == [b"#1000"]
    assert server.session.closed


def test_a_session_that_ends_in_the_middle_and_is_told_by_the_poll(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    client.park()
    client.upgrade()
    server.world.node.finish(server.session, Disconnect(3503))
    packets = client.last()
    assert packets[1:] == [b"41", b"1"]
    assert client.got() == [b"#1000"]


def test_a_session_that_ends_in_the_middle_and_is_told_by_the_websocket(make_server: Make) -> None:
    server = make_server()
    client = probing(server)
    client.send(b"2probe")
    assert client.got() == [b"3probe"]
    server.world.node.finish(server.session, Disconnect(3503))
    client.send(b"5")
    told = client.got()
    assert b"clientDisconnected" in told[0]
    assert told[1:] == [b"41", b"#3503"]
    assert client.get().status == 400
    assert server.timers() == 0
    server.advance(5)
    assert server.door.connections == 0


def test_a_session_that_ends_in_the_middle_of_a_client_that_says_no_more(make_server: Make) -> None:
    server = make_server()
    client = probing(server)
    client.send(b"2probe")
    client.got()
    server.world.node.finish(server.session, Disconnect(3503))
    server.advance(5)
    assert client.got() == [b"#1000"]
    assert client.get().error == (400, 1)


def test_no_websocket_of_a_closed_session(make_server: Make) -> None:
    server = make_server()
    client = Client(server)
    client.open()
    server.world.node.finish(server.session, Disconnect(3503))
    assert client.upgrade() == 400
    packets = client.last()
    assert packets[1:] == [b"41", b"1"]


def test_a_websocket_that_is_full_from_the_start(make_server: Make) -> None:
    server = make_server()
    client = probing(server)
    client.send(b"2probe")
    assert client.socket is not None
    producer: Any = client.socket.wire.producer
    producer.pauseProducing()
    server.session.deliver(message_frame(b"2[1]"))
    client.send(b"5")
    server.session.deliver(message_frame(b"2[2]"))
    assert client.got() == [b"3probe"]
    producer.resumeProducing()
    assert client.got() == [b"42[1]", b"42[2]"]


def test_another_host_may_not_take_a_session_over(make_server: Make) -> None:
    server = make_server(sites=2)
    client = Client(server, Host="site0.test")
    client.open()
    client.headers["Host"] = "site1.test"
    assert client.upgrade() == 400
    client.headers["Host"] = "site0.test"
    assert client.change_over() == []


# --- Any order of things ---------------------------------------------------------------------


class Story:
    """One client to which anything happens, in any order; it reads whatever it is given."""

    def __init__(self, version: int) -> None:
        self.server = EngineServer(limits={"max_commands_per_second": 0, "max_outbox": 2**30})
        self.client = Client(self.server, version)
        self.client.open()
        self.sent: list[bytes] = []
        self.read: list[bytes] = []
        self.probed = self.upgraded = False

    def send(self, size: int = 0) -> None:
        packet = b"2[%d]" % len(self.sent) + b" " * size
        self.sent.append(b"4" + packet)
        self.server.session.deliver(message_frame(packet), "a")

    def large(self) -> None:
        for _ in range(3):
            self.send(ANSWER_SIZE // 2)

    def poll(self) -> None:
        if self.client.poll_ is None and not self.upgraded:
            self.client.park()

    def post(self) -> None:
        if not self.upgraded:
            assert self.client.post(b"6").body == b"ok"

    def heartbeat(self) -> None:
        """Have the server send something that is not of the story, in the midst of it."""
        if self.client.version == 3 and not self.upgraded:
            self.client.post(b"2")

    def open(self) -> None:
        if self.client.socket is None:
            assert self.client.upgrade() == 101

    def probe(self) -> None:
        if self.client.socket is not None and not self.probed:
            self.client.send(b"2probe")
            self.probed = True

    def five(self) -> None:
        if self.probed and not self.upgraded:
            self.client.send(b"5")
            self.upgraded = True

    def fail(self) -> None:
        if self.client.socket is not None and not self.upgraded:
            self.collect()
            self.client.socket.wire.hang_up()
            self.client.socket, self.probed = None, False

    def fill(self) -> None:
        self._produce("pauseProducing")

    def empty(self) -> None:
        self._produce("resumeProducing")

    def _produce(self, name: str) -> None:
        if self.client.socket is not None:
            getattr(self.client.socket.wire.producer, name)()

    def forget(self) -> None:
        """Take away a channel of which nothing is sent."""
        self.server.session.forget_channel("b")

    def collect(self) -> None:
        """Read as the client does: a poll that was answered first, then the WebSocket."""
        if self.client.poll_ is not None:
            self._take(self.client.polled() or [])
        if self.client.socket is not None:
            self._take(self.client.got())

    def _take(self, packets: list[bytes]) -> None:
        self.read += [packet for packet in packets if packet not in (b"3", b"3probe", b"6")]

    def finish(self) -> None:
        """Read until there is no more."""
        self.empty()
        self.collect()
        for _ in range(2 * len(self.sent) + 2):
            self.poll()
            self.collect()


STEPS = [
    name for name in vars(Story) if not name.startswith("_") and name not in ("collect", "finish")
]


@settings(deadline=None, max_examples=300)
@given(version=st.sampled_from([3, 4]), steps=st.lists(st.sampled_from(STEPS), max_size=40))
def test_nothing_is_lost_doubled_or_reordered(version: int, steps: list[str]) -> None:
    story = Story(version)
    try:
        for step in steps:
            getattr(story, step)()
            story.collect()
            assert story.read == story.sent[: len(story.read)]
        story.finish()
        assert story.read == story.sent
        assert not story.server.session.closed
    finally:
        story.server.end()
