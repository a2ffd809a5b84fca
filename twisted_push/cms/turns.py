"""Who may ask the CMS now, and who waits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, islice
from math import inf

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from twisted_push.errors import PushError

__all__ = ["Places", "Turns"]


@define(eq=False)
class Places:
    """At most ``most`` at once, in all the `Turns` that share them; those get theirs by turns."""

    most: float
    _taken: int = field(init=False, default=0)
    _turns: list[Turns] = field(init=False, factory=list)
    _serving: bool = field(init=False, default=False)

    @property
    def free(self) -> bool:
        """Whether there is one."""
        return self._taken < self.most

    def add(self, turns: Turns) -> None:
        """Have somebody else share them."""
        self._turns.append(turns)

    def take(self) -> None:
        """Take one."""
        self._taken += 1

    def leave(self) -> None:
        """Give one back."""
        self._taken -= 1

    def serve(self) -> None:
        """Give places to those who wait, as far as there are any.

        What one does at once may end at once and come back here: a loop, no recursion.
        """
        if self._serving:
            return
        self._serving = True
        try:
            while (turns := self._next()) is not None:
                # The others come first the next time.
                self._turns.remove(turns)
                self._turns.append(turns)
                turns.serve_one()
        finally:
            self._serving = False

    def _next(self) -> Turns | None:
        return next((turns for turns in self._turns if turns.ready), None)


@define(eq=False)
class Turns:
    """At most ``limit`` at once; the others wait, and are served in the order they came.

    ``limit`` may be changed; `serve` lets in whom it has room for then. With ``places`` there are
    others besides, with whom they are shared.
    """

    limit: int
    _places: Places = field(factory=lambda: Places(inf))
    _taken: int = field(init=False, default=0)
    _waiting: dict[Deferred[None], float] = field(init=False, factory=dict)
    _behind: dict[Deferred[None], float] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        """Share the places."""
        self._places.add(self)

    @property
    def taken(self) -> int:
        """How many have a turn."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting) + len(self._behind)

    @property
    def ready(self) -> bool:
        """Whether somebody waits who could have a turn now."""
        return bool(self.waiting) and self._room

    @property
    def busy(self) -> bool:
        """Whether one who comes now has to wait."""
        return bool(self.waiting) or not self._room

    def enter(self, patience: float, *, behind: bool = False) -> Deferred[None]:
        """Give a Deferred that fires when it is the caller's turn; `leave` must follow.

        One who cancels leaves the queue. ``patience`` (seconds): see `dismiss`. ``behind``: after
        all who wait, those included who come later.
        """
        if not self.busy:
            self._take()
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._left)
        (self._behind if behind else self._waiting)[waiter] = patience
        return waiter

    def leave(self) -> None:
        """Give the turn back; the next in the queue gets it."""
        self._taken -= 1
        self._places.leave()
        self.serve()

    def serve(self) -> None:
        """Give turns to those who wait, as far as there are any."""
        self._places.serve()

    def serve_one(self) -> None:
        """Give a turn to the first who waits: there is one, and room."""
        waiters = self._waiting or self._behind
        waiter = next(iter(waiters))
        del waiters[waiter]
        self._take()
        waiter.callback(None)

    def dismiss(
        self, error: Callable[[], PushError], wait: float | None = None, most: int | None = None
    ) -> bool:
        """Send home, each with an error, whoever will not wait ``wait`` seconds (None: everybody).

        At most ``most`` of them, who came first; tell whether there was anybody.
        """
        found = (
            each
            for each, patience in chain(self._waiting.items(), self._behind.items())
            if wait is None or patience < wait
        )
        leaving = tuple(islice(found, most))
        for waiter in leaving:
            self._left(waiter)
            if not waiter.called:  # Else one before it cancelled it.
                waiter.errback(error())
        return bool(leaving)

    @property
    def _room(self) -> bool:
        return self._taken < self.limit and self._places.free

    def _take(self) -> None:
        self._taken += 1
        self._places.take()

    def _left(self, waiter: Deferred[None]) -> None:
        self._waiting.pop(waiter, None)
        self._behind.pop(waiter, None)
