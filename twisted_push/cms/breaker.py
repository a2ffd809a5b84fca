"""When a CMS that does not answer is left alone: a circuit breaker, without IO or a clock."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from attrs import define, field

__all__ = ["FAILURES", "FIRST_REST", "LONGEST_REST", "SHORT_REST", "Breaker", "Circuit"]

FAILURES = 5
"""So many questions in a row without a usable answer, each of somebody else, open the circuit."""

FIRST_REST = 1.0
"""Seconds for which an open circuit lets nothing through; each failed probe doubles them.

Not so if the probe was a question that had failed before: somebody may know one that has the CMS
stumble, and must not be able to keep all others out with that.
"""

SHORT_REST = 0.1
"""The same if the CMS answers, if with nonsense: it is asked one question at a time, and those who
have good ones get their turn behind any number of others.
"""

LONGEST_REST = 30.0
"""Most seconds between two probes, unless the CMS asks for more."""

STEADY = 60.0
"""Seconds for which a circuit must have been closed for the rests to start over."""


class Circuit(Enum):
    """Whether questions go through."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"
    """One question goes through, and decides."""


@define
class Breaker:
    """The circuit to one CMS. ``jitter`` gives 0 to 1.

    ``until`` is the time up to which it is open. What comes of a question counts for the state in
    which it went out: it brings the ``era`` of that time along.
    """

    jitter: Callable[[], float]
    state: Circuit = field(init=False, default=Circuit.CLOSED)
    until: float = field(init=False, default=0.0)
    era: int = field(init=False, default=0)
    _failures: int = field(init=False, default=0)
    _rests: int = field(init=False, default=0)
    _closed_at: float = field(init=False, default=0.0)

    def rested(self, now: float) -> bool:
        """Begin to probe if the rest is over; tell whether that is so."""
        if self.state is not Circuit.OPEN or now < self.until:
            return False
        self._enter(Circuit.PROBING)
        return True

    def answered(self, era: int, now: float) -> bool:
        """Take notice of a usable answer; tell whether it closed the circuit."""
        if era != self.era:
            return False
        self._failures = 0
        if self.state is not Circuit.PROBING:
            return False
        self._enter(Circuit.CLOSED)
        self._closed_at = now
        return True

    def failed(
        self, era: int, now: float, pause: float = 0.0, *, alive: bool = False, known: bool = False
    ) -> bool:
        """Take notice that there was none; tell whether that opened the circuit.

        ``pause`` are the seconds for which the CMS wants to be left alone, if it said so.
        ``alive``: it did answer. ``known``: whoever asked had no usable answer the last time.
        """
        if era != self.era:
            # It went out before the circuit opened: that is known, but for a longer pause.
            if pause and self.state is Circuit.OPEN:
                self.until = max(self.until, now + pause)
            return False
        self._failures += not known
        if self.state is Circuit.CLOSED and not pause and self._failures < FAILURES:
            return False
        self._open(now, pause, alive, known)
        return True

    def abandoned(self, era: int, now: float) -> None:
        """Take notice that a question came to nothing, by no fault of the CMS."""
        if era == self.era and self.state is Circuit.PROBING:
            self._enter(Circuit.OPEN)
            self.until = now

    def _open(self, now: float, pause: float, alive: bool, known: bool) -> None:
        steady = self.state is Circuit.CLOSED and now >= self._closed_at + STEADY
        if alive or known or steady:
            self._rests = 0
        rest = min(LONGEST_REST, FIRST_REST * 2.0 ** min(self._rests, 10))
        if alive:
            rest = SHORT_REST
        self._rests += 1
        # Several servers must not come back in step.
        self.until = now + max(pause, rest * (0.75 + 0.5 * self.jitter()))
        self._enter(Circuit.OPEN)

    def _enter(self, state: Circuit) -> None:
        self.state = state
        self.era += 1
        self._failures = 0
