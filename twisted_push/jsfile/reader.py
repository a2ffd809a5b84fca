"""Reads the objects that a JavaScript file assigns to names, without running it.

``settings = {…};``, ``module.exports = {…}`` and a lone ``{…}`` are read: objects, arrays, strings,
numbers, true, false, null, undefined, and strings joined by ``+``, with comments, trailing commas
and keys without quotes. Any other expression is passed over, and its place is noted. What can be no
JavaScript is refused with its place; no message shows anything of the text.

A recursive descent with one token of lookahead: each token is read once.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import define, field, frozen

from twisted_push.errors import PushError
from twisted_push.jsfile.tokens import NO_TOKEN, Token, number_of, string_of, tokens_of

__all__ = ["MAX_DEPTH", "MAX_SIZE", "JsFile", "JsFileError", "JsObject", "Path", "Place", "read"]

MAX_SIZE = 2**20
"""Longest text, in characters."""

MAX_DEPTH = 64
"""Deepest nesting of brackets."""

Path = tuple[str, ...]
"""The names on the way to a value; the index of an array's item counts as a name."""


@frozen
class Place:
    """Where something stands in the text; both numbers begin with 1."""

    line: int
    column: int

    def __str__(self) -> str:
        """Give ``line 3, column 5``."""
        return f"line {self.line}, column {self.column}"


@frozen
class JsFileError(PushError):
    """A text that cannot be read."""

    place: Place
    message: str

    def __str__(self) -> str:
        """Give place and message."""
        return f"{self.place}: {self.message}"


@frozen
class JsObject:
    """An object literal: its values as Python has them, and where each of them stands.

    ``unread`` has the places of those that cannot be known without running the file; ``values``
    lacks them.
    """

    values: Mapping[str, Any] = field(repr=False)
    places: Mapping[Path, Place]
    unread: Mapping[Path, Place]


@frozen
class JsFile:
    """The objects by the names they are assigned to, and where statements were passed over."""

    objects: Mapping[Path, JsObject]
    unread: tuple[Place, ...]


def read(text: str) -> JsFile:
    """Read a file. Raises `JsFileError`."""
    if len(text) > MAX_SIZE:
        raise JsFileError(Place(1, 1), f"the file is larger than {MAX_SIZE // 2**20} MiB")
    return _Reader(text).file()


_CLOSING = {"(": ")", "[": "]", "{": "}"}
_DECLARING = frozenset({"var", "let", "const", "export", "default"})
_CONSTANTS = {"true": True, "false": False, "null": None, "undefined": None}
_NOT_READ: Any = object()
"""Stands for a value that cannot be known without running the file."""


