"""What an engine knows for a time, beside the streams: values by key, each with an end."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

__all__ = ["Kind", "Notes", "Table"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Kind(IntEnum):
    """What a fact is about. The numbers are in the journal's file: they stay as they are."""

    GRANT = 1
    REVOKED_TOKEN = 2
    LOGOUT = 3
    KICK = 4
    OVERLAY = 5
    CONTENT_TOKEN = 6
    ANSWER = 7
    PRESENCE_LIST = 8
    CHANNEL = 9


class Notes(Protocol):
    """Takes down what changes, for a restart."""

    def put(self, kind: Kind, key: object, value: object, until: float) -> None:
        """Note a value, in the place of an older one. Raises ValueError if it cannot be."""

    def drop(self, kind: Kind, key: object, *, over: bool = False) -> None:
        """Note that a value is gone; with ``over`` there is no hurry, its end tells it, too."""


class Table(Generic[_K, _V]):
    """Values of one kind. ``ordered``: no put has an earlier end than one before it."""

    def __init__(self, kind: Kind, notes: Notes | None, *, ordered: bool = False) -> None:
        self.kind = kind
        self._notes = notes
        self._ordered = ordered
        self._facts: dict[_K, tuple[_V, float]] = {}

    def __len__(self) -> int:
        """Give the number of values, those over their time included until the next `expire`."""
        return len(self._facts)

    def __contains__(self, key: _K) -> bool:
        """Tell whether there is a value, be it over its time."""
        return key in self._facts

    def get(self, key: _K, now: float) -> _V | None:
        """Give a value that is within its time."""
        fact = self._facts.get(key)
        return fact[0] if fact is not None and now < fact[1] else None

    def until(self, key: _K) -> float:
        """Give the end of a value; 0 if there is none."""
        fact = self._facts.get(key)
        return fact[1] if fact is not None else 0.0

    def put(self, key: _K, value: _V, until: float) -> None:
        """Take a value, in the place of an older one."""
        if self._notes is not None:
            self._notes.put(self.kind, key, value, until)
        self.restore(key, value, until)

    def restore(self, key: _K, value: _V, until: float) -> None:
        """Take a value that is noted already."""
        if self._ordered:
            self._facts.pop(key, None)  # To the end.
        self._facts[key] = (value, until)

    def drop(self, key: _K) -> None:
        """Let go of a value, if it is there."""
        if self._facts.pop(key, None) is not None and self._notes is not None:
            self._notes.drop(self.kind, key)

    def items(self) -> Iterator[tuple[_K, _V]]:
        """Give every value, those over their time included."""
        return ((key, value) for key, (value, _) in self._facts.items())

    def clear(self) -> None:
        """Let go of everything, and note nothing."""
        self._facts.clear()

    def expire(self, now: float) -> list[_K]:
        """Let go of what is over its time; give its keys."""
        facts = self._facts
        if self._ordered:
            over = [key for key, _ in takewhile(lambda f: f[1][1] <= now, facts.items())]
        else:
            over = [key for key, (_, until) in facts.items() if until <= now]
        for key in over:
            del facts[key]
            if self._notes is not None:
                self._notes.drop(self.kind, key, over=True)
        return over
