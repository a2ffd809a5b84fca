"""One stop of the reactor, whoever asks for it and however often.

The reactor logs a fault, with a traceback, where it is told to stop a second time: by systemd and
an operator at once, or by a start that fails while a signal is on its way.
"""

from __future__ import annotations

import signal
from threading import Lock
from types import FrameType
from typing import Any

from attrs import Factory, frozen

__all__ = ["OneStop"]


@frozen(eq=False)
class OneStop:
    """Stops ``reactor``, which also has a method for each signal that ends a process, once."""

    _reactor: Any
    _asked: Lock = Factory(Lock)

    def take_signals(self) -> None:
        """Stand before the reactor's handlers; those of somebody else stay as they are."""
        for number, handler in self._handlers().items():
            if signal.getsignal(number) == handler:
                signal.signal(number, self._signalled)

    def stop(self) -> None:
        """Stop the reactor, unless it was told to."""
        if self._first():
            self._reactor.stop()

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._first():
            self._handlers()[signal.Signals(number)](number, frame)

    def _first(self) -> bool:
        # Python may handle another signal between any two lines here, and before this one.
        return self._asked.acquire(blocking=False)

    def _handlers(self) -> dict[signal.Signals, Any]:
        return {signal.SIGTERM: self._reactor.sigTerm, signal.SIGINT: self._reactor.sigInt}
