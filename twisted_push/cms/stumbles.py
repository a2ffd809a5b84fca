"""Whose questions the CMS could not answer lately."""

from __future__ import annotations

from attrs import define, field

__all__ = ["MOST_REMEMBERED", "REMEMBERED", "Stumbles"]

REMEMBERED = 60.0
"""Seconds for which it is remembered, after the last time."""

MOST_REMEMBERED = 1000
"""Most of whom it is remembered; beyond it those whose last time was first are forgotten."""


@define
class Stumbles:
    """Remembers who had no usable answer, for a while. Times are in seconds.

    That one question has the CMS stumble may be the fault of the question: somebody has a token, or
    says something, that the CMS has a fault with. Whoever asks it again says nothing new of the
    CMS, and lets the others go first. An asker without a name is nobody in particular.
    """

    # By their hash: a token may be long, and is a secret.
    _last: dict[int, float] = field(init=False, factory=dict)

    def __contains__(self, asker: str) -> bool:
        return hash(asker) in self._last

    def add(self, asker: str, now: float) -> bool:
        """Remember somebody; tell whether that was so already."""
        self._forget(now)
        if not asker:
            return False
        known = self._last.pop(hash(asker), None) is not None
        self._last[hash(asker)] = now
        if len(self._last) > MOST_REMEMBERED:
            del self._last[next(iter(self._last))]
        return known

    def discard(self, asker: str) -> None:
        """Forget somebody, who was given an answer."""
        self._last.pop(hash(asker), None)

    def _forget(self, now: float) -> None:
        while self._last:
            first = next(iter(self._last))
            if now < self._last[first] + REMEMBERED:
                return
            del self._last[first]
