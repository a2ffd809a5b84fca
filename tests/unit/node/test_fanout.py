"""The fan-out: in slices, in order, to nobody who left, and together what can go together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from socket import socket, socketpair
from typing import Any, cast

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.unit.cms.support import Outcome
from tests.unit.node.support import World as SiteWorld
from tests.unit.node.support import sign
from twisted_push.fairness import SLICE, Scheduler
from twisted_push.hub import Crowd
from twisted_push.interfaces import ICodec
from twisted_push.node import fanout
from twisted_push.node.fanout import (
    AT_ONCE,
    MAX_TOGETHER,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    FanOut,
)
from twisted_push.session import Session
from twisted_push.wires import NO_DESCRIPTOR, Wires

MANY = AT_ONCE + 1


class SlowClock(Clock):
    """Time goes on by ``cost`` seconds for each client that is served."""

    cost = 0.0

    def spend(self) -> None:
        self.rightNow += self.cost

    def turn(self) -> None:
        """Do what is due, but not what that has put off: `advance` would."""
        calls: Any = tuple(self.getDelayedCalls())
        for call in calls:
            function, arguments = call.func, call.args
            call.cancel()
            function(*arguments)


@define(eq=False)
class Client:
    """Takes frames as a session does."""

    clock: SlowClock
    codec: str = "a"
    broken: bool = False
    descriptor: int = NO_DESCRIPTOR
    got: list[bytes] = field(factory=list)

    def deliver(self, frame: bytes, channel: str) -> None:
        if self.broken:
            raise RuntimeError("as a fault of ours would")
        self.clock.spend()
        self.got.append(frame)

    @property
    def text(self) -> str:
        return b"".join(self.got).decode()


def crowd_of(clients: Iterable[Client]) -> Crowd[Session]:
    return Crowd(cast("Iterable[Session]", clients))


class World:
    """Clients in one channel, as the hub has them."""

    def __init__(self, count: int) -> None:
        self.clock = SlowClock()
        self.share = Scheduler(self.clock).share()
        self.wires = Wires(os.write)
        self.fan_out = FanOut(self.share, self.wires)
        self.clients = [Client(self.clock) for _ in range(count)]
        self.here = list(self.clients)
        self.encoded: list[str] = []

    def send(self, text: str, channel: str = "c", without: Client | None = None) -> int:
        def encode(codec: ICodec) -> bytes:
            self.encoded.append(f"{codec}{text}")
            return text.encode()

        crowd = crowd_of(client for client in self.here if client is not without)
        return self.fan_out.send(channel, lambda: crowd, encode, whole=without is None)

    def leave(self, client: Client) -> None:
        self.here.remove(client)
        self.fan_out.left("c", cast("Session", client))

    def join(self, client: Client) -> None:
        self.here.append(client)
        self.fan_out.joined("c")

    def turn(self) -> None:
        self.clock.turn()

    def got(self) -> set[str]:
        return {client.text for client in self.clients}


def test_a_few_are_served_at_once() -> None:
    world = World(AT_ONCE)
    assert world.send("1") == AT_ONCE
    assert world.got() == {"1"}
    assert world.fan_out.waiting == 0
    assert not world.clock.getDelayedCalls()


def test_a_few_get_together_what_is_published_together() -> None:
    world = World(AT_ONCE)
    with world.fan_out.together():
        for text in "12":
            world.send(text)
        world.send("a", "other")
        world.leave(world.clients[0])
        world.send("3")
        assert world.got() == {""}
        assert world.fan_out.waiting == 4
    assert world.clients[0].text == "a"
    assert {client.text for client in world.clients[1:]} == {"123a"}
    assert {len(client.got) for client in world.clients[1:]} == {2}
    assert world.fan_out.waiting == 0
    assert not world.clock.getDelayedCalls()
    world.send("4")
    assert world.clients[1].text == "123a4"


def test_what_is_too_much_to_go_together_follows_in_order() -> None:
    world = World(2)
    texts = [f"{number}," for number in range(2 * MAX_TOGETHER + 3)]
    with world.fan_out.together():
        for text in texts:
            world.send(text)
        world.send("!", without=world.clients[0])
    while world.fan_out.waiting:
        world.turn()
    assert world.clients[0].text == "".join(texts)
    assert world.clients[1].text == "".join(texts) + "!"


def test_a_fault_of_one_channel_does_not_end_what_is_together() -> None:
    world = World(1)
    [client] = world.clients

    def send() -> None:
        with world.fan_out.together():
            world.send("1")
            world.send("2", "other")

    client.broken = True
    with pytest.raises(RuntimeError, match="as a fault of ours would"):
        send()
    client.broken = False
    assert world.fan_out.waiting == 0
    world.send("3")
    world.send("4", "other")
    assert client.text == "34"


def test_nobody_is_nothing() -> None:
    world = World(0)
    assert world.send("1") == 0
    assert not world.clock.getDelayedCalls()


def test_many_are_served_in_a_later_turn_with_what_came_meanwhile() -> None:
    world = World(MANY)
    assert [world.send(text) for text in "123"] == [MANY] * 3
    assert world.got() == {""}
    assert world.fan_out.waiting == 3
    world.turn()
    assert world.got() == {"123"}
    assert {len(client.got) for client in world.clients} == {1}
    assert world.fan_out.waiting == 0
    assert not world.clock.getDelayedCalls()


def test_it_is_encoded_once_for_each_codec() -> None:
    world = World(MANY)
    for client in world.clients[:10]:
        client.codec = "b"
    world.send("1")
    world.turn()
    assert sorted(world.encoded) == ["a1", "b1"]


def test_a_slice_ends_in_time_and_the_others_are_served_later() -> None:
    world = World(10 * MANY)
    world.clock.cost = SLICE / 100
    world.send("1")
    world.turn()
    served = sum(client.text == "1" for client in world.clients)
    assert 100 <= served <= 100 + 2 * fanout.STEP
    world.send("2")  # Some have the first already.
    while world.clock.getDelayedCalls():
        world.turn()
    assert world.got() == {"12"}


def test_a_small_channel_does_not_wait_for_a_large_one() -> None:
    world = World(MANY)
    world.send("1")
    small = [Client(world.clock)]
    world.fan_out.send("small", lambda: crowd_of(small), lambda _: b"s")
    assert small[0].text == "s"
    assert world.got() == {""}
    world.fan_out.close()


def test_who_is_gone_gets_nothing_more_even_if_they_come_back() -> None:
    world = World(MANY)
    client = world.clients[0]
    world.send("1")
    world.leave(client)
    world.join(client)
    world.send("2")
    world.turn()
    assert client.text == "2"
    assert world.clients[1].text == "12"


def test_who_comes_gets_only_what_follows() -> None:
    world = World(MANY)
    world.send("1")
    late = Client(world.clock)
    world.join(late)
    assert world.send("2") == MANY + 1
    world.turn()
    assert late.text == "2"
    assert world.got() == {"12"}


def test_one_can_be_left_out() -> None:
    world = World(MANY + 1)
    author = world.clients[0]
    world.send("1")
    assert world.send("2", without=author) == MANY
    world.send("3")
    world.turn()
    assert author.text == "13"
    assert {client.text for client in world.clients[1:]} == {"123"}


def test_what_one_codec_has_no_word_for() -> None:
    world = World(MANY)
    world.clients[0].codec = "mute"
    clients = crowd_of(world.here)
    world.fan_out.send("c", lambda: clients, lambda codec: None if str(codec) == "mute" else b"1")
    world.turn()
    assert world.clients[0].got == []
    assert world.clients[1].text == "1"


def test_so_many_go_together_and_no_more() -> None:
    world = World(MANY)
    for _ in range(MAX_TOGETHER + 1):
        world.send(".")
    world.turn()
    assert [len(frame) for frame in world.clients[0].got] == [MAX_TOGETHER, 1]


def test_publishers_that_are_too_fast_wait_for_room() -> None:
    world = World(MANY)
    for _ in range(MAX_WAITING - 1):
        world.send(".")
    assert not world.fan_out.full
    world.send(".")
    assert world.fan_out.full
    assert world.got() == {""}
    waiting = [Outcome(world.fan_out.room()) for _ in range(3)]
    waiting[1].deferred.cancel()  # Its client is gone.
    world.turn()
    assert [each.says for each in waiting] == ["", "CancelledError ", ""]
    assert all(each.done for each in waiting)
    assert not world.fan_out.full
    world.fan_out.close()


def test_publishers_of_much_data_wait_sooner() -> None:
    world = World(MANY)
    many = crowd_of(world.here)
    world.fan_out.send("c", lambda: many, lambda _: b".", size=MAX_WAITING_BYTES - 1)
    assert not world.fan_out.full
    world.fan_out.send("c", lambda: many, lambda _: b".", size=1)
    assert world.fan_out.full
    world.turn()
    assert not world.fan_out.full


def test_who_waits_for_room_comes_in_its_turn_and_no_more_than_there_is_room_for() -> None:
    world = World(MANY)
    for _ in range(MAX_WAITING):
        world.send(".")
    came: list[int] = []

    def publish(room: None, number: int = 0) -> None:
        came.append(number)
        for _ in range(MAX_WAITING // 2):
            world.send(".", channel="another")

    for number in range(5):
        world.fan_out.room().addCallback(partial(publish, number=number))
    rounds = 0
    while world.clock.getDelayedCalls():
        world.turn()
        assert world.fan_out.waiting <= 3 * MAX_WAITING // 2
        rounds += 1
    assert came == [0, 1, 2, 3, 4]
    assert world.fan_out.waiting == 0


def test_the_end_lets_those_go_who_wait_for_room() -> None:
    world = World(MANY)
    for _ in range(MAX_WAITING):
        world.send(".")
    waiting = Outcome(world.fan_out.room())
    world.fan_out.close()
    assert waiting.done


def test_nobody_is_served_after_the_end() -> None:
    world = World(MANY)
    world.send("1")
    world.fan_out.close()
    world.share.close()
    assert not world.clock.getDelayedCalls()
    assert world.got() == {""}


def test_a_fault_of_one_turn_does_not_end_the_others() -> None:
    world = World(MANY)
    world.clients[0].broken = True
    world.send("1")
    for _ in range(3):
        try:
            world.turn()
        except RuntimeError:
            continue
    assert {client.text for client in world.clients[1:]} == {"1"}


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.just(0)),
        st.tuples(st.just("without"), st.integers(0, 9)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("join"), st.integers(0, 9)),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 100))
@settings(max_examples=200, deadline=None)
def test_everybody_gets_all_of_their_time_in_order_and_nothing_else(
    steps: list[tuple[str, int]], cost: int
) -> None:
    world = World(MANY + 10)
    world.clock.cost = SLICE / cost
    owed: dict[Client, str] = dict.fromkeys(world.clients, "")

    for number, (what, who) in enumerate(steps):
        client = world.clients[who]
        mark = chr(0x100 + number)
        if what == "turn":
            world.turn()
        elif what == "leave" and client in world.here:
            world.leave(client)
            owed[client] = client.text  # Not a frame more of before.
        elif what == "join" and client not in world.here:
            world.join(client)
        elif what in ("send", "without"):
            without = client if what == "without" and client in world.here else None
            for each in set(world.here) - {without}:
                owed[each] += mark
            world.send(mark, without=without)
        assert all(client.text == owed[client][: len(client.text)] for client in world.clients)
    while world.clock.getDelayedCalls():
        world.turn()
    assert {client: client.text for client in world.clients} == owed
    assert world.fan_out.waiting == 0


# --- Past the session ------------------------------------------------------------------------


class Pipes(World):
    """Clients whose descriptors are real, and open."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.peers: dict[Client, socket] = {}
        for client in self.clients:
            ours, self.peers[client] = socketpair()
            ours.setblocking(False)
            client.descriptor = ours.detach()
            self.wires.open(client.descriptor, cast("ICodec", client.codec))

    def read(self, client: Client) -> str:
        self.peers[client].setblocking(False)
        try:
            return self.peers[client].recv(1 << 20).decode()
        except BlockingIOError:
            return ""

    def close(self) -> None:
        for client, peer in self.peers.items():
            peer.close()
            os.close(client.descriptor)


