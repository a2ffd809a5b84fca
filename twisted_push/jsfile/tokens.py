"""The tokens of JavaScript, and what numbers and strings stand for.

Lexical facts: ECMAScript 2023, chapter 12. Every expression here takes linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import frozen

__all__ = ["NO_TOKEN", "Token", "number_of", "string_of", "tokens_of"]

_TOKEN = re.compile(
    r"""
    (?P<space> (?: [\s\ufeff]++ | //[^\n\r\u2028\u2029]*+ | /\*(?:[^*]++|\*(?!/))*+\*/ )++ )
    | (?P<name> (?:[^\W\d]|\$) (?:\w|\$)*+ )
    | (?P<number> \.?[0-9] (?: [eE][+-] | [0-9A-Za-z_.] )*+ )
    | (?P<text> "(?: [^"\\\n\r]++ | \\(?:\r\n|[\s\S]) )*+"
              | '(?: [^'\\\n\r]++ | \\(?:\r\n|[\s\S]) )*+' )
    | (?P<template> `(?: [^`\\]++ | \\[\s\S] )*+` )
    | (?P<punct> \.\.\. | => | [=!]==? | \+\+ | -- | && | \|\| | \?\? | /(?![/*])=?
               | [-+*%&|^<>]=? | [!~?:;,.(){}\[\]=] )
    """,
    re.VERBOSE,
)
_REGEXP = re.compile(
    r"(?P<regexp>/(?:[^\\/\[\n\r]|\\[^\n\r]|\[(?:[^\]\\\n\r]|\\[^\n\r])*+\])++/\w*+)"
)
NO_TOKEN = {
    '"': "this string has no end on its line",
    "'": "this string has no end on its line",
    "`": "this template string has no end",
    "/*": "this comment has no end",
}
"""Why there is no token, by the first characters of what is there instead."""


@frozen
class Token:
    """A token: of a kind that a group above names, or ``end``, or ``bad`` for what is none."""

    kind: str
    text: str
    start: int
    on_new_line: bool

    def may_end_a_value(self) -> bool:
        """Tell whether an expression can be over with this token."""
        return self.kind != "punct" or self.text in (")", "]", "}")


def tokens_of(text: str) -> Iterator[Token]:
    """Give the tokens. The last one, given for ever, is ``end`` or ``bad``."""
    position, new_line, slash_divides = 0, True, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match and match[0] in ("/", "/=") and not slash_divides:
            match = _REGEXP.match(text, position)
        if match is None:
            break
        if match.lastgroup == "space":
            new_line = new_line or "\n" in match[0] or "\r" in match[0]
        else:
            token = Token(match.lastgroup or "", match[0], position, new_line)
            yield token
            new_line, slash_divides = False, token.may_end_a_value()
        position = match.end()
    kind = "bad" if position < len(text) else "end"
    last = Token(kind, text[position : position + 2], position, new_line)
    while True:
        yield last


# --- Values of tokens ----------------------------------------------------------------------

_DECIMAL = re.compile(r"(?:(?:0|[1-9][0-9]*)(\.[0-9]*)?|(\.[0-9]+))([eE][+-]?[0-9]+)?")
_LONGEST_NUMBER = 1000
_ESCAPE = re.compile(
    r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(0(?![0-9])|\r\n|[^0-9ux]))"
)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
_ESCAPED |= dict.fromkeys(("\n", "\r", "\r\n", "\u2028", "\u2029"), "")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def number_of(text: str) -> int | float | None:
    """Give a number literal's value; None for what is no plain one."""
    if len(text) > _LONGEST_NUMBER:
        return None
    if match := _DECIMAL.fullmatch(text):
        return int(text) if not any(match.groups()) else float(text)
    try:
        return int(text, 0) if text[:2].lower() in ("0x", "0o", "0b") else None
    except ValueError:
        return None


def string_of(literal: str) -> str:
    """Give the text of a string literal. Raises ValueError for an escape that is none."""
    parts = []
    position, end = 1, len(literal) - 1
    while (found := literal.find("\\", position, end)) >= 0:
        match = _ESCAPE.match(literal, found, end)
        if match is None:
            raise ValueError
        parts += [literal[position:found], _escaped(match)]
        position = match.end()
    text = "".join((*parts, literal[position:end]))
    if _SURROGATE.search(text):  # Two escapes that are one character.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return text


def _escaped(match: re.Match[str]) -> str:
    """Give what an escape stands for. Raises ValueError for a number that is no character."""
    if match[4] is not None:
        return _ESCAPED.get(match[4], match[4])
    return chr(int(match[1] or match[2] or match[3], 16))
