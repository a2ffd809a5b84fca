"""Who may ask the CMS now, and who waits."""

from __future__ import annotations

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed

from twisted_push.errors import CmsUnavailable

__all__ = ["OVERLOADED", "Turns"]

OVERLOADED = "overloaded"
"""The ``why`` of a `CmsUnavailable` for which the CMS was not asked: too many wait already."""


@define
class Turns:
    """At most ``limit`` at once; at most ``max_waiting`` wait, served in the order they came."""

    limit: int
    max_waiting: int
    _taken: int = field(init=False, default=0)
    _waiting: dict[int, Deferred[None]] = field(init=False, factory=dict)
    _number: int = field(init=False, default=0)
    _serving: bool = field(init=False, default=False)

    @property
    def taken(self) -> int:
        """How many have a turn."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    def enter(self) -> Deferred[None]:
        """Give a Deferred that fires when it is the caller's turn; `leave` must follow.

        Fails with `CmsUnavailable` when too many wait. One who cancels leaves the queue.
        """
        if self._taken < self.limit and not self._waiting:
            self._taken += 1
            return succeed(None)
        if len(self._waiting) >= self.max_waiting:
            return fail(CmsUnavailable(OVERLOADED))
        self._number = number = self._number + 1

        def leave(_: Deferred[None]) -> None:
            self._waiting.pop(number, None)

        waiter: Deferred[None] = Deferred(leave)
        self._waiting[number] = waiter
        return waiter

    def leave(self) -> None:
        """Give the turn back; the next in the queue gets it.

        What that one does at once may end at once and come back here: a loop, no recursion.
        """
        self._taken -= 1
        if self._serving:
            return
        self._serving = True
        try:
            while self._waiting and self._taken < self.limit:
                waiter = self._waiting.pop(next(iter(self._waiting)))
                self._taken += 1
                waiter.callback(None)
        finally:
            self._serving = False

    def close(self, why: str) -> None:
        """Send everybody home who waits, with a `CmsUnavailable`."""
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            if not waiter.called:
                waiter.errback(CmsUnavailable(why))
