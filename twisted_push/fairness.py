"""The time of the one reactor, shared out between the sites.

What a site does at once is bounded for each turn of the reactor; what is more waits for its turn.
Work that is long goes in steps. In each turn of the reactor one slice of time goes to all that
waits, a quantum for each site, round robin: so a flood on one site lengthens a turn by so much and
no more, however many wait, and the others come to theirs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["AT_ONCE", "QUANTUM", "SLICE", "Pace", "Scheduler", "Share"]

SLICE = 0.004
"""Seconds of one turn of the reactor that go to what waits, of all sites together."""

QUANTUM = 0.001
"""Seconds that a site works until it is the next one's turn."""

AT_ONCE = 0.002
"""Seconds that a site may work at once in one turn of the reactor; what is more waits."""

_NOTICED = 0.0005
"""Seconds of work after which a site's account is closed with the turn.

What is less may add up over some turns, which costs nothing.
"""

Step = Callable[[], bool]
"""Does a little; tells whether there is more."""


class Scheduler:
    """Gives the sites their turns."""

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._shares: deque[Share] = deque()
        self._noticed: list[Share] = []
        self._call: IDelayedCall | None = None

    def share(self) -> Share:
        """Give the share of one more site."""
        return Share(self)

    def wake(self, share: Share) -> None:
        """Give a site a turn, which it has none of yet."""
        self._shares.append(share)
        self._next_turn()

    def notice(self, share: Share) -> None:
        """Close a site's account with this turn of the reactor."""
        self._noticed.append(share)
        self._next_turn()

    def forget(self, share: Share) -> None:
        """Give a site no turn any more."""
        for those in (self._shares, self._noticed):
            if share in those:
                those.remove(share)
        if self._call is not None and not (self._shares or self._noticed):
            self._call.cancel()
            self._call = None

    def _next_turn(self) -> None:
        if self._call is None:
            self._call = self.clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._call = None
        noticed, self._noticed = self._noticed, []
        for share in noticed:
            share.renew()
        now = self.clock.seconds()
        until = now + SLICE
        try:
            while self._shares and now < until:
                share = self._shares.popleft()
                try:
                    now = share.work(min(until, now + QUANTUM))
                finally:
                    if share.goes_on():
                        self._shares.append(share)
        finally:
            if self._shares:
                self._next_turn()


class Share:
    """What one site has of the time: who waits for its turn, and steps of long work."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiters: deque[Deferred[None]] = deque()
        self._steps: deque[Step] = deque()
        self._awake = False
        self._spent = 0.0

    @property
    def free(self) -> bool:
        """Whether the site may do something at once; else it is to wait for its `turn`."""
        return self._spent < AT_ONCE and not self._waiters

    def spend(self, seconds: float) -> None:
        """Note that the site has worked at once."""
        before = self._spent
        self._spent = before + seconds
        if before < _NOTICED <= self._spent:
            self._scheduler.notice(self)

    def renew(self) -> None:
        """Let the site work at once again: a turn of the reactor is over."""
        self._spent = 0.0

    def turn(self) -> Deferred[None]:
        """Give a Deferred that fires when it is the site's turn, the first who waits first."""
        waiter: Deferred[None] = Deferred(self._waiters.remove)
        self._waiters.append(waiter)
        self._wake()
        return waiter

    def add(self, step: Step) -> None:
        """Take each step of some work in turn with the other work of the site."""
        self._steps.append(step)
        self._wake()

    def pace(self) -> Pace:
        """Give a measure for something long: see `Pace`."""
        return Pace(self, self._scheduler.clock)

    def close(self) -> None:
        """Do no more of any work, and let those go on who wait: the site is closed."""
        self._steps.clear()
        while self._waiters:
            self._waiters.popleft().callback(None)
        self._awake = False
        self._scheduler.forget(self)

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            self._scheduler.wake(self)

    def goes_on(self) -> bool:
        """Tell, after some work, whether there is more; if not, it wants to be woken for more."""
        self._awake = bool(self._waiters or self._steps)
        return self._awake

    def work(self, until: float) -> float:
        """Work until this time, at least one step; give what time it is then."""
        clock = self._scheduler.clock
        while self._waiters or self._steps:
            if self._waiters:
                self._waiters.popleft().callback(None)
            if self._steps:
                self._do(self._steps.popleft())
            now = clock.seconds()
            if now >= until:
                return now
        return clock.seconds()

    def _do(self, step: Step) -> None:
        more = True  # After a fault, too: that is one of this time.
        try:
            more = step()
        finally:
            if more:
                self._steps.append(step)


class Pace:
    """Has something long wait for the site's next turn, whenever it has worked for a quantum."""

    def __init__(self, share: Share, clock: IReactorTime) -> None:
        self._share = share
        self._clock = clock
        self._until = clock.seconds() + QUANTUM

    async def keep(self) -> None:
        """Go on, or wait."""
        if self._clock.seconds() >= self._until:
            await self._share.turn()
            self._until = self._clock.seconds() + QUANTUM
