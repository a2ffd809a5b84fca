"""How many questions a CMS can take at once: found out from how long it takes, without a clock.

The time of an answer is held against the best that there was lately. While it stays near that, one
more question is tried at a time; as it grows, questions only wait for each other inside the CMS,
and so do its pages: then there are fewer. It is the same reckoning as in TCP Vegas and in
Netflix's concurrency limits.
"""

from __future__ import annotations

import math
from statistics import median

from attrs import define, field

__all__ = ["Limiter"]

START = 4
"""Questions at once in the beginning, when all pages may have come back together."""

ROUND = 16
"""Least answers that are looked at together: one alone says little."""

TOLERANCE = 1.4
"""By this factor an answer may take longer than the best without any fewer being asked."""

SLACK = 0.005
"""Seconds more that do not count: what comes and goes with whatever else the machine does."""

SMOOTHING = 0.4
"""How much a round counts against those before it."""

MEMORY = 30.0
"""Seconds for which the best time is believed; then it is measured anew, with fewer questions."""

FEWER = 0.75
"""By this factor there are fewer questions in each step of such a measurement; by one at least."""

WORTH = 0.85
"""Fewer questions help if an answer then takes this part of the time, or less."""

CUT_EVERY = 1.0
"""Least seconds between two cuts because of failures: many fail together."""


@define
class _Look:
    """A look at how long an answer takes if few are asked: the limit to resume, the best so far."""

    resume: float
    taken: float


@define
class Limiter:
    """Between 1 and ``most`` questions at once, ``start`` at first. Times are in seconds."""

    most: int
    start: int = START
    _limit: float = field(init=False)
    _usual: float | None = field(init=False, default=None)
    _best: float | None = field(init=False, default=None)
    _best_at: float = field(init=False, default=0.0)
    _round: list[float] = field(init=False, factory=list)
    _round_began: float = field(init=False, default=0.0)
    _peak: int = field(init=False, default=0)
    _look: _Look | None = field(init=False, default=None)
    _cut_at: float = field(init=False, default=-math.inf)

    @_limit.default
    def _first_limit(self) -> float:
        return float(min(self.start, self.most))

    @property
    def limit(self) -> int:
        """How many questions may be under way now."""
        return int(self._limit)

    @property
    def usual(self) -> float | None:
        """How long an answer takes now; None if that is not known."""
        return self._usual

    @property
    def slow(self) -> bool:
        """Whether answers take twice as long as the best ones did."""
        if self._usual is None or self._best is None:
            return False
        return self._usual > 2 * self._best + SLACK

    def answered(self, began: float, now: float, under_way: int) -> None:
        """Take notice of an answer; ``under_way`` were asked at once, this one included."""
        if began < self._round_began:
            return  # It was asked under another limit.
        self._round.append(now - began)
        self._peak = max(self._peak, under_way)
        if len(self._round) >= max(ROUND, 2 * self.limit):
            self._judge(median(self._round), now)
            self._begin_round(now)

    def failed(self, now: float) -> None:
        """Take notice that the CMS could not cope: half as many."""
        if now >= self._cut_at + CUT_EVERY:
            self._cut_at = now
            self._set(self._limit / 2)
            self._look = None
            self._begin_round(now)

    def begin_anew(self, now: float) -> None:
        """Begin with one: the CMS was gone."""
        self._set(1.0)
        self._usual = self._look = None
        self._begin_round(now)

    def _judge(self, taken: float, now: float) -> None:
        """Draw the conclusion of a round whose answers took so long, by their median."""
        if self._look is not None:
            self._look_on(self._look, taken, now)
            return
        known = self._usual
        self._usual = usual = taken if known is None else known + SMOOTHING * (taken - known)
        busy = self._peak >= self.limit
        if self._best is not None and usual <= self._best:
            self._best, self._best_at = usual, now
        elif self._best is None or now >= self._best_at + MEMORY:
            if busy and self._limit > 1.0:
                self._look = _Look(self._limit, taken)
                self._set(min(self._limit * FEWER, self.limit - 1.0))
                return
            self._best, self._best_at = usual, now
        good = TOLERANCE * self._best + SLACK
        share = min(1.0, max(0.5, good / usual if usual else 1.0))
        self._set(self._limit * share + (1.0 if busy else 0.0))

    def _look_on(self, look: _Look, taken: float, now: float) -> None:
        """See how long an answer takes by itself: with ever fewer questions while that helps."""
        helped = taken < WORTH * look.taken
        look.taken = min(look.taken, taken)
        if helped and self._limit > 1.0:
            self._set(min(self._limit * FEWER, self.limit - 1.0))
            return
        self._best, self._best_at = look.taken, now
        self._limit, self._look = look.resume, None

    def _set(self, limit: float) -> None:
        self._limit = min(float(self.most), max(1.0, limit))

    def _begin_round(self, now: float) -> None:
        self._round.clear()
        self._round_began = now
        self._peak = 0
