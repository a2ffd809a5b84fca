"""The wheel: nobody early, nobody more than a slot late, nobody forgotten."""

from __future__ import annotations

import gc
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_push.wheel import Wheel

SLOT = 0.25
"""Like every time in these tests a multiple of 1/64, which floats hold exactly."""


class Thing:
    """Something that a weak reference can watch."""


def test_an_empty_wheel_has_nothing_due() -> None:
    wheel: Wheel[str] = Wheel(SLOT)
    assert wheel.due(0.0) == set()
    assert wheel.due(1e9) == set()


@pytest.mark.parametrize(
    ("due", "first"), [(1.0, 1.0), (1.015625, 1.25), (0.984375, 1.0), (1e9 + 0.1, 1e9 + 0.25)]
)
def test_an_item_is_given_once_in_its_slot(due: float, first: float) -> None:
    wheel: Wheel[str] = Wheel(SLOT)
    wheel.add("a", due)
    assert wheel.due(first - 1 / 64) == set()
    assert wheel.due(first) == {"a"}
    assert wheel.due(first) == set()
    assert wheel.due(first + 1000.0) == set()


def test_an_item_that_is_overdue_is_given_at_the_next_look() -> None:
    wheel: Wheel[str] = Wheel(SLOT)
    wheel.add("later", 200.0)
    assert wheel.due(100.0) == set()
    wheel.add("late", 50.0)
    wheel.add("now", 100.0)
    assert wheel.due(100.0) == {"late", "now"}
    assert wheel.due(200.0) == {"later"}


def test_adding_an_item_again_moves_it() -> None:
    wheel: Wheel[str] = Wheel(SLOT)
    for due in (5.0, 1.0, 2.0):
        wheel.add("a", due)
    wheel.add("b", 1.0)
    assert len(wheel) == 2
    assert wheel.due(1.0) == {"b"}
    assert wheel.due(2.0) == {"a"}
    assert wheel.due(9.0) == set()
    assert len(wheel) == 0


def test_a_discarded_item_is_given_no_more_and_is_let_go() -> None:
    wheel: Wheel[object] = Wheel(SLOT)
    item = Thing()
    watched = weakref.ref(item)
    wheel.add(item, 1.0)
    wheel.add("b", 1.0)
    wheel.discard(item)
    wheel.discard(item)
    wheel.discard("never there")
    del item
    gc.collect()
    assert watched() is None
    assert len(wheel) == 1
    assert wheel.due(1.0) == {"b"}
    wheel.add("c", 3.0)
    wheel.discard("c")
    assert wheel.due(10.0) == set()
    wheel.add("d", 11.0)
    assert wheel.due(11.0) == {"d"}


def test_a_long_sleep_gives_all_that_is_due_and_no_more() -> None:
    wheel: Wheel[int] = Wheel(SLOT)
    for number in range(100):
        wheel.add(number, float(number))
    wheel.add(-1, 1e9)
    assert wheel.due(49.0) == set(range(50))
    assert wheel.due(1e8) == set(range(50, 100))
    wheel.add(7, 1e8 + 1)
    assert wheel.due(1e9) == {-1, 7}


def test_a_clock_that_goes_back_gives_nothing_and_loses_nothing() -> None:
    wheel: Wheel[str] = Wheel(SLOT)
    wheel.add("a", 10.0)
    assert wheel.due(9.0) == set()
    assert wheel.due(1.0) == set()
    wheel.add("b", 2.0)
    assert wheel.due(2.0) == {"b"}
    assert wheel.due(10.0) == {"a"}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(-200, 2000), st.integers(0, 9)),
            st.tuples(st.just("add"), st.integers(10**6, 10**8), st.integers(0, 9)),
            st.tuples(st.just("discard"), st.just(0), st.integers(0, 9)),
            st.tuples(st.just("tick"), st.integers(0, 64), st.just(0)),
            st.tuples(st.just("sleep"), st.integers(0, 10**7), st.just(0)),
        ),
        max_size=60,
    )
)
def test_never_early_and_at_most_a_slot_late(steps: list[tuple[str, int, int]]) -> None:
    wheel: Wheel[int] = Wheel(SLOT)
    now = 0.0
    waiting: dict[int, float] = {}
    for what, value, item in steps:
        if what == "add":
            waiting[item] = max(0.0, now + value / 64)
            wheel.add(item, waiting[item])
        elif what == "discard":
            waiting.pop(item, None)
            wheel.discard(item)
        else:
            now += value / 64
            found = wheel.due(now)
            assert all(waiting.pop(each) <= now for each in found)
            assert all(due + SLOT > now for due in waiting.values())
        assert len(wheel) == len(waiting)
    assert wheel.due(now + 10**8) == set(waiting)
    assert wheel.due(now + 10**9) == set()
