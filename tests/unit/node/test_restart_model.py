"""Clients that come and go while their server is stopped, killed and started, against a model.

A real node on a real journal. The model knows what was published and what of it is kept. Whoever
comes back has to be given all that was missed, or told that it cannot be, and that only where it
is so. `test_recovery_model` has the finer moments of one life, `test_journal_crashes` those of the
journal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.contract.bench import clean_up, journal, new_directory, run, settle
from tests.unit.cms.support import clock_at
from tests.unit.engines.support import failing_writes, left_behind
from tests.unit.node.support import Tab, World, sign
from twisted_push.config import Namespace
from twisted_push.engines.journal import runs
from twisted_push.engines.memory import MemoryEngine
from twisted_push.errors import EngineUnavailable

SIZE = 5
TTL = 60.0
LIMIT = 4
ASKED, GRANTED = ("a", "b"), ("g", "h")
CHANNELS = st.sampled_from([*ASKED, *GRANTED])
SPACE = Namespace(
    prefix="",
    client_subscribe="anyone",
    history_size=SIZE,
    history_ttl=TTL,
    recover=True,
)
LIMITS = {
    "recovery_max_publication_limit": LIMIT,
    "ping_interval": 1e9,
    "max_commands_per_second": 0,
}


@define
class Truth:
    """What is right for one channel. ``life`` is another where no position holds any more.

    ``ends`` is what is kept, ``given`` the ends of everything that was.
    """

    life: int = 0
    top: int = 0
    data: dict[int, int] = field(factory=dict)
    ends: dict[int, float] = field(factory=dict)
    given: dict[int, float] = field(factory=dict)

    def add(self, number: int, end: float) -> None:
        self.top += 1
        self.data[self.top] = number
        self.ends[self.top] = self.given[self.top] = end
        self.ends.pop(self.top - SIZE, None)

    def begin_anew(self) -> None:
        self.life, self.top, self.data, self.ends = self.life + 1, 0, {}, {}
        self.given = {}

    def has(self, life: int, offset: int) -> bool:
        """Tell whether who is at an offset of a life can be given the rest."""
        missed = range(offset + 1, self.top + 1)
        return life == self.life and len(missed) <= LIMIT and self.ends.keys() >= set(missed)


@define
class Place:
    """Where a reader is in a channel, and how the server calls that."""

    life: int
    offset: int
    epoch: str


@define(eq=False)
class Reader:
    """A client as the public libraries are: it knows its places, and comes back with them."""

    name: str
    tab: Tab | None = None
    places: dict[str, Place] = field(factory=dict)


class Restarts(RuleBasedStateMachine):
    durability = "write"

    def __init__(self) -> None:
        super().__init__()
        self.patched = pytest.MonkeyPatch()
        self.directory = new_directory()
        self.boot()
        self.clock = clock_at()
        self.number = 0
        self.truths = {channel: Truth() for channel in (*ASKED, *GRANTED)}
        self.readers = [Reader("one"), Reader("two")]
        self.start()

    # --- The server --------------------------------------------------------------------------

    def boot(self) -> None:
        """Have the machine look as if it was started anew."""
        place = Path(new_directory()) / "boot_id"
        place.write_text(place.parent.name)
        self.patched.setattr(runs, "BOOT_ID", place)

    def start(self) -> None:
        machine = self

        class Journalled(World):
            @staticmethod
            def make_clock() -> Clock:
                return machine.clock

            @staticmethod
            def make_engine(clock: Clock) -> MemoryEngine:
                return MemoryEngine(clock, journal(machine.directory, machine.durability))

        self.world = Journalled(namespaces=(SPACE,), limits=LIMITS)
        run(Deferred.fromCoroutine(self.world.start()))

    def stop(self) -> None:
        run(Deferred.fromCoroutine(self.world.node.stop()))
        for reader in self.readers:
            self.lose(reader)
        assert self.clock.getDelayedCalls() == []

    @rule()
    def restart(self) -> None:
        self.stop()
        self.start()

    @rule(machine=st.booleans())
    def crash(self, machine: bool) -> None:
        """The server is killed. With the machine nothing is lost here, but nobody knows that."""
        self.die(lost=machine or self.durability == "none")
        if machine:
            self.boot()
        self.start()
        self.adopt()

    def die(self, *, lost: bool) -> None:
        directory = left_behind(self.directory)
        self.stop()
        self.directory = directory
        for truth in self.truths.values():
            truth.life += lost

    def adopt(self) -> None:
        """Take over what the server has: only without durability it may have lost the last ones."""
        for channel, truth in self.truths.items():
            found = self.history(channel)
            top, kept = found.position.offset, [p.position.offset for p in found.publications]
            if self.durability == "none":
                assert top <= truth.top
                truth.top = top  # What the last ones pushed out may be there again.
                truth.ends = {offset: truth.given[offset] for offset in kept}
            assert (top, kept) == (truth.top, sorted(truth.ends))
            assert [int(p.data) for p in found.publications] == [truth.data[n] for n in kept]

    def history(self, channel: str) -> Any:
        return run(self.world.engine.history(channel, None, -1, False))

    # --- What happens ------------------------------------------------------------------------

    @rule(channel=CHANNELS, count=st.integers(1, 6))
    def publish(self, channel: str, count: int) -> None:
        for _ in range(count):
            self.number += 1
            run(Deferred.fromCoroutine(self.world.publish(channel, self.number)))
            self.truths[channel].add(self.number, self.clock.seconds() + TTL)

    @rule(channel=CHANNELS, crash=st.booleans(), fault=st.sampled_from(["not done", "unknown"]))
    def publish_in_vain(self, channel: str, crash: bool, fault: str) -> None:
        """The disk fails: what was refused never was, and what was not written may be lost."""
        settle()
        self.number += 1
        with failing_writes("not done" if fault == "not done" else "unknown, not done"):
            try:
                run(Deferred.fromCoroutine(self.world.publish(channel, self.number)))
            except EngineUnavailable:
                assert self.durability != "none"
            else:
                assert self.durability == "none"
                self.truths[channel].add(self.number, self.clock.seconds() + TTL)
                self.everybody_is_right()
            settle()
            if crash:
                self.die(lost=self.durability == "none")
        if crash:
            self.start()
            self.adopt()
        else:
            self.wait(2.0)

    @rule(seconds=st.sampled_from([1.0, 20.0, 45.0, 61.0]))
    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            settle()
        for truth in self.truths.values():
            over = [n for n, end in truth.ends.items() if end <= self.clock.seconds()]
            for offset in over:
                del truth.ends[offset]

    @precondition(lambda self: all(reader.tab is None for reader in self.readers))
    @rule()
    def a_day_passes(self) -> None:
        self.wait(61.0)
        self.clock.advance(100_000.0)
        self.wait(31.0)
        for truth in self.truths.values():
            truth.begin_anew()

    @rule(channel=CHANNELS)
    def remove(self, channel: str) -> None:
        run(Deferred.fromCoroutine(self.world.node.backend.history_remove(channel)))
        self.truths[channel].ends.clear()

    @rule(number=st.integers(0, 1))
    def come_or_go(self, number: int) -> None:
        reader = self.readers[number]
        if reader.tab is not None:
            self.lose(reader)
            return
        reader.tab = tab = self.world.tab()
        token = sign(sub=reader.name, channels=list(GRANTED))
        since = {name: self.since(reader, name) for name in GRANTED if name in reader.places}
        tab.send("connect", token=token, subs=since)
        settle()
        for name in ASKED:
            tab.send("subscribe", channel=name, **self.since(reader, name))
            settle()
        replies = [each for each in tab.new() if "id" in each]
        granted = replies[0]["connect"]["subs"]
        for name in GRANTED:
            self.began(reader, name, granted[name])
        for name, reply in zip(ASKED, replies[1:], strict=True):
            self.began(reader, name, reply["subscribe"])

    def since(self, reader: Reader, channel: str) -> dict[str, Any]:
        place = reader.places.get(channel)
        if place is None:
            return {}
        return {"recover": True, "offset": place.offset, "epoch": place.epoch}

    def lose(self, reader: Reader) -> None:
        if reader.tab is not None:
            self.take(reader)
            reader.tab.leave()
            reader.tab = None

    # --- What clients see --------------------------------------------------------------------

    def began(self, reader: Reader, channel: str, result: dict[str, Any]) -> None:
        truth, place = self.truths[channel], reader.places.get(channel)
        found = [(each["offset"], each["data"]) for each in result.get("publications", ())]
        assert result.get("was_recovering", False) is (place is not None)
        assert result.get("offset", 0) == truth.top
        if place is not None and truth.has(place.life, place.offset):
            assert result["recovered"] is True
            missed = range(place.offset + 1, truth.top + 1)
            assert found == [(offset, truth.data[offset]) for offset in missed]
            assert result["epoch"] == place.epoch or not place.offset
        else:
            assert "recovered" not in result
            assert found == []
        reader.places[channel] = Place(truth.life, truth.top, result["epoch"])

    def take(self, reader: Reader) -> None:
        """Have a reader take in what it was sent."""
        for message in reader.tab.new() if reader.tab is not None else ():
            push = message["push"]
            if "disconnect" in push:
                continue
            place = reader.places[push["channel"]]
            truth, publication = self.truths[push["channel"]], push["pub"]
            place.offset += 1
            assert publication["offset"] == place.offset
            if truth.life == place.life:
                assert publication["data"] == truth.data[place.offset]

    @invariant()
    def everybody_is_right(self) -> None:
        settle()
        for reader in self.readers:
            self.take(reader)
            if reader.tab is None:
                continue
            assert reader.tab.code is None
            for channel, truth in self.truths.items():
                place = reader.places[channel]
                assert (place.life, place.offset) == (truth.life, truth.top)
        for channel, truth in self.truths.items():
            kept = [p.position.offset for p in self.history(channel).publications]
            assert kept == sorted(truth.ends)

    def teardown(self) -> None:
        self.stop()
        self.patched.undo()
        clean_up()


class RestartsWithoutDurability(Restarts):
    durability = "none"


class RestartsWithCommits(Restarts):
    durability = "commit"

    @rule()
    def crash(self) -> None:
        """Nothing is lost, even with the machine."""
        self.die(lost=False)
        self.boot()
        self.start()
        self.adopt()


SETTINGS = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRestarts = Restarts.TestCase
TestRestarts.settings = SETTINGS
TestRestartsWithoutDurability = RestartsWithoutDurability.TestCase
TestRestartsWithoutDurability.settings = SETTINGS
TestRestartsWithCommits = RestartsWithCommits.TestCase
TestRestartsWithCommits.settings = SETTINGS
