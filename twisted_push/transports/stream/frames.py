"""How a message stands in a stream. A message is one line: JSON without line breaks."""

from __future__ import annotations

__all__ = ["event_frame", "line_frame"]


def event_frame(payload: bytes) -> bytes:
    """Give an event of ``text/event-stream`` (HTML standard, section 9.2)."""
    return b"data: " + payload + b"\n\n"


def line_frame(payload: bytes) -> bytes:
    """Give a line."""
    return payload + b"\n"
