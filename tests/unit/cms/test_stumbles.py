"""Who had no usable answer lately: remembered for a while, and not without bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_push.cms.stumbles import MOST_REMEMBERED, REMEMBERED, Stumbles


def test_it_is_known_from_the_second_time_on_until_there_is_an_answer() -> None:
    stumbles = Stumbles()
    assert "alice" not in stumbles
    assert [stumbles.add("alice", 0.0) for _ in range(3)] == [False, True, True]
    assert "alice" in stumbles
    assert stumbles.add("bob", 0.0) is False
    stumbles.discard("alice")
    assert "alice" not in stumbles
    assert stumbles.add("alice", 0.0) is False


def test_it_is_forgotten_a_while_after_the_last_time() -> None:
    stumbles = Stumbles()
    stumbles.add("alice", 0.0)
    stumbles.add("bob", 1.0)
    assert stumbles.add("alice", REMEMBERED - 1) is True
    assert stumbles.add("alice", 2 * REMEMBERED - 2) is True
    assert "bob" not in stumbles
    assert stumbles.add("alice", 3 * REMEMBERED - 2) is False


def test_nobody_in_particular_is_not_known() -> None:
    stumbles = Stumbles()
    assert [stumbles.add("", 0.0) for _ in range(2)] == [False, False]
    assert "" not in stumbles


@given(st.lists(st.integers(0, 3 * MOST_REMEMBERED), max_size=50))
def test_of_many_those_are_forgotten_whose_last_time_was_first(again: list[int]) -> None:
    stumbles = Stumbles()
    order = [*range(2 * MOST_REMEMBERED), *again]
    for asker in order:
        stumbles.add(str(asker), 0.0)
    last = list(dict.fromkeys(reversed(order)))
    assert all(str(asker) in stumbles for asker in last[:MOST_REMEMBERED])
    assert not any(str(asker) in stumbles for asker in last[MOST_REMEMBERED:])
