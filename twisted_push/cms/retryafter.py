"""For how long a CMS wants to be left alone: the header ``Retry-After``."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

__all__ = ["LONGEST", "retry_after"]

LONGEST = 300.0
"""Most seconds that are granted: a wrong clock, or a mistake, must not be for ever."""


def retry_after(header: str | None, now: float) -> float | None:
    """Give seconds from ``now`` (unix seconds), 0 to `LONGEST`; None where nothing is said.

    ``header`` has seconds or a date (RFC 9110, section 10.2.3).
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST)
    try:
        date = parsedate_to_datetime(text)
        at = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, at - now), LONGEST)
