"""What stands between everybody who has a question and the CMS.

At most so many questions at once (`Limiters`), the others wait in the order they came (`Turns`); a
CMS that fails, or says that it wants to be left alone, is left alone (`Breaker`). Meanwhile those
who will not wait so long, and those for whom there is no room, are told after how many seconds to
come back: spread, so that they do not come together.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import random
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_push.cms.breaker import Breaker, Circuit
from twisted_push.cms.limiter import Limiters
from twisted_push.cms.lines import Lines
from twisted_push.cms.turns import Turns
from twisted_push.errors import CmsUnavailable

__all__ = ["OVERLOADED", "PATIENCE", "PAUSED", "Shield", "Turn"]

OVERLOADED = "overloaded"
"""The outcome of a question that was not put, because too many wait already."""

PAUSED = "paused"
"""The outcome of a question that was not put, because the CMS is left alone."""

PATIENCE = 3.0
"""Seconds for which a client may be kept waiting for a CMS that is left alone.

The client libraries give up a command after 5 seconds.
"""

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
    """The right to put one question: since when (seconds), and in which era of the circuit.

    ``kind`` is that of the question: those of a kind take about as long as each other.
    """

    began: float
    era: int
    kind: str


class Shield:
    """Guards one CMS. ``most`` is how many questions it may be asked at once, at the very most.

    Each `Turn` is to be given back, by one of `answered`, `failed` and `abandoned`.
    """

    def __init__(
        self,
        most: int,
        max_waiting: int,
        clock: IReactorTime,
        lines: Lines,
        jitter: Callable[[], float] = random,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._lines = lines
        self._max_waiting = max_waiting
        self._breaker = Breaker(jitter)
        self._limiters = Limiters(most)
        self._turns = Turns(self._limiters.limit)
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
        return self._limiters.limit

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

    def enter(self, patience: float, kind: str = "") -> Deferred[Turn]:
        """Give a Deferred that fires when the caller may put its question.

        It fails with `CmsUnavailable` if there is no room, or if the CMS is left alone for as long
        as ``patience`` (seconds) or longer. Whoever cancels it is forgotten.
        """
        closed = self._breaker.state is Circuit.CLOSED
        if not closed and self.left_alone_for >= patience:
            return fail(self._come_back_later(PAUSED))
        if self._turns.busy and self._turns.waiting >= self._max_waiting:
            self._lines.full(True, self._max_waiting, self._clock.seconds())
            return fail(self._come_back_later(OVERLOADED))
        return self._turns.enter(patience).addCallback(self._turn, kind)

    def answered(self, turn: Turn) -> None:
        """Give a turn back: the CMS gave a usable answer, which may be a refusal."""
        now = self._clock.seconds()
        if self._breaker.answered(turn.era, now):
            self._limiters.begin_anew(now)
            self._lines.circuit(False, 0.0, now)
        else:
            self._limiters.answered(turn.kind, turn.began, now, self._turns.taken)
            self._lines.slow(self._limiters.slow, self.limit, now)
        self._next(now)

    def failed(
        self, turn: Turn, *, slow: bool = False, alive: bool = False, pause: float = 0.0
    ) -> None:
        """Give a turn back: there was no usable answer.

        ``slow``: because the CMS has too much to do; ``alive``: it answered something. ``pause``
        are the seconds for which it wants to be left alone.
        """
        now = self._clock.seconds()
        if slow or pause:
            self._limiters.failed(turn.kind, now)
        if self._breaker.failed(turn.era, now, pause, alive=alive):
            self._lines.circuit(True, self.left_alone_for, now)
        self._next(now)

    def abandoned(self, turn: Turn) -> None:
        """Give a turn back: nothing can be said of the CMS."""
        now = self._clock.seconds()
        self._breaker.abandoned(turn.era, now)
        self._next(now)

    def close(self, error: CmsUnavailable) -> None:
        """Send everybody home who waits."""
        self._closed = True
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()
        self._turns.dismiss(lambda: error)

    # --- Who is let through ------------------------------------------------------------------

    def _turn(self, _: None, kind: str) -> Turn:
        return Turn(self._clock.seconds(), self._breaker.era, kind)

    def _next(self, now: float) -> None:
        """Take a turn back, and let in whoever may be let in now."""
        self._set_limit()
        self._turns.leave()
        if 2 * self._turns.waiting <= self._max_waiting:
            self._lines.full(False, 0, now)

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
        now = self._clock.seconds()
        if now >= self._told_from + LONGEST_SPREAD:
            self._told_from, self._told = now, 0
        self._told += 1
        wait = self.left_alone_for + self._spread() * self._jitter()
        return CmsUnavailable(why, wait, busy=why == OVERLOADED)

    def _spread(self) -> float:
        """Give the seconds over which those are spread who come back."""
        spread = max(LEAST_SPREAD, self._told / RETURNS_PER_SECOND)
        if self._limiters.usual is not None:  # Those who wait come first.
            spread = max(spread, self.waiting * self._limiters.usual / self.limit)
        return min(LONGEST_SPREAD, spread)
