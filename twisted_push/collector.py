"""Python's garbage collector, kept from looking at the same connections again and again.

Connections are freed when they are lost, without the collector (`tests/unit/test_freed.py`). But a
full collection looks at all that there are, and at all that the server is made of. So the latter is
taken out of its sight for good (`gc.freeze`), and what outlives a collection of young objects, or
two, is not looked at again by itself: each looks at no more than what was made since the last, some
thousands of objects. Python counts what is made less what is freed, be that old; where as much goes
as comes, it would not look for long, and then at very much. So the young are looked at from time to
time, too.

Of garbage in circles that is what stays: what was in use at that moment, and is in a circle when it
is not any more. So all that was made since the start is looked at from time to time: when few are
connected, when the memory has doubled, or once a day. When few are connected what is free goes back
to the system, too: the C library would keep what a crowd that left has used.
"""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

__all__ = ["DAY", "FEW", "INTERVAL", "YOUNG_INTERVAL", "Collector", "give_back", "resident"]

THRESHOLDS = (2000, 5, 2**31 - 1)
"""Objects until young ones are looked at; how often until those that stay are looked at again.

Those that stay for longer are never looked at for their number.
"""

YOUNG_INTERVAL = 0.1
"""Seconds after which young objects are looked at, however many were freed meanwhile."""

INTERVAL = 600.0
"""Seconds between two times at which it is asked whether to look at everything."""

DAY = 86400.0
"""Seconds after which everything is looked at, however many are connected."""

FEW = 1000
"""Connections with which that takes a millisecond (with 18,000: 70)."""

_PAGE = resource.getpagesize()


def resident() -> int:
    """Give the bytes of memory that this process has; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * _PAGE
    except OSError:
        return 0


def give_back() -> None:
    """Give memory that is free back to the system, where the C library is one that can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


class Collector:
    """Sets up the collector of this process, until it is stopped."""

    def __init__(
        self,
        clock: IReactorTime,
        connections: Callable[[], int],
        memory: Callable[[], int] = resident,
    ) -> None:
        self._clock = clock
        self._connections = connections
        self._memory = memory
        self._left = 0
        """Bytes after the last look at everything."""
        self._before: tuple[int, int, int] | None = None
        self._looked_at = 0.0
        self._timer = LoopingCall(self._consider)
        self._young = LoopingCall(gc.collect, 1)
        self._timer.clock = self._young.clock = clock

    def start(self) -> None:
        """Begin: what the server is made of is never looked at again."""
        self._before = gc.get_threshold()
        gc.set_threshold(*THRESHOLDS)
        self._look_at_everything()
        gc.freeze()
        self._timer.start(INTERVAL, now=False)
        self._young.start(YOUNG_INTERVAL, now=False)

    def stop(self) -> None:
        """Leave the collector as it was; nothing if it was not started."""
        if self._before is None:
            return
        self._timer.stop()
        self._young.stop()
        gc.set_threshold(*self._before)
        gc.unfreeze()
        self._before = None

    def _consider(self) -> None:
        few = self._connections() <= FEW
        long_ago = self._clock.seconds() - self._looked_at >= DAY
        if few or long_ago or self._memory() > 2 * self._left:
            self._look_at_everything()
        if few:
            give_back()

    def _look_at_everything(self) -> None:
        self._looked_at = self._clock.seconds()
        gc.collect()
        self._left = self._memory()
