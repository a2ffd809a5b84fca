"""Where those wait who have a question of one kind for a CMS.

What comes of the questions of one kind says nothing of the others: a page that answers the calls
of clients may be slow, fail, or want to be left alone, while that which lets them in is well. So
each kind has a circuit, a limit and a queue of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_push.cms.breaker import Breaker, Circuit
from twisted_push.cms.limiter import Limiter
from twisted_push.cms.lines import Lines
from twisted_push.cms.requests import Question, shown
from twisted_push.cms.stumbles import Stumbles
from twisted_push.cms.turns import Places, Turns
from twisted_push.errors import CmsUnavailable

__all__ = ["OVERLOADED", "PAUSED", "Entrance", "Turn"]

OVERLOADED = "overloaded"
"""The outcome of a question that was not put, because too many wait already."""

PAUSED = "paused"
"""The outcome of a question that was not put, because the CMS is left alone."""

LEAST_SPREAD = 2.0
LONGEST_SPREAD = 60.0
"""Seconds over which those are spread who are told to come back together."""

RETURNS_PER_SECOND = 500
"""So many of those who were told to come back may do so in a second: each is a handshake."""

GROUP = 100
GROUP_EVERY = 0.1
"""Of those who wait when the CMS begins to be left alone, so many are told so at a time."""


@frozen
class Turn:
    """The right to put one question: since when (seconds), and in which era of the circuit."""

    question: Question
    began: float
    era: int


class Entrance:
    """The way of one kind of question, that of ``first``, to a CMS.

    ``places`` are shared with the other kinds. For the rest see `Shield`.
    """

    def __init__(
        self,
        first: Question,
        *,
        places: Places,
        max_waiting: int,
        clock: IReactorTime,
        lines: Lines,
        jitter: Callable[[], float],
    ) -> None:
        self._about = f"{shown(first.url)} ({first.kind})"
        self._max_waiting = max_waiting
        self._clock = clock
        self._lines = lines
        self._jitter = jitter
        self._breaker = Breaker(jitter)
        self._limiter = Limiter(int(places.most))
        self._stumbles = Stumbles()
        self._turns = Turns(self._limiter.limit, places)
        self._told = 0
        self._told_from = -inf
        self._closed = False
        self._calls: dict[Callable[[], None], IDelayedCall] = {}

    @property
    def circuit(self) -> Circuit:
        """Whether questions go through."""
        return self._breaker.state

    @property
    def limit(self) -> int:
        """How many questions may be under way now, if none is held back."""
        return self._limiter.limit

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return self._turns.waiting

    @property
    def left_alone_for(self) -> float:
        """Give the seconds until questions go through again; 0 if they do, or one does."""
        if self._breaker.state is not Circuit.OPEN:
            return 0.0
        return max(0.0, self._breaker.until - self._clock.seconds())

    def enter(self, question: Question, patience: float) -> Deferred[Turn]:
        """Give a Deferred that fires when the question may be put: see `Shield.enter`.

        Whoever had no usable answer the last time lets the others go first.
        """
        closed = self._breaker.state is Circuit.CLOSED
        if not closed and self.left_alone_for >= patience:
            return fail(self._come_back_later(PAUSED))
        if self._turns.busy and self._turns.waiting >= self._max_waiting:
            self._lines.full(self._about, self._max_waiting)
            return fail(self._come_back_later(OVERLOADED))
        entering = self._turns.enter(patience, behind=question.asker in self._stumbles)
        return entering.addCallback(self._turn, question)

    def answered(self, turn: Turn) -> None:
        """Give a turn back: the CMS gave a usable answer."""
        now = self._clock.seconds()
        self._stumbles.discard(turn.question.asker)
        if self._breaker.answered(turn.era, now):
            self._limiter.begin_anew(now)
            self._lines.asked_again(self._about)
        else:
            self._limiter.answered(turn.began, now, self._turns.taken)
            self._tell_speed()
        self._next()

    def failed(self, turn: Turn, *, slow: bool, alive: bool, pause: float) -> float | None:
        """Give a turn back: there was no usable answer. See `Shield.failed`."""
        now = self._clock.seconds()
        known = self._stumbles.add(turn.question.asker, now)
        if slow or pause:
            self._limiter.failed(now)
        if self._breaker.failed(turn.era, now, pause, alive=alive, known=known):
            self._lines.left_alone(self._about, lambda: self.left_alone_for)
        self._next()
        wait = max(self.left_alone_for, pause)
        if wait and turn.question.asker:  # The server itself comes back alone.
            wait = self._spread(wait)
        return wait or None

    def abandoned(self, turn: Turn) -> None:
        """Give a turn back: nothing can be said of the CMS."""
        self._breaker.abandoned(turn.era, self._clock.seconds())
        self._next()

    def close(self, error: CmsUnavailable) -> None:
        """Send everybody home who waits."""
        self._closed = True
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()
        self._turns.dismiss(lambda: error)

    # --- Who is let through ------------------------------------------------------------------

    def _turn(self, _: None, question: Question) -> Turn:
        return Turn(question, self._clock.seconds(), self._breaker.era)

    def _next(self) -> None:
        """Take a turn back, and let in whoever may be let in now."""
        self._set_limit()
        self._turns.leave()
        if 2 * self._turns.waiting <= self._max_waiting:
            self._lines.room(self._about)

    def _tell_speed(self) -> None:
        if self._limiter.slow:
            self._lines.slow(self._about, self.limit)
        else:
            self._lines.fast(self._about)

    def _set_limit(self) -> None:
        """Have the turns follow the circuit: none while it is open, one while it is probed."""
        state = self._breaker.state
        if state is not Circuit.OPEN:
            self._turns.limit = self.limit if state is Circuit.CLOSED else 1
            return
        self._turns.limit = 0
        self._later(self._probe, self.left_alone_for, again=True)
        self._later(self._dismiss, GROUP_EVERY)

    def _probe(self) -> None:
        """Let one question through, now or when it comes, if the CMS was left alone long enough."""
        self._breaker.rested(self._clock.seconds())
        self._set_limit()
        self._turns.serve()

    def _dismiss(self) -> None:
        """Tell some of those who wait, and will not wait so long, to come back."""
        wait = self.left_alone_for
        if wait and self._turns.dismiss(lambda: self._come_back_later(PAUSED), wait, GROUP):
            self._later(self._dismiss, GROUP_EVERY)

    def _later(self, what: Callable[[], None], seconds: float, *, again: bool = False) -> None:
        """Call something later, once; if it is to be called already, then at that time.

        ``again``: the new time counts.
        """
        known = self._calls.get(what)
        if self._closed or (known is not None and not again):
            return
        if known is not None:
            known.cancel()

        def call() -> None:
            del self._calls[what]
            what()

        calling: Any = self._clock.callLater(seconds, call)
        self._calls[what] = calling

    # --- Who is told to come back ------------------------------------------------------------

    def _come_back_later(self, why: str) -> CmsUnavailable:
        wait = self._spread(self.left_alone_for)
        return CmsUnavailable(why, wait, busy=why == OVERLOADED)

    def _spread(self, wait: float) -> float:
        """Give the seconds after which one of those comes back who have to wait so long."""
        now = self._clock.seconds()
        if now >= self._told_from + LONGEST_SPREAD:
            self._told_from, self._told = now, 0
        self._told += 1
        spread = max(LEAST_SPREAD, self._told / RETURNS_PER_SECOND)
        if self._limiter.usual is not None:  # Those who wait come first.
            spread = max(spread, self.waiting * self._limiter.usual / self.limit)
        return wait + min(LONGEST_SPREAD, spread) * self._jitter()
