"""A time by which something must have happened, and which is moved on all the time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Deadline"]


class Deadline:
    """Calls ``missed`` when its time is over.

    It is set anew for each request, and nearly never comes to pass. So a timer that is running is
    left alone: when it is called, it looks whether it is time.
    """

    __slots__ = ("_clock", "_due", "_missed", "_timer")

    def __init__(self, clock: IReactorTime, missed: Callable[[], object]) -> None:
        self._clock = clock
        self._missed: Callable[[], object] | None = missed
        self._due: float | None = None
        self._timer: IDelayedCall | None = None

    def set(self, seconds: float | None) -> None:
        """Have it be in so many seconds; None: never."""
        if seconds is None or self._missed is None:
            self._due = None
            return
        self._due = self._clock.seconds() + seconds
        if self._timer is not None and self._timer.getTime() > self._due:
            self._stop_timer()
        if self._timer is None:
            self._timer = self._clock.callLater(seconds, self._look)

    def forget(self) -> None:
        """Never call any more, and forget who was to be called: that may lead back here."""
        self._due = self._missed = None
        self._stop_timer()

    def _look(self) -> None:
        self._timer = None
        if self._due is None or self._missed is None:
            return
        left = self._due - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._due = None
            self._missed()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
