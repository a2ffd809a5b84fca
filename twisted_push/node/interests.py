"""The channels that the engine announces here, and whether it announces all there is.

From time to time the place where the clients of a channel stand is held against the one where the
engine says that it stands. If they are apart twice, and nothing was announced in between, something
was missed.

Source: the client protocol's specification, section 3 (the position check).
"""

from __future__ import annotations

from collections.abc import Callable
from random import uniform

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import Logger

from twisted_push.errors import EngineUnavailable
from twisted_push.model import StreamPosition
from twisted_push.node.context import Context
from twisted_push.wheel import Wheel

__all__ = ["CHECK_INTERVAL", "LINGER", "Interests"]

LINGER = 10.0
"""Seconds for which the engine goes on with a channel that nobody here has any more."""

CHECK_INTERVAL = 40.0
"""Seconds between two looks at where a channel stands."""

GRANULARITY = 0.25
"""Seconds of one slot of the wheel; `Interests.tick` is called as often."""

_log = Logger()


@define(eq=False)
class _Interest:
    """How many clients here have a channel, or are about to.

    ``asking`` is held by who asks the engine to announce it, and None once it does. ``position`` is
    where the clients stand, None if that is not known; ``doubted`` is where they stood when the
    engine stood elsewhere. ``checked`` is whether it is looked at.
    """

    clients: int = 0
    asking: DeferredLock | None = field(factory=DeferredLock)
    position: StreamPosition | None = None
    doubted: StreamPosition | None = None
    checked: bool = False


class Interests:
    """What one site asks the engine to announce; ``lost`` is called for a channel with a gap."""

    def __init__(self, context: Context, lost: Callable[[str], None]) -> None:
        self._context = context
        self._lost = lost
        self._interests: dict[str, _Interest] = {}
        self._lingering: dict[str, float] = {}
        self._checks: Wheel[str] = Wheel(GRANULARITY)

    async def care(self, channel: str) -> None:
        """Return when the engine announces a channel here, for whichever client that was asked.

        Whatever it raises, `care_less` is due.
        """
        interest = self._interests.setdefault(channel, _Interest())
        interest.clients += 1
        if self._lingering.pop(channel, None) is not None:
            interest.asking = None
        asking = interest.asking
        if asking is None:
            return
        await asking.acquire()
        try:
            if interest.asking is not None:
                await self._context.engine.subscribe(channel)
                interest.asking = None
        finally:
            asking.release()

    def care_less(self, channel: str) -> None:
        """Take notice that one client has the channel no more."""
        interest = self._interests[channel]
        interest.clients -= 1
        if interest.clients:
            return
        del self._interests[channel]
        self._checks.discard(channel)
        if interest.asking is None:  # Else the engine was never heard to announce it.
            self._lingering[channel] = self._context.clock.seconds() + LINGER

    def tick(self, now: float) -> None:
        """Look at the channels that are due; forget those that nobody came back to."""
        for channel in [name for name, until in self._lingering.items() if until <= now]:
            del self._lingering[channel]
            self._context.watch(self._context.engine.unsubscribe(channel))
        for channel in self._checks.due(now):
            Deferred.fromCoroutine(self._check(channel, self._interests[channel]))

    # --- Positions ---------------------------------------------------------------------------

    def announced(self, channel: str, position: StreamPosition) -> None:
        """Take notice of the position of a publication that the clients are given."""
        interest = self._interests.get(channel)
        if interest is not None:
            interest.position = position

    def begins(self, channel: str, position: StreamPosition) -> None:
        """Take notice of where a client of a channel begins, as the engine said."""
        interest = self._interests[channel]
        if interest.position is None:
            interest.position = position
        if not interest.checked:
            interest.checked = True
            # Many clients may have come at once: their channels are looked at one by one.
            due = self._context.clock.seconds() + uniform(0.5, 1.0) * CHECK_INTERVAL
            self._checks.add(channel, due)

    def begin_anew(self, channel: str) -> None:
        """Forget where the clients of a channel stand: they are sent away."""
        interest = self._interests.get(channel)
        if interest is not None:
            interest.position = interest.doubted = None

    async def _check(self, channel: str, interest: _Interest) -> None:
        try:
            stands = (await self._context.engine.since(channel, None, 0)).position
        except EngineUnavailable:
            stands = None
        if self._interests.get(channel) is not interest:
            return
        self._checks.add(channel, self._context.clock.seconds() + CHECK_INTERVAL)
        here = interest.position
        if here is None or stands in (None, here):
            interest.doubted = None
        elif interest.doubted != here:
            interest.doubted = here  # What is missing may be on its way.
        else:
            self._missed(channel)

    def _missed(self, channel: str) -> None:
        _log.warn("{site}: publications of a channel were missed", site=self._context.name)
        self._context.watch(self._context.engine.subscribe(channel))
        self._lost(channel)
