from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.support import Outcome
from twisted_push.cms.turns import Turns


def enter(turns: Turns) -> Outcome:
    return Outcome(turns.enter())


def test_as_many_as_allowed_enter_at_once_and_the_rest_in_order() -> None:
    turns = Turns(2, 10)
    comers = [enter(turns) for _ in range(5)]
    assert [comer.done for comer in comers] == [True, True, False, False, False]
    turns.leave()
    assert [comer.done for comer in comers] == [True, True, True, False, False]
    turns.leave()
    turns.leave()
    assert all(comer.done for comer in comers)
    assert turns.taken == 2


def test_more_than_may_wait_are_turned_away() -> None:
    turns = Turns(1, 2)
    comers = [enter(turns) for _ in range(4)]
    assert [comer.says for comer in comers] == ["", "", "", "CmsUnavailable overloaded"]
    assert (turns.taken, turns.waiting) == (1, 2)


def test_nobody_waits_where_none_may() -> None:
    turns = Turns(1, 0)
    enter(turns)
    assert enter(turns).says == "CmsUnavailable overloaded"


def test_who_cancels_leaves_the_queue_and_makes_room() -> None:
    turns = Turns(1, 2)
    _, second, third = [enter(turns) for _ in range(3)]
    second.deferred.cancel()
    assert turns.waiting == 1
    fourth = enter(turns)
    turns.leave()
    assert third.done
    assert not fourth.done


def test_a_newcomer_does_not_overtake() -> None:
    turns = Turns(1, 10)
    enter(turns)
    order = []

    def first_goes(_: object) -> None:
        order.append("first")
        turns.enter().addCallback(lambda _: order.append("newcomer"))
        turns.leave()

    turns.enter().addCallback(first_goes)
    turns.enter().addCallback(lambda _: order.append("second"))
    turns.leave()
    assert order == ["first", "second"]
    turns.leave()
    assert order == ["first", "second", "newcomer"]


def test_a_long_queue_that_ends_at_once_does_not_exhaust_the_stack() -> None:
    turns = Turns(1, 20_000)
    enter(turns)
    for _ in range(20_000):
        turns.enter().addCallback(lambda _: turns.leave())
    turns.leave()
    assert (turns.taken, turns.waiting) == (0, 0)


def test_closing_sends_everybody_home_even_one_who_cancels_another() -> None:
    turns = Turns(1, 10)
    enter(turns)
    errors: list[object] = []
    waiters: list[Deferred[None]] = []

    def cancel_next(failure: object) -> None:
        errors.append(failure)
        waiters[1].cancel()

    waiters.append(turns.enter().addErrback(cancel_next))
    waiters.append(turns.enter().addErrback(errors.append))
    turns.close("closing")
    assert len(errors) == 2
    assert turns.waiting == 0


@given(
    st.lists(st.sampled_from(["enter", "leave", "cancel"]), max_size=60),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_the_bounds_hold_whatever_happens(moves: list[str], limit: int, waiting: int) -> None:
    turns = Turns(limit, waiting)
    comers: list[Outcome] = []
    left = 0
    for move in moves:
        if move == "enter":
            comers.append(enter(turns))
        elif move == "leave" and turns.taken:
            left += 1
            turns.leave()
        elif move == "cancel":
            undecided = [comer for comer in comers if not comer.done]
            if undecided:
                undecided[-1].deferred.cancel()
        inside = sum(comer.done and comer.error is None for comer in comers) - left
        assert turns.taken == inside <= limit
        assert turns.waiting == sum(not comer.done for comer in comers) <= waiting
        assert not turns.waiting or turns.taken == limit


@pytest.mark.parametrize("limit", [1, 20])
def test_counts(limit: int) -> None:
    turns = Turns(limit, 5)
    for _ in range(limit + 3):
        turns.enter()
    assert (turns.taken, turns.waiting) == (limit, 3)
