"""What was said in the chat, and what happened on the site.  Pure: no IO, no clock."""

from __future__ import annotations

from collections import deque
from itertools import count

import attrs

__all__ = ["Chat", "Entry", "Line", "Watchdog"]

MAX_LINES = 100
MAX_ENTRIES = 200
"""What is kept; the oldest goes first."""


@attrs.frozen(kw_only=True)
class Line:
    """What somebody said."""

    id: int
    """Counts the lines, so that a page shows each of them once."""

    user: str
    name: str
    text: str
    sent_at: float
    """Seconds since the epoch."""

    def as_json(self) -> dict[str, object]:
        """Return what is published."""
        return {"type": "line", **attrs.asdict(self)}


@attrs.define(eq=False)
class Chat:
    """The lines, the oldest first."""

    lines: deque[Line] = attrs.field(factory=lambda: deque(maxlen=MAX_LINES), init=False)
    _ids: count[int] = attrs.field(factory=lambda: count(1), init=False, repr=False)

    def say(self, *, user: str, name: str, text: str, now: float) -> Line:
        """Keep a line, and return it."""
        line = Line(id=next(self._ids), user=user, name=name, text=text, sent_at=now)
        self.lines.append(line)
        return line


@attrs.frozen(kw_only=True)
class Entry:
    """One line of the site's log."""

    id: int
    at: float
    """Seconds since the epoch."""

    level: str
    """``"info"``, ``"notice"``, ``"warning"`` or ``"error"``."""

    kind: str
    """What it is about: ``"access"``, ``"content"``, ``"message"``, ``"push"``."""

    who: str
    """The name of whoever did it."""

    text: str
    """What they did; the name is the subject of this sentence."""

    def as_json(self) -> dict[str, object]:
        """Return what is published."""
        return attrs.asdict(self)


@attrs.define(eq=False)
class Watchdog:
    """The log of the site, the oldest entry first."""

    entries: deque[Entry] = attrs.field(factory=lambda: deque(maxlen=MAX_ENTRIES), init=False)
    _ids: count[int] = attrs.field(factory=lambda: count(1), init=False, repr=False)

    def note(self, *, level: str, kind: str, who: str, text: str, now: float) -> Entry:
        """Keep an entry, and return it."""
        entry = Entry(id=next(self._ids), at=now, level=level, kind=kind, who=who, text=text)
        self.entries.append(entry)
        return entry