@pytest.fixture
def pipes() -> Iterator[Callable[[int], Pipes]]:
    made = []

    def make(count: int) -> Pipes:
        made.append(Pipes(count))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("count", [3, MANY])
def test_frames_are_written_past_the_session(pipes: Callable[[int], Pipes], count: int) -> None:
    world = pipes(count)
    world.send("1")
    world.send("2")
    while world.clock.getDelayedCalls():
        world.turn()
    got = {client: client.text + world.read(client) for client in world.clients}
    assert set(got.values()) == {"12"}
    # The first that is come across has the frame made.
    assert sum(bool(client.got) for client in world.clients) <= 2


def test_clients_of_several_codecs_in_one_channel(pipes: Callable[[int], Pipes]) -> None:
    world = pipes(9)
    for client in world.clients[::3]:
        client.codec = "b"
        world.wires.open(client.descriptor, cast("ICodec", "b"))
    world.wires.shut(world.clients[1].descriptor)
    clients = crowd_of(world.clients)
    for _ in range(2):
        world.fan_out.send("c", lambda: clients, lambda codec: f"{codec}.".encode())
    got = [client.text + world.read(client) for client in world.clients]
    assert got == ["b.b.", "a.a.", "a.a."] * 3
    assert len(world.clients[1].got) == 2


