"""Timers of single connections."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall

__all__ = ["call_off"]


def call_off(call: IDelayedCall | None) -> None:
    """Call off what was to be called later, if it is yet to be.

    Who keeps a call that was made keeps what it called: it is to be forgotten, too, or its owner
    would be freed by the collector alone.
    """
    if call is not None and call.active():
        call.cancel()
