"""One timer for everybody: who is due is looked up by time slot, not by a timer each."""

from __future__ import annotations

from math import ceil
from typing import Generic, TypeVar

__all__ = ["Wheel"]

_T = TypeVar("_T")


class _Slot(set[_T]):
    """The items of one slot."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Wheel(Generic[_T]):
    """Items by the time at which they want to be looked at, in slots of ``granularity`` seconds.

    An item has one time: adding it again moves it.
    """

    def __init__(self, granularity: float) -> None:
        self.granularity = granularity
        self._slots: dict[int, _Slot[_T]] = {}
        self._slot_of: dict[_T, _Slot[_T]] = {}
        self._next: int | None = None

    def __len__(self) -> int:
        """Give the number of items."""
        return len(self._slot_of)

    def add(self, item: _T, due: float) -> None:
        """Look at ``item`` at ``due`` (seconds), or up to one slot later."""
        self.discard(item)
        number = ceil(due / self.granularity)
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot(number)
        slot.add(item)
        self._slot_of[item] = slot
        if self._next is None or number < self._next:
            self._next = number

    def discard(self, item: _T) -> None:
        """Look at ``item`` no more; nothing of it is kept. One that is not there is no error."""
        slot = self._slot_of.pop(item, None)
        if slot is None:
            return
        slot.discard(item)
        if not slot:
            del self._slots[slot.number]

    def due(self, now: float) -> set[_T]:
        """Take out the items whose time has come."""
        found: set[_T] = set()
        current = int(now / self.granularity)
        if self._next is None or current < self._next:
            return found
        if current - self._next > len(self._slots):  # After a long sleep: fewer slots than ticks.
            passed = [slot for slot in self._slots if slot <= current]
        else:
            passed = [slot for slot in range(self._next, current + 1) if slot in self._slots]
        for slot in passed:
            found |= self._slots.pop(slot)
        for item in found:
            del self._slot_of[item]
        self._next = current + 1 if self._slots else None
        return found