def test_who_is_gone_is_not_written_to(pipes: Callable[[int], Pipes]) -> None:
    """Nor another client that has the number now."""
    world = pipes(MANY)
    order = world.clients
    world.send("1")
    world.leave(order[-1])
    world.turn()
    assert order[-1].text + world.read(order[-1]) == ""
    assert {client.text + world.read(client) for client in order[:-1]} == {"1"}


def test_what_a_full_descriptor_does_not_take_goes_through_the_session(
    pipes: Callable[[int], Pipes],
) -> None:
    world = pipes(3)
    _, full, _ = world.clients
    world.send("1")
    text = "x" * 50_000
    for _ in range(20):
        world.send(text)
    wanted = "1" + text * 20
    read = world.read(full)
    assert 0 < len(read) < len(wanted)
    assert full.got[0] != text.encode()  # It took a part of that.
    assert read + full.text == wanted


def test_a_broken_descriptor_is_for_the_transport_to_notice(
    pipes: Callable[[int], Pipes],
) -> None:
    world = pipes(3)
    _, broken, last = world.clients
    world.peers[broken].close()
    world.send("1")
    assert broken.text == "1"
    assert world.read(last) == "1"


def test_whatever_fails_while_a_client_ends_it_is_in_no_channel_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its descriptor may be that of another client at once."""
    world = SiteWorld(broadcast_channel="all", user_channel="user:{user}", anonymous=True)
    Deferred.fromCoroutine(world.start())
    tab = world.connected(token=sign(sub="ann"))
    assert world.context.hub.counts() == {"all": 1, "user:ann": 1}

    def fail(*given: object) -> None:
        raise RuntimeError("as a fault of ours would")

    monkeypatch.setattr(world.node.channels.interests, "care_less", fail)
    with pytest.raises(RuntimeError):
        tab.session.lost()
    assert world.context.hub.counts() == {}
