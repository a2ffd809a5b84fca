"""The limiter, against a CMS of so many workers that is simulated: what it settles at, and when."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_push.cms.limiter import CUT_EVERY, MEMORY, ROUND, START, Limiter


class Cms:
    """Workers that take ``takes()`` seconds for each question; the others wait for them.

    There is always somebody with a question, up to the limit.
    """

    def __init__(self, limiter: Limiter, workers: int, takes: Callable[[], float]) -> None:
        self.limiter = limiter
        self.takes = takes
        self.now = 0.0
        self.answers = 0
        self.limits: list[int] = []
        self._free = [0.0] * workers
        self._out: list[tuple[float, float]] = []

    def run(self, seconds: float) -> float:
        """Let time pass; give the answers per second."""
        end, before = self.now + seconds, self.answers
        while self.now < end:
            while len(self._out) < self.limiter.limit:
                begins = max(self.now, heapq.heappop(self._free))
                done = begins + self.takes()
                heapq.heappush(self._free, done)
                heapq.heappush(self._out, (done, self.now))
            self.now, began = heapq.heappop(self._out)
            self.limiter.answered(began, self.now, len(self._out) + 1)
            self.answers += 1
            self.limits.append(self.limiter.limit)
        return (self.answers - before) / seconds


@pytest.mark.parametrize("most", [1, 2, 5, 20, 100])
def test_it_begins_small(most: int) -> None:
    assert Limiter(most).limit == min(START, most)


@pytest.mark.parametrize(
    ("workers", "most", "least", "highest"),
    [(5, 5, 5, 5), (5, 20, 5, 9), (1, 20, 1, 3), (20, 20, 19, 20), (50, 20, 20, 20), (5, 3, 3, 3)],
)
def test_it_settles_at_what_the_cms_can_take(
    workers: int, most: int, least: int, highest: int
) -> None:
    cms = Cms(Limiter(most), workers, lambda: 0.05)
    cms.run(10)
    cms.limits.clear()
    rate = cms.run(100)
    assert rate >= 0.97 * min(workers, most) / 0.05  # Nothing that it can do is left undone.
    assert sorted(cms.limits)[len(cms.limits) // 20] >= least
    assert max(cms.limits) <= highest


def test_it_is_there_soon() -> None:
    cms = Cms(Limiter(20), 20, lambda: 0.05)
    cms.run(5)
    assert cms.limiter.limit == 20


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 40), st.floats(0.005, 0.5), st.integers())
def test_a_cms_that_takes_now_less_now_more_is_used(
    workers: int, most: int, mean: float, seed: int
) -> None:
    random = Random(seed)
    cms = Cms(Limiter(most), workers, lambda: random.uniform(0.4, 1.6) * mean)
    cms.run(200 * mean)
    rate = cms.run(400 * mean)
    assert rate >= 0.6 * min(workers, most) / mean
    assert all(1 <= limit <= most for limit in cms.limits)


def test_it_backs_off_when_the_cms_slows_down_and_recovers() -> None:
    seconds = 0.05
    cms = Cms(Limiter(20), 20, lambda: seconds)
    cms.run(10)
    assert cms.limiter.limit == 20
    assert not cms.limiter.slow
    seconds = 0.5
    cms.run(10)
    assert cms.limiter.limit <= 4
    assert cms.limiter.slow
    seconds = 0.05
    cms.run(10)
    assert cms.limiter.limit == 20
    assert not cms.limiter.slow


def test_a_cms_that_stays_slow_is_measured_anew() -> None:
    seconds = 0.05
    cms = Cms(Limiter(20), 20, lambda: seconds)
    cms.run(10)
    seconds = 0.15
    cms.run(2 * MEMORY)
    assert cms.limiter.limit == 20
    assert not cms.limiter.slow


def test_a_look_at_how_long_an_answer_takes_is_short() -> None:
    cms = Cms(Limiter(20), 5, lambda: 0.05)
    cms.run(10)
    cms.limits.clear()
    cms.run(4 * MEMORY)
    few = sum(limit < 5 for limit in cms.limits)
    assert 0 < few < 0.05 * len(cms.limits)


def test_failures_halve_it_once_a_second() -> None:
    limiter = Limiter(20)
    Cms(limiter, 20, lambda: 0.05).run(10)
    for _ in range(20):
        limiter.failed(10.0)
    assert limiter.limit == 10
    limiter.failed(10.0 + CUT_EVERY)
    assert limiter.limit == 5
    for second in range(20):
        limiter.failed(20.0 + second)
    assert limiter.limit == 1


def test_without_need_it_does_not_grow() -> None:
    limiter = Limiter(20)
    for number in range(1000):
        limiter.answered(number * 1.0, number + 0.05, 1)
    assert limiter.limit == START


def test_after_a_time_without_the_cms_it_begins_with_one() -> None:
    limiter = Limiter(20)
    cms = Cms(limiter, 20, lambda: 0.05)
    cms.run(10)
    limiter.begin_anew(cms.now)
    assert limiter.limit == 1
    limiter.answered(cms.now - 1, cms.now, 1)  # Of another time: it says nothing.
    cms.run(10)
    assert limiter.limit == 20


@given(
    st.integers(1, 30),
    st.lists(
        st.tuples(
            st.sampled_from(["answer", "failure", "anew"]),
            st.floats(0, 10),
            st.floats(0, 100),
            st.integers(1, 40),
        ),
        max_size=200,
    ),
)
def test_whatever_happens_it_is_from_one_to_the_most(
    most: int, events: list[tuple[str, float, float, int]]
) -> None:
    limiter, now = Limiter(most), 0.0
    for what, passed, took, under_way in events:
        now += passed
        if what == "answer":
            for _ in range(ROUND):
                limiter.answered(now - took, now, under_way)
        elif what == "failure":
            before = limiter.limit
            limiter.failed(now)
            assert limiter.limit <= before
        else:
            limiter.begin_anew(now)
        assert 1 <= limiter.limit <= most
        assert limiter.usual is None or limiter.usual >= 0
