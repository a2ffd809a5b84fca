"""WebSocket frames (RFC 6455, section 5.2), made and read by hand: no more than the load needs.

Frames are whole messages: neither the servers that are measured nor the load split them.
"""

from __future__ import annotations

__all__ = ["CLOSE", "PING", "PONG", "TEXT", "masked", "plain", "split"]

TEXT = 1
CLOSE = 8
PING = 9
PONG = 10

_FINAL = 0x80
_MASKED = 0x80
_KEY = b"\x1f\x8a\x3c\xe7"


def _header(opcode: int, length: int, mask: int) -> bytes:
    if length < 126:
        return bytes((_FINAL | opcode, mask | length))
    if length < 1 << 16:
        return bytes((_FINAL | opcode, mask | 126)) + length.to_bytes(2, "big")
    return bytes((_FINAL | opcode, mask | 127)) + length.to_bytes(8, "big")


def masked(payload: bytes, opcode: int = TEXT) -> bytes:
    """Make a client's frame."""
    size = len(payload)
    key = (_KEY * (size // 4 + 1))[:size]
    hidden = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return _header(opcode, size, _MASKED) + _KEY + hidden.to_bytes(size, "big")


def plain(payload: bytes, opcode: int = TEXT) -> bytes:
    """Make a server's frame."""
    return _header(opcode, len(payload), 0) + payload


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Take a server's frames apart: opcodes with payloads, and the beginning of one more."""
    found = []
    at = 0
    while len(data) - at >= 2:
        length = data[at + 1]
        start = at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            if len(data) < start + size:
                break
            length = int.from_bytes(data[start : start + size], "big")
            start += size
        if start + length > len(data):
            break
        found.append((data[at] & 15, data[start : start + length]))
        at = start + length
    return found, data[at:]
