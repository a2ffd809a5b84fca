"""What Python's collector looks at while the server runs."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Iterator

import pytest
from attrs import define, field
from twisted.internet.task import Clock

from twisted_push.collector import DAY, FEW, INTERVAL, YOUNG_INTERVAL, Collector, resident


@define
class Running:
    """A collector at work, and how many are connected."""

    clock: Clock = field(factory=Clock)
    connections: int = 0
    memory: int = 100
    collector: Collector = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.collector = Collector(self.clock, lambda: self.connections, lambda: self.memory)


@pytest.fixture
def running() -> Iterator[Running]:
    before = gc.get_threshold(), list(gc.callbacks)
    found = Running()
    found.collector.start()
    yield found
    found.collector.stop()
    assert (gc.get_threshold(), list(gc.callbacks)) == before
    assert gc.get_freeze_count() == 0
    assert found.clock.getDelayedCalls() == []


class Circle:
    def __init__(self) -> None:
        self.itself = self


def test_what_the_server_is_made_of_is_not_looked_at(running: Running) -> None:
    assert gc.get_freeze_count() > 1000
    assert len(gc.get_objects(generation=2)) < 100


def test_nor_when_all_is_looked_at(running: Running) -> None:
    before = gc.get_freeze_count()
    running.clock.advance(INTERVAL)
    assert gc.get_freeze_count() >= before - 100  # What is freed is gone.


def test_what_outlives_two_collections_is_not_looked_at_again(running: Running) -> None:
    made = [Circle() for _ in range(100)]
    gc.collect(1)
    old = {id(each) for each in gc.get_objects(generation=2)}
    assert all(id(each) in old for each in made)
    _, _, third = gc.get_threshold()
    assert third > 10**9


def test_the_young_are_looked_at_though_as_many_old_ones_go(running: Running) -> None:
    """Python counts what is made less what is freed: here it would wait for more and more."""
    old = [[number] for number in range(20_000)]
    gc.collect(1)
    made = []
    for number in range(20_000):
        made.append([number])
        old.pop()
    assert len(gc.get_objects(generation=0)) > 10_000
    running.clock.advance(YOUNG_INTERVAL)
    assert len(gc.get_objects(generation=0)) < 1000
    assert len(made) == 20_000


def test_young_garbage_is_collected(running: Running) -> None:
    gone = weakref.ref(Circle())
    assert gone() is not None
    gc.collect(1)
    assert gone() is None


def old_garbage() -> weakref.ref[Circle]:
    circle = Circle()
    gc.collect(1)
    gone = weakref.ref(circle)
    del circle
    gc.collect(1)
    assert gone() is not None
    return gone


def test_old_garbage_is_collected_when_few_are_connected(running: Running) -> None:
    gone = old_garbage()
    running.connections = FEW + 1
    running.clock.advance(INTERVAL)
    assert gone() is not None
    running.connections = FEW
    running.clock.advance(INTERVAL)
    assert gone() is None


def test_garbage_is_collected_that_was_in_use_at_the_last_look(running: Running) -> None:
    circle = Circle()
    running.clock.advance(INTERVAL)
    gone = weakref.ref(circle)
    del circle
    running.clock.advance(INTERVAL)
    assert gone() is None


def test_old_garbage_is_collected_once_a_day(running: Running) -> None:
    gone = old_garbage()
    running.connections = 10 * FEW
    for _ in range(int(DAY / INTERVAL) - 1):
        running.clock.advance(INTERVAL)
    assert gone() is not None
    running.clock.advance(INTERVAL)
    assert gone() is None


def test_old_garbage_is_collected_when_the_memory_has_doubled(running: Running) -> None:
    running.connections = 10 * FEW
    for memory in (201, 403):  # Each time, of what was left by the last.
        gone = old_garbage()
        running.memory = memory - 1
        running.clock.advance(INTERVAL)
        assert gone() is not None
        running.memory = memory
        running.clock.advance(INTERVAL)
        assert gone() is None


def test_the_memory_of_a_process_is_known() -> None:
    before = resident()
    kept = b"x" * 50_000_000
    assert resident() - before > 40_000_000
    assert len(kept) == 50_000_000


def test_one_that_was_not_started_is_stopped() -> None:
    before = gc.get_threshold()
    Running().collector.stop()
    assert gc.get_threshold() == before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not with this C library")
@pytest.mark.parametrize(("connections", "goes"), [(FEW, True), (FEW + 1, False)])
def test_memory_of_those_who_left_goes_back_to_the_system(
    running: Running, connections: int, goes: bool
) -> None:
    running.connections = connections
    blocks = [bytes(2000) for _ in range(20_000)]
    last = blocks[-1]  # What is below it would not go back by itself.
    blocks.clear()
    before = resident()
    running.clock.advance(INTERVAL)
    assert (before - resident() > 20_000_000) is goes
    assert len(last) == 2000
