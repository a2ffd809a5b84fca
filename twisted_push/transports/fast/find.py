"""Finds out whether there is a fast path.

What leans on private parts is imported here and nowhere else: with versions that differ, the
import itself may fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime

from twisted_push.transports.door import Door

if TYPE_CHECKING:
    from twisted_push.transports.fast.path import FastPath

__all__ = ["find_fast_path"]


def find_fast_path(door: Door, clock: IReactorTime) -> tuple[FastPath | None, str]:
    """Give the fast path; or None, and why there is none."""
    try:
        from twisted_push.transports.fast.check import why_not  # noqa: PLC0415
        from twisted_push.transports.fast.path import FastPath  # noqa: PLC0415

        why = why_not()
        return (None, why) if why else (FastPath(door, clock), "")
    except Exception as error:  # Whatever it is: with these versions it does not work.
        return None, f"{type(error).__name__}: {error}"
