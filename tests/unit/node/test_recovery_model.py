"""Clients that come and go at any moment, against a model of what was published.

Each publication is seen exactly once, in the order of its offset; or the client is told that it
cannot be, and that only where it is so.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred

from tests.unit.node.support import Tab, World
from twisted_push.config import Namespace

CHANNEL = "a"
SIZE = 6
TTL = 60.0
LIMIT = 4
SETTINGS = settings(max_examples=200, stateful_step_count=40, deadline=None)


def now(doing: Any) -> Any:
    """Do what does not wait."""
    found: list[Any] = []
    waiting = Deferred.fromCoroutine(doing)
    waiting.addCallback(found.append)
    waiting.addErrback(lambda failure: failure.raiseException())
    return found[0]


@define
class Expected:
    """What the model says of a return: whether it is recovered. None if it read meanwhile."""

    recovered: bool | None


@define(eq=False)
class Reader:
    """A client as the public libraries are: it knows its position, and comes back with it."""

    tab: Tab | None = None
    offset: int = 0
    epoch: str = ""
    recovers: bool = False
    subscribed: bool = False
    expected: Expected = field(factory=lambda: Expected(None))
    unkept: set[int] = field(factory=set)
    paused: bool = False


class Returns(RuleBasedStateMachine):
    """Some readers of one channel. ``kept`` is what the stream should have: offset and end."""

    mode = "stream"

    def __init__(self) -> None:
        super().__init__()
        space = Namespace(
            prefix="",
            client_subscribe="anyone",
            history_size=SIZE,
            history_ttl=TTL,
            recover=True,
            recovery_mode=self.mode,
        )
        self.world = World(
            namespaces=(space,),
            limits={
                "recovery_max_publication_limit": LIMIT,
                "ping_interval": 1e9,
                "max_commands_per_second": 0,
            },
        )
        now(self.world.start())
        self.readers = [Reader(), Reader()]
        self.number = 0
        self.data: dict[int, int] = {}
        self.kept: list[tuple[int, float]] = []
        self.top, self.epoch = 0, ""
        self.look()

    def look(self) -> None:
        """Find out whether the stream has another life; there is nothing of it then."""
        position = now(self.world.node.backend.positions([CHANNEL]))[CHANNEL]
        if position.epoch != self.epoch:
            self.epoch, self.top = position.epoch, 0
            self.kept, self.data = [], {}
        assert position.offset == self.top

    @property
    def held(self) -> bool:
        return bool(self.world.engine.held)

    # --- What happens ------------------------------------------------------------------------

    @rule(count=st.integers(1, 3))
    def publish_some(self, count: int) -> None:
        for _ in range(count):
            self.publish(kept=True, key="")

    @rule(kept=st.booleans(), key=st.sampled_from(["", "one", "two"]))
    def publish(self, kept: bool, key: str) -> None:
        self.number += 1
        published = now(
            self.world.publish(CHANNEL, self.number, skip_history=not kept, idempotency_key=key)
        )
        if kept and not published.duplicate:
            self.top += 1
            assert published.position.offset == self.top
            self.data[self.top] = self.number
            self.kept.append((self.top, self.world.clock.seconds() + TTL))
            self.kept = self.kept[-SIZE:]

    @rule(seconds=st.sampled_from([1.0, 1.0, 20.0, 45.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.world.clock.advance(seconds)
        self.kept = [each for each in self.kept if each[1] > self.world.clock.seconds()]
        self.look()

    @rule()
    def remove(self) -> None:
        now(self.world.node.backend.history_remove(CHANNEL))
        self.kept = []

    @precondition(lambda self: all(reader.tab is None for reader in self.readers))
    @rule()
    def be_forgotten(self) -> None:
        """A day later there is another epoch."""
        self.world.clock.advance(60.0)
        self.world.clock.advance(90_000.0)
        self.kept = []
        self.look()

    @rule(number=st.integers(0, 1), held=st.sampled_from(["", "", "hold", "hold_work"]))
    def come_or_go(self, number: int, held: str) -> None:
        reader = self.readers[number]
        if reader.tab is not None:
            self.lose(reader)
        elif not self.held:
            self.come(reader, held)

    @rule(number=st.integers(0, 1), count=st.integers(1, SIZE))
    def miss_some(self, number: int, count: int) -> None:
        reader = self.readers[number]
        if reader.tab is not None:
            self.lose(reader)
            self.publish_some(count)

    def come(self, reader: Reader, held: str) -> None:
        reader.tab = self.world.connected()
        reader.unkept = set()
        reader.expected = Expected(None if held else self.recoverable(reader))
        names = ("since", "history")
        for name in names if held else ():
            getattr(self.world.engine, held).add(name)
        place = {"recover": True, "offset": reader.offset, "epoch": reader.epoch}
        reader.tab.send("subscribe", channel=CHANNEL, **(place if reader.recovers else {}))
        self.world.engine.hold.clear()
        self.world.engine.hold_work.clear()

    @precondition(lambda self: self.held)
    @rule()
    def answer(self) -> None:
        self.world.engine.release()

    @rule(number=st.integers(0, 1))
    def pause_or_resume(self, number: int) -> None:
        reader = self.readers[number]
        if reader.tab is not None:
            session = reader.tab.session
            (session.resume if reader.paused else session.pause)()
            reader.paused = not reader.paused

    def lose(self, reader: Reader) -> None:
        self.take(reader)
        assert reader.tab is not None
        reader.tab.leave()
        reader.tab, reader.subscribed, reader.paused = None, False, False

    # --- What clients see --------------------------------------------------------------------

    def recoverable(self, reader: Reader) -> bool:
        """Tell whether nothing that a reader missed is gone."""
        raise NotImplementedError

    def check_recovered(self, reader: Reader, result: dict[str, Any], offsets: list[int]) -> None:
        raise NotImplementedError

    def take(self, reader: Reader) -> None:
        """Have a reader take in what it was sent."""
        for message in reader.tab.new() if reader.tab is not None else ():
            if "subscribe" in message:
                self.take_result(reader, message["subscribe"])
            else:
                self.take_publication(reader, message["push"]["pub"])

    def take_result(self, reader: Reader, result: dict[str, Any]) -> None:
        recovered = result.get("recovered", False)
        assert result.get("was_recovering", False) == reader.recovers
        assert reader.recovers or not recovered
        if reader.recovers and reader.expected.recovered is not None:
            assert recovered == reader.expected.recovered
        publications = result.get("publications", [])
        offsets = [each["offset"] for each in publications]
        if recovered:
            self.check_recovered(reader, result, offsets)
        else:
            assert offsets == []
        for each in publications:
            assert each["data"] == self.data[each["offset"]]
        reader.offset, reader.epoch = result.get("offset", 0), result["epoch"]
        reader.recovers = reader.subscribed = True

    def take_publication(self, reader: Reader, publication: dict[str, Any]) -> None:
        assert reader.subscribed, "before the reply"
        if "offset" not in publication:
            assert publication["data"] not in reader.unkept
            reader.unkept.add(publication["data"])
            return
        reader.offset += 1
        assert publication["offset"] == reader.offset
        assert publication["data"] == self.data[reader.offset]

    @invariant()
    def everybody_who_reads_has_everything(self) -> None:
        for reader in self.readers:
            self.take(reader)
            if reader.subscribed and not reader.paused:
                assert (reader.offset, reader.epoch) == (self.top, self.epoch)

    def teardown(self) -> None:
        while self.held:
            self.world.engine.release()
        now(self.world.end())


class StreamReturns(Returns):
    def recoverable(self, reader: Reader) -> bool:
        missed = range(reader.offset + 1, self.top + 1)
        here = {offset for offset, _ in self.kept}
        return reader.epoch == self.epoch and len(missed) <= LIMIT and here.issuperset(missed)

    def check_recovered(self, reader: Reader, result: dict[str, Any], offsets: list[int]) -> None:
        assert result["epoch"] == reader.epoch
        assert offsets == list(range(reader.offset + 1, result.get("offset", 0) + 1))


class CacheReturns(Returns):
    mode = "cache"

    def recoverable(self, reader: Reader) -> bool:
        at_the_top = (reader.offset, reader.epoch) == (self.top, self.epoch)
        return at_the_top or self.top in {offset for offset, _ in self.kept}

    def check_recovered(self, reader: Reader, result: dict[str, Any], offsets: list[int]) -> None:
        top = result.get("offset", 0)
        known = (reader.offset, reader.epoch) == (top, result["epoch"])
        assert offsets == ([] if known else [top])


TestStreamReturns = StreamReturns.TestCase
TestStreamReturns.settings = SETTINGS
TestCacheReturns = CacheReturns.TestCase
TestCacheReturns.settings = SETTINGS
