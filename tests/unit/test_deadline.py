"""A time by which something must have happened: when it is told that it has not, and how often."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from twisted_push.deadline import Deadline


class Something:
    """Notes when it was missed."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.missed: list[float] = []
        self.deadline = Deadline(self.clock, self.miss)

    def miss(self) -> None:
        self.missed.append(self.clock.seconds())

    @property
    def timers(self) -> int:
        return len(self.clock.getDelayedCalls())


@pytest.fixture
def something() -> Something:
    return Something()


def test_it_is_missed_once_and_in_time(something: Something) -> None:
    something.deadline.set(10)
    something.clock.advance(9.5)
    assert something.missed == []
    something.clock.advance(0.5)
    something.clock.advance(100)
    assert something.missed == [10]
    assert something.timers == 0


def test_it_is_moved_on(something: Something) -> None:
    something.deadline.set(10)
    for _ in range(5):
        something.clock.advance(8)
        something.deadline.set(10)
    something.clock.pump([1] * 10)
    assert something.missed == [50]


def test_it_is_earlier_than_it_was(something: Something) -> None:
    something.deadline.set(60)
    something.clock.advance(1)
    something.deadline.set(10)
    something.clock.pump([0.5] * 40)
    assert something.missed == [11]


def test_there_is_none_any_more(something: Something) -> None:
    something.deadline.set(10)
    something.deadline.set(None)
    something.clock.advance(100)
    assert something.missed == []


def test_there_is_one_again(something: Something) -> None:
    """While the timer of the first one runs, and when it has run out."""
    something.deadline.set(10)
    something.deadline.set(None)
    something.clock.advance(5)
    something.deadline.set(10)
    something.clock.pump([1] * 10)
    assert something.missed == [15]
    something.deadline.set(None)
    something.clock.advance(100)
    something.deadline.set(10)
    something.clock.advance(10)
    assert something.missed == [15, 125]


def test_a_new_one_is_set_by_whoever_is_told(something: Something) -> None:
    def go_on() -> None:
        something.miss()
        if len(something.missed) < 3:
            deadline.set(10)

    deadline = Deadline(something.clock, go_on)
    deadline.set(10)
    something.clock.pump([1] * 50)
    assert something.missed == [10, 20, 30]


def test_it_is_forgotten_for_good(something: Something) -> None:
    something.deadline.set(10)
    something.deadline.forget()
    assert something.timers == 0
    something.deadline.set(10)
    assert something.timers == 0
    something.deadline.forget()
    something.clock.advance(100)
    assert something.missed == []


def test_it_is_forgotten_by_whoever_is_told(something: Something) -> None:
    def end() -> None:
        something.miss()
        deadline.forget()

    deadline = Deadline(something.clock, end)
    deadline.set(10)
    something.clock.advance(10)
    assert something.missed == [10]
    assert something.timers == 0


def test_what_is_forgotten_does_not_lead_back() -> None:
    """Then the one whose deadline it is goes without a look of the collector."""
    gc.disable()
    try:
        something = Something()
        watched = weakref.ref(something)
        something.deadline.set(10)
        something.deadline.forget()
        del something
        assert watched() is None
    finally:
        gc.enable()


@given(st.lists(st.tuples(st.sampled_from([None, 1, 5, 10]), st.integers(0, 12)), max_size=30))
def test_it_is_missed_when_a_plain_timer_would_be(doings: list[tuple[float | None, int]]) -> None:
    """And never are there two timers."""
    something, due = Something(), None
    expected = []
    for seconds, passing in [*doings, (1, 12)]:
        now = something.clock.seconds()
        something.deadline.set(seconds)
        due = None if seconds is None else now + seconds
        assert something.timers <= 1
        for _ in range(passing):
            something.clock.advance(1)
            assert something.timers <= 1
        if due is not None and due <= now + passing:
            expected.append(due)
    assert something.missed == expected
