"""Who may ask the CMS now, and who waits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from twisted_push.errors import PushError

__all__ = ["Turns"]


@define
class Turns:
    """At most ``limit`` at once; the others wait, and are served in the order they came.

    ``limit`` may be changed; `serve` lets in whom it has room for then.
    """

    limit: int
    _taken: int = field(init=False, default=0)
    _waiting: dict[Deferred[None], float] = field(init=False, factory=dict)
    _serving: bool = field(init=False, default=False)

    @property
    def taken(self) -> int:
        """How many have a turn."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether one who comes now has to wait."""
        return self._taken >= self.limit or bool(self._waiting)

    def enter(self, patience: float) -> Deferred[None]:
        """Give a Deferred that fires when it is the caller's turn; `leave` must follow.

        One who cancels leaves the queue. ``patience`` (seconds): see `dismiss`.
        """
        if not self.busy:
            self._taken += 1
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._left)
        self._waiting[waiter] = patience
        return waiter

    def leave(self) -> None:
        """Give the turn back; the next in the queue gets it."""
        self._taken -= 1
        self.serve()

    def serve(self) -> None:
        """Give turns to those who wait, as far as there are any.

        What one does at once may end at once and come back here: a loop, no recursion.
        """
        if self._serving:
            return
        self._serving = True
        try:
            while self._waiting and self._taken < self.limit:
                waiter = next(iter(self._waiting))
                del self._waiting[waiter]
                self._taken += 1
                waiter.callback(None)
        finally:
            self._serving = False

    def dismiss(
        self, error: Callable[[], PushError], wait: float | None = None, most: int | None = None
    ) -> bool:
        """Send home, each with an error, whoever will not wait ``wait`` seconds (None: everybody).

        At most ``most`` of them, who came first; tell whether there was anybody.
        """
        found = (
            each for each, patience in self._waiting.items() if wait is None or patience < wait
        )
        leaving = tuple(islice(found, most))
        for waiter in leaving:
            if self._waiting.pop(waiter, None) is not None:  # Else one before it cancelled it.
                waiter.errback(error())
        return bool(leaving)

    def _left(self, waiter: Deferred[None]) -> None:
        self._waiting.pop(waiter, None)
