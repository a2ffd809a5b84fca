"""WebSocket frames as another implementation has them: the package websockets."""

from __future__ import annotations

from typing import Any

from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader


def server_frame(payload: bytes) -> bytes:
    """Make a text frame without a mask."""
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


def client_frame_read(frame: bytes) -> bytes:
    """Read a text frame with a mask."""
    reader = StreamReader()
    reader.feed_data(frame)
    reader.feed_eof()
    read: list[Any] = []

    def reading() -> Any:
        read.append((yield from Frame.parse(reader.read_exact, mask=True)))

    assert list(reading()) == []  # It waits for no more.
    [found] = read
    assert found.opcode is Opcode.TEXT
    return bytes(found.data)
