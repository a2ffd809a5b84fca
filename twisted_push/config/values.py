"""Parsers of single values: sizes, durations, numbers, choices, texts and lists of these.

A `Parser` turns one value, as TOML gives it, into the value that the server uses, or raises
`ValueError`. A bare ``ValueError`` gets the standard message, ``<value> is not valid; must be
<allowed>``, which never shows the value of a secret; `BadValue` brings a message of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from attrs import frozen

__all__ = [
    "BadValue",
    "Parser",
    "boolean",
    "choice",
    "duration",
    "integer",
    "list_of",
    "show",
    "size",
    "text",
]

T = TypeVar("T")

_LARGEST = 2**53
_LONGEST = 366 * 86400.0 * 100
_SHOWN = 80
_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,19}) ?([a-z]*)", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,9})?) ?([a-z]*)", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)


class BadValue(ValueError):
    """A value is not valid; the message says so in full and shows no secret."""


def _same(value: str) -> object:
    return value


@frozen
class Parser(Generic[T]):
    """How one kind of value is read.

    ``read`` takes the value from the file. ``from_text`` first turns the text of an environment
    variable into what the file would hold. ``allowed`` ends the sentence "must be …". The value
    of a ``secret`` is never shown. A parser of lists has the parser of their items as ``item``.
    """

    allowed: str
    read: Callable[[object], T]
    from_text: Callable[[str], object] = _same
    secret: bool = False
    item: Parser[Any] | None = None

    def complaint(self, value: object, error: ValueError) -> str:
        """Give the message for a value that ``read`` refused with ``error``."""
        if isinstance(error, BadValue):
            return str(error)
        shown = "the value" if self.secret else show(value)
        return f"{shown} is not valid; must be {self.allowed}"


def show(value: object) -> str:
    """Give a value for a message: in short, and without what a table or a list holds."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and abs(value) > 10**_SHOWN:
        return "so large a number"
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"


def integer(least: int = 1) -> Parser[int]:
    """Make a parser of whole numbers from ``least`` on."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        if not least <= value <= _LARGEST:
            raise ValueError
        return value

    def from_text(value: str) -> object:
        return int(value) if _INTEGER.fullmatch(value.strip()) else value

    return Parser(f"a whole number, at least {least}", read, from_text)


def size() -> Parser[int]:
    """Make a parser of sizes in bytes: a number, or text with a unit of B, KiB, MiB or GiB."""

    def read(value: object) -> int:
        if isinstance(value, str):
            match = _SIZE.fullmatch(value.strip())
            if match is None or match[2].lower() not in _UNITS:
                raise ValueError
            value = int(match[1]) * _UNITS[match[2].lower()]
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        if not 0 < value <= _LARGEST:
            raise ValueError
        return value

    return Parser('a number of bytes above 0, or text such as "64KiB", "1MiB" or "1GiB"', read)


def duration(*, zero: bool = False, least: float = 0.0) -> Parser[float]:
    """Make a parser of durations, in seconds: a number, or text with ms, s, m, h or d.

    ``zero`` lets 0 in; ``least`` (seconds) is the shortest one allowed.
    """
    allowed = 'a number of seconds, or text such as "500ms", "10s", "10m", "1h" or "7d"'
    if least:
        allowed += f", at least {least:g}s"
    elif not zero:
        allowed += ", above 0"

    def read(value: object) -> float:
        if isinstance(value, str):
            match = _DURATION.fullmatch(value.strip())
            if match is None or match[2] not in _SECONDS:
                raise ValueError
            value = float(match[1]) * _SECONDS[match[2]]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if not least <= value <= _LONGEST or not math.isfinite(value):
            raise ValueError
        if value == 0 and not zero:
            raise ValueError
        return float(value)

    return Parser(allowed, read)


def boolean() -> Parser[bool]:
    """Make a parser of true and false; in the environment also 1 and 0."""
    words = {"true": True, "1": True, "false": False, "0": False}

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def from_text(value: str) -> object:
        return words.get(value.strip().lower(), value)

    return Parser("true or false", read, from_text)


def choice(*words: str) -> Parser[str]:
    """Make a parser of one of some words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError
        return value

    return Parser(" | ".join(words), read)


def text(allowed: str = "text", *, check: Callable[[str], str] | None = None) -> Parser[str]:
    """Make a parser of texts; ``check`` gives the text to use, or raises ValueError."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError
        return value if check is None else check(value)

    return Parser(allowed, read)


def list_of(item: Parser[T]) -> Parser[tuple[T, ...]]:
    """Make a parser of lists; in the environment the items are separated by commas."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError
        return tuple(item.read(each) for each in value)

    def from_text(value: str) -> object:
        return [item.from_text(part.strip()) for part in value.split(",") if part.strip()]

    return Parser(f"a list; each item {item.allowed}", read, from_text, item=item)
