"""One timer for everybody: who is due is looked up by time slot, not by a timer each."""

from __future__ import annotations

from math import ceil
from typing import Generic, TypeVar

__all__ = ["Wheel"]

_T = TypeVar("_T")


class Wheel(Generic[_T]):
    """Items by the time at which they want to be looked at, in slots of ``granularity`` seconds.

    An item that is no longer of interest is simply looked at once more: its owner decides.
    """

    def __init__(self, granularity: float) -> None:
        self.granularity = granularity
        self._slots: dict[int, set[_T]] = {}
        self._next: int | None = None

    def add(self, item: _T, due: float) -> None:
        """Look at ``item`` at ``due`` (seconds), or up to one slot later."""
        slot = ceil(due / self.granularity)
        self._slots.setdefault(slot, set()).add(item)
        if self._next is None or slot < self._next:
            self._next = slot

    def due(self, now: float) -> set[_T]:
        """Take out the items whose time has come."""
        found: set[_T] = set()
        if self._next is None:
            return found
        current = int(now / self.granularity)
        if current - self._next > len(self._slots):  # After a long sleep: fewer slots than ticks.
            passed = [slot for slot in self._slots if slot <= current]
        else:
            passed = [slot for slot in range(self._next, current + 1) if slot in self._slots]
        for slot in passed:
            found |= self._slots.pop(slot)
        self._next = max(self._next, current + 1) if self._slots else None
        return found
