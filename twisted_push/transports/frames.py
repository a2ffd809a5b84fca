"""WebSocket frames of a server: whole and unmasked (RFC 6455, section 5.2)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

__all__ = ["SMALL", "binary_frame", "deflated_text_frame", "frame_payloads", "text_frame"]

SMALL = 200
"""Bytes below which a message is not worth compressing."""

_TEXT, _BINARY = 0x81, 0x82
_DEFLATED = 0xC1
_SHORT, _MIDDLE, _LONG = (struct.Struct(head).pack for head in ("!BB", "!BBH", "!BBQ"))
_FLUSHED = b"\x00\x00\xff\xff"


def text_frame(payload: bytes) -> bytes:
    """Give a whole, unmasked text frame."""
    return _frame(_TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    """Give a whole, unmasked binary frame."""
    return _frame(_BINARY, payload)


def deflated_text_frame(payload: bytes) -> bytes:
    """Give a text frame for clients with permessage-deflate (RFC 7692), compressed if that pays.

    It refers to nothing before it, so that it serves all of them.
    """
    if len(payload) < SMALL:
        return text_frame(payload)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_FLUSHED)
    return _frame(_DEFLATED, packed) if len(packed) < len(payload) else text_frame(payload)


def frame_payloads(frames: bytes) -> Iterator[bytes]:
    """Give what is in whole, unmasked frames."""
    start = 0
    while start < len(frames):
        length, start = frames[start + 1], start + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, start = int.from_bytes(frames[start : start + size]), start + size
        yield frames[start : start + length]
        start += length


def _frame(opcode: int, payload: bytes) -> bytes:
    """Give a whole, unmasked frame (RFC 6455, section 5.2)."""
    length = len(payload)
    if length < 126:
        return _SHORT(opcode, length) + payload
    if length < 65536:
        return _MIDDLE(opcode, 126, length) + payload
    return _LONG(opcode, 127, length) + payload
