from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from tests.unit.cms.support import Outcome
from twisted_push.cms.turns import Places, Turns
from twisted_push.errors import CmsUnavailable

GONE = CmsUnavailable("gone")


def enter(turns: Turns, patience: float = inf) -> Outcome:
    return Outcome(turns.enter(patience))


def test_as_many_as_allowed_enter_at_once_and_the_rest_in_order() -> None:
    turns = Turns(2)
    comers = [enter(turns) for _ in range(5)]
    assert [comer.done for comer in comers] == [True, True, False, False, False]
    turns.leave()
    assert [comer.done for comer in comers] == [True, True, True, False, False]
    turns.leave()
    turns.leave()
    assert all(comer.done for comer in comers)
    assert turns.taken == 2


def test_whether_one_who_comes_has_to_wait() -> None:
    turns = Turns(1)
    assert not turns.busy
    enter(turns)
    assert turns.busy
    turns.leave()
    assert not turns.busy
    turns.limit = 0
    enter(turns)
    turns.limit = 5
    assert turns.busy  # Somebody was there before.


def test_a_limit_that_rises_lets_in_those_who_wait() -> None:
    turns = Turns(0)
    comers = [enter(turns) for _ in range(4)]
    turns.limit = 3
    turns.serve()
    assert [comer.done for comer in comers] == [True, True, True, False]
    turns.limit = 1
    turns.leave()
    turns.leave()
    assert not comers[3].done
    turns.leave()
    assert comers[3].done


def test_those_without_patience_are_sent_home_first_come_first() -> None:
    turns = Turns(0)
    comers = [enter(turns, patience) for patience in (3, inf, 3, 0, 3)]
    assert turns.dismiss(lambda: GONE, wait=3) is True
    assert [comer.done for comer in comers] == [False, False, False, True, False]
    assert turns.dismiss(lambda: GONE, wait=3) is False
    assert turns.dismiss(lambda: GONE, wait=4, most=2) is True
    assert [comer.done for comer in comers] == [True, False, True, True, False]
    assert turns.dismiss(lambda: GONE) is True
    assert all(comer.says == "CmsUnavailable gone" for comer in comers)
    assert turns.waiting == 0


def test_who_cancels_leaves_the_queue_and_makes_room() -> None:
    turns = Turns(1)
    _, second, third = [enter(turns) for _ in range(3)]
    second.deferred.cancel()
    assert turns.waiting == 1
    fourth = enter(turns)
    turns.leave()
    assert third.done
    assert not fourth.done


def test_a_newcomer_does_not_overtake() -> None:
    turns = Turns(1)
    enter(turns)
    order = []

    def first_goes(_: object) -> None:
        order.append("first")
        turns.enter(inf).addCallback(lambda _: order.append("newcomer"))
        turns.leave()

    turns.enter(inf).addCallback(first_goes)
    turns.enter(inf).addCallback(lambda _: order.append("second"))
    turns.leave()
    assert order == ["first", "second"]
    turns.leave()
    assert order == ["first", "second", "newcomer"]


def test_those_behind_let_all_others_go_first() -> None:
    turns = Turns(1)
    enter(turns)
    behind = [Outcome(turns.enter(inf, behind=True)) for _ in range(3)]
    comers = [enter(turns) for _ in range(2)]
    assert turns.waiting == 5
    behind[1].deferred.cancel()
    order = [*comers, behind[0], behind[2]]
    for number in range(1, 5):
        turns.leave()
        assert [each.done for each in order] == [True] * number + [False] * (4 - number)
    assert turns.waiting == 0


def test_those_behind_are_sent_home_as_well() -> None:
    turns = Turns(0)
    outcomes = [enter(turns, 3), Outcome(turns.enter(3, behind=True))]
    assert turns.dismiss(lambda: GONE, wait=4) is True
    assert [each.says for each in outcomes] == ["CmsUnavailable gone"] * 2


def test_places_are_shared_by_turns() -> None:
    places = Places(3)
    left, right = Turns(2, places), Turns(9, places)
    comers = [[enter(turns) for _ in range(5)] for turns in (left, right)]

    def inside() -> list[int]:
        return [sum(each.done for each in group) for group in comers]

    assert inside() == [2, 1]
    right.leave()
    assert inside() == [2, 2]  # The left has as many as it may.
    left.leave()
    left.leave()
    assert inside() == [3, 3]
    right.leave()
    assert inside() == [4, 3]
    assert (left.taken, right.taken) == (2, 1)
    assert left.busy
    assert right.busy


def test_a_long_queue_that_ends_at_once_does_not_exhaust_the_stack() -> None:
    turns = Turns(1)
    enter(turns)
    for _ in range(20_000):
        turns.enter(inf).addCallback(lambda _: turns.leave())
    turns.leave()
    assert (turns.taken, turns.waiting) == (0, 0)


def test_closing_sends_everybody_home_even_one_who_cancels_another() -> None:
    turns = Turns(1)
    enter(turns)
    errors: list[object] = []
    waiters: list[Deferred[None]] = []

    def cancel_next(failure: object) -> None:
        errors.append(failure)
        waiters[1].cancel()

    waiters.append(turns.enter(inf).addErrback(cancel_next))
    waiters.append(turns.enter(inf).addErrback(errors.append))
    turns.dismiss(lambda: GONE)
    assert len(errors) == 2
    assert turns.waiting == 0


@given(
    st.lists(st.sampled_from(["enter", "leave", "cancel", "more", "less"]), max_size=60),
    st.integers(0, 3),
)
def test_the_bounds_hold_whatever_happens(moves: list[str], limit: int) -> None:
    turns = Turns(limit)
    comers: list[Outcome] = []
    left = 0
    for move in moves:
        taken = turns.taken
        if move == "enter":
            comers.append(enter(turns))
        elif move == "leave" and turns.taken:
            left += 1
            turns.leave()
        elif move == "cancel":
            undecided = [comer for comer in comers if not comer.done]
            if undecided:
                undecided[-1].deferred.cancel()
        elif move == "more":
            turns.limit += 1
            turns.serve()
        elif turns.limit:
            turns.limit -= 1
        inside = sum(comer.done and comer.error is None for comer in comers) - left
        assert turns.taken == inside
        assert turns.taken <= max(turns.limit, taken)  # Nobody enters over the limit.
        assert turns.waiting == sum(not comer.done for comer in comers)
        assert not turns.waiting or turns.taken >= turns.limit


@pytest.mark.parametrize("limit", [1, 20])
def test_counts(limit: int) -> None:
    turns = Turns(limit)
    for _ in range(limit + 3):
        turns.enter(inf)
    assert (turns.taken, turns.waiting) == (limit, 3)
