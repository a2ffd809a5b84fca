"""Strict JSON at the door: typed envelopes, payloads kept as the text that was sent.

msgspec decodes an envelope into a typed structure and leaves the fields of type `msgspec.Raw`
as bytes, checked for grammar but not interpreted. So a payload keeps its key order, its
``1.10``, its big integers and its escapes. What the grammar refuses is refused here: NaN,
Infinity, lone surrogates, bytes that are not UTF-8, and nesting that would break a parser
further down the road.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import accumulate
from typing import Any, TypeVar

import msgspec
from attrs import frozen

from twisted_push.errors import PushError

__all__ = ["MAX_DEPTH", "JsonError", "Raw", "check_keys", "decoder", "encode", "one_line"]

MAX_DEPTH = 128
"""Deepest nesting of arrays and objects that is let in."""

Raw = msgspec.Raw
_T = TypeVar("_T")
# Possessive, and matching to the end where a string has none: no backtracking, in linear time.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+\\?"?', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_LF, _CR = b"\n\r"  # A number is found several times faster than a text of one byte.
_DEEPER = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_encoder = msgspec.json.Encoder()
encode: Callable[[object], bytes] = _encoder.encode


@frozen
class JsonError(PushError):
    """Not acceptable JSON. ``message`` has the position or the path and no payload.

    ``syntax`` tells bad grammar from good JSON of the wrong shape.
    """

    message: str
    syntax: bool

    def __str__(self) -> str:
        """Give the message."""
        return self.message


def one_line(text: bytes) -> bytes:
    """Give JSON text without line breaks, which can only stand between its tokens.

    Frames of the client protocol are separated by line breaks.
    """
    if _LF in text or _CR in text:
        return text.replace(b"\r", b" ").replace(b"\n", b" ")
    return text


def check_keys(text: bytes) -> None:
    """Raise JsonError if an object in good JSON has a key twice.

    Such a text says two things, and which of them counts depends on who reads it.
    """

    def check(pairs: list[tuple[str, object]]) -> None:
        if len({key for key, _ in pairs}) < len(pairs):
            raise JsonError("JSON has a key twice in one object", syntax=True)

    json.loads(text, object_pairs_hook=check, parse_int=str, parse_float=str)


def _check_depth(text: bytes) -> None:
    """Raise JsonError if ``text`` nests deeper than `MAX_DEPTH`.

    Counting brackets settles nearly every message; only one with very many is scanned.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", text).translate(None, _NO_BRACKETS)
    if max(accumulate(map(_DEEPER.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise JsonError(f"JSON is nested deeper than {MAX_DEPTH} levels", syntax=True)


def decoder(
    shape: type[_T] | Any, *, strict: bool = True, part: bool = False
) -> Callable[[bytes], _T]:
    """Make a function that decodes JSON text into ``shape`` (a type known to msgspec).

    The function raises `JsonError` for text that is no JSON or does not fit the shape.
    With ``strict=False`` numbers in strings and the like are accepted, as PHP sends them. With
    ``part`` it is for parts (`Raw`) of what such a function has decoded.
    """
    decode = msgspec.json.Decoder(shape, strict=strict).decode

    def decode_text(text: bytes) -> _T:
        try:
            if not part:
                _check_depth(text)
                text.decode("utf-8")
            return decode(text)  # type: ignore[no-any-return]
        except msgspec.ValidationError as error:
            raise JsonError(str(error), syntax=False) from None
        except UnicodeDecodeError as error:
            message = f"JSON is malformed: invalid UTF-8 (byte {error.start})"
            raise JsonError(message, syntax=True) from None
        except (msgspec.DecodeError, RecursionError, ValueError) as error:
            raise JsonError(str(error), syntax=True) from None

    return decode_text
