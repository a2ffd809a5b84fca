"""The time of the reactor: who waits, who goes first, and how long a turn may last."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from tests.unit.cms.support import Outcome
from twisted_push.fairness import AT_ONCE, QUANTUM, SLICE, Scheduler, Share


class WorkClock(Clock):
    """Time goes on by what is worked."""

    def work(self, seconds: float) -> None:
        self.rightNow += seconds

    def turn(self) -> None:
        """Have one turn of the reactor: what that puts off is for the next."""
        calls: Any = tuple(self.getDelayedCalls())
        for call in calls:
            function, arguments = call.func, call.args
            call.cancel()
            function(*arguments)


class World:
    def __init__(self, sites: int = 1) -> None:
        self.clock = WorkClock()
        self.scheduler = Scheduler(self.clock)
        self.shares = [self.scheduler.share() for _ in range(sites)]
        self.done: list[int] = []

    def add(self, site: int, steps: int, cost: float = QUANTUM) -> None:
        """Have a site do something long."""
        left = [steps]

        def step() -> bool:
            self.clock.work(cost)
            self.done.append(site)
            left[0] -= 1
            return left[0] > 0

        self.shares[site].add(step)

    def wait(self, site: int, cost: float = 0.0) -> Outcome:
        def came(_: None) -> None:
            self.clock.work(cost)
            self.done.append(site)

        return Outcome(self.shares[site].turn().addCallback(came))

    def turns(self) -> int:
        """Run until nothing is left; give the number of turns."""
        count = 0
        while self.clock.getDelayedCalls():
            self.clock.turn()
            count += 1
        return count


def test_a_site_works_at_once_until_it_had_its_share_of_the_turn() -> None:
    world = World()
    [share] = world.shares
    assert share.free
    share.spend(AT_ONCE * 0.9)
    assert share.free
    share.spend(AT_ONCE * 0.2)
    assert not share.free
    world.clock.turn()
    assert share.free
    assert world.turns() == 0


def test_a_little_work_costs_no_timer() -> None:
    world = World()
    world.shares[0].spend(AT_ONCE / 10)
    assert not world.clock.getDelayedCalls()


def test_nobody_comes_before_those_who_wait() -> None:
    world = World()
    [share] = world.shares
    first = world.wait(0)
    assert not share.free
    assert not first.done
    world.turns()
    assert first.done
    assert share.free


def test_who_is_gone_waits_no_more() -> None:
    world = World()
    first, second = world.wait(0), world.wait(0)
    first.deferred.cancel()
    assert isinstance(first.error, CancelledError)
    world.turns()
    assert second.done
    assert world.done == [0]


def test_sites_take_turns_whoever_began() -> None:
    world = World(3)
    world.add(0, 6)
    world.add(1, 2)
    world.add(2, 2)
    world.turns()
    assert world.done == [0, 1, 2, 0, 1, 2, 0, 0, 0, 0]


def test_a_site_with_small_steps_gets_as_much_time_as_one_with_large_steps() -> None:
    world = World(2)
    world.add(0, 1000, QUANTUM / 10)
    world.add(1, 100, QUANTUM)
    world.clock.turn()
    world.clock.turn()
    time = [world.done.count(0) * QUANTUM / 10, world.done.count(1) * QUANTUM]
    assert time[0] == pytest.approx(time[1], abs=1.5 * QUANTUM)


def test_the_one_who_was_next_is_next_in_the_turn_that_follows() -> None:
    fit = round(SLICE / QUANTUM)
    world = World(2 * fit)
    for site in range(2 * fit):
        world.add(site, 2)
    world.clock.turn()
    assert world.done == list(range(fit))
    world.clock.turn()
    assert world.done[fit:] == list(range(fit, 2 * fit))


def test_within_a_site_those_who_wait_and_what_is_long_take_turns() -> None:
    world = World()
    world.add(0, 50, QUANTUM / 4)
    waiting = [world.wait(0, QUANTUM / 4) for _ in range(20)]
    world.clock.turn()
    assert 4 <= sum(each.done for each in waiting) <= 12


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30), st.floats(0.01, 1)), max_size=30))
@settings(max_examples=100, deadline=None)
def test_no_turn_is_longer_than_a_slice_and_a_step(work: list[tuple[int, int, float]]) -> None:
    world = World(10)
    for site, steps, cost in work:
        world.add(site, steps, cost * QUANTUM)
        world.wait(site, cost * QUANTUM)
    while world.clock.getDelayedCalls():
        began = world.clock.seconds()
        world.clock.turn()
        assert world.clock.seconds() - began <= SLICE + 2 * QUANTUM + 1e-9
    assert len(world.done) == sum(steps + 1 for _, steps, _ in work)


def test_a_fault_of_one_step_ends_nothing_else() -> None:
    world = World(2)
    faults = [RuntimeError("as a fault of ours would")]

    def step() -> bool:
        if faults:
            raise faults.pop()
        world.done.append(0)
        return False

    world.shares[0].add(step)
    world.add(1, 1)
    with pytest.raises(RuntimeError):
        world.clock.turn()
    world.turns()
    assert sorted(world.done) == [0, 1]


def test_something_long_waits_for_its_turn_now_and_then() -> None:
    world = World()
    [share] = world.shares

    async def work() -> None:
        pace = share.pace()
        for _ in range(100):
            world.clock.work(QUANTUM / 10)
            world.done.append(0)
            await pace.keep()

    Deferred.fromCoroutine(work())
    assert len(world.done) == 10
    world.clock.turn()
    assert 10 < len(world.done) < 100
    world.turns()
    assert len(world.done) == 100


def test_the_end_of_a_site_leaves_nothing() -> None:
    world = World(2)
    share: Share = world.shares[0]
    world.add(0, 10)
    waiting = world.wait(0)
    share.spend(AT_ONCE)
    world.add(1, 1)
    share.close()
    assert waiting.done
    world.turns()
    assert world.done == [0, 1]
    world.shares[1].spend(AT_ONCE)
    world.shares[1].close()
    assert not world.clock.getDelayedCalls()