@define
class _Reader:
    """Reads one file. ``_token`` is the one that comes next."""

    _text: str
    _tokens: Iterator[Token] = field(init=False)
    _token: Token = field(init=False)
    _previous: Token = field(init=False)
    _objects: dict[Path, JsObject] = field(factory=dict)
    _skipped: list[Place] = field(factory=list)
    _places: dict[Path, Place] = field(factory=dict)
    _unread: dict[Path, Place] = field(factory=dict)
    _lines: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Take the first token."""
        self._lines = [0, *(m.end() for m in re.finditer(r"\r\n|\r|\n", self._text))]
        self._tokens = tokens_of(self._text)
        self._previous = self._token = next(self._tokens)
        self._refuse_bad()

    # Tokens.

    def _place(self, token: Token) -> Place:
        line = bisect_right(self._lines, token.start)
        return Place(line, token.start - self._lines[line - 1] + 1)

    def _fault(self, message: str, token: Token | None = None) -> JsFileError:
        return JsFileError(self._place(token or self._token), message)

    def _refuse_bad(self) -> None:
        if self._token.kind == "bad":
            text = self._token.text
            known = NO_TOKEN.get(text) or NO_TOKEN.get(text[0])
            raise self._fault(known or "this character cannot stand here")

    def _next(self) -> Token:
        """Take a token."""
        self._previous, self._token = self._token, next(self._tokens)
        self._refuse_bad()
        return self._previous

    def _at(self, *texts: str) -> bool:
        return self._token.kind == "punct" and self._token.text in texts

    def _take(self, *texts: str) -> bool:
        """Take the token if it is one of these."""
        found = self._at(*texts)
        if found:
            self._next()
        return found

    # Statements.

    def file(self) -> JsFile:
        """Read all statements."""
        while self._token.kind != "end":
            self._statement()
        return JsFile(self._objects, tuple(self._skipped))

    def _statement(self) -> None:
        start = self._token
        if self._take(";", ","):
            return
        if start.kind == "text":  # Such as 'use strict'.
            self._skip_statement(start)
            return
        while self._token.kind == "name" and self._token.text in _DECLARING:
            self._next()
        first = self._token
        names, reference = self._targets()
        found = self._objects.get(reference) if reference else None
        if self._at("{") and (names or self._token is first) and not reference:
            found = self._root()
        if found is None or not self._at_statement_end():
            self._skipped.append(self._place(start))
            self._skip_statement(start)
        else:
            self._objects.update(dict.fromkeys(names or [()], found))

    def _targets(self) -> tuple[list[Path], Path]:
        """Read ``a.b = c =``; give these names, and the one behind if there is one."""
        names: list[Path] = []
        while self._token.kind == "name":
            name = [self._next().text]
            while self._take("."):
                name.append(self._next().text)
            if not self._take("="):
                return names, tuple(name)
            names.append(tuple(name))
        return names, ()

    def _root(self) -> JsObject:
        self._places, self._unread = {}, {}
        values = self._object((), 1)
        return JsObject(values, self._places, self._unread)

    def _at_statement_end(self) -> bool:
        return self._token.kind == "end" or self._token.on_new_line or self._at(";", ",")

    def _skip_statement(self, start: Token) -> None:
        """Skip to the end of the statement that begins with ``start``."""
        open_brackets: list[Token] = []
        while self._token.kind != "end":
            new = self._token is not start and self._token.on_new_line
            begins = self._token.kind in ("name", "text") and self._previous.may_end_a_value()
            if not open_brackets and (self._at(";", ",") or (new and begins)):
                return
            self._skip_token(open_brackets)
        self._check_closed(open_brackets)

    # Values.

    def _object(self, path: Path, depth: int) -> dict[str, object]:
        opening = self._open(depth)
        values: dict[str, object] = {}
        while not self._at("}"):
            self._property(path, depth, values)
            if not self._take(","):
                break
        self._close(opening)
        return values

    def _property(self, path: Path, depth: int, values: dict[str, object]) -> None:
        token = self._token
        key = token.text
        if token.kind == "text":
            key = self._text_of(token)
        elif token.kind not in ("name", "number") and not self._at("[", "...", "*"):
            raise self._fault("a key or } is missing here")
        here = (*path, key)
        self._places[here] = self._place(token)
        if token.kind != "punct":
            self._next()
            if self._take(":"):
                self._keep(self._value(here, depth), here, values)
                return
            if not self._at("(", ",", "}", "*") and self._token.kind != "name":
                raise self._fault("a colon is missing here")
        self._skip_value()
        self._keep(_NOT_READ, here, values)

    def _keep(self, value: object, path: Path, values: dict[str, object]) -> None:
        """Set a property; the last one of a name counts."""
        if value is _NOT_READ:
            self._unread[path] = self._places[path]
            values.pop(path[-1], None)
        else:
            self._unread.pop(path, None)
            values[path[-1]] = value

    def _array(self, path: Path, depth: int) -> list[object]:
        opening = self._open(depth)
        items: list[object] = []
        index = 0
        while not self._at("]"):
            here = (*path, str(index))
            self._places[here] = self._place(self._token)
            value = self._value(here, depth)
            if value is _NOT_READ:
                self._unread[here] = self._places[here]
            else:
                items.append(value)
            index += 1
            if not self._take(","):
                break
        self._close(opening)
        return items

    def _open(self, depth: int) -> Token:
        if depth > MAX_DEPTH:
            raise self._fault(f"brackets are nested deeper than {MAX_DEPTH} levels")
        return self._next()

    def _close(self, opening: Token) -> None:
        closing = _CLOSING[opening.text]
        if self._token.kind == "end":
            self._check_closed([opening])
        if not self._take(closing):
            raise self._fault(f"a comma or {closing} is missing here")

    def _value(self, path: Path, depth: int) -> object:
        """Read a value, with all of its expression; `_NOT_READ` if that would have to be run."""
        value = self._literal(path, depth)
        while isinstance(value, str) and self._take("+"):
            more = self._literal(path, depth)
            value = value + more if isinstance(more, str) else _NOT_READ
        if value is not _NOT_READ:
            if self._at(",", "}", "]") or self._token.kind == "end":
                return value
            if self._token.kind != "template" and (
                self._token.kind != "punct" or self._at("{", ":", ";", ")")
            ):
                raise self._fault("a comma or a closing bracket is missing here")
        self._skip_value()
        return _NOT_READ

    def _literal(self, path: Path, depth: int) -> object:
        """Read a literal; `_NOT_READ`, with nothing or a sign taken, if there is none."""
        token = self._token
        if token.kind == "end" or self._at(",", ";", ":", ")", "]", "}", "="):
            raise self._fault("a value is missing here")
        if self._at("{"):
            return self._object(path, depth + 1)
        if self._at("["):
            return self._array(path, depth + 1)
        if token.kind == "text" or (token.kind == "template" and "${" not in token.text):
            self._next()
            return self._text_of(token)
        if token.kind == "name" and token.text in _CONSTANTS:
            self._next()
            return _CONSTANTS[token.text]
        sign = -1 if self._at("-") else 1
        self._take("-", "+")
        number = number_of(self._token.text) if self._token.kind == "number" else None
        if number is None:
            return _NOT_READ
        self._next()
        return sign * number

    def _text_of(self, token: Token) -> str:
        try:
            return string_of(token.text)
        except ValueError:
            raise self._fault("this string has an escape that cannot be read", token) from None

    # What is passed over.

    def _skip_value(self) -> None:
        """Skip to the comma or the bracket behind an expression."""
        open_brackets: list[Token] = []
        while open_brackets or not self._at(",", "}", "]", ")"):
            if self._token.kind == "end":
                self._check_closed(open_brackets)
                return
            self._skip_token(open_brackets)

    def _skip_token(self, open_brackets: list[Token]) -> None:
        token = self._next()
        if token.kind != "punct":
            return
        if token.text in _CLOSING:
            open_brackets.append(token)
            if len(open_brackets) > MAX_DEPTH:
                raise self._fault(f"brackets are nested deeper than {MAX_DEPTH} levels", token)
        elif token.text in _CLOSING.values() and (
            not open_brackets or _CLOSING[open_brackets.pop().text] != token.text
        ):
            raise self._fault("this bracket closes none that is open", token)

    def _check_closed(self, open_brackets: list[Token]) -> None:
        if open_brackets:
            raise self._fault("this bracket is never closed", open_brackets[-1])
