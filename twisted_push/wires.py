"""The descriptors that take a ready frame as it is.

What a fan-out to thousands costs beside its system calls is what it looks at: between two of them
an object of a client has left the processor's caches. So it looks at one byte for each client, and
writes to the descriptor (measured: 1.12 to 1.15 times a loop of send(2) in C; 1.25 to 1.30 through
the session, its transport and the socket).

A descriptor is numbered anew as soon as it is closed: it must be shut here before.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted_push.interfaces import Buffer, ICodec

__all__ = ["MAX_CODECS", "NO_DESCRIPTOR", "Wires", "rest_of"]

MAX_CODECS = 15
"""Codecs whose clients are written to in this way; the others' take the way of all else."""

NO_DESCRIPTOR = -1
"""Stands for that of a transport that has none to offer."""


def rest_of(frame: Buffer, sent: int) -> Buffer:
    """Give what is left of a frame when so many bytes were sent, without a copy of it.

    A view keeps all of the frame alive: if most of it was sent, the rest is copied.
    """
    rest = memoryview(frame)[sent:]
    return rest if 2 * len(rest) > len(frame) else bytes(rest)


class Wires:
    """Which codec's frames may be written to a descriptor now, with nothing in between.

    ``numbers`` has a byte for each descriptor: the number of the codec, or 0 for none. There is
    one byte more than descriptors, for `NO_DESCRIPTOR`; it stays 0. ``write`` is `os.write`,
    or stands for it.
    """

    def __init__(self, write: Callable[[int, bytes], int]) -> None:
        self.write = write
        self.numbers = bytearray(1)
        self._codecs: dict[ICodec, int] = {}

    def number(self, codec: ICodec) -> int:
        """Give the number of a codec, from 1 to `MAX_CODECS`; 0 if nothing was opened for it."""
        return self._codecs.get(codec, 0)

    def open(self, descriptor: int, codec: ICodec) -> None:
        """Let this codec's frames be written there: nothing waits to be sent before them."""
        if descriptor == NO_DESCRIPTOR:
            return
        if codec not in self._codecs and len(self._codecs) < MAX_CODECS:
            self._codecs[codec] = len(self._codecs) + 1
        self._reach(descriptor)
        self.numbers[descriptor] = self.number(codec)

    def shut(self, descriptor: int) -> None:
        """Let nothing be written there, from now on."""
        self._reach(descriptor)
        self.numbers[descriptor] = 0

    def _reach(self, descriptor: int) -> None:
        missing = descriptor + 2 - len(self.numbers)
        if missing > 0:
            self.numbers.extend(bytes(missing))
