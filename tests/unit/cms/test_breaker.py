"""The circuit breaker: when it opens, for how long, and what closes it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twisted_push.cms.breaker import (
    FAILURES,
    FIRST_REST,
    LONGEST_REST,
    SHORT_REST,
    STEADY,
    Breaker,
    Circuit,
)


def half() -> float:
    return 0.5  # Rests are exactly as long as they are named.


def opened(at: float = 0.0, **how: Any) -> Breaker:
    breaker = Breaker(half)
    for _ in range(FAILURES):
        breaker.failed(breaker.era, at, **how)
    assert breaker.state is Circuit.OPEN
    return breaker


def probe(breaker: Breaker, now: float) -> None:
    assert breaker.rested(now)
    assert breaker.state is Circuit.PROBING


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(half)
    said = [breaker.failed(breaker.era, 10.0) for _ in range(FAILURES)]
    assert said == [False] * (FAILURES - 1) + [True]
    assert (breaker.state, breaker.until) == (Circuit.OPEN, 10.0 + FIRST_REST)


def test_an_answer_in_between_starts_the_count_over() -> None:
    breaker = Breaker(half)
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.failed(breaker.era, 0.0)
        assert breaker.answered(breaker.era, 0.0) is False
    assert breaker.state is Circuit.CLOSED


def test_it_probes_when_the_rest_is_over_and_an_answer_closes_it() -> None:
    breaker = opened()
    assert not breaker.rested(FIRST_REST - 0.01)
    probe(breaker, FIRST_REST)
    assert not breaker.rested(FIRST_REST)
    assert breaker.answered(breaker.era, FIRST_REST) is True
    assert breaker.state is Circuit.CLOSED


def test_each_failed_probe_doubles_the_rest() -> None:
    breaker, rests, now = opened(), [], 0.0
    for _ in range(8):
        rests.append(breaker.until - now)
        now = breaker.until
        probe(breaker, now)
        assert breaker.failed(breaker.era, now) is True
    assert rests == [1, 2, 4, 8, 16, LONGEST_REST, LONGEST_REST, LONGEST_REST]


def test_a_cms_that_answers_nonsense_is_tried_again_soon() -> None:
    """Else those who know tokens that it stumbles over keep everybody out."""
    breaker, now = opened(alive=True), 0.0
    for _ in range(8):
        assert breaker.until - now == pytest.approx(SHORT_REST)
        now = breaker.until
        probe(breaker, now)
        breaker.failed(breaker.era, now, alive=True)


def test_those_who_failed_before_do_not_count_and_are_probes_that_say_little() -> None:
    breaker = Breaker(half)
    for _ in range(3 * FAILURES):
        assert breaker.failed(breaker.era, 0.0, known=True) is False
    breaker, now = opened(), 0.0
    for wanted in (1, 2, 4):
        assert breaker.until - now == wanted
        now = breaker.until
        probe(breaker, now)
        breaker.failed(breaker.era, now)
    for _ in range(3):
        now = breaker.until
        probe(breaker, now)
        breaker.failed(breaker.era, now, known=True)
        assert breaker.until - now == FIRST_REST


def test_a_pause_counts_whoever_was_told_of_it() -> None:
    breaker = Breaker(half)
    assert breaker.failed(breaker.era, 0.0, pause=60.0, known=True) is True
    assert breaker.until == 60.0


def test_a_cms_that_wavers_is_given_longer_and_longer_rests() -> None:
    breaker, rests, now = Breaker(half), [], 0.0
    for _ in range(3):
        for _ in range(FAILURES):
            breaker.failed(breaker.era, now)
        rests.append(breaker.until - now)
        now = breaker.until
        probe(breaker, now)
        breaker.answered(breaker.era, now)
    assert rests == [1, 2, 4]
    now += STEADY
    for _ in range(FAILURES):
        breaker.failed(breaker.era, now)
    assert breaker.until - now == FIRST_REST


@pytest.mark.parametrize(("pause", "rest"), [(0.5, FIRST_REST), (120.0, 120.0)])
def test_a_pause_that_the_cms_wants_opens_it_at_once(pause: float, rest: float) -> None:
    breaker = Breaker(half)
    assert breaker.failed(breaker.era, 5.0, pause) is True
    assert (breaker.state, breaker.until) == (Circuit.OPEN, 5.0 + rest)


def test_what_went_out_before_it_opened_changes_nothing_but_a_longer_pause() -> None:
    breaker = Breaker(half)
    before = breaker.era
    for _ in range(FAILURES):
        breaker.failed(before, 0.0)
    assert breaker.failed(before, 0.5) is False
    assert breaker.answered(before, 0.5) is False
    assert (breaker.state, breaker.until) == (Circuit.OPEN, FIRST_REST)
    breaker.failed(before, 0.5, pause=60.0)
    assert breaker.until == 60.5
    breaker.failed(before, 0.5, pause=1.0)
    assert breaker.until == 60.5
    probe(breaker, 60.5)
    assert breaker.answered(before, 61.0) is False
    assert breaker.failed(before, 61.0, pause=60.0) is False
    assert breaker.state is Circuit.PROBING


def test_a_probe_that_comes_to_nothing_leaves_it_to_the_next() -> None:
    breaker = opened()
    breaker.abandoned(breaker.era, 0.5)
    assert breaker.until == FIRST_REST
    probe(breaker, 1.0)
    breaker.abandoned(breaker.era, 1.5)
    probe(breaker, 1.5)


@given(st.floats(0, 1))
def test_several_servers_do_not_come_back_in_step(jitter: float) -> None:
    breaker = Breaker(lambda: jitter)
    for _ in range(FAILURES):
        breaker.failed(breaker.era, 0.0)
    assert breaker.until == FIRST_REST * (0.75 + 0.5 * jitter)


HOW: list[dict[str, bool]] = [{}, {"alive": True}, {"known": True}, {"alive": True, "known": True}]


class AnyCourse(RuleBasedStateMachine):
    """Questions go out and come back in any order; the state is that of a simple model."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.breaker = Breaker(half)
        self.out: list[int] = []
        self.wanted = 0.0  # Until when the CMS wants to be left alone.

    @precondition(lambda self: self.breaker.state is not Circuit.OPEN)
    @rule()
    def ask(self) -> None:
        if self.breaker.state is Circuit.CLOSED or self.breaker.era not in self.out:
            assert self.now >= self.wanted
            self.out.append(self.breaker.era)

    @precondition(lambda self: self.out)
    @rule(data=st.data(), pause=st.sampled_from([0.0, 0.0, 0.5, 20.0]), how=st.sampled_from(HOW))
    def fail(self, data: st.DataObject, pause: float, how: dict[str, bool]) -> None:
        era = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        counted = era == self.breaker.era or self.breaker.state is Circuit.OPEN
        probing = self.breaker.state is Circuit.PROBING and era == self.breaker.era
        self.breaker.failed(era, self.now, pause, **how)
        if counted and pause:
            self.wanted = max(self.wanted, self.now + pause)
        if probing:
            assert self.breaker.state is Circuit.OPEN

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        era = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        before = self.breaker.state
        closed = self.breaker.answered(era, self.now)
        assert closed == (before is Circuit.PROBING and self.breaker.state is Circuit.CLOSED)

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.breaker.rested(self.now)

    @invariant()
    def it_is_never_open_for_ever(self) -> None:
        if self.breaker.state is Circuit.OPEN:
            assert self.breaker.until <= max(self.now + 1.25 * LONGEST_REST, self.wanted)
            assert self.breaker.until >= self.wanted or self.now >= self.wanted


TestAnyCourse = AnyCourse.TestCase
